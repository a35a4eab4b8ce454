"""Copies: trees before what lists them, referrers with what they refer to, and every byte as it was."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Seeded, need
from distribution import Distribution
from images import (
    DOCKER_LAYER,
    Fake,
    Image,
    ask,
    attestation,
    config,
    descriptor,
    fill,
    image,
    index,
    layer,
    pack,
)

import regnb
from regnb.change.copy import plan_copy
from regnb.change.plan import Plan
from regnb.crawl.reader import Reader
from regnb.crawl.selection import What
from regnb.errors import InvalidArgument, InvalidReference, NotFound, Refused, RegnbError
from regnb.local import demo, embedded
from regnb.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, SCHEMA1
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.transport import Transport

BASE = layer("base", 500)
ONE = image([BASE, layer(1, 100)], about=config())
ARM = image([BASE, layer(2, 100)], about=config("arm64", variant="v8"))
TWO = image([layer("two", 50)])
NOTE = attestation(ONE)
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64"), (NOTE, "unknown/unknown")])
SPDX = "application/spdx+json"


def refers(subject: Image, about: object, artifact_type: str = SPDX, *, docker: bool = False) -> Image:
    """An artifact that refers to another manifest."""
    more = {} if docker else {"artifactType": artifact_type, "subject": descriptor(subject.media_type, subject.data)}
    return image([pack([about])], about=b"{}", layer_type=artifact_type, **more)


SBOM = refers(ONE, "sbom")
SIGNED_SBOM = refers(SBOM, "signature", "application/vnd.dev.cosign.simplesigning.v1+json")
ARM_SBOM = refers(ARM, "arm")
COSIGN = refers(ONE, "sig", "application/vnd.dev.cosign.simplesigning.v1+json", docker=True)


def tag_of(digest: str, end: str = "") -> str:
    return digest.replace(":", "-") + end


class Registries(NamedTuple):
    """docker-registry, which does not list referrers, and the embedded one, which does."""

    real: str
    embedded: str


@pytest.fixture
def both(real: Distribution, tmp_path: Path) -> Iterator[Registries]:
    with embedded.running(tmp_path / "embedded") as other:
        yield Registries(real.url, other.url)


def plan(
    url: str, what: What, to: str, *allow: str, source: str = "", platform: str | None = None, referrers: bool = True,
    cache: Cache | None = None,
) -> Plan:  # fmt: skip
    """Plan, and see that nothing was written on either side."""

    async def work(client: Client) -> Plan:
        async with Client(Transport(source or url)) as other:
            origin = Reader(other, cache or Cache()) if source else None
            try:
                return await plan_copy(
                    Reader(client, cache or Cache()), what, to, source=origin, platform=platform, referrers=referrers,
                    allow=allow,
                )  # fmt: skip
            finally:
                sent = [*client.transport.exchanges, *other.transport.exchanges]
                assert {exchange.method for exchange in sent} <= {"GET", "HEAD"}

    return ask(url, work)


def apply(made: Plan) -> None:
    """Apply through the user's handle; every row must be done."""
    with regnb.connect(made.url, cache=False) as registry, regnb.connect(made.source or made.url, cache=False) as other:
        receipt = registry.apply(made, confirm=made.code, source=other if made.source else None, progress=False)
    assert receipt.status == "done", receipt.to_frame()


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


def rows(made: Plan) -> list[tuple[str, str, str]]:
    return [(step.action, step.tag, step.after) for step in made.steps]


def raw(url: str, repository: str, target: str) -> bytes:
    return ask(url, lambda client: client.manifest(repository, target)).data


def skopeo(url: str, repository: str, tag: str) -> bytes:
    host = url.partition("://")[2]
    return subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/{repository}:{tag}"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip


# Within a registry, and from another


def test_an_index_comes_after_its_children(both: Registries) -> None:
    """Children are put first, each with its blobs; the tag waits for all of them and has no blobs of its own."""
    fill(both.real, ("a", "1", MULTI), ("a", "2", ONE))
    made = plan(both.real, "a:1", "b")
    assert rows(made) == [
        ("put", "", ONE.digest), ("put", "", ARM.digest), ("put", "", NOTE.digest), ("tag", "1", MULTI.digest),
    ]  # fmt: skip
    assert made.steps[3].needs == (0, 1, 2)
    assert made.steps[3].blobs == ()
    assert [blob.digest for blob in made.steps[0].blobs] == [Digest.of(blob) for blob in ONE.blobs]
    assert [blob.size for blob in made.steps[0].blobs] == [len(blob) for blob in ONE.blobs]
    assert [step.size for step in made.steps] == [each.size for each in (ONE, ARM, NOTE, MULTI)]
    assert {(step.repository, step.source, step.new) for step in made.steps} == {("b", "a", True)}
    assert made.steps[1].reason == "child of a:1 (linux/arm64)"
    assert made.steps[3].reason == "copy of a:1"
    assert made.moved == 0
    assert not made.source


def test_what_another_registry_sends(both: Registries) -> None:
    """Each blob counts once for each repository that it goes to."""
    fill(both.real, ("a", "1", MULTI), ("b", "1", ONE))
    blobs = {blob for each in (ONE, ARM, NOTE) for blob in each.blobs}
    made = plan(both.embedded, "a", "x/{repository}", source=both.real)
    assert made.source == both.real
    assert made.moved == sum(map(len, blobs))
    assert plan(both.embedded, "a", "a", source=both.real).moved == made.moved, "the same name, but elsewhere"
    more = plan(both.embedded, ["a:1", "b:1"], "x/{repository}", source=both.real)
    assert more.moved == made.moved + sum(map(len, ONE.blobs))


def test_several_tags_of_one_image(both: Registries) -> None:
    """Blobs come with the first tag only, and the others wait for it."""
    fill(both.real, ("a", "1", ONE), ("a", "2", ONE), ("a", "3", TWO))
    made = plan(both.real, "a", "b")
    assert [(step.tag, len(step.blobs), step.needs) for step in made.steps] == [
        ("1", 3, ()), ("2", 0, (0,)), ("3", 2, ()),
    ]  # fmt: skip


def test_a_child_with_a_tag_of_its_own(both: Registries) -> None:
    """One row puts it, under its tag, and the index waits for that row."""
    fill(both.real, ("a", "amd", ONE), ("a", "multi", MULTI))
    made = plan(both.real, "a", "b", referrers=False)
    assert rows(made)[0] == ("tag", "amd", ONE.digest)
    assert made.steps[-1].needs == (0, 1, 2)
    assert len(made.steps) == 4


def test_what_is_there_already(both: Registries) -> None:
    """A second copy has nothing to do; a child that is missing beneath an index that is there is put back."""
    fill(both.real, ("a", "1", MULTI))
    apply(plan(both.real, "a", "b"))
    made = plan(both.real, "a", "b")
    assert [(step.action, step.tag, step.reason) for step in made.steps] == [
        ("keep", "1", "kept: this tag already points to the digest")
    ]
    ask(both.real, lambda client: client.delete_manifest("b", ARM.digest))
    made = plan(both.real, "a", "b")
    assert rows(made) == [("put", "", ARM.digest), ("keep", "1", MULTI.digest)]
    apply(made)
    assert raw(both.real, "b", ARM.digest) == ARM.data
    made = plan(both.real, "a:1", "b:2")
    assert [(step.action, step.new, step.blobs) for step in made.steps] == [("tag", False, ())]


def test_a_copy_within_a_repository_is_a_retag(both: Registries) -> None:
    """What stands behind it is there, and so are its referrers: one row."""
    fill(both.real, ("a", "1", MULTI), ("a", tag_of(MULTI.digest, ".sig"), COSIGN))
    made = plan(both.real, "a:1", "a:2")
    assert rows(made) == [("tag", "2", MULTI.digest)]
    assert made.steps[0].blobs == ()
    assert rows(plan(both.real, "a", "a:{tag}-x")) == [("tag", "1-x", MULTI.digest)]


def test_by_digest_alone(both: Registries) -> None:
    """A manifest without a tag is put under its digest, or gets the tag that is named."""
    fill(both.real, ("a", "1", MULTI))
    made = plan(both.real, f"a@{ARM.digest}", "b")
    assert rows(made) == [("put", "", ARM.digest)]
    apply(made)
    assert rows(plan(both.real, f"a@{ARM.digest}", "b")) == [("keep", "", ARM.digest)]
    assert rows(plan(both.real, f"a@{ARM.digest}", "b:arm")) == [("tag", "arm", ARM.digest)]


def test_the_names_at_the_destination(both: Registries) -> None:
    """A repository, a tag, or a pattern of both; this registry's host may stand before it."""
    fill(both.real, ("a/b", "1", ONE), ("c", "1", TWO))
    host = both.real.partition("://")[2]
    for to, expected in (
        ("x", [("x", "1")]), ("x:2", [("x", "2")]), ("m/{repository}", [("m/a/b", "1")]), (f"{host}/x", [("x", "1")]),
        ("m/{repository}:{tag}-y", [("m/a/b", "1-y")]),
    ):  # fmt: skip
        assert [(step.repository, step.tag) for step in plan(both.real, "a/b", to).steps] == expected
    many = plan(both.real, ["a/b", "c:1"], "m/{repository}:{tag}")
    assert [(step.repository, step.tag) for step in many.steps] == [("m/a/b", "1"), ("m/c", "1")]


@pytest.mark.parametrize(
    ("what", "to", "error", "text"),
    [
        ("a:1", "a", InvalidArgument, "onto itself"),
        ("a:1", "a:1", InvalidArgument, "onto itself"),
        ("a", "{repository}:{tag}", InvalidArgument, "onto itself"),
        (f"a@{ONE.digest}", "a", InvalidArgument, "onto itself"),
        (f"a@{ONE.digest}", "b:{tag}", InvalidArgument, "no tag"),
        ("a", "b:1", InvalidArgument, "2 tags"),
        (["a:1", "c:1"], "b", InvalidArgument, "both be copied to b:1"),
        ("a:1", "b:", InvalidArgument, "colon"),
        ("a:1", "B", InvalidReference, "repository name"),
        ("a:1", "m/{name}", InvalidReference, "repository name"),
        ("a:1", "b:-x", InvalidReference, "not a tag"),
        ("a:none", "b", NotFound, "a:none"),
        ("none", "b", NotFound, "none"),
        (f"a@{Digest.of(b'none')}", "b", NotFound, "has no manifest"),
    ],
)
def test_what_makes_no_sense(real: Distribution, what: What, to: str, error: type[RegnbError], text: str) -> None:
    """Nothing there, a name that is not lawful, or one for two things: an error that says which."""
    fill(real.url, ("a", "1", ONE), ("a", "2", TWO), ("c", "1", TWO))
    with pytest.raises(error, match=text):
        plan(real.url, what, to)


def test_a_tag_that_points_elsewhere_is_not_moved_unasked(both: Registries) -> None:
    """What is at the destination under that name stays, unless that is allowed; then the effects say what goes."""
    fill(both.real, ("a", "1", ONE), ("b", "1", TWO))
    with pytest.raises(Refused, match="b:1") as caught:
        plan(both.real, "a", "b")
    assert "--allow overwrite" in caught.value.hint
    made = plan(both.real, "a", "b", "overwrite")
    assert [(step.before, step.after) for step in made.steps] == [(TWO.digest, ONE.digest)]
    assert [(effect.effect, effect.reference) for effect in made.effects] == [("tag", "1")]
    apply(made)
    assert raw(both.real, "b", "1") == ONE.data


def test_a_child_that_is_missing_is_an_error(both: Registries) -> None:
    """It is named, even where the cache still has its bytes."""
    fill(both.real, ("a", "1", MULTI))
    cache = Cache()
    plan(both.real, "a", "b", cache=cache)
    ask(both.real, lambda client: client.delete_manifest("a", ARM.digest))
    with pytest.raises(NotFound, match=ARM.digest):
        plan(both.real, "a", "b", cache=cache)


def test_a_dangling_tag_is_an_error(seeded: Seeded) -> None:
    """The tag that points at nothing is named, and the others can be copied."""
    with pytest.raises(NotFound, match=r"broken/dangling:1\.0"):
        plan(seeded.url, "broken/dangling", "x")
    assert plan(seeded.url, "broken/dangling:1.1", "x").changes == 1


def test_a_foreign_layer_is_left_where_it_is(both: Registries) -> None:
    """Its bytes are elsewhere by design, so they are neither mounted nor counted."""
    about = config()
    away = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"w", urls=["https://x.example/w"])
    document = {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, about),
        "layers": [away, descriptor(DOCKER_LAYER, BASE)],
    }  # fmt: skip
    fill(both.embedded, ("a", "1", Image(pack(document), OCI_MANIFEST, (about, BASE))))
    made = plan(both.embedded, "a", "b")
    assert [blob.digest for blob in made.steps[0].blobs] == [Digest.of(about), Digest.of(BASE)]
    apply(made)


def test_an_index_that_lists_blobs(both: Registries) -> None:
    """A build cache lists layers in an index: they come with it."""
    document = {
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            descriptor(DOCKER_LAYER, BASE), descriptor("application/vnd.buildkit.cacheconfig.v0", b"{}"),
        ],
    }  # fmt: skip
    fill(both.real, ("a", "cache", Image(pack(document), OCI_INDEX, (BASE, b"{}"))))
    made = plan(both.real, "a", "b")
    assert [(step.action, len(step.blobs)) for step in made.steps] == [("tag", 2)]
    apply(made)
    assert raw(both.real, "b", "cache") == pack(document)


def test_schema_1_is_refused() -> None:
    """As a tag's manifest, and as a child of an index."""
    old = Image(b'{"schemaVersion":1,"fsLayers":[]}', SCHEMA1)
    with Fake() as fake:
        fake.repository("a", {"1": old, "2": index([(old, "linux/amd64")])})
        for what in ("a:1", "a:2"):
            with pytest.raises(Refused, match="schema 1"):
                plan(fake.url, what, "b")


# One platform


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm64/v8"])
def test_one_platform_of_an_index(both: Registries, platform: str) -> None:
    """The tag at the destination is that image's; nothing else of the index is copied."""
    fill(both.real, ("a", "1", MULTI), ("a", tag_of(MULTI.digest, ".sig"), COSIGN), ("a", tag_of(ARM.digest), TWO))
    made = plan(both.real, "a", "b", platform=platform)
    assert rows(made) == [("tag", "1", ARM.digest), ("tag", tag_of(ARM.digest), TWO.digest)]
    assert made.steps[0].reason == f"copy of a:1 ({platform})"
    assert any(platform in note for note in made.notes)
    apply(made)
    assert raw(both.real, "b", "1") == ARM.data


def test_platforms_that_only_the_configs_tell(both: Registries) -> None:
    """Where the index does not say, the images' configs do; an image alone is copied if it is for that platform."""
    fill(both.real, ("a", "1", index([(ONE, ""), (ARM, ""), (COSIGN, "")])), ("a", "2", ARM))
    assert rows(plan(both.real, "a:1", "b", platform="linux/arm64"))[0] == ("tag", "1", ARM.digest)
    assert rows(plan(both.real, "a:2", "b", platform="linux/arm64")) == [("tag", "2", ARM.digest)]


def test_variants_go_without_saying() -> None:
    """A plain arm is arm/v7, arm64 is arm64/v8; another variant is another platform."""
    six, seven = (image([layer(n, 9)], about=config("arm", variant=f"v{n}")) for n in (6, 7))
    document = json.loads(index([(six, "linux/arm"), (seven, "linux/arm")]).data)
    for entry, variant in zip(document["manifests"], ("v6", "v7"), strict=True):
        entry["platform"]["variant"] = variant
    with Fake() as fake:
        fake.repository("a", {"1": Image(pack(document), OCI_INDEX)})
        for child in (six, seven):
            fake.manifest("a", child.digest, child)
        fake.json("/v2/b/tags/list", {"tags": []})
        for platform, expected in (("linux/arm/v7", seven), ("linux/arm", seven), ("linux/arm/v6", six)):
            made = plan(fake.url, "a", "b", platform=platform)
            assert made.steps[0].after == expected.digest


@pytest.mark.parametrize(
    ("what", "platform", "error", "text"),
    [
        ("a:1", "linux/s390x", NotFound, "linux/amd64, linux/arm64"),
        ("a:1", "unknown/unknown", NotFound, "linux/amd64"),
        ("a:2", "linux/arm64", NotFound, "linux/amd64"),
        ("a:3", "linux/arm64", NotFound, "no image with a known platform"),
        ("a:1", "arm64", InvalidArgument, "not a platform"),
        ("a:1", "linux//v8", InvalidArgument, "not a platform"),
    ],
)
def test_a_platform_that_is_not_there(
    real: Distribution, what: str, platform: str, error: type[RegnbError], text: str
) -> None:
    """The error names the platforms that there are; an attestation is none of them."""
    fill(real.url, ("a", "1", MULTI), ("a", "2", ONE), ("a", "3", COSIGN))
    with pytest.raises(error, match=text):
        plan(real.url, what, "b", platform=platform)


def several(*platforms: dict[str, object]) -> tuple[Image, list[Image]]:
    """An index of images for these platforms."""
    images = [image([layer(f"platform {number}", 9)]) for number in range(len(platforms))]
    document = json.loads(index([(each, "linux/amd64") for each in images]).data)
    for entry, about in zip(document["manifests"], platforms, strict=True):
        entry["platform"] = {"architecture": "amd64", **about}
    return Image(pack(document), OCI_INDEX), images


BUILDS = tuple({"os": "windows", "os.version": f"10.0.{build}"} for build in ("17763.1", "17763.20", "20348.1"))
NYDUS = ({"os": "linux", "os.features": ["nydus.remoteimage.v1"]}, {"os": "linux", "os.features": None})


@pytest.mark.parametrize(
    ("platforms", "wanted", "chosen"),
    [
        (BUILDS, "windows/amd64:10.0.20348", 2),
        (BUILDS, "windows/amd64:10.0.17763.20", 1),
        (BUILDS[1:], "windows/amd64:10.0.17763", 0),
        (NYDUS, "linux/amd64", 1),
        (NYDUS, "linux/amd64+nydus.remoteimage.v1", 0),
        (NYDUS[:1], "linux/amd64", 0),
    ],
)
def test_versions_and_features_choose(
    both: Registries, platforms: tuple[dict[str, object], ...], wanted: str, chosen: int
) -> None:
    """Of several images for one platform its version or its features choose; one without features is the usual one."""
    whole, images = several(*platforms)
    fill(both.real, *(("a", f"x{number}", each) for number, each in enumerate(images)), ("a", "1", whole))
    assert rows(plan(both.real, "a:1", "b", platform=wanted)) == [("tag", "1", images[chosen].digest)]


@pytest.mark.parametrize(
    ("platforms", "wanted", "text"),
    [
        (
            BUILDS,
            "windows/amd64",
            r"3 images for windows/amd64: .*:10\.0\.17763\.1 \(.*:10\.0\.20348\.1.*; name one of them",
        ),
        (BUILDS, "windows/amd64:10.0.17763", r"2 images .*:10\.0\.17763\.1 .*:10\.0\.17763\.20"),
        (BUILDS[:1] * 2, "windows/amd64", r"2 images .*; copy one by its digest: a@sha256:"),
    ],
)
def test_two_images_for_one_platform(
    both: Registries, platforms: tuple[dict[str, object], ...], wanted: str, text: str
) -> None:
    """Where several images fit, none is taken: the error names them, and how to choose."""
    whole, images = several(*platforms)
    fill(both.real, *(("a", f"x{number}", each) for number, each in enumerate(images)), ("a", "1", whole))
    with pytest.raises(Refused, match=text):
        plan(both.real, "a:1", "b", platform=wanted)


def test_a_build_that_is_not_there(both: Registries) -> None:
    """A version that only begins with the same digits is another one; the error names those that there are."""
    whole, images = several(*BUILDS)
    fill(both.real, *(("a", f"x{number}", each) for number, each in enumerate(images)), ("a", "1", whole))
    with pytest.raises(NotFound, match=r"it has windows/amd64:10\.0\.17763\.1, windows"):
        plan(both.real, "a:1", "b", platform="windows/amd64:10.0.177")


# Referrers


def test_referrers_by_tag_come_along(both: Registries) -> None:
    """Tags of cosign and fallback tags keep their names, and what refers to a child or to a referrer comes, too."""
    listing = index([(SBOM, "")])
    fill(
        both.real, ("a", "1", MULTI), ("a", tag_of(ONE.digest, ".sig"), COSIGN), ("a", tag_of(ONE.digest), listing),
        ("a", tag_of(SBOM.digest, ".att"), SIGNED_SBOM), ("a", tag_of(TWO.digest, ".sig"), TWO),
    )  # fmt: skip
    made = plan(both.real, "a:1", "b:2")
    found = rows(made)
    assert {row for row in found if row[0] == "tag"} == {
        ("tag", "2", MULTI.digest), ("tag", tag_of(ONE.digest, ".sig"), COSIGN.digest),
        ("tag", tag_of(ONE.digest), listing.digest), ("tag", tag_of(SBOM.digest, ".att"), SIGNED_SBOM.digest),
    }  # fmt: skip
    assert ("put", "", SBOM.digest) in found
    assert {step.reason for step in made.steps if step.tag.endswith((".sig", ".att"))} == {
        "signature of a:1 (linux/amd64)", "signature of sbom of a:1 (linux/amd64)",
    }  # fmt: skip
    for number, step in enumerate(made.steps):
        assert all(need_ < number for need_ in step.needs)
        if step.after == COSIGN.digest:
            assert [made.steps[each].after for each in step.needs] == [ONE.digest]
    assert {effect.effect for effect in made.effects} == {"referrer"}
    assert not made.made
    apply(made)
    assert raw(both.real, "b", tag_of(ONE.digest)) == listing.data
    alone = plan(both.real, "a:1", "c", referrers=False)
    assert ("tag", tag_of(ONE.digest, ".sig"), COSIGN.digest) not in rows(alone)
    assert any("stay behind" in note for note in alone.notes)


def test_referrers_that_the_registry_lists(both: Registries) -> None:
    """Between registries that list referrers they are put by digest, and are listed there, too."""
    fill(both.embedded, ("a", "1", MULTI), *(("a", each.digest, each) for each in (SBOM, SIGNED_SBOM, ARM_SBOM)))
    made = plan(both.embedded, "a:1", "b")
    assert {row[2] for row in rows(made)} >= {SBOM.digest, SIGNED_SBOM.digest, ARM_SBOM.digest}
    assert not made.made
    apply(made)
    listed = ask(both.embedded, lambda client: client.referrers("b", SBOM.digest))
    assert [each.digest for each in listed] == [SIGNED_SBOM.digest]


def test_referrers_for_a_registry_that_does_not_list_them(both: Registries) -> None:
    """The plan makes the fallback tags itself, and adds to those that are there; nothing is lost, nor asked about."""
    other = refers(ONE, "other")
    fill(both.real, ("b", ONE.digest, ONE), ("b", other.digest, other), ("b", tag_of(ONE.digest), index([(other, "")])))
    fill(both.embedded, ("a", "1", MULTI), *(("a", each.digest, each) for each in (SBOM, SIGNED_SBOM, ARM_SBOM)))
    made = plan(both.real, "a", "b", source=both.embedded)
    tags = {step.tag: step for step in made.steps if step.action == "tag"}
    assert tags.keys() == {"1", *(tag_of(each.digest) for each in (ONE, ARM, SBOM))}
    assert set(made.made) == {step.after for tag, step in tags.items() if tag != "1"}
    assert tags[tag_of(ONE.digest)].before
    apply(made)
    listed = ask(both.real, lambda client: client.referrers("b", ONE.digest))
    assert [each.digest for each in listed] == [other.digest, SBOM.digest]
    assert listed[1].artifact_type == SPDX
    assert listed[1].size == len(SBOM.data)
    assert json.loads(raw(both.real, "b", tag_of(ARM.digest)))["mediaType"] == OCI_INDEX
    again = plan(both.real, "a", "b", source=both.embedded)
    assert not again.changes
    assert not again.made


def test_a_longer_list_of_referrers_is_not_replaced(both: Registries) -> None:
    """A fallback tag at the destination keeps what it lists, and gets what is new; its other fields stay as written."""
    other = refers(ONE, "other")
    there = index([(other, ""), (SBOM, "")], annotations={"kept": "yes"})
    fill(both.real, ("a", "1", ONE), ("a", tag_of(ONE.digest), index([(SBOM, "")])), ("b", tag_of(ONE.digest), there))
    made = plan(both.real, "a", "b")
    assert rows(made) == [("tag", "1", ONE.digest)]
    more = refers(ONE, "more")
    fill(both.real, ("a", tag_of(ONE.digest), index([(SBOM, ""), (more, "")])))
    made = plan(both.real, "a", "b")
    apply(made)
    merged = json.loads(raw(both.real, "b", tag_of(ONE.digest)))
    assert [each["digest"] for each in merged["manifests"]] == [other.digest, SBOM.digest, more.digest]
    assert merged["annotations"] == {"kept": "yes"}


def test_a_signature_is_not_overwritten_unasked(both: Registries) -> None:
    """A cosign tag with other signatures at the destination is a tag like any other."""
    fill(both.real, ("a", "1", ONE), ("a", tag_of(ONE.digest, ".sig"), COSIGN), ("b", tag_of(ONE.digest, ".sig"), TWO))
    with pytest.raises(Refused, match=r"\.sig"):
        plan(both.real, "a", "b")


def test_referrers_in_a_circle_come_to_an_end(both: Registries) -> None:
    """Tags that make two manifests refer to each other are copied once each."""
    fill(both.real, ("a", "1", ONE), ("a", tag_of(ONE.digest, ".sig"), TWO), ("a", tag_of(TWO.digest, ".sig"), ONE))
    for what in ("a:1", "a"):
        made = plan(both.real, what, "b")
        assert len(made.steps) == 3
        assert len({step.after for step in made.steps}) == 2


def test_a_referrer_that_is_listed_and_gone_is_an_error(both: Registries) -> None:
    """It is named, with what to do about it."""
    fill(both.real, ("a", "1", ONE), ("a", tag_of(ONE.digest), index([(SBOM, "")])))
    ask(both.real, lambda client: client.delete_manifest("a", SBOM.digest))
    with pytest.raises(NotFound, match=SBOM.digest):
        plan(both.real, "a:1", "b")
    assert plan(both.real, "a:1", "b", referrers=False).changes == 1


def test_links_that_a_full_disk_left_empty_are_written_anew(real: Distribution, both: Registries) -> None:
    """docker-registry answers 500 for such a blob; to send it once more is all that mends it."""
    fill(both.embedded, ("a", "1", ONE))
    fill(both.real, ("b", "1", ONE))
    made = plan(both.real, "a:1", "c", source=both.embedded)
    links = list(real.root.glob("docker/registry/v2/repositories/b/_layers/sha256/*/link"))
    assert len(links) == 3
    for link in links:
        empty = Path(str(link).replace("/b/_layers/", "/c/_layers/"))
        empty.parent.mkdir(parents=True)
        empty.touch()
    apply(made)
    assert raw(both.real, "c", "1") == ONE.data
    for link in links:
        assert Path(str(link).replace("/b/_layers/", "/c/_layers/")).read_text() == link.read_text()


def test_what_a_plan_costs(both: Registries) -> None:
    """Two listings, a GET and a HEAD a tag, and one question to a registry that lists no referrers."""
    fill(both.real, *(("a", f"v{number}", image([layer(number, 9)])) for number in range(20)))

    async def work(client: Client) -> int:
        await plan_copy(Reader(client, Cache()), "a", "b")
        return client.transport.sent

    assert ask(both.real, work) == 43


# For real


@pytest.mark.parametrize("way", ["within", "to embedded", "to real"])
def test_copying_for_real(
    way: str, seeded_real: Seeded, seeded_embedded: Seeded, both: Registries, tmp_path: Path
) -> None:
    """Every tag of the demo arrives byte for byte, as skopeo reads it, and so does every referrer."""
    need("skopeo", shutil.which("skopeo"), "skopeo is not installed")
    source = {"within": both.real, "to embedded": seeded_real.url, "to real": seeded_embedded.url}[way]
    target = both.embedded if way == "to embedded" else both.real
    odd = Image(b"\n" + TWO.data.replace(b",", b" ,\t") + b" \n", TWO.media_type, TWO.blobs)
    if way == "within":
        fill(both.real, ("apps/payments", "odd", odd), ("tools/cli", "odd", MULTI))
    chosen = ["apps/payments", "tools/cli"] if way == "within" else ["apps/payments", "tools/cli", "library/*"]
    made = plan(target, chosen, "mirror/{repository}", source="" if way == "within" else source)
    apply(made)
    steps = [step for step in made.steps if step.tag and step.after not in made.made]
    assert len(steps) >= 2
    for step in steps:
        assert skopeo(target, step.repository, step.tag) == skopeo(source, step.source, step.tag)
        assert Digest.of(raw(target, step.repository, step.tag)) == step.after
    if way != "within":
        signed = next(item for item in demo.items() if item.subject)
        assert signed.subject is not None
        subject = signed.subject
        listed = ask(target, lambda client: client.referrers("mirror/apps/payments", subject))
        assert {each.artifact_type for each in listed} == {
            "application/vnd.dev.sigstore.bundle.v0.3+json", "application/spdx+json",
        }  # fmt: skip
        assert not plan(target, chosen, "mirror/{repository}", source=source).changes

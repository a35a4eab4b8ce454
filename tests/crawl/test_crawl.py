"""The crawl: what it asks, what it survives, and what it says about it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest
from distribution import Distribution
from images import (
    ROOT,
    Answer,
    Fake,
    Image,
    ask,
    attestation,
    cache_index,
    config,
    crawl,
    descriptor,
    fill,
    image,
    index,
    layer,
    nested,
    pack,
    surroundings,
)
from scripted import Reply, Request, serve

from regnb.crawl.crawl import Progress, collect
from regnb.crawl.records import Records
from regnb.errors import Denied, InvalidReference, RegistryError
from regnb.oci.manifest import OCI_EMPTY, OCI_INDEX, SCHEMA1_SIGNED
from regnb.oci.reference import Digest, select
from regnb.oci.referrers import subject_of_tag
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.transport import Transport

BASE = layer("base", 5000)


def problems(records: Records) -> dict[tuple[str, str], str]:
    return {(row.repository, row.reference): row.problem for row in records.problems}


def pointers(records: Records) -> dict[tuple[str, str], str]:
    return {(tag.repository, tag.tag): tag.digest for tag in records.tags}


def platforms(name: str) -> Image:
    """An index of two platforms and an attestation: three children with three configs."""
    amd64 = image([BASE, layer(name, 100)], about=config("amd64", commands=["ADD base", f"RUN {name}"]))
    arm64 = image([layer((name, "arm"), 100)], about=config("arm64", commands=[f"RUN {name}"]))
    return index([(amd64, "linux/amd64"), (arm64, "linux/arm64"), (attestation(amd64), "unknown/unknown")])


def corpus() -> list[tuple[str, str, Image]]:
    """3 repositories, 6 tags, 4 distinct tagged digests, 3 children, 6 configs."""
    one = image([BASE, layer(1, 100)], about=config(commands=["ADD base", "RUN one"]))
    two = image([BASE, layer(2, 100)], about=config(commands=["ADD base", "RUN two"]))
    three = image([layer(3, 100)], about=config(commands=["RUN three"]))
    return [
        ("vm/centos8", "8", one),
        ("vm/centos8", "8.4", one),
        ("vm/centos8", "latest", two),
        ("vm/centos8", "multi", platforms("m")),
        ("team/deep/nested/app", "1", one),
        ("lib/alpine", "3", three),
    ]


P, R, T, C, G = 1, 3, 6, 3, 6


def test_a_cold_crawl_asks_for_each_thing_once(real: Distribution) -> None:
    """One GET a page, repository, tag, child and config, and one question whether the registry lists referrers."""
    fill(real.url, *corpus())
    records, sent = crawl(real.url)
    assert not records.problems
    assert sent == P + R + T + C + G + 1


def test_a_warm_crawl_asks_for_pages_repositories_and_tags_alone(real: Distribution, tmp_path: Path) -> None:
    """The second crawl sends P + R + T requests and finds the same; so does a third in another process's cache."""
    fill(real.url, *corpus())
    cache = Cache(tmp_path / "cache")
    cold, _ = crawl(real.url, cache)
    warm, sent = crawl(real.url, cache)
    assert sent == P + R + T
    cache.close()
    again = Cache(tmp_path / "cache")
    third, sent = crawl(real.url, again)
    again.close()
    assert sent == P + R + T
    for found in (warm, third):
        assert pointers(found) == pointers(cold)
        assert found.manifests == cold.manifests
        assert found.blobs == cold.blobs
        assert not found.problems
        # Four manifests were asked for by their tags, each in one repository or two; children came from the cache.
        assert sum(found.links.values()) == 5
        assert found.coverage.manifests.cached == 7
        assert found.coverage.configs.cached == G
    assert all(cold.links.values())


def test_a_warm_crawl_sees_what_has_changed(real: Distribution) -> None:
    """A tag that moved and a tag that was deleted are noticed, at the cost of what is new."""
    fill(real.url, *corpus())
    cache = Cache()
    crawl(real.url, cache)
    new = image([BASE, layer("new", 100)], about=config(commands=["ADD base", "RUN new"]))
    fill(real.url, ("vm/centos8", "latest", new))
    gone = corpus()[-1][2].digest
    ask(real.url, lambda client: client.delete_manifest("lib/alpine", gone))
    records, sent = crawl(real.url, cache)
    digests = pointers(records)
    assert digests["vm/centos8", "latest"] == new.digest
    assert ("lib/alpine", "3") not in digests
    assert records.repositories["lib/alpine"] == "empty"
    assert gone not in records.manifests
    # One tag less; the moved one costs a HEAD, then its manifest and its config.
    assert sent == P + R + (T - 1) + 2


def test_two_manifests_with_one_config_cost_one_config(real: Distribution) -> None:
    """A config that several images have is read once, however many workers meet it at the same time."""
    shared = config(commands=["RUN shared"])
    images = [image([layer(number, 10)], about=shared) for number in range(12)]
    fill(real.url, *(("app", str(number), each) for number, each in enumerate(images)))
    records, sent = crawl(real.url)
    assert sent == 1 + 1 + 12 + 1 + 1
    assert {record.commands for record in records.manifests.values()} == {("RUN shared",)}


def test_names_and_globs_choose_repositories(real: Distribution) -> None:
    """Names are read without the catalog, globs through it, both together once each; a missing name is a problem."""
    fill(real.url, *corpus())
    named, sent = crawl(real.url, repositories=["lib/alpine"])
    assert set(named.repositories) == {"lib/alpine"}
    assert sent == 1 + 1 + 1 + 1
    assert named.coverage.catalog == "not asked"
    globbed, _ = crawl(real.url, repositories=["team/*", "vm/cent?s8", "vm/*"])
    assert set(globbed.repositories) == {"team/deep/nested/app", "vm/centos8"}
    mixed, _ = crawl(real.url, repositories=["*/alpine", "lib/alpine", "no/such"])
    assert set(mixed.repositories) == {"lib/alpine", "no/such"}
    assert problems(mixed) == {("no/such", ""): "missing"}
    assert mixed.problems[0].incomplete
    with pytest.raises(InvalidReference):
        crawl(real.url, repositories=["No/Such"])


def test_nothing_listed_is_an_error_and_not_an_empty_registry(real: Distribution) -> None:
    """A registry that went away is an error, not zero repositories."""
    real.stop()
    with pytest.raises(RegistryError):
        crawl(real.url)


def test_a_dangling_tag_is_one_row(real: Distribution) -> None:
    """A tag whose manifest is gone from the disk is a problem; everything else is read."""
    fill(real.url, *corpus())
    real.blob(corpus()[2][2].digest).unlink()
    real.restart()
    records, _ = crawl(real.url)
    assert problems(records) == {("vm/centos8", "latest"): "dangling"}
    assert not records.problems[0].incomplete
    assert records.problems[0].hint
    assert {tag.tag: bool(tag.digest) for tag in records.tags if tag.repository == "vm/centos8"} == {
        "8": True, "8.4": True, "latest": False, "multi": True,
    }  # fmt: skip
    assert records.coverage.tags.failed == 0


def test_a_dangling_tag_is_noticed_when_warm_too(real: Distribution) -> None:
    """That the cache holds a manifest does not hide that the registry has lost it."""
    fill(real.url, *corpus())
    cache = Cache()
    crawl(real.url, cache)
    real.blob(corpus()[2][2].digest).unlink()
    real.restart()
    records, _ = crawl(real.url, cache)
    assert problems(records) == {("vm/centos8", "latest"): "dangling"}


def test_a_corrupt_tag_link_is_one_row(real: Distribution) -> None:
    """A tag that the registry answers with a 500 has failed; everything else is read."""
    fill(real.url, *corpus(), ("vm/centos8", "bad", corpus()[0][2]))
    repository = real.root / "docker/registry/v2/repositories/vm/centos8"
    (repository / "_manifests/tags/bad/current/link").write_bytes(b"")
    real.restart()
    records, _ = crawl(real.url)
    assert problems(records) == {("vm/centos8", "bad"): "failed"}
    assert records.coverage.tags.read == T


def test_a_missing_child_is_one_row(real: Distribution) -> None:
    """A child that is deleted behind its index is a problem; its siblings are read."""
    what = platforms("m")
    fill(real.url, ("vm/centos8", "multi", what))
    ask(real.url, lambda client: client.delete_manifest("vm/centos8", what.children[1].digest))
    records, _ = crawl(real.url)
    assert problems(records) == {("vm/centos8", what.children[1].digest): "missing"}
    assert set(records.manifests) == {what.digest, what.children[0].digest, what.children[2].digest}
    assert not records.problems[0].incomplete
    assert records.coverage.manifests.failed == 0


def test_a_missing_config_is_one_row(real: Distribution) -> None:
    """An image whose config is gone keeps its sizes and loses its platform."""
    what = corpus()[0][2]
    fill(real.url, ("vm/centos8", "8", what))
    real.blob(Digest.of(what.blobs[0])).unlink()
    real.restart()
    records, _ = crawl(real.url)
    assert problems(records) == {("vm/centos8", Digest.of(what.blobs[0])): "missing"}
    assert sum(blob.size for blob in records.blobs.values()) == what.size


def test_a_build_cache_that_lists_layers(real: Distribution) -> None:
    """BuildKit's cache index has its layers and its config as blobs; none is asked for as a manifest."""
    what = cache_index([BASE, layer("cache", 300)])
    fill(real.url, ("app", "cache", what))
    records, sent = crawl(real.url)
    assert (problems(records), sent) == ({}, 4)  # ping, catalog, tags, manifest
    assert set(records.manifests[what.digest].layers) == {Digest.of(data) for data in what.blobs}
    assert sum(blob.size for blob in records.blobs.values()) == what.size == real.stored()


OA = "application/vnd.oci.artifact.manifest.v1+json"
ORAS = "application/vnd.cncf.oras.artifact.manifest.v1+json"


@pytest.mark.parametrize("media_type", [OA, ORAS])
def test_a_manifest_that_is_found_by_its_type_alone(media_type: str) -> None:
    """A registry that answers 404 unless the manifest's type is accepted has it: neither tag nor child is gone."""
    artifact = pack({"mediaType": media_type, "artifactType": "application/vnd.example.scan", "blobs": []})
    child = pack({"mediaType": media_type, "blobs": [], "annotations": {"n": "1"}})
    listing = pack({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(OA, child)]})
    held = {"scan": artifact, Digest.of(child): child}

    def answer(request: Request, _: int) -> Reply:
        headers = {"Content-Type": "application/json"}
        target = request.path.rpartition("/")[2]
        if request.path.startswith("/v2/_catalog"):
            return Reply(headers=headers, body=pack({"repositories": ["app"]}))
        if request.path.endswith("/tags/list"):
            return Reply(headers=headers, body=pack({"tags": ["scan", "many", "gone"]}))
        if target == "many":
            return Reply(headers={"Content-Type": OCI_INDEX}, body=listing)
        accepted = request.headers.get("accept", "")
        if target in held and (media_type in accepted or "*/*" in accepted):
            return Reply(headers={"Content-Type": media_type}, body=held[target])
        return Reply(404, headers, pack({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "not accepted"}]}))

    with serve(answer) as server:
        records, _ = crawl(server.url)
    assert problems(records) == {("app", "gone"): "dangling"}
    assert pointers(records) == {
        ("app", "scan"): Digest.of(artifact), ("app", "many"): Digest.of(listing), ("app", "gone"): "",
    }  # fmt: skip
    assert set(records.manifests) == {Digest.of(each) for each in (artifact, child, listing)}


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 501])
def test_a_registry_without_referrers(status: int) -> None:
    """Listing referrers is optional: whatever says that it is not served leaves the rest complete."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        what = image([BASE])
        fake.repository("app", {"1": what})
        error = {"errors": [{"code": "UNSUPPORTED", "message": "Not Acceptable"}]}
        fake.json(f"/v2/app/referrers/{what.digest}", error, status)
        records, _ = crawl(fake.url)
    assert not records.problems


def test_a_config_that_is_none_is_a_note() -> None:
    """A user's file under an image config's type: no platform, no date, and nothing unknown that matters."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        fake.repository("app", {"1": image([BASE], about=b"just a file")})
        records, _ = crawl(fake.url)
    assert [(row.problem, row.incomplete) for row in records.problems] == [("malformed", False)]
    assert not records.damaged


def test_an_emptied_repository_is_empty_and_complete(real: Distribution) -> None:
    """A repository that the catalog lists without tags is no problem."""
    fill(real.url, *corpus())
    ask(real.url, lambda client: client.delete_manifest("lib/alpine", corpus()[-1][2].digest))
    records, _ = crawl(real.url)
    assert records.repositories["lib/alpine"] == "empty"
    assert not records.problems


def deep(depth: int) -> Image:
    what = image([BASE])
    for _ in range(depth):
        what = index([(what, "")])
    return what


def with_size(size: int) -> Image:
    good = image([BASE])
    document = json.loads(good.data)
    document["layers"][0]["size"] = size
    return Image(pack(document), good.media_type, good.blobs)


def replaced(old: bytes, new: bytes) -> Image:
    good = image([BASE], annotations={"a": "?"})
    assert old in good.data
    return Image(good.data.replace(old, new), good.media_type, good.blobs)


HOSTILE = {
    "negative-size": (with_size(-1), "malformed"),
    "huge-size": (with_size(2**63 - 1), "malformed"),
    "equal-layers": (image([BASE] * 5000), ""),
    "layers-null": (replaced(b'"layers": [', b'"layers": null, "were": ['), ""),
    "deep-json": (replaced(b'"annotations"', b'"x": %s, "annotations"' % nested(9000)), "malformed"),
    "bad-utf8": (replaced(b'"?"', b'"\xff\xfe"'), "malformed"),
    "deep-index": (deep(60), "too deep"),
    "html": (image([BASE], annotations={"<script>alert(1)</script>": "\x1b[31m=cmd|' /C calc'!A0"}), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_that_a_registry_takes(real: Distribution, name: str) -> None:
    """What distribution stores and serves is read or becomes one row, and its neighbour is read all the same."""
    what, expected = HOSTILE[name]
    good = image([BASE], about=config("arm64"))
    fill(real.url, ("app", name, what), ("app", "good", good))
    records, _ = crawl(real.url)
    assert [row.problem for row in records.problems] == ([expected] if expected else [])
    tags = {tag.tag: tag.digest for tag in records.tags}
    assert tags == {name: what.digest, "good": good.digest}
    assert records.manifests[good.digest].platform == "linux/arm64"
    assert all(0 <= blob.size <= 10**6 for blob in records.blobs.values())
    warm, _ = crawl(real.url)
    assert problems(warm) == problems(records)


def test_an_index_that_contains_itself_ends() -> None:
    """Fallback listings may point in circles; each manifest is read once. (No real digest can contain itself.)"""
    with Fake() as fake:
        what = index([(image([]), "linux/amd64")])
        # The registry lists the index as a referrer of its own child, and the child as one of the index.
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        fake.repository("app", {"1": what})
        fake.manifest("app", what.children[0].digest, what.children[0])
        for one, other in ((what, what.children[0]), (what.children[0], what)):
            listed = {"schemaVersion": 2, "manifests": [descriptor(other.media_type, other.data)]}
            fake.json(f"/v2/app/referrers/{one.digest}", listed)
        records, _ = crawl(fake.url)
    assert set(records.manifests) == {what.digest, what.children[0].digest}
    assert not records.problems


def test_one_blob_with_two_sizes(real: Distribution) -> None:
    """Of two manifests that tell different sizes of one blob the one that is wrong is damaged."""
    fill(real.url, ("app", "1", image([BASE])), ("app", "2", with_size(7)))
    records, _ = crawl(real.url)
    assert problems(records) == {("app", with_size(7).digest): "damaged"}
    assert "has 7 bytes, and the registry has 5,000" in records.problems[0].message


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
def test_of_two_sizes_the_registrys_own_counts(real: Distribution, order: tuple[str, str]) -> None:
    """Whichever manifest is read first, a blob of which they tell different sizes has the one that is stored."""
    honest, lying = order
    fill(real.url, ("app", honest, image([BASE])), ("app", lying, with_size(7)))
    records, _ = crawl(real.url)
    assert records.blobs[Digest.of(BASE)].size == len(BASE)
    assert [row.incomplete for row in records.problems] == [False]


def test_a_glob_that_matches_nothing_is_a_problem(real: Distribution) -> None:
    """A misspelt pattern does not end as a complete audit of nothing."""
    fill(real.url, ("app", "1", image([BASE])))
    records, _ = crawl(real.url, repositories=["ap*", "zz*"])
    assert list(records.repositories) == ["app"]
    assert problems(records) == {("", "zz*"): "missing"}
    assert records.problems[0].incomplete


def test_a_named_repository_that_is_not_there_has_failed(real: Distribution) -> None:
    """A repository that the user named and the registry does not know is not shown as an empty one."""
    records, _ = crawl(real.url, repositories=["nope"])
    assert records.repositories == {"nope": "missing"}
    assert records.coverage.repositories.failed == 1


def test_schema_1_is_flagged() -> None:
    """An image of schema 1 is a row of its own kind and a problem, and is not kept by a digest that proves nothing."""
    with Fake() as fake:
        data = pack({"schemaVersion": 1, "fsLayers": [{"blobSum": Digest.of(BASE)}]})
        fake.json("/v2/_catalog", {"repositories": ["old"]})
        fake.json("/v2/old/tags/list", {"tags": ["1"]})
        headers = {"Content-Type": SCHEMA1_SIGNED, "Docker-Content-Digest": Digest.of(b"payload")}
        fake.routes["/v2/old/manifests/1"] = (200, headers, data)
        cache = Cache()
        records, _ = crawl(fake.url, cache)
    assert problems(records) == {("old", Digest.of(b"payload")): "schema1"}
    assert records.manifests[Digest.of(b"payload")].kind == "schema1"
    assert cache.get(Digest.of(b"payload")) is None


@pytest.mark.parametrize("place", ["tag", "child", "config"])
def test_a_server_that_lies_is_one_row(place: str) -> None:
    """Bytes that do not match their digest are a mismatch, never data, and never cached."""
    with Fake() as fake:
        what = index([(image([BASE]), "linux/amd64")])
        child = what.children[0]
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        fake.repository("app", {"1": what})
        fake.manifest("app", child.digest, child)
        about = Digest.of(child.blobs[0])
        path = {
            "tag": "/v2/app/manifests/1",
            "child": f"/v2/app/manifests/{child.digest}",
            "config": f"/v2/app/blobs/{about}",
        }[place]  # fmt: skip
        status, headers, body = fake.routes[path]  # type: ignore[misc]
        fake.routes[path] = (status, headers, body + b" ")
        cache = Cache()
        records, _ = crawl(fake.url, cache)
    reference = {"tag": "1", "child": str(child.digest), "config": str(about)}[place]
    assert problems(records) == {("app", reference): "mismatch"}
    assert records.problems[0].incomplete == (place != "config")
    assert cache.get(Digest.of(body + b" ")) is None


@pytest.mark.parametrize(
    ("status", "problem"), [(401, "denied"), (403, "denied"), (500, "failed"), (404, "empty"), (418, "failed")]
)
def test_a_repository_that_cannot_be_listed_is_one_row(status: int, problem: str) -> None:
    """A repository that is refused or fails does not keep the others from being read."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["bad", "good"]})
        fake.json("/v2/bad/tags/list", {"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]}, status)
        fake.repository("good", {"1": image([BASE])})
        records, _ = crawl(fake.url)
    assert records.repositories == {"bad": problem, "good": "read"}
    assert problems(records) == ({} if status == 404 else {("bad", ""): problem})


def test_names_in_the_catalog_that_are_no_names() -> None:
    """A catalog that lists what no URL may hold gives a row for each, and the rest is read."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["good", "../../etc", "A/b", "a b", "x" * 300]})
        fake.repository("good", {"1": image([BASE])})
        records, _ = crawl(fake.url)
        assert {row.problem for row in records.problems} == {"malformed"}
        assert len(records.problems) == 4
        assert not any("etc" in path for _, path in fake.asked)
    assert records.coverage.repositories.failed == 4


def test_tags_that_are_no_tags() -> None:
    """A tag list that holds what no URL may hold gives a row for it, and the rest is read."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        fake.repository("app", {"1": image([BASE])})
        fake.json("/v2/app/tags/list", {"tags": ["1", "../../x", "<b>", "", "sha256:0"]})
        records, _ = crawl(fake.url)
    assert problems(records) == {("app", name): "not a tag" for name in ("../../x", "<b>", "", "sha256:0")}
    assert not any(row.incomplete for row in records.problems)
    assert (records.coverage.tags.listed, records.coverage.tags.read) == (1, 1)


def test_a_catalog_that_breaks_off_is_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that were read are crawled, and the frames say that there is more."""
    with Fake() as fake:
        fake.repository("app", {"1": image([BASE])})

        def page(url: str) -> Answer:
            if "last=" in url:
                return 403, {}, b""
            return 200, {"Link": '</v2/_catalog?last=app&n=1>; rel="next"'}, pack({"repositories": ["app"]})

        fake.routes["/v2/_catalog"] = page
        records, _ = crawl(fake.url)
    assert records.coverage.catalog == "incomplete"
    assert problems(records) == {("", "_catalog"): "catalog"}
    assert len(records.tags) == 1
    monkeypatch.undo()


def test_a_forbidden_catalog_says_to_name_repositories() -> None:
    """A registry that refuses its catalog gives an error with the way out, and the way works."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"errors": [{"code": "DENIED"}]}, 403)
        fake.repository("team/app", {"1": image([BASE])})
        with pytest.raises(Denied, match="name") as caught:
            crawl(fake.url)
        assert "name" in caught.value.hint
        records, _ = crawl(fake.url, repositories=["team/app"])
    assert not records.problems
    assert len(records.tags) == 1


def test_a_tag_that_vanishes_during_the_crawl_is_no_fault() -> None:
    """A tag that was deleted between listing and reading is told and taken out, and the audit stays complete."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        fake.repository("app", {"kept": image([BASE])})
        lists = iter([["gone", "kept"], ["kept"]])
        fake.routes["/v2/app/tags/list"] = lambda _: (200, {}, pack({"tags": next(lists)}))
        records, _ = crawl(fake.url)
    assert problems(records) == {("app", "gone"): "vanished"}
    assert not records.problems[0].incomplete
    assert [tag.tag for tag in records.tags] == ["kept"]
    assert (records.coverage.tags.listed, records.coverage.tags.failed) == (1, 0)


def test_referrers_are_followed_where_the_registry_lists_them() -> None:
    """Signatures that only the referrers endpoint knows are read, and counted with their subject."""
    with Fake() as fake:
        what = image([BASE])
        empty = {"mediaType": OCI_EMPTY, "digest": Digest.of(b"{}"), "size": 2}
        signature = image(
            [b"signed"], layer_type="application/vnd.dev.cosign.simplesigning.v1+json",
            subject=descriptor(what.media_type, what.data), config=empty,
        )  # fmt: skip
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        fake.repository("app", {"1": what})
        fake.manifest("app", signature.digest, signature)
        listed = {"schemaVersion": 2, "mediaType": OCI_INDEX}
        fake.json(
            f"/v2/app/referrers/{what.digest}", {**listed, "manifests": [descriptor(what.media_type, signature.data)]}
        )
        cache = Cache()
        records, _ = crawl(fake.url, cache)
    assert records.manifests[signature.digest].kind == "signature"
    assert records.manifests[signature.digest].subject == what.digest
    assert records.coverage.referrers.read == 1
    assert not records.problems


def test_referrer_tags() -> None:
    """The fallback's and cosign's tags name their subject; nothing else does."""
    digest = Digest.of(b"x")
    for end in ("", ".sig", ".att", ".sbom"):
        assert subject_of_tag(f"sha256-{digest.hex}{end}") == digest
    for tag in ("latest", "sha256-abc", f"sha256-{digest.hex}.zip", f"sha256-{digest.hex}-old"):
        assert subject_of_tag(tag) == ""


def test_select_keeps_order_and_doubles_nothing() -> None:
    """Globs choose in the order of the names, each once, and do not match in part."""
    names = ["b/x", "a/x", "a/y", "b/x", "a/x/z"]
    assert select(names, ["a/?", "*/x"]) == ["b/x", "a/x", "a/y"]
    assert select(names, ["x"]) == []


def test_progress_counts_to_the_end(real: Distribution) -> None:
    """The counters end at what there is."""
    fill(real.url, *corpus())
    progress = Progress()

    async def work(client: Client) -> None:
        await collect(client, Cache(), progress=progress)

    ask(real.url, work)
    assert progress == Progress(repositories=R, repositories_done=R, tags=T, tags_done=T)


def test_cancelling_keeps_what_was_read(tmp_path: Path) -> None:
    """A crawl that is cancelled has flushed what it had into the cache."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        images = {f"{number:03}": image([], about=config(number=number)) for number in range(100)}
        fake.repository("app", images)
        last = images["099"]
        over = threading.Event()
        fake.routes["/v2/app/manifests/099"] = lambda _: (404, {}, b"") if over.wait(60) else fake.default
        cache = Cache(tmp_path)

        async def run() -> None:
            async with Client(Transport(fake.url)) as client, anyio.create_task_group() as group:
                group.start_soon(collect, client, cache)
                await anyio.to_thread.run_sync(fake.wait, 99)
                group.cancel_scope.cancel()

        anyio.run(run)
        over.set()
        again = Cache(tmp_path)
        kept = sum(again.get(each.digest) is not None for each in images.values())
        assert kept == 99
        assert again.get(last.digest) is None
        again.close()
        cache.close()


SIMULATION = """
import anyio
from regnb.wire.cache import Cache
from regnb.crawl.crawl import collect
from regnb.analysis.inventory import Inventory
from simulated import SimulatedClient
async def run():
    return await collect(SimulatedClient(500, 200), Cache())
inventory = Inventory.of(anyio.run(run))
inventory.sharing
inventory._repr_html_()
assert inventory.complete, inventory.problems
# Not ru_maxrss: that of a started program begins with the peak of the process that started it.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(inventory.tags), len(inventory.layers), peak)
"""


def test_100_000_tags_stay_under_a_gigabyte(tmp_path: Path) -> None:
    """An inventory of 100,000 tags and 50,000 images peaks below 1 GB of memory, sharing and its display included."""
    path = f"{ROOT}:{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SIMULATION], capture_output=True, text=True, check=False,
        env={**surroundings(tmp_path), "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tags, layers, peak = map(int, done.stdout.split())
    assert (tags, layers) == (100_000, 300_000)
    assert peak * 1024 < 1e9

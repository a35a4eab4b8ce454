"""A further tag for what is there: planned with a GET a tag, and never over another image unasked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import Seeded
from distribution import Distribution
from images import Fake, Image, ask, fill, image, index, layer

import regnb
from regnb.change.plan import Plan
from regnb.change.retag import plan_retag
from regnb.crawl.reader import Reader
from regnb.crawl.selection import What
from regnb.errors import InvalidArgument, InvalidReference, NotFound, Refused, RegnbError
from regnb.oci.manifest import SCHEMA1_SIGNED
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client

ONE, TWO, THREE = (image([layer(number, 100)]) for number in range(3))
MULTI = index([(ONE, "linux/amd64")])
ODD = Image(b"\n " + ONE.data + b"\n", ONE.media_type, ONE.blobs)


def plan(url: str, what: What, tag: str, *allow: str) -> Plan:
    """Plan, and see that nothing was written."""

    async def work(client: Client) -> Plan:
        try:
            return await plan_retag(Reader(client, Cache()), what, tag, allow=allow)
        finally:
            assert {exchange.method for exchange in client.transport.exchanges} <= {"GET", "HEAD"}

    return ask(url, work)


@pytest.fixture
def filled(real: Distribution) -> str:
    fill(real.url, ("a", "1", ONE), ("a", "2", TWO), ("a", "3", ONE), ("a", "m", MULTI), ("b", "1", TWO))
    return real.url


def test_one_tag(filled: str) -> None:
    """A new tag is a row from nothing to the digest, with its media type and the bytes of the image."""
    made = plan(filled, "a:1", "new")
    (step,) = made.steps
    assert (step.action, step.repository, step.tag, step.before, step.after) == ("tag", "a", "new", "", ONE.digest)
    assert (step.source, step.media_type, step.blobs, step.size) == ("a", ONE.media_type, (), ONE.size)
    assert step.reason == "same as a:1"
    assert made.operation == "retag"
    assert made.moved == made.freed == 0
    assert not made.effects
    assert plan(filled, f"a@{TWO.digest}", "new").steps[0].after == TWO.digest


def test_the_size_of_an_index_is_missing(filled: str) -> None:
    """Its children are not read, and 0 bytes would be a wrong number; likewise of the image that a tag leaves."""
    made = plan(filled, "a:m", "new")
    assert made.to_frame()["size"].isna().all()
    moved = plan(filled, "a:1", "2", "overwrite")
    assert moved.to_frame()["size"].to_list() == [ONE.size]
    assert moved.blast["size"].isna().all()


def test_many_tags(filled: str) -> None:
    """A pattern gives each its own name, over repositories, from a glob or from rows of a frame."""
    rows = pd.DataFrame({"repository": ["a", "b"], "tag": ["1", "1"]})
    for what in ("?:1", ["a:1", "b:1"], rows):
        made = plan(filled, what, "{tag}-old")
        assert [(step.repository, step.tag, step.after) for step in made.steps] == [
            ("a", "1-old", ONE.digest), ("b", "1-old", TWO.digest),
        ]  # fmt: skip
        assert [step.tag for step in plan(filled, what, "same").steps] == ["same", "same"]


def test_what_is_so_already_is_kept(filled: str) -> None:
    """A tag that points there already is a row that changes nothing."""
    made = plan(filled, "a:1", "3")
    assert [(step.action, step.reason, step.before) for step in made.steps] == [
        ("keep", "kept: this tag already points to the digest", ONE.digest)
    ]
    assert made.changes == 0


def test_a_tag_that_points_elsewhere_is_not_moved_unasked(filled: str) -> None:
    """The refusal says what would lose its name, and whether that is its last; allowed, it stands in the effects."""
    with pytest.raises(Refused) as caught:
        plan(filled, "a:1", "2")
    assert "a:2" in caught.value.message
    assert TWO.digest.short in caught.value.message
    assert "without a tag" in caught.value.message
    assert "--allow overwrite" in caught.value.hint
    made = plan(filled, "a:1", "2", "overwrite")
    assert [(step.before, step.after) for step in made.steps] == [(TWO.digest, ONE.digest)]
    assert made.allow == ("overwrite",)
    assert made.blast["reference"].tolist() == ["2"]
    with pytest.raises(Refused) as caught:
        plan(filled, "a:2", "3")
    assert "without a tag" not in caught.value.message


def test_two_tags_that_change_places(real: Distribution) -> None:
    """What loses one name and gets another is not left without a tag."""
    fill(real.url, ("a", "1", ONE), ("a", "1-x", TWO))
    made = plan(real.url, "a:*", "{tag}-x", "overwrite")
    assert {(step.tag, step.after) for step in made.steps} == {("1-x", ONE.digest), ("1-x-x", TWO.digest)}
    assert "without" not in made.effects[0].message


@pytest.mark.parametrize(
    ("what", "tag", "error", "text"),
    [
        ("a:1", "1", InvalidArgument, "already"),
        ("a:*", "same", InvalidArgument, "a:1 and a:2"),
        ("a:1", "-bad", InvalidReference, "not a tag"),
        ("a:1", "b:2", InvalidReference, "not a tag"),
        ("a:1", "{repository}", InvalidReference, "not a tag"),
        (f"a@{ONE.digest}", "{tag}-x", InvalidArgument, "no tag"),
        (f"a@{Digest.of(b'none')}", "x", NotFound, "has no manifest"),
        ("a:none", "x", NotFound, "a:none"),
        ("none:1", "x", NotFound, "none:1"),
        ("a", "x", InvalidArgument, "no tag"),
    ],
)
def test_what_makes_no_sense(filled: str, what: str, tag: str, error: type[RegnbError], text: str) -> None:
    """A name that is not lawful, not there, or given twice is an error that names it."""
    with pytest.raises(error, match=text):
        plan(filled, what, tag)


def test_an_unknown_allowance(filled: str) -> None:
    """What cannot be allowed is an error before anything is asked."""
    with pytest.raises(InvalidArgument):
        plan(filled, "a:1", "x", "everything")


def test_a_tag_that_points_at_nothing(seeded: Seeded) -> None:
    """A dangling tag is named, with what to do."""
    with pytest.raises(NotFound, match=r"broken/dangling:1\.0") as caught:
        plan(seeded.url, "broken/dangling:1.0", "x")
    assert "leave it out" in caught.value.hint


def test_schema_1_is_refused_for_good() -> None:
    """Its digest is not that of its bytes: no allowance lets it be put again."""
    with Fake() as fake:
        fake.json("/v2/old/tags/list", {"tags": ["1"]})
        headers = {"Content-Type": SCHEMA1_SIGNED, "Docker-Content-Digest": Digest.of(b"x")}
        fake.routes["/v2/old/manifests/1"] = (200, headers, b'{"schemaVersion":1,"fsLayers":[]}')
        with pytest.raises(Refused, match="schema 1"):
            plan(fake.url, "old:1", "x", "overwrite", "incomplete", "parents", "running", "dummy")


def test_a_manifest_that_cannot_be_decoded_is_retagged_all_the_same() -> None:
    """A retag puts the bytes that are there: what they mean is not asked."""
    with Fake() as fake:
        fake.repository("a", {"1": Image(b'{"layers":7}', ONE.media_type)})
        (step,) = plan(fake.url, "a:1", "2").steps
        assert (step.action, step.size) == ("tag", 0)


def test_what_a_plan_costs(real: Distribution) -> None:
    """A listing, and a GET a tag."""
    fill(real.url, *(("a", f"v{number}", ONE) for number in range(20)))

    async def work(client: Client) -> list[str]:
        await plan_retag(Reader(client, Cache()), "a:v*", "{tag}-x")
        return [exchange.url.partition("/v2/")[2] for exchange in client.transport.exchanges]

    assert sorted(ask(real.url, work)) == sorted(["a/tags/list", *(f"a/manifests/v{number}" for number in range(20))])


def test_retagging_for_real(writable: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new tag gives the same bytes, odd white space and all, and the old one stays."""
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    fill(writable.url, ("a", "odd", ODD))
    with regnb.connect(writable.url, cache=False) as registry:
        for what, repository in (("a:odd", "a"), ("tools/cli:latest", "tools/cli"), ("vm/centos8:8", "vm/centos8")):
            made = registry.plan_retag(what, "again")
            receipt = registry.apply(made, confirm=made.code, progress=False)
            assert receipt.status == "done"
            assert registry.manifest(f"{repository}:again").raw == registry.manifest(what).raw
        assert registry.manifest("a:again").raw == ODD.data
        assert not registry.plan_retag("a:odd", "again").changes

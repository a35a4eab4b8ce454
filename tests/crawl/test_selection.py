"""What a user means by a reference, a glob, a frame or a list."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import Seeded
from images import ask, fill, image, layer

import regnb
from regnb.crawl.reader import Reader
from regnb.crawl.selection import Picked, Selector, What, find, pick, repositories, selectors
from regnb.errors import InvalidArgument, InvalidReference, NotFound, Refused, RegnbError
from regnb.local import demo, embedded
from regnb.oci.reference import Digest, Reference
from regnb.wire.cache import Cache
from regnb.wire.client import Client

HOST = "localhost:5000"
DIGEST = Digest.of(b"{}")
ROWS = [("vm/a", "1"), ("vm/a", "2"), ("vm/b", "1"), ("lib/c", "1")]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("vm/a:1", Selector("vm/a", "1")),
        (f"{HOST}/vm/a:1", Selector("vm/a", "1")),
        (Reference("vm/a", "1"), Selector("vm/a", "1")),
        (f"vm/a@{DIGEST}", Selector("vm/a", digest=DIGEST)),
        (f"vm/a:1@{DIGEST}", Selector("vm/a", digest=DIGEST)),
        ("vm/*:8.*", Selector("vm/*", "8.*")),
        (f"{HOST}/vm/**:?", Selector("vm/**", "?")),
        ("vm/[ab]:1", Selector("vm/[ab]", "1")),
    ],
)
def test_one_thing_that_is_named(what: str | Reference, expected: Selector) -> None:
    """A reference or a glob, with this registry's host or without, is read alike; a digest wins over a tag."""
    assert selectors(what, host=HOST) == [expected]
    assert selectors([what, what], host=HOST) == [expected]
    assert expected.exact == (not set("*?[") & set(expected.repository + expected.tag))


def test_rows_of_a_frame() -> None:
    """Rows with a tag name tags, others digests; and each row counts once."""
    tags = pd.DataFrame({"repository": ["a", "b", "a"], "tag": ["1", "2", "1"], "digest": [DIGEST] * 3})
    seen = [Selector("a", "1", seen=DIGEST), Selector("b", "2", seen=DIGEST)]
    assert selectors(tags, host=HOST) == seen
    assert selectors(tags.drop(columns="digest"), host=HOST) == [Selector("a", "1"), Selector("b", "2")]
    assert selectors(tags.drop(columns="tag"), host=HOST)[0] == Selector("a", digest=DIGEST)
    assert selectors(tags.iloc[:0], host=HOST) == []


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("vm/a", InvalidArgument),
        ("vm/*", InvalidArgument),
        ("other:5000/vm/a:1", InvalidReference),
        (Reference("vm/a", "1", registry="other:5000"), InvalidArgument),
        ("VM/a:1", InvalidReference),
        ("VM/*:1", InvalidReference),
        ("vm/*:a/b", InvalidReference),
        ("vm/*:", InvalidReference),
        ("", InvalidReference),
        (f"vm/*@{DIGEST}", InvalidReference),
        (None, InvalidArgument),
        ([7], InvalidArgument),
        (pd.DataFrame({"repository": ["a"]}), InvalidArgument),
        (pd.DataFrame({"tag": ["a"]}), InvalidArgument),
        (pd.DataFrame({"repository": ["a"], "tag": [None]}), InvalidArgument),
        (pd.DataFrame({"repository": ["a"], "digest": [float("nan")]}), InvalidArgument),
        (pd.DataFrame({"repository": ["A"], "tag": ["1"]}), InvalidReference),
        (pd.DataFrame({"repository": ["a"], "digest": ["sha256:1"]}), InvalidReference),
    ],
)
def test_what_names_nothing(what: What, error: type[RegnbError]) -> None:
    """A name that the grammar forbids, another registry, a bare repository and a wrong type are errors with a hint."""
    with pytest.raises(error) as caught:
        selectors(what, host=HOST)
    assert caught.value.hint


def test_a_bare_repository_where_it_may_stand_for_its_tags() -> None:
    """With ``whole``, a repository's name or a glob of names means every tag."""
    assert selectors(["vm/a", "l*"], host=HOST, whole=True) == [Selector("vm/a"), Selector("l*")]
    assert pick([Selector("vm/a")], ROWS) == [Picked("vm/a", "1"), Picked("vm/a", "2")]


def test_picking_from_what_is_there() -> None:
    """Names and globs give tags in order, each once; a digest is taken at its word; what is not there is an error."""
    named = selectors(["vm/a:2", "*:1", f"vm/a@{DIGEST}"], host=HOST)
    assert pick(named, ROWS) == [
        Picked("vm/a", "2"), Picked("vm/a", "1"), Picked("vm/b", "1"), Picked("lib/c", "1"),
        Picked("vm/a", digest=DIGEST),
    ]  # fmt: skip
    assert Picked("vm/a", digest=DIGEST).target == DIGEST
    for missing in ("vm/a:3", "vm/a:3*", "no*:1"):
        with pytest.raises(NotFound, match=missing[:2]):
            pick(selectors(missing, host=HOST), ROWS)


def test_the_repositories_that_are_meant() -> None:
    """Names are taken as they are, globs from the catalog; a glob without a match is an error."""
    names = ["vm/a", "vm/b", "lib/c"]
    assert repositories(selectors(["new/x:1", "vm/*:1"], host=HOST), names) == ["new/x", "vm/a", "vm/b"]
    with pytest.raises(NotFound, match="no repository"):
        repositories(selectors("x*:1", host=HOST), names)


def test_asking_a_registry(seeded: Seeded) -> None:
    """One tag costs one listing; a glob asks for the catalog; both give the tags of what is concerned."""

    async def work(client: Client) -> tuple[list[Picked], list[Picked], list[str], int]:
        reader = Reader(client, Cache())
        one, tags = await find(reader, "vm/centos8:8.4")
        sent = client.transport.sent
        many, _ = await find(reader, "apps/*:latest")
        with pytest.raises(NotFound):
            await find(reader, "no/such:1")
        with pytest.raises(NotFound):
            await find(reader, demo.RETIRED, whole=True)
        assert {exchange.method for exchange in client.transport.exchanges} == {"GET"}
        return one, many, tags["vm/centos8"], sent

    one, many, tags, sent = ask(seeded.url, work)
    assert one == [Picked("vm/centos8", "8.4")]
    assert sent == 1
    assert tags == ["8", "8.3", "8.4", "latest"]
    assert [each.repository for each in many] == ["apps/api", "apps/payments", "apps/web", "apps/worker"]


def test_a_tag_that_was_moved_since_it_was_chosen(tmp_path: Path) -> None:
    """Rows of an old inventory.tags plan nothing for tags that point elsewhere by now, whatever the operation."""
    old, new = (image([layer(name, 100)]) for name in ("old", "new"))
    with embedded.running(tmp_path) as server, regnb.connect(server.url, cache=False) as registry:
        fill(server.url, ("vm/a", "1", old), ("vm/a", "2", new))
        chosen = registry.inventory().tags
        fill(server.url, ("vm/a", "1", new))
        for make in (
            lambda: registry.plan_delete(chosen),
            lambda: registry.plan_retag(chosen, "{tag}-x"),
            lambda: registry.plan_copy(chosen, "vm/b"),
        ):
            with pytest.raises(Refused, match=f"vm/a:1 pointed to {old.digest.short} when it was chosen"):
                make()
        assert registry.plan_delete(chosen[["repository", "tag"]]).changes == 1
        assert registry.plan_retag(chosen[chosen["tag"] == "2"], "3").changes == 1

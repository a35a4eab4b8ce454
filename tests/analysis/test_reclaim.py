"""What a deletion gives back, and what is proposed, against sums that are made the plain way.

That the real garbage collection removes just this is proven in ``test_truth.py`` and ``test_damaged_storages.py``.
"""

from __future__ import annotations

import random
from hashlib import sha256

import httpx
import numpy as np
import pandas as pd
import pytest
from distribution import Distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Image, config, fill, image, index, layer
from stored import Stored

import regnb
from regnb.analysis.collectors import COLLECTIONS, bounds
from regnb.analysis.inventory import Inventory
from regnb.change.delete import plan_delete
from regnb.errors import InvalidArgument, InvalidReference, NotFound, Refused
from regnb.tables.frame import make

LAYERS = [layer(number, 100 * (number + 1)) for number in range(8)]


def dated(day: int, *layers: int) -> Image:
    """An image of some layers, made on a day of 2026."""
    return image([LAYERS[number] for number in layers], about=config(created=f"2026-01-{day:02d}T12:00:00Z", n=day))


def some(chance: random.Random) -> Stored:
    """Two repositories with images of a few layers and of a few days, some with several tags, and an index."""
    images = [dated(day, *chance.sample(range(8), chance.randint(1, 4))) for day in range(1, 9)]
    both = index([(one, "") for one in chance.sample(images, 2)])
    pushed = [(name, f"t{number}", chance.choice([*images, both])) for name in ("a", "b/c") for number in range(6)]
    return Stored(*pushed)


def needed(stored: Stored, inventory: Inventory, keep: set[tuple[str, str]]) -> set[bytes]:
    """The blobs behind some tags, and of every manifest that is behind none."""

    def behind(one: Image) -> set[bytes]:
        return {one.data, *one.blobs}.union(*(behind(child) for child in one.children))

    return set().union(*(behind(stored.held[name][stored.listed[name][tag]]) for name, tag in keep))


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_set_of_tags_frees_what_the_others_do_not_need(chance: random.Random) -> None:
    """Of any set: the bytes are those that no other tag leads to, and each blob that stays has a holder."""
    stored = some(chance)
    inventory = stored.inventory()
    rows = list(zip(inventory.tags["repository"], inventory.tags["tag"], strict=True))
    chosen = np.array([chance.random() < 0.4 for _ in rows])
    gone = {row for row, goes in zip(rows, chosen, strict=True) if goes}
    lost, kept = needed(stored, inventory, gone), needed(stored, inventory, set(rows) - gone)
    found = inventory.reclaim(chosen)
    assert found.size == sum(map(len, lost - kept))
    assert found.deleted == len(gone)
    table = found.table.set_index(["collection", "version"])["size"]
    assert table.iloc[:3].to_list() == [found.size] * 3, "and so without untagged ones, where there are none"
    assert table.iloc[3] >= found.size, "2.8 takes the children of indexes as well"
    goes = found.blobs[found.blobs["plain"]]
    assert goes["size"].sum() == found.size
    stays = found.stays
    assert set(stays["size"]) == {len(data) for data in lost & kept}
    assert not set(stays["digest"]) & set(goes["digest"])
    assert all(
        {f"{name}:{tag}" for tag in because.split(", ") if "…" not in tag} <= {f"{r}:{t}" for r, t in set(rows) - gone}
        for name, because in zip(stays["repository"], stays["because"], strict=True)
    )


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_proposal_frees_what_it_says_and_nothing_in_vain(chance: random.Random) -> None:
    """Reclaiming what is proposed gives its last total; the goal is met, or everything that may go is in it."""
    inventory = some(chance).inventory()
    goal = chance.randint(1, 2500)
    found = inventory.free(goal, keep=chance.randint(0, 2), protect=["a:t0"] if chance.random() < 0.5 else None)
    total = int(found["total"].iloc[-1]) if len(found) else 0
    assert inventory.reclaim(found).size == total == found["freed"].sum()
    everything = inventory.free(10**9, keep=0)
    assert total >= goal or total <= everything["freed"].sum()
    for digest in set(found["digest"]):
        rest = found[found["digest"] != digest]
        assert total < goal or inventory.reclaim(rest).size < goal, "each row is needed for the goal"
    assert not found.duplicated(["repository", "tag"]).any()


def test_the_oldest_and_least_shared_go_first() -> None:
    """Of old tags those go that free something; the newest, the protected and the undated ones stay."""
    undated = image([LAYERS[7]], about=config(created="", n=0))
    stored = Stored(
        ("a", "old", dated(1, 0)), ("a", "shared", dated(1, 1)), ("a", "mine", dated(2, 2)), ("a", "twin", dated(2, 2)),
        ("a", "new", dated(9, 1, 3)), ("a", "undated", undated), ("b", "only", dated(1, 5)),
    )  # fmt: skip
    inventory = stored.inventory()
    one = inventory.free(100)
    assert one["tag"].to_list() == ["old"]
    assert one["reason"].iloc[0] == "created 2026-01-01; 84% of it is needed by nothing else"
    more = inventory.free(10**6)
    assert more["tag"].to_list() == ["old", "mine", "twin", "shared"], (
        "all tags of a manifest, or none; b keeps its only one; a:new is built on a:shared, which comes last"
    )
    assert set(inventory.free(10**6, protect="a:twin")["tag"]) == {"old", "shared"}
    assert set(inventory.free(10**6, protect=inventory.tags["tag"] == "old", keep=0)["repository"]) == {"a", "b"}
    assert inventory.free(0).empty


@pytest.mark.parametrize("by", ["name", "subject"])
def test_what_a_protected_signature_speaks_of_stays(by: str) -> None:
    """A signature is deleted with its image: one that is protected keeps the image, behind an index as well."""
    old, new = dated(1, 0), dated(9, 1)
    both = index([(old, "linux/amd64")])
    about = {"subject": {"mediaType": old.media_type, "digest": old.digest, "size": 1}} if by == "subject" else {}
    signature = image([LAYERS[3]], about=b"{}", **about)
    tag = "sbom" if by == "subject" else f"{old.digest.replace(':', '-')}.sig"
    inventory = Stored(("a", "1", both), ("a", tag, signature), ("a", "2", new)).inventory()
    assert inventory.free("1kB")["tag"].to_list() == ["1"]
    assert inventory.reclaim("a:1").deleted == 2
    assert inventory.free("1kB", protect=f"a:{tag}").empty
    assert inventory.free("1kB", protect=f"a:{tag}", keep=0)["tag"].to_list() == ["2"]


def test_bytes_that_would_go_anyway_are_told_apart() -> None:
    """What no manifest needs is removed with or without the deletion, and is not counted for it."""
    inventory = Stored(("a", "1", dated(1, 0)), ("a", "2", dated(2, 1))).inventory()
    blobs = pd.concat(
        [inventory.blobs, inventory.blobs.iloc[:1].assign(digest=f"sha256:{'0' * 64}", kind="orphan", size=55)]
    )
    stored = Inventory("/srv", inventory.started, inventory.finished, inventory.frames | {"blobs": blobs}, "storage")
    nothing = stored.reclaim()
    assert nothing.table["size"].to_list() == [55] * 4
    assert nothing.table["bound"].to_list() == ["exact"] * 4
    assert nothing.size == 0
    assert nothing.deleted == nothing.removed == 0
    found = stored.reclaim(["a:1"])
    assert found.table["before"].to_list() == [55] * 4
    assert found.size == inventory.tags["size"][0]
    assert found.table["size"].iloc[0] == found.size + 55
    assert "55 B anyway" in repr(found)


def test_what_a_collection_cannot_do_is_said() -> None:
    """A corrupt link ends a collection: nothing would be removed, and the table names the link."""
    inventory = Stored(("a", "1", dated(1, 0))).inventory()
    for problem, fails in (
        ("corrupt revision", [True, True, True, True]),
        ("corrupt tag", [False, False, True, True]),
        ("no tags", [False, False, False, True]),
        ("no layers", [False, True, True, False]),
        ("corrupt layer link", [False, True, True, False]),
    ):
        row = {
            "repository": ["a"],
            "reference": ["x"],
            "problem": [problem],
            "message": ["m"],
            "hint": [""],
            "incomplete": [False],
        }
        tables = inventory.frames | {"problems": make("problems", row)}
        table = Inventory("/srv", inventory.started, inventory.finished, tables, "storage").reclaim("a:*").table
        assert [bound == "fails" for bound in table["bound"]] == fails
        assert table["size"][table["bound"] == "fails"].sum() == 0
        assert table["message"][table["bound"] == "fails"].str.contains(f"removes nothing: a x: {problem}: m").all()


@pytest.mark.parametrize(
    ("source", "complete", "checked", "words"),
    [
        ("storage", True, True, ["exact"] * 4),
        ("storage", False, True, ["estimate"] * 4),
        ("api", True, True, ["at most", "at most", "estimate", "at least"]),
        ("api", True, False, ["estimate"] * 4),
        ("api", False, True, ["estimate"] * 4),
    ],
)
def test_how_figures_are_meant(source: str, words: list[str], *, complete: bool, checked: bool) -> None:
    """Only a whole storage gives exact figures; over HTTP each has its direction, or none."""
    found = bounds(source, [], complete=complete, checked=checked)
    assert [bound.word for bound in found] == words
    assert len(found) == len(COLLECTIONS)


def test_repositories_that_were_not_read_may_need_the_rest(real: Distribution) -> None:
    """Where only some repositories are read, by name or glob, no figure is a lower bound: others may share layers."""
    one, other = image([layer("shared", 100), layer("own", 100)]), image([layer("shared", 100)])
    fill(real.url, ("team/app", "1", one), ("team/web", "1", other))
    with regnb.connect(real.url, cache=False) as registry:
        for names in (["team/app"], ["team/a*"]):
            part = registry.inventory(names, cached=False)
            table = part.reclaim("team/app:1").table
            assert table["bound"].to_list() == ["at most", "at most", "estimate", "estimate"]
            assert table["message"].str.contains("repositories that were not read may need some").all()
            assert "Others may share layers" in part.brief.verdict
            with pytest.raises(NotFound, match="in the repositories that were read"):
                part.reclaim("team/web:1")
        whole = registry.inventory(cached=False)
    assert whole.reclaim("team/app:1").table["bound"].to_list() == ["at most", "at most", "estimate", "at least"]
    assert whole.reclaim("team/app:1").table["size"].iloc[-1] < table["size"].iloc[-1]


def test_what_an_image_that_lacks_a_part_names_may_be_gone_as_well(real: Distribution) -> None:
    """Over HTTP nothing is promised to be freed where a part of an image is missing; from a storage it is known."""
    torn = image([layer("kept", 100)])
    fill(real.url, ("torn", "1", torn))
    with regnb.connect(real.url, cache=False) as registry:
        whole = registry.inventory(cached=False).reclaim().table
        part = f"sha256:{sha256(torn.blobs[0]).hexdigest()}"
        assert httpx.delete(f"{real.url}/v2/torn/blobs/{part}").status_code == 202
    with regnb.connect(real.url, cache=False) as registry:
        less = registry.inventory(cached=False).reclaim().table
    assert [whole["bound"].iloc[-1], less["bound"].iloc[-1]] == ["at least", "estimate"]
    assert less["bound"].iloc[0] == "at most"
    assert {bound.word for bound in bounds("storage", [], complete=True, checked=True, torn=True)} == {"exact"}


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (pd.Series([True]), InvalidArgument),
        (np.array([1, 0]), InvalidArgument),
        ("a:3", NotFound),
        ("a", InvalidArgument),
        ("A:1", InvalidReference),
        ("elsewhere:5000/a:1", InvalidReference),
        (pd.DataFrame({"tag": ["1"]}), InvalidArgument),
        (3, InvalidArgument),
    ],
)
def test_what_names_no_tags_is_refused(what: object, error: type[Exception]) -> None:
    """A mask of the wrong length or type, and what is not a tag of this registry, is an error that says so."""
    inventory = Stored(("a", "1", dated(1, 0)), ("a", "2", dated(2, 1))).inventory()
    with pytest.raises(error):
        inventory.reclaim(what)  # type: ignore[arg-type]


def test_tags_can_be_named_in_many_ways() -> None:
    """A mask, rows, references, globs and digests mean the same; an empty list means nothing."""
    inventory = Stored(("a", "1", dated(1, 0)), ("a", "2", dated(2, 1))).inventory()
    wanted = inventory.reclaim("a:1").size
    assert wanted
    digest = inventory.tags["digest"][0]
    for what in (
        inventory.tags["tag"] == "1", np.array([True, False]), inventory.tags.head(1), ["a:1"], "a:[1]",
        f"{inventory.registry}/a:1", f"a@{digest}",
    ):  # fmt: skip
        assert inventory.reclaim(what).size == wanted
    assert inventory.reclaim([]).size == inventory.reclaim(inventory.tags.head(0)).size == 0


def test_what_an_index_alone_names_makes_an_estimate() -> None:
    """A child that the repository lacks may still be on disk while its index names it: no upper bound is promised."""
    child, other = image([layer("child", 500)]), image([layer("other", 500)])
    stored = Stored(("app", "multi", index([(child, "linux/amd64")])), ("app", "1", other))
    stored.gone.add(("app", child.digest))
    inventory = stored.inventory()
    assert inventory.reclaim("app:1").table["bound"][0] == "at most"
    assert inventory.reclaim("app:multi").table["bound"][0] == "estimate"


def test_rows_of_an_older_inventory_are_refused() -> None:
    """A tag that was moved since its row was read does not mean what it points at now."""
    old = Stored(("a", "1", dated(1, 0))).inventory()
    new = Stored(("a", "1", dated(2, 1))).inventory()
    with pytest.raises(Refused, match=r"pointed to .* when it was chosen"):
        new.reclaim(old.tags)


def test_what_refers_to_a_proposed_manifest_counts() -> None:
    """The bytes of a signature that goes with its image are in the proposal, as they are in the plan."""
    old = dated(1, 0)
    signature = image([LAYERS[6]], about=config(created="2026-01-01T12:00:00Z", n="s"))
    tag = f"{old.digest.replace(':', '-')}.sig"
    inventory = Stored(("a", "1", old), ("a", tag, signature), ("a", "2", dated(9, 1))).inventory()
    found = inventory.free(10**6)
    assert found["tag"].to_list() == ["1"]
    total = int(found["total"].iloc[-1])
    assert total == inventory.reclaim("a:1").size > inventory.reclaim("a:1", referrers=False).size
    plan = plan_delete(inventory, found, url=f"http://{inventory.registry}", authorized=False)
    assert plan.freed == total


@pytest.mark.parametrize("goal", ["lots", "5 bananas", "-1", ""])
def test_a_goal_that_is_no_size_is_refused(goal: str) -> None:
    """What is not a number of bytes is an error that shows how to write one."""
    with pytest.raises(InvalidArgument, match="is not a valid size") as raised:
        Stored(("a", "1", dated(1, 0))).inventory().free(goal)
    assert "500GB" in raised.value.hint


def test_nothing_can_be_reclaimed_from_nothing() -> None:
    """An empty registry has empty answers, not errors."""
    inventory = Stored().inventory()
    found = inventory.reclaim()
    assert found.table["size"].to_list() == [0] * 4
    assert found.blobs.empty
    assert found.stays.empty
    assert inventory.free("1GB").empty
    assert "0 B" in found._repr_html_()

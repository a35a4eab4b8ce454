"""What changed between two readings, against plain sets of what was pushed; and a mirror against its origin."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from distribution import Distribution
from images import Image, ask, config, fill, image, index, layer
from stored import Stored

import regnb
from regnb.analysis.difference import compare, diff, gaps
from regnb.analysis.inventory import Inventory
from regnb.analysis.storage import open_storage
from regnb.errors import InvalidArgument
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import Frame
from regnb.text import human
from regnb.wire.client import Client

BASE = layer("base", 5000)
IMAGES = [image([BASE, layer(number, 101 + number)], about=config(number=number)) for number in range(6)]

Push = tuple[str, str, Image]


def rows(frame: Frame, *columns: str) -> list[tuple[object, ...]]:
    return list(frame[list(columns)].itertuples(index=False, name=None))


def own(number: int) -> int:
    """The bytes of an image that no other has."""
    return IMAGES[number].size - len(BASE)


def test_new_moved_and_vanished_tags_have_their_bytes() -> None:
    """Each change is a row with both digests and the bytes it brought or took; what others still need is not freed."""
    first = Stored(("app", "1", IMAGES[0]), ("app", "2", IMAGES[1]), ("lib", "1", IMAGES[1]), ("lib", "old", IMAGES[2]))
    second = Stored(("app", "1", IMAGES[3]), ("lib", "1", IMAGES[1]), ("lib", "2", IMAGES[4]))
    found = diff(first.inventory(), second.inventory())
    assert list(found.tags) == list(COLUMNS["changed_tags"])
    assert rows(found.tags.fillna("-"), *COLUMNS["changed_tags"]) == [
        ("moved", "app", "1", IMAGES[0].digest, IMAGES[3].digest, own(3), own(0)),
        ("vanished", "app", "2", IMAGES[1].digest, "-", 0, 0),
        ("new", "lib", "2", "-", IMAGES[4].digest, own(4), 0),
        ("vanished", "lib", "old", IMAGES[2].digest, "-", 0, own(2)),
    ]
    assert rows(found.repositories, *COLUMNS["changed_repositories"]) == [
        ("app", 0, 1, 1, 0, own(3), own(0), "1 moved tag, 1 vanished tag"),
        ("lib", 1, 0, 1, 0, own(4), own(2), "1 new tag, 1 vanished tag"),
    ]
    assert (found.gained, found.freed) == (own(3) + own(4), own(0) + own(2))
    assert found.drift
    assert found.notes == ()
    sizes = f"bytes: {human(found.gained)} gained, {human(found.freed)} freed."
    assert found.summary().endswith(f": tags: 1 new, 1 moved, 2 vanished; {sizes}")
    assert "1 new tag, 1 vanished tag" in found._repr_html_()


def test_equal_inventories_do_not_differ(tmp_path: Path) -> None:
    """Two readings of the same content have no rows and no drift, given as inventories or as snapshots."""
    registry = Stored(("app", "1", IMAGES[0]), ("app", "2", IMAGES[1]))
    urls = [registry.inventory().save(tmp_path) for _ in range(2)]
    found = diff(urls[0], Path(urls[1]))
    assert len(found.tags) == len(found.repositories) == found.gained == found.freed == 0
    assert not found.drift
    assert not diff(Stored().inventory(), Stored().inventory()).drift


def test_a_folder_alone_is_its_last_two_snapshots(tmp_path: Path) -> None:
    """The newest of a registry and the one before it; with fewer, or one inventory, there is nothing to compare."""
    one, two = Stored(("app", "1", IMAGES[0])), Stored(("app", "1", IMAGES[0]), ("app", "2", IMAGES[1]))
    for lacking in (tmp_path, one.inventory()):
        with pytest.raises(InvalidArgument) as error:
            diff(lacking)
        assert error.value.hint
    for registry in (two, one, two):
        registry.inventory().save(tmp_path)
    assert rows(diff(tmp_path).tags, "change", "tag") == [("new", "2")]
    with pytest.raises(InvalidArgument):
        diff(tmp_path, registry="other:5000")


def test_a_new_tag_is_no_drift() -> None:
    """What was only added has not drifted."""
    found = diff(
        Stored(("app", "1", IMAGES[0])).inventory(), Stored(*[("app", "12"[n], IMAGES[n]) for n in (0, 1)]).inventory()
    )
    assert found.tags["change"].to_list() == ["new"]
    assert not found.drift


def test_a_blob_is_divided_by_the_tags_that_lead_to_it() -> None:
    """Three new tags share a new layer of 10 bytes: the odd byte is not lost."""
    shared = layer("shared", 10)
    three = [image([shared], about=config(number=number)) for number in range(3)]
    found = diff(Stored().inventory(), Stored(*[("app", str(n), one) for n, one in enumerate(three)]).inventory())
    rest = [one.size - 10 for one in three]
    assert [gained - more for gained, more in zip(found.tags["gained"], rest, strict=True)] == [4, 3, 3]
    assert found.gained == sum(rest) + 10


def bytes_of(pushed: list[Push]) -> set[bytes]:
    return {data for _, _, what in pushed for data in what.everything()}


@pytest.mark.parametrize("seed", range(8))
def test_any_two_registries_reconcile_with_plain_sets(seed: int) -> None:
    """The totals are those of sets of bytes, and the rows of tags and of repositories add up to them exactly."""
    chance = random.Random(seed)  # noqa: S311 -- the same each time
    pool = [layer((seed, number), chance.randint(1, 99)) for number in range(12)]
    images = [image(chance.choices(pool, k=3), about=config(number=number)) for number in range(12)]
    images += [index([(one, f"linux/{n}") for n, one in enumerate(chance.sample(images, 2))]) for _ in range(4)]
    names = [(repository, tag) for repository in ("a", "b", "c/d") for tag in ("1", "2", "3", "4")]

    def some() -> list[Push]:
        return [(*name, chance.choice(images)) for name in chance.sample(names, 8)]

    first, second = some(), some()
    found = diff(Stored(*first).inventory(), Stored(*second).inventory())
    before, after = bytes_of(first), bytes_of(second)
    assert (
        found.gained
        == sum(map(len, after - before))
        == found.repositories["gained"].sum()
        == found.tags["gained"].sum()
    )
    assert (
        found.freed == sum(map(len, before - after)) == found.repositories["freed"].sum() == found.tags["freed"].sum()
    )
    old, new = ({(repository, tag): what.digest for repository, tag, what in pushed} for pushed in (first, second))
    expected = [
        ("new" if name not in old else "vanished" if name not in new else "moved", *name)
        for name in names
        if old.get(name) != new.get(name)
    ]
    assert rows(found.tags, "change", "repository", "tag") == expected


def test_a_real_registry_reconciles_with_its_disk(real: Distribution) -> None:
    """Of what was pushed, deleted and collected, the bytes gained and freed are those of the disk, orphans included."""
    fill(real.url, ("app", "1", IMAGES[0]), ("app", "2", IMAGES[1]), ("lib", IMAGES[5].digest, IMAGES[5]))
    before, first = real.stored(), open_storage(real.root).inventory()
    fill(real.url, ("app", "1", IMAGES[2]), ("lib", "3", IMAGES[3]))

    async def delete(client: Client) -> None:
        await client.delete_manifest("app", IMAGES[1].digest)

    ask(real.url, delete)
    orphaned = open_storage(real.root).inventory()
    found = diff(first, orphaned)
    assert (found.gained, found.freed) == (real.stored() - before, 0)
    real.stop()
    real.garbage_collect("--delete-untagged")
    found = diff(first, open_storage(real.root).inventory())
    assert found.gained - found.freed == real.stored() - before
    assert (found.gained, found.freed) == (own(2) + own(3), own(0) + own(1) + own(5))
    assert rows(found.repositories, "repository", "gained", "freed") == [
        ("app", own(2), own(0) + own(1)),
        ("lib", own(3), own(5)),
    ]
    assert "manifests that no changed tag leads to" in found.repositories["cause"][1]
    collected = diff(orphaned, open_storage(real.root).inventory())
    assert rows(collected.repositories, "repository", "freed") == [
        ("", own(1)),
        ("app", own(0)),
        ("lib", own(5)),
    ]
    assert collected.freed == own(0) + own(1) + own(5)


def test_tags_that_can_no_longer_be_pulled_are_drift() -> None:
    """A tag that stays where it was, and whose child or manifest is gone, is broken; its bytes are freed."""
    both = index([(IMAGES[0], "linux/amd64"), (IMAGES[1], "linux/arm64")])
    pushes = [("app", "multi", both), ("app", "gone", IMAGES[2]), ("lib", "1", IMAGES[3])]
    before, after = Stored(*pushes), Stored(*pushes)
    after.gone |= {("app", IMAGES[1].digest), ("app", "gone")}
    first, second = before.inventory(), after.inventory()
    found = diff(first, second)
    assert rows(found.tags, "change", "tag", "freed") == [("broken", "gone", own(2)), ("broken", "multi", own(1))]
    assert rows(found.repositories, "repository", "broken") == [("app", 2)]
    assert (found.drift, found.freed, found.notes) == (True, own(1) + own(2), ())
    assert "0 vanished, 2 broken" in found.summary()
    assert not diff(second, second).drift


def test_what_a_collection_destroys_is_freed_to_the_byte(real: Distribution) -> None:
    """2.8's --delete-untagged takes the children of a tagged index: the tag is broken, and the bytes are the disk's."""
    both = index([(IMAGES[0], "linux/amd64"), (IMAGES[1], "linux/arm64")])
    fill(real.url, ("app", "multi", both), ("app", "1", IMAGES[2]))

    def read() -> Inventory:
        with regnb.connect(real.url, cache=False) as registry:
            return registry.inventory(progress=False)

    before, first = real.stored(), read()
    real.stop()
    real.garbage_collect("--delete-untagged")
    real.start()
    found = diff(first, read())
    assert rows(found.tags, "change", "tag") == [("broken", "multi")]
    # The index still names its children, whose manifests stay on disk for as long.
    assert found.freed == before - real.stored() + sum(len(IMAGES[number].data) for number in (0, 1))


def test_the_api_and_the_storage_differ_in_nothing_that_tags_lead_to(real: Distribution) -> None:
    """Between the two kinds of reading, what only a storage shows is neither gained nor freed, and a note says so."""
    fill(real.url, ("app", "1", IMAGES[0]), ("app", IMAGES[1].digest, IMAGES[1]))
    with regnb.connect(real.url, cache=False) as registry:
        api = registry.inventory(progress=False)
    for found in (diff(api, open_storage(real.root).inventory()), diff(open_storage(real.root).inventory(), api)):
        assert (found.gained, found.freed, len(found.tags), len(found.repositories)) == (0, 0, 0, 0)
        assert any("read from the storage" in note or "from the storage" in note for note in found.notes)


def test_what_could_not_be_read_has_not_vanished() -> None:
    """A repository that fails and a tag that fails are left out, bytes included, and counted; the rest is compared."""
    pushes = [("app", "1", IMAGES[0]), ("app", "2", IMAGES[1]), ("lib", "1", IMAGES[2]), ("web", "1", IMAGES[3])]
    whole = Stored(*pushes).inventory()
    broken = Stored(*pushes[:3], ("web", "1", IMAGES[4]))
    broken.broken |= {("app", "2"), ("lib", "")}
    partly = broken.inventory(["app", "lib", "web"])
    found = diff(whole, partly)
    assert rows(found.tags, "change", "repository", "tag", "gained", "freed") == [("moved", "web", "1", own(4), own(3))]
    assert (found.gained, found.freed) == (own(4), own(3))
    assert [note.partition(":")[0] for note in found.notes] == [
        "The second is incomplete",
        "1 tag of repositories that only one of them could read",
        "1 tag whose digest only one of them could read, or neither",
    ]
    back = diff(partly, whole)
    assert rows(back.tags, "change", "repository") == [("moved", "web")]
    assert (back.gained, back.freed) == (own(3), own(4))


def test_what_was_not_asked_for_has_not_vanished() -> None:
    """An inventory of some repositories is compared with a whole one in these alone."""
    registry = Stored(("app", "1", IMAGES[0]), ("lib", "1", IMAGES[1]))
    found = diff(registry.inventory(), registry.inventory(["app"]))
    assert (len(found.tags), found.freed) == (0, 0)
    assert any("1 tag of repositories" in note for note in found.notes)


def test_an_interrupted_reading_loses_nothing() -> None:
    """Where the second reading did not end, no tag has vanished and no byte is freed."""
    second = Stored(("app", "1", IMAGES[0])).inventory()
    second.finished = None
    found = diff(Stored(("app", "1", IMAGES[0]), ("app", "2", IMAGES[1])).inventory(), second)
    assert (len(found.tags), found.freed) == (0, 0)
    assert any("second is incomplete" in note for note in found.notes)


def test_a_clock_that_goes_backwards_is_noted() -> None:
    """The order is as it was given; that the second is older is said."""
    first, second = Stored(("app", "1", IMAGES[0])).inventory(), Stored(("app", "1", IMAGES[1])).inventory()
    second.started = first.started - timedelta(days=1)
    found = diff(first, second)
    assert found.tags["after"].to_list() == [IMAGES[1].digest]
    assert found.notes == ("The second was read before the first.",)


def test_different_registries_are_for_compare() -> None:
    """A mirror is not a later state of its origin: the error names what compares them."""
    other = Stored().inventory()
    other.registry = "mirror:5000"
    with pytest.raises(InvalidArgument, match=r"stored:5000 and mirror:5000; to compare a mirror"):
        diff(Stored().inventory(), other)


def mirrored() -> tuple[Inventory, Inventory]:
    origin = Stored(*[("app", str(number), IMAGES[number]) for number in range(4)], ("lib", "1", IMAGES[4]))
    mirror = Stored(
        ("m/app", "0", IMAGES[0]), ("m/app", "1", IMAGES[5]), ("m/app", "3", IMAGES[3]), ("m/app", "9", IMAGES[3]),
        ("other", "1", IMAGES[4]),
    )  # fmt: skip
    mirror.broken.add(("m/app", "3"))
    found = mirror.inventory()
    found.registry = "mirror:5000"
    return origin.inventory(), found


def test_a_mirror_below_a_prefix_is_compared() -> None:
    """Each tag has a state, the differences first; what the mirror has outside the prefix is not looked at."""
    found = compare(*mirrored(), prefix="m/")
    assert list(found) == list(COLUMNS["comparison"])
    one = [each.digest for each in IMAGES]
    assert rows(found.fillna("-"), *COLUMNS["comparison"]) == [
        ("missing", "app", "2", one[2], "-", IMAGES[2].size),
        ("missing", "lib", "1", one[4], "-", IMAGES[4].size),
        ("extra", "m/app", "9", "-", one[3], IMAGES[3].size),
        ("drifted", "app", "1", one[1], one[5], IMAGES[1].size),
        ("unread", "app", "3", one[3], "-", IMAGES[3].size),
        ("same", "app", "0", one[0], one[0], IMAGES[0].size),
    ]


def test_without_a_prefix_names_are_compared_as_they_are(tmp_path: Path) -> None:
    """Snapshots can be compared, too; what only one side could read is unread and neither missing nor extra."""
    origin, mirror = (each.save(tmp_path) for each in mirrored())
    assert compare(origin, mirror)["state"].value_counts().to_dict() == {"missing": 5, "extra": 5}
    registry = Stored(("app", "1", IMAGES[0]), ("lib", "1", IMAGES[1]))
    for found in (
        compare(registry.inventory(), registry.inventory(["app"])),
        compare(registry.inventory(["app"]), registry.inventory()),
    ):
        assert rows(found, "state", "repository") == [("unread", "lib"), ("same", "app")]


@pytest.mark.parametrize(
    ("names", "states", "unknown"),
    [
        (["app", "lib"], [("missing", "lib"), ("same", "app")], ""),
        (["app", "new"], [("extra", "new"), ("same", "app")], ""),
        (["[ln]*"], [("missing", "lib"), ("extra", "new")], ""),
        (["l*", "app"], [("missing", "lib"), ("same", "app")], ""),
        (["app", "typo"], [("same", "app")], "typo"),
        (["typo*"], [], "typo*"),
    ],
)
def test_a_named_repository_that_one_side_lacks_is_missing_there(
    names: list[str], states: list[tuple[str, str]], unknown: str
) -> None:
    """As without names: missing or extra, by name and by glob; what neither side has is named."""
    one = Stored(("app", "1", IMAGES[0]), ("lib", "1", IMAGES[1])).inventory(names)
    two = Stored(("app", "1", IMAGES[0]), ("new", "1", IMAGES[1])).inventory(names)
    assert rows(compare(one, two), "state", "repository") == states
    assert gaps(one, two) == ([f"Neither of them has {unknown}."] if unknown else [])


def test_a_named_repository_that_cannot_be_read_stays_unread() -> None:
    """What answers 500 may have it: the tags are unread, and that side is incomplete."""
    one, mirror = (Stored(("app", "1", IMAGES[0]), ("lib", "1", IMAGES[1])) for _ in range(2))
    mirror.broken.add(("lib", ""))
    here, there = one.inventory(["app", "lib"]), mirror.inventory(["app", "lib"])
    assert rows(compare(here, there), "state", "repository") == [("unread", "lib"), ("same", "app")]
    assert gaps(here, there) == ["Incomplete: not everything in stored:5000 could be read."]

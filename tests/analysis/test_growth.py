"""Snapshots over time, and the forecast against growth whose law is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from images import config, image, layer
from stored import Stored

from regnb.analysis.growth import Forecast, Growth, growth
from regnb.analysis.inventory import Inventory
from regnb.errors import InvalidArgument, StorageError
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import make

START = datetime(2026, 3, 1, tzinfo=UTC)
IMAGES = [image([layer(number, 100)], about=config(number=number)) for number in range(4)]


def at(day: float, *tags: tuple[str, int]) -> Inventory:
    """An inventory of that day, with these tags."""
    found = Stored(*[("app", tag, IMAGES[number]) for tag, number in tags]).inventory()
    found.started = START + timedelta(days=day)
    found.finished = found.started + timedelta(minutes=1)
    return found


def weeks() -> list[Inventory]:
    return [
        at(0, ("1", 0)),
        at(7, ("1", 0), ("2", 1)),
        at(14, ("1", 2), ("3", 3)),
    ]


def sized(
    points: Iterable[tuple[float, int]],
    disk: Iterable[int | None] = (),
    collected: Iterable[int] = (),
    complete: Iterable[bool] = (),
) -> Growth:
    """Growth by days and bytes."""
    days, stored = zip(*points, strict=True) if points else ((), ())
    rest = dict.fromkeys(("pulled", "tags", "new", "moved", "vanished"), [0] * len(days))
    columns = {
        "when": [START + timedelta(days=day) for day in days],
        "stored": stored,
        "disk": list(disk) or [None] * len(days),
        "collected": list(collected) or [0] * len(days),
        "complete": list(complete) or [True] * len(days),
        **rest,
    }
    return Growth("host:5000", make("growth", columns))


def test_each_snapshot_is_a_row_with_what_changed(tmp_path: Path) -> None:
    """Snapshots below a URL, in any order, and inventories give the same rows; before the first nothing is known."""
    inventories = weeks()
    urls = [one.save(tmp_path) for one in reversed(inventories)]
    found = growth(tmp_path)
    assert list(found.frame) == list(COLUMNS["growth"])
    assert found.frame["when"].to_list() == [one.started for one in inventories]
    assert found.frame["stored"].to_list() == [one.summary.stored for one in inventories]
    assert found.frame["pulled"].to_list() == [one.summary.pulled for one in inventories]
    assert found.frame[["tags", "new", "moved", "vanished"]].fillna(-1).to_numpy().tolist() == [
        [1, -1, -1, -1], [2, 1, 0, 0], [2, 1, 1, 1],
    ]  # fmt: skip
    assert found.frame["complete"].all()
    assert found.registry == "stored:5000"
    assert found.notes == ()
    for other in (growth(inventories[::-1]), growth([urls[1], Path(urls[2]), inventories[2]])):
        assert other.frame.equals(found.frame)
    assert "3 snapshots" in found._repr_html_()


def test_of_several_registries_one_is_named(tmp_path: Path) -> None:
    """Two registries below one URL are never mixed: the error names the parameter and what there is."""
    other = at(3, ("1", 0))
    other.registry = "other:5000"
    for one in (*weeks(), other):
        one.save(tmp_path)
    with pytest.raises(InvalidArgument, match="other:5000, stored:5000; name one: --registry other:5000"):
        growth(tmp_path)
    assert len(growth(tmp_path, registry="stored:5000").frame) == 3
    assert growth(tmp_path, registry="other:5000").registry == "other:5000"
    with pytest.raises(InvalidArgument, match="no snapshot of 'third:5000'; choose from: other:5000"):
        growth(tmp_path, registry="third:5000")


def test_broken_snapshots_are_left_out_and_said(tmp_path: Path) -> None:
    """One without its header and one without its tags are left out; the neighbours of the gap are compared."""
    urls = [one.save(tmp_path) for one in (*weeks(), at(21, ("1", 2)))]
    (Path(urls[1]) / "snapshot.json").unlink()
    (Path(urls[2]) / "tags.parquet").write_bytes(b"PAR1")
    found = growth(tmp_path)
    assert found.frame[["tags", "new", "moved", "vanished"]].fillna(-1).to_numpy().tolist() == [
        [1, -1, -1, -1], [1, 0, 1, 0],
    ]  # fmt: skip
    assert found.notes == ("2 snapshots left out: not readable.",)
    with pytest.raises(StorageError, match="was cut short"):
        growth([urls[0], urls[1]])


def test_incomplete_snapshots_are_said() -> None:
    """A lower bound is not passed off as a size."""
    registry = Stored(("app", "1", IMAGES[0]))
    registry.broken.add(("app", "1"))
    found = growth([registry.inventory()])
    assert found.frame["complete"].to_list() == [False]
    assert found.notes == ("1 snapshot incomplete: bytes may be too low.",)


def test_nothing_yet_is_no_error(tmp_path: Path) -> None:
    """A folder without snapshots has no rows, and its forecast is not known."""
    found = growth(tmp_path)
    assert len(found.frame) == 0
    assert found.forecast("1TB").days is None


def test_sums_beyond_64_bits_do_not_fail(tmp_path: Path) -> None:
    """The largest number that a column can hold stands for what it cannot."""
    path = Path(at(0, ("1", 0)).save(tmp_path)) / "snapshot.json"
    header = json.loads(path.read_text("utf-8"))
    header["summary"]["pulled"] = 2**80
    path.write_text(json.dumps(header), "utf-8")
    assert growth(tmp_path).frame["pulled"].to_list() == [2**63 - 1]


def daily(sizes: Iterable[float], **more: Iterable[int]) -> Growth:
    """Growth by the bytes of each day, which storage snapshots saw."""
    whole = [round(size) for size in sizes]
    return sized(list(enumerate(whole)), whole, **more)


def walk(days: int, seed: int = 1, mean: float = 1000, spread: float = 800, first: float = 100_000) -> list[float]:
    """A random walk's sizes."""
    chance, sizes = random.Random(seed), [first]  # noqa: S311 -- the same each time
    for _ in range(days):
        sizes.append(sizes[-1] + chance.gauss(mean, spread))
    return sizes


def bounds(found: Forecast) -> tuple[float, float, float]:
    assert found.earliest is not None
    assert found.days is not None
    assert found.latest is not None
    assert found.earliest <= found.days <= found.latest
    return found.earliest, found.days, found.latest


def test_a_straight_line_is_exact() -> None:
    """Without any variation the bounds are the expectation: 10 bytes a day, 600 bytes left, sixty days."""
    found = daily(1000 + 10 * day for day in range(60)).forecast(2190)
    assert bounds(found) == pytest.approx((60, 60, 60), rel=0.03)
    assert found.text.startswith("full in about 6")
    assert str(found) == found.text


def test_compound_growth_is_seen() -> None:
    """What grows by one percent a day doubles in seventy days, and not in the hundred of a straight line."""
    sizes = [1e9 * 1.01**day for day in range(60)]
    assert bounds(daily(sizes).forecast(2 * sizes[-1])) == pytest.approx((69.7, 69.7, 69.7), rel=0.03)


def test_days_count_from_now() -> None:
    """Days that went by since the last snapshot are taken off; a clock that is behind it takes off nothing."""
    growing = daily(1000 + 10 * day for day in range(60))
    last = START + timedelta(days=59)
    assert growing.forecast(2190, now=last + timedelta(days=5)).days == pytest.approx(55, rel=0.03)
    assert growing.forecast(2190, now=last + timedelta(days=500)).days == 0
    assert growing.forecast(2190, now=last - timedelta(days=50)).days == pytest.approx(60, rel=0.03)


def test_what_is_full_is_full() -> None:
    """At or over its capacity a registry has 0 days, however few snapshots there are."""
    for capacity in (30, 20, "20B"):
        found = sized([(0, 10), (1, 30)]).forecast(capacity)
        assert (found.days, found.earliest, found.latest) == (0, 0, 0)
        assert found.text.startswith("full: 30 B of")


@pytest.mark.parametrize("days", [(), (0,), (0, 1, 2), range(28), (0, 0, 30, 30, 60, 60), range(0, 60, 20)])
def test_too_little_is_not_known(days: Sequence[float]) -> None:
    """Less than four weeks, or four steps of whatever length, say nothing about how growth varies."""
    found = sized([(day, 10 + number) for number, day in enumerate(days)]).forecast("1GB")
    assert (found.days, found.earliest, found.latest) == (None, None, None)
    assert found.text.startswith("not known: a forecast needs snapshots of 5 times over 4 weeks")
    assert sized([(day, 10 + day) for day in range(29)]).forecast("1GB").days is not None


def test_clocks_that_go_backwards_are_put_in_order() -> None:
    """Rows out of order, and two of one moment, of which the last counts, give the forecast of the ordered ones."""
    rows = list(enumerate(map(round, walk(60))))
    expected = sized(rows).forecast(200_000)
    mixed = rows[::-1]
    mixed.insert(mixed.index(rows[30]), (30, 5))
    assert sized(mixed).forecast(200_000) == expected


def test_what_does_not_grow_is_never_full() -> None:
    """Flat and falling sizes have no end in sight; where they vary, the earliest day is said all the same."""
    for step in (0, -10):
        found = daily(5000 + step * day for day in range(60)).forecast(10_000)
        assert bounds(found) == (math.inf, math.inf, math.inf)
        assert (
            found.text
            == "not full in the next 1,180 days; these snapshots cover too short a time for a longer forecast"
        )
    found = daily(walk(60, mean=0)).forecast(105_000)
    assert bounds(found)[2] == math.inf
    assert bounds(found)[0] < 60


def test_the_right_figure_counts() -> None:
    """Of storage snapshots the disk fills the capacity; of what was read over HTTP the date is an upper bound."""
    sizes = [1000 + 10 * day for day in range(60)]
    rows = list(enumerate(sizes))
    disk = sized(rows, [2 * size for size in sizes]).forecast(4380)
    assert disk.days == pytest.approx(60, rel=0.03)
    assert "upper bound" not in disk.text
    api = sized(rows).forecast(2190)
    assert api.days == pytest.approx(60, rel=0.03)
    assert api.text.startswith("full in about")
    assert "upper bound: over HTTP" in api.text
    # A storage that was first read over HTTP is judged by the snapshots of its disk alone.
    mixed = sized([*((day - 30, 5) for day in range(30)), *rows], [None] * 30 + [2 * size for size in sizes])
    assert mixed.forecast(4380) == disk


def test_a_snapshot_with_gaps_is_no_collection() -> None:
    """Bytes that an incomplete snapshot did not see were not collected: it is left out."""
    sizes = [1000 + 10 * day for day in range(60)]
    broken = [size // 3 if day == 40 else size for day, size in enumerate(sizes)]
    found = sized(list(enumerate(broken)), broken, complete=[day != 40 for day in range(60)]).forecast(2190)
    assert found == sized([each for each in enumerate(sizes) if each[0] != 40], [*sizes[:40], *sizes[41:]]).forecast(
        2190
    )


def collecting(days: int, every: int, share: float) -> tuple[list[float], list[int]]:
    """A walk from which a share of what was pushed goes every so many days: sizes, and what went."""
    pushed, gone, total = walk(days), [0] * (days + 1), 0.0
    sizes = []
    for day, size in enumerate(pushed):
        if day and day % every == 0:
            gone[day] = round(share * (size - pushed[day - every]))
            total += gone[day]
        sizes.append(size - total)
    return sizes, gone


def test_pushes_and_collections_are_apart() -> None:
    """What is collected slows nothing that is pushed; if it goes on, the disk is full much later, and both are said."""
    sizes, gone = collecting(69, every=10, share=0.5)
    found = daily(sizes, collected=gone).forecast(sizes[-1] + 60_000)
    assert bounds(found)[0] < 60 < bounds(found)[2] < 110
    assert found.going_on is not None
    assert found.going_on.earliest < 120 < found.going_on.latest
    assert found.going_on.days > bounds(found)[2]
    assert found.text.startswith("if nothing is collected: full in about")
    assert "If collections go on as before (6 collections so far): full in about" in found.text


def test_few_collections_tell_nothing_of_those_to_come() -> None:
    """After two collections only that is said which needs none of them."""
    sizes, gone = collecting(59, every=25, share=0.5)
    found = daily(sizes, collected=gone).forecast(sizes[-1] + 60_000)
    assert found.going_on is None
    assert bounds(found)[1] == pytest.approx(60, rel=0.4)
    assert found.text.endswith("If collections go on as before (2 collections so far): not known; it takes 6")


def test_what_goes_every_day_is_no_event() -> None:
    """Where nearly every snapshot lost something, as `latest` moves each day, the net growth goes on."""
    sizes, gone = collecting(69, every=1, share=0.75)
    found = daily(sizes, collected=[max(0, each) for each in gone]).forecast(sizes[-1] + 15_000)
    assert found.going_on is not None
    assert found.going_on.earliest < 60 < found.going_on.latest
    assert found.going_on.days > 2 * bounds(found)[1]


def test_collections_are_seen_by_blobs(tmp_path: Path) -> None:
    """What the last complete snapshot had and this one has not was collected, whatever was pushed meanwhile."""
    inventories = weeks()
    for one in inventories:
        one.save(tmp_path)
    gone = set(inventories[1].blobs["digest"]) - set(inventories[2].blobs["digest"])
    sizes = inventories[1].blobs.set_index("digest")["size"]
    assert gone
    assert growth(tmp_path).frame["collected"].fillna(-1).to_list() == [-1, 0, sizes[list(gone)].sum()]
    registry = Stored(("app", "1", IMAGES[0]), ("app", "2", IMAGES[1]))
    registry.broken.add(("app", "2"))
    gap = registry.inventory()
    gap.started = START + timedelta(days=10)
    found = growth([*inventories, gap]).frame
    assert found["complete"].to_list() == [True, True, False, True]
    assert found["collected"].fillna(-1).to_list() == [-1, 0, -1, sizes[list(gone)].sum()]


def test_a_size_beyond_every_date_is_said_without_one() -> None:
    """A disk that takes thousands of years to fill has no date, and no error."""
    found = daily(range(1, 61)).forecast("500PB")
    assert found.days == math.inf
    assert "(" not in found.text


def test_a_capacity_that_is_none_is_refused() -> None:
    """A text that is not a size is an error that shows how one is written."""
    with pytest.raises(InvalidArgument, match="is not a valid size"):
        sized([(0, 1)]).forecast("plenty")


def test_the_bounds_hold_as_often_as_they_say() -> None:
    """Of 100 registries that grow by chance at a known mean, about 95 % fill within their forecast's bounds."""
    held = 0
    for seed in range(100):
        sizes = walk(59 + 400, seed)
        full = next(day for day in range(400) if sizes[59 + day] >= sizes[59] + 45_000)
        earliest, _, latest = bounds(daily(sizes[:60]).forecast(round(sizes[59]) + 45_000))
        held += earliest <= full and full - 1 <= latest
    assert 89 <= held <= 100

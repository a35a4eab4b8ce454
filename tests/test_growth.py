"""Snapshots over time, and the forecast against growth whose law is known."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from images import config, image, layer
from stored import Stored

from regnb.analysis.growth import Growth, growth
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


def sized(points: Iterable[tuple[float, int]], disk: Iterable[int] = ()) -> Growth:
    """Growth by days and bytes."""
    days, stored = zip(*points, strict=True) if points else ((), ())
    rest = dict.fromkeys(("pulled", "tags", "new", "moved", "vanished"), [0] * len(days))
    columns = {
        "when": [START + timedelta(days=day) for day in days],
        "stored": stored,
        "disk": list(disk) or [0] * len(days),
        "complete": [True] * len(days),
        **rest,
    }
    return Growth("host:5000", make("growth", columns))


def test_each_snapshot_is_a_row_with_what_changed(tmp_path: Path) -> None:
    """Snapshots below a URL, in whatever order they were saved, and inventories give the same rows."""
    inventories = weeks()
    urls = [one.save(tmp_path) for one in reversed(inventories)]
    found = growth(tmp_path)
    assert list(found.frame) == list(COLUMNS["growth"])
    assert found.frame["when"].to_list() == [one.started for one in inventories]
    assert found.frame["stored"].to_list() == [one.summary.stored for one in inventories]
    assert found.frame["pulled"].to_list() == [one.summary.pulled for one in inventories]
    assert found.frame[["tags", "new", "moved", "vanished"]].to_numpy().tolist() == [
        [1, 0, 0, 0], [2, 1, 0, 0], [2, 1, 1, 1],
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
    with pytest.raises(InvalidArgument, match="other:5000, stored:5000; name one: registry='other:5000'"):
        growth(tmp_path)
    assert len(growth(tmp_path, registry="stored:5000").frame) == 3
    assert growth(tmp_path, registry="other:5000").registry == "other:5000"
    with pytest.raises(InvalidArgument, match="no snapshot of 'third:5000'; there is: other:5000"):
        growth(tmp_path, registry="third:5000")


def test_broken_snapshots_are_left_out_and_said(tmp_path: Path) -> None:
    """One without its header and one without its tags are left out; the neighbours of the gap are compared."""
    urls = [one.save(tmp_path) for one in (*weeks(), at(21, ("1", 2)))]
    (Path(urls[1]) / "snapshot.json").unlink()
    (Path(urls[2]) / "tags.parquet").write_bytes(b"PAR1")
    found = growth(tmp_path)
    assert found.frame[["tags", "new", "moved", "vanished"]].to_numpy().tolist() == [[1, 0, 0, 0], [1, 0, 1, 0]]
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


def test_a_straight_line_is_exact() -> None:
    """Without any variation the bounds are the expectation: 10 bytes a day, 60 bytes left, six days."""
    found = sized([(0, 0), (1, 10), (2.5, 25), (4, 40)]).forecast(100)
    assert (found.days, found.earliest, found.latest) == pytest.approx((6, 6, 6))
    assert found.text == "full in about 6.0 days (2026-03-11), between 6.0 and 6.0 days"
    assert str(found) == found.text


def test_days_count_from_now() -> None:
    """Days that went by since the last snapshot are taken off; a clock that is behind it takes off nothing."""
    growing = sized([(0, 0), (1, 10), (2, 20), (3, 30)])
    assert growing.forecast(100, now=START + timedelta(days=5)).days == pytest.approx(5)
    assert growing.forecast(100, now=START + timedelta(days=50)).days == 0
    assert growing.forecast(100, now=START - timedelta(days=50)).days == pytest.approx(7)


def test_what_is_full_is_full() -> None:
    """At or over its capacity a registry has 0 days, however few snapshots there are."""
    for capacity in (30, 20, "20B"):
        found = sized([(0, 10), (1, 30)]).forecast(capacity)
        assert (found.days, found.earliest, found.latest) == (0, 0, 0)
        assert found.text.startswith("full: 30 B of")


@pytest.mark.parametrize("days", [(), (0,), (0, 1), (0, 0, 0), (0, 0, 1, 1, 1)])
def test_too_little_is_not_known(days: tuple[float, ...]) -> None:
    """Fewer than three different times say nothing about how growth varies."""
    found = sized([(day, 10 + number) for number, day in enumerate(days)]).forecast("1GB")
    assert (found.days, found.earliest, found.latest) == (None, None, None)
    assert found.text == "not known: it takes 3 snapshots of different times"


def test_clocks_that_go_backwards_are_put_in_order() -> None:
    """Rows out of order, and two of one moment, of which the last counts, give the forecast of the ordered ones."""
    expected = sized([(0, 0), (1, 12), (2, 20), (3, 30)]).forecast(100)
    assert sized([(2, 20), (0, 0), (1, 99), (1, 12), (3, 30)]).forecast(100) == expected


def test_what_does_not_grow_is_never_full() -> None:
    """Flat and falling sizes have no end in sight; where they vary, the earliest day is said all the same."""
    for sizes in ([50, 50, 50, 50], [50, 40, 30, 20], [260, 220, 200, 140, 170, 130, 80, 10]):
        found = sized(list(enumerate(sizes))).forecast(100)
        assert (found.days, found.earliest, found.latest) == (math.inf, math.inf, math.inf)
        assert found.text == "never, as it does not grow"
    found = sized(list(enumerate([50, 60, 45, 55, 40]))).forecast(100)
    assert found.days == found.latest == math.inf
    assert found.earliest is not None
    assert 0 < found.earliest < 100
    assert "at the earliest in" in found.text


def test_growth_that_varies_widely_may_never_fill() -> None:
    """Three snapshots of uneven growth give an expectation, and bounds that own how little that says."""
    found = sized([(0, 10), (1, 30), (2, 31)]).forecast(100)
    assert found.days == pytest.approx(69 / 10.5)
    assert found.latest == math.inf
    assert found.text.endswith("days, perhaps never")


def test_the_disk_counts_where_it_is_known() -> None:
    """Where every snapshot read the disk, its bytes fill the capacity, and not those of the blobs."""
    points = [(0, 0), (1, 10), (2, 20)]
    assert sized(points, [10, 20, 30]).forecast(100).days == pytest.approx(7)
    assert sized(points, [0, 20, 30]).forecast(100).days == pytest.approx(8)


def test_a_size_beyond_every_date_is_said_without_one() -> None:
    """A disk that takes thousands of years to fill has no date, and no error."""
    assert "(" not in sized([(0, 0), (1, 1), (2, 2)]).forecast("500PB").text


def test_a_capacity_that_is_none_is_refused() -> None:
    """A text that is no size is an error that shows how one is written."""
    with pytest.raises(InvalidArgument, match="not a size"):
        sized([(0, 1)]).forecast("plenty")


def test_the_bounds_hold_as_often_as_they_say() -> None:
    """Of 400 registries that grow by chance at a known mean, about 95 % fill within their forecast's bounds."""
    chance = random.Random(1)  # noqa: S311 -- the same each time
    held = 0
    for _ in range(400):
        size, points = 0, []
        for day in range(15):
            points.append((day, size))
            size += round(chance.gauss(1000, 800))
        found = sized(points).forecast(30_000)
        size, day = points[-1][1], 0
        while size < 30_000:
            size += round(chance.gauss(1000, 800))
            day += 1
        assert found.earliest is not None
        assert found.latest is not None
        held += found.earliest <= day <= found.latest + 1
    assert 0.91 <= held / 400 <= 0.99

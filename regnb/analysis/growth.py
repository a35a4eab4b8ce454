"""How a registry grows over its snapshots, and when its disk will be full."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from regnb.analysis import snapshot
from regnb.analysis.difference import changes
from regnb.analysis.inventory import Inventory
from regnb.errors import InvalidArgument, StorageError
from regnb.tables.frame import Frame, make
from regnb.text import count, escaped, human, parse_size

_NEEDED: Final = ("repositories", "tags", "coverage")
_LARGEST: Final = 2**63 - 1
_LEAST: Final = 3
"""Snapshots below which nothing can be said about how much growth varies."""
_DAY: Final = timedelta(days=1)
_QUANTILES: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t for 95 %, two-sided, with 1 to 10 degrees of freedom."""


class Forecast(NamedTuple):
    """When a disk will be full.

    Attributes:
        days: Days until then if growth goes on as it was; infinity: never; None: not known.
        earliest, latest: Between these it is with a probability of 95 %.
        text: The same in words.
        capacity: Of the disk, in bytes.
        start: The day from which days are counted; None without any snapshot.
    """

    days: float | None
    earliest: float | None
    latest: float | None
    text: str
    capacity: int
    start: datetime | None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, repr=False)
class Growth:
    """A registry over time.

    Attributes:
        registry: ``host:port``, or the storage's URL.
        frame: One row for each snapshot (:data:`regnb.tables.columns.COLUMNS`, ``growth``), the oldest first.
        notes: What was left out.

    Example:
        >>> regnb.growth("s3://backups/registry").forecast("2TB").text  # doctest: +SKIP
        'full in about 40 days (2026-04-10), between 25 and 90 days'
    """

    registry: str
    frame: Frame
    notes: tuple[str, ...] = ()

    def forecast(self, capacity: float | str, *, now: datetime | None = None) -> Forecast:
        """Say when the registry will need more than ``capacity``.

        The bytes on disk count where every snapshot knows them, else the bytes stored. The model is a random walk with
        a drift: what is pushed stays, so that one week's surplus is not made up for in the next, and the line goes on
        from the last snapshot. A line of least squares takes such deviations for independent of each other, and its
        interval is far too narrow. The bounds have Student's t; they include what is not known about the drift and how
        growth varies on the way.

        Args:
            capacity: Bytes, or a text such as ``500GB``.
            now: The day from which days are counted; by default that of the last snapshot.

        Raises:
            InvalidArgument: ``capacity`` is no size.
        """
        limit = parse_size(capacity)
        rows = list(self.frame[["when", "disk", "stored"]].itertuples(index=False, name=None))
        which = 1 if rows and all(row[1] > 0 for row in rows) else 2
        # Of snapshots of one moment the last one counts.
        sizes = {row[0].to_pydatetime(): int(row[which]) for row in rows}
        points = sorted(sizes.items())
        unknown = f"not known: it takes {_LEAST} snapshots of different times"
        if not points:
            return Forecast(None, None, None, unknown, limit, now)
        last, size = points[-1]
        start = max(last, now or last)
        if size >= limit:
            return Forecast(0.0, 0.0, 0.0, f"full: {human(size)} of {human(limit)}", limit, start)
        if len(points) < _LEAST:
            return Forecast(None, None, None, unknown, limit, start)
        passed = (start - last) / _DAY
        days, earliest, latest = (max(0.0, found - passed) for found in _until_full(points, limit))
        return Forecast(days, earliest, latest, _words(days, earliest, latest, start), limit, start)

    def __repr__(self) -> str:
        return f"<Growth of {self._headline()}>"

    def _headline(self) -> str:
        return " ".join([f"{self.registry}: {count(len(self.frame), 'snapshot')}.", *self.notes])

    def _repr_html_(self) -> str:
        return f"<p>{escaped(self._headline())}</p>{self.frame._repr_html_()}"


def _until_full(points: Sequence[tuple[datetime, int]], limit: int) -> tuple[float, float, float]:
    """Return the days from the last point until ``limit`` is reached: expected, earliest, latest."""
    steps = [((t - s) / _DAY, y - x) for (s, x), (t, y) in pairwise(points)]
    span = sum(days for days, _ in steps)
    drift = sum(size for _, size in steps) / span
    variance = sum((size - drift * days) ** 2 / days for days, size in steps) / (len(steps) - 1)
    spread = _student(len(steps) - 1) ** 2 * variance
    left = limit - points[-1][1]
    expected = left / drift if drift > 0 else math.inf
    # After h days the size is left - drift * h short of the limit, give or take the root of spread * (h + h**2 / span):
    # the bounds are where these are equal.
    a, b = drift**2 - spread / span, 2 * left * drift + spread
    inside = b**2 - 4 * a * left**2
    root = math.sqrt(max(0.0, inside))
    if b + root <= 0 or (drift <= 0 and inside < 0):
        return expected, math.inf, math.inf
    # In the form that neither divides by 0 where a is 0 nor loses digits where it is small.
    earliest = 2 * left**2 / (b + root)
    return expected, earliest, (b + root) / (2 * a) if a > 0 and drift > 0 else math.inf


def _student(freedom: int) -> float:
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    # The expansion about the normal distribution's quantile: exact to three digits from here on.
    return 1.95996 + 2.37227 / freedom + 2.8225 / freedom**2


def _words(days: float, earliest: float, latest: float, start: datetime) -> str:
    if math.isinf(days):
        if math.isinf(earliest):
            return "never, as it does not grow"
        return f"never, as it does not grow; at the earliest in {_days(earliest)} days, if it varies as it did"
    try:
        date = f" ({start + timedelta(days=days):%Y-%m-%d})"
    except OverflowError:
        date = ""
    if math.isinf(latest):
        return f"full in about {_days(days)} days{date}; at the earliest in {_days(earliest)} days, perhaps never"
    return f"full in about {_days(days)} days{date}, between {_days(earliest)} and {_days(latest)} days"


def _days(days: float) -> str:
    return f"{days:,.1f}" if days < 10 else f"{days:,.0f}"  # noqa: PLR2004 -- a tenth of a day matters then


class _Reading(NamedTuple):
    """One snapshot, or an inventory; its sizes are Python's integers."""

    registry: str
    when: datetime
    stored: int
    pulled: int
    disk: int
    tags: int
    complete: bool
    load: Callable[[], snapshot.Stored]


def growth(what: str | Path | Iterable[Inventory | str | Path], *, registry: str | None = None) -> Growth:
    """Return how a registry grew.

    Of each pair of neighbours only the tags are compared, as :func:`regnb.diff` does. Snapshots that cannot be read are
    left out, and counted in ``notes``.

    Args:
        what: The URL that snapshots were saved to; or inventories and URLs of single snapshots.
        registry: Which registry is meant, where there are several.

    Raises:
        InvalidArgument: There are several registries and none was named, or nothing of the one that was.
        StorageError: There is no such folder, or a single snapshot cannot be read.

    Example:
        >>> growth("s3://backups/registry").frame  # doctest: +SKIP
    """
    found = _listed(what) if isinstance(what, str | Path) else [_read(one) for one in what]
    broken = sum(one is None for one in found)
    readings = sorted((one for one in found if one), key=lambda one: one.when)
    names = sorted({one.registry for one in readings})
    if registry is None and len(names) > 1:
        raise InvalidArgument(
            f"snapshots of {len(names):,} registries: {', '.join(names[:10])}",
            hint=f"name one: registry={names[0]!r}",
        )
    if registry is not None and registry not in names:
        raise InvalidArgument(f"no snapshot of {registry!r}", hint=f"there is: {', '.join(names[:10]) or 'nothing'}")
    rows: list[tuple[_Reading, tuple[int, int, int]]] = []
    before: snapshot.Stored | None = None
    for one in readings:
        if registry is None or one.registry == registry:
            try:
                after = one.load()
            except StorageError:
                broken += 1
                continue
            rows.append((one, _numbers(before, after)))
            before = after
    columns = {
        "when": [one.when for one, _ in rows],
        **{
            column: [min(getattr(one, column), _LARGEST) for one, _ in rows]
            for column in ("stored", "pulled", "disk", "tags", "complete")
        },
        **{column: [numbers[at] for _, numbers in rows] for at, column in enumerate(("new", "moved", "vanished"))},
    }
    notes = []
    if broken:
        notes.append(f"{count(broken, 'snapshot')} left out: not readable.")
    if lower := sum(not one.complete for one, _ in rows):
        notes.append(f"{count(lower, 'snapshot')} incomplete: bytes may be too low.")
    return Growth(registry or "".join(names), make("growth", columns), tuple(notes))


def _numbers(before: snapshot.Stored | None, after: snapshot.Stored) -> tuple[int, int, int]:
    """Return how many tags are new, moved and vanished."""
    if before is None:
        return 0, 0, 0
    found = changes(before, after)
    return len(found.new), len(found.moved[0]), len(found.vanished)


def _listed(url: str | Path) -> list[_Reading | None]:
    """Return what the list of snapshots tells of each, None for one that cannot be read."""
    found: list[_Reading | None] = []
    for row in snapshot.snapshots(url).to_dict("records"):
        if row["status"] != "ok":
            found.append(None)
            continue
        load = partial(snapshot.load, f"{str(url).rstrip('/')}/{row['snapshot']}", _NEEDED)
        figures = {field: row[field] for field in ("stored", "pulled", "disk", "tags", "complete")}
        found.append(_Reading(row["registry"], row["started"].to_pydatetime(), **figures, load=load))
    return found


def _read(what: Inventory | str | Path) -> _Reading:
    inventory = what if isinstance(what, Inventory) else Inventory.load(what)
    summary = inventory.summary
    disk = sum(inventory.frames["disk"]["size"].tolist())
    needed = {name: inventory.frames[name] for name in _NEEDED}
    stored = snapshot.Stored(inventory.registry, inventory.started, inventory.finished, needed, inventory.source)
    return _Reading(
        inventory.registry,
        inventory.started,
        summary.stored,
        summary.pulled,
        disk,
        summary.tags,
        summary.complete,
        lambda: stored,
    )

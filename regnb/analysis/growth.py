"""How a registry grows over its snapshots, and when its disk will be full."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from regnb.analysis import snapshot
from regnb.analysis.difference import changes
from regnb.analysis.forecast import COLLECTIONS, WEEKS, Span, outlook
from regnb.analysis.inventory import Inventory
from regnb.errors import InvalidArgument, StorageError
from regnb.tables.frame import Frame, make
from regnb.tables.graph import ABSENT
from regnb.text import count, escaped, human, parse_size

_NEEDED: Final = ("repositories", "tags", "coverage", "blobs")
_LARGEST: Final = 2**63 - 1
_DAY: Final = timedelta(days=1)
_UNSEEN: Final = "; upper bound: over HTTP only data behind tags is visible, so the disk may be full earlier"


class Forecast(NamedTuple):
    """When a disk will be full if nothing is collected.

    Attributes:
        days: Days until then, as likely more as less; infinity: beyond what can be seen; None: not known.
        earliest, latest: Between these it is with a probability of 95 %; infinity: beyond what can be seen.
        text: The same in words, and what comes if collections go on as before.
        capacity: Of the disk, in bytes.
        start: The day from which days are counted; None without any snapshot.
        going_on: Earliest, expected and latest if collections go on as before; None if there were fewer than six.
    """

    days: float | None
    earliest: float | None
    latest: float | None
    text: str
    capacity: int
    start: datetime | None
    going_on: Span | None = None

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
        >>> print(regnb.growth("snapshots").forecast("2TB").text)
        not full in the next 4,480 days; these snapshots cover too short a time for a longer forecast
    """

    registry: str
    frame: Frame
    notes: tuple[str, ...] = ()

    def forecast(self, capacity: float | str, *, now: datetime | None = None) -> Forecast:
        """Say when the registry will need more than ``capacity``, as far as the snapshots can tell.

        Of a storage the bytes on disk count; of what was read over HTTP those that tags lead to, so that the date is
        one *at the latest*. Incomplete snapshots are left out. The bounds hold 95 times in 100
        (``benchmarks/forecast.py``); where they would not, none are given. It takes four weeks, and snapshots of five
        times.

        Args:
            capacity: Bytes, or a text such as ``500GB``.
            now: The day from which days are counted; by default that of the last snapshot.

        Raises:
            InvalidArgument: ``capacity`` is not a size.
        """
        limit = parse_size(capacity)
        rows = self.frame[self.frame["complete"]].sort_values("when", kind="stable")
        on_disk = len(rows) > 0 and bool(rows["disk"].notna().iloc[-1])
        rows = rows[rows["disk"].notna() == on_disk]
        if rows.empty:
            return Forecast(None, None, None, _unknown(0.0, 0), limit, now)
        # Of snapshots of one moment the last one counts, and what was collected is the sum of them.
        moments = rows.groupby("when").agg({"disk": "last", "stored": "last", "collected": "sum"})
        sizes = moments["disk" if on_disk else "stored"].to_numpy(dtype=np.float64)
        last, size = moments.index[-1].to_pydatetime(), int(sizes[-1])
        start = max(last, now or last)
        if size >= limit:
            return Forecast(0.0, 0.0, 0.0, f"full: {human(size)} of {human(limit)}", limit, start)
        days = ((moments.index - moments.index[0]) / _DAY).to_numpy()
        found = outlook(days, sizes, moments["collected"].to_numpy(dtype=np.float64), float(limit))
        if found.pushed is None:
            return Forecast(None, None, None, _unknown(float(days[-1]), len(days)), limit, start)
        passed = (start - last) / _DAY
        pushed = _later(found.pushed, passed)
        going_on = _later(found.going_on, passed) if found.going_on else None
        words = partial(_words, start=start, horizon=max(0.0, found.horizon - passed), on_disk=on_disk)
        text = words(pushed)
        if found.collections:
            seen = count(found.collections, "collection")
            text = f"if nothing is collected: {text}. If collections go on as before ({seen} so far): "
            text += words(going_on) if going_on else f"not known; it takes {COLLECTIONS}"
        return Forecast(pushed.days, pushed.earliest, pushed.latest, text, limit, start, going_on)

    def __repr__(self) -> str:
        return f"<Growth of {self._headline()}>"

    def _headline(self) -> str:
        return " ".join([f"{self.registry}: {count(len(self.frame), 'snapshot')}.", *self.notes])

    def _repr_html_(self) -> str:
        return f"<p>{escaped(self._headline())}</p>{self.frame._repr_html_()}"


def _later(span: Span, passed: float) -> Span:
    return Span(*(max(0.0, day - passed) for day in span))


def _unknown(days: float, times: int) -> str:
    return (
        f"not known: a forecast needs snapshots of {WEEKS + 1:g} times over {WEEKS:g} weeks; "
        f"these are of {count(times, 'time')} in {_days(days)} days"
    )


def _words(span: Span, *, start: datetime, horizon: float, on_disk: bool) -> str:
    beyond = f"not full in the next {_days(horizon)} days; these snapshots cover too short a time for a longer forecast"
    if math.isinf(span.earliest):
        return beyond
    if math.isinf(span.days):
        return f"probably {beyond}; at the earliest full in {_days(span.earliest)} days"
    try:
        date = f" ({start + timedelta(days=span.days):%Y-%m-%d})"
    except OverflowError:
        date = ""
    bounds = f"between {_days(span.earliest)} and {_days(span.latest)} days"
    if math.isinf(span.latest):
        bounds = f"at the earliest in {_days(span.earliest)} days, possibly never"
    return f"full in about {_days(span.days)} days{date}, {bounds}{'' if on_disk else _UNSEEN}"


def _days(days: float) -> str:
    return f"{days:,.1f}" if days < 10 else f"{days:,.0f}"  # noqa: PLR2004 -- a tenth of a day matters then


class _Reading(NamedTuple):
    """One snapshot, or an inventory; its sizes are Python's integers."""

    registry: str
    when: datetime
    stored: int
    pulled: int
    disk: int | None
    tags: int
    complete: bool
    load: Callable[[], snapshot.Stored]


def growth(what: str | Path | Iterable[Inventory | str | Path], *, registry: str | None = None) -> Growth:
    """Return how a registry grew.

    Of each pair of neighbours the tags and the blobs are compared, as :func:`regnb.diff` does. Snapshots that cannot be
    read are left out, and counted in ``notes``.

    Args:
        what: The URL that snapshots were saved to; or inventories and URLs of single snapshots.
        registry: Which registry is meant, where there are several.

    Raises:
        InvalidArgument: There are several registries and none was named, or nothing of the one that was.
        StorageError: There is no such folder, or a single snapshot cannot be read.

    Example:
        >>> growth("snapshots").frame["tags"].to_list()[-2:]
        [41, 55]
    """
    found = _listed(what) if isinstance(what, str | Path) else [_read(one) for one in what]
    broken = sum(one is None for one in found)
    readings = sorted((one for one in found if one), key=lambda one: one.when)
    names = sorted({one.registry for one in readings})
    if registry is None and len(names) > 1:
        raise InvalidArgument(
            f"snapshots of {len(names):,} registries: {', '.join(names[:10])}",
            hint=f"name one: --registry {names[0]}, or registry={names[0]!r} in Python",
        )
    if registry is not None and registry not in names:
        raise InvalidArgument(
            f"no snapshot of {registry!r}", hint=f"choose from: {', '.join(names[:10]) or 'no registry has one'}"
        )
    rows: list[tuple[_Reading, tuple[int | None, int | None, int | None], int | None]] = []
    before: snapshot.Stored | None = None
    whole: Frame | None = None
    for one in readings:
        if registry is None or one.registry == registry:
            try:
                after = one.load()
            except StorageError:
                broken += 1
                continue
            collected: int | None = None
            if one.complete:
                collected, whole = _collected(whole, after.tables["blobs"]), after.tables["blobs"]
            rows.append((one, _numbers(before, after), collected))
            before = after
    columns = {
        "when": [one.when for one, *_ in rows],
        **{
            column: [None if getattr(one, column) is None else min(getattr(one, column), _LARGEST) for one, *_ in rows]
            for column in ("stored", "pulled", "disk", "tags", "complete")
        },
        **{column: [numbers[at] for _, numbers, _ in rows] for at, column in enumerate(("new", "moved", "vanished"))},
        "collected": [collected for *_, collected in rows],
    }
    notes = []
    if broken:
        notes.append(f"{count(broken, 'snapshot')} left out: not readable.")
    if lower := sum(not one.complete for one, *_ in rows):
        notes.append(f"{count(lower, 'snapshot')} incomplete: bytes may be too low.")
    return Growth(registry or "".join(names), make("growth", columns), tuple(notes))


def _numbers(before: snapshot.Stored | None, after: snapshot.Stored) -> tuple[int | None, int | None, int | None]:
    """Return how many tags are new, moved and vanished; nobody knows that of the first snapshot."""
    if before is None:
        return None, None, None
    found = changes(before, after)
    return len(found.new), len(found.moved[0]), len(found.vanished)


def _collected(before: Frame | None, after: Frame) -> int | None:
    """Return the bytes of the blobs that are not there any more; None where nothing is known of before."""
    if before is None:
        return None
    gone = before[~before["digest"].isin(after["digest"]) & ~before["kind"].isin(ABSENT)]
    return min(int(sum(gone["size"].tolist())), _LARGEST)


def _listed(url: str | Path) -> list[_Reading | None]:
    """Return what the list of snapshots tells of each, None for one that cannot be read."""
    found: list[_Reading | None] = []
    for row in snapshot.snapshots(url).to_dict("records"):
        if row["status"] != "ok":
            found.append(None)
            continue
        load = partial(snapshot.load, f"{str(url).rstrip('/')}/{row['snapshot']}", _NEEDED)
        figures = {field: row[field] for field in ("stored", "pulled", "tags", "complete")}
        figures["disk"] = None if pd.isna(row["disk"]) else row["disk"]
        found.append(_Reading(row["registry"], row["started"].to_pydatetime(), **figures, load=load))
    return found


def _read(what: Inventory | str | Path) -> _Reading:
    inventory = what if isinstance(what, Inventory) else Inventory.load(what)
    summary = inventory.summary
    needed = {name: inventory.frames[name] for name in _NEEDED}
    stored = snapshot.Stored(inventory.registry, inventory.started, inventory.finished, needed, inventory.source)
    return _Reading(
        inventory.registry,
        inventory.started,
        summary.stored,
        summary.pulled,
        summary.disk,
        summary.tags,
        summary.complete,
        lambda: stored,
    )

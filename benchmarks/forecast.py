"""Whether forecasts hold what they promise: simulated registries, whose future is known, against Growth.forecast.

    python benchmarks/forecast.py [RUNS]

Each row is a kind of growth, seen in so many snapshots, so many days apart. ``given``: of the runs, how many got a date
with both bounds. ``covered``: of the runs that got any bounds, in how many the disk was full within them. ``width`` and
``left``: the medians of the bounds' distance and of the days until the date. The last rows are about what comes if
collections go on as before, and all others about what comes if nothing is collected. Exits with 1 if a limit is missed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from regnb.analysis.growth import Growth
from regnb.tables.frame import make

COVERED = (0.90, 0.99)
GIVEN = 0.80
PROMISED = {"random walk", "weekdays", "compound"}
"""Kinds of which a date must be given after 60 daily snapshots, with bounds no wider than the time that is left."""
SEEN = ((14, 1), (14, 7), (60, 1))
"""Snapshots, and the days from one to the next."""
AHEAD = 45
"""Days, or snapshots if they are further apart, until the disk is full on average."""
FIRST = 200.0
"""GB at first."""
START = datetime(2026, 1, 1, tzinfo=UTC)

Chance = np.random.Generator
Series = np.ndarray[tuple[int], np.dtype[np.float64]]


def random_walk(chance: Chance, days: int) -> Series:
    return chance.normal(1, 0.8, days)


def weekdays(chance: Chance, days: int) -> Series:
    workday = (np.arange(days) + chance.integers(7)) % 7 < 5
    return np.where(workday, chance.normal(1.4, 0.4, days), chance.normal(0.05, 0.02, days))


def log_normal(chance: Chance, days: int) -> Series:
    return chance.lognormal(-0.5, 1, days)


def bursts(chance: Chance, days: int) -> Series:
    return chance.normal(0.3, 0.1, days) + (chance.random(days) < 0.1) * chance.uniform(5, 15, days)


def autocorrelated(chance: Chance, days: int) -> Series:
    found, last = np.empty(days), chance.normal(0, 0.8)
    for day, new in enumerate(chance.normal(0, 0.64, days)):
        found[day] = last = 0.6 * last + new
    return 1 + found


KINDS: dict[str, tuple[Callable[[Chance, int], Series], float]] = {
    "random walk": (random_walk, 1.0),
    "weekdays": (weekdays, (5 * 1.4 + 2 * 0.05) / 7),
    "log-normal": (log_normal, 1.0),
    "bursts": (bursts, 1.3),
    "autocorrelated": (autocorrelated, 1.0),
    "compound": (random_walk, 0.0),
    "collections": (random_walk, 1.0),
}
"""What is pushed each day, in GB, and its mean. Compound growth is 1 % a day, give or take half a percent."""


def pushed(kind: str, chance: Chance, days: int) -> Series:
    """The sizes of each day if nothing is collected."""
    if kind == "compound":
        return FIRST * np.exp(np.append(0.0, np.cumsum(np.log1p(chance.normal(0.01, 0.005, days)))))
    return FIRST + np.append(0.0, np.cumsum(KINDS[kind][0](chance, days)))


def collected(kind: str, chance: Chance, sizes: Series) -> Series:
    """What has been collected up to each day: every 30 days a third to two thirds of what came since the last time."""
    found = np.zeros_like(sizes)
    if kind == "collections":
        last = 0
        for day in range(int(chance.integers(1, 31)), len(sizes), 30):
            found[day:] += max(0.0, (sizes[day] - sizes[last]) * chance.uniform(1 / 3, 2 / 3))
            last = day
    return found


def full(sizes: Series, limit: float) -> float:
    """The first day on which a size reaches the limit."""
    day = int(np.argmax(sizes >= limit))
    return float(day) if sizes[day] >= limit else math.inf


class Tally:
    """What forecasts of one row came to."""

    def __init__(self) -> None:
        self.bounds: list[tuple[float, float, float]] = []
        self.held = 0

    def add(self, earliest: float, days: float, latest: float, true: float) -> None:
        self.bounds.append((earliest, days, latest))
        # The disk was full at some time in the day before it was seen to be.
        self.held += earliest <= true and true - 1 <= latest

    def row(self, runs: int) -> tuple[float, float, float, float]:
        """Given, covered, width and left."""
        if not self.bounds:
            return 0.0, math.nan, math.nan, math.nan
        finite = sum(math.isfinite(latest) for *_, latest in self.bounds)
        width = float(np.median([latest - earliest for earliest, _, latest in self.bounds]))
        left = float(np.median([days for _, days, _ in self.bounds]))
        return finite / runs, self.held / len(self.bounds), width, left


def simulate(kind: str, count: int, apart: int, runs: int) -> tuple[Tally, Tally]:
    """Forecast registries of one kind: if nothing is collected, and if collections go on as before."""
    never, before = Tally(), Tally()
    seen = (count - 1) * apart
    for run in range(runs):
        chance = np.random.default_rng([run, list(KINDS).index(kind), count, apart])
        sizes = pushed(kind, chance, seen + (1000 if kind == "compound" else 30 * AHEAD * apart))
        gone = collected(kind, chance, sizes)
        at = np.arange(0, seen + 1, apart)
        now = sizes[seen] - gone[seen]
        limit = now * 1.01**AHEAD if kind == "compound" else now + KINDS[kind][1] * AHEAD * apart
        frame = {
            "when": [START + timedelta(days=int(day)) for day in at],
            "stored": [int(size * 1e9) for size in (sizes - gone)[at]],
            "disk": [int(size * 1e9) for size in (sizes - gone)[at]],
            "collected": [int(size * 1e9) for size in np.diff(gone[at], prepend=0.0)],
            "complete": [True] * count,
            **dict.fromkeys(("pulled", "tags", "new", "moved", "vanished"), [0] * count),
        }
        found = Growth("simulated", make("growth", frame)).forecast(limit * 1e9)
        if found.earliest is not None and found.days is not None and found.latest is not None:
            never.add(found.earliest, found.days, found.latest, full(now + sizes[seen:] - sizes[seen], limit))
        if found.going_on is not None:
            before.add(*found.going_on, full((sizes - gone)[seen:], limit))
    return never, before


def main(runs: int) -> int:
    print(f"{'growth':<24}{'snapshots':>14}{'given':>8}{'covered':>9}{'width':>8}{'left':>8}")
    missed = 0

    def show(kind: str, count: int, apart: int, tally: Tally) -> None:
        nonlocal missed
        given, covered, width, left = tally.row(runs)
        wrong = []
        if tally.bounds and not COVERED[0] <= covered <= COVERED[1]:
            wrong.append(f"covered must be {COVERED[0]:.0%} to {COVERED[1]:.0%}")
        if kind in PROMISED and (count, apart) == (60, 1):
            if given < GIVEN:
                wrong.append(f"given must be {GIVEN:.0%} or more")
            if not width <= left:
                wrong.append("the width must not be more than what is left")
        missed += len(wrong)
        days = f"{count} x {apart} d"
        figures = f"{covered:>9.1%}{width:>8.0f}{left:>8.0f}" if tally.bounds else f"{'-':>9}{'-':>8}{'-':>8}"
        print(f"{kind:<24}{days:>14}{given:>8.0%}{figures}  {'; '.join(wrong)}".rstrip(), flush=True)

    going_on = []
    for kind in KINDS:
        for count, apart in (*SEEN, *(((60, 7),) if kind == "collections" else ())):
            never, before = simulate(kind, count, apart, runs)
            show(kind, count, apart, never)
            if kind == "collections":
                going_on.append((count, apart, before))
    for count, apart, tally in going_on:
        show("collections, going on", count, apart, tally)
    print(f"{runs} runs each; limits: covered 90 % to 99 % wherever bounds are given; of {', '.join(sorted(PROMISED))}")
    print("with 60 daily snapshots bounds in 80 % of the runs or more, and no wider than the time that is left.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 600))

"""When a disk will be full: pushes and collections apart, and no more precise than the snapshots allow.

What is pushed is a random walk with a drift: what one week brought too much, the next does not make up for. It is
measured in whole weeks, as people push on weekdays and what one day brings follows from the day before; and once as so
many bytes a week, once as so many percent, each counted as far as the weeks speak for it. What is not known about
drift and spread is in the bounds, by draws from what Bayes' theorem leaves of them. What is collected is known from the
blobs that went, and taken off before.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

WEEK: Final = 7.0
"""Days in which pushes are measured."""
WEEKS: Final = 4
"""Weeks (or, where they are further apart, snapshots) below which nothing is said about how growth varies."""
COLLECTIONS: Final = 6
"""Collections below which nothing is said about those to come."""
_SHARES: Final = (0.025, 0.5, 0.975)
_DRAWS: Final = 400
_DAYS: Final = 60
"""Days that are looked at, up to the horizon."""
_SPANS: Final = 20.0
"""How many times the time that was seen a forecast looks ahead."""
_PHASES: Final = 400
"""Collections that are looked ahead to."""


class Span(NamedTuple):
    """Days until something: at 2.5 %, 50 % and 97.5 % of what may be; infinity: beyond what can be seen."""

    earliest: float
    days: float
    latest: float


class Outlook(NamedTuple):
    """What is to come.

    Attributes:
        pushed: If nothing is collected; None if there are too few weeks.
        going_on: If collections go on as before; None if there were too few of them.
        collections: How many there were.
        horizon: Days that are looked ahead.
    """

    pushed: Span | None
    going_on: Span | None
    collections: int
    horizon: float


class _Walk(NamedTuple):
    """Draws of drift and variance a day."""

    drift: Floats
    variance: Floats


def outlook(days: Floats, sizes: Floats, collected: Floats, limit: float) -> Outlook:
    """Say when sizes will reach a limit.

    Args:
        days: When each size was seen, in days, rising.
        sizes: Bytes; the last one is below ``limit``.
        collected: Bytes that went since the size before; the first one is not looked at.
        limit: Bytes.

    Example:
        >>> days = np.arange(50.0)
        >>> round(outlook(days, 10 + days, 0 * days, 100).pushed.days)
        41
    """
    took, gone = np.diff(days), collected[1:]
    events = int((gone > 0).sum())
    period = max(WEEK, float(np.max(took, initial=0.0)))
    if len(days) == 0 or days[-1] - days[0] + 1e-6 < WEEKS * period:
        return Outlook(None, None, events, 0.0)
    horizon = _SPANS * float(days[-1] - days[0])
    if not events:
        return Outlook(_reached(days, sizes, limit, period), None, 0, horizon)
    pushes = np.diff(sizes) + gone
    pushed = sizes[-1] - np.append(np.cumsum(pushes[::-1])[::-1], 0.0)
    going_on = None
    if events >= len(gone) / 2:
        # What goes every day is not an event: it is part of what a week brings.
        going_on = _reached(days, sizes, limit, period)
    elif events >= COLLECTIONS:
        walk, _ = _steady(days, pushed, period)
        going_on = _with_collections(days, gone, walk, limit - sizes[-1])
    return Outlook(_reached(days, pushed, limit, period), going_on, events, horizon)


def _reached(days: Floats, sizes: Floats, limit: float, period: float) -> Span:
    """Say when a walk, as steady or as compound growth, reaches a limit."""
    took, steps = np.diff(days), np.diff(sizes)
    walk, ripple = _steady(days, sizes, period)
    models = [(walk, limit - sizes[-1] + ripple * _normal(2))]
    weights = np.ones(1)
    if sizes.min() > 0:
        memory, alone = _memory(days[1:], took, steps, period)
        logs = np.log(sizes)
        compound = _walk(_weekly(days, logs, period)[0], period, memory)
        models.append((compound, math.log(limit) - logs[-1] + ripple / sizes[-1] * _normal(2)))
        # The density of sizes, from that of their logarithms; each step counts as far as it stands alone.
        odds = _likelihood(took, np.diff(logs)) - len(steps) * float(logs[1:].mean())
        odds = alone * (odds - _likelihood(took, steps))
        weights = np.exp(np.array([0.0, odds]) - max(0.0, odds))
    weights /= weights.sum()
    horizon = _SPANS * (days[-1] - days[0])

    def reached(grid: Floats) -> Floats:
        shares = [weight * _passed(*model, grid) for weight, model in zip(weights, models, strict=True)]
        found: Floats = np.maximum.accumulate(np.sum(shares, axis=0))
        return found

    # Roughly first, and then in the days in which it is decided.
    rough = np.geomspace(horizon / 1e5, horizon, _DAYS)
    found = reached(rough)
    first, last = np.searchsorted(found, (_SHARES[0], _SHARES[-1]))
    days_of = np.linspace(rough[max(0, first - 1)], rough[min(last, _DAYS - 1)], 2 * _DAYS)
    found = reached(days_of)
    return Span(*(float(np.interp(share, found, days_of)) if found[-1] >= share else math.inf for share in _SHARES))


def _steady(days: Floats, sizes: Floats, period: float) -> tuple[_Walk, float]:
    weeks, ripple = _weekly(days, sizes, period)
    memory, _ = _memory(days[1:], np.diff(days), np.diff(sizes), period)
    return _walk(weeks, period, memory), ripple


def _weekly(days: Floats, sizes: Floats, period: float) -> tuple[Floats, float]:
    """Return what each whole period brought, the last one last, and the ripple within them."""
    ends = days[-1] - period * np.arange(int((days[-1] + 1e-6) // period), -1, -1)
    at_ends = np.interp(ends, days, sizes)
    within = days >= ends[0]
    return np.diff(at_ends), float(np.std(sizes[within] - np.interp(days[within], ends, at_ends)))


def _memory(days: Floats, took: Floats, steps: Floats, each: float) -> tuple[float, float]:
    """Return how much more many weeks vary than one tells, as days follow from each other, and what one step counts.

    The weekdays' own means are taken off first; then it is that of an autoregressive process of the first order.
    """
    if np.median(took) > each / 4:
        return 1.0, 1.0
    rates, weekday = steps / took, np.floor(days).astype(int) % 7
    rates = (
        rates - np.array([rates[weekday == day].mean() if (weekday == day).any() else 0.0 for day in range(7)])[weekday]
    )
    whole = float(rates @ rates)
    if whole <= 0:
        return 1.0, 1.0
    per_week = each / float(np.median(took))
    follows = min(max(0.0, float(rates[1:] @ rates[:-1]) / whole + 1 / len(rates)), 0.85)
    lags = np.arange(1, math.floor(per_week))
    many = (1 + follows) / (1 - follows)
    return many / (1 + 2 * float(((1 - lags / per_week) * follows**lags).sum())), 1 / many


def _likelihood(took: Floats, steps: Floats) -> float:
    """Return the logarithm of how likely steps of a random walk with an unknown drift and variance are."""
    drift = steps.sum() / took.sum()
    variance = float(((steps - drift * took) ** 2 / took).mean())
    return -0.5 * len(steps) * math.log(max(variance, 1e-12 * drift**2, 1e-300))


def _walk(weeks: Floats, each: float, memory: float) -> _Walk:
    freedom = len(weeks) - 1
    mean, variance = weeks.mean(), max(float(weeks.var(ddof=1)), 1e-12 * float(weeks.mean()) ** 2, 1e-30)
    drawn = memory * variance * freedom / _chi_square(freedom)
    drift = mean + np.sqrt(drawn / len(weeks)) * _normal(0)
    return _Walk(drift / each, drawn / each)


def _passed(walk: _Walk, away: Floats, days: Floats) -> Floats:
    """Return how probable it is that the walk has gone so far by each day (the inverse Gaussian distribution)."""
    drift, variance, away = (each[:, None] for each in (walk.drift, walk.variance, np.maximum(away, 1e-12)))
    root = np.sqrt(variance * np.maximum(days, 1e-9))
    direct = _standard_normal((drift * days - away) / root)
    mirrored = np.exp(np.minimum(2 * drift * away / variance, 600.0)) * _standard_normal(-(drift * days + away) / root)
    found: Floats = np.clip(direct + mirrored, 0.0, 1.0).mean(axis=0)
    return found


def _with_collections(days: Floats, gone: Floats, walk: _Walk, left: float) -> Span:
    """Follow draws of pushes and collections until the limit is reached."""
    chance = np.random.default_rng(1)
    horizon = _SPANS * (days[-1] - days[0])
    times, amounts = days[1:][gone > 0], gone[gone > 0]
    gaps, since = np.diff(times), days[-1] - times[-1]
    freedom = len(amounts) - 1
    shift = amounts.std(ddof=1) / math.sqrt(len(amounts)) * _normal(3) * np.sqrt(freedom / _chi_square(freedom))
    now, level, found = np.zeros(_DRAWS), np.zeros(_DRAWS), np.full(_DRAWS, math.inf)
    for phase in range(_PHASES):
        gap = chance.choice(gaps, _DRAWS)
        if phase == 0:
            gap = np.where(gap > since, gap - since, chance.random(_DRAWS) * gap)
        moved = walk.drift * gap + np.sqrt(walk.variance * gap) * chance.standard_normal(_DRAWS)
        away, after = left - level, left - level - moved
        bridge = np.exp(np.minimum(-2 * away * after / (walk.variance * gap), 0.0))
        hit = (after <= 0) | (chance.random(_DRAWS) < bridge)
        part = np.clip(away / np.where(moved > 0, moved, np.inf), 0.0, 1.0)
        part = np.where(after <= 0, part, chance.random(_DRAWS))
        fresh = hit & np.isinf(found)
        found[fresh] = (now + part * gap)[fresh]
        now += gap
        level += moved - np.maximum(0.0, chance.choice(amounts, _DRAWS) + shift)
        if not np.isinf(found).any() or now.min() > horizon:
            break
    found[found > horizon] = math.inf
    ordered = np.sort(found)
    return Span(*(float(ordered[int(share * (_DRAWS - 1))]) for share in _SHARES))


# Draws, the same each time: quantiles in an order of their own


@cache
def _order(which: int) -> Any:  # noqa: ANN401 -- an array of integers
    return np.random.default_rng(which).permutation(_DRAWS)


@cache
def _normal(which: int) -> Floats:
    shares = (np.arange(_DRAWS) + 0.5) / _DRAWS
    found: Floats = np.array([NormalDist().inv_cdf(share) for share in shares])[_order(which)]
    return found


@cache
def _chi_square(freedom: int) -> Floats:
    drawn: Floats = np.sort(np.random.default_rng(7).chisquare(freedom, 100 * _DRAWS))
    found: Floats = drawn[50::100][_order(1)]
    return found


def _standard_normal(values: Floats) -> Floats:
    """Return the normal distribution's share below x (Abramowitz and Stegun, 26.2.17: within 1e-7)."""
    scaled = 1 / (1 + 0.2316419 * np.abs(values))
    tail = scaled * (
        0.319381530 + scaled * (-0.356563782 + scaled * (1.781477937 + scaled * (-1.821255978 + scaled * 1.330274429)))
    )
    below = 1 - np.exp(-values * values / 2) / math.sqrt(2 * math.pi) * tail
    found: Floats = np.where(values >= 0, below, 1 - below)
    return found

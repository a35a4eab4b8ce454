"""A rate limit: so much at once, and so much more with time, for each of many."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_REMEMBERED: Final = 10_000
"""Keys that are remembered; beyond that, those that have recovered most are forgotten."""


class RateLimit:
    """So much at once, and so much more with time, for each key.

    Args:
        burst: What a key may take at once.
        pace: What it may take in each second besides.
        clock: Seconds, as :func:`time.monotonic` counts them.

    Example:
        >>> guesses = RateLimit(2, 0.1)
        >>> [guesses.take("10.0.0.7") for _ in range(3)]
        [True, True, False]
    """

    def __init__(self, burst: float, pace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._pace, self._clock = burst, pace, clock
        self._full_at: dict[str, float] = {}
        """When each key will have its whole burst again."""

    def take(self, key: str, amount: float = 1) -> bool:
        """Take this much, unless it is more than is left."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now)) + amount / self._pace
        if full_at - now > self._burst / self._pace:
            return False
        self._full_at[key] = full_at
        if len(self._full_at) > _REMEMBERED:
            kept = sorted(self._full_at, key=self._full_at.__getitem__)[_REMEMBERED // 2 :]
            self._full_at = {each: self._full_at[each] for each in kept}
        return True

    def forget(self, key: str) -> None:
        """Let a key begin anew."""
        self._full_at.pop(key, None)

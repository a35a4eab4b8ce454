"""How fast to ask: requests at once, retries, and the waits between them."""

from __future__ import annotations

import email.utils
import random
import time
from typing import Final

import anyio

PATIENCE: Final = 60.0
"""Seconds that a Retry-After may ask for: whoever asks for more gets an error now and not a frozen notebook."""
ATTEMPTS: Final = {429: 7, 502: 5, 503: 6, 504: 5}
"""How often a GET or HEAD is sent before this status is an error."""
FEW_ATTEMPTS: Final = 3
"""The same for other 5xx (distribution's 500 for a corrupt link will not heal) and for lost connections."""


class Pace:
    """How many requests are under way at once: fewer after a 429, slowly more while all goes well."""

    def __init__(self, start: int, most: int) -> None:
        self.slots = anyio.CapacityLimiter(start)
        self._most = max(start, most)
        self._good = 0
        self._patience = 1
        self._until = 0.0
        self._halved = 0.0

    async def wait(self) -> None:
        """Wait as long as the registry asked everyone to."""
        while (seconds := self._until - time.monotonic()) > 0:  # noqa: ASYNC110 - more time may be asked for meanwhile
            await anyio.sleep(seconds)

    def succeeded(self) -> None:
        """Take a good answer into account."""
        self._good += 1
        if self._good >= self.slots.total_tokens * self._patience and self.slots.total_tokens < self._most:
            self.slots.total_tokens += 1
            self._good = 0

    def limited(self, seconds: float, began: float) -> None:
        """Take a 429 into account that answers a request which began at ``began``."""
        self._until = max(self._until, time.monotonic() + seconds)
        if began >= self._halved:  # one burst of 429s halves once
            self.slots.total_tokens = max(1, self.slots.total_tokens // 2)
            self._halved, self._good, self._patience = time.monotonic(), 0, 8


def backoff(attempt: int, first: float) -> float:
    """Return seconds that double with each attempt, up to 10, give or take a half."""
    return min(10.0, first * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads requests


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110, 10.2.3): a number, or a date."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None

"""How fast to ask: requests at once, retries, and the waits between them."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections import deque
from collections.abc import Mapping
from math import inf
from typing import Final, Literal, NamedTuple, TypeAlias

import anyio

from regnb.errors import RateLimited
from regnb.log import logger
from regnb.text import redact
from regnb.wire.addresses import origin
from regnb.wire.failures import BY_STATUS, failure
from regnb.wire.messages import Response, Streamed

_LOG: Final = logger("wire")

PATIENCE: Final = 60.0
"""Seconds that a Retry-After may ask for: whoever asks for more gets an error now and not a frozen notebook."""
ATTEMPTS: Final = {429: 7, 502: 5, 503: 6, 504: 5}
"""How often a GET or HEAD is sent before this status is an error."""
FEW_ATTEMPTS: Final = 3
"""The same for other 5xx (distribution's 500 for a corrupt link will not heal) and for lost connections."""


FLOOR: Final = 1024
"""Bytes a second that an answer must bring, once it has begun."""
START: Final = 8
"""Requests under way at first, where nothing is known of a registry."""
MOST: Final = 128
"""Requests under way at most."""
_SLOWER: Final = 2.0
"""How many times as long as at best answers may take: if they take longer, more requests would only wait elsewhere."""
_QUEUE: Final = 24
"""Requests that may wait elsewhere all the same: while regnb reads answers, a registry always has the next ones."""
_STEP: Final = 4
"""Requests by which the pace grows at once: as many can be refused before regnb knows of it."""
_BURST: Final = 0.125
"""How long the answers to one burst of requests take to come, in times of one answer."""
_FEW: Final = 32
_WINDOW: Final = 1024
"""Good answers, at least and at most, over which requests a second are measured: those of the last second, or more."""
_LULL: Final = 1.0
"""Seconds without a good answer after which they are measured anew: a pause says nothing of what a registry takes."""

Kind: TypeAlias = Literal["look", "list", "blob", "write", "upload"]
"""What is asked for: one manifest, a listing, a blob's bytes; or a request that writes, or that ends an upload."""


class Budget(NamedTuple):
    """How long one request may take, in seconds.

    Attributes:
        first: Until the first byte of the answer.
        total: Until its last one.
        patience: Without any progress after the first.
    """

    first: float
    total: float
    patience: float


def budgets(timeout: float) -> dict[Kind, Budget]:
    """Return what each kind of request may take, as multiples of the time in which a small answer begins.

    A catalog may take minutes, where a registry walks its whole storage for it; so may the end of an upload, where it
    reads the blob once more or copies it within an object store. A single manifest may not.

    Example:
        >>> budgets(30)["list"]
        Budget(first=300, total=600, patience=30)
    """
    return {
        "look": Budget(timeout, 2 * timeout, timeout),
        "list": Budget(10 * timeout, 20 * timeout, timeout),
        "blob": Budget(2 * timeout, inf, timeout),
        "write": Budget(2 * timeout, 4 * timeout, timeout),
        "upload": Budget(30 * timeout, inf, timeout),
    }


class Pace:
    """How many requests are under way at once: more while answers come as fast as before, fewer after a 429.

    It grows by four at most, and again only after as many good answers as there are requests under way, those to the
    four among them: four are refused before regnb knows of it, and one that went out in place of the first. After a 429
    both the requests at once and those in a second stay below what was too much.

    Args:
        start: Requests at once at first.
        most: At most.
    """

    def __init__(self, start: int, most: int) -> None:
        self.limit = start
        self.most = max(start, most)
        self.busy = 0
        self.rate = inf
        self.refused = False
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._first = 0
        self._growing = False
        self._until = 0.0
        self._braked = 0.0
        self._next = 0.0
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._seconds = 0.0
        self._answers = 0
        self._best = inf
        self._stopped: dict[str, tuple[float, RateLimited]] = {}

    def remember(self, most: int, rate: float) -> None:
        """Begin with what a registry is known to take, at once and in a second, and stay there."""
        self.most = max(1, most)
        self.limit = min(self.most, MOST)
        self.rate = rate

    def stop(self, error: RateLimited, seconds: float) -> None:
        """Send nothing more to where a 429 came from, for as long as it asks: that is longer than anyone waits."""
        self._stopped[origin(error.url)] = (time.monotonic() + seconds, error)

    def _check(self, url: str) -> None:
        until, error = self._stopped.get(origin(url), (0.0, None))
        if error is not None and (left := until - time.monotonic()) > PATIENCE:
            text = f"not asked: {redact(origin(url))} asked to wait, for another {human_time(left)}"
            raise RateLimited(text, hint=error.hint, status=429, url=redact(url))

    async def enter(self, url: str = "") -> bool:
        """Wait for a turn, and for as long as the registry asked everyone to.

        Returns:
            What :meth:`leave` is to be told: whether the pace grew for this one.

        Raises:
            RateLimited: The URL's host asked to wait for longer than :data:`PATIENCE`.
        """
        if self._stopped:
            self._check(url)
        first = False
        if self.busy < self.limit and not self._waiting:
            self.busy += 1
        else:
            turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                first = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave(first=turn.result())
                raise
        try:
            while (seconds := self._until - time.monotonic()) > 0:  # noqa: ASYNC110 - it may be put off meanwhile
                await anyio.sleep(seconds)
            if self.rate < inf:
                now = time.monotonic()
                self._next = max(now, self._next + 1 / self.rate)
                await anyio.sleep(self._next - now)
        except BaseException:
            self.leave(first=first)
            raise
        return first

    def leave(self, *, first: bool = False) -> None:
        """Let the next one have its turn."""
        self.busy -= 1
        self._admit()
        if first:
            self._first -= 1
            self._grow_soon()

    def _admit(self, *, first: bool = False) -> None:
        while self._waiting and self.busy < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.busy += 1
                self._first += first
                turn.set_result(first)

    def succeeded(self, seconds: float) -> None:
        """Take a good answer into account, whose head came after so many seconds."""
        now = time.monotonic()
        if not self._measures(now):
            self._window.clear()
        self._window.append(now)
        self._seconds += seconds
        self._answers += 1
        self._grow_soon()

    def _grow_soon(self) -> None:
        """Grow after a round of good answers, if those that the pace grew for last are among them."""
        if self._answers < self.limit or self._first or self._growing:
            return
        # Answers differ, a listing from a manifest, so it is rounds of them that are compared.
        usual = self._seconds / self._answers
        self._best = min(self._best, usual)
        queue = self.limit * (1 - self._best / usual)
        queues = usual >= _SLOWER * self._best and queue >= _QUEUE
        if not self._waiting or self.limit >= self.most or queues:
            self._seconds, self._answers = 0.0, 0
            return
        # Answers come in bursts, and what was too much is at the end of one.
        self._growing = True
        asyncio.get_running_loop().call_later(usual * _BURST, self._grow)

    def _grow(self) -> None:
        self._growing = False
        self._seconds, self._answers = 0.0, 0
        self.limit = min(self.most, self.limit + min(_STEP, len(self._waiting)))
        self._admit(first=True)

    def _measures(self, now: float) -> bool:
        return bool(self._window) and now - self._window[-1] <= _LULL

    def limited(self, seconds: float, began: float) -> None:
        """Take a 429 into account that answers a request which began at ``began``."""
        now = time.monotonic()
        self._until = max(self._until, now + seconds)
        if began >= self._braked:  # one burst of 429s brakes once
            self.limit = self.most = max(1, self.limit * 3 // 4)
            self._braked, self.refused = now, True
            if len(self._window) >= _FEW and self._measures(now):
                lately = max(_FEW, sum(now - each < 1 for each in self._window))
                self.rate = min(self.rate, 0.75 * lately / max(0.001, now - self._window[-lately]))


async def asked_again(
    answer: Response | Streamed,
    attempt: int,
    pace: Pace | None = None,
    began: float = 0.0,
    *,
    retries: int | None = None,
) -> bool:
    """Whether to send a request again; if so, after the wait that is due.

    Args:
        answer: A 429 or 5xx.
        attempt: How often it was sent.
        pace: What a 429 slows down, if it says something about the registry.
        began: When the request was sent.
        retries: How often it may be sent again; by default as :data:`ATTEMPTS` has it.

    Raises:
        RateLimited: The wait would be longer than :data:`PATIENCE`.
    """
    status = answer.status
    asked = retry_after(answer.headers.get("retry-after"))
    if status == 429:
        asked = window(answer.headers) if asked is None else asked
        if asked is not None and asked > PATIENCE:
            text = f"{redact(answer.url)}: the registry asks to wait for {human_time(asked)}"
            error = failure(RateLimited, answer, text, hint=BY_STATUS[429][1])
            if pace is not None:
                pace.stop(error, asked)
            raise error
        if pace is not None:
            pace.limited(asked or 0.0, began)
    if attempt >= attempts(status, retries) or (asked or 0.0) > PATIENCE:
        return False
    if asked is None:
        asked = backoff(attempt, 0.5 if status in ATTEMPTS else 0.1)
    else:
        asked += random.uniform(0, 0.1)  # noqa: S311 - spreads requests, hides nothing
    _LOG.info(
        "%s %s: %d; asked again in %.1f s, attempt %d", answer.method, redact(answer.url), status, asked, attempt + 1
    )
    await anyio.sleep(asked)
    return True


def attempts(status: int, retries: int | None) -> int:
    """Return how often a read is sent before a status, or 0 for no answer, is an error.

    Example:
        >>> attempts(503, None), attempts(503, 0)
        (6, 1)
    """
    return ATTEMPTS.get(status, FEW_ATTEMPTS) if retries is None else retries + 1


def backoff(attempt: int, first: float) -> float:
    """Return seconds that double with each attempt, up to 10, give or take a half."""
    return min(10.0, first * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads requests


def window(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of the window in which Docker Hub counts pulls, where none are left; else None.

    Example:
        >>> window({"ratelimit-remaining": "0;w=21600"})
        21600.0
    """
    left, _, rest = headers.get("ratelimit-remaining", "").replace(" ", "").partition(";w=")
    return float(rest) if left == "0" and rest.isdecimal() else None


def human_time(seconds: float) -> str:
    """Return a wait in words.

    Example:
        >>> human_time(21600), human_time(90)
        ('6 h', '90 s')
    """
    return f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds:.0f} s"


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

"""The jobs of a crawl, and the workers that do them."""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

import anyio
from anyio.abc import TaskGroup

_SPARE: Final = 8
"""Workers beyond the requests that may be under way."""
_UNSEARCHED: Final = 20_000
"""Objects that are made between two looks: few enough that what is in a circle takes no room to speak of."""


@contextlib.contextmanager
def _seldom_searched() -> Iterator[None]:
    """Let Python look for circles less often within: what a crawl keeps is in none, and looking takes a twentieth."""
    before = gc.get_threshold()
    if not 0 < before[0] < _UNSEARCHED:  # it never looks, or another crawl has seen to it
        yield
        return
    gc.set_threshold(_UNSEARCHED, before[1], before[2])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Jobs:
    """A stack of jobs that a few workers empty: depth first, so that little is waiting at any time."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._waiting: deque[Callable[[], Awaitable[None]]] = deque()
        self._busy = self._workers = 0
        self._group: TaskGroup
        self._wake = anyio.Event()
        self._held: dict[str, anyio.Event | None] = {}

    def add(self, jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
        """Put jobs on the stack: the last comes first."""
        self._waiting.extend(jobs)
        if self._workers:
            self._hire()
        self._wake.set()
        self._wake = anyio.Event()

    async def run(self) -> None:
        """Do every job, those that jobs add included."""
        with _seldom_searched():
            async with anyio.create_task_group() as group:
                self._group = group
                self._hire()
        self._workers = 0

    def _hire(self) -> None:
        """Keep a few more workers than there may be requests: that some wait shows that more would be of use."""
        wanted = min(self._limit() + _SPARE, len(self._waiting) + self._busy)
        for _ in range(wanted - self._workers):
            self._workers += 1
            self._group.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            while self._waiting:
                job = self._waiting.pop()
                self._hire()
                self._busy += 1
                try:
                    await job()
                finally:
                    self._busy -= 1
            if not self._busy:
                self._wake.set()
                return
            await self._wake.wait()

    def alone(self, what: str) -> _Alone:
        """Let one worker at a time do what the others, once it is done, need not do again."""
        return _Alone(self._held, what)


class _Alone:
    """Holds a name; an event is made only where somebody waits for it."""

    __slots__ = ("_held", "_what")

    def __init__(self, held: dict[str, anyio.Event | None], what: str) -> None:
        self._held, self._what = held, what

    async def __aenter__(self) -> None:
        held, what = self._held, self._what
        while what in held:
            event = held[what] = held[what] or anyio.Event()
            await event.wait()
        held[what] = None

    async def __aexit__(self, *_: object) -> None:
        if event := self._held.pop(self._what):
            event.set()

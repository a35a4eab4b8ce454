"""A clock that a test moves on, so that what takes minutes takes no time, and no test depends on a machine's speed."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar, Self

from regnb import session

_TURNS = 3
"""Turns of the loop after which it has read what was sent before."""


class Clock:
    """Stands in for ``time.monotonic``, by which event loops and regnb measure how long something takes.

    What has passed stays passed for the whole process: a loop in another thread, such as a server's that serves many
    tests, would sleep until the real clock had caught up with what it last read, and could not be stopped before.
    """

    _real = staticmethod(time.monotonic)
    _passed: ClassVar = 0.0

    def __call__(self) -> float:
        return self._real() + Clock._passed

    def __enter__(self) -> Self:
        time.monotonic = self
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def forward(self, seconds: float) -> None:
        """Let so much time pass at once."""
        Clock._passed += seconds

    async def leap(self, seconds: float) -> None:
        """Let so much time pass at once for regnb's loop, after it has read what was sent to it until now."""
        await asyncio.wrap_future(session.loop().start_task_soon(self._leap, seconds))

    async def _leap(self, seconds: float) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self.forward(seconds)

"""A clock that a test moves on, so that what takes minutes takes no time, and no test depends on a machine's speed."""

from __future__ import annotations

import asyncio
import time
from typing import Self
from unittest import mock

from regnb import session

_TURNS = 3
"""Turns of the loop after which it has read what was sent before."""


class Clock:
    """Stands in for ``time.monotonic``, by which event loops and regnb measure how long something takes."""

    def __init__(self) -> None:
        self._real = time.monotonic
        self._patch = mock.patch("time.monotonic", self)
        self._passed = 0.0

    def __call__(self) -> float:
        return self._real() + self._passed

    def __enter__(self) -> Self:
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def forward(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._passed += seconds

    async def leap(self, seconds: float) -> None:
        """Let so much time pass at once for regnb's loop, after it has read what was sent to it until now."""
        await asyncio.wrap_future(session.loop().start_task_soon(self._leap, seconds))

    async def _leap(self, seconds: float) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self.forward(seconds)

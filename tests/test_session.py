"""Blocking calls on the background loop, and what an interrupt does to them."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import anyio
import pytest

from regnb import session
from regnb.errors import Interrupted


class Hasty:
    """The loop, as it is where Ctrl-C comes while work is handed to it: it starts it, and nobody learns of that."""

    def __init__(self, begun: threading.Event | None) -> None:
        self._loop, self._begun = session.loop(), begun
        self.call = self._loop.call

    def start_task_soon(self, work: Callable[[], Awaitable[Any]]) -> Future[Any]:
        self._loop.start_task_soon(work)
        assert self._begun is None or self._begun.wait(60)
        raise KeyboardInterrupt


@pytest.mark.parametrize("waits", [True, False])
def test_work_that_an_interrupt_overtakes_does_not_go_on(monkeypatch: pytest.MonkeyPatch, *, waits: bool) -> None:
    """Whether it has begun or not: it is told as an interrupt, and ended, though there is no future of it yet."""
    begun, ended, done = threading.Event(), threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await anyio.sleep(0.2)
            done.set()
        finally:
            ended.set()

    hasty = Hasty(begun if waits else None)
    monkeypatch.setattr(session, "loop", lambda: hasty)
    with pytest.raises(Interrupted):
        session.run(work)
    monkeypatch.undo()
    session.run(lambda: anyio.sleep(0.5))
    assert ended.is_set() or not begun.is_set()
    assert not done.is_set()

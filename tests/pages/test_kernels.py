"""The pages' kernels: which page gives way when all places are taken, and that none is held open without use."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from regnb.errors import InvalidArgument
from regnb.pages import kernels
from regnb.pages.kernels import Kernels, Visitor

NAMES = ("writes", "used", "first", "second")


class Idle:
    """A kernel that last did something so many seconds ago; a real one would have to be waited for."""

    execution_state, kernel_name = "idle", "python3"
    kernel_spec = SimpleNamespace(metadata={})

    def __init__(self, quiet: float) -> None:
        self.last_activity = datetime.now(UTC) - timedelta(seconds=quiet)


class Line:
    """A page's connection, and why it was closed."""

    reason = ""

    def close(self, _: int, reason: str) -> None:
        self.reason = reason


class Pages(Kernels):
    """Without processes: which kernels were ended is kept."""

    def open(self, kernel_id: str, address: str, quiet: float = 0, *, visitor: str = "", writes: bool = False) -> Line:
        line = Line()
        self._kernels[kernel_id] = Idle(quiet)  # type: ignore[assignment]
        self._kernel_connections[kernel_id] = 1
        self._given[kernel_id] = Visitor(visitor or kernel_id, address, writes)
        self.connect(kernel_id, line)
        return line

    async def finish(self, kernel_id: str) -> None:
        self.remove_kernel(kernel_id)


def test_one_address_does_not_take_all_places() -> None:
    """However many cookies it has: its page that was used least gives way, and that visitor is told; writers stay."""

    async def work() -> None:
        pages = Pages(most=4)
        pages.open("writes", "192.0.2.1", 900, writes=True)
        used, unused = pages.open("used", "192.0.2.1", 1), pages.open("unused", "192.0.2.1", 60)
        other = pages.open("other", "192.0.2.2", 600)
        pages.take_room("page", Visitor("newcomer", "192.0.2.3", writes=False))
        await asyncio.sleep(0)
        assert "others need its place" in unused.reason
        assert not used.reason + other.reason
        assert set(pages.list_kernel_ids()) == {"writes", "used", "other"}
        for address in ("192.0.2.1", "192.0.2.2"):  # who has as many as anybody takes nobody's place
            with pytest.raises(InvalidArgument, match="4 pages are open"):
                pages.take_room(address, Visitor("another", address, writes=False))

    asyncio.run(work())


@pytest.mark.parametrize("limit", ["most", "each"])
def test_a_page_whose_browser_has_gone_gives_way(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that crashed says no goodbye: its places are others' and its own when they are needed.

    The page that was left first goes; none that may write, and none that lost its connection a moment ago.
    """

    async def work() -> None:
        pages = Pages(most=4 if limit == "most" else 20, each=4)
        lines = {name: pages.open(name, "192.0.2.1", visitor="crashed", writes=name == "writes") for name in NAMES}
        newcomer = Visitor("crashed" if limit == "each" else "newcomer", "192.0.2.1", writes=False)
        for name in ("writes", "second", "first"):
            pages.disconnect(name, lines[name])
        with pytest.raises(InvalidArgument, match=r"4 (of your )?pages are open"):
            pages.take_room("page", newcomer)
        monkeypatch.setattr(kernels, "_LEFT", 0.0)
        pages.disconnect("second", lines["second"])
        for number, gone in enumerate(("first", "second")):
            pages.take_room(number, newcomer)
            await asyncio.sleep(0)
            assert gone not in pages
        with pytest.raises(InvalidArgument):
            pages.take_room("page", newcomer)
        assert set(pages.list_kernel_ids()) == {"writes", "used"}

    asyncio.run(work())


def test_a_page_that_is_open_and_not_used_ends() -> None:
    """After six times as long as one that was left, and its visitor is told; the one that is used stays."""

    async def work() -> None:
        pages = Pages(cull_idle_timeout=60)
        unused, used = pages.open("unused", "192.0.2.1", 400), pages.open("used", "192.0.2.1", 300)
        for kernel_id in pages.list_kernel_ids():
            await pages.cull_kernel_if_idle(kernel_id)
        assert unused.reason == "nobody used the page for 6 minutes"
        assert pages.list_kernel_ids() == ["used"]
        assert not used.reason
        kernel: Any = pages.get_kernel("used")
        kernel.execution_state = "busy"
        kernel.last_activity -= timedelta(days=1)
        await pages.cull_kernel_if_idle("used")
        assert "used" in pages, "it is at work"

    asyncio.run(work())

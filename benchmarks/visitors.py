"""What one visitor of the web UI who misbehaves costs the others: time to open a page, and memory afterwards.

Eight visitors open pages for two minutes, first among themselves, then beside one who opens page after page and keeps
them, holds connections open, and sends more messages than a page may. Nothing that is sent is malformed in a way that
other software would trip over. ``python benchmarks/visitors.py [--visitors 8] [--seconds 120]``.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import httpx

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in ("", "pages")]

from browser import Site
from pages import memory
from tornado.websocket import WebSocketError
from visitor import Visitor

from regnb.local import sandbox

PAGES = ("13-retention", "10-retag", "12-delete")


def address(number: int) -> dict[str, str]:
    """Give a visitor an address of its own, as a proxy that is trusted says it."""
    return {"X-Forwarded-For": f"192.0.2.{number + 1}"}


async def behave(site: Site, number: int, until: float, times: list[float]) -> None:
    """Open a page, look at its widgets, and leave it as a browser does."""
    with httpx.Client(timeout=120, headers=address(number)) as client:
        while time.monotonic() < until:
            begun = time.monotonic()
            visitor = await asyncio.to_thread(Visitor, site, PAGES[number % len(PAGES)], client)
            async with visitor:
                await visitor.widgets()
                times.append(time.monotonic() - begun)
                await asyncio.sleep(10)
            origin = {"Origin": site.base.removesuffix("/ui/")}
            where = f"{site.base}voila/api/shutdown/{visitor.kernel}"
            await asyncio.to_thread(client.post, where, headers=origin)


FAULTS = (AssertionError, OSError, httpx.HTTPError, TimeoutError, WebSocketError)
"""What refusals look like from outside."""


async def hold(site: Site, until: float) -> None:
    """Hold connections open, and begin requests that never end."""
    while time.monotonic() < until:
        held = []
        for number in range(200):
            with suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", site.port), 5))
                held[-1].sendall(b"GET /ui/ HT" if number % 2 else b"")
        await asyncio.sleep(5)
        for each in held:
            each.close()


async def hoard(site: Site, until: float) -> None:
    """Open pages without end, each as a new visitor, and keep them open."""
    async with AsyncExitStack() as stack:
        while time.monotonic() < until:
            with suppress(*FAULTS):
                visitor = await asyncio.to_thread(opened, site)
                await stack.enter_async_context(visitor)
            await asyncio.sleep(0.1)


async def flood(site: Site, until: float) -> None:
    """Send messages without end."""
    while time.monotonic() < until:
        with suppress(*FAULTS):
            async with await asyncio.to_thread(opened, site) as visitor:
                while time.monotonic() < until:
                    await visitor.send("comm_info_request", {})
        await asyncio.sleep(0.1)


def opened(site: Site) -> Visitor:
    """Open a page as somebody who has never been there, but from the same address as before."""
    with httpx.Client(timeout=120, headers=address(99)) as client:
        return Visitor(site, PAGES[0], client)


async def play(site: Site, visitors: int, seconds: float, *, bad: bool) -> list[float]:
    """Return how long each page took."""
    times: list[float] = []
    until = time.monotonic() + seconds
    work = [behave(site, number, until, times) for number in range(visitors)]
    await asyncio.gather(*work, *([hold(site, until), hoard(site, until), flood(site, until)] if bad else []))
    return times


def main() -> None:
    """Measure both, and print one table."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--visitors", type=int, default=8)
    asked.add_argument("--seconds", type=float, default=120)
    given = asked.parse_args()
    found = []
    for bad in (False, True):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            demo = stack.enter_context(sandbox.demo_registry())
            options = ("--idle", "10", "--trusted-proxy", "127.0.0.1")
            site = stack.enter_context(Site(folder / "ui.log", demo.url, *options))
            times = asyncio.run(play(site, given.visitors, given.seconds, bad=bad))
            time.sleep(30)  # until kernels that nobody looks at have ended
            slow = statistics.quantiles(times, n=20)[-1]
            found.append((slow, memory(site)))
            print(f"{'with' if bad else 'without'}: {len(times)} pages, p95 {slow:.2f} s, {found[-1][1] / 1e6:,.0f} MB")
    (quiet, before), (loud, after) = found
    print(f"p95 {loud / quiet:.2f} times, memory {after / before:.2f} times (wanted: at most 1.5 and 1.2)")


if __name__ == "__main__":
    main()

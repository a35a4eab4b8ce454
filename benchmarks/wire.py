"""Requests, crawls and audits beside aiohttp, beside a C client, and beside themselves.

Needs a C compiler, and Debian's docker-registry for its row.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from corpus import Corpus
from distribution import Distribution
from measure import Row, compared, in_turn, python, shown
from memory import replay, serving, table

_CPU = """
import asyncio, json, resource, sys, time
from pathlib import Path
class Clock:
    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), self.used()
    @staticmethod
    def used():
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime
    def stop(self, **more):
        found = {"seconds": time.perf_counter() - self.wall, "cpu": self.used() - self.cpu}
        print(json.dumps(found | more))
"""
# Many times what one repository lists: what is measured is a request, with neither start nor crawl.
REQUESTS = (
    _CPU
    + """
from regnb.wire.transport import Transport
from regnb.oci.manifest import ACCEPT
accept = {"Accept": ", ".join(ACCEPT)}
url, path, workers, method = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
async def main():
    paths = iter(path.read_text().split())
    async with Transport(url, concurrency=workers) as transport:
        async def work():
            for path in paths:
                await transport.request(method, path, headers=accept)
        await transport.request("GET", "/v2/")
        clock = Clock()
        await asyncio.gather(*(work() for _ in range(workers)))
        clock.stop()
asyncio.run(main())
"""
)
AIOHTTP = (
    _CPU
    + """
import aiohttp
url, path, workers, accept = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
async def main():
    lines = path.read_text().split()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=workers)) as session:
        async def work():
            for line in paths:
                async with session.get(url + line, headers={"Accept": accept}) as response:
                    await response.read()
        paths = iter(["/v2/"])
        await work()
        paths = iter(lines)
        clock = Clock()
        await asyncio.gather(*(work() for _ in range(workers)))
        clock.stop()
asyncio.run(main())
"""
)
AUDIT = (
    _CPU
    + """
from collections import deque
import regnb

url, cache, log, cached = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "cached"
registry = regnb.connect(url, cache=cache)
transport = registry._client.transport
if log:
    transport.exchanges = deque()
before, clock = transport.sent, Clock()
inventory = registry.inventory(progress=False, cached=cached)
assert inventory.complete
seconds, cpu = time.perf_counter() - clock.wall, clock.used() - clock.cpu
if log:
    Path(log).write_text("\\n".join(f"{e.method} {e.url}" for e in transport.exchanges))
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
print(json.dumps({"seconds": seconds, "cpu": cpu, "requests": transport.sent - before, "tags": len(inventory.tags),
    "peak": peak, "whole": clock.used()}))
"""
)
# Of the process itself: what its parent needed before would count as its own for whoever waits for it.
COMMAND = """
import contextlib, io, json, sys
from pathlib import Path
from regnb.__main__ import main
sys.argv = ["regnb", "audit", sys.argv[1]]
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    main()
assert "Complete" in said.getvalue()
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
print(json.dumps({"peak": peak}))
"""


def _accept() -> str:
    from regnb.oci.manifest import ACCEPT

    return ", ".join(ACCEPT)


def _audit(url: str, cache: Path, log: Path | None = None, *, cached: bool = True) -> dict[str, Any]:
    return python(AUDIT, url, cache, log or "", "cached" if cached else "")


def _recorded(url: str, folder: Path) -> list[tuple[str, str]]:
    """Return method and path of every request of a cold audit: whatever another one has read counts as known."""
    log = folder / "log"
    _audit(url, _fresh(folder), log)
    return [(method, urlsplit(where)._replace(scheme="", netloc="").geturl())
            for method, where in (line.split(" ") for line in log.read_text().splitlines())]  # fmt: skip


def _fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def cpu(folder: Path, rounds: int, answers: Path) -> Iterator[Row]:
    """Compare the CPU of the client alone: the registry is another process."""
    with serving(answers) as server:
        asked = _recorded(server.url, folder)
        paths = folder / "paths"
        paths.write_text("\n".join(path for _, path in asked))
        last: dict[str, dict[str, Any]] = {}

        def took(name: str, source: str, *words: object) -> float:
            last[name] = python(source, server.url, *words)
            return float(last[name]["cpu"])

        def each(name: str) -> float:
            return float(last[name]["cpu"]) / len(asked)

        def bare() -> float:
            return took("bare", AIOHTTP, paths, 16, _accept()) / len(asked)

        pairs = in_turn(rounds, lambda: took("mine", REQUESTS, paths, 16, "GET") / len(asked), bare)
        yield compared("one request, CPU / bare aiohttp's", pairs, "s", most=1.3)
        kept: list[Path] = []

        def cold() -> float:
            kept.append(_fresh(folder))
            return took("cold", AUDIT, kept[-1], "", "cached")

        pairs = in_turn(rounds, cold, lambda: bare() * len(asked))
        yield compared(f"cold audit, {len(asked):,} requests, CPU / aiohttp's replay", pairs, "s", most=1.8)

        def first() -> float:
            return cold() / int(last["cold"]["requests"])

        def warm() -> float:
            return took("warm", AUDIT, kept[-1], "", "cached") / int(last["warm"]["tags"])

        # The floor of a warm audit: its requests, sent the same way, and nothing done with the answers.
        tags = [path for _, path in asked if "/manifests/" in path and ":" not in path]
        heads = folder / "heads"
        heads.write_text("\n".join(tags))

        def head() -> float:
            return took("head", REQUESTS, heads, 16, "HEAD") / len(tags)

        found = [(first(), warm(), head()) for _ in range(rounds)]
        pairs = [(tag, one) for one, tag, _ in found]
        yield compared("warm audit, CPU a tag / cold audit's a request", pairs, "s", most=0.5)
        yield compared("  a HEAD without an audit, CPU / the same", [(each, one) for one, _, each in found], "s")


def latency(folder: Path, rounds: int, answers: Path) -> Iterator[Row]:
    """Compare requests per second where every answer is 50 ms late, and count what a registry refuses."""
    with serving(answers) as server:
        asked = _recorded(server.url, folder)

    def mine(url: str, cache: Path) -> float:
        found = _audit(url, cache)
        return float(found["requests"]) / float(found["seconds"])

    with serving(answers, 50) as server:
        pairs = in_turn(
            rounds,
            lambda: mine(server.url, _fresh(folder)),
            lambda: len(asked) / float(replay(server.url, asked, 128)["seconds"]),
        )
        yield compared("crawl at 50 ms / C client of 128 connections, requests/s", pairs, "/s", least=0.7)
    # What was read is forgotten between these crawls; what the registry could take is not.
    cache, limited = _fresh(folder), []
    with serving(answers, 50, 48) as server:
        for _ in range(2):
            _audit(server.url, cache, cached=False)
            limited.append(int(server.asked()["limited"]))
    yield Row("429s in a crawl of a registry that takes 48 requests at once", f"{limited[0]}", "", limited[0], most=5)
    yield Row("429s in the crawl after it", f"{limited[1]}", "", limited[1], most=1)


def real(folder: Path, rounds: int, repositories: int, tags: int) -> Iterator[Row]:
    """Compare with a replay from C on Debian's docker-registry: whoever takes less of the two cores leaves it more."""
    registry = Distribution(folder / "real")
    Corpus(registry.root).write(repositories, tags)
    with registry:
        asked = _recorded(registry.url, folder)

        def mine() -> float:
            found = _audit(registry.url, _fresh(folder))
            return float(found["requests"]) / float(found["seconds"])

        def bare(source: str, *words: object) -> float:
            return len(asked) / float(python(source, registry.url, paths, 16, *words)["seconds"])

        paths = folder / "paths"
        paths.write_text("\n".join(path for _, path in asked))
        found = in_turn(
            rounds,
            lambda: len(asked) / float(replay(registry.url, asked, 16)["seconds"]),
            mine,
            lambda: bare(REQUESTS, "GET"),
            lambda: bare(AIOHTTP, _accept()),
        )
        peer, crawl, wire, aiohttp = zip(*found, strict=True)
        what = "cold crawl on docker-registry / C client's replay, requests/s"
        yield compared(what, [*zip(crawl, peer, strict=True)], "/s", least=0.8)
        # Its floors: the same requests, and nothing done with the answers.
        yield compared("  its requests without a crawl / the same", [*zip(wire, peer, strict=True)], "/s")
        yield compared("  aiohttp's replay / the same", [*zip(aiohttp, peer, strict=True)], "/s")


def memory(folder: Path, tags: int) -> Iterator[Row]:
    """Measure the peak memory of a large audit, cold and warm, and of the command, which shows its tables, too."""
    answers = table(folder / "large", tags // 50, 50)
    with serving(answers) as server:
        cache = _fresh(folder)
        for name in ("cold", "warm"):
            peak = float(_audit(server.url, cache)["peak"]) / 1e6
            yield Row(f"peak memory of a {name} audit of {tags:,} tags, MB", shown(peak, "MB"), "", peak, most=200)
        peak = float(python(COMMAND, server.url)["peak"]) / 1e6
        yield Row(f"peak memory of `regnb audit`, {tags:,} tags, MB", shown(peak, "MB"), "", peak, most=200)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    answers = table(folder / "table", options.repositories, options.tags)
    yield from cpu(folder, options.rounds, answers)
    yield from latency(folder, options.rounds, answers)
    yield from real(folder, options.rounds, options.repositories, options.tags)
    yield from memory(folder, options.large)

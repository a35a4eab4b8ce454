"""A cold and a warm audit beside a bare replay of the same requests and beside skopeo, in one run.

    make bench
    python benchmarks/crawl.py [--repositories 200] [--tags 20] [--rounds 3]

Needs Debian's docker-registry, and skopeo for its row. Prints one table; exits with 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from corpus import Corpus
from distribution import Distribution

WORKERS = 16
AUDIT = """
import json, resource, sys, time
import regnb
registry = regnb.connect(sys.argv[1], cache=__import__("pathlib").Path(sys.argv[2]))
transport = registry._client.transport
before, start = transport.sent, time.perf_counter()
inventory = registry.inventory(progress=False)
seconds = time.perf_counter() - start
urls = [(e.method, e.url) for e in transport.exchanges][-(transport.sent - before):]
print(json.dumps({"seconds": seconds, "requests": transport.sent - before, "tags": len(inventory.tags),
    "complete": inventory.complete, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "urls": urls}))
"""


def audit(url: str, cache: Path) -> dict[str, object]:
    """Audit in a process of its own, as a user does, and return its figures."""
    done = subprocess.run([sys.executable, "-c", AUDIT, url, str(cache)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


async def replay(urls: list[tuple[str, str]], accept: str) -> float:
    """Send the same requests with aiohttp alone, at the same concurrency, and return the seconds."""
    import aiohttp

    waiting = iter(urls)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=WORKERS)) as session:

        async def work() -> None:
            for method, url in waiting:
                async with session.request(method, url, headers={"Accept": accept}) as response:
                    await response.read()

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(WORKERS)))
        return time.perf_counter() - start


def recorded(url: str, folder: Path) -> list[tuple[str, str]]:
    """Return every request of a cold audit."""
    code = AUDIT.replace("transport = registry._client.transport", (
        "transport = registry._client.transport; from collections import deque; transport.exchanges = deque()"
    ))  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, url, str(folder)], capture_output=True, text=True, check=True)
    return [(method, where) for method, where in json.loads(done.stdout)["urls"]]


def skopeo(registry: Distribution, names: list[str]) -> float:
    """Inspect every name with eight skopeo processes at once, and return the seconds."""
    start = time.perf_counter()
    subprocess.run(
        ["xargs", "-P8", "-I{}", "skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{{}}"],
        input="\n".join(names), text=True, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repositories", type=int, default=200)
    parser.add_argument("--tags", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from regnb.oci.manifest import ACCEPT

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        registry = Distribution(folder)
        count = Corpus(registry.root).write(options.repositories, options.tags)
        stack.enter_context(registry)
        urls = recorded(registry.url, folder / "recorded")
        names = [
            f"team-{n % 10}/app-{n}:v{t}" for n in range(min(20, options.repositories)) for t in range(options.tags)
        ]
        against_replay, against_skopeo = [], []
        for number in range(options.rounds):
            # In turn, so that a machine that slows down slows them all.
            seconds = asyncio.run(replay(urls, ", ".join(ACCEPT)))
            cold = audit(registry.url, folder / f"cache-{number}")
            warm = audit(registry.url, folder / f"cache-{number}")
            against_replay.append((float(cold["requests"]) / float(cold["seconds"])) / (len(urls) / seconds))
            if shutil.which("skopeo"):
                took = skopeo(registry, names)
                against_skopeo.append((count / float(warm["seconds"])) / (len(names) / took))
        pages = 1
        floor = pages + options.repositories + count
        print(f"{'the last round':34}{'requests':>10}{'seconds':>10}{'per second':>12}{'tags/s':>10}{'peak MB':>10}")
        print(f"{'bare replay (aiohttp)':34}{len(urls):>10}{seconds:>10.2f}{len(urls) / seconds:>12.0f}")
        for name, row in (("cold audit", cold), ("warm audit", warm)):
            n, s = int(row["requests"]), float(row["seconds"])
            print(f"{name:34}{n:>10}{s:>10.2f}{n / s:>12.0f}{count / s:>10.0f}{int(row['memory']) / 1024:>10.0f}")
        ok = {
            "cold audit / bare replay, requests per second, median": (statistics.median(against_replay), 0.7),
            "floor of warm requests / warm requests": (floor / int(warm["requests"]), 1.0),
            "300 MB / peak memory of the cold audit": (300 * 1024 / int(cold["memory"]), 1.0),
        }
        if against_skopeo:
            print(f"{'xargs -P8 skopeo inspect --raw':34}{'':>10}{took:>10.2f}{'':>12}{len(names) / took:>10.0f}")
            ok["warm audit / skopeo, tags per second, median"] = (statistics.median(against_skopeo), 5.0)
            # One request a tag, as skopeo's. A cold audit also reads children and configs, and saturates the registry.
            rate = took / len(names)
            print(f"cold audit / skopeo, tags per second: {count / float(cold['seconds']) * rate:.2f}", end="; ")
            print(f"a bare replay of all its requests: {count / seconds * rate:.2f}")
        print()
        for name, (value, limit) in ok.items():
            print(f"{'ok  ' if value >= limit else 'MISS'} {name}: {value:.2f} (at least {limit})")
        for name, ratios in (("replay", against_replay), ("skopeo", against_skopeo)):
            print(f"rounds against {name}: {', '.join(f'{ratio:.2f}' for ratio in ratios) or 'none'}")
        print(f"{os.cpu_count()} processors")
        return 0 if all(value >= limit for value, limit in ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

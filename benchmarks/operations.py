"""Retagging beside a bare replay of its requests, copying beside skopeo, planning a large deletion, and the number of
requests that each operation costs, in one run.

    make bench
    python benchmarks/operations.py [--tags 1000] [--megabytes 1000] [--rounds 3]

Needs Debian's docker-registry and skopeo. Prints one table; exits with 1 if a limit is missed.
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
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from corpus import LAYER, Corpus
from distribution import Distribution

RETAG = """
import json, sys, time
from collections import deque
from pathlib import Path
import regnb
registry = regnb.connect(sys.argv[1], cache=Path(sys.argv[2]))
transport = registry._client.transport
transport.exchanges = deque()
start = time.perf_counter()
plan = registry.plan_retag(f"{sys.argv[3]}:v*", "{tag}-x")
receipt = registry.apply(plan, confirm=plan.digest, progress=False)
seconds = time.perf_counter() - start
sent = [(e.method, e.url, e.request_headers.get("Content-Type", "")) for e in transport.exchanges]
print(json.dumps({"seconds": seconds, "sent": sent, "status": receipt.status}))
"""
COPY = """
import json, sys, time
from pathlib import Path
import regnb
def peak():  # not getrusage: its peak is that of whoever started this process, too
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
source, registry = (regnb.connect(url, cache=False) for url in sys.argv[1:3])
plan = registry.plan_copy("big/image:1", "copied/by-regnb:1", source=source)
before = peak()
start = time.perf_counter()
receipt = registry.apply(plan, confirm=plan.digest, source=source, progress=False)
print(json.dumps({"seconds": time.perf_counter() - start, "status": receipt.status,
    "grown": peak() - before}))
"""
COUNT = """
import json, sys
from collections import deque
from pathlib import Path
import regnb
registry = regnb.connect(sys.argv[1], cache=Path(sys.argv[2]))
name, tags = sys.argv[3], int(sys.argv[4])
transport = registry._client.transport
transport.exchanges = deque()
found = {}
def count(what, work):
    before = transport.sent
    result = work()
    found[what] = transport.sent - before
    return result
def change(what, make):
    plan = count(f"plan {what}", make)
    receipt = count(f"apply {what}", lambda: registry.apply(plan, confirm=plan.digest, progress=False))
    assert receipt.status == "done", receipt
    found[f"rows {what}"] = plan.changes
    return receipt
registry.inventory(progress=False)
count("warm audit", lambda: registry.inventory(progress=False))
retag = change("retag", lambda: registry.plan_retag(f"{name}:v*", "{tag}-x"))
change("undo a retag", lambda: registry.plan_undo(retag, allow=["dummy"]))
inventory = registry.inventory(progress=False)
some = [f"{name}:v{number}" for number in range(tags * 2 // 3)]
deletion = change("deletion", lambda: registry.plan_delete(some, inventory=inventory))
change("undo a deletion", lambda: registry.plan_undo(deletion))
print(json.dumps(found))
"""
BEFORE = {"retag": 3.04, "undo a retag": 9.67, "deletion": 7.13, "undo a deletion": 6.25}
"""Requests a row, for planning and applying together, before absence was proven (60 tags)."""
DELETE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
import anyio
from simulated import SimulatedClient
from regnb.wire.cache import Cache
from regnb.crawl.crawl import collect
from regnb.analysis.inventory import Inventory
from regnb.change.delete import plan_delete
inventory = Inventory.of(anyio.run(collect, SimulatedClient(1000, 100), Cache()))
chosen = inventory.tags.iloc[::10]
start = time.perf_counter()
plan = plan_delete(inventory, chosen, url=f"http://{inventory.registry}", authorized=False)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "tags": len(inventory.tags), "chosen": len(chosen), "steps": len(plan.steps)}))
"""


def run(code: str, folder: Path, *arguments: object) -> dict[str, Any]:
    """Run in a process of its own, as a user does, and return its figures."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True,
        env=os.environ | {"REGNB_RECEIPTS": str(folder / "receipts")},
    )  # fmt: skip
    found = dict(json.loads(done.stdout))
    if found.get("status", "done") != "done":
        raise SystemExit(f"not everything was done: {found['status']}")
    return found


async def replay(sent: list[tuple[str, str, str]], bodies: dict[str, bytes]) -> float:
    """Send the same requests with aiohttp alone: reads eight at once, writes one after another, and return the seconds.

    One after another is what a repository's writes are; the reads of the planning and of the checking may overlap.
    """
    import aiohttp

    from regnb.oci.manifest import ACCEPT

    accept = {"Accept": ", ".join(ACCEPT)}
    reads = iter([each for each in sent if each[0] in ("GET", "HEAD")])
    writes = [each for each in sent if each[0] == "PUT"]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:

        async def read() -> None:
            for method, url, _ in reads:
                async with session.request(method, url, headers=accept) as response:
                    await response.read()

        async def write() -> None:
            for method, url, media_type in writes:
                body = bodies[url.rpartition("/")[2].rpartition("-")[0]]
                async with session.request(method, url, data=body, headers={"Content-Type": media_type}) as response:
                    await response.read()
                    response.raise_for_status()

        start = time.perf_counter()
        await asyncio.gather(write(), *(read() for _ in range(8)))
        return time.perf_counter() - start


def retag(stack: contextlib.ExitStack, folder: Path, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    registry = Distribution(folder / "retag")
    Corpus(registry.root).write(options.rounds, options.tags)
    stack.enter_context(registry)
    ratios, each = [], []
    for number in range(options.rounds):
        repository = f"team-{number % 10}/app-{number}"
        tags = registry.root / "docker/registry/v2/repositories" / repository / "_manifests/tags"
        bodies = {tag.name: registry.blob((tag / "current/link").read_text()).read_bytes() for tag in tags.iterdir()}
        found = run(RETAG, folder, registry.url, folder / f"cache-{number}", repository)
        for tag in tags.glob("*-x"):
            shutil.rmtree(tag)
        seconds = asyncio.run(replay(found["sent"], bodies))
        count = sum(method == "PUT" for method, *_ in found["sent"])
        ratios.append(seconds / found["seconds"])
        each.append(len(found["sent"]) / count)
        for name, took in (("bare replay", seconds), (f"retag {count:,} tags, plan and apply", found["seconds"])):
            print(f"{name:34}{len(found['sent']):>10}{took:>10.2f}{len(found['sent']) / took:>12.0f}")
    return {
        "retag / bare replay, requests per second, median": (statistics.median(ratios), 0.6),
        # The plan lists the tags and reads each; the application asks whether the new one is free, writes, and reads.
        "4 requests a tag and 1 % of listings / requests sent": (4.01 / max(each), 1.0),
    }


def copy(stack: contextlib.ExitStack, folder: Path, options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    source = Distribution(folder / "source")
    corpus = Corpus(source.root)
    size = options.megabytes * 1_000_000 // 10
    layers = [os.urandom(size) for _ in range(10)]
    entries = [{"mediaType": LAYER, **corpus.blob("big/image", layer)} for layer in layers]
    del layers
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    document = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **corpus.blob("big/image", config)},
        "layers": entries,
    }  # fmt: skip
    top = corpus.blob("big/image", json.dumps(document).encode(), manifest=True)
    corpus.tag("big/image", "1", str(top["digest"]))
    stack.enter_context(source)
    ratios, grown = [], 0
    for number in range(options.rounds):
        took = {}
        for who in ("skopeo", "regnb") if number % 2 else ("regnb", "skopeo"):
            with tempfile.TemporaryDirectory(dir=folder) as where, Distribution(Path(where)) as target:
                if who == "regnb":
                    found = run(COPY, folder, source.url, target.url)
                    took[who], grown = found["seconds"], max(grown, found["grown"])
                else:
                    start = time.perf_counter()
                    subprocess.run(
                        ["skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false",
                         "--dest-tls-verify=false", f"docker://{source.host}/big/image:1",
                         f"docker://{target.host}/copied/by-skopeo:1"], check=True,
                    )  # fmt: skip
                    took[who] = time.perf_counter() - start
        ratios.append(took["skopeo"] / took["regnb"])
        for who, seconds in took.items():
            print(f"{f'{who} copy {options.megabytes} MB':34}{'':>10}{seconds:>10.2f}")
    print(f"memory grown by {grown / 1024:.0f} MB at most")
    return {
        "regnb copy / skopeo copy, speed, median": (statistics.median(ratios), 1.0),
        "64 MB / memory grown by the copy": (64 * 1024 / max(1, grown), 1.0),
    }


def count(stack: contextlib.ExitStack, folder: Path) -> dict[str, tuple[float, float]]:
    """Count requests: at most one more a row than before for a retag and an undo, two for a deletion."""
    tags = 60
    registry = Distribution(folder / "count")
    Corpus(registry.root).write(1, tags)
    stack.enter_context(registry)
    found = run(COUNT, folder, registry.url, folder / "count-cache", "team-0/app-0", tags)
    limits = {"warm audit: P+R+T / requests": ((2 + tags) / found["warm audit"], 1.0)}
    for what, before in BEFORE.items():
        rows = found[f"rows {what}"]
        each = (found[f"plan {what}"] + found[f"apply {what}"]) / rows
        print(f"{f'requests a row: {what}':34}{each:>10.2f}{before:>10.2f} before")
        # What removes looks at every tag once more: beside the tags that stay, these are as many as there are rows.
        more = {"retag": 1, "undo a retag": 1 + (1 + tags) / rows, "deletion": 2 + (1 + tags) / rows}.get(what, 1)
        limits[f"limit of requests a row / {what}"] = ((before + more) / each, 1.0)
    return limits


def delete(folder: Path) -> dict[str, tuple[float, float]]:
    tests = Path(__file__).parent.parent / "tests"
    found = min((run(DELETE, folder, tests) for _ in range(2)), key=lambda row: float(row["seconds"]))
    print(
        f"{'plan a deletion':34}{found['chosen']:>10,} of {found['tags']:,} tags, {found['steps']:,} steps: "
        f"{found['seconds']:.2f} s"
    )
    return {"2 s / planning 10,000 deletions of 100,000 tags": (2 / found["seconds"], 1.0)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tags", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print(f"{'':34}{'requests':>10}{'seconds':>10}{'per second':>12}")
        ok = {
            **count(stack, folder),
            **retag(stack, folder, options),
            **copy(stack, folder, options),
            **delete(folder),
        }
        print()
        for name, (value, limit) in ok.items():
            print(f"{'ok  ' if value >= limit else 'MISS'} {name}: {value:.2f} (at least {limit})")
        print(f"{os.cpu_count()} processors")
        return 0 if all(value >= limit for value, limit in ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

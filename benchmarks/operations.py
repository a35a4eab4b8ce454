"""Retagging and copying beside a bare replay of their requests and beside skopeo, and planning a large deletion.

Needs Debian's docker-registry and skopeo.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from corpus import LAYER, Corpus
from distribution import Distribution
from measure import Row, compared, in_turn, python, run, shown

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
plan = registry.plan_copy(sys.argv[3], sys.argv[4], source=source)
before, sent = peak(), registry._client.transport.sent
start = time.perf_counter()
receipt = registry.apply(plan, confirm=plan.digest, source=source, progress=False)
print(json.dumps({"seconds": time.perf_counter() - start, "status": receipt.status,
    "grown": peak() - before, "written": registry._client.transport.sent - sent}))
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


def done(source: str, *arguments: object) -> dict[str, Any]:
    """Run in a process of its own, and insist that everything was done."""
    found = python(source, *arguments)
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

        start = perf_counter()
        await asyncio.gather(write(), *(read() for _ in range(8)))
        return perf_counter() - start


def retag(folder: Path, rounds: int, tags: int) -> Iterator[Row]:
    """Compare with a bare replay of the requests of plan and application."""
    registry = Distribution(folder / "retag")
    Corpus(registry.root).write(rounds, tags)
    pairs, each = [], []
    with registry:
        for number in range(rounds):
            repository = f"team-{number % 10}/app-{number}"
            links = registry.root / "docker/registry/v2/repositories" / repository / "_manifests/tags"
            bodies = {
                tag.name: registry.blob((tag / "current/link").read_text()).read_bytes() for tag in links.iterdir()
            }
            found = done(RETAG, registry.url, folder / f"cache-{number}", repository)
            for tag in links.glob("*-x"):
                shutil.rmtree(tag)
            seconds = asyncio.run(replay(found["sent"], bodies))
            pairs.append((len(found["sent"]) / found["seconds"], len(found["sent"]) / seconds))
            each.append(len(found["sent"]) / sum(method == "PUT" for method, *_ in found["sent"]))
    yield compared(f"retag of {tags:,}, plan and apply / aiohttp's replay, requests/s", pairs, "/s", least=0.85)
    # The plan lists the tags and reads each; the application asks whether the new one is free, writes, and reads.
    yield Row("retag, requests a tag", f"{max(each):.3f}", "", max(each), most=4.01)


async def copied(source: str, target: str, blobs: dict[str, bytes]) -> float:
    """Send the requests that copy blobs with aiohttp alone, sixteen blobs at once, and return the seconds."""
    import aiohttp

    digests = iter([*blobs])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:

        async def work() -> None:
            for digest in digests:
                async with session.get(f"{source}/v2/small/image/blobs/{digest}") as response:
                    data = await response.read()
                async with session.post(f"{target}/v2/copied/by-aiohttp/blobs/uploads/") as response:
                    await response.read()
                    where = response.headers["Location"]
                async with session.put(f"{where}&digest={digest}", data=data) as response:
                    await response.read()
                    response.raise_for_status()

        start = perf_counter()
        await asyncio.gather(*(work() for _ in range(16)))
        return perf_counter() - start


def copy_small(folder: Path, rounds: int, count: int) -> Iterator[Row]:
    """Compare a copy of many small blobs with a bare replay, which reads, begins and ends an upload for each."""
    source = Distribution(folder / "small")
    blobs = image(Corpus(source.root), "small/image", [os.urandom(2000) for _ in range(count)])
    pairs, each = [], []
    with source:
        for number in range(rounds):
            took = {}
            for who in ("aiohttp", "regnb") if number % 2 else ("regnb", "aiohttp"):
                with tempfile.TemporaryDirectory(dir=folder) as where, Distribution(Path(where)) as target:
                    if who == "regnb":
                        found = done(COPY, source.url, target.url, "small/image:1", "copied/by-regnb:1")
                        took[who] = found["seconds"]
                        each.append(found["written"] / count)
                    else:
                        took[who] = asyncio.run(copied(source.url, target.url, blobs))
            pairs.append((1 / took["regnb"], 1 / took["aiohttp"]))
    yield compared(f"copy of {count} small blobs / aiohttp's replay, a second", pairs, "/s", least=0.8)
    yield Row("copy, requests a blob at the destination", f"{max(each):.3f}", "", max(each), most=2.999)


def image(corpus: Corpus, repository: str, layers: list[bytes]) -> dict[str, bytes]:
    """Write an image of these layers with the tag 1, and return its blobs."""
    entries = [{"mediaType": LAYER, **corpus.blob(repository, layer)} for layer in layers]
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    described = corpus.blob(repository, config)
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **described},
        "layers": entries,
    }
    top = corpus.blob(repository, json.dumps(document).encode(), manifest=True)
    corpus.tag(repository, "1", str(top["digest"]))
    return {str(entry["digest"]): data for entry, data in zip([*entries, described], [*layers, config], strict=True)}


def copy_large(folder: Path, rounds: int, megabytes: int) -> Iterator[Row]:
    """Compare a copy of ten large blobs with skopeo's."""
    source = Distribution(folder / "source")
    image(Corpus(source.root), "big/image", [os.urandom(megabytes * 100_000) for _ in range(10)])
    grown = [0.0]
    with source:

        def mine() -> float:
            with tempfile.TemporaryDirectory(dir=folder) as where, Distribution(Path(where)) as target:
                found = done(COPY, source.url, target.url, "big/image:1", "copied/by-regnb:1")
                grown.append(found["grown"] / 1024)
                return megabytes / float(found["seconds"])

        def skopeo() -> float:
            with tempfile.TemporaryDirectory(dir=folder) as where, Distribution(Path(where)) as target:
                words = ["--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"]
                found = run("skopeo", "copy", *words, f"docker://{source.host}/big/image:1",
                            f"docker://{target.host}/copied/by-skopeo:1")  # fmt: skip
                return megabytes / found.wall

        yield compared(f"copy of {megabytes} MB / skopeo's", in_turn(rounds, mine, skopeo), "MB/s", least=1.0)
    yield Row("  memory that it takes, MB", shown(max(grown), "MB"), "", max(grown), most=64)


def count(folder: Path) -> Iterator[Row]:
    """Count requests: at most one more a row than before for a retag and an undo, two for a deletion."""
    tags = 60
    registry = Distribution(folder / "count")
    Corpus(registry.root).write(1, tags)
    with registry:
        found = done(COUNT, registry.url, folder / "count-cache", "team-0/app-0", tags)
    yield Row(
        "warm audit, requests / P+R+T",
        str(found["warm audit"]),
        str(2 + tags),
        found["warm audit"] / (2 + tags),
        most=1,
    )
    for what, before in BEFORE.items():
        changed = found[f"rows {what}"]
        each = (found[f"plan {what}"] + found[f"apply {what}"]) / changed
        # What removes looks at every tag once more: beside the tags that stay, these are as many as there are rows.
        more = {"undo a retag": 1 + (1 + tags) / changed, "deletion": 2 + (1 + tags) / changed}.get(what, 1)
        yield Row(f"requests a row: {what}", f"{each:.2f}", f"{before:.2f}", each, most=before + more)


def delete() -> Iterator[Row]:
    """Time the planning of a large deletion."""
    tests = Path(__file__).parent.parent / "tests"
    found = min((python(DELETE, tests) for _ in range(2)), key=lambda row: float(row["seconds"]))
    what = f"planning {found['chosen']:,} deletions of {found['tags']:,} tags, s"
    yield Row(what, shown(found["seconds"], "s"), "", found["seconds"], most=2)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    os.environ["REGNB_RECEIPTS"] = str(folder / "receipts")
    yield from count(folder)
    yield from retag(folder, options.rounds, options.retagged)
    yield from copy_small(folder, options.rounds, 600)
    yield from copy_large(folder, options.rounds, options.megabytes)
    yield from delete()

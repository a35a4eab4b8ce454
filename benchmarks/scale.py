"""Workers beside one process, a bucket by a delivered listing, and SQL over the snapshot of a very large registry.

Needs Debian's docker-registry, moto, DuckDB, and the tests' own helpers. Judged are equality, requests, CPU and memory:
how long workers take cannot be seen on a small machine. ``--registries 3 --bucket-tags 200 --tags 100000`` is a short
run; ``--tags 10000000`` takes the memory that a registry of ten million tags takes while it is generated.
"""

from __future__ import annotations

import _thread
import argparse
import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from corpus import Corpus
from measure import Row, home, judge, python

import regnb
from regnb.analysis.inventory import Inventory
from regnb.crawl.shards import Workers, split
from regnb.tables.frame import Frame

if TYPE_CHECKING:
    from scripted import Request

SHARDS = (1, 3, 17)
QUERY = (Path(__file__).parent.parent / "docs/scale.md").read_text().split("```sql\n")[-1].partition("```")[0]
SNAPSHOT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from million import NOW, tables
from regnb.analysis.inventory import Inventory
from regnb.tables import sharing
tags = int(sys.argv[2])
most = {"manifests": tags * 7 // 10, "references": tags * 56 // 10, "layers": tags}
made = tables(tags=tags, repositories=max(1, tags // 100), **most)
inventory = Inventory("generated:5000", NOW, NOW, made)
inventory.save(sys.argv[3])
held = sharing.owned(inventory.graph, inventory.graph.held)
tenth = inventory.tags["tag"].str.endswith("7").to_numpy()
freed = inventory.reclaim(tenth).size
print(json.dumps({"size": int(held.size.sum()), "exclusive": int(held.exclusive.sum()), "freed": freed}))
"""
ASK = """
import json, resource, sys
import regnb
found = regnb.sql(sys.argv[1], sys.argv[2], memory="4GB")
used = resource.getrusage(resource.RUSAGE_SELF)
sums = {name: int(found[name].sum()) for name in ("size", "exclusive")}
cpu = used.ru_utime + used.ru_stime
freed = int(regnb.reclaim("tag LIKE '%7'", sys.argv[2], memory="4GB")["size"].iloc[0])
used = resource.getrusage(resource.RUSAGE_SELF)
more = used.ru_utime + used.ru_stime - cpu
print(json.dumps(sums | {"freed": freed, "cpu": cpu, "more": more, "peak": used.ru_maxrss * 1024 / 1e9}))
"""


def differing(one: Inventory, two: Inventory) -> list[str]:
    """Name the frames that differ; of a child in two repositories a worker may know more, as it asked in both."""
    found = []
    for name in one.frames:
        frame, other = one.frames[name].copy(), two.frames[name].copy()
        if name == "manifests":
            frame, other = frame.drop(columns="checked"), other.drop(columns="checked")
        if name == "tags":
            frame, other = frame.drop(columns="pullable"), other.drop(columns="pullable")
        if name == "problems":
            frame, other = certain(one), certain(two)
        if not frame.equals(other):
            found.append(name)
    return found


def certain(inventory: Inventory) -> Frame:
    """Return the problems but those of a child that another repository has: who asks first depends on the timing."""
    rows = inventory.problems
    elsewhere = rows["reference"].isin(inventory.manifests["digest"])
    return rows[~((rows["problem"] == "missing") & elsewhere)].reset_index(drop=True)


def identity(folder: Path, registries: int) -> Iterator[Row]:
    from collected import Grown

    differ = compared = 0
    with ProcessPoolExecutor(2) as pool:
        for seed in range(registries):
            with Grown(folder / f"grown-{seed}", ("scale", seed)) as grown, regnb.connect(grown.url) as registry:
                grown.grow(30)
                whole = registry.inventory(cached=False, progress=False)
                for shards in SHARDS:
                    workers = Workers(pool, shards)
                    found = registry.inventory(cached=False, executor=workers, progress=False)
                    differ += bool(differing(whole, found))
                    compared += 1
    yield Row(f"inventories by 2 processes that differ, of {compared}", f"{differ}", "", differ, 0)


def workers(folder: Path, shards: int = 4) -> Iterator[Row]:
    """Count requests, kill a worker in the middle, and interrupt a reading."""
    from distribution import Distribution
    from proxied import proxy

    Corpus(folder / "storage").write(20, 20)
    slow = threading.Event()
    victims: list[int] = []

    def between(request: Request) -> None:
        if slow.is_set():
            time.sleep(0.3)
        if victims and "/tags/list" in request.path:
            os.kill(victims.pop(), signal.SIGKILL)

    with Distribution(folder) as real, proxy(real.host, between) as server, regnb.connect(server.url) as registry:

        def counted(work: Callable[[], Inventory]) -> tuple[Inventory, int]:
            before = len(server.requests)
            return work(), len(server.requests) - before

        whole, one = counted(lambda: registry.inventory(cached=False, progress=False))
        names = whole.repositories["repository"].tolist()
        shard = {name: at for at, some in enumerate(split(names, shards)) for name in some}
        rows = whole.manifests
        needed = {*zip(rows["digest"], rows["repository"].map(shard), strict=True)}
        needed |= {*zip(rows["config"].dropna(), rows["repository"][rows["config"].notna()].map(shard), strict=True)}
        further = len(needed) - len({digest for digest, _ in needed})
        with ProcessPoolExecutor(2) as pool:
            many = Workers(pool, shards)
            found, cold = counted(lambda: registry.inventory(cached=False, executor=many, progress=False))
            most = one + further + 3 * shards
            yield Row(f"requests, cold, {shards} shards / bound", f"{cold}", f"{most}", cold / most, 1)
            registry.inventory(progress=False)
            _, one = counted(lambda: registry.inventory(progress=False))
            _, warm = counted(lambda: registry.inventory(executor=many, progress=False))
            yield Row(f"requests, warm, {shards} shards / bound", f"{warm}", f"{one + 3 * shards}",
                      warm / (one + 3 * shards), 1)  # fmt: skip
            victims.append(next(iter(pool._processes)))  # noqa: SLF001 -- the executor does not name its processes
            killed = registry.inventory(cached=False, executor=many, progress=False)
        differ = len(differing(whole, found)) + len(differing(whole, killed)) + len(victims)
        yield Row("frames that differ after kill -9 of a worker", f"{differ}", "", differ, 0)
        slow.set()
        with ProcessPoolExecutor(2) as pool:
            interrupt = threading.Timer(3, _thread.interrupt_main)
            interrupt.start()
            try:
                registry.inventory(cached=False, executor=Workers(pool, 2), progress=False)
                raise SystemExit("the reading ended before it was interrupted")
            except regnb.Interrupted:
                pass
            time.sleep(2)
            sent = len(server.requests)
            time.sleep(2)
            late = len(server.requests) - sent
        yield Row("requests later than 2 s after an interrupt", f"{late}", "", late, 0)


def deliver(bucket: str) -> str:
    """Write what S3 Inventory delivers of a bucket, into another."""
    import fsspec
    import pyarrow as pa
    from pyarrow import parquet

    s3 = fsspec.filesystem("s3")
    s3.invalidate_cache()
    rows = [
        {"bucket": bucket, "key": name.partition("/")[2], "size": info["Size"],
         "last_modified_date": info["LastModified"], "e_tag": info["ETag"].strip('"')}
        for name, info in s3.find(bucket, detail=True).items()
    ]  # fmt: skip
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), out)
    data = out.getvalue()
    s3.pipe_file("lists/data/0.parquet", data)
    about = {"key": "data/0.parquet", "MD5checksum": hashlib.md5(data, usedforsecurity=False).hexdigest()}
    manifest = {
        "sourceBucket": bucket, "creationTimestamp": str(int(time.time() * 1000)), "fileFormat": "Parquet",
        "fileSchema": "", "files": [about],
    }  # fmt: skip
    s3.pipe_file("lists/manifest.json", json.dumps(manifest).encode())
    return "s3://lists/manifest.json"


def bucket(folder: Path, tags: int) -> Iterator[Row]:
    import buckets
    import fsspec

    root = folder / "bucket"
    Corpus(root).write(max(1, tags // 50), 50)
    with buckets.serve() as asked:
        s3 = fsspec.filesystem("s3")
        for name in ("registry", "lists"):
            s3.mkdir(name)
        buckets.put(root, "registry")
        listing = deliver("registry")

        def read(**options: object) -> tuple[Inventory, int, int]:
            asked.requests.clear()
            found = regnb.open_storage("s3://registry", **options).inventory()
            lists = sum("list-type" in one for one in asked.requests)
            return found, sum(one.startswith("GET") for one in asked.requests) - lists, lists

        first, gets, lists = read()
        second, again, few = read(listing=listing)
        names = [name for name in differing(first, second) if name not in ("problems", "coverage", "disk")]
        keys = len(s3.find("registry"))
        what = f"bucket, {len(first.tags):,} tags, {keys:,} keys, by a listing"
        yield Row(f"{what}: GETs, second / first", f"{again}", f"{gets}", again / gets, 0.01)
        yield Row(f"{what}: LISTs, second / first", f"{few}", f"{lists}", few / lists)
        yield Row(f"{what}: frames that differ", f"{len(names)}", "", len(names), 0)


def sql(folder: Path, tags: int) -> Iterator[Row]:
    made = python(SNAPSHOT, Path(__file__).parent, tags, folder / "snapshots")
    found = python(ASK, QUERY, folder / "snapshots")
    wrong = sum(made[name] != found[name] for name in made)
    yield Row(f"SQL, {tags:,} tags: sums that differ from those in memory", f"{wrong}", "", wrong, 0)
    yield Row(
        "  CPU of exclusive bytes by repository", f"{found['cpu']:.1f} s", "", found["cpu"], 10 * max(1, tags / 1e6)
    )
    yield Row("  CPU of the reclaim of a tenth of the tags", f"{found['more']:.1f} s", "", found["more"])
    yield Row("  peak memory", f"{found['peak']:.2f} GB", "", found["peak"], 8)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    yield from sql(folder, options.tags)
    yield from identity(folder, options.registries)
    yield from workers(folder / "workers")
    yield from bucket(folder, options.bucket_tags)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registries", type=int, default=30)
    parser.add_argument("--bucket-tags", type=int, default=5000)
    parser.add_argument("--tags", type=int, default=1_000_000)
    given = parser.parse_args()
    with home() as where:
        sys.exit(judge(rows(where, given)))

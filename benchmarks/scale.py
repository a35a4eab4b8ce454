"""Workers beside one process, a bucket by a delivered listing, and SQL over the snapshot of a very large registry.

Needs Debian's docker-registry, moto, DuckDB, distributed, and the tests' own helpers. Judged are equality, requests,
CPU and memory: how long workers take cannot be seen on a small machine. ``--registries 3 --bucket-tags 200 --tags
100000`` is a short run; ``--tags 10000000`` takes 8 GB of memory and 15 GB of disk.
"""

from __future__ import annotations

import _thread
import argparse
import hashlib
import io
import json
import multiprocessing
import os
import shutil
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
from measure import Row, home, judge, python, shown

import regnb
from regnb.analysis.inventory import Inventory
from regnb.crawl.shards import split
from regnb.crawl.workers import Workers
from regnb.tables.frame import Frame

if TYPE_CHECKING:
    from scripted import Request

SHARDS = (1, 3, 17)
WRITE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from million import write
print(json.dumps({"references": write(Path(sys.argv[3]), int(sys.argv[2]))}))
"""
LOAD = """
import json, sys
import regnb
from regnb.tables import sharing
(url,) = regnb.snapshots(sys.argv[1])["url"]
inventory = regnb.Inventory.load(url)
held = sharing.owned(inventory.graph, inventory.graph.held)
freed = inventory.reclaim(inventory.tags["tag"].str.endswith("7").to_numpy())
proposed = inventory.free(sys.argv[2])
print(json.dumps({"exclusive": [int(each.sum()) for each in held], "reclaim": freed.size,
    "free": [len(proposed), int(proposed["total"].max())]}))
"""
ASK = """
import json, sys
from pathlib import Path
import regnb
from time import process_time
found = {"cpu": {}}
def asked(name, work, figures):
    before = process_time()
    rows = work()
    found["cpu"][name] = process_time() - before
    found[name] = figures(rows)
where = {"where": sys.argv[1], "memory": "4GB"}
asked("exclusive", lambda: regnb.exclusive(**where),
    lambda rows: [int(rows[name].sum()) for name in ("size", "exclusive", "share")])
asked("reclaim", lambda: regnb.reclaim("tag LIKE '%7'", **where), lambda rows: int(rows["size"].iloc[0]))
asked("free", lambda: regnb.free(sys.argv[2], **where), lambda rows: [len(rows), int(rows["total"].max())])
found["peak"] = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1e6
print(json.dumps(found))
"""
IN_MEMORY = 1_000_000
"""Tags of a snapshot that is also read into memory, to compare."""


def differing(one: Inventory, two: Inventory) -> list[str]:
    """Name the frames that differ; that one of several repositories lacks a child, only those know that asked it."""
    found = []
    for name in one.frames:
        frame, other = one.frames[name].copy(), two.frames[name].copy()
        if name == "tags" and one.source == "api":
            known, more = frame.pop("pullable"), other.pop("pullable")
            both = known.notna() & more.notna()
            if not known[both].equals(more[both]) or known[~both].any() or more[~both].any():
                found.append(name)
        if name == "problems" and one.source == "api":
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
    """Read registries that grew at random, and their storages, by two workers of a Dask cluster."""
    from collected import Grown
    from distributed import Client, LocalCluster

    differ = apart = compared = 0
    size = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**size) as cluster, Client(cluster) as dask:
        for seed in range(registries):
            with Grown(folder / f"grown-{seed}", ("scale", seed)) as grown, regnb.connect(grown.url) as registry:
                grown.grow(30)
                storage = regnb.open_storage(grown.root)
                whole = registry.inventory(cached=False, progress=False)
                there = storage.inventory()
                for shards in SHARDS:
                    workers = Workers(dask, shards)
                    found = registry.inventory(cached=False, executor=workers, progress=False)
                    differ += bool(differing(whole, found))
                    apart += bool(differing(there, storage.inventory(executor=workers, progress=False)))
                    compared += 1
    yield Row(f"inventories by 2 Dask workers that differ, of {compared}", f"{differ}", "", differ, 0)
    yield Row(f"  of their storages, of {compared}", f"{apart}", "", apart, 0)


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


def loaded(root: Path, where: str) -> None:
    """Put a folder's files into a bucket of the server in this process, without a request for each."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for path in root.rglob("*"):
        if path.is_file():
            backend.put_object(where, str(path.relative_to(root)), path.read_bytes())


def interrupted(requests: list[str], after: int, read: Callable[[Workers], object]) -> int:
    """Interrupt a reading after some blobs, and return how many requests are sent later than two seconds after it."""
    over = threading.Event()
    requests.clear()

    def interrupt() -> None:
        while sum(one.startswith("GET") and "/blobs/" in one for one in tuple(requests)) < after:
            time.sleep(0.1)
        while not over.is_set():  # Python may lose one, while it frees an object
            _thread.interrupt_main()
            over.wait(20)

    threading.Thread(target=interrupt).start()
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        try:
            read(Workers(pool))
            raise SystemExit("the reading ended before it was interrupted")
        except regnb.Interrupted:
            over.set()
        time.sleep(2)
        sent = len(requests)
        time.sleep(2)
    return len(requests) - sent


def bucket(folder: Path, tags: int) -> Iterator[Row]:
    import buckets
    import fsspec

    root = folder / "bucket"
    Corpus(root).write(max(1, tags // 50), 50)
    with buckets.serve() as asked:
        s3 = fsspec.filesystem("s3")
        for name in ("registry", "lists"):
            s3.mkdir(name)
        loaded(root, "registry")
        listing = deliver("registry")
        keys = len(s3.find("registry"))

        def read(executor: Workers | None = None, **options: object) -> tuple[Inventory, int, int]:
            asked.requests.clear()
            found = regnb.open_storage("s3://registry", **options).inventory(executor=executor, progress=False)
            lists = sum("list-type" in one for one in asked.requests)
            return found, sum(one.startswith("GET") for one in asked.requests) - lists, lists

        def forget() -> None:
            os.environ["XDG_CACHE_HOME"] = str(folder / f"cache-{time.monotonic()}")

        what = f"bucket, {tags:,} tags, {keys:,} keys"
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            forget()
            many, by_workers, _ = read(Workers(pool))
            forget()
            first, gets, lists = read()
            yield Row(f"{what}: GETs by 2 processes, cold / by one", f"{by_workers}", f"{gets}", by_workers / gets, 1)
            yield Row("  frames that differ", f"{len(differing(first, many))}", "", len(differing(first, many)), 0)
            second, again, few = read(listing=listing)
            names = [name for name in differing(first, second) if name not in ("problems", "coverage", "disk")]
            yield Row(f"{what}: GETs by a listing, second / first", f"{again}", f"{gets}", again / gets, 0.01)
            yield Row("  LISTs, second / first", f"{few}", f"{lists}", few / lists)
            yield Row("  frames that differ", f"{len(names)}", "", len(names), 0)
            same, more, _ = read(Workers(pool), listing=listing)
            yield Row("  GETs by 2 processes / by one", f"{more}", f"{again}", more / again, 1)
            differ = differing(second, same)
            yield Row("  frames that differ", f"{len(differ)}", "", len(differ), 0)
        forget()
        late = interrupted(asked.requests, tags // 10, read)
        yield Row(f"{what}: requests later than 2 s after an interrupt", f"{late}", "", late, 0)


def sql(folder: Path, tags: int) -> Iterator[Row]:
    """Ask a snapshot whose names stay in its files, and compare with one that fits in memory."""
    took = {}
    for number in sorted({min(tags, IN_MEMORY), tags}):
        where, goal = folder / f"snapshots-{number}", f"{number // 1_000_000 or 0.1}TB"
        made = python(WRITE, Path(__file__).parent, number, where)
        found = python(ASK, where, goal)
        took[number] = found["cpu"]
        what = f"snapshot of {number:,} tags, {made['references']:,} references"
        if number <= IN_MEMORY:
            there = python(LOAD, where, goal)
            wrong = sum(there[name] != found[name] for name in there)
            yield Row(f"{what}: answers that differ from those in memory", f"{wrong}", "", wrong, 0)
            most = 10 if number == IN_MEMORY else None
            yield Row(
                "  exclusive bytes, CPU s", shown(found["cpu"]["exclusive"], "s"), "", found["cpu"]["exclusive"], most
            )
        yield Row(f"{what}: peak memory, GB", shown(found["peak"], "GB"), "", found["peak"], 8)
        shutil.rmtree(where)
    for name, cpu in took[tags].items() if tags > IN_MEMORY else ():
        less = took[IN_MEMORY][name]
        most = 15 * tags / (10 * IN_MEMORY)
        yield Row(f"  {name}, CPU / that of {IN_MEMORY:,} tags", shown(cpu, "s"), shown(less, "s"), cpu / less, most)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    for part in options.only or ("sql", "identity", "workers", "bucket"):
        if part == "sql":
            yield from sql(folder, options.tags)
        elif part == "identity":
            yield from identity(folder, options.registries)
        elif part == "workers":
            yield from workers(folder / "workers")
        else:
            yield from bucket(folder, options.bucket_tags)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registries", type=int, default=30)
    parser.add_argument("--bucket-tags", type=int, default=5000)
    parser.add_argument("--tags", type=int, default=1_000_000)
    parser.add_argument("--only", action="append", choices=("sql", "identity", "workers", "bucket"))
    given = parser.parse_args()
    with home() as where:
        sys.exit(judge(rows(where, given)))

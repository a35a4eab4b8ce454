"""Reading a storage beside the registry's own garbage collection, reading a bucket, and a registry of a million tags.

Needs Debian's docker-registry, and moto for the bucket. The command is measured in commands.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from corpus import Corpus
from measure import Row, compared, python, run, shown

LOCAL = """
import json, sys, time
from regnb.analysis.storage import open_storage
start = time.perf_counter()
collections = open_storage(sys.argv[1]).stock().collections
seconds = time.perf_counter() - start
removed = {one.collection.column: len(one.goes) for one in collections}
print(json.dumps({"seconds": seconds, "removed": [removed["plain_2"], removed["untagged_2"]]}))
"""
BUCKET = """
import json, sys, time
import boto3
import regnb.storage
from regnb.analysis.storage import open_storage
asked = []
real = regnb.crawl.walk.RemoteFiles._read
def read(self, chunk):
    asked.extend(f"{self.base}/{path}" for path, known in chunk.items() if known is None)
    return real(self, chunk)
regnb.crawl.walk.RemoteFiles._read = read
storage = open_storage("s3://registry", client_kwargs={"endpoint_url": sys.argv[1]})
start = time.perf_counter()
inventory = storage.inventory()
seconds = time.perf_counter() - start
client = boto3.client("s3", endpoint_url=sys.argv[1])
start = time.perf_counter()
listed, more = 0, {}
while True:
    page = client.list_objects_v2(Bucket="registry", **more)
    listed += len(page["Contents"])
    if not page["IsTruncated"]:
        break
    more = {"ContinuationToken": page["NextContinuationToken"]}
for path in asked:
    client.get_object(Bucket="registry", Key=path.partition("/")[2])["Body"].read()
alone = time.perf_counter() - start
found = {"seconds": seconds, "alone": alone, "files": listed, "read": len(asked), "tags": len(inventory.tags)}
print(json.dumps(found))
"""
# moto answers at once: a real object store is some milliseconds away. It runs in a process for itself.
MOTO = """
import sys, time
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.log_request = lambda *_: None
WSGIRequestHandler.protocol_version = "HTTP/1.1"
inner = DomainDispatcherApplication(create_backend_app)
late = float(sys.argv[2]) / 1000
def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "GET":
        time.sleep(late)
    return inner(environ, start_response)
make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()
"""
MILLION = """
import json, sys, time
import numpy as np
sys.path.insert(0, sys.argv[1])
from million import NOW, tables
from regnb.analysis.inventory import Inventory
from regnb.analysis.difference import diff
from regnb.tables import sharing
def memory(what):
    return int(open("/proc/self/status").read().partition(what)[2].split()[0]) * 1024
tags = int(sys.argv[2])
found = {}
def timed(name, work):
    start = time.perf_counter()
    result = work()
    found[name] = time.perf_counter() - start
    return result
made = tables(tags=tags, manifests=tags * 7 // 10, references=tags * 5, layers=tags, repositories=max(1, tags // 100))
open("/proc/self/clear_refs", "w").write("5")  # the peak is that of what follows, and not of what made the frames
before = memory("VmRSS:")
def figures():
    inventory = Inventory("generated:5000", NOW, NOW, made)
    graph = inventory.graph
    sharing.owned(graph, graph.held), sharing.of_tags(graph), inventory.sharing
    return inventory
inventory = timed("figures", figures)
found["peak"] = memory("VmHWM:") - before
chosen = np.random.default_rng(3).random(tags) < 0.1
inventory.reclaim(chosen)
timed("reclaim", lambda: inventory.reclaim(chosen))
def cpu(work):
    before = time.process_time()
    work()
    return time.process_time() - before
def exclusive():
    graph = Inventory("generated:5000", NOW, NOW, made).graph
    sharing.owned(graph, graph.held), sharing.of_tags(graph)
found["exclusive"] = cpu(exclusive)
from regnb.pages import charts
charts.age(inventory.tags[:100])  # what draws is loaded
found["age"] = cpu(lambda: charts.age(inventory.tags))
whole = int(inventory.graph.sizes.sum())
one = min(cpu(lambda: inventory.reclaim(chosen)) for _ in range(3))
found["free"] = max(cpu(lambda: inventory.free(part * whole)) for part in (0.01, 0.1, 0.5, 0.9, 2)) / one
url = timed("save", lambda: inventory.save(sys.argv[3]))
del inventory
first = timed("load", lambda: Inventory.load(url))
second = Inventory("generated:5000", first.started, first.finished, first.frames | {
    "tags": first.tags[np.random.default_rng(4).random(tags) > 0.1].reset_index(drop=True)})
change = timed("diff", lambda: diff(first, second))
found["changed"] = len(change.tags)
print(json.dumps(found))
"""


def local(folder: Path, rounds: int) -> Iterator[Row]:
    """Compare both verdicts, in a process that has started, with both dry runs of the collector."""
    root = folder / "local"
    tags = Corpus(root).write(100, 40)
    config = folder / "config.yml"
    config.write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {root}\n")
    pairs = []
    for _ in range(rounds):
        wall, removed = 0.0, []
        for options in ([], ["--delete-untagged"]):
            done = run("docker-registry", "garbage-collect", "--dry-run", *options, config)
            wall += done.wall
            removed.append(done.printed.count("blob eligible for deletion"))
        mine = python(LOCAL, root)
        if mine["removed"] != removed:
            raise SystemExit(f"the verdicts differ: {mine['removed']}")
        pairs.append((mine["seconds"], wall))
    yield compared(f"verdicts alone, {tags:,} tags / docker-registry's two dry runs", pairs, "s", most=0.1)


@contextlib.contextmanager
def bucket(root: Path, latency: float) -> Iterator[str]:
    """Put a storage into a bucket that answers late."""
    import socket

    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", MOTO, str(port), str(latency)])
    url = f"http://127.0.0.1:{port}"
    try:
        client = boto3.client("s3", endpoint_url=url)
        for _ in range(100):
            with contextlib.suppress(Exception):
                client.create_bucket(Bucket="registry")
                break
            time.sleep(0.1)
        for path in sorted(root.rglob("*")):
            if path.is_file():
                client.put_object(Bucket="registry", Key=path.relative_to(root).as_posix(), Body=path.read_bytes())
        yield url
    finally:
        server.terminate()
        server.wait()


def remote(folder: Path) -> Iterator[Row]:
    """Compare the reading of a bucket, whose answers come 100 ms late, with its requests one after another.

    Moto itself takes 5 ms of a core for each: where answers come sooner, it is moto that is measured.
    """
    tags = Corpus(folder / "remote").write(5, 20)
    with bucket(folder / "remote", 100) as url:
        found = python(BUCKET, url)
    if found["tags"] != tags:
        raise SystemExit(f"{found['tags']} tags were read")
    yield compared("reading a bucket / one request after another", [(found["seconds"], found["alone"])], "s", most=0.1)


def million(folder: Path, tags: int) -> Iterator[Row]:
    """Measure a very large registry: figures, reclaiming, snapshots, difference."""
    found = python(MILLION, Path(__file__).parent, tags, folder / "snapshots")
    size = sum(path.stat().st_size for path in (folder / "snapshots").rglob("*") if path.is_file())
    for what, value, unit, most in (
        ("frames, sharing, exclusive bytes", found["figures"], "s", 10),
        ("  peak memory above that of the frames", found["peak"] / 1e9, "GB", 1),
        ("exclusive bytes of everything, CPU", found["exclusive"], "s", 6),
        ("what a tenth of the tags would free, by each of four collections", found["reclaim"], "s", 1),
        ("free, any size / one reclaim, CPU", found["free"], "", 3),
        ("charts.age, CPU", found["age"], "s", 0.5),
        ("snapshot saved and loaded", found["save"] + found["load"], "s", 10),
        ("  on disk", size / 1e6, "MB", 350),
        ("difference of two", found["diff"], "s", 10),
    ):
        yield Row(f"{tags:,} tags: {what.strip()}, {unit}", shown(value, unit), "", value, most=most)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    yield from local(folder, options.rounds)
    yield from remote(folder)
    yield from million(folder, options.million)

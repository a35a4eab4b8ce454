"""Reading a storage beside the registry's own garbage collection, reading a bucket, and a registry of a million tags.

    make bench
    python benchmarks/storage.py [--rounds 3] [--million 1000000] [--latency 20]

Needs Debian's docker-registry, and moto for the bucket. Prints one table; exits with 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent)]

from corpus import Corpus

LOCAL = """
import json, sys, time
from regnb.analysis.storage import open_storage
found = {}
for brief in (True, False):
    start = time.perf_counter()
    inventory = open_storage(sys.argv[1]).inventory(brief=brief)
    table = inventory.reclaim().table
    found["brief" if brief else "full"] = time.perf_counter() - start
print(json.dumps(found | {"blobs": len(inventory.blobs), "removed": table["blobs"].tolist()}))
"""
BUCKET = """
import json, sys, time
import boto3
import regnb.storage
from regnb.analysis.storage import open_storage
asked = []
real = regnb.crawl.walk.RemoteFiles._read
def read(self, chunk):
    asked.extend(chunk)
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
def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
tags = int(sys.argv[2])
found = {}
def timed(name, work):
    start = time.perf_counter()
    result = work()
    found[name] = time.perf_counter() - start
    return result
made = tables(tags=tags, manifests=tags * 7 // 10, references=tags * 5, layers=tags, repositories=max(1, tags // 100))
def figures():
    inventory = Inventory("generated:5000", NOW, NOW, made)
    graph = inventory.graph
    graph.owned(graph.held), graph.of_tags(), inventory.sharing
    return inventory
inventory = timed("figures", figures)
found["peak"] = peak()
chosen = np.random.default_rng(3).random(tags) < 0.1
inventory.reclaim(chosen)
timed("reclaim", lambda: inventory.reclaim(chosen))
url = timed("save", lambda: inventory.save(sys.argv[3]))
del inventory
first = timed("load", lambda: Inventory.load(url))
second = Inventory("generated:5000", first.started, first.finished, first.frames | {
    "tags": first.tags[np.random.default_rng(4).random(tags) > 0.1].reset_index(drop=True)})
change = timed("diff", lambda: diff(first, second))
found["changed"] = len(change.tags)
print(json.dumps(found))
"""


def run(code: str, *arguments: object) -> dict[str, Any]:
    """Run in a process of its own, as a user does, and return its figures."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def local(folder: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Compare with ``docker-registry garbage-collect --dry-run``, with and without ``--delete-untagged``."""
    root = folder / "local"
    tags = Corpus(root).write(100, 40)
    config = folder / "config.yml"
    config.write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {root}\n")
    seconds: dict[str, list[float]] = {"plain": [], "untagged": [], "brief": [], "full": []}
    for _ in range(rounds):
        for name, options in (("plain", []), ("untagged", ["--delete-untagged"])):
            command = ["docker-registry", "garbage-collect", "--dry-run", *options, str(config)]
            start = time.perf_counter()
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds[name].append(time.perf_counter() - start)
            found = printed.count("blob eligible for deletion")
            seconds[f"{name} blobs"] = [found]
        mine = run(LOCAL, root)
        if [mine["removed"][0], mine["removed"][2]] != [seconds["plain blobs"][0], seconds["untagged blobs"][0]]:
            raise SystemExit(f"the verdicts differ: {mine['removed']}")
        seconds["brief"].append(mine["brief"])
        seconds["full"].append(mine["full"])
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, text in (
        ("plain", "garbage-collect --dry-run"),
        ("untagged", "  with --delete-untagged"),
        ("brief", "regnb: both verdicts, both versions"),
        ("full", "regnb: the whole inventory as well"),
    ):
        print(f"{text:44}{tags:>10,}{middle[name]:>10.2f}")
    both = middle["plain"] + middle["untagged"]
    return {
        "both dry runs / regnb's verdicts, times": (both / middle["brief"], 10),
        "dry run / regnb's verdicts, times": (middle["plain"] / middle["brief"], 0),
        "dry run with --delete-untagged / regnb's verdicts, times": (middle["untagged"] / middle["brief"], 0),
    }


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


def remote(folder: Path, latency: float) -> dict[str, tuple[float, float]]:
    """Compare the reading of a bucket with its requests one after another."""
    tags = Corpus(folder / "remote").write(10, 20)
    with bucket(folder / "remote", latency) as url:
        found = run(BUCKET, url)
    if found["tags"] != tags:
        raise SystemExit(f"{found['tags']} tags were read")
    print(f"{'bucket, one request after another':44}{tags:>10,}{found['alone']:>10.2f}")
    print(
        f"{'bucket, regnb':44}{tags:>10,}{found['seconds']:>10.2f}   {found['files']:,} files, {found['read']:,} read"
    )
    return {"bucket: one after another / regnb, times": (found["alone"] / found["seconds"], 10)}


def million(folder: Path, tags: int) -> dict[str, tuple[float, float]]:
    """Measure a very large registry: figures, reclaiming, snapshots, difference. At least 1 is within the limit."""
    found = run(MILLION, Path(__file__).parent, tags, folder / "snapshots")
    size = sum(path.stat().st_size for path in (folder / "snapshots").rglob("*") if path.is_file())
    rows = (
        ("frames, sharing, exclusive bytes, seconds", found["figures"], 10),
        ("  peak memory, GB, with the generated data", found["peak"] / 1e6, 2),
        ("what a tenth of the tags would free, seconds", found["reclaim"], 0.2),
        ("snapshot saved and loaded, seconds", found["save"] + found["load"], 10),
        ("  on disk, MB", size / 1e6, 300),
        ("difference of two, seconds", found["diff"], 10),
    )
    for name, value, limit in rows:
        print(f"{name:44}{tags:>10,}{value:>10.2f}   at most {limit}")
    return {name.strip(): (limit / value, 1) for name, value, limit in rows}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--latency", type=float, default=20, help="milliseconds")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'':44}{'tags':>10}{'seconds':>10}")
        ok = {**local(folder, options.rounds), **remote(folder, options.latency), **million(folder, options.million)}
        print()
        for what, (value, limit) in ok.items():
            print(f"{'ok  ' if value >= limit else 'MISS'} {what}: {value:.2f} (at least {limit})")
        print(f"{os.cpu_count()} processors")
        return 0 if all(value >= limit for value, limit in ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

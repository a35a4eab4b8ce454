"""Whole commands, as they are typed, beside the imports that they are made of and beside the registry's own collector.

Needs Debian's docker-registry.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import buckets
import fsspec
from corpus import Corpus
from measure import Row, Used, compared, in_turn, run
from memory import serving, table

from regnb.oci.reference import Digest

REGNB = Path(sys.executable).with_name("regnb")
COMPLETION: Mapping[str, str] = {"_REGNB_COMPLETE": "complete_bash", "COMP_WORDS": "regnb ta", "COMP_CWORD": "1"}
# What any Python process has to ask the system for before it can decide anything, and no more.
BARE = """
import gc, os, sys
from hashlib import sha256
import msgspec
gc.disable()
class Named(msgspec.Struct):
    digest: str
class Manifest(msgspec.Struct):
    config: Named | None = None
    layers: list[Named] = []
    manifests: list[Named] = []
decode = msgspec.json.Decoder(Manifest).decode
def below(folder):
    return os.open(folder, os.O_RDONLY), os.listdir(folder)
def read(path, folder):
    at = os.open(path, os.O_RDONLY, dir_fd=folder)
    data = os.read(at, 16384)
    os.close(at)
    return data
os.chdir(sys.argv[1] + "/docker/registry/v2")
shas = os.open("blobs/sha256", os.O_RDONLY)
blobs = {name for shard in os.listdir(shas) for name in os.listdir("blobs/sha256/" + shard)}
tagged = set()
revisions = set()
for team in os.listdir("repositories"):
    for app in os.listdir("repositories/" + team):
        folder = f"repositories/{team}/{app}"
        for at, names, path in (
            (*below(folder + "/_layers/sha256"), ""),
            (*below(folder + "/_manifests/revisions/sha256"), "/link"),
            (*below(folder + "/_manifests/tags"), "/current/link"),
        ):
            for name in names:
                if not path:
                    if os.stat(name + "/link", dir_fd=at).st_size != 71:
                        raise SystemExit(name)
                else:
                    (revisions if path == "/link" else tagged).add(read(name + path, at)[7:].decode())
            os.close(at)
needed = set(tagged)
for name in revisions:
    data = read(f"{name[:2]}/{name}/data", shas)
    if sha256(data).hexdigest() != name:
        raise SystemExit(name)
    found = decode(data)
    if name in tagged:
        needed.update(each.digest[7:] for each in (found.config, *found.layers, *found.manifests) if each)
print(sum(os.stat(f"{name[:2]}/{name}/data", dir_fd=shas).st_size for name in blobs - needed))
"""


def _imports(names: str) -> float:
    return _code(f"import {names}")


def _code(code: str) -> float:
    return run(sys.executable, "-c", code).cpu


def start(folder: Path, rounds: int) -> Iterator[Row]:
    """Compare commands that do little with the imports of what they are made of."""
    with serving(table(folder / "few", 10, 20)) as server:
        pairs = in_turn(
            rounds,
            lambda: run(REGNB, "tags", server.url, "team-0/app-0").cpu,
            lambda: _imports("typer, aiohttp"),
        )
        yield compared("regnb tags, CPU / imports of typer and aiohttp", pairs, "s", most=1.6)
    for what, words, environment in (("regnb --help", ["--help"], {}), ("shell completion", [], COMPLETION)):
        pairs = in_turn(
            rounds,
            lambda: run(REGNB, *words, environment=environment).cpu,  # noqa: B023 -- it runs at once
            lambda: _imports("typer, typer.rich_utils"),
        )
        yield compared(f"{what}, CPU / imports of typer and of its help, rich", pairs, "s", most=1.5)
    pairs = in_turn(rounds, lambda: _imports("regnb"), lambda: _imports("sys"))
    yield compared("import regnb, CPU / python alone", pairs, "s")
    for what, code, limit in (
        ("import regnb", "import regnb", 0.15),
        ("regnb.connect", "import regnb; regnb.connect", 0.45),
        ("all of regnb", "from regnb import *", 1.3),
    ):
        pairs = in_turn(rounds, lambda: _code(code), lambda: _imports("pandas, httpx"))  # noqa: B023 -- it runs at once
        yield compared(f"{what}, CPU / import pandas, httpx", pairs, "s", most=limit)


def collect(folder: Path, rounds: int) -> Iterator[Row]:
    """Compare the verdict of ``regnb gc`` on a storage with the collector's two dry runs."""
    for repositories, limits in ((100, (0.5, 0.125)), (500, (0.2, 0.1))):
        root = folder / f"storage-{repositories}"
        tags = Corpus(root).write(repositories, 40)
        config = folder / f"config-{repositories}.yml"
        config.write_text(f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {root}\n")

        def collector(*options: str) -> Used:
            return run("docker-registry", "garbage-collect", "--dry-run", *options, config)  # noqa: B023

        def mine() -> float:
            return run(REGNB, "gc", root).cpu  # noqa: B023

        for (what, options), limit in zip(
            (("--dry-run", []), ("--delete-untagged", ["--delete-untagged"])), limits, strict=True
        ):
            pairs = in_turn(rounds, mine, lambda: collector(*options).cpu)  # noqa: B023
            yield compared(f"regnb gc, {tags:,} tags, CPU / docker-registry's {what}", pairs, "s", most=limit)
        # Not judged: what is left of the limit above is what all that decides, and prints, may take.
        pairs = in_turn(rounds, lambda: run(sys.executable, "-c", BARE, root).cpu, lambda: collector().cpu)  # noqa: B023
        yield compared(f"  the same files read by bare Python, {tags:,} tags, CPU / --dry-run", pairs, "s")
        shutil.rmtree(root)


def registry_of(name: str, folder: Path) -> Path:
    """Write the registry's configuration for a bucket of moto's."""
    config = folder / f"{name}.json"
    about = {
        "accesskey": "a-key", "secretkey": "hush", "region": "us-east-1", "bucket": name, "secure": False,
        "regionendpoint": os.environ["AWS_ENDPOINT_URL"], "v4auth": True,
    }  # fmt: skip
    config.write_text(json.dumps({"version": "0.1", "storage": {"s3": about}, "http": {"addr": ":0"}}))
    return config


def bucket(folder: Path) -> Iterator[Row]:
    """Count the requests of the verdict on a bucket of 1,183 objects beside those of the collector's dry run."""
    corpus = Corpus(folder / "verdict")
    tags = corpus.write(3, 21)
    for number in range(168):
        idle = corpus.blob("team-0/app-0", f"nothing needs this: {number}".encode())
    corpus.link("team-0/app-0", Digest(str(idle["digest"]))).unlink()
    objects = sum(path.is_file() for path in corpus.base.rglob("*"))
    with buckets.serve() as asked:
        fsspec.filesystem("s3").mkdir("verdict")
        buckets.put(folder / "verdict", "verdict")

        def counted(*words: object) -> int:
            asked.requests.clear()
            run(*words, environment={"XDG_CACHE_HOME": str(folder / "cold")})
            return len(asked.requests)

        theirs = counted("docker-registry", "garbage-collect", "--dry-run", registry_of("verdict", folder))
        for state, most in (("cold", 0.07), ("second run", 0.01)):
            mine = counted(REGNB, "gc", "s3://verdict")
            what = f"regnb gc, bucket, {tags} tags, {objects:,} objects, {state}, requests"
            yield Row(f"{what} / --dry-run", str(mine), f"{theirs:,}", mine / theirs, most)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    yield from start(folder, options.rounds)
    yield from bucket(folder)
    yield from collect(folder, options.rounds)

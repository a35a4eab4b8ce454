"""A collection of a local storage beside docker-registry's own: whole processes, verification and receipts included.

Both get a copy of one storage with 20,000 tags and 12,000 blobs of real bytes to remove. regnb plans in one process and
applies in another. ``--tags 4000`` measures a smaller one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from corpus import Corpus
from measure import Row, Used, compared, judge, run

_SHARE = 0.6
"""Blobs to remove for each tag."""
_DAYS = 3 * 86_400


def fill(root: Path, tags: int) -> None:
    """Write a storage in which everything is three days old."""
    corpus = Corpus(root)
    corpus.write(tags // 100, 100)
    chance = random.Random(16)  # noqa: S311 -- not secret, but the same each time
    for number in range(int(tags * _SHARE)):
        corpus.blob(f"team-{number % 10}/app-{number % (tags // 100)}", chance.randbytes(chance.randint(1_000, 60_000)))
    when = time.time() - _DAYS
    for path in root.rglob("*"):
        os.utime(path, (when, when))


def registry(root: Path) -> Used:
    """Collect with docker-registry."""
    config = root.parent / f"{root.name}.json"
    config.write_text(
        json.dumps({"version": "0.1", "storage": {"filesystem": {"rootdirectory": str(root)}}, "http": {"addr": ":0"}})
    )
    return run("docker-registry", "garbage-collect", config)


def regnb(root: Path, *options: str) -> Used:
    """Collect with regnb, with a plan in a file, as an unattended run does."""
    plan = root.parent / f"{root.name}.plan"
    receipts = {"REGNB_RECEIPTS": str(root.parent / "receipts")}
    command = (sys.executable, "-m", "regnb")
    endpoint = "http://127.0.0.1:1"
    made = run(*command, "collect", root, "--endpoint", endpoint, "--plan-out", plan, *options, environment=receipts)
    code = json.loads(plan.read_bytes())["digest"]
    done = run(*command, "apply", plan, "--confirm", code, environment=receipts)
    return Used(made.cpu + done.cpu, made.wall + done.wall, done.printed)


def blobs(root: Path) -> int:
    return sum(1 for _ in root.glob("docker/registry/v2/blobs/*/*/*/data"))


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    tags = options.tags
    fill(folder / "whole", tags)
    pairs: dict[str, list[tuple[Used, Used]]] = {"into the trash": [], "without a trash": []}
    for _ in range(options.rounds):
        for what, words in (("into the trash", ()), ("without a trash", ("--no-trash",))):
            for name in ("mine", "theirs"):
                shutil.copytree(folder / "whole", folder / name)
            os.sync()
            pairs[what].append((regnb(folder / "mine", *words), registry(folder / "theirs")))
            left = blobs(folder / "mine")
            if left != blobs(folder / "theirs"):
                raise SystemExit(f"regnb left {left} blobs, docker-registry {blobs(folder / 'theirs')}")
            for name in ("mine", "theirs"):
                shutil.rmtree(folder / name)
    for what, found in pairs.items():
        trash = what == "into the trash"
        for unit in ("cpu", "wall"):
            both = [(getattr(one, unit), getattr(other, unit)) for one, other in found]
            text = f"collect {tags:,} tags, {int(tags * _SHARE):,} blobs {what}, {unit}"
            yield compared(text, both, "s", most=1 / 3 if trash else 1)


if __name__ == "__main__":
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        sys.exit(judge(rows(Path(where), given)))

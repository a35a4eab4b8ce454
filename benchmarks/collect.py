"""A collection of a local storage beside docker-registry's own: whole processes, verification and receipts included.

Both get the same storage with 20,000 tags and 12,000 blobs of real bytes to remove; between two runs what one has
changed is made good from a second one, which takes less time and fewer inodes than a copy for each. What is judged is
the command of a run that nobody watches, ``regnb collect --apply``: it plans and applies in one process, under one
lock, so that what was read for the plan is not read again before the moves. What somebody does who reads the plan
first, with ``--plan-out`` and ``regnb apply``, is shown beside it: two processes, and one look more. ``--tags 4000``
measures a smaller storage. Then the requests are counted that both send to a bucket (moto), and the memory that 100,000
tags take: of their three million files a disk in memory often has too few, so they are written below /var/tmp then.

The bucket has 100 tags, of which each fifth shares its digest with the one before it, as in `corpus`: so 80 manifests,
and 200 blobs to remove. docker-registry 2.8.2 sends 1,800 requests there. (With an image for each tag it sends 2,050;
then the 100 manifests alone, each read once, are nearly a twentieth.) The two phases of a bucket without versions are
two runs, and each is judged as docker-registry's one is:

- the first, ``regnb collect --apply``, sends 86 requests, or 6 when all manifests are known: it takes the lock, lists
  two pages and what is written in parts, writes its list and gives the lock back;
- the second, ``regnb trash empty --apply``, sends 9, or 89 where no manifest is known, as on another machine: it takes
  the lock, finds the list, reads it, lists two pages, removes links, then blobs, lists the links, and removes the list
  together with the lock. It looks for the list before it lists the pages, because the list names whom to ask whether
  anybody can push, and what is seen before they answer does not count.

Both together are shown and not judged: 95 cold, where the second run knows what the first one read, and 15 warm. They
cannot send 90 and 9: two pages twice, the list written and read, links and blobs removed, and the look afterwards are
9, and the lock of the removal makes 11; with each manifest read once, 91.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import buckets
import fsspec
from commands import registry_of
from corpus import Corpus
from measure import Row, Used, compared, judge, run

_SHARE = 0.6
"""Blobs to remove for each tag."""
_DAYS = 3 * 86_400
_INODES = 32
"""Files and folders for each tag, at most."""
STOPPED = "http://127.0.0.1:1"
WAYS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], float | None]] = {
    "into the trash": (("--apply",), (), 1 / 3),
    "without a trash": (("--apply", "--no-trash"), (), 1),
    "untagged, too": (("--apply", "--untagged"), ("--delete-untagged",), 0.2),
    "into the trash, planned apart": ((), (), None),
}
"""What regnb is told, what docker-registry is told, and the limit; without one a way is shown and not judged."""


FILL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from collect import fill
fill(Path(sys.argv[2]), int(sys.argv[3]))
"""


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


def registry(root: Path, *flags: str) -> Used:
    """Collect with docker-registry."""
    config = root.parent / f"{root.name}.json"
    config.write_text(
        json.dumps({"version": "0.1", "storage": {"filesystem": {"rootdirectory": str(root)}}, "http": {"addr": ":0"}})
    )
    return run("docker-registry", "garbage-collect", *flags, config)


def regnb(where: str, folder: Path, *words: str, operation: Sequence[str] = ("collect",)) -> Used:
    """Plan into a file and apply that; or apply it at once."""
    plan = folder / "plan"
    kept = {"REGNB_RECEIPTS": str(folder / "receipts"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = (sys.executable, "-m", "regnb")
    if "--apply" in words:
        return run(*command, *operation, where, *words, environment=kept)
    made = run(*command, *operation, where, *words, "--plan-out", plan, environment=kept)
    code = json.loads(plan.read_bytes())["digest"]
    done = run(*command, "apply", plan, "--confirm", code, environment=kept)
    return Used(made.cpu + done.cpu, made.wall + done.wall, done.printed, max(made.memory, done.memory))


def collect(root: Path, *words: str) -> Used:
    """Collect with regnb."""
    return regnb(str(root), root.parent, "--endpoint", STOPPED, *words)


def empty(where: str, folder: Path) -> Used:
    """Empty the trash with regnb, at once."""
    return regnb(where, folder, "--older-than", "0", "--apply", operation=("trash", "empty"))


def blobs(root: Path) -> int:
    return sum(1 for _ in root.glob("docker/registry/v2/blobs/*/*/*/data"))


def mend(changed: str, whole: str) -> None:
    """Make a folder what another one is, where names were added or removed: files in it were never written again."""
    there = {path.name for path in Path(changed).iterdir()}
    with os.scandir(whole) as entries:
        for entry in entries:
            path = f"{changed}/{entry.name}"
            if entry.name not in there and entry.is_dir():
                shutil.copytree(entry.path, path)
            elif entry.name not in there:
                shutil.copy2(entry.path, path)
            elif entry.is_dir():
                mend(path, entry.path)
            there.discard(entry.name)
    for name in there:
        shutil.rmtree(f"{changed}/{name}")


def local(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    tags, root = options.tags, folder / "storage"
    fill(folder / "whole", tags)
    shutil.copytree(folder / "whole", root)
    pairs: dict[str, list[tuple[Used, Used]]] = {}

    def used(work: Callable[[], Used]) -> tuple[Used, int]:
        os.sync()
        found = work()
        return found, blobs(root)

    for _ in range(options.rounds):
        for what, (words, flags, _) in WAYS.items():
            mine, left = used(lambda: collect(root, *words))  # noqa: B023 -- it runs at once
            emptied = used(lambda: empty(str(root), folder))[0] if what == "into the trash" else None
            mend(str(root), str(folder / "whole"))
            theirs, others = used(lambda: registry(root, *flags))  # noqa: B023 -- it runs at once
            mend(str(root), str(folder / "whole"))
            # With --delete-untagged 2.8 removes the children of tagged indexes, too.
            if not flags and left != others:
                raise SystemExit(f"regnb left {left} blobs, docker-registry {others}")
            pairs.setdefault(what, []).append((mine, theirs))
            if emptied:
                pairs.setdefault("trash empty", []).append((emptied, theirs))
    for what, found in pairs.items():
        for unit in ("cpu", "wall"):
            both = [(getattr(one, unit), getattr(other, unit)) for one, other in found]
            text = f"collect {tags:,} tags, {int(tags * _SHARE):,} blobs, {what}, {unit}"
            yield compared(text, both, "s", most=WAYS[what][2] if what in WAYS else 1)
    shutil.rmtree(folder / "whole")
    shutil.rmtree(root)


def bucket(folder: Path) -> Iterator[Row]:
    """Count requests: 100 tags, 80 images, and 200 blobs to remove."""
    root = folder / "bucket"
    corpus, chance = Corpus(root), random.Random(17)  # noqa: S311 -- not secret, but the same each time
    for number in range(100):
        if number % 5 != 4:  # each fifth shares its digest with the one before it
            image = corpus.image("team/app", f"v{number}", "amd64")
        corpus.tag("team/app", f"v{number}", str(image["digest"]))
    for _ in range(200):
        corpus.blob("team/app", chance.randbytes(500))
    with buckets.serve() as asked:
        s3 = fsspec.filesystem("s3")

        def counted(work: Callable[[], object]) -> int:
            asked.requests.clear()
            work()
            return len(asked.requests)

        def made(name: str, *, versioned: bool = False) -> str:
            s3.mkdir(name)
            if versioned:
                s3.call_s3("put_bucket_versioning", Bucket=name, VersioningConfiguration={"Status": "Enabled"})
            buckets.put(root, name)
            return f"s3://{name}"

        made("theirs")
        config = registry_of("theirs", folder)
        theirs = counted(lambda: run("docker-registry", "garbage-collect", config))

        def forget() -> None:
            shutil.rmtree(folder / "cache", ignore_errors=True)

        def row(what: str, mine: int, most: float | None) -> Row:
            text = f"bucket, 100 tags, 200 blobs, {what}"
            return Row(text, f"{mine} requests", f"{theirs} requests", mine / theirs, most)

        ways = {"without": ("--no-trash",), "versions": (), "two-phase": (), "copies": ("--copies",)}
        for what, words in ways.items():
            for state, most in (("cold", 1 / 20), ("warm", 1 / 200)):
                name = what if state == "cold" else f"{what}-warm"
                where = made(name, versioned=what == "versions")
                if state == "cold":
                    forget()

                def work(where: str = where, words: Sequence[str] = words) -> None:
                    regnb(where, folder, "--endpoint", STOPPED, "--grace", "0", "--apply", *words)

                mine = counted(work)
                if what != "two-phase":
                    yield row(f"{what}, {state}", mine, most + (400 / theirs if what == "copies" else 0))
                    continue
                yield row(f"two-phase, first run, {state}", mine, most)
                second = counted(lambda: empty(where, folder))  # noqa: B023 -- it runs at once
                if state == "warm":
                    yield row("two-phase, second run, warm", second, most)
                yield row(f"two-phase, both runs, {state}", mine + second, None)
        where = made("elsewhere")
        regnb(where, folder, "--endpoint", STOPPED, "--grace", "0", "--apply")
        forget()
        yield row("two-phase, second run, cold", counted(lambda: empty(where, folder)), 1 / 20)


def memory(folder: Path, tags: int) -> Iterator[Row]:
    """Measure the process that plans and applies a collection.

    On Linux a process counts as its own peak what the one that started it held at most. So this comes first, and what
    writes the storage is another process.
    """
    free = os.statvfs(folder).f_favail
    # Where inodes are not counted, there are enough.
    elsewhere = "/var/tmp" if 0 < free < tags * _INODES else folder  # noqa: S108 -- a new folder in it
    with tempfile.TemporaryDirectory(dir=elsewhere) as where:
        root = Path(where) / "large"
        run(sys.executable, "-c", FILL, Path(__file__).parent, root, tags)
        used = collect(root, "--apply")
    yield Row(f"memory, {tags:,} tags", f"{used.memory:.0f} MB", "", used.memory, 500)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    if options.large:
        yield from memory(folder, options.large)
    yield from local(folder, options)
    yield from bucket(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tags", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=100_000, help="tags whose memory is measured; 0 for none")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        sys.exit(judge(rows(Path(where), given)))

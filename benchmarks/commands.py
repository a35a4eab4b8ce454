"""Whole commands, as they are typed, beside the imports that they are made of and beside the registry's own collector.

Needs Debian's docker-registry.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from corpus import Corpus
from measure import Row, Used, compared, in_turn, run
from memory import serving, table

REGNB = Path(sys.executable).with_name("regnb")
COMPLETION: Mapping[str, str] = {"_REGNB_COMPLETE": "complete_bash", "COMP_WORDS": "regnb ta", "COMP_CWORD": "1"}


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
        shutil.rmtree(root)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    yield from start(folder, options.rounds)
    yield from collect(folder, options.rounds)

"""Reports of generated registries of up to 50,000 tags: how large the file is, and how long it takes to write."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import anyio
from measure import Row, shown
from simulated import SimulatedClient

from regnb.analysis.inventory import Inventory
from regnb.crawl.crawl import collect
from regnb.crawl.records import Records
from regnb.pages.report import report
from regnb.wire.cache import Cache

LIMIT = 2.2
"""Megabytes."""


def crawl(tags: int) -> Inventory:
    async def work() -> Records:
        return await collect(SimulatedClient(tags // 50, 50), Cache())

    return Inventory.of(anyio.run(work))


def rows(_: Path, __: argparse.Namespace) -> Iterator[Row]:
    for tags in (1_000, 50_000):
        inventory = crawl(tags)
        start = time.perf_counter()
        size = len(report(inventory).encode()) / 1e6
        seconds = time.perf_counter() - start
        yield Row(f"report of {tags:,} tags, MB", shown(size, "MB"), "", size, most=LIMIT)
        yield Row("  written in, s", shown(seconds, "s"), "", seconds)

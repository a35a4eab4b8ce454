"""Reports of generated registries of up to 50,000 tags: how large the file is, and how long it takes to write.

    python benchmarks/report.py

Exits with 1 if the largest is not below 10 MB, what a mail server takes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import anyio
from simulated import SimulatedClient

from regnb.analysis.inventory import Inventory
from regnb.crawl.crawl import collect
from regnb.crawl.records import Records
from regnb.pages.report import report
from regnb.wire.cache import Cache

LIMIT = 10_000_000


def crawl(tags: int) -> Inventory:
    async def work() -> Records:
        return await collect(SimulatedClient(tags // 50, 50), Cache())

    return Inventory.of(anyio.run(work))


def main() -> int:
    print(f"{'tags':>8}{'seconds':>10}{'MB':>8}")
    size = 0
    for tags in (1_000, 5_000, 10_000, 50_000):
        inventory = crawl(tags)
        start = time.perf_counter()
        size = len(report(inventory).encode())
        print(f"{len(inventory.tags):>8,}{time.perf_counter() - start:>10.1f}{size / 1e6:>8.2f}")
    return size >= LIMIT


if __name__ == "__main__":
    sys.exit(main())

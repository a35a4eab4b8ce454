"""Every benchmark, and one table: exits with 1 if a limit is missed.

make bench
make bench ARGS='wire commands --rounds 3'
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from measure import home, judge

PARTS = ("commands", "wire", "directories", "operations", "storage", "pages", "report", "inside")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repositories", type=int, default=200, help="of the registry that is crawled")
    parser.add_argument("--tags", type=int, default=20, help="of each repository of it")
    parser.add_argument("--large", type=int, default=20_000, help="tags of the audit whose memory is measured")
    parser.add_argument("--retagged", type=int, default=1000, help="tags that get another one")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the image that is copied")
    parser.add_argument("--million", type=int, default=1_000_000, help="tags of the largest inventory")
    parser.add_argument("--rows", type=int, default=50_000, help="of the table on a page")
    parser.add_argument("--files", type=int, default=100_000, help="of the layer that is looked into")
    parser.add_argument("--layer", type=int, default=1640, help="megabytes of its archive")
    options = parser.parse_args()
    with home() as folder:
        rows = (row for part in options.parts or PARTS for row in importlib.import_module(part).rows(folder, options))
        return judge(rows)


if __name__ == "__main__":
    sys.exit(main())

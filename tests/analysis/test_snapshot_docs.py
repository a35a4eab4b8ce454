"""docs/snapshots.md has every column of every file, as the code describes it."""

from __future__ import annotations

import os

from images import ROOT

from regnb.tables.columns import COLUMNS, INVENTORY
from regnb.tables.write import PARQUET

PATH = ROOT / "docs/snapshots.md"
HEADING = "## Files and columns\n"


def described() -> str:
    """A table for each file of a snapshot."""
    parts = []
    for name in INVENTORY:
        rows = [
            f"| `{column}` | {PARQUET[dtype]} | {meaning.replace('|', chr(92) + '|')} |"
            for column, (dtype, meaning) in COLUMNS[name].items()
        ]
        parts.append(
            "\n".join([f"### `{name}.parquet`", "", "| column | type | what it says |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts) + "\n"


def test_every_column_is_documented() -> None:
    """Each column, its type and its meaning stand in the document; REGNB_TESTS_WRITE=1 writes them anew."""
    text, heading, found = PATH.read_text(encoding="utf-8").partition(HEADING)
    assert heading
    if os.environ.get("REGNB_TESTS_WRITE"):
        PATH.write_text(f"{text}{HEADING}\n{described()}", encoding="utf-8")
    else:
        assert found == f"\n{described()}"

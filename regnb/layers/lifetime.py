"""Until when a distribution is supported, from data that is installed on this machine: distro-info-data of Debian."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

NOT_KNOWN: Final = "not known"
FOLDER: Final = Path("/usr/share/distro-info")
"""Where Debian's and Ubuntu's package distro-info-data lies."""


def end_of_life(name: str, version: str, folder: Path = FOLDER) -> str:
    """Return until when a distribution is supported, and of what date that is known; else ``not known``.

    Args:
        name: As ``ID`` of its os-release has it.
        version: As ``VERSION_ID`` has it.
        folder: Where the data lies, a file ``NAME.csv`` for each distribution.

    Example:
        >>> end_of_life("templeos", "5")
        'not known'
    """
    path = folder / f"{name}.csv"
    if not version or not name.isalnum():
        return NOT_KNOWN
    try:
        told = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if (row.get("version") or "").removesuffix(" LTS") == version]
    except (OSError, UnicodeDecodeError, csv.Error):
        return NOT_KNOWN
    dates = [row["eol"] for row in rows if row.get("eol")]
    return f"{dates[0]}, as known on {told:%Y-%m-%d}" if dates else NOT_KNOWN

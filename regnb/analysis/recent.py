"""What another page of the same web UI has read a moment ago: the next page shows it at once, and says since when."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from regnb.environment import variable
from regnb.errors import RegnbError

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory

_CHANGED: Final = "changed"
"""The file that was touched when a page last wrote: what was begun to be read before it is not shown again."""
_SNAPSHOTS: Final = "registry=*/date=*/snapshot=*"
_asked: set[str] = set()
"""What this page has asked for: who asks again wants to see what has changed."""


def recent(where: str, names: Sequence[str] | None, read: Callable[[], Inventory]) -> Inventory:
    """Return what another page has read within the seconds of ``regnb ui --fresh``, or read it, for the next pages.

    Outside ``regnb ui``, and when a page asks for the second time, it is read.

    Args:
        where: The registry's or the storage's URL.
        names: The repositories that were asked for; None for all.
        read: Reads it.

    Example:
        >>> recent("http://localhost:5000", None, lambda: inventory) is inventory
        True
    """
    if not variable("REGNB_READINGS"):
        return read()
    folder, key = Path(variable("REGNB_READINGS")), hashlib.sha256(json.dumps([where, names]).encode()).hexdigest()
    if key not in _asked:
        _asked.add(key)
        with contextlib.suppress(RegnbError, OSError):
            if found := _kept(folder, key, float(variable("REGNB_FRESH"))):
                return found
    inventory = read()
    # What failed may succeed when the next page asks.
    if "failed" not in set(inventory.problems["problem"]):
        with contextlib.suppress(RegnbError, OSError):
            from regnb.analysis.snapshot import thin  # pandas waits for a frame

            inventory.save(folder / key)
            thin(folder / key, 0)
    return inventory


@contextlib.contextmanager
def changing() -> Iterator[None]:
    """Take note that this page writes: no other page shows what was begun to be read before the end.

    Example:
        ``with changing(): ...``
    """
    mark = Path(variable("REGNB_READINGS"), _CHANGED) if variable("REGNB_READINGS") else None
    try:
        if mark:
            mark.touch()
        yield
    finally:
        if mark:
            mark.touch()


def _kept(folder: Path, key: str, seconds: float) -> Inventory | None:
    """Return what was kept last, if it is young enough and no page has written since it was begun to be read."""
    from regnb.analysis.inventory import Inventory

    kept = sorted((folder / key).glob(_SNAPSHOTS))
    if not kept:
        return None
    found, mark = Inventory.load(kept[-1]), folder / _CHANGED
    written = mark.exists() and found.started.timestamp() <= mark.stat().st_mtime
    old = found.finished is None or time.time() - found.finished.timestamp() > seconds
    return None if old or written else found

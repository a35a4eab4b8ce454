"""What another page of the same web UI has read a moment ago: the next page shows it at once, and says since when."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from regnb.crawl.records import Source
from regnb.environment import variable

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory

_CHANGED: Final = "changed"
"""The file that was touched when a page last wrote: what was begun to be read before it is not shown again."""
_UNUSABLE: Final = (OSError, ValueError, LookupError, msgspec.MsgspecError)
"""What a file raises that cannot be written, or was cut short: a page then reads for itself."""
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
    key = hashlib.sha256(json.dumps([where, names]).encode()).hexdigest()
    path = Path(variable("REGNB_READINGS"), f"{key}.arrow")
    if key not in _asked:
        _asked.add(key)
        with contextlib.suppress(*_UNUSABLE):
            if found := _kept(path, float(variable("REGNB_FRESH"))):
                return found
    inventory = read()
    # What failed may succeed when the next page asks.
    if "failed" not in set(inventory.problems["problem"]):
        with contextlib.suppress(*_UNUSABLE):
            return _keep(inventory, path, float(variable("REGNB_FRESH")))
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


class _About(msgspec.Struct):
    """What is kept beside the frames of an inventory."""

    registry: str
    started: datetime
    finished: datetime | None
    source: Source
    asked: tuple[str, ...] | None


def _keep(inventory: Inventory, path: Path, seconds: float) -> Inventory:
    """Write an inventory for the next pages, and return it as they have it: in memory that all of them share."""
    from regnb.tables import mapped  # pandas waits for a frame

    about = _About(inventory.registry, inventory.started, inventory.finished, inventory.source, inventory.asked)
    # Nobody else may read it. It gets its name when it is whole, and one that is mapped is never written to.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            mapped.write(file.file, msgspec.json.encode(about), inventory.frames)
            file.flush()
            found = _mapped(Path(file.name))
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise
    for other in path.parent.glob("*.arrow"):
        # What other repositories were asked for, and is too old to be shown: pages that have it go on with it.
        with contextlib.suppress(FileNotFoundError):  # another page removed it
            if other != path and time.time() - other.stat().st_mtime > seconds:
                other.unlink()
    return found


def _mapped(path: Path) -> Inventory:
    from regnb.analysis.inventory import Inventory
    from regnb.tables import mapped

    text, frames = mapped.read(path)
    about = msgspec.json.decode(text, type=_About)
    return Inventory(about.registry, about.started, about.finished, frames, about.source, asked=about.asked)


def _kept(path: Path, seconds: float) -> Inventory | None:
    """Return what was kept last, if it is young enough and no page has written since it was begun to be read."""
    if not path.exists():
        return None
    found, mark = _mapped(path), path.with_name(_CHANGED)
    written = mark.exists() and found.started.timestamp() <= mark.stat().st_mtime
    old = found.finished is None or time.time() - found.finished.timestamp() > seconds
    return None if old or written else found

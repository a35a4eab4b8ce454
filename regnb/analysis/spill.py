"""Where a database puts what does not fit in memory: a folder that nobody has to clear away, and that has an end."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "regnb-sql-"
_LOCK: Final = "lock"
_YOUNG: Final = 60
"""Seconds in which a folder may have no lock yet."""


@contextmanager
def spilling() -> Iterator[tuple[Path, int]]:
    """Make a folder for temporary files, and remove those of processes that were killed.

    It is held by a lock, which ends with the process however that ends: what is not locked is nobody's.

    Yields:
        The folder, and how many bytes may be put there: half of what is free.

    Example:
        >>> with spilling() as (folder, most):
        ...     folder.name[:10], most > 0
        ('regnb-sql-', True)
    """
    _clear(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder,
        (Path(folder) / _LOCK).open("w") as lock,
    ):
        _held(lock)
        yield Path(folder), shutil.disk_usage(folder).free // 2


def _held(lock: IO[str]) -> bool:
    """Take a lock, and return whether nobody had it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _clear(root: Path) -> None:
    """Remove the folders that nobody holds."""
    for folder in root.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or another process removes it, too
            about = folder.lstat()
            if folder.is_symlink() or about.st_uid != os.getuid() or about.st_mtime > time.time() - _YOUNG:
                continue
            with (folder / _LOCK).open("a") as lock:
                if _held(lock):
                    shutil.rmtree(folder, ignore_errors=True)

"""Uploads to the embedded registry: how a body is taken in, up to a limit, and what becomes of abandoned ones."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
from anyio.to_thread import run_sync

CHUNK: Final = 1024 * 1024
"""Bytes of a body that are held at once."""
LIMIT: Final = 20 * 1000**3
"""Bytes of a blob."""
ABANDONED: Final = 24 * 3600.0
"""Seconds without a new byte after which nobody finishes an upload."""
OFTEN: Final = 3600.0
"""Seconds between two looks for abandoned uploads."""
_CONTENT: Final = "docker/registry/v2"


class TooLargeError(Exception):
    """An upload would have more bytes than a blob may have."""


async def append(path: Path, start: int, body: AsyncIterator[bytes], limit: int) -> int:
    """Append a body to an upload, and return how many bytes came.

    Args:
        path: The upload.
        start: Its size.
        body: What comes.
        limit: Bytes that it may have then.

    Raises:
        TooLargeError: The upload would exceed the limit; it is as it was before.
    """
    async with await anyio.open_file(path, "ab", buffering=CHUNK) as file:
        async for chunk in body:
            if await file.tell() + len(chunk) > limit:
                break
            await file.write(chunk)
        else:
            return int(await file.tell()) - start
    await run_sync(os.truncate, path, start)
    raise TooLargeError


def sweep(root: Path, older: float = ABANDONED) -> int:
    """Remove abandoned uploads, and what a process that died in the middle of a write left; return how many.

    Args:
        root: The folder that holds ``docker/registry/v2``.
        older: Seconds since the last byte.

    Example:
        >>> sweep(Path("nowhere"))
        0
    """
    before, removed = time.time() - older, 0
    for folder, folders, files in os.walk(root / _CONTENT):
        here = Path(folder)
        if here.name == "_uploads":
            for name in folders:
                if _touched(here / name) < before:
                    shutil.rmtree(here / name, ignore_errors=True)
                    removed += 1
            folders.clear()
        # Beside what it was to become: a hidden file, as tempfile names it.
        for name in files:
            if name.startswith(".") and _touched(here / name) < before:
                with suppress(OSError):
                    (here / name).unlink()
                    removed += 1
    return removed


def _touched(path: Path) -> float:
    """Return when something of a file, or of a folder and what is in it, was last written."""
    found = [0.0]
    for each in (path, *(path.iterdir() if path.is_dir() else ())):
        with suppress(OSError):
            found.append(each.stat().st_mtime)
    return max(found)

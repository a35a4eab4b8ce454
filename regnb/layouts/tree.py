"""A tree of layouts: what olareg and zot keep, or a folder full of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from regnb.crawl.files import reason
from regnb.layouts.folder import is_layout

_FOLDERS: Final = 200_000
"""Folders that are looked at."""


def layouts(root: str, failed: list[str], most: int = _FOLDERS) -> Iterator[str]:
    """Yield the path of each layout below a folder, relative to it.

    What begins with a dot or an underscore is not a repository: zot keeps blobs that repositories share there.

    Args:
        root: The folder.
        failed: Folders that could not be read are added to it, each with the reason.
        most: Folders that are looked at.

    Example:
        >>> [*layouts("/dev/null", [])]
        []
    """
    todo, seen = [""], 0
    while todo:
        here = todo.pop()
        path = f"{root}/{here}" if here else root
        seen += 1
        if seen > most:
            failed.append(f"more than {most:,} folders: the rest was not looked at")
            return
        found = bool(here) and is_layout(path)
        if found:
            yield here
        try:
            with os.scandir(path) as entries:
                names = sorted((entry.name for entry in entries if entry.is_dir(follow_symlinks=False)), reverse=True)
        except NotADirectoryError:
            continue
        except OSError as error:
            failed.append(f"{here or root}: {reason(error)}")
            continue
        todo += [
            f"{here}/{name}" if here else name
            for name in names
            if not name.startswith((".", "_")) and not (found and name == "blobs")
        ]

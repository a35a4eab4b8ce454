"""Repositories by name, where a registry lists none, or where only some are wanted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument
from regnb.oci.reference import is_glob

OPTION: Final = "--repository NAME, or --repository @FILE with one on each line; repositories= in Python"
"""How repositories are named where an inventory is made."""


def named(given: str | Sequence[str]) -> list[str]:
    """Return the repositories that were named: names and globs, ``@FILE`` for a file of them, ``-`` for standard input.

    A file has one on each line; blank lines, and what follows a ``#``, count for nothing.

    Raises:
        InvalidArgument: No repository is named.
        StorageError: The file cannot be read.

    Example:
        >>> named(["vm/centos8", "apps/*"])
        ['vm/centos8', 'apps/*']
    """
    found: list[str] = []
    for word in [given] if isinstance(given, str) else given:
        if word == "-":
            found += _lines(sys.stdin)
        elif word.startswith("@"):
            with file_errors(f"read {word[1:]}", "name a file with one repository on each line"):
                found += _lines(Path(word[1:]).read_text(encoding="utf-8", errors="replace").splitlines())
        else:
            found.append(word)
    if not found:
        raise InvalidArgument("no repository is named", hint="leave the option out to read the whole catalog")
    return list(dict.fromkeys(found))


def exact(names: Iterable[str]) -> list[str]:
    """Return the names among names and globs: no catalog is needed to find them.

    Example:
        >>> exact(["vm/centos8", "apps/*"])
        ['vm/centos8']
    """
    return [name for name in dict.fromkeys(names) if not is_glob(name)]


def _lines(lines: Iterable[str]) -> list[str]:
    return list(filter(None, (line.partition("#")[0].strip("\ufeff").strip() for line in lines)))

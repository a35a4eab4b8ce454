"""Which tags are versions, and how they compare."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

_VERSION: Final = re.compile(r"[vV]?(\d{1,18}(?:\.\d{1,18})*)(?:-([0-9A-Za-z.-]+))?(?:_[0-9A-Za-z._-]+)?")
"""SemVer 2.0 with an optional v and any number of parts; _ stands for +, which no tag may have."""
Key: TypeAlias = "tuple[Any, ...]"
"""What sorts a version: numbers, whether it is a release, and its words."""
_COMMIT: Final = re.compile(r"g?[0-9a-f]{7,40}")
_DAY: Final = re.compile(r"20[0-9]{2}(0[1-9]|1[0-2])([0-2][0-9]|3[01])([0-9]{4}){0,2}")
_LARGE: Final = 1000
"""A first number from here on is a year, a day, a build or a commit, and not the first part of a version."""
_YEARS: Final = range(1990, 2100)


def version_key(tag: str) -> Key | None:
    """Return what sorts a tag as a version, or None for a tag that is not one.

    The order is that of SemVer 2.0, for any number of parts, with digits within a word compared as numbers (rc9 comes
    before rc10). Commits say nothing about order: versions that differ in nothing else are equal.

    Example:
        >>> version_key("v1.10") > version_key("1.9.3.4") > version_key("1.9.3-rc10") > version_key("1.9.3-rc9")
        True
        >>> version_key("1.0-0a1b2c3") == version_key("1.0-f9e8d7c")
        True
    """
    found = _VERSION.fullmatch(tag)
    if not found:
        return None
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    if found[2] is None:
        return (tuple(numbers), 1, ())
    words = [word for word in re.split(r"[.-]", found[2]) if _DAY.fullmatch(word) or not _COMMIT.fullmatch(word)]
    return (tuple(numbers), 0, tuple(map(_word, words)))


def _word(word: str) -> Key:
    """Return what sorts a part of a pre-release: numbers before words, and 2 before 10."""
    if word.isdecimal():
        return (0, int(word))
    return (1, tuple((0, int(run), "") if run.isdecimal() else (1, 0, run) for run in re.findall(r"\d+|\D+", word)))


def versions(tags: Iterable[str]) -> dict[str, Key]:
    """Return the tags of a repository that are versions, each with what sorts it.

    A year, a day, a build number or a commit is a version only where the repository has no others, and where they are
    not mixed: what cannot be ordered is not a version.

    Example:
        >>> list(versions(["1.2.3", "1.2", "20240115", "1234567", "latest"]))
        ['1.2.3', '1.2']
        >>> list(versions(["2024.01", "2024.02"]))
        ['2024.01', '2024.02']
    """
    some = list(tags)
    hashes = {len(tag) for tag in some if _COMMIT.fullmatch(tag) and not tag.isdecimal()}
    found = {tag: key for tag in some if (key := version_key(tag)) and not (tag.isdecimal() and len(tag) in hashes)}
    first = {tag: int(re.split(r"\D", tag.lstrip("vV"), maxsplit=1)[0]) for tag in found}
    if any(number < _LARGE for number in first.values()):
        return {tag: key for tag, key in found.items() if first[tag] < _LARGE}
    return found if len({number in _YEARS for number in first.values()}) < 2 else {}  # noqa: PLR2004 -- one sort

"""Whether the tag of a base has moved on since an image was built on it, and by how many versions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias

import pandas as pd

from regnb.oci.versions import versions
from regnb.tables.frame import Frame

_Frames: TypeAlias = Mapping[str, Frame]
_SERIES: Final = re.compile(r"([vV]?)(\d+(?:\.\d+)*)(.*)")


class Release(NamedTuple):
    """How a base stands to its tag.

    Attributes:
        moved: Whether there is a newer one; None: not known.
        behind: How many newer ones there are; None: not known. By earlier snapshots it is a lower bound.
        told_by: What says so: ``tag``, ``tag history``, ``earlier snapshots``, ``version tags``, ``annotation`` or
            ``not known``.
    """

    moved: bool | None
    behind: int | None
    told_by: str


UNKNOWN: Final = Release(None, None, "not known")


class Releases:
    """The tags of a registry over time: which of them have moved on from a base.

    Args:
        tables: The frames of inventories of the registry, the oldest first; the last is the one of now.
        known: Images elsewhere (``known_bases``).

    Example:
        >>> old = inventory.tags.query("repository == 'vm/centos8' and tag == '8.3'")["digest"].item()
        >>> Releases([inventory.frames]).of([("vm/centos8", "8.3")], old)
        Release(moved=True, behind=1, told_by='version tags')
    """

    def __init__(self, tables: Sequence[_Frames], known: Frame | None = None) -> None:
        self._tables, self._known = tables, known
        self._series: dict[str, dict[str, int]] = {}

    @cached_property
    def _pointing(self) -> list[dict[str, dict[str, str]]]:
        """Of each table, of each repository: tag to digest."""
        found = []
        for one in self._tables:
            tags: dict[str, dict[str, str]] = defaultdict(dict)
            rows = one["tags"].loc[one["tags"]["digest"].notna(), ["repository", "tag", "digest"]]
            for repository, tag, digest in zip(*(rows[name].tolist() for name in rows), strict=True):
                tags[repository][tag] = digest
            found.append(tags)
        return found

    @cached_property
    def _parents(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for one in self._tables:
            children = one["children"]
            for index, child in zip(children["manifest"].astype("str"), children["child"].astype("str"), strict=True):
                found[child].add(index)
        return found

    @cached_property
    def _history(self) -> dict[tuple[str, str], list[tuple[pd.Timestamp, str]]]:
        found = defaultdict(list)
        rows = self._tables[-1]["history"].dropna(subset="when")
        for repository, tag, digest, when in zip(
            *(rows[name].tolist() for name in ("repository", "tag", "digest", "when")), strict=True
        ):
            found[repository, tag].append((when, digest))
        return found

    def _newer(self, repository: str, tag: str) -> int:
        """Return how many later versions a repository has of a tag's series."""
        if repository not in self._series:
            self._series[repository] = later(self._pointing[-1].get(repository, {}))
        return self._series[repository].get(tag, 0)

    def of(self, names: Sequence[tuple[str, str]], digest: str) -> Release:
        """Return how a base stands to its tags.

        Args:
            names: Repository and tag of each; the first is the one that is told.
            digest: Of its manifest.
        """
        if number := max(self._newer(*name) for name in names):
            return Release(True, number, "version tags")  # noqa: FBT003 -- it has moved
        repository, tag = names[0]
        above = {digest} | self._parents.get(digest, set())
        if self._pointing[-1].get(repository, {}).get(tag) in above:
            return Release(False, 0, "tag")  # noqa: FBT003 -- it has not moved
        past = self._history.get((repository, tag), [])
        if own := [when for when, each in past if each in above]:
            number = len({each for when, each in past if when > max(own)})
            return Release(True, number, "tag history")  # noqa: FBT003
        pointed = [each for one in self._pointing if (each := one.get(repository, {}).get(tag))]
        places = [at for at, each in enumerate(pointed) if each in above]
        if not places:
            return UNKNOWN
        return Release(True, len(set(pointed[places[-1] + 1 :])) or None, "earlier snapshots")  # noqa: FBT003

    def annotated(self, name: object, digest: object) -> Release:
        """Return whether the tag that an annotation names points elsewhere by now, where that tag is at hand."""
        if not isinstance(name, str) or not isinstance(digest, str):
            return UNKNOWN
        named = name.partition("@")[0]
        repository, _, tag = named.partition("/")[2].rpartition(":")
        now = {self._pointing[-1].get(repository, {}).get(tag)} - {None}
        if self._known is not None:
            listed = self._known[self._known["name"].isin({named, f"docker.io/{named}", f"docker.io/library/{named}"})]
            now |= {*listed["digest"], *listed["index"].dropna()}
        if not now:
            return UNKNOWN
        return Release(digest not in now, None if digest not in now else 0, "annotation")


def later(tags: Mapping[str, str]) -> dict[str, int]:
    """Return of each tag that is a version how many later ones, by digest, its series has: as many parts, one variant.

    Args:
        tags: The tags of a repository, each with its digest.

    Example:
        >>> later({"12.1": "a", "12.2": "b", "12.10": "c", "12.2-slim": "d", "latest": "c"})
        {'12.10': 0, '12.2': 1, '12.1': 2, '12.2-slim': 0}
    """
    series: dict[tuple[str, int, str], list[tuple[tuple[int, ...], str]]] = defaultdict(list)
    for tag in versions(tags):
        if found := _SERIES.fullmatch(tag):
            numbers = tuple(map(int, found[2].split(".")))
            series[found[1], len(numbers), found[3]].append((numbers, tag))
    counts = {}
    for some in series.values():
        seen: set[str] = set()
        for _, tag in sorted(some, reverse=True):
            counts[tag] = len(seen) - (tags[tag] in seen)
            seen.add(tags[tag])
    return counts

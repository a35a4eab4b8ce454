"""The figures of records, as arrays: frames are made of them, and what a command prints without pandas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from msgspec.structs import astuple, replace

from regnb.crawl.records import Coverage, Problem, Records, Source
from regnb.tables import sharing
from regnb.tables.behind import UNDATED, Behind
from regnb.tables.graph import Numbered, total
from regnb.text import count, names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regnb.tables.edges import Ints, Mask
    from regnb.tables.listing import Column

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Totals(NamedTuple):
    """Numbers of the whole, and its bytes: every blob once, each tag as if it were alone, every file on disk."""

    repositories: int
    tags: int
    manifests: int
    blobs: int
    stored: int
    pulled: int
    disk: int | None
    problems: int


class Figures:
    """What is computed of records: each figure once, whatever shows it.

    Attributes:
        records: Of a crawl, or of a storage; their tags and repositories are put in order.
        numbers, graph, behind: Who needs what, and what is behind each manifest.

    Example:
        >>> from datetime import UTC, datetime
        >>> len(Figures(Records("localhost:5000", datetime.now(UTC))).tag_sizes)
        0
    """

    def __init__(self, records: Records) -> None:
        records.tags.sort(key=lambda row: (row.repository, row.tag))
        records.repositories = dict(sorted(records.repositories.items()))
        self.records = records
        self.numbers = Numbered(records)
        self.graph = self.numbers.graph()
        self.behind = Behind(records, self.numbers, self.graph)

    @cached_property
    def blob_sizes(self) -> Ints:
        """Bytes of each blob, wherever it is stored."""
        blobs = self.records.blobs
        return np.fromiter((blob.size for blob in blobs.values()), np.int64, len(blobs))

    @property
    def needing(self) -> Ints:
        """How many manifests each blob belongs to."""
        blobs, graph = len(self.records.blobs), self.graph
        is_manifest = np.bincount(graph.manifest, minlength=blobs) > 0
        return np.bincount(graph.own.target, minlength=blobs) - is_manifest

    @property
    def holding(self) -> Ints:
        """How many repositories have a manifest that needs each blob."""
        return np.bincount(self.graph.held.target, minlength=len(self.records.blobs))

    def of_tags(self, values: NDArray[_Scalar], missing: object) -> NDArray[_Scalar]:
        """Return of each tag the value of its manifest; ``missing`` where that was not read."""
        return np.append(values, np.array([missing], dtype=values.dtype))[self.graph.tags]

    @cached_property
    def tag_sizes(self) -> Ints:
        """Bytes behind each tag."""
        return self.of_tags(self.behind.size, 0)

    @cached_property
    def gone(self) -> Mask:
        """The tags whose manifest is known to be gone: nothing is behind them that could be unread."""
        tags, damaged = self.records.tags, self.records.damaged
        return np.fromiter(((row.repository, row.tag) in damaged for row in tags), bool, len(tags))

    @cached_property
    def broken(self) -> Mask:
        """The tags that cannot be pulled."""
        return np.asarray(self.of_tags(self.behind.broken, missing=False) | self.gone)

    @property
    def doubtful(self) -> Mask:
        """The tags of which it is not known whether they can be pulled."""
        return np.asarray(self.of_tags(self.behind.doubtful, missing=True) & ~self.broken)

    @property
    def totals(self) -> Totals:
        """The whole."""
        records = self.records
        stored, pulled = total(self.graph.sizes), total(self.tag_sizes)
        disk = sum(one.size for one in records.disk.values()) if records.disk or records.requests else None
        manifests = len(np.unique(self.numbers.manifest))
        counts = len(records.repositories), len(records.tags), manifests, len(records.blobs)
        return Totals(*counts, stored, pulled, disk, len(records.problems))

    def repositories(self) -> Mapping[str, Column]:
        """Return the columns of ``repositories``."""
        records, graph, homes = self.records, self.graph, self.numbers.homes
        listed = list(records.repositories)
        newest = np.full(len(listed), UNDATED)
        np.fmax.at(newest, homes, self.of_tags(self.behind.created, UNDATED))
        troubled = {problem.repository for problem in records.problems if problem.incomplete}
        links = [records.layer_links.get(name, (None, None)) for name in listed]
        return {
            "repository": listed,
            "status": list(records.repositories.values()),
            "tags": np.bincount(homes, minlength=len(listed)),
            "manifests": np.bincount(graph.repository, minlength=len(listed)),
            "untagged": np.bincount(graph.repository[graph.untagged], minlength=len(listed)),
            **sharing.owned(graph, graph.held)._asdict(),
            "pull_size": sharing.sums(self.tag_sizes, homes, len(listed)),
            "newest": newest,
            "layer_links": [there for there, _ in links],
            "stale_links": [stale for _, stale in links],
            "complete": [name not in troubled for name in listed],
        }

    def siblings(self) -> tuple[Ints, Ints]:
        """Return how many other tags have the digest of each tag: in its repository, and elsewhere."""
        rows, graph = self.records.tags, self.graph
        at = graph.tags
        read = at >= 0
        everywhere = np.bincount(graph.manifest[at[read]], minlength=len(self.records.blobs))
        siblings, elsewhere = (np.zeros(len(rows), dtype=np.int64) for _ in range(2))
        siblings[read] = graph.tagged[at[read]] - 1
        elsewhere[read] = everywhere[graph.manifest[at[read]]] - graph.tagged[at[read]]
        # A manifest that could not be read has no row, and its tags are siblings all the same.
        unread = [number for number in np.flatnonzero(~read).tolist() if rows[number].digest]
        here = Counter((rows[number].repository, rows[number].digest) for number in unread)
        there = Counter(rows[number].digest for number in unread)
        for number in unread:
            siblings[number] = here[rows[number].repository, rows[number].digest] - 1
            elsewhere[number] = there[rows[number].digest] - siblings[number] - 1
        return siblings, elsewhere

    def alike(self) -> sharing.Alike:
        """Return the tags whose digest others carry, too."""
        numbers: dict[str, int] = {}
        digests = (numbers.setdefault(row.digest, len(numbers)) if row.digest else -1 for row in self.records.tags)
        return sharing.alike(np.fromiter(digests, np.int64, len(self.records.tags)), self.numbers.homes)

    def common(self) -> sharing.Common:
        """Return the layers that are shared, and who uses them."""
        blobs = self.records.blobs
        layers = np.fromiter((blob.kind in sharing.LAYERS for blob in blobs.values()), bool, len(blobs))
        return sharing.common(self.graph, self.blob_sizes, layers)

    def problems(self) -> Iterator[Sequence[object]]:
        """Yield the rows of ``problems``; what is damaged with the tags that break."""
        records, broken = self.records, self.behind.breaking()

        def said(row: Problem) -> Problem:
            tags = broken.get((row.repository, row.reference), ())
            if not tags or (row.repository, row.reference) not in records.damaged:
                return row
            return replace(row, message=f"{row.message}; breaks {count(len(tags), 'tag')}: {names(tags)}")

        for row in sorted(records.problems, key=lambda row: (row.repository, row.reference)):
            yield astuple(said(row))


def coverage(found: Coverage, source: Source) -> list[Sequence[object]]:
    """Return the rows of ``coverage``.

    Example:
        >>> [row[0] for row in coverage(Coverage(), "api")][:2]
        ['catalog', 'repositories']
    """
    whole = found.catalog != "incomplete"
    asked = int(found.asked)
    own = "registry API" if source == "api" else "storage"
    from_where = found.sources
    rows: list[Sequence[object]] = [
        ("catalog", asked, asked * whole, 0, 0, int(not whole), 0, from_where.get("catalog", own), whole)
    ]
    for what in ("repositories", "tags", "manifests", "configs", "referrers"):
        of = getattr(found, what)
        whole = what == "configs" or not (of.failed or of.denied)
        numbers = (of.listed, of.read, of.cached, of.told, of.failed, of.denied)
        rows.append((what, *numbers, from_where.get(what, own), whole))
    return rows

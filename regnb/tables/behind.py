"""What is behind each manifest: bytes, dates, platforms, and what of it is damaged or was not read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from regnb.oci.age import known

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regnb.crawl.records import Records
    from regnb.tables.edges import Mask
    from regnb.tables.graph import Graph, Numbered

    Dates = NDArray[np.datetime64]

UNDATED: Final = np.datetime64("NaT", "us")
"""A date that is not known; as a number it is the smallest."""


def _dates(texts: Iterable[str], now: datetime) -> Dates:
    """Return when each text says, in UTC."""
    numbers: dict[str, int] = {}
    rows = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64)
    found = (known(text, now) for text in numbers)
    # numpy knows no zones.
    return np.array([when and when.replace(tzinfo=None) for when in found], dtype="datetime64[us]")[rows]


class Behind:
    """What is behind each row of ``manifests``.

    Attributes:
        kind, platforms: Texts.
        own: When its config says that it was made.
        created: When the newest image behind it was made.
        dated: Where that is from.
        size: Bytes of every blob behind it.
        layers: Their number.
        complete: Whether all of it was read.
        broken: Whether something of it is known to be missing or damaged.
        doubtful: Whether it is not known that nothing is.
    """

    def __init__(self, records: Records, numbers: Numbered, graph: Graph) -> None:
        manifests = list(records.manifests.values())
        self._records, self._numbers, self._graph = records, numbers, graph
        self.kind = numbers.each(row.kind for row in manifests)
        opaque = np.fromiter((row.kind in ("schema1", "malformed") for row in manifests), bool, len(manifests))
        unknown = opaque[numbers.manifest] | _unread_children(records, numbers)
        is_layer = np.fromiter(("layer" in blob.kind for blob in records.blobs.values()), np.int64, len(records.blobs))
        self.size = graph.total(graph.behind)
        self.layers = graph.total(graph.behind, is_layer)
        self.complete = graph.total(graph.reach, unknown.astype(np.int64)) == 0
        checked = np.fromiter(map(records.links.__getitem__, numbers.links), bool, len(numbers.links))
        self._damaged, doubtful = _damaged(records, numbers)
        self.broken = graph.total(graph.reach, self._damaged.astype(np.int64)) > 0
        self.doubtful = graph.total(graph.reach, (unknown | doubtful | ~checked).astype(np.int64)) > 0
        read = max(records.started, records.finished or records.started)
        self.own, note = (
            _dates((getattr(row, name) for row in manifests), read)[numbers.manifest]
            for name in ("created", "annotated")
        )
        self.created, self.dated = self._created(graph, note)
        self.platforms = numbers.each(row.platform for row in manifests)
        self.platforms[self.kind != "image"] = ""
        image = self.platforms.tolist()
        for row in np.flatnonzero(graph.below.counts).tolist():
            named = {image[one] for one in graph.reach.of(np.array([row]))[1].tolist()}
            self.platforms[row] = ", ".join(sorted(named - {""}))

    def _created(self, graph: Graph, note: Dates) -> tuple[Dates, NDArray[np.str_]]:
        """Return when the newest image behind each row was made, and where that is from; unknown if one image's is."""
        made = np.where(np.isnat(self.own), note, self.own)
        by_note = np.isnat(self.own) & ~np.isnat(made)
        lists = self.kind == "index"
        content = ~lists & (self.kind != "attestation")
        inner = np.where(content, made, UNDATED).view(np.int64)[graph.reach.target]
        newest = np.maximum.reduceat(inner, graph.reach.start[:-1]) if len(inner) else inner
        images, undated, noted = (
            graph.total(graph.reach, rows.astype(np.int64))
            for rows in (content, content & np.isnat(made), content & by_note)
        )
        whole = lists & (images > 0) & (undated == 0)
        created = np.where(lists, np.where(whole, newest.view("datetime64[us]"), note), made)
        annotated = np.where(lists, ~whole | (noted > 0), by_note).astype(bool)
        dated = np.where(np.isnat(created), "", np.where(annotated, "annotation", "config"))
        return created, dated

    def breaking(self) -> Mapping[tuple[str, str], list[str]]:
        """Return the tags that lead to what is damaged, by its repository and digest."""
        records, graph = self._records, self._graph
        damaged = {
            row: [key for part in _parts(records, digest) if (key := (repository, part)) in records.damaged]
            for row, (repository, digest) in enumerate(self._numbers.links)
            if self._damaged[row]
        }
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        tagged = np.flatnonzero(graph.tags >= 0)
        at, row = graph.reach.of(graph.tags[tagged]) if damaged else (tagged[:0], tagged[:0])
        broken = self._damaged[row]
        for number, one in zip(tagged[at[broken]].tolist(), row[broken].tolist(), strict=True):
            for key in damaged[one]:
                if records.tags[number].tag not in found[key][-1:]:
                    found[key].append(records.tags[number].tag)
        return found


def _unread_children(records: Records, numbers: Numbered) -> Mask:
    """Say of each row whether it lists a manifest of which nothing is known, not even that it is missing."""
    some = {
        digest: unread
        for digest, row in records.manifests.items()
        if row.children and (unread := [child for child in row.children if child not in records.manifests])
    }
    if not some:
        return np.zeros(len(numbers.links), dtype=bool)
    rows = (
        any((repository, child) not in records.damaged for child in some.get(digest, ()))
        for repository, digest in numbers.links
    )
    return np.fromiter(rows, bool, len(numbers.links))


def _damaged(records: Records, numbers: Numbered) -> tuple[Mask, Mask]:
    """Say of each row whether it, or what it consists of, is known to be damaged, and whether that is in doubt."""
    found = []
    for some in (records.damaged, records.doubtful):
        concerned = {repository for repository, _ in some}
        rows = (
            repository in concerned and not {(repository, part) for part in _parts(records, digest)}.isdisjoint(some)
            for repository, digest in numbers.links
        )
        found.append(np.fromiter(rows, bool, len(numbers.links)))
    return found[0], found[1]


def _parts(records: Records, digest: str) -> set[str]:
    """Return a manifest with its config, its layers and its children."""
    row = records.manifests[digest]
    return {digest, row.config, *row.layers, *row.children}

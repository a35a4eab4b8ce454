"""An inventory's graph as the garbage collections meet it: rows and blobs are arrays, fit for a million tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from regnb.analysis.collectors import MATTERING, UNREAD, Content, in_order
from regnb.crawl.records import Problem, ProblemKind
from regnb.tables.edges import Edges
from regnb.tables.frame import Frame

if TYPE_CHECKING:
    from regnb.tables.edges import Ints, Mask
    from regnb.tables.graph import Graph


def mattering(problems: Frame) -> list[Problem]:
    """Return the problems by which some collection goes another way.

    Example:
        >>> from regnb.tables.frame import of_rows
        >>> mattering(of_rows("problems", [("app", "1.0", "dangling", "", "", False)]))
        []
    """
    rows = problems[problems["problem"].isin(MATTERING)]
    columns = ("repository", "reference", "problem", "message")
    return [Problem(*row) for row in zip(*(rows[name].to_list() for name in columns), strict=True)]


class Marking(Content["Mask", "Mask"]):
    """What a garbage collection meets in an inventory.

    Args:
        graph: Of the inventory.
        problems: Those of :func:`mattering`.
        blobs: The frame.
        tags: The frame, and which of its rows stay.
        url: Of the registry.
    """

    def __init__(
        self, graph: Graph, problems: Sequence[Problem], blobs: Frame, tags: tuple[Frame, Mask], url: str
    ) -> None:
        self._graph, (self._tags, self._stays) = graph, tags
        self.rows = np.ones(len(graph.repository), dtype=bool)
        self.none = np.zeros(len(graph.digests), dtype=bool)
        self.unlayered, self.unlabelled = (self._lacking(problems, sort) for sort in ("no layers", "no tags"))
        self.unread = [problem for problem in problems if problem.problem in UNREAD]
        linked = [problem for problem in problems if problem.problem == "linked twice"]
        known = {*graph.repositories, *(problem.repository for problem in linked)}
        self._place = {name: at for at, name in enumerate(in_order(known, url))}
        aliased = np.flatnonzero(blobs["alias"].notna())
        self._stored = dict(zip(blobs["alias"].dropna(), aliased.tolist(), strict=True))
        self.twice = [(problem.repository, problem.reference) for problem in linked]
        self.aliased = graph.followed is not graph.own
        named = blobs["digest"].isin([problem.reference for problem in self.unread]).to_numpy()
        self._number = dict(zip(blobs["digest"][named], np.flatnonzero(named).tolist(), strict=True))

    def _lacking(self, problems: Sequence[Problem], sort: ProblemKind) -> Mask:
        return self._graph.of_repositories({problem.repository for problem in problems if problem.problem == sort})

    def less(self, some: Mask, others: Mask) -> Mask:
        """See `Content.less`."""
        return some & ~others

    def number(self, some: Mask) -> int:
        """See `Content.number`."""
        return int(some.sum())

    def unneeded(self, rows: Mask) -> Mask:
        """See `Content.unneeded`."""
        return ~self._graph.needed(rows) & ~self._graph.absent

    def among(self, rows: Mask, blobs: Mask) -> Mask:
        """See `Content.among`."""
        return rows & blobs[self._graph.manifest]

    def keeps(self, rows: Mask, digest: str) -> bool:
        """See `Content.keeps`."""
        return bool((self._graph.manifest[rows] == self._number.get(digest, -1)).any())

    def marks(self, rows: Mask, repository: str, digest: str) -> bool:
        """See `Content.marks`."""
        before = self._order[self._graph.repository] <= self._place[repository]
        return bool(self._graph.needed(rows & before)[self._stored[digest]])

    def reached(self, rows: Mask, gone: Mask) -> Mask:
        """See `Content.reached`."""
        return self._graph.reached(rows, gone)

    def breaking(self, rows: Mask, blobs: Mask) -> Mask:
        """See `Content.breaking`."""
        return rows & (self._graph.total(self._graph.behind, blobs.astype(np.int64)) > 0)

    def misnamed(self, blobs: Mask) -> bool:
        """See `Content.misnamed`."""
        graph = self._graph
        return bool(blobs[np.setdiff1d(graph.own.target, graph.followed.target)].any())

    def tagging(self, rows: Mask) -> Sequence[tuple[str, str]]:
        """See `Content.tagging`."""
        chosen = self._tags[["repository", "tag"]][self._stays & np.append(rows, False)[self._graph.tags]]
        return list(zip(chosen["repository"], chosen["tag"], strict=True))

    def visits(self, rows: Mask) -> Iterator[list[int]]:
        """See `Content.visits`."""
        repository = self._graph.repository
        starts = np.flatnonzero(rows)
        starts = starts[np.argsort(self._order[repository[starts]], kind="stable")]
        for some in np.split(starts, np.flatnonzero(np.diff(repository[starts])) + 1):
            yield some.tolist()

    def names(self, row: int) -> Iterable[tuple[int, int]]:
        """See `Content.names`."""
        _, blob, at, named = self._references
        _, pairs = named.of(np.array([row]))
        return zip(blob[pairs].tolist(), at[pairs].tolist(), strict=True)

    def manifest(self, row: int) -> int:
        """See `Content.manifest`."""
        return int(self._graph.manifest[row])

    def numbered(self, rows: Iterable[int]) -> Mask:
        """See `Content.numbered`."""
        found = np.zeros(len(self.rows), dtype=bool)
        found[list(rows)] = True
        return found

    def followed(self, roots: Mask, gone: Mask) -> Mask:
        """See `Content.followed`: at once, where every manifest is there that is named."""
        row, _, at, _ = self._references
        there = (at >= 0) & ~gone[at]
        found = roots.copy()
        following = Edges(row[there], at[there], len(found))
        frontier = np.flatnonzero(found)
        while len(frontier):
            below = following.of(frontier)[1]
            frontier = np.unique(below[~found[below]])
            found[frontier] = True
        return super().followed(roots, gone) if (found[row] & ~there).any() else found

    @cached_property
    def _order(self) -> Ints:
        """The place of each repository in the order in which version 3 visits them."""
        return np.array([self._place[name] for name in self._graph.repositories], dtype=np.int64)

    @cached_property
    def _references(self) -> tuple[Ints, Ints, Ints, Edges]:
        """Each row with the manifests that it names, as a child or as a layer, and their rows in its repository."""
        graph = self._graph
        is_manifest = np.zeros(len(graph.digests), dtype=bool)
        is_manifest[graph.manifest] = True
        pairs = np.flatnonzero(is_manifest[graph.followed.target])
        target = graph.followed.target[pairs]
        owner = np.repeat(np.arange(len(is_manifest), dtype=np.int32), graph.followed.counts)[pairs]
        named = is_manifest[owner] & (target != owner)
        edges = Edges(owner[named], target[named], len(graph.digests))
        row, blob = edges.of(graph.manifest)
        found = graph.find(graph.repository[row], blob)
        return row, blob, found, Edges(row, np.arange(len(row)), len(graph.manifest))

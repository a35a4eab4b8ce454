"""The one rule of removal: which manifests and tags go once some are deleted, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regnb.tables.edges import Ints, Mask
    from regnb.tables.graph import Graph

Why = Literal["", "child", "referrer", "tag", "digest"]
"""Why a manifest goes; a later word counts for more than one before it."""
WHY: Final[tuple[Why, ...]] = ("", "child", "referrer", "tag", "digest")
_CHILD, _REFERRER, _TAG, _DIGEST = range(1, len(WHY))


class Removal(NamedTuple):
    """What goes.

    Attributes:
        gone: For each row whether that repository loses that manifest.
        going: For each tag whether it goes.
        wanted: For each row the place in :data:`WHY` of the reason for which it goes, or would go if nothing held it.
        because: For each tag the row that takes it along; -1 where it was selected, or stays.
        rounds: The rows that are gone, in groups: each group can be deleted once those before it are.
    """

    gone: Mask
    going: Mask
    wanted: NDArray[np.int8]
    because: Ints
    rounds: tuple[Ints, ...]

    def ordered(self, graph: Graph, selected: Ints) -> Ints:
        """Return the rows that are gone in an order in which they can be deleted, each image beside its children.

        Args:
            graph: What this was computed from.
            selected: Rows, in the order in which they were selected.
        """
        place = np.full(len(self.gone), -1)
        place[selected[::-1]] = np.arange(len(selected))[::-1]
        settled = np.zeros(len(self.gone), dtype=bool)
        for rows in self.rounds:
            # What follows from several images comes after the last one of them.
            subject = graph.subject[rows]
            place[rows] = np.maximum(place[rows], np.where((subject >= 0) & self.gone[subject], place[subject], -1))
            at, below = graph.below.of(rows)
            np.maximum.at(place, below, place[rows[at]])
            settled[rows] = True
            signing = np.flatnonzero((graph.signs >= 0) & (graph.tags >= 0) & np.isin(graph.signs, rows))
            # Tags can refer in a circle: what has its place keeps it, or its children would come before it.
            signing = signing[~settled[graph.tags[signing]]]
            np.maximum.at(place, graph.tags[signing], place[graph.signs[signing]])
        found = np.concatenate([*self.rounds, np.array([], dtype=np.int64)])
        return found[np.argsort(place[found], kind="stable")]


def removal(
    graph: Graph,
    tags: Mask,
    digests: Ints | None = None,
    *,
    children: bool = True,
    referrers: bool = True,
    parents: bool = False,
    known: Mask | None = None,
) -> Removal:
    """Work out what a deletion removes.

    A manifest goes if none of its tags stays and no index that stays lists it; with it go the children that nothing
    else needs, and what refers to it.

    Args:
        graph: Of an inventory.
        tags: For each tag whether it is deleted.
        digests: The rows that are deleted by digest, with all their tags.
        children: Whether the children of an index go with it.
        referrers: Whether what refers to a manifest goes with it.
        parents: Whether what is deleted by digest goes although an index that stays lists it.
        known: The rows that the deletion knows of, by default all: one that it does not see holds nothing back.

    Example:
        >>> int(removal(inventory.graph, inventory.tags["tag"] == "8.3").gone.sum())
        1
    """
    found = _Spread(graph, tags, np.ones(len(graph.manifest), dtype=bool) if known is None else known)
    found.children, found.referrers = children, referrers
    digests = np.array([], dtype=np.int64) if digests is None else digests
    look = found.select(digests)
    while len(look):
        look = found.go(found.free(look))
        if parents and not len(look) and len(held := digests[~found.gone[digests]]):
            # The outermost first: what it lists and is held, too, then goes after it.
            inner = np.isin(held, graph.below.of(held)[1])
            look = found.go(np.unique(held[~inner]))
    return Removal(found.gone, found.going, found.wanted, found.because, tuple(found.rounds))


class _Spread:
    """A deletion while it spreads from what was selected."""

    def __init__(self, graph: Graph, tags: Mask, known: Mask) -> None:
        self.graph, self.known = graph, known
        self.children = self.referrers = True
        self.going = np.array(tags, dtype=bool)
        self.gone = np.zeros(len(known), dtype=bool)
        self.wanted = np.zeros(len(known), dtype=np.int8)
        self.because = np.full(len(self.going), -1)
        self.rounds: list[Ints] = []
        self.left = graph.tagged.copy()
        """How many tags of each row stay."""
        self.above = np.bincount(graph.below.of(np.flatnonzero(known))[1], minlength=len(known))
        """How many indexes list each row and stay."""

    def select(self, digests: Ints) -> Ints:
        """Start with the selected tags and with some rows; return those to look at."""
        tags = self.graph.tags
        direct = tags[self.going & (tags >= 0)]
        np.subtract.at(self.left, direct, 1)
        self.wanted[direct] = _TAG
        self.wanted[digests] = _DIGEST
        if len(digests):
            also = ~self.going & np.isin(tags, digests)
            self._take(also, tags[also])
        return np.concatenate([direct, digests])

    def _take(self, tags: Mask, because: Ints) -> None:
        """Let tags go with a row each."""
        self.going |= tags
        self.because[tags] = because
        np.subtract.at(self.left, self.graph.tags[tags], 1)

    def _want(self, rows: Ints, why: int) -> None:
        self.wanted[rows] = np.maximum(self.wanted[rows], why)

    def free(self, look: Ints) -> Ints:
        """Return of some rows those that nothing holds any more."""
        some = np.zeros(len(self.gone), dtype=bool)
        some[look] = True
        look = np.flatnonzero(some)
        wanted = self.wanted[look]
        free = (wanted > 0) & ~self.gone[look] & (self.left[look] == 0) & (self.above[look] == 0)
        # A child may refer to another manifest, whose signature it is: as long as that stays, it stays.
        subject = self.graph.subject[look]
        free &= (wanted != _CHILD) | (subject < 0) | ~self.known[subject] | self.gone[subject]
        return np.asarray(look[free])

    def go(self, rows: Ints) -> Ints:
        """Delete some rows; return those to look at after it."""
        if not len(rows):
            return rows
        graph = self.graph
        self.gone[rows] = True
        self.rounds.append(rows)
        _, below = graph.below.of(rows)
        np.subtract.at(self.above, below, 1)
        if self.children:
            self._want(below, _CHILD)
        behind = (graph.subject >= 0) & self.gone[graph.subject] & ~self.gone
        if not self.referrers:
            return np.concatenate([below, np.flatnonzero(behind & (self.wanted > 0))])
        refer = np.flatnonzero(behind & self.known)
        signs = (graph.signs >= 0) & self.gone[graph.signs] & (graph.tags >= 0)
        self._want(refer, _REFERRER)
        self._want(signing := graph.tags[signs], _REFERRER)
        on = np.zeros(len(self.gone), dtype=bool)
        on[refer] = True
        on = (graph.tags >= 0) & on[graph.tags] & ~self.going
        self._take(on, graph.subject[graph.tags[on]])
        signs &= ~self.going
        self._take(signs, graph.signs[signs])
        return np.concatenate([below, refer, signing])

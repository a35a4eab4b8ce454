"""Whose bytes are these: what each owner needs alone (its exclusive bytes), and its part of what several need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from regnb.crawl.records import BlobKind
from regnb.tables.edges import Edges, first

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from regnb.tables.edges import Ints, Mask
    from regnb.tables.graph import Graph


LAYERS: Final[tuple[BlobKind, ...]] = ("layer", "foreign layer")
"""Kinds of blobs that are layers, wherever they are stored."""
_AT_ONCE: Final = 2**20
"""Pairs of an owner and a blob that are looked at together."""


class Owned(NamedTuple):
    """Bytes of each owner: once for each blob, of those that it alone needs, and its part of each blob."""

    size: NDArray[np.int64]
    exclusive: NDArray[np.int64]
    share: NDArray[np.int64]


def owned(graph: Graph, held: Edges) -> Owned:
    """Return the bytes of owners, of whom several may need one blob: what one alone needs is exclusive."""
    owners = np.bincount(held.target, minlength=len(graph.digests))
    exclusive = np.where(owners == 1, graph.sizes, 0)
    return Owned(graph.total(held), graph.total(held, exclusive), shares(graph, held))


def of_tags(graph: Graph) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return of each tag the bytes that only it needs, and its share of every blob behind it."""
    row = np.repeat(np.arange(len(graph.manifest)), graph.behind.counts)
    reached = graph.tagged[row] > 0
    share = split(graph, row[reached], graph.behind.target[reached], graph.tagged)
    # A row's part is divided by its tags in turn.
    known = np.flatnonzero(graph.tags >= 0)
    known = known[np.argsort(graph.tags[known], kind="stable")]
    at = graph.tags[known]
    start = np.flatnonzero(np.diff(at, prepend=-1))
    rank = np.arange(len(at)) - np.repeat(start, np.diff(np.append(start, len(at))))
    each, left = np.divmod(share[at], np.maximum(graph.tagged[at], 1))
    found, exclusive = (np.zeros(len(graph.tags), dtype=np.int64) for _ in range(2))
    found[known] = each + (rank < left)
    exclusive[known] = graph.total(graph.behind, np.where(graph.alone, graph.sizes, 0))[at]
    return exclusive, found


def shares(graph: Graph, edges: Edges) -> NDArray[np.int64]:
    """Return the bytes of each node, where those of each blob are divided by the nodes that lead to it."""
    owner = np.repeat(np.arange(len(edges.counts)), edges.counts)
    return split(graph, owner, edges.target, np.ones(len(edges.counts), dtype=np.int64))


def split(graph: Graph, owner: Ints, blob: Ints, weight: Ints) -> NDArray[np.int64]:
    """Divide each blob's bytes by its owners; what is left over goes to the first ones, so that nothing is lost.

    Args:
        graph: The sizes of the blobs.
        owner: Who needs a blob, in pairs that are there once.
        blob: What it needs.
        weight: How many each owner stands for.

    Returns:
        The bytes of each owner, or of all that it stands for.
    """
    pairs = blob * np.int64(len(weight))
    pairs += owner
    pairs.sort()
    found = np.zeros(len(weight), dtype=np.int64)
    begin = 0
    while begin < len(pairs):
        # Blobs of some number of pairs at a time: what fits in a processor's cache, and in memory.
        end = begin + _AT_ONCE
        if end < len(pairs):
            end = int(np.searchsorted(pairs, (pairs[end - 1] // len(weight) + 1) * len(weight)))
        found += _divided(graph, pairs[begin:end], weight)
        begin = end
    return found


def _divided(graph: Graph, pairs: Ints, weight: Ints) -> NDArray[np.int64]:
    """Divide the bytes of some blobs, whose pairs with owners are numbers in order."""
    blob, owner = (each.astype(np.int32) for each in np.divmod(pairs, len(weight)))
    count = weight[owner].astype(np.int32)
    start = np.flatnonzero(first(blob))
    runs = np.diff(np.append(start, len(blob)))
    total = np.add.reduceat(count, start)
    before = np.cumsum(count)
    before -= np.repeat((before - count)[start], runs)
    each, left = np.divmod(graph.sizes[blob[start]], total)
    extra = np.clip(np.repeat(left, runs) - (before - count), 0, count)
    return sums(np.repeat(each, runs) * count + extra, owner, len(weight))


class Alike(NamedTuple):
    """The tags whose digest others carry, too.

    Attributes:
        tags: Their positions, those of one digest one after the other.
        first: Where among these each digest begins.
        counts: How many tags carry each digest.
        repositories: In how many repositories.
    """

    tags: Ints
    first: Ints
    counts: Ints
    repositories: Ints


def alike(digest: Ints, repository: Ints) -> Alike:
    """Return which tags carry the same digest, within a repository or across repositories.

    Args:
        digest: A number for the digest of each tag; -1 where it is not known.
        repository: The number of each tag's repository.

    Example:
        >>> alike(np.array([0, 1, 0, -1]), np.array([0, 0, 1, 1])).tags.tolist()
        [0, 2]
    """
    carried = np.bincount(digest[digest >= 0])
    several = np.flatnonzero((digest >= 0) & (np.append(carried, 0)[digest] > 1))
    several = several[np.argsort(digest[several], kind="stable")]
    places = Edges(digest[several], repository[several], len(carried))
    start = np.flatnonzero(np.diff(digest[several], prepend=-1))
    which = digest[several[start]]
    return Alike(several, start, carried[which], places.counts[which])


class Common(NamedTuple):
    """Layers, and who uses them.

    Attributes:
        blobs: Their numbers.
        saved: Bytes that sharing each saves, against a copy for each manifest of each repository.
        users: How many repositories use each.
        repositories: The numbers of the first one's, then those of the second one's, and so on.
    """

    blobs: Ints
    saved: Ints
    users: Ints
    repositories: Ints


def common(graph: Graph, sizes: Ints, layers: Mask, *, largest: int = 0) -> Common:
    """Return the layers that stand in several manifests or repositories, or the largest ones, and who uses them.

    Args:
        graph: Who needs what.
        sizes: Bytes of each blob, wherever it is stored.
        layers: Whether each blob is a layer.
        largest: How many of the largest ones; 0 for those that are shared.
    """
    at, blob = graph.own.of(graph.manifest)
    uses = np.bincount(blob, minlength=len(sizes))
    shared = layers & (uses > (0 if largest else 1))
    chosen = np.flatnonzero(shared)
    if largest:
        chosen = chosen[np.argsort(-sizes[chosen], kind="stable")][:largest]
        shared[:] = False
        shared[chosen] = True
    within = shared[blob]
    used = Edges(blob[within], graph.repository[at[within]], len(sizes))
    return Common(chosen, sizes[chosen] * (uses[chosen] - 1), used.counts[chosen], used.of(chosen)[1])


def shared(graph: Graph, gone: Mask) -> pd.DataFrame:
    """Return what stays of the blobs of rows that are gone, and for whom.

    Args:
        graph: Who needs what.
        gone: For each row whether that repository loses that manifest.

    Returns:
        Columns: repository (name), blob (number), size (bytes); each pair once.
    """
    import pandas as pd  # what is printed needs none

    gone = np.asarray(gone)
    lost = np.zeros(len(graph.digests), dtype=bool)
    lost[graph.own.of(np.unique(graph.manifest[gone]))[1]] = True
    rows = np.flatnonzero(~gone)
    at, blob = graph.own.of(graph.manifest[rows])
    both = lost[blob]
    pairs = Edges(graph.repository[rows[at[both]]], blob[both], len(graph.repositories))
    names = np.array(graph.repositories, dtype=object).repeat(pairs.counts)
    return pd.DataFrame({"repository": names, "blob": pairs.target, "size": graph.sizes[pairs.target]})


def sums(values: Ints, groups: Ints, count: int) -> NDArray[np.int64]:
    """Return the sum of each group. In two halves where need be, as a sum of doubles is exact up to 2**53 only.

    Example:
        >>> sums(np.array([5, 6, 7]), np.array([0, 1, 0]), 3).tolist()
        [12, 6, 0]
    """
    if float(values.sum(dtype=np.float64)) < 2**52:
        return np.bincount(groups, values, minlength=count).astype(np.int64)
    high, low = np.divmod(values, 2**26)
    found = [np.bincount(groups, part, minlength=count).astype(np.int64) for part in (high, low)]
    return found[0] * 2**26 + found[1]

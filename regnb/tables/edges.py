"""What leads to what: pairs of integers, sorted once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.integer[Any]]
    Mask = NDArray[np.bool_]


class Edges:
    """What each of some nodes leads to, every pair once: ``target[start[n]:start[n + 1]]`` is where node n leads.

    Args:
        source: A node of each pair, from 0 to ``nodes - 1``.
        target: What it leads to.
        nodes: How many nodes there are.

    Example:
        >>> Edges(np.array([0, 2, 0]), np.array([7, 8, 7]), 3).of(np.array([0, 2]))[1].tolist()
        [7, 8]
    """

    def __init__(self, source: Ints, target: Ints, nodes: int) -> None:
        # A pair as one number, sorted: many times faster than sorting rows.
        width = int(target.max(initial=0)) + 1
        pairs = source.astype(np.int64)
        pairs *= width
        pairs += target
        if not (pairs[1:] >= pairs[:-1]).all():
            pairs.sort()
        if not (fresh := first(pairs)).all():
            pairs = pairs[fresh]
        self.start = np.searchsorted(pairs, np.arange(nodes + 1, dtype=np.int64) * width)
        pairs %= width  # in place: there may be a hundred million of them
        self.target = pairs.astype(np.int32)

    @cached_property
    def counts(self) -> Ints:
        """How many targets each node has."""
        return np.diff(self.start)

    def of(self, nodes: Ints) -> tuple[Ints, Ints]:
        """Return the pairs of some nodes: the position in ``nodes``, and the target."""
        return np.repeat(np.arange(len(nodes), dtype=np.int32), self.counts[nodes]), self.target[self.places(nodes)]

    def places(self, nodes: Ints) -> Ints:
        """Return where the targets of some nodes stand, one after the other."""
        start = self.start[nodes]
        counts = self.start[nodes + 1] - start
        narrow = np.int32 if len(self.target) < 2**31 else np.int64
        places = np.repeat((start - np.cumsum(counts) + counts).astype(narrow), counts)
        places += np.arange(len(places), dtype=narrow)
        return places

    def behind(self, nodes: Mask) -> Ints:
        """Return the targets of some nodes, one after the other."""
        return self.target.compress(np.repeat(nodes, self.counts))


def first(values: Ints) -> Mask:
    """Say of each of some sorted values whether it is another than the one before."""
    first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return first

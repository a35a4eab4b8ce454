"""Chains of layers from the base up: which image begins another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regnb.tables.edges import first

if TYPE_CHECKING:
    from regnb.tables.edges import Ints, Mask


def begun(owner: Ints, position: Ints, layer: Ints, blobs: int) -> Mask:
    """Say of each blob whether it is a manifest whose layers begin those of another one.

    Args:
        owner: The manifest of each layer, as a blob's number.
        position: The layer's place above the base.
        layer: The layer, as a blob's number.
        blobs: How many blobs there are.

    Example:
        >>> begun(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([2, 2, 3]), 4).tolist()
        [True, False, False, False]
    """
    based = np.zeros(blobs, dtype=bool)
    if not len(owner):
        return based
    if not _in_order(owner, position):
        places = np.lexsort((position, owner))
        owner, layer = owner[places], layer[places]
        del places
    start = np.flatnonzero(first(owner)).astype(np.int32 if len(owner) < 2**31 else np.int64)
    counts = np.diff(np.append(start, len(owner)))
    # A number for each chain of layers from the base up: a sum that depends on what stands where. There are as many as
    # references to layers, so each step works in place.
    draw = np.random.default_rng(0)
    numbers = draw.integers(0, 2**63, blobs, dtype=np.uint64)
    turns = draw.integers(0, 2**62, int(counts.max()), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    chain = numbers[layer]
    place = np.arange(len(owner), dtype=start.dtype)
    place -= np.repeat(start, counts)
    chain *= turns[place]
    del place
    np.cumsum(chain, out=chain)
    chain -= np.repeat(np.append(np.uint64(0), chain[start[1:] - 1]), counts)
    ends = start + counts - 1
    whole, whose = chain[ends], owner[ends]
    # Of the chains that go on, those that may be a whole one: most differ in their last bits from all of these.
    inner = np.zeros(2 ** (8 * len(whole)).bit_length(), dtype=bool)
    last = np.uint64(len(inner) - 1)
    inner[(whole & last).view(np.int64)] = True
    inner = inner[(chain & last).view(np.int64)]
    inner[ends] = False
    known = chain[inner]
    del chain, inner
    known.sort()
    places = np.argsort(whole)
    whole, whose = whole[places], whose[places]
    found = np.append(known, 0)[np.searchsorted(known, whole)] == whole
    based[whose[found]] = len(known) > 0
    return based


def _in_order(owner: Ints, position: Ints) -> bool:
    """Whether what belongs to one owner stands together, by position: then nothing has to be sorted."""
    begins = first(owner)
    runs = np.bincount(owner[begins])
    return bool(runs.max() == 1) and bool((begins[1:] | (position[1:] > position[:-1])).all())

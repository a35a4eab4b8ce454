"""Chains of layers: which image begins another one."""

import numpy as np
from images import image, layer
from stored import Stored

from regnb.tables.chains import begun


def test_the_order_of_the_rows_does_not_matter() -> None:
    """A chance order of the layers finds the same images, those of which another one has all layers and more."""
    chance = np.random.default_rng(3)
    stacks = [[layer(name, 10) for name in chance.integers(0, 3, 1 + number % 4).tolist()] for number in range(30)]
    graph = Stored(*(("a", f"v{number}", image(some)) for number, some in enumerate(stacks))).inventory().graph
    owner, position, blob = graph.layers
    found = begun(owner, position, blob, len(graph.digests))
    for _ in range(3):
        places = chance.permutation(len(owner))
        assert (begun(owner[places], position[places], blob[places], len(graph.digests)) == found).all()
    assert (found[graph.manifest] == graph.bases).all()
    whole = {tuple(one) for one in stacks}
    expected = {one for one in whole if any(len(one) < len(more) and more[: len(one)] == one for more in whole)}
    assert graph.bases.sum() == len(expected) > 0

"""The graph of an inventory, against sums that are made the plain way."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Image, image, index, layer
from stored import Stored

from regnb.analysis.inventory import Inventory
from regnb.tables.graph import Graph
from regnb.tables.sharing import shared

LAYERS = [layer(number, 50 + number) for number in range(6)]


def some(chance: random.Random) -> list[tuple[str, str, Image]]:
    """A few repositories with images of a few layers, and indexes of these."""
    images = [image(chance.sample(LAYERS, chance.randint(1, 4)), annotations={"n": str(n)}) for n in range(5)]
    indexes = [index([(one, "") for one in chance.sample(images, 2)], annotations={"n": str(n)}) for n in range(2)]
    indexes.append(index([(chance.choice(indexes), ""), (chance.choice(images), "")]))
    return [
        (name, f"{name}{number}", one)
        for name in "abc"
        for number, one in enumerate(chance.sample([*images, *indexes], chance.randint(1, 4)))
    ]


def links(inventory: Inventory) -> list[tuple[str, str]]:
    return list(zip(inventory.manifests["repository"], inventory.manifests["digest"], strict=True))


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_what_is_freed_and_what_is_shared(chance: random.Random) -> None:
    """Whichever links go: freed is what no link needs that is left, shared what each repository still needs of it."""
    stored = Stored(*some(chance))
    inventory = stored.inventory()
    graph = inventory.graph
    rows = links(inventory)
    gone = np.array([chance.random() < 0.5 for _ in rows])

    def blobs(*wanted: int) -> set[bytes]:
        found = (stored.held[rows[at][0]][rows[at][1]] for at in wanted)
        return {data for one in found for data in (one.data, *one.blobs, *(child.data for child in one.children))}

    lost = blobs(*np.flatnonzero(gone))
    kept = blobs(*np.flatnonzero(~gone))
    assert graph.sizes[graph.freed(gone)].sum() == sum(map(len, lost - kept))
    assert len(graph.freed(gone)) == len(lost - kept)
    stays = shared(graph, gone).groupby("repository")["size"].sum()
    by_hand = {}
    for name in sorted({name for name, _ in rows}):
        own = blobs(*(at for at in np.flatnonzero(~gone) if rows[at][0] == name))
        if own & lost:
            by_hand[name] = sum(map(len, own & lost))
    assert stays.to_dict() == by_hand


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_frames_give_the_graph_of_the_records(chance: random.Random) -> None:
    """What is behind each manifest, children of children included, has the size that the frames name."""
    inventory = Stored(*some(chance)).inventory()
    graph = inventory.graph
    assert graph.total(graph.behind).tolist() == inventory.manifests["size"].to_list()
    again = Graph.of_frames(*(inventory.frames[name] for name in ("tags", "manifests", "layers", "children", "blobs")))
    held = dict(zip(again.repositories, again.total(again.held).tolist(), strict=True))
    assert held == dict(zip(inventory.repositories["repository"], inventory.repositories["size"], strict=True))


def test_a_foreign_layer_takes_up_nothing() -> None:
    """A layer that is stored elsewhere is not a byte that could be freed here."""
    pushed = image([LAYERS[0]], layer_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    inventory = Stored(("a", "1", pushed)).inventory()
    assert "foreign layer" in set(inventory.blobs["kind"])
    graph = inventory.graph
    assert graph.sizes[graph.freed(np.array([True]))].sum() == len(pushed.data) + len(pushed.blobs[0])


@pytest.mark.parametrize("pushed", [[], [("a", "", image([LAYERS[0]]))]])
def test_nothing_has_a_graph_too(pushed: list[tuple[str, str, Image]]) -> None:
    """An inventory without a single manifest frees nothing, and computing that is not an error."""
    graph = Stored(*pushed).inventory().graph
    assert isinstance(graph, Graph)
    assert not len(graph.freed(np.zeros(0, dtype=bool)))
    assert shared(graph, np.zeros(0, dtype=bool)).empty
    assert not len(graph.reach.target)

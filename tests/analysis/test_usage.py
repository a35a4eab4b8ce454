"""Who uses which bytes: every sum adds up to the total, to the byte."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from images import image, index, layer
from stored import Stored

from regnb.analysis.inventory import Inventory

LAYERS = [layer(number, 101 * (number + 1)) for number in range(7)]


def some(chance: random.Random) -> Inventory:
    """Repositories of two namespaces and of none, with images that share layers, and an index."""
    images = [image(chance.sample(LAYERS, chance.randint(1, 4)), annotations={"n": str(n)}) for n in range(6)]
    both = index([(one, "") for one in images[:2]])
    names = ("apps/web", "apps/api", "vm/centos8", "busybox")
    pushed = [(name, f"t{n}", chance.choice([*images, both])) for name in names for n in range(chance.randint(1, 4))]
    return Stored(*pushed).inventory()


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_shares_add_up(chance: random.Random) -> None:
    """By tag, repository, namespace and what is shared: the parts are the whole, and never below what is alone."""
    inventory = some(chance)
    total = inventory.summary.stored
    assert total == inventory.blobs["size"].sum()
    for frame in (inventory.tags, inventory.repositories, inventory.namespaces):
        assert frame["share"].sum() == total
        assert (frame["exclusive"] <= frame["share"]).all()
        assert (frame["share"] <= frame["size"]).all()
    assert inventory.usage["size"].sum() == total
    assert set(inventory.usage["kind"]) <= {"exclusive", "tags", "repositories"}
    assert inventory.repositories["pull_size"].sum() == inventory.tags["size"].sum() == inventory.summary.pulled
    assert inventory.blobs["pull_size"].sum() == inventory.summary.pulled
    assert inventory.blobs["exclusive"].sum() == inventory.tags["exclusive"].sum()


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_exclusive_bytes_would_go_if_a_repository_alone_went(chance: random.Random) -> None:
    """What a repository, or a tag, has for itself is what the deletion of just its tags gives back."""
    inventory = some(chance)
    for name, exclusive in zip(inventory.repositories["repository"], inventory.repositories["exclusive"], strict=True):
        assert inventory.reclaim(f"{name}:*").size == exclusive
    for name, exclusive in zip(inventory.namespaces["namespace"], inventory.namespaces["exclusive"], strict=True):
        assert inventory.reclaim(inventory.tags["repository"].str.split("/").str[0] == name).size == exclusive
    for row in inventory.tags.itertuples():
        assert inventory.reclaim(f"{row.repository}:{row.tag}").size == row.exclusive


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_pairs_of_repositories_share_what_both_need(chance: random.Random) -> None:
    """Each pair of repositories is named once, with the bytes of the blobs that stand in both."""
    inventory = some(chance)
    graph = inventory.graph
    held = {name: set(graph.held.of(np.array([at]))[1].tolist()) for at, name in enumerate(graph.repositories)}
    by_hand = {
        (one, other): int(graph.sizes[list(both)].sum())
        for one in held
        for other in held
        if one < other and (both := held[one] & held[other])
    }
    found = inventory.between
    assert dict(zip(zip(found["repository"], found["other"], strict=True), found["size"], strict=True)) == by_hand
    assert found["size"].is_monotonic_decreasing


def test_the_breakdown_of_what_only_the_api_shows() -> None:
    """Over HTTP it goes from what is pulled to what tags lead to: the disk is not known, and not guessed."""
    one, two = image(LAYERS[:2]), image(LAYERS[1:3])
    inventory = Stored(("a", "1", one), ("a", "2", two)).inventory()
    found = inventory.breakdown
    assert found["what"].to_list() == ["pulled", "sharing", "tags"]
    assert found["size"].iloc[:2].sum() == found["size"].iloc[2] == inventory.summary.stored


def test_the_largest_layers_are_named_with_their_users() -> None:
    """A layer that one image alone has is there, too: largest first, with the repositories that use it."""
    inventory = Stored(("a", "1", image(LAYERS[:3])), ("b", "1", image([LAYERS[6], LAYERS[2]]))).inventory()
    found = inventory.largest
    assert found["size"].to_list() == [len(LAYERS[at]) for at in (6, 2, 1, 0)]
    assert found["used_by"].to_list() == ["b", "a, b", "a", "a"]
    assert found["saved"].to_list() == [0, len(LAYERS[2]), 0, 0]
    assert set(inventory.sharing.layers["digest"]) == set(found["digest"][found["saved"] > 0])


def test_nothing_is_used_by_nobody() -> None:
    """An empty registry has empty frames with their columns."""
    inventory = Stored().inventory()
    assert inventory.namespaces.empty
    assert inventory.usage.empty
    assert inventory.between.empty
    assert inventory.largest.empty
    assert inventory.breakdown["size"].to_list() == [0, 0, 0]

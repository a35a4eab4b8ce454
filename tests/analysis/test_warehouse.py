"""What is asked of a snapshot whose names stay in its files is answered as the inventory answers it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from collected import Grown

import regnb
from regnb.analysis.inventory import Inventory
from regnb.analysis.proposal import ORDERS
from regnb.errors import InvalidArgument, StorageError


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_in_memory(distribution_program: None, tmp_path: Path, seed: int) -> None:
    """Random tags of registries that grew at random: with indexes, referrers and damage, over HTTP and as a storage."""
    chance = random.Random(seed)  # noqa: S311 -- not secret, but the same each time
    with Grown(tmp_path / "grown", ("warehouse", seed)) as grown, regnb.connect(grown.url) as registry:
        grown.grow(40)
        inventories = [registry.inventory(), regnb.open_storage(grown.root).inventory()]
    compared = 0
    for number, inventory in enumerate(inventories):
        where = tmp_path / str(number)
        inventory.save(where)
        for part in (0.0, 0.4, 1.0):
            mask = inventory.tags["repository"].map(lambda _, part=part: chance.random() < part).astype(bool)
            some = inventory.tags[mask]
            chosen = [f"{name}:{tag}" for name, tag in zip(some["repository"], some["tag"], strict=True)]
            condition = "list_contains($chosen::VARCHAR[], repository || ':' || tag)"
            if not inventory.complete:
                with pytest.raises(StorageError, match="no snapshot is complete"):
                    regnb.reclaim(condition, where, parameters={"chosen": chosen}, memory="200MB")
                continue
            found = regnb.reclaim(condition, where, parameters={"chosen": chosen}, memory="200MB")
            expected = inventory.reclaim(mask)
            assert found["tags"].tolist() == [expected.deleted]
            assert found["manifests"].tolist() == [expected.removed]
            if "fails" not in expected.table["bound"].tolist()[:2]:
                assert found["size"].tolist() == [expected.size]
                compared += part > 0
        if inventory.complete:
            answers_are_equal(inventory, where)
    assert compared


def answers_are_equal(inventory: Inventory, where: Path) -> None:
    """Whose bytes are whose, what repositories share, and every proposal, row by row."""
    figures = ["size", "exclusive", "share"]
    whole = {"repository": ("repository", inventory.repositories)}
    for by, (column, frame) in {**whole, "split_part(repository, '/', 1)": ("namespace", inventory.namespaces)}.items():
        found = regnb.exclusive(where, by=by, memory="200MB")
        assert found[["owner", *figures]].to_numpy().tolist() == frame[[column, *figures]].to_numpy().tolist()
    about = ["registry", "snapshot"]
    assert regnb.usage(where).drop(columns=about).equals(inventory.usage)
    assert regnb.between(where, memory="200MB").drop(columns=about).equals(inventory.between)
    stays = inventory.tags["tag"].str.contains("1")
    for order, part, keep in zip(ORDERS, (0.1, 0.5, 2.0, 0.3), (1, 2, 0, 1), strict=True):
        size = part * inventory.summary.stored
        found = regnb.free(size, where, protect="tag LIKE '%1%'", keep=keep, order=order, memory="200MB")
        assert found.drop(columns=about).equals(inventory.free(size, protect=stays, keep=keep, order=order)), order
    used = regnb.free(size, where, keep=0, unused_for="1d").drop(columns=about)
    assert used.equals(inventory.free(size, keep=0, unused_for="1d"))


def test_a_condition_that_makes_no_sense_is_explained(tmp_path: Path) -> None:
    """It is SQL of the user's: the message says what is wrong with it."""
    with pytest.raises(InvalidArgument, match="no snapshots were named"):
        regnb.reclaim("created <")

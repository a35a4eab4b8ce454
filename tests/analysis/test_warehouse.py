"""A deletion's figures of a snapshot, out of memory's reach, are those of the inventory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from collected import Grown

import regnb
from regnb.errors import InvalidArgument, StorageError


@pytest.mark.parametrize("seed", range(4))
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
        for part in (0.0, 0.3, 0.7, 1.0):
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
    assert compared


def test_a_condition_that_makes_no_sense_is_explained(tmp_path: Path) -> None:
    """It is SQL of the user's: the message says what is wrong with it."""
    with pytest.raises(InvalidArgument, match="no snapshots were named"):
        regnb.reclaim("created <")

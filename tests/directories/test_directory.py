"""What a vendor's own API tells is the same inventory with fewer requests, is checked, and is never needed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
import vendors
from conftest import Seeded
from scripted import Reply, Server
from vendors import PASSWORD, USER, Harbor, Vendor

import regnb
from regnb.analysis.inventory import Inventory
from regnb.tables.columns import INVENTORY

VENDORS = [Harbor]
TOLD = ["pushed", "pulled", "pulls_since", "locked"]
"""Columns of tags that only a vendor's API fills."""


@pytest.fixture(params=VENDORS, ids=lambda kind: kind.name)
def vendor(request: pytest.FixtureRequest, seeded: Seeded) -> Iterator[tuple[Vendor, Server]]:
    """Each vendor before each registry with the demo content."""
    kind: type[Vendor] = request.param
    standing = kind(seeded.root)
    standing.page = 3
    with standing.serve(seeded.host) as server:
        yield standing, server


def read(server: Server, cache: Path | bool = False, *, plain: bool = False) -> Inventory:
    with regnb.connect(server.url, username=USER, password=PASSWORD, cache=cache, plain=plain) as registry:
        return registry.inventory(progress=False)


def rows(frame: pd.DataFrame) -> set[tuple[str, ...]]:
    return {tuple(map(str, row)) for row in frame.itertuples(index=False)}


def same(one: Inventory, other: Inventory) -> None:
    """Every frame that both can fill is the same."""
    for name in INVENTORY:
        if name == "coverage":
            continue
        first, second = (pd.DataFrame(each.frames[name]) for each in (one, other))
        if name == "tags":
            first, second = (each.drop(columns=TOLD) for each in (first, second))
        assert rows(first) ^ rows(second) == set(), name
    columns = ["what", "listed", "failed", "denied", "complete"]
    pd.testing.assert_frame_equal(pd.DataFrame(one.coverage[columns]), pd.DataFrame(other.coverage[columns]))


def test_the_inventory_is_the_same_with_it_and_without_it(vendor: tuple[Vendor, Server], tmp_path: Path) -> None:
    """Cold and warm, with pages of three entries, the vendor's API and the registry API give one inventory.

    Warm, what the vendor's API told is believed and named, a sample is asked for with HEAD, and dates come beside it.
    """
    standing, server = vendor
    standing.content.pulled["vm/centos8", "latest"] = when = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    plain = read(server, tmp_path, plain=True)
    assert not standing.asked
    same(read(server), plain)
    before = len(server.requests)
    warm = read(server, tmp_path)
    asked = server.requests[before:]
    same(warm, read(server, tmp_path, plain=True))
    heads = [each for each in asked if each.method == "HEAD" and "/manifests/" in each.path]
    tags = warm.coverage.set_index("what").loc["tags"]
    assert tags["told"] > tags["read"]
    assert len(heads) < tags["told"]
    assert tags["source"].startswith(f"{standing.name}'s API, {len(heads)} of {tags['told']} tags checked by HEAD")
    row = warm.tags.set_index(["repository", "tag"]).loc[("vm/centos8", "latest")]
    assert row["pulled"] == when
    assert row["pulls_since"] == row["pushed"] == standing.content.pushed("vm/centos8", "latest")

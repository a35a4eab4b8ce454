"""What a storage takes up on its volume, or costs in its bucket, as sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from regnb.crawl.files import local_path
from regnb.crawl.records import Usage
from regnb.oci.disk import BASE
from regnb.text import count, human

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory

_GB = 10**9
_THOUSAND = 1000
_UNIT = 512
"""Bytes of a block as ``stat`` counts them."""
_BLOCK = 4096
"""Bytes that a small file, and a folder, take up on most file systems."""


class Volume(NamedTuple):
    """The volume that a local storage is on.

    Attributes:
        size: Its bytes.
        free: Bytes that are left.
        inodes: Files and folders that it can hold; 0 where it has no such limit.
        inodes_free: How many more it can hold.
    """

    size: int
    free: int
    inodes: int
    inodes_free: int


def volume(url: str) -> Volume | None:
    """Return the volume of a local storage; None for another, or where it cannot be asked.

    Example:
        >>> volume("s3://bucket") is None
        True
    """
    path = local_path(url)
    if not path or not hasattr(os, "statvfs"):
        return None
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    block = found.f_frsize or found.f_bsize
    return Volume(found.f_blocks * block, found.f_bavail * block, found.f_files, found.f_favail)


class Prices(NamedTuple):
    """What a bucket's owner pays, in any currency.

    Attributes:
        gb_month: For 1 GB (10^9 bytes) stored for a month.
        lists: For 1,000 LIST requests.
        gets: For 1,000 GET requests.
    """

    gb_month: float | None = None
    lists: float | None = None
    gets: float | None = None


def facts(inventory: Inventory, prices: Prices | None = None) -> Iterator[str]:
    """Yield what the files of a storage take up, what is left beside them, and what they cost.

    Args:
        inventory: Of a storage, not in brief.
        prices: Of the bucket that it is in.

    Example:
        >>> len(list(facts(open_storage("/var/lib/registry").inventory()))) > 2
        True
    """
    columns = (inventory.disk[name].to_list() for name in ("what", "files", "size"))
    each = inventory.disk["used"].fillna(0).to_list()
    rows = {what: Usage(*some) for what, *some in zip(*columns, each, strict=True)}
    kept = [rows[name] for name in ("blobs", "links", "uploads", "other")]
    size, used, files = (sum(getattr(one, name) for one in kept) for name in ("size", "used", "files"))
    if used:
        folders = rows["folders"]
        inodes = f"{count(files, 'file')} and {count(folders.files, 'folder')}"
        blocks = human(used + folders.used)
        yield f"{human(size)} in files take up {blocks} of disk blocks, in {inodes} (as du counts {BASE})"
    if beside := _beside(inventory.registry):
        yield f"Beside {BASE}, files take up another {human(beside)} of disk blocks, which are in no other figure"
    if left := volume(inventory.registry):
        inodes = f", and {left.inodes_free:,} of {left.inodes:,} inodes" if left.inodes else ""
        yield f"The volume has {human(left.free)} of {human(left.size)} left{inodes}"
    stale = int(inventory.repositories["stale_links"].sum())
    if stale:
        links = int(inventory.repositories["layer_links"].sum())
        cost = (
            f"at least {count(2 * stale, 'inode')} and about {human(2 * stale * _BLOCK)}" if used else "one object each"
        )
        yield (
            f"{stale:,} of {count(links, 'layer link')} are needed by no manifest: {cost}. Version 2.8 never removes "
            "them; version 3 removes them with their blobs"
        )
    yield from _costs(size, rows, prices or Prices())


def _beside(url: str) -> int:
    """Return the bytes of the blocks of the files that lie in a local storage's root, and are not the registry's."""
    root = local_path(url) or ""
    used = 0
    if (Path(root) / BASE).is_dir() and root:
        for folder, inside, names in os.walk(root):
            inside[:] = [name for name in inside if Path(folder, name) != Path(root, BASE)]
            for name in names:
                with suppress(OSError):
                    used += getattr(Path(folder, name).lstat(), "st_blocks", 0) * _UNIT
    return used


def _costs(size: int, rows: Mapping[str, Usage], prices: Prices) -> Iterator[str]:
    """Yield what a bucket costs."""
    lists, gets = (rows.get(f"{kind} requests", Usage()).files for kind in ("LIST", "GET"))
    if lists:
        sent = f"this reading sent {lists:,} LIST and {gets:,} GET requests"
        yield f"{size / _GB:,.3f} GB-months for each month; {sent}"
    if prices.gb_month is not None:
        yield f"Storage: {size / _GB * prices.gb_month:,.2f} for each month, at {prices.gb_month:g} for 1 GB and month"
    for kind, number, price in (("LIST", lists, prices.lists), ("GET", gets, prices.gets)):
        if price is not None:
            yield f"{kind} requests of this reading: {number / _THOUSAND * price:,.4f}, at {price:g} for 1,000"

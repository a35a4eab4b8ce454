"""Which images of an inventory are in use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from regnb.cluster.running import Used

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory


def lists(frame: pd.DataFrame, *columns: str) -> Iterator[list[str]]:
    """Return columns as lists of texts, "" where one is missing.

    Example:
        >>> [*lists(pd.DataFrame({"tag": ["8", None]}), "tag")]
        [['8', '']]
    """
    for column in columns:
        values = frame[column]
        yield (values.fillna("") if values.hasnans else values).to_list()


def grouped(inventory: Inventory, one: str, other: str) -> dict[str, tuple[str, ...]]:
    """Return from ``inventory.children`` each text of one column with those beside it, each once.

    Example:
        >>> children = grouped(inventory, "manifest", "child")
    """
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for key, value in zip(*lists(inventory.children, one, other), strict=True):
        found[key][value] = None
    return {key: tuple(values) for key, values in found.items()}


class Running:
    """What a cluster runs, of what an inventory holds.

    A digest counts wherever it is, for a node may name another repository than the one that it was pulled from. With
    an image run the indexes that list it, and with an index its children.

    Example:
        >>> from regnb.cluster.running import running
        >>> Running(inventory, running("pods.json")).where("vm/centos8", "8.4")
        'web/shop'
    """

    def __init__(self, inventory: Inventory, used: Sequence[Used]) -> None:
        self._tags = {(one.repository, one.tag): one.where for one in used if one.tag}
        self._digests: dict[str, str] = {}
        if not used:
            return
        seeds = {one.digest: one.where for one in used if one.digest}
        manifests = inventory.manifests[inventory.manifests["config"].isin(seeds)]
        seeds |= {digest: seeds[config] for digest, config in zip(*lists(manifests, "digest", "config"), strict=True)}
        tags = inventory.tags[inventory.tags["repository"].isin({one.repository for one in used})]
        for name, tag, digest in zip(*lists(tags, "repository", "tag", "digest"), strict=True):
            if digest and (where := self._tags.get((name, tag))):
                seeds.setdefault(digest, where)
        for ends in (("manifest", "child"), ("child", "manifest")):
            edges = grouped(inventory, *ends)
            todo = list(seeds.items())
            visited: dict[str, str] = {}
            while todo:
                digest, where = todo.pop()
                if digest not in visited:
                    visited[digest] = where
                    todo += [(other, where) for other in edges.get(digest, ())]
            self._digests |= visited

    def where(self, repository: str, tag: str = "", digest: str = "") -> str:
        """Return ``namespace/pod`` that runs this tag or this digest, or ""."""
        return self._tags.get((repository, tag)) or self._digests.get(digest, "")

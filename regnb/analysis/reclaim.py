"""What a deletion gives back: which blobs a garbage collection removes, in bytes, and what stays for which images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from regnb.analysis.collectors import COLLECTIONS, PLAIN, Bound
from regnb.analysis.marking import Marking
from regnb.crawl.records import Problem
from regnb.crawl.selection import What, check_seen, pick, selectors
from regnb.errors import InvalidArgument, NotFound
from regnb.oci.reference import Digest
from regnb.tables.frame import Frame, joined, make, of_rows
from regnb.text import count, escaped, human

if TYPE_CHECKING:
    from regnb.tables.edges import Mask
    from regnb.tables.graph import Graph

Tags: TypeAlias = "What | pd.Series[bool] | Mask | None"
"""Rows of ``inventory.tags``, a boolean for each of its rows, or references and globs such as ``vm/centos8:8.*``."""


class Reclaim:
    """What garbage collections remove once some tags are deleted.

    Attributes:
        table: One row for each way to collect garbage (:data:`regnb.tables.columns.COLUMNS`, ``reclaim``).
        deleted: How many tags go, with those that refer to what goes.
        removed: How many manifests the deletion itself takes out of their repositories.

    Example:
        >>> inventory.reclaim("vm/centos8:8.3").table[["collection", "bound", "size"]].head(1)
                collection    bound    size
        0  garbage-collect  at most  2.0 kB
    """

    def __init__(  # noqa: PLR0917 -- what it is computed from
        self,
        graph: Graph,
        problems: Sequence[Problem],
        frames: tuple[Frame, Frame],
        url: str,
        gone: Mask,
        going: Mask,
        meant: Sequence[Bound],
    ) -> None:
        blobs, tags = frames
        self._graph, self._gone = graph, gone
        self._kinds, self._names, self._left = blobs["kind"], tags["tag"], ~going
        self.deleted, self.removed = int(going.sum()), int(gone.sum())
        lost = graph.tags[going & (graph.tags >= 0)]
        self._tagged = graph.tagged - np.bincount(lost, minlength=len(graph.tagged))
        self._asked = np.unique(lost)
        marking = Marking(graph, problems, blobs, (tags, self._left), url)
        verdicts = marking.verdicts(meant, before=graph.tagged > 0, tagged=self._tagged > 0, gone=gone)
        self._goes = {one.collection.column: one.goes for one in verdicts}
        self._before = {one.collection.column: one.before for one in verdicts}
        self.table = of_rows(
            "reclaim",
            (
                (
                    one.collection.command,
                    one.collection.version,
                    graph.bytes(one.goes),
                    graph.bytes(one.before),
                    int(one.goes.sum()),
                    one.manifests,
                    one.bound,
                    one.message,
                )
                for one in verdicts
            ),
        )
        # What is said of "a plain collection" is that of version 2.8, unless only version 3 can collect.
        works = [one.collection.column for one in verdicts if one.bound != "fails"]
        self._plain = "plain" if "plain" in works and "plain_2" not in works else "plain_2"

    @property
    def size(self) -> int:
        """Bytes that a plain garbage collection removes because of the deletion: not what it would remove anyway."""
        return self._graph.bytes(self._free)

    @property
    def _free(self) -> Mask:
        """The blobs that a plain collection removes because of the deletion."""
        return self._goes[self._plain] & ~self._before[self._plain]

    @cached_property
    def blobs(self) -> Frame:
        """The blobs that one of the collections removes, largest first (``reclaim_blobs``)."""
        graph = self._graph
        found = np.flatnonzero(np.logical_or.reduce(list(self._goes.values())))
        found = found[np.argsort(-graph.sizes[found], kind="stable")]
        return make(
            "reclaim_blobs",
            {
                "digest": graph.digests.take(found),
                "kind": self._kinds.iloc[found],
                "size": graph.sizes[found],
                **{name: mask[found] for name, mask in self._goes.items()},
                "before": self._before[self._plain][found],
            },
        )

    @cached_property
    def stays(self) -> Frame:
        """The blobs of what is deleted that a plain collection leaves, and for whom (``reclaim_stays``)."""
        graph = self._graph
        lost = np.zeros(len(graph.digests), dtype=bool)
        lost[graph.behind.of(self._asked)[1]] = True
        lost &= ~self._goes[self._plain] & ~graph.absent
        kept = (self._tagged > 0) & ~self._gone
        holders = np.flatnonzero(kept | ~(graph.reached(kept, self._gone) | self._gone))
        at, blob = graph.behind.of(holders)
        pairs = pd.DataFrame({"row": holders[at], "blob": blob})[lost[blob]]
        rows = pairs["row"].unique()
        names = self._names[self._left & np.isin(graph.tags, rows)]
        untagged = rows[~kept[rows]]
        digests = [Digest(digest).short for digest in graph.digests.take(graph.manifest[untagged])]
        known = pd.concat(
            [
                pd.DataFrame({"row": graph.tags[names.index], "name": names}),
                pd.DataFrame({"row": untagged, "name": pd.Series(digests, dtype="str")}),
            ]
        )
        pairs = pairs.merge(known, on="row")
        pairs["repository"] = np.array(graph.repositories, dtype=object)[graph.repository[pairs["row"]]]
        pairs["size"] = graph.sizes[pairs["blob"]]
        pairs = pairs.sort_values(["size", "blob", "repository", "name"], ascending=[False, True, True, True])
        groups = pairs.groupby(["blob", "repository"], sort=False).size()
        first = pairs.drop_duplicates(["blob", "repository"])
        return make(
            "reclaim_stays",
            {
                "digest": graph.digests.take(first["blob"].to_numpy()),
                "kind": self._kinds.iloc[first["blob"]],
                **{name: first[name] for name in ("size", "repository")},
                "because": joined(pairs["name"].to_list(), groups.to_list(), 5),
            },
        )

    @property
    def sentence(self) -> str:
        """What comes back, in a sentence."""
        row = self.table.iloc[[one.column for one in COLLECTIONS].index(self._plain)]
        if row["bound"] == "fails":
            return f"nothing: {PLAIN} {row['message']}"
        words = {"at most": "at most ", "at least": "at least ", "estimate": "about "}
        bound = words.get(row["bound"], "")
        more = int(row["before"])
        rest = f", and {human(more)} anyway" if more else ""
        deleted = f"the deletion of {count(self.deleted, 'tag')}"
        return f"{PLAIN} would remove {bound}{human(self.size)} because of {deleted}{rest}"

    def __repr__(self) -> str:
        return f"<Reclaim: {self.sentence}>"

    def _repr_html_(self) -> str:
        title = f"<p><b>{escaped(self.sentence)}</b></p>"
        stays = (
            f"<h4 aria-level='3'>What stays, and which images need it</h4>{self.stays._repr_html_()}"
            if len(self.stays)
            else ""
        )
        return f"{title}{self.table._repr_html_()}{stays}"


def mask_of(tags: Frame, what: Any, registry: str) -> Mask:  # noqa: ANN401 -- Tags, told apart here
    """Return which rows of ``inventory.tags`` are meant.

    Args:
        tags: The frame.
        what: A boolean for each row, or anything that names tags (:data:`regnb.crawl.selection.What`); None for none.
        registry: ``host:port``: a reference to another one is an error.

    Raises:
        InvalidArgument: Not one boolean for each row, or nothing that names tags.
        InvalidReference, NotFound: A reference that is not lawful, or a tag that is not there.
        Refused: A row of another inventory, whose tag pointed elsewhere.

    Example:
        >>> rows = {name: ["a"] for name in ("repository", "tag", "digest")}
        >>> mask_of(Frame(rows), "a:a", "localhost:5000").tolist()
        [True]
    """
    if what is None:
        return np.zeros(len(tags), dtype=bool)
    if isinstance(what, pd.Series | np.ndarray):
        # As pandas does: a condition on rows that were sorted is about these rows, wherever they stand.
        if isinstance(what, pd.Series) and len(what) == len(tags) and what.index.is_unique:
            what = what.reindex(tags.index)
        mask = np.asarray(what)
        if mask.dtype != np.bool_ or mask.shape != (len(tags),):
            raise InvalidArgument(
                f"not a mask: {mask.size:,} values, and there are {len(tags):,} tags",
                hint="give a boolean for each row of inventory.tags, as a Series or an array",
            )
        return mask
    picked = pick(selectors(what, host=registry), zip(tags["repository"], tags["tag"], strict=True))
    named = {(one.repository, one.digest or one.tag) for one in picked}
    digests = {(one.repository, one.digest) for one in picked if one.digest}
    if digests and (untagged := digests - set(zip(tags["repository"], tags["digest"], strict=True))):
        name, digest = min(untagged)
        raise NotFound(f"no tag points at {name}@{digest}", hint="name what has a tag, such as the index that lists it")
    rows = list(zip(tags["repository"], tags["tag"], tags["digest"].fillna(""), strict=True))
    if chosen := {(one.repository, one.tag): one for one in picked if one.seen}:
        for name, tag, digest in rows:
            if (name, tag) in chosen:
                check_seen(chosen[name, tag], digest)
    found = ((name, tag) in named or (name, digest) in digests for name, tag, digest in rows)
    return np.fromiter(found, bool, len(tags))

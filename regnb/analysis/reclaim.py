"""What a deletion gives back: which blobs a garbage collection removes, in bytes, and what stays because of whom."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from regnb.analysis.collection import COLLECTIONS, PLAIN, Bound
from regnb.analysis.marking import Marking
from regnb.crawl.records import Problem
from regnb.crawl.selection import What, check_seen, pick, selectors
from regnb.errors import InvalidArgument, NotFound
from regnb.oci.reference import Digest
from regnb.tables.age import STAND_INS, ages
from regnb.tables.frame import Frame, joined, make, of_rows
from regnb.tables.graph import Edges, Graph
from regnb.tables.removal import removal
from regnb.text import count, escaped, human, parse_size

if TYPE_CHECKING:
    from regnb.tables.graph import Ints, Mask

Tags: TypeAlias = "What | pd.Series[bool] | Mask | None"
"""Rows of ``inventory.tags``, a boolean for each of its rows, or references and globs such as ``vm/centos8:8.*``."""


class Reclaim:
    """What garbage collections remove once some tags are deleted.

    Attributes:
        table: One row for each way to collect garbage (:data:`regnb.tables.columns.COLUMNS`, ``reclaim``).
        deleted: How many tags go, with those that refer to what goes.
        removed: How many manifests the deletion itself takes out of their repositories.

    Example:
        >>> inventory.reclaim("vm/centos8:8.1").table  # doctest: +SKIP
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
        self._kinds, self._names = blobs["kind"], tags["tag"][~going]
        self.deleted, self.removed = int(going.sum()), int(gone.sum())
        lost = graph.tags[going & (graph.tags >= 0)]
        self._tagged = graph.tagged - np.bincount(lost, minlength=len(graph.tagged))
        self._asked = np.unique(lost)
        marking = Marking(graph, problems, blobs, tags[~going], url)
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
        names = self._names[np.isin(graph.tags[self._names.index], rows)]
        bare = rows[~kept[rows]]
        digests = [Digest(digest).short for digest in graph.digests.take(graph.manifest[bare])]
        known = pd.concat(
            [
                pd.DataFrame({"row": graph.tags[names.index], "name": names}),
                pd.DataFrame({"row": bare, "name": pd.Series(digests, dtype="str")}),
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
        rest = f"; it would remove {human(more)} anyway" if more else ""
        return f"{bound}{human(self.size)} of {count(self.deleted, 'deleted tag')}, by {PLAIN}{rest}"

    def __repr__(self) -> str:
        return f"<Reclaim: {self.sentence}>"

    def _repr_html_(self) -> str:
        title = f"<p><b>{escaped(self.sentence)}</b></p>"
        stays = f"<h4>What stays of it, and because of whom</h4>{self.stays._repr_html_()}" if len(self.stays) else ""
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
    if digests and (bare := digests - set(zip(tags["repository"], tags["digest"], strict=True))):
        name, digest = min(bare)
        raise NotFound(f"no tag points at {name}@{digest}", hint="name what has a tag, such as the index that lists it")
    rows = list(zip(tags["repository"], tags["tag"], tags["digest"].fillna(""), strict=True))
    if chosen := {(one.repository, one.tag): one for one in picked if one.seen}:
        for name, tag, digest in rows:
            if (name, tag) in chosen:
                check_seen(chosen[name, tag], digest)
    found = ((name, tag) in named or (name, digest) in digests for name, tag, digest in rows)
    return np.fromiter(found, bool, len(tags))


def free(  # noqa: PLR0917 -- what it is computed from
    tags: Frame, graph: Graph, goal: float | str, protected: Mask, keep: int, seen: Mask | None
) -> Frame:
    """Return the tags to delete so that a plain garbage collection frees some bytes, and nothing in vain.

    The oldest go first, of one day's those that share least. All tags of a manifest go together, or none.

    Args:
        tags: Of the inventory.
        graph: Of the inventory.
        goal: Bytes, or a text such as ``50GB``.
        protected: Which tags must stay.
        keep: How many of each repository's newest tags stay as well.
        seen: The rows that the deletion will know of, by default all.

    Returns:
        Columns: as ``free`` in :data:`regnb.tables.columns.COLUMNS`. If the last ``total`` is below the goal, no
        more is safe.
    """
    goal = parse_size(goal)
    if keep < 0:
        raise InvalidArgument(f"cannot keep {keep} tags", hint="keep=0 keeps none but those that are protected")
    known = ages(tags)
    created = known["age"].to_numpy(dtype="datetime64[us]")
    # Of equal age all stay, or none.
    place = known["age"].groupby(tags["repository"]).rank(method="min", ascending=False)
    newest = tags.index[place <= keep]
    stays = protected | np.isnat(created) | ~tags["complete"].to_numpy() | tags["subject"].notna().to_numpy()
    stays[tags.index.get_indexer(newest)] = True
    roots = graph.tagged > 0
    held = np.bincount(graph.behind.of(np.flatnonzero(roots | graph.bare))[1], minlength=len(graph.digests))
    candidate = roots & (graph.above == 0)
    candidate[graph.tags[stays & (graph.tags >= 0)]] = False
    named = protected.copy()
    named[tags.index.get_indexer(newest)] = True
    if (about := _spoken_of(graph, named)).any():
        at, row = graph.reach.of(np.arange(len(candidate)))
        candidate[at[about[row]]] = False
    order = pd.DataFrame({"row": graph.tags, "created": created, "size": tags["size"].to_numpy()})
    order = order[(graph.tags >= 0) & candidate[graph.tags]].drop_duplicates("row")
    lone = graph.total(graph.behind, np.where(held == 1, graph.sizes, 0))[order["row"]]
    order["shared"] = 1 - lone / np.maximum(order["size"], 1)
    order["day"] = order["created"].dt.floor("D")
    order = order.sort_values(["day", "shared", "created", "row"], ignore_index=True)
    rows = order["row"].to_numpy()

    def freed(some: Ints) -> Mask:
        """Say of each blob whether it goes with these rows, and with what the deletion takes along."""
        chosen = np.zeros(len(graph.manifest) + 1, dtype=bool)
        chosen[some] = True
        gone = removal(graph, chosen[graph.tags], seen=seen).gone
        found = np.zeros(len(graph.digests), dtype=bool)
        found[graph.freed(gone)] = True
        return found

    # Whatever goes with some goes with more: the fewest that suffice are found by halving.
    few, many = 0, len(rows)
    while few < many:
        middle = (few + many) // 2
        few, many = (few, middle) if graph.bytes(freed(rows[:middle])) >= goal else (middle + 1, many)
    rows = rows[:many]
    # Whatever is not needed for the goal stays, the newest first.
    gone, behind = freed(rows), _taken(graph)
    spare = graph.bytes(gone) - goal
    for row in rows[_lost(graph, behind, rows, gone) <= spare][::-1].tolist():
        _, blobs = behind.of(np.array([row]))
        if (lost := graph.bytes(blobs[gone[blobs]])) <= spare:
            spare -= lost
            gone[blobs] = False
    rows = rows[_lost(graph, behind, rows, gone) > 0]
    return _proposed(tags, known, graph, behind, rows, freed(rows))


def _taken(graph: Graph) -> Edges:
    """Return each row with the blobs behind it and behind what refers to it, which a deletion takes along."""
    at = np.arange(len(graph.manifest))
    refers, signs = np.flatnonzero(graph.subject >= 0), np.flatnonzero((graph.signs >= 0) & (graph.tags >= 0))
    owner = np.concatenate([at, graph.subject[refers], graph.signs[signs]])
    inner, blob = graph.behind.of(np.concatenate([at, refers, graph.tags[signs]]))
    return Edges(owner[inner], blob, len(at)) if len(owner) > len(at) else graph.behind


def _spoken_of(graph: Graph, tags: Mask) -> Mask:
    """Return the rows that some tags refer to, and so on: what refers to a manifest is deleted with it."""
    found = np.zeros(len(graph.manifest), dtype=bool)
    look = np.concatenate([graph.signs[tags], graph.subject[graph.tags[tags & (graph.tags >= 0)]]])
    while len(look := np.unique(look[look >= 0])):
        look = look[~found[look]]
        found[look] = True
        look = np.concatenate([graph.signs[np.isin(graph.tags, look)], graph.subject[look]])
    return found


def _lost(graph: Graph, behind: Edges, rows: Ints, gone: Mask) -> Ints:
    """Return the bytes of the blobs behind each row that go."""
    return graph.total(behind, np.where(gone, graph.sizes, 0))[rows]


def _proposed(  # noqa: PLR0917 -- what it is made of
    tags: Frame, known: pd.DataFrame, graph: Graph, behind: Edges, rows: Ints, gone: Mask
) -> Frame:
    """Return the tags of some rows, in order, each with what goes with it after those before it."""
    at, blob = behind.of(rows)
    # A blob goes with the last of the rows that lead to it.
    last = np.full(len(graph.digests), len(rows) - 1)
    last[blob] = at
    went = np.flatnonzero(gone)
    freed = np.zeros(len(rows), dtype=np.int64)
    np.add.at(freed, last[went], graph.sizes[went])
    place = np.full(len(graph.manifest) + 1, -1)
    place[rows] = np.arange(len(rows))
    found = np.flatnonzero(place[graph.tags] >= 0)
    found = found[np.argsort(place[graph.tags[found]], kind="stable")]
    at = place[graph.tags[found]]
    about, when = tags.iloc[found], known.iloc[found]
    gained = np.where(np.diff(at, append=-1) != 0, freed[at], 0)
    alone = (about["exclusive"] / about["size"].clip(1)).to_list()
    return make(
        "free",
        {
            **{name: about[name] for name in ("repository", "tag", "digest")},
            "created": when["age"],
            "size": about["size"],
            "freed": gained,
            "total": np.cumsum(gained),
            "reason": [
                "; ".join(filter(None, (f"created {day:%Y-%m-%d}", STAND_INS.get(source))))
                + f"; {part:.0%} of it is needed by nothing else"
                for day, source, part in zip(when["age"], when["dated"], alone, strict=True)
            ],
        },
    )

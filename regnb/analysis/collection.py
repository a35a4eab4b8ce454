"""The garbage collections of distribution 2.8 and 3: what each marks, and what ends it.

`docs/storage.md` has the table of these rules with their sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from regnb.crawl.records import Source
from regnb.tables.graph import Edges
from regnb.text import count, names

if TYPE_CHECKING:
    from regnb.tables.graph import Graph, Ints, Mask

Marks: TypeAlias = Literal["all", "tagged", "reach"]
BoundWord: TypeAlias = Literal["exact", "at most", "at least", "estimate", "fails"]
PLAIN: Final = "garbage-collect"
UNTAGGED: Final = "garbage-collect --delete-untagged"


class Collection(NamedTuple):
    """One way to collect garbage.

    Attributes:
        column: Its column in the frame ``reclaim_blobs``.
        command: Of the registry program.
        version: Of distribution.
        marks: What it keeps: the manifests of all rows, of ``tagged`` ones, or of what these ``reach``.
        fails: Problems (``inventory.problems``) that end it before it removes anything.
        unread: Problems of manifests that end it if it reads them.
    """

    column: str
    command: str
    version: str
    marks: Marks
    fails: frozenset[str]
    unread: frozenset[str]

    @property
    def by_layers(self) -> bool:
        """Whether it takes a folder for a repository because of ``_layers``, and not because of ``_manifests``."""
        return self.version != "3"


_FATAL: Final = frozenset({"corrupt revision", "bad repository", "bad blob"})
_2: Final = _FATAL | {"bad layers"}
_3: Final = _FATAL | {"bad manifests", "no layers", "corrupt layer link"}
_UNREAD_2: Final = frozenset({"corrupt manifest"})
_UNREAD_3: Final = _UNREAD_2 | {"schema1"}
COLLECTIONS: Final = (
    Collection("plain_2", PLAIN, "2.8", "all", _2, _UNREAD_2),
    Collection("plain", PLAIN, "3", "all", _3, _UNREAD_3),
    Collection("untagged", UNTAGGED, "3", "reach", _3 | {"corrupt tag"}, _UNREAD_3),
    # It takes the children of a tagged index for untagged manifests.
    Collection("untagged_2", UNTAGGED, "2.8", "tagged", _2 | {"corrupt tag", "no tags"}, _UNREAD_2),
)


class Bound(NamedTuple):
    """How the bytes of a collection are meant (``bound`` of the frame ``reclaim``), and why."""

    word: BoundWord
    message: str


def bounds(
    source: Source, problems: pd.DataFrame, *, complete: bool, checked: bool, hollow: bool = False
) -> list[Bound]:
    """Return how the figures of each of :data:`COLLECTIONS` are meant.

    Args:
        source: ``api`` or ``storage``.
        problems: Of the inventory.
        complete: Whether everything was read.
        checked: Whether the registry was asked for every manifest, and none came from the cache.
        hollow: Whether what is deleted lists a manifest that the repository does not have.

    Example:
        >>> bounds("api", pd.DataFrame({"problem": []}), complete=True, checked=True)[0].word
        'at most'
    """
    found = []
    for collection in COLLECTIONS:
        fatal = problems[problems["problem"].isin(collection.fails)]
        if len(fatal) and collection.by_layers:
            fatal = fatal[~fatal["repository"].isin(_lacking(problems, "no layers"))]
        if len(fatal):
            found.append(_failure(fatal))
        elif not complete:
            found.append(Bound("estimate", "not everything could be read, and it may need some of this"))
        elif source == "storage":
            found.append(Bound("exact", ""))
        elif not checked:
            found.append(Bound("estimate", "manifests that came from the cache may be gone: read with cached=False"))
        elif hollow:
            found.append(Bound("estimate", "a manifest that only an index names may still be on disk, and go with it"))
        elif collection.command == PLAIN:
            found.append(Bound("at most", "manifests without a tag cannot be seen over HTTP, and may need some"))
        elif collection.version == "3":
            text = "it also removes manifests without a tag, and in odd repositories it leaves some: HTTP shows neither"
            found.append(Bound("estimate", text))
        else:
            found.append(Bound("at least", "it also removes manifests without a tag, which cannot be seen over HTTP"))
    return found


def _failure(fatal: pd.DataFrame) -> Bound:
    """Return what is said of a collection that some problems end."""
    first = fatal.iloc[0]
    where = f"{first['repository']} {first['reference']}".strip()
    more = f" (and {count(len(fatal) - 1, 'more problem')})" if len(fatal) > 1 else ""
    return Bound("fails", f"removes nothing: {where}: {first['problem']}: {first['message']}{more}")


def _lacking(problems: pd.DataFrame, sort: str) -> set[str]:
    """Return the repositories that have a problem."""
    return set(problems.loc[problems["problem"] == sort, "repository"]) if len(problems) else set()


class Marking(NamedTuple):
    """What a garbage collection meets.

    Attributes:
        graph: Of the inventory.
        unlayered: Rows of repositories without a folder for layers.
        unlabelled: Rows of repositories without a folder for tags.
        order: The place of each repository in the order in which version 3 visits them.
        twice: Place of a repository and number of a blob, of each blob that a repository links by two digests.
        unread: Problems of manifests that some collection cannot read, with the number of the manifest's blob.
    """

    graph: Graph
    unlayered: Mask
    unlabelled: Mask
    order: Ints
    twice: Sequence[tuple[int, int]]
    unread: pd.DataFrame

    @classmethod
    def of(cls, graph: Graph, problems: pd.DataFrame, blobs: pd.DataFrame, url: str) -> Marking:
        """Return what the collections meet in an inventory."""

        def rows(sort: str) -> Mask:
            some = _lacking(problems, sort)
            lacks = np.fromiter((name in some for name in graph.repositories), bool, len(graph.repositories))
            return lacks[graph.repository] if len(lacks) else np.zeros(len(graph.repository), dtype=bool)

        names = pd.Series(graph.repositories, dtype="str")
        linked = problems[problems["problem"] == "linked twice"]
        by_key = url.startswith(("s3:", "s3a:"))
        place = {name: at for at, name in enumerate(_walked({*names, *linked["repository"]}, by_key=by_key))}
        aliased = np.flatnonzero(blobs["alias"].notna())
        stored = dict(zip(blobs["alias"].iloc[aliased], aliased.tolist(), strict=True))
        pairs = zip(linked["repository"].to_list(), linked["reference"].to_list(), strict=True)
        twice = [(place[name], stored[alias]) for name, alias in pairs]
        some = problems[problems["problem"].isin(_UNREAD_3)]
        unread = some.merge(
            pd.DataFrame({"reference": blobs["digest"].array, "blob": np.arange(len(blobs))}), on="reference"
        )
        return cls(graph, rows("no layers"), rows("no tags"), names.map(place).to_numpy(np.int64), twice, unread)

    def failure(self, collection: Collection, kept: Mask) -> Bound | None:
        """Return what is said of a collection that cannot read one of the manifests that it is to keep."""
        known = self.unread[self.unread["problem"].isin(collection.unread)]
        fatal = known[known["blob"].isin(self.graph.manifest[kept])]
        return _failure(fatal) if len(fatal) else None

    def marks(self, kept: Mask, place: int, blob: int) -> bool:
        """Whether version 3 has marked a blob when it comes to the layers of the repository at a place."""
        before = self.order[self.graph.repository] <= place
        return bool(self.graph.needed(kept & before)[blob])

    def kept(self, collection: Collection, tagged: Ints, gone: Mask) -> Mask:
        """Return the rows whose manifests a collection reads, and so keeps what they need.

        Args:
            collection: Which one.
            tagged: How many tags each row has.
            gone: Rows that are not there any more.
        """
        seen = ~gone & ~self.unlayered if collection.by_layers else ~gone
        if collection.marks == "all":
            return seen
        marked = np.asarray(tagged > 0) & seen
        return marked if collection.marks == "tagged" else self._reached(marked, gone)

    def _reached(self, roots: Mask, gone: Mask) -> Mask:
        """Return the rows that version 3 reads: those of tags, and what these lead to.

        What another repository had marked before is not followed any more, even where that one did not have it.
        """
        row, blob, at = self._references
        there = (at >= 0) & ~gone[at]
        found = roots.copy()
        following = Edges(row[there], at[there], len(found))
        frontier = np.flatnonzero(found)
        while len(frontier):
            below = following.of(frontier)[1]
            frontier = np.unique(below[~found[below]])
            found[frontier] = True
        if not (found[row] & ~there).any():
            return found
        return self._visited(roots, Edges(row, np.arange(len(row)), len(found)), blob, np.where(there, at, -1))

    def _visited(self, roots: Mask, references: Edges, blob: Ints, at: Ints) -> Mask:
        """Return what :meth:`_reached` does, repository by repository."""
        graph = self.graph
        found = roots.copy()
        before: set[int] = set()
        starts = np.flatnonzero(roots)
        starts = starts[np.argsort(self.order[graph.repository[starts]], kind="stable")]
        each = np.split(starts, np.flatnonzero(np.diff(graph.repository[starts])) + 1)
        for rows in each:
            marked = set(graph.manifest[rows].tolist())
            todo = rows.tolist()
            while todo:
                _, pairs = references.of(np.array([todo.pop()]))
                for child, below in zip(blob[pairs].tolist(), at[pairs].tolist(), strict=True):
                    if child not in before and below >= 0 and not found[below]:
                        found[below] = True
                        todo.append(below)
                    marked.add(child)
            before |= marked
        return found

    @property
    def _references(self) -> tuple[Ints, Ints, Ints]:
        """Each row with the manifests that it names, as a child or as a layer, and their rows in its repository."""
        graph = self.graph
        is_manifest = np.zeros(len(graph.digests), dtype=bool)
        is_manifest[graph.manifest] = True
        at = np.flatnonzero(is_manifest)
        owner, target = graph.followed.of(at)
        named = is_manifest[target] & (target != at[owner])
        edges = Edges(at[owner[named]], target[named], len(graph.digests))
        row, blob = edges.of(graph.manifest)
        return row, blob, graph.find(graph.repository[row], blob)


def _walked(repositories: Iterable[str], *, by_key: bool) -> list[str]:
    """Return repositories as version 3 visits them: folder by folder, or in a bucket by the whole key."""
    return sorted(
        repositories, key=lambda name: (f"{name}/_manifests",) if by_key else (*name.split("/"), "_manifests")
    )


def warnings(  # noqa: PLR0917 -- what they are about
    collection: Collection, marking: Marking, kept: Mask, removed: Mask, tagged: Mask, tags: pd.DataFrame
) -> list[str]:
    """Return what to beware of: the tags that a collection breaks, why, and whether its run ends red.

    Args:
        collection: Which one.
        marking: What it meets.
        kept: The rows that it reads.
        removed: The blobs that it removes.
        tagged: The rows that have a tag.
        tags: Rows of the inventory's tags: ``repository`` and ``tag``.
    """
    graph = marking.graph
    found = []
    holders = tagged & (graph.total(graph.behind, removed.astype(np.int64)) > 0)
    rows = np.append(holders, False)[graph.tags[tags.index]]
    if rows.any():
        broken = tags[rows]
        whom = names([f"{row.repository}:{row.tag}" for row in broken.itertuples()])
        why = []
        if collection.by_layers and (holders & marking.unlayered).any():
            why.append("it does not see a repository without a folder _layers")
        if graph.followed is not graph.own and removed[np.setdiff1d(graph.own.target, graph.followed.target)].any():
            why.append("it does not know layers by sha512")
        because = f", as {' and '.join(why)}" if why else ""
        found.append(f"breaks {count(len(broken), 'tag')}: {whom}{because}")
    if not collection.by_layers and any(not marking.marks(kept, *one) for one in marking.twice):
        found.append("removes all this, and then ends with exit code 1, as a layer was pushed by sha512")
    return found

"""Two inventories side by side: what changed in one registry, and in what a mirror differs from its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from regnb.analysis import snapshot
from regnb.analysis.inventory import Inventory
from regnb.errors import InvalidArgument
from regnb.oci.reference import select
from regnb.tables import sharing
from regnb.tables.columns import COLUMNS
from regnb.tables.edges import Edges
from regnb.tables.frame import Frame, make
from regnb.tables.graph import Graph
from regnb.text import count, escaped, human, redact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.integer[Any]]
    Mask = NDArray[np.bool_]

Change: TypeAlias = Literal["new", "moved", "vanished", "broken"]
State: TypeAlias = Literal["missing", "extra", "drifted", "unread", "same"]
_CHANGES: Final[tuple[Change, ...]] = ("new", "moved", "vanished", "broken")
_STATES: Final[tuple[State, ...]] = ("missing", "extra", "drifted", "unread", "same")


@dataclass(frozen=True, repr=False)
class Diff:
    """What changed in a registry between two readings.

    Attributes:
        registry: The registry of the first.
        before, after: When each was read.
        tags: A row for each tag that is new, moved, vanished, or can no longer be pulled (``changed_tags`` in
            :data:`regnb.tables.columns.COLUMNS`).
            The bytes of a blob are divided by the changed tags that lead to it.
        repositories: A row for each repository that changed (``changed_repositories``). One without a name has the
            blobs that no manifest needs.
        gained: Bytes of the blobs that were nowhere before: the sum of ``repositories["gained"]``.
        freed: Bytes of the blobs that are nowhere any more: the sum of ``repositories["freed"]``.
        notes: What limits the comparison.
    """

    registry: str
    before: datetime
    after: datetime
    tags: Frame
    repositories: Frame
    gained: int
    freed: int
    notes: tuple[str, ...]

    @property
    def drift(self) -> bool:
        """Whether a tag moved, vanished, or can no longer be pulled."""
        return bool((self.tags["change"] != "new").any())

    def summary(self) -> str:
        """Return the whole in a sentence, and the notes."""
        numbers = self.tags["change"].value_counts()
        shown = [change for change in _CHANGES if change != "broken" or change in numbers]
        changes = ", ".join(f"{numbers.get(change, 0):,} {change}" for change in shown)
        times = f"{_minute(self.before)} to {_minute(self.after)}"
        sizes = f"{human(self.gained)} gained, {human(self.freed)} freed"
        return " ".join([f"{self.registry}, {times}: tags: {changes}; bytes: {sizes}.", *self.notes])

    def __repr__(self) -> str:
        return f"<Diff of {self.summary()}>"

    def _repr_html_(self) -> str:
        return (
            f"<p>{escaped(self.summary())}</p><h4 aria-level='3'>Repositories</h4>{self.repositories._repr_html_()}"
            f"<h4 aria-level='3'>Tags</h4>{self.tags._repr_html_()}"
        )


def _minute(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M")


class Changes(NamedTuple):
    """What became of the tags, by their rows in the first and the second ``tags``.

    Attributes:
        new: Rows of the second.
        moved, same: Rows of the first, and of the second.
        unread: Likewise; one of the two has no digest, so that it is not known whether the tag moved.
        vanished: Rows of the first.
        unknown: Rows of the first, and rows of the second, that the other one does not have and may not have seen.
    """

    new: Ints
    moved: tuple[Ints, Ints]
    vanished: Ints
    same: tuple[Ints, Ints]
    unread: tuple[Ints, Ints]
    unknown: tuple[Ints, Ints]

    @property
    def pairs(self) -> tuple[tuple[Ints, Ints], ...]:
        """Rows of the tags that both have."""
        return self.moved, self.same, self.unread


def changes(first: snapshot.Stored, second: snapshot.Stored, *, prefix: str = "") -> Changes:
    """Work out which tags changed. What was not read is not taken for vanished.

    Args:
        first: Of which the frames repositories, tags and coverage are needed.
        second: Likewise.
        prefix: Put before the first's repository names.
    """
    older, newer = first.tables["tags"], second.tables["tags"]
    place, left, right = _matched(older, newer, prefix)
    both = np.flatnonzero(place >= 0)
    there = place[both]
    alone = np.ones(len(newer), dtype=bool)
    alone[there] = False
    only_older, only_newer = np.flatnonzero(place < 0), np.flatnonzero(alone)
    in_newer = _covered(second, prefix + older["repository"].iloc[only_older])
    in_older = _covered(first, newer["repository"].iloc[only_newer], prefix)
    read = (left[both] >= 0) & (right[there] >= 0)
    equal = left[both] == right[there]
    moved, same, unread = ((both[mask], there[mask]) for mask in (read & ~equal, read & equal, ~read))
    unknown = only_older[~in_newer], only_newer[~in_older]
    return Changes(only_newer[in_older], moved, only_older[in_newer], same, unread, unknown)


def _matched(older: Frame, newer: Frame, prefix: str) -> tuple[Ints, Ints, Ints]:
    """Return the row in ``b`` of each tag of ``a``, or -1, and both tables' digests as numbers, -1 if missing."""

    def numbers(one: pd.Series[str], other: pd.Series[str]) -> Ints:
        return pd.factorize(pd.concat([one, other], ignore_index=True))[0]

    names = prefix + older["repository"] if prefix else older["repository"]
    tag = numbers(older["tag"], newer["tag"]).astype(np.int64)
    keys = numbers(names, newer["repository"]) * (int(tag.max(initial=0)) + 1) + tag
    digests = numbers(older["digest"], newer["digest"])
    place = pd.Index(keys[len(older) :]).get_indexer(pd.Index(keys[: len(older)]))
    return place, digests[: len(older)], digests[len(older) :]


def _covered(side: snapshot.Stored, names: pd.Series[str], prefix: str = "") -> Mask:
    """Return whether a tag of each of these repositories would have been seen."""
    if side.finished is None:
        return np.zeros(len(names), dtype=bool)
    repositories, coverage = side.tables["repositories"], side.tables["coverage"]
    catalog = coverage[coverage["what"] == "catalog"]
    listed = prefix + repositories["repository"] if prefix else repositories["repository"]
    seen = repositories["status"].isin(["read", "empty", "missing"])
    known, unseen = (names.isin(listed[mask]) for mask in (seen, ~seen))
    if catalog["complete"].all() and (catalog["listed"] > 0).all():
        return (~unseen).to_numpy()
    if catalog["complete"].all() and side.asked:  # what a glob does not match was not asked for
        meant = select(names.unique(), [prefix + pattern for pattern in side.asked])
        return ((known | names.isin(meant)) & ~unseen).to_numpy()
    return known.to_numpy()


def _last_two(folder: str, registry: str | None) -> tuple[str, str]:
    """Return the newest snapshot in a folder, and the one of the same registry before it."""
    found = snapshot.snapshots(folder)
    found = found[(found["status"] == "ok") & (found["registry"] == (registry or found["registry"]))]
    mine = found[found["registry"] == found["registry"].iloc[-1]] if len(found) else found
    if len(mine) < 2:  # noqa: PLR2004 -- two
        raise InvalidArgument(
            f"{redact(folder)} has fewer than two snapshots of one registry",
            hint="regnb audit URL --snapshot FOLDER saves one",
        )
    one, two = mine["url"].tail(2)
    return one, two


def diff(
    first: Inventory | str | Path, second: Inventory | str | Path | None = None, *, registry: str | None = None
) -> Diff:
    """Compare two readings of one registry.

    Tags of repositories that could not be read in one of them are left out, and so are the blobs behind them. Where one
    was read through the API and the other from the storage, only blobs are compared that a tag leads to.

    Args:
        first: The earlier inventory, or the URL or path of its snapshot.
        second: The later one. Without it ``first`` is a folder of snapshots, and its last two are compared.
        registry: Of such a folder: which one's, if there are snapshots of several.

    Raises:
        InvalidArgument: They are inventories of different registries, or there are no two.
        StorageError: A snapshot cannot be read.

    Example:
        >>> print(regnb.diff(inventory.save("snapshots"), inventory).summary())
        localhost:5000, ... to ...: tags: 0 new, 0 moved, 0 vanished; bytes: 0 B gained, 0 B freed.
    """
    if second is None:
        if isinstance(first, Inventory):
            raise InvalidArgument("one inventory alone shows no difference", hint="give a second one, or a snapshot")
        first, second = _last_two(str(first), registry)
    older, newer = _inventory(first), _inventory(second)
    if older.source == newer.source and older.registry != newer.registry:
        raise InvalidArgument(
            f"inventories of different registries: {older.registry} and {newer.registry}",
            hint="to compare a mirror: regnb compare A B",
        )
    found = changes(_stored(older), _stored(newer))
    new, moved, vanished = found.new, found.moved, found.vanished
    broken = _broken(older, newer, found)
    one = np.concatenate([np.full(len(new), -1), moved[0], vanished, broken[0]])
    two = np.concatenate([new, moved[1], np.full(len(vanished), -1), broken[1]])
    tagged = older.source != newer.source
    went, came = _only(older, newer)
    freed = _bytes(older, went, one, _unsure(older, newer, 0, found), tagged=tagged)
    gained = _bytes(newer, came, two, _unsure(newer, older, 1, found), tagged=tagged)
    rows = pd.DataFrame(
        {
            "change": np.repeat(_CHANGES, [len(new), len(moved[0]), len(vanished), len(broken[0])]),
            "repository": _either(older.tags, newer.tags, "repository", one, two),
            "tag": _either(older.tags, newer.tags, "tag", one, two),
            "before": older.tags["digest"].reindex(one).array,
            "after": newer.tags["digest"].reindex(two).array,
            "gained": gained.by_tag,
            "freed": freed.by_tag,
        }
    )
    ordered = rows.sort_values(["repository", "tag"])
    tags = make("changed_tags", {column: ordered[column] for column in COLUMNS["changed_tags"]})
    return Diff(
        registry=older.registry,
        before=older.started,
        after=newer.started,
        tags=tags,
        repositories=_repositories(tags, gained.untagged, freed.untagged),
        gained=gained.total,
        freed=freed.total,
        notes=tuple(_notes(older, newer, found)),
    )


def _inventory(what: Inventory | str | Path) -> Inventory:
    return what if isinstance(what, Inventory) else Inventory.load(what)


def _stored(inventory: Inventory) -> snapshot.Stored:
    return snapshot.Stored(
        inventory.registry,
        inventory.started,
        inventory.finished,
        inventory.frames,
        inventory.source,
        inventory.asked,
    )


def _either(older: Frame, newer: Frame, column: str, first: Ints, second: Ints) -> object:
    """Return a column's value at a row of ``a``, or of ``b`` where the first is -1."""
    joined = pd.concat([older[column], newer[column]], ignore_index=True)
    return joined.take(np.where(first >= 0, first, second + len(older))).array


def _only(older: Inventory, newer: Inventory) -> tuple[Mask, Mask]:
    """Return which blobs only the first has, and which only the second."""
    place = pc.index_in(pa.array(older.blobs["digest"]), value_set=pa.array(newer.blobs["digest"]))
    place = place.fill_null(-1).to_numpy(zero_copy_only=False)
    absent = newer.graph.absent
    here, there = ~older.graph.absent, ~absent
    both = np.flatnonzero(here & (place >= 0))
    both = both[~absent[place[both]]]
    here[both] = there[place[both]] = False
    return here, there


def _pullable(side: Inventory) -> Mask:
    """Return whether each tag can be pulled, as far as is known."""
    return side.tags["pullable"].fillna(value=True).to_numpy(bool)


def _broken(older: Inventory, newer: Inventory, found: Changes) -> tuple[Ints, Ints]:
    """Return the rows of tags that did not move, and that can no longer be pulled."""
    one, two = (np.concatenate([pairs[at] for pairs in (found.same, found.unread)]) for at in range(2))
    broken = _pullable(older)[one] & ~_pullable(newer)[two]
    return one[broken], two[broken]


def _unsure(side: Inventory, other: Inventory, number: int, found: Changes) -> Ints:
    """Return the rows of manifests that the other inventory may hold without having seen them."""
    graph = side.graph
    names = pd.Series(graph.repositories, dtype="str")
    uncovered = ~_covered(_stored(other), names)[graph.repository]
    mine, theirs = (np.concatenate([pairs[at] for pairs in found.pairs]) for at in (number, 1 - number))
    at = graph.tags[mine[~other.tags["complete"].to_numpy()[theirs]]]
    uncovered[at[at >= 0]] = True
    return np.flatnonzero(uncovered)


class _Bytes(NamedTuple):
    total: int
    by_tag: NDArray[np.int64]
    untagged: Mapping[str, int]


def _bytes(side: Inventory, only: Mask, tags: Ints, unsure: Ints, *, tagged: bool) -> _Bytes:
    """Return the bytes of the blobs that only this inventory has, and what they are due to.

    Args:
        side: The inventory.
        only: Whether each blob is in this one only.
        tags: Rows of the changed tags, -1 where one is not here.
        unsure: Rows of manifests whose blobs are left out.
        tagged: Leave out what no tag leads to.
    """
    graph = side.graph
    only = only & (graph.leading > 0) if tagged else only.copy()
    only[_behind(graph, unsure)[1]] = False
    here = np.flatnonzero(tags >= 0)
    row = graph.tags[tags[here]]
    here, row = here[row >= 0], row[row >= 0]
    at, blob = _behind(graph, row)
    alone = only[blob]
    edges = Edges(here[at[alone]], blob[alone], len(tags))
    rest = only.copy()
    rest[edges.target] = False
    untagged: dict[str, int] = {}
    if rest.any():
        owner = np.repeat(np.arange(len(graph.repositories)), graph.held.counts)
        held = rest[graph.held.target]
        owners = Edges(owner[held], graph.held.target[held], len(graph.repositories))
        parts = sharing.shares(graph, owners)
        untagged = {graph.repositories[number]: int(parts[number]) for number in np.flatnonzero(owners.counts).tolist()}
        rest[owners.target] = False
        if rest.any():
            untagged[""] = graph.bytes(rest)
    return _Bytes(graph.bytes(only), sharing.shares(graph, edges), untagged)


def _behind(graph: Graph, rows: Ints) -> tuple[Ints, Ints]:
    """Return the blobs behind some rows: the position in ``rows``, and the blob."""
    at, row = graph.reach.of(rows)
    inner, blob = graph.own.of(graph.manifest[row])
    return at[inner], blob


def _repositories(tags: Frame, gained: Mapping[str, int], freed: Mapping[str, int]) -> Frame:
    numbers = pd.DataFrame({change: tags["change"] == change for change in _CHANGES}).groupby(tags["repository"]).sum()
    sizes = tags.groupby("repository")[["gained", "freed"]].sum()
    names = sorted({*numbers.index, *gained, *freed})
    numbers, sizes = (table.reindex(names, fill_value=0) for table in (numbers, sizes))
    rest = [[part.get(name, 0) for name in names] for part in (gained, freed)]
    return make(
        "changed_repositories",
        {
            "repository": names,
            **{change: numbers[change].to_numpy() for change in _CHANGES},
            "gained": sizes["gained"].to_numpy() + np.array(rest[0], dtype=np.int64),
            "freed": sizes["freed"].to_numpy() + np.array(rest[1], dtype=np.int64),
            "cause": [
                _cause(name, dict(zip(_CHANGES, row, strict=True)), came, went)
                for name, row, came, went in zip(names, numbers.to_numpy().tolist(), *rest, strict=True)
            ],
        },
    )


def _cause(repository: str, numbers: Mapping[str, int], came: int, went: int) -> str:
    words = [count(number, f"{change} tag") for change, number in numbers.items() if number]
    if came or went:
        what = "manifests that no changed tag leads to" if repository else "blobs that no manifest needs"
        words.append(f"{what} ({human(came)} gained, {human(went)} freed)")
    return ", ".join(words)


def emptied(after: Inventory, known: int, source: str, when: datetime) -> str:
    """Return a sentence if a catalog, or a storage, is empty, although repositories were known before; else "".

    Args:
        after: Whose catalog is looked at.
        known: How many repositories there were.
        source: ``api``, or ``storage`` where they lie in the registry's storage.
        when: When they were there.

    Example:
        >>> emptied(inventory, 412, "api", inventory.started)
        ''
    """
    if not after.empty_catalog or not known:
        return ""
    what = "repository" if known == 1 else "repositories"
    then = "the storage has" if (source, after.source) == ("storage", "api") else f"on {_minute(when)}"
    empty = "The catalog is empty" if after.source == "api" else "The storage has no repositories"
    return f"{empty}: {known:,} fewer {what} than {then}."


def _notes(older: Inventory, newer: Inventory, found: Changes) -> list[str]:
    notes = list(filter(None, [emptied(newer, len(older.repositories), older.source, older.started)]))
    if newer.started < older.started:
        notes.append("The second was read before the first.")
    if older.source != newer.source:
        notes.append(
            f"The first was read from the {older.source}, the second from the {newer.source}: "
            "of the blobs only those are compared that a tag leads to."
        )
    for which, side in (("first", older), ("second", newer)):
        if not side.complete or side.finished is None:
            notes.append(f"The {which} is incomplete: bytes may be wrong.")
    uncovered = len(found.unknown[0]) + len(found.unknown[1])
    if uncovered:
        notes.append(f"{count(uncovered, 'tag')} of repositories that only one of them could read: left out.")
    if unread := int(_pullable(newer)[found.unread[1]].sum()):
        notes.append(f"{count(unread, 'tag')} whose digest only one of them could read, or neither: left out.")
    return notes


def _settled(found: Changes, older: Frame, newer: Frame) -> Changes:
    """Tell tags that could not be read from those whose manifest is known to be gone: these are as good as missing."""
    one, two = found.unread
    gone_older, gone_newer = (
        (side["digest"].isna() & side["complete"]).to_numpy(bool)[rows] for side, rows in ((older, one), (newer, two))
    )
    here, there = older["digest"].notna().to_numpy(bool)[one], newer["digest"].notna().to_numpy(bool)[two]
    vanished, new, same = gone_newer & here, gone_older & there, gone_older & gone_newer
    left = ~(vanished | new | same)
    return found._replace(
        new=np.concatenate([found.new, two[new]]),
        vanished=np.concatenate([found.vanished, one[vanished]]),
        same=(np.concatenate([found.same[0], one[same]]), np.concatenate([found.same[1], two[same]])),
        unread=(one[left], two[left]),
    )


def gaps(first: Inventory, second: Inventory, *, prefix: str = "") -> list[str]:
    """Return what a comparison of two inventories does not know, a sentence each.

    A repository that was named, and that one of them alone does not have, is a difference between them and no gap.

    Args:
        first: The origin's inventory.
        second: The mirror's.
        prefix: As for :func:`compare`.

    Example:
        >>> gaps(inventory, inventory)
        []
    """
    one, two = {prefix + name for name in _absent(first)}, {*_absent(second)}
    neither = [f"Neither of them has {name.removeprefix(prefix)}." for name in sorted(one & two)]
    unread = [side.registry for side in (first, second) if not _whole(side)]
    return [*neither, *(f"Incomplete: not everything in {name} could be read." for name in unread)]


def _absent(side: Inventory) -> list[str]:
    """Return which of the names and globs that an inventory was to read stand for nothing in the registry."""
    rows = side.problems[side.problems["problem"] == "missing"]
    return [name for name in rows["repository"] + rows["reference"] if name in (side.asked or ())]


def _whole(side: Inventory) -> bool:
    """Whether everything was read, apart from repositories that are not there."""
    rest = side.problems[side.problems["incomplete"]]
    if len(rest[~(rest["repository"] + rest["reference"]).isin(_absent(side))]):
        return False
    rows = side.coverage.set_index("what")
    others = rows.drop(index="repositories")["complete"].all()
    return bool(others and not side.repositories["status"].isin(["failed", "denied"]).any())


def compare(first: Inventory | str | Path, second: Inventory | str | Path, *, prefix: str = "") -> Frame:
    """Compare the tags of two registries, such as an origin and its mirror.

    Args:
        first: The origin's inventory, or the URL or path of its snapshot.
        second: The mirror's.
        prefix: Put before the first's repository names to find them in the second, such as ``mirror/``. What the
            second has outside it is not looked at.

    Returns:
        Columns as :data:`regnb.tables.columns.COLUMNS` has them, ``comparison``: one row for each tag, the
        differences first.

    Raises:
        StorageError: A snapshot cannot be read.

    Example:
        >>> len(compare(inventory, registry.inventory()).query("state != 'same'"))
        0
    """
    origin, mirror = _inventory(first), _inventory(second)
    theirs = (
        mirror.tags[mirror.tags["repository"].str.startswith(prefix)].reset_index(drop=True) if prefix else mirror.tags
    )
    side = _stored(mirror)._replace(tables={**mirror.frames, "tags": theirs})
    found = _settled(changes(_stored(origin), side, prefix=prefix), origin.tags, theirs)
    nowhere = [np.full(len(rows), -1) for rows in (found.vanished, found.new, *found.unknown)]
    pieces: dict[State, tuple[Ints, Ints]] = {
        "missing": (found.vanished, nowhere[0]),
        "extra": (nowhere[1], found.new),
        "drifted": found.moved,
        "unread": (
            np.concatenate([found.unread[0], found.unknown[0], nowhere[3]]),
            np.concatenate([found.unread[1], nowhere[2], found.unknown[1]]),
        ),
        "same": found.same,
    }
    one, two = (np.concatenate([pieces[state][number] for state in _STATES]) for number in range(2))
    order = np.repeat(np.arange(len(_STATES)), [len(pieces[state][0]) for state in _STATES])

    rows = pd.DataFrame(
        {
            "state": order,
            "repository": _either(origin.tags, theirs, "repository", one, two),
            "tag": _either(origin.tags, theirs, "tag", one, two),
            "first": origin.tags["digest"].reindex(one).array,
            "second": theirs["digest"].reindex(two).array,
            "size": _either(origin.tags, theirs, "size", one, two),
        }
    ).sort_values(["state", "repository", "tag"])
    names = np.array(_STATES, dtype=object)[rows["state"]]
    return make("comparison", {**{column: rows[column] for column in COLUMNS["comparison"]}, "state": names})

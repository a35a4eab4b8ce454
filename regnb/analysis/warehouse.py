"""Questions about snapshots whose names need not fit in memory.

DuckDB reads the names from the files and makes numbers of them, a number for each blob and repository, on disk where
memory does not suffice. What is asked is worked out on the numbers, by the rules of an inventory, so that the answers
are the same. Beside what DuckDB takes this needs some hundred bytes for each reference from a manifest to a blob.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
import pandas as pd

from regnb.analysis import usage as shared
from regnb.analysis.proposal import Order
from regnb.analysis.proposal import free as propose
from regnb.analysis.query import database
from regnb.errors import StorageError
from regnb.oci.referrers import subject_of_tag
from regnb.tables import sharing
from regnb.tables.age import believed, in_use
from regnb.tables.columns import COLUMNS
from regnb.tables.edges import Edges
from regnb.tables.frame import Frame, make
from regnb.tables.graph import ABSENT, Graph
from regnb.tables.removal import removal
from regnb.text import parse_age

if TYPE_CHECKING:
    import duckdb

    from regnb.tables.edges import Ints, Mask

_FRAMES: Final = ("repositories", "tags", "manifests", "children", "layers", "blobs", "problems")
_TYPES: Final[Mapping[str, str]] = {
    "int64": "0::BIGINT", "int32": "0::INTEGER", "bool": "false", "Int64": "NULL::BIGINT", "boolean": "NULL::BOOLEAN",
    "datetime64[us, UTC]": "NULL::TIMESTAMPTZ",
}  # fmt: skip
"""What stands for a column that a file lacks, by its type; where none stands, a missing text."""
_NAMED: Final = (
    "CREATE OR REPLACE TEMP TABLE named AS SELECT digest AS name, place AS number, true AS direct FROM blobs_"
)
_ALIASES: Final = """INSERT INTO named SELECT alias, place, false FROM blobs_
WHERE alias IS NOT NULL AND alias NOT IN (SELECT name FROM named)"""
_PLACES: Final = """CREATE OR REPLACE TEMP TABLE places AS
SELECT repository, (row_number() OVER (ORDER BY repository) - 1)::INTEGER AS number FROM (
    SELECT repository FROM manifests_ UNION SELECT repository FROM tags_ UNION SELECT repository FROM repositories_)"""
_BLOBS: Final = "SELECT place, size, list_contains($absent::VARCHAR[], kind) AS absent FROM blobs_"
_OWNERS: Final = """CREATE OR REPLACE TEMP TABLE owners AS
SELECT name, number FROM named SEMI JOIN manifests_ ON digest = name"""
_HOMES: Final = "SELECT m.place, n.number AS number FROM {frame}_ m JOIN places n USING (repository)"
_FOUND: Final = "SELECT f.place, n.number{more} FROM {frame}_ f JOIN {names} n ON n.name = f.{column}"
_LENGTH: Final = "SELECT count(*) FROM {frame}_"
_POSITIONS: Final = "SELECT place, position::INTEGER AS position FROM layers_"
_CHOSEN: Final = "SELECT place, coalesce(({condition}), false)::BOOLEAN AS chosen FROM tags_"
_UNSEEN: Final = "SELECT repository FROM problems_ WHERE problem = 'no layers'"
_ABOUT: Final = """SELECT created, dated, pushed, pulled, pulls_since, size, exclusive, complete,
    CASE WHEN subject IS NOT NULL THEN true END AS subject FROM tags_ ORDER BY place"""


class _Stored:
    """A snapshot whose names stay in its files.

    Args:
        tables: What reads them.
        folder: What the database calls the snapshot's folder.
        is_storage: Whether a storage was read.
        started: When.
    """

    def __init__(self, tables: duckdb.DuckDBPyConnection, folder: str, started: datetime, *, is_storage: bool) -> None:
        self._tables, self.started, self._is_storage = tables, started, is_storage
        for name in _FRAMES:
            rows = tables.read_parquet(f"{folder}/{name}.parquet", hive_partitioning=True, file_row_number=True)
            there = {*rows.columns}
            lacking = [
                f"{_TYPES.get(dtype, 'NULL::VARCHAR')} AS {column}"
                for column, (dtype, _) in COLUMNS[name].items()
                if column not in there
            ]
            columns = ", ".join(["* EXCLUDE (file_row_number)", "file_row_number::INTEGER AS place", *lacking])
            rows.project(columns).create_view(f"{name}_", replace=True)
        tables.execute(_NAMED)
        if tables.execute("SELECT count(alias) FROM blobs_").fetchall()[0][0]:
            tables.execute(_ALIASES)
        for statement in (_OWNERS, _PLACES):
            tables.execute(statement)

    def _columns(self, query: str, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Return the columns of a query as arrays, in the order of ``place`` if it has that."""
        found = dict(self._tables.execute(query, dict(parameters or {})).fetchnumpy())
        if "place" in found:
            order = np.empty(len(found["place"]), dtype=np.int32)
            order[found.pop("place")] = np.arange(len(order), dtype=np.int32)
            found = {name: column[order] for name, column in found.items()}
        return found

    @cached_property
    def names(self) -> list[str]:
        """The repositories, by number: in the order of their names."""
        return [name for (name,) in self._tables.execute("SELECT repository FROM places ORDER BY number").fetchall()]

    def held(self, condition: str = "", parameters: Mapping[str, object] | None = None) -> _Held:
        """Return who holds what, and which tags fulfil a condition."""
        chosen = np.asarray(
            self._columns(_CHOSEN.format(condition=condition or "false"), parameters)["chosen"], dtype=bool
        )
        blobs = self._columns(_BLOBS, {"absent": list(ABSENT)})
        home, tagged = (self._columns(_HOMES.format(frame=name))["number"] for name in ("manifests", "tags"))
        linked, subject = (self._found("manifests", column)[0] for column in ("digest", "subject"))
        config, own = self._found("manifests", "config", every=True)
        manifest = self._found("tags", "digest")[0]
        index = self._found("children", "manifest")[0]
        child, apart = self._found("children", "child", every=True)
        owner = self._found("layers", "manifest")[0]
        layer, stored = self._found("layers", "digest", every=True)
        subjects, signs = np.flatnonzero(subject >= 0), self._signs()
        for names in ("named", "owners"):  # what follows needs the memory, and numbers alone
            self._tables.execute(f"DROP TABLE {names}")
        source, target = np.concatenate([linked, owner, index]), np.concatenate([config, layer, child])
        direct = np.concatenate([own, stored, apart])
        known = (source >= 0) & (target >= 0)
        if not known.all():
            source, target, direct = source[known], target[known], direct[known]
        listed, whole = (index >= 0) & (child >= 0), (owner >= 0) & (layer >= 0)
        graph = Graph(
            cast("pd.Series[str]", pd.RangeIndex(len(blobs["size"]))),
            blobs["size"],
            blobs["absent"],
            self.names,
            home,
            linked,
            (source, target),
            (index[listed], child[listed]),
            (tagged, manifest),
            ((subjects, subject[subjects]), signs),
            None if direct.all() else (source[direct], target[direct]),
        )
        graph.unseen = graph.of_repositories({*self.text(_UNSEEN)["repository"]})
        graph.layers = owner[whole], self._columns(_POSITIONS)["position"][whole], layer[whole]
        return _Held(graph, chosen, tagged, manifest)

    def _found(self, frame: str, column: str, *, every: bool = False) -> tuple[Ints, Mask]:
        """Return of each row the blob that a column names, and whether by its own digest; -1 where it is not known.

        A column at a time: a table of names is the most that has to fit in memory.

        Args:
            frame: The frame.
            column: Of it.
            every: Whether any blob may be named, and not only a manifest.
        """
        ((rows,),) = self._tables.execute(_LENGTH.format(frame=frame)).fetchall()
        names, more = ("named", ", n.direct") if every else ("owners", "")
        found = self._tables.execute(_FOUND.format(frame=frame, column=column, names=names, more=more)).fetchnumpy()
        number, direct = np.full(rows, -1, dtype=np.int32), np.ones(rows, dtype=bool)
        number[found["place"]] = found["number"]
        if every:
            direct[found["place"]] = found["direct"]
        return number, direct

    def _signs(self) -> tuple[Ints, Ints]:
        """Return the tags that refer to a manifest by their name, and the manifests."""
        signing = self.text("SELECT place, tag FROM tags_ WHERE subject IS NOT NULL")
        signing["name"] = signing.pop("tag").map(subject_of_tag).astype("str")
        with self._lent("signing", signing):
            found = self._columns("SELECT s.place AS tag, n.number FROM signing s JOIN named n USING (name)")
        return found["tag"], found["number"]

    def tags(self, held: _Held) -> pd.DataFrame:
        """Return of each tag what a proposal is made by, with numbers for names."""
        found = self.text(_ABOUT)
        dates = {
            name: found[name].dt.tz_convert("UTC").astype("datetime64[us, UTC]")
            for name in ("created", "pushed", "pulled", "pulls_since")
        }
        dates["created"] = believed(dates["created"], self.started)
        digest = pd.Series(held.manifest).where(held.manifest >= 0)
        return found.assign(**dates, repository=held.repository, digest=digest)

    def known(self, graph: Graph) -> Mask | None:
        """Return the rows that a deletion knows of."""
        return ~graph.untagged if self._is_storage else None

    def text(self, query: str) -> pd.DataFrame:
        """Return the rows of a query, without a Python string for each text."""
        return pd.DataFrame(self._tables.sql(query).to_arrow_table().to_pandas())

    def named(self, columns: str, places: Ints) -> pd.DataFrame:
        """Return some columns of some tags, in this order."""
        with self._lent("chosen", pd.DataFrame({"place": places, "rank": np.arange(len(places))})):
            return self.text(f"SELECT {columns} FROM tags_ JOIN chosen USING (place) ORDER BY rank")  # noqa: S608 -- its own names

    @contextmanager
    def _lent(self, name: str, rows: pd.DataFrame) -> Iterator[None]:
        """Let queries read a frame."""
        self._tables.register(name, rows)
        try:
            yield
        finally:
            self._tables.unregister(name)


class _Held(NamedTuple):
    """Who holds what in a snapshot, as numbers.

    Attributes:
        chosen: Which tags fulfil the condition.
        repository, manifest: Of each tag; -1 where the manifest is not known.
    """

    graph: Graph
    chosen: Mask
    repository: Ints
    manifest: Ints


@contextmanager
def _each(where: str | Path | None, memory: str | None) -> Iterator[Iterator[tuple[dict[str, str], _Stored]]]:
    """Open the last complete snapshot of each registry: the columns that name it, and what it holds.

    Raises:
        InvalidArgument, StorageError: As for :func:`regnb.sql`, or no snapshot is complete.
    """
    with database(where, memory=memory) as opened:
        if opened.latest.empty:
            raise StorageError(
                "no snapshot is complete; the figures of an incomplete one can be too low",
                hint="regnb audit --snapshot",
            )

        def every() -> Iterator[tuple[dict[str, str], _Stored]]:
            for row in opened.latest.to_dict("records"):
                named = {"registry": row["registry"], "snapshot": row["snapshot"].rpartition("snapshot=")[2]}
                folder, is_storage = f"{opened.base}/{row['snapshot']}", row["source"] == "storage"
                yield named, _Stored(opened.tables, folder, row["started"], is_storage=is_storage)

        yield every()


def _stacked(found: Sequence[tuple[dict[str, str], pd.DataFrame]]) -> Frame:
    """Return frames of several snapshots one below the other, after the columns that name each."""
    whole = Frame(pd.concat([frame for _, frame in found], ignore_index=True))
    lengths = [len(frame) for _, frame in found]
    for at, column in enumerate(("registry", "snapshot")):
        whole.insert(
            at, column, pd.Series([named[column] for named, _ in found], dtype="str").repeat(lengths).to_numpy()
        )
    return whole


def reclaim(
    condition: str,
    where: str | Path | None = None,
    *,
    parameters: Mapping[str, object] | None = None,
    memory: str | None = None,
) -> Frame:
    """Compute what a plain garbage collection gives back once some tags of large snapshots are deleted.

    The figures are those of :meth:`Inventory.reclaim`, whose rules say what goes with the tags. Whether a collection
    can run at all, only that method says.

    Args:
        condition: Which tags, in DuckDB's SQL over the columns of ``tags``, such as ``created < '2025-01-01'``.
        where: As for :func:`regnb.sql`.
        parameters: As there.
        memory: As there, for the names; the numbers take some hundred bytes a reference beside it.

    Returns:
        Columns: registry, snapshot, tags (deleted), manifests (removed), blobs and size (bytes given back): a row for
        the last complete snapshot of each registry.

    Raises:
        InvalidArgument, StorageError, MissingExtra: As for :func:`regnb.sql`.

    Example:
        >>> found = regnb.reclaim("repository LIKE 'vm/%'", "snapshots")
    """
    rows = []
    with _each(where, memory) as snapshots:
        for named, stored in snapshots:
            graph, going, *_ = stored.held(condition, parameters)
            removed = removal(graph, going, known=stored.known(graph))
            freed = graph.freed(removed.gone)
            figures = (int(removed.going.sum()), int(removed.gone.sum()), len(freed), graph.bytes(freed))
            rows.append((*named.values(), *figures))
    return Frame(rows, columns=["registry", "snapshot", "tags", "manifests", "blobs", "size"])


def exclusive(where: str | Path | None = None, *, by: str = "repository", memory: str | None = None) -> Frame:
    """Compute whose bytes are whose in large snapshots: of each repository, or of each group of repositories.

    The figures are those of ``inventory.repositories`` and ``inventory.namespaces``.

    Args:
        where: As for :func:`regnb.sql`.
        by: What the owner of a repository's bytes is, in DuckDB's SQL: by default it itself; for namespaces
            ``split_part(repository, '/', 1)``.
        memory: As for :func:`regnb.reclaim`.

    Returns:
        Columns: registry, snapshot, owner, and size, exclusive and share (bytes) as ``repositories`` in
        :data:`regnb.tables.columns.COLUMNS` has them; of the last complete snapshot of each registry, by owner.

    Raises:
        InvalidArgument, StorageError, MissingExtra: As for :func:`regnb.sql`.

    Example:
        >>> found = regnb.exclusive("snapshots", by="split_part(repository, '/', 1)")
    """
    found = []
    with _each(where, memory) as snapshots:
        for named, stored in snapshots:
            graph = stored.held().graph
            owner, names = pd.factorize(
                stored.text(f"SELECT coalesce(({by})::VARCHAR, '') AS owner FROM places ORDER BY number")["owner"],  # noqa: S608 -- the user's own question
                sort=True,
            )
            edges = graph.held
            pairs = Edges(np.repeat(owner, edges.counts), edges.target, len(names))
            found.append((named, pd.DataFrame({"owner": names, **sharing.owned(graph, pairs)._asdict()})))
    return _stacked(found)


def usage(where: str | Path | None = None, *, memory: str | None = None) -> Frame:
    """Return which bytes are whose in large snapshots: rows that add up to the total.

    Args:
        where: As for :func:`regnb.sql`.
        memory: As there.

    Returns:
        Columns: registry, snapshot, and those of ``inventory.usage``, of the last complete snapshot of each registry.

    Raises:
        InvalidArgument, StorageError, MissingExtra: As for :func:`regnb.sql`.

    Example:
        >>> found = regnb.usage("snapshots")
    """
    found = []
    with _each(where, memory) as snapshots:
        for named, stored in snapshots:
            tags, repositories = (
                Frame(stored.text(f"SELECT repository, {columns} FROM {frame}_ ORDER BY place"))  # noqa: S608 -- its own names
                for frame, columns in (("tags", "tag, exclusive"), ("repositories", "exclusive, share"))
            )
            found.append((named, shared.usage(repositories, tags)))
    return _stacked(found)


def between(where: str | Path | None = None, *, memory: str | None = None) -> Frame:
    """Compute the bytes that each two repositories share in large snapshots, the most first.

    Args:
        where: As for :func:`regnb.sql`.
        memory: As for :func:`regnb.reclaim`.

    Returns:
        Columns: registry, snapshot, and those of ``inventory.between``, of the last complete snapshot of each registry.
        Of equal sizes the first repository by its name is first.

    Raises:
        InvalidArgument, StorageError, MissingExtra: As for :func:`regnb.sql`.

    Example:
        >>> found = regnb.between("snapshots")
    """
    with _each(where, memory) as snapshots:
        return _stacked([(named, shared.between(stored.held().graph)) for named, stored in snapshots])


def free(
    size: float | str,
    where: str | Path | None = None,
    *,
    protect: str = "",
    keep: int = 1,
    order: Order = "oldest",
    unused_for: str = "",
    parameters: Mapping[str, object] | None = None,
    memory: str | None = None,
) -> Frame:
    """Propose what to delete of large snapshots so that a plain garbage collection frees this much.

    The rows are those of :meth:`Inventory.free`. Of tags that are equal in everything that counts, the first by
    repository and digest goes first.

    Args:
        size: Bytes, or a text such as ``10TB``: of each registry.
        where: As for :func:`regnb.sql`.
        protect: Which tags must stay, in DuckDB's SQL over the columns of ``tags``, such as ``tag = 'latest'``.
        keep: As for :meth:`Inventory.free`.
        order: As there.
        unused_for: As there.
        parameters: As for :func:`regnb.sql`.
        memory: As for :func:`regnb.reclaim`.

    Returns:
        Columns: registry, snapshot, and those of :meth:`Inventory.free`, of the last complete snapshot of each
        registry.

    Raises:
        InvalidArgument, StorageError, MissingExtra: As for :func:`regnb.sql`.

    Example:
        >>> found = regnb.free("10TB", "snapshots", protect="tag IN ('latest', 'stable')")
    """
    found = []
    with _each(where, memory) as snapshots:
        for named, stored in snapshots:
            held = stored.held(protect, parameters)
            tags, protected = stored.tags(held), held.chosen
            if unused_for:
                protected |= (in_use(tags, stored.started - parse_age(unused_for)) != "").to_numpy()
            rows = propose(tags, held.graph, size, protected, keep, stored.known(held.graph), order)
            texts = stored.named("repository, tag, digest", rows.pop("place").to_numpy())
            found.append((named, make("free", {str(name): column for name, column in (*texts.items(), *rows.items())})))
    return _stacked(found)

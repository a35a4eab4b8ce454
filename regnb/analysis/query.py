"""SQL over snapshots of any number and size: DuckDB reads the files as they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from regnb.analysis.snapshot import snapshots
from regnb.analysis.spill import spilling
from regnb.crawl.files import opened
from regnb.environment import variable
from regnb.errors import InvalidArgument, MissingExtra, StorageError
from regnb.tables.columns import TOLD_BY
from regnb.tables.frame import Frame
from regnb.text import parse_size, printable, redact

try:
    import duckdb
except ImportError:
    raise MissingExtra("duckdb", "sql") from None

if TYPE_CHECKING:
    import fsspec
    from IPython.core.interactiveshell import InteractiveShell

FRAMES: Final = (
    "repositories", "tags", "manifests", "children", "layers", "blobs", "problems", "coverage", "history", "uploads",
    "disk", "findings", "labels",
)  # fmt: skip
"""Frames of a snapshot: each is a table of its own name, with the columns ``registry``, ``date`` and ``snapshot``."""
SECOND: Final = 2
"""The schema of snapshots that is read."""
_WHERE: Final = "REGNB_SNAPSHOTS"
_FULL: Final = "give it more memory (memory='8GB'), or let TMPDIR name a folder with more space"
_HINT: Final = f"tables: {', '.join(FRAMES)}, and latest_ before each; docs/snapshots.md has their columns"


def sql(
    query: str,
    where: str | Path | None = None,
    *,
    parameters: Mapping[str, object] | None = None,
    memory: str | None = None,
) -> Frame:
    """Ask snapshots of the second schema in SQL, all those below a folder or URL at once.

    Each frame is a table: ``tags``, ``layers``, ``blobs`` and so on, whose rows have ``registry``, ``date`` and
    ``snapshot`` beside their own columns. A table whose name begins with ``latest_`` has the last complete snapshot of
    each registry alone. The query can read nothing else, and sends nothing.

    Args:
        query: One SELECT, in DuckDB's SQL.
        where: A folder or URL of snapshots; by default the environment's ``REGNB_SNAPSHOTS``.
        parameters: Values of ``$name`` in the query: a name never has to be quoted.
        memory: How much may be used before parts are put on disk, such as ``4GB``; by default what DuckDB chooses. At
            most half of the space that is free in the folder for temporary files is taken.

    Returns:
        The rows, with the columns that the query names; a sum of integers is an integer (int64).

    Raises:
        InvalidArgument: The query makes no sense, or no folder was named.
        StorageError: There is no snapshot, one cannot be read, or neither memory nor disk suffice.
        MissingExtra: DuckDB is not installed.

    Example:
        >>> sizes = regnb.sql("SELECT date, sum(size) AS size FROM tags GROUP BY date", "snapshots")
    """
    with database(where, memory=memory) as opened:
        return Frame(_whole(opened.tables.sql(query, params=dict(parameters or {}))).df())


class Database(NamedTuple):
    """The tables of :func:`sql`.

    Attributes:
        tables: The database.
        latest: The last complete snapshot of each registry (rows of ``regnb.snapshots``).
        base: What the database calls the folder of the snapshots.
    """

    tables: duckdb.DuckDBPyConnection
    latest: Frame
    base: str


@contextmanager
def database(where: str | Path | None, *, memory: str | None = None) -> Iterator[Database]:
    """Open the tables of :func:`sql`, and turn what a query raises within into an error for people.

    Raises:
        InvalidArgument, StorageError: As for :func:`sql`.

    Example:
        ``with database("snapshots") as opened: ...``
    """
    where = where or variable(_WHERE)
    if not where:
        raise InvalidArgument("no snapshots were named", hint=f"write sql(…, 'snapshots'), or set {_WHERE}")
    limit = {"memory_limit": f"{parse_size(memory)}B"} if memory else {}
    listed = snapshots(where)
    second = listed[(listed["status"] == "ok") & (listed["schema"] == SECOND)]
    if second.empty:
        hint = "regnb audit --snapshot saves one"
        raise StorageError(f"no snapshot of the second schema below {redact(where)}", hint=hint)
    latest = second[second["complete"]].drop_duplicates(["registry", "source"], keep="last")
    with (
        opened(where, "read") as (filesystem, root),
        spilling() as (spilled, most),
        duckdb.connect(
            ":memory:",
            config={"temp_directory": str(spilled / "parts"), "max_temp_directory_size": f"{most}B", **limit},
        ) as made,
    ):
        try:
            yield Database(made, latest, _make(made, filesystem, root, second, latest))
        except duckdb.OutOfMemoryException as error:
            message = printable(" ".join(str(error).partition("\n")[0].split()))
            raise StorageError(f"neither memory nor disk suffice: {message[:200]}", hint=_FULL) from None
        except duckdb.Error as error:
            message = printable(" ".join(str(error).partition("\nLINE ")[0].split()))
            raise InvalidArgument(f"the query fails: {message[:500]}", hint=_HINT) from None


def _make(
    database: duckdb.DuckDBPyConnection,
    filesystem: fsspec.AbstractFileSystem,
    root: str,
    listed: Frame,
    latest: Frame,
) -> str:
    """Make the tables, let nothing else be read, and return what the database calls the folder."""
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    base, allowed = root.rstrip("/"), [f"{root.rstrip('/')}/"]
    if protocol != "file":
        database.register_filesystem(filesystem)
        base = f"{protocol}://{base.lstrip('/')}"
        allowed = [f"{base}/", f"{protocol}:///{root.strip('/')}/"]
    for name in FRAMES:
        files = f"{base}/registry=*/date=*/snapshot=*/{name}.parquet"
        try:
            rows = database.read_parquet(files, hive_partitioning=True, union_by_name=True)
        except duckdb.IOException:  # no snapshot has it
            continue
        rows = _told(name, rows, listed)
        rows.create_view(name)
        rows.filter(_of(latest["snapshot"])).create_view(f"latest_{name}")
    database.execute("SET allowed_directories = $base", {"base": allowed})
    for setting in (
        "enable_progress_bar = false",  # it would be printed among what a script prints
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        database.execute(f"SET {setting}")
    return base


def _whole(rows: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return rows whose sums of integers are integers: DuckDB has a type of its own for them, in pandas a float."""
    if "HUGEINT" not in rows.types:
        return rows
    # By position: two columns of a join may have one name.
    cast = '#{at}::BIGINT AS "{name}"'.format
    names = [name.replace('"', '""') for name in rows.columns]
    return rows.project(
        ", ".join(
            cast(at=at, name=name) if kind == "HUGEINT" else f"#{at}"
            for at, (name, kind) in enumerate(zip(names, rows.types, strict=True), 1)
        )
    )


def _of(snapshots: Iterable[str]) -> duckdb.Expression:
    """Return the condition that a row is one of some snapshots'."""
    names = [name.rpartition("snapshot=")[2] for name in snapshots]
    return duckdb.ColumnExpression("snapshot").isin(*map(duckdb.ConstantExpression, names))


def _told(name: str, rows: duckdb.DuckDBPyRelation, listed: Frame) -> duckdb.DuckDBPyRelation:
    """Leave blank what a snapshot's source cannot tell, as :func:`regnb.tables.frame.told` does: older ones have 0."""
    columns = {each: duckdb.ColumnExpression(each) for each in rows.columns}
    for column, sources in TOLD_BY.get(name, {}).items():
        others = listed.loc[~listed["source"].isin(sources), "snapshot"]
        if column in columns and len(others):
            blank = duckdb.ConstantExpression(None).cast("BIGINT")
            columns[column] = duckdb.CaseExpression(_of(others), blank).otherwise(columns[column]).alias(column)
    rows = rows.select(*columns.values())
    if name == "disk" and "used" in columns:
        # No file system says that all files together have no blocks.
        rows = rows.project(
            "* REPLACE (CASE WHEN bool_or(used > 0) OVER (PARTITION BY snapshot) THEN used END AS used)"
        )
    return rows


def load_ipython_extension(shell: object) -> None:
    """Let a cell that begins with ``%%regnb`` hold SQL: ``%load_ext regnb``.

    Example:
        >>> get_ipython().extension_manager.load_extension("regnb")  # doctest: +SKIP
    """
    register: Callable[..., object] = cast("InteractiveShell", shell).register_magic_function
    register(_cell, "cell", "regnb")


def _cell(line: str, cell: str) -> Frame:
    """Run a cell: ``%%regnb [FOLDER|URL]``."""
    words = shlex.split(line)
    return sql(cell, words[0] if words else None)

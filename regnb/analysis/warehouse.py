"""What a deletion gives back, of a snapshot that need not fit in memory: DuckDB joins, and the rules stay one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pandas as pd

from regnb.analysis.query import database
from regnb.errors import StorageError
from regnb.oci.referrers import subject_of_tag
from regnb.tables.frame import Frame
from regnb.tables.graph import Graph
from regnb.tables.removal import removal

if TYPE_CHECKING:
    import duckdb

_TABLES: Final = (
    "CREATE OR REPLACE TEMP TABLE chosen AS SELECT $snapshot AS snapshot",
    "CREATE OR REPLACE TEMP TABLE chosen_manifests AS SELECT * FROM latest_manifests SEMI JOIN chosen USING (snapshot)",
    "CREATE OR REPLACE TEMP TABLE chosen_children AS SELECT * FROM latest_children SEMI JOIN chosen USING (snapshot)",
    """CREATE OR REPLACE TEMP TABLE digests AS SELECT digest, row_number() OVER () - 1 AS number
    FROM (SELECT DISTINCT digest FROM chosen_manifests)""",
    """CREATE OR REPLACE TEMP TABLE names AS SELECT repository, row_number() OVER () - 1 AS number FROM (
        SELECT repository FROM chosen_manifests
        UNION SELECT repository FROM latest_tags SEMI JOIN chosen USING (snapshot))""",
    """CREATE OR REPLACE TEMP VIEW needs AS
    SELECT digest AS manifest, digest AS blob FROM digests
    UNION ALL SELECT digest, config FROM chosen_manifests
    UNION ALL SELECT manifest, child FROM chosen_children
    UNION ALL SELECT manifest, digest FROM latest_layers SEMI JOIN chosen USING (snapshot)""",
)
"""A number for each manifest and repository: a graph of integers fits in memory where its names do not."""
_ROWS: Final = """SELECT n.number AS repository, d.number AS manifest, coalesce(s.number, -1) AS subject
FROM chosen_manifests m JOIN digests d USING (digest) JOIN names n USING (repository)
LEFT JOIN digests s ON s.digest = m.subject"""
_BELOW: Final = """SELECT p.number AS parent, c.number AS child
FROM chosen_children e JOIN digests p ON p.digest = e.manifest JOIN digests c ON c.digest = e.child"""
_TAGS: Final = """SELECT n.number AS repository, coalesce(d.number, -1) AS manifest, t.going,
    CASE WHEN t.subject IS NULL THEN '' ELSE t.tag END AS sign
FROM (SELECT *, coalesce(({condition}), false)::BOOLEAN AS going FROM latest_tags SEMI JOIN chosen USING (snapshot)) t
JOIN names n USING (repository) LEFT JOIN digests d USING (digest)"""
_SUBJECTS: Final = "SELECT digest, number FROM digests WHERE list_contains($some::VARCHAR[], digest)"
_FREED: Final = (
    """CREATE OR REPLACE TEMP TABLE candidates AS SELECT DISTINCT blob FROM needs
    WHERE manifest IN (SELECT digest FROM digests ANTI JOIN staying USING (number))""",
    """CREATE OR REPLACE TEMP TABLE kept AS SELECT DISTINCT blob FROM needs SEMI JOIN candidates USING (blob)
    WHERE manifest IN (SELECT digest FROM digests SEMI JOIN staying USING (number))""",
)
_SUM: Final = """SELECT count(*), coalesce(sum(size), 0)::BIGINT FROM latest_blobs SEMI JOIN chosen USING (snapshot)
WHERE kind NOT IN ('missing', 'foreign layer')
AND digest IN (SELECT blob FROM candidates ANTI JOIN kept USING (blob))"""


def reclaim(
    condition: str,
    where: str | Path | None = None,
    *,
    parameters: Mapping[str, object] | None = None,
    memory: str | None = None,
) -> Frame:
    """Compute what a plain garbage collection gives back once some tags of large snapshots are deleted.

    The figures are those of :meth:`Inventory.reclaim`, whose rules say what goes with the tags; only the blobs stay on
    disk. Whether a collection can run at all, only that method says.

    Args:
        condition: Which tags, in DuckDB's SQL over the columns of ``tags``, such as ``created < '2025-01-01'``.
        where: As for :func:`regnb.sql`.
        parameters: As there.
        memory: As there.

    Returns:
        Columns: registry, snapshot, tags (deleted), manifests (removed), blobs and size (bytes given back): a row for
        the last complete snapshot of each registry.

    Raises:
        InvalidArgument, StorageError, MissingExtra: As for :func:`regnb.sql`.

    Example:
        >>> found = regnb.reclaim("repository LIKE 'vm/%'", "snapshots")
    """
    found = []
    with database(where, memory=memory) as (tables, latest):
        if latest.empty:
            raise StorageError(
                "no snapshot is complete, and of others no figure is safe", hint="regnb audit --snapshot"
            )
        columns = (latest[name].to_list() for name in ("registry", "snapshot", "source"))
        for registry, name, source in zip(*columns, strict=True):
            snapshot, stored = name.rpartition("snapshot=")[2], source == "storage"
            figures = _reclaimed(tables, condition, dict(parameters or {}), snapshot, is_storage=stored)
            found.append((registry, snapshot, *figures))
    return Frame(found, columns=["registry", "snapshot", "tags", "manifests", "blobs", "size"])


def _reclaimed(
    tables: duckdb.DuckDBPyConnection,
    condition: str,
    parameters: dict[str, object],
    snapshot: str,
    *,
    is_storage: bool,
) -> tuple[int, int, int, int]:
    """Return how many tags, manifests, blobs and bytes go."""
    for statement in _TABLES:
        tables.execute(statement, {"snapshot": snapshot} if "$snapshot" in statement else None)
    rows, below = (_columns(tables, query, {}) for query in (_ROWS, _BELOW))
    tags = _columns(tables, _TAGS.format(condition=condition), parameters)
    signing = np.flatnonzero(tags["sign"].astype(bool))
    signs = [subject_of_tag(str(tags["sign"][at])) for at in signing]
    numbers = dict(tables.execute(_SUBJECTS, {"some": signs}).fetchall())
    signed = np.array([numbers.get(text, -1) for text in signs], dtype=np.int64)
    count = int(rows["manifest"].max(initial=-1)) + 1
    places = int(max(rows["repository"].max(initial=-1), tags["repository"].max(initial=-1))) + 1
    subjects = np.flatnonzero(rows["subject"] >= 0)
    none = np.array([], dtype=np.int64)
    graph = Graph(
        cast("pd.Series[str]", pd.Series(np.arange(count))),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=bool),
        [""] * places,
        rows["repository"],
        rows["manifest"],
        (none, none),
        (below["parent"], below["child"]),
        (tags["repository"], tags["manifest"]),
        ((subjects, rows["subject"][subjects]), (signing[signed >= 0], signed[signed >= 0])),
    )
    going = tags["going"].astype(bool)
    removed = removal(graph, going, known=~graph.untagged if is_storage else None)
    staying = pd.DataFrame({"number": np.unique(graph.manifest[~removed.gone]).astype(np.int64)})
    tables.register("staying", staying)
    for statement in _FREED:
        tables.execute(statement)
    ((blobs, size),) = tables.execute(_SUM).fetchall()
    tables.unregister("staying")
    return int(removed.going.sum()), int(removed.gone.sum()), blobs, size


def _columns(tables: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, object]) -> dict[str, Any]:
    """Return the columns of a query as arrays."""
    return dict(tables.execute(query, parameters).fetchnumpy())

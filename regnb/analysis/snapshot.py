"""Inventories as files: a folder of Parquet files for each, on a local disk or in any storage that fsspec reaches.

Below the URL that is saved to, ``<registry>-<when>/`` holds a file for each of an inventory's frames, with the columns
of :data:`regnb.tables.columns.COLUMNS`, and ``snapshot.json``: the layout's version (``schema``), the registry, the
times, the figures of the whole, and the rows and bytes of each file. It is written last: a folder without it was
cut short. What can be computed from these frames is not stored.

Schema 1: digests are text, but for ``layers``, whose ``manifest`` and ``digest`` are row numbers in ``blobs`` (from 0);
the media type and the size of a layer stand there, too. Files may have columns that are not known here, and may lack
some.

    >>> pandas.read_parquet(f"{url}/localhost-5000-20260301T120000.000000Z/tags.parquet")  # doctest: +SKIP
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from regnb.crawl.files import local_path, opened, reason, shown
from regnb.errors import StorageError
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import Frame, make

if TYPE_CHECKING:
    import fsspec

SCHEMA: Final = 1
"""The version of the layout that is written. Older ones can be read."""

_HEADER: Final = "snapshot.json"
_NAME: Final = re.compile(r".*-(\d{8}T\d{6}\.\d{6})Z(-\d+)?")
_LOOK: Final = "regnb snapshots URL lists what is there"
_LARGEST: Final = 2**63 - 1
_FIRST: Final = frozenset({"repositories", "tags", "manifests", "children", "layers", "blobs", "problems", "coverage"})
"""Files that every snapshot has had from the first version on."""
_DISTINCT: Final = frozenset({"digest", "config", "subject", "child", "manifest"})
"""Columns of texts that hardly repeat, so that a dictionary of them would only cost time."""


class Stored(NamedTuple):
    """What :func:`load` found: what an inventory is made of, in the order of its parameters."""

    registry: str
    started: datetime
    finished: datetime | None
    tables: dict[str, Frame]
    source: str


class _Figures(msgspec.Struct):
    repositories: int = 0
    tags: int = 0
    stored: int = 0
    pulled: int = 0
    disk: int = 0
    complete: bool = False


class _File(msgspec.Struct):
    rows: int
    size: int


class _Version(msgspec.Struct):
    schema: int


class _Header(msgspec.Struct):
    schema: int
    registry: str
    source: str
    started: datetime
    finished: datetime | None
    summary: dict[str, Any]
    files: dict[str, _File]

    @property
    def figures(self) -> _Figures:
        return msgspec.convert(self.summary, _Figures)


def save(  # noqa: PLR0917 -- what an inventory is made of
    url: str | Path,
    registry: str,
    started: datetime,
    finished: datetime | None,
    source: str,
    summary: Mapping[str, object],
    tables: Mapping[str, Frame],
) -> str:
    """Save an inventory as a folder of its own below ``url``. No other snapshot is ever overwritten.

    Args:
        url: A local folder, made if need be, or the URL of one (``s3://bucket/folder``), whose bucket must exist.
        registry: ``host:port``, or the storage's URL.
        started: When the reading began.
        finished: When it ended; None if it was interrupted.
        source: ``api`` or ``storage``.
        summary: The figures of the whole: repositories, tags, stored, pulled, disk, complete, and any others.
        tables: The frames, by name.

    Returns:
        Where the snapshot is, without credentials.

    Raises:
        StorageError: There is no such bucket, no permission, no space, or no answer.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> inventory.save("s3://backups/registry")  # doctest: +SKIP
        's3://backups/registry/localhost-5000-20260301T120000.000000Z'
    """
    files = {name: _encoded(name, table, tables["blobs"]) for name, table in tables.items()}
    header = _Header(
        SCHEMA,
        shown(registry),
        source,
        started,
        finished,
        dict(summary),
        {name: _File(len(tables[name]), len(data)) for name, data in files.items()},
    )
    stem = f"{re.sub('[^A-Za-z0-9.]+', '-', header.registry).strip('-.')[-100:]}-{_stamp(started)}"
    with opened(url, "write") as (fs, root):
        if fs.protocol == ("file", "local"):
            fs.makedirs(root, exist_ok=True)
        name, folder = _claim(fs, root, stem)
        written = []
        try:
            for path, data in {
                **{f"{folder}/{table}.parquet": data for table, data in files.items()},
                f"{folder}/{_HEADER}": msgspec.json.format(msgspec.json.encode(header)),
            }.items():
                written.append(path)
                fs.pipe_file(path, data)
        except BaseException:
            # A disk that is full needs the space more than anyone needs half a snapshot.
            for path in written:
                with suppress(Exception):
                    fs.rm_file(path)
            with suppress(Exception):
                fs.rmdir(folder)
            raise
    return f"{shown(url).rstrip('/')}/{name}"


def _stamp(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _claim(fs: fsspec.AbstractFileSystem, root: str, stem: str) -> tuple[str, str]:
    """Make a folder that was not there, and return its name and its path."""
    for number in range(1, 1000):
        name = stem if number == 1 else f"{stem}-{number}"
        folder = f"{root.rstrip('/')}/{name}"
        if not fs.exists(folder):
            with suppress(FileExistsError):
                # With parents, an object store would make a bucket of a name that was mistyped.
                fs.mkdir(folder, create_parents=False)
                return name, folder
    raise StorageError(f"{stem} was saved a thousand times", hint="save to another folder")


def is_snapshot(url: str | Path) -> bool:
    """Whether a URL is that of a snapshot.

    Raises:
        StorageError: No permission, or no answer.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> is_snapshot("/var/lib/registry")
        False
    """
    if path := local_path(url):
        return os.path.exists(f"{path}/{_HEADER}")  # noqa: PTH110 -- a text
    with opened(url, "read") as (fs, folder):
        return bool(fs.exists(f"{folder}/{_HEADER}"))


def load(url: str | Path, only: Collection[str] = ()) -> Stored:
    """Load a snapshot.

    Columns that its files lack are filled: 0, no, or missing. Unknown columns are ignored.

    Args:
        url: Of one snapshot, as :func:`save` returns it or :func:`snapshots` lists it.
        only: Names of the frames to read; by default all.

    Returns:
        What ``Inventory`` takes.

    Raises:
        StorageError: There is no such snapshot, it was cut short, it is damaged, or a newer regnb wrote it.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> load("s3://backups/registry/localhost-5000-20260301T120000.000000Z").registry  # doctest: +SKIP
        'localhost:5000'
    """
    named = shown(url)
    with opened(url, "read") as (fs, folder):
        header = _header(fs, folder, named)
        names = [name for name in header.files if name in COLUMNS and (not only or name in only)]
        if lacking := [name for name in _kept(only) if name in _FIRST and name not in names]:
            raise StorageError(f"{named} is damaged: {_HEADER} does not name {lacking[0]}.parquet", hint=_LOOK)
        if "layers" in names and "blobs" not in names:
            names.append("blobs")
        found = fs.cat_ranges([f"{folder}/{name}.parquet" for name in names], None, None)
        for name, data in zip(names, found, strict=True):
            if isinstance(data, FileNotFoundError):
                raise StorageError(f"{named} was cut short: {name}.parquet is missing", hint=_LOOK)
            if isinstance(data, Exception):
                raise data
            if len(data) != header.files[name].size:
                raise StorageError(
                    f"{named} was cut short: {name}.parquet has {len(data):,} of {header.files[name].size:,} bytes",
                    hint=_LOOK,
                )
    tables = {name: _decoded(f"{named}/{name}.parquet", name, data) for name, data in zip(names, found, strict=True)}
    return Stored(
        header.registry,
        header.started,
        header.finished,
        {name: _frame(named, name, tables, header) for name in _kept(only)},
        header.source,
    )


def _kept(only: Collection[str]) -> list[str]:
    stored = list(COLUMNS)[: list(COLUMNS).index("disk") + 1]
    return [name for name in stored if not only or name in only]


def snapshots(url: str | Path) -> Frame:
    """List the snapshots below a URL, the oldest first. Only their ``snapshot.json`` are read.

    Args:
        url: What was saved to.

    Returns:
        Columns as :data:`regnb.tables.columns.COLUMNS` has them, ``snapshots``. One that cannot be read says why
        in ``status``.

    Raises:
        StorageError: There is no such folder or bucket, no permission, or no answer.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> snapshots("s3://backups/registry")[["registry", "started", "stored"]]  # doctest: +SKIP
    """
    with opened(url, "read") as (fs, root):
        fs.invalidate_cache()
        folders = [
            entry["name"].rstrip("/") for entry in fs.ls(root, detail=True) if entry["type"] in ("directory", "other")
        ]
        found = fs.cat_ranges([f"{folder}/{_HEADER}" for folder in folders], None, None)
    rows = []
    for folder, data in zip(folders, found, strict=True):
        name = folder.rpartition("/")[2]
        mine = _NAME.fullmatch(name)
        if mine is None and isinstance(data, FileNotFoundError | NotADirectoryError):
            continue
        header, status = _listed(data)
        named = datetime.strptime(f"{mine[1]}Z", "%Y%m%dT%H%M%S.%f%z") if mine else None
        figures = header.figures if header else _Figures()
        rows.append(
            {
                "snapshot": name,
                "registry": header.registry if header else "",
                "started": header.started if header else named,
                "source": header.source if header else "",
                **{field: min(getattr(figures, field), _LARGEST) for field in figures.__struct_fields__},
                "complete": figures.complete,
                "schema": header.schema if header else 0,
                "status": status,
                "url": f"{shown(url).rstrip('/')}/{name}",
            }
        )
    frame = make("snapshots", {column: [row[column] for row in rows] for column in COLUMNS["snapshots"]})
    return frame.sort_values(["started", "snapshot"], ignore_index=True)


def _listed(data: bytes | Exception) -> tuple[_Header | None, str]:
    if isinstance(data, FileNotFoundError):
        return None, f"cut short: {_HEADER} is missing"
    if isinstance(data, Exception):
        return None, f"not readable: {reason(data)}"
    try:
        return _parsed(data, _HEADER), "ok"
    except StorageError as error:
        return None, error.message


def _header(fs: fsspec.AbstractFileSystem, folder: str, named: str) -> _Header:
    try:
        data = fs.cat_file(f"{folder}/{_HEADER}")
    except (FileNotFoundError, NotADirectoryError):
        if not fs.isdir(folder):
            raise StorageError(f"no such snapshot: {named}", hint=_LOOK) from None
        inside = [entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(folder, detail=False)]
        if "tags.parquet" in inside or _NAME.fullmatch(folder.rpartition("/")[2]):
            raise StorageError(f"{named} was cut short: {_HEADER} is missing", hint=_LOOK) from None
        below = sorted(filter(_NAME.fullmatch, inside))
        hint = f"name one of those that it holds, such as {below[-1]}" if below else _LOOK
        raise StorageError(f"not a snapshot: {named}", hint=hint) from None
    return _parsed(data, named)


def _parsed(data: bytes, named: str) -> _Header:
    try:
        version = msgspec.json.decode(data, type=_Version).schema
        if version > SCHEMA:
            raise StorageError(
                f"{named} was written by a newer regnb (schema {version}; this one reads {SCHEMA})",
                hint="pip install --upgrade regnb",
            )
        header = msgspec.json.decode(data, type=_Header)
        header.figures  # noqa: B018 -- is checked where it is read
        if header.started.tzinfo is None or (header.finished and header.finished.tzinfo is None):
            raise msgspec.ValidationError("times need a time zone")
    except msgspec.DecodeError as error:
        raise StorageError(f"{named} was cut short or is damaged: {error}", hint=_LOOK) from None
    return header


# Frames and Parquet


def _encoded(name: str, table: Frame, blobs: Frame) -> bytes:
    import pyarrow.parquet as pq  # noqa: PLC0415 -- `import regnb` stays light

    plain = pd.DataFrame(table)
    if name == "layers":
        plain = pd.DataFrame(
            {
                "manifest": _rows(plain["manifest"], blobs),
                "position": plain["position"],
                "digest": _rows(plain["digest"], blobs),
                "media_type": plain["media_type"],
                "command": plain["command"],
            }
        )
    repeated = [
        str(column)
        for column, dtype in plain.dtypes.items()
        if dtype == "category" or (dtype == "str" and column not in _DISTINCT)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pandas(plain, preserve_index=False),
        sink,
        compression="zstd",
        # One row group and one dictionary in it, whatever its size: a second one would repeat the texts.
        row_group_size=max(1, len(plain)),
        use_dictionary=repeated,
        dictionary_pagesize_limit=2**30,
        write_statistics=False,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def _rows(column: pd.Series[Any], blobs: Frame) -> pd.Series[int]:
    """Return the row in ``blobs`` of each digest; that of another digest of a blob stands behind all rows."""
    known = pc.index_in(
        pa.array(column.cat.categories, pa.large_string()),
        value_set=pa.array([*blobs["digest"], *blobs["alias"].dropna()], pa.large_string()),
    )
    places = known.to_numpy(zero_copy_only=False).astype(np.int32)
    return pd.Series(places[column.cat.codes])


def _decoded(named: str, name: str, data: bytes) -> pa.Table:
    import pyarrow.parquet as pq  # noqa: PLC0415 -- `import regnb` stays light

    known = [*COLUMNS[name]]
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            return file.read(columns=[column for column in file.schema_arrow.names if column in known])
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{named} is damaged: {str(error)[:200]}", hint=_LOOK) from None


def _frame(named: str, name: str, tables: Mapping[str, pa.Table], header: _Header) -> Frame:
    table = tables.get(name)
    if table is None:
        table = pa.table({})
    elif table.num_rows != header.files[name].rows:
        raise StorageError(
            f"{named} is damaged: {name}.parquet has {table.num_rows:,} of {header.files[name].rows:,} rows", hint=_LOOK
        )
    try:
        columns = {column: _column(table[column]) for column in table.column_names}
        if name == "layers" and columns:
            columns = _layers(columns, tables["blobs"])
        index = pd.RangeIndex(table.num_rows)
        for column, (dtype, _) in COLUMNS[name].items():
            if column not in columns:
                filler = {"int64": 0, "int32": 0, "bool": False}.get(dtype)
                columns[column] = pd.Series(filler, index=index, dtype=dtype)
        return make(name, columns)
    except (pa.ArrowException, ValueError, TypeError, IndexError, KeyError) as error:
        raise StorageError(f"{named}/{name}.parquet is damaged: {str(error)[:200]}", hint=_LOOK) from None


def _column(column: pa.ChunkedArray) -> Any:  # noqa: ANN401 -- a Series or a Categorical
    if not pa.types.is_dictionary(column.type):
        return pa.table({"column": column}).to_pandas()["column"]
    whole = column.combine_chunks()
    codes = whole.indices.fill_null(-1).to_numpy()
    return pd.Categorical.from_codes(codes, _text(whole.dictionary))


def _text(array: Any) -> Any:  # noqa: ANN401 -- an array and an Index
    return pd.Index(pa.table({"text": array}).to_pandas()["text"], dtype="str")


def _layers(columns: dict[str, Any], blobs: pa.Table) -> dict[str, Any]:
    """Return the columns of layers, whose digests are rows of ``blobs`` in the file."""
    digest = columns["digest"].to_numpy()
    names = blobs["digest"].combine_chunks()
    stored = np.arange(blobs.num_rows)
    if "alias" in blobs.column_names:
        aliased = np.flatnonzero(blobs["alias"].is_valid().to_numpy())
        names = pa.concat_arrays([names, blobs["alias"].drop_null().cast(names.type).combine_chunks()])
        stored = np.append(stored, aliased)
    row = stored[digest]
    # The first snapshots had a media type for each blob alone.
    known = blobs["media_type"].combine_chunks().dictionary_encode()
    media_type = pd.Categorical.from_codes(known.indices.to_numpy()[row], _text(known.dictionary))
    return {
        "media_type": media_type,
        **columns,
        "manifest": _digests(columns["manifest"].to_numpy(), names),
        "digest": _digests(digest, names),
        "size": blobs["size"].to_numpy()[row],
    }


def _digests(rows: Any, names: pa.Array) -> Any:  # noqa: ANN401 -- an array and a Categorical
    codes, used = pd.factorize(rows)
    return pd.Categorical.from_codes(codes, _text(names.take(pa.array(used))))

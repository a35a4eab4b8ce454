"""Inventories as files: a folder of Parquet files for each, on a local disk or in any storage that fsspec reaches.

Below the URL that is saved to, ``registry=<name>/date=<day>/snapshot=<name>-<time>/`` holds a file for each of an
inventory's frames, with the columns of :data:`regnb.tables.columns.COLUMNS`, and ``snapshot.json``: the layout's
version (``schema``), the registry, the times, the figures of the whole, and the rows and bytes of each file. It is
written last: a folder without it was cut short. What can be computed from these frames is not stored.
``docs/snapshots.md`` has every column.

Files may have columns that are not known here, and may lack some. Schema 1, which is still read, had one folder,
``<registry>-<time>``. Its ``layers`` had row numbers of ``blobs`` (from 0) as ``manifest`` and ``digest``; media type
and size stood in ``blobs``.

    >>> import pandas
    >>> len(pandas.read_parquet(f"{inventory.save('snapshots')}/tags.parquet"))
    55
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
import pandas as pd
import pyarrow as pa

from regnb.crawl.files import local_path, opened, reason
from regnb.crawl.records import Source
from regnb.errors import StorageError
from regnb.tables.age import believed
from regnb.tables.columns import COLUMNS, INVENTORY
from regnb.tables.frame import Frame, make, told
from regnb.tables.write import arrow, write_parquet
from regnb.text import redact

if TYPE_CHECKING:
    import fsspec

SCHEMA: Final = 2
"""The version of the layout that is written. Older ones can be read."""

_HEADER: Final = "snapshot.json"
_NAME: Final = re.compile(r".*-(\d{8}T\d{6}\.\d{6})Z(-\d+)?")
_PARTITION: Final = re.compile(r"(registry|date)=.+")
_LOOK: Final = "regnb snapshots URL lists what is there"
_LARGEST: Final = 2**63 - 1
_FIRST: Final = frozenset({"repositories", "tags", "manifests", "children", "layers", "blobs", "problems", "coverage"})
"""Files that every snapshot has had from the first version on."""
_MADE: Final = frozenset({"created", "newest"})
"""Columns that say when an image was made."""
_DISTINCT: Final = frozenset({"digest", "config", "subject"})
"""Columns of texts that hardly repeat, so that a dictionary of them would only cost time; not where they are listed."""


class Stored(NamedTuple):
    """What :func:`load` found: what an inventory is made of, in the order of its parameters."""

    registry: str
    started: datetime
    finished: datetime | None
    tables: dict[str, Frame]
    source: Source
    asked: tuple[str, ...] | None = None


class _Figures(msgspec.Struct):
    repositories: int = 0
    tags: int = 0
    stored: int = 0
    pulled: int = 0
    disk: int | None = None
    complete: bool = False


class _File(msgspec.Struct):
    rows: int
    size: int


class _Version(msgspec.Struct):
    schema: int


class _Header(msgspec.Struct):
    schema: int
    registry: str
    source: Source
    started: datetime
    finished: datetime | None
    summary: dict[str, object]
    files: dict[str, _File]

    @property
    def figures(self) -> _Figures:
        found = msgspec.convert(self.summary, _Figures)
        # An earlier regnb wrote 0.
        found.disk = None if self.source == "api" else found.disk
        return found


def save(  # noqa: PLR0917 -- what an inventory is made of
    url: str | Path,
    registry: str,
    started: datetime,
    finished: datetime | None,
    source: Source,
    summary: Mapping[str, object],
    tables: Mapping[str, Frame],
) -> str:
    """Save an inventory as a folder of its own below ``url``. No other snapshot is ever overwritten.

    Args:
        url: A local folder, made if need be, or the URL of one (``s3://bucket/folder``), whose bucket must exist.
        registry: ``host:port``, or the storage's URL.
        started: When the reading began.
        finished: When it ended; None if it was interrupted.
        source: ``api``, ``storage`` or ``layout``.
        summary: The figures of the whole: repositories, tags, stored, pulled, disk, complete, and any others.
        tables: The frames, by name.

    Returns:
        Where the snapshot is, without credentials.

    Raises:
        StorageError: There is no such bucket, no permission, no space, or no answer.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> inventory.save("backups")
        'backups/registry=.../date=.../snapshot=...Z'
    """
    files = {name: _encoded(name, table) for name, table in tables.items()}
    header = _Header(
        SCHEMA,
        redact(registry),
        source,
        started,
        finished,
        dict(summary),
        {name: _File(len(tables[name]), len(data)) for name, data in files.items()},
    )
    day = f"{started.astimezone(UTC):%Y-%m-%d}"
    # The name is not a date alone, which engines would parse, each in its own way.
    name = re.sub("[^A-Za-z0-9.]+", "-", header.registry).strip("-.")[-100:]
    stem = f"registry={quote(header.registry, safe='')[:200]}/date={day}/snapshot={name}-{_stamp(started)}"
    with opened(url, "write") as (filesystem, root):
        if filesystem.protocol == ("file", "local"):
            filesystem.makedirs(root, exist_ok=True)
        name, folder = _claim(filesystem, root, stem)
        written = []
        try:
            for path, data in {
                **{f"{folder}/{table}.parquet": data for table, data in files.items()},
                f"{folder}/{_HEADER}": msgspec.json.format(msgspec.json.encode(header)),
            }.items():
                written.append(path)
                filesystem.pipe_file(path, data)
        except BaseException:
            # A disk that is full needs the space more than anyone needs half a snapshot.
            for path in written:
                with suppress(Exception):
                    filesystem.rm_file(path)
            for path in (folder, *_parents(folder)):
                with suppress(Exception):
                    filesystem.rmdir(path)  # of what others use this is refused
            raise
    return f"{redact(url).rstrip('/')}/{name}"


def _stamp(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def _claim(filesystem: fsspec.AbstractFileSystem, root: str, stem: str) -> tuple[str, str]:
    """Make a folder that was not there, and return its name and its path."""
    for number in range(1, 1000):
        name = stem if number == 1 else f"{stem}-{number}"
        folder = f"{root.rstrip('/')}/{name}"
        if not filesystem.exists(folder):
            for path in reversed(_parents(folder)):
                with suppress(FileExistsError):
                    filesystem.mkdir(path, create_parents=False)
            with suppress(FileExistsError):
                # With parents, an object store would make a bucket of a name that was mistyped.
                filesystem.mkdir(folder, create_parents=False)
                return name, folder
    raise StorageError(f"{stem} was saved a thousand times", hint="save to another folder")


def _parents(folder: str) -> tuple[str, str]:
    """Return the folders of a snapshot's day and of its registry."""
    day = folder.rpartition("/")[0]
    return day, day.rpartition("/")[0]


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
    with opened(url, "read") as (filesystem, folder):
        return bool(filesystem.exists(f"{folder}/{_HEADER}"))


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
        >>> load(inventory.save("snapshots"))[0]
        'localhost:5000'
    """
    named = redact(url)
    with opened(url, "read") as (filesystem, folder):
        header = _header(filesystem, folder, named)
        names = [name for name in header.files if name in INVENTORY and (not only or name in only)]
        if lacking := [name for name in _kept(only) if name in _FIRST and name not in names]:
            raise StorageError(f"{named} is damaged: {_HEADER} does not name {lacking[0]}.parquet", hint=_LOOK)
        if header.schema == 1 and "layers" in names and "blobs" not in names:
            names.append("blobs")
        found = filesystem.cat_ranges([f"{folder}/{name}.parquet" for name in names], None, None)
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
    return [name for name in INVENTORY if not only or name in only]


def _folders(filesystem: fsspec.AbstractFileSystem, root: str) -> list[str]:
    """Return the paths below ``root`` that may be snapshots, of each version of the layout."""
    found = set()
    for entry in filesystem.ls(root, detail=True):
        path = entry["name"].rstrip("/")
        if entry["type"] not in ("directory", "other"):
            continue
        if not _PARTITION.fullmatch(path.rpartition("/")[2]):
            found.add(path)
            continue
        # One listing of everything below, which in a bucket costs less than one for each day.
        for below in filesystem.find(path, withdirs=True):
            parts = below[len(path) :].split("/")
            at = next((at for at, part in enumerate(parts) if _NAME.fullmatch(part)), None)
            if at is not None and all(map(_PARTITION.fullmatch, parts[1:at])):
                found.add(path + "/".join(parts[: at + 1]))
    return sorted(found)


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
        >>> snapshots("snapshots")[["tags", "complete"]].tail(2)
           tags complete
        9    55      yes
        10   55      yes
    """
    with opened(url, "read") as (filesystem, root):
        filesystem.invalidate_cache()
        folders = _folders(filesystem, root)
        found = filesystem.cat_ranges([f"{folder}/{_HEADER}" for folder in folders], None, None)
    rows = []
    for folder, data in zip(folders, found, strict=True):
        name = _below(folder)
        mine = _NAME.fullmatch(name.rpartition("/")[2])
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
                **{
                    field: None if value is None else min(value, _LARGEST)
                    for field, value in msgspec.structs.asdict(figures).items()
                },
                "complete": figures.complete,
                "schema": header.schema if header else 0,
                "status": status,
                "url": f"{redact(url).rstrip('/')}/{name}",
            }
        )
    frame = make("snapshots", {column: [row[column] for row in rows] for column in COLUMNS["snapshots"]})
    return frame.sort_values(["started", "snapshot"], ignore_index=True)


def thin(url: str | Path, days: int) -> list[str]:
    """Remove old snapshots: of those older than so many days, the last one of each month stays.

    Of each registry and kind of source the newest stays, too. What cannot be read is not a snapshot to this, and stays.

    Args:
        url: What was saved to.
        days: Younger ones stay.

    Returns:
        The names of those that were removed.

    Raises:
        StorageError: There is no such folder or bucket, no permission, or no answer.

    Example:
        >>> removed = thin("snapshots", 60)
    """
    found = snapshots(url)
    known = found[found["status"] == "ok"]
    old = known["started"] < datetime.now(UTC) - timedelta(days=days)
    kind = [known["registry"], known["source"]]
    last = known.groupby(kind, observed=True).cumcount(ascending=False) == 0
    month = known["started"].dt.strftime("%Y-%m")
    ends = known.groupby([*kind, month], observed=True).cumcount(ascending=False) == 0
    goes: list[str] = known.loc[old & ~last & ~ends, "snapshot"].to_list()
    with opened(url, "remove old snapshots from") as (filesystem, root):
        for name in goes:
            folder = f"{root.rstrip('/')}/{name}"
            # Without its header it is none any more, so that a removal that is cut off leaves no half of one.
            filesystem.rm_file(f"{folder}/{_HEADER}")
            for path in filesystem.ls(folder, detail=False):
                if path.endswith(".parquet"):
                    filesystem.rm_file(path)
            with suppress(OSError):  # what somebody else put there stays; a bucket has no folders
                filesystem.rmdir(folder)
    return goes


def _below(folder: str) -> str:
    """Return the path of a snapshot from the URL on that it was saved to."""
    parts = folder.split("/")
    first = len(parts) - 1
    while first and _PARTITION.fullmatch(parts[first - 1]):
        first -= 1
    return "/".join(parts[first:])


def _listed(data: bytes | Exception) -> tuple[_Header | None, str]:
    if isinstance(data, FileNotFoundError):
        return None, f"cut short: {_HEADER} is missing"
    if isinstance(data, Exception):
        return None, f"not readable: {reason(data)}"
    try:
        return _parsed(data, _HEADER), "ok"
    except StorageError as error:
        return None, error.message


def _header(filesystem: fsspec.AbstractFileSystem, folder: str, named: str) -> _Header:
    try:
        data = filesystem.cat_file(f"{folder}/{_HEADER}")
    except (FileNotFoundError, NotADirectoryError):
        if not filesystem.isdir(folder):
            raise StorageError(f"no such snapshot: {named}", hint=_LOOK) from None
        inside = [entry.rstrip("/").rpartition("/")[2] for entry in filesystem.ls(folder, detail=False)]
        if "tags.parquet" in inside or _NAME.fullmatch(folder.rpartition("/")[2]):
            raise StorageError(f"{named} was cut short: {_HEADER} is missing", hint=_LOOK) from None
        below = [_below(path) for path in _folders(filesystem, folder) if _NAME.fullmatch(path.rpartition("/")[2])]
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


def _encoded(name: str, table: Frame) -> bytes:
    repeated = [
        column
        for column, (dtype, _) in COLUMNS[name].items()
        if dtype == "category" or (dtype == "str" and column not in _DISTINCT)
    ]
    sink = pa.BufferOutputStream()
    write_parquet(
        arrow(name, table),
        sink,
        use_dictionary=repeated,
        # One dictionary in a group, whatever its size: a second one would repeat the texts.
        dictionary_pagesize_limit=2**30,
        write_statistics=[column for column in COLUMNS[name] if column in ("repository", "tag", "created", "size")],
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def _decoded(named: str, name: str, data: bytes) -> pa.Table:
    import pyarrow.parquet as pq  # `import regnb` stays light

    known = COLUMNS[name]
    try:
        there = [column for column in pq.read_schema(pa.BufferReader(data)).names if column in known]
        repeated = [column for column in there if known[column][0] == "category"]
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, read_dictionary=repeated) as file:
            return file.read(columns=there)
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
        if name == "layers" and columns and header.schema == 1:
            columns = _layers(columns, tables["blobs"])
        index = pd.RangeIndex(table.num_rows)
        for column, (dtype, _) in COLUMNS[name].items():
            if column in _MADE and column in columns:
                # An earlier regnb took a builder's placeholder for a date.
                columns[column] = believed(columns[column], header.started)
            if column not in columns:
                filler = {"int64": 0, "int32": 0, "bool": False}.get(dtype)
                columns[column] = pd.Series(filler, index=index, dtype=dtype)
        return told(name, make(name, columns), header.source)  # an earlier regnb wrote 0
    except (pa.ArrowException, ValueError, TypeError, IndexError, KeyError) as error:
        raise StorageError(f"{named}/{name}.parquet is damaged: {str(error)[:200]}", hint=_LOOK) from None


def _column(column: pa.ChunkedArray) -> Any:  # noqa: ANN401 -- a Series or a Categorical
    if not pa.types.is_dictionary(column.type):
        return pa.table({"column": column}).to_pandas()["column"]
    whole = column.unify_dictionaries().combine_chunks()  # each group of rows has its own
    codes = whole.indices.fill_null(-1).to_numpy()
    return pd.Categorical.from_codes(codes, _text(whole.dictionary))


def _text(array: object) -> Any:  # noqa: ANN401 -- an array and an Index
    return pd.Index(pa.table({"text": array}).to_pandas()["text"], dtype="str")


def _layers(columns: dict[str, Any], blobs: pa.Table) -> dict[str, object]:
    """Return the columns of layers, whose digests are rows of ``blobs`` in the file."""
    digest = columns["digest"].to_numpy()
    names = blobs["digest"].combine_chunks()
    # The first snapshots had a media type for each blob alone.
    known = blobs["media_type"].combine_chunks().dictionary_encode()
    media_type = pd.Categorical.from_codes(known.indices.to_numpy()[digest], _text(known.dictionary))
    return {
        "media_type": media_type,
        **columns,
        "manifest": _digests(columns["manifest"].to_numpy(), names),
        "digest": _digests(digest, names),
        "size": blobs["size"].to_numpy()[digest],
    }


def _digests(rows: Any, names: pa.Array) -> object:  # noqa: ANN401 -- an array and a Categorical
    codes, used = pd.factorize(rows)
    return pd.Categorical.from_codes(codes, _text(names.take(pa.array(used))))

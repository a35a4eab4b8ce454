"""A bucket's listing as S3 Inventory delivers it: a manifest, and files of Parquet, ORC or CSV that it names."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import unquote_plus

import msgspec

from regnb.crawl.files import local_path, opened
from regnb.errors import StorageError
from regnb.text import redact

if TYPE_CHECKING:
    import fsspec
    import pyarrow as pa

_COLUMNS: Final = {
    "Bucket": "bucket", "Key": "key", "IsLatest": "is_latest", "IsDeleteMarker": "is_delete_marker", "Size": "size",
    "LastModifiedDate": "last_modified_date", "ETag": "e_tag",
}  # fmt: skip
"""Fields as a manifest names them for CSV, and as the columns of the other formats are called."""
_HINT: Final = "let S3 deliver an inventory of the whole bucket, with the fields Size, LastModifiedDate and ETag"


class _Part(msgspec.Struct):
    """One file of a listing."""

    key: str
    checksum: str = msgspec.field(name="MD5checksum", default="")


class _Manifest(msgspec.Struct, rename="camel"):
    """What is said of a listing."""

    source_bucket: str
    creation_timestamp: int
    file_format: Literal["CSV", "ORC", "Parquet"]
    file_schema: str
    files: list[_Part]


class Key(NamedTuple):
    """One key of a bucket; ``when`` is in seconds, 0 where it is not told; ``tag`` is its ETag, or ""."""

    name: str
    size: int
    when: float
    tag: str


class Delivered:
    """An S3 Inventory: which keys a bucket had at one time.

    Args:
        url: Its ``manifest.json``: in the bucket to which it was delivered, or copied with its files to a folder.
        options: For the file system, as fsspec takes them.

    Attributes:
        bucket: The name of the bucket whose keys it lists.
        when: When S3 began to list them.
        gets: How many requests reading it took.

    Raises:
        StorageError: It is not there, or no such manifest.

    Example:
        >>> Delivered("s3://lists/registry/all/2026-11-28T01-00Z/manifest.json").when  # doctest: +SKIP
    """

    def __init__(self, url: str, options: Mapping[str, object]) -> None:
        self._url = url
        self._options = {} if local_path(url) else options
        self.gets = 1
        with opened(url, "read", **self._options) as (filesystem, path):
            data = filesystem.cat_file(path)
        try:
            self._manifest = msgspec.json.decode(data, type=_Manifest, strict=False)
            self.when = datetime.fromtimestamp(self._manifest.creation_timestamp / 1000, UTC)
        except (msgspec.MsgspecError, ValueError, OverflowError, OSError, RecursionError) as error:
            text = f"not the manifest of an S3 Inventory: {redact(url)}: {error}"
            raise StorageError(text, hint="name the manifest.json that S3 delivered") from None
        self.bucket = self._manifest.source_bucket.removeprefix("arn:aws:s3:::")

    def below(self, folder: str) -> Iterator[Key]:
        """Yield every key below a folder of the bucket, as it was when the listing was made.

        Raises:
            StorageError: A file of it is not there or not whole, or it does not tell the sizes.

        Example:
            ``for key in delivered.below("prefix/docker/registry/v2"): ...``
        """
        with opened(self._url, "read", **self._options) as (filesystem, path):
            for part in self._manifest.files:
                data = self._part(filesystem, path, part)
                yield from _keys(self._table(data), f"{folder}/")

    def _part(self, filesystem: fsspec.AbstractFileSystem, manifest: str, part: _Part) -> bytes:
        """Return the bytes of a file: whatever is missing of a listing would be taken for deleted."""
        self.gets += 1
        try:
            data: bytes = filesystem.cat_file(self._place(filesystem, manifest, part.key))
        except FileNotFoundError:
            text = f"the S3 Inventory {redact(self._url)} is not whole: {part.key} is not there"
            raise StorageError(text, hint="name a newer one, or copy all its files") from None
        if part.checksum and hashlib.md5(data, usedforsecurity=False).hexdigest() != part.checksum.lower():
            text = f"the S3 Inventory {redact(self._url)} is damaged: {part.key} is not what its manifest says"
            raise StorageError(text, hint="name a newer one, or copy it again")
        return data

    def _place(self, filesystem: fsspec.AbstractFileSystem, manifest: str, key: str) -> str:
        """Return where a file is: at its key in the manifest's bucket, or likewise below some folder, or beside it."""
        if not local_path(self._url):
            return f"{manifest.lstrip('/').partition('/')[0]}/{key}"
        inside = PurePosixPath("/", key).relative_to("/")
        if ".." in inside.parts:
            raise FileNotFoundError(key)
        folders = PurePosixPath(manifest).parents
        places = (*(str(folder / inside) for folder in folders), str(folders[0] / inside.name))
        return next((place for place in places if filesystem.isfile(place)), places[-1])

    def _table(self, data: bytes) -> pa.Table:
        """Return the columns that matter, under one name whatever the format."""
        import pyarrow as pa
        from pyarrow import csv, orc, parquet

        wanted = [*_COLUMNS.values()]
        source = io.BytesIO(data)
        if self._manifest.file_format == "Parquet":
            file = parquet.ParquetFile(source)
            return file.read(columns=[name for name in wanted if name in file.schema_arrow.names])
        if self._manifest.file_format == "ORC":
            stripes = orc.ORCFile(source)
            return stripes.read(columns=[name for name in wanted if name in stripes.schema.names])
        fields = [name.strip() for name in self._manifest.file_schema.split(",")]
        names = [_COLUMNS.get(name, name) for name in fields]
        table = csv.read_csv(
            pa.input_stream(source, compression="gzip"),
            read_options=csv.ReadOptions(column_names=names),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=[one for one in wanted if one in names]
            ),
        )
        at = table.column_names.index("key") if "key" in table.column_names else -1
        decoded = pa.array([unquote_plus(text) for text in table["key"].to_pylist()], pa.string())
        return table.set_column(at, "key", decoded)


def _keys(table: pa.Table, prefix: str) -> Iterator[Key]:
    """Yield the keys that a table lists below a prefix: of versions the latest, and none that was removed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = table.column_names
    if not {"key", "size"} <= {*names}:
        raise StorageError("the S3 Inventory does not tell the keys with their sizes", hint=_HINT)
    keep = pc.starts_with(pc.cast(table["key"], pa.string()), prefix)
    for name, value in (("is_latest", True), ("is_delete_marker", False)):
        if name in names:
            column = table[name]
            if pa.types.is_string(column.type):
                column = pc.equal(pc.utf8_lower(column), "true")
            keep = pc.and_(keep, pc.equal(pc.fill_null(pc.cast(column, pa.bool_()), value), value))
    table = table.filter(keep)
    none = pa.nulls(len(table))
    sizes = pc.cast(table["size"], pa.int64())
    dated = table["last_modified_date"] if "last_modified_date" in names else none
    times = pc.cast(pc.cast(dated, pa.timestamp("ms", "UTC"), safe=False), pa.int64())
    tags = table["e_tag"] if "e_tag" in names else none
    columns = (table["key"], sizes, times, tags)
    for key, size, when, tag in zip(*(column.to_pylist() for column in columns), strict=True):
        yield Key(key, size or 0, (when or 0) / 1000, tag or "")

"""Frames in a file that several processes map into their memory: all of them share one copy.

The file is Arrow's: for each frame a stream, one after the other, behind an empty one that says what they are of. It
is written whole before anybody reads it, and never changed: a mapping of it stays valid when it is replaced or removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.ipc

from regnb.tables.columns import COLUMNS, INVENTORY
from regnb.tables.frame import Frame
from regnb.tables.write import arrow

_ABOUT: Final = b"about"
_ROWS: Final = b"rows"


def write(file: IO[bytes], about: bytes, frames: Mapping[str, Frame]) -> None:
    """Write the frames of an inventory.

    Args:
        file: Open for writing.
        about: What is to be known of them.
        frames: Those of :data:`regnb.tables.columns.INVENTORY`.

    Example:
        ``write(file, b"localhost:5000", inventory.frames)``
    """
    # One batch each: a column of several could not be used as it lies there.
    tables = [arrow(name, frames[name]).combine_chunks() for name in INVENTORY]
    rows = msgspec.json.encode([table.num_rows for table in tables])
    for table in (pa.table({}).replace_schema_metadata({_ABOUT: about, _ROWS: rows}), *tables):
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)


def read(path: str | Path) -> tuple[bytes, dict[str, Frame]]:
    """Map a file, and return what it is about and its frames. What cannot be used as it lies there is copied.

    Raises:
        ValueError: It is not such a file, or was cut short.
        OSError: It cannot be read.

    Example:
        ``about, frames = read("reading.arrow")``
    """
    alone = pa.ipc.IpcReadOptions(use_threads=False)  # there is nothing to do but to say where each column begins
    with pa.memory_map(str(path)) as file:
        first, *tables = (pa.ipc.open_stream(file, options=alone).read_all() for _ in range(len(INVENTORY) + 1))
    told = first.schema.metadata or {}
    if told.get(_ROWS) != msgspec.json.encode([table.num_rows for table in tables]):
        raise ValueError(f"{path} was cut short")
    return told[_ABOUT], {name: _frame(name, table) for name, table in zip(INVENTORY, tables, strict=True)}


def _frame(name: str, table: pa.Table) -> Frame:
    columns = {column: _column(table[column], dtype) for column, (dtype, _) in COLUMNS[name].items()}
    original = Frame(columns, copy=False)
    frame = Frame(original, copy=False)
    frame.original = original
    return frame


def _column(column: pa.ChunkedArray, dtype: str) -> pd.Series:
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if dtype == "category":
        names = pd.Index(_series(whole.dictionary).array, dtype="str", copy=False)
        # Each category stands there once, as it was written: to check that would make an object of each.
        known = cast("Any", pd.CategoricalDtype)._from_fastpath(names, ordered=False)  # noqa: SLF001 -- no other way
        codes = whole.indices
        numbers = codes.fill_null(-1).to_numpy() if codes.null_count else codes.to_numpy(zero_copy_only=True)
        return pd.Series(pd.Categorical.from_codes(numbers, dtype=known), copy=False)
    if dtype in ("int64", "int32"):
        return pd.Series(whole.to_numpy(zero_copy_only=True), copy=False)
    return _series(whole, dtype).astype(pd.api.types.pandas_dtype(dtype))


def _series(array: pa.Array, dtype: str = "str") -> pd.Series:
    # Integers with a missing one would else become floats, which are exact up to 2**53 only.
    kinds = {pa.int64(): pd.Int64Dtype()} if dtype == "Int64" else {}
    found: pd.Series = pa.table({"column": array}).to_pandas(types_mapper=kinds.get, use_threads=False)["column"]
    return found

"""Frames as files: Parquet, CSV or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument
from regnb.tables.columns import COLUMNS
from regnb.text import FORMULA

# A command that only checks where it would write makes no frame.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from regnb.tables.frame import Frame

PARQUET: Final = {
    "str": "string",
    "category": "string",
    "int64": "int64",
    "Int64": "int64",
    "int32": "int32",
    "float64": "double",
    "bool": "boolean",
    "boolean": "boolean",
    "datetime64[us, UTC]": "timestamp (microseconds, UTC)",
}
"""What a column's dtype is in a file of Parquet, whatever it holds."""

_ROWS: Final = 2**20
"""Rows of a group: engines read groups side by side, and each has its own dictionaries."""

Format = Literal["parquet", "csv", "jsonl"]


def check_format(form: str) -> Format:
    """Return the name of a file format.

    Raises:
        InvalidArgument: It is not one.

    Example:
        >>> check_format("csv")
        'csv'
    """
    if form not in ("parquet", "csv", "jsonl"):
        raise InvalidArgument(f"unknown format: {form!r}", hint="choose parquet, csv or jsonl")
    return cast("Format", form)


def json_lines(frame: pd.DataFrame) -> str:
    r"""Return a frame as JSON lines, one for each row.

    Example:
        >>> import pandas as pd
        >>> json_lines(pd.DataFrame({"tag": ["8"]}))
        '{"tag":"8"}\n'
    """
    return frame.to_json(orient="records", lines=True, date_format="iso") if len(frame) else ""


def csv(frame: pd.DataFrame) -> str:
    r"""Return a frame as CSV with a heading; a text that a spreadsheet would run as a formula gets an apostrophe.

    Example:
        >>> import pandas as pd
        >>> csv(pd.DataFrame({"tag": ["8", "=1+1"]}))
        "tag\n8\n'=1+1\n"
    """
    return str(_defused(frame).to_csv(index=False))


def make_folder(folder: Path) -> None:
    """Make a folder to write into, unless it is there.

    Raises:
        StorageError: It cannot be made.
    """
    with file_errors(f"write to {folder}", "name a folder that you may write to"):
        folder.mkdir(parents=True, exist_ok=True)


def arrow(name: str, frame: pd.DataFrame) -> pa.Table:
    """Return a frame of :data:`regnb.tables.columns.COLUMNS` for :func:`write_parquet`.

    Example:
        >>> import pandas as pd
        >>> arrow("catalog", pd.DataFrame({"repository": ["vm/centos8"]})).num_rows
        1
    """
    import pyarrow as pa  # `import regnb` stays light

    text = pa.large_string()
    types = {"string": text, "boolean": pa.bool_(), "double": pa.float64(), "int64": pa.int64(), "int32": pa.int32()}
    types[PARQUET["datetime64[us, UTC]"]] = pa.timestamp("us", "UTC")
    columns = {}
    for column, (dtype, _) in COLUMNS[name].items():
        values: Any = frame[column]
        if values.dtype == "category":
            # A dictionary is written as it is: the file's schema has texts, and says nothing of the dictionary's width.
            codes = values.cat.codes.to_numpy()
            texts = pa.array(values.cat.categories, text, from_pandas=True)
            columns[column] = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), texts)
        else:
            columns[column] = pa.array(values, types[PARQUET[dtype]], from_pandas=True)
    return pa.table(columns)


def write_parquet(table: pa.Table, where: object, **options: object) -> None:
    """Write a table with the schema that Parquet itself has for it, the same whatever the columns hold.

    Args:
        table: Of :func:`arrow`.
        where: A path, or a file that is open for writing.
        options: For ``pyarrow.parquet.ParquetWriter``.
    """
    import pyarrow.parquet as pq  # `import regnb` stays light

    # Arrow's own schema would be written beside it, with a width for each dictionary that follows its length: the files
    # of two days could then not be read as one.
    with pq.ParquetWriter(
        where, _compact(table.slice(0, 0)).schema, compression="zstd", store_schema=False, **options
    ) as file:
        for start in range(0, max(1, len(table)), _ROWS):
            file.write_table(_compact(table.slice(start, _ROWS)))


def _compact(table: pa.Table) -> pa.Table:
    """Return a part of a table with dictionaries of what it names alone: each goes into the file as a whole."""
    import pyarrow as pa

    for at, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):
            whole = column.combine_chunks()
            codes = whole.indices.dictionary_encode()
            some = pa.DictionaryArray.from_arrays(codes.indices, whole.dictionary.take(codes.dictionary))
            table = table.set_column(at, table.field(at).name, some)
    return table


def write(frames: Mapping[str, Frame], folder: Path, form: Format = "parquet") -> list[Path]:
    """Write each frame into ``folder`` as Parquet, CSV or JSON lines, and return the paths.

    A text that a spreadsheet would run as a formula is written into CSV with an apostrophe before it.

    Raises:
        InvalidArgument: Another format.
        StorageError: The folder cannot be written.

    Example:
        >>> write(inventory.frames, Path("out"), "csv")[0].as_posix()
        'out/repositories.csv'
    """
    check_format(form)
    make_folder(folder)
    paths = []
    with file_errors(f"write to {folder}"):
        for name, frame in frames.items():
            path = folder / f"{name}.{form}"
            if form == "parquet":
                write_parquet(arrow(name, frame), path)
            elif form == "csv":
                path.write_text(csv(frame), encoding="utf-8", newline="")
            else:
                path.write_text(json_lines(frame), encoding="utf-8")
            paths.append(path)
    return paths


def _defused(frame: pd.DataFrame) -> pd.DataFrame:
    texts = [name for name, dtype in frame.dtypes.items() if dtype in ("str", "category")]
    return frame.assign(
        **{str(name): frame[name].astype("str").str.replace(FORMULA, r"'\1", regex=True) for name in texts}
    )

"""Frames as files: Parquet, CSV or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

import pandas as pd

from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument
from regnb.tables.frame import Frame

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
        >>> json_lines(Frame({"tag": ["8"]}))
        '{"tag":"8"}\n'
    """
    return frame.to_json(orient="records", lines=True, date_format="iso") if len(frame) else ""


def make_folder(folder: Path) -> None:
    """Make a folder to write into, unless it is there.

    Raises:
        StorageError: It cannot be made.
    """
    with file_errors(f"write to {folder}", "name a folder that you may write to"):
        folder.mkdir(parents=True, exist_ok=True)


def write(frames: Mapping[str, Frame], folder: Path, form: Format = "parquet") -> list[Path]:
    """Write each frame into ``folder`` as Parquet, CSV or JSON lines, and return the paths.

    A text that a spreadsheet would run as a formula is written into CSV with an apostrophe before it.

    Raises:
        InvalidArgument: Another format.
        StorageError: The folder cannot be written.

    Example:
        >>> write(inventory.frames, Path("out"), "csv")  # doctest: +SKIP
    """
    check_format(form)
    make_folder(folder)
    paths = []
    with file_errors(f"write to {folder}"):
        for name, frame in frames.items():
            path = folder / f"{name}.{form}"
            plain = pd.DataFrame(frame)
            if form == "parquet":
                plain.to_parquet(path, index=False)
            elif form == "csv":
                _defused(plain).to_csv(path, index=False)
            else:
                path.write_text(json_lines(plain), encoding="utf-8")
            paths.append(path)
    return paths


def _defused(frame: pd.DataFrame) -> pd.DataFrame:
    texts = [name for name, dtype in frame.dtypes.items() if dtype in ("str", "category")]
    return frame.assign(
        **{str(name): frame[name].astype("str").str.replace(r"^([=+\-@\t\r])", r"'\1", regex=True) for name in texts}
    )

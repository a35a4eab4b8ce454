"""Two images, file by file: what only one of them shows, and what differs."""

from __future__ import annotations

from typing import Final

import pandas as pd

from regnb.errors import InvalidArgument
from regnb.tables.frame import Frame, make

_ALIKE: Final = ("kind", "digest", "target", "mode", "owner")
"""What makes two files the same, in the order in which a difference is told."""
_WORDS: Final = {"digest": "content"}


def compare_files(first: Frame, second: Frame) -> Frame:
    """Compare what two images show, each given as its ``files`` frame of one platform.

    Returns:
        One row for each path that differs, the largest first (:data:`regnb.tables.columns.COLUMNS`,
        ``compared_files``).

    Raises:
        InvalidArgument: One of them holds several platforms.

    Example:
        >>> found = compare_files(registry.files("vm/centos8:8.3"), registry.files("vm/centos8:8.4"))
        >>> found.columns.to_list()
        ['path', 'state', 'first_size', 'second_size', 'first_digest', 'second_digest']
    """
    for files in (first, second):
        if (platforms := files["platform"].nunique()) > 1:
            raise InvalidArgument(
                f"one of the images is for {platforms} platforms", hint="compare one platform at a time"
            )
    both = _shown(first).add_suffix("_first").join(_shown(second).add_suffix("_second"), how="outer")
    missing, extra = both["kind_second"].isna(), both["kind_first"].isna()
    differs = {name: both[f"{name}_first"].fillna("") != both[f"{name}_second"].fillna("") for name in _ALIKE}
    state = pd.Series("same", index=both.index, dtype="str")
    for name in reversed(_ALIKE):
        state = state.mask(differs[name], f"{_WORDS.get(name, name)} differs")
    state = state.mask(missing, "only in the first").mask(extra, "only in the second")
    both = both.assign(state=state)[state != "same"]
    sizes = {side: both[f"size_{side}"].fillna(0).astype("int64") for side in ("first", "second")}
    columns = {
        "path": both.index.to_series(),
        "state": both["state"],
        "first_size": sizes["first"],
        "second_size": sizes["second"],
        "first_digest": both["digest_first"],
        "second_digest": both["digest_second"],
    }
    found = make("compared_files", columns)
    order = found[["first_size", "second_size"]].max(axis=1).sort_values(ascending=False, kind="stable").index
    return Frame(found.loc[order].reset_index(drop=True))


def _shown(files: Frame) -> pd.DataFrame:
    """Return the files that an image shows, by path."""
    shown = files[files["shown"] & (files["path"] != "")]
    columns = shown.set_index("path")[["size", *_ALIKE]]
    return columns.astype(dict.fromkeys(_ALIKE, "str"))

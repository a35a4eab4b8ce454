"""Cells of tables for people: sizes with units, short digests, foreign text made harmless."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

import numpy as np

from regnb.oci.reference import Digest, is_digest
from regnb.tables.columns import SENTENCES, SIZES
from regnb.text import human, middle, printable

_DIGESTS: Final = frozenset({
    "digest", "manifest", "subject", "config", "child", "diff_id", "before", "after", "first", "second", "reference",
    "tag",  # of a collection's receipt, whose rows have none: in its place stands what was moved
})  # fmt: skip
WIDEST: Final = 60
"""Letters of a cell that is not a sentence."""
_NAMES: Final = {"tag": 32}
"""Letters of a name in a column that has names with a digest in them beside short ones."""
_TYPES: Final = frozenset({"media_type", "artifact_type"})
_VENDOR: Final = "application/vnd."
"""Nearly every media type begins like this."""
_MISSING: Final = frozenset({"NAType", "NaTType"})
"""The classes of what pandas has for no value."""
_LONGEST: Final = 2000
"""Letters of a sentence: no registry needs more to say what is wrong."""


def missing(value: object) -> bool:
    """Whether a cell has no value: None, NaN, or what pandas has for it.

    Example:
        >>> [missing(value) for value in (None, float("nan"), "", 0)]
        [True, True, False, False]
    """
    # By their names: where pandas was not loaded, none of its values is printed.
    return value is None or type(value).__name__ in _MISSING or (isinstance(value, float) and math.isnan(value))


def cell(column: str, *, whole: bool = False) -> Callable[[object], str]:
    """Return what makes a text for people of each value of a column.

    Args:
        column: Its name.
        whole: Whether digests and long texts are kept whole.

    Example:
        >>> cell("size")(2_097_498_376)
        '2.1 GB'
    """
    most = _LONGEST if column in SENTENCES or whole else _NAMES.get(column, WIDEST)

    def show(value: object) -> str:
        if missing(value):
            return ""
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if column in SIZES and isinstance(value, int | float | np.number):
            return human(float(value))
        if column in _DIGESTS and not whole and isinstance(value, str) and is_digest(value):
            return Digest(value).short
        if isinstance(value, datetime):
            return value.strftime("%Y-%m-%d %H:%M")
        text = printable(str(value))
        if column in _TYPES and not whole and text.startswith(_VENDOR):
            text = f"…{text.removeprefix(_VENDOR)}"
        if len(text) <= most:
            return text
        # A list loses its last names, whole ones; a name loses its middle.
        names, comma, _ = text[: most - 2].rpartition(", ")
        return text[: most - 1] + "…" if most == _LONGEST else f"{names}, …" if comma else middle(text, most)

    return show

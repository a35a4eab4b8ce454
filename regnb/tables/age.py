"""The age of each tag's image, as every policy, proposal and chart counts it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import pandas as pd

from regnb.oci.age import CREATED, FIRST, SKEW
from regnb.tables.frame import Frame

STAND_INS: Final = {
    "annotation": f"its age is that of its annotation {CREATED}",
    "pushed": "its age is that of its push date, which moving the storage may have reset",
}
"""Where an age is from, if not from the config, in words."""


def ages(tags: pd.DataFrame) -> pd.DataFrame:
    """Return since when each tag's image has been there, as far as is known.

    Args:
        tags: As ``tags`` in :data:`regnb.tables.columns.COLUMNS`.

    Returns:
        Columns, in the order of ``tags``: ``age`` (when it was made; where that is not known, when one of its tags in
        this repository was last pushed; missing: unknown) and ``dated`` (``config``, ``annotation``, ``pushed`` or "").

    Example:
        >>> ages(inventory.tags)["dated"].value_counts()  # doctest: +SKIP
    """
    created, read = tags["created"], tags["digest"].notna()
    dated = tags["dated"].where(tags["dated"] != "", "config") if "dated" in tags else "config"
    source = pd.Series(dated, index=tags.index, dtype="str").where(created.notna(), "")
    if "pushed" not in tags:
        return pd.DataFrame({"age": created, "dated": source})
    pushed = tags["pushed"].groupby([tags["repository"], tags["digest"].fillna("")], observed=True).transform("max")
    pushed = pushed.where(read & created.isna())
    return pd.DataFrame({"age": created.fillna(pushed), "dated": source.where(pushed.isna(), "pushed")})


def with_pushed(tags: Frame, stored: pd.DataFrame) -> Frame:
    """Return tags with the push dates that a storage has for the same tags on the same digests.

    Args:
        tags: Of a registry, as it was read over HTTP.
        stored: The ``tags`` of its storage.

    Example:
        >>> with_pushed(inventory.tags, open_storage("/var/lib/registry").inventory().tags)  # doctest: +SKIP
    """
    names = ["repository", "tag", "digest"]
    dates = stored.dropna(subset=["digest"]).set_index(names)["pushed"]
    found = dates.reindex(pd.MultiIndex.from_frame(tags[names])).to_numpy()
    return tags.assign(pushed=pd.Series(found, index=tags.index, dtype=tags["pushed"].dtype))


def believed(dates: pd.Series[Any], now: datetime) -> pd.Series[Any]:
    """Return dates with those missing that cannot be when something was made (:func:`regnb.oci.age.plausible`).

    Example:
        >>> dates = pd.to_datetime(pd.Series(["1970-01-01", "2024-01-01"]), utc=True)
        >>> believed(dates, datetime.fromisoformat("2026-01-01T00:00Z")).isna().tolist()
        [True, False]
    """
    return dates.where((dates >= pd.Timestamp(FIRST)) & (dates <= pd.Timestamp(now + SKEW)))

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
        >>> ages(inventory.tags)["dated"].value_counts().to_dict()
        {'config': 53, 'annotation': 2}
    """
    created, read = tags["created"], tags["digest"].notna()
    dated = tags["dated"].where(tags["dated"] != "", "config") if "dated" in tags else "config"
    source = pd.Series(dated, index=tags.index, dtype="str").where(created.notna(), "")
    lacking = read & created.isna()
    if "pushed" not in tags or not lacking.any():
        return pd.DataFrame({"age": created, "dated": source})
    pushed = tags["pushed"].groupby([tags["repository"], tags["digest"]], observed=True, dropna=False).transform("max")
    pushed = pushed.where(lacking)
    return pd.DataFrame({"age": created.fillna(pushed), "dated": source.where(pushed.isna(), "pushed")})


def with_pushed(tags: Frame, stored: pd.DataFrame) -> Frame:
    """Return tags with the push dates that a storage has for the same tags on the same digests.

    Args:
        tags: Of a registry, as it was read over HTTP.
        stored: The ``tags`` of its storage.

    Example:
        >>> len(with_pushed(inventory.tags, open_storage("/var/lib/registry").inventory().tags))
        55
    """
    names = ["repository", "tag", "digest"]
    dates = stored.dropna(subset=["digest"]).set_index(names)["pushed"]
    found = dates.reindex(pd.MultiIndex.from_frame(tags[names])).to_numpy()
    return tags.assign(pushed=pd.Series(found, index=tags.index, dtype=tags["pushed"].dtype))


def in_use(tags: pd.DataFrame, cutoff: datetime) -> pd.Series[str]:
    """Return why each tag may have been of use since a date; "" where nobody has pulled it since, and that is known.

    What is younger than the date was not there to be pulled, and where pulls are recorded since a later date only,
    nothing is known of the time before.

    Args:
        tags: As ``tags`` in :data:`regnb.tables.columns.COLUMNS`.
        cutoff: The date.

    Example:
        >>> from datetime import UTC
        >>> set(in_use(inventory.tags, datetime(2026, 1, 1, tzinfo=UTC)))
        {'its pulls are not recorded'}
    """
    born = ages(tags)["age"].where(tags["pushed"].isna(), tags["pushed"]) if "pushed" in tags else ages(tags)["age"]
    pulled, since = (
        tags[name] if name in tags else pd.Series(pd.NaT, index=tags.index, dtype="datetime64[us, UTC]")
        for name in ("pulled", "pulls_since")
    )
    limit = pd.Timestamp(cutoff)
    words = pd.Series("", index=tags.index, dtype="str")
    # The first reason is the one that is told, so it is written last.
    for mask, text in (
        (born > limit, "made or pushed on " + born.dt.strftime("%Y-%m-%d")),
        (since > limit, "pulls are recorded only since " + since.dt.strftime("%Y-%m-%d")),
        (born.isna(), pd.Series("neither its age nor its push date is known", index=tags.index, dtype="str")),
        (since.isna(), pd.Series("its pulls are not recorded", index=tags.index, dtype="str")),
        (pulled >= limit, "pulled on " + pulled.dt.strftime("%Y-%m-%d")),
    ):
        words = words.where(~mask, text)
    return words.astype("str")


def believed(dates: pd.Series[Any], now: datetime) -> pd.Series[Any]:
    """Return dates with those missing that cannot be when something was made (:func:`regnb.oci.age.plausible`).

    Example:
        >>> dates = pd.to_datetime(pd.Series(["1970-01-01", "2024-01-01"]), utc=True)
        >>> believed(dates, datetime.fromisoformat("2026-01-01T00:00Z")).isna().tolist()
        [True, False]
    """
    return dates.where((dates >= pd.Timestamp(FIRST)) & (dates <= pd.Timestamp(now + SKEW)))

"""The names by which images are known: the tags that lead to them, straight or through an index."""

from __future__ import annotations

from typing import Final

import pandas as pd

from regnb.tables.frame import Frame

_DEPTH: Final = 8
"""Indexes within indexes."""


def names_of(tags: Frame, children: Frame) -> pd.DataFrame:
    """Return each tag with each manifest that it leads to.

    Returns:
        Columns: repository, tag, digest. First the manifests that tags point at, then those that indexes list.

    Example:
        >>> names = names_of(inventory.tags, inventory.children)
    """
    read = tags[tags["digest"].notna() & tags["subject"].isna()]
    straight = pd.DataFrame(read[["repository", "tag", "digest"]]).astype("str")
    listed = pd.DataFrame({name: children[name].astype("str") for name in ("manifest", "child")})
    listed = listed[listed["manifest"] != listed["child"]]
    found, level = [straight], straight
    while len(listed) and len(level) and len(found) <= _DEPTH:
        level = level.merge(listed, left_on="digest", right_on="manifest")[["repository", "tag", "child"]]
        level = level.rename(columns={"child": "digest"}).drop_duplicates()
        found.append(level)
    return pd.concat(found, ignore_index=True)

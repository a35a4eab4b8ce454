"""What the images of an inventory show that should not be in them, by their configs alone: no layer is read."""

from __future__ import annotations

import pandas as pd

from regnb.analysis.naming import names_of
from regnb.oci.findings import MENDS
from regnb.tables.frame import Frame, make


def hygiene(tags: Frame, manifests: Frame, children: Frame, findings: Frame) -> Frame:
    """Return what was found in each image (:data:`regnb.tables.columns.COLUMNS`, ``inventory_hygiene``)."""
    images = manifests.loc[manifests["kind"] == "image", ["repository", "digest", "platform"]]
    found = findings.astype(dict.fromkeys(("manifest", "rule", "where", "found"), "str"))
    rows = images.merge(found, left_on="digest", right_on="manifest").drop(columns="manifest")
    named = names_of(tags, children).set_index(["repository", "digest"])["tag"]
    named = named[~named.index.duplicated()]
    key = pd.MultiIndex.from_frame(rows[["repository", "digest"]])
    tag = pd.Series(named.reindex(key).to_numpy(), index=rows.index, dtype="str")
    rows["image"] = tag.where(tag.notna(), rows["digest"])
    rows["mend"] = rows["rule"].map(MENDS)
    rows = rows.sort_values(["repository", "image", "digest"], kind="stable", ignore_index=True)
    return make("inventory_hygiene", {str(name): column for name, column in rows.items()})

"""What should not be in the images of an inventory: by their configs alone, or by their layers, too."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from regnb.analysis.naming import names_of
from regnb.oci.findings import MENDS
from regnb.tables.frame import Frame, make, of_rows


def hygiene(tags: Frame, manifests: Frame, children: Frame, findings: Frame) -> Frame:
    """Return what was found in each image (:data:`regnb.tables.columns.COLUMNS`, ``inventory_hygiene``)."""
    images = manifests.loc[manifests["kind"] == "image", ["repository", "digest", "platform"]]
    found = findings.astype(dict.fromkeys(("manifest", "rule", "where", "position", "found"), "str"))
    rows = images.merge(found, left_on="digest", right_on="manifest").drop(columns="manifest")
    named = names_of(tags, children).set_index(["repository", "digest"])["tag"]
    named = named[~named.index.duplicated()]
    key = pd.MultiIndex.from_frame(rows[["repository", "digest"]])
    tag = pd.Series(named.reindex(key).to_numpy(), index=rows.index, dtype="str")
    rows["image"] = tag.where(tag.notna(), rows["digest"])
    position = pd.to_numeric(rows["position"], errors="coerce").fillna(-1)
    return _made(rows.assign(size=0, position=position, mend=rows["rule"].map(MENDS)))


def _made(rows: pd.DataFrame) -> Frame:
    rows = rows.sort_values(["repository", "image", "digest"], kind="stable", ignore_index=True)
    return make("inventory_hygiene", {str(name): column for name, column in rows.items()})


def inside(images: pd.DataFrame, find: Callable[[str], Frame]) -> Frame:
    """Return what was found in the layers and configs of some images (``inventory_hygiene``).

    Args:
        images: Repository, tag and digest of each.
        find: What is found in the image at a reference (``hygiene``).
    """
    parts = [
        pd.DataFrame(find(f"{repository}@{digest}")).assign(repository=repository, image=tag, digest=digest)
        for repository, tag, digest in images[["repository", "tag", "digest"]].to_numpy().tolist()
    ]
    return _made(pd.concat(parts, ignore_index=True)) if parts else of_rows("inventory_hygiene", [])

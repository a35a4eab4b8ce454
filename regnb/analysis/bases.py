"""What images are built on: the longest chain of their first layers that is itself a tagged image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regnb.tables.frame import Frame, make

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bases(tags: Frame, manifests: Frame, children: Frame, layers: Frame) -> Frame:
    """Return what each image is built on (:data:`regnb.tables.columns.COLUMNS`, ``bases``).

    An image whose layers are all of another one's is that one's sibling, and neither is the other's base.
    """
    images = manifests[(manifests["kind"] == "image") & (manifests["layers"] > 0)]
    one = images.drop_duplicates("digest").set_index("digest")
    rows = layers[layers["manifest"].isin(one.index)].sort_values(["manifest", "position"], kind="stable")
    owner = pd.Categorical(rows["manifest"], categories=one.index).codes.astype(np.int64)
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    owners = owner[begins]
    ends = np.append(begins[1:], len(owner)) if len(owner) else begins
    chain = _chains(np.asarray(rows["digest"].cat.codes, dtype=np.int64), begins, ends)
    whole = np.full(len(one), -1, dtype=np.int64)
    whole[owners] = chain[ends - 1]
    names = _names(tags, children).reindex(one.index)
    tagged = names.notna().to_numpy()
    # Of each chain that is a tagged image, the first name; images without a tag are no base to name.
    known = pd.Series(np.arange(len(one))[tagged], index=whole[tagged])
    known = known[~known.index.duplicated()]
    proper = np.ones(len(owner), dtype=bool)
    proper[ends - 1] = False
    fits = proper & np.isin(chain, known.index.to_numpy())
    last = np.full(len(one), -1, dtype=np.int64)
    np.maximum.at(last, owner[fits], np.flatnonzero(fits))
    found = last >= 0
    base = np.zeros(len(one), dtype=np.int64)
    base[found] = known.reindex(chain[last[found]]).to_numpy()
    first = np.zeros(len(one), dtype=np.int64)
    first[owners] = begins
    sums = np.append(0, np.cumsum(rows["size"].to_numpy()))
    shared = np.where(found, sums[last + 1] - sums[first], 0)
    siblings = pd.Series(whole).map(pd.Series(whole).value_counts()).to_numpy() - 1
    digests = one.index.to_numpy()
    about = pd.DataFrame(
        {
            "base": names.to_numpy()[base],
            "base_digest": digests[base],
            "base_layers": np.where(found, last - first + 1, 0),
            "base_size": shared,
            "siblings": siblings,
        },
        index=one.index,
    )
    about.loc[~found, ["base", "base_digest"]] = None
    joined = images[["repository", "digest", "platform", "layers"]].join(about, on="digest")
    joined["how"] = np.where(joined["base"].notna(), "layers", "unknown")
    return make("bases", {str(name): column.reset_index(drop=True) for name, column in joined.items()})


def _chains(codes: NDArray[np.int64], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each layer: equal ones where the same layers lead up to it, itself included."""
    chain = np.full(len(codes), -1, dtype=np.int64)
    lengths = ends - begins
    before = np.zeros(len(begins), dtype=np.int64)
    next_number = 0
    for position in range(int(lengths.max(initial=0))):
        going = lengths > position
        at = begins[going] + position
        # Two numbers as one: how many chains and digests there are is far below 2**31.
        pairs = before[going] * (int(codes.max()) + 1) + codes[at]
        _, numbers = np.unique(pairs, return_inverse=True)
        chain[at] = numbers + next_number
        next_number += int(numbers.max()) + 1
        before[going] = chain[at]
    return chain


def _names(tags: Frame, children: Frame) -> pd.Series[str]:
    """Return a name for each manifest that a tag leads to: ``repository:tag``, of the index where one lists it."""
    read = tags[tags["digest"].notna() & (tags["subject"].isna())]
    direct = pd.Series(
        (read["repository"] + ":" + read["tag"]).to_numpy(), index=read["digest"].to_numpy(), dtype="str"
    )
    direct = direct[~direct.index.duplicated()]
    listed = children[children["manifest"].isin(direct.index)]
    above = direct.reindex(listed["manifest"].astype("str")).to_numpy()
    behind = pd.Series(above, index=listed["child"].astype("str").to_numpy(), dtype="str")
    both = pd.concat([direct, behind])
    named: pd.Series[str] = both[~both.index.duplicated()]
    return named

"""What images are built on: the longest chain of their first layers that is itself an image with a name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from regnb.analysis.naming import names_of
from regnb.analysis.releases import Release, Releases
from regnb.tables.frame import Frame, make
from regnb.text import count, human

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int64]

Frames: TypeAlias = Mapping[str, Frame]
_HERE, _LISTED, _HISTORY, _EARLIER = range(4)
"""Where a name is from; of several that fit as well the first counts."""
_UNKNOWN: Final = -1


class _Images(NamedTuple):
    """Images with their layers.

    Attributes:
        digests: Of their manifests, each once.
        owner: Of each layer the number of its image; an image's layers lie together, in their order.
        layer: The layer's digest.
        diff_id: Of its archive; missing where it is not known.
        size: Bytes.
    """

    digests: pd.Index[str]
    owner: Numbers
    layer: pd.Categorical[str]
    diff_id: pd.Series[str]
    size: Numbers


def _images(frames: Frames) -> _Images:
    manifests, layers, blobs = frames["manifests"], frames["layers"], frames["blobs"]
    images = manifests[(manifests["kind"] == "image") & (manifests["layers"] > 0)]
    digests = pd.Index(images["digest"].unique(), dtype="str")
    # Of the categories alone: there are far fewer than rows.
    owners = digests.get_indexer(pd.Index(layers["manifest"].cat.categories, dtype="str"))
    owner = np.append(owners, -1)[layers["manifest"].cat.codes.to_numpy()]
    order = np.lexsort((layers["position"].to_numpy(), owner))
    order = order[np.searchsorted(owner[order], 0) :]
    known = blobs.loc[blobs["diff_id"].notna(), ["digest", "diff_id"]].set_index("digest")["diff_id"]
    layer = layers["digest"].array[order]
    names = pd.Series(known.reindex(layer.categories).to_numpy(), dtype="str")
    return _Images(digests, owner[order], layer, names, layers["size"].to_numpy()[order])


def _of_list(known: Frame) -> _Images:
    """Return the images of a list of bases (``known_bases``)."""
    digests = pd.Index(known["digest"].unique(), dtype="str")
    layer = pd.Categorical(known["layer"])
    names = known.drop_duplicates("layer").set_index("layer")["diff_id"]
    diff_id = pd.Series(names.reindex(layer.categories).to_numpy(), dtype="str")
    return _Images(digests, digests.get_indexer(known["digest"]), layer, diff_id, known["size"].to_numpy())


def bases(frames: Frames, known: Frame | None = None, earlier: Sequence[Frames] = ()) -> Frame:
    """Return what each image is built on (:data:`regnb.tables.columns.COLUMNS`, ``bases``).

    An image whose layers are all of another one's is that one's sibling, and neither is the other's base.

    Args:
        frames: Of an inventory.
        known: Images elsewhere that may be a base (``known_bases``).
        earlier: The frames of earlier inventories of this registry, the oldest first.
    """
    pools = [_images(frames), *([_of_list(known)] if known is not None and len(known) else []), *map(_images, earlier)]
    starts = np.cumsum([0, *(len(pool.digests) for pool in pools)])
    owner = np.concatenate([pool.owner + start for pool, start in zip(pools, starts, strict=False)])
    size = np.concatenate([pool.size for pool in pools])
    digests = pools[0].digests.append([pool.digests for pool in pools[1:]])
    names = _names(frames, known, earlier, pools, starts)
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    ends = np.append(begins[1:], len(owner)) if len(owner) else begins
    whole = {}
    last = np.full(len(digests), _UNKNOWN, dtype=np.int64)
    base = last.copy()
    by_diff_id = np.zeros(len(digests), dtype=bool)
    for how, codes in (("diff_ids", _diff_ids(pools)), ("layers", _layers(pools))):
        chain = _chains(codes, begins, ends)
        whole[how] = np.full(len(digests), _UNKNOWN, dtype=np.int64)
        whole[how][owner[begins]] = chain[ends - 1]
        at, number = _longest(chain, owner, ends, whole[how], names["number"].to_numpy())
        longer = at > last
        last, base = np.where(longer, at, last), np.where(longer, number, base)
        by_diff_id |= longer & (how == "diff_ids")
    own = len(pools[0].digests)
    found = last[:own] >= 0
    first = np.zeros(len(digests), dtype=np.int64)
    first[owner[begins]] = begins
    sums = np.append(0, np.cumsum(size))
    of = np.where(found, base[:own], 0)
    row = np.zeros(len(digests), dtype=np.int64)
    row[names["number"].to_numpy()[::-1]] = np.arange(len(names))[::-1]
    named = names["name"].reindex(np.where(found, row[of], _UNKNOWN))
    about = pd.DataFrame(
        {
            "base": named.to_numpy(),
            "base_digest": digests.to_numpy()[of],
            "base_layers": pd.arrays.IntegerArray(last[:own] - first[:own] + 1, ~found),
            "base_size": pd.arrays.IntegerArray(sums[last[:own] + 1] - sums[first[:own]], ~found),
            "siblings": _siblings(whole, own),
            "how": np.where(found, np.where(by_diff_id[:own], "diff_ids", "layers"), "unknown"),
            "release": np.where(found, row[of], _UNKNOWN),
        },
        index=pools[0].digests,
    )
    about.loc[~found, "base_digest"] = None
    images = frames["manifests"]
    images = images[(images["kind"] == "image") & (images["layers"] > 0)]
    joined = images[["repository", "digest", "platform", "layers"]].join(about, on="digest")
    joined[["annotated_name", "annotated_digest"]] = _annotated(frames, images)
    releases = _releases(Releases([*earlier, frames], known), names, joined)
    columns = {str(name): column.reset_index(drop=True) for name, column in joined.drop(columns="release").items()}
    return make("bases", columns | releases)


def _layers(pools: Sequence[_Images]) -> Numbers:
    """Return a number for each layer, equal ones for the same digest."""
    categories = [pd.Index(pool.layer.categories, dtype="str") for pool in pools]
    numbers, _ = pd.factorize(categories[0].append(categories[1:]))
    starts = np.cumsum([0, *map(len, categories)])
    parts = [numbers[start + pool.layer.codes] for pool, start in zip(pools, starts, strict=False)]
    return np.concatenate(parts).astype(np.int64)


def _diff_ids(pools: Sequence[_Images]) -> Numbers:
    """Return a number for each layer, equal ones for the same archive; -1 where that is not known."""
    numbers, _ = pd.factorize(pd.concat([pool.diff_id for pool in pools], ignore_index=True))
    starts = np.cumsum([0, *(len(pool.diff_id) for pool in pools)])
    parts = [numbers[start + pool.layer.codes] for pool, start in zip(pools, starts, strict=False)]
    return np.concatenate(parts).astype(np.int64)


def _chains(codes: Numbers, begins: Numbers, ends: Numbers) -> Numbers:
    """Return a number for each layer: equal ones where the same layers lead up to it, itself included.

    From a layer on that is not known (-1) the chain is not known, either.
    """
    chain = np.full(len(codes), _UNKNOWN, dtype=np.int64)
    lengths = ends - begins
    before = np.zeros(len(begins), dtype=np.int64)
    next_number = 0
    for position in range(int(lengths.max(initial=0))):
        going = (lengths > position) & (before >= 0)
        going[going] = codes[begins[going] + position] >= 0
        before[~going] = _UNKNOWN
        at = begins[going] + position
        # Two numbers as one: how many chains and digests there are is far below 2**31.
        pairs = before[going] * (int(codes.max()) + 1) + codes[at]
        _, numbers = np.unique(pairs, return_inverse=True)
        chain[at] = numbers + next_number
        next_number += int(numbers.max(initial=-1)) + 1
        before[going] = chain[at]
    return chain


def _longest(chain: Numbers, owner: Numbers, ends: Numbers, whole: Numbers, named: Numbers) -> tuple[Numbers, Numbers]:
    """Return where the longest chain ends that each image begins with and a named one is, and that one's number."""
    named = named[whole[named] >= 0]
    known = pd.Series(named, index=whole[named], dtype="int64")
    known = known[~known.index.duplicated()]
    proper = np.ones(len(owner), dtype=bool)
    proper[ends - 1] = False
    fits = proper & (chain >= 0) & np.isin(chain, known.index.to_numpy())
    last = np.full(len(whole), _UNKNOWN, dtype=np.int64)
    np.maximum.at(last, owner[fits], np.flatnonzero(fits))
    found = last >= 0
    base = np.full(len(whole), 0, dtype=np.int64)
    base[found] = known.reindex(chain[last[found]]).to_numpy()
    return last, base


def _siblings(whole: Mapping[str, Numbers], own: int) -> Numbers:
    """Return how many other images have the same layers as each: the same archives, where they are known."""
    key = np.where(whole["diff_ids"] >= 0, whole["diff_ids"], -2 - whole["layers"])[:own]
    _, numbers, counts = np.unique(key, return_inverse=True, return_counts=True)
    siblings: Numbers = counts[numbers] - 1
    return siblings


def _names(
    frames: Frames, known: Frame | None, earlier: Sequence[Frames], pools: Sequence[_Images], starts: Numbers
) -> pd.DataFrame:
    """Return every name of every image that may be a base, the best first: number, name, repository, tag, source."""
    found = []

    def add(rows: pd.DataFrame, pool: int, source: int) -> None:
        number = pools[pool].digests.get_indexer(pd.Index(rows["digest"], dtype="str"))
        about = rows.assign(number=number + starts[pool], source=source)[number >= 0]
        found.append(about[["number", "repository", "tag", "source"]])

    add(names_of(frames["tags"], frames["children"]), 0, _HERE)
    if known is not None and len(known):
        parts = known["name"].str.rpartition(":")
        add(pd.DataFrame({"digest": known["digest"], "repository": parts[0], "tag": parts[2]}), 1, _LISTED)
    past = frames["history"]
    past = past[~past["current"] & past["present"]].sort_values("when", ascending=False)
    add(names_of(Frame(past.assign(subject=None)), frames["children"]), 0, _HISTORY)
    for at, one in zip(range(len(earlier), 0, -1), reversed(earlier), strict=True):
        add(names_of(one["tags"], one["children"]), len(pools) - len(earlier) + at - 1, _EARLIER)
    names = pd.concat(found, ignore_index=True).drop_duplicates(["number", "repository", "tag"])
    names["name"] = names["repository"] + ":" + names["tag"]
    return names.reset_index(drop=True)


def _annotated(frames: Frames, images: pd.DataFrame) -> pd.DataFrame:
    """Return what annotations name as the base of each image: its own, else those of an index that lists it."""
    names = ["base_name", "base_digest"]
    manifests = frames["manifests"]
    noted = manifests.loc[manifests[names].notna().any(axis=1), ["digest", *names]].drop_duplicates("digest")
    if noted.empty:
        return pd.DataFrame({name: pd.Series(None, index=images.index, dtype="str") for name in names})
    children = frames["children"]
    listed = pd.DataFrame({"above": children["manifest"].astype("str"), "digest": children["child"].astype("str")})
    above = listed.merge(noted.rename(columns={"digest": "above"}), on="above").drop(columns="above")
    both = pd.concat([noted, above], ignore_index=True).drop_duplicates("digest").set_index("digest")
    return pd.DataFrame(both.reindex(images["digest"].to_numpy()).set_axis(images.index))


def _releases(releases: Releases, names: pd.DataFrame, joined: pd.DataFrame) -> dict[str, object]:
    """Return whether the base's tag has moved on since, by how many versions, and what says so."""
    number = names["number"].to_numpy()
    aliases: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for at, *name in zip(number.tolist(), names["repository"].tolist(), names["tag"].tolist(), strict=True):
        aliases[at].append((name[0], name[1]))
    release = joined["release"].to_numpy()
    told: dict[tuple[object, ...], Release] = {}
    rows = []
    columns = (joined[name].tolist() for name in ("base_digest", "annotated_name", "annotated_digest"))
    for at, digest, *annotated in zip(release.tolist(), *columns, strict=True):
        key = (at,) if at >= 0 else (*annotated,)
        if key not in told:
            told[key] = releases.of(aliases[int(number[at])], digest) if at >= 0 else releases.annotated(*annotated)
        rows.append(told[key])
    return {
        "moved": pd.Series([row.moved for row in rows], dtype="boolean"),
        "behind": pd.Series([row.behind for row in rows], dtype="Int64"),
        "told_by": [row.told_by for row in rows],
    }


def of_image(found: Frame, repository: str, digest: str) -> str:
    """Return in words what an image is built on, by the rows of ``bases``.

    Example:
        >>> digest = inventory.tags.set_index(["repository", "tag"]).loc[("vm/centos8", "8.4"), "digest"]
        >>> of_image(inventory.bases, "vm/centos8", digest)
        'not known: no other tagged image here has its first layers'
    """
    rows = found[(found["repository"] == repository) & (found["digest"] == digest)]
    for row in rows.astype(object).where(rows.notna(), None).to_dict("records"):
        name, behind = row["base"] or row["annotated_name"], row["behind"]
        if name is None:
            break
        told = "" if row["base"] else " (its annotation says so)"
        if behind:
            return f"{name}{told}, {count(behind, 'release')} behind"
        if row["moved"]:
            return f"{name}{told}, which points to a newer image now"
        return f"{name}{told}" + (", the newest release" if row["moved"] is False else "")
    return "not known: no other tagged image here has its first layers"


def stale(found: Frame) -> tuple[str, ...]:
    """Return a sentence for each number of releases that images' bases are behind.

    Example:
        >>> sentences = stale(inventory.bases)
    """
    told = []
    behind = found[found["behind"].fillna(0) > 0].drop_duplicates("digest")
    for number, rows in behind.groupby("behind"):
        # What the images now have of their old bases, each base once: the newest one takes its place.
        share = int(rows.drop_duplicates("base_digest")["base_size"].sum())
        many = len(rows) > 1
        told.append(
            f"{count(len(rows), 'image')} {'stand' if many else 'stands'} on a base that is "
            f"{count(int(str(number)), 'release')} behind; rebuilt on the newest one {'they' if many else 'it'} would "
            f"share at most {human(share)}."
        )
    return tuple(told)

"""Who holds what, as integers: manifests, the blobs behind them, and the repositories that link to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from regnb.collect import Records

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOREIGN = "foreign layer"
"""The kind of a layer that is stored elsewhere: it takes up no bytes here."""


class Graph:
    """The content of a registry: every digest is a number, and a manifest has that of its own bytes.

    Args:
        digests: Of every blob, manifests included; a digest's number is its position.
        sizes: Bytes of each, 0 for what is stored elsewhere.
        manifests: The numbers of the manifests.
        own: Pairs of a manifest and a blob that it consists of: its own bytes, its config, its layers.
        children: Pairs of an index and a manifest that it lists.
        links: Pairs of a repository's number and a manifest that it has.

    Example:
        >>> inventory.graph.freed([("vm/centos8", digest)])  # doctest: +SKIP
    """

    def __init__(  # noqa: PLR0917 -- what a graph consists of
        self,
        digests: Sequence[str],
        sizes: NDArray[np.int64],
        manifests: NDArray[np.int64],
        own: pd.DataFrame,
        children: pd.DataFrame,
        links: pd.DataFrame,
    ) -> None:
        self.digests = digests
        self.sizes = sizes
        self.manifests = manifests
        self.own = own
        self.children = children
        self.links = links

    @classmethod
    def of_records(cls, records: Records) -> Graph:
        """Return the graph of a crawl. A repository's number is its position among ``records.repositories``."""
        blobs, manifests = records.blobs, records.manifests
        ids = {digest: number for number, digest in enumerate(blobs)}
        names = {name: number for number, name in enumerate(records.repositories)}
        own = [
            (ids[digest], ids[blob])
            for digest, record in manifests.items()
            for blob in {digest, record.config or digest, *record.layers}
        ]
        children = [
            (ids[digest], ids[child])
            for digest, record in manifests.items()
            for child in dict.fromkeys(record.children)
            if child in manifests
        ]
        links = [(names[name], ids[digest]) for name, digest in records.links if digest in manifests]
        graph = cls(
            list(blobs),
            np.fromiter((0 if blob.kind == FOREIGN else blob.size for blob in blobs.values()), np.int64, len(blobs)),
            np.fromiter((ids[digest] for digest in manifests), np.int64, len(manifests)),
            _edges(own, ("manifest", "blob")),
            _edges(children, ("manifest", "child")),
            _edges(links, ("repository", "manifest")),
        )
        graph.ids = ids
        return graph

    @classmethod
    def of_frames(cls, manifests: Any, layers: Any, children: Any, blobs: Any) -> Graph:  # noqa: ANN401 -- Frames
        """Return the graph of an inventory's frames. A link's number is its row in ``manifests``."""
        digests = pd.Index(blobs["digest"].to_numpy(dtype=object), dtype=object)
        sizes = np.where(blobs["kind"] == FOREIGN, 0, blobs["size"]).astype(np.int64)

        def numbers(values: Any) -> NDArray[np.int64]:  # noqa: ANN401 -- a column
            if isinstance(values.dtype, pd.CategoricalDtype):
                known = digests.get_indexer(values.cat.categories.astype(object))
                found = np.append(known, -1)[values.cat.codes]
            else:
                found = digests.get_indexer(pd.Index(values.to_numpy(dtype=object), dtype=object))
            return np.asarray(found, dtype=np.int64)

        linked = numbers(manifests["digest"])
        config = numbers(manifests["config"])
        everything = np.flatnonzero(np.bincount(linked, minlength=len(digests)))
        held = config >= 0
        manifest = np.concatenate([everything, linked[held], numbers(layers["manifest"])])
        blob = np.concatenate([everything, config[held], numbers(layers["digest"])])
        # A pair as one number, sorted: many times faster than np.unique, whether of rows or of numbers.
        pairs = np.sort(manifest * len(digests) + blob)
        pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
        own = pd.DataFrame({"manifest": pairs // max(1, len(digests)), "blob": pairs % max(1, len(digests))})
        below = pd.DataFrame({"manifest": numbers(children["manifest"]), "child": numbers(children["child"])})
        below = below[(below["child"] >= 0) & np.isin(below["child"], everything)].drop_duplicates()
        repositories = pd.Categorical(manifests["repository"]).codes.astype(np.int64)
        links = pd.DataFrame({"repository": repositories, "manifest": linked})
        return cls(digests.to_list(), sizes, everything, own, below, links)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The number of each digest."""
        return {digest: number for number, digest in enumerate(self.digests)}

    @cached_property
    def reach(self) -> pd.DataFrame:
        """Every manifest (``root``) with every manifest behind it, itself included."""
        found = pd.DataFrame({"root": self.manifests, "manifest": self.manifests})
        frontier = found
        while len(frontier):
            further = frontier.merge(self.children, on="manifest")
            frontier = further[["root", "child"]].rename(columns={"child": "manifest"}).drop_duplicates()
            found = pd.concat([found, frontier])
        return found.drop_duplicates()

    @cached_property
    def behind(self) -> pd.DataFrame:
        """Every manifest (``root``) with every blob behind it."""
        return self.reach.merge(self.own, on="manifest")[["root", "blob"]].drop_duplicates()

    @cached_property
    def held(self) -> pd.DataFrame:
        """Every repository with every blob that one of its manifests consists of."""
        return self.links.merge(self.own, on="manifest")[["repository", "blob"]].drop_duplicates()

    def total(self, pairs: pd.DataFrame, by: str) -> pd.Series[int]:
        """Bytes of the distinct blobs of each ``by``."""
        sizes = pd.Series(self.sizes[pairs["blob"].to_numpy()], index=pairs.index)
        return sizes.groupby(pairs[by]).sum()

    def freed(self, gone: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the blobs that no manifest needs any more once some links are gone.

        Args:
            gone: For each row of ``links`` whether that repository loses that manifest.

        Returns:
            The numbers of the blobs: ``sizes[found].sum()`` are their bytes.
        """
        needed, lost = self._blobs(~gone), self._blobs(gone)
        return np.flatnonzero(lost & ~needed)

    def shared(self, gone: NDArray[np.bool_]) -> pd.DataFrame:
        """Return every repository with the blobs of it that would be free if it did not need them.

        Args:
            gone: As for :meth:`freed`: what is lost there and stays nevertheless is what is shared.

        Returns:
            Pairs of ``repository`` and ``blob``, each once.
        """
        both = self._blobs(~gone) & self._blobs(gone)
        links = self.links[~gone]
        own = self.own[both[self.own["blob"].to_numpy()]]
        return links.merge(own, on="manifest")[["repository", "blob"]].drop_duplicates(ignore_index=True)

    def _blobs(self, linked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Say of each blob whether one of the manifests of these links consists of it."""
        manifests, found = (np.zeros(len(self.digests), dtype=bool) for _ in range(2))
        manifests[self.links["manifest"].to_numpy()[linked]] = True
        found[self.own["blob"].to_numpy()[manifests[self.own["manifest"].to_numpy()]]] = True
        return found


def _edges(pairs: Sequence[tuple[int, int]], names: tuple[str, str]) -> pd.DataFrame:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return pd.DataFrame({names[0]: array[:, 0], names[1]: array[:, 1]})

"""Who needs what, as integers: manifests, the blobs that each needs, and the repositories and tags that have them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from regnb.crawl.records import BlobKind, Records
from regnb.oci.referrers import subject_of_tag
from regnb.tables.chains import begun
from regnb.tables.edges import Edges

# What is printed of a registry needs numbers alone: pandas and Arrow would take as much memory as its records.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from regnb.tables.edges import Ints, Mask

ABSENT: Final[tuple[BlobKind, ...]] = ("foreign layer", "missing")
"""Kinds of blobs that take up no space here: stored elsewhere, or lost."""


class Graph:
    """The content of a registry. A blob, manifests included, is its position among ``digests``.

    A *row* is a manifest in a repository, in the order of ``inventory.manifests``: what a garbage collection walks.

    Args:
        digests: Of every blob; where nobody asks for their names, anything as long.
        sizes: Bytes of each.
        absent: Whether each takes up no space here: stored elsewhere, or lost.
        repositories: Their names.
        repository: The number of each row's repository.
        manifest: The blob of each row.
        needs: Pairs of a manifest and a blob that it needs: its config, its layers, the manifests that it lists.
        children: Of these the pairs of an index and what it lists.
        tags: The repository's number and the manifest's blob of each tag; -1 where the manifest is not known.
        refers: Pairs of a row's or a tag's position and the blob that it refers to.
        followed: Of ``needs`` the pairs that a garbage collection sees, by default all: it does not see a blob that a
            manifest names by another digest than that under which the bytes are stored.

    Example:
        >>> len(inventory.graph.freed(inventory.manifests["repository"] == "vm/centos8"))  # blobs
        2
    """

    def __init__(  # noqa: PLR0917 -- what a graph consists of
        self,
        digests: pd.Series[str],
        sizes: NDArray[np.int64],
        absent: Mask,
        repositories: Sequence[str],
        repository: Ints,
        manifest: Ints,
        needs: tuple[Ints, Ints],
        children: tuple[Ints, Ints],
        tags: tuple[Ints, Ints],
        refers: tuple[tuple[Ints, Ints], tuple[Ints, Ints]],
        followed: tuple[Ints, Ints] | None = None,
    ) -> None:
        self.digests = digests
        self.sizes = np.where(absent, 0, sizes)
        self.absent = absent
        self.repositories = repositories
        self.hollow: Mask = np.zeros(len(manifest), dtype=bool)
        """Whether each row lists a manifest of which nothing but the digest is known."""
        self.unseen: Mask = np.zeros(len(manifest), dtype=bool)
        """Whether a plain collection of version 2.8 does not see each row, as its repository has no folder for layers.

        Where there is one, every collection of version 3 ends before it removes anything.
        """
        none: Ints = np.array([], dtype=np.int32)
        self.layers: tuple[Ints, Ints, Ints] = (none, none, none)
        """A manifest's blob, a position above its base and the layer's blob, of each layer; where somebody set it."""
        self.repository = repository.astype(np.int32)
        self.manifest = manifest.astype(np.int32)
        blobs, rows = len(digests), len(manifest)
        manifests = np.flatnonzero(np.bincount(self.manifest, minlength=blobs)).astype(np.int32)
        self.own = Edges(np.concatenate([manifests, needs[0]]), np.concatenate([manifests, needs[1]]), blobs)
        """A manifest's blob to every blob that it needs, itself included."""
        self.followed = self.own
        """Of these what a garbage collection sees."""
        if followed is not None:
            source, target = followed
            self.followed = Edges(np.concatenate([manifests, source]), np.concatenate([manifests, target]), blobs)
        keys = self.repository.astype(np.int64) * max(1, blobs) + self.manifest
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        listed = Edges(*children, blobs)
        parent, child = listed.of(self.manifest)
        child = self.find(self.repository[parent], child)
        self.below = Edges(parent[child >= 0], child[child >= 0], rows)
        """A row to the rows of the same repository that it lists."""
        self.tags = self.find(*tags)
        """The row of each tag; -1 where it is not known."""
        (row, subject), (tag, signed) = refers
        self.subject = np.full(rows, -1)
        self.subject[row] = self.find(self.repository[row], subject)
        """The row of what each row refers to; -1 if nothing."""
        self.signs = np.full(len(self.tags), -1)
        self.signs[tag] = self.find(tags[0][tag], signed)
        """The row of what each tag refers to by its name; -1 if nothing."""

    @classmethod
    def of_frames(cls, tags: Any, manifests: Any, layers: Any, children: Any, blobs: Any) -> Graph:  # noqa: ANN401 -- Frames
        """Return the graph of an inventory's frames."""
        import pandas as pd
        import pyarrow as pa
        import pyarrow.compute as pc  # many times faster than an index of strings

        digests = blobs["digest"].reset_index(drop=True)
        stored = np.flatnonzero(blobs["alias"].notna())
        named = pd.concat([digests, blobs["alias"].iloc[stored]])
        signs = tags["tag"][tags["subject"].notna()].map(subject_of_tag)
        columns = [
            manifests["digest"], manifests["config"], manifests["subject"], tags["digest"], signs,
            layers["manifest"], layers["digest"], children["manifest"], children["child"],
        ]  # fmt: skip
        texts = [column.cat.categories if column.dtype == "category" else column for column in columns]
        arrays = [strings(text) for text in texts]
        # All at once: the table of digests is made for each look-up.
        found = pc.index_in(pa.chunked_array(arrays), strings(named)).fill_null(-1).to_numpy()
        own = np.append(np.arange(len(digests)), [*stored, -1])
        numbers = np.split(found, np.cumsum([len(array) for array in arrays])[:-1])
        linked, config, subject, tagged, signed, owner, layer, index, child = (
            np.append(number, -1)[column.cat.codes] if column.dtype == "category" else number
            for column, number in zip(columns, numbers, strict=True)
        )
        needs = _known(np.concatenate([linked, owner, index]), np.concatenate([config, layer, child]))
        repository, names = pd.factorize(pd.concat([manifests["repository"], tags["repository"]]))
        subjects = np.flatnonzero(manifests["subject"].notna())
        graph = cls(
            digests,
            blobs["size"].to_numpy(np.int64),
            blobs["kind"].isin(ABSENT).to_numpy(),
            list(names),
            repository[: len(manifests)],
            linked,
            (needs[0], own[needs[1]]),
            _known(index, child),
            (repository[len(manifests) :], tagged),
            (
                _known(subjects, subject[subjects]),
                _known(tags.index.get_indexer(signs.index), signed),
            ),
            _direct(*needs, len(digests)),
        )
        graph.hollow = np.isin(linked, index[child < 0])
        whole = (owner >= 0) & (layer >= 0)
        places = layers["position"].to_numpy(np.int32)[whole]
        graph.layers = owner[whole].astype(np.int32), places, own[layer[whole]].astype(np.int32)
        return graph

    def find(self, repository: Ints, manifest: Ints) -> Ints:
        """Return the row of each manifest in its repository; -1 where it has none."""
        keys = repository.astype(np.int64) * max(1, len(self.digests)) + manifest
        place = np.searchsorted(self._keys, keys)
        place[place == len(self._keys)] = 0
        if not len(self._keys):
            return np.full(len(keys), -1)
        return np.where((self._keys[place] == keys) & (manifest >= 0), self._order[place], -1)

    def reached(self, rows: Mask, gone: Mask | None = None) -> Mask:
        """Return the rows that some rows lead to, these included, but not by way of one that is gone."""
        found = rows.copy() if gone is None else rows & ~gone
        frontier = np.flatnonzero(found & (self.below.counts > 0))
        while len(frontier):
            _, following = self.below.of(frontier)
            stopped = found if gone is None else found | gone
            frontier = np.unique(following[~stopped[following]])
            found[frontier] = True
        return found

    @cached_property
    def tagged(self) -> Ints:
        """How many tags point straight at each row."""
        return np.bincount(self.tags[self.tags >= 0], minlength=len(self.manifest))

    @cached_property
    def untagged(self) -> Mask:
        """The rows that no tag leads to."""
        return ~self.reached(self.tagged > 0)

    @cached_property
    def above(self) -> Ints:
        """How many rows list each row."""
        return np.bincount(self.below.target, minlength=len(self.manifest))

    @cached_property
    def reach(self) -> Edges:
        """Each row to every row behind it, itself included."""
        rows = np.arange(len(self.manifest))
        roots, found = [rows], [rows]
        root = row = np.flatnonzero(self.below.counts)
        known: Ints = np.array([], dtype=np.int64)
        while len(row):
            at, below = self.below.of(row)
            # Indexes may list one another's children: a pair that was met is not followed again.
            pairs = np.unique(root[at] * len(rows) + below)
            pairs = pairs[~np.isin(pairs, known)]
            known = np.concatenate([known, pairs])
            root, row = pairs // max(1, len(rows)), pairs % max(1, len(rows))
            roots.append(root)
            found.append(row)
        return Edges(np.concatenate(roots), np.concatenate(found), len(rows))

    @cached_property
    def behind(self) -> Edges:
        """Each row to every blob behind it."""
        at, row = self.reach.of(np.arange(len(self.manifest)))
        inner, blob = self.own.of(self.manifest[row])
        return Edges(at[inner], blob, len(self.manifest))

    @cached_property
    def bases(self) -> Mask:
        """The rows that other images are built on: their layers, or those of a child, begin another image's."""
        found = begun(*self.layers, len(self.digests))[self.manifest]
        at, row = self.reach.of(np.arange(len(found)))
        found[at[found[row]]] = True
        return found

    def total(self, edges: Edges, weights: Ints | None = None) -> NDArray[np.int64]:
        """Return the bytes that each node leads to, or the sum of these weights of its targets."""
        sums = np.zeros(len(edges.target) + 1, dtype=np.int64)
        np.cumsum((self.sizes if weights is None else weights)[edges.target], out=sums[1:])
        return np.diff(sums[edges.start])

    @cached_property
    def leading(self) -> Ints:
        """How many tags lead to each blob."""
        weights = np.repeat(self.tagged, self.behind.counts)
        found = np.bincount(self.behind.target, weights, minlength=len(self.digests))
        return np.asarray(found.astype(np.int64))

    @cached_property
    def alone(self) -> Mask:
        """The blobs that exactly one tag leads to and nothing else needs."""
        held = np.zeros(len(self.digests), dtype=bool)
        held[self.own.of(self.manifest[self.untagged])[1]] = True
        return np.asarray((self.leading == 1) & ~held)

    @cached_property
    def held(self) -> Edges:
        """Each repository to every blob that its manifests need."""
        at, blob = self.own.of(self.manifest)
        return Edges(self.repository[at], blob, len(self.repositories))

    @cached_property
    def _all_needed(self) -> Ints:
        """How many distinct manifests need each blob, as a garbage collection sees it."""
        return np.bincount(self.followed.target, minlength=len(self.digests))

    def _manifests(self, rows: Mask) -> Mask:
        found = np.zeros(len(self.digests), dtype=bool)
        found[self.manifest[rows]] = True
        return found

    def needed(self, rows: Mask) -> Mask:
        """Return the blobs that a garbage collection keeps for some rows."""
        return self._needed(self._manifests(rows))

    def _needed(self, manifests: Mask) -> Mask:
        """Return the blobs that some manifests need, as a garbage collection sees it."""
        pairs = np.repeat(manifests, self.followed.counts)
        # Either theirs are counted or those of the others, whatever is less.
        few = 2 * np.count_nonzero(pairs) <= len(pairs)
        counts = np.bincount(self.followed.target.compress(pairs if few else ~pairs), minlength=len(self.digests))
        return np.asarray(counts > 0 if few else counts < self._all_needed)

    def bytes(self, blobs: Ints | Mask) -> int:
        """Return the bytes of some blobs together."""
        if blobs.dtype == np.bool_ and self._short:
            return int(self.sizes @ blobs)
        return total(self.sizes[blobs])

    @cached_property
    def _short(self) -> bool:
        """Whether all blobs together have a number of bytes that an integer holds."""
        return float(self.sizes.sum(dtype=np.float64)) < 2**62

    def freed(self, gone: Mask) -> Ints:
        """Return the blobs that a plain collection removes because some rows are gone, and would not remove without.

        Args:
            gone: For each row whether that repository loses that manifest.

        Returns:
            The numbers of the blobs: ``sizes[found].sum()`` are their bytes.
        """
        return np.flatnonzero(~self.needed(~(np.asarray(gone) | self.unseen)) & self._kept)

    @cached_property
    def _kept(self) -> Mask:
        """The blobs on disk that a plain collection keeps as long as no row is gone."""
        return self.needed(~self.unseen) & ~self.absent

    def of_repositories(self, names: Collection[str]) -> Mask:
        """Return the rows of some repositories."""
        concerned = np.fromiter((name in names for name in self.repositories), bool, len(self.repositories))
        return concerned[self.repository] if len(concerned) else np.zeros(len(self.manifest), dtype=bool)


class Numbered:
    """Records as numbers: a blob is its position in ``records.blobs``, a manifest that in ``records.manifests``.

    Attributes:
        links: Repository and digest of each row, in order.
        manifest: The manifest of each row.
        blob: The blob of each manifest.
        layers, children: How many each manifest has, and their blobs; -1 where there is none.
        homes: The number of each tag's repository.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        manifests = list(records.manifests.values())
        # Not kept: by digest, a blob takes more memory here than in all arrays.
        known = {digest: number for number, digest in enumerate(records.blobs)}
        lists = [row.layers for row in manifests], [row.children for row in manifests]
        self._direct: Ints | None = None
        if records.aliases:
            config = (row.config for row in manifests)
            self._direct = _numbers(known, chain(config, *(chain.from_iterable(each) for each in lists)))
            known |= {alias: known[stored] for alias, stored in records.aliases.items()}
        self.links = sorted(key for key in records.links if key[1] in records.manifests)
        self.blob = _numbers(known, records.manifests)
        place = np.zeros(len(known), dtype=np.int64)
        place[self.blob] = np.arange(len(manifests))
        self.manifest = place[_numbers(known, (digest for _, digest in self.links))]
        self.layers, self.children = (
            (_ints(map(len, each)), _numbers(known, chain.from_iterable(each))) for each in lists
        )
        self._names = {name: number for number, name in enumerate(records.repositories)}
        self.homes = _ints(self._names[tag.repository] for tag in records.tags)
        self._config, self._subject = (
            _numbers(known, (getattr(row, name) for row in manifests)) for name in ("config", "subject")
        )
        self._tagged = _numbers(known, (tag.digest for tag in records.tags))
        signs = [(at, subject_of_tag(tag.tag)) for at, tag in enumerate(records.tags) if tag.tag.startswith("sha")]
        self._signs = _ints(at for at, _ in signs), _numbers(known, (digest for _, digest in signs))

    def each(self, texts: Iterable[str]) -> NDArray[np.object_]:
        """Return of each row the text of its manifest."""
        return np.array(list(texts), dtype=object)[self.manifest]

    def graph(self) -> Graph:
        """Return the graph, whose tags are in the order of the records."""
        blobs = self._records.blobs.values()
        listing = np.repeat(self.blob, self.children[0])
        owner = np.concatenate([self.blob, np.repeat(self.blob, self.layers[0]), listing])
        subject = self._subject[self.manifest]
        return Graph(
            cast("pd.Series[str]", range(len(blobs))),
            _ints(blob.size for blob in blobs),
            np.fromiter((blob.kind in ABSENT for blob in blobs), bool, len(blobs)),
            list(self._names),
            _ints(self._names[name] for name, _ in self.links),
            self.blob[self.manifest],
            _known(owner, np.concatenate([self._config, self.layers[1], self.children[1]])),
            _known(listing, self.children[1]),
            (self.homes, self._tagged),
            (_known(np.arange(len(subject)), subject), _known(*self._signs)),
            None if self._direct is None else _known(owner, self._direct),
        )


def _numbers(known: Mapping[str, int], digests: Iterable[str]) -> NDArray[np.int64]:
    """Return the number of each digest; -1 where it has none."""
    return _ints(map(known.get, digests, repeat(-1)))


def _ints(values: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(values, np.int64)


def total(sizes: Ints) -> int:
    """Return a sum of bytes, in two halves: many tags on a large image may well go beyond 64 bits.

    Example:
        >>> total(np.array([2**62, 2**62, 1]))
        9223372036854775809
    """
    high, low = np.divmod(sizes, 2**26)
    return int(high.sum()) * 2**26 + int(low.sum())


def strings(texts: pd.Series[str] | pd.Index[str]) -> pa.Array:
    """Return texts as Arrow has them, without a Python string for each."""
    import pyarrow as pa  # `import regnb` stays light

    found = pa.array(texts.astype("str").array, pa.large_string())
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _known(source: Ints, target: Ints) -> tuple[Ints, Ints]:
    """Return the pairs both of whose ends are known."""
    known = (source >= 0) & (target >= 0)
    return source[known], target[known]


def _direct(source: Ints, target: Ints, blobs: int) -> tuple[Ints, Ints] | None:
    """Return the pairs whose target is named by its own digest; None if all are."""
    direct = target < blobs
    return None if direct.all() else (source[direct], target[direct])

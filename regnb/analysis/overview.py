"""The tables of an audit that is printed: of records without pandas, which would take as much memory as they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import astuple

from regnb.tables.figures import Figures, coverage
from regnb.tables.listing import Joined, Listing

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory
    from regnb.tables.edges import Ints
    from regnb.tables.listing import Column


class Overview(NamedTuple):
    """What an audit prints of an inventory.

    Attributes:
        repositories: The largest first.
        shared_tags: Digests that several tags carry.
        shared_layers: Layers that several manifests have, those first whose sharing saves most.
        uploads, problems, coverage: As the frames of these names.
        broken: Repository and tag of those that cannot be pulled.
    """

    repositories: Listing
    shared_tags: Listing
    shared_layers: Listing
    uploads: Listing
    problems: Listing
    coverage: Listing
    broken: list[tuple[str, str]]


def overview(inventory: Inventory) -> Overview:
    """Return what an audit prints of an inventory: of its records as long as no frames were made of them.

    Example:
        >>> len(overview(inventory).repositories)
        16
    """
    if figures := inventory.figures:
        return _of_figures(figures)
    tags = inventory.tags[~inventory.tags["pullable"].fillna(value=True)]
    largest = _descending(inventory.repositories["size"].to_numpy())
    return Overview(
        Listing.of(inventory.repositories.iloc[largest]),
        Listing.of(inventory.sharing.tags.drop(columns=["kind", "repositories"])),
        Listing.of(inventory.sharing.layers.drop(columns=["command", "tags"])),
        Listing.of(inventory.uploads),
        Listing.of(inventory.problems),
        Listing.of(inventory.coverage),
        list(zip(tags["repository"].tolist(), tags["tag"].tolist(), strict=True)),
    )


def _descending(sizes: Ints) -> Ints:
    """Return the order from the largest on, as pandas' ``sort_values`` has it."""
    return np.asarray(len(sizes) - 1 - np.argsort(sizes[::-1])[::-1])


def _of_figures(figures: Figures) -> Overview:
    records, tags = figures.records, figures.records.tags
    repositories = figures.repositories()
    sizes = np.asarray(repositories["size"], dtype=np.int64)
    return Overview(
        Listing.named("repositories", repositories).take(_descending(sizes).tolist()),
        _shared_tags(figures),
        _shared_layers(figures),
        Listing.of_rows("uploads", [astuple(row) for row in records.uploads]),
        Listing.of_rows("problems", list(figures.problems())),
        Listing.of_rows("coverage", coverage(records.coverage, records.source)),
        [(tags[at].repository, tags[at].tag) for at in np.flatnonzero(figures.broken).tolist()],
    )


def _shared_tags(figures: Figures) -> Listing:
    rows, tags, found = figures.records.tags, figures.tag_sizes, figures.alike()
    carrying = found.tags[found.first]
    digests = [rows[at].digest for at in carrying.tolist()]
    names = [f"{rows[at].repository}:{rows[at].tag}" for at in found.tags.tolist()]
    columns: dict[str, Column] = {
        "digest": digests,
        "size": tags[carrying],
        "tags": found.counts,
        "references": Joined(names, np.cumsum(found.counts).tolist()),
    }
    return Listing.named("shared_tags", columns).take(_ordered(digests, found.counts))


def _shared_layers(figures: Figures) -> Listing:
    found, names = figures.common(), figures.graph.repositories
    blobs = list(figures.records.blobs)
    digests = [blobs[at] for at in found.blobs.tolist()]
    columns: dict[str, Column] = {
        "digest": digests,
        "size": figures.blob_sizes[found.blobs],
        "manifests": figures.needing[found.blobs],
        "repositories": figures.holding[found.blobs],
        "saved": found.saved,
        "used_by": Joined([names[at] for at in found.repositories.tolist()], np.cumsum(found.users).tolist()),
    }
    return Listing.named("shared_layers", columns).take(_ordered(digests, found.saved))


def _ordered(digests: list[str], by: Ints) -> list[int]:
    """Return the order from the largest on; of equal ones by digest."""
    sizes = by.tolist()
    return sorted(range(len(digests)), key=lambda at: (-sizes[at], digests[at]))

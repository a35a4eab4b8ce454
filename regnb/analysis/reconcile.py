"""What a registry's API shows against what its disk holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from regnb.analysis.inventory import Inventory
from regnb.errors import InvalidArgument
from regnb.oci.reference import Digest
from regnb.tables.frame import Frame, of_rows

if TYPE_CHECKING:
    from regnb.tables.edges import Ints
from regnb.analysis.storage import Storage
from regnb.crawl.listing import blob_file


def reconcile(inventory: Inventory, storage: Storage | Inventory) -> Frame:
    """Explain the difference between what a registry's API shows and what its disk holds.

    Args:
        inventory: From the API.
        storage: Of the same registry.

    Returns:
        Columns: cause, blobs, size (bytes), total, message. The first row is what the API shows, the last what is on
        disk; the rows between add up to the difference.

    Raises:
        InvalidArgument: The first is not from the API, or the second not from a storage.
        StorageError: The storage cannot be read.

    Example:
        >>> reconcile(registry.inventory(), open_storage("/var/lib/registry"))[["cause", "message"]].tail(2)
            cause          message
        13  other      other files
        14   disk  what is on disk
    """
    disk = storage.inventory() if isinstance(storage, Storage) else storage
    if (inventory.source, disk.source) != ("api", "storage"):
        raise InvalidArgument(
            "one inventory of a registry's API and one of its storage are needed",
            hint="name the URL of a registry, then the folder or the URL of its storage: regnb reconcile URL DIR",
        )
    graph = disk.graph
    api = inventory.graph
    both = pd.DataFrame({"digest": graph.digests, "disk": graph.sizes, "on_disk": ~graph.absent}).merge(
        pd.DataFrame({"digest": api.digests, "api": api.sizes, "shown": ~api.absent}), on="digest", how="outer"
    )
    at, there = (pd.Index(of.digests, dtype="str").get_indexer(pd.Index(both["digest"])) for of in (graph, api))
    on_disk, shown_ = (both[name].eq(True).to_numpy() for name in ("on_disk", "shown"))  # noqa: FBT003 -- not missing
    sizes = both["disk"].fillna(0).to_numpy(np.int64), both["api"].fillna(0).to_numpy(np.int64)
    unread = np.zeros(len(graph.digests) + 1, dtype=bool)
    unread[graph.behind.of(_unread(inventory, disk))[1]] = True
    holders = np.bincount(graph.own.target, minlength=len(graph.digests))
    reached, needed = (np.append(counts > 0, False) for counts in (graph.leading, holders))
    lost, extra = shown_ & ~on_disk, on_disk & ~shown_
    still = np.zeros(len(api.digests) + 1, dtype=bool)
    still[api.behind.of(np.concatenate([_unmoved(inventory, disk), np.flatnonzero(api.untagged)]))[1]] = True
    settled = np.zeros(len(graph.digests) + 1, dtype=bool)
    settled[graph.behind.of(_unmoved(disk, inventory))[1]] = True
    failed = disk.problems[disk.problems["problem"].isin(["denied", "failed"])]["reference"]
    shut = tuple(f"{path}/" for path in failed if path.startswith("blobs"))
    hidden = both["digest"].map(blob_file).str.startswith(shut).to_numpy(bool)
    differs = on_disk & shown_ & (sizes[0] != sizes[1])
    foreign = extra & np.append(api.absent, False)[there]
    extra &= ~foreign
    causes = (
        ("hidden", lost & hidden, "the API shows them, but their folder on disk could not be read"),
        ("not on disk", lost & ~hidden & still[there], "the API shows them, but their bytes are gone: a pull fails"),
        ("gone since", lost & ~hidden & ~still[there], "moved or deleted between the two readings"),
        ("size", differs, "the manifest or the API states another size than the file has"),
        ("foreign", foreign, "the API treats them as stored elsewhere, but they are on disk nevertheless"),
        ("not read", extra & unread[at], "behind tags that were not requested or could not be read"),
        (
            "not served",
            extra & reached[at] & ~unread[at] & settled[at],
            "an index lists them, and its repository does not have them: a pull fails",
        ),
        ("new since", extra & reached[at] & ~unread[at] & ~settled[at], "pushed between the two readings"),
        ("untagged", extra & needed[at] & ~reached[at] & ~unread[at], "needed only by untagged manifests"),
        (
            "orphans",
            extra & ~needed[at] & ~unread[at],
            "no manifest needs them: the next garbage collection removes them",
        ),
    )
    rows: list[tuple[str, int, int, bool, str]] = [
        ("API", int(shown_.sum()), sum(sizes[1][shown_].tolist()), True, "what the API shows, each blob once")
    ]
    for cause, mask, message in causes:
        size = sum((sizes[0] * on_disk - sizes[1] * shown_)[mask].tolist())
        first = f", such as {Digest(both['digest'][mask].iloc[0]).short}" if mask.any() else ""
        rows.append((cause, int(mask.sum()), size, False, message + first))
    files = dict(zip(disk.disk["what"], disk.disk["size"].tolist(), strict=True))
    texts = {
        "uploads": "unfinished; no garbage collection removes them",
        "links": "link files, which say what each repository and tag holds",
        "other": "other files",
    }
    rows += [(what, 0, files.get(what, 0), False, text) for what, text in texts.items()]
    rows.append(("disk", int(on_disk.sum()), sum(row[2] for row in rows), True, "what is on disk"))
    return of_rows("reconciled", rows)


def _unmoved(one: Inventory, other: Inventory) -> Ints:
    """Return the rows of an inventory's tags that are the same in another: nothing behind them is new or gone since."""
    columns = ["repository", "tag", "digest"]
    found = one.tags[columns].merge(other.tags[columns], how="left", indicator=True)
    rows = one.graph.tags[(found["_merge"] == "both").to_numpy()]
    return np.asarray(rows[rows >= 0])


def _unread(inventory: Inventory, disk: Inventory) -> Ints:
    """Return the rows of the storage whose tags the API was not asked for, or could not read, wholly or at all."""
    repositories, catalog = inventory.repositories, inventory.coverage.set_index("what").loc["catalog"]
    readable = repositories["repository"][repositories["status"].isin(["read", "empty"])]
    found = disk.tags[["repository", "tag"]].merge(
        inventory.tags[["repository", "tag", "complete"]], on=["repository", "tag"], how="left"
    )
    unread = found["complete"].eq(False)  # noqa: FBT003 -- not missing
    # Where the whole catalog was read, a repository that was not in it is new.
    whole = catalog["listed"] and catalog["complete"]
    asked = found["repository"].isin(repositories["repository"])
    unread |= (asked & ~found["repository"].isin(readable)) | (~asked & (not whole))
    rows = disk.graph.tags[unread.to_numpy()]
    return np.asarray(rows[rows >= 0])

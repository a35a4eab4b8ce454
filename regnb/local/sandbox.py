"""The demo content in a registry that runs here: started, filled, and made as new."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import anyio
from anyio.from_thread import start_blocking_portal

from regnb.analysis.inventory import Inventory
from regnb.crawl.crawl import collect
from regnb.crawl.records import Records
from regnb.environment import variable
from regnb.errors import InvalidArgument
from regnb.local import demo, embedded
from regnb.wire.addresses import same
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.transport import Transport

SNAPSHOTS: Final = 9
"""Sample snapshots of the demo, four weeks apart."""
_STORAGE: Final = "storage"
_SNAPSHOTS: Final = "sample-snapshots"
_CONTENT: Final = "docker"
"""Below a storage: everything that a registry has."""


class Demo(NamedTuple):
    """A registry that runs, and what belongs to it.

    Attributes:
        url: The registry.
        storage: The folder that it serves.
        snapshots: A folder of sample snapshots: the demo as it would have been before.
    """

    url: str
    storage: Path
    snapshots: Path

    @property
    def environment(self) -> dict[str, str]:
        """What tells notebooks of it."""
        return {
            "REGNB_URL": self.url,
            "REGNB_STORAGE": str(self.storage),
            "REGNB_SNAPSHOTS": str(self.snapshots),
            "REGNB_DEMO": self.url,
        }


@contextmanager
def demo_registry(
    folder: Path | None = None, port: int = 0, *, damaged: bool = False, delete: bool = True, like_2_8: bool = False
) -> Iterator[Demo]:
    """Run the embedded registry with the demo content.

    Args:
        folder: Where its storage and the snapshots are; filled if there is nothing. By default a temporary folder.
        port: To listen on, on this machine only; 0 for a free one.
        damaged: Whether a tag is damaged, as :func:`damage_demo` does it.
        delete: As for :func:`regnb.local.embedded.create_app`.
        like_2_8: As for :func:`regnb.local.embedded.create_app`.

    Raises:
        StorageError: The folder holds something else, or cannot be written.
        InvalidArgument: The port is in use.

    Example:
        >>> with demo_registry() as found:
        ...     registry = regnb.connect(found.url)
    """
    with ExitStack() as stack:
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regnb-demo-")))
        storage, snapshots = where / _STORAGE, where / _SNAPSHOTS
        server = stack.enter_context(embedded.running(storage, port, delete=delete, like_2_8=like_2_8))
        found = Demo(server.url, storage, snapshots)
        if not snapshots.exists():
            _save_snapshots(anyio.run(_fill, found), snapshots)
            if damaged:
                demo.damage(storage)
        yield found


def reset_demo() -> None:
    """Make the demo registry of this environment what it was at first, while it runs.

    Raises:
        InvalidArgument: There is none: nothing is touched but what ``regnb demo`` has made.

    Example:
        >>> reset_demo()
    """
    found = _writable_demo()
    shutil.rmtree(found.storage / _CONTENT)
    # A notebook's kernel runs an event loop already.
    with start_blocking_portal() as portal:
        portal.call(_fill, found)


def damage_demo() -> None:
    """Take the manifest of ``broken/dangling:1.0`` away from the demo registry, to see how regnb shows damage.

    :func:`reset_demo` mends it.

    Raises:
        InvalidArgument: This environment names no demo registry.

    Example:
        >>> damage_demo()
    """
    demo.damage(_writable_demo().storage)


def _writable_demo() -> Demo:
    """Return the demo registry of this environment.

    Raises:
        InvalidArgument: There is none, or nothing may be written.
    """
    storage = Path(variable("REGNB_STORAGE"))
    made = storage.name == _STORAGE and (storage.parent / _SNAPSHOTS).is_dir() and (storage / _CONTENT).is_dir()
    url = variable("REGNB_DEMO")
    # Another registry's URL must never be filled with samples.
    if not (url and made and same(url, variable("REGNB_URL") or url)) or variable("REGNB_READ_ONLY"):
        raise InvalidArgument("this is not the demo registry", hint="regnb demo starts one")
    return Demo(url, storage, Path())


async def _fill(found: Demo) -> Records:
    """Push the demo content, and read it."""
    async with Client(Transport(found.url)) as client:
        await demo.seed(client)
        return await collect(client, Cache())


def _save_snapshots(records: Records, folder: Path) -> None:
    last = datetime.fromisoformat(demo.NOW)
    for age in reversed(range(SNAPSHOTS)):
        Inventory.of(_as_of(records, last - timedelta(weeks=4 * age))).save(folder)


def _as_of(records: Records, day: datetime) -> Records:
    """Return what would have been read on a day, had each image been pushed on the day that it was made."""
    known = records.manifests

    def behind(digest: str) -> set[str]:
        return {digest}.union(*(behind(child) for child in known[digest].children))

    trees = [(tag, behind(tag.digest)) for tag in records.tags]
    trees = [(tag, tree) for tag, tree in trees if max(known[one].created for one in tree) < day.isoformat()]
    there = {(tag.repository, digest) for tag, tree in trees for digest in tree}
    links = {key: asked for key, asked in records.links.items() if {key, (key[0], known[key[1]].subject)} & there}
    needed = {blob for _, digest in links for blob in (digest, known[digest].config, *known[digest].layers)}
    return replace(
        records,
        started=day,
        finished=day,
        repositories=dict.fromkeys((tag.repository for tag, _ in trees), "read"),
        tags=[tag for tag, _ in trees],
        links=links,
        manifests={digest: known[digest] for _, digest in links},
        blobs={digest: blob for digest, blob in records.blobs.items() if digest in needed},
    )

"""Which directory belongs to a registry, by what its ping answered."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from regnb.directories.api import sight
from regnb.directories.directory import GROUP, Directory
from regnb.errors import RegnbError
from regnb.log import logger
from regnb.wire.client import Client
from regnb.wire.transport import Transport

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUILT_IN: Final = {
    "harbor": "Harbor",
    "gitlab": "GitLab",
    "ecr": "ECR",
    "gar": "ArtifactRegistry",
    "hub": "Hub",
    "ghcr": "GitHub",
    "quay": "Quay",
    "acr": "AzureRegistry",
    "zot": "Zot",
}
"""Module to class, in the order in which they are tried."""
_LOG: Final = logger("wire")


def _installed() -> Iterable[EntryPoint]:
    """Return the adapters of other packages.

    Nearly always there are none, and importlib.metadata takes a tenth of a small audit to say so.
    """
    files = (path for folder in sys.path for path in Path(folder).glob("*.*-info/entry_points.txt"))
    with contextlib.suppress(OSError):
        if not any(GROUP.encode() in path.read_bytes() for path in files):
            return ()
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda each: each.name)


def _classes() -> Iterator[type[Directory]]:
    for point in _installed():
        try:
            yield cast("type[Directory]", point.load())
        except Exception as error:  # noqa: BLE001 -- another package's fault must not end an audit
            _LOG.warning("the adapter %s cannot be loaded: %s", point.name, error)
    for module, name in BUILT_IN.items():
        yield cast("type[Directory]", getattr(import_module(f"regnb.directories.{module}"), name))


async def find(client: Client) -> Directory | None:
    """Return the adapter to a registry's own API; None where regnb knows none.

    Nothing is sent where the ping's answer is at hand, unless it leaves two vendors possible.

    Example:
        ``directory = await find(client)``
    """
    transport = client.transport
    if not isinstance(transport, Transport):
        return None  # layouts and archives
    seen = sight(transport)
    if seen is None:
        await client.ping()
        seen = sight(transport)
    if seen is None:
        return None
    for kind in _classes():
        try:
            if found := await kind.of(seen):
                return found
        except RegnbError as error:
            _LOG.info("%s", error.message)
    return None

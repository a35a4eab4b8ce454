"""An inventory by a name alone: of a registry, its storage, a layout, an archive or a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from regnb.analysis.storage import open_storage
from regnb.environment import variable
from regnb.errors import InvalidArgument
from regnb.layouts.shelf import find
from regnb.oci.reference import Reference

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory
    from regnb.registry import Registry
    from regnb.tables.frame import Frame

_HUB: Final = "docker.io"


def is_file(where: str | Path) -> bool:
    """Whether a folder is meant, or a URL that fsspec reads, and not a registry.

    Example:
        >>> is_file("s3://bucket/registry"), is_file("./registry"), is_file("localhost:5000")
        (True, True, False)
    """
    name = str(where)
    scheme, colon, _ = name.partition("://")
    if colon:
        return scheme.lower() not in ("http", "https")
    return isinstance(where, Path) or name.startswith(("/", ".")) or Path(name).is_dir()


def read(
    where: str | Path | None = None,
    repositories: str | Sequence[str] | None = None,
    *,
    storage: str | Path | None = None,
    cached: bool = True,
    fill_cache: bool = False,
    listing: str | Path | None = None,
    connect: Callable[[str], AbstractContextManager[Registry]] | None = None,
) -> Inventory:
    """Read a registry, the storage of one, layouts, an archive, or a snapshot, and return its inventory.

    Args:
        where: ``http://host:port`` of a registry; a folder or URL (``s3://bucket/folder``) that holds a registry's
            storage or a snapshot; ``oci:DIR[:TAG]``, ``oci-archive:FILE`` or ``docker-archive:FILE``, as skopeo and
            podman name them, or a folder of OCI layouts. By default the environment's ``REGNB_URL``.
        repositories: Of a registry, a layout or an archive only these, as for :meth:`Registry.inventory`.
        storage: The registry's own storage, if it can be reached. It is read instead of ``where``, and as a whole:
            ``repositories`` then has no effect.
        cached: As for :meth:`Registry.inventory`.
        fill_cache: As for :meth:`Registry.inventory`.
        listing: Of a storage in a bucket the ``manifest.json`` of an S3 Inventory, as for :func:`open_storage`.
        connect: What connects to a registry, such as one that has credentials.

    Raises:
        InvalidArgument: Nothing was named, repositories of what is always read as a whole, or a listing of what is not
            a bucket.
        StorageError: The folder holds neither a registry nor a snapshot, or cannot be read.
        RegistryError: As :func:`regnb.connect` raises it.

    Example:
        >>> len(regnb.read("/var/lib/registry").tags)
        55
    """
    if storage:
        where, repositories = storage, None
    where = where or variable("REGNB_URL")
    if listing and "://" in str(where) and is_file(where):
        return _whole(where, repositories, listing)
    if listing:
        raise InvalidArgument(
            f"a listing needs a bucket, and {where} is not a bucket", hint="name it: s3://bucket/folder"
        )
    if not is_file(where) or find(where):
        from regnb import registry as registries  # what reads files loads no HTTP

        with (connect or registries.connect)(str(where)) as registry:
            return registry.inventory(repositories, cached=cached, fill_cache=fill_cache)
    return _whole(where, repositories)


def _whole(where: str | Path, repositories: object, listing: str | Path | None = None) -> Inventory:
    """Read a storage or a snapshot."""
    if repositories:
        raise InvalidArgument(f"{where} is read as a whole", hint="leave out the repositories")
    from regnb.analysis import inventory, snapshot

    if not listing and snapshot.is_snapshot(where):
        return inventory.Inventory.load(where)
    return open_storage(where, listing=listing).inventory()


def known_bases(
    names: Iterable[str], connect: Callable[[str], AbstractContextManager[Registry]] | None = None
) -> Frame:
    """Read images that others may be built on, each for all its platforms, for :meth:`Inventory.find_bases`.

    Args:
        names: Such as ``debian:12`` (of Docker Hub) or ``registry.example:5000/base/debian:12``.
        connect: What connects to a registry by its host; by default :func:`regnb.connect`.

    Returns:
        A row for each layer (:data:`regnb.tables.columns.COLUMNS`, ``known_bases``); it may be saved and used again.

    Raises:
        InvalidReference, NotFound: A name that is not valid, or an image that is not there.
        RegistryError: As :func:`regnb.connect` raises it.

    Example:
        >>> regnb.known_bases(["localhost:5000/vm/centos8:8.4"])["position"].to_list()
        [0, 1, 2, 3]
    """
    import pandas as pd

    from regnb import registry as registries
    from regnb.tables.frame import Frame, of_rows

    of: dict[str, list[Reference]] = {}
    for name in (names,) if isinstance(names, str) else names:
        where = Reference.parse(name) if Reference.parse(name).registry else Reference.parse(f"{_HUB}/{name}")
        of.setdefault(where.registry or _HUB, []).append(where)
    found: list[Frame] = []
    for host, some in of.items():
        with (connect or registries.connect)(host) as registry:
            for where in some:
                one = registry.known_base(Reference(where.repository, where.tag, where.digest))
                found.append(Frame(one.assign(name=f"{host}/{where.repository}:{where.target}")))
    return Frame(pd.concat(found, ignore_index=True)) if found else of_rows("known_bases", [])

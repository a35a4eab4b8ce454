"""The storage of a registry, which answers as the registry does: to look into its images without it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from regnb.crawl.files import local_path, opened
from regnb.errors import InvalidReference, StorageError
from regnb.layouts.files import Content
from regnb.layouts.layout import Layout
from regnb.layouts.shelf import Shelf
from regnb.oci.disk import BASE, REPOSITORIES, blob_path, repository_path
from regnb.oci.reference import check_repository, is_digest, is_tag
from regnb.oci.transports import REF_NAME, Place
from regnb.text import redact

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_REMOTE: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""Schemes of URLs where registries keep their storage."""
_FRESH: Final = 60
"""Seconds for which the tags of a repository are taken to be those that were read."""


def is_stored(where: str | Path) -> bool:
    """Whether a name is that of a registry's storage: a local folder that holds one, or a URL that fsspec reads.

    Example:
        >>> is_stored("s3://bucket/registry"), is_stored("https://localhost:5000")
        (True, False)
    """
    scheme, colon, _ = str(where).partition("://")
    path = local_path(where)
    return Path(path, BASE).is_dir() if path else bool(colon) and scheme.lower() in _REMOTE


class _Stored(Place):
    """A storage, which is called by its URL."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.path if "://" in self.path else f"file://{self.path}"


class StoredFiles:
    """The blobs of a storage, and the tags of one repository as an ``index.json`` would list them.

    Args:
        filesystem: Where it lies.
        root: The folder that holds ``docker/registry/v2``.
        where: What people call it.
        repository: The repository.
    """

    def __init__(self, filesystem: AbstractFileSystem, root: str, where: str, repository: str) -> None:
        self._filesystem, self._root = filesystem, root
        self.where = where
        self._tags = f"{root}/{repository_path(repository)}/_manifests/tags"

    def stamp(self) -> object:
        """Return a value that is another one when the tags are to be read again."""
        return int(time.monotonic() / _FRESH)

    def index(self) -> bytes:
        """Return the tags as an ``index.json``."""
        try:
            names = [str(path).rstrip("/").rpartition("/")[2] for path in self._filesystem.ls(self._tags, detail=False)]
        except FileNotFoundError:
            names = []
        paths = {f"{self._tags}/{name}/current/link": name for name in names if is_tag(name)}
        found = self._filesystem.cat(list(paths), on_error="omit") if paths else {}
        links = {path.lstrip("/"): data for path, data in found.items()}
        rows = []
        for path, name in paths.items():
            digest = links.get(path.lstrip("/"), b"").decode("utf-8", "replace").strip()
            if is_digest(digest):
                rows.append({"digest": digest, "size": 0, "annotations": {REF_NAME: name}})
        return msgspec.json.encode({"schemaVersion": 2, "manifests": rows})

    def size(self, digest: str) -> int | None:
        """Return the size of a blob; None if it is not there."""
        try:
            return int(self._filesystem.size(self._path(digest)))
        except FileNotFoundError:
            return None

    def open(self, digest: str) -> Content:
        """Open a blob that is there."""
        file: Content = self._filesystem.open(self._path(digest), "rb")
        return file

    def _path(self, digest: str) -> str:
        return f"{self._root}/{blob_path(digest)}"

    def blobs(self) -> Iterator[tuple[str, int]]:
        """Yield nothing: what is on disk is told by the reading of the storage."""
        yield from ()

    def oddities(self) -> list[str]:
        """Return nothing: what is odd is told by the reading of the storage."""
        return []


class StoredShelf(Shelf):
    """The repositories of a storage, each as a layout.

    Args:
        url: The storage, as :func:`regnb.open_storage` takes it.
        options: For the file system.

    Raises:
        StorageError: It cannot be read.
    """

    def __init__(self, url: str | Path, **options: object) -> None:
        self._stack = ExitStack()
        self._filesystem, root = self._stack.enter_context(opened(url, "read", **options))
        root = root.rstrip("/").removesuffix(f"/{BASE}")
        self._root = root
        self.failed, self.folder = [], None
        self.why = "it is the storage of a registry"
        self.hint = "connect to the registry that it belongs to"
        self.place = _Stored("oci", local_path(url) or redact(url))
        self._known: dict[str, Layout] = {}

    def close(self) -> None:
        """Let go of the file system."""
        self._stack.close()

    @property
    def new(self) -> bool:
        """Whether there is nothing there yet."""
        return False

    @property
    def layouts(self) -> list[Layout]:
        """Those that were asked for."""
        return [*self._known.values()]

    def repositories(self) -> list[str]:
        """Return the names of the repositories.

        Raises:
            StorageError: They cannot be listed.
        """
        found: list[str] = []
        todo = [""]
        top = f"{self._root}/{REPOSITORIES}"
        while todo:
            name = todo.pop()
            try:
                inside = self._filesystem.ls(f"{top}/{name}".rstrip("/"), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise StorageError(
                    f"cannot list {name or 'the repositories'}: {error}", hint="check the user"
                ) from None
            folders = [str(one["name"]).rstrip("/").rpartition("/")[2] for one in inside if one["type"] == "directory"]
            if name and "_manifests" in folders:
                with suppress(InvalidReference):
                    found.append(check_repository(name))
            todo += [f"{name}/{one}".lstrip("/") for one in folders if not one.startswith(("_", "."))]
        return sorted(found)

    def of(self, repository: str) -> Layout | None:
        """Return a repository as a layout; None if it is not there."""
        if repository not in self._known:
            if not self._filesystem.isdir(f"{self._root}/{repository_path(repository)}/_manifests"):
                return None
            files = StoredFiles(self._filesystem, self._root, str(self.place.path), repository)
            self._known[repository] = Layout(files, repository)
        return self._known[repository]

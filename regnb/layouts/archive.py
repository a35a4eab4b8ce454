"""A layout in one file: ``oci-archive``, and what ``docker save`` writes since Docker 25."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from regnb.errors import StorageError
from regnb.layouts.files import Content, blob
from regnb.layouts.folder import INDEX, MARK
from regnb.layouts.index import LIMIT
from regnb.layouts.tar import Member, Tar
from regnb.oci.reference import is_digest

_DEPTH: Final = 3
"""Parts of a blob's path."""


class Archive:
    """The files of a layout in an archive.

    Args:
        tar: The archive.
    """

    def __init__(self, tar: Tar) -> None:
        self._tar = tar
        self.where = tar.where
        self._index: bytes | None = None

    @staticmethod
    def fits(tar: Tar) -> bool:
        """Whether an archive holds a layout."""
        return tar.find(INDEX) is not None or tar.find(MARK) is not None

    def index(self) -> bytes:
        """Return ``index.json``."""
        if self._index is not None:
            return self._index
        data = self._tar.read(INDEX, LIMIT)
        if data is None:
            hint = "copy the archive again; or write docker-archive:FILE if docker save made it"
            raise StorageError(f"{self.where} is not an OCI layout: it has no {INDEX}", hint=hint)
        return data

    def narrow(self, index: bytes) -> None:
        """List less of the archive."""
        self._index = index

    def stamp(self) -> object:
        """Return the same value always: an archive stays as it was when it was opened."""
        return self.where

    def size(self, digest: str) -> int | None:
        """Return the size of a blob, or None."""
        found = self._tar.find(blob(digest))
        return found.size if found else None

    def open(self, digest: str) -> Content:
        """Open a blob."""
        found = self._tar.find(blob(digest))
        return self._tar.open(found or Member(0, 0))

    def blobs(self) -> Iterator[tuple[str, int]]:
        """Yield every blob."""
        for name in self._tar.names():
            parts = name.split("/")
            if len(parts) == _DEPTH and parts[0] == "blobs" and is_digest(f"{parts[1]}:{parts[2]}"):
                member = self._tar.find(name)
                if member is not None:
                    yield f"{parts[1]}:{parts[2]}", member.size

    def oddities(self) -> list[str]:
        """Return what is odd about the layout as a whole."""
        data = self._tar.read(MARK, LIMIT)
        return [] if data else [f"the archive has no file {MARK}, and other tools refuse such a layout"]

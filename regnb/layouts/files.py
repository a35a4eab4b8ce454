"""The files of a layout, wherever they lie: what a folder and an archive have in common."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Final, Protocol

from regnb.crawl.files import reason
from regnb.errors import StorageError, TooLarge
from regnb.oci.reference import Digest

PIECE: Final = 1024 * 1024
"""Bytes that are read at once."""


class Content(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes | None:
        """Return the next bytes, at most so many; nothing at the end."""

    def seek(self, offset: int, /) -> int:
        """Go to a byte."""

    def close(self) -> None:
        """Close the file."""


class Files(Protocol):
    """A layout's files.

    Attributes:
        where: What people call it.
    """

    where: str

    def index(self) -> bytes:
        """Return ``index.json``.

        Raises:
            StorageError, TooLarge: There is none, or it cannot be read.
        """

    def stamp(self) -> object:
        """Return a value that is another one when ``index.json`` may have changed."""

    def size(self, digest: str) -> int | None:
        """Return the size of a blob; None if it is not there.

        Raises:
            StorageError: It cannot be looked at.
        """

    def open(self, digest: str) -> Content:
        """Open a blob that is there.

        Raises:
            StorageError: It cannot be read.
        """

    def blobs(self) -> Iterator[tuple[str, int]]:
        """Yield digest and size of every blob."""

    def oddities(self) -> list[str]:
        """Return what is odd about the layout as a whole, a sentence each."""


def blob(digest: str) -> str:
    """Return the path of a blob in a layout.

    Example:
        >>> blob(Digest.of(b""))[:20]
        'blobs/sha256/e3b0c44'
    """
    algorithm, _, hexes = Digest(digest).partition(":")
    return f"blobs/{algorithm}/{hexes}"


@contextlib.contextmanager
def errors_of(where: str, what: str = "read") -> Iterator[None]:
    """Turn what goes wrong with a file within into one message.

    Raises:
        StorageError: Of every OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {what} {where}: {reason(error)}", hint="check the medium and its rights") from None


def whole(files: Files, digest: str, limit: int) -> bytes | None:
    """Return all bytes of a small blob; None if it is not there.

    Raises:
        TooLarge: There are more than ``limit`` of them.
        StorageError: It cannot be read.
    """
    size = files.size(digest)
    if size is None:
        return None
    if size > limit:
        raise TooLarge(f"{files.where}: {digest} has {size:,} bytes, and at most {limit:,} are read")
    with errors_of(files.where), contextlib.closing(files.open(digest)) as file:
        pieces = []
        while piece := file.read(PIECE):
            pieces.append(piece)
        return b"".join(pieces)


def digest_of(file: Content) -> Digest:
    """Return the digest of the bytes of an open file.

    Example:
        >>> import io
        >>> digest_of(io.BytesIO(b"")) == Digest.of(b"")
        True
    """
    hasher = hashlib.sha256()
    while piece := file.read(PIECE):
        hasher.update(piece)
    return Digest(f"sha256:{hasher.hexdigest()}")

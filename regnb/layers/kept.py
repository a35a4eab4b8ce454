"""Listings of layers that were read before, by the layer's digest, in the user's cache folder, bounded in size."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from regnb.layers.listing import Listing, Way

LIMIT: Final = 512 * 2**20
"""Bytes of listings that are kept; those that were not used for longest go first."""
_SUM: Final = 16


class Kept:
    """Listings by digest and way. A folder that cannot be written keeps nothing, and never fails a reading.

    Args:
        folder: Where they lie; None keeps them in memory.
        limit: Bytes to keep.

    Example:
        >>> Kept(None).get("sha256:" + "0" * 64, "stream")
    """

    def __init__(self, folder: Path | None, *, limit: int = LIMIT) -> None:
        self._folder = None if folder is None else folder / "layers"
        self._limit = limit
        self._memory: dict[str, Listing] = {}

    def get(self, digest: str, way: Way) -> Listing | None:
        """Return the listing of a layer that was got this way, if it is here and whole."""
        name = _name(digest, way)
        if self._folder is None:
            return self._memory.get(name)
        with contextlib.suppress(OSError):
            path = self._folder / name
            data = path.read_bytes()
            if data[:_SUM] == _checksum(name, data[_SUM:]) and (found := Listing.decode(data[_SUM:])):
                os.utime(path)
                return found
        return None

    def put(self, digest: str, listing: Listing) -> None:
        """Keep the listing of a layer whose bytes, or whose table of contents, were verified."""
        name = _name(digest, listing.way)
        if self._folder is None:
            self._memory[name] = listing
            return
        data = listing.encode()
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
            try:
                with open(handle, "wb") as file:  # noqa: PTH123 -- a descriptor, not a path
                    file.write(_checksum(name, data) + data)
                Path(temporary).replace(self._folder / name)
            except OSError:  # as on a full disk, which must not become fuller
                Path(temporary).unlink()
                raise
            self._evict()

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir() if self._folder is not None else ():
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
        return sorted(found)

    def _evict(self) -> None:
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files[:-1]:
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= size

    @property
    def size(self) -> int:
        """Bytes of the listings that are kept."""
        return sum(size for _, size, _ in self._files())

    def clear(self) -> int:
        """Forget every listing, and return how many bytes that was."""
        size = self.size
        for _, _, path in self._files():
            with contextlib.suppress(OSError):
                path.unlink()
        self._memory.clear()
        return size


def _name(digest: str, way: Way) -> str:
    return f"{digest.replace(':', '-')}.{way}"


def _checksum(name: str, data: bytes) -> bytes:
    """Return what shows that a file is as it was written: a damaged one must not become a wrong listing."""
    return hashlib.blake2b(data, digest_size=_SUM, key=name.encode()[-64:]).digest()

"""A layout in a folder: read, and written so that it is valid whenever the writing ends."""

# ruff: noqa: PTH103, PTH105, PTH108, PTH112, PTH113, PTH116, PTH120, PTH123 -- paths are texts

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from regnb.crawl.files import reason
from regnb.errors import Busy, StorageError, TooLarge
from regnb.layouts.files import blob, errors_of
from regnb.layouts.index import EMPTY, LIMIT
from regnb.oci.reference import is_digest

if sys.platform != "win32":  # there regnb's own lock on a repository is left
    import fcntl

MARK: Final = "oci-layout"
INDEX: Final = "index.json"
VERSION: Final = b'{"imageLayoutVersion":"1.0.0"}'
_PART: Final = ".regnb-"
_STALE: Final = 86_400.0
"""Seconds after which a part of a blob that nobody finished is removed."""
_PATIENCE: Final = 30.0
"""Seconds to wait for whoever else writes ``index.json``: that takes an instant."""


def is_layout(path: str) -> bool:
    """Whether a folder holds a layout, be it whole or broken.

    Example:
        >>> is_layout("/")
        False
    """
    whole = os.path.isfile(f"{path}/{INDEX}") and os.path.isdir(f"{path}/blobs")
    return whole or os.path.isfile(f"{path}/{MARK}")


def is_new(path: str) -> bool:
    """Whether there is nothing yet where a layout may be made: no such folder, or an empty one.

    Raises:
        StorageError: It cannot be looked at.
    """
    with errors_of(path):
        try:
            with os.scandir(path) as entries:
                return all(entry.name.startswith(_PART) or entry.name == "lost+found" for entry in entries)
        except FileNotFoundError:
            return True


class Folder:
    """The files of a layout in a folder.

    Args:
        path: The folder.
        where: What people call it.
    """

    def __init__(self, path: str, where: str = "") -> None:
        self.path = path
        self.where = where or path

    def index(self) -> bytes:
        """Return ``index.json``."""
        try:
            with _opened(f"{self.path}/{INDEX}") as file:
                data = file.read(LIMIT + 1)
        except FileNotFoundError:
            hint = "copy the layout again: whatever made it was interrupted, or it is not a layout"
            raise StorageError(f"{self.where} is not a complete OCI layout: it has no {INDEX}", hint=hint) from None
        except OSError as error:
            raise StorageError(f"cannot read {self.where}/{INDEX}: {reason(error)}", hint="check its rights") from None
        if len(data) > LIMIT:
            hint = "split the layout: no tool reads such an index at once"
            raise TooLarge(f"{self.where}: {INDEX} has more than {LIMIT:,} bytes", hint=hint)
        return data

    def stamp(self) -> object:
        """Return a value that changes with ``index.json``."""
        try:
            found = os.stat(f"{self.path}/{INDEX}")
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def size(self, digest: str) -> int | None:
        """Return the size of a blob, or None."""
        try:
            found = os.stat(f"{self.path}/{blob(digest)}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(
                f"cannot look at {self.where}/{blob(digest)}: {reason(error)}", hint="check its rights"
            ) from None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open(self, digest: str) -> IO[bytes]:
        """Open a blob."""
        with errors_of(f"{self.where}/{blob(digest)}"):
            return _opened(f"{self.path}/{blob(digest)}")

    def blobs(self) -> Iterator[tuple[str, int]]:
        """Yield every blob."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError), os.scandir(f"{self.path}/blobs/{algorithm}") as entries:
                for entry in entries:
                    if is_digest(f"{algorithm}:{entry.name}") and entry.is_file():
                        yield f"{algorithm}:{entry.name}", entry.stat().st_size

    def oddities(self) -> list[str]:
        """Return what is odd about the layout as a whole."""
        try:
            with _opened(f"{self.path}/{MARK}") as file:
                data = file.read(4096)
        except OSError as error:
            return [f"the file {MARK} cannot be read ({reason(error)}), and umoci and others refuse such a layout"]
        if b'"imageLayoutVersion"' not in data or b'"1.' not in data:
            return [f"the file {MARK} does not name version 1.0.0 of image layouts"]
        return []

    # Writing

    def begin(self) -> None:
        """Make the folder a layout, unless it is one, and clear what was left behind long ago.

        Raises:
            StorageError: It cannot be written.
        """
        with errors_of(self.where, "write"):
            folder = Path(self.path)
            (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
            for name, data in ((INDEX, EMPTY), (MARK, VERSION)):
                if not (folder / name).exists():
                    self._replace(name, data)
            for left in folder.glob(f"{_PART}*"):
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > _STALE:
                        left.unlink()

    def part(self) -> IO[bytes]:
        """Open a new file for a blob that is still to come."""
        with errors_of(self.where, "write"):
            return _created(f"{self.path}/{_PART}{secrets.token_hex(8)}")

    def keep(self, part: IO[bytes], digest: str) -> None:
        """Close a file that is complete, and give it its place among the blobs."""
        with errors_of(self.where, "write"):
            part.flush()
            os.fsync(part.fileno())
            part.close()
            target = f"{self.path}/{blob(digest)}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(part.name, target)

    def drop(self, part: IO[bytes]) -> None:
        """Remove a file that did not become complete."""
        with contextlib.suppress(OSError):
            part.close()
        with contextlib.suppress(OSError):
            os.unlink(part.name)

    def put(self, digest: str, data: bytes) -> None:
        """Write a small blob, unless its bytes are there."""
        if self.size(digest) == len(data):
            with contextlib.closing(self.open(digest)) as file:
                if file.read(len(data) + 1) == data:
                    return
        with errors_of(self.where, "write"):
            self._replace(blob(digest), data)

    def change(self, edit: Callable[[bytes], bytes]) -> None:
        """Replace ``index.json`` by what is made of it, in one step; what others wrote meanwhile is kept.

        Raises:
            Busy: Another process does not stop writing it.
            StorageError: It cannot be written.
        """
        with self._alone():
            before = self.index()
            after = edit(before)
            if after != before:
                with errors_of(self.where, "write"):
                    _sync(f"{self.path}/blobs/sha256")
                    self._replace(INDEX, after)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from changing ``index.json``: a lock on the folder itself, which leaves nothing behind."""
        if sys.platform == "win32":
            yield
            return
        with errors_of(self.where, "write"):
            at = os.open(self.path, os.O_RDONLY)
        try:
            until = time.monotonic() + _PATIENCE
            while True:
                try:
                    fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                        break  # a file system without locks: the rename is still one step
                    if time.monotonic() > until:
                        hint = "wait until it has ended, then go on"
                        raise Busy(f"another process is writing to {self.where}", hint=hint) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(at)

    def _replace(self, name: str, data: bytes) -> None:
        """Write a file so that there is the old one or the new one, and never a part of it."""
        part, target = self.part(), f"{self.path}/{name}"
        try:
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
            part.close()
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(part.name, target)
        except BaseException:
            self.drop(part)
            raise
        _sync(os.path.dirname(target))


def _created(path: str) -> IO[bytes]:
    at = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    return open(path, "wb", opener=lambda *_: at)


def _opened(path: str) -> IO[bytes]:
    """Open a file to read; what is not a file, such as a pipe, keeps nobody waiting.

    Raises:
        OSError: There is none, or it is not a file.
    """
    at = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(at).st_mode):
        os.close(at)
        raise OSError(errno.EINVAL, "not a regular file")
    return open(at, "rb")


def _sync(folder: str) -> None:
    """See to it that names in a folder are on disk, where the file system can say so."""
    with contextlib.suppress(OSError):
        at = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(at)
        finally:
            os.close(at)

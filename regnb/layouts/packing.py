"""A new ``oci-archive``: a layout in a folder beside it until all is there, and then one file in one step."""

# ruff: noqa: PTH105, PTH108, PTH123 -- paths are texts

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import tarfile
from typing import IO, Final

from regnb.errors import StorageError
from regnb.layouts.files import blob, errors_of
from regnb.layouts.folder import INDEX, MARK, VERSION, Folder

_PART: Final = ".regnb"


def beside(path: str) -> str:
    """Return the folder in which an archive is prepared; a copy that was interrupted goes on there.

    Example:
        >>> beside("/media/usb/app.tar")
        '/media/usb/.app.tar.regnb'
    """
    folder, name = os.path.split(path)
    return f"{folder}/.{name}{_PART}"


def pack(folder: Folder, index: bytes, path: str) -> None:
    """Write a layout into a new archive, and remove the folder that it was prepared in.

    The same layout gives the same bytes: members stand in order, and have neither dates nor owners.

    Args:
        folder: The layout.
        index: Its ``index.json``, as the archive is to have it.
        path: The archive.

    Raises:
        StorageError: There is such a file by now, or it cannot be written: the folder stays.
    """
    part = f"{folder.path}-{secrets.token_hex(4)}"
    with errors_of(path, "write"):
        try:
            with open(part, "xb") as file:
                _write(file, folder, index)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, path)  # which replaces nothing
            except FileExistsError:
                hint = "move it away, then go on: regnb apply --resume RECEIPT"
                raise StorageError(f"{path} exists already, and regnb does not replace it", hint=hint) from None
            except OSError:  # a file system without links
                if os.path.lexists(path):
                    raise
                os.replace(part, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
    shutil.rmtree(folder.path, ignore_errors=True)


def _write(file: IO[bytes], folder: Folder, index: bytes) -> None:
    blobs = sorted(folder.blobs())
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in ((MARK, VERSION), (INDEX, index)):
            tar.addfile(_member(name, len(data)), io.BytesIO(data))
        for digest, size in blobs:
            with contextlib.closing(folder.open(digest)) as content:
                tar.addfile(_member(blob(digest), size), content)


def _member(name: str, size: int) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.mode = size, 0o644
    return found

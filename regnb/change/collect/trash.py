"""The trash of a storage: folders are moved there by rename, with their owner and mode, and back again.

It lies at ``docker/registry/v2/_regnb-trash/<run>/``, where everything has the path that it had. So the trash itself
says what was moved. Folders are opened one below the other, and no symbolic link is followed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from regnb.change.collect.place import Look, Moved, Run, moved_at
from regnb.change.collect.planning import LocalLook
from regnb.change.collect.state import State
from regnb.change.sweep import PHASES, TRASH, Row, Sweep
from regnb.crawl.files import file_errors, reason
from regnb.crawl.listing import blob_file
from regnb.errors import Busy, InvalidArgument, InvalidReference, Refused, StorageError
from regnb.oci.manifest import MANIFEST_LIMIT

_OPEN: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_KEPT_OPEN: Final = 200
"""Folders that are kept open, so that a batch does not walk the same path again and again."""
_EMPTIED: Final = ".emptying"
_BY_SLASH: Final = sys.platform == "linux"
"""Whether the system renames by a name that ends in a slash nothing but a folder: others do with symbolic links."""


class Trash:
    """The folders of a local storage while they are moved. Nobody else may, meanwhile.

    Args:
        base: The folder ``docker/registry/v2``.

    Raises:
        Busy: Another collection is at work.
        StorageError: The folder cannot be opened.

    Example:
        ``with Trash("/var/lib/registry/docker/registry/v2") as trash: trash.move(row, run)``
    """

    def __init__(self, base: str) -> None:
        self.base = os.path.realpath(base)
        self._open: dict[str, int] = {}
        self._held = -1
        self._owner: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        try:
            import fcntl
        except ImportError:  # Windows
            raise StorageError("a storage cannot be collected on this system", hint="run regnb on Linux") from None
        try:
            self._held = os.open(self.base, _OPEN)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._held)
            raise Busy(
                f"another collection is at work in {self.base}",
                hint="wait until it has ended, then make the plan again",
            ) from None
        except OSError as error:
            if self._held >= 0:
                os.close(self._held)
            raise StorageError(
                f"cannot lock {self.base}: {reason(error)}", hint="collect where the file system is mounted locally"
            ) from None
        about = os.fstat(self._held)
        if os.geteuid() == 0 != about.st_uid:
            self._owner = about.st_uid, about.st_gid
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._let_go()
        os.close(self._held)

    def _let_go(self) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def _folder(self, path: str, like: str = "", *, make: bool = False) -> int:
        """Return an open folder below the base, by its path; the base itself for "".

        Args:
            path: Below the base.
            like: The folder that has the same owner and mode, where one has to be made: else only we may look into it.
            make: Whether to make what is not there.
        """
        if not path:
            return self._held
        if (known := self._open.get(path)) is not None:
            return known
        parent, _, name = path.rpartition("/")
        above = self._folder(parent, like.rpartition("/")[0], make=make)
        try:
            found = os.open(name, _OPEN, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(name, 0o700, dir_fd=above)
            found = os.open(name, _OPEN, dir_fd=above)
            if like:
                self._resemble(found, above)
            elif self._owner:
                # What root made in the trash of somebody else's storage is that owner's to put back and to empty.
                with contextlib.suppress(PermissionError):  # root of a container may not be allowed to
                    os.fchown(found, *self._owner)
        self._open[path] = found
        return found

    def _spare(self) -> None:
        """Close the folders if there are many: never while one of them is in use."""
        if len(self._open) >= _KEPT_OPEN:
            self._let_go()

    @staticmethod
    def _resemble(made: int, above: int) -> None:
        """Give a folder that had to be made again the owner and mode of the one above it."""
        about = os.fstat(above)
        os.fchmod(made, stat.S_IMODE(about.st_mode))
        if (about.st_uid, about.st_gid) != (os.fstat(made).st_uid, os.fstat(made).st_gid):
            os.fchown(made, about.st_uid, about.st_gid)

    returns = True
    """Whether what was moved can be put back."""

    def take(self, plan: Sweep) -> None:
        """See `Place.take`: a folder is moved in the same way for every plan."""

    def look(self, _: State) -> Look:
        """See `Place.look`."""
        return LocalLook(self.base)

    def choose(self, wanted: Mapping[str, Sequence[Row]]) -> None:
        """See `Place.choose`: what one run moved lies in one folder, and goes with it."""

    def begin(self, run: str, sweep: Sweep, state: State) -> None:
        """See `Place.begin`: folders are made as they are needed."""

    def moves(self, rows: Iterable[Row], run: str) -> Iterator[Moved]:
        """See `Place.moves`."""
        return (self.move(row, run) for row in rows)

    def backs(self, rows: Iterable[Row], run: str) -> Iterator[Moved]:
        """See `Place.backs`."""
        return (self.back(row, run) for row in rows)

    def runs(self, _: State | None = None) -> list[Run]:
        """See `Place.runs`.

        Example:
            >>> Trash("/nonexistent").runs()
            []
        """
        with file_errors(f"read the trash of {self.base}", "run regnb as the registry's own user"):
            return [
                Run(run, moved, tuple(_rows(f"{self.base}/{TRASH}/{name}")), begun=name != run)
                for name in _names(f"{self.base}/{TRASH}")
                if (moved := moved_at(run := name.removesuffix(_EMPTIED))) is not None
            ]

    def listed(self, _: State) -> set[str]:
        """See `Place.listed`."""
        return set()

    def content(self, digest: str, runs: Sequence[Run]) -> bytes | None:
        """See `Place.content`."""
        for run in runs:
            path = f"{self.base}/{TRASH}/{run.run}/{blob_file(digest)}"
            try:
                handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            except OSError:
                continue
            with os.fdopen(handle, "rb") as file:
                return file.read(MANIFEST_LIMIT)
        return None

    def move(self, row: Row, run: str) -> Moved:
        """Move a folder into the trash.

        Returns:
            ``moved``; ``gone`` if it is there no more; ``there`` if the trash has it already, so that this one is new.

        Raises:
            OSError: It cannot be moved.
        """
        self._spare()
        parent, _, name = row.path.rpartition("/")
        leaf = row.leaf
        try:
            source = self._folder(parent)
            if leaf and not self._has(source, name, leaf, certain=_BY_SLASH):
                return "gone"
            target = self._folder(f"{TRASH}/{run}/{parent}", make=True)
            os.rename(f"{name}/" if leaf else name, name, src_dir_fd=source, dst_dir_fd=target)
        except FileNotFoundError:
            return "gone"
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return "there"
            raise
        return "moved"

    @staticmethod
    def _has(folder: int, name: str, leaf: str, *, certain: bool = False) -> bool:
        """Whether a folder has its file; what is not a folder is an error, unless that is found out anyway."""
        if not certain and not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a symbolic link or a file stands where a folder should be", name)
        try:
            return stat.S_ISREG(os.stat(f"{name}/{leaf}", dir_fd=folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def back(self, row: Row, run: str) -> Moved:
        """Move a folder out of the trash to where it was.

        Returns:
            As `Place.backs`.

        Raises:
            OSError: It cannot be moved.
        """
        self._spare()
        parent, _, name = row.path.rpartition("/")
        try:
            source = self._folder(f"{TRASH}/{run}/{parent}")
            os.stat(name, dir_fd=source, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return "back" if os.path.lexists(f"{self.base}/{row.path}/{row.leaf}") else "gone"
        target = self._folder(parent, parent, make=True)
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not row.leaf or self._has(target, name, row.leaf):
                return "there"
            inner = f"{name}/{row.leaf}"
            os.rename(inner, inner, src_dir_fd=source, dst_dir_fd=target)
        return "moved"

    def holds(self, row: Row, run: str) -> bool:
        """Whether the trash has a row's folder."""
        self._spare()
        parent, _, name = row.path.rpartition("/")
        try:
            os.stat(name, dir_fd=self._folder(f"{TRASH}/{run}/{parent}"), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def barrier(self) -> None:
        """Return when everything that was moved is on disk."""
        with contextlib.suppress(AttributeError, OSError):
            library = ctypes.CDLL(None, use_errno=True)
            if library.syncfs(self._held) == 0:
                return
        os.sync()

    def unchanged(self) -> State | None:
        """See `Place.unchanged`: what is in a folder is only known by reading it."""
        return None

    def probe(self) -> None:
        """Try whether folders can be moved into the trash at all.

        Raises:
            Refused: They cannot; nothing was changed.
        """
        name = f".regnb-probe-{secrets.token_hex(4)}"
        try:
            for parent in ("blobs", "repositories"):
                self._probe(parent, name)
        finally:
            self.tidy()

    def _probe(self, parent: str, name: str) -> None:
        made, moved = False, False
        try:
            try:
                source = self._folder(parent)
            except FileNotFoundError:
                return
            target = self._folder(TRASH, make=True)
            os.mkdir(name, 0o700, dir_fd=source)
            made = True
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
            moved = True
        except OSError as error:
            raise Refused(
                f"nothing can be moved from {self.base}/{parent}: {reason(error)}", hint=_hint(error)
            ) from None
        finally:
            if made:
                os.rmdir(name, dir_fd=target if moved else source)

    def tidy(self, run: str = "") -> None:
        """Remove the folders of a run that are empty, and the trash if it is."""
        self._let_go()
        if run:
            self._remove_empty(f"{self.base}/{TRASH}/{run}")
        with contextlib.suppress(OSError):
            os.rmdir(TRASH, dir_fd=self._held)

    @staticmethod
    def _remove_empty(path: str) -> None:
        for folder, _, _ in os.walk(path, topdown=False, followlinks=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 -- a text

    def empty(self, run: str) -> Sequence[Row]:
        """See `Place.empty`: once this was begun, nothing is put back.

        Raises:
            OSError: Something cannot be removed.
        """
        self._let_go()
        trash = self._folder(TRASH)
        with contextlib.suppress(FileNotFoundError):
            os.rename(run, f"{run}{_EMPTIED}", src_dir_fd=trash, dst_dir_fd=trash)
        for name in os.listdir(trash):  # noqa: PTH208 -- an open folder
            if name.endswith(_EMPTIED):  # also what a process that was killed left
                _remove(name, trash)
        self.tidy()
        return ()

    def space(self) -> int:
        """Return the bytes that are free on the volume."""
        about = os.fstatvfs(self._held)
        return about.f_bavail * (about.f_frsize or about.f_bsize)


def _remove(name: str, above: int, leaf: str = "link") -> None:
    """Remove a folder with everything in it; no symbolic link is followed.

    Args:
        name: Of the folder.
        above: The open folder that it is in.
        leaf: The one file that nearly every folder has, so that few have to be listed.
    """
    inside = os.open(name, _OPEN, dir_fd=above)
    try:
        with contextlib.suppress(OSError):
            os.unlink(leaf, dir_fd=inside)
        try:
            os.rmdir(name, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        for each in os.listdir(inside):  # noqa: PTH208 -- an open folder
            try:
                _remove(each, inside, "data" if each == "blobs" else leaf)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                os.unlink(each, dir_fd=inside)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=above)


def _hint(error: OSError) -> str:
    """Return what to do where a folder cannot be moved."""
    return {
        errno.EXDEV: "the trash is on another mount: mount the whole docker/registry/v2 in one piece",
        errno.ENOTDIR: "a symbolic link or a file is where a folder must be: move or mount the folder itself there",
        errno.EROFS: "the storage is mounted read-only: collect where it can be written",
        errno.EACCES: "run regnb as the registry's own user",
        errno.EPERM: "run regnb as the registry's own user",
        errno.ENOSPC: "make some room first: even a move needs a few kB",
        errno.EDQUOT: "make some room first: even a move needs a few kB",
    }.get(error.errno or 0, "check the file system")


def _names(path: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _rows(run: str) -> Iterator[Row]:
    """Yield what lies in the folder of a run, in the order in which it is put back."""
    found: dict[str, list[Row]] = {kind: [] for kind in PHASES}
    pending = [""]
    while pending:
        above = pending.pop()
        with contextlib.suppress(FileNotFoundError), os.scandir(f"{run}/{above}") as entries:  # removed meanwhile
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    continue
                path = f"{above}/{entry.name}" if above else entry.name
                if row := _row_of(path):
                    found[row.kind].append(_sized(row, _size(entry.path)))
                else:
                    pending.append(path)
    for kind in reversed(PHASES):
        yield from sorted(found[kind], key=lambda row: row.path)


def _size(folder: str) -> int:
    """Return the bytes of the files in a folder."""
    total = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            inside = entry.is_dir(follow_symlinks=False)
            total += _size(entry.path) if inside else entry.stat(follow_symlinks=False).st_size
    return total


def _sized(row: Row, size: int) -> Row:
    return Row(kind=row.kind, repository=row.repository, reference=row.reference, tag=row.tag, size=size)


def _row_of(path: str) -> Row | None:
    """Return the row that a path of the trash is of; None for a folder above one.

    Example:
        >>> _row_of("repositories/app/_uploads/0a-1b").kind
        'upload'
    """
    steps = path.split("/")
    row: Row | None = None
    if steps[0] == "blobs" and len(steps) == 4:  # noqa: PLR2004 -- blobs/sha256/<2 hex>/<hex>
        row = Row(kind="blob", reference=f"{steps[1]}:{steps[3]}")
    elif steps[0] == "repositories":
        name, mark, rest = path.removeprefix("repositories/").partition("/_")
        match rest.split("/") if mark else []:
            case ["layers", algorithm, text]:
                row = Row(kind="layer link", repository=name, reference=f"{algorithm}:{text}")
            case ["manifests", "revisions", algorithm, text]:
                row = Row(kind="revision", repository=name, reference=f"{algorithm}:{text}")
            case ["manifests", "tags", tag, "index", algorithm, text]:
                row = Row(kind="tag history", repository=name, tag=tag, reference=f"{algorithm}:{text}")
            case ["uploads", upload]:
                row = Row(kind="upload", repository=name, reference=upload)
    if row is None or row.path != path:
        return None
    with contextlib.suppress(InvalidArgument, InvalidReference):
        row.check()
        return row
    return None

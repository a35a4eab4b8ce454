"""The members of a tar archive by their names: nothing is unpacked, so no name can lead anywhere."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Final, NamedTuple

from regnb.errors import ContentError, TooLarge
from regnb.layouts.files import PIECE, errors_of

_BLOCK: Final = 512
_MEMBERS: Final = 500_000
"""Members that an archive may have."""
_EXTENDED: Final = 1024 * 1024
"""Bytes of a long name, or of the records of a PAX header."""
_LINKS: Final = 16
"""Links that are followed from one name."""
_ROOM: Final = 1024**3
"""Bytes that stay free where an archive is decompressed."""
_COMPRESSED: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


class Member(NamedTuple):
    """A file in an archive: where its bytes are, or what it links to."""

    offset: int
    size: int
    link: str = ""


class Part:
    """A file in an archive, open; several may be read at once.

    Args:
        file: The archive.
        member: Where its bytes are.
    """

    def __init__(self, file: IO[bytes], member: Member) -> None:
        self._at = file.fileno()
        self._member = member
        self._position = 0

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        size = min(size, self._member.size - self._position)
        data = os.pread(self._at, size, self._member.offset + self._position) if size > 0 else b""
        self._position += len(data)
        return data

    def seek(self, offset: int, /) -> int:
        """Go to a byte."""
        self._position = min(max(0, offset), self._member.size)
        return self._position

    def close(self) -> None:
        """Do nothing: the archive stays open."""


def is_tar(path: str) -> bool:
    """Whether a file begins as a tar archive does, or as one that was compressed.

    Example:
        >>> is_tar("/dev/null")
        False
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 -- a text
            start = file.read(_BLOCK)
    except OSError:
        return False
    return start[257:262] == b"ustar" or start.startswith((*_COMPRESSED, b"\x1f\x8b"))


class Tar:
    """A tar archive, plain or compressed with gzip, opened.

    A compressed one is decompressed once into a temporary file without a name.

    Args:
        path: The file.
        where: What people call it.

    Raises:
        StorageError: It cannot be read.
        ContentError: It is not such an archive, or is cut off.
        TooLarge: It has too many members, or would fill the disk.
    """

    def __init__(self, path: str, where: str) -> None:
        self.where = where
        with errors_of(where):
            file: IO[bytes] = open(path, "rb")  # noqa: PTH123, SIM115 -- it stays open
        try:
            with errors_of(where):
                start = file.read(6)
                for mark, name in _COMPRESSED.items():
                    if start.startswith(mark):
                        raise ContentError(
                            f"{where} is compressed with {name}", hint=f"decompress it with {name} first"
                        )
                file.seek(0)
                if start.startswith(b"\x1f\x8b"):
                    file = self._decompressed(file)
                self.size = os.fstat(file.fileno()).st_size
                self._file = file
                self._members = dict(self._walk())
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the archive."""
        self._file.close()

    def names(self) -> Iterator[str]:
        """Yield the names of the files."""
        yield from self._members

    def find(self, name: str) -> Member | None:
        """Return the file of a name, behind its links; None if there is none.

        Example:
            ``tar.find("index.json")``
        """
        name = posixpath.normpath(name)
        for _ in range(_LINKS):
            member = self._members.get(name)
            if member is None or not member.link:
                return member
            name = member.link
        return None

    def open(self, member: Member) -> Part:
        """Open a file."""
        return Part(self._file, member)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return all bytes of a small file; None if there is none.

        Raises:
            TooLarge: There are more than ``limit`` of them.
        """
        member = self.find(name)
        if member is None:
            return None
        if member.size > limit:
            raise TooLarge(f"{self.where}: {name} has {member.size:,} bytes, and at most {limit:,} are read")
        with errors_of(self.where):
            return self.open(member).read(member.size)

    def _decompressed(self, file: IO[bytes]) -> IO[bytes]:
        """Return a temporary file with what a gzip stream holds, all members of it."""
        cut = f"{self.where} is cut off, or damaged: its gzip stream"
        again = "copy the archive again"
        target = tempfile.TemporaryFile(prefix="regnb-")  # noqa: SIM115 -- it stays open
        try:
            room = max(0, shutil.disk_usage(tempfile.gettempdir()).free - _ROOM)
            decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
            piece, written = file.read(PIECE), 0
            while piece:
                data = decoder.decompress(piece, PIECE)
                written += target.write(data)
                if written > room:
                    text = f"{self.where} does not fit decompressed into {tempfile.gettempdir()}"
                    raise TooLarge(text, hint="set TMPDIR to a folder with more room, or decompress it yourself")
                piece = decoder.unconsumed_tail
                if decoder.eof:
                    piece = decoder.unused_data.lstrip(b"\0") or file.read(PIECE).lstrip(b"\0")
                    if piece:
                        decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
                elif not piece:
                    piece = file.read(PIECE)
            if not decoder.eof:
                raise ContentError(f"{cut} does not end", hint=again)
            target.flush()
        except zlib.error as error:
            target.close()
            raise ContentError(f"{cut}: {error}", hint=again) from None
        except BaseException:
            target.close()
            raise
        file.close()
        return target

    def _walk(self) -> Iterator[tuple[str, Member]]:
        """Yield name and place of each file, and of each link."""
        position = count = 0
        long: dict[str, str] = {}
        while header := self._header(position):
            kind, size = header[156:157], _number(header[124:136])
            if kind in b"xgLK":
                if size > _EXTENDED:
                    raise TooLarge(f"{self.where}: a header of the archive has {size:,} bytes")
                data = self._bytes(position + _BLOCK, size)
                if kind == b"x":
                    long |= _records(data)
                elif kind in b"LK":
                    long["path" if kind == b"L" else "linkpath"] = _text(data)
                position += _BLOCK + _padded(size)
                continue
            with contextlib.suppress(ValueError):
                size = int(long.get("size", size))
            stored = 0 if kind in b"123456" else size
            if stored and position + _BLOCK + size > self.size:
                self._cut()
            name = long.get("path") or _name(header)
            if kind in (b"0", b"\0", b"7"):
                sparse = any(key.startswith("GNU.sparse") for key in long)
                yield posixpath.normpath(name), Member(position + _BLOCK, size, "\0sparse" if sparse else "")
            elif kind in (b"1", b"2"):
                link = long.get("linkpath") or _text(header[157:257])
                link = link if kind == b"1" else posixpath.join(posixpath.dirname(posixpath.normpath(name)), link)
                yield posixpath.normpath(name), Member(0, 0, posixpath.normpath(link))
            long = {}
            position += _BLOCK + _padded(stored)
            count += 1
            if count > _MEMBERS:
                raise TooLarge(f"{self.where} has more than {_MEMBERS:,} members")

    def _header(self, position: int) -> bytes:
        """Return the next header; b"" at the end of the archive."""
        header = os.pread(self._file.fileno(), _BLOCK, position)
        if position == self.size or (position and header == bytes(_BLOCK)):
            return b""
        if len(header) < _BLOCK:
            if position:
                self._cut()
            raise ContentError(f"{self.where} is not a tar archive", hint="name the archive, or write oci:DIR")
        try:
            right = int(header[148:156].replace(b"\0", b" ").split()[0], 8) == sum(header[:148]) + 256 + sum(
                header[156:]
            )
        except (ValueError, IndexError):
            right = False
        if not right:
            text = "is not a tar archive" if not position else f"is damaged: no header at byte {position:,}"
            raise ContentError(f"{self.where} {text}", hint="copy the archive again")
        return header

    def _bytes(self, position: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, position)
        if len(data) < size:
            self._cut()
        return data

    def _cut(self) -> None:
        raise ContentError(f"{self.where} is cut off after {self.size:,} bytes", hint="copy the archive again")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _number(field: bytes) -> int:
    """Return a number of a header: octal, or in base 256."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.replace(b"\0", b" ").strip() or b"0", 8)
    except ValueError:
        raise ContentError("a header of the archive has a size that is not a number") from None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _records(data: bytes) -> dict[str, str]:
    """Return the records of a PAX header: ``<length> <key>=<value>``."""
    found: dict[str, str] = {}
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(data):
            break
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        data = data[int(length) :]
    return found

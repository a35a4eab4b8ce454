"""The headers of a tar archive, walked in one pass over a stream: POSIX ustar and pax, GNU long names and sparse files.

Only the names, sizes and digests are kept. Python's own tarfile takes ten times as long and reads one gzip member only.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from regnb.errors import ContentError, TooLarge
from regnb.text import human

BLOCK: Final = 512
HEADER_LIMIT: Final = 1024 * 1024
"""Bytes that the extra headers of one entry may have."""
NAME_LIMIT: Final = 32 * 1024
"""Bytes of a name; Linux takes 4,096."""
FILE, HARDLINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO = (ord(flag) for flag in "0123456")
_BARE: Final = frozenset((HARDLINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO))
"""Entries without a payload, although a hard link's header may have a size."""
_KEYS: Final = frozenset((
    b"path", b"linkpath", b"size", b"uid", b"gid", b"GNU.sparse.name", b"GNU.sparse.realsize", b"GNU.sparse.size",
))  # fmt: skip
"""What of a pax header is of use; the rest is not held, for global headers may add up to any size."""
_DIGITS: Final = 20
_EMPTY: Final = hashlib.sha256().digest()
_ZEROS: Final = bytes(BLOCK)


class Entry(NamedTuple):
    """One entry of an archive.

    Attributes:
        name: As it is written, such as ``./usr/bin/``.
        kind: One of FILE, HARDLINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO.
        size: Bytes, as tar shows it.
        stored: Bytes of its payload; fewer for a sparse file, and none for a hard link.
        target: Of a link.
        digest: The sha256 of a regular file's content; b"" where it is not known, as of a sparse file.
        begin: Where its first header begins in the archive.
        end: Where its payload ends, padding included.
    """

    name: bytes
    kind: int
    size: int
    stored: int
    mode: int
    uid: int
    gid: int
    target: bytes
    digest: bytes
    begin: int
    end: int


Sink: TypeAlias = Callable[[bytes | memoryview], object]
Watch: TypeAlias = Callable[[bytes, int], Sink | None]
"""Is asked, by name and stored size, for what takes the content of a regular file; None: nothing does."""


class Bytes:
    """Decoded bytes, taken in order.

    Args:
        blocks: The bytes in pieces.

    Attributes:
        position: How many bytes were taken.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._block = b""
        self._at = 0
        self.position = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes, or fewer at the end."""
        until = self._at + count
        if until > len(self._block):
            parts = [self._block[self._at :]]
            missing = count - len(parts[0])
            while missing > 0 and (block := next(self._blocks, b"")):
                self._block, self._at = block, min(missing, len(block))
                parts.append(block[: self._at])
                missing -= self._at
            if missing > 0:
                self._block, self._at = b"", 0
            found = b"".join(parts)
            self.position += len(found)
            return found
        found = self._block[self._at : until]
        self._at = until
        self.position += count
        return found

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Yield the next bytes in pieces.

        Raises:
            ContentError: There are fewer.
        """
        while count > 0:
            if self._at >= len(self._block):
                self._block, self._at = next(self._blocks, b""), 0
                if not self._block:
                    raise _truncated(self.position)
            piece = memoryview(self._block)[self._at : self._at + count]
            self._at += len(piece)
            self.position += len(piece)
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        """Pass over the next bytes.

        Raises:
            ContentError: There are fewer.
        """
        until = self._at + count
        if until <= len(self._block):
            self._at = until
            self.position += count
            return
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Pass over everything that is left."""
        self.position += len(self._block) - self._at
        self._block, self._at = b"", 0
        for block in self._blocks:
            self.position += len(block)


def _truncated(position: int) -> ContentError:
    return ContentError(f"the archive ends early, after {human(position)}")


def _number(field: bytes) -> int:
    """Read a number: octal digits, or base 256 where the first bit is set."""
    if not field[-1]:  # as every tool of today writes it
        try:
            return int(field[:-1], 8)
        except ValueError:
            pass
    if field[0] & 0x80:
        if field[0] & 0x40:
            return int.from_bytes(field, "big", signed=True)
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b"\0 ").partition(b"\0")[0] or b"0", 8)
    except ValueError:
        raise ContentError(f"an archive's header holds {field[:12]!r} where a number should be") from None


def _intact(header: bytes) -> bool:
    """Whether a header has the checksum that it names."""
    digits = header[148:156].strip(b"\0 ")
    named = int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1
    # Adler's first half is the sum of the bytes, and is computed twenty times as fast as Python adds them.
    if zlib.adler32(header) & 0xFFFF == (named - 256 + sum(header[148:156]) + 1) % 65521:
        return True
    # Some old writers added signed bytes.
    signed: int = sum(struct.unpack("148b8x356b", header))
    return named == signed + 256


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys of a pax header that are of use, and their values; they may hold any byte."""
    at = 0
    while at < len(data) and data[at] != 0:
        digits = data[at : at + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        key, equal, value = record.partition(b"=")
        if not equal or not value.endswith(b"\n") or at + length > len(data):
            raise ContentError("an archive's pax header is malformed")
        if key in _KEYS:
            yield key, value[:-1]
        at += length


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > _DIGITS:
        raise ContentError(f"an archive's pax header holds {value[:20]!r} where a number should be")
    return int(value)


def _payload(data: Bytes, size: int) -> bytes:
    """Take the payload of an extra header."""
    if not 0 <= size <= HEADER_LIMIT:
        raise TooLarge(f"an archive's header has {human(size)}; at most {human(HEADER_LIMIT)} are read")
    found = data.take(size)
    if len(found) < size:
        raise _truncated(data.position)
    data.skip(-size % BLOCK)
    return found


def _sparse(data: Bytes, header: bytes) -> int:
    """Return the size of an old GNU sparse file, and pass over the headers that go on with its map."""
    more = header[482]
    while more:
        following = data.take(BLOCK)
        if len(following) < BLOCK:
            raise _truncated(data.position)
        more = following[504]
    return _number(header[483:495])


def _content(data: Bytes, stored: int, sink: Sink | None) -> bytes:
    if not stored:
        return _EMPTY
    hasher = hashlib.sha256()
    for piece in data.pieces(stored):
        hasher.update(piece)
        if sink is not None:
            sink(piece)
    return hasher.digest()


class _Head:
    """What a header says, and what the extra headers before it say instead."""

    __slots__ = ("flag", "gid", "name", "shown", "size", "target", "uid")

    def __init__(self, header: bytes) -> None:
        self.flag = header[156]
        self.name = _text(header[:100])
        if header[345] and header[257:263] == b"ustar\0":
            self.name = _text(header[345:500]) + b"/" + self.name
        self.target = _text(header[157:257])
        self.size = _number(header[124:136])
        self.uid, self.gid = _number(header[108:116]), _number(header[116:124])
        self.shown: int | None = None
        """The size that a sparse file has when it is unpacked."""

    def extend(self, known: Mapping[bytes, bytes]) -> None:
        """Let extra headers have their say."""
        self.name = known.get(b"GNU.sparse.name") or known.get(b"path", self.name)
        self.target = known.get(b"linkpath", self.target)
        for name in ("size", "uid", "gid"):
            if value := known.get(name.encode()):
                setattr(self, name, _decimal(value))
        if real := known.get(b"GNU.sparse.realsize") or known.get(b"GNU.sparse.size"):
            self.shown = _decimal(real)


def walk(data: Bytes, watch: Watch | None = None) -> Iterator[Entry]:
    """Yield the entries of an archive up to its end; what follows two zero blocks is not listed, as tar does.

    Args:
        data: The archive's bytes, which are read to the entry that was yielded, and no further.
        watch: Is asked for each regular file whether its content is wanted.

    Raises:
        ContentError: It ends early, or is not an archive.
        TooLarge: A header or a name that is longer than any tool writes.

    Example:
        >>> [entry.name for entry in walk(Bytes([bytes(1024)]))]
        []
    """
    general: dict[bytes, bytes] = {}
    extra: dict[bytes, bytes] = {}
    begin = 0
    while True:
        header = data.take(BLOCK)
        if not header or header == _ZEROS:
            return
        if len(header) < BLOCK:
            raise _truncated(data.position)
        if not _intact(header):
            raise ContentError(f"byte {data.position - BLOCK:,} of the archive is not a header of tar")
        head = _Head(header)
        if head.flag in b"xgLK":
            _extra(head.flag, _payload(data, head.size), general, extra)
            continue
        if head.flag == ord("S"):
            head.shown = _sparse(data, header)
        if general or extra:
            head.extend({**general, **extra})
            extra = {}
        if head.size < 0 or (head.shown or 0) < 0:
            raise ContentError("an archive's header names a size below zero")
        name, kind, stored, digest = head.name, head.flag, 0, b""
        if max(len(name), len(head.target)) > NAME_LIMIT:
            raise TooLarge(f"a name in the archive has {human(max(len(name), len(head.target)))}")
        if kind not in _BARE:
            folder = kind == ord("D") or (not kind and name.endswith(b"/"))
            kind, stored = DIRECTORY if folder else FILE, head.size
            digest = _content(data, stored, watch(name, stored) if watch and not folder else None)
            if head.shown is not None or folder:
                digest = b""
            data.skip(-stored % BLOCK)
        size = stored if head.shown is None else head.shown
        mode = _number(header[100:108]) & 0o7777
        yield Entry(name, kind, size, stored, mode, head.uid, head.gid, head.target, digest, begin, data.position)
        begin = data.position


def _extra(flag: int, payload: bytes, general: dict[bytes, bytes], extra: dict[bytes, bytes]) -> None:
    """Note what an extra header says of the entries that follow, or of the next one."""
    if flag == ord("g"):
        general.update(_records(payload))
    elif flag == ord("x"):
        extra.update(_records(payload))
    else:
        extra[b"path" if flag == ord("L") else b"linkpath"] = _text(payload)

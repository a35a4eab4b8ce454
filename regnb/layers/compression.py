"""A layer's bytes, decoded in small blocks, whatever compressed them; what a few bytes claim to become is bounded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from regnb.errors import ContentError, TooLarge
from regnb.text import human

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK: Final = 256 * 1024
"""Bytes that are decoded at once."""
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = tuple(bytes((0x50 + each,)) + b"\x2a\x4d\x18" for each in range(16))
"""How a frame of zstd that holds no data begins."""
_OTHERS: Final = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}


class Caps(NamedTuple):
    """How far a layer may grow when it is decoded: no image has more, and a few bytes can claim it.

    Attributes:
        decoded: Bytes.
        ratio: Decoded bytes for each compressed one, beyond the first ``free`` bytes.
        free: Decoded bytes that no ratio bounds.
        entries: Entries of the archive.
    """

    decoded: int = 256 * 2**30
    ratio: int = 1000
    free: int = 8 * 2**30
    entries: int = 5_000_000


class Counted:
    """Compressed bytes as they come, counted.

    Attributes:
        position: How many came.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held: list[bytes] = []
        self.position = 0

    def peek(self, count: int) -> bytes:
        """Return the first bytes, which are given out again; fewer if there are fewer."""
        while sum(map(len, self._held)) < count and (chunk := next(self._chunks, b"")):
            self._held.append(chunk)
        return b"".join(self._held)[:count]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while True:
            chunk = self._held.pop(0) if self._held else next(self._chunks)
            if chunk:
                self.position += len(chunk)
                return chunk


class _File:
    """The same as a file, for Arrow."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes, at most ``count`` of them."""
        chunk = self._rest or next(self._chunks, b"")
        self._rest = chunk[count:]
        return chunk[:count]

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def writable(self) -> bool:
        """Whether it can be written."""
        return False

    def seekable(self) -> bool:
        """Whether it can be read in any order."""
        return False

    def flush(self) -> None:
        """Do nothing: nothing is written."""

    def close(self) -> None:
        """Let go."""
        self.closed = True


def _inflater() -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """Return what makes a decoder of one gzip member, and what that raises."""
    try:
        from isal import isal_zlib  # an extra: decodes 1.6 times as fast
    except ImportError:
        return lambda: zlib.decompressobj(31), (zlib.error,)
    return lambda: isal_zlib.decompressobj(31), (isal_zlib.error, zlib.error)


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decode every member of a gzip stream: an eStargz layer has one for each file."""
    make, errors = _inflater()
    decoder, begun = make(), False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                begun = True
                if block := decoder.decompress(rest, BLOCK):
                    yield block
                if decoder.eof:
                    rest = decoder.unused_data
                    decoder, begun = make(), False
                else:
                    rest = decoder.unconsumed_tail
        while begun and not decoder.eof:
            block = decoder.decompress(b"", BLOCK)
            if not block:
                break
            yield block
    except errors as error:
        raise ContentError(f"the gzip stream is corrupt: {error}") from None
    if begun and not decoder.eof:
        raise ContentError("the gzip stream ends early")


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import pyarrow as pa  # `import regnb` stays light

    with pa.PythonFile(_File(chunks), "r") as file, pa.CompressedInputStream(file, "zstd") as stream:
        while block := _read(stream):
            yield block


def _read(stream: pa.NativeFile) -> bytes:
    try:
        block: bytes = stream.read(BLOCK)
    except OSError as error:
        raise ContentError(f"the zstd stream is corrupt or ends early: {str(error)[:100]}") from None
    return block


def decoded(chunks: Counted, caps: Caps | None = None) -> Iterator[bytes]:
    """Yield a layer's decoded bytes in blocks. Its first bytes tell what compressed it, and not its media type.

    Raises:
        ContentError: The stream is corrupt, ends early, or is compressed in a way that no image specification names.
        TooLarge: It grows beyond the caps.

    Example:
        >>> b"".join(decoded(Counted([zlib.compress(b"abc", 6, 31)])))
        b'abc'
    """
    caps = caps or Caps()
    head = chunks.peek(6)
    if head[:2] == GZIP:
        blocks = _gzip(chunks)
    elif head.startswith((ZSTD, *_SKIPPABLE)):
        blocks = _zstd(chunks)
    else:
        for magic, name in _OTHERS.items():
            if head.startswith(magic):
                raise ContentError(f"the layer is compressed with {name}; only gzip and zstd are read")
        blocks = chunks
    position = 0
    for block in blocks:
        position += len(block)
        if position > caps.decoded or position > max(caps.free, caps.ratio * chunks.position):
            raise TooLarge(f"{human(chunks.position)} of the layer grow to more than {human(position)} when decoded")
        yield block

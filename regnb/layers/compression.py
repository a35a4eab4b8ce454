"""A layer's bytes, decoded in small blocks, whatever compressed them; what a few bytes claim to become is bounded."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from regnb.errors import ContentError, TooLarge
from regnb.text import human

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK: Final = 512 * 1024
"""Bytes that are decoded at once."""
PIECE: Final = 16 * 1024
"""Bytes that a decoder is given at once where a member ends in them: what follows a member is copied for each."""
LONGEST: Final = 512 * 1024
"""Bytes that a decoder is given at once within a long member: each time threads may change."""
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
    """Compressed bytes as they come, in small pieces, counted.

    Attributes:
        position: How many were given out.
        piece: How many the next piece has at most.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self._at = 0
        self.position = 0
        self.piece = PIECE

    def peek(self, count: int) -> bytes:
        """Return the first bytes, which are given out again; fewer if there are fewer."""
        while len(self._held) < count and (chunk := next(self._chunks, b"")):
            self._held += chunk
        return self._held[:count]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while self._at >= len(self._held):
            self._held, self._at = next(self._chunks), 0
        piece = self._held[self._at : self._at + self.piece]
        self._at += len(piece)
        self.position += len(piece)
        return piece


def _inflater() -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    """Return what makes a decoder of one gzip member, and what that raises."""
    try:
        from isal import isal_zlib  # an extra: decodes 1.6 times as fast
    except ImportError:
        return lambda: zlib.decompressobj(31), (zlib.error,)
    errors: tuple[Any, ...] = (isal_zlib.error, zlib.error)
    return lambda: isal_zlib.decompressobj(31), errors


def _gzip(pieces: Counted) -> Iterator[bytes]:
    """Decode every member of a gzip stream: an eStargz layer has one for each file."""
    make, errors = _inflater()
    decoder, begun = make(), False
    try:
        for piece in pieces:
            rest, pieces.piece = piece, min(2 * pieces.piece, LONGEST)
            while rest:
                begun = True
                if block := decoder.decompress(rest, BLOCK):
                    yield block
                if decoder.eof:
                    rest, pieces.piece = decoder.unused_data, PIECE
                    decoder, begun = make(), False
                else:
                    rest = decoder.unconsumed_tail
        while begun and not decoder.eof and (block := decoder.decompress(b"", BLOCK)):
            yield block
    except errors as error:
        raise ContentError(f"the gzip stream is corrupt: {error}") from None
    if begun and not decoder.eof:
        raise ContentError("the gzip stream ends early")


def _zstd(pieces: Counted) -> Iterator[bytes]:
    """Decode every frame of a zstd stream; those to be skipped hold nothing."""
    decoder, begun = zstd.ZstdDecompressor(), False
    try:
        for piece in pieces:
            rest, begun, pieces.piece = piece, True, min(2 * pieces.piece, LONGEST)
            while begun:
                if block := decoder.decompress(rest, BLOCK):
                    yield block
                if decoder.eof:
                    rest, pieces.piece = decoder.unused_data, PIECE
                    decoder, begun = zstd.ZstdDecompressor(), bool(rest)
                elif decoder.needs_input:
                    break
                else:
                    rest = b""
    except zstd.ZstdError as error:
        raise ContentError(f"the zstd stream is corrupt: {error}") from None
    if begun:
        raise ContentError("the zstd stream ends early")


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
        blocks: Iterator[bytes] = _gzip(chunks)
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

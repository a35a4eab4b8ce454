"""Layers are decoded whatever compressed them; damage and bombs are told in one sentence."""

from __future__ import annotations

import bz2
import gzip
import random
import sys
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pytest

from regnb.errors import ContentError, TooLarge
from regnb.layers.compression import BLOCK, Caps, Counted, decoded

DATA = random.Random(1).randbytes(300_000) + bytes(900_000)  # noqa: S311 -- the same each time
SKIPPED = b"\x5a\x2a\x4d\x18\x05\x00\x00\x00hello"


def zstd(data: bytes) -> bytes:
    found: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return found


def streams() -> dict[str, bytes]:
    halves = DATA[:500_000], DATA[500_000:]
    return {
        "gzip": gzip.compress(DATA),
        "gzip members": b"".join(map(gzip.compress, (*halves, b""))),
        "zstd": zstd(DATA),
        "zstd frames": SKIPPED + zstd(halves[0]) + SKIPPED + zstd(halves[1]) + SKIPPED,
        "tar": DATA,
    }


def pieces(data: bytes, step: int) -> Iterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


@pytest.fixture(params=["isal", "zlib"], autouse=True)
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra and without."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.parametrize("kind", streams())
@pytest.mark.parametrize("step", [997, 65_536, 10**7])
def test_every_stream_is_decoded_in_small_blocks(kind: str, step: int) -> None:
    """One gzip member or many, zstd with frames to skip, and no compression, in pieces of any size."""
    counted = Counted(pieces(streams()[kind], step))
    blocks = list(decoded(counted))
    assert b"".join(blocks) == DATA
    assert max(map(len, blocks)) <= BLOCK <= 2**20
    assert counted.position == len(streams()[kind])


@pytest.mark.parametrize("kind", ["gzip", "gzip members", "zstd", "zstd frames"])
@pytest.mark.parametrize("cut", [1, 9, 1000])
def test_a_stream_that_ends_early_is_told(kind: str, cut: int) -> None:
    """Decoders raise nothing at a missing end: a listing must not be taken for whole."""
    data = {"gzip members": gzip.compress(DATA) + gzip.compress(DATA)}.get(kind, streams()[kind].removesuffix(SKIPPED))
    with pytest.raises(ContentError, match="ends early"):
        list(decoded(Counted(pieces(data[:-cut], 10_000))))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_zeros_are_decoded_to_the_end(kind: str) -> None:
    """The last input may have become many blocks of output, which are still to come."""
    data = gzip.compress(bytes(5_000_000)) if kind == "gzip" else zstd(bytes(5_000_000))
    assert sum(map(len, decoded(Counted([data])))) == 5_000_000


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_flipped_and_foreign_bytes_are_told(kind: str) -> None:
    """Damage in a block header, and what follows the stream without being one."""
    data = streams()[kind]
    with pytest.raises(ContentError, match="corrupt"):
        list(decoded(Counted([data + b"what is this?"])))
    damaged = bytearray(data)
    damaged[10:14] = b"\xff\xff\xff\xff"
    with pytest.raises(ContentError, match="corrupt"):
        list(decoded(Counted([bytes(damaged)])))


def test_another_compression_is_named() -> None:
    """What no image specification names is not read, and the message says what it is."""
    with pytest.raises(ContentError, match="bzip2; only gzip and zstd"):
        list(decoded(Counted([bz2.compress(b"x")])))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_stops_at_the_cap(kind: str) -> None:
    """A few bytes that claim to be many: by their ratio, and by their sum."""
    data = zlib.compress(bytes(20_000_000), 9, 31) if kind == "gzip" else zstd(bytes(20_000_000))
    for caps in (Caps(ratio=10, free=1_000_000), Caps(decoded=2_000_000)):
        seen: list[int] = []
        with pytest.raises(TooLarge, match="of the layer grow to more than"):
            seen.extend(map(len, decoded(Counted(pieces(data, 1000)), caps)))
        assert 0 < sum(seen) <= 2_000_000

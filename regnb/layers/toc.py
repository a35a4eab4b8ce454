"""Layers with a table of contents: eStargz and zstd:chunked. A few ranges of the blob list every file.

The table is verified against the manifest's annotation. Whether the blob's files are those of the table is not known
until the blob is read: a listing says how it was got.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, Struct

from regnb.errors import ContentError, TooLarge
from regnb.layers.archive import CHARACTER, DEVICE, DIRECTORY, FIFO, FILE, HARDLINK, NAME_LIMIT, SYMLINK, Bytes, walk
from regnb.layers.compression import Caps, Counted, decoded
from regnb.layers.listing import ROWS, Listing, Packing
from regnb.oci.manifest import Descriptor
from regnb.text import human

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TABLE_LIMIT: Final = 48 * 2**20
"""Decoded bytes that a table may have; it has about 380 for a file. A layer with a larger one is streamed."""
_FOOTER: Final = 51
_ESTARGZ: Final = "containerd.io/snapshot/stargz/toc.digest"
_CHUNKED: Final = ("io.github.containers.zstd-chunked", "io.containers.zstd-chunked")
_KINDS: Final = {
    "reg": FILE, "dir": DIRECTORY, "symlink": SYMLINK, "hardlink": HARDLINK, "char": CHARACTER, "block": DEVICE,
    "fifo": FIFO,
}  # fmt: skip

_CHUNK: Final = 2
_CONTENT: Final = {"reg": 1, "chunk": _CHUNK}
"""Items with a place in the blob."""
_EMPTY: Final = hashlib.sha256().digest()
_LENGTH: Final = len("sha256:") + 64

Fetch: TypeAlias = Callable[[int, int], Awaitable[bytes]]
"""Gives the bytes of a blob from one position up to another."""
_Natural = Annotated[int, Meta(ge=0, le=2**62)]
_Name = Annotated[str, Meta(max_length=NAME_LIMIT)]


class Item(Struct, frozen=True, gc=False):
    """An entry of a table. A large file has further entries of type ``chunk`` for the parts that follow."""

    type: str
    name: _Name
    size: _Natural = 0
    mode: int = 0
    uid: _Natural = 0
    gid: _Natural = 0
    link: _Name = msgspec.field(default="", name="linkName")
    digest: str | None = ""
    offset: _Natural = 0
    end: _Natural = msgspec.field(default=0, name="endOffset")


class _Table(Struct, frozen=True):
    entries: list[Item]
    version: int = 1


class Where(NamedTuple):
    """Where a layer's table of contents is, as the manifest has it.

    Attributes:
        digest: Of the table: decoded for eStargz, compressed for zstd:chunked.
        begin: Position in the blob; 0 for eStargz, whose footer tells it.
        size: Bytes, compressed; 0 for eStargz.
        decoded: Bytes, decoded; 0 for eStargz.
    """

    digest: str
    begin: int = 0
    size: int = 0
    decoded: int = 0


def where(layer: Descriptor) -> Where | None:
    """Return where a layer has its table of contents; None if the manifest names none that is usable.

    Example:
        >>> where(Descriptor("sha256:" + "0" * 64, 999, annotations={_ESTARGZ: "sha256:" + "1" * 64})).digest[:9]
        'sha256:11'
    """
    notes = layer.annotations or {}
    digest = notes.get(_ESTARGZ)
    if isinstance(digest, str) and _is_sha256(digest) and layer.size > _FOOTER:
        return Where(digest)
    for prefix in _CHUNKED:
        digest, position = notes.get(f"{prefix}.manifest-checksum"), notes.get(f"{prefix}.manifest-position")
        if isinstance(digest, str) and isinstance(position, str) and _is_sha256(digest):
            match = re.fullmatch(r"(\d{1,15}):(\d{1,15}):(\d{1,15}):1", position)
            if match and sum(map(int, match.groups()[:2])) <= layer.size and int(match[2]):
                return Where(digest, *map(int, match.groups()))
    return None


def _is_sha256(text: str) -> bool:
    return re.fullmatch(r"sha256:[0-9a-f]{64}", text) is not None


class Table(NamedTuple):
    """A table of contents.

    Attributes:
        items: Its entries.
        end: Where the files end in the blob.
    """

    items: list[Item]
    end: int


async def read(layer: Descriptor, found: Where, fetch: Fetch) -> Table:
    """Read a layer's table of contents.

    Raises:
        ContentError: It is not what the manifest says, or malformed.
        TooLarge: It is larger than that of any image.
    """
    if found.size:
        if found.decoded > TABLE_LIMIT or found.size > TABLE_LIMIT:
            raise TooLarge(f"the table of contents has {human(max(found.decoded, found.size))}")
        packed = await fetch(found.begin, found.begin + found.size)
        _check(packed, found.digest)
        return Table(_decode(_unpacked(packed, found.decoded)), found.begin)
    footer = await fetch(layer.size - _FOOTER, layer.size)
    match = re.search(rb"([0-9a-f]{16})STARGZ", footer)
    begin = int(match[1], 16) if match else layer.size
    if begin >= layer.size - _FOOTER or layer.size - begin > TABLE_LIMIT:
        raise ContentError("the layer has no footer of eStargz, although the manifest says so")
    table = _member(await fetch(begin, layer.size - _FOOTER))
    _check(table, found.digest)
    return Table(_decode(table), begin)


def _check(data: bytes, digest: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest.removeprefix("sha256:"):
        raise ContentError("the table of contents is not the one that the manifest names")


def _unpacked(packed: bytes, size: int) -> bytes:
    data = b"".join(decoded(Counted([packed]), Caps(decoded=size, free=size)))
    if len(data) != size:
        raise ContentError("the table of contents is not as long as the manifest says")
    return data


def _member(packed: bytes) -> bytes:
    """Return the file that an archive of one file holds."""
    held: list[bytes | memoryview] = []
    caps = Caps(decoded=TABLE_LIMIT, free=TABLE_LIMIT)
    next(walk(Bytes(decoded(Counted([packed]), caps)), lambda *_: held.append), None)
    return b"".join(held)


def _decode(table: bytes) -> list[Item]:
    try:
        return msgspec.json.decode(table, type=_Table).entries
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ContentError(f"the table of contents is malformed: {str(error)[:200]}") from None


def listing(table: Table, caps: Caps | None = None) -> Listing:
    """Return the listing that a table of contents gives.

    Raises:
        ContentError: A file begins beyond the blob.
        TooLarge: It goes beyond the caps.
    """
    packing = Packing(caps or Caps())
    every = packed(table).tolist()
    at = [number for number, item in enumerate(table.items) if item.type in _KINDS]
    for start in range(0, len(at), ROWS):
        numbers = at[start : start + ROWS]
        items, sizes = [table.items[number] for number in numbers], [every[number] for number in numbers]
        kinds = [_KINDS[item.type] for item in items]
        stored = [item.size if item.type == "reg" else 0 for item in items]
        names, targets = [item.name.encode() for item in items], [item.link.encode() for item in items]
        digests = [_digest(item) if item.type == "reg" else b"" for item in items]
        modes = [item.mode & 0o7777 for item in items]
        owners = ([item.uid for item in items], [item.gid for item in items])
        columns: list[Sequence[object]] = [names, kinds, stored, stored, modes, *owners, targets, digests, sizes]
        packing.write(columns, sum(map(len, names)) + sum(map(len, targets)))
    return packing.finish("toc", sum([item.size for item in table.items if item.type == "reg"]), [])


def _digest(item: Item) -> bytes:
    """Return the digest of a file's content; b"" where the table has none that is valid."""
    text = item.digest or ""
    if not item.size and not text:
        return _EMPTY
    if text[:7] != "sha256:" or len(text) != _LENGTH:
        return b""
    try:
        return bytes.fromhex(text[7:])
    except ValueError:
        return b""


def packed(table: Table) -> NDArray[np.int64]:
    """Return how many bytes of the blob each item's file takes, up to where the next begins; 0 for what is not a file.

    Raises:
        ContentError: A file lies beyond the end of the files.
    """
    import numpy as np

    count = len(table.items)
    offsets = np.array([item.offset for item in table.items], dtype=np.int64)
    ends = np.array([item.end for item in table.items], dtype=np.int64)
    sorts = np.array([_CONTENT.get(item.type, 0) for item in table.items], dtype=np.int8)
    # Further parts of a file follow it, and are counted as its own.
    owners = np.maximum.accumulate(np.where(sorts == _CHUNK, 0, np.arange(count)))
    places = np.flatnonzero((sorts > 0) & (offsets > 0))
    if count and max(offsets[places].max(initial=0), ends[places].max(initial=0)) > table.end:
        raise ContentError("the table of contents lists a file beyond the end of the layer's files")
    places = places[np.argsort(offsets[places], kind="stable")]
    sizes = np.zeros(count, dtype=np.int64)
    np.add.at(sizes, owners[places], np.diff(offsets[places], append=table.end))
    return sizes

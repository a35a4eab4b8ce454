"""The listing of one layer: its entries as columns, in few bytes, so that a million of them can be kept."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from regnb.errors import ContentError, TooLarge
from regnb.layers.archive import Bytes, walk
from regnb.layers.compression import Caps, Counted, decoded
from regnb.layers.packages import Collector, Package
from regnb.text import human

if TYPE_CHECKING:
    import pyarrow as pa

VERSION: Final = 3
"""Of what is kept: another version's listing is made anew."""
Way: TypeAlias = Literal["stream", "toc"]
"""How a listing was got: every byte was read and verified, or the layer's table of contents."""
_Block: TypeAlias = tuple[bytes, int]
"""Decoded bytes, and how many bytes of the compressed layer were used up to their end."""
_TOGETHER: Final = 4
"""Blocks that are handed over at once."""
_AHEAD: Final = 4
"""How often that many are decoded ahead."""
ROWS: Final = 16_384
"""Rows that are packed at once."""
_NAMES: Final = 8 * 2**20
"""Bytes of names that are held before they are packed."""
NAMES_LIMIT: Final = 2**30
"""Bytes of names that a layer may have."""


class Listing(Struct, frozen=True, array_like=True):
    """What is in one layer.

    Attributes:
        way: How it was got.
        decoded: Bytes of the archive.
        entries: How many there are.
        packages: What package managers left in it; a table of contents does not tell.
        data: Their columns, packed: Arrow's stream format, compressed with zstd.

    Example:
        >>> listing([bytes(1024)]).entries
        0
    """

    way: Way
    decoded: int
    entries: int
    data: bytes
    packages: list[Package]
    version: int = VERSION

    @property
    def table(self) -> pa.Table:
        """The columns, as :class:`Row` has them."""
        import pyarrow as pa

        return pa.ipc.open_stream(pa.BufferReader(self.data)).read_all()

    def encode(self) -> bytes:
        """Return it as bytes, for :meth:`decode`."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes) -> Listing | None:
        """Return the listing that :meth:`encode` made; None for another version's."""
        try:
            found = msgspec.msgpack.decode(data, type=Listing)
        except (msgspec.MsgspecError, ValueError):
            return None
        return found if found.version == VERSION else None


class Layer(NamedTuple):
    """What is known of one layer.

    Attributes:
        listing: What is in it; None if it was not read.
        problem: Why it was not read, or "".
    """

    listing: Listing | None
    problem: str = ""


class Row(NamedTuple):
    """One entry, as it is kept. ``packed`` is bytes of the compressed layer, its header included."""

    name: bytes
    kind: int
    size: int
    stored: int
    mode: int
    uid: int
    gid: int
    target: bytes
    digest: bytes
    packed: int


class Packing:
    """Rows as they come, packed from time to time.

    Args:
        caps: What bounds their number.
    """

    def __init__(self, caps: Caps) -> None:
        import pyarrow as pa  # `import regnb` stays light

        kinds = {
            "name": pa.binary(),
            "kind": pa.int8(),
            "mode": pa.int16(),
            "target": pa.binary(),
            "digest": pa.binary(),
        }
        self._schema = pa.schema([(name, kinds.get(name, pa.int64())) for name in Row._fields])
        self._sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
        self._stream = pa.ipc.new_stream(self._sink, self._schema, options=options)
        self._caps = caps
        self._rows: list[tuple[bytes, int, int, int, int, int, int, bytes, bytes]] = []
        self._held = self._names = self.entries = 0

    @property
    def full(self) -> bool:
        """Whether the rows that are held should be packed."""
        return len(self._rows) >= ROWS or self._held >= _NAMES

    def add(self, row: tuple[bytes, int, int, int, int, int, int, bytes, bytes]) -> None:
        """Take a row, but for its bytes of the compressed layer."""
        self._rows.append(row)
        self._held += len(row[0]) + len(row[7])

    def pack(self, packed: Sequence[int]) -> None:
        """Pack the rows that are held, whose bytes of the compressed layer are these."""
        if self._rows:
            self.write([*zip(*self._rows, strict=True), packed], self._held)
        self._rows, self._held = [], 0

    def write(self, columns: Sequence[Sequence[object]], names: int) -> None:
        """Pack some rows, given as the columns of :class:`Row`, whose names and targets have so many bytes.

        Raises:
            TooLarge: There are more than an image has.
            ContentError: A number does not fit.
        """
        import pyarrow as pa

        self.entries += len(columns[0])
        self._names += names
        if self.entries > self._caps.entries:
            raise TooLarge(f"the layer has more than {self._caps.entries:,} entries")
        if self._names > NAMES_LIMIT:
            raise TooLarge(f"the names in the layer have more than {human(NAMES_LIMIT)}")
        try:
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        except (pa.ArrowInvalid, OverflowError):
            raise ContentError("a number in the layer's archive is larger than that of any file") from None
        self._stream.write_batch(pa.record_batch(arrays, schema=self._schema))

    def finish(self, way: Way, decoded_bytes: int, packages: list[Package]) -> Listing:
        """Return the listing."""
        self._stream.close()
        return Listing(way, decoded_bytes, self.entries, self._sink.getvalue().to_pybytes(), packages)


class _Places:
    """Where in the compressed layer its decoded bytes come from, as far as blocks tell."""

    def __init__(self, blocks: Iterator[_Block]) -> None:
        self._blocks = blocks
        self._at = self._position = 0
        self._decoded, self._packed = [0], [0.0]

    def __iter__(self) -> Iterator[bytes]:
        for block, position in self._blocks:
            self._position = position
            yield block
            # The next one is asked for: this one was used up.
            self._at += len(block)
            self._decoded.append(self._at)
            self._packed.append(position)

    def packed(self, ends: Sequence[int], position: int) -> list[int]:
        """Return the compressed bytes of the entries that follow those of the last call, given where each ends."""
        import numpy as np

        if not ends:
            return []
        decoded_, packed = [*self._decoded, position], [*self._packed, self._position]
        found = np.interp(ends, decoded_, packed).round()
        before = self._packed[0]
        self._decoded, self._packed = [ends[-1]], [float(found[-1])]
        sizes: list[int] = np.diff(found, prepend=before).astype(np.int64).tolist()
        return sizes


def listing(chunks: Iterable[bytes], *, caps: Caps | None = None, beside: bool = False) -> Listing:
    """Read a layer once, from its compressed bytes, and list what is in it.

    Args:
        chunks: All the bytes of the layer. Whoever gives them verifies them; the listing counts only if they were.
        caps: What bounds it.
        beside: Whether the archive is walked in a thread of its own, beside the one that decodes it.

    Raises:
        ContentError: The layer is corrupt, ends early, or is no archive.
        TooLarge: It goes beyond the caps.
    """
    caps = caps or Caps()
    counted = Counted(chunks)
    blocks = ((block, counted.position) for block in decoded(counted, caps))
    return _beside(blocks, lambda given: _listed(given, caps)) if beside else _listed(blocks, caps)


def _beside(blocks: Iterator[_Block], work: Callable[[Iterator[_Block]], Listing]) -> Listing:
    """Give blocks, as they are decoded here, to work in a thread of its own."""
    held: queue.Queue[list[_Block] | None] = queue.Queue(_AHEAD)
    found: list[Listing] = []
    failed: list[BaseException] = []

    def given() -> Iterator[_Block]:
        while (some := held.get()) is not None:
            yield from some

    def run() -> None:
        rest = given()
        try:
            found.append(work(rest))
        except BaseException as error:  # noqa: BLE001 -- it is raised where the thread was begun
            failed.append(error)
            for _ in rest:  # whoever decodes must not wait for ever
                pass

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    try:
        while not failed and (some := list(itertools.islice(blocks, _TOGETHER))):
            held.put(some)
    finally:
        held.put(None)
        worker.join()
    if failed:
        raise failed[0]
    return found[0]


def _listed(blocks: Iterator[_Block], caps: Caps) -> Listing:
    places = _Places(blocks)
    data = Bytes(places)
    packing = Packing(caps)
    collector = Collector()
    ends: list[int] = []
    for number, entry in enumerate(walk(data, collector.watch)):
        collector.end(number)
        packing.add(entry[:9])
        ends.append(entry.end)
        if packing.full:
            packing.pack(places.packed(ends, data.position))
            ends = []
    packing.pack(places.packed(ends, data.position))
    data.drain()
    return packing.finish("stream", data.position, collector.found)

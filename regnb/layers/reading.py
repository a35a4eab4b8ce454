"""Layers are read, two at a time: by their tables of contents, or as streams that a thread decodes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar

import anyio
from anyio import from_thread, to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from regnb.crawl.reader import Reader, each
from regnb.errors import ContentError, MalformedManifest, NotFound, RegnbError
from regnb.layers import toc
from regnb.layers.archive import Bytes, Sink, walk
from regnb.layers.compression import Caps, Counted, decoded
from regnb.layers.images import Part
from regnb.layers.kept import Kept
from regnb.layers.listing import Layer, Listing, listing
from regnb.oci.manifest import AnyManifest, Descriptor, ImageConfig, Index, Manifest, Schema1
from regnb.oci.reference import Reference
from regnb.text import count, human
from regnb.wire.client import Client

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

AT_ONCE: Final = 2
"""Layers that are read at once."""
_TOGETHER: Final = 2 * 2**20
"""Bytes that are handed to the thread that decodes them at once: each time threads change."""
_AHEAD: Final = 1
"""How often that many are received before they are decoded."""
_T = TypeVar("_T")


class Blobs(Protocol):
    """Where the bytes of layers come from."""

    def whole(self, layer: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give all the bytes of a layer; at their end they are verified."""

    def part(self, layer: Descriptor, begin: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the bytes of a layer from one position up to another."""


class Repository:
    """The blobs of one repository of a registry.

    Args:
        client: The registry.
        name: The repository.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name

    def whole(self, layer: Descriptor) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give all the bytes of a layer; at their end they are verified."""
        return self._client.blob_stream(self._name, layer.digest)

    def part(self, layer: Descriptor, begin: int, end: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the bytes of a layer from one position up to another, which lies within it."""
        return self._client.blob_stream(self._name, layer.digest, start=begin, stop=end)


class Progress:
    """How far the layers are read, in megabytes of what must be streamed."""

    title: ClassVar[str] = "Layers"
    unit: ClassVar[str] = "MB"

    def __init__(self) -> None:
        self.total = self.done = self.layers = 0

    def state(self) -> tuple[int, int, str]:
        """Return how much there is to stream, how much was, and a word about it."""
        return ceil(self.total / 1e6), int(self.done / 1e6), f"{human(self.total)} in {count(self.layers, 'layer')}"


def unreadable(layer: Descriptor) -> str:
    """Return why a layer is not even asked for, or "".

    Example:
        >>> unreadable(Descriptor("sha256:" + "0" * 64, 1, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"))
        'not read: the layer is encrypted'
    """
    if layer.media_type.endswith("+encrypted"):
        return "not read: the layer is encrypted"
    if layer.foreign:
        return "not read: a foreign layer, which is stored outside of the registry"
    return ""


async def read(
    blobs: Blobs,
    layers: Iterable[Descriptor],
    kept: Kept,
    progress: Progress | None = None,
    caps: Caps | None = None,
    *,
    whole: bool = False,
    at_most: int = 0,
) -> dict[str, Layer]:
    """Read layers, each digest once. One that cannot be read is told with the reason, and the others go on.

    Args:
        blobs: Where their bytes come from.
        layers: As manifests describe them.
        kept: What was read before, which is not read again.
        progress: What counts.
        caps: What bounds each.
        whole: Whether every layer is read whole, although it has a table of contents.
        at_most: Bytes to stream, the smallest layers first; a layer beyond them is not read. 0: there is no limit.
    """
    progress = progress or Progress()
    found: dict[str, Layer] = {}
    todo: dict[str, Descriptor] = {}
    for layer in layers:
        known = kept.get(layer.digest, "stream") or (None if whole else kept.get(layer.digest, "toc"))
        if known is not None:
            found[layer.digest] = Layer(known)
        elif reason := unreadable(layer):
            found[layer.digest] = Layer(None, reason)
        else:
            todo[layer.digest] = layer
    streamed = sorted((layer for layer in todo.values() if whole or toc.where(layer) is None), key=_size)
    while at_most and streamed and sum(map(_size, streamed)) > at_most:
        beyond = streamed.pop()
        found[todo.pop(beyond.digest).digest] = Layer(None, f"not read: {human(beyond.size)}, beyond the limit")
    progress.total, progress.layers = sum(layer.size for layer in streamed), len(streamed)

    async def one(layer: Descriptor) -> Layer:
        try:
            result = None if whole else await by_table(blobs, layer, caps)
            if result is None:
                if layer not in streamed:
                    if at_most and progress.total + layer.size > at_most:
                        return Layer(None, f"not read: {human(layer.size)}, beyond the limit")
                    progress.total += layer.size
                    progress.layers += 1
                # A layer larger than all others together is alone in the end.
                work = partial(listing, caps=caps, beside=2 * layer.size > progress.total)
                result = await streaming(blobs, layer, work, progress)
        except RegnbError as error:
            return Layer(None, f"not read: {error.message}")
        kept.put(layer.digest, result)
        return Layer(result)

    # The largest first, so that none of them is left alone at the end.
    order = sorted(todo.values(), key=_size, reverse=True)
    results = await each(one, order, AT_ONCE)
    return found | {layer.digest: result for layer, result in zip(order, results, strict=True)}


def _size(layer: Descriptor) -> int:
    return layer.size


async def by_table(blobs: Blobs, layer: Descriptor, caps: Caps | None = None) -> Listing | None:
    """Return the listing that a layer's table of contents gives; None if it has none that holds."""
    try:
        table = await table_of(blobs, layer)
        return None if table is None else await to_thread.run_sync(toc.listing, table, caps)
    except ContentError:
        return None  # its bytes tell the truth


async def table_of(blobs: Blobs, layer: Descriptor) -> toc.Table | None:
    """Return a layer's table of contents, if the manifest names one.

    Raises:
        ContentError: It is not what the manifest says.
    """

    async def fetch(begin: int, end: int) -> bytes:
        async with blobs.part(layer, begin, end) as chunks:
            pieces = [chunk async for chunk in chunks]
        data = b"".join(pieces)
        if len(data) != end - begin:
            raise ContentError(f"{human(len(data))} came of the layer, and not the {human(end - begin)} asked for")
        return data

    place = toc.where(layer)
    return None if place is None else await toc.read(layer, place, fetch)


async def streaming(
    blobs: Blobs, layer: Descriptor, work: Callable[[Iterator[bytes]], _T], progress: Progress | None = None
) -> _T:
    """Give a layer's bytes, as they come, to work in a thread; what it does not want is not read."""
    async with blobs.whole(layer) as chunks:
        return await in_thread(chunks, work, progress)


async def in_thread(
    chunks: AsyncIterator[bytes], work: Callable[[Iterator[bytes]], _T], progress: Progress | None = None
) -> _T:
    """Give bytes, as they come, to work in a thread."""
    send, receive = anyio.create_memory_object_stream[list[bytes]](_AHEAD)
    found: list[_T] = []

    def run() -> _T:
        return work(_received(receive))

    async def worked() -> None:
        try:
            found.append(await to_thread.run_sync(run))
        finally:
            receive.close()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(worked)
            with contextlib.suppress(anyio.BrokenResourceError):
                await _feed(chunks, send, progress)
    except BaseExceptionGroup as errors:
        # Either side failed and ended the other: the caller gets one error.
        raise errors.exceptions[0] from None
    return found[0]


async def _feed(
    chunks: AsyncIterator[bytes], send: MemoryObjectSendStream[list[bytes]], progress: Progress | None
) -> None:
    async with send:
        pieces: list[bytes] = []
        held = 0

        async def give() -> None:
            nonlocal pieces, held
            await send.send(pieces)
            if progress is not None:
                progress.done += held
            pieces, held = [], 0

        async for chunk in chunks:
            pieces.append(chunk)
            held += len(chunk)
            if held >= _TOGETHER:
                await give()
        if pieces:
            await give()


def _received(receive: MemoryObjectReceiveStream[list[bytes]]) -> Iterator[bytes]:
    while True:
        try:
            pieces = from_thread.run(receive.receive)
        except anyio.EndOfStream:
            return
        yield b"".join(pieces)


async def content(blobs: Blobs, layer: Descriptor, known: Listing, row: int, sink: Sink) -> None:
    """Give the content of one file of a layer to a sink, piece by piece; what follows it in the layer is not read.

    Args:
        blobs: Where the layer's bytes come from.
        layer: The layer.
        known: Its listing.
        row: Of the listing: a regular file.
        sink: What takes the content, in a thread.

    Raises:
        ContentError: The layer is not what the listing says.
    """
    name, size, digest = (known.table[column][row].as_py() for column in ("name", "stored", "digest"))
    if known.way == "toc" and (table := await table_of(blobs, layer)) is not None:
        sizes = toc.packed(table).tolist()
        places = [
            (item.offset, item.offset + sizes[number])
            for number, item in enumerate(table.items)
            if item.type == "reg" and item.name.encode() == name and sizes[number]
        ]
        if places:
            async with blobs.part(layer, *places[-1]) as chunks:
                return await in_thread(chunks, lambda pieces: _first(pieces, size, digest, sink))
        if not size:
            return None

    def find(pieces: Iterator[bytes]) -> None:
        number = 0
        wanted: Callable[[bytes, int], Sink | None] = lambda *_: sink if number == row else None  # noqa: E731
        for entry in walk(Bytes(decoded(Counted(pieces))), wanted):
            if number == row:
                _check(entry.digest, digest)
                return
            number += 1
        raise ContentError("the layer has fewer entries than its listing")

    return await streaming(blobs, layer, find)


def _first(pieces: Iterator[bytes], size: int, digest: bytes, sink: Sink) -> None:
    hasher = hashlib.sha256()
    for piece in Bytes(decoded(Counted(pieces))).pieces(size):
        hasher.update(piece)
        sink(piece)
    _check(hasher.digest(), digest)


def _check(found: bytes, digest: bytes) -> None:
    if digest and found != digest:
        raise ContentError("the file's bytes are not those that the layer's listing names")


async def read_image(reader: Reader, where: Reference, *, strict: bool = False) -> tuple[AnyManifest, list[Part]]:
    """Read a manifest and its platforms, in the order in which an index lists them.

    Args:
        reader: Of the registry.
        where: A tag or a digest.
        strict: Whether a config that cannot be read is an error; if not, its image has an empty one.

    Raises:
        NotFound: No such repository, tag or digest.
        ContentError: A manifest or config that is not what it should be, or an image of schema 1.

    Example:
        ``top, parts = await read_image(reader, Reference.parse("vm/centos8:8.4"))``
    """
    raw = await reader.client.manifest(where.repository, where.target)
    *behind, (_, top) = await reader.tree(where.repository, raw)
    if isinstance(top, Schema1):
        raise MalformedManifest(
            f"{where} is an image of the withdrawn schema 1, which records no layer sizes",
            hint="push it again with a current client",
        )
    listed = {str(one.digest): str(one.platform or "") for one in top.manifests} if isinstance(top, Index) else {}
    order = {digest: place for place, digest in enumerate(listed)}
    parts = []
    for one in (*(manifest for _, manifest in behind), top):
        if not isinstance(one, Manifest) or one.kind == "attestation":
            continue
        try:
            config = await reader.config(where.repository, one)
        except (ContentError, NotFound):
            if strict:
                raise
            config = None
        parts.append(
            Part((config.platform if config else "") or listed.get(one.digest, ""), one, config or ImageConfig())
        )
    return top, sorted(parts, key=lambda part: order.get(str(part.manifest.digest), len(order)))


async def known_base(reader: Reader, where: Reference) -> Frame:
    """Return an image as ``known_bases``: a row for each layer of each platform.

    Example:
        ``rows = await known_base(reader, Reference.parse("base/debian:12"))``
    """
    from regnb.tables.frame import of_rows

    top, parts = await read_image(reader, where)
    name = f"{reader.client.host}/{where.repository}:{where.target}"
    rows = [
        (name, str(top.digest), str(part.manifest.digest), part.platform, at, layer.digest, diff_id, layer.size)
        for part in parts
        for at, (layer, diff_id) in enumerate(
            zip(part.layers, part.config.diff_ids or [None] * len(part.layers), strict=False)
        )
    ]
    return of_rows("known_bases", rows)

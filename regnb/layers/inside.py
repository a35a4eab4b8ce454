"""What is inside the images of one registry: their layers are read, and what was read is kept."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from functools import partial
from typing import BinaryIO, Final, NamedTuple
from weakref import WeakKeyDictionary

from regnb.crawl.reader import Reader
from regnb.errors import InvalidArgument, TooLarge
from regnb.layers.files import place
from regnb.layers.images import Part, chosen
from regnb.layers.kept import Kept
from regnb.layers.listing import Layer
from regnb.layers.reading import Progress, Repository, content, read, read_image
from regnb.oci.reference import Reference
from regnb.text import human

OPEN_LIMIT: Final = 256 * 2**20
"""Bytes of a file that are held in memory."""


_KEPT: Final[WeakKeyDictionary[Reader, Kept]] = WeakKeyDictionary()
"""What is kept of the layers of each registry."""


class Looked(NamedTuple):
    """Images, and what is known of their layers by digest."""

    images: list[Part]
    layers: dict[str, Layer]


class Inside:
    """The images of a registry, looked into.

    Args:
        reader: The registry.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        if reader not in _KEPT:
            path = reader.cache.path
            _KEPT[reader] = Kept(None if path is None else path.parent)
        self._kept = _KEPT[reader]

    async def look(
        self,
        where: Reference,
        platform: str | None = None,
        progress: Progress | None = None,
        *,
        whole: bool = False,
        at_most: int = 0,
    ) -> Looked:
        """Read the layers of the images behind a reference.

        Args:
            where: The reference.
            platform: As for :func:`regnb.layers.images.chosen`.
            progress: What counts.
            whole: Whether every layer is read whole, although it has a table of contents.
            at_most: Bytes to stream; 0 for as many as there are.

        Raises:
            NotFound: No such repository, tag or digest.
            ContentError: A manifest or config that is not what it should be, or an image of schema 1.
            InvalidArgument: There is no image for the platform.
        """
        _, parts = await read_image(self._reader, where)
        found = chosen(parts, where, platform)
        layers = [layer for image in found for layer in image.layers]
        blobs = Repository(self._reader.client, where.repository)
        return Looked(found, await read(blobs, layers, self._kept, progress, whole=whole, at_most=at_most))

    async def open(self, where: Reference, path: str, *, platform: str | None, into: BinaryIO | None) -> BinaryIO:
        """Return the content of the file that an image shows at a path.

        Args:
            where: The image.
            path: Of the file in the image.
            platform: As for :meth:`look`.
            into: What it is written to, piece by piece; None: a file in memory.

        Raises:
            NotFound: There is no such image or file.
            InvalidArgument: Several images are meant.
            TooLarge: It is too large for memory.
            ContentError: It is no file, or a layer could not be read.
        """
        found, layers = await self.look(where, platform)
        if len(found) != 1:
            names = ", ".join(image.platform for image in found)
            raise InvalidArgument(f"{where} has {len(found)} images: {names}", hint="name one of them as the platform")
        there = place(found[0], layers, path, str(where))
        if into is None and there.size > OPEN_LIMIT:
            raise TooLarge(
                f"{path} has {human(there.size)}; at most {human(OPEN_LIMIT)} are held in memory",
                hint="write it to a file: open(…, into=file), or regnb cat",
            )
        layer = found[0].layers[there.layer]
        known = layers[layer.digest].listing
        assert known is not None  # noqa: S101 -- the file was found in it
        file = io.BytesIO() if into is None else into
        await content(Repository(self._reader.client, where.repository), layer, known, there.row, file.write)
        if into is None:
            file.seek(0)
        return file


def looking(
    reader: Reader, platform: str | None, *, whole: bool, most: int
) -> tuple[Progress, Callable[[Reference], Awaitable[Looked]]]:
    """Return what is counted while an image is looked into, and what does it.

    Example:
        ``counters, look = looking(reader, "linux/arm64", whole=False, most=0)``
    """
    counters = Progress()
    look = partial(Inside(reader).look, platform=platform, progress=counters, whole=whole, at_most=most)
    return counters, look

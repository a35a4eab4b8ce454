"""A cache that several machines share: what each reads goes there in files, which the others take over."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from regnb.crawl.files import opened
from regnb.errors import ContentError, InvalidReference, RegnbError
from regnb.log import logger
from regnb.oci.manifest import media_type_of, verify
from regnb.oci.reference import Digest

if TYPE_CHECKING:
    import fsspec

    from regnb.wire.cache import Cache, Cached

_ENDING: Final = ".regnb-cache-1"
_LARGEST: Final = 1 << 28
"""Bytes of a file when it is unpacked: what says that it has more is not taken."""
_LOG = logger("crawl")
_Tag: TypeAlias = tuple[str, str, str, str]


class _File(msgspec.Struct, array_like=True):
    """What one file holds: digest, media type and bytes of contents; and what tags pointed at when they were seen."""

    contents: list[tuple[str, str, bytes]]
    tags: list[_Tag]


class Shared:
    """A folder anywhere that fsspec reaches, where caches put what they were given, and take what others put there.

    Every content is verified when it is taken. What goes wrong here is logged, and never ends a reading. Files may be
    removed at any time: what they held is read from the registry again.

    Args:
        url: Of the folder, such as ``s3://bucket/regnb-cache``.

    Example:
        ``Shared("s3://bucket/regnb-cache").attach(cache)``
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def attach(self, cache: Cache) -> None:
        """Take over what others put there, and let everything go there that the cache is given from now on."""
        cache.flush()
        cache.share = lambda *_: None
        try:
            with opened(self._url, "read") as (filesystem, folder):
                self._take(filesystem, folder, cache)
        except RegnbError as error:
            _LOG.warning("the shared cache is not used: %s", error.message)
            return
        cache.flush()

        def share(contents: Mapping[Digest, Cached], tags: Mapping[tuple[str, str, str], str]) -> None:
            self._put(cache, contents, tags)

        cache.share = share

    def _take(self, filesystem: fsspec.AbstractFileSystem, folder: str, cache: Cache) -> None:
        filesystem.invalidate_cache()
        try:
            found = [str(path) for path in filesystem.find(folder)]
        except FileNotFoundError:
            return
        names = {path.rpartition("/")[2]: path for path in found if path.endswith(_ENDING)}
        for name in cache.fresh(names):
            data = _unpacked(filesystem.cat_file(names[name]))
            if data is None:
                _LOG.info("a file of the shared cache is damaged, or being written: %s", name)
                continue
            for text, media_type, content in data.contents:
                if (digest := _digest(text, media_type, content)) and cache.get(digest) is None:
                    cache.put(digest, media_type, content)
            for registry, repository, tag, text in data.tags:
                cache.remember(registry, repository, {tag: text})
            cache.took(name)

    def _put(self, cache: Cache, contents: Mapping[Digest, Cached], tags: Mapping[tuple[str, str, str], str]) -> None:
        """Write a file; its name is that of its bytes."""
        rows = [(str(digest), one.media_type, one.data) for digest, one in contents.items()]
        file = _File(rows, [(*where, str(text)) for where, text in tags.items()])
        if not (rows or file.tags):
            return
        data = zlib.compress(msgspec.msgpack.encode(file))
        name = f"{hashlib.sha256(data).hexdigest()}{_ENDING}"
        try:
            with opened(self._url, "write") as (filesystem, folder):
                filesystem.makedirs(folder, exist_ok=True)
                filesystem.pipe_file(f"{folder}/{name}", data)
        except RegnbError as error:
            _LOG.warning("not written to the shared cache: %s", error.message)
        else:
            cache.took(name)


def _unpacked(data: bytes) -> _File | None:
    """Return what a file holds; None if it is not whole."""
    try:
        unpacked = zlib.decompressobj().decompress(data, _LARGEST)
        return msgspec.msgpack.decode(unpacked, type=_File)
    except (zlib.error, msgspec.MsgspecError, ValueError):
        return None


def _digest(text: str, media_type: str, data: bytes) -> Digest | None:
    """Return the digest of a content that is what it says."""
    try:
        verify(data, text)
    except (ContentError, InvalidReference):
        return None
    return Digest(text) if media_type_of(data) in ("", media_type) else None

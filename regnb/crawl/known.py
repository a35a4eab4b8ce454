"""What earlier crawls found out about manifests: decoded once, and read back for a repository at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from regnb.crawl.records import ManifestRecord
from regnb.wire.cache import Cache

_VERSION: Final = 7
"""To be raised whenever :func:`regnb.crawl.records.describe` or the reading of configs says something else."""


class Claim(Protocol):
    """What a manifest says of a blob."""

    @property
    def digest(self) -> str:
        """The blob's."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def media_type(self) -> str:
        """The blob's."""

    @property
    def foreign(self) -> bool:
        """Whether it is stored elsewhere."""


class _Claim(msgspec.Struct, frozen=True, array_like=True, gc=False):
    digest: str
    size: int
    media_type: str
    foreign: bool


class Description(msgspec.Struct, array_like=True, gc=False):
    """A manifest's record with what its config adds to it, and its blobs.

    Attributes:
        record: Without layers and their types, where the blobs say as much: digests are most of what is kept.
        configured: Whether an image's config was read.
        shortened: Whether they are left out.
    """

    version: int
    record: ManifestRecord
    blobs: tuple[_Claim, ...]
    configured: bool
    shortened: bool


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=str)  # of digests
_decoder: Final = msgspec.msgpack.Decoder(Description)


def _layers(record: ManifestRecord, blobs: tuple[_Claim, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers of an image whose blobs are its config and these, and their media types."""
    rest = blobs[1:] if record.config else blobs
    return tuple([blob.digest for blob in rest]), tuple([blob.media_type for blob in rest])


class Known:
    """Descriptions of manifests, by digest.

    Args:
        cache: Where they are kept.

    Example:
        >>> Known(Cache()).take("sha256:" + 64 * "0") is None
        True
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._loaded: dict[str, Description] = {}
        self._pending: dict[str, tuple[ManifestRecord, Sequence[Claim]]] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._loaded

    def load(self, digests: Iterable[str]) -> None:
        """Read the descriptions of these manifests, and of those behind them."""
        wanted = {digest for digest in digests if digest not in self._loaded}
        while wanted:
            behind: set[str] = set()
            for digest, data in self._cache.derived(wanted).items():
                try:
                    found = _decoder.decode(data)
                except (msgspec.MsgspecError, ValueError):
                    continue  # another version's
                if found.version == _VERSION and found.record.digest == digest:
                    self._loaded[digest] = found
                    behind.update(found.record.children)
            # A set less a view would look at all of the view.
            wanted = {digest for digest in behind - wanted if digest not in self._loaded}

    def take(self, digest: str) -> Description | None:
        """Return the description of a manifest, which is not kept here any longer."""
        found = self._loaded.pop(digest, None)
        if found is not None and found.shortened:
            found.record.layers, found.record.layer_types = _layers(found.record, found.blobs)
        return found

    def describe(self, record: ManifestRecord, blobs: Sequence[Claim]) -> None:
        """Note what a manifest says, until :meth:`keep`."""
        self._pending[record.digest] = record, blobs

    def keep(self, digest: str, *, configured: bool) -> None:
        """Keep what a manifest says, now that its config was read, if it has one."""
        found = self._pending.pop(digest, None)
        if found is None:
            return
        record, blobs = found
        claims = tuple([_Claim(each.digest, each.size, each.media_type, each.foreign) for each in blobs])
        shortened = (record.layers, record.layer_types) == _layers(record, claims)
        kept = replace(record, layers=(), layer_types=()) if shortened else record
        data = _encoder.encode(Description(_VERSION, kept, claims, configured, shortened))
        self._cache.derive(digest, [digest, record.config] if configured else [digest], data)

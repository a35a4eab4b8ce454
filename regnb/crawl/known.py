"""What earlier crawls found out about a repository's manifests: decoded once, and read back as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final, NamedTuple, cast

import msgspec

from regnb.crawl.recording import Recording
from regnb.crawl.records import ManifestRecord
from regnb.oci.findings import Finding
from regnb.oci.manifest import ManifestKind
from regnb.wire.cache import Cache

_VERSION: Final = 8
"""To be raised whenever :func:`regnb.crawl.records.describe` or the reading of configs says something else."""
_texts_of: Final = attrgetter(
    "digest", "media_type", "kind", "artifact_type", "config", "subject", "platform", "created", "annotated",
    "config_type", "base_name", "base_digest",
)  # fmt: skip


class _Blob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a manifest says of a blob; digest, media type and the archive's digest are places in the texts."""

    digest: int
    size: int
    media_type: int
    diff_id: int
    is_config: bool


class _Manifest(msgspec.Struct, array_like=True, gc=False):
    """A manifest's record. Its numbers are places in the texts, the lists and the blobs of its repository.

    Attributes:
        texts: In the order of :data:`_texts_of`.
        blobs: Its config, if it has one, and its layers, or what an index lists beside manifests.
        configured: Whether an image's config was read.
        states: Whether that config says what archive each layer holds.
    """

    texts: tuple[int, ...]
    size: int
    blobs: tuple[int, ...]
    children: tuple[int, ...]
    commands: tuple[int, ...]
    layer_types: int
    labels: int
    findings: tuple[Finding, ...]
    listed_bases: tuple[tuple[str, str, str], ...]
    configured: bool
    states: bool


class _Kept(msgspec.Struct, array_like=True, gc=False):
    """The manifests of a repository. Each text stands in it once: most are digests of layers that images share."""

    version: int
    texts: tuple[str, ...]
    lists: tuple[tuple[int, ...], ...]
    blobs: tuple[_Blob, ...]
    manifests: tuple[_Manifest, ...]


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=str)  # of digests
_decoder: Final = msgspec.msgpack.Decoder(_Kept)


class _Loaded:
    """What is kept of a repository, with one object for each text in all of the records."""

    def __init__(self, kept: _Kept, recording: Recording) -> None:
        self.texts = recording.each(kept.texts)
        self.lists = [recording.text(tuple([self.texts[at] for at in one])) for one in kept.lists]
        self.blobs = kept.blobs
        self.layers = [self.texts[blob.digest] for blob in kept.blobs]
        self.manifests = {self.texts[one.texts[0]]: one for one in kept.manifests}
        self._said = bytearray(len(kept.blobs))

    def record(self, one: _Manifest) -> ManifestRecord:
        """Return a manifest's record."""
        texts, layers = self.texts, self.layers
        (digest, media_type, kind, artifact, config, subject, platform, created, annotated, config_type, name, base) = [
            texts[at] for at in one.texts
        ]
        return ManifestRecord(
            digest, media_type, cast("ManifestKind", kind), artifact, one.size, config,
            tuple([layers[at] for at in (one.blobs[1:] if config else one.blobs)]),
            tuple([texts[at] for at in one.children]),
            subject, platform, created,
            tuple([texts[at] for at in one.commands]),
            annotated, config_type, self.lists[one.layer_types], name, base, (), one.findings,
            self.lists[one.labels], one.listed_bases,
        )  # fmt: skip

    def enter(self, digest: str, recording: Recording) -> _Manifest:
        """Record a manifest, and of its blobs what no manifest of this repository has said yet."""
        one, said, texts = self.manifests[digest], self._said, self.texts
        for at in one.blobs:
            if not said[at]:
                blob, name = self.blobs[at], self.layers[at]
                media_type, diff_id = texts[blob.media_type], texts[blob.diff_id]
                # A size that contradicts another manifest's is each time noted.
                said[at] = recording.claim(digest, name, blob.size, media_type, is_config=blob.is_config)
                if diff_id:
                    recording.records.state([(name, diff_id)])
        recording.keep(self.record(one))
        return one


class _Places:
    """Numbers what is kept, each text, list and blob once."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.lists: dict[tuple[int, ...], int] = {}
        self.blobs: dict[tuple[int, int, int, int, bool], int] = {}

    def text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def each(self, texts: Iterable[str]) -> tuple[int, ...]:
        known = self.texts
        return tuple([known.setdefault(text, len(known)) for text in texts])

    def list(self, texts: Iterable[str]) -> int:
        return self.lists.setdefault(self.each(texts), len(self.lists))

    def blob(self, digest: str, size: int, media_type: str, diff_id: str, *, is_config: bool) -> int:
        blob = (self.text(digest), size, self.text(media_type), self.text(diff_id), is_config)
        return self.blobs.setdefault(blob, len(self.blobs))


class _State(NamedTuple):
    """What is known of a manifest beside its record; see :class:`_Manifest`."""

    configured: bool
    states: bool


class Known:
    """The manifests of repositories, as they are kept from one crawl to the next.

    Args:
        cache: Where they are kept.
        recording: Where they are recorded.

    Example:
        >>> from datetime import UTC, datetime
        >>> from regnb.crawl.records import Records
        >>> Known(Cache(), Recording(Records("localhost:5000", datetime.now(UTC)))).enter("sha256:" + 64 * "0")
        False
    """

    def __init__(self, cache: Cache, recording: Recording) -> None:
        self._cache, self._recording = cache, recording
        self._records = recording.records
        self._loaded: dict[str, _Loaded] = {}
        self._kept: dict[str, set[str]] = {}
        self._decoded: set[str] = set()
        self._complete: dict[str, _State | None] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._loaded

    def load(self, repository: str) -> None:
        """Read what is kept of a repository."""
        data, is_stale = self._cache.kept(self._records.registry, repository)
        try:
            kept = _decoder.decode(data) if data else None
        except (msgspec.MsgspecError, ValueError):
            return  # another version's
        if kept is None or kept.version != _VERSION:
            return
        loaded = _Loaded(kept, self._recording)
        self._kept[repository] = set(loaded.manifests)
        self._loaded.update((digest, loaded) for digest in loaded.manifests if digest not in self._records.manifests)
        if is_stale:
            configs = [loaded.texts[blob.digest] for blob in kept.blobs if blob.is_config]
            self._cache.touch(self._records.registry, repository, [*loaded.manifests, *configs])

    def enter(self, digest: str) -> bool:
        """Record a manifest that an earlier crawl described; return whether one did."""
        loaded = self._loaded.pop(digest, None)
        if loaded is None:
            return False
        one = loaded.enter(digest, self._recording)
        self._complete[digest] = _State(one.configured, one.states)
        if one.configured:
            self._records.configured.add(digest)
        return True

    def whole(self, root: str) -> tuple[str, ...]:
        """Record a manifest and its children, and return their digests; none if one is not known, or leads further."""
        manifests, complete = self._records.manifests, self._complete
        if root not in complete and (root in manifests or not self.enter(root)):
            return ()
        children = manifests[root].children
        for child in children:
            if child not in complete and (child in manifests or not self.enter(child)):
                return ()
            if manifests[child].children:
                return ()
        return (root, *children)

    def decoded(self, digest: str) -> None:
        """Note that a manifest was decoded, and is one."""
        self._decoded.add(digest)

    def complete(self, record: ManifestRecord, *, configured: bool) -> None:
        """Note that everything is known of a manifest: its config was read, if it has one."""
        state = _State(configured, bool(record.diff_ids)) if record.digest in self._decoded else None
        self._complete.setdefault(record.digest, state)  # a second worker finds its config taken over

    def is_complete(self, digest: str) -> bool:
        """Whether everything is known of a manifest that is recorded."""
        return digest in self._complete

    def save(self, repository: str, roots: Iterable[str]) -> None:
        """Keep of a repository what its tags lead to and is known wholly, unless as much is kept already."""
        if self._cache.path is None:
            return  # the content itself is near enough
        reached = self._closure(roots)
        if self._kept.pop(repository, None) == reached:
            return
        places = _Places()
        manifests = [self._manifest(self._records.manifests[digest], places) for digest in reached]
        found = tuple([one for one in manifests if one is not None])
        if found:
            lists, blobs = tuple(places.lists), tuple([_Blob(*blob) for blob in places.blobs])
            kept = _Kept(_VERSION, tuple(places.texts), lists, blobs, found)
            self._cache.keep(self._records.registry, repository, _encoder.encode(kept))

    def _closure(self, roots: Iterable[str]) -> set[str]:
        manifests = self._records.manifests
        found, todo = set[str](), [*roots]
        while todo:
            digest = todo.pop()
            if self._complete.get(digest) is not None and digest not in found:
                found.add(digest)
                todo += manifests[digest].children
        return found

    def _manifest(self, record: ManifestRecord, places: _Places) -> _Manifest | None:
        """Return what is kept of a manifest; None where it is not certain what it says itself."""
        state, conflicts, known = self._complete.get(record.digest), self._recording.conflicts, self._records.blobs
        if state is None:
            return None
        blobs = []
        if record.config:
            if record.config in conflicts:
                return None
            size = known[record.config].size
            blobs.append(places.blob(record.config, size, record.config_type, "", is_config=True))
        for layer, media_type in zip(record.layers, record.layer_types, strict=True):
            diff_id = self._records.diff_ids.get(layer, "") if state.states else ""
            if layer in conflicts or known[layer].kind == "manifest" or (state.states and not diff_id):
                return None
            is_config = layer == record.config
            blobs.append(places.blob(layer, known[layer].size, media_type, diff_id, is_config=is_config))
        return _Manifest(
            places.each(_texts_of(record)), record.manifest_size, tuple(blobs), places.each(record.children),
            places.each(record.commands), places.list(record.layer_types), places.list(record.labels),
            record.findings, record.listed_bases, *state,
        )  # fmt: skip

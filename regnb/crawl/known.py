"""What earlier crawls found out about a repository's manifests: decoded once, and read back as a whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count, repeat
from operator import attrgetter, itemgetter
from typing import Final, TypeAlias, TypeVar, cast

import msgspec

from regnb.crawl.recording import Recording, kind_of
from regnb.crawl.records import BlobKind, BlobRecord, ManifestRecord
from regnb.oci.findings import Finding
from regnb.wire.cache import Cache

_T = TypeVar("_T")
_VERSION: Final = 9
"""To be raised whenever :func:`regnb.crawl.records.describe` or the reading of configs says something else."""
_texts_of: Final = attrgetter(
    "digest", "media_type", "kind", "artifact_type", "config", "subject", "platform", "created", "annotated",
    "config_type", "base_name", "base_digest",
)  # fmt: skip
"""What of a manifest's record is one text."""


class _Blobs(msgspec.Struct, array_like=True, gc=False):
    """What manifests say of blobs, in columns; all but the sizes are places in the texts."""

    digest: tuple[int, ...]
    size: tuple[int, ...]
    media_type: tuple[int, ...]
    kind: tuple[int, ...]
    diff_id: tuple[int, ...]


class _Manifests(msgspec.Struct, array_like=True, gc=False):
    """The records of manifests, in columns; one that has a single value stands for all rows.

    Numbers are places in the texts, the lists and the blobs.

    Attributes:
        texts: A column for each of :data:`_texts_of`.
        blobs: Its config, if it has one, and its layers, or what an index lists beside manifests.
        configured: Whether an image's config was read.
        states: Whether that config says what archive each layer holds.
    """

    texts: tuple[tuple[int, ...], ...]
    size: tuple[int, ...]
    blobs: tuple[tuple[int, ...], ...]
    children: tuple[tuple[int, ...], ...]
    commands: tuple[tuple[int, ...], ...]
    layer_types: tuple[int, ...]
    labels: tuple[int, ...]
    findings: tuple[tuple[Finding, ...], ...]
    listed_bases: tuple[tuple[tuple[str, str, str], ...], ...]
    configured: tuple[bool, ...]
    states: tuple[bool, ...]


class _Kept(msgspec.Struct, array_like=True, gc=False):
    """The manifests of a repository. Each text stands in it once: most are digests of layers that images share.

    Attributes:
        tags: Names and digests, in turn.
    """

    version: int
    texts: tuple[str, ...]
    tags: tuple[int, ...]
    lists: tuple[tuple[int, ...], ...]
    blobs: _Blobs
    manifests: _Manifests


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=str)  # of digests
_decoder: Final = msgspec.msgpack.Decoder(_Kept)


def _value(column: tuple[_T, ...], row: int) -> _T:
    return column[row] if len(column) > 1 else column[0]


_State: TypeAlias = tuple[bool, bool]
"""What is known of a manifest beside its record: ``configured`` and ``states`` of :class:`_Manifests`."""
_Said: TypeAlias = tuple[str, int, str, BlobKind, str]
"""What a manifest says of a blob: digest, bytes, media type, kind, digest of the archive."""
_Described: TypeAlias = tuple[ManifestRecord, _State, list[_Said]]


class _Loaded:
    """What is kept of a repository.

    Attributes:
        rows: Digest of each manifest to its row.
        tags: Each with its digest.
        is_read: Whether something in it had to be read.
    """

    def __init__(self, kept: _Kept, recording: Recording) -> None:
        self.texts, self._kept = kept.texts, kept
        self._lists = [recording.text(tuple([kept.texts[at] for at in one])) for one in kept.lists]
        digests = map(kept.texts.__getitem__, kept.manifests.texts[0])
        self.rows = {digest: row for row, digest in enumerate(digests)}
        tags = [*map(kept.texts.__getitem__, kept.tags)]
        self.tags = dict(zip(tags[::2], tags[1::2], strict=True))
        self.is_read = False

    def contents(self) -> list[str]:
        """Return the digests of everything that this was made from: manifests, and configs."""
        blobs = zip(self._kept.blobs.digest, self._kept.blobs.kind, strict=True)
        return [*self.rows, *(self.texts[at] for at, kind in blobs if self.texts[kind] == "config")]

    def media_type(self, digest: str) -> str:
        """Return a manifest's."""
        return self.texts[_value(self._kept.manifests.texts[1], self.rows[digest])]

    def children(self, digest: str) -> list[str]:
        """Return the manifests that a manifest lists."""
        return [self.texts[at] for at in _value(self._kept.manifests.children, self.rows[digest])]

    def record(self, rows: Sequence[int], recording: Recording) -> dict[str, _State]:
        """Record some manifests, and what they say of blobs; return what is known beside that."""
        kept, text = self._kept.manifests, self.texts.__getitem__
        number = len(rows)

        def each(column: tuple[_T, ...]) -> Iterable[_T]:
            if len(column) == 1:
                return repeat(column[0], number)
            return column if number == len(column) else map(column.__getitem__, rows)

        def named(column: tuple[int, ...]) -> Iterable[str]:
            return repeat(text(column[0]), number) if len(column) == 1 else map(text, each(column))

        digests, media_types, kinds, artifact_types, configs, *others = map(named, kept.texts)
        subjects, platforms, created, annotated, config_types, base_names, base_digests = others
        digests, configs, blobs = list(digests), list(configs), list(each(kept.blobs))
        name = [text(at) for at in self._kept.blobs.digest].__getitem__
        layers = [tuple(map(name, some[1:] if config else some)) for some, config in zip(blobs, configs, strict=True)]
        children, commands = (
            [tuple(map(text, one)) if one else () for one in each(column)] for column in (kept.children, kept.commands)
        )
        layer_types, labels = (map(self._lists.__getitem__, each(column)) for column in (kept.layer_types, kept.labels))
        records = map(
            ManifestRecord,
            *(digests, media_types, kinds, artifact_types, each(kept.size), configs, layers, children, subjects),
            *(platforms, created, commands, annotated, config_types, layer_types, base_names, base_digests),
            *(repeat(()), each(kept.findings), labels, each(kept.listed_bases)),
        )
        recording.keep(records)
        self._claim(dict(zip(digests, blobs, strict=True)), recording)
        return dict(zip(digests, zip(each(kept.configured), each(kept.states), strict=True), strict=True))

    def _claim(self, manifests: dict[str, tuple[int, ...]], recording: Recording) -> None:
        """Record what some manifests say of blobs."""
        kept, texts, known = self._kept.blobs, self.texts, recording.records.blobs
        contradicted = set[int]()
        some = range(len(kept.size)) if len(manifests) == len(self.rows) else set[int]().union(*manifests.values())
        for at in some:
            name, size = texts[kept.digest[at]], kept.size[at]
            media_type, kind = texts[kept.media_type[at]], cast("BlobKind", texts[kept.kind[at]])
            there = known.get(name)
            if there is None:
                known[name] = BlobRecord(size, media_type, kind)
            elif there.size != size or there.media_type != media_type or there.kind != kind:
                contradicted.add(at)
        diff_ids = ((texts[kept.digest[at]], texts[kept.diff_id[at]]) for at in some)
        recording.records.state((layer, diff_id) for layer, diff_id in diff_ids if diff_id)
        for digest, blobs in manifests.items() if contradicted else ():
            for at in contradicted.intersection(blobs):
                is_config = texts[kept.kind[at]] == "config"
                media_type = texts[kept.media_type[at]]
                recording.claim(digest, texts[kept.digest[at]], kept.size[at], media_type, is_config=is_config)


class _Places:
    """Numbers what is kept, each text and list once."""

    def __init__(self) -> None:
        self.texts = defaultdict[str, int](count().__next__)
        self.lists = defaultdict[tuple[str, ...], int](count().__next__)

    def each(self, texts: Iterable[str]) -> tuple[int, ...]:
        return tuple(map(self.texts.__getitem__, texts))


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
        self._repositories: dict[str, _Loaded] = {}
        self._loaded: dict[str, _Loaded] = {}
        # Rows that tags lead to, and that are not recorded yet: it takes less time for many at once.
        self._waiting = defaultdict[_Loaded, set[int]](set)
        self._decoded: set[str] = set()
        self._complete: dict[str, _State | None] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._loaded

    def load(self, repository: str) -> dict[str, str]:
        """Read what is kept of a repository, and return the digests that its tags had; {} where nothing is kept."""
        data, is_stale = self._cache.kept(self._records.registry, repository)
        try:
            kept = _decoder.decode(data) if data else None
        except (msgspec.MsgspecError, ValueError):
            return {}  # another version's
        if kept is None or kept.version != _VERSION:
            return {}
        loaded = self._repositories[repository] = _Loaded(kept, self._recording)
        manifests, known = self._records.manifests, self._loaded
        for digest in loaded.rows:
            if digest not in manifests:
                known.setdefault(digest, loaded)
        if is_stale:
            self._cache.touch(self._records.registry, repository, loaded.contents())
        return loaded.tags

    def media_type(self, digest: str) -> str | None:
        """Return the media type of a manifest that is recorded, or will be; None of another."""
        if (loaded := self._loaded.get(digest)) is not None:
            return loaded.media_type(digest)
        record = self._records.manifests.get(digest)
        return None if record is None else record.media_type

    def enter(self, digest: str) -> bool:
        """Record a manifest that an earlier crawl described; return whether one did."""
        loaded = self._loaded.get(digest)
        if loaded is None:
            return False
        self._waiting[loaded].discard(loaded.rows[digest])
        self._record(loaded, [loaded.rows[digest]])
        return True

    def _record(self, loaded: _Loaded, rows: Sequence[int]) -> None:
        states = loaded.record(rows, self._recording)
        for digest, (configured, _) in states.items():
            del self._loaded[digest]
            if configured:
                self._records.configured.add(digest)
        self._complete.update(states)

    def whole(self, root: str) -> tuple[str, ...]:
        """Take a manifest and its children, and return their digests; none if one is not known, or leads further.

        They are recorded when all tags of their repository were read, or at the :meth:`end`.
        """
        children = self._children(root)
        if children is None or any(self._children(child) != [] for child in children):
            return ()
        found = (root, *children)
        for digest in found:
            if (loaded := self._loaded.get(digest)) is not None:
                self._waiting[loaded].add(loaded.rows[digest])
        return found

    def _children(self, digest: str) -> Sequence[str] | None:
        """Return what a manifest lists of which everything is known; None of another."""
        if (loaded := self._loaded.get(digest)) is not None:
            return None if digest in self._records.manifests else loaded.children(digest)
        return list(self._records.manifests[digest].children) if digest in self._complete else None

    def decoded(self, digest: str) -> None:
        """Note that a manifest was decoded, and is one."""
        self._decoded.add(digest)

    def complete(self, record: ManifestRecord, *, configured: bool) -> None:
        """Note that everything is known of a manifest: its config was read, if it has one."""
        state = (configured, bool(record.diff_ids)) if record.digest in self._decoded else None
        self._complete.setdefault(record.digest, state)  # a second worker finds its config taken over

    def is_complete(self, digest: str) -> bool:
        """Whether everything is known of a manifest that is recorded."""
        return digest in self._complete

    def end(self) -> None:
        """Record everything that was taken."""
        for loaded in [*self._waiting]:
            self._record_waiting(loaded)

    def _record_waiting(self, loaded: _Loaded) -> None:
        if rows := [*self._waiting.pop(loaded, ())]:
            self._record(loaded, rows)

    def reads(self, repository: str) -> None:
        """Note that something in a repository is not known from earlier crawls, or not wholly."""
        if (loaded := self._repositories.get(repository)) is not None:
            loaded.is_read = True

    def save(self, repository: str, tags: Mapping[str, str], roots: Iterable[str]) -> None:
        """Keep of a repository what is known wholly, unless as much is kept already.

        Args:
            repository: The repository.
            tags: Each with its digest.
            roots: Manifests that were read with everything behind them.
        """
        loaded = self._repositories.pop(repository, None)
        if loaded is not None:
            self._record_waiting(loaded)
            if not loaded.is_read and loaded.tags == tags:
                return
        if self._cache.path is None:
            return  # the content itself is near enough
        self.end()
        reached = self._closure(roots)
        if loaded is not None and reached == loaded.rows.keys() and loaded.tags == tags:
            return
        described = (self._described(self._records.manifests[digest]) for digest in sorted(reached))
        if found := [one for one in described if one is not None]:
            self._cache.keep(self._records.registry, repository, _encoder.encode(_kept(found, tags)))

    def _closure(self, roots: Iterable[str]) -> set[str]:
        manifests = self._records.manifests
        found, todo = set[str](), [*roots]
        while todo:
            digest = todo.pop()
            if self._complete.get(digest) is not None and digest not in found:
                found.add(digest)
                todo += manifests[digest].children
        return found

    def _described(self, record: ManifestRecord) -> _Described | None:
        """Return what is kept of a manifest; None where it is not certain what it says itself."""
        state, conflicts, known = self._complete.get(record.digest), self._recording.conflicts, self._records.blobs
        if state is None:
            return None
        _, states = state
        blobs: list[_Said] = []
        if record.config:
            if record.config in conflicts:
                return None
            size = known[record.config].size
            blobs.append((record.config, size, record.config_type, kind_of(record.config_type, is_config=True), ""))
        for layer, media_type in zip(record.layers, record.layer_types, strict=True):
            diff_id = self._records.diff_ids.get(layer, "") if states else ""
            if layer in conflicts or known[layer].kind == "manifest" or (states and not diff_id):
                return None
            kind = kind_of(media_type, is_config=layer == record.config)
            blobs.append((layer, known[layer].size, media_type, kind, diff_id))
        return record, state, blobs


def _kept(described: Sequence[_Described], tags: Mapping[str, str]) -> _Kept:
    """Return what is kept: in the order of the digests, so that records which are put together are nearly sorted."""
    places = _Places()
    records, states, said = zip(*described, strict=True)
    blobs = sorted(dict.fromkeys(chain.from_iterable(said)), key=itemgetter(0))
    at = {blob: number for number, blob in enumerate(blobs)}
    digest, size, media_type, kind, diff_id = zip(*blobs, strict=True) if blobs else ((),) * 5
    return _Kept(
        _VERSION,
        blobs=_Blobs(places.each(digest), size, places.each(media_type), places.each(kind), places.each(diff_id)),
        manifests=_Manifests(
            texts=tuple([_column(places.each(column)) for column in zip(*map(_texts_of, records), strict=True)]),
            size=_column([record.manifest_size for record in records]),
            blobs=_column([tuple([at[blob] for blob in some]) for some in said]),
            children=_column([places.each(record.children) for record in records]),
            commands=_column([places.each(record.commands) for record in records]),
            layer_types=_column([places.lists[record.layer_types] for record in records]),
            labels=_column([places.lists[record.labels] for record in records]),
            findings=_column([record.findings for record in records]),
            listed_bases=_column([record.listed_bases for record in records]),
            configured=_column([configured for configured, _ in states]),
            states=_column([one for _, one in states]),
        ),
        tags=places.each(chain.from_iterable(tags.items())),
        lists=tuple(map(places.each, places.lists)),
        texts=tuple(places.texts),
    )


def _column(values: Sequence[_T]) -> tuple[_T, ...]:
    """Return a column; a single value where all are the same, as most are."""
    return tuple(values) if values.count(values[0]) != len(values) else (values[0],)

"""The manifests and configs of a storage become records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar, cast

import msgspec

from regnb.crawl.listing import Listing, blob_file
from regnb.crawl.notes import Notes
from regnb.crawl.records import PRECEDENCE, BlobKind, BlobRecord, ManifestRecord, ProblemKind, configure, describe
from regnb.crawl.references import is_index, misread, references
from regnb.crawl.walk import Files
from regnb.errors import ContentError, DigestMismatch
from regnb.oci.manifest import (
    CONFIG_LIMIT,
    IMAGE_CONFIGS,
    INDEXES,
    MANIFEST_LIMIT,
    MANIFESTS,
    OCI_ARTIFACT,
    decode_config,
    verify,
)
from regnb.oci.spelling import spelled

_Shared = TypeVar("_Shared")
_Needed: TypeAlias = tuple[BlobKind, str, int]
_ORPHAN: Final[_Needed] = ("orphan", "", 0)


@dataclass(slots=True)
class Needs:
    """What the manifests of a storage say of the blobs that they need.

    Attributes:
        kinds: Digest to kind, media type and size, as the first manifest that names it has them.
        sizes: (manifest, blob) to the size that the manifest states, where the blob on disk has another one.
        fatal: Digest of each manifest that some garbage collection cannot read, to why.
        schema1: Manifests of the withdrawn schema 1, which version 2.8 reads and version 3 does not.
    """

    kinds: dict[str, _Needed] = field(default_factory=dict)
    sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    fatal: dict[str, tuple[str, bool]] = field(default_factory=dict)
    schema1: list[str] = field(default_factory=list)


class Contents:
    """Reads what manifests and configs say.

    Args:
        notes: Where problems are noted.
        listing: What there is.
        files: To read from.
        first: Digest of each manifest to a repository that has it.

    Example:
        ``needs = Contents(notes, listing, files, first).manifests()``
    """

    def __init__(self, notes: Notes, listing: Listing, files: Files, first: dict[str, str]) -> None:
        self._notes = notes
        self._records = notes.records
        self._sizes = listing.sizes
        self._files = files
        self._first = first
        self._needs = Needs()

    def manifests(self) -> Needs:
        """Read every manifest once, but for those that are known already."""
        counts = self._records.coverage.manifests
        known = self._records.manifests = {
            digest: record for digest, record in self._records.manifests.items() if digest in self._first
        }
        counts.listed, counts.read = len(self._first), len(known)
        todo = sorted(self._first.keys() - known.keys())
        small = {blob_file(digest): digest for digest in todo if self._sizes[digest] <= MANIFEST_LIMIT}
        for path, data in self._files.read((path, self._sizes[digest]) for path, digest in small.items()):
            digest = small[path]
            if isinstance(data, bytes):
                counts.read += 1
                self._manifest(self._first[digest], digest, data)
            else:
                self._notes.unread(self._first[digest], digest, "cannot read it", data, counts)
        for digest, name in self._first.items():
            if digest not in self._records.manifests:
                size = self._sizes[digest]
                self._records.manifests[digest] = ManifestRecord(digest, "", "malformed", "", size, "", (), (), "")
                if size > MANIFEST_LIMIT:
                    counts.failed += 1
                    text = f"it has {size:,} bytes; at most {MANIFEST_LIMIT:,} are read"
                    self._notes.problem(name, digest, "malformed", text, incomplete=True)
        if todo:
            # What was read before comes before what has to be asked for: the rows are to be in one order.
            found = self._records.manifests
            self._records.manifests = {digest: found[digest] for digest in sorted(found)}
        return self._needs

    def blobs(self) -> None:
        """Record the blobs on disk, and those that are needed and are not there."""
        blobs, manifests, kinds = self._records.blobs, self._records.manifests, self._needs.kinds
        stored = {stored: kinds[alias] for alias, stored in self._records.aliases.items() if alias in kinds}
        for digest in sorted(self._sizes):
            record = manifests.get(digest)
            named = kinds.get(digest) or stored.get(digest, _ORPHAN)
            kind, media_type = named[:2] if record is None else ("manifest", record.media_type)
            # What is meant to be stored elsewhere, and lies here all the same, takes up space.
            blobs[digest] = BlobRecord(self._sizes[digest], media_type, "layer" if kind == "foreign layer" else kind)
        for digest, (kind, media_type, size) in kinds.items():
            if digest not in blobs and digest not in self._records.aliases and kind != "manifest":
                blobs[digest] = BlobRecord(size, media_type, kind if kind == "foreign layer" else "missing")

    def _manifest(self, name: str, digest: str, data: bytes) -> None:
        """Record a manifest from its bytes."""
        needs = self._needs
        try:
            verify(data, digest)
        except ContentError as error:
            self._notes.damage(name, digest, "mismatch", error.message, "push the image again")
        record, blobs, refused = describe(digest, "", data)
        self._records.manifests[digest] = record
        for descriptor in blobs:
            blob = descriptor.digest
            size = self._sizes.get(self._records.aliases.get(blob, blob))
            if size not in (None, descriptor.size):
                needs.sizes[digest, blob] = descriptor.size
            kind: BlobKind = "layer"
            if descriptor.foreign or blob == record.config:
                kind = "foreign layer" if descriptor.foreign else "config"
            named = (kind, descriptor.media_type, descriptor.size)
            known = needs.kinds.get(blob, named)
            if known[0] in PRECEDENCE:
                kind = min(known[0], kind, key=PRECEDENCE.index)
                named = (kind, min(known[1], descriptor.media_type), known[2])
            needs.kinds[blob] = named
        if refused is not None:
            try:
                record.config, record.layers, record.children = _references(data)
            except (ValueError, RecursionError):
                needs.fatal[digest] = refused.message, True
            else:
                self._notes.problem(name, digest, "malformed", refused.message)
        elif references(data) is None and (why := _unread(data)):
            needs.fatal[digest] = f"no garbage collection reads {why}", False
        if record.kind == "schema1":
            needs.schema1.append(digest)
        # What a schema 1 names, or what regnb refuses, has no size.
        for each in () if blobs else (record.config, *record.layers):
            if each:
                needs.kinds.setdefault(each, ("layer", "", 0))
        for child in record.children:
            needs.kinds.setdefault(child, ("manifest", "", 0))

    def configs(self) -> None:
        """Read each image's config for its platform, its age and the commands that made its layers."""
        images: dict[str, list[ManifestRecord]] = {}
        for record in self._records.manifests.values():
            if record.config_type in IMAGE_CONFIGS and record.config in self._sizes:
                images.setdefault(record.config, []).append(record)
        texts: dict[object, object] = {}

        def share(value: _Shared) -> _Shared:
            return cast("_Shared", texts.setdefault(value, value))  # equal values have one type

        counts = self._records.coverage.configs
        counts.listed = len(images)
        small = {blob_file(digest): digest for digest in images if self._sizes[digest] <= CONFIG_LIMIT}
        for digest in images:
            if self._sizes[digest] > CONFIG_LIMIT:
                counts.failed += 1
                self._notes.problem(
                    "", digest, "malformed", f"the config of an image has {self._sizes[digest]:,} bytes"
                )
        for path, data in self._files.read((path, self._sizes[digest]) for path, digest in small.items()):
            digest = small[path]
            if not isinstance(data, bytes):
                self._notes.unread("", digest, "cannot read the config of an image", data, counts)
                continue
            counts.read += 1
            try:
                verify(data, digest)
                config = decode_config(data)
            except ContentError as error:  # the sizes stay exact
                sort: ProblemKind = "mismatch" if isinstance(error, DigestMismatch) else "malformed"
                self._notes.problem("", digest, sort, f"the config of an image: {error.message}")
                if isinstance(error, DigestMismatch):
                    damaged = {record.digest for record in images[digest]}
                    self._records.damaged.update((name, digest) for name, one in self._records.links if one in damaged)
                continue
            for record in images[digest]:
                configure(record, config, self._records.started, share)
                self._records.differ(record)


class _Said(msgspec.Struct, rename="camel"):
    """What a manifest says of itself, by which a garbage collection knows how to read it."""

    schema_version: int = 0
    media_type: str | None = ""


def _is_collected(said: _Said) -> bool:
    """Whether a garbage collection reads such manifests: one that it does not read ends it."""
    known = not said.media_type or said.media_type in (INDEXES | MANIFESTS) - {OCI_ARTIFACT}
    return said.schema_version == 1 or (said.schema_version == 2 and known)  # noqa: PLR2004 -- schema 2


def _unread(data: bytes) -> str:
    """Say of what regnb accepts as a manifest why it ends a garbage collection; "" if that reads it."""
    said = msgspec.json.decode(spelled(data), type=_Said)
    if not _is_collected(said):
        return f"{said.media_type or 'a manifest'} of schema {said.schema_version}"
    why = misread(data, said.media_type or "") if said.schema_version != 1 else ""
    return f"it: {why}" if why else ""


def _references(data: bytes) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the config, the layers and the children that a garbage collection sees in what regnb does not accept.

    Raises:
        ValueError: It does not read that, either.
    """
    found = json.loads(spelled(data).decode("utf-8", "replace"))
    if not isinstance(found, dict) or not _is_collected(
        _Said(found.get("schemaVersion", 0), found.get("mediaType", ""))
    ):
        raise ValueError

    def digests(values: object, key: str = "digest") -> Iterable[str]:
        if not isinstance(values, list | None):
            raise ValueError  # noqa: TRY004 -- of the document, not of a call
        some = [value for value in values or () if value is not None]
        # Null is as good as absent; anything else of another type ends the collection.
        types = {key: str | None, "size": int | None}
        if not all(isinstance(value, dict) for value in some) or not all(
            isinstance(value.get(name), kind) for value in some for name, kind in types.items()
        ):
            raise ValueError
        return (value[key] for value in some if value.get(key))

    media_type = found.get("mediaType") or ""
    if found.get("schemaVersion") != 1 and misread(data, media_type):
        raise ValueError
    if media_type in INDEXES or (not media_type and is_index(data)):
        return "", (), tuple(digests(found.get("manifests")))
    layers = (*digests(found.get("layers")), *digests(found.get("fsLayers"), "blobSum"))
    return next(iter(digests([found.get("config")])), ""), layers, ()

"""Verified bytes become records, one object for each text; what manifests contradict each other in is noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar, cast

from regnb.crawl.records import (
    PRECEDENCE,
    BlobKind,
    BlobRecord,
    ManifestRecord,
    Problem,
    ProblemKind,
    Records,
    describe,
)
from regnb.errors import RegnbError
from regnb.oci.manifest import RawManifest, contradiction, is_foreign
from regnb.oci.reference import Digest

_T = TypeVar("_T")


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


class Part(NamedTuple):
    """What one of several recordings of a registry has.

    Attributes:
        records: Of some of its repositories.
        conflicts: As of :class:`Recording`.
        claims: (manifest, blob) to the size that is claimed, where it is another than the blob's record has.
    """

    records: Records
    conflicts: set[str]
    claims: Mapping[tuple[str, str], int]


def kind_of(media_type: str, *, is_config: bool) -> BlobKind:
    """Return what a blob is to the manifest that names it.

    Example:
        >>> kind_of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", is_config=False)
        'foreign layer'
    """
    return "foreign layer" if is_foreign(media_type) else "config" if is_config else "layer"


class Recording:
    """Writes what manifests say into records, whatever the order in which they are read.

    Args:
        records: Where it is written.

    Attributes:
        conflicts: Digests of blobs of which manifests tell different sizes.

    Example:
        >>> from datetime import UTC, datetime
        >>> Recording(Records("localhost:5000", datetime.now(UTC))).conflicts
        set()
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.conflicts: set[str] = set()
        self._claims: dict[tuple[str, str], int] = {}
        self._contradicted: set[str] = set()
        # One object for each text: a base layer's digest and command stand in thousands of manifests.
        self._texts: dict[str, str] = {}
        self._others: dict[object, object] = {}

    def text(self, text: _T) -> _T:
        """Return the one object that stands for this text, or for these texts."""
        # Equal ones have one type.
        if isinstance(text, str):
            return cast("_T", self._texts.setdefault(text, text))
        return cast("_T", self._others.setdefault(text, text))

    def each(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Return the one object of each of these texts."""
        return tuple(map(self._texts.setdefault, texts, texts)) if texts else texts

    def _all(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        known = self._others.get(texts)
        return self.text(self.each(texts)) if known is None else cast("tuple[str, ...]", known)

    def problem(
        self, repository: str, reference: str, problem: ProblemKind, error: RegnbError | str, *, incomplete: bool = True
    ) -> None:
        """Note what could not be read, or is not as it should be."""
        message, hint = (error, "") if isinstance(error, str) else (error.message, error.hint)
        self.records.problems.append(Problem(repository, reference, problem, message, hint, incomplete))

    def manifest(self, repository: str, raw: RawManifest) -> bool:
        """Record verified bytes; a malformed manifest is kept as one whose contents are unknown.

        Returns:
            Whether the record may be kept for later crawls.
        """
        digest = str(raw.digest)
        record, blobs, error = describe(raw.digest, raw.media_type, raw.data)
        if error is not None:
            self.problem(repository, digest, "malformed", error)
        if record.kind == "schema1":
            text = "an image of the withdrawn schema 1, whose layer sizes are not recorded"
            self.problem(repository, digest, "schema1", text)
            record.layers = ()
        self.enter(record, blobs)
        return error is None and record.kind != "schema1"

    def check_announced(self, repository: str, digest: str, announced: str, media_type: str) -> None:
        """Say so where a header calls a manifest something else than its bytes do: the bytes count."""
        if announced == media_type:
            return
        if (other := contradiction(announced, media_type)) and digest not in self._contradicted:
            self._contradicted.add(digest)
            self.problem(
                repository, digest, "media type",
                RegnbError(
                    f"the registry announces {other}, and the manifest is {media_type}",
                    hint="check the proxy or cache in front of the registry: clients believe the header",
                ),
                incomplete=False,
            )  # fmt: skip

    def enter(self, record: ManifestRecord, blobs: Sequence[Claim]) -> None:
        """Keep a record, with one object for each text, and what it says of blobs."""
        shared, digest = self._texts.setdefault, record.digest
        config = ""
        for blob in blobs:
            name = shared(blob.digest, blob.digest)
            if is_config := name == record.config:
                config = name
            self.claim(digest, name, blob.size, shared(blob.media_type, blob.media_type), is_config=is_config)
        record.config, record.layers = config, self.each(record.layers)
        record.config_type = shared(record.config_type, record.config_type)
        record.media_type = shared(record.media_type, record.media_type)
        record.platform = shared(record.platform, record.platform)
        record.findings = self.text(record.findings)
        record.layer_types, record.labels = self._all(record.layer_types), self._all(record.labels)
        record.children, record.commands = self.each(record.children), self.each(record.commands)
        if record.diff_ids:
            record.diff_ids = self.each(record.diff_ids)
            self.records.differ(record)
        self.keep((record,))

    def keep(self, records: Iterable[ManifestRecord]) -> None:
        """Keep records as they are."""
        manifests, blobs = self.records.manifests, self.records.blobs
        for record in records:
            manifests[record.digest] = record
            blobs[record.digest] = BlobRecord(record.manifest_size, record.media_type, "manifest")

    def claim(self, manifest: str, blob: str, size: int, media_type: str, *, is_config: bool) -> None:
        """Note what a manifest says of a blob."""
        kind = kind_of(media_type, is_config=is_config)
        there = self.records.blobs.get(blob)
        if there is None:
            self.records.blobs[blob] = BlobRecord(size, media_type, kind)
            return
        if there.kind != kind or there.media_type != media_type:
            self._also(there, kind, media_type)
        if there.size != size:
            self.conflicts.add(blob)
            self._claims[manifest, blob] = size

    def _also(self, known: BlobRecord, kind: BlobKind, media_type: str) -> None:
        """Note that manifests use a blob in another way, too: the order in which they are read must not matter."""
        if known.kind in PRECEDENCE:
            known.kind = min(known.kind, kind, key=PRECEDENCE.index)
            known.media_type = self.text(min(known.media_type, media_type))

    def part(self) -> Part:
        """Return what was recorded, to be absorbed by another recording, perhaps in another process."""
        return Part(self.records, self.conflicts, self._claims)

    def absorb(self, part: Part) -> None:
        """Record what another recording of the same registry has, of other repositories."""
        mine, theirs = self.records, part.records
        for digest, blob in theirs.blobs.items():
            known = mine.blobs.get(digest)
            if known is None:
                mine.blobs[self.text(digest)] = blob
                continue
            if blob.kind != "manifest":
                self._also(known, blob.kind, blob.media_type)
            elif known.kind != "manifest":
                known.kind, known.media_type = blob.kind, blob.media_type
            if known.size != blob.size:
                self.conflicts.add(digest)
        self.conflicts |= part.conflicts
        for digest, record in theirs.manifests.items():
            for named in self.conflicts & {record.config, *record.layers} if self.conflicts else ():
                size = part.claims.get((digest, named), theirs.blobs[named].size)
                if size != mine.blobs[named].size:
                    self._claims[digest, named] = size
            # Of two repositories with the same image one may lack its config.
            if digest not in mine.manifests or digest not in mine.configured:
                mine.manifests[self.text(digest)] = record
        mine.add(theirs)

    def claims(self) -> dict[str, tuple[str, dict[int, list[str]]]]:
        """Return of each blob in ``conflicts`` where to ask for it, and what sizes which manifests claim."""
        first = {digest: self.records.blobs[digest].size for digest in sorted(self.conflicts)}
        found: dict[str, dict[int, list[str]]] = {digest: {} for digest in first}
        for manifest, record in self.records.manifests.items() if first else ():
            for digest in first.keys() & {record.config, *record.layers}:
                size = self._claims.get((manifest, digest), first[digest])
                found[digest].setdefault(size, []).append(manifest)
        claiming = {digest: {one for some in sizes.values() for one in some} for digest, sizes in found.items()}
        where = {
            digest: min(repository for repository, one in self.records.links if one in some)
            for digest, some in claiming.items()
        }
        return {digest: (where[digest], sizes) for digest, sizes in found.items()}

    def settle(self, digest: str, claims: Mapping[int, Iterable[str]], size: int) -> None:
        """Note the true size of a blob, and the manifests that claim another one: they cannot be pulled."""
        self.records.blobs[digest].size = size
        wrong = {manifest: claim for claim, some in claims.items() if claim != size for manifest in some}
        for repository, manifest in sorted(link for link in self.records.links if link[1] in wrong):
            text = f"it says that {Digest(digest).short} has {wrong[manifest]:,} bytes, and the registry has {size:,}"
            self.records.damage(repository, manifest, "damaged", text, "push the image again")

"""Verified bytes become records, one object for each text; what manifests contradict each other in is noted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar, cast

from regnb.crawl.known import Claim
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
from regnb.oci.manifest import RawManifest, contradiction
from regnb.oci.reference import Digest

_T = TypeVar("_T")


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

    def _each(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(self._texts.setdefault, texts, texts)) if texts else texts

    def _all(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        known = self._others.get(texts)
        return self.text(self._each(texts)) if known is None else cast("tuple[str, ...]", known)

    def problem(
        self, repository: str, reference: str, problem: ProblemKind, error: RegnbError | str, *, incomplete: bool = True
    ) -> None:
        """Note what could not be read, or is not as it should be."""
        message, hint = (error, "") if isinstance(error, str) else (error.message, error.hint)
        self.records.problems.append(Problem(repository, reference, problem, message, hint, incomplete))

    def manifest(self, repository: str, raw: RawManifest) -> tuple[ManifestRecord, Sequence[Claim]] | None:
        """Record verified bytes; a malformed manifest is kept as one whose contents are unknown.

        Returns:
            The record and its blobs, as they may be kept for later crawls; None where they may not.
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
        return (record, blobs) if error is None and record.kind != "schema1" else None

    def check_announced(self, repository: str, digest: str, announced: str) -> None:
        """Say so where a header calls a manifest something else than its bytes do: the bytes count."""
        record = self.records.manifests.get(digest)
        if record is None or announced == record.media_type:
            return
        if (other := contradiction(announced, record.media_type)) and digest not in self._contradicted:
            self._contradicted.add(digest)
            self.problem(
                repository, digest, "media type",
                RegnbError(
                    f"the registry announces {other}, and the manifest is {record.media_type}",
                    hint="check the proxy or cache in front of the registry: clients believe the header",
                ),
                incomplete=False,
            )  # fmt: skip

    def enter(self, record: ManifestRecord, blobs: Sequence[Claim]) -> None:
        """Keep a record, with one object for each text."""
        shared, known, digest = self._texts.setdefault, self.records.blobs, record.digest
        config = ""
        for blob in blobs:
            name, size, media_type = shared(blob.digest, blob.digest), blob.size, blob.media_type
            kind: BlobKind = "layer"
            if name == record.config:
                kind, config = "config", name
            if blob.foreign:
                kind = "foreign layer"
            there = known.get(name)
            if there is None:
                known[name] = BlobRecord(size, shared(media_type, media_type), kind)
                continue
            if there.kind != kind or there.media_type != media_type:
                self._also(there, kind, media_type)
            if there.size != size:
                self.conflicts.add(name)
                self._claims[digest, name] = size
        record.config, record.layers = config, self._each(record.layers)
        record.config_type = shared(record.config_type, record.config_type)
        record.media_type = shared(record.media_type, record.media_type)
        record.platform = shared(record.platform, record.platform)
        record.findings = self.text(record.findings)
        record.layer_types, record.labels = self._all(record.layer_types), self._all(record.labels)
        record.children, record.commands = self._each(record.children), self._each(record.commands)
        if record.diff_ids:
            record.diff_ids = self._each(record.diff_ids)
            self.records.differ(record)
        self.records.manifests[digest] = record
        known[digest] = BlobRecord(record.manifest_size, record.media_type, "manifest")

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

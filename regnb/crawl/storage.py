"""A registry's storage becomes records."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from regnb.crawl.files import reason
from regnb.crawl.records import (
    BlobRecord,
    Counts,
    HistoryRecord,
    ManifestRecord,
    Problem,
    Records,
    TagRecord,
    UploadRecord,
    describe,
)
from regnb.crawl.walk import File, Files
from regnb.errors import ContentError, DigestMismatch, InvalidReference
from regnb.oci.age import plausible
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
from regnb.oci.reference import check_repository, check_tag, is_digest

_LINK_LIMIT: Final = 1024
"""Bytes of a link: what has more is none."""
BLOB_FILE: Final = re.compile(
    r"blobs/(?=sha256/../.{64}/|sha384/../.{96}/|sha512/../.{128}/)(sha\d+)/([0-9a-f]{2})/(\2[0-9a-f]+)/data"
)
_ORPHAN: Final = ("orphan", "", 0)
_CURRENT: Final = "current/link"


class _Repository:
    """What lies in a repository's folder.

    Attributes:
        seen: Whether there is a ``_layers``: else a garbage collection takes it for no repository.
        revisions: Digest by its path to the path of its link.
        strays: Links below ``revisions`` whose path is no digest's.
        tags: Tag to the path of its current link; "" if there is none; None where the folder for tags is missing.
        pushed: Tag to when its current link was written.
        history: Tag, digest, and when the link was written.
        walked: Digests of the manifests that a garbage collection visits.
    """

    def __init__(self) -> None:
        self.seen = False
        self.revisions: dict[str, str] = {}
        self.strays: list[str] = []
        self.tags: dict[str, str] = {}
        self.pushed: dict[str, float] = {}
        self.has_tags = False
        self.bad_tags: list[str] = []
        self.history: list[tuple[str, str, float]] = []
        self.walked: dict[str, None] = {}


class Reading:
    """One reading of a storage into records."""

    def __init__(self, records: Records, *, brief: bool) -> None:
        self.records = records
        self.brief = brief
        self.repositories: dict[str, _Repository] = {}
        self.sizes: dict[str, int] = {}
        self.uploads: dict[tuple[str, str], UploadRecord] = {}
        self.begun: dict[str, UploadRecord] = {}
        self.statuses: dict[str, str] = {}
        self.hidden: list[str] = []
        self.unknown: set[str] = set()
        self.large: set[str] = set()
        self.disk = {what: [0, 0] for what in ("blobs", "links", "uploads", "other")}

    def problem(
        self, repository: str, reference: str, problem: str, message: str, *, incomplete: bool = False, hint: str = ""
    ) -> None:
        """Record what could not be read, or is not as it should be."""
        # A file may have any name, and not every one is text.
        repository, reference = (text.encode("utf-8", "replace").decode() for text in (repository, reference))
        self.records.problems.append(Problem(repository, reference, problem, message, hint, incomplete))

    def unread(self, repository: str, reference: str, text: str, error: Exception, counts: Counts | None = None) -> str:
        """Note that something is there and cannot be read, and return what sort of problem that is."""
        sort = "denied" if isinstance(error, PermissionError) else "failed"
        hint = "read it as the registry's own user" if sort == "denied" else ""
        self.problem(repository, reference, sort, f"{text}: {reason(error)}", incomplete=True, hint=hint)
        if counts is not None:
            counts.denied += sort == "denied"
            counts.failed += sort == "failed"
        return sort

    def unlisted(self, path: str, error: Exception) -> None:
        """Note a folder that cannot be listed."""
        name = self.repository(path)[0] if path.startswith("repositories/") else ""
        sort = self.unread(name, path, "cannot list it", error)
        if _passes(check_repository, name):
            self.statuses[name] = sort
        elif not path.startswith("repositories/"):
            self.hidden.append(path)

    def is_hidden(self, digest: str) -> bool:
        """Whether a blob that was not found may be in a folder that could not be listed."""
        return any(f"{blob_file(digest)}/".startswith(f"{folder}/".lstrip("/")) for folder in self.hidden)

    def run(self, files: Files) -> None:
        """Read everything: the listing first, then links, manifests and configs."""
        self.files = files
        for file in files.walk(brief=self.brief):
            if file.path.endswith("/"):
                self.folder(file.path[:-1])
            else:
                what = self.disk[self.sort(file)]
                what[0] += 1
                what[1] += file.size
        if not self.brief:
            self.records.disk = {what: (files, size) for what, (files, size) in self.disk.items()}
        for name in [name for name, found in self.repositories.items() if not self._lawful(name, found)]:
            del self.repositories[name]
        self.links()
        for name, sort in self.statuses.items():
            self.records.repositories.setdefault(name, sort)
        self.manifests()
        # The file says when, wherever it was copied to since.
        for path, data in files.read((path, 64) for path in self.begun):
            with contextlib.suppress(ValueError):
                if isinstance(data, bytes):
                    self.begun[path].started = datetime.fromisoformat(data.decode("ascii").strip())
        self.records.uploads = sorted(self.uploads.values(), key=lambda one: (one.repository, one.upload))
        counts = self.records.coverage.repositories
        counts.listed, counts.failed, counts.denied = (
            len(self.records.repositories), *(list(self.statuses.values()).count(sort) for sort in ("failed", "denied"))
        )  # fmt: skip
        counts.read = counts.listed - counts.failed - counts.denied
        tags = self.records.coverage.tags
        tags.listed = len(self.records.tags)
        tags.read = tags.listed - tags.failed - tags.denied

    # Paths

    def repository(self, path: str) -> tuple[str, str]:
        """Return the repository that a path lies in, and the rest, which begins with an underscore."""
        name, mark, rest = path.removeprefix("repositories/").partition("/_")
        return name, f"_{rest}" if mark else ""

    def folder(self, path: str) -> None:
        """Note the folders whose being there matters though they may be empty."""
        if not path.startswith("repositories/"):
            return
        name, rest = self.repository(path)
        if rest == "_layers":
            self.repositories.setdefault(name, _Repository()).seen = True
        elif rest == "_manifests/tags":
            self.repositories.setdefault(name, _Repository()).has_tags = True
        elif rest.startswith("_manifests/tags/"):
            tag, _, inner = rest.removeprefix("_manifests/tags/").partition("/")
            tags = self.repositories.setdefault(name, _Repository()).tags
            # A folder where the link should be cannot be read, and that is found out by reading it.
            tags[tag] = path if inner == _CURRENT else tags.get(tag, "")

    def sort(self, file: File) -> str:
        """Take note of a file, and return what it counts as."""
        path = file.path
        if match := BLOB_FILE.fullmatch(path):
            self.sizes[f"{match[1]}:{match[3]}"] = file.size
            return "blobs"
        if file.size > _LINK_LIMIT and path.endswith("/link"):
            self.large.add(path)
        if path.startswith("blobs/"):
            if path.endswith("/data"):
                text = "a file named data where no blob can be: the registry's garbage collection stops here"
                self.problem("", path, "bad blob", text)
            return "other"
        if not path.startswith("repositories/"):
            return "other"
        name, rest = self.repository(path)
        parts = rest.split("/")
        if parts[0] not in ("_layers", "_manifests", "_uploads"):
            return "other"
        found = self.repositories.setdefault(name, _Repository())
        if parts[0] == "_uploads" and len(parts) > 2:  # noqa: PLR2004 -- below an upload's own folder
            self.upload(name, parts[1], parts[2:], file)
            return "uploads"
        if parts[0] == "_layers":
            found.seen = True
        elif parts[1:2] == ["tags"]:
            self.tag(found, parts[2:], file)
        elif parts[1:2] == ["revisions"] and parts[-1] == "link":
            digest = ":".join(parts[2:-1])
            if is_digest(digest):
                found.revisions[digest] = path
            else:
                found.strays.append(path)
        return "links" if parts[-1] == "link" else "other"

    def upload(self, name: str, upload: str, parts: Sequence[str], file: File) -> None:
        """Record a file of an upload that was not finished."""
        name, upload = (text.encode("utf-8", "replace").decode() for text in (name, upload))
        record = self.uploads.setdefault((name, upload), UploadRecord(name, upload, None, 0))
        record.size += file.size
        if list(parts) == ["startedat"]:
            record.started = _date(file.when)
            self.begun[file.path] = record

    def tag(self, found: _Repository, parts: Sequence[str], file: File) -> None:
        """Record a file below a repository's tags."""
        found.has_tags = True
        if len(parts) == 1:
            found.bad_tags.append(file.path)
            return
        found.tags.setdefault(parts[0], "")
        if list(parts[1:]) == ["current", "link"]:
            found.tags[parts[0]] = file.path
            found.pushed[parts[0]] = file.when
        elif parts[1] == "index" and parts[-1] == "link" and is_digest(digest := ":".join(parts[2:-1])):
            if _passes(check_tag, parts[0]):
                found.history.append((parts[0], digest, file.when))
        elif list(parts[1:]) == ["current"]:
            found.tags[parts[0]] = f"{file.path}/link"  # it cannot be read, and that is found out by reading it

    # Contents

    def _lawful(self, name: str, found: _Repository) -> bool:
        try:
            check_repository(name)
        except InvalidReference as error:
            if found.seen:
                self.problem(
                    name, "", "bad repository", f"{error.message}: the registry's garbage collection stops here"
                )
            return False
        return True

    def links(self) -> None:
        """Read the links of revisions and tags: they, and not their paths, say what is meant."""
        wanted = {
            path: name
            for name, found in self.repositories.items()
            for path in (*found.revisions.values(), *found.strays, *filter(None, found.tags.values()))
        }
        content: dict[str, str] = {}
        broken = dict.fromkeys(self.large, "the link does not hold a digest: it is too long")
        for path, data in self.files.read((path, _LINK_LIMIT) for path in wanted if path not in broken):
            if isinstance(data, bytes):
                digest = data.decode("ascii", "replace")
                if is_digest(digest):
                    content[path] = digest
                else:
                    broken[path] = f"the link does not hold a digest: {data[:80]!r}"
            elif isinstance(data, IsADirectoryError | NotADirectoryError):
                if path.endswith(_CURRENT):
                    broken[path] = f"the link is no file: {reason(data)}"
            elif not isinstance(data, FileNotFoundError):
                tags = self.records.coverage.tags if path.endswith(_CURRENT) else None
                self.statuses[wanted[path]] = self.unread(wanted[path], path, "cannot read it", data, tags)
                self.unknown.add(path)
        for name, found in sorted(self.repositories.items()):
            self.revisions(name, found, content, broken)
            self.tags(name, found, content, broken)

    def revisions(self, name: str, found: _Repository, content: Mapping[str, str], broken: Mapping[str, str]) -> None:
        """Read the links of a repository's manifests."""
        for digest, path in [*found.revisions.items(), *(("", path) for path in found.strays)]:
            if path in broken:
                self.problem(name, digest or path, "corrupt revision", broken[path])
            elif path in content:
                named = content[path]
                if named != digest:
                    self.problem(name, digest or path, "mismatch", f"the link names another manifest: {named}")
                if content.get(found.revisions.get(named, "")) == named and named in self.sizes:
                    found.walked[named] = None
                elif named == digest and not self.is_hidden(digest):
                    self.problem(name, digest, "missing", "the manifest's bytes are not on disk")
        if found.walked and not found.seen:
            text = (
                "has no folder _layers: a garbage collection does not see the repository, and removes what only it has"
            )
            self.problem(name, "", "no layers", text)
            found.walked.clear()
        for digest in sorted(found.walked):
            self.records.links[name, digest] = True

    def tags(self, name: str, found: _Repository, content: Mapping[str, str], broken: Mapping[str, str]) -> None:
        """Read the links of a repository's tags."""
        if found.walked and not found.has_tags:
            text = "has manifests and no folder for tags: distribution 2.8 cannot collect untagged manifests"
            self.problem(name, "", "no tags", text)
        for path in found.bad_tags if found.walked else ():
            self.problem(name, path, "corrupt tag", "a file where the folder of a tag should be")
        for tag, path in sorted(found.tags.items()):
            if not _passes(check_tag, tag):
                if found.walked:
                    self.problem(name, tag, "corrupt tag", "no tag can have this name")
                continue
            digest = content.get(path, "")
            if path in broken:
                self.problem(name, tag, "corrupt tag" if found.walked else "dangling", broken[path])
            elif (
                digest not in found.walked
                and self.unknown.isdisjoint({path, found.revisions.get(digest, "")})
                and not (digest and self.is_hidden(digest))
            ):
                text = f"its manifest is gone: {digest}" if digest else "it has no current link"
                self.problem(name, tag, "dangling", text)
            pushed = _date(found.pushed.get(tag, 0))
            if pushed and not plausible(pushed, self.records.started):
                pushed = None
            self.records.tags.append(TagRecord(name, tag, digest if digest in found.walked else "", pushed))
        for tag, digest, when in sorted(found.history):
            current = content.get(found.tags.get(tag, "")) == digest
            record = HistoryRecord(name, tag, digest, _date(when), current, digest in found.walked)
            self.records.history.append(record)
        status = "read" if found.tags else "empty"
        self.records.repositories[name] = self.statuses.get(name, status)

    def manifests(self) -> None:
        """Read every manifest once, and note every blob on disk."""
        first: dict[str, str] = {}
        for name, digest in self.records.links:
            first.setdefault(digest, name)
        tagged = {tag.digest for tag in self.records.tags}
        kinds: dict[str, tuple[str, str, int]] = {}
        counts = self.records.coverage.manifests
        counts.listed = len(first)
        small = {blob_file(digest): digest for digest in sorted(first) if self.sizes[digest] <= MANIFEST_LIMIT}
        for path, data in self.files.read((path, self.sizes[digest]) for path, digest in small.items()):
            digest = small[path]
            if isinstance(data, bytes):
                counts.read += 1
                self.manifest(first[digest], digest, data, kinds, tagged=digest in tagged)
            else:
                self.unread(first[digest], digest, "cannot read it", data, counts)
        for digest, name in first.items():
            if digest not in self.records.manifests:
                size = self.sizes[digest]
                self.records.manifests[digest] = ManifestRecord(digest, "", "malformed", "", size, "", (), (), "")
                if size > MANIFEST_LIMIT:
                    counts.failed += 1
                    text = f"it has {size:,} bytes; at most {MANIFEST_LIMIT:,} are read"
                    self.problem(name, digest, "malformed", text, incomplete=True)
        blobs, manifests = self.records.blobs, self.records.manifests
        for digest in sorted(self.sizes):
            record = manifests.get(digest)
            kind, media_type, _ = kinds.get(digest, _ORPHAN) if record is None else ("manifest", record.media_type, 0)
            # What is meant to be stored elsewhere, and lies here all the same, takes up space.
            blobs[digest] = BlobRecord(self.sizes[digest], media_type, "layer" if kind == "foreign layer" else kind)
        for digest, (kind, media_type, size) in kinds.items():
            if digest not in blobs and kind != "manifest":
                blobs[digest] = BlobRecord(size, media_type, kind if kind == "foreign layer" else "missing")
        self.missing(kinds)
        if not self.brief:
            self.configs()

    def manifest(
        self, name: str, digest: str, data: bytes, kinds: dict[str, tuple[str, str, int]], *, tagged: bool
    ) -> None:
        """Record a manifest from its bytes."""
        try:
            verify(data, digest)
        except ContentError as error:
            self.problem(name, digest, "mismatch", error.message, incomplete=True)
        record, blobs, refused = describe(digest, "", data)
        self.records.manifests[digest] = record
        for descriptor in blobs:
            blob = descriptor.digest
            if blob not in kinds:
                kind = "foreign layer" if descriptor.foreign else "config" if blob == record.config else "layer"
                kinds[blob] = (kind, descriptor.media_type, descriptor.size)
        fatal = "corrupt manifest" if tagged else "corrupt untagged manifest"
        if refused is not None:
            try:
                record.config, record.layers, record.children = _references(data)
            except (ValueError, RecursionError):
                self.problem(name, digest, fatal, refused.message, incomplete=True)
            else:
                self.problem(name, digest, "malformed", refused.message)
        elif not _is_collected(said := msgspec.json.decode(data, type=_Said)):
            text = f"no garbage collection reads {said.media_type or 'a manifest'} of schema {said.schema_version}"
            self.problem(name, digest, fatal, text)
        # What a schema 1 names, or what regnb refuses, has no size.
        for each in () if blobs else (record.config, *record.layers):
            if each and each not in kinds:
                kinds[each] = ("layer", "", 0)
        for child in record.children:
            kinds.setdefault(child, ("manifest", "", 0))

    def missing(self, kinds: Mapping[str, object]) -> None:
        """Name what manifests need and is not on disk."""
        lost = kinds.keys() - self.sizes.keys()
        needed: dict[str, str] = {}
        for name, digest in self.records.links if lost else ():
            record = self.records.manifests[digest]
            for blob in (record.config, *record.layers, *record.children):
                if blob in lost:
                    needed.setdefault(blob, name)
        for blob, name in needed.items():
            found = self.records.blobs.get(blob)
            if (found is None or found.kind == "missing") and not self.is_hidden(blob):
                self.problem(name, blob, "missing", "a manifest needs it, and it is not on disk")

    def configs(self) -> None:
        """Read each image's config for its platform, its age and the commands that made its layers."""
        images: dict[str, list[ManifestRecord]] = {}
        for record in self.records.manifests.values():
            blob = self.records.blobs.get(record.config)
            if blob is not None and blob.media_type in IMAGE_CONFIGS and record.config in self.sizes:
                images.setdefault(record.config, []).append(record)
        texts: dict[str, str] = {}
        counts = self.records.coverage.configs
        counts.listed = len(images)
        small = {blob_file(digest): digest for digest in images if self.sizes[digest] <= CONFIG_LIMIT}
        for digest in images:
            if self.sizes[digest] > CONFIG_LIMIT:
                counts.failed += 1
                self.problem("", digest, "malformed", f"the config of an image has {self.sizes[digest]:,} bytes")
        for path, data in self.files.read((path, self.sizes[digest]) for path, digest in small.items()):
            digest = small[path]
            if not isinstance(data, bytes):
                self.unread("", digest, "cannot read the config of an image", data, counts)
                continue
            counts.read += 1
            try:
                verify(data, digest)
                config = decode_config(data)
            except ContentError as error:  # the sizes stay exact
                sort = "mismatch" if isinstance(error, DigestMismatch) else "malformed"
                self.problem("", digest, sort, f"the config of an image: {error.message}")
                continue
            for record in images[digest]:
                record.platform = texts.setdefault(config.platform, config.platform)
                record.created = config.made(self.records.started)
                commands = config.commands(len(record.layers))
                record.commands = tuple(texts.setdefault(text, text) for text in commands)


def _passes(check: Callable[[str], str], text: str) -> bool:
    try:
        return bool(check(text))
    except InvalidReference:
        return False


def blob_file(digest: str) -> str:
    """Return the path of a blob's bytes below the storage's root."""
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text[:2]}/{text}/data"


def _date(when: float) -> datetime | None:
    return datetime.fromtimestamp(when, UTC) if when else None


class _Said(msgspec.Struct, rename="camel"):
    """What a manifest says of itself, by which a garbage collection knows how to read it."""

    schema_version: int = 0
    media_type: str | None = ""


def _is_collected(said: _Said) -> bool:
    """Whether a garbage collection reads such manifests: one that it does not read ends it."""
    known = not said.media_type or said.media_type in (INDEXES | MANIFESTS) - {OCI_ARTIFACT}
    return said.schema_version == 1 or (said.schema_version == 2 and known)  # noqa: PLR2004 -- schema 2


def _references(data: bytes) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the config, the layers and the children that a garbage collection sees in what regnb does not accept.

    Raises:
        ValueError: It does not read that, either.
    """
    found = json.loads(data.decode("utf-8", "replace"))
    if not isinstance(found, dict) or not _is_collected(
        _Said(found.get("schemaVersion", 0), found.get("mediaType", ""))
    ):
        raise ValueError

    def digests(values: object, key: str = "digest") -> Iterable[str]:
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(value.get("size", 0), int) for value in values if isinstance(value, dict)):
            raise ValueError
        return (str(value[key]) for value in values if isinstance(value, dict) and value.get(key))

    listing = "index" in str(found.get("mediaType")) or "list" in str(found.get("mediaType"))
    if listing or (not found.get("mediaType") and "manifests" in found and "layers" not in found):
        return "", (), tuple(digests(found.get("manifests")))
    layers = (*digests(found.get("layers")), *digests(found.get("fsLayers"), "blobSum"))
    return next(iter(digests(found.get("config"))), ""), layers, ()

"""A registry's storage, read without the registry: distribution's layout on a local disk or wherever fsspec reaches.

Links, manifests and image configs are read; of a layer only its size is looked at, and nothing is ever written.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import pandas as pd

from regnb.collect import (
    BlobRecord,
    Coverage,
    HistoryRecord,
    ManifestRecord,
    Problem,
    Records,
    TagRecord,
    UploadRecord,
    describe,
)
from regnb.errors import ContentError, InvalidArgument, InvalidReference, StorageError
from regnb.filesystem import opened, reason, shown
from regnb.frames import Frame, make
from regnb.inventory import Inventory
from regnb.layout import BASE
from regnb.model import CONFIG_LIMIT, IMAGE_CONFIGS, MANIFEST_LIMIT, OCI_ARTIFACT, decode_config, verify
from regnb.reference import Digest, check_repository, check_tag

if TYPE_CHECKING:
    import fsspec

_AT_ONCE: Final = 16
"""Listings at the same time."""
_CHUNK: Final = 2048
"""Small files that are asked for together."""
_SMALL: Final = 1 << 16
_BRIEF: Final = frozenset({"_layers", "_uploads"})
"""Folders that a garbage collection does not look into."""


class File(NamedTuple):
    """A file below ``docker/registry/v2``: its path from there, its bytes, and when it was written (seconds)."""

    path: str
    size: int
    when: float


class _Files(Protocol):
    """Where the files are."""

    def walk(self, *, brief: bool) -> Iterator[File]:
        """Yield every file, and every folder there is, with a path that ends in a slash.

        If it is to be brief: only what a garbage collection looks at, where a registry puts it. A link may then not
        be there.
        """

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield the bytes of small files, or why they cannot be read."""


class _Local:
    """A local folder, without what a general library costs for each file."""

    def __init__(self, base: str, problems: list[Problem]) -> None:
        self._base = base
        self._problems = problems

    def walk(self, *, brief: bool) -> Iterator[File]:
        pending = ["blobs", "repositories"] if brief else [""]
        linked: set[str] = set()
        while pending:
            folder = pending.pop()
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if not entry.is_dir():
                    about = entry.stat()
                    yield File(path, about.st_size, about.st_mtime)
                    continue
                # A link to a folder elsewhere is how a disk is made larger; one that leads back is not.
                if entry.is_symlink():
                    real = os.path.realpath(entry.path)
                    if real in linked or f"{self._base}/".startswith(f"{real}/"):
                        continue
                    linked.add(real)
                yield File(f"{path}/", 0, 0)
                if not brief:
                    pending.append(path)
                elif folder.startswith("blobs/") and folder.count("/") == 2:  # noqa: PLR2004 -- blobs/sha256/<2 hex>
                    with contextlib.suppress(FileNotFoundError):
                        yield File(f"{path}/data", os.stat(f"{entry.path}/data").st_size, 0)  # noqa: PTH116 -- ten thousands
                elif folder.endswith("/_manifests/tags"):
                    yield File(f"{path}/current/link", 0, 0)
                elif "/_manifests/revisions/" in folder:
                    yield File(f"{path}/link", 0, 0)
                elif entry.name not in _BRIEF:
                    pending.append(path)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self._base}/{folder}") as entries:
                return list(entries)
        except FileNotFoundError:
            return []  # it went while the others were read
        except OSError as error:
            self._problem(folder, error)
            return []

    def _problem(self, folder: str, error: OSError) -> None:
        name = folder.removeprefix("repositories/").partition("/_")[0] if folder.startswith("repositories/") else ""
        sort = "denied" if isinstance(error, PermissionError) else "failed"
        self._problems.append(
            Problem(name, folder, sort, f"cannot list {folder}: {reason(error)}", "read it as the registry's own user")
        )

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes | Exception]]:
        for path in paths:
            try:
                handle = os.open(f"{self._base}/{path}", os.O_RDONLY)
                try:
                    data = os.read(handle, _SMALL)
                    yield path, data if len(data) < _SMALL else data + os.read(handle, CONFIG_LIMIT)
                finally:
                    os.close(handle)
            except OSError as error:
                yield path, error


class _Remote:
    """Any file system of fsspec: listings in pages and some at a time, small files many at a time."""

    def __init__(self, fs: fsspec.AbstractFileSystem, base: str) -> None:
        self._fs = fs
        self._base = base.rstrip("/")

    def walk(self, *, brief: bool) -> Iterator[File]:  # noqa: ARG002 -- pages hold what lies there
        tops = [path for part in ("blobs/sha256", "repositories") for path in self._folders(f"{self._base}/{part}")]
        rest = [path for path in self._folders(f"{self._base}/blobs") if not path.endswith("/sha256")]
        flat = [info for folder in ("", "/blobs", "/blobs/sha256", "/repositories") for info in self._list(folder)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for found in pool.map(lambda top: self._fs.find(top, detail=True), [*tops, *rest]):
                yield from map(self._file, found.values())
        yield from (self._file(info) for info in flat if info["type"] == "file")

    def _list(self, folder: str) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            return list(self._fs.ls(f"{self._base}{folder}", detail=True))
        return []

    def _folders(self, path: str) -> list[str]:
        found = self._list(path.removeprefix(self._base))
        return [info["name"].rstrip("/") for info in found if info["type"] == "directory"]

    def _file(self, info: Mapping[str, Any]) -> File:
        when = next((info[key] for key in ("LastModified", "mtime", "created", "last_modified") if info.get(key)), 0)
        seconds = when.timestamp() if isinstance(when, datetime) else float(when)
        return File(str(info["name"]).removeprefix(f"{self._base}/"), int(info["size"] or 0), seconds)

    def read(self, paths: Sequence[str]) -> Iterator[tuple[str, bytes | Exception]]:
        for start in range(0, len(paths), _CHUNK):
            some = {f"{self._base}/{path}": path for path in paths[start : start + _CHUNK]}
            found = self._fs.cat(list(some), on_error="return")
            yield from ((some[name], data) for name, data in found.items())


class Storage:
    """A registry's storage.

    Made by :func:`open_storage`.

    Attributes:
        url: As it was given, without credentials.

    Example:
        >>> open_storage("/var/lib/registry").inventory().breakdown  # doctest: +SKIP
    """

    def __init__(self, url: str | Path, options: Mapping[str, Any]) -> None:
        self._url, self._options = url, dict(options)
        self.url = shown(url)
        with self._opened([]):
            pass

    def __repr__(self) -> str:
        return f"<Storage {self.url}>"

    @contextlib.contextmanager
    def _opened(self, problems: list[Problem]) -> Iterator[_Files]:
        """Find ``docker/registry/v2`` there.

        Raises:
            StorageError: It is not there, or cannot be read.
        """
        with opened(self._url, "read", **self._options) as (fs, path):
            root = path.rstrip("/")
            fs.invalidate_cache()
            for base in (f"{root}/{BASE}", root if root.endswith(f"/{BASE}") else ""):
                if base and fs.isdir(base):
                    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
                    yield _Local(base, problems) if local else _Remote(fs, base)
                    return
            inside = {str(info["name"]).rstrip("/").rpartition("/")[2] for info in fs.ls(root or path, detail=True)}
            raise StorageError(
                f"not a registry's storage: {self.url} {_instead(inside)}", hint=f"name the folder that holds {BASE}"
            )

    def inventory(self, *, brief: bool = False) -> Inventory:
        """Read the storage, and return it as the same DataFrames as a registry's, complete by construction.

        Beyond these there are manifests that no tag leads to, blobs that no manifest needs (kind ``orphan``),
        ``history``, ``uploads`` and ``disk``. What is corrupt or missing is in ``problems``.

        Args:
            brief: Whether to leave out what a garbage collection does not look at: configs, uploads, and the files
                that ``disk`` counts.

        Raises:
            StorageError: It cannot be read at all.

        Example:
            >>> open_storage("s3://registry").inventory().problems  # doctest: +SKIP
        """
        started = datetime.now(UTC)
        problems: list[Problem] = []
        with self._opened(problems) as files:
            reading = _Reading(files, Records(self.url, started, source="storage", problems=problems), brief=brief)
            reading.run()
        reading.records.finished = datetime.now(UTC)
        return Inventory.of(reading.records)


def open_storage(url: str | Path, **options: Any) -> Storage:  # noqa: ANN401 -- fsspec's
    """Open a registry's storage: the folder or bucket that holds ``docker/registry/v2``.

    Args:
        url: A local path, or a URL that fsspec knows, such as ``s3://bucket/prefix`` (extra ``s3``; credentials and
            endpoint come from the environment, as for any S3 client).
        options: For the file system, as fsspec takes them (``endpoint_url=…``).

    Raises:
        StorageError: It is no registry's storage, or cannot be read.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> storage = open_storage("/var/lib/registry")  # doctest: +SKIP
    """
    return Storage(url, options)


def _instead(inside: set[str]) -> str:
    if "oci-layout" in inside:
        return "is an OCI image layout"
    return f"holds {', '.join(sorted(inside)[:5])}" if inside else "is empty"


class _Repository:
    """What lies in a repository's folder.

    Attributes:
        seen: Whether there is a ``_layers``: else a garbage collection takes it for no repository.
        revisions: Digest by its path to the path of its link.
        strays: Links below ``revisions`` whose path is no digest's.
        tags: Tag to the path of its current link; "" if there is none; None where the folder for tags is missing.
        history: Tag, digest, and when the link was written.
        walked: Digests of the manifests that a garbage collection visits.
    """

    def __init__(self) -> None:
        self.seen = False
        self.revisions: dict[str, str] = {}
        self.strays: list[str] = []
        self.tags: dict[str, str] = {}
        self.has_tags = False
        self.bad_tags: list[str] = []
        self.history: list[tuple[str, str, float]] = []
        self.walked: dict[str, None] = {}


class _Reading:
    """One reading of a storage into records."""

    def __init__(self, files: _Files, records: Records, *, brief: bool) -> None:
        self.files = files
        self.records = records
        self.brief = brief
        self.repositories: dict[str, _Repository] = {}
        self.sizes: dict[str, int] = {}
        self.uploads: dict[tuple[str, str], UploadRecord] = {}
        self.disk = {what: [0, 0] for what in ("blobs", "links", "uploads", "other")}

    def problem(self, repository: str, reference: str, problem: str, message: str, *, incomplete: bool = False) -> None:
        self.records.problems.append(Problem(repository, reference, problem, message, incomplete=incomplete))

    def run(self) -> None:
        for file in self.files.walk(brief=self.brief):
            if file.path.endswith("/"):
                self.folder(file.path[:-1])
            else:
                what = self.sort(file)
                self.disk[what][0] += 1
                self.disk[what][1] += file.size
        if not self.brief:
            self.records.disk = {what: (files, size) for what, (files, size) in self.disk.items()}
        for name in [name for name, found in self.repositories.items() if not self._lawful(name, found)]:
            del self.repositories[name]
        self.links()
        self.manifests()
        self.records.uploads = sorted(self.uploads.values(), key=lambda one: (one.repository, one.upload))
        self.records.coverage = self.coverage()

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
        elif rest.startswith("_manifests/tags/") and rest.count("/") == 2:  # noqa: PLR2004 -- the tag's own folder
            self.repositories.setdefault(name, _Repository()).tags.setdefault(rest.rpartition("/")[2], "")

    def sort(self, file: File) -> str:
        """Take note of a file, and return what it counts as."""
        path = file.path
        top, _, inner = path.partition("/")
        if top == "blobs":
            return self.blob(file, inner.split("/"))
        if top != "repositories":
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
            if len(parts) == 5 and _is_digest(digest):  # noqa: PLR2004 -- _manifests/revisions/sha256/<hex>/link
                found.revisions[digest] = path
            else:
                found.strays.append(path)
        return "links" if parts[-1] == "link" else "other"

    def blob(self, file: File, parts: Sequence[str]) -> str:
        """Note a blob's bytes: ``<algorithm>/<2 hex>/<hex>/data``."""
        if parts[-1] != "data":
            return "other"
        digest = f"{parts[0]}:{parts[2]}" if len(parts) == 4 else ""  # noqa: PLR2004 -- see above
        if not _is_digest(digest) or parts[2][:2] != parts[1]:
            text = "a file named data where no blob can be: the registry's garbage collection stops here"
            self.problem("", file.path, "bad blob", text)
            return "other"
        self.sizes[digest] = file.size
        return "blobs"

    def upload(self, name: str, upload: str, parts: Sequence[str], file: File) -> None:
        record = self.uploads.setdefault((name, upload), UploadRecord(name, upload, None, 0))
        record.size += file.size
        if list(parts) == ["startedat"]:
            record.started = _date(file.when)

    def tag(self, found: _Repository, parts: Sequence[str], file: File) -> None:
        found.has_tags = True
        if len(parts) == 1:
            found.bad_tags.append(file.path)
            return
        found.tags.setdefault(parts[0], "")
        if list(parts[1:]) == ["current", "link"]:
            found.tags[parts[0]] = file.path
        elif parts[1] == "index" and parts[-1] == "link" and _is_digest(digest := ":".join(parts[2:-1])):
            found.history.append((parts[0], digest, file.when))
        elif list(parts[1:]) == ["current"]:
            found.bad_tags.append(file.path)

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
        broken: dict[str, str] = {}
        for path, data in self.files.read(list(wanted)):
            if isinstance(data, FileNotFoundError):
                continue
            if isinstance(data, NotADirectoryError | IsADirectoryError):
                broken[path] = "there is no link"
            elif isinstance(data, Exception):
                denied = "denied" if isinstance(data, PermissionError) else "failed"
                self.problem(wanted[path], path, denied, f"cannot read {path}: {reason(data)}", incomplete=True)
            elif _is_digest(digest := data.decode("ascii", "replace")):
                content[path] = digest
            else:
                broken[path] = f"the link does not hold a digest: {data[:80]!r}"
        for name, found in sorted(self.repositories.items()):
            self.revisions(name, found, content, broken)
            self.tags(name, found, content, broken)

    def revisions(self, name: str, found: _Repository, content: Mapping[str, str], broken: Mapping[str, str]) -> None:
        for digest, path in [*found.revisions.items(), *(("", path) for path in found.strays)]:
            if path in broken:
                self.problem(name, digest or path, "corrupt revision", broken[path])
            elif path in content:
                named = content[path]
                if named != digest:
                    self.problem(name, digest or path, "mismatch", f"the link names another manifest: {named}")
                if content.get(found.revisions.get(named, "")) == named and named in self.sizes:
                    found.walked[named] = None
                elif named == digest:
                    self.problem(name, digest, "missing", "the manifest's bytes are not on disk")
        if found.walked and not found.seen:
            text = (
                "has no folder _layers: a garbage collection does not see the repository, and removes what only it has"
            )
            self.problem(name, "", "no layers", text)
            found.walked.clear()
        for digest in found.walked:
            self.records.links[name, digest] = True

    def tags(self, name: str, found: _Repository, content: Mapping[str, str], broken: Mapping[str, str]) -> None:
        if found.walked and not found.has_tags:
            text = "has manifests and no folder for tags: distribution 2.8 cannot collect untagged manifests"
            self.problem(name, "", "no tags", text)
        for path in found.bad_tags if found.walked else ():
            self.problem(name, path, "corrupt tag", "a file where the folder of a tag should be")
        for tag, path in sorted(found.tags.items()):
            if not _is_tag(tag):
                if found.walked:
                    self.problem(name, tag, "corrupt tag", "no tag can have this name")
                continue
            digest = content.get(path, "")
            if path in broken:
                self.problem(name, tag, "corrupt tag" if found.walked else "dangling", broken[path])
            elif digest not in found.walked:
                text = f"its manifest is gone: {digest}" if digest else "it has no current link"
                self.problem(name, tag, "dangling", text)
            self.records.tags.append(TagRecord(name, tag, digest if digest in found.walked else ""))
        for tag, digest, when in sorted(found.history):
            current = content.get(found.tags.get(tag, "")) == digest
            record = HistoryRecord(name, tag, digest, _date(when), current, digest in found.walked)
            self.records.history.append(record)
        status = "read" if found.tags else "empty"
        denied = any(each.repository == name and each.problem == "denied" for each in self.records.problems)
        self.records.repositories[name] = "denied" if denied else status

    def manifests(self) -> None:
        """Read every manifest once, and note every blob on disk."""
        first: dict[str, str] = {}
        for name, digest in self.records.links:
            first.setdefault(digest, name)
        tagged = {tag.digest for tag in self.records.tags}
        kinds: dict[str, tuple[str, str, int]] = {}
        for path, data in self.files.read([_blob(digest) for digest in first if self.sizes[digest] <= MANIFEST_LIMIT]):
            digest = "{0}:{2}".format(*path.split("/")[1:])
            if isinstance(data, Exception):
                self.problem(first[digest], digest, "failed", f"cannot read it: {reason(data)}", incomplete=True)
                continue
            self.manifest(first[digest], digest, data, kinds, tagged=digest in tagged)
        for digest, name in first.items():
            if digest not in self.records.manifests:
                record = ManifestRecord(digest, "", "malformed", "", self.sizes[digest], "", (), (), "")
                self.records.manifests[digest] = record
                if self.sizes[digest] > MANIFEST_LIMIT:
                    text = f"it has {self.sizes[digest]:,} bytes; at most {MANIFEST_LIMIT:,} are read"
                    self.problem(name, digest, "malformed", text, incomplete=True)
        blobs = self.records.blobs
        for digest, size in self.sizes.items():
            kind, media_type, _ = kinds.get(digest, ("orphan", "", 0))
            if digest in self.records.manifests:
                kind, media_type = "manifest", self.records.manifests[digest].media_type
            blobs[digest] = BlobRecord(size, media_type, kind)
        for digest, (kind, media_type, size) in kinds.items():
            if digest not in blobs and kind != "manifest":
                blobs[digest] = BlobRecord(size, media_type, kind if kind == "foreign layer" else "missing")
        self.missing(kinds)
        if not self.brief:
            self.configs()

    def manifest(
        self, name: str, digest: str, data: bytes, kinds: dict[str, tuple[str, str, int]], *, tagged: bool
    ) -> None:
        try:
            verify(data, digest)
        except ContentError as error:
            self.problem(name, digest, "mismatch", error.message, incomplete=True)
        record, blobs, refused = describe(digest, "", data)
        self.records.manifests[digest] = record
        for descriptor in blobs:
            kind = (
                "foreign layer" if descriptor.foreign else "config" if descriptor.digest == record.config else "layer"
            )
            kinds.setdefault(descriptor.digest, (kind, descriptor.media_type, descriptor.size))
        if refused is not None:
            try:
                record.config, record.layers, record.children = _references(data)
            except (ValueError, RecursionError):
                fatal = "corrupt manifest" if tagged else "corrupt untagged manifest"
                self.problem(name, digest, fatal, refused.message, incomplete=True)
            else:
                self.problem(name, digest, "malformed", refused.message)
        elif record.media_type == OCI_ARTIFACT:
            fatal = "corrupt manifest" if tagged else "corrupt untagged manifest"
            self.problem(name, digest, fatal, "the withdrawn OCI artifact manifest, which no garbage collection reads")
        for each in (record.config, *record.layers):
            if each and each not in kinds:
                kinds[each] = ("layer", "", 0)
        for child in record.children:
            kinds.setdefault(child, ("manifest", "", 0))

    def missing(self, kinds: Mapping[str, object]) -> None:
        """Name what manifests need and is not on disk."""
        needed: dict[str, str] = {}
        for name, digest in self.records.links:
            record = self.records.manifests[digest]
            for blob in (record.config, *record.layers, *record.children):
                if blob in kinds and blob not in self.sizes:
                    needed.setdefault(blob, name)
        for blob, name in needed.items():
            found = self.records.blobs.get(blob)
            if found is None or found.kind == "missing":
                self.problem(name, blob, "missing", "a manifest needs it, and it is not on disk")

    def configs(self) -> None:
        """Read each image's config for its platform, its age and the commands that made its layers."""
        images: dict[str, list[ManifestRecord]] = {}
        for record in self.records.manifests.values():
            blob = self.records.blobs.get(record.config)
            if blob is not None and blob.media_type in IMAGE_CONFIGS and record.config in self.sizes:
                images.setdefault(record.config, []).append(record)
        texts: dict[str, str] = {}
        wanted = [_blob(digest) for digest in images if self.sizes[digest] <= CONFIG_LIMIT]
        for path, data in self.files.read(wanted):
            digest = "{0}:{2}".format(*path.split("/")[1:])
            try:
                if isinstance(data, Exception):
                    raise data
                verify(data, digest)
                config = decode_config(data)
            except Exception as error:  # noqa: BLE001 -- each file system has errors of its own; the sizes stay exact
                sort = "malformed" if isinstance(error, ContentError) else "failed"
                self.problem("", digest, sort, f"the config of an image: {reason(error)}")
                continue
            for record in images[digest]:
                record.platform = texts.setdefault(config.platform, config.platform)
                record.created = config.created or ""
                commands = config.commands(len(record.layers))
                record.commands = tuple(texts.setdefault(text, text) for text in commands)

    def coverage(self) -> Coverage:
        found = Coverage()
        counts = found.repositories, found.tags, found.manifests
        for what, listed in zip(
            counts, (self.records.repositories, self.records.tags, self.records.manifests), strict=True
        ):
            what.listed = what.read = len(listed)
        for problem in self.records.problems:
            if problem.problem in ("denied", "failed"):
                what = found.repositories if problem.repository else found.manifests
                what.denied += problem.problem == "denied"
                what.failed += problem.problem == "failed"
        return found


def _is_digest(text: str) -> bool:
    try:
        return bool(Digest(text))
    except InvalidReference:
        return False


def _is_tag(text: str) -> bool:
    try:
        return bool(check_tag(text))
    except InvalidReference:
        return False


def _blob(digest: str) -> str:
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text[:2]}/{text}/data"


def _date(when: float) -> datetime | None:
    return datetime.fromtimestamp(when, UTC) if when else None


def _references(data: bytes) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the config, the layers and the children that a garbage collection sees in what regnb does not accept.

    Raises:
        ValueError: It does not read that, either.
    """
    found = json.loads(data.decode("utf-8", "replace"))
    if not isinstance(found, dict) or found.get("schemaVersion") not in (1, 2):
        raise ValueError

    def digests(values: object, key: str = "digest") -> Iterable[str]:
        values = values if isinstance(values, list) else [values]
        return (str(value[key]) for value in values if isinstance(value, dict) and value.get(key))

    listing = "index" in str(found.get("mediaType")) or "list" in str(found.get("mediaType"))
    if listing or (not found.get("mediaType") and "manifests" in found and "layers" not in found):
        return "", (), tuple(digests(found.get("manifests")))
    layers = (*digests(found.get("layers")), *digests(found.get("fsLayers"), "blobSum"))
    return next(iter(digests(found.get("config"))), ""), layers, ()


def reconcile(inventory: Inventory, storage: Storage | Inventory) -> Frame:
    """Explain the difference between what a registry's API shows and what its disk holds.

    Args:
        inventory: From the API.
        storage: Of the same registry.

    Returns:
        Columns: cause, blobs, size (bytes), total, message. The first row is what the API shows, the last what is on
        disk; the rows between add up to the difference.

    Raises:
        InvalidArgument: The first is not from the API, or the second not from a storage.
        StorageError: The storage cannot be read.

    Example:
        >>> reconcile(registry.inventory(), open_storage("/var/lib/registry"))  # doctest: +SKIP
    """
    disk = storage.inventory() if isinstance(storage, Storage) else storage
    if (inventory.source, disk.source) != ("api", "storage"):
        raise InvalidArgument(
            "one inventory of a registry's API and one of its storage are needed",
            hint="reconcile(regnb.connect(URL).inventory(), regnb.open_storage(DIR))",
        )
    graph = disk.graph
    api = inventory.graph
    both = pd.DataFrame({"digest": graph.digests, "disk": graph.sizes, "on_disk": ~graph.absent}).merge(
        pd.DataFrame({"digest": api.digests, "api": api.sizes, "shown": ~api.absent}), on="digest", how="outer"
    )
    known = {digest: number for number, digest in enumerate(graph.digests)}
    at = both["digest"].map(known).fillna(-1).astype(int).to_numpy()
    on_disk, shown_ = (both[name].eq(True).to_numpy() for name in ("on_disk", "shown"))  # noqa: FBT003 -- not missing
    sizes = both["disk"].fillna(0).to_numpy(np.int64), both["api"].fillna(0).to_numpy(np.int64)
    unread = np.zeros(len(graph.digests) + 1, dtype=bool)
    unread[graph.behind.of(_unread(inventory, disk))[1]] = True
    led, needed = (np.append(counts > 0, False) for counts in (graph.leading, graph.needed("all")))
    lost, extra = shown_ & ~on_disk, on_disk & ~shown_
    lacking = np.append(graph.absent, False)[at]
    differs = on_disk & shown_ & (sizes[0] != sizes[1])
    causes = (
        ("not on disk", lost & lacking, "the API shows them, and their bytes are gone: pulling fails"),
        ("gone since", lost & ~lacking, "behind what was moved or deleted between the two readings"),
        ("size", differs, "the manifest or the API says another size than the file has"),
        ("not read", extra & unread[at], "behind tags that the API could not read"),
        ("new since", extra & led[at] & ~unread[at], "behind what was pushed between the two readings"),
        ("untagged", extra & needed[at] & ~led[at] & ~unread[at], "only manifests without a tag need them"),
        (
            "orphans",
            extra & ~needed[at] & ~unread[at],
            "no manifest needs them: the next collection takes them",
        ),
    )
    rows: list[tuple[str, int, int, bool, str]] = [
        ("API", int(shown_.sum()), sum(sizes[1][shown_].tolist()), True, "what the API shows, each blob once")
    ]
    for cause, mask, message in causes:
        size = sum((sizes[0] * on_disk - sizes[1] * shown_)[mask].tolist())
        first = f", such as {both['digest'][mask].iloc[0]}" if mask.any() else ""
        rows.append((cause, int(mask.sum()), size, False, message + first))
    files = dict(zip(disk.disk["what"], disk.disk["size"].tolist(), strict=True))
    texts = {
        "uploads": "begun and not finished; no garbage collection takes them",
        "links": "small files that say which repository and tag has what",
        "other": "other files",
    }
    rows += [(what, 0, files.get(what, 0), False, text) for what, text in texts.items()]
    rows.append(("disk", int(on_disk.sum()), sum(row[2] for row in rows), True, "what is on disk"))
    return make(
        "reconciled", dict(zip(("cause", "blobs", "size", "total", "message"), zip(*rows, strict=True), strict=True))
    )


def _unread(inventory: Inventory, disk: Inventory) -> Any:  # noqa: ANN401 -- rows
    """Return the rows of the storage whose tags the API lists and could not read, wholly or at all."""
    failed = inventory.repositories["repository"][~inventory.repositories["status"].isin(["read", "empty"])]
    tags = inventory.tags[["repository", "tag", "complete"]]
    found = disk.tags[["repository", "tag"]].merge(tags, on=["repository", "tag"], how="left")
    unread = found["complete"].eq(False) | found["repository"].isin(failed)  # noqa: FBT003 -- not missing
    rows = disk.graph.tags[unread.to_numpy()]
    return rows[rows >= 0]

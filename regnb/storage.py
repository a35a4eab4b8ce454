"""A registry's storage, read without the registry: distribution's layout on a local disk or wherever fsspec reaches.

Links, manifests and image configs are read; of a layer only its size is looked at, and nothing is ever written.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import pandas as pd

from regnb.collect import (
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
from regnb.errors import ContentError, DigestMismatch, InvalidArgument, InvalidReference, StorageError
from regnb.filesystem import opened, reason, shown
from regnb.frames import Frame, of_rows
from regnb.inventory import Inventory
from regnb.layout import BASE
from regnb.model import (
    CONFIG_LIMIT,
    IMAGE_CONFIGS,
    INDEXES,
    MANIFEST_LIMIT,
    MANIFESTS,
    OCI_ARTIFACT,
    decode_config,
    verify,
)
from regnb.reference import check_repository, check_tag, is_digest

if TYPE_CHECKING:
    import fsspec

    from regnb.graph import Ints

_AT_ONCE: Final = 32
"""Listings at the same time."""
_PARTS: Final = 64
"""Folders to list, each with everything below it, before they are divided no further."""
_CHUNK: Final = 2048
"""Small files that are asked for together."""
_CHUNK_SIZE: Final = 1 << 26
"""Bytes that are asked for together."""
_LINK_LIMIT: Final = 1024
"""Bytes of a link: what has more is none."""
_BLOB: Final = re.compile(
    r"blobs/(?=sha256/../.{64}/|sha384/../.{96}/|sha512/../.{128}/)(sha\d+)/([0-9a-f]{2})/(\2[0-9a-f]+)/data"
)
_ORPHAN: Final = ("orphan", "", 0)
_CURRENT: Final = "current/link"
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

    def read(self, files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield the bytes of small files, each given as its path and its size, or why they cannot be read."""


class _Local:
    """A local folder, without what a general library costs for each file."""

    def __init__(self, base: str, failed: Callable[[str, Exception], None]) -> None:
        self._base = base
        self._real = os.path.realpath(base)
        self._failed = failed

    def walk(self, *, brief: bool) -> Iterator[File]:
        pending = ["blobs", "repositories"] if brief else [""]
        linked: set[str] = set()
        while pending:
            folder = pending.pop()
            leaf = self._leaf(folder) if brief else None
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if not entry.is_dir():
                        about = entry.stat()
                        yield File(path, about.st_size, about.st_mtime)
                    elif leaf == "data":
                        yield File(f"{path}/data", os.stat(f"{entry.path}/data").st_size, 0)  # noqa: PTH116 -- ten thousands
                    elif leaf:
                        yield File(f"{path}/{leaf}", 0, 0)
                    elif not entry.is_symlink() or self._leads_out(entry.path, linked):
                        yield File(f"{path}/", 0, 0)
                        if not (brief and entry.name in _BRIEF):
                            pending.append(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # it went while the others were read, or is a link to nothing
                except OSError as error:
                    self._failed(path, error)

    @staticmethod
    def _leaf(folder: str) -> str | None:
        """Return the one file that matters in each folder of this folder, where that is known."""
        if folder.startswith("blobs/"):
            return "data" if folder.count("/") == 2 else None  # noqa: PLR2004 -- blobs/sha256/<2 hex>
        if folder.endswith("/_manifests/tags"):
            return "current/link"
        return "link" if "/_manifests/revisions/" in folder else None

    def _leads_out(self, path: str, linked: set[str]) -> bool:
        """Whether a link to a folder leads where nothing was read: so a disk is made larger, and a loop is not."""
        real = f"{os.path.realpath(path)}/"
        known = real in linked or real.startswith(f"{self._real}/") or f"{self._real}/".startswith(real)
        linked.add(real)
        return not known

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self._base}/{folder}") as entries:
                return list(entries)
        except FileNotFoundError:
            return []  # it went while the others were read
        except OSError as error:
            self._failed(folder, error)
            return []

    def read(self, files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | Exception]]:
        for path, size in files:
            try:
                # What is no file, such as a pipe, does not keep this waiting.
                handle = os.open(f"{self._base}/{path}", os.O_RDONLY | os.O_NONBLOCK)
                try:
                    yield path, os.read(handle, size)
                finally:
                    os.close(handle)
            except OSError as error:
                yield path, error


class _Remote:
    """Any file system of fsspec: listings in pages and some at a time, small files many at a time."""

    def __init__(self, fs: fsspec.AbstractFileSystem, base: str, failed: Callable[[str, Exception], None]) -> None:
        self._fs = fs
        self._base = base
        self._failed = failed

    def walk(self, *, brief: bool) -> Iterator[File]:  # noqa: ARG002 -- pages hold what lies there
        level, whole = [self._base], list[str]()
        with ThreadPoolExecutor(_AT_ONCE if self._fs.async_impl else 1) as pool:
            # Level by level, until there are enough folders to list each in one go with what is below it.
            while level and len(level) + len(whole) < _PARTS:
                following: list[str] = []
                for parent, found in zip(level, pool.map(partial(self._list, below=False), level), strict=True):
                    for file in found:
                        yield file
                        if file.path.endswith("/"):
                            small = file.path.startswith("blobs/") and parent != f"{self._base}/blobs"
                            name = f"{self._base}/{file.path[:-1]}"
                            (whole if small or "/_" in file.path else following).append(name)
                level = following
            for found in pool.map(partial(self._list, below=True), [*level, *whole]):
                yield from found

    def _list(self, folder: str, *, below: bool) -> list[File]:
        """Return what is in a folder, or everything below it."""
        try:
            if below:
                infos = self._fs.find(folder, detail=True, withdirs=True).values()
            else:
                infos = self._fs.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            if folder == self._base:
                raise
            self._failed(self._inner(folder), error)
            return []
        return [self._file(info) for info in infos if str(info["name"]).strip("/") != folder.strip("/")]

    def _file(self, info: Mapping[str, Any]) -> File:
        path = self._inner(str(info["name"]))
        if info["type"] == "directory":
            return File(f"{path}/", 0, 0)
        when = next((info[key] for key in ("LastModified", "mtime", "created", "last_modified") if info.get(key)), 0)
        seconds = when.timestamp() if isinstance(when, datetime) else float(when)
        return File(path, int(info["size"] or 0), seconds)

    def _inner(self, name: str) -> str:
        # Some file systems' names begin with a slash.
        return name.strip("/").removeprefix(f"{self._base}/".lstrip("/"))

    def read(self, files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | Exception]]:
        chunk: list[str] = []
        total = 0
        for path, size in files:
            if len(chunk) == _CHUNK or (chunk and total + size > _CHUNK_SIZE):
                yield from self._read(chunk)
                chunk, total = [], 0
            chunk.append(f"{self._base}/{path}")
            total += size
        if chunk:
            yield from self._read(chunk)

    def _read(self, chunk: list[str]) -> Iterator[tuple[str, bytes | Exception]]:
        return ((self._inner(name), data) for name, data in self._fs.cat(chunk, on_error="return").items())


class Storage:
    """A registry's storage.

    Made by :func:`open_storage`.

    Attributes:
        url: As it was given, without credentials; a local path is absolute.

    Example:
        >>> open_storage("/var/lib/registry").inventory().breakdown  # doctest: +SKIP
    """

    def __init__(self, url: str | Path, options: Mapping[str, Any]) -> None:
        self._url, self._options = url, dict(options)
        # One storage has one name, however it is written: snapshots are compared by it.
        text = str(url)
        self.url = shown(text.rstrip("/")) if "://" in text else os.path.abspath(text)  # noqa: PTH100 -- links stay
        with self._opened(lambda *_: None):
            pass

    def __repr__(self) -> str:
        return f"<Storage {self.url}>"

    @contextlib.contextmanager
    def _opened(self, failed: Callable[[str, Exception], None]) -> Iterator[_Files]:
        """Find ``docker/registry/v2`` there.

        Raises:
            StorageError: It is not there, or cannot be read.
        """
        with opened(self._url, "read", **self._options) as (fs, path):
            root = path.rstrip("/")
            fs.invalidate_cache()
            local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
            for base in (f"{root}/{BASE}", root if root.endswith(f"/{BASE}") else ""):
                if base and local:
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        os.stat(base)  # noqa: PTH116 -- says so if it may not be looked at
                if base and fs.isdir(base):
                    yield _Local(base, failed) if local else _Remote(fs, base, failed)
                    return
            inside = [str(info["name"]).rstrip("/") for info in fs.ls(root or path, detail=True)]
            raise StorageError(
                f"not a registry's storage: {self.url} {_instead(root, inside)}",
                hint=f"name the folder that holds {BASE}",
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
        reading = _Reading(Records(self.url, datetime.now(UTC), source="storage"), brief=brief)
        with self._opened(reading.unlisted) as files:
            reading.run(files)
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


def _instead(root: str, inside: Sequence[str]) -> str:
    names = sorted(path.rpartition("/")[2] for path in inside)
    if "oci-layout" in names:
        return "is an OCI image layout, and not distribution's"
    if list(inside) == [root]:
        return "is a file"
    return f"holds {', '.join(names[:5])}" if names else "is empty"


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
        return any(f"{_blob(digest)}/".startswith(f"{folder}/".lstrip("/")) for folder in self.hidden)

    def run(self, files: _Files) -> None:
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
        if match := _BLOB.fullmatch(path):
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
        name, upload = (text.encode("utf-8", "replace").decode() for text in (name, upload))
        record = self.uploads.setdefault((name, upload), UploadRecord(name, upload, None, 0))
        record.size += file.size
        if list(parts) == ["startedat"]:
            record.started = _date(file.when)
            self.begun[file.path] = record

    def tag(self, found: _Repository, parts: Sequence[str], file: File) -> None:
        found.has_tags = True
        if len(parts) == 1:
            found.bad_tags.append(file.path)
            return
        found.tags.setdefault(parts[0], "")
        if list(parts[1:]) == ["current", "link"]:
            found.tags[parts[0]] = file.path
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
            self.records.tags.append(TagRecord(name, tag, digest if digest in found.walked else ""))
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
        small = {_blob(digest): digest for digest in sorted(first) if self.sizes[digest] <= MANIFEST_LIMIT}
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
        small = {_blob(digest): digest for digest in images if self.sizes[digest] <= CONFIG_LIMIT}
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
                record.created = config.created or ""
                commands = config.commands(len(record.layers))
                record.commands = tuple(texts.setdefault(text, text) for text in commands)


def _passes(check: Callable[[str], str], text: str) -> bool:
    try:
        return bool(check(text))
    except InvalidReference:
        return False


def _blob(digest: str) -> str:
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


def reconcile(inventory: Inventory, storage: Storage | Inventory) -> Frame:
    """Explain the difference between what a registry's API shows and what its disk holds.

    Args:
        inventory: From the API.
        storage: Of the same registry.

    Returns:
        Columns: cause, blobs, size (bytes), total, message. The first row is what the API shows, the last what is on
        disk; the rows between add up to the difference.

    Raises:
        InvalidArgument: The first is not from the API, or the second not from a storage, or it was read in brief.
        StorageError: The storage cannot be read.

    Example:
        >>> reconcile(registry.inventory(), open_storage("/var/lib/registry"))  # doctest: +SKIP
    """
    disk = storage.inventory() if isinstance(storage, Storage) else storage
    if (inventory.source, disk.source) != ("api", "storage") or disk.disk.empty:
        raise InvalidArgument(
            "one inventory of a registry's API and one of its storage, not in brief, are needed",
            hint="reconcile(regnb.connect(URL).inventory(), regnb.open_storage(DIR))",
        )
    graph = disk.graph
    api = inventory.graph
    both = pd.DataFrame({"digest": graph.digests, "disk": graph.sizes, "on_disk": ~graph.absent}).merge(
        pd.DataFrame({"digest": api.digests, "api": api.sizes, "shown": ~api.absent}), on="digest", how="outer"
    )
    at, there = (pd.Index(of.digests, dtype="str").get_indexer(pd.Index(both["digest"])) for of in (graph, api))
    on_disk, shown_ = (both[name].eq(True).to_numpy() for name in ("on_disk", "shown"))  # noqa: FBT003 -- not missing
    sizes = both["disk"].fillna(0).to_numpy(np.int64), both["api"].fillna(0).to_numpy(np.int64)
    unread = np.zeros(len(graph.digests) + 1, dtype=bool)
    unread[graph.behind.of(_unread(inventory, disk))[1]] = True
    led, needed = (np.append(counts > 0, False) for counts in (graph.leading, graph.needed("all")[1]))
    lost, extra = shown_ & ~on_disk, on_disk & ~shown_
    still = np.zeros(len(api.digests) + 1, dtype=bool)
    still[api.behind.of(_unmoved(inventory, disk))[1]] = True
    failed = disk.problems[disk.problems["problem"].isin(["denied", "failed"])]["reference"]
    shut = tuple(f"{path}/" for path in failed if path.startswith("blobs"))
    hidden = both["digest"].map(_blob).str.startswith(shut).to_numpy(bool)
    differs = on_disk & shown_ & (sizes[0] != sizes[1])
    foreign = extra & np.append(api.absent, False)[there]
    extra &= ~foreign
    causes = (
        ("hidden", lost & hidden, "the API shows them, and their folder on disk could not be read"),
        ("not on disk", lost & ~hidden & still[there], "the API shows them, and their bytes are gone: pulling fails"),
        ("gone since", lost & ~hidden & ~still[there], "behind what was moved or deleted between the two readings"),
        ("size", differs, "the manifest or the API says another size than the file has"),
        ("foreign", foreign, "the API takes them for stored elsewhere, and they are on disk all the same"),
        ("not read", extra & unread[at], "behind tags that the API was not asked for, or could not read"),
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
    return of_rows("reconciled", rows)


def _unmoved(inventory: Inventory, disk: Inventory) -> Ints:
    """Return the rows of the API's inventory that are the same in the storage: behind their tags nothing can be new."""
    columns = ["repository", "tag", "digest"]
    found = inventory.tags[columns].merge(disk.tags[columns], how="left", indicator=True)
    rows = inventory.graph.tags[(found["_merge"] == "both").to_numpy()]
    return np.concatenate([rows[rows >= 0], np.flatnonzero(inventory.graph.bare)])


def _unread(inventory: Inventory, disk: Inventory) -> Ints:
    """Return the rows of the storage whose tags the API was not asked for, or could not read, wholly or at all."""
    repositories, catalog = inventory.repositories, inventory.coverage.set_index("what").loc["catalog"]
    readable = repositories["repository"][repositories["status"].isin(["read", "empty"])]
    found = disk.tags[["repository", "tag"]].merge(
        inventory.tags[["repository", "tag", "complete"]], on=["repository", "tag"], how="left"
    )
    unread = found["complete"].eq(False)  # noqa: FBT003 -- not missing
    # Where the whole catalog was read, a repository that was not in it is new.
    whole = catalog["listed"] and catalog["complete"]
    asked = found["repository"].isin(repositories["repository"])
    unread |= (asked & ~found["repository"].isin(readable)) | (~asked & (not whole))
    rows = disk.graph.tags[unread.to_numpy()]
    return np.asarray(rows[rows >= 0])

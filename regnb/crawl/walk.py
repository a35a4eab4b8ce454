"""The files of a storage, listed and read: on a local disk, or wherever fsspec reaches."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from regnb.errors import StorageError

if TYPE_CHECKING:
    import fsspec

    from regnb.crawl.delivered import Delivered, Key
    from regnb.crawl.keys import Keys


_AT_ONCE: Final = 32
"""Listings at the same time."""
_PARTS: Final = 64
"""Folders to list, each with everything below it, before they are divided no further."""
_PAGE: Final = 1000
"""Names in one page of a bucket's listing."""
_CHUNK: Final = 2048
"""Small files that are asked for together."""
_CHUNK_SIZE: Final = 1 << 26
"""Bytes that are asked for together."""
FOREIGN: Final = frozenset({
    "@eaDir", "#recycle", "#snapshot", ".snapshot", ".snapshots", ".zfs", "lost+found", "System Volume Information",
    "$RECYCLE.BIN", ".Trashes", ".fseventsd", ".Spotlight-V100",
})  # fmt: skip
"""Folders that a file server or a file system makes anywhere: nothing in them is the registry's."""
_IN_FOREIGN: Final = re.compile(f"(^|/)({'|'.join(map(re.escape, sorted(FOREIGN)))})/.")
_SIZED: Final = frozenset({"data", "link"})
"""Files whose size matters. That of a revision's or a tag's link does not: it is read."""
_IN_BLOB: Final = 4
"""Folders above a blob's bytes: blobs, sha256, two letters, and all of them."""
_BLOCK: Final = 512
"""Bytes of a block as ``stat`` counts them, whatever the file system's own blocks are."""


class File(NamedTuple):
    """A file or a folder below ``docker/registry/v2``.

    Attributes:
        path: From there; a folder's ends in a slash.
        size: Its bytes.
        when: When it was written (seconds).
        used: Bytes of its blocks on disk, where they are known; 0 for a file that has a second name.
        upload: The name of a multipart upload, of what is being written in parts.
    """

    path: str
    size: int
    when: float
    used: int = 0
    upload: str = ""


class Files(Protocol):
    """Where the files are.

    Attributes:
        base: The folder's path.
    """

    base: str

    def walk(self, *, brief: bool) -> Iterator[File]:
        """Yield every file, and every folder there is, with a path that ends in a slash.

        If it is to be brief: only what a garbage collection looks at, where a registry puts it. A link may then not
        be there.
        """

    def read(self, files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield the bytes of small files, each given as its path and its size, or why they cannot be read."""

    def parts(self) -> Iterator[File]:
        """Yield the files that are being written in parts, which no listing shows, with the size of their parts."""

    def requests(self) -> Mapping[str, int]:
        """Return how many requests were sent, by their kind, where requests cost money."""


class LocalFiles:
    """A local folder, without what a general library costs for each file.

    Attributes:
        base: The folder's path.
        failed: Takes note of a path that cannot be listed, and why.
    """

    def __init__(self, base: str, failed: Callable[[str, Exception], None]) -> None:
        self.base = base
        self._real = os.path.realpath(base)
        self.failed = failed

    def walk(self, *, brief: bool, below: Sequence[str] = ("blobs", "repositories")) -> Iterator[File]:
        """See `Files.walk`; if it is to be brief, only these folders are walked."""
        pending = list(below) if brief else [""]
        linked: set[str] = set()
        counted: set[tuple[int, int]] = set()

        def used(about: os.stat_result) -> int:
            if about.st_nlink > 1 and not stat.S_ISDIR(about.st_mode):
                if (about.st_dev, about.st_ino) in counted:
                    return 0
                counted.add((about.st_dev, about.st_ino))
            return getattr(about, "st_blocks", 0) * _BLOCK

        if not brief:
            yield File("/", 0, 0, used(os.stat(self.base)))  # noqa: PTH116 -- as below
        while pending:
            folder = pending.pop()
            leaf = self._leaf(folder) if brief else None
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if not entry.is_dir():
                        about = entry.stat()
                        yield File(path, about.st_size, about.st_mtime, used(about))
                    elif entry.name in FOREIGN:
                        yield File(f"{path}/", 0, 0)
                    elif leaf in _SIZED:
                        yield File(f"{path}/{leaf}", os.stat(f"{entry.path}/{leaf}").st_size, 0)  # noqa: PTH116 -- ten thousands
                    elif leaf:
                        yield File(f"{path}/{leaf.lstrip('/')}", 0, 0)
                    elif not entry.is_symlink() or self._leads_out(entry.path, linked):
                        yield File(f"{path}/", 0, 0, 0 if brief else used(entry.stat()))
                        pending.append(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # it went while the others were read, or is a link to nothing
                except OSError as error:
                    self.failed(path, error)

    @staticmethod
    def _leaf(folder: str) -> str | None:
        """Return the one file that matters in each folder of this folder, where that is known.

        Of one that begins with a slash the size does not matter.
        """
        if folder.startswith("blobs/"):
            return "data" if folder.count("/") == 2 else None  # noqa: PLR2004 -- blobs/sha256/<2 hex>
        if folder.endswith("/_manifests/tags"):
            return "current/link"
        if "/_manifests/revisions/" in folder:
            return "/link"
        return "link" if "/_layers/" in folder else None

    def _leads_out(self, path: str, linked: set[str]) -> bool:
        """Whether a link to a folder leads where nothing was read: so a disk is made larger, and a loop is not."""
        real = f"{os.path.realpath(path)}/"
        known = real in linked or real.startswith(f"{self._real}/") or f"{self._real}/".startswith(real)
        linked.add(real)
        return not known

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self.base}/{folder}") as entries:
                return list(entries)
        except FileNotFoundError:
            return []  # it went while the others were read
        except OSError as error:
            self.failed(folder, error)
            return []

    def read(self, files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | Exception]]:
        """See `Files.read`."""
        for path, size in files:
            try:
                # What is not a file, such as a pipe, does not keep this waiting.
                handle = os.open(f"{self.base}/{path}", os.O_RDONLY | os.O_NONBLOCK)
                try:
                    yield path, os.read(handle, size)
                finally:
                    os.close(handle)
            except OSError as error:
                yield path, error

    def parts(self) -> Iterator[File]:
        """See `Files.parts`."""
        return iter(())

    def requests(self) -> Mapping[str, int]:
        """See `Files.requests`."""
        return {}


class Told:
    """What a bucket's listing tells of the content of links: the MD5 of each is its ETag, unless a key encrypts them.

    A link's text is believed only if it is the digest of a manifest that some repository has, and its MD5 the ETag.

    Example:
        >>> told, link = Told(), f"repositories/app/_manifests/revisions/sha256/{'0' * 64}/link"
        >>> told.note(link, hashlib.md5(f"sha256:{'0' * 64}".encode()).hexdigest())
        >>> told.content(link) == f"sha256:{'0' * 64}".encode()
        True
    """

    def __init__(self) -> None:
        self._tags: dict[str, str] = {}
        self._texts: dict[str, bytes] = {}

    def note(self, path: str, tag: str) -> None:
        """Take note of a file's ETag."""
        if path.endswith("/link") and tag:
            self._tags[path] = tag.strip('"')
            _, revision, rest = path.partition("/_manifests/revisions/")
            if revision:
                text = rest.removesuffix("/link").replace("/", ":").encode()
                self._texts[hashlib.md5(text, usedforsecurity=False).hexdigest()] = text

    def content(self, path: str) -> bytes | None:
        """Return what a link holds; None if it has to be read."""
        return self._texts.get(self._tags.get(path, ""))


def digest_of(path: str) -> str:
    """Return the digest of the blob whose bytes a path is that of; else "".

    Example:
        >>> digest_of("blobs/sha256/ab/abcd/data"), digest_of("blobs/sha256/ab")
        ('sha256:abcd', '')
    """
    folder, _, name = path.rpartition("/")
    parts = folder.split("/")
    return f"{parts[1]}:{parts[3]}" if name == "data" and parts[0] == "blobs" and len(parts) == _IN_BLOB else ""


class Kept(Protocol):
    """Manifests and configs that were read before, by their digests."""

    def get(self, digest: str) -> bytes | None:
        """Return the verified bytes with this digest, or None."""

    def put(self, digest: str, data: bytes) -> None:
        """Keep bytes, if they have this digest."""


class RemoteFiles:
    """Any file system of fsspec: listings in pages and some at a time, small files many at a time.

    Args:
        fs: The file system.
        base: The folder's path there.
        failed: Takes note of a path that cannot be listed, and why.
        kept: Where manifests and configs are that were read before. Everything else is asked for every time.
        keys: See the attribute.

    Attributes:
        base: The folder's path.
        filesystem: As it was given.
        in_bucket: Whether it is that of a bucket that speaks S3.
        delivered: A listing that is taken instead of asking for one.
        keys: Those of the bucket, where these are to be listed page by page.
        gone: How many files were not there that a listing had.
    """

    def __init__(
        self,
        filesystem: fsspec.AbstractFileSystem,
        base: str,
        failed: Callable[[str, Exception], None],
        kept: Kept | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.filesystem = filesystem
        self.keys = keys
        self._paged = keys.pages if keys is not None else 0
        self._kept = kept
        self._told: Told | None = None
        self.base = base
        self._failed = failed
        self.in_bucket = hasattr(filesystem, "call_s3")
        self.delivered: Delivered | None = None
        self.gone = 0
        self._lists = self._gets = 0

    def walk(self, *, brief: bool) -> Iterator[File]:
        """See `Files.walk`; a bucket's is one listing of all keys if it is to be brief: the fewest requests."""
        if self.delivered is not None:
            yield from self._delivered(self.delivered)
            return
        if brief and self.keys is not None:
            if not (yield from self._of_keys(self.keys.below(self.keys.base.partition("/")[2]))):
                raise FileNotFoundError(self.base)
            return
        if brief and self.in_bucket:
            self._told = Told()
            if not (found := self._list(self.base, below=True)):
                raise FileNotFoundError(self.base)
            yield from found
            return
        level, whole = [self.base], list[str]()
        with ThreadPoolExecutor(_AT_ONCE if self.filesystem.async_impl else 1) as pool:
            # Level by level, until there are enough folders to list each in one go with what is below it.
            while level and len(level) + len(whole) < _PARTS:
                following: list[str] = []
                for parent, found in zip(level, pool.map(partial(self._list, below=False), level), strict=True):
                    for file in found:
                        yield file
                        if file.path.endswith("/") and file.path[:-1].rpartition("/")[2] not in FOREIGN:
                            small = file.path.startswith("blobs/") and parent != f"{self.base}/blobs"
                            name = f"{self.base}/{file.path[:-1]}"
                            (whole if small or "/_" in file.path else following).append(name)
                level = following
            for found in pool.map(partial(self._list, below=True), [*level, *whole]):
                yield from found

    def _delivered(self, delivered: Delivered) -> Iterator[File]:
        """Yield what a delivered listing has."""
        bucket, _, folder = self.base.strip("/").partition("/")
        if bucket != delivered.bucket:
            text = f"the S3 Inventory lists the bucket {delivered.bucket}, and the storage is in {bucket}"
            raise StorageError(text, hint="name the manifest.json of this bucket's")
        if not (yield from self._of_keys(delivered.below(folder))):
            text = f"the S3 Inventory of {delivered.when:%Y-%m-%d %H:%M} UTC lists nothing below {self.base}"
            raise StorageError(text, hint="take one of the whole bucket, or of this prefix")

    def _of_keys(self, keys: Iterable[Key]) -> Generator[File, None, bool]:
        """Yield the files that are at some keys and the folders that these make, and return whether there is any."""
        self._told = told = Told()
        folder = self.base.strip("/").partition("/")[2]
        folders: set[str] = set()
        for key in keys:
            path = key.name.removeprefix(f"{folder}/")
            told.note(path, key.tag)
            above = path.rpartition("/")[0]
            while above and above not in folders:
                folders.add(above)
                above = above.rpartition("/")[0]
            if not path.endswith("/") and not _IN_FOREIGN.search(path):
                yield File(path, key.size, key.when)
        for path in folders:
            if not _IN_FOREIGN.search(f"{path}/"):
                yield File(f"{path}/", 0, 0)
        return bool(folders)

    def _list(self, folder: str, *, below: bool) -> list[File]:
        """Return what is in a folder, or everything below it."""
        try:
            if below:
                infos = list(self.filesystem.find(folder, detail=True, withdirs=True).values())
            else:
                infos = self.filesystem.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            if folder == self.base:
                raise
            self._failed(self._inner(folder), error)
            return []
        # A page has a thousand names.
        self._lists += max(1, -(-len(infos) // _PAGE))
        inside = f"{folder.strip('/')}/"
        if self._told is not None:
            for info in infos:
                self._told.note(self._inner(str(info["name"])), str(info.get("ETag", "")))
        files = (self._file(info) for info in infos if str(info["name"]).strip("/").startswith(inside))
        return [file for file in files if not _IN_FOREIGN.search(file.path)]

    def _file(self, info: Mapping[str, Any]) -> File:
        path = self._inner(str(info["name"]))
        if info["type"] == "directory":
            return File(f"{path}/", 0, 0)
        when = next((info[key] for key in ("LastModified", "mtime", "created", "last_modified") if info.get(key)), 0)
        seconds = when.timestamp() if isinstance(when, datetime) else float(when)
        return File(path, int(info["size"] or 0), seconds)

    def _inner(self, name: str) -> str:
        # Some file systems' names begin with a slash.
        return name.strip("/").removeprefix(f"{self.base}/".lstrip("/"))

    def read(self, files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | Exception]]:
        """See `Files.read`."""
        chunk: dict[str, bytes | None] = {}
        total = 0
        for path, size in files:
            if len(chunk) == _CHUNK or (chunk and total + size > _CHUNK_SIZE):
                yield from self._read(chunk)
                chunk, total = {}, 0
            chunk[path] = self.known(path)
            total += size
        yield from self._read(chunk)

    def _read(self, chunk: Mapping[str, bytes | None]) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield what is known or read, in the order in which it was asked for."""
        unknown = [f"{self.base}/{path}" for path, data in chunk.items() if data is None]
        self._gets += len(unknown)
        # A small file is one request: in parts, its size would be asked for first.
        whole = {"max_concurrency": 1} if self.in_bucket else {}
        read = self.filesystem.cat(unknown, on_error="return", **whole) if unknown else {}
        found: dict[str, bytes | Exception] = {self._inner(name): data for name, data in read.items()}
        for path, told in chunk.items():
            data = told if told is not None else found.get(path)
            if data is None:
                continue
            self.gone += isinstance(data, FileNotFoundError)
            if told is None and isinstance(data, bytes):
                self.keep(path, data)
            yield path, data

    def known(self, path: str) -> bytes | None:
        """Return the bytes of a file that are known: the listing told them, or they were read before."""
        if self._told is not None and (text := self._told.content(path)):
            return text
        digest = digest_of(path)
        return self._kept.get(digest) if digest and self._kept is not None else None

    def keep(self, path: str, data: bytes) -> None:
        """Keep what was read, if it is a blob with its digest."""
        if self._kept is not None and (digest := digest_of(path)):
            self._kept.put(digest, data)

    def count(self, gets: int) -> None:
        """Count the requests that others sent."""
        self._gets += gets

    def parts(self) -> Iterator[File]:
        """See `Files.parts`: the multipart uploads of a bucket."""
        if not self.in_bucket:
            return
        bucket, _, prefix = self.base.partition("/")
        found = self._pages("list_multipart_uploads", "Uploads", ("KeyMarker", "UploadIdMarker"), bucket, Prefix=prefix)
        for upload in found:
            which = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
            sizes = (
                part["Size"] for part in self._pages("list_parts", "Parts", ("PartNumberMarker",), bucket, **which)
            )
            yield File(
                self._inner(f"{bucket}/{upload['Key']}"),
                sum(sizes),
                upload["Initiated"].timestamp(),
                upload=upload["UploadId"],
            )

    def _pages(self, call: str, key: str, markers: Sequence[str], bucket: str, **which: object) -> Iterator[Any]:
        """Yield what all pages of a listing have."""
        while True:
            self._lists += 1
            page = self.filesystem.call_s3(call, Bucket=bucket, **which)
            yield from page.get(key, ())
            if not page.get("IsTruncated"):
                return
            which |= {marker: page[f"Next{marker}"] for marker in markers}

    def requests(self) -> Mapping[str, int]:
        """See `Files.requests`."""
        gets = self._gets + (self.delivered.gets if self.delivered is not None else 0)
        lists = self._lists + (self.keys.pages - self._paged if self.keys is not None else 0)
        return {"LIST": lists, "GET": gets} if self.in_bucket else {}

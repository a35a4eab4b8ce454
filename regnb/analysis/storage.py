"""A registry's storage, opened: a folder, or wherever fsspec reaches."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from regnb.analysis.recent import recent
from regnb.analysis.stock import Stock
from regnb.crawl.delivered import Delivered
from regnb.crawl.files import explained, local_path, opened
from regnb.crawl.keys import Keys
from regnb.crawl.records import Records
from regnb.crawl.storage import Reading
from regnb.crawl.walk import Files, LocalFiles, RemoteFiles
from regnb.environment import progress_bar, variable
from regnb.errors import Interrupted, InvalidArgument, StorageError
from regnb.oci.disk import BASE
from regnb.oci.manifest import ACCEPT, OCI_CONFIG, media_type_of
from regnb.oci.reference import Digest, is_digest
from regnb.session import Show
from regnb.text import count, redact

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from regnb.analysis.inventory import Inventory
    from regnb.crawl.portions import Brought, Portion
    from regnb.crawl.workers import Executor, Workers

_IN_DATABASE: Final = "lockfiles/database-in-use"
"""Beside ``v2``: GitLab's registry puts this file there when its metadata moves to a database."""
_EXPIRY: Final = "scheduler-state.json"
"""In the root: a pull-through cache keeps there what expires when."""


class _Kept:
    """The user's cache: see `regnb.crawl.walk.Kept`."""

    def __init__(self) -> None:
        from regnb.wire.cache import Cache

        self._cache = Cache(Cache.folder())
        if where := variable("REGNB_SHARED_CACHE"):
            from regnb.crawl.shared import Shared

            Shared(where).attach(self._cache)

    def get(self, digest: str) -> bytes | None:
        """Return the verified bytes with this digest, or None."""
        found = self._cache.get(Digest(digest)) if is_digest(digest) else None
        return found.data if found else None

    def put(self, digest: str, data: bytes) -> None:
        """Keep what has this digest: a manifest that says itself of what type it is, or an image's config."""
        told = media_type_of(data)
        if _is_config(data):
            told = OCI_CONFIG
        elif not all(media_type_of(data, other) == told for other in ACCEPT):
            return
        if told and Digest.of(data) == digest:
            self._cache.put(Digest(digest), told, data)

    def close(self) -> None:
        """Write what was put."""
        self._cache.close()


class _Shape(msgspec.Struct, rename="camel"):
    """What tells an image's config from a manifest."""

    rootfs: dict[str, object]
    media_type: object = None
    layers: object = None
    manifests: object = None


def _is_config(data: bytes) -> bool:
    try:
        found = msgspec.json.decode(data, type=_Shape)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return found.media_type is found.layers is found.manifests is None


class Storage:
    """A registry's storage.

    Made by :func:`open_storage`.

    Attributes:
        url: As it was given, without credentials; a local path is absolute.

    Example:
        >>> open_storage("/var/lib/registry").inventory().breakdown.query("what == 'disk'")[["what", "message"]]
           what  message
        8  disk  on disk
    """

    def __init__(
        self,
        url: str | Path,
        options: Mapping[str, object],
        listing: str | Path | None = None,
        *,
        unseen: bool = False,
    ) -> None:
        self._url, self._options = url, dict(options)
        if listing is not None and local_path(url):
            raise InvalidArgument(f"a listing needs a bucket, and {url} is not a bucket", hint="leave the listing out")
        self._delivered = str(listing) if listing is not None else ""
        self._mirror: Callable[[], bool] = lambda: False
        self._base = ""
        self._keys: Keys | None = None
        # One storage has one name, however it is written: snapshots are compared by it.
        text = str(url)
        self.url = redact(text.rstrip("/")) if "://" in text else os.path.abspath(text)  # noqa: PTH100 -- links stay
        self._unseen = unseen
        if unseen:  # it is looked at by its first reading
            return
        with self.files(lambda *_: None) as files:
            self._base = files.base

    def __repr__(self) -> str:
        return f"<Storage {self.url}>"

    @property
    def is_mirror(self) -> bool:
        """Whether it is that of a pull-through cache."""
        with explained(self._url, "read"):
            return self._mirror()

    @contextlib.contextmanager
    def files(self, failed: Callable[[str, Exception], None]) -> Iterator[Files]:
        """Open the files below ``docker/registry/v2``.

        Args:
            failed: Is called with each folder that cannot be listed, and why.

        Raises:
            StorageError: It is not there, or cannot be read.

        Example:
            ``with storage.files(lambda *_: None) as files: ...``
        """
        if path := local_path(self._url):
            with explained(self._url, "read"):
                yield LocalFiles(self._found(path.rstrip("/"), _is_folder, os.listdir), failed)
            return
        with opened(self._url, "read", **self._options) as (filesystem, path):
            filesystem.invalidate_cache()
            root = path.rstrip("/")
            # What was found when it was opened is not looked for again by the first reading.
            base = self._base or self._found_in(filesystem, root)
        self._base = ""
        with self._again(base, failed) as files:
            yield files

    @contextlib.contextmanager
    def _again(self, base: str, failed: Callable[[str, Exception], None]) -> Iterator[Files]:
        """Open the files of a bucket below a folder that was found a moment ago; for "" below where they should be."""
        with opened(self._url, "read", **self._options) as (filesystem, path):
            filesystem.invalidate_cache()
            with contextlib.closing(_Kept()) as kept:
                yield RemoteFiles(filesystem, base or f"{path.rstrip('/')}/{BASE}", failed, kept, self._keys)

    def _found_in(self, filesystem: AbstractFileSystem, root: str) -> str:
        """Return the folder of a file system, or of a bucket, that the registry's files are in."""
        self._keys = keys = Keys.of(filesystem, root)

        def is_folder(path: str) -> bool:
            return (keys is not None and path == keys.base) or _is_below(filesystem, path)

        def exists(path: str) -> bool:
            told = keys.shows(path.removeprefix(f"{root}/")) if keys is not None else None
            return _is_listed(filesystem, path) if told is None else told

        return self._found(root, is_folder, partial(_names, filesystem), exists)

    def _found(
        self,
        root: str,
        is_folder: Callable[[str], bool],
        names: Callable[[str], Sequence[str]],
        exists: Callable[[str], bool] = os.path.exists,
    ) -> str:
        """Return the folder that the registry's files are in."""
        for base in (f"{root}/{BASE}", root if root.endswith(f"/{BASE}") else ""):
            if not (base and is_folder(base)):
                continue
            if exists(f"{base.removesuffix('/v2')}/{_IN_DATABASE}"):
                raise StorageError(
                    f"{self.url} belongs to a registry that keeps its metadata in a database, as GitLab's does: its "
                    "files do not say which tags and manifests there are",
                    hint="audit it over HTTP; GitLab's registry collects garbage by itself",
                )
            # In a bucket its keys tell it, once they are read.
            self._mirror = partial(exists, f"{base.removesuffix(BASE)}{_EXPIRY}")
            return base
        try:
            instead = _instead(names(root or "/"))
        except NotADirectoryError:
            instead = "is a file"
        raise StorageError(
            f"not a registry's storage: {self.url} {instead}",
            hint=f"name the folder that holds {BASE}",
        )

    def inventory(self, *, executor: Executor | Workers | None = None, progress: Show = None) -> Inventory:
        """Read the storage, and return it as the same DataFrames as a registry's, complete by construction.

        Beyond these there are manifests that no tag leads to, blobs that no manifest needs (kind ``orphan``),
        ``history``, ``uploads`` and ``disk``. What is corrupt or missing is in ``problems``.

        Args:
            executor: What lets other processes or machines read the links, manifests and configs, each below some
                prefixes: ``ProcessPoolExecutor()``, or ``dask.distributed.Client(…)``; or :class:`Workers`, to say how
                many calls. This process lists the files and judges them. Workers reach a bucket by the credentials
                of their own environment, and a folder under the same path.
            progress: With an executor, as for :meth:`Registry.inventory`.

        Raises:
            StorageError: It cannot be read at all, or is not where a worker runs.
            InvalidArgument: An executor for a storage that was opened with options or a login in its URL.
            Interrupted: The user interrupted workers; what they read of a bucket is in their cache.

        Example:
            >>> len(open_storage("/var/lib/registry").inventory().problems)
            0
        """
        from regnb.analysis.inventory import Inventory

        if executor is not None:
            return Inventory.of(self._by(executor, progress))
        return recent(self.url, None, lambda: Inventory.of(self.records()))

    def _by(self, executor: Executor | Workers, show: Show) -> Records:
        """Read the storage by workers."""
        from regnb.crawl.portions import Portioned, Progress
        from regnb.crawl.workers import Workers

        url = local_path(self._url) or str(self._url)
        if self._options or redact(url) != url:
            given = f"the options {', '.join(self._options)}" if self._options else "a login in its URL"
            raise InvalidArgument(
                f"workers cannot read {self.url}: it was opened with {given}, which are not sent to them",
                hint="set AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like, or fsspec's configuration, in the "
                "environment of this process and of every worker, and open the storage without them",
            )
        counters = Progress()
        bar = progress_bar(counters, show)

        def by_workers(files: Files) -> Portioned:
            return Portioned(files, url, Workers.of(executor), read_portion, progress=counters, show=bar.update)

        try:
            with self._read(brief=False, by=by_workers) as reading:
                reading.records.finished = datetime.now(UTC)
                return reading.records
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted("Interrupted.") from None
        finally:
            bar.close()

    def records(self) -> Records:
        """Read the storage, and return what was found as it was read.

        Raises:
            StorageError: It cannot be read at all.

        Example:
            >>> tags = open_storage("/var/lib/registry").records().tags
        """
        with self._read(brief=False) as reading:
            reading.records.finished = datetime.now(UTC)
            return reading.records

    def stock(self) -> Stock:
        """Read what a garbage collection looks at, and return what each would remove: quick, and without frames.

        Raises:
            StorageError: It cannot be read at all.

        Example:
            >>> stock = open_storage("/var/lib/registry").stock()
            >>> {one.collection.version for one in stock.collections} == {"2.8", "3"}
            True
        """
        with unsearched(), self._read(brief=True) as reading:
            return Stock(reading)

    @contextlib.contextmanager
    def _read(
        self, *, brief: bool, by: Callable[[Files], contextlib.AbstractContextManager[Files]] = contextlib.nullcontext
    ) -> Iterator[Reading]:
        """Read the storage; in brief, only what a garbage collection looks at; by others, if there are any."""
        delivered = Delivered(self._delivered, self._options) if self._delivered else None
        begun = delivered.when if delivered is not None else datetime.now(UTC)
        reading = Reading(Records(self.url, begun, source="storage"), brief=brief)
        with self.files(reading.notes.unlisted) as files:
            if isinstance(files, RemoteFiles):
                files.delivered = delivered
            with by(files) as readable:
                reading.run(readable)
            if self.is_mirror:
                text = "the storage of a pull-through cache: its content expires, and is fetched from upstream again"
                reading.notes.problem("", _EXPIRY, "mirror", text, hint="let it expire by itself; do not delete tags")
            if delivered is not None:
                _note(reading, delivered, files)
            yield reading


def _note(reading: Reading, delivered: Delivered, files: Files) -> None:
    """Say of what time a delivered listing is: what came or went since is not in it."""
    when = f"{delivered.when:%Y-%m-%d %H:%M} UTC"
    text = f"listed by an S3 Inventory of {when}: what was pushed or removed since is in no figure"
    gone = files.gone if isinstance(files, RemoteFiles) else 0
    if gone:
        text += f"; {count(gone, 'file')} of it {'is' if gone == 1 else 'are'} gone"
    hint = "leave the listing out to read the storage as it is now"
    reading.notes.problem("", "listing", "listing", text, incomplete=gone > 0, hint=hint)
    for what in ("catalog", "repositories", "tags"):
        reading.records.coverage.sources[what] = f"S3 Inventory of {when}"


def open_storage(url: str | Path, *, listing: str | Path | None = None, **options: object) -> Storage:
    """Open a registry's storage: the folder or bucket that holds ``docker/registry/v2``.

    Args:
        url: A local path, or a URL that fsspec knows, such as ``s3://bucket/prefix`` (extra ``s3``; credentials and
            endpoint come from the environment, as for any S3 client).
        listing: The ``manifest.json`` of an S3 Inventory of the bucket (Parquet, ORC or CSV), whose keys are taken
            instead of listing them. The inventory is then of that time, and a problem says so. What changes the
            storage always lists it anew.
        options: For the file system, as fsspec takes them (``endpoint_url=…``).

    Raises:
        StorageError: Not a registry's storage, or it cannot be read; or the listing is of another bucket or not whole.
        InvalidArgument: A listing for what is not a bucket.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> storage = open_storage("/var/lib/registry")
    """
    return Storage(url, options, listing)


def read_portion(portion: Portion) -> Brought:
    """Read some files of a storage: what a worker calls.

    Raises:
        Interrupted: It was told to stop.
        StorageError: The storage is not where the worker runs, or cannot be reached from there.
        MissingExtra: The library for such URLs is not installed there.

    Example:
        ``brought = executor.submit(read_portion, portion).result()``
    """
    if local_path(portion.url):
        return portion.read(LocalFiles(portion.base, lambda *_: None))
    with opened(portion.url, "read") as (filesystem, _), contextlib.closing(_Kept()) as kept:
        return portion.read(RemoteFiles(filesystem, portion.base, lambda *_: None, kept))


@contextlib.contextmanager
def unsearched() -> Iterator[None]:
    """Keep Python from looking for circles within: among a million new objects without one it takes a tenth longer."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            # What is left of them counts as old: else all of it would be searched as soon as this ends.
            gc.freeze()
            gc.unfreeze()
        gc.enable()


def _is_folder(path: str) -> bool:
    """Whether there is a folder; an error if it may not be looked at."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 -- a text
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_below(filesystem: AbstractFileSystem, folder: str) -> bool:
    """Whether there is a folder: what is listed above it says so, and says what else is there."""
    return bool(filesystem.isdir(folder.rpartition("/")[0]) and filesystem.isdir(folder))


def _is_listed(filesystem: AbstractFileSystem, path: str) -> bool:
    """Whether there is a file: as the listing of its folder has it, which most file systems remember."""
    folder, _, name = path.rpartition("/")
    return bool(filesystem.isdir(folder)) and name in _names(filesystem, folder)


def _names(filesystem: AbstractFileSystem, folder: str) -> list[str]:
    """Return what is in a folder; what is a file is in itself."""
    found = [str(info["name"]).rstrip("/") for info in filesystem.ls(folder, detail=True)]
    if [path.strip("/") for path in found] == [folder.strip("/")]:
        raise NotADirectoryError
    return [path.rpartition("/")[2] for path in found]


def _instead(inside: Sequence[str]) -> str:
    names = sorted(inside)
    if "oci-layout" in names:
        return "is an OCI image layout, and not distribution's"
    return f"holds {', '.join(names[:5])}" if names else "is empty"

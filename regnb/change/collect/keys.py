"""Requests to a bucket that speaks S3: its lock, batches of keys to remove, and versions."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from regnb.change.sweep import TRASH
from regnb.crawl.files import reason
from regnb.errors import Busy, StorageError

if TYPE_CHECKING:
    import fsspec

BATCH: Final = 1000
"""Keys that one request may remove."""
_TRIES: Final = 6
_AGAIN: Final = frozenset({"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout"})
"""Errors of single keys that are tried again."""


class _Lock(Struct, frozen=True):
    """Who holds a bucket."""

    plan: str
    host: str
    process: int
    when: str


class Keys:
    """The keys of a bucket below a folder.

    Args:
        filesystem: Of s3fs.
        base: The bucket, and the folder ``docker/registry/v2`` in it.

    Example:
        ``Keys(filesystem, "bucket/docker/registry/v2").is_versioned()``
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, base: str) -> None:
        self._filesystem, self.base = filesystem, base
        self._bucket, _, prefix = base.partition("/")
        self._prefix = f"{prefix}/"
        self._locked: str | None = None
        self._over: list[str] = []
        self._versioned: bool | None = None

    def _lock(self, plan: str) -> None:
        me = _Lock(plan, socket.gethostname(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"))
        body = msgspec.json.encode(me)
        try:
            made = self._call("put_object", Key=self._key(f"{TRASH}/lock"), Body=body, IfNoneMatch="*")
        except FileExistsError:
            pass
        except OSError as error:
            if "PreconditionFailed" not in str(error.__cause__):
                raise StorageError(
                    f"cannot lock {self.base}: {reason(error)}", hint="check the rights to put objects there"
                ) from None
        else:
            self._locked = made.get("VersionId") or ""
            # A bucket that keeps versions names the one that it stored; "null" where it has ceased to.
            self._versioned = made.get("VersionId", "null") != "null"
            return
        other = msgspec.json.decode(self._read(f"{TRASH}/lock"), type=_Lock)
        if other.plan != me.plan or (other.host == me.host and _is_alive(other.process)):
            raise Busy(
                f"another collection is at work in {self.base}, since {other.when} on {other.host}",
                hint="wait until it has ended; if it was killed: regnb apply --resume RECEIPT there, or remove the key "
                f"{self._key(TRASH)}/lock",
            )
        # The process that began this very plan is dead, and now it is resumed.
        self._locked = self._call("put_object", Key=self._key(f"{TRASH}/lock"), Body=body).get("VersionId") or ""

    def _unlock(self) -> None:
        if self._locked is None:
            return
        lock = f"{TRASH}/lock"
        version, self._locked, over, self._over = self._locked, None, self._over, []
        if version:  # in a bucket with versions nothing of it stays, where that is allowed
            with contextlib.suppress(OSError):
                self._call("delete_object", Key=self._key(lock), VersionId=version)
                return
        if not over:
            self._call("delete_object", Key=self._key(lock))
            return
        for path, why in self._remove((path, "") for path in (lock, *over)).items():
            hint = "no collection begins here before this key is removed" if path == lock else "empty the trash again"
            raise StorageError(f"cannot remove the key {self._key(path)}: {why}", hint=hint)

    def _forget(self, path: str, versions: Iterable[str] = ()) -> None:
        """Remove a key in every version that it has; one that has none goes with the lock, which costs no request.

        What it says of an unfinished removal is kept until everything else was done.
        """
        gone = [(path, name) for name in versions]
        if not gone and self._locked == "":
            self._over.append(path)
        else:
            raise_first(self._remove(gone or [(path, "")]))

    def _call(self, method: str, **given: object) -> Any:  # noqa: ANN401 -- botocore's
        return self._filesystem.call_s3(method, Bucket=self._bucket, **given)

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def _read(self, path: str, **which: object) -> bytes:
        # A file system of s3fs reads by its own loop; its cat is the one call that reads a whole body.
        version = {"version_id": which["version"]} if which else {}
        # In parts its size would be asked for first.
        return bytes(self._filesystem.cat_file(f"{self.base}/{path}", max_concurrency=1, **version))

    def is_versioned(self) -> bool:
        """Whether what is removed stays as an older version. Where this may not be asked, it is not relied on."""
        if self._versioned is not None:
            return self._versioned
        try:
            return bool(self._call("get_bucket_versioning").get("Status") == "Enabled")
        except OSError:
            return False

    def _pages(self, method: str, *tokens: str, prefix: str, **more: object) -> Iterator[Mapping[str, Any]]:
        """Yield the pages of a listing; each names what the next one is asked with."""
        which = more
        while True:
            page = self._call(method, Prefix=prefix, **which)
            yield page
            if not page.get("IsTruncated"):
                return
            which = more | {token: page[f"Next{token}"] for token in tokens}

    def _folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder."""
        above = f"{self._key(folder)}/"
        pages = self._pages("list_objects_v2", "ContinuationToken", prefix=above, Delimiter="/")
        return [
            each["Prefix"].removeprefix(above).rstrip("/") for page in pages for each in page.get("CommonPrefixes", ())
        ]

    def _below(self, folder: str) -> dict[str, tuple[float, int]]:
        """Return the keys below a folder, when each was written, and its bytes."""
        return {
            each["Key"].removeprefix(self._prefix): (each["LastModified"].timestamp(), each["Size"])
            for page in self._pages("list_objects_v2", "ContinuationToken", prefix=self._key(folder))
            for each in page.get("Contents", ())
        }

    def _remove(self, keys: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Remove keys, each with a version or "", and return why some of them could not be."""
        failed: dict[str, str] = {}
        todo = list(keys)
        for tries in range(_TRIES):
            again: list[tuple[str, str]] = []
            for at in range(0, len(todo), BATCH):
                some = [
                    {"Key": self._key(path), **({"VersionId": version} if version else {})}
                    for path, version in todo[at : at + BATCH]
                ]
                found = self._call("delete_objects", Delete={"Objects": some, "Quiet": True})
                for error in found.get("Errors", ()):
                    path = error["Key"].removeprefix(self._prefix)
                    failed[path] = f"{error.get('Code', '')}: {error.get('Message', '')}"
                    if error.get("Code") in _AGAIN:
                        again.append((path, error.get("VersionId", "")))
            if not again:
                break
            if tries + 1 < _TRIES:
                for path, _ in again:
                    failed.pop(path, None)
                time.sleep(0.1 * 2**tries)
            todo = again
        return failed

    def _versions(self) -> dict[str, list[tuple[str, bool, float]]]:
        """Return the versions of every key, the newest first: name, whether it is a marker, and when it was made."""
        found: dict[str, list[tuple[str, bool, float]]] = {}
        for page in self._pages("list_object_versions", "KeyMarker", "VersionIdMarker", prefix=self._prefix):
            for sort in ("Versions", "DeleteMarkers"):
                for each in page.get(sort, ()):
                    version = (each["VersionId"], sort == "DeleteMarkers", each["LastModified"].timestamp())
                    place = found.setdefault(each["Key"].removeprefix(self._prefix), [])
                    # Within a second the order is told by which one is the latest.
                    place.insert(0 if each["IsLatest"] else len(place), version)
        for versions in found.values():
            versions[1:] = sorted(versions[1:], key=lambda one: -one[2])
        return found


def raise_first(failed: Mapping[str, str]) -> None:
    """Raise why the first of some keys could not be removed, if any.

    Raises:
        OSError: It could not be removed.

    Example:
        >>> raise_first({})
    """
    for why in failed.values():
        raise OSError(errno.EACCES if "AccessDenied" in why else errno.EIO, why)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

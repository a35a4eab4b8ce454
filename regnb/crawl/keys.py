"""The keys of a bucket that speaks S3, page after page, from a registry's on: each page tells what lies beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from regnb.crawl.delivered import Key
from regnb.oci.disk import BASE

if TYPE_CHECKING:
    import fsspec

_FRESH: Final = 60
"""Seconds for which the page by which a storage was found is good as the first one of its reading."""


class _Page(NamedTuple):
    """One page: its keys, each between two others, and what to ask for the next one; "" after the last."""

    after: str
    keys: Sequence[Key]
    token: str

    def shows(self, name: str) -> bool | None:
        """Whether there is a key; None where another page would have it."""
        if name <= self.after or (self.token and name > self.keys[-1].name):
            return None
        return any(key.name == name for key in self.keys)


class Keys:
    """The keys of a bucket, in their order, from ``docker/registry/`` on.

    Made by :meth:`of`.

    Attributes:
        base: The folder ``docker/registry/v2``, and the bucket before it.
        pages: How many were asked for.

    Example:
        ``keys = Keys.of(filesystem, "bucket/prefix")``
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, root: str) -> None:
        self.pages = 0
        self.base = f"{root}/{BASE}"
        self._filesystem = filesystem
        self._bucket, _, folder = root.partition("/")
        self._root = f"{folder}/" if folder else ""
        self._begun = time.monotonic()
        self._page = self._first()
        self._unread = True

    @classmethod
    def of(cls, filesystem: fsspec.AbstractFileSystem, root: str) -> Self | None:
        """Return the keys of the bucket, if a storage is in this folder, and the server lists in order.

        Example:
            >>> import fsspec
            >>> Keys.of(fsspec.filesystem("memory"), "not/a-bucket") is None
            True
        """
        if not hasattr(filesystem, "call_s3"):
            return None
        try:
            found = cls(filesystem, root)
        except OSError:
            return None  # whoever looks for the folder says what is wrong
        names = [key.name for key in found._page.keys]
        inside = found.base.partition("/")[2]
        # What comes before the storage's keys is known only if one of these was reached.
        return found if names == sorted(names) and any(name.startswith(f"{inside}/") for name in names) else None

    def shows(self, path: str) -> bool | None:
        """Whether there is a key at this path below the root, as the last page tells it; None where it does not."""
        return self._page.shows(f"{self._root}{path}")

    def forget(self) -> None:
        """List everything anew the next time."""
        self._unread = False

    def below(self, folder: str) -> Iterator[Key]:
        """Yield the keys below a folder of the bucket, and end with the page that goes beyond it.

        Example:
            ``for key in keys.below("prefix/docker/registry/v2"): ...``
        """
        if not self._unread or time.monotonic() - self._begun > _FRESH:
            self._page = self._first()
        self._unread = False
        inside = f"{folder}/"
        while True:
            page = self._page
            yield from (key for key in page.keys if key.name.startswith(inside))
            last = page.keys[-1].name if page.keys else ""
            if not page.token or (last > inside and not last.startswith(inside)):
                return
            self._page = self._list(last, ContinuationToken=page.token)

    def _first(self) -> _Page:
        after = f"{self._root}{BASE.removesuffix('v2')}"
        return self._list(after, StartAfter=after)

    def _list(self, after: str, **which: str) -> _Page:
        self.pages += 1
        page = self._filesystem.call_s3("list_objects_v2", Bucket=self._bucket, Prefix=self._root, **which)
        keys = [
            Key(each["Key"], each["Size"], each["LastModified"].timestamp(), each.get("ETag", ""))
            for each in page.get("Contents", ())
        ]
        more = bool(keys) and page.get("IsTruncated")
        return _Page(after, keys, page.get("NextContinuationToken", "") if more else "")

"""A registry's storage, opened: a folder, or wherever fsspec reaches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regnb.analysis.inventory import Inventory
from regnb.crawl.files import opened, shown
from regnb.crawl.records import Records
from regnb.crawl.storage import Reading
from regnb.crawl.walk import Files, LocalFiles, RemoteFiles
from regnb.errors import StorageError
from regnb.oci.layout import BASE


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
    def _opened(self, failed: Callable[[str, Exception], None]) -> Iterator[Files]:
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
                    yield LocalFiles(base, failed) if local else RemoteFiles(fs, base, failed)
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
        reading = Reading(Records(self.url, datetime.now(UTC), source="storage"), brief=brief)
        with self._opened(reading.log.unlisted) as files:
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

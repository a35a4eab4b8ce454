"""Files wherever fsspec reaches them: a local folder, a bucket, another machine; every error says what to do next."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from regnb.errors import MissingExtra, RegnbError, StorageError
from regnb.text import redact, without_logins

if TYPE_CHECKING:
    import fsspec

_EXTRAS: Final = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3")}
_CONNECTIONS: Final = 64
"""Requests at once to a bucket. fsspec sends 128, and botocore lets ten of them through."""


def reason(error: Exception) -> str:
    """Return what an error says, without credentials and not too long.

    Example:
        >>> reason(OSError(28, "No space left on device"))
        'No space left on device'
    """
    return without_logins(getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


@contextmanager
def file_errors(doing: str, hint: str = "") -> Iterator[None]:
    """Turn what goes wrong with a file within into one message: cannot do this, and why.

    Raises:
        StorageError: Of every OSError.

    Example:
        >>> with file_errors("read plan.json"):
        ...     data = Path("plan.json").read_bytes()
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {doing}: {reason(error)}", hint=hint) from None


def local_path(url: str | Path) -> str:
    """Return the path that a URL or a path names on this machine; "" for anything else.

    Example:
        >>> local_path("/srv/registry"), local_path("file:///srv/registry"), local_path("s3://bucket")
        ('/srv/registry', '/srv/registry', '')
    """
    text = str(url)
    if "::" in text or "://" in text.removeprefix("file://"):
        return ""
    return os.path.abspath(os.path.expanduser(text.removeprefix("file://")))  # noqa: PTH100, PTH111 -- a text


@contextmanager
def explained(url: str | Path, what: str) -> Iterator[None]:
    """Turn every error within into one that says what to do.

    Args:
        url: A local path, or a URL such as ``s3://bucket/folder``.
        what: ``read`` or ``write``, for the messages.

    Raises:
        StorageError: There is no such folder or bucket, no permission, or no answer.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> with explained("/srv/registry", "read"):
        ...     pass
    """
    try:
        yield
    except RegnbError:
        raise
    except ImportError as error:
        scheme = str(url).partition("://")[0]
        if scheme in _EXTRAS:
            raise MissingExtra(*_EXTRAS[scheme]) from None
        raise StorageError(
            f"cannot {what} {redact(url)}: {error}", hint="install the library that fsspec names"
        ) from None
    except FileNotFoundError:
        hint = "make the bucket or the folder first" if what == "write" else "check the name; nothing may be there yet"
        raise StorageError(f"no such folder or bucket: {redact(url)}", hint=hint) from None
    except PermissionError:
        raise StorageError(
            f"no permission to {what} {redact(url)}", hint="check the user, or the credentials in the environment"
        ) from None
    except Exception as error:  # noqa: BLE001 -- each file system's library has errors of its own
        hint = "check the URL, the space that is left and the network"
        if "credentials" in str(error):  # botocore's, where there are none or only a part of them
            hint = "set the variables that its library reads, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise StorageError(f"cannot {what} {redact(url)}: {reason(error)}", hint=hint) from None


@contextmanager
def opened(url: str | Path, what: str, **options: object) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Open what a URL or a path names, and turn every error within into one that says what to do.

    Args:
        url: As for :func:`explained`.
        what: As for :func:`explained`.
        options: For the file system, as fsspec takes them.

    Yields:
        The file system, and the path in it.

    Raises:
        StorageError: As :func:`explained`; or it is an archive, whose folders no file system lists.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> with opened("memory://registry", "read") as (fs, path):
        ...     path
        '/registry'
    """
    with explained(url, what):
        import fsspec  # `import regnb` stays light
        from fsspec.archive import AbstractArchiveFileSystem

        if (scheme := str(url).partition("://")[0]) in _EXTRAS:
            told = {**fsspec.config.conf.get(scheme, {}), **options}.get("config_kwargs") or {}
            options["config_kwargs"] = {"max_pool_connections": _CONNECTIONS, **cast("Mapping[str, object]", told)}
        filesystem, path = fsspec.core.url_to_fs(str(url), **options)
        if isinstance(filesystem, AbstractArchiveFileSystem):
            raise StorageError(f"cannot {what} an archive: {redact(url)}", hint="unpack it, and name the folder")
        yield filesystem, path

"""What a plan was made on, kept for its application: of a local storage that reads only what can have changed since.

It lies in the user's cache, named by the digest of its bytes, and the plan names that digest: whoever confirms the plan
confirms it, too. Where it is missing, damaged or older than an hour, everything is read.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
import platformdirs

from regnb.crawl.records import ManifestRecord
from regnb.crawl.survey import Before
from regnb.oci.reference import Digest, is_digest

_LIFE: Final = 3600
"""Seconds: who decides later than that has everything read again."""


class _Manifest(msgspec.Struct, array_like=True, gc=False):
    """What a manifest needs: a digest is its number in the list of all."""

    digest: int
    size: int
    config: int
    subject: int
    layers: tuple[int, ...]
    children: tuple[int, ...]


class _Basis(msgspec.Struct, array_like=True):
    url: str
    digests: list[str]
    manifests: list[_Manifest]
    revisions: dict[str, list[int]]


_decoder = msgspec.msgpack.Decoder(_Basis)


def folder() -> Path:
    """Return where it is kept.

    Example:
        >>> folder().name
        'plans'
    """
    return platformdirs.user_cache_path("regnb") / "plans"


def keep(url: str, before: Before) -> str:
    """Keep what a plan was made on, and return its digest; "" where the cache cannot be written.

    Args:
        url: The storage.
        before: What was read.

    Example:
        >>> keep("/srv/registry", Before({}, {}))[:7]
        'sha256:'
    """
    known = before.manifests.values()
    named = (
        before.manifests,
        [one.config for one in known],
        [one.subject for one in known],
        *[one.layers for one in known],
        *[one.children for one in known],
        *before.revisions.values(),
    )
    digests = list(dict.fromkeys(chain.from_iterable(named)))
    number = dict(zip(digests, range(len(digests)), strict=True)).__getitem__
    manifests = [
        _Manifest(
            number(one.digest),
            one.manifest_size,
            number(one.config),
            number(one.subject),
            tuple(map(number, one.layers)),
            tuple(map(number, one.children)),
        )
        for one in known
    ]
    # A link that says another digest than its path is read again.
    revisions = {
        name: [number(path) for path, digest in links.items() if path == digest]
        for name, links in before.revisions.items()
    }
    data = msgspec.msgpack.encode(_Basis(url, digests, manifests, revisions))
    digest = Digest.of(data)
    where = folder()
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in _old(where):
            old.unlink()
        made = where / f"{digest.hex}.{os.getpid()}"
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        made.replace(where / digest.hex)
    except OSError:
        return ""
    return str(digest)


def load(url: str, digest: str) -> Before | None:
    """Return what a plan was made on; None where everything is to be read.

    Args:
        url: The storage.
        digest: As the plan names it.

    Example:
        >>> load("/srv/registry", "") is None
        True
    """
    if not is_digest(digest):
        return None
    path = folder() / Digest(digest).hex
    try:
        if path in _old(folder()):
            return None
        data = path.read_bytes()
    except OSError:
        return None
    if Digest.of(data) != digest:
        return None
    try:
        return _before(_decoder.decode(data), url)
    except (msgspec.MsgspecError, IndexError):
        return None


def _before(found: _Basis, url: str) -> Before | None:
    if found.url != url:
        return None
    name = found.digests.__getitem__
    manifests = {}
    for one in found.manifests:
        digest = name(one.digest)
        needs = tuple(map(name, one.layers)), tuple(map(name, one.children)), name(one.subject)
        manifests[digest] = ManifestRecord(digest, "", "", "", one.size, name(one.config), *needs)
    revisions = {
        repository: dict(zip(of := list(map(name, links)), of, strict=True))
        for repository, links in found.revisions.items()
    }
    return Before(manifests, revisions)


def _old(where: Path) -> Iterator[Path]:
    """Yield what nobody will ask for any more."""
    for path in where.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if not 0 <= time.time() - path.stat().st_mtime < _LIFE:
                yield path

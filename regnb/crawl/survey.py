"""A quick look at a local storage: what is regular there is taken at once, and what is not is left to the reading.

A registry writes nearly everything in the same way, so nearly everything can be read without asking what it is. What
differs in the least (a repository with a corrupt link, a folder that is not a registry's, an odd manifest) is
not judged here: it is listed and read file by file, and the one place that knows what to say of it says it.
"""

# ruff: noqa: PTH120, PTH208 -- a Path for each of a hundred thousand files would cost more than reading them

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from itertools import chain
from operator import attrgetter
from os import close, read, stat
from os import open as open_
from typing import NamedTuple

from regnb.crawl.listing import LINK_SIZE, UNKNOWN, Listing, Repository
from regnb.crawl.notes import is_repository
from regnb.crawl.records import ManifestRecord
from regnb.crawl.references import references
from regnb.crawl.walk import FOREIGN, File, LocalFiles
from regnb.oci.manifest import MANIFEST_LIMIT
from regnb.oci.reference import is_tag

_READ = os.O_RDONLY | os.O_NONBLOCK
"""What is not a file, such as a pipe, does not keep this waiting."""
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_USUAL = 16_384
"""Bytes that nearly every manifest is smaller than."""
_HEX = 64
"""Letters of a sha256."""


class _Irregular(Exception):
    """Something is not as a registry writes it."""


class Before(NamedTuple):
    """What an earlier look at a storage found.

    Attributes:
        manifests: Of usual shapes, by digest.
        revisions: Repository to the digests of the manifests that it has, by the paths of the links to them.
    """

    manifests: Mapping[str, ManifestRecord]
    revisions: Mapping[str, Mapping[str, str]]


class Survey:
    """Takes what is regular in a local storage, for a garbage collection.

    Args:
        files: Of the storage.
        listing: To fill.
        before: What an earlier look found, if this is another one: then the layer links of repositories that were there
            are only listed, and of what was regular before, no manifest and no link to one is read again, as long as
            it is there.
        layers: Whether to take what the layer links are named by. Else each link's size is looked at alone, by which
            one shows that leads elsewhere. Where all blobs lie under sha256 such a link leads to none of them: who only
            asks what is needed can do without.
        tags: Whether to read what tags point at: for what manifests need, tagged or not, that does not matter.

    Example:
        ``manifests = Survey(files, listing).look()``
    """

    def __init__(
        self,
        files: LocalFiles,
        listing: Listing,
        before: Before | None = None,
        *,
        layers: bool = False,
        tags: bool = True,
    ) -> None:
        self._before = before
        self._layers, self._tags = layers, tags
        self._canonical = False
        self._files = files
        self._base = files.base
        self._known: dict[str, ManifestRecord] = {}
        self._listing = listing
        self._shared: dict[str, str] = {}

    def look(self) -> dict[str, ManifestRecord]:
        """Look at everything that a garbage collection looks at, and at uploads; return the manifests of usual shapes.

        Of a blob that is not a manifest only the folder is seen: `measure` says more.
        """
        self._else("blobs", self._blobs)
        self._else("repositories", self._repositories)
        self._shared.clear()
        return self._known

    def measure(self, digests: Iterable[str]) -> None:
        """Look whether the bytes of blobs are there, and how many they are, unless that is known."""
        sizes = self._listing.sizes
        todo = {digest for digest in digests if sizes.get(digest) == UNKNOWN}
        if not todo:
            return
        with _opened(f"{self._base}/blobs/sha256") as (at, _):
            for digest in todo:
                hexes = digest[7:]
                try:
                    sizes[digest] = stat(f"{hexes[:2]}/{hexes}/data", dir_fd=at).st_size
                except OSError as error:
                    del sizes[digest]
                    if not isinstance(error, FileNotFoundError | NotADirectoryError):
                        self._files.failed(f"blobs/sha256/{hexes[:2]}/{hexes}", error)

    def _else(self, folder: str, look: Callable[[], None]) -> None:
        """Look at a folder; if something in it is not regular, list it file by file."""
        try:
            look()
        except (OSError, _Irregular):
            self._list(folder)

    def _list(self, *folders: str) -> None:
        for file in self._files.walk(brief=True, below=folders):
            self._listing.note(file)

    def _blobs(self) -> None:
        """Take the names of the blobs; whether their bytes are there is asked of those for which it matters."""
        found: list[str] = []
        base = f"{self._base}/blobs"
        algorithms = os.listdir(base)
        self._listing.folders.add("blobs")
        for algorithm in algorithms:
            if algorithm != "sha256":
                raise _Irregular
            for shard in os.listdir(f"{base}/sha256"):
                names = os.listdir(f"{base}/sha256/{shard}")
                # As all are of one length, the first and the last of them say how all begin.
                if not _are_hex(names) or (names and {min(names)[:2], max(names)[:2]} != {shard}):
                    raise _Irregular
                found += [f"sha256:{name}" for name in names]
        self._listing.sizes |= dict.fromkeys(found, UNKNOWN)
        self._shared = dict(zip(found, found, strict=True))
        self._canonical = True

    def _repositories(self) -> None:
        regular: dict[str, Repository] = {}
        odd: list[str] = []
        uploads: list[str] = []
        pending = ["repositories"]
        while pending:
            folder = pending.pop()
            marks: list[str] = []
            with os.scandir(f"{self._base}/{folder}") as entries:
                self._listing.folders.add("repositories")
                for entry in entries:
                    if entry.is_symlink() or entry.name in FOREIGN:
                        raise _Irregular
                    if entry.name.startswith("_"):
                        if not entry.is_dir() or entry.name not in ("_layers", "_manifests", "_uploads"):
                            raise _Irregular
                        marks.append(entry.name)
                    elif entry.is_dir():
                        pending.append(f"{folder}/{entry.name}")
            if "_uploads" in marks:
                marks.remove("_uploads")
                uploads.append(f"{folder}/_uploads")
            if marks:
                name = folder.removeprefix("repositories/")
                found = None
                if len(marks) > 1 and folder != "repositories" and is_repository(name):
                    with contextlib.suppress(OSError, _Irregular):
                        found = self._repository(name)
                if found is None:
                    odd += [f"{folder}/{mark}" for mark in marks]
                else:
                    regular[name] = found
        lost = self._manifests(regular)
        for name, found in regular.items():
            if lost.isdisjoint(found.walked):
                self._listing.repositories[name] = found
            else:
                odd += [f"repositories/{name}/{mark}" for mark in ("_layers", "_manifests")]
        for folder in odd:
            self._listing.note(File(f"{folder}/", 0, 0))
        self._list(*odd, *uploads)

    def _repository(self, name: str) -> Repository:
        """Take a repository that has layers, revisions and tags, each with the link that belongs there, or none."""
        folder = f"{self._base}/repositories/{name}"
        earlier = self._before.revisions.get(name) if self._before else None
        before = earlier or {}
        found = Repository()
        found.has_layers = found.has_manifests = found.has_tags = True
        share = self._shared.setdefault
        with _opened(f"{folder}/_layers/sha256", alone=True) as (at, names):
            known = self._layers and (earlier is not None or self._canonical)
            there = names if known else _linked(names, at)
            if self._layers:
                linked = [f"sha256:{hexes}" for hexes in there]
                found.layers = set(map(share, linked, linked))
        if sorted(os.listdir(f"{folder}/_manifests")) != ["revisions", "tags"]:
            raise _Irregular
        with _opened(f"{folder}/_manifests/revisions/sha256", alone=True) as (at, names):
            digests = [f"sha256:{hexes}" for hexes in names]
            unread = [digest for digest in digests if before.get(digest) != digest] if before else digests
            links = _links([f"{digest[7:]}/link" for digest in unread], at)
            gone = {digest for digest, link in zip(unread, links, strict=True) if link is None}
            if any(link not in (None, digest.encode()) for digest, link in zip(unread, links, strict=True)):
                raise _Irregular
            found.walked = dict.fromkeys(share(digest, digest) for digest in digests if digest not in gone)
        if not self._tags:
            return found
        by_link: dict[bytes | None, str] = {digest.encode(): digest for digest in found.walked}
        with _opened(f"{folder}/_manifests/tags") as (at, names):
            links = _links([f"{name}/current/link" for name in names], at)
        if not (by_link.keys() >= set(links) and all(map(is_tag, names))):  # a tag without a link, too
            raise _Irregular
        found.current = dict(zip(names, map(by_link.__getitem__, links), strict=True))
        return found

    def _manifests(self, repositories: dict[str, Repository]) -> set[str]:
        """Read the manifests that some repositories have, and return those whose bytes are not there, or others'."""
        lost: set[str] = set()
        digests = dict.fromkeys(chain.from_iterable(found.walked for found in repositories.values()))
        earlier = self._before.manifests if self._before else {}
        sizes, share = self._listing.sizes, self._shared.setdefault
        if not digests:
            return lost
        with _opened(f"{self._base}/blobs/sha256") as (blobs, _):
            for digest in digests:
                if (known := earlier.get(digest)) and digest in sizes:
                    sizes[digest] = known.manifest_size
                    self._known[digest] = known
                    continue
                hexes = digest[7:]
                try:
                    data = _bytes(f"{hexes[:2]}/{hexes}/data", blobs)
                except OSError:
                    data = b""
                if not 0 < len(data) <= MANIFEST_LIMIT or sha256(data).hexdigest() != hexes:
                    lost.add(digest)
                    continue
                sizes[digest] = len(data)
                if named := references(data):
                    config, layers, children, subject = named
                    self._known[digest] = ManifestRecord(
                        *(digest, "", "", "", len(data), share(config, config)),
                        tuple(map(share, layers, layers)),
                        tuple(map(share, children, children)),
                        subject,
                    )
        return lost


@contextlib.contextmanager
def _opened(folder: str, *, alone: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Open a folder, and give its number with the names in it; if it is to be alone, they are digests.

    Raises:
        _Irregular: Something else is beside it, or among the digests.
    """
    if alone:
        beside = os.listdir(os.path.dirname(folder))
        if not beside:
            yield -1, []
            return
        if len(beside) > 1:
            raise _Irregular
    at = os.open(folder, _LIST)
    try:
        names = os.listdir(at)
        if alone and not _are_hex(names):
            raise _Irregular
        yield at, names
    finally:
        os.close(at)


def _linked(names: list[str], folder: int) -> list[str]:
    """Return those of these folders that have a link.

    Raises:
        _Irregular: The link of one of them has not the size of a link.
    """
    size, about = attrgetter("st_size"), partial(stat, dir_fd=folder)
    found = names
    try:
        sizes = set(map(size, map(about, [f"{name}/link" for name in names])))
    except FileNotFoundError:
        found, sizes = [], set[int]()
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # it is deleted
                sizes.add(size(about(f"{name}/link")))
                found.append(name)
    if not sizes <= {LINK_SIZE}:
        raise _Irregular
    return found


def _links(paths: Iterable[str], folder: int) -> list[bytes | None]:
    """Return what is in some links, None where there is none; of what is too long, more than a link has."""
    found: list[bytes | None] = []
    for path in paths:
        try:
            at = open_(path, _READ, dir_fd=folder)
        except FileNotFoundError:
            found.append(None)
            continue
        try:
            found.append(read(at, LINK_SIZE + 1))
        finally:
            close(at)
    return found


def _bytes(path: str, folder: int) -> bytes:
    """Return what is in a manifest's file; more than a manifest has only if it is none."""
    at = open_(path, _READ, dir_fd=folder)
    try:
        data = read(at, _USUAL)
        return data + read(at, MANIFEST_LIMIT) if len(data) == _USUAL else data
    finally:
        close(at)


def _are_hex(names: list[str]) -> bool:
    """Whether all names are those of a sha256."""
    text = "".join(names)
    try:
        whole = 2 * len(bytes.fromhex(text)) == len(text)
    except ValueError:
        return False
    return whole and text == text.lower() and set(map(len, names)) <= {_HEX}

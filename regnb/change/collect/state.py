"""What a storage holds, as far as it decides what nothing needs: no frames, and no configs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Final, Protocol, TypeAlias

from regnb.crawl.contents import Contents
from regnb.crawl.files import reason
from regnb.crawl.listing import LINK_LIMIT, Listing, Repository, blob_file
from regnb.crawl.notes import Notes, is_repository
from regnb.crawl.records import ManifestRecord, Records
from regnb.crawl.survey import Before, Survey
from regnb.crawl.walk import Files, LocalFiles
from regnb.oci.reference import is_digest

_DIGEST: Final = re.compile(rb"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_WHOLE: Final = 1 << 26
"""Bytes of a malformed manifest that are searched for digests."""

Open: TypeAlias = Callable[[Callable[[str, Exception], None]], AbstractContextManager[Files]]
"""Opens a storage's files, given what notes a folder that cannot be listed."""


class Needing(Protocol):
    """What a manifest needs: its config, its layers, and the manifests that it lists; and what it speaks about."""

    @property
    def config(self) -> str:
        """Digest, or ""."""

    @property
    def layers(self) -> Collection[str]:
        """Digests."""

    @property
    def children(self) -> Collection[str]:
        """Digests."""

    @property
    def subject(self) -> str:
        """Digest, or ""."""


@dataclass(slots=True)
class Malformed:
    """A manifest that cannot be understood: it may need every digest in it."""

    layers: tuple[str, ...]
    config: str = ""
    subject: str = ""

    @property
    def children(self) -> tuple[str, ...]:
        """The same digests: each may be a manifest as well."""
        return self.layers


@dataclass(slots=True)
class Holding:
    """What a repository holds.

    Attributes:
        revisions: Digest by a link's path, to the digest in the link, which is what the registry serves; the same where
            the link is corrupt.
        tags: Tag to digest; "" where it leads nowhere.
        unread: Tags whose links are corrupt: what they mean is not known.
        layers: Digests that have a folder below ``_layers``, and nearly always a link in it.
        named: Whether a registry can have a repository of this name: in others nothing is touched.
    """

    revisions: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    layers: set[str] = field(default_factory=set)
    named: bool = True


@dataclass(slots=True)
class State:
    """What a storage holds at one moment.

    Attributes:
        repositories: By name.
        uploading: Repositories with a folder for uploads.
        blobs: Digest to bytes; below zero where only a folder was seen.
        manifests: What each manifest needs, by digest.
        aliases: Digest by which a layer is linked, to the digest that its bytes lie under.
        gaps: What could not be read, a sentence each: nothing may be called garbage then.
        files: Of a bucket every key to when it was written (seconds) and its bytes, those of parts included.
        parts: Of a bucket the upload that each key which is being written in parts has; None if they cannot be listed.
    """

    repositories: dict[str, Holding]
    uploading: list[str]
    blobs: dict[str, int]
    manifests: Mapping[str, Needing]
    aliases: Mapping[str, str]
    gaps: list[str]
    files: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    parts: Mapping[str, Sequence[str]] | None = field(default_factory=dict)

    def below(self, roots: Iterable[str]) -> set[str]:
        """Return some manifests with all that they list."""
        found: set[str] = set()
        todo = list(roots)
        while todo:
            digest = todo.pop()
            if digest not in found:
                found.add(digest)
                if needing := self.manifests.get(digest):
                    todo += needing.children
        return found

    def needed(self, manifests: Iterable[str]) -> set[str]:
        """Return the blobs that some manifests need, by each digest that they go by, their own bytes included."""
        found = set(manifests)
        listed = list(self._of(found))
        found.update(chain.from_iterable(one.layers for one in listed))
        found.update(chain.from_iterable(one.children for one in listed if one.children))
        found.update(one.config for one in listed)
        if self.aliases:
            found.update([self.aliases[digest] for digest in found & self.aliases.keys()])
        return found

    def _of(self, manifests: Iterable[str]) -> Iterator[Needing]:
        return (one for one in map(self.manifests.get, manifests) if one)

    def lacking(self, blobs: set[str]) -> list[str]:
        """Return the blobs of some that are not on disk, by the digests that they go by."""
        return [blob for blob in blobs.difference(self.blobs) if self.aliases.get(blob) not in self.blobs]

    def known(self) -> Before:
        """Return what need not be read again while it is there."""
        whole = {digest: one for digest, one in self.manifests.items() if isinstance(one, ManifestRecord)}
        return Before(whole, {name: one.revisions for name, one in self.repositories.items()})

    def served(self, name: str) -> set[str]:
        """Return every manifest that a repository has, tagged or not."""
        revisions = self.repositories[name].revisions
        return {*revisions, *revisions.values()}

    def witness(self) -> tuple[str, str]:
        """Return a repository and a manifest that a tag of it leads to, and that it has; nothing if there is none."""
        for name, holding in sorted(self.repositories.items()):
            known = self.served(name) if holding.named else ()
            for _, digest in sorted(holding.tags.items()):
                if digest in known and isinstance(self.manifests.get(digest), ManifestRecord):
                    return name, digest
        return "", ""

    def broken(self) -> set[tuple[str, str, str]]:
        """Return what tags lead to and a repository does not have: its name, what sort it is, and the digest."""
        found: set[tuple[str, str, str]] = set()
        for name, holding in self.repositories.items():
            served = self.served(name)
            reached = self.below(digest for digest in holding.tags.values() if digest)
            found.update((name, "revision", digest) for digest in reached - served)
            # A child that the repository never had, as a mirror leaves a platform out, cannot become worse.
            reached &= served
            blobs = set(chain.from_iterable(one.layers for one in self._of(reached)))
            blobs.update(one.config for one in self._of(reached))
            blobs.discard("")
            found.update((name, "layer link", blob) for blob in blobs - holding.layers)
            found.update((name, "blob", blob) for blob in self.lacking(reached | blobs))
        return found


def read(open_files: Open, url: str, before: Before | None = None, *, parts: bool = True, tags: bool = True) -> State:
    """Read what a storage holds.

    Args:
        open_files: Opens its files.
        url: What it is called.
        before: What was found a moment ago: of a local storage, only what can have changed is read then.
        parts: Whether to ask a bucket for what is being written in parts.
        tags: Whether it matters what tags point at; else those of a local storage may be left out.

    Raises:
        StorageError: It is not there, or cannot be read at all.

    Example:
        ``state = read(storage.files, storage.url)``
    """
    records = Records(url, datetime.now(UTC), source="storage")
    notes = Notes(records)
    keys: dict[str, tuple[float, int]] = {}
    written: Mapping[str, Sequence[str]] | None = {}
    with open_files(notes.unlisted) as files:
        listing = Listing(notes, brief=True)
        survey = Survey(files, listing, before, layers=True, tags=tags) if isinstance(files, LocalFiles) else None
        if survey:
            records.manifests.update(survey.look())
        else:
            for file in files.walk(brief=True):
                listing.note(file)
                if not file.path.endswith("/"):
                    keys[file.path] = (file.when, file.size)
            if parts:
                written = _parts(files, listing, keys)
        reading = _Reading(listing, files, notes)
        found = listing.repositories.items()
        state = State(
            {name: reading.holding(one, named=is_repository(name)) for name, one in found},
            sorted(filter(is_repository, {name for name, _ in listing.uploads})),
            listing.sizes,
            {},
            reading.aliases(),
            reading.gaps,
            keys,
            written,
        )
        if survey:
            survey.measure({digest for name in state.repositories for digest in state.served(name)})
        state.manifests = reading.manifests(state)
    state.gaps += [
        f"{problem.repository} {problem.reference}: {problem.message}".strip()
        for problem in records.problems
        if problem.incomplete
    ]
    return state


def _parts(files: Files, listing: Listing, keys: dict[str, tuple[float, int]]) -> Mapping[str, Sequence[str]] | None:
    """Add to the keys of a bucket what is being written in parts, and return the names of these uploads."""
    found: dict[str, list[str]] = {}
    try:
        for file in files.parts():
            when, size = keys.get(file.path, (0.0, 0))
            keys[file.path] = (max(when, file.when), size + file.size)
            listing.parts(file)
            found.setdefault(file.path, []).append(file.upload)
    except Exception:  # noqa: BLE001 -- each bucket's library has errors of its own, and this right is often denied
        return None
    return found


class _Reading:
    """The links and manifests of a storage, once its files are listed."""

    def __init__(self, listing: Listing, files: Files, notes: Notes) -> None:
        self.gaps: list[str] = []
        self._listing, self._files, self._notes = listing, files, notes
        self._links = dict(self._read(self._wanted()))

    def _wanted(self) -> Iterator[str]:
        for found in self._listing.repositories.values():
            yield from found.revisions.values()
            yield from found.strays
            yield from filter(None, found.tags.values())

    def _read(self, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the digest in each link; "" where it holds none."""
        for path, data in self._files.read((path, LINK_LIMIT) for path in paths):
            if isinstance(data, bytes):
                text = data.decode("ascii", "replace")
                yield path, text if is_digest(text) and path not in self._listing.large else ""
            elif isinstance(data, IsADirectoryError | NotADirectoryError):
                yield path, ""
            elif not isinstance(data, FileNotFoundError):
                self.gaps.append(f"cannot read {path}: {reason(data)}")

    def holding(self, found: Repository, *, named: bool) -> Holding:
        """Return what a repository holds."""
        links = self._links
        revisions = {digest: links[path] or digest for digest, path in found.revisions.items() if path in links}
        revisions |= {target: target for path in found.strays if (target := links.get(path, ""))}
        tags = {tag: links.get(path, "") for tag, path in found.tags.items()}
        revisions |= zip(found.walked, found.walked, strict=True)
        tags |= found.current
        unread = [tag for tag, path in found.tags.items() if path in links and not links[path]]
        return Holding(revisions, tags, unread + found.bad_tags, found.layers, named)

    def aliases(self) -> dict[str, str]:
        """Return what the links of layers lead to that are named by another digest, or have no digest's length."""
        found: dict[str, str] = {}
        odd = (path for one in self._listing.repositories.values() for path in one.odd_layers)
        for path, target in self._read(odd):
            alias = path.removesuffix("/link").rpartition("/_layers/")[2].replace("/", ":")
            if target and found.setdefault(alias, target) != target:
                self.gaps.append(f"links of the layer {alias} lead to different blobs: {target} and {found[alias]}")
        return found

    def manifests(self, state: State) -> dict[str, Needing]:
        """Return what every manifest needs that some repository has."""
        first: dict[str, str] = {}
        for name in state.repositories:
            for digest in state.served(name) & state.blobs.keys():
                first.setdefault(digest, name)
        records, read = self._notes.records, dict[str, Needing]()
        needs = Contents(self._notes, self._listing, self._files, first).manifests()
        read.update(records.manifests)
        doubtful = {digest for digest, one in records.manifests.items() if one.kind == "malformed"} | needs.fatal.keys()
        damaged = {problem.reference for problem in records.problems if problem.problem == "mismatch"}
        sizes = {blob_file(digest): state.blobs[digest] for digest in doubtful}
        for path, data in self._files.read((path, min(size, _WHOLE)) for path, size in sizes.items()):
            if isinstance(data, bytes) and len(data) == sizes[path]:
                digest = ":".join((path.split("/")[1], path.split("/")[3]))
                read[digest] = Malformed(tuple({one.decode() for one in _DIGEST.findall(data)}))
            else:
                self.gaps.append(f"cannot read the manifest {path}")
        for name, holding in state.repositories.items():
            for digest in damaged & state.served(name):
                # What its bytes said before they were damaged may be any of what the repository has.
                known = read[digest]
                here = {*known.layers, *known.children, known.config, *holding.layers, *state.served(name)}
                read[digest] = Malformed(tuple(here - {"", digest}))
        return read

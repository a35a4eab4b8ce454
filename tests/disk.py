"""What a registry's disk holds, read with nothing but json, hashlib and os: a second opinion on whatever regnb says.

It reads the layout of CNCF distribution (``docker/registry/v2``), knows nothing of HTTP, and shares no code with regnb.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

_V2: Final = "docker/registry/v2"


class Name(NamedTuple):
    """A tag, or a manifest by its digest, in a repository."""

    repository: str
    target: str

    def __str__(self) -> str:
        return f"{self.repository}{'@' if self.target.startswith('sha256:') else ':'}{self.target}"


@dataclass(frozen=True)
class Content:
    """A blob's bytes as far as they are a manifest.

    Attributes:
        size: Bytes on disk.
        good: Whether the bytes have the digest that their folder is named after.
        children: Digests of the manifests that it lists.
        blobs: Digest and size of config and layers.
        subject: The digest that it refers to, or "".
    """

    size: int
    good: bool
    children: tuple[str, ...] = ()
    blobs: tuple[tuple[str, int], ...] = ()
    subject: str = ""


@dataclass(frozen=True)
class State:
    """A registry's disk at one moment.

    Attributes:
        tags: Where each tag points; "" for a tag whose link is empty or missing.
        revisions: The manifests of each repository, by digest.
        links: The blobs that each repository may serve.
        blobs: Every blob on disk.
    """

    tags: dict[Name, str] = field(default_factory=dict)
    revisions: set[Name] = field(default_factory=set)
    links: set[Name] = field(default_factory=set)
    blobs: dict[str, Content] = field(default_factory=dict)
    repositories: set[str] = field(default_factory=set)
    _whole: dict[Name, bool] = field(default_factory=dict)

    def whole(self, name: Name) -> bool:
        """Whether a manifest, and everything that it needs, is there and has the right bytes."""
        if name not in self._whole:
            self._whole[name] = False  # a manifest cannot need itself
            self._whole[name] = self._is_whole(name)
        return self._whole[name]

    def _is_whole(self, name: Name) -> bool:
        found = self.blobs.get(name.target)
        if name not in self.revisions or found is None or not found.good:
            return False
        for digest, size in found.blobs:
            blob = self.blobs.get(digest)
            if blob is None or not blob.good or blob.size != size or Name(name.repository, digest) not in self.links:
                return False
        return all(self.whole(Name(name.repository, child)) for child in found.children)

    def tagged(self, repository: str, digest: str) -> set[str]:
        """The tags of a repository that point at a digest."""
        return {name.target for name, found in self.tags.items() if name.repository == repository and found == digest}

    def behind(self, name: Name) -> set[Name]:
        """The manifests that one leads to, itself included."""
        found: set[Name] = set()
        todo = [name]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                content = self.blobs.get(each.target)
                todo += [Name(each.repository, child) for child in content.children] if content else []
        return found

    def reachable(self) -> set[Name]:
        """Every manifest that a tag leads to."""
        return set().union(
            *(self.behind(Name(name.repository, digest)) for name, digest in self.tags.items() if digest)
        )

    def size(self, name: Name) -> int:
        """Bytes of every blob behind a manifest, each once."""
        sizes: dict[str, int] = {}
        for each in self.behind(name):
            content = self.blobs[each.target]
            sizes[each.target] = content.size
            sizes |= dict(content.blobs)
        return sum(sizes.values())


def read(root: Path) -> State:
    """Read the storage below a folder."""
    state = State()
    top = root / _V2 / "repositories"
    for path, folders, _ in os.walk(top):
        name = os.path.relpath(path, top)
        if "_manifests" in folders or "_layers" in folders:
            state.repositories.add(name)
            _read_repository(state, Path(path), name)
        folders[:] = [each for each in folders if not each.startswith("_")]
    for path, _, files in os.walk(root / _V2 / "blobs"):
        if "data" in files:
            digest = f"{Path(path).parent.parent.name}:{Path(path).name}"
            state.blobs[digest] = content(digest, (Path(path) / "data").read_bytes())
    return state


def _read_repository(state: State, folder: Path, name: str) -> None:
    for tag in _entries(folder / "_manifests/tags"):
        state.tags[Name(name, tag)] = _link(folder / "_manifests/tags" / tag / "current/link")
    for hexadecimal in _entries(folder / "_manifests/revisions/sha256"):
        if _link(folder / "_manifests/revisions/sha256" / hexadecimal / "link") == f"sha256:{hexadecimal}":
            state.revisions.add(Name(name, f"sha256:{hexadecimal}"))
    for hexadecimal in _entries(folder / "_layers/sha256"):
        if _link(folder / "_layers/sha256" / hexadecimal / "link") == f"sha256:{hexadecimal}":
            state.links.add(Name(name, f"sha256:{hexadecimal}"))


def _entries(folder: Path) -> list[str]:
    try:
        return [each.name for each in os.scandir(folder)]
    except FileNotFoundError:
        return []


def _link(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        return ""


def content(digest: str, data: bytes) -> Content:
    """Read a blob's bytes as far as they are a manifest."""
    good = digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    document: Any = None
    if data.startswith(b"{"):
        try:
            document = json.loads(data)
        except ValueError:
            document = None
    if not isinstance(document, dict) or "schemaVersion" not in document:
        return Content(len(data), good)
    blobs = [document["config"]] if "config" in document else []
    blobs += document.get("layers") or []
    return Content(
        len(data),
        good,
        tuple(each["digest"] for each in document.get("manifests") or []),
        tuple((each["digest"], each["size"]) for each in blobs),
        (document.get("subject") or {}).get("digest", ""),
    )

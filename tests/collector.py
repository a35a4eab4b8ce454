"""The garbage collector of distribution 3 as a model, and storages at random for it to collect.

The model follows the sources that the table in ``docs/storage.md`` names, function by function, and nothing of regnb.
It judges what regnb says of version 3. That of version 2.8 is judged by the real program.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from images import pack

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_IMAGE = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"


class Failed(Exception):
    """The collection ended before it removed anything."""


class PathNotFound(Exception):
    """The storage driver's error of this name, which the collection treats apart."""


class Collected(NamedTuple):
    """What a collection of version 3 removes.

    Attributes:
        blobs: From the storage.
        manifests: How many it takes out of their repositories.
        red: Whether the program then ends with exit code 1.
    """

    blobs: frozenset[str]
    manifests: int
    red: bool


class Collector3:
    """``MarkAndSweep`` of version 3 over a folder, without the sweep."""

    def __init__(self, root: Path) -> None:
        self.base = root / "docker/registry/v2"
        self.marked: set[str] = set()
        self.doomed: list[tuple[str, str]] = []
        self.red = False

    def run(self, *, untagged: bool) -> Collected:
        repositories = self.base / "repositories"
        if not repositories.is_dir():
            raise Failed("no repositories")
        for folder in self._repositories(repositories):
            self._mark(folder.relative_to(repositories).as_posix(), folder, untagged=untagged)
        manifests = sum(digest not in self.marked for _, digest in self.doomed)
        there = {f"{path.parts[-4]}:{path.parts[-2]}" for path in (self.base / "blobs").glob("*/*/*/data")}
        return Collected(frozenset(there - self.marked), manifests, self.red)

    def _repositories(self, folder: Path) -> Iterator[Path]:
        """catalog.go, handleRepository: a folder that has ``_manifests``, in the order of the driver's Walk."""
        for child in sorted(folder.iterdir(), key=lambda path: path.name):
            if child.name == "_manifests":
                yield folder
            elif child.is_dir() and not child.name.startswith("_"):
                yield from self._repositories(child)

    def _mark(self, name: str, folder: Path, *, untagged: bool) -> None:
        """garbagecollect.go, the function that MarkAndSweep hands to Enumerate."""
        try:
            for digest in self._linked(folder, "_manifests/revisions"):
                if untagged and not self._tags(folder, digest):
                    if (folder / "_manifests/tags").is_dir():
                        self.doomed.append((name, digest))
                    continue
                self.marked.add(digest)
                self._references(folder, digest)
        except PathNotFound:
            pass  # "we can continue marking other manifests safely"
        unmarked: list[str] = []
        try:
            unmarked = [digest for digest in self._linked(folder, "_layers") if digest not in self.marked]
        except PathNotFound:
            raise Failed(f"{name} has no _layers") from None
        # The second removal of the same link finds nothing.
        self.red |= len(unmarked) > len(set(unmarked))

    def _linked(self, folder: Path, where: str) -> Iterator[str]:
        """linkedblobstore.go, Enumerate: what links hold, if that is linked itself and its bytes are there."""
        if not (folder / where).is_dir():
            raise PathNotFound(where)
        for path in sorted((folder / where).rglob("link")):
            if path.is_file() and self._stat(folder, where, digest := self._read(path)):
                yield digest

    def _stat(self, folder: Path, where: str, digest: str) -> bool:
        """linkedblobstore.go, linkedBlobStatter.Stat."""
        path = folder / where / digest.replace(":", "/") / "link"
        return path.is_file() and self._data(self._read(path)).is_file()

    @staticmethod
    def _read(path: Path) -> str:
        text = path.read_text()
        if not _DIGEST.fullmatch(text):
            raise Failed(f"{path}: invalid digest")
        return text

    def _data(self, digest: str) -> Path:
        algorithm, _, text = digest.partition(":")
        return self.base / "blobs" / algorithm / text[:2] / text / "data"

    def _tags(self, folder: Path, digest: str) -> list[str]:
        """tagstore.go, Lookup: the tags that point at it now."""
        tags = folder / "_manifests/tags"
        found = []
        for tag in tags.iterdir() if tags.is_dir() else ():
            link = tag / "current/link"
            if link.is_file() and self._read(link) == digest:
                found.append(tag.name)
        return found

    def _references(self, folder: Path, digest: str) -> None:
        """garbagecollect.go, markManifestReferences: "do not visit references if already marked"."""
        document = json.loads(self._data(digest).read_bytes())
        if document.get("schemaVersion") != 2:
            raise Failed(f"unrecognized manifest schema version of {digest}")
        descriptors = [*document.get("manifests", []), *document.get("layers", [])]
        for each in [*descriptors, *([document["config"]] if "config" in document else [])]:
            if each["digest"] in self.marked:
                continue
            self.marked.add(each["digest"])
            if self._stat(folder, "_manifests/revisions", each["digest"]):
                self._references(folder, each["digest"])


class Disk:
    """A storage that is written by hand and at random, so that no registry has to agree with what is in it.

    It has tagged and untagged images, layers by sha512, layers and configs that are truncated or empty, indexes (sparse
    ones, nested ones, in repositories without layers), layers that are manifests, and repositories without tags.
    """

    NAMES = ("app", "app/sub", "app-2", "base", "team/a", "team.b/c", "0/z", "x/0")

    def __init__(self, folder: Path, seed: object) -> None:
        self.random = random.Random(repr(seed))  # noqa: S311 -- not secret, but the same each time
        self.root = folder / "storage"
        self.base = self.root / "docker/registry/v2"
        (self.base / "repositories").mkdir(parents=True)
        (self.base / "blobs").mkdir()
        self.names = self.random.sample(self.NAMES, self.random.randint(1, 4))
        self.pool = [self.random.randbytes(self.random.randint(1, 400)) for _ in range(6)]
        self.made: list[bytes] = []
        self._odd = self.random.random() < 0.3
        for _ in range(self.random.randint(2, 14)):
            self.random.choices([self._image, self._index, self._copy, self._loose], [5, 4, 4, 1])[0]()
        for _ in range(self.random.randint(0, 2)):
            self._harm()

    def often(self, chance: float) -> bool:
        return self.random.random() < chance

    def _write(self, path: Path, data: bytes | str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def data(self, digest: str) -> Path:
        algorithm, _, text = digest.partition(":")
        return self.base / "blobs" / algorithm / text[:2] / text / "data"

    def folder(self, name: str) -> Path:
        return self.base / "repositories" / name

    def _blob(self, name: str, data: bytes, *, aliased: bool = False) -> dict[str, Any]:
        """Push a blob as version 3 does; by its sha512 it is linked twice, and its bytes lie under sha256."""
        digest = _sha256(data)
        if not self.data(digest).exists():
            self._write(self.data(digest), data)
        named = "sha512:" + hashlib.sha512(data).hexdigest() if aliased else digest
        for each in {digest, named}:
            self._write(self.folder(name) / "_layers" / each.replace(":", "/") / "link", digest)
        return {"digest": named, "size": len(data)}

    def _manifest(self, name: str, data: bytes) -> None:
        digest = _sha256(data)
        self._write(self.data(digest), data)
        self._write(self.folder(name) / "_manifests/revisions" / digest.replace(":", "/") / "link", digest)
        (self.folder(name) / "_manifests/tags").mkdir(exist_ok=True)
        if self.often(0.6):
            self.tag(name, self.random.choice("abc"), digest)
        if data not in self.made:
            self.made.append(data)

    def tag(self, name: str, tag: str, digest: str) -> None:
        self._write(self.folder(name) / "_manifests/tags" / tag / "current/link", digest)

    def _image(self) -> None:
        name = self.random.choice(self.names)
        layers = [*self.random.sample(self.pool, self.random.randint(0, 3)), self.random.randbytes(20)]
        descriptors = [{"mediaType": _LAYER, **self._blob(name, data, aliased=self.often(0.1))} for data in layers]
        if self.made and self.often(0.08):
            descriptors.append({"mediaType": _LAYER, **self._blob(name, self.random.choice(self.made))})
        config = {"mediaType": _CONFIG, **self._blob(name, pack({"n": len(self.made)}))}
        document = {"schemaVersion": 2, "mediaType": _IMAGE, "config": config, "layers": descriptors}
        if self._odd and self.often(0.03):
            document = {"schemaVersion": 1, "name": name, "tag": "x", "fsLayers": [], "history": []}
        self._manifest(name, pack(document))

    def _index(self) -> None:
        """An index of manifests of any repository: in its own it may lack some of them."""
        name = self.random.choice(self.names)
        if self._odd and self.often(0.1):
            name = "bare"
        chosen = self.random.sample(self.made, min(len(self.made), self.random.randint(0, 3)))
        entries = [
            {"mediaType": _INDEX if b'"manifests"' in data else _IMAGE, "digest": _sha256(data), "size": len(data)}
            for data in chosen
        ]
        if name != "bare" or self.often(0.3):
            (self.folder(name) / "_layers").mkdir(parents=True, exist_ok=True)
        document = {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": entries,
            "annotations": {"n": str(len(self.made))},
        }
        self._manifest(name, pack(document))
        for data in chosen:
            if self.often(0.6):
                self._take(name, data)

    def _copy(self) -> None:
        """A manifest in another repository, with some of what it needs."""
        if self.made:
            name = self.random.choice(self.names)
            (self.folder(name) / "_layers").mkdir(parents=True, exist_ok=True)
            self._take(name, self.random.choice(self.made))

    def _take(self, name: str, data: bytes) -> None:
        self._manifest(name, data)
        document = json.loads(data)
        for each in [*document.get("layers", []), *([document["config"]] if "config" in document else [])]:
            if each["digest"].startswith("sha256") and self.data(each["digest"]).exists():
                self._write(self.folder(name) / "_layers" / each["digest"].replace(":", "/") / "link", each["digest"])

    def _loose(self) -> None:
        self._blob(self.random.choice(self.names), self.random.randbytes(30), aliased=self.often(0.1))

    def _harm(self) -> None:
        """Truncate, empty or remove a layer; seldom something that ends a collection."""
        links = sorted(self.base.glob("repositories/**/_layers/sha256/*/link"))
        manifests = {_sha256(data) for data in self.made}
        linked = [f"sha256:{link.parent.name}" for link in links]
        blobs = [self.data(digest) for digest in linked if digest not in manifests and self.data(digest).exists()]
        match self.random.choice(["truncate", "empty", "remove", "tags", "layer link", "revision"]):
            case "truncate" if blobs:
                path = self.random.choice(blobs)
                path.write_bytes(path.read_bytes()[:-1])
            case "empty" if blobs:
                self.random.choice(blobs).write_bytes(b"")
            case "remove" if blobs:
                self.random.choice(blobs).unlink()
            case "tags" if self._odd:
                shutil.rmtree(self.folder(self.random.choice(self.names)) / "_manifests/tags", ignore_errors=True)
            case "layer link" if self._odd and links:
                self.random.choice(links).write_text(self.random.choice(["", "sha256:12", "x" * 2000]))
            case "revision":
                revisions = sorted(self.base.glob("repositories/**/_manifests/revisions/*/*/link"))
                if revisions:
                    self.random.choice(revisions).unlink()

    def tags(self) -> dict[tuple[str, str], str]:
        """Repository and tag, to the digest."""
        repositories = self.base / "repositories"
        links = repositories.glob("**/_manifests/tags/*/current/link")
        return {
            (link.parents[4].relative_to(repositories).as_posix(), link.parts[-3]): link.read_text() for link in links
        }

    def _listed(self, name: str, digest: str) -> list[str]:
        """The manifests of a repository that one of its indexes lists."""
        there = self.folder(name) / "_manifests/revisions"
        if not (there / digest.replace(":", "/") / "link").exists():
            return []
        entries = json.loads(self.data(digest).read_bytes()).get("manifests", [])
        return [one for each in entries if (there / (one := each["digest"]).replace(":", "/") / "link").exists()]

    def delete(self, tags: Sequence[tuple[str, str]]) -> None:
        """Delete some tags, and their manifests unless another tag needs them, or an index that a tag leads to."""
        pointed = self.tags()
        seen: set[tuple[str, str]] = set()
        todo = [(name, digest) for (name, _), digest in pointed.items()]
        while todo:
            if (one := todo.pop()) not in seen:
                seen.add(one)
                todo += [(one[0], child) for child in self._listed(*one)]
        chosen = {(name, pointed[name, tag]) for name, tag in tags}
        for name, tag in tags:
            shutil.rmtree(self.folder(name) / "_manifests/tags" / tag)
        kept = {(name, digest) for (name, _), digest in self.tags().items()}
        while going := chosen - kept - {(name, child) for name, digest in seen for child in self._listed(name, digest)}:
            for name, digest in going:
                (self.folder(name) / "_manifests/revisions" / digest.replace(":", "/") / "link").unlink()
            chosen -= going


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()

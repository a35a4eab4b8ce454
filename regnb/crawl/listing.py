"""The listing of a storage: which repositories, blobs and uploads there are, and what takes up the space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from regnb.crawl.notes import Notes, encodable, is_repository, repository_of
from regnb.crawl.records import ProblemKind, UploadRecord, Usage
from regnb.crawl.walk import FOREIGN, File
from regnb.errors import InvalidReference
from regnb.oci.reference import check_tag, is_digest
from regnb.text import count

LINK_LIMIT: Final = 1024
"""Bytes of a link: what has more is none."""
CURRENT: Final = "current/link"
BLOB_FILE: Final = re.compile(
    r"blobs/(?=sha256/../.{64}/|sha384/../.{96}/|sha512/../.{128}/)(sha\d+)/([0-9a-f]{2})/(\2[0-9a-f]+)/data"
)
_PATH: Final = re.compile("[A-Za-z0-9._-]+")
LINK_SIZE: Final = len("sha256:") + 64
"""Bytes of a link to a blob: every version of distribution stores the bytes under sha256."""
UNKNOWN: Final = -1
"""The size of a blob of which no more is known than that its folder is there."""


class Repository:
    """What lies in a repository's folder.

    Attributes:
        has_layers: Whether there is a ``_layers``: else a collection of 2.8 sees no repository, and one of 3 ends.
        has_manifests: Whether there is a ``_manifests``: by it a collection of 3 finds the repository.
        has_tags: Whether there is a folder for tags.
        revisions: Digest by its path to the path of its link.
        strays: Links below ``revisions`` whose path is no digest's.
        tags: Tag to the path of its current link; "" if there is none.
        pushed: Tag to when its current link was written.
        bad_tags: Files where the folder of a tag should be.
        history: Tag, digest, and when the link was written.
        layers: Digests of the links below ``_layers``, by their paths.
        odd_layers: Of these the paths of links that are not by sha256, or too short or too long for one.
        walked: Digests of the manifests that a garbage collection visits.
        current: Tag to its digest, of a repository in which all is regular: nothing more need be read there.
    """

    def __init__(self) -> None:
        self.has_layers = self.has_manifests = self.has_tags = False
        self.revisions: dict[str, str] = {}
        self.strays: list[str] = []
        self.tags: dict[str, str] = {}
        self.pushed: dict[str, float] = {}
        self.bad_tags: list[str] = []
        self.history: list[tuple[str, str, float]] = []
        self.layers: set[str] = set()
        self.odd_layers: list[str] = []
        self.walked: dict[str, None] = {}
        self.current: dict[str, str] = {}


class Listing:
    """What a storage's listing tells, file by file.

    Args:
        notes: Where problems are noted.
        brief: Whether only a garbage collection's view is wanted.

    Attributes:
        repositories: By name.
        sizes: Digest of each blob on disk to its bytes, or to `UNKNOWN`.
        uploads: By repository and upload.
        begun: Path of the file that says when an upload was begun, to the upload.
        large: Paths of links that are too large to be links.
        folders: Of ``blobs`` and ``repositories`` those that are there.
        disk: What there is (``blobs``, ``links``, ``uploads``, ``other``, ``folders``) to its size.

    Example:
        >>> from regnb.crawl.records import Records
        >>> listing = Listing(Notes(Records("/srv/registry", datetime.now(UTC))), brief=False)
        >>> listing.note(File("repositories/app/_layers/", 0, 0))
        >>> listing.repositories["app"].has_layers
        True
    """

    def __init__(self, notes: Notes, *, brief: bool) -> None:
        self._notes = notes
        self._brief = brief
        self.repositories: dict[str, Repository] = {}
        self.sizes: dict[str, int] = {}
        self.uploads: dict[tuple[str, str], UploadRecord] = {}
        self.begun: dict[str, UploadRecord] = {}
        self.large: set[str] = set()
        self.folders: set[str] = set()
        self._foreign: dict[str, list[str]] = {}
        self.disk = {what: Usage() for what in ("blobs", "links", "uploads", "other", "folders")}

    def note(self, file: File) -> None:
        """Take note of a file or a folder."""
        self.folders.add(file.path.partition("/")[0])
        if file.path.endswith("/"):
            self._folder(file.path[:-1])
            self.disk["folders"].add(0, file.used)
        else:
            self.disk[self._sort(file)].add(file.size, file.used)

    def parts(self, file: File) -> None:
        """Take note of a file that is being written in parts: of an upload that is under way, or was given up."""
        name, rest = repository_of(file.path)
        mark, _, upload = rest.partition("/")
        what = "other"
        if mark == "_uploads" and upload:
            what = "uploads"
            key = encodable(name), encodable(upload.partition("/")[0])
            record = self.uploads.setdefault(key, UploadRecord(*key, date(file.when), 0))
            record.size += file.size
        self.disk[what].add(file.size, file.used)

    def check(self) -> None:
        """Leave out the repositories whose names no repository can have, and name what ends a collection."""
        missing: dict[str, ProblemKind] = {"repositories": "bad repository", "blobs": "bad blob"}
        for folder, kind in missing.items() if self.sizes or self.repositories else ():
            if folder not in self.folders:
                text = "there is no such folder: the garbage collection of every version ends here, and removes no blob"
                hint = f"look whether the whole storage is there; if no {folder} are wanted, make the empty folder"
                self._notes.problem("", folder, kind, text, hint=hint)
        for paths in self._foreign.values():
            text = "a file server or a file system made this folder: it was left out"
            more = f", with {count(len(paths) - 1, 'other folder')} of this name" if len(paths) > 1 else ""
            self._notes.problem(
                "", paths[0], "ignored", text + more, hint="keep such folders off the registry's volume"
            )
        for name in [name for name in self.repositories if not is_repository(name)]:
            found = self.repositories.pop(name)
            if not (found.has_layers or found.has_manifests):
                continue
            sort: ProblemKind = "bad repository"
            who = "the garbage collection of every version"
            if not found.has_manifests:
                sort, who = "bad layers", "the garbage collection of version 2.8"
            elif not found.has_layers:
                sort, who = "bad manifests", "the garbage collection of version 3"
            self._notes.problem(name, "", sort, f"a repository cannot have this name: {who} stops here")

    def _repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def _folder(self, path: str) -> None:
        """Note the folders whose being there matters though they may be empty."""
        if (leaf := path.rpartition("/")[2]) in FOREIGN:
            self._foreign.setdefault(leaf, []).append(path)
            if path.startswith("repositories/") and path.endswith(f"/_manifests/tags/{leaf}"):
                self._repository(repository_of(path)[0]).tags[leaf] = ""
            return
        if not path.startswith("repositories/"):
            return
        name, rest = repository_of(path)
        if rest == "_layers":
            self._repository(name).has_layers = True
        elif rest == "_manifests":
            self._repository(name).has_manifests = True
        elif rest == "_manifests/tags":
            self._repository(name).has_tags = True
        elif rest.startswith("_manifests/tags/"):
            tag, _, inner = rest.removeprefix("_manifests/tags/").partition("/")
            tags = self._repository(name).tags
            # A folder where the link should be cannot be read, and that is found out by reading it.
            tags[tag] = path if inner == CURRENT else tags.get(tag, "")

    def _sort(self, file: File) -> str:
        """Take note of a file, and return what it counts as."""
        path = file.path
        if match := BLOB_FILE.fullmatch(path):
            self.sizes[f"{match[1]}:{match[3]}"] = file.size
            return "blobs"
        if file.size > LINK_LIMIT and path.endswith("/link"):
            self.large.add(path)
        if path.startswith("blobs/"):
            if path.endswith("/data"):
                text = "a file named data where no blob can be: the registry's garbage collection stops here"
                self._notes.problem("", path, "bad blob", text)
            return "other"
        if not path.startswith("repositories/"):
            return "other"
        name, rest = repository_of(path)
        parts = rest.split("/")
        if parts[0] not in ("_layers", "_manifests", "_uploads"):
            return "other"
        found = self._repository(name)
        if parts[0] == "_uploads":
            if len(parts) <= 2:  # noqa: PLR2004 -- not below an upload's own folder
                return "other"
            self._upload(name, parts[1], parts[2:], file)
            return "uploads"
        if parts[0] == "_layers":
            found.has_layers = True
            self._layer(found, parts[1:], file)
        else:
            found.has_manifests = True
            self._manifest(found, parts[1:], file)
        return "links" if parts[-1] == "link" else "other"

    def _layer(self, found: Repository, parts: Sequence[str], file: File) -> None:
        """Record a file below a repository's layers."""
        if not parts or parts[-1] != "link":
            return
        digest = ":".join(parts[:-1])
        if is_digest(digest):
            found.layers.add(digest)
        if file.size != LINK_SIZE or parts[0] != "sha256" or not is_digest(digest):
            found.odd_layers.append(file.path)

    def _manifest(self, found: Repository, parts: Sequence[str], file: File) -> None:
        """Record a file below a repository's manifests."""
        if parts[:1] == ["tags"]:
            self._tag(found, parts[1:], file)
        elif parts[:1] == ["revisions"] and parts[-1] == "link":
            digest = ":".join(parts[1:-1])
            if is_digest(digest):
                found.revisions[digest] = file.path
            else:
                found.strays.append(file.path)

    def _tag(self, found: Repository, parts: Sequence[str], file: File) -> None:
        """Record a file below a repository's tags."""
        found.has_tags = True
        if len(parts) <= 1:  # in place of a tag's folder, or of all of them
            found.bad_tags.append(file.path)
            return
        found.tags.setdefault(parts[0], "")
        if list(parts[1:]) == ["current", "link"]:
            found.tags[parts[0]] = file.path
            found.pushed[parts[0]] = file.when
        elif parts[1] == "index" and parts[-1] == "link" and is_digest(digest := ":".join(parts[2:-1])):
            if is_tag(parts[0]):
                found.history.append((parts[0], digest, file.when))
        elif list(parts[1:]) == ["current"]:
            found.tags[parts[0]] = f"{file.path}/link"  # it cannot be read, and that is found out by reading it

    def _upload(self, name: str, upload: str, parts: Sequence[str], file: File) -> None:
        """Record a file of an upload that was not finished."""
        name, upload = map(encodable, (name, upload))
        record = self.uploads.setdefault((name, upload), UploadRecord(name, upload, None, 0))
        record.size += file.size
        if list(parts) == ["startedat"]:
            record.started = date(file.when)
            self.begun[file.path] = record


def blob_file(digest: str) -> str:
    """Return the path of a blob's bytes below the storage's root.

    Example:
        >>> blob_file("sha256:" + "ab" * 32)[:17]
        'blobs/sha256/ab/a'
    """
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text[:2]}/{text}/data"


def date(when: float) -> datetime | None:
    """Return a file's time; None where it is not known.

    Example:
        >>> date(0) is None
        True
    """
    return datetime.fromtimestamp(when, UTC) if when else None


def is_path(text: str) -> bool:
    """Whether a registry can open a file or a folder of this name; every one else is an error to it.

    Example:
        >>> is_path("1.0"), is_path(".hidden"), is_path("@eaDir")
        (True, True, False)
    """
    return bool(_PATH.fullmatch(text))


def is_tag(text: str) -> bool:
    """Whether a tag may have this name.

    Example:
        >>> is_tag("1.0"), is_tag("@eaDir")
        (True, False)
    """
    try:
        return bool(check_tag(text))
    except InvalidReference:
        return False

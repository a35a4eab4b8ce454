"""A registry's storage becomes records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime

from regnb.crawl.contents import Contents
from regnb.crawl.damage import find_aliased, find_damage, find_fatal
from regnb.crawl.files import reason
from regnb.crawl.listing import CURRENT, LINK_LIMIT, Listing, Repository, blob_file, date, is_path, is_tag
from regnb.crawl.notes import Notes
from regnb.crawl.records import HistoryRecord, ProblemKind, Records, RepositoryStatus, TagRecord
from regnb.crawl.survey import Survey
from regnb.crawl.walk import Files, LocalFiles
from regnb.oci.age import plausible
from regnb.oci.reference import is_digest


class Reading:
    """One reading of a storage into records.

    Args:
        records: To fill.
        brief: Whether to leave out what a garbage collection does not look at.

    Attributes:
        notes: What is noted beside the records.

    Example:
        ``Reading(records, brief=True).run(files)``
    """

    def __init__(self, records: Records, *, brief: bool) -> None:
        self.records = records
        self.notes = Notes(records)
        self._brief = brief
        self._listing = Listing(self.notes, brief=brief)
        self._repositories = self._listing.repositories
        self._unknown: set[str] = set()
        self._twice: set[tuple[str, str]] = set()
        self._survey: Survey | None = None

    def run(self, files: Files) -> None:
        """Read everything: the listing first, then links, manifests and configs."""
        self._files = files
        if self._brief and isinstance(files, LocalFiles):
            self._survey = Survey(files, self._listing)
            self.records.manifests.update(self._survey.look())
        else:
            for file in files.walk(brief=self._brief):
                self._listing.note(file)
        self._listing.check()
        self._parts()
        if not self._brief:
            self.records.disk = self._listing.disk
        self._layers()
        self._links()
        for name, sort in self.notes.statuses.items():
            self.records.repositories.setdefault(name, sort)
        self._manifests()
        self._uploads()
        self._count()
        self.records.requests = dict(files.requests())

    @property
    def sizes(self) -> dict[str, int]:
        """Digest of each blob on disk to its bytes; in brief they may have to be measured first."""
        return self._listing.sizes

    def measure(self, digests: Iterable[str]) -> None:
        """Look whether the bytes of blobs are there, and how many they are, unless that is known."""
        if self._survey is not None:
            self._survey.measure(digests)

    def _parts(self) -> None:
        """Count what is written in parts; if that is not allowed, say that it is missing."""
        try:
            for file in self._files.parts():
                self._listing.parts(file)
        except Exception as error:  # noqa: BLE001 -- each file system's library has errors of its own
            sort: ProblemKind = "denied" if isinstance(error, PermissionError) else "failed"
            text = f"multipart uploads could not be listed, and their bytes are in no figure: {reason(error)}"
            hint = "allow s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts"
            self.notes.problem("", "multipart uploads", sort, text, hint=hint)

    def _uploads(self) -> None:
        """Read when each upload was begun: the file says so, wherever it was copied to since."""
        begun = self._listing.begun
        for path, data in self._files.read((path, 64) for path in begun):
            with contextlib.suppress(ValueError):
                if isinstance(data, bytes):
                    begun[path].started = datetime.fromisoformat(data.decode("ascii").strip())
        uploads = self._listing.uploads.values()
        self.records.uploads += sorted(uploads, key=lambda one: (one.repository, one.upload))

    def _count(self) -> None:
        counts, statuses = self.records.coverage.repositories, list(self.notes.statuses.values())
        counts.listed = len(self.records.repositories)
        counts.failed, counts.denied = (statuses.count(sort) for sort in ("failed", "denied"))
        counts.read = counts.listed - counts.failed - counts.denied
        tags = self.records.coverage.tags
        tags.listed = len(self.records.tags)
        tags.read = tags.listed - tags.failed - tags.denied

    def _layers(self) -> None:
        """Read the links of layers that are not by sha256, or have a wrong length; version 3 reads all of them."""
        of = {path: name for name, found in self._repositories.items() for path in found.odd_layers}
        if of:
            self.measure(list(self.sizes))
        twice: dict[str, tuple[str, str]] = {}
        for path, data in self._files.read((path, LINK_LIMIT) for path in of):
            folder, _, named = path.removesuffix("/link").rpartition("/_layers/")
            alias, name = named.replace("/", ":"), of[path]
            if isinstance(data, bytes):
                target = data.decode("ascii", "replace")
                if not is_digest(target) or path in self._listing.large:
                    text = f"the link of a layer does not hold a digest: {data[:80]!r}: a collection of version 3 stops"
                    if self._repositories[name].has_manifests:
                        self.notes.problem(name, path, "corrupt layer link", text)
                elif is_digest(alias) and alias not in self._listing.sizes and target in self._listing.sizes:
                    self.records.aliases[alias] = target
                    twice[f"{folder}/_layers/{target.replace(':', '/')}/link"] = name, alias
            elif not isinstance(data, FileNotFoundError | IsADirectoryError | NotADirectoryError):
                self.notes.unread(name, path, "cannot read it", data)
        read = self._files.read((path, LINK_LIMIT) for path in twice)
        self._twice = {twice[path] for path, data in read if isinstance(data, bytes)}

    def _links(self) -> None:
        """Read the links of revisions and tags: they, and not their paths, say what is meant."""
        wanted = {
            path: name
            for name, found in self._repositories.items()
            for path in (*found.revisions.values(), *found.strays, *filter(None, found.tags.values()))
        }
        content: dict[str, str] = {}
        too_long = "the link does not hold a digest: it is too long"
        broken = dict.fromkeys(self._listing.large, too_long)
        for path, data in self._files.read((path, LINK_LIMIT + 1) for path in wanted if path not in broken):
            if isinstance(data, bytes) and len(data) > LINK_LIMIT:
                broken[path] = too_long
            elif isinstance(data, bytes):
                digest = data.decode("ascii", "replace")
                if is_digest(digest):
                    content[path] = digest
                else:
                    broken[path] = f"the link does not hold a digest: {data[:80]!r}"
            elif isinstance(data, IsADirectoryError | NotADirectoryError):
                if path.endswith(CURRENT):
                    broken[path] = f"the link is not a file: {reason(data)}"
            elif not isinstance(data, FileNotFoundError):
                tags = self.records.coverage.tags if path.endswith(CURRENT) else None
                self.notes.statuses[wanted[path]] = self.notes.unread(wanted[path], path, "cannot read it", data, tags)
                self._unknown.add(path)
        self.measure(content.values())
        for name, found in sorted(self._repositories.items()):
            self._revisions(name, found, content, broken)
            self._tags(name, found, content, broken)

    def _revisions(self, name: str, found: Repository, content: Mapping[str, str], broken: Mapping[str, str]) -> None:
        """Read the links of a repository's manifests."""
        for digest, path in [*found.revisions.items(), *(("", path) for path in found.strays)]:
            if path in broken:
                self.notes.problem(name, digest or path, "corrupt revision", broken[path])
            elif path in content:
                named = content[path]
                if named != digest:
                    self.notes.problem(name, digest or path, "mismatch", f"the link names another manifest: {named}")
                if content.get(found.revisions.get(named, "")) == named and named in self._listing.sizes:
                    found.walked[named] = None
                elif named == digest and not self.notes.is_hidden(blob_file(digest)):
                    self.notes.damage(name, digest, "missing", "the manifest's bytes are not on disk")
        if found.has_manifests and not found.has_layers and name not in self.notes.statuses:
            text = "has no folder _layers: a collection of version 3 stops here and removes nothing, in no repository"
            if found.walked:
                text += "; one of version 2.8 does not see the repository, and removes what only it has, tagged or not"
            hint = f"push an image with a layer to {name}, or make the empty folder"
            self.notes.problem(name, "", "no layers", text, hint=hint)
        for digest in sorted(found.walked):
            self.records.links[name, digest] = True

    def _tags(self, name: str, found: Repository, content: Mapping[str, str], broken: Mapping[str, str]) -> None:
        """Read the links of a repository's tags."""
        if found.walked and not found.has_tags:
            text = (
                "has manifests and no folder for tags: version 2.8 cannot collect untagged manifests, version 3 leaves "
                "the manifests and removes their blobs"
            )
            self.notes.problem(name, "", "no tags", text)
        for path in found.bad_tags if found.walked else ():
            self.notes.problem(name, path, "corrupt tag", "a file where the folder of a tag should be")
        for tag, path in sorted(found.tags.items()):
            if not is_tag(tag):
                if found.walked and path in broken:
                    self.notes.problem(name, tag, "corrupt tag", f"no tag can have this name, and {broken[path]}")
                elif found.walked and not is_path(tag):
                    text = "no tag can have this name, and no version of the registry can look into such a folder"
                    hint = "remove the folder, and keep a file server's own off the registry's volume"
                    self.notes.problem(name, tag, "corrupt tag", text, hint=hint)
                elif found.walked:
                    self.notes.problem(name, tag, "not a tag", "listed, but not a valid tag", hint="delete the folder")
                continue
            digest = content.get(path, "")
            if path in broken:
                sort: ProblemKind = "corrupt tag" if found.walked else "dangling"
                self.notes.damage(name, tag, sort, broken[path], "push the image again under this tag")
            elif (
                digest not in found.walked
                and self._unknown.isdisjoint({path, found.revisions.get(digest, "")})
                and not (digest and self.notes.is_hidden(blob_file(digest)))
            ):
                text = f"its manifest is gone: {digest}" if digest else "it has no current link"
                hint = "push the image again under this tag, or delete the tag"
                self.notes.damage(name, tag, "dangling", text, hint)
            pushed = date(found.pushed.get(tag, 0))
            if pushed and not plausible(pushed, self.records.started):
                pushed = None
            self.records.tags.append(TagRecord(name, tag, digest if digest in found.walked else "", pushed))
        self.records.tags += [TagRecord(name, tag, digest) for tag, digest in sorted(found.current.items())]
        for tag, digest, when in sorted(found.history):
            current = content.get(found.tags.get(tag, "")) == digest
            record = HistoryRecord(name, tag, digest, date(when), current, digest in found.walked)
            self.records.history.append(record)
        status: RepositoryStatus = "read" if found.tags or found.current else "empty"
        self.records.repositories[name] = self.notes.statuses.get(name, status)

    def _manifests(self) -> None:
        """Read the manifests and configs, and say what is wrong with them."""
        first: dict[str, str] = {}
        # A repository that version 2.8 sees comes first: what is wrong there ends every collection.
        for name, digest in sorted(self.records.links, key=lambda link: not self._repositories[link[0]].has_layers):
            first.setdefault(digest, name)
        contents = Contents(self.notes, self._listing, self._files, first)
        needs = contents.manifests()
        find_fatal(self.notes, needs, first)
        if not self._brief:
            find_damage(self.notes, needs, self._listing.sizes, self._repositories)
        find_aliased(self.notes, needs, self._twice, self._repositories)
        if not self._brief:
            contents.blobs()
            self._stale()
            contents.configs()

    def _stale(self) -> None:
        """Count the links of layers, and those that no manifest of their repository needs: 2.8 never removes them."""
        needed: dict[str, set[str]] = {}
        for name, digest in self.records.links:
            record = self.records.manifests[digest]
            needed.setdefault(name, set()).update((record.config, *record.layers))
        for name, found in self._repositories.items():
            named = {self.records.aliases.get(blob, blob) for blob in needed.get(name, ())} | needed.get(name, set())
            self.records.layer_links[name] = len(found.layers), len(found.layers - named)

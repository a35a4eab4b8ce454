"""One layout: which manifests are in which repository, and what refers to what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import msgspec

from regnb.errors import ContentError, RegnbError
from regnb.layouts.files import Files, whole
from regnb.layouts.index import Entry, Listing, name_of, read
from regnb.oci.manifest import (
    MANIFEST_LIMIT,
    MANIFESTS,
    AnyManifest,
    Descriptor,
    Index,
    Manifest,
    Schema1,
    decode,
    media_type_of,
    verify,
)
from regnb.oci.reference import Digest


class Layout:
    """A layout, as repositories with tags.

    What has a name in ``index.json`` is a tag of its repository. What has none, such as a referrer, is there for every
    repository of the layout.

    Args:
        files: Of the layout.
        repository: Where the images are that have a tag and no other name.
        reference: What alone of the layout is meant: a tag or a full name; "" for all of it.
        within: Whether it is one of a tree of layouts.

    Example:
        ``Layout(Folder("/media/usb/app"), "app").listing.tags``
    """

    def __init__(self, files: Files, repository: str, reference: str = "", *, within: bool = False) -> None:
        self.files = files
        self.repository = repository
        self.reference = reference
        self._within = within
        self._stamp: object = self
        self._listing = Listing({})
        self._everything: set[str] | None = None
        self._known: dict[bytes, Entry] = {}
        self._decoded: dict[str, AnyManifest] = {}

    @property
    def listing(self) -> Listing:
        """What ``index.json`` lists now.

        Raises:
            StorageError, ContentError: It cannot be read.
        """
        stamp = self.files.stamp()
        if stamp is None or stamp != self._stamp:
            self._listing, self._stamp, self._everything = self.parse(self.files.index()), stamp, None
        return self._listing

    def parse(self, data: bytes) -> Listing:
        """Return what some ``index.json`` of this layout lists.

        Raises:
            MalformedManifest: It is not an index.
        """
        try:
            return read(data, self.repository, self._known, within=self._within)
        except ContentError as error:
            raise error.saying(f"{self.files.where}: {error.message}", hint="copy the layout again") from None

    @property
    def tags(self) -> dict[str, dict[str, Entry]]:
        """Repository to tag to entry, of what is meant."""
        found = self.listing.tags
        if not self.reference:
            return found
        wanted = {self.reference, f"{self.repository}:{self.reference}"}
        return {
            name: some
            for name, tags in found.items()
            if (
                some := {
                    tag: entry for tag, entry in tags.items() if wanted & {f"{name}:{tag}", name_of(entry.descriptor)}
                }
            )
        }

    def manifest(self, digest: str) -> bytes | None:
        """Return the bytes of a manifest as they are in the layout; None if they are not there.

        Raises:
            TooLarge: It has more than a manifest may have.
            StorageError: It cannot be read.
        """
        return whole(self.files, digest, MANIFEST_LIMIT)

    def media_type(self, digest: str, data: bytes) -> str:
        """Return the media type of a manifest: what its bytes say, else what ``index.json`` says."""
        for entry in self.listing.entries:
            if entry.digest == digest:
                return media_type_of(data, entry.descriptor.media_type)
        return media_type_of(data)

    def holds(self, digest: str) -> bool:
        """Whether a manifest is there: ``index.json`` leads to it, or all that it takes is among the blobs."""
        return digest in self.reachable or self._complete(digest)

    @property
    def reachable(self) -> set[str]:
        """The manifests that ``index.json`` leads to."""
        listing = self.listing  # which forgets what an older one led to
        if self._everything is None:
            self._everything = self.behind(entry.descriptor for entry in listing.entries)
        return self._everything

    def _complete(self, root: str) -> bool:
        """Whether a manifest and everything behind it is among the blobs."""
        seen: set[str] = set()
        todo = [root]
        while todo:
            digest = todo.pop()
            manifest = None if digest in seen else self._read(digest)
            if digest not in seen and manifest is None:
                return False
            seen.add(digest)
            if manifest is not None and [*self.lacking(manifest)]:
                return False
            todo += [child.digest for child in manifest.children] if isinstance(manifest, Index) else []
        return True

    def lacking(self, manifest: AnyManifest) -> Iterator[str]:
        """Yield what a manifest needs that is not there, or has another size than it says."""
        if isinstance(manifest, Schema1):
            return
        needs = manifest.manifests if isinstance(manifest, Index) else manifest.blobs
        for need in {need.digest: need for need in needs if not need.foreign}.values():
            size = self.files.size(need.digest)
            if size is None:
                yield f"{need.digest} is not in the layout"
            elif size != need.size:
                text = f"{need.digest} has {size:,} bytes in the layout, and the manifest states {need.size:,}"
                yield f"{text}: remove the file, and copy again"

    def behind(self, roots: Iterable[Descriptor]) -> set[str]:
        """Return some manifests and those that they list, and so on."""
        found: set[str] = set()
        todo = list(roots)
        while todo:
            descriptor = todo.pop()
            if descriptor.digest not in found:
                found.add(descriptor.digest)
                if descriptor.media_type not in MANIFESTS:
                    manifest = self._read(descriptor.digest)
                    todo += manifest.children if isinstance(manifest, Index) else ()
        return found

    def configs(self, root: Descriptor) -> set[str]:
        """Return the configs of the images that a manifest is or lists."""
        manifests = (self._read(digest) for digest in self.behind([root]))
        return {one.config.digest for one in manifests if isinstance(one, Manifest) and one.config is not None}

    def untagged(self) -> list[str]:
        """Return the manifests that nothing in the layout leads to but an entry without a name."""
        if self.reference:
            return []
        listing = self.listing
        roots = [entry.descriptor for tags in listing.tags.values() for entry in tags.values()]
        known = self.behind(roots)
        found = [entry.descriptor for entry in listing.unnamed.values() if entry.digest not in known]
        inner = {child for one in found for child in self.behind([one]) - {one.digest}}
        known |= self.behind(found)
        return [one.digest for one in found if one.digest not in inner and self.subject(one.digest) not in known]

    def settled(self) -> bytes:
        """Return an ``index.json`` of the same images, whatever the order was in which they came.

        Entries with a name come first, in order. One without a name is left out if another entry leads to its manifest,
        unless it refers to something.
        """
        listing = self.listing
        read = (self._read(entry.digest) for entry in listing.entries)
        known = self.behind(child for one in read if isinstance(one, Index) for child in one.children)
        known -= {digest for digest in known if self.subject(digest)}
        known |= {entry.digest for tags in listing.tags.values() for entry in tags.values()}
        named = sorted((entry for entry in listing.entries if entry.tag), key=lambda entry: entry[2:])
        rest = {entry.digest: entry for entry in listing.entries if not entry.tag and entry.digest not in known}
        return listing.to_json([*named, *(rest[digest] for digest in sorted(rest))])

    def subject(self, digest: str) -> str:
        """Return what a manifest refers to, or ""."""
        manifest = self._read(digest)
        subject = None if manifest is None or isinstance(manifest, Schema1) else manifest.subject
        return subject.digest if subject else ""

    def referrers(self, repository: str, subject: str) -> list[dict[str, object]]:
        """Return descriptors of what refers to a manifest of a repository ("Listing Referrers")."""
        entries = [*self.listing.tags.get(repository, {}).values(), *self.listing.unnamed.values()]
        found: dict[str, dict[str, object]] = {}
        for entry in entries:
            manifest = None if self.subject(entry.digest) != subject else self._read(entry.digest)
            if isinstance(manifest, Manifest | Index):
                kind = manifest.artifact_type
                if not kind and isinstance(manifest, Manifest) and manifest.config is not None:
                    kind = manifest.config.media_type
                row = {"mediaType": manifest.media_type, "digest": entry.digest, "size": len(manifest.raw)}
                found[entry.digest] = row | {"artifactType": kind, "annotations": manifest.annotations}
        return list(found.values())

    def _read(self, digest: str) -> AnyManifest | None:
        """Return a manifest; None if it is missing or damaged, which whoever asks for it is told."""
        if digest not in self._decoded:
            with contextlib.suppress(RegnbError, msgspec.MsgspecError):
                data = self.manifest(digest)
                if data is not None:
                    verify(data, digest)
                    self._decoded[digest] = decode(data, media_type_of(data), digest=Digest(digest))
        return self._decoded.get(digest)

    def forget(self, digest: str) -> None:
        """Read a manifest anew when it is asked for: it is there now."""
        self._decoded.pop(digest, None)

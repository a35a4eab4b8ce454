"""Layouts answer as a registry does: the writing endpoints of the distribution spec, over the layout in one folder.

Blobs come before the manifest that needs them, and ``index.json`` is replaced last and in one step: whenever a copy
is cut short, what is there is a valid layout. No blob is ever removed, not even by an undo.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from regnb.errors import MalformedManifest, Unsupported
from regnb.layouts.answers import Answer, error
from regnb.layouts.folder import Folder
from regnb.layouts.index import Entry, Listing, entry_of, name_of
from regnb.layouts.layout import Layout
from regnb.layouts.shelf import Shelf
from regnb.oci.manifest import IMAGE_CONFIGS, Index, Schema1, decode, media_type_of
from regnb.oci.reference import Digest, is_digest
from regnb.wire.exchange import Target, target

_PART: Final = r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
_REF_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*")
"""What an entry may be called (OCI image spec, "Pre-Defined Annotation Keys"): skopeo and umoci take no other name."""


class Changes:
    """The writing endpoints.

    Args:
        shelf: The layout that is written to; of any other one nothing is written.

    Attributes:
        deleted: Repository and digest of each manifest that was taken away.

    Example:
        ``Changes(shelf).answer("PUT", "/v2/app/manifests/1.0", {"Content-Type": OCI_MANIFEST}, data)``
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.deleted: set[tuple[str, str]] = set()
        self._begun: set[str] = set()
        self._ours: set[str] = set()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Answer a request whose body is there.

        Raises:
            Unsupported: Nothing is written there.
            RegnbError: The layout cannot be read or written, or a name in the path is not valid.
        """
        parts = urlsplit(path)
        where = target(parts.path)
        folder, layout = self._writable()
        if method == "POST" and where.kind == "blobs/uploads":
            folder.begin()
            mounted = parse_qs(parts.query).get("mount", [""])[0]
            if mounted and folder.size(mounted) is not None:
                return Answer(201, {"docker-content-digest": mounted})
            number = secrets.token_hex(8)
            self._begun.add(number)
            return Answer(202, {"location": f"/v2/{where.repository}/blobs/uploads/{number}"})
        if method == "DELETE" and where.kind == "blobs/uploads":
            return Answer(204) if self._end(where) else error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
        if where.kind == "manifests" and method == "PUT":
            folder.begin()
            return self._put(folder, layout, where, headers.get("Content-Type", ""), body)
        if where.kind == "manifests" and method == "DELETE":
            if self._shelf.new:
                return error(404, "MANIFEST_UNKNOWN", f"{self._shelf.place} is still empty")
            return self._delete_digest(layout, where) if is_digest(where.reference) else self._delete_tag(layout, where)
        return error(405, "UNSUPPORTED", f"{method} of {where.kind or where.path} is not possible in a layout")

    def refusal(self, repository: str, tag: str) -> str:
        """Return why the layout cannot hold a tag; "" if it can.

        Raises:
            Unsupported: Nothing is written there.
        """
        folder, layout = self._writable()
        name = _called(layout, repository, tag)
        if layout.reference not in ("", tag, name, f"{repository}:{tag}"):
            return f"{self._shelf.place} stands for one tag alone, and not for {name}: write oci:{folder.path}"
        if not _REF_NAME.fullmatch(name):
            return f"a layout cannot hold the name {name}: skopeo and umoci refuse it"
        return ""

    def upload(self, path: str) -> tuple[Folder, Digest] | None:
        """Return where the bytes of an upload go, and the digest that they are to have; None if it was not begun.

        Raises:
            InvalidReference: The digest is not one.
        """
        parts = urlsplit(path)
        digest = Digest(parse_qs(parts.query).get("digest", [""])[0])
        return (self._writable()[0], digest) if self._end(target(parts.path)) else None

    def _end(self, where: Target) -> bool:
        begun = where.reference in self._begun
        self._begun.discard(where.reference)
        return begun

    def _writable(self) -> tuple[Folder, Layout]:
        if self._shelf.folder is None:
            text = f"{self._shelf.place} is only read: {self._shelf.why}"
            raise Unsupported(text, hint=self._shelf.hint, status=405)
        return self._shelf.folder, self._shelf.layouts[0]

    def _put(self, folder: Folder, layout: Layout, where: Target, media_type: str, body: bytes) -> Answer:
        """Take a manifest whose blobs and children are there."""
        tag = "" if is_digest(where.reference) else where.reference
        digest = Digest.of(body, "sha256" if tag else Digest(where.reference).algorithm)
        if not tag and digest != where.reference:
            return error(400, "DIGEST_INVALID", f"the bytes have the digest {digest}")
        try:
            manifest = decode(body, media_type_of(body, media_type), digest=digest)
        except MalformedManifest as malformed:
            return error(400, "MANIFEST_INVALID", malformed.message)
        if isinstance(manifest, Schema1):
            return error(400, "MANIFEST_INVALID", "an image of the withdrawn schema 1 cannot be in a layout")
        if tag and (refused := self.refusal(where.repository, tag)):
            return error(400, "NAME_INVALID", refused)
        name = _called(layout, where.repository, tag)

        def entry(name: str) -> Entry:
            kind = manifest.artifact_type
            return entry_of(body, manifest.media_type, digest, "" if kind in IMAGE_CONFIGS else kind, name)

        def edit(listing: Listing) -> list[Entry]:
            if lacking := [*layout.lacking(manifest)]:
                raise _LackingError(lacking)
            folder.put(digest, body)
            layout.forget(digest)
            self.deleted.discard((where.repository, digest))
            before = listing.tags.get(where.repository, {}).get(tag)
            if (before is not None and before.digest == digest) or (not tag and digest in layout.reachable):
                return listing.entries
            # What an index lists needs no entry of its own any more, and neither does what gets a name.
            children = {child.digest for child in manifest.children} if isinstance(manifest, Index) else set()
            spare = self._ours & ({child for child in children if not layout.subject(child)} | {str(digest)})
            self._ours = (self._ours - spare) | (set() if tag else {str(digest)})
            kept = [one for one in listing.entries if one.tag or one.digest not in spare]
            if before is None:
                return [*kept, entry(name)]
            return [entry(name_of(before.descriptor)) if one is before else one for one in kept]

        try:
            _change(folder, layout, edit)
        except _LackingError as lacks:
            return error(400, "MANIFEST_BLOB_UNKNOWN", *lacks.args[0])
        return Answer(201, {"docker-content-digest": digest})

    def _delete_tag(self, layout: Layout, where: Target) -> Answer:
        """Take a name away; its manifest stays among the blobs."""
        folder, _ = self._writable()
        if where.reference not in layout.tags.get(where.repository, {}):
            return error(404, "MANIFEST_UNKNOWN", f"{self._shelf.place} has no {where.repository}:{where.reference}")
        gone = (where.repository, where.reference)
        _change(folder, layout, lambda listing: [one for one in listing.entries if one[2:] != gone])
        return Answer(202)

    def _delete_digest(self, layout: Layout, where: Target) -> Answer:
        """Take a repository's entries of a manifest away: its bytes stay, and are not shown there any more."""
        folder, _ = self._writable()
        gone = (where.repository, where.reference)
        if gone in self.deleted or not layout.holds(where.reference):
            return error(404, "MANIFEST_UNKNOWN", f"{self._shelf.place} has no {where.repository}@{where.reference}")
        own = ("", where.repository)

        def edit(listing: Listing) -> list[Entry]:
            return [one for one in listing.entries if one.digest != where.reference or one.repository not in own]

        _change(folder, layout, edit)
        self.deleted.add(gone)
        return Answer(202)


class _LackingError(Exception):
    """What a manifest needs is not there."""


def _called(layout: Layout, repository: str, tag: str) -> str:
    """Return what an entry is called: by the tag alone in the layout's own repository."""
    return tag if not tag or repository == layout.repository else f"{repository}:{tag}"


def _change(folder: Folder, layout: Layout, edit: Callable[[Listing], Iterable[Entry]]) -> None:
    """Replace the entries of ``index.json`` by others."""

    def change(data: bytes) -> bytes:
        listing = layout.parse(data)
        entries = [*edit(listing)]
        return data if entries == listing.entries else listing.to_json(entries)

    folder.change(change)

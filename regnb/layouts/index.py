"""``index.json`` of a layout: which manifests it lists, and what each is called (OCI image spec, "Image Layout")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from regnb.crawl.records import ProblemKind
from regnb.errors import MalformedManifest
from regnb.oci.manifest import Descriptor
from regnb.oci.reference import Digest
from regnb.oci.transports import IMAGE_NAME, REF_NAME, named
from regnb.text import printable

LIMIT: Final = 64 * 1024 * 1024
"""Bytes of an ``index.json`` that are read: about 250,000 entries."""
EMPTY: Final = b'{"schemaVersion":2,"manifests":[]}'


class Entry(NamedTuple):
    """One entry of ``index.json``.

    Attributes:
        raw: As it is written there.
        descriptor: What it says.
        repository, tag: What it is called; "" if it has no name.
    """

    raw: msgspec.Raw
    descriptor: Descriptor
    repository: str = ""
    tag: str = ""

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return self.descriptor.digest


class Oddity(NamedTuple):
    """What is odd about an entry; the rest of the layout is read all the same.

    Attributes:
        reference: The entry, by its digest or name.
        problem: Which sort, as in ``problems``.
        incomplete: Whether something is unknown because of it.
    """

    reference: str
    problem: ProblemKind
    message: str
    hint: str = ""
    incomplete: bool = False


@dataclass
class Listing:
    """What an ``index.json`` lists.

    Attributes:
        document: All of it, as it is written.
        kept: Entries that are not understood, which stay as they are when it is written again.
        entries: Those with a name, and those without one, in order.
        tags: Repository to tag to entry.
        unnamed: Digest to entry, of those without a name.
        oddities: What is odd.
    """

    document: dict[str, msgspec.Raw]
    kept: list[msgspec.Raw] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    tags: dict[str, dict[str, Entry]] = field(default_factory=dict)
    unnamed: dict[str, Entry] = field(default_factory=dict)
    oddities: list[Oddity] = field(default_factory=list)

    def to_json(self, entries: Iterable[Entry]) -> bytes:
        """Return the document with other entries, and everything else in it as it was.

        Example:
            >>> read(EMPTY, "app").to_json([])
            b'{"schemaVersion":2,"manifests":[]}'
        """
        listed = [*self.kept, *(entry.raw for entry in entries)]
        return msgspec.json.encode(self.document | {"manifests": msgspec.Raw(msgspec.json.encode(listed))})


def read(data: bytes, repository: str, known: dict[bytes, Entry] | None = None, *, within: bool = False) -> Listing:
    """Return what an ``index.json`` lists.

    Args:
        data: Its bytes.
        repository: Where the images are that have a tag and no other name.
        known: Entries as they are written to what they are, of earlier readings; it is added to.
        within: Whether any other repository is below that one, as in a tree of layouts.

    Raises:
        MalformedManifest: It is not an index.

    Example:
        >>> one = entry_of(b"{}", "", Digest.of(b"{}"), "", "1.0")
        >>> [*read(read(EMPTY, "app").to_json([one]), "app").tags["app"]]
        ['1.0']
    """
    try:
        document = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        rows = msgspec.json.decode(document.get("manifests", msgspec.Raw(b"null")), type=list[msgspec.Raw] | None)
    except RecursionError:
        raise MalformedManifest("index.json is nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedManifest(f"index.json is not a valid index: {printable(str(error))[:200]}") from None
    listing, known = Listing(document), {} if known is None else known
    for number, raw in enumerate(rows or ()):
        written = bytes(raw)
        if entry := known.get(written):
            _enter(listing, entry)
            continue
        try:
            descriptor = msgspec.json.decode(raw, type=Descriptor)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            listing.kept.append(raw)
            text = f"entry {number} of index.json is not a valid descriptor: {printable(str(error))[:200]}"
            listing.oddities.append(Oddity("index.json", "malformed", text, incomplete=True))
            continue
        if not descriptor.is_manifest:
            listing.kept.append(raw)
            text = f"index.json lists it as {printable(descriptor.media_type)[:100]}, which is not a type of manifest"
            listing.oddities.append(Oddity(descriptor.digest, "ignored", text))
            continue
        called, tag = named(name_of(descriptor), repository) or ("", "")
        if called and within and called != repository:
            called = f"{repository}/{called}"
        known[written] = Entry(msgspec.Raw(written), descriptor, called, tag)
        _enter(listing, known[written])
    return listing


def _enter(listing: Listing, entry: Entry) -> None:
    """Add an entry under its name, or among those without one."""
    if entry.tag:
        first = listing.tags.setdefault(entry.repository, {}).setdefault(entry.tag, entry)
        if first.digest == entry.digest:
            listing.entries.append(entry)
            return
        text = f"{entry.repository}:{entry.tag} stands in index.json for several manifests; the first one counts"
        hint = f"read this one by its digest: {Digest(entry.digest).short}"
        listing.oddities.append(Oddity(entry.digest, "ambiguous", text, hint))
        entry = entry._replace(repository="", tag="")
    elif name := name_of(entry.descriptor):
        text = f"index.json calls it {printable(name)[:100]!r}, which does not name a repository and a tag"
        listing.oddities.append(Oddity(entry.digest, "not a tag", text, "read it by its digest"))
    listing.entries.append(entry)
    listing.unnamed.setdefault(entry.digest, entry)


def name_of(descriptor: Descriptor) -> str:
    """Return what an entry is called, with the repository if it is written anywhere; "" for an entry without a name.

    Example:
        >>> name_of(Descriptor(Digest.of(b""), 0, annotations={REF_NAME: "3", IMAGE_NAME: "library/alpine:3"}))
        'library/alpine:3'
    """
    given = descriptor.annotations or {}
    name, whole = (given.get(key) if isinstance(given.get(key), str) else "" for key in (REF_NAME, IMAGE_NAME))
    tag = named(str(name), "a") if name else None
    return str((whole if whole and (not name or (tag and tag[0] == "a" and ":" not in str(name))) else name) or "")


def entry_of(data: bytes, media_type: str, digest: str, artifact_type: str, name: str = "") -> Entry:
    """Return a new entry for a manifest.

    Args:
        data: The manifest.
        media_type: Of it.
        digest: Of it.
        artifact_type: Of it, or "".
        name: For REF_NAME; "" for none.
    """
    row: dict[str, object] = {"mediaType": media_type, "digest": str(digest), "size": len(data)}
    if artifact_type:
        row["artifactType"] = artifact_type
    if name:
        row["annotations"] = {REF_NAME: name}
    written = msgspec.json.encode(row)
    return Entry(msgspec.Raw(written), msgspec.json.decode(written, type=Descriptor))

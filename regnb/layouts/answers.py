"""Layouts answer as a registry does: the reading endpoints of the distribution spec, over ``index.json`` and blobs."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from regnb.layouts.layout import Layout
from regnb.layouts.shelf import Shelf
from regnb.oci.manifest import OCI_INDEX
from regnb.oci.reference import is_digest, on_hub
from regnb.wire.exchange import Target, target


class Answer(NamedTuple):
    """What is answered.

    Attributes:
        data: The body, unless it is a blob.
        layout, digest: The blob that is the body, from ``start`` up to ``stop``.
    """

    status: int
    headers: Mapping[str, str] = {}
    data: bytes = b""
    layout: Layout | None = None
    digest: str = ""
    start: int = 0
    stop: int = 0


class Answers:
    """The endpoints of the distribution API over the layouts of a shelf.

    Args:
        shelf: The layouts.
        deleted: Repository and digest of what was taken away.

    Example:
        ``Answers(Shelf(place)).answer("/v2/_catalog", {}).data``
    """

    def __init__(self, shelf: Shelf, deleted: Container[tuple[str, str]] = ()) -> None:
        self.shelf = shelf
        self._deleted = deleted

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Answer a GET, or a HEAD, whose body is then left out.

        Raises:
            RegnbError: The layout cannot be read, or a name in the path is not valid.
        """
        parts = urlsplit(path)
        where = target(parts.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if where.kind == "_catalog":
            return _listed("repositories", self.shelf.repositories(), query)
        if not where.kind:
            return json_({}) if where.path in ("/v2", "/v2/") else error(404, "UNSUPPORTED", "no such endpoint")
        layout = self.shelf.of(where.repository)
        if where.kind == "referrers":
            rows = layout.referrers(where.repository, where.reference) if layout else []
            return json_({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": rows}, OCI_INDEX)
        if layout is None:
            return self._unknown(where.repository)
        where = where._replace(repository=_whole(layout, where.repository))
        if where.kind == "tags":
            return self._tags(layout, where.repository, query)
        if where.kind == "blobs":
            return _blob(layout, where, headers.get("Range", ""))
        if where.kind == "manifests":
            return self._manifest(layout, where)
        return error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")

    def _unknown(self, repository: str) -> Answer:
        return error(404, "NAME_UNKNOWN", f"{self.shelf.place} has no repository {repository}")

    def _tags(self, layout: Layout, repository: str, query: Mapping[str, str]) -> Answer:
        tags = layout.tags.get(repository)
        if tags is None and not (repository == layout.repository and layout.untagged()):
            return self._unknown(repository)
        return _listed("tags", sorted(tags or ()), query, repository)

    def _manifest(self, layout: Layout, where: Target) -> Answer:
        digest = where.reference
        if not is_digest(digest):
            entry = layout.tags.get(where.repository, {}).get(digest)
            digest = entry.digest if entry else ""
        elif (where.repository, digest) in self._deleted or not layout.holds(digest):
            digest = ""
        data = layout.manifest(digest) if digest else None
        if data is None:
            lost = f": it names {digest}, whose bytes are not there" if digest and digest != where.reference else ""
            text = f"{self.shelf.place} has no {where.repository} {where.reference}{lost}"
            return error(404, "MANIFEST_UNKNOWN", text)
        about = {"content-type": layout.media_type(digest, data), "docker-content-digest": digest}
        return Answer(200, about | {"content-length": str(len(data))}, data)


def _whole(layout: Layout, repository: str) -> str:
    """Return the name that a layout has for a repository: archives of docker save hold Docker Hub's whole ones."""
    name = f"docker.io/{on_hub(repository)}"
    return name if name in layout.tags and repository not in layout.tags else repository


def _blob(layout: Layout, where: Target, wanted: str) -> Answer:
    size = layout.files.size(where.reference)
    if size is None:
        return error(404, "BLOB_UNKNOWN", f"{layout.files.where} has no blob {where.reference}")
    about = {"content-type": "application/octet-stream", "docker-content-digest": where.reference}
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if found is None:
        return Answer(200, about | {"content-length": str(size)}, b"", layout, where.reference, 0, size)
    start, stop = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    if start >= stop:
        return Answer(416, {"content-range": f"bytes */{size}"})
    about |= {"content-length": str(stop - start), "content-range": f"bytes {start}-{stop - 1}/{size}"}
    return Answer(206, about, b"", layout, where.reference, start, stop)


def _listed(key: str, names: list[str], query: Mapping[str, str], name: str = "") -> Answer:
    """Answer with names, all at once; whoever asks on from the last one gets nothing more."""
    last = query.get("last", "")
    about: dict[str, object] = {"name": name} if name else {}
    return json_(about | {key: [each for each in names if each > last]})


def json_(document: object, media_type: str = "application/json") -> Answer:
    """Return an answer with a document."""
    data = msgspec.json.encode(document)
    return Answer(200, {"content-type": media_type, "content-length": str(len(data))}, data)


def error(status: int, code: str, *messages: str) -> Answer:
    """Return an answer with errors, as the distribution spec writes them."""
    data = msgspec.json.encode({"errors": [{"code": code, "message": message} for message in messages]})
    return Answer(status, {"content-type": "application/json", "content-length": str(len(data))}, data)

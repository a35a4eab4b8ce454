"""Bills of materials: SPDX (2 and 3) and CycloneDX, alone or within in-toto statements and their envelopes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct, field

from regnb.errors import ContentError, TooLarge
from regnb.text import printable

SBOM_LIMIT: Final = 64 * 2**20
"""Bytes of one document."""
COMPONENTS_LIMIT: Final = 200_000
"""Components of one document."""
_DEPTH: Final = 16
"""Components within components."""
_LONGEST: Final = 1000
_PURL: Final = re.compile(r"pkg:/*([A-Za-z][A-Za-z0-9.+-]*)/")
_FOREIGN: Final = "it is neither SPDX nor CycloneDX"
MEDIA_TYPE: Final = re.compile(r"(?:application|text)/(?:vnd\.)?(?:spdx|cyclonedx|syft|in-toto|dsse|dev\.sigstore)\b.*")
"""Of blobs that may be such documents."""


class Component(NamedTuple):
    """A component of a bill of materials.

    Attributes:
        form: ``spdx`` or ``cyclonedx``.
        kind: The type of its package URL, such as ``deb`` or ``npm``; "" where it has none.
    """

    form: str
    kind: str
    name: str
    version: str
    purl: str


class _Envelope(Struct, rename="camel"):
    payload: str | None = None
    dsse_envelope: _Envelope | None = None
    predicate: msgspec.Raw = msgspec.Raw(b"")
    data: msgspec.Raw = field(default=msgspec.Raw(b""), name="Data")


class _Reference(Struct, rename="camel"):
    reference_type: str = ""
    reference_locator: str = ""


class _Package(Struct, rename="camel"):
    name: str = ""
    version: str | None = field(default="", name="versionInfo")
    references: list[_Reference] | None = field(default=None, name="externalRefs")


class _Element(Struct):
    type: str = ""
    name: str | None = ""
    version: str | None = field(default="", name="software_packageVersion")
    purl: str | None = field(default="", name="software_packageUrl")


class _Component(Struct):
    name: str = ""
    version: str | None = ""
    purl: str | None = ""
    group: str | None = ""
    components: list[_Component] | None = None


class _Document(Struct, rename="camel"):
    spdx_version: str = ""
    bom_format: str = ""
    packages: list[_Package] | None = None
    components: list[_Component] | None = None
    graph: list[_Element] | None = field(default=None, name="@graph")


def components(data: bytes) -> list[Component]:
    """Return what a document lists, whatever it is wrapped in.

    Raises:
        ContentError: It is neither SPDX nor CycloneDX, or malformed.
        TooLarge: It lists more than any image has.

    Example:
        >>> components(b'{"bomFormat":"CycloneDX","components":[{"name":"a","purl":"pkg:deb/debian/a@1"}]}')[0].kind
        'deb'
    """
    try:
        document = msgspec.json.decode(_unwrapped(data), type=_Document)
        found = []
        for one in _listed(document):
            found.append(one)
            if len(found) > COMPONENTS_LIMIT:
                raise TooLarge(f"the document lists more than {COMPONENTS_LIMIT:,} components")
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, RecursionError) as error:
        raise ContentError(f"the document is malformed: {str(error)[:200]}") from None
    return found


def _unwrapped(data: bytes) -> bytes:
    """Return the document within envelopes and statements."""
    for _ in range(_DEPTH):
        outer = msgspec.json.decode(data, type=_Envelope)
        if outer.dsse_envelope is not None:
            data = msgspec.json.encode({"payload": outer.dsse_envelope.payload})
        elif outer.payload is not None:
            data = base64.b64decode(outer.payload, validate=True)
        elif inner := bytes(outer.predicate) or bytes(outer.data):
            # Early statements of cosign hold the document as a text.
            data = msgspec.json.decode(inner, type=str).encode() if inner[:1] == b'"' else inner
        else:
            return data
    raise ContentError(_FOREIGN)


def _listed(document: _Document) -> Iterator[Component]:
    if document.bom_format == "CycloneDX":
        for one, _ in _nested(document.components):
            name = f"{one.group}/{one.name}" if one.group else one.name
            yield _component("cyclonedx", name, one.version, one.purl)
    elif document.spdx_version:
        for package in document.packages or ():
            purls = (each.reference_locator for each in package.references or () if each.reference_type == "purl")
            yield _component("spdx", package.name, package.version, next(purls, ""))
    elif document.graph is not None:
        for element in document.graph:
            if element.type == "software_Package":
                yield _component("spdx", element.name or "", element.version, element.purl)
    else:
        raise ContentError(_FOREIGN)


def _nested(some: list[_Component] | None) -> Iterator[tuple[_Component, int]]:
    todo = [(one, 0) for one in reversed(some or ())]
    while todo:
        one, depth = todo.pop()
        yield one, depth
        if depth < _DEPTH:
            todo += [(child, depth + 1) for child in reversed(one.components or ())]


def _component(form: str, *texts: str | None) -> Component:
    name, version, purl = (printable(text or "")[:_LONGEST] for text in texts)
    match = _PURL.match(purl)
    return Component(form, match[1].lower() if match else "", name, version, purl)

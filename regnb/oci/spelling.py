"""Keys of manifests in other letters: registries and most clients, written in Go, take ``"Layers"`` for ``"layers"``.

A registry accepts such a manifest, its garbage collection keeps what it names, and clients pull it. Who reads it by the
letter of the specification sees an image without layers, and takes what it needs for garbage.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw, Struct

_KEYS: Final = (
    "schemaVersion", "mediaType", "config", "layers", "manifests", "blobs", "fsLayers", "blobSum", "subject",
    "artifactType", "annotations", "digest", "size", "platform", "urls",
)  # fmt: skip
_NAMES: Final = {key.lower(): key for key in _KEYS}
_ANY: Final = "|".join(_KEYS).encode()
_ODD: Final = re.compile(rb'"(?=[A-Za-z]{4,13}"\s*:)(?!(?:%b)")(?i:%b)"' % (_ANY, _ANY))
# Letters may be escaped, and Go takes the long s and the Kelvin sign for the letters that they look like.
_HIDDEN: Final = (b"\\u", "\u017f".encode(), "\u212a".encode())


class _Descriptor(Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    """Every key of a descriptor, spelled as in the specification. Within the values no key matters."""

    digest: Raw = Raw()
    size: Raw = Raw()
    media_type: Raw = Raw()
    artifact_type: Raw = Raw()
    annotations: Raw = Raw()
    platform: Raw = Raw()
    urls: Raw = Raw()
    data: Raw = Raw()


class _Manifest(Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    """Likewise every key of an image or an index."""

    schema_version: Raw = Raw()
    media_type: Raw = Raw()
    artifact_type: Raw = Raw()
    annotations: Raw = Raw()
    config: _Descriptor | None = None
    subject: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    blobs: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None


_exact: Final = msgspec.json.Decoder(_Manifest)


class _Pairs(list[tuple[str, object]]):
    """The keys and values of an object, in order: of several that mean the same the last one counts."""


@lru_cache(maxsize=1)  # a manifest's type is told first, and what it says right after
def spelled(data: bytes) -> bytes:
    """Return a manifest in which each key of the specification is spelled as there; as it is, if it is not JSON.

    What is returned is to be read, and never to be kept or sent: it has another digest.

    Example:
        >>> spelled(b'{"Layers":[]}'), spelled(b'{"layers": []}')
        (b'{"layers": []}', b'{"layers": []}')
    """
    try:
        _exact.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    else:
        return data  # as nearly every manifest is; a search takes three times as long
    if not any(map(data.__contains__, _HIDDEN)) and not _ODD.search(data):
        return data
    try:
        return json.dumps(_plain(json.loads(data, object_pairs_hook=_Pairs), named=True)).encode()
    except (ValueError, RecursionError):
        return data


def _plain(value: object, *, named: bool) -> object:
    if isinstance(value, _Pairs):
        found: dict[str, object] = {}
        for key, each in value:
            name = _NAMES.get(key.lower().replace("\u017f", "s"), key) if named else key
            # The keys of annotations are free.
            found[name] = _plain(each, named=named and name != "annotations")
        return found
    return [_plain(each, named=named) for each in value] if isinstance(value, list) else value

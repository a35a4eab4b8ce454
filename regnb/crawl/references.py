"""What a manifest names, and nothing else of it: all that a garbage collection looks at."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from regnb.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST

_IMAGES: Final = frozenset({"", OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES: Final = frozenset({"", OCI_INDEX, DOCKER_LIST})
_CHILDREN: Final = MANIFEST_TYPES | {""}


# Other keys may be these in other letters, by which a collection reads them: `regnb.oci.spelling`.
class _Named(msgspec.Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    digest: str
    size: int
    media_type: str = ""
    annotations: msgspec.Raw = msgspec.Raw()
    artifact_type: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    platform: msgspec.Raw = msgspec.Raw()
    urls: msgspec.Raw = msgspec.Raw()


class _Manifest(msgspec.Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    schema_version: int = 0
    media_type: str = ""
    config: _Named | None = None
    layers: list[_Named] | None = None
    manifests: list[_Named] | None = None
    subject: _Named | None = None
    blobs: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()
    annotations: msgspec.Raw = msgspec.Raw()
    artifact_type: msgspec.Raw = msgspec.Raw()


_manifest = msgspec.json.Decoder(_Manifest)


class References(NamedTuple):
    """The digests that a manifest names."""

    config: str
    layers: list[str]
    children: list[str]
    subject: str


def references(data: bytes) -> References | None:
    """Return what a manifest names; None if it is not of the two usual shapes, so that it has to be looked at closely.

    Example:
        >>> references(b'{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":1}]}')
        References(config='', layers=[], children=['sha256:00'], subject='')
    """
    try:
        found = _manifest.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if found.schema_version != 2 or bytes(found.blobs) or bytes(found.fs_layers):  # noqa: PLR2004 -- schema 2
        return None
    subject = found.subject.digest if found.subject else ""
    config, layers, listed = found.config, found.layers, found.manifests
    if listed is None:
        if layers is None or found.media_type not in _IMAGES:
            return None
        return References(config.digest if config else "", [layer.digest for layer in layers], [], subject)
    if config is not None or layers is not None or found.media_type not in _INDEXES:
        return None
    return References(
        "",
        [each.digest for each in listed if each.media_type not in _CHILDREN],
        [each.digest for each in listed if each.media_type in _CHILDREN],
        subject,
    )

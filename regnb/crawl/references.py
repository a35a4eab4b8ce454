"""What a manifest names, as a garbage collection reads it: one value of another type ends the collection."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec

from regnb.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, INDEXES, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST
from regnb.oci.spelling import spelled

_IMAGES: Final = frozenset({"", OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES: Final = frozenset({"", OCI_INDEX, DOCKER_LIST})
_CHILDREN: Final = MANIFEST_TYPES | {""}


_Text: TypeAlias = str | None
_Texts: TypeAlias = list[_Text] | None
_Annotations: TypeAlias = dict[str, _Text] | None
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Platform(msgspec.Struct, gc=False):
    architecture: _Text = None
    os: _Text = None
    os_version: _Text = msgspec.field(default=None, name="os.version")
    os_features: _Texts = msgspec.field(default=None, name="os.features")
    variant: _Text = None
    features: _Texts = None


# Other keys may be these in other letters, by which a collection reads them: `regnb.oci.spelling`.
class _Named(msgspec.Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    digest: str
    size: _Size
    media_type: str = ""
    annotations: _Annotations = None
    artifact_type: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    platform: _Platform | None = None
    urls: _Texts = None


class _Manifest(msgspec.Struct, gc=False, rename="camel", forbid_unknown_fields=True):
    schema_version: int = 0
    media_type: str = ""
    config: _Named | None = None
    layers: list[_Named] | None = None
    manifests: list[_Named] | None = None
    subject: _Named | None = None
    blobs: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()
    annotations: _Annotations = None
    artifact_type: msgspec.Raw = msgspec.Raw()


_manifest = msgspec.json.Decoder(_Manifest)


# The types of distribution's own structures: null is as good as absent, and a key that is not here may hold anything.
class _Descriptor(msgspec.Struct, gc=False, rename="camel"):
    media_type: _Text = None
    digest: _Text = None
    size: _Size | None = None
    urls: _Texts = None
    annotations: _Annotations = None
    platform: _Platform | None = None


_Descriptors: TypeAlias = list[_Descriptor | None] | None


class _Index(msgspec.Struct, gc=False, rename="camel"):
    schema_version: int | None = None
    media_type: _Text = None
    manifests: _Descriptors = None


class _Docker(msgspec.Struct, gc=False, rename="camel"):
    schema_version: int | None = None
    media_type: _Text = None
    config: _Descriptor | None = None
    layers: _Descriptors = None


class _Image(_Docker, gc=False, rename="camel"):
    annotations: _Annotations = None


_index, _docker, _image = msgspec.json.Decoder(_Index), msgspec.json.Decoder(_Docker), msgspec.json.Decoder(_Image)


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


def misread(data: bytes, media_type: str) -> str:
    """Return why a collection ends at a manifest of schema 2, whatever it names: a value of another type.

    Args:
        data: The manifest.
        media_type: What it says it is; "" if it says nothing.

    Example:
        >>> misread(b'{"schemaVersion":2,"layers":[],"annotations":{"a":1}}', OCI_MANIFEST)
        'Expected `str | null`, got `int` - at `$.annotations[...]`'
    """
    data = _read(data)
    try:
        if media_type in INDEXES or (not media_type and is_index(data)):
            _index.decode(data)
        else:
            (_docker if media_type == DOCKER_MANIFEST else _image).decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return str(error)
    return ""


def is_index(data: bytes) -> bool:
    """Whether a manifest that says nothing of its type is an index to a collection: it is where it reads as one.

    Example:
        >>> is_index(b'{"manifests":[],"layers":[]}'), is_index(b'{"manifests":null}')
        (True, False)
    """
    try:
        return _index.decode(_read(data)).manifests is not None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def _read(data: bytes) -> bytes:
    # What is not UTF-8 is read all the same, as a mark for each such byte.
    return spelled(data).decode("utf-8", "replace").encode()

"""Manifests, indexes and configs, decoded from bytes that were verified first (OCI image spec 1.1, Docker schema 2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final, Literal, NamedTuple, Self, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from regnb.errors import DigestMismatch, MalformedManifest, TooLarge
from regnb.oci.age import made
from regnb.oci.leaks import masked
from regnb.oci.reference import Digest, is_digest
from regnb.oci.spelling import spelled

DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT: Final = "application/vnd.oci.artifact.manifest.v1+json"
SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
HELM_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"

ManifestKind: TypeAlias = Literal[
    "image", "index", "attestation", "signature", "sbom", "artifact", "schema1", "malformed"
]
"""What a manifest is, told by its bytes."""
ACCEPT: Final = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT)
"""What every manifest request accepts. With fewer, a registry may answer with another manifest than the tag's own."""
ACCEPT_ANY: Final = (*ACCEPT, SCHEMA1_SIGNED, SCHEMA1, "*/*")
"""What a second request accepts after a 404: some registries answer 404 where the manifest's type is not accepted."""

IMAGE_CONFIGS: Final = frozenset({DOCKER_CONFIG, OCI_CONFIG})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT})
SCHEMA1_TYPES: Final = frozenset({SCHEMA1, SCHEMA1_SIGNED})
MANIFEST_TYPES: Final = INDEXES | MANIFESTS | SCHEMA1_TYPES
"""Every media type of a manifest."""

MANIFEST_LIMIT: Final = 4 * 1024 * 1024
"""Bytes that a manifest may have (distribution spec 1.1: registries should accept at least this)."""
CONFIG_LIMIT: Final = 16 * 1024 * 1024
"""Bytes that an image config may have."""
SIZE_LIMIT: Final = 2**43
"""A descriptor that claims more than 8 TiB is a lie: no object store takes that much in one piece, and one manifest
full of such layers would overflow the sums it entered."""

_DigestText = Annotated[str, Meta(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")]
_Size = Annotated[int, Meta(ge=0, le=SIZE_LIMIT)]


class Platform(Struct, frozen=True):
    """What a manifest in an index runs on (OCI image index, "platform"). Some tools write null for an absent field.

    Example:
        >>> str(Platform(architecture="arm64", os="linux", variant="v8"))
        'linux/arm64/v8'
    """

    architecture: str | None = ""
    os: str | None = ""
    variant: str | None = ""
    os_version: str | None = field(name="os.version", default="")
    os_features: object = field(name="os.features", default=None)

    @property
    def features(self) -> frozenset[str]:
        """What the system must be able to do, such as ``win32k``, or ``nydus.remoteimage.v1`` for a Nydus image."""
        found = self.os_features if isinstance(self.os_features, list) else ()
        return frozenset(each for each in found if each and isinstance(each, str))

    @property
    def whole(self) -> str:
        """All of it, as ``--platform`` takes it.

        Example:
            >>> Platform("amd64", "windows", os_version="10.0.17763.1", os_features=["win32k"]).whole
            'windows/amd64:10.0.17763.1+win32k'
        """
        rest = "+".join((self.os_version or "", *sorted(self.features)))
        return f"{self}:{rest}" if rest else str(self)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def is_foreign(media_type: str) -> bool:
    """Whether a layer of this type is meant to live elsewhere.

    Example:
        >>> is_foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        True
    """
    return ".foreign." in media_type or ".nondistributable." in media_type


class Descriptor(Struct, frozen=True, rename="camel"):
    """A pointer to some bytes: media type, digest and size (OCI image spec, "Content Descriptors").

    Attributes:
        size: Bytes, as stored and transferred (compressed).

    Example:
        >>> Descriptor(media_type=OCI_CONFIG, digest=Digest.of(b"{}"), size=2).foreign
        False
    """

    digest: _DigestText
    size: _Size
    media_type: str = ""
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: dict[str, object] | None = None
    urls: list[str] | None = None

    @property
    def is_manifest(self) -> bool:
        """Whether an index that lists this means a manifest. Any other media type means a blob."""
        return not self.media_type or self.media_type in MANIFEST_TYPES

    @property
    def foreign(self) -> bool:
        """Whether the bytes are meant to live elsewhere (a foreign or non-distributable layer)."""
        return is_foreign(self.media_type)


class Manifest(Struct, frozen=True):
    """One image or artifact, with its bytes as they were read.

    Attributes:
        raw: The bytes. Whoever pushes the manifest on pushes these.
        digest: Their digest, verified.
        config: None for the withdrawn OCI artifact manifest, and where the manifest has none.
        layers: In order, the base first; equal ones are kept.
        subject: What this manifest refers to, if it is a referrer (distribution spec 1.1, "Listing Referrers").

    Example:
        >>> raw = b'{"schemaVersion":2,"config":{"mediaType":"text/plain","digest":"%s","size":2},"layers":[]}'
        >>> decode(raw % Digest.of(b"{}").encode(), OCI_MANIFEST).kind
        'artifact'
    """

    raw: bytes
    digest: Digest
    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: dict[str, object] = {}

    def __repr__(self) -> str:
        return f"<Manifest {self.kind} {self.digest.short}, {len(self.layers)} layers, {len(self.raw):,} bytes>"

    @property
    def kind(self) -> ManifestKind:
        """``image``, ``attestation``, ``signature``, ``sbom`` or ``artifact``."""
        inner = {layer.media_type for layer in self.layers}
        kind: ManifestKind = "artifact"
        for media_type in (self.artifact_type, *sorted(inner)):
            if "cosign" in media_type or "notary" in media_type or "sigstore" in media_type:
                kind = "signature"
            elif "spdx" in media_type or "cyclonedx" in media_type or "syft" in media_type:
                kind = "sbom"
            elif "in-toto" in media_type or "dsse" in media_type:
                kind = "attestation"
            else:
                continue
            return kind
        return "image" if self.config is not None and self.config.media_type in IMAGE_CONFIGS else kind

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The config and the layers."""
        return (self.config, *self.layers) if self.config is not None else self.layers


class Index(Struct, frozen=True):
    """A list of manifests: a multi-platform image or any other grouping, with its bytes as they were read.

    An index may list blobs as well: BuildKit's registry cache lists its layers there.

    Example:
        >>> decode(b'{"schemaVersion":2,"manifests":[]}', OCI_INDEX).manifests
        ()
    """

    raw: bytes
    digest: Digest
    media_type: str
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: dict[str, object] = {}

    kind: ClassVar[ManifestKind] = "index"

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """What it lists that is a manifest."""
        return tuple(each for each in self.manifests if each.is_manifest)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What it lists that is a blob."""
        return tuple(each for each in self.manifests if not each.is_manifest)

    def __repr__(self) -> str:
        return f"<Index {self.digest.short}, {len(self.manifests)} manifests, {len(self.raw):,} bytes>"


class Schema1(Struct, frozen=True):
    """A manifest of Docker's schema 1: recognised so that it can be flagged, never to be retagged or deleted by digest.

    Attributes:
        digest: What the registry calls it. It is the digest of the payload without its signatures, not of ``raw``.
        layers: The digests of the layers, the base first. Their sizes are not in the manifest.

    Example:
        >>> decode(b'{"schemaVersion":1,"fsLayers":[]}', SCHEMA1, digest=Digest.of(b"")).kind
        'schema1'
    """

    raw: bytes
    digest: Digest
    media_type: str
    layers: tuple[Digest, ...]

    kind: ClassVar[ManifestKind] = "schema1"

    def __repr__(self) -> str:
        return f"<Schema1 {self.digest.short}, {len(self.layers)} layers, {len(self.raw):,} bytes>"


AnyManifest = Manifest | Index | Schema1


_SETTING: Final = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?"
    r"(?:LABEL|CMD|ENV|ENTRYPOINT|EXPOSE|USER|VOLUME|STOPSIGNAL|HEALTHCHECK|SHELL|MAINTAINER|ARG|ONBUILD)\b"
)
"""Steps of a Dockerfile that write no file."""


class HistoryEntry(Struct, frozen=True):
    """One step that made an image (OCI image config, "history")."""

    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = False


class ImageConfig(Struct, frozen=True):
    """An image's config (OCI image config).

    Attributes:
        created: RFC 3339, as written, or None.

    Example:
        >>> decode_config(b'{"os":"linux","architecture":"arm64"}').platform
        'linux/arm64'
    """

    created: str | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    history: list[HistoryEntry] | None = None
    config: dict[str, object] | None = None
    rootfs: object = None

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of its layers' archives, not compressed; none where one of them is not valid.

        Example:
            >>> ImageConfig(rootfs={"type": "layers", "diff_ids": [Digest.of(b"")]}).diff_ids[0][:15]
            'sha256:e3b0c442'
        """
        found = self.rootfs.get("diff_ids") if isinstance(self.rootfs, dict) else None
        texts = found if isinstance(found, list) else []
        return tuple(texts) if all(isinstance(text, str) and is_digest(text) for text in texts) else ()

    @property
    def platform(self) -> str:
        """``os/architecture[/variant]``, or ""."""
        return str(Platform(self.architecture or "", self.os or "", self.variant or ""))

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels."""
        labels = (self.config or {}).get("Labels") or {}
        return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}

    def made(self, now: datetime) -> str:
        """Return when the image was made (RFC 3339, UTC), or "" if its age is unknown (:func:`regnb.oci.age.made`)."""
        found = made(self.created, (entry.created for entry in self.history or []), now)
        return found.isoformat() if found else ""

    def commands(self, count: int) -> list[str]:
        """Return the command that made each of ``count`` layers, in order; "" where the history does not say.

        Values of secrets are left out, as in :meth:`steps`.
        """
        made = [
            masked(entry.created_by or entry.comment or "") for entry in self.history or [] if not entry.empty_layer
        ]
        return made if len(made) == count else [""] * count

    def steps(self, count: int) -> tuple[list[str], str]:
        """Return the steps that made each of ``count`` layers, in order, and what is to be known about them.

        Some tools put the bytes of many steps into one layer and name the last step, which may be a LABEL: then the
        steps before it, which have no layer of their own, are named with it. Where the history has another number of
        steps than there are layers, or names none, it says so and names nothing.

        Example:
            >>> history = [HistoryEntry(created_by="RUN make", empty_layer=True), HistoryEntry(created_by="LABEL a=b")]
            >>> ImageConfig(history=history).steps(1)[0]
            ['RUN make; LABEL a=b']
            >>> ImageConfig().steps(2)
            (['', ''], 'the config does not say what made its layers')
        """
        found: list[str] = []
        waiting: list[str] = []
        joined = False
        for entry in self.history or []:
            text = masked(entry.created_by or entry.comment or "").strip()
            if entry.empty_layer:
                waiting.append(text)
                continue
            # An instruction that writes no file cannot have made a layer by itself.
            together = [*waiting, text] if _SETTING.match(text) else [text]
            joined |= len(together) > 1
            found.append("; ".join(filter(None, together)))
            waiting = []
        if not any(found) or not count:
            return [""] * count, "the config does not say what made its layers" if count else ""
        if len(found) != count:
            return [""] * count, f"the history has {len(found)} steps and there are {count} layers: they do not fit"
        note = "a layer that its history ascribes to a setting holds the steps before it, too" if joined else ""
        return found, note


class _FsLayer(Struct, frozen=True, rename="camel"):
    blob_sum: _DigestText


class _Wire(Struct, frozen=True, rename="camel"):
    """Every field that any manifest has: what is there tells which it is."""

    schema_version: int = 2
    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    blobs: list[Descriptor] | None = None
    manifests: list[Descriptor] | UnsetType | None = UNSET
    fs_layers: list[_FsLayer] | None = None
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: dict[str, object] | None = None


_NULL: Final = b"null"


class _Shape(Struct, rename="camel"):
    """What of a manifest tells its media type; nothing else in it is looked at."""

    schema_version: object = 2
    media_type: object = ""
    config: msgspec.Raw = msgspec.Raw(_NULL)
    layers: msgspec.Raw = msgspec.Raw(_NULL)
    blobs: msgspec.Raw = msgspec.Raw(_NULL)
    manifests: msgspec.Raw = msgspec.Raw()


_T = TypeVar("_T")
_shape = msgspec.json.Decoder(_Shape)
_wire = msgspec.json.Decoder(_Wire, strict=True)
_config = msgspec.json.Decoder(ImageConfig, strict=True)


def _read(decoder: msgspec.json.Decoder[_T], data: bytes, what: str) -> _T:
    try:
        return decoder.decode(data)
    except RecursionError:
        raise MalformedManifest(f"the {what} is nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedManifest(f"the {what} is malformed: {str(error)[:200]}") from None


def verify(data: bytes, *digests: str | None) -> None:
    """Check that ``data`` has each of the given digests; None is passed over.

    Raises:
        DigestMismatch: It has not. The bytes must not be used.
        InvalidReference: One of them is not a digest.

    Example:
        >>> verify(b"{}", Digest.of(b"{}"), None)
    """
    for text in dict.fromkeys(digest for digest in digests if digest is not None):
        expected = Digest(text)
        found = Digest.of(data, expected.algorithm)
        if found != expected:
            raise DigestMismatch(
                f"the bytes have the digest {found}, not {expected}",
                hint="the registry, its storage or a proxy in between changed them",
            )


def media_type_of(data: bytes, announced: str = "") -> str:
    """Return a manifest's media type as its bytes tell it, whatever a proxy made of the answer's header.

    Args:
        data: The bytes.
        announced: The answer's Content-Type, which counts only where the bytes leave the type open.

    Returns:
        The manifest's own ``mediaType``; without one, the type that fits its fields; "" for what is not a manifest.

    Example:
        >>> media_type_of(b'{"schemaVersion":2,"manifests":[]}', "application/json")
        'application/vnd.oci.image.index.v1+json'
    """
    header = announced.partition(";")[0].strip().lower()
    try:
        found = _shape.decode(spelled(data))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return header if header in MANIFEST_TYPES else ""
    image = any(bytes(part) != _NULL for part in (found.config, found.layers, found.blobs))
    listed = bytes(found.manifests)
    index = bool(listed) and not (image and listed == _NULL)
    return _media_type(found.schema_version, found.media_type, header, index=index, image=image)


def contradiction(announced: str, told: str) -> str:
    """Return a header's media type if it is that of another kind of manifest than its bytes tell; else "".

    Example:
        >>> contradiction(DOCKER_LIST, OCI_INDEX), contradiction("application/json", OCI_INDEX)
        ('application/vnd.docker.distribution.manifest.list.v2+json', '')
    """
    header = announced.partition(";")[0].strip().lower()
    return header if header != told and header in MANIFEST_TYPES else ""


def _media_type(version: object, declared: object, header: str, *, index: bool, image: bool) -> str:
    if version == 1:
        return header if header in SCHEMA1_TYPES else SCHEMA1
    if isinstance(declared, str) and declared in INDEXES | MANIFESTS:
        return declared
    if index != image:
        family, usual = (INDEXES, OCI_INDEX) if index else (MANIFESTS, OCI_MANIFEST)
        return header if header in family else usual
    return header if header in MANIFEST_TYPES else ""


class RawManifest(NamedTuple):
    """A manifest's bytes, their media type, and their verified digest.

    Attributes:
        media_type: As the bytes tell it, so that they can be put back under it; the header's only where they do not.
        announced: The header's, where it is the type of another kind of manifest; else "".
    """

    data: bytes
    media_type: str
    digest: Digest
    announced: str = ""

    @classmethod
    def of(cls, data: bytes, announced: str, digest: Digest) -> Self:
        """Return verified bytes with the media type that they tell.

        Args:
            data: The bytes.
            announced: What a registry, a cache or a receipt calls their type.
            digest: Their digest.

        Example:
            >>> RawManifest.of(b'{"manifests":[]}', "text/plain", Digest.of(b'{"manifests":[]}')).media_type
            'application/vnd.oci.image.index.v1+json'
        """
        told = media_type_of(data, announced)
        return cls(data, told or announced, digest, contradiction(announced, told))


def decode(data: bytes, media_type: str = "", *, digest: Digest | None = None) -> AnyManifest:
    """Decode a manifest whose bytes were verified.

    Args:
        data: The bytes.
        media_type: The answer's Content-Type, which counts only where the bytes leave the type open.
        digest: What the bytes were verified against; by default their sha256. For schema 1 what the registry calls it.

    Raises:
        MalformedManifest: The bytes are not a manifest, or one made to do harm.
        TooLarge: There are more than 4 MiB of them.

    Example:
        >>> decode(b'{"schemaVersion":2,"manifests":[]}', OCI_INDEX).kind
        'index'
    """
    if len(data) > MANIFEST_LIMIT:
        raise TooLarge(f"the manifest has {len(data)} bytes; at most {MANIFEST_LIMIT} are accepted")
    wire = _read(_wire, spelled(data), "manifest")
    header = media_type.partition(";")[0].strip().lower()
    image = any(part is not None for part in (wire.config, wire.layers, wire.blobs))
    # Beside layers null is as good as absent; alone it is an index that lists nothing.
    index = wire.manifests is not UNSET and not (image and wire.manifests is None)
    if index and image:
        raise MalformedManifest("the manifest is an image and an index at once")
    kind = _media_type(wire.schema_version, wire.media_type, header, index=index, image=image)
    if kind in SCHEMA1_TYPES:
        # The newest layer comes first in schema 1, and last in every later one.
        layers = tuple(Digest(layer.blob_sum) for layer in reversed(wire.fs_layers or []))
        return Schema1(data, digest or Digest.of(data), kind, layers)
    kind = kind or OCI_MANIFEST
    digest = digest or Digest.of(data)
    annotations = wire.annotations or {}
    if kind in INDEXES and image:
        raise MalformedManifest(f"the manifest lists blobs, and says that it is {kind!r}")
    if kind in INDEXES:
        found = Index(
            data, digest, kind, tuple(wire.manifests or ()), wire.subject, wire.artifact_type or "", annotations
        )
        _check_sum(found.blobs)
        return found
    if index:
        raise MalformedManifest(f"the manifest lists manifests, and says that it is {kind!r}")
    if not image and kind != OCI_ARTIFACT:
        raise MalformedManifest("the manifest has neither a config nor layers")
    artifact_type = wire.artifact_type or (wire.config.media_type if wire.config else "")
    inner = tuple((wire.blobs if kind == OCI_ARTIFACT or wire.layers is None else wire.layers) or ())
    _check_sum((*inner, *((wire.config,) if wire.config else ())))
    return Manifest(data, digest, kind, wire.config, inner, wire.subject, artifact_type, annotations)


def _check_sum(blobs: Sequence[Descriptor]) -> None:
    if sum({blob.digest: blob.size for blob in blobs}.values()) > SIZE_LIMIT:
        raise MalformedManifest("the manifest claims more bytes than any image has")


def decode_config(data: bytes) -> ImageConfig:
    """Decode an image config whose bytes were verified.

    Raises:
        MalformedManifest: The bytes are not an image config.
        TooLarge: There are more than 16 MiB of them.

    Example:
        >>> decode_config(b'{"created":"2026-01-01T00:00:00Z"}').created
        '2026-01-01T00:00:00Z'
    """
    if len(data) > CONFIG_LIMIT:
        raise TooLarge(f"the image config has {len(data)} bytes; at most {CONFIG_LIMIT} are accepted")
    return _read(_config, data, "image config")

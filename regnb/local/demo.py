"""Demo content: a small, realistic registry as values, and how to push it anywhere.

The content is a pure function of this file, so that a test can state what an audit must find. Dates are fixed, and the
bytes are drawn from a hash: the digests are the same on every run.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from regnb.crawl.reader import each
from regnb.errors import StorageError, Unsupported
from regnb.oci import disk
from regnb.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    HELM_CONFIG,
    INDEXES,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
)
from regnb.oci.reference import Digest
from regnb.wire.client import Client

NOW: Final = "2026-11-01T00:00:00Z"
"""The day on which the demo's story ends; its oldest tag is more than three years older."""
RETIRED: Final = "retired/app"
"""The repository that is emptied again: it stays in the catalog without a tag."""
DANGLING: Final = ("broken/dangling", "1.0")
"""The tag whose manifest :func:`damage` takes away."""

_MIB: Final = 1024 * 1024
_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_HELM_CHART: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_COSIGN: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_IN_TOTO: Final = "application/vnd.in-toto+json"
_SPDX: Final = "application/spdx+json"


class Layer(NamedTuple):
    """One layer: a gzipped tar, the digest of the tar itself, and the command that made it."""

    data: bytes
    diff_id: Digest
    created_by: str


class Item(NamedTuple):
    """One manifest to push.

    Attributes:
        tags: Empty for the children of an index and for referrers: they are pushed by digest.
        blobs: The config and the layers.
        children: What an index lists; they are items of their own, too.
        subject: What a referrer refers to.
        fallback: Pushed only where the registry has no referrers endpoint ("Referrers Tag Schema").

    Example:
        >>> next(item for item in items() if "8.4" in item.tags).repository
        'vm/centos8'
    """

    repository: str
    tags: tuple[str, ...]
    media_type: str
    raw: bytes
    blobs: tuple[bytes, ...] = ()
    children: tuple[Item, ...] = ()
    subject: Digest | None = None
    fallback: bool = False

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return Digest.of(self.raw)


class Seeded(NamedTuple):
    """What :func:`seed` did.

    Attributes:
        referrers: Whether the registry has the referrers endpoint; if not, the fallback tag was pushed.
        emptied: Whether ``retired/app`` could be emptied, which takes a registry with deletion enabled.
    """

    referrers: bool
    emptied: bool


def items(*, referrers: bool = True) -> tuple[Item, ...]:
    """Return everything that is pushed, children and subjects first.

    Args:
        referrers: Whether the registry has the referrers endpoint.

    Example:
        >>> len({item.repository for item in items()})
        16
    """
    return tuple(item for item in _content() if not (referrers and item.fallback))


def stored(*, referrers: bool = True) -> dict[Digest, int]:
    """Return the size of everything that is stored once the demo is pushed: blobs and manifests, each once.

    Args:
        referrers: Whether the registry has the referrers endpoint.

    Example:
        >>> sum(stored().values()) < 50 * 1024 * 1024
        True
    """
    sizes: dict[Digest, int] = {}
    for item in items(referrers=referrers):
        sizes[item.digest] = len(item.raw)
        sizes |= {_digest(blob): len(blob) for blob in item.blobs}
    return sizes


async def seed(client: Client) -> Seeded:
    """Push the demo content to a registry: each blob once, then mounted wherever else it is used.

    Example:
        ``await seed(client)``
    """
    sources: dict[bytes, str] = {}
    uses: dict[tuple[str, bytes], None] = {}
    for item in items():
        for blob in item.blobs:
            sources.setdefault(blob, item.repository)
            uses[item.repository, blob] = None

    async def push(use: tuple[str, bytes]) -> None:
        repository, blob = use
        if repository == sources[blob]:
            await client.upload_blob(repository, blob, _digest(blob))
        elif (begun := await client.mount(repository, _digest(blob), sources[blob])) is not None:
            await client.uploads.finish_upload(begun, _digest(blob), blob)

    async def put(same: list[Item]) -> None:
        # One after the other: two writers of the same bytes are a race that a registry may lose.
        for item in same:
            for target in item.tags or (item.digest,):
                await client.put_manifest(item.repository, target, item.raw, item.media_type)

    await each(push, [use for use in uses if sources[use[1]] == use[0]])
    await each(push, [use for use in uses if sources[use[1]] != use[0]])
    everything = items()
    await each(put, _by_digest(item for item in everything if item.media_type not in INDEXES and not item.subject))
    await each(put, _by_digest(item for item in everything if item.media_type in INDEXES))
    signed = [item for item in everything if item.subject]
    await each(put, _by_digest(signed))
    referrers = True
    try:
        await client.referrers(signed[0].repository, signed[0].digest, fallback=False)
    except Unsupported:
        referrers = False
        await put([item for item in items(referrers=False) if item.fallback])
    retired = next(item for item in everything if item.repository == RETIRED)
    try:
        await client.delete_manifest(RETIRED, retired.digest)
    except Unsupported:
        return Seeded(referrers, emptied=False)
    return Seeded(referrers, emptied=True)


def damage(root: Path) -> None:
    """Take away the manifest behind ``broken/dangling:1.0`` on disk: no request can make a tag dangle.

    The registry must not be running, or must be started anew: distribution remembers what it has seen.

    Args:
        root: The folder that holds ``docker/registry/v2``.

    Raises:
        StorageError: The demo is not in this folder.

    Example:
        ``damage(Path("/var/lib/registry"))``
    """
    repository, tag = DANGLING
    item = next(item for item in items() if item.repository == repository and tag in item.tags)
    data = root / disk.blob_path(item.digest)
    if not data.is_file():
        raise StorageError(f"{root} does not hold the demo", hint="push it there first")
    data.unlink()


@cache
def _digest(data: bytes) -> Digest:
    return Digest.of(data)


def _by_digest(some: Iterable[Item]) -> list[list[Item]]:
    groups: dict[bytes, list[Item]] = {}
    for item in some:
        groups.setdefault(item.raw, []).append(item)
    return list(groups.values())


# Making bytes


def _noise(seed: str, size: int) -> bytes:
    """Bytes that no compression makes smaller, the same on every run."""
    return hashlib.shake_128(seed.encode()).digest(size)


def _gzip(data: bytes) -> bytes:
    """Gzip without a date, a name or the name of a system: gzip's own header says which Python wrote it."""
    # Noise does not shrink, and trying takes a second.
    packer = zlib.compressobj(1 if len(data) > _MIB else 9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = packer.compress(data) + packer.flush()
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + body + struct.pack("<LL", zlib.crc32(data), len(data))


def _tar(files: Mapping[str, bytes], created: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if "/bin/" in f"/{name}" else 0o644
            entry.mtime = int(datetime.fromisoformat(created).replace(tzinfo=UTC).timestamp())
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _layer(created_by: str, files: Mapping[str, bytes], created: str = "2024-01-01T00:00:00Z") -> Layer:
    archive = _tar(files, created)
    return Layer(_gzip(archive), Digest.of(archive), created_by)


def _json(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)


def _descriptor(media_type: str, data: bytes, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data), **more}


def _image(
    repository: str,
    tags: str,
    layers: Iterable[Layer],
    created: str,
    *,
    docker: bool = False,
    platform: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Item:
    """One image: ``tags`` are separated by blanks."""
    layers = tuple(layers)
    date = f"{created}T08:30:00Z"
    history: list[dict[str, object]] = [{"created": date, "created_by": layer.created_by} for layer in layers]
    history.append({"created": date, "created_by": 'CMD ["/bin/sh"]', "empty_layer": True})
    config = _json(
        {
            **(platform or {"architecture": "amd64", "os": "linux"}),
            "created": date,
            "config": {
                "Cmd": ["/bin/sh"],
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
                "Labels": {
                    "org.opencontainers.image.title": repository,
                    "org.opencontainers.image.version": tags.partition(" ")[0],
                    **(labels or {}),
                },
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": history,
        }
    )
    manifest_type, config_type, layer_type = (
        (DOCKER_MANIFEST, DOCKER_CONFIG, _DOCKER_LAYER) if docker else (OCI_MANIFEST, OCI_CONFIG, _OCI_LAYER)
    )
    raw = _json(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": _descriptor(config_type, config),
            "layers": [_descriptor(layer_type, layer.data) for layer in layers],
        }
    )
    return Item(repository, tuple(tags.split()), manifest_type, raw, (config, *(layer.data for layer in layers)))


def _artifact(
    repository: str,
    tags: str,
    layer: tuple[str, bytes, dict[str, str]],
    config: tuple[str, bytes] = (OCI_EMPTY, b"{}"),
    *,
    artifact_type: str = "",
    subject: Item | None = None,
    created: str = "",
) -> Item:
    """A manifest that is not an image, with one layer: media type, bytes and annotations."""
    layer_type, data, annotations = layer
    manifest: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(*config),
        "layers": [_descriptor(layer_type, data, **({"annotations": annotations} if annotations else {}))],
    }
    if artifact_type:
        manifest["artifactType"] = artifact_type
    if subject:
        manifest["subject"] = _descriptor(subject.media_type, subject.raw)
    if created:
        manifest["annotations"] = {"org.opencontainers.image.created": f"{created}T08:30:00Z"}
    made = Item(repository, tuple(tags.split()), OCI_MANIFEST, _json(manifest), (config[1], data))
    return made._replace(subject=subject.digest) if subject else made


def _no_image(system: str, data: bytes, **more: object) -> tuple[str, bytes]:
    """The config that buildx and cosign give to what is not an image."""
    rootfs = {"type": "layers", "diff_ids": [_digest(data)]}
    return OCI_CONFIG, _json({"architecture": system, "os": system, **more, "config": {}, "rootfs": rootfs})


def _index(repository: str, tags: str, children: Mapping[Item, Mapping[str, object]], media_type: str) -> Item:
    """An index or Docker list; each child comes with what its descriptor says beside digest and size."""
    listed = [_descriptor(child.media_type, child.raw, **more) for child, more in children.items()]
    raw = _json({"schemaVersion": 2, "mediaType": media_type, "manifests": listed})
    return Item(repository, tuple(tags.split()), media_type, raw, children=tuple(children))


# The story


@cache
def _content() -> tuple[Item, ...]:
    bases = {
        version: _layer(
            f"ADD base-{version}-rootfs.tar.gz /",
            {
                "etc/os-release": f'ID=base\nVERSION_ID="{version}"\n'.encode(),
                "bin/busybox": _noise(f"base {version}", 1_400_000),
            },
        )
        for version in ("3.18", "3.19", "3.20")
    }
    base = [
        _image("library/base", "3.18", [bases["3.18"]], "2023-08-14"),
        _image("library/base", "3.19", [bases["3.19"]], "2024-12-09"),
        _image("library/base", "3.20 latest", [bases["3.20"]], "2026-06-22"),
    ]
    return (
        *base,
        *_virtual_machines(),
        *_releases(
            "apps/web",
            bases,
            "1.0.0 2024-02-05, 1.0.1 2024-02-19, 1.1.0 2024-06-03, 1.2.0 2025-01-13, 1.2.1 2025-02-10, "
            "1.3.0 2025-09-15, 1.4.0 2026-07-06, 1.4.1 2026-09-21, 1.4.2 2026-10-26",
        ),
        *_releases(
            "apps/api",
            bases,
            "0.9.0 2024-03-11, 1.0.0 2024-08-26, 2.0.0 2025-06-16, 2.1.0 2026-03-30, 2.1.1 2026-10-19",
        ),
        *_releases("apps/worker", bases, "2.0.0 2025-06-16, 2.1.0 2026-03-30, 2.1.1 2026-10-19"),
        *_releases("team-a/dashboard", bases, "2024.1 2024-04-02, 2025.1 2025-04-01, 2026.1 2026-04-07"),
        *_releases("team-a/reports", bases, "0.1 2023-11-20, 0.2 2024-01-15"),
        *_releases("team-b/ingest/collector", bases, "5.0 2026-08-17, 5.1 2026-10-12"),
        *_releases("tools/builder", bases, "1.0 2023-09-04"),
        *_multi_platform(bases["3.20"]),
        *_docker_list(),
        *_signed(bases["3.20"]),
        *_charts(),
        _image(RETIRED, "1.0", [bases["3.18"]], "2023-09-18", labels={"status": "retired"}),
        _image(DANGLING[0], DANGLING[1], [bases["3.19"]], "2025-03-03", labels={"status": "will dangle"}),
        _image(DANGLING[0], "1.1", [bases["3.19"]], "2025-03-10", labels={"status": "fine"}),
    )


def _releases(repository: str, bases: Mapping[str, Layer], history: str) -> list[Item]:
    """Images with increasing versions: dependencies change with each minor version, the application every time."""
    versions = [tuple(entry.split()) for entry in history.split(", ")]
    made = []
    for position, (version, date) in enumerate(versions):
        minor = ".".join(version.split(".")[:2])
        base = bases["3.18" if date < "2024-12" else "3.19" if date < "2026-06" else "3.20"]
        layers = [
            base,
            _layer(
                "RUN pip install --no-cache-dir -r requirements.txt",
                {"usr/lib/app/dependencies.bin": _noise(f"{repository} {minor} dependencies", 260_000)},
            ),
            _layer("COPY . /srv/app", {"srv/app/main.bin": _noise(f"{repository} {version}", 48_000)}, date),
            _layer("RUN adduser --system app", {"etc/passwd": b"app:x:100:100::/srv/app:/sbin/nologin\n"}),
        ]
        tags = [version, minor, "latest"] if position == len(versions) - 1 else [version]
        labels = {"org.opencontainers.image.vendor": "Example"}
        made.append(_image(repository, " ".join(dict.fromkeys(tags)), layers, date, labels=labels))
    return made


def _virtual_machines() -> list[Item]:
    """One huge layer beside tiny ones, several tags on one digest, and a copy of it in another repository."""
    first = _layer("ADD centos-8-rootfs.tar.xz /", {"usr/bin/bash": _noise("centos", 2_813_000)})
    hosts = _layer("RUN echo vm > /etc/hostname", {"etc/hostname": b"vm\n"})
    disk = _layer("COPY disk.qcow2 /disk/", {"disk/centos8.qcow2": _noise("disk", 24 * _MIB)})
    entry = _layer(
        "COPY entrypoint.sh /",
        {"entrypoint.sh": b"#!/bin/sh\nexec qemu-system-x86_64 -drive file=/disk/centos8.qcow2\n"},
    )
    newest = _image("vm/centos8", "latest 8 8.4", [first, hosts, disk, entry], "2021-06-07", docker=True)
    return [
        newest,
        _image("vm/centos8", "8.3", [first, hosts, entry], "2020-12-14", docker=True),
        newest._replace(repository="vm/test/centos8", tags=("newtagtest",)),
    ]


def _multi_platform(base: Layer) -> list[Item]:
    """An OCI index as buildx makes it: two platforms, and an attestation for each."""
    repository, created = "tools/cli", "2026-09-07"
    platforms: list[dict[str, str]] = [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux", "variant": "v8"},
    ]
    children: dict[Item, Mapping[str, object]] = {}
    attestations: dict[Item, Mapping[str, object]] = {}
    for platform in platforms:
        name = platform["architecture"]
        program = _layer("COPY cli /usr/local/bin/", {"usr/local/bin/cli": _noise(f"cli {name}", 180_000)})
        # The rootfs of the other platform is another one.
        rootfs = base if name == "amd64" else _layer("ADD base /", {"bin/busybox": _noise("base arm64", 900_000)})
        image = _image(repository, "", [rootfs, program], created, platform=platform)
        statement = _json(
            {
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": "https://slsa.dev/provenance/v0.2",
                "subject": [{"name": f"{repository}:{name}", "digest": {"sha256": image.digest.hex}}],
                "predicate": {"buildType": "https://mobyproject.org/buildkit@v1"},
            }
        )
        attestation = _artifact(
            repository,
            "",
            (_IN_TOTO, statement, {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}),
            _no_image("unknown", statement),
        )
        children[image] = {"platform": platform}
        attestations[attestation] = {
            "platform": {"architecture": "unknown", "os": "unknown"},
            "annotations": {
                "vnd.docker.reference.digest": image.digest,
                "vnd.docker.reference.type": "attestation-manifest",
            },
        }
    listed = children | attestations
    return [*listed, _index(repository, "2.0.0 latest", listed, OCI_INDEX)]


def _docker_list() -> list[Item]:
    repository, created = "library/proxy", "2025-05-12"
    children: dict[Item, Mapping[str, object]] = {}
    for name in ("amd64", "arm64"):
        platform = {"architecture": name, "os": "linux"}
        rootfs = _layer("ADD rootfs.tar /", {"usr/sbin/proxy": _noise(f"proxy {name}", 420_000)})
        image = _image(repository, "", [rootfs], created, docker=True, platform=platform)
        children[image] = {"platform": platform}
    return [*children, _index(repository, "1.25 latest", children, DOCKER_LIST)]


def _signed(base: Layer) -> list[Item]:
    """An image with cosign's signature tag, and with a signature and an SBOM that refer to it as OCI 1.1 has it."""
    repository, created = "apps/payments", "2026-10-05"
    program = _layer("COPY payments /usr/local/bin/", {"usr/local/bin/payments": _noise("payments", 350_000)})
    image = _image(repository, "3.1.0 latest", [base, program], created)
    payload = _json(
        {
            "critical": {
                "identity": {"docker-reference": f"registry.example/{repository}"},
                "image": {"docker-manifest-digest": image.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    # A signature's shape and not a signature: there is no key.
    signature = {"dev.cosignproject.cosign/signature": hashlib.sha256(payload).hexdigest()}
    config = _no_image("", payload, created=f"{created}T09:00:00Z")
    cosign = _artifact(repository, f"sha256-{image.digest.hex}.sig", (_COSIGN, payload, signature), config)
    bundle = _json({"mediaType": _BUNDLE, "messageSignature": {"messageDigest": {"digest": image.digest.hex}}})
    sbom = _json(
        {
            "spdxVersion": "SPDX-2.3",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": f"{repository}:3.1.0",
            "packages": [{"name": "busybox", "versionInfo": "1.36.1", "SPDXID": "SPDXRef-busybox"}],
        }
    )
    referrers = [
        _artifact(repository, "", (media_type, data, {}), artifact_type=media_type, subject=image, created=created)
        for media_type, data in ((_BUNDLE, bundle), (_SPDX, sbom))
    ]
    listed: dict[Item, Mapping[str, object]] = {
        item: {
            "artifactType": media_type,
            "annotations": {"org.opencontainers.image.created": f"{created}T08:30:00Z"},
        }
        for item, media_type in zip(referrers, (_BUNDLE, _SPDX), strict=True)
    }
    fallback = _index(repository, f"sha256-{image.digest.hex}", listed, OCI_INDEX)._replace(fallback=True)
    return [image, cosign, *referrers, fallback]


def _charts() -> list[Item]:
    repository = "charts/web"
    made = []
    for version, created in (("0.3.0", "2025-10-06"), ("0.4.0", "2026-07-13")):
        about = {"apiVersion": "v2", "name": "web", "version": version, "appVersion": "1.4.0", "type": "application"}
        files = {
            "web/Chart.yaml": _json(about),
            "web/values.yaml": b"replicas: 2\nimage: apps/web\n",
            "web/templates/service.yaml": b"apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n",
        }
        chart = _layer("", files, created)
        made.append(
            _artifact(repository, version, (_HELM_CHART, chart.data, {}), (HELM_CONFIG, _json(about)), created=created)
        )
    return made

"""What ``docker save`` wrote before Docker 25, and what ``podman save`` and skopeo write as ``docker-archive``.

Such an archive has configs and layers, and no manifests: these are made here, as Docker makes them when it pushes the
image, with the layers as they lie in the archive.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

import msgspec

from regnb.errors import ContentError, MalformedManifest, StorageError
from regnb.layouts.files import Content, digest_of
from regnb.layouts.index import EMPTY, LIMIT
from regnb.layouts.tar import Member, Tar
from regnb.oci.manifest import CONFIG_LIMIT, DOCKER_CONFIG, DOCKER_MANIFEST
from regnb.oci.reference import Digest, is_digest
from regnb.oci.transports import REF_NAME
from regnb.text import printable

MANIFEST: Final = "manifest.json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
_AGAIN: Final = "save the image again"


class Saved(msgspec.Struct, rename="pascal"):
    """An image in ``manifest.json``: the paths of its config and layers, and its names."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


class _Root(msgspec.Struct):
    diff_ids: list[str] | None = None


class _Config(msgspec.Struct):
    rootfs: _Root | None = None


def saved(tar: Tar) -> list[Saved]:
    """Return the images that ``docker save`` lists, in order.

    Raises:
        StorageError: It did not write this archive.
        ContentError: Its list is malformed.
    """
    data = tar.read(MANIFEST, LIMIT)
    if data is None:
        hint = "write oci-archive:FILE if it holds an OCI layout, or name the right file"
        raise StorageError(f"{tar.where} was not written by docker save: it has no {MANIFEST}", hint=hint)
    try:
        return msgspec.json.decode(data, type=list[Saved])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        text = f"{tar.where}: {MANIFEST} is malformed: {printable(str(error))[:200]}"
        raise MalformedManifest(text, hint=_AGAIN) from None


class DockerArchive:
    """The files of the layout that an archive of ``docker save`` stands for.

    Args:
        tar: The archive.

    Raises:
        StorageError: It is not such an archive.
        ContentError: It lacks a file that it names, or one of them is malformed.
    """

    def __init__(self, tar: Tar) -> None:
        self._tar = tar
        self.where = tar.where
        self._made: dict[str, bytes] = {}
        self._members: dict[str, Member] = {}
        listed = [row for image in saved(tar) for row in self._image(image)]
        document = msgspec.json.decode(EMPTY, type=dict[str, object]) | {"manifests": listed}
        self._index = msgspec.json.encode(document)

    def index(self) -> bytes:
        """Return the ``index.json`` that it would have."""
        return self._index

    def narrow(self, index: bytes) -> None:
        """List less of the archive."""
        self._index = index

    def stamp(self) -> object:
        """Return the same value always."""
        return self.where

    def size(self, digest: str) -> int | None:
        """Return the size of a blob, or None."""
        if digest in self._made:
            return len(self._made[digest])
        return self._members[digest].size if digest in self._members else None

    def open(self, digest: str) -> Content:
        """Open a blob."""
        if digest in self._made:
            return io.BytesIO(self._made[digest])
        return self._tar.open(self._members.get(digest, Member(0, 0)))

    def blobs(self) -> Iterator[tuple[str, int]]:
        """Yield every blob, and each manifest that was made."""
        yield from ((digest, len(data)) for digest, data in self._made.items())
        yield from ((digest, member.size) for digest, member in self._members.items())

    def oddities(self) -> list[str]:
        """Return what is odd about the layout as a whole."""
        return []

    def _image(self, image: Saved) -> Iterator[dict[str, object]]:
        """Make the manifest of an image, and yield its entries."""
        config = self._tar.read(image.config, CONFIG_LIMIT)
        if config is None:
            raise self._lacking(image.config)
        try:
            root = msgspec.json.decode(config, type=_Config).rootfs
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            text = f"{self.where}: {printable(image.config)[:100]} is malformed: {printable(str(error))[:200]}"
            raise MalformedManifest(text, hint=_AGAIN) from None
        stated = (root.diff_ids if root else None) or []
        names = image.layers or []
        layers = [self._layer(name, stated[at] if len(stated) == len(names) else "") for at, name in enumerate(names)]
        about = self._add(config, DOCKER_CONFIG)
        document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": about, "layers": layers}
        row = self._add(msgspec.json.encode(document), DOCKER_MANIFEST)
        for name in image.repo_tags or ():
            yield row | {"annotations": {REF_NAME: name}}
        if not image.repo_tags:
            yield row

    def _add(self, data: bytes, media_type: str) -> dict[str, object]:
        digest = Digest.of(data)
        self._made[digest] = data
        return {"mediaType": media_type, "digest": str(digest), "size": len(data)}

    def _layer(self, name: str, stated: str) -> dict[str, object]:
        """Return the descriptor of a layer: of a plain tar its digest stands in the config, and a copy verifies it."""
        member = self._tar.find(name)
        if member is None:
            raise self._lacking(name)
        zipped = self._tar.open(member).read(2) == b"\x1f\x8b"
        digest = stated if is_digest(stated) and not zipped else digest_of(self._tar.open(member))
        self._members[digest] = member
        return {"mediaType": f"{_LAYER}.gzip" if zipped else _LAYER, "digest": str(digest), "size": member.size}

    def _lacking(self, name: str) -> ContentError:
        text = f"{self.where} is not complete: {MANIFEST} names {printable(name)[:100]}, which is not in it"
        return ContentError(text, hint=_AGAIN)

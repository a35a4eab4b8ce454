"""A generated corpus on Debian's docker-registry: written as its storage folder, so that a large one takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

from regnb.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from regnb.oci.reference import Digest

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Corpus:
    """Writes repositories in distribution's layout.

    Every fourth tag is an index of two platforms, every fifth shares its digest with the tag before it, and all images
    share base layers.
    """

    def __init__(self, root: Path) -> None:
        self.base = root / "docker/registry/v2"
        self._written: set[str] = set()

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def blob(self, repository: str, data: bytes, *, manifest: bool = False) -> dict[str, object]:
        digest = Digest.of(data)
        if digest not in self._written:
            self._written.add(digest)
            self._write(self.base / "blobs/sha256" / digest.hex[:2] / digest.hex / "data", data)
        self._write(self.link(repository, digest, manifest=manifest), digest.encode())
        return {"digest": digest, "size": len(data)}

    def link(self, repository: str, digest: Digest, *, manifest: bool = False) -> Path:
        kind = "_manifests/revisions" if manifest else "_layers"
        return self.base / "repositories" / repository / kind / "sha256" / digest.hex / "link"

    def image(self, repository: str, name: str, architecture: str) -> dict[str, object]:
        layers = [f"base {architecture} {position}".encode() * 50 for position in range(4)]
        layers += [f"{name} {architecture} {position}".encode() * 50 for position in range(3)]
        config = {
            "os": "linux", "architecture": architecture, "created": "2026-05-01T12:00:00Z",
            "history": [{"created_by": f"RUN step {position} of {name}"} for position in range(7)],
            "rootfs": {"type": "layers", "diff_ids": []}, "config": {"Labels": {"name": name}},
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, **self.blob(repository, json.dumps(config).encode())},
            "layers": [{"mediaType": LAYER, **self.blob(repository, layer)} for layer in layers],
        }
        return {"mediaType": OCI_MANIFEST, **self.blob(repository, json.dumps(manifest).encode(), manifest=True)}

    def tag(self, repository: str, tag: str, digest: str) -> None:
        tags = self.base / "repositories" / repository / "_manifests/tags" / tag
        self._write(tags / "current/link", digest.encode())
        self._write(tags / "index/sha256" / digest.partition(":")[2] / "link", digest.encode())

    def write(self, repositories: int, tags: int) -> int:
        """Write the corpus and return the number of tags."""
        for number in range(repositories):
            repository = f"team-{number % 10}/app-{number}"
            digest = ""
            for position in range(tags):
                name = f"{repository}-{position}"
                if position % 5 != 4:
                    found = self.image(repository, name, "amd64")
                    if position % 4 == 0:
                        children = [
                            {**found, "platform": {"os": "linux", "architecture": "amd64"}},
                            {
                                **self.image(repository, name, "arm64"),
                                "platform": {"os": "linux", "architecture": "arm64"},
                            },
                        ]
                        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
                        found = self.blob(repository, json.dumps(index).encode(), manifest=True)
                    digest = str(found["digest"])
                self.tag(repository, f"v{position}", digest)
        return repositories * tags

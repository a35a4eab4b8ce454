"""A registry that is generated as it is asked, for sizes that no real one could be filled to in a test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from regnb.oci.manifest import OCI_CONFIG, OCI_MANIFEST, Descriptor, RawManifest
from regnb.oci.reference import Digest
from regnb.wire.pace import Pace

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class SimulatedClient:
    """Many repositories with many tags; every second tag has a manifest of its own, and all share base layers."""

    def __init__(self, repositories: int, tags: int, layers: int = 6) -> None:
        self.host = "simulated:5000"
        self.repositories = repositories
        self.tag_count = tags
        self.layer_count = layers
        self.requests = 0
        self.pace = Pace(8, 8)
        self._configs: dict[str, bytes] = {}

    @staticmethod
    def _digest(*parts: object) -> str:
        return Digest.of(repr(parts).encode())

    def _config(self, repository: str, number: int) -> bytes:
        history = [{"created_by": f"RUN step {layer}"} for layer in range(self.layer_count)]
        return json.dumps(
            {"os": "linux", "architecture": "amd64", "created": f"2026-01-{number % 28 + 1:02}T00:00:00Z",
             "history": history, "config": {"Labels": {"name": f"{repository}-{number}"}}}
        ).encode()  # fmt: skip

    def raw(self, repository: str, tag: str) -> RawManifest:
        number = int(tag[1:]) // 2
        config = self._config(repository, number)
        self._configs[Digest.of(config)] = config
        own = [self._digest(repository, number, layer) for layer in range(self.layer_count // 2)]
        base = [self._digest("base", layer) for layer in range(self.layer_count - len(own))]
        data = json.dumps({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": Digest.of(config), "size": len(config)},
            "layers": [{"mediaType": LAYER, "digest": digest, "size": 1000} for digest in [*base, *own]],
        }).encode()  # fmt: skip
        return RawManifest(data, OCI_MANIFEST, Digest.of(data))

    async def catalog(self) -> AsyncIterator[list[str]]:
        self.requests += 1
        yield [f"team-{number % 20}/app-{number}" for number in range(self.repositories)]

    async def tags(self, repository: str) -> AsyncIterator[list[str]]:  # noqa: ARG002 -- all alike
        self.requests += 1
        yield [f"v{number}" for number in range(self.tag_count)]

    async def manifest(self, repository: str, target: str) -> RawManifest:
        self.requests += 1
        return self.raw(repository, target)

    async def head_manifest(self, repository: str, target: str) -> Descriptor:
        self.requests += 1
        raw = self.raw(repository, target)
        return Descriptor(digest=raw.digest, size=len(raw.data), media_type=raw.media_type)

    async def blob(self, repository: str, digest: str, *, limit: int) -> bytes:  # noqa: ARG002 -- as the client's
        self.requests += 1
        return self._configs[digest]

    async def referrers(self, repository: str, digest: str, *, fallback: bool) -> tuple[Descriptor, ...]:  # noqa: ARG002
        self.requests += 1
        return ()

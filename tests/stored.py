"""A registry in memory, for inventories of content that a test makes up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import cast

import anyio
from images import Image

from regnb.analysis.inventory import Inventory
from regnb.crawl.crawl import collect
from regnb.errors import NotFound, ServerFailed, Unsupported
from regnb.oci.manifest import Descriptor, RawManifest
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.pace import Pace


class Stored:
    """What was pushed: repository, tag ("" for a manifest by its digest alone) and image.

    Attributes:
        broken: Repository and tag of what the registry answers 500 for; "" for the list of tags.
        gone: Repository and tag of what it lists and does not have.
    """

    host = "stored:5000"
    url = "http://stored:5000"
    authorized = False
    pace = Pace(8, 8)

    def __init__(self, *pushed: tuple[str, str, Image], lists_referrers: bool = False) -> None:
        self.lists_referrers = lists_referrers
        self.listed: dict[str, dict[str, str]] = {}
        self.held: dict[str, dict[str, Image]] = {}
        self.blobs: dict[str, bytes] = {}
        self.broken: set[tuple[str, str]] = set()
        self.gone: set[tuple[str, str]] = set()
        for repository, tag, what in pushed:
            self._hold(repository, what)
            if tag:
                self.listed.setdefault(repository, {})[tag] = what.digest

    def _hold(self, repository: str, what: Image) -> None:
        self.held.setdefault(repository, {})[what.digest] = what
        self.blobs |= {Digest.of(data): data for data in what.blobs}
        for child in what.children:
            self._hold(repository, child)

    async def catalog(self) -> AsyncIterator[list[str]]:
        yield list(self.held)

    async def tags(self, repository: str) -> AsyncIterator[list[str]]:
        if repository not in self.held:
            raise NotFound("no such repository", status=404)
        if (repository, "") in self.broken:
            raise ServerFailed("500", status=500)
        yield list(self.listed.get(repository, ()))

    async def manifest(self, repository: str, target: str, *, accept: Sequence[str] = ()) -> RawManifest:  # noqa: ARG002
        if (repository, target) in self.broken:
            raise ServerFailed("500", status=500)
        found = self.held[repository].get(self.listed[repository].get(target, target))
        if found is None or (repository, target) in self.gone:
            raise NotFound("manifest unknown", status=404)
        return RawManifest(found.data, found.media_type, found.digest)

    async def blob(self, repository: str, digest: str, *, limit: int) -> bytes:  # noqa: ARG002 -- as the client's
        if digest not in self.blobs:
            raise NotFound("blob unknown", status=404)
        return self.blobs[digest]

    async def referrers(self, repository: str, digest: str, *, fallback: bool) -> Sequence[Descriptor]:  # noqa: ARG002
        if not self.lists_referrers:
            raise Unsupported("no referrers", status=404)
        return [
            Descriptor(digest=one.digest, size=len(one.data), media_type=one.media_type)
            for one in self.held[repository].values()
            if subject_of(one) == digest
        ]

    def inventory(self, repositories: Iterable[str] | None = None) -> Inventory:
        """Read it as any registry is read."""

        async def read() -> Inventory:
            wanted = None if repositories is None else list(repositories)
            return Inventory.of(await collect(cast("Client", self), Cache(), wanted))

        return anyio.run(read)


def subject_of(what: Image) -> str:
    found = json.loads(what.data).get("subject")
    return str(found["digest"]) if found else ""

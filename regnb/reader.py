"""Read single manifests of one registry, from the cache where it may be, and the trees of manifests behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import anyio

from regnb.cache import Cache
from regnb.client import Client, RawManifest
from regnb.collect import DEPTH_LIMIT, NODE_LIMIT
from regnb.errors import NotFound, TooLarge
from regnb.model import SCHEMA1_TYPES, AnyManifest, Index, decode
from regnb.reference import Digest, is_digest

_AT_ONCE: Final = 16
"""Requests under way at once, before the transport's own pace."""

_A = TypeVar("_A")
_B = TypeVar("_B")


async def each(work: Callable[[_A], Awaitable[_B]], values: Iterable[_A], at_once: int = _AT_ONCE) -> list[_B]:
    """Run ``work`` on every value, some at once, and return the results in order; the first error ends it.

    Example:
        ``states = await each(reader.digest_of, tags)``
    """
    todo = list(enumerate(values))
    found: dict[int, _B] = {}
    pending = iter(todo)

    async def run() -> None:
        for number, value in pending:
            found[number] = await work(value)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(min(at_once, len(todo))):
                group.start_soon(run)
    except BaseExceptionGroup as group_error:
        # One failed and the others were cancelled: the caller asked for one answer, so it gets one error.
        raise group_error.exceptions[0] from None
    return [found[number] for number in range(len(todo))]


class Reader:
    """A registry to read from: manifests by digest come from the cache, existence never does.

    Args:
        client: The registry.
        cache: Content by digest.

    Example:
        ``raw = await Reader(client, cache).manifest("vm/centos8", "latest")``
    """

    def __init__(self, client: Client, cache: Cache) -> None:
        self.client = client
        self.cache = cache

    @property
    def url(self) -> str:
        """The registry's origin, without credentials."""
        return self.client.transport.url

    @property
    def authorized(self) -> bool:
        """Whether the registry was given an Authorization."""
        return any(exchange.authorized for exchange in self.client.transport.exchanges)

    async def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted; none if there is no such repository."""
        try:
            return sorted({tag async for page in self.client.tags(repository) for tag in page})
        except NotFound:
            return []

    async def digest(self, repository: str, target: str) -> str:
        """Return what a tag or digest is now, with one HEAD; "" if it is not there."""
        try:
            return str((await self.client.head_manifest(repository, target)).digest)
        except NotFound:
            return ""

    async def digests(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        """Return what each tag points at now, with a HEAD each; "" for one that points at nothing.

        Raises:
            RegistryError: The registry cannot say of one of them.
        """

        async def ask(tag: str) -> str:
            return await self.digest(repository, tag)

        return dict(zip(tags, await each(ask, tags), strict=True))

    async def manifest(self, repository: str, target: str) -> RawManifest:
        """Return a manifest's verified bytes; by digest they may come from the cache.

        Raises:
            NotFound: There is no such manifest.
        """
        if is_digest(target) and (cached := self.cache.get(Digest(target))):
            return RawManifest(cached.data, cached.media_type, Digest(target))
        raw = await self.client.manifest(repository, target)
        if raw.media_type not in SCHEMA1_TYPES:
            self.cache.put(raw.digest, raw.media_type, raw.data)
        return raw

    async def tree(self, repository: str, root: RawManifest) -> list[tuple[RawManifest, AnyManifest]]:
        """Return a manifest with every manifest behind it, each once, children before the index that lists them.

        Raises:
            NotFound: A child is missing.
            MalformedManifest: One is no manifest.
            TooLarge: There are too many, or they are nested too deeply.
        """
        found: dict[str, tuple[RawManifest, AnyManifest]] = {}
        level = [root]
        order: list[str] = []
        for _ in range(DEPTH_LIMIT + 1):
            following: list[str] = []
            for raw in level:
                manifest = decode(raw.data, raw.media_type, digest=raw.digest)
                found[raw.digest] = (raw, manifest)
                if isinstance(manifest, Index):
                    following += [child.digest for child in manifest.manifests]
            # A manifest that stands on two levels belongs to the deeper one, so that it still comes before its index.
            order = [digest for digest in order if digest not in following]
            order += [raw.digest for raw in level if raw.digest not in order]
            if not following:
                return [found[digest] for digest in reversed(order)]
            if len(found) + len(following) > NODE_LIMIT:
                break

            async def get(digest: str) -> RawManifest:
                return found[digest][0] if digest in found else await self.manifest(repository, digest)

            level = await each(get, dict.fromkeys(following))
        raise TooLarge(f"{repository}@{root.digest}: more than {DEPTH_LIMIT} levels or {NODE_LIMIT} manifests")

"""Read single manifests of one registry, from the cache where it may be, and the trees of manifests behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import anyio

from regnb.crawl.records import DEPTH_LIMIT, NODE_LIMIT
from regnb.directories.detection import find
from regnb.directories.directory import Directory
from regnb.errors import MalformedManifest, NotFound, RegnbError, TooLarge
from regnb.oci.manifest import (
    CONFIG_LIMIT,
    IMAGE_CONFIGS,
    SCHEMA1_TYPES,
    AnyManifest,
    Descriptor,
    ImageConfig,
    Manifest,
    RawManifest,
    Schema1,
    decode,
    decode_config,
)
from regnb.oci.reference import Digest, is_digest, is_tag
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.pace import MOST

_A = TypeVar("_A")
_B = TypeVar("_B")


async def each(work: Callable[[_A], Awaitable[_B]], values: Iterable[_A], at_once: int = MOST) -> list[_B]:
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
        own: Whether the registry's own API may be asked, beside the registry API.

    Example:
        ``raw = await Reader(client, cache).manifest("vm/centos8", "latest")``
    """

    def __init__(self, client: Client, cache: Cache, *, own: bool = False) -> None:
        self.client = client
        self.cache = cache
        self.own = own
        self._found: list[Directory | None] = []

    async def directory(self) -> Directory | None:
        """Return the adapter to the registry's own API; None where it has none, or it may not be asked."""
        if self.own and not self._found:
            self._found.append(await find(self.client))
        return self._found[0] if self._found else None

    @property
    def url(self) -> str:
        """The registry's origin, without credentials."""
        return self.client.transport.url

    @property
    def authorized(self) -> bool:
        """Whether the registry was given an Authorization."""
        return self.client.authorized

    async def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted; none if there is no such repository.

        A listed name that is not a valid tag, as some registries list digests, cannot be asked for, and is left out.

        Raises:
            Unproven: The answer is not a registry's list.
        """
        try:
            return sorted({tag async for page in self.client.tags(repository) for tag in page if is_tag(tag)})
        except NotFound:
            return []

    async def digest(self, repository: str, target: str) -> str:
        """Return what a tag or digest is now, with one HEAD, and a GET where that finds nothing; "" if it is absent.

        A header says which digest that is, and no bytes prove it: what a write depends on is asked with :meth:`look`.

        Raises:
            Unproven: The answer is not a registry's.
        """
        try:
            return str((await self.client.head_manifest(repository, target)).digest)
        except NotFound:
            return ""

    async def look(self, repository: str, target: str) -> RawManifest | None:
        """Return what a tag or digest is now, with one GET and never from the cache; None if it is absent.

        Raises:
            Unproven: The answer is not a registry's.
        """
        try:
            return await self.client.manifest(repository, target)
        except NotFound:
            return None

    async def verified(self, repository: str, tags: Sequence[str]) -> dict[str, str]:
        """Return what each tag points at now, with a GET each, whose bytes have that digest; "" for nothing.

        Raises:
            RegistryError, ContentError: The registry cannot say of one of them.
        """

        async def ask(tag: str) -> str:
            raw = await self.look(repository, tag)
            if raw is not None and raw.media_type not in SCHEMA1_TYPES:
                self.cache.put(raw.digest, raw.media_type, raw.data)
            return str(raw.digest) if raw is not None else ""

        return dict(zip(tags, await each(ask, tags), strict=True))

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
            return RawManifest.of(cached.data, cached.media_type, Digest(target))
        raw = await self.client.manifest(repository, target)
        if raw.media_type not in SCHEMA1_TYPES:
            self.cache.put(raw.digest, raw.media_type, raw.data)
        return raw

    async def config(self, repository: str, manifest: AnyManifest) -> ImageConfig | None:
        """Return an image's config, from the cache if it may be; None for what is not an image.

        Raises:
            NotFound: There is no such blob.
            MalformedManifest: It is not a config.
        """
        about = manifest.config if isinstance(manifest, Manifest) else None
        if about is None or about.media_type not in IMAGE_CONFIGS:
            return None
        digest = Digest(about.digest)
        if cached := self.cache.get(digest):
            return decode_config(cached.data)
        data = await self.client.blob(repository, digest, limit=CONFIG_LIMIT)
        self.cache.put(digest, about.media_type, data)
        return decode_config(data)

    async def absent(self, manifests: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return which manifests, by repository and digest, are certainly not there: a GET of each is answered so.

        Any other answer, or none, proves nothing.
        """

        async def ask(wanted: tuple[str, str]) -> bool:
            try:
                await self.client.manifest(*wanted)
            except NotFound:
                return True
            except RegnbError:
                return False
            return False

        some = list(manifests)
        return [one for one, gone in zip(some, await each(ask, some), strict=True) if gone]

    async def present(self, repository: str, target: str) -> RawManifest:
        """Return a manifest that is there now: where the cache has its bytes, the registry is asked with a HEAD.

        Raises:
            NotFound: There is no such manifest.
        """
        known = is_digest(target) and self.cache.get(Digest(target)) is not None
        if known and not await self.digest(repository, target):
            raise NotFound(
                f"{self.client.host} has no {repository}@{target}", hint="list the tags: it was deleted or pushed anew"
            )
        return await self.manifest(repository, target)

    async def tree(
        self, repository: str, root: RawManifest, *, present: bool = False
    ) -> list[tuple[RawManifest, AnyManifest]]:
        """Return a manifest with every manifest behind it, each once, children before the index that lists them.

        An index may list what is not a manifest, as a build cache does: that is left out, and :func:`parts` has it.

        Args:
            repository: Where they are.
            root: The first.
            present: Whether the registry is asked for what is in the cache, too.

        Raises:
            NotFound: A child is missing.
            MalformedManifest: One is not a manifest.
            TooLarge: There are too many, or they are nested too deeply.
        """
        found: dict[str, tuple[RawManifest, AnyManifest]] = {}

        async def get(digest: str) -> RawManifest:
            if digest in found:
                return found[digest][0]
            try:
                return await (self.present if present else self.manifest)(repository, digest)
            except NotFound as error:
                message = f"{self.client.host} lacks {digest}, which an index of {repository} lists"
                raise error.saying(message, hint="push the image again, or delete the index") from None

        level = [root]
        for _ in range(DEPTH_LIMIT + 1):
            following: dict[str, None] = {}
            for raw in level:
                manifest = _decoded(repository, raw)
                found[raw.digest] = (raw, manifest)
                following |= dict.fromkeys(child.digest for child in parts(manifest)[0])
            if not following:
                return [found[digest] for digest in _ordered(root.digest, found)]
            if len(found.keys() | following.keys()) > NODE_LIMIT:
                break
            level = await each(get, following)
        raise TooLarge(f"{repository}@{root.digest}: more than {DEPTH_LIMIT} levels or {NODE_LIMIT} manifests")


def parts(manifest: AnyManifest) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    """Return the manifests that a manifest lists, and the blobs that it consists of and that are stored beside it.

    Example:
        >>> parts(decode(b'{"schemaVersion":2,"manifests":[]}', "application/vnd.oci.image.index.v1+json"))
        ((), ())
    """
    if isinstance(manifest, Schema1):
        return (), ()
    if isinstance(manifest, Manifest):
        return (), tuple({blob.digest: blob for blob in manifest.blobs if not blob.foreign}.values())
    children, blobs = ({each.digest: each for each in some} for some in (manifest.children, manifest.blobs))
    return tuple(children.values()), tuple(blobs.values())


def _decoded(repository: str, raw: RawManifest) -> AnyManifest:
    try:
        return decode(raw.data, raw.media_type, digest=raw.digest)
    except MalformedManifest as error:
        raise MalformedManifest(f"{repository}@{raw.digest}: {error.message}") from None


def _ordered(root: str, found: Mapping[str, tuple[RawManifest, AnyManifest]]) -> list[str]:
    order: dict[str, None] = {}

    def visit(digest: str) -> None:
        if digest not in order:
            for child in parts(found[digest][1])[0]:
                visit(child.digest)
            order[digest] = None

    visit(root)
    return list(order)

"""The distribution spec 1.1 as methods: one per endpoint, reading and writing alike."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Final, Self
from urllib.parse import urlsplit

from msgspec import Struct

from regnb.errors import (
    ConnectionFailed,
    ContentError,
    Denied,
    DigestMismatch,
    InvalidArgument,
    NotFound,
    RegistryError,
    Unauthorized,
    Unsupported,
)
from regnb.oci import manifest as model
from regnb.oci.manifest import Descriptor, RawManifest
from regnb.oci.reference import Digest, check_repository, check_tag, is_digest
from regnb.oci.referrers import referrers_tag
from regnb.wire import existence
from regnb.wire.addresses import FRONT
from regnb.wire.answers import digest_of, expect, not_a_registry, refuse
from regnb.wire.asking import exchanged
from regnb.wire.authentication import Unscoped
from regnb.wire.capabilities import Capabilities, Name
from regnb.wire.channel import Channel
from regnb.wire.exchange import Answer, Target, target
from regnb.wire.existence import REFUSALS
from regnb.wire.failures import failure, unproven
from regnb.wire.pace import Pace
from regnb.wire.pages import Page, pages
from regnb.wire.uploads import Upload, Uploads, push

_ACCEPT: Final = {"Accept": ", ".join(model.ACCEPT)}
CATALOG_HINT: Final = "name the repositories: a name without * needs no catalog"


class Ping(Struct, frozen=True):
    """What ``/v2/`` answered.

    Attributes:
        api_version: The header Docker-Distribution-Api-Version (``registry/2.0``), or "": the spec asks for none.
        authenticated: Whether the answer was given to credentials.
        reserved: Why nobody is let in without naming a repository, which may be readable; or "".
    """

    api_version: str
    authenticated: bool
    reserved: str = ""


class Client:
    """One registry. Names are checked before anything is sent; bytes are verified before they are returned.

    Every method raises `InvalidReference` for a name that the grammar forbids, and the `RegistryError` that fits the
    registry's answer: `Unauthorized`, `Denied`, `NotFound`, `Unproven`, `Unsupported`, `RateLimited`, `ServerFailed`,
    `ConnectionFailed`. `NotFound` is proven: whatever else may have answered 404 is `Unproven`.

    Args:
        transport: How requests get there. The client closes it.

    Example:
        ```python
        async with Client(Transport("http://localhost:5000")) as client:
            raw = await client.manifest("vm/centos8", "latest")
        ```
    """

    def __init__(self, transport: Channel) -> None:
        self.transport = transport
        self.uploads = Uploads(transport)
        self._heads = True
        self.capabilities = Capabilities()

    @property
    def host(self) -> str:
        """``host[:port]``."""
        return self.transport.host

    @property
    def pace(self) -> Pace:
        """How many requests are under way at once."""
        return self.transport.pace

    @property
    def authorized(self) -> bool:
        """Whether a request of late carried an Authorization."""
        return any(exchange.authorized for exchange in self.transport.exchanges)

    async def __aenter__(self) -> Self:
        await self.transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self.transport.aclose()

    # Reading

    async def ping(self) -> Ping:
        """Ask whether this is a registry, and whether the credentials fit (GET /v2/, "Determining Support").

        Raises:
            NotARegistry: Something else answers there.

        Example:
            ``(await client.ping()).authenticated``
        """
        try:
            response = await self.transport.request("GET", "/v2/")
        except Unscoped as error:
            # ghcr.io names a scope there that is a placeholder; podman logs in to a namespace alone.
            self.capabilities.note("API version", "yes", f"GET /v2/: {error.status}")
            return Ping("", authenticated=False, reserved=error.message)
        version = response.headers.get("docker-distribution-api-version", "")
        if response.status == 404 or (response.status == 200 and not version and response.html):
            raise not_a_registry(response)
        expect(response, self.transport.url, 200)
        self.capabilities.note("API version", "yes", "GET /v2/: 200", version)
        return Ping(version, response.authorized)

    async def catalog(self, page_size: int | None = 1000) -> AsyncIterator[list[str]]:
        """List the repositories, page by page, as the registry orders them (GET /v2/_catalog).

        Args:
            page_size: Entries to ask for at once. A registry that allows fewer is asked again without a number.

        Raises:
            Unsupported: The registry has no catalog, or refuses it.
            ContentError: The pages go in circles or lead elsewhere.
            TooLarge: They do not end.

        Example:
            ``names = [name async for page in client.catalog() for name in page]``
        """
        begun = False
        try:
            scope = ("registry:catalog:*",)
            async for page in self._pages("/v2/_catalog", page_size, scope, paged="catalog in pages"):
                if not begun:
                    self.capabilities.note("catalog", "yes", "GET /v2/_catalog: 200")
                begun = True
                yield page.repositories or []
        except (Unauthorized, Denied, Unsupported) as error:
            self.capabilities.note("catalog", "no", f"GET /v2/_catalog: {error.status}")
            hint = f"{error.hint}, or {CATALOG_HINT}" if isinstance(error, Unauthorized) else CATALOG_HINT
            raise error.saying(error.message, hint=hint) from None
        except RegistryError as error:
            if isinstance(error, ConnectionFailed) and error.status is None and self.transport.reached:
                hint = "; or ".join(filter(None, (error.hint, CATALOG_HINT)))
                raise error.saying(f"the catalog was not read: {error.message}", hint=hint) from None
            if begun or not _refused(error):
                raise
            self.capabilities.note("catalog", "no", f"GET /v2/_catalog: {error.status}")
            raise _unsupported(error, "does not list its repositories", CATALOG_HINT) from error

    async def tags(self, repository: str, page_size: int | None = None) -> AsyncIterator[list[str]]:
        """List a repository's tags, page by page, as the registry orders them (GET tags/list).

        Raises:
            NotFound: There is no such repository; some registries say so of an emptied one.
            Unproven: The answer is not a registry's list.
            ContentError: The pages go in circles or lead elsewhere.
            TooLarge: They do not end.

        Example:
            ``names = [name async for page in client.tags("vm/centos8") for name in page]``
        """
        path = f"/v2/{check_repository(repository)}/tags/list"
        async for page in self._pages(path, page_size, _pull(repository), paged="tags in pages"):
            yield page.tags or []

    async def head_manifest(self, repository: str, target: str) -> Descriptor:
        """Ask what a tag or a digest is, without reading it (HEAD manifests/<target>).

        A HEAD's 404 could be anybody's, and some registries do not know HEAD: then a GET decides.

        Raises:
            NotFound: It is not there.
            DigestMismatch: A digest was asked for and another announced.

        Example:
            ``(await client.head_manifest("vm/centos8", "latest")).digest``
        """
        wanted = _target(repository, target)
        path = f"/v2/{repository}/manifests/{target}"
        digest, length = None, ""
        if self._heads:
            response = await self.transport.request("HEAD", path, headers=_ACCEPT, scope=_pull(repository), limit=0)
            self._heads = response.status not in (405, 501)
            if self._heads and response.status != 404:
                expect(response, self.transport.url, 200)
                digest, length = digest_of(response), response.headers.get("content-length", "")
        if digest is None or not length.isdecimal():
            raw = await self.manifest(repository, target)
            return Descriptor(raw.digest, len(raw.data), raw.announced or raw.media_type)
        if wanted is not None and wanted.algorithm == digest.algorithm and wanted != digest:
            raise DigestMismatch(f"{repository}: asked for {wanted}, the registry announced {digest}")
        return Descriptor(digest, int(length), response.media_type)

    async def manifest(self, repository: str, target: str, *, accept: Sequence[str] = model.ACCEPT) -> RawManifest:
        """Read the manifest of a tag or a digest (GET manifests/<target>).

        The bytes are verified against the digest that was asked for and the one that was announced. Schema 1 is the
        exception: its digest leaves the signatures out, so the header's is returned as it is. Flag it, trust nothing.

        Args:
            repository: Where it is.
            target: A tag or a digest.
            accept: The media types that are accepted.

        Raises:
            NotFound: It is not there.
            Unproven: The answer is not a registry's.
            DigestMismatch: The bytes are others.
            TooLarge: There are more than 4 MiB of them.

        Example:
            ``decode(*(await client.manifest("vm/centos8", "latest"))[:2])``
        """
        wanted = _target(repository, target)
        response = await self.transport.request(
            "GET",
            f"/v2/{repository}/manifests/{target}",
            headers=_ACCEPT if accept is model.ACCEPT else {"Accept": ", ".join(accept)},
            scope=_pull(repository),
            limit=model.MANIFEST_LIMIT,
        )
        if response.status != 200:
            refuse(response, self.transport.url)
        data, announced = response.data, digest_of(response)
        if response.html:
            raise not_a_registry(response)
        if not wanted and not announced and (doubt := existence.doubt(response, self.transport.url)):
            raise unproven(response, doubt)
        raw = RawManifest.of(data, response.media_type, wanted or announced or Digest.of(data))
        if raw.media_type in model.SCHEMA1_TYPES:
            return raw._replace(digest=announced or raw.digest)
        model.verify(data, wanted, announced)
        return raw

    async def blob(self, repository: str, digest: str, *, limit: int) -> bytes:
        """Read a small blob, such as a config, whole (GET blobs/<digest>).

        Raises:
            DigestMismatch: The bytes are others.
            TooLarge: There are more than ``limit`` of them.

        Example:
            ``await client.blob("vm/centos8", manifest.config.digest, limit=CONFIG_LIMIT)``
        """
        response = await self.transport.request("GET", _blob(repository, digest), scope=_pull(repository), limit=limit)
        expect(response, self.transport.url, 200)
        model.verify(response.data, digest)
        return response.data

    @contextlib.asynccontextmanager
    async def blob_stream(
        self, repository: str, digest: str, *, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read a blob, or its bytes from ``start`` up to ``stop``, in chunks (GET blobs/<digest>, with Range).

        Raises:
            DigestMismatch: At the end of a whole blob: its bytes are others.

        Example:
            ``async with client.blob_stream("vm/centos8", digest) as chunks: ...``
        """
        if start < 0 or (stop is not None and stop <= start):
            raise InvalidArgument(
                f"no such range of bytes: {start} to {stop}", hint="start at 0 or more, stop after it"
            )
        whole = start == 0 and stop is None
        headers = {} if whole else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        path = _blob(repository, digest)
        async with self.transport.stream("GET", path, headers=headers, scope=_pull(repository)) as response:
            if response.status not in (200, 206):
                refuse(await response.read(), self.transport.url)
            if whole:
                yield _verified(response.chunks, Digest(digest))
            else:
                # A registry may ignore Range and send everything.
                yield response.chunks if response.status == 206 else _cut(response.chunks, start, stop)

    async def head_blob(self, repository: str, digest: str) -> int:
        """Return a blob's size (HEAD blobs/<digest>). A registry with a cache may know blobs that are gone.

        Example:
            ``await client.head_blob("vm/centos8", layer.digest)``
        """
        path, scope = _blob(repository, digest), _pull(repository)
        response = await self.transport.request("HEAD", path, scope=scope, limit=0)
        if response.status in (404, 405, 501):
            async with self.transport.stream("GET", path, headers={"Range": "bytes=0-0"}, scope=scope) as answer:
                if answer.status not in (200, 206):
                    refuse(await answer.read(), self.transport.url)
                announced = answer.headers.get("content-length" if answer.status == 200 else "content-range", "")
                length = announced.rpartition("/")[2]
        else:
            expect(response, self.transport.url, 200)
            length = response.headers.get("content-length", "")
        if not length.isdecimal():
            raise ContentError(f"{repository}@{digest}: the registry announced no size", hint=FRONT)
        return int(length)

    async def blob_present(self, repository: str, digest: str) -> bool:
        """Whether a blob's bytes are there: one of them is read.

        After a garbage collection without a restart, distribution still answers 200 to a HEAD of what is gone, and
        206 to a GET, but breaks off before the first byte.

        Example:
            ``await client.blob_present("vm/centos8", layer.digest)``
        """
        path = _blob(repository, digest)
        headers = {"Range": "bytes=0-0"}
        for _ in range(2):  # a connection may break off for other reasons, but hardly twice
            async with self.transport.stream("GET", path, headers=headers, scope=_pull(repository)) as response:
                if response.status == 416:  # an empty blob has no byte 0
                    return True
                if response.status not in (200, 206):
                    try:
                        refuse(await response.read(), self.transport.url)
                    except NotFound:
                        return False
                try:
                    first = await anext(response.chunks, b"")
                except ConnectionFailed:
                    continue
                return bool(first) or digest == Digest.of(b"", Digest(digest).algorithm)
        return False

    async def referrers(
        self, repository: str, digest: str, artifact_type: str | None = None, *, fallback: bool = True
    ) -> tuple[Descriptor, ...]:
        """List what refers to a manifest: signatures, SBOMs, attestations ("Listing Referrers").

        Args:
            repository: Where the manifest is.
            digest: The manifest's.
            artifact_type: Only those of this type; filtered here where the registry does not.
            fallback: Where the registry has no such endpoint, read the tag ``sha256-<hex>`` instead ("Referrers Tag
                Schema"); if False, raise `Unsupported`.

        Raises:
            Unsupported: The registry has no such endpoint.

        Example:
            ``await client.referrers("vm/centos8", manifest.digest)``
        """
        subject = Digest(digest)
        path = f"/v2/{check_repository(repository)}/referrers/{subject}"
        params = {"artifactType": artifact_type} if artifact_type else None
        found: list[Descriptor] = []
        try:
            async for page in self._pages(path, None, _pull(repository), params):
                found += page.manifests or []
            self.capabilities.note("referrers", "yes", "GET referrers: 200")
        except RegistryError as error:
            if found or not _refused(error):
                raise
            self.capabilities.note("referrers", "no", f"GET referrers: {error.status}")
            if not fallback:
                raise _unsupported(error, "does not list referrers") from error
            with contextlib.suppress(NotFound):
                raw = await self.manifest(repository, referrers_tag(subject))
                listed = model.decode(raw.data, raw.media_type, digest=raw.digest)
                found = list(listed.manifests) if isinstance(listed, model.Index) else []
        return tuple(each for each in found if artifact_type is None or each.artifact_type == artifact_type)

    def target(self, path: str) -> Target:
        """Read a path of the API, or its URL at this registry, and check the names in it; nothing is sent.

        Raises:
            InvalidArgument: It is none, or leads to another server.

        Example:
            ``client.target("/v2/vm/centos8/manifests/latest").repository``
        """
        if "://" in path:
            parts = urlsplit(path)
            if not self.transport.owns(path):
                elsewhere = f"{parts.netloc.rpartition('@')[2][:200]!r} is not the registry at {self.transport.url}"
                raise InvalidArgument(elsewhere, hint="connect to that one, or give the path alone, from /v2/ on")
            base = urlsplit(self.transport.url).path
            path = parts._replace(scheme="", netloc="", path=parts.path.removeprefix(base)).geturl()
        return target(path)

    async def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET, HEAD or OPTIONS as someone typed it; whatever comes is the answer, and no status is an error.

        Args:
            method: One of `READS`.
            path: From ``/v2/`` on, or a URL at this registry.
            headers: Such as Accept; by default a manifest is asked for in every type.

        Raises:
            Refused: The method could write.
            InvalidArgument: A path or header that is not sent.
            ConnectionFailed: There was no answer.

        Example:
            ``(await client.ask("GET", "/v2/_catalog")).text``
        """
        where = self.target(path)
        return await exchanged(self.transport, method, where, headers)

    # Writing

    async def upload_blob(
        self, repository: str, data: bytes | AsyncIterable[bytes], digest: str, size: int | None = None
    ) -> None:
        """Push a blob in one piece ("POST then PUT"); what fails is cancelled.

        Args:
            repository: Where the blob goes.
            data: All of it at once, or a stream.
            digest: The blob's.
            size: How many bytes there are, if ``data`` is a stream and they are known: some registries insist.

        Raises:
            DigestMismatch: ``data`` does not have this digest, or the registry stored something else.

        Example:
            ``await client.upload_blob("vm/centos8", data, Digest.of(data))``
        """
        if isinstance(data, bytes):
            model.verify(data, Digest(digest))
        upload = await self.uploads.start_upload(repository)
        try:
            await self.uploads.finish_upload(upload, digest, data, size)
        except Exception:
            with contextlib.suppress(RegistryError):
                await self.uploads.cancel_upload(upload)
            raise

    async def mount(self, repository: str, digest: str, source: str) -> Upload | None:
        """Take a blob over from another repository without moving bytes (POST blobs/uploads/?mount=&from=).

        Returns:
            None if it is there now. Else an upload that the registry began instead: use it or cancel it.

        Example:
            ``upload = await client.mount("vm/new", digest, source="vm/centos8")``
        """
        path = f"/v2/{check_repository(repository)}/blobs/uploads/"
        params = {"mount": Digest(digest), "from": check_repository(source)}
        scope = (*push(repository), *_pull(source))
        response = await self.transport.request("POST", path, params=params, scope=scope)
        expect(response, self.transport.url, 201, 202)
        return None if response.status == 201 else Upload.of(repository, response, self.transport.url, 0)

    async def put_manifest(self, repository: str, target: str, data: bytes, media_type: str) -> Digest:
        """Push a manifest, byte for byte, under a tag or its digest (PUT manifests/<target>).

        Raises:
            DigestMismatch: ``target`` is a digest that ``data`` does not have, or the registry stored something else.
            RegistryError: Among others for missing blobs; the message names every one.

        Example:
            ``await client.put_manifest("vm/centos8", "old", raw.data, raw.media_type)``
        """
        wanted = _target(repository, target)
        model.verify(data, wanted)
        response = await self.transport.request(
            "PUT",
            f"/v2/{repository}/manifests/{target}",
            headers={"Content-Type": media_type},
            content=data,
            scope=push(repository),
        )
        expect(response, self.transport.url, 201)
        announced = digest_of(response)
        if media_type not in model.SCHEMA1_TYPES:
            model.verify(data, announced)
        return wanted or announced or Digest.of(data)

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest and with it, on most registries, every tag on it (DELETE manifests/<digest>).

        The registry may have deleted it although it answers with an error: read again.

        Example:
            ``await client.delete_manifest("vm/centos8", digest)``
        """
        path = f"/v2/{check_repository(repository)}/manifests/{Digest(digest)}"
        expect(
            await self.transport.request("DELETE", path, scope=_delete(repository)), self.transport.url, 200, 202, 204
        )

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag and leave its manifest (DELETE manifests/<tag>).

        Raises:
            Unsupported: The registry deletes by digest only, as distribution 2.8 does.

        Example:
            ``await client.delete_tag("vm/centos8", "old")``
        """
        path = f"/v2/{check_repository(repository)}/manifests/{check_tag(tag)}"
        response = await self.transport.request("DELETE", path, scope=_delete(repository))
        if response.status == 400:
            try:
                refuse(response, self.transport.url)
            except RegistryError as error:
                if not {"DIGEST_INVALID", "UNSUPPORTED"}.intersection(error.codes):
                    raise
                hint = "delete by digest, which takes every tag on it along"
                text = f"{self.host} does not delete by tag"
                raise failure(Unsupported, response, text, hint=hint, codes=error.codes) from None
        expect(response, self.transport.url, 200, 202, 204)

    async def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a repository's link to a blob (DELETE blobs/<digest>).

        Example:
            ``await client.delete_blob("vm/centos8", layer.digest)``
        """
        response = await self.transport.request("DELETE", _blob(repository, digest), scope=_delete(repository))
        expect(response, self.transport.url, 200, 202, 204)

    def _pages(
        self,
        path: str,
        size: int | None,
        scope: tuple[str, ...],
        params: Mapping[str, str] | None = None,
        paged: Name | None = None,
    ) -> AsyncIterator[Page]:
        return pages(self.transport, self.capabilities, path, size, scope=scope, params=params, paged=paged)


def _pull(repository: str) -> tuple[str, ...]:
    return (f"repository:{repository}:pull",)


def _delete(repository: str) -> tuple[str, ...]:
    return (f"repository:{repository}:delete",)


def _target(repository: str, target: str) -> Digest | None:
    """Check both names; return the digest, if it is one."""
    check_repository(repository)
    if ":" in target and is_digest(target):
        return Digest(target)
    check_tag(target)
    return None


def _blob(repository: str, digest: str) -> str:
    return f"/v2/{check_repository(repository)}/blobs/{Digest(digest)}"


def _refused(error: RegistryError) -> bool:
    """Whether a registry refused an endpoint that it need not have; what a token server refuses is another matter."""
    return error.method == "GET" and error.status in REFUSALS


def _unsupported(error: RegistryError, lacking: str, hint: str = "") -> Unsupported:
    """Return the error of a registry that refused an endpoint that it need not have."""
    text = f"{urlsplit(error.url).netloc} {lacking}: it answers {' '.join([str(error.status), *error.codes])}"
    return Unsupported(text, hint=hint, status=error.status, codes=error.codes, method=error.method, url=error.url)


async def _verified(chunks: AsyncIterator[bytes], digest: Digest) -> AsyncIterator[bytes]:
    hasher = hashlib.new(digest.algorithm)
    async for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    if hasher.hexdigest() != digest.hex:
        raise DigestMismatch(f"the blob's bytes have the digest {digest.algorithm}:{hasher.hexdigest()}, not {digest}")


async def _cut(chunks: AsyncIterator[bytes], start: int, stop: int | None) -> AsyncIterator[bytes]:
    position = 0
    async for chunk in chunks:
        part = chunk[max(0, start - position) : None if stop is None else max(0, stop - position)]
        position += len(chunk)
        if part:
            yield part
        if stop is not None and position >= stop:
            return

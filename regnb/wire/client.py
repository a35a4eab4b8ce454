"""The distribution spec 1.1 as methods: one per endpoint, reading and writing alike."""

# ruff: noqa: PLR2004 - an HTTP status is known by its number

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NoReturn, Self
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import UNSET, Struct, UnsetType, structs

from regnb.errors import (
    ConnectionFailed,
    ContentError,
    Denied,
    DigestMismatch,
    InvalidArgument,
    InvalidReference,
    NotARegistry,
    NotFound,
    Refused,
    RegistryError,
    TooLarge,
    Unauthorized,
    Unsupported,
)
from regnb.oci import manifest as model
from regnb.oci.manifest import Descriptor, RawManifest
from regnb.oci.reference import Digest, check_repository, check_tag, is_digest
from regnb.oci.referrers import referrers_tag
from regnb.wire import existence
from regnb.wire.addresses import join, redact
from regnb.wire.authentication import Unscoped
from regnb.wire.capabilities import Capabilities
from regnb.wire.exchange import READS, Answer, Target, check_headers, target
from regnb.wire.existence import REFUSALS
from regnb.wire.failures import failure, raise_for, unproven
from regnb.wire.messages import BODY_LIMIT, Response, Streamed
from regnb.wire.pace import Pace
from regnb.wire.transport import Transport

PAGE_LIMIT = 100_000
"""Pages of one listing. At the usual 100 entries a page that is ten million: whoever sends more will never end."""
LIST_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one page: distribution 2.8 puts all the tags of a repository into one."""
_ACCEPT: Final = {"Accept": ", ".join(model.ACCEPT)}
_OCTETS: Final = "application/octet-stream"
_NEXT: Final = re.compile(r"""<([^<>]*)>\s*;(?:[^,"]|"[^"]*")*?\brel\s*=\s*"?next\b""", re.IGNORECASE)
_HINTS: Final = {
    "NAME_UNKNOWN": "GET /v2/_catalog lists the repositories",
    "MANIFEST_UNKNOWN": "GET tags/list has the repository's tags; what is deleted, or not accepted, is not found",
    "BLOB_UNKNOWN": "the manifest names the digests of its config and layers",
    "PAGINATION_NUMBER_INVALID": "ask for fewer at once, or leave n out",
}
"""What to do about an error code, to whom asked by hand."""
_CATALOG_HINT: Final = (
    "name the repositories: --repository NAME, or --repository @FILE with one on each line; repositories= in Python"
)


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


class Upload(Struct, frozen=True):
    """An upload that is under way (distribution spec 1.1, "Pushing blobs").

    Attributes:
        repository: Where the blob will be.
        location: The absolute URL of the next request; it changes with every chunk.
        offset: Bytes that the registry has.
        chunk_min: The least bytes that each chunk but the last must have, or 0.
    """

    repository: str
    location: str
    offset: int = 0
    chunk_min: int = 0


class _Page(Struct):
    """One page of a listing, whichever it is."""

    name: Any = UNSET
    repositories: list[str] | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET
    manifests: list[Descriptor] | UnsetType | None = UNSET

    @property
    def listing(self) -> bool:
        """Whether it is one: null is a registry's word for an empty list, and an empty object is nobody's."""
        return any(each is not UNSET for each in (self.name, self.repositories, self.tags, self.manifests))


_page: Final = msgspec.json.Decoder(_Page)


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

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
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
            raise _not_a_registry(response)
        self._expect(response, 200)
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
            async for page in self._pages("/v2/_catalog", page_size, ("registry:catalog:*",), paged="catalog in pages"):
                if not begun:
                    self.capabilities.note("catalog", "yes", "GET /v2/_catalog: 200")
                begun = True
                yield page.repositories or []
        except (Unauthorized, Denied, Unsupported) as error:
            self.capabilities.note("catalog", "no", f"GET /v2/_catalog: {error.status}")
            hint = f"{error.hint}, or {_CATALOG_HINT}" if isinstance(error, Unauthorized) else _CATALOG_HINT
            raise error.saying(error.message, hint=hint) from None
        except RegistryError as error:
            if isinstance(error, ConnectionFailed) and error.status is None and self.transport.reached:
                hint = "; or ".join(filter(None, (error.hint, _CATALOG_HINT)))
                raise error.saying(f"the catalog was not read: {error.message}", hint=hint) from None
            if begun or not _refused(error):
                raise
            self.capabilities.note("catalog", "no", f"GET /v2/_catalog: {error.status}")
            raise _unsupported(error, "does not list its repositories", _CATALOG_HINT) from error

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
                self._expect(response, 200)
                digest, length = _digest_of(response), response.headers.get("content-length", "")
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
            headers={"Accept": ", ".join(accept)},
            scope=_pull(repository),
            limit=model.MANIFEST_LIMIT,
        )
        if response.status != 200:
            self._refuse(response)
        data, announced = response.data, _digest_of(response)
        if response.html:
            raise _not_a_registry(response)
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
        self._expect(response, 200)
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
            raise InvalidArgument(f"no such range of bytes: {start} to {stop}")
        whole = start == 0 and stop is None
        headers = {} if whole else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        path = _blob(repository, digest)
        async with self.transport.stream("GET", path, headers=headers, scope=_pull(repository)) as response:
            if response.status not in (200, 206):
                self._refuse(await response.read())
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
                    self._refuse(await answer.read())
                announced = answer.headers.get("content-length" if answer.status == 200 else "content-range", "")
                length = announced.rpartition("/")[2]
        else:
            self._expect(response, 200)
            length = response.headers.get("content-length", "")
        if not length.isdecimal():
            raise ContentError(f"{repository}@{digest}: the registry announced no size")
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
                        self._refuse(await response.read())
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
        if method not in READS:
            raise Refused(f"{method} could write, and is not sent as it is", hint="plan_request makes a plan of it")
        scope = _pull(where.repository) if where.repository else ("registry:catalog:*",) if where.kind else ()
        known = {name.title(): value for name, value in check_headers(headers).items()}
        sent = {**(_ACCEPT if where.kind == "manifests" else {}), **known}
        before = self.transport.sent
        try:
            async with self.transport.stream(method, where.path, headers=sent, scope=scope) as answer:
                body = bytearray()
                async for piece in answer.chunks:
                    body += piece
                    if len(body) > BODY_LIMIT:
                        break
        except (Unauthorized, Denied) as error:
            # Credentials did not settle it. What the registry said first is worth seeing, too.
            new = islice(reversed(self.transport.exchanges), self.transport.sent - before)
            if challenge := next((each for each in new if each.status == 401), None):
                return Answer(challenge, whole=False, problem=error.message, hint=error.hint)
            raise
        data = bytes(body[:BODY_LIMIT])
        whole = len(body) <= BODY_LIMIT
        return _answered(answer, self.transport.url, where.path, sent, data, whole=whole)

    # Writing

    async def start_upload(self, repository: str) -> Upload:
        """Begin an upload (POST blobs/uploads/).

        Example:
            ``upload = await client.start_upload("vm/centos8")``
        """
        path = f"/v2/{check_repository(repository)}/blobs/uploads/"
        response = await self.transport.request("POST", path, scope=_push(repository))
        self._expect(response, 202)
        return _upload(repository, response, 0)

    async def upload_chunk(self, upload: Upload, data: bytes) -> Upload:
        """Send the next bytes (PATCH <location>, "Pushing a blob in chunks").

        Example:
            ``upload = await client.upload_chunk(upload, data)``
        """
        headers = {"Content-Type": _OCTETS, "Content-Range": f"{upload.offset}-{upload.offset + len(data) - 1}"}
        response = await self.transport.request(
            "PATCH", upload.location, headers=headers, content=data, scope=_push(upload.repository)
        )
        self._expect(response, 202)
        return _upload(upload.repository, response, upload.offset + len(data))

    async def finish_upload(
        self, upload: Upload, digest: str, data: bytes | AsyncIterable[bytes] = b"", size: int | None = None
    ) -> None:
        """Send the last bytes, or all of them, and close the upload (PUT <location>?digest=).

        Args:
            upload: What was begun.
            digest: The whole blob's.
            data: At once, or a stream.
            size: How many bytes there are, if ``data`` is a stream and they are known: some registries insist.

        Raises:
            DigestMismatch: The registry stored something else.

        Example:
            ``await client.finish_upload(upload, Digest.of(data))``
        """
        digest, size = Digest(digest), len(data) if isinstance(data, bytes) else size
        joint = "&" if "?" in upload.location else "?"
        headers = {"Content-Type": _OCTETS}
        if size is not None:
            headers["Content-Length"] = str(size)
        response = await self.transport.request(
            "PUT",
            f"{upload.location}{joint}digest={quote(digest, safe='')}",
            headers=headers,
            content=data,
            scope=_push(upload.repository),
            kind="upload",
        )
        self._expect(response, 201, 204)
        announced = _digest_of(response)
        if announced is not None and announced.algorithm == digest.algorithm and announced != digest:
            raise DigestMismatch(f"{upload.repository}: pushed {digest}, the registry stored {announced}")

    async def upload_status(self, upload: Upload) -> Upload:
        """Ask how far an upload came (GET <location>), to resume it.

        Example:
            ``upload = await client.upload_status(upload)``
        """
        response = await self.transport.request("GET", upload.location, scope=_push(upload.repository))
        self._expect(response, 204)
        _, _, end = response.headers.get("range", "0-0").rpartition("-")
        if not end.isdecimal():
            raise ContentError(f"{upload.repository}: the upload's Range is malformed")
        # distribution says 0-0 of nothing and of one byte alike.
        offset = int(end) + 1 if int(end) or upload.offset else 0
        return _upload(upload.repository, response, offset, upload.location)

    async def cancel_upload(self, upload: Upload) -> None:
        """Give an upload up, so that it leaves no litter (DELETE <location>); one that is gone is no error.

        distribution 2.8 does not find an upload again whose last request it refused or lost: it removes those itself
        after a week.

        Example:
            ``await client.cancel_upload(upload)``
        """
        response = await self.transport.request("DELETE", upload.location, scope=_push(upload.repository))
        if response.status != 404:
            self._expect(response, 200, 202, 204)

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
        upload = await self.start_upload(repository)
        try:
            await self.finish_upload(upload, digest, data, size)
        except Exception:
            with contextlib.suppress(RegistryError):
                await self.cancel_upload(upload)
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
        scope = (*_push(repository), *_pull(source))
        response = await self.transport.request("POST", path, params=params, scope=scope)
        self._expect(response, 201, 202)
        return None if response.status == 201 else _upload(repository, response, 0)

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
            scope=_push(repository),
        )
        self._expect(response, 201)
        announced = _digest_of(response)
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
        self._expect(await self.transport.request("DELETE", path, scope=_delete(repository)), 200, 202, 204)

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
                self._refuse(response)
            except RegistryError as error:
                if not {"DIGEST_INVALID", "UNSUPPORTED"}.intersection(error.codes):
                    raise
                hint = "delete by digest, which takes every tag on it along"
                text = f"{self.host} does not delete by tag"
                raise failure(Unsupported, response, text, hint=hint, codes=error.codes) from None
        self._expect(response, 200, 202, 204)

    async def delete_blob(self, repository: str, digest: str) -> None:
        """Delete a repository's link to a blob (DELETE blobs/<digest>).

        Example:
            ``await client.delete_blob("vm/centos8", layer.digest)``
        """
        response = await self.transport.request("DELETE", _blob(repository, digest), scope=_delete(repository))
        self._expect(response, 200, 202, 204)

    # Inside

    def _expect(self, response: Response, *statuses: int) -> None:
        if response.status not in statuses:
            self._refuse(response)

    def _refuse(self, response: Response) -> NoReturn:
        raise_for(response, self.transport.url)
        if response.html:
            raise _not_a_registry(response)
        text = f"{response.method} {response.url}: the registry answered {response.status}, which makes no sense here"
        raise failure(RegistryError, response, text)

    async def _pages(
        self,
        path: str,
        size: int | None,
        scope: tuple[str, ...],
        params: dict[str, str] | None = None,
        paged: str = "",
    ) -> AsyncIterator[_Page]:
        """Follow Link to the end ("Listing Tags"), trusting no page to bring that end nearer."""
        query = {**(params or {}), **({} if size is None else {"n": str(size)})}
        url = f"{path}?{urlencode(query)}" if query else path
        seen = {url}
        previous: _Page | None = None
        asked_on = False
        for number in range(PAGE_LIMIT):
            response = await self.transport.request("GET", url, scope=scope, limit=LIST_LIMIT, kind="list")
            if response.status == 400 and number == 0 and size is not None:
                # distribution 3 refuses an n over its own maximum, which it does not tell.
                size, url = None, path
                response = await self.transport.request("GET", url, scope=scope, limit=LIST_LIMIT, kind="list")
            self._expect(response, 200)
            page = _decode(response)
            if not page.listing:
                raise unproven(response, "an object that is not a list", self.transport.url)
            if page == previous:
                if asked_on:
                    return  # the question was not understood, so there was nothing to ask for
                raise ContentError(f"{path}: the registry sends the same page again and again")
            yield page
            previous, asked_on = page, False
            if link := _NEXT.search(response.headers.get("link", "")):
                url = join(response.url, link[1])
                if paged and number == 0:
                    each = len(page.repositories or page.tags or ())
                    self.capabilities.note(paged, "yes", "a Link to the next page", f"{each} a page")
                if not self.transport.owns(url):
                    raise ContentError(f"{path}: the next page is at another server", hint="it was not asked")
            else:
                entries = page.repositories or page.tags or []
                if size is None or len(entries) != size:
                    return
                # A full page without a Link can be a silent cut (by go-containerregistry's): ask what comes next.
                url, asked_on = f"{path}?{urlencode({**query, 'last': entries[-1]})}", True
            if url in seen:
                raise ContentError(f"{path}: the registry's pages go in a circle")
            seen.add(url)
        raise TooLarge(f"{path}: more than {PAGE_LIMIT} pages")


def _answered(
    answer: Streamed, registry: str, path: str, headers: dict[str, str], body: bytes, *, whole: bool
) -> Answer:
    """Return an answer with the request that was asked for, wherever the registry redirected it to."""
    url = f"{registry}{path}"
    problem = hint = following = ""
    try:
        raise_for(Response(answer.method, url, answer.status, answer.headers, body))
    except RegistryError as error:
        problem, hint = error.message, error.hint or next(filter(None, map(_HINTS.get, error.codes)), "")
    if link := _NEXT.search(answer.headers.get("link", "")):
        with contextlib.suppress(ContentError):
            following = join(url, link[1])
    exchange = structs.replace(answer.exchange, url=redact(url), request_headers=headers)
    if answer.url != url:
        exchange = structs.replace(exchange, options=(*exchange.options, "--location"))
    following = following.removeprefix(registry) if following.startswith(f"{registry}/v2/") else ""
    return Answer(exchange, body, whole, problem, hint, following)


def _pull(repository: str) -> tuple[str, ...]:
    return (f"repository:{repository}:pull",)


def _push(repository: str) -> tuple[str, ...]:
    return (f"repository:{repository}:pull,push",)


def _delete(repository: str) -> tuple[str, ...]:
    return (f"repository:{repository}:delete",)


def _target(repository: str, target: str) -> Digest | None:
    """Check both names; return the digest, if it is one."""
    check_repository(repository)
    if is_digest(target):
        return Digest(target)
    check_tag(target)
    return None


def _blob(repository: str, digest: str) -> str:
    return f"/v2/{check_repository(repository)}/blobs/{Digest(digest)}"


def _digest_of(response: Response) -> Digest | None:
    header = response.headers.get("docker-content-digest")
    if not header:
        return None
    try:
        return Digest(header)
    except InvalidReference:
        raise ContentError(f"{response.url}: the registry announced no digest but {header[:100]!r}") from None


def _upload(repository: str, response: Response, offset: int, default: str = "") -> Upload:
    location = response.headers.get("location", default)
    if not location:
        raise ContentError(f"{response.url}: the registry gave no Location for the upload")
    least = response.headers.get("oci-chunk-min-length", "")
    return Upload(repository, join(response.url, location), offset, int(least) if least.isdecimal() else 0)


def _refused(error: RegistryError) -> bool:
    """Whether a registry refused an endpoint that it need not have; what a token server refuses is another matter."""
    return error.method == "GET" and error.status in REFUSALS


def _unsupported(error: RegistryError, lacks: str, hint: str = "") -> Unsupported:
    """Return the error of a registry that refused an endpoint that it need not have."""
    text = f"{urlsplit(error.url).netloc} {lacks}: it answers {' '.join([str(error.status), *error.codes])}"
    return Unsupported(text, hint=hint, status=error.status, codes=error.codes, method=error.method, url=error.url)


def _decode(response: Response) -> _Page:
    if response.html:
        raise _not_a_registry(response)
    try:
        return _page.decode(response.data)
    except RecursionError:
        raise ContentError(f"{response.url}: the answer is nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ContentError(f"{response.url}: not the JSON that the registry API asks for: {str(error)[:200]}") from None


def _not_a_registry(response: Response) -> NotARegistry:
    text = f"{response.url}: something answers, but it is no registry"
    hint = "give the address of the registry itself, not of its web page"
    parts = urlsplit(response.url)
    if (path := parts.path.partition("/v2/")[0].strip("/")) and parts.path.endswith("/v2/"):
        hint = f"if {path} is a repository, write {parts.scheme}://{parts.netloc}, and name the repository apart"
    return failure(NotARegistry, response, text, hint=hint)


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

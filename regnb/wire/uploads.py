"""Uploads of blobs: begun, continued, finished and given up."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from regnb.errors import ContentError, DigestMismatch
from regnb.oci.reference import Digest, check_repository
from regnb.wire.addresses import FRONT, below, join
from regnb.wire.answers import digest_of, expect
from regnb.wire.channel import Channel
from regnb.wire.messages import Response

_OCTETS: Final = "application/octet-stream"


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

    @classmethod
    def of(cls, repository: str, response: Response, registry: str, offset: int, default: str = "") -> Upload:
        """Return what an answer of a registry says of an upload."""
        location = response.headers.get("location", default)
        if not location:
            raise ContentError(f"{response.url}: the registry gave no Location for the upload", hint=FRONT)
        least = response.headers.get("oci-chunk-min-length", "")
        location = below(join(response.url, location), registry)
        return cls(repository, location, offset, int(least) if least.isdecimal() else 0)


def push(repository: str) -> tuple[str, ...]:
    """Return what a token must allow for a push."""
    return (f"repository:{repository}:pull,push",)


class Uploads:
    """The uploads of one registry.

    Args:
        transport: How requests get there.
    """

    def __init__(self, transport: Channel) -> None:
        self._transport = transport

    async def start_upload(self, repository: str) -> Upload:
        """Begin an upload (POST blobs/uploads/).

        Example:
            ``upload = await client.uploads.start_upload("vm/centos8")``
        """
        path = f"/v2/{check_repository(repository)}/blobs/uploads/"
        response = await self._transport.request("POST", path, scope=push(repository))
        expect(response, self._transport.url, 202)
        return Upload.of(repository, response, self._transport.url, 0)

    async def upload_chunk(self, upload: Upload, data: bytes) -> Upload:
        """Send the next bytes (PATCH <location>, "Pushing a blob in chunks").

        Example:
            ``upload = await client.uploads.upload_chunk(upload, data)``
        """
        headers = {"Content-Type": _OCTETS, "Content-Range": f"{upload.offset}-{upload.offset + len(data) - 1}"}
        response = await self._transport.request(
            "PATCH", upload.location, headers=headers, content=data, scope=push(upload.repository)
        )
        expect(response, self._transport.url, 202)
        return Upload.of(upload.repository, response, self._transport.url, upload.offset + len(data))

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
            ``await client.uploads.finish_upload(upload, Digest.of(data))``
        """
        digest, size = Digest(digest), len(data) if isinstance(data, bytes) else size
        joint = "&" if "?" in upload.location else "?"
        headers = {"Content-Type": _OCTETS}
        if size is not None:
            headers["Content-Length"] = str(size)
        response = await self._transport.request(
            "PUT",
            f"{upload.location}{joint}digest={quote(digest, safe='')}",
            headers=headers,
            content=data,
            scope=push(upload.repository),
            kind="upload",
        )
        expect(response, self._transport.url, 201, 204)
        announced = digest_of(response)
        if announced is not None and announced.algorithm == digest.algorithm and announced != digest:
            raise DigestMismatch(f"{upload.repository}: pushed {digest}, the registry stored {announced}", hint=FRONT)

    async def upload_status(self, upload: Upload) -> Upload:
        """Ask how far an upload came (GET <location>), to resume it.

        Example:
            ``upload = await client.uploads.upload_status(upload)``
        """
        response = await self._transport.request("GET", upload.location, scope=push(upload.repository))
        expect(response, self._transport.url, 204)
        _, _, end = response.headers.get("range", "0-0").rpartition("-")
        if not end.isdecimal():
            raise ContentError(f"{upload.repository}: the upload's Range is malformed", hint=FRONT)
        # distribution says 0-0 of nothing and of one byte alike.
        offset = int(end) + 1 if int(end) or upload.offset else 0
        return Upload.of(upload.repository, response, self._transport.url, offset, upload.location)

    async def cancel_upload(self, upload: Upload) -> None:
        """Give an upload up, so that it leaves no litter (DELETE <location>); one that is gone is not an error.

        distribution 2.8 does not find an upload again whose last request it refused or lost: it removes those itself
        after a week.

        Example:
            ``await client.uploads.cancel_upload(upload)``
        """
        response = await self._transport.request("DELETE", upload.location, scope=push(upload.repository))
        if response.status != 404:
            expect(response, self._transport.url, 200, 202, 204)

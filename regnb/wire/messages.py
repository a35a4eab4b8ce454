"""Answers of a registry, read or still to be read."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Final, NamedTuple

import httpx
from msgspec import Struct

from regnb.errors import ConnectionFailed, ContentError, TooLarge
from regnb.wire.addresses import redact
from regnb.wire.exchange import Exchange

BODY_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer, unless the caller says otherwise."""


class Response(Struct):
    """An answer whose body was read.

    Attributes:
        url: Where it came from, after redirects.
        authorized: Whether an Authorization was sent.
    """

    method: str
    url: str
    status: int
    headers: httpx.Headers
    data: bytes
    authorized: bool = False

    @property
    def media_type(self) -> str:
        """Content-Type in lower case, without parameters, or ""."""
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()

    @property
    def html(self) -> bool:
        """Whether it is a web page."""
        return self.media_type in ("text/html", "application/xhtml+xml") or self.data[:64].lstrip().startswith(b"<")


class Streamed(NamedTuple):
    """An answer whose body was not read yet: iterate over ``chunks``, or ``await read()``."""

    method: str
    url: str
    authorized: bool
    raw: httpx.Response
    exchange: Exchange

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.raw.status_code

    @property
    def headers(self) -> httpx.Headers:
        """The answer's headers."""
        return self.raw.headers

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        return self._received(self.raw.stream)  # type: ignore[arg-type]

    async def _received(self, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in pieces:
                size += len(piece)
                yield piece
        except httpx.DecodingError:
            raise ContentError(f"{redact(self.url)}: the answer's Content-Encoding is not what it says") from None
        except httpx.RequestError as error:
            why = "no more came in time" if isinstance(error, httpx.TimeoutException) else "the connection broke off"
            text = f"{redact(self.url)}: the answer is cut off after {size} bytes: {why}"
            raise ConnectionFailed(text, url=redact(self.url)) from error

    async def read(self, limit: int = BODY_LIMIT) -> Response:
        """Read the body, up to ``limit`` bytes, and let the connection go."""
        try:
            data = b"" if self.method == "HEAD" else await self._body(limit)
        finally:
            await self.raw.aclose()
        return Response(self.method, self.url, self.status, self.headers, data, self.authorized)

    async def _body(self, limit: int) -> bytes:
        # What was asked for is identity; a proxy that compresses all the same is undone by httpx.
        plain = "content-encoding" not in self.headers
        body = bytearray()
        async for piece in self.chunks if plain else self._received(self.raw.aiter_bytes()):
            body += piece
            if len(body) > limit:
                raise TooLarge(f"{redact(self.url)}: the answer has more than {limit} bytes")
        return bytes(body)

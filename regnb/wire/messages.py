"""Answers of a registry, read or still to be read."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from regnb.errors import ConnectionFailed, ContentError, TooLarge
from regnb.text import redact
from regnb.wire.addresses import FRONT
from regnb.wire.exchange import Exchange
from regnb.wire.incoming import Incoming, NotHTTPError

BODY_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer, unless the caller says otherwise."""
_STEP: Final = 1024 * 1024
"""Bytes that are decompressed at once: a small answer can become a very large one."""


class Response(Struct):
    """An answer whose body was read.

    Attributes:
        url: Where it came from, after redirects.
        headers: Their names in lower case.
        authorized: Whether an Authorization was sent.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
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


class Body(Protocol):
    """An answer whose body is still to come: iterate over it, or close it."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers; their names in lower case."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Let it go."""


class Streamed(NamedTuple):
    """An answer whose body was not read yet: iterate over ``chunks``, or ``await read()``."""

    method: str
    url: str
    authorized: bool
    raw: Body
    exchange: Exchange

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.raw.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers; their names in lower case."""
        return self.raw.headers

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        return self._received()

    async def _received(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self.raw:
                size += len(piece)
                yield piece
        except (OSError, NotHTTPError) as error:
            why = "no more came in time" if isinstance(error, TimeoutError) else "the connection broke off"
            text = f"{redact(self.url)}: the answer is cut off after {size} bytes: {why}"
            raise ConnectionFailed(text, hint=FRONT, url=redact(self.url)) from error

    async def read(self, limit: int = BODY_LIMIT) -> Response:
        """Read the body, up to ``limit`` bytes, and let the connection go."""
        try:
            data = b"" if self.method == "HEAD" else await self._body(limit)
        finally:
            await self.raw.aclose()
        return Response(self.method, self.url, self.status, self.headers, data, self.authorized)

    async def _body(self, limit: int) -> bytes:
        pieces, size = [], 0
        # What was asked for is identity; a proxy may compress all the same.
        encoded = self.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
        if not encoded and isinstance(self.raw, Incoming) and (whole := self.raw.whole()) is not None:
            if len(whole) > limit:
                raise self._too_large(limit)
            return whole
        async for piece in self._decoded() if encoded else self._received():
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise self._too_large(limit)
        return b"".join(pieces)

    def _too_large(self, limit: int) -> TooLarge:
        return TooLarge(f"{redact(self.url)}: the answer has more than {limit:,} bytes")

    async def _decoded(self) -> AsyncIterator[bytes]:
        problem = f"{redact(self.url)}: the answer's Content-Encoding is not what it says"
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or deflate
        async for piece in self._received():
            while piece:
                try:
                    decoded = decoder.decompress(piece, _STEP)
                except zlib.error:
                    raise ContentError(problem, hint=FRONT) from None
                yield decoded
                piece = decoder.unconsumed_tail  # noqa: PLW2901 - what is left of it
        if not decoder.eof:
            raise ContentError(problem, hint=FRONT)

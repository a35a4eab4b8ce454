"""An answer of HTTP/1.1 as it comes; llhttp (httptools) reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Final, Protocol

import httptools

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of an answer's status line and headers."""
AHEAD: Final = 1024 * 1024
"""Bytes of a body that are received before somebody asks for them."""


class NotHTTPError(Exception):
    """What came is not an answer of HTTP/1.1."""


@lru_cache(maxsize=256)
def _lower(name: bytes) -> str:
    return name.decode("latin-1").lower()


class Carrier(Protocol):
    """The connection that an answer comes on."""

    async def more(self) -> None:
        """Wait until more has come."""

    def release(self, answer: Incoming, *, kept: bool) -> None:
        """Take the connection back; ``kept``: another request can be sent on it."""


class Incoming:
    """An answer whose body is still to come: iterate over it, or close it.

    Attributes:
        status: The HTTP status; 0 until the head is there.
        headers: Their names in lower case; of one that came twice the values are joined by commas.
        complete: Whether all of it has come.
    """

    def __init__(self, method: str, carrier: Carrier) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._method = method
        self._carrier = carrier
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._ahead = 0
        self._head = self._fed = 0
        self._kept = False
        self._until_end = False

    # What llhttp calls

    def on_message_begin(self) -> None:
        """Begin anew after an interim answer (1xx). Another message after ours answers nothing."""
        if self.complete:
            raise NotHTTPError
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._head += len(name) + len(value)
        if self._head > HEAD_LIMIT:
            raise NotHTTPError
        key, text = _lower(name), value.decode("utf-8", "replace")
        known = self.headers.get(key)
        self.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """Find out how the body ends (RFC 9112, 6.3), and whether the connection can be used again."""
        assert self._parser is not None  # noqa: S101 -- it is what calls this
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.status = status
        bodiless = self._method == "HEAD" or status in (204, 304) or (self._method == "CONNECT" and status < 300)
        self._until_end = not (bodiless or "content-length" in self.headers or "transfer-encoding" in self.headers)
        closes = "close" in self.headers.get("connection", "").lower() or self._until_end
        self._kept = self._parser.get_http_version() == "1.1" and not closes
        # llhttp does not know what was asked, and would wait for the body that the answer to a HEAD announces.
        self.complete = bodiless

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body; what follows the answer to a HEAD is none."""
        if self.complete:
            self._kept = False
            return
        self._pieces.append(data)
        self._ahead += len(data)

    def on_message_complete(self) -> None:
        """Note the end, unless it is that of an interim answer."""
        self.complete = self.status >= 200

    # What the connection calls

    def feed(self, data: bytes | memoryview) -> bool:
        """Take bytes, of which copies are kept, and return whether more of them are welcome.

        Raises:
            NotHTTPError: They are not an answer.
        """
        if self._parser is None:
            self._kept = False
            return True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._kept = False
            if not self.complete:
                raise NotHTTPError from None
        if self.complete:
            self._parser = None  # each refers to the other
        elif not self.status:
            self._fed += len(data)
            if self._fed > HEAD_LIMIT:
                raise NotHTTPError
        return self._ahead < AHEAD

    def end(self) -> None:
        """Note that nothing more will come, which may be how the body ends."""
        self.complete = self.complete or self._until_end

    def refuse(self) -> None:
        """Note that the answer came before the whole request was sent: the connection is of no use afterwards."""
        self._kept = False

    # What the reader calls

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status:
            await self._carrier.more()

    def whole(self) -> bytes | None:
        """Return the body if all of it has come already, as a small one does with its head; else None."""
        if not self.complete:
            return None
        pieces, self._pieces, self._ahead = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            pieces, self._pieces, self._ahead = self._pieces, [], 0
            for piece in pieces:
                yield piece
            if not self._pieces:
                if self.complete:
                    break
                await self._carrier.more()
        await self.aclose()

    async def aclose(self) -> None:
        """Let the connection go."""
        self._carrier.release(self, kept=self._kept and self.complete)

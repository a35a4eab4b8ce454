"""A real WebSocket handshake: whether what lies between here and a server passes WebSockets on."""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream

from regnb.errors import ConnectionFailed
from regnb.text import printable

# RFC 6455, section 1.3: what both sides know, so that an answer to another protocol is told apart.
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD: Final = 16_384
_PORT: Final = "check the address, the port, and http or https"


@asynccontextmanager
async def opened(url: str, trust: ssl.SSLContext | None, seconds: float) -> AsyncIterator[ByteStream]:
    """Give a connection of its own, with TLS if there is something to trust.

    Raises:
        ConnectionFailed: None in time, or no TLS.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    stream: ByteStream
    try:
        with anyio.fail_after(seconds):
            if trust is None:
                stream = await anyio.connect_tcp(host, parts.port or 80)
            else:
                stream = await anyio.connect_tcp(
                    host, parts.port or 443, ssl_context=trust, tls_standard_compatible=False
                )
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        what = "no TLS" if trust is not None else "no connection"
        raise ConnectionFailed(f"{parts.netloc}: {what}: {printable(str(error))}", hint=_PORT, url=url) from None
    async with stream:
        yield stream


async def handshake(url: str, trust: ssl.SSLContext, seconds: float) -> int:
    """Ask for a WebSocket, and return the status: 101 only if the answer is a WebSocket's.

    Args:
        url: ``http`` or ``https``, with the path.
        trust: For https.
        seconds: For all of it.

    Raises:
        ConnectionFailed: No connection, or no answer in HTTP.

    Example:
        ``await handshake("https://r.example.com/ui/socket", ssl.create_default_context(), 30)``
    """
    parts = urlsplit(url)
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    head = (
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nOrigin: {parts.scheme}://{parts.netloc}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    answer = b""
    try:
        async with opened(url, trust if parts.scheme == "https" else None, seconds) as stream:
            with anyio.fail_after(seconds):
                await stream.send(head.encode())
                while b"\r\n\r\n" not in answer and len(answer) < _HEAD:
                    answer += await stream.receive()
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise ConnectionFailed(f"{parts.netloc}: no answer: {printable(str(error))}", hint=_PORT, url=url) from None
    line, _, rest = answer.decode("latin-1").partition("\r\n")
    words = line.split()
    if len(words) < 2 or not words[1].isdecimal():
        raise ConnectionFailed(f"{parts.netloc}: no answer in HTTP", hint=_PORT, url=url)
    status = int(words[1])
    proof = base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()).decode()
    accepted = any(
        name.lower() == "sec-websocket-accept" and value.strip() == proof
        for name, _, value in (each.partition(":") for each in rest.partition("\r\n\r\n")[0].split("\r\n"))
    )
    return status if status != 101 or accepted else 0

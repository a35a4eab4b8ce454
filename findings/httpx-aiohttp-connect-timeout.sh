#!/usr/bin/env bash
# httpx-aiohttp 0.2.0 raises httpx.ConnectTimeout for a POST that the server received, and for a refused connection.
#
# Two failures, no time-out in either: (1) the server accepts the connection, reads the whole POST and closes without an answer;
# (2) nobody listens at the port. httpx itself raises RemoteProtocolError and ConnectError. The transport from httpx-aiohttp, made to
# be put beneath the same client, raises ConnectTimeout for both, within milliseconds.
# Why it surprises: httpx documents ConnectTimeout as "Timed out while connecting to the host" (Exceptions): a request that fails so
# was never sent. ConnectError and ConnectTimeout are the classes that retry rules take for harmless.
# What it means: a rule "try again after ConnectTimeout" starts a second upload session or posts a second time, and a rule "give up
# after ConnectError" never fires: a wrong port is retried until the budget ends. Decide by the exception's __cause__, which is
# aiohttp's own error (its class is printed below).
#
# Needs python3; httpx, httpx-aiohttp and aiohttp come from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check httpx==0.28.1 httpx-aiohttp==0.2.0 aiohttp==3.14.5
"$work/venv/bin/python" - <<'PYTHON'
import asyncio, socket
from importlib.metadata import version
import httpx, httpx_aiohttp

print(*(f"{name} {version(name)}" for name in ("httpx", "httpx-aiohttp", "aiohttp")))
received = []

async def serve(reader, writer):
    """Read a whole request, and close without an answer."""
    received.append(await reader.readuntil(b"\r\n\r\nbody"))
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    free = socket.socket()
    free.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
    ports = {"closed after the POST": server.sockets[0].getsockname()[1], "refused": free.getsockname()[1]}
    seen = {}
    for situation, port in ports.items():
        for transport in httpx.AsyncHTTPTransport(), httpx_aiohttp.AiohttpTransport():
            name = type(transport).__name__
            received.clear()
            async with httpx.AsyncClient(transport=transport, timeout=30) as client:
                try:
                    await client.post(f"http://127.0.0.1:{port}/v2/app/blobs/uploads/", content=b"body")
                except httpx.TransportError as error:
                    seen[situation, name] = type(error).__name__, len(received)
                    print(f"{situation:22} {name:19} {type(error).__name__:20} requests received: {len(received)}, cause: {type(error.__cause__).__name__}")
    assert seen == {
        ("closed after the POST", "AsyncHTTPTransport"): ("RemoteProtocolError", 1),
        ("closed after the POST", "AiohttpTransport"): ("ConnectTimeout", 1),
        ("refused", "AsyncHTTPTransport"): ("ConnectError", 0),
        ("refused", "AiohttpTransport"): ("ConnectTimeout", 0),
    }

asyncio.run(main())
PYTHON

#!/usr/bin/env bash
# aiohttp 3.14.5 sends a DELETE or a PUT twice by itself when a kept-alive connection closes before the answer.
#
# The server answers a GET, keeps the connection, reads the next request, and closes without an answer: what a registry does that
# is stopped, or a proxy that gives up, when the manifest may be deleted already. aiohttp sends the request again on a new
# connection and returns one response, with nothing in it about the first attempt. httpx sends it once and raises an error.
# Why it surprises: RFC 9110, 9.2.2 permits the repetition, but no parameter of ClientSession names it or turns it off, the trace
# hooks count one request, and httpx leaves the choice to the caller.
# What it means: the second DELETE of a digest is answered 404, so that a deletion that worked is reported as "not found"; a second
# PUT of a tag can overwrite what somebody pushed in between. Count requests at the server or in a proxy, not in the client, and
# read the state again after each write.
#
# Needs python3; aiohttp and httpx come from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check aiohttp==3.14.5 httpx==0.28.1
"$work/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version
import aiohttp, httpx

print("aiohttp", version("aiohttp"), "httpx", version("httpx"))
received = []

async def serve(reader, writer):
    """Answer the first request of a connection, and close at the second."""
    for answer in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"":
        try:
            received.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0].decode())
        except asyncio.IncompleteReadError:
            break
        writer.write(answer)
        await writer.drain()
    writer.close()

async def with_aiohttp(url, method):
    traced = []
    hooks = aiohttp.TraceConfig()
    hooks.on_request_start.append(lambda session, context, params: asyncio.sleep(0, traced.append(params.method)))
    async with aiohttp.ClientSession(trace_configs=[hooks]) as session:
        await session.get(url)
        return f"{(await session.request(method, url)).status}, traced: {traced}"

async def with_httpx(url, method):
    async with httpx.AsyncClient() as session:
        await session.get(url)
        return (await session.request(method, url)).status_code

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2/app/manifests/sha256:0"
    for method in "DELETE", "PUT":
        outcomes = {}
        for client in with_aiohttp, with_httpx:
            received.clear()
            outcome = await asyncio.gather(client(url, method), return_exceptions=True)
            outcomes[client] = str(outcome[0]), received.copy()
            print(client.__name__, "outcome:", *outcome, "received:", *received)
        assert outcomes[with_aiohttp] == (f"200, traced: ['GET', '{method}']", ["GET", method, method])
        assert outcomes[with_httpx] == ("Server disconnected without sending a response.", ["GET", method])

asyncio.run(main())
PYTHON

#!/usr/bin/env bash
# jupyter_server 2.21.1 does not apply ServerApp.websocket_ping_interval to the channels of kernels.
#
# The option is documented as "the websocket ping interval in seconds". With 1, the socket of /api/events/subscribe gets a ping each
# second. The one of /api/kernels/ID/channels gets none within five seconds: its handler has a property of tornado's name, ping_interval,
# that holds its own 30,000, counts it in milliseconds and pings each 30 s; tornado reads the same property, as seconds.
# Why it surprises: kernels' channels are the sockets that people set the option for, as a proxy closes those that are idle.
# What it means: behind a proxy that ends idle connections in less than 30 s, the option does not help; the proxy's time must be longer.
#
# Needs Python 3.11 or newer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check jupyter_server==2.21.1 tornado==6.6.1 ipykernel==7.1.0 aiohttp==3.13.2
cat >"$work/pings.py" <<'PYTHON'
import asyncio
import re
import sys
import time

import aiohttp


async def pings(session: aiohttp.ClientSession, path: str) -> int:
    found, until = 0, time.monotonic() + 5
    async with session.ws_connect(path, autoping=False) as socket:
        while (left := until - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(socket.receive(), left)
            except TimeoutError:
                break
            if message.type is aiohttp.WSMsgType.PING:
                found += 1
                await socket.pong(message.data)
            elif message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}:
                raise RuntimeError(f"{path}: closed")
    return found


async def main() -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jupyter_server", "--port=0", "--no-browser", "--allow-root", "--IdentityProvider.token=example",
        "--ServerApp.websocket_ping_interval=1", "--ServerApp.websocket_ping_timeout=1", stderr=asyncio.subprocess.PIPE,
    )
    try:
        seen = ""
        while not (address := re.search(r"(http://127\.0\.0\.1:\d+/)\S*token", seen)):
            line = await server.stderr.readline()
            if not line:
                raise SystemExit(seen)
            seen += line.decode()
        drain = asyncio.create_task(server.stderr.read())
        headers = {"Authorization": "token example"}
        async with aiohttp.ClientSession(address[1], headers=headers) as session:
            while True:  # the address is printed before it is listened on
                try:
                    await session.get("api")
                    break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.1)
            kernel = await (await session.post("api/kernels", json={})).json()
            print("pings within 5 s, events:", events := await pings(session, "api/events/subscribe"))
            print("pings within 5 s, channels of a kernel:", channels := await pings(session, f"api/kernels/{kernel['id']}/channels"))
            await session.delete(f"api/kernels/{kernel['id']}")
        assert events >= 2, events
        assert channels == 0, channels
    finally:
        server.terminate()
        await server.wait()
    await drain


asyncio.run(main())
PYTHON
export JUPYTER_RUNTIME_DIR="$work/runtime" JUPYTER_DATA_DIR="$work/data" JUPYTER_CONFIG_DIR="$work/config" IPYTHONDIR="$work/ipython"
cd "$work"
"$work/venv/bin/python" pings.py

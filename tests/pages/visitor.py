"""A visitor of the web UI without a browser: opens a page, and speaks with its kernel over the page's own channel."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Self

import httpx
from browser import Site, visit
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

PROTOCOL = "v1.kernel.websocket.jupyter.org"


def packed(
    kind: str, content: Mapping[str, Any], channel: str = "shell", metadata: Mapping[str, Any] | None = None
) -> bytes:
    """A message as JupyterLab writes it."""
    header = {"msg_id": uuid.uuid4().hex, "session": "test", "username": "", "date": "2026-01-01T00:00:00Z"}
    header |= {"msg_type": kind, "version": "5.3"}
    parts = [channel.encode(), *(json.dumps(each).encode() for each in (header, {}, metadata or {}, content))]
    places = [8 * (len(parts) + 2)]
    for part in parts:
        places.append(places[-1] + len(part))
    return b"".join([each.to_bytes(8, "little") for each in (len(places), *places)] + parts)


def unpacked(message: bytes) -> tuple[str, dict[str, Any]]:
    """The type and the content of a message."""
    number = int.from_bytes(message[:8], "little")
    places = [int.from_bytes(message[8 * i : 8 * i + 8], "little") for i in range(1, number + 1)]
    parts = [message[first:end] for first, end in pairwise(places)]
    return json.loads(parts[1])["msg_type"], json.loads(parts[4])


class Visitor:
    """Opens a page, and its channel."""

    def __init__(self, site: Site, name: str, client: httpx.Client | None = None) -> None:
        self.site, self.client = site, client or httpx.Client(timeout=600)
        self.page = visit(site.base + name, self.client)
        assert self.page.status_code == 200, self.page.text
        self.kernel = re.findall(r'"kernelId": "([\w-]+)"', self.page.text)[0]
        self.socket: WebSocketClientConnection

    async def connect(self, **headers: str) -> WebSocketClientConnection:
        """Connect, or raise as tornado does where it is refused."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())
        given = {"Origin": self.site.base.removesuffix("/ui/"), "Cookie": cookies} | headers
        url = f"{self.site.base.replace('http', 'ws', 1)}api/kernels/{self.kernel}/channels?session_id=test"
        request = HTTPRequest(url, headers={name: value for name, value in given.items() if value})
        return await websocket_connect(request, subprotocols=[PROTOCOL], max_message_size=2**27)

    async def __aenter__(self) -> Self:
        self.socket = await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()
        while self.socket.close_code is None and await asyncio.wait_for(self.socket.read_message(), 20) is not None:
            pass
        await asyncio.sleep(0.05)  # until tornado has closed its end

    async def send(self, kind: str, content: Mapping[str, Any], **more: Any) -> None:
        await self.socket.write_message(packed(kind, content, **more), binary=True)

    async def widgets(self) -> dict[str, dict[str, Any]]:
        """The state of each widget of the page, as a browser asks for it."""
        control = uuid.uuid4().hex
        opened = {"comm_id": control, "target_name": "jupyter.widget.control", "data": {}}
        await self.send("comm_open", opened, metadata={"version": "1.0.0"})
        await self.send("comm_msg", {"comm_id": control, "data": {"method": "request_states"}})
        while True:
            kind, content = await self.heard()
            if kind == "comm_msg" and content["comm_id"] == control:
                states: dict[str, dict[str, Any]] = content["data"]["states"]
                return states

    async def heard(self, seconds: float = 60) -> tuple[str, dict[str, Any]]:
        """The next message; an error where the connection was closed."""
        message = await asyncio.wait_for(self.socket.read_message(), seconds)
        if message is None:
            raise ConnectionError(f"{self.socket.close_code} {self.socket.close_reason}")
        return unpacked(bytes(message))  # type: ignore[arg-type]

    async def quiet(self, seconds: float = 1.0) -> None:
        """Wait until nothing was heard for a while."""
        while True:
            try:
                await self.heard(seconds)
            except TimeoutError:
                return

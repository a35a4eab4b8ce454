"""What a request to the embedded registry must be before it is answered: its Host, its Origin, and that it goes on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regnb.wire.hosts import HINT, Hosts

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

PATIENCE: Final = 30.0
"""Seconds in which a request has to send its headers, and each next piece of its body."""
SLOWEST: Final = 1024
"""Bytes of a body that come in each second at least, beyond the first seconds."""
STALLED: Final = 120.0
"""Seconds after which a client that takes nothing of its answer counts as gone."""
MOST: Final = 512
"""Connections that are open at once."""


class Gate:
    """Stands before an ASGI application.

    A registry has no cookies, so a page of another site could write to one on loopback by a simple form: a write with
    an Origin of elsewhere is refused, and so is every request with a foreign Host header.

    Args:
        application: What is behind it.
        hosts: The names that are answered to.

    Attributes:
        patience: Seconds to wait for each piece of a body, and beyond its pace in all; then the client counts as gone.
    """

    patience = PATIENCE

    def __init__(self, application: ASGIApp, hosts: Hosts) -> None:
        self._application, self._hosts = application, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        clock, waited, came = asyncio.get_running_loop().time, 0.0, 0

        async def patient() -> Message:
            nonlocal waited, came
            began = clock()
            try:
                message = await asyncio.wait_for(receive(), min(self.patience, self.patience + came / SLOWEST - waited))
            except TimeoutError:
                return {"type": "http.disconnect"}
            waited += clock() - began
            came += len(message.get("body", b""))
            return message

        if scope["type"] != "http":
            return
        given = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in given if name == b"host"]
        origins = [value for name, value in given if name == b"origin"]
        writes = scope["method"] not in ("GET", "HEAD")
        if len(hosts) != 1 or not self._hosts.answers(hosts[0]):
            await _refuse(send, 421, f"this registry does not answer to that name: {HINT}")
        elif writes and not all(self._hosts.own(origin, hosts[0]) for origin in origins):
            await _refuse(send, 403, "a page of another site asked for this")
        else:
            await self._application(scope, patient, send)


async def _refuse(send: Send, status: int, text: str) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": text, "detail": None}]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


class Protocol(AutoHTTPProtocol):
    """uvicorn's, which waits for ever for the rest of headers and for answers to be taken: here connections end."""

    patience, stalled, most = PATIENCE, STALLED, MOST
    _deadline: asyncio.TimerHandle | None = None
    _pause: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once a request's headers are there, and anew for the next one's."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop()
        self._go_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait until the client takes something."""
        super().pause_writing()
        self._pause = self.loop.call_later(self.stalled, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no longer."""
        self._go_on()
        super().resume_writing()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.patience, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _go_on(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

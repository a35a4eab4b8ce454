"""What a client needs of whatever takes its requests to a registry: a network, or a layout that answers as one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, Self

from regnb.wire.exchange import Exchange
from regnb.wire.messages import BODY_LIMIT, Response, Streamed
from regnb.wire.pace import Kind, Pace


class Channel(Protocol):
    """Takes requests to one registry; :class:`regnb.wire.transport.Transport` does so over HTTP.

    Attributes:
        url: The registry's address, without credentials.
        host: What people call it.
        sent: How many requests there were.
        read_only: Whether what could write is refused.
        exchanges: The last of them.
        pace: How many may be under way at once.
        options: curl's options for the TLS settings.
    """

    url: str
    host: str
    sent: int
    read_only: bool
    exchanges: deque[Exchange]
    pace: Pace
    options: tuple[str, ...]

    async def __aenter__(self) -> Self: ...

    async def settle(self) -> None:
        """See to it that what was written is where it belongs, once all of it is there."""

    async def aclose(self) -> None:
        """Close every connection."""

    @property
    def local(self) -> bool:
        """Whether the registry is on this machine."""

    @property
    def reached(self) -> bool:
        """Whether the registry has answered a request of late."""

    def owns(self, url: str) -> bool:
        """Whether a URL is at this registry."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        scope: tuple[str, ...] = (),
        limit: int = BODY_LIMIT,
        params: Mapping[str, str] | None = None,
        kind: Kind | None = None,
    ) -> Response:
        """Send a request and read its answer, whatever its status."""

    def stream(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, scope: tuple[str, ...] = ()
    ) -> AbstractAsyncContextManager[Streamed]:
        """Send a GET and read its answer in pieces."""

"""Connections to servers, kept for the next request. A request is written once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from regnb.errors import ContentError
from regnb.wire.addresses import is_loopback
from regnb.wire.exchange import GET_OR_HEAD
from regnb.wire.incoming import Incoming, NotHTTPError
from regnb.wire.pace import FLOOR, Budget
from regnb.wire.socks import UnreachedProxy, is_socks, through_socks

_GREW: Final = "something wrote to the file meanwhile: send it again"
_SLICE: Final = 64 * 1024
"""Bytes of a body that are written at once: the next ones wait until the server has taken most of these."""
_BUFFER: Final = 256 * 1024
"""Bytes that are received at once."""
_IDLE: Final = 15.0
"""Seconds after which an idle connection is not used again."""
_LOOKED_UP: Final = 5.0
"""Seconds for which a host's addresses are taken as they were: many connections are opened within them."""
_NEXT_ADDRESS: Final = 0.25
"""Seconds after which a host's next address is tried beside the one that does not answer (RFC 8305, 5)."""
_JUST_NOW: Final = 1.0
"""The same for what writes: a server may close an idle connection while a request is on its way to it."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class Origin(NamedTuple):
    """Where a connection leads."""

    secure: bool
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """``host[:port]``, without the scheme's own port."""
        return self.host_and_port.removesuffix(":443" if self.secure else ":80")

    @property
    def host_and_port(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection(asyncio.BufferedProtocol):
    """One connection: one request and its answer at a time.

    Args:
        idle: Where it waits for its next request.
        opened: All that are open.
        buffer: What is received goes through it; one is enough for all connections of a loop. Without it, asyncio maps
            and unmaps a quarter of a megabyte for each answer.
    """

    def __init__(self, idle: list[Connection], opened: set[Connection], buffer: memoryview) -> None:
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._opened = opened
        self._answer: Incoming | None = None
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._stopped = False
        self._received = 0
        self._granted = self._patience = self._end = self._until = inf
        self._timer: asyncio.TimerHandle | None = None
        self.transport = cast("asyncio.Transport", None)
        self.since = 0.0

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what writes."""
        self.transport = cast("asyncio.Transport", transport)
        self._opened.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- asyncio never knows
        """Return where to put what comes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand bytes to the answer that waits for them; where none does, the connection ends."""
        answer = self._answer
        if answer is None:
            self.abort()
            return
        self._received += nbytes
        try:
            if not answer.feed(self._buffer[:nbytes]):
                self._stopped = True
                self.transport.pause_reading()
        except NotHTTPError as error:
            self._failure = error
            self.abort()
        _wake(self._waiter)
        if answer.status:
            _wake(self._drain)  # it came before the request's end, of which no more need be sent

    def eof_received(self) -> None:
        """Note that nothing more will come."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        if self._answer is not None and exc is None and self._failure is None:
            self._answer.end()
        self._failure = self._failure or exc or ConnectionResetError("the server closed the connection")
        self._opened.discard(self)
        _wake(self._waiter)
        _wake(self._drain)

    def pause_writing(self) -> None:
        """Note that the server does not take more for now."""
        self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        """Note that it does again."""
        _wake(self._drain)
        self._drain = None

    # Waiting. There is one timer: it is not moved with every wait, but looks at the time when it fires.

    def _watch(self, seconds: float) -> None:
        self._until = min(self._loop.time() + seconds, self._end)
        if self._until < inf and (self._timer is None or self._timer.when() > self._until):
            self._stop()
            self._timer = self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() >= self._until:
            self._failure = self._failure or TimeoutError()
            self.abort()
        elif self._until < inf:
            self._timer = self._loop.call_at(self._until, self._look)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def more(self) -> None:
        """Wait until more of the answer has come.

        Raises:
            TimeoutError: It took too long.
            OSError: The connection broke off.
            NotHTTPError: It is not an answer.
        """
        if self._failure is not None:
            raise self._failure
        if self._stopped:
            self._stopped = False
            self.transport.resume_reading()
        began, before = self._loop.time(), self._received
        self._watch(self._granted)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter, self._until = None, inf
        if came := self._received - before:
            # The first byte may take as long as this kind of request does. From then on each byte earns a little time,
            # so that a server that trickles comes to an end.
            left = self._granted - (self._loop.time() - began)
            self._granted = min(self._patience, left + came / FLOOR)
        elif not (self._answer and self._answer.complete):
            raise self._failure or ConnectionResetError

    async def _drained(self) -> None:
        if self._drain is not None and self._failure is None:
            self._watch(self._patience)
            try:
                await self._drain
            finally:
                self._until = inf
        if self._failure is not None:
            raise self._failure

    # What the pool calls

    @property
    def usable(self) -> bool:
        """Whether a request can be sent on it."""
        return self._failure is None and not self.transport.is_closing()

    @property
    def rested(self) -> float:
        """Seconds since its last exchange."""
        return self._loop.time() - self.since

    async def exchange(
        self, method: str, head: bytes, body: bytes | AsyncIterable[bytes], length: int | None, budget: Budget
    ) -> Incoming:
        """Write a request, and return its answer when the head is there.

        Raises:
            ContentError: The body is not as long as it was announced.
            TimeoutError, OSError, NotHTTPError: As for :meth:`more`.
        """
        answer = self._answer = Incoming(method, self)
        self._patience, self._end = budget.patience, self._loop.time() + budget.total
        try:
            if isinstance(body, bytes) and len(body) <= _SLICE:
                self.transport.write(head + body)
            else:
                self.transport.write(head)
                await self._upload(answer, body, length)
            self._granted = budget.first
            await answer.head()
        except BaseException:
            self.abort()
            raise
        return answer

    async def _upload(self, answer: Incoming, body: bytes | AsyncIterable[bytes], length: int | None) -> None:
        """Write a body, unless the answer comes first; without a length in chunks (RFC 9112, 7.1)."""
        sent = 0
        async for part in _parts(body):
            sent += len(part)
            self.transport.write(part if length is not None else b"%x\r\n%b\r\n" % (len(part), part))
            if not answer.status:
                await self._drained()
            if answer.status:
                answer.refuse()
                return
        if length is None:
            self.transport.write(b"0\r\n\r\n")
        elif sent != length:
            raise ContentError(f"the body has {sent} bytes, and not the {length} that were announced", hint=_GREW)

    def tunnelled(self, transport: asyncio.Transport) -> None:
        """Go on within a tunnel."""
        self.transport, self._answer, self._end = transport, None, inf

    def release(self, answer: Incoming, *, kept: bool) -> None:
        """End an exchange: the connection is used for another one, or closed."""
        if self._answer is not answer:
            return
        self._answer, self._end = None, inf
        if kept and self.usable:
            if self._stopped:
                self._stopped = False
                self.transport.resume_reading()
            self.since = self._loop.time()
            self._idle.append(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close it at once."""
        self._stop()
        self.transport.abort()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def _parts(body: bytes | AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    if isinstance(body, bytes):
        for start in range(0, len(body), _SLICE):
            yield body[start : start + _SLICE]
        return
    async for piece in body:
        for start in range(0, len(piece), _SLICE):
            yield piece[start : start + _SLICE]


class Connections:
    """Connections to any number of servers.

    Args:
        context: Gives the TLS settings, once they are needed.
        timeout: Seconds until a connection must stand.

    Example:
        ``answer = await Connections(ssl.create_default_context).send("GET", url, {}, None, BUDGETS["read"])``
    """

    def __init__(self, context: Callable[[], ssl.SSLContext], timeout: float) -> None:
        self._context = context
        self._timeout = timeout
        self._idle: dict[Origin, list[Connection]] = {}
        self._opened: set[Connection] = set()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._addresses: dict[Origin, tuple[float, Sequence[AddrInfoType]]] = {}
        self._origins: dict[tuple[str, str], tuple[Origin, str | None, str]] = {}

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes] | None,
        budget: Budget,
    ) -> Incoming:
        """Send a request once, and return its answer when the head is there.

        Raises:
            ValueError: The URL, or a header, cannot be sent.
            TimeoutError, OSError, ssl.SSLError: There is no connection, or it broke off.
            NotHTTPError: Something else than HTTP answers.
        """
        scheme, _, rest = url.partition("://")
        netloc, slash, path = rest.partition("#")[0].partition("/")
        if "?" in netloc:
            netloc, _, path = netloc.partition("?")
            path, slash = f"?{path}", "/"
        origin, proxy, host = self._origins.get((scheme, netloc)) or self._origin(scheme, netloc)
        target = f"{slash or '/'}{path}"
        lines = [host, *[f"{name}: {value}" for name, value in headers.items()]]
        asked = proxy is not None and not is_socks(proxy)
        tunnelled = asked and origin.secure
        if proxy is not None and asked and not origin.secure:
            target = f"http://{origin.netloc}{target}"
            lines += _proxy_authorization(proxy)
        length = headers.get("Content-Length")
        if body is None or isinstance(body, bytes):
            body = body or b""
            if length is None and (body or method in _WITH_BODY):
                length = str(len(body))
                lines.append(f"Content-Length: {length}")
        elif length is None:
            lines.append("Transfer-Encoding: chunked")
        if not (target.isascii() and target.isprintable()) or " " in target:
            target = quote(target, safe=_PRINTABLE)
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "\r\n"]).encode()
        if head.count(b"\n") != len(lines) + 2 or b"\0" in head:
            raise ValueError("a header holds a line break")
        connection = self._take(origin, _IDLE if method in GET_OR_HEAD else _JUST_NOW)
        if connection is None:
            connection = await self._connect(origin, proxy, tunnelled=tunnelled)
        return await connection.exchange(method, head, body, None if length is None else int(length), budget)

    def _origin(self, scheme: str, netloc: str) -> tuple[Origin, str | None, str]:
        """Return where a URL leads, the proxy on the way (https_proxy, http_proxy, all_proxy, no_proxy), and Host."""
        parts = urlsplit(f"{scheme}://{netloc}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("neither http nor https")
        secure = parts.scheme == "https"
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
        origin = Origin(secure, host, parts.port or (443 if secure else 80))
        direct = is_loopback(host) or urllib.request.proxy_bypass(host)
        proxies = {} if direct else urllib.request.getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy is not None and not is_socks(proxy) and _split(proxy)[0].lower() not in ("http", "https"):
            kind, where = _split(proxy)
            raise OSError(f"its proxy {where.rpartition('@')[2]} speaks {kind}, and regnb http, https and SOCKS")
        found = self._origins[scheme, netloc] = origin, proxy, f"Host: {origin.netloc}"
        return found

    def _take(self, origin: Origin, idle: float) -> Connection | None:
        kept = self._idle.setdefault(origin, [])
        while kept:
            connection = kept.pop()
            if connection.usable and connection.rested < idle:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, proxy: str | None, *, tunnelled: bool) -> Connection:
        loop = asyncio.get_running_loop()
        where = origin
        if proxy is not None and not is_socks(proxy):
            where = self._origin(*_split(proxy))[0]
        async with asyncio.timeout(self._timeout):
            try:
                if proxy is not None and is_socks(proxy):
                    found = await through_socks(proxy, origin.host, origin.port)
                else:
                    # asyncio's own race of addresses loses sockets when it is cancelled (Python 3.11).
                    addresses = await self._look_up(where)
                    found = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS)
            except OSError as error:
                self._addresses.pop(where, None)
                if proxy is None or isinstance(error, TimeoutError | UnreachedProxy):
                    raise
                name = _split(proxy)[1].rpartition("@")[2]
                says = "refuses connections" if _is_refused(error) else f"is not reached: {error.strerror or error}"
                raise UnreachedProxy(f"the proxy {name} {says}") from None
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self._idle[origin], self._opened, self._buffer),
                    sock=found,
                    ssl=self._context() if where.secure else None,
                    server_hostname=where.host if where.secure else None,
                )
            except BaseException:
                found.close()
                raise
            if tunnelled:
                try:
                    await self._tunnel(connection, origin, cast("str", proxy))
                except BaseException:
                    connection.abort()
                    raise
        return connection

    async def _look_up(self, where: Origin) -> Sequence[AddrInfoType]:
        """Return a host's addresses. Each look-up takes a thread, and a crawl opens a hundred connections at once."""
        loop = asyncio.get_running_loop()
        until, known = self._addresses.get(where, (0.0, ()))
        if loop.time() < until:
            return known
        found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
        self._addresses[where] = loop.time() + _LOOKED_UP, found
        return found

    async def _tunnel(self, connection: Connection, origin: Origin, proxy: str) -> None:
        """Ask a proxy for a connection to a server, and speak TLS with that (RFC 9110, 9.3.6)."""
        there = origin.host_and_port
        lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}", *_proxy_authorization(proxy), "\r\n"]
        answer = await connection.exchange("CONNECT", "\r\n".join(lines).encode(), b"", None, Budget(inf, inf, inf))
        if answer.status != 200:
            raise UnreachedProxy(f"the proxy {_split(proxy)[1].rpartition('@')[2]} answers {answer.status}")
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(connection.transport, connection, self._context(), server_hostname=origin.host)
        connection.tunnelled(cast("asyncio.Transport", transport))

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in [*self._opened]:
            connection.abort()
        self._idle.clear()
        for _ in range(10):  # asyncio closes them in its next rounds
            if not self._opened:
                return
            await asyncio.sleep(0)


def _is_refused(error: OSError) -> bool:
    """Whether nobody listens; of several addresses asyncio tells in one text."""
    return error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error)


def _split(proxy: str) -> tuple[str, str]:
    scheme, separator, rest = proxy.partition("://")
    return (scheme, rest.partition("/")[0]) if separator else ("http", scheme.partition("/")[0])


def _proxy_authorization(proxy: str) -> list[str]:
    user, at, _ = _split(proxy)[1].rpartition("@")
    return [f"Proxy-Authorization: Basic {base64.b64encode(unquote(user).encode()).decode()}"] if at else []

"""How requests reach one registry: TLS, authorisation, pace, retries, redirects, and the record of what was sent."""

from __future__ import annotations

import contextlib
import itertools
import logging
import ssl
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import anyio
from anyio.streams.tls import TLSAttribute

from regnb.errors import (
    ConnectionFailed,
    ContentError,
    Denied,
    InvalidArgument,
    NotARegistry,
    Refused,
    RegistryError,
    TLSFailed,
    Unauthorized,
)
from regnb.log import logger
from regnb.text import redact, redact_headers
from regnb.wire.addresses import FRONT, is_loopback, join, origin, parse_registry, within
from regnb.wire.authentication import Authenticator
from regnb.wire.connections import Connections
from regnb.wire.credentials import Credentials
from regnb.wire.exchange import GET_OR_HEAD, Exchange
from regnb.wire.failures import failure, unreached
from regnb.wire.handshake import handshake, opened
from regnb.wire.incoming import Incoming, NotHTTPError
from regnb.wire.messages import BODY_LIMIT, Response, Streamed
from regnb.wire.pace import (
    MOST,
    START,
    Kind,
    Pace,
    asked_again,
    attempts,
    backoff,
    budgets,
)

EXCHANGES: Final = 1000
"""Exchanges that are remembered."""
REDIRECTS: Final = 5
_LOG: Final = logger("wire")
_KEPT_ELSEWHERE: Final = frozenset({"accept", "accept-encoding", "range"})
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_NONE: Final[Mapping[str, str]] = {}


class _Call(NamedTuple):
    """A request as it is sent, and sent again."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | AsyncIterable[bytes] | None = None
    scope: tuple[str, ...] = ()
    kind: Kind = "look"

    @property
    def streams(self) -> bool:
        return self.content is not None and not isinstance(self.content, bytes)


_Answer = TypeVar("_Answer", Response, Streamed)


class _Source:
    """A body that is streamed. When its source fails, that is the error, and not the connection that it broke off."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield chunk
        except Exception as error:
            self.error = error
            raise


class Transport:
    """Sends requests to one registry and keeps its credentials to itself.

    Args:
        url: ``https://host[:port]`` or ``http://host[:port]``, and a path where the registry lies below one; without
            a scheme https, or http on loopback. A user name and password in it are taken as credentials and shown
            nowhere.
        credentials: Or None for anonymous.
        stored: Whether to use what ``docker login`` stored, where no credentials are given and the registry asks.
        ca_bundle: A PEM file of certificate authorities to trust, beside the system's.
        client_cert: A PEM file with certificate and key, or the two files.
        insecure: Do not verify the server's certificate.
        concurrency: Requests under way at first: more, up to ``max_concurrency``, while answers come no later for it,
            and fewer after a 429.
        timeout: Seconds to wait for a connection, for a small answer to begin, and for it to go on. Other requests may
            take multiples of it: see :func:`regnb.wire.pace.budgets`.
        read_only: Send GET and HEAD only; whatever else is asked for is `Refused`.
        retries: How often reads are sent again after lost connections, 429 and 5xx; by default as each deserves it.

    Raises:
        InvalidArgument: The URL is not a registry's, or a certificate cannot be read.

    Example:
        >>> Transport("localhost:5000").url
        'http://localhost:5000'
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        stored: bool = False,
        ca_bundle: str | Path | None = None,
        client_cert: str | Path | tuple[str, str] | None = None,
        insecure: bool = False,
        concurrency: int = START,
        max_concurrency: int = MOST,
        timeout: float = 30.0,
        read_only: bool = False,
        retries: int | None = None,
    ) -> None:
        if concurrency < 1:
            raise InvalidArgument(f"{concurrency} is not a valid concurrency", hint="give 1 or more")
        self.url, self.host, found = parse_registry(url)
        self.sent = 0
        self.read_only = read_only
        self._retries = retries
        self.exchanges: deque[Exchange] = deque(maxlen=EXCHANGES)
        self._seconds = timeout
        self._budgets = budgets(timeout)
        self.pace = Pace(concurrency, max_concurrency)
        self.auth = Authenticator(self.url, credentials or found, self._ask, stored=stored)
        self._trust = partial(_ssl_context, ca_bundle, client_cert, insecure=insecure)
        if ca_bundle is not None or client_cert is not None:
            _ = self._ssl  # what cannot be read is told at once
        certificate = client_cert if isinstance(client_cert, tuple) else (client_cert,)
        pairs = zip(("--cacert", "--cert", "--key"), (ca_bundle, *certificate), strict=False)
        self.options: tuple[str, ...] = (
            *(("--insecure",) if insecure else ()),
            *(word for option, path in pairs if path for word in (option, str(path))),
        )
        self._connections: Connections | None = None

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def settle(self) -> None:
        """Do nothing: a registry has what it has taken."""

    async def aclose(self) -> None:
        """Close every connection. A later request opens new ones."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.aclose()

    @cached_property
    def _ssl(self) -> ssl.SSLContext:
        return self._trust()  # a tenth of a second of reading certificates, which plain http does without

    @property
    def local(self) -> bool:
        """Whether the registry is on this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    async def certificate(self) -> dict[str, Any]:
        """Return the server's certificate as `ssl.SSLSocket.getpeercert` does: {} if nobody verifies it.

        Raises:
            ConnectionFailed: No connection, no TLS, or a certificate that is not trusted.

        Example:
            ``(await transport.certificate()).get("notAfter")``
        """
        async with opened(self.url, self._ssl, self._seconds) as stream:
            found: Any = stream.extra(TLSAttribute.peer_certificate)  # noqa: S610 -- not Django
            return dict(found or {})

    async def handshake(self, path: str) -> int:
        """Ask for a WebSocket: :func:`regnb.wire.handshake.handshake`."""
        return await handshake(join(self.url, path), self._ssl, self._seconds)

    @property
    def reached(self) -> bool:
        """Whether the registry has answered a request of late."""
        return any(exchange.status is not None for exchange in self.exchanges)

    def owns(self, url: str) -> bool:
        """Whether a URL is at this registry: its scheme, host and port, and below its path if it has one."""
        return within(url, self.url)

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
        """Send a request and read its answer, whatever its status; see `raise_for`.

        GET and HEAD are sent again after lost connections, 429 and 5xx, and follow redirects. Nothing else is.

        Args:
            method: Such as GET.
            path: Absolute path, or a URL that the registry gave. At another origin it gets no credentials.
            headers: Beside User-Agent and Authorization. With an Authorization among them, no other is sent, and a 401
                is an answer like any other.
            content: The body. A stream is sent once: it cannot be sent again to answer a challenge.
            scope: What a token must allow, such as ``("repository:vm/centos8:pull",)``.
            limit: Bytes that the answer's body may have.
            params: The query.
            kind: How long it may take; by default as long as one manifest, or one write.

        Raises:
            ConnectionFailed, TLSFailed, Unauthorized, Denied: No answer, or a 401 that credentials do not settle.
            RateLimited: The registry asks to wait for longer than a minute.
            TooLarge: The body is longer than ``limit``.

        Example:
            ``await transport.request("GET", "/v2/_catalog", params={"n": "100"})``
        """
        kind = kind or ("look" if method in GET_OR_HEAD else "write")
        call = _Call(method, self._join(path, params), headers or {}, content, scope, kind)
        if call.streams:
            # Streams do not count: one that is fed by another would wait for itself.
            return await (await self._open(call)).read(limit)

        async def once() -> Response:
            first = await self.pace.enter(call.url)
            try:
                return await (await self._open(call)).read(limit)
            finally:
                self.pace.leave(first=first)

        return await (self._retried(once) if method in GET_OR_HEAD else once())

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        scope: tuple[str, ...] = (),
    ) -> AsyncIterator[Streamed]:
        """Send a GET and read its answer in pieces. It is sent again only as long as no piece of it was given away.

        Raises:
            ConnectionFailed: Also in the middle of the body.

        Example:
            ``async with transport.stream("GET", path) as response: ...``
        """
        call = _Call(method, self._join(path), headers or {}, scope=scope, kind="blob")
        async with contextlib.AsyncExitStack() as stack:

            async def once() -> Streamed:
                await stack.aclose()  # what was answered before
                answer = await self._open(call)
                stack.push_async_callback(answer.raw.aclose)
                return answer

            yield await self._retried(once)

    # Inside

    async def _retried(self, once: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Send a read, and send it again after lost connections, 429 and 5xx for as long as that may help."""
        attempt = 0
        while True:
            attempt += 1
            began = time.monotonic()
            try:
                answer = await once()
            except ConnectionFailed as error:
                if isinstance(error, TLSFailed) or attempt >= attempts(0, self._retries):
                    raise
                seconds = backoff(attempt, 0.1)
                _LOG.info("%s; asked again in %.1f s, attempt %d", error.message, seconds, attempt + 1)
                await anyio.sleep(seconds)
                continue
            failed = answer.status >= 500 or answer.status == 429
            if not (failed and await asked_again(answer, attempt, self.pace, began, retries=self._retries)):
                return answer

    async def _open(self, call: _Call) -> Streamed:
        """Send, answer one challenge, follow redirects of reads; the answer's body is not read yet."""
        if self.read_only and call.method not in GET_OR_HEAD:
            raise Refused(
                f"{call.method} is not sent to {self.host}: this page or program is read-only",
                hint="make a plan, save it, and apply it elsewhere with regnb apply",
            )
        for _ in range(REDIRECTS + 1):
            if self.owns(call.url) and "Authorization" not in call.headers:
                answer = await self._authorized(call)
            else:
                answer = await self._send(call, None)
                if answer.status == 401 and "Authorization" not in call.headers:
                    await answer.raw.aclose()
                    where = f"{redact(origin(call.url))}, where {self.host} sent this request"
                    hint = "it gets none; behind a proxy the registry needs its outer address (http.host)"
                    raise failure(Unauthorized, answer, f"{where}, asks for credentials", hint=hint)
            location = answer.headers.get("location")
            if answer.status not in _MOVED or location is None or call.method not in GET_OR_HEAD:
                return answer
            await answer.raw.aclose()
            url, headers = join(call.url, location), call.headers
            if urlsplit(url).scheme not in ("http", "https"):
                raise ContentError(f"{self.host} redirects to {redact(url)[:200]!r}, which is not followed", hint=FRONT)
            if origin(url) != origin(call.url):
                # A custom header can be a secret, as Authorization is.
                headers = {key: value for key, value in headers.items() if key.lower() in _KEPT_ELSEWHERE}
            call = call._replace(url=url, headers=headers)
        raise ContentError(
            f"{self.host} redirects more than {REDIRECTS} times, at last to {redact(call.url)}", hint=FRONT
        )

    async def _authorized(self, call: _Call) -> Streamed:
        """Send with what authorises it, and once more to answer a challenge.

        Where a stored login is refused, a read is tried without it: whoever only wants what is public should know.
        """
        try:
            authorization = await self.auth.header(call.scope)
            answer = await self._send(call, authorization)
            if answer.status != 401:
                return answer
            await answer.raw.aclose()
            authorization = await self.auth.answer(answer.headers, call.scope, authorization)
            if call.streams:
                raise Unauthorized(f"{self.host} asked for credentials during an upload", hint="try again", status=401)
            answer = await self._send(call, authorization)
            if answer.status == 401:
                await answer.raw.aclose()
                raise self.auth.refused(answer.headers, call.scope)
        except (Unauthorized, Denied) as error:
            if call.method in GET_OR_HEAD and call.scope and await self._public(call):
                raise self.auth.useless(error, call.scope) from None
            raise
        return answer

    async def _public(self, call: _Call) -> bool:
        """Whether a read that was refused to a stored login is allowed without it."""
        try:
            authorization = await self.auth.anonymous(call.scope)
            if authorization is None:
                return False
            answer = await self._send(call, authorization)
        except RegistryError:
            return False
        await answer.raw.aclose()
        return answer.status < 400

    async def _ask(self, method: str, url: str, headers: dict[str, str], content: bytes | None) -> Response:
        """Send a request to the token server: outside the pace, as the request that needs it has a slot already.

        A token server that is busy is asked again, whatever needs the token: nothing has been written yet.
        """
        call = _Call(method, url, headers, content, kind="look")
        for attempt in itertools.count(1):
            answer = await (await self._send(call, None)).read(1024 * 1024)
            if answer.status not in (429, 503) or not await asked_again(answer, attempt, retries=self._retries):
                return answer
        raise AssertionError  # it is counted without end

    async def _send(self, call: _Call, authorization: str | None) -> Streamed:
        method, url, headers, content, _, kind = call
        all_headers = {"Accept-Encoding": "identity", "User-Agent": "regnb", **headers}
        if authorization is not None:
            all_headers["Authorization"] = authorization
        source = None if content is None or isinstance(content, bytes) else _Source(content)
        self.sent += 1
        began = time.perf_counter()
        answer: Incoming | None = None
        try:
            if self._connections is None:
                self._connections = Connections(lambda: self._ssl, self._seconds)
            answer = await self._connections.send(method, url, all_headers, source or content, self._budgets[kind])
        except OSError as error:
            if source is not None and source.error is not None:
                raise source.error from None
            raise unreached(method, url, error, self._budgets[kind].first) from error
        except ValueError as error:
            if source is not None and source.error is not None:
                raise
            raise InvalidArgument(f"not a URL: {redact(url)[:200]!r}: {error}", hint="write http://host:port") from None
        except NotHTTPError:
            host = urlsplit(redact(url)).netloc
            hint = f"write https://{host} if it speaks TLS" if url.startswith("http:") else FRONT
            raise NotARegistry(f"{host} does not answer in HTTP", hint=hint, method=method, url=redact(url)) from None
        finally:
            seconds = time.perf_counter() - began
            exchange = self._record(call, answer, seconds, authorized=authorization is not None)
        if answer.status < 400:
            self.pace.succeeded(seconds)
        return Streamed(method, url, authorization is not None, answer, exchange)

    def _join(self, path: str, params: Mapping[str, str] | None = None) -> str:
        if path.startswith("/") and not path.startswith("//"):
            url = f"{self.url}{path}"
        else:
            url = join(self.url, path)
            if urlsplit(url).scheme not in ("http", "https"):
                raise ContentError(
                    f"{self.host} sent regnb to {redact(url)[:200]!r}, which is not followed", hint=FRONT
                )
        return f"{url}?{urlencode(params)}" if params else url

    def _record(self, call: _Call, answer: Incoming | None, seconds: float, *, authorized: bool) -> Exchange:
        received = _NONE if answer is None else answer.headers
        length = received.get("content-length", "")
        exchange = Exchange(
            call.method,
            redact(call.url),
            None if answer is None else answer.status,
            redact_headers(call.headers.items()),
            received,
            seconds,
            int(length) if length.isdecimal() else 0,
            None if call.streams else len(call.content or b""),  # type: ignore[arg-type]
            authorized,
            self.options,
        )
        if _LOG.isEnabledFor(logging.DEBUG):
            took = (exchange.status or "no answer", exchange.seconds * 1000)
            _LOG.debug("%s %s: %s in %.0f ms", exchange.method, exchange.url, *took)
        self.exchanges.append(exchange)
        return exchange


def _ssl_context(
    ca_bundle: str | Path | None, client_cert: str | Path | tuple[str, str] | None, *, insecure: bool
) -> ssl.SSLContext:
    context = ssl.create_default_context()  # the system's authorities, as docker trusts them
    paths = ssl.get_default_verify_paths()
    try:
        if paths.cafile is None and paths.capath is None:
            import certifi  # only where the system has none

            context.load_verify_locations(certifi.where())
        if ca_bundle is not None:
            context.load_verify_locations(ca_bundle)
    except (OSError, ssl.SSLError) as error:
        what = f"cannot read certificates from {str(ca_bundle)!r}: {error}"
        raise InvalidArgument(what, hint="give a file of certificates in PEM format") from None
    try:
        if client_cert is not None:
            context.load_cert_chain(*(client_cert if isinstance(client_cert, tuple) else (client_cert,)))
    except (OSError, ssl.SSLError) as error:
        what = f"cannot read the client certificate: {error}"
        raise InvalidArgument(what, hint="give a PEM file with the certificate and its key") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

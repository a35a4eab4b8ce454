"""What a request must be before any page sees it: its Host, its Origin, what a browser says of it, and its sender."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from http.client import responses
from typing import Any, Final, NamedTuple, TypeAlias

from tornado import httputil

from regnb.errors import InvalidArgument
from regnb.wire.hosts import HINT, Hosts

Upstream: TypeAlias = Any
"""What tornado, jupyter_server, Voilà and nbformat give and take without types."""
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

STYLE: Final = (
    ":root { color-scheme: light dark; } body { max-width: 640px; margin: 15vh auto; padding: 0 16px;"
    " font: 15px/1.6 system-ui, sans-serif; } input, button { font: inherit; padding: 4px 8px; }"
)
"""The style of a page without scripts."""


def _hash(text: str) -> str:
    """Return how a Content-Security-Policy names an inline script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_POLICY: Final = "default-src 'none'; form-action 'self'; base-uri 'none'; "
BARE: Final = f"{_POLICY}style-src {_hash(STYLE)}; frame-ancestors 'none'"
"""The Content-Security-Policy of all that is not a page with scripts."""
_HEADERS: Final = {
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_YEAR: Final = 31_536_000
_OWN: Final = ("", "none", "same-origin")
"""Of Sec-Fetch-Site: no browser, or one that leaves it out; an address that was typed; a page of this server."""


def scripted(nonce: str) -> str:
    """Return the Content-Security-Policy of a page whose inline scripts have a nonce.

    Nothing is fetched from, sent to or framed by another site, and no text becomes code. What is left open is needed:
    anywidget imports modules from blobs, plotly draws pictures from blobs, JupyterLab's bundles make style elements,
    plotly and pandas set styles.

    Example:
        >>> "unsafe-eval" in scripted("a-new-one-each-time")
        False
    """
    return (
        f"{_POLICY}script-src 'self' 'nonce-{nonce}' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; frame-ancestors 'self'"
    )


class Refusal(NamedTuple):
    """Why a request is refused.

    Attributes:
        status: Of the answer.
        text: What is wrong.
        hint: What to do.
    """

    status: int
    text: str
    hint: str = ""


def refusal(method: str, headers: Mapping[str, str], hosts: Hosts) -> Refusal | None:
    """Return why a request is refused, or None.

    A link on another site may lead here; nothing else that another site makes a browser send is answered.

    Args:
        method: Of the request.
        headers: Of the request; the names in any case.
        hosts: What the server answers to.

    Example:
        >>> refusal("POST", {"Host": "localhost", "Origin": "https://evil.example"}, Hosts("127.0.0.1")).status
        403
    """
    host = headers.get("Host", "")
    if not hosts.answers(host):
        return Refusal(421, f"This server does not answer to the name {host[:100]!r}.", f"At its start, {HINT}.")
    if method not in ("GET", "HEAD", "POST"):
        return Refusal(405, f"{method[:20]} is not used here.")
    # nginx writes "Connection: upgrade" before every request where it passes WebSockets on.
    upgrade = "Upgrade" in headers
    origin = headers.get("Origin")
    if origin == "null":
        return Refusal(
            403,
            "The browser does not say which page sends this (Origin: null).",
            "Open the page itself. A local file and a frame in a sandbox cannot use it.",
        )
    if origin is not None and not hosts.own(origin, host):
        return Refusal(
            403,
            f"A page of {origin[:100]} asked for this.",
            "If that is this server's own address, the proxy changes the Host header. Make it pass the header on "
            f"(nginx: proxy_set_header Host $http_host;), or {HINT}.",
        )
    if origin is None and (upgrade or method == "POST"):
        return Refusal(403, "This request does not say which page sends it.", "Open the page in a browser.")
    link = (
        method == "GET"
        and not upgrade
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )
    if headers.get("Sec-Fetch-Site", "") not in _OWN and not link:
        return Refusal(403, "Another site asked for this.", "Open the page itself.")
    return None


class Guard(httputil.HTTPServerConnectionDelegate):
    """Stands before an application, and hands on what :func:`refusal` does not refuse.

    Args:
        application: tornado's.
        hosts: What the server answers to.
        proxies: Networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
        cookie: The one that answers may set: others are those of other servers behind the same host.
        hsts: Whether browsers are told to come by https alone from now on.

    Raises:
        InvalidArgument: One of the proxies is not an address or a network.
    """

    def __init__(
        self,
        application: Upstream,
        hosts: Hosts,
        proxies: Iterable[str] = (),
        *,
        cookie: str = "",
        hsts: bool = False,
    ) -> None:
        self.application, self.hosts = application, hosts
        self.proxies = [_network(each) for each in proxies]
        self.headers = _HEADERS | ({"Strict-Transport-Security": f"max-age={_YEAR}"} if hsts else {})
        self._cookie = f"{cookie}="

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """Return what hears the next request of a connection."""
        return _Request(self, server_conn, _Answers(self, request_conn))

    def complete(self, headers: httputil.HTTPHeaders) -> None:
        """Give an answer the headers that all have, and take away what others set."""
        headers.update(self.headers)
        # jupyter_server sets one of its own, which allows all but frames.
        if not headers.get("Content-Security-Policy", "").startswith(_POLICY):
            headers["Content-Security-Policy"] = BARE
        headers.pop("Server", None)
        cookies = headers.get_list("Set-Cookie")
        headers.pop("Set-Cookie", None)
        for each in cookies:
            if each.startswith(self._cookie):
                headers.add("Set-Cookie", each)

    def plain(self, status: int, text: str, *, body: bool = True) -> bytes:
        """Return an answer of one sentence, whole, after which the connection is closed."""
        said = text.encode()
        headers = httputil.HTTPHeaders({"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"})
        headers.update({"Content-Length": str(len(said)), "Connection": "close"})
        self.complete(headers)
        lines = (f"{name}: {value}\r\n" for name, value in headers.get_all())
        return f"HTTP/1.1 {status} {responses[status]}\r\n{''.join(lines)}\r\n".encode() + (said if body else b"")

    def sender(self, peer: str, headers: Mapping[str, str]) -> tuple[str, str]:
        """Return the visitor's address and the protocol that it spoke, as far as the proxies are trusted."""
        if not self.trusted(peer):
            return peer, "http"
        for each in reversed(headers.get("X-Forwarded-For", "").split(",")):
            address = each.strip()
            if not _is_address(address):
                break
            peer = address
            if not self.trusted(peer):
                break
        protocol = headers.get("X-Forwarded-Proto", "").rpartition(",")[2].strip().lower()
        return peer, protocol if protocol in ("http", "https") else "http"

    def trusted(self, address: str) -> bool:
        """Whether an address is that of a proxy that is believed."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)


class _Answers(httputil.HTTPConnection):
    """A connection whose answers are completed last of all: tornado adds cookies after everything else."""

    def __init__(self, guard: Guard, connection: Upstream) -> None:
        self._guard, self._connection = guard, connection

    def __getattr__(self, name: str) -> Upstream:
        return getattr(self._connection, name)

    def write_headers(
        self, start_line: Upstream, headers: httputil.HTTPHeaders, chunk: bytes | None = None
    ) -> Upstream:
        self._guard.complete(headers)
        return self._connection.write_headers(start_line, headers, chunk)

    def write(self, chunk: bytes) -> Upstream:
        return self._connection.write(chunk)

    def finish(self) -> None:
        self._connection.finish()


class _Request(httputil.HTTPMessageDelegate):
    """One request: it is refused by its headers, or handed on."""

    def __init__(self, guard: Guard, server_conn: object, request_conn: Upstream) -> None:
        self._guard, self._server_conn, self._connection = guard, server_conn, request_conn
        self._next: httputil.HTTPMessageDelegate | None = None

    def headers_received(self, start_line: Upstream, headers: httputil.HTTPHeaders) -> Upstream:
        context, self._head = self._connection.context, start_line.method == "HEAD"
        peer = context.address[0] if isinstance(context.address, tuple) else ""
        context.remote_ip, context.protocol = self._guard.sender(peer, headers)
        refused = refusal(start_line.method, headers, self._guard.hosts)
        if refused is None and len(headers.get_list("Host")) != 1:
            refused = Refusal(400, "A request has one Host header.")
        if refused is not None:
            self._refuse(refused)
            return None
        self._next = self._guard.application.start_request(self._server_conn, self._connection)
        return self._next.headers_received(start_line, headers)

    def _refuse(self, refused: Refusal) -> None:
        body = f"{refused.text}\n{refused.hint}\n".encode()
        given = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
        }
        line = httputil.ResponseStartLine("", refused.status, responses.get(refused.status, "Refused"))
        self._connection.write_headers(line, httputil.HTTPHeaders(given), b"" if self._head else body)
        self._connection.finish()

    def data_received(self, chunk: bytes) -> Upstream:
        return self._next.data_received(chunk) if self._next is not None else None

    def finish(self) -> None:
        if self._next is not None:
            self._next.finish()

    def on_connection_close(self) -> None:
        if self._next is not None:
            self._next.on_connection_close()


def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidArgument(
            f"{text[:100]!r} is not the address or network of a proxy", hint="write it as 10.0.0.7 or 10.42.0.0/16"
        ) from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

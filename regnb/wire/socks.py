"""Connections through a SOCKS proxy, by python-socks."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import unquote, urlsplit

from regnb.errors import MissingExtra
from regnb.text import redact

_KINDS: Final = {"socks5": "socks5", "socks5h": "socks5", "socks": "socks5", "socks4": "socks4", "socks4a": "socks4"}
_BY_NAME: Final = ("socks5h", "socks4a", "socks")
"""Kinds with which the proxy looks names up, as curl has it; with others this machine does."""
_PORT: Final = 1080


def is_socks(proxy: str) -> bool:
    """Whether a proxy's URL is that of a SOCKS proxy.

    Example:
        >>> is_socks("socks5h://localhost:1080"), is_socks("http://localhost:3128")
        (True, False)
    """
    return proxy.partition("://")[0].lower() in _KINDS


class UnreachedProxy(OSError):
    """The proxy gives no connection; the text names it."""


async def through_socks(proxy: str, host: str, port: int) -> socket.socket:
    """Return a connection to a host, through a SOCKS proxy.

    Args:
        proxy: Its URL, with a user name and password if it wants them.
        host: Where the connection leads.
        port: The same.

    Raises:
        MissingExtra: python-socks is not installed.
        OSError: The proxy does not answer, or refuses.

    Example:
        ``await through_socks("socks5h://localhost:1080", "r.example.com", 443)``
    """
    try:
        from python_socks import ProxyError, ProxyTimeoutError, ProxyType
        from python_socks.async_.asyncio import Proxy
    except ImportError as error:
        raise MissingExtra("python-socks", "socks") from error
    parts = urlsplit(proxy)
    kind = ProxyType.SOCKS4 if _KINDS[parts.scheme] == "socks4" else ProxyType.SOCKS5
    found = Proxy(
        kind,
        parts.hostname or "",
        parts.port or _PORT,
        username=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        rdns=parts.scheme in _BY_NAME,
    )
    try:
        return await found.connect(dest_host=host, dest_port=port)
    except (ProxyError, ProxyTimeoutError) as error:
        raise UnreachedProxy(f"the proxy {urlsplit(redact(proxy)).netloc} refuses: {error}") from None

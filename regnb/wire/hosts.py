"""Host and Origin: which names a server answers to, and which pages of a browser may write to it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from regnb.errors import InvalidArgument

_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_DEFAULTS: Final = {"http": 80, "https": 443}
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
HINT: Final = "pass --host-name with each name that people use"


class Hosts:
    """The host names that a server answers to.

    A page from elsewhere can make a browser believe that its own name has the address of this server (DNS rebinding);
    the browser then lets it read every answer. The Host header still has that name, so it is compared with a list. An
    address cannot be rebound: a server that listens to a network answers to any address, one on loopback to loopback.

    Args:
        bound: The address or name that the server listens on.
        names: Further names and addresses; ``*.example.com`` stands for each name below it.

    Raises:
        InvalidArgument: One of the names is not a host name.

    Example:
        >>> hosts = Hosts("127.0.0.1", ["r.example.com"])
        >>> hosts.answers("localhost:5000"), hosts.answers("r.example.com"), hosts.answers("evil.example")
        (True, True, False)
    """

    def __init__(self, bound: str, names: Iterable[str] = ()) -> None:
        self._names = {_checked(name) for name in names}
        address = _address(bound)
        self._local = _name(bound) == "localhost" or (address is not None and address.is_loopback)
        self._own = {"localhost"} if self._local else {"localhost", bound.lower(), socket.gethostname().lower()}

    def answers(self, host: str) -> bool:
        """Whether a request with this Host header is answered."""
        name = _name(host)
        if not name:
            return False
        if name in self._names | self._own or name.endswith(".localhost"):
            return True
        address = _address(name)
        if address is not None:
            return address.is_loopback or not self._local
        return any(name.endswith(each[1:]) for each in self._names if each.startswith("*."))

    def own(self, origin: str, host: str) -> bool:
        """Whether a page of this Origin is one of the server's own, given the request's Host header.

        A proxy may have replaced the Host header: then the Origin's host must be one of the names that were listed.
        """
        try:
            found = urlsplit(origin.lower())
            port = found.port or _DEFAULTS.get(found.scheme)
            asked = urlsplit(f"//{host.lower()}")
            same = found.hostname == asked.hostname and port == (asked.port or _DEFAULTS.get(found.scheme))
        except ValueError:
            return False
        if found.scheme not in _DEFAULTS or not found.hostname:
            return False
        listed = found.hostname in self._names and port == _DEFAULTS[found.scheme]
        return same or listed


def _checked(name: str) -> str:
    found = name.strip().lower()
    address = _address(found)
    if address is None and not _NAME.fullmatch(found):
        raise InvalidArgument(
            f"{name[:100]!r} is not a valid host name",
            hint="write it alone, such as r.example.com: no http:// and no port",
        )
    return str(address) if address is not None else found


def _name(host: str) -> str:
    """Return the name or address of a Host header, or "" if it has none."""
    if _address(host) is not None:
        return str(_address(host))
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return ""
    name = (parts.hostname or "").removesuffix(".")
    address = _address(name)
    return str(address) if address is not None else name


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None

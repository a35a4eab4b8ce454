"""The guard before the pages: whose name, whose page and whose proxy a request may have."""

from __future__ import annotations

import pytest

from regnb.errors import InvalidArgument
from regnb.pages.guard import Guard, refusal
from regnb.wire.hosts import Hosts

OWN = {"Host": "r.example.com"}
LINK = OWN | {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", OWN, 0),
        ("GET", {"Host": "127.0.0.1:8000"}, 0),
        ("GET", {"Host": "rebound.example"}, 421),
        ("GET", {}, 421),
        ("GET", OWN | {"Connection": "upgrade"}, 0),
        ("GET", LINK, 0),
        ("GET", LINK | {"Connection": "upgrade"}, 0),
        ("GET", LINK | {"Sec-Fetch-Dest": "iframe"}, 403),
        ("GET", LINK | {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "iframe"}, 403),
        ("GET", LINK | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
        ("GET", LINK | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, 403),
        ("POST", LINK | {"Origin": "https://elsewhere.example"}, 403),
        ("POST", LINK | {"Origin": "null"}, 403),
        ("POST", OWN, 403),
        ("POST", OWN | {"Origin": "https://r.example.com", "Sec-Fetch-Site": "same-origin"}, 0),
        ("POST", {"Host": "127.0.0.1:8000", "Origin": "https://r.example.com"}, 0),
        ("GET", OWN | {"Origin": "https://elsewhere.example"}, 403),
        ("GET", OWN | {"Connection": "keep-alive, Upgrade", "Upgrade": "websocket"}, 403),
        ("GET", OWN | {"Upgrade": "websocket", "Origin": "https://elsewhere.example"}, 403),
        ("GET", OWN | {"Upgrade": "websocket", "Origin": "https://r.example.com"}, 0),
        ("GET", LINK | {"Upgrade": "websocket", "Origin": "https://r.example.com"}, 403),
        ("DELETE", OWN | {"Origin": "https://r.example.com"}, 405),
    ],
)
def test_what_is_refused(method: str, headers: dict[str, str], status: int) -> None:
    """A link of another site may lead here; its frames, images, scripts, forms and WebSockets may not."""
    found = refusal(method, headers, Hosts("127.0.0.1", ["r.example.com"]))
    assert (found.status if found else 0) == status
    assert found is None or found.text
    assert found is None or "of null" not in found.text, "that is no page's name"


def test_a_host_header_without_its_port_is_explained() -> None:
    """A proxy on another port than 443 that passes only the name on: --host-name alone would not help."""
    headers = {"Host": "r.example.com", "Origin": "https://r.example.com:8443"}
    found = refusal("POST", headers, Hosts("127.0.0.1", ["r.example.com"]))
    assert found is not None
    assert "proxy_set_header Host $http_host" in found.hint


def test_a_server_on_a_network_answers_to_addresses() -> None:
    """An address cannot be rebound to another server; a name can, and must be listed."""
    hosts = Hosts("0.0.0.0", ["*.lab.example"])  # noqa: S104 -- as in a pod
    answered = {name: hosts.answers(name) for name in ("10.0.0.7:8000", "a.lab.example", "lab.example", "a.example")}
    assert answered == {"10.0.0.7:8000": True, "a.lab.example": True, "lab.example": False, "a.example": False}


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("10.9.9.9", "1.2.3.4", "10.9.9.9"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "1.2.3.4, not an address", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_the_senders_address(peer: str, forwarded: str, sender: str) -> None:
    """Only a proxy that is trusted says who sent a request, and only the last address that is not a proxy's counts."""
    guard = Guard(None, Hosts("127.0.0.1"), ["10.0.0.0/24"])
    assert guard.sender(peer, {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}) == (
        sender,
        "http" if peer == "10.9.9.9" else "https",
    )


def test_a_proxy_that_is_none_is_said() -> None:
    """A name is not an address."""
    with pytest.raises(InvalidArgument, match="proxy"):
        Guard(None, Hosts("127.0.0.1"), ["proxy.example"])

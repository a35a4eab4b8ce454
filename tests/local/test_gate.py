"""The embedded registry's gate: names, pages of other sites, requests that stop half-way, uploads that nobody ends."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from regnb.errors import InvalidArgument
from regnb.local import embedded, gate
from regnb.local.embedded import Server
from regnb.local.uploads import sweep
from regnb.oci.disk import Layout
from regnb.oci.reference import Digest

PLACE = "/v2/a/b/blobs/uploads/"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """With a name besides its address, little patience, and blobs of 1,000 bytes at most."""
    monkeypatch.setattr(gate.Protocol, "patience", 0.5)
    monkeypatch.setattr(gate.Gate, "patience", 0.5)
    monkeypatch.setattr(gate.Protocol, "stalled", 0.5)
    monkeypatch.setattr(gate.Protocol, "most", 8)
    with Server(tmp_path, names=["r.example.com"], limit=1000) as found:
        yield found


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("r.example.com", 200), ("[::1]", 200), ("rebound.example", 421), ("10.0.0.7", 421)],
)
def test_only_its_own_names_are_answered(server: Server, host: str, status: int) -> None:
    """A registry on loopback answers to loopback and to the names it was given: a rebound name reads nothing."""
    answer = httpx.get(f"{server.url}/v2/", headers={"Host": f"{host}:{server.port}"})
    assert answer.status_code == status


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://localhost.elsewhere.example"])
def test_a_page_of_another_site_writes_nothing(server: Server, tmp_path: Path, origin: str) -> None:
    """A form of another site needs no permission to be sent: its Origin refuses it, and no repository is made."""
    answer = httpx.post(server.url + PLACE, headers={"Origin": origin, "Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "DENIED")
    assert Layout(tmp_path).repositories() == []
    assert httpx.get(f"{server.url}/v2/", headers={"Origin": origin}).status_code == 200, "reading is as before"


def test_its_own_pages_and_tools_write(server: Server) -> None:
    """Docker sends no Origin; a page of the registry's own address sends that."""
    assert httpx.post(server.url + PLACE).status_code == 202
    assert httpx.post(server.url + PLACE, headers={"Origin": server.url}).status_code == 202


@pytest.mark.parametrize("begun", [b"", b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n"])
def test_half_a_request_is_given_up(server: Server, begun: bytes) -> None:
    """A connection that sends nothing, or no end of its headers, is closed."""
    with socket.create_connection((server.host, server.port), 20) as raw:
        raw.sendall(begun)
        assert raw.recv(100) == b""


def test_half_a_body_is_given_up(server: Server) -> None:
    """The upload can go on where it stopped."""
    location = httpx.post(server.url + PLACE).headers["location"]
    with socket.create_connection((server.host, server.port), 20) as raw:
        head = f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n12345"
        raw.sendall(head.encode())
        raw.recv(100)  # comes once it was given up
    assert httpx.get(server.url + location).headers["range"] == "0-4"


def test_a_body_that_trickles_is_given_up(server: Server) -> None:
    """Piece after piece in time, but few bytes a second: it ends as if nothing came."""
    location = httpx.post(server.url + PLACE).headers["location"]
    with socket.create_connection((server.host, server.port), 20) as raw:
        raw.sendall(f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n".encode())
        raw.settimeout(0.1)
        sent = 0
        while sent < 200:
            raw.sendall(b"1")
            sent += 1
            with suppress(TimeoutError):
                raw.recv(100)
                break
    assert sent < 50


def test_an_answer_that_nobody_takes_is_given_up(server: Server, tmp_path: Path) -> None:
    """The rest of it is not sent: the connection is closed, and the client sees a part."""
    data = bytes(40_000_000)
    digest = Digest.of(data)
    path = tmp_path / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"
    link = tmp_path / f"docker/registry/v2/repositories/a/b/_layers/sha256/{digest.hex}/link"
    for file, content in ((path, data), (link, str(digest).encode())):
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    with socket.create_connection((server.host, server.port), 20) as raw:
        raw.sendall(f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert raw.recv(12) == b"HTTP/1.1 200"
        time.sleep(1.5)
        taken = 0
        with suppress(ConnectionError):
            while part := raw.recv(1_000_000):
                taken += len(part)
    assert taken < len(data)


def test_only_so_many_connections_are_open(server: Server) -> None:
    """One too many is closed at once; when others end there is room again."""
    held = [socket.create_connection((server.host, server.port), 20) for _ in range(8)]
    for raw in held:
        raw.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.recv(12) == b"HTTP/1.1 200"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/v2/")
    for raw in held:
        raw.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            assert httpx.get(f"{server.url}/v2/").status_code == 200
            return
        time.sleep(0.1)
    pytest.fail("there is no room again")


def test_an_upload_has_a_limit(server: Server) -> None:
    """Of all of its pieces together; the piece that is too much is refused whole."""
    location = httpx.post(server.url + PLACE).headers["location"]
    assert httpx.patch(server.url + location, content=b"1" * 900).status_code == 202
    refused = httpx.patch(server.url + location, content=b"1" * 101)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (413, "SIZE_INVALID")
    assert httpx.get(server.url + location).headers["range"] == "0-899"


def test_what_was_abandoned_is_removed(tmp_path: Path) -> None:
    """Uploads without a new byte for a day, and files of a write that was cut off; what is under way stays."""
    layout = Layout(tmp_path)
    old, new, slow = (layout.start_upload("a/b") for _ in range(3))
    folder = tmp_path / "docker/registry/v2/repositories/a/b/_uploads"
    left = folder.parent / ".tmpa1b2c3"
    left.touch()
    for path in (left, *(folder / old).iterdir(), *(folder / slow).iterdir(), folder / old, folder / slow):
        os.utime(path, (0, 0))
    os.utime(folder / slow / "data", (time.time(), time.time()))
    assert sweep(tmp_path) == 2
    assert {path.name for path in folder.iterdir()} == {new, slow}
    assert not left.exists()


def test_a_name_that_is_none_is_said(tmp_path: Path) -> None:
    """A URL is not a host name."""
    with pytest.raises(InvalidArgument, match="host name"):
        embedded.Server(tmp_path, names=["http://r.example.com"])

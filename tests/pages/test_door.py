"""The door: probes see a loop that stands still, silent connections end, and a connection shares the loop."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError

from regnb.errors import InvalidArgument
from regnb.pages import door as door_
from regnb.pages.door import Door, listen
from regnb.pages.guard import Guard
from regnb.wire.hosts import Hosts

GUARD = Guard(None, Hosts("127.0.0.1"))


class Behind:
    """A door in front of a loop in a thread, which answers ``inside``, and stands still when it is told to."""

    def __init__(self) -> None:
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/ui/"
        self.go_on, self.ready = threading.Event(), threading.Event()
        self.go_on.set()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.work()))
        self.ended: asyncio.Event
        self.loop: IOLoop
        self.door: Door

    async def work(self) -> None:
        self.loop, self.ended = IOLoop.current(), asyncio.Event()
        self.server = HTTPServer(self.answer, idle_connection_timeout=20)  # type: ignore[arg-type]
        self.door = Door(self.listener, self.server, "/ui/healthz", GUARD, most=4)
        self.door.open()
        self.ready.set()
        await self.ended.wait()
        self.door.close()
        for stream in list(self.door.streams):
            stream.close()
        await self.server.close_all_connections()

    def answer(self, request: HTTPServerRequest) -> None:
        request.connection.write_headers(  # type: ignore[union-attr]
            *self.head(6), b"inside"
        )
        request.connection.finish()  # type: ignore[union-attr]

    @staticmethod
    def head(size: int) -> Any:
        from tornado.httputil import HTTPHeaders, ResponseStartLine  # noqa: PLC0415 -- only here

        return ResponseStartLine("", 200, "OK"), HTTPHeaders({"Content-Length": str(size)})


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    monkeypatch.setattr(door_, "PATIENCE", 0.5)
    monkeypatch.setattr(door_, "LATE", 1.5)
    found = Behind()
    found.thread.start()
    assert found.ready.wait(20)
    yield found
    found.go_on.set()
    found.loop.add_callback(found.ended.set)
    found.thread.join(20)


def test_a_probe_judges_the_loop_from_outside(behind: Behind) -> None:
    """It is answered while the loop stands still, and says so; then all is well again."""
    assert (httpx.get(behind.url + "healthz").status_code, httpx.get(behind.url).text) == (200, "inside")
    behind.go_on.clear()
    behind.loop.add_callback(behind.go_on.wait)
    deadline = time.monotonic() + 20
    while (answer := httpx.get(behind.url + "healthz", timeout=5)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert (answer.status_code, answer.text) == (503, "the loop stands still")
    behind.go_on.set()
    while httpx.get(behind.url + "healthz").status_code != 200:
        assert time.monotonic() < deadline + 20
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("head", "begin"),
    [
        ("GET /ui/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 200 OK"),
        ("HEAD /ui/healthz HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK"),
        ("GET /ui/healthz HTTP/1.1\r\nHost: rebound.example\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6"),
        ("GET /ui/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 Bad"),
        ("GET /ui HTTP/1.1\r\nHost 127.0.0.1\r\n\r\n", "HTTP/1.1 400 Bad Request"),
    ],
)
def test_only_a_probe_by_this_hosts_name_is_answered_at_the_door(behind: Behind, head: str, begin: str) -> None:
    """What names another goes to the guard, inside; an answer of the door's has the headers of every other."""
    with socket.create_connection(("127.0.0.1", behind.port), 20) as raw:
        raw.sendall(head.encode())
        answer = raw.recv(4096).decode()
    assert answer.startswith(begin)
    if "Content-Length: 6" not in begin:
        assert "default-src 'none'" in answer
        assert "Cross-Origin-Resource-Policy: same-origin" in answer


def test_a_connection_that_says_nothing_is_closed(behind: Behind) -> None:
    """Before the loop knows of it."""
    with socket.create_connection(("127.0.0.1", behind.port), 20) as raw:
        assert raw.recv(1) == b""
    assert not behind.door.streams


def test_only_so_many_are_open(behind: Behind) -> None:
    """One too many is told so, and a probe is answered all the same."""
    held = [socket.create_connection(("127.0.0.1", behind.port), 20) for _ in range(4)]
    try:
        for raw in held:
            raw.sendall(b"GET /ui/ HT")
        deadline = time.monotonic() + 20
        while len(behind.door.streams) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert httpx.get(behind.url).status_code == 503
        assert httpx.get(behind.url + "healthz").status_code == 200
    finally:
        for raw in held:
            raw.close()


def test_a_connection_reads_a_little_in_each_turn() -> None:
    """However much lies ready to be read, the loop goes round between two pieces of it."""
    turns = 0

    async def work() -> None:
        nonlocal turns
        ours, theirs = socket.socketpair()
        # A door that is never opened: the stream only wants to be counted.
        with listen("127.0.0.1", 0) as listener:
            stream = door_.Stream(ours, Door(listener, HTTPServer(lambda _: None), "/", GUARD))
        theirs.sendall(b"x" * 40_960)

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        for _ in range(40_960):
            await stream.read_bytes(1)
        counting.cancel()
        stream.close()
        theirs.close()

    asyncio.run(work())
    assert turns >= 9


def test_a_connection_sends_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a page ever sends ends the connection."""
    monkeypatch.setattr(door_, "_BURST", 10_000)
    monkeypatch.setattr(door_, "_PACE", 1)

    async def work() -> int:
        ours, theirs = socket.socketpair()
        with listen("127.0.0.1", 0) as listener:
            stream = door_.Stream(ours, Door(listener, HTTPServer(lambda _: None), "/", GUARD))
        theirs.sendall(b"x" * 30_000)
        with pytest.raises(StreamClosedError):
            await stream.read_bytes(30_000)
        theirs.close()
        return stream.error.errno if isinstance(stream.error, OSError) else 0

    assert asyncio.run(work()) in (0, 104)


def test_a_port_that_is_taken_is_said() -> None:
    """With what to do."""
    with listen("127.0.0.1", 0) as found, pytest.raises(InvalidArgument, match="cannot listen"):
        listen("127.0.0.1", found.getsockname()[1])

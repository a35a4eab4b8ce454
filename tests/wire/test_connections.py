"""HTTP/1.1 on the wire: how answers end, which connection is used, how often and for how long a request is sent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import anyio
import pytest
import trustme

from regnb.errors import (
    ConnectionFailed,
    ContentError,
    InvalidArgument,
    MissingExtra,
    NotARegistry,
    RegistryError,
)
from regnb.wire import connections
from regnb.wire import transport as module
from regnb.wire.pace import budgets
from regnb.wire.transport import Transport

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WRITES = ["PUT", "POST", "PATCH", "DELETE"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Wire:
    """A server that sees bytes: the requests of each connection, with their bodies."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[list[tuple[str, bytes]]] = []

    @property
    def requests(self) -> list[tuple[str, bytes]]:
        return [request for each in self.connections for request in each]


Speak = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.splitlines())}
    if fields.get("transfer-encoding") == "chunked":
        body = await reader.readuntil(b"0\r\n\r\n")
    else:
        body = await reader.readexactly(int(fields.get("content-length", "0")))
    return head, body


Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listen(accept: Accept, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Hand each connection to ``accept``, and end what is open at the end."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await accept(reader, writer)

    async with await asyncio.start_server(run, "127.0.0.1", ssl=context) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serve(speak: Speak, *, context: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Hand each request to ``speak(writer, how many came before it)``, on as many connections as are opened."""
    wire = Wire()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen: list[tuple[str, bytes]] = []
        wire.connections.append(seen)
        while not writer.is_closing():
            seen.append(await _request(reader))
            await speak(writer, len(wire.requests) - 1)
            await writer.drain()

    async with listen(accept, context) as host:
        wire.url = f"{'https' if context else 'http'}://{host}"
        yield wire


def say(*answers: bytes, close: bool = False) -> Speak:
    """Answer the requests in turn, the last answer again and again."""

    async def speak(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(answers[min(number, len(answers) - 1)])
        if close:
            writer.close()

    return speak


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between retries are short."""
    monkeypatch.setattr(module, "backoff", lambda *_: 0.001)


# How an answer ends


@pytest.mark.parametrize(
    ("method", "answer", "status", "body", "kept"),
    [
        ("GET", OK, 200, b"ok", True),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: x\r\n\r\n",
         200, b"abcd", True),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, 200, b"ok", True),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 200, b"", True),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\n\r\n", 404, b"", True),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 200, b"ok", False),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"", False),
        ("GET", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200, b"ok", False),
    ],
)  # fmt: skip
async def test_how_answers_end(method: str, answer: bytes, status: int, body: bytes, *, kept: bool) -> None:
    """Each form of an answer is read to its end, and the connection is used again only if nothing else can be on it."""
    async with serve(say(answer)) as wire, Transport(wire.url) as transport:
        for _ in range(2):
            response = await transport.request(method, "/v2/")
            assert (response.status, response.data) == (status, body)
        assert len(wire.connections) == (1 if kept else 2)


async def test_a_body_that_ends_with_the_connection() -> None:
    """Without a length the end of the connection is the body's."""
    async with serve(say(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True)) as wire, Transport(wire.url) as transport:
        assert (await transport.request("GET", "/v2/")).data == b"all of it"


async def test_a_header_that_comes_twice() -> None:
    """Values of one header are joined, and their names are in lower case."""
    answer = b"HTTP/1.1 200 OK\r\nLink: <a>\r\nLINK: <b>\r\nContent-Length: 0\r\n\r\n"
    async with serve(say(answer)) as wire, Transport(wire.url) as transport:
        assert (await transport.request("GET", "/v2/")).headers["link"] == "<a>, <b>"


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
)
async def test_answers_that_are_not_http(answer: bytes) -> None:
    """An answer whose end cannot be told for sure is an error, never data."""
    async with serve(say(answer)) as wire, Transport(wire.url) as transport:
        with pytest.raises((NotARegistry, ConnectionFailed)):
            await transport.request("GET", "/v2/")


@pytest.mark.parametrize(("encoding", "decoded"), [("gzip", b"ok"), ("br", None), ("gzip-cut", None)])
async def test_a_body_that_a_proxy_compressed(encoding: str, decoded: bytes | None) -> None:
    """Gzip is undone, although it was not asked for; what cannot be undone, or is cut off, is a ContentError."""
    body = gzip.compress(b"ok")[: -4 if encoding == "gzip-cut" else None]
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding[:4]}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    sent = b"x" * len(body) if encoding == "br" else body
    async with serve(say(head + sent)) as wire, Transport(wire.url) as transport:
        if decoded is not None:
            assert (await transport.request("GET", "/v2/")).data == decoded
        else:
            with pytest.raises(ContentError, match="Content-Encoding"):
                await transport.request("GET", "/v2/")


# Which connection


async def test_what_nobody_asked_for_is_never_an_answer() -> None:
    """A server says 408 on an idle connection and closes it: the next request gets its own answer on another one."""

    async def speak(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(OK)
        if number == 0:
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    async with serve(speak) as wire, Transport(wire.url) as transport:
        assert (await transport.request("GET", "/v2/")).status == 200
        await asyncio.sleep(0.2)
        assert (await transport.request("GET", "/v2/")).status == 200
        assert len(wire.connections) == 2


async def test_a_cancelled_request_leaves_no_answer_behind() -> None:
    """The answer to a request that was given up is not taken for the next one's."""

    async def speak(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 0:
            await asyncio.sleep(0.1)
        writer.write(OK.replace(b"ok", b"%02d" % number))

    async with serve(speak) as wire, Transport(wire.url) as transport:
        with anyio.move_on_after(0.05):
            await transport.request("GET", "/v2/")
        await asyncio.sleep(0.1)
        assert (await transport.request("GET", "/v2/")).data == b"01"


# How often


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("method", WRITES)
async def test_a_write_whose_answer_is_lost_goes_out_once(method: str, *, kept: bool) -> None:
    """The server closes a connection, new or kept, when it has seen the write: it never sees it a second time."""

    async def speak(writer: asyncio.StreamWriter, number: int) -> None:
        if kept and number == 0:
            writer.write(OK)
        else:
            writer.close()

    async with serve(speak) as wire, Transport(wire.url) as transport:
        if kept:
            await transport.request("GET", "/v2/")
        with pytest.raises(ConnectionFailed, match="closed the connection without an answer"):
            await transport.request(method, "/v2/a/manifests/b", content=b"body" if method == "PUT" else None)
        await asyncio.sleep(0.1)
        assert [head.split()[0] for head, _ in wire.requests[kept:]] == [method]
        assert len(wire.connections) == 1
        assert transport.sent == len(transport.exchanges) == len(wire.requests)


@pytest.mark.usefixtures("hurried")
async def test_a_read_whose_answer_is_lost_is_sent_again() -> None:
    """A GET on a connection that is closed meanwhile is sent again, and the record has both."""

    async def speak(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 1:
            writer.close()
        else:
            writer.write(OK)

    async with serve(speak) as wire, Transport(wire.url) as transport:
        await transport.request("GET", "/v2/")
        assert (await transport.request("GET", "/v2/")).data == b"ok"
        assert [each.status for each in transport.exchanges] == [200, None, 200]
        assert len(wire.requests) == 3


@pytest.mark.parametrize(("method", "opened"), [("GET", 1), ("PUT", 2)])
async def test_a_write_takes_no_connection_that_was_idle(
    monkeypatch: pytest.MonkeyPatch, method: str, opened: int
) -> None:
    """A connection that was idle for a while may be closed by the server just now: a write gets a new one."""
    monkeypatch.setattr(connections, "_JUST_NOW", 0.0)
    async with serve(say(OK)) as wire, Transport(wire.url) as transport:
        await transport.request("GET", "/v2/")
        await transport.request(method, "/v2/")
        assert len(wire.connections) == opened


# How long


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
async def test_a_server_that_trickles_comes_to_an_end(begin: bytes) -> None:
    """A byte now and then, within the head or the body, does not hold a request for ever."""

    async def speak(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(begin)
        for byte in OK * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serve(speak) as wire, Transport(wire.url, timeout=0.2, retries=0) as transport:
        with anyio.fail_after(60), pytest.raises(ConnectionFailed, match="in"):
            await transport.request("GET", "/v2/", kind="list")
        with anyio.fail_after(60), pytest.raises(ConnectionFailed, match="in"):
            async with transport.stream("GET", "/v2/") as response:
                await response.read()


async def test_one_manifest_may_not_take_as_long_as_a_listing() -> None:
    """An endless answer that comes fast ends with its budget: that of a manifest is smaller than that of a catalog."""

    async def speak(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serve(speak) as wire, Transport(wire.url, timeout=0.2, retries=0) as transport:
        with anyio.fail_after(60), pytest.raises(ConnectionFailed, match="no more came in time"):
            await transport.request("GET", "/v2/")
    kinds = budgets(30)
    assert kinds["look"].total == 60
    assert kinds["list"].first == 300


async def test_a_large_answer_that_nobody_reads_is_not_kept_in_memory() -> None:
    """What a slow reader does not take stays with the server, and is not cut off for it."""
    size, written = 64 * 1024 * 1024, [0]

    async def speak(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
            written[0] += 65536

    async with (
        serve(speak) as wire,
        Transport(wire.url, timeout=0.5) as transport,
        transport.stream("GET", "/v2/") as response,
    ):
        chunks = response.chunks
        left = size - len(await anext(chunks))
        await asyncio.sleep(1)
        assert written[0] < size // 2
        async for chunk in chunks:
            left -= len(chunk)
        assert left == 0


# What is sent


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_bodies_as_they_are_sent() -> None:
    """Bytes of any size and streams with a length are sent with it, a stream without one in chunks."""
    large = bytes(range(256)) * 1000
    async with serve(say(OK)) as wire, Transport(wire.url) as transport:
        await transport.request("PUT", "/v2/", content=large)
        await transport.request("PUT", "/v2/", content=pieces(b"ab", large), headers={"Content-Length": "256002"})
        await transport.request("PUT", "/v2/", content=pieces(b"abc", b"d"))
        await transport.request("POST", "/v2/")
    assert [body for _, body in wire.requests] == [large, b"ab" + large, b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", b""]
    assert "Content-Length: 0\r\n" in wire.requests[-1][0]


async def test_a_stream_that_is_shorter_than_it_was_announced() -> None:
    """It is the source's error, and the server gets no request that waits for the rest."""
    async with serve(say(OK)) as wire, Transport(wire.url) as transport:
        with pytest.raises(ContentError, match="2 bytes, and not the 3"):
            await transport.request("PUT", "/v2/", content=pieces(b"ab"), headers={"Content-Length": "3"})
    assert wire.requests == []


async def test_an_upload_that_is_refused_while_it_is_sent() -> None:
    """The answer comes before the body's end: the rest is not sent, and the answer counts."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with listen(refuse) as host, Transport(f"http://{host}") as transport:
        with anyio.fail_after(60):
            assert (await transport.request("PUT", "/v2/", content=endless())).status == 413


async def test_the_path_and_headers_cannot_smuggle_anything() -> None:
    """Spaces and letters beyond ASCII in a path are escaped; a line break in a header is refused."""
    async with serve(say(OK)) as wire, Transport(wire.url) as transport:
        await transport.request("GET", "/v2/\u00e9 \r\nX-Evil: 1")
        with pytest.raises(InvalidArgument):
            await transport.request("GET", "/v2/", headers={"Accept": "a\r\nX-Evil: 1"})
        with pytest.raises(InvalidArgument):
            await transport.request("GET", "/v2/", headers={"Accept": "a\nX-Evil: 1"})
    assert len(wire.requests) == 1
    assert wire.requests[0][0].startswith("GET /v2/%C3%A9%20%0D%0AX-Evil:%201 HTTP/1.1\r\n")
    assert "\r\nX-Evil" not in wire.requests[0][0]


# Proxies


@contextlib.asynccontextmanager
async def tunnels(target: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that connects to ``target``, whatever host it is asked for."""
    heads: list[str] = []
    host, _, port = target.partition("://")[2].partition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head.decode())
        if b"Proxy-Authorization: Basic bWU6cGxhbnRlZA==" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        there, to = await asyncio.open_connection(host, int(port))
        ends.callback(to.transport.abort)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            to.write(head)
        await asyncio.gather(pump(reader, to), pump(there, writer))

    ends = contextlib.ExitStack()

    with ends:
        async with listen(accept) as proxy:
            yield proxy, heads


def certified(folder: Path) -> ssl.SSLContext:
    """TLS for registry.example.org by an authority of its own, whose certificate is ``ca.pem`` in the folder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("registry.example.org").configure_cert(context)
    return context


async def test_a_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Https goes through a tunnel and is verified at its other end, http is asked of the proxy; both log in to it."""
    context = certified(tmp_path)
    for secure in (True, False):
        async with serve(say(OK), context=context if secure else None) as wire, tunnels(wire.url) as (proxy, heads):
            scheme = "https" if secure else "http"
            monkeypatch.setenv(f"{scheme}_proxy", f"http://me:planted@{proxy}")
            async with Transport(f"{scheme}://registry.example.org:5000", ca_bundle=tmp_path / "ca.pem") as transport:
                for _ in range(2):
                    assert (await transport.request("GET", "/v2/")).data == b"ok"
        assert len(heads) == 1
        asked = "CONNECT registry.example.org:5000" if secure else "GET http://registry.example.org:5000/v2/"
        assert heads[0].startswith(f"{asked} HTTP/1.1\r\n")
        assert len(wire.requests) == 2
        if secure:
            assert "planted" not in wire.requests[0][0]
            assert "Proxy-Authorization" not in wire.requests[0][0]


async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told that the proxy refused, without the password for it."""
    async with serve(say(OK)) as wire, tunnels(wire.url) as (proxy, _):
        monkeypatch.setenv("https_proxy", f"http://me:wrong@{proxy}")
        async with Transport("https://registry.example.org", retries=0) as transport:
            with pytest.raises(RegistryError, match=f"the proxy {proxy} answers 407") as caught:
                await transport.request("GET", "/v2/")
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["http", "socks5h"])
async def test_a_proxy_that_is_down(scheme: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the proxy, and the hint where it is set; the password is not told."""
    with socket.socket() as taken:  # a port where nobody listens
        taken.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("all_proxy", f"{kind}://me:planted@{proxy}")
        refused = f"cannot reach registry.example.org: the proxy {proxy} refuses connections"
        async with Transport(f"{scheme}://registry.example.org", retries=0) as transport:
            with pytest.raises(ConnectionFailed, match=refused) as caught:
                await transport.request("GET", "/v2/")
    assert "all_proxy" in caught.value.hint
    assert "planted" not in str(caught.value)


@contextlib.asynccontextmanager
async def socks(target: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A SOCKS5 proxy (RFC 1928, RFC 1929) that connects to ``target``, whatever name it is asked for."""
    names: list[str] = []
    host, _, port = target.partition("://")[2].partition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x02")
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        (length,) = await reader.readexactly(1)
        right = (user, await reader.readexactly(length)) == (b"me", b"planted")
        writer.write(b"\x01\x00" if right else b"\x01\x01")
        if not right:
            writer.close()
            return
        *_, kind, length = await reader.readexactly(5)
        assert kind == 3
        name = await reader.readexactly(length)
        names.append(f"{name.decode()}:{int.from_bytes(await reader.readexactly(2))}")
        there, to = await asyncio.open_connection(host, int(port))
        ends.callback(to.transport.abort)
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await asyncio.gather(pump(reader, to), pump(there, writer))

    ends = contextlib.ExitStack()

    with ends:
        async with listen(accept) as proxy:
            yield proxy, names


async def test_a_socks_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Http and https go through a SOCKS proxy that looks the name up; a wrong login and a missing library are told."""
    context = certified(tmp_path)
    for scheme in ("https", "http"):
        server = serve(say(OK), context=context if scheme == "https" else None)
        async with server as wire, socks(wire.url) as (proxy, names):
            url = f"{scheme}://registry.example.org:5000"
            monkeypatch.setenv("all_proxy", f"socks5h://me:planted@{proxy}")
            async with Transport(url, ca_bundle=tmp_path / "ca.pem") as transport:
                for _ in range(2):
                    assert (await transport.request("GET", "/v2/")).data == b"ok"
            assert names == ["registry.example.org:5000"]
            assert wire.requests[0][0].startswith("GET /v2/ HTTP/1.1\r\nHost: registry.example.org:5000\r\n")
            monkeypatch.setenv("all_proxy", f"socks5h://me:wrong@{proxy}")
            async with Transport(url, retries=0) as transport:
                with pytest.raises(ConnectionFailed, match=f"the proxy {proxy} refuses") as caught:
                    await transport.request("GET", "/v2/")
            assert "wrong" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "python_socks", None)
    async with Transport("https://registry.example.org", retries=0) as transport:
        with pytest.raises(MissingExtra, match=r"python-socks is not installed; pip install 'regnb\[socks\]'"):
            await transport.request("GET", "/v2/")


async def test_many_connections_take_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is looked up once for connections that are opened within seconds, and anew where it refused one."""
    asked: list[object] = []
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def counted(host: str, port: int, **how: int) -> object:
        asked.append((host, port))
        return await look_up(host, port, **how)

    monkeypatch.setattr(loop, "getaddrinfo", counted)

    async def speak(writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(OK)

    async with serve(speak) as wire, Transport(wire.url, concurrency=8) as transport:
        await transport.request("GET", "/")
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(transport.request, "GET", "/")
        assert len(wire.connections) > 1
        assert len(asked) == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with Transport(url, retries=1) as transport:
            with pytest.raises(ConnectionFailed):
                await transport.request("GET", "/")
    assert len(asked) == 3

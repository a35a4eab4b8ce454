"""The door: accepts connections in a thread of its own, says how the loop behind it is, and hands the rest on."""

from __future__ import annotations

import errno
import re
import selectors
import socket
import threading
import time
from contextlib import ExitStack, suppress
from typing import Final

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.iostream import IOStream

from regnb.errors import InvalidArgument
from regnb.pages.guard import Guard, Upstream
from regnb.pages.rate_limit import RateLimit

MOST: Final = 512
"""Connections that are open at once."""
EACH: Final = 128
"""Connections of one address."""
PATIENCE: Final = 10.0
"""Seconds that a connection has to send its first bytes."""
STILL: Final = 90.0
"""Seconds after which a connection that neither sends nor takes a byte is closed; a WebSocket is pinged every 30."""
LATE: Final = 10.0
"""Seconds without an answer of the loop after which it is not healthy."""

_TURN: Final = 4_096
"""Bytes that are read of one connection before the others have their turn."""
_BURST, _PACE = 2 * 1024 * 1024, 64 * 1024
"""Bytes that a connection may send at once, and in each second besides."""
_READ, _UNSENT = 4 * 1024 * 1024, 64 * 1024 * 1024
"""Bytes that are held of what a connection sent, and of what it does not take."""
_BACKLOG: Final = 256
_HEAD: Final = 8_192
"""Bytes of the head of a probe."""
_HOST: Final = re.compile(rb"\r\nhost:[ \t]*([^\r]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
_MALFORMED: Final = b"HTTP/1.1 400 Bad Request\r\n\r\n"
"""What tornado answers to a request that it cannot read, beside all handlers."""


class Stream(IOStream):
    """A connection that shares the loop with the others: a little is read in each turn, and only so much in all.

    Args:
        connection: The socket.
        door: Where it came in.
        peer: The address that it came from.
    """

    def __init__(self, connection: socket.socket, door: Door, peer: str = "") -> None:
        super().__init__(connection, max_buffer_size=_READ, read_chunk_size=_TURN, max_write_buffer_size=_UNSENT)
        self._door, self._had_its_turn, self.peer = door, False, peer
        self._limit = RateLimit(_BURST, _PACE)
        self.moved = time.monotonic()
        door.streams.add(self)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read, unless it was done in this turn of the loop already."""
        if self._had_its_turn:
            return None
        found = super().read_from_fd(buf)
        if found:
            self._had_its_turn, self.moved = True, time.monotonic()
            self.io_loop.add_callback(self._next_turn)
            if not self._limit.take("", found):
                raise ConnectionResetError(errno.ECONNRESET, "more than a page sends")
        return found

    def _next_turn(self) -> None:
        self._had_its_turn = False

    def write(self, data: bytes | memoryview) -> Upstream:
        """Write; the answer that has no headers gets them."""
        malformed = self._door.guard.plain(400, "This is not a valid HTTP request.")
        return super().write(malformed if data == _MALFORMED else data)

    def write_to_fd(self, data: memoryview) -> int:
        """Write, and note that the other side takes something."""
        sent = super().write_to_fd(data)
        if sent:
            self.moved = time.monotonic()
        return sent

    def close_fd(self) -> None:
        """Close, and be counted no longer."""
        self._door.streams.discard(self)
        super().close_fd()


class Door:
    """Accepts connections, so that a loop that stands still is seen from outside.

    A probe is answered by the thread itself, if its head comes at once and names this host: 200 while the loop goes
    round, 503 when it does not. A connection that
    sends nothing is closed before the loop knows of it.

    Args:
        listener: The socket that listens.
        server: Takes what is no probe.
        probe: The path of a probe.
        guard: What its answers have, which hosts it answers to, and which addresses are those of proxies, whose
            connections are many visitors'.
        most: Connections that are open at once.

    Example:
        >>> door = Door(listen("127.0.0.1", 8000), server, "/ui/healthz", guard)  # doctest: +SKIP
        >>> door.open()  # doctest: +SKIP
    """

    def __init__(
        self,
        listener: socket.socket,
        server: HTTPServer,
        probe: str,
        guard: Guard,
        most: int = MOST,
    ) -> None:
        self.streams: set[Stream] = set()
        self.guard = guard
        self._listener, self._server, self._most = listener, server, most
        self._probes = tuple(f"{method} {probe} ".encode() for method in ("GET", "HEAD"))
        self._loop = IOLoop.current()
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._accept, name="regnb-door", daemon=True)
        self._closed = threading.Event()

    def open(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)  # noqa: FBT003 -- the socket's own
        PeriodicCallback(self._beat, 1000).start()
        self._thread.start()

    def close(self) -> None:
        """Accept no more."""
        self._closed.set()
        self._thread.join(PATIENCE)
        self._listener.close()

    @property
    def healthy(self) -> bool:
        """Whether the loop went round lately."""
        return time.monotonic() - self._beaten < LATE

    # In the loop

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        for stream in [each for each in self.streams if self._beaten - each.moved > STILL]:
            stream.close()

    def _admit(self, connection: socket.socket, address: Upstream) -> None:
        peer = str(address[0])
        full = len(self.streams) >= self._most or self._full(peer, [stream.peer for stream in self.streams])
        if full or self._closed.is_set():
            _answer(connection, self.guard.plain(503, "too many connections are open"))
            return
        self._server.handle_stream(Stream(connection, self, peer), address)

    def _full(self, peer: str, peers: list[str]) -> bool:
        return peers.count(peer) >= EACH and not self.guard.trusted(peer)

    # In the thread

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closed.is_set():
                for key, _ in selector.select(1.0):
                    if key.fileobj is self._listener:
                        self._welcome(selector)
                    else:
                        self._look(selector, key)
                now = time.monotonic()
                for key in [each for each in selector.get_map().values() if each.data and now > each.data[1]]:
                    silent: Upstream = selector.unregister(key.fileobj).fileobj
                    silent.close()

    def _is_asked(self, begun: bytes) -> bool:
        """Whether a head is whole, and names this host or, as some probes and no browser, none."""
        head, end, _ = begun.partition(b"\r\n\r\n")
        found = _HOST.findall(head + end[:2])
        return bool(end) and len(found) <= 1 and all(self.guard.hosts.answers(each.decode("latin-1")) for each in found)

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        with suppress(OSError):
            connection, address = self._listener.accept()
            peers = [str(key.data[0][0]) for key in selector.get_map().values() if key.data]
            if len(peers) >= self._most or self._full(str(address[0]), peers):
                connection.close()
                return
            connection.setblocking(False)  # noqa: FBT003 -- the socket's own
            selector.register(connection, selectors.EVENT_READ, (address, time.monotonic() + PATIENCE))

    def _look(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        connection: Upstream = key.fileobj
        try:
            begun = connection.recv(_HEAD, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            begun = b""
        selector.unregister(connection)
        if not begun:
            connection.close()
        elif begun.startswith(self._probes) and self._is_asked(begun):
            said = (200, "ok") if self.healthy else (503, "the loop stands still")
            _answer(connection, self.guard.plain(*said, body=begun.startswith(b"GET")))
        else:
            self._loop.add_callback(self._admit, connection, key.data[0])


def _answer(connection: socket.socket, whole: bytes) -> None:
    """Answer without a loop, and close."""
    with suppress(OSError), connection:
        connection.recv(65_536)
        connection.send(whole)
        connection.shutdown(socket.SHUT_WR)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        InvalidArgument: The port is in use, or there is no such address here.

    Example:
        >>> with listen("127.0.0.1", 0) as found:
        ...     found.getsockname()[1] > 0
        True
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            found = stack.enter_context(socket.socket(family, kind, protocol))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(_BACKLOG)
            stack.pop_all()  # it stays open
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", "") or error
        raise InvalidArgument(f"cannot listen on {host}:{port}: {reason}", hint="pass another --port") from None
    return found

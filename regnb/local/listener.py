"""A listener for the notifications of distribution: what is pulled goes into a history of pulls."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Final, TypeAlias

from regnb.analysis.pulls import History, record
from regnb.crawl.access import Pulls, read_events
from regnb.errors import ContentError, InvalidArgument, StorageError
from regnb.local.events import Events, read
from regnb.log import logger
from regnb.session import ended_as_interrupted
from regnb.wire.addresses import is_loopback

TOKEN: Final = "REGNB_LISTEN_TOKEN"  # noqa: S105 -- the variable's name
"""The environment's variable with what a registry must send as ``Authorization: Bearer``."""
BODY_LIMIT: Final = 1024 * 1024
"""Bytes of one request."""
AT_ONCE: Final = 32
"""Requests that are answered at once; more are told to come again."""
INTERVAL: Final = 10.0
"""Seconds between two writings of the history."""
_PATIENCE: Final = 10.0
"""Seconds to wait for the next bytes of a request."""
_LEAST: Final = 16
"""Characters of a token: nothing slows down whoever tries them all."""
_LOG: Final = logger("local")


Asked: TypeAlias = socket | tuple[bytes, socket]


class Listener:
    """Receives notifications on a port, and keeps what was pulled until it is written.

    A pull is on disk before it is answered: one that was answered with 200 is in the history, or goes into it when
    this or the next listener writes it, however this one ends.

    Args:
        history: The file of the history, which is made if it is not there.
        host: Address to listen on.
        port: 0 for a free one.
        token: What each request must carry; "" lets everybody in, on this machine alone.

    Raises:
        InvalidArgument: An address of the network without a token, a token that is too short, or a port in use.
        StorageError: The history cannot be read or written.
        Busy: Another listener records into it.
    """

    def __init__(self, history: str | Path, *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        if not token and not is_loopback(host):
            raise InvalidArgument(
                f"everyone who can reach {host} could write into the history of pulls",
                hint=f"set {TOKEN} to a secret that the registry sends: export {TOKEN}=$(openssl rand -hex 16)",
            )
        if token and len(token) < _LEAST:
            raise InvalidArgument(
                f"the token in {TOKEN} has fewer than {_LEAST} characters", hint="openssl rand -hex 16"
            )
        self._history = history
        self._token = token
        self._lock = threading.Lock()
        self.received = 0
        History.load(history)
        self._events = Events(history)
        try:
            self._server = _Server((host, port), self._handler())
        except (OSError, OverflowError) as error:
            self._events.close()
            raise InvalidArgument(
                f"cannot listen on {host}:{port}: {error}", hint="pass another port, or 0 for a free one"
            ) from None
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._began = datetime.now(UTC)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE
            server_version, sys_version = "regnb", ""

            def do_POST(self) -> None:
                if "Origin" in self.headers:  # a registry is not a browser
                    self._answer(403, "a web page sent this, and no registry")
                    return
                status, text = listener.take(self.headers.get("Authorization", ""), self._body())
                self._answer(status, text)

            def do_GET(self) -> None:
                self._answer(405, "send notifications with POST")

            def _body(self) -> bytes | None:
                length = self.headers.get("Content-Length", "")
                if not length.isdecimal() or int(length) > BODY_LIMIT:
                    return None
                return self.rfile.read(int(length))

            def _answer(self, status: int, text: str) -> None:
                data = json.dumps({"message": text}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Connection", "close")
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing: what a client sends does not belong on a terminal."""

        return Handler

    def take(self, authorization: str, body: bytes | None) -> tuple[int, str]:
        """Take in a request, and return the status and the text of its answer."""
        if self._token and not hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode()):
            return 401, "the token is missing, or another one"
        if body is None:
            return 413, f"a notification has a Content-Length of at most {BODY_LIMIT} bytes"
        try:
            found = read_events(body)
        except ContentError as error:
            return 400, error.message
        pulls = Pulls({key: min(when, datetime.now(UTC)) for key, when in found.last.items()})
        with self._lock:
            try:
                self._events.add(pulls)
            except StorageError as error:
                _LOG.warning("events were not taken: %s", error.message)
                return 503, "events cannot be recorded now: send them again"
            self.received += found.lines
        return 200, "taken"

    def write(self) -> None:
        """Write what was received, and that nothing else was pulled since this began to listen.

        Raises:
            StorageError: The history cannot be written; what was received stays in files beside it for the next time.
        """
        with self._lock:
            files = self._events.turn()
        taken = read(files)
        taken.since, taken.until = self._began, datetime.now(UTC)
        record(self._history, taken)
        for path in files:
            path.unlink(missing_ok=True)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Receive notifications within a ``with`` block, at whose end everything is written."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
            try:
                self.write()
            finally:
                self._events.close()


class _Server(ThreadingHTTPServer):
    """Answers so many requests at once and no more."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Asked, client_address: object) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Asked, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *about: object) -> None:
        _LOG.info("a request from %s broke off", about[-1])


def listen(
    history: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str = "",
    ready: Callable[[str], object] = lambda _: None,
) -> int:
    """Receive notifications until the process is interrupted or terminated, and return how many events came.

    Args:
        history: The file of the history of pulls.
        host: Address to listen on.
        port: 0 for a free one.
        token: What each request must carry.
        ready: Called with the URL once the port listens.

    Raises:
        InvalidArgument, StorageError, Busy: As for :class:`Listener`.

    Example:
        >>> listen("pulls.parquet", port=8001)  # doctest: +SKIP
    """
    listener = Listener(history, host=host, port=port, token=token)
    with suppress(KeyboardInterrupt), ended_as_interrupted(), listener.listening():
        ready(listener.url)
        while True:
            time.sleep(INTERVAL)
            listener.write()
    return listener.received

"""A server that answers as it is told: for the faults that a real registry does not show on demand."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Request:
    """What was asked; the names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Reply:
    """``announced`` is the Content-Length to lie about; the connection then closes early."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    announced: int | None = None


@dataclass
class Server:
    """Where it listens, and what it was asked."""

    url: str
    requests: list[Request] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def seen(self, method: str = "") -> list[Request]:
        return [each for each in self.requests if method in ("", each.method)]


@contextlib.contextmanager
def serve(answer: Callable[[Request, int], Reply], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Answer each request on a loopback port with ``answer(request, how many came before it)``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits 40 ms for its header to be acknowledged

        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            lowered = {key.lower(): value for key, value in self.headers.items()}
            request = Request(self.command, self.path, lowered, self.rfile.read(length))
            number = len(server.requests)
            server.requests.append(request)
            reply = answer(request, number)
            self.send_response(reply.status)
            for key, value in reply.headers.items():
                self.send_header(key, value)
            if not (self.command == "HEAD" and "Content-Length" in reply.headers):
                size = len(reply.body) if reply.announced is None else reply.announced
                self.send_header("Content-Length", str(size))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            if reply.announced is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_OPTIONS = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    if tls is not None:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_address[1]}")
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()

"""A proxy in front of a registry, for faults at a chosen request, and what a registry holds as plain values."""

from __future__ import annotations

import _thread
import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import scripted
from images import ask
from scripted import Reply, Request

from regnb.errors import NotFound
from regnb.oci.manifest import RawManifest
from regnb.wire.client import Client

Answer: TypeAlias = Callable[[Request], Reply | None]
"""What the proxy does with a request: an answer of its own, or None to forward it."""
READS = ("GET", "HEAD")
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


def forward(host: str, request: Request) -> Reply:
    """Send a request on to a registry, and return its answer; its Host header stays, and so do redirects to us."""
    connection = http.client.HTTPConnection(host, timeout=60)
    with contextlib.closing(connection):
        headers = {name: value for name, value in request.headers.items() if name != "connection"}
        connection.request(request.method, request.path, request.body or None, headers)
        answer = connection.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        if request.method == "HEAD" and (length := answer.getheader("Content-Length")):
            kept["Content-Length"] = length
        return Reply(answer.status, kept, answer.read())


@contextlib.contextmanager
def proxy(host: str, answer: Answer) -> Iterator[scripted.Server]:
    """Serve what ``answer`` gives, and else what the registry at ``host`` gives."""

    def either(request: Request, _: int) -> Reply:
        return answer(request) or forward(host, request)

    with scripted.serve(either) as server:
        yield server


@contextlib.contextmanager
def interrupted_after(asked: threading.Event) -> Iterator[None]:
    """Interrupt the main thread once something was asked, and again if Python loses that: while it frees an object."""
    over = threading.Event()

    def interrupt() -> None:
        waiting = asked.wait(60)
        while waiting and not over.is_set():
            _thread.interrupt_main()
            over.wait(20)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        over.set()
        asked.set()
        thread.join()


def gap(host: str, path: str = "/v2/vm/centos8/manifests/latest") -> contextlib.AbstractContextManager[scripted.Server]:
    """Serve a registry of which one tag cannot be read: whether it is there is not known."""
    return proxy(host, lambda request: Reply(403) if request.path == path else None)


def state(url: str, *repositories: str) -> dict[str, RawManifest | None]:
    """Return what each tag is, byte for byte, as ``repository:tag``; None for one that dangles."""

    async def read(client: Client) -> dict[str, RawManifest | None]:
        found: dict[str, RawManifest | None] = {}
        for repository in repositories:
            tags: list[str] = []
            with contextlib.suppress(NotFound):
                tags = [tag async for page in client.tags(repository) for tag in page]
            for tag in sorted(tags):
                found[f"{repository}:{tag}"] = None
                with contextlib.suppress(NotFound):
                    found[f"{repository}:{tag}"] = await client.manifest(repository, tag)
        return found

    return ask(url, read)


def litter(root: Path) -> list[str]:
    """Return the uploads that hold bytes and were neither finished nor cancelled.

    Of one that is cancelled, distribution 2.8 leaves the state of its hash, until it purges its uploads.
    """
    return [str(path.relative_to(root)) for path in root.glob("docker/registry/v2/repositories/**/_uploads/*/data")]

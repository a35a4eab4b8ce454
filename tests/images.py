"""Images made in memory and pushed to a registry, and a registry that answers as a test tells it to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest import mock

import anyio

from regnb import cli
from regnb.crawl.crawl import collect
from regnb.crawl.records import Records
from regnb.oci.manifest import DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.transport import Transport

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IN_TOTO = "application/vnd.in-toto+json"
ROOT = Path(__file__).parent.parent

_T = TypeVar("_T")


def layer(seed: object, size: int) -> bytes:
    """``size`` bytes that no other seed gives."""
    return random.Random(repr(seed)).randbytes(size)  # noqa: S311 -- not secret, but the same each time


def pack(document: object) -> bytes:
    return json.dumps(document).encode()


def descriptor(media_type: str, data: bytes, **more: object) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data), **more}


@dataclass(frozen=True)
class Image:
    """A manifest, the blobs that it needs, and the manifests that it needs."""

    data: bytes
    media_type: str
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)

    @property
    def size(self) -> int:
        """The bytes of everything behind it, each once: what the inventory must say, computed the plain way."""
        return sum(map(len, self.everything()))

    def everything(self) -> set[bytes]:
        return {self.data, *self.blobs}.union(*(child.everything() for child in self.children))


def config(
    architecture: str = "amd64", created: str = "2026-01-02T03:04:05Z", commands: Iterable[str] = (), **more: object
) -> bytes:
    history = [{"created_by": command} for command in commands]
    return pack({"os": "linux", "architecture": architecture, "created": created, "history": history, **more})


def image(
    layers: Sequence[bytes],
    *,
    about: bytes | None = None,
    docker: bool = False,
    layer_type: str = "",
    **more: object,
) -> Image:
    """An image of these layers; ``about`` is its config."""
    about = config(commands=[f"RUN step {number}" for number in range(len(layers))]) if about is None else about
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    layer_type = layer_type or (DOCKER_LAYER if docker else LAYER)
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, about),
        "layers": [descriptor(layer_type, each) for each in layers],
        **more,
    }
    return Image(pack(document), media_type, (about, *layers))


def index(children: Sequence[tuple[Image, str]], *, docker: bool = False, **more: object) -> Image:
    """An index of images, each with its platform as ``os/architecture``."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    manifests = []
    for child, platform in children:
        system, _, architecture = platform.partition("/")
        entry = descriptor(child.media_type, child.data)
        if platform:
            entry["platform"] = {"os": system, "architecture": architecture}
        manifests.append(entry)
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests, **more}
    return Image(pack(document), media_type, children=tuple(child for child, _ in children))


def cache_index(layers: Sequence[bytes], **more: object) -> Image:
    """BuildKit's registry cache in its older form: an index that lists layers and a config of its own."""
    about = pack({"layers": [{"blob": Digest.of(each), "parent": -1} for each in layers], "records": []})
    listed = [descriptor(LAYER, each) for each in layers]
    listed.append(descriptor("application/vnd.buildkit.cacheconfig.v0", about))
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **more}
    return Image(pack(document), OCI_INDEX, (*layers, about))


def attestation(subject: Image) -> Image:
    """What buildx puts beside an image: in-toto statements under the platform unknown/unknown."""
    statement = pack({"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"digest": str(subject.digest)}]})
    about = pack({"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": []}})
    return image([statement], about=about, layer_type=IN_TOTO)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


async def push(client: Client, repository: str, tag: str, what: Image) -> None:
    for data in dict.fromkeys(what.blobs):
        await client.upload_blob(repository, data, Digest.of(data))
    for child in what.children:
        await push(client, repository, child.digest, child)
    await client.put_manifest(repository, tag, what.data, what.media_type)


def ask(url: str, work: Callable[[Client], Awaitable[_T]]) -> _T:
    """Run ``work`` with a client of this registry."""

    async def run() -> _T:
        async with Client(Transport(url)) as client:
            return await work(client)

    return anyio.run(run)


def fill(url: str, *pushes: tuple[str, str, Image]) -> None:
    """Push images, each given as repository, tag and image."""

    async def work(client: Client) -> None:
        for repository, tag, what in pushes:
            await push(client, repository, tag, what)

    ask(url, work)


def crawl(url: str, cache: Cache | None = None, repositories: Sequence[str] | None = None) -> tuple[Records, int]:
    """Crawl; return the records, and how many requests were sent."""

    async def work(client: Client) -> tuple[Records, int]:
        records = await collect(client, cache or Cache(), repositories)
        return records, client.transport.sent

    return ask(url, work)


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Fake:
    """A registry that answers a path with what stands under it: an answer, or a function that makes one."""

    routes: dict[str, Answer | Callable[[str], Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    default: Answer = (404, {"Content-Type": "application/json"}, b'{"errors":[{"code":"NOT_FOUND"}]}')

    def json(self, path: str, document: object, status: int = 200) -> None:
        self.routes[path] = (status, {"Content-Type": "application/json"}, pack(document))

    def repository(self, name: str, tags: dict[str, Image]) -> None:
        """Serve these images."""
        self.json(f"/v2/{name}/tags/list", {"name": name, "tags": list(tags)})
        for tag, what in tags.items():
            self.manifest(name, tag, what)

    def manifest(self, name: str, tag: str, what: Image) -> None:
        for target in (tag, what.digest):
            headers = {"Content-Type": what.media_type, "Docker-Content-Digest": what.digest}
            self.routes[f"/v2/{name}/manifests/{target}"] = (200, headers, what.data)
        for data in what.blobs:
            self.routes[f"/v2/{name}/blobs/{Digest.of(data)}"] = (200, {}, data)

    def wait(self, blobs: int) -> None:
        """Wait until so many configs were asked for: the manifests before them have been read."""
        deadline = time.monotonic() + 60
        while sum("/blobs/" in path for _, path in self.asked) < blobs and time.monotonic() < deadline:
            time.sleep(0.02)

    def __enter__(self) -> Self:
        self.routes.setdefault("/v2/", (200, {"Docker-Distribution-Api-Version": "registry/2.0"}, b"{}"))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for its header to be acknowledged

    def __init__(self, fake: Fake, *arguments: Any) -> None:
        self.fake = fake
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.fake.asked.append((self.command, path))
        found = self.fake.routes.get(path, self.fake.default)
        status, headers, body = found(self.path) if callable(found) else found
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client went away

    do_HEAD = do_GET  # noqa: N815 -- the name that http.server calls

    def log_message(self, *_: Any) -> None:
        pass


CLI = (sys.executable, "-W", "error", "-m", "regnb")
"""The command line in a process of its own, where a warning is an error too."""


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    """An environment whose cache and home are ``folder``, without a registry or credentials of the user's."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE")}
    return {
        **kept, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "DOCKER_CONFIG": str(folder / "docker"),
        "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more,
    }  # fmt: skip


def regnb_process(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [*CLI, *arguments], capture_output=True, text=True, check=False, env=surroundings(folder, **more)
    )


def regnb(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which spares the second that it takes to start one."""
    printed, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    status = 0
    with (
        mock.patch.dict(os.environ, surroundings(folder, **more), clear=True),
        mock.patch.object(sys, "argv", ["regnb", *arguments]),
        mock.patch.object(cli.terminal.out, "_width", 200),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    texts = []
    for stream in (printed, errors):
        stream.seek(0)
        texts.append(stream.read())
    return subprocess.CompletedProcess(["regnb", *arguments], status, *texts)

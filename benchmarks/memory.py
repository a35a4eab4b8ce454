"""A registry in memory and a client beside it, both in C: what takes next to nothing while regnb is measured."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from corpus import Corpus
from measure import run

from regnb.oci.manifest import ACCEPT, OCI_INDEX, OCI_MANIFEST
from regnb.oci.reference import Digest

_JSON = "application/json"


@functools.cache
def compiled(name: str) -> Path:
    """Compile one of the C programs beside this file.

    Raises:
        SystemExit: There is no compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("a C compiler is not installed (cc)")
    program = Path(_folder.name) / name
    subprocess.run([compiler, "-O2", "-o", program, Path(__file__).with_name(f"{name}.c")], check=True)
    return program


_folder = tempfile.TemporaryDirectory(prefix="regnb-bench-")


class Memory(Corpus):
    """The same corpus as answers of a registry, in place of a folder."""

    def __init__(self) -> None:
        super().__init__(Path("none"))
        self._answers: dict[str, bytes] = {}
        self._manifests: dict[str, tuple[bytes, str]] = {}
        self._tags: dict[str, list[str]] = {}

    def _answer(self, path: str, data: bytes, media_type: str, digest: str = "") -> None:
        head = [f"Content-Type: {media_type}", "Docker-Distribution-Api-Version: registry/2.0"]
        head += [f"Docker-Content-Digest: {digest}", f'Etag: "{digest}"'] if digest else []
        head += ["X-Content-Type-Options: nosniff", "Date: Wed, 07 Oct 2026 12:00:00 GMT"]
        self._answers[path] = "\n".join([f"{path} 200 {len(data)}", *head, "", ""]).encode() + data

    def blob(self, repository: str, data: bytes, *, manifest: bool = False) -> dict[str, object]:
        digest = Digest.of(data)
        kind, media_type = ("manifests", OCI_MANIFEST) if manifest else ("blobs", "application/octet-stream")
        if manifest:
            media_type = OCI_INDEX if b'"manifests"' in data else media_type
            self._manifests[digest] = data, media_type
        self._answer(f"/v2/{repository}/{kind}/{digest}", data, media_type, digest)
        return {"digest": digest, "size": len(data)}

    def tag(self, repository: str, tag: str, digest: str) -> None:
        self._answer(f"/v2/{repository}/manifests/{tag}", *self._manifests[digest], digest)
        self._tags.setdefault(repository, []).append(tag)

    def save(self, path: Path) -> Path:
        """Write the table of answers that the server reads."""
        for repository, tags in self._tags.items():
            self._answer(f"/v2/{repository}/tags/list", _json({"name": repository, "tags": tags}), _JSON)
        self._answer("/v2/_catalog", _json({"repositories": [*self._tags]}), _JSON)
        self._answer("/v2/", b"{}", _JSON)
        path.write_bytes(b"".join(self._answers.values()))
        return path


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def table(path: Path, repositories: int, tags: int) -> Path:
    """Write the answers of a generated registry."""
    memory = Memory()
    memory.write(repositories, tags)
    return memory.save(path)


class Server:
    """Where a registry in memory listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._asks, self._says = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
        self.url = f"http://127.0.0.1:{int(self._says.readline())}"

    def asked(self) -> dict[str, Any]:
        """Return requests, limited, busiest, connections, cpu: what it was asked since this was last called."""
        self._asks.write("\n")
        self._asks.flush()
        return dict(json.loads(self._says.readline()))


@contextlib.contextmanager
def serving(answers: Path, delay: int = 0, most: int = 0) -> Iterator[Server]:
    """Serve a table.

    Args:
        answers: Written by :func:`table`.
        delay: Milliseconds before each answer.
        most: Requests that it takes at once; more get a 429. 0 is any number.
    """
    words = [compiled("memory"), answers, str(delay), str(most)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            process.communicate()  # the end of its standard input is its own


def replay(url: str, requests: Sequence[tuple[str, str]], connections: int) -> dict[str, Any]:
    """Send requests (method, path) from the C client, and return seconds, requests, failed, cpu."""
    port = url.rpartition(":")[2]
    lines = "".join(f"{method} {path}\n" for method, path in requests)
    return dict(json.loads(run(compiled("load"), port, connections, ", ".join(ACCEPT), stdin=lines).printed))

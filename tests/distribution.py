"""Debian's docker-registry (CNCF distribution), started by the tests on a free loopback port."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

PROGRAM = shutil.which("docker-registry")
_given: deque[int] = deque(maxlen=500)


def free_port() -> int:
    """A port that nothing listens on, below those that the system hands out; each pytest-xdist worker has its own.

    None of the last 500 is given again: two that are asked for together are two, before anything listens on them.
    """
    first = 20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        port = first + secrets.randbelow(1_000)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _given.append(port)
            return port


class Distribution:
    """One docker-registry process over a folder; ``config`` holds sections of its own configuration."""

    def __init__(self, folder: Path, *, config: Mapping[str, Any] | None = None, delete: bool = True) -> None:
        self.root = folder / "storage"
        self.root.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "registry.log"
        settings: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.root)}, "delete": {"enabled": delete}},
            "http": {"addr": f"127.0.0.1:{self.port}", "secret": "not-a-secret"},
        }
        for section, values in (config or {}).items():
            settings.setdefault(section, {}).update(values)
        self.config = folder / "config.yml"
        self.config.write_text(json.dumps(settings), encoding="utf-8")
        self.scheme = "https" if "tls" in settings["http"] else "http"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        assert PROGRAM is not None
        env = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "serve", str(self.config)], stdout=log, stderr=log, env=env)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError(f"docker-registry did not start:\n{self.log.read_text(encoding='utf-8')[-2000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def garbage_collect(self, *flags: str) -> str:
        """Run the real garbage collection over the folder and return what it printed."""
        assert PROGRAM is not None
        done = subprocess.run(
            [PROGRAM, "garbage-collect", *flags, str(self.config)], capture_output=True, text=True, check=True
        )
        return done.stdout

    def blob(self, digest: str) -> Path:
        """The file that holds a blob's bytes."""
        algorithm, _, hexadecimal = digest.partition(":")
        blobs = self.root / "docker/registry/v2/blobs"
        return blobs / algorithm / hexadecimal[:2] / hexadecimal / "data"

    def stored(self) -> int:
        """Bytes of every blob on disk."""
        return sum(path.stat().st_size for path in self.root.glob("docker/registry/v2/blobs/*/*/*/data"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

"""A small fake of Kubernetes' API server: one Deployment of a registry, whose process it starts and stops for real."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from distribution import Distribution

VARIABLE = "REGISTRY_STORAGE_MAINTENANCE_READONLY"


class Cluster:
    """An API server that knows a Deployment and its pods, as far as a switch to read-only asks for them.

    The registry restarts with the variable that the Deployment has. ``before`` is called before each request.
    """

    def __init__(self, registry: Distribution, before: Callable[[str], None] = lambda _: None) -> None:
        self.registry, self.before = registry, before
        self.requests: list[str] = []
        self.jobs: dict[str, str] = {}
        self.old = 0
        container = {"name": "registry", "image": "registry:3.0.0", "env": [{"name": "OTHER", "value": "1"}]}
        self.deployment: dict[str, Any] = {
            "metadata": {"name": "kube-registry", "generation": 1},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "kube-registry", "component": "registry"}},
                "template": {"spec": {"containers": [container]}},
            },
        }
        self._lock = threading.Lock()

    @property
    def readonly(self) -> str | None:
        env = self.deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        return next((each["value"] for each in env if each["name"] == VARIABLE), None)

    def __enter__(self) -> Self:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_PATCH(self) -> None:
                self._answer()

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, found = cluster.answer(self.command, urlsplit(self.path).path, body)
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                with contextlib.suppress(BrokenPipeError):  # it was killed
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.roll()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.registry.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def settle(self) -> None:
        """Return when no request is being answered."""
        with self._lock:
            pass

    def roll(self) -> None:
        """Start the registry anew, with what its Deployment says."""
        settings = json.loads(self.registry.config.read_text())
        settings["storage"].pop("maintenance", None)
        if self.readonly:
            settings["storage"]["maintenance"] = {"readonly": json.loads(self.readonly)}
        self.registry.config.write_text(json.dumps(settings))
        self.registry.restart()
        self.old = 2

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        with self._lock:
            self.requests.append(f"{method} {path}")
            self.before(f"{method} {path}")
            if path.endswith("/deployments/kube-registry"):
                if method == "PATCH":
                    merge(self.deployment, json.loads(body))
                    self.deployment["metadata"]["generation"] += 1
                    self.roll()
                seen = self.deployment["metadata"]["generation"] - (self.old > 1)
                counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
                self.old = min(self.old, 1)
                return 200, {**self.deployment, "status": {"observedGeneration": seen, **counts}}
            if path.endswith("/pods"):
                status = {"phase": "Running", "podIP": "127.0.0.1"}
                old = [{"metadata": {"name": "old", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": status}]
                ending, self.old = self.old, 0
                return 200, {"items": [{"metadata": {"name": "new"}, "status": status}, *(old if ending else [])]}
            phase = self.jobs.get(Path(path).name)
            return (200, {"status": {"phase": phase}}) if phase else (404, {"reason": "NotFound"})


def merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    """Apply a strategic merge patch: null removes, lists of what has a name are merged by it."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        elif isinstance(value, list) and value and "name" in value[0]:
            there = into.setdefault(key, [])
            for one in value:
                known = next((each for each in there if each["name"] == one["name"]), None)
                if one.get("$patch") == "delete":
                    there[:] = [each for each in there if each is not known]
                elif known is None:
                    there.append(one)
                else:
                    merge(known, one)
        else:
            into[key] = value

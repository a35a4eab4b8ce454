"""A bucket on loopback: a server that speaks S3, what it was asked for, and what it refuses for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from werkzeug.serving import WSGIRequestHandler

SLOW = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.'
    b"</Message><RequestId>1</RequestId></Error>"
)


class Asked(NamedTuple):
    """Requests that a bucket answered, as method and path with its query; and how many of each to refuse first."""

    requests: list[str]
    refusals: dict[str, int]


@contextmanager
def serve() -> Iterator[Asked]:
    """Serve buckets on a free port, told of by the environment, as any S3 client is."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    asked = Asked([], {})
    app = server._server.app

    def sometimes(environment: dict[str, Any], start: Any) -> Any:
        method = environment["REQUEST_METHOD"]
        if asked.refusals.get(method, 0) > 0:
            asked.refusals[method] -= 1
            start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW)))])
            return [SLOW]
        return app(environment, start)

    server._server.app = sometimes

    def note(self: Any, *_: Any, **__: Any) -> None:
        asked.requests.append(f"{self.command} {self.path}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # The certificates of whoever runs the tests are not part of them.
        patch.delenv("AWS_CA_BUNDLE", raising=False)
        patch.setattr(WSGIRequestHandler, "log_request", note)
        yield asked
        fsspec.filesystem("s3").clear_instance_cache()
        s3_backends.reset()  # they are those of the process, and the next server begins with none
    server.stop()


def put(root: Path, where: str) -> None:
    """Upload a folder as an S3 driver lays it out: files alone, for there are no folders."""
    fs = fsspec.filesystem("s3")
    fs.pipe({f"{where}/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()})


def age(name: str, part: str, hours: float) -> None:
    """Make the keys of a bucket that have a part in their names so many hours older."""
    backends = [backend for account in s3_backends.values() for backend in account.values()]
    for bucket in [backend.buckets[name] for backend in backends if name in backend.buckets]:
        for key in bucket.keys.values():
            if part in key.name:
                key.last_modified -= timedelta(hours=hours)


def content(where: str) -> dict[str, bytes]:
    """The keys below a folder of a bucket, with their bytes; without what a trash writes down."""
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    keys = [key for key in fs.find(where) if "/_regnb-trash/" not in key]
    return {key.removeprefix(f"{where}/"): data for key, data in fs.cat(keys).items()}

"""Files anywhere: what goes wrong is said in words, and no password with it."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import scripted
from fsspec.registry import _registry
from scripted import Reply, Request

from regnb.crawl.files import opened, reason
from regnb.errors import MissingExtra, StorageError
from regnb.text import redact


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("/srv/registry", "/srv/registry"),
        ("s3://bucket/registry", "s3://bucket/registry"),
        ("s3://KEY:hunter2@bucket/registry", "s3://bucket/registry"),
        ("sftp://me:p@ss@host/x", "sftp://host/x"),
        ("//me:hunter2@host/x", "//host/x"),
        ("https://me:hunter2@host/v2/?n=5&to%6ben=abc#end", "https://host/v2/?n=5&to%6ben=***#end"),
        ("https://host/v2/app/manifests/a@sha256:0?last=b@c", "https://host/v2/app/manifests/a@sha256:0?last=b@c"),
    ],
)
def test_credentials_are_not_shown(url: str, seen: str) -> None:
    """What stands before the host stays out of every message."""
    assert redact(url) == seen
    assert "hunter2" not in reason(OSError(f"cannot reach {url}"))


def test_a_bucket_without_credentials_asks_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hint names the variables, and neither the disk nor the network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with (
        pytest.raises(StorageError, match="Unable to locate credentials") as caught,
        opened("s3://b/r", "read", skip_instance_cache=True) as (bucket, folder),
    ):
        bucket.ls(folder)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("x"), "no such folder or bucket: memory://x"),
        (PermissionError("x"), "no permission to read memory://x"),
        (OSError(28, "No space left on device"), "cannot read memory://x: No space left on device"),
        (RuntimeError("the library's own"), "cannot read memory://x: the library's own"),
        (ImportError("install paramiko"), "cannot read memory://x: install paramiko"),
    ],
)
def test_every_error_becomes_one_with_a_hint(error: Exception, words: str) -> None:
    """Whatever a file system's library raises is an error that says what, of what, and what to do."""
    with pytest.raises(StorageError) as raised, opened("memory://x", "read"):
        raise error
    assert raised.value.message == words
    assert raised.value.hint


def test_an_error_of_our_own_is_left_as_it_is() -> None:
    """What already says what to do is not wrapped."""
    with pytest.raises(StorageError, match=r"^mine$"), opened("memory://x", "read"):
        raise StorageError("mine")


def test_what_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3fs a bucket's URL says which extra brings it."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    # What another test has opened is remembered by fsspec.
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(MissingExtra) as raised, opened("s3://bucket/x", "read", skip_instance_cache=True):
        pass
    assert "regnb[s3]" in raised.value.hint


def test_an_unknown_scheme() -> None:
    """A URL that no library knows is an error, too."""
    with pytest.raises(StorageError, match="cannot read nosuch://x"), opened("nosuch://x", "read"):
        pass


@pytest.mark.parametrize(("told", "at_once"), [({}, 32), ({"config_kwargs": {"max_pool_connections": 4}}, 4)])
def test_a_bucket_is_read_with_many_requests_at_once(told: dict[str, Any], at_once: int) -> None:
    """A bucket answers only when so many have asked: botocore alone sends ten, and a user's own number counts."""
    meeting = Barrier(at_once)

    def answer(request: Request, _: int) -> Reply:
        meeting.wait(20)
        return Reply(body=request.path.encode())

    with scripted.serve(answer) as server:
        client = {"endpoint_url": server.url}
        with opened("s3://bucket", "read", anon=True, client_kwargs=client, **told) as (filesystem, _):
            found = filesystem.cat([f"bucket/{number}" for number in range(at_once)], max_concurrency=1)
        assert filesystem.s3.meta.config.max_pool_connections == told.get("config_kwargs", {}).get(
            "max_pool_connections", 64
        )
        filesystem.clear_instance_cache()
    assert found == {f"bucket/{number}": f"/bucket/{number}".encode() for number in range(at_once)}

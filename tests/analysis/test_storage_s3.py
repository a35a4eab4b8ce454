"""A storage in a bucket is read as one in a folder: the same frames, requests that overlap, errors that help."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs
from collected import same_verdict
from conftest import Seeded
from distribution import free_port
from moto.server import ThreadedMotoServer
from test_storage import made, same  # noqa: F401 -- a fixture
from werkzeug.serving import WSGIRequestHandler

from regnb.analysis.disk import Prices, facts
from regnb.analysis.storage import open_storage
from regnb.crawl.walk import Told
from regnb.errors import MissingExtra, StorageError


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A server that speaks S3, told of by the environment, as any S3 client is."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        fs = fsspec.filesystem("s3")
        fs.mkdir("bucket")
        fs.mkdir("empty")
        yield "bucket"
        fs.clear_instance_cache()
    server.stop()


def put(root: Path, where: str) -> None:
    """Upload a folder as an S3 driver lays it out: files alone, for there are no folders."""
    fs = fsspec.filesystem("s3")
    fs.pipe({f"{where}/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()})


def deny(monkeypatch: pytest.MonkeyPatch, denied: str) -> None:
    """Refuse one of S3's calls from now on."""
    call = s3fs.S3FileSystem._call_s3

    async def refuse(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        if method == denied:
            raise PermissionError("Access Denied")
        return await call(self, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", refuse)
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", fsspec.asyn.sync_wrapper(refuse))


def test_a_bucket_is_read_as_a_folder(bucket: str, seeded_real: Seeded) -> None:
    """Every frame is the same but for the times, which are those of the upload."""
    put(seeded_real.root, f"{bucket}/some/prefix")
    found = open_storage(f"s3://{bucket}/some/prefix").inventory()
    local = open_storage(seeded_real.root).inventory()
    same(local, found, set(local.frames) - {"disk"}, tags=["pushed"], history=["when"], uploads=["started"])
    disk, other = (one.disk.set_index("what")[["files", "size"]] for one in (local, found))
    assert disk.drop("folders").equals(other.loc[["blobs", "links", "uploads", "other"]])
    assert (other["files"][["LIST requests", "GET requests"]] > 0).all()
    assert found.history["when"].notna().all()
    assert found.registry == f"s3://{bucket}/some/prefix"
    same_verdict(local.reclaim(), open_storage(f"s3://{bucket}/some/prefix").stock())


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Method and path of every request that the bucket answers, whatever sent it."""
    found: list[str] = []

    def note(self: Any, *_: Any, **__: Any) -> None:
        found.append(f"{self.command} {self.path}")

    monkeypatch.setattr(WSGIRequestHandler, "log_request", note)
    return found


def test_a_verdict_sends_few_requests(
    bucket: str,
    made: Path,  # noqa: F811
    requests: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No link is read whose ETag tells its text, and no manifest twice; where a key encrypts, every link is read."""
    put(made, f"{bucket}/few")
    expected = open_storage(made).inventory().reclaim()
    manifests = len(set(open_storage(made).inventory().manifests["digest"]))

    def sent() -> tuple[int, int]:
        """How many requests one verdict sent, and how many of them read a file."""
        requests.clear()
        same_verdict(expected, open_storage(f"s3://{bucket}/few").stock())
        read = [one for one in requests if one.startswith("GET") and one.partition("?")[0].endswith(("/data", "/link"))]
        return len(requests), len(read)

    first, read = sent()
    assert read == manifests
    second, read = sent()
    assert read == 0
    assert second == first - manifests <= 3
    note = Told.note
    monkeypatch.setattr(Told, "note", lambda self, path, tag: note(self, path, f"{tag[:-2]}0" if tag else ""))
    _, read = sent()
    assert read > manifests


@pytest.mark.parametrize("most", [7, 1000])
def test_pages_of_a_bucket_tell_what_is_beside_it(
    bucket: str,
    made: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    """Whether a mirror or a database has the storage is told, on whatever page its mark stands; a page is used once."""
    fs, where = fsspec.filesystem("s3"), f"{bucket}/pages-{most}"
    put(made, where)
    fs.pipe({f"{where}/{name}": b"" for name in ("docker/registry/a", "docker/registry/v3/a", "other", "zebra")})
    call = s3fs.S3FileSystem._call_s3

    async def few(self: Any, method: str, *arguments: Any, **given: Any) -> Any:
        more = {"MaxKeys": most} if method == "list_objects_v2" else {}
        return await call(self, method, *arguments, **given, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", fsspec.asyn.sync_wrapper(few))
    expected = open_storage(made).inventory().reclaim()
    storage = open_storage(f"s3://{where}")
    same_verdict(expected, storage.stock())
    assert not storage.is_mirror
    fs.pipe(f"{where}/scheduler-state.json", b"{}")
    later = f"{where}/docker/registry/v2/repositories/later"
    fs.pipe({f"{later}/_layers/sha256/{'0' * 64}/link": b"", f"{later}/_manifests/tags/1.0/current/link": b""})
    assert "later" in {problem.repository for problem in storage.stock().problems}
    assert storage.is_mirror
    assert "mirror" in {problem.problem for problem in open_storage(f"s3://{where}").stock().problems}
    fs.pipe(f"{where}/docker/registry/lockfiles/database-in-use", b"")
    with pytest.raises(StorageError, match="in a database"):
        open_storage(f"s3://{where}")


def test_multipart_uploads_are_counted(bucket: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What was sent in parts is in no listing: its bytes count for the upload; where that is denied, a row says so."""
    put(made, f"{bucket}/parts")
    fs = fsspec.filesystem("s3")
    key = "parts/docker/registry/v2/repositories/vm/app/_uploads/begun/data"
    upload = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    for number in (1, 2):
        fs.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=b"x" * 300)
    before = open_storage(made).inventory().disk.set_index("what")["size"]["uploads"]
    found = open_storage(f"s3://{bucket}/parts").inventory()
    assert found.uploads.set_index("upload")["size"]["begun"] == 600
    assert found.disk.set_index("what")["size"]["uploads"] == before + 600
    facts_ = "\n".join(facts(found, Prices(lists=5)))
    assert "GB-months" in facts_
    assert "LIST requests of this reading" in facts_
    deny(monkeypatch, "list_multipart_uploads")
    found = open_storage(f"s3://{bucket}/parts").inventory()
    assert set(found.problems["reference"]) == {"multipart uploads"}
    assert found.complete
    fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)


def test_options_reach_the_file_system(bucket: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Endpoint and credentials may be given instead; the root of the bucket will do."""
    put(made, bucket)
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    opened = open_storage(f"s3://{bucket}", endpoint_url=endpoint, key="a-key", secret="hush")
    found = opened.inventory()
    assert len(found.tags) == 5
    assert "hush" not in f"{opened!r}{found!r}{found.registry}"


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("s3://nothing/here", {}, "no such folder or bucket"),
        ("s3://empty", {}, "is empty"),
        ("s3://bucket/some", {}, "holds prefix"),
        ("s3://bucket/none", {}, "no such folder"),
        ("s3://bucket", {"endpoint_url": "refused"}, "cannot read"),
    ],
)
def test_no_storage_there(url: str, options: dict[str, str], words: str, bucket: str) -> None:
    """Each says what is wrong, and what to do."""
    fsspec.filesystem("s3").pipe("bucket/some/prefix/file", b"")
    if "endpoint_url" in options:
        options = {"endpoint_url": f"http://127.0.0.1:{free_port()}", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(StorageError, match=words) as error:
        open_storage(url, **options)
    assert error.value.hint
    assert "hush" not in str(error.value)


def test_access_denied(bucket: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What the credentials do not allow at all is an error; single objects that they do not allow are problems."""
    put(made, f"{bucket}/denied")
    get = s3fs.S3FileSystem._cat_file

    async def refuse(self: Any, path: str, *arguments: Any, **options: Any) -> bytes:
        if "/_manifests/tags/" in path:
            raise PermissionError("Access Denied")
        return await get(self, path, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", refuse)
    found = open_storage(f"s3://{bucket}/denied").inventory()
    assert set(found.problems["problem"]) == {"denied"}
    assert not found.complete
    assert found.coverage.set_index("what")["denied"]["tags"] == 5

    deny(monkeypatch, "list_objects_v2")
    with pytest.raises(StorageError, match="no permission") as error:
        open_storage(f"s3://{bucket}/denied")
    assert "credentials" in error.value.hint


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that installs s3fs is the hint."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MissingExtra, match=r"regnb\[s3\]"):
        open_storage("s3://bucket")


def test_requests_overlap(bucket: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Where every request waits, they wait together: many are under way at once."""
    put(made, f"{bucket}/slow")
    call, under_way, most = s3fs.S3FileSystem._call_s3, 0, 0

    async def slow(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return await call(self, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", slow)
    assert len(open_storage(f"s3://{bucket}/slow").inventory().tags) == 5
    assert most >= 8

"""Caches on several machines share what they read, by a folder that each reaches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import buckets
import fsspec
import pytest
from collected import Grown
from distribution import Distribution
from images import config, fill, image, index, layer
from proxied import proxy
from test_damaged_storages import Disk
from test_portions import AtOnce
from test_shards import Here

import regnb
from regnb.crawl.shared import Shared
from regnb.crawl.workers import Workers
from regnb.oci.manifest import OCI_CONFIG
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Be on another machine: one with a cache of its own."""

    def go(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache of {name}"))

    return go


@pytest.mark.parametrize("bucket", [False, True])
def test_what_one_machine_read_another_need_not(
    real: Distribution,
    elsewhere: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bucket: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A new machine asks for what the first asks for again, and for two things more; its workers for three a call."""
    both = index([(image([layer(name, 100)], about=config(name)), f"linux/{name}") for name in ("amd64", "arm64")])
    fill(real.url, *((name, tag, both) for name in "abcd" for tag in "12"))
    with buckets.serve(), proxy(real.host, lambda _: None) as server:
        fsspec.filesystem("s3").mkdir(f"shared-{bucket}".lower())
        monkeypatch.setenv("REGNB_SHARED_CACHE", "s3://shared-true/cache" if bucket else str(tmp_path / "shared"))

        def read(executor: Workers | None = None) -> tuple[regnb.Inventory, list[str]]:
            server.requests.clear()
            with regnb.connect(server.url) as registry:
                found = registry.inventory(executor=executor)
            return found, [f"{request.method} {request.path}" for request in server.requests]

        elsewhere("one")
        whole, cold = read()
        again, warm = read()
        assert len(warm) < len(cold)
        elsewhere("two")
        found, requests = read()
        assert {*warm} <= {*requests}
        assert len(requests) <= len(warm) + 2
        assert all(frame.equals(found.frames[name]) for name, frame in again.frames.items())
        assert found.tags["digest"].tolist() == whole.tags["digest"].tolist()
        elsewhere("three")
        _, requests = read(Workers(Here(), 3))
        assert len(requests) <= len(warm) + 3 * 3
        assert not [one for one in requests if "/blobs/" in one]


def test_manifests_of_a_bucket_are_shared(
    elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What workers read of a bucket, no other machine asks for."""
    monkeypatch.setenv("REGNB_SHARED_CACHE", str(tmp_path / "shared"))
    with buckets.serve() as asked:
        fsspec.filesystem("s3").mkdir("stored")
        buckets.put(Disk(tmp_path).root, "stored")
        elsewhere("one")
        whole = regnb.open_storage("s3://stored").inventory(executor=AtOnce())
        elsewhere("two")
        asked.requests.clear()
        found = regnb.open_storage("s3://stored").inventory()
        read = {one.split("/")[-2] for one in asked.requests if one.endswith("/data")}
        assert read.isdisjoint(whole.manifests["digest"].str[7:])
        assert found.manifests.equals(whole.manifests)


def test_nothing_wrong_is_taken(tmp_path: Path) -> None:
    """Bytes with another digest, a type that is not the manifest's, half a file: passed over; the rest is taken."""
    where = tmp_path / "shared"
    good, lie, about = image([layer(1, 10)]).data, image([layer(2, 10)]).data, config(n=1)
    giver = Cache(tmp_path / "giver")
    Shared(str(where)).attach(giver)
    giver.put(Digest.of(good), image([layer(1, 10)]).media_type, good)
    giver.put(Digest.of(b"other"), "text/plain", b"bytes")
    giver.put(Digest.of(lie), OCI_CONFIG, lie)
    giver.put(Digest.of(about), OCI_CONFIG, about)
    giver.remember("host", "app", {"1": Digest.of(good)})
    giver.close()
    (file,) = where.iterdir()
    (where / f"{'0' * 64}.regnb-cache-1").write_bytes(file.read_bytes()[:50])
    (where / "note.txt").write_text("not the cache's")
    taker = Cache(tmp_path / "taker")
    Shared(str(where)).attach(taker)
    assert [taker.get(Digest.of(one)) is not None for one in (good, b"other", lie, about)] == [True, False, False, True]
    assert taker.remembered("host", "app") == {"1": Digest.of(good)}
    assert taker.fresh([file.name, "new"]) == ["new"]
    taker.close()
    assert len(list(where.iterdir())) == 3, "what was taken is not given again"


def test_a_shared_cache_that_is_not_there_ends_nothing(
    distribution_program: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and everything is read."""
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setenv("REGNB_SHARED_CACHE", str(file / "cache"))
    with Grown(tmp_path / "grown", "shared") as grown, regnb.connect(grown.url) as registry:
        grown.grow(5)
        assert len(registry.inventory().tags)
    assert "shared cache" in caplog.text

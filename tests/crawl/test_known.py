"""What a crawl keeps of manifests for the next one: the same figures, without decoding anything again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from distribution import Distribution
from images import Image, config, crawl, fill, image, index, layer

from regnb.crawl import known
from regnb.crawl.records import Records, describe
from regnb.oci.manifest import OCI_MANIFEST
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache

BASE = layer(1, 100)
ONE = image([BASE, layer(2, 100)], about=config(commands=["ADD base", "RUN one"]))
TWO = image([BASE, layer(3, 100)], about=config(commands=["ADD base", "RUN two"]))
WHOLE = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")])
IMAGES: list[tuple[str, str, Image]] = [("a", "1", ONE), ("a", "2", WHOLE), ("b", "1", TWO)]


def figures(records: Records) -> object:
    """All that the tables are made of, in an order of its own."""
    return (
        sorted(records.manifests.items()),
        sorted(records.blobs.items()),
        sorted((tag.repository, tag.tag, tag.digest) for tag in records.tags),
        records.problems,
        records.coverage.manifests.listed,
        records.coverage.configs.listed,
    )


@pytest.fixture
def crawled(real: Distribution, tmp_path: Path) -> tuple[str, Path, object]:
    """A registry, the folder of a cache that knows it, and what was found."""
    fill(real.url, *IMAGES)
    cache = Cache(tmp_path / "cache")
    records, _ = crawl(real.url, cache)
    cache.close()
    assert not records.problems
    return real.url, tmp_path / "cache", figures(records)


def test_a_warm_crawl_decodes_nothing_and_finds_the_same(
    crawled: tuple[str, Path, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No manifest or config is taken from the cache, and every figure is that of the cold crawl."""
    url, folder, found = crawled
    monkeypatch.setattr(Cache, "get", lambda *_: pytest.fail("content was read"))
    cache = Cache(folder)
    records, _ = crawl(url, cache)
    cache.close()
    assert figures(records) == found
    assert records.coverage.manifests.cached == records.coverage.manifests.listed == 3
    assert records.coverage.configs.cached == records.coverage.configs.listed == 2


def damaged(folder: Path) -> None:
    with sqlite3.connect(folder / "content.sqlite") as database:
        for digest, data in database.execute("SELECT digest, data FROM derived").fetchall():
            changed = data.replace(b"linux", b"lunix") if b"linux" in data else data[::-1]
            database.execute("UPDATE derived SET data = ? WHERE digest = ?", (changed, digest))
    database.close()


def swapped(folder: Path) -> None:
    with sqlite3.connect(folder / "content.sqlite") as database:
        one, two = (database.execute("SELECT data, checksum FROM derived WHERE digest = ?", (each.digest,)).fetchone()
                    for each in (ONE, TWO))  # fmt: skip
        for each, (data, checksum) in ((ONE, two), (TWO, one)):
            database.execute(
                "UPDATE derived SET data = ?, checksum = ? WHERE digest = ?", (data, checksum, each.digest)
            )
    database.close()


@pytest.mark.parametrize("harm", [damaged, swapped])
def test_what_is_not_as_it_was_written_is_decoded_again(
    crawled: tuple[str, Path, object], harm: Callable[[Path], None]
) -> None:
    """A damaged description, or another manifest's, gives no figure: the content is decoded again."""
    url, folder, found = crawled
    harm(folder)
    cache = Cache(folder)
    records, sent = crawl(url, cache)
    cache.close()
    assert figures(records) == found
    assert sent == 1 + 2 + 3


def test_another_versions_descriptions_are_passed_over(
    crawled: tuple[str, Path, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that reads manifests otherwise does not believe what an earlier one read."""
    url, folder, found = crawled
    monkeypatch.setattr(known, "_VERSION", known._VERSION + 1)
    cache = Cache(folder)
    descriptions = known.Known(cache)
    descriptions.load([ONE.digest])
    assert ONE.digest not in descriptions
    records, _ = crawl(url, cache)
    cache.close()
    assert figures(records) == found


def test_the_version_counts(tmp_path: Path) -> None:
    """What is kept of a manifest is as it was when the version was set: if this fails, raise the version."""
    data = b'{"schemaVersion":2,"config":{"mediaType":"c","digest":"sha256:%b","size":1},"layers":[]}' % (64 * b"0")
    record, blobs, _ = describe(Digest.of(data), OCI_MANIFEST, data)
    cache = Cache(tmp_path)
    descriptions = known.Known(cache)
    descriptions.describe(record, blobs)
    descriptions.keep(record.digest, configured=False)
    kept = cache.derived([record.digest])[record.digest]
    cache.close()
    assert (known._VERSION, Digest.of(kept).short) == (7, "sha256:7be1ffa81678")


def test_a_description_goes_with_its_content(tmp_path: Path) -> None:
    """When content is given up for want of room, what was derived from it goes, too."""
    cache = Cache(tmp_path, limit=1000)
    old, new = b"x" * 600, b"y" * 600
    for data in (old, new):
        cache.put(Digest.of(data), "application/json", data)
        cache.derive(Digest.of(data), [Digest.of(data)], b"derived")
        cache.flush()
    left = [data for data in (old, new) if cache.get(Digest.of(data))]
    assert len(left) == 1
    assert list(cache.derived([Digest.of(old), Digest.of(new)])) == [Digest.of(left[0])]
    cache.close()

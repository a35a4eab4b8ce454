"""What a crawl keeps of manifests for the next one: the same figures, without decoding anything again."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from distribution import Distribution
from images import DOCKER_LAYER, LAYER, Image, cache_index, config, crawl, fill, image, index, layer

from regnb.crawl import known
from regnb.crawl.recording import Recording
from regnb.crawl.records import Records
from regnb.oci.manifest import OCI_MANIFEST, RawManifest
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
        for repository, data in database.execute("SELECT repository, data FROM kept").fetchall():
            changed = data.replace(b"linux", b"lunix")
            assert changed != data
            database.execute("UPDATE kept SET data = ? WHERE repository = ?", (changed, repository))
    database.close()


def swapped(folder: Path) -> None:
    with sqlite3.connect(folder / "content.sqlite") as database:
        one, two = database.execute("SELECT repository, data, checksum FROM kept ORDER BY repository").fetchall()
        for (repository, *_), (_, data, checksum) in ((one, two), (two, one)):
            database.execute(
                "UPDATE kept SET data = ?, checksum = ? WHERE repository = ?", (data, checksum, repository)
            )
    database.close()


@pytest.mark.parametrize("harm", [damaged, swapped])
def test_what_is_not_as_it_was_written_is_decoded_again(
    crawled: tuple[str, Path, object], harm: Callable[[Path], None]
) -> None:
    """What is damaged, or another repository's, gives no figure: the content is decoded again."""
    url, folder, found = crawled
    harm(folder)
    cache = Cache(folder)
    records, sent = crawl(url, cache)
    cache.close()
    assert figures(records) == found
    assert sent == 1 + 2 + 3


def test_what_another_version_kept_is_passed_over(
    crawled: tuple[str, Path, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that reads manifests otherwise does not believe what an earlier one read."""
    url, folder, found = crawled
    monkeypatch.setattr(known, "_VERSION", known._VERSION + 1)
    monkeypatch.setattr(known._Loaded, "__init__", lambda *_: pytest.fail("it was believed"))
    cache = Cache(folder)
    records, _ = crawl(url, cache)
    cache.close()
    assert figures(records) == found


def test_a_tag_that_moved_costs_what_it_leads_to(crawled: tuple[str, Path, object]) -> None:
    """The other tags of its repository are as they were kept, and what is kept from then on has the new one."""
    url, folder, _ = crawled
    other = image([BASE, layer(4, 100)], about=config(commands=["ADD base", "RUN other"]))
    fill(url, ("a", "1", other))
    plain, _ = crawl(url, Cache())
    for sent in (6 + 2, 6):  # HEAD, then GET: the manifest, and its config
        cache = Cache(folder)
        records, requests = crawl(url, cache)
        cache.close()
        assert figures(records) == figures(plain)
        assert requests == sent


@pytest.fixture
def descriptions(crawled: tuple[str, Path, object]) -> Iterator[tuple[known.Known, Records]]:
    """What is kept of that registry, and records that are empty yet."""
    url, folder, _ = crawled
    cache = Cache(folder)
    records = Records(url.partition("://")[2], datetime(2026, 1, 1, tzinfo=UTC))
    yield known.Known(cache, Recording(records)), records
    cache.close()


def test_what_tags_lead_to_is_recorded_when_their_repository_is_over(
    descriptions: tuple[known.Known, Records],
) -> None:
    """Until then it is known all the same; what is needed at once is recorded at once, and not a second time."""
    kept, records = descriptions
    assert kept.load("a") == {"1": ONE.digest, "2": WHOLE.digest}
    assert kept.whole(WHOLE.digest) == (WHOLE.digest, ONE.digest, TWO.digest)
    assert WHOLE.digest in kept
    assert kept.media_type(WHOLE.digest) == WHOLE.media_type
    assert not records.manifests
    assert kept.enter(ONE.digest)
    assert set(records.manifests) == {ONE.digest}
    kept.save("a", {"2": WHOLE.digest}, [WHOLE.digest])
    assert set(records.manifests) == {ONE.digest, TWO.digest, WHOLE.digest}
    assert records.configured == {ONE.digest, TWO.digest}
    assert kept.is_complete(WHOLE.digest)
    assert WHOLE.digest not in kept


def test_what_a_repository_no_longer_needs_another_one_takes(descriptions: tuple[known.Known, Records]) -> None:
    """What is found after its own repository is over is recorded in the end, and so is what no tag led to."""
    kept, records = descriptions
    kept.load("a")
    kept.save("a", {}, [])
    kept.load("b")
    assert kept.whole(ONE.digest) == (ONE.digest,)
    assert kept.whole(TWO.digest) == (TWO.digest,)
    assert not records.manifests
    kept.end()
    assert set(records.manifests) == {ONE.digest, TWO.digest}
    assert records.blobs.keys() == {Digest.of(each) for each in ONE.everything() | TWO.everything()}


def lying(what: Image) -> Image:
    """The same, but that the base has a byte less."""
    return replace(what, data=what.data.replace(b'"size": 100', b'"size": 99', 1))


def test_sizes_that_contradict_each_other_are_noted_each_time(real: Distribution, tmp_path: Path) -> None:
    """That images tell another size of a blob than another repository's is found from what is kept as it was before."""
    images = [("a", "1", lying(ONE)), ("a", "2", lying(TWO))]
    fill(real.url, *images)
    folder = tmp_path / "cache"
    alone = Cache(folder)
    records, _ = crawl(real.url, alone)  # nobody contradicts, so that it is kept
    alone.close()
    assert not records.problems
    fill(real.url, ("b", "1", ONE))
    plain, _ = crawl(real.url, Cache())
    assert [(row.repository, row.problem) for row in plain.problems] == [("a", "damaged")] * 2
    for _ in range(2):
        cache = Cache(folder)
        records, _ = crawl(real.url, cache)
        cache.close()
        assert figures(records) == figures(plain)
        assert records.damaged == plain.damaged


@pytest.mark.parametrize("seed", range(6))
def test_a_warm_crawl_is_a_cold_one(real: Distribution, tmp_path: Path, seed: int) -> None:
    """Random images, indexes, artifacts and shared layers: pushed, moved and read again, every record is the same."""
    chance = random.Random(seed)  # noqa: S311 -- not secret, and the same each time
    layers = [layer(number, 50 + number) for number in range(8)]
    kinds = [LAYER, DOCKER_LAYER, LAYER.replace("layer.v1", "layer.nondistributable.v1")]

    def made() -> Image:
        some = chance.choices(layers, k=chance.randint(0, 4))
        diff_ids = [str(Digest.of(each + bytes([chance.random() < 0.1]))) for each in some]
        about = config(
            commands=[f"RUN {chance.randint(0, 3)}" for _ in some],
            rootfs={"type": "layers", "diff_ids": diff_ids[: chance.choice([0, 9])]},
            config={"Labels": {"team": chance.choice("abc")}, "Env": ["PASSWORD=hidden"] * chance.randint(0, 1)},
        )
        return image(some, about=about, layer_type=chance.choice(kinds), docker=chance.random() < 0.2)

    def any_image() -> Image:
        if (kind := chance.random()) < 0.5:
            return made()
        if kind < 0.6:
            return cache_index(chance.sample(layers, 2))
        children = [(made(), chance.choice(["linux/amd64", "linux/arm64", ""])) for _ in range(chance.randint(1, 3))]
        whole = index(children)
        return index([(whole, "")]) if kind > 0.9 else whole

    pool = [any_image() for _ in range(12)]
    for _ in range(4):
        fill(real.url, *[(chance.choice("abc"), str(chance.randint(0, 4)), chance.choice(pool)) for _ in range(5)])
        cache = Cache(tmp_path / "cache")
        warm, _ = crawl(real.url, cache)
        cache.close()
        cold, _ = crawl(real.url, Cache())
        for records in (warm, cold):
            records.coverage.manifests.read = records.coverage.manifests.cached = 0
            records.coverage.configs.read = records.coverage.configs.cached = 0
            records.started = records.finished = datetime(2026, 1, 1, tzinfo=UTC)
            records.links = dict.fromkeys(records.links, True)  # a child that is known is not asked for
        assert warm == cold


def test_the_version_counts(tmp_path: Path) -> None:
    """What is kept of a manifest is as it was when the version was set: if this fails, raise the version."""
    data = b'{"schemaVersion":2,"config":{"mediaType":"c","digest":"sha256:%b","size":1},"layers":[]}' % (64 * b"0")
    cache = Cache(tmp_path)
    recording = Recording(Records("localhost:5000", datetime(2026, 1, 1, tzinfo=UTC)))
    descriptions = known.Known(cache, recording)
    raw = RawManifest.of(data, OCI_MANIFEST, Digest.of(data))
    assert recording.manifest("app", raw)
    descriptions.decoded(raw.digest)
    descriptions.complete(recording.records.manifests[raw.digest], configured=False)
    descriptions.save("app", {"1": raw.digest}, [raw.digest])
    kept, _ = cache.kept("localhost:5000", "app")
    cache.close()
    assert (known._VERSION, Digest.of(kept).short) == (9, "sha256:5fb9761c5dff")


def test_what_is_kept_goes_before_content_that_was_used_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When content is given up for want of room, so is what was kept of repositories that nobody asked for since."""
    cache = Cache(tmp_path, limit=1000)
    for name, now in (("old", 1e9), ("new", 2e9)):
        monkeypatch.setattr("regnb.wire.cache.time.time", lambda now=now: now)
        data = name.encode() * 200
        cache.put(Digest.of(data), "application/json", data)
        cache.keep("localhost:5000", name, name.encode())
        cache.flush()
    assert cache.size == 600
    data = b"more" * 150
    cache.put(Digest.of(data), "application/json", data)
    cache.flush()
    assert [cache.kept("localhost:5000", name)[0] for name in ("old", "new")] == [b"", b"new"]
    cache.close()

"""Reading single manifests: from the cache where that may be, in trees, some at once."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from distribution import Distribution
from images import Fake, ask, config, fill, image, index, layer, pack

from regnb.crawl.reader import Reader, each, parts
from regnb.crawl.records import DEPTH_LIMIT
from regnb.errors import MalformedManifest, NotFound, RegnbError, ServerFailed, TooLarge
from regnb.oci.manifest import OCI_INDEX, OCI_MANIFEST, Index, RawManifest, decode
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client

ONE, TWO = image([layer(1, 100)]), image([layer(2, 100)])
MULTI = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")])
OUTER = index([(MULTI, ""), (TWO, "linux/arm64"), (ONE, "")])


def test_some_at_once_and_in_order() -> None:
    """Results come in the order of the values, however long each takes; no more than asked for are under way."""
    under_way = [0, 0]

    async def work(value: int) -> int:
        under_way[0] += 1
        under_way[1] = max(under_way)
        await anyio.sleep(0.001 * (5 - value))
        under_way[0] -= 1
        return value * 2

    assert anyio.run(each, work, range(5), 2) == [0, 2, 4, 6, 8]
    assert under_way == [0, 2]
    assert anyio.run(each, work, []) == []


def test_the_first_error_ends_it() -> None:
    """One error comes out as itself, and the rest is not begun."""
    begun = []

    async def work(value: int) -> None:
        begun.append(value)
        await anyio.lowlevel.checkpoint()
        raise RegnbError(f"no {value}")

    with pytest.raises(RegnbError, match="no 0"):
        anyio.run(each, work, range(100), 4)
    assert begun == [0, 1, 2, 3]


def test_what_is_there_and_what_is_not(real: Distribution) -> None:
    """Tags, digests of tags and manifests; what is missing is none, "" or an error."""
    fill(real.url, ("a", "1", ONE), ("a", "2", TWO))

    async def work(client: Client) -> None:
        reader = Reader(client, Cache())
        assert reader.url == real.url
        assert not reader.authorized
        assert await reader.tags("a") == ["1", "2"]
        assert await reader.tags("no/such") == []
        assert await reader.digest("a", "1") == ONE.digest
        assert await reader.digest("a", "3") == await reader.digest("a", Digest.of(b"")) == ""
        assert await reader.digests("a", ["2", "3"]) == {"2": TWO.digest, "3": ""}
        with pytest.raises(NotFound):
            await reader.manifest("a", "3")

    ask(real.url, work)


def test_a_repository_that_cannot_be_read_is_an_error() -> None:
    """A 500 is never taken for "not there"."""
    with Fake(default=(500, {}, b"")) as fake:

        async def work(client: Client) -> None:
            reader = Reader(client, Cache())
            for read in (reader.digest("a", "1"), reader.digests("a", ["1"]), reader.tags("a")):
                with pytest.raises(ServerFailed):
                    await read

        ask(fake.url, work)


def test_the_cache_knows_bytes_and_not_what_exists(real: Distribution) -> None:
    """By digest a manifest comes from the cache, by tag never; and ``present`` asks whether it is still there."""
    fill(real.url, ("a", "1", ONE))

    async def work(client: Client) -> None:
        reader = Reader(client, Cache())
        raw = await reader.manifest("a", "1")
        sent = client.transport.sent
        assert await reader.manifest("a", raw.digest) == raw
        assert client.transport.sent == sent
        assert await reader.present("a", raw.digest) == raw
        assert client.transport.exchanges[-1].method == "HEAD"
        await client.delete_manifest("a", raw.digest)
        assert await reader.manifest("a", raw.digest) == raw
        for target in (raw.digest, "1"):
            with pytest.raises(NotFound):
                await reader.present("a", target)

    ask(real.url, work)


def test_a_tree(real: Distribution) -> None:
    """Every manifest once, children before each index that lists them, in the order of the lists."""
    fill(real.url, ("a", "1", OUTER), ("a", "2", ONE))

    async def work(client: Client) -> None:
        reader = Reader(client, Cache())
        read = await reader.tree("a", await reader.manifest("a", "1"))
        assert [raw.digest for raw, _ in read] == [each.digest for each in (ONE, TWO, MULTI, OUTER)]
        assert [manifest.raw for _, manifest in read] == [each.data for each in (ONE, TWO, MULTI, OUTER)]
        assert len(await reader.tree("a", await reader.manifest("a", "2"))) == 1
        await client.delete_manifest("a", TWO.digest)
        root = await reader.manifest("a", "1")
        assert len(await reader.tree("a", root)) == 4
        with pytest.raises(NotFound, match=TWO.digest):
            await reader.tree("a", root, present=True)

    ask(real.url, work)


def test_a_tree_that_does_harm() -> None:
    """Too deep, not there or no manifest: each is one error that names what is wrong."""
    deep = ONE
    for _ in range(DEPTH_LIMIT + 1):
        deep = index([(deep, "")])
    bad = type(ONE)(b'{"schemaVersion":2,"layers":7}', OCI_MANIFEST)
    cases = [(deep, TooLarge, "levels"), (index([(bad, "")]), MalformedManifest, bad.digest)]
    with Fake() as fake:
        for top, *_ in cases:
            level = [top]
            while level:
                for one in level:
                    fake.manifest("a", one.digest, one)
                level = [child for one in level for child in one.children]

        async def work(client: Client) -> None:
            reader = Reader(client, Cache())
            for top, error, text in cases:
                with pytest.raises(error, match=text):
                    await reader.tree("a", RawManifest(top.data, top.media_type, top.digest))

        ask(fake.url, work)


def test_the_parts_of_a_manifest() -> None:
    """An index lists manifests, or blobs as a build cache does; an image has its config and its layers, each once."""
    about, base = config(), layer(3, 10)
    foreign = {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": Digest.of(b"w")}
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": "x", "digest": Digest.of(about), "size": len(about)},
        "layers": [{"mediaType": "y", "digest": Digest.of(base), "size": 10}] * 2 + [foreign | {"size": 1}],
    }
    assert [blob.digest for blob in parts(decode(pack(document), OCI_MANIFEST))[1]] == [
        Digest.of(about), Digest.of(base),
    ]  # fmt: skip
    listed = [
        {"mediaType": OCI_MANIFEST, "digest": ONE.digest, "size": 1},
        {"mediaType": OCI_MANIFEST, "digest": ONE.digest, "size": 1},
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest.of(base), "size": 10},
        {"digest": TWO.digest, "size": 1},
    ]
    cache = decode(pack({"schemaVersion": 2, "manifests": listed}), OCI_INDEX)
    assert isinstance(cache, Index)
    manifests, blobs = parts(cache)
    assert [each.digest for each in manifests] == [ONE.digest, TWO.digest]
    assert [each.digest for each in blobs] == [Digest.of(base)]

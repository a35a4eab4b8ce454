"""The client, endpoint by endpoint, against Debian's docker-registry; lies and traps against a scripted server."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import distribution
import pytest
import scripted
from scripted import Reply, Request

from regnb.errors import (
    ContentError,
    DigestMismatch,
    InvalidArgument,
    InvalidReference,
    NotFound,
    RegistryError,
    ServerFailed,
    TooLarge,
    Unsupported,
)
from regnb.oci import manifest as model
from regnb.oci.reference import Digest
from regnb.wire import pages as module
from regnb.wire.client import Client
from regnb.wire.transport import Transport
from regnb.wire.uploads import Upload

pytestmark = pytest.mark.anyio
CONFIG = b"{}"
ABSENT = Digest.of(b"absent")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def image(*layers: bytes, **more: Any) -> bytes:
    """An OCI manifest, with white space that a re-serialisation would lose."""
    descriptors = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest.of(layer), "size": len(layer)}
        for layer in layers
    ]
    config = {"mediaType": model.OCI_CONFIG, "digest": Digest.of(CONFIG), "size": len(CONFIG)}
    content = {"schemaVersion": 2, "mediaType": model.OCI_MANIFEST, "config": config, "layers": descriptors, **more}
    return json.dumps(content, indent=1).encode() + b" \n"


async def push(client: Client, repository: str, tag: str, *layers: bytes, **more: Any) -> Digest:
    for data in (CONFIG, *layers):
        await client.upload_blob(repository, data, Digest.of(data))
    return await client.put_manifest(repository, tag, image(*layers, **more), model.OCI_MANIFEST)


async def gather(pages: AsyncIterator[list[str]]) -> list[str]:
    return [name async for page in pages for name in page]


# Manifests


async def test_a_manifest_goes_round_byte_for_byte(real: distribution.Distribution) -> None:
    """What is pushed is what is read, by tag and by digest, and HEAD announces the same."""
    async with Client(Transport(real.url)) as client:
        assert (await client.ping()).api_version == "registry/2.0"
        digest = await push(client, "vm/centos8", "latest", b"layer")
        for target in ("latest", digest):
            raw = await client.manifest("vm/centos8", target)
            assert raw == (image(b"layer"), model.OCI_MANIFEST, digest, "")
            head = await client.head_manifest("vm/centos8", target)
            assert (head.digest, head.size, head.media_type) == (digest, len(raw.data), model.OCI_MANIFEST)
        assert await client.put_manifest("vm/centos8", digest, raw.data, raw.media_type) == digest
        with pytest.raises(NotFound) as caught:
            await client.manifest("vm/centos8", "absent")
        assert caught.value.codes == ("MANIFEST_UNKNOWN",)
        with pytest.raises(NotFound):
            await client.head_manifest("vm/centos8", ABSENT)


async def test_an_index_is_not_its_child(real: distribution.Distribution) -> None:
    """A tag on a list gives the list itself, OCI's or Docker's, never the linux/amd64 child."""
    async with Client(Transport(real.url)) as client:
        child = await push(client, "a", "child")
        entry = {"mediaType": model.OCI_MANIFEST, "digest": child, "size": len(image())}
        entry["platform"] = {"os": "linux", "architecture": "amd64"}
        for kind in (model.OCI_INDEX, model.DOCKER_LIST):
            data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
            digest = await client.put_manifest("a", "list", data, kind)
            assert (await client.head_manifest("a", "list")).digest == digest == Digest.of(data)
            assert (await client.manifest("a", "list")).media_type == kind


async def test_every_missing_blob_is_named(real: distribution.Distribution) -> None:
    """A manifest that lacks three blobs is refused with all three in the message."""
    layers = [b"one", b"two"]
    async with Client(Transport(real.url)) as client:
        with pytest.raises(RegistryError) as caught:
            await client.put_manifest("a", "t", image(*layers), model.OCI_MANIFEST)
    assert caught.value.status == 400
    assert caught.value.codes == ("MANIFEST_BLOB_UNKNOWN",)
    assert all(Digest.of(data) in str(caught.value) for data in (CONFIG, *layers))


async def test_a_manifest_is_checked_before_it_is_put() -> None:
    """Bytes that do not have the digest they are put under never leave."""
    async with Client(Transport("http://localhost:1")) as client:
        with pytest.raises(DigestMismatch):
            await client.put_manifest("a", ABSENT, b"{}", model.OCI_MANIFEST)
        with pytest.raises(DigestMismatch):
            await client.upload_blob("a", b"{}", ABSENT)
        assert client.transport.sent == 0


Call = Callable[[Client, str], Awaitable[object]]


@pytest.mark.parametrize("name", ["A/b", "a//b", "../a", "a/", "a" * 256, "a b", "", "a%2fb", "a?x", "a\n"])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, name: gather(client.tags(name)),
        lambda client, name: client.manifest(name, "t"),
        lambda client, name: client.head_manifest(name, "t"),
        lambda client, name: client.put_manifest(name, "t", b"", ""),
        lambda client, name: client.delete_manifest(name, ABSENT),
        lambda client, name: client.delete_tag(name, "t"),
        lambda client, name: client.delete_blob(name, ABSENT),
        lambda client, name: client.blob(name, ABSENT, limit=1),
        lambda client, name: client.head_blob(name, ABSENT),
        lambda client, name: client.blob_present(name, ABSENT),
        lambda client, name: client.uploads.start_upload(name),
        lambda client, name: client.mount(name, ABSENT, "a"),
        lambda client, name: client.mount("a", ABSENT, name),
        lambda client, name: client.referrers(name, ABSENT),
        lambda client, name: client.manifest("a", name or ".") if name != "a" * 256 else client.manifest(name, "t"),
        lambda client, name: client.blob("a", name, limit=1),
    ],
)
async def test_names_are_checked_before_anything_is_sent(call: Call, name: str) -> None:
    """No method sends a name that the grammar forbids: not a repository, not a tag, not a digest."""
    async with Client(Transport("http://localhost:1")) as client:
        with pytest.raises(InvalidReference):
            await call(client, name)
        assert client.transport.sent == 0


# Listings


def copies(real: distribution.Distribution, folder: str, count: int) -> None:
    """Multiply what the folder's "first" holds, straight in the registry's storage: much faster than pushing."""
    root = real.root / "docker/registry/v2/repositories" / folder
    for number in range(count - 1):
        shutil.copytree(root / "first", root / f"n{number:05}")


async def test_more_repositories_than_a_page(real: distribution.Distribution) -> None:
    """1,205 repositories are all listed, with the usual page, a small one, and the registry's own."""
    async with Client(Transport(real.url)) as client:
        await push(client, "many/first", "t")
        copies(real, "many", 1205)
        for size, requests in ((1000, 2), (100, 13), (None, 13)):
            before = client.transport.sent
            names = await gather(client.catalog(size))
            assert len(set(names)) == len(names) == 1205
            assert client.transport.sent - before == requests


async def test_as_many_repositories_as_a_page(real: distribution.Distribution) -> None:
    """A page that is exactly full is not taken for the end: one more request makes sure."""
    async with Client(Transport(real.url)) as client:
        await push(client, "many/first", "t")
        copies(real, "many", 20)
        assert len(await gather(client.catalog(20))) == 20


async def test_many_tags(real: distribution.Distribution) -> None:
    """1,205 tags are all listed, although this registry knows no pages of tags."""
    async with Client(Transport(real.url)) as client:
        await push(client, "a", "first")
        copies(real, "a/_manifests/tags", 1205)
        assert len(set(await gather(client.tags("a")))) == 1205
        assert len(set(await gather(client.tags("a", 100)))) == 1205


async def test_no_tags(real: distribution.Distribution) -> None:
    """An emptied repository has no tags, be it null or [], and one that is not there is NotFound."""
    async with Client(Transport(real.url)) as client:
        digest = await push(client, "a", "t")
        await client.delete_manifest("a", digest)
        assert await gather(client.tags("a")) == []
        with pytest.raises(NotFound):
            await gather(client.tags("b"))
    with scripted.serve(lambda *_: Reply(body=b'{"name":"a","tags":null,"repositories":null}')) as server:
        async with Client(Transport(server.url)) as client:
            assert await gather(client.tags("a")) == await gather(client.catalog()) == []


def page(names: list[str], link: str = "") -> Reply:
    headers = {"Link": f'<{link}>; rel="next"'} if link else {}
    return Reply(headers=headers, body=json.dumps({"repositories": names}).encode())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda *_: page(["a"], "/v2/_catalog?n=1000"), ContentError),
        (lambda request, _: page(["a"], f"{request.path}1"), ContentError),
        (lambda request, _: page([request.path], f"{request.path}1"), TooLarge),
        (lambda *_: page(["a"], "http://127.0.0.2:1/v2/_catalog?last=a"), ContentError),
        (lambda *_: page(["a"], "//127.0.0.2/v2/"), ContentError),
        (lambda *_: Reply(body=b'{"repositories": [1]}'), ContentError),
        (lambda *_: Reply(body=b"[" * 100_000), ContentError),
        (lambda *_: Reply(204), RegistryError),
    ],
    ids=["circle", "same page", "endless", "other host", "other authority", "no strings", "nested", "no content"],
)
async def test_listings_that_lie(
    answer: Callable[[Request, int], Reply], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages in a circle, without an end, of another host or of something else are errors and not a hang."""
    monkeypatch.setattr(module, "PAGE_LIMIT", 20)
    with scripted.serve(answer) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(error):
                await gather(client.catalog())
    assert len(server.requests) <= 20


async def test_a_page_size_that_is_refused() -> None:
    """A registry that refuses n is asked again without it."""

    def answer(request: Request, _: int) -> Reply:
        return Reply(400) if "n=" in request.path else page(["a"])

    with scripted.serve(answer) as server:
        async with Client(Transport(server.url)) as client:
            assert await gather(client.catalog()) == ["a"]


@pytest.mark.parametrize("heeded", [True, False])
async def test_a_silent_cut(heeded: bool) -> None:  # noqa: FBT001 - a case
    """A full page without a Link is asked on, and a server that does not understand that ends the listing."""

    def answer(request: Request, _: int) -> Reply:
        return page(["c"] if heeded and "last=b" in request.path else ["a", "b"])

    with scripted.serve(answer) as server:
        async with Client(Transport(server.url)) as client:
            assert await gather(client.catalog(2)) == (["a", "b", "c"] if heeded else ["a", "b"])


@pytest.mark.parametrize("status", [401, 403, 404, 405])
async def test_a_catalog_that_is_forbidden(status: int) -> None:
    """A registry that does not list its repositories gives an error that says what to do instead."""
    with scripted.serve(lambda *_: Reply(status)) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(RegistryError, match="a name without"):
                await gather(client.catalog())


# Lies


async def test_tampered_bytes() -> None:
    """Bytes that differ from the digest asked for or from the one announced are never returned."""
    data = image()
    digest = Digest.of(data)

    def answer(request: Request, _: int) -> Reply:
        headers = {"Content-Type": model.OCI_MANIFEST, "Docker-Content-Digest": digest}
        return Reply(headers=headers, body=data.replace(b"2", b"3"))

    with scripted.serve(answer) as server:
        async with Client(Transport(server.url)) as client:
            for target in ("t", digest):
                with pytest.raises(DigestMismatch):
                    await client.manifest("a", target)
            with pytest.raises(DigestMismatch):
                await client.head_manifest("a", ABSENT)
            with pytest.raises(DigestMismatch):
                await client.blob("a", digest, limit=10_000)
            with pytest.raises(DigestMismatch):
                async with client.blob_stream("a", digest) as chunks:
                    assert [chunk async for chunk in chunks]
            with pytest.raises(TooLarge):
                await client.blob("a", digest, limit=10)


async def test_a_digest_asked_for_is_not_taken_from_the_header() -> None:
    """A header that agrees with tampered bytes does not help them: the digest asked for counts."""
    data = image()
    headers = {"Content-Type": model.OCI_MANIFEST, "Docker-Content-Digest": Digest.of(data)}
    with scripted.serve(lambda *_: Reply(headers=headers, body=data)) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(DigestMismatch):
                await client.manifest("a", ABSENT)


async def test_a_head_without_a_digest() -> None:
    """Where HEAD announces no digest, the manifest is read and its digest computed; a malformed one is an error."""
    with scripted.serve(lambda *_: Reply(headers={"Content-Type": model.OCI_MANIFEST}, body=image())) as server:
        async with Client(Transport(server.url)) as client:
            assert (await client.head_manifest("a", "t")).digest == Digest.of(image())
    with scripted.serve(lambda *_: Reply(headers={"Docker-Content-Digest": "sha256:1"})) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(ContentError):
                await client.head_manifest("a", "t")


async def test_schema_1_is_recognised() -> None:
    """The digest of a schema 1 manifest is not that of its bytes: it is kept as announced, and no error."""
    headers = {"Content-Type": f"{model.SCHEMA1_SIGNED}; charset=utf-8", "Docker-Content-Digest": ABSENT}
    with scripted.serve(lambda *_: Reply(headers=headers, body=b'{"schemaVersion":1}')) as server:
        async with Client(Transport(server.url)) as client:
            found = await client.manifest("a", "t")
            assert found[:3] == (b'{"schemaVersion":1}', model.SCHEMA1_SIGNED, ABSENT)


# Blobs


async def test_blobs(real: distribution.Distribution) -> None:
    """A blob is read whole, streamed, in ranges and by size, and its absence is told."""
    data = bytes(range(256)) * 1000
    digest = Digest.of(data)
    async with Client(Transport(real.url)) as client:
        await client.upload_blob("a", data, digest)
        assert await client.blob("a", digest, limit=len(data)) == data
        assert await client.head_blob("a", digest) == len(data)
        for start, stop in ((0, None), (5, None), (0, 1), (1000, 2000), (len(data) - 1, None)):
            async with client.blob_stream("a", digest, start=start, stop=stop) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == data[start:stop]
        assert await client.blob_present("a", digest)
        assert not await client.blob_present("a", ABSENT)
        assert not await client.blob_present("b", digest)
        with pytest.raises(NotFound):
            await client.head_blob("a", ABSENT)
        with pytest.raises(NotFound):
            async with client.blob_stream("a", ABSENT):
                pass
        with pytest.raises(InvalidArgument):
            async with client.blob_stream("a", digest, start=2, stop=2):
                pass
        await client.upload_blob("a", b"", Digest.of(b""))
        assert await client.blob_present("a", Digest.of(b""))


async def test_a_server_that_ignores_ranges() -> None:
    """A range of a blob is cut out here, where the server sends everything."""
    with scripted.serve(lambda *_: Reply(body=b"0123456789")) as server:
        client = Client(Transport(server.url))
        async with client, client.blob_stream("a", ABSENT, start=3, stop=7) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"3456"


async def test_presence_is_not_taken_from_a_cache(distribution_program: None, tmp_path: Path) -> None:
    """Bytes that a garbage collection removed behind the registry's back are not present, though HEAD says so."""
    settings = {"storage": {"cache": {"blobdescriptor": "inmemory"}}}
    with distribution.Distribution(tmp_path, config=settings) as registry:
        async with Client(Transport(registry.url)) as client:
            digest = await push(client, "a", "t", b"layer")
            await client.delete_manifest("a", digest)
            registry.garbage_collect()
            assert await client.head_blob("a", Digest.of(b"layer")) == 5
            assert not await client.blob_present("a", Digest.of(b"layer"))


async def test_an_upload_in_chunks(real: distribution.Distribution) -> None:
    """Chunks, the status in between and the last piece make one blob."""
    parts = [b"a" * 1000, b"b" * 500, b"c"]
    whole = b"".join(parts)
    async with Client(Transport(real.url)) as client:
        upload = await client.uploads.start_upload("a")
        upload = await client.uploads.upload_chunk(upload, parts[0])
        assert (await client.uploads.upload_status(upload)).offset == upload.offset == 1000
        upload = await client.uploads.upload_status(Upload("a", upload.location))
        upload = await client.uploads.upload_chunk(upload, parts[1])
        await client.uploads.finish_upload(upload, Digest.of(whole), parts[2])
        assert await client.blob("a", Digest.of(whole), limit=2000) == whole


@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_from_a_stream(real: distribution.Distribution, announced: bool) -> None:  # noqa: FBT001
    """A blob streams from one registry's repository into another, its size known or not."""
    data = b"0123456789" * 100_000
    async with Client(Transport(real.url, concurrency=1, max_concurrency=1)) as client:
        await client.upload_blob("a", data, Digest.of(data))
        async with client.blob_stream("a", Digest.of(data)) as chunks:
            await client.upload_blob("b", chunks, Digest.of(data), len(data) if announced else None)
        assert await client.head_blob("b", Digest.of(data)) == len(data)


def litter(real: distribution.Distribution) -> list[Path]:
    """What uploads left behind; empty folders stay even after a DELETE that this registry answered with 204."""
    return list(real.root.glob("docker/registry/v2/repositories/*/_uploads/*/data"))


async def test_what_fails_leaves_no_litter(real: distribution.Distribution) -> None:
    """An upload that the registry refuses is cancelled, and cancelling twice is not an error."""

    async def other() -> AsyncIterator[bytes]:
        yield b"x"

    async with Client(Transport(real.url)) as client:
        with pytest.raises(RegistryError) as caught:
            await client.upload_blob("a", other(), ABSENT)
        assert caught.value.codes == ("DIGEST_INVALID",)
        assert client.transport.exchanges[-1].method == "DELETE"
        before = litter(real)
        upload = await client.uploads.upload_chunk(await client.uploads.start_upload("a"), b"x")
        assert len(litter(real)) == len(before) + 1
        await client.uploads.cancel_upload(upload)
        await client.uploads.cancel_upload(upload)
    assert litter(real) == before


async def test_a_source_that_fails(real: distribution.Distribution) -> None:
    """When the source of a streamed upload fails, its own error is raised, and no blob is there."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise DigestMismatch("planted")

    async with Client(Transport(real.url)) as client:
        with pytest.raises(DigestMismatch, match="planted"):
            await client.upload_blob("a", broken(), ABSENT)
        assert client.transport.exchanges[-1].method == "DELETE"
        assert not await client.blob_present("a", ABSENT)


async def test_mount(real: distribution.Distribution) -> None:
    """A mount of what is there needs no bytes; one of what is not begins an upload, which can be used or cancelled."""
    data = b"layer"
    digest = Digest.of(data)
    async with Client(Transport(real.url)) as client:
        await client.upload_blob("source", data, digest)
        assert await client.mount("there", digest, "source") is None
        assert await client.blob("there", digest, limit=5) == data
        upload = await client.mount("absent", digest, "elsewhere")
        assert upload is not None
        await client.uploads.finish_upload(upload, digest, data)
        assert await client.blob_present("absent", digest)
        upload = await client.mount("absent", ABSENT, "source")
        assert upload is not None
        await client.uploads.cancel_upload(upload)
    assert litter(real) == []


# Deletion


async def test_deletion(real: distribution.Distribution) -> None:
    """A manifest is deleted by digest; by tag this registry does not, and says so; what is not there is NotFound."""
    async with Client(Transport(real.url)) as client:
        digest = await push(client, "a", "t")
        with pytest.raises(Unsupported, match="by digest"):
            await client.delete_tag("a", "t")
        await client.delete_manifest("a", digest)
        with pytest.raises(NotFound):
            await client.delete_manifest("a", digest)
        await client.delete_blob("a", Digest.of(CONFIG))
        assert not await client.blob_present("a", Digest.of(CONFIG))


async def test_deletion_switched_off(distribution_program: None, tmp_path: Path) -> None:
    """Where deletion is off, the error names the setting."""
    with distribution.Distribution(tmp_path, delete=False) as registry:
        async with Client(Transport(registry.url)) as client:
            for call in (client.delete_manifest, client.delete_blob):
                with pytest.raises(Unsupported, match="enabled: true"):
                    await call("a", ABSENT)


async def test_a_read_only_registry(distribution_program: None, tmp_path: Path) -> None:
    """Where the registry is read-only, the error of every write says that it is."""
    storage = {"maintenance": {"readonly": {"enabled": True}}}
    with distribution.Distribution(tmp_path, config={"storage": storage}) as registry:
        async with Client(Transport(registry.url)) as client:
            with pytest.raises(Unsupported, match="readonly"):
                await client.delete_manifest("a", ABSENT)
            with pytest.raises(Unsupported, match="readonly"):
                await client.uploads.start_upload("a")
            with pytest.raises(Unsupported, match="readonly"):
                await client.put_manifest("a", "t", image(), model.OCI_MANIFEST)


async def test_a_corrupt_link(real: distribution.Distribution) -> None:
    """A tag whose link is broken is ServerFailed, after few retries."""
    async with Client(Transport(real.url)) as client:
        await push(client, "a", "t")
        (real.root / "docker/registry/v2/repositories/a/_manifests/tags/t/current/link").write_bytes(b"sha256:12")
        with pytest.raises(ServerFailed):
            await client.manifest("a", "t")


# Referrers


async def test_referrers_by_the_fallback_tag(real: distribution.Distribution) -> None:
    """On a registry without the endpoint the fallback tag is read, filtered here; without it there are none."""
    async with Client(Transport(real.url)) as client:
        digest = await push(client, "a", "t")
        assert await client.referrers("a", digest) == ()
        with pytest.raises(Unsupported, match="does not list referrers"):
            await client.referrers("a", digest, fallback=False)
        entries = []
        for kind in ("text/sbom", "text/signature"):
            data = image(artifactType=kind)
            found = await client.put_manifest("a", kind[5:], data, model.OCI_MANIFEST)
            entries.append({"mediaType": model.OCI_MANIFEST, "digest": found, "size": len(data), "artifactType": kind})
        index = json.dumps({"schemaVersion": 2, "mediaType": model.OCI_INDEX, "manifests": entries}).encode()
        await client.put_manifest("a", digest.replace(":", "-"), index, model.OCI_INDEX)
        assert [each.artifact_type for each in await client.referrers("a", digest)] == ["text/sbom", "text/signature"]
        assert [each.digest for each in await client.referrers("a", digest, "text/sbom")] == [entries[0]["digest"]]


async def test_referrers_by_the_endpoint() -> None:
    """The endpoint's pages are followed, and what its filter lets through is filtered again."""

    def answer(request: Request, _: int) -> Reply:
        last = "last=" in request.path
        entry = {"mediaType": "m", "digest": ABSENT, "size": 1, "artifactType": "b" if last else "a"}
        link = {} if last else {"Link": f'<{request.path}?last=1>; rel="next"'}
        return Reply(headers=link, body=json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())

    with scripted.serve(answer) as server:
        async with Client(Transport(server.url)) as client:
            assert [each.artifact_type for each in await client.referrers("a", ABSENT)] == ["a", "b"]
            assert [each.artifact_type for each in await client.referrers("a", ABSENT, "b")] == ["b"]
    assert "artifactType=b" in server.requests[2].path

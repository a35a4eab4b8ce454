"""URLs, TLS, retries, pace, redirects and the record of exchanges."""

from __future__ import annotations

import asyncio
import email.utils
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import distribution
import pytest
import scripted
import trustme
from scripted import Reply, Request

from regnb.errors import (
    ConnectionFailed,
    ContentError,
    InvalidArgument,
    NotARegistry,
    RateLimited,
    RegistryError,
    ServerFailed,
    TLSFailed,
    TooLarge,
    Unauthorized,
)
from regnb.oci.reference import Digest
from regnb.wire import transport as module
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials
from regnb.wire.failures import raise_for
from regnb.wire.messages import Response
from regnb.wire.transport import Transport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# URLs


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("registry.example.org", "https://registry.example.org"),
        ("registry:5000", "https://registry:5000"),
        ("HTTPS://Registry.Example.org:443/v2/", "https://registry.example.org"),
        ("http://registry:80", "http://registry"),
        ("https://localhost:5000", "https://localhost:5000"),
        ("localhost:5000/registry/", "http://localhost:5000/registry"),
        ("https://h:443/artifactory/api/docker/team/v2/", "https://h/artifactory/api/docker/team"),
        ("https://h/repository/docker-hosted", "https://h/repository/docker-hosted"),
        ("docker.io", "https://registry-1.docker.io"),
        ("https://index.docker.io/v1/", "https://registry-1.docker.io"),
    ],
)
def test_urls(given: str, url: str) -> None:
    """A bare host is https unless it is loopback, a path is kept without /v2/, and Docker Hub has one address."""
    assert Transport(given).url == url
    assert url.endswith(f"://{Transport(given).host}")


@pytest.mark.parametrize(
    "given",
    [
        *("", "http://", "ftp://h", "http://h:port", "http://h:99999", "http://h?x=1", "a b", "http://["),
        *("http://h/v2/_catalog", "http://h/a//b", "http://h/a/../b", "http://h/a%2fb", "http://h/a b", "http://h/#x"),
    ],
)
def test_bad_urls(given: str) -> None:
    """What is not a registry's URL is refused with a hint, before anything is sent."""
    with pytest.raises(InvalidArgument) as caught:
        Transport(given)
    assert caught.value.hint


def test_a_url_with_a_password_is_never_shown() -> None:
    """A user and password in the URL become credentials, also when the rest of the URL is refused."""
    assert Transport("http://me:planted@h:5000").url == "http://h:5000"
    with pytest.raises(InvalidArgument) as caught:
        Transport("http://me:planted@h:5000/ui?x=1")
    assert "planted" not in str(caught.value)


# Below a path


@pytest.mark.parametrize("relative", [False, True])
async def test_a_registry_below_a_path(distribution_program: None, tmp_path: Path, *, relative: bool) -> None:
    """Upload, mount, pages, tags and deletion work where the registry's http.prefix puts its API below a path.

    With http.relativeurls its addresses leave the path out: an upload is continued below it all the same.
    """
    settings = {"http": {"prefix": "/team/registry/", "relativeurls": relative}}
    with distribution.Distribution(tmp_path, config=settings) as real:
        async with Client(Transport(f"{real.url}/team/registry")) as client:
            data = b"layer"
            digest = Digest.of(data)
            await client.upload_blob("a", data, digest)
            assert await client.mount("b/c", digest, "a") is None
            assert [name async for page in client.catalog(1) for name in page] == ["a", "b/c"]
            assert await client.blob("b/c", digest, limit=9) == data
            await client.delete_blob("b/c", digest)
            assert not await client.blob_present("b/c", digest)
            page = await client.ask("GET", "/v2/_catalog?n=1")
            assert page.curl == f"curl -sS '{real.url}/team/registry/v2/_catalog?n=1'"
            assert page.following.startswith("/v2/_catalog?last=a")
            assert client.target(f"{real.url}/team/registry/v2/a/tags/list").path == "/v2/a/tags/list"
            with pytest.raises(InvalidArgument):
                client.target(f"{real.url}/v2/a/tags/list")
            litter = {each.url.removeprefix(client.transport.url)[:4] for each in client.transport.exchanges}
            assert litter == {"/v2/"}


async def test_a_path_that_the_proxy_takes_away() -> None:
    """A registry that knows nothing of its path names pages and uploads without it: they are asked for below it."""

    def answer(request: Request, _: int) -> Reply:
        if not request.path.startswith("/team/v2/"):
            return Reply(404)
        if request.method == "POST":
            return Reply(202, {"Location": f"http://{request.headers['host']}/v2/a/blobs/uploads/1"})
        if request.path.startswith("/team/v2/_catalog?last="):
            return Reply(body=b'{"repositories": ["b"]}')
        return Reply(200, {"Link": '</v2/_catalog?last=a>; rel="next"'}, b'{"repositories": ["a"]}')

    with scripted.serve(answer) as server:
        async with Client(Transport(f"{server.url}/team")) as client:
            assert [name async for page in client.catalog() for name in page] == ["a", "b"]
            assert (await client.ask("GET", "/v2/_catalog")).following == "/v2/_catalog?last=a"
            upload = await client.uploads.start_upload("a")
            assert upload.location == f"{server.url}/team/v2/a/blobs/uploads/1"


async def test_a_repository_in_the_url(real: distribution.Distribution) -> None:
    """Where the URL goes on with a repository's name, the error says how to write it."""
    async with Client(Transport(f"{real.url}/vm/centos8")) as client:
        with pytest.raises(NotARegistry) as caught:
            await client.ping()
    assert caught.value.hint == f"if vm/centos8 is a repository, write {real.url}, and name the repository apart"


@pytest.mark.parametrize(
    ("url", "owned"),
    [
        *(("http://h/a/v2/", True), ("http://h/a", True), ("HTTP://H:80/a/x?y=/b", True)),
        *(("http://h/b/v2/", False), ("http://h/", False), ("http://h/ab/v2/", False), ("https://h/a/v2/", False)),
        *(("http://h/a/../b", False), ("http://h/a/%2e%2e/b", False), ("http://h/a/..%2fb", False)),
        *(("http://h/a/..%5cb", False), ("http://h:81/a/", False), ("http://h/a%2f..%2fb", False)),
    ],
)
def test_what_is_a_registrys_own(url: str, *, owned: bool) -> None:
    """Of a registry below a path only what is below the path is its own, however the URL is written."""
    assert Transport("http://h/a").owns(url) == owned


# TLS


class Certificates(NamedTuple):
    """A registry behind TLS, its private authority, and a client's certificate and key."""

    registry: distribution.Distribution
    bundle: Path
    client: Path


def tls(folder: Path, *, clients: bool = False, name: str = "127.0.0.1") -> Certificates:
    authority = trustme.CA()
    bundle, cert, key, client = (folder / each for each in ("ca.pem", "cert.pem", "key.pem", "client.pem"))
    authority.cert_pem.write_to_path(str(bundle))
    leaf = authority.issue_cert(name)
    leaf.private_key_pem.write_to_path(str(key))
    leaf.cert_chain_pems[0].write_to_path(str(cert))
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(str(client))
    settings: dict[str, object] = {"certificate": str(cert), "key": str(key)}
    if clients:
        settings["clientcas"] = [str(bundle)]
    return Certificates(distribution.Distribution(folder, config={"http": {"tls": settings}}), bundle, client)


async def ping(url: str, **options: object) -> None:
    async with Client(Transport(url, **options)) as client:  # type: ignore[arg-type]
        await client.ping()


async def test_a_private_authority(distribution_program: None, tmp_path: Path) -> None:
    """A private CA is refused with the hint to pass it, accepted when passed, and passed over when insecure."""
    registry, bundle, _ = tls(tmp_path)
    with registry:
        with pytest.raises(TLSFailed, match="ca_bundle"):
            await ping(registry.url)
        await ping(registry.url, ca_bundle=str(bundle))
        await ping(registry.url, ca_bundle=bundle)
        await ping(registry.url, insecure=True)


async def test_a_certificate_for_another_host(distribution_program: None, tmp_path: Path) -> None:
    """A trusted certificate for another name is TLSFailed."""
    registry, bundle, _ = tls(tmp_path, name="other.example.org")
    with registry, pytest.raises(TLSFailed, match="certificate is not valid"):
        await ping(registry.url, ca_bundle=bundle)


async def test_client_certificates(distribution_program: None, tmp_path: Path) -> None:
    """A registry that asks for a client certificate accepts ours, and without one the connection fails clearly."""
    registry, bundle, client = tls(tmp_path, clients=True)
    with registry:
        await ping(registry.url, ca_bundle=bundle, client_cert=client)
        with pytest.raises(ConnectionFailed):
            await ping(registry.url, ca_bundle=bundle)


async def test_the_wrong_scheme(distribution_program: None, tmp_path: Path) -> None:
    """Https to a plain-http port says so; http to a TLS port gives an error, too."""
    plain = distribution.Distribution(tmp_path / "plain")
    with plain, pytest.raises(TLSFailed, match=f"write http://{plain.host}"):
        await ping(f"https://{plain.host}")
    registry, _, _ = tls(tmp_path)
    with registry, pytest.raises(RegistryError, match="HTTPS"):
        await ping(f"http://{registry.host}")


@pytest.mark.parametrize("options", [{"ca_bundle": "/nowhere.pem"}, {"client_cert": "/nowhere.pem"}])
def test_unreadable_certificates(options: dict[str, str]) -> None:
    """A certificate file that is not there is an InvalidArgument."""
    with pytest.raises(InvalidArgument, match=r"cannot read"):
        Transport("https://h", **options)  # type: ignore[arg-type]


# No connection


async def test_refused_unknown_and_silent() -> None:
    """A refused port, an unknown host and a server that never answers are three different ConnectionFailed."""
    with pytest.raises(ConnectionFailed, match="refuses connections"):
        await ping(f"http://127.0.0.1:{distribution.free_port()}")
    with pytest.raises(ConnectionFailed, match=r"host nowhere\.invalid not found"):
        await ping("http://nowhere.invalid")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionFailed, match="did not answer in"):
            await ping(f"http://127.0.0.1:{port}", timeout=0.2)


# Retries and pace


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits between retries are a hundredth of what they would be, unless the server asks for them."""
    backoff = module.backoff
    monkeypatch.setattr(module, "backoff", lambda attempt, first: backoff(attempt, first) / 100)
    return iter(())


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("status", "sent", "error"),
    [(500, 3, ServerFailed), (502, 5, ServerFailed), (503, 6, ServerFailed), (429, 7, RateLimited)],
)
async def test_reads_are_repeated_and_writes_are_not(status: int, sent: int, error: type[RegistryError]) -> None:
    """A GET is sent again on 429 and 5xx, a few times; a POST once, whatever comes."""
    with scripted.serve(lambda *_: Reply(status)) as server:
        async with Transport(server.url) as transport:
            with pytest.raises(error):
                raise_for(await transport.request("GET", "/v2/"))
            assert transport.sent == sent
            assert (await transport.request("POST", "/v2/")).status == status
            async with transport.stream("GET", "/v2/") as response:
                assert response.status == status
    assert [len(server.seen(method)) for method in ("GET", "POST")] == [2 * sent, 1]


@pytest.mark.parametrize("form", ["1", "date"])
async def test_retry_after_is_honoured(form: str) -> None:
    """After a 429 nothing is sent before the time that it names, as seconds or as a date, has come."""
    when = [0.0]

    def answer(_: Request, number: int) -> Reply:
        if number:
            return Reply()
        when[0] = time.time() + 1 if form == "1" else int(time.time()) + 2.0
        return Reply(429, {"Retry-After": form if form == "1" else email.utils.formatdate(when[0], usegmt=True)})

    with scripted.serve(answer) as server:
        async with Transport(server.url) as transport:
            assert (await transport.request("GET", "/v2/")).status == 200
            assert time.time() >= when[0] - 0.05


async def test_who_asks_for_an_hour_gets_an_error() -> None:
    """A Retry-After beyond a minute is RateLimited at once."""
    with scripted.serve(lambda *_: Reply(429, {"Retry-After": "3600"})) as server:
        async with Transport(server.url) as transport:
            with pytest.raises(RateLimited, match="1 h"):
                await transport.request("GET", "/v2/")


async def test_a_429_brakes_for_good() -> None:
    """One burst of 429s takes a quarter off the number of requests under way, once; it does not grow back."""
    with scripted.serve(lambda _, number: Reply(429 if number < 4 else 200)) as server:
        async with Transport(server.url, concurrency=8) as transport:
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(transport.request, "GET", "/v2/")
            assert transport.pace.limit == 6
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(transport.request, "GET", "/v2/")
            assert transport.pace.limit == 6


async def test_no_more_requests_at_once_than_allowed() -> None:
    """Forty tasks over two slots are never more than two requests at the server."""
    under_way, most = [0], [0]

    def answer(_: Request, __: int) -> Reply:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.001)
        under_way[0] -= 1
        return Reply(404)

    with scripted.serve(answer) as server:
        async with (
            Transport(server.url, concurrency=2, max_concurrency=2) as transport,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(40):
                tasks.start_soon(transport.request, "GET", "/v2/")
    assert most == [2]


@pytest.mark.usefixtures("hurried")
async def test_truncated_bodies() -> None:
    """A body that ends early is repeated for a GET, and an error when it stays so; a stream tells in the middle."""
    whole, cut = Reply(body=b"x" * 10), Reply(body=b"x" * 4, announced=10)
    with scripted.serve(lambda _, number: whole if number else cut) as server:
        async with Transport(server.url) as transport:
            assert (await transport.request("GET", "/v2/")).data == b"x" * 10
    with scripted.serve(lambda *_: cut) as server:
        async with Transport(server.url) as transport:
            with pytest.raises(ConnectionFailed, match="cut off after"):
                await transport.request("GET", "/v2/")
            with pytest.raises(ConnectionFailed, match="cut off after"):
                async with transport.stream("GET", "/v2/") as response:
                    await response.read()


async def test_a_body_has_a_limit() -> None:
    """Reading stops when the limit is passed, announced or not."""
    with scripted.serve(lambda *_: Reply(body=b"x" * 1001)) as server:
        async with Transport(server.url) as transport:
            with pytest.raises(TooLarge):
                await transport.request("GET", "/v2/", limit=1000)
            assert len((await transport.request("GET", "/v2/", limit=1001)).data) == 1001


async def test_cancelling_frees_the_slot() -> None:
    """A request that is cancelled under way leaves its slot to the next one."""
    with scripted.serve(lambda _, number: (time.sleep(0.3), Reply())[1] if not number else Reply()) as server:
        async with Transport(server.url, concurrency=1, max_concurrency=1) as transport:
            with anyio.move_on_after(0.05):
                await transport.request("GET", "/v2/")
            assert (await transport.request("GET", "/v2/")).status == 200
            assert transport.pace.busy == 0


# Redirects


async def test_another_origin_gets_no_secret() -> None:
    """A redirected GET takes neither Authorization nor custom headers to another origin, but keeps its Range."""
    with scripted.serve(lambda *_: Reply(206, body=b"x")) as storage:

        def answer(request: Request, _: int) -> Reply:
            if "authorization" not in request.headers:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
            return Reply(307, {"Location": f"{storage.url}/blob?X-Amz-Signature=planted"})

        with scripted.serve(answer) as server:
            async with Transport(server.url, credentials=Credentials("me", "planted")) as transport:
                headers = {"Range": "bytes=0-0", "X-Secret": "planted"}
                response = await transport.request("GET", "/v2/a/blobs/b", headers=headers)
                assert response.data == b"x"
                shown = repr([(each, each.curl, each.response_headers) for each in transport.exchanges])
                assert "planted" not in shown.replace("X-Secret: planted", "")
    assert storage.requests[0].headers["range"] == "bytes=0-0"
    assert not {"authorization", "x-secret"} & storage.requests[0].headers.keys()


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
async def test_writes_follow_no_redirect(method: str) -> None:
    """A redirected write is returned as it is: nothing is sent to where it points."""
    with scripted.serve(lambda *_: Reply(307, {"Location": "/elsewhere"})) as server:
        async with Transport(server.url) as transport:
            assert (await transport.request(method, "/v2/")).status == 307
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["/v2/", "file:///etc/passwd"])
async def test_redirects_end(location: str) -> None:
    """A circle of redirects ends after five, and one to a file is not followed at all."""
    with scripted.serve(lambda *_: Reply(302, {"Location": location})) as server:
        async with Transport(server.url) as transport:
            with pytest.raises(ContentError, match="redirects"):
                await transport.request("GET", "/v2/")
    assert len(server.requests) <= 6


@pytest.mark.parametrize("url", ["http://[bad/", "http://h:99999/"])
async def test_a_malformed_url_from_the_server(url: str) -> None:
    """A Location or a Link that is not a URL is the registry's error, by name, and never a ValueError of Python's."""
    location, link = (
        Reply(302, {"Location": url}),
        Reply(200, {"Link": f'<{url}>; rel="next"'}, b'{"repositories":null}'),
    )
    with scripted.serve(lambda request, _: link if "_catalog" in request.path else location) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(ContentError):
                await client.ping()
            with pytest.raises(ContentError):
                _ = [page async for page in client.catalog()]


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"])
async def test_what_does_not_speak_http(answer: bytes) -> None:
    """Another protocol on the port, or headers without end, is an error of regnb's with a hint."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        async with Transport(f"http://{host}:{port}") as transport:
            with pytest.raises(NotARegistry, match="does not answer in HTTP") as caught:
                await transport.request("GET", "/v2/")
    assert "https://" in caught.value.hint


async def test_an_upload_location_elsewhere_gets_no_credentials() -> None:
    """A spoofed Location is used without credentials, and its 401 is explained."""
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
    with scripted.serve(lambda *_: challenge) as thief:

        def answer(request: Request, _: int) -> Reply:
            return Reply(202, {"Location": f"{thief.url}/up"}) if "authorization" in request.headers else challenge

        with scripted.serve(answer) as server:
            async with Client(Transport(server.url, credentials=Credentials("me", "planted"))) as client:
                upload = await client.uploads.start_upload("a")
                with pytest.raises(Unauthorized, match="outer address"):
                    await client.uploads.upload_chunk(upload, b"x")
    assert [each.headers.get("authorization") for each in thief.requests] == [None]


# What is said and remembered


def test_every_error_is_shown() -> None:
    """All errors of a body are in the message, with their details, and nothing that would move a terminal's cursor."""
    body = (
        b'{"errors":[{"code":"A","message":"one\\u001b[31m"},{"code":"B","detail":{"digest":"sha256:1"}},{"code":"A"}]}'
    )
    with pytest.raises(RegistryError) as caught:
        raise_for(Response("PUT", "http://h/v2/a?_state=planted", 400, module._NONE, body))
    assert caught.value.codes == ("A", "B")
    assert 'A: one [31m; B: {"digest":"sha256:1"}; A' in str(caught.value)
    assert "planted" not in str(caught.value) + caught.value.url


@pytest.mark.parametrize("body", [b"[[[[" * 100_000, b'{"errors": 3}', b"\xff\xfe", b""])
def test_a_hostile_error_body_is_still_the_error(body: bytes) -> None:
    """Whatever the body of a 503 is, the error is ServerFailed, and short."""
    with pytest.raises(ServerFailed) as caught:
        raise_for(Response("GET", "http://h/v2/", 503, module._NONE, body))
    assert len(str(caught.value)) < 500


def test_a_full_disk_is_named() -> None:
    """What distribution answers when its disk is full is a number in a detail: the hint says it in words."""
    detail = {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Path": "/srv/startedat", "Err": 28}}
    body = json.dumps({"errors": [{"code": "UNKNOWN", "message": "unknown error", "detail": detail}]}).encode()
    with pytest.raises(ServerFailed) as failure:
        raise_for(Response("POST", "http://h/v2/a/blobs/uploads/", 500, module._NONE, body))
    assert failure.value.hint == "the registry's disk is full: make room there"


async def test_a_web_page_is_no_registry() -> None:
    """HTML where JSON should be is NotARegistry, whatever the status says."""
    page = Reply(body=b"<!doctype html><p>hello", headers={"Content-Type": "text/html; charset=utf-8"})
    with scripted.serve(lambda *_: page) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(NotARegistry):
                await client.ping()
            with pytest.raises(NotARegistry):
                _ = [name async for name in client.catalog()]
            with pytest.raises(NotARegistry):
                await client.manifest("a", "b")


async def test_the_record_of_exchanges(real: distribution.Distribution) -> None:
    """Each exchange is remembered, up to a bound, and prints as a curl command that can be run."""
    async with Transport(real.url) as transport:
        await transport.request("HEAD", "/v2/", headers={"Accept": "a b"})
        await transport.request("GET", "/v2/", params={"n": "1"})
        await transport.request("POST", "/v2/a/blobs/uploads/", content=b"")
        head, get, post = transport.exchanges
        assert head.curl == f"curl -sS --head -H 'Accept: a b' {real.url}/v2/"
        assert get.curl == f"curl -sS '{real.url}/v2/?n=1'"
        assert post.curl == f"curl -sS -X POST {real.url}/v2/a/blobs/uploads/"
        assert (get.status, get.size, post.status) == (200, 2, 202)
        assert "planted" not in module.redact("http://a:planted@h/?token=planted&x=1")
        assert transport.exchanges.maxlen == module.EXCHANGES


async def test_nothing_is_kept_between_answers() -> None:
    """Cookies that a server sets are neither sent back nor shown."""
    with scripted.serve(lambda *_: Reply(headers={"Set-Cookie": "s=planted"})) as server:
        async with Transport(server.url) as transport:
            await transport.request("GET", "/v2/")
            await transport.request("GET", "/v2/")
            assert "planted" not in repr([each.response_headers for each in transport.exchanges])
    assert "cookie" not in server.requests[1].headers


def test_the_context_verifies_by_default() -> None:
    """Unless insecure is asked for, certificates and names are verified."""
    assert Transport("https://h")._ssl.verify_mode is ssl.CERT_REQUIRED
    assert Transport("https://h")._ssl.check_hostname

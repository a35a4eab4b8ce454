"""A request that was typed and its answer: nothing is changed by showing it, no secret is in it, and its curl works."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import scripted
from conftest import Seeded, need
from distribution import Distribution
from images import config, fill, image, index, layer, nested
from scripted import Reply, Request

import regnb
from regnb.errors import ConnectionFailed, InvalidArgument, InvalidReference
from regnb.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from regnb.oci.reference import Digest
from regnb.registry import Registry
from regnb.text import redact_headers
from regnb.wire.exchange import (
    READS,
    SHOWN,
    Answer,
    Exchange,
    asked,
    check_headers,
    formatted,
    headers_of,
    target,
    view,
)
from regnb.wire.messages import BODY_LIMIT

SECRET = "s3cret-passw0rd"
ONE = image([layer(1, 1000)], docker=True)
TWO = image([layer(2, 1000)], about=config("arm64"), docker=True)
LIST = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")], docker=True)


@pytest.fixture
def registry(seeded: Seeded) -> Iterator[Registry]:
    with regnb.connect(seeded.url, cache=False) as connected:
        yield connected


def run(curl: str, **env: str) -> bytes:
    """What a shell prints that is given the command."""
    return subprocess.run(
        ["sh", "-c", curl], capture_output=True, check=True, env={"PATH": "/usr/bin:/bin", **env}
    ).stdout


def shown(answer: Answer) -> str:
    """Everything that is shown of an answer, except its body's own bytes."""
    return "\n".join([
        repr(answer), answer.request, answer.head, answer.curl, answer.text, answer.problem, answer.hint,
        repr(answer.headers), repr(answer.exchange), answer._repr_html_(), answer.to_json().decode(),
    ])  # fmt: skip


# The lessons


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2", 200),
        ("/v2/", 200),
        ("/v2/_catalog", 200),
        ("/v2/_catalog?n=2&last=apps/web", 200),
        ("/v2/vm/centos8/tags/list", 200),
        ("/v2/vm/centos8/manifests/latest", 200),
        ("/v2/vm/centos8/manifests/not-there", 404),
        ("/v2/not/there/tags/list", 404),
        (f"/v2/vm/centos8/blobs/{Digest.of(b'absent')}", 404),
        ("/v2/nonsense", 404),
    ],
)
def test_its_curl_command_gives_the_same(registry: Registry, path: str, status: int) -> None:
    """The command, pasted into a shell, prints the same bytes; that of a HEAD, the same status and digest."""
    need("registry", shutil.which("curl"), "curl is not installed (apt-get install curl)")
    answer = registry.request("GET", path)
    assert answer.status == status
    assert run(answer.curl) == answer.body == view(answer, include=False)
    assert bool(answer.problem) == (status >= 400)
    head = registry.request("head", path)
    assert head.body == b""
    printed = run(head.curl).decode()
    assert printed.strip().rpartition("\r\n\r\n")[2].startswith(head.line)  # after a redirect there are two
    if head.digest:
        assert head.digest in printed


def test_the_answers_of_the_lessons(registry: Registry) -> None:
    """Catalog, tags, manifest and digest by hand are what the methods say."""
    catalog = json.loads(registry.request("GET", "/v2/_catalog").body)["repositories"]
    assert catalog == list(registry.catalog()["repository"])
    tags = json.loads(registry.request("GET", "/v2/vm/centos8/tags/list").body)["tags"]
    assert sorted(tags) == list(registry.tags("vm/centos8")["tag"])
    manifest = registry.request("GET", "/v2/vm/centos8/manifests/latest")
    assert manifest.body == registry.manifest("vm/centos8:latest").raw
    head = registry.request("HEAD", "/v2/vm/centos8/manifests/latest")
    assert head.digest == manifest.digest == registry.digest("vm/centos8:latest") == Digest.of(manifest.body)
    assert view(head, include=False) == f"{head.head}\n\n".encode()
    assert view(manifest, include=True) == f"{manifest.head}\n\n".encode() + manifest.body
    assert head.head.startswith("HTTP/1.1 200 OK\n")
    assert manifest.request.startswith(f"GET /v2/vm/centos8/manifests/latest HTTP/1.1\nHost: {registry.host}\nAccept: ")
    about = json.loads(manifest.body)["config"]["digest"]
    assert Digest.of(registry.request("GET", f"/v2/vm/centos8/blobs/{about}").body) == about
    assert registry.request("GET", f"http://{registry.host}/v2/_catalog").body
    one = json.loads(registry.request("HEAD", "/v2/vm/centos8/manifests/latest").to_json())
    assert one["headers"]["docker-content-digest"] == head.digest
    assert one["curl"] == head.curl


def test_what_is_accepted_decides_what_is_answered(real: Distribution) -> None:
    """A tag on a list: with every type accepted it is the list; with one, docker-registry gives an image in it."""
    fill(real.url, ("a/b", "list", LIST))
    with regnb.connect(real.url, cache=False) as registry:
        every = registry.request("HEAD", "/v2/a/b/manifests/list")
        one = registry.request("HEAD", "/v2/a/b/manifests/list", headers={"accept": DOCKER_MANIFEST})
    assert all(kind in every.exchange.request_headers["Accept"] for kind in (DOCKER_LIST, OCI_INDEX))
    assert every.digest == LIST.digest
    assert one.digest == ONE.digest
    assert one.exchange.request_headers == {"Accept": DOCKER_MANIFEST}
    assert f"-H 'Accept: {DOCKER_MANIFEST}'" in one.curl


def test_errors_have_hints(seeded_real: Seeded) -> None:
    """What regnb knows about a code stands beside the code, and the body is shown as it is."""
    with regnb.connect(seeded_real.url, cache=False) as registry:
        answer = registry.request("GET", "/v2/not/there/tags/list")
        gone = registry.request("GET", "/v2/vm/centos8/manifests/gone")
    assert "NAME_UNKNOWN" in answer.problem
    assert "_catalog" in answer.hint
    assert '"code": "NAME_UNKNOWN"' in answer.text
    assert "tags/list" in gone.hint


def test_a_refusal_is_an_answer() -> None:
    """A 401 that no credentials settle, and a 405, are shown with their headers, what they mean and what to do."""

    def answer(request: Request, _: int) -> Reply:
        if "tags" in request.path:
            return Reply(401, {"WWW-Authenticate": 'Basic realm="r"'}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        return Reply(405 if "catalog" in request.path else 200)

    with scripted.serve(answer) as server, regnb.connect(server.url, cache=False) as registry:
        refused = registry.request("GET", "/v2/a/tags/list")
        off = registry.request("GET", "/v2/_catalog")
        assert "docker login" in refused.hint
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == 'Basic realm="r"'
    assert "asks for credentials" in refused.problem
    assert not refused.whole
    assert off.line == "HTTP/1.1 405 Method Not Allowed"
    assert off.problem


def test_no_answer_is_an_error(real: Distribution) -> None:
    """Where nothing answers there is nothing to show."""
    with regnb.connect(real.url, cache=False) as registry:
        real.stop()
        with pytest.raises(ConnectionFailed):
            registry.request("GET", "/v2/")


def test_the_next_page(registry: Registry) -> None:
    """A Link header is a path to ask for next, up to the last page; one to another server leads nowhere."""
    page = registry.request("GET", "/v2/_catalog?n=7")
    found = json.loads(page.body)["repositories"]
    while page.following:
        assert page.following.startswith("/v2/_catalog?")
        page = registry.request("GET", page.following)
        found += json.loads(page.body)["repositories"]
    assert found == list(registry.catalog()["repository"])
    for link in ("<http://127.0.0.1:9/v2/_catalog?last=a>", "<http://[/v2/>", "</v2/_catalog>; rel=prev"):
        reply = Reply(headers={"Link": f"{link}; rel=next" if "prev" not in link else link})
        with scripted.serve(lambda *_, reply=reply: reply) as server, regnb.connect(server.url, cache=False) as other:
            assert other.request("GET", "/v2/_catalog").following == ""


# What is sent


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/v1/_ping", "v2/_catalog", "/v2x", "//127.0.0.1:9/v2/", "/v2/../admin", "/v2/%2e%2e/admin",
        "/v2/a/./b", "/v2/a b", "/v2/a#b", "/v2/a\r\nX: y", "/v2/%0d%0aX", "/v2/\\a", "/v2/é", "/v2/\x1b[2J",
        "http://127.0.0.1:9/v2/", "https://127.0.0.1/v2/", "http://me:s3cret-passw0rd@127.0.0.1:9/v2/",
        "ftp://127.0.0.1/v2/", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_paths_that_are_not_sent(path: str) -> None:
    """What is no path of this registry's API is refused, and nothing is asked: not here, and not elsewhere."""
    with scripted.serve(lambda *_: Reply()) as server, regnb.connect(server.url, cache=False) as registry:
        before = len(server.requests)
        with pytest.raises(InvalidArgument) as caught:
            registry.request("GET", path)
        assert len(server.requests) == before
    assert SECRET not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/A/tags/list", "/v2/a//b/tags/list", "/v2/a/manifests/-x", "/v2/a/manifests/sha256:12",
        "/v2/a/blobs/latest", "/v2/a/referrers/latest", "/v2/a/manifests/", "/v2/a%20b/tags/list",
        "/v2/<repository>/tags/list",
        f"/v2/{'a' * 256}/tags/list",
    ],
)  # fmt: skip
def test_names_that_are_not_lawful(path: str) -> None:
    """A repository, tag or digest that the grammar forbids is named before anything is sent."""
    with pytest.raises(InvalidReference):
        target(path)


def test_what_a_path_names() -> None:
    """The rightmost words count, for a repository may be called like a part of the API."""
    digest = Digest.of(b"")
    assert target("/v2/x/manifests/manifests/1")[1:] == ("manifests", "x/manifests", "1")
    assert target(f"/v2/a/manifests/{digest.replace(':', '%3A')}")[1:] == ("manifests", "a", digest)
    assert target("/v2/a/blobs/uploads/?mount=x&from=b")[1:] == ("blobs/uploads", "a", "")
    assert target("/v2/_catalog?n=1") == ("/v2/_catalog?n=1", "_catalog", "", "")
    assert target("/v2")[1:] == ("", "", "")


@pytest.mark.parametrize(
    "header",
    [
        "Authorization", "authorization", "Cookie", "Proxy-Authorization", "Host", "Content-Length",
        "Transfer-Encoding", "X-HTTP-Method-Override", "X-Token", "Connection", "Expect", "X\r\nY", "",
    ],
)  # fmt: skip
def test_headers_that_are_not_sent(header: str) -> None:
    """Credentials are the connection's, and nothing that could turn a GET into something else goes along."""
    with pytest.raises(InvalidArgument) as caught:
        check_headers({header: SECRET})
    assert SECRET not in str(caught.value)
    with pytest.raises(InvalidArgument):
        check_headers({"Accept": "a\r\nX: y"})


def test_headers_as_curl_has_them() -> None:
    """Name, colon, value; the value may hold colons, and blank lines are none."""
    assert headers_of(["Accept: a:b ", "", "Range:bytes=0-1"]) == {"Accept": "a:b", "Range": "bytes=0-1"}
    with pytest.raises(InvalidArgument) as caught:
        headers_of([SECRET])
    assert SECRET not in str(caught.value)


# Secrets


def test_no_secret_is_shown(distribution_program: None, tmp_path: Path) -> None:
    """Behind a password: it is in nothing that is shown, and the curl command works once the shell has the header."""
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, check=True).stdout)
    encoded = base64.b64encode(f"me:{SECRET}".encode()).decode()
    settings = {"auth": {"htpasswd": {"realm": "r", "path": str(passwords)}}}
    with Distribution(tmp_path / "secured", config=settings) as real:
        url = real.url.replace("://", f"://me:{SECRET}@")
        with regnb.connect(url, cache=False) as registry:
            answer = registry.request("GET", f"{url}/v2/_catalog")
        text = shown(answer)
        assert SECRET not in text
        assert encoded not in text
        assert "Authorization: ***" in answer.request
        assert "$AUTHORIZATION" in answer.curl
        assert b"UNAUTHORIZED" in run(answer.curl)
        assert run(answer.curl, AUTHORIZATION=f"Basic {encoded}") == answer.body


def test_what_a_registry_says_in_secret_is_not_shown() -> None:
    """Cookies, tokens, signed addresses: in headers they are stars; and the next page is found all the same."""
    headers = {
        "Set-Cookie": "s=planted",
        "X-Registry-Token": "planted",
        "Location": "https://me:planted@h/x?X-Amz-Signature=planted",
        "Link": '</v2/_catalog?last=a&next_token=planted>; rel="next"',
    }
    with (
        scripted.serve(lambda *_: Reply(headers=headers)) as server,
        regnb.connect(server.url, cache=False) as registry,
    ):
        answer = registry.request("GET", "/v2/_catalog?token=planted&n=1")
        assert "planted" not in shown(answer)
        assert "n=1" in answer.curl
        assert answer.following == "/v2/_catalog?last=a&next_token=planted"
        assert "planted" not in shown(registry.request("GET", answer.following))


def test_an_address_is_shown_as_it_came() -> None:
    """Only a secret in a Link or Location is replaced: nothing else of it is encoded anew."""
    links = [
        '</v2/_catalog?last=a%2Fb&n=5>; rel="next"', '</v2/_catalog?n=5&last=vm/centos8+x;y>; rel="next"',
        '</v2/a?last=%e4&empty=&flag>; rel="next"',
    ]  # fmt: skip
    for link in links:
        assert redact_headers([("Link", link)]) == {"Link": link}
    hidden = redact_headers([("Location", "https://u:p@s3/b?X-Amz-Signature=abc&part=a%2Fb&%74oken=t")])["Location"]
    assert hidden == "https://s3/b?X-Amz-Signature=***&part=a%2Fb&%74oken=***"


def test_a_redirect_gets_no_credentials_and_is_followed_by_curl() -> None:
    """A blob that is stored elsewhere: no password goes there, and the command names the registry's own address."""

    def store(request: Request, _: int) -> Reply:
        return Reply(body=b"bytes")

    with scripted.serve(store) as elsewhere:

        def answer(request: Request, _: int) -> Reply:
            if "/blobs/" in request.path:
                return Reply(307, {"Location": f"{elsewhere.url}/x?X-Amz-Signature=planted"})
            return Reply(200 if "authorization" in request.headers else 401, {"WWW-Authenticate": 'Basic realm="r"'})

        with scripted.serve(answer) as server:
            with regnb.connect(server.url, username="me", password=SECRET, cache=False) as registry:
                found = registry.request("GET", f"/v2/a/blobs/{Digest.of(b'bytes')}")
            assert found.body == b"bytes"
            assert found.exchange.url == f"{server.url}/v2/a/blobs/{Digest.of(b'bytes')}"
            assert "planted" not in shown(found)
            assert all("authorization" not in request.headers for request in elsewhere.requests)
            assert run(found.curl, AUTHORIZATION="Basic x") == b"bytes"
            assert all("authorization" not in request.headers for request in elsewhere.requests)


# Bodies


def answered(body: bytes, kind: str = "application/json", *, whole: bool = True, size: int = 0) -> Answer:
    headers = httpx.Headers({"Content-Type": kind})
    return Answer(Exchange("GET", "http://h/v2/", 200, {}, headers, 0.0, size), body, whole)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"b":[1,2,{"c":null}]}',
        b' \r\n\t{ "a" :\t[ ] }\n',
        b'{"a":1e400,"b":1.10,"c":123456789012345678901234567890,"d":-0.0,"e":1E+2}',
        b'{"b":1,"a":2,"b":3}',
        '{"a":"\\u0041\\/\u00e9\u202e\x7f\U000e0001"}'.encode(),
        b'{"a":"<img src=x onerror=alert(1)>\\u001b[2J"}',
        b'[",{[", "\\"]}"]',
        b'"text"',
        b"[]",
    ],
)
def test_formatted_json_means_the_same(body: bytes) -> None:
    """Only space is added: names in order, doubles, numbers to the last digit, and strings are the same."""

    def read(text: bytes | str) -> object:
        return json.loads(text, object_pairs_hook=list, parse_float=str, parse_int=str)

    text = formatted(body)
    assert text is not None
    assert read(text) == read(body)
    assert text.replace("\n", "").isprintable()
    assert answered(body).text == text


@pytest.mark.parametrize(
    "body",
    [
        nested(9_000),
        nested(200_000),
        b"[" * 900 + b"1," * 1_000_000 + b"1" + b"]" * 900,
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        b"{",
        b'{"a":1}{"b":2}',
        b'"' * 100_001,
        b'{"a":"\x1b[2J"}',
    ],
    ids=["deep", "deeper", "wide", "objects", "cut", "two", "quotes", "control"],
)  # fmt: skip
def test_what_cannot_be_formatted_is_shown_as_it_is(body: bytes) -> None:
    """What is no JSON, or so deep that it would only be indentation, is shown unformatted, and soon."""
    assert formatted(body) is None
    assert answered(body).text == body.decode().replace("\x1b", "\\u001b")


def test_bodies_that_are_no_text() -> None:
    """Bytes are a size, a type and a digest; JSON that is no UTF-8 shows which bytes are wrong."""
    data = b"\x1f\x8b\x08\x00" + bytes(range(256))
    assert answered(data, "application/gzip").text == f"260 bytes of application/gzip, {Digest.of(data)}"
    assert answered(b"\xff\xfe").text.startswith("2 bytes of application/json, sha256:")
    assert answered(b'{"a":"\xff"}').text == '{\n  "a": "\\xff"\n}'
    assert answered(b"").text == ""
    assert answered("<p>\u00e9\u202e".encode(), "text/html").text == "<p>\u00e9\\u202e"


def test_long_bodies_are_cut() -> None:
    """Four MiB are shown as text; of more than sixteen no more is read, and it is said."""
    text = answered(b"a" * (SHOWN + 1), "text/plain").text
    assert len(text) < SHOWN + 200
    assert text.startswith("aaa")
    assert f"{SHOWN + 1:,} bytes of text/plain" in text
    body = bytes(BODY_LIMIT + 10)

    def reply(request: Request, _: int) -> Reply:
        return Reply(body=body if "blobs" in request.path else b"{}")

    with scripted.serve(reply) as server, regnb.connect(server.url, cache=False) as registry:
        answer = registry.request("GET", f"/v2/a/blobs/{Digest.of(body)}")
    assert not answer.whole
    assert answer.body == body[:BODY_LIMIT]
    assert answer.summary == f"{len(body):,} bytes of an unnamed type; only the first {BODY_LIMIT:,} were read"


def test_a_notebook_shows_it_harmlessly() -> None:
    """The cell's HTML has the command, the status and the body, escaped and bounded."""
    html = answered(b'{"a":"<img src=x onerror=alert(1)>"}')._repr_html_()
    assert "<img" not in html
    assert "$ curl -sS http://h/v2/" in html
    assert "HTTP/1.1 200 OK" in html
    assert len(answered(b"a" * 100_000)._repr_html_()) < 25_000


def test_headers_do_not_steer_a_terminal() -> None:
    """What a header holds beside text is written out."""
    received = httpx.Headers([(b"x-odd", "\u009b2J".encode())])
    assert Answer(Exchange("GET", "http://h/v2/", 200, {}, received, 0.0, 0)).head.replace("\n", "").isprintable()


def test_a_request_that_is_not_sent_has_a_command_too() -> None:
    """For what regnb refuses, the user still learns how curl does it."""
    curl = asked("DELETE", "http://h/v2/a/blobs/b", options=("--insecure",), authorized=True).curl
    assert curl == 'curl -sS -X DELETE --insecure -H "Authorization: $AUTHORIZATION" http://h/v2/a/blobs/b'


def test_what_is_read_only_reads() -> None:
    """No method that changes something is among those that are sent."""
    assert sorted(READS) == ["GET", "HEAD", "OPTIONS"]

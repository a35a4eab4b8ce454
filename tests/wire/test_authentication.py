"""Credentials, challenges and tokens, against the real registry and a token server of the test's own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import distribution
import jwt
import pytest
import scripted
import trustme
from clock import Clock
from conftest import need

import regnb
from regnb.errors import Denied, RateLimited, RegnbError, ServerFailed, Unauthorized
from regnb.oci.reference import Digest
from regnb.wire import credentials
from regnb.wire.authentication import parse_challenges
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials, find_credentials
from regnb.wire.transport import Transport

pytestmark = pytest.mark.anyio
SECRET = "pa:ss wörd"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without credentials."""
    folder = tmp_path / "home"
    (folder / ".docker").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return folder


def config(home: Path, **content: object) -> Path:
    path = home / ".docker" / "config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def entry(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


# What docker login stored


@pytest.mark.parametrize("key", ["h:5000", "http://h:5000", "https://h:5000/v1/", "https://h:5000/v2/", "H:5000"])
def test_every_way_to_write_a_host_is_found(home: Path, key: str) -> None:
    """The keys that docker and podman write all mean the same host, and no other."""
    config(home, auths={"other:5000": entry("no", "no"), key: entry("me", SECRET)})
    assert find_credentials("h:5000") == Credentials("me", SECRET)
    assert find_credentials("h:5001") is None


def test_docker_hub_has_many_names(home: Path) -> None:
    """What docker login stores for Docker Hub is found under the name of its registry."""
    config(home, auths={"https://index.docker.io/v1/": entry("me", "x")})
    assert find_credentials("registry-1.docker.io") == Credentials("me", "x")


def test_identity_tokens_are_read(home: Path) -> None:
    """An identity token in the file becomes one in the credentials."""
    config(home, auths={"h": {**entry("me", ""), "identitytoken": "planted"}})
    found = find_credentials("h")
    assert found is not None
    assert found.identity_token == "planted"


def test_the_files_have_an_order(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REGISTRY_AUTH_FILE beats DOCKER_CONFIG beats podman's file, and a file that does not know the host is passed."""
    config(home, auths={"h": entry("home", "x")})
    assert find_credentials("h") == Credentials("home", "x")
    for variable, name in (("XDG_RUNTIME_DIR", "containers/auth.json"), ("DOCKER_CONFIG", "config.json")):
        path = tmp_path / variable / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"auths": {"h": entry(variable, "x")}}), encoding="utf-8")
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert find_credentials("h") == Credentials(variable, "x")
    empty = tmp_path / "empty.json"
    empty.write_text("{}", encoding="utf-8")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(empty))
    assert find_credentials("h") == Credentials("DOCKER_CONFIG", "x")


@pytest.mark.skipif(sys.platform != "linux", reason="podman has another place for it elsewhere")
def test_podman_without_a_runtime_directory(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without XDG_RUNTIME_DIR, as for root, podman and skopeo store a login below /run/containers: it is found."""
    monkeypatch.setattr(credentials, "RUNTIME", tmp_path / "run")
    path = tmp_path / "run" / str(os.getuid()) / "auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {"h": entry("podman", "x")}}), encoding="utf-8")
    config(home, auths={"h": entry("docker", "x")})
    assert find_credentials("h") == Credentials("podman", "x")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert find_credentials("h") == Credentials("docker", "x")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 3}', '{"auths": {"h": {"auth": "planted!"}}}'])
def test_a_malformed_file_is_named(home: Path, text: str) -> None:
    """A file that cannot be read is an error that names it and repeats nothing of what it holds."""
    path = home / ".docker" / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RegnbError, match="config") as caught:
        find_credentials("h")
    assert str(path) in str(caught.value)
    assert "planted" not in str(caught.value)


def test_helpers_beat_the_store_and_the_store_beats_the_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CredHelpers, then credsStore, then auths; the helper reads the host on its stdin and gets no shell."""
    answer = 'read host; printf \'{"Username":"%s","Secret":"for %s"}\' '
    helper(tmp_path / "bin", "one", answer + 'one "$host"', monkeypatch)
    helper(tmp_path / "bin", "two", answer + 'two "$host"', monkeypatch)
    stored = {"h:5000": entry("file", "x")}
    config(home, auths=stored, credsStore="two", credHelpers={"h:5000": "one"})
    assert find_credentials("h:5000") == Credentials("one", "for h:5000")
    config(home, auths=stored, credsStore="two")
    assert find_credentials("h:5000") == Credentials("two", "for h:5000")
    config(home, auths=stored, credsStore="absent; touch /tmp/no")
    assert find_credentials("h:5000") == Credentials("file", "x")


def test_a_helper_may_answer_with_an_identity_token(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user name <token> means that the secret is an identity token."""
    helper(tmp_path / "bin", "fake", 'echo \'{"Username":"<token>","Secret":"planted"}\'', monkeypatch)
    config(home, credHelpers={"h": "fake"})
    assert find_credentials("h") == Credentials(identity_token="planted")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo planted; exit 3", "exit code 3"),
        ("echo planted", "did not answer as"),
        ("exec sleep 60", "did not answer in"),
    ],
)
def test_a_failing_helper_is_an_error(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    """A helper that fails, babbles or hangs is named, without what it printed."""
    monkeypatch.setattr(credentials, "HELPER_TIMEOUT", 0.3)
    helper(tmp_path / "bin", "fake", script, monkeypatch)
    config(home, credHelpers={"h": "fake"})
    with pytest.raises(RegnbError, match=message) as caught:
        find_credentials("h")
    assert "planted" not in str(caught.value)


def test_a_helper_that_knows_nothing_is_no_error(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper's "credentials not found" means anonymous; a helper that is not installed is an error with its name."""
    helper(tmp_path / "bin", "fake", "echo credentials not found in native keychain; exit 1", monkeypatch)
    config(home, credHelpers={"h": "fake", "i": "missing"})
    assert find_credentials("h") is None
    with pytest.raises(RegnbError, match="docker-credential-missing"):
        find_credentials("i")


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("", "host"),
        ("team", "team"),
        ("team/app", "app"),
        ("team/app/x", "app"),
        ("team/other", "team"),
        ("tea", "host"),
    ],
)
def test_the_most_specific_path_wins(home: Path, path: str, user: str) -> None:
    """A login of the repository is used first, then that of its namespace, then that of the host."""
    auths = {
        "h:5000/team": entry("team", "x"),
        "h:5000": entry("host", "x"),
        "https://h:5000/team/app": entry("app", "x"),
    }
    config(home, auths={"h/team": entry("no", "no"), **auths})
    found = find_credentials("h:5000", path)
    assert found == Credentials(user, "x")
    assert found.stored == str(home / ".docker" / "config.json")


def test_a_login_of_a_namespace_is_for_nothing_else(home: Path) -> None:
    """Where only a namespace has a login, the host and other namespaces have none."""
    config(home, auths={"h/team": entry("team", "x")})
    assert find_credentials("h", "team/app") == Credentials("team", "x")
    assert [find_credentials("h", path) for path in ("", "te", "team2/app")] == [None] * 3


def test_folded_base64(home: Path) -> None:
    """An auth that base64(1) has folded into lines is read."""
    folded = base64.encodebytes(b"me:" + b"long" * 40).decode()
    assert "\n" in folded.strip()
    config(home, auths={"h": {"auth": folded}})
    assert find_credentials("h") == Credentials("me", "long" * 40)


def test_a_store_that_is_not_installed_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A credsStore that is not on the PATH is not an error, but the error of a registry that asks names it."""
    file = config(home, auths={"127.0.0.1": {}}, credsStore="desktop")
    monkeypatch.setenv("PATH", str(tmp_path))
    asks = scripted.Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
    with scripted.serve(lambda *_: asks) as server, pytest.raises(Unauthorized, match="there are none") as caught:
        regnb.connect(server.url, cache=False)
    assert f"docker-credential-desktop, which {file} names, is not on the PATH" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ecr-login"),
        ("public.ecr.aws", "ecr-login"),
        ("europe-docker.pkg.dev", "gcloud"),
        ("eu.gcr.io", "gcloud"),
        ("mine.azurecr.io", "acr-env"),
    ],
)
def test_the_helper_of_a_cloud_is_asked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    """A cloud's own helper on the PATH is asked for the cloud's hosts only, and what is stored wins over it."""
    helper(tmp_path / "bin", name, 'read host; printf \'{"Username":"cloud","Secret":"for %s"}\' "$host"', monkeypatch)
    assert find_credentials(host) == Credentials("cloud", f"for {host}")
    assert find_credentials(f"{host}.example.org") is None
    config(home, auths={host: entry("me", "x")})
    assert find_credentials(host) == Credentials("me", "x")


def test_a_cloud_helper_that_fails_is_no_error_yet(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud's helper that nobody configured and that fails leaves the registry to be read without a login."""
    helper(tmp_path / "bin", "ecr-login", "echo planted; exit 1", monkeypatch)
    logins = credentials.Logins("public.ecr.aws")
    assert logins.find() is None
    assert ["docker-credential-ecr-login" in each for each in logins.missing] == [True]
    assert "planted" not in repr(logins.missing)


def test_no_repr_shows_a_secret() -> None:
    """Neither credentials nor a transport that has them print them."""
    shown = repr(Credentials("me", "planted", "planted")) + repr(Transport("http://me:planted@localhost:1"))
    assert "planted" not in shown
    assert "me" in shown


# Challenges


def test_quoted_values_hold_commas_and_spaces() -> None:
    """The scope of a mount, escapes, token68 and several challenges in one header are read as RFC 9110 says."""
    header = (
        'Bearer realm="https://a/t?x=1,2",service="s \\"q\\"",scope="repository:dst:pull,push repository:src:pull", '
        'error=insufficient_scope, Negotiate YII=, Basic realm="x"'
    )
    bearer, negotiate, basic = parse_challenges(header)
    assert bearer.parameters == {
        "realm": "https://a/t?x=1,2",
        "service": 's "q"',
        "scope": "repository:dst:pull,push repository:src:pull",
        "error": "insufficient_scope",
    }
    assert (negotiate.scheme, basic.scheme, basic.parameters) == ("negotiate", "basic", {"realm": "x"})
    assert parse_challenges('=, "broken') == []


# Basic, on the real registry


@pytest.fixture
def locked(distribution_program: None, tmp_path: Path) -> Iterator[distribution.Distribution]:
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, check=True).stdout)
    settings = {"auth": {"htpasswd": {"realm": "a realm, with a comma", "path": str(passwords)}}}
    with distribution.Distribution(tmp_path / "locked", config=settings) as registry:
        yield registry


async def test_basic(locked: distribution.Distribution) -> None:
    """The right password is accepted, and after the first challenge sent without waiting for another."""
    async with Client(Transport(locked.url, credentials=Credentials("me", SECRET))) as client:
        assert (await client.ping()).authenticated
        before = client.transport.sent
        assert [page async for page in client.catalog()] == [[]]
        await client.upload_blob("a", b"x", Digest.of(b"x"))
        assert client.transport.sent == before + 3
        assert SECRET not in repr([(each, each.curl) for each in client.transport.exchanges])


async def test_wrong_or_no_password(locked: distribution.Distribution) -> None:
    """Without credentials, and with wrong ones, it is Unauthorized after one retry, and the hint differs by case."""
    async with Client(Transport(locked.url)) as client:
        with pytest.raises(Unauthorized, match="there are none"):
            await client.ping()
        assert client.transport.sent == 1
    async with Client(Transport(locked.url, credentials=Credentials("me", "planted"))) as client:
        with pytest.raises(Unauthorized, match="does not accept these") as caught:
            await client.ping()
        assert client.transport.sent == 2
        assert "planted" not in str(caught.value)


def test_connect_uses_what_docker_login_stored(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: distribution.Distribution
) -> None:
    """Without credentials of its own, connect answers a challenge with the stored ones; given ones win over them."""
    config(home, auths={locked.host: entry("me", SECRET)})
    with regnb.connect(locked.url, cache=False) as registry:
        assert registry.catalog().empty
    with pytest.raises(Unauthorized, match="does not accept these"):
        regnb.connect(locked.url, username="me", password="planted", cache=False)
    answer = json.dumps({"Username": "me", "Secret": SECRET})
    helper(tmp_path / "bin", "works", f"cat > {tmp_path}/asked; echo '{answer}'", monkeypatch)
    config(home, credsStore="works")
    with regnb.connect(locked.url, cache=False):
        assert (tmp_path / "asked").read_text(encoding="utf-8") == locked.host


def test_no_helper_is_asked_where_no_credentials_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: distribution.Distribution
) -> None:
    """A broken credential helper, or a broken config.json, is not an obstacle to a registry that lets everyone in."""
    helper(tmp_path / "bin", "broken", "exit 1", monkeypatch)
    config(home, credsStore="broken")
    with regnb.connect(real.url, cache=False) as registry:
        assert registry.catalog().empty


# Tokens, which the real registry verifies


class Issuer:
    """A token server: it knows one user, grants what ``rights`` says, and signs as the registry expects."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("token.localhost")
        self.key = leaf.private_key_pem.bytes()
        chain = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
        self.chain = [base64.b64encode(chain).decode()]
        self.bundle = folder / "issuer.pem"
        authority.cert_pem.write_to_path(str(self.bundle))
        self.rights = {"pull", "push", "delete", "*"}
        self.seconds = 300
        self.scopes: list[list[str]] = []

    def __call__(self, request: scripted.Request, _: int) -> scripted.Reply:
        form = parse_qs(request.body.decode() if request.method == "POST" else urlsplit(request.path).query)
        given = request.headers.get("authorization")
        basic = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
        if request.method == "POST":
            if form["refresh_token"] != ["identity"] or form["grant_type"] != ["refresh_token"]:
                return scripted.Reply(401)
        elif given not in (None, basic):
            return scripted.Reply(401)
        scopes = [scope for value in form.get("scope", []) for scope in value.split()]
        self.scopes.append(scopes)
        rights = {"pull"} if given is None and request.method == "GET" else self.rights
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": sorted(set(actions.split(",")) & rights)})
        now = int(time.time())
        claims = {"iss": "issuer", "aud": form["service"][0], "sub": "me", "jti": str(now), "access": access}
        claims |= {"iat": now, "nbf": now - 5, "exp": now + 300}
        token = jwt.encode(claims, self.key, algorithm="ES256", headers={"x5c": self.chain})
        return scripted.Reply(body=json.dumps({"token": token, "expires_in": self.seconds}).encode())


Tokens = tuple[distribution.Distribution, Issuer, scripted.Server]


@pytest.fixture
def tokens(distribution_program: None, tmp_path: Path) -> Iterator[Tokens]:
    issuer = Issuer(tmp_path)
    with scripted.serve(issuer) as server:
        settings = {"realm": f"{server.url}/token", "service": "a service, quoted", "issuer": "issuer"}
        token = {"auth": {"token": {**settings, "rootcertbundle": str(issuer.bundle)}}}
        with distribution.Distribution(tmp_path / "tokens", config=token) as registry:
            yield registry, issuer, server


async def test_a_token_for_each_set_of_scopes(tokens: Tokens) -> None:
    """Push, mount across repositories, catalog and delete each ask for their own scope, once, and are allowed."""
    registry, issuer, _ = tokens
    digest = Digest.of(b"x")
    async with Client(Transport(registry.url, credentials=Credentials("me", SECRET))) as client:
        await client.upload_blob("src", b"x", digest)
        assert await client.mount("dst", digest, "src") is None
        assert await client.mount("dst", digest, "src") is None
        assert [page async for page in client.catalog()] == [["dst", "src"]]
        await client.delete_blob("dst", digest)
    assert issuer.scopes == [
        ["repository:src:pull,push"],
        ["repository:dst:pull,push", "repository:src:pull"],
        ["registry:catalog:*"],
        ["repository:dst:delete"],
    ]


async def test_too_little_scope_is_denied(tokens: Tokens) -> None:
    """Who may pull and tries to push is Denied, although the registry says 401; anonymously it is Unauthorized."""
    registry, issuer, _ = tokens
    issuer.rights = {"pull"}
    async with Client(Transport(registry.url, credentials=Credentials("me", SECRET))) as client:
        assert not await client.blob_present("a", Digest.of(b"x"))
        with pytest.raises(Denied, match="does not allow this to me"):
            await client.uploads.start_upload("a")
    async with Client(Transport(registry.url)) as client:
        assert not await client.blob_present("a", Digest.of(b"x"))
        with pytest.raises(Unauthorized, match="anonymously"):
            await client.uploads.start_upload("a")


async def test_wrong_password_at_the_token_server(tokens: Tokens) -> None:
    """A token server that refuses the password is Unauthorized."""
    async with Client(Transport(tokens[0].url, credentials=Credentials("me", "planted"))) as client:
        with pytest.raises(Unauthorized, match="token server"):
            await client.ping()


async def test_a_token_is_renewed_before_it_expires(tokens: Tokens) -> None:
    """A token is used until nine tenths of its time are over; then a new one is fetched without a 401 in between."""
    registry, issuer, _ = tokens
    issuer.seconds = 100
    with Clock() as clock:
        client = Client(Transport(registry.url, credentials=Credentials("me", SECRET)))
    async with client:
        await client.ping()
        await client.ping()
        assert len(issuer.scopes) == 1
        clock.forward(95)
        await client.ping()
        assert len(issuer.scopes) == 2
        answers = [each.status for each in client.transport.exchanges if each.url.startswith(registry.url)]
        assert answers == [401, 200, 200, 200]


async def test_identity_tokens_are_exchanged(tokens: Tokens) -> None:
    """An identity token is posted to the token server as a refresh token, and never sent to the registry."""
    registry, _, server = tokens
    async with Client(Transport(registry.url, credentials=Credentials(identity_token="identity"))) as client:
        await client.upload_blob("a", b"x", Digest.of(b"x"))
        assert "identity" not in repr([each.curl for each in client.transport.exchanges])
    assert [each.method for each in server.requests] == ["POST"]


async def test_a_realm_in_plain_http_is_refused_for_https(
    tmp_path: Path, distribution_program: None, tokens: Tokens
) -> None:
    """A registry behind TLS that names a token server without TLS gets no credentials sent there."""
    _, issuer, server = tokens
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    token = {"realm": f"{server.url}/token", "service": "s", "issuer": "issuer", "rootcertbundle": str(issuer.bundle)}
    tls = {"tls": {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}}
    before = len(server.requests)
    with distribution.Distribution(tmp_path / "tls", config={"auth": {"token": token}, "http": tls}) as registry:
        transport = Transport(registry.url, credentials=Credentials("me", SECRET), insecure=True)
        async with Client(transport) as client:
            with pytest.raises(Unauthorized, match="plain http"):
                await client.ping()
    assert len(server.requests) == before


Answer = Callable[[scripted.Request, int], scripted.Reply]


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "http://me:pw@127.0.0.1/", "http://[bad"])
async def test_a_realm_that_is_none(realm: str) -> None:
    """A challenge without a usable token server is one clear error."""
    challenge = scripted.Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})
    with scripted.serve(lambda *_: challenge) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(RegnbError, match="no usable token server"):
                await client.ping()


@pytest.mark.parametrize(
    "body",
    [
        b'{"token": "t", "expires_in": "300"}',
        b'{"access_token": "t", "token": null}',
        b'{"token": "t", "expires_in": 0}',
        b'{"token": "t", "expires_in": null, "access_token": null, "refresh_token": null}',
        b'{"token": "t", "expires_in": "soon", "refresh_token": 7}',
        b'{"token": "t", "expires_in": 1e300, "issued_at": 3}',
    ],
)
async def test_what_token_servers_answer_beside_the_token(body: bytes) -> None:
    """The seconds as text or none, a null where there is no value: the token is used all the same."""

    def answer(request: scripted.Request, _: int) -> scripted.Reply:
        if request.path.startswith("/token"):
            return scripted.Reply(body=body)
        if request.headers.get("authorization") == "Bearer t":
            return scripted.Reply()
        return scripted.Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{request.headers["host"]}/token"'})

    with scripted.serve(answer) as server:
        async with Client(Transport(server.url)) as client:
            await client.ping()
            assert client.transport.exchanges[-1].status == 200


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"token": "a\\r\\nX-Evil: 1"}', b'{"token": 3}'])
async def test_a_token_server_that_gives_no_token(body: bytes) -> None:
    """Whatever is not a token, or would smuggle a header, is refused."""

    def answer(request: scripted.Request, _: int) -> scripted.Reply:
        if request.path.startswith("/token"):
            return scripted.Reply(body=body)
        realm = f"http://{request.headers['host']}/token"
        return scripted.Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})

    with scripted.serve(answer) as server:
        async with Client(Transport(server.url)) as client:
            with pytest.raises(RegnbError, match="gave no token"):
                await client.ping()


# Token servers as they are


class TokenServer:
    """A registry and its token server in one; ``give`` says what is answered to which scope and Authorization."""

    def __init__(self, give: Callable[[list[str], str], scripted.Reply], *, scope: str = "") -> None:
        self.give, self.scope = give, scope

    def __call__(self, request: scripted.Request, _: int) -> scripted.Reply:
        authorization = request.headers.get("authorization", "")
        if request.path.startswith("/token"):
            return self.give(parse_qs(urlsplit(request.path).query).get("scope", []), authorization)
        if authorization == "Bearer good":
            return scripted.Reply(body=b'{"name":"team/app","tags":["v1"]}')
        placeholder = f',scope="{self.scope}"' if request.path == "/v2/" and self.scope else ""
        realm = f"http://{request.headers['host']}/token"
        return scripted.Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"{placeholder}'})


GOOD = scripted.Reply(body=b'{"token":"good"}')
REFUSED = scripted.Reply(403, body=b'{"errors":[{"code":"DENIED"}]}')


@pytest.mark.parametrize("status", [401, 403])
async def test_a_placeholder_scope(home: Path, status: int) -> None:
    """A token server that refuses the scope that /v2/ names keeps nobody from a repository that may be read."""
    readable = ["repository:team/app:pull"]
    refused = scripted.Reply(status)
    config(home, auths={})
    registry = TokenServer(lambda scope, _: GOOD if scope == readable else refused, scope="repository:user/image:pull")
    with scripted.serve(registry) as server:
        async with Client(Transport(server.url)) as client:
            if status == 401:  # there is no login that could be valid for something else
                with pytest.raises(Unauthorized, match="gives nothing anonymously"):
                    await client.ping()
            else:
                assert "refuses repository:user/image:pull" in (await client.ping()).reserved
            assert [page async for page in client.tags("team/app")] == [["v1"]]


async def test_a_challenge_without_a_service() -> None:
    """Where the challenge names no service, none is sent to the token server, not even an empty one."""
    with scripted.serve(TokenServer(lambda *_: GOOD)) as server:
        async with Client(Transport(server.url)) as client:
            await client.ping()
            assert [page async for page in client.tags("team/app")] == [["v1"]]
    asked = [each.path for each in server.requests if each.path.startswith("/token")]
    assert asked == ["/token", "/token?scope=repository%3Ateam%2Fapp%3Apull"]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_token_server_that_is_busy_is_asked_again(status: int) -> None:
    """One 429 or 503 of the token server is waited for, also before a write, and does not slow the registry down."""
    answers = [scripted.Reply(status, {"Retry-After": "0"}), GOOD]
    with scripted.serve(TokenServer(lambda *_: answers.pop(0) if len(answers) > 1 else GOOD)) as server:
        async with Client(Transport(server.url)) as client:
            before = client.pace.limit
            await client.delete_blob("team/app", Digest.of(b"x"))
            assert not client.pace.refused
            assert client.pace.limit == before
    assert [each.path.partition("?")[0] for each in server.requests][-3:] == [
        "/token",
        "/token",
        server.requests[0].path,
    ]


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimited), (500, ServerFailed)])
async def test_a_token_server_that_stays_busy_is_an_error(status: int, kind: type[RegnbError]) -> None:
    """A token server that never gives a token is the error, with its status and its name."""
    with scripted.serve(TokenServer(lambda *_: scripted.Reply(status, {"Retry-After": "0"}))) as server:
        async with Client(Transport(server.url, retries=0)) as client:
            with pytest.raises(kind, match=f"the token server {server.host} answers {status}"):
                await client.ping()


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("public", [False, True])
def test_a_stale_login(home: Path, status: int, *, public: bool) -> None:
    """A stored login that is refused is the error, with its file; what can be read without it is said to be so."""
    registry = TokenServer(lambda _, given: scripted.Reply(status) if given or not public else GOOD)
    with scripted.serve(registry) as server:
        file = config(home, auths={server.host: entry("old", "planted")})
        with regnb.connect(server.url, cache=False) as connected, pytest.raises(RegnbError) as caught:
            connected.tag_names("team/app")
    said = str(caught.value)
    assert f"the login stored in {file}" in said
    assert ("without it this can be read; run docker logout" in said) == public
    assert f"docker login {server.host}" in said
    assert "planted" not in said


def test_a_login_that_was_given_is_not_tried_without(home: Path) -> None:
    """Credentials that the user gave and that are refused are an error at once: nobody asks anonymously."""
    registry = TokenServer(lambda _, given: scripted.Reply(401) if given else GOOD)
    refused = pytest.raises(Unauthorized, match="does not accept these credentials")
    with scripted.serve(registry) as server, refused:
        regnb.connect(server.url, username="me", password="planted", cache=False)
    asked = [each for each in server.requests if each.path.startswith("/token")]
    assert all("authorization" in each.headers for each in asked)

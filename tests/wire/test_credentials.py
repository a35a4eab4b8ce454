"""Credentials stay home: whatever a registry, a proxy or a user says, they reach the registry that they are for alone.

Every server here writes down what it was sent. A test that plants a login for one of them looks for it, and for the
token that it was exchanged for, in all that the others got.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import scripted
import trustme
from images import regnb
from scripted import Reply, Request, Server

from regnb.environment import environment
from regnb.errors import RegnbError
from regnb.oci.reference import Digest
from regnb.registry import connect
from regnb.wire.client import Client
from regnb.wire.transport import Transport

USER, PASSWORD, TOKEN, IDENTITY = "planted-user", "planted-password", "planted-token", "planted-identity"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, BASIC, TOKEN, IDENTITY)
BLOB = Digest.of(b"blob")
Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers; each answers as it is told."""
    with ExitStack() as stack:

        def start(answer: Callable[[Request], Reply], tls: ssl.SSLContext | None = None) -> Server:
            return stack.enter_context(scripted.serve(lambda request, _: answer(request), tls))

        yield start


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Write what ``docker login`` stored; without that nothing is stored."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("URL", "USER", "PASSWORD"):
        monkeypatch.delenv(f"REGNB_{name}", raising=False)

    def write(auths: dict[str, Any]) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}), encoding="utf-8")

    return write


def locked(request: Request) -> Reply:
    """A registry that wants a password, and takes every one."""
    if "authorization" in request.headers:
        return Reply(headers={"Docker-Distribution-Api-Version": "registry/2.0"}, body=b'{"repositories":["a"]}')
    return Reply(401, {"WWW-Authenticate": 'Basic realm="planted"'})


def got(server: Server) -> str:
    """All that a server was sent."""
    return repr([(each.path, each.headers, each.body) for each in server.requests])


def assert_nothing_got(server: Server, *, asked: bool = True) -> None:
    assert bool(server.requests) == asked, "nothing was proven: it was not even asked"
    found = got(server)
    assert not [secret for secret in SECRETS if secret in found], found


def connected(url: str, **options: Any) -> None:
    """Connect, read, and let go of it, whatever comes."""
    said = ""
    try:
        with connect(url, cache=False, **options) as registry:
            registry.catalog()
            said = registry.request("GET", f"/v2/a/blobs/{BLOB}").curl
    except RegnbError as error:
        said = str(error)
    assert not [secret for secret in SECRETS if secret in said]


# REGNB_USER and REGNB_PASSWORD


@pytest.fixture
def mine(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The registry at REGNB_URL, whose user and password are in the environment."""
    server = serve(locked)
    for name, value in {"URL": server.url, "USER": USER, "PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(f"REGNB_{name}", value)
    return server


def test_the_registry_of_the_environment_gets_its_credentials(mine: Server) -> None:
    """The registry at REGNB_URL gets them, so that the tests below prove something."""
    connected(mine.url)
    assert BASIC in got(mine)
    mine.requests.clear()
    connected("")
    assert BASIC in got(mine)


def test_another_path_of_the_host_gets_no_credentials_of_the_environment(
    mine: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry below another path of the host of REGNB_URL is another registry: it gets nothing."""
    monkeypatch.setenv("REGNB_URL", f"{mine.url}/team")
    connected(f"{mine.url}/team")
    assert BASIC in got(mine)
    mine.requests.clear()
    for other in (f"{mine.url}/other", f"{mine.url}/tea", f"{mine.url}/team/more", mine.url):
        connected(other)
    assert_nothing_got(mine)


@pytest.mark.parametrize("written", ["{url}", "{host}", "{url}/v2/", "http://localhost:{port}", "http://x@{host}"])
def test_another_registry_gets_no_credentials_of_the_environment(mine: Server, serve: Serve, written: str) -> None:
    """However its URL is written, a registry on another port of the same machine gets nothing."""
    other = serve(locked)
    connected(written.format(url=other.url, host=other.host, port=other.host.partition(":")[2]))
    assert_nothing_got(other)
    assert not mine.requests


def test_the_same_port_by_another_name_or_scheme(mine: Server) -> None:
    """Another name for the host, or another scheme, is another registry: who set REGNB_URL did not mean it."""
    connected(mine.url.replace("127.0.0.1", "localhost"))
    assert_nothing_got(mine)
    mine.requests.clear()
    connected(mine.url.replace("http:", "https:"), insecure=True)
    assert_nothing_got(mine, asked=bool(mine.requests))


def test_credentials_without_a_registry_are_for_none(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """REGNB_USER and REGNB_PASSWORD without REGNB_URL are sent nowhere."""
    other = serve(locked)
    monkeypatch.setenv("REGNB_USER", USER)
    monkeypatch.setenv("REGNB_PASSWORD", PASSWORD)
    connected(other.url)
    assert_nothing_got(other)


def test_a_user_alone_takes_no_password_along(mine: Server, serve: Serve) -> None:
    """A user name that is given in Python is not completed by the environment's password."""
    other = serve(locked)
    connected(other.url, username=USER)
    assert_nothing_got(other)


@pytest.mark.parametrize("name", ["CA_BUNDLE", "CLIENT_CERT"])
def test_certificates_of_the_environment_are_the_registrys_too(
    mine: Server, serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A private authority or a client certificate of REGNB_URL is not even read for another registry."""
    other = serve(locked)
    monkeypatch.setenv(f"REGNB_{name}", "/nonexistent")
    with pytest.raises(RegnbError, match="certificate"):
        connect(mine.url, cache=False)
    connected(other.url)
    assert_nothing_got(other)


def test_a_kernel_for_another_registry_gets_no_credentials(mine: Server, serve: Serve) -> None:
    """The environment of a notebook about another registry holds nothing of this one's."""
    other = serve(locked)
    found = environment(other.url)
    assert not [name for name, value in found.items() if value in {USER, PASSWORD, mine.url}]
    assert environment(mine.url)["REGNB_PASSWORD"] == PASSWORD


@pytest.mark.parametrize("command", ["catalog {other}", "copy {home} a:1 --to b --from {other}"])
def test_the_command_line_sends_them_home_only(mine: Server, serve: Serve, tmp_path: Path, command: str) -> None:
    """Neither another registry, nor one that is copied from, gets the credentials of REGNB_URL."""
    other = serve(locked)
    env = {"REGNB_URL": mine.url, "REGNB_USER": USER, "REGNB_PASSWORD": PASSWORD}
    done = regnb(tmp_path, *command.format(home=mine.url, other=other.url).split(), **env)
    assert done.returncode == 1
    assert PASSWORD not in done.stdout + done.stderr
    assert_nothing_got(other)


# What docker login stored


@pytest.mark.parametrize(
    "key", ["{host}", "http://{host}", "https://{host}/v2/", "{host}1", "{host}/team", "x.{host}", "{name}", ""]
)
def test_a_stored_login_is_for_its_host(serve: Serve, docker: Callable[[dict[str, Any]], None], key: str) -> None:
    """A login that was stored for a host and port is sent to no other port, and not to a name that only begins so."""
    mine, other = serve(locked), serve(locked)
    name = mine.host.partition(":")[0]
    docker({key.format(host=mine.host, name=name): {"auth": BASIC}})
    connected(other.url)
    assert_nothing_got(other)
    connected(mine.url)
    assert (BASIC in got(mine)) == (key in {"{host}", "http://{host}", "https://{host}/v2/"})


def test_a_login_of_a_namespace_goes_with_its_requests_only(
    serve: Serve, docker: Callable[[dict[str, Any]], None]
) -> None:
    """Of two logins on one host each is sent with requests for its own namespace, and neither with anything else."""
    mine = serve(locked)
    other = base64.b64encode(b"other:planted-other").decode()
    docker({f"{mine.host}/team": {"auth": BASIC}, f"{mine.host}/other/app": {"auth": other}})

    async def read() -> None:
        async with Client(Transport(mine.url, stored=True)) as client:
            for repository in ("team/a", "other/app", "team/a", "teams/a", "other/b"):
                with suppress(RegnbError):
                    await client.head_blob(repository, BLOB)
            with suppress(RegnbError):
                _ = [page async for page in client.catalog()]

    anyio.run(read)
    sent = {
        (each.path.split("/")[2], each.headers["authorization"])
        for each in mine.requests
        if "authorization" in each.headers
    }
    assert sent == {("team", f"Basic {BASIC}"), ("other", f"Basic {other}")}
    assert {each.path for each in mine.requests if other in repr(each)} == {f"/v2/other/app/blobs/{BLOB}"}


# Tokens, and the servers that give them


class Guarded:
    """A registry with a token server; what it answers on a path is for the test to say."""

    def __init__(self, serve: Serve, docker: Callable[[dict[str, Any]], None], **login: str) -> None:
        self.issuer = serve(lambda _: self.issued)
        self.registry = serve(self.answer)
        self.on, self.away = "none", locked
        self.issued = Reply(body=json.dumps({"token": TOKEN}).encode())
        docker({self.registry.host: login or {"auth": BASIC}})

    def answer(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{self.issuer.url}/token",service="s"'})
        return self.away(request) if self.on in request.path else Reply(body=b'{"repositories":[]}')

    def read(self) -> None:
        connected(self.registry.url)


@pytest.fixture
def guarded(serve: Serve, docker: Callable[[dict[str, Any]], None]) -> Guarded:
    return Guarded(serve, docker)


def test_a_password_is_for_the_token_server_and_a_token_for_the_registry(guarded: Guarded) -> None:
    """The token server gets the password and the registry the token; neither gets the other's."""
    guarded.read()
    assert BASIC in got(guarded.issuer)
    assert TOKEN not in got(guarded.issuer)
    assert TOKEN in got(guarded.registry)
    assert BASIC not in got(guarded.registry)


def test_an_identity_token_is_for_the_token_server(serve: Serve, docker: Callable[[dict[str, Any]], None]) -> None:
    """An identity token goes into the body of a POST to the token server, and to no one else."""
    guarded = Guarded(serve, docker, auth=base64.b64encode(f"{USER}:".encode()).decode(), identitytoken=IDENTITY)
    guarded.read()
    assert IDENTITY in got(guarded.issuer)
    assert IDENTITY not in got(guarded.registry)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("identity", [False, True])
def test_a_token_server_that_redirects(
    serve: Serve, docker: Callable[[dict[str, Any]], None], status: int, *, identity: bool
) -> None:
    """A token server that sends regnb elsewhere gets it nowhere: the password would be for whoever is there."""
    login = {"auth": BASIC, **({"identitytoken": IDENTITY} if identity else {})}
    guarded, elsewhere = Guarded(serve, docker, **login), serve(locked)
    guarded.issued = Reply(status, {"Location": f"{elsewhere.url}/token"})
    guarded.read()
    assert guarded.issuer.requests
    assert not elsewhere.requests


def test_a_registry_without_a_login_asks_anothers_token_server(guarded: Guarded, serve: Serve) -> None:
    """Another registry that names the token server of ours gets a token for nobody."""
    realm = f'Bearer realm="{guarded.issuer.url}/token",service="s"'
    thief = serve(lambda _: Reply(401, {"WWW-Authenticate": realm}))
    guarded.issued = Reply(body=b'{"token": "anonymous"}')
    connected(thief.url)
    assert guarded.issuer.requests
    assert_nothing_got(guarded.issuer)
    assert_nothing_got(thief)


# Where a registry leads


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def asks(request: Request) -> Reply:
    """Ask for a password, in every way that there is."""
    return Reply(401, {"WWW-Authenticate": f'Basic realm="x", Bearer realm="http://{request.headers["host"]}/t"'})


ELSEWHERE = ("{url}/x", "//{host}/x", "http://{home}@{host}/x", "http://me:pw@{host}/x", "http://localhost:{port}/x")
LOGINS = pytest.mark.parametrize("login", ["password", "token"])


def leading(
    login: str,
    serve: Serve,
    docker: Callable[[dict[str, Any]], None],
    away: Callable[[Request], Reply],
    on: str = "/blobs/",
) -> Server:
    """A registry that answers on some path as it is told, after a password or a token."""
    if login == "token":
        guarded = Guarded(serve, docker)
        guarded.on, guarded.away = on, away
        return guarded.registry

    def answer(request: Request) -> Reply:
        found = locked(request)
        return away(request) if found.status == 200 and on in request.path else found

    server = serve(answer)
    docker({server.host: {"auth": BASIC}})
    return server


def places(other: Server, mine: Server) -> dict[str, str]:
    """What a Location may be made of."""
    return {"url": other.url, "host": other.host, "port": other.host.partition(":")[2], "home": mine.host}


@LOGINS
@pytest.mark.parametrize("location", ELSEWHERE)
def test_a_redirect_elsewhere(
    serve: Serve, docker: Callable[[dict[str, Any]], None], login: str, location: str
) -> None:
    """Another port, the same port's other name, or a URL that only looks like home gets neither password nor token."""
    other = serve(asks)
    led = Reply(307)
    mine = leading(login, serve, docker, lambda _: led)
    led.headers["Location"] = location.format(**places(other, mine))
    connected(mine.url)
    assert_nothing_got(other)


@pytest.mark.parametrize("location", ["/other/v2/", "/team/../other/v2/", "/team/%2e%2e/other/v2/", "/teams/v2/"])
def test_a_redirect_to_another_path_of_the_host(
    serve: Serve, docker: Callable[[dict[str, Any]], None], location: str
) -> None:
    """A registry below a path that leads to another path of its host does not send the login there."""

    def answer(request: Request) -> Reply:
        if "/blobs/" in request.path and "authorization" in request.headers:
            return Reply(307, {"Location": location})
        return locked(request)

    mine = serve(answer)
    docker({mine.host: {"auth": BASIC}})
    connected(f"{mine.url}/team")
    away = [each for each in mine.requests if not each.path.startswith("/team/v2/")]
    assert away
    assert not [each for each in away if "authorization" in each.headers]


def test_logins_below_a_path(serve: Serve, docker: Callable[[dict[str, Any]], None]) -> None:
    """The login of a registry below a path is that of the path, not that of another path of its host."""
    mine = serve(locked)
    other = base64.b64encode(b"other:planted-other").decode()
    docker({f"{mine.host}/other": {"auth": other}, f"{mine.url}/team/v2/": {"auth": BASIC}})
    connected(f"{mine.url}/team")
    assert BASIC in got(mine)
    assert other not in got(mine)


@LOGINS
def test_a_redirect_to_https_of_the_same_host(
    serve: Serve, docker: Callable[[dict[str, Any]], None], login: str, tls: ssl.SSLContext
) -> None:
    """From http to https is another origin, too: who answers there may be someone else."""
    secure = serve(asks, tls)
    mine = leading(login, serve, docker, lambda _: Reply(308, {"Location": f"{secure.url}/x"}))
    connected(mine.url, insecure=True)
    assert_nothing_got(secure)


@LOGINS
def test_a_redirect_away_and_back(serve: Serve, docker: Callable[[dict[str, Any]], None], login: str) -> None:
    """What leads away and back to the registry is answered at home as ever, and between there gets nothing."""
    where = [""]
    other = serve(lambda _: Reply(307, {"Location": where[0]}))
    mine = leading(login, serve, docker, lambda _: Reply(307, {"Location": f"{other.url}/x"}))
    where[0] = f"{mine.url}/v2/back"
    connected(mine.url)
    assert_nothing_got(other)
    (back,) = [each for each in mine.requests if each.path == "/v2/back"]
    assert "authorization" in back.headers


@LOGINS
def test_a_location_with_a_user_at_home(serve: Serve, docker: Callable[[dict[str, Any]], None], login: str) -> None:
    """A user name that the registry writes into its own Location changes nobody's login, and is not a traceback."""
    where = [""]
    mine = leading(login, serve, docker, lambda _: Reply(307, {"Location": where[0]}))
    where[0] = mine.url.replace("://", "://evil:pw@") + "/v2/back"
    connected(mine.url)
    back = [each for each in mine.requests if each.path == "/v2/back"]
    assert [each.headers["authorization"] for each in back] == [mine.requests[-2].headers["authorization"]]


@LOGINS
@pytest.mark.parametrize("location", ELSEWHERE)
def test_a_next_page_elsewhere(
    serve: Serve, docker: Callable[[dict[str, Any]], None], login: str, location: str
) -> None:
    """A Link that leads to another origin is not followed at all."""
    other = serve(locked)
    page = Reply(body=b'{"repositories":["a"]}')
    mine = leading(login, serve, docker, lambda _: page, on="_catalog")
    page.headers["Link"] = f'<{location.format(**places(other, mine))}?last=a>; rel="next"'
    connected(mine.url)
    assert not other.requests


@LOGINS
@pytest.mark.parametrize("location", ELSEWHERE)
def test_an_upload_elsewhere(serve: Serve, docker: Callable[[dict[str, Any]], None], login: str, location: str) -> None:
    """A registry that sends an upload to a bucket does not send the login with it."""
    other = serve(asks)
    begun = Reply(202)
    mine = leading(login, serve, docker, lambda _: begun, on="/uploads/")
    begun.headers["Location"] = location.format(**places(other, mine))

    async def upload() -> None:
        async with Client(Transport(mine.url, stored=True)) as client:
            await client.upload_blob("a", b"blob", BLOB)

    with pytest.raises(RegnbError) as caught:
        anyio.run(upload)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    assert_nothing_got(other)

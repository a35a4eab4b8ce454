"""What is reachable, with Debian's nginx as the Ingress, Debian's docker-registry behind it, and a page as the UI."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reverse
import scripted
import trustme
from browser import Site
from conftest import Seeded, need
from distribution import Distribution, free_port
from proxied import litter
from scripted import Reply, Request

import regnb
from regnb.cluster.reach import check
from regnb.errors import InvalidArgument, InvalidReference

SECRET = "planted-password"
HERE = "127.0.0.1"
NEW = "team/new"
"""A repository that is not there."""
UPLOAD = "upload of 2.0 MB"


def page(request: Request, _: int) -> Reply:
    """A UI: its page, its health, and a WebSocket."""
    if request.path == "/ui/socket":
        if request.headers.get("upgrade") != "websocket":
            return Reply(426)
        key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        proof = b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest()).decode()
        return Reply(101, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": proof})
    if request.path == "/ui/":
        return Reply(200, {"Content-Type": "text/html"}, b"<!doctype html><title>regnb</title>")
    return Reply(200, {"Content-Type": "text/plain"}, b"ok") if request.path == "/ui/healthz" else Reply(404)


@pytest.fixture
def ui() -> Iterator[scripted.Server]:
    with scripted.serve(page) as server:
        yield server


@pytest.fixture
def routes(proxy_program: None, real: Distribution, ui: scripted.Server) -> dict[str, str]:
    """As the Ingress has them."""
    return {"/v2": real.host, "/ui": ui.host}


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    found = trustme.CA()
    found.cert_pem.write_to_path(tmp_path / "authority.pem")
    return found


def rows(found: reverse.Found | None = None, *, host: str = HERE, **more: Any) -> dict[str, tuple[str, str, str]]:
    """Check: state, what was found, and a hint."""
    ports = {} if found is None else {"http_port": found.http_port, "https_port": found.https_port or free_port()}
    frame = check(host, **{"size": "2MB", "repository": NEW, "timeout": 5, **ports, **more})
    assert [*frame.columns] == ["check", "state", "found", "hint"]
    assert {*frame["state"]} <= {"ok", "warn", "fail", "skipped"}
    assert all(row.hint for row in frame.itertuples() if row.state in ("fail", "warn")), "a hint for each failure"
    return {row.check: (row.state, row.found, row.hint) for row in frame.itertuples()}


def states(found: dict[str, tuple[str, str, str]]) -> dict[str, str]:
    return {name: state for name, (state, _, _) in found.items()}


def methods(log: Path) -> set[str]:
    """The methods of the requests that nginx saw."""
    return {line.partition('"')[2].partition(" ")[0] for line in log.read_text(encoding="utf-8").splitlines()}


def test_plain_http(routes: dict[str, str], real: Distribution, tmp_path: Path) -> None:
    """All is reachable but https, which is worth a warning; the upload left nothing on the disk."""
    with reverse.nginx(tmp_path / "nginx", routes) as proxy:
        found = rows(proxy)
    assert states(found) == {
        "registry over http": "ok", "registry over https": "warn", "UI": "ok", "UI's health": "ok",
        "UI's WebSocket": "ok", "uploads' address": "ok", UPLOAD: "ok",
    }  # fmt: skip
    assert "registry/2.0" in found["registry over http"][1]
    assert "insecure-registries" in found["registry over https"][2]
    assert litter(real.root) == []
    assert real.stored() == 0


def test_tls_with_forced_https(
    routes: dict[str, str], real: Distribution, tmp_path: Path, authority: trustme.CA
) -> None:
    """The way to https is followed, the certificate is read, and uploads are sent where https is."""
    tls = authority.issue_cert(HERE)
    with reverse.nginx(tmp_path / "nginx", routes, tls=tls, redirect=True) as proxy:
        found = rows(proxy, ca_bundle=tmp_path / "authority.pem", https_only=True)
        assert set(states(found).values()) == {"ok"}
        assert found["registry over http"][1] == f"leads to {proxy.url}/v2/"
        assert found["uploads' address"][1] == proxy.url
        assert f"for {HERE}" in found["certificate"][1]
        assert litter(real.root) == []
        found = rows(proxy)
        assert found["registry over https"][:2] == (
            "fail",
            f"{proxy.host}: its certificate is signed by an unknown authority",
        )
        assert found[UPLOAD][0] == "skipped"
        assert rows(proxy, insecure=True)["certificate"][0] == "warn"


@pytest.mark.parametrize("days", [3, -1])
def test_a_certificate_that_ends(routes: dict[str, str], tmp_path: Path, authority: trustme.CA, days: int) -> None:
    """Soon, which is said in time; or already, which nothing gets past."""
    now = dt.datetime.now(dt.UTC)
    began = now - dt.timedelta(days=30)
    tls = authority.issue_cert(HERE, not_before=began, not_after=now + dt.timedelta(days=days, hours=1))
    with reverse.nginx(tmp_path / "nginx", routes, tls=tls, redirect=True) as proxy:
        found = rows(proxy, ca_bundle=tmp_path / "authority.pem", upload=False)
    if days > 0:
        assert found["registry over https"][0] == "ok"
        assert found["certificate"][0] == "warn"
        assert "3 days left" in found["certificate"][1]
    else:
        assert found["registry over https"][0] == "fail"
        assert "expired" in found["registry over https"][1]
        assert "certificate" not in found


def test_https_that_is_not_forced(routes: dict[str, str], tmp_path: Path, authority: trustme.CA) -> None:
    """Both answer; where https was asked for alone, http is a failure with what would force it."""
    tls = authority.issue_cert(HERE)
    with reverse.nginx(tmp_path / "nginx", routes, tls=tls) as proxy:
        assert set(states(rows(proxy, ca_bundle=tmp_path / "authority.pem")).values()) == {"ok"}
        state, _, hint = rows(proxy, ca_bundle=tmp_path / "authority.pem", https_only=True)["registry over http"]
    assert state == "fail"
    assert "force-ssl-redirect" in hint
    assert "Middleware" in hint


def test_a_limit_of_the_body(routes: dict[str, str], real: Distribution, tmp_path: Path) -> None:
    """413 is told with the annotation that lifts it; and what was begun is given up all the same."""
    with reverse.nginx(tmp_path / "nginx", routes, body_limit="1m") as proxy:
        state, text, hint = rows(proxy)[UPLOAD]
        assert (state, text) == ("fail", f"413 to PATCH /v2/{NEW}/blobs")
        assert 'proxy-body-size: "0"' in hint
        assert "maxRequestBodyBytes" in hint
        assert rows(proxy, size="900kB")["upload of 900 kB"][0] == "ok"
        assert "DELETE" in methods(proxy.log)
    assert litter(real.root) == []


def test_an_upload_that_takes_too_long(proxy_program: None) -> None:
    """Nobody answers it: the hint names the limits in time of both controllers."""

    def slow(request: Request, _: int) -> Reply:
        if request.method == "POST":
            return Reply(202, {"Location": "/v2/upload"})
        if request.method == "PATCH":
            time.sleep(2)
        return Reply(200 if request.method == "GET" else 204, {"Docker-Distribution-Api-Version": "registry/2.0"})

    with scripted.serve(slow) as server:
        found = rows(api_port=int(server.host.rpartition(":")[2]), timeout=0.5)
        state, _, hint = found[UPLOAD]
        assert server.seen("DELETE")
    assert state == "fail"
    assert "proxy-read-timeout" in hint
    assert "respondingTimeouts.readTimeout" in hint


def test_a_proxy_that_hides_https(
    routes: dict[str, str], real: Distribution, tmp_path: Path, authority: trustme.CA
) -> None:
    """The registry sends uploads to http then, which breaks pushes; whether a body gets through is told as well."""
    tls = authority.issue_cert(HERE)
    with reverse.nginx(tmp_path / "nginx", routes, tls=tls, forwarded=False) as proxy:
        found = rows(proxy, ca_bundle=tmp_path / "authority.pem")
        state, text, hint = found["uploads' address"]
        assert (state, text) == ("fail", f"http://{proxy.host}")
        assert "X-Forwarded-Proto" in hint
        assert found[UPLOAD][0] == "ok"
    assert litter(real.root) == []


def test_the_real_ui(routes: dict[str, str], real: Distribution, tmp_path: Path) -> None:
    """``regnb ui`` under /ui, as the manifests run it."""
    with (
        Site(tmp_path / "ui.log", real.url) as site,
        reverse.nginx(tmp_path / "nginx", {**routes, "/ui": f"{HERE}:{site.port}"}) as proxy,
    ):
        found = rows(proxy, upload=False)
    assert found["UI"][:2] == ("ok", "200 to GET /ui/, with a page")
    assert found["UI's health"][0] == "ok"
    assert found["UI's WebSocket"][:2] == ("ok", "101 to a WebSocket's handshake")


def test_a_proxy_that_passes_no_websockets(routes: dict[str, str], tmp_path: Path) -> None:
    """A page would wait for ever: the row says so, with the lines that nginx needs."""
    with reverse.nginx(tmp_path / "nginx", routes, upgrade="") as proxy:
        found = rows(proxy, upload=False)
    assert found["UI's health"][0] == "ok"
    state, _, hint = found["UI's WebSocket"]
    assert state == "fail"
    assert "proxy_set_header Upgrade $http_upgrade" in hint


def test_no_route_to_the_ui(routes: dict[str, str], tmp_path: Path) -> None:
    """The registry is fine, and the UI's failure says where to look."""
    with reverse.nginx(tmp_path / "nginx", {"/v2": routes["/v2"]}) as proxy:
        found = rows(proxy)
    assert found["UI"][:2] == ("fail", "404 to GET /ui/")
    assert "kubectl get ingress" in found["UI"][2]
    assert found["UI's health"][0] == "skipped"
    assert found[UPLOAD][0] == "ok"


def test_another_ui(routes: dict[str, str], tmp_path: Path) -> None:
    """A page without regnb's health endpoint would never become ready in the Deployment."""

    def other(_: Request, __: int) -> Reply:
        return Reply(200, {"Content-Type": "text/html"}, b"<!doctype html>") if _.path == "/ui/" else Reply(404)

    with (
        scripted.serve(other) as server,
        reverse.nginx(tmp_path / "nginx", {**routes, "/ui": server.host}) as proxy,
    ):
        found = rows(proxy, upload=False)
    assert states(found)["UI"] == "ok"
    assert found["UI's health"][:2] == ("fail", "404 to GET /ui/healthz")


def test_nobody_behind_the_proxy(routes: dict[str, str], tmp_path: Path) -> None:
    """502: the rule is there, its Service or pods are not; the upload is not tried."""
    with reverse.nginx(tmp_path / "nginx", {**routes, "/v2": f"{HERE}:{free_port()}"}) as proxy:
        found = rows(proxy)
        assert methods(proxy.log) == {"GET"}
    assert found["registry over http"][:2] == ("fail", "502 to GET /v2/")
    assert "kubectl get endpoints" in found["registry over http"][2]
    assert found[UPLOAD][0] == "skipped"
    assert found["UI"][0] == "ok"


def test_another_host_name(routes: dict[str, str], tmp_path: Path) -> None:
    """A name that the Ingress has no rule for is told from a registry that is down."""
    with reverse.nginx(tmp_path / "nginx", routes) as proxy:
        found = rows(proxy, host="localhost")
    assert found["registry over http"][:2] == ("fail", "404 to GET /v2/")
    assert "no rule for this host" in found["registry over http"][2]


def test_nobody_listens(proxy_program: None) -> None:
    """Every row is there, and none is a traceback."""
    found = rows(http_port=free_port(), https_port=free_port())
    assert states(found) == {
        "registry over http": "fail", "registry over https": "fail", "UI": "fail", "UI's health": "skipped",
        UPLOAD: "skipped",
    }  # fmt: skip


def test_node_ports(real: Distribution, ui: scripted.Server) -> None:
    """Two ports of a node, in plain http."""
    found = rows(api_port=real.port, ui_port=int(ui.host.rpartition(":")[2]))
    assert states(found) == dict.fromkeys(
        ("registry", "UI", "UI's health", "UI's WebSocket", "uploads' address", UPLOAD), "ok"
    )
    assert litter(real.root) == []


def test_where_an_upload_begins(writable: Seeded) -> None:
    """In the first repository that is listed, of either registry, and it leaves nothing there."""
    with regnb.connect(writable.url, cache=False) as registry:
        first = registry.catalog()["repository"].iloc[0]
    state, text, _ = rows(api_port=int(writable.host.rpartition(":")[2]), repository="")[UPLOAD]
    assert (state, text) == ("ok", f"taken in {first}, and given up")
    assert litter(writable.root) == []


def test_where_no_upload_begins(real: Distribution) -> None:
    """An empty registry lists none: one must be named, and that is said."""
    state, _, hint = rows(api_port=real.port, repository="")[UPLOAD]
    assert state == "skipped"
    assert "name one" in hint


def test_a_registry_that_takes_nothing(distribution_program: None, tmp_path: Path) -> None:
    """Read-only is not a failure of what is in front of it: the upload could not be tested, and why is said."""
    config = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}
    with Distribution(tmp_path / "registry", config=config) as registry:
        state, text, hint = rows(api_port=registry.port)[UPLOAD]
    assert (state, text) == ("skipped", "the registry takes no uploads")
    assert "read-only" in hint


def test_credentials_are_used_and_never_shown(
    routes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution_program: None
) -> None:
    """Those of docker login are sent to the registry, never to the UI, and stand in no row."""
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, check=True).stdout)

    def login(_: Request, __: int) -> Reply:
        return Reply(401, {"WWW-Authenticate": 'Basic realm="ui"'})

    config = {"auth": {"htpasswd": {"realm": "r", "path": str(passwords)}}}
    with (
        Distribution(tmp_path / "registry", config=config) as registry,
        scripted.serve(login) as page_,
        reverse.nginx(tmp_path / "nginx", {"/v2": registry.host, "/ui": page_.host}) as proxy,
    ):
        found = rows(proxy)
        assert found["registry over http"][0] == "warn"
        assert "docker login" in found["registry over http"][2]
        assert found[UPLOAD][0] == "skipped"
        token = b64encode(f"me:{SECRET}".encode()).decode()
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        (tmp_path / "config.json").write_text(json.dumps({"auths": {proxy.host: {"auth": token}}}), encoding="utf-8")
        found = rows(proxy)
        assert states(found)["registry over http"] == states(found)[UPLOAD] == "ok"
        assert found["UI"][:2] == ("ok", "it asks for a login")
        assert not any("authorization" in request.headers for request in page_.seen())
        assert litter(registry.root) == []
    assert SECRET not in str(found)
    assert token not in str(found)


@pytest.mark.parametrize("how", ["asked", "environment"])
def test_nothing_is_sent_that_could_write(
    routes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Without the upload, or where the environment says read-only, there are GETs and nothing else."""
    if how == "environment":
        monkeypatch.setenv("REGNB_READ_ONLY", "1")
    with reverse.nginx(tmp_path / "nginx", routes) as proxy:
        found = rows(proxy, upload=how != "asked")
        assert methods(proxy.log) == {"GET"}
    assert states(found).get(UPLOAD) == (None if how == "asked" else "skipped")


@pytest.mark.parametrize(
    "ask",
    [
        lambda: check(""),
        lambda: check("http://r.example.com"),
        lambda: check("r.example.com:5000"),
        lambda: check(f"me:{SECRET}@r.example.com"),
        lambda: check("r.example.com", http_port=99_999),
        lambda: check("r.example.com", size="many"),
    ],
)
def test_what_makes_no_sense(ask: Callable[[], Any]) -> None:
    """An error before anything is sent, and no password in it."""
    with pytest.raises(InvalidArgument) as raised:
        ask()
    assert SECRET not in str(raised.value)
    with pytest.raises(InvalidReference):
        check(HERE, repository="Team/New")

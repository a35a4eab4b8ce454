"""What a real browser lets another site do to the web UI, and what it shows where WebSockets are not passed on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import reverse
import scripted
from browser import Running, Site, browsing, faults
from conftest import Seeded, need
from distribution import free_port
from scripted import Reply

ELSEWHERE, REBOUND = "elsewhere.example", "rebound.example"
HTML = """<!doctype html><title>Elsewhere</title><a href="{url}12-delete?repository=vm/centos8">a link</a>
<form method="post" action="{url}logout"><button>a form</button></form>
<form method="post" action="{registry}/v2/a/b/blobs/uploads/" enctype="text/plain"><button>an upload</button></form>"""
FRAME = "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame); }"
SOCKET = """url => new Promise(done => { const socket = new WebSocket(url, "v1.kernel.websocket.jupyter.org");
  socket.onopen = () => done("open"); socket.onerror = () => done("refused"); })"""
FETCH = """url => fetch(url, { mode: "no-cors", credentials: "include" })
  .then(async found => `${found.type} ${await found.text()}`, () => "refused")"""


@pytest.fixture(scope="module")
def site(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("guard") / "ui.log", seeded_embedded.url) as found:
        yield found


@pytest.fixture(scope="module")
def other(site: Site, seeded_embedded: Seeded) -> Iterator[str]:
    """The port of a site that leads here, and does what else a site can."""
    html = HTML.format(url=site.base, registry=seeded_embedded.url).encode()
    with scripted.serve(lambda *_: Reply(200, {"Content-Type": "text/html"}, html)) as found:
        yield found.host.rpartition(":")[2]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A page that reaches this machine alone, under names of elsewhere, too."""
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path)
    with browsing(folder / "guard-last.png", ELSEWHERE, REBOUND) as (found, _):
        yield found


@pytest.mark.parametrize("host", [ELSEWHERE, "127.0.0.1"])
def test_a_link_of_another_site_works_and_nothing_else_of_it(site: Site, other: str, page: Any, host: str) -> None:
    """A link leads to the page, again and again as the same visitor; a frame, a form, a fetch, a WebSocket do not.

    Nor do those of another port of the same host, to which a browser sends this server's cookies.
    """
    answers: list[tuple[str, int]] = []
    page.on("response", lambda answer: answers.append((answer.url, answer.status)))
    cookies = []
    for _ in range(2):
        page.goto(f"http://{host}:{other}/")
        page.get_by_text("a link").click()
        page.wait_for_url(re.compile(r"/ui/12-delete\?repository=vm/centos8$"))
        page.locator("#rendered_cells").wait_for(state="visible")
        page.locator(".regnb-form").first.wait_for()
        cookies.append([each for each in page.context.cookies() if each["name"].startswith("regnb-")])
    assert cookies[0] == cookies[1], "the same visitor"
    assert {(each["sameSite"], each["httpOnly"], each["path"]) for each in cookies[0]} == {("Strict", True, "/ui/")}

    kernel = json.loads(page.locator("#jupyter-config-data").text_content())["kernelId"]
    where = f"{site.base.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?session_id=x"
    assert page.evaluate(SOCKET, where) == "open", "to the page itself"
    stranger = page.context.new_page()
    stranger.on("response", lambda answer: answers.append((answer.url, answer.status)))
    stranger.goto(f"http://{host}:{other}/")
    answers.clear()
    assert stranger.evaluate(SOCKET, where) == "refused"
    stranger.evaluate(FRAME, site.base + "13-retention")
    assert stranger.evaluate(FETCH, site.base + "13-retention") in ("refused", "opaque ")
    stranger.wait_for_timeout(1000)
    stranger.get_by_role("button", name="a form").click()
    stranger.get_by_text("asked for this").wait_for()
    assert {status for url, status in answers if url.startswith(site.base)} <= {403}


def test_a_name_that_was_rebound_reads_nothing(site: Site, seeded_embedded: Seeded, page: Any) -> None:
    """A page whose own name suddenly has this machine's address: the web UI and the registry do not answer to it."""
    for url, found in ((site.base, "What is in my registry"), (f"{seeded_embedded.url}/v2/_catalog", "vm/centos8")):
        page.goto(url)
        page.get_by_text(found).first.wait_for()
        answer = page.goto(url.replace("127.0.0.1", REBOUND))
        assert answer.status == 421
        assert found not in page.content()
        assert "--host-name" in page.content(), "what to do if it is this server's own name"


def test_a_form_of_another_site_makes_no_repository(seeded_embedded: Seeded, other: str, page: Any) -> None:
    """It needs no permission of the registry's to be sent."""
    page.goto(f"http://{ELSEWHERE}:{other}/")
    page.get_by_role("button", name="an upload").click()
    page.get_by_text("a page of another site asked for this").wait_for()
    assert not (seeded_embedded.root / "docker/registry/v2/repositories/a").exists()


def test_a_proxy_that_passes_no_websockets_is_named(site: Site, page: Any, tmp_path: Path) -> None:
    """After ten seconds the page says so, and can be read by everybody; with the lines that it names, all loads."""
    need("proxy", reverse.PROGRAM, "nginx is not installed (apt-get install nginx-light)")
    with reverse.nginx(tmp_path / "nginx", {"/ui": f"127.0.0.1:{site.port}"}, upgrade="") as front:
        page.goto(f"{front.url}/ui/13-retention")
        page.get_by_text("no WebSocket reaches regnb").wait_for()
        missing = page.locator(".regnb-socket").first
        assert "proxy_set_header Upgrade $http_upgrade;" in missing.inner_text()
        assert "Traefik" in missing.inner_text()
        page.get_by_text("Not loaded: the top of this page says why.").first.wait_for()
        assert page.get_by_text("Loading widget").count() == 0
        assert faults(page, "header") == []
        lines = [line for line in missing.locator("pre").inner_text().splitlines() if "pgrade" in line]
    with reverse.nginx(tmp_path / "again", {"/ui": f"127.0.0.1:{site.port}"}, upgrade="\n".join(lines)) as front:
        page.goto(f"{front.url}/ui/13-retention")
        page.locator(".regnb-form").first.wait_for()


def test_tabs_that_are_opened_at_once_all_load(site: Site, page: Any) -> None:
    """Another tab's cookie came after the page and before its WebSocket, as on a slow network: the page comes again."""
    loaded: list[str] = []

    def overtake(route: Any) -> None:
        if not loaded:
            page.context.clear_cookies()
            page.context.request.get(f"{site.base}?visit=1", max_redirects=0)
        loaded.append(route.request.url)
        route.continue_()

    page.route("**/voila.js", overtake)
    page.goto(f"{site.base}10-retag")
    page.locator(".regnb-form tbody tr").first.wait_for()
    assert len(loaded) == 2
    assert page.locator(".regnb-socket:visible").count() == 0


def test_a_login_of_a_jupyterlab_beside_it_stays(site: Site, page: Any, tmp_path: Path) -> None:
    """Behind one host and port: the web UI leaves JupyterLab's login alone, and that leaves the visit."""
    need("proxy", reverse.PROGRAM, "nginx is not installed (apt-get install nginx-light)")
    port, token = free_port(), "a-token-of-jupyterlab"
    options = ("--no-browser", "--allow-root", f"--ServerApp.root_dir={tmp_path}", "--ServerApp.base_url=/other/")
    options += ("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--IdentityProvider.token={token}")
    lab = Running(tmp_path / "lab.log", "from jupyterlab.labapp import main; main()", *options)
    routes = {"/ui": f"127.0.0.1:{site.port}", "/other": f"127.0.0.1:{port}"}
    try:
        with reverse.nginx(tmp_path / "nginx", routes) as front:
            while httpx.get(f"{front.url}/other/api").status_code != 200 and lab.process.poll() is None:
                page.wait_for_timeout(200)
            kept = []
            for query in (f"?token={token}", "", ""):
                page.goto(f"{front.url}/other/lab{query}")
                page.locator(".jp-Launcher").wait_for()
                page.goto(f"{front.url}/ui/13-retention")
                page.locator(".regnb-form").first.wait_for()
                kept.append({each["name"]: each["value"] for each in page.context.cookies() if each["path"] == "/ui/"})
            assert kept[0] == kept[1] == kept[2]
    finally:
        lab.stop()


def test_a_page_that_has_ended_says_so(seeded_embedded: Seeded, page: Any, tmp_path: Path) -> None:
    """With the reason, if the server gave one; and that the server has gone."""
    with Site(tmp_path / "ui.log", seeded_embedded.url) as site:
        page.goto(f"{site.base}10-retag")
        page.locator(".regnb-form tbody tr").first.wait_for()
        assert page.locator(".regnb-socket:visible").count() == 0
        kernel = json.loads(page.locator("#jupyter-config-data").text_content())["kernelId"]
        page.evaluate("url => { fetch(url, { method: 'POST' }); }", f"{site.base}voila/api/shutdown/{kernel}")
        page.get_by_text("The reason: the page was closed.").wait_for()
        assert faults(page, "header") == []
        page.get_by_role("link", name="Reload the page").click()
        page.locator(".regnb-form tbody tr").first.wait_for()
        page.wait_for_timeout(500)
    page.get_by_text("This page no longer answers").wait_for()


def test_pages_without_a_notebook_can_be_read(site: Site, page: Any) -> None:
    """The light page, errors, and what is not there: axe finds nothing serious, and no policy is broken."""
    broken: list[str] = []
    page.on("console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None)
    for path in ("12-delete?x=1", "nothing", "10-retag?visit=2"):
        page.goto(site.base + path)
        page.context.clear_cookies()
        assert page.locator("h1").inner_text() == "regnb"
        assert faults(page, "html") == []
        if path != "nothing":
            assert page.get_by_role("alert").inner_text()
    light = httpx.get(f"{site.base}10-retag").text
    assert "http-equiv='refresh'" in light
    page.set_content(light.replace("http-equiv='refresh'", ""))
    assert page.get_by_role("status").inner_text() == "Opening… Open it now"
    assert faults(page, "html") == []
    assert broken == []

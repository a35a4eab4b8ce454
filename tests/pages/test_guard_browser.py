"""What a real browser lets another site do to the web UI, and what it shows where WebSockets are not passed on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reverse
from browser import Site, browsing, faults
from conftest import Seeded, need

ELSEWHERE = "http://elsewhere.example/"
HTML = """<!doctype html><title>Elsewhere</title><a href="{url}12-delete?repository=vm/centos8">a link</a>
<form method="post" action="{url}logout"><button>a form</button></form>"""
FRAME = "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame); }"
SOCKET = """url => new Promise(done => { const socket = new WebSocket(url);
  socket.onopen = () => done("open"); socket.onerror = () => done("refused"); })"""
FETCH = "url => fetch(url, { mode: 'no-cors', credentials: 'include' }).then(found => found.type, () => 'refused')"


@pytest.fixture(scope="module")
def site(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("guard") / "ui.log", seeded_embedded.url) as found:
        yield found


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A page that reaches this machine alone, and a site elsewhere that leads here."""
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path)
    with browsing(folder / "guard-last.png") as (found, _):
        found.set_default_timeout(90_000)
        yield found


def test_a_link_of_another_site_works_and_nothing_else_of_it(site: Site, page: Any) -> None:
    """A link leads to the page, again and again as the same visitor; a frame, a form, a fetch, a WebSocket do not."""
    page.route(ELSEWHERE + "**", lambda route: route.fulfill(content_type="text/html", body=HTML.format(url=site.base)))
    answers: list[tuple[str, int]] = []
    page.on("response", lambda answer: answers.append((answer.url, answer.status)))
    cookies = []
    for _ in range(2):
        page.goto(ELSEWHERE)
        page.get_by_text("a link").click()
        page.wait_for_url(re.compile(r"/ui/12-delete\?repository=vm/centos8$"))
        page.locator("#rendered_cells").wait_for(state="visible")
        page.locator(".regnb-form").first.wait_for()
        cookies.append([each for each in page.context.cookies() if each["name"].startswith("regnb-")])
    assert cookies[0] == cookies[1], "the same visitor"
    assert {(each["sameSite"], each["httpOnly"], each["path"]) for each in cookies[0]} == {("Strict", True, "/ui/")}

    page.goto(ELSEWHERE)
    answers.clear()
    page.evaluate(FRAME, site.base + "13-retention")
    page.wait_for_timeout(1000)
    assert page.evaluate(FETCH, site.base + "13-retention") in ("refused", "opaque")
    where = f"{site.base.replace('http', 'ws', 1)}api/kernels/0-0-0-0-0/channels?session_id=x"
    assert page.evaluate(SOCKET, where) == "refused"
    page.get_by_role("button", name="a form").click()
    page.wait_for_timeout(1000)
    assert {status for url, status in answers if url.startswith(site.base)} <= {403}


def test_a_proxy_that_passes_no_websockets_is_named(site: Site, page: Any, tmp_path: Path) -> None:
    """After ten seconds the page says so, with the lines that nginx needs, and can be read by everybody."""
    need("proxy", reverse.PROGRAM, "nginx is not installed (apt-get install nginx-light)")
    with reverse.nginx(tmp_path / "nginx", {"/ui": f"127.0.0.1:{site.port}"}, upgrade=False) as front:
        page.goto(f"{front.url}/ui/13-retention")
        page.get_by_text("no WebSocket reaches regnb").wait_for()
        assert "proxy_set_header Upgrade $http_upgrade;" in page.locator(".regnb-socket").inner_text()
        assert "Traefik" in page.locator(".regnb-socket").inner_text()
        assert faults(page, "header") == []

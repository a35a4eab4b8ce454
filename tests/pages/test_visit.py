"""A visit: what it costs before it is one, the tokens, what ends it, and what it leaves of others' cookies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from browser import Site, told, visit
from conftest import Seeded
from test_ui import enter, kernels, token_file, until
from typer.testing import CliRunner
from visitor import Visitor

from regnb.cli import app
from regnb.errors import InvalidArgument, StorageError
from regnb.pages import token
from regnb.pages.visit import cookie_of

NONE = "00000000-0000-4000-8000-000000000000"
"""A kernel that is nobody's."""
SOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
SOCKET |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
READS, WRITES = "canary-reads-77120934", "canary-writes-1180472"
PATHS = (
    "",
    "13-retention",
    "login",
    "healthz",
    "metrics",
    "report",
    "socket",
    f"api/kernels/{NONE}",
    "voila/static/voila.js",
    "voila/labextensions/x",
    "voila/api/themes/x",
    "nothing",
)
LOOKS, CHANGES = "a-token-that-looks", "a-token-that-changes"


@pytest.fixture(scope="module")
def site(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a token to look and one to write, behind a proxy that is trusted."""
    folder = tmp_path_factory.mktemp("visit")
    options = ("--token-file", token_file(folder, READS, "guests"), "--write-token-file")
    with Site(
        folder / "ui.log",
        seeded_embedded.url,
        *(*options, token_file(folder, WRITES, "operators"), "--trusted-proxy", "127.0.0.1", "--pages-each", "2"),
        *("--hsts", "--host-name", "r.example.com"),
    ) as found:
        for path in folder.glob("*.token"):
            path.unlink()  # they were read
        yield found
        assert READS not in found.printed()
        assert WRITES not in found.printed()
        assert "Traceback" not in found.printed()


def test_a_first_visit_costs_nothing(site: Site) -> None:
    """A link from anywhere gets a page at once that asks for the cookie: no kernel starts, and none for a frame."""
    until(site, 1)  # the one in reserve
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for _ in range(5):
        answer = httpx.get(site.base + "02-storage", headers=link)
        assert (answer.status_code, "visit=1" in answer.text, answer.cookies.jar._cookies) == (200, True, {})
        assert httpx.get(site.base + "02-storage", headers=link | {"Sec-Fetch-Dest": "iframe"}).status_code == 403
        assert httpx.get(site.base + "02-storage", headers={"Host": "rebound.example"}).status_code == 421
    time.sleep(1)
    assert kernels(site) == 1


def test_a_browser_without_cookies_is_told(site: Site) -> None:
    """And not led in a circle."""
    answer = httpx.get(site.base, params={"visit": "2"})
    assert (answer.status_code, "Allow cookies" in answer.text) == (400, True)


def test_every_answer_has_the_headers(site: Site) -> None:
    """Pages, files and refusals: no other site frames, feeds or reads them; no server software is named."""
    refused = [("", {"Host": "rebound.example"}), ("voila/templates/regnb/static/..%2fx", {})]
    for path, headers in [*((path, {}) for path in PATHS), *refused]:
        answer = httpx.get(site.base + path, headers=headers)
        assert answer.status_code < 500, path
        if path in ("login", "healthz", "metrics", "nothing"):  # as monitors ask
            assert httpx.head(site.base + path, headers=headers).status_code == answer.status_code
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors" in policy
        assert "*" not in policy
        for name, value in (
            ("referrer-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("x-content-type-options", "nosniff"),
            ("strict-transport-security", "max-age=31536000"),
        ):
            assert answer.headers[name] == value, path
        assert "server" not in answer.headers


def test_each_token_opens_what_it_is_for(site: Site) -> None:
    """One lets look, the other write, too; both are in no log and in no process's arguments or environment."""
    with httpx.Client(timeout=600) as guest, httpx.Client(timeout=600) as operator:
        asked = visit(site.base + "10-retag?repository=vm/*", guest)
        assert asked.headers["location"] == "/ui/login?next=%2Fui%2F10-retag%3Frepository%3Dvm%2F%2A"
        wrong = enter(guest, site, f"wrong-{READS}")
        assert (wrong.status_code, "That is not the token" in wrong.text) == (401, True)
        done = enter(guest, site, READS, "/ui/10-retag")
        assert (done.status_code, done.headers["location"]) == (302, "/ui/10-retag")
        cookie = done.headers["set-cookie"].lower()
        for part in ("samesite=strict", "httponly", "path=/ui/", f"regnb-{site.port}-"):
            assert part in cookie
        page = visit(site.base + "10-retag", guest).text
        assert "read-only" in page
        assert "Log out (guests)" in page
        enter(operator, site, WRITES)
        page = visit(site.base + "10-retag", operator).text
        assert "read-only" not in page
        assert "Log out (operators)" in page
    for path in ("nothing", f"10-retag?token={READS}", f"login?token={WRITES}"):
        assert httpx.get(site.base + path, params={"token": WRITES}).status_code in (200, 302, 404)
    for pid in site.group():
        for file in ("cmdline", "environ"):
            held = told(pid, file)
            assert READS.encode() not in held
            assert WRITES.encode() not in held


def test_logging_out_ends_the_pages(site: Site) -> None:
    """The cookie is worth nothing afterwards, and the kernels of its pages end."""
    with httpx.Client(timeout=600) as guest, httpx.Client(timeout=600) as copy:
        enter(guest, site, READS)
        copy.cookies = guest.cookies
        page = visit(site.base + "13-retention", guest).text
        assert "Log out" in page
        there = set(site.group())
        origin = {"Origin": site.base.removesuffix("/ui/")}
        assert guest.get(site.base + "logout").status_code in (403, 405)
        assert "logged out" in guest.post(site.base + "logout", headers=origin).text
        assert visit(site.base, copy).status_code == 302
        deadline = time.monotonic() + 30
        while there <= set(site.group()) and time.monotonic() < deadline:  # another may be begun meanwhile
            time.sleep(0.2)
        assert not there <= set(site.group())


def test_a_log_out_while_a_page_is_left_says_so(site: Site) -> None:
    """The page's browser asks for its end at the same moment: both get their answer, and the log has no fault."""
    with httpx.Client(timeout=600, headers={"X-Forwarded-For": "192.0.2.30"}) as guest:
        enter(guest, site, READS)
        kernels = [Visitor(site, "13-retention", guest).kernel for _ in range(2)]
        guest.headers["Origin"] = site.base.removesuffix("/ui/")
        with ThreadPoolExecutor(3) as browser:
            left = [browser.submit(guest.post, f"{site.base}voila/api/shutdown/{each}") for each in kernels]
            out = browser.submit(guest.post, site.base + "logout").result()
        assert "You are logged out" in out.text
        assert {each.result().status_code for each in left} <= {204, 403, 404}


def test_one_visitor_has_only_so_many_pages(site: Site) -> None:
    """The third is refused to one visitor, with what to do; another visitor has room."""
    with httpx.Client(timeout=600) as greedy, httpx.Client(timeout=600) as modest:
        for number, visitor in enumerate((greedy, modest)):
            # Pages are also limited by address, and other tests have opened some.
            visitor.headers["X-Forwarded-For"] = f"192.0.2.{10 + number}"
            enter(visitor, site, READS)
        found = [visit(site.base + "13-retention", greedy) for _ in range(3)]
        assert [each.status_code for each in found] == [200, 200, 503]
        assert "2 of your pages are open" in found[2].text
        assert visit(site.base + "13-retention", modest).status_code == 200


def test_guesses_are_limited(site: Site) -> None:
    """By address, as the proxy tells it: the ninth is not looked at, another address may log in all the same."""
    with httpx.Client(timeout=600, headers={"X-Forwarded-For": "192.0.2.1"}) as guesser:
        found = [enter(guesser, site, f"wrong-{number}").status_code for number in range(9)]
        assert found == [401] * 8 + [429]
        assert enter(guesser, site, READS).status_code == 429
    with httpx.Client(timeout=600, headers={"X-Forwarded-For": "192.0.2.2"}) as other:
        assert enter(other, site, READS).status_code == 302


def test_other_logins_are_left_alone(site: Site) -> None:
    """Of a Jupyter server behind the same host and port: its cookies are neither read, nor changed, nor deleted."""
    theirs = {f"username-127-0-0-1-{site.port}": "2|theirs", "_xsrf": "2|theirs"}
    with httpx.Client(timeout=600, cookies=theirs) as visitor:
        found = [visit(site.base + path, visitor) for path in PATHS]
        origin = {"Origin": site.base.removesuffix("/ui/")}
        for path in (f"api/kernels/{NONE}/channels", "voila/api/shutdown/x", "socket", *PATHS):
            found.append(visitor.get(site.base + path, headers=origin | SOCKET | {"Connection": "Upgrade, close"}))
            found.append(visitor.post(site.base + path, headers=origin))
        found.append(enter(visitor, site, READS))
        found += [visitor.get(site.base + f"api/kernels/{NONE}/channels", headers=origin | SOCKET)]
        set_ = [cookie for each in found for cookie in each.headers.get_list("set-cookie")]
        assert set_
        assert all(cookie.startswith(f"regnb-{site.port}-") and "Path=/ui/" in cookie for cookie in set_)


def test_two_web_uis_leave_each_other_alone(site: Site, seeded_embedded: Seeded) -> None:
    """In two containers, both on the same port, behind one host: a browser sends the cookies of both.

    One has a shorter prefix, or the host's other port and another registry.
    """
    url = seeded_embedded.url
    for theirs in (cookie_of(site.port, "/", url), cookie_of(site.port, "/ui/", "https://r.example.com")):
        with httpx.Client(timeout=600, cookies={theirs: "2|theirs"}) as visitor:
            assert visit(site.base, visitor).headers.get("location", "").startswith("/ui/login")
            assert len(visitor.cookies) == 2


def test_lines_of_the_log_are_short(site: Site) -> None:
    """Whatever a visitor sends."""
    httpx.get(site.base + "voila/templates/" + "x" * 20_000)
    with httpx.Client() as visitor:
        enter(visitor, site, "y" * 20_000)
    assert max(map(len, site.printed().splitlines())) < 5_000


def test_tokens_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its file's name; one may come by standard input; a repr shows none."""
    one, two = token_file(tmp_path, LOOKS, "guests"), token_file(tmp_path, CHANGES, "operators")
    found = token.read([one], [two])
    assert [(each.name, each.writes) for each in found] == [("guests", False), ("operators", True)]
    assert LOOKS not in repr(found)
    assert found[0].fits(LOOKS)
    assert not found[0].fits(CHANGES)
    with pytest.raises(InvalidArgument, match="the same token"):
        token.read([one], [token_file(tmp_path, LOOKS, "others")])
    with pytest.raises(InvalidArgument, match="fewer than 16"):
        token.read([token_file(tmp_path, "short", "short")], [])
    with pytest.raises(StorageError, match="read"):
        token.read([str(tmp_path / "nothing")], [])
    reading, writing = os.pipe()
    os.write(writing, f"{LOOKS}\n".encode())
    os.close(writing)
    assert token.read([], [f"/dev/fd/{reading}"]) == [token.Token("write token", LOOKS, writes=True)]
    os.close(reading)
    given = ["ui", "--registry", "http://127.0.0.1:9", "--token-file", "-"]
    done = CliRunner().invoke(app, given, input="short\n")
    assert "standard input has fewer" in str(done.exception)

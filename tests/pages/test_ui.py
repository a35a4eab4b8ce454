"""The web UI by its HTTP: routes, what a visitor may ask for, the token, kernels that end, and nothing that leaks."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import nbformat
import pytest
from browser import Site, told, visit
from conftest import Seeded
from distribution import free_port
from proxied import proxy
from scripted import Request
from typer.testing import CliRunner
from visitor import Visitor

from regnb.cli import app
from regnb.errors import InvalidArgument
from regnb.notebooks.runbook import find, runbooks
from regnb.pages import ui

TOKEN = "canary-token-77120934"


@pytest.fixture(scope="module")
def site(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Read-only and open to everybody, as ``regnb ui`` is without options."""
    with Site(tmp_path_factory.mktemp("site") / "ui.log", seeded_embedded.url) as found:
        yield found


get = visit


def token_file(folder: Path, text: str = TOKEN, name: str = "operators") -> str:
    """A file with a token."""
    path = folder / f"{name}.token"
    path.write_text(f"{text}\n", encoding="utf-8")
    return str(path)


def enter(visitor: httpx.Client, site: Site, text: str, following: str = "/ui/") -> httpx.Response:
    """Give a token as the form does."""
    origin = {"Origin": site.base.removesuffix("/ui/")}
    return visitor.post(f"{site.base}login", params={"next": following}, data={"password": text}, headers=origin)


def test_without_tokens_nobody_is_asked_for_one(site: Site) -> None:
    """The login leads to the pages, or says so; a log out closes the visitor's pages."""
    origin = {"Origin": site.base.removesuffix("/ui/")}
    with httpx.Client(timeout=600, headers=origin) as visitor:
        assert visitor.get(site.base + "login").headers["location"] == "/ui/"
        given = visitor.post(site.base + "login", data={"password": TOKEN})
        assert (given.status_code, "ask for no token" in given.text) == (404, True)
        assert "Your pages are closed" in visitor.post(site.base + "logout").text


def test_the_root_leads_to_the_prefix(site: Site) -> None:
    """``/`` and ``/ui`` redirect to ``/ui/``, which is the overview; a probe is answered, and HEAD as GET."""
    root = site.base.removesuffix("ui/")
    for url in (root, root + "ui"):
        answer = get(url)
        assert (answer.status_code, answer.headers["location"]) == (302, "/ui/")
    assert get(site.base + "healthz").text == "ok"
    with httpx.Client(timeout=600) as visitor:
        assert "What is in my registry" in get(site.base, visitor).text
        answer = visitor.head(site.base)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert visitor.head(f"{site.base}report").status_code == 404, "as GET: there is none"


@pytest.mark.parametrize(
    "path",
    ["voila/tree", "voila/render/00-start.ipynb", "voila/api/contents/", "voila/files/00-start.ipynb", "99-nothing"],
)
def test_there_are_no_other_pages(site: Site, path: str) -> None:
    """The folder cannot be browsed, and no file be read."""
    assert get(site.base + path).status_code in (403, 404)


def test_a_link_says_what_the_page_is_about(site: Site) -> None:
    """``?repository=`` is the notebook's parameter, and stands in the page's form."""
    answer = get(site.base + "01-inventory?repository=tools/cli")
    assert answer.status_code == 200
    assert 'value="tools/cli"' in answer.text
    assert re.search(r"aria-current=.page.>Inventory<", answer.text)


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("01-inventory", "url"),
        ("02-storage", "storage"),
        ("12-delete", "in_use"),
        ("12-delete", "plan_out"),
        ("", "x"),
        ("", "template"),
    ],
)
def test_a_visitor_chooses_no_registry_and_no_file(site: Site, page: str, name: str) -> None:
    """Parameters that name what the server reads or writes cannot be set from outside, whatever the notebook has."""
    answer = get(site.base + page, params={name: "http://127.0.0.1:9/<script>"})
    assert answer.status_code == 400
    assert f"no parameter &#x27;{name}&#x27;" in answer.text
    assert "<script>" not in answer.text


def test_another_theme_is_refused(site: Site) -> None:
    """It is not a name of a file that is looked for."""
    answer = get(site.base + "10-retag?theme=../x")
    assert (answer.status_code, "no theme" in answer.text) == (400, True)


def test_what_a_page_asks_for_is_in_some_notebook() -> None:
    """Each name that may be set is a parameter of a notebook, and none names a registry, a file or a policy."""
    known = {name for book in runbooks() for name in book.parameters}
    assert known >= ui._ASKED
    assert not ui._ASKED & {"url", "storage", "snapshots", "folder", "plan_out", "policy", "in_use", "registry"}


def test_a_page_is_the_notebook_without_what_needs_code() -> None:
    """Cells for JupyterLab alone are left out; what is asked for is injected as a value, never as code."""
    hostile = "'); import os; os.abort() #"
    made = ui.page(find("01-inventory"), {"repository": hostile}, "dark", "host", "note")
    nbformat.validate(made)
    injected = next(cell for cell in made.cells if "injected-parameters" in cell.metadata.get("tags", []))
    space: dict[str, object] = {}
    exec(injected.source, space)  # noqa: S102 -- what the kernel would do
    assert space["repository"] == hostile
    assert not [cell for cell in made.cells if cell.source.startswith("## Parameters")]
    with pytest.raises(InvalidArgument):
        ui.page(find("20-growth"), {"snapshots": "/etc"}, "light", "host", "")


def test_every_page_has_its_place_in_the_heading() -> None:
    """No two pages are called the same."""
    titles = [ui.title_of(book) for book in runbooks()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("arguments", "env", "text"),
    [
        (["--registry", "http://127.0.0.1:9", "--allow-writes"], {}, "could write"),
        (["--registry", "http://127.0.0.1:9"], {"REGNB_UI_TOKEN": "long-enough-to-be-one"}, "--token-file"),
        (["--registry", "http://127.0.0.1:9", "--host-name", "http://r.example.com"], {}, "host name"),
        (["--registry", "http://127.0.0.1:9", "--trusted-proxy", "everybody"], {}, "network of a proxy"),
        ([], {}, "no registry was named"),
        (["--registry", "ftp://host"], {}, "not a valid registry URL"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: list[str], env: dict[str, str], text: str) -> None:
    """Writing without a token, a token that can be guessed, no registry, and none: each is one error with a hint."""
    done = CliRunner().invoke(app, ["ui", *arguments], env=env)
    assert isinstance(done.exception, InvalidArgument)
    assert text in f"{done.exception} {done.exception.hint}"
    assert done.exception.hint


def test_a_port_that_is_taken_is_said(site: Site) -> None:
    """Not another port, and no traceback."""
    done = CliRunner().invoke(app, ["ui", "--registry", "http://127.0.0.1:9", "--port", str(site.port)])
    assert isinstance(done.exception, InvalidArgument)
    assert str(site.port) in str(done.exception)


def kernels(site: Site) -> int:
    """How many kernels run: those of their own, and those that were forked, beside what they are forked from."""
    lines = [told(pid, "cmdline") for pid in site.group()]
    forked = sum(b"regnb.pages.nursery" in line for line in lines)
    return sum(b"ipykernel" in line for line in lines) + max(0, forked - 1)


def until(site: Site, number: int) -> None:
    deadline = time.monotonic() + 60
    while kernels(site) != number and time.monotonic() < deadline:
        time.sleep(0.5)
    assert kernels(site) == number


def test_kernels_that_nobody_looks_at_end(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Two pages that were left take their kernels along; the one in reserve stays; and no more than allowed begin."""
    with Site(tmp_path / "ui.log", seeded_embedded.url, "--idle", "8", "--pages", "2") as site:
        until(site, 1)
        for _ in range(2):
            assert get(site.base + "10-retag").status_code == 200
        full = get(site.base + "10-retag")
        assert full.status_code == 503
        assert "2 pages are open" in full.text
        until(site, 1)
        assert get(site.base + "10-retag").status_code == 200
        started = site.group()
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_pages_that_are_opened_at_once_are_counted(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Of six that come together no more open than may; and the rest is told so."""
    with Site(tmp_path / "ui.log", seeded_embedded.url, "--pages", "2") as site:
        until(site, 1)
        with ThreadPoolExecutor(6) as visitors:
            answers = list(visitors.map(get, [site.base + "13-retention"] * 6))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
        until(site, 3)


def test_a_page_that_is_left_before_it_is_there_ends(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Reloaded six times while it is made, it takes one place and not six, and the log says nothing of it."""
    with Site(tmp_path / "ui.log", seeded_embedded.url) as site, httpx.Client(timeout=600) as visitor:
        until(site, 1)
        for _ in range(6):
            with visitor.stream(
                "GET", f"{site.base}13-retention", params={"visit": "1"}, follow_redirects=True
            ) as page:
                assert page.status_code == 200
                next(page.iter_raw())
        deadline = time.monotonic() + 60
        while "regnb_ui_pages 0.0" not in httpx.get(site.base + "metrics").text and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "regnb_ui_pages 0.0" in httpx.get(site.base + "metrics").text
        until(site, 1)
        assert len(site.printed().splitlines()) == 1, site.printed()


def test_a_page_whose_kernel_never_began_gets_another(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """A kernel ends at once where somebody has taken a port since it was chosen: nothing was sent, and a page comes."""
    with Site(tmp_path / "ui.log", seeded_embedded.url) as site:
        until(site, 1)
        for pid in site.group()[2:]:  # the one in reserve
            os.kill(pid, signal.SIGKILL)
        assert 'href="/ui/02-storage"' in get(site.base + "10-retag").text


def test_a_kernel_that_dies_is_told(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """While its page is open, and while it is made: the page ends with a reason, and the next one works."""
    with Site(tmp_path / "ui.log", seeded_embedded.url) as site:

        def kill() -> None:
            for pid in site.group()[2:]:  # beside the server and what kernels are forked from
                os.kill(pid, signal.SIGKILL)

        async def work(client: httpx.Client) -> None:
            async with Visitor(site, "13-retention", client) as visitor:
                kill()
                with pytest.raises(ConnectionError, match="ended early"):
                    await visitor.quiet(30)

        with httpx.Client(timeout=600) as client:
            asyncio.run(work(client))
            with client.stream("GET", f"{site.base}02-storage") as page:
                pieces = page.iter_text()
                text = next(pieces)
                kill()
                text += "".join(pieces)
            assert "could not be made" in text
            assert Visitor(site, "13-retention", client).kernel
        assert "Traceback" not in site.printed()


def test_the_prefix_may_be_nothing(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """``--base-url /`` serves at the root."""
    with Site(tmp_path / "ui.log", seeded_embedded.url, "--base-url", "/") as site:
        base = site.base.replace("/ui/", "/")
        assert get(base + "healthz").text == "ok"
        assert "What is in my registry" in get(base).text
        assert 'href="/02-storage"' in get(base + "10-retag").text
        assert get(base + "voila/static/voila.js").status_code == 200


def test_another_prefix(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """``--base-url`` names it with or without slashes, and every link follows."""
    with Site(tmp_path / "ui.log", seeded_embedded.url, "--base-url", "/tools/regnb") as site:
        base = site.base.replace("/ui/", "/tools/regnb/")
        assert get(base + "healthz").text == "ok"
        assert 'href="/tools/regnb/02-storage"' in get(base + "10-retag").text
        assert get(base.replace("/tools/regnb/", "/")).headers["location"] == "/tools/regnb/"


def test_a_registry_that_is_not_there_is_said_on_the_page(tmp_path: Path) -> None:
    """The page comes, with the reason; what the cells say is not a traceback."""
    with Site(tmp_path / "ui.log", f"http://127.0.0.1:{free_port()}") as site:
        text = get(site.base).text
    assert "refuses connections" in text
    assert "Traceback" not in text


def test_a_long_reading_is_told_while_the_page_is_made(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """The registry answers for no manifest until the visitor was told the count of tags, again and again if need be."""
    told = threading.Event()

    def hold(request: Request) -> None:
        if "/manifests/" in request.path:
            told.wait(60)

    with (
        proxy(seeded_embedded.host, hold) as between,
        Site(tmp_path / "ui.log", between.url) as site,
        httpx.Client(timeout=600) as client,
    ):
        visit(f"{site.base}31-expose-on-kubernetes", client)
        page = ""
        with client.stream("GET", f"{site.base}01-inventory") as answer:
            for piece in answer.iter_text():
                page += piece
                if re.search(r'regnb_told\("Reading: [\d,]+ of about [\d,]+ tags.*repositories\)"\)', page):
                    told.set()
    assert told.is_set()
    assert "vm/centos8" in page
    assert 'nonce="' in page.partition('regnb_told("Reading')[0].rpartition("<script")[2]

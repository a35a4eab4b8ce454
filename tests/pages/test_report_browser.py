"""The report in a real browser, from a file and with the network blocked: drawn, readable, printable, and inert."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, FLAGS, WIDTHS
from conftest import Seeded, need
from test_report import hostile, snapshots

import regnb
from regnb.pages.report import report

SCHEMES = ("light", "dark")


class Opened:
    """A report in a browser: what it asked for beside itself, and what it complained of."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_context(**context).new_page()
        self.page.route("**/*", self._answer)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.own = path.as_uri()
        self.page.goto(self.own)

    def _answer(self, route: Any) -> None:
        if route.request.url == self.own:
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def drawn(self) -> None:
        """Wait until every chart is there."""
        number = self.page.locator("figure").count()
        assert number >= 7
        # Not wait_for_function: it asks again by eval, which the page's own policy forbids.
        self.page.locator("figure .main-svg .bglayer").nth(number - 1).wait_for(state="attached")

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "hostile.html"
    path.write_text(report(hostile(), growth=snapshots(3)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(hostile_file: Path) -> Iterator[Any]:
    # The file comes first: while playwright runs there can be no other event loop.
    need("browser", CHROMIUM, "chromium is not installed (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(seeded_real: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    page = report(regnb.read(seeded_real.root), growth=snapshots(5), capacity="1TB", command="regnb report storage")
    path.write_text(page, encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_chart_is_drawn_within_the_window(browser: Any, file: Path, width: int, scheme: str) -> None:
    """Nothing is asked for, nothing complained of, nothing sticks out; a wide table scrolls in its own frame."""
    opened = Opened(browser, file, viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.drawn()
    assert opened.overflow() <= 0
    charts = opened.page.locator("figure").all()
    for chart in charts:
        frame, picture = chart.bounding_box(), chart.locator(".main-svg").first.bounding_box()
        assert picture["width"] > 300
        assert picture["x"] + picture["width"] <= frame["x"] + frame["width"] + 1
        # A chart of nothing but its title would be no chart: there are shapes that carry data.
        assert chart.locator("path").count() > 2
    assert (opened.asked, opened.complaints) == ([], [])
    opened.page.screenshot(path=file.with_name(f"report-{width}-{scheme}.png"), full_page=True)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out(browser: Any, file: Path, scheme: str) -> None:
    """Each text of the page, and of the axes, has at least the contrast that WCAG asks for, 4.5 to 1."""
    opened = Opened(browser, file, viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    opened.drawn()
    contrast = """selector => {
      const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
      const light = colour => numbers(colour).slice(0, 3).map(part => part / 255)
        .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
      const behind = one => { const colour = getComputedStyle(one).backgroundColor;
        return numbers(colour)[3] === 0 ? behind(one.parentElement) : colour; };
      return Math.min(...[...document.querySelectorAll(selector)].map(one => {
        const style = getComputedStyle(one), svg = one instanceof SVGElement;
        const pair = [light(svg ? style.fill : style.color), light(behind(svg ? one.closest("figure") : one))].sort();
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05); })); }"""
    texts = "h1, h2, p, li, a, dt, dd, th, td, caption, figcaption"
    assert opened.page.evaluate(contrast, texts) >= 4.5
    assert opened.page.evaluate(contrast, "figure .xtick text, figure .ytick text, figure .gtitle") >= 4.5


def test_it_prints_on_paper(browser: Any, file: Path) -> None:
    """On A4 the charts fit the sheet, in light colours even where the screen is dark, and the contents are left out."""
    opened = Opened(browser, file, viewport={"width": 1280, "height": 900}, color_scheme="dark")
    opened.drawn()
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths, heights = zip(
        *opened.page.evaluate(
            "[...document.querySelectorAll('figure .main-svg')].map(one => [one.clientWidth, one.clientHeight])"
        ),
        strict=True,
    )
    # 180 by 267 millimetres, at 96 pixels an inch.
    assert max(widths) <= 680
    assert max(heights) <= 1009
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not opened.page.locator("nav").is_visible()
    assert opened.page.pdf().startswith(b"%PDF")
    opened.page.emulate_media(media="screen")
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    opened.page.wait_for_function("document.querySelector('figure .main-svg').clientWidth > 900")


@pytest.mark.parametrize("how", ["disabled", "blocked"])
def test_without_scripts_the_tables_tell_everything(browser: Any, file: Path, tmp_path: Path, how: str) -> None:
    """As in the preview of a mail: no empty places for charts, and a word about it."""
    if how == "blocked":
        page = file.read_text(encoding="utf-8").replace("script-src 'unsafe-inline'", "script-src 'none'")
        file = tmp_path / "blocked.html"
        file.write_text(page, encoding="utf-8")
    view = {"width": 700, "height": 900}
    opened = Opened(browser, file, viewport=view, java_script_enabled=how == "blocked")
    page = opened.page
    assert page.get_by_text("Scripts are blocked here").is_visible()
    assert not any(figure.is_visible() for figure in page.locator("figure").all())
    assert page.locator("table").first.is_visible()
    assert page.locator("td", has_text="vm/centos8").first.is_visible()


def test_by_keyboard(browser: Any, file: Path) -> None:
    """The first stop skips to the report, the next ones are the contents; a table can be reached and scrolled."""
    opened = Opened(browser, file, viewport={"width": 700, "height": 900})
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert opened.page.locator(".skip").bounding_box()["x"] >= 0
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.getAttribute('role')") == "region"


def test_hostile_names_run_nothing(browser: Any, hostile_file: Path) -> None:
    """Neither in the tables nor in what plotly makes of them, which reads markup; links and pictures do not appear."""
    opened = Opened(browser, hostile_file, viewport={"width": 700, "height": 900})
    opened.drawn()
    assert opened.overflow() <= 0
    assert opened.page.evaluate("typeof pwned") == "undefined"
    assert opened.page.locator("img, figure a, main a[href^=http]").count() == 0
    assert (opened.asked, opened.complaints) == ([], [])

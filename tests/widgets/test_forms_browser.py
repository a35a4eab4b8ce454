"""The forms in JupyterLab and a real browser: by mouse and by keyboard, in both themes, wide and narrow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from browser import OPEN, WIDTHS, Lab, browsing, run_all
from conftest import Seeded
from distribution import Distribution
from images import config, fill, image, layer
from proxied import proxy, state
from test_notebooks import NOTEBOOKS, forward

from regnb.notebooks import runbook

SENT = 500
"""Milliseconds: what is typed last is sent when the kernel has taken what was typed before; a click overtakes it."""
REPOSITORIES = ("vm/centos8", "vm/test/centos8")


class Room:
    """One JupyterLab for all the tests here; each test gets a notebook of its own, connected to its registry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "notebooks"
        self.lab = Lab(folder / "lab.log", OPEN, "http://127.0.0.1:9", self.folder)

    def enter(self, page: Any, notebook: str, url: str) -> Any:
        """Run a notebook against a registry, and return its first form."""
        document = json.loads((runbook.notebooks() / f"{notebook}.ipynb").read_text(encoding="utf-8"))
        parameters = next(cell for cell in document["cells"] if "parameters" in cell["metadata"].get("tags", ()))
        source = "".join(parameters["source"])
        parameters["source"] = source.replace('url = ""', f"url = {url!r}")
        address = self.lab.url(notebook)
        (self.folder / f"{notebook}.ipynb").write_text(json.dumps(document), encoding="utf-8")
        page.goto(f"{address}&reset")
        run_all(page)
        page.keyboard.press("Control+b")  # the list of files takes half of a narrow window
        form = page.locator(".regnb-form").first
        form.scroll_into_view_if_needed()
        form.locator("tbody tr:visible, textarea:visible, select:visible").first.wait_for()
        return form


@pytest.fixture(scope="module")
def room(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGNB_RECEIPTS", str(folder / "receipts"))
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        found = Room(folder)
        yield found
        found.lab.stop()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(screenshots: Path) -> Iterator[Any]:
    with browsing(screenshots / "last.png") as (found, outside):
        found.set_viewport_size({"width": WIDTHS[0], "height": 2400})
        yield found
        assert outside == []


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run what starts an event loop of its own: the browser's runs in this thread."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(work, *arguments).result()


def button(form: Any, name: str) -> Any:
    return form.get_by_role("button", name=re.compile(name))


def part(form: Any, title: str) -> Any:
    return form.locator(".regnb-part", has=form.page.locator("h4", has_text=title))


def code(form: Any) -> str:
    """The code that the form asks for."""
    shown = form.locator(".regnb-code")
    shown.wait_for()
    return str(shown.inner_text())


def is_off(form: Any) -> bool:
    return bool(button(form, "^Apply").is_disabled())


def plan(form: Any) -> str:
    """Preview, and return the plan's code."""
    form.page.wait_for_timeout(SENT)
    button(form, "^Preview$").click()
    part(form, "Preview").get_by_text("Rows", exact=True).wait_for()
    return code(form)


def apply(form: Any, typed: str) -> None:
    form.get_by_label("Code").fill(typed)
    form.page.locator(".regnb-form button.mod-danger:enabled").first.wait_for()
    button(form, "^Apply").click()


def finished(form: Any, operation: str) -> None:
    form.get_by_text(re.compile(f"^{operation} on .*: everything was done")).wait_for()


def test_delete_and_undo(room: Room, writable: Seeded, page: Any, screenshots: Path) -> None:
    """Filter, sort, choose, preview, confirm, apply, undo: each step does what it says, and nothing earlier writes."""
    before = apart(state, writable.url, *REPOSITORIES)
    form = room.enter(page, "12-delete", writable.url)
    form.get_by_label("Search:").fill("centos8")
    heading = form.locator("thead th", has_text="size")
    heading.click()
    # The smallest, but not the first in the inventory.
    form.locator("tbody tr:first-child", has_text="8.3").click()
    form.get_by_text("1 chosen").wait_for()
    assert "vm/centos8:8.3" in part(form, "Choose").inner_text()
    heading.click()
    form.get_by_text("incomplete:").click()

    typed = plan(form)
    assert is_off(form)
    form.get_by_label("Code").fill("00000000")
    page.wait_for_timeout(500)
    assert is_off(form)
    form.get_by_label("Code").fill(typed)
    page.locator(".regnb-form button.mod-danger:enabled").first.wait_for()

    form.get_by_text("Signatures, SBOMs and other").click()
    form.get_by_text("Changed: preview again.").wait_for()
    assert is_off(form)
    assert form.get_by_label("Code").input_value() == ""
    assert apart(state, writable.url, *REPOSITORIES) == before

    other = plan(form)
    assert other != typed
    apply(form, other)
    finished(form, "delete")
    form.screenshot(path=screenshots / f"12-delete-receipt-{writable.kind}.png")
    assert is_off(form)
    after = apart(state, writable.url, *REPOSITORIES)
    assert set(before) - set(after) == {"vm/centos8:8.3"}
    assert {name: before[name] for name in after} == after

    button(form, "^Undo").click()
    form.get_by_text(re.compile("^undo on")).wait_for()
    apply(form, code(form))
    finished(form, "undo")
    assert apart(state, writable.url, *REPOSITORIES) == before


def test_choose_all_that_match_and_read_again(room: Room, writable: Seeded, page: Any) -> None:
    """Rows can be chosen by the search, and the table is renewed on request; what is chosen then still counts."""
    form = room.enter(page, "12-delete", writable.url)
    shown, _, rows, *_ = form.get_by_text("rows shown").inner_text().split()
    form.get_by_label("Search:").fill("apps/worker")
    button(form, "Choose all that match").click()
    form.get_by_text("5 chosen").wait_for()
    form.get_by_text("incomplete:").click()
    apply(form, plan(form))
    finished(form, "delete")
    assert apart(state, writable.url, "apps/worker") == {}
    table = form.locator("tbody").first.element_handle()
    button(form, "^Read again$").click()
    table.wait_for_element_state("hidden")  # another takes its place, a moment after the count of its rows
    form.get_by_text(f"{int(shown) - 5} of {int(rows) - 5} rows shown").wait_for()
    form.get_by_label("Search:").fill("centos8")
    form.locator("tbody tr", has_text="8.3").click()
    form.get_by_text("1 chosen").wait_for()
    assert "vm/centos8:8.3" in part(form, "Choose").inner_text()


def tab_to(page: Any, what: str, most: int = 12) -> None:
    """Press Tab until what has the focus has this name."""
    for _ in range(most + 1):
        described = page.evaluate(
            "(e => e.labels?.[0]?.innerText || e.innerText || e.getAttribute('aria-label') || e.tagName)"
            "(document.activeElement)"
        )
        if str(described).strip().startswith(what):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab does not reach {what}")


def apply_by_keys(page: Any, form: Any) -> None:
    """Go on to the preview of a form that is filled in, its code and Apply, each by Tab and the key expected."""
    tab_to(page, "Preview")
    page.wait_for_timeout(SENT)
    page.keyboard.press("Enter")
    typed = code(form)
    tab_to(page, "Code")
    page.keyboard.type(typed)
    page.locator(".regnb-form button.mod-danger:enabled").first.wait_for()
    tab_to(page, "Apply")
    page.keyboard.press("Space")


def test_retag_by_keyboard_alone(room: Room, writable: Seeded, page: Any) -> None:
    """Every step is reached with Tab, and done with the keys that one expects."""
    before = apart(state, writable.url, "vm/centos8")
    form = room.enter(page, "10-retag", writable.url)
    keys = page.keyboard

    form.locator("h3").click()
    tab_to(page, "Search:")
    keys.type("vm/centos8")
    form.get_by_text("Showing 1 to 4 of 4").wait_for()
    tab_to(page, "vm/centos8")
    keys.press("ArrowDown")
    keys.press("Space")
    form.get_by_text("1 chosen").wait_for()
    assert "vm/centos8:8.3" in part(form, "Choose").inner_text()
    tab_to(page, "New tag")
    keys.type("stable")
    apply_by_keys(page, form)
    finished(form, "retag")
    after = apart(state, writable.url, "vm/centos8")
    assert after == before | {"vm/centos8:stable": before["vm/centos8:8.3"]}


def test_a_registry_that_stops_is_said_in_the_form(room: Room, real: Distribution, page: Any) -> None:
    """A registry that goes away between preview and apply, and before a preview: a sentence, and no traceback."""
    apart(fill, real.url, ("a/b", "1", image([layer(1, 100)], about=config())))
    form = room.enter(page, "12-delete", real.url)
    form.locator("tbody tr").first.click()
    typed = plan(form)
    real.stop()
    apply(form, typed)
    form.get_by_role("alert").wait_for()
    assert "refuses connections" in form.get_by_role("alert").inner_text()
    assert is_off(form)
    assert page.get_by_text("Traceback").count() == 0
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0


def theme(page: Any, name: str) -> None:
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text(name, exact=True).click()
    page.wait_for_timeout(1000)


FILLED = {
    "10-retag": "vm/centos8",
    "11-copy": "apps/payments",
    "12-delete": "vm/centos8",
}
FORM = '"forms.'
WITH_FORMS = [path.stem for path in NOTEBOOKS if FORM in path.read_text("utf-8") and path.stem != "03-image"]
"""The notebooks that show a form at once; an image's forms open by a button."""


@pytest.mark.parametrize("notebook", WITH_FORMS)
def test_it_is_drawn_and_fits(room: Room, seeded_embedded: Seeded, page: Any, notebook: str, screenshots: Path) -> None:
    """All cells run, all forms are drawn, and a preview writes nothing; wide and narrow, light and dark, all fits."""
    with proxy(seeded_embedded.host, forward) as between:
        page.set_viewport_size({"width": WIDTHS[0], "height": 4000})  # what cannot be seen is not in the page
        form = room.enter(page, notebook, between.url)
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        expected = (runbook.notebooks() / f"{notebook}.ipynb").read_text(encoding="utf-8").count(FORM)
        page.locator(".regnb-form").nth(expected - 1).wait_for()
        assert page.locator(".regnb-form").count() == expected
        fill_in(form, notebook)
        plan(form)
        # A preview asks, with names that are not there, what the registry would refuse.
        asked = {
            method: {each.path for each in between.requests if each.method == method} for method in ("GET", "DELETE")
        }
        assert not asked["GET"] & asked["DELETE"]
        assert {request.method for request in between.requests} <= {"GET", "HEAD", "OPTIONS", "DELETE"}
    for name in ("JupyterLab Light", "JupyterLab Dark"):
        theme(page, name)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 2400})
            page.wait_for_timeout(700)
            form.scroll_into_view_if_needed()
            form.screenshot(path=screenshots / f"{notebook}-{width}-{name.split()[1].lower()}.png")
            edge = form.evaluate("form => form.getBoundingClientRect().right")
            visible = "button, input, textarea, p, h4, li, .regnb-box, .regnb-scroll, .dt-container"
            outside = form.locator(visible).evaluate_all(
                "(found, edge) => found.filter(e => e.offsetWidth && !e.closest('.regnb-scroll div')"
                " && e.getBoundingClientRect().right > edge).map(e => e.outerHTML.slice(0, 200))",
                edge,
            )
            assert outside == []
            assert contrast(form.locator("h4").first) > 4.5
            assert contrast(form.locator(".regnb-scroll td").first) > 4.5
    theme(page, "JupyterLab Light")


def fill_in(form: Any, notebook: str) -> None:
    if FILLED.get(notebook):
        form.get_by_label("Search:").fill(FILLED[notebook])
        form.locator("tbody tr").first.click()
    if notebook == "10-retag":
        form.get_by_label("New tag").fill("{tag}-stable")
    if notebook == "11-copy":
        form.get_by_label("Copy to").fill("archive/{repository}:{tag}")
    if notebook == "12-delete":
        form.get_by_text("Delete the digest").click()
        form.get_by_text("incomplete:").click()
    if notebook == "13-retention":
        policy = '[[rule]]\nrepositories = ["apps/*"]\nkeep_newest = 2\nremove_at_most = "100%"\n'
        form.get_by_label("Policy").fill(policy)
        form.get_by_text("incomplete:").click()


def contrast(text: Any) -> float:
    """The contrast of a text to its ground, as WCAG 2.1 has it."""
    colours = text.evaluate(
        """e => { let ground = e; const of = x => getComputedStyle(x).backgroundColor;
        while (ground.parentElement && of(ground).endsWith(', 0)')) ground = ground.parentElement;
        return [getComputedStyle(e).color, of(ground)] }"""
    )

    def luminance(colour: str) -> float:
        red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
        linear = [
            value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in (red, green, blue)
        ]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)

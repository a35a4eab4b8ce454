"""The API console in JupyterLab and a real browser: the lessons in a row, by mouse and by keyboard, wide and narrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import WIDTHS, faults
from conftest import Seeded, push_demo
from distribution import Distribution
from proxied import proxy, state
from test_console import OWN
from test_forms import SIBLINGS
from test_forms_browser import (  # noqa: F401 -- three are fixtures
    SENT,
    Room,
    apart,
    apply,
    button,
    code,
    contrast,
    finished,
    is_off,
    page,
    part,
    plan,
    room,
    screenshots,
    theme,
)
from test_notebooks import forward

from regnb.widgets.console import LESSONS

NOTEBOOK = "30-api-console"


def choose(form: Any, operation: str, path: str, **values: str) -> None:
    """Choose an operation, fill it in, and wait until the path is the one that it means."""
    form.get_by_label("Operation").select_option(label=operation)
    for label, value in values.items():
        field = form.get_by_label(label, exact=True)
        field.wait_for()
        field.fill(value)
    form.page.wait_for_timeout(SENT)
    assert form.get_by_label("Path").input_value() == path


def send(form: Any) -> str:
    """Send what was chosen, and return the answer's part."""
    number = form.locator(".regnb-past tbody tr").count()
    form.get_by_role("button", name="Send").click()
    form.locator(".regnb-past tbody tr").nth(number).wait_for()
    answer = part(form, "Answer")
    answer.get_by_text("The same with curl").wait_for()
    return str(answer.inner_text())


def suggestions(form: Any, label: str) -> list[str]:
    """What a field offers."""
    field = form.get_by_label(label, exact=True)
    return list(field.evaluate("field => [...field.list.options].map(option => option.value)"))


def test_from_the_catalog_to_a_deletion_and_back(
    room: Room, real: Distribution, page: Any, screenshots: Path  # noqa: F811
) -> None:  # fmt: skip
    """Catalog, tags, manifest, HEAD; the digest is deleted with its siblings, by its code alone, and undone."""
    apart(push_demo, real.url)
    before = apart(state, real.url, "vm/centos8")
    form = room.enter(page, NOTEBOOK, real.url)
    choose(form, "Repositories: the catalog", "/v2/_catalog?n=100")
    assert "HTTP/1.1 200 OK" in send(form)
    assert "vm/centos8" in suggestions(form, "Repository")
    choose(form, "Tags of a repository", "/v2/vm/centos8/tags/list", Repository="vm/centos8")
    assert '"latest"' in send(form)
    assert set(suggestions(form, "Tag")) >= SIBLINGS
    choose(form, "Manifest", "/v2/vm/centos8/manifests/latest", Tag="latest")
    assert '"schemaVersion": 2' in send(form)
    choose(form, "Digest, by HEAD", "/v2/vm/centos8/manifests/latest")
    shown = send(form)
    digest = before["vm/centos8:latest"].digest
    assert f"docker-content-digest: {digest}" in shown
    assert "curl -sS --head" in shown
    assert part(form, "Preview").is_hidden()

    choose(form, "Delete by digest", f"/v2/vm/centos8/manifests/{digest}")
    assert button(form, "^Send$").is_hidden()
    typed = plan(form)
    touched = part(form, "Preview").inner_text()
    assert all(tag in touched for tag in SIBLINGS)
    assert is_off(form)
    form.get_by_label("Code").fill("00000000")
    page.wait_for_timeout(SENT)
    assert is_off(form)
    assert apart(state, real.url, "vm/centos8") == before
    form.screenshot(path=screenshots / "30-api-console-delete.png")
    apply(form, typed)
    finished(form, "request")
    after = apart(state, real.url, "vm/centos8")
    assert set(before) - set(after) == {f"vm/centos8:{tag}" for tag in SIBLINGS}
    form.screenshot(path=screenshots / "30-api-console-receipt.png")

    button(form, "^Undo").click()
    form.get_by_text("undo on").first.wait_for()
    apply(form, code(form))
    finished(form, "undo")
    assert apart(state, real.url, "vm/centos8") == before
    choose(form, "Manifest", "/v2/vm/centos8/manifests/latest")
    assert "HTTP/1.1 200 OK" in send(form)


def test_by_keyboard_alone(room: Room, seeded_real: Seeded, page: Any) -> None:  # noqa: F811
    """Tab reaches every control in order, and a request is chosen, filled in, sent and read without the mouse."""
    form = room.enter(page, NOTEBOOK, seeded_real.url)
    keys = page.keyboard

    def tab_to(what: str) -> None:
        for _ in range(30):
            described = page.evaluate(
                "(e => e.labels?.[0]?.innerText || e.innerText || e.getAttribute('aria-label') || e.tagName)"
                "(document.activeElement)"
            )
            if str(described).strip().startswith(what):
                return
            keys.press("Tab")
        pytest.fail(f"Tab does not reach {what}")

    form.locator("h3").click()
    tab_to("Operation")
    for _ in range([*LESSONS].index("Digest, by HEAD")):
        keys.press("ArrowDown")
    page.wait_for_timeout(SENT)
    tab_to("Repository")
    keys.type("vm/centos8")
    tab_to("Tag")
    keys.type("8.3")
    tab_to("Method")
    tab_to("Path")
    tab_to("Show")
    page.wait_for_timeout(SENT)
    tab_to("Send")
    keys.press("Enter")
    part(form, "Answer").get_by_text("docker-content-digest").wait_for()
    assert "HEAD /v2/vm/centos8/manifests/8.3" in part(form, "History").inner_text()


def test_errors_are_boxes(room: Room, real: Distribution, page: Any) -> None:  # noqa: F811
    """A 404 is shown with its body and a hint; a registry that stops is a sentence, and there is no traceback."""
    form = room.enter(page, NOTEBOOK, real.url)
    choose(form, "Tags of a repository", "/v2/no/such/tags/list", Repository="no/such")
    shown = send(form)
    assert "HTTP/1.1 404 Not Found" in shown
    assert "NAME_UNKNOWN" in shown
    real.stop()
    form.get_by_role("button", name="Send").click()
    form.get_by_text("refuses connections").wait_for()
    assert page.get_by_text("Traceback").count() == 0


def test_it_fits_and_is_accessible(
    room: Room, seeded_real: Seeded, page: Any, screenshots: Path  # noqa: F811
) -> None:  # fmt: skip
    """A manifest with its headers, and a plan: nothing sticks out, contrast is enough, axe finds nothing serious."""
    with proxy(seeded_real.host, forward) as between:
        form = room.enter(page, NOTEBOOK, between.url)
        digest = apart(state, seeded_real.url, "vm/centos8")["vm/centos8:latest"].digest
        choose(form, "Manifest", "/v2/vm/centos8/manifests/latest", Repository="vm/centos8", Tag="latest")
        form.get_by_label("Show", exact=True).select_option(index=1)
        page.wait_for_timeout(SENT)
        send(form)
        choose(form, "Digest, by HEAD", f"/v2/vm/centos8/manifests/{digest}", Tag=digest)
        send(form)
        choose(form, "Manifest", f"/v2/vm/centos8/manifests/{digest}")
        send(form)
        look(form, screenshots, "answer", ".regnb-scroll pre")
        choose(form, OWN, f"/v2/vm/centos8/manifests/{digest}")
        choose(form, "Retag: GET, then PUT", "/v2/vm/centos8/manifests/stable", **{"New tag": "stable"})
        plan(form)
        look(form, screenshots, "plan", ".regnb-scroll td")
        # The preview of a PUT asks by OPTIONS whether the registry takes it.
        assert {request.method for request in between.requests} <= {"GET", "HEAD", "OPTIONS"}


def look(form: Any, folder: Path, name: str, text: str) -> None:
    """Take pictures in both themes and widths, and check that everything is inside, legible and named."""
    for colours in ("JupyterLab Dark", "JupyterLab Light"):
        theme(form.page, colours)
        for width in WIDTHS:
            form.page.set_viewport_size({"width": width, "height": 2400})
            form.page.wait_for_timeout(700)
            form.scroll_into_view_if_needed()
            form.screenshot(path=folder / f"{NOTEBOOK}-{name}-{width}-{colours.split()[1].lower()}.png")
            edge = form.evaluate("form => form.getBoundingClientRect().right")
            outside = form.locator("button, input, select, textarea, p, h4, pre, td, .regnb-box").evaluate_all(
                "(found, edge) => found.filter(e => e.offsetWidth && !e.closest('.regnb-scroll')"
                " && e.getBoundingClientRect().right > edge).map(e => e.outerHTML.slice(0, 200))",
                edge,
            )
            assert outside == []
            assert contrast(form.locator("h4").first) > 4.5
            assert contrast(form.locator(text).first) > 4.5
    assert faults(form.page, ".regnb-form") == []
    form.page.set_viewport_size({"width": WIDTHS[0], "height": 2400})

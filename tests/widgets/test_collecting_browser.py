"""The page that collects garbage, in JupyterLab and a real browser: preview, arm by the code, apply, put back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import swept
from browser import OPEN, Lab, run_all
from distribution import Distribution
from test_forms_browser import (
    apart,
    apply_by_keys,
    button,
    code,
    is_off,
    page,  # noqa: F401 -- a fixture
    plan,
    screenshots,  # noqa: F401 -- a fixture
)

from regnb.notebooks import runbook


@pytest.fixture
def old(real: Distribution) -> Distribution:
    """A stopped registry, three days old, with one image that was deleted."""
    return swept.old(real)


@pytest.fixture
def form(old: Distribution, page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:  # noqa: F811
    """The notebook 14-collect over this storage, with all its forms."""
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    lab = Lab(tmp_path / "lab.log", OPEN, "http://127.0.0.1:9", tmp_path / "notebooks")
    try:
        document = json.loads((runbook.notebooks() / "14-collect.ipynb").read_text(encoding="utf-8"))
        parameters = next(cell for cell in document["cells"] if "parameters" in cell["metadata"].get("tags", ()))
        source = re.sub(r"storage = .*", f"storage = {str(old.root)!r}\n", "".join(parameters["source"]))
        parameters["source"] = source.replace("endpoints = []", f"endpoints = [{old.url!r}]")
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        address = lab.url("14-collect")
        (tmp_path / "notebooks" / "14-collect.ipynb").write_text(json.dumps(document), encoding="utf-8")
        page.goto(f"{address}&reset")
        run_all(page)
        page.keyboard.press("Control+b")
        found = page.locator(".regnb-form").first
        found.scroll_into_view_if_needed()
        button(found, "^Preview$").wait_for()
        yield page
    finally:
        lab.stop()


def to_put_back(form: Any) -> Any:
    """Run all cells again, and give the form that puts a collection back."""
    run_all(form)
    back = form.locator(".regnb-form").nth(1)
    back.scroll_into_view_if_needed()
    button(back, "^Preview$").wait_for()
    form.wait_for_function(
        "() => [...document.querySelectorAll('.regnb-form option')].some(one => one.value.includes('T'))"
    )
    return back


def done(form: Any, words: str) -> None:
    """Wait for what was done, which names its receipt; a plan and the form's title say such words before."""
    said = form.locator("[role=status]", has_text="Receipt")
    said.wait_for()
    assert words in said.inner_text()


def confirm(form: Any, words: str) -> None:
    typed = code(form)
    field = form.get_by_placeholder(re.compile("to enable Apply"))
    field.fill(typed[:-1])
    assert is_off(form)
    field.fill(typed)
    button(form, "^Apply").click()
    done(form, words)


@pytest.mark.browser
def test_collect_and_put_back(form: Any, old: Distribution, screenshots: Path) -> None:  # noqa: F811
    """Run All moves nothing; a typed code does; the trash's form puts everything back, byte for byte."""
    before = swept.tree(old.root)
    collect = form.locator(".regnb-form").first
    assert is_off(collect)
    plan(collect)
    assert "no manifest that stays needs it" in collect.inner_text()
    assert apart(swept.tree, old.root) == before, "Run All and a preview move nothing"
    collect.screenshot(path=screenshots / "collect-preview.png")
    confirm(collect, "removed for good 0 B")
    assert "Restart every registry process" in collect.inner_text()
    collect.screenshot(path=screenshots / "collect-done.png")
    assert swept.tree(old.root) != before
    back = to_put_back(form)
    plan(back)
    back.screenshot(path=screenshots / "put-back.png")
    confirm(back, "Put back")
    assert swept.tree(old.root) == before


@pytest.mark.browser
def test_collect_and_put_back_by_keyboard_alone(form: Any, old: Distribution) -> None:
    """From a form's head on Tab reaches Preview, then the code's field and Apply, within 12 stops each."""
    before = swept.tree(old.root)
    collect = form.locator(".regnb-form").first
    collect.locator("h3").click()
    apply_by_keys(form, collect)
    done(collect, "removed for good 0 B")
    assert swept.tree(old.root) != before
    back = to_put_back(form)
    back.locator("h3").click()
    apply_by_keys(form, back)
    done(back, "Put back")
    assert swept.tree(old.root) == before

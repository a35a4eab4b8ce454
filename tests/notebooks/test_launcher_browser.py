"""The card in JupyterLab's launcher, clicked on: the web UI opens, and its widgets live."""

from __future__ import annotations

import os
from pathlib import Path

from browser import Lab, browsing
from test_launcher import lab

__all__ = ["lab"]


def test_the_card_opens_the_web_ui(lab: Lab, tmp_path: Path) -> None:
    """It is read-only there, its form answers to a click (so the WebSocket comes through), all is from here."""
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    with browsing(folder / "last.png") as (page, outside):
        # Another test's notebooks are open in the home's workspace, and with them there is no launcher.
        page.goto(f"{lab.url().replace('/tree/00-start.ipynb', '')}&reset")
        card = page.locator(".jp-LauncherCard[title='regnb'], .jp-LauncherCard:has-text('regnb')")
        card.first.wait_for()
        page.screenshot(path=folder / "launcher.png")
        with page.context.expect_page() as opened:
            card.first.click()
        ui = opened.value
        ui.set_viewport_size({"width": 1280, "height": 1600})
        ui.get_by_role("navigation", name="Pages").wait_for()
        ui.get_by_role("link", name="Retag", exact=True).click()
        preview = ui.get_by_role("button", name="Preview").first
        preview.wait_for()
        assert "read-only" in ui.inner_text("body")
        before = ui.inner_text("main")
        preview.click()
        ui.wait_for_function("text => document.querySelector('main').innerText !== text", arg=before)
        ui.screenshot(path=folder / "launcher-ui.png")
    assert outside == []

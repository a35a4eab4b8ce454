"""The notebooks in JupyterLab and a real browser: run from top to bottom, they show everything and write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import OPEN, Lab, browsing, run_all
from proxied import proxy
from scripted import Server
from test_notebooks import NOTEBOOK, check_that_nothing_was_written, forward

from regnb import lab


@pytest.fixture(scope="module")
def running_lab(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Server]]:
    """One JupyterLab on the packaged notebooks, and the proxy in front of their registry."""
    folder = tmp_path_factory.mktemp("lab")
    with lab.demo_registry() as url, proxy(url.partition("://")[2], forward) as between:
        found = Lab(folder / "lab.log", OPEN, between.url, folder / "notebooks")
        yield found, between
        found.stop()


@NOTEBOOK
def test_run_all_in_the_browser_writes_nothing(path: Path, running_lab: tuple[Lab, Server], tmp_path: Path) -> None:
    """Every cell runs, every form is drawn, and the registry sees nothing but GET and HEAD."""
    server, between = running_lab
    between.requests.clear()
    with browsing(tmp_path / "last.png") as (page, outside):
        page.set_viewport_size({"width": 1280, "height": 4000})
        page.goto(f"{server.url(path.stem)}&reset")
        run_all(page)
        page.wait_for_timeout(2000)
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        assert page.locator(".regnb-form").count() == path.read_text(encoding="utf-8").count('"forms.')
        assert outside == []
    check_that_nothing_was_written(between)

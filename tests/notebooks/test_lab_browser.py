"""The notebooks without forms in JupyterLab and a real browser, in both themes, wide and narrow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import WIDTHS, Lab, browsing, run_all
from conftest import Seeded
from test_forms_browser import WITH_FORMS, theme

import regnb
from regnb.notebooks import lab, runbook

REST = [book.name for book in runbook.runbooks() if book.name not in ("00-start", "30-api-console", *WITH_FORMS)]
"""Those that no other test opens in JupyterLab."""
OPEN = (
    "import sys; from pathlib import Path; from regnb.notebooks import lab, runbook;"
    "more = dict(zip(('REGNB_STORAGE', 'REGNB_SNAPSHOTS'), sys.argv[3:]));"
    "lab.open_lab(Path(sys.argv[2]), surroundings=runbook.environment(sys.argv[1]) | more)"
)


@pytest.fixture(scope="module")
def room(seeded_real: Seeded, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One JupyterLab on docker-registry, its storage and two snapshots of it."""
    folder = tmp_path_factory.mktemp("lab")
    for _ in range(2):
        regnb.read(seeded_real.url).save(folder / "snapshots")
    found = Lab(folder / "lab.log", OPEN, seeded_real.url, folder / "notebooks", seeded_real.root, folder / "snapshots")
    yield found
    found.stop()


def test_some_are_left() -> None:
    """The list above is of packaged notebooks, and not empty."""
    assert {"01-inventory", "02-storage", "20-growth"} <= set(REST)
    assert all((lab.notebooks() / f"{name}.ipynb").is_file() for name in REST)


@pytest.mark.parametrize("name", REST)
def test_it_runs_and_is_drawn(room: Lab, name: str, tmp_path: Path) -> None:
    """Run All ends without an error or a warning, every chart and table is drawn, and nothing came from outside."""
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    source = (lab.notebooks() / f"{name}.ipynb").read_text(encoding="utf-8")
    with browsing(folder / "last.png") as (page, outside):
        page.set_viewport_size({"width": WIDTHS[0], "height": 16_000})  # what cannot be seen is not in the page
        page.goto(f"{room.url(name)}&reset")
        run_all(page)
        drawn: Any = page.locator(".js-plotly-plot")
        drawn.nth(source.count('"charts.') - 1).wait_for() if '"charts.' in source else page.wait_for_timeout(2000)
        for kind in ("error", "stderr"):
            assert page.locator(f".jp-Notebook [data-mime-type='application/vnd.jupyter.{kind}']").count() == 0
        assert page.locator(".jp-Notebook").inner_text().count("Traceback") == 0
        page.keyboard.press("Control+b")  # the list of files takes half of a narrow window
        for colours, grey in (("JupyterLab Light", "rgb(89, 89, 89)"), ("JupyterLab Dark", "rgb(196, 196, 196)")):
            theme(page, colours)
            titles = page.locator(".js-plotly-plot .gtitle")
            assert set(titles.evaluate_all("found => found.map(each => getComputedStyle(each).fill)")) <= {grey}
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 2400})
                page.wait_for_timeout(700)
                page.screenshot(path=folder / f"{name}-{width}-{colours.split()[1].lower()}.png")
        theme(page, "JupyterLab Light")
        assert outside == []

"""The demo as a person meets it: the command, JupyterLab in a real browser, and the end by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import COMMAND, WIDTHS, Lab, browsing, faults, run_all

from regnb.notebooks.runbook import runbooks


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Lab]:
    """``regnb demo``."""
    running = Lab(tmp_path / "demo.log", "demo", "--folder", tmp_path / "notebooks", by=COMMAND)
    yield running
    running.stop()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(home: Path, screenshots: Path) -> Iterator[tuple[Any, list[str]]]:
    with browsing(screenshots / "last.png") as found:
        yield found


def test_start_in_jupyterlab(demo: Lab, page: tuple[Any, list[str]], screenshots: Path) -> None:
    """The way in: connected to the demo, how it is, a card for every runbook, what is in it; nothing from outside."""
    lab, outside = page
    lab.set_viewport_size({"width": WIDTHS[0], "height": 5000})  # what cannot be seen is not in the page
    lab.goto(f"{demo.url()}&reset")
    run_all(lab)
    lab.locator(".js-plotly-plot").wait_for()
    form = lab.locator(".regnb-form")
    assert "Connected to 127.0.0.1" in form.inner_text()
    assert form.locator(".regnb-checks tr").count() == 6
    assert lab.locator(".regnb-cards li").count() == len(runbooks()) - 1
    shown = lab.locator(".jp-Notebook").inner_text()
    assert "vm/centos8" in shown
    assert "Complete" in shown
    assert "Traceback" not in shown
    for kind in ("error", "stderr"):
        assert lab.locator(f".jp-Notebook [data-mime-type='application/vnd.jupyter.{kind}']").count() == 0
    assert lab.get_by_text("Would you like to get notified").count() == 0
    assert [fault for ours in (".regnb-form", ".regnb-cards") for fault in faults(lab, ours)] == []
    for width in WIDTHS:
        lab.set_viewport_size({"width": width, "height": 2200})
        lab.wait_for_timeout(700)
        lab.screenshot(path=screenshots / f"00-start-{width}.png")
    assert outside == []


def test_from_the_start_page_on(demo: Lab, page: tuple[Any, list[str]]) -> None:
    """Whether it deletes is asked on a click; the demo can be reset; and a card opens its runbook beside the page."""
    lab, outside = page
    lab.set_viewport_size({"width": WIDTHS[0], "height": 2200})
    lab.goto(f"{demo.url()}&reset")
    run_all(lab)
    form = lab.locator(".regnb-form")
    assert "skipped" in form.locator(".regnb-checks").inner_text()
    form.get_by_role("button", name="Ask whether it deletes").click()
    form.get_by_text("manifests by their digest, and tags alone").wait_for()
    form.get_by_role("button", name="Reset the demo").click()
    form.get_by_text("Resetting the demo").wait_for()
    form.get_by_text("Connected to 127.0.0.1").wait_for()
    lab.locator(".regnb-cards a", has_text="Which images can go").click()
    lab.get_by_role("tab", name=re.compile("12-delete")).wait_for()
    assert outside == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_leaves_nothing_behind(demo: Lab, number: signal.Signals) -> None:
    demo.url()
    started = demo.group()
    assert len(started) > 1
    if number == signal.SIGINT:
        os.killpg(demo.process.pid, number)  # as a terminal does
    else:
        demo.process.send_signal(number)
    assert demo.process.wait(60) == 0, demo.printed()
    left = [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert left == []
    assert "Traceback" not in demo.printed()


def test_without_lab_it_audits_and_stops(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--no-lab"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "120", "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "vm/centos8" in done.stdout
    assert "Complete" in done.stdout
    assert "Problems" not in done.stdout
    assert not list(tmp_path.iterdir())

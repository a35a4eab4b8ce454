"""The demo as a person meets it: the command, JupyterLab in a real browser, and the end by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import WIDTHS, Lab, browsing, run_all, text


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Lab]:
    """``regnb demo``."""
    code = "from regnb.cli import main; main()"
    running = Lab(tmp_path / "demo.log", code, "demo", "--folder", tmp_path / "notebooks")
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
    lab, outside = page
    lab.goto(demo.url())
    run_all(lab)
    cells = lab.locator(".jp-Notebook .jp-CodeCell")
    texts = [text(cells.nth(position)) for position in range(cells.count())]
    assert len(texts) == 7
    assert all(re.search(r"\[\d+\]", each) for each in texts), texts
    assert lab.locator(".jp-Notebook [data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert lab.locator(".jp-Notebook [data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    repositories = next(each for each in texts if "inventory.repositories.sort_values" in each)
    assert "vm/centos8" in repositories
    assert "dangling" in "\n".join(texts)
    assert "Traceback" not in "\n".join(texts)
    assert lab.get_by_text("Would you like to get notified").count() == 0
    for width in WIDTHS:
        lab.set_viewport_size({"width": width, "height": 900})
        for name, needle in (
            ("top", "url ="),
            ("inventory", "registry.inventory()"),
            ("tags", "inventory.tags.sort_values"),
        ):
            text(cells.nth(next(at for at, each in enumerate(texts) if needle in each)))
            lab.wait_for_timeout(500)
            lab.screenshot(path=screenshots / f"00-start-{name}-{width}.png")
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
    assert demo.process.wait(30) == 0, demo.printed()
    left = [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert left == []
    assert "Traceback" not in demo.printed()


def test_without_lab_it_audits_and_stops(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from regnb.cli import main; main()", "demo", "--no-lab"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"COLUMNS": "120", "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "vm/centos8" in done.stdout
    assert "dangling" in done.stdout
    assert not list(tmp_path.iterdir())

"""The demo as a person meets it: the command, JupyterLab in a real browser, and the end by Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import need

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (1280, 700)


class Demo:
    """``regnb demo`` in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "demo.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "from regnb.cli import main; main()",
                    "demo",
                    "--folder",
                    str(folder / "notebooks"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"COLUMNS": "120", "DISPLAY": "", "WAYLAND_DISPLAY": ""},
                start_new_session=True,
            )

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def url(self) -> str:
        """The address that JupyterLab prints, with its token."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/\S*token=\w+", self.printed()):
                return found[0].replace("localhost", "127.0.0.1")
            time.sleep(0.1)
        pytest.fail(f"no address was printed:\n{self.printed()}")

    def group(self) -> list[int]:
        """The processes that the demo started and that still run, kernels with sessions of their own included."""
        found = [self.process.pid]
        for pid in found:
            done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
            found += [int(child) for child in done.stdout.split()]
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    yield running
    if running.process.poll() is None:
        os.killpg(running.process.pid, signal.SIGTERM)
        running.process.wait(30)


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(home: Path, screenshots: Path) -> Iterator[tuple[Any, list[str]]]:
    """A page that reaches loopback only, and what it wanted from elsewhere."""
    need("browser", CHROMIUM, "chromium is not installed (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    outside: list[str] = []

    def answer(route: Any) -> None:
        if urlsplit(route.request.url).hostname in {"127.0.0.1", None}:
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900})
        context.route("**/*", answer)
        page = context.new_page()
        yield page, outside
        page.screenshot(path=screenshots / "last.png")
        browser.close()


def run_all(page: Any) -> None:
    """Run every cell and wait until the last one has its number; a click that got lost is clicked again."""
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    # The notebook's own indicator is idle before there is a kernel; clicked then, Run All asks for one.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    for _ in range(3):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.wait_for_timeout(2000)
        if page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"\[(\*|\d+)\]")).count():
            break
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        # Cells far below exist in the page once they were scrolled to; the indicator speaks for all of them.
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").count()
        waiting = page.locator(".jp-CodeCell .jp-InputPrompt", has_text="[*]").count()
        if idle and not waiting:
            return
        page.wait_for_timeout(300)
    pytest.fail("the notebook did not finish")


def text(cell: Any) -> str:
    """What a cell shows: JupyterLab keeps only those in the page that can be seen."""
    for _ in range(20):
        cell.evaluate("cell => cell.scrollIntoView()")
        cell.page.wait_for_timeout(250)
        if found := cell.inner_text():
            return str(found)
    return ""


def test_start_in_jupyterlab(demo: Demo, page: tuple[Any, list[str]], screenshots: Path) -> None:
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
def test_the_end_leaves_nothing_behind(demo: Demo, number: signal.Signals) -> None:
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

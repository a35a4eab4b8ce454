"""JupyterLab in a process of its own, and a real browser in front of it that reaches nothing but this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from conftest import need
from distribution import free_port

AXE = Path(str(importlib.util.find_spec("axe_playwright_python").submodule_search_locations[0])) / "axe.min.js"  # type: ignore[union-attr,index]
"""axe-core, which the package brings along."""
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
PATIENCE = 180_000
"""Milliseconds that a page may take on a busy machine; a test that hangs is ended by its own limit."""
WIDTHS = (1280, 700)
SHARE = Path(__file__).parents[1] / "share" / "jupyter"
"""The template of the pages as it is in this folder: an installation keeps the copy of the day it was made."""
PYTHON = (sys.executable, "-c")
COMMAND = (*PYTHON, "from regnb.cli import main; main()")
"""What runs the command line, whatever the interpreter's scripts are called."""
OPEN = (
    "import sys; from pathlib import Path; from regnb.notebooks import lab, runbook;"
    "lab.open_lab(Path(sys.argv[2]), surroundings=runbook.environment(sys.argv[1]))"
)
"""What a :class:`Lab` runs to open the packaged notebooks on a registry: its URL and a folder are the arguments."""


class Running:
    """A program with its arguments, in a process group of its own, and what it printed."""

    def __init__(
        self, log: Path, *arguments: str | Path, by: Sequence[str | Path] = PYTHON, env: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        shown = {"COLUMNS": "120", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [*by, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | shown | dict(env or {}),
                start_new_session=True,
            )

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def group(self) -> list[int]:
        """The processes that were started and that still run, kernels with sessions of their own included."""
        found = [self.process.pid]
        for pid in found:
            done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
            found += [int(child) for child in done.stdout.split()]
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(60)


def told(pid: int, name: str) -> bytes:
    """What the system tells of a process: ``cmdline``, ``environ``; nothing if it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


class Lab(Running):
    """What opens JupyterLab."""

    def __init__(self, log: Path, *arguments: str | Path, by: Sequence[str | Path] = PYTHON) -> None:
        # JupyterLab looks for a free port long before it takes it: two that start together would find the same.
        super().__init__(log, *arguments, by=by, env={"JUPYTER_PORT": str(free_port())})

    def url(self, notebook: str = "00-start", *, token: bool = True) -> str:
        """The address that JupyterLab prints, with its token if it has one, for a notebook."""
        shown = (
            r"http://(?:127\.0\.0\.1|localhost):\d+/\S*token=\w+" if token else r"(?<=: )http://127\.0\.0\.1:\d+/lab\S*"
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(shown, self.printed()):
                # jupyter_server prints it before it listens there.
                with suppress(OSError), socket.create_connection(("127.0.0.1", urlsplit(found[0]).port), 5):
                    return found[0].replace("localhost", "127.0.0.1").replace("00-start", notebook)
            time.sleep(0.1)
        pytest.fail(f"no address was printed:\n{self.printed()}")


class Site(Running):
    """``regnb ui`` in front of a registry; options are those of the command."""

    def __init__(self, log: Path, registry: str, *options: str, by: Sequence[str | Path] = COMMAND, **env: str) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}/ui/"
        arguments = ("ui", "--registry", registry, "--port", str(self.port), *options)
        super().__init__(log, *arguments, by=by, env={"JUPYTER_PATH": str(SHARE)} | env if by is COMMAND else env)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.HTTPError):
                httpx.get(f"{self.base}healthz", timeout=5)
                return self
            time.sleep(0.1)
        pytest.fail(f"no web UI, but {self.process.poll()}:\n{self.printed()}")

    def __exit__(self, *_: object) -> None:
        self.stop()


def visit(url: str, visitor: httpx.Client | None = None, **more: Any) -> httpx.Response:
    """What a browser gets that follows the light page of a first visit; other redirects are its answer."""
    with ExitStack() as stack:
        client = visitor or stack.enter_context(httpx.Client(timeout=600))
        answer = client.get(url, **more)
        for _ in range(4):
            again = re.search(r"http-equiv='refresh' content='0; url=([^']+)'", answer.text)
            where = again[1].replace("&amp;", "&") if again else ""
            if answer.status_code == 303:
                where = answer.headers["location"]
            if not where:
                break
            answer = client.get(urljoin(str(answer.url), where))
        return answer


@contextmanager
def browsing(last: Path, *names: str) -> Iterator[tuple[Any, list[str]]]:
    """Give a page that reaches loopback only, and what it wanted from elsewhere; a picture of its end is kept.

    Each of the names has the address 127.0.0.1 there: a site elsewhere, or one whose name was rebound.
    """
    need("browser", CHROMIUM, "chromium is not installed (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    outside: list[str] = []

    def answer(route: Any) -> None:
        if urlsplit(route.request.url).hostname in {"127.0.0.1", None, *names}:
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    with sync_api.sync_playwright() as playwright:
        rules = ", ".join(f"MAP {name} 127.0.0.1" for name in names)
        flags = [*FLAGS, f"--host-resolver-rules={rules}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context(viewport={"width": WIDTHS[0], "height": 900})
        context.set_default_timeout(PATIENCE)
        context.route("**/*", answer)
        page = context.new_page()
        yield page, outside
        page.screenshot(path=last)
        browser.close()


def run_all(page: Any) -> None:
    """Run every cell and wait until the last one has its number; a click that got lost is clicked again."""
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    # The notebook's own indicator is idle before there is a kernel; clicked then, Run All asks for one.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    for _ in range(3):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.wait_for_timeout(2000)
        if page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"\[(\*|\d+)\]")).count():
            break
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        # Cells far below exist in the page once they were scrolled to; the indicator speaks for all of them.
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").count()
        waiting = page.locator(".jp-CodeCell .jp-InputPrompt", has_text="[*]").count()
        if idle and not waiting:
            return
        page.wait_for_timeout(300)
    pytest.fail("the notebook did not finish")


def faults(page: Any, within: str, *, serious: bool = True) -> list[str]:
    """What axe-core finds wrong in a part of a page, a line each: what is serious, or, of a whole page, everything."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate(
        "([within, impacts]) => axe.run({include: [within]}, {resultTypes: ['violations']})"
        ".then(found => found.violations.filter(each => !impacts.length || impacts.includes(each.impact))"
        ".flatMap(each => each.nodes.map(node => each.id + ': ' + node.html.slice(0, 160))))",
        [within, ["serious", "critical"] if serious else []],
    )
    return list(found)

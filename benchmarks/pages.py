"""How long pages take, what they hold: `regnb ui` beside an empty page of Voilà's, 18,000 tags, a kernel that crawls.

Needs chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

import httpx
from browser import CHROMIUM, COMMAND, FLAGS, Running, Site
from corpus import Corpus
from distribution import free_port
from measure import Row, compared, shown
from memory import serving
from memory import table as answers

from regnb.local import embedded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EMPTY = """
import ipywidgets, plotly.graph_objects as go
display(ipywidgets.IntSlider(description="one widget"))
display(go.Figure(go.Bar(y=[1, 2, 3])))
"""
"""A page with one widget and one chart, and nothing else."""
TABLE = """
import pandas as pd
from regnb.widgets.table import Table
number = {tags}
rows = pd.DataFrame({{
    "repository": [f"team-{{at % 40}}/app-{{at % 900}}" for at in range(number)],
    "tag": [f"1.{{at}}" for at in range(number)],
    "kind": "image",
    "created": pd.to_datetime(1.7e9 + pd.RangeIndex(number) * 60.0, unit="s", utc=True),
    "size": [(at * 7919) % 1_000_003 * 1000 for at in range(number)],
    "digest": [f"sha256:{{at:064x}}" for at in range(number)],
}})
import ipywidgets
button, place = ipywidgets.Button(description="Show"), ipywidgets.VBox()
button.on_click(lambda _: setattr(place, "children", (Table(rows, choose="many"),)))
display(button, place)
"""
CRAWL = """
import threading, time, regnb
registry = regnb.connect({url!r}, cache=False)
ended = []
def read():
    started = time.monotonic()
    inventory = registry.inventory(progress=False)
    ended.append((len(inventory.tags), time.monotonic() - started))
thread = threading.Thread(target=read)
thread.start()
"""


def notebook(path: Path, source: str) -> None:
    """Write a notebook of one cell."""
    cell = {
        "cell_type": "code", "id": "0", "metadata": {}, "execution_count": None, "outputs": [],
        "source": source.strip().splitlines(keepends=True),
    }  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]}
    path.write_text(json.dumps(document), encoding="utf-8")


@contextlib.contextmanager
def voila(folder: Path, *options: str) -> Iterator[str]:
    """Serve a folder with Voilà as it is."""
    port = free_port()
    code = "import sys; from voila.app import main; sys.argv[0] = 'voila'; main()"
    settings = [f"--port={port}", "--no-browser", "--Voila.ip=127.0.0.1", *options]
    server = Running(folder / "voila.log", code, str(folder), *settings)
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{port}/", timeout=5)
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[str]:
    """Serve the sample registry, and give its URL."""
    port = free_port()
    words = ("demo", "--serve", "--data", folder / "demo", "--port", str(port))
    registry = Running(folder / "demo.log", *words, by=COMMAND)
    try:
        while "Serving" not in registry.printed():
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        registry.stop()


def opened(browser: Browser, url: str, *wanted: str) -> tuple[Page, float]:
    """Open a URL in a new profile, as somebody who comes for the first time, until all that is wanted can be seen.

    Return the page, which is left open, with the seconds that it took.
    """
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    started = time.perf_counter()
    page.goto(url)
    for selector in wanted:
        page.locator(selector).first.wait_for(timeout=300_000)
    return page, time.perf_counter() - started


def seconds(browser: Browser, url: str, *wanted: str) -> float:
    """Open a URL and leave it, and return the seconds until all that is wanted could be seen."""
    page, took = opened(browser, url, *wanted)
    page.context.close()
    time.sleep(5)  # until a kernel is in reserve again
    return took


def pages(browser: Browser, folder: Path, rounds: int) -> Iterator[Row]:
    """Time the overview and a form of ``regnb ui`` and an empty page of Voilà's in turn."""
    notebook(folder / "empty.ipynb", EMPTY)
    with contextlib.ExitStack() as stack:
        site = stack.enter_context(Site(folder / "ui.log", stack.enter_context(demo(folder))))
        plain = stack.enter_context(voila(folder, "--preheat_kernel=True"))
        wanted = {
            "an empty page of Voilà's": (f"{plain}/voila/render/empty.ipynb", ".widget-slider", ".js-plotly-plot"),
            "regnb ui: overview": (site.base, ".regnb-checks", ".js-plotly-plot"),
            "regnb ui: delete": (f"{site.base}12-delete", ".regnb-form tbody tr"),
        }
        for each in wanted.values():  # warm: files are read, and the registry's manifests are known
            seconds(browser, *each)
        taken: dict[str, list[float]] = {name: [] for name in wanted}
        for _ in range(rounds):
            for name, each in wanted.items():
                taken[name].append(seconds(browser, *each))
        empty, *ours = wanted
        for name in ours:
            yield compared(f"{name} / {empty}", [*zip(taken[name], taken[empty], strict=True)], "s", most=1.3)


def memory(site: Site) -> int:
    """Return the bytes of the server and of its kernels, what they share counted once (PSS)."""
    found = 0
    for pid in site.group():
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            found += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return found


def resident(browser: Browser, folder: Path) -> Iterator[Row]:
    """Measure what each further page holds in memory on the demo."""
    seen = {"00-start": ".js-plotly-plot", "01-inventory": "tbody tr", "12-delete": ".regnb-form tbody tr"}
    with demo(folder) as url:
        for name, wanted in seen.items():
            with Site(folder / "held.log", url, "--pages", "8") as site:
                before = 0
                for number in range(5):
                    opened(browser, f"{site.base}{name}", wanted)
                    time.sleep(8)  # until the kernel that takes its place in reserve has started
                    before = before if number else memory(site)
                each = (memory(site) - before) / 4e6
            for context in browser.contexts:
                context.close()
            yield Row(f"regnb ui: each further page {name}, PSS in MB", shown(each, "MB"), "", each, most=80)


def large(browser: Browser, folder: Path) -> Iterator[Row]:
    """Time a form of a registry with 18,000 tags when another page of the server has just read it."""
    with serving(answers(folder / "large", 300, 60)) as server, Site(folder / "large.log", server.url) as site:
        held: list[int] = []
        for what, limit in (("read for the first time", None), ("read by another page", 5.0)):
            page, took = opened(browser, f"{site.base}12-delete", ".regnb-form tbody tr")
            time.sleep(8)  # until another kernel is in reserve
            held.append(memory(site))
            yield Row(f"regnb ui: 12-delete of 18,000 tags, {what}, s", shown(took, "s"), "", took, most=limit)
        more = (held[1] - held[0]) / 1e6
        yield Row("  another page of it, PSS in MB", shown(more, "MB"), "", more, most=80)
        page.context.close()


def table(browser: Browser, folder: Path, tags: int) -> Iterator[Row]:
    """Time the first rows, a sort, a search and another page of a long table, from the click to the rows."""
    notebook(folder / "table.ipynb", TABLE.format(tags=tags))
    with voila(folder) as plain:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(f"{plain}/voila/render/table.ipynb")
        page.get_by_role("button", name="Show").wait_for(timeout=120_000)
        page.wait_for_timeout(2000)

        def until(text: str, act: Callable[[], object]) -> float:
            started = time.perf_counter()
            act()
            page.locator("tbody tr", has_text=text).first.wait_for(timeout=60_000)
            return time.perf_counter() - started

        def row(what: str, value: float, most: float) -> Row:
            return Row(f"table of {tags:,} rows: {what}, s", shown(value, "s"), "", value, most=most)

        yield row("first rows", until("1.0", page.get_by_role("button", name="Show").click), 2.0)
        page.wait_for_timeout(1000)
        largest = max(range(tags), key=lambda at: (at * 7919) % 1_000_003)
        yield row("sort", until(f"1.{largest}", lambda: page.get_by_label("Sort by").select_option("size")), 0.5)

        def search() -> None:
            page.get_by_label("Filter").fill("app-77:1.")
            page.keyboard.press("Enter")

        yield row("search", until("app-77", search), 0.5)
        page.get_by_label("Filter").fill("")
        page.keyboard.press("Enter")
        page.locator("tbody tr", has_text=f"1.{largest}").first.wait_for()
        page.wait_for_timeout(1000)
        before = page.locator("tbody tr").first.inner_text()
        started = time.perf_counter()
        page.get_by_role("button", name="Next page").click()
        page.wait_for_function("before => document.querySelector('tbody tr')?.innerText !== before", arg=before)
        yield row("next page", time.perf_counter() - started, 0.5)
        context.close()


def crawling(folder: Path) -> Iterator[Row]:
    """Ask a kernel for the time again and again while it reads a registry in the background."""
    from jupyter_client.manager import start_new_kernel

    Corpus(folder / "large").write(200, 20)
    with embedded.running(folder / "large") as server:
        manager, client = start_new_kernel(kernel_name="python3", extra_arguments=["--log-level=ERROR"])
        try:
            client.execute_interactive(CRAWL.format(url=server.url), timeout=120)
            waits: list[float] = []
            said = ""

            def hear(message: dict[str, Any]) -> None:
                nonlocal said
                said = message["content"].get("text", said)

            while not said.strip():
                started = time.perf_counter()
                client.execute_interactive("print(*ended)", timeout=60, output_hook=hear)
                waits.append(time.perf_counter() - started)
                time.sleep(0.02)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    worst = sorted(waits)[int(len(waits) * 0.99) - 1]
    yield Row("99 of 100 cells while a kernel crawls, s", shown(worst, "s"), "", worst, most=0.2)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    if CHROMIUM is None:
        sys.exit("chromium is not installed")
    from playwright.sync_api import sync_playwright

    yield from crawling(folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield from pages(browser, folder, options.rounds)
        yield from resident(browser, folder)
        yield from large(browser, folder)
        yield from table(browser, folder, options.rows)
        browser.close()

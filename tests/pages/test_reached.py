"""A visitor chooses nothing that the server connects to: every widget of every page is driven over its channel."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import scripted
from browser import Site
from conftest import Seeded
from proxied import proxy
from scripted import Reply, Request
from visitor import Visitor

from regnb.notebooks.runbook import runbooks

HOOK = """
import os, sys

if os.environ.get("REGNB_SERVED"):
    def note(event, given):
        where = ""
        if event == "socket.connect" and isinstance(given[1], tuple):
            where = f"{given[1][0]}:{given[1][1]}"
        elif event == "socket.getaddrinfo":
            where = f"{given[0]}:{given[1]}"
        if where:
            with open(os.environ["TESTS_REACHED"], "a") as file:
                file.write(where + "\\n")

    sys.addaudithook(note)
"""
"""Notes which addresses a kernel looks up and connects to, whatever code does it."""
PAGES = [book.name for book in runbooks()]


class Watched:
    """A site, the address that it must not reach, and what is known of what it reached."""

    def __init__(self, site: Site, own: set[str], elsewhere: str, notes: Path, requests: list[Request]) -> None:
        self.site, self.own, self.elsewhere, self.notes, self.requests = site, own, elsewhere, notes, requests

    def reached(self) -> set[str]:
        return set(self.notes.read_text(encoding="utf-8").split()) if self.notes.exists() else set()


@pytest.fixture(scope="module")
def watched(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """``regnb ui`` as it is without options, whose kernels note what they connect to."""
    folder = tmp_path_factory.mktemp("reached")
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    requests: list[Request] = []
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONPATH": path, "TESTS_REACHED": str(folder / "notes")}

    def note(request: Request) -> Reply | None:
        requests.append(request)
        if request.headers.get("authorization") == "Bearer one":
            return None
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{tokens.url}/token",service="tests"'})

    with (
        scripted.serve(lambda *_: Reply(200, {"Content-Type": "application/json"}, b'{"token": "one"}')) as tokens,
        proxy(seeded_embedded.host, note) as between,
        scripted.serve(lambda *_: Reply(200, {"Content-Type": "application/json"}, b"{}")) as other,
        Site(folder / "ui.log", between.url, **env) as site,
    ):
        yield Watched(site, {between.host, tokens.host}, other.host, folder / "notes", requests)


def spellings(host: str) -> list[str]:
    """An address, as a field may be made to take it for a URL, a path, a repository or an image."""
    return [f"http://{host}/v2/", f"//{host}/v2/", f"{host}/a/b:1", f"@{host}/v2/_catalog", f"/v2/?next=http://{host}/"]


def changes(state: dict[str, Any], text: str) -> dict[str, Any]:
    """What a visitor may set of a widget: each of its values, whether or not the page shows it."""
    if state.get("_options_labels"):
        return {"index": len(state["_options_labels"]) - 1}
    if isinstance(state.get("value"), bool):
        return {"value": True, "disabled": False}
    if "selected_rows" in state:
        return {"selected_rows": [0]}
    return {"value": text, "disabled": False} if isinstance(state.get("value"), str) else {}


async def drive(visitor: Visitor, widgets: dict[str, dict[str, Any]], text: str) -> None:
    """Set everything, then click everything."""
    order = sorted(widgets, key=lambda name: "_options_labels" not in widgets[name])  # lists fill in other fields
    send = partial(visitor.send, "comm_msg")
    for name in order:
        if changed := changes(widgets[name], text):
            await send({"comm_id": name, "data": {"method": "update", "state": changed, "buffer_paths": []}})
    await visitor.quiet(0.3)
    for name in order:
        kinds = {"ButtonModel": {"event": "click"}, "TextModel": {"event": "submit"}, "AnyModel": {"secret": text}}
        if content := kinds.get(widgets[name]["_model_name"]):
            await send({"comm_id": name, "data": {"method": "custom", "content": content}})
    await visitor.quiet(0.4)


@pytest.mark.parametrize("name", PAGES)
def test_no_widget_leads_elsewhere(watched: Watched, name: str) -> None:
    """Whatever is typed, chosen, ticked and clicked, only the server's own registry and its token service are asked.

    Nothing is written.
    """

    async def work() -> None:
        async with Visitor(watched.site, name) as visitor:
            widgets = {model: each["state"] for model, each in (await visitor.widgets()).items()}
            for text in spellings(watched.elsewhere)[:: 1 if name.startswith("30") else 3]:
                await drive(visitor, widgets, text)
        visitor.client.close()

    asyncio.run(work())
    assert watched.reached() == watched.own, "and the notes are kept"
    assert {request.method for request in watched.requests} <= {"GET", "HEAD", "OPTIONS"}
    assert not [json.dumps(request.path) for request in watched.requests if request.path.startswith("http")]

"""A planted password and a planted token, used for real, are looked for in everything that regnb leaves or shows.

Every test has a folder of its own for all that is written: home, cache, state, temporary files, notebooks, logs. When
its work is done each file there is searched, and what was printed, what a browser was sent, and the arguments of every
process that ran meanwhile. Docker's configuration may hold the password, and nothing else may hold anything.
"""

from __future__ import annotations

import base64
import html
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
import pytest
from browser import COMMAND, Lab, Site, browsing, run_all
from conftest import need
from distribution import Distribution
from images import config, fill, image, layer, regnb
from test_forms_browser import apply, finished, plan
from test_notebooks import UNCONNECTED

from regnb.change.plan import Plan
from regnb.notebooks.runbook import runbooks

PASSWORD = "canary+pass/word@7149:20"
TOKEN = "canary+token/8311=96&44"
"""Both with signs that URLs, HTML and base64 write in other ways."""
WAYS = ("environment", "url", "docker")


def forms(secret: str) -> set[bytes]:
    """How a secret may be written: as it is, quoted for a URL, HTML, JSON or a shell, in hexadecimal, in base64."""
    data = secret.encode()
    texts = {secret, quote(secret), quote(secret, ""), quote_plus(secret), html.escape(secret), data.hex()}
    for shift in range(3):  # where in a longer text it begins decides on its letters in base64
        bits = 8 * (shift + len(data))
        coded = base64.b64encode(bytes(shift) + data).decode()[-(-8 * shift // 6) : bits // 6]
        texts |= {coded, coded.translate(str.maketrans("+/", "-_")), quote(coded, "")}
    return {text.encode() for text in texts}


CANARIES = forms(PASSWORD) | forms(TOKEN)


def found_in(data: bytes) -> list[bytes]:
    return [canary for canary in CANARIES if canary in data]


def test_the_search_finds_what_it_should() -> None:
    """Whatever stands around it: as Basic sends it, in a query, in a page."""
    for before in ("", "me:", "ab"):
        assert found_in(base64.b64encode(f"{before}{PASSWORD} and more".encode()))
    for text in (f"http://me:{quote(PASSWORD, '')}@h", f"?token={quote_plus(TOKEN)}", f"<b>{html.escape(TOKEN)}</b>"):
        assert found_in(text.encode())
    assert found_in(json.dumps({"": repr([PASSWORD])}).encode())
    assert not found_in(b"canary")


class Traces:
    """A registry that wants the password, a folder for all that is written, and what was shown while it was used."""

    def __init__(self, folder: Path, registry: Distribution) -> None:
        self.folder, self.registry = folder, registry
        self.home = folder / "home"
        self.docker = self.home / "docker" / "config.json"
        self.shown: list[bytes] = []
        self._arguments: set[bytes] = set()
        self._end = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        while not self._end.wait(0.03):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    self._arguments.add(path.read_bytes())

    @property
    def named(self) -> str:
        """The registry's URL with the credentials in it."""
        return self.registry.url.replace("://", f"://me:{quote(PASSWORD, '')}@")

    def settings(self, way: str) -> dict[str, str]:
        """The environment that brings the credentials in a way."""
        if way == "docker":
            auth = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
            self.docker.parent.mkdir(parents=True)
            self.docker.write_text(json.dumps({"auths": {self.registry.host: {"auth": auth}}}), encoding="utf-8")
        return {
            "environment": {"REGNB_URL": self.registry.url, "REGNB_USER": "me", "REGNB_PASSWORD": PASSWORD},
            "url": {"REGNB_URL": self.named},
            "docker": {"REGNB_URL": self.registry.url},
        }[way]

    def run(self, *arguments: str, code: int = 0, **env: str) -> str:
        """Run the command line, and return what it printed on standard output."""
        done = regnb(self.home, *arguments, **env)
        self.shown.append((done.stdout + done.stderr).encode())
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def hear(self, page: Any) -> None:
        """Keep what kernels send to a browser."""

        def keep(data: str | bytes) -> None:
            self.shown.append(data if isinstance(data, bytes) else data.encode())

        page.on("websocket", lambda socket: socket.on("framereceived", keep))

    def check(self, *patterns: str) -> None:
        """Search everything; of each pattern there must be a file that was searched."""
        searched = [path for path in self.folder.rglob("*") if path.is_file() and path != self.docker]
        for pattern in patterns:
            assert [path for path in searched if path.match(pattern)], f"no {pattern} was written"
        kept = {path.relative_to(self.folder): found_in(read(path)) for path in searched}
        assert {path: found for path, found in kept.items() if found} == {}
        assert [each for each in self.shown if found_in(each)] == []
        assert [each for each in self._arguments if found_in(each)] == []
        assert any(b"docker-registry" in each for each in self._arguments)

    def stop(self) -> None:
        self._end.set()
        self._watch.join()


def read(path: Path) -> bytes:
    """A file's bytes; of those that are compressed, what is in them, too."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        data += repr([table.to_pydict(), table.schema.metadata]).encode()
    return data


@pytest.fixture
def traces(distribution_program: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    for name in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "home/docker"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    users = subprocess.run(["htpasswd", "-iBn", "me"], input=PASSWORD.encode(), capture_output=True, check=True)
    (tmp_path / "users").write_bytes(users.stdout)
    auth = {"auth": {"htpasswd": {"realm": "r", "path": str(tmp_path / "users")}}, "log": {"level": "info"}}
    with Distribution(tmp_path / "locked", config=auth) as registry:
        found = Traces(tmp_path, registry)
        about = config(created="2025-01-01T00:00:00Z")
        fill(
            found.named, *((name, "latest", image([layer(name, 9000)], about=about)) for name in ("vm/centos8", "a/b"))
        )
        yield found
        found.stop()


@pytest.mark.parametrize("way", WAYS)
def test_commands(traces: Traces, way: str, tmp_path: Path) -> None:
    """What reads, saves, reports, asks, checks, plans, applies and takes back; and the same where it is refused."""
    env, url, out = traces.settings(way), traces.registry.url, str(tmp_path / "out")
    saved, retag, back = f"{out}/saved", f"{out}/plan.json", f"{out}/back.json"
    traces.run("audit", "--output", out, "--snapshot", saved, **env)
    traces.run("audit", "--output", out, "--format", "csv", "--json", **env)
    assert "vm/centos8" in traces.run("catalog", **env)
    traces.run("health", "--probe", **env)
    traces.run("request", "GET", "/v2/_catalog", "-i", **env)
    traces.run("request", "GET", "/v2/_catalog", "--json", **env)
    assert "$AUTHORIZATION" in traces.run("request", "GET", "/v2/_catalog", "--curl", **env)
    traces.run("report", "--snapshots", saved, "-o", f"{out}/report.html", **env)
    checked = ("kube", "check", "127.0.0.1", "--api-port", str(traces.registry.port), "--size", "1MB")
    login = {"REGNB_USER": "me", "REGNB_PASSWORD": PASSWORD}
    traces.run(*checked, *(() if way == "docker" else ("--user", "me")), **(env if way == "docker" else login))
    traces.run("retag", url, "vm/centos8:latest", "--tag", "2", "--curl", **env)
    traces.run("retag", url, "vm/centos8:latest", "--tag", "2", "--plan-out", retag, **env)
    traces.run("apply", retag, "--confirm", Plan.load(retag).code, **env)
    (receipt,) = (json.loads(line) for line in traces.run("receipt", "list", "--json").splitlines())
    traces.run("receipt", "show", receipt["receipt"])
    traces.run("undo", receipt["receipt"], "--allow", "dummy", "--plan-out", back, **env)
    traces.run("apply", back, "--confirm", Plan.load(back).code, **env)

    refused = {"REGNB_URL": url, "REGNB_USER": "you", "REGNB_PASSWORD": PASSWORD}
    if way != "docker":
        traces.run("catalog", code=1, **refused)
        traces.run("report", "-o", f"{out}/none.html", code=1, **refused)
    traces.registry.stop()
    for command in (("audit",), ("request", "GET", "/v2/"), ("run", "00-start", "-o", out)):
        traces.run(*command, code=1, **env)
    traces.check("out/*.parquet", "out/*.csv", "report.html", "plan.json", "*.jsonl", "home/cache/*/*", "00-start*")


@pytest.mark.parametrize(("name", "way"), [*zip([book.name for book in runbooks()], cycle(WAYS), strict=False)])
def test_runbooks(traces: Traces, name: str, way: str, tmp_path: Path) -> None:
    """Each runbook that is run headless, its record with the state of its widgets."""
    env = traces.settings(way) | {"REGNB_STORAGE": str(traces.registry.root)}
    saved = str(tmp_path / "saved")
    for _ in range(2 if name == "20-growth" else 0):
        traces.run("audit", "--snapshot", saved, **env)
    traces.run("run", name, "-o", str(tmp_path / "out"), REGNB_SNAPSHOTS=saved, **env)
    reads = name not in {*UNCONNECTED, "14-collect"}  # which reads the storage, and only asks whether anyone can push
    traces.check(f"out/{name}*.ipynb", *(["home/cache/*/*"] if reads else []))
    (record,) = tmp_path.glob(f"out/{name}*.ipynb")
    assert ("widget-state+json" in record.read_text(encoding="utf-8")) == (name != "20-growth")
    assert any(b"ipykernel" in each for each in traces._arguments)


def retagged(page: Any) -> None:
    """Give an image a second tag, in the first form of a page."""
    form = page.locator(".regnb-form").first
    form.locator("tbody tr", has_text="centos8").first.click()
    form.get_by_text("1 chosen").wait_for()
    form.get_by_label("New tag").fill("2")
    apply(form, plan(form))
    finished(form, "retag")


def test_jupyterlab(traces: Traces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels have the password in their environment, then it is typed, too; a plan is applied; all is saved.

    With the state of the widgets, which a user may ask for in the menu.
    """
    for key, value in traces.settings("environment").items():
        monkeypatch.setenv(key, value)
    notebooks = tmp_path / "notebooks"
    options = ("lab", "--folder", str(notebooks), "--no-browser")
    lab = Lab(tmp_path / "lab.log", *options, by=COMMAND)
    try:
        with browsing(tmp_path / "last.png") as (page, _):
            traces.hear(page)
            page.set_viewport_size({"width": 1280, "height": 2400})
            page.goto(f"{lab.url()}&reset")
            run_all(page)
            page.get_by_role("menuitem", name="Settings", exact=True).click()
            page.get_by_text("Save Widget State Automatically").click()
            page.get_by_label("User", exact=True).fill("me")
            page.get_by_label("Password", exact=True).fill(PASSWORD)
            page.wait_for_timeout(500)
            page.get_by_role("button", name="Connect", exact=True).click()
            page.get_by_text("the login is accepted").wait_for()
            page.get_by_placeholder("taken, and kept nowhere").wait_for()
            save(page, notebooks / "00-start.ipynb", '"application/vnd.jupyter.widget-state+json"')
            page.goto(f"{lab.url('10-retag')}&reset")
            run_all(page)
            retagged(page)
            # Without widget state, whatever was chosen: JupyterLab cannot write down that of itables.
            save(page, notebooks / "10-retag.ipynb", '"application/vnd.jupyter.widget-view+json"')
            traces.shown.append(page.content().encode())
        traces.check("notebooks/00-start.ipynb", "notebooks/.ipynb_checkpoints/*", "*.jsonl", "lab.log")
    finally:
        lab.stop()
    traces.check("notebooks/00-start.ipynb", "history.sqlite", "lab.log")


def save(page: Any, path: Path, needle: str) -> None:
    """Save the notebook; what it is to hold then must be in it."""
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_text("Save Notebook", exact=True).click()
    for _ in range(100):
        if needle in path.read_text(encoding="utf-8"):
            break
        page.wait_for_timeout(200)
    assert needle in path.read_text(encoding="utf-8")


def test_web_ui(traces: Traces, tmp_path: Path) -> None:
    """The token is typed, and given in a URL; pages are read, a plan is applied; and all of it is logged as usual."""
    env, known = traces.settings("environment"), tmp_path / "operators"
    known.write_text(TOKEN, encoding="utf-8")
    with Site(tmp_path / "ui.log", traces.registry.url, "--write-token-file", str(known), **env) as site:
        known.unlink()  # it was read
        with browsing(tmp_path / "last.png") as (page, _):
            traces.hear(page)
            page.goto(f"{site.base}10-retag")
            page.get_by_label("Token").fill("wrong" + TOKEN)
            page.get_by_role("button", name="Open").click()
            page.get_by_text("That is not the token").wait_for()
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Open").click()
            page.locator("#rendered_cells").wait_for(state="visible")
            retagged(page)
            traces.shown.append(page.content().encode())
            link = f"10-retag?repository=vm/*&token={quote_plus(TOKEN)}"
            for query in ("", link, "healthz", "30-api-console", "none"):
                answer = page.request.get(site.base + query)
                traces.shown += [answer.body(), json.dumps(answer.headers).encode()]
        assert sum(b"regnb-head" in each for each in traces.shown) > 2
        traces.check("*.jsonl", "ui.log", "tmp/regnb-ui-*/10-retag.ipynb")
    traces.check("*.jsonl", "ui.log")
    assert any(b"ipykernel" in each for each in traces._arguments)

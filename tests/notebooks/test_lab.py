"""Notebooks in a folder of the user's: copied once, updated where nobody edited, and edits are never lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from browser import COMMAND, Lab, told
from typer.testing import CliRunner

from regnb.cli import app
from regnb.errors import StorageError
from regnb.notebooks import lab
from regnb.notebooks.runbook import notebooks

START = "00-start.ipynb"
NAMES = {path.name for path in notebooks().glob("*.ipynb")}


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packaged notebooks, to publish a newer version in."""
    folder = tmp_path / "packaged"
    shutil.copytree(notebooks(), folder)
    monkeypatch.setattr(lab, "notebooks", lambda: folder)
    return folder


def edit(path: Path, text: str) -> None:
    """Add a cell, as a person or a newer version does."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document["cells"].append({"cell_type": "markdown", "id": text[:8], "metadata": {}, "source": [text]})
    path.write_text(json.dumps(document), encoding="utf-8")


def run(path: Path) -> None:
    """Leave outputs and counts, as running it does."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"execution_count": 3, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["hello"]}]}
    path.write_text(json.dumps(document), encoding="utf-8")


def test_they_are_copied_once(tmp_path: Path) -> None:
    """All of them into a folder that was not there; the second time there is nothing to do."""
    folder = tmp_path / "mine" / "notebooks"
    assert lab.copy_notebooks(folder) == dict.fromkeys(NAMES, "new")
    assert {path.name for path in folder.glob("*.ipynb")} == NAMES
    assert lab.copy_notebooks(folder) == {}


def test_a_file_of_the_same_name_stays(tmp_path: Path) -> None:
    """What was there before regnb came is not overwritten, not even if it is not a notebook, and not by an update."""
    (tmp_path / START).write_text("mine", encoding="utf-8")
    assert lab.copy_notebooks(tmp_path)[START] == "edited"
    assert lab.copy_notebooks(tmp_path, update=True) == {START: "edited"}
    assert (tmp_path / START).read_text(encoding="utf-8") == "mine"


def test_running_is_not_editing(packaged: Path, tmp_path: Path) -> None:
    """A notebook with outputs is taken for unedited: an update replaces it, and only an update."""
    mine = tmp_path / "mine"
    lab.copy_notebooks(mine)
    run(mine / START)
    assert lab.copy_notebooks(mine) == {}
    edit(packaged / START, "newer")
    assert lab.copy_notebooks(mine) == {START: "older"}
    assert "newer" not in (mine / START).read_text(encoding="utf-8")
    assert lab.copy_notebooks(mine, update=True) == {START: "updated"}
    assert "newer" in (mine / START).read_text(encoding="utf-8")
    assert lab.copy_notebooks(mine, update=True) == {}


def test_an_edit_is_never_lost(packaged: Path, tmp_path: Path) -> None:
    """An edited notebook is left as it is by an update, which shows how the two differ."""
    mine = tmp_path / "mine"
    lab.copy_notebooks(mine)
    edit(mine / START, "my own note")
    assert lab.copy_notebooks(mine) == {}, "there is nothing newer"
    edit(packaged / START, "newer")
    before = (mine / START).read_bytes()
    assert lab.copy_notebooks(mine, update=True) == {START: "edited"}
    assert (mine / START).read_bytes() == before
    shown = lab.difference(mine, START)
    assert "-my own note" in shown
    assert "+newer" in shown


def test_a_record_that_is_broken_loses_no_edit(packaged: Path, tmp_path: Path) -> None:
    """Without a word about what was copied, whatever differs counts as edited."""
    mine = tmp_path / "mine"
    lab.copy_notebooks(mine)
    (mine / ".regnb-notebooks.json").write_text("[", encoding="utf-8")
    edit(packaged / START, "newer")
    assert lab.copy_notebooks(mine, update=True) == {START: "edited"}


def test_a_deleted_one_comes_again(tmp_path: Path) -> None:
    """Whoever wants the packaged one back deletes theirs."""
    lab.copy_notebooks(tmp_path)
    (tmp_path / START).unlink()
    assert lab.copy_notebooks(tmp_path) == {START: "new"}


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file in its place is an error with a hint."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError) as error:
        lab.copy_notebooks(tmp_path / "file" / "notebooks")
    assert error.value.hint


def test_the_command_updates_and_opens_nothing(packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``regnb lab --update`` says what became of each, and prints the difference of the edited ones."""

    def opened(*_: Any, **__: Any) -> None:
        pytest.fail("it was opened")

    mine = tmp_path / "mine"
    lab.copy_notebooks(mine)
    edit(mine / START, "my own note")
    edit(packaged / START, "newer")
    edit(packaged / "02-storage.ipynb", "newer")
    monkeypatch.setattr(lab, "open_lab", opened)
    done = CliRunner().invoke(app, ["lab", "--folder", str(mine), "--update"])
    assert done.exit_code == 0, done.output
    assert "Updated: 02-storage.ipynb" in done.stderr
    assert START in done.stderr
    assert "+newer" in done.stdout


def test_the_command_hands_the_password_on_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``regnb lab URL --user`` gives the kernels URL, user and password, and no argument holds the password."""
    calls: list[Any] = []
    monkeypatch.setattr(lab.subprocess, "Popen", lambda *given, **named: calls.append((given, named)) or Ended())
    monkeypatch.setenv("REGNB_PASSWORD", "canary-7315")
    done = CliRunner().invoke(
        app, ["lab", "https://registry.example", "--folder", str(tmp_path), "--user", "me", "--no-browser"]
    )
    assert done.exit_code == 0, done.output
    ((arguments,), named) = calls[0]
    assert named["env"]["REGNB_URL"] == "https://registry.example"
    assert (named["env"]["REGNB_USER"], named["env"]["REGNB_PASSWORD"]) == ("me", "canary-7315")
    assert "--no-browser" in arguments
    assert "canary-7315" not in " ".join(arguments) + done.output


HOSTILE = """
for options in (c.ServerApp, c.LabApp, c.NotebookApp):
    options.ip = "0.0.0.0"
    options.open_browser = True
    options.custom_display_url = "http://elsewhere.example/"
c.ServerApp.token = c.IdentityProvider.token = c.PasswordIdentityProvider.token = ""
c.ServerApp.sock = "/tmp/regnb-tests-never.sock"
c.ServerApp.password = c.PasswordIdentityProvider.hashed_password = "sha1:0:0"
c.ServerApp.allow_origin = "*"
c.ServerApp.allow_origin_pat = ".*"
c.ServerApp.allow_credentials = True
c.ServerApp.allow_remote_access = True
c.ServerApp.disable_check_xsrf = True
c.ServerApp.local_hostnames = ["rebound.example"]
c.ServerApp.trust_xheaders = True
c.ServerApp.tornado_settings = {"headers": {"Access-Control-Allow-Origin": "*"}}
"""
"""What a user's configuration may have opened, for another purpose."""


@pytest.mark.parametrize("command", ["lab", "demo"])
def test_it_says_where_it_listens_and_asks_for_its_token(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration that opens JupyterLab to everybody changes neither address nor token of the two commands."""
    (tmp_path / "jupyter_config.py").write_text(HOSTILE, encoding="utf-8")
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_TOKEN", "known-to-all")
    registry = ["http://127.0.0.1:9"] if command == "lab" else []
    running = Lab(tmp_path / "lab.log", command, *registry, "--folder", tmp_path / "mine", by=COMMAND)
    try:
        where = urlsplit(running.url())
        token = parse_qs(where.query)["token"][0]
        assert f"JupyterLab listens on 127.0.0.1, port {where.port}: " in running.printed()
        assert "elsewhere.example" not in running.printed()
        asked = f"http://127.0.0.1:{where.port}/api/contents"
        for wrong in ({}, {"Authorization": "token known-to-all"}):
            answer = httpx.get(asked, headers=wrong | {"Origin": "https://elsewhere.example"})
            assert answer.status_code in (403, 404)
            assert not answer.headers.get("access-control-allow-origin", "")
        ours = {"Authorization": f"token {token}"}
        assert httpx.get(asked, headers=ours).status_code == 200
        assert httpx.get(asked, headers=ours | {"Host": f"rebound.example:{where.port}"}).status_code == 403
        listening = f"0100007F:{where.port:04X} 00000000:0000 0A"
        assert listening in Path("/proc/net/tcp").read_text(encoding="ascii"), "on 127.0.0.1 alone"
        assert not Path("/tmp/regnb-tests-never.sock").exists()  # noqa: S108 -- it is not made
        for pid in running.group():
            for name in ("cmdline", "environ"):
                assert token.encode() not in told(pid, name)
    finally:
        running.stop()


def test_an_open_one_is_asked_for(tmp_path: Path) -> None:
    """Only with --allow-open everybody is let in, and the command says what that means."""
    running = Lab(
        tmp_path / "lab.log", "lab", "http://127.0.0.1:9", "--folder", tmp_path / "mine", "--allow-open", by=COMMAND
    )
    try:
        where = running.url(token=False)
        assert "everyone who can reach this address can run programs as you" in running.printed()
        assert httpx.get(f"{where.partition('/lab')[0]}/api/contents").status_code == 200
    finally:
        running.stop()


class Ended:
    """A process that has ended."""

    def communicate(self, given: bytes) -> None:
        assert len(given) > 32

    def wait(self, _: float | None = None) -> int:
        return 0

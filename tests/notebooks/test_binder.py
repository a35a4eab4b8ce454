"""Binder's folder: repo2docker takes it, and what it would run leads to the sample registry, from a bare copy."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Lab, browsing, run_all
from conftest import Seeded
from distribution import free_port
from images import ROOT

from regnb import __version__

NOT_IN_A_CLONE = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "build", "dist")
READ = """
import json, os, regnb
from regnb.local.sandbox import reset_demo
registry = regnb.connect(os.environ["REGNB_URL"])
def tags(): return sorted(registry.tags("apps/web")["tag"])
found = {"package": regnb.__file__, "before": tags()}
plan = registry.plan_delete("apps/web:1.*")
registry.apply(plan, confirm=plan.code)
found["less"] = tags()
reset_demo()
found["after"] = tags()
found["problems"] = registry.inventory(progress=False).problems["problem"].tolist()
found["stored"] = len(regnb.read(os.environ["REGNB_STORAGE"]).tags)
found["growth"] = len(regnb.growth(os.environ["REGNB_SNAPSHOTS"]).frame)
print(json.dumps(found))
"""
"""What a visitor might do: look, delete, reset."""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository, entered with an empty home, whose code is the one that runs."""
    clone = copied(tmp_path / "clone")
    (tmp_path / "visitor").mkdir()
    monkeypatch.chdir(clone)
    monkeypatch.setenv("HOME", str(tmp_path / "visitor"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(clone))
    monkeypatch.setenv("REGNB_URL", f"http://127.0.0.1:{free_port()}")
    return clone


def copied(folder: Path) -> Path:
    """Copy the repository as a clone has it."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_A_CLONE))
    return folder


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_repo2docker_takes_it(bare: Path) -> None:
    """A Python that regnb supports, our requirements, the script that fills the registry, the one that starts it."""
    shown = run(sys.executable, "-W", "ignore", "-m", "repo2docker", "--no-build", "--debug", bare)
    for line in (
        "Building conda environment for python=3.11",
        'pip install --no-cache-dir -r "binder/requirements.txt"',
        "RUN ./binder/postBuild",
        'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
    ):
        assert line in shown


def test_the_requirements_are_found_and_fit(bare: Path) -> None:
    """Their paths are right where pip runs, and what is pinned is all that it takes: nothing else is to come."""
    requirements = bare / "binder/requirements.txt"
    lines = requirements.read_text(encoding="utf-8").splitlines()
    ours = [line for line in lines if not line.startswith("notebook")]  # Binder's own
    requirements.write_text("\n".join(ours), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation")
    shown = run(*pip, "-r", "binder/requirements.txt")
    assert len(ours) < len(lines)
    assert re.findall("Would install (.*)", shown) == [f"regnb-{__version__}"]


@pytest.mark.parametrize("script", ["postBuild", "start"])
def test_the_scripts_can_be_run(script: str) -> None:
    """They are executable, and an error in them ends them."""
    path = ROOT / "binder" / script
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    run("bash", "-n", path)


def test_what_is_started_finds_the_registry(bare: Path) -> None:
    """Filled ahead, it is there before the command is, storage and snapshots included; it can be reset."""
    home = Path(os.environ["HOME"])
    assert "vm/centos8" in run("binder/postBuild")
    filled = {path: path.stat().st_mtime_ns for path in home.rglob("sample-snapshots/**/*")}
    assert filled
    process = subprocess.Popen(
        ["binder/start", sys.executable, "-c", READ], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        found = json.loads(process.communicate()[0])
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the registry is left, as in a container that ends
    assert Path(found["package"]).is_relative_to(bare)
    assert found["problems"] == []
    assert (found["stored"] > 10, found["growth"]) == (True, 9)
    assert len(found["less"]) < len(found["before"])
    assert found["after"] == found["before"]
    assert {path: path.stat().st_mtime_ns for path in filled} == filled, "it was not filled anew"


def test_without_its_registry_nothing_is_started(bare: Path, seeded_embedded: Seeded, tmp_path: Path) -> None:
    """It says why, instead of a page that shows something else."""
    env = os.environ | {"REGNB_URL": seeded_embedded.url}
    done = subprocess.run(
        ["binder/start", "touch", tmp_path / "started"], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.fixture
def lab(bare: Path, tmp_path: Path) -> Iterator[Lab]:
    """JupyterLab as Binder starts it: in the repository, by the script."""
    command = (
        "jupyter",
        "lab",
        "--no-browser",
        "--allow-root",
        "--LabApp.default_url=/lab/tree/notebooks/00-start.ipynb",
    )
    found = Lab(tmp_path / "lab.log", *command, by=(bare / "binder/start",))
    yield found
    found.stop()


def test_the_badge_leads_to_a_page_that_works(lab: Lab, tmp_path: Path) -> None:
    """``lab/tree/notebooks/00-start.ipynb``: every cell runs, nothing asks for news, the demo can be reset.

    The registry was not filled ahead: where a home is mounted over the image's, the script does it.
    """
    with browsing(tmp_path / "last.png") as (page, outside):
        page.goto(lab.url().replace("/lab?", "/lab/tree/notebooks/00-start.ipynb?"))
        run_all(page)
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        assert page.get_by_text("Connected to 127.0.0.1").count() == 1
        assert page.get_by_text("Would you like to get notified").count() == 0
        page.get_by_role("button", name="Reset the demo").click()
        page.get_by_text("Resetting the demo").wait_for()
        page.get_by_text("Connected to 127.0.0.1").wait_for()
        assert outside == []

"""What is published: the wheel and the sdist as they are built, and the wheel at work outside the clone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest
from browser import Lab, Site, visit
from conftest import Seeded
from images import ROOT
from test_binder import copied

import regnb
from regnb.notebooks.runbook import runbooks

NAMES = {book.path.name for book in runbooks()}
NAME = f"regnb-{regnb.__version__}"
SHARED = {
    "share/jupyter/voila/templates/regnb/conf.json",
    "share/jupyter/voila/templates/regnb/index.html.j2",
}
WHERE = """
import json, sys, regnb
from regnb.notebooks.runbook import notebooks
print(json.dumps([regnb.__file__, str(notebooks()), sys.path, repr(sys.meta_path)]))
"""


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def build(source: Path, target: Path, *options: str) -> dict[str, Path]:
    """Build from a folder; return what came of it by the end of its name."""
    done = run(sys.executable, "-m", "hatchling", "build", "-d", target, *options, folder=source)
    assert done.returncode == 0, done.stderr
    return {path.suffix: path for path in target.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheel and sdist, built from a copy: a build may leave nothing in the clone."""
    folder = tmp_path_factory.mktemp("built")
    return build(copied(folder / "clone"), folder / "dist")


@pytest.fixture(scope="module")
def prefix(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel.

    What regnb depends on is that of these tests: their packages are found after its own, and what else they have for
    Jupyter is copied. Neither brings along the clone, which a ``.pth`` file leads to that only they read.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder)})
    (Path(paths["purelib"]) / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    ours = shutil.ignore_patterns("regnb*")
    shutil.copytree(Path(sys.prefix) / "share/jupyter", folder / "share/jupyter", ignore=ours)
    pip = (sys.executable, "-m", "pip", "--python", folder, "install", "--no-deps", "--no-index")
    done = run(*pip, built[".whl"], folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def program(prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installed command, far from the clone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return prefix / "bin/regnb"


def test_the_wheel_has_what_is_needed_and_nothing_else(built: dict[str, Path]) -> None:
    """The package with its notebooks, what Jupyter shares, a license, the command; no tests, nothing compiled."""
    with zipfile.ZipFile(built[".whl"]) as wheel:
        files = set(wheel.namelist())
        about = message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))
        page = about.get_payload()
        commands = wheel.read(f"{NAME}.dist-info/entry_points.txt").decode()
    source = {path.relative_to(ROOT).as_posix() for path in (ROOT / "regnb").rglob("*.*") if path.suffix != ".pyc"}
    data = {f"{NAME}.data/data/{name}" for name in SHARED}
    info = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    assert files == source | {f"regnb/notebooks/{name}" for name in NAMES} | data | info | {
        f"{NAME}.dist-info/licenses/LICENSE"
    }
    assert (about["Name"], about["Version"], about["License-Expression"]) == (
        "regnb",
        regnb.__version__,
        "BSD-3-Clause",
    )
    assert about["Requires-Python"] == ">=3.11"
    assert {"all", "cli", "embedded", "kubernetes", "lab", "s3"} <= set(about.get_all("Provides-Extra", []))
    assert "# regnb" in about.get_payload()
    assert "regnb = regnb.__main__:main" in commands
    # On a package page relative links lead nowhere.
    assert isinstance(page, str)
    assert re.findall(r"\]\((?!https://)[^)]*\)", page) == []
    assert page.count("](https://github.com/regnb/regnb/") > 10


def test_the_address_of_the_project_is_known() -> None:
    """Where the project lives stands in the metadata and in the two editions of the README, and nowhere else."""
    found = subprocess.run(
        ["git", "grep", "-lE", "github.com/regnb|gh/regnb"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    known = {"README.md", "README.zh-CN.md", "pyproject.toml", "tests/test_wheel.py"}
    assert set(found.stdout.split()) == known


def test_the_sdist_builds_the_same_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    """Byte by byte; and it has the tests, which a distribution runs."""
    run("tar", "-xzf", built[".gz"], folder=tmp_path)
    source = tmp_path / NAME
    assert (source / "tests/conftest.py").is_file()
    again = build(source, tmp_path / "dist", "-t", "wheel")
    assert again[".whl"].read_bytes() == built[".whl"].read_bytes()


def test_it_is_installed_outside_the_clone(program: Path, prefix: Path, tmp_path: Path) -> None:
    """The code that runs is the wheel's, with its notebooks, and Jupyter's files are where Jupyter looks."""
    done = run(prefix / "bin/python", "-c", WHERE, folder=tmp_path)
    package, notebooks, paths, finders = json.loads(done.stdout)
    assert Path(package).is_relative_to(prefix)
    assert Path(notebooks).is_relative_to(prefix)
    assert {path.name for path in Path(notebooks).glob("*.ipynb")} == NAMES
    assert str(ROOT) not in paths
    assert "editable" not in finders.lower()
    assert all((prefix / name).is_file() for name in SHARED)


def test_the_commands_work(program: Path, seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Runbooks are listed, one is run in a kernel, and a report is written; the demo's broken tag is known: code 0."""
    listed = run(program, "run", "--list", folder=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert all(book.question in listed.stdout for book in runbooks())
    ran = run(program, "run", "00-start", "-p", f"url={seeded_embedded.url}", "-o", "records", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "vm/centos8" in (tmp_path / ran.stdout.strip()).read_text(encoding="utf-8")
    told = run(program, "report", seeded_embedded.url, "-o", "report.html", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "vm/centos8" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_demo_works(program: Path, tmp_path: Path) -> None:
    """The sample registry starts, is audited, and ends."""
    done = run(program, "demo", "--no-lab", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "vm/centos8" in done.stdout


def test_uv_installs_it_as_well(built: dict[str, Path], tmp_path: Path) -> None:
    """The wheel, into an environment that uv made; what it depends on is that of these tests."""
    uv = Path(sys.executable).with_name("uv")
    folder = tmp_path / "venv"
    for words in (("venv", "--python", sys.executable, folder), ("pip", "install", "--python", folder, built[".whl"])):
        quiet = ("--no-deps", "--no-index") if words[0] == "pip" else ()
        done = run(uv, *words, *quiet, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    told = run(folder / "bin/regnb", "demo", "--no-lab", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "vm/centos8" in told.stdout


def test_the_lab_works(program: Path, seeded_embedded: Seeded, tmp_path: Path) -> None:
    """``regnb lab --no-browser`` answers, with the notebooks in a folder of the user's and our settings."""
    lab = Lab(tmp_path / "lab.log", "lab", seeded_embedded.url, "--no-browser", by=(program,))
    try:
        base, token = re.fullmatch(r"(.*?/)lab\S*token=(\w+)", lab.url()).groups()  # type: ignore[union-attr]
        with httpx.Client(base_url=base, headers={"Authorization": f"token {token}"}, timeout=600) as client:
            assert "JupyterLab" in client.get("lab").text
            assert client.get("api/contents/00-start.ipynb").json()["type"] == "notebook"
            found = client.get("lab/api/settings/@jupyterlab/apputils-extension:notification").json()
    finally:
        lab.stop()
    assert found["schema"]["properties"]["fetchNews"]["default"] == "false"
    assert {path.name for path in (tmp_path / "regnb-notebooks").glob("*.ipynb")} == NAMES


def test_the_ui_works(program: Path, seeded_embedded: Seeded, tmp_path: Path) -> None:
    """``regnb ui`` serves pages with our heading, which our template has, and what the cells show."""
    with Site(tmp_path / "ui.log", seeded_embedded.url, by=(program,)) as site:
        text = visit(site.base).text
    assert '<nav aria-label="Pages">' in text
    assert "vm/centos8" in text

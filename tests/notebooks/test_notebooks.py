"""The notebooks: free of logic and output, and they run headless on both registries."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import Seeded
from proxied import proxy
from scripted import Request, Server

import regnb
from regnb.change.plan import Plan
from regnb.notebooks import runbook

with warnings.catch_warnings():
    # They warn about their own dependencies on import.
    warnings.simplefilter("ignore")
    import nbformat

NOTEBOOKS = sorted(runbook.notebooks().glob("*.ipynb"))
LOGIC = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.Lambda, ast.Try, ast.With)
NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def shown(notebook: Any) -> str:
    """Everything that the outputs say."""
    data = [output.get("data", {}) for output in outputs(notebook)]
    streams = [output.get("text", "") for output in outputs(notebook)]
    return "\n".join([*streams, *(text for each in data for key, text in each.items() if key.startswith("text/"))])


def check(notebook: Any, host: str) -> None:
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr" and "Warning" in output.text]
    text = shown(notebook)
    assert host in text
    assert "<table" in text


def test_there_are_notebooks_to_test() -> None:
    read = ["00-start", "01-inventory", "02-storage", "03-image"]
    assert [path.stem for path in NOTEBOOKS] == [
        *read, "10-retag", "11-copy", "12-delete", "13-retention", "14-collect", "20-growth",
        "21-fleet", "30-api-console", "31-expose-on-kubernetes",
    ]  # fmt: skip


@NOTEBOOK
def test_it_holds_no_logic(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "code":
            found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, LOGIC)]
            assert not found, cell.source


@NOTEBOOK
def test_it_opens_with_its_question_and_one_cell_of_parameters(path: Path) -> None:
    cells = read(path).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.partition("\n")[0].endswith("?")
    assert len([cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]) == 1


@NOTEBOOK
def test_a_table_stands_beside_every_chart(path: Path) -> None:
    """Whoever cannot see a chart reads the same in the cell before it or behind it; runbooks of tools have none."""
    code = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    drawn = [at for at, source in enumerate(code) if "charts." in source.replace("import charts", "")]
    assert bool(drawn) != path.stem.startswith("3")
    for at in drawn:
        assert any("charts." not in source for source in (*code[at - 1 : at], *code[at + 1 : at + 2])), code[at]


@NOTEBOOK
def test_it_says_where_to_go_next(path: Path) -> None:
    """The last cell leads on, to notebooks that there are."""
    last = read(path).cells[-1].source
    assert "Next:" in last
    assert set(re.findall(r"\]\(([^)]+)\)", last)) <= {each.name for each in NOTEBOOKS}


def forward(request: Request) -> None:
    """Let the proxy pass a request on, and record it."""


UNCONNECTED = {"31-expose-on-kubernetes"}
"""The notebooks that ask no registry."""
HOST = "r.example.com"
"""What they are about."""


def check_that_nothing_was_written(server: Server, *, asked: bool = True) -> None:
    assert len(server.requests) > 10 or not asked
    assert {request.method for request in server.requests} <= {"GET", "HEAD"}


@NOTEBOOK
def test_it_runs(path: Path, seeded_real: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel, with the address from the environment; docker-registry is asked, and nothing is written to it."""
    script = (
        "import sys, nbformat; from nbclient import NotebookClient;"
        "notebook = nbformat.read(sys.argv[1], as_version=4);"
        "NotebookClient(notebook, timeout=120).execute(); nbformat.write(notebook, sys.argv[2])"
    )
    with proxy(seeded_real.host, forward) as between:
        monkeypatch.setenv("REGNB_URL", between.url)
        monkeypatch.setenv("REGNB_SNAPSHOTS", snapshots(path, between.url, tmp_path))
        run_python("-c", script, path, tmp_path / "run.ipynb", folder=tmp_path)
        check(read(tmp_path / "run.ipynb"), HOST if path.stem in UNCONNECTED else between.host)
        check_that_nothing_was_written(between, asked=path.stem not in UNCONNECTED)
        assert bool(between.requests) == (path.stem not in UNCONNECTED)


def snapshots(path: Path, url: str, folder: Path) -> str:
    """A folder with two snapshots, for the notebook that shows them."""
    saved = folder / "saved"
    if path.stem == "20-growth":
        for _ in range(2):
            regnb.read(url).save(saved)
    return str(saved)


NAMED = {
    "01-inventory": "{folder: kept}",
    "10-retag": '{references: ["vm/centos8:8.3"]}',
    "11-copy": '{references: ["vm/centos8:8.3"]}',
    "12-delete": '{references: ["vm/test/centos8:newtagtest"], allow: ["incomplete"]}',
}
"""Notebook: what is named as a parameter."""
PLANNED = {"10-retag": ["tag"], "11-copy": ["tag"], "12-delete": ["delete"]}
"""Notebook: what its plan then does."""


@NOTEBOOK
def test_it_runs_by_papermill(path: Path, seeded_embedded: Seeded, tmp_path: Path) -> None:
    """With parameters, it leaves files or a plan to confirm; the embedded registry is asked, and not written to."""
    with proxy(seeded_embedded.host, forward) as between:
        named = ("-p", "url", between.url, "-y", NAMED.get(path.stem, "{}"))
        if path.stem in ("02-storage", "14-collect"):
            named += ("-p", "storage", str(seeded_embedded.root))
        if path.stem == "20-growth":
            named = ("-p", "snapshots", snapshots(path, between.url, tmp_path))
        if path.stem in UNCONNECTED:
            named = ("-p", "host", f"other.{HOST}", "-p", "way", "ingress")
        if path.stem in PLANNED:
            named += ("-p", "plan_out", "plan.json")
        papermill(path, tmp_path, *named)
        stored = dict.fromkeys(("02-storage", "14-collect"), str(seeded_embedded.root))
        about = {**stored, **dict.fromkeys(UNCONNECTED, f"other.{HOST}")}
        check(read(tmp_path / "run.ipynb"), about.get(path.stem, between.host))
        check_that_nothing_was_written(between, asked=path.stem not in {*UNCONNECTED, "14-collect"})
    if path.stem == "01-inventory":
        assert {"tags.parquet", "blobs.parquet"} <= {found.name for found in (tmp_path / "kept").iterdir()}
    if path.stem in PLANNED:
        steps = Plan.load(tmp_path / "plan.json").steps
        assert [step.action for step in steps if step.writes] == PLANNED[path.stem]


def papermill(path: Path, folder: Path, *parameters: str) -> None:
    run_python("-m", "papermill", "--no-progress-bar", path, folder / "run.ipynb", *parameters, folder=folder)


def run_python(*arguments: str | Path, folder: Path) -> None:
    # The notebook's own tools warn about themselves; a process of their own keeps that out of these tests.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]

"""The notebooks: free of logic and output, and they run headless on both registries."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import Seeded

from regnb import lab

with warnings.catch_warnings():
    # They warn about their own dependencies on import.
    warnings.simplefilter("ignore")
    import nbformat

NOTEBOOKS = sorted(lab.notebooks().glob("*.ipynb"))
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


def check(notebook: Any, seeded: Seeded) -> None:
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr" and "Warning" in output.text]
    text = shown(notebook)
    assert seeded.host in text
    assert "vm/centos8" in text
    assert "<table" in text


def test_there_are_notebooks_to_test() -> None:
    assert [path.name for path in NOTEBOOKS] == ["00-start.ipynb", "01-inventory.ipynb"]


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
def test_it_is_stripped(path: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-m", "nbstripout", "--verify", path], check=False)
    assert done.returncode == 0, f"run nbstripout {path}"


@NOTEBOOK
def test_it_runs(path: Path, seeded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel, with the address from the environment."""
    monkeypatch.setenv("REGNB_URL", seeded.url)
    script = (
        "import sys, nbformat; from nbclient import NotebookClient;"
        "notebook = nbformat.read(sys.argv[1], as_version=4);"
        "NotebookClient(notebook, timeout=120).execute(); nbformat.write(notebook, sys.argv[2])"
    )
    run_python("-c", script, path, tmp_path / "run.ipynb", folder=tmp_path)
    check(read(tmp_path / "run.ipynb"), seeded)


@NOTEBOOK
def test_it_runs_by_papermill(path: Path, seeded: Seeded, tmp_path: Path) -> None:
    """With the address as a parameter."""
    run_python(
        "-m", "papermill", "--no-progress-bar", path, tmp_path / "run.ipynb", "-p", "url", seeded.url, folder=tmp_path
    )
    check(read(tmp_path / "run.ipynb"), seeded)


def test_the_inventory_is_written(seeded: Seeded, tmp_path: Path) -> None:
    path = lab.notebooks() / "01-inventory.ipynb"
    parameters = ("-p", "url", seeded.url, "-p", "folder", str(tmp_path / "kept"))
    run_python("-m", "papermill", "--no-progress-bar", path, tmp_path / "run.ipynb", *parameters, folder=tmp_path)
    assert {"tags.parquet", "blobs.parquet"} <= {found.name for found in (tmp_path / "kept").iterdir()}


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


def test_copying_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "00-start.ipynb").write_text("mine", encoding="utf-8")
    assert [path.name for path in lab.copy_notebooks(tmp_path)] == ["01-inventory.ipynb"]
    assert (tmp_path / "00-start.ipynb").read_text(encoding="utf-8") == "mine"
    assert lab.copy_notebooks(tmp_path) == []

"""Runbooks: what the packaged notebooks answer and take, and that a run leaves a record and says what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Seeded
from images import surroundings
from proxied import READS, gap

from regnb.analysis.inventory import MIME
from regnb.environment import environment
from regnb.errors import InvalidArgument, RegnbError, StorageError
from regnb.notebooks import runbook
from regnb.notebooks.runbook import Run, Runbook, filled, find, run, runbooks, values

PLOTLY = "application/vnd.plotly.v1+json"


def book(**parameters: object) -> Runbook:
    return Runbook("test", Path("test.ipynb"), "What?", "", parameters)


def outputs(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def kernel(folder: Path, **more: str) -> dict[str, str]:
    """What a kernel is given: where nothing of this machine's user is."""
    return surroundings(folder, **more)


def test_what_a_notebook_answers_and_takes() -> None:
    """The question, a plain paragraph and the parameters of each; a default that is computed counts as text."""
    found = runbooks()
    assert [each.name for each in found] == sorted(each.name for each in found)
    assert len(found) >= 8
    for each in found:
        assert each.question.endswith("?")
        assert each.about.endswith((".", ":"))
        assert not set("`*[]") & set(each.about)
    parameters = find("02-storage").parameters
    assert (parameters["url"], parameters["protect"], parameters["keep"]) == ("", [], 1)


@pytest.mark.parametrize("name", ["02-storage", "02-storage.ipynb", "storage", "Storage"])
def test_a_runbook_by_its_name_or_a_part(name: str) -> None:
    """The number need not be known."""
    assert find(name).name == "02-storage"


@pytest.mark.parametrize(("name", "named"), [("0", "10-retag"), ("nothing", "13-retention"), ("", "00-start")])
def test_no_runbook_is_guessed(name: str, named: str) -> None:
    """A name that fits several, or none, is an error that names the choices."""
    with pytest.raises(InvalidArgument) as caught:
        find(name)
    assert named in caught.value.hint


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        ("x", "a=b, c", "a=b, c"), (True, "No", False), (False, "true", True), (1, "-3", -3), (1.5, "2", 2.0),
        ([], "a, b:*,", ["a", "b:*"]), ([], '["a,b", "c"]', ["a,b", "c"]), (["x"], "", []), (None, "text", "text"),
    ],
)  # fmt: skip
def test_text_becomes_what_the_notebook_takes(default: object, text: str, value: object) -> None:
    """The default decides what a text means."""
    found = values(book(it=default), {"it": text})["it"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("default", "text", "hint"),
    [
        (True, "perhaps", "true or false"), (1, "1.5", "whole number"), (1.5, "much", "number"), ([], "[1", "list"),
        ("x", "\udcff", "UTF-8"),
    ],
)  # fmt: skip
def test_text_that_means_nothing(default: object, text: str, hint: str) -> None:
    """It is refused before anything runs, and the hint says what is taken."""
    with pytest.raises(InvalidArgument) as caught:
        values(book(it=default), {"it": text})
    assert "it" in caught.value.message
    assert hint in caught.value.hint


def test_an_unknown_parameter() -> None:
    """It is an error, and not a warning that nobody reads; the hint has the one that was meant, and all."""
    with pytest.raises(InvalidArgument) as caught:
        values(find("02-storage"), {"protekt": "*"})
    assert "did you mean protect?" in caught.value.hint
    assert "created_before" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["http://me:canary@host:5000", "https://me:ca/canary@host", '["s3://a:canary@b"]', "http://:canary@host"]
)  # fmt: skip
def test_no_credentials_among_parameters(text: str) -> None:
    """The record would keep them; the error does not repeat them, and says where they go."""
    for default in ("", []):
        with pytest.raises(InvalidArgument) as caught:
            values(book(url=default), {"url": text})
        assert "canary" not in str(caught.value)
        assert "REGNB_PASSWORD" in caught.value.hint


@pytest.mark.parametrize("text", ["http://host:5000/a@b", "vm/app@sha256:1", "me@example.com", "a:b@c"])
def test_an_at_sign_alone_is_no_secret(text: str) -> None:
    """Digests, paths and addresses are taken."""
    assert values(book(it=""), {"it": text}) == {"it": text}


@pytest.mark.parametrize("text", ["plain", "quo\"te's", "line\nbreak\\", '"""', "ü\u202e\x1b[31m", "{x} %s"])
def test_the_filled_notebook_sets_exactly_the_values(text: str) -> None:
    """Whatever a text holds, it becomes a value and no code; the cell stands right below the defaults."""
    given: Mapping[str, object] = {"size": text, "protect": [text, "b"], "keep": 3}
    cells = filled(find("02-storage"), given).cells
    at = next(at for at, cell in enumerate(cells) if "injected-parameters" in cell.metadata.get("tags", []))
    assert "parameters" in cells[at - 1].metadata["tags"]
    found: dict[str, object] = {}
    exec(cells[at].source, {}, found)  # noqa: S102 -- it is what is tested
    assert found == given


def test_a_notebook_without_values_stays_as_it_is() -> None:
    """No empty cell is put into it."""
    assert len(filled(find("02-storage"), {}).cells) + 1 == len(filled(find("02-storage"), {"keep": 1}).cells)


def test_the_environment_of_a_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has what it takes to reach the registry; credentials of another registry do not go along."""
    for name, value in {"URL": "http://one:5000", "USER": "me", "PASSWORD": "canary", "INSECURE": "1"}.items():
        monkeypatch.setenv(f"REGNB_{name}", value)
    assert environment()["REGNB_PASSWORD"] == "canary"
    assert environment("http://one:5000/v2/")["REGNB_PASSWORD"] == "canary"
    other = environment("http://two:5000")
    assert "canary" not in other.values()
    assert not {"REGNB_USER", "REGNB_INSECURE"} & other.keys()
    for url in ("http://you:p%40ss@two:5000", "you:p%40ss@two:5000"):
        apart = environment(url)
        assert (apart["REGNB_USER"], apart["REGNB_PASSWORD"]) == ("you", "p@ss")
        assert apart["REGNB_URL"] == url.replace("you:p%40ss@", "")
    monkeypatch.setenv("REGNB_URL", "http://me:canary@one:5000")
    monkeypatch.delenv("REGNB_PASSWORD")
    for found in (environment(), environment("http://one:5000")):
        assert (found["REGNB_URL"], found["REGNB_PASSWORD"]) == ("http://one:5000", "canary")
    assert "canary" not in str(environment("http://two:5000"))
    monkeypatch.chdir(tmp_path)
    named = environment("http://two:5000", username="you", password="secret", ca_bundle="ca.pem", insecure=True)
    assert (named["REGNB_USER"], named["REGNB_PASSWORD"], named["REGNB_INSECURE"]) == ("you", "secret", "1")
    assert named["REGNB_CA_BUNDLE"] == str(tmp_path / "ca.pem")


def test_a_run_leaves_a_record_and_tells_of_gaps(seeded: Seeded, tmp_path: Path) -> None:
    """Every cell has run, with the parameters; one tag is refused, so not all was read; nothing was written."""
    with gap(seeded.host) as between:
        done = run("start", {"url": between.url}, tmp_path / "records", surroundings=kernel(tmp_path))
        assert done == Run(done.path, gaps=(between.host,))
        assert len(between.requests) > 10
        assert {request.method for request in between.requests} <= set(READS)
    assert done.path.parent == tmp_path / "records"
    cells = json.loads(done.path.read_text(encoding="utf-8"))["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    shown = next(found["data"][MIME] for found in outputs(done.path) if MIME in found.get("data", {}))
    assert shown == {"registry": between.host, "source": "api", "complete": False, "problems": 2}


@pytest.mark.parametrize("name", ["10-retag", "11-copy", "12-delete", "13-retention"])
def test_a_form_tells_of_gaps_too(name: str, seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Notebooks that change something show an inventory's head, which carries whether it is whole."""
    with gap(seeded_embedded.host) as refused:
        done = run(name, {"url": refused.url}, tmp_path, surroundings=kernel(tmp_path))
        assert (done.error, done.gaps) == (None, (refused.host,))


def test_a_record_has_its_charts(seeded_real: Seeded, tmp_path: Path) -> None:
    """A storage is read whole; each chart is in the record as JupyterLab draws it, once, without a copy of plotly."""
    given = {"storage": str(seeded_real.root), "protect": "vm/*:8*, *:latest", "keep": "2"}
    done = run("02-storage", given, tmp_path, surroundings=kernel(tmp_path))
    assert done == Run(done.path)
    drawn = [found["data"] for found in outputs(done.path) if PLOTLY in found.get("data", {})]
    assert len(drawn) >= 7
    assert done.path.stat().st_size < 1_000_000


def test_a_record_is_never_overwritten(
    seeded_embedded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs within a second have two records, and both stay."""

    class Clock(datetime):
        @classmethod
        def now(cls, _: object = None) -> datetime:  # type: ignore[override]
            return datetime(2026, 11, 25, 3, 15, tzinfo=UTC)

    monkeypatch.setattr(runbook, "datetime", Clock)
    name = "12-delete-20261125T031500Z.ipynb"
    (tmp_path / name).write_text("mine", encoding="utf-8")
    done = run("delete", {"url": seeded_embedded.url}, tmp_path, surroundings=kernel(tmp_path))
    assert done.path.name == "12-delete-20261125T031500Z-2.ipynb"
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_a_cell_that_fails(tmp_path: Path) -> None:
    """An error of ours comes back with its hint; the record is there, with the error in it."""
    done = run("12-delete", {"url": "http://127.0.0.1:9"}, tmp_path, surroundings=kernel(tmp_path))
    assert isinstance(done.error, RegnbError)
    assert "127.0.0.1:9 refuses connections" in done.error.message
    assert "check the port" in done.error.hint
    assert [found["ename"] for found in outputs(done.path) if found["output_type"] == "error"] == ["ConnectionFailed"]


@pytest.mark.parametrize(
    ("source", "words"), [("1 / 0", "ZeroDivisionError: division by zero"), ("import os; os._exit(1)", "kernel ended")]
)
def test_an_error_that_is_not_ours(source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name and message, and where the traceback is; and a kernel that dies is not a traceback either."""
    code = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source, "id": "b"}
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# Why?", "id": "a"},
        code | {"execution_count": None, "outputs": []},
    ]
    document = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "90-broken.ipynb").write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setattr(runbook, "notebooks", lambda: tmp_path)
    done = run("broken", {}, tmp_path / "records", surroundings=kernel(tmp_path))
    assert done.error is not None
    assert words in done.error.message
    assert source in done.path.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said before anything runs."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        run("start", {}, tmp_path / "file" / "records")

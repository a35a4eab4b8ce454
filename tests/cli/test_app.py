"""The table of commands is what there is, and listing commands loads none of them."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from images import surroundings
from typer.testing import CliRunner

from regnb import cli
from regnb.cli.app import COMMANDS


def first_sentence(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says(name: str) -> None:
    """Each row of the table finds its command, and says the beginning of that command's own help."""
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    assert command.name == name
    assert first_sentence(command.help).startswith(COMMANDS[name].help)


def test_no_command_is_missing_from_the_table() -> None:
    """Every command of a module that the table names is in the table, or belongs to a group that is."""
    for module in {entry.module for entry in COMMANDS.values()}:
        group = typer.main.get_group(importlib.import_module(f"regnb.cli.{module}").app)
        alone = [name for name, entry in COMMANDS.items() if entry.module == module]
        assert set(group.commands) <= set(alone) or len(alone) == 1, module


def test_help_loads_no_command(tmp_path: Path) -> None:
    """``regnb --help`` imports no module of commands."""
    code = "import sys; from regnb.cli.app import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=surroundings(tmp_path)
    )
    assert {f"regnb.cli.{entry.module}" for entry in COMMANDS.values()} & set(done.stdout.split()) == set()


@pytest.mark.parametrize("words", [["apply", "absent", "--confirm", "x"], ["collect", "absent", "--plan-out", "plan"]])
def test_plain_values_load_nothing(words: list[str], tmp_path: Path) -> None:
    """Texts and paths of a command line need no pydantic, and a command over a storage no HTTP and no frames."""
    code = (
        "import sys; from regnb import cli\n"
        f"try: cli.app({words}, standalone_mode=False)\n"
        "except Exception as error: print('failed', error)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=surroundings(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert "absent" in done.stdout
    assert {"pydantic", "httpx", "aiohttp", "pandas", "regnb.registry"} & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    ("words", "text"), [(["--plan-out", "."], "is a directory"), (["--tag-history", "few"], "as an integer")]
)
def test_what_is_no_plain_value_is_refused(words: list[str], text: str) -> None:
    """A folder where a file is expected, and a text where a number is, are refused as typer does."""
    done = CliRunner().invoke(cli.app, ["collect", "absent", *words])
    assert done.exit_code != 0
    assert text in " ".join(done.output.replace("│", " ").split())

"""The documentation: it can be built without a warning, its commands and its Python run, its errors are real."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from conftest import Seeded
from images import ROOT

import regnb
from regnb.cli import app

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
NOT_TYPED = {"reference.md", "changelog.md"}
"""Pages without commands that one copies."""


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of a page in one language; inside of a list they are indented."""
    # Every block is matched, whatever its language: the end of one is not the beginning of another.
    found = re.findall(r"^( *)```([^`\n]*)\n(.*?)^\1```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [
        "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))
        for indent, named, text in found
        if named == language
    ]


def typed(path: Path) -> list[list[str]]:
    """Each call of regnb in the plain blocks of a page, as words."""
    lines = "".join(blocks(path, "")).replace("\\\n", " ").splitlines()
    calls = [match[1] for line in lines if (match := re.search(r"(?:^|[;|&*)] +)regnb (.+?)(?: [|>].*)?$", line))]
    return [shlex.split(call, comments=True) for call in calls]


@pytest.mark.parametrize("path", [path for path in PAGES if typed(path)], ids=lambda path: path.name)
def test_every_command_shown_is_one(path: Path) -> None:
    """Each regnb command line of a page is taken by the command line's own parser: names, options and values."""
    for words in typed(path):
        command: Any = typer.main.get_command(app)
        context = command.make_context("regnb", [], resilient_parsing=True)
        rest = list(words)
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, words
            name, command = rest[0], command.commands[rest[0]]
            rest = rest[1:]
            context = (
                command.make_context(name, list(rest), parent=context) if not hasattr(command, "commands") else context
            )


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_line_of_a_crontab_is_not_cut(path: Path) -> None:
    """Cron ends a command at the first bare percent sign, and what follows would be lost without a word."""
    lines = "".join(blocks(path, "")).splitlines()
    assert not [line for line in lines if re.match(r"([\d*/,-]+ ){5} *\S", line) and re.search(r"(?<!\\)%", line)]


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=lambda path: path.name)
def test_the_python_shown_is_python(path: Path) -> None:
    """Each Python block of a page compiles."""
    for text in blocks(path, "python"):
        compile(text, path.name, "exec")


def test_the_first_steps_run(seeded_embedded: Seeded) -> None:
    """The Python of the first steps and of the way to free space runs as it stands, on a registry of one's own."""
    with regnb.connect(seeded_embedded.url) as registry:
        names: dict[str, Any] = {"registry": registry, "regnb": regnb}
        for name in ("start.md", "how-to/free-space.md"):
            for text in blocks(ROOT / "docs" / name, "python"):
                shown = text.replace("http://localhost:5000", seeded_embedded.url)
                exec(shown.replace("/var/lib/registry", str(seeded_embedded.root)), names)  # noqa: S102 -- our own


def test_the_errors_shown_are_ours() -> None:
    """Each error that the page on troubleshooting quotes stands in the code, word for word."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "regnb").rglob("*.py"))
    titles = re.findall(
        r"^\*\*(.*)\*\*$", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    quoted = [part.strip() for title in titles for text in re.findall(r'"(.+?)"', title) for part in text.split("…")]
    assert len(quoted) > 8
    assert [part for part in quoted if part and part not in code] == []


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """`make docs` turns every page, docstring, command and column into the site; no link leads nowhere."""
    done = subprocess.run(
        [*(sys.executable, "-m", "sphinx", "-W", "-q", "-d"), tmp_path / "trees", ROOT / "docs", tmp_path / "site"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for page in (
        "index",
        "start",
        "generated/commands",
        "generated/python",
        "generated/columns",
        "generated/tutorials/00-start",
    ):
        assert (tmp_path / "site" / f"{page}.html").is_file(), page
    outside = re.compile(r'(?:src|href)="https?://(?!mybinder|keepachangelog|semver)[^"]+\.(?:js|css|woff2?)"')
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert not [path for path, text in pages.items() if outside.search(text)]
    dashed = re.compile(r"[ (]\u2013[a-z-]+")
    assert not [found for text in pages.values() for found in dashed.findall(text)], "an option has two hyphens"

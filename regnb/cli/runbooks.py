"""Commands that run a notebook, and write a report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer import Argument, Option

from regnb.analysis.growth import growth as growth_
from regnb.cli.command import Connected, Surrounded, command_of
from regnb.cli.options import NoCache, Repositories, Where
from regnb.cli.terminal import (
    INCOMPLETE,
    INTERRUPTED,
    leave,
    out,
    say,
)
from regnb.crawl.files import file_errors
from regnb.crawl.naming import OPTION
from regnb.errors import InvalidArgument
from regnb.notebooks.runbook import Runbook, find, runbooks
from regnb.notebooks.runbook import run as run_
from regnb.source import read
from regnb.tables.write import make_folder
from regnb.text import parse_size, redact

app = typer.Typer()
command = command_of(app)


@command
def run(
    surrounded: Surrounded,
    name: Annotated[str, Argument(metavar="NAME", help="Name of a runbook, such as 02-storage, or a part of it.")] = "",
    parameters: Annotated[
        list[str] | None,
        Option("--parameter", "-p", metavar="NAME=VALUE", help="Set a parameter of the notebook (repeatable)."),
    ] = None,
    output: Annotated[Path, Option("--output", "-o", help="Write the executed notebook into this folder.")] = Path(),
    list_: Annotated[bool, Option("--list", help="List the runbooks and their parameters; run nothing.")] = False,
) -> None:
    """Run a runbook (a packaged notebook) without JupyterLab, keep the executed notebook, and print its path.

    A runbook writes nothing to a registry. Exit code 0: done, 1: a cell failed, 4: something could not be read.
    """
    if list_ or not name:
        for each in runbooks():
            out.print(f"[bold]{each.name}[/]  {escape(each.question)}", soft_wrap=True)
            out.print(f"    {_defaults(each)}", markup=False, soft_wrap=True)
        return
    given = dict(_assigned(text) for text in parameters or ())
    done = run_(name, given, output, surroundings=surrounded(given.get("url", "")))
    typer.echo(done.path)
    if done.interrupted:
        say("Interrupted: the record ends there.")
        raise typer.Exit(INTERRUPTED)
    if done.error:
        name = "repositories" if "repositories" in find(name).parameters else "repository"
        hint = done.error.hint.replace(OPTION, f"-p {name}=NAME")
        raise done.error.saying(done.error.message, hint=hint)
    leave((INCOMPLETE, f"Incomplete: not everything in {each} could be read.") for each in done.gaps)


@command
def report(
    connected: Connected,
    url: Where,
    output: Annotated[
        Path, Option("--output", "-o", help="Write this file; an existing one is replaced.", dir_okay=False)
    ] = Path("report.html"),
    snapshots: Annotated[
        str | None, Option(metavar="URL", help="Folder or URL of its snapshots, to show growth.")
    ] = None,
    capacity: Annotated[
        str | None, Option(metavar="SIZE", help="Size of its disk, such as 1TB, to estimate when it is full.")
    ] = None,
    repositories: Repositories = None,
    no_cache: NoCache = False,
) -> None:
    """Write a report on a registry or its storage as one HTML file that needs no network, and print its path.

    Exit code 0: written, 1: error, 4: written, but something could not be read.
    """
    from regnb.pages.report import report as report_  # an extra

    if capacity is not None:
        parse_size(capacity)
        if snapshots is None:
            raise InvalidArgument("growth needs snapshots", hint="add --snapshots URL")
    make_folder(output.parent)
    inventory = read(url, repositories, cached=not no_cache, connect=connected)
    found = growth_(snapshots, registry=inventory.registry) if snapshots is not None else None
    words = ["regnb", "report", redact(url), "-o", output.name]
    words += [word for name in repositories or () for word in ("-r", name)]
    words += ["--snapshots", redact(snapshots)] if snapshots else []
    words += ["--capacity", capacity] if capacity else []
    text = report_(inventory, growth=found, capacity=capacity, command=shlex.join(words))
    with file_errors(f"write {output}", "name another file with -o"):
        output.write_text(text, encoding="utf-8")
    typer.echo(output)
    leave([], inventory)


def _assigned(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"{redact(text)[:100]!r} gives no parameter a value", hint="write -p name=value")
    return name.strip(), value


def _defaults(runbook: Runbook) -> str:
    """Return the parameters as they are given, those of many lines without them."""
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in runbook.parameters.items()
    }
    return "  ".join(f"{name}={'…' if chr(10) in text else text}" for name, text in texts.items())

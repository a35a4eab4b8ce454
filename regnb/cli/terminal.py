"""What commands print on a terminal, the codes that they exit with, and the options that several of them have."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Option

from regnb import environment

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

OK: Final = 0
ERROR: Final = 1
OVER: Final = 2
DRIFT: Final = 3
INCOMPLETE: Final = 4
EXCESSIVE: Final = 5
INTERRUPTED: Final = 130

# A pipe or a log has no width: there a table must not be folded to that of an old terminal.
out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
err = Console(stderr=True, highlight=False)

Json = Annotated[bool, Option("--json", help="JSON lines on standard output.")]
User = Annotated[str, Option("--user", "-u", help="User name; the password is read from REGNB_PASSWORD or a prompt.")]
CaBundle = Annotated[Path | None, Option(help="Certificates to trust.", dir_okay=False)]
ClientCert = Annotated[Path | None, Option(help="Certificate and key in one file.", dir_okay=False)]
Insecure = Annotated[bool, Option("--insecure", help="Accept any certificate.")]


def say(text: str) -> None:
    """Print a line on standard error, for people; standard output is what was asked for."""
    err.print(text, markup=False, soft_wrap=True)


def login(user: str, variable: str, prompt: str) -> dict[str, Any]:
    """Return a user name with its password, or nothing without a name."""
    if not user:
        return {}
    password = environment.variable(variable) or str(typer.prompt(prompt, hide_input=True, err=True))
    return {"username": user, "password": password}


def table(frame: Frame, title: str = "", limit: int = 20) -> None:
    """Print a frame as a table, below its title: readable cells, numbers to the right, cut with a word about it."""
    text, _ = frame.head(limit).readable()
    caption = f"{len(frame) - limit:,} more rows" if len(frame) > limit else None
    if title:
        out.print(f"[italic]{title}[/]", soft_wrap=True)
    drawn = Table(caption=caption, header_style="bold", box=None)
    for name in text.columns:
        number = str(frame[name].dtype).startswith("int")
        whole = str(name) in ("before", "after")  # a digest that is folded cannot be copied
        drawn.add_column(str(name), justify="right" if number else "left", overflow="fold", no_wrap=whole)
    for row in text.itertuples(index=False, name=None):
        drawn.add_row(*(escape(str(cell)) for cell in row))
    out.print(drawn)


def show(frame: Frame, json_: bool, title: str = "") -> None:
    """Print a frame whole, as a table or as JSON lines."""
    if json_:
        from regnb.tables.write import json_lines  # noqa: PLC0415 -- pandas is not needed for help

        sys.stdout.write(json_lines(frame))
    else:
        table(frame, title, len(frame))


def listing(json_: bool, **columns: Sequence[str]) -> None:
    """Print columns of names, as a table or as JSON lines: a command that only lists does without pandas."""
    rows = list(zip(*columns.values(), strict=True))
    if json_:
        for row in rows:
            sys.stdout.write(json.dumps(dict(zip(columns, row, strict=True)), separators=(",", ":")) + "\n")
        return
    drawn = Table(header_style="bold", box=None)
    for name in columns:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*map(escape, row))
    out.print(drawn)


def section(frame: Frame, title: str = "", limit: int = 20) -> None:
    """Print a frame as a table with a title and a blank line before it, if it has rows."""
    if len(frame):
        out.print()
        table(frame, title, limit)

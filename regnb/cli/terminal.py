"""What commands print on a terminal, the codes that they exit with, and the options that several of them have."""

from __future__ import annotations

import csv as csv_
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn, TypeAlias

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Option

from regnb import environment
from regnb.errors import Interrupted, InvalidArgument, RegnbError
from regnb.text import FORMULA, count, middle, printable

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory
    from regnb.analysis.stock import Stock
    from regnb.tables.frame import Frame
    from regnb.tables.listing import Listing

OK: Final = 0
ERROR: Final = 1
OVER: Final = 2
DRIFT: Final = 3
INCOMPLETE: Final = 4
EXCESSIVE: Final = 5
INTERRUPTED: Final = 130

# Else a tag named "new", between two colons, is shown as a picture.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

Form: TypeAlias = Literal["", "json", "csv"]
"""The form of the output: for people, as JSON lines or as CSV."""

_LEAST: Final = 22
"""Letters that a sentence gets at least before columns are left out."""
_WORD: Final = 32
"""Letters of a word that is never broken at the end of a line."""
_TOLD: Final = frozenset({"tag", "status", "message"})
"""Columns that get room before others do: a table of what failed is of no use without them."""
_REFERRER: Final = re.compile(r"\bsha256-[0-9a-f]{64}(\.\w+)?")
"""A referrer's tag, which is longer than most lines."""
_CONNECTION: Final = "Connection"
_EVERYWHERE: Final = "Options of every command"

Json = Annotated[Form, Option("--json", help="Print JSON lines; errors are JSON too.")]
User = Annotated[
    str,
    Option(
        "--user",
        "-u",
        metavar="NAME",
        help="User name; the password is read from REGNB_PASSWORD or a prompt.",
        rich_help_panel=_CONNECTION,
    ),
]
CaBundle = Annotated[
    Path | None, Option(help="Trust the certificates in this file.", dir_okay=False, rich_help_panel=_CONNECTION)
]
ClientCert = Annotated[
    Path | None,
    Option(
        help="Send the client certificate in this file, which also holds its key.",
        dir_okay=False,
        rich_help_panel=_CONNECTION,
    ),
]
Insecure = Annotated[bool, Option("--insecure", help="Accept any certificate.", rich_help_panel=_CONNECTION)]


def form(json_: bool, *, csv: Annotated[bool, Option("--csv", help="Print CSV, with a heading.")] = False) -> Form:
    """Return the form of the output that --json and --csv choose.

    Raises:
        InvalidArgument: Both were given.
    """
    if json_ and csv:
        raise InvalidArgument("--json and --csv cannot be used together", hint="leave one of them out")
    return "json" if json_ else "csv" if csv else ""


Quiet = Annotated[
    bool,
    Option("--quiet", "-q", help="Print results and errors only, no remarks.", rich_help_panel=_EVERYWHERE),
]
NoProgress = Annotated[bool, Option("--no-progress", help="Show no progress.", rich_help_panel=_EVERYWHERE)]
Timeout = Annotated[
    float | None,
    Option(metavar="SECONDS", help="Wait this long for a registry. Default: 30.", rich_help_panel=_EVERYWHERE),
]
Concurrency = Annotated[
    int | None,
    Option(metavar="N", help="Send at most N requests at once. Default: 128.", rich_help_panel=_EVERYWHERE),
]


def heed(
    *, quiet: Quiet = False, no_progress: NoProgress = False, timeout: Timeout = None, concurrency: Concurrency = None
) -> None:
    """Put the options of every command into the environment, where this process and its kernels find them.

    Raises:
        InvalidArgument: A number that makes no sense.
    """
    given = {
        "REGNB_QUIET": "1" if quiet else "",
        "REGNB_NO_PROGRESS": "1" if quiet or no_progress else "",
        "REGNB_TIMEOUT": "" if timeout is None else str(timeout),
        "REGNB_CONCURRENCY": "" if concurrency is None else str(concurrency),
    }
    os.environ.update({name: value for name, value in given.items() if value})
    environment.seconds(timeout)
    environment.concurrency(concurrency)


Reason: TypeAlias = tuple[int, str]
"""Why a command does not exit with 0: the code, and a sentence."""


def leave(reasons: Iterable[Reason], *read: Inventory | Stock) -> NoReturn:
    """Say on standard error why, and what could not be read, and exit with the lowest code."""
    found = sorted([*reasons, *unread(*read)])
    for code, reason in found:
        report_reason(reason, code)
    raise typer.Exit(found[0][0] if found else OK)


def unread(*read: Inventory | Stock) -> list[Reason]:
    """Return a reason for each of these that could not be read whole."""
    gaps = (f"Incomplete: not everything in {each.registry} could be read." for each in read if not each.complete)
    return [(INCOMPLETE, gap) for gap in gaps]


def say(text: str) -> None:
    """Print a remark on standard error, for people; standard output is what was asked for."""
    if not environment.variable("REGNB_QUIET"):
        err.print(cut(text, err), markup=False, soft_wrap=True)


def cut(text: str, console: Console | None = None) -> str:
    """Return a text for people: on a terminal a referrer's tag loses its middle, as no line should end within it."""
    return _REFERRER.sub(lambda tag: middle(tag[0], _LEAST), text) if (console or out).is_terminal else text


def as_json() -> bool:
    """Whether the command line asks for JSON."""
    # Asked of the words themselves: a command line that cannot be read is an error, too.
    return "--json" in sys.argv[1:]


def _line(document: dict[str, object]) -> None:
    sys.stderr.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


def report_error(error: RegnbError | Interrupted, code: int) -> None:
    """Print an error on standard error: its message, its hint and the receipt to go on with; with --json as JSON."""
    message, hint = (error.message, error.hint) if isinstance(error, RegnbError) else (str(error), "")
    if as_json():
        found = {
            "error": type(error).__name__,
            "message": message,
            "hint": hint,
            "receipt": error.receipt,
            "exit": code,
        }
        return _line({name: value for name, value in found.items() if value})
    if isinstance(error, RegnbError):
        message = f"[red]Error:[/] {escape(cut(message, err))}"
    err.print(message, soft_wrap=True, markup=isinstance(error, RegnbError))
    if hint:
        err.print(f"[yellow]Hint:[/] {escape(hint)}", soft_wrap=True)
    if error.receipt:
        err.print(f"To continue: regnb apply --resume {error.receipt}", soft_wrap=True)
    return None


def report_reason(reason: str, code: int) -> None:
    """Print on standard error why a command exits with this code; with --json as JSON."""
    if as_json():
        _line({"reason": reason, "exit": code})
    else:
        err.print(cut(reason, err), markup=False, soft_wrap=True)


def login(user: str, variable: str, prompt: str) -> dict[str, Any]:
    """Return a user name with its password, or nothing without a name."""
    if not user:
        return {}
    password = environment.variable(variable) or str(typer.prompt(prompt, hide_input=True, err=True))
    return {"username": user, "password": password}


def table(rows: Frame | Listing, title: str = "", limit: int = 20) -> None:
    """Print a frame as a table, below its title: readable cells, numbers to the right.

    On a terminal rows beyond the limit are counted below it. A pipe gets every row, each on one line.
    """
    from regnb.tables.listing import Listing  # not needed for help

    terminal, blank = sys.stdout.isatty(), list[str]()
    if terminal and not len(rows):
        out.print(f"{title}: no rows." if title else "No rows.")
        return
    if not isinstance(rows, Listing):
        rows = Listing.of(rows)
    if terminal:
        rows, blank = rows.filled()
    shown = rows.head(limit) if terminal else rows
    more = [count(len(rows) - limit, "more row")] if len(rows) > limit else []
    more += [f"without a value: {', '.join(blank)}"] if blank else []
    draw(shown.columns, shown.cells(whole=not terminal), title, "; ".join(more))


def draw(columns: Iterable[tuple[str, bool]], rows: Iterable[Sequence[str]], title: str = "", more: str = "") -> None:
    """Print cells for people as a table, below its title; a pipe gets each row on one line.

    Args:
        columns: Each name, and whether its cells are numbers, which stand to the right.
        rows: The cells.
        title: Above it.
        more: What is said below it on a terminal.
    """
    from regnb.tables.columns import SENTENCES  # not needed for help

    head, right = zip(*columns, strict=True)
    body = list(rows)
    if title:
        out.print(f"[italic]{title}[/]", soft_wrap=True)
    if not sys.stdout.isatty():
        _plain(head, body, right)
        return
    body = [[cut(cell) for cell in row] for row in body]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    # A cell of several words folds between them; what has none, such as a digest, is whole or not shown.
    folds = [
        name in SENTENCES or (width > _LEAST and any(" " in cell for cell in column))
        for name, width, column in zip(head, widths, zip(*body, strict=True), strict=False)
    ] or [False] * len(head)
    words = [
        max((len(word) for cell in column for word in cell.split()), default=0) for column in zip(*body, strict=True)
    ]
    least = [
        min(width, max(_LEAST, min(word, _WORD))) if fold else width
        for width, fold, word in zip(widths, folds, words or widths, strict=True)
    ]
    fits, room = [0], out.width - least[0]
    # What became of a row comes before what it was about. A narrow column after one that is too wide is shown.
    for at in sorted(range(1, len(head)), key=lambda at: head[at] not in _TOLD):
        if least[at] + 2 <= room:
            fits.append(at)
            room -= least[at] + 2
    fits.sort()
    # Rich would shrink all columns alike, below what their words need, and cut the last one off.
    sizes = {at: min(least[at], out.width) for at in fits}
    folding = sorted((at for at in fits if folds[at]), key=lambda at: widths[at] - least[at])
    for place, at in enumerate(folding):
        more_room = min(widths[at] - least[at], max(0, room) // (len(folding) - place))
        sizes[at], room = sizes[at] + more_room, room - more_room
    below = [more] * bool(more)
    left = [name for at, name in enumerate(head) if at not in fits]
    below += [f"not shown: {', '.join(left)}; --json shows all"] if left else []
    drawn = Table(header_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for at in fits:
        drawn.add_column(
            head[at],
            justify="right" if right[at] else "left",
            no_wrap=not (folds[at] or len(least) == 1),
            overflow="fold" if folds[at] else "ellipsis",
            width=sizes[at] if folds[at] else None,
        )
    for row in body:
        drawn.add_row(*(escape(row[at]) for at in fits))
    out.print(drawn)
    if below:
        out.print("; ".join(below), style="dim italic", markup=False, highlight=False)


def _plain(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    """Write rows below a heading in columns as wide as they need, each on one line."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    line = "  ".join(
        f"{{:{'>' if number else '<'}{width}}}" for width, number in zip(widths, right, strict=True)
    ).format
    for row in (head, *rows):
        sys.stdout.write(line(*row).rstrip() + "\n")


def show(frame: Frame, form: Form | bool, title: str = "") -> None:
    """Print a frame whole, as a table, as JSON lines or as CSV."""
    if form:
        from regnb.tables import write

        sys.stdout.write(write.csv(frame) if form == "csv" else write.json_lines(frame))
    else:
        table(frame, title, len(frame))


def listing(form: Form, shown: str, **columns: Sequence[str | int]) -> None:
    """Print names, one a line, or every column as JSON lines or CSV: what only lists needs no pandas."""
    rows = list(zip(*columns.values(), strict=True))
    if form == "json":
        for row in rows:
            sys.stdout.write(json.dumps(dict(zip(columns, row, strict=True)), separators=(",", ":")) + "\n")
    elif form == "csv":
        writer = csv_.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([re.sub(FORMULA, r"'\1", str(cell)) for cell in row] for row in rows)
    else:
        for name in columns[shown]:
            sys.stdout.write(printable(str(name)) + "\n")


def section(rows: Frame | Listing, title: str = "", limit: int = 20) -> None:
    """Print a frame as a table with a title and a blank line before it, if it has rows."""
    if len(rows):
        out.print()
        table(rows, title, limit)

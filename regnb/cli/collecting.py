"""``regnb collect`` and ``regnb trash``: what a storage's garbage takes, moved away, put back, or removed for good."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from typer import Argument, Option

from regnb.change.sweep import ALLOWANCES, Row, Sweep
from regnb.cli.alarm import Alarm, Alarms
from regnb.cli.command import command_of
from regnb.cli.help import Group
from regnb.cli.options import PlanOut
from regnb.cli.terminal import INCOMPLETE, INTERRUPTED, OK, Form, Json, draw, leave, out, say, section, show
from regnb.errors import Interrupted, InvalidArgument
from regnb.oci.reference import Digest, is_digest
from regnb.storage import Storage, open_storage, storage_of, unlisted
from regnb.text import count, human, middle

if TYPE_CHECKING:
    from regnb.change.journal import Receipt

_WIDE = 170
"""Columns of a terminal on which a row with a whole digest is on one line."""
_RESTART = "Restart every registry process over this storage: it may remember blobs that are gone."

app = typer.Typer()
trash = typer.Typer(
    cls=Group, help="List, restore or permanently remove what collections moved into the trash of a storage."
)
app.add_typer(trash, name="trash", no_args_is_help=True)

Dir = Annotated[str, Argument(metavar="DIR", help="The folder or bucket that holds docker/registry/v2.")]


Apply = Annotated[bool, Option("--apply", help="Apply the plan at once, without a code: for runs that nobody watches.")]
Endpoints = Annotated[
    list[str] | None,
    Option(metavar="URL", help="A registry process over this storage; it must be read-only or stopped (repeatable)."),
]
Allow = Annotated[
    list[str] | None,
    Option(metavar="CHECK", help=f"Override a safety check (repeatable): {', '.join(ALLOWANCES)}."),
]


def present(storage: Storage, plan: Sweep, plan_out: Path | None, json_: Form | bool, alarm: Alarm) -> None:
    """Print a plan over a storage; write it into a file if asked, else apply it if its code is typed at a terminal.

    A plan in a file is announced.
    """
    if plan_out is not None:
        plan = storage.keep(plan)
    if json_:
        show(plan.to_frame(), json_)
    else:
        show_sweep(plan)
    if plan_out is not None:
        plan.save(plan_out)
        if not plan.changes:
            say(f"There is nothing to apply in {plan_out}.")
        else:
            say(f"To apply it: regnb apply {shlex.quote(str(plan_out))} --confirm {plan.code}")
            waits = f"To read and apply it: regnb apply {shlex.quote(str(plan_out.absolute()))}"
            leave(alarm.send(f"A plan for {plan.url} waits for approval", [plan.summary(), waits]))
    elif not plan.changes or json_:
        return
    elif sys.stdin.isatty() and sys.stdout.isatty():
        check(storage, plan)
        typed = typer.prompt(f"Type {plan.code} to apply, anything else to leave it", default="", show_default=False)
        if typed == plan.code:
            apply(storage, plan, typed)
        say("Nothing was written.")
    else:
        say("Nothing was written. With --plan-out FILE the plan is kept for regnb apply.")


def check(storage: Storage, plan: Sweep) -> None:
    """Ask whether a plan can be applied now, and print what each registry process answered."""
    for one in storage.check(plan):
        out.print(one.sentence, markup=False, soft_wrap=True)


def show_sweep(plan: Sweep, *, whole: bool = True) -> None:
    """Print a plan over a storage: one sentence, what is spared, and the rows; where a receipt has these, only some."""
    out.print(f"[bold]{escape(plan.summary())}[/]")
    for note in plan.notes:
        out.print(f"- {note}", markup=False)
    if plan.effects:
        section(plan.blast, "What is spared or only named", 50)
    _draw_rows(plan.steps, whole=whole and not sys.stdout.isatty())


def _draw_rows(rows: Sequence[Row], limit: int = 20, *, whole: bool) -> None:
    """Print a plan's rows, or the first ones; without a frame, as what makes frames takes long to load.

    On a terminal they have no empty columns; where whole names would leave no room for the reasons, names share a
    column, and digests are short.
    """
    if not rows:
        return
    terminal = sys.stdout.isatty()
    columns: dict[str, Callable[[Row], str]] = {
        "kind": lambda row: row.kind,
        "repository": lambda row: row.repository,
        "tag": lambda row: row.tag,
        "reference": lambda row: row.reference,
        "size": lambda row: human(row.size),
        "youngest": lambda row: row.youngest[:16].replace("T", " "),
        "reason": lambda row: row.reason,
    }
    if terminal and out.width < _WIDE:
        columns["what"] = _short
        columns = {name: columns[name] for name in ("kind", "what", "size", "reason", "youngest")}
    some = rows if whole else rows[:limit]
    cells = {name: list(map(of, some)) for name, of in columns.items()}
    cells = {name: column for name, column in cells.items() if any(column) or not terminal}
    out.print()
    more = count(len(rows) - len(some), "more row") if len(rows) > len(some) else ""
    draw([(name, name == "size") for name in cells], list(zip(*cells.values(), strict=True)), "Rows", more)
    if more and not terminal:
        out.print(f"{more}: the receipt has all.", markup=False)
    out.print()


def _short(row: Row) -> str:
    """Return what a row is in words between which a narrow terminal breaks the line."""
    where = f"{row.repository}:{row.tag}" if row.tag else row.repository
    what = Digest(row.reference).short if is_digest(row.reference) else row.reference
    return f"{where} {middle(what, 19)}" if where else what


def apply(storage: Storage, plan: Sweep, confirm: str) -> NoReturn:
    """Apply a confirmed plan over a storage, print what became of it, and exit with whether every row was done."""
    try:
        receipt = storage.apply(plan, confirm=confirm)
    except Interrupted as error:
        stop(error)
    finish(storage, receipt)


def resume(receipt: Receipt, sweep: Sweep) -> NoReturn:
    """Go on with an application over a storage that was cut short."""
    storage = storage_of(sweep)
    try:
        finished = storage.resume(receipt)
    except Interrupted as error:
        stop(error)
    finish(storage, finished)


def stop(error: Interrupted) -> NoReturn:
    """Say how to go on after an interrupt."""
    say(str(error))
    if error.receipt:
        say(f"To go on: regnb apply --resume {error.receipt}")
    raise typer.Exit(INTERRUPTED) from None


def finish(storage: Storage, receipt: Receipt) -> NoReturn:
    """Print the three figures, what was not done, and which registry processes remember what is gone."""
    rows = len(receipt.applied.steps)
    done = sum(receipt.outcome(number).status == "done" for number in range(rows))
    out.print(f"[bold]Receipt {receipt.name}[/]: {done:,} of {count(rows, 'row')} done.")
    sweep = receipt.sweep
    if (figures := receipt.figures) and sweep:
        out.print(sweep.result(figures.moved, figures.emptied, figures.free))
    if done < rows:
        table = receipt.to_frame()
        section(table[table["status"] != "done"], "Not done")
    if sweep is not None and sweep.operation == "collect":
        where = shlex.quote(sweep.url)
        if not sweep.takes:
            text = f"To remove what is still garbage after a day: regnb trash empty {where} --older-than 1d"
            out.print(text, soft_wrap=True)
            raise typer.Exit(OK if receipt.status == "done" else INCOMPLETE)
        if sweep.options.trash:
            out.print(f"To put it back: regnb trash restore {where} {receipt.name}", soft_wrap=True)
            out.print(f"To remove it for good after a week: regnb trash empty {where} --older-than 7d", soft_wrap=True)
        _ask_caches(storage, receipt)
    elif sweep is not None and sweep.takes:
        # What a collection only listed is removed by this: its receipt names runs, and no links to ask for.
        out.print(_RESTART)
    raise typer.Exit(OK if receipt.status == "done" else INCOMPLETE)


def _ask_caches(storage: Storage, receipt: Receipt) -> None:
    """Print which registry processes remember blobs that are gone; of those that were not named nothing is known."""
    known = storage.remembered(receipt)
    for one in known:
        out.print(one.sentence, markup=False, soft_wrap=True)
    if not known:
        out.print(_RESTART)


@command_of(app)
def collect(
    storage: Dir,
    alarm: Alarms,
    endpoint: Endpoints = None,
    untagged: Annotated[bool, Option("--untagged", help="Also collect untagged manifests.")] = False,
    uploads_older_than: Annotated[
        str, Option(metavar="AGE", help="Minimum age of abandoned uploads, such as 7d.")
    ] = "7d",
    grace: Annotated[str, Option(metavar="AGE", help="Minimum age of everything else, such as 24h.")] = "24h",
    repositories: Annotated[
        list[str] | None,
        Option("--repository", "-r", metavar="GLOB", help="Collect in these repositories (repeatable)."),
    ] = None,
    tag_history: Annotated[
        int | None, Option(metavar="N", help="Keep this many old entries of each tag's history. Default: all.")
    ] = None,
    trash: Annotated[bool, Option(help="Move into a trash first; --no-trash removes at once.")] = True,
    copies: Annotated[
        bool, Option("--copies", help="In a bucket without versions, copy into a trash now; do not list for later.")
    ] = False,
    free: Annotated[
        str,
        Option(metavar="SIZE", help="Refuse a plan that frees less, such as 50GB; the hint says what to delete."),
    ] = "",
    allow: Allow = None,
    apply_: Apply = False,
    plan_out: PlanOut = None,
    json_: Json = "",
) -> None:
    """Plan to move the unused data of a storage into its trash, and apply the plan once its code is typed.

    Exit code 0: planned, or every row done, 1: error, 4: some rows were not done.
    """

    def make(here: Storage) -> Sweep:
        return here.plan_collect(
            untagged=untagged,
            uploads_older_than=uploads_older_than,
            grace=grace,
            repositories=repositories or (),
            tag_history=tag_history,
            trash=trash,
            copies=copies,
            free=free,
            endpoints=endpoint or (),
            allow=allow or (),
        )

    _plan(storage, make, alarm, plan_out, json_, at_once=apply_)


def _plan(
    where: str,
    make: Callable[[Storage], Sweep],
    alarm: Alarms,
    plan_out: Path | None,
    json_: Form | bool,
    *,
    at_once: bool,
) -> None:
    """Make a plan over a storage, and present it; or apply it at once, under the lock that it is made under."""
    if at_once and (plan_out is not None or json_):
        raise InvalidArgument(
            "--apply keeps no plan, and prints no rows for programs",
            hint="leave out --plan-out, --json and --csv; the receipt has all rows",
        )
    announcer = alarm()
    if not at_once:
        here = open_storage(where)
        present(here, make(here), plan_out, json_, announcer)
        return
    here = unlisted(where)
    with here.held():
        plan = make(here)
        show_sweep(plan, whole=False)
        if plan.changes:
            apply(here, plan, plan.digest)


@command_of(trash, "list")
def trash_list(storage: Dir, json_: Json = "") -> None:
    """List what collections moved into the trash of a storage."""
    show(open_storage(storage).trash(), json_)


@command_of(trash, "restore")
def trash_restore(
    storage: Dir,
    alarm: Alarms,
    run: Annotated[str, Argument(help="The name of the collection's receipt, as regnb trash list prints it.")],
    plan_out: PlanOut = None,
    json_: Json = "",
) -> None:
    """Plan to put back what a collection moved, with owner and mode, and apply the plan once its code is typed."""
    announcer = alarm()
    here = open_storage(storage)
    present(here, here.plan_restore(run), plan_out, json_, announcer)


@command_of(trash, "empty")
def trash_empty(
    storage: Dir,
    alarm: Alarms,
    older_than: Annotated[
        str, Option(metavar="AGE", help="Remove only what was moved at least this long ago, such as 7d.")
    ] = "7d",
    endpoint: Endpoints = None,
    allow: Allow = None,
    apply_: Apply = False,
    plan_out: PlanOut = None,
    json_: Json = "",
) -> None:
    """Plan to permanently remove what is in the trash, and apply the plan once its code is typed.

    In a bucket without versions it removes what was listed longer ago than --older-than and is still garbage.

    Exit code 0: planned, or every row done, 1: error, 4: some rows were not done.
    """

    def make(here: Storage) -> Sweep:
        return here.plan_empty(older_than=older_than, endpoints=endpoint or (), allow=allow or ())

    _plan(storage, make, alarm, plan_out, json_, at_once=apply_)

"""A plan on a terminal: shown, kept, confirmed, applied."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from typer import Option

from regnb.change.journal import Receipt
from regnb.change.plan import Plan
from regnb.cli.options import PlanOut
from regnb.cli.terminal import (
    ERROR,
    INCOMPLETE,
    OK,
    out,
    say,
    section,
    show,
)
from regnb.errors import TooLarge
from regnb.text import count

if TYPE_CHECKING:
    from regnb.registry import Registry
    from regnb.storage import Storage
    from regnb.wire.exchange import Answer


def keep_plan(plan: Plan, path: Path) -> None:
    """Write a plan into a file, and say how it is applied."""
    plan.save(path)
    say(f"To apply it: regnb apply {shlex.quote(str(path))} --confirm {plan.code}")


def present(
    registry: Registry,
    plan: Plan | Answer,
    source: Registry | None = None,
    include: bool = False,
    storage: Storage | None = None,
    *,
    plan_out: PlanOut = None,
    curl: Annotated[bool, Option("--curl", help="Print the same as curl commands, and write nothing.")] = False,
    json_: Annotated[bool, Option("--json", help="Print the rows as JSON lines, and write nothing.")] = False,
) -> None:
    """Print a plan; write it into a file if that was asked for, else apply it if its code is typed at a terminal.

    Of a request that only reads there is an answer instead, printed with its headers if they are to be included.
    """
    if not isinstance(plan, Plan):
        show_answer(plan, include=include, curl=curl, json_=json_)
    if json_:
        show(plan.to_frame(), json_)
    elif curl:
        typer.echo(script(plan))
    else:
        show_plan(plan)
    if plan_out is not None:
        keep_plan(plan, plan_out)
    elif not plan.changes or json_ or curl:
        return
    elif sys.stdin.isatty() and sys.stdout.isatty():
        typed = typer.prompt(f"Type {plan.code} to apply, anything else to leave it", default="", show_default=False)
        if typed == plan.code:
            finish(registry.apply(plan, confirm=typed, source=source, storage=storage))
        say("Nothing was written.")
    else:
        say("Nothing was written. With --plan-out FILE the plan is kept for regnb apply.")


def show_answer(answer: Answer, *, include: bool, curl: bool, json_: bool) -> NoReturn:
    """Print an answer, to a pipe byte for byte, and exit with whether it is one of success."""
    if curl or json_:
        typer.echo(answer.curl if curl else answer.to_json())
    elif sys.stdout.isatty():
        head = answer.head if include or answer.exchange.method == "HEAD" else ""
        typer.echo("\n\n".join(filter(None, [head, answer.text])))
    elif answer.whole:
        from regnb.wire.exchange import view  # what reads files loads no HTTP

        sys.stdout.buffer.write(view(answer, include=include))
    else:
        raise TooLarge(f"the answer was not read whole: {answer.summary}", hint=f"with curl: {answer.curl}")
    if answer.problem:
        say(f"{answer.problem}\nHint: {answer.hint}" if answer.hint else answer.problem)
    raise typer.Exit(ERROR if answer.problem else OK)


def show_plan(plan: Plan) -> None:
    """Print a plan: what it does in a sentence, what else it touches, and its rows, those that keep something last."""
    out.print(f"[bold]{escape(plan.summary())}[/]")
    for note in plan.notes:
        out.print(f"- {note}", markup=False)
    section(plan.blast, "What else this touches", 50)
    rows = plan.to_frame().drop(columns="curl")
    section(rows.sort_values("action", key=lambda action: action == "keep", kind="stable"), "Rows")
    out.print()


def script(plan: Plan) -> str:
    """Return the rows as shell commands that end at the first one that fails, as later rows rest on earlier ones."""
    return " &&\n".join(
        f"{{ # {step.action} {step.repository} {step.target}\n{plan.curl(number)}\n}}"
        for number, step in enumerate(plan.steps)
        if step.writes
    )


def finish(receipt: Receipt) -> NoReturn:
    """Print what became of a plan, and exit with a code that says whether every row was done."""
    rows = receipt.to_frame()
    rest = rows[rows["status"] != "done"]
    out.print(f"[bold]Receipt {receipt.name}[/]: {len(rows) - len(rest):,} of {receipt.plan.changes:,} rows done.")
    section(rest, "Not done")
    section(rows[(rows["status"] == "done") & (rows["message"] != "")], "Done, with a remark")
    if unknown := int((rows["status"] == "unknown").sum()):
        out.print(
            f"{count(unknown, 'row')} {'is' if unknown == 1 else 'are'} unknown: the registry could not be read after "
            f"the write. To look again and go on: regnb apply --resume {receipt.name}"
        )
    if rows["status"].isin(["done", "failed", "unknown"]).any():
        out.print(f"To take it back, until the registry's next garbage collection: regnb undo {receipt.name}")
    raise typer.Exit(OK if receipt.status == "done" else INCOMPLETE)

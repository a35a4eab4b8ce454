"""A plan on a terminal: shown, kept, confirmed, applied."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from typer import Option

from regnb.cli.alarm import Alarm, Link, Webhook
from regnb.cli.options import PlanOut, Probe
from regnb.cli.terminal import (
    ERROR,
    INCOMPLETE,
    OK,
    Reason,
    cut,
    leave,
    out,
    say,
    section,
    show,
)
from regnb.errors import InvalidArgument, TooLarge
from regnb.text import count

if TYPE_CHECKING:
    from regnb.change.journal import Receipt
    from regnb.change.plan import Plan
    from regnb.change.sweep import Sweep
    from regnb.registry import Registry
    from regnb.storage import Storage
    from regnb.wire.exchange import Answer


def keep_plan(plan: Plan, path: Path, alarm: Alarm, storage: Storage | None = None) -> list[Reason]:
    """Write a plan into a file, say how it is applied, and announce it; return a reason if nobody took the message."""
    plan.save(path)
    with_storage = f" --storage {shlex.quote(storage.url)}" if storage else ""
    if not plan.changes:
        say(f"There is nothing to apply in {path}.")
    elif not plan.ready:
        say(f"The plan is in {path}, but {plan.host} would refuse it.")
    else:
        say(f"To apply it: regnb apply {shlex.quote(str(path))} --confirm {plan.code}{with_storage}")
    if not plan.changes:
        return []
    return alarm.send(f"A plan for {plan.host} waits for approval", waiting(plan, path, with_storage))


def present(
    registry: Registry,
    plan: Plan | Answer,
    source: Registry | None = None,
    include: bool = False,
    storage: Storage | None = None,
    *,
    plan_out: PlanOut = None,
    probe: Probe = False,
    curl: Annotated[bool, Option("--curl", help="Print the plan as curl commands, and write nothing.")] = False,
    json_: Annotated[bool, Option("--json", help="Print the plan's rows as JSON lines, and write nothing.")] = False,
    webhook: Webhook = "",
    link: Link = "",
) -> None:
    """Print a plan; write it into a file if that was asked for, else apply it if its code is typed at a terminal.

    Of a request that only reads there is an answer instead, printed with its headers if they are to be included.
    """
    from regnb.change.plan import Plan  # what makes no plan loads nothing of it

    alarm = Alarm(webhook, link)
    if not isinstance(plan, Plan):
        show_answer(plan, include=include, curl=curl, json_=json_)
    if probe:
        plan = registry.check(plan)
    if json_:
        show(plan.to_frame(), json_)
    elif curl:
        if plan.changes and not any(map(plan.curl, range(len(plan.steps)))):
            raise InvalidArgument("no curl command reads or writes a layout", hint="leave out --curl")
        typer.echo(script(plan))
    else:
        show_plan(plan)
    if plan_out is not None:
        leave(keep_plan(plan, plan_out, alarm, storage))
    elif not plan.ready or json_ or curl:
        return
    elif at_terminal():
        if typed := ask_code(plan):
            finish(registry.apply(plan, confirm=typed, source=source, storage=storage))
        say("Nothing was written.")
    else:
        say("Nothing was written. With --plan-out FILE the plan is kept for regnb apply.")


def at_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask_code(plan: Plan | Sweep) -> str:
    """Ask for a plan's code; return what was typed if it is the code, else ""."""
    asked = f"Type {plan.code} to change {plan.host}, anything else to leave it"
    typed = str(typer.prompt(asked, default="", show_default=False))
    return typed if typed == plan.code else ""


def waiting(plan: Plan, path: Path, options: str = "") -> list[str]:
    """Return what a message says of a plan that waits in a file; not its code, which only a reader of the plan gets."""
    refused = [f"Refused: {one.message}" for one in plan.refusals if one.known]
    return [plan.summary(), *refused, f"To read and apply it: regnb apply {shlex.quote(str(path.absolute()))}{options}"]


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
    """Print a plan: one sentence, what the registry will refuse, what is touched, and in a line each what stays."""
    from regnb.change.preview import kept, stays, touched  # pandas waits for a frame

    _line(f"[bold]{escape(plan.summary())}[/]")
    for one in plan.refusals:
        _line(f"[bold]{'Refused: ' if one.known else ''}{escape(one.message)}[/]")
        _line(f"Hint: {escape(one.hint)}" if one.hint else "")
    effects = plan.blast
    section(effects[effects["effect"] != "shared"], "What else this touches", 50)
    rows = plan.to_frame()
    section(touched(rows), "Rows")
    if not plan.changes:
        section(kept(rows), "What stays, and why", 20)
    out.print()
    for line in stays(plan):
        _line(f"- {line}.")
    for note in plan.notes:
        _line(f"- {escape(note)}")
    out.print()


def _line(text: str) -> None:
    """Print a line of prose, folded between words where there is a terminal and whole where there is none."""
    if text:
        out.print(cut(text), soft_wrap=not out.is_terminal)


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
    out.print(
        f"[bold]Receipt {receipt.name}[/]: {len(rows) - len(rest):,} of {count(receipt.plan.changes, 'row')} done."
    )
    section(rest, "Not done")
    section(rows[(rows["status"] == "done") & (rows["message"] != "")], "Done, with a remark")
    if unknown := int((rows["status"] == "unknown").sum()):
        out.print(
            f"{count(unknown, 'row')} {'is' if unknown == 1 else 'are'} unknown: the registry could not be read after "
            f"the write. To look again and go on: regnb apply --resume {receipt.name}",
            soft_wrap=True,
        )
    elif rows["status"].isin(["failed", "skipped"]).any():
        out.print(
            f"To retry the rows that were not done, once the cause is removed: regnb apply --resume {receipt.name}",
            soft_wrap=True,
        )
    if rows["status"].isin(["done", "failed", "unknown"]).any() and not receipt.plan.final:
        plan = receipt.plan
        end = f"{plan.collector} removes it" if plan.collector else "the registry's next garbage collection"
        until = f", until {end}" if plan.collected else ""
        out.print(f"To take it back{until}: regnb undo {receipt.name}", soft_wrap=True)
    raise typer.Exit(OK if receipt.status == "done" else INCOMPLETE)

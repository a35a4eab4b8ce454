"""``regnb receipt``: what was changed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from typer import Argument

from regnb.change.journal import Receipt, receipts
from regnb.cli.terminal import (
    ERROR,
    OK,
    Json,
    err,
    out,
    show,
)
from regnb.errors import BrokenReceipt

app = typer.Typer(help="Receipts: what was changed, when, and by whom.", no_args_is_help=True)


@app.command("list")
def receipt_list(json_: Json = False) -> None:
    """List the receipts."""
    show(receipts(), json_)


@app.command("show")
def receipt_show(name: Annotated[str, Argument(help="A receipt's name, or its file.")], json_: Json = False) -> None:
    """Print what became of every row of a plan."""
    receipt = Receipt.load(name)
    if not json_:
        out.print(f"[bold]{escape(receipt.plan.summary())}[/]")
        out.print(f"{receipt.status}, by {escape(receipt.who)}, confirmed as {receipt.plan.code}\n")
    show(receipt.to_frame(), json_)


@app.command("verify")
def receipt_verify(
    names: Annotated[list[str] | None, Argument(help="Names or files; by default every receipt.")] = None,
) -> None:
    """Check that the lines of receipts follow from each other, and print the hash of the last. Exit code 1: no."""
    broken = False
    for name in names or receipts()["receipt"]:
        try:
            receipt = Receipt.load(name)
        except BrokenReceipt as error:
            broken = True
            err.print(f"[red]{escape(name)}[/]: {escape(str(error))}", soft_wrap=True)
        else:
            typer.echo(f"{receipt.name}: {receipt.status}, {receipt.chain}")
    raise typer.Exit(ERROR if broken else OK)

"""``regnb receipt``: what was changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import typer
from rich.markup import escape
from typer import Argument

from regnb.change.journal import Receipt, receipts
from regnb.cli.command import command_of
from regnb.cli.help import Group
from regnb.cli.terminal import (
    ERROR,
    OK,
    Json,
    listing,
    out,
    report_error,
    show,
)
from regnb.errors import BrokenReceipt, Proof, StorageError, UnprovenReceipt

_UNPROVEN: Final[Mapping[Proof | Literal[""], int]] = {"no key": 11, "other key": 12, "mixed": 13, "unsigned": 14}
"""Exit codes of a verification, by what the signatures of a receipt say."""

app = typer.Typer(
    cls=Group, help="List, print and verify receipts: what was changed, when, and by whom.", no_args_is_help=True
)


@command_of(app, "list")
def receipt_list(json_: Json = "") -> None:
    """List the receipts."""
    show(receipts(), json_)


@command_of(app, "show")
def receipt_show(
    name: Annotated[str, Argument(metavar="RECEIPT", help="A receipt's name, or its file.")], json_: Json = ""
) -> None:
    """Print a receipt: the result of each row of its plan."""
    receipt = Receipt.load(name)
    if not json_:
        out.print(f"[bold]{escape(receipt.applied.summary())}[/]")
        out.print(f"{receipt.status}, by {escape(receipt.who)}, confirmed as {receipt.applied.code}")
        if (figures := receipt.figures) and receipt.sweep:
            out.print(receipt.sweep.result(figures.moved, figures.emptied, figures.free))
        out.print()
    show(receipt.to_frame(), json_)


@command_of(app, "verify")
def receipt_verify(
    names: Annotated[
        list[str] | None, Argument(metavar="RECEIPT", help="Names or files; by default every receipt.")
    ] = None,
    json_: Json = "",
) -> None:
    """Check the hash chain of receipts, and print the hash of the last line.

    With REGNB_RECEIPTS_KEY also check that this key signed each line. Exit code 0: all are valid; 1: a receipt was
    changed or cannot be read; 11: a receipt is signed, and no key is set; 12: another key signed a receipt; 13: a
    receipt has unsigned lines, or lines signed with different keys; 14: a key is set, and a receipt is not signed.
    If several apply, it is the lowest of them.
    """
    codes, found = {OK}, []
    for name in names or receipts()["receipt"]:
        try:
            receipt = Receipt.load(name)
            receipt.prove()
        except (BrokenReceipt, StorageError, UnprovenReceipt) as error:
            code = _UNPROVEN[error.proof] if isinstance(error, UnprovenReceipt) else ERROR
            codes.add(code)
            report_error(error.saying(f"{name}: {error.message}", hint=error.hint), code)
        else:
            found.append((receipt.name, receipt.status, receipt.chain, receipt.proof))
            if not json_:
                typer.echo("{}: {}, {}, {}".format(*found[-1]))
    if json_:
        columns = list(zip(*found, strict=True)) or [()] * 4
        listing(json_, "receipt", **dict(zip(("receipt", "status", "chain", "proof"), columns, strict=True)))
    raise typer.Exit(min(codes - {OK}, default=OK))

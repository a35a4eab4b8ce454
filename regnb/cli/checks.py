"""The options of commands that make a plan which is checked first: beside the others, as they load what plans load."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from regnb.change.options import OPTIONS
from regnb.change.plan import CHOICES
from regnb.cluster.running import COMMAND

InUse = Annotated[
    str | None,
    Option(
        metavar="cluster|FILE",
        help=f"{OPTIONS['in_use']} The command: {COMMAND}.",
    ),
]
InUseHost = Annotated[
    list[str] | None,
    Option(metavar="HOST", help=OPTIONS["in_use_host"]),
]
Allow = Annotated[
    list[str] | None,
    Option(metavar="CHECK", help=f"Override a safety check in this plan (repeatable): {', '.join(CHOICES)}."),
]

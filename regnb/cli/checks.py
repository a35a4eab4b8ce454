"""The options of commands that make a plan which is checked first: beside the others, as they load what plans load."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from regnb.change.plan import CHOICES
from regnb.cluster.running import COMMAND

InUse = Annotated[
    str | None,
    Option(
        metavar="cluster|FILE",
        help="Keep running images: cluster for the current kubectl context, or a file (- for standard input) with the "
        f"output of {COMMAND}, or with an image reference on each line.",
    ),
]
InUseHost = Annotated[
    list[str] | None,
    Option(metavar="HOST", help="Another host name of this registry in the cluster's images (repeatable)."),
]
Allow = Annotated[
    list[str] | None,
    Option(metavar="CHECK", help=f"Override a safety check in this plan (repeatable): {', '.join(CHOICES)}."),
]

"""The options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from regnb.change.plan import CHOICES
from regnb.cluster.running import COMMAND

Url = Annotated[str, Argument(help="http://host:port or https://host", envvar="REGNB_URL", show_envvar=True)]
Where = Annotated[
    str,
    Argument(
        metavar="URL|DIR",
        help="A registry, http://host:port; its storage, a folder or a URL such as s3://bucket/folder; or a snapshot.",
        envvar="REGNB_URL",
        show_envvar=True,
    ),
]
Repositories = Annotated[
    list[str] | None,
    Option(
        "--repository",
        "-r",
        metavar="NAME|GLOB|@FILE|-",
        help="Read only these repositories (repeatable): a name, a glob in quotes, @FILE with one on each line, or - "
        "for standard input. Names alone need no catalog.",
    ),
]
Ref = Annotated[str, Argument(help="repository:tag or repository@digest")]
What = Annotated[
    list[str], Argument(metavar="REFERENCE", help="repository:tag, repository@digest, or a glob in quotes.")
]
PlanOut = Annotated[Path | None, Option(help="Write the plan into this file, for regnb apply.", dir_okay=False)]
Children = Annotated[bool, Option(help="Whether an index takes along what nothing else needs.")]
Blobs = Annotated[bool, Option("--blobs", help="List the blobs that would go, largest first.")]
Referrers = Annotated[bool, Option(help="Whether signatures, SBOMs and other referrers come along.")]
Pulls = Annotated[
    Path | None,
    Option(
        "--pulls",
        metavar="FILE",
        help="The history that regnb pulls or regnb listen wrote: when each tag was last pulled.",
        dir_okay=False,
    ),
]
InUse = Annotated[
    str | None,
    Option(
        help="Keep running images: cluster for the current kubectl context, or a file (- for standard input) with the "
        f"output of {COMMAND}, or with an image reference on each line."
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

"""Commands that record what is pulled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from typer import Argument, Option

from regnb.analysis.pulls import record
from regnb.cli.command import command_of
from regnb.cli.terminal import INCOMPLETE, leave, out, say
from regnb.crawl.access import log_lines, read_log
from regnb.environment import variable
from regnb.text import count

app = typer.Typer()

_HISTORY: Final = "pulls.parquet"
History = Annotated[
    Path,
    Option(
        "--history",
        help="Record pulls in this Parquet file; it is created if missing.",
        dir_okay=False,
        envvar="REGNB_PULLS",
        show_envvar=True,
    ),
]


@command_of(app)
def pulls(
    logs: Annotated[
        list[str],
        Argument(metavar="ACCESS.LOG", help="Logs, in any order; .gz too; - for standard input."),
    ],
    history: History = Path(_HISTORY),
) -> None:
    """Read access logs of nginx or docker-registry, and record when each image was last pulled.

    Exit code 0: recorded, 1: error, 4: a log has no line in a known format.
    """
    unknown = []
    for path in logs:
        found = read_log(log_lines(path))
        if not found.lines:
            say(f"{path} is empty")  # as after a rotation
            continue
        if found.period is None:
            unknown.append((INCOMPLETE, f"No line of {path} is in a known format, or its lines are not in order."))
            continue
        since, until = found.period
        kept = record(history, found)
        out.print(
            f"{escape(path)}: {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}, last pulls of "
            f"{_named(len(found.last))}; "
            f"{found.lines - found.known:,} of {found.lines:,} lines are not in a known format",
            soft_wrap=True,
        )
        say(f"{history} has the last pulls of {_named(len(kept.last))}")
    leave(unknown)


@command_of(app)
def listen(
    history: History = Path(_HISTORY),
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on; 0 for a free one.", min=0, max=65535)] = 8001,
) -> None:
    """Receive the notifications that docker-registry sends, and record each pull, until Ctrl-C.

    If REGNB_LISTEN_TOKEN is set, the registry must send that token. An address that others can reach requires one.
    """
    from regnb.local import listener  # a server

    def ready(url: str) -> None:
        say(f"Listening for notifications at {url} (Ctrl-C ends it)")

    token = variable(listener.TOKEN)
    received = listener.listen(history, host=host, port=port, token=token, ready=ready)
    say(f"Received {count(received, 'event')}")


def _named(number: int) -> str:
    return "1 tag or digest" if number == 1 else f"{number:,} tags and digests"

"""Commands that look into the layers of images: ``regnb files`` and ``regnb cat``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from regnb.cli.command import command_of
from regnb.cli.options import Ref
from regnb.cli.terminal import INCOMPLETE, Json, leave, say, show
from regnb.registry import Registry
from regnb.text import count, human

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

app = typer.Typer()
command = command_of(app)

_SHOWN = ["path", "size", "hidden", "compressed", "kind", "position", "command"]
"""What a terminal has room for; --json has every column."""

Platform = Annotated[
    str | None,
    Option(help="Of several images this one, such as linux/arm64 (default: linux/amd64), or all.", show_default=False),
]


@command
def files(
    registry: Registry,
    reference: Ref,
    top: Annotated[int, Option(help="How many entries to print, the largest first; 0 for all, in their order.")] = 30,
    path: Annotated[str, Option(metavar="GLOB", help="Only these paths, such as 'usr/lib/*'.")] = "",
    platform: Platform = None,
    json_: Json = False,
) -> None:
    """List the files of an image over its layers, their sizes, and the bytes that later layers hide.

    Exit code 4: a layer could not be read.
    """
    from regnb.layers.files import UNREAD, matching

    found = registry.files(reference, platform=platform)
    unread = found[found["kind"] == UNREAD]
    rows = matching(found, path) if path else found
    say(_summary(rows))
    if top:
        rows = rows.sort_values("size", ascending=False, kind="stable", ignore_index=True).head(top)
    show(rows if json_ else rows[_SHOWN], json_)
    leave(
        (INCOMPLETE, f"Layer {layer} was {message}")
        for layer, message in zip(unread["layer"], unread["message"], strict=True)
    )


def _summary(rows: Frame) -> str:
    """Return what there is, in a sentence."""
    contents = rows[rows["kind"] == "file"]
    size, hidden = int(contents["stored"].sum()), int(contents["hidden"].sum())
    layers = len(rows[["platform", "position"]].drop_duplicates())
    return (
        f"{count(len(contents), 'file')} in {count(layers, 'layer')}: {human(size)}, "
        f"of which later layers hide {human(hidden)}."
    )


@command
def cat(
    registry: Registry,
    reference: Ref,
    path: Annotated[str, Argument(help="Of the file in the image, such as /etc/os-release.")],
    platform: Platform = None,
) -> None:
    """Print the file that an image shows at a path, byte for byte; symbolic links are followed."""
    registry.open(reference, path, platform=platform, into=sys.stdout.buffer)

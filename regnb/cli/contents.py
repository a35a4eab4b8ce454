"""Commands that look into the layers of images: files, cat, packages and hygiene."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from regnb.cli.command import command_of
from regnb.cli.options import Ref
from regnb.cli.terminal import DRIFT, INCOMPLETE, OVER, Json, leave, say, show
from regnb.registry import Registry
from regnb.text import count, human

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

app = typer.Typer()
command = command_of(app)

_SHOWN = ["path", "size", "hidden", "compressed", "kind", "position", "command"]
"""What a terminal has room for; --json has every column."""

_COMPARED = ["path", "state", "first_size", "second_size"]

Platform = Annotated[
    str | None,
    Option(help="Of several images this one, such as linux/arm64 (default: linux/amd64), or all.", show_default=False),
]


@command
def files(
    registry: Registry,
    reference: Ref,
    other: Annotated[str, Argument(help="Another image of the registry, to compare with file by file.")] = "",
    top: Annotated[int, Option(help="How many entries to print, the largest first; 0 for all, in their order.")] = 30,
    path: Annotated[str, Option(metavar="GLOB", help="Only these paths, such as 'usr/lib/*'.")] = "",
    platform: Platform = None,
    json_: Json = "",
) -> None:
    """List the files of an image over its layers, their sizes, and the bytes that later layers hide.

    Exit code 3: the other image differs. 4: a layer could not be read.
    """
    from regnb.layers.comparing import compare_files
    from regnb.layers.files import UNREAD, matching

    found = [registry.files(each, platform=platform) for each in filter(None, (reference, other))]
    unread = [message for each in found for message in each.loc[each["kind"] == UNREAD, "message"]]
    rows = compare_files(*found) if other else found[0]
    rows = matching(rows, path) if path else rows
    differing = len(rows)
    if not other and not json_:
        say(_summary(rows))
    if top and not other:
        rows = rows.sort_values("size", ascending=False, kind="stable", ignore_index=True)
    rows = rows.head(top) if top else rows
    show(rows if json_ else rows[_COMPARED if other else _SHOWN], json_)
    if other and differing and not unread:
        leave([(DRIFT, f"The images differ in {count(differing, 'path')}.")])
    _leave(unread)


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


@command
def packages(registry: Registry, reference: Ref, platform: Platform = None, json_: Json = "") -> None:
    """List the packages that an image holds.

    Exit code 4: a layer, or what a package manager left, could not be read.
    """
    found = registry.packages(reference, platform=platform)
    show(found if json_ else found[["kind", "name", "version", "architecture", "path", "message"]], json_)
    _leave(found.loc[found["message"].str.startswith("not read"), "message"])


@command
def hygiene(registry: Registry, reference: Ref, platform: Platform = None, json_: Json = "") -> None:
    """Tell what should not be in an image: secrets, root, caches, build tools; and how to mend it.

    Exit code 2: something was found. 4: a layer could not be read, and nothing was found.
    """
    found = registry.hygiene(reference, platform=platform)
    show(found if json_ else found[["rule", "where", "size", "found", "mend"]], json_)
    unread = found["rule"] == "unread"
    if not unread.all():
        leave([(OVER, f"{count(int((~unread).sum()), 'finding')}.")])
    _leave(found.loc[unread, "found"])


def _leave(messages: Iterable[str]) -> None:
    """Say what could not be read, each reason once, and exit accordingly."""
    leave((INCOMPLETE, f"A part of the image was {message}.") for message in dict.fromkeys(messages))

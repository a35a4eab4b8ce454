"""Commands about what is inside images: files, cat, packages, sboms, hygiene, bases, waste and scans."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from regnb.cli.command import Connected, command_of
from regnb.cli.options import Ref, Repositories, Where
from regnb.cli.terminal import DRIFT, INCOMPLETE, OVER, Json, leave, say, show
from regnb.cluster.running import COMMAND
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
    Option(
        help="Choose one image of a multi-platform image, such as linux/arm64, or all. Default: linux/amd64.",
        show_default=False,
    ),
]


@command
def files(
    registry: Registry,
    reference: Ref,
    other: Annotated[str, Argument(help="Another image of the registry, to compare with file by file.")] = "",
    top: Annotated[
        int, Option(help="Print this many entries, largest first; 0 prints all, in the order of the image.")
    ] = 30,
    path: Annotated[str, Option(metavar="GLOB", help="Only these paths, such as 'usr/lib/*'.")] = "",
    platform: Platform = None,
    json_: Json = "",
) -> None:
    """List the files of an image over its layers, their sizes, and the bytes that later layers hide.

    Exit code 0: done, 3: the other image differs, 4: a layer could not be read.
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
    path: Annotated[str, Argument(help="Path of the file in the image, such as /etc/os-release.")],
    platform: Platform = None,
) -> None:
    """Print the file that an image shows at a path, byte for byte; symbolic links are followed."""
    registry.open(reference, path, platform=platform, into=sys.stdout.buffer)


@command
def packages(registry: Registry, reference: Ref, platform: Platform = None, json_: Json = "") -> None:
    """List the packages that an image holds.

    Exit code 4: a layer or the database of a package manager could not be read.
    """
    found = registry.packages(reference, platform=platform)
    show(found if json_ else found[["kind", "name", "version", "architecture", "path", "message"]], json_)
    _leave(found.loc[found["message"].str.startswith("not read"), "message"])


@command
def hygiene(registry: Registry, reference: Ref, platform: Platform = None, json_: Json = "") -> None:
    """Find what an image should not contain (secrets, root, caches, build tools), with a remedy for each.

    Exit code 2: something was found. 4: a layer could not be read, and nothing was found.
    """
    found = registry.hygiene(reference, platform=platform)
    show(found if json_ else found[["rule", "where", "found", "mend", "size"]], json_)
    unread = found["rule"] == "unread"
    if not unread.all():
        leave([(OVER, f"{count(int((~unread).sum()), 'finding')}.")])
    _leave(found.loc[unread, "found"])


@command
def sboms(registry: Registry, reference: Ref, platform: Platform = None, json_: Json = "") -> None:
    """List the packages in the SBOMs attached to an image (SPDX or CycloneDX). Signatures are not checked.

    Exit code 4: a document could not be read.
    """
    found = registry.sboms(reference, platform=platform)
    show(found if json_ else found[["platform", "form", "kind", "name", "version", "message"]], json_)
    if found.empty:
        say("No SBOM hangs on this image.")
    _leave(found.loc[found["message"] != "", "message"])


@command
def bases(
    connected: Connected,
    url: Where,
    known: Annotated[
        list[str] | None,
        Option(
            metavar="IMAGE", help="An image of another registry that may be a base, such as debian:12 (repeatable)."
        ),
    ] = None,
    earlier: Annotated[
        list[str] | None, Option(metavar="SNAPSHOT", help="An earlier snapshot, which lists older bases (repeatable).")
    ] = None,
    repositories: Repositories = None,
    json_: Json = "",
) -> None:
    """Show which base each image is built on, and how many releases that base is behind.

    Exit code 0: done, 2: some base has a newer release, 4: something could not be read.
    """
    from regnb.analysis.bases import stale
    from regnb.analysis.naming import names_of
    from regnb.source import known_bases, read
    from regnb.tables.frame import Frame

    inventory = read(url, repositories, connect=connected)
    # Only the registry at URL is shown its credentials.
    found = inventory.find_bases(known_bases(known) if known else None, [read(one) for one in earlier or ()])
    if json_:
        show(found, json_)
    else:
        tags = names_of(inventory.tags, inventory.children).drop_duplicates(["repository", "digest"])
        show(Frame(found.merge(tags, how="left", on=["repository", "digest"]))[_BASES], json_)
    sentences = stale(found)
    if not json_:
        for sentence in sentences:
            say(sentence)
    reasons = [(OVER, f"{count(int((found['behind'].fillna(0) > 0).sum()), 'image')} on a base with a newer release.")]
    leave([*(reasons if sentences else []), *([] if inventory.complete else [(INCOMPLETE, inventory.brief.verdict)])])


_BASES = ["repository", "tag", "base", "behind", "platform", "digest", "base_size", "siblings", "how", "told_by"]
"""What a terminal has room for."""


@command
def waste(
    registry: Registry,
    what: Annotated[
        list[str] | None, Argument(help="Tags: repository:tag, or globs such as 'vm/*'. Default: all.")
    ] = None,
    depth: Annotated[int, Option(help="Group files by this many parts of their paths.", min=0)] = 2,
    at_most: Annotated[str, Option(metavar="SIZE", help="Read at most this much of each image, such as 2GB.")] = "",
    repositories: Repositories = None,
    json_: Json = "",
) -> None:
    """Show the bytes that later layers hide and the bytes that several layers repeat, over many images.

    Exit code 4: a layer could not be read.
    """
    inventory = registry.inventory(repositories)
    found = inventory.waste(registry, what or None, depth=depth, at_most=at_most)
    unread = found["message"] != ""
    if not json_:
        hidden, repeated, saved = (human(int(found[name].sum())) for name in ("hidden", "repeated", "saved"))
        say(f"Later layers hide {hidden}, and several layers repeat {repeated}: compressed, about {saved} together.")
    show(found if json_ else found[~unread], json_)
    _leave(text.partition(": ")[2] for text in found.loc[unread, "message"])


@command
def scans(
    connected: Connected,
    url: Where,
    reports: Annotated[
        list[Path],
        Argument(help="Files, or folders of files, with the output of trivy image --format json or grype -o json."),
    ],
    in_use: Annotated[
        str | None,
        Option(
            metavar="cluster|FILE",
            help="Mark the images that a cluster runs: cluster for the current kubectl context, or a file (- for "
            "standard input) with the output of kubectl, or with an image reference on each line. "
            f"The command: {COMMAND}.",
        ),
    ] = None,
    repositories: Repositories = None,
    json_: Json = "",
) -> None:
    """Join reports of trivy and grype with the images, and with the images that a cluster runs.

    Exit code 0: done, 2: an image has critical vulnerabilities, 4: something could not be read.
    """
    from regnb.source import read

    inventory = read(url, repositories, connect=connected)
    found = inventory.join(reports, in_use=in_use)
    show(found if json_ else found[_SCANNED], json_)
    states = found["state"].value_counts()
    if not json_:
        say("; ".join(f"{state}: {number:,}" for state, number in states.items()))
    number = int((found["critical"].fillna(0) > 0).sum())
    reasons = [(OVER, f"{count(number, 'image')} with critical vulnerabilities.")] if number else []
    leave([*reasons, *([] if inventory.complete else [(INCOMPLETE, inventory.brief.verdict)])])


_SCANNED = ["repository", "image", "platform", "state", "critical", "high", "fixable", "running", "scanner"]


def _leave(messages: Iterable[str]) -> None:
    """Say what could not be read, each reason once, and exit accordingly."""
    leave((INCOMPLETE, f"A part of the image was {message}.") for message in dict.fromkeys(messages))

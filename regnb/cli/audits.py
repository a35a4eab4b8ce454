"""Commands that read a registry, a storage or snapshots, and judge: all of them make frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, cast

import typer
from rich.markup import escape
from typer import Argument, Option

from regnb.analysis import difference
from regnb.analysis import snapshot as snapshot_
from regnb.analysis.growth import growth as growth_
from regnb.analysis.proposal import Order
from regnb.analysis.reconcile import reconcile as reconcile_
from regnb.analysis.storage import open_storage
from regnb.cli.alarm import Alarms
from regnb.cli.checks import Allow
from regnb.cli.command import Connected, Sourced, command_of
from regnb.cli.options import Blobs, Children, NoCache, PlanOut, Pulls, Referrers, Repositories, What, Where
from regnb.cli.plans import keep_plan, show_plan
from regnb.cli.terminal import (
    DRIFT,
    ERROR,
    INCOMPLETE,
    OVER,
    Json,
    leave,
    out,
    say,
    section,
    show,
    table,
)
from regnb.cli.verdict import failing, rows_of, show_collections
from regnb.crawl.naming import named
from regnb.crawl.selection import selectors
from regnb.errors import Denied, InvalidArgument, Unauthorized, Unsupported
from regnb.source import is_file, read
from regnb.text import count, human, parse_size

if TYPE_CHECKING:
    from regnb.registry import Registry

app = typer.Typer()
command = command_of(app)


_FOUND = 50
"""Rows that ``regnb find`` prints."""


@command
def reclaim(
    connected: Connected,
    url: Where,
    what: What,
    repositories: Repositories = None,
    children: Children = True,
    referrers: Referrers = True,
    blobs: Blobs = False,
    no_cache: NoCache = False,
    json_: Json = "",
) -> None:
    """Show what deleting tags would free with each kind of garbage collection, and which images keep the rest.

    Without a catalog, only the repositories that are named here are read. Nothing is deleted. Exit code 0: done,
    1: error, 4: a collection would fail, or something could not be read.
    """
    try:
        inventory = read(url, repositories, cached=not no_cache, connect=connected)
    except (Denied, Unauthorized, Unsupported):
        from regnb.wire.addresses import parse_registry  # what reads files loads no HTTP

        named_here = [one.within for one in selectors(what, host=parse_registry(url)[1])]
        if repositories or not all(named_here):
            raise
        inventory = read(url, sorted(set(named_here)), cached=not no_cache, connect=connected)
    found = inventory.reclaim(what, children=children, referrers=referrers)
    rows = rows_of(found)
    if blobs or json_:
        show(found.blobs if blobs else found.table, json_)
    else:
        out.print(f"[bold]{escape(found.sentence)}[/]")
        show_collections(rows, "What each garbage collection would then remove", before=True)
        section(found.stays, "What stays, and which images need it")
    leave(failing(rows), inventory)


@command
def find(
    connected: Connected,
    url: Where,
    text: Annotated[
        str,
        Argument(
            metavar="TEXT",
            help="repository:tag, a reference with any host, a digest or six digits of one, or a label: NAME=VALUE.",
        ),
    ],
    repositories: Repositories = None,
    json_: Json = "",
) -> None:
    """Find tags by name, reference, digest (of an image or a layer) or label, and print how to pull each.

    Exit code 0: found, 1: not found or an error, 4: something could not be read.
    """
    inventory = read(url, repositories, connect=connected)
    found = inventory.find(text)
    if json_:
        show(found, json_)
    elif len(found):
        table(found.drop(columns=["digest", "pull"]), limit=_FOUND)
        typer.echo("")
        for line in found["pull"].head(_FOUND):
            typer.echo(line)
    where = inventory.registry if inventory.whole else f"the chosen repositories of {inventory.registry}"
    missing = [(ERROR, f"Nothing in {where} fits {text}.")] if found.empty else []
    leave(missing, inventory)


@command
def free(
    connected: Connected,
    alarm: Alarms,
    url: Where,
    size: Annotated[str, Argument(metavar="SIZE", help="How much to free, such as 50GB.")],
    protect: Annotated[
        list[str] | None, Option(metavar="GLOB", help="Keep these tags, such as '*:latest' (repeatable).")
    ] = None,
    keep: Annotated[int, Option(help="Keep the N newest tags of each repository.", min=0)] = 1,
    order: Annotated[
        str,
        Option(
            metavar="ORDER",
            help="Which tags to propose first: oldest, largest-gain, fewest-tags, or unused (repositories "
            "without a new image for longest). Images that others are built on come last.",
        ),
    ] = "oldest",
    unused_for: Annotated[
        str,
        Option(
            metavar="AGE",
            help="Propose only tags that were not pulled for this long, such as 180d. Tags without a known "
            "pull time are kept.",
        ),
    ] = "",
    pulls: Pulls = None,
    repositories: Repositories = None,
    plan_out: PlanOut = None,
    allow: Allow = None,
    json_: Json = "",
) -> None:
    """Propose tags to delete so that a garbage collection frees SIZE; with --plan-out, plan their deletion.

    Exit code 0: done, 1: error, 2: less than SIZE can be freed safely, 4: something could not be read.
    """
    if plan_out is not None and is_file(url):
        raise InvalidArgument(
            "a plan of a deletion needs a registry, and this is a storage", hint="give the URL of its registry"
        )
    wanted, announcer = parse_size(size), alarm()
    inventory = read(url, repositories, connect=connected)
    inventory = inventory.with_pulls(pulls) if pulls else inventory
    found = inventory.free(wanted, protect=protect, keep=keep, order=cast("Order", order), unused_for=unused_for)
    total = int(found["total"].iloc[-1]) if len(found) else 0
    words = f"Deleting {count(len(found), 'tag')} lets a plain garbage collection free {human(total)}"
    show(found if json_ else found.drop(columns=["digest", "reason"]), json_, words)
    if repositories:
        say("At most: only some repositories were read, and others may share these layers.")
    short = [(OVER, f"Only {human(total)} of {human(wanted)}: no more is safe to delete.")] if total < wanted else []
    if plan_out is not None:
        with connected(url) as registry:
            plan = registry.plan_delete(found, inventory=inventory, allow=allow or ())
        if not json_:
            out.print()
            show_plan(plan)
        short += keep_plan(plan, plan_out, announcer)
    elif len(found) and not json_:
        hint = "regnb delete URL REFERENCE…" if inventory.source == "storage" else "the same with --plan-out FILE"
        say(f"Nothing was deleted. To plan the deletion: {hint}")
    leave(short, inventory)


@command
def compare(
    connected: Connected,
    sourced: Sourced,
    first: Annotated[str, Argument(metavar="A", help="A registry, a storage or a snapshot.", envvar="REGNB_URL")],
    second: Annotated[str, Argument(metavar="B", help="Another one, such as a mirror of it.")],
    prefix: Annotated[str, Option(help="Prefix of A's repository names in B, such as mirror/.")] = "",
    repositories: Repositories = None,
    json_: Json = "",
) -> None:
    """Show which tags of A are missing in B, which point elsewhere in B, and which are only in B.

    If only B is given, A is the registry at REGNB_URL. The --from options belong to A. Exit code 0: the same,
    1: error, 3: they differ, 4: not everything was read.
    """
    names = named(repositories) if repositories else None
    one = read(first, names, connect=cast("Connected", sourced))
    two = read(second, names and [f"{prefix}{name}" for name in names], connect=connected)
    found = difference.compare(one, two, prefix=prefix)
    numbers = found["state"].value_counts()
    words = ", ".join(f"{number:,} {state}" for state, number in numbers.items()) or "no tags"
    if json_:
        show(found, json_)
    else:
        out.print(f"[bold]{escape(one.registry)} and {escape(two.registry)}[/]: {words}", soft_wrap=True)
        section(found[found["state"] != "same"], limit=100)
    differ = [(DRIFT, f"They differ: {words}")] if {"missing", "extra", "drifted"} & {*numbers.index} else []
    leave([*differ, *((INCOMPLETE, text) for text in difference.gaps(one, two, prefix=prefix))])


_SNAPSHOTS: Final = "REGNB_SNAPSHOTS"


@command
def diff(
    first: Annotated[
        str,
        Argument(metavar="A", help="A snapshot; or, without B, a folder: its last two.", envvar=_SNAPSHOTS),
    ],
    second: Annotated[str, Argument(metavar="B", help="A later snapshot.")] = "",
    json_: Json = "",
) -> None:
    """Show what changed between two snapshots: tags, and bytes added and removed."""
    found = difference.diff(first, second or None)
    if json_:
        show(found.tags, json_)
        return
    out.print(f"[bold]{escape(found.summary())}[/]")
    section(found.repositories, "Repositories")
    section(found.tags, "Tags", limit=100)


@command
def snapshots(
    url: Annotated[str, Argument(metavar="DIR|URL", help="Folder or URL of the snapshots.", envvar=_SNAPSHOTS)],
    thin: Annotated[
        int | None,
        Option(metavar="DAYS", min=1, help="Remove snapshots older than DAYS, except the last one of each month."),
    ] = None,
    json_: Json = "",
) -> None:
    """List the snapshots that regnb audit --snapshot saved. With --thin, remove old ones first."""
    if thin is not None:
        for name in snapshot_.thin(url, thin):
            say(f"Removed {name}")
    found = snapshot_.snapshots(url)
    show(
        found if json_ else found[["started", "source", "tags", "stored", "disk", "complete", "status", "snapshot"]],
        json_,
    )


@command
def growth(
    url: Annotated[str, Argument(metavar="DIR|URL", help="Folder or URL of the snapshots.", envvar=_SNAPSHOTS)],
    capacity: Annotated[
        str | None, Option(metavar="SIZE", help="Size of the disk, such as 1TB, to estimate when it is full.")
    ] = None,
    host: Annotated[
        str | None,
        Option(
            "--registry",
            metavar="HOST",
            help="Show this registry, if the snapshots are of several: host:port, or a storage's URL.",
        ),
    ] = None,
    json_: Json = "",
) -> None:
    """Show how a registry grew from snapshot to snapshot, and when its disk will be full."""
    size = parse_size(capacity) if capacity is not None else None
    found = growth_(url, registry=host)
    show(found.frame, json_)
    if not json_:
        for text in (*found.notes, *([f"{human(size)}: {found.forecast(size)}"] if size is not None else [])):
            out.print(f"- {text}", markup=False)


@command
def reconcile(
    registry: Registry,
    storage: Annotated[
        str,
        Argument(
            metavar="DIR|URL", help="Its storage: a folder, or a URL such as s3://bucket.", envvar="REGNB_STORAGE"
        ),
    ],
    json_: Json = "",
) -> None:
    """Explain why a registry's disk holds more than its API shows.

    Exit code 0: every byte has its cause, 1: error, 4: something could not be read.
    """
    disk = open_storage(storage)
    api, there = registry.inventory(), disk.inventory()
    show(reconcile_(api, there), json_)
    gone = difference.emptied(api, len(there.repositories), there.source, there.started)
    leave([(INCOMPLETE, gone)] if gone else [], api, there)


@command
def health(
    registry: Registry,
    probe: Annotated[
        bool, Option("--probe", help="Test whether deletion is enabled: DELETE a digest and a tag that do not exist.")
    ] = False,
    json_: Json = "",
) -> None:
    """Check a registry: API version, authentication, catalog, referrers and (with --probe) deletion.

    Exit code 0: healthy, or warnings only; 1: not healthy.
    """
    found = registry.health(probe=probe)
    show(found, json_)
    if (found["state"] == "fail").any():
        raise typer.Exit(ERROR)

"""Commands that plan a change, and apply it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer import Argument, Option

from regnb.change.journal import Receipt
from regnb.change.options import OPTIONS
from regnb.change.sweep import Sweep, load
from regnb.cli import collecting
from regnb.cli.alarm import Alarm
from regnb.cli.checks import Allow, InUse, InUseHost
from regnb.cli.command import Connected, Present, Sourced, command_of
from regnb.cli.options import Children, Pulls, Referrers, Repositories, What
from regnb.cli.plans import ask_code, at_terminal, finish, show_plan
from regnb.errors import InvalidArgument
from regnb.storage import open_storage, storage_of
from regnb.text import names

if TYPE_CHECKING:
    import functools

    from regnb.registry import Registry

app = typer.Typer()
command = command_of(app)


@command
def retag(
    registry: Registry,
    present: Present,
    what: What,
    tag: Annotated[str, Option("--tag", "-t", metavar="TAG", help=OPTIONS["tag"])],
    allow: Allow = None,
) -> None:
    """Give an image a second tag, in the same repository."""
    present(registry, registry.plan_retag(what, tag, allow=allow or ()))


@command
def copy(
    registry: Registry,
    present: Present,
    sourced: Sourced,
    what: What,
    to: Annotated[
        str,
        Option(
            metavar="DEST",
            help=OPTIONS["to"],
        ),
    ] = "",
    source: Annotated[
        str,
        Option(
            "--from",
            metavar="URL",
            help="Copy from this registry, layout or archive, such as oci:DIR. Default: the registry at URL.",
        ),
    ] = "",
    repositories: Repositories = None,
    platform: Annotated[str | None, Option(help=OPTIONS["platform"])] = None,
    referrers: Referrers = True,
    allow: Allow = None,
) -> None:
    """Copy tags into the registry or layout at URL, within it or from another; a repository means all its tags."""
    with sourced(source) as other:
        plan = registry.plan_copy(
            what,
            to,
            source=other,
            repositories=repositories,
            platform=platform,
            referrers=referrers,
            allow=allow or (),
        )
        present(registry, plan, other)


@command
def rename(
    registry: Registry,
    present: Present,
    what: Annotated[str, Argument(metavar="OLD", help="A repository, or repository:tag.")],
    to: Annotated[str, Argument(metavar="NEW", help="A repository; or repository:tag, or a tag alone.")],
    allow: Allow = None,
) -> None:
    """Rename a repository or a tag: copy, verify, then remove only what was renamed."""
    present(registry, registry.plan_rename(what, to, allow=allow or ()))


@command
def delete(
    registry: Registry,
    present: Present,
    what: What,
    children: Children = True,
    referrers: Referrers = True,
    in_use: InUse = None,
    in_use_host: InUseHost = None,
    repositories: Repositories = None,
    whole: Annotated[
        bool, Option("--whole", help="Read the whole registry first, to see which other images share layers.")
    ] = False,
    allow: Allow = None,
) -> None:
    """Delete tags, or digests with all their tags; the plan first shows what else is deleted or breaks."""
    inventory = registry.inventory(repositories) if whole else None
    plan = registry.plan_delete(
        what,
        inventory=inventory,
        repositories=repositories,
        children=children,
        referrers=referrers,
        in_use=in_use,
        in_use_host=in_use_host or (),
        allow=allow or (),
    )
    present(registry, plan)


@command
def retention(
    registry: Registry,
    present: Present,
    policy: Annotated[Path, Argument(metavar="POLICY", help="A TOML file with the rules.", dir_okay=False)],
    storage: Annotated[
        str | None,
        Option(metavar="DIR", help=OPTIONS["storage"]),
    ] = None,
    pulls: Pulls = None,
    repositories: Repositories = None,
    in_use: InUse = None,
    in_use_host: InUseHost = None,
    allow: Allow = None,
) -> None:
    """Delete the tags that a policy does not keep; each row says why its tag is kept or removed.

    Exit code 0: planned, 1: error, 5: the policy would remove more than it may.
    """
    plan = registry.plan_retention(
        policy,
        repositories=repositories,
        storage=storage,
        pulls=pulls,
        in_use=in_use,
        in_use_host=in_use_host or (),
        allow=allow or (),
    )
    present(registry, plan)


@command
def apply(
    connected: Connected,
    sourced: Sourced,
    plan: Annotated[
        Path | None, Argument(metavar="PLAN", help="The file that --plan-out wrote.", dir_okay=False)
    ] = None,
    confirm: Annotated[str, Option(metavar="CODE", help="The plan's code, or its digest.")] = "",
    resume: Annotated[str, Option(metavar="RECEIPT", help="Continue a plan that was interrupted.")] = "",
    storage: Annotated[str | None, Option(metavar="DIR", help="The storage that the undo was planned with.")] = None,
) -> None:
    """Apply a plan, and print the receipt. Without --confirm, print the plan and ask for its code.

    Exit code 0: every row done, 1: error, 4: some rows were not done.
    """
    if plan is not None and not resume:
        made = load(plan)
        if not confirm:
            if isinstance(made, Sweep):
                collecting.show_sweep(made)
            else:
                show_plan(made)
            if at_terminal():
                if isinstance(made, Sweep):
                    collecting.check(storage_of(made), made)
                confirm = ask_code(made)
        made.confirm(confirm)
        if isinstance(made, Sweep):
            collecting.apply(storage_of(made), made, confirm)
        with connected(made.url) as registry, sourced(made.source) as source:
            here = open_storage(storage) if storage else None
            finish(registry.apply(made, confirm=confirm, source=source, storage=here))
    if plan is None and resume:
        cut = Receipt.load(resume)
        cut.prove()  # before anyone is asked for a password
        if cut.sweep is not None:
            collecting.resume(cut, cut.sweep)
        with connected(cut.plan.url) as registry, sourced(cut.plan.source) as source:
            finish(registry.resume(cut, source=source))
    raise InvalidArgument("give either a plan or --resume", hint="regnb apply plan.json --confirm CODE")


@command
def undo(
    connected: Connected,
    present: Present,
    receipt: Annotated[str, Argument(metavar="RECEIPT", help="A receipt's name, or its file.")],
    storage: Annotated[
        str | None,
        Option(metavar="DIR", help="The registry's storage: first restore from its trash what a collection moved."),
    ] = None,
    allow: Allow = None,
) -> None:
    """Undo the changes in a receipt; in a registry this works until its next garbage collection."""
    found = Receipt.load(receipt)
    found.prove()  # before anyone is asked for a password
    if found.sweep is not None:
        moved = open_storage(found.sweep.url)
        given = cast("functools.partial[None]", present).keywords  # its options, with what they were given
        others = {"curl": given["curl"], "probe": given["probe"], "storage": storage, "allow": allow}
        if useless := [f"--{name}" for name, value in others.items() if value]:
            raise InvalidArgument(
                f"receipt {found.name} is about a storage, and {names(useless)} about a registry",
                hint=f"regnb undo {found.name}",
            )
        alarm = Alarm(given["webhook"], given["link"])
        collecting.present(moved, moved.plan_restore(found), given["plan_out"], given["json_"], alarm)
        return
    here = open_storage(storage) if storage else None
    with connected(found.plan.url) as registry:
        present(registry, registry.plan_undo(found, storage=here, allow=allow or ()), storage=here)

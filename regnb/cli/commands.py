"""The command line: the same calls as in Python, with tables, JSON and honest exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeAlias, cast

from regnb.errors import BrokenReceipt, InvalidArgument, MissingExtra, RegnbError, StorageError, TooLarge
from regnb.tables.write import check_format, make_folder

try:
    import typer
    from rich.markup import escape
    from typer import Argument, Option
except ImportError as error:
    raise MissingExtra(error.name or "typer", "cli") from None

from regnb import __version__
from regnb.analysis import difference
from regnb.analysis import snapshot as snapshot_
from regnb.analysis.growth import growth as growth_
from regnb.analysis.inventory import Inventory
from regnb.analysis.reclaim import Reclaim
from regnb.analysis.reconcile import reconcile as reconcile_
from regnb.analysis.storage import open_storage
from regnb.change.journal import Receipt, receipts
from regnb.change.plan import ALLOWANCES, Plan
from regnb.cli import kubernetes as cli_kube
from regnb.cli.terminal import (
    DRIFT,
    ERROR,
    INCOMPLETE,
    INTERRUPTED,
    OK,
    OVER,
    CaBundle,
    ClientCert,
    Insecure,
    Json,
    User,
    err,
    out,
    say,
)
from regnb.cli.terminal import login as _login
from regnb.cli.terminal import section as _section
from regnb.cli.terminal import show as _print
from regnb.cli.terminal import table as _table
from regnb.crawl.files import file_errors, shown
from regnb.environment import environment
from regnb.errors import Interrupted
from regnb.notebooks.runbook import Runbook, runbooks
from regnb.notebooks.runbook import run as run_
from regnb.registry import Registry, connect
from regnb.source import is_file, read
from regnb.tables.frame import Frame
from regnb.text import count, human, parse_size
from regnb.wire.cache import Cache
from regnb.wire.exchange import READS, Answer, headers_of, view

# A word that was mistyped must not look like a disk that is full: click's own code for it is OVER, too.
next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError").exit_code = ERROR  # type: ignore[attr-defined]

app = typer.Typer(
    help="Container registries as DataFrames: audit, inspect, change safely, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(help="The cache of manifests and configs.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
receipt_app = typer.Typer(help="Receipts: what was changed, when, and by whom.", no_args_is_help=True)
app.add_typer(receipt_app, name="receipt")
app.add_typer(cli_kube.app, name="kube")

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
Ref = Annotated[str, Argument(help="repository:tag or repository@digest")]
What = Annotated[
    list[str], Argument(metavar="REFERENCE", help="repository:tag, repository@digest, or a glob in quotes.")
]
PlanOut = Annotated[Path | None, Option(help="Write the plan into this file, for regnb apply.", dir_okay=False)]
Children = Annotated[bool, Option(help="Whether an index takes along what nothing else needs.")]
Blobs = Annotated[bool, Option("--blobs", help="List the blobs that would go, largest first.")]
Referrers = Annotated[bool, Option(help="Whether signatures, SBOMs and other referrers come along.")]
InUse = Annotated[
    str | None,
    Option(
        help="What runs stays: cluster, or a file (- for standard input) with what kubectl get pods -A -o json printed."
    ),
]
Allow = Annotated[
    list[str] | None, Option(help=f"Allow what is refused else: {', '.join(ALLOWANCES)}. Again for more.")
]


# The functions whose names stand in _SHARED are handed to commands; their keyword-only options become the command's.


def _reached(
    use: Callable[..., Any],
    url: str,
    *,
    user: User = "",
    ca_bundle: CaBundle = None,
    client_cert: ClientCert = None,
    insecure: Insecure = False,
) -> Any:  # noqa: ANN401 -- a connection, or the environment of a kernel that is to make one
    """Hand the registry that the command is about, with how to reach it, to what uses it."""
    login = _login(user, "REGNB_PASSWORD", "Password")
    return use(url, **login, ca_bundle=ca_bundle, client_cert=client_cert, insecure=insecure)


def _sourced(
    url: str,
    *,
    from_user: Annotated[
        str, Option(help="User name at the source; the password is read from REGNB_SOURCE_PASSWORD or a prompt.")
    ] = "",
    from_ca_bundle: Annotated[Path | None, Option(help="Certificates to trust at the source.", dir_okay=False)] = None,
    from_insecure: Annotated[bool, Option("--from-insecure", help="Accept any certificate there.")] = False,
) -> AbstractContextManager[Registry | None]:
    """Connect to the registry that a copy reads from, if it is another one."""
    if not url:
        return nullcontext()
    login = _login(from_user, "REGNB_SOURCE_PASSWORD", "Password at the source")
    return connect(url, **login, ca_bundle=from_ca_bundle, insecure=from_insecure)


def _keep(plan: Plan, path: Path) -> None:
    """Write a plan into a file, and say how it is applied."""
    plan.save(path)
    say(f"To apply it: regnb apply {shlex.quote(str(path))} --confirm {plan.code}")


def _present(
    registry: Registry,
    plan: Plan | Answer,
    source: Registry | None = None,
    include: bool = False,
    *,
    plan_out: PlanOut = None,
    curl: Annotated[bool, Option("--curl", help="Print the same as curl commands, and write nothing.")] = False,
    json_: Annotated[bool, Option("--json", help="Print the rows as JSON lines, and write nothing.")] = False,
) -> None:
    """Print a plan; write it into a file if that was asked for, else apply it if its code is typed at a terminal.

    Of a request that only reads there is an answer instead, printed with its headers if they are to be included.
    """
    if isinstance(plan, Answer):
        _answer(plan, include=include, curl=curl, json_=json_)
    if json_:
        _print(plan.to_frame(), json_)
    elif curl:
        typer.echo(_script(plan))
    else:
        show_plan(plan)
    if plan_out is not None:
        _keep(plan, plan_out)
    elif not plan.changes or json_ or curl:
        return
    elif sys.stdin.isatty() and sys.stdout.isatty():
        typed = typer.prompt(f"Type {plan.code} to apply, anything else to leave it", default="", show_default=False)
        if typed == plan.code:
            _finish(registry.apply(plan, confirm=typed, source=source))
        say("Nothing was written.")
    else:
        say("Nothing was written. With --plan-out FILE the plan is kept for regnb apply.")


def _answer(answer: Answer, *, include: bool, curl: bool, json_: bool) -> NoReturn:
    """Print an answer, to a pipe byte for byte, and exit with whether it is one of success."""
    if curl or json_:
        typer.echo(answer.curl if curl else answer.to_json())
    elif sys.stdout.isatty():
        head = answer.head if include or answer.exchange.method == "HEAD" else ""
        typer.echo("\n\n".join(filter(None, [head, answer.text])))
    elif answer.whole:
        sys.stdout.buffer.write(view(answer, include=include))
    else:
        raise TooLarge(f"the answer was not read whole: {answer.summary}", hint=f"with curl: {answer.curl}")
    if answer.problem:
        say(f"{answer.problem}\nHint: {answer.hint}" if answer.hint else answer.problem)
    raise typer.Exit(ERROR if answer.problem else OK)


_SHARED: Final[dict[str, Callable[..., Any]]] = {
    "present": _present,
    "sourced": _sourced,
    "connected": functools.partial(_reached, connect),
    "surrounded": functools.partial(_reached, environment),
}
Connected: TypeAlias = Callable[[str], AbstractContextManager[Registry]]
Surrounded: TypeAlias = Callable[[str], dict[str, str]]
Sourced: TypeAlias = Callable[[str], AbstractContextManager[Registry | None]]
Present: TypeAlias = Callable[..., None]
"""What shows a plan, with its options bound: of a registry, a plan, and what a copy reads from."""


def _options(helper: Callable[..., Any]) -> list[inspect.Parameter]:
    found = inspect.signature(helper, eval_str=True).parameters.values()
    return [each for each in found if each.kind == each.KEYWORD_ONLY]


def _command(work: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function: what several commands need is handed to it by name, and its options come along.

    ``registry`` is the one at the URL, which becomes the first argument; the other names are those of _SHARED.
    """
    own = dict(inspect.signature(work, eval_str=True).parameters)
    at_url = own.pop("registry", None) is not None
    shared = {
        name: _options(helper)
        for name, helper in _SHARED.items()
        if own.pop(name, None) or (at_url and name == "connected")
    }

    @functools.wraps(work)
    def run(**given: Any) -> None:  # noqa: ANN401 -- what the signature below says
        bound = {
            name: functools.partial(_SHARED[name], **{each.name: given.pop(each.name) for each in options})
            for name, options in shared.items()
        }
        try:
            if not at_url:
                return work(**bound, **given)
            with bound.pop("connected")(given.pop("url")) as registry:
                return work(registry, **bound, **given)
        except Interrupted as error:
            say(str(error))
            if error.receipt:
                say(f"To go on: regnb apply --resume {error.receipt}")
            raise typer.Exit(INTERRUPTED) from None

    url = inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, annotation=Url)
    named = [each.replace(kind=each.KEYWORD_ONLY) for each in own.values()]
    parameters = [*([url] if at_url else []), *named, *(each for options in shared.values() for each in options)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return app.command()(run)


def show(inventory: Inventory) -> None:
    """Print an audit: totals, repositories, what is shared, and what could not be read; of a storage the disk, too."""
    found = inventory.summary
    bound = "" if found.complete else "at least "
    storage = inventory.source == "storage"
    out.print(f"[bold]{escape(found.registry)}[/]  {found.repositories:,} repositories, {found.tags:,} tags")
    out.print(
        f"{found.manifests:,} manifests, {found.blobs:,} blobs: [bold]{bound}{human(found.stored)}[/] "
        f"{'in them' if storage else 'behind tags'} ({human(found.pulled)} if nothing were shared)"
    )
    largest = inventory.repositories.sort_values("size", ascending=False, ignore_index=True)
    hidden = ["manifests", "share", "complete"]
    if storage:
        rows = inventory.breakdown
        _section(rows[rows["what"] != "reclaimable"].drop(columns="total"), "Where the bytes are")
        _collections(inventory.reclaim().table.drop(columns="before"), "What each garbage collection would remove now")
    else:
        hidden.append("untagged")
    _section(largest.drop(columns=hidden), "Repositories, largest first")
    _section(inventory.sharing.tags, "Tags on one digest", 10)
    layers = inventory.sharing.layers.drop(columns=["command", "tags"])
    _section(layers, "Shared layers, by the bytes that sharing saves", 10)
    _section(inventory.uploads, "Uploads that were begun and not finished", 10)
    _section(inventory.problems.drop(columns="incomplete"), "Problems", 50)
    if inventory.complete:
        out.print("\n[green]Complete[/]: everything that was listed was read.")
    else:
        out.print("\n[yellow]Incomplete[/]: something that was listed could not be read. Coverage:")
        _table(inventory.coverage)
    if not storage:
        out.print("[dim]Manifests without a tag cannot be seen over HTTP and are not counted.[/]")


Reason: TypeAlias = tuple[int, str]
"""Why a command does not exit with 0: the code, and a sentence."""


def _leave(reasons: Iterable[Reason], *inventories: Inventory) -> NoReturn:
    """Say on standard error why, and what could not be read, and exit with the lowest code."""
    gaps = [
        f"Incomplete: not everything in {each.registry} could be read." for each in inventories if not each.complete
    ]
    found = sorted([*reasons, *((INCOMPLETE, gap) for gap in gaps)])
    for _, reason in found:
        say(reason)
    raise typer.Exit(found[0][0] if found else OK)


def _collections(table: Frame, title: str) -> None:
    """Print what collections remove; what is to be known about each, which no column has room for, below."""
    _section(table.drop(columns="message"), title)
    for message in filter(None, table["message"].unique()):
        rows = table[table["message"] == message]
        of = ", ".join(f"{row.collection} ({row.version})" for row in rows.itertuples())
        out.print(f"- {'all' if len(rows) == len(table) else of}: {message}", markup=False)


def _used(inventory: Inventory) -> int:
    """Return the bytes on disk, where they are known; else those behind tags."""
    return sum(inventory.disk["size"].tolist()) if inventory.source == "storage" else inventory.summary.stored


def _allowed(growth: str, size: int) -> float:
    """Return by how many bytes something of this size may grow: a percentage of it, or a number of bytes."""
    percent = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", growth.strip())
    return size * float(percent[1]) / 100 if percent else parse_size(growth)


def _older(inventory: Inventory, folder: str) -> Inventory | None:
    """Return the newest readable snapshot of the same registry from before this inventory."""
    found = snapshot_.snapshots(folder)
    mine = (found["registry"] == inventory.registry) & (found["source"] == inventory.source)
    for name in reversed(found.loc[mine & (found["started"] < inventory.started), "snapshot"].to_list()):
        try:
            return Inventory.load(f"{folder.rstrip('/')}/{name}")
        except StorageError as error:
            say(f"Passed over: {error.message}")
    say(f"No older snapshot of {inventory.registry} in {shown(folder)}: nothing to compare with.")
    return None


def _named(frame: Frame, limit: int = 5) -> str:
    """Return repository and tag of the first rows, as a text."""
    names = [f"{row.repository}:{row.tag}" for row in frame.head(limit).itertuples()]
    return ", ".join(names) + (", …" if len(frame) > limit else "")


@_command
def audit(
    connected: Connected,
    url: Where,
    repositories: Annotated[
        list[str] | None, Option("--repository", "-r", help="A name or a glob; again for more. Default: all.")
    ] = None,
    output: Annotated[Path | None, Option("--output", "-o", help="Write every frame into this folder.")] = None,
    form: Annotated[str, Option("--format", help="Of the files: parquet, csv or jsonl.")] = "parquet",
    snapshot: Annotated[
        str | None, Option(metavar="URL", help="Save the inventory below this folder or URL, to compare with.")
    ] = None,
    fail_over: Annotated[
        str | None, Option(metavar="SIZE", help="Exit with 2 if more is stored, or on a storage's disk; such as 500GB.")
    ] = None,
    fail_on_growth: Annotated[
        str | None,
        Option(metavar="SIZE", help="Exit with 2 if it grew by more since the last snapshot; such as 10% or 5GB."),
    ] = None,
    fail_on_drift: Annotated[
        bool, Option("--fail-on-drift", help="Exit with 3 if a tag moved or vanished since the last snapshot.")
    ] = False,
    fail_on_problems: Annotated[bool, Option("--fail-on-problems", help="Exit with 2 if there are problems.")] = False,
    json_: Annotated[bool, Option("--json", help="One JSON document on standard output.")] = False,
    no_cache: Annotated[bool, Option("--no-cache", help="Read everything from the registry.")] = False,
) -> None:
    """Read a registry or its storage and print what it holds.

    Exit code 0: all is well, 1: error, 2: over a threshold, 3: tags moved or vanished, 4: something could not be read.
    """
    form_ = check_format(form)
    limit = parse_size(fail_over) if fail_over is not None else None
    if fail_on_growth is not None:
        _allowed(fail_on_growth, 0)
    if snapshot is None and (fail_on_growth is not None or fail_on_drift):
        raise InvalidArgument("there is nothing to compare with", hint="add --snapshot URL, where snapshots are kept")
    if snapshot is not None and repositories:
        raise InvalidArgument(
            "a snapshot of some repositories tells nothing of the rest", hint="leave out --repository or --snapshot"
        )
    for folder in (output, None if snapshot is None or "://" in snapshot else Path(snapshot)):
        if folder is not None:
            make_folder(folder)
    inventory = read(url, repositories, cached=not no_cache, connect=connected)
    if json_:
        document: dict[str, Any] = {**inventory.summary._asdict(), "source": inventory.source}
        for name in ("repositories", "problems", "coverage", "disk", "uploads", "breakdown", "namespaces"):
            document[name] = json.loads(getattr(inventory, name).to_json(orient="records", date_format="iso"))
        typer.echo(json.dumps(document, indent=2))
    else:
        show(inventory)
    if output is not None:
        say(f"Wrote {len(inventory.write(output, form_))} frames to {output}")
    reasons = []
    if limit is not None and (used := _used(inventory)) > limit:
        reasons.append((OVER, f"Over the threshold: {human(used)}, more than {human(limit)}."))
    if fail_on_problems and len(inventory.problems):
        named = (f"{row.repository}:{row.reference} ({row.problem})" for row in inventory.problems.head(5).itertuples())
        reasons.append((OVER, f"{count(len(inventory.problems), 'problem')}: {', '.join(named)}"))
    if snapshot is not None:
        say(f"Saved {inventory.save(snapshot)}")
        if fail_on_growth is not None or fail_on_drift:
            reasons += _since(inventory, snapshot, fail_on_growth, fail_on_drift)
    _leave(reasons, inventory)


def _since(inventory: Inventory, folder: str, growth: str | None, drift: bool) -> Iterator[Reason]:
    """Give what changed by more than is allowed since the snapshot before this inventory."""
    older = _older(inventory, folder)
    if older is None:
        return
    since = f"since {older.started:%Y-%m-%d %H:%M}" + ("" if older.complete else " (which was incomplete)")
    before, now = _used(older), _used(inventory)
    if growth is not None and now - before > _allowed(growth, before):
        yield OVER, f"Grew by more than {growth}: {human(before)}, now {human(now)}, {since}."
    if drift:
        changed = difference.diff(older, inventory).tags
        for change in ("moved", "vanished"):
            if len(tags := changed[changed["change"] == change]):
                yield DRIFT, f"{count(len(tags), 'tag')} {change} {since}: {_named(tags)}"


@_command
def gc(connected: Connected, url: Where, blobs: Blobs = False, json_: Json = False) -> None:
    """Tell what registry garbage-collect would remove now, without running it.

    Exit code 0: told, 1: error, 4: a garbage collection would fail, or something could not be read.
    """
    inventory = read(url, connect=connected)
    found = inventory.reclaim()
    if blobs or json_:
        _print(found.blobs.drop(columns="before") if blobs else found.table, json_)
    else:
        out.print(f"[bold]{escape(inventory.registry)}[/]", soft_wrap=True)
        _collections(found.table.drop(columns="before"), "What each garbage collection would remove now")
        if number := len(inventory.uploads):
            size = human(sum(inventory.uploads["size"].tolist()))
            begun = f"{count(number, 'upload')} begun and not finished, {size}"
            out.print(f"\nNot in these: {begun}. No garbage collection takes them.")
    _leave(_failing(found), inventory)


def _failing(found: Reclaim) -> Iterator[Reason]:
    for row in found.table[found.table["bound"] == "fails"].itertuples():
        yield INCOMPLETE, f"{row.collection} ({row.version}) {row.message}"


@_command
def reclaim(
    connected: Connected,
    url: Where,
    what: What,
    children: Children = True,
    referrers: Referrers = True,
    blobs: Blobs = False,
    json_: Json = False,
) -> None:
    """Tell what deleting tags would free, by each kind of garbage collection, and what stays because of whom.

    Nothing is deleted. Exit code 0: told, 1: error, 4: a collection would fail, or something could not be read.
    """
    inventory = read(url, connect=connected)
    found = inventory.reclaim(what, children=children, referrers=referrers)
    if blobs or json_:
        _print(found.blobs if blobs else found.table, json_)
    else:
        out.print(f"[bold]{escape(repr(found)[1:-1].removeprefix('Reclaim: '))}[/]")
        _collections(found.table, "What each garbage collection would then remove")
        _section(found.stays, "What stays of it, and because of whom")
    _leave(_failing(found), inventory)


@_command
def free(
    connected: Connected,
    url: Where,
    size: Annotated[str, Argument(metavar="SIZE", help="How much to free, such as 50GB.")],
    protect: Annotated[
        list[str] | None, Option(metavar="GLOB", help="What stays, such as *:latest; repeatable.")
    ] = None,
    keep: Annotated[int, Option(help="Newest tags that stay in each repository.", min=0)] = 1,
    plan_out: PlanOut = None,
    allow: Allow = None,
    json_: Json = False,
) -> None:
    """Propose which tags to delete so that a garbage collection frees SIZE; with --plan-out, plan their deletion.

    Exit code 0: told, 1: error, 2: less than that is safe to free, 4: something could not be read.
    """
    if plan_out is not None and is_file(url):
        raise InvalidArgument("a storage is only read", hint="for a plan, give the URL of its registry")
    wanted = parse_size(size)
    inventory = read(url, connect=connected)
    found = inventory.free(wanted, protect=protect, keep=keep)
    total = int(found["total"].iloc[-1]) if len(found) else 0
    words = f"Deleting {count(len(found), 'tag')} lets a plain garbage collection free {human(total)}"
    _print(found if json_ else found.drop(columns=["digest", "reason"]), json_, words)
    if plan_out is not None:
        with connected(url) as registry:
            _keep(registry.plan_delete(found, inventory=inventory, allow=allow or ()), plan_out)
    elif len(found) and not json_:
        hint = "regnb delete URL REFERENCE…" if inventory.source == "storage" else "the same with --plan-out FILE"
        say(f"Nothing was deleted. To plan the deletion: {hint}")
    short = [(OVER, f"Only {human(total)} of {human(wanted)}: no more is safe to delete.")] if total < wanted else []
    _leave(short, inventory)


@_command
def compare(
    connected: Connected,
    sourced: Sourced,
    first: Annotated[str, Argument(metavar="A", help="A registry, a storage or a snapshot.")],
    second: Annotated[str, Argument(metavar="B", help="Another one, such as a mirror of it.")],
    prefix: Annotated[str, Option(help="Before A's repository names, to find them in B; such as mirror/.")] = "",
    json_: Json = False,
) -> None:
    """Tell which tags of A are missing in B, point elsewhere there, or are only there.

    The options with --from are about A. Exit code 0: the same, 1: error, 3: they differ, 4: not everything was read.
    """
    one = read(first, connect=cast("Connected", sourced))
    two = read(second, connect=connected)
    found = difference.compare(one, two, prefix=prefix)
    numbers = found["state"].value_counts()
    words = ", ".join(f"{number:,} {state}" for state, number in numbers.items()) or "no tags"
    if json_:
        _print(found, json_)
    else:
        out.print(f"[bold]{escape(one.registry)} and {escape(two.registry)}[/]: {words}", soft_wrap=True)
        _section(found[found["state"] != "same"], limit=100)
    differ = [(DRIFT, f"They differ: {words}")] if {"missing", "extra", "drifted"} & {*numbers.index} else []
    _leave(differ, one, two)


@app.command()
def diff(
    first: Annotated[str, Argument(metavar="A", help="A snapshot; alone, a folder of snapshots: its last two.")],
    second: Annotated[str, Argument(metavar="B", help="A later snapshot.")] = "",
    json_: Json = False,
) -> None:
    """Tell what changed between two snapshots: which tags, and how many bytes came and went."""
    found = difference.diff(first, second or None)
    if json_:
        _print(found.tags, json_)
        return
    out.print(f"[bold]{escape(found.summary())}[/]")
    _section(found.repositories, "Repositories")
    _section(found.tags, "Tags", limit=100)


@app.command()
def snapshots(
    url: Annotated[str, Argument(metavar="URL", help="The folder or URL that was saved to.")], json_: Json = False
) -> None:
    """List the snapshots that regnb audit --snapshot saved."""
    found = snapshot_.snapshots(url)
    _print(found if json_ else found[["snapshot", "source", "tags", "stored", "disk", "complete", "status"]], json_)


@app.command()
def growth(
    url: Annotated[str, Argument(metavar="URL", help="The folder or URL of the snapshots.")],
    capacity: Annotated[str | None, Option(metavar="SIZE", help="Of the disk, such as 1TB: when is it full?")] = None,
    registry: Annotated[
        str | None, Option(help="Which one, if there are snapshots of several: host:port, or a storage's URL.")
    ] = None,
    json_: Json = False,
) -> None:
    """Tell how a registry grew from snapshot to snapshot, and when its disk will be full."""
    size = parse_size(capacity) if capacity is not None else None
    found = growth_(url, registry=registry)
    _print(found.frame, json_)
    if not json_:
        for text in (*found.notes, *([f"{human(size)}: {found.forecast(size)}"] if size is not None else [])):
            out.print(f"- {text}", markup=False)


@_command
def reconcile(
    registry: Registry,
    storage: Annotated[str, Argument(metavar="STORAGE", help="Its folder, or a URL such as s3://bucket/folder.")],
    json_: Json = False,
) -> None:
    """Tell why a registry's disk holds more than its API shows.

    Exit code 0: every byte has its cause, 1: error, 4: something could not be read.
    """
    disk = open_storage(storage)
    api, there = registry.inventory(), disk.inventory()
    _print(reconcile_(api, there), json_)
    _leave([], api, there)


@_command
def catalog(registry: Registry, json_: Json = False) -> None:
    """List the repositories."""
    _print(registry.catalog(), json_)


@_command
def tags(
    registry: Registry, repository: Annotated[str, Argument(help="A repository's name.")], json_: Json = False
) -> None:
    """List the tags of a repository."""
    _print(registry.tags(repository), json_)


@_command
def digest(registry: Registry, reference: Ref) -> None:
    """Print the digest that a tag points at."""
    typer.echo(registry.digest(reference))


@_command
def manifest(registry: Registry, reference: Ref) -> None:
    """Print a manifest, byte for byte."""
    sys.stdout.buffer.write(registry.manifest(reference).raw)


@_command
def request(
    connected: Connected,
    present: Present,
    method: Annotated[str, Argument(metavar="METHOD", help="GET, HEAD or OPTIONS; PUT and DELETE make a plan.")],
    path: Annotated[str, Argument(metavar="PATH", help="Such as /v2/_catalog; or a URL, its registry included.")],
    url: Annotated[
        str, Option(help="The registry, if PATH does not name it.", envvar="REGNB_URL", show_envvar=True)
    ] = "",
    header: Annotated[list[str] | None, Option("--header", "-H", help="Such as 'Accept: …'. Again for more.")] = None,
    data: Annotated[str, Option("--data", "-d", help="A manifest to PUT: @FILE, @- or the text itself.")] = "",
    include: Annotated[bool, Option("--include", "-i", help="Print status line and headers, too.")] = False,
    head: Annotated[bool, Option("--head", "-I", help="Send a HEAD, and print status line and headers.")] = False,
    allow: Allow = None,
) -> None:
    """Send a request as curl does, and print the answer; what would write becomes a plan.

    Exit code 0: the status is below 400, 1: it is not, or there was no answer.
    """
    headers, body = headers_of(header or ()), _data(data)
    scheme, _, rest = path.partition("://")
    with connected(url or (f"{scheme}://{rest.partition('/')[0]}" if rest else "")) as registry:
        method = "HEAD" if head else method.upper()
        if method not in READS:
            present(registry, registry.plan_request(method, path, headers=headers, body=body, allow=allow or ()))
        elif body:
            raise InvalidArgument(f"{method} takes no data", hint="PUT does")
        else:
            present(registry, registry.request(method, path, headers=headers), include=include)


def _data(data: str) -> bytes:
    """Return what ``--data`` means: the bytes of a file or of standard input, or the text itself."""
    if not data.startswith("@"):
        return data.encode()
    with file_errors(f"read {data[1:]}"):
        return sys.stdin.buffer.read() if data == "@-" else Path(data[1:]).read_bytes()


@_command
def layers(registry: Registry, reference: Ref, json_: Json = False) -> None:
    """List the layers of an image, their sizes and the commands that made them."""
    _print(registry.layers(reference), json_)


def show_plan(plan: Plan) -> None:
    """Print a plan: what it does in a sentence, what else it touches, and its rows, those that keep something last."""
    out.print(f"[bold]{escape(plan.summary())}[/]")
    for note in plan.notes:
        out.print(f"- {note}", markup=False)
    _section(plan.blast, "What else this touches", 50)
    rows = plan.to_frame().drop(columns="curl")
    _section(rows.sort_values("action", key=lambda action: action == "keep", kind="stable"), "Rows")
    out.print()


def _script(plan: Plan) -> str:
    """Return the rows as shell commands that end at the first one that fails, as later rows rest on earlier ones."""
    return " &&\n".join(
        f"{{ # {step.action} {step.repository} {step.target}\n{plan.curl(number)}\n}}"
        for number, step in enumerate(plan.steps)
        if step.writes
    )


def _finish(receipt: Receipt) -> NoReturn:
    """Print what became of a plan, and exit with a code that says whether every row was done."""
    rows = receipt.to_frame()
    rest = rows[rows["status"] != "done"]
    out.print(f"[bold]Receipt {receipt.name}[/]: {len(rows) - len(rest):,} of {receipt.plan.changes:,} rows done.")
    _section(rest, "Not done")
    if rows["status"].isin(["done", "failed", "unknown"]).any():
        out.print(f"To take it back, until the registry's next garbage collection: regnb undo {receipt.name}")
    raise typer.Exit(OK if receipt.status == "done" else INCOMPLETE)


@_command
def retag(
    registry: Registry,
    present: Present,
    what: What,
    tag: Annotated[str, Option("--tag", "-t", help="The new tag; for several, a pattern such as {tag}-old.")],
    allow: Allow = None,
) -> None:
    """Give what a tag or digest points at a second tag, in the same repository."""
    present(registry, registry.plan_retag(what, tag, allow=allow or ()))


@_command
def copy(
    registry: Registry,
    present: Present,
    sourced: Sourced,
    what: What,
    to: Annotated[str, Option(help="A repository, repository:tag, or such as mirror/{repository}:{tag}.")],
    source: Annotated[str, Option("--from", help="URL of the registry to read from; default: URL itself.")] = "",
    platform: Annotated[str | None, Option(help="Of an index only this image, such as linux/arm64.")] = None,
    referrers: Referrers = True,
    allow: Allow = None,
) -> None:
    """Copy tags into the registry at URL, within it or from another one; a repository's name means all its tags."""
    with sourced(source) as other:
        plan = registry.plan_copy(what, to, source=other, platform=platform, referrers=referrers, allow=allow or ())
        present(registry, plan, other)


@_command
def rename(
    registry: Registry,
    present: Present,
    what: Annotated[str, Argument(metavar="OLD", help="A repository, or repository:tag.")],
    to: Annotated[str, Argument(metavar="NEW", help="A repository; or repository:tag, or a tag alone.")],
    allow: Allow = None,
) -> None:
    """Rename a repository or a tag: copy, verify, then remove only what was renamed."""
    present(registry, registry.plan_rename(what, to, allow=allow or ()))


@_command
def delete(
    registry: Registry,
    present: Present,
    what: What,
    children: Children = True,
    referrers: Referrers = True,
    in_use: InUse = None,
    whole: Annotated[
        bool, Option("--whole", help="Read the whole registry first, to see what shares layers elsewhere.")
    ] = False,
    allow: Allow = None,
) -> None:
    """Delete tags, or digests with every tag on them; what else would go or break is shown first."""
    inventory = registry.inventory() if whole else None
    plan = registry.plan_delete(
        what, inventory=inventory, children=children, referrers=referrers, in_use=in_use, allow=allow or ()
    )
    present(registry, plan)


@_command
def retention(
    registry: Registry,
    present: Present,
    policy: Annotated[Path, Argument(metavar="POLICY", help="A TOML file.", dir_okay=False)],
    in_use: InUse = None,
    allow: Allow = None,
) -> None:
    """Delete what a policy does not keep; every row says why it is kept or removed."""
    present(registry, registry.plan_retention(policy, in_use=in_use, allow=allow or ()))


@_command
def apply(
    connected: Connected,
    sourced: Sourced,
    plan: Annotated[Path | None, Argument(metavar="PLAN", help="What --plan-out wrote.", dir_okay=False)] = None,
    confirm: Annotated[str, Option(help="The plan's digest, or its code.")] = "",
    resume: Annotated[str, Option(metavar="RECEIPT", help="Go on with a plan that was cut short.")] = "",
) -> None:
    """Do what a plan says, and print the receipt. Exit code 0: every row done, 1: error, 4: not every row."""
    if plan is not None and not resume:
        made = Plan.load(plan)
        made.confirm(confirm)
        with connected(made.url) as registry, sourced(made.source) as source:
            _finish(registry.apply(made, confirm=confirm, source=source))
    if plan is None and resume:
        cut = Receipt.load(resume)
        with connected(cut.plan.url) as registry, sourced(cut.plan.source) as source:
            _finish(registry.resume(cut, source=source))
    raise InvalidArgument("a plan or --resume is needed, and not both", hint="regnb apply plan.json --confirm CODE")


@_command
def undo(
    connected: Connected,
    present: Present,
    receipt: Annotated[str, Argument(help="A receipt's name, or its file.")],
    allow: Allow = None,
) -> None:
    """Take back what a receipt says was done; it works until the registry's next garbage collection."""
    found = Receipt.load(receipt)
    with connected(found.plan.url) as registry:
        present(registry, registry.plan_undo(found, allow=allow or ()))


@receipt_app.command("list")
def receipt_list(json_: Json = False) -> None:
    """List the receipts."""
    _print(receipts(), json_)


@receipt_app.command("show")
def receipt_show(name: Annotated[str, Argument(help="A receipt's name, or its file.")], json_: Json = False) -> None:
    """Print what became of every row of a plan."""
    receipt = Receipt.load(name)
    if not json_:
        out.print(f"[bold]{escape(receipt.plan.summary())}[/]")
        out.print(f"{receipt.status}, by {escape(receipt.who)}, confirmed as {receipt.plan.code}\n")
    _print(receipt.to_frame(), json_)


@receipt_app.command("verify")
def receipt_verify(
    names: Annotated[list[str] | None, Argument(help="Names or files; by default every receipt.")] = None,
) -> None:
    """Check that the lines of receipts follow from each other, and print the hash of the last. Exit code 1: no."""
    broken = False
    for name in names or receipts()["receipt"]:
        try:
            receipt = Receipt.load(name)
        except BrokenReceipt as error:
            broken = True
            err.print(f"[red]{escape(name)}[/]: {escape(str(error))}", soft_wrap=True)
        else:
            typer.echo(f"{receipt.name}: {receipt.status}, {receipt.chain}")
    raise typer.Exit(ERROR if broken else OK)


@_command
def run(
    surrounded: Surrounded,
    name: Annotated[str, Argument(metavar="NAME", help="Such as 02-storage, or a part of it.")] = "",
    parameters: Annotated[
        list[str] | None, Option("--parameter", "-p", metavar="NAME=VALUE", help="Again for more.")
    ] = None,
    output: Annotated[Path, Option("--output", "-o", help="Write the executed notebook into this folder.")] = Path(),
    list_: Annotated[bool, Option("--list", help="List the runbooks and their parameters, and run none.")] = False,
) -> None:
    """Run a runbook (a packaged notebook) without JupyterLab, keep it executed as a record, and print its path.

    Nothing is written to a registry. Exit code 0: done, 1: a cell failed, 4: something could not be read.
    """
    if list_ or not name:
        for each in runbooks():
            out.print(f"[bold]{each.name}[/]  {escape(each.question)}", soft_wrap=True)
            out.print(f"    {_defaults(each)}", markup=False, soft_wrap=True)
        return
    given = dict(_assigned(text) for text in parameters or ())
    done = run_(name, given, output, surroundings=surrounded(given.get("url", "")))
    typer.echo(done.path)
    if done.interrupted:
        say("Interrupted: the record ends there.")
        raise typer.Exit(INTERRUPTED)
    if done.error:
        raise done.error
    _leave((INCOMPLETE, f"Incomplete: not everything in {each} could be read.") for each in done.gaps)


@_command
def report(
    connected: Connected,
    url: Where,
    output: Annotated[
        Path, Option("--output", "-o", help="The file to write; one that is there is replaced.", dir_okay=False)
    ] = Path("report.html"),
    snapshots: Annotated[
        str | None, Option(metavar="URL", help="Where its snapshots are, to show how it grows.")
    ] = None,
    capacity: Annotated[str | None, Option(metavar="SIZE", help="Of its disk, such as 1TB: when is it full?")] = None,
    no_cache: Annotated[bool, Option("--no-cache", help="Read everything from the registry.")] = False,
) -> None:
    """Write what a registry or its storage holds as one HTML file that needs no network, and print its path.

    Exit code 0: written, 1: error, 4: written, but something could not be read.
    """
    from regnb.pages.report import report as report_  # noqa: PLC0415 -- an extra

    if capacity is not None:
        parse_size(capacity)
        if snapshots is None:
            raise InvalidArgument("without snapshots nothing is known of growth", hint="add --snapshots URL")
    make_folder(output.parent)
    inventory = read(url, cached=not no_cache, connect=connected)
    found = growth_(snapshots, registry=inventory.registry) if snapshots is not None else None
    words = ["regnb", "report", shown(url), "-o", output.name]
    words += ["--snapshots", shown(snapshots)] if snapshots else []
    words += ["--capacity", capacity] if capacity else []
    text = report_(inventory, growth=found, capacity=capacity, command=shlex.join(words))
    with file_errors(f"write {output}", "name another file with -o"):
        output.write_text(text, encoding="utf-8")
    typer.echo(output)
    _leave([], inventory)


def _assigned(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"{shown(text)[:100]!r} gives no parameter a value", hint="write -p name=value")
    return name.strip(), value


def _defaults(runbook: Runbook) -> str:
    """Return the parameters as they are given, those of many lines without them."""
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in runbook.parameters.items()
    }
    return "  ".join(f"{name}={'…' if chr(10) in text else text}" for name, text in texts.items())


@app.command()
def serve(
    folder: Annotated[Path, Argument(help="A registry's storage folder; made if it is not there.")],
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on; 0 for a free one.", min=0, max=65535)] = 5000,
    read_only: Annotated[bool, Option("--read-only", help="Refuse every write.")] = False,
) -> None:
    """Run the embedded registry over a folder, in the layout that CNCF distribution uses."""
    from regnb.local import embedded  # noqa: PLC0415 -- an extra

    def ready(url: str) -> None:
        say(f"Serving {folder} at {url} (Ctrl-C ends it)")

    with suppress(KeyboardInterrupt):
        embedded.serve(folder, host=host, port=port, read_only=read_only, ready=ready)


@app.command()
def demo(
    lab: Annotated[bool, Option(help="Open JupyterLab, or stop after the audit.")] = True,
    folder: Annotated[Path | None, Option(help="Keep the notebooks here; default: a temporary folder.")] = None,
    data: Annotated[Path | None, Option(help="Keep the registry here; default: a temporary folder.")] = None,
    port: Annotated[int, Option(help="Of the registry; 0 for a free one.", min=0, max=65535)] = 0,
    serve: Annotated[bool, Option("--serve", help="Only serve the registry, until Ctrl-C.")] = False,
) -> None:
    """Start the embedded registry with sample images, audit it, and open JupyterLab on it."""
    from regnb.local.sandbox import demo_registry  # noqa: PLC0415 -- an extra

    with demo_registry(data, port) as found:
        if serve:
            say(f"Serving the demo registry at {found.url} (Ctrl-C ends it)")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            return
        with connect(found.url, cache=False) as registry:
            show(registry.inventory())
        if lab:
            from regnb.notebooks.lab import open_lab  # noqa: PLC0415 -- an extra

            open_lab(folder, surroundings=environment(found.url) | found.environment)


@_command
def lab(
    surrounded: Surrounded,
    url: Annotated[str, Argument(help="The registry; can be given later, too.", envvar="REGNB_URL")] = "",
    folder: Annotated[Path, Option(help="Where the notebooks are kept, to be edited.")] = Path("regnb-notebooks"),
    storage: Annotated[str, Option(help="The registry's storage, if it can be read.")] = "",
    snapshots: Annotated[str, Option(help="Where its snapshots are kept.")] = "",
    update: Annotated[
        bool, Option("--update", help="Take newer notebooks where nobody edited, and show how edited ones differ.")
    ] = False,
    browser: Annotated[bool, Option(help="Open a browser.")] = True,
    port: Annotated[int | None, Option(help="Port to listen on; default: a free one.", min=1, max=65535)] = None,
) -> None:
    """Copy the notebooks into a folder of yours, unless they are there, and open JupyterLab on the first one.

    What you have edited is never overwritten. With --update nothing is opened.
    """
    from regnb.notebooks import lab as lab_  # noqa: PLC0415 -- an extra

    done = lab_.copy_notebooks(folder, update=update)
    for state, text in _COPIED.items():
        if names := [name for name, found in done.items() if found == state]:
            say(f"{text}: {', '.join(names)}")
    if update:
        for name in (name for name, state in done.items() if state == "edited"):
            typer.echo(lab_.difference(folder, name))
        return
    known = {"REGNB_STORAGE": storage, "REGNB_SNAPSHOTS": snapshots}
    surroundings = surrounded(url) | {name: value for name, value in known.items() if value}
    lab_.open_lab(folder, surroundings=surroundings, browser=browser, port=port)


_COPIED: Final = {
    "new": "Copied",
    "updated": "Updated",
    "older": "There are newer ones, which --update takes, of",
    "edited": "Edited by you, and left as they are although there are newer ones (--update shows how they differ)",
}
"""What became of notebooks, in words."""


@_command
def ui(
    surrounded: Surrounded,
    registry_: Annotated[
        str, Option("--registry", metavar="URL", help="The registry.", envvar="REGNB_URL", show_envvar=True)
    ] = "",
    storage: Annotated[str, Option(help="The registry's storage, if it can be read.")] = "",
    snapshots: Annotated[str, Option(help="Where its snapshots are kept.")] = "",
    base_url: Annotated[str, Option(help="Prefix of every page, as a proxy or an Ingress passes it on.")] = "/ui/",
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    allow_writes: Annotated[
        bool, Option("--allow-writes", help="Let the forms apply plans. It takes a token in REGNB_UI_TOKEN.")
    ] = False,
    idle: Annotated[int, Option(help="Seconds after which a page that nobody looks at ends.", min=5)] = 600,
    pages: Annotated[int, Option(help="Pages that may be open at once.", min=1)] = 20,
) -> None:
    """Serve the notebooks as web pages: read-only, unless writing is allowed to those who know a token.

    With a token in the environment's REGNB_UI_TOKEN a visitor is asked for it.
    """
    from regnb.pages import ui as ui_  # noqa: PLC0415 -- an extra

    known = {"REGNB_STORAGE": storage, "REGNB_SNAPSHOTS": snapshots}
    ui_.serve(
        surrounded(registry_) | {name: value for name, value in known.items() if value},
        base_url=base_url,
        host=host,
        port=port,
        allow_writes=allow_writes,
        token=os.environ.get(ui_.TOKEN, ""),
        idle=idle,
        pages=pages,
        ready=lambda where: say(f"Serving regnb at {where} (Ctrl-C ends it)"),
    )


@_command
def health(
    registry: Registry,
    probe: Annotated[
        bool, Option("--probe", help="Ask whether it deletes: a DELETE of a digest and a tag that are not there.")
    ] = False,
    json_: Json = False,
) -> None:
    """Tell how a registry is: API, authentication, catalog, referrers, and, if asked for, whether it deletes.

    Exit code 0: it is well, or has warnings; 1: it is not.
    """
    found = registry.health(probe=probe)
    _print(found, json_)
    if (found["state"] == "fail").any():
        raise typer.Exit(ERROR)


@cache_app.command("clear")
def cache_clear() -> None:
    """Forget every cached manifest and config."""
    with closing(Cache(Cache.folder())) as cache:
        typer.echo(f"Forgot {human(cache.clear())} of manifests and configs.")


@cache_app.command("info")
def cache_info() -> None:
    """Print where the cache is, and how much it holds."""
    with closing(Cache(Cache.folder())) as cache:
        typer.echo(f"{cache.path or 'in memory'}: {human(cache.size)}")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"regnb {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: every error is one message and a hint, never a traceback."""
    try:
        app()
    except RegnbError as error:
        err.print(f"[red]Error:[/] {escape(error.message)}", soft_wrap=True)
        if error.hint:
            err.print(f"[yellow]Hint:[/] {escape(error.hint)}", soft_wrap=True)
        sys.exit(ERROR)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(OK)

"""The command line: the same calls as in Python, with tables, JSON and honest exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, Protocol, TypeAlias

from regnb.errors import BrokenReceipt, InvalidArgument, MissingExtra, RegnbError

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ImportError as error:
    raise MissingExtra(error.name or "typer", "cli") from None

from regnb import __version__, frames
from regnb.cache import Cache
from regnb.frames import Frame, human
from regnb.inventory import Inventory
from regnb.journal import Receipt, receipts
from regnb.plan import ALLOWANCES, Plan
from regnb.registry import Interrupted, Registry, connect

OK: Final = 0
ERROR: Final = 1
INCOMPLETE: Final = 4
INTERRUPTED: Final = 130

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

# A pipe or a log has no width: there a table must not be folded to that of an old terminal.
out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
err = Console(stderr=True, highlight=False)

Url = Annotated[str, typer.Argument(help="http://host:port or https://host", envvar="REGNB_URL", show_envvar=True)]
Ref = Annotated[str, typer.Argument(help="repository:tag or repository@digest")]
What = Annotated[
    list[str], typer.Argument(metavar="REFERENCE", help="repository:tag, repository@digest, or a glob in quotes.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on standard output.")]
Referrers = Annotated[
    bool, typer.Option("--referrers/--no-referrers", help="Whether signatures, SBOMs and other referrers come along.")
]
InUse = Annotated[
    str | None,
    typer.Option(
        "--in-use",
        help="What runs stays: what kubectl get pods -A -o json printed (a file, or - for standard input), or cluster.",
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help=f"Allow what is refused else: {', '.join(ALLOWANCES)}. Again for more."),
]


def _password(user: str, variable: str, prompt: str) -> str | None:
    if not user:
        return None
    return os.environ.get(variable) or str(typer.prompt(prompt, hide_input=True, err=True))


# The functions whose names stand in _SHARED are handed to commands; their keyword-only options become the command's.


@contextmanager
def _connected(
    url: str,
    *,
    user: Annotated[
        str, typer.Option("--user", "-u", help="User name; the password is read from REGNB_PASSWORD or a prompt.")
    ] = "",
    ca_bundle: Annotated[
        Path | None, typer.Option("--ca-bundle", help="Certificates to trust.", dir_okay=False)
    ] = None,
    client_cert: Annotated[
        Path | None, typer.Option("--client-cert", help="Certificate and key in one file.", dir_okay=False)
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Accept any certificate.")] = False,
) -> Iterator[Registry]:
    """Connect to the registry that the command is about."""
    try:
        with connect(
            url,
            username=user or None,
            password=_password(user, "REGNB_PASSWORD", "Password"),
            ca_bundle=ca_bundle,
            client_cert=client_cert,
            insecure=insecure,
        ) as registry:
            yield registry
    except Interrupted as error:
        err.print(str(error), markup=False)
        if error.receipt:
            err.print(f"To go on: regnb apply --resume {error.receipt}", markup=False)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _sourced(
    url: str,
    *,
    from_user: Annotated[
        str, typer.Option(help="User name at the source; the password is read from REGNB_SOURCE_PASSWORD or a prompt.")
    ] = "",
    from_ca_bundle: Annotated[
        Path | None, typer.Option(help="Certificates to trust at the source.", dir_okay=False)
    ] = None,
    from_insecure: Annotated[bool, typer.Option("--from-insecure", help="Accept any certificate there.")] = False,
) -> Iterator[Registry | None]:
    """Connect to the registry that a copy reads from, if it is another one."""
    if not url:
        yield None
        return
    with connect(
        url,
        username=from_user or None,
        password=_password(from_user, "REGNB_SOURCE_PASSWORD", "Password at the source"),
        ca_bundle=from_ca_bundle,
        insecure=from_insecure,
    ) as source:
        yield source


def _present(
    registry: Registry,
    plan: Plan,
    source: Registry | None = None,
    *,
    plan_out: Annotated[
        Path | None, typer.Option("--plan-out", help="Write the plan into this file, for regnb apply.", dir_okay=False)
    ] = None,
    curl: Annotated[bool, typer.Option("--curl", help="Print the same as curl commands, and write nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the rows as JSON lines, and write nothing.")] = False,
) -> None:
    """Print a plan; write it into a file if that was asked for, else apply it if its code is typed at a terminal."""
    if json_:
        _jsonl(plan.to_frame())
    elif curl:
        typer.echo(_script(plan))
    else:
        show_plan(plan)
    if plan_out is not None:
        plan.save(plan_out)
        err.print(
            f"To apply it: regnb apply {shlex.quote(str(plan_out))} --confirm {plan.code}", markup=False, soft_wrap=True
        )
    elif not plan.changes or json_ or curl:
        return
    elif sys.stdin.isatty() and sys.stdout.isatty():
        typed = typer.prompt(f"Type {plan.code} to apply, anything else to leave it", default="", show_default=False)
        if typed == plan.code:
            _finish(registry.apply(plan, confirm=typed, source=source))
        err.print("Nothing was written.")
    else:
        err.print("Nothing was written. With --plan-out FILE the plan is kept for regnb apply.")


_SHARED: Final[dict[str, Callable[..., Any]]] = {"present": _present, "sourced": _sourced, "connected": _connected}
Connected: TypeAlias = Callable[[str], AbstractContextManager[Registry]]
Sourced: TypeAlias = Callable[[str], AbstractContextManager[Registry | None]]


class Present(Protocol):
    """What shows a plan, with its options bound."""

    def __call__(self, registry: Registry, plan: Plan, source: Registry | None = None) -> None:
        """Print it, and so on."""


def _command(work: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function: what several commands need is handed to it by name, and its options come along.

    ``registry`` is the one at the URL, which becomes the first argument; the other names are those of _SHARED.
    """
    own = dict(inspect.signature(work, eval_str=True).parameters)
    at_url = own.pop("registry", None) is not None
    shared = {
        name: [
            each
            for each in inspect.signature(helper, eval_str=True).parameters.values()
            if each.kind == each.KEYWORD_ONLY
        ]
        for name, helper in _SHARED.items()
        if own.pop(name, None) or (at_url and name == "connected")
    }

    @functools.wraps(work)
    def run(**given: Any) -> None:  # noqa: ANN401 -- what the signature below says
        bound = {
            name: functools.partial(_SHARED[name], **{each.name: given.pop(each.name) for each in options})
            for name, options in shared.items()
        }
        if not at_url:
            return work(**bound, **given)
        with bound.pop("connected")(given.pop("url")) as registry:
            return work(registry, **bound, **given)

    url = inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, annotation=Url)
    options = (each for options in shared.values() for each in options)
    parameters = [
        *([url] if at_url else []),
        *(each.replace(kind=each.KEYWORD_ONLY) for each in own.values()),
        *options,
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return app.command()(run)


def _jsonl(frame: Frame) -> None:
    sys.stdout.write(frames.json_lines(frame))


def _table(frame: Frame, title: str = "", limit: int = 20) -> Table:
    """Return a frame as a table for the terminal: readable cells, numbers to the right, cut with a word about it."""
    text, _ = frame.head(limit).readable()
    caption = f"{len(frame) - limit:,} more rows" if len(frame) > limit else None
    table = Table(title=title or None, title_justify="left", caption=caption, header_style="bold", box=None)
    for name in text.columns:
        number = str(frame[name].dtype).startswith("int")
        table.add_column(str(name), justify="right" if number else "left", overflow="fold")
    for row in text.itertuples(index=False, name=None):
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def show(inventory: Inventory) -> None:
    """Print an audit: totals, repositories, what is shared, and what could not be read."""
    found = inventory.summary
    bound = "" if found.complete else "at least "
    out.print(f"[bold]{escape(found.registry)}[/]  {found.repositories:,} repositories, {found.tags:,} tags")
    out.print(
        f"{found.manifests:,} manifests, {found.blobs:,} blobs: [bold]{bound}{human(found.stored)}[/] behind tags "
        f"({human(found.pulled)} if nothing were shared)\n"
    )
    largest = inventory.repositories.sort_values("size", ascending=False, ignore_index=True)
    out.print(_table(largest.drop(columns=["manifests", "complete"]), "Repositories, largest first"))
    for frame, dropped, title, limit in (
        (inventory.sharing.tags, [], "Tags on one digest", 10),
        (inventory.sharing.layers, ["command", "tags"], "Shared layers, by the bytes that sharing saves", 10),
        (inventory.problems, ["incomplete"], "Problems", 50),
    ):
        if len(frame):
            out.print()
            out.print(_table(frame.drop(columns=dropped), title, limit))
    out.print()
    if inventory.complete:
        out.print("[green]Complete[/]: everything that was listed was read.")
    else:
        out.print("[yellow]Incomplete[/]: something that was listed could not be read. Coverage:")
        out.print(_table(inventory.coverage))
    out.print("[dim]Manifests without a tag cannot be seen over HTTP and are not counted.[/]")


@_command
def audit(
    registry: Registry,
    repositories: Annotated[
        list[str] | None, typer.Option("--repository", "-r", help="A name or a glob; again for more. Default: all.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write every frame into this folder.")] = None,
    form: Annotated[str, typer.Option("--format", help="Of the files: parquet, csv or jsonl.")] = "parquet",
    json_: Json = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Read everything from the registry.")] = False,
) -> None:
    """Read a registry and print what it holds. Exit code 0: complete, 1: error, 4: something could not be read."""
    form_ = frames.check_format(form)
    if output is not None:
        frames.make_folder(output)
    inventory = registry.inventory(repositories, cached=not no_cache)
    if json_:
        document: dict[str, Any] = inventory.summary._asdict()
        for name in ("repositories", "problems", "coverage"):
            document[name] = json.loads(inventory.frames[name].to_json(orient="records", date_format="iso"))
        typer.echo(json.dumps(document, indent=2))
    else:
        show(inventory)
    if output is not None:
        paths = inventory.write(output, form_)
        err.print(f"Wrote {len(paths)} frames to {output}", markup=False)
    raise typer.Exit(OK if inventory.complete else INCOMPLETE)


def _print(frame: Frame, json_: bool) -> None:
    if json_:
        _jsonl(frame)
    else:
        out.print(_table(frame, limit=len(frame)))


@_command
def catalog(
    registry: Registry,
    json_: Json = False,
) -> None:
    """List the repositories."""
    _print(registry.catalog(), json_)


@_command
def tags(
    registry: Registry,
    repository: Annotated[str, typer.Argument(help="A repository's name.")],
    json_: Json = False,
) -> None:
    """List the tags of a repository."""
    _print(registry.tags(repository), json_)


@_command
def digest(
    registry: Registry,
    reference: Ref,
) -> None:
    """Print the digest that a tag points at."""
    typer.echo(registry.digest(reference))


@_command
def manifest(
    registry: Registry,
    reference: Ref,
) -> None:
    """Print a manifest, byte for byte."""
    sys.stdout.buffer.write(registry.manifest(reference).raw)


@_command
def layers(
    registry: Registry,
    reference: Ref,
    json_: Json = False,
) -> None:
    """List the layers of an image, their sizes and the commands that made them."""
    _print(registry.layers(reference), json_)


def show_plan(plan: Plan) -> None:
    """Print a plan: what it does in a sentence, what else it touches, and its rows, those that keep something last."""
    out.print(f"[bold]{escape(plan.summary())}[/]")
    for note in plan.notes:
        out.print(f"- {note}", markup=False)
    if len(blast := plan.blast):
        out.print()
        out.print(_table(blast, "What else this touches", 50))
    rows = plan.to_frame().drop(columns="curl")
    out.print()
    out.print(_table(rows.sort_values("action", key=lambda action: action == "keep", kind="stable"), "Rows"))
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
    if len(rest):
        out.print(_table(rest, "Not done"))
    if rows["status"].isin(["done", "failed", "unknown"]).any():
        out.print(f"To take it back, until the registry's next garbage collection: regnb undo {receipt.name}")
    raise typer.Exit(OK if receipt.status == "done" else INCOMPLETE)


@_command
def retag(
    registry: Registry,
    present: Present,
    what: What,
    tag: Annotated[str, typer.Option("--tag", "-t", help="The new tag; for several, a pattern such as {tag}-old.")],
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
    to: Annotated[
        str, typer.Option("--to", help="A repository, repository:tag, or such as mirror/{repository}:{tag}.")
    ],
    source: Annotated[str, typer.Option("--from", help="URL of the registry to read from; default: URL itself.")] = "",
    platform: Annotated[str | None, typer.Option(help="Of an index only this image, such as linux/arm64.")] = None,
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
    what: Annotated[str, typer.Argument(metavar="OLD", help="A repository, or repository:tag.")],
    to: Annotated[str, typer.Argument(metavar="NEW", help="A repository; or repository:tag, or a tag alone.")],
    allow: Allow = None,
) -> None:
    """Rename a repository or a tag: copy, verify, then remove only what was renamed."""
    present(registry, registry.plan_rename(what, to, allow=allow or ()))


@_command
def delete(
    registry: Registry,
    present: Present,
    what: What,
    children: Annotated[
        bool, typer.Option("--children/--no-children", help="Whether an index takes along what nothing else needs.")
    ] = True,
    referrers: Referrers = True,
    in_use: InUse = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Read the whole registry first, to see what shares layers elsewhere.")
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
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="A TOML file.", dir_okay=False)],
    in_use: InUse = None,
    allow: Allow = None,
) -> None:
    """Delete what a policy does not keep; every row says why it is kept or removed."""
    present(registry, registry.plan_retention(policy, in_use=in_use, allow=allow or ()))


@_command
def apply(
    connected: Connected,
    sourced: Sourced,
    plan: Annotated[Path | None, typer.Argument(metavar="PLAN", help="What --plan-out wrote.", dir_okay=False)] = None,
    confirm: Annotated[str, typer.Option("--confirm", help="The plan's digest, or its code.")] = "",
    resume: Annotated[
        str, typer.Option("--resume", metavar="RECEIPT", help="Go on with a plan that was cut short.")
    ] = "",
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
    receipt: Annotated[str, typer.Argument(help="A receipt's name, or its file.")],
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
def receipt_show(
    name: Annotated[str, typer.Argument(help="A receipt's name, or its file.")],
    json_: Json = False,
) -> None:
    """Print what became of every row of a plan."""
    receipt = Receipt.load(name)
    if not json_:
        out.print(f"[bold]{escape(receipt.plan.summary())}[/]")
        out.print(f"{receipt.status}, by {escape(receipt.who)}, confirmed as {receipt.plan.code}")
        out.print()
    _print(receipt.to_frame(), json_)


@receipt_app.command("verify")
def receipt_verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names or files; by default every receipt.")] = None,
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


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="A registry's storage folder; made if it is not there.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for a free one.", min=0, max=65535)] = 5000,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every write.")] = False,
) -> None:
    """Run the embedded registry over a folder, in the layout that CNCF distribution uses."""
    from regnb import embedded  # noqa: PLC0415 -- an extra

    def ready(url: str) -> None:
        err.print(f"Serving {folder} at {url} (Ctrl-C ends it)", markup=False)

    with suppress(KeyboardInterrupt):
        embedded.serve(folder, host=host, port=port, read_only=read_only, ready=ready)


@app.command()
def demo(
    lab: Annotated[bool, typer.Option("--lab/--no-lab", help="Open JupyterLab, or stop after the audit.")] = True,
    folder: Annotated[Path | None, typer.Option(help="Keep the notebooks here; default: a temporary folder.")] = None,
) -> None:
    """Start the embedded registry with sample images, audit it, and open JupyterLab on it."""
    from regnb import lab as lab_  # noqa: PLC0415 -- an extra

    with lab_.demo_registry() as url:
        with connect(url, cache=False) as registry:
            show(registry.inventory())
        if lab:
            lab_.open_lab(url, folder)


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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
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

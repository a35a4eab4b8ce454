"""The command line: the same calls as in Python, with tables, JSON and honest exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Final

from regnb.errors import MissingExtra, RegnbError

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
from regnb.registry import Interrupted, Registry, connect

OK: Final = 0
ERROR: Final = 1
INCOMPLETE: Final = 4
INTERRUPTED: Final = 130

app = typer.Typer(
    help="Container registries as DataFrames: audit, inspect, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(help="The cache of manifests and configs.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

# A pipe or a log has no width: there a table must not be folded to that of an old terminal.
out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
err = Console(stderr=True, highlight=False)

Url = Annotated[str, typer.Argument(help="http://host:port or https://host", envvar="REGNB_URL", show_envvar=True)]
Ref = Annotated[str, typer.Argument(help="repository:tag or repository@digest")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on standard output.")]


@contextmanager
def _connected(
    url: Url,
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
    password: str | None = None
    if user:
        password = os.environ.get("REGNB_PASSWORD") or typer.prompt("Password", hide_input=True, err=True)
    try:
        with connect(
            url,
            username=user or None,
            password=password,
            ca_bundle=ca_bundle,
            client_cert=client_cert,
            insecure=insecure,
        ) as registry:
            yield registry
    except Interrupted as error:
        err.print(str(error), markup=False)
        raise typer.Exit(INTERRUPTED) from None


def _command(work: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function of a registry: it gets the URL, and the options that say how to reach it."""
    reach = inspect.signature(_connected, eval_str=True).parameters
    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]

    @functools.wraps(work)
    def run(**options: Any) -> None:  # noqa: ANN401 -- what the signature below says
        with _connected(**{name: options.pop(name) for name in reach}) as registry:
            work(registry, **options)

    url, *how = reach.values()
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (url, *own, *how)]
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
    columns = ["repository", "status", "tags", "size", "exclusive", "pull_size", "newest"]
    largest = inventory.repositories.sort_values("size", ascending=False, ignore_index=True)[columns]
    out.print(_table(largest, "Repositories, largest first"))
    if len(tags := inventory.sharing.tags):
        out.print()
        out.print(
            _table(tags[["digest", "kind", "size", "tags", "repositories", "references"]], "Tags on one digest", 10)
        )
    if len(layers := inventory.sharing.layers):
        out.print()
        columns = ["digest", "size", "manifests", "repositories", "saved", "used_by"]
        out.print(_table(layers[columns], "Shared layers, by the bytes that sharing saves", 10))
    if len(inventory.problems):
        out.print()
        columns = ["repository", "reference", "problem", "message", "hint"]
        out.print(_table(inventory.problems[columns], "Problems", 50))
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
    with _cache() as cache:
        typer.echo(f"Forgot {human(cache.clear())} of manifests and configs.")


@cache_app.command("info")
def cache_info() -> None:
    """Print where the cache is, and how much it holds."""
    with _cache() as cache:
        typer.echo(f"{cache.path or 'in memory'}: {human(cache.size)}")


@contextmanager
def _cache() -> Iterator[Cache]:
    cache = Cache(Cache.folder())
    try:
        yield cache
    finally:
        cache.close()


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

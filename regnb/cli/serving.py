"""Commands that serve something until they are interrupted."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer
from typer import Argument, Option

from regnb.cli.audit import show_inventory
from regnb.cli.command import Surrounded, command_of
from regnb.cli.terminal import (
    say,
)
from regnb.environment import environment
from regnb.registry import connect
from regnb.text import parse_size

_COPIED: Final = {
    "new": "Copied",
    "updated": "Updated",
    "older": "There are newer ones, which --update takes, of",
    "edited": "Edited by you, and left as they are although there are newer ones (--update shows how they differ)",
}
"""What became of notebooks, in words."""

HostNames = Annotated[
    list[str] | None,
    Option("--host-name", metavar="NAME", help="Answer to this host name too, such as r.example.com (repeatable)."),
]

AllowOpen = Annotated[
    bool,
    Option("--allow-open", help="Run JupyterLab without a token: everyone who can reach it can run programs as you."),
]

app = typer.Typer()
command = command_of(app)


@command
def serve(
    folder: Annotated[Path, Argument(help="A registry's storage folder; it is created if missing.")],
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on; 0 for a free one.", min=0, max=65535)] = 5000,
    host_name: HostNames = None,
    max_upload: Annotated[str, Option(metavar="SIZE", help="Refuse blobs larger than this.")] = "20GB",
    read_only: Annotated[bool, Option("--read-only", help="Refuse every write.")] = False,
) -> None:
    """Run the embedded registry over a folder, in the layout that CNCF distribution uses."""
    from regnb.local import embedded  # an extra

    def ready(url: str) -> None:
        say(f"Serving {folder} at {url} (Ctrl-C ends it)")

    with suppress(KeyboardInterrupt):
        embedded.serve(
            folder,
            host=host,
            port=port,
            names=host_name or (),
            read_only=read_only,
            limit=parse_size(max_upload),
            ready=ready,
        )


@command
def demo(
    lab: Annotated[bool, Option(help="Open JupyterLab, or stop after the audit.")] = True,
    folder: Annotated[Path | None, Option(help="Keep the notebooks here; default: a temporary folder.")] = None,
    data: Annotated[Path | None, Option(help="Keep the registry here; default: a temporary folder.")] = None,
    port: Annotated[int, Option(help="Port of the registry; 0 for a free one.", min=0, max=65535)] = 0,
    serve: Annotated[bool, Option("--serve", help="Only serve the registry, until Ctrl-C.")] = False,
    like_2_8: Annotated[
        bool,
        Option("--like-2.8", help="Answer as distribution 2.8: no deletion of single tags, no referrers endpoint."),
    ] = False,
    no_delete: Annotated[bool, Option("--no-delete", help="Refuse every deletion.")] = False,
    damaged: Annotated[bool, Option("--damaged", help="Damage one tag, to see how regnb shows it.")] = False,
    allow_open: AllowOpen = False,
) -> None:
    """Start the embedded registry with sample images, audit it, and open JupyterLab on it."""
    from regnb.local.sandbox import demo_registry  # an extra

    with demo_registry(data, port, damaged=damaged, delete=not no_delete, like_2_8=like_2_8) as found:
        if serve:
            say(f"Serving the demo registry at {found.url} (Ctrl-C ends it)")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            return
        say(f"The demo registry listens at {found.url}")
        with connect(found.url, cache=False) as registry:
            show_inventory(registry.inventory())
        if lab:
            from regnb.notebooks.lab import open_lab  # an extra

            open_lab(folder, surroundings=environment(found.url) | found.environment, allow_open=allow_open)


@command
def lab(
    surrounded: Surrounded,
    url: Annotated[
        str, Argument(metavar="URL", help="The registry; the first notebook also asks for it.", envvar="REGNB_URL")
    ] = "",
    folder: Annotated[Path, Option(help="Keep the editable notebooks in this folder.")] = Path("regnb-notebooks"),
    storage: Annotated[
        str, Option(metavar="DIR|URL", help="Read the registry's storage here.", envvar="REGNB_STORAGE")
    ] = "",
    snapshots: Annotated[
        str, Option(metavar="DIR|URL", help="Read the registry's snapshots here.", envvar="REGNB_SNAPSHOTS")
    ] = "",
    update: Annotated[
        bool, Option("--update", help="Replace unedited notebooks by newer ones, and show how edited ones differ.")
    ] = False,
    browser: Annotated[bool, Option(help="Open a browser.")] = True,
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    allow_open: AllowOpen = False,
    port: Annotated[int | None, Option(help="Port to listen on; default: a free one.", min=1, max=65535)] = None,
) -> None:
    """Copy the notebooks into a folder of yours, unless they are there, and open JupyterLab on the first one.

    Edited notebooks are never overwritten. With --update, JupyterLab is not opened.
    """
    from regnb.notebooks import lab as lab_  # an extra

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
    lab_.open_lab(folder, surroundings=surroundings, browser=browser, host=host, port=port, allow_open=allow_open)


@command
def ui(
    surrounded: Surrounded,
    registry_: Annotated[
        str, Option("--registry", metavar="URL", help="The registry.", envvar="REGNB_URL", show_envvar=True)
    ] = "",
    storage: Annotated[
        str, Option(metavar="DIR|URL", help="Read the registry's storage here.", envvar="REGNB_STORAGE")
    ] = "",
    snapshots: Annotated[
        str, Option(metavar="DIR|URL", help="Read the registry's snapshots here.", envvar="REGNB_SNAPSHOTS")
    ] = "",
    base_url: Annotated[str, Option(help="Prefix of every page, as a proxy or an Ingress passes it on.")] = "/ui/",
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on.", min=1, max=65535)] = 8000,
    host_name: HostNames = None,
    trusted_proxy: Annotated[
        list[str] | None,
        Option(help="Believe X-Forwarded-For and X-Forwarded-Proto of this proxy, such as 10.42.0.0/16 (repeatable)."),
    ] = None,
    hsts: Annotated[bool, Option("--hsts", help="Tell browsers to use https only, from now on.")] = False,
    token_file: Annotated[
        list[str] | None,
        Option(help="Ask visitors for the token in this file (- for standard input); it lets them read (repeatable)."),
    ] = None,
    write_token_file: Annotated[
        list[str] | None,
        Option(help="Let visitors with the token in this file (- for standard input) apply plans (repeatable)."),
    ] = None,
    allow_writes: Annotated[
        bool, Option("--allow-writes", help="Let the forms apply plans. --write-token-file implies this.")
    ] = False,
    idle: Annotated[int, Option(help="Close a page that nobody looks at after this many seconds.", min=5)] = 600,
    pages: Annotated[int, Option(help="Pages that may be open at once.", min=1)] = 20,
    pages_each: Annotated[int, Option(help="Pages that one visitor may have open at once.", min=1)] = 10,
    fresh: Annotated[int, Option(help="Reuse what another page has read within this many seconds.", min=0)] = 60,
    prometheus: Annotated[
        Path | None,
        Option(metavar="FILE", help="Serve this file, which regnb audit --prometheus wrote, at /ui/metrics."),
    ] = None,
    report: Annotated[
        Path | None, Option(metavar="FILE", help="Serve this file, which regnb report -o wrote, at /ui/report.")
    ] = None,
) -> None:
    """Serve the notebooks as web pages: read-only, except for visitors with a write token.

    With a token file, visitors are asked for a token. Receipts name the token's file and the visitor's address.
    """
    from regnb.pages import token as token_
    from regnb.pages import ui as ui_  # an extra

    known = {"REGNB_STORAGE": storage, "REGNB_SNAPSHOTS": snapshots}
    ui_.serve(
        surrounded(registry_) | {name: value for name, value in known.items() if value},
        base_url=base_url,
        host=host,
        port=port,
        names=host_name or (),
        proxies=trusted_proxy or (),
        hsts=hsts,
        allow_writes=allow_writes,
        tokens=token_.read(token_file or (), write_token_file or ()),
        idle=idle,
        pages=pages,
        each=pages_each,
        fresh=fresh,
        prometheus=prometheus,
        report=report,
        ready=lambda where: say(f"Serving regnb at {where} (Ctrl-C ends it)"),
    )

"""Commands that show tags, manifests and layers, and ``regnb request``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from regnb.cli.checks import Allow
from regnb.cli.command import Connected, Present, command_of
from regnb.cli.options import Ref
from regnb.cli.terminal import (
    Json,
    listing,
    show,
)
from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument
from regnb.registry import Registry
from regnb.wire.exchange import READS, headers_of

app = typer.Typer()
command = command_of(app)


@command
def catalog(registry: Registry, json_: Json = False) -> None:
    """List the repositories."""
    listing(json_, repository=registry.repository_names())


@command
def tags(
    registry: Registry, repository: Annotated[str, Argument(help="A repository's name.")], json_: Json = False
) -> None:
    """List the tags of a repository."""
    found = registry.tag_names(repository)
    listing(json_, repository=[repository] * len(found), tag=found)


@command
def digest(registry: Registry, reference: Ref) -> None:
    """Print the digest that a tag points at."""
    typer.echo(registry.digest(reference))


@command
def manifest(registry: Registry, reference: Ref) -> None:
    """Print a manifest, byte for byte."""
    sys.stdout.buffer.write(registry.manifest(reference).raw)


@command
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


@command
def layers(registry: Registry, reference: Ref, json_: Json = False) -> None:
    """List the layers of an image, their sizes and the commands that made them."""
    show(registry.layers(reference), json_)

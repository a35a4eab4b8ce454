"""Commands that show tags, manifests and layers, and ``regnb request``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer import Argument, Option

from regnb.cli.checks import Allow
from regnb.cli.command import Connected, Present, command_of
from regnb.cli.options import Ref, Repositories, Repository
from regnb.cli.terminal import (
    Json,
    listing,
    out,
    say,
    section,
    show,
)
from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument, RegistryError
from regnb.registry import Registry
from regnb.wire.client import CATALOG_HINT
from regnb.wire.exchange import READS, headers_of
from regnb.wire.pasted import pasted

app = typer.Typer()
command = command_of(app)


@command
def catalog(registry: Registry, json_: Json = "") -> None:
    """List the repositories."""
    try:
        names = registry.repository_names()
    except RegistryError as error:
        hint = error.hint.replace(CATALOG_HINT, "ask for the tags of one that you know: regnb tags URL REPOSITORY")
        raise error.saying(error.message, hint=hint) from None
    listing(json_, "repository", repository=names)


@command
def tags(registry: Registry, repository: Repository, json_: Json = "") -> None:
    """List the tags of a repository."""
    found = registry.tag_names(repository)
    listing(json_, "tag", repository=[repository] * len(found), tag=found)


@command
def digest(registry: Registry, reference: Ref, json_: Json = "") -> None:
    """Print the digest that a tag points to."""
    listing(json_, "digest", reference=[reference], digest=[registry.digest(reference)])


@command
def manifest(registry: Registry, reference: Ref) -> None:
    """Print a manifest, byte for byte."""
    sys.stdout.buffer.write(registry.manifest(reference).raw)


@command
def request(
    connected: Connected,
    present: Present,
    method: Annotated[
        str,
        Argument(
            metavar="METHOD",
            help="GET, HEAD or OPTIONS; PUT, DELETE and a mount make a plan. Or a quoted curl line.",
        ),
    ],
    path: Annotated[str, Argument(metavar="PATH", help="A path such as /v2/_catalog, or a whole URL.")] = "",
    url: Annotated[
        str, Option(help="The registry, if PATH does not name it.", envvar="REGNB_URL", show_envvar=True)
    ] = "",
    header: Annotated[
        list[str] | None,
        Option("--header", "-H", metavar="HEADER", help="Send a header, such as 'Accept: …' (repeatable)."),
    ] = None,
    data: Annotated[
        str, Option("--data", "-d", help="A manifest to PUT: @FILE, @- for standard input, or the text itself.")
    ] = "",
    include: Annotated[bool, Option("--include", "-i", help="Print status line and headers, too.")] = False,
    head: Annotated[bool, Option("--head", "-I", help="Send a HEAD, and print status line and headers.")] = False,
    allow: Allow = None,
) -> None:
    """Send a request as curl does and print the answer; a request that writes becomes a plan.

    Exit code 0: the status is below 400, 1: it is not, or there was no answer.
    """
    if method.split()[:1] == ["curl"] and not path:
        line = pasted(method)
        for note in line.notes:
            say(f"Note: {note}.")
        method, path = line.method, f"{line.url}{line.path}"
        header, data, include = [*line.headers, *(header or ())], line.data or data, include or line.include
    elif not path:
        raise InvalidArgument("no path was given", hint="write GET /v2/_catalog, or a curl line in quotes")
    headers, body = headers_of(header or ()), _data(data)
    scheme, _, rest = path.partition("://")
    with connected(url or (f"{scheme}://{rest.partition('/')[0]}" if rest else "")) as registry:
        method = "HEAD" if head else method.upper()
        if method not in READS:
            present(registry, registry.plan_request(method, path, headers=headers, body=body, allow=allow or ()))
        elif body:
            raise InvalidArgument(f"{method} cannot send data", hint="use PUT")
        else:
            present(registry, registry.request(method, path, headers=headers), include=include)


def _data(data: str) -> bytes:
    """Return what ``--data`` means: the bytes of a file or of standard input, or the text itself."""
    if not data.startswith("@"):
        return data.encode()
    with file_errors(f"read {data[1:]}"):
        return sys.stdin.buffer.read() if data == "@-" else Path(data[1:]).read_bytes()


@command
def image(
    registry: Registry,
    reference: Ref,
    other: Annotated[str, Option("--compare", metavar="REFERENCE", help="Print what differs from this image.")] = "",
    whole: Annotated[
        bool, Option("--whole", help="Read the whole registry, to see which other images share layers.")
    ] = False,
    repositories: Repositories = None,
    json_: Json = "",
) -> None:
    """Print one image: names, size, layers and the steps that made them, config, referrers, who shares it.

    --json and --csv print one table: the layers or, with --compare, the differences.
    """
    inventory = registry.inventory(repositories) if whole or repositories else None
    found = registry.image(reference, inventory=inventory)
    if other:
        show(found.compare(registry.image(other, inventory=inventory)), json_, f"{found.name} and {other}")
        return
    if json_:
        show(found.layers, json_)
        return
    for what, value in found.about.itertuples(index=False, name=None):
        out.print(f"[bold]{escape(what)}[/]: {escape(value)}", soft_wrap=True)
    section(found.layers.drop(columns=["media_type", *([] if len(found.parts) > 1 else ["platform"])]), "Layers", 100)
    for note in found.notes:
        out.print(f"- {escape(note)}")
    section(found.config.drop(columns=[] if len(found.parts) > 1 else ["platform"]), "How it runs", 100)
    section(found.referrers, "What refers to it")
    section(found.shared_with, "Who shares its layers")


@command
def layers(registry: Registry, reference: Ref, json_: Json = "") -> None:
    """List the layers of an image, their sizes and the commands that made them."""
    show(registry.layers(reference), json_)

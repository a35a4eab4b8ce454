"""The options and arguments that several commands have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

from regnb.change.options import OPTIONS
from regnb.environment import variable
from regnb.errors import RegnbError


def is_registry(word: str, known: str) -> bool:
    """Whether a word can only be a registry: a URL, an address, localhost, or the host of the registry that is known.

    Example:
        >>> is_registry("localhost:5000", ""), is_registry("vm/centos8:8", ""), is_registry("app:8", "http://app:8")
        (True, False, True)
    """
    if word.lower().startswith(("http://", "https://")):
        return True
    host, _, port = word.partition(":")
    address = host == "localhost" or re.fullmatch(r"\d+(\.\d+){3}", host) is not None
    mine = known.rpartition("://")[2].rpartition("@")[2].rstrip("/")
    return word == mine or (address and (port.isdecimal() or not port))


def known_repositories(ctx: Context, incomplete: str) -> list[str]:
    """Return the repositories that the cache knows of, to complete one."""
    return sorted({name for name, _ in _known(ctx, incomplete)})


def known_references(ctx: Context, incomplete: str) -> list[str]:
    """Return the repositories that the cache knows of; after a colon, the tags of one."""
    name, colon, tag = incomplete.partition(":")
    found = _known(ctx, name)
    if colon:
        return [f"{name}:{each}" for repository, each in found if repository == name and each.startswith(tag)]
    return sorted({f"{repository}:" for repository, _ in found})


def _known(ctx: Context, prefix: str) -> list[tuple[str, str]]:
    from regnb.wire.addresses import parse_registry
    from regnb.wire.cache import Cache

    try:
        _, host, _ = parse_registry(str(ctx.params.get("url") or variable("REGNB_URL")))
    except RegnbError:
        return []
    return Cache.known(host, prefix)


Url = Annotated[
    str,
    Argument(
        metavar="URL",
        help="The registry: http://host:port or https://host; or a layout or an archive, such as oci:DIR; or a storage "
        "to read from.",
        envvar="REGNB_URL",
    ),
]
Where = Annotated[
    str,
    Argument(
        metavar="URL|DIR",
        help="A registry, http://host:port; its storage, a folder or a URL such as s3://bucket/folder; oci:DIR[:TAG], "
        "oci-archive:FILE or docker-archive:FILE; or a snapshot.",
        envvar="REGNB_URL",
    ),
]
Repositories = Annotated[
    list[str] | None,
    Option(
        "--repository",
        "-r",
        metavar="NAME",
        help="Read only these repositories (repeatable): a name, a glob in quotes, @FILE with one on each line, or - "
        "for standard input. Names alone need no catalog.",
    ),
]
Repository = Annotated[
    str, Argument(metavar="REPOSITORY", help="A repository's name.", autocompletion=known_repositories)
]
Ref = Annotated[
    str,
    Argument(metavar="REFERENCE", help="repository:tag or repository@digest", autocompletion=known_references),
]
What = Annotated[
    list[str],
    Argument(
        metavar="REFERENCE...",
        help="repository:tag, repository@digest, or a glob in quotes.",
        autocompletion=known_references,
    ),
]
PlanOut = Annotated[Path | None, Option(help="Write the plan into this file, for regnb apply.", dir_okay=False)]
Probe = Annotated[
    bool,
    Option(
        "--probe",
        help="Ask first what the registry will refuse, with DELETE requests for a digest and a tag that do not exist.",
    ),
]
Children = Annotated[bool, Option(help=OPTIONS["children"])]
Blobs = Annotated[bool, Option("--blobs", help="List the blobs that would be removed, largest first.")]
Referrers = Annotated[bool, Option(help=OPTIONS["referrers"])]
NoCache = Annotated[bool, Option("--no-cache", help="Read everything from the registry.")]
Pulls = Annotated[
    Path | None,
    Option(
        "--pulls",
        metavar="FILE",
        help="File that regnb pulls or regnb listen wrote: when each tag was last pulled.",
        dir_okay=False,
    ),
]

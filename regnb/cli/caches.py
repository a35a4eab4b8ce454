"""``regnb cache``: the cache of manifests and configs, and of what is inside layers."""

from __future__ import annotations

from contextlib import closing

import typer

from regnb.cli.command import command_of
from regnb.cli.help import Group
from regnb.cli.terminal import Json, listing
from regnb.layers.kept import Kept
from regnb.text import human
from regnb.wire.cache import Cache

app = typer.Typer(
    cls=Group, help="Show or clear the cache of manifests, configs and layer listings.", no_args_is_help=True
)


@command_of(app, "clear")
def cache_clear() -> None:
    """Remove every cached manifest and config, and every listing of a layer."""
    with closing(Cache(Cache.folder())) as cache:
        listings = Kept(Cache.folder()).clear()
        typer.echo(
            f"Removed {human(cache.clear())} of manifests and configs, and {human(listings)} of listings of layers."
        )


@command_of(app, "info")
def cache_info(json_: Json = "") -> None:
    """Print where the cache is and its size."""
    with closing(Cache(Cache.folder())) as cache:
        where, size = str(cache.path or "in memory"), cache.size
    listings = Kept(Cache.folder())
    if json_:
        listing(json_, "cache", cache=[where, "listings of layers"], size=[size, listings.size])
    else:
        typer.echo(f"{where}: {human(size)}")
        typer.echo(f"listings of layers: {human(listings.size)}")

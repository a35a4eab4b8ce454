"""``regnb cache``: the cache of manifests and configs, and of what is inside layers."""

from __future__ import annotations

from contextlib import closing

import typer

from regnb.layers.kept import Kept
from regnb.text import human
from regnb.wire.cache import Cache

app = typer.Typer(help="The cache of manifests, configs, and listings of layers.", no_args_is_help=True)


@app.command("clear")
def cache_clear() -> None:
    """Forget every cached manifest and config, and every listing of a layer."""
    with closing(Cache(Cache.folder())) as cache:
        listings = Kept(Cache.folder()).clear()
        typer.echo(
            f"Forgot {human(cache.clear())} of manifests and configs, and {human(listings)} of listings of layers."
        )


@app.command("info")
def cache_info() -> None:
    """Print where the cache is, and how much it holds."""
    with closing(Cache(Cache.folder())) as cache:
        typer.echo(f"{cache.path or 'in memory'}: {human(cache.size)}")
        typer.echo(f"listings of layers: {human(Kept(Cache.folder()).size)}")

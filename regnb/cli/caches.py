"""``regnb cache``: the cache of manifests and configs."""

from __future__ import annotations

from contextlib import closing

import typer

from regnb.text import human
from regnb.wire.cache import Cache

app = typer.Typer(help="The cache of manifests and configs.", no_args_is_help=True)


@app.command("clear")
def cache_clear() -> None:
    """Forget every cached manifest and config."""
    with closing(Cache(Cache.folder())) as cache:
        typer.echo(f"Forgot {human(cache.clear())} of manifests and configs.")


@app.command("info")
def cache_info() -> None:
    """Print where the cache is, and how much it holds."""
    with closing(Cache(Cache.folder())) as cache:
        typer.echo(f"{cache.path or 'in memory'}: {human(cache.size)}")

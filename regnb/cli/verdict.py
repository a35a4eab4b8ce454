"""What garbage collections would remove: of a storage it is told without frames, and so without what makes them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import typer
from rich.markup import escape

from regnb.analysis.storage import open_storage, unsearched
from regnb.cli.command import Connected, command_of
from regnb.cli.options import Blobs, NoCache, Repositories, Where
from regnb.cli.terminal import INCOMPLETE, Json, Reason, draw, leave, out
from regnb.errors import Refused, StorageError
from regnb.layouts.shelf import find
from regnb.oci.reference import Digest
from regnb.source import is_file, read
from regnb.text import count, human

if TYPE_CHECKING:
    from regnb.analysis.collectors import BoundWord
    from regnb.analysis.inventory import Inventory
    from regnb.analysis.reclaim import Reclaim
    from regnb.analysis.stock import Stock
    from regnb.tables.frame import Frame

app = typer.Typer()
command = command_of(app)


_REMOVED: Final = ("digest", "kind", "size", "plain_2", "plain", "untagged", "untagged_2")
"""What is printed of a blob that collections remove: all but the first three say which of them."""


class Row(NamedTuple):
    """A row of the frame ``reclaim``."""

    collection: str
    version: str
    size: int
    before: int
    blobs: int
    manifests: int
    bound: BoundWord
    message: str


@command
@unsearched()
def gc(
    connected: Connected,
    url: Where,
    repositories: Repositories = None,
    blobs: Blobs = False,
    no_cache: NoCache = False,
    json_: Json = "",
) -> None:
    """Show what registry garbage-collect would remove now, without running it.

    Exit code 0: done, 1: error, 4: a garbage collection would fail, or something could not be read.
    """
    found: Stock | Inventory
    removed: Sequence[Mapping[str, object]]
    if place := find(url):
        raise Refused(
            f"{place} is not the storage of a registry, so no garbage collection runs on it",
            hint="regnb audit counts its blobs that nothing needs, as orphan",
        )
    if not repositories and (stock := _stock(url)):
        found, rows, removed = stock, _rows(stock), _removed(stock) if blobs else []
        uploads = [one.size for one in stock.uploads]
    else:
        found = inventory = read(url, repositories, cached=not no_cache, connect=connected)
        reclaim = inventory.reclaim()
        rows = rows_of(reclaim)
        removed = _of_frame(reclaim.blobs.drop(columns="before")) if blobs else []
        uploads = inventory.uploads["size"].to_list()
    told = removed if blobs else [row._asdict() for row in rows]
    if json_ == "csv":
        lines = csv.DictWriter(sys.stdout, _REMOVED if blobs else Row._fields, lineterminator="\n")
        lines.writeheader()
        lines.writerows(told)
    elif json_:
        for row in told:
            sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
    elif blobs:
        draw([(name, name == "size") for name in _REMOVED], map(_readable, removed))
    else:
        out.print(f"[bold]{escape(found.registry)}[/]", soft_wrap=True)
        show_collections(rows, "What each garbage collection would remove now")
        if uploads:
            begun = f"{count(len(uploads), 'upload')} begun and not finished, {human(sum(uploads))}"
            out.print(f"\nNot in these: {begun}. No garbage collection takes them.")
    leave(failing(rows), found)


def _stock(url: str) -> Stock | None:
    """Return what a storage holds; None if something else is named, or nothing that can be read."""
    if not is_file(url):
        return None
    try:
        storage = open_storage(url)
    except StorageError:
        return None  # whatever reads a snapshot or a registry says what is wrong
    return storage.stock()


def _rows(stock: Stock) -> list[Row]:
    return [
        Row(
            *(one.collection.command, one.collection.version, stock.size(one.goes), stock.size(one.before)),
            *(len(one.goes), one.manifests, one.bound, one.message),
        )
        for one in stock.collections
    ]


def _of_frame(frame: Frame) -> list[dict[str, object]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _removed(stock: Stock) -> list[dict[str, object]]:
    columns = [one.collection.column for one in stock.collections]
    return [
        {"digest": one.digest, "kind": one.kind, "size": one.size, **{name: name in one.by for name in columns}}
        for one in stock.removed()
    ]


def _readable(row: Mapping[str, object]) -> list[str]:
    """Return the cells of a blob that is removed, for people."""
    digest, kind, size = Digest(str(row["digest"])).short, str(row["kind"]), human(float(str(row["size"])))
    return [digest, kind, size, *("yes" if row[name] else "no" for name in _REMOVED[3:])]


def rows_of(found: Reclaim) -> list[Row]:
    """Return what collections remove, row by row."""
    return [Row(*row) for row in found.table.itertuples(index=False, name=None)]


def failing(rows: Iterable[Row]) -> Iterator[Reason]:
    """Yield why collections fail."""
    for row in rows:
        if row.bound == "fails":
            yield INCOMPLETE, f"{row.collection} ({row.version}) {row.message}"


def show_collections(rows: Sequence[Row], title: str, *, before: bool = False) -> None:
    """Print what collections remove; what is to be known about each, which no column has room for, below.

    Args:
        rows: What they remove.
        title: Above the table.
        before: Whether to show what they would remove without a deletion, too.
    """
    names = [name for name in Row._fields if name != "message" and (before or name != "before")]
    shown = (row._replace(message="")._asdict() for row in rows)
    cells = ([human(row[name]) if name in ("size", "before") else str(row[name]) for name in names] for row in shown)
    out.print()
    draw([(name, name in ("size", "before", "blobs", "manifests")) for name in names], cells, title)
    for message in filter(None, dict.fromkeys(row.message for row in rows)):
        of = [f"{row.collection} ({row.version})" for row in rows if row.message == message]
        out.print(f"- {'all' if len(of) == len(rows) else ', '.join(of)}: {message}", markup=False)

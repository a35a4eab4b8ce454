"""The command that reads a registry or its storage, and prints what it holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer import Option

from regnb.analysis import disk
from regnb.analysis.inventory import UNSEEN, Inventory
from regnb.analysis.overview import overview
from regnb.cli.alarm import Alarms
from regnb.cli.command import Connected, command_of
from regnb.cli.options import NoCache, Pulls, Repositories, Where
from regnb.cli.terminal import (
    DRIFT,
    INCOMPLETE,
    OVER,
    Form,
    Reason,
    leave,
    out,
    say,
    section,
    show,
    table,
    unread,
)
from regnb.cli.verdict import rows_of, show_collections
from regnb.crawl.records import NOTES
from regnb.errors import InvalidArgument, StorageError
from regnb.source import read
from regnb.tables.columns import TOLD_BY
from regnb.tables.write import check_format, make_folder
from regnb.text import count, human, parse_size, redact

app = typer.Typer()
command = command_of(app)


def show_inventory(inventory: Inventory, prices: disk.Prices | None = None) -> None:
    """Print an audit: totals, repositories, what is shared, and what could not be read; of a storage the disk, too."""
    found = inventory.summary
    bound = "" if found.complete else "at least "
    storage = inventory.source == "storage"
    out.print(
        f"[bold]{escape(found.registry)}[/]  {count(found.repositories, 'repository')}, {count(found.tags, 'tag')}",
        soft_wrap=True,
    )
    out.print(
        f"{count(found.manifests, 'manifest')}, {count(found.blobs, 'blob')}: [bold]{bound}{human(found.stored)}[/] "
        f"{'behind tags' if inventory.source == 'api' else 'in them'} ({human(found.pulled)} if nothing were shared)"
    )
    hidden = ["manifests", "share", "complete"]
    if storage:
        rows = inventory.breakdown
        section(rows[rows["what"] != "reclaimable"].drop(columns="total"), "Where the bytes are")
        for fact in disk.facts(inventory, prices):
            out.print(f"- {fact}.", markup=False)
        show_collections(rows_of(inventory.reclaim()), "What each garbage collection would remove now")
    hidden += [column for column, sources in TOLD_BY["repositories"].items() if inventory.source not in sources]
    tables = overview(inventory)
    section(tables.repositories.drop(hidden), "Repositories, largest first")
    section(tables.shared_tags, "Tags on one digest", 10)
    section(tables.shared_layers, "Shared layers, by the bytes that sharing saves", 10)
    section(tables.uploads, "Uploads that were begun and not finished", 10)
    section(tables.problems.drop(["incomplete"]), "Problems", 50)
    if broken := tables.broken:
        out.print(
            f"\n[yellow]{count(len(broken), 'tag')} cannot be pulled[/]: {escape(_named(broken))}", soft_wrap=True
        )
    if inventory.complete:
        word, _, verdict = inventory.brief.verdict.partition(": ")
        out.print(f"\n[green]{word}[/]: {verdict}")
    else:
        out.print("\n[yellow]Incomplete[/]: something that was listed could not be read. Coverage:")
        table(tables.coverage)
    if inventory.source == "api":
        out.print(f"[dim]{UNSEEN}[/]")


def _used(inventory: Inventory) -> int:
    """Return the bytes on disk, where they are known; else those behind tags."""
    found = inventory.summary
    return found.disk or 0 if inventory.source == "storage" else found.stored


def _allowed(growth: str, size: int) -> float:
    """Return by how many bytes something of this size may grow: a percentage of it, or a number of bytes."""
    percent = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", growth.strip())
    return size * float(percent[1]) / 100 if percent else parse_size(growth)


def _older(inventory: Inventory, folder: str) -> Inventory | None:
    """Return the newest readable snapshot of the same registry from before this inventory."""
    from regnb.analysis.snapshot import snapshots  # what is only printed needs no frames

    found = snapshots(folder)
    mine = (found["registry"] == inventory.registry) & (found["source"] == inventory.source)
    for name in reversed(found.loc[mine & (found["started"] < inventory.started), "snapshot"].to_list()):
        try:
            return Inventory.load(f"{folder.rstrip('/')}/{name}")
        except StorageError as error:
            say(f"Passed over: {error.message}")
    say(f"No older snapshot of {inventory.registry} in {redact(folder)}: nothing to compare with.")
    return None


def _named(tags: Sequence[tuple[str, str]], limit: int = 5) -> str:
    """Return repository and tag of the first ones, as a text."""
    names = [f"{repository}:{tag}" for repository, tag in tags[:limit]]
    return ", ".join(names) + (", …" if len(tags) > limit else "")


@command
def audit(
    connected: Connected,
    alarm: Alarms,
    url: Where,
    repositories: Repositories = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="DIR", help="Write every table into this folder.")
    ] = None,
    form: Annotated[
        str, Option("--format", metavar="FORMAT", help="Format of these files: parquet, csv or jsonl.")
    ] = "parquet",
    snapshot: Annotated[
        str | None, Option(metavar="DIR|URL", help="Save a snapshot in this folder or URL, for later comparisons.")
    ] = None,
    fail_over: Annotated[
        str | None, Option(metavar="SIZE", help="Exit with 2 if more than this is stored, such as 500GB.")
    ] = None,
    fail_on_growth: Annotated[
        str | None,
        Option(metavar="SIZE", help="Exit with 2 if it grew by more than this since the last snapshot: 10% or 5GB."),
    ] = None,
    fail_on_drift: Annotated[
        bool, Option("--fail-on-drift", help="Exit with 3 if a tag moved, vanished or broke since the last snapshot.")
    ] = False,
    fail_on_problems: Annotated[bool, Option("--fail-on-problems", help="Exit with 2 if there are problems.")] = False,
    json_: Annotated[Form, Option("--json", help="Print one JSON document; errors are JSON too.")] = "",
    no_cache: NoCache = False,
    pulls: Pulls = None,
    fill_cache: Annotated[
        bool, Option("--fill-cache", help="Read a pull-through cache too, although reading a tag fills it.")
    ] = False,
    listing: Annotated[
        str | None,
        Option(metavar="URL", help="Read the bucket's keys from this S3 Inventory (its manifest.json), not from LIST."),
    ] = None,
    price_gb_month: Annotated[
        float | None, Option(help="Price of 1 GB (10^9 bytes) in the bucket for a month, in any currency.")
    ] = None,
    price_lists: Annotated[float | None, Option(help="Price of 1,000 LIST requests to the bucket.")] = None,
    price_gets: Annotated[float | None, Option(help="Price of 1,000 GET requests to the bucket.")] = None,
    prometheus: Annotated[
        Path | None, Option(metavar="FILE", help="Write metrics for Prometheus' textfile collector into this file.")
    ] = None,
) -> None:
    """Read a registry or its storage and print what it holds.

    Exit code 0: all is well, 1: error, 2: over a threshold, 3: tags moved, vanished or broke, 4: something could not
    be read.
    """
    form_ = check_format(form)
    limit = parse_size(fail_over) if fail_over is not None else None
    if fail_on_growth is not None:
        _allowed(fail_on_growth, 0)
    if snapshot is None and (fail_on_growth is not None or fail_on_drift):
        raise InvalidArgument(
            "--fail-on-growth and --fail-on-drift compare with a snapshot",
            hint="add --snapshot URL, the folder of the snapshots",
        )
    if snapshot is not None and repositories:
        raise InvalidArgument(
            "a snapshot must hold the whole registry, and --repository reads a part of it",
            hint="leave out --repository or --snapshot",
        )
    for folder in (output, None if snapshot is None or "://" in snapshot else Path(snapshot)):
        if folder is not None:
            make_folder(folder)
    alarms = alarm()
    with alarms.failing(f"The audit of {redact(url)} failed"):
        inventory = read(
            url, repositories, cached=not no_cache, fill_cache=fill_cache, listing=listing, connect=connected
        )
        inventory = inventory.with_pulls(pulls) if pulls else inventory
    if json_ == "csv":
        show(inventory.repositories, json_)
    elif json_:
        document: dict[str, object] = {**inventory.summary._asdict(), "source": inventory.source}
        for name in ("repositories", "problems", "coverage", "disk", "uploads", "breakdown", "namespaces"):
            document[name] = json.loads(getattr(inventory, name).to_json(orient="records", date_format="iso"))
        typer.echo(json.dumps(document, indent=2))
    else:
        show_inventory(inventory, disk.Prices(price_gb_month, price_lists, price_gets))
    if output is not None:
        say(f"Wrote {len(inventory.write(output, form_))} frames to {output}")
    reasons = []
    if limit is not None and (used := _used(inventory)) > limit:
        reasons.append((OVER, f"Over the threshold: {human(used)}, more than {human(limit)}."))
    if fail_on_problems:
        problems = inventory.problems[~inventory.problems["problem"].isin(NOTES)]
        rows = [f"{row.repository}:{row.reference} ({row.problem})" for row in problems.head(5).itertuples()]
        if rows:
            reasons.append((OVER, f"{count(len(problems), 'problem')}: {', '.join(rows)}"))
            if broken := overview(inventory).broken:
                reasons.append((OVER, f"{count(len(broken), 'tag')} cannot be pulled: {_named(broken)}"))
    if snapshot is not None:
        say(f"Saved {inventory.save(snapshot)}")
        reasons += _emptied(inventory, snapshot)
        if fail_on_growth is not None or fail_on_drift:
            reasons += _since(inventory, snapshot, fail_on_growth, fail_on_drift)
    if prometheus is not None:
        from regnb.analysis import metrics  # an extra

        kinds = Counter({OVER: "threshold", DRIFT: "drift"}.get(code, "") for code, _ in reasons)
        metrics.write(prometheus, inventory, kinds)
    found = [*reasons, *unread(inventory)]
    if found:
        said = [text for _, text in sorted(found)]
        found += alarms.send(f"The audit of {inventory.registry}: {count(len(said), 'finding')}", said)
    leave(found)


def _emptied(inventory: Inventory, folder: str) -> Iterator[Reason]:
    """Say that the catalog is empty, if a snapshot has repositories: until it is removed, each audit says so."""
    if inventory.empty_catalog:
        from regnb.analysis.difference import emptied
        from regnb.analysis.snapshot import snapshots

        found = snapshots(folder)
        found = found[(found["registry"] == inventory.registry) & (found["repositories"] > 0)]
        for row in found.tail(1).to_dict("records"):
            yield INCOMPLETE, emptied(inventory, row["repositories"], row["source"], row["started"])


def _since(inventory: Inventory, folder: str, growth: str | None, drift: bool) -> Iterator[Reason]:
    """Give what changed by more than is allowed since the snapshot before this inventory."""
    older = _older(inventory, folder)
    if older is None:
        return
    since = f"since {older.started:%Y-%m-%d %H:%M}" + ("" if older.complete else " (which was incomplete)")
    before, now = _used(older), _used(inventory)
    if growth is not None and now - before > _allowed(growth, before):
        yield OVER, f"Grew by more than {growth}: {human(before)}, now {human(now)}, {since}."
    if drift:
        from regnb.analysis.difference import diff

        changed = diff(older, inventory).tags
        for change in ("moved", "vanished", "broken"):
            if len(tags := changed[changed["change"] == change]):
                named = list(zip(tags["repository"].tolist(), tags["tag"].tolist(), strict=True))
                yield DRIFT, f"{count(len(tags), 'tag')} {change} {since}: {_named(named)}"

"""An inventory as one HTML file for people: it needs no kernel and no network, and says how it was made."""

from __future__ import annotations

import base64
import functools
import gzip
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
from markupsafe import Markup

from regnb import __version__
from regnb.analysis.collectors import COLLECTIONS
from regnb.analysis.growth import Growth
from regnb.analysis.inventory import Inventory
from regnb.errors import MissingExtra
from regnb.fleets import Fleet
from regnb.pages import charts
from regnb.tables.columns import COLUMNS, SIZES, TOLD_BY
from regnb.tables.frame import Frame
from regnb.tables.markup import Cell, render, table
from regnb.text import count, escaped, human, printable

try:
    from plotly.offline import get_plotlyjs
except ImportError:
    raise MissingExtra("plotly", "lab") from None

ROWS: Final = 40
"""Rows of a table, and of a bar chart; the rest is counted in the last lines."""
_CSS: Final = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_DRAW: Final = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_TEMPLATE: Final = Path(__file__).with_suffix(".html")
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
"""No browser loads anything from elsewhere for this page, whatever a name in it may hold."""
_SCRIPTLESS: Final = """Scripts are blocked here, as in the preview of a mail program, so the charts are not drawn.
Nothing is missing: every figure is in the tables. To see the charts, save the file and open it in a browser
(of 2023 or later)."""
_LIMITS: Final = {
    "api": """Over HTTP a registry shows what its tags lead to, and nothing else. Manifests without a tag take up space
that no figure here includes, and may hold on to layers. What a garbage collection would remove is therefore bounded and
not exact: each line says whether it is at most, at least, or an estimate. Read from a storage it is exact.""",
    "storage": """The registry's files were read, without it: manifests without a tag, blobs that nothing needs
and uploads that were never finished are in the figures. What was pushed or deleted meanwhile may be seen in part.""",
    "layout": """The files of OCI layouts or of an archive were read: manifests without a tag, and blobs that nothing
needs, are in the figures. The bytes of manifests and configs were verified, and of layers their sizes. No garbage
collection of a registry runs there: its lines are estimates of what a registry would do with the same content.""",
}
_SOURCES: Final = {
    "api": "its API (HTTP), without writing anything",
    "storage": "its storage",
    "layout": "the files of OCI layouts or an archive",
}
_USAGE: Final = "What tags need alone (exclusive), what a repository's tags share (tags), its part of what they share"
_WHOLE: Final = frozenset({"message", "hint"})
"""Columns of sentences, which are not shortened."""
_KINDS: Final = {"i": "n", "f": "n", "M": "d"}
"""Kinds of columns to their class: numbers, and what is not folded."""
_LONG: Final = 24
"""Characters from which on a word may be folded anywhere."""
_ALWAYS: Final = (
    "Sizes are compressed bytes, as stored and transferred, in powers of 1000; an image takes up more once unpacked.",
    "Deleting a tag frees nothing by itself: the registry's garbage collection does, and there are several kinds.",
    f"Tables have at most {ROWS} rows, the largest first. Their last lines count the rest; sums are over all rows.",
    "Names that were shortened are whole in the tooltip.",
)


class _Section(NamedTuple):
    """A part of the report; its key names it in links."""

    key: str
    title: str
    body: str


def report(
    inventory: Inventory, *, growth: Growth | None = None, capacity: float | str | None = None, command: str = ""
) -> str:
    """Return an inventory as one HTML page: figures, charts with their tables, problems, and how it was made.

    Args:
        inventory: What is reported.
        growth: How the registry grew, for the charts of that.
        capacity: Of its disk, in bytes or as a text such as ``1TB``: when is it full?
        command: What made the report, without credentials: it is printed as it is.

    Raises:
        InvalidArgument: ``capacity`` is not a size.

    Example:
        >>> Path("report.html").write_text(report(inventory), encoding="utf-8") > 100_000
        True
    """
    sections = [
        _Section("summary", "Summary", _summary(inventory)),
        _bytes(inventory),
        _whose(inventory),
        _repositories(inventory),
        _layers(inventory),
        _sharing(inventory),
        _age(inventory),
        _collections(inventory),
        *([_growth(growth, capacity)] if growth is not None else []),
        _problems(inventory),
        _Section("limits", "What the figures mean", _list(_LIMITS[inventory.source], *_ALWAYS)),
    ]
    return _page(printable(inventory.registry), sections, _origin(inventory, command), _plotly())


def fleet_report(fleet: Fleet, *, command: str = "") -> str:
    """Return a fleet as one HTML page: its registries, what mirrors lack, what is stored twice, and problems.

    Args:
        fleet: What is reported.
        command: As for :func:`report`.

    Example:
        >>> written = Path("fleet.html").write_text(fleet_report(fleet), encoding="utf-8")
    """
    down, twice = fleet.errors, fleet.twice
    read = fleet.inventories.values()
    incomplete = [name for name, one in fleet.inventories.items() if not one.complete]
    figures = {
        "Registries": f"{len(fleet):,}",
        "Down": ", ".join(down),
        "Incomplete": ", ".join(incomplete),
        "Tags": f"{sum(one.summary.tags for one in read):,}",
        "Bytes": human(sum(one.summary.stored for one in read)),
        "Bytes of these more than once": human(sum(twice["again"].tolist())),
        "Problems": f"{len(fleet.problems):,}",
    }
    facts = {"Report": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, by regnb {__version__}", "Command": command}
    verdict = "Every registry was read, and everything in each."
    if not fleet.complete:
        verdict = "Not everything was read: figures are lower bounds, and what a mirror lacks may be unknown."
    note = f'<p class="note {"good" if fleet.complete else "warn"}">{verdict}</p>'
    sections = [
        _Section("summary", "Summary", _terms(figures, "figures")),
        _Section("registries", "Registries", _table("fleet", fleet.registries, "Registries")),
        _Section("mirrors", "Mirrors", _table("comparison", fleet.mirrors, "What mirrors lack, or have otherwise")),
        _Section("twice", "Stored twice", _table("fleet_blobs", twice, "Blobs that several registries hold", "again")),
        _Section("problems", "Problems", _table("problems", fleet.problems, "Problems")),
        _Section("limits", "What the figures mean", _list(*_ALWAYS)),
    ]
    return _page("Fleet", sections, note + _terms(facts, "facts"))


def _page(name: str, sections: Sequence[_Section], origin: str, plotly: str = "") -> str:
    return render(
        _TEMPLATE,
        name=name,
        sections=sections,
        origin=Markup(origin),  # noqa: S704 -- made of escaped parts
        policy=Markup(_POLICY),  # noqa: S704 -- ours
        scriptless=_SCRIPTLESS,
        css=Markup(_CSS),  # noqa: S704 -- ours
        plotly=plotly,
        draw=Markup(_DRAW),  # noqa: S704 -- ours
    )


@functools.cache
def _plotly() -> str:
    return _packed(get_plotlyjs())


def _packed(text: str) -> str:
    """Return a text as the page unpacks it, gzip in base64: a name that holds ``</script>`` ends no script."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def _stored(inventory: Inventory) -> bool:
    return inventory.source == "storage"


def _list(*texts: str) -> str:
    return f"<ul>{''.join(f'<li>{escaped(text)}</li>' for text in texts)}</ul>" if texts else ""


def _terms(pairs: dict[str, str], kind: str) -> str:
    rows = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(text)}</dd></div>" for name, text in pairs.items() if text
    )
    return f'<dl class="{kind}">{rows}</dl>'


def _origin(inventory: Inventory, command: str) -> str:
    """Say when the report was made, from what, and how complete it is."""
    started, finished = inventory.started, inventory.finished
    took = f"in {(finished - started).total_seconds():,.1f} s" if finished else "until it was interrupted"
    facts = {
        "Read from": _SOURCES[inventory.source],
        "When": f"{started:%Y-%m-%d %H:%M:%S} UTC, {took}",
        "Report": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, by regnb {__version__}",
        "Command": command,
    }
    state = "good" if inventory.complete and finished else "warn"
    return f'<p class="note {state}">{escaped(inventory.brief.verdict)}</p>{_terms(facts, "facts")}'


def _summary(inventory: Inventory) -> str:
    found, bound = inventory.summary, "" if inventory.complete else "at least "
    numbers = {name: f"{getattr(found, name.lower()):,}" for name in ("Repositories", "Tags", "Manifests", "Blobs")}
    sizes = {
        "behind tags" if inventory.source == "api" else "stored": found.stored,
        "if nothing were shared": found.pulled,
    }
    plain = inventory.reclaim().table.iloc[0]
    word = {"estimate": "about ", "exact": "", "fails": "it fails: "}.get(str(plain["bound"]), f"{plain['bound']} ")
    return _terms(
        numbers
        | {f"Bytes {name}": bound + human(size) for name, size in sizes.items()}
        | {
            "Bytes on disk": human(found.disk) if found.disk else "",
            "A plain garbage collection would remove": f"{word}{human(plain['size'])}",
            "Problems": f"{found.problems:,}",
        },
        "figures",
    )


def _figure(key: str, figure: Any, caption: str) -> str:  # noqa: ANN401 -- plotly's
    about = escaped(caption)
    return (
        f'<figure><div id="chart-{key}" role="img" aria-label="{about} The table below has the figures."></div>'
        f'<script type="application/gzip">{_packed(figure.to_json(validate=False))}</script>'
        f"<figcaption>{about}</figcaption></figure>"
    )


def _table(name: str, frame: Frame, caption: str, *adds: str) -> str:
    """Return a table of the first rows of a frame, with the sums of the columns that add up."""
    if not len(frame):
        return f"<p>{escaped(caption)}: none.</p>"
    shown, rest = frame.head(ROWS), frame.iloc[ROWS:]
    with pd.option_context("display.max_rows", None):
        text, _ = shown.readable()
    meanings = {column: meaning for column, (_, meaning) in COLUMNS.get(name, {}).items()}
    for column in _WHOLE.intersection(frame.columns):
        text[column] = shown[column]
    kinds = [_KINDS.get(frame[column].dtype.kind, "d" if column == "digest" else "") for column in frame.columns]
    head = [
        Cell(column.replace("_", " "), meanings.get(column, ""), kind, scope="col")
        for column, kind in zip(frame.columns, kinds, strict=True)
    ]
    wholes = shown.itertuples(index=False, name=None)
    rows = [_row(*line, kinds) for line in zip(text.itertuples(index=False, name=None), wholes, strict=True)]
    feet = [(f"{len(rest):,} more", rest)] * bool(len(rest)) + [(f"all {len(frame):,}", frame)] * bool(adds)
    foot = [_row((words, *_sums(part, adds)), (), kinds) for words, part in feet]
    return table(head, rows, foot, caption=caption)


def _row(texts: tuple[str, ...], wholes: tuple[object, ...], kinds: list[str]) -> list[Cell]:
    cells = []
    for at, (text, kind) in enumerate(zip(texts, kinds, strict=True)):
        whole = wholes[at] if wholes else text
        title = whole[:1000] if isinstance(whole, str) and whole != text else ""
        cells.append(Cell(text, title, kind or "l" * (len(text) > _LONG), scope="" if at else "row"))
    return cells


def _sums(frame: Frame, adds: tuple[str, ...]) -> list[str]:
    """Return the sums of all columns but the first, as text, empty for those that do not add up."""
    # Python's integers: sums may leave 64 bits.
    sums = {column: sum(frame[column].tolist()) for column in adds}
    shown: Callable[[str], str] = lambda name: human(sums[name]) if name in SIZES else f"{sums[name]:,}"  # noqa: E731
    return [shown(column) if column in sums else "" for column in frame.columns[1:]]


def _largest(frame: Frame, by: str) -> Frame:
    return frame.sort_values(by, ascending=False, kind="stable", ignore_index=True)


def _bytes(inventory: Inventory) -> _Section:
    table = inventory.breakdown
    chart = _figure("breakdown", charts.breakdown(table), "From every tag pulled as if it were alone to what is there.")
    return _Section("bytes", "Where the bytes are", chart + _table("breakdown", table, "The steps in bytes"))


def _whose(inventory: Inventory) -> _Section:
    spaces, usage = _largest(inventory.namespaces, "share"), _largest(inventory.usage, "size")
    return _Section(
        "whose",
        "Whose bytes they are",
        _figure(
            "treemap",
            charts.treemap(usage),
            "What several tags or repositories share is there once, divided among them: the rectangles add up.",
        )
        + _table("namespaces", spaces, "Namespaces, by their share", "repositories", "tags", "exclusive", "share")
        + _table("usage", usage, _USAGE, "size"),
    )


def _repositories(inventory: Inventory) -> _Section:
    untold = [column for column, sources in TOLD_BY["repositories"].items() if inventory.source not in sources]
    hidden = ["manifests", *untold]
    rows = _largest(inventory.repositories, "share").drop(columns=hidden)
    chart = _figure(
        "repositories", charts.repositories(rows), "What each repository alone needs, and its part of what it shares."
    )
    return _Section(
        "repositories",
        "Repositories",
        chart + _table("repositories", rows, "Repositories, by their share", "tags", "exclusive", "share", "pull_size"),
    )


def _layers(inventory: Inventory) -> _Section:
    rows = inventory.largest
    figure = charts.layers(rows, among=inventory.layers["digest"].nunique())
    chart = _figure("layers", figure, "Layers by what they take, and would take if nothing were shared.")
    caption = f"The largest layers, {len(rows):,} of them, and who uses them"
    return _Section("layers", "Layers", chart + _table("shared_layers", rows, caption, "size", "saved"))


def _sharing(inventory: Inventory) -> _Section:
    pairs, tags = inventory.between, inventory.sharing.tags
    chart = _figure("sharing", charts.sharing(pairs), "The bytes that each two repositories share.")
    return _Section(
        "sharing",
        "What is shared",
        chart
        + _table("between", _largest(pairs, "size"), "Pairs of repositories that share bytes")
        + _table("shared_tags", tags, "Tags on one digest", "tags"),
    )


def _age(inventory: Inventory) -> _Section:
    tags = inventory.tags
    years = tags["created"].dt.strftime("%Y").fillna("unknown")
    groups = tags.groupby(years.rename("year"))
    sums = Frame(groups[["size", "exclusive"]].sum().assign(tags=groups.size()).reset_index())
    names = ["repository", "tag", "created", "layers", "size", "exclusive", "siblings", "digest"]
    return _Section(
        "age",
        "How old it is",
        _figure("age", charts.age(tags), "When the tags' images were made, against their size.")
        + _table("", sums[["year", "tags", "size", "exclusive"]], "Tags by year", "tags", "size", "exclusive")
        + _table("tags", _largest(tags, "size")[names], "The largest tags", "size", "exclusive"),
    )


def _collections(inventory: Inventory) -> _Section:
    found = inventory.reclaim()
    table = found.table.drop(columns="before")
    told = [row for row in table.itertuples() if row.message]
    commands = [f"{row.collection} ({row.version})" for row in table.itertuples()]
    names = dict(zip((one.column for one in COLLECTIONS), commands, strict=True))
    blobs = found.blobs.drop(columns="before").rename(columns=names)
    uploads = _largest(inventory.uploads, "size")
    return _Section(
        "collections",
        "What garbage collections would remove now",
        _figure("reclaim", charts.reclaim(found.table), "Each kind of garbage collection, if it ran now.")
        + _table("reclaim", table.drop(columns="message"), "Kinds of garbage collection")
        + _list(*(f"{row.collection} ({row.version}): {row.message}" for row in told))
        + _table("reclaim_blobs", blobs, "Blobs that one of them would remove", "size")
        + (_table("uploads", uploads, "Uploads begun and not finished", "size") if _stored(inventory) else ""),
    )


def _growth(growth: Growth, capacity: float | str | None) -> _Section:
    forecast = growth.forecast(capacity) if capacity is not None else None
    words = [f"{human(forecast.capacity)}: {forecast.text}"] if forecast else []
    newest = growth.frame.iloc[::-1].reset_index(drop=True)
    return _Section(
        "growth",
        "How it grows",
        _list(*growth.notes, *words)
        + _figure("growth", charts.growth(growth.frame, forecast), "The bytes in each snapshot, and where they lead.")
        + _figure("churn", charts.churn(growth.frame), "Tags that are new, moved or vanished in each snapshot.")
        + _table("growth", newest, "Snapshots, the newest first", "new", "moved", "vanished"),
    )


def _problems(inventory: Inventory) -> _Section:
    problems = inventory.problems
    kinds = [f"{number:,} {kind}" for kind, number in problems["problem"].value_counts().items()]
    return _Section(
        "problems",
        "Problems and coverage",
        (f"<p>{count(len(problems), 'problem')}: {escaped(', '.join(kinds))}.</p>" if kinds else "")
        + _table("problems", problems, "Problems")
        + _table("coverage", inventory.coverage, "What was listed and what was read"),
    )

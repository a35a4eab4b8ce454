"""Figures of DataFrames: who uses the bytes, what is shared, what could go, and how it grows.

Each is a plotly figure of the frame alone, for light and dark pages.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from regnb.errors import InvalidArgument, MissingExtra
from regnb.frames import COLUMNS, count, human, parse_size
from regnb.growth import Forecast

try:
    import plotly.graph_objects as go  # type: ignore[import-untyped]
    from plotly.subplots import make_subplots  # type: ignore[import-untyped]
except ImportError:
    raise MissingExtra("plotly", "lab") from None

# The palette of Okabe and Ito, less what vanishes on white or on black.
_BLUE, _SKY, _GREEN, _ORANGE, _RED = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00"
_TEXT: Final = "#7d7d7d"
"""As far from white as from JupyterLab's dark pages: about 4:1."""
_GRID: Final = "rgba(127,127,127,0.25)"
_CLEAR: Final = "rgba(127,127,127,0)"
_NAMESPACE, _REPOSITORY, _MIXED = "#5c5c5c", "#757575", "#949494"
_HEAT: Final = [[0, "rgba(86,180,233,0.25)"], [0.5, _BLUE], [1, _ORANGE]]
_MINUS: Final = "\u2212"
_SIZE: Final = "size (bytes, in powers of 1000)"
_SHOWN: Final = 40
"""Rows of a bar chart or a matrix; the rest is one row."""
_POINTS: Final = 5_000
"""Tags that are drawn one by one; more are counted in cells."""
_NAMESPACES, _REPOSITORIES, _TAGS = 100, 300, 600
"""Of a treemap: fewer than 2,000 boxes in all."""
_KINDS: Final = {
    "exclusive": ("needed by one tag alone", "blue", _BLUE, ""),
    "tags": ("shared by its tags", "orange, striped", _ORANGE, "/"),
    "repositories": ("shared with other repositories", "green, dotted", _GREEN, "."),
}
"""Of a row of ``usage``: what it is called, how it looks, its colour and its pattern."""
_DAY: Final = pd.Timedelta(days=1)


class _Series(NamedTuple):
    """The bars of one colour, one in each row."""

    name: str
    colour: str
    pattern: str
    sizes: Sequence[int]


def _columns(frame: pd.DataFrame, name: str, *columns: str) -> list[list[Any]]:
    if lacking := [column for column in columns if column not in frame.columns]:
        raise InvalidArgument(
            f"the frame has no column {', '.join(lacking)}", hint=f"give a frame {name!r}: {', '.join(COLUMNS[name])}"
        )
    return [frame[column].tolist() for column in columns]


def _plain(text: object) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in str(text)) if isinstance(text, str) else ""


def _escape(text: str) -> str:
    # Plotly reads markup in every text, does not know &quot;, and takes what is between two dollars for TeX.
    return html.escape(text, quote=False).replace("$", "&#36;")


def _short(text: object, width: int = 32) -> str:
    """Return a name that fits a label: what is too long loses its middle."""
    plain = _plain(text)
    return _escape(plain if len(plain) <= width else f"{plain[: width // 2 - 1]}…{plain[-(width // 2) :]}")


def _lines(*texts: object, width: int = 90, limit: int = 8) -> str:
    """Return paragraphs, wrapped and escaped, as plotly takes them."""
    found = []
    for text in texts:
        lines = textwrap.wrap(_plain(text), width)
        found += [*lines[:limit], "…"] if len(lines) > limit else lines
    return "<br>".join(map(_escape, found))


def _figure(data: Any, title: str, about: str, height: int, **layout: Any) -> go.Figure:  # noqa: ANN401 -- plotly's
    """Return a figure of traces, or of another figure, that can be read on light and on dark pages."""
    figure = go.Figure(data)
    subtitle = _lines(about, width=100)
    named = sum(trace.type in ("bar", "scatter") and trace.showlegend is not False for trace in figure.data) > 1
    figure.update_layout(
        template="none",
        paper_bgcolor=_CLEAR,
        plot_bgcolor=_CLEAR,
        font={"color": _TEXT, "size": 12},
        title={
            "text": f"<b>{_escape(title)}</b>",
            "subtitle": {"text": subtitle, "font": {"color": _TEXT, "size": 12}},
            "font": {"color": _TEXT, "size": 16},
            "x": 0,
            "xref": "container",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 14, "l": 20},
        },
        margin={"l": 20, "r": 30, "t": 68 + 16 * subtitle.count("<br>") + 26 * named, "b": 50},
        showlegend=named,
        height=height,
        hoverlabel={"align": "left", "namelength": -1},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "bgcolor": _CLEAR, "traceorder": "normal"},
        modebar={"bgcolor": _CLEAR, "color": _TEXT, "activecolor": _BLUE},
        **layout,
    )
    lines = {"gridcolor": _GRID, "zerolinecolor": _TEXT, "linecolor": _TEXT, "tickcolor": _TEXT, "automargin": True}
    figure.update_xaxes(title_standoff=10, **lines)
    figure.update_yaxes(title_standoff=10, **lines)
    return figure


def _sentence(text: str) -> go.Figure:
    """Return a figure that says why there is nothing to see."""
    note = {"text": _lines(text), "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    hidden = {"visible": False}
    return _figure([], "", "", 180, annotations=[note | {"font": {"size": 14}}], xaxis=hidden, yaxis=hidden)


def _pattern(shape: str) -> dict[str, Any]:
    return {"shape": shape, "size": 8, "solidity": 0.12, "fillmode": "overlay"}


def _collection(text: object) -> str:
    """Return a garbage collection with its version as a label."""
    return "<br>".join(map(_escape, textwrap.wrap(_plain(text), 34, break_on_hyphens=False)))


def _signed(size: int) -> str:
    return f"{'+' if size >= 0 else _MINUS}{human(abs(size))}"


def _ticks(values: Iterable[float]) -> dict[str, Any]:
    """Return ticks of bytes for a linear axis: at most nine, on round numbers."""
    found = list(values)
    low, high = min([0.0, *found]), max([0.0, *found])
    rough = max((high - low) / 7, 1.0)
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    places = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 2)]
    return {"tickvals": places, "ticktext": [_tick(place) for place in places]}


def _calendar(when: Iterable[pd.Timestamp], title: str) -> dict[str, Any]:
    """Return an axis of dates; around a single one plotly would show its microseconds."""
    days = set(when)
    return {"title": title, "type": "date"} | (
        {"range": [min(days) - _DAY, max(days) + _DAY]} if len(days) == 1 else {}
    )


def _tick(size: float) -> str:
    return human(size).replace(".0 ", " ")


def _decades(values: Iterable[float]) -> range:
    found = [math.log10(value) for value in values if value > 0]
    return range(math.floor(min(found)), math.ceil(max(found)) + 1)


def _bars(
    labels: Sequence[str], hovers: Sequence[str], series: Sequence[_Series], *, title: str, about: str, what: str
) -> go.Figure:
    """Return horizontal bars of bytes, stacked, the first row at the top, with each row's sum at its end.

    What has no label is one row, the last.
    """
    parts = [list(one.sizes) for one in series]
    if rest := len(parts[0]) - len(labels):
        labels, hovers = [*labels, f"{rest:,} others"], [*hovers, f"{rest:,} others"]
        parts = [[*sizes[:-rest], sum(sizes[-rest:])] for sizes in parts]
    places = list(range(len(labels)))
    sums = [sum(row) for row in zip(*parts, strict=True)]
    traces = [
        go.Bar(
            name=one.name,
            orientation="h",
            y=places,
            x=[float(size) for size in sizes],
            marker={"color": one.colour, "pattern": _pattern(one.pattern)},
            hovertext=hovers,
            hoverinfo="text",
        )
        for one, sizes in zip(series, parts, strict=True)
    ]
    ends = go.Scatter(
        y=places,
        x=[float(size) for size in sums],
        text=[f" {human(size)}" for size in sums],
        mode="text",
        textposition="middle right",
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
    rows = sum(1 + 0.6 * label.count("<br>") for label in labels)
    return _figure(
        [*traces, ends],
        title,
        about,
        round(190 + 22 * rows),
        barmode="stack",
        bargap=0.25,
        xaxis={"title": _SIZE, "range": [0, 1.16 * float(max(*sums, 1))], **_ticks(map(float, sums))},
        yaxis={
            "title": what,
            "tickvals": places,
            "ticktext": labels,
            "range": [len(labels) - 0.4, -0.6],
            "showgrid": False,
            "zeroline": False,
        },
    )


def treemap(usage: pd.DataFrame) -> go.Figure:
    """Return a treemap of the bytes: namespaces, their repositories, and of each what its tags need or share.

    Args:
        usage: As ``usage`` in :data:`regnb.frames.COLUMNS`. All boxes add up to its sum; the smallest are one box.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> treemap(inventory.usage)  # doctest: +SKIP
    """
    rows = list(zip(*_columns(usage, "usage", "namespace", "repository", "tag", "kind", "size"), strict=True))
    rows = sorted((row for row in rows if row[-1] > 0), key=lambda row: -row[-1])
    if not rows:
        return _sentence("Nothing is stored here.")
    of_namespaces: Counter[str] = Counter()
    of_repositories: Counter[tuple[str, str]] = Counter()
    for namespace, repository, *_, size in rows:
        of_namespaces[namespace] += size
        of_repositories[namespace, repository] += size
    namespaces = {name for name, _ in of_namespaces.most_common(_NAMESPACES)}
    repositories = {name for name, _ in of_repositories.most_common(_REPOSITORIES)}
    boxes: Counter[tuple[object, ...]] = Counter()
    folded: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    tags = 0
    for namespace, repository, tag, kind, size in rows:
        box: tuple[object, ...] = (namespace, repository, (kind, tag))
        if namespace not in namespaces:
            box, name = (None,), namespace
        elif (namespace, repository) not in repositories:
            box, name = (namespace, None), repository
        elif kind == "exclusive":
            tags += 1
            if tags > _TAGS:
                box, name = (namespace, repository, None), tag
        if box[-1] is None:
            folded[box].add(name)
        for depth in range(len(box) + 1):
            boxes[box[:depth]] += size
    total = boxes[()]
    names = {box: _box(box, folded.get(box, ())) for box in boxes}
    ids = {box: str(number) for number, box in enumerate(boxes)}
    styles = [_style(box) for box in boxes]
    trace = go.Treemap(
        ids=list(ids.values()),
        labels=[_short(names[box], 40) for box in boxes],
        parents=[ids[box[:-1]] if box else "" for box in boxes],
        values=[float(size) for size in boxes.values()],
        branchvalues="total",
        text=[human(size) for size in boxes.values()],
        textinfo="label+text",
        hovertext=[
            f"{_lines(*(names[box[:depth]] for depth in range(1, len(box) + 1)) if box else ('everything',))}"
            f"<br>{human(size)}, {size / total:.1%} of all"
            for box, size in boxes.items()
        ],
        hoverinfo="text",
        marker={
            "colors": [colour for colour, _ in styles],
            # Of many colours plotly.js lays a pattern over none.
            "pattern": {
                "shape": [pattern for _, pattern in styles],
                "size": 10,
                "solidity": 0.06,
                "bgcolor": [colour for colour, _ in styles],
                "fgcolor": _NAMESPACE,
            },
            "pad": {"t": 18, "l": 2, "r": 2, "b": 2},
        },
        tiling={"pad": 1},
        pathbar={"visible": True},
        root={"color": _CLEAR},
    )
    parts = Counter[str]()
    for *_, kind, size in rows:
        parts[kind] += size
    words = [
        f"{human(size)} {name} ({look})" for kind, size in parts.most_common() for name, look, *_ in [_KINDS[kind]]
    ]
    return _figure(
        [trace],
        f"{human(total)} by namespace, repository and tag",
        "; ".join(words),
        700,
        uniformtext={"minsize": 10, "mode": "hide"},
    )


def _box(box: tuple[object, ...], folded: Iterable[str]) -> str:
    """Return what a box of the treemap is called."""
    names = list(folded)
    if not box:
        return "all"
    if len(names) == 1:
        return names[0]
    if names:
        return f"{len(names):,} more {('namespaces', 'repositories', 'tags')[len(box) - 1]}"
    if isinstance(box[-1], tuple):
        kind, tag = box[-1]
        return str(tag) if kind == "exclusive" else _KINDS[kind][0]
    # Below its namespace a repository needs no more than the rest of its name.
    return str(box[-1]).removeprefix(f"{box[0]}/")


def _style(box: tuple[object, ...]) -> tuple[str, str]:
    """Return the colour and the pattern of a box of the treemap."""
    if len(box) == 3:  # noqa: PLR2004 -- what stands below namespace and repository
        kind = box[-1][0] if isinstance(box[-1], tuple) else "exclusive"
        return _KINDS[kind][2:]
    if box and box[-1] is None:
        return _MIXED, ""
    return (_CLEAR, _NAMESPACE, _REPOSITORY)[len(box)], ""


def breakdown(breakdown: pd.DataFrame) -> go.Figure:
    """Return where the bytes are, step by step from what is pulled to the disk, and what could be reclaimed.

    Args:
        breakdown: As ``breakdown`` in :data:`regnb.frames.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> breakdown(inventory.breakdown)  # doctest: +SKIP
    """
    rows = list(zip(*_columns(breakdown, "breakdown", "what", "size", "total", "message"), strict=True))
    if not any(row[1] for row in rows):
        return _sentence("Nothing is stored here.")
    steps = [row for row in rows if row[0] != "reclaimable"]
    gains = [row for row in rows if row[0] == "reclaimable"]
    heights = [len(steps) + 1, 1.5 * len(gains) + 1] if gains else [len(steps) + 1]
    figure = make_subplots(
        rows=len(heights), row_heights=heights, vertical_spacing=3.2 / (sum(heights) + 4) if gains else 0
    )
    ends, level = [0], 0
    for _, size, total, _ in steps:
        level = size if total else level + size
        ends.append(level)
    figure.add_trace(
        go.Waterfall(
            orientation="h",
            y=[_short(row[0]) for row in steps],
            x=[float(row[1]) for row in steps],
            measure=["absolute" if row[2] else "relative" for row in steps],
            text=[human(row[1]) if row[2] else _signed(row[1]) for row in steps],
            textposition="outside",
            cliponaxis=False,
            hovertext=[_lines(f"{what}: {human(size)}", message) for what, size, _, message in steps],
            hoverinfo="text",
            totals={"marker": {"color": _BLUE}},
            increasing={"marker": {"color": _ORANGE}},
            decreasing={"marker": {"color": _GREEN}},
            connector={"line": {"color": _TEXT, "width": 1}},
            showlegend=False,
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Bar(
            orientation="h",
            y=[_collection(_plain(row[3]).partition(" would remove")[0]) for row in gains],
            x=[float(row[1]) for row in gains],
            text=[human(row[1]) for row in gains],
            textposition="outside",
            cliponaxis=False,
            hovertext=[_lines(f"reclaimable: {human(size)}", message) for _, size, _, message in gains],
            hoverinfo="text",
            marker={"color": _SKY, "pattern": _pattern("/")},
            showlegend=False,
        ),
        row=len(heights),
        col=1,
    )
    totals = [(what, size) for what, size, total, _ in steps if total]
    title = ", ".join(f"{human(size)} {_TOTALS.get(what, what)}" for what, size in [*totals[:1], *totals[1:][-1:]])
    about = f"Sums in blue, what is added in orange (+), what is saved in green ({_MINUS})."
    if gains:
        about += " Below: what each garbage collection would remove now."
    figure = _figure(figure, title, about, round(140 + 34 * sum(heights)))
    for row, sizes in enumerate([ends, [gain[1] for gain in gains]][: len(heights)], 1):
        largest = float(max(*sizes, 1))
        figure.update_xaxes(title=_SIZE, range=[min(0.0, *sizes), 1.14 * largest], **_ticks(sizes), row=row, col=1)
        figure.update_yaxes(
            autorange="reversed", showgrid=False, title=("step", "reclaimable")[row - 1], row=row, col=1
        )
    return figure


_TOTALS: Final = {"pulled": "if every tag were pulled alone", "tags": "behind tags", "disk": "on disk"}


def layers(shared_layers: pd.DataFrame) -> go.Figure:
    """Return the shared layers that save most, with what made them and who uses them.

    Args:
        shared_layers: As ``shared_layers`` in :data:`regnb.frames.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> layers(inventory.sharing.layers)  # doctest: +SKIP
    """
    names = ("digest", "size", "saved", "command", "manifests", "tags", "repositories", "used_by")
    rows = list(zip(*_columns(shared_layers, "shared_layers", *names), strict=True))
    if not rows:
        return _sentence("No layer is shared.")
    rows.sort(key=lambda row: (-row[2], -row[1], row[0]))
    total = sum(row[2] for row in rows)
    labels = [
        f"{_short(users, 26)} <i>{_short(_plain(digest).rpartition(':')[2][:8])}</i>"
        for digest, *_, users in rows[:_SHOWN]
    ]
    hovers = [
        _lines(
            digest,
            f"{human(size)} stored once; {human(saved)} saved",
            f"in {count(manifests, 'manifest')}, behind {count(tags, 'tag')}, repositories: {repositories:,}",
            command,
            f"used by {users}",
        )
        for digest, size, saved, command, manifests, tags, repositories, users in rows[:_SHOWN]
    ]
    series = [
        _Series("stored once", _BLUE, "", [row[1] for row in rows]),
        _Series("saved by sharing", _GREEN, "/", [row[2] for row in rows]),
    ]
    title = f"Shared layers save {human(total)}"
    return _bars(
        labels,
        hovers,
        series,
        title=title,
        about=f"{count(len(rows), 'layer')}, those that save most first",
        what="layer",
    )


def repositories(repositories: pd.DataFrame) -> go.Figure:
    """Return the repositories by size: what each alone needs, and its part of what it shares with others.

    Args:
        repositories: As ``repositories`` in :data:`regnb.frames.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> repositories(inventory.repositories)  # doctest: +SKIP
    """
    names = ("repository", "tags", "size", "exclusive", "share")
    rows = list(zip(*_columns(repositories, "repositories", *names), strict=True))
    if not rows:
        return _sentence("There are no repositories.")
    rows.sort(key=lambda row: (-row[4], row[0]))
    labels = [_short(row[0]) for row in rows[:_SHOWN]]
    hovers = [
        _lines(
            name,
            f"{human(alone)} needed by it alone, {human(share - alone)} its part of what it shares",
            f"{human(size)} in all, behind {count(tags, 'tag')}",
        )
        for name, tags, size, alone, share in rows[:_SHOWN]
    ]
    alone, shared = [row[3] for row in rows], [row[4] - row[3] for row in rows]
    series = [
        _Series("needed by it alone", _BLUE, "", alone),
        _Series("its part of what is shared", _GREEN, ".", shared),
    ]
    title = f"{human(sum(alone) + sum(shared))} in {len(rows):,} {'repository' if len(rows) == 1 else 'repositories'}"
    about = f"{human(sum(alone))} would go with single repositories, {human(sum(shared))} are shared between them"
    return _bars(labels, hovers, series, title=title, about=about, what="repository")


def reclaim(table: pd.DataFrame) -> go.Figure:
    """Return what each garbage collection removes: anyway, and because of the deletion.

    Args:
        table: As ``reclaim`` in :data:`regnb.frames.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> reclaim(inventory.reclaim("vm/centos8:8.1").table)  # doctest: +SKIP
    """
    names = ("collection", "version", "size", "before", "bound", "message")
    rows = list(zip(*_columns(table, "reclaim", *names), strict=True))
    if not rows:
        return _sentence("No garbage collection was looked at.")
    labels = [
        f"{_collection(f'{collection} ({version})')}<br><i>{_short(bound)}</i>"
        for collection, version, _, _, bound, _ in rows
    ]
    hovers = [
        _lines(f"{collection} ({version}): {bound} {human(size)}", f"{human(before)} of it anyway", message)
        for collection, version, size, before, bound, message in rows
    ]
    series = [
        _Series("because of the deletion", _RED, "", [row[2] - row[3] for row in rows]),
        _Series("anyway", _SKY, "/", [row[3] for row in rows]),
    ]
    if any(series[0].sizes):
        frees, title = series[0].sizes, "The deletion frees"
    else:
        frees, title = series[1].sizes, "Garbage collections would now remove"
    runs = [size for size, row in zip(frees, rows, strict=True) if row[4] != "fails"] or [0]
    title += f" {human(min(runs))}" + f" to {human(max(runs))}" * (max(runs) > min(runs))
    about = "The deletion alone frees nothing: a garbage collection does, and which one decides how much."
    return _bars(labels, hovers, series, title=title, about=about, what="collection")


def sharing(between: pd.DataFrame) -> go.Figure:
    """Return which repositories share bytes, as a matrix of those that share most.

    Args:
        between: As ``between`` in :data:`regnb.frames.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> sharing(inventory.between)  # doctest: +SKIP
    """
    rows = list(zip(*_columns(between, "between", "repository", "other", "size"), strict=True))
    rows = [row for row in rows if row[2] > 0]
    if not rows:
        return _sentence("No two repositories share bytes.")
    totals: Counter[str] = Counter()
    for one, other, size in rows:
        totals[one] += size
        totals[other] += size
    order = sorted(totals, key=lambda name: (-totals[name], name))
    names, rest = order[:_SHOWN], order[_SHOWN:]
    place = {name: number for number, name in enumerate(names)}
    cells: Counter[tuple[int, int]] = Counter()
    for one, other, size in rows:
        pair = (place.get(one, len(names)), place.get(other, len(names)))
        for cell in {pair, pair[::-1]}:
            cells[cell] += size
    full = names + [f"{len(rest):,} others"] * bool(rest)
    labels = [_short(name, 22) for name in full]
    places = range(len(full))
    sizes = [[cells.get((row, column)) for column in places] for row in places]
    largest = max(rows, key=lambda row: row[2])
    about = f"{count(len(rows), 'pair')} share; {largest[0]} and {largest[1]} most: {human(largest[2])}"
    axis = {
        "tickvals": list(places),
        "ticktext": labels,
        "title": "repository",
        "tickfont": {"size": 10},
        "showgrid": False,
        "zeroline": False,
    }
    hovers = [
        [_lines(full[row], f"and {full[column]}", f"share {human(cells[row, column])}") for column in places]
        for row in places
    ]
    return _figure(
        [_heat(sizes, list(places), list(places), hovers, title="bytes shared", name=_tick)],
        f"{len(order):,} repositories share bytes with each other",
        about,
        round(270 + 16 * max(len(full), 8)),
        xaxis=axis | {"tickangle": -90},
        yaxis=axis | {"autorange": "reversed"},
    )


def _heat(
    counts: Sequence[Sequence[int | None]],
    x: Sequence[Any],
    y: Sequence[Any],
    hovers: Sequence[Sequence[str]],
    *,
    title: str,
    name: Any,  # noqa: ANN401 -- from a number to its name
) -> go.Heatmap:
    """Return cells whose colour is a number's logarithm; where it is 0 or None there is none."""
    found = [[math.log10(one) if one else None for one in row] for row in counts]
    decades = list(_decades(one for row in counts for one in row if one))
    return go.Heatmap(
        z=found,
        x=x,
        y=y,
        customdata=[[float(one or 0) for one in row] for row in counts],
        hovertext=hovers,
        hoverinfo="text",
        hoverongaps=False,
        colorscale=_HEAT,
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": title, "side": "right"},
            "tickvals": decades,
            "ticktext": [name(10**decade) for decade in decades],
            "thickness": 12,
            "outlinewidth": 0,
        },
    )


def age(tags: pd.DataFrame) -> go.Figure:
    """Return when the tags' images were made, against their size.

    Args:
        tags: As ``tags`` in :data:`regnb.frames.COLUMNS`. What cannot be drawn is counted above.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> age(inventory.tags)  # doctest: +SKIP
    """
    _columns(tags, "tags", "repository", "tag", "kind", "created", "size")
    dated, sized = tags["created"].notna(), tags["size"] > 0
    shown = pd.DataFrame(tags)[dated & sized]
    left = [
        f"{count(int(missing.sum()), 'tag')} {why} not drawn"
        for missing, why in ((~dated, "without a date"), (dated & ~sized, "of 0 bytes"))
        if missing.any()
    ]
    if shown.empty:
        return _sentence(f"No tag has both a date and a size. {'; '.join(left)}".strip())
    names = ("repository", "tag", "kind", "created", "size")
    rows = list(zip(*(shown[name].tolist() for name in names), strict=True))
    decades = _decades(row[4] for row in rows)
    if len(rows) > _POINTS:
        left.insert(0, f"more than {_POINTS:,}, so each cell counts tags")
        trace = _cells(shown)
    else:
        trace = go.Scatter(
            x=[row[3] for row in rows],
            y=[float(row[4]) for row in rows],
            mode="markers",
            marker={"color": _BLUE, "opacity": 0.7, "size": 8, "line": {"color": _SKY, "width": 1}},
            hovertext=[
                _lines(f"{repository}:{tag}", f"{kind}, {human(size)}, created {created:%Y-%m-%d %H:%M}")
                for repository, tag, kind, created, size in rows
            ],
            hoverinfo="text",
        )
    newest, oldest = shown["created"].max(), shown["created"].min()
    return _figure(
        [trace],
        f"{count(len(rows), 'tag')} from {oldest:%Y-%m-%d} to {newest:%Y-%m-%d}",
        "; ".join(left) or "every tag is drawn",
        480,
        xaxis=_calendar(shown["created"], "created (UTC)"),
        yaxis={
            "title": _SIZE,
            "type": "log",
            "tickvals": [10.0**decade for decade in decades],
            "ticktext": [_tick(10**decade) for decade in decades],
            "range": [decades[0] - 0.1, decades[-1] + 0.1],
        },
    )


def _cells(tags: pd.DataFrame) -> go.Heatmap:
    """Return how many tags there are in each cell of date and size."""
    when = tags["created"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    counts, dates, sizes = np.histogram2d(when, np.log10(tags["size"].to_numpy(dtype=float)), bins=(60, 40))
    days = np.datetime_as_string(dates.astype(np.int64).astype("datetime64[us]"), unit="s").tolist()
    limits = (10**sizes).tolist()
    found: list[list[int | None]] = [[int(one) for one in row] for row in counts.T]
    hovers = [
        [
            f"{count(number or 0, 'tag')}<br>{days[at][:10]} to {days[at + 1][:10]}<br>{human(low)} to {human(high)}"
            for at, number in enumerate(row)
        ]
        for row, low, high in zip(found, limits, limits[1:], strict=False)
    ]
    return _heat(found, days, limits, hovers, title="tags", name=lambda number: f"{number:,}")


def churn(growth: pd.DataFrame) -> go.Figure:
    """Return how many tags came, moved and vanished from each snapshot to the next.

    Args:
        growth: As ``growth`` in :data:`regnb.frames.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> churn(regnb.growth("snapshots").frame)  # doctest: +SKIP
    """
    when, new, moved, vanished = _columns(growth, "growth", "when", "new", "moved", "vanished")
    if len(when) < 2:  # noqa: PLR2004 -- a difference needs two
        return _sentence("It takes two snapshots to see what changed.")
    places = list(range(len(when)))
    numbers = {"new": new, "moved": moved, "vanished": [-number for number in vanished]}
    traces = [
        go.Bar(
            name=name,
            x=places,
            y=numbers[name],
            marker={"color": colour, "pattern": _pattern(pattern)},
            hovertext=[
                f"{day:%Y-%m-%d %H:%M}<br>{abs(number):,} {name}"
                for day, number in zip(when, numbers[name], strict=True)
            ],
            hoverinfo="text",
        )
        for name, colour, pattern in (("new", _BLUE, ""), ("moved", _SKY, "/"), ("vanished", _RED, "."))
    ]
    shown = places[:: math.ceil(len(places) / 12)]
    title = f"{sum(new):,} tags came, {sum(moved):,} moved, {sum(vanished):,} vanished"
    return _figure(
        traces,
        title,
        f"over {len(when):,} snapshots, each against the one before it; below zero: vanished",
        420,
        barmode="relative",
        xaxis={
            "title": "snapshot (UTC)",
            "tickvals": shown,
            "ticktext": [f"{when[place]:%Y-%m-%d}" for place in shown],
            "showgrid": False,
            "zeroline": False,
        },
        yaxis={"title": "tags (number)", "tickformat": ",d", "rangemode": "tozero"},
    )


def growth(growth: pd.DataFrame, forecast: Forecast | None = None, capacity: float | str | None = None) -> go.Figure:
    """Return the bytes over time, and where they lead.

    Args:
        growth: As ``growth`` in :data:`regnb.frames.COLUMNS`.
        forecast: Of :meth:`regnb.growth.Growth.forecast`, counted from the last snapshot: its text is the subtitle, and
            the days between its bounds are a band.
        capacity: What the forecast was made for, as bytes or a text such as ``500GB``: a line.

    Raises:
        InvalidArgument: Columns are missing, or the capacity is no size.

    Example:
        >>> history = regnb.growth("snapshots")  # doctest: +SKIP
        >>> growth(history.frame, history.forecast("2TB"), "2TB")  # doctest: +SKIP
    """
    when, stored, disk, complete = _columns(growth, "growth", "when", "stored", "disk", "complete")
    limit = None if capacity is None else parse_size(capacity)
    if not when:
        return _sentence("There are no snapshots yet.")
    traces = [
        go.Scatter(
            name=name,
            x=when,
            y=[float(size) if size or name == "stored" else None for size in sizes],
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"size": 8, "symbol": [symbol if whole else f"{symbol}-open" for whole in complete]},
            hovertext=[
                f"{day:%Y-%m-%d %H:%M}<br>{name}: {'' if whole else 'at least '}{human(size)}"
                for day, size, whole in zip(when, sizes, complete, strict=True)
            ],
            hoverinfo="text",
        )
        for name, sizes, colour, dash, symbol in (
            ("stored", stored, _BLUE, "solid", "circle"),
            ("disk", disk, _ORANGE, "dash", "diamond"),
        )
        if name == "stored" or any(sizes)
    ]
    last = disk[-1] if all(disk) else stored[-1]
    about = [forecast.text] if forecast else []
    if lower := sum(not whole for whole in complete):
        about.append(f"{count(lower, 'snapshot')} incomplete (open marks): bytes may be too low")
    change = stored[-1] - stored[0]
    title = f"{human(last)} after {count(len(when), 'snapshot')}"
    if len(when) > 1:
        title += f": stored bytes {'grew' if change >= 0 else 'shrank'} by {human(abs(change))}"
    figure = _figure(
        traces,
        title,
        "; ".join(about) or "every snapshot is a point",
        460,
        xaxis=_calendar([] if forecast else when, "snapshot (UTC)"),
        yaxis={"title": _SIZE, "rangemode": "tozero", **_ticks(map(float, [*stored, *disk, limit or 0]))},
    )
    if limit is not None:
        note = {"annotation_text": f"capacity {human(limit)}", "annotation_position": "top left"}
        figure.add_hline(y=float(limit), line={"color": _RED, "dash": "dot"}, **note)
    if forecast:
        _band(figure, forecast, when, last, limit)
    return figure


def _band(figure: go.Figure, forecast: Forecast, when: Sequence[pd.Timestamp], last: int, limit: int | None) -> None:
    """Draw between which days the disk will be full, as far as a calendar and a picture reach."""
    days, earliest, latest = forecast.days, forecast.earliest, forecast.latest
    if not days or earliest is None or latest is None:
        return
    # Ten times what was seen, but at least a month: what lies beyond would press the points together.
    start = when[-1]
    horizon = max(30.0, 10 * ((start - when[0]) / _DAY))
    if earliest <= horizon:
        note = {"annotation_text": "full between these days (95 %)", "annotation_position": "bottom left"}
        ends = {"x0": start + earliest * _DAY, "x1": start + min(latest, horizon) * _DAY}
        figure.add_vrect(**ends, fillcolor=_RED, opacity=0.15, line_width=0, layer="below", **note)
    if limit is not None and days <= horizon:
        figure.add_trace(
            go.Scatter(
                name="forecast",
                x=[start, start + days * _DAY],
                y=[float(last), float(limit)],
                mode="lines",
                line={"color": _RED, "dash": "dashdot"},
                hovertext=_lines(forecast.text),
                hoverinfo="text",
            )
        )

"""Figures of DataFrames: who uses the bytes, what is shared, what could go, and how it grows.

Each is a plotly figure of the frame alone, for light and dark pages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from regnb.analysis.growth import Forecast
from regnb.errors import MissingExtra
from regnb.text import count, human

try:
    import plotly.graph_objects as go
except ImportError:
    raise MissingExtra("plotly", "lab") from None

from regnb.pages.boxes import files, treemap
from regnb.pages.drawing import (
    CLOCK,
    CURVES,
    DAY,
    END,
    MINUS,
    NAMES,
    PARTS,
    POINT,
    POINTS,
    RED,
    SHOWN,
    SIZE,
    SKY,
    TOTALS,
    Row,
    columns_of,
    draw,
    plain,
    rows_of,
    sentence,
    short,
    wrapped,
)

__all__ = ["age", "breakdown", "churn", "files", "growth", "layers", "reclaim", "repositories", "sharing", "treemap"]


_FEW: Final = 5
"""Tags on an axis that has a line for each."""


class _Point(NamedTuple):
    """A tag in a picture, or several."""

    created: pd.Timestamp
    size: float
    tags: int
    text: str


def _tick(size: float) -> str:
    return human(size).replace(".0 ", " ")


def _sizes(values: Iterable[float]) -> dict[str, object]:
    """Return a linear axis of bytes: at most nine ticks on round numbers, and room for a text at each end of a bar."""
    found = list(map(float, values))
    low, high = min([0.0, *found]), max([0.0, *found])
    rough = max((high - low) / 7, 1.0)
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    places = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 2)]
    ticks = {"tickvals": places, "ticktext": [_tick(place) for place in places]}
    return {"title": SIZE, "range": [low, 1.16 * max(high, 1.0)], **ticks}


def _days(when: Iterable[pd.Timestamp], title: str) -> dict[str, object]:
    """Return an axis of dates; around a single one plotly would show its microseconds."""
    days = set(when)
    alone = {"range": [min(days) - DAY, max(days) + DAY]} if len(days) == 1 else {}
    return {"title": title, "type": "date", "tickformatstops": CLOCK, **alone}


def _minute(when: pd.Timestamp) -> str:
    return f"{when:%Y-%m-%d %H:%M}"


def _first(names: object, number: int) -> str:
    """Return the first of some names, and how many more there are."""
    first = short(plain(names).partition(", ")[0], 26)
    return f"{first} and {number - 1:,} more" if number > 1 else first


def _decades(values: Iterable[float]) -> tuple[list[int], list[str]]:
    """Return the powers of 10 around sizes, and what they are called."""
    found = [math.log10(value) for value in values if value > 0]
    decades = list(range(math.floor(min(found)), math.ceil(max(found)) + 1))
    return decades, [_tick(10**decade) for decade in decades]


def _bars(
    rows: Sequence[Row],
    label: Callable[[Row], str],
    hover: Callable[[Row], Iterable[str]],
    parts: Mapping[str, Callable[[Row], int]],
    **texts: str,
) -> go.Figure:
    """Return horizontal bars of bytes, stacked, the first row at the top, with each row's sum at its end.

    Args:
        rows: The first 40 are drawn; title and subtitle say what is left out.
        label: What a row is called, escaped.
        hover: The paragraphs that say more of it.
        parts: What the bars of one colour mean, and how large a row's is.
        texts: ``title`` and ``about`` of the figure, and ``what`` a row is.
    """
    shown, rest = rows[:SHOWN], rows[SHOWN:]
    labels = list(map(label, shown))
    hovers = [wrapped(*hover(row)) for row in shown]
    sizes = [[float(part(row)) for row in shown] for part in parts.values()]
    title, about = texts["title"], texts["about"]
    if rest:
        # A bar of all others would be longer than the rest, and make slivers of them.
        size = sum(part(row) for part in parts.values() for row in rest)
        title += f": the {SHOWN} largest"
        about += f"; not shown: {len(rest):,} others with {human(size)} together"
    sums = [sum(row) for row in zip(*sizes, strict=True)]
    places = list(range(len(labels)))
    traces = [
        go.Bar(name=name, orientation="h", y=places, x=part, marker=marker, hovertext=hovers)
        for name, part, marker in zip(parts, sizes, PARTS, strict=False)
    ]
    ends = go.Scatter(y=places, x=sums, text=[f" {human(size)}" for size in sums], **END)
    names = {"title": texts["what"], "tickvals": places, "ticktext": labels, "range": [len(labels) - 0.4, -0.6]}
    axes = {"xaxis": _sizes(sums), "yaxis": NAMES | names}
    height = 190 + sum(22 + 13 * label.count("<br>") for label in labels)
    return draw([*traces, ends], title, about, height, barmode="stack", bargap=0.25, **axes)


def breakdown(breakdown: pd.DataFrame) -> go.Figure:
    """Return where the bytes are, step by step from what is pulled to the disk, and what could be reclaimed.

    Args:
        breakdown: As ``breakdown`` in :data:`regnb.tables.columns.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = breakdown(inventory.breakdown)
    """
    rows = rows_of(breakdown, "breakdown", "what", "size", "total", "message")
    if not any(row.size for row in rows):
        return sentence("Nothing is stored here.")
    steps = [row for row in rows if row.what != "reclaimable"]
    gains = [row for row in rows if row.what == "reclaimable"]
    levels = accumulate(steps, lambda level, row: row.size + (0 if row.total else level), initial=0)

    def shared(part: Sequence[Row]) -> dict[str, object]:
        hovers = [wrapped(f"{row.what}: {human(row.size)}", row.message) for row in part]
        return {"orientation": "h", "x": [float(row.size) for row in part], "hovertext": hovers}

    fall = go.Waterfall(
        y=[short(row.what) for row in steps],
        measure=["absolute" if row.total else "relative" for row in steps],
        text=[("" if row.total else "+" if row.size >= 0 else MINUS) + human(abs(row.size)) for row in steps],
        **shared(steps),
    )
    below = go.Bar(
        y=[wrapped(plain(row.message).partition(" would remove")[0], width=34) for row in gains],
        text=[human(row.size) for row in gains],
        marker={"color": SKY, "pattern": {"shape": "/"}},
        **shared(gains),
    )
    totals = [f"{human(row.size)} {TOTALS.get(row.what, row.what)}" for row in steps if row.total]
    title = ", ".join([*totals[:1], *totals[1:][-1:]])
    about = f"Sums in blue, what is added in orange (+), what is saved in green ({MINUS})."
    about += " Below: what each garbage collection would remove now." if gains else ""
    x = _sizes([*levels, *(row.size for row in gains)])
    y = NAMES | {"title": "step", "autorange": "reversed"}
    return draw([fall, below], title, about, 170 + 34 * len(rows), xaxis=x, yaxis=y)


def layers(shared_layers: pd.DataFrame, *, among: int | None = None) -> go.Figure:
    """Return layers by what they take, and would take if nothing were shared, with what made them and who uses them.

    Args:
        shared_layers: As ``shared_layers`` in :data:`regnb.tables.columns.COLUMNS`.
        among: How many layers there are, if these are the largest of them; the title says so.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = layers(inventory.largest, among=inventory.layers["digest"].nunique())
    """
    names = ("digest", "size", "saved", "command", "manifests", "tags", "repositories", "used_by")
    rows = rows_of(shared_layers, "shared_layers", *names)
    if not rows:
        return sentence("There are no such layers.")
    cut = among and among > len(rows)
    what = f"{len(rows):,} of {among:,} layers" if cut else count(len(rows), "layer")
    return _bars(
        sorted(rows, key=lambda row: (-row.saved - row.size, row.digest)),
        lambda row: f"{_first(row.used_by, row.repositories)} <i>{short(plain(row.digest).rpartition(':')[2][:8])}</i>",
        lambda row: (
            row.digest,
            f"{human(row.size)} stored once; {human(row.saved)} saved",
            f"behind {count(row.tags, 'tag')}, manifests: {row.manifests:,}, repositories: {row.repositories:,}",
            row.command,
            f"used by {row.used_by}",
        ),
        {"stored once": lambda row: row.size, "saved by sharing": lambda row: row.saved},
        title=f"{what}, {human(sum(row.size for row in rows))}",
        about=f"{'only the largest layers of the registry are counted; ' if cut else ''}"
        f"{human(sum(row.saved for row in rows))} saved by sharing; sorted by size without sharing",
        what="layer",
    )


def repositories(repositories: pd.DataFrame) -> go.Figure:
    """Return the repositories by size: what each alone needs, and its part of what it shares with others.

    Args:
        repositories: As ``repositories`` in :data:`regnb.tables.columns.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = repositories(inventory.repositories)
    """
    rows = rows_of(repositories, "repositories", "repository", "tags", "size", "exclusive", "share")
    if not rows:
        return sentence("There are no repositories.")
    share, alone = (sum(getattr(row, name) for row in rows) for name in ("share", "exclusive"))
    return _bars(
        sorted(rows, key=lambda row: (-row.share, row.repository)),
        lambda row: short(row.repository),
        lambda row: (
            row.repository,
            f"{human(row.exclusive)} needed by it alone, {human(row.share - row.exclusive)} its part of what it shares",
            f"{human(row.size)} in all, behind {count(row.tags, 'tag')}",
        ),
        {"its own": lambda row: row.exclusive, "its part of what it shares": lambda row: row.share - row.exclusive},
        title=f"{human(share)} in {len(rows):,} {'repository' if len(rows) == 1 else 'repositories'}",
        about=f"{human(alone)} belong to one repository alone; repositories share the other {human(share - alone)}",
        what="repository",
    )


def reclaim(table: pd.DataFrame) -> go.Figure:
    """Return what each garbage collection removes: anyway, and because of the deletion.

    Args:
        table: As ``reclaim`` in :data:`regnb.tables.columns.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = reclaim(inventory.reclaim("vm/centos8:8.3").table)
    """
    rows = rows_of(table, "reclaim", "collection", "version", "size", "before", "bound", "message")
    if not rows:
        return sentence("No garbage collection was looked at.")
    deletion = any(row.size > row.before for row in rows)
    frees = [row.size - row.before * deletion for row in rows if row.bound != "fails"] or [0]
    title = "The deletion frees" if deletion else "Garbage collections would now remove"
    title += f" {human(min(frees))}" + f" to {human(max(frees))}" * (max(frees) > min(frees))
    return _bars(
        rows,
        lambda row: f"{wrapped(f'{row.collection} ({row.version})', width=34)}<br><i>{short(row.bound)}</i>",
        lambda row: (
            f"{row.collection} ({row.version}): {row.bound} {human(row.size)}",
            f"{human(row.before)} of it anyway",
            row.message,
        ),
        {"because of the deletion": lambda row: row.size - row.before, "anyway": lambda row: row.before}
        if deletion
        else {"removed now": lambda row: row.size},
        title=title,
        about="Only a garbage collection frees bytes; how many depends on its kind."
        if deletion
        else "One bar for each kind.",
        what="collection",
    )


def sharing(between: pd.DataFrame) -> go.Figure:
    """Return which repositories share bytes, as a matrix of those that share most.

    Args:
        between: As ``between`` in :data:`regnb.tables.columns.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = sharing(inventory.between)
    """
    rows = [row for row in rows_of(between, "between", "repository", "other", "size") if row.size > 0]
    if not rows:
        return sentence("No two repositories share bytes.")
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row.repository] += row.size
        totals[row.other] += row.size
    names = [name for name, _ in totals.most_common(SHOWN)]
    if len(totals) > len(names):
        names.append(f"{len(totals) - len(names):,} others")
    place = {name: number for number, name in enumerate(names[:SHOWN])}
    cells: Counter[tuple[int, int]] = Counter()
    for row in rows:
        pair = (place.get(row.repository, SHOWN), place.get(row.other, SHOWN))
        for cell in {pair, pair[::-1]}:
            cells[cell] += row.size
    sizes = [[cells[row, column] for column in range(len(names))] for row in range(len(names))]
    # The sums of all others would leave the repositories themselves one colour: they get the last one.
    logs = [math.log10(size) for cell, size in cells.items() if SHOWN not in cell] or [0.0]
    low, high = min(logs), max(logs)
    beyond = len(names) > SHOWN
    top = high + max((high - low) / 2, 0.3) if beyond else max(high, low + 0.3)
    ticks = sorted({low, high, top})
    trace = go.Heatmap(
        zmin=low,
        zmax=top,
        z=[[math.log10(size) if size else None for size in row] for row in sizes],
        customdata=[[float(size) for size in row] for row in sizes],
        hovertext=[
            [wrapped(one, f"and {other}", f"share {human(size)}") for other, size in zip(names, row, strict=True)]
            for one, row in zip(names, sizes, strict=True)
        ],
        colorbar={
            "tickvals": ticks,
            "ticktext": [human(10**tick) for tick in ticks[:-1]] + [human(10**top) + " or more" * beyond],
        },
    )
    labels = {"tickvals": list(range(len(names))), "ticktext": [short(name, 22) for name in names]}
    axis = NAMES | labels | {"tickfont": {"size": 10}, "title": "repository"}
    axes = {"xaxis": axis | {"tickangle": -90}, "yaxis": axis | {"autorange": "reversed"}}
    title = f"Bytes that {len(totals):,} repositories share with each other"
    title += f": the {SHOWN} that share most" if beyond else ""
    most = max(rows, key=lambda row: row.size)
    about = f"{count(len(rows), 'pair')} share; {most.repository} and {most.other} most: {human(most.size)}"
    return draw([trace], title, about, 270 + 16 * max(len(names), 8), **axes)


def age(tags: pd.DataFrame) -> go.Figure:
    """Return when the tags' images were made, against their size.

    Args:
        tags: As ``tags`` in :data:`regnb.tables.columns.COLUMNS`. What cannot be drawn is counted above.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = age(inventory.tags)
    """
    found = columns_of(tags, "tags", "repository", "tag", "kind", "created", "size")
    dated = found[found["created"].notna()]
    drawn = dated[dated["size"] > 0]
    left = [
        f"{count(missing, 'tag')} {why} not drawn"
        for missing, why in ((len(found) - len(dated), "without a date"), (len(dated) - len(drawn), "of 0 bytes"))
        if missing
    ]
    if drawn.empty:
        return sentence(f"No tag has both a date and a size. {'; '.join(left)}".strip())
    if len(drawn) > POINTS:
        left.insert(0, f"more than {POINTS:,}, so each point counts tags, a larger one more")
        points = _cells(drawn["created"], drawn["size"])
    else:
        points = [
            _Point(row.created, row.size, 1, f"{row.repository}:{row.tag}, {row.kind}, {human(row.size)}")
            for row in rows_of(drawn, "tags", *drawn.columns)
        ]
    most = math.log2(1 + max(point.tags for point in points))
    trace = go.Scatter(
        x=[point.created for point in points],
        y=[float(point.size) for point in points],
        mode="markers",
        marker=POINT | {"size": [2 + 6 * math.log2(1 + point.tags) / most for point in points]},
        customdata=[point.tags for point in points],
        hovertext=[wrapped(point.text, f"created {_minute(point.created)}") for point in points],
    )
    days = drawn["created"].agg(["min", "max"]).to_list()
    title = f"{count(len(drawn), 'tag')} from {days[0]:%Y-%m-%d} to {days[1]:%Y-%m-%d}"
    decades, ticks = _decades(drawn["size"].agg(["min", "max"]).to_list())
    y = {"title": SIZE, "type": "log", "tickvals": [10.0**decade for decade in decades], "ticktext": ticks}
    y["range"] = [decades[0] - 0.1, decades[-1] + 0.1]
    x = _days(days, "created (UTC)")
    return draw([trace], title, "; ".join(left) or "every tag is drawn", 480, xaxis=x, yaxis=y)


def _cells(created: pd.Series[pd.Timestamp], size: pd.Series[int]) -> list[_Point]:
    """Return points for all tags of about one size and some days, at the first of these days."""
    first = created.min()
    days = max(1, (created.max() - first).days // 50)
    places = (created - first) // (days * DAY)
    powers = (5 * np.log10(size.to_numpy(np.float64))).round().astype(np.int64)
    cells = pd.DataFrame({"place": places.to_numpy(), "power": powers}).value_counts(sort=False)
    return [
        _Point(
            first + place * days * DAY,
            about := 10 ** (power / 5),
            number,
            f"{count(number, 'tag')}, about {human(about)}",
        )
        for place, power, number in cells.rename("number").reset_index().itertuples(index=False)
    ]


def churn(growth: pd.DataFrame) -> go.Figure:
    """Return how many tags came, moved and vanished from each snapshot to the next.

    Args:
        growth: As ``growth`` in :data:`regnb.tables.columns.COLUMNS`.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = churn(regnb.growth("snapshots").frame)
    """
    rows = rows_of(growth, "growth", "when", "new", "moved", "vanished")
    if len(rows) < 2:  # noqa: PLR2004 -- a difference needs two
        return sentence("It takes two snapshots to see what changed.")
    # Texts, as on an axis of dates the bars would be as thin as the two nearest snapshots demand.
    forms = ("%Y-%m-%d", "%Y-%m-%d<br>%H:%M", "%Y-%m-%d<br>%H:%M:%S")
    texts = [[row.when.strftime(form) for row in rows] for form in forms]
    when = next((some for some in texts if len(set(some)) == len(rows)), texts[-1])
    sums, traces = [], []
    for name, marker, sign in zip(("new", "moved", "vanished"), PARTS, (1, 1, -1), strict=True):
        # Of the first snapshot nothing is known: it has no bar.
        numbers = [0 if pd.isna(number) else int(number) for number in (getattr(row, name) for row in rows)]
        hovers = [wrapped(_minute(row.when), f"{number:,} {name}") for row, number in zip(rows, numbers, strict=True)]
        heights = [sign * number for number in numbers]
        traces.append(go.Bar(name=name, x=when, y=heights, marker=marker, hovertext=hovers))
        sums.append(f"{sum(numbers):,} {name}")
    about = f"over {len(rows):,} snapshots, each against the one before it; below zero: vanished"
    x = NAMES | {"title": "snapshot (UTC)", "type": "category", "nticks": 12}
    few = all(abs(height) <= _FEW for trace in traces for height in trace.y)
    # plotly divides a short axis into parts of a tag, and each would be written as a whole number.
    step = {"dtick": 1} if few else {}
    y = {"title": "tags (number)", "tickformat": ",d", "rangemode": "tozero", **step}
    return draw(traces, f"Tags: {', '.join(sums)}", about, 420, barmode="relative", xaxis=x, yaxis=y)


def growth(growth: pd.DataFrame, forecast: Forecast | None = None) -> go.Figure:
    """Return the bytes over time, and where they lead.

    Args:
        growth: As ``growth`` in :data:`regnb.tables.columns.COLUMNS`.
        forecast: Of :meth:`regnb.analysis.growth.Growth.forecast`: its text is the subtitle, the capacity
            a line, and the days
            between its bounds are a band.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> history = regnb.growth("snapshots")
        >>> figure = growth(history.frame, history.forecast("2TB"))
    """
    found = columns_of(growth, "growth", "when", "stored", "disk", "complete")
    rows = rows_of(found.assign(disk=found["disk"].fillna(0)), "growth", *found)
    if not rows:
        return sentence("There are no snapshots yet.")
    when = [row.when for row in rows]
    traces = []
    for name, line, symbol in CURVES:
        sizes = [getattr(row, name) for row in rows]
        words = [f"{name}: {'' if row.complete else 'at least '}{human(getattr(row, name))}" for row in rows]
        if name == "stored" or any(sizes):
            trace = go.Scatter(name=name, x=when, mode="lines+markers", line=line)
            trace.y = [float(size) if size or name == "stored" else None for size in sizes]
            trace.marker = {"size": 8, "symbol": [symbol if row.complete else f"{symbol}-open" for row in rows]}
            trace.hovertext = [wrapped(_minute(day), text) for day, text in zip(when, words, strict=True)]
            traces.append(trace)
    first, last = rows[0], rows[-1]
    reached = last.disk if all(row.disk for row in rows) else last.stored
    change = last.stored - first.stored
    title = f"{human(reached)} after {count(len(rows), 'snapshot')}"
    if len(rows) > 1:
        title += f": stored bytes {'grew' if change >= 0 else 'shrank'} by {human(abs(change))}"
    about = [forecast.text] if forecast else []
    if lower := sum(not row.complete for row in rows):
        about.append(f"{count(lower, 'snapshot')} incomplete (open marks): bytes may be too low")
    x = _days([] if forecast else when, "snapshot (UTC)")
    y = _sizes([forecast.capacity if forecast else 0, *(max(row.stored, row.disk) for row in rows)])
    figure = draw(traces, title, "; ".join(about) or "every snapshot is a point", 460, xaxis=x, yaxis=y)
    if forecast:
        _lead(figure, forecast, first.when, last.when, reached)
    return figure


def _lead(figure: go.Figure, forecast: Forecast, first: pd.Timestamp, last: pd.Timestamp, size: int) -> None:
    """Draw the capacity, and when it will be reached, as far as a calendar and a picture go."""
    capacity, start = float(forecast.capacity), forecast.start or last
    note = {"annotation_text": f"capacity {human(capacity)}", "annotation_position": "top left"}
    figure.add_hline(y=capacity, line={"color": RED, "dash": "dot"}, **note)
    # Ten times what was seen, but at least a month: what lies beyond would press the points together.
    horizon = max(30.0, 10 * ((last - first) / DAY))
    earliest, latest = forecast.earliest or 0.0, min(forecast.latest or horizon, horizon)
    if forecast.days and earliest <= horizon:
        note = {"annotation_text": "full between these days (95 %)", "annotation_position": "bottom left"}
        ends = {"x0": start + earliest * DAY, "x1": start + latest * DAY}
        figure.add_vrect(**ends, fillcolor=RED, opacity=0.15, line_width=0, layer="below", **note)
    if forecast.days and forecast.days <= horizon:
        x, y = [last, start + forecast.days * DAY], [float(size), capacity]
        line = {"color": RED, "dash": "dashdot"}
        figure.add_scatter(name="forecast", x=x, y=y, mode="lines", line=line, hovertext=wrapped(forecast.text))

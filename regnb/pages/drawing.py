"""What every chart is drawn with: colours, axes, texts, and the figure for light and dark pages."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import pandas as pd
import plotly.graph_objects as go
import plotly.io

from regnb.errors import InvalidArgument
from regnb.tables.columns import COLUMNS
from regnb.text import printable

# The palette of Okabe and Ito, less what vanishes on white or on black.
BLUE, SKY, GREEN, ORANGE, RED = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00"
TEXT: Final = "#7d7d7d"
"""As far from white as from JupyterLab's dark pages: about 4:1."""
THEMES: Final = (
    "<style>"
    "[data-jp-theme-light=true] .js-plotly-plot text[style*='rgb(125, 125, 125)'] { fill: #595959 !important; }"
    "[data-jp-theme-light=false] .js-plotly-plot text[style*='rgb(125, 125, 125)'] { fill: #c4c4c4 !important; }"
    "</style>"
)
"""A clearer grey of TEXT for each theme: about 7:1 and 10:1."""
CLEAR: Final = "rgba(127,127,127,0)"
LEVELS: Final = (CLEAR, "#5c5c5c")
"""Colours of a treemap's root and its namespaces."""
MINUS: Final = "\u2212"
SIZE: Final = "size (bytes, in powers of 1000)"
SHOWN: Final = 40
"""Rows of a bar chart or a matrix; the rest is one row."""
POINTS: Final = 5_000
"""Tags that are drawn one by one; more are counted in cells."""
ROOM: Final = 60
"""Boxes for repositories that are large enough for their names."""
BOXES: Final = (30, ROOM, 600)
"""Of a treemap: namespaces, repositories and tags; fewer than 2,000 in all."""
LEGIBLE: Final = 100
"""What is smaller than this part of its parent's box shows no name in the treemap, and has no box of its own."""
VISIBLE: Final = 120
"""A repository that is smaller than this part of the whole shows no name at 860 pixels: it is in a group."""
GROUPS: Final = 12
"""Boxes of a namespace for what has none of its own, at most."""
DEPTH: Final = 4
"""Levels of folders in the treemap of an image's files."""
FOLDERS: Final = 600
"""Its folders."""
EACH: Final = 6
"""Repositories that each namespace of a treemap shows at least."""
DAY: Final = pd.Timedelta(days=1)
CLOCK: Final = [
    {"dtickrange": [None, 59_999], "value": "%H:%M:%S\n%-d %b %Y"},
    {"dtickrange": [60_000, 86_400_000], "value": "%H:%M\n%-d %b %Y"},
    {"dtickrange": [86_400_000, "M1"], "value": "%-d %b\n%Y"},
    {"dtickrange": ["M1", "M12"], "value": "%b\n%Y"},
    {"dtickrange": ["M12", None], "value": "%Y"},
]
"""What an axis of dates shows, by the milliseconds or months between two ticks; seconds only where ticks have them."""
TOTALS: Final = {"pulled": "if every tag were pulled alone", "tags": "behind tags", "disk": "on disk"}

NAMES: Final = {"showgrid": False, "zeroline": False, "ticklabelstandoff": 4}
OUTSIDE: Final = {"textposition": "outside", "cliponaxis": False}
END: Final = {"mode": "text", "textposition": "middle right", "hoverinfo": "skip", "showlegend": False}
PARTS: Final = [
    {"color": colour, "pattern": {"shape": shape}} for colour, shape in ((BLUE, ""), (GREEN, "/"), (RED, "."))
]
"""Markers of the parts of stacked bars."""
CURVES: Final = (("stored", {"color": BLUE}, "circle"), ("disk", {"color": ORANGE, "dash": "dash"}, "diamond"))
FONT: Final = {"color": TEXT, "size": 12}
LINES: Final = {f"{what}color": TEXT for what in ("zeroline", "line", "tick")}
AXIS: Final = LINES | {"gridcolor": "rgba(127,127,127,0.25)", "automargin": True, "title": {"standoff": 10}}
PATTERN: Final = {"size": 8, "solidity": 0.12, "fillmode": "overlay"}
SCALE: Final = [[0, "rgba(86,180,233,0.25)"], [0.5, BLUE], [1, ORANGE]]
BAR: Final = {"thickness": 12, "outlinewidth": 0, "title": {"text": "bytes shared", "side": "right"}}
POINT: Final = {"color": BLUE, "opacity": 0.7, "line": {"color": SKY, "width": 1}}
STEPS: Final = {"totals": BLUE, "increasing": ORANGE, "decreasing": GREEN}
TRACES: Final[dict[str, dict[str, object]]] = {
    "bar": {"marker": {"pattern": PATTERN}, **OUTSIDE},
    "heatmap": {"colorscale": SCALE, "colorbar": BAR, "hoverongaps": False, "xgap": 1, "ygap": 1},
    "scatter": {"cliponaxis": False},
    "treemap": {
        "branchvalues": "total",
        "maxdepth": 3,
        "textinfo": "label+text",
        "tiling": {"pad": 1},
        "root": {"color": CLEAR},
    },
    "waterfall": {step: {"marker": {"color": colour}} for step, colour in STEPS.items()}
    | {"connector": {"line": {"color": TEXT, "width": 1}}, **OUTSIDE},
}
TEMPLATE: Final = go.layout.Template(
    layout={
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "font": FONT,
        "title": {"font": FONT | {"size": 16}, "subtitle": {"font": FONT}, "pad": {"t": 14, "l": 20}}
        | {"x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top"},
        "hoverlabel": {"align": "left", "namelength": -1},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "bgcolor": CLEAR, "traceorder": "normal"},
        "modebar": {"bgcolor": CLEAR, "color": TEXT, "activecolor": BLUE},
        "xaxis": AXIS,
        "yaxis": AXIS,
        "uniformtext": {"minsize": 10, "mode": "hide"},
    },
    data={kind: [{"hoverinfo": "text", **style}] for kind, style in TRACES.items()},
)

Row: TypeAlias = Any
"""A row of a frame, as a named tuple."""


def rows_of(frame: pd.DataFrame, name: str, *columns: str) -> list[Row]:
    """Return rows as named tuples, with Python's integers, as sums may leave 64 bits."""
    return list(columns_of(frame, name, *columns).itertuples(index=False))


def columns_of(frame: pd.DataFrame, name: str, *columns: str) -> pd.DataFrame:
    """Return some columns of a frame.

    Raises:
        InvalidArgument: Some are missing.
    """
    if lacking := [column for column in columns if column not in frame.columns]:
        raise InvalidArgument(
            f"the frame has no column {', '.join(lacking)}", hint=f"give a frame {name!r}: {', '.join(COLUMNS[name])}"
        )
    return pd.DataFrame(frame)[[*columns]]


def plain(text: object) -> str:
    """Return a text without what a terminal or a page takes for a command; "" for what is none."""
    return printable(text) if isinstance(text, str) else ""


def marked(text: str) -> str:
    """Return a text as plotly shows it as it is."""
    # Plotly reads markup in every text, does not know &quot;, and takes what is between two dollars for TeX.
    return html.escape(text, quote=False).replace("$", "&#36;")


def short(text: object, width: int = 32) -> str:
    """Return a name that fits a label: what is too long loses its middle."""
    whole = plain(text)
    return marked(whole if len(whole) <= width else f"{whole[: width // 2 - 1]}…{whole[-(width // 2) :]}")


def wrapped(*texts: object, width: int = 90, limit: int = 8) -> str:
    """Return paragraphs, wrapped and escaped, as plotly takes them."""
    found = []
    for text in texts:
        lines = textwrap.wrap(plain(text), width, break_on_hyphens=False)
        found += [*lines[:limit], "…"] if len(lines) > limit else lines
    return "<br>".join(map(marked, found))


class Chart(go.Figure):  # type: ignore[misc]  # plotly has no types
    """A figure that follows the width of its page, also when a window is resized, and the theme of JupyterLab."""

    def _ipython_display_(self) -> None:
        from IPython.display import display  # only a notebook calls this

        put: Callable[..., object] = display
        put({"text/html": THEMES}, raw=True)
        if plotly.io.renderers.render_on_display and plotly.io.renderers.default:
            plotly.io.show(self, config={"responsive": True})
        else:
            print(repr(self))  # noqa: T201 -- as plotly does it


def draw(traces: Sequence[Row], title: str, about: str, height: int, **layout: object) -> go.Figure:
    """Return a figure that can be read on light and on dark pages."""
    subtitle = wrapped(about, width=100)
    named = sum(trace.name is not None for trace in traces) > 1
    return Chart(traces).update_layout(
        template=TEMPLATE,
        title={"text": f"<b>{marked(title)}</b>", "subtitle": {"text": subtitle}},
        margin={"l": 20, "r": 30, "t": 68 + 16 * subtitle.count("<br>") + 26 * named, "b": 50},
        showlegend=named,
        height=height,
        **layout,
    )


def sentence(text: str) -> go.Figure:
    """Return a figure that says why there is nothing to see."""
    note = {"text": wrapped(text), "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    return draw([], "", "", 180, annotations=[note], xaxis_visible=False, yaxis_visible=False)

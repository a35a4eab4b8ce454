"""What figures show adds up to their frames, and what is hostile, huge or missing in a frame breaks none of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from images import image
from stored import Stored

pytest.importorskip("plotly")

from regnb.analysis.growth import Forecast, Growth
from regnb.analysis.inventory import Inventory
from regnb.errors import InvalidArgument
from regnb.pages import charts, drawing
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import Frame, make
from regnb.text import human

FRAMES = {
    charts.treemap: "usage",
    charts.breakdown: "breakdown",
    charts.layers: "shared_layers",
    charts.sharing: "between",
    charts.age: "tags",
    charts.churn: "growth",
    charts.growth: "growth",
    charts.files: "files",
    charts.reclaim: "reclaim",
    charts.repositories: "repositories",
}
TREEMAPS = (charts.treemap, charts.files)
HOSTILE = '<b onclick="x">&amp;</b><a href="http://evil">\u202e$x$ %{y}\n' + "n" * 300
DAY = datetime(2026, 1, 1, tzinfo=UTC)
every = pytest.mark.parametrize("chart", FRAMES, ids=lambda chart: chart.__name__)


def rows(name: str, number: int, *, text: str = "", size: int | None = None) -> Frame:
    """Rows of a frame that hold what their types allow, each text ``text`` or one of its own."""
    values: dict[str, Callable[[str, int], Any]] = {
        "str": lambda column, at: text or f"{column}/{at:04}",
        "category": lambda column, at: text or f"{column}/{at:04}",
        "int32": lambda _, at: at,
        "int64": lambda _, at: (at + 1) * 1000 if size is None else size,
        "Int64": lambda _, at: (at + 1) * 1000 if size is None else size,
        "bool": lambda _, at: at % 2 == 0,
        "boolean": lambda _, at: at % 2 == 0,
        "datetime64[us, UTC]": lambda _, at: DAY + timedelta(days=at),
    }
    kinds = {"usage": "kind", "breakdown": "what", "files": "kind"}
    found = {
        column: [values[dtype](column, at) for at in range(number)] for column, (dtype, _) in COLUMNS[name].items()
    }
    if name in kinds:
        of_kind = ["file"] if name == "files" else ["exclusive", "tags", "repositories"]
        names = {"kind": of_kind, "what": ["pulled", "sharing", "disk", "reclaimable"]}
        found[kinds[name]] = [names[kinds[name]][at % len(names[kinds[name]])] for at in range(number)]
    return make(name, found)


def shown(figure: Any) -> str:
    """Everything that a browser is given."""
    return str(figure.to_json())


def texts(part: Any) -> list[str]:
    """Every text in a figure."""
    if isinstance(part, dict):
        return [text for one in part.values() for text in texts(one)]
    if isinstance(part, list):
        return [text for one in part for text in texts(one)]
    return [part] if isinstance(part, str) else []


def bars(figure: Any) -> dict[str, list[float]]:
    return {trace.name: list(trace.x) for trace in figure.data if trace.type == "bar"}


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    """Two repositories that share a layer, and tags that share another one."""
    base, common = b"base" * 500, b"common" * 300
    return Stored(
        ("vm/a", "1", image([base, common, b"one" * 90])),
        ("vm/a", "2", image([base, common, b"two" * 90])),
        ("db", "1", image([base, b"three" * 90])),
    ).inventory()


def test_the_treemap_adds_up(inventory: Inventory) -> None:
    """Each box is as large as the boxes in it, the root is all that is stored, and what is shared is called so."""
    figure = charts.treemap(inventory.usage)
    trace = figure.data[0]
    inside: Counter[str] = Counter()
    for parent, size in zip(trace.parents, trace.values, strict=True):
        inside[parent] += size
    for box, size in zip(trace.ids, trace.values, strict=True):
        assert inside.get(box, size) == size
    assert inside[""] == inventory.summary.stored == sum(inventory.usage["size"])
    assert {"shared by its tags", "shared with other repositories"} <= set(trace.labels)


def test_a_large_treemap_is_folded_and_loses_no_byte() -> None:
    """200 repositories with 30 tags each stay below 2,000 boxes; tags are folded, repositories in groups that open."""
    names = [(f"n{at % 9}", f"n{at % 9}/r{at}", f"t{tag}") for at in range(200) for tag in range(30)]
    usage = make(
        "usage",
        {
            "namespace": [name[0] for name in names],
            "repository": [name[1] for name in names],
            "tag": [name[2] for name in names],
            "kind": ["exclusive"] * len(names),
            "size": [((at * 7919) % 100_003 + 1) * (20 if at < 1200 else 1) for at in range(len(names))],
        },
    )
    trace = charts.treemap(usage).data[0]
    leaves = set(trace.ids) - set(trace.parents)
    assert len(trace.ids) < 2000
    assert sum(size for box, size in zip(trace.ids, trace.values, strict=True) if box in leaves) == sum(usage["size"])
    tags, repositories = (
        [
            int(told[1].replace(",", ""))
            for text in trace.hovertext
            if (told := re.search(rf"([\d,]+) {kind}<br>", text))
        ]
        for kind in ("tags?", "repositories")
    )
    assert tags
    assert repositories
    groups = {box for box, text in zip(trace.ids, trace.hovertext, strict=True) if "repositories<br>" in text}
    opened = sum(parent in groups for parent in trace.parents)
    assert opened == sum(repositories)
    assert len(leaves) - len(tags) - opened + sum(tags) + 30 * opened == len(names)


@pytest.mark.parametrize("form", ["team/service-{}", "service-{}", "team-{}/service"])
def test_thousands_of_equal_repositories_are_groups_that_can_be_read(form: str) -> None:
    """12 boxes of about the same size name their first and last; none dwarfs the others, the title counts them."""
    names = [form.format(f"{at:04}") for at in range(3000)]
    columns = {"namespace": [name.partition("/")[0] for name in names], "repository": names}
    rest = {"tag": [""] * len(names), "kind": ["tags"] * len(names), "size": [10**8] * len(names)}
    figure = charts.treemap(make("usage", {**columns, **rest}))
    (trace,) = figure.data
    groups = [size for label, size in zip(trace.labels, trace.values, strict=True) if " … <br>" in label]
    assert len(groups) == 12
    assert max(groups) < 1.1 * min(groups)
    assert sum(groups) == trace.values[0] == 3000 * 10**8
    assert "3,000 repositories in groups by name" in figure.layout.title.text


def test_what_fits_no_box_of_its_own_is_counted() -> None:
    """Of a thousand namespaces, one of them with a thousand repositories, no byte and no repository is lost."""
    many = [(f"n{at:04}", f"n{at:04}/r") for at in range(1000)] + [("n0000", f"n0000/r{at}") for at in range(1000)]
    columns = {"namespace": [name for name, _ in many], "repository": [name for _, name in many]}
    rest = {"tag": [""] * len(many), "kind": ["tags"] * len(many), "size": [10**6 + at for at in range(len(many))]}
    trace = charts.treemap(make("usage", {**columns, **rest})).data[0]
    counted = [re.search(r"([\d,]+) (namespaces?|repositor(?:y|ies))<br>", text) for text in trace.hovertext]
    assert sum(int(found[1]) for found in counted if found and found[2][0] == "n") == 999
    assert sum(int(found[1].replace(",", "")) for found in counted if found and found[2][0] == "r") == 1001
    assert len(trace.ids) < 2000
    assert trace.values[0] == sum(rest["size"])


def test_the_files_of_an_image_add_up_and_hidden_bytes_are_told() -> None:
    """Each folder has the bytes of what lies in it; what later layers hide is a box of its own."""
    paths = [*(f"usr/share/d{number}/f" for number in range(900)), "usr/bin/a", "top", "usr/share/deep/er/and/er/x"]
    frame = rows("files", len(paths), size=10).assign(path=paths, hidden=0)
    frame.loc[frame["path"].isin(["usr/bin/a", "usr/share/d7/f", "usr/share/d899/f"]), "hidden"] = 10
    (trace,) = charts.files(frame).data
    sizes = dict(zip(trace.ids, trace.values, strict=True))
    below = Counter()
    for one, parent in zip(trace.ids, trace.parents, strict=True):
        below[parent] += sizes[one]
    assert below[""] == 10 * len(paths)
    assert all(below[one] <= size for one, size in sizes.items())
    assert len(sizes) < 700
    assert sum(size for one, size in sizes.items() if one.endswith("-hidden")) == 30
    labels = dict(zip(trace.labels, trace.values, strict=True))
    assert (labels["bin"], trace.labels.count("hidden")) == (10, 2)
    assert any("smaller folders" in label for label in labels)


def test_the_breakdown_has_each_row(inventory: Inventory) -> None:
    """The steps lead from one sum to the next, as in the frame; over HTTP there is nothing below them."""
    figure = charts.breakdown(inventory.breakdown)
    fall = figure.data[0]
    assert list(fall.y) == inventory.breakdown["what"].to_list()
    assert list(fall.x) == inventory.breakdown["size"].to_list()
    level = 0.0
    for measure, size in zip(fall.measure, fall.x, strict=True):
        level = level + size if measure == "relative" else size
        assert level >= 0
    assert human(inventory.summary.stored) in figure.layout.title.text
    assert not figure.data[1:] or not len(figure.data[1].x)


def test_what_is_reclaimable_names_its_collection() -> None:
    """Each row ``reclaimable`` is a bar of its own, labelled with the collection out of its message."""
    steps = [("pulled", 9000, True, ""), ("sharing", -4000, False, ""), ("disk", 5000, True, "")]
    gains = [
        ("reclaimable", 700, False, "garbage-collect (2.8 and 3) would remove this now"),
        ("reclaimable", 900, False, "garbage-collect --delete-untagged (3) would remove this now; breaks images"),
    ]
    columns = zip(*steps, *gains, strict=True)
    figure = charts.breakdown(make("breakdown", dict(zip(COLUMNS["breakdown"], columns, strict=True))))
    assert list(figure.data[0].x) == [9000, -4000, 5000]
    assert list(figure.data[1].x) == [700, 900]
    assert list(figure.data[1].y) == ["garbage-collect (2.8 and 3)", "garbage-collect --delete-untagged<br>(3)"]
    assert "breaks images" in figure.data[1].hovertext[1]


def test_the_layers_say_who_uses_them(inventory: Inventory) -> None:
    """A bar is a layer's size and what sharing saves; the hover text has its command and its users.

    The title says where only the largest of all layers are drawn.
    """
    layers = inventory.sharing.layers
    figure = charts.layers(layers)
    found = bars(figure)
    assert sum(found["stored once"]) == sum(layers["size"])
    assert sum(found["saved by sharing"]) == sum(layers["saved"])
    assert "only the largest" not in figure.layout.title.subtitle.text
    cut = charts.layers(layers, among=5_321).layout.title
    assert f"{len(layers)} of 5,321 layers, " in cut.text
    assert cut.subtitle.text.startswith("only the largest layers of the registry are counted; ")
    hover = "".join(figure.data[0].hovertext)
    assert "vm/a" in hover
    assert "db" in hover
    assert "RUN step 0" in hover


@pytest.mark.parametrize("number", [3, 200])
def test_the_repositories_add_up(number: int) -> None:
    """The bars add up; of many repositories the 40 largest are drawn, and the words say what is left out."""
    frame = rows("repositories", number).assign(exclusive=400, share=range(1000, 1000 + number))
    figure = charts.repositories(Frame(frame))
    alone, shared = bars(figure).values()
    drawn = sorted(frame["share"])[-40:]
    assert sum(alone) == 400 * len(drawn)
    assert sum(alone) + sum(shared) == sum(drawn)
    assert ("the 40 largest" in figure.layout.title.text) == (number > 40)
    left = f"{number - 40} others with {human(sum(frame['share']) - sum(drawn))} together"
    assert (left in figure.layout.title.subtitle.text.replace("<br>", " ")) == (number > 40)


def test_the_matrix_is_symmetric_and_adds_up() -> None:
    """Of 200 repositories 40 have a row; one half with the diagonal is the sum of all pairs."""
    names = [f"r{at:03}" for at in range(200)]
    pairs = [(one, other) for at, one in enumerate(names) for other in names[at + 1 :]]
    sizes = [(at * 7919) % 1009 + 1 for at in range(len(pairs))]
    figure = charts.sharing(
        make("between", {"repository": [p[0] for p in pairs], "other": [p[1] for p in pairs], "size": sizes})
    )
    cells = figure.data[0].customdata
    assert len(cells) == 41
    assert figure.layout.xaxis.ticktext[-1] == "160 others"
    assert sum(cells[row][column] for row in range(41) for column in range(row + 1)) == sum(sizes)
    assert all(cells[row][column] == cells[column][row] for row in range(41) for column in range(row))


@pytest.mark.parametrize("number", [40, 6000])
def test_every_tag_is_drawn_or_counted(number: int) -> None:
    """Points, or the cells' sum, and the numbers of tags without a date and of 0 bytes are all tags."""
    tags = rows("tags", number)
    tags.loc[tags.index[:3], "created"] = None
    tags.loc[tags.index[5:7], "size"] = 0
    figure = charts.age(tags)
    trace = figure.data[0]
    drawn = sum(trace.customdata)
    about = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert drawn == number - 5
    assert "3 tags without a date" in about
    assert "2 tags of 0 bytes" in about
    assert ("each point counts tags" in about) == (number > 5000)


def test_churn_goes_up_and_down() -> None:
    """New and moved tags stand above zero, vanished ones below, one bar for each snapshot."""
    frame = rows("growth", 5).assign(new=[0, 3, 0, 1, 2], moved=[0, 0, 4, 0, 0], vanished=[0, 1, 1, 0, 5])
    figure = charts.churn(frame)
    assert {trace.name: list(trace.y) for trace in figure.data} == {
        "new": [0, 3, 0, 1, 2],
        "moved": [0, 0, 4, 0, 0],
        "vanished": [0, -1, -1, 0, -5],
    }
    assert figure.layout.yaxis.dtick == 1, "no line is for a part of a tag"
    assert charts.churn(frame.assign(new=1000)).layout.yaxis.dtick is None


def test_growth_shows_each_snapshot_and_where_it_leads() -> None:
    """Every snapshot is a point, incomplete ones open; the capacity is a line, and the forecast's bounds are a band."""
    weeks = [DAY + timedelta(weeks=at) for at in range(8)]
    frame = rows("growth", 8).assign(complete=[True] * 7 + [False], collected=0, when=weeks)
    forecast = Growth("r", frame).forecast("12kB")
    figure = charts.growth(frame, forecast)
    stored = next(trace for trace in figure.data if trace.name == "stored")
    assert list(stored.y) == frame["stored"].to_list()
    assert stored.marker.symbol[-1] == "circle-open"
    assert "at least" in stored.hovertext[-1]
    line, band = sorted(figure.layout.shapes, key=lambda shape: shape.type)
    assert line.y0 == 12_000
    assert (band.type, band.x0 <= band.x1) == ("rect", True)
    assert forecast.text in figure.layout.title.subtitle.text.replace("<br>", " ")
    assert next(trace for trace in figure.data if trace.name == "forecast").y[-1] == 12_000


@pytest.mark.parametrize(
    "forecast",
    [
        Forecast(None, None, None, "not known", 10**12, DAY),
        Forecast(0.0, 0.0, 0.0, "full", 10**12, DAY),
        Forecast(float("inf"), float("inf"), float("inf"), "never", 10**12, DAY),
        Forecast(50.0, 20.0, float("inf"), "perhaps", 10**12, DAY),
        Forecast(1e12, 1e11, float("inf"), "in the end", 10**12, DAY),
    ],
    ids=lambda forecast: forecast.text,
)
def test_no_forecast_breaks_the_picture(forecast: Forecast) -> None:
    """What is not known, over, infinite or beyond any calendar is left to the forecast's words."""
    figure = charts.growth(rows("growth", 4), forecast)
    assert forecast.text in figure.layout.title.subtitle.text
    assert "Infinity" not in shown(figure)


def test_disk_is_not_drawn_where_nobody_knows_it() -> None:
    """Snapshots that were read over HTTP have no bytes on disk, which is not the same as 0."""
    frame = rows("growth", 4).assign(disk=[0, 0, 500, 600])
    disk = next(trace for trace in charts.growth(frame).data if trace.name == "disk")
    assert list(disk.y) == [None, None, 500, 600]
    assert [trace.name for trace in charts.growth(frame.assign(disk=0)).data] == ["stored"]


def test_reclaim_tells_what_goes_anyway(inventory: Inventory) -> None:
    """Both parts of each bar add up to what the collection removes, and its bound stands beside it."""
    table = inventory.reclaim("vm/a:1").table
    figure = charts.reclaim(table)
    because, anyway = bars(figure).values()
    assert [sum(parts) for parts in zip(because, anyway, strict=True)] == table["size"].to_list()
    assert anyway == table["before"].to_list()
    assert all(bound in label for bound, label in zip(table["bound"], figure.layout.yaxis.ticktext, strict=True))
    assert "now remove" in charts.reclaim(inventory.reclaim().table).layout.title.text


@every
def test_without_rows_there_is_a_sentence(chart: Callable[[Frame], Any]) -> None:
    """An empty frame gives a figure that says so."""
    figure = chart(rows(FRAMES[chart], 0))
    assert len(figure.layout.annotations[0].text) > 10
    assert not figure.data


@every
@pytest.mark.parametrize("number", [1, 2, 200])
@pytest.mark.parametrize("size", [None, 0, 1, 2**62])
def test_any_size_makes_a_figure(chart: Callable[[Frame], Any], number: int, size: int | None) -> None:
    """One row or 200, empty or so large that sums leave 64 bits: the figure is one that a browser can read."""
    frame = rows(FRAMES[chart], number, size=size)
    numbers = json.loads(shown(chart(frame)), parse_int=float, parse_constant=pytest.fail)
    assert numbers["layout"]["title"]["text"] or numbers["layout"]["annotations"]


@every
def test_names_are_no_markup(chart: Callable[[Frame], Any]) -> None:
    """No tag, link, TeX or turned writing of a name gets through, and no text is a template."""
    found = texts(json.loads(shown(chart(rows(FRAMES[chart], 3, text=HOSTILE)))))
    ours = re.compile(r"</?[bi]>|<br>")
    for text in found:
        assert "<" not in ours.sub("", text)
        assert "\u202e" not in text
        assert text.count("$") < 2
        # Plotly shows what it does not know, such as &quot;, as it stands.
        assert not re.search(r"&(?!lt;|gt;|amp;|#36;)", text)
    assert 'template":"' not in shown(chart(rows(FRAMES[chart], 3))).replace(" ", "")


@every
def test_both_themes_can_be_read(chart: Callable[[Frame], Any]) -> None:
    """Paper and plot are transparent, and no colour is near white or near black."""
    figure = chart(rows(FRAMES[chart], 5))
    layout = json.loads(shown(figure))
    style = figure.layout.template.layout
    assert style.paper_bgcolor == style.plot_bgcolor == drawing.CLEAR
    for text in texts(layout):
        assert not re.search(r"\b(white|black)\b", text)
        for colour in re.findall(r"#([0-9a-fA-F]{6})\b", text):
            red, green, blue = bytes.fromhex(colour)
            assert 50 < 0.3 * red + 0.6 * green + 0.1 * blue < 200


@every
def test_every_axis_says_what_it_counts(chart: Callable[[Frame], Any]) -> None:
    """Each axis has a title; bytes have ticks that people read, which do not pile up."""
    figure = chart(rows(FRAMES[chart], 5, size=3 * 10**9) if chart not in TREEMAPS else rows(FRAMES[chart], 5))
    axes = [figure.layout[name] for name in figure.layout if re.fullmatch(r"[xy]axis\d*", name)]
    assert all(axis.title.text for axis in axes) or chart in TREEMAPS
    sized = [axis for axis in axes if "bytes" in (axis.title.text or "")]
    for axis in sized:
        assert 2 <= len(axis.tickvals) <= 12
        assert all(re.fullmatch(r"[\d.]+ [kMGT]?B", text) for text in axis.ticktext)
    assert sized or chart in (*TREEMAPS, charts.sharing, charts.churn)


@every
def test_a_frame_of_another_kind_is_refused(chart: Callable[[Frame], Any]) -> None:
    """The error names the columns that are missing, and the frame that has them."""
    with pytest.raises(InvalidArgument, match="no column") as caught:
        chart(Frame({"tag": ["8"]}))
    assert FRAMES[chart] in caught.value.hint


@pytest.mark.parametrize(
    ("sizes", "names"),
    [
        ([0], ["0 B", "1 B"]),
        ([7_000_000], ["0 B", "1 MB", "2 MB", "3 MB", "4 MB", "5 MB", "6 MB", "7 MB", "8 MB"]),
        ([10_000_000_000], ["0 B", "2 GB", "4 GB", "6 GB", "8 GB", "10 GB", "12 GB"]),
    ],
)
def test_ticks_are_round(sizes: Sequence[float], names: list[str]) -> None:
    """Ticks stand on round numbers in powers of 1000, and reach beyond the largest bar."""
    assert charts._sizes(sizes)["ticktext"] == names


def test_without_plotly_the_extra_is_named() -> None:
    """Where plotly is missing the error says what installs it."""
    code = "import sys; sys.modules['plotly'] = None\nfrom regnb.pages import charts"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra: plotly is not installed; pip install 'regnb[lab]'" in done.stderr


def test_snapshots_have_days_under_their_bars() -> None:
    """Of different days the days alone stand there; of one day the time, as far as it tells them apart."""
    found = rows("growth", 3)
    assert list(charts.churn(found).data[0].x) == [f"{DAY + timedelta(days=at):%Y-%m-%d}" for at in range(3)]
    for unit, form in ((timedelta(minutes=1), "%Y-%m-%d<br>%H:%M"), (timedelta(seconds=1), "%Y-%m-%d<br>%H:%M:%S")):
        when = [DAY + number * unit for number in range(3)]
        close = Frame(found.assign(when=when))
        assert list(charts.churn(close).data[0].x) == [moment.strftime(form) for moment in when]

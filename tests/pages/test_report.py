"""The report: its figures add up, what is hostile in a registry does nothing in it, and it stays small."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, cast

import anyio
import pytest
from conftest import Seeded
from images import config, image, layer
from simulated import SimulatedClient
from stored import Stored

pytest.importorskip("plotly")

from plotly.graph_objects import Figure
from proxied import gap

import regnb
from regnb.analysis.growth import Growth
from regnb.analysis.inventory import Inventory
from regnb.crawl.crawl import collect
from regnb.crawl.records import Records
from regnb.errors import InvalidArgument
from regnb.pages.report import ROWS, _figure, report
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import Frame, make
from regnb.text import human
from regnb.wire.cache import Cache
from regnb.wire.client import Client

HOSTILE = '</script><img src="http://evil/x" onerror="pwned=1">\x1b[31m\u202e$x$' + "n" * 80
DAY = datetime(2026, 1, 1, tzinfo=UTC)
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a browser would make of it: elements with their attributes, and the text of each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")
        if tag not in VOID:
            self._open.append(len(self.found) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.found[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for at in self._open:
            self.texts[at] += data

    def all(self, tag: str) -> list[tuple[dict[str, str], str]]:
        return [(about, text) for (name, about), text in zip(self.found, self.texts, strict=True) if name == tag]


def unpacked(text: str) -> str:
    """What a packed script holds."""
    return gzip.decompress(base64.b64decode(text)).decode()


def rows(page: str, caption: str) -> list[list[str]]:
    """The cells of a table, by the beginning of its caption."""
    table = page[page.index(f"<caption>{caption}") :]
    found = re.findall(r"<tr>(.*?)</tr>", table[: table.index("</table>")])
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in found]


def crawled(tags: int) -> Inventory:
    async def work() -> Records:
        return await collect(cast("Client", SimulatedClient(tags // 50, 50)), Cache())

    return Inventory.of(anyio.run(work))


@pytest.fixture(scope="module")
def large() -> Inventory:
    return crawled(6_000)


def hostile() -> Inventory:
    """An inventory whose every text is hostile."""
    found = crawled(200)
    tables = {}
    for name, frame in found.frames.items():
        texts = frame.copy()
        for column in texts.columns:
            if str(texts[column].dtype) == "str" and column in ("repository", "tag", "platforms", "command", "status"):
                texts[column] = texts[column] + HOSTILE
        tables[name] = Frame(texts)
    problem = {"repository": HOSTILE, "reference": HOSTILE, "problem": HOSTILE, "message": HOSTILE, "hint": HOSTILE}
    tables["problems"] = make("problems", {name: [text] for name, text in (problem | {"incomplete": True}).items()})
    return Inventory(HOSTILE, DAY, DAY + timedelta(seconds=90), tables)


def snapshots(number: int) -> Growth:
    columns: dict[str, list[Any]] = {name: [0] * number for name in COLUMNS["growth"]}
    columns["when"] = [DAY + timedelta(weeks=at) for at in range(number)]
    columns["stored"] = [(at + 1) * 1_000_000 + at % 3 for at in range(number)]
    columns["complete"] = [True] * number
    columns["disk"] = [None] * number
    return Growth("host:5000", make("growth", columns), ("1 snapshot left out: not readable.",))


def test_every_chart_has_its_table(seeded: Seeded) -> None:
    """One section a question; each figure is followed by a table in the same section, and the contents lead there."""
    page = report(regnb.read(seeded.url), growth=snapshots(5), capacity="1TB")
    parts = re.findall(r"<section id=\"(\w+)\".*?</section>", page, re.DOTALL)
    sections = dict(zip(parts, re.findall(r"<section .*?</section>", page, re.DOTALL), strict=True))
    drawn = {name: text.count("<figure>") for name, text in sections.items() if "<figure>" in text}
    assert drawn == {
        "bytes": 1, "whose": 1, "repositories": 1, "layers": 1, "sharing": 1, "age": 1, "collections": 1, "growth": 2,
    }  # fmt: skip
    assert all(text.rindex("</figure>") < text.rindex("<table>") for name, text in sections.items() if name in drawn)
    assert re.findall(r'<li><a href="#(\w+)">', page) == list(sections)


def test_how_it_was_made(seeded_embedded: Seeded) -> None:
    """From what, when, by which version and command, and that not all of it could be read."""
    with gap(seeded_embedded.host) as refused:
        inventory = regnb.read(refused.url)
    page = report(inventory, command="regnb report 'x y'")
    said = re.sub(r"<[^>]*>", " ", page[: page.index("<main")])
    for words in ("Incomplete", "(HTTP)", f"regnb {regnb.__version__}", f"{inventory.started:%Y-%m-%d %H:%M:%S} UTC"):
        assert words in said
    assert "regnb report &#x27;x y&#x27;" in page
    assert "at least" in page[page.index('id="summary"') : page.index('id="bytes"')]
    assert "Manifests without a tag take up space" in page


def test_a_storage_is_exact(seeded_real: Seeded) -> None:
    """What only a storage tells is there: the disk, uploads, and collections without a bound."""
    inventory = regnb.read(seeded_real.root)
    page = report(inventory)
    assert "Complete: everything" in page
    assert f"<dd>{human(inventory.summary.disk)}</dd>" in page
    assert "Uploads begun and not finished" in page
    assert {row[5] for row in rows(page, "Kinds of garbage collection")[1:]} == {"exact"}
    assert "the API" not in page


def test_tables_are_cut_with_their_sums(large: Inventory) -> None:
    """The largest come first; how many are left out is said, with their sum, and the sum of all."""
    page = report(large)
    for caption, frame, by in (
        ("Repositories", large.repositories, "share"),
        ("What tags need", large.usage, "size"),
        ("The largest tags", large.tags, "size"),
    ):
        head, *body, more, whole = rows(page, caption)
        assert len(body) == ROWS
        at = head.index(by)
        ordered = sorted(frame[by].tolist(), reverse=True)
        assert [row[at] for row in body] == [human(size) for size in ordered[:ROWS]]
        assert (more[0], more[at]) == (f"{len(frame) - ROWS:,} more", human(sum(ordered[ROWS:])))
        assert (whole[0], whole[at]) == (f"all {len(frame):,}", human(sum(ordered)))


def test_a_short_table_is_whole() -> None:
    """Nothing is said to be left out; an empty one is a sentence."""
    page = report(Stored(("vm/app", "1", image([layer("a", 1000)], about=config()))).inventory())
    assert [row[0] for row in rows(page, "Repositories")[1:]] == ["vm/app", "all 1"]
    assert " more</th>" not in page
    assert "Pairs of repositories that share bytes: none." in page
    assert "Problems: none." in page


def test_an_empty_registry() -> None:
    """It has a report as well."""
    page = report(Stored().inventory())
    assert "<dd>0</dd>" in page
    assert any("Nothing is stored here." in unpacked(text) for _, text in Page(page).all("script")[1:-2])


def test_what_is_hostile_does_nothing() -> None:
    """Names of repositories and tags, commands and messages are text: no markup, no control signs."""
    page = report(hostile(), growth=snapshots(3), command=HOSTILE)
    found = Page(page)
    assert not {"img", "link", "iframe", "object", "b"} & {tag for tag, _ in found.found}
    assert not [about for _, about in found.found if any(name.startswith("on") for name in about)]
    own = page.replace(found.all("script")[-2][1], "")
    assert not [sign for sign in own if not sign.isprintable() and sign != "\n"]
    assert "&lt;/script&gt;&lt;img src=" in page
    # One for each chart, plotly, what draws them, and one that says that scripts run.
    assert len(found.all("script")) == page.count("<figure>") + 3


def test_a_chart_cannot_end_its_script() -> None:
    """Whatever text a chart holds, the data of it stay one script, and come back as they were."""
    figure = Figure(layout={"title": {"text": HOSTILE}})
    (script,) = Page(_figure("key", figure, HOSTILE)).all("script")
    assert json.loads(unpacked(script[1]))["layout"]["title"]["text"] == HOSTILE


def test_it_is_one_file(large: Inventory) -> None:
    """Plotly is in it, once; nothing is loaded, and the page itself forbids it."""
    page = report(large)
    scripts = Page(page).all("script")
    assert sum(len(text) > 1_000_000 for _, text in scripts) == 1
    own = page.replace(scripts[-2][1], "")
    assert not re.findall(r"\b(?:src|href|action)=\"(?!#)", own)
    assert not re.findall(r"@import|url\(", own)
    assert "default-src 'none'" in own


def test_it_can_be_read_by_a_screen_reader(seeded_embedded: Seeded) -> None:
    """A language, headings in order, tables with captions and scopes, names for charts and regions, no id twice."""
    found = Page(report(regnb.read(seeded_embedded.url), growth=snapshots(4), capacity="1TB"))
    assert found.all("html")[0][0]["lang"] == "en"
    assert [tag for tag, _ in found.found if re.fullmatch(r"h\d", tag)] == ["h1"] + ["h2"] * len(found.all("section"))
    assert len(found.all("caption")) == len(found.all("table")) > 12
    assert {about["scope"] for about, _ in found.all("th")} == {"col", "row"}
    assert all(about["aria-label"] for about, _ in found.all("div") if about.get("role") in ("img", "region"))
    ids = Counter(about["id"] for _, about in found.found if "id" in about)
    assert max(ids.values()) == 1
    assert {about["href"][1:] for about, _ in found.all("a")} <= ids.keys()


def test_it_hardly_grows(large: Inventory) -> None:
    """Twice as many tags beyond the cut add nearly nothing."""
    one, two = (len(report(each).encode()) for each in (large, crawled(12_000)))
    assert two < one * 1.02 < 2_200_000


def test_growth_with_a_forecast() -> None:
    """What was left out, when it will be full, and every snapshot; a capacity that is none is an error."""
    inventory = Stored().inventory()
    page = report(inventory, growth=snapshots(5), capacity="50MB")
    assert "1 snapshot left out" in page
    assert "50.0 MB: full in about" in page
    assert len(rows(page, "Snapshots, the newest first")) == 7
    assert rows(page, "Snapshots, the newest first")[1][0].startswith("2026-01-29")
    assert "How it grows" not in report(inventory)
    with pytest.raises(InvalidArgument, match="size"):
        report(inventory, growth=snapshots(5), capacity="much")

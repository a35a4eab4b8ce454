"""How frames show themselves, and that nothing but their description decides their columns."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import get_args

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regnb.analysis.collectors import BoundWord
from regnb.analysis.difference import Change, State
from regnb.analysis.inventory import Inventory
from regnb.change.journal import State as Applied
from regnb.change.journal import Status
from regnb.change.plan import Action, EffectKind
from regnb.crawl.records import (
    BlobKind,
    BlobRecord,
    Counts,
    Coverage,
    ManifestRecord,
    Problem,
    Records,
    RepositoryStatus,
    TagRecord,
)
from regnb.oci.manifest import OCI_MANIFEST, ManifestKind
from regnb.oci.reference import Digest
from regnb.tables.build import shared_tags, tabulate
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import Frame, make
from regnb.text import human
from regnb.wire.capabilities import Supported
from regnb.wire.health import State as Checked


@pytest.mark.parametrize(
    ("frame", "column", "words"),
    [
        ("repositories", "status", RepositoryStatus), ("tags", "kind", ManifestKind), ("blobs", "kind", BlobKind),
        ("plan", "action", Action), ("effects", "effect", EffectKind), ("receipt", "status", Status),
        ("receipts", "status", Applied), ("reclaim", "bound", BoundWord), ("changed_tags", "change", Change),
        ("comparison", "state", State), ("checks", "state", Checked), ("capabilities", "supported", Supported),
    ],
)  # fmt: skip
def test_a_column_tells_its_words(frame: str, column: str, words: object) -> None:
    """Each word that a column may hold by its type stands in the column's description."""
    known = re.findall(r"[a-z][a-z0-9 ]*", COLUMNS[frame][column][1])
    assert [word for word in get_args(words) if not any(re.search(rf"\b{word}\b", text) for text in known)] == []


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1, "1 B"), (999, "999 B"), (1000, "1.0 kB"), (99_499, "99.5 kB"), (999_499, "999 kB"),
        (999_500, "1.0 MB"), (2_097_498_376, "2.1 GB"), (2**50, "1126 TB"), (float("nan"), ""), (float("inf"), ""),
    ],
)  # fmt: skip
def test_sizes_as_people_read_them(size: float, text: str) -> None:
    """Bytes become a number with a unit and about three figures."""
    assert human(size) == text


@given(st.integers(0, 2**60))
def test_a_readable_size_is_near_the_real_one(size: int) -> None:
    """No rounding makes a size wrong by more than a twentieth."""
    number, unit = human(size).split()
    factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(number) * factor == pytest.approx(size, rel=0.051)


def test_a_frame_stays_a_frame() -> None:
    """Selecting, sorting, grouping and joining keep the readable display; the values stay plain."""
    frame = Frame({"repository": ["b", "a"], "size": [2_000_000, 1], "digest": [Digest.of(b"1"), Digest.of(b"2")]})
    for other in (
        frame[frame["size"] > 1],
        frame.sort_values("size"),
        frame[["repository", "size"]],
        frame.head(1),
        frame.merge(frame, on="repository"),
        frame.query("size > 1"),
        frame.copy(),
    ):
        assert isinstance(other, Frame)
        assert "<table" in other._repr_html_()
    assert frame["size"].sum() == 2_000_001
    assert "2.0 MB" in frame._repr_html_()
    assert Digest.of(b"1").short in repr(frame)
    assert frame["digest"][0] == Digest.of(b"1")


def test_odd_frames_can_be_shown() -> None:
    """Doubled columns, other indexes, missing values and no columns at all are shown and not an error."""
    frame = Frame({"size": [1, None], "x": [pd.NaT, pd.Timestamp("2026-01-01", tz="UTC")]})
    for odd in (frame[["size", "size"]], frame.set_index("x"), frame.T, Frame(), frame[["x"]].iloc[:0]):
        assert isinstance(odd._repr_html_(), str)
        assert repr(odd)
    assert "nan" not in frame._repr_html_().lower()
    assert "NaT" not in frame._repr_html_()


@given(st.text(max_size=200), st.sampled_from(["tag", "digest", "subject", "command", "message"]))
def test_no_text_gets_out_of_its_cell(text: str, column: str) -> None:
    """Whatever a registry says, the HTML holds no markup of it and the terminal no control character."""
    frame = Frame({column: [text]}, index=[text])
    page = frame._repr_html_()
    cell = page.split("<tbody>")[1].split("</tbody>")[0]
    assert cell.count("<") == 6
    assert cell.count("<td") == 1
    shown, _ = frame.readable()
    assert shown.iloc[0, 0].isprintable() or not shown.iloc[0, 0]
    assert len(shown.iloc[0, 0]) <= 80


def test_column_names_are_escaped_too() -> None:
    """A frame that a user pivots may have a registry's texts as its column names."""
    page = Frame({"<script>": [1]})._repr_html_()
    assert "<script>" not in page


def test_what_has_no_value_takes_no_room() -> None:
    """A column without a value is named below the table, and a frame without rows is a sentence."""
    page = Frame({"tag": ["1"], "locked": [""], "pushed": [pd.NaT]})._repr_html_()
    assert page.count("<th ") == 2  # a heading and a row
    assert "1 row, 1 column; without a value: locked, pushed" in page
    assert "No rows." in Frame({"tag": []})._repr_html_()


def test_long_frames_are_cut_and_say_so() -> None:
    """More rows than pandas would show are cut, with a word about how many there are."""
    frame = Frame({"size": range(1000)})
    assert "1,000 rows" in frame._repr_html_()
    assert frame._repr_html_().count("<tr>") == 1 + pd.get_option("display.max_rows")
    with pd.option_context("display.max_rows", None):
        assert frame._repr_html_().count("<tr>") == 1001


def test_make_refuses_what_is_not_described() -> None:
    """A column that is not described cannot be made, nor one that is left out."""
    with pytest.raises(AssertionError, match="nonsense"):
        make("catalog", {"repository": [], "nonsense": []})
    with pytest.raises(AssertionError, match="tag"):
        make("tag_list", {"repository": []})


def test_every_column_is_described() -> None:
    """Each column has a dtype that pandas knows and a meaning in words."""
    for name, columns in COLUMNS.items():
        for column, (dtype, meaning) in columns.items():
            assert pd.Series([], dtype=dtype).dtype == dtype, (name, column)
            assert len(meaning) > 3, (name, column)


def records(**more: object) -> Records:
    digest, layer = Digest.of(b"m"), Digest.of(b"l")
    found = Records("host:5000", datetime(2026, 1, 1, tzinfo=UTC))
    found.repositories["app"] = "read"
    found.tags.append(TagRecord("app", "1", digest))
    found.links["app", digest] = True
    about = {"created": "", "commands": (), "platform": "linux/amd64", **more}
    found.manifests[digest] = ManifestRecord(digest, "t", "image", "", 10, "", (layer,), (), "", **about)  # type: ignore[arg-type]
    found.blobs[digest] = BlobRecord(10, "t", "manifest")
    found.blobs[layer] = BlobRecord(100, "t", "layer")
    return found


@pytest.mark.parametrize(
    "created",
    ["", "nonsense", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "99999-01-01T00:00:00Z", "1e400", "2026",
     "-1", "2026-13-45T99:99:99Z", "=1+1", "2026-01-01T00:00:00+99:99"],
)  # fmt: skip
def test_dates_that_are_none(created: str) -> None:
    """A created that is not a date, or Go's zero, is missing and does not fail the inventory."""
    frames = tabulate(records(created=created))
    assert len(frames["tags"]) == 1
    if created in ("", "nonsense", "0001-01-01T00:00:00Z", "=1+1"):
        assert frames["tags"]["created"].isna().all()
        assert frames["repositories"]["newest"].isna().all()


def test_dates_with_and_without_fractions_and_zones() -> None:
    """What real builders write is read, in UTC."""
    for text in ("2026-01-01T02:00:00.123456789+02:00", "2026-01-01T00:00:00.123456Z"):
        found = tabulate(records(created=text))["tags"]["created"][0]
        assert found.floor("s") == pd.Timestamp("2026-01-01", tz="UTC")


def test_problems_and_coverage_become_rows() -> None:
    """What could not be read is a row, and the coverage adds it up."""
    found = records()
    found.problems.append(Problem("app", "2", "dangling", "gone", "push it again"))
    found.coverage = Coverage(tags=Counts(listed=2, read=1, failed=1), catalog="incomplete")
    frames = tabulate(found)
    assert frames["problems"].to_dict("records") == [
        {"repository": "app", "reference": "2", "problem": "dangling", "message": "gone", "hint": "push it again",
         "incomplete": True}
    ]  # fmt: skip
    coverage = frames["coverage"].set_index("what")
    assert coverage.loc["tags", ["listed", "read", "failed"]].tolist() == [2, 1, 1]
    assert not coverage.loc["tags", "complete"]
    assert not coverage.loc["catalog", "complete"]
    assert coverage.loc["configs", "complete"]
    assert not frames["repositories"]["complete"][0]


def test_nothing_shared_gives_empty_frames() -> None:
    """One image alone shares nothing, and the frames have their columns all the same."""
    frames = tabulate(records())
    assert list(shared_tags(frames["tags"]).columns) == list(COLUMNS["shared_tags"])
    assert shared_tags(frames["tags"]).empty
    layers = Inventory("registry", datetime.now(UTC), None, frames).sharing.layers
    assert list(layers.columns) == list(COLUMNS["shared_layers"])
    assert layers.empty


def test_a_media_type_leaves_out_its_beginning_and_a_digest_its_end() -> None:
    """Both are whole in their tooltips: the columns behind them stay on a narrow page."""
    page = Frame({"media_type": [OCI_MANIFEST], "diff_id": [Digest.of(b"")]})._repr_html_()
    assert ">…oci.image.manifest.v1+json<" in page
    assert f'title="{OCI_MANIFEST}"' in page
    assert f">{Digest.of(b'').short}<" in page


def test_a_long_tag_keeps_its_end_and_a_column_its_meaning() -> None:
    """A signature's tag is cut in the middle, whole in its tooltip; the heading's tooltip explains the column."""
    tag = f"sha256-{'ab' * 32}.sig"
    page = Frame({"repository": ["app"], "tag": [tag], "size": [1]})._repr_html_()
    assert re.search(r"sha256-\w+…\w+\.sig<", page)
    assert f'title="{tag}"' in page
    assert COLUMNS["tags"]["size"][1] in page

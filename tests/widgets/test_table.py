"""Tables to choose from: short ones in the browser, long ones in pages, and always the rows that were meant."""

from __future__ import annotations

import pandas as pd
import pytest
from images import config, image, index, layer
from stored import Stored

from regnb.oci.reference import Digest
from regnb.widgets import table
from regnb.widgets.table import PAGE, WHOLE, Table


def rows(number: int) -> pd.DataFrame:
    """Tags of which the last one is the largest."""
    return pd.DataFrame(
        {
            "repository": [f"team/app-{each % 7}" for each in range(number)],
            "tag": [f"1.{each}" for each in range(number)],
            "size": [1000 * (each + 1) for each in range(number)],
            "digest": [f"sha256:{each:064x}" for each in range(number)],
        }
    )


def tags(frame: pd.DataFrame) -> list[str]:
    return list(frame["tag"])


def test_a_short_table_is_whole() -> None:
    """Every row is in the browser, where it can be sorted and searched, and there is nothing to turn."""
    found = Table(rows(WHOLE), ["repository", "tag", "size"], choose="many")
    assert len(found.shown) == WHOLE
    assert found.grid._dt_args["data_json"].count('["team/app-') == WHOLE
    assert "downsampling_warning" not in found.grid._dt_args
    assert found._tools.layout.display == found._pager.layout.display == "none"
    assert f"{WHOLE:,} of {WHOLE:,} rows shown" in found._count.value


def test_a_long_table_sorts_all_of_its_rows() -> None:
    """The largest row of all is on top, although it was on the last page; and the browser cannot sort a page alone."""
    found = Table(rows(50_000), ["repository", "tag", "size"], choose="many")
    assert tags(found.shown)[:2] == ["1.0", "1.1"]
    found._sort.value = "size"
    assert tags(found.shown)[:2] == ["1.49999", "1.49998"]
    found._order.value = "smallest first"
    assert tags(found.shown)[:2] == ["1.0", "1.1"]
    arguments = found.grid._dt_args
    assert arguments["ordering"] is False
    assert arguments["layout"]["topStart"] is None
    assert arguments["data_json"].count("team/app-") == PAGE


def test_pages_cover_every_row_once() -> None:
    """Turning from the first page to the last one shows each row once; there is no page before or behind."""
    found = Table(rows(WHOLE + 1), ["tag"])
    found._back.click()
    seen = tags(found.shown)
    for _ in range(WHOLE):
        before = tags(found.shown)
        found._on.click()
        if tags(found.shown) == before:
            break
        seen += tags(found.shown)
    assert seen == tags(rows(WHOLE + 1))
    found._back.click()
    assert tags(found.shown)[-1] == f"1.{WHOLE - 1}"


def test_what_is_chosen_stays_from_page_to_page() -> None:
    """Rows chosen on two pages are both chosen, also after sorting, and are marked when their page comes again."""
    found = Table(rows(3000), ["tag", "size"], choose="many")
    calls: list[int] = []
    found.changed = lambda: calls.append(len(found.chosen))
    found.grid.selected_rows = [1]
    found._on.click()
    found.grid.selected_rows = [2]
    found._sort.value = "size"
    found._sort.value = "as read"
    assert tags(found.chosen) == ["1.1", f"1.{PAGE + 2}"]
    assert list(found.grid.selected_rows) == [1]
    found.grid.selected_rows = []
    assert tags(found.chosen) == [f"1.{PAGE + 2}"]
    assert calls == [1, 2, 1]


def test_choose_all_means_what_the_filter_leaves() -> None:
    """Not the page and not the whole table; and another filter forgets it."""
    found = Table(rows(3500), ["repository", "tag"], choose="many")
    found._filter.value = "APP-3"
    assert found._all.description == "Choose all 500"
    found._all.click()
    assert set(found.chosen["repository"]) == {"team/app-3"}
    assert len(found.chosen) == 500
    found._none.click()
    assert found.chosen.empty
    found._all.click()
    found._filter.value = "app-4"
    assert found.chosen.empty


def test_one_row_is_one_row() -> None:
    """Where one may be chosen, one on another page takes its place."""
    found = Table(rows(3000), ["tag"], choose="one")
    assert found._all not in found._pager.children
    found.grid.selected_rows = [0]
    found._on.click()
    found.grid.selected_rows = [0]
    assert tags(found.chosen) == [f"1.{PAGE}"]


def test_a_filter_without_a_match_says_so() -> None:
    """No rows are not an error."""
    found = Table(rows(3000), ["tag"], choose="many")
    found._filter.value = "nothing like it"
    assert "no rows; the filter leaves out 3,000 of 3,000" in found._count.value
    found._on.click()
    assert found.shown.empty


def test_other_rows_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given other rows it shows these, without filter, order or choice, as a short one if they are few."""
    monkeypatch.setattr(table, "WHOLE", 5)
    found = Table(rows(9), ["repository", "tag"], choose="many")
    found._filter.value = "app-1"
    found.grid.selected_rows = [0]
    found.show(rows(3))
    assert found._tools.layout.display == "none"
    assert tags(found.shown) == ["1.0", "1.1", "1.2"]
    assert found.chosen.empty


def test_fewer_rows_than_were_sorted_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given fewer rows while the old ones are sorted, none of the old places is looked up or stays chosen."""
    monkeypatch.setattr(table, "WHOLE", 5)
    found = Table(rows(9), ["repository", "tag"], choose="many")
    found._sort.value = "tag"
    found.grid.selected_rows = [0]
    found.show(rows(3))
    assert tags(found.shown) == ["1.0", "1.1", "1.2"]
    assert found.chosen.empty


def test_what_belongs_to_other_tags_is_folded() -> None:
    """Signatures are left out until they are asked for; what is chosen are then the rows that were meant."""
    frame = rows(4).assign(kind=["image", "signature", "sbom", "index"])
    found = Table(frame, ["repository", "tag", "kind"], choose="many")
    assert tags(found.shown) == ["1.0", "1.3"]
    assert "2 of 4 rows shown" in found._count.value
    assert "2 rows" in found._aside.description
    found.grid.selected_rows = [1]
    assert tags(found.chosen) == ["1.3"]
    found._aside.value = True
    assert tags(found.shown) == ["1.0", "1.1", "1.2", "1.3"]
    assert tags(found.chosen) == []


def test_a_table_of_signatures_alone_shows_them() -> None:
    """Where nothing else would be left, nothing is folded, and there is no box to tick."""
    found = Table(rows(3).assign(kind="signature"), ["tag"])
    assert len(found.shown) == 3
    assert found._aside.layout.display == "none"


@pytest.mark.parametrize("whole", [1, 100])
def test_rows_are_found_by_what_their_images_contain(monkeypatch: pytest.MonkeyPatch, whole: int) -> None:
    """In tables of any length a label and a layer's digest leave only the rows that match, and a line says why."""
    monkeypatch.setattr(table, "WHOLE", whole)
    one, two = (
        image([layer(name, 9)], about=config(config={"Labels": {"team": f"<b>{name}"}})) for name in ("blue", "red")
    )
    inventory = Stored(("app", "1", one), ("app", "2", index([(two, "linux/amd64")])), ("web", "3", one)).inventory()
    found = Table(inventory.tags, ["repository", "tag"], frames=inventory.frames)
    names = {"red": [], "web": ["3"]} if whole == 1 else {"red": [], "team": ["1", "2", "3"]}
    for text, rows in {"team=<b>red": ["2"], "label:team": ["1", "2", "3"], **names, "": ["1", "2", "3"]}.items():
        found._filter.value = text
        assert tags(found.shown) == rows
        by_label = "=" in text or ":" in text or (bool(text) and whole > 1)
        assert ("Matched by the label" in found._count.value) == by_label
    found._filter.value = "team=<b>red"
    assert "Matched by the label team=&lt;b&gt;red." in found._count.value
    for text in (Digest.of(layer("blue", 9)), Digest.of(layer("blue", 9)).hex[:12]):
        found._filter.value = text
        assert tags(found.shown) == ["1", "3"]
        assert "Matched by the digest: layer." in found._count.value

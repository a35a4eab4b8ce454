"""A table of any length to look through and choose from, sorted and searched as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import traitlets

from regnb.analysis.find import by_digest, by_label, label_of, sought
from regnb.errors import MissingExtra
from regnb.oci.referrers import subject_of_tag
from regnb.tables.columns import SIZES, meanings
from regnb.tables.frame import Frame, filled
from regnb.text import count, human
from regnb.widgets.page import WRAP, Widget, check_box, choice, faint, text_field

try:
    import ipywidgets as widgets
    from itables import JavascriptFunction
    from itables.widget import ITable
except ImportError as missing:
    raise MissingExtra(missing.name or "itables", "lab") from None

WHOLE: Final = 2_000
"""Rows that a browser is given at once: it takes seconds to draw more. Longer tables come in pages."""
PAGE: Final = 100
"""Rows of such a page."""

# A function in a file needs a name, and DataTables takes one without.
DRAWN: Final = Path(__file__).with_suffix(".js").read_text(encoding="utf-8").replace("_drawn", "", 1)
"""What is done to a table in the browser whenever it was drawn: the one function that is sent as text."""
_PAIR: Final = {"_": "0", "sort": "1", "type": "1"}
"""What is shown, and sorted by, of a cell with two values; DataTables takes the number 0 for nothing."""
_ASIDE: Final = frozenset({"signature", "sbom", "attestation", "cache"})
"""Kinds of tags that belong to other tags: they are shown when they are asked for."""
_UNSORTED: Final = "as read"
_FILTER: Final = "repository:tag, a digest (also of a layer), a label or a part, then Enter"
_BY_CONTENT: Final = "digest of a layer, or label as name=value, then Enter"
_DIGESTS: Final = ("digest", "config", "subject")
"""Columns that are searched whole."""


class Table(widgets.VBox):  # type: ignore[misc]
    """Rows to look through and to choose from.

    A short table is searched and sorted in the browser. A longer one is searched and sorted here, all of it, and a page
    of it is shown: what is on top is the largest of all rows, and not of those that a browser can hold.

    Args:
        rows: What is shown; :attr:`chosen` gives rows of it.
        columns: Those of its columns that are shown, as far as it has them.
        choose: How many rows may be chosen.
        host: The registry's, so that a reference with it is found, too.
        frames: Of the inventory that the rows are of, so that they are found by their labels.

    Attributes:
        changed: What is called whenever other rows are chosen.

    Example:
        >>> table = Table(inventory.tags, ["repository", "tag", "size"])
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        columns: Sequence[str] = (),
        *,
        choose: Literal["many", "one", "none"] = "none",
        host: str = "",
        frames: Mapping[str, Frame] | None = None,
    ) -> None:
        super().__init__()
        self._host, self._frames = host, frames
        self.changed: Callable[[], None] = lambda: None
        self._columns, self._choose = list(columns), choose
        self._filter, self._why = text_field("Filter", _FILTER, continuous_update=False), ""
        self._sort = choice("Sort by", [_UNSORTED])
        self._order = choice("Order", ["largest first", "smallest first"])
        self._back, self._on = (widgets.Button(description=text) for text in ("Previous page", "Next page"))
        self._all, self._none = (widgets.Button(description=text) for text in ("Choose all", "Choose none"))
        self._count, self._place = widgets.HTML(), widgets.VBox()
        self._aside = check_box("")
        self._aside.layout.width = "max-content"
        self._aside.observe(lambda _: self._search(), "value")
        self._tools = widgets.HBox([self._filter, self._sort, self._order], layout=WRAP)
        buttons = [self._back, self._on, *([self._all, self._none] if choose == "many" else [])]
        self._pager = widgets.HBox(buttons, layout=WRAP)
        for button in buttons:
            button.layout.width = "max-content"
        for control in (self._sort, self._order):
            control.observe(lambda _: self._look(), "value")
        self._filter.observe(lambda _: self._search(), "value")
        self._back.on_click(lambda _: self._turn(-PAGE))
        self._on.on_click(lambda _: self._turn(PAGE))
        self._all.on_click(lambda _: self._pick(self._found))
        self._none.on_click(lambda _: self._pick(()))
        self.children = [self._tools, self._aside, self._count, self._place, self._pager]
        self.show(rows)

    def show(self, rows: pd.DataFrame, frames: Mapping[str, Frame] | None = None) -> None:
        """Show other rows, of other frames if these are given; nothing of them is chosen."""
        self._frames = self._frames if frames is None else frames
        self._rows = pd.DataFrame(rows).reset_index(drop=True)
        # A column without a value pushes what is known out of a narrow page.
        names = [name for name in map(str, self._columns or filled(self._rows)[0].columns) if name in self._rows]
        self._columns = names or self._columns
        texts = [self._rows[name].astype("str") for name in names if _is_text(self._rows[name])]
        self._names = pd.Series("", index=self._rows.index, dtype="str")
        for text in texts[:2]:
            self._names = self._names + (":" + text if text is not texts[0] else text)
        if self._host:
            self._names = f"{self._host}/" + self._names
        for name in _DIGESTS:
            if name in self._rows:  # whole, for the cells show the first digits alone
                self._names = self._names + " " + self._rows[name].astype("str").fillna("")
        self._folded = pd.Series(data=False, index=self._rows.index)
        if {"tag", "kind"} <= set(self._rows):
            # Without an endpoint for referrers, the list of those of an image is a tag, too.
            self._folded = self._rows["kind"].isin(_ASIDE) | self._rows["tag"].map(subject_of_tag).ne("")
        elif "kind" in self._rows:
            self._folded = self._rows["kind"].isin(_ASIDE)
        number = int(self._folded.sum())
        self._aside.description = f"Show signatures, SBOMs and caches: {count(number, 'row')}."
        self._aside.layout.display = None if 0 < number < len(self._rows) else "none"
        self._long = len(self._rows) > WHOLE
        # The controls below look for rows as soon as they are set: not for those of before.
        self._matching = self._rows.index
        self._chosen: set[int] = set()
        self._found: list[int] = []
        with self.hold_trait_notifications():
            self._sort.options = [_UNSORTED, *names]
            self._filter.value, self._sort.value = "", _UNSORTED
            self._aside.value = number == len(self._rows)
        # A browser searches what it shows. Layers and labels are not shown: they have a field of their own, and it is
        # said why the rows that are left are there.
        self._tools.layout.display = None if self._long or self._images() else "none"
        for control in (self._sort, self._order, self._pager):
            control.layout.display = None if self._long else "none"
        self._filter.description = "Filter" if self._long else "Contains"
        self._filter.placeholder = _FILTER if self._long else _BY_CONTENT
        self._search()

    def _repr_mimebundle_(self, **given: object) -> dict[str, object]:
        """What is shown where there are no widgets: the first rows, as a table that stands still."""
        found: dict[str, object] = super()._repr_mimebundle_(**given)
        return found | {"text/html": Frame(self._rows[self._columns])._repr_html_()}

    @property
    def chosen(self) -> pd.DataFrame:
        """The rows that are chosen, in the order in which they were read."""
        return self._rows.iloc[sorted(self._chosen)]

    @property
    def is_empty(self) -> bool:
        """Whether there is no row at all."""
        return self._rows.empty

    @property
    def shown(self) -> pd.DataFrame:
        """The rows that the browser has: all, or those of the page."""
        return self._rows.iloc[self._page].reset_index(drop=True)

    @property
    def grid(self) -> Widget:
        """The table that the browser draws."""
        return self._place.children[0]

    def find(self, **values: str) -> None:
        """Choose the row with these values, and bring it to the top."""
        rows = self._rows
        for name, value in values.items():
            rows = rows[rows[name] == value]
        if len(rows):
            self._found = [*rows.index, *(number for number in self._found if number not in set(rows.index))]
            self._first, self._chosen = 0, {int(rows.index[0])}
            self._turn(0)
            self.changed()

    def _images(self) -> Mapping[str, Frame]:
        """Return the frames that tell what the rows' images contain; none where the rows are not images."""
        return self._frames if self._frames is not None and "digest" in self._rows else {}

    def _search(self) -> None:
        """Find what the filter leaves; what was chosen before is not any more."""
        wanted, frames = self._filter.value.strip(), self._images()
        # A reference is found whatever host stands before it.
        matches = self._names.str.contains(sought(wanted), case=False, regex=False)
        self._why = ""
        if frames and (found := by_digest(frames, sought(wanted))):
            matches |= self._rows["digest"].isin(set(found))
            parts = {how.split()[0].replace("digest", "manifest") for how in found.values()}
            self._why = f". Matched by the digest: {' and '.join(sorted(parts))}"
        elif frames and wanted and (label := label_of(wanted) or (None if self._long else (wanted, None))):
            matches = self._rows["digest"].isin(set(by_label(frames, *label)))
            self._why = f". Matched by the label {label[0]}{'' if label[1] is None else f'={label[1]}'}"
        self._matching = self._rows.index[matches if self._aside.value else matches & ~self._folded]
        self._chosen = set()
        self._look()
        self.changed()

    def _look(self) -> None:
        """Put what was found in order, and show its first page."""
        found = self._matching
        if self._sort.value != _UNSORTED:
            rising = self._order.value.startswith("smallest")
            found = self._rows.loc[found, self._sort.value].sort_values(ascending=rising, kind="stable").index
        self._found = found.tolist()
        self._first = 0
        self._turn(0)

    def _turn(self, by: int) -> None:
        if not 0 <= self._first + by < max(len(self._found), 1):
            return
        self._first += by
        self._page = self._found[self._first : self._first + PAGE] if self._long else self._found
        text = f"{len(self._page):,} of {count(len(self._rows), 'row')} shown"
        if self._long:
            text = f"rows {self._first + 1:,} to {self._first + len(self._page):,} of {len(self._found):,}"
            text = text if self._found else "no rows"
            left = len(self._rows) - len(self._found)
            text += f"; the filter leaves out {left:,} of {len(self._rows):,}" if left else ""
            self._all.description = f"Choose all {len(self._found):,}"
        self._count.value = faint(f"{text}{self._why}.")
        self._draw()

    def _draw(self) -> None:
        for old in self._place.children:
            old.close()
        if self._rows.empty:  # no search, no pages and no headings of nothing
            self._place.children = (widgets.HTML(faint("There is nothing to choose from yet.")),)
            self._count.value = ""
            return
        grid = _grid(self.shown[self._columns], self._names.iloc[self._page], choose=self._choose, part=self._long)
        places = [place for place, number in enumerate(self._page) if number in self._chosen]
        if places:
            grid.selected_rows = places
        grid.observe(lambda change: self._take(change["new"]), "selected_rows")
        # A new one each time: one that is given other rows no longer reports what is selected.
        self._place.children = (grid,)

    def _take(self, places: Sequence[int]) -> None:
        if self._choose == "one":
            self._chosen.clear()
        self._chosen.difference_update(self._page)
        self._chosen.update(self._page[place] for place in places)
        self.changed()

    def _pick(self, numbers: Sequence[int]) -> None:
        self._chosen = set(numbers)
        self._draw()
        self.changed()


class _Grid(ITable):
    """itables' table without the functions that it sends as text, but :data:`DRAWN`: pages make no text into code."""

    @traitlets.validate("_dt_args")
    def _without_code(self, proposal: Any) -> dict[str, Any]:  # noqa: ANN401 -- traitlets'
        given: dict[str, Any] = dict(proposal["value"])
        if given:
            columns = [
                each | {"render": _PAIR} if isinstance(each.get("render"), str) else each
                for each in given.get("columnDefs", ())
            ]
            given |= {"columnDefs": columns, "keys_to_be_evaluated": [["drawCallback"]]}
            given["meanings"] = meanings([str(name) for name in getattr(self._df, "columns", ())])
        return given


def _is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column))


def _grid(rows: pd.DataFrame, names: pd.Series[str], *, choose: str, part: bool) -> Widget:
    """Return what the browser draws; what is selected are positions in ``rows``, however it is sorted.

    Args:
        rows: All of them are drawn.
        names: What else each row is found by; it is not drawn.
        choose: As for :class:`Table`.
        part: Whether there are more rows, so that sorting and searching these alone would mislead.
    """
    with pd.option_context("display.max_rows", None):
        text, _ = Frame(rows).readable()
    for name in rows:
        if pd.api.types.is_numeric_dtype(rows[name]) and not pd.api.types.is_bool_dtype(rows[name]):
            # Numbers, to be sorted as numbers; bytes are floats, for these are shown by float_format.
            text[name] = rows[name].astype("float64") if name in SIZES else rows[name]
    if not part:
        text["found by"] = names.to_list()
    every = {"extend": "selectAll", "text": "Choose all that match", "selectorModifier": {"search": "applied"}}
    several = choose == "many" and not part
    options: dict[str, Any] = {
        "layout": {"topStart": "search", "topEnd": None, "bottomStart": "info", "bottomEnd": "paging"},
        "pageLength": 10,
    }
    if not part:
        options["columnDefs"] = [{"targets": [len(text.columns) - 1], "visible": False}]
    if several:
        options["buttons"] = [every, {"extend": "selectNone", "text": "Choose none"}]
        options["layout"]["topEnd"] = "buttons"
    if part:
        options = {"layout": dict.fromkeys(options["layout"]), "paging": False, "ordering": False}
        options |= {"scrollY": "420px", "scrollCollapse": True}
    select = {"style": "multi" if choose == "many" else "single", "keys": "yes"}
    with pd.option_context("display.float_format", human):
        return _Grid(
            text,
            maxBytes=0,
            showIndex=False,
            select=select if choose != "none" else False,
            style="width:100%;margin:0",
            text_in_header_can_be_selected=False,
            drawCallback=JavascriptFunction(DRAWN),
            **options,
        )

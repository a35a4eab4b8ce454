"""A DataFrame that shows itself: sizes for people, foreign text made harmless."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from regnb.tables.cells import WIDEST, cell
from regnb.tables.columns import COLUMNS, SENTENCES, TOLD_BY, meanings
from regnb.tables.graph import strings
from regnb.tables.listing import NAMED
from regnb.tables.markup import Cell, table
from regnb.text import count, escaped

_NARROW = 20
"""Letters of a sentence that stand in one line however narrow a page is."""


def _shown(column: str, text: str, value: object, align: str) -> Cell:
    # What was shortened is whole in the tooltip, to be read or copied. A sentence is whole, and wraps: a short one only
    # where there is no room.
    title = value[:1000] if isinstance(value, str) and value != text else ""
    space = "nowrap"
    if len(text) > WIDEST or (column in SENTENCES and len(text) > _NARROW):
        space = f"normal;min-width:{15 if len(text) > WIDEST else 10}em"
    return Cell(text, title, style=f"text-align:{align};white-space:{space}")


class Frame(pd.DataFrame):
    """A DataFrame that a person can read in a notebook: sizes with units, short digests, everything escaped.

    The values are the plain ones: bytes as integers, digests whole. Every pandas operation gives a Frame again.

    Example:
        >>> Frame({"size": [2_097_498_376]})._repr_html_().count("2.1 GB")
        1
    """

    original: Frame | None = None
    """What a frame shares memory with that nobody can write to: pandas then copies a column before it changes it."""

    @property
    def _constructor(self) -> Callable[..., Frame]:
        return Frame

    def readable(self, rows: int | None = None, *, whole: bool = False) -> tuple[pd.DataFrame, bool]:
        """Return rows as text for people, and whether some were cut.

        Args:
            rows: How many; by default as many as fit a screen.
            whole: Whether digests and long texts are kept whole.
        """
        if rows is None:
            rows = int(cast("int", pd.get_option("display.max_rows") or len(self)))
        cut = len(self) > rows
        shown = pd.DataFrame(self.head(rows) if cut else self)
        # By position: a selection may well hold a column twice.
        columns = [
            [cell(str(name), whole=whole)(value) for value in shown.iloc[:, at]]
            for at, name in enumerate(shown.columns)
        ]
        text = pd.DataFrame(dict(enumerate(columns)), index=shown.index, dtype="str")
        text.columns = shown.columns
        return text, cut

    def _repr_html_(self) -> str:
        if self.empty:
            return f"<p title='{escaped(', '.join(map(str, self.columns)))}'>No rows.</p>"
        kept, blank = filled(self)
        if blank:
            return f"{kept._repr_html_().removesuffix('</p>')}; without a value: {escaped(', '.join(blank))}</p>"
        names = [str(name) for name in self.columns]
        text, cut = self.readable()
        align = [
            "right" if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) else "left"
            for dtype in self.dtypes
        ]
        meaning = meanings(names)
        head = [Cell("", scope="col")] + [
            Cell(str(name), meaning.get(str(name), ""), scope="col", style=f"text-align:{side}")
            for name, side in zip(text.columns, align, strict=True)
        ]
        whole = self.head(len(text)).itertuples(index=False, name=None)
        body = [
            [Cell(str(label), scope="row"), *map(_shown, names, row, values, align)]
            for label, row, values in zip(text.index, text.itertuples(index=False, name=None), whole, strict=True)
        ]
        more = f"{count(len(self) - len(text), 'more row')}. " if cut else ""
        counted = f"{count(len(self), 'row')}, {count(len(self.columns), 'column')}"
        return f"{table(head, body, kind='dataframe')}<p>{more}{counted}</p>"

    def __repr__(self) -> str:
        text, _ = self.readable()
        with pd.option_context("display.max_colwidth", WIDEST):
            return repr(text) if len(text) else f"no rows ({', '.join(map(str, self.columns))})"


def filled(frame: pd.DataFrame) -> tuple[Frame, list[str]]:
    """Return the columns that have a value, and the names of the rest: these push what is known out of a narrow page.

    Example:
        >>> filled(Frame({"tag": ["1"], "locked": [""], "pushed": [None]}))[1]
        ['locked', 'pushed']
    """
    has = (frame.notna() & (frame != "")).any().to_numpy()
    if not has.any():
        return Frame(frame), []
    return Frame(frame.loc[:, has]), [str(name) for name in frame.columns[~has]]


def make(name: str, columns: Mapping[str, Any]) -> Frame:
    """Return the frame ``name`` of :data:`COLUMNS` from its columns, each given the dtype that stands there."""
    schema = COLUMNS[name]
    if set(columns) != set(schema):
        raise AssertionError(f"{name}: {sorted(set(columns) ^ set(schema))}")
    series = {}
    for column, (name_of_type, _) in schema.items():
        dtype = cast("Any", name_of_type)
        values = columns[column]
        if dtype.startswith("datetime64"):
            dates = pd.Series(pd.to_datetime(values, utc=True, format="ISO8601", errors="coerce"))
            series[column] = dates.reset_index(drop=True).astype(dtype)
        elif isinstance(values, pd.Series | pd.Categorical):
            series[column] = pd.Series(values).reset_index(drop=True).astype(dtype)
        else:
            series[column] = pd.Series(values, dtype=dtype)
        if dtype == "category":
            # That each category stands there once was checked with an object for each, and these would be kept.
            cast("Any", series[column].cat.categories)._reset_cache()  # noqa: SLF001 -- pandas has no other way
    return Frame(series)


def told(name: str, frame: Frame, source: str) -> Frame:
    """Return a frame in which the columns that its source cannot fill are missing: 0 would say that nothing is there.

    Args:
        name: Of the frame in COLUMNS.
        frame: Of that name.
        source: ``api``, ``storage`` or ``layout``.

    Example:
        >>> found = of_rows("disk", [("blobs", 1, 12_000, 12_288)])
        >>> [told("disk", found, source)["used"].isna().item() for source in ("storage", "layout")]
        [False, True]
    """
    unknown = [column for column, sources in TOLD_BY.get(name, {}).items() if source not in sources]
    # A bucket has no blocks, and no file system says that all of its files together have none.
    if name == "disk" and not frame["used"].any():
        unknown = ["used"]
    return frame.assign(**{column: pd.Series(pd.NA, index=frame.index, dtype="Int64") for column in unknown})


def of_rows(name: str, rows: Iterable[Sequence[object]]) -> Frame:
    """Make a frame of COLUMNS of rows, whose cells stand in the order of the columns.

    Example:
        >>> of_rows("breakdown", [("tags", 12_000, True, "bytes behind tags")])["what"][0]
        'tags'
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS[name])
    return make(name, dict(zip(COLUMNS[name], columns, strict=True)))


def stacked(column: str, name: str, frames: Mapping[str, Frame]) -> Frame:
    """Return frames of one kind one below the other, after a column that says whose each row is.

    Args:
        column: Its name.
        name: Of the frames in COLUMNS, for where there is none.
        frames: By what the column says.

    Example:
        >>> one = of_rows("catalog", [("app",)])
        >>> stacked("registry", "catalog", {"a:5000": one, "b:5000": one}).values.tolist()
        [['a:5000', 'app'], ['b:5000', 'app']]
    """
    found = Frame(pd.concat(frames.values(), ignore_index=True)) if frames else of_rows(name, [])
    whose = pd.Series(np.repeat([*frames], [len(each) for each in frames.values()]), dtype="str")
    found.insert(0, column, whose)
    return found


def joined(names: Any, groups: object, limit: int = NAMED) -> pd.Series[str]:  # noqa: ANN401 -- what pandas and numpy take
    """Return the names of each group as one text; beyond ``limit`` they are only counted.

    Args:
        names: Those of the first group, then those of the second, and so on.
        groups: How many names each group has.
        limit: How many are named.

    Example:
        >>> joined(["8", "8.4", "9"], [2, 1]).to_list()
        ['8, 8.4', '9']
    """
    import pyarrow as pa  # `import regnb` stays light
    import pyarrow.compute as pc  # a million lists take a Python loop some seconds

    groups = np.asarray(groups, dtype=np.int64)
    rank = np.arange(len(names)) - np.repeat(np.cumsum(groups) - groups, groups)
    named = pd.Series(names, dtype="str").reset_index(drop=True)[rank < limit]
    ends = np.append(0, np.cumsum(np.minimum(groups, limit)))
    lists = pa.LargeListArray.from_arrays(ends, strings(named))
    found: pd.Series[str] = pc.binary_join(lists, pa.scalar(", ", pa.large_string())).to_pandas().astype("str")
    if len(more := np.flatnonzero(groups > limit)):  # all at once: each time the whole column is made anew
        rest = [f", … ({number - limit:,} more)" for number in groups[more].tolist()]
        found.iloc[more] = found.iloc[more] + pd.Series(rest, index=more, dtype="str")
    return found

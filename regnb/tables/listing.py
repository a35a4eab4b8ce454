"""Tables that are printed, as columns of plain values: they need no DataFrame."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast, overload

import numpy as np

from regnb.tables.cells import cell, missing
from regnb.tables.columns import COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Column: TypeAlias = Sequence[object] | NDArray[np.generic]

NAMED = 20
"""Names of a list that are written; the others are counted."""


class Joined(Sequence[str]):
    """Names of groups, each group as one text, which is made when it is asked for.

    Args:
        names: Those of the first group, then those of the second, and so on.
        ends: Where each group ends.

    Example:
        >>> list(Joined(["8", "8.4", "9"], [2, 3]))
        ['8, 8.4', '9']
    """

    def __init__(self, names: Sequence[str], ends: Sequence[int]) -> None:
        self._names = names
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        start, end = self._ends[place - 1] if place else 0, self._ends[place]
        text = ", ".join(self._names[start : min(end, start + NAMED)])
        return text + (f", … ({end - start - NAMED:,} more)" if end - start > NAMED else "")


class Listing:
    """Rows that are printed.

    Args:
        columns: Each with its values: a list, an array, or what is made when it is asked for.
        numbers: Names of the columns that hold integers.
        places: Which of the values are its rows, in order; by default all.

    Example:
        >>> Listing({"tag": ["8", "9"], "size": [12_000, 500]}, ["size"]).cells()
        [('8', '12.0 kB'), ('9', '500 B')]
    """

    def __init__(
        self, columns: Mapping[str, Column], numbers: Collection[str], places: Sequence[int] | None = None
    ) -> None:
        self._columns = dict(columns)
        self._numbers = numbers
        self._places = range(len(next(iter(self._columns.values()), ()))) if places is None else places

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Listing:
        """Return the rows of a frame.

        Example:
            >>> len(Listing.of(inventory.tags))
            55
        """
        names = [str(name) for name in frame.columns]
        numbers = [name for name, dtype in zip(names, frame.dtypes, strict=True) if str(dtype).lower()[:3] == "int"]
        return cls({name: cast("Column", frame.iloc[:, at]) for at, name in enumerate(names)}, numbers)

    @classmethod
    def named(cls, name: str, columns: Mapping[str, Column]) -> Listing:
        """Return rows of the frame ``name`` of :data:`regnb.tables.columns.COLUMNS`, from some of its columns.

        Example:
            >>> Listing.named("catalog", {"repository": ["app"]}).cells()
            [('app',)]
        """
        schema = COLUMNS[name]
        return cls(columns, [column for column in columns if schema[column][0].lower().startswith("int")])

    @classmethod
    def of_rows(cls, name: str, rows: Sequence[Sequence[object]]) -> Listing:
        """Return rows of the frame ``name``, whose cells stand in the order of its columns.

        Example:
            >>> len(Listing.of_rows("catalog", [["app"], ["vm"]]))
            2
        """
        columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS[name])
        return cls.named(name, dict(zip(COLUMNS[name], columns, strict=True)))

    def __len__(self) -> int:
        return len(self._places)

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """The names, each with whether it holds integers."""
        return [(name, name in self._numbers) for name in self._columns]

    def drop(self, names: Collection[str]) -> Listing:
        """Return the other columns."""
        kept = {name: column for name, column in self._columns.items() if name not in names}
        return Listing(kept, self._numbers, self._places)

    def head(self, limit: int) -> Listing:
        """Return the first rows."""
        return Listing(self._columns, self._numbers, self._places[:limit])

    def take(self, places: Sequence[int]) -> Listing:
        """Return rows by their places."""
        return Listing(self._columns, self._numbers, [self._places[at] for at in places])

    def filled(self) -> tuple[Listing, list[str]]:
        """Return the columns that have a value, and the names of the rest.

        Example:
            >>> Listing({"tag": ["1"], "locked": [""]}, []).filled()[1]
            ['locked']
        """
        blank = [name for name in self._columns if all(missing(one) or one == "" for one in self._values(name))]
        return (self, []) if len(blank) == len(self._columns) else (self.drop(blank), blank)

    def cells(self, *, whole: bool = False) -> list[tuple[str, ...]]:
        """Return the rows as text for people.

        Args:
            whole: Whether digests and long texts are kept whole.
        """
        columns = [map(cell(name, whole=whole), self._values(name)) for name in self._columns]
        return list(zip(*columns, strict=True))

    def _values(self, name: str) -> Iterable[object]:
        column = self._columns[name]
        if isinstance(column, Sequence):
            return map(column.__getitem__, self._places)
        # As Python's values: numpy's own do not say what they are.
        values: list[object] = column.take(np.array(self._places, dtype=np.int64)).tolist()
        return values

"""Bytes in layers that nobody needs: what later layers hide, and files of equal content that several layers carry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from regnb.layers.archive import FILE
from regnb.layers.files import merge
from regnb.layers.images import Part
from regnb.layers.inside import Looked
from regnb.layers.listing import Layer, Listing
from regnb.layers.merging import clean
from regnb.tables.frame import Frame, of_rows

DEPTH: Final = 2
"""Parts of a path by which files are summed up."""


class Waste:
    """Sums up what was seen in the layers of one image after the other.

    Args:
        depth: Parts of a path that name a directory.

    Example:
        >>> Waste().frame().empty
        True
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._layers: dict[str, Listing] = {}
        self._needed: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
        self._owner: dict[str, str] = {}
        self._unread: dict[tuple[str, str], str] = {}

    def add(self, repository: str, looked: Looked) -> None:
        """Take in the images behind a reference. A layer of several repositories counts in the first of them."""
        for image in looked.images:
            self._image(repository, image, looked.layers)

    def _image(self, repository: str, image: Part, layers: dict[str, Layer]) -> None:
        alive = np.frombuffer(merge(image, layers).done().alive, dtype=bool)
        begin = 0
        for layer in image.layers:
            known, problem = layers[layer.digest]
            if known is None:
                self._unread[repository, layer.digest] = problem
                continue
            self._owner.setdefault(layer.digest, repository)
            self._layers[layer.digest] = known
            needed = alive[begin : begin + known.entries]
            begin += known.entries
            # What one image hides another one may show: only what each of them hides is for nothing.
            before = self._needed.get(layer.digest)
            self._needed[layer.digest] = needed.copy() if before is None else before | needed

    def _rows(self) -> Iterable[pd.DataFrame]:
        for number, (digest, known) in enumerate(sorted(self._layers.items(), key=lambda one: self._owner[one[0]])):
            table = known.table
            files = (table["kind"].to_numpy() == FILE) & (table["stored"].to_numpy() > 0)
            names = table["name"].filter(files).to_pylist()
            yield pd.DataFrame(
                {
                    "layer": number,
                    "repository": self._owner[digest],
                    "directory": [self._directory(name) for name in names],
                    "stored": table["stored"].to_numpy()[files],
                    "packed": table["packed"].to_numpy()[files],
                    "content": table["digest"].filter(files).to_pylist(),
                    "hidden": ~self._needed[digest][files],
                }
            )

    def _directory(self, name: bytes) -> str:
        return b"/".join(clean(name)[:-1][: self._depth]).decode("utf-8", "backslashreplace")

    def frame(self) -> Frame:
        """Return the sums (:data:`regnb.tables.columns.COLUMNS`, ``waste``), the largest first."""
        unread = [
            (repository, "", 0, 0, 0, 0, f"{digest}: {problem}")
            for (repository, digest), problem in self._unread.items()
        ]
        parts = [*self._rows()]
        if not parts:
            return of_rows("waste", unread)
        rows = pd.concat(parts, ignore_index=True)
        visible = rows[~rows["hidden"] & (rows["content"] != b"")]
        # Of equal content the first copy stays, wherever else in its layer it is.
        first = visible.groupby("content")["layer"].transform("min")
        repeated = visible.index[visible["layer"] != first]
        rows["repeated"] = False
        rows.loc[repeated, "repeated"] = True
        rows = rows[rows["hidden"] | rows["repeated"]]
        sums = (
            rows.assign(
                files=1,
                hidden=rows["stored"].where(rows["hidden"], 0),
                repeated=rows["stored"].where(rows["repeated"], 0),
            )
            .groupby(["repository", "directory"], as_index=False)[["files", "hidden", "repeated", "packed"]]
            .sum()
        )
        sums = sums.assign(total=sums["hidden"] + sums["repeated"]).sort_values("total", ascending=False, kind="stable")
        found = [(*row, "") for row in sums.drop(columns="total").itertuples(index=False, name=None)]
        return of_rows("waste", [*found, *unread])

"""The packages that images hold, as a frame: those whose files the image still shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regnb.layers.files import merge
from regnb.layers.images import Part
from regnb.layers.lifetime import end_of_life
from regnb.layers.listing import Layer

if TYPE_CHECKING:
    from regnb.tables.frame import Frame


def packages(images: Sequence[Part], layers: dict[str, Layer]) -> Frame:
    """Return the packages of some images (:data:`regnb.tables.columns.COLUMNS`, ``packages``)."""
    from regnb.tables.frame import of_rows

    return of_rows("packages", sorted({row for image in images for row in _rows(image, layers)}))


def _rows(image: Part, layers: dict[str, Layer]) -> Iterator[tuple[object, ...]]:
    merged = merge(image, layers).done()
    begin = 0
    for position, layer in enumerate(image.layers):
        known, problem = layers[layer.digest]
        if known is None:
            yield image.platform, "unread", "", "", "", "", layer.digest, position, "", problem
            continue
        for one in known.packages:
            entry = begin + one.row
            path = merged.paths[entry].decode("utf-8", "backslashreplace")
            wal = (merged.paths[entry] + b"-wal") in merged.files
            note = (
                "its -wal file may hold newer packages, which are not read" if wal and not one.problem else one.problem
            )
            if merged.alive[entry]:
                yield (
                    *(image.platform, one.kind, one.name, one.version, one.architecture),
                    *(path, layer.digest, position),
                    *(end_of_life(one.name, one.version) if one.kind == "os" else "", note),
                )
        begin += known.entries

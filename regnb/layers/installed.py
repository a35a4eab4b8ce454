"""The packages that images hold, as a frame: those whose files the image still shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
            log = merged.files.get(merged.paths[entry] + b"-wal", -1)
            note = one.problem
            if not note and log >= 0 and _stored(image, layers, log):
                note = "its -wal file may hold newer packages, which are not read"
            if merged.alive[entry]:
                yield (
                    *(image.platform, one.kind, one.name, one.version, one.architecture),
                    *(path, layer.digest, position),
                    *(end_of_life(one.name, one.version) if one.kind == "os" else "", note),
                )
        begin += known.entries


def _stored(image: Part, layers: Mapping[str, Layer], entry: int) -> int:
    """Return the bytes of an entry, by its number over all layers that were read."""
    for layer in image.layers:
        known = layers[layer.digest].listing
        if known is not None and entry < known.entries:
            return int(known.table["stored"][entry].as_py())
        entry -= known.entries if known is not None else 0
    return 0

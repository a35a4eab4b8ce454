"""The files of an image over its layers, as a frame; and the one that wins at a path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import TYPE_CHECKING, Final, NamedTuple

from regnb.errors import ContentError, NotFound, TooLarge
from regnb.layers.archive import CHARACTER, DEVICE, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK
from regnb.layers.images import Part
from regnb.layers.listing import Layer, Listing
from regnb.layers.merging import Merge, Merged, whiteout

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from regnb.tables.frame import Frame

KINDS: Final = {
    FILE: "file", HARDLINK: "hardlink", SYMLINK: "symlink", CHARACTER: "character device", DEVICE: "block device",
    DIRECTORY: "directory", FIFO: "fifo",
}  # fmt: skip
"""An entry's kind in words."""
UNREAD: Final = "unread"
"""The kind of the row that stands for a layer that was not read."""


def merge(image: Part, layers: dict[str, Layer]) -> Merge:
    """Lay an image's layers one on the other; one that was not read is left out.

    Args:
        image: The image.
        layers: What is known of its layers; one that claims too many folders is not read from now on.
    """
    while True:
        tree = Merge()
        for layer in image.layers:
            known = layers[layer.digest].listing
            if known is None:
                continue
            table = known.table
            try:
                tree.lay(zip(*(table[column].to_pylist() for column in ("name", "kind", "target")), strict=True))
            except TooLarge as error:
                layers[layer.digest] = Layer(None, f"not read: {error.message}")
                break
        else:
            return tree


def files(images: Sequence[Part], layers: dict[str, Layer]) -> Frame:
    """Return every entry of every layer of some images (:data:`regnb.tables.columns.COLUMNS`, ``files``)."""
    import pandas as pd

    from regnb.tables.frame import Frame, of_rows

    frames = [_of_image(image, layers) for image in images] or [of_rows("files", [])]
    if len(frames) == 1:
        return frames[0]
    # Categories that differ would make text of their columns.
    for name in frames[0].columns:
        if isinstance(frames[0][name].dtype, pd.CategoricalDtype):
            union = pd.api.types.union_categoricals([frame[name] for frame in frames]).categories
            for frame in frames:
                frame[name] = frame[name].cat.set_categories(union)
    return Frame(pd.concat(frames, ignore_index=True))


def _of_image(image: Part, layers: dict[str, Layer]) -> Frame:
    """Return the rows of one image, layer by layer; a layer that was not read is one row at its place."""
    from regnb.tables.frame import Frame, of_rows

    merged = merge(image, layers).done()
    parts: list[pd.DataFrame] = []
    begin = 0
    for position, (layer, command) in enumerate(zip(image.layers, image.commands, strict=True)):
        known, problem = layers[layer.digest]
        about = (image.platform, layer.digest, position, command)
        if known is None:
            row = ("", "", *about[1:], UNREAD, layer.size, 0, layer.size, None, "", "", "", "", False, 0, "", problem)
            parts.append(of_rows("files", [(image.platform, *row)]))
        elif known.entries:
            parts.append(_of_layer(known, merged, begin, about))
            begin += known.entries
    if not parts:
        return of_rows("files", [])
    return Frame(_joined(parts))


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    columns = {}
    for name in parts[0].columns:
        pieces = [part[name] for part in parts]
        if isinstance(pieces[0].dtype, pd.CategoricalDtype):
            columns[name] = pd.Series(pd.api.types.union_categoricals(pieces))
        else:
            columns[name] = pd.concat(pieces, ignore_index=True)
    return pd.DataFrame(columns)


def _of_layer(known: Listing, merged: Merged, begin: int, about: tuple[str, str, int, str]) -> Frame:
    import numpy as np
    import pandas as pd

    from regnb.tables.frame import make

    table, count = known.table, known.entries
    platform, digest, position, command = about
    end = begin + count
    kinds = table["kind"].to_numpy()
    stored = table["stored"].to_numpy()
    alive = np.frombuffer(merged.alive, dtype=bool)[begin:end]
    names = table["name"].to_pylist()
    same = np.zeros(count, dtype=np.int8)

    def only(value: str) -> pd.Categorical[str]:
        return pd.Categorical.from_codes(same, categories=pd.Index([value], dtype="str"))

    modes, owners = table["mode"].to_numpy(), zip(table["uid"].to_pylist(), table["gid"].to_pylist(), strict=True)
    return make(
        "files",
        {
            "platform": only(platform),
            "path": _text(merged.paths[begin:end]),
            "name": _text(names),
            "layer": only(digest),
            "position": np.full(count, position, dtype=np.int32),
            "command": only(command),
            "kind": pd.Categorical(pd.Series(kinds).map(KINDS), categories=[*KINDS.values()]),
            "size": table["size"].to_numpy(),
            "stored": stored,
            "compressed": table["packed"].to_numpy(),
            "digest": [f"sha256:{each.hex()}" if each else None for each in table["digest"].to_pylist()],
            "mode": pd.Categorical([f"{mode:04o}" for mode in modes.tolist()]),
            "owner": pd.Categorical([f"{user}:{group}" for user, group in owners]),
            "target": _text(table["target"].to_pylist()),
            "whiteout": pd.Categorical([whiteout(name) for name in names], categories=["", "deleted", "opaque"]),
            "shown": np.frombuffer(merged.shown, dtype=bool)[begin:end],
            "hidden": np.where(alive, 0, stored),
            "way": only(known.way),
            "message": [""] * count,
        },
    )


def _text(values: Sequence[bytes]) -> pd.Series[str]:
    """Return names as text; a byte that is not UTF-8 is written as an escape."""
    import pandas as pd
    import pyarrow as pa

    try:
        texts: pa.Array = pa.array(values, pa.large_binary()).cast(pa.large_string())
    except pa.ArrowInvalid:
        return pd.Series([value.decode("utf-8", "backslashreplace") for value in values], dtype="str")
    return pd.Series(texts.to_pandas(), dtype="str")


def matching(found: Frame, pattern: str) -> Frame:
    """Return the rows of a ``files`` frame whose path fits a glob, in which ``*`` means any text, slashes included.

    Example:
        >>> matching(registry.files("vm/centos8:8.4"), "disk/*")["path"].to_list()
        ['disk/centos8.qcow2']
    """
    from regnb.tables.frame import Frame

    return Frame(found[found["path"].str.match(re.compile(translate(pattern.lstrip("/"))))])


class Place(NamedTuple):
    """Where the content of a path is.

    Attributes:
        layer: Position of the layer.
        row: Of its listing.
        size: Bytes.
    """

    layer: int
    row: int
    size: int


def place(image: Part, layers: dict[str, Layer], path: str, what: str) -> Place:
    """Return where the content of the file is that an image shows at a path, symbolic links followed.

    Args:
        image: The image.
        layers: What is known of its layers.
        path: In the image; a leading slash makes no difference.
        what: What the image is called, for what is said.

    Raises:
        NotFound: There is no such file.
        ContentError: It is a folder or a device, or a layer was not read, so that it is not known.
    """
    tree = merge(image, layers)
    for layer in image.layers:
        if reason := layers[layer.digest].problem:
            raise ContentError(f"{what}: layer {layer.digest} is {reason}, so it is not known which file wins")
    entry = tree.content(path.encode())
    if entry is None:
        raise NotFound(f"{what} has no file {path!r}", hint="regnb files lists the paths; give one without a wildcard")
    if entry < 0:
        raise _no_content(what, path, DIRECTORY)
    listings = [layers[layer.digest].listing for layer in image.layers]
    number, known = 0, listings[0]
    while known is not None and entry >= known.entries:
        entry -= known.entries
        number += 1
        known = listings[number]
    assert known is not None  # noqa: S101 -- one that was not read would have been told above
    kind, size = (known.table[column][entry].as_py() for column in ("kind", "stored"))
    if kind != FILE:
        raise _no_content(what, path, kind)
    return Place(number, entry, size)


def _no_content(what: str, path: str, kind: int) -> ContentError:
    return ContentError(f"{what}: {path!r} is a {KINDS[kind]}, which has no content to read")

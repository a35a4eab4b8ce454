"""Treemaps: the bytes of a registry by namespace and repository, and those of an image by folder."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import pandas as pd
import plotly.graph_objects as go

from regnb.pages.drawing import (
    BLUE,
    BOXES,
    DEPTH,
    EACH,
    FOLDERS,
    GREEN,
    GROUPS,
    LEGIBLE,
    LEVELS,
    ORANGE,
    RED,
    ROOM,
    VISIBLE,
    columns_of,
    draw,
    rows_of,
    sentence,
    short,
    wrapped,
)
from regnb.text import count, human

_Path: TypeAlias = tuple[str | int | None, ...]
"""A box of the treemap: namespace, repository, and a tag or what tags share; at the end the number of a group, or
None for all that is folded."""


class _Kind(NamedTuple):
    """A kind of row of ``usage``."""

    name: str
    look: str
    colour: str
    pattern: str


_REPOSITORY: Final = 2
"""The depth of a repository, and of a group of them."""
_LINE: Final = 10
"""Letters of a name that are not divided at its hyphens."""
_KINDS: Final = {
    "exclusive": _Kind("needed by one tag alone", "blue", BLUE, ""),
    "tags": _Kind("shared by its tags", "orange, striped", ORANGE, "/"),
    "repositories": _Kind("shared with other repositories", "green, dotted", GREEN, "."),
}


def treemap(usage: pd.DataFrame) -> go.Figure:
    """Return a treemap of the bytes: namespaces and their repositories; a click on one shows its tags.

    Args:
        usage: As ``usage`` in :data:`regnb.tables.columns.COLUMNS`. All boxes add up to its sum; the smallest
            are one box.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = treemap(inventory.usage)
    """
    kinds: dict[_Path, str] = {}
    sizes: tuple[Counter[_Path], ...] = (Counter(), Counter(), Counter())
    parts: Counter[str] = Counter()
    for row in rows_of(usage, "usage", "namespace", "repository", "tag", "kind", "size"):
        if row.size > 0:
            path: _Path = (row.namespace, row.repository, row.tag if row.kind == "exclusive" else _KINDS[row.kind].name)
            kinds[path] = row.kind
            parts[row.kind] += row.size
            for depth, found in enumerate(sizes, 1):
                found[path[:depth]] += row.size
    if not kinds:
        return sentence("Nothing is stored here.")
    drawn = _drawn(kinds, sizes)
    groups, folded = _groups(kinds, sizes, drawn)
    # A click on a group of repositories shows each of them, if they are not too many.
    opens = sum(len(names) for box, names in folded.items() if len(box) == _REPOSITORY) <= BOXES[-1]
    boxes: Counter[_Path] = Counter()
    mostly: defaultdict[_Path, Counter[str]] = defaultdict(Counter)
    for path, kind in kinds.items():
        cut = next((depth for depth in (1, 2, 3) if path[:depth] not in drawn), 0)
        box = groups[path[:cut]] if cut else path
        if opens and cut == len(box) == _REPOSITORY and len(folded[box]) > 1:
            box = (*box, path[1])
        for depth in range(len(box) + 1):
            boxes[box[:depth]] += sizes[-1][path]
            mostly[box[:depth]][kind] += sizes[-1][path]
    total = boxes[()]
    ids = {box: str(number) for number, box in enumerate(boxes)}
    names = {box: _box(box, folded) for box in boxes}
    looks = [
        (LEVELS[len(box)], "")
        if len(box) < len(LEVELS) and box not in folded
        else _KINDS[mostly[box].most_common(1)[0][0]][2:]
        for box in boxes
    ]
    colours, patterns = map(list, zip(*looks, strict=True))
    pattern = {"shape": patterns, "size": 10, "solidity": 0.06, "bgcolor": colours, "fgcolor": LEVELS[1]}
    trace = go.Treemap(
        ids=list(ids.values()),
        labels=[_label(name) for name in names.values()],
        parents=[ids[box[:-1]] if box else "" for box in boxes],
        values=[float(size) for size in boxes.values()],
        text=[human(size) for size in boxes.values()],
        hovertext=[
            wrapped(
                *(names[box[:depth]] for depth in range(1, len(box) + 1)),
                _number(box, folded[box]) if box in folded else "",
                f"{human(size)}, {size / total:.1%} of all",
            )
            for box, size in boxes.items()
        ],
        # Of many colours plotly.js lays a pattern over none.
        marker={"colors": colours, "pattern": pattern, "pad": {"t": 18, "l": 2, "r": 2, "b": 2}},
    )
    about = "; ".join(f"{human(size)} {_KINDS[kind].name} ({_KINDS[kind].look})" for kind, size in parts.most_common())
    about = f"Click a box to see what is in it. A repository has the colour of its largest part. {about}"
    return draw([trace], f"{human(total)} by namespace and repository{_cut(sizes, drawn)}", about, 560)


def _drawn(kinds: Mapping[_Path, str], sizes: Sequence[Counter[_Path]]) -> set[_Path]:
    """Return what has a box of its own: the largest, and of each namespace some, if their names fit in."""
    tags = Counter({path: sizes[-1][path] for path, kind in kinds.items() if kind == "exclusive"})
    found = kinds.keys() - tags.keys()
    found |= {path for path, _ in tags.most_common(BOXES[-1])}
    shown: Counter[_Path] = Counter()
    room, total = _room(sizes), sizes[0].total()
    for depth, most in enumerate(BOXES[:-1], 1):
        for place, (path, size) in enumerate(sizes[depth - 1].most_common()):
            shown[path[:-1]] += 1
            within = sizes[depth - 2][path[:-1]] if depth > 1 else total
            if depth > 1 and size * VISIBLE < total:
                continue
            if (place < most or (depth > 1 and shown[path[:-1]] <= min(EACH, room))) and size * LEGIBLE >= within:
                found.add(path)
    return found


def _room(sizes: Sequence[Counter[_Path]]) -> int:
    """Return how many boxes of each namespace can show their names."""
    return max(2, ROOM // max(1, len(sizes[0])))


def _groups(
    kinds: Mapping[_Path, str], sizes: Sequence[Counter[_Path]], drawn: Collection[_Path]
) -> tuple[dict[_Path, _Path], dict[_Path, list[str]]]:
    """Return the box of each namespace, repository or tag that has none of its own, and the names in each such box.

    One box of all of them would dwarf the others: it is divided by name, into boxes of about the same size.
    """
    rest: defaultdict[_Path, Counter[str]] = defaultdict(Counter)
    for path in kinds:
        if cut := next((depth for depth in (1, 2, 3) if path[:depth] not in drawn), 0):
            rest[path[: cut - 1]][str(path[cut - 1])] += sizes[-1][path]
    groups: dict[_Path, _Path] = {}
    folded: defaultdict[_Path, list[str]] = defaultdict(list)
    for parent, children in rest.items():
        size, before = children.total(), 0
        whole = sizes[len(parent) - 1][parent] if parent else sizes[0].total()
        most = min(GROUPS, _room(sizes)) if parent else GROUPS
        number = 1 if len(parent) + 1 == len(sizes) else max(1, round(most * size / whole))
        for child in sorted(children):
            middle = 2 * before + children[child]
            groups[*parent, child] = (*parent, number * middle // (2 * size))
            folded[groups[*parent, child]].append(child)
            before += children[child]
    return groups, folded


def _cut(sizes: Sequence[Counter[_Path]], drawn: Collection[_Path]) -> str:
    """Return what the title of a treemap says of repositories that have no box of their own."""
    number = len(sizes[1])
    alone = sum(path in drawn and path[:1] in drawn for path in sizes[1])
    if alone == number:
        return ""
    if alone:
        return f": the {alone:,} largest of {number:,} repositories"
    return f": {number:,} repositories in groups by name"


def _label(name: str) -> str:
    """Return a name with each part on its own line: plotly hides a text that is wider than its box."""
    parts = re.split(r"(?<=/)(?=.)|(?<= … )", name)[-3:]
    lines = [line for part in parts for line in (re.split(r"(?<=[-_])(?=.)", part) if len(part) > _LINE else [part])]
    return "<br>".join(short(line, 32) for line in lines)


def _box(box: _Path, folded: Mapping[_Path, Sequence[str]]) -> str:
    """Return what a box of the treemap is called."""
    if not box:
        return "all"
    if box in folded and len(folded[box]) > 1 and {(*box[:-1], 0), (*box[:-1], 1)} - folded.keys():
        return _number(box, folded[box]).replace(" ", " more ", 1)
    # Below its namespace a repository needs no more than the rest of its name.
    names = [str(name).removeprefix(f"{box[0]}/") for name in folded.get(box, box[-1:])]
    if len(names) == 1:
        return names[0]
    # What both begin with stands once: a name of few lines fits into a small box.
    first, last = names[0], names[-1]
    alike = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), 0)
    start = max(first.rfind(sign, 0, alike) for sign in "-_/") + 1
    return f"{first} … {last[start:]}"


def _number(box: _Path, folded: Sequence[str]) -> str:
    """Return how much is in a box of several."""
    nouns = (("namespace", "namespaces"), ("repository", "repositories"), ("tag", "tags"))[len(box) - 1]
    return f"{len(folded):,} {nouns[len(folded) != 1]}"


def files(files: pd.DataFrame) -> go.Figure:
    """Return a treemap of the directories of an image: what it shows, and what a later layer hides.

    Args:
        files: As ``files`` in :data:`regnb.tables.columns.COLUMNS`, of one platform or of several. All boxes add up to
            the bytes that are stored; the smallest folders are one box.

    Raises:
        InvalidArgument: Columns are missing.

    Example:
        >>> figure = files(registry.files("vm/centos8:8.4"))
    """
    found = columns_of(files, "files", "path", "kind", "stored", "hidden")
    unread = int((found["kind"] == "unread").sum())
    found = found[(found["kind"] == "file") & (found["stored"] > 0)]
    about = f"{count(unread, 'layer')} could not be read. " if unread else ""
    if found.empty:
        return sentence(f"{about}No file has any content.")
    parts = found["path"].str.rpartition("/")[0].str.split("/", n=DEPTH, expand=True).iloc[:, :DEPTH]
    keys = [parts[level].fillna("") for level in parts.columns]
    # As floats, which the figure needs anyway: sums may leave 64 bits.
    sums = found[["stored", "hidden"]].astype("float64").groupby(keys).sum()
    shown: Counter[_Path] = Counter()
    hidden: Counter[_Path] = Counter()
    for key, stored, lost in zip(sums.index.tolist(), sums["stored"].tolist(), sums["hidden"].tolist(), strict=True):
        path = tuple(filter(None, key if isinstance(key, tuple) else (key,)))
        for depth in range(len(path) + 1):
            shown[path[:depth]] += stored
        hidden[path] += lost
    drawn = {path for path, _ in shown.most_common(FOLDERS)}
    boxes: Counter[_Path] = Counter({path: size for path, size in shown.items() if path in drawn})
    folded: Counter[_Path] = Counter()
    for path, size in shown.items():
        # Its parent is larger, and drawn: the largest that is not drawn stands for all below it.
        if path not in drawn and path[:-1] in drawn:
            boxes[*path[:-1], None] += size
            folded[*path[:-1], None] += 1
    lost_in: Counter[_Path] = Counter()
    for path, size in hidden.items():
        place = next(path[:depth] for depth in range(len(path), -1, -1) if path[:depth] in drawn)
        lost_in[place if path in drawn else (*place, None)] += size
    names = {box: "/" if not box else str(box[-1]) for box in boxes}
    names |= {box: f"{number:,} smaller folders" for box, number in folded.items()}
    colours = [LEVELS[0] if not box else GREEN if box in folded else BLUE for box in boxes]
    ids = {box: str(number) for number, box in enumerate(boxes)}
    gone = {box: size for box, size in lost_in.items() if size}
    total = boxes[()]
    trace = go.Treemap(
        ids=[*ids.values(), *(f"{ids[box]}-hidden" for box in gone)],
        labels=[*(short(name, 40) for name in names.values()), *("hidden" for _ in gone)],
        parents=[*(ids[box[:-1]] if box else "" for box in boxes), *(ids[box] for box in gone)],
        values=[*map(float, boxes.values()), *map(float, gone.values())],
        text=[*map(human, boxes.values()), *map(human, gone.values())],
        hovertext=[
            *(_folder(box, size, total, gone.get(box, 0)) for box, size in boxes.items()),
            *(_folder(box, size, total, size) for box, size in gone.items()),
        ],
        marker={
            "colors": [*colours, *(RED for _ in gone)],
            "pattern": {
                "shape": [*("" for _ in boxes), *("/" for _ in gone)],
                "size": 10,
                "solidity": 0.06,
                "bgcolor": [*colours, *(RED for _ in gone)],
                "fgcolor": LEVELS[1],
            },
            "pad": {"t": 18, "l": 2, "r": 2, "b": 2},
        },
    )
    lost = sum(gone.values())
    hides = f"Red, striped: {human(lost)} that later layers overwrite or delete." if lost else "No layer hides any."
    about = f"{about}Click a box to see its folders. {hides}"
    return draw([trace], f"{human(total)} in the files of all layers, by folder", about, 560)


def _folder(box: _Path, size: float, total: float, lost: float) -> str:
    """Return what is told of a folder."""
    path = "/" + "/".join(part for part in box if isinstance(part, str))
    hidden = f"{human(lost)} of it directly in this folder is hidden by later layers" if lost else ""
    return wrapped(path, f"{human(size)}, {size / total:.1%} of all", hidden)

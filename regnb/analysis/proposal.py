"""Which tags to delete so that a garbage collection frees some bytes, in an order that people choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd

from regnb.errors import InvalidArgument
from regnb.tables.age import STAND_INS, ages
from regnb.tables.frame import Frame, make
from regnb.tables.graph import Edges, Graph
from regnb.tables.removal import removal
from regnb.text import parse_size

if TYPE_CHECKING:
    from regnb.tables.graph import Ints, Mask

Order: TypeAlias = Literal["oldest", "largest-gain", "fewest-tags", "unused"]
"""What goes first: old images, those that free most, those that free most for each tag, or those of repositories
without a new image for longest."""
ORDERS: Final[tuple[Order, ...]] = ("oldest", "largest-gain", "fewest-tags", "unused")
_KEYS: Final[Mapping[Order, list[str]]] = {
    "oldest": [],
    "largest-gain": ["gain"],
    "fewest-tags": ["gain a tag"],
    "unused": ["newest"],
}
_SMALL: Final = 100
"""What frees less than this part of the largest gain goes only if it must."""
_NEAR: Final = 64
"""Rows among which halving is as quick as guessing."""
_ROUNDS: Final = 5
"""How often what frees next to nothing is looked for: each time others take its place."""


def free(  # noqa: PLR0917 -- what it is computed from
    tags: Frame,
    graph: Graph,
    layers: Frame,
    goal: float | str,
    protected: Mask,
    keep: int,
    counted: Mask | None,
    order: Order = "oldest",
) -> Frame:
    """Return the tags to delete so that a plain garbage collection frees some bytes, and nothing in vain.

    All tags of a manifest go together, or none. Whatever the order, images that others are built on come last, and
    before them what frees less than a hundredth of the largest gain: these go only if the goal is not met without.

    Args:
        tags: Of the inventory.
        graph: Of the inventory.
        layers: Of the inventory.
        goal: Bytes, or a text such as ``50GB``.
        protected: Which tags must stay.
        keep: How many of each repository's newest tags stay as well.
        counted: The rows that the deletion will know of, by default all.
        order: Of :data:`ORDERS`.

    Returns:
        Columns: as ``free`` in :data:`regnb.tables.columns.COLUMNS`. If the last ``total`` is below the goal, no
        more is safe.
    """
    goal = parse_size(goal)
    if order not in ORDERS:
        raise InvalidArgument(f"cannot order by {order!r}", hint=f"choose from {', '.join(ORDERS)}")
    if keep < 0:
        raise InvalidArgument(f"cannot keep {keep} tags", hint="keep=0 keeps none but those that are protected")
    known = ages(tags)
    queue = _candidates(tags, graph, layers, known["age"], protected, keep)
    by = ["base", "small", *_KEYS[order], "day", "shared", "created", "row"]

    def freed(some: Ints) -> Mask:
        """Say of each blob whether it goes with these rows, and with what the deletion takes along."""
        chosen = np.zeros(len(graph.manifest) + 1, dtype=bool)
        chosen[some] = True
        gone = removal(graph, chosen[graph.tags], known=counted).gone
        found = np.zeros(len(graph.digests), dtype=bool)
        found[graph.freed(gone)] = True
        return found

    behind, about = _taken(graph), graph.sizes.astype(np.float64)

    def choose(rows: Ints) -> Ints:
        """Return those of some rows, in their order, that free enough."""
        rows = rows[: _fewest(lambda number: graph.bytes(freed(rows[:number])), len(rows), goal)]
        # Whatever is not needed for the goal stays, the last first.
        gone = freed(rows)
        spare = graph.bytes(gone) - goal
        for row in rows[_lost(graph, behind, rows, gone) <= spare][::-1].tolist():
            blobs = behind.target[behind.start[row] : behind.start[row + 1]]
            blobs = blobs[gone[blobs]]
            # A sum of doubles may be wrong by less than a thousandth, and takes no time.
            if about[blobs].sum() <= 1.001 * spare + 1 and (lost := graph.bytes(blobs)) <= spare:
                spare -= lost
                gone[blobs] = False
        return rows[_lost(graph, behind, rows, gone) > 0]

    for _ in range(_ROUNDS):
        rows = choose(queue.sort_values(by)["row"].to_numpy())
        lost = _lost(graph, behind, rows, freed(rows))
        small = queue["row"].isin(rows[lost * _SMALL < lost.max(initial=0)]) & ~queue["small"]
        if not small.any():
            break
        queue["small"] |= small
    return _proposed(tags, known, graph, behind, rows, freed(rows))


def _fewest(freed: Callable[[int], int], most: int, goal: float) -> int:
    """Return the fewest first rows that free some bytes, as whatever goes with some goes with more; else all.

    Two guesses, just below and just above where a straight line meets the goal, then a halving: lines may be crooked.
    """
    few, many, short, has = 0, most, 0, freed(most)
    turns = cycle((-1, 1, 0))
    while few < many and has >= goal > short:
        width, middle = many - few, (few + many) // 2
        if (turn := next(turns)) and width > _NEAR:
            guess = few + int(width * (goal - short) / (has - short)) + turn * (width // 32)
            middle = min(max(guess, few), many - 1)
        found = freed(middle)
        few, many, short, has = (few, middle, short, found) if found >= goal else (middle + 1, many, found, has)
    return many if goal > 0 else 0


def _candidates(  # noqa: PLR0917 -- what they are chosen by
    tags: Frame, graph: Graph, layers: Frame, age: pd.Series[Any], protected: Mask, keep: int
) -> pd.DataFrame:
    """Return the rows of the graph that may go, with what they are ordered by."""
    created = age.to_numpy(dtype="datetime64[us]")
    # Of equal age all stay, or none.
    place = age.groupby(tags["repository"]).rank(method="min", ascending=False)
    newest = tags.index[place <= keep]
    stays = protected | np.isnat(created) | ~tags["complete"].to_numpy() | tags["subject"].notna().to_numpy()
    stays[tags.index.get_indexer(newest)] = True
    roots = graph.tagged > 0
    held = np.bincount(graph.behind.of(np.flatnonzero(roots | graph.untagged))[1], minlength=len(graph.digests))
    candidate = roots & (graph.above == 0)
    candidate[graph.tags[stays & (graph.tags >= 0)]] = False
    named = protected.copy()
    named[tags.index.get_indexer(newest)] = True
    if (about := _spoken_of(graph, named)).any():
        at, row = graph.reach.of(np.arange(len(candidate)))
        candidate[at[about[row]]] = False
    queue = pd.DataFrame({"row": graph.tags, "created": created, "size": tags["size"].to_numpy()})
    queue["newest"] = age.groupby(tags["repository"]).transform("max").to_numpy(dtype="datetime64[us]")
    queue = pd.DataFrame(queue[(graph.tags >= 0) & candidate[graph.tags]]).drop_duplicates("row")
    lone = graph.total(graph.behind, np.where(held == 1, graph.sizes, 0))[queue["row"]]
    queue["shared"] = 1 - lone / np.maximum(queue["size"], 1)
    queue["day"] = queue["created"].dt.floor("D")
    queue["gain"] = -lone
    queue["gain a tag"] = -lone / graph.tagged[queue["row"]]
    queue["base"] = _bases(graph, layers)[queue["row"]]
    queue["small"] = False
    return queue


def _bases(graph: Graph, layers: Frame) -> Mask:
    """Return the rows that other images are built on: their layers, or those of a child, begin another image's."""
    found = np.zeros(len(graph.manifest), dtype=bool)
    if layers.empty:
        return found
    manifest, digest = layers["manifest"].cat.codes.to_numpy(), layers["digest"].cat.codes.to_numpy()
    position = layers["position"].to_numpy().astype(np.uint64)
    places = np.lexsort((position, manifest))
    manifest, digest, position = manifest[places], digest[places], position[places]
    # A number for each chain of layers from the base up: a sum that depends on what stands where.
    draw = np.random.default_rng(0)
    numbers = draw.integers(0, 2**63, len(layers["digest"].cat.categories), dtype=np.uint64)
    turns = draw.integers(0, 2**62, int(position.max()) + 1, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    sums = np.cumsum(numbers[digest] * turns[position])
    start = np.flatnonzero(np.diff(manifest, prepend=-1))
    chain = sums - np.repeat(np.concatenate([[np.uint64(0)], sums[start[1:] - 1]]), np.diff([*start, len(sums)]))
    whole = np.zeros(len(chain), dtype=bool)
    whole[[*(start[1:] - 1), len(chain) - 1]] = True
    below = np.isin(chain, chain[~whole]) & whole
    based = layers["manifest"].cat.categories[np.unique(manifest[below])]
    named = pd.Index(graph.digests).get_indexer(based)
    found = np.isin(graph.manifest, named[named >= 0])
    at, row = graph.reach.of(np.arange(len(found)))
    found[at[found[row]]] = True
    return found


def _taken(graph: Graph) -> Edges:
    """Return each row with the blobs behind it and behind what refers to it, which a deletion takes along."""
    at = np.arange(len(graph.manifest))
    refers, signs = np.flatnonzero(graph.subject >= 0), np.flatnonzero((graph.signs >= 0) & (graph.tags >= 0))
    owner = np.concatenate([at, graph.subject[refers], graph.signs[signs]])
    inner, blob = graph.behind.of(np.concatenate([at, refers, graph.tags[signs]]))
    return Edges(owner[inner], blob, len(at)) if len(owner) > len(at) else graph.behind


def _spoken_of(graph: Graph, tags: Mask) -> Mask:
    """Return the rows that some tags refer to, and so on: what refers to a manifest is deleted with it."""
    found = np.zeros(len(graph.manifest), dtype=bool)
    look = np.concatenate([graph.signs[tags], graph.subject[graph.tags[tags & (graph.tags >= 0)]]])
    while len(look := np.unique(look[look >= 0])):
        look = look[~found[look]]
        found[look] = True
        look = np.concatenate([graph.signs[np.isin(graph.tags, look)], graph.subject[look]])
    return found


def _lost(graph: Graph, behind: Edges, rows: Ints, gone: Mask) -> Ints:
    """Return the bytes of the blobs behind each row that go."""
    return graph.total(behind, np.where(gone, graph.sizes, 0))[rows]


def _proposed(  # noqa: PLR0917 -- what it is made of
    tags: Frame, known: pd.DataFrame, graph: Graph, behind: Edges, rows: Ints, gone: Mask
) -> Frame:
    """Return the tags of some rows, in order, each with what goes with it after those before it."""
    at, blob = behind.of(rows)
    # A blob goes with the last of the rows that lead to it.
    last = np.full(len(graph.digests), len(rows) - 1)
    last[blob] = at
    went = np.flatnonzero(gone)
    freed = np.zeros(len(rows), dtype=np.int64)
    np.add.at(freed, last[went], graph.sizes[went])
    place = np.full(len(graph.manifest) + 1, -1)
    place[rows] = np.arange(len(rows))
    found = np.flatnonzero(place[graph.tags] >= 0)
    found = found[np.argsort(place[graph.tags[found]], kind="stable")]
    at = place[graph.tags[found]]
    about, when = tags.iloc[found], known.iloc[found]
    gained = np.where(np.diff(at, append=-1) != 0, freed[at], 0)
    alone = (about["exclusive"] / about["size"].clip(1)).to_list()
    days = when["age"].to_numpy(dtype="datetime64[D]").astype(str).tolist()
    return make(
        "free",
        {
            **{name: about[name] for name in ("repository", "tag", "digest")},
            "created": when["age"],
            "size": about["size"],
            "freed": gained,
            "total": np.cumsum(gained),
            "reason": [
                "; ".join(filter(None, (f"created {day}", STAND_INS.get(source))))
                + f"; {part:.0%} of it is needed by nothing else"
                for day, source, part in zip(days, when["dated"].to_list(), alone, strict=True)
            ],
        },
    )

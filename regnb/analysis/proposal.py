"""Which tags to delete so that a garbage collection frees some bytes, in an order that people choose.

It works on numbers alone: whether names were read into memory, or stayed in files, it is the same computation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from regnb.errors import InvalidArgument
from regnb.tables.age import STAND_INS, ages
from regnb.tables.edges import Edges, first
from regnb.tables.graph import Graph
from regnb.tables.removal import removal
from regnb.text import parse_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regnb.tables.edges import Ints, Mask

Order: TypeAlias = Literal["oldest", "largest-gain", "fewest-tags", "unused"]
"""What goes first: old images, those that free most, those that free most for each tag, or those of repositories
without a new image for longest."""
ORDERS: Final[tuple[Order, ...]] = ("oldest", "largest-gain", "fewest-tags", "unused")
_KEYS: Final[Mapping[Order, str]] = {"largest-gain": "gain", "fewest-tags": "gain a tag", "unused": "newest"}
_SMALL: Final = 100
"""What frees less than this part of the largest gain goes only if it must."""
_ROUNDS: Final = 5
"""How often what frees next to nothing is looked for: each time others take its place."""
_FEW: Final = 1000
"""When this part of the rows or less frees next to nothing, no more is looked for."""


def free(  # noqa: PLR0917 -- what it is computed from
    tags: pd.DataFrame,
    graph: Graph,
    goal: float | str,
    protected: Mask,
    keep: int,
    counted: Mask | None,
    order: Order = "oldest",
) -> pd.DataFrame:
    """Return the tags to delete so that a plain garbage collection frees some bytes, and nothing in vain.

    All tags of a manifest go together, or none. Whatever the order, images that others are built on come last, and
    before them what frees less than a hundredth of the largest gain: these go only if the goal is not met without.
    Of what is equal in everything that counts, the first manifest of the graph goes first: by repository and digest.

    Args:
        tags: Those of the graph, with the columns of ``tags`` in :data:`regnb.tables.columns.COLUMNS` that tell their
            age, and ``size``, ``exclusive``, ``complete`` and ``subject``. Numbers may stand for names.
        graph: What is held by what.
        goal: Bytes, or a text such as ``50GB``.
        protected: Which tags must stay.
        keep: How many of each repository's newest tags stay as well.
        counted: The rows that the deletion will know of, by default all.
        order: Of :data:`ORDERS`.

    Returns:
        Columns: place (of the tag in ``tags``), and created, size, freed, total and reason as ``free`` has them in
        :data:`regnb.tables.columns.COLUMNS`. If the last ``total`` is below the goal, no more is safe.
    """
    goal = parse_size(goal)
    if order not in ORDERS:
        raise InvalidArgument(f"cannot order by {order!r}", hint=f"choose from {', '.join(ORDERS)}")
    if keep < 0:
        raise InvalidArgument(f"cannot keep {keep} tags", hint="keep=0 keeps none but those that are protected")
    known = ages(tags)
    taken, behind = _taken(graph), _Behind(graph, graph.behind)
    queue = _queue(tags, graph, behind, known["age"].to_numpy(dtype="datetime64[us]"), protected, keep, order)
    if taken is not graph.behind:
        behind = _Behind(graph, taken)

    def freed(some: Ints) -> Mask:
        """Say of each blob whether it goes with these rows, and with what the deletion takes along."""
        chosen = np.zeros(len(graph.manifest) + 1, dtype=bool)
        chosen[some] = True
        gone = removal(graph, chosen[graph.tags], known=counted).gone
        found = np.zeros(len(graph.digests), dtype=bool)
        found[graph.freed(gone)] = True
        return found

    most = freed(queue)

    def choose(rows: Ints) -> tuple[Ints, Mask, Ints]:
        """Return those of some rows, in their order, that free enough, the blobs that go, and their bytes by row."""
        gone = most
        if graph.bytes(most) > goal:
            rows, gone = _fewest(graph, freed, rows, goal, _guess(graph, behind, rows, goal, most))
        meant = _spared(graph, behind, rows, gone, goal)
        lost = behind.lost(rows, meant)
        rows, lost = rows[lost > 0], lost[lost > 0]
        gone = freed(rows)
        return rows, gone, lost if np.array_equal(gone, meant) else behind.lost(rows, gone)

    late = np.zeros(len(graph.manifest), dtype=np.int8)
    late[graph.bases] = 2
    for left in reversed(range(_ROUNDS)):
        rows, gone, lost = choose(queue[np.argsort(late[queue], kind="stable")])
        if not left:
            break
        small = rows[lost * _SMALL < lost.max(initial=0)]
        small = small[late[small] % 2 == 0]
        if len(small) * _FEW <= len(rows):
            break
        late[small] += 1
    return _proposed(tags, known, graph, behind, rows, gone)


class _Behind:
    """Rows with blobs behind them."""

    def __init__(self, graph: Graph, edges: Edges) -> None:
        self.edges = edges
        self._sizes = graph.sizes[edges.target]
        """Bytes of each pair's blob: they are added up many times."""
        self._blobs = len(graph.sizes)

    def lost(self, rows: Ints, gone: Mask) -> Ints:
        """Return the bytes of the blobs behind each row that go."""
        edges = self.edges
        if len(rows) * 4 > len(edges.counts):  # each row in its place is quicker than some in another order
            return np.asarray(np.add.reduceat(self._sizes * gone[edges.target], edges.start[:-1])[rows])
        places = edges.places(rows)
        sums = np.zeros(len(places) + 1, dtype=np.int64)
        np.cumsum(self._sizes[places] * gone[edges.target[places]], out=sums[1:])
        return np.asarray(np.diff(sums[np.append(0, np.cumsum(edges.counts[rows]))]))

    def last(self, rows: Ints) -> Ints:
        """Return of each blob the place of the last of some rows that leads to it; of one that none does, their number.

        A blob goes with that one, if it goes.
        """
        place = np.full(len(self.edges.counts), -1, dtype=np.int32)
        place[rows] = np.arange(len(rows))
        found = np.full(self._blobs, -1, dtype=np.int32)
        np.maximum.at(found, self.edges.target, np.repeat(place, self.edges.counts))
        found[found < 0] = len(rows)
        return found


def _fewest(graph: Graph, freed: Callable[[Ints], Mask], rows: Ints, goal: float, guess: int) -> tuple[Ints, Mask]:
    """Return the fewest first rows that free some bytes, as whatever goes with some goes with more, and the blobs.

    A guess comes first; where it is wrong, what is ever further from it, and then a halving. Where the last row stays,
    so does what is behind it, if a collection sees all of it: where the others are too few without that, they need not
    be looked at.
    """
    few, many, step = 0, len(rows), 1
    gone = None
    while few < many:
        middle = guess if few <= guess < many else (few + many) // 2
        found = freed(rows[:middle])
        if (size := graph.bytes(found)) >= goal:
            many, guess, gone = middle, middle - step, found
            _, blob = graph.behind.of(rows[middle - 1 : middle])
            if graph.followed is graph.own and size - graph.bytes(blob[found[blob]]) < goal:
                few = many
        else:
            few, guess = middle + 1, middle + step
        step *= 2
    return rows[:many], freed(rows[:many]) if gone is None else gone


def _guess(graph: Graph, behind: _Behind, rows: Ints, goal: float, most: Mask) -> int:
    """Return about how many first rows free some bytes, of the blobs that go with all of them.

    It may be wrong where manifests refer to one another or list one another's children.
    """
    last = np.where(most, behind.last(rows), len(rows))
    sums = np.cumsum(np.bincount(last, graph.sizes, minlength=len(rows) + 1)[:-1])
    return int(np.searchsorted(sums, goal)) + 1


def _spared(graph: Graph, behind: _Behind, rows: Ints, gone: Mask, goal: float) -> Mask:
    """Return the blobs that go once whatever is not needed for the goal stays, the last of the rows first.

    What would keep back more than may stay does so, too, after other rows have stayed: what they have in common is
    taken from both. So rows that fit together stay together, and the others are looked at again.
    """
    spare = graph.bytes(gone) - goal
    gone, rows = gone.copy(), rows[::-1]
    while spare > 0 and len(rows):
        lost = behind.lost(rows, gone)
        fits = (lost > 0) & (lost <= spare)
        rows, lost = rows[fits], lost[fits]
        # A sum of doubles may be wrong by less than a thousandth, and has no end.
        some = max(1, int(np.searchsorted(np.cumsum(lost, dtype=np.float64), 0.999 * spare)))
        stays = np.zeros(len(gone), dtype=bool)
        stays[behind.edges.of(rows[:some])[1]] = True
        stays &= gone
        spare -= graph.bytes(stays)
        gone &= ~stays
        rows = rows[some:]
    return gone


def _queue(  # noqa: PLR0917 -- what they are chosen and ordered by
    tags: pd.DataFrame,
    graph: Graph,
    behind: _Behind,
    dates: NDArray[np.datetime64],
    protected: Mask,
    keep: int,
    order: Order,
) -> Ints:
    """Return the rows of the graph that may go, in their order."""
    repository = pd.factorize(tags["repository"])[0]
    named = protected | _newest(repository, dates, keep)
    stays = named | np.isnat(dates) | ~tags["complete"].to_numpy(bool) | tags["subject"].notna().to_numpy()
    roots = graph.tagged > 0
    candidate = roots & (graph.above == 0) & ~graph.unseen
    candidate[graph.tags[stays & (graph.tags >= 0)]] = False
    if (about := _spoken_of(graph, named)).any():
        at, row = graph.reach.of(np.arange(len(candidate)))
        candidate[at[about[row]]] = False
    tag = np.flatnonzero(np.append(candidate, False)[graph.tags])
    # The first tag of a row tells for all of them. The rows are in order, and stay so where all else is equal.
    row, of_row = np.unique(graph.tags[tag], return_index=True)
    tag = tag[of_row]
    created = dates[tag]
    held = np.bincount(graph.behind.behind(roots | graph.untagged), minlength=len(graph.digests))
    lone = behind.lost(row, held == 1)
    keys: list[NDArray[np.generic]] = [
        created.astype("datetime64[D]").view(np.int64),
        1 - lone / np.maximum(tags["size"].to_numpy()[tag], 1),
        created.view(np.int64),
    ]
    if of := _KEYS.get(order):
        newest = np.full(int(repository.max(initial=-1)) + 1, np.iinfo(np.int64).min)
        np.maximum.at(newest, repository, dates.view(np.int64))  # of an unknown age: the smallest
        keys.insert(0, {"gain": -lone, "gain a tag": -lone / graph.tagged[row], "newest": newest[repository[tag]]}[of])
    return np.asarray(row[_in_order(*keys)])


def _in_order(*keys: NDArray[np.generic]) -> Ints:
    """Return the places of some values in their order, by the first key first; what is equal stays as it is."""
    # Several keys at once: twice as fast as NumPy.
    columns = {str(at): key for at, key in enumerate(keys)}
    order = [(name, "ascending") for name in columns]
    return np.asarray(pc.sort_indices(pa.record_batch(columns), sort_keys=order).to_numpy())


def _newest(repository: Ints, dates: NDArray[np.datetime64], keep: int) -> Mask:
    """Say of each tag whether it is one of the newest of its repository: of equal age all are, or none."""
    found = np.zeros(len(dates), dtype=bool)
    known = np.flatnonzero(~np.isnat(dates)) if keep else np.array([], dtype=np.int64)
    age = -dates[known].view(np.int64)
    places = _in_order(repository[known], age)
    age, known = age[places], known[places]
    start = np.flatnonzero(first(repository[known]))
    counts = np.diff(np.append(start, len(known)))
    limit = age[start + np.minimum(counts, keep) - 1]
    found[known] = age <= np.repeat(limit, counts)
    return found


def _taken(graph: Graph) -> Edges:
    """Return each row with the blobs behind it and behind what refers to it, which a deletion takes along."""
    refers, signs = np.flatnonzero(graph.subject >= 0), np.flatnonzero((graph.signs >= 0) & (graph.tags >= 0))
    if not len(refers) + len(signs):
        return graph.behind
    at = np.arange(len(graph.manifest))
    owner = np.concatenate([at, graph.subject[refers], graph.signs[signs]])
    inner, blob = graph.behind.of(np.concatenate([at, refers, graph.tags[signs]]))
    return Edges(owner[inner], blob, len(at))


def _spoken_of(graph: Graph, tags: Mask) -> Mask:
    """Return the rows that some tags refer to, and so on: what refers to a manifest is deleted with it."""
    found = np.zeros(len(graph.manifest), dtype=bool)
    look = np.concatenate([graph.signs[tags], graph.subject[graph.tags[tags & (graph.tags >= 0)]]])
    while len(look := np.unique(look[look >= 0])):
        look = look[~found[look]]
        found[look] = True
        look = np.concatenate([graph.signs[np.isin(graph.tags, look)], graph.subject[look]])
    return found


def _proposed(  # noqa: PLR0917 -- what it is made of
    tags: pd.DataFrame, known: pd.DataFrame, graph: Graph, behind: _Behind, rows: Ints, gone: Mask
) -> pd.DataFrame:
    """Return the tags of some rows, in order, each with what goes with it after those before it."""
    # What goes and none of them leads to goes with the last one.
    last = np.minimum(behind.last(rows)[gone], len(rows) - 1)
    freed = np.zeros(len(rows), dtype=np.int64)
    np.add.at(freed, last, graph.sizes[gone])
    place = np.full(len(graph.manifest) + 1, -1)
    place[rows] = np.arange(len(rows))
    found = np.flatnonzero(place[graph.tags] >= 0)
    found = found[np.argsort(place[graph.tags[found]], kind="stable")]
    at = place[graph.tags[found]]
    about, age = tags[["size", "exclusive"]].iloc[found], known["age"].iloc[found]
    source, sources = pd.factorize(known["dated"], use_na_sentinel=False)
    alone = (100.0 * about["exclusive"] / about["size"].clip(1)).round().clip(0, 100).to_numpy(np.int64)
    gained = np.where(np.diff(at, append=-1) != 0, freed[at], 0)
    return pd.DataFrame(
        {
            "place": found,
            "created": age.reset_index(drop=True),
            "size": about["size"].to_numpy(),
            "freed": gained,
            "total": np.cumsum(gained),
            "reason": _reasons(age.to_numpy(dtype="datetime64[D]").view(np.int64), source[found], sources, alone),
        }
    )


def _reasons(day: Ints, source: Ints, sources: pd.Index[str], alone: Ints) -> pd.Series[str]:
    """Return why each tag goes: the day of its age, where that is from, and how many hundredths nothing else needs."""
    # Many tags have one day and one part: a text is made for each that differs, and its beginning for each day.
    key, keys = pd.factorize((day * len(sources) + source) * 101 + alone)
    at, days = pd.factorize(keys // 101)
    begins = []
    for number in days.tolist():
        created, stand_in = divmod(number, len(sources))
        words = [f"created {np.datetime64(created, 'D')}", STAND_INS.get(sources[stand_in])]
        begins.append("; ".join(filter(None, words)))
    parts = zip(at.tolist(), (keys % 101).tolist(), strict=True)
    texts = [f"{begins[which]}; {part}% of it is needed by nothing else" for which, part in parts]
    return pd.Series(texts, dtype="str").take(key).reset_index(drop=True)

"""A storage as its garbage collections meet it, read for their verdict alone: as sets, without frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import NamedTuple

from regnb.analysis.collectors import MATTERING, UNREAD, Content, Verdict, bounds, in_order
from regnb.crawl.records import BlobKind, ManifestRecord, Problem, ProblemKind, Records, UploadRecord
from regnb.crawl.storage import Reading
from regnb.text import count, names


class Removed(NamedTuple):
    """A blob that some collection removes.

    Attributes:
        kind: ``manifest``, ``config`` or ``layer``; ``orphan`` if no manifest names it.
        by: Columns of the collections that remove it.
    """

    digest: str
    kind: BlobKind
    size: int
    by: frozenset[str]


@dataclass(slots=True)
class _Named:
    """What the manifests of some rows name.

    Attributes:
        digests: All of it, and the manifests themselves.
        nested: Whether one of them names a manifest as its config or as a layer.
        without: What is loose and not among it, once that was asked for.
    """

    rows: set[int]
    digests: set[str]
    nested: bool
    without: set[str] | None = None


class Stock(Content[set[int], set[str]]):
    """What a storage holds, as its garbage collections meet it.

    A row is a manifest in a repository: its number is its place in ``links``.

    Args:
        reading: Of the storage, in brief.

    Attributes:
        registry: The storage's URL.
        links: Repository and digest of each row, in order.
        manifests: By digest: ``config``, ``layers`` and ``children`` alone are set.
        sizes: Bytes of each blob on disk; below zero where some manifest needs it and nobody asked for its size.
        tags: Repository and name of each tag, in order, and the digest it points at ("" if it dangles).
        uploads: Begun and not finished.
        problems: What is not as it should be, in order.
        complete: Whether everything that matters to a collection could be read.
        collections: What each of :data:`regnb.analysis.collectors.COLLECTIONS` would remove now.

    Example:
        >>> open_storage("/var/lib/registry").stock().collections[0].bound
        'exact'
    """

    def __init__(self, reading: Reading) -> None:
        records = reading.records
        self.registry = records.registry
        self.links = sorted(link for link in records.links if link[1] in records.manifests)
        self.manifests: dict[str, ManifestRecord] = records.manifests
        self.sizes = reading.sizes
        self.tags = sorted((row.repository, row.tag, row.digest) for row in records.tags)
        self.uploads: Sequence[UploadRecord] = records.uploads
        self.none = set()
        self.rows = set(range(len(self.links)))
        self._aliases = records.aliases
        self._known: list[_Named] = []
        self._at = {link: row for row, link in enumerate(self.links)}
        problems = sorted(records.problems, key=lambda row: (row.repository, row.reference))
        self.unlayered, self.unlabelled = (self._lacking(problems, sort) for sort in ("no layers", "no tags"))
        tagged = {row for name, _, digest in self.tags if (row := self._at.get((name, digest))) is not None}
        # Every collection reads these rows at least: what they need is removed by none of them.
        needed = self._needs(tagged - self.unlayered)
        self._loose = {digest for digest in self.sizes if digest not in needed}
        reading.measure(self._loose)
        self._loose &= self.sizes.keys()
        self.problems = sorted(records.problems, key=lambda row: (row.repository, row.reference))
        self.complete = not any(problem.incomplete for problem in self.problems) and _whole(records)
        mattering = [self._explained(one, records) for one in self.problems if one.problem in MATTERING]
        self.unread = [problem for problem in mattering if problem.problem in UNREAD]
        self.twice = [(one.repository, one.reference) for one in mattering if one.problem == "linked twice"]
        known = {name for name, _ in (*self.links, *self.twice)}
        self._place = {name: at for at, name in enumerate(in_order(known, self.registry))}
        meant = bounds("storage", mattering, complete=self.complete, checked=True)
        self.collections: list[Verdict[set[int], set[str]]] = self.verdicts(
            meant, before=tagged, tagged=tagged, gone=set()
        )

    def size(self, blobs: Iterable[str]) -> int:
        """Return the bytes of some blobs that a collection removes."""
        return sum(map(self.sizes.__getitem__, blobs))

    def removed(self) -> list[Removed]:
        """Return the blobs that some collection removes, largest first."""
        by = {one.collection.column: one.goes for one in self.collections}
        found = [
            Removed(
                digest, self._kind(digest), self.sizes[digest], frozenset(name for name in by if digest in by[name])
            )
            for digest in sorted(set().union(*by.values()))
        ]
        return sorted(found, key=lambda one: -one.size)

    def _kind(self, digest: str) -> BlobKind:
        return "manifest" if digest in self.manifests else self._kinds.get(digest, "orphan")

    @cached_property
    def _kinds(self) -> dict[str, BlobKind]:
        """What the manifests take a blob for: a config first, then a layer."""
        found: dict[str, BlobKind] = {}
        for record in self.manifests.values():
            found.update(dict.fromkeys(record.children, "manifest"))
        for record in self.manifests.values():
            found.update((self._aliases.get(blob, blob), "layer") for blob in record.layers)
        for record in self.manifests.values():
            found[self._aliases.get(record.config, record.config)] = "config"
        return found

    def _lacking(self, problems: Iterable[Problem], sort: ProblemKind) -> set[int]:
        some = {problem.repository for problem in problems if problem.problem == sort}
        return {row for row, (name, _) in enumerate(self.links) if name in some} if some else set()

    def _explained(self, problem: Problem, records: Records) -> Problem:
        """Return a problem with the tags that break by it, where it is about a manifest that is damaged or missing."""
        repository, digest = problem.repository, problem.reference
        row = self._at.get((repository, digest))
        if (repository, digest) not in records.damaged and (row is not None or ":" not in digest):
            return problem
        of = {row for row, (name, _) in enumerate(self.links) if name == repository}
        listing = {row for row in of if digest in self.manifests[self.links[row][1]].children}
        if row is None and not listing and digest in self.sizes:
            return problem
        tags = [tag for _, tag in self.tagging(self.breaking(of, {digest}))]
        if not tags:
            return problem
        text = f"{problem.message}; breaks {count(len(tags), 'tag')}: {names(tags)}"
        return Problem(repository, digest, problem.problem, text, problem.hint, problem.incomplete)

    def _needs(self, rows: set[int]) -> set[str]:
        """Return the digests that the manifests of some rows name, and their own."""
        return self._named_by(rows).digests

    def _named_by(self, rows: set[int]) -> _Named:
        """Return what the manifests of some rows name."""
        for known in self._known:
            if rows is known.rows or rows == known.rows:
                return known
        # Most rows are those of an earlier collection, and a few more.
        within = [known for known in self._known if known.rows < rows]
        found, nested, more = set[str](), False, rows
        if within:
            largest = max(within, key=lambda known: len(known.rows))
            found, nested, more = largest.digests.copy(), largest.nested, rows - largest.rows
        own = {self.links[row][1] for row in more}
        records = [self.manifests[digest] for digest in own]
        named = set(chain.from_iterable([record.layers for record in records]))
        named.update([record.config for record in records])
        nested = nested or not named.isdisjoint(self.manifests)
        found.update(named, own, chain.from_iterable([record.children for record in records if record.children]))
        # Collections often read the same rows: those of the last ones are at hand.
        self._known = [*self._known[-2:], new := _Named(rows, found, nested)]
        return new

    def less(self, some: set[int], others: set[int]) -> set[int]:
        """See `Content.less`: no set is ever changed, so one may be given back as it is."""
        return some - others if others else some

    def number(self, some: set[int] | set[str]) -> int:
        """See `Content.number`."""
        return len(some)

    def unneeded(self, rows: set[int]) -> set[str]:
        """See `Content.unneeded`."""
        named = self._named_by(rows)
        if named.without is None:
            named.without = self._loose - named.digests
        return named.without

    def among(self, rows: set[int], blobs: set[str]) -> set[int]:
        """See `Content.among`."""
        return {row for row in rows if self.links[row][1] in blobs}

    def keeps(self, rows: set[int], digest: str) -> bool:
        """See `Content.keeps`."""
        return any(self.links[row][1] == digest for row in rows)

    def marks(self, rows: set[int], repository: str, digest: str) -> bool:
        """See `Content.marks`."""
        place = self._place[repository]
        before = {row for row in rows if self._place[self.links[row][0]] <= place}
        return self._aliases[digest] in self._needs(before)

    def reached(self, rows: set[int], gone: set[int]) -> set[int]:
        """See `Content.reached`."""
        found = self.less(rows, gone)
        new = found & self._listing
        while new:
            new = {child for row in new for child in self._below[row]} - found - gone
            found = found | new
            new &= self._listing
        return found

    def followed(self, roots: set[int], gone: set[int]) -> set[int]:
        """See `Content.followed`: at once, where every manifest is there that is named."""
        found = self.reached(roots, gone)
        known, lost = self.manifests, gone | {-1}
        there = (
            self._at.get((self.links[row][0], child), -1) not in lost
            for row in found & self._listing
            for child in known[self.links[row][1]].children
            if child in known
        )
        return found if not self._named_by(found).nested and all(there) else super().followed(roots, gone)

    @cached_property
    def _listing(self) -> set[int]:
        """The rows of indexes."""
        return {row for row, (_, digest) in enumerate(self.links) if self.manifests[digest].children}

    @cached_property
    def _below(self) -> dict[int, list[int]]:
        """The rows that each index lists, of those that its repository has."""
        at = self._at
        found: dict[int, list[int]] = {}
        for row in self._listing:
            name, digest = self.links[row]
            found[row] = [at[name, child] for child in self.manifests[digest].children if (name, child) in at]
        return found

    def breaking(self, rows: set[int], blobs: set[str]) -> set[int]:
        """See `Content.breaking`."""
        if blobs <= self.unneeded(self.rows) and not self._aliases:
            return set()
        # Where what the rows name themselves stays, only indexes can lead to what goes.
        direct = rows if self._aliases or not blobs.isdisjoint(self._needs(rows)) else set[int]()
        below = self.reached(rows & self._listing, set())
        digests = {
            digest for digest in {self.links[row][1] for row in below | direct} if self._names_one(digest, blobs)
        }
        bad = {row for row in below | direct if self.links[row][1] in digests}
        new = bad
        while new:
            new = {row for row in below & self._listing - bad if not new.isdisjoint(self._below[row])}
            bad = bad | new
        return rows & bad

    def _names_one(self, digest: str, blobs: set[str]) -> bool:
        """Whether a manifest is one of some blobs, or needs one."""
        record, apart, stored = self.manifests[digest], blobs.isdisjoint, self._aliases
        return (
            digest in blobs
            or record.config in blobs
            or not apart(record.layers)
            or not apart(record.children)
            or (bool(stored) and not apart(stored.get(blob, blob) for blob in (record.config, *record.layers)))
        )

    @cached_property
    def aliased(self) -> bool:  # type: ignore[override]
        """See `Content.aliased`."""
        return bool(self._aliases) and bool(self._named & self._aliases.keys())

    @cached_property
    def _named(self) -> set[str]:
        """What some manifest names."""
        return self._needs(self.rows)

    def misnamed(self, blobs: set[str]) -> bool:
        """See `Content.misnamed`."""
        stored = {self._aliases[alias] for alias in self._named & self._aliases.keys()}
        return bool(blobs & stored - self._named)

    def tagging(self, rows: set[int]) -> list[tuple[str, str]]:
        """See `Content.tagging`."""
        if not rows:
            return []
        return [(name, tag) for name, tag, digest in self.tags if self._at.get((name, digest)) in rows]

    def visits(self, rows: set[int]) -> Iterator[list[int]]:
        """See `Content.visits`."""
        some = sorted(rows)
        groups = [(name, list(group)) for name, group in groupby(some, lambda row: self.links[row][0])]
        for _, group in sorted(groups, key=lambda one: self._place[one[0]]):
            yield group

    def names(self, row: int) -> list[tuple[str, int]]:
        """See `Content.names`."""
        repository, digest = self.links[row]
        record = self.manifests[digest]
        if (
            not record.children
            and self.manifests.keys().isdisjoint(record.layers)
            and record.config not in self.manifests
        ):
            return []
        named = dict.fromkeys((record.config, *record.layers, *record.children))
        some = [each for each in named if each in self.manifests and each != digest]
        return [(each, self._at.get((repository, each), -1)) for each in some]

    def manifest(self, row: int) -> str:
        """See `Content.manifest`."""
        return self.links[row][1]

    def numbered(self, rows: Iterable[int]) -> set[int]:
        """See `Content.numbered`."""
        return set(rows)


def _whole(records: Records) -> bool:
    """Whether nothing that was listed failed."""
    counts = (records.coverage.repositories, records.coverage.tags, records.coverage.manifests)
    return not any(one.failed or one.denied for one in counts)

"""The garbage collections of distribution 2.8 and 3: what each marks, and what ends it.

`docs/storage.md` has the table of these rules with their sources. They know no frames: a verdict on a storage does
without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from regnb.crawl.records import Problem, ProblemKind, Source
from regnb.text import count, names

Marks: TypeAlias = Literal["all", "tagged", "reach"]
BoundWord: TypeAlias = Literal["exact", "at most", "at least", "estimate", "fails"]

PLAIN: Final = "garbage-collect"
UNTAGGED: Final = "garbage-collect --delete-untagged"


class Collection(NamedTuple):
    """One way to collect garbage.

    Attributes:
        column: Its column in the frame ``reclaim_blobs``.
        command: Of the registry program.
        version: Of distribution.
        marks: What it keeps: the manifests of all rows, of ``tagged`` ones, or of what these ``reach``.
        fails: Problems (``inventory.problems``) that end it before it removes anything.
        unread: Problems of manifests that end it if it reads them.
    """

    column: str
    command: str
    version: str
    marks: Marks
    fails: frozenset[ProblemKind]
    unread: frozenset[ProblemKind]

    @property
    def by_layers(self) -> bool:
        """Whether it takes a folder for a repository because of ``_layers``, and not because of ``_manifests``."""
        return self.version != "3"


_FATAL: Final[frozenset[ProblemKind]] = frozenset({"corrupt revision", "bad repository", "bad blob"})
_2: Final[frozenset[ProblemKind]] = _FATAL | {"bad layers"}
_3: Final[frozenset[ProblemKind]] = _FATAL | {"bad manifests", "no layers", "corrupt layer link"}
_UNREAD_2: Final[frozenset[ProblemKind]] = frozenset({"corrupt manifest"})
_UNREAD_3: Final[frozenset[ProblemKind]] = _UNREAD_2 | {"schema1"}
COLLECTIONS: Final = (
    Collection("plain_2", PLAIN, "2.8", "all", _2, _UNREAD_2),
    Collection("plain", PLAIN, "3", "all", _3, _UNREAD_3),
    Collection("untagged", UNTAGGED, "3", "reach", _3 | {"corrupt tag"}, _UNREAD_3),
    # It takes the children of a tagged index for untagged manifests.
    Collection("untagged_2", UNTAGGED, "2.8", "tagged", _2 | {"corrupt tag", "no tags"}, _UNREAD_2),
)

_BESIDE: Final[frozenset[ProblemKind]] = frozenset({"no tags", "linked twice"})
MATTERING: Final = _BESIDE.union(*(each.fails | each.unread for each in COLLECTIONS))
"""Problems by which some collection goes another way."""
UNREAD: Final = _UNREAD_3
"""Of these the ones of single manifests, which matter to a collection that reads them."""


_CACHED: Final = "manifests that came from the cache, or were read in another repository, may be gone here"
_UNREAD: Final = "repositories that were not read may need some"


class Bound(NamedTuple):
    """How the bytes of a collection are meant (``bound`` of the frame ``reclaim``), and why."""

    word: BoundWord
    message: str


def bounds(
    source: Source,
    problems: Iterable[Problem],
    *,
    complete: bool,
    checked: bool,
    whole: bool = True,
    hollow: bool = False,
    torn: bool = False,
) -> list[Bound]:
    """Return how the figures of each of :data:`COLLECTIONS` are meant.

    Args:
        source: ``api``, ``storage`` or ``layout``.
        problems: Of the inventory, at least those of :data:`MATTERING`.
        complete: Whether everything was read.
        checked: Whether the registry was asked for every manifest, and none came from the cache.
        whole: Whether no repository was left out.
        hollow: Whether what is deleted lists a manifest that the repository does not have.
        torn: Whether some image lacks a part, so that others of its parts may be gone as well.

    Example:
        >>> bounds("api", [], complete=True, checked=True)[0].word
        'at most'
    """
    problems = list(problems)
    lacking = {problem.repository for problem in problems if problem.problem == "no layers"}
    found = []
    for collection in COLLECTIONS:
        fatal = [
            problem
            for problem in problems
            if problem.problem in collection.fails and not (collection.by_layers and problem.repository in lacking)
        ]
        if fatal:
            found.append(_failure(fatal))
        elif not complete:
            found.append(Bound("estimate", "not everything could be read, and it may need some of this"))
        elif source == "layout":
            found.append(Bound("estimate", "no garbage collection of a registry runs on a layout or an archive"))
        elif source == "storage":
            found.append(Bound("exact", ""))
        elif not checked:
            found.append(Bound("estimate", _CACHED))
        elif hollow:
            found.append(Bound("estimate", "a manifest that only an index names may still be on disk, and go with it"))
        elif not whole and collection.command == PLAIN:
            found.append(Bound("at most", f"{_UNREAD}, and so may manifests without a tag, which HTTP does not show"))
        elif not whole:
            found.append(Bound("estimate", f"{_UNREAD}, and it also removes manifests without a tag"))
        elif collection.command == PLAIN:
            found.append(Bound("at most", "manifests without a tag cannot be seen over HTTP, and may need some"))
        elif collection.version == "3":
            text = "it also removes manifests without a tag, and in odd repositories it leaves some: HTTP shows neither"
            found.append(Bound("estimate", text))
        elif torn:
            found.append(Bound("estimate", "a part of some image is missing, and what else it names may be gone, too"))
        else:
            found.append(Bound("at least", "it also removes manifests without a tag, which cannot be seen over HTTP"))
    return found


def _failure(fatal: Sequence[Problem]) -> Bound:
    """Return what is said of a collection that some problems end."""
    first = fatal[0]
    where = f"{first.repository} {first.reference}".strip()
    more = f" (and {count(len(fatal) - 1, 'more problem')})" if len(fatal) > 1 else ""
    return Bound("fails", f"removes nothing: {where}: {first.problem}: {first.message}{more}")


Rows = TypeVar("Rows")
"""Some rows: a row is a manifest in a repository."""
Blobs = TypeVar("Blobs")
"""Some blobs that are on disk, manifests included."""


class Verdict(NamedTuple, Generic[Rows, Blobs]):
    """What one collection removes.

    Attributes:
        collection: Which one.
        goes: The blobs.
        before: Of these the ones that it would remove without the deletion, too.
        manifests: How many manifests it takes out of their repositories.
        bound: How the figures are meant.
        message: Why, or what to beware of.
        reads: The rows that it reads, and so keeps what they need.
    """

    collection: Collection
    goes: Blobs
    before: Blobs
    manifests: int
    bound: BoundWord
    message: str
    reads: Rows


class Content(ABC, Generic[Rows, Blobs]):
    """What the collections meet in a registry, and what each of them does with it.

    The rules are written here, once. How rows and blobs are kept is left to who knows the content: as arrays for any
    deletion from an inventory, as sets for a verdict on a storage as it is. Both are told apart by ``&`` alone.

    Attributes:
        rows: All of them.
        none: No blob.
        unlayered: Rows of repositories without a folder for layers.
        unlabelled: Rows of repositories without a folder for tags.
        unread: Problems of manifests that some collection cannot read.
        twice: Repository and digest of each blob that a repository links by two digests.
        aliased: Whether some blob is named by another digest than that under which its bytes are stored.
    """

    rows: Rows
    none: Blobs
    unlayered: Rows
    unlabelled: Rows
    unread: Sequence[Problem]
    twice: Sequence[tuple[str, str]]
    aliased: bool

    @abstractmethod
    def less(self, some: Rows, others: Rows) -> Rows:
        """Return rows without some others."""

    @abstractmethod
    def number(self, some: Rows | Blobs) -> int:
        """Return how many rows or blobs there are."""

    @abstractmethod
    def unneeded(self, rows: Rows) -> Blobs:
        """Return the blobs on disk that a collection removes which reads these rows."""

    @abstractmethod
    def among(self, rows: Rows, blobs: Blobs) -> Rows:
        """Return the rows whose manifest is one of these blobs."""

    @abstractmethod
    def keeps(self, rows: Rows, digest: str) -> bool:
        """Whether a manifest is that of one of these rows."""

    @abstractmethod
    def marks(self, rows: Rows, repository: str, digest: str) -> bool:
        """Whether the rows of the repositories up to this one, as version 3 visits them, need a blob."""

    @abstractmethod
    def reached(self, rows: Rows, gone: Rows) -> Rows:
        """Return the rows that some lead to within their repositories, these included, but not by way of one gone."""

    @abstractmethod
    def breaking(self, rows: Rows, blobs: Blobs) -> Rows:
        """Return the rows that lead to one of these blobs."""

    @abstractmethod
    def misnamed(self, blobs: Blobs) -> bool:
        """Whether one of these blobs is needed, and by another digest only than its own."""

    @abstractmethod
    def tagging(self, rows: Rows) -> Sequence[tuple[str, str]]:
        """Return repository and name of each tag that points at one of these rows, in order."""

    @abstractmethod
    def visits(self, rows: Rows) -> Iterable[list[int]]:
        """Return the numbers of rows, those of each repository together, in the order in which version 3 visits it."""

    @abstractmethod
    def names(self, row: int) -> Iterable[tuple[Any, int]]:
        """Return the manifests that a row's manifest names, as a child or as a layer.

        Each with the number of its row in the same repository; -1 if it has none there.
        """

    @abstractmethod
    def manifest(self, row: int) -> Any:  # noqa: ANN401 -- what stands for a manifest in `names`
        """Return the manifest of a row."""

    @abstractmethod
    def numbered(self, rows: Iterable[int]) -> Rows:
        """Return the rows with these numbers."""

    def kept(self, collection: Collection, tagged: Rows, gone: Rows) -> Rows:
        """Return the rows whose manifests a collection reads, and so keeps what they need.

        Args:
            collection: Which one.
            tagged: Rows that have a tag.
            gone: Rows that are not there any more.
        """
        listed = self.less(self.rows, gone)
        if collection.by_layers:
            listed = self.less(listed, self.unlayered)
        if collection.marks == "all":
            return listed
        marked: Rows = tagged & listed  # type: ignore[operator]
        return marked if collection.marks == "tagged" else self.followed(marked, gone)

    def followed(self, roots: Rows, gone: Rows) -> Rows:
        """Return the rows that version 3 reads: those of tags, and what these lead to, repository by repository.

        What another repository had marked before is not followed any more, even where that one did not have it.
        """
        lost = {row for rows in self.visits(gone) for row in rows}
        found: set[int] = set()
        before: set[Any] = set()
        for rows in self.visits(roots):
            found.update(rows)
            marked = {self.manifest(row) for row in rows}
            todo = list(rows)
            while todo:
                for child, below in self.names(todo.pop()):
                    if child not in before and below >= 0 and below not in lost and below not in found:
                        found.add(below)
                        todo.append(below)
                    marked.add(child)
            before |= marked
        return self.numbered(found)

    def verdicts(self, meant: Sequence[Bound], *, before: Rows, tagged: Rows, gone: Rows) -> list[Verdict[Rows, Blobs]]:
        """Return what each of :data:`COLLECTIONS` removes.

        Args:
            meant: How the figures of each are meant, as :func:`bounds` has it.
            before: Rows that have a tag.
            tagged: Those that have one after the deletion.
            gone: Rows that the deletion removes.
        """
        nothing = self.less(gone, gone)
        found: list[Verdict[Rows, Blobs]] = []
        for collection, bound in zip(COLLECTIONS, meant, strict=True):
            reads = self.kept(collection, tagged, gone)
            if bound.word != "fails":
                bound = self._failing(collection, reads) or bound  # noqa: PLW2901 -- it is this one's
            if bound.word == "fails":
                found.append(Verdict(collection, self.none, self.none, 0, *bound, nothing))
                continue
            goes = self.unneeded(reads)
            was = goes
            if self.number(gone) or self.number(before) != self.number(tagged):
                was = goes & self.unneeded(self.kept(collection, before, nothing))  # type: ignore[operator]
            manifests, eaten = self._taken(collection, reads, tagged, gone)
            text = f"breaks images: it removes {count(eaten, 'manifest')} that tagged indexes list"
            warnings = self._warnings(collection, reads, goes, self.less(tagged, gone))
            message = "; ".join(filter(None, [text * (eaten > 0), *warnings, bound.message]))
            found.append(Verdict(collection, goes, was, manifests, bound.word, message, reads))
        return found

    def _failing(self, collection: Collection, reads: Rows) -> Bound | None:
        """Return what is said of a collection that cannot read one of the manifests that it is to keep."""
        fatal = [
            problem
            for problem in self.unread
            if problem.problem in collection.unread and self.keeps(reads, problem.reference)
        ]
        return _failure(fatal) if fatal else None

    def doomed(self, collection: Collection, reads: Rows, tagged: Rows, gone: Rows) -> Rows:
        """Return the rows whose manifest a collection takes out of its repository."""
        if collection.marks == "all":
            return self.less(self.rows, self.rows)
        left = self.less(self.less(self.rows, gone), tagged)
        if collection.marks == "tagged":
            return self.less(left, self.unlayered)
        # What is marked anywhere stays, in every repository.
        return self.among(self.less(left, self.unlabelled), self.unneeded(reads))

    def _taken(self, collection: Collection, reads: Rows, tagged: Rows, gone: Rows) -> tuple[int, int]:
        """Return how many manifests a collection takes out of their repositories, and how many of them wrongly."""
        rows = self.doomed(collection, reads, tagged, gone)
        eaten = self.number(rows & self.reached(reads, gone)) if collection.marks == "tagged" else 0  # type: ignore[operator]
        return self.number(rows), eaten

    def _warnings(self, collection: Collection, reads: Rows, goes: Blobs, tagged: Rows) -> Iterator[str]:
        """Yield what to beware of: the tags that a collection breaks, why, and whether its run ends red."""
        holders = self.breaking(tagged, goes)
        if broken := self.tagging(holders):
            why = []
            if collection.by_layers and self.number(holders & self.unlayered):  # type: ignore[operator]
                why.append("it does not see a repository without a folder _layers")
            if self.aliased and self.misnamed(goes):
                why.append("it does not know layers by sha512")
            because = f", as {' and '.join(why)}" if why else ""
            whom = names([f"{repository}:{tag}" for repository, tag in broken])
            yield f"breaks {count(len(broken), 'tag')}: {whom}{because}"
        if not collection.by_layers and any(not self.marks(reads, *one) for one in self.twice):
            yield "removes all this, and then ends with exit code 1, as a layer was pushed by sha512"


def in_order(repositories: Iterable[str], url: str) -> list[str]:
    """Return repositories as version 3 visits them: folder by folder, or in a bucket by the whole key.

    Example:
        >>> in_order(["a-b", "a"], "/srv"), in_order(["a-b", "a"], "s3://bucket")
        (['a', 'a-b'], ['a-b', 'a'])
    """
    by_key = url.startswith(("s3:", "s3a:"))
    return sorted(
        repositories, key=lambda name: (f"{name}/_manifests",) if by_key else (*name.split("/"), "_manifests")
    )

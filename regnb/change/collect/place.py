"""Where what a collection takes away stays until it is removed for good: beside a folder, or in a bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self

from regnb.change.collect.state import State
from regnb.change.sweep import Options, Row, Sweep
from regnb.errors import InvalidArgument

Moved = Literal["moved", "gone", "there", "back"]


class Look(Protocol):
    """Looks at single files of a storage."""

    def age(self, path: str) -> tuple[float, int] | None:
        """Return when a file was written (seconds) and its bytes; None if no file is there."""

    def ages(self, folder: str, paths: Iterable[str]) -> Iterator[tuple[float, int] | None]:
        """Yield the same of many files below one folder; what is there and is not a file is never old enough."""

    def names(self, path: str) -> Sequence[str]:
        """Return what is in a folder; nothing where it is not there."""


class Run(NamedTuple):
    """What one collection moved into the trash, or listed.

    Attributes:
        run: Its name, which is that of the receipt.
        moved: When.
        rows: What lies there.
        options: What the collection was asked for, where the trash says so.
        allow: What it was allowed, likewise.
        begun: Whether its removal was begun and cut short: the rest can be removed, and cannot be put back.
    """

    run: str
    moved: datetime
    rows: tuple[Row, ...]
    options: Options = Options()
    allow: tuple[str, ...] = ()
    begun: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(row.size for row in self.rows)

    @property
    def uploads(self) -> bool:
        """Whether it has uploads, which a bucket may hold in parts that no listing of keys shows."""
        return any(row.kind == "upload" for row in self.rows)

    @property
    def listed(self) -> bool:
        """Whether its rows are still where they were, to be removed later if nothing needs them then either."""
        return self.options.place == "list"


class Place(Protocol):
    """A storage, held while its things are moved. Nobody else may, meanwhile."""

    @property
    def returns(self) -> bool:
        """Whether what was moved can be put back."""

    def __enter__(self) -> Self:
        """Lock it.

        Raises:
            Busy: Another collection is at work.
            StorageError: It cannot be locked.
        """

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Unlock it."""

    def take(self, plan: Sweep) -> None:
        """Say what it is held for."""

    def look(self, state: State) -> Look:
        """Return what looks at single files, given what was read just now."""

    def runs(self, state: State | None = None) -> list[Run]:
        """Return what the trash holds, the oldest first; given what was read just now, nothing is listed again."""

    def listed(self, state: State) -> set[str]:
        """Return the paths of what earlier runs listed, and is still where it was."""

    def content(self, digest: str, runs: Sequence[Run]) -> bytes | None:
        """Return the bytes of a manifest that lies in the trash, or None."""

    def probe(self) -> None:
        """Try whether anything can be moved.

        Raises:
            Refused: It cannot; nothing was changed.
        """

    def begin(self, run: str, sweep: Sweep, state: State) -> None:
        """Write down what is about to be moved, where the trash itself does not say it."""

    def choose(self, wanted: Mapping[str, Sequence[Row]]) -> None:
        """Say which rows of runs that were only listed are to be removed when these are emptied."""

    def moves(self, rows: Iterable[Row], run: str) -> Iterator[Moved]:
        """Move things into the trash, and yield of each: ``moved``; ``gone`` if it is not there any more; ``there`` if
        the trash has it already, so that this one is new.

        Raises:
            OSError: The next one cannot be moved.
        """

    def backs(self, rows: Iterable[Row], run: str) -> Iterator[Moved]:
        """Put things back, and yield of each: ``moved``; ``gone`` if nobody has it any more; ``there`` if its place is
        taken; ``back`` if its place is taken and the trash does not have it: it may have been put back before.

        Raises:
            OSError: The next one cannot be put back.
        """

    def holds(self, row: Row, run: str) -> bool:
        """Whether the trash has this."""

    def barrier(self) -> None:
        """Return when everything that was moved is on disk."""

    def unchanged(self) -> State | None:
        """Return what was read before anything was moved, if every link is still as it was but for those that this run
        moved; None where that is not known without reading them again.
        """

    def tidy(self, run: str = "") -> None:
        """Remove what is left of a run that has nothing more."""

    def empty(self, run: str) -> Sequence[Row]:
        """Remove everything that a run moved into the trash.

        Returns:
            What it only listed, and was removed from where it was.

        Raises:
            OSError: Something cannot be removed.
        """

    def space(self) -> int:
        """Return how many bytes are free, or a figure that grows as bytes become free."""


def moved_at(run: str) -> datetime | None:
    """Return when a run began, by its name; None if no run has this name.

    Example:
        >>> moved_at("20261129T120000-4f2a91cc").year, moved_at("lock")
        (2026, None)
    """
    try:
        Row(kind="run", reference=run).check()
        return datetime.strptime(run[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except (InvalidArgument, ValueError):
        return None

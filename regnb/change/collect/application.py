"""Do what a plan over a storage says, in the order that no reader of the registry sees a broken tag."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

from regnb.change.collect.place import Moved, Place
from regnb.change.collect.planning import stale
from regnb.change.collect.state import State
from regnb.change.journal import Figures, Journal, Outcome
from regnb.change.sweep import Row, Sweep
from regnb.crawl.files import reason
from regnb.crawl.survey import Before
from regnb.errors import PlanMismatch, StorageError
from regnb.text import count, human

_BATCH: Final = 500
"""Rows between two lines of the receipt."""
Reader: TypeAlias = Callable[[Before | None], State]
_LOOKS: Final = 20
"""Looks after the moves: each one that finds something puts it back, and is followed by another."""


@dataclass(slots=True)
class Progress:
    """What a progress bar reads."""

    title: ClassVar[str] = "Applying"
    unit: ClassVar[str] = "things"
    things: int = 0
    done: int = 0
    size: int = 0
    changed: Callable[[], None] = field(default=lambda: None)

    def state(self) -> tuple[int, int, str]:
        """Return how many things there are, how many are done, and the bytes of these."""
        return self.things, self.done, human(self.size)


def apply(
    sweep: Sweep,
    journal: Journal,
    trash: Place,
    *,
    read: Reader,
    again: Callable[[State], Sweep],
    progress: Progress,
) -> None:
    """Apply a confirmed plan over a storage, or what an earlier application left of it.

    Args:
        sweep: What to do.
        journal: Where it is announced and recorded; its name is that of the run in the trash.
        trash: The storage's folders, held for this alone.
        read: Reads what the storage holds now, given what need not be read again.
        again: Makes the same plan from that.
        progress: Counts what is done.

    Raises:
        PlanMismatch: The storage is not any more as the plan was made on; nothing was moved.
        Refused: Nothing can be moved into the trash.
        StorageError: The receipt's disk is full.

    Example:
        ``apply(sweep, journal, trash, read=read, again=again, progress=Progress())``
    """
    progress.things, progress.size = len(sweep.steps), 0
    if sweep.operation == "collect":
        _Collection(sweep, journal, trash, progress).run(read, again)
    elif sweep.operation == "restore":
        _restore(sweep, journal, trash, progress)
    else:
        _empty(_Course(sweep, journal, trash, progress), read, again)


class _Course:
    """Rows one after the other, and what is recorded of them."""

    def __init__(self, sweep: Sweep, journal: Journal, trash: Place, progress: Progress) -> None:
        self.sweep, self.journal, self.trash, self.progress = sweep, journal, trash, progress
        self.stopped = ""
        self._first = self._next = -1

    def done(self, number: int) -> None:
        """Record a row that is done, together with its neighbours."""
        if number != self._next or number - self._first >= _BATCH:
            self.flush()
            self._first = number
        self._next = number + 1
        self.progress.done += 1
        self.progress.size += self.sweep.steps[number].size
        if self.progress.done % _BATCH == 0:
            self.progress.changed()

    def flush(self) -> None:
        """Write down what was done."""
        if 0 <= self._first < self._next:
            self.journal.record_batch(self._first, self._next - 1)
        self._first = self._next = -1

    def note(self, outcome: Outcome) -> None:
        """Record a row that is not simply done."""
        self.flush()
        self.journal.record(outcome)
        self.progress.done += 1

    def phases(
        self,
        move: Callable[[Sequence[Row]], Iterator[Moved]],
        moved: Callable[[int, Row, Moved], None],
        is_stale: Callable[[int, Row], bool] = lambda *_: False,
    ) -> None:
        """Do rows kind by kind; between two kinds everything is on disk.

        Args:
            move: Does rows, and yields of each what became of it.
            moved: Records that.
            is_stale: Records a row that is not to be done, and says so.
        """
        for _, numbers in self.sweep.phases():
            todo = [number for number in numbers if self.outcome(number) != "done"]
            self.progress.done += len(numbers) - len(todo)
            if not todo:
                continue
            self.journal.intend(todo)
            todo = [number for number in todo if not is_stale(number, self.sweep.steps[number])]
            hows = move([self.sweep.steps[number] for number in todo])
            for number in todo:
                if self.stopped:
                    break
                try:
                    how = next(hows)
                except OSError as error:
                    self.failed(number, error)
                else:
                    moved(number, self.sweep.steps[number], how)
            self.flush()
            self.trash.barrier()
            self.progress.changed()

    def outcome(self, number: int) -> str:
        """Return what an earlier application recorded of a row."""
        found = self.journal.outcomes.get(number)
        return found.status if found else ""

    def is_unchanged(self, moved: Collection[tuple[str, str, str]]) -> bool:
        """Whether nothing was pushed since the storage was read, and nothing there needs what was moved.

        What a tag's link says is not in its name: where no manifest was moved, that does not matter. What an earlier
        application moved may be needed by what was pushed before this one looked.

        Args:
            moved: Of :func:`name`.
        """
        if self.stopped or self.journal.resumed or any(kind == "revision" for _, kind, _ in moved):
            return False
        same = self.trash.unchanged()
        return same is not None and not lost(same, moved, returned=False)

    def failed(self, number: int, error: OSError) -> None:
        """Record a row that cannot be moved. The rest is not tried: it is in order, and would meet the same."""
        self.stopped = reason(error)
        row = self.sweep.steps[number]
        self.note(Outcome(number, "failed", message=f"cannot move {row.path}: {self.stopped}"))


class _Collection(_Course):
    """One collection."""

    def run(self, read: Reader, again: Callable[[State], Sweep]) -> None:
        """Move, look again, put back what is needed again, and empty the trash if nothing is to stay in it."""
        before = read(None)
        resumed = self.journal.resumed
        gone = {row.path for row in stale(self.sweep.steps, again(before).steps, resumed=resumed)}
        if gone and not resumed:
            raise PlanMismatch(
                f"the storage is not as this plan was made on: {count(len(gone), 'row')} changed, such as {min(gone)}",
                hint="nothing was moved; make the plan again",
            )
        self.trash.probe()
        free = self.trash.space()
        run = self.journal.name
        self.trash.begin(run, self.sweep, before)
        if resumed and self.sweep.options.trash:
            for number, row in enumerate(self.sweep.steps):
                if self.outcome(number) == "done" and not self.trash.holds(row, run):
                    del self.journal.outcomes[number]  # it was put back since, or removed for good
        # What it held in all is let go: of a large storage two states at once take much memory.
        known = before.known()
        del before

        def is_stale(number: int, row: Row) -> bool:
            found = bool(gone) and row.path in gone and not self.trash.holds(row, run)
            if found:
                self.note(Outcome(number, "stale", message="it is needed again, or is not there any more"))
            return found

        def record(number: int, row: Row, how: Moved) -> None:
            if how == "moved" or (how == "gone" and self.trash.holds(row, run)):
                self.done(number)
            else:
                text = "it was pushed again meanwhile" if how == "there" else "it is not there any more"
                self.note(Outcome(number, "stale", message=text))

        self.phases(lambda rows: self.trash.moves(rows, run), record, is_stale)
        options = self.sweep.options
        if options.trash and options.place == "list":
            self.journal.note(Figures(0, 0, 0))
            return
        self._look_again(read, known)
        moved = sum(row.size for number, row in enumerate(self.sweep.steps) if self.outcome(number) == "done")
        emptied = 0
        if not options.trash and moved:
            self.trash.empty(run)
            emptied = moved
        if any(one.status != "done" for one in self.journal.outcomes.values()):
            self.trash.tidy(run)
        self.journal.note(Figures(moved, emptied, self.trash.space() - free))

    def _look_again(self, read: Reader, known: Before) -> None:
        """Put back what is needed again, until a look finds that no manifest and no tag lacks anything that was moved.

        Args:
            read: See `apply`.
            known: What need not be read again.
        """
        moved = {name(row): number for number, row in enumerate(self.sweep.steps) if self.outcome(number) == "done"}
        if self.is_unchanged(moved):
            return
        for look in range(_LOOKS):
            state = read(known)
            needed = lost(state, moved)
            if not needed:
                return
            if not self.trash.returns:
                some = self.sweep.steps[min(map(moved.__getitem__, needed))]
                raise StorageError(
                    f"{count(len(needed), 'thing')} that a push needs again were removed for good, such as {some.path}",
                    hint="push that image again; with a trash they could be put back",
                )
            if look + 1 == _LOOKS:
                self._put_back(sorted(moved.values(), reverse=True), "pushes went on")
                raise StorageError(
                    f"pushes went on after the moves, and needed {needed[0][2]} again: everything was put back",
                    hint="stop the registry, and make the plan again",
                )
            known = state.known()
            # Blobs first, links last.
            self._put_back(sorted(map(moved.pop, needed), reverse=True), "a push needs it again")

    def _put_back(self, numbers: Sequence[int], why: str) -> None:
        rows = [self.sweep.steps[number] for number in numbers]
        for number, _ in zip(numbers, self.trash.backs(rows, self.journal.name), strict=True):
            self.journal.record(Outcome(number, "stale", message=f"put back: {why}"))
        self.trash.barrier()


def name(row: Row) -> tuple[str, str, str]:
    """Return what :func:`lost` calls a row.

    Example:
        >>> name(Row(kind="manifest", reference="sha256:…"))
        ('', 'blob', 'sha256:…')
    """
    return row.repository, "blob" if row.kind == "manifest" else row.kind, row.reference


def lost(state: State, moved: Iterable[tuple[str, str, str]], *, returned: bool = True) -> list[tuple[str, str, str]]:
    """Return what of the things that were moved a manifest or a tag needs: repository, sort and digest.

    Args:
        state: What there is, or what there was before.
        moved: Of :func:`name`.
        returned: Whether what is there now was pushed again, and is not lost.

    Example:
        ``lost(state, map(name, run.rows))``
    """
    by: dict[tuple[str, str], set[str]] = {}
    for where, sort, digest in moved:
        by.setdefault((where, sort), set()).add(digest)
    none = set[str]()
    blobs = by.get(("", "blob"), none).difference(state.blobs if returned else ())
    found: dict[tuple[str, str, str], None] = {}
    for where, holding in state.repositories.items():
        served = state.served(where)
        needed = state.needed(served)
        if revisions := by.get((where, "revision"), none) - served:
            reached = state.below({*served, *filter(None, holding.tags.values())})
            found.update(((where, "revision", digest), None) for digest in revisions & reached)
        links = by.get((where, "layer link"), none).difference(holding.layers if returned else ())
        found.update(((where, "layer link", digest), None) for digest in links & needed)
        found.update((("", "blob", digest), None) for digest in blobs & needed)
    return list(found)


def _restore(sweep: Sweep, journal: Journal, trash: Place, progress: Progress) -> None:
    course = _Course(sweep, journal, trash, progress)

    def record(number: int, _: Row, how: Moved) -> None:
        if how == "there":
            course.note(Outcome(number, "stale", message="it is there again, and was left as it is"))
        elif how == "gone" or (how == "back" and not journal.resumed):
            course.note(Outcome(number, "stale", message="the trash does not have it any more"))
        else:
            course.done(number)

    free = trash.space()
    course.phases(lambda rows: trash.backs(rows, sweep.run), record)
    trash.tidy(sweep.run)
    moved = 0 if sweep.options.place == "list" else progress.size
    journal.note(Figures(moved, 0, trash.space() - free))


def _empty(course: _Course, read: Reader, again: Callable[[State], Sweep]) -> None:
    sweep, journal, trash = course.sweep, course.journal, course.trash
    before = read(None)
    now = again(before)
    gone = {row.reference for row in stale(sweep.steps, now.steps)}
    if journal.resumed:
        there = {row.reference for row in now.steps}
        for number, row in enumerate(sweep.steps):
            if row.reference in there:  # of what was removed the list is left
                journal.outcomes.pop(number, None)
    free = trash.space()

    def is_stale(number: int, row: Row) -> bool:
        found = row.reference in gone and not journal.resumed
        if found:
            course.note(Outcome(number, "stale", message="it changed since the plan was made"))
        return found

    removed: set[tuple[str, str, str]] = set()

    def remove(rows: Sequence[Row]) -> Iterator[Moved]:
        for row in rows:
            removed.update(map(name, trash.empty(row.reference)))
            yield "moved"

    course.phases(remove, lambda number, *_: course.done(number), is_stale)
    journal.note(Figures(0, course.progress.size, trash.space() - free))
    if now.options.place != "list" or course.is_unchanged(removed):
        return
    if worse := sorted(read(before.known()).broken() - before.broken()):
        raise StorageError(
            f"a tag of {worse[0][0]} lacks {worse[0][2]} after the removal",
            hint="push that image again, with the registry as the only writer",
        )

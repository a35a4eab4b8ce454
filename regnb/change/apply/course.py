"""How far an application of a plan has come: what became of each step, and what keeps the others from being tried."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, TypeGuard

import anyio
from msgspec import structs

from regnb.change.journal import Journal, Outcome, Status
from regnb.change.plan import Plan
from regnb.crawl.reader import Reader, each
from regnb.errors import (
    ConnectionFailed,
    ContentError,
    Denied,
    NotARegistry,
    RateLimited,
    RegistryError,
    RegnbError,
    StorageError,
    Unauthorized,
    Unproven,
    Unsupported,
)
from regnb.log import logger
from regnb.oci.manifest import RawManifest
from regnb.text import human

_LOG: Final = logger("change")
HOPELESS: Final = (Unsupported, Denied, Unauthorized, RateLimited)
"""Answers that the next write would get, too: the rest is not tried."""
PAUSE: Final = 0.5
"""Seconds before a second look at what is there after a write."""


@dataclass(slots=True)
class Progress:
    """Counters that a progress bar reads while a plan is applied."""

    title: ClassVar[str] = "Applying"
    unit: ClassVar[str] = "steps"
    steps: int = 0
    steps_done: int = 0
    moved: int = 0

    def state(self) -> tuple[int, int, str]:
        """Return how many steps there are, how many are settled, and how many bytes were sent."""
        return self.steps, self.steps_done, f"{human(self.moved)} sent" if self.moved else ""


class Course:
    """The state of one application of one plan.

    Args:
        reader: The registry that is written to.
        plan: What is done.
        journal: Where it is announced and recorded.
        progress: Counts what is done.

    Attributes:
        ended: What became of the steps that need not be tried, or were.
        todo: The steps that are to be tried.
        earlier: The steps whose first write an earlier application may have sent.
        begun: The steps whose first write this one may have sent.
        wrote: Whether the registry took anything.
        stop: What keeps the rest from being tried, or None.
        settled: Set for each step that is under way or waiting once it has ended.
    """

    def __init__(self, reader: Reader, plan: Plan, journal: Journal, progress: Progress) -> None:
        self.reader = reader
        self.client = reader.client
        self.plan = plan
        self.journal = journal
        self.progress = progress
        writing = [number for number, step in enumerate(plan.steps) if step.writes]
        self.ended = {number: found for number, found in journal.outcomes.items() if found.status == "done"}
        self.todo = [number for number in writing if number not in self.ended]
        self.earlier = frozenset(journal.begun)
        self.begun: set[int] = set()
        self.wrote = False
        self.stop: RegnbError | None = None
        self.settled: dict[int, anyio.Event] = {}
        self._unread: dict[int, RegnbError] = {}
        progress.steps, progress.steps_done = len(writing), len(writing) - len(self.todo)

    def again(self, numbers: Iterable[int]) -> None:
        """Take some steps for not done, although an earlier application did them."""
        for number in numbers:
            del self.ended[number]
            self.progress.steps_done -= 1
        self.todo = sorted({*self.todo, *numbers})

    async def keep(self, numbers: Iterable[int]) -> None:
        """Put the bytes of what the steps replace or remove into the journal."""
        steps = self.plan.steps

        async def keep(number: int) -> None:
            step = steps[number]
            try:
                raw = await self.reader.manifest(step.repository, step.before)
            except RegnbError as error:
                self._unread[number] = error
            else:
                self.journal.keep(raw, step.repository)

        await each(keep, [number for number in numbers if steps[number].before not in {"", steps[number].after}])

    async def may(self, number: int) -> bool:
        """Wait for what a step needs; where that was not done, or nothing is tried any more, skip it."""
        step = self.plan.steps[number]
        for need in step.needs:
            # Steps stand in order: what comes later is never waited for.
            if need < number and need in self.settled:
                await self.settled[need].wait()
        lacking = [need for need in step.needs if not self._done(need)]
        if self.stop is not None:
            text = f"not tried: {self.stop.message}"
        elif lacking:
            other = self.plan.steps[lacking[0]]
            text = f"it needs {other.action} {other.repository} {other.target} (row {lacking[0]}), which was not done"
        else:
            return True
        # What an earlier application has begun may well have happened, and an undo must look at it.
        self.record(number, "unknown" if number in self.earlier else "skipped", message=text)
        return False

    def _done(self, number: int) -> bool:
        """Whether what a step was to bring about is so: an index that someone else deleted lists nothing any more."""
        step, found = self.plan.steps[number], self.ended.get(number)
        gone = found is not None and found.status == "stale" and step.action == "delete" and not found.after
        return not step.writes or gone or (found is not None and found.status == "done")

    def begin(self, number: int) -> None:
        """Announce the first write of a step; nothing may be written if its bytes could not be kept."""
        if number in self._unread:
            raise self._unread[number]
        self.journal.start(number)
        self.begun.add(number)

    def answered(self, error: RegnbError | None) -> None:
        """Draw the conclusions from a write's answer."""
        if isinstance(error, HOPELESS):
            self.stop = self.stop or error
        else:
            self.wrote = True

    def record(self, number: int, status: Status, before: str = "", after: str = "", message: str = "") -> None:
        """Say what became of a step."""
        outcome = Outcome(number, status, before, after, message)
        self.journal.record(outcome)
        self.ended[number] = outcome
        step = self.plan.steps[number]
        line = "step %d of %d, %s %s %s: %s"
        _LOG.info(line, number + 1, len(self.plan.steps), step.action, step.repository, step.target, status)
        self.settled[number].set()
        self.progress.steps_done += 1

    def amend(self, number: int, note: str, status: Status | None = None) -> None:
        """Add to what was said of a step."""
        found = self.ended[number]
        message = "; ".join(filter(None, (found.message, note)))
        self.ended[number] = structs.replace(found, message=message, status=status or found.status)
        self.journal.record(self.ended[number])

    def failed(self, number: int, error: RegnbError) -> None:
        """Record what kept a step from being done, or from being looked at after its write."""
        if isinstance(error, StorageError):
            raise error  # the journal's: without it nothing more is written
        if isinstance(error, (*HOPELESS, ConnectionFailed)):
            self.stop = self.stop or error
        if number in self.begun:
            self.unknown(number, f"what is there now cannot be read: {error}")
        elif number in self.earlier:
            self.unknown(number, f"an earlier application may have done it, and now this failed: {error}")
        else:
            self.record(number, "failed", message=str(error))

    def unknown(self, number: int, why: str) -> None:
        """Record that it is not known whether a step was done, and how to find out."""
        text = f"it is not known whether this was done: {why}. To find out: regnb apply --resume {self.journal.name}"
        self.record(number, "unknown", self.plan.steps[number].before, message=text)

    def stale(self, number: int, found: str) -> None:
        """Record that a target is not what the plan says; what is as it should be after an interruption is done."""
        step = self.plan.steps[number]
        if found == step.after and (number in self.earlier or found):
            ours = number in self.earlier
            self.record(number, "done", step.before if ours else found, found, "it was so already")
        else:
            what = f"it is {found} now" if found else "it is gone"
            self.record(number, "stale", found, found, f"{what}, and was {step.before or 'not there'} in the plan")

    def missed(self, number: int, now: str, failure: RegnbError | None, text: str) -> None:
        """Record a step whose write has not brought about what was planned; ``now`` is what is there."""
        step = self.plan.steps[number]
        if lost(failure) and now == step.before:
            self.unknown(number, f"no answer came ({failure.message}), and so far it is not done")
        else:
            self.record(number, "failed", step.before, now, str(failure or text))

    async def now(self, repository: str, target: str) -> str:
        """Return what a tag or a digest is just now; "" if it is absent.

        No write rests on the word of a HEAD: what is read has the digest that is returned.

        Raises:
            RegistryError, ContentError: The answer does not deserve belief.
        """
        found = await self.reader.look(repository, target)
        return str(found.digest) if found else ""

    async def see(
        self, repository: str, target: str, before: str, failure: RegnbError | None = None
    ) -> RawManifest | None:
        """Read what is there after a write, with a GET.

        A second look follows an answer that does not deserve belief, and a write without an answer that has changed
        nothing yet.

        Args:
            repository: Where to look.
            target: A tag or a digest.
            before: What was there before the write.
            failure: What the write was answered, if that was an error.

        Raises:
            RegistryError, ContentError: The second answer does not deserve belief either.
        """
        try:
            found = await self.reader.look(repository, target)
            if not lost(failure) or (found.digest if found else "") != before:
                return found
        except (Unproven, NotARegistry, ContentError):
            pass
        await anyio.sleep(PAUSE)
        return await self.reader.look(repository, target)


def lost(failure: RegnbError | None) -> TypeGuard[RegistryError]:
    """Whether the answer to a write was lost: the registry may still be at work on what it got."""
    if isinstance(failure, ConnectionFailed):
        return True
    return isinstance(failure, RegistryError) and failure.status in (502, 504)


def although(failure: RegnbError | None) -> str:
    """Return the remark on a step that is done whatever the registry answered."""
    return f"it is done, although the registry answered otherwise: {failure.message}" if failure else ""

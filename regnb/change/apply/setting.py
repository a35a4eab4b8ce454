"""The steps that put a manifest, under a tag or under its digest."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from regnb.change.apply.blobs import Blobs
from regnb.change.apply.course import Course, although
from regnb.change.plan import Step
from regnb.crawl.reader import Reader
from regnb.errors import RegnbError
from regnb.oci.manifest import RawManifest, verify
from regnb.oci.reference import Digest


class Setting:
    """Puts manifests, one repository's one after the other.

    Args:
        course: The application.
        source: The registry that content is read from.
        blobs: What brings the blobs.
    """

    def __init__(self, course: Course, source: Reader, blobs: Blobs) -> None:
        self._course = course
        self._source = source
        self._blobs = blobs
        self._turns: dict[str, anyio.Semaphore] = {}
        self._failures: dict[int, RegnbError] = {}

    async def run(self, group: TaskGroup, queue: Sequence[int]) -> None:
        """Do the steps of one repository; what was written is read back while the next step is written.

        Beside the look before that one, it would only make it later: a registry answers both at once no sooner.
        """
        course = self._course
        written: list[tuple[int, RawManifest, anyio.Semaphore]] = []

        def read_back() -> None:
            while written:
                group.start_soon(self._read_back, *written.pop())

        for number in queue:
            step = course.plan.steps[number]
            # distribution answers 500 to who reads a manifest while it is written once more, wherever that may be.
            turn = self._turns.setdefault(step.after, anyio.Semaphore(1, fast_acquire=True))
            if step.needs or step.blobs or not turn.value:  # it may wait, even for what was written last
                read_back()
            if not await course.may(number):
                continue
            try:
                await self._blobs.have(step)
                raw = await self._content(step)
            except RegnbError as error:
                course.failed(number, error)
                continue
            await turn.acquire()
            if not await self._unmoved(number):
                turn.release()
                continue
            read_back()
            await self._write(number, raw)
            written.append((number, raw, turn))
        read_back()

    async def _content(self, step: Step) -> RawManifest:
        made = self._course.plan.content(step.after)
        if made is not None:
            verify(made, step.after)
            return RawManifest.of(made, step.media_type, Digest(step.after))
        return await self._source.manifest(step.source or step.repository, step.after)

    async def _unmoved(self, number: int) -> bool:
        """Announce a step, unless its tag has moved since the plan was made."""
        course = self._course
        step = course.plan.steps[number]
        try:
            if step.action == "tag" and (now := await course.now(step.repository, step.tag)) != step.before:
                course.stale(number, now)
                return False
            course.begin(number)
        except RegnbError as error:
            course.failed(number, error)
            return False
        return True

    async def _write(self, number: int, raw: RawManifest) -> None:
        course = self._course
        step = course.plan.steps[number]
        try:
            await course.client.put_manifest(step.repository, step.target, raw.data, raw.media_type)
        except RegnbError as error:
            self._failures[number] = error
        course.answered(self._failures.get(number))

    async def _read_back(self, number: int, raw: RawManifest, turn: anyio.Semaphore) -> None:
        course = self._course
        step, failure = course.plan.steps[number], self._failures.get(number)
        try:
            found = await course.see(step.repository, step.target, step.before, failure)
        except RegnbError as error:
            course.failed(number, error)
            return
        finally:
            turn.release()
        after = str(found.digest) if found else ""
        if found and found.data == raw.data:
            course.record(number, "done", step.before, after, although(failure))
        else:
            text = "the registry took it, but something else is there now: did someone else write?"
            course.missed(number, after, failure, text)

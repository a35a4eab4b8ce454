"""Apply a plan: what is asked before anything is written, and the order of the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskGroup

from regnb.change.apply.blobs import Blobs
from regnb.change.apply.course import Course, Progress
from regnb.change.apply.deletions import Deletions
from regnb.change.apply.removing import Removing
from regnb.change.apply.setting import Setting
from regnb.change.journal import Journal
from regnb.change.plan import Plan, Step, once
from regnb.crawl.reader import Reader, each
from regnb.errors import Refused
from regnb.oci.reference import Digest


async def apply(reader: Reader, plan: Plan, journal: Journal, *, source: Reader, progress: Progress) -> None:
    """Apply a confirmed plan, or what an earlier application left of it; the journal says what became of each step.

    One step's failure is recorded and the next one tried, unless the answer (no permission, read-only) would be the
    same again: then the rest is skipped.

    Args:
        reader: The registry that is written to.
        plan: What to do.
        journal: Where it is announced and recorded.
        source: The registry that content is read from; the same reader where the plan names no other.
        progress: Counts what is done.

    Raises:
        Unsupported, Denied, Unauthorized, RateLimited, ConnectionFailed: Before anything was written.
        Unproven: It is not known whether the registry deletes; nothing was written.
        Refused: A tag can only go by way of a dummy manifest, and that was not allowed; nothing was written.
        StorageError: The journal cannot be written, or the archive into which everything was copied.

    Example:
        ``await apply(reader, plan, journal, source=reader, progress=Progress())``
    """
    course = Course(reader, plan, journal, progress)
    if not course.todo:
        await course.client.transport.settle()
        return
    if journal.resumed:
        await _check_needs(course)
    removals = [number for number in course.todo if plan.steps[number].action in ("untag", "delete")]
    puts = [number for number in course.todo if plan.steps[number].action in ("put", "tag")]
    deletions = Deletions(course.client, await reader.directory() if removals else None)
    if removals:
        await _check_deletions(course, deletions, [plan.steps[number] for number in removals])
    if puts:
        await course.keep(puts)
        await anyio.to_thread.run_sync(journal.intend, puts)
        blobs = Blobs(course, source)
        setting = Setting(course, source, blobs)

        def put(group: TaskGroup) -> None:
            blobs.start(group, puts)
            for queue in _queues(plan, puts).values():
                group.start_soon(setting.run, group, queue)

        await _all(course, puts, put)
    if removals:
        removing = Removing(course, deletions)

        def remove(group: TaskGroup) -> None:
            for repository, queue in _queues(plan, removals).items():
                group.start_soon(removing.run, repository, queue)

        await _all(course, removals, remove)
    if course.stop is not None and not course.wrote:
        raise course.stop
    if all(found.status == "done" for found in course.ended.values()):
        await course.client.transport.settle()


async def _all(course: Course, numbers: Sequence[int], start: Callable[[TaskGroup], None]) -> None:
    """Do some steps: a step's errors are recorded, so what is raised (the journal's disk is full) ends everything."""
    course.settled = {number: anyio.Event() for number in numbers}
    try:
        async with anyio.create_task_group() as group:
            start(group)
    except BaseExceptionGroup as failure:
        raise failure.exceptions[0] from None


def _queues(plan: Plan, numbers: Sequence[int]) -> dict[str, list[int]]:
    """Return some steps by their repository: one write at a time goes to each."""
    queues: dict[str, list[int]] = {}
    for number in numbers:
        queues.setdefault(plan.steps[number].repository, []).append(number)
    return queues


async def _check_needs(course: Course) -> None:
    """Do again what was done earlier, is needed now, and is gone: an undo may have come between."""
    steps = course.plan.steps

    async def there(number: int) -> bool:
        return await course.reader.digest(steps[number].repository, steps[number].target) == steps[number].after

    again = list(course.todo)
    while again:
        needed = sorted({need for number in again for need in steps[number].needs if need in course.ended})
        needed = [number for number in needed if steps[number].action in ("put", "tag")]
        again = [number for number, found in zip(needed, await each(there, needed), strict=True) if not found]
        course.again(again)


async def _check_deletions(course: Course, deletions: Deletions, steps: Sequence[Step]) -> None:
    """Ask, with names that are not there, whether what is removed can be deleted, and tags alone."""
    await deletions.find_out(steps, Digest.of(f"{course.plan.nonce}/absent".encode()))
    alone = any(step.action == "untag" for step in steps)
    if alone and not deletions.by_tag and "dummy" not in course.plan.allow:
        raise Refused(
            f"{course.client.host} cannot delete a single tag; with 'dummy', regnb points the tag at a small "
            "placeholder manifest and deletes the placeholder",
            hint=f"make the plan again {once(['dummy'])}",
            allow=("dummy",),
        )

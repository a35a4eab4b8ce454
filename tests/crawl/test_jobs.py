"""What a crawl does with its workers, beside its requests."""

from __future__ import annotations

import gc

import anyio
import anyio.lowlevel
import pytest

from regnb.crawl.jobs import Jobs


def test_python_looks_for_circles_as_before_when_a_crawl_ends() -> None:
    """While jobs run it looks less often; afterwards as often as before, also where one failed or two overlapped."""
    before, seen = gc.get_threshold(), []

    async def job() -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(gc.get_threshold()[0])

    async def fail() -> None:
        raise ValueError

    async def run(*jobs: object) -> None:
        some = Jobs(lambda: 4)
        some.add(jobs)  # type: ignore[arg-type] -- coroutine functions
        await some.run()

    async def twice() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(run, job)
            group.start_soon(run, job, job)

    anyio.run(twice)
    assert len(seen) == 3
    assert max(seen) > before[0]
    assert gc.get_threshold() == before
    with pytest.raises(ExceptionGroup):
        anyio.run(run, fail)
    assert gc.get_threshold() == before


def test_who_waits_for_a_name_goes_on_one_after_the_other() -> None:
    """Any number may wait for what one worker does: each has it alone, and a failure wakes the next."""
    jobs, running, done = Jobs(lambda: 8), [], []

    async def work(number: int) -> None:
        async with jobs.alone("one"):
            running.append(number)
            await anyio.lowlevel.checkpoint()
            assert running == [number]
            running.clear()
            done.append(number)

    async def main() -> None:
        with pytest.raises(ValueError, match="gone"):
            async with jobs.alone("one"):
                raise ValueError("gone")
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(work, number)

    anyio.run(main)
    assert sorted(done) == list(range(5))

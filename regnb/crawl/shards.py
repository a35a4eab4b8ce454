"""A crawl by several workers, each of which reads some of the repositories: what it gives is what one would give."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, cast

import anyio

from regnb.crawl.crawl import Progress, Reading, begin, gather, settle
from regnb.crawl.recording import Part, Recording
from regnb.crawl.records import Records
from regnb.directories.directory import Directory
from regnb.errors import RegnbError
from regnb.wire.cache import Cache
from regnb.wire.client import Client

EVERY: Final = 0.25
"""Seconds between two looks at whether a worker is done, or is to stop."""


class Pending(Protocol):
    """A call that was submitted: what a future of ``concurrent.futures`` or of Dask is."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> object:
        """Return what the call returned, or raise what it raised."""

    def cancel(self) -> object:
        """Let the call not begin, if it has not."""


class Executor(Protocol):
    """What runs a call elsewhere: ``ProcessPoolExecutor``, or Dask's ``Client``."""

    def submit(self, function: Callable[[Task], Part], task: Task, /) -> Pending:
        """Run a call, in its own time."""


@dataclass(frozen=True)
class Workers:
    """Who reads, and how.

    Attributes:
        executor: ``ProcessPoolExecutor()``, ``dask.distributed.Client(…)``, or anything with their ``submit``.
        shards: How many calls are made; a worker that is done takes the next one.
        folder: A folder that every worker reaches under this path: there calls write how far they are, and see that
            they are to stop. By default it is this machine's folder for temporary files.
    """

    executor: Executor
    shards: int = 8
    folder: Path | None = None


@dataclass(frozen=True)
class Task:
    """What one call reads. It holds no credentials: a scheduler shows arguments.

    Attributes:
        url: Of the registry.
        names: Repositories.
        named: Whether the user named them: one that is not there is then a problem.
        thorough: As of :func:`regnb.crawl.crawl.collect`.
        cached: Whether the worker's own cache may be used.
        concurrency: Requests at once: this call's share of what the host is sent.
        folder: Where progress is written; the call ends soon after it is gone.
        number: Of the call.
        key: Makes two readings of the same repositories two calls.
    """

    url: str
    names: tuple[str, ...]
    named: bool
    thorough: bool
    cached: bool
    concurrency: int
    folder: Path
    number: int
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def tell(self, progress: Progress) -> bool:
        """Write how far the call is, and return whether it is to go on: the folder is there as long as it is."""
        state = [progress.repositories, progress.repositories_done, progress.tags, progress.tags_done]
        file = self.folder / f"{self.number}.json"
        try:
            file.with_suffix(".new").write_text(json.dumps(state), encoding="utf-8")
            file.with_suffix(".new").replace(file)
        except OSError:
            return self.folder.is_dir()
        return True


def split(names: Sequence[str], shards: int) -> list[tuple[str, ...]]:
    """Deal repositories out to shards; none is empty.

    Example:
        >>> split(["a", "b", "c"], 2)
        [('a', 'c'), ('b',)]
    """
    return [tuple(names[at::shards]) for at in range(min(max(1, shards), len(names)))]


async def part(
    client: Client, cache: Cache, task: Task, *, progress: Progress, directory: Directory | None = None
) -> Part:
    """Read what one call is to read, in the worker; the rest is as :func:`regnb.crawl.crawl.collect` has it."""
    records = Records(client.host, datetime.now(UTC))
    reading = Reading(frozenset(task.names if task.named else ()), task.thorough, directory)
    try:
        recording = await gather(client, cache, records, task.names, progress=progress, reading=reading)
    finally:
        with anyio.CancelScope(shield=True):  # also what an interrupted call has read is kept
            await anyio.to_thread.run_sync(cache.flush)
    return recording.part()


async def collect(
    workers: Workers,
    read: Callable[[Task], Part],
    client: Client,
    cache: Cache,
    repositories: Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
    fill: bool = True,
    thorough: bool = False,
) -> Records:
    """Crawl a registry by workers; the rest is as :func:`regnb.crawl.crawl.collect` has it.

    What a worker did not bring back, because it died, is read here.

    Args:
        workers: Who reads.
        read: What a worker calls.
        client: The registry, for what is asked once.
        cache: Of this process.
        repositories: Names and globs.
        progress: Counters to keep up.
        fill: Whether a pull-through cache may be read.
        thorough: Whether each child of an index is asked for.

    Raises:
        RegistryError: Nothing could be listed at all, or a worker cannot reach the registry, or is not let in.
        Refused: It is a pull-through cache, and is not to be filled.
    """
    progress = progress or Progress()
    recording = Recording(Records(client.host, datetime.now(UTC)))
    names = await begin(client, cache, recording.records, repositories, fill=fill)
    parts = split(names, workers.shards)
    pending: list[tuple[Task, Pending]] = []
    temporary = tempfile.TemporaryDirectory(prefix="regnb-", dir=workers.folder, ignore_cleanup_errors=True)
    try:
        with temporary as folder:
            for number, some in enumerate(parts):
                task = Task(
                    url=client.transport.url,
                    names=some,
                    named=repositories is not None,
                    thorough=thorough,
                    cached=cache.path is not None,
                    concurrency=max(1, client.pace.most // len(parts)),
                    folder=Path(folder),
                    number=number,
                )
                pending.append((task, workers.executor.submit(read, task)))
            while pending:
                await anyio.sleep(EVERY)
                _count(progress, Path(folder), len(names))
                for one in [each for each in pending if each[1].done()]:
                    pending.remove(one)
                    recording.absorb(await _taken(*one, read))
    finally:
        await _end(pending)
    await settle(client, recording)
    return recording.records.ended()


async def _end(pending: Sequence[tuple[Task, Pending]]) -> None:
    """Let calls not begin, and wait a little for those that have seen that they are to end."""
    for _, future in pending:
        future.cancel()
    with anyio.CancelScope(shield=True):
        for _ in range(40):
            if all(future.done() for _, future in pending):
                break
            await anyio.sleep(EVERY / 5)


async def _taken(task: Task, future: Pending, read: Callable[[Task], Part]) -> Part:
    """Return what a worker brought back; what one that died did not is read here."""
    try:
        found = cast("Part", await anyio.to_thread.run_sync(future.result))
    except RegnbError:
        raise
    except Exception:  # noqa: BLE001 -- each executor has its own error for a worker that died
        return await anyio.to_thread.run_sync(read, task)
    return found


def _count(progress: Progress, folder: Path, repositories: int) -> None:
    """Add up how far the workers are."""
    states = []
    for file in folder.glob("*.json"):
        with suppress(OSError, ValueError):
            states.append(json.loads(file.read_text(encoding="utf-8")))
    sums = [sum(state[at] for state in states) for at in range(4)]
    progress.repositories = repositories
    progress.repositories_done, progress.tags, progress.tags_done = sums[1:]

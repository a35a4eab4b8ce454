"""A crawl by several workers, each of which reads some of the repositories: what it gives is what one would give."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import anyio

from regnb.crawl.crawl import Progress, Reading, begin, gather, settle
from regnb.crawl.recording import Part, Recording
from regnb.crawl.records import Records
from regnb.crawl.workers import EVERY, Pending, Workers, end, tell, told
from regnb.directories.directory import Directory
from regnb.errors import RegnbError
from regnb.wire.cache import Cache
from regnb.wire.client import Client


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
        return tell(self.folder, self.number, state)


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
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(end, [future for _, future in pending])
    await settle(client, recording)
    if not thorough:
        recording.records.even()
    return recording.records.ended()


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
    states = told(folder).values()
    sums = [sum(state[at] for state in states) for at in range(4)]
    progress.repositories = repositories
    progress.repositories_done, progress.tags, progress.tags_done = sums[1:]

"""Other processes or machines that read: how calls are made there, how far each is, and how all of them end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

EVERY: Final = 0.25
"""Seconds between two looks at whether a worker is done, or is to stop."""
END: Final = 2.0
"""Seconds that calls have to end after they were told to."""

_Task = TypeVar("_Task")
_Found = TypeVar("_Found")


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

    def submit(self, function: Callable[[_Task], _Found], task: _Task, /) -> Pending:
        """Run a call, in its own time."""


@dataclass(frozen=True)
class Workers:
    """Who reads, and how.

    Attributes:
        executor: ``ProcessPoolExecutor()``, ``dask.distributed.Client(…)``, or anything with their ``submit``.
        shards: How many calls are made, of a storage at the same time; a worker that is done takes the next one.
        folder: A folder that every worker reaches under this path: there calls write how far they are, and see that
            they are to stop. By default it is this machine's folder for temporary files.
    """

    executor: Executor
    shards: int = 8
    folder: Path | None = None

    @classmethod
    def of(cls, executor: Executor | Workers) -> Workers:
        """Return workers: as they were given, or as many as usual.

        Example:
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> Workers.of(ThreadPoolExecutor()).shards
            8
        """
        return executor if isinstance(executor, Workers) else cls(executor)


def tell(folder: Path, number: int, state: Sequence[int]) -> bool:
    """Write how far a call is, and return whether it is to go on: the folder is there as long as it is.

    Example:
        >>> tell(Path("/not/there"), 1, [5])
        False
    """
    file = folder / f"{number}.json"
    try:
        file.with_suffix(".new").write_text(json.dumps(state), encoding="utf-8")
        file.with_suffix(".new").replace(file)
    except OSError:
        return folder.is_dir()
    return True


def told(folder: Path) -> dict[int, list[int]]:
    """Return how far each call is, by its number.

    Example:
        >>> told(Path("/not/there"))
        {}
    """
    states: dict[int, list[int]] = {}
    for file in folder.glob("*.json"):
        with suppress(OSError, ValueError):
            states[int(file.stem)] = json.loads(file.read_text(encoding="utf-8"))
    return states


def end(pending: Sequence[Pending]) -> None:
    """Let calls not begin, and wait a little for those that have seen that they are to end."""
    for future in pending:
        future.cancel()
    until = time.monotonic() + END
    while time.monotonic() < until and not all(future.done() for future in pending):
        time.sleep(EVERY / 5)

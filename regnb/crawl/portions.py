"""The files of a storage, read by several workers: one process lists and judges, and the workers bring bytes."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, Self, cast

from regnb.crawl.walk import File, Files, RemoteFiles, digest_of
from regnb.crawl.workers import EVERY, Pending, Workers, end, tell, told
from regnb.errors import ContentError, Interrupted, InvalidReference, RegnbError, StorageError
from regnb.oci.manifest import verify

_MOST: Final = 10_000
"""Files of one call."""
_MOST_BYTES: Final = 1 << 26
"""Bytes of one call."""
_AT_ONCE: Final = 32
"""Files that are asked for before it is looked whether to stop: few enough for two seconds."""


@dataclass(frozen=True)
class Portion:
    """What one call reads: neighbours in the listing. It holds no credentials: a scheduler shows arguments.

    Attributes:
        url: Of the storage.
        base: The folder of its files.
        files: Path and size of each.
        folder: Where progress is written; the call ends soon after it is gone.
        number: Of the call.
        key: Makes two readings of the same files two calls.
    """

    url: str
    base: str
    files: tuple[tuple[str, int], ...]
    folder: Path
    number: int
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def read(self, files: Files) -> Brought:
        """Read it, in the worker.

        Raises:
            Interrupted: It was told to stop.
            StorageError: The folder is not on the worker's machine.

        Example:
            ``brought = portion.read(files)``
        """
        if not isinstance(files, RemoteFiles) and not os.path.isdir(self.base):  # noqa: PTH112 -- a text
            text = f"a worker does not find {self.base}"
            raise StorageError(text, hint="mount the storage under this path wherever a worker runs")
        reached, said = self.folder.is_dir(), 0.0
        found: dict[str, bytes | None] = {}
        for start in range(0, len(self.files), _AT_ONCE):
            if reached and not self.folder.is_dir():
                raise Interrupted("Interrupted.")
            if time.monotonic() - said > EVERY:
                said = time.monotonic()
                tell(self.folder, self.number, [len(found)])
            some = self.files[start : start + _AT_ONCE]
            found.update((path, data if isinstance(data, bytes) else None) for path, data in files.read(some))
        return Brought([found.get(path) for path, _ in self.files], dict(files.requests()).get("GET", 0))


class Brought(NamedTuple):
    """What a worker read: the bytes of each file, None where it could not; and how many requests that took."""

    data: Sequence[bytes | None]
    gets: int


@dataclass(slots=True)
class Progress:
    """Files that are to be read, and that were, by the numbers of the calls."""

    title: ClassVar[str] = "Reading"
    unit: ClassVar[str] = "files"
    total: int = 0
    here: int = 0
    done: dict[int, int] = field(default_factory=dict)

    def state(self) -> tuple[int, int, str]:
        """Return how many files there are so far, how many were read, and how many of them by workers."""
        brought = sum(self.done.values())
        return self.total, self.here + brought, f"{brought:,} by workers"


class _Call(NamedTuple):
    """Neighbours of which some are known, and the call that reads the others; None where none was made."""

    files: Sequence[tuple[str, int]]
    known: Mapping[str, bytes]
    portion: Portion
    pending: Pending | None


class Portioned:
    """The files of a storage, whose contents workers read: what they bring is what one process would have read.

    A worker brings bytes and judges nothing. What it did not find, could not read, or what does not have its digest is
    read by this process, as is what a worker that died did not bring: every problem is this process's own.

    Args:
        files: Of the storage.
        url: Of the storage, as the workers are to open it.
        workers: Who reads.
        read: What a worker calls.
        show: Is called while workers read.

    Attributes:
        base: As of `Files`.
        progress: Counters.

    Example:
        ``with Portioned(files, url, workers, read) as portioned: Reading(records).run(portioned)``
    """

    def __init__(
        self,
        files: Files,
        url: str,
        workers: Workers,
        read: Callable[[Portion], Brought],
        *,
        progress: Progress,
        show: Callable[[], None] = lambda: None,
    ) -> None:
        self.base = files.base
        self.progress = progress
        self._files, self._url, self._workers, self._call, self._show = files, url, workers, read, show
        self._pending: list[Pending] = []
        self._number = 0

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(
            prefix="regnb-", dir=self._workers.folder, ignore_cleanup_errors=True
        )
        self._folder = Path(self._temporary.name)
        return self

    def __exit__(self, *_: object) -> None:
        self._temporary.cleanup()  # by this every call sees that it is to end
        end(self._pending)

    def walk(self, *, brief: bool) -> Iterator[File]:
        """See `Files.walk`."""
        return self._files.walk(brief=brief)

    def parts(self) -> Iterator[File]:
        """See `Files.parts`."""
        return self._files.parts()

    def requests(self) -> Mapping[str, int]:
        """See `Files.requests`."""
        return self._files.requests()

    def read(self, files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, bytes | Exception]]:
        """See `Files.read`; the order is that in which was asked."""
        portions = self._divide(list(files))
        under_way: deque[_Call] = deque()
        while portions or under_way:
            while portions and len(under_way) < max(1, self._workers.shards):
                under_way.append(self._begin(portions.popleft()))
            yield from self._taken(under_way.popleft())

    def _divide(self, files: Sequence[tuple[str, int]]) -> deque[list[tuple[str, int]]]:
        """Divide files into neighbours: one portion a shard, and more where these would be too large."""
        self.progress.total += len(files)
        most = min(_MOST, -(-len(files) // max(1, self._workers.shards)))
        portions: deque[list[tuple[str, int]]] = deque()
        room = 0
        for path, size in files:
            if not portions or len(portions[-1]) == most or size > room:
                portions.append([])
                room = _MOST_BYTES
            portions[-1].append((path, size))
            room -= size
        return portions

    def _begin(self, files: Sequence[tuple[str, int]]) -> _Call:
        """Let a worker read what is not known."""
        known: dict[str, bytes] = {}
        if isinstance(self._files, RemoteFiles):
            known = {path: data for path, _ in files if (data := self._files.known(path)) is not None}
        self.progress.here += len(known)
        self._number += 1
        unknown = tuple(one for one in files if one[0] not in known)
        portion = Portion(self._url, self.base, unknown, self._folder, self._number)
        pending = None
        if unknown:
            try:
                pending = self._workers.executor.submit(self._call, portion)
            except Exception:  # noqa: BLE001 -- an executor all of whose workers died refuses; each has its own error
                pending = None
            else:
                self._pending.append(pending)
        return _Call(files, known, portion, pending)

    def _taken(self, call: _Call) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield what is known, what a worker brought, and what is read here as it did not bring it."""
        asked, number = call.portion.files, call.portion.number
        brought = self._brought(call.pending) if call.pending is not None else None
        (self._folder / f"{number}.json").unlink(missing_ok=True)
        found = dict[str, bytes | Exception](call.known)
        if brought is not None and len(brought.data) == len(asked):
            rows = zip(asked, brought.data, strict=True)
            whole = [(path, data) for (path, _), data in rows if data is not None and _is_whole(path, data)]
            found.update(whole)
            self.progress.done[number] = len(whole)
            if isinstance(self._files, RemoteFiles):
                self._files.count(brought.gets)
                for path, data in whole:
                    self._files.keep(path, data)
        else:
            self.progress.done.pop(number, None)
        lacking = [one for one in asked if one[0] not in found]
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            found.update(self._files.read(some))
            self.progress.here += len(some)
            self._show()
        yield from ((path, found[path]) for path, _ in call.files if path in found)

    def _brought(self, pending: Pending) -> Brought | None:
        """Wait for a call; None if its worker died."""
        while not pending.done():
            time.sleep(EVERY / 5)
            self.progress.done.update((number, state[0]) for number, state in told(self._folder).items())
            self._show()
        self._pending.remove(pending)
        try:
            return cast("Brought", pending.result())
        except RegnbError:
            raise
        except Exception:  # noqa: BLE001 -- each executor has its own error for a worker that died
            return None


def _is_whole(path: str, data: bytes) -> bool:
    """Whether a worker brought a file, and not other bytes than a blob's digest says."""
    try:
        verify(data, digest_of(path) or None)
    except (ContentError, InvalidReference):
        return False
    return True

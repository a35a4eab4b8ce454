"""Blocking calls on one background event loop, with a progress bar."""

from __future__ import annotations

import atexit
import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

from regnb.errors import Interrupted

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

_T = TypeVar("_T")
_lock = threading.Lock()
_portal: BlockingPortal | None = None
_until_exit = contextlib.ExitStack()
_ends: list[Callable[[], None]] = []


@atexit.register
def _end() -> None:
    for end in _ends:
        end()
    _until_exit.close()


def at_exit(end: Callable[[], None]) -> Callable[[], None]:
    """Call a function when the program ends, while the loop still runs."""
    _ends.append(end)
    return end


@contextlib.contextmanager
def ended_as_interrupted() -> Iterator[None]:
    """Let a termination of the process end what is within as Ctrl-C does, so that nothing is left behind.

    Outside the main thread, where there are no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def loop() -> BlockingPortal:
    """Return the one background event loop: a notebook's kernel runs a loop of its own, and its user wants values."""
    global _portal  # noqa: PLW0603 -- one loop for the process, started by the first call
    with _lock:
        if _portal is None:
            from anyio.from_thread import start_blocking_portal  # what reads files needs no loop

            _portal = _until_exit.enter_context(start_blocking_portal("asyncio"))
        return _portal


class Counted(Protocol):
    """Work whose progress is counted while it runs."""

    title: ClassVar[str]
    unit: ClassVar[str]

    def state(self) -> tuple[int, int, str]:
        """Return how much there is to do, how much is done, and a word about it."""


Show: TypeAlias = "bool | Callable[[int, int, str], None] | None"
"""Whether to draw a bar, or what to call with total, done and a word. None: a bar in a notebook and on a terminal, and
elsewhere a line on standard error every few seconds."""

EVERY: float = 5.0
"""Seconds between two lines of progress."""


def in_kernel() -> bool:
    """Whether this is a notebook's kernel, and not only a program that has imported Jupyter's libraries."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def remaining(total: int, done: int, seconds: float, unit: str) -> str:
    """Return count, rate and time left as words.

    Example:
        >>> remaining(5_000, 1_000, 10, "tags")
        '1,000 of about 5,000 tags, 100/s, about 40 s left'
    """
    words = f"{done:,} of about {max(total, done):,} {unit}"
    return words + pace(total, done, seconds)


def pace(total: int, done: int, seconds: float) -> str:
    """Return rate and time left as words to follow a count; "" where neither is known yet.

    Example:
        >>> pace(100, 50, 200)
        ', 0.25/s, about 3 min left'
    """
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    left = round(max(0, total - done) / rate)
    time_left = f"{left} s" if left < 100 else f"{round(left / 60)} min"  # noqa: PLR2004 -- seconds read well up to here
    return f", {rate:,.{0 if rate >= 1 else 2}f}/s, about {time_left} left"


class Bar:
    """A progress bar in the notebook or the terminal, drawn by the thread that waits; elsewhere lines.

    Args:
        progress: What is counted.
        show: As :data:`Show`.
        to: A file that holds one line about the work, for the page of a visitor; "" for none. It must be there.
    """

    def __init__(self, progress: Counted, *, show: Show, to: str = "") -> None:
        self._progress, self._to = progress, to
        self._call = show if callable(show) else None
        self._began = self._told = time.monotonic()
        self._next = self._began + EVERY if show is None else math.inf
        if show is None and (in_kernel() or sys.stderr.isatty()):
            show, self._next = True, math.inf
        self._bar: Any = None
        if show is True:
            import warnings  # only where a bar is drawn

            with warnings.catch_warnings():
                # Without ipywidgets tqdm says so and draws text, which is what is wanted.
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm  # costs 50 ms and pulls in ipywidgets

                self._bar = tqdm(
                    total=0, unit=f" {progress.unit}", desc=progress.title, smoothing=0, dynamic_ncols=True, leave=False
                )

    def update(self) -> None:
        """Show how far the work is."""
        total, done, note = self._progress.state()
        if self._call is not None:
            self._call(total, done, note)
        if self._to:
            self._tell(total, done, note)
        if (now := time.monotonic()) >= self._next:
            self._next = now + EVERY
            words = remaining(total, done, now - self._began, self._progress.unit)
            sys.stderr.write(f"{self._progress.title}: {words} ({note})\n")
            sys.stderr.flush()
        if self._bar is not None:
            self._bar.total = max(1, total)
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.n = done
            self._bar.refresh()

    def _tell(self, total: int, done: int, note: str) -> None:
        """Write how far the work is, once a second, for as long as somebody waits for it: then the file is there."""
        if (now := time.monotonic()) < self._told + 1:
            return
        self._told = now
        words = remaining(total, done, now - self._began, self._progress.unit)
        with contextlib.suppress(OSError), open(self._to, "r+", encoding="utf-8") as file:  # noqa: PTH123 -- a text
            file.truncate()
            file.write(f"{self._progress.title}: {words} ({note})")

    def close(self) -> None:
        """Show the end, and take the bar away."""
        self.update()
        if self._bar is not None:
            self._bar.close()


def run(work: Callable[[], Awaitable[_T]], bar: Bar | None = None) -> _T:
    """Run ``work`` on the background loop; an interrupt cancels it and waits until it has let go.

    Raises:
        Interrupted: The user interrupted.

    Example:
        >>> async def answer() -> int:
        ...     return 42
        >>> run(answer)
        42
    """
    ended, stopped = threading.Event(), threading.Event()
    begun: list[Callable[[], bool]] = []

    async def noted() -> _T:
        import asyncio  # the loop that this runs on has loaded it

        task = asyncio.current_task()
        assert task is not None  # noqa: S101 -- a coroutine runs in a task
        begun.append(task.cancel)
        try:
            if stopped.is_set():
                raise asyncio.CancelledError
            return await work()
        finally:
            ended.set()

    future: Future[_T] | None = None
    try:
        future = loop().start_task_soon(noted)
        while True:
            done, _ = wait([future], timeout=0.1 if bar else None)
            if bar:
                bar.update()
            if done:
                return future.result()
    except KeyboardInterrupt:
        stopped.set()
        # A cancelled future is done at once, its task only when it has let go of the connections and the cache. Where
        # the interrupt came before there was a future, the task may have begun all the same.
        if future.cancel() if future else loop().call(lambda: any(cancel() for cancel in begun)):
            ended.wait(10)
        raise Interrupted("Interrupted.") from None
    finally:
        if bar:
            bar.close()

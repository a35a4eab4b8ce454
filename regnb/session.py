"""Blocking calls on one background event loop, with a progress bar."""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
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
"""Whether to draw a bar (None: in a notebook and on a terminal), or what to call with total, done and a word."""


def in_kernel() -> bool:
    """Whether this is a notebook's kernel, and not only a program that has imported Jupyter's libraries."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class Bar:
    """A progress bar in the notebook or the terminal, drawn by the thread that waits."""

    def __init__(self, progress: Counted, *, show: Show) -> None:
        self._progress = progress
        self._call = show if callable(show) else None
        if show is None:
            show = in_kernel() or sys.stderr.isatty()
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
        if self._bar is not None:
            self._bar.total = max(1, total)
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.n = done
            self._bar.refresh()

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
    ended = threading.Event()

    async def noted() -> _T:
        try:
            return await work()
        finally:
            ended.set()

    future: Future[_T] = loop().start_task_soon(noted)
    try:
        while True:
            done, _ = wait([future], timeout=0.1 if bar else None)
            if bar:
                bar.update()
            if done:
                return future.result()
    except KeyboardInterrupt:
        # A cancelled future is done at once, its task only when it has let go of the connections and the cache.
        if future.cancel():
            ended.wait(10)
        raise Interrupted("Interrupted.") from None
    finally:
        if bar:
            bar.close()

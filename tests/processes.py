"""No test leaves a process behind: what it started has ended when the test has, or the test fails.

Only Linux tells whose a process is; elsewhere nothing is looked for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

_MARK: Final = "REGNB_TESTS_RUN"
_PROC: Final = Path("/proc")
_STARTS: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})


class Process(NamedTuple):
    """A process that runs; a number may be given again, and so goes with the time of the start."""

    number: int
    started: str


class Watch:
    """Looks for processes of this run of tests, also for those whose own parent has ended.

    Attributes:
        starts: How many processes were started by now, so that nobody looks where nothing was.
        begun: How many were when the test began.
        patience: Seconds in which a process ends that was told to.
    """

    def __init__(self) -> None:
        self.starts = self.begun = 0
        self.patience = 60.0
        self._lasting: set[Process] = set()
        os.environ[_MARK] = str(os.getpid())
        sys.addaudithook(self._heard)

    def _heard(self, event: str, _: object) -> None:
        self.starts += event in _STARTS

    def running(self) -> dict[Process, Process | None]:
        """Return each process of this run, with its parent if that is of this run, too."""
        parents: dict[int, tuple[Process, int]] = {}
        for folder in _PROC.glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                state, parent, *more = (folder / "stat").read_text().rpartition(") ")[2].split()
                marked = f"{_MARK}={os.getpid()}".encode() in (folder / "environ").read_bytes().split(b"\0")
                if state not in "ZX" and (marked or int(parent) == os.getpid()):
                    parents[int(folder.name)] = Process(int(folder.name), more[17]), int(parent)
        parents.pop(os.getpid(), None)
        return {process: parents[parent][0] if parent in parents else None for process, parent in parents.values()}

    def keep(self, some: Mapping[Process, object]) -> None:
        """Let some processes last longer than a test, with all that they start."""
        self._lasting.update(some)

    def left(self) -> list[Process]:
        """Return the processes that run although nothing lets them last."""
        found = self.running()
        left = []
        for process in found:
            line: Process | None = process
            while line is not None and line not in self._lasting:
                line = found[line]
            if line is None:
                left.append(process)
        return left

    def check(self) -> None:
        """Wait until what ends has ended, then end the rest and name it."""
        until = time.monotonic() + self.patience
        while (left := self.left()) and time.monotonic() < until:
            time.sleep(0.02)
        named = "; ".join(map(_command, left))
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process.number, signal.SIGKILL)
        assert not left, f"a process was left running: {named}"


def _command(process: Process) -> str:
    with contextlib.suppress(OSError):
        return (
            (_PROC / str(process.number) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
        )
    return f"process {process.number}"


watch = Watch()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """Let what a fixture of a module or of the session starts last."""
    before, starts = watch.running() if fixturedef.scope != "function" else {}, watch.starts
    result = yield
    if fixturedef.scope != "function" and watch.starts > starts:
        watch.keep({each: True for each in watch.running() if each not in before})
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Note what was started before a test's fixtures were."""
    watch.begun = watch.starts
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Look for what a test has left, after its fixtures have ended."""
    result = yield
    if watch.starts > watch.begun:
        watch.check()
    return result

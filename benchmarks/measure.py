"""What a benchmark measures, and the one table in which it is judged."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple


class Used(NamedTuple):
    """What a whole process took: CPU (user and system) and wall seconds, what it printed, and its peak memory (MB)."""

    cpu: float
    wall: float
    printed: str
    memory: float = 0


class Row(NamedTuple):
    """One comparison.

    Attributes:
        regnb: What regnb took or reached, with its unit.
        peer: The same of what it is measured against; "" where the limit is a figure of its own.
        ratio: regnb over the peer, or the figure.
        most: The limit; None where ``least`` is one.
        least: The limit; with neither the row is shown and not judged.
    """

    what: str
    regnb: str
    peer: str
    ratio: float
    most: float | None = None
    least: float | None = None

    @property
    def missed(self) -> bool:
        """Whether the limit does not hold."""
        return (self.most is not None and self.ratio > self.most) or (
            self.least is not None and self.ratio < self.least
        )

    @property
    def limit(self) -> str:
        """The limit, as it is read."""
        if self.most is None and self.least is None:
            return ""
        return f"at most {self.most:g}" if self.most is not None else f"at least {self.least:g}"


def judge(rows: Iterable[Row]) -> int:
    """Print the table, and return 1 if a limit is missed, else 0."""
    missed = 0
    print(f"{'what':72}{'regnb':>16}{'peer':>16}{'ratio':>9}  {'limit':14}")
    for row in rows:
        missed += row.missed
        verdict = ("MISS" if row.missed else "ok") if row.limit else ""
        print(f"{row.what:72}{row.regnb:>16}{row.peer:>16}{row.ratio:>9.2f}  {row.limit:14}{verdict}", flush=True)
    print(f"{os.cpu_count()} processors; {missed} limits missed")
    return bool(missed)


def compared(
    what: str,
    pairs: Sequence[tuple[float, float]],
    unit: str,
    *,
    most: float | None = None,
    least: float | None = None,
) -> Row:
    """Make a row of rounds: the medians, and the median of the ratios, as each round ran side by side."""
    mine, peer = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return Row(what, shown(mine, unit), shown(peer, unit), ratio, most, least)


def shown(value: float, unit: str) -> str:
    """Return a figure with its unit; small times in a unit that has digits."""
    if unit == "s" and value < 0.01:
        return f"{value * 1e6:,.0f} us"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def in_turn(rounds: int, *works: Callable[[], float]) -> list[tuple[float, ...]]:
    """Run each work once a round, every other round in the opposite order: a machine that slows down slows them all."""
    found = []
    for number in range(rounds):
        order = list(enumerate(works))[:: -1 if number % 2 else 1]
        results = {at: work() for at, work in order}
        found.append(tuple(results[at] for at in range(len(works))))
    return found


def run(*words: object, environment: Mapping[str, str] | None = None, stdin: str = "", code: int = 0) -> Used:
    """Run a process to its end. It finds its modules compiled, as whoever installed them does.

    Raises:
        SystemExit: It exited otherwise than with ``code``.
    """
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        given.write(stdin)
        given.seek(0)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        start = perf_counter()
        process = subprocess.Popen(
            [*map(str, words)], stdin=given, stdout=out, stderr=err, env={**inherited, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        for each in (out, err):
            each.seek(0)
        if process.returncode != code:
            raise SystemExit(f"{' '.join(map(str, words))[:200]}: exit code {process.returncode}\n{err.read()[-4000:]}")
        return Used(usage.ru_utime + usage.ru_stime, wall, out.read(), usage.ru_maxrss * 1024 / 1e6)


def python(source: str, *arguments: object, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run Python in a process of its own, as a user does, and return the JSON that it printed."""
    return dict(json.loads(run(sys.executable, "-c", source, *arguments, environment=environment).printed))


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """Give a folder, and keep everything that regnb would leave in the user's own there.

    It is in memory where the system has a folder for that: nobody's disk is measured.
    """
    memory = Path("/dev/shm")  # noqa: S108 -- a new folder in it
    with tempfile.TemporaryDirectory(prefix="regnb-bench-", dir=memory if memory.is_dir() else None) as name:
        before = dict(os.environ)
        for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            os.environ[variable] = f"{name}/{variable}"
        for variable in [each for each in os.environ if each.startswith("REGNB_")]:
            del os.environ[variable]
        try:
            yield Path(name)
        finally:
            os.environ.clear()
            os.environ.update(before)

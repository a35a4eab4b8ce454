"""Random operations through faults, deaths and other writers, for as long as it is let; each is checked on the disk.

    make soak
    python benchmarks/soak.py [--log FILE] [--seconds 3600] [--operations 10000] [--seed SEED]

Each trial is a line in the log: its seed, its operations and what was wrong; the seed of the trial under way is beside
it. Another run goes on with the same log; ``--seed`` plays one trial again and prints its story. Ctrl-C ends it after
the trial, with the sums of the whole log.
Exits with 1 if this run found a violation. Needs Debian's docker-registry and skopeo.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import disk
import verdict
from disk import Name
from faulty import LONG, Fault, Faulty, Request, Seen, Weather, calm, drawn
from trial import Bench, Trial, bench

from regnb import Plan, Receipt, RegnbError

NURSERY = """
import contextlib, functools, importlib, json, os, pkgutil, ssl, sys, time
import anyio, regnb

for module in pkgutil.walk_packages(regnb.__path__, "regnb."):
    if not module.name.endswith("__main__"):
        with contextlib.suppress(Exception):
            importlib.import_module(module.name)
import aiohttp, httpx_aiohttp, anyio._backends._asyncio
context = ssl.create_default_context()
ssl.create_default_context = lambda *_, **__: context
slowly = anyio.sleep

async def hurry(delay):
    await slowly(delay * 0.01)

anyio.sleep = hurry

def work(order):
    plan = regnb.Plan.load(order["plan"])
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(regnb.connect(plan.source, cache=False)) if plan.source else None
        registry = stack.enter_context(regnb.connect(plan.url, cache=False, **order["login"]))
        registry.apply(plan, confirm=plan.digest, source=source, progress=False)

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if not (child := os.fork()):
        status = 0
        try:
            work(order)
        except regnb.RegnbError:
            status = 3
        os._exit(status)
    print(child, flush=True)
    ended = 0, 0
    if order["seconds"] is not None:
        end = time.monotonic() + order["seconds"]
        while not ended[0] and time.monotonic() < end:
            time.sleep(0.001)
            ended = os.waitpid(child, os.WNOHANG)
        if not ended[0]:
            os.kill(child, 9)
    if not ended[0]:
        ended = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(ended[1]), flush=True)
"""
"""Forks a process for each plan: importing everything takes longer than all that it is killed for."""


class Nursery:
    """Processes that apply a plan, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: Any = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self._read()

    def _read(self) -> str:
        if not (line := self._process.stdout.readline()):
            raise SystemExit("the process that forks has ended")
        return str(line).strip()

    def begin(self, plan: Plan, login: dict[str, str], seconds: float | None) -> int:
        """Begin to apply a plan, and return the process, which is killed after so many seconds."""
        plan.save(self.folder / "plan.json")
        order = {"plan": str(self.folder / "plan.json"), "login": login, "seconds": seconds}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def end(self) -> int:
        """Wait for the process, and return how it ended."""
        return int(self._read())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)


class Death:
    """Kills a process at its request of some number, before the registry gets it or after it has answered."""

    def __init__(self, number: int, *, answered: bool) -> None:
        self.number, self.answered = number, answered
        self.came = 0
        self.process = 0
        self.known = threading.Event()

    def __call__(self, request: Request, status: int) -> None:
        if bool(status) == self.answered and request.method != "OPTIONS":
            self.came += 1
            if self.came == self.number + 1 and self.known.wait(10):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process, signal.SIGKILL)
                if not status:
                    raise ConnectionAbortedError


class Gate:
    """Holds back a manifest that someone else puts, until regnb has changed some.

    Attributes:
        after: How many; 0 holds nothing back.
        reached: Whether someone else's manifest has come.
    """

    def __init__(self, after: int) -> None:
        self.after = after
        self.reached = threading.Event()
        self._changed = 0
        self._open = threading.Event()

    def ours(self, request: Request, status: int) -> None:
        if changes(request.method, request.path, status):
            self._changed += 1
            if self._changed == self.after:
                self.open()

    def theirs(self, request: Request, status: int) -> None:
        if not status and request.method == "PUT" and request.kind == "manifest":
            self.reached.set()
            if self.after:
                self._open.wait(20)

    def open(self) -> None:
        """Hold nothing back any more."""
        self._open.set()


def changes(method: str, path: str, status: int) -> bool:
    """Whether a request has put or deleted a manifest."""
    return method in ("PUT", "DELETE") and "/manifests/" in path and status in (201, 202)


def overlaps(ours: Iterable[Seen], theirs: Iterable[Seen]) -> bool:
    """Whether a manifest that someone else put was taken between regnb's first and last change of one."""
    changed, put = ([seen for seen in log if changes(seen.method, seen.path, seen.status)] for log in (ours, theirs))
    return any(changed and changed[0].began < seen.ended and seen.began < changed[-1].ended for seen in put)


class Hardship(Trial):
    """A trial in which processes are killed, and someone else writes, too.

    Attributes:
        other: The proxy through which someone else writes, without faults.
        overlaps: The races in which their write came between regnb's first and last one.
    """

    def __init__(self, seed: str, bench: Bench, nursery: Nursery, other: Faulty) -> None:
        super().__init__(seed, bench)
        self.nursery = nursery
        self.other = other
        self.kills = self.races = self.overlaps = 0
        self._without: frozenset[Fault] = frozenset()

    def weather(self) -> Weather:
        return drawn(self.chance, without=self._without)

    def kinds(self) -> dict[Callable[[], object], int]:
        return {**super().kinds(), self._kill: 4, self._race: 3}

    def _plan(self, name: str) -> tuple[Plan, str] | None:
        """Plan something that changes several tags, without faults."""
        tags = sorted(self.state.tags)
        if not tags:
            return None
        where = self.chance.choice(tags).repository
        copied, what = self.chance.choice(("copied", "mirror/{repository}:{tag}")), f"{where}:*"
        retagged = self.chance.choice(("{tag}-x", "{tag}-y"))
        makes: dict[str, Callable[[], Plan]] = {
            f"retag {what}": lambda: self.registry.plan_retag(what, retagged, allow=["overwrite"]),
            f"copy {what}": lambda: self.registry.plan_copy(what, copied, allow=["overwrite"]),
            f"rename {where}": lambda: self.registry.plan_rename(where, "renamed", allow=["overwrite", "dummy"]),
            f"delete {what}": lambda: self.registry.plan_delete(what, allow=["dummy", "parents"]),
            f"delete {where}": lambda: self.registry.plan_delete(
                [str(name) for name in tags if name.repository == where][::2], allow=["dummy", "parents"]
            ),
        }
        about = self.chance.choice(sorted(makes))
        with self._operation(f"plan {name}", about, quiet=True) as operation:
            plan = makes[about]()
            operation.outcome = "planned"
            return plan, about
        return None

    def _kill(self) -> None:
        """Kill a process that applies a plan, then go on with its receipt or take it back."""
        if (found := self._plan("killed")) is None or not found[0].changes:
            return
        plan, about = found
        before, known = self.state, set(self.bench.receipts.glob("*.jsonl"))
        death = Death(self.chance.randint(0, 8 + 8 * plan.changes), answered=self.chance.random() < 0.5)
        by_time = self.chance.random() < 0.4
        moment = self.chance.random() * 0.3
        self._without = LONG  # another process has another clock
        with self._operation("apply killed", f"{about}, at {death.number} {death.answered} {by_time}") as operation:
            if self.chance.random() < 0.6:
                self.proxy.change(calm)
            self.proxy.watch = None if by_time else death
            death.process = self.nursery.begin(plan, self.login, moment if by_time else None)
            death.known.set()
            code = self.nursery.end()
            self.proxy.watch = None
            operation.outcome = "killed" if code == -signal.SIGKILL else ""
            self.kills += code == -signal.SIGKILL
            if code not in (0, 3, -signal.SIGKILL):
                operation.violations.append(verdict.Violation("crash", f"a process ended with {code}"))
        self._without = frozenset()
        self.proxy.change(calm)
        path = next(iter(set(self.bench.receipts.glob("*.jsonl")) - known), None)
        if path is not None:
            try:
                Receipt.load(path)
            except RegnbError:
                path = None  # killed before its first line was whole, and so before anything was written
        self._check(operation, plan, path)
        if path is None:
            return
        self.applied.append((path, before, self.state))
        if Receipt.load(path).status != "done" and self.chance.random() < 0.5:
            self.resume(*self.applied[-1], quiet=self.chance.random() < 0.7)
        else:
            self._undo(*self.applied[-1])

    def _race(self) -> None:
        """Let skopeo copy a tag while a plan is applied to the same repository."""
        if (found := self._plan("raced")) is None or not found[0].changes:
            return
        plan, about = found
        whole = sorted(
            name for name, digest in self.state.tags.items() if self.state.whole(Name(name.repository, digest))
        )
        if not whole:
            return
        what = self.chance.choice(whole)
        where = self.chance.choice([step.repository for step in plan.steps if step.writes])
        theirs = Name(where, self.chance.choice(("theirs", "latest", "1.0")))
        digest = self.state.tags[what]
        host = self.other.host
        gate = Gate(self.chance.choice((0, *range(1, plan.changes))))
        first, mark = len(self.proxy.log), len(self.other.log)
        copy = [
            "skopeo",
            "copy",
            "--quiet",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ]
        before, known = self.state, set(self.bench.receipts.glob("*.jsonl"))
        with self._operation("apply raced", f"{about}, while {what} is copied to {theirs}") as operation:
            weather = calm if self.chance.random() < 0.6 else self.weather()
            self.proxy.change(weather)
            self.proxy.watch, self.other.watch = gate.ours, gate.theirs
            with subprocess.Popen(
                [*copy, f"docker://{host}/{what}", f"docker://{host}/{theirs}"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            ) as other:  # fmt: skip
                if gate.after:
                    while other.poll() is None and not gate.reached.wait(0.01):
                        pass
                else:
                    time.sleep(self.chance.random() * 0.12)
                try:
                    self.registry.apply(plan, confirm=plan.digest, progress=False)
                finally:
                    gate.open()
                    printed = other.communicate()[0]
                    self.proxy.watch = self.other.watch = None
            operation.about += f" -> skopeo {other.returncode} {printed[-200:]}"
        self.races += 1
        self.overlaps += overlaps(self.proxy.log[first:], self.other.log[mark:])
        path = next(iter(set(self.bench.receipts.glob("*.jsonl")) - known), None)
        self.state = disk.read(self.bench.registry.root)
        receipt = Receipt.load(path) if path is not None else None
        operation.outcome = operation.outcome or (receipt.status if receipt else "nothing")
        operation.violations += self._raced(plan, receipt, before, theirs, digest, skopeo=other.returncode == 0)

    def _raced(
        self, plan: Plan, receipt: Receipt | None, before: disk.State, theirs: Name, digest: str, *, skopeo: bool
    ) -> Iterator[verdict.Violation]:
        yield from verdict.kept(before, self.state, plan, receipt, foreign=[theirs])
        pushed = {name.target for name in before.behind(Name(theirs.repository, digest))}
        if receipt is not None:
            again = {
                step.target for step in plan.steps
                if step.repository == theirs.repository and step.action in ("put", "delete") and step.target in pushed
            }  # fmt: skip
            for found in verdict.told(before, self.state, receipt, foreign=[theirs]):
                if not any(target in found.message for target in again):
                    yield found
        named = {name for step in plan.steps if step.writes for name in verdict.names(step)}
        # A tag that came and went between two listings is seen by nobody.
        if not skopeo or theirs in named or theirs not in before.tags or self.state.tags.get(theirs) == digest:
            return
        text = f"{theirs} was set to {digest[:19]} by skopeo, and is {self.state.tags.get(theirs, 'nothing')[:19]}"
        rows = " ".join(map(str, receipt.to_frame()["message"])) if receipt else ""
        if theirs.target not in rows:
            yield verdict.Violation("another writer's loss is not named", f"{text}; the receipt says: {rows}")


def line(trial: Hardship, seconds: float) -> dict[str, Any]:
    """What is kept of a trial."""
    return {
        "seed": trial.seed,
        "seconds": round(seconds, 2),
        "operations": dict(Counter(f"{each.name}: {each.outcome}" for each in trial.done)),
        "longest": round(max((each.seconds for each in trial.done), default=0.0), 2),
        "requests": sum(len(each.log) for each in trial.done),
        "faults": sum(each.faults for each in trial.done),
        "kills": trial.kills,
        "races": trial.races,
        "overlaps": trial.overlaps,
        "violations": [
            {"operation": each.name, "kind": wrong.kind, "message": wrong.message} for each, wrong in trial.violations
        ],
    }


def summary(lines: list[dict[str, Any]]) -> str:
    """The sums over a log."""
    names = ("requests", "faults", "kills", "races", "overlaps")
    sums = {name: sum(each.get(name, 0) for each in lines) for name in names}
    operations = sum(sum(each["operations"].values()) for each in lines)
    kinds = Counter(wrong["kind"] for each in lines for wrong in each["violations"])
    seconds = sum(each["seconds"] for each in lines)
    head = f"{len(lines)} trials, {operations} operations in {seconds / 60:.1f} minutes, "
    head += ", ".join(f"{value} {name}" for name, value in sums.items())
    rows = [f"  {count:5} {kind}" for kind, count in kinds.most_common()]
    return "\n".join([head, f"{kinds.total()} violations", *rows])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--log", type=Path, default=ROOT / "build/soak.jsonl")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this long")
    parser.add_argument("--operations", type=float, default=float("inf"), help="end when the log has this many")
    parser.add_argument("--seed", help="play this trial again, and print its story")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    options.log.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        [json.loads(each) for each in options.log.read_text(encoding="utf-8").splitlines()]
        if options.log.exists()
        else []
    )
    ending: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: ending.append(number))
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    found, began, operations = 0, monotonic(), sum(sum(each["operations"].values()) for each in lines)
    with (
        bench() as place,
        contextlib.closing(Nursery(place.folder)) as nursery,
        Faulty(place.registry.host) as other,
    ):
        while not ending and monotonic() - began < options.seconds and operations < options.operations:
            seed = options.seed or f"{random.SystemRandom().getrandbits(48):012x}"
            options.log.with_suffix(".seed").write_text(seed, encoding="ascii")  # should it never end
            started = monotonic()
            with Hardship(seed, place, nursery, other) as trial:
                trial.play()
            if options.seed:
                print(trial, *(each.story() for each in trial.done), sep="\n\n")
                return bool(trial.violations)
            lines.append(line(trial, monotonic() - started))
            operations += len(trial.done)
            found += len(trial.violations)
            with options.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(lines[-1]) + "\n")
            for operation, wrong in trial.violations:
                print(f"{seed} {operation.name}: {wrong}"[:400], flush=True)
            if len(lines) % 100 == 0:
                print(summary(lines).partition("\n")[0], flush=True)
    print(summary(lines))
    return bool(found)


if __name__ == "__main__":
    shutil.which("skopeo") or sys.exit("skopeo is not installed (apt-get install skopeo)")
    sys.exit(main())

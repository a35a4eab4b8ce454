"""A process that applies a plan is killed with SIGKILL at each of its writes: before the registry gets it, or after."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from images import Image, ask, fill, index, surroundings
from msgspec.structs import replace
from proxied import READS, forward, proxy, state
from scripted import Reply, Request
from test_apply import Served, applied, delete, make, odd, put, serving, set_tag, untag

from regnb.change.journal import Receipt
from regnb.change.plan import Plan, Step
from regnb.change.undo import plan_undo
from regnb.crawl.reader import Reader
from regnb.errors import NotFound
from regnb.oci.manifest import ACCEPT, RawManifest
from regnb.wire import transport
from regnb.wire.cache import Cache
from regnb.wire.client import Client

ONE, TWO, THREE = (odd(f"killed {number}", layers=1) for number in range(3))
WHOLE = index([(ONE, "linux/amd64")])
OTHER = Image(THREE.data + b" ", THREE.media_type, THREE.blobs)
IMAGES = {each.digest: RawManifest(each.data, each.media_type, each.digest) for each in (ONE, TWO, THREE, WHOLE, OTHER)}

NURSERY = """
import json, os, sys
import anyio
from regnb.change.apply import Progress, apply
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.change.journal import Journal
from regnb.wire import transport
from regnb.change.plan import Plan
from regnb.crawl.reader import Reader
from regnb.wire.transport import Transport

context = transport._ssl_context(None, None, insecure=False)
transport._ssl_context = lambda *_, **__: context
send = Transport._send

async def marked(self, call, authorization):
    return await send(self, call._replace(headers={**call.headers, "X-Process": str(os.getpid())}), authorization)

Transport._send = marked

async def work(order):
    plan = Plan.load(order["plan"])
    async with Client(Transport(plan.url)) as client, Client(Transport(order["source"] or plan.url)) as other:
        with Journal.begin(plan) as journal:
            readers = [Reader(each, Cache()) for each in (client, other)]
            await apply(readers[0], plan, journal, source=readers[1], progress=Progress())

for line in sys.stdin:
    order = json.loads(line)
    if not (pid := os.fork()):
        os.environ["REGNB_RECEIPTS"] = order["receipts"]
        anyio.run(work, order)
        os._exit(0)
    print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), flush=True)
"""
"""Forks a process for each order: importing everything takes longer than all that it is killed for."""


class Killer:
    """What a proxy does: it kills the process that sends the write of a given number, and lets nothing of it pass."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.number = -1
        self.forwarded = False
        self.writes = 0
        self.dead: set[str] = set()
        self.under_way = 0
        self.quiet = threading.Condition()

    def arm(self, number: int, *, forwarded: bool) -> None:
        self.number, self.forwarded, self.writes = number, forwarded, 0

    def __call__(self, request: Request) -> Reply | None:
        process = request.headers.pop("x-process", None)
        if process is None:
            return None
        with self.quiet:
            if process in self.dead:
                return Reply(503)
            probe = request.method == "DELETE" and "/manifests/" in request.path and self.absent(request.path)
            chosen = request.method not in READS and not probe and self.writes == self.number
            self.writes += request.method not in READS and not probe
            if chosen and not self.forwarded:
                self.kill(process)
                return Reply(503)
            self.under_way += 1
        try:
            return forward(self.host, request)
        finally:
            with self.quiet:
                if chosen:
                    self.kill(process)
                self.under_way -= 1
                self.quiet.notify_all()

    def kill(self, process: str) -> None:
        os.kill(int(process), signal.SIGKILL)
        self.dead.add(process)

    def absent(self, path: str) -> bool:
        """Whether a DELETE is a probe: of something that is not there."""
        return forward(self.host, Request("HEAD", path, {"accept": ", ".join(ACCEPT)})).status == 404

    def wait(self) -> None:
        """Wait until the registry has all that the dead process sent."""
        with self.quiet:
            assert self.quiet.wait_for(lambda: not self.under_way, 20)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    folder = tmp_path_factory.mktemp("nursery")
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=surroundings(folder),
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    folder = tmp_path_factory.mktemp("targets")
    with serving("real", folder / "real") as real, serving("embedded", folder / "embedded") as embedded:
        yield {"real": real, "embedded": embedded}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """What is copied from."""
    with serving("embedded", tmp_path_factory.mktemp("origin")) as registry:
        fill(registry.url, ("a", "whole", WHOLE))
        yield registry


Filling = list[tuple[str, str, Image]]


def scenario(name: str, a: str, b: str) -> tuple[Filling, tuple[Step, ...]]:
    """Return what is there at first, and the steps, in repositories of these names."""
    if name == "retag":
        return [(a, "one", ONE), (a, "two", TWO)], (
            set_tag(a, "new", ONE),
            set_tag(a, "two", ONE, before=TWO.digest),
        )
    if name == "copy":
        return [(a, "whole", WHOLE), (a, "other", OTHER), (b, "old", THREE)], (
            replace(put(b, ONE, a), new=True),
            replace(set_tag(b, "whole", WHOLE, source=a, needs=(0,)), new=True),
            set_tag(b, "old", OTHER, source=a, before=THREE.digest),
        )
    if name == "copy from elsewhere":
        return [(b, "old", THREE)], (
            replace(put(b, ONE, "a"), new=True),
            replace(set_tag(b, "whole", WHOLE, source="a", needs=(0,)), new=True),
        )
    if name == "rename":
        return [(a, "x", ONE), (a, "stays", ONE)], (
            replace(set_tag(b, "x", ONE, source=a), new=True),
            replace(untag(a, "x", ONE), needs=(0,)),
        )
    if name == "untag":
        return [(a, tag, ONE) for tag in ("x", "y", "z")], (untag(a, "x", ONE), untag(a, "y", ONE))
    return [(a, "whole", WHOLE), (a, "whole2", WHOLE), (a, "three", THREE)], (
        delete(a, WHOLE, "whole", "whole2"),
        delete(a, ONE, needs=(0,)),
        delete(a, THREE, "three"),
    )


def planned(before: dict[str, RawManifest | None], steps: tuple[Step, ...]) -> dict[str, RawManifest | None]:
    """Return what should be there after all steps."""
    after = dict(before)
    for step in steps:
        if step.action == "tag":
            after[f"{step.repository}:{step.tag}"] = IMAGES[step.after]
        for tag in (step.tag,) if step.action == "untag" else step.tags:
            del after[f"{step.repository}:{tag}"]
    return after


def tells_the_truth(receipt: Receipt, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Whatever the receipt says was done is done; whatever it says was not begun is as it was."""
    assert receipt.status == "unfinished"
    for number, step in enumerate(receipt.plan.steps):
        status = receipt.outcome(number).status
        assert status in {"done", "unknown", "skipped"}
        for tag in (step.tag,) if step.tag else step.tags:
            name = f"{step.repository}:{tag}"
            if status == "done":
                assert now.get(name) == IMAGES.get(step.after)
            elif status == "skipped":
                assert now.get(name) == before.get(name)
        if step.before and status != "skipped":
            assert receipt.content(step.before) == IMAGES[step.before]


def take_back(url: str, receipt: Receipt) -> Plan:
    async def work(client: Client) -> Plan:
        return await plan_undo(Reader(client, Cache()), receipt, allow=["dummy"])

    return ask(url, work)


@pytest.mark.parametrize("ending", ["resume", "undo"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [("real", name) for name in ("retag", "copy", "copy from elsewhere", "rename", "untag", "delete")]
    + [("embedded", name) for name in ("untag", "delete")],
)
def test_killed_at_every_write(  # noqa: PLR0917 -- fixtures
    targets: dict[str, Served],
    origin: Served,
    nursery: subprocess.Popen[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    name: str,
    ending: str,
) -> None:
    """The receipt says what happened; to resume reaches the planned state, to undo the original one, byte for byte."""
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "later"))
    context = transport._ssl_context(None, None, insecure=False)  # 50 ms each, and each run takes ten
    monkeypatch.setattr(transport, "_ssl_context", lambda *_, **__: context)
    target = targets[kind]
    killer = Killer(target.host)
    source = origin.url if name == "copy from elsewhere" else ""
    with proxy(target.host, killer) as server:
        for number, forwarded in ((count // 2, bool(count % 2)) for count in itertools.count()):
            where = f"{name.replace(' ', '-')}/{ending}/{number}/{'after' if forwarded else 'before'}"
            repositories = (f"{where}/a", f"{where}/b")
            filling, steps = scenario(name, *repositories)
            fill(target.url, *filling)
            before = state(target.url, *repositories)
            plan = make(server.url, *steps, allow=("dummy",), source=source)
            plan.save(tmp_path / "plan.json")
            killer.arm(number, forwarded=forwarded)
            receipts = tmp_path / f"{number}-{forwarded}"
            order = {"plan": str(tmp_path / "plan.json"), "source": source, "receipts": str(receipts)}
            exit_code = told(nursery, order)
            killer.wait()
            receipt = Receipt.load(next(receipts.iterdir()))
            if exit_code == 0:  # it has no write of this number
                assert number >= len(steps)
                assert receipt.status == "done"
                assert state(target.url, *repositories) == planned(before, steps)
                return
            assert exit_code == -signal.SIGKILL
            tells_the_truth(receipt, before, state(target.url, *repositories))
            if ending == "resume":
                done = applied(plan, source=source, receipt=receipt)
                assert done.receipt.status == "done", (where, done.statuses, done.messages)
                assert state(target.url, *repositories) == planned(before, steps)
            else:
                undone = applied(take_back(server.url, receipt))
                assert undone.receipt.status == "done", (where, undone.statuses, undone.messages)
                assert state(target.url, *repositories) == before
                manifests_are_there(target.url, steps, before)


def told(nursery: subprocess.Popen[str], order: dict[str, str]) -> int:
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(json.dumps(order) + "\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


def manifests_are_there(url: str, steps: tuple[Step, ...], before: dict[str, Any]) -> None:
    """What was deleted by digest is there again, and what was put where nothing was is gone."""

    async def work(client: Client) -> None:
        for step in steps:
            if step.action == "delete":
                assert await client.manifest(step.repository, step.before) == IMAGES[step.before]
            if step.new:
                with contextlib.suppress(NotFound):
                    await client.manifest(step.repository, step.after)
                    raise AssertionError(f"{step.after} was put, and is there after the undo")

    ask(url, work)

"""Several workers give the inventory that one process gives; they end when they are told to, and may die."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from collected import Grown
from distribution import Distribution
from images import ask, config, fill, image, index, layer, surroundings
from proxied import interrupted_after, proxy
from scripted import Reply, Request

import regnb
from regnb.analysis.inventory import Inventory
from regnb.crawl.shards import Task, split
from regnb.crawl.workers import Workers
from regnb.errors import Unauthorized


class Here:
    """An executor without a process: a call is run when it is submitted, or fails as a worker does that dies."""

    def __init__(self, dies: Callable[[int], bool] = lambda _: False) -> None:
        self.tasks: list[Task] = []
        self._dies = dies

    def submit(self, function: Callable[..., Any], /, task: Task) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                if self._dies(task.number):
                    raise EOFError("the worker is gone")
                future.set_result(pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(task))))))  # noqa: S301 -- its own bytes
            except (Exception, regnb.Interrupted) as error:  # noqa: BLE001 -- as an executor does
                future.set_exception(error)

        self.tasks.append(task)
        threading.Thread(target=work).start()
        return future


def certain(problems: Any, inventory: Inventory) -> Any:
    """Without children that another repository has: whether one is found to be missing depends on who asks first."""
    elsewhere = problems["reference"].isin(inventory.manifests["digest"])
    return problems[~((problems["problem"] == "missing") & elsewhere)].reset_index(drop=True)


def same(one: Inventory, two: Inventory) -> None:
    """Every frame is equal; of a child that one of several repositories lacks, it may be known only to who asked it."""
    assert one.frames.keys() == two.frames.keys()
    for name in one.frames:
        frame, other = one.frames[name].copy(), two.frames[name].copy()
        if name == "tags":
            known, more = frame.pop("pullable"), other.pop("pullable")
            both = known.notna() & more.notna()
            assert known[both].equals(more[both])
            assert not known[~both].any()
            assert not more[~both].any()
        if name == "problems":
            frame, other = certain(frame, one), certain(other, two)
        assert frame.equals(other), name


@pytest.mark.parametrize("seed", range(3))
def test_the_inventory_is_that_of_one_process(distribution_program: None, tmp_path: Path, seed: int) -> None:
    """On a registry that grew at random, with nested and cache indexes, artifacts and damage: by 1, 3 and 17 calls."""
    with Grown(tmp_path / "grown", ("shards", seed)) as grown, regnb.connect(grown.url) as registry:
        grown.grow(30)
        whole = registry.inventory(cached=False)
        for shards in (1, 3, 17):
            same(whole, registry.inventory(cached=False, executor=Workers(Here(), shards)))
        named = [str(whole.repositories["repository"][0]), "not/there"]
        same(registry.inventory(named, cached=False), registry.inventory(named, cached=False, executor=Here()))


def test_what_is_known_of_a_shared_child_does_not_depend_on_the_order(real: Distribution) -> None:
    """Whichever repository answers late, and by workers: equal frames; a thorough reading asks in each repository."""
    both = index([(image([layer(name, 100)], about=config(name)), f"linux/{name}") for name in ("amd64", "arm64")])
    fill(real.url, *((name, "1", both) for name in ("dev", "prod", "test")))
    late: list[str] = []

    def hold(request: Request) -> None:
        if late and request.path.startswith(f"/v2/{late[0]}/"):
            time.sleep(0.2)

    with proxy(real.host, hold) as server, regnb.connect(server.url) as registry:
        found = []
        for late[:] in (["dev"], ["prod"], []):
            found.append(registry.inventory(cached=False))
        found += [registry.inventory(cached=False, executor=Workers(Here(), shards)) for shards in (1, 2, 3)]
        assert all(found[0].frames[name].equals(one.frames[name]) for one in found for name in one.frames)
        assert found[0].manifests.groupby("kind")["checked"].all().to_dict() == {"image": False, "index": True}
        ask(real.url, lambda client: client.delete_manifest("prod", both.children[0].digest))
        thorough = registry.inventory(thorough=True)
        assert thorough.manifests["checked"].sum() == 3 + 5
        assert thorough.tags.set_index("repository")["pullable"].to_dict() == {"dev": True, "prod": False, "test": True}
        assert thorough.problems[["repository", "problem"]].to_numpy().tolist() == [["prod", "missing"]]
        again, by_workers = (
            registry.inventory(thorough=True, executor=executor) for executor in (None, Workers(Here(), 2))
        )
        assert all(frame.equals(by_workers.frames[name]) for name, frame in again.frames.items())


@pytest.fixture
def filled(real: Distribution) -> Distribution:
    shared = layer("base", 5_000)
    fill(
        real.url,
        *((f"team/{name}", str(tag), image([shared, layer((name, tag), 500)])) for name in "abcd" for tag in (1, 2)),
    )
    return real


def test_processes_read(filled: Distribution) -> None:
    """ProcessPoolExecutor is handed to it as it is."""
    with regnb.connect(filled.url) as registry, ProcessPoolExecutor(2) as pool:
        same(registry.inventory(cached=False), registry.inventory(cached=False, executor=pool))


DASK = """
import sys

import regnb
from distributed import Client, LocalCluster

if __name__ == "__main__":
    size = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(**size) as cluster, Client(cluster) as client, regnb.connect(sys.argv[1]) as registry:
        registry.inventory(cached=False, executor=regnb.Workers(client, 3)).save(sys.argv[2])
"""


def test_dask_reads(filled: Distribution, tmp_path: Path) -> None:
    """Dask's client is handed to it as it is; two workers of a cluster of their own read."""
    pytest.importorskip("distributed", reason="distributed is not installed (pip install distributed)")
    script = tmp_path / "script.py"
    script.write_text(DASK, encoding="utf-8")
    run = [sys.executable, str(script), filled.url, str(tmp_path / "snapshots")]
    subprocess.run(run, check=True, env=surroundings(tmp_path), capture_output=True)
    (saved,) = (tmp_path / "snapshots").rglob("snapshot=*")
    with regnb.connect(filled.url) as registry:
        whole = registry.inventory(cached=False).save(tmp_path / "whole")
    same(Inventory.load(whole), Inventory.load(saved))


def test_what_a_worker_that_died_had_is_read_all_the_same(filled: Distribution) -> None:
    """The call is made again in this process."""
    with regnb.connect(filled.url) as registry:
        here = Here(dies=lambda number: number == 1)
        same(registry.inventory(cached=False), registry.inventory(cached=False, executor=Workers(here, 3)))


def test_a_killed_process_costs_nothing_but_time(filled: Distribution) -> None:
    """With kill -9 in the middle of a reading the inventory is the same."""
    killed: list[int] = []

    def slow(request: Request) -> Reply | None:
        if "/tags/list" in request.path and not killed:
            killed.extend(pool._processes)
            os.kill(killed[0], signal.SIGKILL)
        return None

    with ProcessPoolExecutor(2) as pool, proxy(filled.host, slow) as server, regnb.connect(server.url) as registry:
        found = registry.inventory(cached=False, executor=Workers(pool, 4))
        assert killed
        same(registry.inventory(cached=False), found)


def test_an_interrupt_ends_every_call(filled: Distribution) -> None:
    """No request is sent later than two seconds after it."""
    asked = threading.Event()

    def slow(request: Request) -> None:
        if "/manifests/" in request.path:
            asked.set()
            time.sleep(0.5)

    with ProcessPoolExecutor(2) as pool, proxy(filled.host, slow) as server, regnb.connect(server.url) as registry:
        with interrupted_after(asked), pytest.raises(regnb.Interrupted):
            registry.inventory(cached=False, executor=Workers(pool, 2))
        time.sleep(2)
        sent = len(server.requests)
        time.sleep(1)
        assert len(server.requests) == sent


def test_no_credentials_travel(filled: Distribution) -> None:
    """A call holds the address and names, nothing of what this process logged in with: its worker must log in."""
    asked: list[str] = []

    def guard(request: Request) -> Reply | None:
        asked.append(request.headers.get("authorization", ""))
        return None if asked[-1] else Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})

    here = Here()
    with (
        proxy(filled.host, guard) as server,
        regnb.connect(server.url, username="ada", password="s3cret-canary") as registry,
        pytest.raises(Unauthorized),
    ):
        registry.inventory(cached=False, executor=here)
    assert here.tasks
    for task in here.tasks:
        assert b"s3cret-canary" not in pickle.dumps(task)
        assert "s3cret-canary" not in repr(task)


def test_requests_are_those_of_one_and_three_a_call(filled: Distribution) -> None:
    """Cold: beside a shared content's request in each further call that needs it there are three more a call."""
    with proxy(filled.host, lambda _: None) as server, regnb.connect(server.url) as registry:
        began = len(server.requests)
        registry.inventory(cached=False)
        whole = len(server.requests) - began
        registry.inventory(cached=False, executor=Workers(Here(), 4))
        assert len(server.requests) - began - whole <= whole + 3 * 4


def test_repositories_are_dealt_out() -> None:
    """Each is read once, and no call has none."""
    for shards in (1, 3, 17):
        parts = split([str(number) for number in range(7)], shards)
        assert sorted(name for part in parts for name in part) == [str(number) for number in range(7)]
        assert all(parts)
    assert split([], 3) == []

"""Workers read a storage's files, and the inventory is that of one process, whatever is in the storage."""

from __future__ import annotations

import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import buckets
import fsspec
import pytest
from buckets import Asked
from collected import Grown
from proxied import interrupted_after
from test_damaged_storages import CASES, INDEX, A, C, Disk, U, one
from test_delivered import deliver
from werkzeug.serving import WSGIRequestHandler

import regnb
from regnb.analysis.inventory import Inventory
from regnb.analysis.storage import open_storage
from regnb.crawl.portions import Brought, Portion
from regnb.crawl.workers import Workers
from regnb.errors import InvalidArgument, StorageError

SHARDS = (1, 3, 17)


class AtOnce:
    """An executor whose calls have ended when they were submitted; arguments and results travel as between processes.

    Args:
        spoil: Makes of what a worker brought what arrives.
    """

    def __init__(self, spoil: Callable[[Brought], Brought] = lambda brought: brought) -> None:
        self.calls: list[Portion] = []
        self._spoil = spoil

    def submit(self, function: Callable[..., Any], call: Any, /) -> Future[Any]:
        self.calls.append(call)
        future: Future[Any] = Future()
        try:
            found = pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(call)))))  # noqa: S301 -- its own bytes
            future.set_result(self._spoil(found))
        except (Exception, regnb.Interrupted) as error:  # noqa: BLE001 -- as an executor does
            future.set_exception(error)
        return future


def same(one: Inventory, two: Inventory, *, but: frozenset[str] = frozenset()) -> None:
    """Every frame is equal, row by row and in the same order."""
    assert one.frames.keys() == two.frames.keys()
    for name in one.frames.keys() - but:
        assert one.frames[name].equals(two.frames[name]), name
    assert one.complete == two.complete


@pytest.mark.parametrize("case", CASES)
def test_damage_is_found_as_by_one_process(case: str, tmp_path: Path) -> None:
    """Of each way in which a storage can be damaged: by 1, 3 and 17 calls."""
    disk = Disk(tmp_path)
    CASES[case](disk)
    storage = open_storage(disk.root)
    whole = storage.inventory()
    for shards in SHARDS:
        executor = AtOnce()
        same(whole, storage.inventory(executor=Workers(executor, shards)))
        assert executor.calls


def test_odd_folders_are_read_as_by_one_process(tmp_path: Path) -> None:
    """Links to folders within and outside, to nothing, a loop, a pipe, names that are not text, foreign folders."""
    disk = Disk(tmp_path)
    for name in ("team/far", "bytes"):
        disk.repository(name)
        disk.push(name, one(name), "1.0")
        disk.push(name, INDEX, "multi")
    far = disk.v2 / "repositories/team/far"
    far.rename(tmp_path / "far")
    far.symlink_to(tmp_path / "far")
    (disk.v2 / "repositories/loop").symlink_to(disk.v2 / "repositories")
    (disk.app / "_manifests/tags/lost").mkdir()
    (disk.app / "_manifests/tags/lost/current").symlink_to("/not/there")
    (disk.app / "_manifests/tags/pipe/current").mkdir(parents=True)
    os.mkfifo(disk.app / "_manifests/tags/pipe/current/link")
    (disk.app / "_manifests/tags/folder/current/link").mkdir(parents=True)
    disk.write(disk.v2 / "repositories/bytes/_manifests/tags" / os.fsdecode(b"caf\xe9") / "current/link", A.digest)
    for where in ("repositories/@eaDir/app", "blobs/sha256/lost+found", "repositories/app/.snapshot/_layers"):
        disk.write(disk.v2 / where / "link", A.digest)
    disk.revision(U.digest).unlink()
    disk.revision(U.digest).symlink_to(disk.revision(A.digest))
    disk.data(C).chmod(0)
    storage = open_storage(disk.root)
    whole = storage.inventory()
    assert len(whole.problems) > 5
    for shards in SHARDS:
        same(whole, storage.inventory(executor=Workers(AtOnce(), shards)))


@pytest.mark.parametrize("seed", range(2))
def test_a_grown_storage_is_read_by_processes(distribution_program: None, tmp_path: Path, seed: int) -> None:
    """What a real registry wrote at random, with nested and cache indexes, artifacts and dangling tags."""
    with Grown(tmp_path / "grown", ("portions", seed)) as grown:
        grown.grow(25)
        storage = open_storage(grown.root)
        whole = storage.inventory()
        with ProcessPoolExecutor(2) as pool:
            for shards in SHARDS:
                same(whole, storage.inventory(executor=Workers(pool, shards)))


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    with buckets.serve() as found:
        for name in ("images", "lists"):
            fsspec.filesystem("s3").mkdir(name)
        yield found


@pytest.fixture
def uncached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Forget what was read of buckets."""

    def forget() -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{random.random()}"))  # noqa: S311 -- a name

    return forget


def spread(tmp_path: Path, where: str, images: int = 40) -> str:
    """A bucket with more files than a worker asks for at once."""
    disk = Disk(tmp_path)
    for number in range(images):
        disk.push("app", one(f"more-{number}"), f"more-{number}")
    buckets.put(disk.root, f"images/{where}")
    return f"s3://images/{where}"


@pytest.mark.parametrize("listed", [False, True])
def test_a_bucket_is_read_by_workers(
    asked: Asked,
    tmp_path: Path,
    uncached: Callable[[], None],
    listed: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Every frame, and as many requests; by a delivered listing, too; and what was read is not asked for again."""
    name = f"workers-{listed}"
    spread(tmp_path, name, 8)
    listing = deliver("Parquet", name, name, drop=("e_tag",)) if listed else None

    def read(**options: Any) -> tuple[Inventory, list[str]]:
        asked.requests.clear()
        found = open_storage(f"s3://images/{name}", listing=listing).inventory(**options)
        return found, [one for one in asked.requests if one.startswith("GET")]

    uncached()
    whole, sent = read()
    warm, few = read()
    assert len(few) < len(sent)
    for shards in SHARDS:
        uncached()
        found, requests = read(executor=Workers(AtOnce(), shards))
        same(whole, found)
        assert sorted(requests) == sorted(sent)
    again, requests = read(executor=AtOnce())
    same(warm, again)
    assert sorted(requests) == sorted(few)


def test_what_a_worker_brings_wrong_is_read_here(tmp_path: Path) -> None:
    """Nothing, too little, and manifests with other bytes: only what is whole counts."""
    storage = open_storage(Disk(tmp_path).root)
    whole = storage.inventory()
    spoils: list[Callable[[Brought], Brought]] = [
        lambda brought: brought._replace(data=[None] * len(brought.data)),
        lambda brought: brought._replace(data=brought.data[1:]),
        lambda brought: brought._replace(
            data=[data + b" " if data and data.startswith(b"{") else data for data in brought.data]
        ),
    ]
    for spoil in spoils:
        same(whole, storage.inventory(executor=AtOnce(spoil)))


def test_progress_is_that_of_all(tmp_path: Path) -> None:
    """One bar counts the files of every call, and ends with all of them."""
    told: list[tuple[int, int, str]] = []
    storage = open_storage(Disk(tmp_path).root)
    storage.inventory(executor=Workers(AtOnce(), 3), progress=lambda *state: told.append(state))
    total, done, words = told[-1]
    assert total == done > 10
    assert words == f"{total} by workers"


def test_no_credentials_travel(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options and logins are refused with what to do; a call holds a URL and paths, nothing of the environment."""
    buckets.put(Disk(tmp_path).root, "images/secret")
    with pytest.raises(InvalidArgument, match="opened with the options key, secret") as refused:
        open_storage("s3://images/secret", key="a-key", secret="hush-canary").inventory(executor=AtOnce())
    assert "hush-canary" not in str(refused.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-canary")
    executor = AtOnce()
    open_storage("s3://images/secret").inventory(executor=executor)
    assert executor.calls
    assert not any(b"canary" in pickle.dumps(one) for one in executor.calls)


def test_a_storage_that_a_worker_does_not_have_is_named(tmp_path: Path) -> None:
    """A folder that is not mounted there ends the reading with what to do."""
    disk = Disk(tmp_path)
    storage = open_storage(disk.root)

    class Elsewhere(AtOnce):
        def submit(self, function: Callable[..., Any], call: Portion, /) -> Future[Any]:
            moved = Portion("/not/there", "/not/there/docker/registry/v2", call.files, call.folder, call.number)
            return super().submit(function, moved)

    with pytest.raises(StorageError, match="a worker does not find /not/there"):
        storage.inventory(executor=Elsewhere())


def test_a_killed_process_costs_nothing_but_time(
    asked: Asked, tmp_path: Path, uncached: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kill -9 in the middle of a reading the frames are the same, but for the requests that were sent twice."""
    url = spread(tmp_path, "killed")
    uncached()
    whole = open_storage(url).inventory()
    uncached()
    victims: list[int] = []

    def note(self: Any, *_: Any, **__: Any) -> None:
        if victims and "/blobs/" in self.path:
            os.kill(victims.pop(), signal.SIGKILL)

    monkeypatch.setattr(WSGIRequestHandler, "log_request", note)
    with ProcessPoolExecutor(2) as pool:
        pool.submit(int).result()
        victims.extend([*pool._processes][:1])
        found = open_storage(url).inventory(executor=Workers(pool, 4))
    assert not victims
    same(whole, found, but=frozenset({"disk"}))


def test_an_interrupt_ends_every_call(
    asked: Asked, tmp_path: Path, uncached: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request is sent later than two seconds after it."""
    url = spread(tmp_path, "slow")
    uncached()
    begun = threading.Event()
    sent: list[float] = []

    def note(self: Any, *_: Any, **__: Any) -> None:
        if "/blobs/" in self.path:
            begun.set()
            time.sleep(0.1)
        sent.append(time.monotonic())

    monkeypatch.setattr(WSGIRequestHandler, "log_request", note)
    with ProcessPoolExecutor(2) as pool:
        storage = open_storage(url)
        with interrupted_after(begun), pytest.raises(regnb.Interrupted):
            storage.inventory(executor=Workers(pool, 2))
        stopped = time.monotonic()
        time.sleep(3)
    assert max(sent) < stopped + 2

"""Random operations through a proxy with faults, checked on the registry's disk by code that shares nothing with regnb.

Each run draws another seed and prints it. ``REGNB_TESTS_SEED=… pytest tests/test_faults.py`` plays the same again, and
``make soak`` plays on. What the faults and the checks are worth is tested first: each fault reaches the wire, and each
check finds what it is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import random
import shutil
from collections.abc import Iterator

import disk
import pytest
import trial
import verdict
from clock import Clock
from dialects import Dialect
from disk import Name
from faulty import INSTEAD, LONG, LONGEST, At, Drizzle, Fault, Faulty, Request, applies, calm
from guard import PASSWORD, SECRET, USER, Guard
from images import descriptor, image, layer
from msgspec import structs
from trial import Bench, Stock, Trial

import regnb
from regnb import Plan
from regnb.change.plan import Step

ROUNDS = 60
CHAIN = 10
"""Rounds on one registry process."""
OPERATIONS = 3
SEED = os.environ.get("REGNB_TESTS_SEED") or f"{random.SystemRandom().getrandbits(32):08x}"
ONE, TWO = (image([layer(name, 600)], annotations={"n": name}) for name in ("one", "two"))


@pytest.fixture(scope="module")
def bench(distribution_program: None) -> Iterator[Bench]:
    with trial.bench() as found:
        yield found


@pytest.fixture
def stocked(bench: Bench) -> Iterator[Bench]:
    """A registry with two images, and a proxy without faults."""
    bench.empty()
    stock = Stock(bench.registry.root)
    stock.put("app", ONE, "one", "alias")
    stock.put("app", TWO, "two")
    bench.proxy.page = 0
    bench.proxy.change(calm)
    yield bench
    bench.proxy.change(calm)
    bench.proxy.fronts = ()


def ask(proxy: Faulty, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    with contextlib.closing(http.client.HTTPConnection(proxy.host, timeout=60)) as connection:
        connection.request(method, path, headers={"Accept": ONE.media_type})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


READ = Request("GET", "/v2/app/manifests/one")
LIST = Request("GET", "/v2/app/tags/list")
BLOB = Request("GET", f"/v2/app/blobs/{descriptor('', ONE.blobs[1])['digest']}")
WRITE = Request("DELETE", f"/v2/app/manifests/{TWO.digest}")


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_reaches_the_wire(stocked: Bench, fault: Fault) -> None:
    """What the client gets is not what it gets without the fault; the registry gets writes that are only told wrong."""
    request = next(each for each in (READ, LIST, BLOB, WRITE) if applies(fault, each))
    proxy = stocked.proxy
    plain = ask(proxy, request.method, request.path) if not request.writes else None
    proxy.change(At(fault, lambda _: True))
    told: object = None
    with contextlib.suppress(OSError, http.client.HTTPException):
        told = ask(proxy, request.method, request.path)
    assert (told == plain) == (fault is Fault.SLOW)
    assert proxy.log[-1].fault is fault
    assert proxy.log[-1].forwarded == (fault not in INSTEAD and fault is not Fault.REDIRECT)
    assert (proxy.log[-1].held >= LONGEST) == (fault in LONG)
    assert kinds(verdict.ended(proxy.log[-1:])) == ({"waited without end"} if fault in LONG else set())
    if request.writes:
        proxy.wait()
        there = Name("app", TWO.digest) in disk.read(stocked.registry.root).revisions
        assert there == (fault in INSTEAD)


def test_the_same_seed_draws_the_same_faults() -> None:
    """A fault depends on the request and how often it was sent, not on what else was under way."""
    requests = [Request("GET", f"/v2/app/manifests/{number}") for number in range(200)]
    draws = []
    for order in (requests, list(reversed(requests))):
        proxy = Faulty("127.0.0.1:1", weather=Drizzle("seed", 0.3, tuple(Fault)))
        draws.append({each.path: proxy.drawn(each) for each in order})
    assert draws[0] == draws[1]
    assert 30 < sum(fault is not None for fault in draws[0].values()) < 90


def test_pages_of_lists_lead_to_each_other(stocked: Bench) -> None:
    """The proxy cuts a list into pages, as registries do that this one is not."""
    stocked.proxy.page = 1
    with regnb.connect(stocked.proxy.url, cache=False) as registry:
        assert registry.tags("app")["tag"].to_list() == ["alias", "one", "two"]
    assert sum("last=" in seen.path for seen in stocked.proxy.log[-3:]) == 2


def test_a_door_lets_in_who_has_the_right(stocked: Bench) -> None:
    """Without password or token the answer is 401; with them it is read and written, and no token reaches a receipt."""
    proxy = stocked.proxy
    for seed in range(12):
        guard = Guard(random.Random(seed))  # noqa: S311 -- the same each time
        proxy.fronts, proxy.challenge = (guard,), guard.challenge
        assert ask(proxy, READ.method, READ.path)[0] == 401
        with regnb.connect(proxy.url, username=USER, password=PASSWORD, cache=False) as registry:
            assert registry.tags("app")["tag"].to_list() == ["alias", "one", "two"]
            plan = registry.plan_retag("app:one", f"tag-{seed}")
            receipt = registry.apply(plan, confirm=plan.digest, progress=False)
            assert receipt.status == "done"
            assert not kinds(verdict.silent(SECRET, [receipt.path.read_text(encoding="utf-8")]))
            undo = registry.plan_undo(receipt, allow=["dummy"])
            assert registry.apply(undo, confirm=undo.digest, progress=False).status == "done"
    assert kinds(verdict.silent(SECRET, [f"it asked with {SECRET}token-1"])) == {"secret told"}


@pytest.mark.parametrize("keeps", [False, True])
def test_a_dialect_deletes_in_its_own_way(stocked: Bench, keeps: bool) -> None:  # noqa: FBT001 -- pytest passes it
    """A tag goes alone; where tags outlive their manifest, its digest is not found any more and its tags are."""
    root, proxy = stocked.registry.root, stocked.proxy
    proxy.fronts = (Dialect(root, keeps=keeps),)
    assert ask(proxy, "DELETE", "/v2/app/manifests/absent")[0] == 404
    assert ask(proxy, "DELETE", "/v2/app/manifests/alias")[0] == 202
    assert disk.read(root).tags == {Name("app", "one"): ONE.digest, Name("app", "two"): TWO.digest}
    assert ask(proxy, "DELETE", f"/v2/app/manifests/{ONE.digest}")[0] == 202
    state = disk.read(root)
    assert state.revisions == {Name("app", TWO.digest)}
    assert (Name("app", "one") in state.tags) == keeps
    assert ask(proxy, "GET", f"/v2/app/manifests/{ONE.digest}")[0] == 404
    status, headers, body = ask(proxy, "GET", "/v2/app/manifests/one")
    assert (status, body) == (200, ONE.data) if keeps else status == 404
    if keeps:
        assert headers["docker-content-digest"] == ONE.digest
        assert ask(proxy, "DELETE", "/v2/app/manifests/one")[0] == 202
    assert disk.read(root).tags == {Name("app", "two"): TWO.digest}


def test_the_disk_says_what_is_whole(stocked: Bench) -> None:
    """An image is whole with its manifest, config and layers; without any of them it is not."""
    root = stocked.registry.root
    state = disk.read(root)
    one = Name("app", ONE.digest)
    assert state.tags == {
        Name("app", "one"): one.target,
        Name("app", "alias"): one.target,
        Name("app", "two"): TWO.digest,
    }
    assert state.whole(one)
    assert state.size(one) == ONE.size
    for part in (ONE.data, *ONE.blobs):
        path = stocked.registry.blob(descriptor("", part)["digest"])
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert not disk.read(root).whole(one)
        path.unlink()
        assert not disk.read(root).whole(one)
        path.write_bytes(kept)
    assert disk.read(root).whole(one)
    shutil.rmtree(root / f"docker/registry/v2/repositories/app/_layers/sha256/{BLOB.path[-64:]}")
    assert not disk.read(root).whole(one)


def kinds(found: Iterator[verdict.Violation]) -> set[str]:
    return {each.kind for each in found}


def test_the_checks_find_what_they_are_for(stocked: Bench) -> None:
    """A deletion that is true has no violation; the same one on a disk that differs has each that it should have."""
    root = stocked.registry.root
    with regnb.connect(stocked.proxy.url, cache=False) as registry:
        before = disk.read(root)
        inventory = registry.inventory(progress=False)
        assert not kinds(verdict.audited(before, inventory))
        plan = registry.plan_delete("app:two", allow=["dummy"])
        assert not kinds(verdict.planned(before, plan))
        mark = len(stocked.proxy.log)
        receipt = registry.apply(plan, confirm=plan.digest, progress=False)
        log = stocked.proxy.log[mark:]
    after = disk.read(root)
    assert not kinds(verdict.kept(before, after, plan, receipt))
    assert not kinds(verdict.told(before, after, receipt))
    assert not kinds(verdict.once(log, ()))

    assert kinds(verdict.audited(after, inventory)) == {"audit untrue"}
    assert kinds(verdict.planned(after, plan)) == {"plan untrue"}
    assert kinds(verdict.told(before, before, receipt)) == {"done is not so"}
    assert kinds(verdict.undone(before, after, plan)) == {"undo is not so"}
    assert not kinds(verdict.undone(before, before, plan))
    assert kinds(verdict.once(log * 2, ())) == {"written again"}
    assert kinds(verdict.once((), log)) == {"sent elsewhere"}

    copy = Plan(
        operation="request",
        url=stocked.proxy.url,
        steps=(Step(action="tag", repository="app", tag="two", after=TWO.digest, new=True),),
    )
    untagged = disk.State(after.tags, before.revisions, before.links, before.blobs, before.repositories)
    assert not kinds(verdict.undone(after, after, copy))
    assert kinds(verdict.undone(after, untagged, copy)) == {"undo is not so"}

    tags = root / "docker/registry/v2/repositories/app/_manifests/tags"
    (tags / "alias/current/link").write_text(TWO.digest, encoding="ascii")
    assert kinds(verdict.kept(before, disk.read(root), plan, receipt)) == {"tag moved"}
    shutil.rmtree(tags / "alias")
    assert kinds(verdict.kept(before, disk.read(root), plan, receipt)) == {"tag lost"}
    assert kinds(verdict.kept(disk.read(root), before, plan, receipt)) == {"tag appeared"}
    stocked.registry.blob(descriptor("", ONE.blobs[1])["digest"]).unlink()
    assert kinds(verdict.kept(before, disk.read(root), plan, receipt)) == {"tag lost", "image unreadable"}


def test_a_tag_that_an_earlier_row_sets_back_does_not_go_with_its_placeholder(stocked: Bench) -> None:
    """A deletion need not name the tags that a row before it moves away, and must name them without that row."""
    state = disk.read(stocked.registry.root)
    rows = [
        Step(action="tag", repository="app", tag="alias", before=ONE.digest, after=TWO.digest),
        Step(action="delete", repository="app", before=ONE.digest, tags=("one",), needs=(0,)),
    ]
    for needs, wrong in (((0,), set()), ((), {"plan untrue"})):
        steps = (rows[0], structs.replace(rows[1], needs=needs))
        assert kinds(verdict.planned(state, Plan(operation="request", url=stocked.proxy.url, steps=steps))) == wrong


def test_a_policy_that_leaves_out_what_it_could_not_read_is_as_good() -> None:
    """Where it would be refused for one repository, a plan that removes nothing there and says so is right."""
    row = Step(action="untag", repository="app", tag="one", before=ONE.digest)
    plan = Plan(operation="retention", url="http://h", steps=(row,), notes=("Nothing goes from base: x may need it.",))
    assert trial.left_out(plan, "emptying:base")
    assert not trial.left_out(plan, "emptying:app")
    assert not trial.left_out(structs.replace(plan, notes=()), "emptying:base")


def test_time_never_goes_back() -> None:
    """A loop that has read a test's clock does not sleep for what that clock had moved on once the test is over."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        before = loop.time()
        with Clock() as clock:
            clock.forward(1000)
            moved = loop.time()
        assert moved >= before + 1000
        assert loop.time() >= moved


@pytest.mark.parametrize("chain", range(ROUNDS // CHAIN))
def test_nothing_in_between_can_hurt(chain: int, bench: Bench) -> None:
    """No tag lost that a plan did not name, no image unreadable, no frame or receipt untrue, each write sent once."""
    print(f"REGNB_TESTS_SEED={SEED}")  # noqa: T201 -- shown where it fails
    wrong = []
    for number in range(chain * CHAIN, (chain + 1) * CHAIN):
        with Trial(f"{SEED}-{number}", bench) as played:
            played.play(OPERATIONS)
        wrong += [f"{played}\n{each.story()}" for each in played.done if each.violations]
    assert not wrong, f"REGNB_TESTS_SEED={SEED}\n" + "\n\n".join(wrong)

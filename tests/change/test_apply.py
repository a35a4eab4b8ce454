"""Plans are applied to Debian's docker-registry and to the embedded one; a proxy between adds the faults."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import distribution
import pytest
import scripted
from conftest import need
from images import Image, ask, fill, image, index, layer
from msgspec.structs import replace
from proxied import READS, forward, litter, proxy, state
from scripted import Reply, Request
from test_authentication import SECRET, Issuer

import regnb
from regnb.change.apply import Progress, apply
from regnb.change.journal import Journal, Outcome, Receipt, hold, receipts
from regnb.change.plan import Blob, Plan, Step
from regnb.crawl.reader import Reader
from regnb.errors import Busy, ConnectionFailed, Denied, NotFound, Refused, StorageError, Unauthorized, Unsupported
from regnb.local import embedded
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials
from regnb.wire.exchange import Exchange
from regnb.wire.transport import Transport

ME = Credentials("me", SECRET)
ABSENT = Digest.of(b"absent")
JSON = {"Content-Type": "application/json"}
NOT_THERE = Reply(404, JSON, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
"""A registry's own word that something is not there."""


@pytest.fixture(autouse=True)
def own_receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


@dataclass
class Served:
    """A registry and its folder; whether it deletes by tag."""

    url: str
    root: Path
    by_tag: bool

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    def repository(self, name: str) -> Path:
        return self.root / "docker/registry/v2/repositories" / name

    def blob(self, digest: str) -> Path:
        return self.root / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"


@contextlib.contextmanager
def serving(kind: str, folder: Path, *, delete: bool = True, read_only: bool = False) -> Iterator[Served]:
    if kind == "embedded":
        with embedded.running(folder / "storage", delete=delete, read_only=read_only) as server:
            yield Served(server.url, folder / "storage", by_tag=True)
        return
    need("registry", distribution.PROGRAM, "docker-registry is not installed (apt-get install docker-registry)")
    config = {"storage": {"maintenance": {"readonly": {"enabled": read_only}}}}
    with distribution.Distribution(folder, config=config, delete=delete) as registry:
        yield Served(registry.url, registry.root, by_tag=False)


@pytest.fixture(params=["real", "embedded"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(kind: str, tmp_path: Path) -> Iterator[Served]:
    """Each registry in turn, empty."""
    with serving(kind, tmp_path / "first") as registry:
        yield registry


@pytest.fixture
def actual(tmp_path: Path) -> Iterator[Served]:
    """Debian's docker-registry, empty."""
    with serving("real", tmp_path / "actual") as registry:
        yield registry


@dataclass
class Applied:
    """What an application left: the receipt, and what was sent to the registry that is written to."""

    receipt: Receipt
    exchanges: list[Exchange]
    progress: Progress

    @property
    def statuses(self) -> list[str]:
        return [self.receipt.outcome(number).status for number in range(len(self.receipt.plan.steps))]

    @property
    def messages(self) -> str:
        return "\n".join(outcome.message for outcome in self.receipt.outcomes.values())

    @property
    def writes(self) -> list[str]:
        """Without the probes, which name nothing that is there."""
        sent = [f"{each.method} {each.url.partition('/v2/')[2]}" for each in self.exchanges if each.method not in READS]
        absent = Digest.of(f"{self.receipt.plan.nonce}/absent".encode())
        return [each for each in sent if absent not in each and "/manifests/regnb-" not in each]


Written = list[Exchange]


def applied(
    plan: Plan,
    *,
    source: str = "",
    receipt: Receipt | None = None,
    credentials: Credentials | None = None,
    sent: Written | None = None,
    cache: Cache | None = None,
) -> Applied:
    """Apply a plan, or go on with a receipt; ``sent`` gets the exchanges even where that raises an error."""
    progress = Progress()
    exchanges: Written = [] if sent is None else sent

    async def run() -> Path:
        store = cache or Cache()
        async with (
            Client(Transport(plan.url, credentials=credentials)) as client,
            Client(Transport(source or plan.url, credentials=credentials)) as other,
        ):
            reader = Reader(client, store)
            with Journal.reopen(receipt) if receipt else Journal.begin(plan) as journal:
                try:
                    await apply(
                        reader, plan, journal, source=Reader(other, store) if source else reader, progress=progress
                    )
                finally:
                    exchanges.extend(client.transport.exchanges)
            return journal.path

    return Applied(Receipt.load(anyio.run(run)), exchanges, progress)


def make(url: str, *steps: Step, operation: str = "request", allow: tuple[str, ...] = (), source: str = "") -> Plan:
    return Plan(operation=operation, url=url, steps=steps, allow=allow, source=source)


def set_tag(
    repository: str, tag: str, what: Image, *, before: str = "", source: str = "", needs: tuple[int, ...] = ()
) -> Step:
    """A retag, or with ``source`` the last step of a copy."""
    return Step(
        action="tag", repository=repository, tag=tag, before=before, after=what.digest, source=source or repository,
        media_type=what.media_type, blobs=blobs(what) if source else (), needs=needs,
    )  # fmt: skip


def put(repository: str, what: Image, source: str, needs: tuple[int, ...] = ()) -> Step:
    return Step(
        action="put", repository=repository, after=what.digest, source=source, media_type=what.media_type,
        blobs=blobs(what), needs=needs,
    )  # fmt: skip


def untag(repository: str, tag: str, what: Image) -> Step:
    return Step(action="untag", repository=repository, tag=tag, before=what.digest, media_type=what.media_type)


def delete(repository: str, what: Image, *tags: str, needs: tuple[int, ...] = ()) -> Step:
    return Step(action="delete", repository=repository, before=what.digest, tags=tags, needs=needs)


def blobs(what: Image) -> tuple[Blob, ...]:
    return tuple(Blob(Digest.of(data), len(data)) for data in what.blobs)


def odd(seed: object, layers: int = 2, size: int = 300) -> Image:
    """An image whose bytes no serialisation would give again."""
    made = image([layer((seed, number), size) for number in range(layers)])
    return Image(made.data.replace(b", ", b" ,\n ") + b" \n", made.media_type, made.blobs)


ONE, TWO, THREE = odd(1), odd(2), odd(3)
LARGE = odd("large", layers=1, size=70_000)


def tagged(url: str, *repositories: str) -> dict[str, str]:
    return {name: raw.digest if raw else "" for name, raw in state(url, *repositories).items()}


# Retagging


def test_a_tag_is_set_byte_for_byte(served: Served) -> None:
    """A new tag and one that moves get the manifest's very bytes; the moved one's old bytes are in the receipt."""
    fill(served.url, ("a", "one", ONE), ("a", "two", TWO))
    done = applied(make(served.url, set_tag("a", "new", ONE), set_tag("a", "two", ONE, before=TWO.digest)))
    assert done.statuses == ["done", "done"]
    assert done.receipt.status == "done"
    raw = state(served.url, "a")["a:new"]
    assert raw is not None
    assert raw.data == ONE.data
    assert tagged(served.url, "a") == dict.fromkeys(["a:new", "a:one", "a:two"], ONE.digest)
    kept = done.receipt.content(TWO.digest)
    assert kept is not None
    assert (kept.data, kept.media_type) == (TWO.data, TWO.media_type)
    assert [(each.before, each.after) for each in done.receipt.outcomes.values()] == [
        ("", ONE.digest), (TWO.digest, ONE.digest),
    ]  # fmt: skip
    assert done.progress.state() == (2, 2, "")


def test_retagging_costs_three_requests_a_tag(served: Served) -> None:
    """Beside one GET of the manifest, each tag costs the look whether it is free, the write, and the read back."""
    fill(served.url, ("a", "one", ONE))
    count = 100
    done = applied(make(served.url, *(set_tag("a", f"t{number}", ONE) for number in range(count))))
    assert done.receipt.status == "done"
    assert len(done.exchanges) == 3 * count + 1
    assert len(tagged(served.url, "a")) == count + 1


def test_writes_to_a_repository_are_one_at_a_time(served: Served) -> None:
    """Never are two manifests on their way to one repository, while several repositories are served at once."""
    own = [odd(f"r{number}") for number in range(4)]
    fill(served.url, *((f"r{number}", "one", each) for number, each in enumerate(own)))
    under_way: list[str] = []
    most: dict[str, int] = {}
    together: set[int] = set()
    lock = threading.Lock()
    meeting = threading.Barrier(4)

    def answer(request: Request) -> Reply | None:
        if request.method != "PUT":
            return None
        name = request.path.split("/")[2]
        with lock:
            under_way.append(name)
            most[name] = max(most.get(name, 0), under_way.count(name))
            together.add(len(set(under_way)))
        meeting.wait(60)  # which no one passes unless four are there
        with lock:
            under_way.remove(name)
        return None

    with proxy(served.host, answer) as server:
        steps = [set_tag(f"r{name}", f"t{number}", own[name]) for number in range(5) for name in range(4)]
        done = applied(make(server.url, *steps))
    assert done.receipt.status == "done"
    assert set(most.values()) == {1}
    assert max(together) == 4


# Untagging


def test_a_tag_goes_alone(served: Served) -> None:
    """One tag is removed, by name or by a dummy manifest; its siblings and the manifest stay as they are."""
    fill(served.url, *(("a", tag, ONE) for tag in ("x", "y", "z")), ("a", "other", TWO))
    before = state(served.url, "a")
    done = applied(make(served.url, untag("a", "y", ONE), allow=("dummy",)))
    assert done.statuses == ["done"], done.messages
    del before["a:y"]
    assert state(served.url, "a") == before
    assert not any(ONE.digest in each for each in done.writes)
    assert len(done.writes) == (1 if served.by_tag else 2)
    kept = done.receipt.content(ONE.digest)
    assert kept is not None
    assert kept.data == ONE.data


def test_a_tag_without_a_manifest_is_removed(served: Served) -> None:
    """A tag whose manifest is gone goes by its name, or by way of a dummy; one that is not there any more is stale."""
    fill(served.url, ("app", "1", ONE), ("app", "2", TWO), ("app", "3", TWO))
    served.blob(TWO.digest).unlink()
    step = Step(action="untag", repository="app", tag="2")
    plan = make(served.url, step, allow=("dummy",))
    done = applied(plan)
    assert (done.statuses, tagged(served.url, "app")) == (["done"], {"app:1": ONE.digest, "app:3": ""})
    assert applied(plan).statuses == ["stale"]
    with regnb.connect(served.url) as registry:
        assert not registry.plan_undo(done.receipt).changes


def test_a_dummy_needs_consent(actual: Served) -> None:
    """Where tags cannot be deleted by name, nothing is written without the user's word, not even the rows before."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", ONE))
    before, sent = state(actual.url, "a"), list[Exchange]()
    with pytest.raises(Refused, match="--allow dummy"):
        applied(make(actual.url, set_tag("a", "z", ONE), untag("a", "y", ONE)), sent=sent)
    assert {each.method for each in sent} == {"DELETE"}
    assert {each.status for each in sent} == {400, 404}
    assert state(actual.url, "a") == before
    assert receipts().empty


def test_the_tag_is_put_back_when_the_dummy_stays(actual: Served) -> None:
    """Where the dummy cannot be deleted after all, the tag gets its manifest again, and the row is failed."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", ONE))
    before = state(actual.url, "a")
    plan = make(actual.url, untag("a", "y", ONE), allow=("dummy",))
    absent = Digest.of(f"{plan.nonce}/absent".encode())

    def answer(request: Request) -> Reply | None:
        deletes = request.method == "DELETE" and "sha256:" in request.path and absent not in request.path
        return Reply(500) if deletes else None

    with proxy(actual.host, answer) as server:
        done = applied(replace(plan, url=server.url))
    assert done.statuses == ["failed"]
    assert "it points again at what it did" in done.messages
    assert state(actual.url, "a") == before


def test_a_tag_that_stays_a_dummy_is_said_loudly(actual: Served) -> None:
    """Where not even the old manifest can be put back, the row says so; the receipt is resumed later, and done."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", ONE))
    broken = True

    def answer(request: Request) -> Reply | None:
        dummy = request.method == "PUT" and b"regnb.dummy" in request.body
        probe = request.method == "DELETE" and f"{absent}" in request.path
        by_tag = request.method == "DELETE" and "sha256" not in request.path
        return None if not broken or request.method in READS or dummy or probe or by_tag else Reply(503)

    with proxy(actual.host, answer) as server:
        plan = make(server.url, untag("a", "y", ONE), allow=("dummy",))
        absent = Digest.of(f"{plan.nonce}/absent".encode())
        done = applied(plan)
        assert done.statuses == ["failed"]
        assert "POINTS AT A DUMMY" in done.messages
        assert tagged(actual.url, "a")["a:y"] == Digest.of(plan.dummy(0))
        broken = False
        again = applied(plan, receipt=done.receipt)
    assert again.receipt.status == "done"
    assert tagged(actual.url, "a") == {"a:x": ONE.digest}


def test_a_sibling_that_goes_along_is_said_loudly(actual: Served) -> None:
    """A registry that deletes a manifest when it is asked for a tag is found out, whatever it answered."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", ONE), ("a", "z", TWO))

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and request.path.endswith("/y"):
            remove(actual.url, "a", ONE.digest)
            return Reply(202)
        return NOT_THERE if request.method == "DELETE" and "regnb-" in request.path else None

    with proxy(actual.host, answer) as server:
        done = applied(make(server.url, untag("a", "y", ONE)))
    assert done.statuses == ["failed"]
    assert "ALSO GONE, and not planned: x" in done.messages


def remove(url: str, repository: str, digest: str) -> None:
    async def work(client: Client) -> None:
        await client.delete_manifest(repository, digest)

    ask(url, work)


# Deleting


def test_a_manifest_goes_with_its_tags(served: Served) -> None:
    """Every tag on the digest goes with it, nothing else does, and the bytes are in the receipt."""
    fill(served.url, ("a", "x", ONE), ("a", "y", ONE), ("a", "z", TWO), ("b", "x", ONE))
    done = applied(make(served.url, delete("a", ONE, "x", "y")))
    assert done.statuses == ["done"], done.messages
    assert done.messages == ""
    assert tagged(served.url, "a", "b") == {"a:z": TWO.digest, "b:x": ONE.digest}
    tags = ["DELETE a/manifests/x", "DELETE a/manifests/y"] if served.by_tag else []
    assert done.writes == [*tags, f"DELETE a/manifests/{ONE.digest}"]
    assert done.receipt.content(ONE.digest) is not None


def test_an_index_goes_before_its_children(served: Served) -> None:
    """A child whose index could not be deleted is skipped, with the reason; else both go."""
    whole = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")])
    fill(served.url, ("a", "multi", whole))
    steps = (delete("a", whole, "multi"), delete("a", ONE, needs=(0,)), delete("a", TWO, needs=(0, 1)))
    fill(served.url, ("a", "other", whole))
    stuck = applied(make(served.url, *steps))
    assert stuck.statuses == ["stale", "skipped", "skipped"]
    assert "which was not done" in stuck.messages
    assert not stuck.writes
    remove(served.url, "a", whole.digest)
    fill(served.url, ("a", "multi", whole))
    assert applied(make(served.url, *steps)).receipt.status == "done"
    assert tagged(served.url, "a") == {}


def test_an_error_is_not_believed(served: Served) -> None:
    """A DELETE or PUT that answers 500 after it did its work is done, and the answer is told."""
    fill(served.url, ("a", "x", ONE), ("a", "y", TWO), ("a", "z", TWO))
    plan = make(served.url)
    absent = Digest.of(f"{plan.nonce}/absent".encode())

    def answer(request: Request) -> Reply | None:
        if request.method in READS or absent in request.path or "regnb-" in request.path:
            return None
        forwarded = forward(served.host, request)
        return Reply(500, body=b"lost its head") if forwarded.status < 400 else forwarded

    with proxy(served.host, answer) as server:
        steps = (set_tag("a", "new", TWO), untag("a", "z", TWO), delete("a", ONE, "x"))
        done = applied(replace(plan, url=server.url, steps=steps, allow=("dummy",)))
    if served.by_tag:
        assert done.statuses == ["done"] * 3
        assert tagged(served.url, "a") == {"a:new": TWO.digest, "a:y": TWO.digest}
    else:  # the dummy was refused, as far as anyone can tell, and so the tag was set back
        assert done.statuses == ["done", "failed", "done"]
        assert tagged(served.url, "a") == {"a:new": TWO.digest, "a:y": TWO.digest, "a:z": TWO.digest}
    assert "it is done, although the registry answered otherwise" in done.messages
    assert "lost its head" in done.messages


def test_a_success_is_not_believed(served: Served) -> None:
    """What a registry says that it deleted or put, and did not, is failed."""
    fill(served.url, ("a", "x", ONE), ("a", "y", TWO))

    def answer(request: Request) -> Reply | None:
        if request.method in READS or "regnb-" in request.path:
            return None
        return Reply(201 if request.method == "PUT" else 202)

    with proxy(served.host, answer) as server:
        done = applied(make(server.url, set_tag("a", "new", TWO), delete("a", ONE, "x")))
    assert done.statuses == ["failed", "failed"]
    assert "something else is there" in done.messages
    assert "it is still there" in done.messages
    assert [each.after for each in done.receipt.outcomes.values()] == ["", ONE.digest]


def test_what_else_went_is_said_loudly(actual: Served) -> None:
    """A tag that vanished and was not planned, and one that dangles afterwards, stand in the row's message."""
    fill(actual.url, ("a", "x", ONE), ("a", "bystander", TWO))

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and ONE.digest in request.path:
            shutil.rmtree(actual.repository("a") / "_manifests/tags/bystander")
            (actual.repository("a") / f"_manifests/revisions/sha256/{ONE.digest.hex}/link").unlink()
            return Reply(202)
        return None

    with proxy(actual.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x")))
    assert done.statuses == ["failed"]
    assert "ALSO GONE, and not planned: bystander" in done.messages
    assert "still lists x" in done.messages


def test_a_damaged_tag_forbids_deletion_by_digest(actual: Served) -> None:
    """Where one tag's link is corrupt, nothing in that repository is deleted by digest; other repositories go on."""
    fill(actual.url, *((name, tag, ONE) for name in ("a", "b") for tag in ("x", "y")), ("a", "bad", TWO))
    (actual.repository("a") / "_manifests/tags/bad/current/link").write_bytes(b"")
    plan = make(actual.url, delete("a", ONE, "x", "y"), untag("a", "x", ONE), untag("b", "x", ONE), allow=("dummy",))
    done = applied(plan)
    assert done.statuses == ["failed", "failed", "done"]
    assert "not every tag of a can be read" in done.messages
    assert all(each.split(" ")[1].startswith("b/") for each in done.writes)


# Stale


def elsewhere(repository: str, tag: str, what: Image) -> Callable[[Served], None]:
    return lambda served: fill(served.url, (repository, tag, what))


def without(digest: str) -> Callable[[Served], None]:
    return lambda served: remove(served.url, "a", digest)


STALE: dict[str, tuple[Step, Callable[[Served], None], str]] = {
    "a new tag was taken": (set_tag("a", "new", ONE), elsewhere("a", "new", TWO), f"it is {TWO.digest} now"),
    "a tag moved": (set_tag("a", "y", ONE, before=TWO.digest), elsewhere("a", "y", THREE), "it is sha256"),
    "a tag is gone": (set_tag("a", "y", ONE, before=TWO.digest), without(TWO.digest), "it is gone"),
    "the tag to remove moved": (untag("a", "y", TWO), elsewhere("a", "y", THREE), f"it is {THREE.digest} now"),
    "the tag to remove is gone": (untag("a", "y", TWO), without(TWO.digest), "it is gone"),
    "another tag would go along": (delete("a", TWO, "y"), elsewhere("a", "z", TWO), "z would go with it"),
    "a tag that was to go moved": (delete("a", ONE, "x", "x2"), elsewhere("a", "x2", THREE), "x2 was moved"),
    "the manifest is gone": (delete("a", TWO, "y"), without(TWO.digest), "it is gone"),
}  # fmt: skip


@pytest.mark.parametrize("case", STALE)
def test_what_moved_is_not_touched(served: Served, case: str) -> None:
    """Whatever is not as the plan says is stale, and nothing is written to it."""
    step, change, message = STALE[case]
    fill(served.url, ("a", "x", ONE), ("a", "x2", ONE), ("a", "y", TWO), ("a", "keep", THREE))
    plan = make(served.url, step, allow=("dummy",))
    change(served)
    before = state(served.url, "a")
    done = applied(plan)
    assert done.statuses == ["stale"], done.messages
    assert message in done.messages
    assert not done.writes
    assert state(served.url, "a") == before
    assert done.receipt.status == "partial"


def test_a_tag_that_appears_at_the_last_moment_is_seen(served: Served) -> None:
    """A sibling that is pushed after the first look at the repository makes the deletion stale."""
    fill(served.url, ("a", "x", ONE), ("a", "y", TWO))
    listings = 0

    def answer(request: Request) -> Reply | None:
        nonlocal listings
        if request.path.endswith("/tags/list"):
            listings += 1
            if listings == 2:
                fill(served.url, ("a", "late", ONE))
        return None

    with proxy(served.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x")))
    assert done.statuses == ["stale"]
    assert "late would go with it" in done.messages


def test_what_every_tag_points_at_is_asked_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that is moved onto a doomed manifest while a long deletion goes on makes its row stale."""
    monkeypatch.setattr("regnb.change.apply.survey.CURRENT", -1000.0)  # as if each row took that long
    fill(served.url, ("a", "x", ONE), ("a", "y", TWO), ("a", "latest", THREE))

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and ONE.digest in request.path:
            fill(served.url, ("a", "latest", TWO))
        return None

    with proxy(served.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x"), delete("a", TWO, "y")))
    assert done.statuses == ["done", "stale"]
    assert "latest would go with it" in done.messages
    assert tagged(served.url, "a") == {"a:latest": TWO.digest, "a:y": TWO.digest}


def test_what_a_new_index_lists_stays(served: Served) -> None:
    """An index that was pushed since the plan, even while it is applied, keeps the manifests that it lists."""
    both, later, deep = (index([(ONE, "linux/amd64"), (what, "linux/arm64")]) for what in (TWO, THREE, odd(4)))
    fill(served.url, ("a", "1", both))
    steps = (delete("a", both, "1"), delete("a", ONE, needs=(0,)), delete("a", TWO, needs=(0,)))
    fill(served.url, ("a", "2", later))
    done = applied(make(served.url, *steps))
    assert done.statuses == ["done", "stale", "done"]
    assert "the index 2 lists it" in done.messages

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and later.digest in request.path:
            fill(served.url, ("a", "3", index([(deep, "linux/amd64")])))
        return None

    with proxy(served.host, answer) as server:
        done = applied(make(server.url, delete("a", later, "2"), delete("a", ONE), delete("a", THREE)))
    assert done.statuses == ["done", "stale", "done"]
    assert "the index 3 lists it" in done.messages
    assert applied(make(served.url, delete("a", ONE), allow=("parents",))).statuses == ["done"]


def test_what_was_taken_back_is_done_again(served: Served) -> None:
    """Whoever resumes a rename whose copies are gone by now loses nothing: they are made again first."""
    fill(served.url, ("a", "x", ONE))
    copy = replace(set_tag("b", "x", ONE, source="a"), new=True)
    plan = make(served.url, copy, replace(delete("a", ONE, "x"), needs=(0,)))
    with Journal.begin(plan) as journal:
        journal.intend([0])
        journal.start(0)
        journal.record(Outcome(0, "done", after=ONE.digest))
    done = applied(plan, receipt=Receipt.load(journal.path))
    assert done.receipt.status == "done"
    assert done.progress.state()[:2] == (2, 2)
    assert tagged(served.url, "a", "b") == {"b:x": ONE.digest}


def test_what_was_begun_is_not_called_skipped(served: Served) -> None:
    """A step that an earlier application began, and that is not tried again, may have happened."""
    fill(served.url, ("a", "x", ONE))
    with proxy(served.host, lambda request: Reply(403) if request.method == "PUT" else None) as server:
        plan = make(server.url, set_tag("a", "new", ONE), set_tag("a", "other", ONE))
        journal = Journal.begin(plan)
        journal.intend([0, 1])
        journal.start(1)
        journal.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        with pytest.raises(Denied):
            applied(plan, receipt=Receipt.load(journal.path))
    assert Receipt.load(journal.path).outcome(1).status == "unknown"


def test_what_is_so_already_is_done(served: Served) -> None:
    """A tag that is there already, as planned, is not written again."""
    fill(served.url, ("a", "x", ONE))
    plan = make(served.url, set_tag("a", "new", ONE))
    fill(served.url, ("a", "new", ONE))
    done = applied(plan)
    assert done.statuses == ["done"]
    assert not done.writes


# Copying


def test_a_copy_in_one_registry_moves_no_bytes(served: Served) -> None:
    """Blobs are mounted, each once; children, index and tag follow, byte for byte."""
    shared = image([*ONE.blobs[1:], layer("own", 100)], about=ONE.blobs[0])
    whole = index([(ONE, "linux/amd64"), (shared, "linux/arm64")])
    fill(served.url, ("a", "multi", whole))
    done = applied(
        make(
            served.url,
            put("b", ONE, "a"),
            put("b", shared, "a"),
            set_tag("b", "multi", whole, source="a", needs=(0, 1)),
        )
    )
    assert done.receipt.status == "done", done.messages
    assert state(served.url, "b")["b:multi"] == state(served.url, "a")["a:multi"]
    assert len([each for each in done.writes if each.startswith("POST")]) == len({*ONE.blobs, *shared.blobs})
    assert len(done.writes) == len({*ONE.blobs, *shared.blobs}) + 3
    assert done.progress.moved == 0
    assert not litter(served.root)


def test_small_blobs_are_sent_unasked_where_the_last_ones_were_lacking(served: Served, tmp_path: Path) -> None:
    """Asking for each costs as much as sending it; what a repository has is still never sent, while it has it."""
    many = image([layer(number, 20) for number in range(80)])
    fill(served.url, ("a", "x", many))
    step = set_tag("b", "x", many, source="a")
    with serving("real", tmp_path / "other") as target:
        done = applied(make(target.url, step, source=served.url), source=served.url)
        assert done.receipt.status == "done", done.messages
        asked = [each for each in done.exchanges if each.method == "GET" and "/blobs/sha256:" in each.url]
        assert 16 <= len(asked) < 50
        assert len([each for each in done.writes if each.startswith("POST")]) == len(many.blobs)
        assert state(target.url, "b")["b:x"] == state(served.url, "a")["a:x"]
        again = applied(make(target.url, replace(step, tag="y"), source=served.url), source=served.url)
        assert again.receipt.status == "done", again.messages
        assert not [each for each in again.writes if each.startswith("POST")]


def test_a_mount_that_is_refused_becomes_an_upload(served: Served) -> None:
    """Where the registry begins an upload instead of mounting, the bytes are sent into that very upload."""
    fill(served.url, ("a", "x", ONE))

    def answer(request: Request) -> Reply | None:
        request.path = request.path.partition("?mount=")[0]
        return None

    with proxy(served.host, answer) as server:
        done = applied(make(server.url, set_tag("b", "x", ONE, source="a")))
    assert done.statuses == ["done"], done.messages
    assert tagged(served.url, "b") == {"b:x": ONE.digest}
    assert len([each for each in done.writes if each.startswith("POST")]) == len(ONE.blobs)
    assert done.progress.moved == sum(map(len, ONE.blobs))
    assert done.progress.state()[2].endswith(" sent")
    assert not litter(served.root)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
def test_a_mount_that_is_an_error_becomes_an_upload(served: Served, status: int) -> None:
    """Where the registry answers a mount with an error, the bytes are sent."""
    fill(served.url, ("a", "x", ONE))

    def answer(request: Request) -> Reply | None:
        code = {401: "UNAUTHORIZED", 403: "DENIED", 404: "BLOB_UNKNOWN", 405: "UNSUPPORTED"}.get(status, "UNKNOWN")
        body = json.dumps({"errors": [{"code": code}]}).encode()
        return Reply(status, {"Content-Type": "application/json"}, body) if "?mount=" in request.path else None

    with proxy(served.host, answer) as server:
        done = applied(make(server.url, set_tag("b", "x", ONE, source="a")))
    assert done.statuses == ["done"], done.messages
    assert tagged(served.url, "b") == {"b:x": ONE.digest}
    assert done.progress.moved == sum(map(len, ONE.blobs))
    assert not litter(served.root)


@pytest.mark.parametrize("within", [True, False])
def test_a_blob_that_the_source_lacks(served: Served, tmp_path: Path, *, within: bool) -> None:
    """A blob that is missing fails what needs it, with its name, and leaves no upload behind; the rest is copied."""
    fill(served.url, ("a", "x", ONE), ("a", "y", TWO))
    missing = Digest.of(ONE.blobs[1])
    shutil.rmtree(served.repository("a") / f"_layers/sha256/{missing.hex}")
    with contextlib.ExitStack() as stack:
        target = served if within else stack.enter_context(serving("embedded", tmp_path / "second"))
        whole = index([(ONE, ""), (TWO, "")])
        steps = (put("b", ONE, "a"), set_tag("b", "y", TWO, source="a"), set_tag("b", "i", whole, needs=(0,)))
        done = applied(
            make(target.url, *steps, source="" if within else served.url), source="" if within else served.url
        )
        assert done.statuses == ["failed", "done", "skipped"], done.messages
        assert f"blob {missing}: it is missing in a on {served.host}" in done.messages
        assert tagged(target.url, "b") == {"b:y": TWO.digest}
        assert not litter(target.root)
        with pytest.raises(NotFound):
            ask(target.url, lambda client: client.manifest("b", ONE.digest))


@pytest.mark.parametrize("kind", ["real", "embedded"], indirect=True)
def test_a_copy_from_another_registry(served: Served, tmp_path: Path, kind: str) -> None:
    """Blobs are streamed, each once for the whole registry; what is there already is not sent again."""
    whole = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")])
    fill(served.url, ("a", "multi", whole), ("a", "one", ONE))
    with serving("embedded" if kind == "real" else "real", tmp_path / "second") as target:
        steps = (
            put("b", ONE, "a"), put("b", TWO, "a"), set_tag("b", "multi", whole, source="a", needs=(0, 1)),
            set_tag("c", "one", ONE, source="a"),
        )  # fmt: skip
        done = applied(make(target.url, *steps, source=served.url), source=served.url)
        assert done.receipt.status == "done", done.messages
        found = state(target.url, "b", "c")
        assert found["b:multi"] == state(served.url, "a")["a:multi"]
        assert found["c:one"] == state(served.url, "a")["a:one"]
        assert done.progress.moved == sum(map(len, {*ONE.blobs, *TWO.blobs}))
        again = applied(make(target.url, set_tag("b", "two", TWO, source="a"), source=served.url), source=served.url)
        assert again.receipt.status == "done"
        assert again.writes == ["PUT b/manifests/two"]
        assert not litter(target.root)


def full(server_has: dict[str, bool]) -> Callable[[Request], Reply | None]:
    """Refuse blobs, as a registry does whose disk is full."""

    def answer(request: Request) -> Reply | None:
        refused = server_has["no space"] and request.method == "PUT" and "/blobs/uploads/" in request.path
        return Reply(507, body=b"no space left on device") if refused else None

    return answer


def test_a_destination_without_space(served: Served, tmp_path: Path) -> None:
    """A copy whose destination runs out of space puts nothing, leaves no uploads, and is resumed when there is room."""
    fill(served.url, ("a", "x", ONE), ("a", "y", TWO))
    has = {"no space": True}
    with serving("real", tmp_path / "second") as target, proxy(target.host, full(has)) as server:
        steps = (put("b", ONE, "a"), set_tag("b", "x", ONE, source="a", needs=(0,)))
        plan = make(server.url, *steps, source=served.url)
        done = applied(plan, source=served.url)
        assert done.statuses == ["failed", "skipped"]
        assert "no space left on device" in done.messages
        assert done.receipt.status == "partial"
        assert not litter(target.root)
        assert tagged(target.url, "b") == {}
        has["no space"] = False
        again = applied(plan, source=served.url, receipt=done.receipt)
        assert again.receipt.status == "done"
        assert tagged(target.url, "b") == {"b:x": ONE.digest}
        assert not litter(target.root)


def test_a_source_that_breaks_off(served: Served, tmp_path: Path) -> None:
    """An upload whose source breaks off, or has other bytes than the manifest says, is given up without litter."""
    big = odd("big", layers=1, size=300_000)
    fill(served.url, ("a", "x", big), ("a", "y", TWO))
    broken = Digest.of(big.blobs[1])

    def answer(request: Request) -> Reply | None:
        if request.method == "GET" and request.path.endswith(broken) and "range" not in request.headers:
            return Reply(200, body=big.blobs[1][:200_000], announced=300_000)
        return None

    with serving("embedded", tmp_path / "second") as target, proxy(served.host, answer) as source:
        lies = replace(set_tag("c", "y", TWO, source="a"), blobs=(Blob(blobs(TWO)[0].digest, 7),))
        steps = (set_tag("b", "x", big, source="a"), lies, set_tag("b", "y", TWO, source="a"))
        done = applied(make(target.url, *steps, source=source.url), source=source.url)
        assert done.statuses == ["failed", "failed", "done"], done.messages
        assert "cut off" in done.messages
        assert f"blob {blobs(TWO)[0].digest}: it has" in done.messages
        assert not litter(target.root)


@pytest.mark.parametrize(("which", "says", "told"), [
    (ONE.blobs[0], 7, f"it has {len(ONE.blobs[0])} bytes in a, and the manifest says 7"),
    (ONE.blobs[0], 70_000, f"it has {len(ONE.blobs[0])} bytes in a, and the manifest says 70,000"),
    (LARGE.blobs[1], 7, "it has more than 65,536 bytes in a, and the manifest says 7"),
])  # fmt: skip
def test_a_size_that_is_not_true(served: Served, tmp_path: Path, which: bytes, says: int, told: str) -> None:
    """A blob of another size than its manifest says is not copied, whether it would be read whole or streamed."""
    fill(served.url, ("a", "x", ONE), ("a", "y", LARGE))
    with serving("embedded", tmp_path / "second") as target:
        step = replace(set_tag("b", "x", ONE, source="a"), blobs=(Blob(Digest.of(which), says),))
        done = applied(make(target.url, step, source=served.url), source=served.url)
        assert done.statuses == ["failed"]
        assert told in done.messages
        assert tagged(target.url, "b") == {}
        assert not litter(target.root)


def test_other_bytes_of_a_small_blob_are_not_sent(served: Served, tmp_path: Path) -> None:
    """A small blob is verified before an upload begins."""
    fill(served.url, ("a", "x", ONE))
    wrong = Digest.of(ONE.blobs[0])

    def answer(request: Request) -> Reply | None:
        if request.method == "GET" and request.path.endswith(wrong) and "range" not in request.headers:
            return Reply(200, body=ONE.blobs[0][:-1] + b"?")
        return None

    with serving("embedded", tmp_path / "second") as target, proxy(served.host, answer) as source:
        done = applied(make(target.url, set_tag("b", "x", ONE, source="a"), source=source.url), source=source.url)
        assert done.statuses == ["failed"]
        assert f"blob {wrong}: the bytes have the digest" in done.messages
        assert len([each for each in done.writes if each.startswith("POST")]) == len(ONE.blobs) - 1


def test_a_mount_that_lies(distribution_program: None, tmp_path: Path) -> None:
    """After a garbage collection without a restart mounts succeed, but not the copy: the bytes are looked for."""
    settings = {"storage": {"cache": {"blobdescriptor": "inmemory"}}}
    with distribution.Distribution(tmp_path, config=settings) as registry:
        fill(registry.url, ("a", "x", ONE))
        cache = Cache()
        cache.put(ONE.digest, ONE.media_type, ONE.data)
        plan = make(registry.url, set_tag("b", "x", ONE, source="a"))
        remove(registry.url, "a", ONE.digest)
        registry.garbage_collect()
        done = applied(plan, cache=cache)
        assert done.statuses == ["failed"]
        assert "the bytes are not there" in done.messages
        assert not any(each.startswith("PUT") for each in done.writes)


def test_an_undo_after_a_garbage_collection(distribution_program: None, tmp_path: Path) -> None:
    """What is put back into its own repository needs its blobs there: they are looked for, and never mounted."""
    with distribution.Distribution(tmp_path) as registry:
        fill(registry.url, ("a", "x", ONE), ("a", "y", TWO))
        cache = Cache()
        for each in (ONE, TWO):
            cache.put(each.digest, each.media_type, each.data)
            remove(registry.url, "a", each.digest)
        restore = [set_tag("a", tag, each, source="a") for tag, each in (("x", ONE), ("y", TWO))]
        assert applied(make(registry.url, restore[1]), cache=cache).writes == ["PUT a/manifests/y"]
        registry.garbage_collect()
        registry.restart()
        done = applied(make(registry.url, restore[0]), cache=cache)
    assert done.statuses == ["failed"]
    assert "a no longer has it: a garbage collection removed it" in done.messages
    assert not done.writes


def test_bytes_that_the_plan_made_itself(served: Served) -> None:
    """A manifest that no registry has is put from the plan; bytes that are not what their digest says are not."""
    fill(served.url, ("a", "x", ONE))
    made = index([(ONE, "linux/amd64")])
    wrong = set_tag("a", "wrong", TWO)
    given = {made.digest: base64.b64encode(made.data).decode(), TWO.digest: base64.b64encode(b"{}").decode()}
    steps = (set_tag("a", "i", made), wrong)
    done = applied(Plan(operation="request", url=served.url, steps=steps, made=given))
    assert done.statuses == ["done", "failed"]
    assert tagged(served.url, "a") == {"a:x": ONE.digest, "a:i": made.digest}


# What stands in the way of everything


@pytest.mark.parametrize("read_only", [True, False])
def test_a_registry_that_does_not_delete(kind: str, tmp_path: Path, *, read_only: bool) -> None:
    """Deletion that is switched off, and a read-only registry, are named with the line to set; nothing was written."""
    with serving(kind, tmp_path / "a") as registry:
        fill(registry.url, ("a", "x", ONE), ("a", "y", ONE))
        before = state(registry.url, "a")
    with serving(kind, tmp_path / "a", delete=False, read_only=read_only) as registry:
        sent: Written = []
        hint = "maintenance.readonly" if read_only else "storage.delete.enabled: true"
        for step in (untag("a", "y", ONE), delete("a", ONE, "x", "y")):
            with pytest.raises(Unsupported, match=hint):
                applied(make(registry.url, set_tag("a", "z", ONE), step, allow=("dummy",)), sent=sent)
        assert [each.method for each in sent] == ["DELETE", "DELETE"]
        assert receipts().empty
        assert state(registry.url, "a") == before


def test_a_read_only_registry_is_asked_once(kind: str, tmp_path: Path) -> None:
    """The first write that a read-only registry refuses is the last, and the error says what is wrong."""
    with serving(kind, tmp_path / "a") as registry:
        fill(registry.url, ("a", "x", ONE), ("b", "x", TWO))
    with serving(kind, tmp_path / "a", read_only=True) as registry:
        for steps in ([set_tag("a", f"t{n}", ONE) for n in range(50)], [set_tag("c", "x", ONE, source="a")] * 50):
            sent: Written = []
            with pytest.raises(Unsupported, match=r"maintenance\.readonly"):
                applied(make(registry.url, *steps), sent=sent)
            assert len([each for each in sent if each.method not in READS]) <= len(ONE.blobs)


def test_a_password_is_needed(distribution_program: None, tmp_path: Path) -> None:
    """Behind htpasswd nothing goes without credentials, and everything with them; the receipt holds none."""
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, check=True).stdout)
    settings = {"auth": {"htpasswd": {"realm": "r", "path": str(passwords)}}}
    with (
        distribution.Distribution(tmp_path, config=settings) as registry,
        serving("embedded", tmp_path / "s") as origin,
    ):
        fill(origin.url, ("a", "x", ONE), ("a", "y", TWO))
        copy = make(
            registry.url, set_tag("a", "x", ONE, source="a"), set_tag("a", "y", TWO, source="a"), source=origin.url
        )
        with pytest.raises(Unauthorized):
            applied(copy, source=origin.url)
        done = applied(copy, source=origin.url, credentials=ME)
        assert done.receipt.status == "done", done.messages
        removal = make(registry.url, delete("a", TWO, "y"), untag("a", "x", ONE), allow=("dummy",))
        with pytest.raises(Unauthorized):
            applied(removal)
        done = applied(removal, credentials=ME)
        assert done.receipt.status == "done", done.messages
        assert SECRET not in done.receipt.path.read_text(encoding="utf-8")


@pytest.fixture
def tokens(distribution_program: None, tmp_path: Path) -> Iterator[tuple[distribution.Distribution, Issuer]]:
    issuer = Issuer(tmp_path)
    with scripted.serve(issuer) as server:
        token = {"realm": f"{server.url}/token", "service": "s", "issuer": "issuer"}
        settings = {"auth": {"token": {**token, "rootcertbundle": str(issuer.bundle)}}}
        with distribution.Distribution(tmp_path / "tokens", config=settings) as registry:
            yield registry, issuer


def test_too_little_scope(tokens: tuple[distribution.Distribution, Issuer], tmp_path: Path) -> None:
    """Who may not delete, or not push, is told before anything is written; who may, can do everything."""
    registry, issuer = tokens
    with serving("embedded", tmp_path / "s") as origin:
        fill(origin.url, ("a", "x", ONE), ("a", "y", TWO))
        steps = [set_tag("a", tag, each, source="a") for tag, each in (("x", ONE), ("y", TWO))]
        copy = make(registry.url, *steps, source=origin.url)
        issuer.rights = {"pull"}
        sent: Written = []
        with pytest.raises(Denied):
            applied(copy, source=origin.url, credentials=ME, sent=sent)
        assert all(each.status == 401 for each in sent if each.method not in READS)
        issuer.rights = {"pull", "push"}
        assert applied(copy, source=origin.url, credentials=ME).receipt.status == "done"
    within = [set_tag("b", "x", ONE, source="a"), set_tag("a", "z", ONE)]
    removals = [delete("a", TWO, "y"), untag("a", "x", ONE)]
    sent = []
    with pytest.raises(Denied):
        applied(make(registry.url, *within, *removals, allow=("dummy",)), credentials=ME, sent=sent)
    assert {each.method for each in sent if each.url.startswith(registry.url)} == {"DELETE"}
    issuer.rights = {"pull", "push", "delete"}
    done = applied(make(registry.url, *within, *removals, allow=("dummy",)), credentials=ME)
    assert done.receipt.status == "done", done.messages


def test_a_refusal_in_the_middle_ends_it(served: Served) -> None:
    """When a registry turns read-only after some writes, the rest is skipped, and the receipt can be resumed."""
    fill(served.url, ("a", "x", ONE))
    left = {"writes": 2}

    def answer(request: Request) -> Reply | None:
        if request.method in READS:
            return None
        left["writes"] -= 1
        return Reply(405, {"Content-Type": "text/plain"}) if left["writes"] < 0 else None

    with proxy(served.host, answer) as server:
        plan = make(server.url, *(set_tag("a", f"t{number}", ONE) for number in range(6)))
        done = applied(plan)
        assert done.statuses == ["done", "done", "failed", "skipped", "skipped", "skipped"]
        assert len(done.writes) == 3
        assert "not tried: PUT" in done.messages
        left["writes"] = 100
        again = applied(plan, receipt=done.receipt)
    assert again.receipt.status == "done"
    assert len(again.writes) == 4
    assert again.progress.state()[:2] == (6, 6)


def test_a_registry_that_is_not_there() -> None:
    """Nothing is tried a thousand times when nobody answers."""
    with pytest.raises(ConnectionFailed):
        applied(make("http://127.0.0.1:9", *(set_tag("a", f"t{number}", ONE) for number in range(1000))))


def test_what_cannot_be_read_again_is_unknown(served: Served) -> None:
    """After a write whose result cannot be read the row is unknown; to resume settles it."""
    fill(served.url, ("a", "x", ONE), ("a", "y", TWO))
    deaf = {"now": False}

    def answer(request: Request) -> Reply | None:
        if request.method == "PUT":
            deaf["now"] = True
        return Reply(500) if deaf["now"] and request.method == "GET" and request.path.endswith("/new") else None

    with proxy(served.host, answer) as server:
        plan = make(server.url, set_tag("a", "new", ONE), set_tag("a", "more", ONE))
        done = applied(plan)
        assert done.statuses == ["unknown", "done"]
        assert "cannot be read" in done.messages
        deaf["now"] = False
        again = applied(plan, receipt=done.receipt)
    assert again.statuses == ["done", "done"]
    assert not again.writes
    assert again.receipt.outcome(0).before == ""


def test_one_writer_at_a_time(served: Served) -> None:
    """While another process writes to a repository, nothing is written there, nor into the receipt that it writes."""
    fill(served.url, ("a", "x", ONE))
    plan = make(served.url, set_tag("a", "new", ONE))
    with regnb.connect(served.url, cache=False) as registry:
        with hold(served.host, ["a"]):
            with pytest.raises(Busy, match="writing to a on"):
                registry.apply(plan, confirm=plan.code)
            with Journal.begin(plan) as other:
                with pytest.raises(Busy, match="writing to a on"):
                    registry.resume(other.path)
                other.intend([0])
        assert Receipt.load(other.path).finished
        assert "new" not in tagged(served.url, "a")
        assert registry.resume(other.path).status == "done"


def test_what_cannot_be_kept_is_not_touched(actual: Served) -> None:
    """A tag whose manifest cannot be read, so that no undo could put it back, is left alone."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO))

    def answer(request: Request) -> Reply | None:
        unreadable = request.method == "GET" and request.path.endswith((TWO.digest, "/y"))
        return Reply(500) if unreadable else None

    with proxy(actual.host, answer) as server:
        steps = (set_tag("a", "y", ONE, before=TWO.digest), delete("a", TWO, "y"))
        done = applied(make(server.url, *steps))
    assert done.statuses == ["failed", "failed"]
    assert not done.writes
    assert tagged(actual.url, "a") == {"a:x": ONE.digest, "a:y": TWO.digest}


def test_nothing_is_written_without_the_journal(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the receipt's disk is full, that is the end: no write goes unannounced."""
    fill(served.url, ("a", "x", ONE))
    announced: list[int] = []

    def start(self: Journal, step: int) -> None:
        announced.append(step)
        if len(announced) == 3:
            raise StorageError("the disk is full")

    monkeypatch.setattr(Journal, "start", start)
    with pytest.raises(StorageError, match="disk is full"):
        applied(make(served.url, *(set_tag("a", f"t{number}", ONE) for number in range(9))))
    assert set(tagged(served.url, "a")) == {"a:x", "a:t0", "a:t1"}


def test_an_interrupt_leaves_no_litter(served: Served, tmp_path: Path) -> None:
    """What is cancelled in the middle of an upload gives it up, and leaves a receipt that can be resumed."""
    big = odd("big", layers=1, size=300_000)
    fill(served.url, ("a", "x", big))
    begun = threading.Event()
    over = threading.Event()

    def answer(request: Request) -> Reply | None:
        if request.method == "GET" and request.path.endswith(Digest.of(big.blobs[1])):
            begun.set()
            over.wait(60)
        return None

    with serving("embedded", tmp_path / "second") as target, proxy(served.host, answer) as source:
        plan = make(target.url, set_tag("b", "x", big, source="a"), source=source.url)

        async def interrupted() -> None:
            async with Client(Transport(target.url)) as client, Client(Transport(source.url)) as other:
                with Journal.begin(plan) as journal:
                    async with anyio.create_task_group() as group:
                        store = Cache()
                        work = apply(
                            Reader(client, store), plan, journal, source=Reader(other, store), progress=Progress()
                        )
                        group.start_soon(lambda: work)
                        await anyio.to_thread.run_sync(begun.wait)
                        group.cancel_scope.cancel()
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            anyio.run(interrupted)
        over.set()
        receipt = Receipt.load(next((tmp_path / "receipts").iterdir()))
        assert receipt.status == "unfinished"
        assert receipt.outcome(0).status == "skipped"
        assert not litter(target.root)
        again = applied(plan, source=source.url, receipt=receipt)
        assert again.receipt.status == "done"
        assert tagged(target.url, "b") == {"b:x": big.digest}


def test_nothing_to_do(tmp_path: Path) -> None:
    """A plan that only keeps asks nobody."""
    done = applied(make("http://127.0.0.1:9", Step(action="keep", repository="a", tag="x")))
    assert done.receipt.status == "done"
    assert not done.exchanges


def test_a_need_that_comes_later_is_not_waited_for(served: Served) -> None:
    """A plan whose rows need each other in a circle ends, with rows that were skipped."""
    fill(served.url, ("a", "x", ONE))
    steps = (set_tag("a", "t", ONE, needs=(1,)), set_tag("a", "u", ONE, needs=(0,)), set_tag("a", "v", ONE, needs=(2,)))
    done = applied(make(served.url, *steps))
    assert done.statuses == ["skipped"] * 3

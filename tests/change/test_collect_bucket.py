"""A collection of a bucket: the real registry on that bucket serves every tag afterwards, and undo gives all back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import buckets
import fsspec
import pytest
import swept
import typer
from buckets import Asked
from distribution import Distribution
from images import Image, ask, config, image, index, layer, push

import regnb
from regnb.change.collect import pushers
from regnb.change.collect.bucket import Bucket
from regnb.change.journal import Receipt
from regnb.change.sweep import TRASH, Sweep
from regnb.cli.collecting import finish
from regnb.errors import Busy, PlanMismatch, Refused, StorageError
from regnb.oci.reference import Digest
from regnb.storage import Storage, storage_of, unlisted
from regnb.wire.client import Client

PLACES = ("versions", "list", "copies", "none")
STOPPED = "http://127.0.0.1:1"


def some(number: int) -> Image:
    return image([layer(number, 1000 + number)], about=config(n=number))


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    with buckets.serve() as found:
        yield found


@pytest.fixture(scope="module")
def filled(distribution_program: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with two tags and an index, two images that were deleted, and a repository of which all was deleted."""
    multi = index([(some(11), "linux/amd64"), (some(12), "linux/arm64")])

    async def fill(client: Client) -> None:
        await push(client, "app", "1.0", some(1))
        await push(client, "app", "multi", multi)
        for name, number in (("app", 3), ("app", 4), ("gone", 5)):
            await push(client, name, "gone", some(number))
            await client.delete_manifest(name, Digest.of(some(number).data))
        # An index needs no layer of its repository.
        await push(client, "only-index", some(6).digest, some(6))
        await push(client, "only-index", "x", index([(some(6), "linux/amd64")]))
        await client.uploads.upload_chunk(await client.uploads.start_upload("app"), b"begun")

    with Distribution(tmp_path_factory.mktemp("filled")) as registry:
        ask(registry.url, fill)
    return registry.root


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    return tmp_path / "receipts"


@pytest.fixture
def name(asked: Asked, filled: Path, request: pytest.FixtureRequest) -> str:
    """A bucket with this storage in it."""
    name = f"b{abs(hash(request.node.name))}"
    fsspec.filesystem("s3").mkdir(name)
    if "versions" in request.node.name:
        enabled = {"Status": "Enabled"}
        fsspec.filesystem("s3").call_s3("put_bucket_versioning", Bucket=name, VersioningConfiguration=enabled)
    buckets.put(filled, name)
    return name


def registry_of(name: str, folder: Path) -> Distribution:
    """A registry whose storage is a bucket."""
    registry = Distribution(folder)
    settings = json.loads(registry.config.read_text())
    settings["storage"] = {
        "s3": {
            "accesskey": "a-key", "secretkey": "hush", "region": "us-east-1", "bucket": name, "secure": False,
            "regionendpoint": os.environ["AWS_ENDPOINT_URL"], "v4auth": True, "rootdirectory": "",
        },
        "delete": {"enabled": True},
    }  # fmt: skip
    registry.config.write_text(json.dumps(settings))
    return registry


def plan_of(storage: Storage, place: str, **more: Any) -> Sweep:
    return storage.plan_collect(
        grace="0", uploads_older_than="0", endpoints=[STOPPED], trash=place != "none", copies=place == "copies", **more
    )


def apply(storage: Storage, plan: Sweep) -> Receipt:
    return storage.apply(plan, confirm=plan.code, progress=False)


def empty(storage: Storage) -> Receipt:
    return apply(storage, storage.plan_empty(older_than="0"))


@pytest.mark.parametrize("place", PLACES)
def test_a_bucket_is_collected(name: str, place: str, filled: Path, tmp_path: Path) -> None:
    """The same rows as of a folder but for one link a repository; the real registry serves all, and finds no more."""
    before = buckets.content(name)
    storage = regnb.open_storage(f"s3://{name}")
    plan = plan_of(storage, place)
    assert plan.options.place == (place if place != "none" else "list")
    local = regnb.open_storage(filled).plan_collect(grace="0", uploads_older_than="0")
    # The last link below a _layers keeps the folder, and so the repository, in the sight of the registry's collection.
    kept = {row.path for row in local.steps} - {row.path for row in plan.steps}
    assert [path.rpartition("/_layers/")[0] for path in kept] == ["repositories/gone"]
    assert {row.path for row in plan.steps} <= {row.path for row in local.steps}
    receipt = apply(storage, plan)
    assert receipt.status == "done"
    assert receipt.figures is not None
    if place == "list":
        assert buckets.content(name) == before
        assert receipt.figures.moved == 0
        assert not plan_of(storage, place).steps, "what is listed is not listed again"
    elif place != "none":
        assert len(buckets.content(name)) < len(before)
        back = storage.plan_restore(receipt)
        assert apply(storage, back).status == "done"
        assert buckets.content(name) == before
        assert storage.trash().empty
        plan = plan_of(storage, place)
        receipt = apply(storage, plan)
    if place != "none":
        emptied = empty(storage)
        assert emptied.status == "done"
        assert emptied.figures is not None
        assert emptied.figures.emptied == plan.size == emptied.figures.free
        assert not [key for key in fsspec.filesystem("s3").find(name) if TRASH in key]
        with pytest.raises(PlanMismatch):
            storage.plan_restore(receipt)
        every = fsspec.filesystem("s3").call_s3("list_object_versions", Bucket=name)
        if place == "versions":
            assert {one["Key"] for one in every["Versions"]} == buckets.content(name).keys()
        assert "DeleteMarkers" not in every, "of what was removed for good not even a version is left"
    keys = {row.path for row in plan.steps}
    after = buckets.content(name)
    assert set(before.keys() - after.keys()) == {
        key for key in before if any(key.startswith(f"docker/registry/v2/{path}/") for path in keys)
    }
    with registry_of(name, tmp_path) as registry:
        for repository, tag in (("app", "1.0"), ("app", "multi"), ("only-index", "x")):
            swept.pull(registry.url, swept.disk.Name(repository, tag))
        with regnb.connect(registry.url) as opened:
            assert set(opened.inventory().repositories["repository"]) == {"app", "gone", "only-index"}
    assert not swept.eligible(registry)


def test_a_bucket_is_listed_anew_once_it_is_locked(name: str, asked: Asked) -> None:
    """The page by which the storage was found a moment before is none of those on which it is decided."""
    plan = plan_of(regnb.open_storage(f"s3://{name}"), "copies")
    asked.requests.clear()
    apply(regnb.open_storage(f"s3://{name}"), plan)
    lists = ["list-type=2" in request for request in asked.requests]
    locked = next(at for at, request in enumerate(asked.requests) if request.startswith("PUT"))
    assert (lists[:locked].count(True), lists[locked:].count(True)) == (1, 2)


def test_the_bucket_of_a_plan_is_first_listed_once_it_is_locked(name: str, asked: Asked) -> None:
    """Nothing is asked for before the lock, and where the bucket is gone meanwhile the lock says so."""
    plan = plan_of(regnb.open_storage(f"s3://{name}"), "copies")
    asked.requests.clear()
    assert apply(storage_of(plan), plan).status == "done"
    assert asked.requests[0] == f"PUT /{name}/docker/registry/v2/{TRASH}/lock"
    assert sum("list-type=2" in request for request in asked.requests) == 2
    fsspec.filesystem("s3").rm(name, recursive=True)
    with pytest.raises(StorageError, match="cannot lock"):
        apply(storage_of(plan), plan)


@pytest.mark.parametrize(("place", "most"), [("versions", 9), ("none", 8)])
def test_a_bucket_is_planned_and_applied_under_one_lock(name: str, place: str, most: int, asked: Asked) -> None:
    """What stores the lock tells whether there are versions; one listing comes before the removal, one after."""
    asked.requests.clear()
    storage = unlisted(f"s3://{name}")
    with storage.held():
        plan = plan_of(storage, place)
        gets = [request for request in asked.requests if "/blobs/" in request or request.endswith("/link")]
        assert apply(storage, plan).status == "done"
    assert asked.requests[0] == f"PUT /{name}/docker/registry/v2/{TRASH}/lock"
    assert asked.requests[-1].partition("?")[0] == f"DELETE /{name}/docker/registry/v2/{TRASH}/lock"
    assert len(asked.requests) - len(gets) == most
    assert not plan_of(storage, place).steps


@pytest.mark.parametrize("place", ["versions", "copies"])
def test_a_push_between_a_plan_and_the_moves_of_a_bucket(name: str, place: str, tmp_path: Path) -> None:
    """The links are others than before: so everything is read again, and what the push needs is put back."""
    storage = unlisted(f"s3://{name}")
    with registry_of(name, tmp_path) as registry:
        with storage.held():
            plan = plan_of(storage, place, allow=["writer"])
            ask(registry.url, lambda client: push(client, "app", "again", some(3)))
            receipt = apply(storage, plan)
        assert receipt.status == "partial"
        assert "put back: a push needs it again" in set(receipt.to_frame()["message"])
        for tag in ("again", "1.0", "multi"):
            swept.pull(registry.url, swept.disk.Name("app", tag))


@pytest.mark.parametrize("place", PLACES)
def test_a_bucket_that_asks_for_less(name: str, place: str, asked: Asked) -> None:
    """503 and slow-down in the middle are waited for; a key that may not be removed ends it, and resuming goes on."""
    storage = regnb.open_storage(f"s3://{name}")
    plan = plan_of(storage, place)
    # What only lists takes no lock; the list of a run is removed together with the lock of what empties it.
    asked.refusals.update({"POST": 2, "PUT": 2, "GET": 2, "DELETE": int(place != "list")})
    assert apply(storage, plan).status == "done"
    if place != "none":
        asked.refusals.update({"POST": 2})
        assert empty(storage).status == "done"
    assert not any(asked.refusals.values())


def test_keys_that_may_not_be_removed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a batch names single keys: a slow-down is tried again, a denial ends the moves and is resumed."""
    storage, real = regnb.open_storage(f"s3://{name}"), Bucket._call
    plan = plan_of(storage, "copies")
    errors = {"SlowDown": 1, "AccessDenied": 1}

    def call(self: Bucket, method: str, **given: Any) -> Any:
        if method != "delete_objects" or not any(errors.values()):
            return real(self, method, **given)
        code = next(code for code, left in errors.items() if left)
        errors[code] -= 1
        refused, *rest = given["Delete"]["Objects"]
        if rest:
            real(self, method, **{**given, "Delete": {"Objects": rest, "Quiet": True}})
        return {"Errors": [{"Key": refused["Key"], "Code": code, "Message": "no"}]}

    monkeypatch.setattr(Bucket, "_call", call)
    receipt = apply(storage, plan)
    assert receipt.status == "partial"
    assert "AccessDenied" in "".join(receipt.to_frame()["message"])
    assert storage.resume(receipt, progress=False).status == "done"
    assert not plan_of(storage, "copies").steps


def test_what_was_listed_is_looked_at_again(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A push between the two runs needs a listed blob: it stays, and what is garbage still goes."""
    storage = regnb.open_storage(f"s3://{name}")
    plan = plan_of(storage, "list")
    apply(storage, plan)
    with registry_of(name, tmp_path) as registry:
        ask(registry.url, lambda client: push(client, "app", "again", some(3)))
        later = regnb.open_storage(f"s3://{name}")
        gone = later.plan_empty(older_than="0", endpoints=[registry.url])
        assert gone.size < plan.size
        with pytest.raises(Refused, match="somebody can push"):
            apply(later, gone)
    emptied = empty(later)
    assert emptied.status == "done"
    with pytest.raises(typer.Exit):
        finish(later, emptied)
    assert "Restart every registry process" in capsys.readouterr().out, "only now is anything gone"
    with registry:
        swept.pull(registry.url, swept.disk.Name("app", "again"))
        swept.pull(registry.url, swept.disk.Name("app", "1.0"))
    assert not swept.digests(plan_of(storage, "list"))


@pytest.fixture
def listed(name: str) -> Sweep:
    """What a run has listed in a bucket without versions."""
    storage = regnb.open_storage(f"s3://{name}")
    plan = plan_of(storage, "list")
    apply(storage, plan)
    return plan


def empty_at_once(name: str, **more: Any) -> Receipt:
    """Plan and apply the removal of what was listed, under one lock."""
    storage = unlisted(f"s3://{name}")
    with storage.held():
        return apply(storage, storage.plan_empty(older_than="0", **more))


def trash_of(name: str) -> list[str]:
    """What there is of a trash."""
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    return [key.partition(f"/{TRASH}/")[2] for key in fs.find(name) if TRASH in key]


def again(client: Client) -> Awaitable[Any]:
    """Push an image that was deleted."""
    return push(client, "app", "again", some(3))


def test_a_trash_is_emptied_under_one_lock(
    name: str, listed: Sweep, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First comes the lock, then who can push, then the only look; after the removal the links alone are listed.

    One request finds the lists, however much else lies in the trash; they leave together with the lock.
    """
    real = pushers.is_stopped

    def is_stopped(url: str) -> bool:
        asked.requests.append(f"ask {url}")
        return real(url)

    monkeypatch.setattr(pushers, "is_stopped", is_stopped)
    asked.requests.clear()
    receipt = empty_at_once(name)
    some_ = [one.partition("&encoding-type")[0] for one in asked.requests]
    some_ = [one for one in some_ if "/blobs/sha256/" not in one and not one.endswith("/link")]
    at, below = f"/{name}/docker/registry/v2/{TRASH}", f"GET /{name}?list-type=2&prefix=docker%2Fregistry%2Fv2%2F"
    assert some_ == [
        f"PUT {at}/lock",
        f"{below}_regnb-trash%2F&delimiter=%2F",
        *[one for one in some_ if one.endswith("/index.json")],
        f"ask {STOPPED}",
        f"GET /{name}?list-type=2&prefix=&start-after=docker%2Fregistry%2F",
        f"GET /{name}?uploads&prefix=docker%2Fregistry%2Fv2",  # a row is an upload
        f"ask {STOPPED}",
        *[f"POST /{name}?delete"] * len({row.kind for row in listed.steps}),
        f"{below}repositories%2F",
        f"POST /{name}?delete",
    ]
    assert receipt.status == "done"
    assert receipt.figures is not None
    assert receipt.figures.emptied == receipt.figures.free == listed.size
    assert not trash_of(name)
    assert not plan_of(regnb.open_storage(f"s3://{name}"), "list").steps


def test_a_push_before_the_look_of_one_lock(
    name: str, listed: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until an endpoint says that nobody can push, somebody did: what that needs is seen after the answer."""
    with registry_of(name, tmp_path) as registry:

        def is_stopped(_: str) -> bool:
            if not pushed:
                ask(registry.url, again)
                pushed.append(True)
            return True

        pushed: list[bool] = []
        monkeypatch.setattr(pushers, "is_stopped", is_stopped)
        receipt = empty_at_once(name)
        assert receipt.status == "done"
        assert receipt.figures is not None
        assert 0 < receipt.figures.emptied < listed.size
        for tag in ("again", "1.0", "multi"):
            swept.pull(registry.url, swept.disk.Name("app", tag))
    assert not trash_of(name)


def test_a_push_after_the_look_of_one_lock(name: str, listed: Sweep, tmp_path: Path) -> None:
    """Where a writer is allowed, it is looked again just before the removal: the run has changed, and stays."""
    storage, before = unlisted(f"s3://{name}"), trash_of(name)
    with registry_of(name, tmp_path) as registry:
        with storage.held():
            plan = storage.plan_empty(older_than="0", allow=["writer"])
            ask(registry.url, again)
            receipt = apply(storage, plan)
        assert receipt.to_frame()["message"].tolist() == ["it changed since the plan was made"]
        assert trash_of(name) == before
        for tag in ("again", "1.0", "multi"):
            swept.pull(registry.url, swept.disk.Name("app", tag))
    assert empty_at_once(name).status == "done"
    with registry:
        swept.pull(registry.url, swept.disk.Name("app", "again"))
    assert not trash_of(name)


def test_a_push_of_which_no_endpoint_knows(name: str, listed: Sweep, tmp_path: Path) -> None:
    """A registry that nobody named is pushed to after the look: the links are others, and the broken tag is named."""
    storage = unlisted(f"s3://{name}")
    with registry_of(name, tmp_path) as registry, storage.held():
        plan = storage.plan_empty(older_than="0")
        ask(registry.url, again)
        with pytest.raises(StorageError, match=r"a tag of app lacks sha256:.* after the removal"):
            apply(storage, plan)


@pytest.mark.parametrize("named", [True, False])
def test_who_can_push_is_in_the_list(
    name: str,
    tmp_path: Path,
    asked: Asked,
    named: bool,  # noqa: FBT001 -- pytest's
) -> None:
    """An endpoint that only the list names can push: nothing is removed, and the lock is let go."""
    storage = regnb.open_storage(f"s3://{name}")
    with registry_of(name, tmp_path) as registry:
        plan = storage.plan_collect(grace="0", endpoints=[registry.url] if named else [])
        apply(storage, plan)
        before = fsspec.filesystem("s3").find(name)
        asked.requests.clear()
        with pytest.raises(Refused, match="somebody can push" if named else "no endpoint of the registry is named"):
            empty_at_once(name)
        assert not [one for one in asked.requests if "start-after" in one], "it is not even looked at"
        assert fsspec.filesystem("s3").find(name) == before
        (run,) = storage.trash()["run"]
        age = unlisted(f"s3://{name}")
        with age.held():
            assert age.plan_empty(older_than="7d").steps == (), f"of {run}, which is young, nobody is asked"
    assert empty_at_once(name, endpoints=[STOPPED]).status == "done"


def test_who_can_push_once_it_was_looked(name: str, listed: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could not push before the look is asked again before the removal."""
    storage, before = unlisted(f"s3://{name}"), fsspec.filesystem("s3").find(name)
    with storage.held():
        plan = storage.plan_empty(older_than="0")
        assert plan.steps
        monkeypatch.setattr(pushers, "is_stopped", lambda _: False)
        with pytest.raises(Refused, match="not known"):
            apply(storage, plan)
    fsspec.filesystem("s3").invalidate_cache()
    assert fsspec.filesystem("s3").find(name) == before
    assert listed.steps


def test_a_manifest_that_was_listed(name: str, asked: Asked, tmp_path: Path) -> None:
    """Where manifests go everything is listed again: a tag may lead to one now, and no name of a key says so."""
    with registry_of(name, tmp_path) as registry:
        ask(registry.url, lambda client: push(client, "app", some(7).digest, some(7)))
    storage = regnb.open_storage(f"s3://{name}")
    apply(storage, plan_of(storage, "list", untagged=True))
    asked.requests.clear()
    assert empty_at_once(name).status == "done"
    assert sum("start-after" in one for one in asked.requests) == 2
    assert not [one for one in asked.requests if "repositories%2F&" in one], "the links alone do not tell it"


@pytest.mark.parametrize("refused", ["index.json", "lock", "data"])
def test_keys_that_may_not_be_removed_from_a_trash(
    name: str, listed: Sweep, asked: Asked, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list outlives whatever it lists: of a blob that stays, a receipt says so, and the list is there to go on."""
    real = Bucket._call

    def call(self: Bucket, method: str, **given: Any) -> Any:
        if method != "delete_objects":
            return real(self, method, **given)
        objects = given["Delete"]["Objects"]
        here = [each for each in objects if each["Key"].endswith(f"/{refused}") and "_uploads" not in each["Key"]][:1]
        real(self, method, **given | {"Delete": {"Objects": [each for each in objects if each not in here]}})
        return {"Errors": [{"Key": each["Key"], "Code": "AccessDenied", "Message": "no"} for each in here]}

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "_call", call)
        if refused == "data":
            asked.requests.clear()
            receipt = empty_at_once(name)
            assert sum("start-after" in one for one in asked.requests) == 2, "what went is not known: all is looked at"
            assert receipt.status == "partial"
            assert "AccessDenied" in receipt.to_frame()["message"].tolist()[0]
        else:
            hint = "no collection begins here" if refused == "lock" else "empty the trash again"
            with pytest.raises(StorageError, match=f"cannot remove the key .*{refused}: AccessDenied") as error:
                empty_at_once(name)
            assert hint in str(error.value.hint)
    left = trash_of(name)
    assert [each.rpartition("/")[2] for each in left] == ["lock" if refused == "lock" else "index.json"]
    if refused == "lock":
        with pytest.raises(Busy):
            empty_at_once(name)
        return
    if refused == "data":
        storage = regnb.open_storage(f"s3://{name}")
        assert storage.resume(receipt, progress=False).status == "done"
    else:
        assert empty_at_once(name).status == "done"
    assert not trash_of(name)
    assert not plan_of(regnb.open_storage(f"s3://{name}"), "list").steps
    assert listed.steps


KILLED = """
import os, signal, sys
from aiobotocore.client import AioBaseClient
from regnb.storage import unlisted

left, real = int(sys.argv[2]), AioBaseClient._make_api_call

async def call(self, *given, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return await real(self, *given, **more)

AioBaseClient._make_api_call = call
storage = unlisted(sys.argv[1])
with storage.held():
    plan = storage.plan_empty(older_than="0")
    storage.apply(plan, confirm=plan.code, progress=False)
"""
"""Empties a trash under one lock, and dies before a request whose number it is given."""


def test_killed_before_any_request_of_one_lock(name: str, tmp_path: Path, receipts: Path) -> None:
    """The receipt goes on; where there is none yet, or it is finished, another run does it once the lock is removed."""
    storage, whole = regnb.open_storage(f"s3://{name}"), buckets.content(name)
    rows = plan_of(storage, "list").steps
    expected = {key for key in whole if not any(key.startswith(f"docker/registry/v2/{row.path}/") for row in rows)}
    step, code = 0, -signal.SIGKILL
    while code:
        fsspec.filesystem("s3").pipe({f"{name}/{key}": data for key, data in whole.items()})
        buckets.age(name, "/blobs/", 1)  # once its links are gone a blob looks older
        apply(storage, plan_of(storage, "list"))
        for path in receipts.glob("*.jsonl"):
            path.unlink()
        code = subprocess.run([sys.executable, "-c", KILLED, f"s3://{name}", str(step)], check=False).returncode
        assert expected <= buckets.content(name).keys()
        if code:
            assert code == -signal.SIGKILL
            begun = [path.stem for path in receipts.glob("*.jsonl")]
            if begun and not Receipt.load(begun[0]).finished:
                assert storage.resume(begun[0], progress=False).status == "done"
            else:
                if "lock" in trash_of(name):
                    with pytest.raises(Busy):
                        empty_at_once(name)
                    fsspec.filesystem("s3").rm_file(f"{name}/docker/registry/v2/{TRASH}/lock")
                empty_at_once(name)
        assert buckets.content(name).keys() == expected, step
        assert not trash_of(name), step
        step += 1
    assert step > 10
    with registry_of(name, tmp_path) as registry:
        for tag in ("1.0", "multi"):
            swept.pull(registry.url, swept.disk.Name("app", tag))


def test_two_at_once_empty_a_trash(name: str, listed: Sweep) -> None:
    """The second one is refused by the lock, with nothing removed twice."""
    storage = unlisted(f"s3://{name}")
    with storage.held():
        plan = storage.plan_empty(older_than="0")
        with pytest.raises(Busy, match="another collection"):
            empty_at_once(name)
        assert apply(storage, plan).status == "done"
    assert not trash_of(name)
    assert listed.steps


@pytest.mark.parametrize("place", ["versions", "copies"])
def test_a_trash_of_moved_things_is_emptied_under_one_lock(name: str, place: str, asked: Asked) -> None:
    """Nobody is asked, as no push can need it; and one request finds the runs, not one for a thousand copies."""
    storage = regnb.open_storage(f"s3://{name}")
    apply(storage, plan_of(storage, place))
    asked.requests.clear()
    receipt = empty_at_once(name)
    assert receipt.status == "done"
    assert sum("delimiter" in one for one in asked.requests) == 1
    assert sum("start-after" in one for one in asked.requests) == 1
    assert not trash_of(name)


def test_the_command_line_empties_at_once(name: str, listed: Sweep) -> None:
    """One command plans and applies; where there is nothing to do it says so, and ends well."""
    words = [sys.executable, "-m", "regnb", "trash", "empty", f"s3://{name}", "--older-than", "0", "--apply"]
    for expected in ("remove for good 1 run", "nothing to do"):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert expected in done.stdout
    assert not trash_of(name)
    assert listed.steps


@pytest.mark.parametrize("place", ["versions", "copies"])
def test_a_push_after_it_needs_what_was_hidden(name: str, place: str, tmp_path: Path) -> None:
    """Undo of a deletion works again: what it needs is brought back from the trash, and the rest stays there."""
    with registry_of(name, tmp_path) as registry, regnb.connect(registry.url) as opened:
        plan = opened.plan_delete("app:1.0")
        deletion = opened.apply(plan, confirm=plan.code)
    storage = regnb.open_storage(f"s3://{name}")
    apply(storage, plan_of(storage, place))
    size = int(storage.trash()["size"].sum())
    with registry, regnb.connect(registry.url) as opened:
        undo = opened.plan_undo(deletion, storage=storage)
        assert opened.apply(undo, confirm=undo.code, storage=storage).status == "done"
        swept.pull(registry.url, swept.disk.Name("app", "1.0"))
    assert 0 < int(storage.trash()["size"].sum()) < size


def test_who_may_not_remove_versions_unlocks_the_bucket(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket with versions a collection needs no right to remove any; its lock is hidden then."""
    real = Bucket._call

    def call(self: Bucket, method: str, **given: Any) -> Any:
        if "VersionId" in given:
            raise PermissionError
        return real(self, method, **given)

    monkeypatch.setattr(Bucket, "_call", call)
    storage = regnb.open_storage(f"s3://{name}")
    assert apply(storage, plan_of(storage, "versions")).status == "done"
    assert not [key for key in fsspec.filesystem("s3").find(name) if key.endswith("/lock")]


def test_two_collections_of_a_bucket(name: str, receipts: Path) -> None:
    """The second one is refused by a lock in the bucket; one that was killed is resumed, and unlocks it."""
    storage = regnb.open_storage(f"s3://{name}")
    plan = plan_of(storage, "copies")
    with storage._place(plan), pytest.raises(Busy, match="another collection"):
        apply(storage, plan_of(storage, "copies", allow=["writer"]))
    killed = """
import os, signal, sys
from regnb.change.collect import bucket
from regnb.storage import open_storage
from regnb.change.sweep import Sweep

left, real = int(sys.argv[3]), bucket.Bucket._call

def call(self, method, **given):
    global left
    if method not in ("list_object_versions", "get_bucket_versioning"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return real(self, method, **given)

bucket.Bucket._call = call
plan = Sweep.load(sys.argv[2])
open_storage(sys.argv[1]).apply(plan, confirm=plan.code, progress=False)
"""
    path = receipts / "plan.json"
    receipts.mkdir(exist_ok=True)
    plan.save(path)
    before = buckets.content(name)
    done = subprocess.run([sys.executable, "-c", killed, f"s3://{name}", path, "9"], check=False)
    assert done.returncode < 0
    with pytest.raises(Busy):
        apply(storage, plan_of(storage, "copies", allow=["writer"]))
    (receipt,) = path.parent.glob("*.jsonl")
    assert storage.resume(receipt.stem, progress=False).status == "done"
    assert not plan_of(storage, "copies").steps
    assert apply(storage, storage.plan_restore(receipt.stem)).status == "done"
    assert buckets.content(name) == before


@pytest.mark.parametrize("place", ["versions", "list"])
def test_multipart_uploads(name: str, place: str) -> None:
    """What a client sent in parts is in no listing: it goes with its upload, once the trash is emptied."""
    fs = fsspec.filesystem("s3")
    key = "docker/registry/v2/repositories/app/_uploads/parts/data"
    upload = fs.call_s3("create_multipart_upload", Bucket=name, Key=key)["UploadId"]
    fs.call_s3("upload_part", Bucket=name, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 300)
    storage = regnb.open_storage(f"s3://{name}")
    plan = plan_of(storage, place)
    assert [(row.reference, row.size) for row in plan.steps if row.reference == "parts"] == [("parts", 300)]
    apply(storage, plan)
    assert fs.call_s3("list_multipart_uploads", Bucket=name).get("Uploads")
    assert empty(storage).status == "done"
    assert not fs.call_s3("list_multipart_uploads", Bucket=name).get("Uploads")


def test_other_places_are_refused(name: str) -> None:
    """A file system of fsspec that is not a bucket; copies of a folder."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/registry/docker/registry/v2/repositories/app/_layers/x", b"")
    with pytest.raises(StorageError, match="neither"):
        regnb.open_storage("memory://registry").plan_collect()

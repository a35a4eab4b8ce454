"""Undo: every receipt's changes are taken back to the byte, and what others changed since is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Seeded
from images import Image, ask, fill, image, index, layer

import regnb
from regnb.change.journal import Journal, Outcome, Receipt
from regnb.change.plan import Plan, Step
from regnb.errors import NotFound, PlanMismatch
from regnb.oci.manifest import RawManifest
from regnb.oci.reference import Digest
from regnb.registry import Registry

WHERE = "undo/app"
OLD, NEW, OTHER = (image([layer(name, 500)]) for name in ("old", "new", "other"))
ARM, AMD = image([layer("arm", 400)]), image([layer("amd", 400)])
MULTI = index([(ARM, "linux/arm64"), (AMD, "linux/amd64")])


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


@pytest.fixture
def registry(writable: Seeded) -> Iterator[Registry]:
    fill(
        writable.url,
        (WHERE, "old", OLD), (WHERE, "alias", OLD), (WHERE, "new", NEW), (WHERE, "other", OTHER),
        (WHERE, "multi", MULTI),
    )  # fmt: skip
    with regnb.connect(writable.url, cache=False) as found:
        yield found


def state(registry: Registry, where: str = WHERE) -> dict[str, Digest]:
    return {tag: registry.digest(f"{where}:{tag}") for tag in registry.tags(where)["tag"]}


def step(action: str, what: Image, tag: str = "", **more: object) -> Step:
    known = {"action": action, "repository": WHERE, "tag": tag, "media_type": what.media_type, "source": WHERE}
    known |= {"after": str(what.digest)} if action in ("tag", "put") else {"before": str(what.digest)}
    return Step(**(known | more))  # type: ignore[arg-type]


def apply(registry: Registry, *steps: Step) -> Receipt:
    plan = Plan(operation="request", url=f"http://{registry.host}", steps=steps, allow=("dummy",))
    return registry.apply(plan, confirm=plan.code, progress=False)


def undo(registry: Registry, receipt: Receipt) -> Receipt:
    plan = registry.plan_undo(receipt, allow=["dummy"])
    return registry.apply(plan, confirm=plan.code, progress=False)


CASES = {
    "a new tag": [step("tag", OLD, "fresh")],
    "a moved tag": [step("tag", NEW, "old", before=str(OLD.digest))],
    "a removed tag with a sibling": [step("untag", OLD, "alias")],
    "a removed tag without one": [step("untag", NEW, "new")],
    "a manifest with its tags": [step("delete", OLD, tags=("alias", "old"))],
    "an index and its children": [
        step("delete", MULTI, tags=("multi",)), step("delete", ARM, needs=(0,)), step("delete", AMD, needs=(0,)),
    ],
    "everything at once": [
        step("tag", NEW, "fresh"), step("tag", OTHER, "new", before=str(NEW.digest)),
        step("untag", OLD, "alias"), step("delete", MULTI, tags=("multi",)), step("delete", ARM, needs=(3,)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_takes_back(name: str, registry: Registry) -> None:
    """Whatever a plan changed is as before after its undo, children of indexes included, and the undo can be undone."""
    before = state(registry)
    receipt = apply(registry, *CASES[name])
    assert receipt.status == "done", receipt.to_frame()["message"].tolist()
    after = state(registry)
    assert after != before
    back = undo(registry, receipt)
    assert back.status == "done", back.to_frame()["message"].tolist()
    assert state(registry) == before
    for what in (OLD, NEW, OTHER, MULTI, ARM, AMD):
        assert registry.manifest(f"{WHERE}@{what.digest}").raw == what.data
    forth = undo(registry, back)
    assert forth.status == "done", forth.to_frame()["message"].tolist()
    assert state(registry) == after


def test_a_copy_is_taken_back_whole(registry: Registry) -> None:
    """What was new in the repository goes with its tags; the tag of what was there before goes alone."""
    before = registry.catalog()["repository"].tolist()
    plan = registry.plan_copy([f"{WHERE}:multi", f"{WHERE}:old"], "undo/copied")
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    assert state(registry, "undo/copied") == {"multi": MULTI.digest, "old": OLD.digest}
    assert undo(registry, receipt).status == "done"
    for what in (MULTI, ARM, AMD, OLD):
        with pytest.raises(regnb.RegnbError):
            registry.manifest(f"undo/copied@{what.digest}")
    assert set(before) <= set(registry.catalog()["repository"])
    assert state(registry)["multi"] == MULTI.digest


def test_what_an_index_needs_by_now_stays(writable: Seeded, registry: Registry) -> None:
    """A manifest that was copied in, and that an index of someone else lists since, only loses its tag."""
    plan = registry.plan_copy(f"{WHERE}:old", "undo/copied")
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    fill(writable.url, ("undo/copied", "since", index([(OLD, "linux/amd64")])))
    assert undo(registry, receipt).status == "done"
    assert set(state(registry, "undo/copied")) == {"since"}
    assert registry.manifest(f"undo/copied@{OLD.digest}").raw == OLD.data


def test_what_others_changed_since_is_left_alone(writable: Seeded, registry: Registry) -> None:
    """A tag that was set anew after the receipt keeps what it has, and the plan says so."""
    receipt = apply(
        registry, step("tag", OLD, "fresh"), step("untag", OLD, "alias"), step("delete", NEW, tags=("new",))
    )
    fill(writable.url, *((WHERE, tag, OTHER) for tag in ("fresh", "alias", "new")))
    plan = registry.plan_undo(receipt)
    assert plan.changes == 0
    assert {row.tag: row.reason for row in plan.steps} == {
        tag: f"{tag} was set to something else since" for tag in ("fresh", "alias", "new")
    }
    assert any("nothing to take back" in note for note in plan.notes)


def test_what_others_had_done_already_is_left_alone(writable: Seeded, registry: Registry) -> None:
    """A copy that someone else had made before the plan was applied is not the receipt's to take back."""
    plan = registry.plan_copy(f"{WHERE}:old", "undo/copied")
    fill(writable.url, ("undo/copied", "old", OLD))
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    assert receipt.status == "done"
    assert registry.plan_undo(receipt).changes == 0


def test_a_child_comes_back_although_its_tag_is_taken(writable: Seeded, registry: Registry) -> None:
    """What an index needs is put back under its digest where its own tag was set to something else since."""
    fill(writable.url, (WHERE, "arm", ARM))
    plan = registry.plan_delete([f"{WHERE}:multi", f"{WHERE}:arm"])
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    fill(writable.url, (WHERE, "arm", OTHER))
    assert undo(registry, receipt).status == "done"
    assert state(registry)["arm"] == OTHER.digest
    assert len(registry.layers(f"{WHERE}:multi")) == len(MULTI.children)


def test_an_index_comes_back_after_its_child(registry: Registry) -> None:
    """Where a child was deleted before the index's tags went, it is put back before them."""
    fill(f"http://{registry.host}", (WHERE, "multi-2", MULTI))
    before = state(registry)
    plan = registry.plan_delete([f"{WHERE}@{ARM.digest}", f"{WHERE}:multi"], allow=["parents", "dummy"])
    actions = [step.action for step in plan.steps if step.writes]
    assert actions == ["delete", "untag"]
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    assert receipt.status == "done"
    assert undo(registry, receipt).status == "done"
    assert state(registry) == before


def test_the_undo_of_an_undo_leaves_nothing_behind(registry: Registry) -> None:
    """A manifest that was deleted, put back and is deleted again goes whole, without a dummy manifest."""
    plan = registry.plan_delete(f"{WHERE}:multi")
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    again = registry.plan_undo(undo(registry, receipt))
    assert [row.action for row in again.steps] == ["delete"] * 3
    assert registry.apply(again, confirm=again.code, progress=False).status == "done"
    for what in (MULTI, ARM, AMD):
        with pytest.raises(regnb.RegnbError):
            registry.manifest(f"{WHERE}@{what.digest}")


def test_a_malformed_manifest_comes_back(registry: Registry) -> None:
    """What distribution took although it is not a lawful manifest can be put back as it was."""
    odd = RawManifest(b'{"layers": -1}', OLD.media_type, Digest.of(b'{"layers": -1}'))
    moved = step("tag", NEW, "new", before=str(odd.digest))
    with Journal.begin(Plan(operation="request", url=f"http://{registry.host}", steps=(moved,))) as journal:
        journal.keep(odd, WHERE)
        journal.record(Outcome(0, "done", odd.digest, NEW.digest))
    plan = registry.plan_undo(journal.path)
    assert plan.steps[0].after == odd.digest
    assert plan.content(odd.digest) == odd.data


def test_an_interrupted_removal_is_taken_back(writable: Seeded, registry: Registry) -> None:
    """A process that died while a dummy manifest held the tag: the tag comes back, the dummy goes."""
    plan = Plan(operation="request", url=writable.url, steps=(step("untag", OLD, "alias"),), allow=("dummy",))
    dummy = Image(plan.dummy(0), "application/vnd.oci.image.index.v1+json")
    journal = Journal.begin(plan)
    journal.keep(ask(writable.url, lambda client: client.manifest(WHERE, "alias")), WHERE)
    journal.intend([0])
    journal.start(0)
    fill(writable.url, (WHERE, "alias", dummy))
    journal.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    before = state(registry) | {"alias": OLD.digest}
    back = undo(registry, Receipt.load(journal.path))
    assert back.status == "done", back.to_frame()["message"].tolist()
    assert state(registry) == before
    with pytest.raises(regnb.RegnbError):
        registry.manifest(f"{WHERE}@{dummy.digest}")


def test_nothing_is_planned_for_what_did_not_happen(registry: Registry) -> None:
    """Steps that were stale or skipped are not taken back."""
    receipt = apply(registry, step("untag", OTHER, "alias"), step("tag", OTHER, "fresh", needs=(0,)))
    assert receipt.status == "partial"
    assert registry.plan_undo(receipt).steps == ()


def test_a_receipt_of_another_registry_is_refused(registry: Registry, tmp_path: Path) -> None:
    with Journal.begin(Plan(operation="request", url="http://elsewhere:5000", steps=())) as journal:
        journal.record(Outcome(0, "done"))
    with pytest.raises(PlanMismatch, match="elsewhere:5000"):
        registry.plan_undo(Receipt.load(journal.path))


def test_after_a_garbage_collection_it_says_that_it_is_too_late(writable: Seeded, registry: Registry) -> None:
    """Where the layers are gone, nothing is put back that could not be pulled."""
    receipt = apply(registry, step("delete", NEW, tags=("new",)))
    for data in NEW.blobs:
        digest = Digest.of(data)
        path = writable.root / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"
        path.unlink()
    back = undo(registry, receipt)
    assert back.status == "partial"
    assert "garbage collection" in back.to_frame()["message"][0]
    assert "new" not in state(registry)


def test_planning_it_sends_no_write(registry: Registry) -> None:
    receipt = apply(registry, *CASES["everything at once"])
    exchanges = registry._client.transport.exchanges
    exchanges.clear()
    registry.plan_undo(receipt)
    assert {exchange.method for exchange in exchanges} <= {"GET", "HEAD"}


def test_a_new_manifest_goes_once_its_tag_points_back(registry: Registry) -> None:
    """Where a copy moved a tag to an index that was not there, the index and its children go with the undo."""
    fill(f"http://{registry.host}", ("undo/to", "latest", OTHER))
    plan = registry.plan_copy(f"{WHERE}:multi", "undo/to:latest", allow=["overwrite"])
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    assert receipt.status == "done"
    assert undo(registry, receipt).status == "done"
    assert state(registry, "undo/to") == {"latest": OTHER.digest}
    for what in (MULTI, ARM, AMD):
        with pytest.raises(NotFound):
            registry.manifest(f"undo/to@{what.digest}")

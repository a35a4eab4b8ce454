"""A collection of a storage: nothing that a tag needs is touched, and undo gives back every byte.

Debian's docker-registry is the judge: it serves what is left, and its own collection finds nothing more of what was
planned.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import Request, urlopen

import pytest
import scripted
import swept
from collected import Grown, copied
from conftest import need
from distribution import Distribution, free_port
from images import Image, ask, config, descriptor, image, index, layer, push
from images import regnb as run
from msgspec import structs
from scripted import Reply

import regnb
from regnb import session, storage
from regnb.change import sweep
from regnb.change.collect import basis, pushers
from regnb.change.collect.planning import seconds
from regnb.change.collect.trash import Trash
from regnb.change.journal import Receipt, receipts
from regnb.change.sweep import Row, Sweep
from regnb.crawl.references import references
from regnb.errors import Busy, InvalidArgument, PlanMismatch, Refused, StorageError
from regnb.oci.reference import Digest
from regnb.storage import Storage
from regnb.text import human
from regnb.wire.client import Client

READERS = 32
ROUNDS = int(os.environ.get("REGNB_TESTS_COLLECTIONS", "15"))


@pytest.fixture(autouse=True)
def receipts_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


def some(number: int, *more: bytes) -> Image:
    return image([layer(number, 1000 + number), *more], about=config(n=number))


@pytest.fixture
def old(real: Distribution) -> Distribution:
    """A stopped registry, three days old: two tags, and an image that was deleted."""

    async def fill(client: Client) -> None:
        await push(client, "app", "1.0", some(1))
        await push(client, "app", "2.0", some(2))
        await push(client, "app", "gone", some(3))
        await client.delete_manifest("app", Digest.of(some(3).data))

    ask(real.url, fill)
    real.stop()
    swept.age(real.root, 3)
    return real


def kinds(plan: Sweep) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in plan.steps:
        found[row.kind] = found.get(row.kind, 0) + 1
    return found


def test_dates_of_rows_compare_as_their_texts_do(old: Distribution) -> None:
    """Whether something was written again since is read off these texts: a whole second is as long as a part of one."""
    data = sorted((old.root / "docker/registry/v2/blobs").rglob("data"))
    for number, path in enumerate(data):
        os.utime(path, (1_700_000_000 + number / 2,) * 2)
    for path in (old.root / "docker/registry/v2/repositories").rglob("link"):
        os.utime(path, (1_600_000_000,) * 2)
    rows = [row for row in swept.storage(old).plan_collect(grace="0", endpoints=[old.url]).steps if row.kind == "blob"]
    assert len(rows) > 2
    for row in rows:
        when = (old.root / "docker/registry/v2" / row.path / "data").stat().st_mtime
        assert row.youngest == datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds")


def test_a_deleted_image_is_moved_and_comes_back(old: Distribution) -> None:
    """Its blobs and links go into the trash, the real collection finds nothing more, and undo gives the same tree."""
    before = swept.tree(old.root)
    expected = swept.eligible(old)
    plan = swept.storage(old).plan_collect(endpoints=[old.url])
    assert kinds(plan) == {"layer link": 2, "blob": 3}
    assert swept.digests(plan) == expected
    assert swept.tree(old.root) == before, "a plan writes nothing"
    receipt = swept.collect(old, plan)
    assert receipt.status == "done"
    assert receipt.figures is not None
    assert receipt.figures.moved == plan.size
    assert receipt.figures.emptied == 0
    assert swept.eligible(old) == set()
    assert {str(name) for name in swept.whole(old.root)} == {"app:1.0", "app:2.0"}
    assert swept.storage(old).trash()["size"].tolist() == [plan.size]
    restore = swept.storage(old).plan_restore(receipt)
    assert swept.collect(old, restore).status == "done"
    assert swept.tree(old.root) == before


def test_without_a_trash_the_bytes_are_gone(old: Distribution) -> None:
    """What is moved is removed at the end, nothing of a trash is left, and the receipt says how much."""
    plan = swept.storage(old).plan_collect(endpoints=[old.url], trash=False)
    receipt = swept.collect(old, plan)
    assert receipt.figures is not None
    assert receipt.figures.emptied == plan.size
    assert not (old.root / "docker/registry/v2" / sweep.TRASH).exists()
    assert swept.eligible(old) == set()


def test_the_trash_is_emptied_by_a_plan(old: Distribution) -> None:
    """Only what is old enough goes, and afterwards it cannot be put back."""
    receipt = swept.collect(old)
    here = swept.storage(old)
    assert here.plan_empty(older_than="7d").steps == ()
    plan = here.plan_empty(older_than="0")
    assert kinds(plan) == {"run": 1}
    assert swept.collect(old, plan).status == "done"
    assert here.trash().empty
    with pytest.raises(PlanMismatch):
        here.plan_restore(receipt)


def test_a_removal_that_was_cut_short_is_shown_and_goes_on(old: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed removal left is listed, however young; it cannot be put back, and the next removal takes it."""
    receipt, here = swept.collect(old), swept.storage(old)
    real_unlink, left = os.unlink, iter(range(4))

    def unlink(*given: Any, **more: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        real_unlink(*given, **more)

    plan = here.plan_empty(older_than="0")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            swept.collect(old, plan)
    files = [path for path in (old.root / "docker/registry/v2" / sweep.TRASH).rglob("*") if path.is_file()]
    assert files
    assert here.trash()["size"].tolist() == [sum(path.stat().st_size for path in files)]
    with pytest.raises(PlanMismatch, match="was begun and cut short"):
        here.plan_restore(receipt)
    rest = here.plan_empty(older_than="7d")
    assert "cut short" in rest.steps[0].reason
    assert swept.collect(old, rest).status == "done"
    assert not (old.root / "docker/registry/v2" / sweep.TRASH).exists()


@pytest.mark.parametrize("folder", ["blobs", "repositories/app/_layers", "repositories/app/_manifests/revisions"])
def test_what_is_needed_again_is_not_removed(old: Distribution, folder: str) -> None:
    """A link, a manifest's or a blob that a tag needs and only the trash has: the run stays, and is put back."""
    swept.collect(old)
    here, base = swept.storage(old), old.root / "docker/registry/v2"
    (run,) = here.trash()["run"]
    digest = Digest.of(some(1).data if "revisions" in folder else layer(1, 1001)).hex
    path = f"{folder}/sha256/{digest[:2]}/{digest}" if folder == "blobs" else f"{folder}/sha256/{digest}"
    (base / sweep.TRASH / run / path).parent.mkdir(parents=True, exist_ok=True)
    (base / path).rename(base / sweep.TRASH / run / path)
    plan = here.plan_empty(older_than="0")
    assert plan.steps == ()
    assert plan.blast["message"].tolist() == [
        f"1 thing in this run of the trash is needed again; put it back: regnb trash restore {old.root} {run}"
    ]
    assert {*plan.effects} <= {*here.plan_collect().effects}, "a collection names it, too"
    assert swept.collect(old, here.plan_restore(run)).status == "done"
    assert len(swept.whole(old.root)) == 2


def test_a_trash_from_the_future_is_emptied(old: Distribution) -> None:
    """The clock was set back since: 0 means everything, and any other age keeps it and says so."""
    swept.collect(old)
    here, trash = swept.storage(old), old.root / "docker/registry/v2" / sweep.TRASH
    (run,) = here.trash()["run"]
    (trash / run).rename(trash / f"2999{run[4:]}")
    assert here.plan_empty(older_than="1m").steps == ()
    assert "Not old enough yet, and kept: 1 run" in here.plan_empty(older_than="1m").notes[-1]
    assert len(here.plan_empty(older_than="0").steps) == 1


def test_what_is_young_stays(old: Distribution) -> None:
    """A blob whose bytes are old and whose one link is young is spared: somebody has just pushed it again."""
    gone = Digest.of(layer(3, 1003))
    link = old.root / f"docker/registry/v2/repositories/app/_layers/sha256/{gone.hex}/link"
    size = human(swept.storage(old).plan_collect().size)
    os.utime(link)
    plan = swept.storage(old).plan_collect(endpoints=[old.url])
    assert str(gone) not in swept.digests(plan)
    assert kinds(plan) == {"layer link": 1, "blob": 2}
    later = swept.storage(old).plan_collect(endpoints=[old.url], grace="4d")
    assert later.steps == ()
    assert later.notes == (
        f"Left alone: 5 things ({size}) that nothing needs, written less than 4 days ago (the plan's grace).",
    )
    swept.age(old.root, -2)
    assert "dated in the future" in swept.storage(old).plan_collect(endpoints=[old.url], grace="0").notes[0]


def test_a_plan_made_on_another_state_is_refused(old: Distribution) -> None:
    """A push between plan and application that needs a planned blob ends it before anything is moved."""
    plan = swept.storage(old).plan_collect(endpoints=[old.url], allow=["writer"])
    with old:
        ask(old.url, lambda client: push(client, "app", "again", some(3)))
        before = swept.tree(old.root)
        with pytest.raises(PlanMismatch, match="not as this plan was made on"):
            swept.collect(old, plan)
    assert swept.tree(old.root) == before
    assert not list(Path(os.environ["REGNB_RECEIPTS"]).glob("*.jsonl")), "nothing was begun"


def test_a_registry_that_takes_pushes_is_refused(old: Distribution) -> None:
    """Writable, or not named: refused. Read-only, or stopped: done. With the allowance it is done while it runs."""
    here = swept.storage(old)
    unnamed = here.plan_collect()
    with pytest.raises(InvalidArgument, match="has credentials, and a plan keeps none") as error:
        here.plan_collect(endpoints=["http://me:s3cret@127.0.0.1:5000"])
    assert "s3cret" not in str(error.value)
    with pytest.raises(Refused, match="no endpoint"):
        here.apply(unnamed, confirm=unnamed.code)
    plan = here.plan_collect(endpoints=[old.url])
    with old:
        with pytest.raises(Refused, match="somebody can push"):
            here.apply(plan, confirm=plan.code)
        allowed = here.plan_collect(endpoints=[old.url], allow=["writer"])
        assert swept.collect(old, allowed).status == "done"


def test_a_read_only_registry_says_so_without_a_write(old: Distribution, tmp_path: Path) -> None:
    """OPTIONS proves it; what answers otherwise is not known."""
    filesystem = {"filesystem": {"rootdirectory": str(old.root)}}
    settings = {"storage": {**filesystem, "maintenance": {"readonly": {"enabled": True}}}}
    with Distribution(tmp_path / "other", config=settings) as reading:
        assert ask(reading.url, pushers.ask).pushes == "read-only"
        plan = swept.storage(old).plan_collect(endpoints=[reading.url])
        assert swept.storage(old).apply(plan, confirm=plan.code).status == "done"
        assert pushers.is_stopped(reading.url) is False
    assert pushers.is_stopped(reading.url)


def test_a_registry_over_another_storage_proves_nothing(old: Distribution, tmp_path: Path) -> None:
    """It is read-only and does not have an image of this storage: refused, as it says nothing about this one."""
    filesystem = {"filesystem": {"rootdirectory": str(tmp_path / "elsewhere")}}
    settings = {"storage": {**filesystem, "maintenance": {"readonly": {"enabled": True}}}}
    here, before = swept.storage(old), swept.tree(old.root)
    with Distribution(tmp_path / "other", config=settings) as other:
        plan = here.plan_collect(endpoints=[other.url])
        with pytest.raises(Refused, match="is not a registry over this storage"):
            swept.collect(old, plan)
        allowed = here.plan_collect(endpoints=[other.url], allow=["writer"])
        assert [one.pushes for one in here.check(allowed)] == ["elsewhere"]
    (stopped,) = here.check(plan)
    assert stopped.sentence.startswith(f"{other.url} refuses connections, so it counts as stopped")
    assert swept.tree(old.root) == before
    with pytest.raises(PlanMismatch, match="witness"):
        Sweep.of_json(structs.replace(plan, witness=("../x", plan.witness[1])).to_json())


def test_a_registry_that_does_not_answer_for_an_image_proves_nothing(old: Distribution) -> None:
    """It says that it is read-only, and fails when it is asked for an image of this storage: not known, so refused."""

    def answer(request: scripted.Request, _: int) -> Reply:
        headers = {"Docker-Distribution-Api-Version": "registry/2.0", "Allow": "GET, HEAD"}
        return Reply(403 if "manifests" in request.path else 200, headers, b"{}")

    with scripted.serve(answer) as server, pytest.raises(Refused, match="did not answer for app@sha256"):
        swept.collect(old, swept.storage(old).plan_collect(endpoints=[server.url]))


def test_a_folder_named_by_a_url_is_a_folder(old: Distribution) -> None:
    """All three figures are said of it, as of a path."""
    here = regnb.open_storage(f"file://{old.root}")
    plan = here.plan_collect(endpoints=[old.url])
    receipt = here.apply(plan, confirm=plan.code, progress=False)
    assert receipt.figures is not None
    assert "free than before" in plan.result(*structs.astuple(receipt.figures))


def test_two_collections_at_once(old: Distribution) -> None:
    """The second one is refused, and leaves no receipt."""
    with Trash(f"{old.root}/docker/registry/v2"), pytest.raises(Busy, match="another collection"):
        swept.collect(old)
    assert swept.collect(old).status == "done"


def test_no_symbolic_link_is_followed(old: Distribution, tmp_path: Path) -> None:
    """Where a folder was replaced by a link to another place, that place is not touched."""
    plan = swept.storage(old).plan_collect(endpoints=[old.url])
    row = next(row for row in plan.steps if row.kind == "blob")
    folder = old.root / "docker/registry/v2" / row.path
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    receipt = swept.collect(old, plan)
    assert receipt.status == "partial"
    assert (elsewhere / "data").exists()
    assert folder.is_symlink()


@pytest.mark.parametrize("folder", ["blobs", "repositories", sweep.TRASH])
def test_a_link_to_another_disk_is_refused_before_anything_is_moved(
    old: Distribution, folder: str, tmp_path: Path
) -> None:
    """The blobs, the repositories or the trash lie elsewhere, and a symbolic link leads there: no folder is moved."""
    plan, place = swept.storage(old).plan_collect(endpoints=[old.url]), old.root / "docker/registry/v2" / folder
    (tmp_path / "elsewhere").mkdir()
    if place.exists():
        place.rename(tmp_path / "elsewhere" / folder)
    place.symlink_to(tmp_path / "elsewhere" / (folder if folder != sweep.TRASH else ""))
    before = swept.tree(old.root)
    with pytest.raises(Refused, match="nothing can be moved") as error:
        swept.collect(old, plan)
    assert "symbolic link" in error.value.hint
    assert swept.tree(old.root) == before
    assert not list(Path(os.environ["REGNB_RECEIPTS"]).glob("*.jsonl")), "nothing was begun"


@pytest.mark.parametrize(
    "row",
    [
        Row(kind="blob", reference="sha256:../../../etc"),
        Row(kind="upload", repository="app", reference=".."),
        Row(kind="upload", repository="../../x", reference="1"),
        Row(kind="layer link", repository="app/../..", reference=str(Digest.of(b""))),
        Row(kind="tag history", repository="app", tag="../x", reference=str(Digest.of(b""))),
        Row(kind="run", reference="../../blobs"),
        Row(kind="blob", repository="app", reference=str(Digest.of(b""))),
    ],
)
def test_a_plan_cannot_name_anything_else(row: Row) -> None:
    """A row whose names lead out of where a registry keeps such things makes the whole plan malformed."""
    with pytest.raises(PlanMismatch):
        Sweep.of_json(Sweep(operation="empty" if row.kind == "run" else "collect", url="/srv", steps=(row,)).to_json())


@pytest.mark.parametrize("text", ["", "1", "1y", "-1d", "1.5h", "\u0663d", "9999999d"])
def test_what_is_no_age(text: str) -> None:
    """Only a number with m, h, d or w is an age."""
    with pytest.raises(InvalidArgument):
        seconds(text)


def test_uploads_and_histories(old: Distribution) -> None:
    """An upload that was given up goes by its youngest file; a tag keeps the newest of its history."""
    with old:

        async def more(client: Client) -> None:
            for number in range(4, 8):
                await push(client, "app", "1.0", some(number))
            upload = await client.uploads.start_upload("app")
            await client.uploads.upload_chunk(upload, b"x" * 100)

        ask(old.url, more)
    swept.age(old.root, 30)
    before = swept.tree(old.root)
    here = swept.storage(old)
    assert "upload" not in kinds(here.plan_collect(endpoints=[old.url], uploads_older_than="60d"))
    plan = here.plan_collect(endpoints=[old.url], tag_history=1)
    assert kinds(plan)["upload"] == 1
    assert kinds(plan)["tag history"] == 3
    assert "upload" not in kinds(here.plan_collect(allow=["writer"]))
    receipt = swept.collect(old, plan)
    assert receipt.status == "done"
    assert not list(old.root.glob("docker/registry/v2/repositories/**/_uploads/*"))
    assert {str(name) for name in swept.whole(old.root)} == {"app:1.0", "app:2.0"}
    swept.collect(old, here.plan_restore(receipt))
    assert swept.tree(old.root) == before


def test_untagged_manifests_go_and_what_is_needed_stays(old: Distribution) -> None:
    """Children of a tagged index, and what speaks about a tagged image, are untagged and stay."""
    child, referrer, lonely = (
        some(11),
        image([layer("sbom", 50)], subject=descriptor(some(1).media_type, some(1).data)),
        some(13),
    )
    multi = index([(child, "linux/amd64"), (some(12), "linux/arm64")])
    with old:

        async def more(client: Client) -> None:
            await push(client, "app", "multi", multi)
            await push(client, "app", referrer.digest, referrer)
            await push(client, "app", lonely.digest, lonely)

        ask(old.url, more)
    swept.age(old.root, 3)
    plan = swept.storage(old).plan_collect(endpoints=[old.url], untagged=True)
    assert [row.reference for row in plan.steps if row.kind == "revision"] == [lonely.digest]
    assert {row.reference for row in plan.steps if row.kind == "manifest"} == {lonely.digest}
    assert any("Harbor" in note for note in plan.notes), "its files do not say that they are Harbor's"
    assert swept.collect(old, plan).status == "done"
    assert {str(name) for name in swept.whole(old.root)} == {"app:1.0", "app:2.0", "app:multi"}


def test_undo_of_a_deletion_works_after_a_collection(real: Distribution) -> None:
    """What undo needs comes back from the trash first: layers with their links, and children of an index."""
    multi = index([(some(21), "linux/amd64"), (some(22), "linux/arm64")])
    ask(real.url, lambda client: push(client, "app", "multi", multi))
    with regnb.connect(real.url) as registry:
        plan = registry.plan_delete("app:multi")
        deletion = registry.apply(plan, confirm=plan.code)
    before = swept.whole(real.root)
    real.stop()
    swept.age(real.root, 3)
    run = swept.collect(real, swept.storage(real).plan_collect(endpoints=[real.url], untagged=True, allow=["undo"]))
    (effect,) = swept.storage(real).plan_empty(older_than="0").effects
    assert (effect.effect, effect.reference) == ("undo", run.name)
    assert effect.message.startswith(f"undo of {deletion.name} needs ")
    with real, regnb.connect(real.url) as registry:
        plain = registry.plan_undo(deletion)
        failed = registry.apply(plain, confirm=plain.code)
        assert failed.status == "partial", "the layers are gone"
        assert "undo with that storage (--storage DIR)" in "".join(failed.to_frame()["message"])
        here = swept.storage(real)
        undo = registry.plan_undo(deletion, storage=here)
        with pytest.raises(Refused, match="lie in a trash"):
            registry.apply(undo, confirm=undo.code)
        assert registry.apply(undo, confirm=undo.code, storage=here).status == "done"
    assert here.plan_empty(older_than="0").effects == ()
    assert before == {}
    assert {str(name) for name in swept.whole(real.root)} == {"app:multi"}


def test_the_command_that_applies_such_an_undo_is_printed_whole(real: Distribution, tmp_path: Path) -> None:
    """What is printed to apply a plan can be run as it stands: it names the storage whose trash has the layers."""
    ask(real.url, lambda client: push(client, "app", "1.0", some(21)))
    with regnb.connect(real.url) as registry:
        plan = registry.plan_delete("app:1.0")
        deletion = registry.apply(plan, confirm=plan.code)
    real.stop()
    swept.age(real.root, 3)
    swept.collect(real)
    receipts_here = {"REGNB_RECEIPTS": os.environ["REGNB_RECEIPTS"]}
    with real:
        plan_file = str(tmp_path / "plain.json")
        made = run(tmp_path, "undo", deletion.name, "--plan-out", plan_file, **receipts_here)
        done = run(tmp_path, *shlex.split(made.stderr.partition("To apply it: regnb ")[2]), **receipts_here)
        assert done.returncode == 4, "the layers are gone"
        assert "To retry the rows that were not done, once the cause is removed: regnb apply --resume " in done.stdout
        made = run(
            tmp_path, "undo", deletion.name, "--storage", str(real.root), "--plan-out", str(tmp_path / "undo.json"),
            **receipts_here,
        )  # fmt: skip
        _, _, command = made.stderr.partition("To apply it: regnb ")
        done = run(tmp_path, *shlex.split(command), **receipts_here)
    assert (done.returncode, done.stderr) == (0, "")
    assert {str(name) for name in swept.whole(real.root)} == {"app:1.0"}


def test_what_undo_needs_is_spared_and_named(real: Distribution) -> None:
    """An index was deleted, and its children stayed without a tag: they go only if that is allowed."""
    multi = index([(some(21), "linux/amd64")])
    ask(real.url, lambda client: push(client, "app", "multi", multi))
    with regnb.connect(real.url) as registry:
        plan = registry.plan_delete("app:multi", children=False)
        deletion = registry.apply(plan, confirm=plan.code)
    real.stop()
    swept.age(real.root, 3)
    here = swept.storage(real)
    spared = here.plan_collect(endpoints=[real.url], untagged=True)
    assert "revision" not in kinds(spared)
    assert [(one.effect, one.reference) for one in spared.effects] == [("undo", str(some(21).digest))]
    assert deletion.name in spared.effects[0].message
    assert kinds(here.plan_collect(untagged=True, allow=["undo"]))["revision"] == 1


def play(registry: Grown, round_: int, copies: int = 100) -> None:
    """Collect one random storage, ask the real registry and skopeo, and put everything back."""
    untagged = bool(round_ % 2)
    root = registry.root
    before, whole, mine = swept.tree(root), swept.whole(root), swept.storage(registry)
    judged = swept.eligible(registry)
    plan = mine.plan_collect(
        endpoints=[registry.url], untagged=untagged, tag_history=round_ % 3, uploads_older_than="1d"
    )
    if judged is not None and not untagged:
        # 2.8 does not see a repository without layers, and removes what it needs.
        unseen = (
            {one.digest for one in registry.made.values() if not one.blobs}
            if "without/layers" in registry._names
            else set()
        )
        assert swept.digests(plan) <= judged
        assert judged - swept.digests(plan) <= unseen
    receipt = swept.collect(registry, plan)
    assert receipt.status == "done"
    assert swept.whole(root) == whole
    again = swept.eligible(registry)
    assert (again is None) <= (judged is None), "its own collection still works"
    assert not (again or set()) & swept.digests(plan)
    assert not swept.digests(mine.plan_collect(untagged=untagged))
    some = registry.random.sample(sorted(whole), min(copies, len(whole)))
    with registry:
        for name in whole:
            swept.pull(registry.url, name)
        uncopied = swept.uncopied(registry.url, some, root.parent / "copied")
    if plan.steps:
        swept.collect(registry, mine.plan_restore(receipt))
    assert swept.tree(root) == before
    if uncopied:
        with registry:
            assert swept.uncopied(registry.url, uncopied, root.parent / "copied") == uncopied, "skopeo never could"


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_random_storages(round_: int, distribution_program: None, tmp_path: Path) -> None:
    """Whatever a registry holds: the real one serves every tag, skopeo copies it, and undo gives an equal tree."""
    need("skopeo", shutil.which("skopeo"), "skopeo is not installed (apt-get install skopeo)")
    play(swept.grown(tmp_path / "grown", ("collect", round_), 40), round_, copies=2)


KILLED = """
import os, signal, sys
from regnb.change.collect import trash
from regnb.storage import open_storage
from regnb.change.sweep import Sweep

left = int(sys.argv[3])
real = {name: getattr(trash.Trash, name) for name in ("move", "back", "barrier", "tidy", "empty")}

def dying(name):
    def call(self, *given):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](self, *given)
    return call

for name in real:
    setattr(trash.Trash, name, dying(name))
plan = Sweep.load(sys.argv[2])
open_storage(sys.argv[1]).apply(plan, confirm=plan.code, progress=False)
"""
"""Applies a plan, and dies before a step whose number it is given."""


def killed(registry: Distribution, plan: Sweep, folder: Path, step: int) -> bool:
    """Apply a plan in a process that is killed before one of its steps; return whether it was."""
    plan.save(folder / "plan.json")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(registry.root), str(folder / "plan.json"), str(step)], check=False
    )
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


@pytest.mark.parametrize("trash", [True, False])
def test_killed_at_any_step(old: Distribution, tmp_path: Path, trash: bool) -> None:  # noqa: FBT001 -- pytest's
    """No tag is broken by a kill, the receipt goes on, and what is in the trash then is what was planned."""
    with old:
        ask(old.url, lambda client: push(client, "app", some(31).digest, some(31)))
    swept.age(old.root, 3)
    whole = swept.whole(old.root)
    here = swept.storage(old)
    for step in (3, 8, 14):
        copy = copied(old.root, tmp_path / f"copy-{step}")
        there = regnb.open_storage(copy)
        plan = there.plan_collect(endpoints=[old.url], untagged=True, trash=trash)
        before = swept.tree(copy)
        if not killed(cast("Distribution", SimpleNamespace(root=copy)), plan, tmp_path, step):
            continue
        assert swept.whole(copy) == whole, step
        name = max(Path(os.environ["REGNB_RECEIPTS"]).glob("*.jsonl"), key=lambda path: path.stat().st_mtime).stem
        assert Receipt.load(name).status == "unfinished"
        receipt = there.resume(name, progress=False)
        assert swept.whole(copy) == whole, step
        assert not there.plan_collect(untagged=True).steps
        if trash:
            assert receipt.status == "done", step
            back = there.plan_restore(receipt)
            assert {row.path for row in back.steps} == {row.path for row in plan.steps}
            assert there.apply(back, confirm=back.code, progress=False).status == "done"
            assert swept.tree(copy) == before
        else:
            assert not (copy / "docker/registry/v2" / sweep.TRASH).exists(), step
    assert here.plan_collect(untagged=True).steps


def test_what_was_killed_goes_on_after_its_run_was_put_back(old: Distribution, tmp_path: Path) -> None:
    """The figures of the resumed collection are those of the disk: what was put back between is moved again."""
    with old:

        async def begin(client: Client) -> None:
            await client.uploads.upload_chunk(await client.uploads.start_upload("app"), b"x" * 100)

        ask(old.url, begin)
    swept.age(old.root, 30)
    here = swept.storage(old)
    plan = here.plan_collect(endpoints=[old.url])
    assert killed(old, plan, tmp_path, 4)
    (name,) = here.trash()["run"]
    assert Receipt.load(name).outcomes, "the upload is recorded as moved"
    assert swept.collect(old, here.plan_restore(name)).status == "done"
    receipt = here.resume(name, progress=False)
    assert receipt.status == "done"
    assert receipt.figures is not None
    assert receipt.figures.moved == plan.size == here.trash()["size"].sum()


def test_what_was_removed_for_good_is_not_put_back(old: Distribution, tmp_path: Path) -> None:
    """A restoration is killed, and the rest of its run is emptied: resumed, it says which rows nobody has."""
    here = swept.storage(old)
    run = swept.collect(old).name
    plan = here.plan_restore(run)
    assert killed(old, plan, tmp_path, 2)
    (name,) = [one for one in receipts()["receipt"] if one != run]
    swept.collect(old, here.plan_empty(older_than="0"))
    rows = here.resume(name, progress=False).to_frame()
    assert rows["status"].tolist() == ["done"] * 2 + ["stale"] * (len(plan.steps) - 2)
    base = old.root / "docker/registry/v2"
    assert [(base / row.path).exists() for row in plan.steps] == (rows["status"] == "done").tolist()


HELD = f"""
{KILLED.rpartition("plan = Sweep.load")[0]}
storage = open_storage(sys.argv[1])
with storage.held():
    plan = storage.plan_collect(grace="0", endpoints=["http://127.0.0.1:1"])
    storage.apply(plan, confirm=plan.code, progress=False)
"""
"""The same with a plan that is made under the lock."""


def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """How often a storage is read."""
    found: list[object] = []
    real_state = Storage._state

    def state(self: Storage, *given: Any, **more: Any) -> Any:
        found.append(given)
        return real_state(self, *given, **more)

    monkeypatch.setattr(Storage, "_state", state)
    return found


def test_planned_and_applied_under_one_lock(old: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is locked from the plan on, read once before the moves and once after, and does the same."""
    seen = looks(monkeypatch)
    here, before = swept.storage(old), swept.tree(old.root)
    expected = swept.eligible(old)
    with here.held():
        plan = here.plan_collect(endpoints=[old.url])
        with pytest.raises(Busy):
            swept.collect(old)
        del seen[1:]
        receipt = here.apply(plan, confirm=plan.code, progress=False)
        assert len(seen) == 2
        assert swept.storage(old).plan_collect(endpoints=[old.url]).steps == ()
    assert swept.digests(plan) == expected
    assert receipt.status == "done"
    assert swept.eligible(old) == set()
    assert swept.collect(old, here.plan_restore(receipt)).status == "done"
    assert swept.tree(old.root) == before


def test_a_trash_is_emptied_under_one_lock(old: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is locked from the plan on, and read once; of what lies in a trash nobody needs to be asked."""
    moved = swept.collect(old)
    seen, here = looks(monkeypatch), swept.storage(old)
    with old, here.held():
        plan = here.plan_empty(older_than="0", endpoints=[old.url])
        with pytest.raises(Busy):
            swept.collect(old, plan)
        del seen[1:]
        receipt = here.apply(plan, confirm=plan.code, progress=False)
    assert len(seen) == 1
    assert receipt.status == "done"
    assert receipt.figures is not None
    assert receipt.figures.emptied == Receipt.load(moved.name).figures.moved  # type: ignore[union-attr]
    assert not (old.root / "docker/registry/v2" / sweep.TRASH).exists()
    with here.held():
        assert here.plan_empty(older_than="0").steps == ()


def test_what_is_not_the_plan_of_a_lock_is_checked_again(old: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old plan, another one, and one that is applied after the lock: all as without it."""
    here = swept.storage(old)
    link = old.root / "docker/registry/v2" / here.plan_collect(endpoints=[old.url]).steps[0].path / "link"
    with here.held():
        plan = here.plan_collect(endpoints=[old.url])
        os.utime(link)
        monkeypatch.setattr(storage, "_FRESH", -1)
        with pytest.raises(PlanMismatch, match="rows changed"):
            here.apply(plan, confirm=plan.code, progress=False)
        monkeypatch.setattr(storage, "_FRESH", 60)
        first = here.plan_collect(endpoints=[old.url])
        last = here.plan_collect(endpoints=[old.url], grace="0")
        assert first.steps != last.steps
        assert here.apply(first, confirm=first.code, progress=False).status == "done"
    rest = here.plan_collect(grace="0", endpoints=[old.url])
    assert here.apply(rest, confirm=rest.code, progress=False).status == "done"


def test_a_lock_is_let_go_where_nothing_is_planned(old: Distribution) -> None:
    """Who can push is asked before it is read."""
    here = swept.storage(old)
    with old, here.held(), pytest.raises(Refused, match="somebody can push"):
        here.plan_collect(endpoints=[old.url])
    assert not list(Path(os.environ["REGNB_RECEIPTS"]).glob("*.jsonl"))
    assert swept.collect(old).status == "done"


def test_killed_under_one_lock(old: Distribution, tmp_path: Path) -> None:
    """The lock dies with its process, and the receipt goes on."""
    whole = swept.whole(old.root)
    for step in (2, 4):
        copy = copied(old.root, tmp_path / f"copy-{step}")
        done = subprocess.run([sys.executable, "-c", HELD, str(copy), "", str(step)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert swept.whole(copy) == whole
        name = max(Path(os.environ["REGNB_RECEIPTS"]).glob("*.jsonl"), key=lambda path: path.stat().st_mtime).stem
        assert regnb.open_storage(copy).resume(name, progress=False).status == "done"
        assert swept.whole(copy) == whole


def test_a_push_after_a_plan_under_a_lock(old: Distribution) -> None:
    """What it needs is put back by the look after the moves."""
    here = swept.storage(old)
    with old, here.held():
        plan = here.plan_collect(endpoints=[old.url], allow=["writer"])
        ask(old.url, lambda client: push(client, "app", "again", some(3)))
        receipt = here.apply(plan, confirm=plan.code, progress=False)
    assert receipt.status == "partial"
    assert "put back: a push needs it again" in set(receipt.to_frame()["message"])
    assert {str(name) for name in swept.whole(old.root)} == {"app:1.0", "app:2.0", "app:again"}


def test_a_push_during_the_moves_is_made_whole(old: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that found a blob before it was moved pushes its manifest after: the second look puts it back."""
    plan = swept.storage(old).plan_collect(endpoints=[old.url], allow=["writer"])
    again, moves = some(3), iter(range(1000))
    real_move = Trash.move

    def move(self: Trash, row: Row, run: str) -> Any:
        if next(moves) == 0:
            # What a push leaves that found everything there: the manifest, its link and the tag.
            base = old.root / "docker/registry/v2"
            digest = Digest.of(again.data)
            for path, data in (
                (f"blobs/sha256/{digest.hex[:2]}/{digest.hex}/data", again.data),
                (f"repositories/app/_manifests/revisions/sha256/{digest.hex}/link", str(digest).encode()),
                ("repositories/app/_manifests/tags/again/current/link", str(digest).encode()),
            ):
                (base / path).parent.mkdir(parents=True, exist_ok=True)
                (base / path).write_bytes(data)
        return real_move(self, row, run)

    monkeypatch.setattr(Trash, "move", move)
    with old:
        receipt = swept.collect(old, plan)
    assert receipt.status == "partial"
    assert "put back: a push needs it again" in set(receipt.to_frame()["message"])
    assert {str(name) for name in swept.whole(old.root)} == {"app:1.0", "app:2.0", "app:again"}


def test_readers_meanwhile_get_right_answers(old: Distribution) -> None:
    """While it is collected and put back, every pull of every tag from the running registry is right."""
    with old:
        for number in range(40, 60):
            ask(old.url, lambda client, one=number: push(client, "app", some(one).digest, some(one)))
    swept.age(old.root, 3)
    stop, reads = threading.Event(), [0] * READERS

    def read(reader: int) -> None:
        while not stop.is_set():
            for number in (1, 2):
                what = some(number)
                for path in (f"manifests/{number}.0", *(f"blobs/{Digest.of(blob)}" for blob in what.blobs)):
                    request = Request(f"{old.url}/v2/app/{path}", headers={"Accept": what.media_type})  # noqa: S310 -- as below
                    with urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
                        assert answer.read() in {what.data, *what.blobs}
                    reads[reader] += 1

    here = swept.storage(old)
    with old, ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read, number) for number in range(READERS)]
        try:
            for _ in range(3):
                plan = here.plan_collect(endpoints=[old.url], untagged=True, allow=["writer"])
                receipt = swept.collect(old, plan)
                assert receipt.status == "done"
                swept.collect(old, here.plan_restore(receipt))
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    assert min(reads) > 0


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_moved(old: Distribution, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe refuses before anything is moved; an error in the middle ends the moves, and resuming goes on."""
    plan, before = swept.storage(old).plan_collect(endpoints=[old.url]), swept.tree(old.root)
    real_rename, calls = os.rename, iter(range(1000))

    def rename(at: int) -> Callable[..., None]:
        def call(*given: Any, **more: Any) -> None:
            if next(calls) >= at:
                raise OSError(code, os.strerror(code))
            real_rename(*given, **more)

        return call

    monkeypatch.setattr(os, "rename", rename(0))
    with pytest.raises(Refused, match="nothing can be moved"):
        swept.collect(old, plan)
    assert swept.tree(old.root) == before
    calls = iter(range(1000))
    monkeypatch.setattr(os, "rename", rename(4))
    receipt = swept.collect(old, plan)
    assert receipt.status == "partial"
    assert {"done", "failed", "skipped"} == set(receipt.to_frame()["status"])
    monkeypatch.setattr(os, "rename", real_rename)
    assert swept.storage(old).resume(receipt, progress=False).status == "done"
    assert {str(name) for name in swept.whole(old.root)} == {"app:1.0", "app:2.0"}


def test_mirrors_and_foreign_registries_are_refused(old: Distribution) -> None:
    """A pull-through cache by its file, GitLab's by its marker, Harbor by how it asks for a token."""
    with scripted.serve(harbor) as server:
        plan = swept.storage(old).plan_collect(endpoints=[server.url])
        with pytest.raises(Refused, match="not plain distribution"):
            swept.collect(old, plan)
    (old.root / "scheduler-state.json").write_text("{}")
    with pytest.raises(Refused, match="pull-through"):
        swept.storage(old).plan_collect()
    (old.root / "docker/registry/lockfiles").mkdir()
    (old.root / "docker/registry/lockfiles/database-in-use").touch()
    with pytest.raises(StorageError, match="database"):
        swept.storage(old)


def test_what_a_damaged_manifest_needs_is_not_known(old: Distribution) -> None:
    """Its bytes are not those that were pushed: everything that its repository has stays, as it may need that."""
    manifest = old.blob(Digest.of(some(1).data))
    for damaged in (b"", b"{}", some(1).data.replace(b"config", b"konfig")):
        manifest.write_bytes(damaged)
        swept.age(old.root, 3)
        plan = swept.storage(old).plan_collect(endpoints=[old.url], untagged=True)
        assert "layer link" not in kinds(plan)
        assert swept.digests(plan) == {str(Digest.of(some(3).data))}, "only what no repository links"


def test_what_cannot_be_read_refuses_everything(old: Distribution) -> None:
    """A manifest that is too large to be one may need anything."""
    with old.blob(Digest.of(some(1).data)).open("ab") as file:
        file.truncate(1 << 27)
    swept.age(old.root, 3)
    with pytest.raises(Refused, match="could not be read completely"):
        swept.storage(old).plan_collect(endpoints=[old.url])


def test_a_corrupt_tag_keeps_what_it_may_mean(old: Distribution) -> None:
    """With a tag whose link cannot be read no manifest of its repository is called untagged."""
    with old:
        ask(old.url, lambda client: push(client, "app", some(5).digest, some(5)))
    (old.root / "docker/registry/v2/repositories/app/_manifests/tags/1.0/current/link").write_text("sha256:12")
    swept.age(old.root, 3)
    plan = swept.storage(old).plan_collect(endpoints=[old.url], untagged=True)
    assert "revision" not in kinds(plan)
    assert ("corrupt tag", "1.0") in {(one.effect, one.reference) for one in plan.effects}


def harbor(*_: object) -> Reply:
    challenge = 'Bearer realm="https://harbor.example/service/token",service="harbor-registry"'
    return Reply(200, {"Docker-Distribution-Api-Version": "registry/2.0", "WWW-Authenticate": challenge}, b"{}")


def test_the_command_line(old: Distribution, tmp_path: Path) -> None:
    """Plan into a file, apply it, list the trash, undo it by the receipt's name, and empty the trash."""
    root, plan = str(old.root), str(tmp_path / "plan.json")

    def regnb_(*words: str, code: int = 0) -> str:
        # Sentences with the folder's name in them would be wrapped anywhere.
        done = subprocess.run(
            [sys.executable, "-m", "regnb", *words],
            capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "500"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert "move to the trash 2 layer links, 3 blobs" in regnb_(
        "collect", root, "--endpoint", old.url, "--plan-out", plan
    )
    assert "rows done" in regnb_("apply", plan, "--confirm", Sweep.load(plan).code)
    run = json.loads(regnb_("trash", "list", root, "--json"))["run"]
    shown = regnb_("receipt", "show", run)
    assert "collect in" in shown
    assert re.search(r"Moved [0-9.]+ kB, removed for good 0 B; the volume has .* free than before\.", shown)
    assert len(regnb_("undo", run, "--json").splitlines()) == 5
    assert "is about a storage, and --curl and --probe about a registry" in regnb_(
        "undo", run, "--curl", "--probe", code=1
    )
    Path(plan).unlink()
    regnb_("undo", run, "--plan-out", plan)
    back = regnb_("apply", plan, "--confirm", Sweep.load(plan).code)
    assert "5 of 5 rows done" in back
    assert re.search(r"Put back [0-9.]+ kB; the volume has .* free than before\.", back)
    (restored,) = [one for one in receipts()["receipt"] if one != run]
    with pytest.raises(PlanMismatch, match="not from a collection"):
        swept.storage(old).plan_restore(Receipt.load(restored))
    collected = swept.collect(old).name
    regnb_("trash", "restore", root, collected, "--plan-out", plan)
    assert "5 of 5 rows done" in regnb_("apply", plan, "--confirm", Sweep.load(plan).code)
    assert "nothing" in regnb_("trash", "empty", root)
    assert "There is nothing to apply in" in regnb_("trash", "empty", root, "--plan-out", plan)
    regnb_("collect", root, "--endpoint", old.url, "--no-trash", "--plan-out", plan)
    gone = regnb_("apply", plan, "--confirm", Sweep.load(plan).code)
    assert "it is stopped: it remembers nothing but what redis keeps." in gone
    assert "To put it back" not in gone


def test_the_command_line_of_a_run_that_nobody_watches(old: Distribution, tmp_path: Path) -> None:
    """One command plans and applies; it keeps no plan, and does nothing where somebody can push."""

    def regnb_(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "regnb", "collect", str(old.root), "--endpoint", old.url, "--apply", *words],
            capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "500"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    before = swept.tree(old.root)
    assert "--apply keeps no plan" in regnb_("--plan-out", str(tmp_path / "plan.json"), code=1)
    assert "--apply keeps no plan" in regnb_("--json", code=1)
    with old:
        assert "somebody can push" in regnb_(code=1)
    assert swept.tree(old.root) == before
    printed = regnb_()
    assert "move to the trash 2 layer links, 3 blobs" in printed
    assert "5 of 5 rows done" in printed
    assert swept.eligible(old) == set()
    assert "nothing to do" in regnb_()


def test_the_command_line_empties_a_trash_that_nobody_watches(old: Distribution, tmp_path: Path) -> None:
    """One command plans and applies; it keeps no plan, and says where there is nothing to do."""

    def regnb_(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "regnb", "trash", "empty", str(old.root), "--apply", *words],
            capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "500"},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    swept.collect(old)
    before = swept.tree(old.root)
    assert "--apply keeps no plan" in regnb_("--older-than", "0", "--plan-out", str(tmp_path / "plan.json"), code=1)
    assert "--apply keeps no plan" in regnb_("--older-than", "0", "--json", code=1)
    assert "nothing to do" in regnb_()
    assert swept.tree(old.root) == before
    printed = regnb_("--older-than", "0")
    assert "remove for good 1 run" in printed
    assert "1 of 1 row done" in printed
    assert not (old.root / "docker/registry/v2" / sweep.TRASH).exists()
    assert "nothing to do" in regnb_("--older-than", "0")


def test_progress_is_shown_unless_it_is_not_wanted(
    old: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--no-progress`` and ``--quiet`` hold for what changes a storage, too."""
    monkeypatch.setattr(session, "EVERY", 0.0)
    words = ["collect", str(old.root), "--endpoint", old.url, "--apply"]
    for more, shown in (["--no-progress"], False), (["--quiet"], False), ([], True):
        done = run(tmp_path, *words, *more, REGNB_RECEIPTS=os.environ["REGNB_RECEIPTS"])
        assert ("Applying: " in done.stderr) == shown, more
        storage_ = swept.storage(old)
        back = storage_.plan_restore(storage_.trash()["run"].iloc[0])
        assert storage_.apply(back, confirm=back.code).status == "done"


def test_so_much_is_to_be_free(old: Distribution) -> None:
    """What a collection alone frees is enough, or a deletion is planned beside it; more than there is is refused."""
    here = swept.storage(old)
    now = here.plan_collect(endpoints=[old.url])
    with pytest.raises(Refused, match="less than the") as error:
        here.plan_collect(endpoints=[old.url], free=str(now.size + 1))
    assert "regnb free" in error.value.hint
    with pytest.raises(Refused, match="frees 0 B, less than") as error:
        here.plan_collect(endpoints=[old.url], grace="3650d", free=str(now.size))
    assert error.value.hint.endswith("is younger than 3650d: wait, or shorten --grace")
    with old, regnb.connect(old.url) as registry:
        assert here.plan_free(registry, str(now.size))[0] is None
        deletion, _ = here.plan_free(registry, str(now.size + 1000))
        assert deletion is not None
        with pytest.raises(Refused, match="can be freed"):
            here.plan_free(registry, "1GB")
        registry.apply(deletion, confirm=deletion.code)
    later = here.plan_collect(endpoints=[old.url], free=str(now.size + 1000))
    assert swept.collect(old, later).status == "done"
    assert len(swept.whole(old.root)) == 1


def test_only_some_repositories(old: Distribution) -> None:
    """What another repository links stays, and so does every other repository."""
    with old:

        async def more(client: Client) -> None:
            await push(client, "other", "x", some(3))
            await push(client, "other", "y", some(7))
            for number in (3, 7):
                await client.delete_manifest("other", Digest.of(some(number).data))

        ask(old.url, more)
    swept.age(old.root, 3)
    plan = swept.storage(old).plan_collect(endpoints=[old.url], repositories=["oth*"])
    assert {row.repository for row in plan.steps} == {"other", ""}
    shared = {str(Digest.of(blob)) for blob in some(3).blobs}
    assert not swept.digests(plan) & shared
    assert swept.digests(plan) >= {str(Digest.of(blob)) for blob in some(7).blobs}
    assert swept.collect(old, plan).status == "done"
    assert swept.storage(old).plan_collect(repositories=["app"]).steps
    with pytest.raises(InvalidArgument, match="no repository matches 'ap/"):
        swept.storage(old).plan_collect(repositories=["app", "ap/*"])


def test_what_a_process_remembers(old: Distribution) -> None:
    """A registry that ran meanwhile answers HEAD of what is gone: bytes prove it; restarted, it remembers nothing."""
    settings = json.loads(old.config.read_text())
    settings["storage"] |= {
        "cache": {"blobdescriptor": "inmemory"},
        "maintenance": {"readonly": {"enabled": True}},
    }
    old.config.write_text(json.dumps(settings))
    gone = [str(Digest.of(blob)) for blob in some(3).blobs]
    here = swept.storage(old)
    with old:
        for digest in gone:
            request = Request(f"{old.url}/v2/app/blobs/{digest}", method="HEAD")  # noqa: S310 -- loopback
            with urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
                assert answer.status == 200
        receipt = swept.collect(old, here.plan_collect(endpoints=[old.url]))
        (row,) = here.caches(receipt).to_dict("records")
        assert row["remembered"] == row["asked"] == len(gone)
        assert "restart" in row["message"]
        assert "redis" in row["message"]
        old.restart()
        (row,) = here.caches(receipt).to_dict("records")
        assert (row["remembered"], row["asked"], row["message"]) == (0, len(gone), "")
    assert "stopped" in here.caches(receipt)["message"][0]


def test_what_redis_remembers(old: Distribution, tmp_path: Path) -> None:
    """With a redis two replicas remember what is gone, after a restart, too, until the keys that are named go."""
    need("redis", shutil.which("redis-server"), "redis-server is not installed (apt-get install redis-server)")
    port = free_port()
    settings = json.loads(old.config.read_text())
    settings["storage"] |= {"cache": {"blobdescriptor": "redis"}, "maintenance": {"readonly": {"enabled": True}}}
    settings["redis"] = {"addr": f"127.0.0.1:{port}"}
    old.config.write_text(json.dumps(settings))
    second = Distribution(tmp_path / "second", config={name: settings[name] for name in ("storage", "redis")})
    gone = [str(Digest.of(blob)) for blob in some(3).blobs]
    here = swept.storage(old)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as redis:
        try:
            while not redis_says(port, "PING"):
                assert redis.poll() is None
            with old, second:
                urls = [old.url, second.url]
                for digest in gone:
                    request = Request(f"{old.url}/v2/app/blobs/{digest}", method="HEAD")  # noqa: S310 -- loopback
                    with urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
                        assert answer.status == 200
                receipt = swept.collect(old, here.plan_collect(endpoints=urls))
                found = here.caches(receipt)
                assert found["remembered"].tolist() == found["asked"].tolist() == [len(gone)] * 2
                old.restart()
                (row, _) = here.caches(receipt).to_dict("records")
                assert row["remembered"] == len(gone), "a restart is no cure"
                assert "delete its keys blobs::* and repository::*" in row["message"]
                keys = [key for key in redis_says(port, "KEYS", "*") if key.startswith(("blobs::", "repository::"))]
                assert redis_says(port, "DEL", *keys)
                assert here.caches(receipt)["remembered"].tolist() == [0, 0]
                with regnb.connect(old.url) as registry:
                    assert registry.inventory().complete
        finally:
            redis.terminate()


def redis_says(port: int, *words: str) -> list[str]:
    """What a redis answers to a command; nothing if it does not listen yet."""
    done = subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def test_what_a_plan_read_is_kept_for_its_application(
    old: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process reads no manifest again that the plan read; where that is damaged or too old, it reads all."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = swept.storage(old)
    plan = here.keep(here.plan_collect(endpoints=[old.url]))
    manifests = [str(image.digest) for image in map(some, (1, 2))]
    assert Sweep.of_json(plan.to_json()) == plan
    found = basis.load(here.url, plan.basis)
    assert found is not None
    assert sorted(found.manifests) == sorted(manifests)
    assert found.manifests[manifests[0]].config == str(Digest.of(config(n=1)))
    assert basis.load("/elsewhere", plan.basis) is None
    read: list[str] = []
    monkeypatch.setattr("regnb.crawl.survey.references", lambda data: read.append(Digest.of(data)) or references(data))
    assert swept.collect(old, plan).status == "done"
    assert read == []
    kept = basis.folder() / Digest(plan.basis).hex
    data = kept.read_bytes()
    kept.write_bytes(data.replace(b"app", b"abb"))
    assert basis.load(here.url, plan.basis) is None
    kept.write_bytes(data)
    os.utime(kept, (1, 1))
    assert basis.load(here.url, plan.basis) is None
    swept.storage(old).plan_collect(endpoints=[old.url])
    assert sorted(read) == sorted(manifests)


def test_a_push_after_the_plan_was_kept(old: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that came after the plan is read although the others are not, and what it needs is not moved."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = swept.storage(old)
    plan = here.keep(here.plan_collect(endpoints=[old.url], allow=["writer"]))
    with old:
        ask(old.url, lambda client: push(client, "app", "again", some(3)))
    before = swept.tree(old.root)
    with pytest.raises(PlanMismatch):
        swept.collect(old, plan)
    assert swept.tree(old.root) == before

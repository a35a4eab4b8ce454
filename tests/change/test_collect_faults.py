"""A collection that is killed while somebody pushes, on a disk that is full, over two mounts, of another owner."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import swept
from collected import copied
from conftest import need
from distribution import Distribution
from images import Image, ask, config, image, index, layer, push
from test_collect import KILLED
from test_full_disk import NAMESPACE

import regnb
from regnb.change.journal import folder as receipts_folder
from regnb.change.sweep import TRASH
from regnb.errors import Refused, RegistryError, RegnbError, StorageError
from regnb.oci.reference import Digest
from regnb.wire.client import Client

ROUNDS = int(os.environ.get("REGNB_TESTS_ATTACKS", "2"))
_TRIES = 20


def some(number: int) -> Image:
    """Every third one shares a layer with its neighbours, and every fourth is an index."""
    one = image([layer(number // 3, 500), layer(("own", number), 800)], about=config(n=number))
    other = image([layer(number // 3, 500)], about=config(n=-number))
    return index([(one, "linux/amd64"), (other, "linux/arm64")]) if number % 4 == 0 else one


def attack(registry: Distribution, chance: random.Random, folder: Path) -> int:
    """Collect once: the process is killed at some step, while images that were deleted are pushed again.

    Every push that the registry accepted, and every tag from before, can be pulled once the collection was resumed.

    Returns:
        How many pushes were accepted meanwhile.
    """
    numbers = list(range(1, 13))
    deleted = chance.sample(numbers, 7)

    async def fill(client: Client) -> None:
        for number in numbers:
            await push(client, f"team/app-{number % 3}", f"t{number}", some(number))
        for number in deleted:
            await client.delete_manifest(f"team/app-{number % 3}", Digest.of(some(number).data))

    with registry:
        ask(registry.url, fill)
    swept.age(registry.root, 3)
    accepted: list[str] = []
    stop = threading.Event()
    pushes = [(number, chance.randrange(3)) for number in chance.sample(deleted, 4)]

    def work() -> None:
        for number, name in pushes:
            for _ in range(_TRIES):
                if stop.is_set():
                    return
                # What lay there a moment ago may be gone when its manifest comes: a client pushes it again.
                with contextlib.suppress(RegistryError):
                    ask(
                        registry.url,
                        lambda client, number=number, name=name: push(
                            client, f"team/app-{name}", f"again-{number}", some(number)
                        ),
                    )
                    accepted.append(f"team/app-{name}:again-{number}")
                    break

    with registry:
        before = swept.whole(registry.root)
        here = swept.storage(registry)
        plan = here.plan_collect(untagged=True, endpoints=[registry.url], allow=["writer"])
        plan.save(folder / "plan.json")
        thread = threading.Thread(target=work)
        line = [sys.executable, "-c", KILLED, registry.root, folder / "plan.json", str(chance.randrange(45))]
        process = subprocess.Popen(list(map(str, line)), stderr=subprocess.DEVNULL)
        thread.start()
        process.wait(120)
        stop.set()
        thread.join(120)
        for receipt in sorted(receipts_folder().glob("*.jsonl")):
            with contextlib.suppress(RegnbError):
                here.resume(receipt.stem, progress=False)
        whole = {str(name) for name in swept.whole(registry.root)}
        assert {str(name) for name in before} <= whole
        assert {*accepted} <= whole
        for name in swept.whole(registry.root):
            swept.pull(registry.url, name)
    return len(accepted)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_killed_while_somebody_pushes(
    round_: int, distribution_program: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tag from before, and none of a push that was accepted, is broken once the collection was resumed."""
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    attack(Distribution(tmp_path), random.Random(f"attack {round_}"), tmp_path)  # noqa: S311 -- each time the same


@pytest.fixture
def old(real: Distribution, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Distribution:
    """A stopped registry, three days old, with one image that was deleted."""

    async def fill(client: Client) -> None:
        await push(client, "app", "1.0", some(1))
        await push(client, "app", "gone", some(2))
        await client.delete_manifest("app", Digest.of(some(2).data))

    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    ask(real.url, fill)
    real.stop()
    swept.age(real.root, 3)
    return real


APPLY = """
import sys
from regnb.errors import RegnbError
from regnb.storage import open_storage
storage = open_storage(sys.argv[1])
plan = storage.plan_collect(endpoints=["http://127.0.0.1:1"], grace="0")
assert plan.steps
try:
    print(storage.apply(plan, confirm=plan.code, progress=False).status)
except RegnbError as error:
    print(f"{error.message} | {error.hint}")
"""


def mounted(root: Path, *commands: str) -> str:
    """Run a collection where something is mounted for this process alone, and return what it says."""
    need("unshare", shutil.which("unshare") and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0, "no")
    script = " && ".join([*commands, 'exec "$0" -c "$1" "$2"'])
    line = [*NAMESPACE, "sh", "-c", script, sys.executable, APPLY, str(root)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_blobs_on_a_mount_of_their_own(old: Distribution) -> None:
    """A rename from there fails although it is the same disk: refused before anything is moved."""
    before = swept.tree(old.root)
    blobs = f"{old.root}/docker/registry/v2/blobs"
    said = mounted(old.root, f"mount --bind '{blobs}' '{blobs}'")
    assert "nothing can be moved" in said
    assert "in one piece" in said
    assert swept.tree(old.root) == before


def test_a_disk_without_room_for_a_folder(old: Distribution, tmp_path: Path) -> None:
    """Not even the folder of the trash can be made: refused, and with a little room it is done."""
    copy = copied(old.root, tmp_path / "copy")
    files = len([*old.root.rglob("*")])
    disk = tmp_path / "disk"
    disk.mkdir()
    for room, expected in ((2, "make some room first"), (60, "done")):
        mount = f"mount -t tmpfs -o nr_inodes={files + room} tmpfs '{disk}'"
        assert expected in mounted(disk, mount, f"cp -a '{copy}/.' '{disk}/'")


@pytest.fixture
def apart() -> Iterator[Path]:
    """A folder that every user may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def somebody(user: int) -> Iterator[None]:
    """Be another user meanwhile."""
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def owned(old: Distribution, apart: Path) -> Path:
    """A copy of the storage, three days old, that is somebody's with the number 1234."""
    root = shutil.copytree(old.root, apart / "storage")
    for path in (root, *root.rglob("*")):
        os.chown(path, 1234, 1234)
    swept.age(root, 3)
    return root


def anybody_writes_receipts(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts go where every user may write from now on."""
    receipts = apart / "receipts"
    receipts.mkdir()
    receipts.chmod(0o777)
    monkeypatch.setenv("REGNB_RECEIPTS", str(receipts))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_storage_of_another_owner(old: Distribution, apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user is refused; its owner may; root puts everything back with the owner and modes that it had."""
    root = owned(old, apart)
    before = swept.tree(root)
    here = regnb.open_storage(root)
    plan = here.plan_collect(endpoints=["http://127.0.0.1:1"])
    anybody_writes_receipts(apart, monkeypatch)

    with somebody(4321), pytest.raises(Refused, match="nothing can be moved") as error:
        here.apply(plan, confirm=plan.code, progress=False)
    assert "own user" in error.value.hint
    assert swept.tree(root) == before
    with somebody(1234):
        receipt = here.apply(plan, confirm=plan.code, progress=False)
    assert receipt.status == "done"
    shards = root / "docker/registry/v2/blobs/sha256"
    for path in shards.iterdir():
        if not [*path.iterdir()]:
            path.rmdir()  # as a tool of somebody else may: it is made again as its neighbours are
    back = here.plan_restore(receipt)
    assert here.apply(back, confirm=back.code, progress=False).status == "done"
    assert swept.tree(root) == before
    assert not (root / "docker/registry/v2" / TRASH).exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_what_root_moved_is_its_owners_to_put_back(
    old: Distribution, apart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage's owner lists and restores the trash that root made; whoever may not read it is told so."""
    root = owned(old, apart)
    before = swept.tree(root)
    here = regnb.open_storage(root)
    plan = here.plan_collect(endpoints=["http://127.0.0.1:1"])
    receipt = here.apply(plan, confirm=plan.code, progress=False)
    anybody_writes_receipts(apart, monkeypatch)
    with somebody(4321):
        for look in (here.trash, here.plan_collect, here.plan_empty, lambda: here.plan_restore(receipt)):
            with pytest.raises(StorageError, match=r"cannot read the trash of .*: Permission denied"):
                look()
    with somebody(1234):
        assert here.trash()["size"].tolist() == [plan.size]
        back = here.plan_restore(receipt)
        assert here.apply(back, confirm=back.code, progress=False).status == "done"
    assert swept.tree(root) == before

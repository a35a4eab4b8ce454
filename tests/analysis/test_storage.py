"""A storage that is read without its registry says what the registry says, and what only the disk knows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest
from collected import collect, same_verdict
from conftest import Seeded
from distribution import Distribution
from images import ask, config, fill, image, index, layer, surroundings
from layouts import layout

import regnb
from regnb import Inventory
from regnb.analysis.reconcile import reconcile
from regnb.analysis.storage import open_storage
from regnb.crawl import walk
from regnb.errors import InvalidArgument, StorageError
from regnb.oci import disk
from regnb.oci.reference import Digest
from regnb.tables.columns import TOLD_BY
from regnb.wire.client import Client

ONE = image([layer(1, 3000), layer(2, 500)])
TWO = image([layer(1, 3000), layer(3, 70)], about=config(n=2), docker=True)
OLD = image([layer(4, 900)], about=config(n=4))
LOST = image([layer(5, 40), layer(6, 41)], about=config(n=3))
MULTI = index([(image([layer(7, 10)]), "linux/amd64"), (image([layer(8, 11)], about=config("arm64")), "linux/arm64")])
LOOSE = layer("loose", 333)


@pytest.fixture(scope="module")
def made(distribution_program: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage that docker-registry wrote: tags, a tag that moved, an orphan, and an upload that was not finished."""
    folder = tmp_path_factory.mktemp("made")

    async def more(client: Client) -> None:
        await client.upload_blob("vm/app", LOOSE, Digest.of(LOOSE))
        await client.uploads.upload_chunk(await client.uploads.start_upload("vm/app"), b"begun")

    with Distribution(folder) as registry:
        pushes = [("vm/app", "1", OLD), ("vm/app", "1", ONE), ("vm/app", "2", TWO), ("vm/app/sub", "x", ONE)]
        fill(registry.url, *pushes, ("tools", "all", MULTI), ("vm/lost", "only", LOST))
        ask(registry.url, more)
    return registry.root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(made, tmp_path / "copy" / "storage")


def files(root: Path) -> dict[str, tuple[int, int]]:
    """The size and the time of every file and folder."""
    found = ((path, path.lstat()) for path in root.rglob("*"))
    return {str(path.relative_to(root)): (about.st_size, about.st_mtime_ns) for path, about in found}


def plain(frame: pd.DataFrame, *without: str) -> pd.DataFrame:
    """Rows in an order of their own, so that two readings compare."""
    found = pd.DataFrame(frame).drop(columns=list(without)).astype(str)
    return found.sort_values(list(found.columns), ignore_index=True)


def equal(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(plain(one), plain(other))


def same(one: Inventory, other: Inventory, names: set[str], **without: list[str]) -> None:
    for name in names:
        pd.testing.assert_frame_equal(
            plain(one.frames[name], *without.get(name, [])), plain(other.frames[name], *without.get(name, [])), obj=name
        )


def problems(inventory: Inventory) -> set[tuple[str, str]]:
    return {(row.problem, row.repository) for row in inventory.problems.itertuples()}


def test_the_storage_says_what_the_api_says(seeded: Seeded) -> None:
    """Every column of what both can see, of content of every kind, one tag of it dangling."""
    with regnb.connect(seeded.url) as registry:
        api = registry.inventory(cached=False)
    found = open_storage(seeded.root).inventory()
    same(api, found, {"tags", "manifests", "children", "layers"}, tags=["pushed"], manifests=["checked"])
    shown = found.blobs["digest"].isin(api.blobs["digest"])
    equal(found.blobs[shown], api.blobs)
    assert set(found.blobs["kind"][~shown]) == {"orphan"}
    alone = ("share", "status", "complete", "untagged", "layer_links", "stale_links")
    sizes = [column for column in api.repositories.columns if column not in alone]
    # What cannot be divided of a share goes to the repository that was read first.
    named = api.repositories["repository"][api.repositories["status"] == "read"]
    rows, others = (one.repositories[one.repositories["repository"].isin(named)] for one in (api, found))
    equal(rows[sizes], others[sizes])
    assert ("dangling", "broken/dangling") in problems(api) & problems(found)
    assert found.source == "storage"
    assert found.registry == str(seeded.root)


def test_what_a_source_cannot_tell_is_missing(root: Path, tmp_path: Path) -> None:
    """Of a registry, its storage and a layout: no column says 0 where the source cannot know, here and in snapshots."""
    with Distribution(root.parent) as registry:
        api = regnb.read(registry.url)
    folder = regnb.read(layout(tmp_path / "app", ("1", MULTI), ("", TWO)))
    storage = open_storage(root).inventory()
    assert storage.repositories["untagged"].sum() > 0
    assert storage.repositories["stale_links"].sum() > 0
    for one in (api, folder):
        again = Inventory.load(one.save(tmp_path / "snapshots"))
        for name, columns in storage.frames.items():
            for column in columns.columns:
                if pd.api.types.is_numeric_dtype(columns[column]) and len(one.frames[name]) and columns[column].any():
                    told = one.frames[name][column]
                    known = column not in TOLD_BY.get(name, {}) or one.source in TOLD_BY[name][column]
                    assert told.notna().all() if known else told.isna().all(), (one.source, name, column)
                    assert (told.isna() == again.frames[name][column].isna()).all()
    assert api.repositories[["untagged", "layer_links", "stale_links"]].isna().all(axis=None)
    assert storage.repositories[["untagged", "layer_links", "stale_links"]].notna().all(axis=None)
    assert folder.repositories["untagged"].sum() == 1
    assert storage.disk["used"].notna().all()
    storage.save(tmp_path / "snapshots")
    listed = regnb.snapshots(tmp_path / "snapshots").set_index("source")["disk"]
    assert (api.summary.disk, pd.isna(listed["api"])) == (None, True)
    assert listed["storage"] == storage.summary.disk == storage.disk["size"].sum()


def test_every_byte_is_told_apart(made: Path) -> None:
    """Blobs, links, uploads and the rest add up to what the operating system counts; what is unneeded is named."""
    (base := made / disk.BASE).joinpath("note.txt").write_text("not the registry's", encoding="utf-8")
    try:
        found = open_storage(made).inventory()
    finally:
        (base / "note.txt").unlink()
    used = found.disk[found.disk["what"] != "folders"].set_index("what")
    paths = [path for path in base.rglob("*") if path.is_file()]
    assert used["files"].sum() == len(paths) + 1
    assert used["size"].sum() == sum(path.stat().st_size for path in paths) + used["size"]["other"]
    assert (used["files"]["other"], used["size"]["other"]) == (1, 18)
    assert used["size"]["uploads"] >= 5
    blobs = found.blobs.set_index("digest")
    assert blobs["kind"][Digest.of(LOOSE)] == "orphan"
    assert blobs["kind"][OLD.digest] == "manifest"
    manifests = found.manifests.set_index(["repository", "digest"])
    assert manifests["tags"]["vm/app", OLD.digest] == 0
    assert found.complete
    assert found.problems.empty


def test_what_tags_have_been(made: Path) -> None:
    """The history has each digest of a tag with the time of its link; an upload has its size and its beginning."""
    found = open_storage(made).inventory()
    history = found.history[found.history["tag"] == "1"].set_index("digest")
    assert history["current"].to_dict() == {ONE.digest: True, OLD.digest: False}
    assert history["present"].all()
    link = made / disk.history_path("vm/app", "1", OLD.digest)
    assert abs(history["when"][OLD.digest].timestamp() - link.stat().st_mtime) < 0.001
    (upload,) = found.uploads.itertuples()
    folder = made / disk.repository_path("vm/app") / "_uploads" / upload.upload
    assert upload.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert upload.started == pd.Timestamp((folder / "startedat").read_text())


OPENED: list[str] = []
WATCHING: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING and event in ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link"):
        OPENED.append(str(arguments[0]))
        if event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            OPENED.append(f"written: {arguments[0]}")


sys.addaudithook(_watch)


@pytest.mark.parametrize("brief", [False, True])
def test_it_reads_no_layer_and_writes_nothing(made: Path, brief: bool) -> None:  # noqa: FBT001 -- a parameter
    """Only links, manifests and configs are opened, and the folder is to the nanosecond as it was."""
    before = files(made)
    OPENED.clear()
    WATCHING.append(True)
    try:
        if brief:
            open_storage(made).stock()
        else:
            open_storage(made).inventory()
    finally:
        WATCHING.clear()
    assert files(made) == before
    opened = {Digest(f"sha256:{Path(path).parent.name}") for path in OPENED if path.endswith("/data")}
    kinds = open_storage(made).inventory().blobs.set_index("digest")["kind"]
    assert set(kinds[list(opened)]) == ({"manifest"} if brief else {"manifest", "config"})
    assert not [path for path in OPENED if path.startswith("written: ") and str(made) in path]


def test_the_stock_decides_as_the_inventory_does(made: Path) -> None:
    """What a garbage collection would do is the same without configs, histories and frames."""
    whole, stock = open_storage(made).inventory(), open_storage(made).stock()
    same_verdict(whole.reclaim(), stock)
    uploads = [(one.repository, one.upload, one.started, one.size) for one in stock.uploads]
    assert uploads == list(whole.uploads.itertuples(index=False, name=None))
    assert whole.reclaim().table["size"].iloc[0] == len(LOOSE)


# Damages: each is done to a copy, and the real garbage collection says what it makes of it.

REVISION = disk.revision_path("vm/lost", LOST.digest)
TAG = disk.tag_path("vm/lost", "only")
MANIFEST = disk.blob_path(LOST.digest)
LAYER_LINK = disk.layer_path("vm/lost", Digest.of(layer(5, 40)))


def write(path: str, data: bytes) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return damage


def remove(path: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()

    return damage


def make(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).mkdir(parents=True)


def both(*damages: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda root: [damage(root) for damage in damages] and None


def revision(data: bytes) -> Callable[[Path], None]:
    return write(REVISION, data)


HERE, REPOSITORIES = "vm/lost", disk.REPOSITORIES
GONE, ODD = Digest.of(b"gone"), f"{REPOSITORIES}/vm/lost/_manifests"
CORRUPT = {("corrupt revision", HERE), ("dangling", HERE)}
UNTAGGED = {("corrupt manifest", "vm/app"), ("mismatch", "vm/app")}
DAMAGES: dict[str, tuple[Callable[[Path], None], set[tuple[str, str]]]] = {
    "revision truncated": (revision(LOST.digest[:30].encode()), CORRUPT),
    "revision empty": (revision(b""), CORRUPT),
    "revision with newline": (revision(LOST.digest.encode() + b"\n"), CORRUPT),
    "revision too long": (revision(b"sha256:" + b"a" * 5000), CORRUPT),
    "revision names another": (revision(ONE.digest.encode()), {("mismatch", HERE), ("dangling", HERE)}),
    "revision names what is gone": (revision(GONE.encode()), {("mismatch", HERE), ("dangling", HERE)}),
    "revision removed": (remove(REVISION), {("dangling", HERE)}),
    "stray link": (write(f"{ODD}/revisions/odd/link", b"odd"), {("corrupt revision", HERE)}),
    "stray file": (write(f"{ODD}/revisions/sha256/note", b"odd"), set()),
    "manifest gone": (remove(MANIFEST), {("missing", HERE), ("dangling", HERE)}),
    "manifest empty": (write(MANIFEST, b""), {("corrupt manifest", HERE), ("mismatch", HERE)}),
    "manifest cut": (write(MANIFEST, LOST.data[:50]), {("corrupt manifest", HERE), ("mismatch", HERE)}),
    "another manifest": (write(MANIFEST, ONE.data), {("mismatch", HERE)}),
    "untagged manifest cut": (write(disk.blob_path(OLD.digest), OLD.data[:50]), UNTAGGED),
    "layer gone": (remove(disk.blob_path(Digest.of(layer(5, 40)))), {("missing", HERE)}),
    "config gone": (remove(disk.blob_path(Digest.of(LOST.blobs[0]))), {("missing", HERE)}),
    "tag truncated": (write(f"{TAG}/current/link", b"sha256:12"), {("corrupt tag", HERE)}),
    "tag without a link": (remove(f"{TAG}/current"), {("dangling", HERE)}),
    "tag empty": (both(remove(f"{TAG}/current"), remove(f"{TAG}/index")), {("dangling", HERE)}),
    "tag is a file": (both(remove(TAG), write(TAG, b"")), {("corrupt tag", HERE)}),
    "tag's folder is a file": (both(remove(f"{TAG}/current"), write(f"{TAG}/current", b"")), {("corrupt tag", HERE)}),
    "tag's link no file": (both(remove(f"{TAG}/current/link"), make(f"{TAG}/current/link")), {("corrupt tag", HERE)}),
    "tag dangles": (write(f"{TAG}/current/link", GONE.encode()), {("dangling", HERE)}),
    "tags empty": (both(remove(f"{ODD}/tags"), make(f"{ODD}/tags")), set()),
    "no tags": (remove(f"{ODD}/tags"), {("no tags", HERE)}),
    "no revisions": (remove(f"{ODD}/revisions"), {("dangling", HERE)}),
    "no manifests": (remove(ODD), set()),
    "no layers": (remove(f"{REPOSITORIES}/vm/lost/_layers"), {("no layers", HERE)}),
    "layers empty": (both(remove(f"{REPOSITORIES}/vm/lost/_layers"), make(f"{REPOSITORIES}/vm/lost/_layers")), set()),
    "layer link corrupt": (write(LAYER_LINK, b"x"), {("corrupt layer link", HERE)}),
    "history corrupt": (write(disk.history_path("vm/lost", "only", GONE), b"x"), set()),
    "only uploads": (write(f"{REPOSITORIES}/begun/_uploads/1/data", b"x"), set()),
    "only layers": (write(disk.layer_path("pushed", Digest.of(LOOSE)), Digest.of(LOOSE).encode()), set()),
    "odd name with layers": (make(f"{REPOSITORIES}/Odd Name/_layers"), {("bad layers", "Odd Name")}),
    "odd name without": (write(f"{REPOSITORIES}/Odd Name/_uploads/1/data", b"x"), set()),
    "data misplaced": (write(f"{disk.BLOBS}/sha256/aa/data", b"x"), {("bad blob", "")}),
    "blob of 384 bits": (write(f"{disk.BLOBS}/sha384/aa/{'a' * 96}/data", b"x"), set()),
    "blob of 512 bits": (write(disk.blob_path("sha512:" + "ab" * 64), b"x"), set()),
    "blob's folder empty": (make(f"{disk.BLOBS}/sha256/aa/{'a' * 64}"), set()),
    "foreign file": (write(f"{disk.BLOBS}/sha256/aa/.DS_Store", b"x"), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damages(name: str, root: Path) -> None:
    """Each is named, breaks nothing else, and what the collections would remove is what the real one says."""
    damage, expected = DAMAGES[name]
    damage(root)
    found = open_storage(root).inventory()
    assert problems(found) == expected
    same_verdict(found.reclaim(), open_storage(root).stock())
    assert found.disk["size"].sum() == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    table = found.reclaim().table.set_index(["collection", "version"])
    blobs = found.reclaim().blobs
    for flags, place, how in (
        ((), ("garbage-collect", "2.8"), "plain_2"),
        (("--delete-untagged",), ("garbage-collect --delete-untagged", "2.8"), "untagged_2"),
    ):
        real = collect(root, "--dry-run", *flags)
        assert (table["bound"][place] == "fails") == bool(real.failed), (flags, real.failed)
        assert set(blobs["digest"][blobs[how]]) == real.blobs, flags
    assert set(found.repositories["repository"]) >= {"vm/app", "vm/app/sub", "tools"}


# Where there is no registry


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _: None, "no such folder"),
    "a file": (lambda root: root.write_text("x", encoding="utf-8"), "is a file"),
    "empty": (lambda root: root.mkdir(), "is empty"),
    "an image layout": (write("oci-layout", b"{}"), "OCI image layout"),
    "something else": (write("thesis.tex", b""), "holds thesis.tex"),
}


@pytest.mark.parametrize("name", PLACES)
def test_no_registry(name: str, tmp_path: Path) -> None:
    """A path that is none says what it is instead, and what to name."""
    prepare, words = PLACES[name]
    prepare(tmp_path / "place")
    with pytest.raises(StorageError, match=words) as error:
        open_storage(tmp_path / "place")
    assert error.value.hint


def test_its_own_folder_may_be_named(made: Path) -> None:
    """The folder that holds docker/registry/v2, or that folder itself; a path, a text or a URL."""
    whole = open_storage(made).inventory()
    for where in (made / disk.BASE, f"{made}/", made.as_uri()):
        same(whole, open_storage(where).inventory(), {"blobs", "tags", "disk"})
    assert repr(open_storage(str(made))) == f"<Storage {made}>"


def test_secrets_stay_unseen() -> None:
    """Neither an error nor the handle shows the password of a URL."""
    with pytest.raises(StorageError) as error:
        open_storage("nonsense://me:hush@host/registry")
    assert "hush" not in str(error.value)
    assert "host/registry" in str(error.value)


# Other file systems, and a disk that changes


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.rm("/", recursive=True)


def test_other_file_systems(root: Path, memory: fsspec.AbstractFileSystem) -> None:
    """Through fsspec everything is the same, empty folders and damages included; times are the copy's."""
    for name in ("revision empty", "tag dangles", "data misplaced", "odd name with layers", "layers empty"):
        DAMAGES[name][0](root)
    memory.put(str(root), "/here/registry", recursive=True)
    found = open_storage("memory://here/registry").inventory()
    without = {"tags": ["pushed"], "history": ["when"], "uploads": ["started"], "disk": ["used"]}
    local = open_storage(root).inventory()
    local.frames["disk"] = local.disk[local.disk["what"] != "folders"]
    found.frames["disk"] = found.disk[found.disk["what"] != "folders"]
    same(local, found, set(found.frames), **without)


def test_without_permission(made: Path, tmp_path: Path) -> None:
    """What the user may not read is a problem, leaves the rest, and the inventory says that it is not complete."""
    # Not below pytest's own folder: every run of pytest shuts that to other users anew.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copytree(made, root := folder / "denied")
    shut = [root / disk.repository_path("vm/lost") / "_manifests", root / disk.repository_path("tools")]
    shut += [root / disk.BLOBS / "sha256" / ONE.digest[7:9], root / disk.blob_path(TWO.digest)]
    for path in shut:
        path.chmod(0)
    # Once as root, so that whatever is imported is there before root's rights go.
    code = (
        "import os, sys, regnb; found = regnb.open_storage(sys.argv[1]).inventory().tags;"
        "os.getuid() or os.setgid(65534) or os.setuid(65534);"
        "found = regnb.open_storage(sys.argv[1]).inventory();"
        "print(found.complete, sorted(set(found.problems['problem'])), found.problems['incomplete'].all());"
        "print(found.repositories[['repository', 'status']].to_dict('split')['data']);"
        "print(found.coverage.set_index('what')['denied'].to_dict())"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(root)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings(tmp_path))
    finally:
        for path in shut:
            path.chmod(0o755)
        shutil.rmtree(folder)
    assert (done.returncode, done.stderr) == (0, "")
    complete, repositories, coverage = done.stdout.splitlines()
    assert complete == "False ['denied'] True"
    assert repositories == "[['tools', 'denied'], ['vm/app', 'read'], ['vm/app/sub', 'read'], ['vm/lost', 'denied']]"
    assert "'repositories': 2" in coverage
    assert "'manifests': 1" in coverage


def test_what_vanishes_meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry goes on writing: files that were listed and are gone when they are read end nothing."""
    listed = walk.LocalFiles.walk

    def then_remove(self: Any, **options: Any) -> Iterator[walk.File]:
        yield from listed(self, **options)
        for path in (MANIFEST, disk.blob_path(Digest.of(TWO.blobs[0])), disk.tag_path("tools", "all")):
            remove(path)(root)

    monkeypatch.setattr(walk.LocalFiles, "walk", then_remove)
    found = open_storage(root).inventory()
    assert {("failed", "vm/lost"), ("failed", ""), ("dangling", "tools")} == problems(found)
    assert not found.complete


def test_links_of_the_file_system(root: Path, tmp_path: Path) -> None:
    """A folder that lies on another disk is read; links that lead back, or nowhere, and pipes end nothing."""
    whole = open_storage(root).inventory()
    blobs = root / disk.BLOBS
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    (root / REPOSITORIES / "loop").symlink_to(root)
    (root / REPOSITORIES / "inner").symlink_to(root / REPOSITORIES / "vm")
    (root / REPOSITORIES / "nowhere").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / f"{ODD}/revisions/sha256/link")
    found = open_storage(root).inventory()
    same(whole, found, set(whole.frames) - {"problems", "disk"})
    assert problems(found) == {("corrupt revision", "vm/lost")}


def test_names_that_are_no_text(root: Path) -> None:
    """Bytes that are not UTF-8 in a name reach the frames as question marks, and the frames can be written."""
    for folder in (f"{REPOSITORIES}/bad\udcff/_layers", f"{REPOSITORIES}/vm/lost/_uploads/\udcff", f"{TAG}\udcff"):
        (root / folder).mkdir(parents=True)
        (root / folder / "data").write_bytes(b"x")
    found = open_storage(root).inventory()
    assert problems(found) == {("bad layers", "bad?"), ("corrupt tag", "vm/lost")}
    assert "?" in set(found.uploads["upload"])
    assert len(found.write(root / "out")) > 10


# Reconciliation


def test_the_differences_add_up(real: Distribution) -> None:
    """From what the API shows to what is on disk every byte has a cause, and each cause what was made for it."""
    fill(real.url, ("vm/app", "1", OLD), ("vm/app", "1", ONE), ("vm/lost", "only", LOST), ("vm/gone", "1", TWO))

    async def more(client: Client) -> None:
        await client.upload_blob("vm/app", LOOSE, Digest.of(LOOSE))
        await client.uploads.upload_chunk(await client.uploads.start_upload("vm/app"), b"begun")

    ask(real.url, more)
    real.blob(Digest.of(layer(5, 40))).unlink()
    real.blob(Digest.of(layer(6, 41))).write_bytes(b"cut")
    (real.root / disk.BASE / "note").write_bytes(b"other")
    with regnb.connect(real.url) as registry:
        shown = registry.inventory()
    # Between the two readings a tag is pushed, and another one goes with its manifest and its blobs.
    fill(real.url, ("new/image", "1", MULTI))
    ask(real.url, lambda client: client.delete_manifest("vm/gone", TWO.digest))
    for data in (TWO.data, TWO.blobs[0], TWO.blobs[2]):
        real.blob(Digest.of(data)).unlink()
    there = open_storage(real.root)
    table = reconcile(shown, there)
    pd.testing.assert_frame_equal(table, reconcile(shown, there.inventory()))
    row = table.set_index("cause")
    assert row["total"].to_list() == [True, *[False] * (len(row) - 2), True]
    on_disk = sum(path.stat().st_size for path in (real.root / disk.BASE).rglob("*") if path.is_file())
    assert row["size"].iloc[0] == shown.summary.stored
    assert row["size"].iloc[-1] == on_disk == row["size"].iloc[:-1].sum()
    left = {len(TWO.data), len(TWO.blobs[0]), len(TWO.blobs[2])}
    sizes = {
        "not on disk": -40,
        "size": 3 - 41,
        "gone since": -sum(left),
        "new since": MULTI.size,
        "untagged": sum(map(len, {OLD.data, *OLD.blobs} - {*ONE.blobs})),
        "orphans": len(LOOSE),
        "not read": 0,
        "other": 5,
    }
    assert {cause: row["size"][cause] for cause in sizes} == sizes
    assert row["blobs"]["orphans"] == 1


def test_what_was_not_asked_and_what_a_collection_ate(real: Distribution, tmp_path: Path) -> None:
    """Repositories that were not asked for are not new, and the blobs of eaten children are not gone since."""
    fill(real.url, ("tools", "all", MULTI), ("vm/app", "1", ONE))
    with regnb.connect(real.url) as registry:
        whole, part = registry.inventory(), registry.inventory(["tools"])
    table = reconcile(part, open_storage(real.root)).set_index("cause")
    assert table["size"]["not read"] == ONE.size
    assert not table["size"][["new since", "gone since", "not on disk"]].any()
    real.garbage_collect("--delete-untagged")
    table = reconcile(whole, open_storage(real.root)).set_index("cause")
    eaten = {data for child in MULTI.children for data in child.blobs}
    assert table["size"]["not on disk"] == -sum(map(len, eaten))
    assert not table["size"][["new since", "gone since", "not read", "untagged"]].any()


def test_a_child_that_its_repository_lacks_is_not_called_new(real: Distribution) -> None:
    """Its manifest lies on disk and is not served: it was there before both readings, and a collection keeps it."""
    fill(real.url, ("tools", "all", MULTI))
    child = MULTI.children[0]
    shutil.rmtree(real.root / disk.revision_path("tools", child.digest).removesuffix("/link"))
    with regnb.connect(real.url) as registry:
        table = reconcile(registry.inventory(), open_storage(real.root)).set_index("cause")
    assert table["size"][["not served", "new since"]].to_list() == [len(child.data), 0]


def test_foreign_layers_that_are_there(real: Distribution) -> None:
    """A layer that is meant to lie elsewhere and is on disk takes up space, and has a cause of its own."""
    foreign = image([layer(9, 77)], layer_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    fill(real.url, ("vm/app", "1", foreign))
    with regnb.connect(real.url) as registry:
        shown = registry.inventory()
    found = open_storage(real.root).inventory()
    assert found.summary.stored - shown.summary.stored == 77
    table = reconcile(shown, found).set_index("cause")
    assert (table["size"]["foreign"], table["size"]["new since"]) == (77, 0)


def test_only_an_api_and_a_storage_are_reconciled(made: Path) -> None:
    """Two of one kind are refused, with the call that is right."""
    found = open_storage(made).inventory()
    with pytest.raises(InvalidArgument, match="storage"):
        reconcile(found, found)

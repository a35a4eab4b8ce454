"""Inventories as files: what was saved comes back, and what is not whole is never taken for a snapshot."""

from __future__ import annotations

import errno
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from conftest import Seeded, need
from fsspec.implementations.local import LocalFileSystem
from images import ROOT, attestation, config, image, index, layer
from pyarrow import dataset
from stored import Stored

import regnb
from regnb.analysis import snapshot
from regnb.analysis.inventory import Inventory, _Frames, _Table
from regnb.crawl.files import reason
from regnb.errors import MissingExtra, StorageError
from regnb.oci.reference import Digest
from regnb.tables import frame as frame_
from regnb.tables import write
from regnb.tables.columns import COLUMNS, INVENTORY
from regnb.tables.frame import Frame

BASE = layer("base", 3000)
ONE = image([BASE, layer(1, 500)], about=config(commands=["ADD rootfs", "RUN one"]))
TWO = image([BASE, layer(2, 700)], about=config("arm64"))
BOTH = index([(ONE, "linux/amd64"), (TWO, "linux/arm64"), (attestation(ONE), "unknown/unknown")])
OLD = ROOT / "tests/data/schema-1"
"""A snapshot that the first version of the layout wrote. It must stay readable for ever: never write it anew."""


def made() -> Inventory:
    """An inventory with an index, a tag that could not be read, and a shared layer."""
    registry = Stored(("app", "1", ONE), ("app", "multi", BOTH), ("lib/tool", "2", TWO), ("lib/tool", "broken", ONE))
    registry.broken.add(("lib/tool", "broken"))
    return registry.inventory()


def assert_same(found: Inventory, expected: Inventory) -> None:
    assert (found.registry, found.started, found.finished, found.source) == (
        expected.registry,
        expected.started,
        expected.finished,
        expected.source,
    )
    assert list(found.frames) == list(expected.frames)
    for name, frame in expected.frames.items():
        pd.testing.assert_frame_equal(found.frames[name], frame, check_categorical=False)


def rewrite(folder: str, **changes: Any) -> None:
    """Change fields of a snapshot.json."""
    path = Path(folder) / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    """Every value and every type of every frame is the same after a save and a load."""
    inventory = made()
    assert_same(Inventory.load(inventory.save(tmp_path)), inventory)


def test_a_real_registry_comes_back(seeded_real: Seeded, tmp_path: Path) -> None:
    """An inventory of docker-registry, damage included, says the same of sizes and sharing after a save and a load."""
    with regnb.connect(seeded_real.url, cache=False) as registry:
        inventory = registry.inventory(progress=False)
    found = Inventory.load(inventory.save(tmp_path))
    assert_same(found, inventory)
    assert found.summary == inventory.summary
    for frame, expected in zip(found.sharing, inventory.sharing, strict=True):
        pd.testing.assert_frame_equal(frame, expected)


def test_an_empty_inventory_comes_back(tmp_path: Path) -> None:
    """Frames without rows keep their columns and types."""
    inventory = Stored().inventory()
    assert_same(Inventory.load(inventory.save(tmp_path)), inventory)


def test_other_tools_read_snapshots_as_one(tmp_path: Path) -> None:
    """Engines read the snapshots of two registries and days together: digests are text, registry and date columns."""
    first, second = made(), Stored(("app", "1", ONE), ("more", "1", TWO)).inventory()
    second.registry = "other:5000"
    second.started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for inventory in (first, second):
        inventory.save(tmp_path)
    tags, layers = (
        pl.scan_parquet(tmp_path / f"**/{name}.parquet", hive_partitioning=True) for name in ("tags", "layers")
    )
    found = tags.join(layers, left_on=["registry", "digest"], right_on=["registry", "manifest"], suffix="_layer")
    rows = found.select("registry", "date", "repository", "tag", "digest_layer", "size_layer").collect()
    (base,) = {Digest.of(data) for data in ONE.blobs} & {Digest.of(data) for data in TWO.blobs}
    sharing = rows.filter(pl.col("digest_layer") == base).sort("registry", "repository").rows()
    assert [(row[0], str(row[1]), *row[2:4]) for row in sharing] == [
        ("other:5000", "2026-01-02", "app", "1"),
        ("other:5000", "2026-01-02", "more", "1"),
        ("stored:5000", f"{first.started:%Y-%m-%d}", "app", "1"),
        ("stored:5000", f"{first.started:%Y-%m-%d}", "lib/tool", "2"),
    ]
    for name in first.frames:
        files = sorted(map(str, tmp_path.glob(f"**/{name}.parquet")))
        together = dataset.dataset(files, partitioning="hive", partition_base_dir=str(tmp_path)).to_table()
        assert set(together["registry"].to_pylist()) <= {"other:5000", "stored:5000"}
        assert together.num_rows == len(first.frames[name]) + len(second.frames[name])


def test_groups_of_rows_have_dictionaries_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each names what its rows name, and no more; the snapshot comes back as one of a single group does."""
    monkeypatch.setattr(write, "_ROWS", 2)
    inventory = made()
    url = inventory.save(tmp_path)
    with pq.ParquetFile(f"{url}/layers.parquet", read_dictionary=["digest"]) as file:
        groups = [file.read_row_group(group, ["digest"])["digest"].chunk(0) for group in range(file.num_row_groups)]
    assert len(groups) > 1
    assert [len(group.dictionary) for group in groups] == [len(group.unique()) for group in groups]
    assert_same(Inventory.load(url), inventory)


def test_what_is_stored_is_what_an_inventory_is_made_of() -> None:
    """The frames of an inventory, those that a snapshot stores, and those that are described are the same."""
    assert tuple(made().frames) == INVENTORY
    assert set(INVENTORY) == {name for name, kind in vars(_Frames).items() if isinstance(kind, _Table)}
    assert set(INVENTORY) <= set(COLUMNS)


def test_columns_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that an inventory gets one day is stored and read without more; in older snapshots it is missing."""
    new = made()
    before = new.save(tmp_path)
    more = {**COLUMNS, "tags": {**COLUMNS["tags"], "signed": ("boolean", "?"), "seen": ("datetime64[us, UTC]", "?")}}
    for module in (snapshot, write, frame_):
        monkeypatch.setattr(module, "COLUMNS", more)
    seen = pd.Timestamp("2026-01-01", tz="UTC")
    new.tags = new.frames["tags"] = Frame(new.tags.assign(signed=[True, None, False, None], seen=[seen] * 4)).astype(
        {"signed": "boolean", "seen": "datetime64[us, UTC]"}
    )
    assert_same(Inventory.load(new.save(tmp_path)), new)
    found = Inventory.load(before).tags
    assert found[["signed", "seen"]].isna().all(axis=None)
    assert found["signed"].dtype == "boolean"


def test_no_snapshot_is_overwritten(tmp_path: Path) -> None:
    """The same inventory saved twice gives two snapshots, both whole."""
    inventory = made()
    urls = {inventory.save(tmp_path) for _ in range(3)}
    assert len(urls) == 3
    for url in urls:
        assert_same(Inventory.load(url), inventory)


def test_the_list_tells_the_figures(tmp_path: Path) -> None:
    """Each snapshot is a row with the inventory's own figures, the oldest first; other folders are none."""
    (tmp_path / "notes").mkdir()
    later, earlier = made(), made()
    earlier.started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    earlier.registry = "sftp://me:secret@host/registry"
    urls = [later.save(tmp_path), earlier.save(tmp_path)]
    found = snapshot.snapshots(tmp_path)
    assert list(found.columns) == list(COLUMNS["snapshots"])
    assert found["url"].to_list() == urls[::-1]
    assert found["snapshot"].to_list()[0] == (
        "registry=sftp%3A%2F%2Fhost%2Fregistry/date=2026-01-02/snapshot=sftp-host-registry-20260102T030405.000000Z"
    )
    assert found["registry"].to_list() == ["sftp://host/registry", "stored:5000"]
    row = found.iloc[1].to_dict()
    summary = later.summary
    assert [row[name] for name in ("repositories", "tags", "stored", "pulled", "complete", "schema", "status")] == [
        2, 4, summary.stored, summary.pulled, False, 2, "ok",
    ]  # fmt: skip


def test_old_snapshots_are_thinned_out(tmp_path: Path) -> None:
    """Young ones stay, the last of each month, the newest of each registry, what cannot be read, and others' files."""
    now = datetime.now(UTC)
    month = now.replace(day=15) - timedelta(days=100)
    dates = [month.replace(day=day) for day in (1, 10, 20)] + [now - timedelta(days=days) for days in (3, 2)]
    saved = []
    for when in dates:
        saved.append(Path(made().save(tmp_path)))
        rewrite(str(saved[-1]), started=when.isoformat())
    alone, broken = Path(made().save(tmp_path)), Path(made().save(tmp_path))
    rewrite(str(alone), started=dates[0].isoformat(), registry="another:5000")
    rewrite(str(broken), started="never")
    (saved[1] / "mine.txt").write_text("")
    assert {name.rpartition("/")[2] for name in snapshot.thin(tmp_path, 60)} == {each.name for each in saved[:2]}
    assert [each.exists() for each in saved] == [False, True, True, True, True]
    assert [each.name for each in saved[1].iterdir()] == ["mine.txt"]
    assert alone.exists()
    assert broken.exists()
    assert snapshot.thin(tmp_path, 60) == []
    listed = snapshot.snapshots(tmp_path)
    assert len(listed[listed["status"] == "ok"]) == 4


def test_figures_beyond_64_bits_are_listed(tmp_path: Path) -> None:
    """Sums that no column can hold are listed as the most that it can hold."""
    url = made().save(tmp_path)
    rewrite(url, summary={"pulled": 2**70})
    assert snapshot.snapshots(tmp_path)["pulled"].to_list() == [2**63 - 1]


@pytest.mark.parametrize(
    ("damage", "status", "message"),
    [
        ("no header", "cut short: snapshot.json is missing", "was cut short: snapshot.json is missing"),
        ("half a header", "snapshot.json was cut short or is damaged", "cut short or is damaged"),
        ("no table", "ok", "was cut short: tags.parquet is missing"),
        ("half a table", "ok", r"was cut short: tags.parquet has [\d,]+ of [\d,]+ bytes"),
        ("other bytes", "ok", "tags.parquet is damaged"),
        ("other rows", "ok", r"tags.parquet has 4 of 5 rows"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, damage: str, status: str, message: str) -> None:
    """A snapshot that was cut short or damaged is an error with a hint, and listed with what is wrong."""
    url = made().save(tmp_path)
    header, tags = (Path(url) / name for name in ("snapshot.json", "tags.parquet"))
    files = json.loads(header.read_text("utf-8"))["files"]
    data = tags.read_bytes()
    if damage == "no header":
        header.unlink()
    elif damage == "half a header":
        header.write_bytes(header.read_bytes()[:100])
    elif damage == "no table":
        tags.unlink()
    elif damage == "half a table":
        tags.write_bytes(data[: len(data) // 2])
    elif damage == "other bytes":
        tags.write_bytes(data[:60] + bytes(byte ^ 1 for byte in data[60:90]) + data[90:])
    else:
        files["tags"]["rows"] += 1
        rewrite(url, files=files)
    with pytest.raises(StorageError, match=message) as caught:
        snapshot.load(url)
    assert caught.value.hint
    (found,) = snapshot.snapshots(tmp_path)["status"]
    assert found.startswith(status)
    assert snapshot.snapshots(tmp_path)["started"].notna().all() or damage == "half a header"


def test_a_list_of_files_that_lacks_one_is_refused(tmp_path: Path) -> None:
    """A snapshot.json that does not name the tags is damaged, and not a registry without tags."""
    url = made().save(tmp_path)
    files = json.loads((Path(url) / "snapshot.json").read_text("utf-8"))["files"]
    rewrite(url, files={name: about for name, about in files.items() if name != "tags"})
    with pytest.raises(StorageError, match="does not name tags"):
        Inventory.load(url)


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    """What a newer version wrote is not guessed at: the error says to upgrade, and the list says so, too."""
    url = made().save(tmp_path)
    rewrite(url, schema=3, started="in some other way")
    with pytest.raises(StorageError, match=r"written by a newer regnb \(schema 3.*--upgrade"):
        snapshot.load(url)
    assert "newer regnb" in snapshot.snapshots(tmp_path)["status"][0]


def test_the_first_layout_stays_readable() -> None:
    """A snapshot that was committed when the layout was new gives the figures that it gave then."""
    found = Inventory.load(OLD / "stored-5000-20260301T120000.000000Z")
    assert (found.registry, found.source) == ("stored:5000", "api")
    assert found.started == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert found.tags[["repository", "tag"]].agg(":".join, axis=1).to_list() == [
        "app:1", "app:multi", "lib/tool:2", "lib/tool:broken",
    ]  # fmt: skip
    assert found.tags["digest"].isna().to_list() == [False, False, False, True]
    assert found.tags["size"].to_list() == [4224, 6964, 4368, 0]
    assert found.blobs["size"].sum() == 6964
    assert found.layers["command"].astype("str").unique().tolist() == ["ADD rootfs", "RUN one", ""]
    assert set(found.layers["digest"].astype("str")) <= set(found.blobs["digest"])
    assert found.children["child"].isin(found.manifests["digest"]).all()
    assert found.graph.sizes.sum() == 6964
    assert (snapshot.snapshots(OLD)["status"] == "ok").all()


def test_a_damaged_snapshot_of_the_first_layout_is_refused(tmp_path: Path) -> None:
    """Row numbers that lead to no blob are damage, and no traceback."""
    shutil.copytree(OLD, tmp_path / "old")
    (layers,) = tmp_path.glob("old/*/layers.parquet")
    table = pq.read_table(layers)
    pq.write_table(table.set_column(0, "manifest", [[10**6] * table.num_rows]), layers)
    files = json.loads((layers.parent / "snapshot.json").read_text("utf-8"))["files"]
    files["layers"]["size"] = layers.stat().st_size
    rewrite(str(layers.parent), files=files)
    with pytest.raises(StorageError, match=r"layers\.parquet is damaged"):
        snapshot.load(layers.parent)


def test_both_layouts_stand_side_by_side(tmp_path: Path) -> None:
    """Below one URL old snapshots and new ones are one list, loaded by their names; a day is a list, too."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    url = made().save(tmp_path)
    found = snapshot.snapshots(tmp_path)
    assert found["schema"].to_list() == [1, 2]
    assert found["url"].to_list()[1] == url
    for name in found["snapshot"]:
        assert Inventory.load(tmp_path / name).registry == "stored:5000"
    day = Path(url).parent
    assert snapshot.snapshots(day.parent)["status"].to_list() == ["ok"]
    assert snapshot.snapshots(day)["status"].to_list() == ["ok"]


def test_columns_and_frames_that_are_not_there_are_filled(tmp_path: Path) -> None:
    """Of files that an older version wrote, what is missing is 0, no or missing; what is unknown is ignored."""
    url = made().save(tmp_path)
    header = json.loads((Path(url) / "snapshot.json").read_text("utf-8"))
    path = Path(url) / "tags.parquet"
    table = pq.read_table(path).drop_columns(["exclusive", "created", "platforms", "complete"])
    pq.write_table(table.append_column("colour", [["red"] * 4]), path)
    layers = Path(url) / "layers.parquet"
    pq.write_table(pq.read_table(layers).drop_columns(["command"]), layers)
    files = {name: file for name, file in header["files"].items() if name != "history"}
    for file in (path, layers):
        files[file.stem]["size"] = file.stat().st_size
    rewrite(url, files=files | {"unheard": {"rows": 1, "size": 1}})
    found = snapshot.load(url).tables
    assert list(found["tags"]) == list(COLUMNS["tags"])
    assert found["tags"]["exclusive"].to_list() == [0] * 4
    assert not found["tags"]["complete"].any()
    assert found["tags"][["created", "platforms"]].isna().all(axis=None)
    assert found["layers"]["command"].isna().all()
    assert len(found["history"]) == 0
    assert list(found["history"]) == list(COLUMNS["history"])


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """Of a snapshot whose blobs are lost the tags can be read still."""
    url = made().save(tmp_path)
    (Path(url) / "blobs.parquet").unlink()
    found = snapshot.load(url, ("tags",))
    assert list(found.tables) == ["tags"]
    assert len(found.tables["tags"]) == 4


def test_what_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    """A wrong name is an error that says what is there instead."""
    url = made().save(tmp_path)
    with pytest.raises(StorageError, match=f"not a snapshot.*such as registry=.*/{Path(url).name}"):
        snapshot.load(tmp_path)
    for wrong in (tmp_path / "none", Path(url) / "tags.parquet"):
        with pytest.raises(StorageError, match="no such snapshot"):
            snapshot.load(wrong)
        assert not snapshot.is_snapshot(wrong)
    with pytest.raises(StorageError, match="no such folder or bucket"):
        snapshot.snapshots(tmp_path / "none")
    with pytest.raises(StorageError, match="Protocol not known"):
        snapshot.snapshots("nothing://like/this")
    assert snapshot.is_snapshot(url)


def test_a_folder_is_made_and_a_file_is_refused(tmp_path: Path) -> None:
    """A local folder need not be there; where a file is, nothing is saved, and the error says so."""
    assert Path(made().save(tmp_path / "deep/er")).is_dir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot write .*file"):
        made().save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_gets_its_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the space runs out in the middle, the error says so, and no half a snapshot is left."""
    real = LocalFileSystem.pipe_file

    def full(self: LocalFileSystem, path: str, value: bytes, **more: Any) -> Any:
        real(self, path, value[:10], **more)
        if "layers" in path:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "pipe_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        made().save(tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []
    monkeypatch.undo()
    kept = made().save(tmp_path / "full")
    monkeypatch.setattr(LocalFileSystem, "pipe_file", full)
    with pytest.raises(StorageError, match="No space left on device"):
        made().save(tmp_path / "full")
    assert snapshot.snapshots(tmp_path / "full")["url"].to_list() == [kept]


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3fs, a bucket's URL is an error that says what to install; no message has a secret."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MissingExtra, match="s3fs is not installed"):
        snapshot.snapshots("s3://bucket/folder")
    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(StorageError, match="sftp://host/folder") as caught:
        snapshot.snapshots("sftp://me:secret@host/folder")
    assert "secret" not in str(caught.value)


def test_a_secret_that_a_library_repeats_is_left_out() -> None:
    """What an error of the file system's library quotes of the URL is shown without the credentials in it."""
    assert reason(ValueError('Invalid bucket name "key:secret@bucket"')) == 'Invalid bucket name "bucket"'


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket in a simulated S3."""
    need("s3", importlib.util.find_spec("moto") and importlib.util.find_spec("s3fs"), "moto and s3fs are not installed")
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 -- may not be there

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "planted")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("snapshots")
        yield "s3://snapshots/team"
        fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


def test_a_bucket_holds_snapshots(bucket: str) -> None:
    """In S3 an inventory is saved, listed and loaded as on a disk; a second one does not overwrite the first."""
    inventory = made()
    urls = [inventory.save(bucket) for _ in range(2)]
    assert snapshot.snapshots(bucket)["url"].to_list() == sorted(urls)
    for url in urls:
        assert_same(Inventory.load(url), inventory)
    fsspec.filesystem("s3").rm_file(f"{urls[0]}/snapshot.json")
    assert snapshot.snapshots(bucket)["status"].to_list() == ["cut short: snapshot.json is missing", "ok"]


def test_no_bucket_is_made(bucket: str) -> None:
    """A bucket whose name was mistyped is an error, and not a new bucket."""
    before = fsspec.filesystem("s3").ls("")
    with pytest.raises(StorageError, match="no such folder or bucket: s3://snapshot/team"):
        made().save("s3://snapshot/team")
    assert fsspec.filesystem("s3").ls("", refresh=True) == before
    with pytest.raises(StorageError, match="no such folder or bucket"):
        snapshot.snapshots("s3://snapshot")
    with pytest.raises(StorageError, match="no such snapshot"):
        snapshot.load(f"{bucket}/none")

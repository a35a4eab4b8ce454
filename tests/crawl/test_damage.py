"""What a storage lacks is named with the tags that break; what else lies there is recognised; what it takes is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from collected import collect, same_verdict
from collector import Disk as Random
from distribution import Distribution
from images import fill, image, index, layer, surroundings
from test_damaged_storages import A, C, Disk

import regnb
from regnb import Inventory
from regnb.analysis.disk import Prices, facts
from regnb.analysis.storage import open_storage
from regnb.crawl.walk import FOREIGN
from regnb.errors import Refused, StorageError
from regnb.oci.reference import Digest


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def told(inventory: Inventory) -> dict[tuple[str, str], str]:
    """The messages by problem and reference."""
    rows = inventory.problems
    return dict(zip(zip(rows["problem"], rows["reference"], strict=True), rows["message"], strict=True))


def pullable(inventory: Inventory) -> dict[str, bool]:
    return dict(zip(inventory.tags["tag"], inventory.tags["pullable"], strict=True))


@pytest.mark.parametrize("left", [0, 1, 299])
def test_a_layer_that_lost_bytes(disk: Disk, left: int) -> None:
    """A layer of another size than its descriptor is damaged, with the tags that need it; the audit stays complete."""
    path = disk.data(A.blobs[2])
    path.write_bytes(path.read_bytes()[:left])
    found = open_storage(disk.root).inventory()
    message = told(found)["damaged", Digest.of(A.blobs[2])]
    assert message.endswith("breaks 1 tag: 1.0")
    assert f"{left} byte" in message
    assert pullable(found) == {"1.0": False, "multi": True}
    assert found.complete


def test_children_that_the_real_collection_took(disk: Disk, distribution_program: None) -> None:
    """After 2.8's --delete-untagged the index misses its children, and its tag can no longer be pulled."""
    assert open_storage(disk.root).inventory().tags["pullable"].all()
    Distribution(disk.root.parent).garbage_collect("--delete-untagged")
    found = open_storage(disk.root).inventory()
    missing = {reference: text for (sort, reference), text in told(found).items() if sort == "missing"}
    assert C.digest in missing
    assert len(missing) == 2
    assert all(text.endswith("breaks 1 tag: multi") for text in missing.values())
    assert pullable(found) == {"1.0": True, "multi": False}


def test_damage_is_named_in_each_repository_that_has_it(disk: Disk) -> None:
    """A layer that two repositories need and that is gone breaks tags of both, each in a row of its own."""
    disk.repository("second")
    disk.push("second", A, "copy")
    disk.data(A.blobs[2]).unlink()
    rows = open_storage(disk.root).inventory().problems
    rows = rows[rows["reference"] == Digest.of(A.blobs[2])]
    assert dict(zip(rows["repository"], rows["message"].str.rpartition(": ")[2], strict=True)) == {
        "app": "1.0",
        "second": "copy",
    }


def test_a_repository_without_layers_ends_3_and_loses_its_tags_to_2_8(disk: Disk, distribution_program: None) -> None:
    """An index alone: version 3 fails and names the repository; 2.8 removes the tagged manifest, and is told which."""
    disk.push("alone", index([]), "v1")
    found = open_storage(disk.root).inventory()
    table = found.reclaim().table.set_index(["collection", "version"])
    assert table["bound"].to_dict() == {
        ("garbage-collect", "2.8"): "exact",
        ("garbage-collect", "3"): "fails",
        ("garbage-collect --delete-untagged", "3"): "fails",
        ("garbage-collect --delete-untagged", "2.8"): "exact",
    }
    assert "alone: no layers" in table["message"]["garbage-collect", "3"]
    assert (
        "breaks 1 tag: alone:v1, as it does not see a repository without" in table["message"]["garbage-collect", "2.8"]
    )
    assert collect(disk.root, "--dry-run").blobs == {index([]).digest}
    (disk.v2 / "repositories/alone/_layers").mkdir()
    assert set(open_storage(disk.root).inventory().reclaim().table["bound"]) == {"exact"}


def test_a_layer_by_sha512_is_there_and_would_go(tmp_path: Path, distribution_program: None) -> None:
    """Its bytes count for its tag, the problem names the tag, and every collection, the real one too, removes them."""
    for seed in range(400):
        disk = Random(tmp_path / str(seed), ("sha512", seed))
        found = open_storage(disk.root).inventory()
        rows = found.problems[found.problems["message"].str.contains("would remove a layer that is needed by 1 tag")]
        if len(rows) and (found.reclaim().table["bound"] == "exact").all():
            break
        shutil.rmtree(tmp_path / str(seed))
    row = rows.iloc[0]
    stored = found.blobs.set_index("alias").loc[row["reference"]]
    assert stored["tags"] >= 1
    assert row["reference"] in set(found.layers["digest"].astype(str))
    removed = found.reclaim().blobs.set_index("digest").loc[stored["digest"]]
    assert removed[["plain", "plain_2", "untagged", "untagged_2"]].all()
    assert stored["digest"] in collect(disk.root, "--dry-run").blobs
    again = Inventory.load(found.save(tmp_path / "snapshots"))
    pd.testing.assert_frame_equal(again.layers.astype(str), found.layers.astype(str))
    pd.testing.assert_frame_equal(again.reclaim().table, found.reclaim().table)


@pytest.mark.parametrize("where", ["", "repositories", "repositories/app/_manifests/revisions", "blobs/sha256"])
@pytest.mark.parametrize("name", sorted(FOREIGN)[:3])
def test_folders_of_a_file_server(disk: Disk, name: str, where: str) -> None:
    """They are left out with one note, also where they cannot be listed, and nothing else changes."""
    before = open_storage(disk.root).inventory()
    folder = disk.v2 / where / name
    (folder / "_layers").mkdir(parents=True)
    (folder / "data").write_text("x", encoding="utf-8")
    found, stock = open_storage(disk.root).inventory(), open_storage(disk.root).stock()
    assert found.problems["problem"].to_list() == ["ignored"]
    assert [problem.problem for problem in stock.problems] == ["ignored"] * bool(where)
    assert found.complete
    assert stock.complete
    pd.testing.assert_frame_equal(found.reclaim().table, before.reclaim().table)
    same_verdict(found.reclaim(), stock)
    assert len(found.tags) == len(before.tags)


def test_a_note_fails_no_job(disk: Disk, tmp_path: Path) -> None:
    """``audit --fail-on-problems`` exits with 0 where there are only notes, and with 2 where a layer is damaged."""
    (disk.v2 / "blobs/lost+found").mkdir()
    command = [sys.executable, "-m", "regnb", "audit", str(disk.root), "--fail-on-problems"]
    subprocess.run(command, check=True, capture_output=True, env=surroundings(tmp_path))
    disk.data(A.blobs[2]).write_bytes(b"")
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=surroundings(tmp_path))
    assert done.returncode == 2
    assert "(damaged)" in done.stderr


def test_a_pull_through_cache_is_not_filled(tmp_path: Path, distribution_program: None) -> None:
    """Over HTTP it is recognised without a trace, refused unless that is allowed; its storage is noted as one."""
    with Distribution(tmp_path / "up") as upstream:
        fill(upstream.url, ("library/app", "1", A), ("library/app", "2", image([layer(2, 50)])))
        config = {"proxy": {"remoteurl": upstream.url}}
        with Distribution(tmp_path / "cache", config=config) as cache, regnb.connect(cache.url) as registry:
            with pytest.raises(Refused, match="pull-through cache") as refused:
                registry.inventory("library/app")
            assert "--fill-cache" in refused.value.hint
            assert not list(cache.root.rglob("data"))
            checks = registry.health().set_index("check")
            assert checks.loc["pull-through cache", "state"] == "warn"
            assert len(registry.inventory("library/app", fill_cache=True).tags) == 2
        with regnb.connect(upstream.url) as registry:
            assert registry.health().set_index("check").loc["pull-through cache", "state"] == "ok"
            assert len(registry.inventory().tags) == 2
    disk = Disk(tmp_path)
    (disk.root / "scheduler-state.json").write_text("{}", encoding="utf-8")
    assert ("mirror", "scheduler-state.json") in told(open_storage(disk.root).inventory())


def test_a_registry_with_its_metadata_in_a_database_is_refused(disk: Disk) -> None:
    """GitLab's lock file says that the files do not tell the tags: an error that says so, and what to do."""
    lock = disk.root / "docker/registry/lockfiles/database-in-use"
    lock.parent.mkdir()
    lock.touch()
    for where in (disk.root, disk.v2):
        with pytest.raises(StorageError, match="database") as error:
            open_storage(where)
        assert "over HTTP" in error.value.hint


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_refused(disk: Disk, tmp_path: Path, kind: str) -> None:
    """An archive of a storage is an error that says to unpack it, and no endless walk."""
    path = shutil.make_archive(str(tmp_path / "packed"), kind, disk.root)
    with pytest.raises(StorageError, match="archive") as error:
        open_storage(f"{kind}://", fo=path)
    assert "unpack" in error.value.hint
    assert zipfile.is_zipfile(path) == (kind == "zip")


def test_blocks_are_those_that_du_counts(disk: Disk) -> None:
    """Files and folders, a file of two names once; what is left on the volume stands beside them."""
    (disk.v2 / "second").hardlink_to(disk.data(A))
    found = open_storage(disk.root).inventory()
    counted = subprocess.run(["du", "-s", "-B1", disk.v2], capture_output=True, text=True, check=True).stdout
    assert found.disk["used"].sum() == int(counted.split()[0])
    assert found.disk.set_index("what")["files"]["folders"] == 1 + sum(path.is_dir() for path in disk.v2.rglob("*"))
    assert "Beside" not in "\n".join(facts(found))
    (disk.root / "backup.tar").write_bytes(b"x" * 3_000_000)
    text = "\n".join(facts(found))
    assert "as du counts docker/registry/v2" in text
    assert "Beside docker/registry/v2, files take up another 3.0 MB" in text
    assert "left" in text


def test_links_that_no_collection_removes(tmp_path: Path, distribution_program: None) -> None:
    """After a deletion and a real collection of 2.8 the links of the layers are left, and counted."""
    with Distribution(tmp_path) as registry:
        fill(registry.url, ("app", "1", A), ("app", "2", image([layer(2, 50)], about=b"{}")))
        with regnb.connect(registry.url) as client:
            plan = client.plan_delete("app:2")
            client.apply(plan, confirm=plan.digest, progress=False)
    collect(registry.root)
    row = open_storage(registry.root).inventory().repositories.iloc[0]
    assert (row["layer_links"], row["stale_links"]) == (len(A.blobs) + 2, 2)
    assert "2 of 5 layer links are needed by no manifest" in "\n".join(facts(open_storage(registry.root).inventory()))


def test_prices_are_those_that_were_given(disk: Disk) -> None:
    """Without a price no sum is named; with one it is size times price."""
    found = open_storage(disk.root).inventory()
    assert not any("at " in fact for fact in facts(found))
    (storage,) = (fact for fact in facts(found, Prices(gb_month=1e6)) if fact.startswith("Storage"))
    assert storage == f"Storage: {found.disk['size'].sum() / 1e3:,.2f} for each month, at 1e+06 for 1 GB and month"


@pytest.mark.parametrize("code", ["regnb.open_storage(sys.argv[1]).inventory().reclaim()", "main()"])
def test_reading_a_folder_loads_no_http(disk: Disk, tmp_path: Path, code: str) -> None:
    """Neither ``open_storage`` nor ``regnb gc DIR`` loads an HTTP client, TLS or an event loop."""
    program = f"""
import sys, contextlib
import regnb
from regnb.__main__ import main
if {code!r} == "main()":
    sys.argv[1:1] = ["gc"]
with contextlib.suppress(SystemExit):
    {code}
assert regnb.__dir__() and not {{"httpx", "aiohttp", "ssl", "asyncio"}} & sys.modules.keys()
"""
    command = [sys.executable, "-c", program, str(disk.root)]
    subprocess.run(command, check=True, env=surroundings(tmp_path))

"""SQL over snapshots: tables of all of them, equal to the frames, and no way out of their folder."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from images import image, index, layer
from IPython.core.interactiveshell import InteractiveShell
from stored import Stored
from traitlets.config import Config

import regnb
from regnb.analysis.query import FRAMES
from regnb.errors import InvalidArgument, StorageError

ROOT = Path(__file__).parents[2]
LAYERS = [layer(number, 100 + number) for number in range(12)]


def grown(seed: int) -> Stored:
    chance = random.Random(seed)  # noqa: S311 -- not secret, but the same each time
    pushed = []
    for name in ("app", "app/web", "lib"):
        for number in range(chance.randint(1, 6)):
            what = image(chance.sample(LAYERS, chance.randint(1, 5)))
            if chance.random() < 0.3:
                what = index([(what, "linux/amd64"), (image(chance.sample(LAYERS, 2)), "linux/arm64")])
            pushed.append((name, f"t{number}", what))
    return Stored(*pushed)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """Three snapshots of one registry."""
    for seed in range(3):
        grown(seed).inventory().save(tmp_path)
    return str(tmp_path)


def test_tables_are_the_frames_of_all_snapshots(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row says whose it is; latest_ has the last snapshot alone; values need no quotes."""
    found = regnb.sql("SELECT snapshot, count(*) AS tags, sum(size) AS size FROM tags GROUP BY ALL ORDER BY 1", saved)
    assert {*FRAMES} == {*grown(0).inventory().frames}, "each file of a snapshot is a table"
    frames = [grown(seed).inventory().tags for seed in range(3)]
    assert found["tags"].to_list() == [len(each) for each in frames]
    assert found["size"].to_list() == [each["size"].sum() for each in frames]
    monkeypatch.setenv("REGNB_SNAPSHOTS", saved)
    query = "SELECT tag, size FROM latest_tags WHERE repository = $name ORDER BY tag"
    last = regnb.sql(query, parameters={"name": "app"})
    here = frames[2][frames[2]["repository"] == "app"]
    assert last.to_numpy().tolist() == here[["tag", "size"]].to_numpy().tolist()
    assert set(regnb.sql("SELECT DISTINCT registry FROM tags")["registry"]) == {"stored:5000"}


def test_a_sum_of_bytes_is_an_integer(saved: str) -> None:
    """Beyond 2^53 too, where a float is another number; two columns of one name stay two."""
    sizes = regnb.sql("SELECT sum(size) AS size FROM tags GROUP BY snapshot", saved)["size"]
    assert sizes.dtype == "int64"
    query = (
        'SELECT a.x, b.x, sum(a.y) AS "all ""bytes""" '
        "FROM (VALUES (1, 9007199254740993)) a(x, y), (VALUES (2)) b(x) GROUP BY ALL"
    )
    found = regnb.sql(query, saved)
    assert found.columns.to_list() == ["x", "x_1", 'all "bytes"']
    assert found.iloc[0].to_list() == [1, 2, 9_007_199_254_740_993]


def test_what_an_earlier_regnb_could_not_know_is_blank(tmp_path: Path) -> None:
    """It wrote 0 of untagged manifests over HTTP; an inventory shows a blank, and so does SQL."""
    where = Path(grown(0).inventory().save(tmp_path)) / "repositories.parquet"
    rows = pd.read_parquet(where).assign(untagged=0)
    rows.to_parquet(where)
    header = where.with_name("snapshot.json")
    about = json.loads(header.read_text(encoding="utf-8"))
    about["files"]["repositories"]["size"] = where.stat().st_size
    header.write_text(json.dumps(about), encoding="utf-8")
    there = regnb.sql("SELECT untagged FROM repositories", tmp_path)["untagged"]
    assert there.isna().tolist() == regnb.read(where.parent).repositories["untagged"].isna().tolist()
    assert there.isna().all()


def test_too_little_room_is_an_error(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to give: memory, or a folder with space."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))
    query = "SELECT list(a.range ORDER BY hash(a.range)) FROM range(20000000) a"
    with pytest.raises(StorageError, match="neither memory nor disk") as caught:
        regnb.sql(query, saved, memory="50MB")
    assert "TMPDIR" in caught.value.hint


def test_a_snapshot_in_a_bucket_is_asked_likewise(saved: str) -> None:
    """Whatever file system fsspec knows is read where it is."""
    url = "memory://snapshots-of-test-query"
    grown(1).inventory().save(url)
    assert regnb.sql("SELECT count(*) AS n FROM tags", url)["n"][0] == len(grown(1).inventory().tags)
    assert saved


@pytest.mark.parametrize("seed", range(5))
def test_the_sql_of_the_document_gives_the_frames_figures(tmp_path: Path, seed: int) -> None:
    """Size and exclusive bytes of each repository, out of memory's reach, are those of inventory.repositories."""
    inventory = grown(seed).inventory()
    inventory.save(tmp_path)
    (query,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/scale.md").read_text(encoding="utf-8"), re.DOTALL)
    found = regnb.sql(query, tmp_path, memory="200MB").sort_values("repository", ignore_index=True)
    there = inventory.repositories[["repository", "size", "exclusive"]]
    assert found[["repository", "size", "exclusive"]].to_numpy().tolist() == there.to_numpy().tolist()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC", "syntax error"),
        ("SELECT nothing FROM tags", "nothing"),
        ("SELECT * FROM read_csv('/etc/hostname')", "disabled"),
        ("COPY tags TO '/tmp/regnb-test.csv'", "disabled"),
        ("SET enable_external_access = true", "locked"),
        ("INSTALL httpfs", "disabled"),
    ],
)
def test_a_query_reads_nothing_else(saved: str, query: str, words: str) -> None:
    """What makes no sense, and what reads or writes elsewhere, is refused; the hint names the tables."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        regnb.sql(query, saved)
    assert "latest_" in caught.value.hint


def test_no_snapshots_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to save one, or how to name the folder."""
    monkeypatch.delenv("REGNB_SNAPSHOTS", raising=False)
    with pytest.raises(InvalidArgument, match="no snapshots were named"):
        regnb.sql("SELECT 1")
    with pytest.raises(StorageError) as caught:
        regnb.sql("SELECT 1", tmp_path)
    assert "--snapshot" in caught.value.hint


def test_a_cell_of_a_notebook_holds_sql(saved: str) -> None:
    """%load_ext regnb, and then %%regnb with a folder."""
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    try:
        shell.extension_manager.load_extension("regnb")
        found = shell.run_cell_magic("regnb", saved, "SELECT count(*) AS n FROM tags")
        assert found["n"][0] == sum(len(grown(seed).inventory().tags) for seed in range(3))
    finally:
        InteractiveShell.clear_instance()

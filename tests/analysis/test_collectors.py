"""What regnb says of a garbage collection: of version 3 as a model of it does, of version 2.8 as the real program does.

``REGNB_COLLECTIONS=5000 pytest tests/analysis/test_collectors.py`` plays more storages.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from collected import FLAGS, PLACE, agrees, collect, same_verdict
from collector import Collected, Collector3, Disk, Failed

from regnb.analysis.reclaim import Reclaim
from regnb.analysis.storage import open_storage

ROUNDS = int(os.environ.get("REGNB_COLLECTIONS", "120"))
CHAIN = 40
"""Storages of one test."""


def judge(found: Reclaim, root: Path) -> None:
    """Compare with the model of version 3, to the byte."""
    for how, untagged in (("plain", False), ("untagged", True)):
        row = found.table.set_index(["collection", "version"]).loc[PLACE[how]]
        real: Collected | str
        try:
            real = Collector3(root).run(untagged=untagged)
        except Failed as error:
            real = str(error)
        assert row["bound"] == ("fails" if isinstance(real, str) else "exact"), (how, row["message"], real)
        if isinstance(real, str):
            assert row["size"] == 0
            continue
        blobs = found.blobs[found.blobs[how]]
        assert set(blobs["digest"]) == real.blobs, how
        assert row["size"] == blobs["size"].sum()
        assert row["manifests"] == real.manifests, how
        assert ("ends with exit code 1" in row["message"]) == real.red, (how, row["message"])


def play(disk: Disk, *, real: bool) -> None:
    """One storage: what version 3 removes by the model, also by the real 2.8 if asked, before and after a deletion."""
    before = open_storage(disk.root).inventory()
    judge(before.reclaim(), disk.root)
    same_verdict(before.reclaim(), open_storage(disk.root).stock())
    assert set(before.blobs["digest"][~before.blobs["kind"].isin(["missing"])]) == {
        f"{path.parts[-4]}:{path.parts[-2]}" for path in disk.base.glob("blobs/*/*/*/data")
    }
    if real:
        for how, flags in FLAGS.items():
            agrees(before.reclaim(), how, collect(disk.root, "--dry-run", *flags))
    if len(proposed := before.free("1GB", keep=0)):
        assert proposed["total"].iloc[-1] == before.reclaim(proposed).size
    known = before.tags[before.tags["digest"].notna()]
    tags = list(zip(known["repository"], known["tag"], strict=True))
    if chosen := disk.random.sample(tags, min(len(tags), 2)):
        wanted = [f"{name}:{tag}" for name, tag in chosen]
        predicted = before.reclaim(wanted, children=False, referrers=False)
        disk.delete(chosen)
        judge(predicted, disk.root)
        judge(open_storage(disk.root).inventory().reclaim(), disk.root)


@pytest.mark.parametrize("chain", range(-(-ROUNDS // CHAIN)))
def test_each_version_is_predicted_by_its_own_rules(chain: int, distribution_program: None, tmp_path: Path) -> None:
    """Storages of every odd kind: what version 3 removes by the model, and each twentieth also by the real 2.8."""
    for number in range(CHAIN):
        disk = Disk(tmp_path / str(number), (chain, number))
        try:
            play(disk, real=number % 20 == 0)
        except BaseException as error:
            error.add_note(f"chain {chain}, storage {number}: {disk.root}")
            raise
        shutil.rmtree(disk.root)

"""Frames in a file that is mapped, against the frames that were written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from distribution import Distribution
from images import config, fill, image, index, layer

import regnb
from regnb.analysis.inventory import Inventory
from regnb.tables import mapped

BASE = layer("base", 1_000)
ONE = image([BASE, layer(1, 200)], about=config(created="2026-01-01T00:00:00Z"))
TWO = image([BASE, layer(2, 300)], about=config("arm64"))


@pytest.fixture(params=["api", "storage", "empty"])
def read(request: pytest.FixtureRequest, real: Distribution) -> Inventory:
    """An inventory over HTTP, one of a storage, which has more columns that are filled, and one of nothing."""
    if request.param != "empty":
        both = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")])
        fill(real.url, ("a", "one", ONE), ("a", "two", TWO), ("b", "both", both))
    if request.param == "storage":
        return regnb.read(real.root)
    with regnb.connect(real.url, cache=False) as registry:
        return registry.inventory(progress=False)


def test_frames_are_the_same(read: Inventory, tmp_path: Path) -> None:
    """Each frame has the same columns, types, categories and values, and everything is computed of it as before."""
    with (tmp_path / "file").open("wb") as file:
        mapped.write(file, b"about", read.frames)
    about, frames = mapped.read(tmp_path / "file")
    assert about == b"about"
    for name, frame in read.frames.items():
        if len(frame):
            pd.testing.assert_frame_equal(frames[name], frame)
        else:  # categories of nothing have no type
            assert [*frames[name].dtypes.astype("str").items()] == [*frame.dtypes.astype("str").items()]
    again = Inventory(read.registry, read.started, read.finished, frames, read.source, asked=read.asked)
    assert again.summary == read.summary
    assert again._repr_html_() == read._repr_html_()
    assert again.highlights == read.highlights
    pd.testing.assert_frame_equal(again.bases, read.bases)
    pd.testing.assert_frame_equal(again.reclaim().table, read.reclaim().table)
    pd.testing.assert_frame_equal(again.sharing.layers, read.sharing.layers)
    pd.testing.assert_frame_equal(again.usage, read.usage)
    pd.testing.assert_frame_equal(again.find("one"), read.find("one"))
    saved = Inventory.load(again.save(tmp_path / "snapshots"))
    assert saved.summary == read.summary


def test_large_numbers_stay_exact(read: Inventory, tmp_path: Path) -> None:
    """Bytes beyond 2**53 are kept, beside one that is not known."""
    disk = pd.concat([read.disk, read.disk, pd.DataFrame({"what": ["blobs", "links"]})], ignore_index=True)
    disk["used"] = pd.Series([2**53 + 1] + [None] * (len(disk) - 1), dtype="Int64")
    disk = disk.fillna({"files": 0, "size": 0}).astype({"files": "int64", "size": "int64"})
    with (tmp_path / "file").open("wb") as file:
        mapped.write(file, b"", {**read.frames, "disk": regnb.tables.frame.Frame(disk)})
    assert mapped.read(tmp_path / "file")[1]["disk"]["used"][0] == 2**53 + 1


@pytest.mark.parametrize("left", [0, 7, 500, -1, -40])
def test_a_file_that_was_cut_short_is_refused(read: Inventory, tmp_path: Path, left: int) -> None:
    """It is said before anything of it is used."""
    with (tmp_path / "file").open("wb") as file:
        mapped.write(file, b"about", read.frames)
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[:left])
    try:
        frames = mapped.read(tmp_path / "file")[1]
    except (OSError, ValueError):
        return
    # Only what ends the last stream is missing.
    assert left == -1
    assert {name: len(frame) for name, frame in frames.items()} == {n: len(f) for n, f in read.frames.items()}

"""Frames as files: one schema each, whatever they hold, so that the files of two days are read and joined as one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from images import image, layer
from pyarrow import dataset
from stored import Stored

from regnb.analysis.inventory import Inventory
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import make
from regnb.tables.write import PARQUET, arrow, write, write_parquet

DAYS = ("empty", "small", "large")


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Inventory]]:
    """An empty registry, one of two tags, and one with more layers than 8 bits can number."""
    counts = {"empty": 0, "small": 2, "large": 150}
    found = {}
    for day in DAYS:
        tags = [("app", str(tag), image([layer("base", 50), layer(tag, 20)])) for tag in range(counts[day])]
        inventory = Stored(*tags).inventory()
        folder = tmp_path_factory.mktemp(day)
        inventory.write(folder)
        found[day] = (folder, inventory)
    return found


NAMES = [*Stored().inventory().frames, "shared_tags", "shared_layers"]


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_does_not_follow_the_content(days: dict[str, tuple[Path, Inventory]], name: str) -> None:
    """Each day's file has the schema that the columns' description says, and all are read together by pyarrow."""
    files = [folder / f"{name}.parquet" for folder, _ in days.values()]
    expected = {column: PARQUET[dtype] for column, (dtype, _) in COLUMNS[name].items()}
    words = {"bool": "boolean", "timestamp[us, tz=UTC]": PARQUET["datetime64[us, UTC]"]}
    for file in files:
        schema = pq.read_schema(file)
        assert {each.name: words.get(str(each.type), str(each.type)) for each in schema} == expected
        assert schema.metadata is None
    together = dataset.dataset([str(file) for file in files]).to_table()
    assert together.num_rows == sum(pq.read_metadata(file).num_rows for file in files)


def test_two_days_are_joined(days: dict[str, tuple[Path, Inventory]]) -> None:
    """Polars joins the layers of a day with those of another, and with its blobs, by their digests."""
    small, large = (pl.scan_parquet(days[day][0] / "layers.parquet") for day in ("small", "large"))
    blobs = pl.scan_parquet(days["large"][0] / "blobs.parquet")
    both = small.join(large, on=["manifest", "digest"]).join(blobs, on="digest", suffix="_blob").collect()
    assert len(both) == 4
    assert set(both["digest"]) == set(days["small"][1].layers["digest"])


def test_the_values_come_back(days: dict[str, tuple[Path, Inventory]]) -> None:
    """What pandas reads from a file is the frame that was written."""
    folder, inventory = days["large"]
    for name, frame in inventory.frames.items():
        found = pd.read_parquet(folder / f"{name}.parquet")
        expected = pd.DataFrame(frame)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_categorical=False)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_frame_can_be_written(tmp_path: Path, name: str) -> None:
    """Each frame that is described has a schema in Parquet, and keeps it without any rows."""
    frame = make(name, {column: [] for column in COLUMNS[name]})
    write_parquet(arrow(name, frame), tmp_path / "x.parquet")
    assert pq.read_schema(tmp_path / "x.parquet").names == list(COLUMNS[name])
    (path,) = write({name: frame}, tmp_path / "out")
    assert path.read_bytes() == (tmp_path / "x.parquet").read_bytes()

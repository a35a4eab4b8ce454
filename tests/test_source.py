"""A name alone says what is meant: a registry, a storage, or a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest
from distribution import Distribution
from images import fill, image, layer

import regnb
from regnb.errors import InvalidArgument, StorageError
from regnb.source import is_file


def test_each_is_read_as_what_it_is(real: Distribution, tmp_path: Path) -> None:
    """The registry, its storage and a snapshot of either give the same tags and sizes."""
    fill(real.url, ("vm/app", "1", image([layer(1, 300)])))
    api, disk = regnb.read(real.url), regnb.read(real.root)
    assert (api.source, disk.source) == ("api", "storage")
    snapshots = [regnb.read(one.save(tmp_path / "snapshots")) for one in (api, disk)]
    for one in (disk, *snapshots):
        assert one.tags[["repository", "tag", "digest", "size"]].equals(
            api.tags[["repository", "tag", "digest", "size"]]
        )
    assert [one.source for one in snapshots] == ["api", "storage"]
    assert [one.registry for one in snapshots] == [api.registry, str(real.root)]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("localhost:5000", False),
        ("https://host", False),
        ("s3://b/x", True),
        ("file:///x", True),
        ("/x", True),
        ("./x", True),
    ],
)
def test_names(name: str, *, file: bool) -> None:
    """Nothing is looked up to tell what a name means, unless a folder of that name is there."""
    assert is_file(name) is file


def test_a_folder_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name is a folder if there is one, and a registry else."""
    monkeypatch.chdir(tmp_path)
    assert not is_file("data")
    (tmp_path / "data").mkdir()
    assert is_file("data")


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    """An empty folder is an error, and so are some repositories of what is read as a whole."""
    with pytest.raises(StorageError, match="is empty"):
        regnb.read(tmp_path)
    with pytest.raises(InvalidArgument, match="as a whole"):
        regnb.read(tmp_path, ["vm/*"])

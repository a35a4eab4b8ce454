"""What one page of the web UI has read is shown by the next one, but not after a change, and not to who asks again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from images import fill, image, layer
from proxied import proxy
from scripted import Reply, Request

import regnb
from regnb.analysis import recent
from regnb.local import embedded

ONE, TWO = image([layer("one", 50)]), image([layer("two", 50)])


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry with one tag, as a page of the web UI knows it."""
    (tmp_path / "readings").mkdir()
    monkeypatch.setenv("REGNB_READINGS", str(tmp_path / "readings"))
    monkeypatch.setenv("REGNB_FRESH", "60")
    monkeypatch.setattr(recent, "_asked", set())
    with embedded.running(tmp_path / "registry") as server:
        fill(server.url, ("a", "one", ONE))
        yield server.url


def page(url: str, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Open a page, and return the tags that it shows."""
    monkeypatch.setattr(recent, "_asked", set())
    with regnb.connect(url, cache=False) as registry:
        return sorted(registry.inventory(names or None, progress=False).tags["tag"])


def test_the_next_page_shows_what_was_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows the same frames, and when they were read; other repositories are read."""
    with regnb.connect(url, cache=False) as registry:
        first = registry.inventory(progress=False)
        fill(url, ("a", "two", TWO), ("b", "two", TWO))
        monkeypatch.setattr(recent, "_asked", set())
        second = registry.inventory(progress=False)
    assert {name: rows.to_csv() for name, rows in second.frames.items()} == {
        name: rows.to_csv() for name, rows in first.frames.items()
    }
    assert second.finished == first.finished
    assert f"Read at {first.finished:%Y-%m-%d %H:%M:%S} UTC." in second.brief._repr_html_()
    assert page(url, monkeypatch, "b") == ["two"]


def mapped(folder: Path) -> list[range]:
    """The addresses at which this process has files of a folder in its memory; they may have been removed."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
    ends = [line[0].split("-") for line in lines if len(line) > 5 and line[5].startswith(f"{folder}/")]
    return [range(int(start, 16), int(end, 16)) for start, end in ends]


def addresses(values: pd.Series) -> list[int]:
    """Where the values of a column lie: its numbers, or its texts."""
    array = values.array
    if isinstance(array, pd.Categorical):
        codes = array._codes  # type: ignore[attr-defined]
        return [codes.ctypes.data, *addresses(pd.Series(array.categories))]
    if isinstance(array, pd.arrays.ArrowStringArray):
        return [pa.chunked_array([pa.array(array)]).chunk(0).buffers()[2].address]
    return [values.to_numpy().ctypes.data]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not say what is mapped")
def test_pages_share_the_memory_of_what_was_read(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Frames of the page that read, and of the next one, lie in one file that nobody else may read."""
    folder = tmp_path / "readings"
    with regnb.connect(url, cache=False) as registry:
        first = registry.inventory(progress=False)
        monkeypatch.setattr(recent, "_asked", set())
        second = registry.inventory(progress=False)
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    for inventory in (first, second):
        columns = {
            "tags": ["repository", "tag", "digest", "size"],
            "layers": ["manifest", "digest", "position", "size", "command"],
            "blobs": ["digest", "kind", "media_type", "size", "exclusive"],
        }
        lie = [at for name, some in columns.items() for one in some for at in addresses(inventory.frames[name][one])]
        assert all(any(at in place for place in mapped(folder)) for at in lie)


def test_what_is_shared_is_never_changed(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A page that changes a frame changes its own; one that has mapped a file goes on with it when it is removed."""
    with regnb.connect(url, cache=False) as registry:
        first = registry.inventory(progress=False)
        (file,) = (tmp_path / "readings").iterdir()
        before = file.read_bytes()
        first.tags.loc[0, "size"] = -1
        first.tags["tag"] = "other"
        assert file.read_bytes() == before
        monkeypatch.setattr(recent, "_asked", set())
        second = registry.inventory(progress=False)
        assert second.tags["tag"].to_list() == ["one"]
        file.unlink()
        assert second.tags["size"].sum() == second.summary.pulled > 0
        fill(url, ("a", "two", TWO))
        third = registry.inventory(progress=False)
    assert (len(second.tags), len(third.tags)) == (1, 2)


def test_what_is_too_old_takes_no_space(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A visitor who asks for ever other repositories does not fill the disk."""
    fill(url, ("b", "two", TWO))
    for name in "ab":
        page(url, monkeypatch, name)
    assert len([*(tmp_path / "readings").iterdir()]) == 2
    for file in (tmp_path / "readings").iterdir():
        os.utime(file, (time.time() - 61,) * 2)
    page(url, monkeypatch)
    assert len([*(tmp_path / "readings").iterdir()]) == 1


def test_where_nothing_can_be_written_a_page_has_what_it_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or a folder that is gone, costs the next page its time and this one nothing."""
    monkeypatch.setenv("REGNB_READINGS", "/nowhere")
    assert page(url, monkeypatch) == ["one"]


def test_who_asks_again_sees_what_is_there_now(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that reads for the second time reads what is there, and the next pages show that."""
    assert page(url, monkeypatch) == ["one"]
    fill(url, ("a", "two", TWO))
    with regnb.connect(url, cache=False) as registry:
        assert sorted(registry.inventory(progress=False, cached=False).tags["tag"]) == ["one", "two"]
        assert sorted(registry.inventory(progress=False).tags["tag"]) == ["one", "two"]
    assert page(url, monkeypatch) == ["one", "two"]


def test_after_a_change_it_is_read_again(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What another page began to read before this one had written is not shown."""
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    assert page(url, monkeypatch) == ["one"]
    with regnb.connect(url, cache=False) as registry:
        plan = registry.plan_retag("a:one", "two")
        registry.apply(plan, confirm=plan.code, progress=False)
    assert page(url, monkeypatch) == ["one", "two"]


@pytest.mark.parametrize(("how", "cut"), [("old", 0), ("never", 0), *(("damaged", cut) for cut in (0, 1, 50, 99))])
def test_what_cannot_be_shown_is_read(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, cut: int
) -> None:
    """What is too old, or cut short, is read again; with 0 seconds nothing is shown twice."""
    assert page(url, monkeypatch) == ["one"]
    fill(url, ("a", "two", TWO))
    if how == "old":
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
    elif how == "never":
        monkeypatch.setenv("REGNB_FRESH", "0")
    else:
        (file,) = (tmp_path / "readings").iterdir()
        os.truncate(file, file.stat().st_size * cut // 100)
    assert page(url, monkeypatch) == ["one", "two"]
    assert len([*(tmp_path / "readings").iterdir()]) == 1


def test_a_reading_that_failed_in_part_is_not_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next page tries again what this one could not read."""
    broken = [True]

    def answer(request: Request) -> Reply | None:
        return Reply(500) if broken and "/manifests/" in request.path else None

    with (
        proxy(url.partition("://")[2], answer) as server,
        regnb.connect(server.url, cache=False, retries=0) as registry,
    ):
        assert "failed" in set(registry.inventory(progress=False).problems["problem"])
        broken.clear()
        assert page(server.url, monkeypatch) == ["one"]
        with regnb.connect(server.url, cache=False) as again:
            assert not len(again.inventory(progress=False).problems)

"""What one page of the web UI has read is shown by the next one, but not after a change, and not to who asks again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

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


@pytest.mark.parametrize("how", ["old", "never", "damaged"])
def test_what_cannot_be_shown_is_read(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    """What is too old, or cut short, is read again; with 0 seconds nothing is shown twice."""
    assert page(url, monkeypatch) == ["one"]
    fill(url, ("a", "two", TWO))
    if how == "old":
        later = time.time() + 61
        monkeypatch.setattr(time, "time", lambda: later)
    elif how == "never":
        monkeypatch.setenv("REGNB_FRESH", "0")
    else:
        (tags,) = (tmp_path / "readings").rglob("tags.parquet")
        os.truncate(tags, 10)
    assert page(url, monkeypatch) == ["one", "two"]
    assert len([*(tmp_path / "readings").rglob("tags.parquet")]) == 1


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

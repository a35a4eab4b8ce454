"""Repositories by name: what an inventory needs where a registry has no catalog."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from distribution import Distribution
from images import config, fill, image, layer
from proxied import proxy
from scripted import Reply, Request, Server

import regnb
from regnb.crawl.naming import exact, named
from regnb.errors import ConnectionFailed, InvalidArgument, RegistryError, StorageError
from regnb.registry import Registry

OLD = image([layer(1, 100)], about=config(created="2025-01-01T00:00:00Z"))
NEW = image([layer(2, 100)], about=config(created="2026-01-01T00:00:00Z"))
POLICY = '[[rule]]\nrepositories = ["{}"]\nkeep_newest = 1\n'


def test_names_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, globs, files and standard input give one list, each once; comments and blank lines count for nothing."""
    file = tmp_path / "names"
    file.write_text("\ufeffvm/a\r\n# ours\n\n  vm/b  # and this\nvm/a\n", encoding="utf-8")  # as Windows writes it
    monkeypatch.setattr("sys.stdin", io.StringIO("vm/c\nvm/*\n"))
    assert named(["vm/b", f"@{file}", "-"]) == ["vm/b", "vm/a", "vm/c", "vm/*"]
    assert named("vm/a") == ["vm/a"]
    assert exact(["vm/a", "vm/*", "vm/[ab]", "vm/a"]) == ["vm/a"]


def test_an_empty_list_does_not_mean_everything(tmp_path: Path) -> None:
    """A file without names, and one that is not there, are errors: the whole catalog is not read instead."""
    file = tmp_path / "names"
    file.write_text("# none\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match="no repository is named"):
        named(f"@{file}")
    with pytest.raises(StorageError, match="absent"):
        named(f"@{tmp_path}/absent")


@pytest.fixture
def bare(real: Distribution) -> Iterator[Server]:
    """A registry without a catalog."""
    fill(real.url, *((f"vm/{name}", tag, each) for name in "abc" for tag, each in (("1", OLD), ("2", NEW))))
    with proxy(real.host, lambda request: Reply(404) if request.path.startswith("/v2/_catalog") else None) as server:
        yield server


READS: tuple[tuple[str, Callable[[Registry], object]], ...] = (
    ("delete of a glob", lambda registry: registry.plan_delete("vm/*:1")),
    ("retention by a glob", lambda registry: registry.plan_retention(POLICY.format("vm/*"))),
    ("inventory of a glob", lambda registry: registry.inventory("vm/*")),
    ("inventory", lambda registry: registry.inventory()),
)


@pytest.mark.parametrize("read", [read for _, read in READS], ids=[name for name, _ in READS])
def test_a_glob_without_a_catalog(bare: Server, read: Callable[[Registry], object]) -> None:
    """What needs the catalog is an error where there is none, and the hint names the option."""
    with regnb.connect(bare.url, cache=False) as registry, pytest.raises(RegistryError) as caught:
        read(registry)
    assert "--repository NAME" in caught.value.hint


def test_names_need_no_catalog(bare: Server) -> None:
    """What a command, a plan or a policy names exactly is planned without a catalog; globs match what is named."""
    with regnb.connect(bare.url, cache=False) as registry:
        assert {*registry.inventory(["vm/a", "vm/b"]).tags["repository"]} == {"vm/a", "vm/b"}
        assert bare.requests
        plans = (
            registry.plan_delete("vm/a:1"),
            registry.plan_delete("vm/*:1", repositories=["vm/a", "vm/b"]),
            registry.plan_delete(["vm/?:1", "vm/c:1"], repositories="vm/a"),
            registry.plan_retention(POLICY.format("vm/a")),
            registry.plan_retention(POLICY.format("vm/*"), repositories=["vm/a", "vm/c"]),
        )
        gone = [sorted({step.repository for step in plan.steps if step.writes}) for plan in plans]
        assert gone == [["vm/a"], ["vm/a", "vm/b"], ["vm/a", "vm/c"], ["vm/a"], ["vm/a", "vm/c"]]
        assert all(step.tag != "2" for plan in plans for step in plan.steps if step.writes)


def test_a_catalog_that_does_not_come(real: Distribution) -> None:
    """A catalog that breaks off is an error that says how to do without it; a registry that is gone is not."""
    broken = Reply(body=b"{", announced=100)

    def answer(request: Request) -> Reply | None:
        return broken if request.path.startswith("/v2/_catalog") else None

    refused = pytest.raises(ConnectionFailed, match="the catalog was not read")
    with proxy(real.host, answer) as server, regnb.connect(server.url, cache=False) as registry, refused as caught:
        registry.inventory()
    assert "--repository NAME" in caught.value.hint

"""The demo registry: filled once, kept where it was put, and made as new while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from proxied import state

import regnb
from regnb.errors import InvalidArgument, Refused
from regnb.local import demo, sandbox
from regnb.notebooks.runbook import runbooks


def test_the_demo_has_something_to_show() -> None:
    """Beside the demo registry are its storage and sample snapshots, from long ago up to the demo itself."""
    with sandbox.demo_registry() as found:
        assert regnb.read(found.storage).source == "storage"
        frame = regnb.growth(found.snapshots).frame
    assert frame["tags"].iloc[-1] == sum(len(item.tags) for item in demo.items() if item.repository != demo.RETIRED)
    assert frame["stored"].is_monotonic_increasing
    assert frame["new"].gt(0).sum() > 3


def test_a_kept_demo_goes_on_where_it_was(tmp_path: Path) -> None:
    """In a folder of one's own it is filled the first time only: what was changed stays changed."""
    with sandbox.demo_registry(tmp_path) as found, regnb.connect(found.url, cache=False) as registry:
        plan = registry.plan_retag("vm/centos8:8.3", "mine")
        registry.apply(plan, confirm=plan.code)
    with sandbox.demo_registry(tmp_path) as found:
        assert "vm/centos8:mine" in state(found.url, "vm/centos8")


def test_reset_makes_it_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came is gone and what went is back, while the registry runs; damage is mended, too."""
    with sandbox.demo_registry() as found, regnb.connect(found.url, cache=False) as registry:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        before = state(found.url, "vm/centos8", "apps/web")
        for plan in (registry.plan_retag("vm/centos8:8.3", "mine"), registry.plan_delete("apps/web:1.*")):
            registry.apply(plan, confirm=plan.code)
        assert state(found.url, "vm/centos8", "apps/web") != before
        sandbox.damage_demo()
        assert registry.inventory(progress=False).problems["problem"].tolist() == ["dangling"]
        sandbox.reset_demo()
        assert state(found.url, "vm/centos8", "apps/web") == before
        assert registry.inventory(progress=False).problems.empty


def test_the_highlights_of_the_demo() -> None:
    """Three sentences name the largest namespace, the largest layer with its users, and what old tags would free."""
    with sandbox.demo_registry() as found, regnb.connect(found.url, cache=False) as registry:
        space, layer, old = registry.inventory(progress=False).highlights
    assert space.startswith("68% of the space (28.0 MB) is used by vm/*")
    assert "25.2 MB" in layer
    assert "vm/centos8" in layer
    assert old.startswith("At most")


def test_the_policy_of_the_notebook_removes_something() -> None:
    """On the demo the packaged policy deletes old tags, and no safety check has to be overridden."""
    with sandbox.demo_registry() as found, regnb.connect(found.url, cache=False) as registry:
        policy = next(each for each in runbooks() if each.name == "13-retention").parameters["policy"]
        plan = registry.plan_retention(policy)
        assert {step.repository for step in plan.steps if step.writes} == {"apps/api", "apps/web"}
        assert registry.apply(plan, confirm=plan.code).status == "done"


def test_like_distribution_2_8(tmp_path: Path) -> None:
    """It deletes no single tag and has no referrers endpoint, as docker-registry 2.8; the signatures are there."""
    with sandbox.demo_registry(tmp_path, like_2_8=True) as found, regnb.connect(found.url, cache=False) as registry:
        registry.health(probe=True)
        known = registry.capabilities.set_index("capability")["supported"]
        assert (known["deletion"], known["tag deletion"], known["referrers"]) == ("yes", "no", "no")
        with pytest.raises(Refused) as refused:
            registry.apply(plan := registry.plan_delete("vm/centos8:8"), confirm=plan.code)
        assert "dummy" in str(refused.value)
        kinds = set(registry.inventory(progress=False).manifests["kind"])
        assert {"signature", "sbom"} <= kinds


def test_a_demo_that_is_damaged_on_purpose(tmp_path: Path) -> None:
    """``damaged`` takes one manifest away, and everything else can be read."""
    with sandbox.demo_registry(tmp_path, damaged=True) as found, regnb.connect(found.url, cache=False) as registry:
        problems = registry.inventory(progress=False).problems
        assert [(row.repository, row.reference) for row in problems.itertuples()] == [demo.DANGLING]


@pytest.mark.parametrize(("name", "value"), [("REGNB_URL", "http://127.0.0.1:9"), ("REGNB_READ_ONLY", "1")])
def test_another_registry_is_never_filled(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where the environment names another one beside the demo, and not where nothing may be written."""
    with sandbox.demo_registry() as found:
        for key, known in (found.environment | {name: value}).items():
            monkeypatch.setenv(key, known)
        with pytest.raises(InvalidArgument):
            sandbox.reset_demo()
        assert state(found.url, "vm/centos8")


@pytest.mark.parametrize("lacking", ["REGNB_DEMO", "REGNB_STORAGE", "snapshots"])
def test_nothing_but_a_demo_is_reset(lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that the demo did not make is not touched."""
    content = tmp_path / "storage" / "docker"
    content.mkdir(parents=True)
    if lacking != "snapshots":
        (tmp_path / "sample-snapshots").mkdir()
    settings = {
        "REGNB_DEMO": "http://127.0.0.1:9",
        "REGNB_STORAGE": str(content.parent),
        "REGNB_URL": "http://127.0.0.1:9",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(lacking, raising=False)
    with pytest.raises(InvalidArgument):
        sandbox.reset_demo()
    assert content.is_dir()

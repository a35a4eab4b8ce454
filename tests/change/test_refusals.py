"""What a registry will refuse is said before the plan is confirmed, and a plan that is only made sends no write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Seeded
from distribution import Distribution
from images import fill, image, layer
from proxied import proxy, state

import regnb
from regnb.change.plan import Plan
from regnb.errors import PlanMismatch, ReadOnly
from regnb.registry import Registry

WRITES = ("PUT", "POST", "PATCH", "DELETE")
SIBLING = "vm/centos8:8.4"
"""A tag beside others on its digest, which therefore goes alone."""


class Watched:
    """A registry behind a proxy that notes what could write."""

    def __init__(self, url: str, host: str) -> None:
        self.url, self.host = url, host
        self.writes: list[str] = []


@pytest.fixture
def watched(writable: Seeded) -> Iterator[tuple[Seeded, Watched]]:
    found = Watched("", writable.host)

    def note(request: object) -> None:
        if (method := getattr(request, "method", "")) in WRITES:
            found.writes.append(f"{method} {getattr(request, 'path', '')}")

    with proxy(writable.host, note) as server:
        found.url = server.url
        yield writable, found


def test_a_plan_that_is_made_sends_no_write_and_says_what_is_not_known(watched: tuple[Seeded, Watched]) -> None:
    """Before anything is known, each plan that removes something has one line that names the check, and a code."""
    _, there = watched
    with regnb.connect(there.url) as registry:
        for plan in (
            registry.plan_delete(SIBLING),
            registry.plan_rename(SIBLING, "8.5"),
            registry.plan_request("DELETE", "/v2/vm/centos8/manifests/8.4"),
        ):
            (refusal,) = plan.refusals
            assert not refusal.known
            assert refusal.message == f"it is not known whether {registry.host} deletes manifests and single tags"
            assert "--probe" in refusal.hint
            assert plan.ready
        assert registry.plan_retag(SIBLING, "new").refusals == ()
        (refusal,) = registry.plan_delete("apps/web:1.0.0").refusals
        assert "single tags" not in refusal.message, "no tag of this plan goes alone"
    assert there.writes == []


def test_a_check_says_it_and_a_later_plan_knows_it(watched: tuple[Seeded, Watched]) -> None:
    """docker-registry 2.8 will refuse a single tag, and names the allowance; another handle needs no request."""
    seeded, there = watched
    before = state(seeded.url, "vm/centos8")
    with regnb.connect(there.url) as registry:
        plan = registry.check(registry.plan_delete(SIBLING))
    assert len(there.writes) == 2
    assert all(write.startswith("DELETE ") and "8.4" not in write for write in there.writes)
    assert state(seeded.url, "vm/centos8") == before
    real = seeded.kind == "real"
    assert plan.ready != real
    assert [one.allow for one in plan.refusals] == (["dummy"] if real else [])
    assert "dummy" in plan.refusals[0].hint if real else True
    with regnb.connect(there.url) as registry:
        later = registry.plan_delete(SIBLING)
        assert [one.message for one in later.refusals] == [one.message for one in plan.refusals]
        assert registry.plan_delete(SIBLING, allow=["dummy"]).ready
    assert len(there.writes) == 2


def refused(registry: Registry, plan: Plan) -> str:
    found = registry.check(plan)
    assert not found.ready
    (refusal,) = found.refusals
    assert refusal.known
    return f"{refusal.message}; {refusal.hint}"


def test_a_registry_that_does_not_delete(distribution_program: None, tmp_path: Path) -> None:
    """Where deletion is switched off the plan says so, and later plans know it without asking."""
    with Distribution(tmp_path / "off", delete=False) as there, regnb.connect(there.url) as registry:
        fill(there.url, ("a", "1", image([layer(1, 100)])))
        assert "storage.delete.enabled" in refused(registry, registry.plan_delete("a:1"))
        (refusal,) = registry.plan_delete("a:1").refusals
        assert "does not delete" in refusal.message
        assert not registry.plan_rename("a:1", "2").ready


def test_a_registry_that_is_read_only(distribution_program: None, tmp_path: Path) -> None:
    """In maintenance mode OPTIONS says that nothing can be put: no write is sent to find out.

    What it refuses now says nothing of what it deletes afterwards: a later plan is not refused for it.
    """
    with Distribution(tmp_path / "r") as there:
        fill(there.url, ("a", "1", image([layer(1, 100)])))
    config = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}
    with Distribution(tmp_path / "r", config=config) as there, regnb.connect(there.url) as registry:
        assert "read-only" in refused(registry, registry.plan_retag("a:1", "2"))
        plan = registry.plan_delete("a:1")
        assert "405" in refused(registry, plan)
        with pytest.raises(ReadOnly):
            registry.apply(plan, confirm=plan.code)
        assert not any("does not delete" in one.message for one in registry.plan_delete("a:1").refusals)


def test_only_a_plan_of_this_registry_is_checked(seeded_embedded: Seeded) -> None:
    """Another registry's plan is an error, before anything is sent."""
    plan = Plan(operation="delete", url="http://localhost:1", steps=())
    with regnb.connect(seeded_embedded.url) as registry, pytest.raises(PlanMismatch):
        registry.check(plan)

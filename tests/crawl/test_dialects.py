"""Registries without a catalog or a route for DELETE, with digests among tags, or with tags that outlive a manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dialects import Dialect
from faulty import Faulty
from images import fill, image, layer

import regnb
from regnb.errors import RegistryError, RegnbError, Unproven
from regnb.local import embedded
from regnb.registry import Registry

ONE, TWO = (image([layer(number, 100)]) for number in range(2))


@contextlib.contextmanager
def speaking(folder: Path, **switches: bool) -> Iterator[Registry]:
    """A registry with these switches, which holds two images under three tags."""
    with embedded.running(folder) as server:
        fill(server.url, ("team/app", "1", ONE), ("team/app", "one", ONE), ("team/app", "2", TWO))
        with Faulty(server.url.partition("://")[2]) as proxy:
            proxy.fronts = (Dialect(folder, **switches),)
            with regnb.connect(proxy.url, cache=False, retries=0) as registry:
                yield registry


def test_without_a_catalog_what_is_named_is_read_whole(tmp_path: Path) -> None:
    """A name needs no catalog and the reading is complete; a glob is an error that says how to name."""
    with speaking(tmp_path, lists=False) as registry:
        found = registry.inventory(["team/app"], progress=False)
        assert found.complete
        assert set(found.tags["tag"]) == {"1", "one", "2"}
        with pytest.raises(RegnbError) as caught:
            registry.inventory(["team/*"], progress=False)
        assert "--repository" in caught.value.hint
        # A copy matches its globs with the repositories that are named.
        with pytest.raises(RegnbError, match="does not list its repositories"):
            registry.plan_copy("team/*:1", "copied/{repository}:{tag}")
        plan = registry.plan_copy("team/*:1", "copied/{repository}:{tag}", repositories=["team/app", "other/app"])
        assert plan.to_frame()[["repository", "tag"]].to_numpy().tolist() == [["copied/team/app", "1"]]


def test_digests_among_the_tags_are_rows_and_stop_nothing(tmp_path: Path) -> None:
    """Each listed digest is a problem that keeps nothing from being complete, and a deletion goes on."""
    with speaking(tmp_path, digests=True) as registry:
        found = registry.inventory(progress=False)
        assert found.complete
        assert set(found.tags["tag"]) == {"1", "one", "2"}
        assert found.problems["problem"].to_list() == ["not a tag"] * 2
        plan = registry.plan_delete("team/app:2", inventory=found)
        assert registry.apply(plan, confirm=plan.digest, progress=False).status == "done"
        assert set(registry.inventory(progress=False).tags["tag"]) == {"1", "one"}


def test_without_a_route_for_delete_nothing_is_believed_and_nothing_written(tmp_path: Path) -> None:
    """A web page proves no deletion: health warns, the plan says that it will be refused, and nothing is done."""
    with speaking(tmp_path, deletes=False) as registry:
        assert registry.health(probe=True).set_index("check").loc["deletion", "state"] == "warn"
        plan = registry.check(registry.plan_delete("team/app:2", inventory=registry.inventory(progress=False)))
        assert not plan.ready
        with pytest.raises((Unproven, RegistryError)):
            registry.apply(plan, confirm=plan.digest, progress=False)
        assert registry.tag_names("team/app") == ["1", "2", "one"]


def test_tags_that_outlive_their_manifest_go_first(tmp_path: Path) -> None:
    """Where a deletion by digest leaves the tags, they are removed before it, and none resolves any more."""
    with speaking(tmp_path, keeps=True) as registry:
        plan = registry.plan_delete(["team/app:1", "team/app:one"], inventory=registry.inventory(progress=False))
        assert registry.apply(plan, confirm=plan.digest, progress=False).status == "done"
        assert registry.tag_names("team/app") == ["2"]
        with pytest.raises(RegnbError):
            registry.digest("team/app:1")

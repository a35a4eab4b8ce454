"""Plans that remove something are applied as each vendor deletes, and say first what it will refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from images import fill, image, layer
from proxied import state
from scripted import Reply, Server
from vendors import (
    ECR,
    PASSWORD,
    USER,
    AzureRegistry,
    GitHub,
    GitLab,
    Harbor,
    Hub,
    Quay,
    Vendor,
)

import regnb
from regnb.errors import Denied, Unsupported
from regnb.local import embedded
from regnb.registry import Registry
from regnb.wire.failures import raise_for
from regnb.wire.messages import Response


def connected(server: Server) -> Registry:
    return regnb.connect(server.url, username=USER, password=PASSWORD, cache=False)


@pytest.mark.parametrize("kind", [Harbor, GitLab, ECR, Hub, GitHub, Quay, AzureRegistry], ids=lambda kind: kind.name)
def test_a_plan_is_applied_as_the_vendor_deletes(kind: type[Vendor], tmp_path: Path) -> None:
    """Two of three tags of one manifest, and another manifest whole: what is planned goes, and nothing else.

    Where the vendor deletes no single tag, the plan says so first. Undo brings all back.
    """
    folder = tmp_path / "registry"
    with embedded.running(folder) as registry:
        one, other, third = (image([layer(number, 100)]) for number in range(3))
        fill(
            registry.url,
            *(("team/app", tag, one) for tag in ("1.0", "1", "latest")),
            *(("team/app", tag, other) for tag in ("2.0", "2")), ("team/app", "3.0", third),
        )  # fmt: skip
        standing = kind(folder)
        with standing.serve(registry.url.partition("://")[2]) as server, connected(server) as handle:
            before = state(registry.url, "team/app")
            inventory = handle.inventory(["team/app"], progress=False)
            plan = handle.plan_delete(["team/app:1.0", "team/app:1", "team/app:2*"], inventory=inventory)
            if kind is GitHub:
                assert [one.allow for one in plan.refusals] == ["dummy"]
                plan = handle.plan_delete(
                    ["team/app:1.0", "team/app:1", "team/app:2*"], inventory=inventory, allow=["dummy"]
                )
            assert plan.refusals == ()
            assert any(f"{kind.name}'s own API deletes" in note for note in plan.notes)
            assert plan.collector == ("" if kind is Harbor else kind.name)
            moved = handle.plan_retag("team/app:3.0", "1.0", allow=["overwrite"])
            for one in (plan, moved):
                assert ("the next garbage collection" in one.summary()) == (kind is Harbor)
            checked = handle.check(plan)
            assert checked.refusals == ()
            assert state(registry.url, "team/app") == before
            receipt = handle.apply(plan, confirm=plan.digest, progress=False)
            assert {each.status for each in receipt.outcomes.values()} == {"done"}, receipt.outcomes
            left = state(registry.url, "team/app")
            assert left == {key: before[key] for key in ("team/app:3.0", "team/app:latest")}
            sent = [each.path for each in server.requests if each.method == "DELETE" and each.path.startswith("/v2/")]
            assert kind not in (ECR, GitHub) or not any("sha256:" in path for path in sent)
            back = handle.plan_undo(receipt)
            handle.apply(back, confirm=back.digest, progress=False)
            assert state(registry.url, "team/app") == before


@pytest.mark.parametrize("kind", [ECR, GitHub, Hub], ids=lambda kind: kind.name)
def test_a_tag_that_came_meanwhile_is_not_lost(kind: type[Vendor], tmp_path: Path) -> None:
    """Where a manifest goes with every tag, one that was set since the plan was made keeps it: the row is stale."""
    with embedded.running(tmp_path) as registry:
        one = image([layer(1, 100)])
        fill(registry.url, ("team/app", "1.0", one), ("team/app", "2.0", image([layer(2, 100)])))
        standing = kind(tmp_path)
        with standing.serve(registry.url.partition("://")[2]) as server, connected(server) as handle:
            plan = handle.plan_delete("team/app:1.0", inventory=handle.inventory(["team/app"], progress=False))
            fill(registry.url, ("team/app", "new", one))
            receipt = handle.apply(plan, confirm=plan.digest, progress=False)
            assert [each.status for each in receipt.outcomes.values()] == ["stale"]
            assert {*state(registry.url, "team/app")} == {"team/app:1.0", "team/app:2.0", "team/app:new"}


def test_a_tag_that_became_an_images_last_one_keeps_the_image(tmp_path: Path) -> None:
    """ECR deletes an image with its last tag: a row that takes a tag alone takes no image that no row names."""
    with embedded.running(tmp_path) as registry:
        one, two = (image([layer(number, 100)]) for number in (1, 2))
        fill(registry.url, ("team/app", "1.0", one), ("team/app", "keep", one), ("team/app", "2.0", two))
        standing = ECR(tmp_path)
        with standing.serve(registry.url.partition("://")[2]) as server, connected(server) as handle:
            plan = handle.plan_delete("team/app:1.0", inventory=handle.inventory(["team/app"], progress=False))
            assert [step.action for step in plan.steps] == ["untag"]
            fill(registry.url, ("team/app", "keep", two))
            receipt = handle.apply(plan, confirm=plan.digest, progress=False)
            (row,) = receipt.outcomes.values()
            assert row.status == "failed"
            assert "last tag of its image by now" in row.message
            assert {*state(registry.url, "team/app")} == {"team/app:1.0", "team/app:2.0", "team/app:keep"}


def test_where_the_vendors_api_fails_a_name_is_deleted_all_the_same(tmp_path: Path) -> None:
    """A tag that is named exactly is planned from what the registry lists, although the vendor's API refuses."""
    with embedded.running(tmp_path) as registry:
        fill(registry.url, ("team/app", "1.0", image([layer(1, 100)])), ("team/app", "2.0", image([layer(2, 100)])))
        standing = GitLab(tmp_path)
        standing.fault = lambda _: Reply(403, {}, b"{}")
        with standing.serve(registry.url.partition("://")[2]) as server, connected(server) as handle:
            assert "directory" in set(handle.inventory(["team/app"], progress=False).problems["problem"])
            plan = handle.plan_delete("team/app:1.0")
    assert [step.action for step in plan.steps] == ["delete"]


class Keeping(Hub):
    """Docker Hub where another image needs every manifest."""

    deletes = ()


def test_a_manifest_that_the_vendor_keeps_is_said_to_be_kept(tmp_path: Path) -> None:
    """The tags are gone by the vendor's API and the registry deletes no manifest: the row is done, and says so."""
    with embedded.running(tmp_path) as registry:
        fill(registry.url, ("team/app", "1.0", image([layer(1, 100)])), ("team/app", "2.0", image([layer(2, 100)])))
        standing = Keeping(tmp_path)
        with standing.serve(registry.url.partition("://")[2]) as server, connected(server) as handle:
            plan = handle.plan_delete("team/app:1.0", inventory=handle.inventory(["team/app"], progress=False))
            receipt = handle.apply(plan, confirm=plan.digest, progress=False)
    (row,) = receipt.outcomes.values()
    assert row.status == "done"
    assert row.message.startswith("its tags are gone, and Docker Hub keeps the manifest until it collects it by itself")
    assert "storage.delete.enabled" not in row.message


def test_the_plan_names_what_is_locked_apart_from_the_tags(tmp_path: Path) -> None:
    """Docker Hub's rules and a locked manifest of Azure are refusals of a deletion, and a policy keeps such tags."""
    policy = '[[rule]]\nrepositories = ["team/app"]\nkeep_matching = ["2.0"]\nremove_at_most = "100%"\n'
    with embedded.running(tmp_path) as registry:
        one = image([layer(1, 100)])
        fill(registry.url, ("team/app", "v1.0", one), ("team/app", "2.0", image([layer(2, 100)])))
        hub, azure = Hub(tmp_path), AzureRegistry(tmp_path)
        hub.rules = ["v.*", "(not a rule"]
        azure.manifests = {str(one.digest)}
        for standing in (hub, azure):
            with standing.serve(registry.url.partition("://")[2]) as server, connected(server) as handle:
                inventory = handle.inventory(["team/app"], progress=False)
                plan = handle.plan_delete("team/app:v1.0", inventory=inventory)
                assert not plan.ready
                assert "will refuse to delete team/app:v1.0: " in plan.refusals[0].message
                assert handle.check(plan).refusals == plan.refusals
                kept = handle.plan_retention(policy, inventory=inventory).to_frame().set_index("tag")["reason"]
                assert kept["v1.0"].startswith("kept: the registry would not delete it: ")


def test_without_the_right_nothing_is_deleted_and_the_hint_fits_the_vendor(tmp_path: Path) -> None:
    """The vendor's API refuses a tag that is not there: nothing was written, and nobody is told to change a config."""
    with embedded.running(tmp_path) as registry:
        fill(registry.url, ("team/app", "1.0", image([layer(1, 100)])))
        standing = Hub(tmp_path)
        standing.fault = lambda request: Reply(403, {}, b"{}") if request.method == "DELETE" else None
        with standing.serve(registry.url.partition("://")[2]) as server, connected(server) as handle:
            plan = handle.plan_delete("team/app:1.0", inventory=handle.inventory(["team/app"], progress=False))
            refused = handle.check(plan).refusals[0]
            assert refused.known
            assert refused.hint.startswith("log in with an access token with the scope Read, Write, Delete")
            with pytest.raises(Denied, match="does not allow this to the login"):
                handle.apply(plan, confirm=plan.digest, progress=False)
            assert "team/app:1.0" in state(registry.url, "team/app")


@pytest.mark.parametrize("host", ["ghcr.io", "123456789012.dkr.ecr.eu-central-1.amazonaws.com", "registry.gitlab.com"])
@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_nobody_is_told_to_set_an_option_that_the_vendor_alone_can_set(host: str, kind: str) -> None:
    """A 405 to a DELETE at a host of a vendor names the vendor; at any other it names distribution's option."""
    for name, words in ((host, "which runs this registry"), ("r.example.com", "storage.")):
        response = Response("DELETE", f"https://{name}/v2/a/manifests/1", 405, {"content-type": kind}, b"{}")
        with pytest.raises(Unsupported) as caught:
            raise_for(response)
        assert words in caught.value.hint

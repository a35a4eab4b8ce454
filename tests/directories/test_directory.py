"""What a vendor's own API tells is the same inventory with fewer requests, is checked, and is never needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from unittest import mock

import anyio
import pandas as pd
import pytest
from conftest import Seeded
from images import fill, image, layer
from proxied import proxy
from scripted import Reply, Request, Server
from vendors import (
    ECR,
    PASSWORD,
    USER,
    ArtifactRegistry,
    AzureRegistry,
    Elsewhere,
    GitHub,
    GitLab,
    Harbor,
    Hub,
    Quay,
    Stocked,
    Vendor,
    Zot,
    stock,
)

import regnb
from regnb.analysis.inventory import Inventory
from regnb.directories.api import Sight
from regnb.directories.detection import find
from regnb.directories.directory import Directory, Listed
from regnb.errors import Denied, NotFound, Refused
from regnb.local import embedded
from regnb.tables.columns import INVENTORY
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials
from regnb.wire.transport import Transport

VENDORS = [Harbor, GitLab, ECR, ArtifactRegistry, Zot, Hub, GitHub, Quay, AzureRegistry]
TOLD = ["pushed", "pulled", "pulls_since", "locked"]
"""Columns of tags that only a vendor's API fills."""


PULLS = {"Harbor", "Amazon ECR", "zot", "Docker Hub"}
"""Those that tell when a tag was pulled."""


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stocked]:
    """A registry that lists referrers, with a little of each kind."""
    folder = tmp_path_factory.mktemp("stocked")
    with embedded.running(folder) as server:
        stock(server.url, folder)
        yield Stocked(server.url, folder)


@pytest.fixture(params=VENDORS, ids=lambda kind: kind.name)
def vendor(request: pytest.FixtureRequest, stocked: Stocked) -> Iterator[tuple[Vendor, Server]]:
    """Each vendor before a registry with the demo content, in pages of two entries."""
    kind: type[Vendor] = request.param
    standing = kind(stocked.root)
    standing.page = 2
    with standing.serve(stocked.host) as server:
        yield standing, server


def read(
    server: Server, *, cache: Path | bool = False, plain: bool = False, repositories: Sequence[str] | None = None
) -> Inventory:
    with regnb.connect(server.url, username=USER, password=PASSWORD, cache=cache, plain=plain) as registry:
        return registry.inventory(repositories, progress=False)


def rows(frame: pd.DataFrame) -> set[tuple[str, ...]]:
    return {tuple(map(str, row)) for row in frame.itertuples(index=False)}


def same(one: Inventory, other: Inventory) -> None:
    """Every frame that both can fill is the same."""
    for name in INVENTORY:
        if name == "coverage":
            continue
        first, second = (pd.DataFrame(each.frames[name]) for each in (one, other))
        if name == "tags":
            first, second = (each.drop(columns=TOLD) for each in (first, second))
        if "pullable" in first:
            # Which of two repositories is asked for an image that both have depends on which is read first.
            both = first.merge(second, on=["repository", "tag" if name == "tags" else "digest"])
            known = both[["pullable_x", "pullable_y"]].dropna()
            assert (known["pullable_x"] == known["pullable_y"]).all()
            first, second = (each.drop(columns="pullable") for each in (first, second))
        if name == "manifests":
            first, second = (each.drop(columns="checked") for each in (first, second))  # that is how, not what
        assert rows(first) ^ rows(second) == set(), name
    columns = ["what", "listed", "failed", "denied", "complete"]
    pd.testing.assert_frame_equal(pd.DataFrame(one.coverage[columns]), pd.DataFrame(other.coverage[columns]))


def test_the_inventory_is_the_same_with_it_and_without_it(vendor: tuple[Vendor, Server], tmp_path: Path) -> None:
    """Cold and warm, with pages of two entries, the vendor's API and the registry API give one inventory.

    Warm, what the vendor's API told is believed and named, a sample is asked for with HEAD, and dates come beside it.
    """
    standing, server = vendor
    standing.content.pulled["team/app/web", "2.0"] = when = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
    plain = read(server, cache=tmp_path, plain=True)
    assert not standing.asked or standing.name == "Artifact Registry"  # whose API is that of the registry
    same(read(server), plain)
    before = len(server.requests)
    warm = read(server, cache=tmp_path)
    asked = server.requests[before:]
    same(warm, read(server, cache=tmp_path, plain=True))
    heads = [each for each in asked if each.method == "HEAD" and "/manifests/" in each.path]
    tags = warm.coverage.set_index("what").loc["tags"]
    assert tags["told"] > tags["read"]
    assert len(heads) < tags["told"]
    assert tags["source"] == f"{standing.name}'s API, 5 of {tags['told']} tags checked by HEAD"
    row = warm.tags.set_index(["repository", "tag"]).loc[("team/app/web", "2.0")]
    if standing.name != "Amazon ECR":  # which dates what moto was given
        # Some vendors give seconds, and round them.
        assert abs(row["pushed"] - standing.content.pushed("team/app/web", "2.0")) <= timedelta(seconds=1)
    if standing.name in PULLS:
        assert row["pulled"] == when
        assert row["pulls_since"] == row["pushed"]
        others = warm.tags[warm.tags["digest"] != row["digest"]]
        assert others["pulled"].isna().all()
    else:
        assert warm.tags["pulled"].isna().all()
        assert warm.tags["pulls_since"].isna().all()


FAULTS = {
    "403": Reply(403, {}, b"{}"),
    "500": Reply(500, {}, b"oops"),
    "web page": Reply(200, {"Content-Type": "text/html"}, b"<html></html>"),
    "other types": Reply(200, {"Content-Type": "application/json"}, b'{"data": {"projects": 7}}'),
    "nothing": Reply(200, {"Content-Type": "application/json"}, b"null"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_where_it_fails_the_registry_is_read(stocked: Stocked, fault: str) -> None:
    """Whatever the vendor's API answers, the inventory is that of the registry, and rows say what failed."""
    kinds: dict[str, list[type[Vendor]]] = {"500": [ECR], "403": [GitHub], "other types": [Hub], "nothing": [Quay]}
    for kind in [Harbor, GitLab, *kinds.get(fault, [AzureRegistry])]:
        standing = kind(stocked.root)
        with standing.serve(stocked.host) as server:
            plain = read(server, plain=True)
            standing.fault = lambda _: FAULTS[fault]
            found = read(server)
        said = found.problems[found.problems["problem"] == "directory"]
        assert 1 <= len(said) <= 3
        assert not said["incomplete"].any()
        assert said["message"].str.startswith("read over the registry API instead: ").all()
        assert said["hint"].str.contains("is not asked again").sum() == 1
        found.frames["problems"] = found.problems[found.problems["problem"] != "directory"]
        same(found, plain)


def test_what_a_sample_refutes_is_not_believed(stocked: Stocked, tmp_path: Path) -> None:
    """A vendor's API that gives tags another digest, or leaves a tag out, is not believed in anything."""
    standing = Harbor(stocked.root)
    with standing.serve(stocked.host) as server:
        plain = read(server, cache=tmp_path, plain=True)
        plain = read(server, cache=tmp_path, plain=True)
        tags = standing.content.tags("team/app/web")
        other = standing.content.tags("team/base").popitem()[1]
        names = [(name, tag) for name in standing.content.repositories() for tag in standing.content.tags(name)]
        hidden = {("team/app/web", tag) for tag in list(tags)[:2]}
        for standing.content.wrong, standing.content.hidden in ((dict.fromkeys(names, other), set()), ({}, hidden)):
            found = read(server, cache=tmp_path)
            assert "directory" in set(found.problems["problem"])
            assert found.coverage["told"].sum() == 0
            found.frames["problems"] = found.problems[found.problems["problem"] != "directory"]
            same(found, plain)


def test_what_is_pushed_meanwhile_is_no_contradiction(stocked: Stocked, tmp_path: Path) -> None:
    """Where the vendor's API, asked again, agrees with the registry, its first answer was merely older."""
    standing = Harbor(stocked.root)
    with standing.serve(stocked.host) as server:
        read(server, cache=tmp_path, plain=True)
        earlier = standing.content.tags("team/base")["v1"]
        standing.content.wrong = {("team/base", tag): earlier for tag in ("v0", "v1", "v2")}
        asked: set[str] = set()

        def again(request: Request) -> None:
            if request.path in asked:
                standing.content.wrong.clear()
            asked.add(request.path)

        standing.fault = again
        found = read(server, cache=tmp_path, repositories=["team/base"])
        same(found, read(server, cache=tmp_path, plain=True, repositories=["team/base"]))
    assert found.coverage.set_index("what").loc["tags", ["told", "read"]].to_list() == [1, 2]


@pytest.mark.parametrize(
    "kind", [Harbor, GitLab, ECR, Zot, Hub, GitHub, Quay, AzureRegistry], ids=lambda kind: kind.name
)
def test_it_lists_the_repositories_where_the_registry_does_not(stocked: Stocked, kind: type[Vendor]) -> None:
    """Without a catalog the vendor's API names the repositories, and coverage says so."""
    standing = kind(stocked.root)
    standing.page = 2
    with standing.serve(stocked.host) as server:
        whole = read(server, plain=True)
        standing.catalog = False
        found = read(server)
        with pytest.raises(Denied):
            read(server, plain=True)
    assert set(found.repositories["repository"]) == set(whole.repositories["repository"])
    assert found.coverage.set_index("what").loc["catalog", "source"] == f"{kind.name}'s API"
    assert found.complete


def test_health_tells_what_it_gives_and_which_rights_it_needs(vendor: tuple[Vendor, Server]) -> None:
    """The row names what the API gives; where the login is refused, it names the rights."""
    standing, server = vendor
    with regnb.connect(server.url, username=USER, password=PASSWORD, cache=False) as registry:
        checks = registry.health().set_index("check")
        assert checks.loc["own API", "state"] == "ok"
        assert checks.loc["own API", "found"].startswith(f"{standing.name}'s API gives ")
        if standing.name in ("Harbor", "GitLab"):
            standing.fault = lambda _: Reply(403, {}, b"{}")
            refused = registry.health().set_index("check").loc["own API"]
            assert refused["state"] == "warn"
            assert refused["hint"].startswith("log in ")


def test_where_github_asks_for_fewer_requests_nobody_is_told_to_log_in(stocked: Stocked) -> None:
    """GitHub answers 403 to too many requests: the row says so, and not that rights are missing."""
    standing = GitHub(stocked.root)
    standing.fault = lambda _: Reply(403, {"x-ratelimit-remaining": "0"}, b"{}")
    with standing.serve(stocked.host) as server:
        found = read(server)
    assert found.complete
    row = found.problems[found.problems["problem"] == "directory"].iloc[0]
    assert "asks for fewer requests" in row["message"]
    assert "log in" not in row["hint"]


@pytest.mark.parametrize("kind", [Hub, GitHub], ids=lambda kind: kind.name)
def test_no_other_host_gets_its_login(stocked: Stocked, kind: type[Elsewhere]) -> None:
    """A registry elsewhere that names the token service of Docker Hub or GitHub is not a reason to log in there."""
    standing = kind(stocked.root)
    with mock.patch.object(kind, "host", {}), standing.serve(stocked.host) as server:
        read(server)
    assert not standing.asked


def test_a_limit_of_requests_is_kept(stocked: Stocked) -> None:
    """A 429 is waited for and asked again, as the registry's own."""
    standing = Harbor(stocked.root)
    limited: list[Request] = []

    def once(request: Request) -> Reply | None:
        limited.append(request)
        return Reply(429, {"Retry-After": "0"}) if len(limited) < 3 else None

    standing.fault = once
    with standing.serve(stocked.host) as server:
        found = read(server)
    assert "directory" not in set(found.problems["problem"])
    assert found.tags["pushed"].notna().sum() > 8


@pytest.mark.parametrize("kind", [Harbor, GitLab, ECR, Hub, Quay, AzureRegistry], ids=lambda kind: kind.name)
def test_a_tag_goes_as_the_vendor_deletes_it(kind: type[Vendor], tmp_path: Path) -> None:
    """One tag goes by the vendor's own API, its sibling stays, and what is not there is not found."""
    with embedded.running(tmp_path) as registry:
        what = image([layer(1, 100)])
        fill(registry.url, ("team/app/web", "1.0", what), ("team/app/web", "latest", what))
        standing = kind(tmp_path)
        with standing.serve(registry.url.partition("://")[2]) as server:

            async def delete() -> list[str]:
                async with Client(Transport(server.url, credentials=Credentials(USER, PASSWORD))) as client:
                    await client.ping()
                    directory = await find(client)
                    assert directory is not None
                    await directory.delete_tag("team/app/web", "1.0")
                    left = await directory.tags("team/app/web")
                    with pytest.raises(NotFound):
                        await directory.delete_tag("team/app/web", "1.0")
                    return [each.tag for each in left]

            assert anyio.run(delete) == ["latest"]


def test_a_registry_without_one_is_asked_nothing_more(seeded_real: Seeded) -> None:
    """docker-registry has no API beside the registry API, and no request looks for one."""
    with proxy(seeded_real.host, lambda _: None) as server, regnb.connect(server.url, cache=False) as registry:
        registry.inventory(["vm/centos8"], progress=False)
    assert {"/".join(each.path.split("/")[:3]) for each in server.requests} == {"/v2/", "/v2/vm"}


def test_another_package_can_bring_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stocked: Stocked) -> None:
    """An entry point is an adapter like any other; one that cannot be loaded is left out."""

    class Own(Directory):
        name = "Own"
        whole = True
        gives = ("push dates",)
        rights = "none"
        deletion = "none"

        @classmethod
        async def of(cls, _: Sight) -> Self | None:
            return cls()

        async def tags(self, repository: str) -> list[Listed]:  # noqa: ARG002 -- as each
            return [Listed("latest", pushed=datetime(2026, 1, 1, tzinfo=UTC))]

    about = tmp_path / "own-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    lines = "[regnb.directories]\nbroken = no_such_module:Adapter\nown = own_adapter:Own\n"
    (about / "entry_points.txt").write_text(lines)
    monkeypatch.setitem(sys.modules, "own_adapter", mock.Mock(Own=Own))
    monkeypatch.syspath_prepend(tmp_path)
    with regnb.connect(stocked.url, cache=False) as registry:
        found = registry.inventory(["team/app/web"], progress=False)
    assert len(found.tags) == 4
    assert "Own's API lists 1 tag" in found.problems.iloc[0]["message"]


def test_what_the_registry_locks_is_in_no_plan(stocked: Stocked) -> None:
    """An immutable tag, and a tag that would go with it, is refused in a deletion and kept by a policy."""
    standing = Harbor(stocked.root)
    standing.content.locked.add(("team/app/web", "2.0"))
    with (
        standing.serve(stocked.host) as server,
        regnb.connect(server.url, username=USER, password=PASSWORD, cache=False) as registry,
    ):
        inventory = registry.inventory(progress=False)
        with pytest.raises(Refused, match=r"would not delete team/app/web:2\.0: a rule of its project"):
            registry.plan_delete("team/app/web:2*", inventory=inventory)
        policy = '[[rule]]\nrepositories = ["team/app/web"]\nkeep_matching = ["multi"]\nremove_at_most = "100%"\n'
        plan = registry.plan_retention(policy, inventory=inventory)
    reasons = plan.to_frame().set_index("tag")["reason"]
    assert reasons["2.0"] == "kept: the registry would not delete it: a rule of its project makes it immutable"
    assert reasons["2"] == "kept: same image as 2.0, which is kept"


def test_hints_fit_the_vendor(stocked: Stocked) -> None:
    """Where Harbor refuses a deletion, nobody is told to set an option of distribution."""
    standing = Harbor(stocked.root)

    def refused(request: Request) -> Reply | None:
        return Reply(405, {}, b"{}") if request.method == "DELETE" else standing(request)

    with (
        proxy(stocked.host, refused) as server,
        regnb.connect(server.url, username=USER, password=PASSWORD, cache=False) as registry,
    ):
        row = registry.health(probe=True).set_index("check").loc["deletion"]
    assert row["state"] == "warn"
    assert row["found"] == "it is switched off over the registry API; Harbor's own API is for deleting tags"
    assert row["hint"].startswith("give the user or robot the permission to delete tags")


def test_nobody_logs_in_at_docker_hub_where_nothing_may_be_written(stocked: Stocked) -> None:
    """A login is one POST for a whole crawl; a read-only handle sends none, and reads over the registry API."""
    for read_only in (False, True):
        standing = Hub(stocked.root)
        with (
            standing.serve(stocked.host) as server,
            regnb.connect(server.url, username=USER, password=PASSWORD, cache=False, read_only=read_only) as registry,
        ):
            assert registry.inventory(["team/app", "team/base"], progress=False).complete
        assert [each.method for each in standing.asked].count("POST") == (not read_only)


def test_docker_hubs_limit_of_pulls_is_shown_and_spared(stocked: Stocked) -> None:
    """A tag is asked for with HEAD, and each new digest once with GET, with the vendor's API and without it.

    Health shows what is left, by a HEAD.
    """
    standing = Hub(stocked.root)
    repositories = ["team/app", "team/app/web", "team/base"]
    for fault in (lambda _: None, lambda _: Reply(500, {}, b"oops")):
        standing.fault = fault
        with standing.serve(stocked.host) as server:
            found = read(server, repositories=repositories)
            asked = [each for each in server.requests if "/manifests/" in each.path]
            gets = [each.path for each in asked if each.method == "GET"]
            assert len(gets) == len(set(found.manifests["digest"]))
            assert len(found.tags) > len(set(found.tags["digest"].dropna()))
    standing.fault = lambda _: None
    for left, state in ((37, "ok"), (3, "warn")):
        standing.left = left
        with (
            standing.serve(stocked.host) as server,
            regnb.connect(server.url, username=USER, password=PASSWORD, cache=False) as registry,
        ):
            row = registry.health().set_index("check").loc["quota"]
        assert row["found"] == f"pulls in 6 hours: {100 - left} used of 100"
        assert row["state"] == state
    assert all(each.method == "HEAD" for each in standing.heads)


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "7200"}, {"ratelimit-remaining": "0;w=21600"}], ids=["asks", "window"]
)
def test_after_a_429_that_asks_for_hours_nothing_more_is_sent(stocked: Stocked, headers: dict[str, str]) -> None:
    """The first GET of a manifest that is refused for hours is the last request; the rest are rows without one."""
    sent: list[Request] = []

    def limited(request: Request) -> Reply | None:
        if "/manifests/" not in request.path and not sent:
            return None
        sent.append(request)
        return Reply(429, {**headers, "Content-Type": "application/json"}, b'{"errors": [{"code": "TOOMANYREQUESTS"}]}')

    with proxy(stocked.host, limited) as server, regnb.connect(server.url, cache=False, concurrency=1) as registry:
        found = registry.inventory(["team/app/web"], progress=False)
    assert len(sent) == 1
    assert not found.complete
    assert found.problems["message"].str.contains("asked to wait, for another|asks to wait for").all()

"""Deletions as they are planned from inventories, checked on a model of a registry, and applied to real ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Seeded
from distribution import Distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Fake, Image, fill, image, index, layer, pack
from stored import Stored, subject_of

import regnb
from regnb import Inventory
from regnb.change.delete import plan_delete, repositories_of
from regnb.change.journal import Receipt
from regnb.change.plan import ALLOWANCES, Plan, Step
from regnb.change.retention import plan_retention
from regnb.errors import InvalidArgument, InvalidReference, NotFound, Refused
from regnb.local import demo
from regnb.oci.manifest import SCHEMA1_SIGNED
from regnb.oci.reference import Digest
from regnb.tables.frame import Frame

BASE = layer("base", 3000)
OWN = [layer(number, 200 + number) for number in range(8)]


def one(number: int, **more: object) -> Image:
    """An image of the base and a layer of its own."""
    return image([BASE, OWN[number]], annotations={"n": str(number)}, **more)


def refers(to: Image, name: str) -> Image:
    """A referrer."""
    subject = {"mediaType": to.media_type, "digest": to.digest, "size": len(to.data)}
    return image([layer(name, 60)], subject=subject)


def sig(of: Image, end: str = ".sig") -> str:
    return of.digest.replace(":", "-") + end


A, B, C, D = map(one, range(4))
AB = index([(A, "linux/amd64"), (B, "linux/arm64")])
AC = index([(A, "linux/amd64"), (C, "linux/arm64")])
NEST = index([(AB, ""), (D, "")])


def plan(inventory: Inventory, what: Any, **more: Any) -> Plan:
    return plan_delete(inventory, what, url=f"http://{inventory.registry}", authorized=False, **more)


def planned(*pushed: tuple[str, str, Image], what: Any, **more: Any) -> Plan:
    return plan(Stored(*pushed).inventory(), what, **more)


def rows(found: Plan) -> list[tuple[str, str]]:
    """Action, and tag or digest."""
    return [(step.action, step.tag or step.before) for step in found.steps]


def effects(found: Plan, *kinds: str) -> list[tuple[str, str, str]]:
    return [(row.effect, row.repository, row.reference) for row in found.effects if row.effect in kinds]


def pods(*images: str, image_id: str = "") -> dict[str, Any]:
    statuses = [{"imageID": image_id}] if image_id else []
    items = [
        {"kind": "Pod", "metadata": {"namespace": "web", "name": "front"}, "spec": {"containers": [{"image": image_}]},
         "status": {"containerStatuses": statuses}}
        for image_ in images
    ]  # fmt: skip
    return {"kind": "List", "items": items}


# What is meant


def test_the_repositories_that_are_read() -> None:
    """Names and globs are known without asking anyone, each once."""
    named = ["vm/a:1", "vm/a:2", "vm/*:old-*", f"lib/b@{A.digest}"]
    assert repositories_of(named, "localhost:5000") == ["vm/a", "vm/*", "lib/b"]
    assert repositories_of(Frame({"repository": ["a", "a"], "tag": ["1", "2"]}), "localhost:5000") == ["a"]
    with pytest.raises(InvalidArgument, match="names a repository and no tag"):
        repositories_of("vm/a", "localhost:5000")


@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        ("app:9", NotFound, "no app:9"),
        ("none:1", NotFound, "no none:1"),
        ("app:x*", NotFound, "nothing matches"),
        (f"app@{D.digest}", NotFound, "no tag of app leads to"),
        (f"none@{A.digest}", NotFound, "no tag of none leads to"),
        ("app", InvalidArgument, "no tag"),
        ("App:1", InvalidReference, "App"),
        (["app:1", "other.example:5000/app:1"], InvalidReference, "5000"),
        (Frame({"tag": ["1"]}), InvalidArgument, "no columns"),
    ],
)
def test_what_is_not_there_is_not_planned(what: Any, error: type[Exception], text: str) -> None:
    """A name that leads nowhere, or is none, is an error, whatever else was named."""
    with pytest.raises(error, match=text):
        planned(("app", "1", A), what=what)


def test_nothing_selected_is_an_empty_plan() -> None:
    """No row chosen in a table is not an error: the plan says that it does nothing."""
    inventory = Stored(("app", "1", A)).inventory()
    for what in ([], inventory.tags.iloc[:0]):
        found = plan(inventory, what)
        assert (found.steps, found.freed, found.notes) == ((), 0, ("Nothing was selected.",))


def test_what_is_named_twice_counts_once() -> None:
    """A tag by its name, by a glob and by a row of a table is one tag; its digest beside it changes only the reason."""
    inventory = Stored(("app", "1", A), ("app", "2", B)).inventory()
    once = plan(inventory, "app:1")
    for what in (["app:1", "stored:5000/app:1"], ["app:1", "app:1*"]):
        assert plan(inventory, what).steps == once.steps
    twice = plan(inventory, ["app:1", f"app@{A.digest}"])
    assert rows(twice) == rows(once)
    assert not effects(twice, "tag")
    with pytest.raises(InvalidArgument, match="cannot allow"):
        plan(inventory, "app:1", allow=["everything"])


# One tag, or a digest with all its tags


def test_a_tag_goes_with_its_manifest() -> None:
    """The only tag of a manifest: it is deleted by digest, and with it what only it needs becomes free."""
    found = planned(("app", "1", A), ("app", "2", B), what="app:1")
    (step,) = found.steps
    assert step == Step(
        action="delete", repository="app", before=A.digest, tags=("1",), media_type=A.media_type, size=A.size,
        reason="deleted because it was selected",
    )  # fmt: skip
    about = A.blobs[0]
    assert about == B.blobs[0], "both have one config"
    assert found.freed == len(A.data) + len(OWN[0])
    assert [(row.effect, row.repository, row.size) for row in found.effects] == [
        ("shared", "app", len(BASE) + len(about))
    ]
    assert any("upper bound" in note for note in found.notes)


def test_siblings_keep_the_manifest() -> None:
    """Of three tags on one digest one goes: as a tag, never by digest; all three go: once, by digest."""
    inventory = Stored(*(("app", tag, A) for tag in ("1", "2", "3"))).inventory()
    found = plan(inventory, "app:1")
    assert rows(found) == [("untag", "1")]
    assert found.steps[0].before == A.digest
    assert found.steps[0].reason == "deleted because it was selected; its manifest stays: 2 and 3 keep this digest"
    assert (found.freed, found.effects) == (0, ())
    assert not any("upper bound" in note for note in found.notes)
    assert rows(plan(inventory, ["app:1", "app:2"])) == [("untag", "1"), ("untag", "2")]
    (step,) = plan(inventory, "app:*").steps
    assert (step.action, step.before, step.tags) == ("delete", A.digest, ("1", "2", "3"))


def test_the_same_digest_elsewhere_is_another_manifest() -> None:
    """A repository's manifest goes although another repository has the same: its bytes stay for that one."""
    found = planned(("app", "1", A), ("copy", "1", A), what="app:1")
    assert rows(found) == [("delete", A.digest)]
    assert found.freed == 0
    assert [(row.effect, row.repository, row.size) for row in found.effects] == [("shared", "copy", A.size)]


def test_a_digest_goes_with_every_tag() -> None:
    """By digest all its tags go; those that were not selected are named in the blast radius."""
    inventory = Stored(*(("app", tag, A) for tag in ("1", "2", "3")), ("app", "4", B)).inventory()
    found = plan(inventory, [f"app@{A.digest}", "app:2"])
    (step,) = found.steps
    assert (step.action, step.tags) == ("delete", ("1", "2", "3"))
    assert effects(found, "tag") == [("tag", "app", "1"), ("tag", "app", "3")]
    assert step.reason == "deleted because this digest was selected; 2: deleted because it was selected"


def test_rows_of_the_manifests_are_digests() -> None:
    """A table of manifests selects by digest."""
    inventory = Stored(("app", "1", A), ("app", "2", B)).inventory()
    found = plan(inventory, inventory.manifests[inventory.manifests["digest"] == B.digest])
    assert rows(found) == [("delete", B.digest)]


# Indexes


def test_an_index_takes_what_only_it_needs() -> None:
    """The index first, then those children that no tag and no other index needs; or it alone, if so wished."""
    inventory = Stored(("app", "ab", AB), ("app", "ac", AC), ("app", "b2", B)).inventory()
    found = plan(inventory, "app:ac")
    assert rows(found) == [("delete", AC.digest), ("delete", C.digest)]
    assert [step.needs for step in found.steps] == [(), (0,)]
    assert effects(found, "child") == [("child", "app", C.digest)]
    assert found.freed == len(AC.data) + len(C.data) + len(OWN[2])
    both = plan(inventory, "app:a?")
    assert rows(both) == [
        ("delete", AB.digest), ("delete", AC.digest), ("delete", A.digest), ("delete", C.digest)
    ]  # fmt: skip
    assert both.steps[2].needs == (0, 1)
    assert rows(plan(inventory, "app:ac", children=False)) == [("delete", AC.digest)]


def test_indexes_within_indexes() -> None:
    """Children of children go, each after its index; a tag on the inner one keeps all that it lists."""
    found = planned(("app", "all", NEST), what="app:all")
    order = [step.before for step in found.steps]
    assert set(order) == {NEST.digest, AB.digest, A.digest, B.digest, D.digest}
    for step in found.steps:
        assert [order[need] for need in step.needs] == {
            NEST.digest: [], AB.digest: [NEST.digest], D.digest: [NEST.digest], A.digest: [AB.digest],
            B.digest: [AB.digest],
        }[step.before]  # fmt: skip
    kept = planned(("app", "all", NEST), ("app", "inner", AB), what="app:all")
    assert {step.before for step in kept.steps} == {NEST.digest, D.digest}


def test_what_a_broken_index_leads_to_no_more_is_freed() -> None:
    """Where an inner index goes and the outer one stays broken, a collection of the untagged takes what it listed."""
    outer = index([(AC, ""), (D, "")])
    found = planned(("app", "all", outer), ("app", "a", A), what=f"app@{AC.digest}", children=False, allow=["parents"])
    assert rows(found) == [("delete", AC.digest)]
    assert found.freed == len(C.data) + sum(map(len, set(C.blobs) - set(A.blobs) - set(D.blobs)))


def test_what_an_index_lists_stays() -> None:
    """The last tag of a child goes alone: the index still needs the manifest. With the index it goes, too."""
    inventory = Stored(("app", "ab", AB), ("app", "a", A)).inventory()
    found = plan(inventory, "app:a")
    assert rows(found) == [("untag", "a")]
    assert found.steps[0].reason == "deleted because it was selected; its manifest stays: the index ab lists it"
    both = plan(inventory, ["app:a", "app:ab"])
    assert rows(both) == [("delete", AB.digest), ("delete", A.digest), ("delete", B.digest)]
    assert both.steps[1].needs == (0,)
    assert effects(both, "child") == [("child", "app", B.digest)]


def test_a_digest_that_an_index_lists_is_refused() -> None:
    """By digest a child would break its index: refused, unless that is allowed or the index goes as well."""
    inventory = Stored(("app", "ab", AB)).inventory()
    with pytest.raises(Refused, match="is listed by the index ab") as raised:
        plan(inventory, f"app@{A.digest}")
    assert "'parents'" in raised.value.hint
    found = plan(inventory, f"app@{A.digest}", allow=["parents"])
    assert rows(found) == [("delete", A.digest)]
    assert effects(found, "parent") == [("parent", "app", AB.digest)]
    both = plan(inventory, [f"app@{A.digest}", f"app@{AB.digest}"])
    assert rows(both) == [("delete", AB.digest), ("delete", A.digest), ("delete", B.digest)]
    assert not effects(both, "parent")
    nested = planned(("app", "all", NEST), what=[f"app@{A.digest}", f"app@{AB.digest}"], allow=["parents"])
    assert rows(nested) == [("delete", AB.digest), ("delete", A.digest), ("delete", B.digest)]
    assert nested.steps[1].needs == (0,)
    assert effects(nested, "parent") == [("parent", "app", NEST.digest)]


# Referrers


def test_referrers_go_with_what_they_refer_to() -> None:
    """Signatures by tag and by subject, and what refers to these, go after their subject; or are named as orphans."""
    bundle = refers(A, "bundle")
    of_bundle = refers(bundle, "timestamp")
    cosign = one(7)
    fallback = index([(bundle, "")])
    stored = Stored(
        ("app", "1", A), ("app", "2", B), ("app", sig(A), cosign), ("app", sig(A, ""), fallback),
        ("app", "stamp", of_bundle), ("app", sig(B), one(6)),
    )  # fmt: skip
    inventory = stored.inventory()
    found = plan(inventory, "app:1")
    order = [step.before for step in found.steps]
    assert order[0] == A.digest
    assert set(order) == {A.digest, bundle.digest, of_bundle.digest, cosign.digest, fallback.digest}
    for step in found.steps[1:]:
        assert step.needs, "it stays if what it refers to stays"
    assert found.steps[order.index(bundle.digest)].needs == (0, order.index(fallback.digest))
    assert {row[2] for row in effects(found, "referrer")} == {sig(A), sig(A, ""), "stamp", bundle.digest}
    alone = plan(inventory, "app:1", referrers=False)
    assert rows(alone) == [("delete", A.digest)]
    assert {row[2] for row in effects(alone, "orphan")} == {sig(A), sig(A, ""), bundle.digest}


def test_untagging_leaves_referrers() -> None:
    """A tag that goes alone leaves its manifest, and so what refers to it."""
    found = planned(("app", "1", A), ("app", "2", A), ("app", sig(A), one(7)), what="app:1")
    assert rows(found) == [("untag", "1")]
    assert not effects(found, "orphan", "referrer")


def test_a_signature_under_another_name_stays() -> None:
    """A signature's manifest that has a tag of its own loses only the tag that ties it to what goes."""
    cosign = one(7)
    found = planned(("app", "1", A), ("app", sig(A), cosign), ("app", "evidence", cosign), what="app:1")
    assert rows(found) == [("delete", A.digest), ("untag", sig(A))]
    assert found.steps[1].needs == (0,)
    assert "evidence keeps this digest" in found.steps[1].reason
    assert effects(found, "referrer") == [("referrer", "app", sig(A))]


def test_a_signature_that_the_index_lists() -> None:
    """What goes both as a child and as a signature goes, whatever else it may refer to."""
    both = refers(B, "bundle")
    listing = index([(A, ""), (both, "")])
    found = planned(("app", "1", listing), ("app", "2", B), ("app", sig(listing), both), what="app:1")
    assert both.digest in [step.before for step in found.steps]


def test_a_child_that_signs_what_stays() -> None:
    """An index that lists another image's signature does not take it along."""
    bundle = refers(B, "bundle")
    found = Stored(
        ("app", "1", index([(A, ""), (bundle, "")])), ("app", "2", B), lists_referrers=True
    ).inventory()  # fmt: skip
    deleted = [step.before for step in plan(found, "app:1").steps]
    assert A.digest in deleted
    assert bundle.digest not in deleted
    assert bundle.digest in [step.before for step in plan(found, "app:*").steps]


def test_the_demo_s_signed_image(seeded: Seeded) -> None:
    """On each registry the signature, the bundle and the SBOM of the demo go with their image, and nothing else."""
    with regnb.connect(seeded.url, cache=False) as registry:
        found = registry.plan_delete(["apps/payments:3.1.0", "apps/payments:latest"])
    assert found.steps[0].tags == ("3.1.0", "latest")
    held = {step.before for step in found.steps}
    expected = {
        item.digest for item in demo.items(referrers=seeded.seeded.referrers) if item.repository == "apps/payments"
    }
    assert held == expected
    assert all(0 in step.needs for step in found.steps[1:])
    assert any("Only the named repositories" in note for note in found.notes)


# What shares layers


def test_the_repositories_that_share_layers() -> None:
    """Twenty are named, largest first, and the rest is one row whose bytes are counted once."""
    pushed = [(f"r{number:02}", "1", image([BASE, *OWN[: number % 3]])) for number in range(30)]
    found = planned(("app", "1", image([BASE, *OWN])), *pushed, what="app:1")
    shared = [row for row in found.effects if row.effect == "shared"]
    assert len(shared) == 21
    assert [row.size for row in shared[:20]] == sorted((row.size for row in shared[:20]), reverse=True)
    assert shared[0].size == len(BASE) + len(OWN[0]) + len(OWN[1])
    assert (shared[-1].repository, shared[-1].size) == ("", len(BASE))
    assert "10 more repositories" in shared[-1].message


@pytest.mark.parametrize(("asked", "noted"), [(None, False), (["app"], True), (["a*"], True)])
def test_what_was_not_read_may_share(asked: list[str] | None, noted: bool) -> None:  # noqa: FBT001
    """An inventory of some repositories cannot know who shares what: the plan says so."""
    inventory = Stored(("app", "1", A), ("other", "1", B)).inventory(asked)
    notes = plan(inventory, "app:1").notes
    assert any("Only the named repositories were read" in note for note in notes) == noted


# What is refused


def test_a_tag_that_could_not_be_read() -> None:
    """No manifest is deleted by digest beside a tag that gives 500, whatever is allowed; a tag may go alone."""
    stored = Stored(("app", "1", A), ("app", "2", B), ("app", "3", B), ("app", "bad", C), ("other", "1", D))
    stored.broken.add(("app", "bad"))
    inventory = stored.inventory()
    with pytest.raises(Refused, match=r"incomplete.*app:bad \(failed\)") as raised:
        plan(inventory, "app:1")
    assert raised.value.allow == ("incomplete:app",)
    assert rows(plan(inventory, "other:1")) == [("delete", D.digest)]
    with pytest.raises(Refused, match="bad of app could not be read"):
        plan(inventory, "app:1", allow=ALLOWANCES)
    with pytest.raises(Refused, match="app:bad could not be read"):
        plan(inventory, "app:bad", allow=ALLOWANCES)
    found = plan(inventory, ["app:2", "other:1"], allow=["incomplete"])
    assert rows(found) == [("untag", "2"), ("delete", D.digest)]
    assert any("incomplete" in note for note in found.notes)


def test_a_repository_that_could_not_be_listed() -> None:
    """It is not said to be absent: nobody knows."""
    with Fake() as server:
        server.json("/v2/app/tags/list", {"errors": [{"code": "DENIED", "message": "no"}]}, 403)
        with regnb.connect(server.url, cache=False) as registry, pytest.raises(Refused, match="could not be listed"):
            registry.plan_delete("app:1")


def test_a_dangling_tag(seeded: Seeded) -> None:
    """It needs nothing, so it blocks nothing, and it can be removed by its name."""
    with regnb.connect(seeded.url, cache=False) as registry:
        inventory = registry.inventory(progress=False)
        found = registry.plan_delete("broken/dangling:1.1", inventory=inventory)
        assert [step.tags for step in found.steps] == [("1.1",)]
        found = registry.plan_delete("broken/dangling:1.0", inventory=inventory)
    assert [(step.action, step.tag, step.before) for step in found.steps] == [("untag", "1.0", "")]


def test_a_gap_blocks_the_repositories_that_hold_it() -> None:
    """A manifest of unknown content blocks every repository that has it, whichever was read first, and no other."""
    bad = Image(b'{"schemaVersion": 2, "layers": 1}', A.media_type)
    inventory = Stored(("a", "1", A), ("a", "x", bad), ("b", "1", B), ("b", "x", bad), ("c", "1", C)).inventory()
    for name in "ab":
        with pytest.raises(Refused, match=f"{name}@sha256:[0-9a-f]* \\(malformed\\)"):
            plan(inventory, f"{name}:1", allow=["incomplete:c"])
        assert rows(plan(inventory, f"{name}:1", allow=[f"incomplete:{name}"]))[0][0] == "delete"
    assert rows(plan(inventory, "c:1")) == [("delete", C.digest)]


def test_schema_1_is_never_deleted_by_digest() -> None:
    """Its digest is not that of the bytes: nothing allows to delete by it."""
    data = pack({"schemaVersion": 1, "name": "app", "tag": "old", "fsLayers": [], "history": [], "signatures": []})
    inventory = Stored(("app", "old", Image(data, SCHEMA1_SIGNED)), ("app", "1", A)).inventory()
    with pytest.raises(Refused, match="schema 1"):
        plan(inventory, "app:old", allow=ALLOWANCES)
    assert rows(plan(inventory, "app:1")) == [("delete", A.digest)]


CLUSTER = [
    ("app:a", pods("registry.local/app:a"), "a"),
    ("app:a2", pods("registry.local/app:a"), "a2"),
    ("app:a", pods(f"other.name:5000/app@{A.digest}"), "a"),
    ("app:a", pods("x:1", image_id=f"docker-pullable://h/elsewhere@{A.digest}"), "a"),
    ("app:a", pods("x:1", image_id=str(Digest.of(A.blobs[0]))), "a"),
    ("app:ab", pods(f"h/app@{B.digest}"), "ab"),
    (f"app@{AB.digest}", pods(f"h/app@{AB.digest}"), "ab"),
    ("app:outer", pods(f"h/app@{AC.digest}"), "outer"),
]


@pytest.mark.parametrize(("what", "in_use", "named"), CLUSTER)
def test_what_a_cluster_runs(what: str, in_use: Mapping[str, Any], named: str) -> None:
    """By tag, digest or config, above and below: what runs is refused, and if allowed named in the blast radius."""
    outer = index([(AC, ""), (D, "")])
    inventory = Stored(
        ("app", "a", A), ("app", "a2", A), ("app", "ab", AB), ("app", "outer", outer), ("app", "free", one(5))
    ).inventory()  # fmt: skip
    with pytest.raises(Refused, match=r"a cluster runs images that this would delete: .*web/front") as raised:
        plan(inventory, what, in_use=in_use)
    assert "'running'" in raised.value.hint
    found = plan(inventory, what, in_use=in_use, allow=["running"])
    assert ("running", "app", named) in effects(found, "running")
    if "imageID" not in str(in_use):
        assert plan(inventory, "app:free", in_use=in_use).steps


def test_a_child_of_what_runs() -> None:
    """The children of an index that runs are what the nodes have pulled."""
    inventory = Stored(("app", "ab", AB), ("app", "b", B), ("copy", "b", B)).inventory()
    for what in ("app:b", "copy:b"):
        with pytest.raises(Refused, match="web/front"):
            plan(inventory, what, in_use=pods("h:5000/app:ab"))
    assert plan(inventory, "copy:b", in_use=pods("h:5000/app:other")).steps


# On a model


def content(chance: random.Random) -> Stored:
    """A repository of images, indexes of these and of each other, and referrers of all, with tags at random."""
    found: list[Image] = [image([chance.choice(OWN)], annotations={"n": str(n)}) for n in range(chance.randint(1, 5))]
    for number in range(chance.randint(0, 3)):
        listed = chance.sample(found, chance.randint(1, min(3, len(found))))
        found.append(index([(each, "") for each in listed], annotations={"n": str(number)}))
    signatures = [refers(chance.choice(found), str(number)) for number in range(chance.randint(0, 3))]
    signatures += [refers(each, "again") for each in signatures[:1]]
    found += signatures
    if signatures and chance.random() < 0.5:
        found.append(index([(each, "") for each in chance.sample(signatures, 1)] + [(found[0], "")]))
    pushed = [("app", f"t{number}", chance.choice(found)) for number in range(chance.randint(1, 9))]
    ends = chance.choices((".sig", ".att", ""), k=chance.randint(0, 3))
    pushed += [("app", sig(chance.choice(found), end), chance.choice(found)) for end in ends]
    pushed += [("app", "", each) for each in signatures]
    pushed.append(("other", "1", found[0]))
    return Stored(*pushed, lists_referrers=chance.random() < 0.5)


class Model:
    """A repository's tags and manifests, on which steps are done as a registry does them."""

    def __init__(self, stored: Stored, inventory: Inventory) -> None:
        known = inventory.manifests[inventory.manifests["repository"] == "app"]
        self.all = {digest: stored.held["app"][digest] for digest in known["digest"]}
        self.listed = stored.listed["app"]
        self.tags = dict(self.listed)
        self.manifests = dict(self.all)

    def apply(self, steps: Iterable[Step], skip: int = -1) -> None:
        done: set[int] = set()
        for number, step in enumerate(steps):
            if number == skip or not set(step.needs) <= done:
                continue
            done.add(number)
            if step.action == "keep":
                continue
            if step.action == "delete":
                on = {tag for tag, digest in self.listed.items() if digest == step.before}
                assert on == set(step.tags)
                del self.manifests[step.before]
                for tag in on:
                    del self.tags[tag]
            else:
                assert self.listed[step.tag] == step.before
                del self.tags[step.tag]

    def broken(self) -> set[str]:
        """Indexes that lack a child which was there."""
        return {
            digest
            for digest, held in self.manifests.items()
            if any(child.digest in self.all and child.digest not in self.manifests for child in held.children)
        }


def test_an_index_goes_before_its_children_though_tags_refer_in_a_circle() -> None:
    """The index bears a tag that signs what refers to the index: its child waits for it, so no failure can break it."""
    listing = index([(A, "")])
    signature = refers(listing, "s")
    found = planned(
        ("app", "a", A), ("app", sig(signature), listing), ("app", sig(B), signature), ("app", "b", B),
        what=["app:a", f"app@{listing.digest}", f"app@{B.digest}"],
    )  # fmt: skip
    place = {step.before: number for number, step in enumerate(found.steps)}
    assert place[listing.digest] in found.steps[place[A.digest]].needs


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_plan_loses_an_image_by_accident(chance: random.Random) -> None:
    """Whatever is selected and whichever step fails: only what was selected or announced goes, and no index breaks."""
    stored = content(chance)
    inventory = stored.inventory()
    model = Model(stored, inventory)
    selected = [tag for tag in model.tags if chance.random() < 0.4]
    digests = [digest for digest in model.all if chance.random() < 0.15]
    options = {"children": chance.random() < 0.7, "referrers": chance.random() < 0.7}
    what = [*(f"app:{tag}" for tag in selected), *(f"app@{digest}" for digest in digests)]
    found = plan(inventory, what, allow=["parents"], **options)
    for number, step in enumerate(found.steps):
        assert all(need < number for need in step.needs)
        assert step.reason
    blast = {kind: {row.reference for row in found.effects if row.effect == kind} for kind in (
        "tag", "child", "referrer", "parent", "orphan"
    )}  # fmt: skip

    # A step that fails takes those with it that need it, and still nothing is broken.
    before = model.broken()
    skipped = Model(stored, inventory)
    skipped.apply(found.steps, chance.randrange(len(found.steps) or 1))
    later = {model.listed.get(reference, reference) for reference in blast["referrer"]}
    assert skipped.broken() <= before | blast["parent"] | (later if digests else set())

    model.apply(found.steps)
    lost = set(model.listed) - set(model.tags)
    assert set(selected) <= lost
    assert lost <= {*selected, *blast["tag"], *blast["referrer"]}
    assert blast["tag"] <= lost
    assert model.broken() == blast["parent"]
    gone = set(model.all) - set(model.manifests)
    on_lost = {model.listed[tag] for tag in lost}
    assert gone <= {*digests, *on_lost, *blast["child"], *blast["referrer"]}
    assert set(digests) <= gone
    # A manifest goes by its tags only if they all go, and then it does unless an index needs it.
    needed = {child.digest for held in model.manifests.values() for child in held.children}
    for digest in on_lost - set(digests):
        assert (digest in gone) == (digest not in {*model.tags.values(), *needed})
    below = {child.digest for digest in gone for child in model.all[digest].children}
    left = below & model.manifests.keys() - set(model.tags.values()) - needed
    if options["children"]:
        assert all(subject_of(model.all[digest]) in model.manifests for digest in left), "what it refers to stays"
    else:
        assert not blast["child"]
    assert {digest for digest in model.manifests if subject_of(model.all[digest]) in gone} <= blast["orphan"]
    assert not (options["referrers"] is False and blast["referrer"])

    # What nothing leads to any more goes with a garbage collection that takes untagged manifests.
    bare: set[str] = set()
    while more := {
        child.digest
        for digest in gone | bare
        for child in model.all[digest].children
        if child.digest in model.manifests.keys() - bare - set(model.tags.values())
        and all(child not in model.manifests[index].children for index in model.manifests.keys() - bare)
    }:
        bare |= more
    staying = [held for digest, held in model.manifests.items() if digest not in bare]
    staying += stored.held["other"].values()
    # An index keeps the manifests that it lists, wherever their own links are.
    kept = {data for one in staying for data in (one.data, *one.blobs, *(child.data for child in one.children))}
    freed = {data for digest in gone | bare for data in (model.all[digest].data, *model.all[digest].blobs)} - kept
    assert found.freed == sum(map(len, freed))

    # The question what a deletion gives back is answered by the same rule.
    if selected and not digests:
        asked = inventory.reclaim(what, **options)
        assert (asked.deleted, asked.removed) == (len(lost), len(gone))


def test_what_only_an_index_leads_to_is_said() -> None:
    """Where a tag goes and only an index keeps its image, the plan names the garbage collection that would take it."""
    pushed = [("app", "all", AB), ("app", "a", A), ("app", "alias", A)]
    note = "--delete-untagged"
    assert any(note in text for text in planned(*pushed, what=["app:a", "app:alias"]).notes)
    assert not any(note in text for text in planned(*pushed, what="app:a").notes)


def test_an_inventory_of_another_registry_is_refused() -> None:
    inventory = Stored(("app", "a", A)).inventory()
    for make in (partial(plan_delete, what="app:a"), partial(plan_retention, policy="[[rule]]")):
        with pytest.raises(InvalidArgument, match="elsewhere:5000"):
            make(inventory, url="http://elsewhere:5000", authorized=False)


# For real


@pytest.fixture(autouse=True)
def own_receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


def applied(registry: regnb.Registry, found: Plan) -> Receipt:
    receipt = registry.apply(found, confirm=found.digest, progress=False)
    assert receipt.status == "done", receipt.to_frame()[["status", "message"]].to_dict("records")
    return receipt


def state(inventory: Inventory) -> dict[str, str]:
    tags = inventory.tags.fillna({"digest": ""})
    return dict(zip(tags["repository"] + ":" + tags["tag"], tags["digest"], strict=True))


@pytest.mark.parametrize(
    ("what", "gone"),
    [
        ("vm/centos8:8", ["vm/centos8:8"]),
        (["vm/centos8:8", "vm/centos8:l*", "vm/centos8:8.4"], ["vm/centos8:8", "vm/centos8:latest", "vm/centos8:8.4"]),
        (["tools/cli:*", "library/proxy:1.25"], ["tools/cli:2.0.0", "tools/cli:latest", "library/proxy:1.25"]),
    ],
)
def test_only_the_selected_tags_go_for_real(writable: Seeded, what: Any, gone: list[str]) -> None:
    """Applied to each registry, a plan removes the selected tags and not one more; undo brings them back."""
    with regnb.connect(writable.url, cache=False) as registry:
        before = registry.inventory(progress=False)
        found = registry.plan_delete(what, inventory=before, allow=["incomplete", "dummy"])
        receipt = applied(registry, found)
        after = state(registry.inventory(progress=False))
        assert after == {key: digest for key, digest in state(before).items() if key not in gone}
        held = set(zip(before.manifests["repository"], before.manifests["digest"], strict=True))
        for step in found.steps:
            if step.action == "delete":
                held.discard((step.repository, step.before))
        for repository, digest in held:
            assert registry.digest(f"{repository}@{digest}") == digest
        applied(registry, registry.plan_undo(receipt))
        assert state(registry.inventory(progress=False)) == state(before)


def test_what_is_freed_is_what_the_collector_frees(real: Distribution) -> None:
    """Where every manifest has a tag, the real garbage collection frees the planned bytes to the last."""
    fill(real.url, ("app", "ab", AB), ("app", "ac", AC), ("app", "d", D), ("copy", "b", B))
    with regnb.connect(real.url, cache=False) as registry:
        found = registry.plan_delete(["app:ab", "app:d"], inventory=registry.inventory(progress=False))
        assert found.freed
        applied(registry, found)
        assert registry.digest("app:ac") == AC.digest
    before = real.stored()
    real.garbage_collect()
    assert before - real.stored() == found.freed


def test_planning_writes_nothing(seeded_real: Seeded) -> None:
    """A plan from an inventory sends no request at all, and one without reads only."""
    with regnb.connect(seeded_real.url, cache=False) as registry:
        inventory = registry.inventory(progress=False)
        sent = len(registry._client.transport.exchanges)
        registry.plan_delete("vm/centos8:8", inventory=inventory, allow=["incomplete"])
        assert len(registry._client.transport.exchanges) == sent
        registry.plan_delete("vm/centos8:8")
        assert {exchange.method for exchange in registry._client.transport.exchanges} <= {"GET", "HEAD"}

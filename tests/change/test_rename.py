"""Renames: nothing is removed under the old name before its copy was read back under the new one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Seeded, need
from distribution import Distribution
from images import Fake, Image, ask, descriptor, fill, image, index, layer, pack

import regnb
from regnb.change.plan import Plan
from regnb.change.rename import plan_rename
from regnb.crawl.reader import Reader
from regnb.errors import Denied, InvalidArgument, InvalidReference, NotFound, Refused, RegnbError
from regnb.local import demo, embedded
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client

ONE, TWO, ARM = (image([layer(name, 100)]) for name in ("one", "two", "arm"))
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")])
OUTER = index([(MULTI, ""), (TWO, "")])
SBOM = image(
    [pack(["sbom"])], about=b"{}", layer_type="application/spdx+json", artifactType="application/spdx+json",
    subject=descriptor(ARM.media_type, ARM.data),
)  # fmt: skip


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


@pytest.fixture(params=["real", "embedded"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each registry in turn, empty."""
    if request.param == "real":
        registry: Distribution = request.getfixturevalue("real")
        yield registry.url
    else:
        with embedded.running(tmp_path / "embedded") as server:
            yield server.url


def plan(url: str, what: str, to: str, *allow: str) -> Plan:
    """Plan, and see that nothing was written."""

    async def work(client: Client) -> Plan:
        try:
            return await plan_rename(Reader(client, Cache()), what, to, allow=allow)
        finally:
            assert {exchange.method for exchange in client.transport.exchanges} <= {"GET", "HEAD"}

    return ask(url, work)


def apply(made: Plan) -> regnb.Registry:
    with regnb.connect(made.url, cache=False) as registry:
        receipt = registry.apply(made, confirm=made.code, progress=False)
        assert receipt.status == "done", receipt.to_frame()
    return registry


def tags(url: str, repository: str) -> list[str]:
    return ask(url, lambda client: Reader(client, Cache()).tags(repository))


def raw(url: str, repository: str, target: str) -> bytes:
    return ask(url, lambda client: client.manifest(repository, target)).data


def there(url: str, repository: str, *images: Image) -> list[bool]:
    async def work(client: Client) -> list[bool]:
        return [bool(await Reader(client, Cache()).digest(repository, each.digest)) for each in images]

    return ask(url, work)


def manifests(what: Image) -> set[str]:
    return {str(what.digest)}.union(*(manifests(child) for child in what.children))


def test_a_repository(url: str) -> None:
    """Everything is copied, then everything that was copied is deleted: an index first, and each after its copies."""
    fill(url, ("old", "1", OUTER), ("old", "also", OUTER), ("old", "arm", ARM), ("old", SBOM.digest, SBOM))
    made = plan(url, "old", "new")
    copies = [step for step in made.steps if step.repository == "new"]
    removals = [step for step in made.steps if step.repository == "old"]
    assert made.steps == (*copies, *removals)
    assert {step.action for step in copies} == {"put", "tag"}
    assert {step.action for step in removals} == {"delete"}
    assert {step.reason for step in removals} == {"deleted because it was copied to new"}
    order = [step.before for step in removals]
    assert order.index(str(OUTER.digest)) < order.index(str(MULTI.digest)) < order.index(str(ONE.digest))
    assert {step.before: step.tags for step in removals if step.tags} == {
        OUTER.digest: ("1", "also"),
        ARM.digest: ("arm",),
    }
    for step in removals:
        tree = next(each for each in (OUTER, MULTI, ONE, ARM, TWO, SBOM) if each.digest == step.before)
        assert {made.steps[number].after for number in step.needs} == manifests(tree)
        assert {made.steps[number].tag for number in step.needs} >= set(step.tags)
    apply(made)
    assert tags(url, "new") == ["1", "also", "arm"]
    assert tags(url, "old") == []
    assert raw(url, "new", "1") == raw(url, "new", "also") == OUTER.data
    assert not any(there(url, "old", OUTER, MULTI, ONE, ARM, TWO))
    assert all(there(url, "new", OUTER, MULTI, ONE, ARM, TWO))


def test_what_refers_to_it_moves_too(url: str) -> None:
    """Referrers that the registry lists, or that tags tell, are copied and then deleted."""
    listing = index([(SBOM, "")])
    fill(url, ("old", "arm", ARM), ("old", str(ARM.digest).replace(":", "-"), listing))
    apply(plan(url, "old", "new"))
    assert there(url, "new", ARM, SBOM, listing) == [True] * 3
    assert there(url, "old", ARM, SBOM, listing) == [False] * 3
    assert tags(url, "old") == []


def test_what_is_at_the_destination_is_proved_before_it_is_relied_on(real: Distribution) -> None:
    """A copy that seems to be there already is put once more: the removal needs a row that was read back."""
    fill(real.url, ("old", "1", MULTI), ("new", "1", MULTI))
    made = plan(real.url, "old", "new")
    assert [(step.action, step.before, step.after, step.new) for step in made.steps[:3]] == [
        ("put", ONE.digest, ONE.digest, False), ("put", ARM.digest, ARM.digest, False),
        ("tag", MULTI.digest, MULTI.digest, False),
    ]  # fmt: skip
    assert made.steps[3].needs == (0, 1, 2)
    ask(real.url, lambda client: client.delete_manifest("new", ARM.digest))
    apply(made)
    assert there(real.url, "new", MULTI, ONE, ARM) == [True] * 3
    assert tags(real.url, "old") == []


def test_a_failed_copy_keeps_the_original(real: Distribution) -> None:
    """Where a blob is lost, nothing of that image is removed; what could be copied is."""
    fill(real.url, ("old", "1", MULTI), ("old", "2", TWO))
    made = plan(real.url, "old", "new")
    real.blob(Digest.of(ARM.blobs[1])).unlink()
    real.restart()
    with regnb.connect(real.url, cache=False) as registry:
        receipt = registry.apply(made, confirm=made.code, progress=False)
    assert receipt.status == "partial"
    assert tags(real.url, "old") == ["1"]
    assert there(real.url, "old", MULTI, ARM) == [True, True]
    assert tags(real.url, "new") == ["2"]


def test_undo_brings_the_old_name_back(url: str) -> None:
    """After undo the old repository is as it was, byte for byte, and the new one is empty."""
    fill(url, ("old", "1", OUTER), ("old", "arm", ARM))
    made = plan(url, "old", "new")
    with regnb.connect(url, cache=False) as registry:
        receipt = registry.apply(made, confirm=made.code, progress=False)
        back = registry.plan_undo(receipt)
        assert registry.apply(back, confirm=back.code, progress=False).status == "done"
    assert tags(url, "old") == ["1", "arm"]
    assert raw(url, "old", "1") == OUTER.data
    assert tags(url, "new") == []


@pytest.mark.parametrize("to", ["8.5", "vm/a:8.5"])
def test_one_tag_in_its_repository(url: str, to: str) -> None:
    """The new tag is set, and then the old one removed, and no other."""
    fill(url, ("vm/a", "1", ONE), ("vm/a", "same", ONE))
    made = plan(url, "vm/a:1", to, "dummy")
    assert [(step.action, step.tag, step.before, step.after, step.needs) for step in made.steps] == [
        ("tag", "8.5", "", ONE.digest, ()), ("untag", "1", ONE.digest, "", (0,)),
    ]  # fmt: skip
    apply(made)
    assert tags(url, "vm/a") == ["8.5", "same"]
    assert raw(url, "vm/a", "8.5") == raw(url, "vm/a", "same") == ONE.data


def test_one_tag_to_another_repository(url: str) -> None:
    """Its tree and its referrers are copied; of the old repository only that tag is removed, as a note says."""
    fill(url, ("vm/a", "1", MULTI), ("vm/a", "2", ONE), ("vm/a", str(ONE.digest).replace(":", "-") + ".sig", TWO))
    made = plan(url, "vm/a:1", "vm/b:x", "dummy")
    assert made.steps[-1].action == "untag"
    assert made.steps[-1].needs == tuple(range(len(made.steps) - 1))
    assert sum(step.action in ("untag", "delete") for step in made.steps) == 1
    assert any("stay" in note for note in made.notes)
    apply(made)
    assert tags(url, "vm/b") == [str(ONE.digest).replace(":", "-") + ".sig", "x"]
    assert tags(url, "vm/a") == ["2", str(ONE.digest).replace(":", "-") + ".sig"]
    assert there(url, "vm/a", ONE, ARM) == [True, True]


def test_without_consent_a_tag_is_not_removed_by_a_dummy(real: Distribution) -> None:
    """docker-registry does not delete by tag: without the allowance nothing is written at all."""
    fill(real.url, ("vm/a", "1", ONE))
    made = plan(real.url, "vm/a:1", "2")
    with regnb.connect(real.url, cache=False) as registry, pytest.raises(Refused, match="dummy"):
        registry.apply(made, confirm=made.code, progress=False)
    assert tags(real.url, "vm/a") == ["1"]


@pytest.mark.parametrize(
    ("what", "to", "error", "text"),
    [
        ("a", "a", InvalidArgument, "keep its name"),
        ("a:1", "1", InvalidArgument, "keep its name"),
        ("a:1", "a:1", InvalidArgument, "keep its name"),
        ("a:1", "b/c", InvalidArgument, "no tag"),
        ("a", "b:1", InvalidReference, "repository name"),
        ("a", "", InvalidReference, "repository name"),
        ("a:1", "", InvalidReference, "not a tag"),
        ("a:1", "b:", InvalidReference, "not a tag"),
        ("a:1", ":2", InvalidReference, "repository name"),
        ("*", "b", InvalidReference, "repository name"),
        ("a:*", "b:1", InvalidReference, "not a tag"),
        (f"a@{ONE.digest}", "b", InvalidArgument, "one repository or one tag"),
        ("none", "b", NotFound, "none"),
        ("a:none", "2", NotFound, "a:none"),
    ],
)
def test_what_makes_no_sense(real: Distribution, what: str, to: str, error: type[RegnbError], text: str) -> None:
    """Nothing there, a name that is not lawful, or the same one: an error that says which."""
    fill(real.url, ("a", "1", ONE))
    with pytest.raises(error, match=text):
        plan(real.url, what, to)


def test_a_name_that_is_taken(real: Distribution) -> None:
    """A tag at the destination that points elsewhere is not moved unasked, in a repository or another."""
    fill(real.url, ("a", "1", ONE), ("a", "2", TWO), ("b", "1", TWO))
    for what, to in (("a", "b"), ("a:1", "2"), ("a:1", "b:1")):
        with pytest.raises(Refused, match="already points to") as caught:
            plan(real.url, what, to)
        assert "--allow overwrite" in caught.value.hint
    made = plan(real.url, "a:1", "2", "overwrite", "dummy")
    assert [effect.reference for effect in made.effects] == ["2"]
    apply(made)
    assert tags(real.url, "a") == ["2"]
    assert raw(real.url, "a", "2") == ONE.data


def test_a_tag_that_cannot_be_read_would_be_lost(seeded: Seeded) -> None:
    """A dangling tag refuses the rename of its repository, by name."""
    with pytest.raises(Refused, match=r"broken/dangling:1\.0"):
        plan(seeded.url, "broken/dangling", "mended")


@pytest.mark.parametrize(("status", "error"), [(500, Refused), (403, Denied)])
def test_a_tag_that_the_registry_does_not_give(status: int, error: type[RegnbError]) -> None:
    """A server's error refuses it, naming the tag; a lack of permission is told as what it is."""
    with Fake() as fake:
        fake.repository("a", {"1": ONE, "bad": TWO})
        fake.routes["/v2/a/manifests/bad"] = (status, {}, b"")
        with pytest.raises(error) as caught:
            plan(fake.url, "a", "b")
        assert status == 403 or "a:bad" in caught.value.message


def test_the_demo_renamed(writable: Seeded) -> None:
    """Signed images move with their signatures, as skopeo reads them, and the catalog's old name is empty."""
    need("skopeo", shutil.which("skopeo"), "skopeo is not installed")
    before = {tag: raw(writable.url, "apps/payments", tag) for tag in tags(writable.url, "apps/payments")}
    made = plan(writable.url, "apps/payments", "shop/payments")
    assert any("empty" in note for note in made.notes)
    assert any("Untagged manifests of" in note for note in made.notes)
    apply(made)
    for tag, data in before.items():
        done = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{writable.host}/shop/payments:{tag}"],
            capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout == data
    assert tags(writable.url, "apps/payments") == []
    subject = next(item.subject for item in demo.items() if item.subject)
    assert len(ask(writable.url, lambda client: client.referrers("shop/payments", subject))) == 2
    assert not any(there(writable.url, "apps/payments", *(Image(i.raw, "") for i in demo.items() if i.subject)))

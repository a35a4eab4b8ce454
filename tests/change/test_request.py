"""What would write by hand becomes a plan, with its blast radius, a receipt and a way back; or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Seeded
from distribution import Distribution
from images import Image, ask, config, fill, image, index, layer, pack
from proxied import proxy, state

import regnb
from regnb.change.plan import Plan
from regnb.errors import (
    DigestMismatch,
    InvalidArgument,
    InvalidReference,
    MalformedManifest,
    NotFound,
    Refused,
    RegnbError,
    Unsupported,
)
from regnb.oci.manifest import OCI_INDEX, OCI_MANIFEST
from regnb.oci.reference import Digest
from regnb.registry import Registry

BASE = layer("base", 1000)
ONE = image([BASE, layer(1, 100)], about=config(created="2026-01-01T00:00:00Z"))
TWO = image([BASE, layer(2, 100)], about=config(created="2026-02-01T00:00:00Z"))
MULTI = index([(ONE, "linux/amd64")])
ODD = Image(b"\n " + ONE.data + b"\n", ONE.media_type, ONE.blobs)
"""The same image in other bytes, which nobody has pushed yet."""


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def filled(real: Distribution) -> Distribution:
    fill(real.url, ("a", "1", ONE), ("a", "2", TWO), ("a", "same", ONE), ("a", "m", MULTI), ("b", "1", TWO))
    return real


@pytest.fixture
def registry(filled: Distribution) -> Iterator[Registry]:
    with regnb.connect(filled.url, cache=False) as connected:
        yield connected


def written(registry: Registry, plan: Plan) -> None:
    """Apply a plan, all of it."""
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    assert receipt.status == "done", receipt.to_frame().to_string()


def there_and_back(registry: Registry, plan: Plan, url: str, *repositories: str) -> set[str]:
    """Apply and undo a plan; return the tags that came or went, when undo has brought every byte back."""
    before = state(url, *repositories)
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    assert receipt.status == "done", receipt.to_frame().to_string()
    after = state(url, *repositories)
    written(registry, registry.plan_undo(receipt, allow=["dummy"]))
    assert state(url, *repositories) == before
    return set(before) ^ set(after) | {name for name in set(before) & set(after) if before[name] != after[name]}


@pytest.mark.parametrize(
    ("line", "image", "allow", "changed"),
    [
        ("PUT /v2/a/manifests/new", ONE, (), {"a:new"}),
        ("PUT /v2/a/manifests/new", ODD, (), {"a:new"}),
        ("PUT /v2/a/manifests/new", MULTI, (), {"a:new"}),
        ("PUT /v2/a/manifests/2", ONE, ("overwrite",), {"a:2"}),
        (f"PUT /v2/a/manifests/{ODD.digest}", ODD, (), set()),
        (f"DELETE /v2/a/manifests/{TWO.digest}", None, (), {"a:2"}),
        (f"DELETE /v2/a/manifests/{MULTI.digest}", None, (), {"a:m"}),
        (f"DELETE /v2/a/manifests/{ONE.digest}", None, ("parents",), {"a:1", "a:same"}),
        ("DELETE /v2/a/manifests/same", None, ("dummy",), {"a:same"}),
        ("delete /v2/a/manifests/m", None, ("dummy",), {"a:m"}),
    ],
)  # fmt: skip
def test_it_is_done_and_undone(
    line: str, image: Image | None, allow: tuple[str, ...], changed: set[str], registry: Registry
) -> None:
    """Each changes the tags that it is about and no others, and undo brings every byte back; planning only reads."""
    method, path = line.split()
    url = f"http://{registry.host}"
    with proxy(registry.host, lambda _: None) as between, regnb.connect(between.url, cache=False) as watched:
        watched.plan_request(method, path, body=image.data if image else b"", allow=allow)
        assert {request.method for request in between.requests} <= {"GET", "HEAD"}
    plan = registry.plan_request(method, f"{url}{path}", body=image.data if image else b"", allow=allow)
    assert plan.operation == "request"
    assert there_and_back(registry, plan, url, "a", "b") == changed


def test_what_a_deletion_by_digest_takes_along(registry: Registry) -> None:
    """The lesson: every tag on the digest goes, and the plan says so; an index that lists it is not broken unasked."""
    with pytest.raises(Refused, match="parents"):
        registry.plan_request("DELETE", f"/v2/a/manifests/{ONE.digest}")
    plan = registry.plan_request("DELETE", f"/v2/a/manifests/{ONE.digest}", allow=["parents"])
    assert plan.steps[0].tags == ("1", "same")
    assert {(row.effect, row.reference) for row in plan.effects} >= {("tag", "1"), ("tag", "same")}


def test_a_put_is_what_was_given(registry: Registry, filled: Distribution) -> None:
    """The bytes go as they are, with odd white space; the media type is the header's, else the manifest's own."""
    plan = registry.plan_request("PUT", "/v2/a/manifests/odd", body=ODD.data)
    assert plan.content(ODD.digest) == ODD.data
    assert Plan.of_json(plan.to_json()) == plan
    assert f"--data-binary @manifest.json {filled.url}/v2/a/manifests/odd" in plan.curl(0)
    written(registry, plan)
    assert registry.manifest("a:odd").raw == ODD.data
    bare = pack({"schemaVersion": 2, "manifests": []})
    named = registry.plan_request("PUT", "/v2/a/manifests/i", body=bare, headers={"content-type": OCI_INDEX})
    assert (named.steps[0].media_type, named.steps[0].new) == (OCI_INDEX, True)
    again = registry.plan_request("PUT", "/v2/a/manifests/1", body=ONE.data)
    assert (again.changes, again.steps[0].reason) == (0, "kept: this tag already points to the digest")


def test_what_a_put_needs_is_there(registry: Registry) -> None:
    """Layers in another repository and children that nobody has pushed are named, with what brings them there."""
    with pytest.raises(NotFound) as caught:
        registry.plan_request("PUT", "/v2/new/manifests/1", body=ONE.data)
    assert Digest.of(BASE) in caught.value.message
    assert "regnb copy" in caught.value.hint
    with pytest.raises(NotFound, match=TWO.digest[:20]):
        registry.plan_request("PUT", "/v2/b2/manifests/1", body=index([(TWO, "linux/amd64")]).data)


def test_a_tag_is_not_moved_unasked(registry: Registry) -> None:
    """A PUT over a tag that points elsewhere is refused, and says what it would lose."""
    with pytest.raises(Refused, match="without a tag") as caught:
        registry.plan_request("PUT", "/v2/a/manifests/2", body=ONE.data)
    assert "overwrite" in caught.value.hint


def test_what_moved_meanwhile_is_not_touched(registry: Registry, filled: Distribution) -> None:
    """A tag that somebody sets after the plan is stale for PUT and DELETE alike."""
    put = registry.plan_request("PUT", "/v2/a/manifests/2", body=ONE.data, allow=["overwrite"])
    delete = registry.plan_request("DELETE", "/v2/a/manifests/2", allow=["dummy"])
    fill(filled.url, ("a", "2", ODD))
    for plan in (put, delete):
        receipt = registry.apply(plan, confirm=plan.code, progress=False)
        assert list(receipt.to_frame()["status"]) == ["stale"]
    assert registry.digest("a:2") == ODD.digest


def test_a_tag_alone_needs_an_allowance(registry: Registry) -> None:
    """docker-registry answers DIGEST_INVALID to a deletion by tag: apply finds out harmlessly, and says what helps."""
    plan = registry.plan_request("DELETE", "/v2/a/manifests/same")
    assert [one.known for one in plan.refusals] == [False]
    with pytest.raises(Refused) as caught:
        registry.apply(plan, confirm=plan.code, progress=False)
    assert "dummy" in caught.value.hint
    assert registry.digest("a:same") == ONE.digest


def test_deletion_that_is_off_is_said(distribution_program: None, tmp_path: Path) -> None:
    """405: nothing is written, and the hint names the setting."""
    with Distribution(tmp_path / "off", delete=False) as real:
        fill(real.url, ("a", "1", ONE))
        with regnb.connect(real.url, cache=False) as registry:
            plan = registry.plan_request("DELETE", f"/v2/a/manifests/{ONE.digest}")
            with pytest.raises(Unsupported) as caught:
                registry.apply(plan, confirm=plan.code, progress=False)
    assert "storage.delete.enabled" in caught.value.hint


BLOB = f"/v2/a/blobs/{Digest.of(BASE)}"
UPLOAD = "/v2/a/blobs/uploads/"


@pytest.mark.parametrize(
    ("method", "path", "reason", "hint"),
    [
        ("DELETE", BLOB, "could not be put back", "garbage collection"),
        ("POST", UPLOAD, "upload", "regnb copy"),
        ("PATCH", f"{UPLOAD}0123", "upload", "regnb copy"),
        ("PUT", f"{UPLOAD}0123?digest=x", "upload", "regnb copy"),
        ("DELETE", f"{UPLOAD}0123", "upload", "regnb copy"),
        ("PUT", BLOB, "not a request that regnb can plan", "PUT and DELETE manifests"),
        ("POST", "/v2/a/manifests/1", "not a request that regnb can plan", "PUT and DELETE manifests"),
        ("DELETE", "/v2/a/tags/list", "not a request that regnb can plan", "PUT and DELETE manifests"),
        ("DELETE", "/v2/_catalog", "not a request that regnb can plan", "PUT and DELETE manifests"),
        ("BREW", "/v2/", "not a request that regnb can plan", "PUT and DELETE manifests"),
    ],
)
def test_what_cannot_be_undone_is_not_sent(
    method: str, path: str, reason: str, hint: str, filled: Distribution
) -> None:
    """Blobs and uploads: refused with the reason, what to do instead, and the curl command; nothing is written."""
    with proxy(filled.host, lambda _: None) as between, regnb.connect(between.url, cache=False) as registry:
        with pytest.raises(Refused, match=reason) as caught:
            registry.plan_request(method, path)
        assert hint in caught.value.hint
        assert f"With curl: curl -sS -X {method} " in caught.value.hint
        assert f"{between.url}{path}" in caught.value.hint
        assert {request.method for request in between.requests} <= {"GET", "HEAD"}


def test_a_mount_becomes_a_copy(registry: Registry, filled: Distribution) -> None:
    """The images that need the blob are copied whole; what would move a tag, or mount nothing, is refused."""
    base, one = Digest.of(BASE), Digest.of(ONE.blobs[-1])
    uploads = "/v2/c/blobs/uploads/"
    plan = registry.plan_request("POST", f"{uploads}?mount={base}&from=b")
    assert "In b, 1 tag needs the mounted blob" in plan.notes[0]
    assert {step.tag for step in plan.steps if step.action == "tag"} == {"1"}
    plan = registry.plan_request("POST", f"{uploads}?mount={one}&from=a")
    written(registry, plan)
    assert {tag.rpartition(":")[2] for tag in state(filled.url, "c") if tag.startswith("c:")} >= {"1", "same", "m"}
    with pytest.raises(Refused) as caught:
        registry.plan_request("POST", f"{UPLOAD}?mount={base}&from=b")
    assert "overwrite" in caught.value.hint
    assert registry.plan_request("POST", f"{UPLOAD}?mount={base}&from=b", allow=["overwrite"]).changes
    with pytest.raises(Refused, match="from= is missing"):
        registry.plan_request("POST", f"{uploads}?mount={base}")
    with pytest.raises(NotFound, match="no tag of b"):
        registry.plan_request("POST", f"{uploads}?mount={one}&from=b")


SCHEMA1 = pack({"schemaVersion": 1, "name": "a", "tag": "1", "fsLayers": [], "history": []})


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("GET", "/v2/", b"", InvalidArgument),
        ("HEAD", "/v2/a/manifests/1", b"", InvalidArgument),
        ("PUT", "/v2/a/manifests/x", b"", MalformedManifest),
        ("PUT", "/v2/a/manifests/x", b"no manifest", MalformedManifest),
        ("PUT", "/v2/a/manifests/x", b"[" * 9000 + b"]" * 9000, MalformedManifest),
        ("PUT", "/v2/a/manifests/x", b'{"schemaVersion":2}', MalformedManifest),
        ("PUT", f"/v2/a/manifests/{Digest.of(b'other')}", ONE.data, DigestMismatch),
        ("PUT", "/v2/a/manifests/x", SCHEMA1, Refused),
        ("PUT", "/v2/a/manifests/-x", ONE.data, InvalidReference),
        ("PUT", "/v2/A/manifests/x", ONE.data, InvalidReference),
        ("DELETE", "/v2/a/manifests/not-there", b"", NotFound),
        ("DELETE", f"/v2/a/manifests/{Digest.of(b'absent')}", b"", NotFound),
        ("DELETE", "/v2/not/there/manifests/1", b"", NotFound),
        ("DELETE", "http://127.0.0.1:9/v2/a/manifests/1", b"", InvalidArgument),
        ("DELETE", "/v2/a/manifests/../../b/manifests/1", b"", InvalidReference),
    ],
)
def test_what_makes_no_sense_is_said(
    method: str, path: str, body: bytes, error: type[RegnbError], registry: Registry
) -> None:
    """A wrong body, name, digest or method is an error with its reason before anything is written."""
    with pytest.raises(error):
        registry.plan_request(method, path, body=body)


def test_headers_and_allowances_are_checked(registry: Registry) -> None:
    """No credentials in a header, no allowance that there is not, and no media type that contradicts the manifest."""
    with pytest.raises(InvalidArgument):
        registry.plan_request("PUT", "/v2/a/manifests/x", body=ONE.data, headers={"Authorization": "Basic x"})
    with pytest.raises(InvalidArgument):
        registry.plan_request("DELETE", "/v2/a/manifests/1", allow=["everything"])
    with pytest.raises(MalformedManifest):
        registry.plan_request("PUT", "/v2/a/manifests/x", body=MULTI.data, headers={"Content-Type": OCI_MANIFEST})


def test_on_both_registries(writable: Seeded) -> None:
    """The user's lessons in a row: HEAD a digest, delete by it, undo; GET a manifest, PUT it as another tag, undo."""
    with regnb.connect(writable.url, cache=False) as registry:
        digest = registry.request("HEAD", "/v2/vm/centos8/manifests/latest").digest
        gone = registry.plan_request("DELETE", f"/v2/vm/centos8/manifests/{digest}")
        assert there_and_back(registry, gone, writable.url, "vm/centos8") == {
            "vm/centos8:8", "vm/centos8:8.4", "vm/centos8:latest",
        }  # fmt: skip
        found = registry.request("GET", "/v2/vm/centos8/manifests/8.3")
        headers = {"Content-Type": found.headers["content-type"]}
        put = registry.plan_request("PUT", "/v2/vm/centos8/manifests/stable", body=found.body, headers=headers)
        assert there_and_back(registry, put, writable.url, "vm/centos8") == {"vm/centos8:stable"}


def test_a_put_below_a_list_is_undone_with_it(registry: Registry, filled: Distribution) -> None:
    """A manifest that was put by its digest and then listed by an index stays when only it is undone."""
    plan = registry.plan_request("PUT", f"/v2/a/manifests/{ODD.digest}", body=ODD.data)
    receipt = registry.apply(plan, confirm=plan.code, progress=False)
    listed = index([(ODD, "linux/amd64")])
    ask(filled.url, lambda client: client.put_manifest("a", "list", listed.data, listed.media_type))
    undo = registry.plan_undo(receipt)
    assert undo.changes == 0
    assert registry.digest("a:list") == listed.digest

"""The API console, driven as a browser drives it: values are set, buttons clicked, and what is shown is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted
from conftest import Seeded
from distribution import Distribution
from proxied import proxy, state
from scripted import Reply, Request
from test_forms import SIBLINGS, confirm, preview, receipts, registry, settle, undone  # noqa: F401 -- two are fixtures

import regnb
from regnb.oci.manifest import DOCKER_MANIFEST
from regnb.oci.reference import Digest
from regnb.registry import Registry
from regnb.widgets.console import LESSONS, SHOWN, Console, console

OWN = "My own request"
HOSTILE = '<img src=x onerror="alert(1)">\x1b[2J\u202e'
HOSTILE_NAME = "<img/src=x/onerror=alert(1)>"


@pytest.fixture
def read(seeded_real: Seeded) -> Iterator[Console]:
    """A console of docker-registry, for tests that write nothing."""
    with regnb.connect(seeded_real.url, cache=False) as connected:
        yield console(connected)


def choose(form: Console, lesson: str, **values: str) -> None:
    form._fields["lesson"].value = lesson
    for name, value in values.items():
        form._fields[name].value = value


def send(form: Console, lesson: str, **values: str) -> str:
    """Choose an operation, fill it in, send it, and return what is shown."""
    choose(form, lesson, **values)
    form._to_send.click()
    settle(form)
    return str(form._answered.value)


def is_shown(widget: Any) -> bool:
    return widget.layout.display != "none"


def test_from_the_catalog_to_the_digest(read: Console) -> None:
    """Each answer suggests what the next request needs: repositories, tags, and the digest to delete by."""
    shown = send(read, "Repositories: the catalog")
    assert "HTTP/1.1 200 OK" in shown
    assert "GET /v2/_catalog?n=100 HTTP/1.1" in shown
    assert re.search(r"<b>HTTP/1.1 200 OK</b><br>\d+ ms, \d+ bytes of application/json", shown)
    assert "vm/centos8" in read._fields["repository"].options
    send(read, "Tags of a repository", repository="vm/centos8")
    assert {"8", "8.3", "8.4", "latest"} == {*read._fields["reference"].options}
    shown = send(read, "Manifest", reference="latest")
    assert "schemaVersion" in shown
    by_get = read._fields["digest"].value
    read._fields["digest"].value = ""
    shown = send(read, "Digest, by HEAD")
    assert "docker-content-digest: sha256:" in shown
    assert read._fields["digest"].value == by_get == read.registry.digest("vm/centos8:latest")
    about = json.loads(send(read, "Manifest") and read.answer.body)["config"]["digest"]  # type: ignore[union-attr]
    assert "&quot;history&quot;" in send(read, "Config or layer", digest=about)
    assert len(read.history) == 6
    assert "HEAD /v2/vm/centos8/manifests/latest" in read._past.value


def test_one_accepted_type_gives_another_digest(read: Console) -> None:
    """Of a tag on a list, whoever accepts one type only is not told the digest that the tag points at."""
    rows = read.registry.inventory(progress=False).tags
    index = rows[rows["kind"] == "index"].iloc[0]
    name, tag = index["repository"], index["tag"]
    send(read, "Digest, by HEAD", repository=name, reference=tag)
    assert read._fields["digest"].value == index["digest"]
    send(read, "Digest, accepting one type only")
    assert read.answer is not None
    assert read.answer.exchange.request_headers == {"Accept": DOCKER_MANIFEST}
    assert read.answer.digest != index["digest"]


def test_the_views_of_curl(read: Console) -> None:
    """The body alone, with status line and headers, or a HEAD; each with the curl command that does it."""
    body = send(read, "Is this a registry?")
    assert "docker-distribution-api-version" not in body
    read._fields["view"].value = "-i: status line, headers, body"
    both = send(read, "Is this a registry?")
    assert "docker-distribution-api-version: registry/2.0" in both
    assert "{}" in both
    read._fields["view"].value = "-I: a HEAD, without the body"
    head = send(read, "Is this a registry?")
    assert "curl -sS --head http" in head
    assert "docker-distribution-api-version: registry/2.0" in head
    assert "Body" not in head


def test_pages_are_turned(read: Console) -> None:
    """A Link header becomes a button, which asks for the next page until there is none."""
    send(read, OWN, path="/v2/_catalog?n=6")
    seen = []
    for _ in range(10):
        assert read.answer is not None
        seen += json.loads(read.answer.body)["repositories"]
        if not is_shown(read._to_next):
            break
        read._to_next.click()
        settle(read)
    assert seen == list(read.registry.catalog()["repository"])
    assert "last=" in read._past.value


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_operation_says_what_it_teaches(read: Console, lesson: str) -> None:
    """Each has a sentence, shows the fields that its path needs and no others, and the parts of its kind."""
    choose(read, lesson)
    assert re.sub("<[^>]*>", "", read._teaches.value)
    needed = {*re.findall(r"{(\w+)}", LESSONS[lesson].path)}
    shown = {name for name in ("repository", "reference", "digest", "tag") if is_shown(read._fields[name])}
    assert shown - needed <= {LESSONS[lesson].more}
    assert needed <= shown
    reads = LESSONS[lesson].method in ("GET", "HEAD", "OPTIONS")
    assert is_shown(read._to_send) == reads
    assert [is_shown(part) for part in read.children] == [True, True, reads, not reads, not reads, True]
    for control in read._fields.values():
        assert control.description


def test_errors_are_read_and_not_traced(read: Console) -> None:
    """A status of error is an answer with its body and a hint; a wrong name and a wrong header are sentences."""
    shown = send(read, "Tags of a repository", repository="no/such")
    assert "HTTP/1.1 404 Not Found" in shown
    assert "&quot;NAME_UNKNOWN&quot;" in shown
    assert "lists the repositories" in shown
    assert "not a repository name" in send(read, "Tags of a repository", repository="No Such")
    assert "not a repository name" in send(read, "Tags of a repository", repository="")
    assert "not a path" in send(read, OWN, path="/etc/passwd")
    assert "is not the registry at" in send(read, OWN, path="http://127.0.0.1:9/v2/")
    assert "has no colon" in send(read, OWN, path="/v2/", headers="Accept")
    assert "is not sent from here" in send(read, OWN, path="/v2/", headers="Authorization: Basic czNjcmV0")
    assert "czNjcmV0" not in repr(vars(read)) + read._answered.value + read._past.value
    assert "Traceback" not in read._answered.value


def test_a_registry_that_stops_is_said(real: Distribution) -> None:
    """Refused connections are a box that says so, and a line of the history."""
    with regnb.connect(real.url, cache=False) as connected:
        form = console(connected)
        real.stop()
        shown = send(form, "Is this a registry?")
    assert "role='alert'" in shown
    assert "refuses connections" in shown
    assert "no answer" in form._past.value


def test_hostile_answers_do_nothing() -> None:
    """Markup and control characters in names, headers and bodies are shown, and none is suggested as a name."""
    listed = json.dumps({"repositories": [HOSTILE_NAME, "good/name"], "tags": [HOSTILE]}, ensure_ascii=False)

    def answer(request: Request, _: int) -> Reply:
        about = {"Content-Type": "application/json", "X-Odd": "<script>alert(1)</script>"}
        return Reply(404 if "tags" in request.path else 200, about, listed.encode())

    with scripted.serve(answer) as server, regnb.connect(server.url, cache=False) as connected:
        form = console(connected)
        form._fields["view"].value = "-i: status line, headers, body"
        shown = send(form, "Repositories: the catalog") + send(form, "Tags of a repository", repository="good/name")
        assert form._fields["repository"].options == ("good/name",)
        assert form._fields["reference"].options == ()
    assert "<img" not in shown
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "&lt;img" in shown


def test_a_long_body_is_cut_and_folded() -> None:
    """A page is given so much of a body and no more, and a long one is folded."""
    body = json.dumps(["x" * 90] * 10_000).encode()
    reply = Reply(200, {"Content-Type": "application/json"}, body)
    with scripted.serve(lambda *_: reply) as server, regnb.connect(server.url, cache=False) as connected:
        form = console(connected)
        shown = send(form, "Is this a registry?")
        assert form.answer is not None
        assert form.answer.body == body
    assert len(shown) < 1.2 * SHOWN  # quotes are written out
    assert "characters more" in shown
    assert "<details>" in shown


def test_the_history_is_short(read: Console) -> None:
    """The last twenty requests are kept, the newest first."""
    for number in range(1, 24):
        send(read, OWN, path=f"/v2/_catalog?n={number}")
    assert len(read.history) == 20
    assert read.history[0][1] == "GET /v2/_catalog?n=23"
    assert "n=3</td>" not in read._past.value


def test_what_writes_is_not_sent(read: Console, seeded_real: Seeded) -> None:
    """Send is refused for a writing method whatever else is set, and a preview touches nothing that is there."""
    with proxy(seeded_real.host, lambda _: None) as between, regnb.connect(between.url, cache=False) as connected:
        form = console(connected)
        digest = connected.digest("vm/centos8:latest")
        choose(form, "Delete by digest", repository="vm/centos8", digest=digest)
        form._to_send.click()
        settle(form)
        assert "could write" in form._answered.value
        assert "3 tags and 1 manifest will be gone" in preview(form)
        assert "DELETE of" not in preview(form)
        choose(form, OWN, method="DELETE", path=f"/v2/vm/centos8/blobs/{digest}")
        shown = preview(form)
        assert form.plan is None
        assert "could not be put back" in shown
        assert f"curl -sS -X DELETE {between.url}/v2/vm/centos8/blobs/{digest}" in shown
        # A preview asks, with a digest that is not there, what the registry would refuse.
        sent = [request for request in between.requests if request.method not in ("GET", "HEAD")]
        assert {request.method for request in sent} <= {"DELETE"}
        assert not [request.path for request in sent if digest in request.path]


def test_delete_by_digest_takes_the_siblings_and_comes_back(registry: Registry, writable: Seeded) -> None:  # noqa: F811
    """The plan names every tag on the digest; the right code alone arms it, and undo brings every byte back."""
    before = state(writable.url, "vm/centos8")
    form = console(registry)
    send(form, "Digest, by HEAD", repository="vm/centos8", reference="latest")
    choose(form, "Delete by digest")
    shown = preview(form)
    assert all(f">{tag}<" in shown for tag in SIBLINGS)
    assert state(writable.url, "vm/centos8") == before
    form._code.value = "00000000"
    assert form._to_apply.disabled
    confirm(form)
    assert form.receipt is not None
    assert form.receipt.name in form._result.value
    assert set(before) - set(state(writable.url, "vm/centos8")) == {f"vm/centos8:{tag}" for tag in SIBLINGS}
    undone(form)
    assert state(writable.url, "vm/centos8") == before


def test_delete_by_tag_leaves_the_siblings(registry: Registry, writable: Seeded) -> None:  # noqa: F811
    """One tag of three goes, if a dummy is allowed where the registry needs one; undo sets it again."""
    before = state(writable.url, "vm/centos8")
    form = console(registry)
    choose(form, "Delete by tag", repository="vm/centos8", reference="latest")
    form._allow["dummy"].value = True
    preview(form)
    confirm(form)
    after = state(writable.url, "vm/centos8")
    assert set(before) - set(after) == {"vm/centos8:latest"}
    undone(form)
    assert state(writable.url, "vm/centos8") == before


def test_retag_by_put(registry: Registry, writable: Seeded) -> None:  # noqa: F811
    """The manifest of one tag is put under another: the same bytes, no other change, and undo removes the tag alone."""
    before = state(writable.url, "vm/centos8")
    form = console(registry)
    choose(form, "Retag: GET, then PUT", repository="vm/centos8", reference="8.3", tag="stable")
    assert "Nothing else is affected" in preview(form)
    confirm(form)
    after = state(writable.url, "vm/centos8")
    assert after == before | {"vm/centos8:stable": before["vm/centos8:8.3"]}
    undone(form)
    assert state(writable.url, "vm/centos8") == before


def test_an_edit_takes_the_plan_away(registry: Registry) -> None:  # noqa: F811
    """Whatever is changed after the preview, the plan is gone and Apply is off."""
    form = console(registry)
    choose(form, "Retag: GET, then PUT", repository="vm/centos8", reference="8.3", tag="stable")
    preview(form)
    assert form.plan is not None
    form._fields["tag"].value = "other"
    assert form.plan is None
    assert form._to_apply.disabled


def test_nothing_is_written_from_a_read_only_page(
    seeded_real: Seeded, monkeypatch: pytest.MonkeyPatch, receipts: Path  # noqa: F811
) -> None:  # fmt: skip
    """Where nothing may be written, a plan is made to take elsewhere, and Apply stays off."""
    monkeypatch.setenv("REGNB_READ_ONLY", "1")
    with regnb.connect(seeded_real.url, cache=False) as connected:
        form = console(connected)
        choose(form, "Delete by tag", repository="vm/centos8", reference="latest")
        preview(form)
        assert "Nothing is written from here" in form._prompt.value
        assert form.plan is not None
        form._code.value = form.plan.code
        form._to_apply.click()
        assert not receipts.exists()
        assert Digest(connected.digest("vm/centos8:latest"))


def test_it_says_what_it_is(read: Console) -> None:
    """It prints as the console of its registry."""
    send(read, "Is this a registry?")
    assert repr(read) == f"<Console of {read.registry.host}, 1 requests>"


def test_a_pasted_curl_line_fills_in_the_fields(read: Console) -> None:
    """What it asks for stands in the fields, a shell's cut and another host are said, and a POST leads to a copy."""
    fields = read._fields
    fields["line"].value = "curl -H 'Accept: a/b' -i r.example:5000/v2/_catalog?n=1&last=a"
    assert (fields["method"].value, fields["path"].value) == ("GET", "/v2/_catalog?n=1&last=a")
    assert fields["headers"].value == "Accept: a/b"
    assert fields["line"].value == ""
    assert "never sends &amp;last=a" in read._teaches.value
    assert "names r.example:5000" in read._teaches.value
    fields["line"].value = "curl -X PATCH r/v2/a/blobs/uploads/0"
    assert "plan_copy" in read._answered.value
    digest = read.registry.manifest("vm/centos8:latest").layers[0].digest
    fields["line"].value = f"curl -X POST r/v2/c/blobs/uploads/?mount={digest}&from=vm/centos8"
    assert "never sends &amp;from=vm/centos8" in read._teaches.value
    assert read._made(None, None, {name: field.value for name, field in fields.items()} | {"allow": ()}).steps
    fields["line"].value = "curl -H 'Authorization: Basic abc' r/v2/"
    assert "is not sent from here" in read._answered.value
    assert fields["headers"].value == ""

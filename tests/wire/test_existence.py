"""What is believed of answers that may come from a proxy: absence and presence, in audits, plans and applications."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import scripted
from images import OCI_INDEX, OCI_MANIFEST, Fake, Image, ask, crawl, fill, image, index, layer
from msgspec import structs
from proxied import READS, forward, proxy, state
from scripted import Reply, Request
from test_apply import (
    JSON,
    NOT_THERE,
    ONE,
    THREE,
    TWO,
    Served,
    applied,
    blobs,
    delete,
    make,
    remove,
    serving,
    set_tag,
    tagged,
    untag,
)

import regnb
from regnb.change.journal import Journal, Receipt
from regnb.crawl.reader import Reader
from regnb.errors import NotARegistry, NotFound, RegnbError, Unproven, Unsupported
from regnb.oci.manifest import DOCKER_MANIFEST, RawManifest
from regnb.oci.reference import Digest
from regnb.wire import existence
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.messages import Response

TEXT, HTML = {"Content-Type": "text/plain; charset=utf-8"}, {"Content-Type": "text/html"}
FOREIGN = {
    "Traefik without a route": Reply(404, TEXT, b"404 page not found\n"),
    "a web server": Reply(404, HTML, b"<html><h1>404 Not Found</h1></html>"),
    "an empty answer": Reply(404),
    "a framework": Reply(404, JSON, b'{"detail": "Not Found"}'),
    "errors without a code": Reply(404, JSON, b'{"errors": [{"status": 404, "message": "no route"}]}'),
    "another code": Reply(404, JSON, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}, {"code": "DENIED"}]}'),
}
"""Answers with 404 that are not a registry's word."""
ELSEWHERE = {code: Reply(404, JSON, b'{"errors":[{"code":"%s"}]}' % code.encode()) for code in ("BLOB_UNKNOWN", "X")}
"""Answers with 404 whose code is that of another question, or nobody's."""
EMPTY = Reply(200, JSON, b"{}")


@pytest.fixture(autouse=True)
def own_receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


@pytest.fixture
def actual(tmp_path: Path) -> Iterator[Served]:
    """Debian's docker-registry, empty."""
    with serving("real", tmp_path / "actual") as registry:
        yield registry


@pytest.fixture
def by_tag(tmp_path: Path) -> Iterator[Served]:
    """A registry that deletes single tags, empty."""
    with serving("embedded", tmp_path / "embedded") as registry:
        yield registry


def instead(reply: Reply, *ends: str, methods: tuple[str, ...] = READS) -> Callable[[Request], Reply | None]:
    """Answer requests whose path ends so in the registry's place."""
    return lambda request: reply if request.method in methods and request.path.endswith(ends) else None


# One function decides


@pytest.mark.parametrize("name", FOREIGN)
def test_a_404_that_is_not_the_registrys_proves_nothing(actual: Served, name: str) -> None:
    """Manifest, blob and list alike: it is an error that says who may have answered, and what to do."""
    fill(actual.url, ("a", "x", ONE))
    blob = blobs(ONE)[0].digest
    asked: list[Callable[[Client], object]] = [
        lambda client: client.manifest("a", "x"),
        lambda client: client.head_manifest("a", "x"),
        lambda client: client.head_manifest("a", ONE.digest),
        lambda client: client.head_blob("a", blob),
        lambda client: client.blob_present("a", blob),
        lambda client: client.blob("a", blob, limit=10_000),
        lambda client: Reader(client, Cache()).tags("a"),
        lambda client: Reader(client, Cache()).look("a", "x"),
    ]
    with proxy(actual.host, instead(FOREIGN[name], "")) as server:
        for work in asked:
            with pytest.raises(Unproven, match="so it is not known what exists there") as caught:
                ask(server.url, work)  # type: ignore[arg-type]
            assert "proxy" in caught.value.hint


@pytest.mark.parametrize("code", ELSEWHERE)
def test_the_code_of_another_question_proves_nothing(actual: Served, code: str) -> None:
    """With a blob's code a manifest and a list of tags are not absent: nothing is planned or lost for it."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO))
    with (
        proxy(actual.host, instead(ELSEWHERE[code], "/manifests/y", "/tags/list")) as server,
        regnb.connect(server.url, cache=False) as registry,
    ):
        found = registry.inventory(["a"])
        assert not found.complete
        assert set(found.problems["repository"]) == {"a"}
        for work in (lambda: registry.plan_retag("a:x", "y"), lambda: registry.plan_delete("a:x")):
            with pytest.raises(RegnbError):
                work()
    assert {name: raw.digest for name, raw in state(actual.url, "a").items()} == {"a:x": ONE.digest, "a:y": TWO.digest}


@pytest.mark.parametrize(
    ("path", "code", "proves"),
    [
        ("tags/list", "NAME_UNKNOWN", True),
        ("tags/list", "NOT_FOUND", True),
        ("tags/list", "MANIFEST_UNKNOWN", False),
        ("manifests/x", "MANIFEST_UNKNOWN", True),
        ("manifests/x", "NAME_UNKNOWN", True),
        ("manifests/x", "BLOB_UNKNOWN", False),
        ("manifests/x", "BLOB_UPLOAD_UNKNOWN", False),
        ("blobs/sha256:00", "BLOB_UNKNOWN", True),
        ("blobs/sha256:00", "MANIFEST_UNKNOWN", False),
        ("blobs/uploads/1", "BLOB_UPLOAD_UNKNOWN", True),
    ],
)
def test_a_code_proves_what_its_own_question_asked(path: str, code: str, *, proves: bool) -> None:
    """A registry has a code for each kind of thing, and says it of nothing else."""
    answer = Response("GET", f"http://h/v2/a/{path}", 404, httpx.Headers(JSON), b"{}")
    assert (existence.doubt(answer, "http://h", [code]) == "") is proves


def test_a_registrys_own_404_is_absence(actual: Served, by_tag: Served) -> None:
    """Both registries are believed when they say that a manifest, a blob or a repository is not there."""
    for registry in (actual, by_tag):
        fill(registry.url, ("a", "x", ONE))
        for target in ("y", str(TWO.digest)):
            with pytest.raises(NotFound):
                ask(registry.url, lambda client, target=target: client.head_manifest("a", target))
        with pytest.raises(NotFound):
            ask(registry.url, lambda client: client.head_blob("a", TWO.digest))
        assert not ask(registry.url, lambda client: client.blob_present("a", TWO.digest))
        assert ask(registry.url, lambda client: Reader(client, Cache()).tags("none")) == []


def test_plain_text_with_a_registrys_code_is_believed() -> None:
    """Some registries write their errors without a Content-Type, which then says text/plain."""
    body = b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'
    answer = Response("GET", "http://h/v2/a/manifests/1", 404, httpx.Headers(TEXT), body)
    assert existence.doubt(answer, "http://h", ["MANIFEST_UNKNOWN"]) == ""


def test_a_404_after_a_redirect_to_another_server_proves_nothing() -> None:
    """It is not the registry's, however much it looks like one; and the hint names the other server."""
    with scripted.serve(lambda *_: NOT_THERE) as other:
        elsewhere = Reply(307, {"Location": f"{other.url}/v2/a/manifests/x"})
        with (
            scripted.serve(lambda *_: elsewhere) as server,
            pytest.raises(Unproven, match="another server") as caught,
        ):
            ask(server.url, lambda client: client.manifest("a", "x"))
        assert other.url in caught.value.hint


def test_a_200_without_a_manifest_is_not_there(actual: Served) -> None:
    """``{}`` is nobody's manifest, and a web page is not a registry."""
    with (
        proxy(actual.host, instead(EMPTY, "/x")) as server,
        pytest.raises(Unproven, match="not a manifest"),
    ):
        ask(server.url, lambda client: client.head_manifest("a", "x"))
    with (
        proxy(actual.host, instead(Reply(200, HTML, b"<html>welcome</html>"), "/x")) as server,
        pytest.raises(NotARegistry),
    ):
        ask(server.url, lambda client: client.head_manifest("a", "x"))


@pytest.mark.parametrize("status", [404, 405])
def test_a_get_decides_where_a_head_does_not(actual: Served, status: int) -> None:
    """A HEAD that is refused or finds nothing is followed by a GET, and HEAD is given up only where it is refused."""
    fill(actual.url, ("a", "x", ONE))
    with proxy(actual.host, instead(Reply(status), "", methods=("HEAD",))) as server:

        async def work(client: Client) -> None:
            for _ in range(2):
                assert (await client.head_manifest("a", "x")).digest == ONE.digest
            assert await client.head_blob("a", blobs(ONE)[0].digest) == blobs(ONE)[0].size

        ask(server.url, work)
        manifests = [request.method for request in server.requests if "/manifests/" in request.path]
    assert manifests == (["HEAD", "GET"] * 2 if status == 404 else ["HEAD", "GET", "GET"])


# Audits


@pytest.mark.parametrize("reply", [*FOREIGN.values(), EMPTY], ids=[*FOREIGN, "an empty object"])
def test_a_repository_whose_list_is_not_a_registrys_makes_an_audit_incomplete(actual: Served, reply: Reply) -> None:
    """The catalog names it: its tags are not read, and that is a row; a policy says that it judged without them."""
    fill(actual.url, ("a", "x", ONE), ("b", "x", TWO))
    with (
        proxy(actual.host, instead(reply, "/v2/a/tags/list")) as server,
        regnb.connect(server.url, cache=False) as registry,
    ):
        inventory = registry.inventory()
        assert not inventory.complete
        assert list(inventory.problems["repository"]) == ["a"]
        statuses = dict(zip(inventory.repositories["repository"], inventory.repositories["status"], strict=True))
        assert statuses == {"a": "failed", "b": "read"}
        kept = '[[rule]]\nrepositories = ["*"]\nkeep_newest = 1\n'
        assert "The policy was not applied to a: " in "\n".join(
            registry.plan_retention(kept, inventory=inventory).notes
        )


def test_an_emptied_repository_is_empty(actual: Served) -> None:
    """NAME_UNKNOWN is the registry's own word about a repository that its catalog goes on listing."""
    fill(actual.url, ("a", "x", ONE))
    answer = Reply(404, JSON, b'{"errors": [{"code": "NAME_UNKNOWN"}]}')
    with proxy(actual.host, instead(answer, "/v2/a/tags/list")) as server:
        records, _ = crawl(server.url)
    assert records.repositories == {"a": "empty"}
    assert not records.problems


@pytest.mark.parametrize("status", [400, 403, 404, 405, 406, 501])
def test_optional_endpoints_may_be_refused(actual: Served, status: int) -> None:
    """Without a list of referrers, and without a catalog for those that are named, an audit is complete."""
    fill(actual.url, ("a", "x", ONE))
    refusal = Reply(status, TEXT, b"no")
    with proxy(actual.host, lambda request: refusal if "/referrers/" in request.path else None) as server:
        records, _ = crawl(server.url)
        assert not records.problems
        with pytest.raises(Unsupported, match="does not list referrers"):
            ask(server.url, lambda client: client.referrers("a", ONE.digest, fallback=False))
        assert ask(server.url, lambda client: client.referrers("a", ONE.digest)) == ()
    with proxy(actual.host, lambda request: refusal if "/_catalog" in request.path else None) as server:
        assert crawl(server.url, repositories=["a"])[0].repositories == {"a": "read"}
        with pytest.raises(RegnbError) as caught:
            crawl(server.url)
    assert "--repository NAME" in caught.value.hint


def test_a_list_of_referrers_that_fails_in_the_middle_is_a_row(by_tag: Served) -> None:
    """Where a registry lists referrers, a proxy's 404 hides some: that is not "there are none"."""
    fill(by_tag.url, ("a", "x", ONE), ("a", "y", TWO))
    asked: list[str] = []

    def answer(request: Request) -> Reply | None:
        if "/referrers/" in request.path:
            asked.append(request.path)
        return FOREIGN["Traefik without a route"] if len(asked) == 2 and "/referrers/" in request.path else None

    with proxy(by_tag.host, answer) as server:
        records, _ = crawl(server.url)
    assert [problem.problem for problem in records.problems] == ["failed"]
    assert records.problems[0].incomplete


def test_a_tag_that_a_head_calls_absent_costs_a_warm_audit_one_get(actual: Served) -> None:
    """P+R+T requests, and a GET for the one tag; it is read, for a GET decides."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO), ("a", "z", TWO))
    cache = Cache()
    crawl(actual.url, cache)
    with proxy(actual.host, instead(Reply(404), "/a/manifests/y", methods=("HEAD",))) as server:
        records, _ = crawl(server.url, cache)  # another port, so another registry: cold, but for the content
        assert not records.problems
        before = len(server.requests)
        records, sent = crawl(server.url, cache)
        assert not records.problems
        assert sent == len(server.requests) - before == 1 + 1 + 3 + 1


def claiming(host: str, claim: Callable[[str], Image | None]) -> Callable[[Request], Reply | None]:
    """Answer a HEAD of a tag with the digest and size of the image that is claimed for its path."""

    def answer(request: Request) -> Reply | None:
        what = claim(request.path) if request.method == "HEAD" and "sha256:" not in request.path else None
        if what is None:
            return None
        found = forward(host, request)
        found.headers |= {"Docker-Content-Digest": what.digest, "Content-Length": str(len(what.data))}
        return found

    return answer


@pytest.mark.parametrize("claimed", [ONE, image([layer("nowhere", 10)])], ids=["known", "unknown"])
def test_a_head_that_names_another_digest_costs_a_warm_audit_one_get(actual: Served, claimed: Image) -> None:
    """A header is not a proof that a tag has moved: the bytes are read, and the tag is where they are."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO), ("a", "z", TWO))
    with proxy(actual.host, claiming(actual.host, lambda path: claimed if path.endswith("/y") else None)) as server:
        cache = Cache()
        crawl(server.url, cache)
        records, sent = crawl(server.url, cache)
    assert not records.problems
    assert {row.tag: row.digest for row in records.tags} == {"x": ONE.digest, "y": TWO.digest, "z": TWO.digest}
    assert sent == 1 + 1 + 3 + 1


# Plans and applications


def test_no_write_rests_on_a_head(actual: Served) -> None:
    """Whatever digest a HEAD names, no tag is overwritten or lost that the plan took for another one."""
    fill(actual.url, ("a", "x", ONE), ("a", "moved", THREE), ("a", "hidden", THREE), ("a", "here", TWO))
    before = tagged(actual.url, "a")
    steps = (
        set_tag("a", "moved", ONE, before=TWO.digest),
        untag("a", "hidden", TWO),
        delete("a", THREE, "moved"),
    )
    plan = make(actual.url, *steps, allow=("dummy",))
    with proxy(actual.host, claiming(actual.host, lambda _: TWO)) as server:
        done = applied(structs.replace(plan, url=server.url))
        with regnb.connect(server.url, cache=False) as registry:
            assert {step.before for step in registry.plan_retag("a:x", "moved", allow=["overwrite"]).steps} == {
                THREE.digest
            }
    assert done.statuses == ["stale"] * 3, done.messages
    assert not done.writes
    assert tagged(actual.url, "a") == before


def test_a_tag_that_an_earlier_row_removed_is_not_lost(actual: Served) -> None:
    """A row whose tag went, though nothing could be read then, is unknown, and fails none of its siblings."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", ONE), ("a", "z", ONE))
    gone: list[Request] = []

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and "regnb-" not in request.path and forward(actual.host, request).status == 202:
            gone.append(request)
            return Reply(202)
        return FOREIGN["an empty answer"] if gone and request.path.endswith("/x") else None

    with proxy(actual.host, answer) as server:
        done = applied(make(server.url, untag("a", "x", ONE), untag("a", "y", ONE), allow=("dummy",)))
    assert done.statuses == ["unknown", "done"], done.messages
    assert "ALSO GONE" not in done.messages
    assert tagged(actual.url, "a") == {"a:z": ONE.digest}


def test_no_plan_is_made_from_what_may_be_a_proxys_word(actual: Served) -> None:
    """A retag, a copy, a rename and an undo are refused where a tag that they need cannot be asked for."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO))
    with regnb.connect(actual.url, cache=False) as registry:
        plan = registry.plan_retag("a:x", "y", allow=["overwrite"])
        receipt = registry.apply(plan, confirm=plan.code)
    reply = FOREIGN["Traefik without a route"]
    with (
        proxy(actual.host, instead(reply, "/a/manifests/y")) as server,
        regnb.connect(server.url, cache=False) as registry,
    ):
        for work in (
            lambda: registry.plan_retag("a:x", "y"),
            lambda: registry.plan_copy("a:y", "b"),
            lambda: registry.plan_rename("a", "b"),
        ):
            with pytest.raises(RegnbError, match="not known what exists there"):
                work()
        moved = Receipt.load(receipt.path)
        moved.applied = structs.replace(receipt.plan, url=server.url)
        with pytest.raises(Unproven):
            registry.plan_undo(moved)


def test_a_tag_that_cannot_be_asked_for_is_not_overwritten(actual: Served) -> None:
    """A new tag may be taken after all: nothing is written, and the others are set."""
    fill(actual.url, ("a", "x", ONE), ("a", "taken", TWO))
    with proxy(actual.host, instead(FOREIGN["a web server"], "/taken")) as server:
        done = applied(make(server.url, set_tag("a", "taken", ONE), set_tag("a", "free", ONE)))
    assert done.statuses == ["failed", "done"]
    assert "not known what exists there" in done.messages
    assert tagged(actual.url, "a")["a:taken"] == TWO.digest


@pytest.mark.parametrize("took", [True, False])
def test_a_deletion_after_which_nothing_can_be_read_is_unknown(actual: Served, *, took: bool) -> None:
    """Whether the proxy passed the DELETE on or not: the row says how to find out, and finding out works."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO))
    broken, deaf = True, False

    def answer(request: Request) -> Reply | None:
        nonlocal deaf
        if broken and request.method == "DELETE" and request.path.endswith(ONE.digest):
            deaf = not took or forward(actual.host, request).status == 202
            return Reply(202)
        unread = broken and deaf and request.path.endswith(("/x", ONE.digest))
        return FOREIGN["Traefik without a route"] if unread else None

    with proxy(actual.host, answer) as server:
        plan = make(server.url, delete("a", ONE, "x"))
        done = applied(plan)
        assert done.statuses == ["unknown"]
        assert f"To find out: regnb apply --resume {done.receipt.name}" in done.messages
        assert done.receipt.status == "partial"
        broken = False
        assert applied(plan, receipt=done.receipt).statuses == ["done"]
    assert tagged(actual.url, "a") == {"a:y": TWO.digest}


@pytest.mark.parametrize("passed", [True, False])
def test_a_lost_answer_is_resolved_by_reading(actual: Served, *, passed: bool) -> None:
    """What arrived is done; what has changed nothing yet may still arrive, and is unknown."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO), ("a", "z", THREE))

    def answer(request: Request) -> Reply | None:
        if request.method in READS or absent in request.path or "regnb-" in request.path:
            return None
        if passed:
            forward(actual.host, request)
        return Reply(504, HTML, b"<html>the upstream did not answer in time</html>")

    with proxy(actual.host, answer) as server:
        plan = make(
            server.url, set_tag("a", "new", ONE), set_tag("a", "y", ONE, before=TWO.digest), delete("a", THREE, "z")
        )
        absent = Digest.of(f"{plan.nonce}/absent".encode())
        done = applied(plan)
    assert done.statuses == (["done"] * 3 if passed else ["unknown"] * 3)
    assert ("so far it is not done" in done.messages) != passed


def test_a_second_look_is_enough(actual: Served) -> None:
    """One answer after a write that cannot be believed is asked for again."""
    fill(actual.url, ("a", "x", ONE))
    state_ = {"written": False, "answers": 1}

    def answer(request: Request) -> Reply | None:
        state_["written"] |= request.method == "PUT"
        if state_["written"] and request.path.endswith("/new") and request.method in READS and state_["answers"]:
            state_["answers"] = False
            return FOREIGN["Traefik without a route"]
        return None

    with proxy(actual.host, answer) as server:
        assert applied(make(server.url, set_tag("a", "new", ONE))).statuses == ["done"]


def test_a_head_with_a_wrong_digest_makes_nothing_stale(actual: Served) -> None:
    """Before a row is stale, or a tag is someone else's to an undo, a GET decides."""
    fill(actual.url, ("a", "x", ONE), ("a", "y", TWO), ("a", "z", THREE), ("a", "z2", THREE))

    def answer(request: Request) -> Reply | None:
        if request.method != "HEAD" or "sha256:" in request.path:
            return None
        found = forward(actual.host, request)
        found.headers["Docker-Content-Digest"] = Digest.of(b"another")
        return found

    steps = (set_tag("a", "y", ONE, before=TWO.digest), untag("a", "z2", THREE), delete("a", TWO))
    plan = make(actual.url, *steps, allow=("dummy",))
    with proxy(actual.host, answer) as server:
        done = applied(structs.replace(plan, url=server.url))
        assert done.statuses == ["done"] * 3, done.messages
        with regnb.connect(server.url, cache=False) as registry:
            back = registry.plan_undo(done.receipt)
            assert not [step for step in back.steps if not step.writes]
            assert registry.apply(back, confirm=back.code).status == "done"
    assert tagged(actual.url, "a") == {"a:x": ONE.digest, "a:y": TWO.digest, "a:z": THREE.digest, "a:z2": THREE.digest}


def test_what_an_earlier_application_may_have_done_is_not_called_failed(actual: Served) -> None:
    """A row that was begun before the process died, and cannot be tried again now, is unknown."""
    fill(actual.url, ("a", "x", ONE))
    deaf = instead(FOREIGN["a web server"], blobs(ONE)[0].digest)
    with proxy(actual.host, deaf) as server:
        plan = make(server.url, set_tag("b", "x", ONE, source="a"))
        journal = Journal.begin(plan)
        journal.intend([0])
        journal.start(0)
        journal.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        done = applied(plan, receipt=Receipt.load(journal.path))
    assert done.statuses == ["unknown"]
    assert "an earlier application may have done it" in done.messages


# Registries that delete otherwise


class Keeps:
    """A registry before another one that keeps the tags of a manifest that is deleted by its digest."""

    def __init__(self, host: str, *, tags: bool) -> None:
        self.host = host
        self.tags = tags
        self.gone: set[str] = set()

    def __call__(self, request: Request) -> Reply | None:
        target = request.path.rpartition("/")[2]
        if request.method == "DELETE" and target.startswith("sha256:"):
            known = forward(self.host, Request("GET", request.path, {"accept": OCI_MANIFEST})).status == 200
            if not known or target in self.gone:
                return NOT_THERE
            self.gone.add(target)
            return Reply(202)
        if request.method == "DELETE" and not self.tags:
            return Reply(400, JSON, b'{"errors": [{"code": "UNSUPPORTED"}]}')
        return NOT_THERE if target in self.gone else None


def test_a_tag_goes_before_its_manifest_where_tags_can_be_deleted(by_tag: Served) -> None:
    """Where a registry keeps the tags of a deleted manifest, they are gone all the same, and an undo puts them back."""
    fill(by_tag.url, ("a", "x", ONE), ("a", "y", ONE), ("a", "z", TWO))
    registry = Keeps(by_tag.host, tags=True)
    with proxy(by_tag.host, registry) as server:
        done = applied(make(server.url, delete("a", ONE, "x", "y")))
        assert done.statuses == ["done"], done.messages
        assert done.writes == ["DELETE a/manifests/x", "DELETE a/manifests/y", f"DELETE a/manifests/{ONE.digest}"]
        assert tagged(by_tag.url, "a") == {"a:z": TWO.digest}
        with regnb.connect(server.url, cache=False) as handle:
            back = handle.plan_undo(done.receipt)
            registry.gone.clear()
            assert handle.apply(back, confirm=back.code).status == "done"
    assert tagged(by_tag.url, "a") == {"a:x": ONE.digest, "a:y": ONE.digest, "a:z": TWO.digest}


@pytest.mark.parametrize("listed", [True, False])
def test_a_tag_that_can_still_be_pulled_is_not_deleted(by_tag: Served, *, listed: bool) -> None:
    """Where such a registry does not delete tags either, the row is failed and names them, listed or not."""
    fill(by_tag.url, ("a", "x", ONE), ("a", "z", TWO))
    registry = Keeps(by_tag.host, tags=False)

    def answer(request: Request) -> Reply | None:
        short = registry.gone and not listed and request.path.endswith("/tags/list")
        return Reply(200, JSON, b'{"name": "a", "tags": ["z"]}') if short else registry(request)

    with proxy(by_tag.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x")))
        assert done.statuses == ["failed"]
        assert "x can still be pulled" in done.messages
        with regnb.connect(server.url, cache=False) as handle:
            back = handle.plan_undo(done.receipt)  # the manifest is gone, although its tag is not
    assert [step.after for step in back.steps] == [ONE.digest]


@pytest.mark.parametrize("status", [200, 204])
def test_deletions_are_answered_in_several_ways(by_tag: Served, status: int) -> None:
    """200 and 204 are as good as 202."""
    fill(by_tag.url, ("a", "x", ONE), ("a", "y", TWO), ("a", "z", TWO))

    def answer(request: Request) -> Reply | None:
        forwarded = forward(by_tag.host, request) if request.method == "DELETE" else None
        return Reply(status) if forwarded and forwarded.status == 202 else forwarded

    with proxy(by_tag.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x"), untag("a", "y", TWO)))
    assert done.statuses == ["done", "done"]
    assert done.messages == "\n"


def test_a_get_decides_after_a_deletion(by_tag: Served) -> None:
    """What a HEAD no longer finds and a GET still gives is not deleted."""
    fill(by_tag.url, ("a", "x", ONE))

    def answer(request: Request) -> Reply | None:
        taken = request.method == "DELETE" and request.path.endswith(("/x", ONE.digest))
        return Reply(202) if taken else NOT_THERE if request.method == "HEAD" else None

    with proxy(by_tag.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x"), untag("a", "x", ONE)))
    assert done.statuses == ["failed", "failed"]
    assert tagged(by_tag.url, "a") == {"a:x": ONE.digest}


def test_a_manifest_that_goes_with_its_last_tag_is_said_loudly(by_tag: Served) -> None:
    """A registry that deletes the manifest with the tag, which was to stay, is found out without a sibling, too."""
    whole = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")])
    fill(by_tag.url, ("a", "multi", whole), ("a", "x", ONE))

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and request.path.endswith("/x"):
            remove(by_tag.url, "a", ONE.digest)
            return Reply(202)
        return None

    with proxy(by_tag.host, answer) as server:
        done = applied(make(server.url, untag("a", "x", ONE)))
    assert done.statuses == ["failed"]
    assert f"ALSO GONE, and not planned: {ONE.digest}" in done.messages


@pytest.mark.parametrize("name", ["a web server", "a framework"])
def test_a_registry_without_deletion_is_found_out_before_a_rename_copies(actual: Served, name: str) -> None:
    """A framework's 404 to DELETE does not say that deletion works: health says so, and a rename writes nothing."""
    fill(actual.url, ("a", "x", ONE))
    with proxy(actual.host, instead(FOREIGN[name], "", methods=("DELETE",))) as server:
        with regnb.connect(server.url, cache=False) as registry:
            row = registry.health(probe=True).set_index("check").loc["deletion"]
            assert row["state"] == "warn"
            assert "it is not known whether" in row["found"]
            plan = registry.plan_rename("a", "b")
            with pytest.raises(Unproven, match="not known whether"):
                registry.apply(plan, confirm=plan.code)
        assert {request.method for request in server.requests} <= {*READS, "DELETE"}
    assert tagged(actual.url, "a", "b") == {"a:x": ONE.digest}


def test_a_registry_that_routes_no_tags_deletes_by_digest(actual: Served) -> None:
    """A framework's 404 to the DELETE of a tag means that tags cannot be deleted alone, and manifests can."""
    fill(actual.url, ("a", "x", ONE))
    with proxy(actual.host, lambda request: FOREIGN["a framework"] if "/regnb-" in request.path else None) as server:
        with regnb.connect(server.url, cache=False) as registry:
            found = registry.health(probe=True).set_index("check").loc["deletion", "found"]
        assert "no tag alone" in str(found)
        assert applied(make(server.url, delete("a", ONE, "x"))).statuses == ["done"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_mount_that_is_forbidden_becomes_an_upload(actual: Served, status: int) -> None:
    """Whoever may read here and push there, but not mount, still copies."""
    fill(actual.url, ("a", "x", ONE))
    refusal = Reply(status, {"WWW-Authenticate": 'Basic realm="r"', **JSON}, b'{"errors": [{"code": "DENIED"}]}')
    with proxy(actual.host, lambda request: refusal if "mount=" in request.path else None) as server:
        done = applied(make(server.url, set_tag("b", "x", ONE, source="a")))
    assert done.statuses == ["done"], done.messages
    assert done.progress.moved == sum(map(len, ONE.blobs))
    assert tagged(actual.url, "b") == {"b:x": ONE.digest}


# What others do meanwhile


def test_what_others_lost_is_named(actual: Served) -> None:
    """After a deletion each tag is looked at once more: what moved, vanished or dangles is in the receipt."""
    fill(actual.url, ("a", "x", ONE), ("a", "moved", TWO), ("a", "vanished", THREE), ("a", "stays", TWO))

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and request.path.endswith(ONE.digest):
            fill(actual.url, ("a", "moved", THREE), ("a", "dangling", image([layer("d", 50)])))
            remove(actual.url, "a", THREE.digest)
            fill(actual.url, ("a", "moved", THREE))
            for path in (actual.repository("a") / "_manifests/revisions/sha256").iterdir():
                if path.name not in {one.digest.hex for one in (ONE, TWO, THREE)}:
                    (path / "link").unlink()
        return None

    with proxy(actual.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x")))
        seen = [request for request in server.requests if request.path.endswith("/manifests/stays")]
    assert "vanished" in done.messages
    assert f"someone else has moved moved meanwhile (it was {TWO.digest})" in done.messages
    assert "pointing at nothing: dangling" in done.messages
    assert len(seen) == 2  # the survey before, and one more look once everything is removed


def test_a_strangers_tag_that_went_with_the_manifest_makes_the_row_failed(actual: Served) -> None:
    """Between the last look and the deletion someone moves a tag onto the manifest: it is lost, and the row says so."""
    fill(actual.url, ("a", "x", ONE), ("a", "late", TWO))

    def answer(request: Request) -> Reply | None:
        if request.method == "DELETE" and request.path.endswith(ONE.digest):
            fill(actual.url, ("a", "late", ONE))
        return None

    with proxy(actual.host, answer) as server:
        done = applied(make(server.url, delete("a", ONE, "x")))
    assert done.statuses == ["failed"]
    assert done.messages == "ALSO GONE, and not planned: late"
    assert tagged(actual.url, "a") == {}


# Media types


def mislabelled(media_type: str) -> Callable[[Served], Callable[[Request], Reply | None]]:
    """Announce one media type for every manifest."""

    def over(served: Served) -> Callable[[Request], Reply | None]:
        def answer(request: Request) -> Reply | None:
            if request.method not in READS or "/manifests/" not in request.path:
                return None
            found = forward(served.host, request)
            found.headers = {name: value for name, value in found.headers.items() if name.lower() != "content-type"}
            found.headers["Content-Type"] = media_type if found.status == 200 else "application/json"
            return found

        return answer

    return over


@pytest.mark.parametrize("announced", ["application/json", DOCKER_MANIFEST])
def test_the_bytes_say_what_a_manifest_is(actual: Served, announced: str) -> None:
    """Behind a proxy that calls all manifests something else, an index keeps its children, and undo restores it."""
    whole = index([(ONE, "linux/amd64"), (TWO, "linux/arm64")])
    fill(actual.url, ("a", "multi", whole), ("a", "x", THREE))
    before = state(actual.url, "a")
    with (
        proxy(actual.host, mislabelled(announced)(actual)) as server,
        regnb.connect(server.url, cache=False) as registry,
    ):
        for rows in (4, 2):  # cold and warm: then the children are not asked for
            inventory = registry.inventory()
            assert inventory.complete
            found = inventory.problems[inventory.problems["problem"] == "media type"]
            assert len(found) == (rows if announced == DOCKER_MANIFEST else 0)
            assert set(inventory.manifests["media_type"]) == {OCI_INDEX, OCI_MANIFEST}
        assert applied(make(server.url, delete("a", ONE))).statuses == ["stale"]
        plan = registry.plan_delete("a:multi")
        receipt = registry.apply(plan, confirm=plan.code)
        assert receipt.status == "done"
        assert tagged(actual.url, "a") == {"a:x": THREE.digest}
        back = registry.plan_undo(receipt)
        assert registry.apply(back, confirm=back.code).status == "done"
    assert state(actual.url, "a") == before


def test_a_receipt_and_a_cache_with_a_wrong_type_can_be_undone(actual: Served) -> None:
    """What an older version wrote down as the header had it is put back as what it is."""
    fill(actual.url, ("a", "x", ONE))
    plan = make(actual.url, delete("a", ONE, "x"))
    with Journal.begin(plan) as journal:
        journal.keep(RawManifest(ONE.data, "application/json", ONE.digest), "a")
        journal.intend([0])
        journal.start(0)
        remove(actual.url, "a", ONE.digest)
    cache = Cache()
    cache.put(ONE.digest, DOCKER_MANIFEST, ONE.data)
    with regnb.connect(actual.url, cache=False) as registry:
        back = registry.plan_undo(Receipt.load(journal.path))
        assert [step.media_type for step in back.steps] == [OCI_MANIFEST]
        assert registry.apply(back, confirm=back.code).status == "done"
    assert tagged(actual.url, "a") == {"a:x": ONE.digest}
    assert applied(make(actual.url, set_tag("a", "y", ONE)), cache=cache).statuses == ["done"]
    step = structs.replace(set_tag("a", "z", ONE), media_type="text/plain")
    made = {ONE.digest: base64.b64encode(ONE.data).decode()}
    wrong = regnb.Plan(operation="request", url=actual.url, steps=(step,), made=made)
    assert applied(wrong).statuses == ["done"]


def test_a_name_that_is_not_a_tag_stops_nothing() -> None:
    """A registry that lists digests among its tags is copied and retagged from all the same."""
    with Fake() as fake:
        fake.repository("a", {"1": ONE})
        fake.json("/v2/a/tags/list", {"name": "a", "tags": ["1", str(ONE.digest), "-no"]})
        assert ask(fake.url, lambda client: Reader(client, Cache()).tags("a")) == ["1"]
        records, _ = crawl(fake.url, repositories=["a"])
        with regnb.connect(fake.url, cache=False) as registry:
            plan = registry.plan_retag("a:*", "{tag}-old")
    assert [step.tag for step in plan.steps] == ["1-old"]
    assert {problem.message for problem in records.problems} == {"listed, but not a valid tag"}

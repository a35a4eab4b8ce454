"""A plan is a value: its digest covers all of it, it survives a file, and its curl commands do what it says."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import scripted
from conftest import need
from distribution import Distribution
from images import ROOT, ask, fill, image, index, layer

from regnb.change.copy import plan_copy
from regnb.change.plan import Blob, Effect, Plan, Refusal, Step, allows, check_allow, once
from regnb.change.rename import plan_rename
from regnb.change.retag import plan_retag
from regnb.crawl.reader import Reader
from regnb.errors import InvalidArgument, PlanMismatch, StorageError
from regnb.local import embedded
from regnb.oci.manifest import OCI_INDEX
from regnb.oci.reference import Digest
from regnb.tables.columns import COLUMNS
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials
from regnb.wire.transport import Transport

A, B = Digest.of(b"a"), Digest.of(b"b")
STEP = Step(
    action="tag", repository="vm/a", tag="1", before=A, after=B, tags=("x",), source="vm/b", media_type=OCI_INDEX,
    blobs=(Blob(A, 7),), size=9, reason="because", new=True, needs=(0,),
)  # fmt: skip
PLAN = Plan(
    operation="retag", url="http://localhost:5000", source="http://localhost:5001", steps=(STEP,),
    effects=(Effect("tag", "vm/a", "2", 5, "goes"),), freed=3, moved=4, notes=("a note",), allow=("dummy",),
    refusals=(Refusal("no"),), made={str(A): "YQ=="}, receipt="r", authorized=True,
    created="2026-11-23T00:00:00+00:00", nonce="00",
)  # fmt: skip
ONE = image([layer("base", 3000), layer(1, 100)])
ARM = image([layer("base", 3000), layer(2, 100)])
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")])
DELETE = Step(action="delete", repository="vm/b", before=str(ONE.digest))
SAVED = ROOT / "tests/data/saved"
SECRET = "hunter2-planted"
ODD = image([layer(3, 100)])
ODD = type(ODD)(b" \n" + ODD.data.replace(b'"layers"', b'\t"layers"') + b"\n\n", ODD.media_type, ODD.blobs)


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return type(value)()


@pytest.mark.parametrize("name", Plan.__struct_fields__)
def test_the_digest_covers_every_field(name: str) -> None:
    """Whatever is changed in a plan, its digest is another."""
    other = msgspec.structs.replace(PLAN, **{name: changed(getattr(PLAN, name))})
    assert other.digest != PLAN.digest
    assert other.code != PLAN.code


@pytest.mark.parametrize("name", Step.__struct_fields__)
def test_the_digest_covers_every_field_of_a_row(name: str) -> None:
    """Whatever is changed in a row, the digest of the plan is another."""
    value = "keep" if name == "action" else changed(getattr(STEP, name))
    other = msgspec.structs.replace(PLAN, steps=(msgspec.structs.replace(STEP, **{name: value}),))
    assert other.digest != PLAN.digest


@pytest.mark.parametrize("name", Effect.__struct_fields__)
def test_the_digest_covers_the_effects(name: str) -> None:
    """What was said about the blast radius is confirmed, too."""
    effect = PLAN.effects[0]
    other = msgspec.structs.replace(effect, **{name: changed(getattr(effect, name))})
    assert msgspec.structs.replace(PLAN, effects=(other,)).digest != PLAN.digest


def test_two_plans_for_the_same_are_not_one() -> None:
    """A confirmation fits one plan only: the same request planned again has another digest."""
    plans = [Plan(operation="retag", url=PLAN.url, steps=(), created="") for _ in range(2)]
    assert plans[0].digest != plans[1].digest


def test_on_a_web_page_an_allowance_is_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever visits a page has no command line."""
    monkeypatch.setenv("REGNB_SERVED", "1")
    assert once(["incomplete:vm/centos8"]).endswith("tick the box incomplete and preview again")


def test_a_plan_survives_a_file(tmp_path: Path) -> None:
    """Saved and loaded it is the same, with the same digest; an empty path saves nothing."""
    for plan in (PLAN, Plan(operation="copy", url=PLAN.url, steps=())):
        path = tmp_path / "plan.json"
        plan.save(path)
        assert Plan.load(path) == plan
        assert Plan.load(path).digest == plan.digest
        assert json.loads(path.read_bytes())["digest"] == plan.digest
    PLAN.save("")
    with pytest.raises(StorageError, match="cannot read"):
        Plan.load(tmp_path / "none.json")
    with pytest.raises(StorageError, match="cannot write"):
        PLAN.save(tmp_path / "none" / "plan.json")


def test_a_plan_that_was_saved_earlier_loads(tmp_path: Path) -> None:
    """A plan of the first version, with every action and effect of it, is what it was; an unknown word is refused."""
    plan = Plan.load(SAVED / "plan.json")
    assert (plan.operation, plan.code) == ("rename", "6af2c3ce")
    assert [step.action for step in plan.steps] == ["put", "tag", "untag", "delete", "keep"]
    assert [effect.effect for effect in plan.effects] == [
        "tag", "child", "referrer", "parent", "orphan", "shared", "running",
    ]  # fmt: skip
    for field, word in (("operation", "rename"), ("action", "untag"), ("effect", "orphan")):
        other = tmp_path / "other.json"
        text = (SAVED / "plan.json").read_text(encoding="utf-8")
        other.write_text(text.replace(f'"{field}": "{word}"', f'"{field}": "{word}x"'), encoding="utf-8")
        with pytest.raises(PlanMismatch, match=f"Invalid enum value '{word}x' - at `plan.*{field}`"):
            Plan.load(other)


def test_an_edited_plan_is_refused() -> None:
    """Any value that is changed, added or taken away, in the plan or around it, is noticed."""
    whole = json.loads(PLAN.to_json())

    def refused(document: object) -> None:
        with pytest.raises(PlanMismatch) as caught:
            Plan.of_json(json.dumps(document).encode())
        assert caught.value.hint

    for name in whole["plan"]:
        refused(whole | {"plan": whole["plan"] | {name: changed(whole["plan"][name])}})
        refused(whole | {"plan": {key: value for key, value in whole["plan"].items() if key != name}})
    for name in whole:
        refused({key: value for key, value in whole.items() if key != name})
    step = whole["plan"]["steps"][0]
    for name in step:
        refused(whole | {"plan": whole["plan"] | {"steps": [step | {name: changed(step[name])}]}})
    refused(whole | {"plan": whole["plan"] | {"nonce": "01"}})
    refused(whole | {"digest": A})
    refused(whole | {"version": 2})
    refused(whole | {"more": 1})


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b"[]", b'{"regnb":"receipt"}', b"\xff\xfe", b"[" * 9000, PLAN.to_json()[:-9]]
)
def test_a_foreign_document_is_no_plan(data: bytes) -> None:
    """What is not a plan, is cut off or is made to do harm, is one error and no traceback."""
    with pytest.raises(PlanMismatch):
        Plan.of_json(data)


DROPPED = object()
ODDITIES: list[tuple[str, dict[str, Any], str]] = [
    ("steps", {"needs": [-1]}, "plan.steps[0].needs: the row needs row -1"),
    ("steps", {"needs": [7]}, "plan.steps[0].needs: the row needs row 7"),
    ("steps", {"action": "destroy"}, "Invalid enum value 'destroy' - at `plan.steps[0].action`"),
    ("steps", {"surprise": 1}, "unknown field `surprise` - at `plan.steps[0]`"),
    ("steps", {"action": DROPPED}, "missing required field `action` - at `plan.steps[0]`"),
    ("steps", {"repository": "../../etc"}, "plan.steps[0].repository: not a repository name"),
    ("steps", {"repository": "a" * 256}, "plan.steps[0].repository: the repository name has 256"),
    ("steps", {"source": "UPPER"}, "plan.steps[0].source: not a repository name"),
    ("steps", {"tag": "a/b"}, "plan.steps[0].tag: not a tag"),
    ("steps", {"tag": DROPPED}, "plan.steps[0].tag: it is empty"),
    ("steps", {"tags": ["1", "-x"]}, "plan.steps[0].tags[1]: not a tag"),
    ("steps", {"before": "sha256:00"}, "plan.steps[0].before: not a digest"),
    ("steps", {"after": str(A).upper()}, "plan.steps[0].after: not a digest"),
    ("steps", {"after": DROPPED}, "plan.steps[0].after: it is empty"),
    ("steps", {"blobs": [["sha256:00", 1]]}, "plan.steps[0].blobs[0]: not a digest"),
    ("steps", {"blobs": [[str(A), -1]]}, "`int` >= 0 - at `plan.steps[0].blobs[0][1]`"),
    ("steps", {"blobs": [[str(A), 2**50]]}, "- at `plan.steps[0].blobs[0][1]`"),
    ("steps", {"blobs": [[str(A), 1, 2]]}, "`array` of at most length 2"),
    ("steps", {"size": -1}, "`int` >= 0 - at `plan.steps[0].size`"),
    ("steps", {"size": 2**63}, "- at `plan.steps[0].size`"),
    ("steps", {"size": 1.5}, "got `float` - at `plan.steps[0].size`"),
    ("effects", {"size": -1}, "- at `plan.effects[0].size`"),
    ("effects", {"surprise": 1}, "unknown field `surprise` - at `plan.effects[0]`"),
    ("", {"surprise": 1}, "this is not a plan: Object contains unknown field `surprise`"),
    ("", {"freed": -1}, "- at `plan.freed`"),
    ("", {"moved": 2**63}, "- at `plan.moved`"),
    ("", {"url": "http://me:planted@localhost:5000"}, "plan.url: not a registry's URL"),
    ("", {"url": "http://localhost:5000/v2/"}, "plan.url: not a registry's URL"),
    ("", {"url": "ftp://localhost"}, "plan.url: not a valid registry URL"),
    ("", {"source": "localhost:5001"}, "plan.source: not a registry's URL"),
    ("", {"allow": ["everything"]}, "plan.allow: cannot allow 'everything'"),
    ("", {"made": {str(A): "Yg=="}}, "the bytes have another digest"),
    ("", {"made": {str(A): "?"}}, "plan.made["),
    ("", {"made": {"x": "YQ=="}}, "plan.made['x']: not a digest"),
]
"""Where a plan that fits its own digest is not one that regnb makes, and what is said of it."""


@pytest.mark.parametrize(("where", "values", "words"), ODDITIES, ids=[each[2] for each in ODDITIES])
def test_a_plan_that_regnb_does_not_make(where: str, values: dict[str, Any], words: str) -> None:
    """A plan that was made by hand is refused, even with a digest that fits, by an error that says where."""
    document = json.loads(PLAN.to_json())
    place = document["plan"][where][0] if where else document["plan"]
    place.update(values)
    for name in [name for name, value in values.items() if value is DROPPED]:
        del place[name]
    with contextlib.suppress(msgspec.MsgspecError, PlanMismatch):
        document["digest"] = Plan.decode(json.dumps(document["plan"]).encode()).digest
    with pytest.raises(PlanMismatch) as caught:
        Plan.of_json(json.dumps(document).encode())
    assert words in caught.value.message
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("once", "words"),
    [
        ('"version": 1', "field `version` twice - at `$`"),
        ('"nonce": "00"', "field `nonce` twice - at `$.plan`"),
        ('"tag": "1"', "field `tag` twice - at `$.plan.steps[0]`"),
        ('"reference": "2"', "field `reference` twice - at `$.plan.effects[0]`"),
    ],
)
def test_a_field_that_is_there_twice(once: str, words: str) -> None:
    """Of two fields of one name a reader shows the one and a program takes the other: refused, equal or not."""
    text = PLAN.to_json().decode()
    assert text.count(once) == 1
    name = once.partition(": ")[0]
    with pytest.raises(PlanMismatch) as caught:
        Plan.of_json(text.replace(once, f"{once}, {once}").encode())
    assert words in caught.value.message
    for other in ("0", '"other"', "null"):
        with pytest.raises(PlanMismatch):
            Plan.of_json(text.replace(once, f"{name}: {other}, {once}").encode())


def test_what_is_kept_may_have_any_name() -> None:
    """The names of rows that change nothing are sent nowhere: a registry may have listed them, against the grammar."""
    keep = Step(action="keep", repository="UPPER", tag="sha256:zz", reason="listed, but no tag")
    plan = msgspec.structs.replace(PLAN, steps=(*PLAN.steps, keep))
    assert Plan.of_json(plan.to_json()) == plan


def test_a_confirmation_fits_one_plan() -> None:
    """The digest and the code confirm it; another plan's, a part of it and nothing do not."""
    PLAN.confirm(PLAN.digest)
    PLAN.confirm(PLAN.code)
    assert len(PLAN.code) == 8
    assert PLAN.digest.hex.startswith(PLAN.code)
    other = msgspec.structs.replace(PLAN, nonce="01")
    for wrong in (other.digest, other.code, "", PLAN.code[:7], PLAN.code + " ", "yes"):
        with pytest.raises(PlanMismatch) as caught:
            PLAN.confirm(wrong)
        assert PLAN.code in caught.value.hint


def test_what_a_person_sees() -> None:
    """A row each in the documented columns, a sentence, and the effects."""
    frame = PLAN.to_frame()
    assert list(frame.columns) == list(COLUMNS["plan"])
    assert frame.iloc[0][["action", "repository", "tag", "before", "after"]].tolist() == ["tag", "vm/a", "1", A, B]
    assert frame["tags"].tolist() == [1]
    assert list(PLAN.blast.columns) == list(COLUMNS["effects"])
    assert PLAN.blast["message"].tolist() == ["goes"]
    steps = (
        STEP, Step(action="delete", repository="a", before=A, tags=("1", "2")), Step(action="keep", repository="a"),
        Step(action="put", repository="a", after=A), Step(action="untag", repository="a", tag="1", before=A),
    )  # fmt: skip
    plan = msgspec.structs.replace(PLAN, steps=steps)
    assert plan.summary() == (
        "retag on localhost:5000: 1 tag will be moved to another manifest, 1 manifest will be put, 3 tags and 1 "
        "manifest will be gone; at most 4 B will be sent; the manifest of 1 of these tags stays; 1 tag stays as it is; "
        "the next garbage collection frees at most 3 B, and after it this cannot be undone"
    )
    assert plan.changes == 4
    assert repr(plan) == f"<Plan {plan.code}: {plan.summary()}>"
    assert [step.target for step in steps] == ["1", A, "", A, "1"]
    frame = plan.to_frame()
    assert list(frame.index) == [0, 1, 3, 4, 2], "what stays comes last, and the index is the step's number"
    assert frame["before"].isna().tolist() == [False, False, True, False, True]
    assert frame["tag"].tolist() == ["1", "1, 2", "", "1", ""]
    assert "nothing to do" in msgspec.structs.replace(PLAN, steps=()).summary()
    assert plan.curl(2) == ""


def test_a_row_that_deletes_has_a_name() -> None:
    """A child is named after the index that takes it along; a manifest without a tag says so."""
    steps = (
        Step(action="delete", repository="a", before=A, tags=("8", "8.4")),
        Step(action="delete", repository="a", before=B, needs=(0,)),
        Step(action="delete", repository="a", before=B, needs=(1,)),
        Step(action="delete", repository="a", before=B),
    )
    plan = msgspec.structs.replace(PLAN, steps=steps)
    assert plan.to_frame()["tag"].tolist() == ["8, 8.4", "(part of 8, 8.4)", "(part of 8, 8.4)", "(no tag)"]


def test_what_is_refused_is_said_and_not_offered() -> None:
    """A refusal stands in the rows that it concerns and in the HTML, and neither it nor an empty plan offers a code."""
    refusal = Refusal("it will refuse <this>", hint="allow it", actions=("tag",))
    for plan, ready in (
        (msgspec.structs.replace(PLAN, refusals=()), True),
        (msgspec.structs.replace(PLAN, refusals=(msgspec.structs.replace(refusal, known=False),)), True),
        (msgspec.structs.replace(PLAN, refusals=(refusal,)), False),
        (msgspec.structs.replace(PLAN, refusals=(), steps=()), False),
        (msgspec.structs.replace(PLAN, refusals=(), steps=(Step(action="keep", repository="a", tag="1"),)), False),
    ):
        assert plan.ready == ready
        assert (plan.code in plan._repr_html_()) == ready
        if plan.refusals:
            assert "it will refuse &lt;this&gt;" in plan._repr_html_()
            assert plan.to_frame()["refused"].tolist() == ["it will refuse <this>"]


def test_hostile_text_is_escaped() -> None:
    """Names and messages that a registry gave are text in a notebook, whatever they hold."""
    evil = "<script>alert(1)</script>"
    plan = Plan(
        operation=evil, url=f"http://{evil}", notes=(evil,),
        steps=(Step(action="put", repository=evil, tag=evil, before=evil, after=evil, reason=evil),),
        effects=(Effect(evil, evil, evil, 0, evil),),
    )  # fmt: skip
    html = plan._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8


def test_what_may_be_allowed() -> None:
    """Allowances are known words, sorted, each once; anything else is an error that lists them."""
    assert check_allow(["overwrite", "dummy", "dummy"]) == ("dummy", "overwrite")
    assert check_allow("dummy") == ("dummy",)
    with pytest.raises(InvalidArgument) as caught:
        check_allow(["everything"])
    assert "overwrite" in str(caught.value)


def test_what_may_be_allowed_for_one_repository() -> None:
    """Some checks are overridden by repository, and two only so; a name that no repository has is an error."""
    assert check_allow(["share:vm/a", "incomplete:vm/a", "dummy"]) == ("dummy", "incomplete:vm/a", "share:vm/a")
    for wrong, hint in (("share", "share:REPOSITORY"), ("dummy:vm/a", "choose from"), ("share:vm/*", "")):
        with pytest.raises(ValueError, match=r"cannot allow|vm/\*") as caught:
            check_allow([wrong])
        assert hint in str(caught.value)
    assert allows(["incomplete:vm/a"], "incomplete", "vm/a")
    assert not allows(["incomplete:vm/a"], "incomplete", "vm/ab")
    assert allows(["incomplete"], "incomplete", "vm/ab")
    assert once([f"share:r{number}" for number in range(12)]).endswith("and so on for 2 more")


def test_dummies_are_unlike_each_other(real: Distribution) -> None:
    """Every step of every plan has its own dummy of 153 bytes, which docker-registry takes and deletes."""
    other = msgspec.structs.replace(PLAN, nonce="01")
    dummies = [plan.dummy(number) for plan in (PLAN, other) for number in (0, 1, 11)]
    assert len(set(dummies)) == 6
    assert set(map(len, dummies)) == {153}
    assert PLAN.dummy(1) == Plan.of_json(PLAN.to_json()).dummy(1)

    async def work(client: Client) -> None:
        for data in dummies:
            await client.put_manifest("a", "1", data, OCI_INDEX)
            assert (await client.manifest("a", "1")).data == data
        await client.delete_manifest("a", Digest.of(dummies[-1]))

    ask(real.url, work)


def test_a_manifest_of_the_plan_itself() -> None:
    """Bytes that a plan made are given back as they are, others not at all."""
    plan = msgspec.structs.replace(PLAN, made={str(A): base64.b64encode(b"\xffa\n").decode()})
    assert plan.content(A) == b"\xffa\n"
    assert plan.content(B) is None


# curl


def shell(folder: Path, script: str, program: str = "bash", **env: str) -> subprocess.CompletedProcess[str]:
    """Run what was printed, as printed."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [program, "-euc", script], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "no_proxy": "*", **env},
    )  # fmt: skip


def run(folder: Path, plan: Plan, program: str = "bash", **env: str) -> None:
    for number in range(len(plan.steps)):
        done = shell(folder, plan.curl(number), program, **env)
        assert done.returncode == 0, (plan.curl(number), done)


def raw(url: str, repository: str, tag: str) -> bytes:
    return ask(url, lambda client: client.manifest(repository, tag)).data


def tags(url: str, repository: str) -> list[str]:
    return ask(url, lambda client: Reader(client, Cache()).tags(repository))


@pytest.fixture
def two(real: Distribution, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """docker-registry with images, and an embedded registry that is empty."""
    fill(real.url, ("vm/a", "1", MULTI), ("vm/a", "odd", ODD))
    with embedded.running(tmp_path / "embedded") as other:
        yield real.url, other.url


@pytest.mark.parametrize("program", ["bash", "sh"])
def test_curl_retags_and_copies(two: tuple[str, str], tmp_path: Path, program: str) -> None:
    """The printed commands retag, mount, and carry a tree to another registry and back, byte for byte."""
    first, second = two

    async def plans(client: Client) -> list[Plan]:
        reader = Reader(client, Cache())
        return [await plan_retag(reader, "vm/a:odd", "same"), await plan_copy(reader, "vm/a", "b/c")]

    for plan in ask(first, plans):
        run(tmp_path / "run", plan, program)
    assert raw(first, "vm/a", "same") == raw(first, "b/c", "odd") == ODD.data
    assert raw(first, "b/c", "1") == MULTI.data
    for here, there, name in ((first, second, "across"), (second, first, "again")):
        source = "b/c" if name == "across" else "across"

        async def across(client: Client, here: str = here, source: str = source, name: str = name) -> Plan:
            async with Client(Transport(here)) as origin:
                return await plan_copy(
                    Reader(client, Cache()), source, name, source=Reader(origin, Cache()), referrers=False
                )

        run(tmp_path / "run", ask(there, across), program)
        assert raw(there, name, "odd") == ODD.data
        assert raw(there, name, "1") == MULTI.data
        assert raw(there, name, ARM.digest) == ARM.data
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["manifest.json"]


def test_curl_removes(two: tuple[str, str], tmp_path: Path) -> None:
    """A tag goes by way of a dummy on docker-registry, by its name elsewhere; a digest takes its tags along."""
    for url in two:
        fill(url, ("vm/x", "1", ONE), ("vm/x", "2", ONE))
        plan = ask(url, lambda client: plan_rename(Reader(client, Cache()), "vm/x:1", "3", allow=["dummy"]))
        run(tmp_path / "run", plan)
        assert tags(url, "vm/x") == ["2", "3"]
        assert raw(url, "vm/x", "2") == ONE.data
        gone = Plan(
            operation="delete", url=url, steps=(Step(action="delete", repository="vm/x", before=str(ONE.digest)),)
        )
        run(tmp_path / "run", gone)
        assert tags(url, "vm/x") == []


def test_curl_takes_no_dummy_that_was_not_allowed(real: Distribution, tmp_path: Path) -> None:
    """Without consent the command asks for the deletion by tag alone, which docker-registry refuses."""
    fill(real.url, ("vm/x", "1", ONE))
    plan = ask(real.url, lambda client: plan_rename(Reader(client, Cache()), "vm/x:1", "2"))
    assert "printf" not in plan.curl(1)
    assert shell(tmp_path / "run", plan.curl(1)).returncode != 0
    assert tags(real.url, "vm/x") == ["1"]


def test_curl_leaves_the_tag_where_deletion_is_off(distribution_program: None, tmp_path: Path) -> None:
    """The probe before the dummy finds deletion switched off, and so the tag keeps its image."""
    with Distribution(tmp_path / "off", delete=False) as registry:
        fill(registry.url, ("vm/x", "1", ONE))
        plan = ask(registry.url, lambda client: plan_rename(Reader(client, Cache()), "vm/x:1", "2", allow=["dummy"]))
        assert shell(tmp_path / "run", plan.curl(1)).returncode != 0
        assert raw(registry.url, "vm/x", "1") == ONE.data


def test_curl_fails_where_something_is_missing(two: tuple[str, str], tmp_path: Path) -> None:
    """A manifest, a blob or a registry that is not there ends the commands before anything is put."""
    url, other = two
    nothing = Digest.of(b"nothing")
    step = Step(
        action="tag", repository="vm/n", tag="1", after=str(ONE.digest), source="vm/a", media_type=ONE.media_type
    )
    for broken, source in (
        (msgspec.structs.replace(step, after=nothing), ""),
        (msgspec.structs.replace(step, blobs=(Blob(nothing, 1),)), other),
        (step, "http://127.0.0.1:9"),
        (step, ""),
    ):
        plan = Plan(operation="copy", url=url, source=source, steps=(broken,))
        assert shell(tmp_path / "run", plan.curl(0)).returncode != 0
    assert tags(url, "vm/n") == []


@pytest.mark.parametrize(("note", "plain"), [("it's", True), ("é", False)])
def test_curl_prints_what_a_plan_made(real: Distribution, tmp_path: Path, note: str, *, plain: bool) -> None:
    """Bytes of the plan itself are put as they are, encoded where they are not plain text."""
    body = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"a": note}}, ensure_ascii=False,
        indent=1,
    ).encode()  # fmt: skip
    plan = made(real.url, body)
    assert ("base64" in plan.curl(0)) != plain
    run(tmp_path / "run", plan)
    assert raw(real.url, "vm/made", "1") == body


def test_curl_does_not_steer_a_terminal() -> None:
    """Bytes that a terminal would take for a command are not printed as they are."""
    text = made("http://localhost:5000", b'{"a":"\x1b[2J"}').curl(0)
    assert text.replace("\n", "").isprintable()
    assert base64.b64encode(b'{"a":"\x1b[2J"}').decode() in text


def made(url: str, body: bytes) -> Plan:
    digest = str(Digest.of(body))
    step = Step(action="tag", repository="vm/made", tag="1", after=digest, media_type=OCI_INDEX)
    return Plan(operation="copy", url=url, steps=(step,), made={digest: base64.b64encode(body).decode()})


def test_curl_has_no_credentials_in_it(distribution_program: None, tmp_path: Path) -> None:
    """A registry that asks for a password gets it from the environment; the one that is copied from gets its own."""
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, check=True).stdout)
    value = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    config = {"auth": {"htpasswd": {"realm": "r", "path": str(passwords)}}}

    def answer(request: scripted.Request, _: int) -> scripted.Reply:
        if "/blobs/" in request.path:
            return scripted.Reply(body=next(blob for blob in ONE.blobs if Digest.of(blob) in request.path))
        if request.path.endswith("/tags/list"):
            return scripted.Reply(body=b'{"name": "vm/a", "tags": []}')
        return scripted.Reply(headers={"Content-Type": ONE.media_type}, body=ONE.data)

    async def plans(url: str, source: str) -> list[Plan]:
        credentials = Credentials("me", SECRET)
        async with Client(Transport(url, credentials=credentials)) as client, Client(Transport(source)) as other:
            reader, origin = Reader(client, Cache()), Reader(other, Cache())
            across = await plan_copy(reader, f"vm/a@{ONE.digest}", "vm/b:1", source=origin, referrers=False)
            return [across, Plan(operation="delete", url=url, steps=(DELETE,), authorized=reader.authorized)]

    with Distribution(tmp_path / "secured", config=config) as registry, scripted.serve(answer) as source:
        copy, delete = anyio.run(plans, registry.url, source.url)
        assert copy.authorized
        source.requests.clear()
        script = copy.curl(0)
        assert SECRET not in script + delete.curl(0)
        assert shell(tmp_path / "run", script).returncode != 0
        assert shell(tmp_path / "run", script, AUTHORIZATION=value).returncode == 0
        assert not any("authorization" in request.headers for request in source.requests)
        source.requests.clear()
        run(tmp_path / "run", copy, AUTHORIZATION=value, SOURCE_AUTHORIZATION="Basic other")
        assert {request.headers["authorization"] for request in source.requests} == {"Basic other"}
        run(tmp_path / "run", delete, AUTHORIZATION=value)
        assert shell(tmp_path / "run", delete.curl(0), AUTHORIZATION=value).returncode != 0

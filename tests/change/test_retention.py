"""Retention policies: what is malformed, what each rule keeps and why, and what the plan then removes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Image, ask, config, descriptor, image, index, layer, pack, push
from stored import Stored
from test_delete import Model, applied, content, one, own_receipts, refers, sig, state

import regnb
from regnb import Inventory
from regnb.change.plan import ALLOWANCES, Plan
from regnb.change.policy import Policy
from regnb.change.retention import decide, missing_subjects, plan_retention, retain
from regnb.cluster.running import running
from regnb.errors import InvalidArgument, LimitExceeded, StorageError
from regnb.local import demo
from regnb.oci.age import CREATED
from regnb.oci.manifest import HELM_CONFIG, OCI_MANIFEST, SCHEMA1_SIGNED
from regnb.oci.reference import Digest
from regnb.oci.versions import version_key, versions

__all__ = ["own_receipts"]
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def dated(day: str, number: int = 0) -> Image:
    """An image that was created on this day."""
    return image([layer(number, 100)], about=config(created=f"{day}T00:00:00Z"), annotations={"n": str(number)})


def rule(text: str, repositories: str = '["*"]') -> str:
    return f"[[rule]]\nrepositories = {repositories}\n{text}\n"


def limited(inventory: Inventory, policy: str | Path | Policy, **more: Any) -> Plan:
    return plan_retention(inventory, policy, url=f"http://{inventory.registry}", authorized=False, now=NOW, **more)


def plan(inventory: Inventory, policy: str | Path | Policy, *, allow: Iterable[str] = (), **more: Any) -> Plan:
    """Without limits: most of these tests are about single tags."""
    names = inventory.repositories["repository"]
    some = [f"{kind}:{name}" for kind in ("emptying", "share") for name in names]
    return limited(inventory, policy, allow=[*allow, *some], **more)


def removed(found: Plan) -> list[str]:
    tags = [tag for step in found.steps if step.writes for tag in (*step.tags, step.tag)]
    return [tag for tag in tags if tag]


def kept(stored: Stored, policy: str, **more: Any) -> dict[str, str]:
    """The tags that are kept, and why, after the word that says so; every other tag is in a step that removes it."""
    inventory = stored.inventory()
    found = plan(inventory, policy, **more)
    tags = inventory.tags["tag"].to_list()
    keeping = {step.tag: step.reason for step in found.steps if step.action == "keep"}
    going = removed(found)
    assert sorted([*keeping, *going]) == sorted(tags)
    assert all("deleted" in step.reason for step in found.steps if step.action != "keep")
    assert all(reason.startswith("kept: ") for reason in keeping.values())
    return {tag: reason.removeprefix("kept: ") for tag, reason in keeping.items()}


# The document


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ('[[rule]]\nrepositories = ["a"\n', 3, 1, "Unclosed"),
        ("[[rule]]\nrepositories = \n", 2, 16, "Invalid value"),
        ("[[rule]]\nkeep_newest = 1\nkeep_newest = 2\n", 3, 16, "overwrite"),
        ("x = '", 1, 6, "Unterminated|Expected"),
        ("\n", 1, 1, "no \\[\\[rule\\]\\]"),
        ("rule = 1\n", 1, 1, "no \\[\\[rule\\]\\]"),
        ("rule = []\n", 1, 1, "no \\[\\[rule\\]\\]"),
        ("rule = [3]\n", 1, 1, "object"),
        ("\n[[rules]]\nx = 1\n", 2, 3, "unknown key 'rules'"),
        (rule("keep_newest = 1") + "[other]\n", 4, 2, "unknown key 'other'"),
        (rule("  keep_newst = 1"), 3, 3, "unknown field `keep_newst`"),
        (rule("keep_newest = 1") + "# keep_newest = 1\n" + rule("keep_newest = 0"), 7, 1, "keep_newest.*>= 1"),
        (rule('keep_newest = "1"'), 3, 1, "keep_newest.*got `str`"),
        (rule("keep_newest = true"), 3, 1, "keep_newest.*got `bool`"),
        (rule("keep_newest_versions = 1.5"), 3, 1, "keep_newest_versions.*got `float`"),
        (rule('keep_matching = "v*"'), 3, 1, "keep_matching.*array"),
        (rule('keep_matching = [""]'), 3, 1, "keep_matching.*length"),
        (rule('keep_younger_than = "1 month"'), 3, 1, "such as 30d"),
        (rule('keep_younger_than = "0d"'), 3, 1, "such as 30d"),
        (rule('keep_younger_than = "99999w"'), 3, 1, "such as 30d"),
        (rule("keep_younger_than = 30"), 3, 1, "such as 30d"),
        (rule("keep_newest = 1", "[]"), 2, 1, "repositories.*length"),
        (rule("keep_newest = 1", '["a", 1]'), 2, 1, "repositories.*got `int`"),
        ("# none\n  [[rule]]\nkeep_newest = 1\n", 2, 3, "missing required field `repositories`"),
        (rule(""), 1, 1, "keeps nothing: it would delete every image"),
        (rule("never_touch = false"), 1, 1, "keeps nothing"),
        (rule("keep_matching = []"), 1, 1, "keeps nothing"),
        (rule("keep_newest = 1\nnever_touch = true"), 4, 1, "never_touch keeps everything"),
        ("a = " + "[" * 50_000 + "\n", 1, 1, "nested too deeply"),
    ],
)
def test_a_malformed_policy(text: str, line: int, column: int, message: str) -> None:
    """Whatever is wrong with it, the error says what, and in which line and column of which file."""
    with pytest.raises(InvalidArgument, match=message) as raised:
        Policy.parse(text, "vm.toml")
    assert f"vm.toml, line {line}, column {column}: " in str(raised.value)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("[]rule='\"\n#.,{} keep_newest0123456789dhwtruefalse")) | st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    """Any text is a policy, or an error with line and column."""
    try:
        assert Policy.parse(text).rules
    except InvalidArgument as error:
        assert "policy, line " in error.message  # noqa: PT017 -- either way something is checked


def test_where_a_policy_comes_from(tmp_path: Path) -> None:
    """A path, the text itself, and a policy that was read before mean the same."""
    text = rule('keep_younger_than = "2w"\nkeep_matching = ["latest"]')
    path = tmp_path / "retention.toml"
    path.write_text(text, encoding="utf-8")
    inventory = Stored(("app", "latest", dated("2020-01-01")), ("app", "1", dated("2020-01-01", 1))).inventory()
    plans = [plan(inventory, one).steps for one in (path, str(path), text, Policy.parse(text))]
    assert all(steps == plans[0] for steps in plans)
    path.write_bytes(b"# \xe4\n" + text.encode())
    with pytest.raises(InvalidArgument, match=r"retention\.toml, line 1, column 3: this is not UTF-8"):
        plan(inventory, path)
    for name in (tmp_path / "none.toml", str(tmp_path), "\0"):
        with pytest.raises(StorageError, match="cannot read"):
            plan(inventory, name)


# What is kept


SEMVER = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
          "1.0.0-rc.1", "1.0.0", "v1.0.1", "1.2", "1.10", "1.10.1_build.7", "2", "2024.01.15"]  # fmt: skip


def test_versions_are_ordered_as_semver_orders_them() -> None:
    """The specification's own example, with v, with parts left out, and with _ for the + that no tag may have."""
    assert sorted(random.Random(1).sample(SEMVER, len(SEMVER)), key=version_key) == SEMVER  # noqa: S311 -- a shuffle
    assert version_key("1.2") == version_key("V1.2.0") == version_key("1.2.0_4")
    assert version_key("1.0.0.1") < version_key("1.0.0.2") < version_key("1.0.1") < version_key("10.2.0.5")  # type: ignore[operator]
    assert version_key("1-rc9") < version_key("1-rc10")  # type: ignore[operator]
    assert version_key("1.0-0a1b2c3") == version_key("1.0-f9e8d7c")
    assert not any(map(version_key, ["latest", "a1", "1.", "1-", "sha256-1", "", "v", "release-1.0", "8u292-jdk"]))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["1.2.3", "1.2", "20240115", "1234567", "2024.01.15", "5005", "latest"], ["1.2.3", "1.2"]),
        (["2024.01", "2024.02", "latest"], ["2024.01", "2024.02"]),
        (["20240115", "20240116-1"], ["20240115", "20240116-1"]),
        (["10001", "10002"], ["10001", "10002"]),
        (["20240115", "2024.01.15"], []),
        (["1234567", "abcdef1"], []),
        (["0", "0.1"], ["0", "0.1"]),
        (["8u292-jdk", "release-1.0"], []),
    ],
)
def test_what_is_a_version_beside_others(tags: list[str], expected: list[str]) -> None:
    """Years, days, builds and commits are versions only among themselves, and only where they can be ordered."""
    assert list(versions(tags)) == expected


def test_the_newest_images() -> None:
    """Images are counted and not tags, by creation; of equal age all are kept, whatever their tags."""
    stored = Stored(
        ("app", "old", dated("2024-01-01")),
        ("app", "1.9", dated("2025-01-01", 1)), ("app", "1.10", dated("2025-01-01", 2)),
        ("app", "new", dated("2026-01-01", 3)), ("app", "latest", dated("2026-01-01", 3)),
        ("lib", "old", dated("2020-01-01")),
    )  # fmt: skip
    steps = plan(stored.inventory(), rule("keep_newest = 2")).steps
    assert [(step.action, step.repository, step.tag or step.tags) for step in steps] == [
        ("keep", "app", "1.10"), ("keep", "app", "1.9"), ("keep", "app", "latest"), ("keep", "app", "new"),
        ("delete", "app", ("old",)), ("keep", "lib", "old"),
    ]  # fmt: skip
    assert steps[4].reason == "deleted: not among the 2 newest images"
    assert steps[1].reason == "kept: among the 2 newest images"


def test_the_newest_versions() -> None:
    """An image counts with the highest of its versions; a tag that is not one stays, unless age decides."""
    stored = Stored(
        ("app", "1.0.0", dated("2026-01-01", 0)), ("app", "2.0.0-rc.1", dated("2026-01-01", 1)),
        ("app", "2.0.0", dated("2020-01-01", 2)), ("app", "2", dated("2020-01-01", 2)),
        ("app", "main", dated("2026-10-01", 3)),
    )  # fmt: skip
    assert kept(stored, rule("keep_newest_versions = 1")) == {
        "2": "the newest version", "2.0.0": "the newest version", "main": "its tag is not a version"
    }  # fmt: skip
    assert set(kept(stored, rule("keep_newest_versions = 2"))) == {"2", "2.0.0", "2.0.0-rc.1", "main"}
    assert set(kept(stored, rule('keep_newest_versions = 1\nkeep_younger_than = "1w"'))) == {"2", "2.0.0"}


@pytest.mark.parametrize(
    ("age", "expected"), [("47h", {"a"}), ("48h", {"a", "b"}), ("2d", {"a", "b"}), ("1w", {"a", "b", "c"})]
)
def test_what_is_younger(age: str, expected: set[str]) -> None:
    """Hours, days and weeks before now; what is exactly that old is kept."""
    stored = Stored(*(("app", tag, dated(day)) for tag, day in zip(
        "abcd", ("2026-10-31", "2026-10-30", "2026-10-25", "2026-10-24"), strict=True)))  # fmt: skip
    found = kept(stored, rule(f'keep_younger_than = "{age}"'))
    assert set(found) == expected
    assert found["a"] == f"younger than {age}"


def test_what_matches() -> None:
    """Names and globs of tags, case counts; every reason to keep a tag is named."""
    tags = ("latest", "v1", "V2", "x")
    stored = Stored(*(("app", tag, dated(f"2026-10-{28 + at}", at)) for at, tag in enumerate(tags)))
    assert kept(stored, rule('keep_matching = ["latest", "v*"]')) == {"latest": "matches latest", "v1": "matches v*"}
    both = kept(stored, rule('keep_matching = ["x"]\nkeep_younger_than = "3d"\nkeep_newest = 1'))
    assert both["x"] == "the newest image, younger than 3d, matches x"


def test_the_first_rule_that_matches_decides() -> None:
    """A repository has one rule: the first; where none names it, or one says never, everything stays."""
    policy = rule("never_touch = true", '["vm/gold", "vm/a?"]') + rule("keep_newest = 1", '["vm/*"]')
    policy += rule("keep_newest = 1", '["vm/late"]')
    stored = Stored(*(
        (name, str(at), dated(f"2020-01-0{at + 1}", at))
        for name in ("vm/gold", "vm/a1", "vm/team/x", "lib/a") for at in range(2)
    ))  # fmt: skip
    found = plan(stored.inventory(), policy)
    reasons = {(step.repository, step.tag): step.reason for step in found.steps if not step.writes}
    assert reasons == {
        **{(name, tag): "kept: its rule never touches it" for name in ("vm/gold", "vm/a1") for tag in "01"},
        **{("lib/a", tag): "kept: no rule names this repository" for tag in "01"},
        ("vm/team/x", "1"): "kept: the newest image",
    }
    assert "Rule 3 decides on no repository: vm/late." in found.notes


def test_tags_that_share_a_digest_with_a_kept_one() -> None:
    """They stay with it, so that no image that is kept loses a name."""
    shared = dated("2020-01-01")
    stored = Stored(("app", "8.5", shared), ("app", "8", shared), ("app", "x", one(1)), ("b", "8", shared))
    found = plan(stored.inventory(), rule('keep_matching = ["8.5"]', '["app"]'))
    assert {step.tag: step.reason for step in found.steps if step.repository == "app" and not step.writes} == {
        "8.5": "kept: matches 8.5", "8": "kept: same image as 8.5, which is kept"
    }  # fmt: skip


@pytest.mark.parametrize(
    "created",
    ["", "soon", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1980-01-01T00:00:01Z", "2999-01-01T00:00:00Z"],
)
def test_an_unknown_age(created: str) -> None:
    """An image without a date, or with the one that reproducible builds write, is kept where age decides."""
    undated = image([layer(1, 9)], about=config(created=created))
    stored = Stored(("app", "1", undated), ("app", "2", dated("2020-01-01")), ("app", "3", dated("2021-01-01", 3)))
    for words in ("keep_newest = 1", 'keep_younger_than = "30d"'):
        assert kept(stored, rule(words))["1"] == "its age is unknown"
    assert set(kept(stored, rule("keep_newest = 1"))) == {"1", "3"}
    assert set(kept(stored, rule("keep_newest_versions = 1"))) == {"3"}


def test_an_age_that_cannot_be_read() -> None:
    """Where the configuration is lost, the row and the plan say that this is why nothing goes by age."""
    lost = dated("2020-01-01")
    stored = Stored(("app", "1", lost), ("app", "2", dated("2021-01-01", 2)))
    del stored.blobs[Digest.of(lost.blobs[0])]
    found = plan(stored.inventory(), rule('keep_younger_than = "30d"'))
    reasons = {step.tag: step.reason for step in found.steps if not step.writes}
    assert reasons == {"1": "kept: its age is unknown, as part of it could not be read"}
    assert "The policy could not judge the age of app:1: part of what they need could not be read." in found.notes


def made(created: str, *history: str, note: str = "", number: int = 0) -> Image:
    about = config(created=created, history=[{"created": each, "created_by": "RUN x"} for each in history])
    return image([layer(number, 9)], about=about, annotations={CREATED: note} if note else {})


BASE, FRESH, NONE = "2024-02-01T00:00:00Z", "2026-10-31T00:00:00Z", "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (made(BASE, BASE, FRESH), "younger than 30d"),
        (made(BASE, BASE, NONE), "its age is unknown"),
        (made("1970-01-01T00:00:00Z", BASE), "its age is unknown"),
        (made("", note=FRESH), f"younger than 30d; its age is that of its annotation {CREATED}"),
        (index([(made(BASE), ""), (made("", number=1), "")]), "its age is unknown"),
        (index([(made(BASE), ""), (made(FRESH, number=1), "")]), "younger than 30d"),
    ],
)
def test_what_the_base_left_is_no_age(what: Image, reason: str) -> None:
    """Tools that add layers leave the base's date: the history tells, or the age is unknown; so it is of an index."""
    assert kept(Stored(("app", "1", what)), rule('keep_younger_than = "30d"')) == {"1": reason}


def test_an_old_image_is_old() -> None:
    """A date that its builder set, younger than everything in its history, counts although the newest step has none."""
    kaniko, noted = made("2024-03-01T00:00:00Z", BASE, NONE), made("", note=BASE, number=1)
    found = plan(
        Stored(("app", "1", kaniko), ("app", "2", noted), ("app", "3", made(FRESH))).inventory(),
        rule('keep_younger_than = "30d"'),
    )
    assert [step.reason for step in found.steps if step.writes] == [
        "deleted: older than 30d", f"deleted: older than 30d; its age is that of its annotation {CREATED}"
    ]  # fmt: skip


def test_a_push_date_stands_in() -> None:
    """Where the config says nothing, a storage's push date counts for each tag of the image, and the reason says so."""
    inventory = Stored(("app", "1", made("")), ("app", "2", made("")), ("app", "3", made("", number=1))).inventory()
    pushed = pd.to_datetime(pd.Series(["2026-10-30", "2020-01-01", "2020-01-01"]), utc=True)
    frames = {**inventory.frames, "tags": inventory.tags.assign(pushed=pushed.astype("datetime64[us, UTC]"))}
    known = Inventory(inventory.registry, inventory.started, inventory.finished, frames)
    verdicts = decide(known, Policy.parse(rule('keep_younger_than = "30d"')), now=NOW)
    assert [row.keep for row in verdicts] == [True, True, False]
    assert all("moving the storage may have reset" in row.reason for row in verdicts)
    assert [row.reason for row in decide(inventory, Policy.parse(rule("keep_newest = 1")), now=NOW)] == [
        "kept: its age is unknown"
    ] * 3


def test_a_registry_with_its_storage(writable: Seeded, tmp_path: Path) -> None:
    """The storage's push dates judge what has no date, here pushed just now; another storage is an error."""
    for number in range(2):
        image_ = made("", number=number)
        ask(writable.url, lambda client, tag=str(number), what=image_: push(client, "undated/app", tag, what))
    with regnb.connect(writable.url, cache=False) as registry:
        inventory = registry.inventory(["undated/app"], progress=False)
        policy = rule('keep_younger_than = "1w"', '["undated/*"]')
        pushed = "younger than 1w; its age is that of its push date"
        for storage, reason in ((None, "its age is unknown"), (writable.root, pushed)):
            found = registry.plan_retention(policy, inventory=inventory, storage=storage)
            assert [step.reason.startswith(f"kept: {reason}") for step in found.steps] == [True, True]
        (tmp_path / "docker/registry/v2/repositories").mkdir(parents=True)
        with pytest.raises(InvalidArgument, match="no push dates"):
            registry.plan_retention(policy, inventory=inventory, storage=tmp_path)


# Limits


def test_a_share_and_the_last_image() -> None:
    """What would leave no image, or remove more than a rule's share, is refused by repository, and allowed by it."""
    stored = Stored(*(("app", str(at), dated(f"2020-01-0{at + 1}", at)) for at in range(5)), ("lib", "1", one(1)))
    inventory = stored.inventory()
    assert len(removed(limited(inventory, rule("keep_newest = 3")))) == 2
    with pytest.raises(LimitExceeded, match=r"3 of 5 tags of app.*at most 50%") as raised:
        limited(inventory, rule("keep_newest = 2"))
    assert raised.value.allow == ("share:app",)
    assert "--allow share:app" in raised.value.hint
    assert len(removed(limited(inventory, rule("keep_newest = 2"), allow=raised.value.allow))) == 3
    assert len(removed(limited(inventory, rule('keep_newest = 2\nremove_at_most = "60%"')))) == 3
    everything = rule('keep_matching = ["none"]\nremove_at_most = "100%"')
    with pytest.raises(LimitExceeded, match="no image of app would stay and no image of lib would stay") as raised:
        limited(inventory, everything)
    assert raised.value.allow == ("emptying:app", "emptying:lib")
    with pytest.raises(LimitExceeded, match="no image of lib"):
        limited(inventory, everything, allow=["emptying:app", "share:lib"])
    assert len(removed(limited(inventory, everything, allow=raised.value.allow))) == 6


# Kinds


def chart(number: int, day: str) -> Image:
    about = pack({"name": "app", "version": f"{number}.0.0"})
    document = {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(HELM_CONFIG, about),
        "layers": [descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", layer(number, 9))],
        "annotations": {CREATED: f"{day}T00:00:00Z"},
    }  # fmt: skip
    return Image(pack(document), OCI_MANIFEST, (about, layer(number, 9)))


def test_a_rule_for_charts() -> None:
    """It decides on charts alone; another rule has the images beside them, and what no rule has stays."""
    stored = Stored(
        ("app", "c1", chart(1, "2020-01-01")), ("app", "c2", chart(2, "2026-10-31")), ("app", "i", dated("2020-01-01")),
        ("app", "j", dated("2020-02-01", 2)),
    )  # fmt: skip
    charts = rule('kinds = ["chart"]\nkeep_newest = 1')
    assert kept(stored, charts) == {
        "c2": f"the newest image; its age is that of its annotation {CREATED}",
        "i": "no rule decides on this kind: image", "j": "no rule decides on this kind: image",
    }  # fmt: skip
    assert set(kept(stored, charts + rule("keep_newest = 1"))) == {"c2", "j"}


def test_signatures_whose_subject_is_gone() -> None:
    """Only what the registry was asked for and does not have is gone; what no tag leads to may still be there."""
    new, lost, bare = dated("2026-01-01"), one(5), one(6)
    stored = Stored(
        ("app", "1", new), ("app", sig(new), one(2)), ("app", sig(lost), one(3)), ("app", sig(bare), one(4))
    )  # fmt: skip
    inventory = stored.inventory()
    policy = rule('kinds = ["orphan"]')
    assert set(missing_subjects(inventory, policy)) == {("app", lost.digest), ("app", bare.digest)}
    assert missing_subjects(inventory, rule("keep_newest = 1")) == []
    assert not removed(limited(inventory, policy))
    found = retain(inventory, policy, url=stored.url, authorized=False, gone=[("app", lost.digest)], now=NOW)
    assert removed(found) == [sig(lost)]
    assert "refers to something that is gone" in next(step.reason for step in found.steps if step.writes)
    reasons = {step.tag: step.reason for step in found.steps}
    assert "may still be there" in reasons[sig(bare)]


def test_the_registry_is_asked_for_subjects(writable: Seeded) -> None:
    """A signature whose image has lost its tag, and one whose image was deleted: only the second goes."""
    with regnb.connect(writable.url, cache=False) as registry:
        new, old = dated("2026-01-01"), one(5)
        for name, what in (("1", new), (sig(new), one(2)), ("2", old), (sig(old), one(3)), ("1", one(6))):
            ask(writable.url, lambda client, name=name, what=what: push(client, "orphans/app", name, what))
        ask(writable.url, lambda client: client.delete_manifest("orphans/app", old.digest))
        found = registry.plan_retention(
            rule('kinds = ["orphan"]', '["orphans/*"]'), inventory=registry.inventory(["orphans/app"], progress=False)
        )
        assert removed(found) == [sig(old)]


# Whatever the content


DAYS = [f"{year}-0{month}-01T00:00:00Z" for year in (2024, 2025, 2026) for month in (3, 4)]
KNOWN: dict[str, Callable[[str], tuple[str, ...]]] = {
    "alone": lambda day: (day,),
    "appended": lambda day: (BASE, BASE, day),
    "last unknown": lambda day: (day, BASE, NONE),
}
UNKNOWN = [(NONE,), ("",), ("1980-01-01T00:00:01Z", BASE), (BASE, BASE, NONE), ("2999-01-01T00:00:00Z",)]
ORDER = {
    "1.0": 1, "1.1": 2, "1.1.0.4": 3, "2.0-rc9": 4, "2.0-rc10": 5, "v3": 6, "main": 0, "2024.01.15": 0, "8u292-jdk": 0
}  # fmt: skip
"""Tags and the order of those that are versions beside others."""
DATED = st.builds(lambda day, how: (day, KNOWN[how](day)), st.sampled_from(DAYS), st.sampled_from(list(KNOWN)))
UNDATED = st.sampled_from([("", dates) for dates in UNKNOWN])


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from([(name, tag) for name in "ab" for tag in ORDER]), DATED | UNDATED, min_size=1),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()).filter(any),
    st.integers(0, 2**32 - 1),
)
def test_nothing_unknown_is_deleted(
    drawn: dict[tuple[str, str], tuple[str, tuple[str, ...]]], lines: tuple[int, int, bool], seed: int
) -> None:
    """A plain reading of each line, written apart: every line could judge what is deleted, and none keeps it."""
    images, numbers, young = lines
    inventory = Stored(
        *((name, tag, made(*dates, number=at)) for at, ((name, tag), (_, dates)) in enumerate(drawn.items()))
    ).inventory()
    text = rule(
        "\n".join([f"keep_newest = {images}"] * bool(images) + [f"keep_newest_versions = {numbers}"] * bool(numbers)
        + ['keep_younger_than = "52w"'] * young)
    )  # fmt: skip
    found = plan(inventory, text)
    with suppress(LimitExceeded):
        left = [step.repository for step in limited(inventory, text).steps if not step.writes]
        assert {name for name, _ in drawn} == set(left)
        assert all(left.count(name) * 2 >= sum(name == other for other, _ in drawn) for name in left)
    for name, tag in {(step.repository, tag) for step in found.steps if step.writes for tag in step.tags}:
        there = {other: day for (where, other), (day, _) in drawn.items() if where == name}
        if images or young:
            assert there[tag], "its age is known"
        assert sum(day > there[tag] for day in there.values()) >= images
        assert not young or datetime.fromisoformat(there[tag]) < NOW - timedelta(weeks=52)
        if numbers and not (images or young):
            assert ORDER[tag] or not any(ORDER[other] for other in there), "it is a version"
        if ORDER[tag]:
            assert sum(ORDER[other] > ORDER[tag] for other in there) >= numbers
    tags = inventory.tags.sample(frac=1, random_state=seed, ignore_index=True)
    shuffled = Inventory(inventory.registry, inventory.started, inventory.finished, {**inventory.frames, "tags": tags})
    policy = Policy.parse(text)
    assert decide(shuffled, policy, now=NOW) == decide(inventory, policy, now=NOW)


def test_what_runs_is_kept() -> None:
    """By tag, by digest, above and below; the newest are counted with it."""
    a, b, c = (dated("2020-01-01", at) for at in range(3))
    stored = Stored(("app", "a", a), ("app", "b", b), ("app", "c", c), ("app", "ab", index([(a, ""), (b, "")])))
    pods = {"kind": "List", "items": [{
        "metadata": {"namespace": "web", "name": "front"}, "spec": {"containers": [{"image": f"h:5000/app@{a.digest}"}]}
    }]}  # fmt: skip
    words = rule('keep_matching = ["none"]')
    assert kept(stored, words) == {}
    found = kept(stored, words, in_use=pods)
    assert found == {"a": "runs in the cluster (web/front)", "ab": "runs in the cluster (web/front)"}
    steps = {step.tag: step for step in plan(stored.inventory(), words, in_use=pods).steps if step.writes}
    assert steps["b"].action == "untag"
    assert steps["b"].reason == "deleted: matches none of none; its manifest stays: the index ab lists it"
    verdicts = decide(stored.inventory(), Policy.parse(words), now=NOW, used=running(pods))
    assert {row.tag for row in verdicts if row.keep} == set(found)


def test_referrers_share_the_fate_of_their_subject() -> None:
    """Signatures are not images: they count for nothing, and are kept or go with what they refer to."""
    old, new = dated("2020-01-01"), dated("2026-01-01", 1)
    arm = dated("2026-01-01", 2)
    multi = index([(arm, "")])
    stored = Stored(
        ("app", "1", old), ("app", sig(old), one(1)), ("app", "bundle-1", refers(old, "b")),
        ("app", "2", new), ("app", sig(new), one(2)), ("app", "bundle-2", refers(new, "b")),
        ("app", "m", multi), ("app", sig(arm, ".att"), one(3)),
        ("app", sig(one(7)), one(4)), ("app", "stamp-1", refers(refers(old, "b"), "s")),
        ("app", "stamp-2", refers(refers(new, "b"), "s")),
    )  # fmt: skip
    assert kept(stored, rule('keep_matching = ["2", "m"]')) == {
        "2": "matches 2", "m": "matches m",
        sig(new): "refers to 2, which is kept", "bundle-2": "refers to 2, which is kept",
        "stamp-2": "refers to bundle-2, which is kept",
        sig(arm, ".att"): f"refers to {arm.digest.short}, which is kept",
        sig(one(7)): "refers to something that is not here",
    }  # fmt: skip
    found = plan(stored.inventory(), rule('keep_matching = ["2", "m"]'))
    going = [step for step in found.steps if step.writes]
    assert going[0].tags == ("1",)
    assert len(going) == 4
    first = found.steps.index(going[0])
    assert all(step.needs for step in going[1:])
    assert going[1].needs == (first,)
    assert "refers to 1, which is deleted" in going[1].reason
    assert set(kept(stored, rule("keep_newest = 1"))) >= {"2", sig(new)}


def test_what_a_kept_index_lists_loses_only_its_tag() -> None:
    """A child with an old tag of its own stays for the index."""
    child = dated("2020-01-01")
    stored = Stored(("app", "multi", index([(child, "")])), ("app", "amd64", child))
    (keep, untag) = plan(stored.inventory(), rule('keep_matching = ["multi"]')).steps
    assert (keep.action, keep.tag, keep.before, keep.after) == ("keep", "multi", keep.before, keep.before)
    assert (untag.action, untag.tag) == ("untag", "amd64")


def test_what_cannot_be_judged_is_kept() -> None:
    """A dangling tag and an image of schema 1 stay; where a tag gives 500 everything does."""
    data = pack({"schemaVersion": 1, "name": "app", "tag": "old", "fsLayers": [], "history": [], "signatures": []})
    stored = Stored(
        ("app", "s1", Image(data, SCHEMA1_SIGNED)), ("app", "lost", dated("2020-01-01", 5)),
        ("app", "1", dated("2020-01-01", 1)), ("bad", "1", dated("2020-01-01", 2)), ("bad", "b", one(3)),
    )  # fmt: skip
    stored.gone.add(("app", "lost"))
    stored.broken.add(("bad", "b"))
    blocked = plan(stored.inventory(), rule('keep_matching = ["none"]'))
    assert any("--allow incomplete:bad" in note for note in blocked.notes)
    found = plan(stored.inventory(), rule('keep_matching = ["none"]'), allow=ALLOWANCES)
    assert [step.tags for step in blocked.steps if step.writes] == [step.tags for step in found.steps if step.writes]
    assert {(step.repository, step.tag): step.reason for step in found.steps if not step.writes} == {
        ("app", "lost"): "kept: could not be read: its manifest is gone",
        ("app", "s1"): "kept: of the withdrawn schema 1, whose digest cannot be relied on",
        ("bad", "1"): "kept: nothing is deleted by digest where a tag could not be read: b",
        ("bad", "b"): "kept: could not be read",
    }
    assert [step.tags for step in found.steps if step.writes] == [("1",)]


def test_nothing_to_remove_is_no_reason_to_refuse() -> None:
    """A policy that keeps everything gives a plan of reasons, even where something could not be read."""
    stored = Stored(("app", "1", dated("2020-01-01")), ("app", "2", dated("2020-01-01", 2)))
    stored.broken.add(("app", "2"))
    found = plan(stored.inventory(), rule("never_touch = true"))
    assert [step.action for step in found.steps] == ["keep", "keep"]
    assert plan(Stored().inventory(), rule("never_touch = true")).steps == ()


def test_the_frame_has_a_reason_on_every_row() -> None:
    """What is reviewed names every tag, kept or deleted, with its reason."""
    shared = dated("2020-01-01")
    stored = Stored(("app", "8.1", shared), ("app", "8.1.0", shared), ("app", "9", dated("2026-01-01", 1)))
    frame = plan(stored.inventory(), rule('keep_newest = 1\nkeep_younger_than = "30d"')).to_frame()
    assert frame[["action", "tag", "tags", "reason"]].to_dict("split")["data"] == [
        ["delete", "8.1, 8.1.0", 2, "8.1, 8.1.0: deleted: not the newest image, older than 30d"],
        ["keep", "9", 0, "kept: the newest image"],
    ]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_kept_stays_whole(chance: random.Random) -> None:
    """Whatever the content and whichever tags match: each tag has one row, and each kept image all that it needs."""
    stored = content(chance)
    inventory = stored.inventory()
    model = Model(stored, inventory)
    wanted = [tag for tag in model.tags if chance.random() < 0.4]
    found = plan(inventory, rule(f"keep_matching = {['none', *wanted]}", '["app"]'), allow=ALLOWANCES)
    kept_ = {step.tag for step in found.steps if not step.writes and step.repository == "app"}
    assert sorted([*kept_, *removed(found)]) == sorted(model.listed)
    for number, step in enumerate(found.steps):
        assert all(need < number and found.steps[need].writes for need in step.needs)
    primary = {
        row.tag
        for row in inventory.tags[["repository", "tag", "subject"]].itertuples()
        if row.repository == "app" and not isinstance(row.subject, str)
    }
    assert set(wanted) & primary <= kept_
    model.apply(found.steps)
    assert set(model.tags) == kept_
    assert not model.broken()
    assert {model.listed[tag] for tag in kept_} <= set(model.manifests)


# For real

DEMO = """
[[rule]]
repositories = ["vm/*", "broken/*"]
never_touch = true

[[rule]]
repositories = ["apps/payments"]
keep_newest = 1

[[rule]]
repositories = ["apps/*"]
keep_newest_versions = 2

[[rule]]
repositories = ["library/*", "tools/*"]
keep_younger_than = "26w"
keep_matching = ["1.25"]
"""


def test_the_demo_s_retention_for_real(writable: Seeded) -> None:
    """Applied to each registry, what is left is what the plan keeps, signatures included; undo brings back the rest."""
    with regnb.connect(writable.url, cache=False) as registry:
        before = registry.inventory(progress=False)
        found = plan_retention(
            before, DEMO, url=registry.plan_delete([], inventory=before).url, authorized=False,
            now=datetime.fromisoformat(demo.NOW),
            allow=["dummy", "share:apps/web", "emptying:tools/builder"],
        )  # fmt: skip
        keeping = {f"{step.repository}:{step.tag}" for step in found.steps if not step.writes}
        assert {name for name in keeping if name.startswith(("apps/", "library/", "tools/"))} == {
            "apps/web:1.4.1", "apps/web:1.4.2", "apps/web:1.4", "apps/web:latest",
            "apps/api:2.1.0", "apps/api:2.1.1", "apps/api:2.1", "apps/api:latest",
            "apps/worker:2.1.0", "apps/worker:2.1.1", "apps/worker:2.1", "apps/worker:latest",
            *(name for name in state(before) if name.startswith("apps/payments:")),
            "library/base:3.20", "library/base:latest", "library/proxy:1.25", "library/proxy:latest",
            "tools/cli:2.0.0", "tools/cli:latest",
        }  # fmt: skip
        receipt = applied(registry, found)
        after = registry.inventory(progress=False)
        assert set(state(after)) == keeping
        assert len(after.problems) == len(before.problems), "nothing that is kept lacks anything"
        applied(registry, registry.plan_undo(receipt))
        assert state(registry.inventory(progress=False)) == state(before)

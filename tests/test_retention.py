"""Retention policies: what is malformed, what each rule keeps and why, and what the plan then removes."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Image, config, image, index, layer, pack
from stored import Stored
from test_delete import Model, applied, content, one, own_receipts, refers, sig, state

import regnb
from regnb import Inventory
from regnb.change.plan import ALLOWANCES, Plan
from regnb.change.policy import Policy, version_key
from regnb.change.retention import decide, plan_retention
from regnb.cluster.running import running
from regnb.errors import InvalidArgument, StorageError
from regnb.local import demo
from regnb.oci.manifest import SCHEMA1_SIGNED

__all__ = ["own_receipts"]
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def dated(day: str, number: int = 0) -> Image:
    """An image that was created on this day."""
    return image([layer(number, 100)], about=config(created=f"{day}T00:00:00Z"), annotations={"n": str(number)})


def rule(text: str, repositories: str = '["*"]') -> str:
    return f"[[rule]]\nrepositories = {repositories}\n{text}\n"


def plan(inventory: Inventory, policy: str | Path | Policy, **more: Any) -> Plan:
    return plan_retention(inventory, policy, url=f"http://{inventory.registry}", authorized=False, now=NOW, **more)


def removed(found: Plan) -> list[str]:
    tags = [tag for step in found.steps if step.writes for tag in (*step.tags, step.tag)]
    return [tag for tag in tags if tag]


def kept(stored: Stored, policy: str, **more: Any) -> dict[str, str]:
    """The tags that are kept, and why; every other tag is in a step that removes it."""
    inventory = stored.inventory()
    found = plan(inventory, policy, **more)
    tags = inventory.tags["tag"].to_list()
    keeping = {step.tag: step.reason for step in found.steps if step.action == "keep"}
    going = removed(found)
    assert sorted([*keeping, *going]) == sorted(tags)
    assert all(step.reason for step in found.steps)
    return keeping


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
        (rule("keep_newest = 1\nnever_touch = true"), 4, 1, "never_touch stands alone"),
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
    assert not any(map(version_key, ["latest", "1.2.3.4", "a1", "1.", "1-", "sha256-1", "", "v"]))


def test_the_newest_images() -> None:
    """Images are counted and not tags, by creation; of equal age the higher version is newer."""
    stored = Stored(
        ("app", "old", dated("2024-01-01")),
        ("app", "1.9", dated("2025-01-01", 1)), ("app", "1.10", dated("2025-01-01", 2)),
        ("app", "new", dated("2026-01-01", 3)), ("app", "latest", dated("2026-01-01", 3)),
        ("lib", "old", dated("2020-01-01")),
    )  # fmt: skip
    steps = plan(stored.inventory(), rule("keep_newest = 2")).steps
    assert [(step.action, step.repository, step.tag or step.tags) for step in steps] == [
        ("keep", "app", "1.10"), ("keep", "app", "latest"), ("keep", "app", "new"),
        ("delete", "app", ("1.9",)), ("delete", "app", ("old",)), ("keep", "lib", "old"),
    ]  # fmt: skip
    assert steps[3].reason == "1.9: not among the 2 newest images"
    assert steps[1].reason == "among the 2 newest images"


def test_the_newest_versions() -> None:
    """An image counts with the highest of its versions; tags that are none do not count, and are not kept by it."""
    stored = Stored(
        ("app", "1.0.0", dated("2026-01-01", 0)), ("app", "2.0.0-rc.1", dated("2026-01-01", 1)),
        ("app", "2.0.0", dated("2020-01-01", 2)), ("app", "2", dated("2020-01-01", 2)),
        ("app", "main", dated("2026-10-01", 3)),
    )  # fmt: skip
    assert kept(stored, rule("keep_newest_versions = 1")) == {"2": "the newest version", "2.0.0": "the newest version"}
    assert set(kept(stored, rule("keep_newest_versions = 2"))) == {"2", "2.0.0", "2.0.0-rc.1"}


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
        **{(name, tag): "its rule says never to touch it" for name in ("vm/gold", "vm/a1") for tag in "01"},
        **{("lib/a", tag): "no rule names this repository" for tag in "01"},
        ("vm/team/x", "1"): "the newest image",
    }
    assert "Rule 3 decides on no repository: vm/late." in found.notes


def test_tags_that_share_a_digest_with_a_kept_one() -> None:
    """They stay with it, so that no image that is kept loses a name."""
    shared = dated("2020-01-01")
    stored = Stored(("app", "8.5", shared), ("app", "8", shared), ("app", "x", one(1)), ("b", "8", shared))
    found = plan(stored.inventory(), rule('keep_matching = ["8.5"]', '["app"]'))
    assert {step.tag: step.reason for step in found.steps if step.repository == "app" and not step.writes} == {
        "8.5": "matches 8.5", "8": "same image as 8.5, which is kept"
    }  # fmt: skip


@pytest.mark.parametrize("created", ["", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"])
def test_an_unknown_age(created: str) -> None:
    """An image without a date, or with the one that reproducible builds write, is kept where age decides."""
    undated = image([layer(1, 9)], about=config(created=created))
    stored = Stored(("app", "1", undated), ("app", "2", dated("2020-01-01")), ("app", "3", dated("2021-01-01", 3)))
    for words in ("keep_newest = 1", 'keep_younger_than = "30d"'):
        assert kept(stored, rule(words))["1"] == "its age is unknown"
    assert set(kept(stored, rule("keep_newest = 1"))) == {"1", "3"}
    assert set(kept(stored, rule("keep_newest_versions = 1"))) == {"3"}


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
    assert steps["b"].reason == "matches none of none; its manifest stays: the index ab lists it"
    verdicts = decide(stored.inventory(), Policy.parse(words), now=NOW, used=running(pods))
    assert {row.tag for row in verdicts if row.keep} == set(found)


def test_referrers_share_the_fate_of_their_subject() -> None:
    """Signatures are no images: they count for nothing, and are kept or go with what they refer to."""
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
    assert "refers to 1, which goes" in going[1].reason
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
        ("app", "lost"): "could not be read: its manifest is gone",
        ("app", "s1"): "of the withdrawn schema 1, whose digest cannot be relied on",
        ("bad", "1"): "nothing is deleted by digest where a tag could not be read: b",
        ("bad", "b"): "could not be read",
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
        ["keep", "9", 0, "the newest image"],
        ["delete", "", 2, "8.1, 8.1.0: not the newest image, older than 30d"],
    ]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_kept_stays_whole(chance: random.Random) -> None:
    """Whatever the content and whichever tags match: each tag has one row, and each kept image all that it needs."""
    stored = content(chance)
    inventory = stored.inventory()
    model = Model(stored, inventory)
    wanted = [tag for tag in model.tags if chance.random() < 0.4]
    found = plan(inventory, rule(f"keep_matching = {['none', *wanted]}", '["app"]'))
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
            now=datetime.fromisoformat(demo.NOW), allow=["dummy"],
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

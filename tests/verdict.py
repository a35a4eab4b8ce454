"""Whether what regnb said and did is true: plans, receipts and inventories against the registry's disk.

Each function returns what is wrong; nothing is wrong if it returns nothing. Disks are :class:`disk.State` values.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from disk import Name, State
from faulty import LONGEST, Fault, Seen

from regnb import Inventory, Plan, Receipt

SAYS_ABSENT = ("dangling", "vanished", "missing")
"""Problems that say of something that it is not there."""


class Violation(NamedTuple):
    """A promise that was broken: which one, and how."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _short(digest: str | None) -> str:
    return (digest or "nothing")[:19]


def names(step: Any) -> list[Name]:
    """The tags that a step names."""
    tags = [step.tag] if step.tag else step.tags
    return [Name(step.repository, tag) for tag in tags]


def planned(state: State, plan: Plan) -> Iterator[Violation]:
    """A plan says of every target what is there, and of a deletion every tag that goes with it."""
    for number, step in enumerate(plan.steps):
        where = f"row {number}, {step.action} {step.repository} {step.target}"
        if step.action in ("tag", "untag"):
            found = state.tags.get(Name(step.repository, step.tag), "")
            if found != step.before:
                yield Violation("plan untrue", f"{where}: plan says {_short(step.before)}, it is {_short(found)}")
        elif step.action == "delete":
            # A placeholder is deleted after its tag was set back, which an earlier row does.
            moved = {
                earlier.tag
                for earlier in map(plan.steps.__getitem__, step.needs)
                if earlier.action == "tag" and earlier.repository == step.repository and earlier.before == step.before
            }
            if missing := state.tagged(step.repository, step.before) - set(step.tags) - moved:
                yield Violation("plan untrue", f"{where}: it does not name the tags {sorted(missing)}")
            if not _found(state, step):
                yield Violation("plan untrue", f"{where}: there is no such manifest")


def kept(
    before: State, after: State, plan: Plan, receipt: Receipt | None, *, foreign: Iterable[Name] = ()
) -> Iterator[Violation]:
    """No tag is lost, moved or made that the plan does not name so, and nothing becomes unreadable.

    Args:
        before: The disk before the plan was applied.
        after: The disk now.
        plan: What was applied.
        receipt: What it says became of it, if there is one.
        foreign: Tags that someone else writes meanwhile.
    """
    theirs = set(foreign)
    allowed: dict[Name, set[str | None]] = {}
    expected: dict[Name, set[str]] = {}
    for number, step in enumerate(plan.steps):
        for name in names(step) if step.writes else ():
            allowed.setdefault(name, set()).add(step.after or None)
            expected.setdefault(name, set()).add(step.before)
            if step.action == "untag" and receipt is not None:
                outcome, dummy = receipt.outcome(number), _digest(plan.dummy(number))
                expected[name].add(dummy)  # where an earlier application was cut short
                if before.tags.get(name) == dummy and outcome.status != "done":
                    allowed[name].add(step.before)  # it is set back
                if outcome.status == "unknown" or (outcome.status == "failed" and outcome.after == dummy):
                    allowed[name].add(dummy)
    for name in sorted((before.tags.keys() | after.tags.keys()) - theirs):
        was, now = before.tags.get(name), after.tags.get(name)
        if was == now:
            continue
        text = f"{name} was {_short(was)} and is {_short(now)}"
        if now not in allowed.get(name, ()):
            yield Violation("tag lost" if now is None else "tag moved" if was else "tag appeared", text)
        elif (was or "") not in expected[name]:
            yield Violation("tag overwritten", f"{text}, and the plan took it for {sorted(expected[name])}")
    yield from _readable(before, after, plan, theirs)


def _readable(before: State, after: State, plan: Plan, theirs: set[Name]) -> Iterator[Violation]:
    deleted = {Name(step.repository, step.before) for step in plan.steps if step.action == "delete"}
    deleted |= {
        Name(step.repository, _digest(plan.dummy(number)))
        for number, step in enumerate(plan.steps)
        if step.action == "untag"
    }
    needed = before.reachable()
    for name in sorted(needed):
        if not before.whole(name) or after.whole(name) or name in deleted:
            continue
        if "parents" in plan.allow and before.behind(name) & deleted:
            continue
        yield Violation("image unreadable", f"{name} was whole, and is not")


def told(before: State, after: State, receipt: Receipt, *, foreign: Iterable[Name] = ()) -> Iterator[Violation]:
    """Whatever a receipt says of a row is so."""
    theirs = set(foreign)
    plan = receipt.plan
    targets = Counter(target for step in plan.steps if step.writes for target in _targets(step))
    for number, step in enumerate(plan.steps):
        if not step.writes or theirs & set(names(step)):
            continue
        outcome = receipt.outcome(number)
        alone = all(targets[target] == 1 for target in _targets(step))
        where = f"row {number}, {step.action} {step.repository} {step.target}, is {outcome.status} ({outcome.message})"
        was, now = _so(before, step), _so(after, step)
        found = _found(after, step)
        if outcome.status == "done" and not now:
            yield Violation("done is not so", f"{where}, but there is {found}")
        also = {name.target for name in before.tags.keys() - after.tags.keys() if name.repository == step.repository}
        also -= {name.target for other in plan.steps for name in names(other)}
        named = outcome.status == "failed" and any(tag in outcome.message for tag in also)
        if outcome.status in ("failed", "skipped", "stale") and now and not was and alone and not named:
            yield Violation("silently done", where)
        if outcome.status == "stale" and outcome.after != found:
            yield Violation("stale is not so", f"{where}, but there is {_short(found)}")
        if outcome.status == "failed" and outcome.after and outcome.after != found:
            yield Violation("failed is not so", f"{where}: {_short(outcome.after)}, but there is {_short(found)}")


def _targets(step: Any) -> list[Name]:
    return names(step) + ([Name(step.repository, step.target)] if step.action in ("put", "delete") else [])


def _found(state: State, step: Any) -> str:
    """What is at a step's target; "" if nothing is."""
    if step.tag:
        return state.tags.get(Name(step.repository, step.tag), "")
    # A registry may keep the tags of a deleted manifest: then it is there as long as they are.
    there = Name(step.repository, step.target) in state.revisions or state.tagged(step.repository, step.target)
    return str(step.target) if there else ""


def _so(state: State, step: Any) -> bool:
    """Whether it is as a step says that it will be."""
    if step.action == "delete":
        return not _found(state, step) and not any(name in state.tags for name in names(step))
    return _found(state, step) == step.after and (not step.after or state.whole(Name(step.repository, step.after)))


def undone(original: State, now: State, plan: Plan) -> Iterator[Violation]:
    """What a plan named is as it was before, byte for byte, and what it added is gone, unless a tag needs it."""
    needed = now.reachable()
    for step in plan.steps:
        if not step.writes:
            continue
        for name in names(step):
            was, found = original.tags.get(name), now.tags.get(name)
            if was != found:
                yield Violation("undo is not so", f"{name} was {_short(was)}, and is {_short(found)}")
            elif was and original.whole(Name(name.repository, was)) and not now.whole(Name(name.repository, was)):
                yield Violation("undo is not so", f"{name} was whole, and is not")
        name = Name(step.repository, step.before or step.after)
        if step.action == "delete" and original.whole(name) and name in original.reachable() and not now.whole(name):
            yield Violation("undo is not so", f"{name} was there")
        added = Name(step.repository, step.after)
        if step.after and added in now.revisions - original.revisions - needed:
            yield Violation("undo is not so", f"{added} was added, and is still there")


def audited(state: State, inventory: Inventory, repositories: Sequence[str] | None = None) -> Iterator[Violation]:
    """No row of an inventory is wrong, and one that calls itself complete has every tag."""
    rows = {}
    for row in inventory.tags.to_dict("records"):
        name = Name(row["repository"], row["tag"])
        rows[name] = row
        digest = None if pd.isna(row["digest"]) else str(row["digest"])
        found = state.tags.get(name)
        if found is None:
            yield Violation("audit untrue", f"it has {name}, which is not there")
        elif digest is not None and digest != found:
            yield Violation("audit untrue", f"{name} is {_short(digest)} there, and is {_short(found)}")
        elif digest is not None and state.whole(Name(name.repository, found)):
            size = state.size(Name(name.repository, found))
            if row["size"] > size or (row["complete"] and row["size"] != size):
                yield Violation("audit untrue", f"{name} has {row['size']} bytes there, and has {size}")
    for row in inventory.problems.to_dict("records"):
        name = Name(row["repository"], row["reference"])
        digest = name.target if name.target.startswith("sha256:") else state.tags.get(name, "")
        if row["problem"] in SAYS_ABSENT and state.whole(Name(name.repository, digest)):
            yield Violation("absence believed", f"{name} is {row['problem']} there: {row['message']}")
    wanted = {name for name in state.tags if repositories is None or name.repository in repositories}
    if inventory.complete and (missing := wanted - rows.keys()):
        yield Violation("audit untrue", f"it is complete, without {', '.join(map(str, sorted(missing)))}")


def ended(log: Iterable[Seen]) -> Iterator[Violation]:
    """Nobody waits for ever for an answer that does not end."""
    for seen in log:
        if seen.held >= LONGEST:
            text = f"{seen.method} {seen.path} held regnb for {seen.held:.0f} s: {seen.fault}"
            yield Violation("waited without end", text)


def silent(secret: str, texts: Iterable[str]) -> Iterator[Violation]:
    """No password and no token stands where people read or files are kept."""
    for text in texts:
        if secret in text:
            yield Violation("secret told", text[max(0, text.index(secret) - 200) : text.index(secret) + 50])


def once(log: Iterable[Seen], elsewhere: Iterable[Seen]) -> Iterator[Violation]:
    """No write went out twice, except in answer to a 401, and none to another origin."""
    writes: dict[tuple[str, str, str], list[Seen]] = {}
    for seen in log:
        if seen.writes and seen.method != "POST":
            writes.setdefault((seen.method, seen.path, seen.sent), []).append(seen)
    for (method, path, _), sent in writes.items():
        if any(seen.status != 401 and seen.fault not in (Fault.CHALLENGED, Fault.UNAUTHORIZED) for seen in sent[:-1]):
            faults = ", then ".join(str(seen.fault or seen.status) for seen in sent)
            yield Violation("written again", f"{method} {path} went out {len(sent)} times: {faults}")
    for seen in elsewhere:
        if seen.writes or seen.authorized:
            yield Violation("sent elsewhere", f"{seen.method} {seen.path}")

"""Plan what a retention policy removes: a verdict with a reason for every tag, and the deletion of what is not kept."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from regnb.analysis.inventory import Inventory
from regnb.analysis.running import Running
from regnb.analysis.storage import open_storage
from regnb.change.plan import Plan, Step, allows, check_allow, once
from regnb.change.policy import Kind, Policy, Rule
from regnb.change.protection import protect
from regnb.change.removal import (
    Held,
    check_catalog,
    check_inventory,
    holdings,
    numbered,
    remove,
    unknown,
)
from regnb.cluster.running import InUse, Used
from regnb.crawl.selection import Picked
from regnb.errors import InvalidArgument, LimitExceeded
from regnb.oci.age import SKEW
from regnb.oci.manifest import HELM_CONFIG
from regnb.oci.versions import versions
from regnb.tables.age import STAND_INS, ages, in_use, with_pushed
from regnb.text import names, redact

_PARTLY = "its age is unknown, as part of it could not be read"


class Verdict(NamedTuple):
    """What becomes of a tag.

    Attributes:
        digest: "" if it could not be read.
        size: Bytes behind it.
        refers: Whether it is a signature or the like of something that is here: it shares the fate of that.
        kind: As a policy tells tags apart (:data:`regnb.change.policy.Kind`).
        rule: The number of the rule that decides, from 1; 0 if none does.
    """

    repository: str
    tag: str
    digest: str
    size: int
    refers: bool
    keep: bool
    reason: str
    kind: Kind = "image"
    rule: int = 0


class _Tag(NamedTuple):
    tag: str
    digest: str
    age: datetime | None
    partly: bool
    """Whether nothing is known of its age because something that it needs could not be read."""
    dated: str
    size: int
    subjects: tuple[str, ...]
    kind: Kind
    rule: int
    used: str = ""
    """Why it may be in use, by what is known of its pulls; "" where it is not."""
    locked: str = ""
    """Why the registry would not delete it; "" where nothing is known of that."""


class _Decision:
    """The verdicts on one repository."""

    def __init__(self, held: Held, tags: Sequence[_Tag], used: Running, gone: AbstractSet[str]) -> None:
        self.held = held
        self.all = tags
        self.used = used
        self.gone = gone
        self.kept: dict[str, str] = {}
        self.going: dict[str, str] = {}

    def follow(self, policy: Policy, now: datetime) -> None:
        """Keep what a rule keeps, what runs, what cannot be judged, and what belongs to these."""
        here = self.held
        if all(not row.rule or policy.rules[row.rule - 1].never_touch for row in self.all):
            self.kept = {row.tag: self._left(policy, row) for row in self.all}
            return
        if here.unread:
            reason = f"nothing is deleted by digest where a tag could not be read: {names(here.unread)}"
            self.kept = dict.fromkeys(here.tags, reason) | dict.fromkeys(here.unread, "could not be read")
        judged: dict[int, list[_Tag]] = {}
        for row in self.all if not here.unread else ():
            if row.digest not in here.rows:
                gone = ": its manifest is gone" if row.tag in here.dangling else ""
                self.kept[row.tag] = f"could not be read{gone}"
            elif where := self.used.where(here.name, row.tag, row.digest):
                self.kept[row.tag] = f"runs in the cluster ({where})"
            elif row.locked:
                self.kept[row.tag] = f"the registry would not delete it: {row.locked}"
            elif row.digest in here.schema1:
                self.kept[row.tag] = "of the withdrawn schema 1, whose digest cannot be relied on"
            elif subject := next((subject for subject in row.subjects if subject in here.rows), ""):
                self.going[row.tag] = f"refers to {here.title(subject)}, which is deleted"
            elif not row.rule or policy.rules[row.rule - 1].never_touch:
                self.kept[row.tag] = self._left(policy, row)
            elif row.kind == "orphan" and not self.gone >= {*row.subjects}:
                self.kept[row.tag] = "refers to something that no tag leads to, and that may still be there"
            else:
                judged.setdefault(row.rule, []).append(row)
        for number, rows in judged.items():
            # What is kept for another reason counts among the newest, too.
            ranked = [row for row in self.all if row.rule == number and row.digest in here.rows]
            self._judge(policy.rules[number - 1], ranked, rows, now)
        self._spread()

    def leave(self, policy: Policy, reason: str) -> None:
        """Keep everything: what a rule would decide on, for this reason."""
        for row in self.all:
            decided = row.rule and not policy.rules[row.rule - 1].never_touch
            self.kept[row.tag] = reason if decided else self._left(policy, row)

    def _left(self, policy: Policy, row: _Tag) -> str:
        """Return why a tag stays on which no rule decides, or one that never touches it."""
        rules = [rule for rule in policy.rules if _matches(rule, self.held.name)]
        if not rules:
            return "no rule names this repository"
        if row.rule or all(rule.never_touch for rule in rules):
            return "its rule never touches it"
        if row.kind == "orphan":
            return "refers to something that is not here"
        return f"no rule decides on this kind: {row.kind}"

    def _judge(self, rule: Rule, ranked: Sequence[_Tag], judged: Sequence[_Tag], now: datetime) -> None:
        newest = _first(((row.digest, row.age) for row in ranked if row.age), rule.keep_newest)
        numbers = versions(row.tag for row in ranked)
        highest = _first(
            ((row.digest, numbers[row.tag]) for row in ranked if row.tag in numbers), rule.keep_newest_versions
        )
        matching = [(glob, re.compile(fnmatch.translate(glob))) for glob in rule.keep_matching]
        for row in judged:
            matched = next((glob for glob, pattern in matching if pattern.match(row.tag)), "")
            unknown = rule.dates and row.age is None
            unordered = bool(rule.keep_newest_versions) and row.tag not in numbers
            young = rule.age is not None and row.age is not None and row.age >= now - rule.age
            by_age = (
                _among(rule.keep_newest, "image") if row.digest in newest else "",
                f"younger than {rule.keep_younger_than}" if young else "",
            )
            reasons = (
                by_age[0],
                _among(rule.keep_newest_versions, "version") if row.digest in highest else "",
                by_age[1],
                f"matches {matched}" if matched else "",
                (_PARTLY if row.partly else "its age is unknown") if unknown else "",
                "its tag is not a version" if unordered and not rule.dates else "",
                row.used if rule.keep_pulled_within else "",
            )
            stand_in = STAND_INS.get(row.dated, "") if rule.dates and row.age else ""
            if reason := ", ".join(filter(None, reasons)):
                self.kept[row.tag] = "; ".join(filter(None, (reason, stand_in if any(by_age) else "")))
                continue
            unmet = (
                f"not {_among(rule.keep_newest, 'image')}" if rule.keep_newest else "",
                "not a version" if unordered else "",
                f"not {_among(rule.keep_newest_versions, 'version')}"
                if rule.keep_newest_versions and not unordered
                else "",
                f"older than {rule.keep_younger_than}" if rule.keep_younger_than else "",
                f"not pulled for {rule.keep_pulled_within}" if rule.keep_pulled_within else "",
                f"matches none of {', '.join(rule.keep_matching)}" if rule.keep_matching else "",
                "refers to something that is gone" if row.kind == "orphan" else "",
            )
            self.going[row.tag] = "; ".join(filter(None, (", ".join(filter(None, unmet)), stand_in)))

    def _spread(self) -> None:
        """Keep all that belongs to what is kept: siblings, what an index lists, and what refers to these."""
        here = self.held
        shared: set[str] = set()
        staying: set[str] = set()
        tags = list(self.kept)
        while tags:
            tag = tags.pop()
            digest = here.tags[tag]
            belonging: list[tuple[str, str]] = []
            if digest not in shared:
                shared.add(digest)
                belonging += ((other, f"same image as {tag}, which is kept") for other in here.on.get(digest, ()))
            todo = [digest]
            while todo:
                digest = todo.pop()
                if digest in staying or digest not in here.rows:
                    continue
                staying.add(digest)
                referrers = here.referrers.get(digest, ())
                todo += (*here.children.get(digest, ()), *referrers)
                referring = (
                    *(name for one in referrers for name in here.on.get(one, ())),
                    *here.signed.get(digest, ()),
                )
                belonging += ((other, f"refers to {here.title(digest)}, which is kept") for other in referring)
            for other, reason in belonging:
                if other not in self.kept:
                    self.kept[other] = reason
                    tags.append(other)

    def verdicts(self) -> Iterator[Verdict]:
        """Yield what becomes of each tag, in order; the first word of a reason says it, too."""
        for row in self.all:
            kept = self.kept.get(row.tag)
            yield Verdict(
                self.held.name,
                row.tag,
                row.digest,
                row.size,
                any(subject in self.held.rows for subject in row.subjects),
                kept is not None,
                f"kept: {kept}" if kept is not None else f"deleted: {self.going[row.tag]}",
                row.kind,
                row.rule,
            )


def _among(count: int | None, noun: str) -> str:
    return f"the newest {noun}" if count == 1 else f"among the {count} newest {noun}s"


def _first(ranks: Iterable[tuple[str, object]], count: int | None) -> set[str]:
    """Return so many images, each taken at the highest of its ranks; of equal rank with the last, all."""
    best: dict[str, Any] = {}
    for digest, rank in ranks:
        best[digest] = max(best.get(digest, rank), rank)
    if not count or len(best) <= count:
        return set(best) if count else set()
    least = sorted(best.values(), reverse=True)[count - 1]
    return {digest for digest, rank in best.items() if rank >= least}


def decide(
    inventory: Inventory,
    policy: Policy,
    *,
    now: datetime | None = None,
    used: Sequence[Used] = (),
    gone: Collection[tuple[str, str]] = (),
) -> list[Verdict]:
    """Return what becomes of each tag, by repository and tag.

    Args:
        inventory: What is there.
        policy: What is kept.
        now: When ages are counted from; by default now.
        used: What a cluster runs.
        gone: Repositories and digests that are certainly not there, of :func:`missing_subjects`.

    Example:
        >>> decide(inventory, Policy.load("retention.toml"))[0].reason
        'deleted: not among the 2 newest images'
    """
    held = holdings(inventory, set(inventory.tags["repository"]))
    return _decide(inventory, policy, held, Running(inventory, used), now or datetime.now(UTC), gone)


def missing_subjects(inventory: Inventory, policy: str | Path | Policy) -> list[tuple[str, str]]:
    """Return what the orphans that a policy decides on refer to: repositories and digests, for a registry to be asked.

    Over HTTP a manifest without a tag cannot be seen: only by asking for it is it known to be gone.

    Example:
        >>> missing_subjects(inventory, "retention.toml")
        []
    """
    found = read_policy(policy)
    some = {name for name in inventory.tags["repository"].unique() if _rule_of(found, name, "orphan")}
    held = holdings(inventory, some)
    pairs = {
        (name, subject)
        for name, here in held.items()
        for subject in (*here.signed, *here.referrers)
        if subject not in here.rows
    }
    return sorted(pairs)


def _decide(  # noqa: PLR0917 -- what a decision rests on
    inventory: Inventory,
    policy: Policy,
    held: Mapping[str, Held],
    used: Running,
    now: datetime,
    gone: Collection[tuple[str, str]],
    *,
    gaps: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Verdict]:
    known = ages(inventory.tags)
    types, configs = (inventory.manifests[name].array for name in ("artifact_type", "config"))
    unread = set(inventory.problems["reference"])
    columns = (inventory.tags[name].to_list() for name in ("repository", "tag", "kind", "size", "complete"))
    dates = (known[name].to_list() for name in ("age", "dated"))
    tags: dict[str, list[_Tag]] = {}
    rules: dict[tuple[str, str], int] = {}
    locks = inventory.tags["locked"].fillna("").to_list()
    spans = {rule.unused for rule in policy.rules if rule.unused is not None}
    used_since = {span: in_use(inventory.tags, now - span).to_list() for span in spans}
    for at, (name, tag, kind, size, complete, age, dated) in enumerate(zip(*columns, *dates, strict=True)):
        here = held[name]
        digest = here.tags[tag]
        subjects = tuple(filter(None, (here.subject.get(digest), here.signs.get(tag))))
        refers = any(subject in here.rows for subject in subjects)
        row = here.rows.get(digest)
        sort: Kind = "orphan" if subjects and not refers else _kind(kind, "" if row is None else str(types[row]))
        if (name, sort) not in rules:
            rules[name, sort] = _rule_of(policy, name, sort)
        # What could not be read of an image may be the youngest part of it.
        sure = complete and not pd.isna(age) and age <= now + SKEW
        partly = not sure and (not complete or not unread.isdisjoint(_tree(here, digest, configs)))
        rule = 0 if refers else rules[name, sort]
        span = policy.rules[rule - 1].unused if rule else None
        why = used_since[span][at] if span is not None else ""
        tags.setdefault(name, []).append(
            _Tag(tag, digest, age if sure else None, partly, dated, size, subjects, sort, rule, why, locks[at])
        )
    found: list[Verdict] = []
    absent: dict[str, set[str]] = {}
    for name, digest in gone:
        absent.setdefault(name, set()).add(digest)
    for name in sorted(tags):
        rows = sorted(tags[name], key=lambda row: row.tag)
        if inventory.source == "storage":  # where every manifest can be seen
            absent[name] = {subject for row in rows for subject in row.subjects} - held[name].rows.keys()
        decision = _Decision(held[name], rows, used, absent.get(name, set()))
        if name in gaps:
            decision.leave(policy, f"what could not be read may need it: {names(gaps[name])}")
        else:
            decision.follow(policy, now)
        found += decision.verdicts()
    return found


def _tree(held: Held, digest: str, configs: Sequence[str]) -> Iterator[str]:
    """Yield what an image is made of, as far as dates are told by it: manifests, and their configs."""
    todo, seen = [digest], {digest}
    while todo:
        one = todo.pop()
        yield one
        if one in held.rows:
            yield configs[held.rows[one]]
        todo += (child for child in held.children.get(one, ()) if child not in seen)
        seen.update(todo)


def _kind(kind: object, artifact_type: str) -> Kind:
    if artifact_type == HELM_CONFIG:
        return "chart"
    return "artifact" if kind in ("artifact", "attestation", "signature", "sbom") else "image"


def _rule_of(policy: Policy, repository: str, kind: Kind) -> int:
    """Return the number of the first rule that decides on a kind in a repository, from 1; 0 if none does."""
    rules = enumerate(policy.rules, 1)
    return next((number for number, rule in rules if _matches(rule, repository) and rule.decides_on(kind)), 0)


def _matches(rule: Rule, repository: str) -> bool:
    return any(fnmatch.fnmatchcase(repository, glob) for glob in rule.repositories)


def read_policy(policy: str | Path | Policy) -> Policy:
    """Return a policy that is given as a TOML file's path, as its text, or as a policy.

    Raises:
        InvalidArgument: A malformed policy, with line and column.
        StorageError: There is no such file.

    Example:
        >>> read_policy("retention.toml").rules[0].keep_newest
        2
    """
    if isinstance(policy, Policy):
        return policy
    text = isinstance(policy, str) and ("\n" in policy or "[[rule]]" in policy)
    return Policy.parse(str(policy)) if text else Policy.load(policy)


def plan_retention(
    inventory: Inventory,
    policy: str | Path | Policy,
    *,
    url: str,
    authorized: bool,
    storage: str | Path | None = None,
    pulls: str | Path | None = None,
    in_use: InUse = None,
    in_use_host: Iterable[str] = (),
    allow: Iterable[str] = (),
    now: datetime | None = None,
) -> Plan:
    """Plan what a policy removes, with a row and a reason for every tag that is kept, too.

    Args:
        inventory: What is there.
        policy: A TOML file's path, its text, or a policy.
        url: The registry.
        authorized: Whether it wants credentials.
        storage: The registry's own files, for the dates at which tags were pushed: they stand in for unknown ages.
        pulls: The history of pulls that ``regnb pulls`` or ``regnb listen`` wrote.
        in_use: What a cluster runs (:func:`regnb.cluster.running.listed`); it is kept.
        in_use_host: Other host names of this registry, as the cluster's images have them.
        allow: As for a deletion; ``emptying:REPOSITORY``, ``share:REPOSITORY``.
        now: When ages are counted from; by default now.

    Raises:
        InvalidArgument: A malformed policy, with line and column.
        StorageError: There is no such file.
        LimitExceeded: No image of a repository would stay, or more than a rule's share of its tags would go.
        Refused: It could do harm.

    Example:
        >>> print(plan_retention(inventory, "retention.toml", url="http://localhost:5000", authorized=False).summary())
        retention on localhost:5000: 11 tags and 11 manifests will be gone; 44 tags stay as they are;
        the next garbage collection frees at most 2.6 MB, and after it this cannot be undone
    """
    return retain(
        inventory,
        policy,
        url=url,
        authorized=authorized,
        storage=storage,
        pulls=pulls,
        in_use=in_use,
        in_use_host=in_use_host,
        allow=allow,
        now=now,
    )


def retain(
    inventory: Inventory,
    policy: str | Path | Policy,
    *,
    url: str,
    authorized: bool,
    storage: str | Path | None = None,
    pulls: str | Path | None = None,
    in_use: InUse = None,
    in_use_host: Iterable[str] = (),
    allow: Iterable[str] = (),
    now: datetime | None = None,
    gone: Collection[tuple[str, str]] = (),
) -> Plan:
    """Plan as :func:`plan_retention` does, with what the registry was asked for and does not have.

    Args:
        inventory: What is there.
        policy: A TOML file's path, its text, or a policy.
        url: The registry.
        authorized: Whether it wants credentials.
        storage: The registry's own files, for the dates at which tags were pushed.
        pulls: The history of pulls.
        in_use: What a cluster runs.
        in_use_host: Other host names of this registry.
        allow: As for a deletion.
        now: When ages are counted from.
        gone: Which of :func:`missing_subjects` are not there.

    Example:
        >>> retain(inventory, "retention.toml", url="http://localhost:5000", authorized=False).operation
        'retention'
    """
    allowed = check_allow(allow)
    check_inventory(inventory, url)
    policy = read_policy(policy)
    check_catalog(inventory, [name for rule in policy.rules for name in rule.repositories])
    if storage:
        inventory = _dated(inventory, storage)
    if pulls:
        inventory = inventory.with_pulls(pulls)
    held = holdings(inventory, set(inventory.tags["repository"]))
    protection = protect(inventory, in_use, in_use_host, needed=inventory.whole)
    used = protection.running
    gaps = unknown(inventory, [name for name in held if not allows(allowed, "incomplete", name)])
    verdicts = _decide(inventory, policy, held, used, now or datetime.now(UTC), gone, gaps=gaps)
    # What refers to something is not picked itself: it goes with that, and only if that really goes.
    going = {(row.repository, row.tag): row.reason for row in verdicts if not row.keep}
    picked = [Picked(row.repository, row.tag) for row in verdicts if not (row.keep or row.refers)]
    found = remove(inventory, held, picked, used=used, reasons=going, allow=allowed)
    lost = {
        (step.repository, tag) for steps in found.steps.values() for step in steps for tag in step.tags or (step.tag,)
    }
    _check_limits(policy, verdicts, lost, allowed)
    groups: dict[str, list[Step]] = {}
    for row in verdicts:
        steps = groups.setdefault(row.repository, [])
        if (row.repository, row.tag) not in lost:
            steps.append(
                Step(
                    action="keep",
                    repository=row.repository,
                    tag=row.tag,
                    before=row.digest,
                    after=row.digest,
                    size=row.size,
                    reason=row.reason if row.keep else "kept: its subject cannot be deleted",
                )
            )
    return Plan(
        operation="retention",
        url=url,
        steps=numbered(part for name, kept in groups.items() for part in (kept, found.steps.get(name, []))),
        effects=found.effects,
        freed=found.freed,
        notes=(
            *protection.notes,
            *found.notes,
            *_unjudged(inventory, verdicts),
            *_unused(policy, verdicts, groups),
            *_blocked(gaps),
        ),
        allow=allowed,
        authorized=authorized,
    )


def _dated(inventory: Inventory, storage: str | Path) -> Inventory:
    """Return an inventory with the push dates of its registry's storage."""
    tags = with_pushed(inventory.tags, open_storage(storage).inventory().tags)
    if tags["pushed"].isna().all() and len(tags):
        raise InvalidArgument(
            f"{redact(storage)} holds no tag of {inventory.registry} on the same digest, so no push dates for it",
            hint="name the folder, or the URL, of this registry's own storage",
        )
    frames = {**inventory.frames, "tags": tags}
    return Inventory(inventory.registry, inventory.started, inventory.finished, frames, inventory.source)


def _check_limits(
    policy: Policy, verdicts: Iterable[Verdict], lost: Collection[tuple[str, str]], allow: Collection[str]
) -> None:
    """Refuse to leave a repository without an image, or to remove more than a rule's share of its tags."""
    repositories: dict[str, list[Verdict]] = {}
    for row in verdicts:
        repositories.setdefault(row.repository, []).append(row)
    texts: dict[str, str] = {}
    for name, rows in repositories.items():
        going = sum((name, row.tag) in lost for row in rows)
        images = [row for row in rows if row.kind != "orphan" and not row.refers]
        kept = any(row.digest and (name, row.tag) not in lost for row in images)
        if going == len(rows) or (not kept and any((name, row.tag) in lost for row in images)):
            if not allows(allow, "emptying", name):
                texts[f"emptying:{name}"] = f"no image of {name} would stay"
            continue
        for number, rule in enumerate(policy.rules, 1):
            ruled = [row for row in images if row.rule == number]
            goes = sum((name, row.tag) in lost for row in ruled)
            if goes > rule.share * len(ruled) and not allows(allow, "share", name):
                texts[f"share:{name}"] = (
                    f"{goes:,} of {len(ruled):,} tags of {name} would be removed (rule {number} removes at most "
                    f"{rule.remove_at_most})"
                )
    if texts:
        raise LimitExceeded(
            f"the policy would remove too much: {names(list(texts.values()))}",
            hint=f"check the rule, or set its remove_at_most; {once(list(texts))}",
            allow=list(texts),
        )


def _unjudged(inventory: Inventory, verdicts: Iterable[Verdict]) -> Iterator[str]:
    rows = inventory.repositories
    if unread := sorted(rows.loc[rows["status"].isin(["missing", "failed", "denied"]), "repository"]):
        yield f"The policy was not applied to {names(unread)}: their tags could not be listed."
    if partly := [f"{row.repository}:{row.tag}" for row in verdicts if row.keep and _PARTLY in row.reason]:
        yield f"The policy could not judge the age of {names(partly)}: part of what they need could not be read."


def _blocked(gaps: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, texts in sorted(gaps.items()):
        yield f"Nothing goes from {name}: {names(texts)} may need it; {once([f'incomplete:{name}'])}."


def _unused(policy: Policy, verdicts: Iterable[Verdict], repositories: Collection[str]) -> Iterator[str]:
    ruling = {row.rule for row in verdicts}
    for number, rule in enumerate(policy.rules, 1):
        if number not in ruling:
            some = ", ".join(rule.repositories)
            if any(_matches(rule, name) for name in repositories):
                yield f"Rule {number} decides on no tag: {some}."
            else:
                yield f"Rule {number} decides on no repository: {some}."

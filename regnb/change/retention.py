"""Plan what a retention policy removes: a verdict with a reason for every tag, and the deletion of what is not kept."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from regnb.analysis.inventory import Inventory
from regnb.change.plan import Plan, Step, allows, check_allow, once
from regnb.change.policy import NO_YEAR, Policy, Rule, version_key
from regnb.change.removal import (
    Held,
    Running,
    check_catalog,
    check_inventory,
    holdings,
    numbered,
    remove,
    unknown,
)
from regnb.cluster.running import InUse, Used, running
from regnb.crawl.selection import Picked
from regnb.text import names


class Verdict(NamedTuple):
    """What becomes of a tag.

    Attributes:
        digest: "" if it could not be read.
        size: Bytes behind it.
        refers: Whether it is a signature or the like: it shares the fate of what it refers to.
    """

    repository: str
    tag: str
    digest: str
    size: int
    refers: bool
    keep: bool
    reason: str


class _Tag(NamedTuple):
    tag: str
    digest: str
    created: datetime | None
    size: int
    subjects: tuple[str, ...]


class _Decision:
    """The verdicts on one repository."""

    def __init__(self, held: Held, tags: Sequence[_Tag], used: Running) -> None:
        self.held = held
        self.all = tags
        self.used = used
        self.kept: dict[str, str] = {}
        self.going: dict[str, str] = {}

    def everything(self, reason: str) -> None:
        """Keep every tag."""
        self.kept = dict.fromkeys(self.held.tags, reason)

    def follow(self, rule: Rule, now: datetime) -> None:
        """Keep what the rule keeps, what runs, what cannot be judged, and what belongs to these."""
        here = self.held
        if here.unread:
            self.everything(f"nothing is deleted by digest where a tag could not be read: {names(here.unread)}")
            self.kept |= dict.fromkeys(here.unread, "could not be read")
            return
        judged = []
        for row in self.all:
            if row.digest not in here.rows:
                gone = ": its manifest is gone" if row.tag in here.dangling else ""
                self.kept[row.tag] = f"could not be read{gone}"
            elif where := self.used.where(here.name, row.tag, row.digest):
                self.kept[row.tag] = f"runs in the cluster ({where})"
            elif row.digest in here.schema1:
                self.kept[row.tag] = "of the withdrawn schema 1, whose digest cannot be relied on"
            elif not row.subjects:
                judged.append(row)
            elif not any(subject in here.rows for subject in row.subjects):
                self.kept[row.tag] = "refers to something that is not here"
            else:
                self.going[row.tag] = f"refers to {here.title(row.subjects[0])}, which goes"
        # What is kept for another reason counts among the newest, too.
        self._judge(rule, [row for row in self.all if row.digest in here.rows and not row.subjects], judged, now)
        self._spread()

    def _judge(self, rule: Rule, ranked: Sequence[_Tag], judged: Sequence[_Tag], now: datetime) -> None:
        newest = _newest(ranked, rule.keep_newest)
        versions = _newest_versions(ranked, rule.keep_newest_versions)
        matching = [(glob, re.compile(fnmatch.translate(glob))) for glob in rule.keep_matching]
        lacks = (
            f"not {_among(rule.keep_newest, 'image')}" if rule.keep_newest else "",
            f"not {_among(rule.keep_newest_versions, 'version')}" if rule.keep_newest_versions else "",
            f"older than {rule.keep_younger_than}" if rule.keep_younger_than else "",
            f"matches none of {', '.join(rule.keep_matching)}" if rule.keep_matching else "",
        )
        going = ", ".join(filter(None, lacks))
        for row in judged:
            matched = next((glob for glob, pattern in matching if pattern.match(row.tag)), "")
            reasons = (
                _among(rule.keep_newest, "image") if row.digest in newest else "",
                _among(rule.keep_newest_versions, "version") if row.digest in versions else "",
                f"younger than {rule.keep_younger_than}"
                if rule.age and row.created and row.created >= now - rule.age
                else "",
                f"matches {matched}" if matched else "",
                "its age is unknown" if not row.created and (rule.keep_newest or rule.age) else "",
            )
            if reason := ", ".join(filter(None, reasons)):
                self.kept[row.tag] = reason
            else:
                self.going[row.tag] = going

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
        """Yield what becomes of each tag, in order."""
        for row in self.all:
            kept = self.kept.get(row.tag)
            yield Verdict(
                self.held.name,
                row.tag,
                row.digest,
                row.size,
                bool(row.subjects),
                kept is not None,
                kept or self.going[row.tag],
            )


def _among(count: int | None, noun: str) -> str:
    return f"the newest {noun}" if count == 1 else f"among the {count} newest {noun}s"


def _newest(tags: Iterable[_Tag], count: int | None) -> set[str]:
    """Return the images that were created last; of equal age the higher version, then the later name."""
    return _first({row: (row.created, version_key(row.tag) or (), row.tag) for row in tags if row.created}, count)


def _newest_versions(tags: Iterable[_Tag], count: int | None) -> set[str]:
    """Return the images with the highest versions, each taken at the highest of its tags."""
    return _first({row: (version, row.tag) for row in tags if (version := version_key(row.tag))}, count)


def _first(ranks: Mapping[_Tag, Any], count: int | None) -> set[str]:
    """Return so many images, the highest ranks first."""
    order = sorted(ranks, key=lambda row: ranks[row], reverse=True)
    return set(list(dict.fromkeys(row.digest for row in order))[: count or 0])


def decide(
    inventory: Inventory, policy: Policy, *, now: datetime | None = None, used: Sequence[Used] = ()
) -> list[Verdict]:
    """Return what becomes of each tag, by repository and tag.

    Args:
        inventory: What is there.
        policy: What is kept.
        now: When ages are counted from; by default now.
        used: What a cluster runs.

    Example:
        >>> decide(inventory, Policy.load("retention.toml"))[0].reason  # doctest: +SKIP
        'among the 10 newest images'
    """
    held = holdings(inventory, set(inventory.tags["repository"]))
    return _decide(inventory, policy, held, Running(inventory, used), now or datetime.now(UTC))


def _decide(
    inventory: Inventory,
    policy: Policy,
    held: Mapping[str, Held],
    used: Running,
    now: datetime,
    *,
    gaps: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Verdict]:
    columns = (inventory.tags[name].to_list() for name in ("repository", "tag", "created", "size"))
    tags: dict[str, list[_Tag]] = {}
    for name, tag, created, size in zip(*columns, strict=True):
        here = held[name]
        digest = here.tags[tag]
        # Builders that leave the date out for the sake of equal bytes write the first second of 1970, or the next.
        known = created is not pd.NaT and created.year > NO_YEAR
        subjects = tuple(filter(None, (here.subject.get(digest), here.signs.get(tag))))
        tags.setdefault(name, []).append(_Tag(tag, digest, created if known else None, size, subjects))
    found: list[Verdict] = []
    for name in sorted(tags):
        decision = _Decision(held[name], sorted(tags[name]), used)
        rule = _rule_of(policy, name)
        if rule is None:
            decision.everything("no rule names this repository")
        elif rule.never_touch:
            decision.everything("its rule says never to touch it")
        elif name in gaps:
            decision.everything(f"what could not be read may need it: {names(gaps[name])}")
        else:
            decision.follow(rule, now)
        found += decision.verdicts()
    return found


def _rule_of(policy: Policy, repository: str) -> Rule | None:
    return next((rule for rule in policy.rules if _matches(rule, repository)), None)


def _matches(rule: Rule, repository: str) -> bool:
    return any(fnmatch.fnmatchcase(repository, glob) for glob in rule.repositories)


def plan_retention(
    inventory: Inventory,
    policy: str | Path | Policy,
    *,
    url: str,
    authorized: bool,
    in_use: InUse = None,
    allow: Iterable[str] = (),
    now: datetime | None = None,
) -> Plan:
    """Plan what a policy removes, with a row and a reason for every tag that is kept, too.

    Args:
        inventory: What is there.
        policy: A TOML file's path, its text, or a policy.
        url: The registry.
        authorized: Whether it wants credentials.
        in_use: What a cluster runs (:func:`regnb.cluster.running.running`); it is kept.
        allow: As for a deletion.
        now: When ages are counted from; by default now.

    Raises:
        InvalidArgument: A malformed policy, with line and column.
        StorageError: There is no such file.
        Refused: It could do harm.

    Example:
        >>> plan_retention(inventory, "retention.toml", url=url, authorized=False).to_frame()  # doctest: +SKIP
    """
    allowed = check_allow(allow)
    check_inventory(inventory, url)
    if not isinstance(policy, Policy):
        text = isinstance(policy, str) and ("\n" in policy or "[[rule]]" in policy)
        policy = Policy.parse(str(policy)) if text else Policy.load(policy)
    check_catalog(inventory, [name for rule in policy.rules for name in rule.repositories])
    held = holdings(inventory, set(inventory.tags["repository"]))
    used = Running(inventory, running(in_use))
    gaps = unknown(inventory, [name for name in held if not allows(allowed, "incomplete", name)])
    verdicts = _decide(inventory, policy, held, used, now or datetime.now(UTC), gaps=gaps)
    # What refers to something is not picked itself: it goes with that, and only if that really goes.
    going = {(row.repository, row.tag): row.reason for row in verdicts if not row.keep}
    picked = [Picked(row.repository, row.tag) for row in verdicts if not (row.keep or row.refers)]
    found = remove(inventory, held, picked, used=used, reasons=going, allow=allowed)
    gone = {
        (step.repository, tag) for steps in found.steps.values() for step in steps for tag in step.tags or (step.tag,)
    }
    groups: dict[str, list[Step]] = {}
    for row in verdicts:
        steps = groups.setdefault(row.repository, [])
        if (row.repository, row.tag) not in gone:
            steps.append(
                Step(
                    action="keep",
                    repository=row.repository,
                    tag=row.tag,
                    before=row.digest,
                    after=row.digest,
                    size=row.size,
                    reason=row.reason if row.keep else "what it refers to cannot go",
                )
            )
    return Plan(
        operation="retention",
        url=url,
        steps=numbered(part for name, kept in groups.items() for part in (kept, found.steps.get(name, []))),
        effects=found.effects,
        freed=found.freed,
        notes=(*found.notes, *_unjudged(inventory), *_unused(policy, groups), *_blocked(gaps)),
        allow=allowed,
        authorized=authorized,
    )


def _unjudged(inventory: Inventory) -> Iterator[str]:
    rows = inventory.repositories
    if unread := sorted(rows.loc[rows["status"].isin(["failed", "denied"]), "repository"]):
        yield f"The policy was not applied to {names(unread)}: their tags could not be listed."


def _blocked(gaps: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, texts in sorted(gaps.items()):
        yield f"Nothing goes from {name}: {names(texts)} may need it; {once([f'incomplete:{name}'])}."


def _unused(policy: Policy, repositories: Collection[str]) -> Iterator[str]:
    for number, rule in enumerate(policy.rules, 1):
        if not any(_rule_of(policy, name) is rule for name in repositories):
            yield f"Rule {number} decides on no repository: {', '.join(rule.repositories)}."

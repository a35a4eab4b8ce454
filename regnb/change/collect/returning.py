"""Plans over a trash: what is put back, what is removed for good, and what undo of a deletion needs of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import TypeAlias

import msgspec

from regnb.change.collect.application import lost, name
from regnb.change.collect.place import Place, Run
from regnb.change.collect.planning import deletions
from regnb.change.collect.state import State
from regnb.change.journal import Receipt
from regnb.change.plan import Effect
from regnb.change.sweep import PHASES, Options, Row, Sweep, check_allow
from regnb.crawl.records import describe
from regnb.errors import PlanMismatch
from regnb.text import count, human, names

_Thing: TypeAlias = tuple[str, str, str]
"""What can lie in the trash: its kind, repository and reference."""


def plan_restore(known: Iterable[Run], url: str, run: str, *, wanted: Callable[[Row], bool] = lambda _: True) -> Sweep:
    """Plan to put back what a collection moved into the trash, or to forget what it listed.

    Args:
        known: What the trash holds.
        url: The storage.
        run: The name of the run, which is that of the receipt.
        wanted: Which rows.

    Raises:
        PlanMismatch: The trash does not have it, or its removal was begun.

    Example:
        ``plan_restore(trash.runs(), "/srv/registry", "20261129T120000-4f2a91cc")``
    """
    found = next((one for one in known if one.run == run), None)
    if found is None:
        text = f"the trash of {url} has no run {run[:80]}"
        raise PlanMismatch(text, hint="regnb trash list names them; what was emptied cannot be put back")
    if found.begun:
        text = f"the removal of run {run} was begun and cut short: what is left of it cannot be put back"
        raise PlanMismatch(text, hint=f"remove the rest: regnb trash empty {quote(url)}")
    reason = f"{'listed' if found.listed else 'moved'} by run {run}"
    rows = [msgspec.structs.replace(row, youngest="", reason=reason) for row in found.rows if wanted(row)]
    rows.sort(key=lambda row: -PHASES.index(row.kind))
    note = "What is there again meanwhile stays."
    if found.listed:
        note = "This run only listed its rows: nothing was removed. The list is forgotten, and nothing else changes."
    options = Options(place=found.options.place)
    return Sweep(operation="restore", url=url, steps=tuple(rows), options=options, run=run, notes=(note,))


def due(known: Iterable[Run], older_than: int, now: datetime | None = None) -> list[Run]:
    """Return the runs that are old enough to be removed, and those whose removal was begun.

    Args:
        known: What the trash holds.
        older_than: Seconds since it was moved there, or listed.
        now: When ages are counted from.

    Example:
        >>> run = Run("20261129T120000-4f2a91cc", datetime(2026, 11, 29, 12, tzinfo=UTC), ())
        >>> [len(due([run], seconds, datetime(2026, 11, 30, 12, tzinfo=UTC))) for seconds in (86_400, 86_401)]
        [1, 0]
    """
    now = now or datetime.now(UTC)
    return [run for run in known if run.begun or _age(run, now) >= older_than]


def asking(draft: Sweep, runs: Iterable[Run], endpoints: Sequence[str] = (), allow: Iterable[str] = ()) -> Sweep:
    """Return a plan to remove some runs that says whom to ask whether anybody can push, and what is allowed.

    A push may need what was only listed; what was moved into a trash it may not.

    Args:
        draft: The plan before that is known.
        runs: Those to be removed.
        endpoints: Of the registry; by default those that the runs named.
        allow: Of :data:`regnb.change.sweep.ALLOWANCES`; also what the runs were allowed.

    Example:
        >>> listed = Options(place="list", endpoints=("http://stopped:5000",))
        >>> run = Run("20261129T120000-4f2a91cc", datetime.now(UTC), (), listed, ("writer",))
        >>> plan = asking(Sweep(operation="empty", url="s3://registry", steps=()), [run])
        >>> plan.options.endpoints, plan.allow, plan.takes
        (('http://stopped:5000',), ('writer',), True)
    """
    given = check_allow(allow)
    listed = [run for run in runs if run.listed]
    if not listed:
        return draft
    named = dict.fromkeys(endpoints or (url for run in listed for url in run.options.endpoints))
    allowed = {*given}.union(*(run.allow for run in listed))
    options = Options(endpoints=tuple(named), place="list")
    return msgspec.structs.replace(draft, options=options, allow=tuple(sorted(allowed)))


def plan_empty(
    draft: Sweep,
    place: Place,
    known: Sequence[Run],
    *,
    old: Sequence[Run],
    state: State,
    collect: Callable[[Place, State, Options, Iterable[str]], Sweep],
    undo: Iterable[Effect] = (),
) -> Sweep:
    """Plan to remove for good what lies in the trash, or what was listed and is still garbage.

    Args:
        draft: Says whom to ask whether anybody can push (:func:`asking`).
        place: The storage, with its trash; it is told which rows of each run are still garbage.
        known: What the trash holds.
        old: The runs to be removed (:func:`due`).
        state: What the storage holds: what a manifest there needs and only the trash has is never removed.
        collect: Plans a collection with some options and allowances again.
        undo: What is said of runs that undo of a deletion needs (:func:`undone`).

    Example:
        ``plan_empty(asking(draft, old), trash, trash.runs(), old=old, state=state, collect=collect)``
    """
    place.look(state)
    stranded = {effect.reference: effect for effect in needed(old, draft.url, state)}
    steps, effects = list[Row](), list[Effect]()
    garbage: dict[str, Sequence[Row]] = {}
    for run in old:
        when = run.moved.isoformat(timespec="seconds")
        if run.listed:
            garbage[run.run] = rows = still(run, collect(place, state, run.options, run.allow).steps)
            size = sum(row.size for row in rows)
            reason = f"listed on {run.moved:%Y-%m-%d %H:%M} UTC: {count(len(run.rows), 'thing')}"
            reason += f", of which {len(rows):,} ({human(size)}) {'is' if len(rows) == 1 else 'are'} still garbage"
            steps.append(Row(kind="run", reference=run.run, size=size, youngest=when, reason=reason))
            continue
        if run.run in stranded:
            effects.append(stranded[run.run])
            continue
        verb = "removal begun and cut short, moved" if run.begun else "moved"
        reason = f"{verb} on {run.moved:%Y-%m-%d %H:%M} UTC: {count(len(run.rows), 'thing')}, {human(run.size)}"
        steps.append(Row(kind="run", reference=run.run, size=run.size, youngest=when, reason=reason))
    place.choose(garbage)
    gone = {row.reference for row in steps}
    effects += (effect for effect in undo if effect.reference in gone)
    notes = ["What is removed from the trash cannot be put back, and undo of earlier deletions may need it."]
    if young := len(known) - len(old):
        bytes_ = human(sum(run.size for run in known if run not in old))
        notes.append(f"Not old enough yet, and kept: {count(young, 'run')} ({bytes_}).")
    witness = state.witness() if garbage else ("", "")
    return msgspec.structs.replace(
        draft, steps=tuple(steps), effects=tuple(effects), notes=tuple(notes), witness=witness
    )


def needed(runs: Sequence[Run], url: str, state: State) -> list[Effect]:
    """Name the runs that have what a manifest or a tag needs again: a push needed it, and no look put it back.

    Args:
        runs: What the trash holds.
        url: The storage.
        state: What the storage holds.

    Example:
        ``needed(trash.runs(), "/srv/registry", state)``
    """
    moved = [run for run in runs if not run.listed]
    again = set(lost(state, {name(row) for run in moved for row in run.rows})) if moved else set()
    found = []
    for run in moved:
        if number := len(again.intersection(map(name, run.rows))):
            verb = "is" if number == 1 else "are"
            hint = "push that image again" if run.begun else f"put it back: regnb trash restore {quote(url)} {run.run}"
            text = f"{count(number, 'thing')} in this run of the trash {verb} needed again; {hint}"
            found.append(Effect("needed", "", run.run, run.size, text))
    return found


def _age(run: Run, now: datetime) -> float:
    """Return how many seconds ago a run was moved; none if the clock was set back since."""
    return max(0.0, (now - run.moved).total_seconds())


def still(run: Run, now: Sequence[Row]) -> list[Row]:
    """Return the rows of a run that was only listed which are garbage now, and were not written again since.

    What a killed removal left is older than it was if the youngest link to it is gone.

    Args:
        run: What was listed.
        now: The rows of the same collection, planned again.

    Example:
        >>> row = Row(kind="upload", repository="app", reference="1", youngest="2026-11-29T12:00:00.000000+00:00")
        >>> again = msgspec.structs.replace(row, youngest="2026-11-30T12:00:00.000000+00:00")
        >>> [len(still(Run("r", datetime.now(UTC), (one,)), [other])) for one, other in ((row, again), (again, row))]
        [0, 1]
    """
    there = {row.path: row for row in now}
    pairs = ((row, there.get(row.path)) for row in run.rows)
    return [row for row, one in pairs if one and one.youngest <= row.youngest and one.size <= row.size]


def plan_return(place: Place, url: str, receipt: Receipt) -> list[Sweep]:
    """Plan to put back what undo of a deletion needs and collections have moved away since: a plan for each run.

    Args:
        place: The storage, with its trash.
        url: The storage.
        receipt: Of the deletion.

    Example:
        ``plan_return(trash, "/srv/registry", Receipt.load("20261129T120000-4f2a91cc"))``
    """
    known = [run for run in place.runs() if not (run.listed or run.begun)]
    things = _things(place, known, receipt)

    def wanted(row: Row) -> bool:
        return _thing(row) in things

    found = [plan_restore(known, url, run.run, wanted=wanted) for run in known if any(map(wanted, run.rows))]
    return found[::-1]


def undone(place: Place, runs: Sequence[Run]) -> list[Effect]:
    """Name the runs that have what undo of a receipt at hand needs.

    Args:
        place: The storage, with its trash.
        runs: What the trash holds.

    Example:
        ``undone(trash, trash.runs())``
    """
    moved = [run for run in runs if not run.listed]
    needs: dict[_Thing, list[str]] = {}
    for receipt in deletions() if moved else ():
        for thing in _things(place, moved, receipt):
            needs.setdefault(thing, []).append(receipt.name)
    found = []
    for run in moved:
        rows = [row for row in run.rows if _thing(row) in needs]
        if rows:
            who = names(sorted({receipt for row in rows for receipt in needs[_thing(row)]}))
            text = f"undo of {who} needs {count(len(rows), 'thing')} of this run, and fails once it is removed"
            found.append(Effect("undo", "", run.run, sum(row.size for row in rows), text))
    return found


def _thing(row: Row) -> _Thing:
    if row.kind in ("blob", "manifest"):
        return "blob", "", row.reference
    return row.kind, row.repository, row.reference


def _things(place: Place, runs: Sequence[Run], receipt: Receipt) -> set[_Thing]:
    """Return what undo of a deletion needs on disk."""
    found: set[_Thing] = set()
    todo = [(step.repository, step.before) for step in receipt.plan.steps if step.writes and step.before]
    seen: set[tuple[str, str]] = set()
    while todo:
        where = todo.pop()
        if where in seen:
            continue
        seen.add(where)
        repository, digest = where
        raw = receipt.content(digest)
        found |= {("blob", "", digest), ("layer link", repository, digest)}
        if raw is None:  # a manifest that was deleted is put back by undo, through the registry
            found.add(("revision", repository, digest))
        data = raw.data if raw else place.content(digest, runs)
        if data is None:
            continue
        record, _, _ = describe(digest, raw.media_type if raw else "", data)
        for needed in {record.config, *record.layers} - {""}:
            found |= {("blob", "", needed), ("layer link", repository, needed)}
        todo += [(repository, child) for child in record.children]
    return found

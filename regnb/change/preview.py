"""How a plan is shown: one sentence, what the registry will refuse, what is touched, and only then what stays."""

from __future__ import annotations

import html as html_
from typing import TYPE_CHECKING, Final

from regnb.tables.columns import COLUMNS
from regnb.text import count, escaped, human

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regnb.change.plan import Plan, Step
    from regnb.tables.frame import Frame

_SHOWN: Final = ("action", "repository", "tag", "reason", "size", "before", "after")
"""Columns of a row that people read; those that are empty in every row are left out."""
_HARMLESS: Final = {"copy": {"referrer"}}
"""Effects that take nothing away, by operation."""
_CURLS: Final = 50
"""Steps whose commands are shown below the plan."""


def summary(plan: Plan) -> str:
    """Return a plan in one sentence: what will be set and gone, what stays, and until when it can be undone.

    Example:
        >>> from regnb.change.plan import Plan, Step
        >>> gone = Step(action="delete", repository="a", before=f"sha256:{'0' * 64}", tags=("1",))
        >>> summary(Plan(operation="delete", url="http://localhost:5000", steps=(gone,))).split("; ")[0]
        'delete on localhost:5000: 1 tag and 1 manifest will be gone'
    """
    return f"{plan.operation} on {plan.host}: {'; '.join(_clauses(plan))}"


def _clauses(plan: Plan) -> Iterator[str]:
    done: dict[str, list[Step]] = {action: [] for action in ("tag", "put", "untag", "delete", "keep")}
    for step in plan.steps:
        done[step.action].append(step)
    moved = sum(bool(step.before) for step in done["tag"])
    tags = len(done["untag"]) + sum(len(step.tags) for step in done["delete"])
    gone = [count(number, noun) for number, noun in ((tags, "tag"), (len(done["delete"]), "manifest")) if number]
    will = [
        f"{what} will be {verb}"
        for number, what, verb in (
            (len(done["tag"]) - moved, count(len(done["tag"]) - moved, "tag"), "set"),
            (moved, count(moved, "tag"), "moved to another manifest"),
            (len(done["put"]), count(len(done["put"]), "manifest"), "put"),
            (len(gone), " and ".join(gone), "gone"),
        )
        if number
    ]
    yield ", ".join(will) or "nothing to do"
    if plan.moved:
        yield f"at most {human(plan.moved)} will be sent"
    if alone := sum(bool(step.before) for step in done["untag"]):
        what = f"of {alone:,} of these tags " if alone < tags else ""
        yield f"the manifest {what}stays" if alone == 1 else f"the manifests {what}stay"
    if number := len(done["keep"]):
        yield _unchanged(number)
    if (done["delete"] or moved) and plan.collected:
        who = f"{plan.collector} by itself" if plan.collector else "the next garbage collection"
        does = f"frees at most {human(plan.freed)}" if plan.freed else "may remove data that then has no tag"
        yield f"{who} {does}, and after {'that' if plan.collector else 'it'} this cannot be undone"
    elif will and plan.final:
        yield "it cannot be undone: remove the file instead"
    elif will:
        yield "it can be undone"


def _unchanged(number: int) -> str:
    return "1 tag stays as it is" if number == 1 else f"{number:,} tags stay as they are"


def frame(plan: Plan) -> Frame:
    """Return a row for each step, those that change something first; the index is the step's number.

    Example:
        >>> from regnb.change.plan import Plan, Step
        >>> steps = (Step(action="keep", repository="a", tag="1"), Step(action="untag", repository="a", tag="2"))
        >>> frame(Plan(operation="delete", url="http://localhost:5000", steps=steps))["tag"].to_dict()
        {1: '2', 0: '1'}
    """
    from regnb.tables.frame import Frame, of_rows  # pandas waits for a frame

    refused = {action: one.message for one in plan.refusals for action in one.actions}
    order = sorted(range(len(plan.steps)), key=lambda number: not plan.steps[number].writes)
    rows = []
    for number in order:
        step = plan.steps[number]
        # Where nothing changes there is nothing to compare.
        before, after = (None, None) if step.before == step.after or not step.writes else (step.before, step.after)
        about = (len(step.tags), step.size or None, step.reason, refused.get(step.action, ""), plan.curl(number))
        rows.append((step.action, step.repository, plan.name(number), before or None, after or None, *about))
    return Frame(of_rows("plan", rows).set_axis(order))


def blast(plan: Plan) -> Frame:
    """Return a row for each effect, those that only say what stays last.

    Example:
        >>> from regnb.change.plan import Effect, Plan
        >>> effects = (Effect("shared", "b"), Effect("tag", "a", "1"))
        >>> blast(Plan(operation="delete", url="http://localhost:5000", steps=(), effects=effects))["effect"].to_list()
        ['tag', 'shared']
    """
    from regnb.tables.frame import of_rows  # pandas waits for a frame

    return of_rows("effects", (one.row for one in sorted(plan.effects, key=lambda one: one.effect == "shared")))


def touched(rows: Frame) -> Frame:
    """Return the columns that people read of the rows of :func:`frame` that change something.

    Example:
        >>> from regnb.change.plan import Plan
        >>> len(touched(frame(Plan(operation="delete", url="http://localhost:5000", steps=()))))
        0
    """
    return _read(rows, rows["action"] != "keep")


def kept(rows: Frame) -> Frame:
    """Return the columns that people read of the rows of :func:`frame` that change nothing.

    Example:
        >>> from regnb.change.plan import Plan
        >>> len(kept(frame(Plan(operation="delete", url="http://localhost:5000", steps=()))))
        0
    """
    return _read(rows, rows["action"] == "keep")


def _read(rows: Frame, which: object) -> Frame:
    from regnb.tables.frame import Frame  # pandas waits for a frame

    some = rows[which]
    return Frame(some[[name for name in _SHOWN if not some[name].isin(["", None]).all() or name == "action"]])


def stays(plan: Plan) -> list[str]:
    """Return what merely stays, a line for each kind: rows that change nothing, and bytes that other images need.

    Example:
        >>> from regnb.change.plan import Effect, Plan
        >>> effects = (Effect("shared", "b", size=1_000), Effect("shared", "c", size=2_000))
        >>> stays(Plan(operation="delete", url="http://localhost:5000", steps=(), effects=effects))
        ['2 repositories need some of these layers: they stay']
    """
    found = []
    if number := len(plan.steps) - plan.changes:
        found.append(_unchanged(number))
    if number := sum(one.effect == "shared" for one in plan.effects):
        what = "1 repository needs" if number == 1 else f"{number:,} repositories need"
        found.append(f"{what} some of these layers: they stay")
    return found


def html(plan: Plan, confirm: str = "", most: int | None = None) -> str:
    """Return a plan for people.

    Args:
        plan: Of any operation.
        confirm: HTML that says how it is confirmed, below the first sentence.
        most: Rows of a table, before the rest is only counted; by default as many as pandas shows.

    Example:
        >>> from regnb.change.plan import Plan
        >>> "nothing to do" in html(Plan(operation="delete", url="http://localhost:5000", steps=()))
        True
    """
    parts = [f"<p><b>{escaped(plan.summary())}</b></p>", confirm]
    for one in plan.refusals:
        kind, role = ("bad", "alert") if one.known else ("warn", "status")
        hint = f"<br>{escaped(one.hint)}" if one.hint else ""
        parts.append(f"<div class='regnb-box regnb-{kind}' role='{role}'><b>{escaped(one.message)}</b>{hint}</div>")
    effects = plan.blast
    goes, shared = effects[effects["effect"] != "shared"], effects[effects["effect"] == "shared"]
    if len(goes):
        counts = goes["effect"].value_counts()
        words = ", ".join(f"{number:,} &times; {escaped(str(effect))}" for effect, number in counts.items())
        kind = "bad" if set(counts.index) - _HARMLESS.get(plan.operation, set()) else "warn"
        parts.append(f"<div class='regnb-box regnb-{kind}'><b>What else this touches: {words}</b>")
        parts.append(_rows(goes, [*COLUMNS["effects"]], most) + "</div>")
    elif plan.changes:
        parts.append("<div class='regnb-box regnb-good' role='status'><b>Nothing else is affected.</b></div>")
    rows = plan.to_frame()
    changed, same = touched(rows), kept(rows)
    if len(changed):
        parts += ["<h4 aria-level='3'>Rows</h4>", _rows(changed, [*changed.columns], most)]
    lines = stays(plan)
    for line, some in zip(lines, [some for some in (same, shared) if len(some)], strict=True):
        parts.append(f"<details><summary>{escaped(line)}</summary>{_rows(some, [*some.columns], most)}</details>")
    if plan.notes:
        parts += ["<ul>", *(f"<li>{escaped(note)}</li>" for note in plan.notes), "</ul>"]
    numbers = [number for number, step in enumerate(plan.steps) if step.writes]
    if numbers:
        text = "\n\n".join(f"# row {number}\n{plan.curl(number)}" for number in numbers[:_CURLS])
        rest = f"<p>{len(numbers) - _CURLS:,} more: <code>plan.curl(row)</code></p>" if numbers[_CURLS:] else ""
        shown = html_.escape(text)
        parts.append(f"<details><summary>The same with curl</summary><pre>{shown}</pre>{rest}</details>")
    return "".join(parts)


def _rows(some: Frame, columns: list[str], most: int | None) -> str:
    import pandas as pd  # pandas waits for a frame

    from regnb.tables.frame import Frame

    most = int(pd.get_option("display.max_rows") or len(some)) if most is None else most
    more = "<p>In Python the frames are whole: plan.to_frame(), plan.blast.</p>" if len(some) > most else ""
    with pd.option_context("display.max_rows", most):
        return f"<div class='regnb-scroll'>{Frame(some[columns])._repr_html_()}</div>{more}"

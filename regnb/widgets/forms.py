"""Forms for notebooks and Voilà: choose, preview, type the plan's code, apply, and take it back.

Every operation is the same :class:`Form`: it says only what its fields are, and how a plan is made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import pandas as pd

from regnb.analysis.find import pull
from regnb.analysis.image import Image
from regnb.analysis.inventory import Inventory
from regnb.change import journal
from regnb.change.journal import Receipt
from regnb.change.options import CHECKS, CHECKS_OF_A_REPOSITORY, OPTIONS
from regnb.change.plan import Plan
from regnb.change.policy import Policy
from regnb.change.preview import html
from regnb.errors import InvalidArgument, MissingExtra, Refused
from regnb.registry import Registry
from regnb.text import escaped
from regnb.widgets.confirmation import LISTED, STATUS, Confirmation, rows_html
from regnb.widgets.page import (
    WRAP,
    box,
    check_box,
    download,
    faint,
    read_only,
    served,
    text_area,
    text_field,
)
from regnb.widgets.table import Table

try:
    import ipywidgets as widgets
except ImportError as missing:
    raise MissingExtra(missing.name or "ipywidgets", "lab") from None

Make: TypeAlias = "Callable[[Inventory, pd.DataFrame, Mapping[str, Any]], Plan]"
"""Makes a plan of the inventory, the rows that were chosen, and the values of the fields with what is allowed."""

_NAMED: Final = 10
"""Chosen rows that are named below the table."""
_TAGS: Final = ("repository", "tag", "kind", "platforms", "created", "size", "siblings", "digest")
_CHOSEN: Final = ["repository", "tag", "digest"]
"""Of a chosen row: with the digest, a tag that was moved since it was shown is refused."""
_RECEIPTS: Final = ("receipt", "operation", "started", "who", "steps", "done", "status")

_IN_USE: Final = "cluster: ask the current kubectl context"
_IN_USE_FILE: Final = f"{_IN_USE}; or a file of image references"
_HOSTS: Final = "other host names of this registry, separated by spaces"
_OVERRIDE: Final = "Override a safety check in this plan:"


class Form(Confirmation[Plan]):
    """One operation from the choice to the undo; nothing is written before a plan's code is typed and Apply clicked.

    Made by :func:`retag`, :func:`copy`, :func:`rename`, :func:`delete`, :func:`retention` and :func:`undo`.

    Attributes:
        registry: What is written to.
        inventory: What is chosen from, as it was last read; None where a receipt is chosen.

    Example:
        >>> form = forms.delete(registry, inventory)
        >>> form.receipt
    """

    def __init__(
        self,
        registry: Registry,
        title: str,
        make: Make,
        *,
        inventory: Any = None,  # noqa: ANN401 -- an Inventory; None stands for the receipts
        source: Registry | None = None,
        fields: Mapping[str, Any] | None = None,
        allow: Iterable[str] = (),
        choose: Literal["many", "one", ""] = "many",
    ) -> None:
        super().__init__()
        self.registry = registry
        self.inventory = inventory
        self._title, self._make, self._source = title, make, source
        self._host = (source or registry).host
        columns, frames = (*_TAGS, *_RECEIPTS), getattr(inventory, "frames", None)
        self._table = Table(self._rows(), columns, choose=choose, host=self._host, frames=frames) if choose else None
        self._fields = dict(fields or {})
        self._allow = {name: check_box(CHECKS[name]) for name in allow}
        self._once: dict[str, Any] = {}
        self._again = self._start_preview
        self._offered = widgets.VBox()

        self._named, self._stale = widgets.HTML(), widgets.HTML()
        self._undo_dummy = check_box(CHECKS["dummy"])
        self._to_undo = self._button("Undo…", "warning", self._start_undo, self._preview)
        self._to_read = self._button("Read again", "", self._start_reading, self._preview)
        buttons = widgets.HBox([self._to_undo, self._to_read], layout=WRAP)
        self._after = widgets.VBox([self._result, self._stale, self._undo_dummy, buttons])
        if read_only():
            # Nothing is applied, so this never shows: over the kernel's channel it could be reached all the same.
            self._after.children = ()
            for never in (self._result, self._stale, self._undo_dummy, self._to_undo, self._to_read, buttons):
                never.close()
        self._after.layout.display = "none"

        for control in (*self._fields.values(), self._undo_dummy):
            control.observe(lambda _: self._change(), "value")
        for allowance in self._allow.values():
            allowance.observe(self._override, "value")
        self._discard("")
        if self._table is not None:
            self._table.changed = self._choice
            self._choice()
        self._draw()

    def __repr__(self) -> str:
        return f"<Form: {self._title} on {self.registry.host}>"

    def _draw(self) -> None:
        allowances = [widgets.HTML(faint("Override safety checks:")), *self._allow.values()]
        confirm = [self._prompt, widgets.HBox([self._code, self._to_apply], layout=WRAP)]
        parts = {
            "Choose": [self._table, self._named] if self._table else [],
            "Options": [*self._fields.values(), *(allowances if self._allow else ())],
            "Preview": [self._to_preview, self._preview, self._offered],
            "Confirm": [*confirm, self._trouble, self._progress, self._after],
        }
        if self._table is not None and self._table.is_empty:
            again = "reload this page" if served() else "run this cell again"
            nothing = widgets.HTML(faint(f"No receipt of {self.registry.host} is here. After an apply, {again}."))
            # No other control can work.
            parts = {"Choose": [self._table if self.inventory is not None else nothing]}
        where = f"from {self._source.host} to {self.registry.host}" if self._source else f"on {self.registry.host}"
        self._lay_out(self._title, where, parts, steps=True)

    # What is chosen

    def _rows(self) -> pd.DataFrame:
        if self.inventory is not None:
            return pd.DataFrame(self.inventory.tags)
        receipts = pd.DataFrame(journal.receipts())
        return receipts[receipts["registry"] == self.registry.host]

    def _chosen(self) -> pd.DataFrame:
        return pd.DataFrame() if self._table is None else self._table.chosen

    def _choice(self) -> None:
        chosen = self._chosen()
        width = 1 if self.inventory is None else 2  # a receipt's name, or repository and tag
        names = [":".join(map(str, row)) for row in chosen.iloc[:_NAMED, :width].itertuples(index=False)]
        more = f" and {len(chosen) - _NAMED:,} more" if len(chosen) > _NAMED else ""
        listed = ", ".join(escaped(name) for name in names) + more
        self._named.value = f"<b>{len(chosen):,} chosen</b>{': ' if names else ''}{listed}{self._pull(chosen)}"
        self._change()

    def choose(self, repository: str, tag: str) -> None:
        """Choose the row of one tag, as a click on it does; another one stays chosen where there is no such row."""
        if self._table is not None:
            self._table.find(repository=repository, tag=tag)

    def _pull(self, chosen: pd.DataFrame) -> str:
        """Return the line that pulls the one image that is chosen, with its whole digest, to be copied."""
        if len(chosen) != 1 or self.inventory is None:
            return ""
        line = pull(self._host, *chosen.iloc[0][["repository", "digest"]])
        return f"<br><code>{escaped(line)}</code>" if line else ""

    # What is planned

    def _start_preview(self) -> None:
        chosen = self._chosen()
        if self._table is not None and chosen.empty:
            raise InvalidArgument("nothing is chosen", hint="choose a row of the table")
        values = {name: field.value for name, field in self._fields.items()}
        values["allow"] = [name for name, box in (self._allow | self._once).items() if box.value]
        self._again = self._start_preview
        self._plan(lambda: self._make(self.inventory, chosen, values))

    def _start_undo(self) -> None:
        receipt = self.receipt
        allow = [name for name, box in ({"dummy": self._undo_dummy} | self._once).items() if box.value]
        if receipt is not None:
            self._again = self._start_undo
            self._plan(lambda: self.registry.plan_undo(receipt, allow=allow))

    def _override(self, change: Mapping[str, Any]) -> None:
        """Discard the plan; where it was refused for want of this allowance, make it anew with it."""
        self._change()
        if change["new"] and change["owner"] in self._once.values():
            self._try(self._preview, self._again)

    def _plan(self, make: Callable[[], Plan]) -> None:
        self._discard(box("", "Making the plan…"))
        edition = self._edition

        def work() -> None:
            try:
                plan = make()
            except Refused as error:
                with self._lock:
                    if self._edition == edition:
                        self._offer_allowances(error.allow)
                raise
            if plan.changes:
                # A click asked for it, and nothing that is there is touched.
                plan = self.registry.check(plan)
            shown = html(plan, most=LISTED)
            with self._lock:
                if self._edition == edition:
                    self._preview.value = shown
                    self._offer_allowances(one.allow for one in plan.refusals if one.allow)
                    self._offer(plan)

        self._run(self._preview, work, lambda: self._edition == edition, self._hide)

    def _offer_allowances(self, refused: Iterable[str]) -> None:
        """Show a box for each allowance that a refusal names; those that are ticked stay."""
        kept = {name: box for name, box in self._once.items() if box.value}
        for name in list(refused)[:_NAMED]:
            if name in self._allow:  # the same box, where it is needed
                kept[name] = self._allow[name]
            elif name not in kept:
                kept[name] = check_box(CHECKS.get(name) or f"{name}: {CHECKS_OF_A_REPOSITORY[name.partition(':')[0]]}")
                kept[name].observe(self._override, "value")
        self._once = kept
        open_ones = not all(box.value for box in kept.values())
        heading = (
            [widgets.HTML(f"<span class='regnb-faint{' regnb-next' * open_ones}'>{_OVERRIDE}</span>")] if kept else []
        )
        self._offered.children = [*heading, *kept.values()]

    def _offer(self, plan: Plan) -> None:
        if not plan.ready:
            refused = "The registry would refuse this plan: see the preview for what to do."
            self._prompt.value = faint(refused if plan.changes else "Nothing to do: there is nothing to confirm.")
            return
        self.plan = plan
        if read_only():
            self._prompt.value = (
                "Nothing is written from here. To apply this plan elsewhere: "
                f"<span class='regnb-next'>{download(plan.to_json(), 'plan.json', 'download it')}</span>, then "
                f"<code>regnb apply plan.json --confirm {plan.code}</code>"
            )
            return
        self._code.disabled = False
        self._code.placeholder = f"type {plan.code} to enable Apply"
        self._to_apply.description = f"Apply {plan.changes:,} change{'' if plan.changes == 1 else 's'}"
        code = f"<code class='regnb-code regnb-next'>{plan.code}</code>"
        link = download(plan.to_json(), "plan.json", "download it")
        self._prompt.value = (
            f"Nothing has been written. To change <b>{escaped(plan.host)}</b>, type the code of this plan: {code} (or "
            f"{link}, for <code>regnb apply</code>.)"
        )

    # What is written

    def _start_apply(self) -> None:
        with self._lock:
            if (spent := self._spend()) is None:
                return
            plan, typed = spent
            self._discard(box("", plan.summary(), "This plan was used once. For another plan, preview again."))
            self._once, self._offered.children = {}, ()
        source = self._source if plan.source else None
        self._apply(lambda: self.registry.apply(plan, confirm=typed, source=source, progress=self._show))

    def _finish(self, receipt: Receipt) -> None:
        self.receipt = receipt
        columns = ["action", "repository", "tag", "status", "message", "before", "after", "when"]
        rows = receipt.to_frame()
        advice = ""
        if receipt.status != "done":
            advice = f"Continue with <code>registry.resume(&quot;{escaped(receipt.name)}&quot;)</code>, or undo it."
        if (rows["status"] == "unknown").any():
            advice = f"The registry could not be read after a write: resuming reads it again. {advice}"
        self._result.value = (
            f"<div class='regnb-box regnb-{STATUS[receipt.status]} regnb-next' role='status' tabindex='-1'>"
            f"<b>{escaped(receipt.summary())}</b><br>Receipt <code>{escaped(receipt.name)}</code>, "
            f"by {escaped(receipt.who)}. {advice}</div>"
            f"{rows_html(rows[columns])}"
        )
        self._stale.value = box("warn", "The table above is out of date.", "Read again before you choose rows.")
        self._after.layout.display = None

    def _start_reading(self) -> None:
        self._discard("")
        self._run(self._trouble, self._read, after=self._hide)

    def _read(self) -> None:
        """Read the whole catalog again, or the same repositories and those that were written to."""
        if self.inventory is not None:
            origin = self._source or self.registry
            known = {*self.inventory.repositories["repository"]}
            if self.receipt is not None and origin is self.registry:
                known |= {step.repository for step in self.receipt.plan.steps}
            whole = self.inventory.coverage.set_index("what")["listed"]["catalog"]
            self.inventory = origin.inventory(None if whole else sorted(known), progress=self._show)
        if self._table is not None:
            self._table.show(self._rows(), getattr(self.inventory, "frames", None))
        self._discard("")
        self._stale.value = ""


def _in_use(text: str) -> str | None:
    """Return what a plan is told of what runs; whoever sees a page of the web UI may not read the server's files."""
    named = text.strip()
    if named not in ("", "cluster") and served():
        raise InvalidArgument("a page cannot read files of its server", hint="write cluster, or leave it empty")
    return named or None


# The operations: their fields, and how a plan is made of them.


def retag(registry: Registry, inventory: Inventory) -> Form:
    """Return a form that gives tags a second name in their repository.

    Args:
        registry: Of :func:`regnb.connect`.
        inventory: What to choose from.

    Example:
        >>> form = forms.retag(registry, registry.inventory())
    """
    return Form(
        registry,
        "Retag",
        lambda _, chosen, values: registry.plan_retag(chosen[_CHOSEN], values["tag"].strip(), allow=values["allow"]),
        inventory=inventory,
        fields={
            "tag": text_field("New tag", "stable; for several rows a pattern: {tag}-stable", tooltip=OPTIONS["tag"])
        },
        allow=("overwrite",),
    )


def copy(registry: Registry, inventory: Inventory, source: Registry | None = None) -> Form:
    """Return a form that copies tags into a registry, with everything behind them.

    Args:
        registry: Where the copies go.
        inventory: What to choose from: of ``source``, if that is given.
        source: The registry to read from; by default the same one.

    Example:
        >>> form = forms.copy(registry, inventory, source=registry)
    """
    return Form(
        registry,
        "Copy",
        lambda _, chosen, values: registry.plan_copy(
            chosen[_CHOSEN],
            values["to"].strip(),
            source=source,
            platform=values["platform"].strip() or None,
            referrers=values["referrers"],
            allow=values["allow"],
        ),
        inventory=inventory,
        source=source,
        fields={
            "to": text_field("Copy to", "archive/app; a pattern: archive/{repository}:{tag}", tooltip=OPTIONS["to"]),
            "platform": text_field("Platform", "every one; or only linux/arm64", tooltip=OPTIONS["platform"]),
            "referrers": check_box(OPTIONS["referrers"], value=True),
        },
        allow=("overwrite",),
    )


def image(registry: Registry, image: Image) -> widgets.VBox:
    """Return buttons that open the forms to retag, copy and delete one image, its row chosen already.

    Args:
        registry: Of :func:`regnb.connect`.
        image: Of :meth:`Registry.image`.

    Example:
        >>> form = forms.image(registry, registry.image("vm/centos8:8.4"))
    """
    place, buttons = widgets.VBox(), []

    def button(text: str, make: Callable[[Registry, Inventory], Form]) -> None:
        found = widgets.Button(description=text, layout={"width": "max-content"})

        def open_(_: object) -> None:
            form = make(registry, image.inventory)
            form.choose(image.repository, image.tag)
            place.children = [form]

        found.on_click(open_)
        buttons.append(found)

    for text, make in (("Retag…", retag), ("Copy…", copy), ("Delete…", delete)):
        button(text, make)
    found = widgets.VBox([widgets.HBox(buttons, layout=WRAP), place])
    found.add_class("regnb-opens")  # where the page's link leads a keyboard to
    return found


def rename(registry: Registry, inventory: Inventory) -> Form:
    """Return a form that renames a tag, or the whole repository that it is in: copy, verify, remove the old name.

    Args:
        registry: Of :func:`regnb.connect`.
        inventory: What to choose from.

    Example:
        >>> form = forms.rename(registry, registry.inventory())
    """

    def make(_: Inventory, chosen: pd.DataFrame, values: Mapping[str, Any]) -> Plan:
        row = chosen.iloc[0]
        what = row["repository"] if values["whole"] else f"{row['repository']}:{row['tag']}"
        return registry.plan_rename(what, values["to"].strip(), allow=values["allow"])

    fields = {
        "to": text_field("New name", "a tag, repository:tag, or for a repository its new name"),
        "whole": check_box("Rename the whole repository of the row that is chosen, with every tag in it."),
    }
    return Form(
        registry, "Rename", make, inventory=inventory, fields=fields, allow=("overwrite", "dummy"), choose="one"
    )


def delete(registry: Registry, inventory: Inventory) -> Form:
    """Return a form that deletes tags, or digests with every tag on them.

    Args:
        registry: Of :func:`regnb.connect`.
        inventory: What to choose from, and what the blast radius is computed from.

    Example:
        >>> form = forms.delete(registry, registry.inventory())
    """
    return Form(
        registry,
        "Delete",
        lambda read, chosen, values: registry.plan_delete(
            chosen[["repository", "digest"] if values["digest"] else _CHOSEN],
            inventory=read,
            children=values["children"],
            referrers=values["referrers"],
            in_use=_in_use(values["in_use"]),
            in_use_host=values["in_use_host"].split(),
            allow=values["allow"],
        ),
        inventory=inventory,
        fields={
            "digest": check_box("Delete the digest that the tag points to, with every other tag on it."),
            "children": check_box(OPTIONS["children"], value=True),
            "referrers": check_box(OPTIONS["referrers"], value=True),
            "in_use": text_field("In use", _IN_USE if served() else _IN_USE_FILE, tooltip=OPTIONS["in_use"]),
            "in_use_host": text_field("Hosts", _HOSTS, tooltip=OPTIONS["in_use_host"]),
        },
        allow=("dummy", "parents", "running", "incomplete"),
    )


def retention(registry: Registry, inventory: Inventory, policy: str = "") -> Form:
    """Return a form that deletes what a policy does not keep.

    Args:
        registry: Of :func:`regnb.connect`.
        inventory: What the policy is applied to.
        policy: TOML text to begin with.

    Example:
        >>> form = forms.retention(registry, registry.inventory(), Path("retention.toml").read_text())
    """
    return Form(
        registry,
        "Retention",
        lambda read, _, values: registry.plan_retention(
            Policy.parse(values["policy"]),
            inventory=read,
            in_use=_in_use(values["in_use"]),
            in_use_host=values["in_use_host"].split(),
            allow=values["allow"],
        ),
        inventory=inventory,
        fields={
            "policy": text_area("Policy", policy.strip("\n")),
            "in_use": text_field("In use", _IN_USE if served() else _IN_USE_FILE, tooltip=OPTIONS["in_use"]),
            "in_use_host": text_field("Hosts", _HOSTS, tooltip=OPTIONS["in_use_host"]),
        },
        allow=("dummy", "parents", "incomplete"),
        choose="",
    )


def undo(registry: Registry) -> Form:
    """Return a form that takes back what a receipt records, until the registry's next garbage collection.

    Args:
        registry: The one that was written to.

    Example:
        >>> form = forms.undo(registry)
    """
    return Form(
        registry,
        "Undo",
        lambda _, chosen, values: registry.plan_undo(chosen.iloc[0]["receipt"], allow=values["allow"]),
        allow=("dummy",),
        choose="one",
    )

"""Forms over a storage: collect its garbage into a trash, put that back, or remove it for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from regnb.change.journal import Receipt
from regnb.change.sweep import Sweep
from regnb.crawl.files import local_path
from regnb.errors import InvalidArgument, MissingExtra, RegnbError
from regnb.storage import Storage
from regnb.text import escaped
from regnb.widgets.confirmation import STATUS, Confirmation, rows_html
from regnb.widgets.page import (
    WRAP,
    Widget,
    box,
    check_box,
    choice,
    download,
    faint,
    read_only,
    served,
    text_field,
)

try:
    import ipywidgets as widgets
    from IPython.display import Markdown
except ImportError as missing:
    raise MissingExtra(missing.name or "ipywidgets", "lab") from None

Make: TypeAlias = Callable[[], Sweep]
"""Makes a plan of what stands in the fields."""
ALLOWANCES: Final = ("writer", "undo")
"""The safety checks of a collection that a form can override."""


class SweepForm(Confirmation[Sweep]):
    """One operation on a storage; nothing is moved before the plan's code is typed and Apply is clicked.

    Made by :func:`collect`, :func:`restore` and :func:`empty`.

    Attributes:
        storage: What is changed.

    Example:
        >>> form = collecting.collect(storage)
        >>> form.receipt
    """

    def __init__(
        self, storage: Storage, title: str, make: Make, fields: Mapping[str, Widget], nothing: str = ""
    ) -> None:
        super().__init__()
        self.storage = storage
        self._make, self._fields = make, dict(fields)
        for control in self._fields.values():
            control.observe(lambda _: self._change(), "value")
        self._discard("")
        allowances = [field for name, field in self._fields.items() if name in ALLOWANCES]
        heading = [widgets.HTML(faint("Override safety checks:"))] if allowances else []
        parts = {
            "Options": [*(field for field in self._fields.values() if field not in allowances), *heading, *allowances],
            "Preview": [self._to_preview, self._preview],
            "Confirm": [
                self._prompt,
                widgets.HBox([self._code, self._to_apply], layout=WRAP),
                *(self._trouble, self._progress, self._result),
            ],
        }
        if nothing:  # no control can work
            parts = {"Choose": [widgets.HTML(faint(nothing))]}
        self._lay_out(title, f"in {storage.url}", parts, steps=True)

    def _start_preview(self) -> None:
        self._discard(box("", "Reading the storage…"))
        edition = self._edition

        def work() -> None:
            plan = self._make()
            shown, trouble = _plan_html(plan), ""
            if plan.changes and not read_only():
                try:
                    said = [f"<li>{escaped(one.sentence)}</li>" for one in self.storage.check(plan)]
                    shown += f"<ul>{''.join(said)}</ul>" if said else ""
                except RegnbError as error:
                    trouble = box("bad", f"This plan cannot be applied now: {error.message}", error.hint)
            with self._lock:
                if self._edition == edition:
                    self._preview.value = shown
                    self._offer(plan, trouble)

        self._run(self._preview, work, lambda: self._edition == edition)

    def _offer(self, plan: Sweep, trouble: str) -> None:
        if not plan.changes or trouble:
            self._prompt.value = trouble or faint("There is nothing to do.")
            return
        link = download(plan.to_json(), "plan.json", "Download the plan")
        command = f"{link} for <code>regnb apply plan.json --confirm {plan.code}</code>"
        if read_only():
            # The plan is not kept: what a page sends could arm the button although its fields are off.
            self._prompt.value = f"Nothing is written from here. {command}."
            return
        self.plan = plan
        self._code.disabled = False
        self._code.placeholder = f"type {plan.code} to enable Apply"
        self._to_apply.description = f"Apply {plan.changes:,} row{'' if plan.changes == 1 else 's'}"
        self._prompt.value = (
            "Nothing has been written. To arm the button for this plan, type its code: "
            f"<code class='regnb-code regnb-next'>{plan.code}</code>. {command}."
        )

    def _start_apply(self) -> None:
        with self._lock:
            if (spent := self._spend()) is None:
                return
            plan, typed = spent
            self._discard(box("", plan.summary(), "This plan was applied or tried. Preview again for another one."))
        self._apply(lambda: self.storage.apply(plan, confirm=typed, progress=self._show))

    def _finish(self, receipt: Receipt) -> None:
        self.receipt = receipt
        rows = receipt.to_frame()
        rest = rows[rows["status"] != "done"]
        parts = [f"<b>{escaped(receipt.summary())}</b><br>Receipt <code>{escaped(receipt.name)}</code>."]
        if (figures := receipt.figures) and receipt.sweep:
            parts.append(receipt.sweep.result(figures.moved, figures.emptied, figures.free))
        if receipt.status != "done":
            parts.append(f"Go on with <code>storage.resume(&quot;{escaped(receipt.name)}&quot;)</code>.")
        if receipt.sweep and receipt.sweep.takes:
            parts.append("Restart every registry process over this storage: it may remember blobs that are gone.")
        self._result.value = (
            f"<div class='regnb-box regnb-{STATUS[receipt.status]} regnb-next' role='status' tabindex='-1'>"
            f"{' '.join(parts)}</div>"
            f"{rows_html(rest[['action', 'repository', 'tag', 'status', 'message']]) if len(rest) else ''}"
        )


def _plan_html(plan: Sweep) -> str:
    """Return a plan for people: what is spared comes before its rows."""
    parts = [f"<p><b>{escaped(plan.summary())}</b></p><ul>", *(f"<li>{escaped(note)}</li>" for note in plan.notes)]
    parts.append("</ul>")
    if plan.effects:
        heading = "<b>What is spared or only named</b>"
        parts.append(f"<div class='regnb-box regnb-warn'>{heading}{rows_html(plan.blast)}</div>")
    if plan.steps:
        parts += ["<h4 aria-level='3'>Rows</h4>", rows_html(plan.to_frame())]
    return "".join(parts)


def collect(storage: Storage, endpoints: Sequence[str] = ()) -> SweepForm:
    """Return a form that moves what no manifest needs into a trash beside the registry's files.

    Args:
        storage: Of :func:`regnb.open_storage`; a local folder or a bucket.
        endpoints: The URL of every registry process over this storage, to begin with.

    Example:
        >>> form = collecting.collect(storage, ["http://localhost:5000"])
    """
    given = " ".join((endpoints,) if isinstance(endpoints, str) else endpoints)

    def make() -> Sweep:
        asked = fields["endpoints"].value.strip()
        if served() and asked != given:
            raise InvalidArgument("a page cannot choose which addresses its server asks", hint=f"write: {given}")
        history = fields["tag_history"].value.strip()
        if history and not (history.isascii() and history.isdigit()):
            raise InvalidArgument(f"not a number: {history[:80]!r}", hint="write a number, or leave it empty")
        return storage.plan_collect(
            untagged=fields["untagged"].value,
            uploads_older_than=fields["uploads_older_than"].value,
            grace=fields["grace"].value,
            repositories=fields["repositories"].value.split(),
            tag_history=int(history) if history else None,
            trash=fields["trash"].value,
            copies="copies" in fields and fields["copies"].value,
            endpoints=asked.split(),
            allow=[name for name in ALLOWANCES if fields[name].value],
        )

    fields = {
        "endpoints": text_field(
            "Registry", "the URL of every registry process of this storage, separated by spaces", value=given
        ),
        "repositories": text_field("Repository", "all; or names and globs, separated by spaces, such as vm/*"),
        "grace": text_field("Grace", "least age of the data, such as 24h", value="24h"),
        "uploads_older_than": text_field("Upload age", "least age of abandoned uploads, such as 7d", value="7d"),
        "tag_history": text_field("Tag history", "old entries that each tag keeps; empty for all"),
        "untagged": check_box("Also collect untagged manifests, except what tagged images and receipts need."),
        "trash": check_box("Move everything into a trash first, so that it can be put back.", value=True),
        "writer": check_box("writer: collect although someone may push at the same time, or regnb cannot tell."),
        "undo": check_box("undo: collect also what the undo of a receipt needs."),
    }
    if not local_path(storage.url):
        text = (
            "In a bucket without versions: copy everything into the trash now, instead of listing it for a later run."
        )
        fields["copies"] = check_box(text)
    return SweepForm(storage, "Collect garbage", make, fields)


def no_storage() -> object:
    """Return what a notebook shows in place of the forms where no storage was given: how to give it.

    Example:
        >>> collecting.no_storage()
        <IPython.core.display.Markdown object>
    """
    shown: Callable[[str], object] = Markdown
    if served():
        return shown("This web UI was given no storage: start it with `regnb ui --storage DIR` (or a URL).")
    return shown("No storage was given: set the parameter `storage` or the variable `REGNB_STORAGE`.")


def restore(storage: Storage) -> SweepForm:
    """Return a form that puts back what a collection moved into the trash.

    Args:
        storage: Of :func:`regnb.open_storage`; a local folder or a bucket.

    Example:
        >>> form = collecting.restore(storage)
    """
    runs = [str(run) for run in storage.trash()["run"]]
    fields = {"run": choice("Collection", runs[::-1] or [""])}
    again = "reload this page" if served() else "run this cell again"
    nothing = "" if runs else f"The trash is empty. After a collection, {again}."
    return SweepForm(storage, "Put back", lambda: storage.plan_restore(fields["run"].value), fields, nothing)


def empty(storage: Storage) -> SweepForm:
    """Return a form that removes for good what lies in the trash.

    Args:
        storage: Of :func:`regnb.open_storage`; a local folder or a bucket.

    Example:
        >>> form = collecting.empty(storage)
    """
    fields = {"older_than": text_field("Older than", "age since it was moved, such as 7d", value="7d")}
    return SweepForm(
        storage, "Empty the trash", lambda: storage.plan_empty(older_than=fields["older_than"].value), fields
    )

"""The gate before a plan: a panel that applies what it previewed once the plan's code was typed, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import pandas as pd

from regnb.change.document import Document
from regnb.change.journal import Receipt, State
from regnb.errors import MissingExtra
from regnb.session import pace
from regnb.tables.frame import Frame
from regnb.text import escaped
from regnb.widgets.page import WIDE, Panel, box, faint, read_only, text_field

try:
    import ipywidgets as widgets
except ImportError as missing:
    raise MissingExtra(missing.name or "ipywidgets", "lab") from None

LISTED: Final = 1_000
"""Rows of a plan, or of what else it touches, that a page shows."""
_PREVIEW: Final = "Preview first. The preview shows the code to type here."
_PREVIEW_TO_SAVE: Final = "Preview first. The plan can then be saved, and applied elsewhere."
STATUS: Final[dict[State, str]] = {"done": "good", "partial": "warn", "unfinished": "bad"}
"""How a receipt's state is coloured."""
_P = TypeVar("_P", bound=Document)


class Confirmation(Panel, Generic[_P]):
    """A panel with a preview, a field for the plan's code, and a button that this code arms for this one plan.

    Whatever is edited discards the plan. The click spends it, even if applying it fails.

    Attributes:
        plan: What is previewed and waits for its code; else None.
        receipt: Of the plan that was applied last, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plan: _P | None = None
        self.receipt: Receipt | None = None
        self._lock = threading.RLock()
        self._edition = 0
        self._preview, self._prompt, self._trouble, self._result = (widgets.HTML() for _ in range(4))
        self._to_preview = self._button("Preview", "primary", self._start_preview, self._preview)
        self._code = text_field("Code", layout={"width": "340px"})
        self._to_apply = self._button("Apply", "danger", self._start_apply, self._trouble, busy=True)
        if read_only():
            for control in (self._code, self._to_apply):
                control.layout.display = "none"  # neither can work here
        self._bar, self._bar_note = widgets.IntProgress(layout=WIDE), widgets.HTML()
        self._progress = widgets.VBox([self._bar, self._bar_note])
        self._progress.layout.display = "none"
        self._began = 0.0
        self._code.observe(lambda _: self._arm(), "value")

    def _start_preview(self) -> None:
        """Make a plan of what stands in the panel, and show it."""
        raise NotImplementedError

    def _start_apply(self) -> None:
        """Apply the plan whose code was typed."""
        raise NotImplementedError

    def _finish(self, receipt: Receipt) -> None:
        """Show what was done."""
        raise NotImplementedError

    def _change(self) -> None:
        """Discard the plan: it was made before something was edited."""
        with self._lock:
            self._edition += 1
            if self._preview.value:
                self._discard(box("warn", "Changed: preview again."))

    def _discard(self, text: str) -> None:
        with self._lock:
            self.plan = None
            # Each line reaches the browser as a message of its own: what says that nothing can be applied comes last.
            self._arm()
            self._to_apply.description = "Apply"
            self._code.placeholder = self._code.value = ""
            self._code.disabled = True
            self._prompt.value = faint(_PREVIEW_TO_SAVE if read_only() else _PREVIEW)
            self._preview.value = text

    def _arm(self) -> None:
        with self._lock:
            self._to_apply.disabled = self.plan is None or self._code.value.strip() != self.plan.code

    def _spend(self) -> tuple[_P, str] | None:
        """Return the plan and the code that was typed for it, and keep neither; None if the code does not fit."""
        with self._lock:
            plan, typed = self.plan, self._code.value.strip()
            if plan is None or typed != plan.code:
                return None
            self.plan = None
            return plan, typed

    def _apply(self, apply: Callable[[], Receipt]) -> None:
        """Apply a plan in the background; also of an application that ended early the receipt is shown."""
        self._trouble.value = ""

        def work() -> None:
            try:
                self._finish(apply())
            except BaseException as error:
                if begun := getattr(error, "receipt", ""):
                    self._finish(Receipt.load(begun))
                raise

        self._run(self._trouble, work, after=self._hide)

    def _hide(self) -> None:
        self._progress.layout.display = "none"

    def _show(self, total: int, done: int, note: str) -> None:
        self._bar.max, self._bar.value = max(1, total), done
        if self._progress.layout.display == "none":
            self._began = time.monotonic()
        self._progress.layout.display = None
        rate = pace(total, done, time.monotonic() - self._began)
        self._bar_note.value = f"{done:,} of {total:,} {escaped(note)}{rate}"


def rows_html(frame: Frame) -> str:
    """Return rows for people, the first of them where there are many.

    Example:
        >>> "vm/centos8" in rows_html(plan.to_frame())
        True
    """
    with pd.option_context("display.max_rows", LISTED):
        more = "<p>In Python the frames are whole: plan.to_frame(), plan.blast.</p>" if len(frame) > LISTED else ""
        return f"<div class='regnb-scroll'>{frame._repr_html_()}</div>{more}"

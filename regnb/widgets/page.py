"""What every form and page in a notebook is made of: one look, work in the background, and errors that are seen."""

from __future__ import annotations

import base64
import html
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pandas as pd

from regnb.environment import variable
from regnb.errors import MissingExtra, RegnbError
from regnb.text import escaped

try:
    import anywidget
    import ipywidgets as widgets
    from IPython.display import HTML, display
except ImportError as missing:
    raise MissingExtra(missing.name or "ipywidgets", "lab") from None

Widget: TypeAlias = Any
"""ipywidgets have no types."""

_STATES: Final = {"ok": "\N{CHECK MARK}", "warn": "!", "fail": "\N{MULTIPLICATION X}", "skipped": "\N{EN DASH}"}
WRAP: Final = {"flex_flow": "row wrap"}
WIDE: Final = {"width": "100%"}
_LABEL: Final = {"description_width": "76px"}
_FAULT: Final = "this is a fault: please report it"
_CSS: Final = f"<style>{Path(__file__).with_suffix('.css').read_text(encoding='utf-8')}</style>"


def box(kind: str, text: str, more: str = "") -> str:
    """Return a message as HTML.

    Args:
        kind: ``bad`` (read out at once by a screen reader), ``warn``, ``good`` or "".
        text: What happened.
        more: What to do next, below it.

    Example:
        >>> "refused" in box("bad", "refused")
        True
    """
    role = "alert" if kind == "bad" else "status"
    below = f"<br>{escaped(more)}" if more else ""
    return f"<div class='regnb-box regnb-{kind}' role='{role}'><b>{escaped(text)}</b>{below}</div>"


def faint(text: str) -> str:
    """Return a remark as HTML.

    Example:
        >>> faint("3 rows")
        "<span class='regnb-faint'>3 rows</span>"
    """
    return f"<span class='regnb-faint'>{escaped(text)}</span>"


def download(data: bytes, name: str, text: str) -> str:
    """Return a link that saves some bytes as a file; they are in the page, and no server is asked.

    Example:
        >>> download(b"{}", "plan.json", "save it")
        "<a download='plan.json' href='data:application/octet-stream;base64,e30='>save it</a>"
    """
    content = base64.b64encode(data).decode()
    return f"<a download='{escaped(name)}' href='data:application/octet-stream;base64,{content}'>{escaped(text)}</a>"


def checks_html(checks: pd.DataFrame) -> str:
    """Return what was checked as a table for people.

    Args:
        checks: As ``checks`` in :data:`regnb.tables.columns.COLUMNS`.

    Example:
        >>> "authentication" in checks_html(registry.health())
        True
    """
    names = ["check", "state", "found", "hint"]
    rows = "".join(
        f"<tr class='regnb-{state}'><td><b aria-hidden='true'>{_STATES[state]}</b> {state}</td>"
        f"<th scope='row'>{escaped(check)}</th><td>{escaped(found)}{f'<br>{faint(hint)}' if hint else ''}</td></tr>"
        for check, state, found, hint in checks[names].astype("str").itertuples(index=False, name=None)
    )
    return f"<table class='regnb-checks'><tbody>{rows}</tbody></table>"


def text_field(label: str, hint: str = "", **more: Any) -> Widget:  # noqa: ANN401 -- what ipywidgets.Text takes
    """Return a line to type into, with its label and what may stand there.

    Example:
        >>> text_field("New tag", "stable").description
        'New tag'
    """
    return widgets.Text(description=label, placeholder=hint, style=_LABEL, **{"layout": WIDE, **more})


def text_area(label: str, text: str = "", rows: int = 12) -> Widget:
    """Return several lines to type into.

    Example:
        >>> text_area("Policy").rows
        12
    """
    return widgets.Textarea(text, description=label, rows=rows, style=_LABEL, layout=WIDE)


def choice(label: str, options: Sequence[str], value: str | None = None) -> Widget:
    """Return a list to choose one of.

    Example:
        >>> choice("Method", ["GET", "HEAD"]).value
        'GET'
    """
    return widgets.Dropdown(options=options, value=value or options[0], description=label, style=_LABEL)


def check_box(text: str, *, value: bool = False) -> Widget:
    """Return a box to tick, with its sentence.

    Example:
        >>> check_box("With its referrers.").value
        False
    """
    return widgets.Checkbox(description=text, value=value, indent=False)


def read_only() -> bool:
    """Whether nothing may be written from here: ``regnb ui`` says so, unless it was told otherwise.

    Example:
        >>> read_only()
        False
    """
    return bool(variable("REGNB_READ_ONLY"))


def served() -> bool:
    """Whether this is a page of ``regnb ui``: whoever sees it may not choose registries and files of the server.

    Example:
        >>> served()
        False
    """
    return bool(variable("REGNB_SERVED"))


def quiet(shell: Any) -> None:  # noqa: ANN401 -- IPython's
    """Let a kernel whose code nobody sees show what went wrong as a message, with what to do, and no traceback.

    Args:
        shell: What ``get_ipython()`` returns.

    Example:
        >>> quiet(get_ipython())  # doctest: +SKIP
    """

    def show(_: object, kind: type[BaseException], error: BaseException, *__: object, **___: object) -> list[str]:
        message = box("bad", f"{kind.__name__}: {error}", _FAULT)
        if isinstance(error, RegnbError):
            message = box("bad", error.message, error.hint)
        shown: Callable[..., object] = HTML
        put: Callable[..., object] = display
        put(shown(f"<div class='regnb-form'>{_CSS}<div class='regnb-part'>{message}</div></div>"))
        return []

    shell.set_custom_exc((Exception,), show)


class _Keys(anywidget.AnyWidget):
    """Leaves the keys to a panel's lists: JupyterLab moves to another cell by arrows, and deletes this one by D, D."""

    _esm = Path(__file__).with_name("keys.js").read_text(encoding="utf-8")


def preformatted(text: str, *, command: bool = False) -> str:
    """Return foreign text as it is, line by line; a click selects the whole of a command.

    Example:
        >>> preformatted("<b>")
        '<pre>&lt;b&gt;</pre>'
    """
    shown = html.escape(text)
    return f"<pre><code>{shown}</code></pre>" if command else f"<pre>{shown}</pre>"


class Panel(widgets.VBox):  # type: ignore[misc]
    """A titled box of parts, each with a heading and what belongs to it.

    Attributes:
        parts: By heading.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread: threading.Thread | None = None
        self.parts: dict[str, Widget] = {}
        self.add_class("regnb-form")

    def _lay_out(self, title: str, where: str, parts: Mapping[str, Sequence[Widget]], *, steps: bool = False) -> None:
        """Fill the box; parts without anything in them are left out, and steps have numbers."""
        found = [
            widgets.VBox([widgets.HTML(f"{_CSS}<h3 aria-level='2'>{escaped(title)} {faint(where)}</h3>"), _Keys()])
        ]
        for heading, children in parts.items():
            if children:
                number = f"<i>{len(found)}</i>" if steps else ""
                found.append(
                    widgets.VBox([widgets.HTML(f"<h4 aria-level='3'>{number}{escaped(heading)}</h4>"), *children])
                )
        for part in found:
            part.add_class("regnb-part")
        self.children = found
        self.parts = dict(zip((heading for heading, children in parts.items() if children), found[1:], strict=True))

    def _button(self, text: str, style: str, work: Callable[[], None], where: Widget, *, busy: bool = False) -> Widget:
        """Return a button; what goes wrong at the click is shown in ``where``.

        Args:
            text: What stands on it.
            style: ``primary``, ``danger``, ``warning`` or "".
            work: What a click does; what takes long is handed to :meth:`_run`.
            where: An HTML widget.
            busy: Whether it also works while something else runs.
        """
        button = widgets.Button(description=text, button_style=style, layout={"width": "max-content"})

        def click(_: object) -> None:
            # Buttons are not switched off meanwhile: one that was clicked by the keyboard would lose the focus.
            if busy or self._thread is None or not self._thread.is_alive():
                self._try(where, work)

        button.on_click(click)
        return button

    def _run(
        self,
        where: Widget,
        work: Callable[[], None],
        wanted: Callable[[], bool] = lambda: True,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Work in the background, so that the kernel goes on answering; errors are shown if they are still wanted."""

        def run() -> None:
            self._try(where, work, wanted)
            after()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @staticmethod
    def _try(where: Widget, work: Callable[[], None], wanted: Callable[[], bool] = lambda: True) -> None:
        """Run ``work``; an error is shown, for whoever waits in front of a browser sees no other."""
        try:
            work()
        except RegnbError as error:
            if wanted():
                where.value = box("bad", error.message, error.hint)
        except Exception as error:  # noqa: BLE001
            if wanted():
                where.value = box("bad", f"{type(error).__name__}: {error}", _FAULT)

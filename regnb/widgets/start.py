"""The way in: a registry to connect to, how it is, and which runbook answers what."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import traitlets

from regnb.environment import variable
from regnb.errors import MissingExtra, RegnbError, Unauthorized
from regnb.notebooks.runbook import Runbook, runbooks
from regnb.registry import Registry, connect
from regnb.tables.frame import Frame
from regnb.text import escaped
from regnb.widgets.page import WRAP, Panel, Widget, box, checks_html, faint, read_only, served, text_field

try:
    import anywidget
    import ipywidgets as widgets
except ImportError as missing:
    raise MissingExtra(missing.name or "anywidget", "lab") from None

_HEARD: Final = "taken, and kept nowhere"
_GROUPS: Final = {
    "Look: nothing is written": "02",
    "Change: a plan first, your confirmation, a way back": "1",
    "Tools": "3",
}
"""What is together, by the first digit of a runbook's name."""


class Secret(anywidget.AnyWidget):
    """A field for a password. What is typed is sent to the kernel once, and is not part of a notebook's widget state.

    Example:
        >>> Secret("Password").take()
        ''
    """

    _esm = Path(__file__).with_name("secret.js").read_text(encoding="utf-8")
    label = traitlets.Unicode().tag(sync=True)
    heard = traitlets.Unicode(_HEARD).tag(sync=True)

    def __init__(self, label: str) -> None:
        super().__init__(label=label)
        self._secret = ""
        self.on_msg(self._hear)

    def _hear(self, _: object, content: Any, __: object) -> None:  # noqa: ANN401 -- what a browser sends
        self._secret = str(content.get("secret", ""))

    def take(self) -> str:
        """Return what was typed, and forget it."""
        found, self._secret = self._secret, ""
        return found


class Start(Panel):
    """The start page: a registry is connected to, and shown how it is.

    Made by :func:`start`.

    Example:
        >>> here = start("http://localhost:5000")
        >>> len(here.registry.catalog())
        16
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._registry: Registry | None = None
        self._why: RegnbError | None = None
        # Credentials in it would be saved with the notebook; connect finds those of the environment there.
        scheme, mark, rest = url.rpartition("://")
        self._at = f"{scheme}{mark}{rest.rpartition('@')[2]}"
        self._state, self._checks = widgets.HTML(), widgets.HTML()
        # A widget that is not shown can be reached over the kernel's channel all the same: it must not exist.
        self._lay_out(
            "Your registry",
            "",
            {
                "Connect": [*([] if served() else self._fields()), self._state],
                "Registry health": [self._checks, *([] if read_only() else self._probing())],
                "Demo": self._resetting() if variable("REGNB_DEMO") and not read_only() else [],
            },
        )
        if url:
            self._try(self._state, self._connect)

    def _fields(self) -> list[Widget]:
        self._url = text_field("Registry", "https://registry.example or localhost:5000", value=self._at)
        self._user = text_field("User", "leave empty for what docker login stored")
        self._password = Secret("Password")
        self._to_connect = self._button("Connect", "primary", self._connect, self._state)
        return [self._url, self._user, self._password, self._to_connect]

    def _probing(self) -> list[Widget]:
        self._to_probe = self._button("Ask whether it deletes", "", self._probe, self._state)
        note = "Sends a DELETE for a digest and a tag that do not exist, and nothing else."
        return [widgets.HBox([self._to_probe, widgets.HTML(faint(note))], layout=WRAP)]

    def _resetting(self) -> list[Widget]:
        self._to_reset = self._button("Reset the demo", "warning", self._reset, self._state)
        return [widgets.HTML(faint("Make the sample registry what it was at first.")), self._to_reset]

    def __repr__(self) -> str:
        return f"<Start: {self._registry.host if self._registry else 'not connected'}>"

    @property
    def registry(self) -> Registry:
        """The registry that is connected.

        Raises:
            RegnbError: None is; it says why.
        """
        if self._registry is None:
            why = self._why
            raise RegnbError(
                why.message if why else "no registry is connected",
                hint=f"{why.hint}; then run the cells below the form again"
                if why and why.hint
                else "give a URL, in the form above or in REGNB_URL, then run the cells below it again",
            )
        return self._registry

    def _connect(self) -> None:
        if self._registry is not None:
            self._registry.close()
        self._registry, self._checks.value = None, ""
        url, login = self._at, {}
        if not served():
            url, password = self._url.value.strip(), self._password.take()
            if user := self._user.value.strip():
                login = {"username": user, "password": password}
        try:
            with ExitStack() as stack:
                registry = stack.enter_context(connect(url, **login))
                checks = registry.health()
                stack.pop_all()  # it stays open
        except RegnbError as error:
            self._why = error
            if isinstance(error, Unauthorized) and not login and not served():
                hint = "type a user name and a password above, or use docker login on this machine"
                self._why = error.saying(error.message, hint=hint)
            raise self._why from None
        self._registry, self._why = registry, None
        self._state.value = box("good", f"Connected to {registry.host}.", "" if served() else "Run the cells below.")
        self._checks.value = checks_html(checks)

    def _probe(self) -> None:
        registry = self.registry
        self._run(self._state, lambda: self._show(registry.health(probe=True)))

    def _show(self, checks: Frame) -> None:
        self._checks.value = checks_html(checks)

    def _reset(self) -> None:
        from regnb.local.sandbox import reset_demo  # the embedded registry is an extra

        def work() -> None:
            self._state.value = box("", "Resetting the demo…")
            reset_demo()
            self._connect()

        self._run(self._state, work)


class Cards:
    """The runbooks, as links with what each answers.

    Example:
        >>> "02-storage.ipynb" in cards()._repr_html_()
        True
    """

    def __init__(self, books: list[Runbook]) -> None:
        self._books = books

    def __repr__(self) -> str:
        return "\n".join(f"{book.name}: {book.question}" for book in self._books)

    def _repr_html_(self) -> str:
        groups = "".join(
            f"<h3 aria-level='2'>{escaped(title)}</h3><ul class='regnb-cards'>{''.join(map(_card, books))}</ul>"
            for title, digits in _GROUPS.items()
            if (books := [book for book in self._books if book.name[0] in digits])
        )
        return f"<style>{_STYLE}</style><nav aria-label='Runbooks'>{groups}</nav>"


def _card(book: Runbook) -> str:
    question = escaped(book.question)
    return f"<li><a href='{book.path.name}'><b>{question}</b></a><code>{book.name}</code></li>"


_STYLE: Final = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


def start(url: str = "") -> Start:
    """Return the start page, connected to a registry if one is named.

    Args:
        url: The registry; by default the environment's ``REGNB_URL``.

    Example:
        >>> form = start()
    """
    return Start(url or variable("REGNB_URL"))


def cards() -> Cards:
    """Return the runbooks beside this one, as links with what each answers.

    Example:
        >>> "What eats the disk" in repr(cards())
        True
    """
    return Cards([book for book in runbooks() if not book.name.startswith("00")])

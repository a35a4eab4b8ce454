"""The API console: ask a registry as with curl, see all of the answer, and plan what would write."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from regnb.change.plan import Plan
from regnb.errors import InvalidArgument, MissingExtra, RegnbError
from regnb.oci.manifest import DOCKER_MANIFEST
from regnb.registry import Registry
from regnb.tables.markup import Cell, table
from regnb.text import count
from regnb.widgets.forms import Form
from regnb.widgets.page import WIDE, WRAP, box, choice, faint, preformatted, text_area, text_field
from regnb.wire.exchange import READS, Answer, check_headers, headers_of
from regnb.wire.pasted import pasted

try:
    import ipywidgets as widgets
except ImportError as missing:
    raise MissingExtra(missing.name or "ipywidgets", "lab") from None

SHOWN: Final = 200_000
"""Characters of a body that a page shows."""
_FOLDED: Final = 60
"""Lines of a body that are shown unasked."""
_SUGGESTED: Final = 1_000
_PLAIN: Final = re.compile(r"[\w./-]+")
"""A name that may be suggested."""
_KEPT: Final = 20
"""Requests in the history."""
_METHODS: Final = ("GET", "HEAD", "OPTIONS", "PUT", "POST", "DELETE")
_BODY, _INCLUDE, _HEAD = "the body", "-i: status line, headers, body", "-I: a HEAD, without the body"
_OWN: Final = "My own request"
_MOUNTS: Final = "a copy mounts every layer and puts the manifest as one plan: notebook 11-copy, or registry.plan_copy."
_FILLED: Final = ("repository", "reference", "digest", "tag")
"""The fields that a lesson's path is made of."""


class Lesson(NamedTuple):
    """One request to learn from.

    Attributes:
        path: With the fields that it needs in braces.
        teaches: What one sees by it, in a sentence.
        accept: The Accept to begin with, or "" for every type of manifest.
        more: A field that it needs beside those in ``path``.
    """

    method: str
    path: str
    teaches: str
    accept: str = ""
    more: str = ""


_MANIFEST: Final = "/v2/{repository}/manifests/{reference}"
_NAMED: Final = "/v2/{{repository}}/{}/{{digest}}"
LESSONS: Final = {
    "Is this a registry?": Lesson("GET", "/v2/", "200: yes. 401: yes, and Www-Authenticate says how to log in."),
    "Repositories: the catalog": Lesson("GET", "/v2/_catalog?n=100", "It comes in pages of n; Link leads to the next."),
    "Tags of a repository": Lesson(
        "GET", "/v2/{repository}/tags/list", "Names only. The digest of each tag takes a request of its own."
    ),
    "Manifest": Lesson("GET", _MANIFEST, "It names config and layers; that of a list names a manifest per platform."),
    "Digest, by HEAD": Lesson(
        "HEAD", _MANIFEST, "Docker-Content-Digest is the digest to delete by; it depends on what Accept accepts."
    ),
    "Digest, accepting one type only": Lesson(
        "HEAD", _MANIFEST, "Of a list, this may be the digest of one image in it, or 404.", DOCKER_MANIFEST
    ),
    "Config or layer": Lesson(
        "GET", _NAMED.format("blobs"), "A config is JSON, with the history; a layer is an archive."
    ),
    "Delete by digest": Lesson(
        "DELETE",
        _NAMED.format("manifests"),
        "Every tag on this digest is deleted, too: the plan names them. A garbage collection then frees the bytes.",
    ),
    "Delete by tag": Lesson(
        "DELETE",
        _MANIFEST,
        "The other tags stay. Docker's registry refuses it (DIGEST_INVALID), until 'dummy' is allowed.",
    ),
    "Retag: GET, then PUT": Lesson(
        "PUT",
        "/v2/{repository}/manifests/{tag}",
        "The same bytes have the same digest; no layer moves.",
        "",
        "reference",
    ),
    "Move, step 1: the manifest": Lesson(
        "GET", _MANIFEST, "Its bytes go to the new place as they are; it names the config and the layers."
    ),
    "Move, step 2: is a layer there?": Lesson(
        "HEAD",
        _NAMED.format("blobs"),
        "Each layer, and the config, must be in the new repository before the manifest. 404: it has to be mounted.",
    ),
    "Move, step 3: mount each layer": Lesson(
        "OPTIONS",
        "/v2/{repository}/blobs/uploads/",
        "POST to this path with ?mount=DIGEST&from=REPOSITORY mounts a layer: 201. 202: it was not mounted, and an "
        "upload has begun. Paste such a curl line above: its preview plans all four steps as one copy.",
    ),
    "Move, step 4: put the manifest": Lesson(
        "PUT",
        "/v2/{repository}/manifests/{tag}",
        "Within one repository this is Retag; into another one it is refused until every layer is there.",
        "",
        "reference",
    ),
    "Quotes around a URL": Lesson(
        "GET",
        "/v2/_catalog?n=1&last=a",
        "A shell ends a command at an unquoted &: curl -X POST …?mount=DIGEST&from=REPOSITORY never sends from=, and "
        "nothing is mounted. Put the whole URL in quotes.",
    ),
    _OWN: Lesson("GET", "/v2/", "GET, HEAD and OPTIONS are sent; PUT, DELETE and a mounting POST are planned."),
}
"""What there is to choose, by name."""


class _Page(Struct):
    repositories: list[str] | None = None
    tags: list[str] | None = None


class Console(Form):
    """Requests to a registry: reading ones are sent, writing ones are planned, confirmed by code, and applied.

    Made by :func:`console`.

    Attributes:
        answer: The last one, or None.
        history: When, what and with which answer, of the last 20 requests.

    Example:
        >>> shown = console(registry)
        >>> shown
        <Console of localhost:5000, 0 requests>
    """

    def __init__(self, registry: Registry) -> None:
        def suggesting(label: str, hint: str) -> Any:  # noqa: ANN401 -- ipywidgets have no types
            style = {"description_width": "76px"}
            return widgets.Combobox(description=label, placeholder=hint, style=style, layout=WIDE)

        fields = {
            "repository": suggesting("Repository", "vm/centos8; the catalog fills in what there is"),
            "reference": suggesting("Tag", "latest, or a digest; the list of tags fills in what there is"),
            "digest": text_field("Digest", "sha256:…; a manifest's answer fills it in"),
            "tag": text_field("New tag", "stable"),
            "method": choice("Method", _METHODS),
            "path": text_field("Path", "/v2/…"),
            "headers": text_area("Headers", "", 2),
            "body": text_area("Body", "", 4),
            "view": choice("Show", (_BODY, _INCLUDE, _HEAD)),
            "lesson": choice("Operation", tuple(LESSONS)),
            "line": text_field(
                "curl", "paste a curl line, then Enter: it fills in the fields", continuous_update=False
            ),
        }
        self.answer: Answer | None = None
        self.history: deque[tuple[str, str, str, str]] = deque(maxlen=_KEPT)
        allow = ("overwrite", "dummy", "parents", "incomplete")
        super().__init__(registry, "API console", self._made, fields=fields, allow=allow, choose="")
        for name in _FILLED:
            fields[name].observe(lambda _: self._fill_in(), "value")
        fields["lesson"].observe(lambda _: self._choose_lesson(), "value")
        fields["method"].observe(lambda _: self._arrange(), "value")
        fields["line"].observe(lambda _: self._try(self._answered, self._paste), "value")
        self._choose_lesson()

    def __repr__(self) -> str:
        return f"<Console of {self.registry.host}, {len(self.history)} requests>"

    def _draw(self) -> None:
        fields = self._fields
        self._teaches, self._answered, self._past = (widgets.HTML() for _ in range(3))
        self._to_send = self._button("Send", "primary", self._start_sending, self._answered)
        self._to_next = self._button("Next page", "", self._turn, self._answered)
        for hidden in (self._to_next, self._to_read, self._stale):
            hidden.layout.display = "none"
        order = ("lesson", "line", *_FILLED, "method", "path", "headers", "body", "view")
        first, *rest = (fields[name] for name in order)
        allowances = [widgets.HTML(faint("Override safety checks:")), *self._allow.values()]
        confirm = [self._prompt, widgets.HBox([self._code, self._to_apply], layout=WRAP)]
        parts = {
            "Ask": [first, self._teaches, *rest, self._to_send],
            "Answer": [self._answered, self._to_next],
            "Preview": [*allowances, self._to_preview, self._preview, self._offered],
            "Confirm": [*confirm, self._trouble, self._progress, self._after],
            "History": [self._past],
        }
        self._lay_out(self._title, f"on {self.registry.host}", parts)

    # What is asked

    @property
    def _lesson(self) -> Lesson:
        return LESSONS[self._fields["lesson"].value]

    def _choose_lesson(self) -> None:
        lesson, fields = self._lesson, self._fields
        self._teaches.value = faint(lesson.teaches)
        fields["method"].value = lesson.method
        fields["headers"].value = f"Accept: {lesson.accept}" if lesson.accept else ""
        fields["body"].value = ""
        self._fill_in()
        self._arrange()

    def _fill_in(self) -> None:
        """Write the path that the lesson and its fields mean."""
        if self._fields["lesson"].value != _OWN:
            named = {name: field.value.strip() or f"<{name}>" for name, field in self._fields.items()}
            self._fields["path"].value = self._lesson.path.format(**named)

    def _paste(self) -> None:
        """Fill in the fields from the curl line, and say what a shell makes of it."""
        fields, text = self._fields, self._fields["line"].value
        if not text.strip():
            return
        fields["line"].value = ""  # a header in it may be a secret, and a notebook saves what its fields hold
        line = pasted(text)
        if line.method not in _METHODS:
            raise InvalidArgument(
                f"{line.method} {line.path} is not sent from here",
                hint=f"{_MOUNTS} {' '.join(f'{note}.' for note in line.notes)}",
            )
        if line.data.startswith("@"):
            raise InvalidArgument("a page reads no files", hint="paste the manifest into Body")
        fields["lesson"].value = _OWN
        fields["method"].value, fields["path"].value = line.method, line.path
        fields["headers"].value, fields["body"].value = "\n".join(line.headers), line.data
        fields["view"].value = _INCLUDE if line.include else _BODY
        self._headers()
        notes = [f"{note[0].upper()}{note[1:]}." for note in line.notes]
        if line.host != self.registry.host:
            notes.append(f"The line names {line.host}; here {self.registry.host} is asked.")
        self._teaches.value = box("warn", " ".join(notes)) if notes else faint("The fields hold what the line says.")

    def _arrange(self) -> None:
        """Show the fields that are needed, and the parts for what is read or for what is written."""
        lesson, fields = self._lesson, self._fields
        reads, own = fields["method"].value in READS, fields["lesson"].value == _OWN
        shown = {fields[name]: f"{{{name}}}" in lesson.path or name == lesson.more for name in _FILLED}
        shown |= {fields["headers"]: own or bool(lesson.accept), fields["body"]: own}
        shown |= dict.fromkeys((self._to_send, fields["view"], self.parts["Answer"]), reads)
        adds = fields["method"].value in ("PUT", "POST")
        shown |= {box: (name == "overwrite") == adds for name, box in self._allow.items()}
        shown |= dict.fromkeys((self.parts["Preview"], self.parts["Confirm"]), not reads or self.receipt is not None)
        for widget, wanted in shown.items():
            widget.layout.display = None if wanted else "none"

    def _headers(self) -> dict[str, str]:
        field = self._fields["headers"]
        try:
            return check_headers(headers_of(field.value.splitlines()))
        except InvalidArgument:
            field.value = ""  # what is not sent may be a secret, and a notebook saves what its fields hold
            raise

    # What is read

    def _start_sending(self) -> None:
        method, path = self._fields["method"].value, self._fields["path"].value.strip()
        if method == "GET" and self._fields["view"].value == _HEAD:
            method = "HEAD"
        self._look(method, path, self._headers())

    def _turn(self) -> None:
        if self.answer is not None:
            self._look("GET", self.answer.following, self.answer.exchange.request_headers)

    def _look(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._answered.value = box("", f"Asking {self.registry.host}…")
        self._to_next.layout.display = "none"

        def work() -> None:
            try:
                answer = self.answer = self.registry.request(method, path, headers=headers)
            except RegnbError:
                self._note(f"{method} {path}", "no answer", "")
                raise
            self._note(f"{method} {path}", answer.line.partition(" ")[2], _duration(answer))
            self._learn(answer)
            self._answered.value = _answer_html(answer, include=self._fields["view"].value == _INCLUDE)
            self._to_next.layout.display = None if answer.following else "none"

        self._run(self._answered, work)

    def _learn(self, answer: Answer) -> None:
        """Suggest what an answer names; only lawful names are taken over."""
        with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
            page = msgspec.json.decode(answer.body, type=_Page)
            for name, found in (("repository", page.repositories), ("reference", page.tags)):
                if found:
                    self._fields[name].options = tuple(filter(_PLAIN.fullmatch, found[:_SUGGESTED]))
        if answer.digest and "/manifests/" in answer.exchange.url:
            self._fields["digest"].value = answer.digest

    def _note(self, asked: str, said: str, duration: str) -> None:
        self.history.appendleft((datetime.now(UTC).astimezone().strftime("%H:%M:%S"), asked, said, duration))
        head = [Cell(name, scope="col") for name in ("when", "request", "answer", "time")]
        rows = [[Cell(text) for text in row] for row in self.history]
        self._past.value = table(head, rows, kind="dataframe regnb-past")

    # What is planned

    def _made(self, _: object, __: object, values: Mapping[str, Any]) -> Plan:
        headers, body = self._headers(), values["body"].encode()
        if values["lesson"] != _OWN and values["method"] == "PUT":
            repository, target = values["repository"].strip(), values["reference"].strip()
            manifest = self.registry.manifest(f"{repository}{'@' if ':' in target else ':'}{target}")
            headers, body = {"Content-Type": manifest.media_type}, manifest.raw
        path = values["path"].strip()
        return self.registry.plan_request(values["method"], path, headers=headers, body=body, allow=values["allow"])


def _duration(answer: Answer) -> str:
    return f"{answer.seconds * 1000:,.0f} ms"


def _answer_html(answer: Answer, *, include: bool) -> str:
    """Return an answer for people: request, status, what it means, headers, body, and the curl command."""
    kind = "good" if answer.status < 300 else "warn" if answer.status < 400 else "bad"  # noqa: PLR2004 -- HTTP's own
    about = f"{_duration(answer)}, {answer.summary}"
    parts = [f"{preformatted(answer.request)}", box(kind, answer.line, about)]
    if answer.problem:
        parts.append(box("warn", answer.problem, answer.hint))
    if include or answer.exchange.method == "HEAD":
        parts.append(f"{preformatted(answer.head)}")
    if text := answer.text:
        lines = text.count("\n") + 1
        cut = f"<p>{len(text) - SHOWN:,} characters more: console.answer.text</p>" if len(text) > SHOWN else ""
        parts.append(
            f"<details{' open' if lines <= _FOLDED else ''}><summary>Body, {count(lines, 'line')}</summary>"
            f"<div class='regnb-scroll' tabindex='0' role='region' aria-label='Body'>"
            f"{preformatted(text[:SHOWN])}</div>{cut}</details>"
        )
    parts.append(f"<p>The same with curl (a click selects it):</p>{preformatted(answer.curl, command=True)}")
    return "".join(parts)


def console(registry: Registry) -> Console:
    """Return a form for requests to a registry's API.

    Args:
        registry: Of :func:`regnb.connect`.

    Example:
        >>> form = console(registry)
    """
    return Console(registry)

"""A form for Kubernetes: settings, their manifests, a check of what is reachable, and old manifests converted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any, Final

from msgspec import structs

from regnb.cluster.ingress import Converted, convert
from regnb.cluster.reach import check
from regnb.cluster.resources import CONTROLLERS, FIELDS, PARTS, WAYS, Settings, manifests, notes, to_yaml
from regnb.errors import InvalidArgument, MissingExtra
from regnb.text import escaped
from regnb.widgets.page import (
    Panel,
    Widget,
    box,
    check_box,
    checks_html,
    choice,
    download,
    faint,
    preformatted,
    read_only,
    served,
    text_area,
    text_field,
)

try:
    import ipywidgets as widgets
except ImportError as missing:
    raise MissingExtra(missing.name or "ipywidgets", "lab") from None

FILE: Final = "kube-registry.yaml"
"""What a browser saves the manifests as."""
_OUTSIDE: Final = {
    "host": "Host", "way": "Way", "controller": "Controller", "ingress_class": "Class", "tls_secret": "TLS",
    "https_only": "", "api_port": "API port", "ui_port": "UI port",
}  # fmt: skip
_INSIDE: Final = {
    "name": "Name", "namespace": "Namespace", "registry_image": "Registry", "ui_image": "UI image",
    "storage": "Storage", "snapshots": "Snapshots", "storage_class": "Volumes", "htpasswd_secret": "Users",
    "docker_secret": "Docker", "token_secret": "UI token", "trusted_proxy": "Proxies", "schedule": "Audit at",
    "collect": "Collect", "trash": "Trash days",
    "fail_over": "Fail over", "fail_on_growth": "Fail growth", "keep_daily": "Keep days", "webhook_secret": "Webhook",
}  # fmt: skip
"""The settings' labels; what each means is their tooltip, and stands in them while they are empty, or below them."""
_MADE: Final = {
    "registry": "The registry, with deletion enabled.",
    "ui": "regnb's web UI.",
    "audit": "A nightly audit, which saves a snapshot.",
    "service": "A Service for both.",
    "access": "Access from outside: Ingress or node ports.",
    "policy": "A NetworkPolicy: only two ports accept connections, and the UI reaches only the registry.",
}
_LABEL_WIDTH: Final = "88px"
_FITS: Final = 60
"""Letters that an empty field shows whole in a narrow window."""
_SENT: Final = "This starts an upload of 20 MB of zeros and cancels it: nothing is stored."
_OFF: Final = "The check starts an upload, and this page is read-only. Run it in a shell: regnb kube check HOST"


class ExposeForm(Panel):
    """Settings, and the manifests that they mean, drawn anew at each change; nothing is sent but by the Check button.

    Made by :func:`expose_form`.

    Attributes:
        settings: As they stand in the form, or None where they make no sense.
        yaml: The manifests of the last settings that did.

    Example:
        >>> form = expose_form(Settings(host="r.example.com"))
        >>> "kind: Ingress" in form.yaml.splitlines()
        True
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings: Settings | None = settings
        self.yaml = ""
        given = structs.asdict(settings)
        self._fields = {name: _field(name, label, given[name]) for name, label in (_OUTSIDE | _INSIDE).items()}
        self._parts = {name: check_box(text, value=name in settings.parts) for name, text in _MADE.items()}
        self._made, self._new = widgets.HTML(), widgets.HTML()
        self._old = text_area("Old YAML", rows=6)
        for control in (*self._fields.values(), self._old):
            control.style.description_width = _LABEL_WIDTH
        for control in (*self._fields.values(), *self._parts.values()):
            control.observe(lambda _: self._try(self._made, self._draw), "value")
        self._old.observe(lambda _: self._try(self._new, self._convert), "value")
        parts = {
            "Access": self._explained(_OUTSIDE),
            "What runs": [*self._parts.values(), *self._explained(_INSIDE)],
            "Manifests": [self._made],
            # What is not shown must not exist: it could be reached over the kernel's channel.
            "Is it reachable?": [widgets.HTML(faint(_OFF))] if _closed() else self._checking(settings.host),
            "Old manifests": [
                widgets.HTML(faint("Ingresses of v1beta1 become networking.k8s.io/v1.")),
                self._old,
                self._new,
            ],
        }
        self._lay_out("On Kubernetes", "nothing is applied from here", parts)
        self._try(self._made, self._draw)

    def _explained(self, names: Iterable[str]) -> list[Widget]:
        """Return fields, each that a long sentence explains with this sentence below it."""
        found: list[Widget] = []
        for name in names:
            found.append(self._fields[name])
            if name not in ("way", "controller", "https_only") and len(FIELDS[name]) > _FITS:
                found.append(widgets.HTML(f"<div class='regnb-below'>{faint(FIELDS[name])}</div>"))
        return found

    def __repr__(self) -> str:
        return f"<ExposeForm: {self._fields['host'].value}>"

    def _draw(self) -> None:
        """Make the manifests anew, and show the fields that matter for this way."""
        self.settings = None
        values = {name: field.value for name, field in self._fields.items()}
        for name in _OUTSIDE:
            ports, other = name in ("api_port", "ui_port"), name == "way"
            self._fields[name].layout.display = None if other or ports == (values["way"] == "nodeport") else "none"
        for name in ("api_port", "ui_port", "trash", "keep_daily"):
            values[name] = _number(values[name], self._fields[name].description)
        values |= {name: text.strip() for name, text in values.items() if isinstance(text, str)}
        settings = Settings(**values, parts=tuple(name for name in PARTS if self._parts[name].value))
        remarks = notes(settings)
        self.yaml = to_yaml(manifests(settings), remarks)
        self.settings = settings
        listed = "".join(f"<li>{escaped(remark)}</li>" for remark in remarks)
        made = f"<p>Also to do:</p><ul>{listed}</ul>" if remarks else ""
        line = f"{_command(settings)} | kubectl apply -f -"
        link = download(self.yaml.encode(), FILE, f"Download {FILE}")
        self._made.value = (
            f"<p>{link}, then <code>kubectl apply -f {FILE}</code>; or"
            f"</p>{preformatted(line, command=True)}{made}{_shown(self.yaml, 'Manifests')}"
        )

    def _checking(self, host: str) -> list[Widget]:
        self._address = text_field("Address", "what to ask: a host name, or a node", value=host)
        self._address.style.description_width = _LABEL_WIDTH
        self._checked = widgets.HTML()
        self._to_check = self._button("Check", "primary", self._start_check, self._checked)
        self._fields["host"].observe(self._follow, "value")
        return [self._address, widgets.HTML(faint(_SENT)), self._to_check, self._checked]

    def _follow(self, change: Any) -> None:  # noqa: ANN401 -- a traitlets Bunch
        if self._address.value == change["old"]:
            self._address.value = change["new"]

    def _start_check(self) -> None:
        settings = self.settings
        if settings is None:
            raise InvalidArgument("these settings are not valid yet", hint="see above, in Manifests")
        if _closed():
            raise InvalidArgument("nothing is sent from here", hint="in a shell: regnb kube check HOST")
        options: dict[str, Any] = {"https_only": settings.https_only}
        if settings.way == "nodeport":
            options = {"api_port": settings.api_port, "ui_port": settings.ui_port}
        self._checked.value = box("", f"Asking {self._address.value}…")

        def work() -> None:
            self._checked.value = checks_html(check(self._address.value.strip(), **options))

        self._run(self._checked, work)

    def _convert(self) -> None:
        found = convert(self._old.value) if self._old.value.strip() else Converted([], [])
        if not found.documents:
            self._new.value = ""
            return
        text = to_yaml(found.documents, found.notes)
        listed = "".join(f"<li>{escaped(note)}</li>" for note in found.notes) or "<li>Nothing was to be changed.</li>"
        link = download(text.encode(), "converted.yaml", "Download converted.yaml")
        self._new.value = f"<ul>{listed}</ul><p>{link}</p>{_shown(text, 'Converted')}"


def _closed() -> bool:
    """Whether nothing may be sent from here to an address that somebody types."""
    return read_only() or served()


def _field(name: str, label: str, value: Any) -> Widget:  # noqa: ANN401 -- as in Settings
    meaning = FIELDS[name]
    if isinstance(value, bool):
        return check_box(meaning, value=value)
    if name in ("way", "controller"):
        found = choice(label, WAYS if name == "way" else CONTROLLERS, value)
        found.tooltip = meaning
        return found
    return text_field(label, meaning if len(meaning) <= _FITS else "", value=str(value), tooltip=meaning)


def _number(text: str, label: str) -> int:
    if not text.strip().isdecimal():
        raise InvalidArgument(f"{label} cannot be {text[:100]!r}", hint="write a number, such as 30500")
    return int(text)


def _command(settings: Settings) -> str:
    """Return the command that makes the same manifests."""
    words = ["regnb", "kube", "expose"]
    for field in structs.fields(settings):
        value = getattr(settings, field.name)
        option = f"--{field.name.replace('_', '-')}"
        if field.name == "parts" and value != field.default:
            words += (word for part in value for word in ("--part", part))
        elif value is True:
            words.append(option)
        elif value != field.default:
            words += [option, str(value)]
    return shlex.join(words)


def _shown(text: str, label: str) -> str:
    inside = preformatted(text)
    return f"<div class='regnb-scroll' tabindex='0' role='region' aria-label='{label}'>{inside}</div>"


def expose_form(settings: Settings | None = None) -> ExposeForm:
    """Return a form that writes the manifests of a registry and its UI.

    Args:
        settings: To begin with.

    Example:
        >>> expose_form(Settings(host="r.example.com"))
        <ExposeForm: r.example.com>
    """
    return ExposeForm(settings or Settings(host="r.example.com"))

"""The form for Kubernetes, driven as a browser drives it: values are set, buttons clicked, what is shown is read."""

from __future__ import annotations

import base64
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import reverse
import yaml
from conftest import Seeded
from distribution import free_port
from images import regnb
from test_resources import INGRESS, check_valid

from regnb.cluster.ingress import convert
from regnb.cluster.resources import FIELDS, Settings, manifests
from regnb.widgets.expose_form import FILE, ExposeForm, expose_form


def shown(form: ExposeForm) -> str:
    return str(form._made.value)


def downloaded(text: str) -> tuple[str, list[dict[str, Any]]]:
    """The name of the file that a link saves, and the documents in it."""
    name, data = re.findall(r"download='([^']+)' href='data:[^,]+;base64,([^']+)'", text)[0]
    return name, [*yaml.safe_load_all(base64.b64decode(data))]


def is_shown(widget: Any) -> bool:
    return widget.layout.display != "none"


def settle(form: ExposeForm) -> str:
    """Wait for what a click began, and return what the check shows."""
    assert form._thread is not None
    form._thread.join(60)
    return str(form._checked.value)


def test_the_manifests_follow_every_change() -> None:
    """What is shown, what is downloaded and what Python has are the same, and valid."""
    form = expose_form()
    assert form.settings == Settings(host="r.example.com")
    form._fields["controller"].value = "nginx"
    form._fields["tls_secret"].value = " r-tls "
    form._fields["https_only"].value = True
    form._parts["audit"].value = False
    assert form.settings is not None
    assert (form.settings.controller, form.settings.tls_secret) == ("nginx", "r-tls")
    assert "audit" not in form.settings.parts
    made = manifests(form.settings)
    check_valid(made)
    assert [*yaml.safe_load_all(form.yaml)] == made
    assert downloaded(shown(form)) == (FILE, made)
    assert "ingressClassName: nginx" in shown(form)
    assert "create secret tls r-tls" in shown(form)


def test_the_command_makes_the_same(tmp_path: Path) -> None:
    """The line that is shown, run as it stands, prints the manifests of the form."""
    form = expose_form(Settings(host="r.example.com", way="nodeport", parts=("service", "access")))
    form._fields["api_port"].value = "31500"
    form._fields["schedule"].value = "0 4 * * *"
    line = re.findall(r"<pre><code>(regnb kube expose .*) \| kubectl apply -f -</code>", shown(form))[0]
    done = regnb(tmp_path, *shlex.split(line.replace("&#x27;", "'"))[1:])
    assert [*yaml.safe_load_all(done.stdout)] == [*yaml.safe_load_all(form.yaml)]


@pytest.mark.parametrize(
    ("field", "value"), [("host", "http://x"), ("host", "<img src=x>"), ("schedule", "daily"), ("ui_image", "a")]
)
def test_a_mistake_is_shown_and_no_manifest(field: str, value: str) -> None:
    """The message stands where the manifests were, without a way to download them; put right, they are back."""
    form = expose_form()
    before, old = shown(form), form._fields[field].value
    form._fields[field].value = value
    assert form.settings is None
    assert "regnb-bad" in shown(form)
    assert f"{field} cannot be" in shown(form)
    assert "download=" not in shown(form)
    assert "<img" not in shown(form)
    form._fields[field].value = old
    assert shown(form) == before


def test_the_fields_fit_the_way() -> None:
    """Node ports need no host and no certificate, an Ingress no ports; a port that is not a number is a mistake."""
    form = expose_form()
    assert is_shown(form._fields["host"])
    assert not is_shown(form._fields["api_port"])
    form._fields["way"].value = "nodeport"
    assert not is_shown(form._fields["tls_secret"])
    assert is_shown(form._fields["ui_port"])
    assert "nodePort: 30500" in form.yaml
    form._fields["api_port"].value = "many"
    assert "API port cannot be" in shown(form)


def test_every_control_has_a_label() -> None:
    """And says what it means: in its tooltip, or as the sentence beside a box."""
    form = expose_form()
    for name, field in form._fields.items():
        assert field.description
        assert FIELDS[name] in (getattr(field, "tooltip", ""), field.description)
    for control in (form._address, form._old, form._to_check, *form._parts.values()):
        assert control.description


def test_nothing_is_asked_before_the_click(
    proxy_program: None, writable: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check runs in the background, on a click alone, and shows each row with its hint."""
    with reverse.nginx(tmp_path / "nginx", {"/v2": writable.host}) as proxy:
        form = expose_form(Settings(way="nodeport", api_port=proxy.http_port, ui_port=free_port()))
        form._address.value = "127.0.0.1"
        form._fields["name"].value = "other"
        assert proxy.log.read_text(encoding="utf-8") == ""
        form._to_check.click()
        text = settle(form)
    assert "<th scope='row'>upload of 20.0 MB</th>" in text
    assert text.count("class='regnb-fail'") == 1, "the UI"


@pytest.mark.parametrize("variable", ["REGNB_READ_ONLY", "REGNB_SERVED"])
def test_a_page_for_others_asks_nobody(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Whoever sees a served page must not make its server call addresses; the page says what to do instead."""
    before = expose_form()
    monkeypatch.setenv(variable, "1")
    before._to_check.click()
    assert before._thread is None
    assert "nothing is sent from here" in before._checked.value
    form = expose_form()
    never = ("_to_check", "_address", "_checked")
    assert not [name for name in never if hasattr(form, name)], "a widget that is not shown does not exist"
    assert any(
        "regnb kube check" in str(getattr(each, "value", "")) for part in form.children for each in part.children
    )


def test_the_address_follows_the_host() -> None:
    """Until somebody writes another one."""
    form = expose_form()
    form._fields["host"].value = "s.example.com"
    assert form._address.value == "s.example.com"
    form._address.value = "10.0.0.1"
    form._fields["host"].value = "t.example.com"
    assert form._address.value == "10.0.0.1"


def test_old_manifests_are_converted() -> None:
    """Pasted YAML becomes today's, with what was changed, to look at and to download; a mistake is a message."""
    form = expose_form()
    form._old.value = INGRESS
    assert downloaded(form._new.value) == ("converted.yaml", convert(INGRESS).documents)
    assert "ingressClassName" in form._new.value
    form._old.value = "a: ["
    assert "not YAML" in form._new.value
    form._old.value = "<script>: 1"
    assert "<script" not in form._new.value
    form._old.value = "{apiVersion: v1, kind: '<script>'}"
    assert "<script" not in form._new.value
    assert "Nothing was to be changed" in form._new.value
    form._old.value = " "
    assert form._new.value == ""


def test_what_cannot_be_checked_is_said() -> None:
    """Settings that make no sense, and an address that is none."""
    form = expose_form()
    form._address.value = "http://r.example.com"
    form._to_check.click()
    assert "not a host name" in settle(form)
    form._fields["host"].value = ""
    form._to_check.click()
    assert "are not valid yet" in form._checked.value

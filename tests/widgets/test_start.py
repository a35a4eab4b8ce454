"""The start page without a browser: connecting, the health card, the cards of the runbooks, and what it never keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Seeded
from distribution import Distribution
from proxied import proxy
from scripted import Request

from regnb.errors import RegnbError
from regnb.local import sandbox
from regnb.notebooks.runbook import runbooks
from regnb.widgets import start
from regnb.widgets.start import Start

SECRET = "canary-52871"


def click(button: object) -> None:
    button.click()  # type: ignore[attr-defined]


def settle(page: Start) -> None:
    assert page._thread is not None
    page._thread.join(60)


def type_password(page: Start, text: str) -> None:
    """What the browser sends when the field is left."""
    page._password._handle_custom_msg({"secret": text}, [])


@pytest.fixture
def locked(distribution_program: None, tmp_path: Path) -> Iterator[Distribution]:
    """A docker-registry that asks for a user and a password."""
    import subprocess  # noqa: PLC0415 -- only here

    users = tmp_path / "users"
    done = subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, text=True, check=True)
    users.write_text(done.stdout, encoding="utf-8")
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(users)}}}
    with Distribution(tmp_path / "locked", config=auth) as found:
        yield found


def test_it_connects_and_shows_how_the_registry_is(seeded: Seeded) -> None:
    """With a URL the registry is there for the cells below, its health is shown, and only GET and HEAD were sent."""
    requests: list[Request] = []
    with proxy(seeded.host, requests.append) as between:
        page = start.start(between.url)
        assert page.registry.host == between.host
        assert "Connected" in page._state.value
        for check in ("API", "authentication", "catalog", "referrers", "deletion"):
            assert check in page._checks.value
        assert {request.method for request in requests} <= {"GET", "HEAD"}
        click(page._to_probe)
        settle(page)
        assert "manifests by their digest" in page._checks.value
        assert "DELETE" in {request.method for request in requests}
        page.registry.close()


def test_nothing_there_is_said_and_stops_the_cells_below() -> None:
    """A refused connection is a sentence in the page; whoever uses the registry all the same gets it as an error."""
    page = start.start("http://127.0.0.1:9")
    assert "refuses connections" in page._state.value
    assert "role='alert'" in page._state.value
    with pytest.raises(RegnbError, match="refuses connections") as error:
        _ = page.registry
    assert "run the cells below" in error.value.hint


def test_without_a_url_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked before there is a name, and the cells below say so."""
    monkeypatch.delenv("REGNB_URL", raising=False)
    page = start.start()
    assert page._state.value == ""
    with pytest.raises(RegnbError, match="no registry is connected"):
        _ = page.registry


def test_a_password_is_used_once_and_kept_nowhere(locked: Distribution) -> None:
    """Refused without it, connected with it; and it is in no widget's state, in no text, and not in the object."""
    page = start.start(locked.url)
    assert "type a user name and a password" in page._state.value
    page._user.value = "me"
    type_password(page, SECRET)
    click(page._to_connect)
    assert "Connected" in page._state.value
    assert "the login is accepted" in page._checks.value
    states = [widget.get_state() for widget in (page, page._password, page._user, page._state, page._checks)]
    assert SECRET not in json.dumps(states, default=str)
    assert SECRET not in repr(page) + repr(page.registry) + repr(vars(page._password))
    assert page._password.take() == ""
    page.registry.close()


def test_credentials_in_the_url_are_used_and_not_shown(locked: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """``REGNB_URL`` may hold them; the field, and so the saved notebook, has the address alone."""
    monkeypatch.setenv("REGNB_URL", locked.url.replace("://", f"://me:{SECRET}@"))
    page = start.start()
    assert "Connected" in page._state.value
    assert page._url.value == locked.url
    assert SECRET not in json.dumps(page._url.get_state(), default=str)
    page.registry.close()


def test_a_wrong_password_is_said(locked: Distribution) -> None:
    """The registry's refusal is shown, without what was typed."""
    page = start.start(locked.url)
    page._user.value = "me"
    type_password(page, "wrong-" + SECRET)
    click(page._to_connect)
    assert "role='alert'" in page._state.value
    assert SECRET not in page._state.value


def test_a_served_page_asks_for_no_registry(seeded_embedded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A visitor of the web UI cannot make the server connect elsewhere, and where it is read-only, not probe."""
    monkeypatch.setenv("REGNB_SERVED", "1")
    monkeypatch.setenv("REGNB_READ_ONLY", "1")
    page = start.start(seeded_embedded.url)
    never = ("_url", "_user", "_password", "_to_connect", "_to_probe", "_to_reset")
    assert not [name for name in never if hasattr(page, name)], "a widget that is not shown does not exist"
    page.registry.close()


def test_the_demo_can_be_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only on the demo there is a button, and it brings back what was deleted."""
    with sandbox.demo_registry() as found:
        other = start.start(found.url)
        assert not hasattr(other, "_to_reset")
        other.registry.close()
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        page = start.start()
        plan = page.registry.plan_delete("apps/web:1.*")
        page.registry.apply(plan, confirm=plan.code)
        assert "apps/web" not in set(page.registry.tags("apps/web")["tag"])
        assert page._to_reset in buttons(page)
        click(page._to_reset)
        settle(page)
        assert "Connected" in page._state.value
        assert "1.0.0" in set(page.registry.tags("apps/web")["tag"])
        page.registry.close()


def buttons(page: Start) -> list[object]:
    return [child for part in page.children for child in part.children]


def test_a_card_for_every_runbook() -> None:
    """Each notebook is a link with the question that it answers, in a group; none is forgotten."""
    shown = start.cards()._repr_html_()
    for book in runbooks()[1:]:
        assert f"href='{book.path.name}'" in shown
    assert shown.count("<li>") == len(runbooks()) - 1

"""Forms, driven as a browser drives them: values are set, buttons clicked, and what is shown is read."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from conftest import Seeded
from images import surroundings
from proxied import proxy, state
from scripted import Reply

import regnb
from regnb.analysis.inventory import Inventory
from regnb.change.journal import Journal
from regnb.change.plan import Plan
from regnb.errors import Refused, ServerFailed, StorageError
from regnb.registry import Registry
from regnb.widgets import forms, table
from regnb.widgets.forms import Form

SIBLINGS = {"8", "8.4", "latest"}
"""Tags of vm/centos8 on one digest."""


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "receipts"


@pytest.fixture
def registry(writable: Seeded) -> Iterator[Registry]:
    with regnb.connect(writable.url, cache=False) as connected:
        yield connected


@pytest.fixture
def inventory(registry: Registry) -> Inventory:
    return registry.inventory("vm/*", progress=False)


@pytest.fixture
def read(seeded_embedded: Seeded) -> Iterator[tuple[Registry, Inventory]]:
    """The embedded registry, for tests that write nothing."""
    with regnb.connect(seeded_embedded.url, cache=False) as connected:
        yield connected, connected.inventory("vm/*", progress=False)


def settle(form: Form) -> None:
    """Wait until what a click began has ended."""
    assert form._thread is not None
    form._thread.join(60)
    assert not form._thread.is_alive()


def choose(form: Form, *names: str) -> None:
    rows = form._table.shown["repository"] + ":" + form._table.shown["tag"]
    form._table.grid.selected_rows = [int(rows.index[rows == name][0]) for name in names]


def preview(form: Form) -> str:
    form._to_preview.click()
    settle(form)
    return str(form._preview.value)


def confirm(form: Form) -> None:
    assert form.plan is not None, form._preview.value
    form._code.value = form.plan.code
    assert not form._to_apply.disabled
    form._to_apply.click()
    settle(form)


def undone(form: Form) -> None:
    """Take back what was applied, by the button."""
    form._undo_dummy.value = True
    form._to_undo.click()
    settle(form)
    assert form.plan is not None, form._preview.value
    assert form.plan.operation == "undo"
    confirm(form)
    assert form.receipt is not None
    assert form.receipt.status == "done", form._result.value


def retagging(registry: Registry, inventory: Inventory) -> Form:
    form = forms.retag(registry, inventory)
    choose(form, "vm/centos8:8.3")
    form._fields["tag"].value = "stable"
    return form


def copying(registry: Registry, inventory: Inventory) -> Form:
    form = forms.copy(registry, inventory)
    choose(form, "vm/centos8:8.3", "vm/centos8:8.4")
    form._fields["to"].value = "archive/{repository}:{tag}"
    return form


def renaming(registry: Registry, inventory: Inventory) -> Form:
    form = forms.rename(registry, inventory)
    choose(form, "vm/centos8:8.4")
    form._fields["to"].value = "8.4-old"
    form._allow["dummy"].value = True
    return form


def deleting(registry: Registry, inventory: Inventory) -> Form:
    form = forms.delete(registry, inventory)
    choose(form, "vm/centos8:8.4")
    form._allow["dummy"].value = True
    return form


def retaining(registry: Registry, inventory: Inventory) -> Form:
    form = forms.retention(registry, inventory)
    form._fields["policy"].value = '[[rule]]\nrepositories = ["vm/*"]\nkeep_newest = 1\n'
    return form


AFTER: dict[str, tuple[Callable[[Registry, Inventory], Form], set[str], set[str]]] = {
    "retag": (retagging, {"vm/centos8:stable"}, set()),
    "copy": (copying, {"archive/vm/centos8:8.3", "archive/vm/centos8:8.4"}, set()),
    "rename": (renaming, {"vm/centos8:8.4-old"}, {"vm/centos8:8.4"}),
    "delete": (deleting, set(), {"vm/centos8:8.4"}),
    "retention": (retaining, set(), {"vm/centos8:8.3"}),
}
"""Operation: the form filled in, the tags that it adds, the tags that it removes."""


@pytest.mark.parametrize("operation", AFTER)
def test_the_whole_way_and_back(
    operation: str, registry: Registry, inventory: Inventory, writable: Seeded, receipts: Path
) -> None:
    """Each form changes what its plan says and nothing else, says so, and Undo brings every byte back."""
    make, added, removed = AFTER[operation]
    repositories = ("vm/centos8", "vm/test/centos8", "archive/vm/centos8")
    before = state(writable.url, *repositories)
    form = make(registry, inventory)
    preview(form)
    assert state(writable.url, *repositories) == before
    assert not receipts.exists()
    confirm(form)
    assert form.plan is None
    assert form.receipt is not None, form._trouble.value
    assert form.receipt.status == "done", form._result.value
    assert form.receipt.name in form._result.value
    assert "Read again" in form._stale.value
    after = state(writable.url, *repositories)
    assert set(after) == (set(before) | added) - removed
    assert all(after[name] == before[name] for name in set(after) & set(before))
    undone(form)
    assert state(writable.url, *repositories) == before


def test_a_receipt_is_chosen_to_be_undone(registry: Registry, inventory: Inventory, writable: Seeded) -> None:
    """The form of receipts shows those of this registry, and takes one back."""
    before = state(writable.url, "vm/centos8")
    first = deleting(registry, inventory)
    preview(first)
    confirm(first)
    form = forms.undo(registry)
    assert "1 of 1 row" in form._table._count.value
    form._table.grid.selected_rows = [0]
    assert first.receipt is not None
    assert first.receipt.name in form._named.value
    preview(form)
    confirm(form)
    assert state(writable.url, "vm/centos8") == before
    form._to_read.click()
    settle(form)
    assert "2 of 2 rows" in form._table._count.value


def test_a_copy_from_another_registry(
    registry: Registry, seeded_embedded: Seeded, read: tuple[Registry, Inventory], writable: Seeded
) -> None:
    """The form reads from one registry and writes to the other, and undoes it there."""
    source, inventory = read
    form = forms.copy(registry, inventory, source)
    choose(form, "vm/centos8:8.3")
    form._fields["to"].value = "mirror/centos8"
    assert "vm/centos8:8.3" in preview(form)
    confirm(form)
    copied = state(writable.url, "mirror/centos8")
    assert copied["mirror/centos8:8.3"] == state(seeded_embedded.url, "vm/centos8")["vm/centos8:8.3"]
    form._to_read.click()
    settle(form)
    assert set(form.inventory.repositories["repository"]) == set(inventory.repositories["repository"])
    undone(form)
    assert state(writable.url, "mirror/centos8") == {}


@pytest.mark.parametrize("edit", ["field", "text", "allowance", "selection", "undo"])
def test_an_edit_disarms(edit: str, read: tuple[Registry, Inventory]) -> None:
    """Whatever is changed after the preview takes the plan, its code and the button away."""
    form = deleting(*read)
    preview(form)
    assert form.plan is not None
    form._code.value = form.plan.code
    assert not form._to_apply.disabled
    if edit == "field":
        form._fields["children"].value = False
    elif edit == "text":
        form._fields["in_use"].value = "pods.json"
    elif edit == "allowance":
        form._allow["parents"].value = True
    elif edit == "selection":
        choose(form, "vm/centos8:8.3")
    else:
        form._undo_dummy.value = True
    assert form.plan is None
    assert form._to_apply.disabled
    assert form._code.value == ""
    assert form._code.disabled
    assert "Changed: preview again" in form._preview.value


@pytest.mark.parametrize("typed", ["", "wrong", "00000000", "half", "upper"])
def test_another_code_arms_nothing(typed: str, read: tuple[Registry, Inventory]) -> None:
    """Only the plan's own code, whole, enables the button; and a click that comes all the same does nothing."""
    form = deleting(*read)
    preview(form)
    assert form.plan is not None
    code = form.plan.code
    form._code.value = {"half": code[:4], "upper": f"{code}0"}.get(typed, typed)
    assert form._to_apply.disabled
    thread = form._thread
    form._to_apply.click()
    assert form._thread is thread
    assert form.receipt is None


def test_the_code_of_an_earlier_plan_arms_nothing(read: tuple[Registry, Inventory]) -> None:
    """A second preview has another code."""
    form = deleting(*read)
    preview(form)
    assert form.plan is not None
    earlier = form.plan.code
    preview(form)
    assert form.plan.code != earlier
    form._code.value = earlier
    assert form._to_apply.disabled


def test_a_plan_is_applied_once(registry: Registry, inventory: Inventory) -> None:
    """The click spends the plan: a second one finds nothing to do."""
    form = deleting(registry, inventory)
    preview(form)
    with mock.patch.object(registry, "apply", wraps=registry.apply) as apply:
        confirm(form)
        form._to_apply.click()
        settle(form)
        assert apply.call_count == 1
    assert form._to_apply.disabled
    assert form._code.disabled


def test_an_edit_while_the_plan_is_made(read: tuple[Registry, Inventory]) -> None:
    """A plan that was overtaken by an edit is not offered."""
    registry, _ = read
    form = deleting(*read)
    make = registry.plan_delete

    def overtaken(*arguments: Any, **more: Any) -> Any:
        plan = make(*arguments, **more)
        form._fields["children"].value = False
        return plan

    with mock.patch.object(registry, "plan_delete", overtaken):
        assert "Changed: preview again" in preview(form)
    assert form.plan is None


def test_the_kernel_does_not_wait(read: tuple[Registry, Inventory]) -> None:
    """A click returns while the plan is still being made, and another click then starts nothing."""
    registry, _ = read
    form = deleting(*read)
    make, go = registry.plan_delete, mock.Mock(name="go", ready=False)

    def slow(*arguments: Any, **more: Any) -> Any:
        while not go.ready:
            time.sleep(0.01)
        return make(*arguments, **more)

    with mock.patch.object(registry, "plan_delete", slow):
        form._to_preview.click()
        assert "Making the plan" in form._preview.value
        thread = form._thread
        form._to_preview.click()
        form._to_read.click()
        assert form._thread is thread
        go.ready = True
        settle(form)
    assert form.plan is not None


def test_the_blast_radius_comes_first(read: tuple[Registry, Inventory]) -> None:
    """What goes along stands before the notes and the rows, and the commands can be unfolded."""
    form = deleting(*read)
    form._fields["digest"].value = True
    shown = preview(form)
    assert form.plan is not None
    assert SIBLINGS - {"8.4"} <= set(form.plan.blast["reference"])
    places = [
        shown.index(text) for text in (form.plan.summary(), "What else this touches", "Rows</h4>", "<ul>", "curl")
    ]
    assert places == sorted(places)
    assert "regnb-bad" in shown
    assert "curl -sSf -X DELETE" in shown


def test_what_the_registry_will_refuse_is_offered_beside_the_preview(registry: Registry, inventory: Inventory) -> None:
    """Where a tag cannot go alone, the preview says so and shows the box that allows it; ticked, the plan is ready."""
    form = forms.delete(registry, inventory)
    choose(form, "vm/centos8:8.4")
    shown = preview(form)
    if registry.capabilities.set_index("capability")["supported"]["tag deletion"] == "yes":
        assert form.plan is not None
        return
    assert "will refuse to remove vm/centos8:8.4 alone" in shown
    assert form.plan is None
    assert form._code.disabled
    (_, offered) = form._offered.children
    assert offered is form._allow["dummy"]
    offered.value = True
    assert "will refuse" not in preview(form)
    assert form.plan is not None
    assert registry.host in form._prompt.value


def test_what_goes_stands_before_what_stays(read: tuple[Registry, Inventory]) -> None:
    """However much a policy keeps, what it removes is at the top."""
    shown = preview(retaining(*read))
    assert shown.index(">delete<") < shown.index(">keep<")


def test_nothing_to_do_is_no_plan_to_confirm(read: tuple[Registry, Inventory]) -> None:
    """A policy that keeps everything shows its reasons, and there is nothing to arm."""
    form = retaining(*read)
    form._fields["policy"].value = '[[rule]]\nrepositories = ["*"]\nnever_touch = true\n'
    assert "nothing to do" in preview(form)
    assert form.plan is None
    assert form._code.disabled


def test_errors_are_shown_with_their_hint(read: tuple[Registry, Inventory]) -> None:
    """Nothing chosen, a malformed policy and a refusal are said in the form, in a message and what to do next."""
    registry, inventory = read
    form = forms.delete(registry, inventory)
    form._to_preview.click()
    assert "nothing is chosen" in form._preview.value
    policy = forms.retention(registry, inventory, "[[rule]]\nkeep = 1\n")
    assert "policy, line 2, column 1" in preview(policy)
    tagging = retagging(registry, inventory)
    tagging._fields["tag"].value = "latest"
    assert "--allow overwrite" in preview(tagging)
    assert tagging._allow["overwrite"] in tagging._offered.children, "the box stands beside the refusal, too"
    assert "role='alert'" in tagging._preview.value


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ServerFailed("it <b>fell</b> over", hint="wait"), "<b>it &lt;b&gt;fell&lt;/b&gt; over</b><br>wait"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_any_error_is_shown(error: Exception, shown: str, read: tuple[Registry, Inventory]) -> None:
    """In planning, applying, undoing and reading: an error of ours, or one that nobody thought of."""
    registry, _ = read
    form = deleting(*read)
    with mock.patch.object(registry, "plan_delete", side_effect=error):
        assert shown in preview(form)
    assert form.plan is None
    preview(form)
    with mock.patch.object(registry, "apply", side_effect=error):
        confirm(form)
    assert shown in form._trouble.value
    assert form.receipt is None
    with mock.patch.object(registry, "inventory", side_effect=error):
        form._trouble.value = ""
        form._to_read.click()
        settle(form)
    assert shown in form._trouble.value


def test_a_registry_that_fails_midway_leaves_a_receipt_to_undo(seeded_embedded: Seeded, inventory: Inventory) -> None:
    """Where writing fails, the form shows which rows were not done, and how to go on."""

    def refuse(request: Any) -> Reply | None:
        body = b'{"errors":[{"code":"DENIED"}]}'
        return Reply(500, {"Content-Type": "application/json"}, body) if request.method == "PUT" else None

    with proxy(seeded_embedded.host, refuse) as between, regnb.connect(between.url, cache=False) as registry:
        form = retagging(registry, inventory)
        preview(form)
        confirm(form)
        assert form.receipt is not None, form._trouble.value
        assert form.receipt.status == "partial"
        assert "regnb-warn" in form._result.value
        assert "registry.resume" in form._result.value


@pytest.mark.parametrize("error", [StorageError("no space"), TypeError("a bug")])
def test_an_application_that_ends_with_an_error_shows_its_receipt(
    registry: Registry, inventory: Inventory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A full disk, or a fault of our own, in the middle: the error and the receipt of this application are shown."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Journal, "start", fail)
    form = retagging(registry, inventory)
    preview(form)
    confirm(form)
    assert str(error) in form._trouble.value
    assert form.receipt is not None
    assert form.receipt.status == "unfinished"
    assert form.receipt.name in form._result.value


def test_read_again(registry: Registry, inventory: Inventory) -> None:
    """After an apply the table is renewed, of the same repositories and those that were written to."""
    form = copying(registry, inventory)
    preview(form)
    confirm(form)
    form._to_read.click()
    settle(form)
    assert form._trouble.value == ""
    names = set(form._table.shown["repository"])
    assert names == {"vm/centos8", "vm/test/centos8", "archive/vm/centos8"}
    assert form._stale.value == ""
    assert form._table.grid.selected_rows == []


def test_read_again_the_whole_catalog(registry: Registry) -> None:
    """An inventory of everything is renewed with what has come into being."""
    form = copying(registry, registry.inventory(progress=False))
    before = len(form._table.shown)
    preview(form)
    confirm(form)
    form._to_read.click()
    settle(form)
    assert len(form._table.shown) == before + 2


def test_a_position_is_a_row_of_the_inventory(read: tuple[Registry, Inventory]) -> None:
    """The cells are for people, sizes sort as numbers, and what is selected is the row with its whole digest."""
    registry, inventory = read
    form = forms.delete(registry, inventory)
    grid = form._table.grid
    assert '["28.0 MB", ' in grid._dt_args["data_json"]
    grid.selected_rows = [3, 1]
    chosen = form._chosen()
    assert chosen["tag"].tolist() == inventory.tags["tag"].iloc[[1, 3]].tolist()
    assert chosen["digest"].tolist() == inventory.tags["digest"].iloc[[1, 3]].tolist()


def test_a_long_table_is_filtered_as_a_whole(read: tuple[Registry, Inventory], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table in pages a filter finds rows on every page, and forgets what was chosen."""
    monkeypatch.setattr(table, "WHOLE", 2)
    monkeypatch.setattr(table, "PAGE", 2)
    registry, inventory = read
    form = forms.delete(registry, inventory)
    form._table.grid.selected_rows = [1]
    form._table._filter.value = "TEST/"
    assert form._table.shown["repository"].tolist() == ["vm/test/centos8"]
    assert "0 chosen" in form._named.value
    choose(form, "vm/test/centos8:newtagtest")
    assert "1 chosen</b>: vm/test/centos8:newtagtest" in form._named.value


def test_a_served_page_reads_no_files(read: tuple[Registry, Inventory], monkeypatch: pytest.MonkeyPatch) -> None:
    """A visitor of the web UI cannot make the server open a file by naming it as what runs in the cluster."""
    registry, inventory = read
    form = forms.delete(registry, inventory)
    choose(form, "vm/centos8:8.3")
    form._allow["incomplete"].value = True
    form._fields["in_use"].value = "/etc/os-release"
    assert "not a list of pods" in preview(form)
    monkeypatch.setenv("REGNB_SERVED", "1")
    form._fields["in_use"].value = "/etc/os-release "
    assert "cannot read files of its server" in preview(form)
    assert form.plan is None


def test_a_refusal_offers_what_would_allow_it(read: tuple[Registry, Inventory]) -> None:
    """The allowance that a refusal names becomes a box; a tick makes the plan of the same choice with it."""
    registry, inventory = read

    def make(found: Inventory, chosen: pd.DataFrame, values: Mapping[str, Any]) -> Plan:
        if "share:vm/centos8" not in values["allow"]:
            raise Refused("too many tags", allow=("share:vm/centos8",))
        return registry.plan_delete(chosen[["repository", "tag"]], inventory=found, allow=values["allow"])

    form = forms.Form(registry, "Delete", make, inventory=inventory)
    choose(form, "vm/centos8:8.3")
    assert "too many tags" in preview(form)
    (box,) = form._once.values()
    assert "share:vm/centos8" in box.description
    assert box in form._offered.children
    box.value = True
    settle(form)
    assert form.plan is not None
    assert form.plan.allow == ("share:vm/centos8",)


def test_a_read_only_form_offers_its_plan_as_a_file(
    read: tuple[Registry, Inventory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is written the code cannot be typed, and the plan that can be saved is the one that is shown."""
    monkeypatch.setenv("REGNB_READ_ONLY", "1")
    registry, inventory = read
    form = forms.delete(registry, inventory)
    choose(form, "vm/centos8:8.3")
    form._allow["incomplete"].value = True
    preview(form)
    assert form._code.disabled
    assert form._to_apply.disabled
    assert {control.layout.display for control in (form._code, form._to_apply)} == {"none"}
    assert form.plan is not None
    content = form._prompt.value.partition("base64,")[2].partition("'")[0]
    assert Plan.of_json(base64.b64decode(content)) == form.plan


def test_what_a_registry_says_is_escaped(read: tuple[Registry, Inventory]) -> None:
    """A name that is HTML stands in the form as text."""
    registry, inventory = read
    hostile = pd.DataFrame(inventory.tags).assign(repository="<img src=x onerror=alert(1)>")
    form = forms.delete(registry, mock.Mock(tags=hostile, registry=registry.host, frames=inventory.frames))
    form._table.grid.selected_rows = [0]
    assert "<img" not in form._named.value
    assert "&lt;img" in form._named.value
    assert "<img" not in form._table.grid._dt_args["data_json"]
    form._allow["incomplete"].value = True
    assert "&lt;img" in preview(form)
    assert "<img" not in form._preview.value


@pytest.mark.parametrize("name", AFTER)
def test_every_control_has_a_label(name: str, read: tuple[Registry, Inventory]) -> None:
    """The keyboard and a screen reader need one."""
    form = AFTER[name][0](*read)
    todo, controls = [form], []
    while todo:
        widget = todo.pop()
        todo += getattr(widget, "children", ())
        if hasattr(widget, "disabled") and hasattr(widget, "description"):
            controls.append(widget)
    assert len(controls) > 4
    assert all(control.description for control in controls)


def test_headless_it_is_a_line(read: tuple[Registry, Inventory]) -> None:
    """Without a browser, as in papermill, a form is a short text."""
    registry, inventory = read
    assert repr(forms.delete(registry, inventory)) == f"<Form: Delete on {registry.host}>"


@pytest.mark.parametrize("library", ["ipywidgets", "itables"])
def test_a_missing_library_is_named(library: str, tmp_path: Path) -> None:
    """Without the extra, importing the forms says what to install."""
    code = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from regnb.errors import MissingExtra\n"
        "try:\n    from regnb.widgets import forms\nexcept MissingExtra as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=surroundings(tmp_path)
    )
    assert done.stdout.startswith(library)
    assert "pip install 'regnb[lab]'" in done.stdout


def test_an_image_has_buttons_that_open_forms_with_its_row(read: tuple[Registry, Inventory]) -> None:
    """Each form opens with the tag chosen, its digest whole in the line that pulls it, and nothing is planned yet."""
    registry, inventory = read
    shown = forms.image(registry, registry.image("vm/centos8:8.4", inventory=inventory))
    buttons, place = shown.children
    assert [button.description for button in buttons.children] == ["Retag…", "Copy…", "Delete…"]
    for button in buttons.children:
        button.click()
        (form,) = place.children
        assert form._chosen()["tag"].to_list() == ["8.4"]
        assert f"docker pull {registry.host}/vm/centos8@sha256:" in form._named.value
        assert form.plan is None

"""Forms over a storage, driven as a browser drives them: nothing moves before the code is typed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import buckets
import fsspec
import pytest
import swept
from distribution import Distribution

from regnb.notebooks import runbook
from regnb.storage import Storage, open_storage
from regnb.widgets import collecting
from regnb.widgets.collecting import SweepForm


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


@pytest.fixture
def old(real: Distribution) -> Distribution:
    """A stopped registry, three days old, with one image that was deleted."""
    return swept.old(real)


@contextlib.contextmanager
def over_bucket(old: Distribution, name: str) -> Iterator[tuple[Storage, SweepForm]]:
    """The storage in a bucket without versions, and the form that collects it whatever its age."""
    with buckets.serve():
        fsspec.filesystem("s3").mkdir(name)
        buckets.put(old.root, name)
        storage = open_storage(f"s3://{name}")
        form = collecting.collect(storage, ["http://127.0.0.1:1"])
        form._fields["grace"].value = "0"
        yield storage, form


def settle(form: SweepForm) -> None:
    assert form._thread is not None
    form._thread.join(60)
    assert not form._thread.is_alive()


def preview(form: SweepForm) -> str:
    form._to_preview.click()
    settle(form)
    return f"{form._preview.value}{form._prompt.value}"


def confirm(form: SweepForm) -> str:
    assert form.plan is not None, form._preview.value
    form._code.value = form.plan.code
    form._to_apply.click()
    settle(form)
    return f"{form._result.value}{form._trouble.value}"


def test_collect_restore_empty(old: Distribution) -> None:
    """A preview moves nothing; the code arms; an edit disarms; the trash is put back, and emptied, in the same way."""
    storage, before = swept.storage(old), swept.tree(old.root)
    form = collecting.collect(storage, [old.url])
    assert "no manifest that stays needs it" in preview(form)
    assert form._to_apply.disabled
    form._code.value = "00000000"
    assert form._to_apply.disabled
    form._fields["untagged"].value = True
    assert form.plan is None
    assert "preview again" in form._preview.value
    preview(form)
    assert swept.tree(old.root) == before
    said = confirm(form)
    assert "Moved" in said
    assert "Restart every registry process" in said
    assert form.receipt is not None
    assert form.receipt.status == "done"
    assert swept.tree(old.root) != before

    back = collecting.restore(storage)
    assert form.receipt.name == back._fields["run"].value
    assert "put back" in preview(back)
    confirm(back)
    assert swept.tree(old.root) == before

    preview(form)
    confirm(form)
    gone = collecting.empty(storage)
    assert "nothing to do" in preview(gone)
    gone._fields["older_than"].value = "0"
    preview(gone)
    assert "removed for good" in confirm(gone)
    assert storage.trash().empty


def test_what_cannot_be_applied_is_not_offered(old: Distribution) -> None:
    """A registry that takes pushes: the plan is shown with the reason, and no code arms it; so are wrong values."""
    form = collecting.collect(swept.storage(old), [old.url])
    with old:
        said = preview(form)
    assert "somebody can push" in said
    assert form.plan is None
    assert form._code.disabled
    form._fields["grace"].value = "soon"
    assert "is not a valid age" in preview(form)
    form._fields["grace"].value = "24h"
    form._fields["tag_history"].value = "many"
    assert "not a number" in preview(form)


def test_a_bucket_is_copied_if_that_is_wanted(old: Distribution) -> None:
    """A box that a folder's form lacks: without it what goes is only listed, with it a copy lies in the trash."""
    assert "copies" not in collecting.collect(swept.storage(old))._fields
    with over_bucket(old, "copied") as (storage, form):
        preview(form)
        assert form.plan is not None
        assert form.plan.options.place == "list"
        form._fields["copies"].value = True
        preview(form)
        assert form.plan.options.place == "copies"
        confirm(form)
        assert form.receipt is not None
        assert form.receipt.status == "done"
        assert storage.trash()["size"].sum() > 0


@pytest.mark.parametrize("trash", [True, False])
def test_the_registry_is_to_be_restarted_once_blobs_are_gone(old: Distribution, *, trash: bool) -> None:
    """A list of garbage takes nothing away; its second run does, and so does a collection without a trash."""
    with over_bucket(old, "listed") as (storage, form):
        form._fields["trash"].value = trash
        assert "http://127.0.0.1:1 refuses connections" in preview(form) or trash
        assert ("Restart every registry process" in confirm(form)) is not trash
        if trash:
            emptying = collecting.empty(storage)
            emptying._fields["older_than"].value = "0"
            assert "http://127.0.0.1:1 refuses connections" in preview(emptying)
            assert "Restart every registry process" in confirm(emptying)


def test_a_page_offers_the_plan_and_asks_no_other_address(old: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a page of the web UI nothing is moved, and a visitor does not choose whom the server asks."""
    monkeypatch.setattr(collecting, "served", lambda: True)
    monkeypatch.setattr(collecting, "read_only", lambda: True)
    before = swept.tree(old.root)
    form = collecting.collect(swept.storage(old), [old.url])
    assert "Nothing is written from here" in preview(form)
    assert form.plan is None, "nor by what a browser could send"
    form._fields["endpoints"].value = "http://127.0.0.1:9"
    assert "cannot choose" in preview(form)
    assert swept.tree(old.root) == before


@pytest.mark.parametrize("served", [True, False])
def test_without_a_storage_the_notebook_says_how_to_give_it(*, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the forms: an option in the web UI, a parameter or a variable where code can be written."""
    if served:
        monkeypatch.setenv("REGNB_SERVED", "1")
    cells = json.loads((runbook.notebooks() / "14-collect.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = [source for cell in cells if "place" in (source := "".join(cell["source"])) and "\n" not in source]
    known = {"collecting": collecting, "place": None, "endpoints": []}
    shown = [found for source in sources if (found := eval(source, known)) is not None]  # noqa: S307 -- our notebook
    assert len(shown) == 2
    assert all(("regnb ui --storage" if served else "REGNB_STORAGE") in found.data for found in shown)

"""Import paths of earlier versions work, and say where their content is now."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from images import surroundings

import regnb
from regnb.aliases import ALIASES

USED = {
    "charts": "treemap", "console": "console", "expose": "convert", "expose_form": "expose_form", "forms": "delete",
    "frames": "parse_size", "lab": "open_lab", "start": "cards", "table": "Table",
}  # fmt: skip
"""What people import from each."""


def test_every_alias_is_tried() -> None:
    """Each row of the table has a name below that people import from it."""
    assert set(USED) == set(ALIASES)


@pytest.mark.parametrize("name", ALIASES)
def test_an_old_path_gives_what_is_there_now(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a notebook the old path warns once and gives the very same objects as the new one."""
    for known in [each for each in sys.modules if each == f"regnb.{name}"]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.delattr(regnb, name, raising=False)
    with pytest.warns(DeprecationWarning, match=f"regnb.{name} has moved: import regnb.{ALIASES[name][0]}") as found:
        old = importlib.import_module(f"regnb.{name}")
    assert len(found) == 1
    homes = [importlib.import_module(f"regnb.{target}") for target in ALIASES[name]]
    assert any(getattr(old, USED[name]) is getattr(home, USED[name], None) for home in homes)
    with pytest.raises(AttributeError, match="no attribute 'nowhere'"):
        _ = old.nowhere


def test_a_notebook_hears_no_warning(tmp_path: Path) -> None:
    """Within a kernel the old import works in silence, also where warnings are errors; both ways to import work."""
    code = """
import sys, types
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1))
from regnb import frames
from regnb.frames import COLUMNS
assert frames.COLUMNS is COLUMNS
"""
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, check=True, env=surroundings(tmp_path))


def test_no_wing_hides_a_public_name() -> None:
    """After every module was imported, each public name is still what it was."""
    before = {name: getattr(regnb, name) for name in regnb.__all__}
    for path in sorted(Path(regnb.__file__).parent.rglob("*.py")):
        parts = path.relative_to(Path(regnb.__file__).parent.parent).with_suffix("").parts
        if parts[-1] not in ("__main__", "__init__"):
            importlib.import_module(".".join(parts))
    assert {name: getattr(regnb, name) for name in regnb.__all__} == before

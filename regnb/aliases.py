"""Import paths of earlier versions that still work, each with where its content is now."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from importlib.abc import Loader  # as a base it would load a tenth of what `import regnb` does

ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "charts": ("pages.charts",),
    "console": ("widgets.console",),
    "expose": ("cluster.resources", "cluster.ingress"),
    "expose_form": ("widgets.expose_form",),
    "forms": ("widgets.forms",),
    "frames": ("tables.columns", "tables.frame", "tables.write", "tables.build", "text"),
    "lab": ("notebooks.lab",),
    "start": ("widgets.start",),
    "table": ("widgets.table",),
})  # fmt: skip
"""Name below ``regnb`` to the modules that hold what it held, the likeliest first."""


class _Several(ModuleType):
    """Stands for a module that was divided."""

    def __init__(self, name: str, targets: Sequence[str]) -> None:
        super().__init__(name, f"Moved to {', '.join(targets)}.")
        self._targets = tuple(targets)

    def __getattr__(self, name: str) -> object:
        for target in self._targets:
            found = importlib.import_module(target)
            if hasattr(found, name):
                return getattr(found, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Loader:
    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Put what is there now in the place of the old name."""
        old = module.__name__
        targets = [f"regnb.{target}" for target in ALIASES[old.removeprefix("regnb.")]]
        from regnb.session import in_kernel  # `import regnb` stays cheap

        if not in_kernel():
            text = f"{old} has moved: import {' or '.join(targets)}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(targets[0]) if len(targets) == 1 else _Several(old, targets)


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for the old names only."""
        del path, target
        parent, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, cast("Loader", _Loader())) if parent == "regnb" and name in ALIASES else None


def install() -> None:
    """Make the old names importable; doing it again changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())

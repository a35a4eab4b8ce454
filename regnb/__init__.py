"""Container registries as DataFrames.

Read:
    ``connect(url)`` returns a :class:`Registry`; ``registry.inventory()`` returns an :class:`Inventory` of DataFrames.
    ``read(url)`` returns the inventory at once: of a registry, its storage, an OCI layout, an archive or a snapshot.
    ``diff``, ``compare``, ``compare_files``, ``growth``, ``snapshots`` and ``reconcile`` compare what was read.
    ``open_storage(folder)`` reads a registry's files: it also sees untagged manifests and unused blobs.

Plan (a plan reads and never writes):
    ``registry.plan_delete(...)`` and the other ``plan_*`` return a :class:`Plan`: a row with a reason for each change.
    ``storage.plan_collect()`` returns a :class:`Sweep`: the files that a garbage collection moves away.

Write (only with the plan's code):
    ``registry.apply(plan, confirm=plan.code)`` returns a :class:`Receipt`. ``registry.plan_undo(receipt)`` undoes it.

Example:
    >>> import regnb
    >>> registry = regnb.connect("http://localhost:5000")
    >>> inventory = registry.inventory()
    >>> inventory.tags.nlargest(2, "size")[["repository", "tag", "layers"]]
        repository  tag layers
    50  vm/centos8    8      4
    52  vm/centos8  8.4      4
    >>> plan = registry.plan_delete("vm/centos8:8.3")
    >>> print(plan.summary())
    delete on localhost:5000: 1 tag and 1 manifest will be gone; the next garbage collection frees at most 2.0 kB,
    and after it this cannot be undone
    >>> receipt = registry.apply(plan, confirm=plan.code)
    >>> undo = registry.plan_undo(receipt)
    >>> registry.apply(undo, confirm=undo.code).status
    'done'
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from regnb.aliases import install as _install
from regnb.environment import variable as _variable
from regnb.log import LEVELS as _LEVELS
from regnb.log import start as _start

if TYPE_CHECKING:
    from regnb.analysis.difference import compare, diff
    from regnb.analysis.growth import growth
    from regnb.analysis.inventory import Inventory, Sharing
    from regnb.analysis.query import sql
    from regnb.analysis.reclaim import Reclaim
    from regnb.analysis.reconcile import reconcile
    from regnb.analysis.snapshot import snapshots
    from regnb.analysis.warehouse import between, exclusive, free, reclaim, usage
    from regnb.change.journal import Receipt
    from regnb.change.plan import Plan
    from regnb.change.sweep import Sweep
    from regnb.crawl.workers import Workers
    from regnb.errors import Interrupted, RegnbError
    from regnb.fleets import Fleet, fleet
    from regnb.layers.comparing import compare_files
    from regnb.oci.reference import Digest, Reference
    from regnb.registry import Registry, connect
    from regnb.source import known_bases, read
    from regnb.storage import Storage, open_storage

_install()
if (_level := _variable("REGNB_LOG").lower()) in _LEVELS:
    _start(_level)

_HOMES: Final = MappingProxyType({
    "Digest": "oci.reference",
    "Fleet": "fleets",
    "Interrupted": "errors",
    "Inventory": "analysis.inventory",
    "Plan": "change.plan",
    "Receipt": "change.journal",
    "Reclaim": "analysis.reclaim",
    "Reference": "oci.reference",
    "Registry": "registry",
    "RegnbError": "errors",
    "Sharing": "analysis.inventory",
    "Storage": "storage",
    "Sweep": "change.sweep",
    "Workers": "crawl.workers",
    "compare": "analysis.difference",
    "compare_files": "layers.comparing",
    "connect": "registry",
    "diff": "analysis.difference",
    "fleet": "fleets",
    "growth": "analysis.growth",
    "known_bases": "source",
    "open_storage": "storage",
    "read": "source",
    "reconcile": "analysis.reconcile",
    "snapshots": "analysis.snapshot",
    "between": "analysis.warehouse",
    "exclusive": "analysis.warehouse",
    "free": "analysis.warehouse",
    "reclaim": "analysis.warehouse",
    "usage": "analysis.warehouse",
    "sql": "analysis.query",
})  # fmt: skip
"""Where each public name is: it is imported when it is asked for, as pandas takes longer than a short command."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'regnb' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"regnb.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: object) -> None:
    """Let notebooks ask snapshots in SQL: ``%load_ext regnb``, then cells that begin with ``%%regnb``."""
    from regnb.analysis import query  # DuckDB is an extra

    query.load_ipython_extension(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "Digest",
    "Fleet",
    "Interrupted",
    "Inventory",
    "Plan",
    "Receipt",
    "Reclaim",
    "Reference",
    "Registry",
    "RegnbError",
    "Sharing",
    "Storage",
    "Sweep",
    "Workers",
    "between",
    "compare",
    "compare_files",
    "connect",
    "diff",
    "exclusive",
    "fleet",
    "free",
    "growth",
    "known_bases",
    "open_storage",
    "read",
    "reclaim",
    "reconcile",
    "snapshots",
    "sql",
    "usage",
]

"""Container registries as DataFrames.

>>> import regnb
>>> registry = regnb.connect("http://localhost:5000")  # doctest: +SKIP
>>> inventory = registry.inventory()  # doctest: +SKIP
>>> inventory.tags.sort_values("size", ascending=False).head(20)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from regnb.aliases import install as _install
from regnb.analysis.difference import compare, diff
from regnb.analysis.growth import growth
from regnb.analysis.inventory import Inventory, Sharing
from regnb.analysis.reclaim import Reclaim
from regnb.analysis.reconcile import reconcile
from regnb.analysis.snapshot import snapshots
from regnb.analysis.storage import Storage, open_storage
from regnb.change.journal import Receipt
from regnb.change.plan import Plan
from regnb.environment import variable as _variable
from regnb.errors import Interrupted, RegnbError
from regnb.log import LEVELS as _LEVELS
from regnb.log import start as _start
from regnb.oci.reference import Digest, Reference
from regnb.source import read

if _TYPE_CHECKING:
    from regnb.registry import Registry, connect

_install()
if (_level := _variable("REGNB_LOG").lower()) in _LEVELS:
    _start(_level)

__version__ = "0.1.0"

__all__ = [
    "Digest",
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
    "compare",
    "connect",
    "diff",
    "growth",
    "open_storage",
    "read",
    "reconcile",
    "snapshots",
]


def __getattr__(name: str) -> object:
    # What talks to a registry is loaded when it is used: what reads files loads no HTTP.
    if name in ("Registry", "connect"):
        from regnb import registry  # noqa: PLC0415

        globals().update(Registry=registry.Registry, connect=registry.connect)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Container registries as DataFrames.

>>> import regnb
>>> registry = regnb.connect("http://localhost:5000")  # doctest: +SKIP
>>> inventory = registry.inventory()  # doctest: +SKIP
>>> inventory.tags.sort_values("size", ascending=False).head(20)  # doctest: +SKIP
"""

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
from regnb.registry import Registry, connect
from regnb.source import read

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

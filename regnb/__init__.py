"""Container registries as DataFrames.

>>> import regnb
>>> registry = regnb.connect("http://localhost:5000")  # doctest: +SKIP
>>> inventory = registry.inventory()  # doctest: +SKIP
>>> inventory.tags.sort_values("size", ascending=False).head(20)  # doctest: +SKIP
"""

from regnb.difference import compare, diff
from regnb.errors import RegnbError
from regnb.growth import growth
from regnb.inventory import Inventory, Sharing
from regnb.journal import Receipt
from regnb.plan import Plan
from regnb.reclaim import Reclaim
from regnb.reference import Digest, Reference
from regnb.registry import Interrupted, Registry, connect
from regnb.snapshot import snapshots
from regnb.source import read
from regnb.storage import Storage, open_storage, reconcile

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

"""Container registries as DataFrames.

>>> import regnb
>>> registry = regnb.connect("http://localhost:5000")  # doctest: +SKIP
>>> inventory = registry.inventory()  # doctest: +SKIP
>>> inventory.tags.sort_values("size", ascending=False).head(20)  # doctest: +SKIP
"""

from regnb.errors import RegnbError
from regnb.inventory import Inventory, Sharing
from regnb.journal import Receipt
from regnb.plan import Plan
from regnb.reference import Digest, Reference
from regnb.registry import Interrupted, Registry, connect

__version__ = "0.1.0"

__all__ = [
    "Digest",
    "Interrupted",
    "Inventory",
    "Plan",
    "Receipt",
    "Reference",
    "Registry",
    "RegnbError",
    "Sharing",
    "connect",
]

"""Questions to what was read: who uses which bytes, what a deletion frees, what changed, how a registry grows, and
whether it agrees with its disk.
"""

__all__ = ["difference", "growth", "inventory", "reclaim", "reconcile", "snapshot", "storage", "usage"]

"""Every change is a plan first. Modules named after an operation only plan; `apply` writes, and `journal` keeps what
it replaces.
"""

__all__ = [
    "apply",
    "copy",
    "copying",
    "delete",
    "journal",
    "plan",
    "policy",
    "removal",
    "rename",
    "request",
    "retag",
    "retention",
    "undo",
]

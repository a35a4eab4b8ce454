"""Take back the space of a storage: what nothing needs is planned, moved into a trash, and put back by undo.

Beside `change/apply`, the only place that changes what a registry holds. `state` reads what there is, `planning` says
what of it is garbage, `pushers` asks whether anybody can push, `trash` moves folders, and `application` does what a
plan says in the order that never breaks a reader.
"""

from __future__ import annotations

from regnb.change.collect.application import Progress, apply
from regnb.change.collect.planning import plan_collect
from regnb.change.collect.returning import plan_empty, plan_restore, plan_return

__all__ = ["Progress", "apply", "plan_collect", "plan_empty", "plan_restore", "plan_return"]

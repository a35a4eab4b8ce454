"""Do what a plan says: beside the demo, the only caller of the client's writing methods.

The order is always the same: probe whether the registry deletes at all, keep the bytes of what goes, announce the steps
in the journal, look at each target once more, write, and read again what is there then, whatever the answer was. A step
is done only if that reading shows it; where nothing can be read that deserves belief, it is unknown.

Registries know no compare-and-set: another writer's chance between the last look and the write is made small here, and
cannot be made none.
"""

from __future__ import annotations

from regnb.change.apply.application import apply
from regnb.change.apply.course import Progress

__all__ = ["Progress", "apply"]

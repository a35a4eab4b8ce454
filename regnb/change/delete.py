"""Plan deletions from an inventory: what goes, what goes with it, what stays, and why. Nothing is asked or written."""

from __future__ import annotations

from collections.abc import Iterable

from regnb.analysis.inventory import Inventory
from regnb.analysis.running import lists
from regnb.change.plan import Plan, Step, check_allow
from regnb.change.protection import protect
from regnb.change.removal import check_inventory, check_listed, holdings, numbered, remove
from regnb.cluster.running import InUse
from regnb.crawl.selection import What, pick, selectors
from regnb.errors import Refused
from regnb.text import names


def repositories_of(what: What, host: str) -> list[str]:
    """Return the repositories that are meant, by name or glob, without asking the registry.

    Raises:
        InvalidReference, InvalidArgument: As for a deletion.

    Example:
        >>> repositories_of(["vm/centos8:8.1", "vm/*:old-*"], "localhost:5000")
        ['vm/centos8', 'vm/*']
    """
    return list(dict.fromkeys(selector.repository for selector in selectors(what, host=host)))


def plan_delete(
    inventory: Inventory,
    what: What,
    *,
    url: str,
    authorized: bool,
    children: bool = True,
    referrers: bool = True,
    in_use: InUse = None,
    in_use_host: Iterable[str] = (),
    allow: Iterable[str] = (),
) -> Plan:
    """Plan the deletion of tags and digests from what an inventory knows.

    A tag goes alone where another tag that stays, or an index, needs its manifest; else its manifest goes with it.

    Args:
        inventory: What is there.
        what: Tags and digests.
        url: The registry.
        authorized: Whether it wants credentials.
        children: Whether children of a deleted index go that nothing else needs.
        referrers: Whether signatures and other referrers go with what they refer to.
        in_use: What a cluster runs (:func:`regnb.cluster.running.listed`).
        in_use_host: Other host names of this registry, as the cluster's images have them.
        allow: ``incomplete``, ``parents``, ``running``, ``dummy``.

    Raises:
        NotFound, InvalidReference, InvalidArgument: What was named is not there, or not lawful.
        Refused: It could do harm.

    Example:
        >>> len(plan_delete(inventory, "vm/centos8:8.3", url="http://localhost:5000", authorized=False).blast)
        2
    """
    allowed = check_allow(allow)
    check_inventory(inventory, url)
    named = selectors(what, host=inventory.registry)
    check_listed(inventory, {selector.repository for selector in named if selector.exact})
    picked = pick(named, zip(*lists(inventory.tags, "repository", "tag"), strict=True))
    protection = protect(inventory, in_use, in_use_host)
    found = remove(
        inventory,
        holdings(inventory, {one.repository for one in picked}),
        picked,
        used=protection.running,
        children=children,
        referrers=referrers,
        allow=allowed,
    )
    steps = numbered(found.steps.values())
    check_locks(inventory, steps)
    return Plan(
        operation="delete",
        url=url,
        steps=steps,
        effects=found.effects,
        freed=found.freed,
        notes=(*protection.notes, *found.notes) if picked else ("Nothing was selected.",),
        allow=allowed,
        authorized=authorized,
    )


def check_locks(inventory: Inventory, steps: Iterable[Step]) -> None:
    """Refuse to plan what the registry will not do: the deletion of a tag that its own API calls locked.

    Raises:
        Refused: A tag that would go is locked; nothing in regnb overrides that.

    Example:
        >>> check_locks(inventory, plan.steps)
    """
    rows = inventory.tags[inventory.tags["locked"].fillna("") != ""]
    locked = dict(zip(zip(rows["repository"], rows["tag"], strict=True), rows["locked"], strict=True))
    if not locked:
        return
    removals = [step for step in steps if step.action in ("untag", "delete")]
    going = [(step.repository, tag) for step in removals for tag in step.tags or (step.tag,)]
    if found := [key for key in going if key in locked]:
        text = names([f"{repository}:{tag}" for repository, tag in found])
        raise Refused(
            f"the registry would not delete {text}: {locked[found[0]]}",
            hint="leave these tags out, or lift the rule in the registry first",
        )

"""What a registry will refuse of a plan, said before the plan is confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import structs

from regnb.analysis.inventory import Inventory
from regnb.change.apply.deletions import Deletions
from regnb.change.plan import Action, Plan, Refusal, once
from regnb.crawl.reader import Reader, each
from regnb.directories.directory import Directory
from regnb.errors import Denied, RegistryError, RegnbError, Unauthorized, Unproven, Unsupported
from regnb.oci.reference import Digest
from regnb.oci.transports import is_place
from regnb.text import names
from regnb.wire.capabilities import Capabilities
from regnb.wire.client import Client
from regnb.wire.failures import hosted

_AT_ONCE: Final = 8
_REMOVALS: Final[tuple[Action, ...]] = ("untag", "delete")
_SURE: Final = (Denied, Unauthorized, Unproven, Unsupported)
"""Answers with which :func:`regnb.change.apply.apply` ends before it writes anything."""
_CHECK: Final = "to check: registry.check(plan) in Python, --probe on the command line"


def foresee(plan: Plan, known: Capabilities, directory: Directory | None = None) -> Plan:
    """Return the same plan with what the registry will refuse, as far as that is known. Nothing is sent.

    Args:
        plan: A plan.
        known: What earlier answers of the plan's registry showed.
        directory: The registry's own API, which may be what deletes there.

    Example:
        >>> plan = Plan(operation="retag", url="http://localhost:5000", steps=())
        >>> foresee(plan, Capabilities()).refusals
        ()
    """
    return structs.replace(plan, refusals=tuple(_refusals(plan, known, directory)))


def _refusals(plan: Plan, known: Capabilities, directory: Directory | None) -> Iterator[Refusal]:
    actions = [action for action in _REMOVALS if any(step.action == action for step in plan.steps)]
    if not actions or is_place(plan.url):  # a layout has no option that forbids it
        return
    deletion, single = known["deletion"], known["tag deletion"]
    own = () if directory is None else tuple(directory.deletes)
    if own:
        # What its own API takes is known once it was asked to delete.
        if "untag" in actions and "tags" not in own and "dummy" not in plan.allow:
            yield refused_tags(plan, "its own API deletes manifests with all their tags")
        return
    if deletion.supported == "no":
        hint = directory.deletion if directory is not None else hosted(plan.url)
        hint = hint or "enable deletion in its configuration"
        yield Refusal(
            f"{plan.host} will refuse this: it does not delete ({deletion.seen})",
            hint=f"{hint}; {_CHECK}",
            actions=tuple(actions),
        )
        return
    alone = "untag" in actions and "dummy" not in plan.allow
    if alone and single.supported == "no":
        yield refused_tags(plan, single.seen)
    asked = ["manifests"] if deletion.supported == "unknown" else []
    asked += ["single tags"] if alone and single.supported == "unknown" else []
    if asked:
        text = f"it is not known whether {plan.host} deletes {' and '.join(asked)}"
        yield Refusal(text, hint=_CHECK, known=False, actions=tuple(actions))


def refused_tags(plan: Plan, how: str) -> Refusal:
    """Return that a registry will not remove the tags that go alone.

    Example:
        >>> plan = Plan(operation="delete", url="http://localhost:5000", steps=())
        >>> refused_tags(plan, "DELETE of an absent tag: 400").allow
        'dummy'
    """
    tags = [f"{step.repository}:{step.tag}" for step in plan.steps if step.action == "untag"]
    return Refusal(
        f"{plan.host} will refuse to remove {names(tags)} alone: it does not delete single tags ({how})",
        hint="with 'dummy', regnb points the tag at a small placeholder manifest and deletes the placeholder; the "
        f"other tags and the image stay; {once(['dummy'])}",
        allow="dummy",
        actions=("untag",),
    )


async def told(plan: Plan, directory: Directory) -> Plan:
    """Return the same plan with what a registry's own API tells of it: tags that are locked, and what an undo finds.

    Args:
        plan: A plan.
        directory: The registry's own API.

    Example:
        ``plan = await told(plan, directory)``
    """
    plan = structs.replace(plan, collector=directory.name if directory.final else "")
    if not plan.removes:
        return plan
    notes = list(plan.notes)
    if directory.deletes:
        notes.append(
            f"{directory.name}'s own API deletes the {' and '.join(directory.deletes)} of this plan; the curl commands "
            "are those of the registry API."
        )
    if directory.final:
        notes.append(directory.final)
    refusals = (*plan.refusals, *await _locked(plan, directory))
    return structs.replace(plan, refusals=refusals, notes=tuple(notes))


async def _locked(plan: Plan, directory: Directory) -> list[Refusal]:
    """Return the refusal of the tags that are locked, if any of a plan's are."""
    going = [
        (step.repository, tag) for step in plan.steps if step.action in _REMOVALS for tag in step.tags or (step.tag,)
    ]
    locked: dict[tuple[str, str], str] = {}
    for repository in dict.fromkeys(repository for repository, _ in going):
        locked |= {(repository, tag): why for tag, why in (await locks(directory, repository)).items()}
    stays = [one for one in going if one in locked]
    if not stays:
        return []
    text = names([f"{repository}:{tag}" for repository, tag in stays])
    return [
        Refusal(
            f"{plan.host} will refuse to delete {text}: {locked[stays[0]]}",
            hint="leave these tags out, or lift the rule in the registry first",
            actions=_REMOVALS,
        )
    ]


async def locks(directory: Directory, repository: str) -> dict[str, str]:
    """Return the tags of a repository that cannot be deleted, where its own API tells that apart from the tags.

    Example:
        ``(await locks(directory, "team/app")).get("1.0")``
    """
    if "locks" not in directory.gives or not hasattr(directory, "locks"):
        return {}
    try:
        return await directory.locks(repository)
    except RegnbError:
        return {}  # what is locked is then refused when it is deleted


async def lock(inventory: Inventory, directory: Directory) -> Inventory:
    """Return the same inventory, with what a registry's own API tells of locks apart from the tags.

    Example:
        ``inventory = await lock(inventory, directory)``
    """
    repositories = inventory.repositories["repository"].to_list()
    found = await each(lambda name: locks(directory, name), repositories, _AT_ONCE)
    why = {(name, tag): text for name, some in zip(repositories, found, strict=True) for tag, text in some.items()}
    if not why:
        return inventory
    tags = inventory.tags.copy()
    texts = zip(tags["repository"], tags["tag"], tags["locked"].fillna(""), strict=True)
    tags["locked"] = [text or why.get((name, tag), "") for name, tag, text in texts]
    frames = {**inventory.frames, "tags": tags}
    return Inventory(inventory.registry, inventory.started, inventory.finished, frames, inventory.source)


async def check(reader: Reader, plan: Plan) -> Plan:
    """Ask the registry what it will refuse of a plan, and return the same plan with the answer.

    Removals are tried on a digest and a tag that are not there; for what is put, OPTIONS tells whether the registry
    takes uploads. Nothing that is there is touched.

    Args:
        reader: Of the plan's registry.
        plan: A plan.

    Example:
        ``plan = await check(reader, plan)``
    """
    client = reader.client
    directory = await reader.directory()
    found = [] if directory is None else await _locked(plan, directory)
    removals = [step for step in plan.steps if step.action in _REMOVALS]
    actions = tuple(dict.fromkeys(step.action for step in removals))
    absent = Digest.of(f"{plan.nonce}/absent".encode())
    try:
        await _writable(client, plan)
        deletions = Deletions(client, directory)
        if removals:
            await deletions.find_out(removals, absent)
        if "untag" in actions and not deletions.by_tag and "dummy" not in plan.allow:
            found.append(refused_tags(plan, client.capabilities["tag deletion"].seen))
    except RegistryError as error:
        sure = isinstance(error, _SURE)
        text = f"{plan.host} will refuse this" if sure else f"what {plan.host} will refuse could not be found out"
        every = tuple(dict.fromkeys(step.action for step in plan.steps if step.writes))
        found.append(Refusal(f"{text}: {error.message}", hint=error.hint, known=sure, actions=actions or every))
    return structs.replace(plan, refusals=tuple(found))


async def _writable(client: Client, plan: Plan) -> None:
    """Ask whether a registry takes what is put.

    Raises:
        Unsupported: It is read-only.
    """
    puts = [step.repository for step in plan.steps if step.action in ("put", "tag")]
    if not puts:
        return
    answer = await client.ask("OPTIONS", f"/v2/{puts[0]}/blobs/uploads/")
    verbs = set(answer.headers.get("allow", "").upper().replace(",", " ").split())
    if verbs and not verbs & {"POST", "PUT", "PATCH"}:
        raise Unsupported(
            f"{client.host} is read-only: it takes {', '.join(sorted(verbs))} alone",
            hint=hosted(client.transport.url) or "end its maintenance mode (storage.maintenance.readonly) first",
        )

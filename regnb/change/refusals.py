"""What a registry will refuse of a plan, said before the plan is confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import structs

from regnb.change.plan import Action, Plan, Refusal, once
from regnb.crawl.reader import each
from regnb.errors import Denied, RegistryError, Unauthorized, Unproven, Unsupported
from regnb.oci.reference import Digest
from regnb.text import names
from regnb.wire import probe
from regnb.wire.capabilities import Capabilities
from regnb.wire.client import Client

_REMOVALS: Final[tuple[Action, ...]] = ("untag", "delete")
_SURE: Final = (Denied, Unauthorized, Unproven, Unsupported)
"""Answers with which :func:`regnb.change.apply.apply` ends before it writes anything."""
_CHECK: Final = "to check: registry.check(plan) in Python, --probe on the command line"


def foresee(plan: Plan, known: Capabilities) -> Plan:
    """Return the same plan with what the registry will refuse, as far as that is known. Nothing is sent.

    Args:
        plan: A plan.
        known: What earlier answers of the plan's registry showed.

    Example:
        >>> plan = Plan(operation="retag", url="http://localhost:5000", steps=())
        >>> foresee(plan, Capabilities()).refusals
        ()
    """
    return structs.replace(plan, refusals=tuple(_refusals(plan, known)))


def _refusals(plan: Plan, known: Capabilities) -> Iterator[Refusal]:
    actions = [action for action in _REMOVALS if any(step.action == action for step in plan.steps)]
    if not actions:
        return
    deletion, single = known["deletion"], known["tag deletion"]
    if deletion.supported == "no":
        yield Refusal(
            f"{plan.host} will refuse this: it does not delete ({deletion.how})",
            hint=f"enable deletion in its configuration; {_CHECK}",
            actions=tuple(actions),
        )
        return
    alone = "untag" in actions and "dummy" not in plan.allow
    if alone and single.supported == "no":
        yield refused_tags(plan, single.how)
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


async def check(client: Client, plan: Plan) -> Plan:
    """Ask the registry what it will refuse of a plan, and return the same plan with the answer.

    Removals are tried on a digest and a tag that are not there; for what is put, OPTIONS tells whether the registry
    takes uploads. Nothing that is there is touched.

    Args:
        client: Of the plan's registry.
        plan: A plan.

    Example:
        ``plan = await check(client, plan)``
    """
    found = []
    removals = [step for step in plan.steps if step.action in _REMOVALS]
    actions = tuple(dict.fromkeys(step.action for step in removals))
    absent = Digest.of(f"{plan.nonce}/absent".encode())
    try:
        await _writable(client, plan)
        await each(
            lambda repository: probe.by_digest(client, repository, absent),
            list(dict.fromkeys(step.repository for step in removals)),
        )
        untagged = next((step.repository for step in removals if step.action == "untag"), "")
        if untagged and not await probe.by_tag(client, untagged, absent) and "dummy" not in plan.allow:
            found.append(refused_tags(plan, client.capabilities["tag deletion"].how))
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
            hint="end its maintenance mode (storage.maintenance.readonly) first",
        )

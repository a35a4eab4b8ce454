"""Plan the way back from a receipt: whatever it changed, and is as it left it, becomes what it was."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from regnb.change.journal import Outcome, Receipt
from regnb.change.plan import Blob, Effect, Plan, Step, check_allow
from regnb.change.sweep import Sweep
from regnb.crawl.reader import Reader, parts
from regnb.crawl.records import NODE_LIMIT
from regnb.errors import ContentError, NotFound, PlanMismatch, TooLarge, Unsupported
from regnb.oci import transports
from regnb.oci.manifest import Descriptor, RawManifest, decode
from regnb.oci.reference import Digest

_LAYOUT = "Undo takes names out of the layout again, or gives them back. Blobs stay where they are."


def _until(plan: Plan) -> str:
    end = f"{plan.collector} removes them by itself" if plan.collector else "the registry's next garbage collection"
    return f"Undo works until {end}: after that the layers may be gone."


class _Undo:
    """The steps back, and what the repositories hold now."""

    def __init__(self, reader: Reader, receipt: Receipt) -> None:
        self.reader = reader
        self.receipt = receipt
        self.steps: list[Step] = []
        self.made: dict[str, str] = {}
        self.now: dict[str, dict[str, str]] = {}
        self.listed = {child.digest for raw in receipt.contents.values() for child in _parts(raw)[0]}
        self._put: dict[tuple[str, str], int] = {}
        self._restored: dict[str, dict[str, str]] = {}
        self._needed: dict[str, set[str]] = {}

    async def read(self, steps: Sequence[Step]) -> None:
        """Read what every tag of the steps' repositories points at now."""
        for repository in dict.fromkeys(step.repository for step in steps):
            self.now[repository] = await self.reader.verified(repository, await self.reader.tags(repository))

    def keep(self, repository: str, tag: str, reason: str, digest: str = "") -> None:
        now = self.now[repository].get(tag, "") if tag else digest
        self.steps.append(Step(action="keep", repository=repository, tag=tag, before=now, reason=reason))

    def others(self, repository: str, tag: str) -> None:
        """Leave a tag alone that someone else has set."""
        self.keep(repository, tag, f"{tag} was set to something else since")

    def restore(self, repository: str, tag: str, digest: str, reason: str, *, new: bool = False) -> None:
        """Put a manifest back from the receipt, under a tag or, without one, under its digest."""
        now = self.now[repository].get(tag, "") if tag else ""
        if tag and now == digest:
            return
        raw = self.receipt.content(digest)
        if raw is None:
            reason = f"the receipt does not hold {Digest(digest).short}: it cannot be put back"
            self.keep(repository, tag, reason, digest)
            return
        self.made[digest] = base64.b64encode(raw.data).decode()
        children, blobs = _parts(raw)
        needs = sorted({self._put[key] for child in children if (key := (repository, child.digest)) in self._put})
        self._put.setdefault((repository, digest), len(self.steps))
        if tag:
            self._restored.setdefault(repository, {})[tag] = digest
        self.steps.append(
            Step(
                action="tag" if tag else "put",
                repository=repository,
                tag=tag,
                before=now,
                after=digest,
                source=repository,
                media_type=raw.media_type,
                blobs=tuple(Blob(blob.digest, blob.size) for blob in blobs),
                size=len(raw.data) + sum(blob.size for blob in blobs),
                reason=reason,
                new=new,
                needs=tuple(needs),
            )
        )

    def upwards(self, deleted: Sequence[Step]) -> list[Step]:
        """Return deletions in an order in which an index finds its children when it comes back, whatever went first."""
        manifests = {step.before: self.receipt.content(step.before) for step in deleted}
        behind = {
            digest: [child.digest for child in _parts(raw)[0]] if raw else [] for digest, raw in manifests.items()
        }
        place = {digest: number for number, digest in enumerate(TopologicalSorter(behind).static_order())}
        return sorted(deleted, key=lambda step: place[step.before])

    def then(self, repository: str) -> dict[str, str]:
        """Return what each tag of a repository will point at once what was there before is put back."""
        return self.now[repository] | self._restored.get(repository, {})

    async def needed(self, repository: str, but: frozenset[str]) -> set[str]:
        """Return the manifests that tags will lead to, without the tags that this undo removes."""
        if repository not in self._needed:
            roots = {digest for tag, digest in self.then(repository).items() if digest and tag not in but}
            self._needed[repository] = await self._behind(repository, roots)
        return self._needed[repository]

    async def _behind(self, repository: str, roots: Iterable[str]) -> set[str]:
        """Return some manifests with those that they list; what is put back is read from the receipt.

        Raises:
            TooLarge: There are too many behind one of them.
        """
        found: set[str] = set()
        for root in roots:
            before, todo = len(found), [root]
            while todo:
                digest = todo.pop()
                if digest in found:
                    continue
                found.add(digest)
                if len(found) > before + NODE_LIMIT:
                    raise TooLarge(f"{repository}@{root}: more than {NODE_LIMIT} manifests")
                raw = self.receipt.content(digest)
                if raw is None:
                    with contextlib.suppress(NotFound):  # of an index that is incomplete, the rest counts
                        raw = await self.reader.manifest(repository, digest)
                todo += [child.digest for child in _parts(raw)[0]] if raw else []
        return found

    def untagged(self, number: int, step: Step) -> None:
        now = self.now[step.repository].get(step.tag, "")
        dummy = str(Digest.of(self.receipt.plan.dummy(number)))
        if now in {"", dummy} and step.before:
            self.restore(step.repository, step.tag, step.before, f"{step.tag} was removed")
        elif now not in {step.before, dummy}:
            self.others(step.repository, step.tag)
        if now == dummy:
            self.steps.append(
                Step(
                    action="delete",
                    repository=step.repository,
                    before=dummy,
                    tags=() if step.before else (step.tag,),
                    reason="deleted: a placeholder manifest that an interrupted run left",
                    needs=(len(self.steps) - 1,) if step.before else (),
                )
            )

    async def deleted(self, step: Step) -> None:
        where, digest = step.repository, step.before
        new = await self.reader.look(where, digest) is None
        absent = [tag for tag in step.tags if not self.now[where].get(tag)]
        for tag in absent:
            self.restore(where, tag, digest, f"{tag} was deleted with its manifest", new=new)
        # Some registries keep the tags of a manifest that is gone.
        held = any(self.now[where].get(tag) == digest for tag in step.tags)
        if new and not absent and (held or not step.tags or digest in self.listed):
            self.restore(where, "", digest, "the manifest was deleted", new=new)
        for tag in step.tags:
            if self.now[where].get(tag, digest) not in {"", digest}:
                self.others(where, tag)

    def moved(self, number: int, step: Step) -> None:
        now = self.now[step.repository].get(step.tag, "")
        if now == step.after or (not now and self.receipt.outcome(number).status != "done"):
            self.restore(step.repository, step.tag, step.before, f"{step.tag} was moved")
        elif now != step.before:
            self.others(step.repository, step.tag)

    async def added(self, added: Sequence[Step]) -> None:
        """Remove what was added: a new manifest with its tags, where nothing else needs it; else the tag alone.

        Where a tag was moved to a new manifest, that goes once the tag points at what it did.
        """
        first = tuple(number for number, step in enumerate(self.steps) if step.writes)
        ours: dict[str, set[str]] = {}
        for step in added:
            if step.tag and not step.before and self.now[step.repository].get(step.tag) == step.after:
                ours.setdefault(step.repository, set()).add(step.tag)
        new = {
            (step.repository, step.after) for step in added if step.new or (step.action == "put" and not step.before)
        }
        done: set[tuple[str, str]] = set()
        for step in added:
            now = self.then(step.repository)
            mine = frozenset(ours.get(step.repository, ()))
            where = (step.repository, step.after)
            moved = bool(step.tag and step.before)
            if step.tag and not moved and now.get(step.tag, "") != step.after:
                if now.get(step.tag):
                    self.others(step.repository, step.tag)
                continue
            about: dict[str, Any] = {
                "repository": step.repository,
                "before": step.after,
                "media_type": step.media_type,
                "needs": first,
            }
            if where in new and step.after not in await self.needed(step.repository, mine):
                tagged = step.tag and not moved
                if where in done or not (tagged or await self.reader.digest(*where)):
                    continue
                done.add(where)
                tags = tuple(sorted(tag for tag, digest in now.items() if digest == step.after))
                reason = f"{', '.join(tags) or 'the manifest'} was added"
                self.steps.append(Step(action="delete", tags=tags, size=step.size, reason=reason, **about))
            elif step.tag and not moved:
                self.steps.append(Step(action="untag", tag=step.tag, reason=f"{step.tag} was added", **about))


async def plan_undo(
    reader: Reader, receipt: Receipt, *, storage: Sequence[Sweep] = (), allow: Iterable[str] = ()
) -> Plan:
    """Plan the way back from a receipt, finished or not.

    What someone else has moved since is left alone, with a row that says so.

    Args:
        reader: The registry that the receipt is about.
        receipt: What to take back.
        storage: What the trash of the registry's storage gives back first.
        allow: ``dummy``.

    Raises:
        PlanMismatch: The receipt is another registry's.
        Unsupported: It is of a copy into an archive.
        UnprovenReceipt: See :meth:`regnb.change.journal.Receipt.prove`.
        RegistryError: The registry cannot say what is there now.

    Example:
        ``plan = await plan_undo(reader, Receipt.load(name))``
    """
    receipt.prove()
    plan = receipt.plan
    if plan.url != reader.url:
        raise PlanMismatch(
            f"receipt {receipt.name} is about {plan.host}, and this is {reader.client.host}",
            hint=f"connect to {plan.url}",
        )
    if plan.final and _is_there(plan.url):
        text = f"{plan.url}: nothing is written into an archive that is there, so this copy is not taken back"
        raise Unsupported(text, hint="remove the file instead")
    touched = [
        (number, step) for number, step in enumerate(plan.steps) if step.writes and _ours(receipt.outcome(number))
    ]
    undo = _Undo(reader, receipt)
    await undo.read([step for _, step in touched])
    for step in undo.upwards([step for _, step in reversed(touched) if step.action == "delete"]):
        await undo.deleted(step)
    for number, step in reversed(touched):
        if step.action == "untag":
            undo.untagged(number, step)
    for number, step in reversed(touched):
        if step.action == "tag" and step.before:
            undo.moved(number, step)
    added = [
        step
        for _, step in reversed(touched)
        if step.action == "put" or (step.action == "tag" and (step.new or not step.before))
    ]
    await undo.added(added)
    notes = [
        f"This takes back {plan.operation} of {receipt.started} (receipt {receipt.name}).",
        _until(plan) if plan.collected else _LAYOUT,
    ]
    if storage:
        notes.append("Layers that a collection moved into the trash are put back first.")
    if not any(step.writes for step in undo.steps):
        notes.append("There is nothing to take back: everything is as it was before, or was changed by someone else.")
    return Plan(
        operation="undo",
        url=plan.url,
        steps=tuple(undo.steps),
        effects=tuple(Effect("trash", "", one.run, one.size, f"put back first: {one.summary()}") for one in storage),
        notes=tuple(notes),
        allow=check_allow(allow),
        made=undo.made,
        receipt=receipt.name,
        authorized=reader.authorized,
    )


def _is_there(url: str) -> bool:
    """Whether there is an archive by this name."""
    place = transports.parse(url)
    return place is not None and Path(place.path).exists()


def _parts(raw: RawManifest) -> tuple[tuple[Descriptor, ...], tuple[Descriptor, ...]]:
    """Return the children and blobs of a manifest; none of one that is malformed, which comes back all the same."""
    try:
        return parts(decode(raw.data, raw.media_type, digest=raw.digest))
    except ContentError:
        return (), ()


def _ours(outcome: Outcome) -> bool:
    """Whether a step may have changed something; what someone else had done already is theirs."""
    return outcome.status in {"failed", "unknown"} or (outcome.status == "done" and outcome.before != outcome.after)

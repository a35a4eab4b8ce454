"""What a removal means: the steps of it, in words, for a deletion, a retention policy and a rename."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec import Struct, structs

from regnb.analysis.inventory import Inventory
from regnb.analysis.running import Running, grouped, lists
from regnb.change.plan import Effect, Step, allows, once
from regnb.crawl.selection import Picked, check_seen
from regnb.errors import EmptyCatalog, InvalidArgument, NotFound, Refused
from regnb.oci import transports
from regnb.oci.reference import Digest
from regnb.oci.referrers import subject_of_tag
from regnb.tables.removal import WHY, Removal, Why, removal
from regnb.tables.sharing import shared
from regnb.text import count, names

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIGURES: Final = ("schema1", "size conflict")
"""Gaps that concern sizes alone: it is known which manifests these need."""
_SHARING: Final = 20
"""Repositories that are named as sharing layers, before the rest is summed up."""


class Held(Struct):
    """What one repository holds, as far as the inventory knows.

    Attributes:
        tags: Tag to digest; "" where it could not be read.
        on: Digest to its tags, sorted.
        places: Tag to its row in ``inventory.tags``.
        rows: Digest of a manifest to its row in ``inventory.manifests``.
        parents: Digest to the indexes of this repository that list it.
        children: Index (of any repository) to what it lists.
        subject: Digest of a manifest to the one that it refers to.
        referrers: Digest to the manifests that refer to it.
        signed: Digest to the tags whose name refers to it (``sha256-….sig``).
        signs: Such a tag to the digest.
        schema1: Digests of images of schema 1.
        unread: Tags that could not be read, and may point at anything.
        dangling: Tags that point at a manifest that is gone.
    """

    name: str
    children: Mapping[str, tuple[str, ...]]
    tags: dict[str, str] = {}
    on: dict[str, list[str]] = {}
    places: dict[str, int] = {}
    rows: dict[str, int] = {}
    parents: dict[str, list[str]] = {}
    subject: dict[str, str] = {}
    referrers: dict[str, list[str]] = {}
    signed: dict[str, list[str]] = {}
    signs: dict[str, str] = {}
    schema1: set[str] = set()
    unread: list[str] = []
    dangling: list[str] = []

    def row(self, one: Picked) -> int:
        """Return the row of what was selected; -1 where it has none."""
        return self.rows.get(one.digest or self.tags[one.tag], -1)

    def title(self, digest: str) -> str:
        """Return a name of a manifest for people: its tags, if it has some."""
        tags = self.on.get(digest)
        return names(tags) if tags else Digest(digest).short


def holdings(inventory: Inventory, names: Collection[str]) -> dict[str, Held]:
    """Return what each of some repositories holds.

    Example:
        >>> holdings(inventory, ["vm/centos8"])["vm/centos8"].tags["8.4"][:19]
        'sha256:be464415e92a'
    """
    children = grouped(inventory, "manifest", "child")
    held = {name: Held(name, children) for name in names}
    rows = np.flatnonzero(inventory.manifests["repository"].isin(held))
    manifests = inventory.manifests.iloc[rows]
    for row, name, digest, kind, subject in zip(
        rows.tolist(), *lists(manifests, "repository", "digest", "kind", "subject"), strict=True
    ):
        here = held[name]
        here.rows[digest] = row
        if kind == "schema1":
            here.schema1.add(digest)
        if subject:
            here.subject[digest] = subject
            here.referrers.setdefault(subject, []).append(digest)
        for child in children.get(digest, ()):
            here.parents.setdefault(child, []).append(digest)
    problems = inventory.problems[inventory.problems["problem"] == "dangling"]
    dangling = set(zip(*lists(problems, "repository", "reference"), strict=True))
    places = np.flatnonzero(inventory.tags["repository"].isin(held))
    tags = inventory.tags.iloc[places]
    for place, name, tag, digest, subject in zip(
        places.tolist(), *lists(tags, "repository", "tag", "digest", "subject"), strict=True
    ):
        here = held[name]
        here.tags[tag], here.places[tag] = digest, place
        if digest:
            here.on.setdefault(digest, []).append(tag)
        else:
            (here.dangling if (name, tag) in dangling else here.unread).append(tag)
        if subject and (signs := subject_of_tag(tag)):
            here.signs[tag] = signs
            here.signed.setdefault(signs, []).append(tag)
    return held


class Loss:
    """What one repository loses by a removal, in words and in an order in which it can be done.

    Args:
        held: The repository.

    Attributes:
        gone: Digests that are deleted, to why.
        tags: Tags that go, to the digest that takes them along; "" for a tag that was selected.
    """

    def __init__(self, held: Held) -> None:
        self.held = held
        self.gone: dict[str, Why] = {}
        self.tags: dict[str, str] = {}

    def check(self, digests: Iterable[str]) -> None:
        """Refuse what could not go of that which was selected by digest.

        Raises:
            Refused: An index that stays lists it.
        """
        held = dict.fromkeys(digest for digest in digests if digest not in self.gone)
        for digest in held:
            indexes = self.staying(digest)
            if not any(index in held for index in indexes):
                raise Refused(
                    f"{self.held.name}@{Digest(digest).short} is listed by the index {self.held.title(indexes[0])}, "
                    "which would break",
                    hint=f"delete the index, which also deletes what only it needs; {once(['parents'])}",
                    allow=("parents",),
                )

    def staying(self, digest: str) -> list[str]:
        """Return the indexes that list a manifest and stay."""
        return [index for index in self.held.parents.get(digest, ()) if index not in self.gone]

    def steps(self, inventory: Inventory, reasons: Mapping[tuple[str, str], str]) -> list[Step]:
        """Return what is to be done, with ``needs`` counted from 0.

        Args:
            inventory: Where the sizes are taken from.
            reasons: Why each selected tag goes, by repository and tag, where there is more to say than that it was
                selected.
        """
        here = self.held
        number: dict[str, int] = {}
        found: list[Step] = []
        media_types, sizes = inventory.manifests["media_type"].array, inventory.manifests["size"].array

        def about(digest: str) -> dict[str, Any]:
            row = here.rows[digest]
            media_type, size = str(media_types[row]), int(sizes[row])
            return {"repository": here.name, "before": digest, "media_type": media_type, "size": size}

        for digest, why in self.gone.items():
            tags = here.on.get(digest, [])
            needs = {number[index] for index in here.parents.get(digest, ()) if index in number}
            needs |= {number[subject] for tag in tags if (subject := self.tags[tag]) in number}
            if why in ("child", "referrer"):
                needs |= {number[subject] for subject in (here.subject.get(digest, ""),) if subject in number}
            number[digest] = len(found)
            reason = self._reason(digest, why, reasons)
            found.append(
                Step(action="delete", tags=tuple(tags), reason=reason, needs=tuple(sorted(needs)), **about(digest))
            )
        for tag, because in self.tags.items():
            digest = here.tags[tag]
            if digest in self.gone:
                continue
            text = reasons.get((here.name, tag)) or self._why(tag)
            if not digest:
                reason = f"{text}; its manifest is gone already"
                found.append(Step(action="untag", repository=here.name, tag=tag, reason=reason))
                continue
            others = [other for other in here.on[digest] if other not in self.tags]
            indexes = [here.title(index) for index in self.staying(digest)]
            keeps = f"{names(others)} {'keeps' if len(others) == 1 else 'keep'} this digest" if others else ""
            lists = f"the index {names(indexes)} lists it" if indexes else ""
            reason = f"{text}; its manifest stays: {' and '.join(filter(None, (keeps, lists)))}"
            needed = (number[because],) if because in number else ()
            found.append(Step(action="untag", tag=tag, reason=reason, needs=needed, **about(digest)))
        return found

    def _why(self, tag: str) -> str:
        because = self.tags[tag]
        if because == self.held.tags[tag]:
            return "deleted with this digest"
        if because:
            return f"deleted because it refers to {self.held.title(because)}, which is deleted"
        return "deleted because it was selected"

    def _reason(self, digest: str, why: str, reasons: Mapping[tuple[str, str], str]) -> str:
        here = self.held
        if why == "child":
            index = next(index for index in here.parents[digest] if index in self.gone)
            return f"deleted because no index needs it but {here.title(index)}"
        groups: dict[str, list[str]] = {"deleted because this digest was selected": []} if why == "digest" else {}
        for tag in here.on.get(digest, ()):
            if self.tags[tag] != digest:
                text = self._why(tag) if self.tags[tag] else reasons.get((here.name, tag)) or self._why(tag)
                groups.setdefault(text, []).append(tag)
        several = len(here.on.get(digest, ())) > 1
        texts = [f"{', '.join(tags)}: {text}" if tags and several else text for text, tags in groups.items()]
        subject = here.subject.get(digest, "")
        return "; ".join(texts) or f"deleted because it refers to {here.title(subject)}, which is deleted"

    def effects(self, sizes: NDArray[np.int64]) -> Iterator[Effect]:
        """Yield what this touches beside what was selected; ``sizes`` are those of ``inventory.manifests``."""
        here = self.held

        def size(digest: str) -> int:
            return int(sizes[here.rows[digest]]) if digest in here.rows else 0

        for tag, because in self.tags.items():
            digest = here.tags[tag]
            if because == digest:
                yield Effect("tag", here.name, tag, size(digest), "goes too: it points at a digest that is deleted")
            elif because:
                goes = digest in self.gone
                text = f"goes too: it refers to {here.title(because)}{'' if goes else '; its manifest stays'}"
                yield Effect("referrer", here.name, tag, size(digest) if goes else 0, text)
        for digest, why in self.gone.items():
            if why == "child":
                yield Effect("child", here.name, digest, size(digest), "goes too: nothing else needs it")
            elif why == "referrer" and not here.on.get(digest):
                text = f"goes too: it refers to {here.title(here.subject[digest])}"
                yield Effect("referrer", here.name, digest, size(digest), text)
            for index in self.staying(digest):
                yield Effect("parent", here.name, index, size(digest), f"breaks: it lists {Digest(digest).short}")
            left = {one: one for one in here.referrers.get(digest, ()) if one not in self.gone}
            for tag in here.signed.get(digest, ()):
                if tag not in self.tags and here.subject.get(here.tags[tag]) != digest:
                    left[tag] = here.tags[tag]
            for reference, referrer in left.items():
                text = f"stays without {here.title(digest)}, to which it refers"
                yield Effect("orphan", here.name, reference, size(referrer), text)


class Removed(Struct, frozen=True):
    """What :func:`remove` worked out.

    Attributes:
        steps: Repository to its steps, with ``needs`` counted from the first of them.
    """

    steps: dict[str, list[Step]]
    effects: tuple[Effect, ...]
    freed: int
    notes: tuple[str, ...]


def remove(
    inventory: Inventory,
    held: Mapping[str, Held],
    picked: Iterable[Picked],
    *,
    used: Running,
    reasons: Mapping[tuple[str, str], str] = MappingProxyType({}),
    children: bool = True,
    referrers: bool = True,
    allow: Collection[str],
) -> Removed:
    """Work out what the removal of some tags and digests means.

    Args:
        inventory: What is there.
        held: What each repository concerned holds (:func:`holdings`).
        picked: What was selected.
        used: What a cluster runs.
        reasons: Why a tag goes, by repository and tag.
        children: As for :func:`plan_delete`.
        referrers: As for :func:`plan_delete`.
        allow: As for :func:`plan_delete`.

    Raises:
        NotFound: A digest is not there.
        Refused: It could do harm.
    """
    chosen: dict[str, list[Picked]] = {}
    for one in picked:
        chosen.setdefault(one.repository, []).append(one)
    for name, some in chosen.items():
        _check_selected(held[name], some)
    _check_known(inventory, chosen, allow)
    found, losses = _losses(inventory, held, chosen, children=children, referrers=referrers, parents="parents" in allow)
    for loss in losses:
        _check_loss(loss)
    alive = [row for loss in losses for row in _alive(loss, used)]
    if alive and "running" not in allow:
        texts = dict.fromkeys(f"{row.repository}{at(row.reference)} ({row.message})" for row in alive)
        raise Refused(
            f"a cluster runs images that this would delete: {names(list(texts))}",
            hint=f"leave it out of the selection; {once(['running'])}",
            allow=("running",),
        )
    graph = inventory.graph
    sizes = inventory.manifests["size"].to_numpy()
    gone = found.gone
    tagged = graph.tagged - np.bincount(graph.tags[found.going & (graph.tags >= 0)], minlength=len(sizes))
    # What no tag leads to any more goes with a garbage collection that takes untagged manifests.
    stays = graph.reached(tagged > 0, gone)
    lost = gone | (graph.reached(graph.tagged > 0) & ~stays)
    untagged = bool((stays & (graph.tagged > 0) & (tagged == 0)).any())
    steps = {loss.held.name: loss.steps(inventory, reasons) for loss in losses}
    return Removed(
        steps,
        (*alive, *(row for loss in losses for row in loss.effects(sizes)), *_sharing(inventory, gone)),
        graph.bytes(graph.freed(lost)),
        tuple(_notes(inventory, {step.action for some in steps.values() for step in some}, untagged=untagged)),
    )


def _losses(
    inventory: Inventory,
    held: Mapping[str, Held],
    chosen: Mapping[str, Sequence[Picked]],
    *,
    children: bool,
    referrers: bool,
    parents: bool,
) -> tuple[Removal, list[Loss]]:
    """Apply the rule of removal to what was selected.

    Raises:
        Refused: An index that stays lists what was selected by digest.
    """
    graph = inventory.graph
    selected = [held[one.repository].row(one) for some in chosen.values() for one in some]
    digests = [held[one.repository].rows[one.digest] for some in chosen.values() for one in some if one.digest]
    places = [held[one.repository].places[one.tag] for some in chosen.values() for one in some if not one.digest]
    tags = np.zeros(len(inventory.tags), dtype=bool)
    tags[places] = True
    found = removal(graph, tags, _ints(digests), children=children, referrers=referrers, parents=parents)
    losses = {name: Loss(held[name]) for name in chosen}
    names, texts = inventory.manifests["repository"].array, inventory.manifests["digest"].array
    order = found.ordered(graph, _ints(row for row in selected if row >= 0))
    for row in order.tolist():
        losses[names[row]].gone[texts[row]] = WHY[found.wanted[row]]
    for one in (one for some in chosen.values() for one in some if not one.digest):
        losses[one.repository].tags[one.tag] = ""
    names, tag = inventory.tags["repository"].array, inventory.tags["tag"].array
    # The others in the order of what takes them along.
    rank = np.zeros(len(found.gone), dtype=np.int64)
    rank[order] = np.arange(len(order))
    along = np.flatnonzero(found.because >= 0)
    for place in along[np.argsort(rank[found.because[along]], kind="stable")].tolist():
        losses[names[place]].tags[tag[place]] = texts[found.because[place]]
    for name, some in chosen.items():
        losses[name].check([one.digest for one in some if one.digest])
    return found, list(losses.values())


def _ints(values: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(values, np.int64)


def numbered(groups: Iterable[Sequence[Step]]) -> tuple[Step, ...]:
    """Return the steps of several groups as those of one plan: ``needs`` counted from the first of all.

    Example:
        >>> keep = Step(action="keep", repository="a", needs=(0,))
        >>> [step.needs for step in numbered([[keep], [keep]])]
        [(0,), (1,)]
    """
    found: list[Step] = []
    for group in groups:
        start = len(found)
        found += [
            structs.replace(step, needs=tuple(need + start for need in step.needs)) if step.needs else step
            for step in group
        ]
    return tuple(found)


def at(reference: str) -> str:
    """Return a tag or a digest as it follows a repository's name, the digest shortened."""
    return f"@{Digest(reference).short}" if ":" in reference else f":{reference}"


def check_removes(url: str) -> None:
    """Refuse to plan a deletion where regnb deletes nothing: in layouts and archives.

    Raises:
        Refused: It is one.

    Example:
        >>> check_removes("http://localhost:5000")
    """
    if place := transports.parse(url):
        raise Refused(
            f"regnb does not delete in {place}: no registry can tell what else needs the data",
            hint="umoci rm --image DIR:TAG removes a tag from a layout; regnb undo takes back a copy that regnb made",
        )


def check_inventory(inventory: Inventory, url: str) -> None:
    """Refuse to plan a deletion in one registry from what another one holds, or in a layout.

    Raises:
        InvalidArgument: It is another registry's inventory.
        Refused: It is the inventory of a layout.

    Example:
        >>> check_inventory(inventory, "http://localhost:5000")
    """
    check_removes(url)
    host = url.partition("://")[2]
    if inventory.registry != host:
        raise InvalidArgument(
            f"this is an inventory of {inventory.registry}, and the registry is {host}",
            hint="read the inventory from the registry that the plan is for",
        )


def check_catalog(inventory: Inventory, named: Iterable[str]) -> None:
    """Refuse to plan from an empty catalog where repositories are named; a bare ``*`` expects none.

    Raises:
        EmptyCatalog: The registry lists no repository.

    Example:
        >>> check_catalog(inventory, ["vm/*"])
    """
    expected = [name for name in dict.fromkeys(named) if name.strip("*")]
    if expected and inventory.empty_catalog:
        raise EmptyCatalog(
            f"the catalog of {inventory.registry} is empty, and the policy names {names(expected)}",
            hint="check the registry's storage and the permissions of these credentials; nothing was planned",
        )


def check_listed(inventory: Inventory, repositories: Collection[str]) -> None:
    """Refuse what was asked of a repository that could not be listed: whether it is there is not known."""
    problems = inventory.problems
    found = problems[(problems["reference"] == "") & problems["repository"].isin(repositories) & problems["incomplete"]]
    for name, problem, message, hint in zip(*lists(found, "repository", "problem", "message", "hint"), strict=True):
        if problem != "missing":
            raise Refused(f"the tags of {name} could not be listed: {message}", hint=hint)


def _check_selected(held: Held, picked: Iterable[Picked]) -> None:
    for one in picked:
        if one.digest and one.digest not in held.rows:
            raise NotFound(
                f"no tag of {one.repository} leads to {one.digest}",
                hint="a manifest without a tag cannot be seen over HTTP, and goes with the next garbage collection",
            )
        if one.tag:
            check_seen(one, held.tags[one.tag])
        if one.tag and one.tag not in held.dangling and held.tags[one.tag] not in held.rows:
            raise Refused(
                f"{one.repository}:{one.tag} could not be read, so regnb cannot tell what would be deleted",
                hint="inventory.problems says why; read again once that is mended",
            )


def unknown(inventory: Inventory, repositories: Collection[str]) -> dict[str, list[str]]:
    """Return what could not be read in some repositories, and may need what would go from there.

    A manifest needs nothing of another repository: what could not be read elsewhere blocks nothing here, and a garbage
    collection reads it before it removes a blob. What is known to be missing, or is not a manifest, needs nothing.

    Example:
        >>> unknown(inventory, ["vm/centos8"])
        {}
    """
    found: dict[str, list[str]] = {}
    problems = inventory.problems[inventory.problems["incomplete"] & ~inventory.problems["problem"].isin(_FIGURES)]
    rows = list(zip(*lists(problems, "repository", "reference", "problem"), strict=True))
    manifests = inventory.manifests
    concerned = manifests[manifests["digest"].isin({reference for _, reference, _ in rows})]
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for name, digest in zip(*lists(concerned, "repository", "digest"), strict=True):
        holders[digest].add(name)
    for name, reference, problem in rows:
        for here in sorted({name, *holders[reference]}.intersection(repositories)):
            found.setdefault(here, []).append(f"{here}{at(reference) if reference else ''} ({problem})")
    if inventory.finished is None:
        for name in repositories:
            found.setdefault(name, []).append(f"{name} (interrupted)")
    return found


def _check_known(inventory: Inventory, repositories: Collection[str], allow: Collection[str]) -> None:
    gaps = unknown(inventory, [name for name in repositories if not allows(allow, "incomplete", name)])
    if gaps:
        needed = [f"incomplete:{name}" for name in sorted(gaps)]
        raise Refused(
            "the inventory is incomplete: unread images may need the data that this would delete: "
            f"{names([text for texts in gaps.values() for text in texts])}",
            hint=f"inventory.problems says why; mend that and read again; {once(needed)}",
            allow=needed,
        )


def _check_loss(loss: Loss) -> None:
    """Refuse deletions by digest that a registry gets wrong."""
    here = loss.held
    if old := [here.title(digest) for digest in loss.gone if digest in here.schema1]:
        raise Refused(
            f"{here.name}: {names(old)} is of the withdrawn schema 1, whose digest a registry makes up as it answers",
            hint="delete it with the registry's own tools",
        )
    if loss.gone and here.unread:
        raise Refused(
            f"{names(here.unread)} of {here.name} could not be read, and may point to what this would delete; the "
            "registry may answer 500 to a deletion by digest in this repository, and still delete",
            hint="inventory.problems says why; mend or remove that tag in the registry's storage first",
        )


def _alive(loss: Loss, used: Running) -> Iterator[Effect]:
    """Yield what a cluster runs of what goes."""
    here = loss.held
    for tag in loss.tags:
        if where := used.where(here.name, tag, here.tags[tag]):
            yield Effect("running", here.name, tag, 0, f"runs in {where}")
    for digest in loss.gone:
        if not here.on.get(digest) and (where := used.where(here.name, digest=digest)):
            yield Effect("running", here.name, digest, 0, f"runs in {where}")


def _sharing(inventory: Inventory, gone: NDArray[np.bool_]) -> Iterator[Effect]:
    """Yield the repositories that need blobs of what goes."""
    pairs = shared(inventory.graph, gone)
    total = pairs.groupby("repository")["size"].sum().sort_values(ascending=False, kind="stable")
    text = "bytes stay, for other images there have them, too"
    for name, size in total.iloc[:_SHARING].items():
        yield Effect("shared", str(name), "", int(size), text)
    if rest := list(total.index[_SHARING:]):
        blobs = pairs[pairs["repository"].isin(rest)].drop_duplicates("blob")
        yield Effect(
            "shared", "", "", int(blobs["size"].sum()), f"bytes stay for {count(len(rest), 'more repository')}, too"
        )


def _notes(inventory: Inventory, actions: Collection[str], *, untagged: bool) -> Iterator[str]:
    if "delete" in actions:
        yield (
            "What becomes free is an upper bound: untagged manifests are invisible over HTTP and may still use these "
            "blobs."
        )
    if not inventory.whole:
        yield "Only the named repositories were read: others may share layers with the deleted images."
    if not inventory.complete:
        yield "The inventory is incomplete: unread images may need the data that this deletes."
    if untagged:
        yield (
            "What only an index leads to by now is safe from a plain garbage collection, but not from distribution "
            "2.8's with --delete-untagged, which removes the children of indexes."
        )

"""What a copy puts, and in which order: blobs, manifests, indexes, referrers, tags."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from regnb.change.plan import Blob, Effect, Step
from regnb.change.retag import overwritten
from regnb.crawl.reader import Reader, each, parts
from regnb.crawl.records import DEPTH_LIMIT, NODE_LIMIT
from regnb.crawl.selection import Picked
from regnb.errors import (
    ContentError,
    InvalidArgument,
    MalformedManifest,
    NotFound,
    Refused,
    TooLarge,
    Unproven,
    Unsupported,
)
from regnb.oci.manifest import OCI_INDEX, AnyManifest, Descriptor, Index, RawManifest, Schema1, decode
from regnb.oci.reference import Digest
from regnb.oci.referrers import referrers_tag, subject_of_tag

_WITHOUT: Final = "copy without referrers (--no-referrers)"
UNKNOWN_PLATFORM: Final = "unknown/unknown"
"""The platform that attestations have."""
THERE: Final = -1
"""In place of a step's number: no step is needed."""


class Job(NamedTuple):
    """One manifest that is to be copied, and where to; ``tag`` is "" where it goes under its digest only."""

    one: Picked
    name: str
    raw: RawManifest
    repository: str
    tag: str


@dataclass
class Item:
    """One manifest on its way.

    Attributes:
        name: For people, such as ``vm/multi:1 (linux/arm64)``.
        reason: Why it is copied.
        subject: What it refers to by its tag or by a list of referrers; else "".
        tags: Its names at the destination, and why it has each.
        root: Whether it was asked for itself.
        children: The manifests that it lists.
        blobs: What it consists of beside its bytes.
    """

    raw: RawManifest
    name: str
    reason: str
    subject: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    root: bool = False
    children: tuple[str, ...] = ()
    blobs: tuple[Blob, ...] = ()

    def __post_init__(self) -> None:
        with contextlib.suppress(ContentError):
            manifest = decode(self.raw.data, self.raw.media_type, digest=self.raw.digest)
            listed, blobs = parts(manifest)
            self.children = tuple(child.digest for child in listed)
            self.blobs = tuple(Blob(blob.digest, blob.size) for blob in blobs)
            if not isinstance(manifest, Schema1) and manifest.subject is not None:
                self.subject = self.subject or manifest.subject.digest

    @property
    def needs(self) -> tuple[str, ...]:
        """The manifests that should be there before it is."""
        return (*self.children, self.subject) if self.subject else self.children


class _Listing(msgspec.Struct):
    manifests: list[msgspec.Raw] | None = None


class Copying:
    """The steps of a copy, and what is known of both sides.

    Args:
        reader: The registry that is written to.
        origin: The one that is read from; the same object if it is the same registry.
        tags: The tags of each source repository.
        referrers: Whether referrers come along.
        again: Whether what is at the destination already is put once more, so that its step proves that it is there.

    Attributes:
        listed: The tags of each destination.
        found: What is copied, by source repository and digest: what is needed comes before what needs it.
        stands: Source repository and digest of a list of referrers to the digest of the list that stands for it.
        moved: Bytes of the blobs that may have to be sent.
    """

    def __init__(
        self,
        reader: Reader,
        origin: Reader,
        tags: Mapping[str, Sequence[str]],
        *,
        referrers: bool = True,
        again: bool = False,
    ) -> None:
        self.reader = reader
        self.origin = origin
        self.referrers = referrers
        self.steps: list[Step] = []
        self.effects: list[Effect] = []
        self.made: dict[str, str] = {}
        self.listed: dict[str, list[str]] = {}
        self.found: dict[tuple[str, str], Item] = {}
        self.stands: dict[tuple[str, str], str] = {}
        self.moved = 0
        self._again = again
        self._tags = {repository: by_subject(found) for repository, found in tags.items()}
        self._lists: bool | None = None
        self._said: dict[tuple[str, str], tuple[Descriptor, ...]] = {}
        self._merged: set[tuple[str, str]] = set()
        self._claims: dict[tuple[str, str], tuple[str, str]] = {}
        self._placed: dict[tuple[str, str], int] = {}
        self._sizes: dict[str, dict[str, int]] = {}
        self._sent: set[tuple[str, str]] = set()

    async def plan(self, jobs: Iterable[Job]) -> None:
        """Add the steps of some copies.

        Raises:
            NotFound: A manifest behind one of them is missing.
            InvalidArgument: Two have the same destination.
            Refused: One holds an image of schema 1.
        """
        groups: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            groups.setdefault((job.one.repository, job.repository), []).append(job)
        names = list(dict.fromkeys(destination for _, destination in groups))
        self.listed = dict(zip(names, await each(self.reader.tags, names), strict=True))
        for (repository, destination), some in groups.items():
            near = self.origin is self.reader and repository == destination
            items = _ordered(await self._gather(repository, some, near=near))
            self.found |= {(repository, digest): item for digest, item in items.items()}
            if not near:
                await self._merge(repository, destination, items)
                items = _ordered(items)
            before, present = await self._look(destination, items, near=near)
            for digest, item in items.items():
                self._place(repository, destination, item, before, there=digest in present)

    def size(self, item: Item) -> int:
        """Bytes of every blob behind a manifest that was found or placed, each once."""
        sizes = {str(item.raw.digest): len(item.raw.data)} | {blob.digest: blob.size for blob in item.blobs}
        for child in item.children:
            sizes |= self._sizes.get(child, {})
        self._sizes[item.raw.digest] = sizes
        return sum(sizes.values())

    async def overwritten(self, allow: Sequence[str]) -> tuple[Effect, ...]:
        """Return what it means for images whose tags are moved; a list of referrers that only grows is none of them.

        Raises:
            Refused: A tag would be moved, and that is not allowed.
        """
        steps = [step for step in self.steps if (step.repository, step.tag) not in self._merged]
        return await overwritten(self.reader, steps, self.listed, allow)

    async def _gather(self, repository: str, jobs: Sequence[Job], *, near: bool) -> dict[str, Item]:
        """Read what is copied from one repository: trees, and then what refers to what is in them, and so on."""
        items: dict[str, Item] = {}
        for job in sorted(jobs, key=lambda job: bool(subject_of_tag(job.one.tag))):
            about = items.get(subject_of_tag(job.one.tag))
            name = f"{kind_of(job.raw)} of {about.name}" if about else job.name
            reason = name if about else f"copy of {name}"
            item = items.setdefault(job.raw.digest, Item(job.raw, name, reason, root=True))
            item.subject = item.subject or subject_of_tag(job.one.tag)
            if job.tag:
                item.tags[job.tag] = reason
        if near:
            return items  # what is behind a tag is there

        async def tree(raw: RawManifest) -> list[tuple[RawManifest, AnyManifest]]:
            return await self.origin.tree(repository, raw, present=True)

        frontier = [item.raw for item in items.values()]
        done: set[str] = set()
        for _ in range(DEPTH_LIMIT + 1):
            for read in await each(tree, frontier):
                manifests = {str(raw.digest): raw for raw, _ in read}
                for raw, manifest in reversed(read):  # an index before its children, which are named after it
                    if isinstance(manifest, Schema1):
                        raise Refused(
                            f"{items[raw.digest].name} is an image of the withdrawn schema 1",
                            hint="push it again with a current client",
                        )
                    above = items[raw.digest].name
                    for child in parts(manifest)[0]:
                        if child.digest in items:
                            continue
                        name = f"{above} ({child.platform or Digest(child.digest).short})"
                        item = items[child.digest] = Item(manifests[child.digest], name, f"child of {name}")
                        if item.subject in items:
                            item.name = item.reason = f"{kind_of(item.raw)} of {items[item.subject].name}"
            fresh = [digest for digest in items if digest not in done]
            done.update(fresh)
            frontier = await self._referring(repository, fresh, items) if self.referrers else []
            if not frontier:
                return items
        raise TooLarge(f"{repository}: referrers of referrers, more than {DEPTH_LIMIT} deep", hint=_WITHOUT)

    async def _referring(self, repository: str, digests: Sequence[str], items: dict[str, Item]) -> list[RawManifest]:
        """Add what refers to some manifests, in the registry's list or by its tag, and return what is new."""

        async def ask(digest: str) -> tuple[Descriptor, ...]:
            if self._lists is False:
                return ()
            try:
                found = await self.origin.client.referrers(repository, digest, fallback=False)
            except Unsupported as error:
                if self._lists and isinstance(error.__cause__, Unproven):
                    raise error.__cause__ from None
                self._lists = bool(self._lists)
                return ()
            self._lists = True
            return found

        # One first: where the registry has no such list, the others need not ask.
        lists = [*await each(ask, digests[:1]), *await each(ask, digests[1:])]
        wanted: dict[tuple[str, str], str] = {}
        for subject, found in zip(digests, lists, strict=True):
            if found:
                self._said[repository, subject] = found
            for descriptor in found:
                wanted.setdefault((descriptor.digest, ""), subject)
            for tag in self._tags[repository].get(subject, ()):
                wanted.setdefault((tag, tag), subject)
        taken = {tag for item in items.values() for tag in item.tags}
        new = [(key, subject) for key, subject in wanted.items() if key[0] not in items and key[1] not in taken - {""}]
        if len(new) > NODE_LIMIT:
            raise TooLarge(f"{repository}: more than {NODE_LIMIT} referrers", hint=_WITHOUT)

        async def read(entry: tuple[tuple[str, str], str]) -> RawManifest:
            (target, _), subject = entry
            try:
                return await self.origin.present(repository, target)
            except NotFound as error:
                lists = f"{self.origin.client.host} lists {repository} {target}"
                message = f"{lists}, which refers to {items[subject].name}, and does not have it"
                raise error.saying(message, hint=_WITHOUT) from None

        frontier = []
        for ((_, tag), subject), raw in zip(new, await each(read, new), strict=True):
            name = f"{kind_of(raw)} of {items[subject].name}"
            if raw.digest not in items:
                items[raw.digest] = Item(raw, name, name, subject)
                frontier.append(raw)
            if tag:
                items[raw.digest].tags[tag] = name
        return frontier

    async def _merge(self, repository: str, destination: str, items: dict[str, Item]) -> None:
        """Make the tags that list referrers ("Referrers Tag Schema") list what is there already and what comes.

        They are needed where the destination has no list of its own. One that is there is never replaced by one that
        lists less.
        """
        subjects = [digest for digest in items if (repository, digest) in self._said]
        if subjects and (self.origin is self.reader or await self._can_list(destination, subjects[0])):
            subjects = []
        by_tag = {tag: item for item in items.values() for tag in item.tags}
        tags = {referrers_tag(subject): subject for subject in subjects}
        tags |= {tag: subject for tag in by_tag if (subject := subject_of_tag(tag)) and tag == referrers_tag(subject)}
        for tag, subject in tags.items():
            own, there = by_tag.get(tag), await self._existing(destination, tag)
            base = there or (own.raw if own else None)
            try:
                known = _entries(base)
                coming = _entries(own.raw if own else None)
            except MalformedManifest:
                continue  # it lists no referrers: it is a tag like any other
            if subject in subjects:
                coming = {found.digest: _described(found) for found in self._said[repository, subject]} | coming
            added = {digest: entry for digest, entry in coming.items() if digest not in known}
            if not added and (there is None or own is None or there.digest == own.raw.digest):
                continue
            data, media_type = _extended(base, added.values())
            digest = Digest.of(data) if added or there is None else there.digest
            if own is not None:
                del own.tags[tag]
                self.stands[repository, own.raw.digest] = digest
                if not own.tags:
                    del items[own.raw.digest]
            if added:
                name = f"list of referrers of {items[subject].name if subject in items else Digest(subject).short}"
                items[digest] = Item(RawManifest(data, media_type, digest), name, name, subject, {tag: name})
                self.made[digest] = base64.b64encode(data).decode()
                self._merged.add((destination, tag))

    async def _can_list(self, destination: str, digest: str) -> bool:
        try:
            await self.reader.client.referrers(destination, digest, fallback=False)
        except Unsupported:
            return False
        return True

    async def _existing(self, destination: str, tag: str) -> RawManifest | None:
        if tag in self.listed[destination]:
            with contextlib.suppress(NotFound):
                return await self.reader.manifest(destination, tag)
        return None

    async def _look(
        self, destination: str, items: Mapping[str, Item], *, near: bool
    ) -> tuple[dict[str, str], set[str]]:
        """Ask what the tags at the destination point at, and which of the manifests are there."""
        listed = set(self.listed[destination])
        before = await self.reader.verified(
            destination, [tag for item in items.values() for tag in item.tags if tag in listed]
        )
        if near:
            return before, set(items)
        present = set(before.values())
        asked = [digest for digest in items if digest not in present]
        found = await each(lambda digest: self.reader.look(destination, digest), asked)
        return before, present | {digest for digest, there in zip(asked, found, strict=True) if there}

    def _place(self, repository: str, destination: str, item: Item, before: Mapping[str, str], *, there: bool) -> None:
        """Add the steps that bring one manifest to its destination, under each of its tags or under its digest."""
        digest = str(item.raw.digest)
        key, size = (destination, digest), self.size(item)
        wanted = there and not self._again
        for tag, reason in (item.tags or {"": item.reason}).items():
            if (not tag and key in self._placed) or (tag and not self._claim(destination, tag, digest, item.name)):
                continue
            now = before.get(tag, "") if tag else digest if there else ""
            about: dict[str, Any] = {
                "repository": destination,
                "tag": tag,
                "before": now,
                "after": digest,
                "size": size,
            }
            if now == digest and not self._again:
                self._placed.setdefault(key, THERE)
                if tag or item.root:
                    self.steps.append(
                        Step(action="keep", reason="kept: this tag already points to the digest", **about)
                    )
                continue
            same = self.origin is self.reader and repository == destination
            blobs = () if wanted or same or key in self._placed else item.blobs
            needs = {self._placed.get((destination, other), THERE) for other in (*item.needs, digest)} - {THERE}
            self._placed.setdefault(key, THERE if wanted else len(self.steps))
            self.steps.append(
                Step(
                    action="tag" if tag else "put",
                    source=repository,
                    media_type=item.raw.media_type,
                    blobs=blobs,
                    reason=reason,
                    new=not there,
                    needs=tuple(sorted(needs)),
                    **about,
                )
            )
            if item.subject and not item.root:
                self.effects.append(Effect("referrer", destination, tag or digest, size, f"comes along: {item.name}"))
            if self.origin is not self.reader:
                self.moved += sum(blob.size for blob in blobs if (destination, blob.digest) not in self._sent)
                self._sent.update((destination, blob.digest) for blob in blobs)

    def _claim(self, destination: str, tag: str, digest: str, name: str) -> bool:
        """Whether a tag is set for the first time; to set it to two things is an error."""
        other, first = self._claims.setdefault((destination, tag), (digest, name))
        if other != digest:
            raise InvalidArgument(
                f"{first} and {name} would both be copied to {destination}:{tag}",
                hint="use a pattern such as {repository}:{tag}",
            )
        return first is name


def by_subject(tags: Iterable[str]) -> dict[str, list[str]]:
    """Group the tags that name a subject by the digest that they name."""
    found: dict[str, list[str]] = {}
    for tag in tags:
        if subject := subject_of_tag(tag):
            found.setdefault(subject, []).append(tag)
    return found


def kind_of(raw: RawManifest) -> str:
    """Return what a referrer is, for people."""
    with contextlib.suppress(ContentError):
        kind = decode(raw.data, raw.media_type, digest=raw.digest).kind
        return {"index": "list of referrers", "image": "referrer"}.get(kind, kind)
    return "referrer"


def _entries(listing: RawManifest | None) -> dict[str, msgspec.Raw]:
    """Return the entries of an index as they are written, by the digest that each is about."""
    if listing is None:
        return {}
    decoded = decode(listing.data, listing.media_type, digest=listing.digest)
    if not isinstance(decoded, Index):
        raise MalformedManifest("it is not an index", hint=_WITHOUT)
    written = msgspec.json.decode(listing.data, type=_Listing).manifests or []
    return {entry.digest: raw for entry, raw in zip(decoded.manifests, written, strict=True)}


def _described(descriptor: Descriptor) -> msgspec.Raw:
    fields = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
        "artifactType": descriptor.artifact_type,
        "annotations": descriptor.annotations,
    }
    return msgspec.Raw(msgspec.json.encode({name: value for name, value in fields.items() if value}))


def _extended(base: RawManifest | None, added: Iterable[msgspec.Raw]) -> tuple[bytes, str]:
    """Return an index with further entries, the rest of it as it was, and its media type."""
    start = base.data if base else msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX})
    document = msgspec.json.decode(start, type=dict[str, msgspec.Raw])
    entries = [*(_entries(base).values()), *added]
    document["manifests"] = msgspec.Raw(msgspec.json.encode(entries))
    return msgspec.json.encode(document), base.media_type if base else OCI_INDEX


def _ordered(items: Mapping[str, Item]) -> dict[str, Item]:
    """Return the same in an order in which children and subjects come first."""
    order: dict[str, Item] = {}
    visited: set[str] = set()
    for root in items:
        # No recursion: tags can name subjects in a chain of any length, or in a circle.
        stack = [root]
        while stack:
            digest = stack[-1]
            following = [] if digest in visited else [each_ for each_ in items[digest].needs if each_ not in visited]
            visited.add(digest)
            stack += [each_ for each_ in reversed(following) if each_ in items]
            if stack[-1] == digest:
                order.setdefault(stack.pop(), items[digest])
    return order

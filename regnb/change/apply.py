"""Do what a plan says: beside the demo, the only caller of the client's writing methods.

The order is always the same: probe whether the registry deletes at all, keep the bytes of what goes, announce the steps
in the journal, look at each target once more, write, and read again what is there then, whatever the answer was.

Registries know no compare-and-set: another writer's chance between the last look and the write is made small here, and
cannot be made none.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, cast

import anyio
from anyio.abc import TaskGroup

from regnb.change.journal import Journal, Outcome, Status
from regnb.change.plan import Plan, Step
from regnb.crawl.reader import Reader, each, parts
from regnb.crawl.records import NODE_LIMIT
from regnb.errors import (
    ConnectionFailed,
    ContentError,
    Denied,
    NotFound,
    RateLimited,
    Refused,
    RegnbError,
    StorageError,
    Unauthorized,
    Unsupported,
)
from regnb.oci.manifest import INDEXES, OCI_INDEX, decode, verify
from regnb.oci.reference import Digest
from regnb.text import human
from regnb.wire import probe
from regnb.wire.client import RawManifest, Upload

_HOPELESS: Final = (Unsupported, Denied, Unauthorized, RateLimited)
"""Answers that the next write would get, too: the rest is not tried."""
_STREAMS: Final = 4
"""Blobs whose bytes are sent at once."""
_TRANSFERS: Final = 16
"""Blobs that are looked for or mounted at once."""
_SURVEYS: Final = 8
"""Repositories whose tags are all read at once."""
_FRESH: Final = 5.0
"""Seconds for which a listing shows that a new tag is not taken."""
_CURRENT: Final = 60.0
"""Seconds for which it is believed what every tag of a repository points at, unless reading them takes long."""
_WITNESSES: Final = 8
"""Siblings that are looked at after a tag was removed: what takes one along takes them all."""
_GRACE: Final = 3.0
"""Seconds for giving up an upload when everything else is cancelled."""


@dataclass(slots=True)
class Progress:
    """Counters that a progress bar reads while a plan is applied."""

    title: ClassVar[str] = "Applying"
    unit: ClassVar[str] = "steps"
    steps: int = 0
    steps_done: int = 0
    moved: int = 0

    def state(self) -> tuple[int, int, str]:
        """Return how many steps there are, how many are settled, and how many bytes were sent."""
        return self.steps, self.steps_done, f"{human(self.moved)} sent" if self.moved else ""


async def apply(reader: Reader, plan: Plan, journal: Journal, *, source: Reader, progress: Progress) -> None:
    """Apply a confirmed plan, or what an earlier application left of it; the journal says what became of each step.

    One step's failure is recorded and the next one tried, unless the answer (no permission, read-only) would be the
    same again: then the rest is skipped.

    Args:
        reader: The registry that is written to.
        plan: What to do.
        journal: Where it is announced and recorded.
        source: The registry that content is read from; the same reader where the plan names no other.
        progress: Counts what is done.

    Raises:
        Unsupported, Denied, Unauthorized, RateLimited, ConnectionFailed: Before anything was written.
        Refused: A tag can only go by way of a dummy manifest, and that was not allowed; nothing was written.
        StorageError: The journal cannot be written.

    Example:
        ``await apply(reader, plan, journal, source=reader, progress=Progress())``
    """
    work = _Application(reader, plan, journal, source, progress)
    if work.todo:
        await work.run()


@dataclass(slots=True, eq=False)
class _Blob:
    """A blob that a repository must have before a manifest is put there."""

    repository: str
    digest: str
    size: int
    source: str
    steps: list[int] = field(default_factory=list)
    settled: anyio.Event = field(default_factory=anyio.Event)
    error: RegnbError | None = None


@dataclass(slots=True)
class _Listing:
    """The tags of a repository, when asking for them began and how long it took; what they point at, if asked.

    ``listed`` has what each index that a tag points at lists, and what the indexes in it list.
    """

    tags: dict[str, str]
    began: float
    took: float
    error: RegnbError | None = None
    listed: dict[str, set[str]] = field(default_factory=dict)


class _Application:
    """The state of one application of one plan."""

    def __init__(self, reader: Reader, plan: Plan, journal: Journal, source: Reader, progress: Progress) -> None:
        self.reader = reader
        self.client = reader.client
        self.plan = plan
        self.journal = journal
        self.source = source
        self.progress = progress
        writing = [number for number, step in enumerate(plan.steps) if step.writes]
        self.ended = {number: found for number, found in journal.outcomes.items() if found.status == "done"}
        self.todo = [number for number in writing if number not in self.ended]
        self.earlier = frozenset(journal.begun)
        self.begun: set[int] = set()
        progress.steps, progress.steps_done = len(writing), len(writing) - len(self.todo)
        self.wrote = False
        self.stop: RegnbError | None = None
        self.by_tag = False
        self.settled: dict[int, anyio.Event] = {}
        self.unread: dict[int, RegnbError] = {}
        self.failures: dict[int, RegnbError] = {}
        self.turns: dict[str, anyio.Semaphore] = {}
        self.blobs: dict[tuple[str, str], _Blob] = {}
        self.first: dict[str, _Blob] = {}
        self.listings: dict[str, _Listing] = {}
        self.surveys: dict[str, _Listing] = {}
        self.streams = anyio.Semaphore(_STREAMS)
        self.surveying = anyio.Semaphore(_SURVEYS)

    async def run(self) -> None:
        if self.journal.resumed:
            await self._check_needs()
        removals = [number for number in self.todo if self.plan.steps[number].action in ("untag", "delete")]
        puts = [number for number in self.todo if self.plan.steps[number].action in ("put", "tag")]
        if removals:
            await self._probe([self.plan.steps[number] for number in removals])
        if puts:
            await self._keep(puts)
            self.journal.intend(puts)
        for numbers in (puts, removals):
            self.settled = {number: anyio.Event() for number in numbers}
            try:
                async with anyio.create_task_group() as group:
                    self._start(group, numbers)
            except BaseExceptionGroup as failure:
                # A step's errors are recorded, so what comes here (the journal's disk is full) ends everything.
                raise failure.exceptions[0] from None
        if self.stop is not None and not self.wrote:
            raise self.stop

    def _start(self, group: TaskGroup, numbers: Sequence[int]) -> None:
        queues: dict[str, list[int]] = {}
        self.blobs.clear()
        for number in numbers:
            step = self.plan.steps[number]
            queues.setdefault(step.repository, []).append(number)
            for blob in step.blobs:
                brought = _Blob(step.repository, blob.digest, blob.size, step.source or step.repository)
                brought = self.blobs.setdefault((step.repository, blob.digest), brought)
                brought.steps.append(number)
                self.first.setdefault(blob.digest, brought)
        pending = iter(list(self.blobs.values()))
        for _ in range(min(_TRANSFERS, len(self.blobs))):
            group.start_soon(self._transfer, pending)
        for repository, queue in queues.items():
            if self.plan.steps[queue[0]].action in ("put", "tag"):
                group.start_soon(self._write_all, group, queue)
            else:
                group.start_soon(self._remove_all, repository, queue)

    # Before anything is written

    async def _check_needs(self) -> None:
        """Do again what was done earlier, is needed now, and is gone: an undo may have come between."""
        steps = self.plan.steps

        async def there(number: int) -> bool:
            return await self.reader.digest(steps[number].repository, steps[number].target) == steps[number].after

        again = list(self.todo)
        while again:
            needed = sorted({need for number in again for need in steps[number].needs if need in self.ended})
            needed = [number for number in needed if steps[number].action in ("put", "tag")]
            again = [number for number, found in zip(needed, await each(there, needed), strict=True) if not found]
            for number in again:
                del self.ended[number]
            self.todo = sorted({*self.todo, *again})
            self.progress.steps_done -= len(again)

    async def _probe(self, steps: Sequence[Step]) -> None:
        """Ask, with names that are not there, whether manifests and tags can be deleted."""
        absent = Digest.of(f"{self.plan.nonce}/absent".encode())
        repositories = dict.fromkeys(step.repository for step in steps)
        await each(lambda repository: probe.by_digest(self.client, repository, absent), repositories)
        untagged = next((step.repository for step in steps if step.action == "untag"), None)
        if untagged is None:
            return
        self.by_tag = await probe.by_tag(self.client, untagged, absent)
        if not self.by_tag and "dummy" not in self.plan.allow:
            raise Refused(
                f"{self.client.host} does not delete by tag: a tag goes alone only if a dummy manifest takes it over "
                "for a moment and is deleted",
                hint="allow 'dummy'",
            )

    async def _keep(self, numbers: Iterable[int]) -> None:
        """Put the bytes of what the steps replace or remove into the journal."""

        async def keep(number: int) -> None:
            step = self.plan.steps[number]
            try:
                raw = await self.reader.manifest(step.repository, step.before)
            except RegnbError as error:
                self.unread[number] = error
            else:
                self.journal.keep(raw, step.repository)

        steps = self.plan.steps
        await each(keep, [number for number in numbers if steps[number].before not in {"", steps[number].after}])

    # Around each step

    async def _may(self, number: int) -> bool:
        """Wait for what a step needs; where that was not done, or nothing is tried any more, skip it."""
        step = self.plan.steps[number]
        for need in step.needs:
            # Steps stand in order: what comes later is never waited for.
            if need < number and need in self.settled:
                await self.settled[need].wait()
        lacking = [need for need in step.needs if not self._done(need)]
        if self.stop is not None:
            text = f"not tried: {self.stop.message}"
        elif lacking:
            other = self.plan.steps[lacking[0]]
            text = f"it needs {other.action} {other.repository} {other.target} (row {lacking[0]}), which was not done"
        else:
            return True
        # What an earlier application has begun may well have happened, and an undo must look at it.
        self._record(number, "unknown" if number in self.earlier else "skipped", message=text)
        return False

    def _done(self, number: int) -> bool:
        """Whether what a step was to bring about is so: an index that someone else deleted lists nothing any more."""
        step, found = self.plan.steps[number], self.ended.get(number)
        gone = found is not None and found.status == "stale" and step.action == "delete" and not found.after
        return not step.writes or gone or (found is not None and found.status == "done")

    def _record(self, number: int, status: Status, before: str = "", after: str = "", message: str = "") -> None:
        outcome = Outcome(number, status, before, after, message)
        self.journal.record(outcome)
        self.ended[number] = outcome
        self.settled[number].set()
        self.progress.steps_done += 1

    def _failed(self, number: int, error: RegnbError) -> None:
        """Record what kept a step from being done, or from being looked at after its write."""
        if isinstance(error, StorageError):
            raise error  # the journal's: without it nothing more is written
        if isinstance(error, (*_HOPELESS, ConnectionFailed)):
            self.stop = self.stop or error
        if number in self.begun:
            text = f"it was written, and what is there now cannot be read: {error}"
            self._record(number, "unknown", self.plan.steps[number].before, message=text)
        else:
            self._record(number, "failed", message=str(error))

    def _stale(self, number: int, found: str) -> None:
        """Record that a target is not what the plan says; what is as it should be after an interruption is done."""
        step = self.plan.steps[number]
        if found == step.after and (number in self.earlier or found):
            ours = number in self.earlier
            self._record(number, "done", step.before if ours else found, found, "it was so already")
        else:
            what = f"it is {found} now" if found else "it is gone"
            self._record(number, "stale", found, found, f"{what}, and was {step.before or 'not there'} in the plan")

    def _begin(self, number: int) -> None:
        """Announce the first write of a step; nothing may be written if its bytes could not be kept."""
        if number in self.unread:
            raise self.unread[number]
        self.journal.start(number)
        self.begun.add(number)

    def _answered(self, error: RegnbError | None) -> None:
        """Draw the conclusions from a write's answer."""
        if isinstance(error, _HOPELESS):
            self.stop = self.stop or error
        else:
            self.wrote = True

    async def _tags(self, repository: str, since: float) -> dict[str, str]:
        """Return the tags of a repository, from a listing that began at ``since`` or later."""
        kept = self.listings.get(repository)
        if kept is None or kept.began < since:
            began = anyio.current_time()
            tags = dict.fromkeys(await self.reader.tags(repository), "")
            kept = self.listings[repository] = _Listing(tags, began, anyio.current_time() - began)
        return kept.tags

    # Blobs

    async def _transfer(self, pending: Iterator[_Blob]) -> None:
        for blob in pending:
            try:
                if self.stop is not None or all(number in self.ended for number in blob.steps):
                    blob.error = RegnbError("not tried")
                else:
                    await self._bring(blob)
            except RegnbError as error:
                blob.error = error
                if isinstance(error, _HOPELESS):
                    self.stop = self.stop or error
            blob.settled.set()

    async def _bring(self, blob: _Blob) -> None:
        """See to it that a repository has a blob: it is there, is mounted, or is sent."""
        if await self.client.blob_present(blob.repository, blob.digest):
            return
        near = blob.source if not self.plan.source else await self._nearby(blob)
        if near == blob.repository:
            raise NotFound(
                f"{near} has lost it: a garbage collection has removed it", hint="push the image again from elsewhere"
            )
        upload = None
        if near:
            upload = await self.client.mount(blob.repository, blob.digest, near)
            self.wrote = True
            if upload is None:
                if not await self.client.blob_present(blob.repository, blob.digest):
                    raise ContentError(
                        f"the registry says that it took it over from {near}, but the bytes are not there: a garbage "
                        "collection has removed them",
                        hint="restart the registry, which remembers what is gone, and push the image again",
                    )
                return
        async with self.streams:
            await self._send(blob, upload)

    async def _nearby(self, blob: _Blob) -> str:
        """Return another repository of the destination that this application has sent the blob to, or ""."""
        other = self.first[blob.digest]
        if other is blob:
            return ""
        await other.settled.wait()
        return "" if other.error else other.repository

    async def _send(self, blob: _Blob, upload: Upload | None) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    chunks = await stack.enter_async_context(self.source.client.blob_stream(blob.source, blob.digest))
                except NotFound:
                    text = f"it is missing in {blob.source} on {self.source.client.host}, where it is copied from"
                    raise NotFound(text, hint="that image is damaged: push it there again") from None
                if upload is None:
                    with anyio.CancelScope(shield=True):  # only what is known to have begun can be given up
                        upload = await self.client.start_upload(blob.repository)
                    self.wrote = True
                await self.client.finish_upload(
                    cast("Upload", upload), blob.digest, self._counted(blob, chunks), blob.size
                )
        except BaseException:
            if upload is not None:
                with anyio.move_on_after(_GRACE, shield=True), contextlib.suppress(RegnbError):
                    await self.client.cancel_upload(upload)
            raise

    async def _counted(self, blob: _Blob, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            self.progress.moved += len(chunk)
            yield chunk
        if size != blob.size:
            raise ContentError(f"it has {size} bytes in {blob.source}, and the manifest says {blob.size}")

    async def _have_blobs(self, step: Step) -> None:
        lacking: dict[str, RegnbError] = {}
        for blob in step.blobs:
            brought = self.blobs[step.repository, blob.digest]
            await brought.settled.wait()
            if brought.error is not None:
                lacking[blob.digest] = brought.error
        if lacking:
            text = "; ".join(f"blob {digest}: {error.message}" for digest, error in lacking.items())
            raise RegnbError(text, hint=next(iter(lacking.values())).hint)

    # Manifests and tags that are set

    async def _write_all(self, group: TaskGroup, queue: Sequence[int]) -> None:
        """Write one after the other; what was written is read back meanwhile."""
        for number in queue:
            if not await self._may(number):
                continue
            step = self.plan.steps[number]
            try:
                await self._have_blobs(step)
                raw = await self._content(step)
            except RegnbError as error:
                self._failed(number, error)
                continue
            # distribution answers 500 to who reads a manifest while it is written once more, wherever that may be.
            turn = self.turns.setdefault(step.after, anyio.Semaphore(1))
            await turn.acquire()
            if await self._write(number, raw):
                group.start_soon(self._read_back, number, raw, turn)
            else:
                turn.release()

    async def _write(self, number: int, raw: RawManifest) -> bool:
        """Put a manifest, unless its tag has moved; return whether there is something to read back."""
        step = self.plan.steps[number]
        try:
            if step.action == "tag" and (now := await self._now(step)) != step.before:
                self._stale(number, now)
                return False
            self._begin(number)
        except RegnbError as error:
            self._failed(number, error)
            return False
        try:
            await self.client.put_manifest(step.repository, step.target, raw.data, raw.media_type)
        except RegnbError as error:
            self.failures[number] = error
        self._answered(self.failures.get(number))
        return True

    async def _content(self, step: Step) -> RawManifest:
        made = self.plan.content(step.after)
        if made is not None:
            verify(made, step.after)
            return RawManifest(made, step.media_type, Digest(step.after))
        return await self.source.manifest(step.source or step.repository, step.after)

    async def _now(self, step: Step) -> str:
        """Return what the tag of a step points at just now, for a new tag as far as a listing tells."""
        if not step.before and step.tag not in await self._tags(step.repository, anyio.current_time() - _FRESH):
            return ""
        return await self.reader.digest(step.repository, step.tag)

    async def _read_back(self, number: int, raw: RawManifest, turn: anyio.Semaphore) -> None:
        step = self.plan.steps[number]
        failure = self.failures.get(number)
        try:
            found: RawManifest | None = await self.client.manifest(step.repository, step.target)
        except NotFound:
            found = None
        except RegnbError as error:
            self._failed(number, error)
            return
        finally:
            turn.release()
        after = str(found.digest) if found else ""
        if found and found.data == raw.data:
            self._record(number, "done", step.before, after, _although(failure))
        else:
            text = str(failure or "the registry took it, but something else is there now: did someone else write?")
            self._record(number, "failed", step.before, after, text)

    # What is removed

    async def _remove_all(self, repository: str, queue: Sequence[int]) -> None:
        if self.stop is None:
            async with self.surveying:
                await self._survey(repository)
                await self._keep(queue)
            self.journal.intend(queue)
        for number in queue:
            if await self._may(number):
                try:
                    if self.plan.steps[number].action == "untag":
                        await self._untag(number)
                    else:
                        await self._delete(number)
                except RegnbError as error:
                    self._failed(number, error)

    async def _survey(self, repository: str) -> None:
        """Read what every tag points at: where one cannot be read, distribution loses more than it is told to."""
        began = anyio.current_time()
        tags: dict[str, str] = {}
        indexes: set[str] = set()
        listed: dict[str, set[str]] = {}
        failure: RegnbError | None = None

        async def look(tag: str) -> None:
            with contextlib.suppress(NotFound):
                found = await self.client.head_manifest(repository, tag)
                tags[tag] = str(found.digest)
                indexes.update({tags[tag]} if found.media_type in INDEXES else ())

        try:
            tags |= dict.fromkeys(await self.reader.tags(repository), "")
            await each(look, list(tags))
            listed = await self._look_into(repository, indexes)
        except RegnbError as error:
            text = f"not every tag of {repository} can be read, so nothing there is deleted by digest: {error.message}"
            failure = Refused(text, hint="repair or remove the damaged tag in the registry's storage")
        self.surveys[repository] = _Listing(tags, began, anyio.current_time() - began, failure, listed)

    async def _look_into(self, repository: str, digests: Iterable[str]) -> dict[str, set[str]]:
        """Return what each of some manifests lists, if it is an index."""

        async def look(root: str) -> set[str]:
            found: set[str] = set()
            todo = [root]
            while todo:
                with contextlib.suppress(NotFound, ContentError):  # what cannot be pulled cannot be broken
                    raw = await self.reader.manifest(repository, todo.pop())
                    for child in parts(decode(raw.data, raw.media_type, digest=raw.digest))[0]:
                        if child.digest not in found and len(found) < NODE_LIMIT:
                            found.add(child.digest)
                            todo += [child.digest] if child.media_type in INDEXES else []
            return found

        roots = sorted(filter(None, digests))
        return dict(zip(roots, await each(look, roots), strict=True))

    async def _surveyed(self, repository: str) -> _Listing:
        survey = self.surveys[repository]
        if anyio.current_time() - survey.began > _CURRENT + 10 * survey.took:
            await self._survey(repository)
            survey = self.surveys[repository]
        if survey.error is not None:
            raise survey.error
        return survey

    async def _untag(self, number: int) -> None:
        """Remove one tag: by its name, or with a dummy manifest that takes it over and is deleted by digest."""
        step = self.plan.steps[number]
        where, tag = step.repository, step.tag
        dummy = self.plan.dummy(number)
        own = Digest.of(dummy)
        found = await self.reader.digest(where, tag)
        if found not in (step.before, own):
            self._stale(number, found)
            return
        by_tag = self.by_tag and found != own
        known = (self.surveys[where] if by_tag else await self._surveyed(where)).tags
        self._begin(number)
        failure: RegnbError | None = None
        try:
            if by_tag:
                await self.client.delete_tag(where, tag)
            else:
                if found != own:
                    await self.client.put_manifest(where, tag, dummy, OCI_INDEX)
                    self.wrote = True
                await self.client.delete_manifest(where, own)
        except RegnbError as error:
            failure = error
        self._answered(failure)
        found = await self.reader.digest(where, tag)
        if found == own:
            await self._put_back(number, failure)
            return
        known.pop(tag, None)
        siblings = [other for other, digest in known.items() if digest == step.before][:_WITNESSES]
        lost = [other for other, digest in (await self.reader.digests(where, siblings)).items() if not digest]
        if lost:
            text = f"ALSO GONE, and not planned: {', '.join(lost)}; undo, then set them again"
            self._record(number, "failed", step.before, found, text)
        elif found:
            text = str(failure or "the registry took it, but the tag is there: did someone else set it?")
            self._record(number, "failed", step.before, found, text)
        else:
            self._record(number, "done", step.before, "", _although(failure))

    async def _put_back(self, number: int, failure: RegnbError | None) -> None:
        """Set a tag again that the dummy manifest has taken over and that could not be removed."""
        step = self.plan.steps[number]
        trouble = ""
        try:
            raw = await self.reader.manifest(step.repository, step.before)
            await self.client.put_manifest(step.repository, step.tag, raw.data, raw.media_type)
        except RegnbError as error:
            trouble = error.message
        found = await self.reader.digest(step.repository, step.tag)
        why = failure or "the registry took the deletion of the dummy manifest, but it is still there"
        text = f"it points again at what it did: {why}"
        if found != step.before:
            text = f"THE TAG POINTS AT A DUMMY MANIFEST and could not be set back ({trouble}), undo tries again: {why}"
        self._record(number, "failed", step.before, found, text)

    async def _delete(self, number: int) -> None:
        """Delete a manifest by its digest, if no tag goes with it but those in the plan."""
        step = self.plan.steps[number]
        where = step.repository
        survey = await self._surveyed(where)
        known = survey.tags
        # A listing is used for as long as it took: it costs at most as much time as the rest.
        last = self.listings[where].took if where in self.listings else 0.0
        listed = await self._tags(where, anyio.current_time() - last)
        fresh = listed.keys() - known.keys()
        asked = listed.keys() & step.tags | fresh
        asked |= listed.keys() & {tag for tag, digest in known.items() if digest == step.before}
        now = await self.reader.digests(where, sorted(asked))
        known.update(now)
        survey.listed |= await self._look_into(where, {now[tag] for tag in fresh})
        moved = [tag for tag in step.tags if now.get(tag, "") not in ("", step.before)]
        more = [tag for tag, digest in now.items() if digest == step.before and tag not in step.tags]
        found = await self.reader.digest(where, step.before)
        if not found:
            self._stale(number, found)
            return
        indexes = [tag for tag, digest in known.items() if step.before in survey.listed.get(digest, ())]
        if "parents" in self.plan.allow:
            indexes = []
        if moved or more or indexes:
            text = f"{', '.join(moved)} was moved" if moved else f"{', '.join(more)} would go with it"
            if indexes:
                text = f"the index {', '.join(indexes)} lists it, and would break"
            self._record(number, "stale", found, found, f"{text}, unlike in the plan")
            return
        self._begin(number)
        began = anyio.current_time()
        failure: RegnbError | None = None
        try:
            await self.client.delete_manifest(where, step.before)
        except RegnbError as error:
            failure = error
        self._answered(failure)
        found = await self.reader.digest(where, step.before)
        after = await self._tags(where, began)
        if found:
            text = str(failure or "the registry says that it was deleted, but it is still there")
            self._record(number, "failed", step.before, found, text)
            return
        for tag in step.tags:
            known.pop(tag, None)
        notes = [_although(failure)]
        if lost := sorted(listed.keys() - after.keys() - set(step.tags)):
            notes.append(f"ALSO GONE, and not planned: {', '.join(lost)}")
        if left := sorted(after.keys() & step.tags):
            notes.append(f"the registry still lists {', '.join(left)}")
        self._record(number, "failed" if lost else "done", step.before, "", "; ".join(filter(None, notes)))


def _although(failure: RegnbError | None) -> str:
    return f"it is done, although the registry answered otherwise: {failure.message}" if failure else ""

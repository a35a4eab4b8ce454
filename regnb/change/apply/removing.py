"""The steps that remove a tag, or a manifest with its tags."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

import anyio

from regnb.change.apply.course import Course, although
from regnb.change.apply.deletions import Deletions
from regnb.change.apply.survey import Surveys
from regnb.crawl.reader import each
from regnb.errors import NotFound, RegnbError
from regnb.oci.manifest import OCI_INDEX
from regnb.oci.reference import Digest

_WITNESSES: Final = 8
"""Siblings that are looked at after a tag was removed: what takes one along takes them all."""


class Removing:
    """Removes tags and manifests, one repository's one after the other.

    Args:
        course: The application.
        deletions: How the registry deletes.
    """

    def __init__(self, course: Course, deletions: Deletions) -> None:
        self._course = course
        self._deletions = deletions
        self._surveys = Surveys(course)
        self._told: set[tuple[str, str]] = set()

    async def run(self, repository: str, queue: Sequence[int]) -> None:
        """Do the steps of one repository, then look at what else happened there."""
        course = self._course
        if course.stop is None:
            async with self._surveys.turn:
                await self._surveys.read(repository)
                await course.keep(queue)
            await anyio.to_thread.run_sync(course.journal.intend, queue)
        for number in queue:
            if await course.may(number):
                try:
                    if course.plan.steps[number].action == "untag":
                        await self._untag(number)
                    else:
                        await self._delete(number)
                except RegnbError as error:
                    course.failed(number, error)
        if begun := [number for number in queue if number in course.begun]:
            await self._look_around(repository, begun)

    async def _untag(self, number: int) -> None:
        """Remove one tag: by its name, or with a dummy manifest that takes it over and is deleted by digest."""
        course = self._course
        step = course.plan.steps[number]
        where, tag = step.repository, step.tag
        dummy = course.plan.dummy(number)
        own = Digest.of(dummy)
        found = await course.now(where, tag)
        # A tag whose manifest is gone is found in the listing alone.
        listed = bool(found or step.before) or tag in await self._surveys.tags(where, anyio.current_time())
        if found not in (step.before, own) or not listed:
            course.stale(number, found)
            return
        by_tag = self._deletions.by_tag and found != own
        if not by_tag:
            await self._surveys.current(where)
        course.begin(number)
        self._surveys.going(where, [tag])
        began = anyio.current_time()
        failure: RegnbError | None = None
        try:
            if by_tag:
                await self._deletions.tag(where, tag)
            else:
                if found != own:
                    await course.client.put_manifest(where, tag, dummy, OCI_INDEX)
                    course.wrote = True
                await self._deletions.manifest(where, own)
        except RegnbError as error:
            failure = error
        course.answered(failure)
        raw = await course.see(where, tag, step.before, failure)
        now = str(raw.digest) if raw else ""
        if now == own:
            await self._put_back(number, failure)
            return
        self._surveys.gone(where, [tag])
        witnesses: dict[str, str] = {}
        if step.before:
            siblings = self._surveys.siblings(where, step.before)[:_WITNESSES]
            # Without a sibling the manifest itself shows that nothing but the tag went.
            witnesses = await course.reader.digests(where, siblings or [step.before])
        if lost := [other for other, digest in witnesses.items() if not digest]:
            self._told.update((where, other) for other in lost)
            text = f"ALSO GONE, and not planned: {', '.join(lost)}; undo, then set them again"
            course.record(number, "failed", step.before, now, text)
        elif now or (not step.before and tag in await self._surveys.tags(where, began)):
            course.missed(number, now, failure, "the registry took it, but the tag is there: did someone else set it?")
        else:
            course.record(number, "done", step.before, "", although(failure))

    async def _put_back(self, number: int, failure: RegnbError | None) -> None:
        """Set a tag again that the dummy manifest has taken over and that could not be removed."""
        course = self._course
        step = course.plan.steps[number]
        trouble = ""
        try:
            raw = course.journal.content(step.before) or await course.reader.manifest(step.repository, step.before)
            await course.client.put_manifest(step.repository, step.tag, raw.data, raw.media_type)
        except RegnbError as error:
            trouble = error.message
        found = await course.now(step.repository, step.tag)
        why = failure or "the registry took the deletion of the dummy manifest, but it is still there"
        text = f"it points again at what it did: {why}"
        if found != step.before:
            text = f"THE TAG POINTS AT A DUMMY MANIFEST and could not be set back ({trouble}), undo tries again: {why}"
        course.record(number, "failed", step.before, found, text)

    async def _delete(self, number: int) -> None:
        """Delete a manifest by its digest, if no tag goes with it but those in the plan."""
        course = self._course
        step = course.plan.steps[number]
        where = step.repository
        survey = await self._surveys.current(where)
        listed = await self._surveys.recent_tags(where)
        asked = {*step.tags, *(tag for tag in listed if survey.tags.get(tag, step.before) == step.before)}
        looks = await each(lambda tag: course.reader.look(where, tag), sorted(asked))
        now = {tag: str(raw.digest) if raw else "" for tag, raw in zip(sorted(asked), looks, strict=True)}
        await self._surveys.update(where, now)
        there = await course.reader.digest(where, step.before)
        on_it = [tag for tag in step.tags if now.get(tag) == step.before]
        if not there and not on_it:
            course.stale(number, "")
            return
        if why := self._against(number, now):
            course.record(number, "stale", step.before, step.before, f"{why}, unlike in the plan")
            return
        course.begin(number)
        self._surveys.going(where, step.tags)
        began = anyio.current_time()
        failure, kept = await self._remove(where, step.before, on_it, there=bool(there))
        course.answered(None if kept else failure)
        found = await course.see(where, step.before, step.before, failure)
        after = await self._surveys.tags(where, began)
        # A tag need not be listed to be pulled.
        looks = await each(lambda tag: course.see(where, tag, step.before), step.tags)
        left = {tag: raw for tag, raw in zip(step.tags, looks, strict=True) if raw is not None or tag in after}
        resolving = [tag for tag, raw in left.items() if raw is not None and raw.digest == step.before]
        missing = sorted({*listed} - {*after} - {*step.tags})
        gone = [tag for tag, digest in (await course.reader.digests(where, missing)).items() if not digest]
        if resolving or (found and not kept):
            what = "it is still there" if found else f"{', '.join(resolving)} can still be pulled"
            text = f"the registry says that it was deleted, but {what}"
            course.missed(number, step.before, failure, text)
            return
        self._surveys.gone(where, step.tags)
        notes = [kept if found else although(failure)]
        if gone:
            self._told.update((where, tag) for tag in gone)
            notes.append(f"ALSO GONE, and not planned: {', '.join(gone)}")
        if dangling := [tag for tag, raw in left.items() if raw is None]:
            notes.append(f"the registry still lists {', '.join(dangling)}, which point at nothing")
        if anew := [tag for tag, raw in left.items() if raw is not None]:
            notes.append(f"someone else has set {', '.join(anew)} to another manifest since")
        course.record(number, "failed" if gone else "done", step.before, "", "; ".join(filter(None, notes)))

    async def _remove(
        self, repository: str, digest: str, tags: Sequence[str], *, there: bool
    ) -> tuple[RegnbError | None, str]:
        """Delete a manifest and its tags; return what was answered, and what to say where only the tags are gone."""
        failure: RegnbError | None = None
        kept = ""
        alone = self._deletions.by_tag and not self._deletions.whole
        try:
            # Some registries keep the tags of a manifest that is deleted, and others do not delete what has a tag.
            for tag in tags if alone else ():
                failure = await self._delete_tag(repository, tag, digest) or failure
            kept = self._deletions.kept(None) if tags else ""
            with contextlib.suppress(*((NotFound,) if alone or not there else ())):
                await self._deletions.manifest(repository, digest)
        except RegnbError as error:
            failure = error
            kept = kept and self._deletions.kept(error)
        return failure, kept

    async def _delete_tag(self, repository: str, tag: str, digest: str) -> RegnbError | None:
        """Delete a tag before its manifest goes; return the error that was answered although the tag is gone.

        Raises:
            RegnbError: It is still there.
        """
        course = self._course
        failure: RegnbError | None = None
        try:
            await self._deletions.tag(repository, tag)
        except NotFound:
            return None
        except RegnbError as error:
            found = await course.see(repository, tag, digest, error)
            if found is not None and found.digest == digest:
                raise
            failure = error
        course.wrote = True
        return failure

    def _against(self, number: int, now: dict[str, str]) -> str:
        """Return what keeps a manifest from being deleted, given what the tags point at now; or ""."""
        step = self._course.plan.steps[number]
        survey = self._surveys.last(step.repository)
        indexes = [tag for tag, digest in survey.tags.items() if step.before in survey.listed.get(digest, ())]
        if indexes and "parents" not in self._course.plan.allow:
            return f"the index {', '.join(indexes)} lists it, and would break"
        if moved := [tag for tag in step.tags if now.get(tag, "") not in ("", step.before)]:
            return f"{', '.join(moved)} was moved"
        if more := [tag for tag, digest in now.items() if digest == step.before and tag not in step.tags]:
            return f"{', '.join(more)} would go with it"
        return ""

    async def _look_around(self, repository: str, begun: Sequence[int]) -> None:
        """Look once more at every tag that was to stay, and name those that are gone or were moved by someone else."""
        course = self._course
        try:
            found = await self._surveys.compare(repository)
        except RegnbError as error:
            text = f"what became of the other tags of {repository} cannot be read: {error.message}"
            course.amend(begun[-1], text)
            return
        blamed = {course.plan.steps[number].before: number for number in begun}
        for tag, digest in found.gone.items():
            if (repository, tag) in self._told:
                continue
            if digest in blamed:
                course.amend(blamed[digest], f"ALSO GONE, and not planned: {tag}", "failed")
            else:
                course.amend(begun[-1], f"someone else has removed {tag} meanwhile (it was {digest})")
        for tag, digest in found.moved.items():
            course.amend(begun[-1], f"someone else has moved {tag} meanwhile (it was {digest})")
        if found.dangling:
            course.amend(begun[-1], f"listed meanwhile, but pointing at nothing: {', '.join(found.dangling)}")

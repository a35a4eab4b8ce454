"""What every tag of a repository points at, while manifests and tags are removed there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import anyio

from regnb.change.apply.course import Course
from regnb.crawl.reader import each, parts
from regnb.crawl.records import NODE_LIMIT
from regnb.errors import MalformedManifest, NotFound, Refused, RegnbError
from regnb.oci.manifest import MANIFESTS, decode

CURRENT: Final = 60.0
"""Seconds for which it is believed what every tag of a repository points at, unless reading them takes long."""
_SURVEYS: Final = 8
"""Repositories whose tags are all read at once."""


@dataclass(slots=True)
class Survey:
    """What one repository held.

    Attributes:
        tags: Each tag that pointed at something, and at what; what is removed as planned is taken out.
        listed: What each index that a tag points at lists, and what the indexes in it list.
        began, took: When reading it began, and how many seconds it took.
        error: Why not every tag could be read, or None.
    """

    tags: dict[str, str]
    began: float
    took: float
    error: RegnbError | None = None
    listed: dict[str, set[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Listing:
    tags: list[str]
    began: float
    took: float


@dataclass(slots=True)
class Lost:
    """What differs from the surveys once everything is removed, and was not planned: tags, and what they pointed at."""

    gone: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)


class Surveys:
    """Reads what repositories hold, as often as that is needed."""

    def __init__(self, course: Course) -> None:
        self._reader = course.reader
        self._surveys: dict[str, Survey] = {}
        self._listings: dict[str, _Listing] = {}
        self._known: dict[str, dict[str, str]] = {}
        self.turn = anyio.Semaphore(_SURVEYS)

    async def read(self, repository: str) -> Survey:
        """Read what every tag points at: where one cannot be read, distribution loses more than it is told to."""
        began = anyio.current_time()
        tags: dict[str, str] = {}
        listed: dict[str, set[str]] = {}
        failure: RegnbError | None = None
        try:
            tags = await self._reader.verified(repository, await self._reader.tags(repository))
            listed = await self._look_into(repository, tags.values())
        except RegnbError as error:
            text = f"not every tag of {repository} can be read, so nothing there is deleted by digest: {error.message}"
            failure = Refused(text, hint=error.hint or "repair or remove the damaged tag in the registry's storage")
        survey = Survey(tags, began, anyio.current_time() - began, failure, listed)
        self._surveys[repository] = survey
        self._known[repository] = tags | self._known.get(repository, {})
        return survey

    def last(self, repository: str) -> Survey:
        """Return the last survey of a repository."""
        return self._surveys[repository]

    async def current(self, repository: str) -> Survey:
        """Return a survey that is not too old.

        Raises:
            Refused: Not every tag can be read.
        """
        survey = self._surveys[repository]
        if anyio.current_time() - survey.began > CURRENT + 10 * survey.took:
            survey = await self.read(repository)
        if survey.error is not None:
            raise survey.error
        return survey

    async def update(self, repository: str, now: dict[str, str]) -> None:
        """Add what some tags point at now, and what new indexes among that list."""
        survey = self._surveys[repository]
        survey.tags.update(now)
        for tag, digest in now.items():
            self._known[repository].setdefault(tag, digest)
        survey.listed |= await self._look_into(repository, set(now.values()) - survey.listed.keys())

    def going(self, repository: str, tags: Iterable[str]) -> None:
        """Expect that tags go: what becomes of them is told elsewhere."""
        self._known[repository] |= dict.fromkeys(tags, "")

    def siblings(self, repository: str, digest: str) -> list[str]:
        """Return the tags that point at a digest and are to stay."""
        known = self._known[repository]
        return [tag for tag, found in self._surveys[repository].tags.items() if found == digest and known.get(tag)]

    def gone(self, repository: str, tags: Iterable[str]) -> None:
        """Take out tags that are removed as planned."""
        for tag in tags:
            self._surveys[repository].tags.pop(tag, None)

    async def tags(self, repository: str, since: float) -> list[str]:
        """Return the tags of a repository, from a listing that began at ``since`` or later."""
        kept = self._listings.get(repository)
        if kept is None or kept.began < since:
            began = anyio.current_time()
            tags = await self._reader.tags(repository)
            kept = self._listings[repository] = _Listing(tags, began, anyio.current_time() - began)
        return kept.tags

    async def recent_tags(self, repository: str) -> list[str]:
        """Return the tags of a repository from a listing no older than it took: it costs no more time than the rest."""
        kept = self._listings.get(repository)
        return await self.tags(repository, anyio.current_time() - (kept.took if kept else 0.0))

    async def compare(self, repository: str) -> Lost:
        """Look once more at every tag, and return what happened to those that were to stay.

        Raises:
            RegnbError: One cannot be read.
        """
        known = self._known[repository]
        listed = await self._reader.tags(repository)
        now = await self._reader.digests(repository, sorted({*listed, *(tag for tag in known if known[tag])}))
        found = Lost()
        for tag, announced in now.items():
            before, digest = known.get(tag, ""), announced
            if before not in ("", digest) and digest:  # a GET decides, whose bytes have the digest that it announces
                raw = await self._reader.look(repository, tag)
                digest = str(raw.digest) if raw else ""
            if before and not digest:
                found.gone[tag] = before
            elif before not in ("", digest):
                found.moved[tag] = before
            elif not digest and tag not in known:
                found.dangling.append(tag)
        return found

    async def _look_into(self, repository: str, digests: Iterable[str]) -> dict[str, set[str]]:
        """Return what each of some manifests lists, if it is an index."""

        async def look(root: str) -> set[str]:
            found: set[str] = set()
            todo = [root]
            while todo:
                with contextlib.suppress(NotFound, MalformedManifest):  # what cannot be pulled cannot be broken
                    raw = await self._reader.manifest(repository, todo.pop())
                    for child in parts(decode(raw.data, raw.media_type, digest=raw.digest))[0]:
                        if child.digest not in found and len(found) < NODE_LIMIT:
                            found.add(child.digest)
                            todo += [] if child.media_type in MANIFESTS else [child.digest]
            return found

        roots = sorted(set(filter(None, digests)))
        return dict(zip(roots, await each(look, roots), strict=True))

"""What a registry's own API tells a crawl, how far it is believed, and how that is checked."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

from regnb.crawl.reader import each
from regnb.crawl.recording import Recording
from regnb.crawl.records import TagRecord
from regnb.directories.directory import Directory, Listed
from regnb.errors import MissingExtra, NotFound, RegnbError
from regnb.oci.reference import is_digest, is_tag
from regnb.text import count
from regnb.wire.client import Client

FAILURES: Final = 3
"""Repositories that the directory cannot list before it is asked no more."""
PART: Final = 300
"""Of so many tags one is asked for at the registry as well; likewise of repositories."""
LEAST, MOST = 5, 60
"""How many at least and at most."""
Claim: TypeAlias = Literal["digests", "referrers"]
"""What is believed of a directory."""
_T = TypeVar("_T")


def sample(some: Sequence[_T]) -> list[_T]:
    """Return those that are checked, which nobody can foresee.

    Example:
        >>> len(sample(range(20_000))), len(sample("abc"))
        (60, 3)
    """
    wanted = min(len(some), max(LEAST, min(MOST, len(some) // PART)))
    return secrets.SystemRandom().sample(some, wanted)


class Told:
    """What a directory says of each tag during one crawl.

    Args:
        directory: Of the registry, or None: then nothing is told.
        client: The registry, which the directory is checked against.
        recording: Where it is noted what fails, and what is said.
        thorough: Whether each tag is asked for at the registry all the same.
        distrusted: What is not believed.

    Attributes:
        moved: Tags that were set to something else, or removed, during the crawl.
    """

    def __init__(
        self,
        directory: Directory | None,
        client: Client,
        recording: Recording,
        *,
        thorough: bool = False,
        distrusted: Collection[Claim] = (),
    ) -> None:
        self._directory = None if "digests" in distrusted else directory
        self.recording = recording
        self._client, self._thorough = client, thorough
        self._referrers = not thorough and "referrers" not in distrusted
        self._listed: dict[str, dict[str, Listed]] = {}
        self._about: dict[tuple[str, str], tuple[str, ...] | None] = {}
        self._believed: dict[tuple[str, str], str] = {}
        self._failures = 0
        self._silent = False
        self.moved: list[tuple[str, str]] = []

    async def tags(self, repository: str) -> dict[str, str]:
        """Return a repository's tags with their digests, "" where these are not told; {} where the tags are not."""
        directory = self._directory
        if directory is None or self._failures >= FAILURES:
            return {}
        try:
            found = await self._list(directory, repository)
        except RegnbError as error:
            self._failures += FAILURES if isinstance(error, MissingExtra) else 1
            last = f"{directory.name}'s API is not asked again in this reading" if self._failures >= FAILURES else ""
            text = f"read over the registry API instead: {error.message}"
            if not self._silent:
                self._note(repository, text, "; ".join(filter(None, (error.hint, last))))
            self._silent = self._failures >= FAILURES
            return {}
        return {tag: one.digest for tag, one in found.items()}

    @property
    def tells(self) -> bool:
        """Whether there is a directory that may be believed."""
        return self._directory is not None

    @property
    def whole(self) -> bool:
        """Whether the directory lists every tag that the registry has."""
        return self._directory is not None and self._directory.whole

    async def _list(self, directory: Directory, repository: str) -> dict[str, Listed]:
        listed = await directory.tags(repository)
        found = {one.tag: one for one in listed if is_tag(one.tag) and (not one.digest or is_digest(one.digest))}
        self._listed[repository] = found
        for one in found.values():
            self._about[repository, one.digest] = one.referrers
        return found

    def _note(self, repository: str, text: str, hint: str = "") -> None:
        self.recording.problem(repository, "", "directory", RegnbError(text, hint=hint), incomplete=False)

    def digest(self, repository: str, tag: str) -> str:
        """Return what a tag points at, if it may be believed without asking the registry; else ""."""
        one = self._listed.get(repository, {}).get(tag)
        return one.digest if one is not None and not self._thorough and (repository, tag) not in self.moved else ""

    async def head(self, repository: str, tag: str) -> str:
        """Return what a tag points at by a HEAD, where a GET would count against a limit; else ""."""
        if self._directory is None or not self._directory.spare:
            return ""
        try:
            return str((await self._client.head_manifest(repository, tag)).digest)
        except NotFound:
            return ""  # a GET decides

    def believe(self, repository: str, tag: str, digest: str) -> None:
        """Note that the registry was not asked for a tag."""
        self._believed[repository, tag] = digest

    def count(self, repository: str, tag: str) -> None:
        """Count a tag among those that were read, or that were told."""
        counts, believed = self.recording.records.coverage.tags, (repository, tag) in self._believed
        counts.told, counts.read = counts.told + believed, counts.read + (not believed)

    def referrers(self, repository: str, digest: str) -> tuple[str, ...] | None:
        """Return what refers to a manifest; None where the directory does not say."""
        return self._about.get((repository, digest)) if self._referrers else None

    async def check(self) -> set[Claim]:
        """Ask the registry for some of what was believed; return what is not to be believed.

        What was set or removed meanwhile is not a contradiction: the directory is asked again, and agrees.
        """
        directory = self._directory
        if directory is None or not self._listed:
            return set()
        wrong: set[Claim] = set()

        async def tag(one: tuple[str, str]) -> None:
            if not await self._right(directory, *one):
                wrong.add("digests")

        async def tags(repository: str) -> None:
            if not await self._whole(directory, repository):
                wrong.add("digests")

        async def referrers(one: tuple[str, str]) -> None:
            if not await self._refers(directory, *one):
                wrong.add("referrers")

        chosen = sample(list(self._believed))
        about = sample([one for one, refers in self._about.items() if self._referrers and refers is not None])
        await each(tag, chosen)
        await each(tags, sample(list(self._listed)) if directory.whole else [])
        await each(referrers, about)
        coverage = self.recording.records.coverage
        source = f"{directory.name}'s API"
        checked = f", {len(chosen):,} of {count(len(self._believed), 'tag')} checked by HEAD" if chosen else ""
        coverage.sources["tags"] = f"{source}{checked}"
        if coverage.referrers.told:
            coverage.sources["referrers"] = f"{source}, {len(about):,} of {coverage.referrers.told:,} checked"
        return wrong

    async def _right(self, directory: Directory, repository: str, tag: str) -> bool:
        believed = self._believed[repository, tag]
        found = ""
        try:
            found = (await self._client.head_manifest(repository, tag)).digest
        except NotFound:
            pass
        except RegnbError:
            return True  # it says nothing
        if found == believed:
            return True
        told = await self._again(directory, repository)
        now = told[tag].digest if told is not None and tag in told else ""
        if told is None or now == found:
            self.moved.append((repository, tag))
            del self._believed[repository, tag]
            return True
        what = f"points at {found}" if found else "is not there"
        text = f"{directory.name}'s API says that {tag} points at {now or 'nothing'}, and at the registry it {what}"
        self._note(repository, text, "the registry was read instead; report this to whoever runs it")
        return False

    async def _whole(self, directory: Directory, repository: str) -> bool:
        try:
            there = {tag async for page in self._client.tags(repository) for tag in page if is_tag(tag)}
        except RegnbError:
            return True
        if there == self._listed[repository].keys():
            return True
        told = await self._again(directory, repository)
        if told is None or there == told.keys():
            return True
        text = f"{directory.name}'s API lists {count(len(told), 'tag')}, and the registry {count(len(there), 'tag')}"
        self._note(repository, text, "the registry was read instead; check what the login may see")
        return False

    async def _refers(self, directory: Directory, repository: str, digest: str) -> bool:
        told = self._about[repository, digest]
        try:
            there = {one.digest for one in await self._client.referrers(repository, digest, fallback=False)}
        except RegnbError:
            return True
        if there == set(told or ()):
            return True
        await self._again(directory, repository)
        if there == set(self._about.get((repository, digest)) or ()):
            return True
        self._note(repository, f"{directory.name}'s API lists other referrers of {digest} than the registry")
        return False

    async def _again(self, directory: Directory, repository: str) -> dict[str, Listed] | None:
        try:
            return await self._list(directory, repository)
        except NotFound:
            return {}
        except RegnbError:
            return None

    def take_back(self) -> set[tuple[str, str]]:
        """Remove the tags that were set to something else from the records, for them to be read, and return them."""
        records, moved = self.recording.records, set(self.moved)
        records.tags = [row for row in records.tags if (row.repository, row.tag) not in moved]
        records.coverage.tags.told -= len(moved)
        return moved

    def date(self, tags: Sequence[TagRecord]) -> None:
        """Write the dates and locks of the directory into tags that point at what it says.

        That a tag was never pulled is known only where the registry records pulls, which some are set not to do: one
        pull of any tag shows that it does.
        """
        dated = [(row, one) for row in tags if (one := self._of(row)) is not None]
        records = any(one.pulled for _, one in dated)
        for row, one in dated:
            row.pushed, row.pulled, row.locked = one.pushed, one.pulled, one.locked
            row.pulls_since = one.pushed if records else None

    def _of(self, row: TagRecord) -> Listed | None:
        one: Mapping[str, Listed] = self._listed.get(row.repository, {})
        found = one.get(row.tag)
        return found if found is not None and row.digest and found.digest in ("", row.digest) else None

"""Crawl a registry into records: what is there, what could not be read, and what was covered."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple, Protocol

import anyio

from regnb.crawl.directory import Claim, Told
from regnb.crawl.jobs import Jobs
from regnb.crawl.known import Known
from regnb.crawl.naming import OPTION
from regnb.crawl.recording import Recording
from regnb.crawl.records import (
    DEPTH_LIMIT,
    NODE_LIMIT,
    ManifestRecord,
    Problem,
    ProblemKind,
    Records,
    RepositoryStatus,
    TagRecord,
    configure,
)
from regnb.crawl.referring import Referrers
from regnb.directories.directory import Directory
from regnb.errors import DigestMismatch, MalformedManifest, NotFound, Refused, RegnbError
from regnb.oci.manifest import (
    ACCEPT_ANY,
    CONFIG_LIMIT,
    IMAGE_CONFIGS,
    SCHEMA1_TYPES,
    RawManifest,
    decode_config,
)
from regnb.oci.reference import Digest, check_repository, is_glob, is_tag, select
from regnb.oci.referrers import subject_of_tag
from regnb.wire.cache import Cache
from regnb.wire.client import CATALOG_HINT, Client
from regnb.wire.probe import is_mirror

_MIRROR: Final = "pull-through cache"


@dataclass(slots=True)
class Progress:
    """Counters that a progress bar reads while a crawl writes them."""

    title: ClassVar[str] = "Reading"
    unit: ClassVar[str] = "tags"
    repositories: int = 0
    repositories_done: int = 0
    tags: int = 0
    tags_done: int = 0

    def state(self) -> tuple[int, int, str]:
        """Return how many tags there may be, how many are done, and a word about the repositories."""
        # The repositories that are not listed yet count as those that are, so that the remaining time means something.
        total = round(self.tags * self.repositories / max(1, self.repositories_done))
        return total, self.tags_done, f"{self.repositories_done:,}/{self.repositories:,} repositories"


class _Crawl:
    """One crawl, and the records that it writes."""

    def __init__(self, client: Client, cache: Cache, told: Told, progress: Progress, *, thorough: bool) -> None:
        self.named: frozenset[str] = frozenset()
        self.untagged: Mapping[str, Sequence[str]] = {}
        self._thorough = thorough
        self.client = client
        self.cache = cache
        self.records = told.recording.records
        self.told, self.recording = told, told.recording
        self.known = Known(cache, self.recording)
        self.problem = self.recording.problem
        self.progress = progress
        pace = client.pace
        self._jobs = Jobs(lambda: pace.limit)
        self.referrers = Referrers(client, cache, self.recording, self._jobs, told)
        self._failed: set[tuple[str, str]] = set()
        self._asked: set[tuple[str, str]] = set()
        self._not_found: dict[str, list[str]] = {}
        self._descended: defaultdict[str, set[str]] = defaultdict(set)
        self._tagged: dict[str, dict[str, str]] = {}
        self._left: Counter[str] = Counter()

    async def run(self, repositories: Sequence[str]) -> set[Claim]:
        """Read them all; return what the registry's own API is not to be believed, if samples show it."""
        self.progress.repositories += len(repositories)
        self._jobs.add(partial(self.repository, name) for name in reversed(repositories))
        await self._jobs.run()
        if wrong := await self.told.check():
            return wrong
        if moved := self.told.take_back():
            self._left.update(repository for repository, _ in moved)
            self._jobs.add(partial(self.tag, *one, None) for one in moved)
            await self._jobs.run()
        self.known.end()
        for name, tags in self._not_found.items():
            await _explain_missing(self.client, self.recording, name, tags)
        self.told.date(self.records.tags)
        return set()

    async def repository(self, name: str) -> None:
        counts = self.records.coverage.repositories
        tags = await self.told.tags(name)
        try:
            if not tags or not self.told.whole:
                tags = {tag: tags.get(tag, "") async for page in self.client.tags(name) for tag in page}
        except RegnbError as error:
            # The catalog of many registries goes on listing a repository after its last manifest is gone.
            if not isinstance(error, NotFound) or name in self.named:
                sort = counts.fail(error)
                known: dict[ProblemKind, RepositoryStatus] = {"denied": "denied", "missing": "missing"}
                self.records.repositories[name] = known.get(sort, "failed")
                if sort == "missing":
                    hint = "check the name; some registries say so of what the login may not read"
                    error = error.saying("the registry has no such repository", hint=hint)
                self.problem(name, "", sort, error)
                return
            tags.clear()
        finally:
            self.progress.repositories_done += 1
        for tag in [tag for tag in tags if not is_tag(tag)]:
            del tags[tag]
            self.problem(name, tag, "not a tag", "listed, but not a valid tag", incomplete=False)
        self.records.repositories[name] = "read" if tags else "empty"
        counts.read += 1
        self.progress.tags += len(tags)
        self.records.coverage.tags.listed += len(tags)
        remembered = self.known.load(name) or self.cache.remembered(self.records.registry, name)
        self._left[name] = len(tags)
        self._tagged[name] = {}
        self._jobs.add(partial(self.descend, name, digest) for digest in self.untagged.get(name, ()))
        self._jobs.add(partial(self.tag, name, tag, remembered.get(tag)) for tag in sorted(tags, reverse=True))

    async def tag(self, repository: str, tag: str, remembered: str | None) -> None:
        record = TagRecord(repository, tag, "")
        self.records.tags.append(record)
        counts = self.records.coverage.tags
        try:
            digest, announced = await self.resolve(repository, tag, remembered)
        except NotFound:
            self._not_found.setdefault(repository, []).append(tag)
        except RegnbError as error:
            self.problem(repository, tag, counts.fail(error), error)
        else:
            self.told.count(repository, tag)
            record.digest = self._tagged[repository][tag] = digest
            if digest != remembered:
                self.cache.remember(self.records.registry, repository, {tag: digest})
            if not self._takes(repository, digest):
                await self.descend(repository, digest, is_referrer=bool(subject_of_tag(tag)))
            if (media_type := self.known.media_type(digest)) is not None:
                self.recording.check_announced(repository, digest, announced, media_type)
        finally:
            self.progress.tags_done += 1
            self._left[repository] -= 1
        if not self._left[repository]:
            self.known.save(repository, self._tagged[repository], self._descended[repository])

    async def resolve(self, repository: str, tag: str, remembered: str | None) -> tuple[str, str]:
        """Return a tag's digest and announced type, with one request: HEAD where its content may be known, else GET.

        Where the registry counts GETs against a limit, a HEAD comes first, and each digest that is new needs one GET.

        None is sent where the registry's own API says what the tag points at, and that is known: samples are checked.
        A HEAD is believed only where it says that nothing has changed: its header is a digest of no bytes that were
        read, and a proxy may send another's. Whatever else it says, a GET decides.
        """
        told = digest = ""
        if self.told.tells:
            told = self.told.digest(repository, tag)
            digest = told or await self.told.head(repository, tag)
        if not digest:
            return await self.ask(repository, tag, remembered if remembered and self.has(remembered) else "")
        async with self._jobs.alone(digest):  # tags of one new digest need one GET
            if not self.has(digest):
                return await self.ask(repository, tag, "")
        if told:
            self.told.believe(repository, tag, told)
        self.records.links[repository, digest] = True
        return digest, ""

    async def ask(self, repository: str, tag: str, known: str) -> tuple[str, str]:
        """Return a tag's digest and announced type; its manifest is read unless a HEAD says that it is a known one."""
        try:
            found = await self.client.head_manifest(repository, tag) if known else None
        except NotFound:
            raw = await self.client.manifest(repository, tag, accept=ACCEPT_ANY)
        else:
            if found is not None and found.digest == known:
                self.records.links[repository, known] = True
                return known, found.media_type
            raw = await read(self.client, repository, tag)
        self.keep(repository, raw)
        self.records.links[repository, str(raw.digest)] = True
        return str(raw.digest), raw.announced

    def has(self, digest: str) -> bool:
        """Whether a manifest's content is known."""
        return digest in self.records.manifests or digest in self.known or self.cache.get(Digest(digest)) is not None

    def keep(self, repository: str, raw: RawManifest) -> None:
        """Record a manifest that was just read."""
        if raw.digest in self.records.manifests:
            return
        if raw.media_type not in SCHEMA1_TYPES:
            self.cache.put(raw.digest, raw.media_type, raw.data)
        self.records.read.add(raw.digest)
        self.record(repository, raw)
        self.recording.check_announced(
            repository, raw.digest, raw.announced, self.records.manifests[raw.digest].media_type
        )

    def record(self, repository: str, raw: RawManifest) -> None:
        """Record a manifest from its bytes, and let later crawls know it."""
        if self.recording.manifest(repository, raw):
            self.known.decoded(raw.digest)

    def _takes(self, repository: str, root: str) -> bool:
        """Whether nothing needs to be read behind a manifest: that was done, or is known from earlier crawls."""
        if root in self._descended[repository]:
            return True
        if self._thorough or self.referrers.listed or not (whole := self.known.whole(root)):
            return False
        self._descended[repository].add(root)
        for digest in whole:
            self.records.links.setdefault((repository, digest), False)
        return True

    async def descend(self, repository: str, root: str, *, is_referrer: bool = False) -> None:
        """Read what stands behind a manifest: children, referrers, and the config of each image, each digest once."""
        if self._takes(repository, root):
            return
        self._descended[repository].add(root)
        self.known.reads(repository)
        todo: list[tuple[str, int, bool]] = [(root, 0, is_referrer)]
        visited = {root}
        while todo:
            digest, depth, referring = todo.pop()
            record = await self.manifest(repository, digest)
            if record is None:
                continue
            if not self.known.is_complete(digest):
                configured = await self.config(repository, record)
                if configured is not None:
                    self.known.complete(record, configured=configured)
                    self.records.differ(record)
            following = list(record.children)
            if self.referrers.listed and not referring and not record.subject and record.kind != "attestation":
                following += await self.referrers.of(repository, digest)
            fresh = [child for child in dict.fromkeys(following) if child not in visited]
            if not fresh:
                continue
            if depth >= DEPTH_LIMIT or len(visited) + len(fresh) > NODE_LIMIT:
                self.problem(
                    repository, digest, "too deep", f"more than {DEPTH_LIMIT} levels or {NODE_LIMIT} manifests"
                )
                continue
            visited.update(fresh)
            todo.extend((child, depth + 1, child not in record.children) for child in fresh)

    async def manifest(self, repository: str, digest: str) -> ManifestRecord | None:
        """Return the record of a manifest of this repository, read from the cache or the registry if it is new."""
        key = repository, digest
        self.records.links.setdefault(key, False)
        if digest not in self.records.manifests and (self._thorough or not self.known.enter(digest)):
            async with self._jobs.alone(digest):
                if digest not in self.records.manifests and key not in self._failed:
                    await self.fetch(repository, Digest(digest))
        if self._thorough and digest in self.records.manifests and await self.is_gone(repository, digest):
            await self.fetch(repository, Digest(digest), gone=True)
        return None if key in self._failed else self.records.manifests.get(digest)

    async def is_gone(self, repository: str, digest: str) -> bool:
        """Whether a repository lacks what is known from elsewhere: asked once."""
        key = repository, digest
        if self.records.links[key] or key in self._asked:
            return False
        self._asked.add(key)
        there = await _is_there(self.client, repository, digest)
        self.records.links[key] = bool(there)
        return there is False

    async def fetch(self, repository: str, digest: Digest, *, gone: bool = False) -> None:
        counts = self.records.coverage.manifests
        gone = gone or (self._thorough and await self.is_gone(repository, digest))
        if not gone and self.known.enter(digest):
            return
        if not gone and (cached := self.cache.get(digest)):
            self.record(repository, RawManifest.of(cached.data, cached.media_type, digest))
            return
        try:
            raw = await read(self.client, repository, digest)
        except NotFound:
            # What is not there needs nothing. A mirror may have left the platform out on purpose.
            self._failed.add((repository, digest))
            text = "the repository does not have this manifest, which an index or a list of referrers names"
            hint = "push it again, or ignore this if the platform was left out on purpose"
            self.records.damage(repository, digest, "missing", text, hint)
            return
        except RegnbError as error:
            self._failed.add((repository, digest))
            self.problem(repository, digest, counts.fail(error), error)
            return
        self.records.links[repository, digest] = True
        self.keep(repository, raw)

    async def config(self, repository: str, record: ManifestRecord) -> bool | None:
        """Read an image's config for its platform, its age and the commands that made its layers.

        Returns:
            False where it is not an image's; None where it could not be read.
        """
        if record.config_type not in IMAGE_CONFIGS:
            return False
        async with self._jobs.alone(record.config):
            if self.known.is_complete(record.digest):
                return True
            if (repository, record.config) in self._failed:
                return None
            return await self._config(repository, record, Digest(record.config))

    async def _config(self, repository: str, record: ManifestRecord, digest: Digest) -> bool | None:
        counts = self.records.coverage.configs
        cached = self.cache.get(digest)
        try:
            data = cached.data if cached else await self.client.blob(repository, digest, limit=CONFIG_LIMIT)
            config = decode_config(data)
        except RegnbError as error:
            # Sizes do not depend on it, and it needs nothing: that is not a gap.
            self._failed.add((repository, digest))
            sort = counts.fail(error)
            self.problem(repository, digest, sort, error, incomplete=False)
            if isinstance(error, NotFound | DigestMismatch):
                self.records.damaged.add((repository, digest))
            elif not isinstance(error, MalformedManifest):
                self.records.doubtful.add((repository, digest))
            return None
        if not cached:
            self.records.read.add(digest)
            self.cache.put(digest, record.config_type, data)
        self.records.configured.add(record.digest)
        configure(record, config, self.records.started, self.recording.text)
        return True


async def _explain_missing(client: Client, recording: Recording, repository: str, tags: list[str]) -> None:
    """List the tags once more: what is still there points at nothing, and what is not was deleted meanwhile."""
    records, listed = recording.records, set(tags)
    try:
        listed = {tag async for page in client.tags(repository) for tag in page}
    except NotFound:
        listed = set()
    except RegnbError as error:
        recording.problem(repository, "", "failed", error)
    counts = records.coverage.tags
    for tag in tags:
        if tag in listed:
            counts.read += 1
            hint = "push the image again under this tag, or delete the tag"
            records.damage(repository, tag, "dangling", "the tag is listed, but its manifest is gone", hint)
        else:
            counts.listed -= 1
            recording.problem(repository, tag, "vanished", "the tag was deleted during the crawl", incomplete=False)
    gone = {tag for tag in tags if tag not in listed}
    if gone:
        records.tags = [row for row in records.tags if row.repository != repository or row.tag not in gone]


async def settle(client: Client, recording: Recording) -> None:
    """Ask the registry for the size of each blob of which manifests claim different ones."""
    for digest, (repository, claims) in recording.claims().items():
        text = f"manifests claim {' and '.join(f'{claim:,}' for claim in sorted(claims))} bytes"
        try:
            size = await client.head_blob(repository, digest)
        except NotFound:
            text = "the repository does not have this blob, which a manifest needs"
            recording.records.damage(repository, digest, "missing", text, "push the image again")
        except RegnbError as error:
            recording.problem(
                repository, digest, "size conflict", f"{text}, and the registry does not say: {error.message}"
            )
        else:
            recording.settle(digest, claims, size)


async def read(client: Client, repository: str, target: str) -> RawManifest:
    """Read a manifest; where there is none of the usual types, one of any type.

    Raises:
        NotFound: There is no such manifest, whatever is accepted.

    Example:
        ``raw = await read(client, "vm/centos8", "latest")``
    """
    try:
        return await client.manifest(repository, target)
    except NotFound:
        return await client.manifest(repository, target, accept=ACCEPT_ANY)


async def find_repositories(
    client: Client, records: Records, patterns: Sequence[str] | None, directory: Directory | None = None
) -> list[str]:
    """Return the repositories that are meant, from the catalog unless every one is named.

    Where the registry refuses its catalog, or it is empty, the registry's own API lists them, if it has one.

    Raises:
        RegistryError: The catalog is refused or unreadable from its first page on.
        InvalidReference: A name without a wildcard is not a repository name.
    """
    if patterns is not None:
        records.asked = tuple(patterns)
        named = [check_repository(pattern) for pattern in patterns if not is_glob(pattern)]
        globs = [pattern for pattern in patterns if is_glob(pattern)]
        if not globs:
            records.coverage.catalog = "not asked"
            return list(dict.fromkeys(named))
        records.coverage.catalog = "in part"
    else:
        named, globs = [], ["*"]
    listed: list[str] = []
    try:
        async for page in client.catalog():
            listed.extend(page)
    except RegnbError as error:
        if not listed and not (listed := await _told(directory, records)):
            hint = error.hint.replace(CATALOG_HINT, f"{CATALOG_HINT} ({OPTION})")
            raise error.saying(error.message, hint=hint) from error.__cause__
        if "catalog" not in records.coverage.sources:
            records.coverage.catalog = "incomplete"
            records.problems.append(Problem("", "_catalog", "catalog", error.message, error.hint))
    if not listed:
        listed = await _told(directory, records)
    if not listed and client.authorized:
        # Some registries list what the credentials may see, and say nothing of the rest.
        records.coverage.catalog = "incomplete"
        text = "the catalog is empty for these credentials, which may not be allowed to see every repository"
        hint = "name the repositories, or use credentials that may list all of them"
        records.problems.append(Problem("", "_catalog", "catalog", text, hint))
    for glob in globs if patterns is not None else ():
        if not select(listed, [glob]):
            records.problems.append(Problem("", glob, "missing", "no repository in the catalog matches"))
    chosen = []
    for name in [*named, *select(listed, globs)]:
        try:
            chosen.append(check_repository(name))
        except RegnbError as error:
            records.repositories[name] = "failed"
            records.coverage.repositories.listed += 1
            records.coverage.repositories.failed += 1
            records.problems.append(Problem(name, "", "malformed", error.message, error.hint))
    return list(dict.fromkeys(chosen))


async def _told(directory: Directory | None, records: Records) -> list[str]:
    """Return the repositories that the registry's own API lists; none where it has none, or lists none."""
    if directory is None:
        return []
    try:
        listed = [name async for page in directory.repositories() for name in page]
    except RegnbError as error:
        text = f"the repositories are not listed: {error.message}"
        records.problems.append(Problem("", "", "directory", text, error.hint, incomplete=False))
        return []
    if listed:
        records.coverage.sources["catalog"] = f"{directory.name}'s API"
    return listed


async def _is_there(client: Client, repository: str, digest: str) -> bool | None:
    """Whether a repository has a manifest; None where the answer proves nothing."""
    try:
        await client.head_manifest(repository, digest)
    except NotFound:
        return False
    except RegnbError:
        return None
    return True


class Crawl(Protocol):
    """What reads everything into records: :func:`collect`, or what does the same with layouts."""

    def __call__(
        self,
        client: Client,
        cache: Cache,
        repositories: Sequence[str] | None = None,
        /,
        *,
        progress: Progress | None = None,
        fill: bool = True,
        thorough: bool = False,
    ) -> Awaitable[Records]:
        """Read some repositories, or all of them."""


async def collect(
    client: Client,
    cache: Cache,
    repositories: Sequence[str] | None = None,
    *,
    progress: Progress | None = None,
    fill: bool = True,
    thorough: bool = False,
    directory: Directory | None = None,
    untagged: Mapping[str, Sequence[str]] | None = None,
) -> Records:
    """Crawl a registry.

    A cold crawl sends one GET for each catalog page, repository, tag, distinct child manifest and distinct config; a
    warm one sends one request for each page, repository and tag, and a GET for what is new. Where the registry lists
    referrers, each tagged or child manifest costs one more.

    Args:
        client: The registry.
        cache: Manifests and configs of earlier crawls. It is flushed however the crawl ends.
        repositories: Names and globs (``team/*``); None for the whole catalog.
        progress: Counters to keep up.
        thorough: Whether each child of an index is asked for in each repository that has the index, with a HEAD,
            although the cache or another repository has it: a plan of a deletion names nothing that is gone.
        directory: The registry's own API, if it has one: where it lists digests, a warm crawl sends one request for
            each repository, and asks the registry for a sample of its tags alone.
        fill: Whether a pull-through cache may be read, which fills it; if not, one request more a day finds out.
        untagged: Repository to the digests of manifests without a tag that are known to be there; they are read, too.

    Returns:
        Everything that was read; what was not is in ``problems`` and ``coverage``.

    Raises:
        RegistryError: Nothing could be listed at all.
        Refused: It is a pull-through cache, and is not to be filled.

    Example:
        >>> import anyio
        >>> from regnb.wire.cache import Cache
        >>> from regnb.wire.transport import Transport
        >>> async def read() -> Records:
        ...     client = Client(Transport("http://localhost:5000"))
        ...     try:
        ...         return await collect(client, Cache(), ["vm/*"])
        ...     finally:
        ...         await client.aclose()
        >>> list(anyio.run(read).repositories)
        ['vm/centos8', 'vm/test/centos8']
    """
    progress = progress or Progress()
    records = Records(client.host, datetime.now(UTC))
    try:
        names = await begin(client, cache, records, repositories, fill=fill, directory=directory)
        reading = Reading(frozenset(repositories or ()), thorough, directory, untagged or {})
        recording = await gather(client, cache, records, names, progress=progress, reading=reading)
        await settle(client, recording)
    finally:
        with anyio.CancelScope(shield=True):  # also what an interrupted crawl has read is kept
            await anyio.to_thread.run_sync(cache.flush)
    if not thorough:
        recording.records.even()
    return recording.records.ended()


async def begin(
    client: Client,
    cache: Cache,
    records: Records,
    repositories: Sequence[str] | None,
    *,
    fill: bool = True,
    directory: Directory | None = None,
) -> list[str]:
    """Return the repositories that a crawl is to read; the arguments are those of :func:`collect`.

    Raises:
        RegistryError: Nothing could be listed at all.
        Refused: It is a pull-through cache, and is not to be filled.
    """
    names = await find_repositories(client, records, repositories, directory)
    records.coverage.repositories.listed += len(names)
    fill = fill or (directory is not None and directory.spare)  # Docker Hub is nobody's mirror, and a GET counts
    if names and not fill and not cache.is_lacking(records.registry, _MIRROR):
        if await is_mirror(client, names[0]):
            raise Refused(
                f"{records.registry} is a pull-through cache: it would fetch each tag from upstream and store it",
                hint="read its storage, a folder or a bucket; or: regnb audit --fill-cache, fill_cache=True in Python",
            )
        cache.found_lacking(records.registry, _MIRROR)
    return names


class Reading(NamedTuple):
    """How repositories are read; the fields are arguments of :func:`collect`.

    Attributes:
        named: What the user named: that one of these is not there is a problem.
    """

    named: frozenset[str] = frozenset()
    thorough: bool = False
    directory: Directory | None = None
    untagged: Mapping[str, Sequence[str]] = MappingProxyType({})


async def gather(
    client: Client, cache: Cache, records: Records, names: Sequence[str], *, progress: Progress, reading: Reading
) -> Recording:
    """Read some repositories, and return what was recorded: ``records`` holds what was known before."""
    found, distrusted = copy.deepcopy(records), set[Claim]()
    while True:
        told = Told(reading.directory, client, Recording(records), thorough=reading.thorough, distrusted=distrusted)
        crawl = _Crawl(client, cache, told, progress, thorough=reading.thorough)
        crawl.named, crawl.untagged = reading.named, reading.untagged
        if not (wrong := await crawl.run(names)):
            return told.recording
        # What was read rests on what is not true: read anew, mostly from the cache, and say why.
        distrusted |= wrong
        why = [row for row in records.problems if row.problem == "directory" and row not in found.problems]
        found.problems += why
        records = copy.deepcopy(found)

"""The user's handle on a registry: blocking calls that give DataFrames and inventories."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self, TypeAlias, TypeVar

import anyio

from regnb.change.journal import Journal, Receipt, hold
from regnb.change.plan import Plan
from regnb.crawl.crawl import Progress, collect
from regnb.crawl.naming import exact, named
from regnb.crawl.reader import Reader
from regnb.environment import concurrency as at_once
from regnb.environment import retries as attempts
from regnb.environment import seconds, variable
from regnb.errors import Interrupted, InvalidArgument, NotFound, PlanMismatch, Refused, RegistryError
from regnb.layouts.shelf import Shelf, find
from regnb.oci.manifest import AnyManifest, decode
from regnb.oci.reference import Digest, Reference
from regnb.session import Bar, Counted, Show, at_exit, loop, run
from regnb.wire.addresses import same
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials
from regnb.wire.exchange import Answer
from regnb.wire.pace import MOST, START
from regnb.wire.transport import Transport

if TYPE_CHECKING:
    from regnb.analysis.image import Image
    from regnb.analysis.inventory import Inventory
    from regnb.change.policy import Policy
    from regnb.cluster.running import InUse
    from regnb.crawl.records import Records
    from regnb.crawl.selection import What
    from regnb.layers.inside import Inside, Looked
    from regnb.oci.transports import Place
    from regnb.storage import Storage
    from regnb.tables.frame import Frame

_T = TypeVar("_T")
_Named: TypeAlias = str | Reference


class Crawl(Protocol):
    """What reads everything into records: :func:`regnb.crawl.crawl.collect`, or what does the same with layouts."""

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


_open: weakref.WeakSet[Registry] = weakref.WeakSet()


@at_exit
def _close_all() -> None:
    for registry in list(_open):
        registry.close()


async def _close(client: Client, cache: Cache) -> None:
    if client.pace.refused:
        cache.paced(client.host, client.pace.limit, client.pace.rate)
    await client.aclose()
    await anyio.to_thread.run_sync(cache.close)


def _let_go(client: Client, cache: Cache) -> None:
    with contextlib.suppress(RuntimeError):  # the program ends
        loop().call(_close, client, cache)


def _bar(work: Counted, show: Show) -> Bar:
    # A page of the web UI is drawn when everything has run: the bar would be gone, and be missed.
    hidden = show is None and (variable("REGNB_SERVED") or variable("REGNB_NO_PROGRESS"))
    return Bar(work, show=False if hidden else show)


class Registry:
    """A container registry, read with blocking calls.

    Made by :func:`connect`. It may be used as a context manager, and closes itself when it is dropped.

    Example:
        >>> with connect("http://localhost:5000") as registry:  # doctest: +SKIP
        ...     registry.tags("vm/centos8")
    """

    def __init__(self, make_client: Callable[[], Client], cache: Cache, crawl: Crawl = collect) -> None:
        self._cache, self._collect = cache, crawl
        self._client: Client = loop().call(make_client)
        if known := cache.pace(self._client.host):
            self._client.pace.remember(*known)
        host = self._client.host
        self._client.capabilities.remember(cache.capabilities(host), partial(cache.found, host))
        self._reader = Reader(self._client, cache)
        _open.add(self)
        # A cell that is run again drops the handle of before, where the loop cannot be waited for.
        letting_go = Thread(target=_let_go, args=(self._client, cache), daemon=True)
        self._dropped = weakref.finalize(self, letting_go.start)
        self._dropped.atexit = False

    def _run(self, work: Callable[[], Awaitable[_T]], bar: Bar | None = None) -> _T:
        return run(work, bar)

    @property
    def host(self) -> str:
        """``host:port``."""
        return self._client.host

    def __repr__(self) -> str:
        return f"<Registry {self.host}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and write the cache; closing twice is no error."""
        if self in _open:
            _open.discard(self)
            self._dropped.detach()
            self._run(lambda: _close(self._client, self._cache))

    def _read(self, reference: _Named, read: Callable[[Reference], Awaitable[_T]], bar: Bar | None = None) -> _T:
        """Run a read of one reference; what is not there is named as the user named it."""
        where = _reference(self.host, reference)
        try:
            return self._run(lambda: read(where), bar)
        except NotFound as error:
            if error.status is None:  # something in the image, and not the image
                raise
            hint = "the catalog lists the repositories, and tags lists what is in one"
            raise error.saying(f"{self.host} has no {where}", hint=hint) from None

    def ping(self) -> None:
        """Ask whether this is a registry and lets us in (distribution spec 1.1, "Determining Support").

        Raises:
            ConnectionFailed, TLSFailed, NotARegistry, Unauthorized, Denied: What keeps us out.
        """
        self._run(self._client.ping)

    @property
    def capabilities(self) -> Frame:
        """What was found out about the registry by now, how and when; looking at it sends nothing.

        Returns:
            Columns: capability, supported (yes, no, unknown), value, how, when.

        Example:
            >>> registry.capabilities  # doctest: +SKIP
        """
        from regnb.tables.frame import of_rows  # pandas waits for a frame

        return of_rows("capabilities", self._client.capabilities)

    def health(self, *, probe: bool = False) -> Frame:
        """Look at the registry: its API, authentication, catalog and referrers, and whether it deletes.

        Args:
            probe: Whether to find out if it deletes. It takes a DELETE of a digest and of a tag that are not there, and
                is never sent without being asked for.

        Returns:
            Columns: check, state (ok, warn, fail, skipped), found, hint.

        Raises:
            ConnectionFailed, TLSFailed, NotARegistry, Unauthorized, Denied: What keeps us out.
            Refused: ``probe`` where nothing may be written.

        Example:
            >>> registry.health()  # doctest: +SKIP
        """
        from regnb.directories.examination import health  # kept out of `import regnb`
        from regnb.tables.frame import of_rows  # pandas waits for a frame

        return of_rows("checks", self._run(lambda: health(self._client, own=self._collect is _with_own, probes=probe)))

    def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET, HEAD or OPTIONS as you would with curl, and return whatever is answered: no status is an error.

        Args:
            method: What writes is refused: :meth:`plan_request` plans it.
            path: From ``/v2/`` on, with its query; or a URL at this registry.
            headers: Such as ``{"Accept": …}``; by default a manifest is asked for in every type.

        Returns:
            Status, headers, body and curl command; a notebook shows them, ``print(answer.head)`` as ``curl -I`` does.

        Raises:
            InvalidArgument, InvalidReference: No path of the registry API, or a header that is not sent.
            Refused: The method could write.
            ConnectionFailed: There was no answer.

        Example:
            >>> registry.request("GET", "/v2/_catalog").curl  # doctest: +SKIP
            'curl -sS http://localhost:5000/v2/_catalog'
        """
        return self._run(lambda: self._client.ask(method.upper(), path, headers))

    def catalog(self) -> Frame:
        """Return the names of the repositories, every page of them (distribution spec 1.1, "_catalog").

        Returns:
            Column: repository.

        Raises:
            RegistryError: The registry refuses, or did not answer.
        """
        from regnb.tables.frame import make  # pandas waits for a frame

        return make("catalog", {"repository": self.repository_names()})

    def repository_names(self) -> list[str]:
        """Return the same names as a list, sorted.

        Raises:
            RegistryError: The registry refuses, or did not answer.

        Example:
            >>> registry.repository_names()  # doctest: +SKIP
            ['vm/centos8']
        """

        async def pages() -> list[str]:
            return [name async for page in self._client.catalog() for name in page]

        return sorted(set(self._run(pages)))

    def tags(self, repository: str) -> Frame:
        """Return the tags of a repository, every page of them (distribution spec 1.1, "Listing Tags").

        Returns:
            Columns: repository, tag.

        Raises:
            NotFound: No such repository.
        """
        from regnb.tables.frame import make  # pandas waits for a frame

        found = self.tag_names(repository)
        return make("tag_list", {"repository": [repository] * len(found), "tag": found})

    def tag_names(self, repository: str) -> list[str]:
        """Return the same tags as a list, sorted.

        Raises:
            NotFound: No such repository.

        Example:
            >>> registry.tag_names("vm/centos8")  # doctest: +SKIP
            ['8.4', 'latest']
        """

        async def pages() -> list[str]:
            return [tag async for page in self._client.tags(repository) for tag in page]

        try:
            return sorted(set(self._run(pages)))
        except NotFound as error:
            raise error.saying(error.message, hint=error.hint or "the catalog lists the repositories") from None

    def digest(self, reference: str | Reference) -> Digest:
        """Return the digest that a tag points at, as the registry's header says: :meth:`manifest` verifies the bytes.

        It is a HEAD that accepts every manifest type, so that the digest is the tag's own.

        Raises:
            NotFound: No such repository or tag.

        Example:
            >>> registry.digest("vm/centos8:latest")  # doctest: +SKIP
        """

        async def head(where: Reference) -> Digest:
            return Digest((await self._client.head_manifest(where.repository, where.target)).digest)

        return self._read(reference, head)

    def manifest(self, reference: str | Reference) -> AnyManifest:
        """Return the manifest of a tag or digest, verified and typed, with its bytes in ``raw``.

        Raises:
            NotFound: No such repository, tag or digest.
            ContentError: The bytes are not what was asked for, or no manifest.
        """

        async def get(where: Reference) -> AnyManifest:
            raw = await self._client.manifest(where.repository, where.target)
            return decode(raw.data, raw.media_type, digest=raw.digest)

        return self._read(reference, get)

    def layers(self, reference: str | Reference) -> Frame:
        """Return the layers of an image, or of every image of an index, and the command that made each.

        Returns:
            Columns: platform, position, digest, media_type, size (bytes, compressed), command.

        Raises:
            NotFound: No such repository, tag or digest.
            ContentError: A manifest or config that is not what it should be, or an image of schema 1.
        """
        from regnb.analysis.image import layers_of  # pandas waits for a frame
        from regnb.layers.reading import read_image

        return layers_of(self._read(reference, lambda where: read_image(self._reader, where, strict=True))[1])

    def image(self, reference: str | Reference, *, inventory: Inventory | None = None) -> Image:
        """Return one image: names, size, layers and the steps that made them, config, referrers, and who shares it.

        Args:
            reference: ``repository:tag`` or ``repository@digest``.
            inventory: What exclusive bytes, sharing and referrers are computed from; by default the image's repository
                is read now, and what other repositories share is not seen.

        Raises:
            NotFound: No such repository, tag or digest.
            ContentError: A manifest or config that is not what it should be, or an image of schema 1.

        Example:
            >>> registry.image("vm/centos8:8.4")  # doctest: +SKIP
        """
        from regnb.analysis.image import Image  # pandas waits for a frame
        from regnb.layers.reading import read_image

        where = _reference(self.host, reference)
        top, parts = self._read(where, lambda where: read_image(self._reader, where))
        known = self.inventory(where.repository) if inventory is None else inventory
        return Image(self.host, where, top, parts, known)

    @cached_property
    def _inside(self) -> Inside:
        from regnb.layers.inside import Inside  # kept out of `import regnb`

        return Inside(self._reader)

    def files(self, reference: str | Reference, *, platform: str | None = None, progress: Show = None) -> Frame:
        """Return every file of an image over its layers, and which of them the image hides.

        A layer with a table of contents (eStargz, zstd:chunked) costs a few requests. Any other is read once, and
        nothing of it is written to disk but its listing, which the cache keeps for every image with this layer.

        Args:
            reference: The image.
            platform: Of several images, such as ``linux/arm64``; by default linux/amd64; ``all`` for every one.
            progress: As for :meth:`inventory`: how many megabytes are to be read, and how many were.

        Returns:
            One row for each entry of each layer (:data:`regnb.tables.columns.COLUMNS`, ``files``). A layer that cannot
            be read, such as a corrupt, encrypted or foreign one, is one row with the reason.

        Raises:
            NotFound: No such repository, tag or digest.
            InvalidArgument: There is no image for the platform.
            ContentError: A manifest or config that is not what it should be, or an image of schema 1.
            Interrupted: The user interrupted; the listings of the layers that were read are in the cache.

        Example:
            >>> files = registry.files("vm/centos8:latest")  # doctest: +SKIP
            >>> files.nlargest(20, "hidden")[["path", "command", "hidden"]]  # doctest: +SKIP
        """
        from regnb.layers.files import files

        return files(*self._read(reference, *_look(self._inside, platform, progress)))

    def packages(self, reference: str | Reference, *, platform: str | None = None, progress: Show = None) -> Frame:
        """Return the packages that an image holds: dpkg, apk, rpm (in SQLite), Python, npm, jars, and the distribution.

        Every layer is read whole, once: a table of contents does not tell.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            progress: As for :meth:`files`.

        Returns:
            One row for each (:data:`regnb.tables.columns.COLUMNS`, ``packages``). A file that cannot be read, such as
            rpm's Berkeley DB, and a layer that cannot, is a row with the reason.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> registry.packages("vm/centos8:latest").query("kind == 'rpm'")  # doctest: +SKIP
        """
        from regnb.layers.installed import packages

        return packages(*self._read(reference, *_look(self._inside, platform, progress, whole=True)))

    def hygiene(self, reference: str | Reference, *, platform: str | None = None, progress: Show = None) -> Frame:
        """Return what should not be in an image: secrets in its history, environment and files, root, caches, tools.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            progress: As for :meth:`files`.

        Returns:
            One row for each finding (:data:`regnb.tables.columns.COLUMNS`, ``hygiene``), with how to mend it. The value
            of a secret is never shown or kept.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> registry.hygiene("vm/centos8:latest")[["rule", "where", "found"]]  # doctest: +SKIP
        """
        from regnb.layers.hygiene import hygiene

        return hygiene(*self._read(reference, *_look(self._inside, platform, progress)))

    def open(
        self, reference: _Named, path: str, *, platform: str | None = None, into: BinaryIO | None = None
    ) -> BinaryIO:
        """Return the file that an image shows at a path, as a binary file in memory; symbolic links are followed.

        Args:
            reference: The image.
            path: Of the file in the image.
            platform: As for :meth:`files`, but for ``all``.
            into: A binary file that the content is written to, piece by piece, instead of memory.

        Raises:
            NotFound: No such image, or no such file in it.
            InvalidArgument: There is no image for the platform.
            TooLarge: The file has more than 256 MiB, and ``into`` was not given.
            ContentError: It is a folder or a device, or a layer cannot be read.

        Example:
            >>> registry.open("vm/centos8:latest", "/etc/os-release").read()  # doctest: +SKIP
        """
        return self._read(reference, lambda where: self._inside.open(where, path, platform=platform, into=into))

    def inventory(
        self,
        repositories: str | Sequence[str] | None = None,
        *,
        cached: bool = True,
        fill_cache: bool = False,
        thorough: bool = False,
        progress: Show = None,
    ) -> Inventory:
        """Read everything that tags lead to, and return it as DataFrames.

        A tag or repository that cannot be read becomes a row in ``problems``, never the end of the crawl.

        Args:
            repositories: Names and globs such as ``team/*``, ``@FILE`` for a file with one on each line, or ``-`` for
                standard input; by default the whole catalog. Names alone need no catalog.
            cached: Whether manifests and configs of earlier crawls may be taken from the cache by their digest.
                Whether a tag exists, and what it points at, is asked every time.
            fill_cache: Whether a pull-through cache may be read, although each tag that is read fills it.
            thorough: Whether each image that an index lists is asked for (HEAD) in its repository, although the cache
                has it; what is gone there is then known before anything is planned.
            progress: Whether to draw a bar (by default in a notebook and on a terminal), or what to call with how
                much there is to do, how much is done, and a word about it.

        Raises:
            RegistryError: Nothing could be listed at all.
            Refused: It is a pull-through cache, and ``fill_cache`` was not given.
            Interrupted: The user interrupted; what was read is in the cache.
        """
        patterns = None if repositories is None else named(repositories)
        cache = self._cache if cached else Cache()
        counters = Progress()
        bar = _bar(counters, progress)
        read = partial(self._collect, self._client, cache, patterns, fill=fill_cache, thorough=thorough)
        try:
            records = self._run(lambda: read(progress=counters), bar)
        except Interrupted as stop:
            raise (_resumable(stop, counters) if cached else stop) from None
        from regnb.analysis.inventory import Inventory  # pandas waits for a frame

        return Inventory.of(records)

    # Operations: each plan_* reads, and only apply and resume write.

    def plan_retag(self, what: What, tag: str, *, allow: Iterable[str] = ()) -> Plan:
        """Plan a second tag for what a tag or digest points at, in the same repository.

        Args:
            what: A reference, a glob (``vm/centos8:8.*``), a list of these, or rows of ``inventory.tags``.
            tag: The new tag; for several, a pattern such as ``{tag}-old``.
            allow: ``overwrite``: a tag that points elsewhere may be moved.

        Raises:
            NotFound, InvalidReference, InvalidArgument: What was named is not there, or not lawful.
            Refused: It would move a tag, or it is an image of schema 1.

        Example:
            >>> plan = registry.plan_retag("vm/centos8:latest", "stable")  # doctest: +SKIP
        """
        from regnb.change.retag import plan_retag  # kept out of `import regnb`

        return self._run(lambda: plan_retag(self._reader, what, tag, allow=allow))

    def plan_copy(
        self,
        what: What,
        to: str = "",
        *,
        source: Registry | None = None,
        platform: str | None = None,
        referrers: bool = True,
        allow: Iterable[str] = (),
    ) -> Plan:
        """Plan a copy into this registry: within it blobs are mounted, from another one they are streamed.

        Args:
            what: As in :meth:`plan_retag`; a repository's bare name means all its tags.
            to: Copy to this repository or ``repository:tag``, or a pattern such as ``mirror/{repository}:{tag}``.
                Default: the same names. A layout may end with the tag.
            source: The registry to read from; by default this one.
            platform: Of an index copy this image only, such as ``linux/arm64`` or ``windows/amd64:10.0.20348``.
            referrers: Take along signatures, SBOMs and other referrers.
            allow: ``overwrite``: a tag that points elsewhere may be moved.

        Raises:
            NotFound, InvalidReference, InvalidArgument: What was named is not there, or source and destination are one.
            Refused: It would move a tag, it is an image of schema 1, or two images are for the platform.
            Unsupported: This is an archive or a tree of layouts, which are only read.

        Example:
            >>> plan = registry.plan_copy("vm/centos8", "archive/centos8")  # doctest: +SKIP
        """
        from regnb.change.copy import plan_copy  # kept out of `import regnb`

        other = None if source is None or source is self else source._reader  # noqa: SLF001 -- our own kind
        return self._run(
            lambda: plan_copy(self._reader, what, to, source=other, platform=platform, referrers=referrers, allow=allow)
        )

    def plan_rename(self, what: str, to: str, *, allow: Iterable[str] = ()) -> Plan:
        """Plan a rename of a repository or of one tag: copy, verify, then remove only what was renamed.

        Args:
            what: ``vm/centos8`` or ``vm/centos8:latest``.
            to: A repository for a repository; ``repository:tag`` or a tag alone for a tag.
            allow: ``overwrite``; ``dummy``: where the registry does not delete by tag, a dummy manifest may.

        Raises:
            NotFound, InvalidReference, InvalidArgument, Refused: As for :meth:`plan_copy` and :meth:`plan_delete`.

        Example:
            >>> plan = registry.plan_rename("vm/centos8:latest", "8.5")  # doctest: +SKIP
        """
        from regnb.change.rename import plan_rename  # kept out of `import regnb`

        return _foreseen(self._client, self._run(lambda: plan_rename(self._reader, what, to, allow=allow)))

    def plan_delete(
        self,
        what: What,
        *,
        inventory: Inventory | None = None,
        repositories: str | Sequence[str] | None = None,
        children: bool = True,
        referrers: bool = True,
        in_use: InUse = None,
        in_use_host: Iterable[str] = (),
        allow: Iterable[str] = (),
    ) -> Plan:
        """Plan a deletion, with everything else that it would touch in ``plan.blast``.

        A tag goes alone where another tag that stays, or an index, needs its manifest; else its manifest goes with it.
        A digest goes with every tag on it.

        Args:
            what: As in :meth:`plan_retag`.
            inventory: What the blast radius is computed from; by default the repositories concerned are read now.
            repositories: What globs are matched with, instead of the catalog; as in :meth:`inventory`.
            children: With an index, take along the manifests that nothing else needs.
            referrers: Take along signatures, SBOMs and other referrers.
            in_use: Keep running images: ``cluster`` for the current kubectl context, or a file (``-`` for standard
                input) with the output of kubectl, or with an image reference on each line. The command is
                :data:`regnb.cluster.running.COMMAND`; what it printed may also be given itself.
            in_use_host: Another host name of this registry in the cluster's images (repeatable): one, or a list.
            allow: ``incomplete``, ``parents``, ``running``, ``dummy`` (:data:`regnb.change.plan.ALLOWANCES`).

        Raises:
            NotFound, InvalidReference, InvalidArgument: What was named is not there, or not lawful.
            Refused: It could do harm; the hint names what would allow it, if anything may.

        Example:
            >>> registry.plan_delete("vm/centos8:8.1").blast  # doctest: +SKIP
        """
        from regnb.change.delete import plan_delete, repositories_of  # kept out of `import regnb`

        if inventory is None:
            wanted = repositories_of(what, self.host)
            wanted = wanted if repositories is None else [*named(repositories), *exact(wanted)]
            inventory = self.inventory(wanted, thorough=True)
        plan = plan_delete(
            inventory,
            what,
            url=self._reader.url,
            authorized=self._reader.authorized,
            children=children,
            referrers=referrers,
            in_use=in_use,
            in_use_host=in_use_host,
            allow=allow,
        )
        return _foreseen(self._client, plan)

    def plan_request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        allow: Iterable[str] = (),
    ) -> Plan:
        """Plan what a request would write: PUT of a manifest, DELETE of one by its digest, or of a tag alone.

        Args:
            method: PUT or DELETE.
            path: ``/v2/<repository>/manifests/<tag or digest>``.
            headers: Content-Type, for PUT; by default the manifest's own ``mediaType``.
            body: The manifest's bytes.
            allow: ``overwrite`` for PUT; for DELETE as in :meth:`plan_delete`.

        Raises:
            NotFound: What goes is not there, or what the manifest needs.
            InvalidArgument, InvalidReference, ContentError: What was asked for is not lawful.
            Refused: Blobs and uploads, which could not be undone: the hint has the curl command. Or it could do harm.

        Example:
            >>> registry.plan_request("DELETE", "/v2/vm/centos8/manifests/8.1").blast  # doctest: +SKIP
        """
        from regnb.change.request import plan_request  # kept out of `import regnb`

        plan = self._run(
            lambda: plan_request(self._reader, method.upper(), path, headers=headers, body=body, allow=allow)
        )
        return _foreseen(self._client, plan)

    def plan_retention(
        self,
        policy: str | Path | Policy,
        *,
        inventory: Inventory | None = None,
        repositories: str | Sequence[str] | None = None,
        storage: str | Path | None = None,
        pulls: str | Path | None = None,
        in_use: InUse = None,
        in_use_host: Iterable[str] = (),
        allow: Iterable[str] = (),
    ) -> Plan:
        """Plan what a retention policy removes: a row with a reason for every tag, kept or removed.

        Args:
            policy: A TOML file's path, its text, or a :class:`regnb.change.policy.Policy`.
            inventory: By default the whole registry is read now; where it lists no repositories, those that the policy
                names without a wildcard.
            repositories: Those to read instead, as in :meth:`inventory`.
            storage: The registry's own storage: its push dates stand in for ages that are unknown. A folder or a URL.
            pulls: The history of pulls that ``regnb pulls`` or ``regnb listen`` wrote, for ``keep_pulled_within``.
            in_use: As in :meth:`plan_delete`; what runs there is kept. Refused if nothing of it is here.
            in_use_host: As in :meth:`plan_delete`.
            allow: As in :meth:`plan_delete`; ``emptying:REPOSITORY`` and ``share:REPOSITORY`` override the limits.

        Raises:
            InvalidArgument: A malformed policy, with line and column.
            LimitExceeded: No image of a repository would stay, or more than a rule's share of its tags would go.
            Refused: As for :meth:`plan_delete`.

        Example:
            >>> registry.plan_retention("retention.toml").to_frame()  # doctest: +SKIP
        """
        from regnb.change.retention import missing_subjects, read_policy, retain  # kept out of `import regnb`

        policy = read_policy(policy)
        named_there = [name for rule in policy.rules for name in rule.repositories]
        found = inventory or _inventory(self, repositories, named_there)
        asked = missing_subjects(found, policy)
        plan = retain(
            found,
            policy,
            gone=self._run(lambda: self._reader.absent(asked)) if asked else (),
            storage=storage,
            pulls=pulls,
            url=self._reader.url,
            authorized=self._reader.authorized,
            in_use=in_use,
            in_use_host=in_use_host,
            allow=allow,
        )
        return _foreseen(self._client, plan)

    def plan_undo(
        self, receipt: Receipt | str | Path, *, storage: Storage | None = None, allow: Iterable[str] = ()
    ) -> Plan:
        """Plan the way back from a receipt; it works until the registry's next garbage collection.

        Args:
            receipt: A receipt, its name or its path.
            storage: The registry's storage: what a collection moved into its trash comes back first, so that this works
                after the collection, too. :meth:`apply` needs it as well.
            allow: ``dummy``: where the registry does not delete by tag, a dummy manifest may.

        Raises:
            StorageError, BrokenReceipt, UnprovenReceipt: No such receipt, or one that was changed or is not proven.
            PlanMismatch: It is another registry's.

        Example:
            >>> plan = registry.plan_undo(receipt)  # doctest: +SKIP
        """
        from regnb.change.undo import plan_undo  # kept out of `import regnb`

        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        returning = storage.plan_return(found) if storage is not None else ()
        work = partial(plan_undo, self._reader, found, storage=returning, allow=allow)
        return _foreseen(self._client, self._run(work))

    def check(self, plan: Plan) -> Plan:
        """Ask the registry what it will refuse of a plan, and return the same plan with the answer in ``refusals``.

        A plan that removes something costs a DELETE of a digest in each repository, and one of a tag, that do not
        exist; nothing that exists is touched. The answer is kept for a day, for later plans. A plan that puts something
        costs an OPTIONS. Where nothing may be written from here, nothing is sent.

        Args:
            plan: A plan for this registry.

        Raises:
            PlanMismatch: It is another registry's.

        Example:
            >>> plan = registry.check(registry.plan_delete("vm/centos8:8.1"))  # doctest: +SKIP
            >>> plan.refusals  # doctest: +SKIP
            ()
        """
        from regnb.change.refusals import check  # kept out of `import regnb`

        _check_ours(self._client, plan)
        return plan if self._client.transport.read_only else self._run(lambda: check(self._client, plan))

    def apply(
        self,
        plan: Plan,
        *,
        confirm: str,
        source: Registry | None = None,
        storage: Storage | None = None,
        progress: Show = None,
    ) -> Receipt:
        """Do what a plan says, and return the receipt.

        Each target is read again just before its write: what moved since the plan was made is stale, and not touched.
        Each write's result is read again, whatever the registry answered.

        Args:
            plan: A plan for this registry.
            confirm: The plan's digest, or its code.
            source: The registry that a copy reads from, if it is another one.
            storage: Where an undo brings layers back from first, as it was planned with it.
            progress: Whether to draw a bar (by default in a notebook and on a terminal), or what to call with how
                much there is to do, how much is done, and a word about it.

        Raises:
            PlanMismatch: The confirmation or the registry is another.
            Unsupported: The registry does not delete, or is read-only; nothing was written.
            Busy: Another process is writing to one of the repositories.
            StorageError: The receipt's disk failed; nothing is written to a registry without it.
            Interrupted: The user interrupted; the receipt says what was done, and :meth:`resume` goes on.

        Each error that comes after the beginning has the receipt's name as ``error.receipt``.

        Example:
            >>> receipt = registry.apply(plan, confirm=plan.digest)  # doctest: +SKIP
        """
        _confirm(plan, confirm, storage)
        there = (source or self)._reader  # noqa: SLF001 -- our own kind
        return _apply(self._reader, plan, lambda: Journal.begin(plan), there, show=progress)

    def resume(
        self, receipt: Receipt | str | Path, *, source: Registry | None = None, progress: Show = None
    ) -> Receipt:
        """Go on with a plan whose application was cut short, and return the same receipt, continued.

        Raises:
            BrokenReceipt, UnprovenReceipt: It was changed, or is not proven.
            StorageError, PlanMismatch, Unsupported, Busy, Interrupted: As for :meth:`apply`.

        Example:
            >>> receipt = registry.resume("20261123T120000-4f2a91cc")  # doctest: +SKIP
        """
        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        # Read again once it is ours alone: another process may have been writing it until now.
        there = (source or self)._reader  # noqa: SLF001 -- our own kind
        return _apply(self._reader, found.plan, lambda: Journal.reopen(Receipt.load(found.path)), there, show=progress)


def _apply(reader: Reader, plan: Plan, open_journal: Callable[[], Journal], there: Reader, *, show: Show) -> Receipt:
    """Apply a plan to the registry of a reader, copying from there."""
    from regnb.change.apply import Progress as Progress_  # kept out of `import regnb`
    from regnb.change.apply import apply

    _check_ours(reader.client, plan)
    if (plan.source or plan.url) != there.url:
        raise PlanMismatch(
            f"the plan copies from {plan.source or plan.url}, not from {there.client.host}",
            hint="pass that registry as source",
        )
    if reader.client.transport.read_only:
        raise Refused(
            f"nothing is written to {reader.client.host} from here",
            hint="save the plan, and apply it elsewhere: regnb apply plan.json --confirm CODE",
        )
    counters = Progress_()
    repositories = {step.repository for step in plan.steps if step.writes}
    with hold(plan.host, repositories), open_journal() as journal:
        run(lambda: apply(reader, plan, journal, source=there, progress=counters), _bar(counters, show))
    return Receipt.load(journal.path)


def _look(
    inside: Inside, platform: str | None, show: Show, *, whole: bool = False
) -> tuple[Callable[[Reference], Awaitable[Looked]], Bar]:
    """Return what looks into the layers of an image, and the bar that shows how far it is."""
    from regnb.layers.reading import Progress as Reading  # kept out of `import regnb`

    counters = Reading()
    return partial(inside.look, platform=platform, progress=counters, whole=whole), _bar(counters, show)


async def _with_own(
    client: Client,
    cache: Cache,
    repositories: Sequence[str] | None = None,
    /,
    *,
    progress: Progress | None = None,
    fill: bool = True,
    thorough: bool = False,
) -> Records:
    """Crawl a registry, with what its own API tells."""
    from regnb.directories.detection import find as own  # kept out of `import regnb`

    return await collect(
        client, cache, repositories, progress=progress, fill=fill, thorough=thorough, directory=await own(client)
    )


def _foreseen(client: Client, plan: Plan) -> Plan:
    """Return a plan with what is known that its registry will refuse."""
    from regnb.change.refusals import foresee  # kept out of `import regnb`

    return foresee(plan, client.capabilities)


def _reference(host: str, reference: str | Reference) -> Reference:
    """Return a reference of a registry."""
    found = Reference.parse(reference, registry=host) if isinstance(reference, str) else reference
    if found.registry not in (None, host):
        raise InvalidArgument(f"{found} is on {found.registry}, but this is {host}", hint="connect to that registry")
    return found


def _resumable(stop: Interrupted, counters: Progress) -> Interrupted:
    """Return what an interrupted reading says, if what was read is in the cache."""
    total, done, _ = counters.state()
    return Interrupted(
        f"{stop} {done:,} of about {max(total, done):,} tags were read, and their manifests are cached. "
        "Run the same command again to continue."
    )


def _check_ours(client: Client, plan: Plan) -> None:
    """Check that a plan is for this registry."""
    if plan.url != client.transport.url:
        raise PlanMismatch(f"the plan is for {plan.host}, and this is {client.host}", hint=f"connect to {plan.url}")


def _inventory(registry: Registry, repositories: str | Sequence[str] | None, otherwise: Sequence[str]) -> Inventory:
    """Read some repositories, or all of them; where the registry lists none, what is named exactly."""
    try:
        return registry.inventory(repositories)
    except RegistryError:
        if repositories is None and exact(otherwise) == list(dict.fromkeys(otherwise)):
            return registry.inventory(otherwise)
        raise


def _confirm(plan: Plan, code: str, storage: Storage | None) -> None:
    """Check a plan's confirmation, and put back what an undo needs and a collection moved into a trash."""
    plan.confirm(code)
    if not any(effect.effect == "trash" for effect in plan.effects):
        return
    if storage is None:
        raise Refused("layers that this undo needs lie in a trash", hint="pass storage, as when it was planned")
    for back in storage.plan_return(plan.receipt):
        storage.apply(back, confirm=back.code)


def connect(
    url: str | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    credentials: Credentials | None = None,
    ca_bundle: str | Path | None = None,
    client_cert: str | Path | tuple[str, str] | None = None,
    insecure: bool = False,
    cache: Path | bool = True,
    read_only: bool | None = None,
    timeout: float | None = None,
    concurrency: int | None = None,
    retries: int | None = None,
    plain: bool | None = None,
) -> Registry:
    """Return a handle on a registry, after one request that shows that it is one.

    Args:
        url: ``http://host:port`` or ``https://host``; or layouts and archives: ``oci:DIR[:TAG]``, ``oci-archive:FILE``,
            ``docker-archive:FILE``, or a folder of them, which need none of the rest. By default the environment's
            ``REGNB_URL``.
        username: By default what ``docker login`` or ``podman login`` stored for this host.
        password: Of this user.
        credentials: User and password as one value.
        ca_bundle: A file of certificates to trust, for a private authority.
        client_cert: A file with certificate and key, or the two files.
        insecure: Whether to accept any certificate.
        cache: The cache's folder, by default in the user's cache folder; False keeps nothing after the program ends.
        read_only: Whether what could write is refused; by default if the environment has ``REGNB_READ_ONLY``.
        timeout: Seconds to wait for a connection, and for a small answer to begin; by default ``REGNB_TIMEOUT``, or 30.
            A listing, a write and the end of an upload may take multiples of it.
        concurrency: Requests to send at once, at most; by default ``REGNB_CONCURRENCY``, or 128.
        retries: How often a read is sent again after a lost connection, a 429 or a 5xx; by default ``REGNB_RETRIES``,
            or 2 to 6 times, as the error deserves it.
        plain: Whether only the registry API is asked, and not what Harbor, GitLab, ECR and others offer beside it; by
            default if the environment has ``REGNB_PLAIN``.

    For the registry at ``REGNB_URL`` what is not given comes from the environment, too: ``REGNB_USER`` and
    ``REGNB_PASSWORD``, ``REGNB_CA_BUNDLE``, ``REGNB_CLIENT_CERT`` and ``REGNB_INSECURE``. No other one is shown these.

    Raises:
        InvalidArgument: No URL, or one that makes no sense; a timeout or concurrency that is not a positive number.
        ConnectionFailed, TLSFailed: Nothing there, or nothing to trust.
        NotARegistry: Something else answered.
        Unauthorized, Denied: Credentials are missing, wrong, or not sufficient.
        StorageError, ContentError: It is no layout or archive, or a broken one.

    Example:
        >>> registry = connect("http://localhost:5000")  # doctest: +SKIP
    """
    known = variable("REGNB_URL")
    where = url or known
    if not where:
        raise InvalidArgument("no registry was named", hint="write connect('http://host:5000'), or set REGNB_URL")
    forbids = bool(variable("REGNB_READ_ONLY")) if read_only is None else read_only
    if place := find(where):
        return _layouts(place, read_only=forbids)
    if known and same(where, known):
        where = where if "@" in where else known
        if username is None and credentials is None and "@" not in where:
            username, password = variable("REGNB_USER") or None, variable("REGNB_PASSWORD")
        ca_bundle = ca_bundle or variable("REGNB_CA_BUNDLE") or None
        client_cert = client_cert or variable("REGNB_CLIENT_CERT") or None
        insecure = insecure or bool(variable("REGNB_INSECURE"))
    if username is not None:
        credentials = Credentials(username, password or "")
    most = at_once(concurrency) or MOST
    store = Cache(Cache.folder() if cache is True else cache or None)

    transport = partial(
        Transport,
        credentials=credentials,
        stored=True,
        ca_bundle=ca_bundle,
        client_cert=client_cert,
        insecure=insecure,
        read_only=forbids,
        timeout=seconds(timeout),
        concurrency=min(START, most),
        max_concurrency=most,
        retries=attempts(retries),
    )
    plain = bool(variable("REGNB_PLAIN")) if plain is None else plain
    registry = Registry(lambda: Client(transport(where)), store, collect if plain else _with_own)
    try:
        registry.ping()
    except BaseException:
        registry.close()
        raise
    return registry


def _layouts(place: Place, *, read_only: bool) -> Registry:
    """Return a handle on layouts or an archive."""
    from regnb.layouts.reading import collect as read  # what talks to a registry reads no layout
    from regnb.layouts.transport import LayoutTransport

    shelf = Shelf(place)
    return Registry(lambda: Client(LayoutTransport(shelf, read_only=read_only)), Cache(), partial(read, shelf))

"""The user's handle on a registry: blocking calls that give DataFrames and inventories."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO, Self, TypeAlias, TypeVar

import anyio

from regnb.analysis.inventory import Inventory
from regnb.analysis.recent import changing, recent
from regnb.analysis.storage import open_storage
from regnb.change.journal import Journal, Receipt, hold
from regnb.change.plan import Plan
from regnb.crawl.crawl import Crawl, Progress, collect
from regnb.crawl.naming import exact, named
from regnb.crawl.reader import Reader
from regnb.environment import concurrency as at_once
from regnb.environment import progress_bar, seconds, variable
from regnb.environment import retries as attempts
from regnb.errors import Interrupted, InvalidArgument, NotFound, PlanMismatch, Refused, RegistryError
from regnb.layouts.shelf import Shelf, find
from regnb.layouts.stored import StoredShelf, is_stored
from regnb.oci.manifest import AnyManifest, decode
from regnb.oci.reference import Digest, Reference
from regnb.session import Bar, Show, at_exit, loop, run
from regnb.text import parse_size
from regnb.wire.addresses import same
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials
from regnb.wire.exchange import Answer
from regnb.wire.pace import MOST, START
from regnb.wire.transport import Transport

if TYPE_CHECKING:
    from regnb.analysis.image import Image
    from regnb.change.policy import Policy
    from regnb.cluster.running import InUse
    from regnb.crawl.recording import Part
    from regnb.crawl.records import Records
    from regnb.crawl.selection import What
    from regnb.crawl.shards import Task
    from regnb.crawl.workers import Executor, Workers
    from regnb.layers.inside import Looked
    from regnb.storage import Storage
    from regnb.tables.frame import Frame

_T = TypeVar("_T")
_Named: TypeAlias = str | Reference
_Bytes: TypeAlias = float | str


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


def _remembering(client: Client, cache: Cache) -> Client:
    """Return a client that knows what was found out about its registry within the last day."""
    if known := cache.pace(client.host):
        client.pace.remember(*known)
    client.capabilities.remember(cache.capabilities(client.host), partial(cache.found, client.host))
    return client


def _let_go(client: Client, cache: Cache) -> None:
    with contextlib.suppress(RuntimeError):  # the program ends
        loop().call(_close, client, cache)


class Registry:
    """A container registry. :func:`connect` returns it. The calls block, and give DataFrames, plans and receipts.

    Read:
        ``inventory()`` reads every repository, tag, manifest and layer into DataFrames. Most questions start here.
        ``catalog()``, ``tags(repository)``, ``digest(image)``, ``manifest(image)``, ``layers(image)``: one answer each.
        ``image(image)`` shows one image; ``files``, ``packages``, ``hygiene`` and ``open`` look inside its layers.
        ``health()``, ``capabilities`` and ``request(method, path)`` show how the registry itself answers.

    Plan (a plan reads the registry and never writes):
        ``plan_retag``, ``plan_copy``, ``plan_rename``, ``plan_delete``, ``plan_retention``, ``plan_request``,
        ``plan_undo``. ``check(plan)`` asks the registry what it will refuse.

    Write (only with the plan's code):
        ``apply(plan, confirm=code)`` returns a receipt. ``resume(receipt)`` continues an interrupted plan.

    Example:
        >>> registry = connect("http://localhost:5000")
        >>> inventory = registry.inventory()
        >>> inventory.tags.nlargest(2, "size")[["repository", "tag", "layers"]]
            repository  tag layers
        50  vm/centos8    8      4
        52  vm/centos8  8.4      4
        >>> plan = registry.plan_delete("vm/centos8:8.3")
        >>> print(plan.summary())
        delete on localhost:5000: 1 tag and 1 manifest will be gone; the next garbage collection frees at most 2.0 kB,
        and after it this cannot be undone
        >>> receipt = registry.apply(plan, confirm=plan.code)
        >>> undo = registry.plan_undo(receipt)
        >>> registry.apply(undo, confirm=undo.code).status
        'done'

    A registry may be used as a context manager. It closes itself when nothing refers to it any more.
    """

    def __init__(self, make_client: Callable[[], Client], cache: Cache, crawl: Crawl = collect) -> None:
        self._cache, self._collect = cache, crawl
        self._client = _remembering(loop().call(make_client), cache)
        self._reader = Reader(self._client, cache, own=crawl is _with_own)
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
        """Close the connections and write the cache. Closing twice is allowed."""
        if self in _open:
            _open.discard(self)
            self._dropped.detach()
            self._run(lambda: _close(self._client, self._cache))

    def _read(self, reference: _Named, read: Callable[[Reference], Awaitable[_T]], bar: Bar | None = None) -> _T:
        """Run a read of one reference; what is not there is named as the user named it."""
        where = _reference(self.host, reference)
        with _named_as(self.host, where):
            return self._run(lambda: read(where), bar)

    def ping(self) -> None:
        """Check that this is a registry that accepts our credentials (distribution spec 1.1, "Determining Support").

        Raises:
            ConnectionFailed, TLSFailed, NotARegistry, Unauthorized, Denied: It is not, or it does not.

        Example:
            >>> registry.ping()
        """
        self._run(self._client.ping)

    @property
    def capabilities(self) -> Frame:
        """What regnb knows of the registry by now, how and since when. Reading it sends no request.

        Returns:
            Columns: capability, supported (yes, no, unknown), value, how, when.

        Example:
            >>> registry.capabilities.set_index("capability")["supported"]["API version"]
            'yes'
        """
        from regnb.tables.frame import of_rows  # pandas waits for a frame

        return of_rows("capabilities", self._client.capabilities)

    def health(self, *, probe: bool = False) -> Frame:
        """Check the registry: API version, authentication, catalog, referrers and (with ``probe``) deletion.

        Args:
            probe: Also check whether deletion is enabled. This sends a DELETE of a digest and of a tag that do not
                exist. Without ``probe`` no DELETE is sent.

        Returns:
            Columns: check, state (ok, warn, fail, skipped), found, hint.

        Raises:
            ConnectionFailed, TLSFailed, NotARegistry, Unauthorized, Denied: The registry cannot be read.
            Refused: ``probe`` on a read-only connection.

        Example:
            >>> registry.health()[["check", "state"]]
                            check    state
            0                 API       ok
            1      authentication       ok
            2             catalog       ok
            3           referrers       ok
            4  pull-through cache       ok
            5            deletion  skipped
        """
        from regnb.directories.examination import health  # kept out of `import regnb`
        from regnb.tables.frame import of_rows  # pandas waits for a frame

        return of_rows("checks", self._run(lambda: health(self._client, own=self._reader.own, probes=probe)))

    def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET, HEAD or OPTIONS as curl does, and return the answer. No status raises an error.

        Args:
            method: GET, HEAD or OPTIONS. :meth:`plan_request` plans a method that writes.
            path: The path from ``/v2/`` on, with its query; or a URL at this registry.
            headers: Such as ``{"Accept": …}``; by default a manifest is requested in every media type.

        Returns:
            Status, headers, body and curl command; a notebook shows them, ``print(answer.head)`` as ``curl -I`` does.

        Raises:
            InvalidArgument, InvalidReference: The path is not one of the registry API, or the header is never sent.
            Refused: The method could write.
            ConnectionFailed: There was no answer.

        Example:
            >>> registry.request("GET", "/v2/_catalog").curl
            'curl -sS http://localhost:5000/v2/_catalog'
        """
        return self._run(lambda: self._client.ask(method.upper(), path, headers))

    def catalog(self) -> Frame:
        """Return the names of the repositories, every page of them (distribution spec 1.1, "_catalog").

        Returns:
            Column: repository.

        Raises:
            RegistryError: The registry refuses, or did not answer.

        Example:
            >>> registry.catalog().tail(2)
                     repository
            14       vm/centos8
            15  vm/test/centos8
        """
        from regnb.tables.frame import make  # pandas waits for a frame

        return make("catalog", {"repository": self.repository_names()})

    def repository_names(self) -> list[str]:
        """Return the same names as a list, sorted.

        Raises:
            RegistryError: The registry refuses, or did not answer.

        Example:
            >>> registry.repository_names()[-2:]
            ['vm/centos8', 'vm/test/centos8']
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

        Example:
            >>> registry.tags("vm/centos8")
               repository     tag
            0  vm/centos8       8
            1  vm/centos8     8.3
            2  vm/centos8     8.4
            3  vm/centos8  latest
        """
        from regnb.tables.frame import make  # pandas waits for a frame

        found = self.tag_names(repository)
        return make("tag_list", {"repository": [repository] * len(found), "tag": found})

    def tag_names(self, repository: str) -> list[str]:
        """Return the same tags as a list, sorted.

        Raises:
            NotFound: No such repository.

        Example:
            >>> registry.tag_names("vm/centos8")
            ['8', '8.3', '8.4', 'latest']
        """

        async def pages() -> list[str]:
            return [tag async for page in self._client.tags(repository) for tag in page]

        try:
            return sorted(set(self._run(pages)))
        except NotFound as error:
            raise error.saying(error.message, hint=error.hint or "the catalog lists the repositories") from None

    def digest(self, reference: str | Reference) -> Digest:
        """Return the digest that a tag points to, as the registry's header says. :meth:`manifest` verifies the bytes.

        One HEAD request accepts every manifest type, so the digest is that of the tag itself.

        Raises:
            NotFound: No such repository or tag.

        Example:
            >>> registry.digest("vm/centos8:8.4").short
            'sha256:be464415e92a'
        """

        async def head(where: Reference) -> Digest:
            return Digest((await self._client.head_manifest(where.repository, where.target)).digest)

        return self._read(reference, head)

    def manifest(self, reference: str | Reference) -> AnyManifest:
        """Return the manifest of a tag or digest, verified and typed, with its bytes in ``raw``.

        Raises:
            NotFound: No such repository, tag or digest.
            ContentError: The bytes do not match the digest, or are not a manifest.

        Example:
            >>> registry.manifest("vm/centos8:8.4").media_type
            'application/vnd.docker.distribution.manifest.v2+json'
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
            ContentError: A manifest or config is not valid, or the image has schema 1.

        Example:
            >>> registry.layers("vm/centos8:8.4")[["position", "command"]]
              position                       command
            0        0  ADD centos-8-rootfs.tar.xz /
            1        1   RUN echo vm > /etc/hostname
            2        2        COPY disk.qcow2 /disk/
            3        3          COPY entrypoint.sh /
        """
        from regnb.analysis.image import layers_of  # pandas waits for a frame
        from regnb.layers.reading import read_image

        return layers_of(self._read(reference, lambda where: read_image(self._reader, where, strict=True))[1])

    def image(self, reference: str | Reference, *, inventory: Inventory | None = None) -> Image:
        """Return one image: names, size, layers and the steps that made them, config, referrers, and who shares it.

        Args:
            reference: ``repository:tag`` or ``repository@digest``.
            inventory: Exclusive bytes, sharing and referrers are computed from it. By default only the image's
                repository is read, so sharing with other repositories is not seen.

        Raises:
            NotFound: No such repository, tag or digest.
            ContentError: A manifest or config is not valid, or the image has schema 1.

        Example:
            >>> registry.image("vm/centos8:8.4", inventory=inventory).shared_with.head(2)
                    repository        tags layers     size
            0  vm/test/centos8  newtagtest      4  28.0 MB
            1       vm/centos8         8.3      3   2.8 MB
        """
        from regnb.analysis.image import Image  # pandas waits for a frame
        from regnb.layers.reading import read_image

        where = _reference(self.host, reference)
        top, parts = self._read(where, lambda where: read_image(self._reader, where))
        known = self.inventory(where.repository) if inventory is None else inventory
        return Image(self.host, where, top, parts, known)

    def look(
        self, reference: _Named, platform: str = "", *, whole: bool = False, at_most: _Bytes = "", progress: Show = None
    ) -> Looked:
        """Look into the layers of an image, and return what was read: what :meth:`files` and the others are made of.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            whole: Whether layers are read whole that have a table of contents.
            at_most: As for :meth:`files`.
            progress: As for :meth:`files`.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> commands = registry.look("vm/centos8:latest").images[0].commands
        """
        from regnb.layers.inside import looking  # kept out of `import regnb`

        counters, look = looking(self._reader, platform or None, whole=whole, most=parse_size(at_most or 0))
        return self._read(reference, look, progress_bar(counters, progress))

    def files(
        self, reference: _Named, *, platform: str | None = None, at_most: _Bytes = "", progress: Show = None
    ) -> Frame:
        """Return every file of every layer of an image, and which files a later layer hides.

        A layer with a table of contents (eStargz, zstd:chunked) costs a few requests. Any other layer is read once.
        Only its listing is written to disk: the cache keeps it for every image with this layer.

        Args:
            reference: The image.
            platform: Of several images, such as ``linux/arm64``; by default linux/amd64; ``all`` for every one.
            at_most: Bytes to stream, such as ``200MB``: a layer that goes beyond them is one row that says so.
            progress: As for :meth:`inventory`: how many megabytes are to be read, and how many were.

        Returns:
            One row for each entry of each layer (:data:`regnb.tables.columns.COLUMNS`, ``files``). A layer that cannot
            be read, such as a corrupt, encrypted or foreign one, is one row with the reason.

        Raises:
            NotFound: No such repository, tag or digest.
            InvalidArgument: There is no image for the platform.
            ContentError: A manifest or config is not valid, or the image has schema 1.
            Interrupted: The user interrupted; the listings of the layers that were read are in the cache.

        Example:
            >>> files = registry.files("vm/centos8:8.4")
            >>> files.nlargest(2, "hidden")[["path", "hidden"]]
                       path hidden
            0  usr/bin/bash    0 B
            1  etc/hostname    0 B
        """
        from regnb.layers.files import files

        return files(*self.look(reference, platform or "", at_most=at_most, progress=progress))

    def packages(
        self, reference: _Named, *, platform: str | None = None, at_most: _Bytes = "", progress: Show = None
    ) -> Frame:
        """Return the packages that an image holds: dpkg, apk, rpm (in SQLite), Python, npm, jars, and the distribution.

        Every layer is read whole, once: a table of contents does not list packages.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            at_most: As for :meth:`files`.
            progress: As for :meth:`files`.

        Returns:
            One row for each package (:data:`regnb.tables.columns.COLUMNS`, ``packages``). A layer or a file that cannot
            be read, such as rpm's Berkeley DB, is a row with the reason.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> len(registry.packages("vm/centos8:8.4"))  # the sample images have no package database
            0
        """
        from regnb.layers.installed import packages

        return packages(*self.look(reference, platform or "", whole=True, at_most=at_most, progress=progress))

    def sboms(self, reference: _Named, *, platform: str | None = None) -> Frame:
        """Return what the bills of materials list that hang on an image: SPDX and CycloneDX.

        Referrers, cosign's tags and buildx's attestations are read, and what statements and envelopes hold. Signatures
        are not checked.

        Args:
            reference: The image.
            platform: As for :meth:`files`.

        Returns:
            One row for each package (:data:`regnb.tables.columns.COLUMNS`, ``sboms``). A document that cannot be read
            is a row with the reason.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> packages = registry.sboms("vm/centos8:latest")[["kind", "name", "version"]]
        """
        from regnb.layers.attached import attached, sboms

        return sboms(self._read(reference, lambda where: attached(self._reader, where, platform)))

    def hygiene(
        self, reference: _Named, *, platform: str | None = None, at_most: _Bytes = "", progress: Show = None
    ) -> Frame:
        """Return what should not be in an image: secrets in its history, environment and files, root, caches, tools.

        Args:
            reference: The image.
            platform: As for :meth:`files`.
            at_most: As for :meth:`files`.
            progress: As for :meth:`files`.

        Returns:
            One row for each finding (:data:`regnb.tables.columns.COLUMNS`, ``hygiene``), with the way to fix it. The
            value of a secret is never shown or stored.

        Raises:
            NotFound, InvalidArgument, ContentError, Interrupted: As for :meth:`files`.

        Example:
            >>> registry.hygiene("vm/centos8:8.4")[["rule", "where"]].head(2)
                         rule           where
            0       root user    config: User
            1  missing labels  config: Labels
        """
        from regnb.layers.hygiene import hygiene

        return hygiene(*self.look(reference, platform or "", at_most=at_most, progress=progress))

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
            >>> registry.open("vm/centos8:8.4", "/etc/hostname").read().strip()
            b'vm'
        """
        from regnb.layers.inside import Inside  # kept out of `import regnb`

        return self._read(reference, partial(Inside(self._reader).open, path=path, platform=platform, into=into))

    def known_base(self, reference: _Named) -> Frame:
        """Return an image of this registry as a possible base of images elsewhere (``known_bases``).

        Example:
            >>> bases = inventory.find_bases(registry.known_base("library/base:3.20"))
        """
        from regnb.layers.reading import known_base  # kept out of `import regnb`

        return self._read(reference, partial(known_base, self._reader))

    def inventory(
        self,
        repositories: str | Sequence[str] | None = None,
        *,
        cached: bool = True,
        fill_cache: bool = False,
        thorough: bool = False,
        progress: Show = None,
        executor: Executor | Workers | None = None,
    ) -> Inventory:
        """Read the repositories, tags, manifests and layers, and return them as DataFrames.

        A tag or repository that cannot be read becomes a row in ``problems``. It never aborts the reading.

        Args:
            repositories: Names and globs such as ``team/*``, ``@FILE`` for a file with one on each line, or ``-`` for
                standard input; by default the whole catalog. Names alone need no catalog.
            cached: Whether manifests and configs may come from the cache, by their digest. The registry is always asked
                which tags exist and which digests they point to.
            fill_cache: Whether a pull-through cache may be read, although it then stores each image that is read.
            thorough: Whether the registry is asked (HEAD) for each image that an index lists, also where the cache has
                it. A missing image is then known before a deletion is planned.
            progress: Whether to draw a bar (by default in a notebook and on a terminal), or a function that is called
                with the total, the number done and a short text.
            executor: What lets other processes or machines read, each some of the repositories:
                ``ProcessPoolExecutor()``, or ``dask.distributed.Client(…)``; or :class:`Workers`, to say how many
                calls. Workers log in by what is stored where they run; no password is sent to them.

        Raises:
            RegistryError: Nothing could be listed at all.
            Refused: It is a pull-through cache, and ``fill_cache`` was not given.
            Interrupted: The user interrupted; what was read is in the cache.

        Example:
            >>> registry.inventory("vm/*").repositories[["repository", "tags"]]
                    repository tags
            0       vm/centos8    4
            1  vm/test/centos8    1
        """
        counters, patterns = Progress(), None if repositories is None else named(repositories)
        work = partial(self.crawl, patterns, counters, _by(executor), cached=cached, fill=fill_cache, thorough=thorough)
        read = partial(_read_whole, partial(self._run, work), counters, progress, resumable=cached)
        return read() if thorough or fill_cache or not cached else recent(self._reader.url, patterns, read)

    async def crawl(self, names: Sequence[str] | None, counters: Progress, by: Crawl | None, **how: bool) -> Records:
        """Read the registry on the background loop, as :meth:`inventory` does, which describes ``cached`` and the rest.

        Example:
            ``await registry.crawl(["vm/*"], Progress(), None, cached=True, fill=False, thorough=False)``
        """
        cache = await _shared(self._cache) if how.pop("cached") else Cache()
        return await (by or self._collect)(self._client, cache, names, progress=counters, **how)

    # Operations: each plan_* reads, and only apply and resume write.

    def plan_retag(self, what: What, tag: str, *, allow: Iterable[str] = ()) -> Plan:
        """Plan a second tag for an image, in the same repository.

        Args:
            what: A reference, a glob (``vm/centos8:8.*``), a list of these, or rows of ``inventory.tags``.
            tag: The new tag; for several, a pattern such as ``{tag}-old``.
            allow: ``overwrite``: a tag that points elsewhere may be moved.

        Raises:
            NotFound, InvalidReference, InvalidArgument: The image is not found, or its name is not valid.
            Refused: An existing tag would move, or the image has schema 1.

        Example:
            >>> registry.plan_retag("vm/centos8:8.4", "stable").to_frame()[["repository", "tag", "action"]]
               repository     tag action
            0  vm/centos8  stable    tag
        """
        from regnb.change.retag import plan_retag  # kept out of `import regnb`

        return _foreseen(self._reader, self._run(lambda: plan_retag(self._reader, what, tag, allow=allow)))

    def plan_copy(
        self,
        what: What,
        to: str = "",
        *,
        source: Registry | None = None,
        repositories: str | Sequence[str] | None = None,
        platform: str | None = None,
        referrers: bool = True,
        allow: Iterable[str] = (),
    ) -> Plan:
        """Plan a copy into this registry. Layers that it has are mounted; layers of another registry are streamed.

        Args:
            what: As in :meth:`plan_retag`; the name of a repository means all its tags.
            to: Copy to this repository or ``repository:tag``, or a pattern such as ``mirror/{repository}:{tag}``.
                Default: the same names. A layout may end with the tag.
            source: The registry to read from; by default this one.
            repositories: Match globs with these, instead of the source's catalog; as in :meth:`inventory`.
            platform: Copy only this image of an index, such as ``linux/arm64`` or ``windows/amd64:10.0.20348``.
            referrers: Include signatures, SBOMs and other referrers.
            allow: ``overwrite``: a tag that points elsewhere may be moved.

        Raises:
            NotFound, InvalidReference, InvalidArgument: The image is not found, or source and destination are the same.
            Refused: An existing tag would move, the image has schema 1, or two images are for the platform.
            Unsupported: This is a tree of layouts, or an archive that exists: regnb only reads these.

        Example:
            >>> print(registry.plan_copy("vm/centos8", "archive/centos8").summary())
            copy on localhost:5000: 4 tags will be set; it can be undone
        """
        from regnb.change.copy import plan_copy  # kept out of `import regnb`

        other = None if source is None or source is self else source._reader  # noqa: SLF001 -- our own kind
        plan = partial(plan_copy, self._reader, what, to, source=other, repositories=repositories)
        return _foreseen(self._reader, self._run(partial(plan, platform=platform, referrers=referrers, allow=allow)))

    def plan_rename(self, what: str, to: str, *, allow: Iterable[str] = ()) -> Plan:
        """Plan a rename of a repository or of one tag: copy, verify, then remove only the old names.

        Args:
            what: ``vm/centos8`` or ``vm/centos8:latest``.
            to: A repository for a repository; ``repository:tag`` or a tag alone for a tag.
            allow: ``overwrite``; ``dummy``: where the registry does not delete by tag, a dummy manifest may.

        Raises:
            NotFound, InvalidReference, InvalidArgument, Refused: As for :meth:`plan_copy` and :meth:`plan_delete`.

        Example:
            >>> registry.plan_rename("vm/centos8:8.4", "8.5").to_frame()[["tag", "action"]]
               tag action
            0  8.5    tag
            1  8.4  untag
        """
        from regnb.change.rename import plan_rename  # kept out of `import regnb`

        return _foreseen(self._reader, self._run(lambda: plan_rename(self._reader, what, to, allow=allow)))

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
        """Plan a deletion. ``plan.blast`` lists everything else that it affects.

        If another tag or an index needs the manifest of a tag, only the tag is deleted. Otherwise its manifest is
        deleted, too. Deleting a digest deletes every tag on it.

        Args:
            what: As in :meth:`plan_retag`.
            inventory: The effects are computed from it. By default the repositories concerned are read now.
            repositories: Match globs with these, instead of the catalog; as in :meth:`inventory`.
            children: With an index, delete the manifests that nothing else needs.
            referrers: Include signatures, SBOMs and other referrers.
            in_use: Keep running images: ``cluster`` for the current kubectl context, or a file (``-`` for standard
                input) with the output of kubectl, or with an image reference on each line. The command is
                :data:`regnb.cluster.running.COMMAND`; what it printed may also be given itself.
            in_use_host: Another host name of this registry in the cluster's images (repeatable): one, or a list.
            allow: ``incomplete``, ``parents``, ``running``, ``dummy`` (:data:`regnb.change.plan.ALLOWANCES`).

        Raises:
            NotFound, InvalidReference, InvalidArgument: The image is not found, or its name is not valid.
            Refused: A safety check failed. The hint names the ``allow`` that overrides it, if there is one.

        Example:
            >>> plan = registry.plan_delete("vm/centos8:8.3")
            >>> plan.to_frame()[["repository", "tag", "action"]]
               repository  tag  action
            0  vm/centos8  8.3  delete
            >>> plan.blast[["effect", "repository"]]
               effect  repository
            0  shared  vm/centos8
        """
        from regnb.change.delete import plan_delete  # kept out of `import regnb`

        plan = plan_delete(
            inventory or _around(self, what, repositories),
            what,
            url=self._reader.url,
            authorized=self._reader.authorized,
            children=children,
            referrers=referrers,
            in_use=in_use,
            in_use_host=in_use_host,
            allow=allow,
        )
        return _foreseen(self._reader, plan)

    def plan_request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        allow: Iterable[str] = (),
    ) -> Plan:
        """Plan a request that writes: PUT or DELETE of a manifest, DELETE of a tag, or a POST that mounts a blob.

        A mount becomes a copy of the images that need the blob, with their manifests: a blob alone is of no use.

        Args:
            method: PUT, DELETE or POST.
            path: ``/v2/<repository>/manifests/<tag or digest>``, or
                ``/v2/<repository>/blobs/uploads/?mount=<digest>&from=<repository>``.
            headers: Content-Type, for PUT; by default the manifest's own ``mediaType``.
            body: The manifest's bytes.
            allow: ``overwrite`` for PUT and POST; for DELETE as in :meth:`plan_delete`.

        Raises:
            NotFound: The manifest to delete, or a layer of the manifest to put, is not found.
            InvalidArgument, InvalidReference, ContentError: The request is not valid.
            Refused: A safety check failed. Or it writes a blob or an upload, which cannot be undone: the hint has the
                curl command.

        Example:
            >>> registry.plan_request("DELETE", "/v2/vm/centos8/manifests/8.3").to_frame()[["tag", "action"]]
               tag action
            0  8.3  untag
        """
        from regnb.change.request import plan_request  # kept out of `import regnb`

        asked = partial(plan_request, self._reader, method.upper(), path, headers=headers, body=body, allow=allow)
        return _foreseen(self._reader, self._run(asked))

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
        """Plan the deletions of a retention policy. Every tag, kept or deleted, has a row with the reason.

        Args:
            policy: A TOML file's path, its text, or a :class:`regnb.change.policy.Policy`.
            inventory: By default the whole registry is read now. Where it has no catalog, the repositories that the
                policy names without a wildcard are read.
            repositories: Read only these, as in :meth:`inventory`.
            storage: The registry's own storage, a folder or a URL. Its push dates are used where an age is unknown.
            pulls: The history of pulls that ``regnb pulls`` or ``regnb listen`` wrote, for ``keep_pulled_within``.
            in_use: As in :meth:`plan_delete`; what runs there is kept. Refused if nothing of it is here.
            in_use_host: As in :meth:`plan_delete`.
            allow: As in :meth:`plan_delete`; ``emptying:REPOSITORY`` and ``share:REPOSITORY`` override the limits.

        Raises:
            InvalidArgument: The policy is not valid; the message names line and column.
            LimitExceeded: Every image of a repository, or more than a rule's share of its tags, would be deleted.
            Refused: As for :meth:`plan_delete`.

        Example:
            >>> plan = registry.plan_retention("retention.toml", inventory=inventory)
            >>> plan.to_frame()[["repository", "tag", "action"]].tail(2)
                     repository         tag action
            53       vm/centos8      latest   keep
            54  vm/test/centos8  newtagtest   keep
        """
        from regnb.change.retention import missing_subjects, read_policy, retain  # kept out of `import regnb`

        policy = read_policy(policy)
        named_there = [name for rule in policy.rules for name in rule.repositories]
        found = _locked(self._reader, inventory or _inventory(self, repositories, named_there))
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
        return _foreseen(self._reader, plan)

    def plan_undo(
        self, receipt: Receipt | str | Path, *, storage: Storage | None = None, allow: Iterable[str] = ()
    ) -> Plan:
        """Plan the undo of a receipt. It works until the registry's next garbage collection.

        Args:
            receipt: A receipt, its name or its path.
            storage: The registry's storage. Layers that a collection moved into its trash are put back first, so
                the undo also works after the collection. Give it to :meth:`apply`, too.
            allow: ``dummy``: where the registry does not delete by tag, a dummy manifest may.

        Raises:
            StorageError, BrokenReceipt, UnprovenReceipt: The receipt is not found, was changed, or is not proven.
            PlanMismatch: The receipt is about another registry.

        Example:
            >>> receipt = registry.apply(plan, confirm=plan.code)
            >>> registry.plan_undo(receipt).to_frame()[["repository", "tag", "action"]]
               repository  tag action
            0  vm/centos8  8.3    tag
        """
        from regnb.change.undo import plan_undo  # kept out of `import regnb`

        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        returning = storage.plan_return(found) if storage is not None else ()
        work = partial(plan_undo, self._reader, found, storage=returning, allow=allow)
        return _foreseen(self._reader, self._run(work))

    def check(self, plan: Plan) -> Plan:
        """Ask the registry what it will refuse of a plan, and return the same plan with the answer in ``refusals``.

        A plan that deletes sends a DELETE of a digest in each repository, and one of a tag. Neither exists, so nothing
        is deleted. The answer is kept for a day, for later plans. A plan that puts a manifest sends an OPTIONS. A
        read-only connection sends nothing.

        Args:
            plan: A plan for this registry.

        Raises:
            PlanMismatch: The plan is for another registry.

        Example:
            >>> plan = registry.check(registry.plan_delete("vm/centos8:8.3"))
            >>> plan.refusals
            ()
        """
        from regnb.change.refusals import check  # kept out of `import regnb`

        _check_ours(self._client, plan)
        return plan if self._client.transport.read_only else self._run(lambda: check(self._reader, plan))

    def apply(
        self,
        plan: Plan,
        *,
        confirm: str,
        source: Registry | None = None,
        storage: Storage | None = None,
        progress: Show = None,
    ) -> Receipt:
        """Carry out a plan, and return the receipt.

        Each tag is read again just before its write. A tag that changed since the plan was made is stale, and is not
        written. After each write the result is read from the registry.

        Args:
            plan: A plan for this registry.
            confirm: The plan's digest, or its code.
            source: The registry that a copy reads from, if it is another one.
            storage: The storage that an undo was planned with.
            progress: Whether to draw a bar (by default in a notebook and on a terminal), or a function that is called
                with the total, the number done and a short text.

        Raises:
            PlanMismatch: The code does not match the plan, or the plan is for another registry.
            Unsupported: The registry does not delete, or is read-only; nothing was written.
            Busy: Another process is writing to one of the repositories.
            StorageError: The receipt cannot be written to disk. Nothing is written to a registry without a receipt.
            Interrupted: The user interrupted. The receipt lists what was done; :meth:`resume` continues.

        An error that is raised after the first write has the receipt's name as ``error.receipt``.

        Example:
            >>> receipt = registry.apply(plan, confirm=plan.code)
            >>> receipt.status
            'done'
        """
        _confirm(plan, confirm, storage)
        there = (source or self)._reader  # noqa: SLF001 -- our own kind
        return _apply(self._reader, plan, lambda: Journal.begin(plan), there, show=progress)

    def resume(
        self, receipt: Receipt | str | Path, *, source: Registry | None = None, progress: Show = None
    ) -> Receipt:
        """Continue an interrupted plan, and return the same receipt, continued.

        Args:
            receipt: A receipt, its name or its path.
            source: As for :meth:`apply`.
            progress: As for :meth:`apply`.

        Raises:
            BrokenReceipt, UnprovenReceipt: The receipt was changed, or is not proven.
            StorageError, PlanMismatch, Unsupported, Busy, Interrupted: As for :meth:`apply`.

        Example:
            >>> registry.resume("20261129T120000-4f2a91cc").status
            'done'
        """
        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        # Read again once it is ours alone: another process may have been writing it until now.
        there = (source or self)._reader  # noqa: SLF001 -- our own kind
        return _apply(self._reader, found.plan, lambda: Journal.reopen(Receipt.load(found.path)), there, show=progress)


def _read_whole(run_: Callable[[Bar | None], Records], counters: Progress, show: Show, *, resumable: bool) -> Inventory:
    try:
        records = run_(progress_bar(counters, show))
    except Interrupted as stop:
        raise (_resumable(stop, counters) if resumable else stop) from None
    return Inventory.of(records)


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
            f"this page or program is read-only: it does not write to {reader.client.host}",
            hint="save the plan, and apply it elsewhere: regnb apply plan.json --confirm CODE",
        )
    counters = Progress_()
    repositories = {step.repository for step in plan.steps if step.writes}
    with hold(plan.host, repositories), changing(), open_journal() as journal:
        run(lambda: apply(reader, plan, journal, source=there, progress=counters), progress_bar(counters, show))
    return Receipt.load(journal.path)


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


async def _shared(cache: Cache) -> Cache:
    """Return a cache that takes and gives what others read, if there is a folder for that."""
    if where := variable("REGNB_SHARED_CACHE"):
        from regnb.crawl.shared import Shared  # kept out of `import regnb`

        await anyio.to_thread.run_sync(Shared(where).attach, cache)
    return cache


def _by(executor: Executor | Workers | None) -> Crawl | None:
    """Return what crawls by workers, if there are any."""
    if executor is None:
        return None
    from regnb.crawl import shards, workers  # kept out of `import regnb`

    return partial(shards.collect, workers.Workers.of(executor), read_shard)


def read_shard(task: Task) -> Part:
    """Read some repositories of a registry: what a worker calls. It stops soon after its task says so.

    Raises:
        Interrupted: It was stopped.
        RegistryError: The registry cannot be reached from here, or lets nobody in.
    """
    from regnb.crawl import shards  # kept out of `import regnb`
    from regnb.directories.detection import find as own

    progress, reached = Progress(), task.folder.is_dir()

    def show(*_: object) -> None:
        if not task.tell(progress) and reached:
            raise KeyboardInterrupt

    parts: list[Part] = []

    async def by(client: Client, cache: Cache, *_: object, **__: object) -> Records:
        directory = None if variable("REGNB_PLAIN") else await own(client)
        parts.append(await shards.part(client, cache, task, progress=progress, directory=directory))
        return parts[0].records

    with connect(task.url, concurrency=task.concurrency) as registry:
        run(partial(registry.crawl, task.names, progress, by, cached=task.cached), Bar(progress, show=show))
    return parts[0]


def _foreseen(reader: Reader, plan: Plan) -> Plan:
    """Return a plan with what is known that its registry will refuse."""
    from regnb.change.refusals import foresee, told  # kept out of `import regnb`

    directory = run(reader.directory) if plan.removes or plan.overwrites else None
    found = foresee(plan, reader.client.capabilities, directory)
    return found if directory is None else run(lambda: told(found, directory))


def _locked(reader: Reader, inventory: Inventory) -> Inventory:
    """Return an inventory with the locks that its registry's own API tells apart from the tags."""
    from regnb.change.refusals import lock  # kept out of `import regnb`

    directory = run(reader.directory)
    return inventory if directory is None else run(lambda: lock(inventory, directory))


@contextlib.contextmanager
def _named_as(host: str, where: Reference) -> Iterator[None]:
    """Name what a registry does not have as the user named it."""
    try:
        yield
    except NotFound as error:
        if error.status is None:  # something in the image, and not the image
            raise
        hint = "the catalog lists the repositories, and tags lists what is in one"
        raise error.saying(f"{host} has no {where}", hint=hint) from None


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


def _around(registry: Registry, what: What, repositories: str | Sequence[str] | None) -> Inventory:
    """Read what a deletion can touch, and what was named beside it."""
    from regnb.change.delete import repositories_of  # kept out of `import regnb`

    wanted = repositories_of(what, registry.host)
    wanted = wanted if repositories is None else [*named(repositories), *exact(wanted)]
    return registry.inventory(wanted, thorough=True)


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
        raise Refused("layers that this undo needs lie in a trash", hint="name its storage, too (--storage DIR)")
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
    """Connect to a registry, and return a :class:`Registry`. One request checks that it is a registry.

    Args:
        url: ``http://host:port`` or ``https://host``. Or layouts and archives: ``oci:DIR[:TAG]``, ``oci-archive:FILE``,
            ``docker-archive:FILE``, or a folder of layouts; these need no other argument. Or a registry's storage (a
            folder or ``s3://bucket``), which is only read. Default: ``REGNB_URL``.
        username: By default the user that ``docker login`` or ``podman login`` stored for this host.
        password: The user's password.
        credentials: User and password as one value.
        ca_bundle: A file of certificates to trust, for a private authority.
        client_cert: A file with certificate and key, or the two files.
        insecure: Whether to accept any certificate.
        cache: The cache's folder, by default in the user's cache folder. False keeps nothing after the program ends.
        read_only: Whether every request that could write is refused. Default: whether ``REGNB_READ_ONLY`` is set.
        timeout: Seconds to wait for a connection, and for a small answer to begin. Default: ``REGNB_TIMEOUT``, or 30.
            A listing, a write and the end of an upload may take multiples of it.
        concurrency: Maximum number of requests at once. Default: ``REGNB_CONCURRENCY``, or 128.
        retries: How often a read is sent again after a lost connection, a 429 or a 5xx. Default: ``REGNB_RETRIES``, or
            2 to 6 times, depending on the error.
        plain: Whether to use only the registry API, and not the own APIs of Harbor, GitLab, ECR and others. Default:
            whether ``REGNB_PLAIN`` is set.

    For the registry at ``REGNB_URL`` the other settings come from the environment, too: ``REGNB_USER`` and
    ``REGNB_PASSWORD``, ``REGNB_CA_BUNDLE``, ``REGNB_CLIENT_CERT`` and ``REGNB_INSECURE``. No other host gets them.

    Raises:
        InvalidArgument: The URL is missing or not valid, or timeout or concurrency is not a positive number.
        ConnectionFailed, TLSFailed: The registry does not answer, or its certificate is not trusted.
        NotARegistry: Something answers that is not a registry.
        Unauthorized, Denied: Credentials are missing, wrong, or not sufficient.
        StorageError, ContentError: The path is not a layout or archive, or the layout or archive is broken.

    Example:
        >>> registry = connect("http://localhost:5000")
        >>> registry
        <Registry localhost:5000>
    """
    known = variable("REGNB_URL")
    where = url or known
    if not where:
        raise InvalidArgument("no registry was named", hint="write connect('http://host:5000'), or set REGNB_URL")
    forbids = bool(variable("REGNB_READ_ONLY")) if read_only is None else read_only
    if place := find(where):
        return _layouts(Shelf(place), read_only=forbids)
    if is_stored(where):
        return _stored(where)
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


def _stored(where: str) -> Registry:
    """Return a handle on a registry's storage: what is read of its images, and never written."""
    from regnb.layouts.transport import LayoutTransport

    storage = open_storage(where)
    shelf = StoredShelf(where)

    async def read(*_: object, **__: object) -> Records:
        return await anyio.to_thread.run_sync(storage.records)

    return Registry(lambda: Client(LayoutTransport(shelf, read_only=True)), Cache(), read)


def _layouts(shelf: Shelf, *, read_only: bool) -> Registry:
    """Return a handle on layouts or an archive."""
    from regnb.layouts.reading import collect as read  # what talks to a registry reads no layout
    from regnb.layouts.transport import LayoutTransport

    return Registry(lambda: Client(LayoutTransport(shelf, read_only=read_only)), Cache(), partial(read, shelf))

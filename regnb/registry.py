"""The user's handle on a registry: blocking calls that give DataFrames and inventories."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from regnb import frames
from regnb.cache import Cache
from regnb.collect import Progress, collect
from regnb.errors import InvalidArgument, MalformedManifest, NotFound
from regnb.frames import Frame
from regnb.inventory import Inventory
from regnb.model import CONFIG_LIMIT, IMAGE_CONFIGS, AnyManifest, Index, Manifest, Schema1, decode, decode_config
from regnb.reference import Digest, Reference

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from regnb.auth import Credentials
    from regnb.client import Client

_T = TypeVar("_T")
_lock = threading.Lock()
_portal: BlockingPortal | None = None
_until_exit = contextlib.ExitStack()
_open: weakref.WeakSet[Registry] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for registry in list(_open):
        registry.close()
    _until_exit.close()


def _loop() -> BlockingPortal:
    """Return the one background event loop: a notebook's kernel runs a loop of its own, and its user wants values."""
    global _portal  # noqa: PLW0603 -- one loop for the process, started by the first call
    with _lock:
        if _portal is None:
            from anyio.from_thread import start_blocking_portal  # noqa: PLC0415 -- kept out of `import regnb`

            _portal = _until_exit.enter_context(start_blocking_portal("asyncio"))
        return _portal


class Interrupted(KeyboardInterrupt):
    """The user interrupted a crawl: what was fetched is in the cache, so that the next one goes on from there."""

    def _render_traceback_(self) -> list[str]:
        """IPython prints these lines instead of a traceback."""
        return [str(self)]


class _Bar:
    """A progress bar in the notebook or the terminal, drawn by the thread that waits."""

    def __init__(self, progress: Progress, *, show: bool | None) -> None:
        self._progress = progress
        in_notebook = "ipykernel" in sys.modules
        if show is None:
            show = in_notebook or sys.stderr.isatty()
        self._bar: Any = None
        if show:
            import warnings  # noqa: PLC0415 -- only where a bar is drawn

            with warnings.catch_warnings():
                # Without ipywidgets tqdm says so and draws text, which is what is wanted.
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm  # noqa: PLC0415 -- costs 50 ms and pulls in ipywidgets

                self._bar = tqdm(total=0, unit=" tags", desc="Reading", smoothing=0, dynamic_ncols=True, leave=False)

    def update(self) -> None:
        if self._bar is None:
            return
        now = self._progress
        # The repositories that are not listed yet count as those that are, so that the remaining time means something.
        self._bar.total = max(1, round(now.tags * now.repositories / max(1, now.repositories_done)))
        self._bar.set_postfix_str(f"{now.repositories_done:,}/{now.repositories:,} repositories", refresh=False)
        self._bar.n = now.tags_done
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self.update()
            self._bar.close()


class Registry:
    """A container registry, read with blocking calls.

    Made by :func:`connect`. It may be used as a context manager, and closes itself when the program ends.

    Example:
        >>> with connect("http://localhost:5000") as registry:  # doctest: +SKIP
        ...     registry.tags("vm/centos8")
    """

    def __init__(self, make_client: Callable[[], Client], cache: Cache) -> None:
        self._cache = cache
        self._client: Client = self._run(self._called(make_client))
        _open.add(self)

    @staticmethod
    def _called(make: Callable[[], _T]) -> Callable[[], Awaitable[_T]]:
        async def call() -> _T:
            return make()

        return call

    def _run(self, work: Callable[[], Awaitable[_T]], tick: Callable[[], None] | None = None) -> _T:
        """Run ``work`` on the background loop; an interrupt cancels it and waits until it has let go."""
        ended = threading.Event()

        async def noted() -> _T:
            try:
                return await work()
            finally:
                ended.set()

        future: Future[_T] = _loop().start_task_soon(noted)
        try:
            while True:
                done, _ = wait([future], timeout=0.1 if tick else None)
                if tick:
                    tick()
                if done:
                    return future.result()
        except KeyboardInterrupt:
            # A cancelled future is done at once, its task only when it has let go of the connections and the cache.
            if future.cancel():
                ended.wait(10)
            raise Interrupted("Interrupted.") from None

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
            self._run(self._close)

    async def _close(self) -> None:
        await self._client.aclose()
        self._cache.close()

    def _reference(self, reference: str | Reference) -> Reference:
        found = Reference.parse(reference, registry=self.host) if isinstance(reference, str) else reference
        if found.registry not in (None, self.host):
            raise InvalidArgument(
                f"{found} is on {found.registry}, but this is {self.host}", hint="connect to that registry"
            )
        return found

    def _read(self, reference: str | Reference, read: Callable[[Reference], Awaitable[_T]]) -> _T:
        """Run a read of one reference; what is not there is named as the user named it."""
        where = self._reference(reference)
        try:
            return self._run(lambda: read(where))
        except NotFound as error:
            raise NotFound(
                f"{self.host} has no {where}",
                hint="the catalog lists the repositories, and tags lists what is in one",
                status=error.status,
                codes=error.codes,
                method=error.method,
                url=error.url,
            ) from None

    def ping(self) -> None:
        """Ask whether this is a registry and lets us in (distribution spec 1.1, "Determining Support").

        Raises:
            ConnectionFailed, TLSFailed, NotARegistry, Unauthorized, Denied: What keeps us out.
        """
        self._run(self._client.ping)

    def catalog(self) -> Frame:
        """Return the names of the repositories, every page of them (distribution spec 1.1, "_catalog").

        Returns:
            Column: repository.

        Raises:
            RegistryError: The registry refuses, or did not answer.
        """

        async def pages() -> list[str]:
            return [name async for page in self._client.catalog() for name in page]

        return frames.make("catalog", {"repository": sorted(set(self._run(pages)))})

    def tags(self, repository: str) -> Frame:
        """Return the tags of a repository, every page of them (distribution spec 1.1, "Listing Tags").

        Returns:
            Columns: repository, tag.

        Raises:
            NotFound: No such repository.
        """

        async def pages() -> list[str]:
            return [tag async for page in self._client.tags(repository) for tag in page]

        try:
            found = sorted(set(self._run(pages)))
        except NotFound as error:
            error.hint = error.hint or "the catalog lists the repositories"
            raise
        return frames.make("tag_list", {"repository": [repository] * len(found), "tag": found})

    def digest(self, reference: str | Reference) -> Digest:
        """Return the digest that a tag points at: a HEAD that accepts every manifest type, so that it is the tag's own.

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

        async def read(where: Reference) -> list[tuple[str, Manifest, list[str]]]:
            raw = await self._client.manifest(where.repository, where.target)
            top = decode(raw.data, raw.media_type, digest=raw.digest)
            found: list[AnyManifest] = [top]
            if isinstance(top, Index):
                found = []
                for child in top.manifests:
                    raw = await self._client.manifest(where.repository, child.digest)
                    found.append(decode(raw.data, raw.media_type, digest=raw.digest))
            if isinstance(top, Schema1):
                raise MalformedManifest(
                    f"{where} is an image of the withdrawn schema 1, which records no layer sizes",
                    hint="push it again with a current client",
                )
            images = [each for each in found if isinstance(each, Manifest)]
            if isinstance(top, Index):
                images = [each for each in images if each.kind != "attestation"]
            return [await self._image(where.repository, image) for image in images]

        return frames.image_layers(self._read(reference, read))

    async def _image(self, repository: str, image: Manifest) -> tuple[str, Manifest, list[str]]:
        if image.config is None or image.config.media_type not in IMAGE_CONFIGS:
            return "", image, [""] * len(image.layers)
        digest = Digest(image.config.digest)
        config = decode_config(await self._client.blob(repository, digest, limit=CONFIG_LIMIT))
        return config.platform, image, config.commands(len(image.layers))

    def inventory(
        self, repositories: str | Sequence[str] | None = None, *, cached: bool = True, progress: bool | None = None
    ) -> Inventory:
        """Read everything that tags lead to, and return it as DataFrames.

        A tag or repository that cannot be read becomes a row in ``problems``, never the end of the crawl.

        Args:
            repositories: Names and globs such as ``team/*``; by default the whole catalog.
            cached: Whether manifests and configs of earlier crawls may be taken from the cache by their digest.
                Whether a tag exists, and what it points at, is asked every time.
            progress: Whether to draw a bar; by default in a notebook and on a terminal.

        Raises:
            RegistryError: Nothing could be listed at all.
            Interrupted: The user interrupted; what was read is in the cache.
        """
        patterns = [repositories] if isinstance(repositories, str) else repositories
        cache = self._cache if cached else Cache()
        counters = Progress()
        bar = _Bar(counters, show=progress)
        try:
            records = self._run(lambda: collect(self._client, cache, patterns, progress=counters), bar.update)
        except Interrupted as stop:
            if cached:
                raise Interrupted(f"{stop} What was read is in the cache; run it again to go on.") from None
            raise
        finally:
            bar.close()
        return Inventory.of(records)


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
) -> Registry:
    """Return a handle on a registry, after one request that shows that it is one.

    Args:
        url: ``http://host:port`` or ``https://host``; by default the environment's ``REGNB_URL``.
        username: By default what ``docker login`` or ``podman login`` stored for this host.
        password: Of this user.
        credentials: User and password as one value.
        ca_bundle: A file of certificates to trust, for a private authority.
        client_cert: A file with certificate and key, or the two files.
        insecure: Whether to accept any certificate.
        cache: The cache's folder, by default in the user's cache folder; False keeps nothing after the program ends.

    Raises:
        InvalidArgument: No URL, or one that makes no sense.
        ConnectionFailed, TLSFailed: Nothing there, or nothing to trust.
        NotARegistry: Something else answered.
        Unauthorized, Denied: Credentials are missing, wrong, or not sufficient.

    Example:
        >>> registry = connect("http://localhost:5000")  # doctest: +SKIP
    """
    from regnb.auth import Credentials  # noqa: PLC0415 -- kept out of `import regnb`
    from regnb.client import Client  # noqa: PLC0415
    from regnb.transport import Transport  # noqa: PLC0415

    where = url or os.environ.get("REGNB_URL")
    if not where:
        raise InvalidArgument("no registry was named", hint="write connect('http://host:5000'), or set REGNB_URL")
    if username is not None:
        credentials = Credentials(username, password or "")
    store = Cache(Cache.folder() if cache is True else cache or None)

    def make() -> Client:
        return Client(
            Transport(
                where,
                credentials=credentials,
                stored=True,
                ca_bundle=ca_bundle,
                client_cert=client_cert,
                insecure=insecure,
            )
        )

    registry = Registry(make, store)
    try:
        registry.ping()
    except BaseException:
        registry.close()
        raise
    return registry

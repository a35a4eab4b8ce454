"""The blobs that a repository must have before a manifest is put there: found, mounted, or sent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import anyio
from anyio.abc import TaskGroup

from regnb.change.apply.course import HOPELESS, Course
from regnb.change.plan import Step
from regnb.crawl.reader import Reader
from regnb.errors import (
    ContentError,
    Denied,
    NotFound,
    ReadOnly,
    RegnbError,
    ServerFailed,
    TooLarge,
    Unauthorized,
    Unproven,
    Unsupported,
)
from regnb.text import count
from regnb.wire.uploads import Upload

_STREAMS: Final = 4
"""Large blobs whose bytes are sent at once."""
_TRANSFERS: Final = 16
"""Blobs that are looked for or mounted at once, and small ones that are sent."""
_SMALL: Final = 65_536
"""Bytes that cost no more to send than to ask for. They are read whole, and verified before the first one is sent."""
_NEW: Final = 16
"""Blobs that a repository lacked, one after another, before small ones are sent to it unasked."""
_NOT_MOUNTED: Final = (Denied, Unauthorized, NotFound, Unproven, Unsupported, ServerFailed)
"""What a registry answers that does not mount. If it does not take uploads either, that is the error."""
_SHOWN: Final = 2
"""Errors of blobs that a row shows: one cause has as many as an image has layers."""
_GRACE: Final = 3.0
"""Seconds for giving up an upload when everything else is cancelled."""


@dataclass(slots=True, eq=False)
class _Blob:
    """A blob that a repository must have."""

    repository: str
    digest: str
    size: int
    source: str
    steps: list[int] = field(default_factory=list)
    settled: anyio.Event = field(default_factory=anyio.Event)
    error: RegnbError | None = None


class Blobs:
    """Brings the blobs that some steps need, each once.

    Args:
        course: The application.
        source: The registry that content is read from.
    """

    def __init__(self, course: Course, source: Reader) -> None:
        self._course = course
        self._source = source
        self._client = course.client
        self._blobs: dict[tuple[str, str], _Blob] = {}
        self._first: dict[str, _Blob] = {}
        self._lacked: dict[str, int] = {}
        self._streams = anyio.Semaphore(_STREAMS)

    def start(self, group: TaskGroup, numbers: Sequence[int]) -> None:
        """Begin to bring what some steps need."""
        for number in numbers:
            step = self._course.plan.steps[number]
            for blob in step.blobs:
                brought = _Blob(step.repository, blob.digest, blob.size, step.source or step.repository)
                brought = self._blobs.setdefault((step.repository, blob.digest), brought)
                brought.steps.append(number)
                self._first.setdefault(blob.digest, brought)
        pending = iter(list(self._blobs.values()))
        for _ in range(min(_TRANSFERS, len(self._blobs))):
            group.start_soon(self._transfer, pending)

    async def have(self, step: Step) -> None:
        """Wait until a step's blobs are there.

        Raises:
            RegnbError: One could not be brought.
        """
        lacking: dict[str, RegnbError] = {}
        for blob in step.blobs:
            brought = self._blobs[step.repository, blob.digest]
            await brought.settled.wait()
            if brought.error is not None:
                lacking[blob.digest] = brought.error
        if lacking:
            texts = [f"blob {digest}: {error.message}" for digest, error in lacking.items()]
            more = [f"and {count(len(texts) - _SHOWN, 'more blob')}"] if len(texts) > _SHOWN else []
            text = "; ".join((*texts[:_SHOWN], *more))
            raise RegnbError(text, hint=next(iter(lacking.values())).hint)

    async def _transfer(self, pending: Iterator[_Blob]) -> None:
        course = self._course
        for blob in pending:
            try:
                if course.stop is not None or all(number in course.ended for number in blob.steps):
                    blob.error = RegnbError("not tried, because the plan was stopped", hint="make the plan again")
                else:
                    await self._bring(blob)
            except RegnbError as error:
                blob.error = error
                if isinstance(error, HOPELESS):
                    course.stop = course.stop or error
            blob.settled.set()

    async def _bring(self, blob: _Blob) -> None:
        """See to it that a repository has a blob: it is there, is mounted, or is sent."""
        failure = None
        try:
            if not self._probably_absent(blob) and await self._client.blob_present(blob.repository, blob.digest):
                self._lacked[blob.repository] = 0
                return
        except ServerFailed as error:
            # A disk that was full leaves links that are empty: to bring the blob once more writes them anew.
            failure = error
        self._lacked[blob.repository] = self._lacked.get(blob.repository, 0) + 1
        near = blob.source if not self._course.plan.source else await self._nearby(blob)
        if near == blob.repository:
            if failure is not None:
                raise failure
            hint = "if regnb moved it into a trash, undo with that storage (--storage DIR); else push the image again"
            raise NotFound(f"{near} no longer has it: a garbage collection removed it", hint=hint)
        upload = None
        try:
            if near:
                upload = await self._client.mount(blob.repository, blob.digest, near)
                self._course.wrote = True
                if upload is None:
                    await self._check_mounted(blob, near)
                    return
        except ReadOnly:
            raise
        except _NOT_MOUNTED:
            # Some registries refuse to mount what may be read and pushed, or do not know how: then it is sent.
            upload = None
        async with contextlib.nullcontext() if blob.size <= _SMALL else self._streams:
            await self._send(blob, upload)

    def _probably_absent(self, blob: _Blob) -> bool:
        """Whether asking for a blob that another registry has would cost more than it is likely to save.

        A repository that lacked the last ones will lack this one, too; if it does not, the same bytes are sent again.
        """
        small = bool(self._course.plan.source) and blob.size <= _SMALL
        return small and self._lacked.get(blob.repository, 0) >= _NEW

    async def _check_mounted(self, blob: _Blob, near: str) -> None:
        if not await self._client.blob_present(blob.repository, blob.digest):
            raise ContentError(
                f"the registry says that it took it over from {near}, but the bytes are not there: a garbage "
                "collection has removed them",
                hint="restart the registry, which remembers what is gone, and push the image again",
            )

    async def _nearby(self, blob: _Blob) -> str:
        """Return another repository of the destination that this application has sent the blob to, or ""."""
        other = self._first[blob.digest]
        if other is blob:
            return ""
        await other.settled.wait()
        return "" if other.error else other.repository

    async def _send(self, blob: _Blob, upload: Upload | None) -> None:
        source = self._source.client
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    content = await self._content(blob, stack)
                except NotFound:
                    text = f"it is missing in {blob.source} on {source.host}, where it is copied from"
                    raise NotFound(text, hint="that image is damaged: push it there again") from None
                if upload is None:
                    with anyio.CancelScope(shield=True):  # only what is known to have begun can be given up
                        upload = await self._client.uploads.start_upload(blob.repository)
                    self._course.wrote = True
                await self._client.uploads.finish_upload(cast("Upload", upload), blob.digest, content, blob.size)
        except BaseException:
            if upload is not None:
                with anyio.move_on_after(_GRACE, shield=True), contextlib.suppress(RegnbError):
                    await self._client.uploads.cancel_upload(upload)
            raise

    async def _content(self, blob: _Blob, stack: contextlib.AsyncExitStack) -> bytes | AsyncIterator[bytes]:
        """Return a small blob's bytes, or a stream of a large one's, whose digest is verified at its end."""
        source = self._source.client
        if blob.size > _SMALL:
            return self._counted(blob, await stack.enter_async_context(source.blob_stream(blob.source, blob.digest)))
        try:
            data = await source.blob(blob.source, blob.digest, limit=_SMALL)
        except TooLarge:
            raise _another_size(blob, f"more than {_SMALL:,}") from None
        if len(data) != blob.size:
            raise _another_size(blob, f"{len(data):,}")
        self._course.progress.moved += len(data)
        return data

    async def _counted(self, blob: _Blob, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            self._course.progress.moved += len(chunk)
            yield chunk
        if size != blob.size:
            raise _another_size(blob, f"{size:,}")


def _another_size(blob: _Blob, found: str) -> ContentError:
    text = f"it has {found} bytes in {blob.source}, and the manifest says {blob.size:,}"
    return ContentError(text, hint="push the image to the source again")

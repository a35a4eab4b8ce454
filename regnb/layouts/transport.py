"""How a client's requests reach a layout: without a network, and with the answers that a registry would give."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Final, Self
from urllib.parse import urlencode

import anyio

from regnb.errors import DigestMismatch, InvalidArgument, Refused, TooLarge
from regnb.layouts.answers import Answer, Answers, error
from regnb.layouts.changes import Changes
from regnb.layouts.files import PIECE, Content, errors_of
from regnb.layouts.folder import Folder
from regnb.layouts.shelf import Shelf
from regnb.oci.reference import Digest
from regnb.wire.client import Client
from regnb.wire.exchange import GET_OR_HEAD, Exchange
from regnb.wire.messages import BODY_LIMIT, Response, Streamed
from regnb.wire.pace import Kind, Pace

_AT_ONCE: Final = 8
"""Files that are read at once."""
_REMEMBERED: Final = 1000


class LayoutTransport:
    """Takes requests to the layouts of a shelf, as :class:`regnb.wire.channel.Channel` says.

    Args:
        shelf: The layouts.
        read_only: Refuse whatever could write.

    Example:
        ``async with Client(LayoutTransport(Shelf(place))) as client: ...``
    """

    def __init__(self, shelf: Shelf, *, read_only: bool = False) -> None:
        self.shelf = shelf
        self.url = self.host = str(shelf.place)
        self.sent = 0
        self.read_only = read_only
        self.exchanges: deque[Exchange] = deque(maxlen=_REMEMBERED)
        self.pace = Pace(_AT_ONCE, _AT_ONCE)
        self.options: tuple[str, ...] = ()
        self.changes = Changes(shelf)
        self._answers = Answers(shelf, self.changes.deleted)
        self._turn = anyio.Lock()

    def __repr__(self) -> str:
        return f"LayoutTransport({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def settle(self) -> None:
        """Write the archive that was prepared, if it is one.

        Raises:
            StorageError: It cannot be written.
        """
        await anyio.to_thread.run_sync(self.shelf.settle)

    async def aclose(self) -> None:
        """Close the archive, if it is one."""
        self.shelf.close()

    @property
    def local(self) -> bool:
        """Whether it is on this machine, as every layout is."""
        return True

    @property
    def reached(self) -> bool:
        """Whether it has answered."""
        return bool(self.exchanges)

    def owns(self, url: str) -> bool:
        """Whether a URL is here."""
        return url.startswith(("/", f"{self.url}/"))

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterable[bytes] | None = None,
        scope: tuple[str, ...] = (),  # noqa: ARG002 -- nobody asks for a token
        limit: int = BODY_LIMIT,
        params: Mapping[str, str] | None = None,
        kind: Kind | None = None,  # noqa: ARG002 -- nothing is waited for
    ) -> Response:
        """Answer a request.

        Raises:
            Refused: It could write, and nothing is to be written from here.
            Unsupported: It could write, and nothing is written there.
            StorageError, ContentError: The layout cannot be read or written.
            TooLarge: The body is longer than ``limit``.
        """
        path = f"{path}?{urlencode(params)}" if params else path
        given = headers or {}
        if method == "PUT" and "/blobs/uploads/" in path:
            pieces = _pieces(content or b"") if content is None or isinstance(content, bytes) else content
            answer = await self._upload(path, pieces)
        else:
            answer = await self._answer(method, path, given, content if isinstance(content, bytes) else b"")
        data = b"" if method == "HEAD" else answer.data
        if answer.layout is not None and method != "HEAD":
            if answer.stop - answer.start > limit:
                raise TooLarge(f"{answer.layout.files.where}: {answer.digest} has more than {limit:,} bytes")
            async with contextlib.aclosing(_Blob(answer)) as body:
                data = b"".join([piece async for piece in body])
        return Response(method, f"{self.url}{path}", answer.status, answer.headers, data)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        scope: tuple[str, ...] = (),  # noqa: ARG002 -- nobody asks for a token
    ) -> AsyncIterator[Streamed]:
        """Answer a GET in pieces."""
        answer = await self._answer(method, path, headers or {}, b"")
        async with contextlib.aclosing(_Blob(answer)) as body:
            yield Streamed(method, f"{self.url}{path}", False, body, self.exchanges[-1])  # noqa: FBT003 -- not authorized

    async def _answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        began = time.perf_counter()
        path = path.removeprefix(self.url)
        async with self._turn:
            if method in GET_OR_HEAD or method == "OPTIONS":
                answer = await anyio.to_thread.run_sync(self._answers.answer, path, headers)
            else:
                self._check_writable(method)
                answer = await anyio.to_thread.run_sync(self.changes.answer, method, path, headers, body)
        self._note(method, path, headers, answer.status, began)
        return answer

    async def _upload(self, path: str, pieces: AsyncIterable[bytes]) -> Answer:
        """Take the bytes of a blob into a file of their own, which gets its place once they are complete."""
        began = time.perf_counter()
        self._check_writable("PUT")
        begun = self.changes.upload(path)
        if begun is None:
            answer = error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload")
        else:
            answer = await _kept(*begun, pieces)
        self._note("PUT", path, {}, answer.status, began)
        return answer

    def _check_writable(self, method: str) -> None:
        if self.read_only:
            raise Refused(
                f"{method} is not sent to {self.host}: this page or program is read-only",
                hint="make a plan, save it, and apply it elsewhere with regnb apply",
            )

    def _note(self, method: str, path: str, headers: Mapping[str, str], status: int, began: float) -> None:
        self.sent += 1
        seconds = time.perf_counter() - began
        self.exchanges.append(Exchange(method, f"{self.url}{path}", status, dict(headers), {}, seconds, 0))


def check_destination(client: Client, tags: Iterable[tuple[str, str]]) -> bool:
    """Check that tags can be written to the layout that answers a client; whether it is a layout at all.

    Args:
        client: Of a registry or a layout.
        tags: Repository and tag of each.

    Raises:
        Unsupported: Nothing is written there.
        InvalidArgument: The layout cannot hold a tag.
        Refused: An earlier copy into this archive was cut short.
    """
    transport = client.transport
    if not isinstance(transport, LayoutTransport):
        return False
    if left := transport.shelf.left:
        hint = f"go on with it: regnb apply --resume RECEIPT; or remove {left} to begin anew"
        raise Refused(f"an earlier copy into {client.host} was cut short", hint=hint)
    for repository, tag in tags:
        if refused := transport.changes.refusal(repository, tag):
            raise InvalidArgument(refused, hint="choose another name with --to, or to= in Python")
    return True


class _Blob:
    """The body of an answer, read from its file."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._answer = answer
        self._file: Content | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        answer = self._answer
        if answer.layout is None:
            yield answer.data
            return
        files, left = answer.layout.files, answer.stop - answer.start
        with errors_of(files.where):
            file = self._file = await anyio.to_thread.run_sync(files.open, answer.digest)
            file.seek(answer.start)
            while left and (piece := await anyio.to_thread.run_sync(file.read, min(PIECE, left))):
                left -= len(piece)
                yield piece

    async def aclose(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _kept(folder: Folder, digest: Digest, pieces: AsyncIterable[bytes]) -> Answer:
    """Write a blob and give it its place, if its bytes have their digest.

    Raises:
        DigestMismatch: They have another one; nothing is kept.
        StorageError: It cannot be written.
    """
    part = await anyio.to_thread.run_sync(folder.part)
    kept = False
    try:
        hasher = hashlib.new(digest.algorithm)
        async for piece in pieces:
            hasher.update(piece)
            with errors_of(folder.where, "write"):
                await anyio.to_thread.run_sync(part.write, piece)
        if hasher.hexdigest() != digest.hex:
            raise DigestMismatch(
                f"the blob's bytes have the digest {digest.algorithm}:{hasher.hexdigest()}, not {digest}"
            )
        await anyio.to_thread.run_sync(folder.keep, part, digest)
        kept = True
    finally:
        if not kept:
            folder.drop(part)
    return Answer(201, {"docker-content-digest": digest})

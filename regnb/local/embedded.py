"""An OCI registry over a local folder: distribution spec 1.1 as an ASGI app, on distribution's own on-disk layout.

For the demo, the tests and small local uses. Debian's docker-registry can serve the same folder. There is no
authentication: it listens on loopback unless told otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import anyio
from anyio.to_thread import run_sync

from regnb.errors import ContentError, InvalidArgument, InvalidReference, MissingExtra, RegnbError, StorageError
from regnb.oci.disk import Layout
from regnb.oci.manifest import MANIFEST_LIMIT, OCI_INDEX, Index, Manifest, decode
from regnb.oci.reference import Digest, check_repository, check_tag, is_digest
from regnb.wire.hosts import Hosts

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    from regnb.local.gate import Gate, Protocol
    from regnb.local.uploads import CHUNK, LIMIT, OFTEN, TooLargeError, append, sweep
except ImportError as error:
    raise MissingExtra(error.name or "starlette", "embedded") from error

CATALOG_PAGE: Final = 100
"""Repositories on a page of the catalog where the client does not say how many; distribution's own default."""
MEMO_LIMIT: Final = 100_000
"""Manifests whose subject is remembered between listings of referrers."""

_PATIENCE: Final = 10.0
"""Seconds to wait for the server's thread, which itself cancels after three what is still being answered."""

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _Refused(Exception):
    """An answer that is an error, or one for each detail."""

    def __init__(self, status: int, code: str, message: str, *details: object, **headers: str) -> None:
        super().__init__(message)
        errors = [{"code": code, "message": message, "detail": detail} for detail in details or (None,)]
        self.response = _json({"errors": errors}, {key.replace("_", "-"): headers[key] for key in headers}, status)


@contextmanager
def _checking(code: str) -> Iterator[None]:
    """Refuse with this code what the client sent."""
    try:
        yield
    except (InvalidReference, ContentError) as error:
        raise _Refused(400, code, error.message) from None


def create_app(
    root: Path | str,
    *,
    delete: bool = True,
    read_only: bool = False,
    limit: int = LIMIT,
    like_2_8: bool = False,
) -> Starlette:
    """Return the registry as an ASGI application.

    Args:
        root: The folder that holds ``docker/registry/v2``; a missing or empty one becomes an empty registry.
        delete: Whether manifests, tags and blobs can be deleted; else that is 405 ``UNSUPPORTED``.
        read_only: Refuse every request that writes, with 405.
        limit: Bytes that a blob may have.
        like_2_8: Answer as distribution 2.8 does: no deletion of a single tag, and no referrers endpoint.

    Raises:
        StorageError: The folder holds something else, or cannot be read or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     app = create_app(folder)
    """
    layout = Layout(Path(root), read_only=read_only)
    registry = _Registry(layout, delete=delete, read_only=read_only, limit=limit, like_2_8=like_2_8)
    return Starlette(
        routes=[Route(f"/v2{path}", partial(registry.answer, path), methods=_METHODS) for path in registry.endpoints]
    )


class _Subjects:
    """What manifests refer to, remembered between listings of referrers."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[Digest, tuple[str, dict[str, object]] | None] = {}

    def of(self, name: str, digest: Digest) -> tuple[str, dict[str, object]] | None:
        """Return what a manifest refers to, and its own descriptor as the listing shows it.

        There is no index of referrers on disk, where docker-registry would not keep it up. Bytes with a known digest
        do not change, so each manifest is decoded once; whether it is still there is asked every time.
        """
        if digest in self._known:
            return self._known[digest] if self._layout.has_manifest(name, digest) else None
        raw = self._layout.manifest(name, digest)
        if raw is None:
            return None
        entry = manifest = None
        with suppress(RegnbError):
            manifest = decode(raw)
        if isinstance(manifest, Manifest | Index) and manifest.subject is not None:
            described: dict[str, object] = {"mediaType": manifest.media_type, "digest": digest, "size": len(raw)}
            if manifest.artifact_type:
                described["artifactType"] = manifest.artifact_type
            if texts := {key: value for key, value in manifest.annotations.items() if isinstance(value, str)}:
                described["annotations"] = texts
            entry = (manifest.subject.digest, described)
        if len(self._known) >= MEMO_LIMIT:
            self._known.clear()
        self._known[digest] = entry
        return entry


class _Registry:
    """The endpoints. Those that take a body are coroutines; the others run in a thread, for they wait for the disk."""

    def __init__(self, layout: Layout, *, delete: bool, read_only: bool, limit: int, like_2_8: bool) -> None:
        self.layout = layout
        self.delete, self.read_only, self.limit, self.like_2_8 = delete, read_only, limit, like_2_8
        self.locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self.subjects = _Subjects(layout)
        # A name may hold "blobs", "tags" and "manifests" as parts of its own: the last parts of a path say what it is.
        uploads = {"POST": self.start_upload}
        manifests = {"GET": self.get_manifest, "PUT": self.put_manifest, "DELETE": self.delete_manifest}
        self.endpoints: dict[str, dict[str, Callable[..., Any]]] = {
            "": {"GET": self.base},
            "/": {"GET": self.base},
            "/_catalog": {"GET": self.catalog},
            "/{name:path}/manifests/{last}": manifests,
            "/{name:path}/blobs/uploads": uploads,
            "/{name:path}/blobs/uploads/": uploads,
            "/{name:path}/blobs/uploads/{last}": {
                "GET": self.upload_status,
                "PATCH": self.patch_upload,
                "PUT": self.finish_upload,
                "DELETE": self.cancel_upload,
            },
            "/{name:path}/blobs/{last}": {"GET": self.get_blob, "DELETE": self.delete_blob},
            "/{name:path}/tags/list": {"GET": self.tags},
            "/{name:path}/referrers/{last}": {"GET": self.referrers},
            "/{rest:path}": {},
        }

    async def answer(self, path: str, request: Request) -> Response:
        """Answer any request below /v2."""
        try:
            response = await self._dispatch(path, request)
        except _Refused as refused:
            response = refused.response
        except ClientDisconnect:
            response = Response(status_code=400)  # nobody is left to read it
        except (StorageError, OSError) as error:
            # Paths on the server are not the client's business.
            cause = error.strerror if isinstance(error, OSError) else error.message.partition(":")[0]
            response = _Refused(500, "UNKNOWN", f"the storage failed: {cause}").response
        response.headers["Docker-Distribution-API-Version"] = "registry/2.0"
        return response

    async def _dispatch(self, path: str, request: Request) -> Response:
        if not (methods := self.endpoints[path]):
            raise _Refused(404, "UNSUPPORTED", "there is no such endpoint")
        parts = request.path_params
        if "name" in parts:
            with _checking("NAME_INVALID"):
                check_repository(parts["name"])
        method = "GET" if request.method == "HEAD" else request.method
        allowed = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)
        if method == "OPTIONS":
            # As distribution does, it says without a write what it would refuse.
            return Response(headers={"Allow": "GET, HEAD" if self.read_only else allowed})
        if self.read_only and method != "GET":
            return PlainTextResponse("the registry is read-only\n", 405, {"Allow": "GET, HEAD"})
        if method not in methods:
            raise _Refused(405, "UNSUPPORTED", f"{request.method} is not supported here", Allow=allowed)
        endpoint = methods[method]
        if method == "DELETE" and not self.delete and endpoint != self.cancel_upload:
            raise _Refused(405, "UNSUPPORTED", "deletion is switched off")
        if iscoroutinefunction(endpoint):
            awaitable: Awaitable[Response] = endpoint(request, **parts)
            return await awaitable
        return await run_sync(partial(endpoint, request, **parts))

    # Discovery

    def base(self, request: Request) -> Response:  # noqa: ARG002 - every endpoint is called alike
        return _json({})

    def catalog(self, request: Request) -> Response:
        names, headers = _page("/v2/_catalog", self.layout.repositories(), request, CATALOG_PAGE)
        return _json({"repositories": names}, headers)

    def tags(self, request: Request, name: str) -> Response:
        if not self.layout.has_repository(name):
            raise _Refused(404, "NAME_UNKNOWN", "there is no such repository", {"name": name})
        tags, headers = _page(f"/v2/{name}/tags/list", self.layout.tags(name), request, None)
        return _json({"name": name, "tags": tags}, headers)

    def referrers(self, request: Request, name: str, last: str) -> Response:
        if self.like_2_8:
            return PlainTextResponse("404 page not found\n", 404)
        subject = _digest(last)
        found = [self.subjects.of(name, digest) for digest in self.layout.revisions(name)]
        manifests = [entry[1] for entry in found if entry is not None and entry[0] == subject]
        headers = {}
        if wanted := request.query_params.get("artifactType"):
            manifests = [manifest for manifest in manifests if manifest.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return Response(json.dumps(body), media_type=OCI_INDEX, headers=headers)

    # Manifests

    def get_manifest(self, request: Request, name: str, last: str) -> Response:
        digest = Digest(last) if is_digest(last) else self._resolve(name, last)
        raw = self.layout.manifest(name, digest) if digest is not None else None
        if raw is None or digest is None:
            raise _Refused(404, "MANIFEST_UNKNOWN", "there is no such manifest", {"name": name, "reference": last})
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        if _unchanged(request, digest):
            return Response(status_code=304, headers=headers)
        try:
            media_type = decode(raw).media_type
        except RegnbError:  # docker-registry took it, so it is served; what it is, is for the client to find out
            media_type = _announced(raw)
        headers |= {"Content-Type": media_type, "Content-Length": str(len(raw))}
        return Response(b"" if request.method == "HEAD" else raw, headers=headers)

    def _resolve(self, name: str, tag: str) -> Digest | None:
        with suppress(InvalidReference):
            return self.layout.resolve(name, tag)
        return None

    async def put_manifest(self, request: Request, name: str, last: str) -> Response:
        body = bytearray()
        oversize = False
        async for chunk in request.stream():
            # Read to the end, for a client in the middle of its body would never see the answer.
            oversize = oversize or len(body) + len(chunk) > MANIFEST_LIMIT
            if not oversize:
                body += chunk
        if oversize:
            raise _Refused(413, "SIZE_INVALID", f"a manifest has at most {MANIFEST_LIMIT} bytes")
        return await run_sync(self._put_manifest, request, name, last, bytes(body))

    def _put_manifest(self, request: Request, name: str, last: str, raw: bytes) -> Response:
        if by_digest := ":" in last:
            digest = _digest(last)
            if Digest.of(raw, digest.algorithm) != digest:
                raise _Refused(400, "DIGEST_INVALID", "the manifest has another digest", {"digest": digest})
            # From the spec after 1.1: only so can a tag point to anything but a sha256.
            tags = list(dict.fromkeys(request.query_params.getlist("tag")))
        else:
            digest, tags = Digest.of(raw), [last]
        with _checking("TAG_INVALID"):
            for tag in tags:
                check_tag(tag)
        manifest = _decode(raw, request.headers.get("content-type", ""))
        self._check_parts(name, manifest)
        self.layout.put_manifest(name, raw, digest, *tags)
        response = _created(request, f"{name}/manifests/{digest}", digest)
        if manifest.subject is not None:
            response.headers["OCI-Subject"] = manifest.subject.digest
        for tag in tags if by_digest else ():
            response.headers.append("OCI-Tag", tag)
        return response

    def _check_parts(self, name: str, manifest: Manifest | Index) -> None:
        """Refuse a manifest whose parts are not in the repository. Its subject need not be there."""
        children = manifest.children if isinstance(manifest, Index) else ()
        blobs = [blob for blob in manifest.blobs if not (blob.foreign and blob.urls)]
        present: dict[str, Callable[[str, str], object]] = dict.fromkeys(
            (child.digest for child in children), self.layout.has_manifest
        )
        present |= dict.fromkeys((blob.digest for blob in blobs), self.layout.blob)
        missing = [digest for digest, there in present.items() if not there(name, digest)]
        if missing:
            message = "a part of the manifest is not in the repository"
            raise _Refused(400, "MANIFEST_BLOB_UNKNOWN", message, *({"digest": digest} for digest in missing))

    def delete_manifest(self, request: Request, name: str, last: str) -> Response:  # noqa: ARG002
        if ":" in last:
            deleted = self.layout.delete_manifest(name, _digest(last))
        elif self.like_2_8:
            raise _Refused(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        else:
            with _checking("TAG_INVALID"):
                deleted = self.layout.delete_tag(name, last)
        if not deleted:
            raise _Refused(404, "MANIFEST_UNKNOWN", "there is no such manifest", {"name": name, "reference": last})
        return Response(status_code=202)

    # Blobs

    def get_blob(self, request: Request, name: str, last: str) -> Response:
        digest = _digest(last)
        path = self.layout.blob(name, digest)
        if path is None:
            raise _Refused(404, "BLOB_UNKNOWN", "there is no such blob", {"digest": digest})
        headers = {"Docker-Content-Digest": str(digest), "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if _unchanged(request, digest):
            return Response(status_code=304, headers=headers)
        size = path.stat().st_size
        first, end, status = 0, size, 200
        asked = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", request.headers.get("range", "").replace(" ", ""))
        if asked and (asked[1] or asked[2]):
            if asked[1]:
                first, end = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else size, size)
            else:
                first = max(size - int(asked[2]), 0)
            if first >= end:
                raise _Refused(416, "SIZE_INVALID", "the blob has no such bytes", Content_Range=f"bytes */{size}")
            status = 206
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(end - first)}
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(_read(path, first, end), status, headers)

    def delete_blob(self, request: Request, name: str, last: str) -> Response:  # noqa: ARG002
        digest = _digest(last)
        if not self.layout.delete_blob(name, digest):
            raise _Refused(404, "BLOB_UNKNOWN", "there is no such blob", {"digest": digest})
        return Response(status_code=202)

    # Uploads

    async def start_upload(self, request: Request, name: str) -> Response:
        query = request.query_params
        source, mount = query.get("from", ""), query.get("mount", "")
        # Whatever is wrong with the source, an upload is the answer that lets the client go on.
        if source and is_digest(mount) and await run_sync(self._mount, name, source, Digest(mount)):
            return _created(request, f"{name}/blobs/{mount}", Digest(mount))
        digest = _digest(query["digest"]) if "digest" in query else None
        session = await run_sync(self.layout.start_upload, name)
        if digest is None:
            return self._progress(request, name, session, 202)
        return await self._finish(request, name, session, digest)

    def _mount(self, name: str, source: str, digest: Digest) -> bool:
        with suppress(InvalidReference):
            if self.layout.blob(source, digest) is not None:
                self.layout.link_blob(name, digest)
                return True
        return False

    def upload_status(self, request: Request, name: str, last: str) -> Response:
        self._upload(name, last)
        return self._progress(request, name, last, 204)

    async def cancel_upload(self, request: Request, name: str, last: str) -> Response:  # noqa: ARG002
        self._upload(name, last)
        async with self.locks[last]:
            await run_sync(self.layout.cancel_upload, name, last)
            self.locks.pop(last, None)
        return Response(status_code=204)

    async def patch_upload(self, request: Request, name: str, last: str) -> Response:
        self._upload(name, last)
        async with self.locks[last]:
            await self._receive(request, name, last)
            return self._progress(request, name, last, 202)

    async def finish_upload(self, request: Request, name: str, last: str) -> Response:
        self._upload(name, last)
        return await self._finish(request, name, last, _digest(request.query_params.get("digest", "")))

    async def _finish(self, request: Request, name: str, session: str, digest: Digest) -> Response:
        async with self.locks[session]:
            await self._receive(request, name, session)
            found = await run_sync(_hashed, self._upload(name, session), digest.algorithm)
            if found == digest:
                await run_sync(self.layout.finish_upload, name, session, digest)
            else:
                await run_sync(self.layout.cancel_upload, name, session)
            self.locks.pop(session, None)
        if found != digest:
            raise _Refused(400, "DIGEST_INVALID", "the upload has another digest", {"digest": digest, "found": found})
        return _created(request, f"{name}/blobs/{digest}", digest)

    def _upload(self, name: str, session: str) -> Path:
        with suppress(InvalidReference):
            if (path := self.layout.upload(name, session)) is not None:
                return path
        raise _Refused(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")

    async def _receive(self, request: Request, name: str, session: str) -> None:
        """Append the body to the upload; its lock is held."""
        path = self._upload(name, session)
        start = path.stat().st_size
        expected = _content_range(request, start, self._progress(request, name, session, 416))
        try:
            received = await append(path, start, request.stream(), self.limit)
        except TooLargeError:
            raise _Refused(413, "SIZE_INVALID", f"a blob has at most {self.limit} bytes here") from None
        if expected is not None and received != expected:
            await run_sync(os.truncate, path, start)
            raise _Refused(400, "SIZE_INVALID", "the chunk has not the length that its Content-Range gives")

    def _progress(self, request: Request, name: str, session: str, status: int) -> Response:
        size = self._upload(name, session).stat().st_size
        headers = {
            "Location": f"{_prefix(request)}/v2/{name}/blobs/uploads/{session}",
            "Range": f"0-{max(size - 1, 0)}",
            "Docker-Upload-UUID": session,
        }
        return Response(status_code=status, headers=headers)


def _json(body: object, headers: dict[str, str] | None = None, status: int = 200) -> Response:
    return Response(json.dumps(body), status, headers, media_type="application/json")


def _prefix(request: Request) -> str:
    """Return the path that a proxy has put in front of /v2."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _created(request: Request, path: str, digest: Digest) -> Response:
    headers = {"Location": f"{_prefix(request)}/v2/{path}", "Docker-Content-Digest": str(digest)}
    return Response(status_code=201, headers=headers)


def _digest(text: str) -> Digest:
    with _checking("DIGEST_INVALID"):
        return Digest(text)


def _unchanged(request: Request, digest: Digest) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in request.headers.get("if-none-match", "").split(",")}
    return digest in tags or "*" in tags


def _announced(raw: bytes) -> str:
    """Return the media type that a manifest gives for itself, however bad the rest of it is."""
    found = re.search(rb'"mediaType"\s*:\s*"(application/vnd\.[a-zA-Z0-9.+-]{1,100})"', raw[:1000])
    return found[1].decode("ascii") if found else "application/octet-stream"


def _decode(raw: bytes, header: str) -> Manifest | Index:
    with _checking("MANIFEST_INVALID"):
        manifest = decode(raw)
    announced = header.partition(";")[0].strip().lower()
    if not isinstance(manifest, Manifest | Index):
        raise _Refused(400, "MANIFEST_INVALID", "manifests of schema 1 are not accepted")
    # The layout keeps no Content-Type: what the bytes say for themselves is all that a later GET can answer.
    if announced and announced != manifest.media_type:
        raise _Refused(400, "MANIFEST_INVALID", f"the manifest is {manifest.media_type}, not {announced[:100]}")
    return manifest


def _page(path: str, entries: list[str], request: Request, default: int | None) -> tuple[list[str], dict[str, str]]:
    """Return the page that is asked for, and the Link to the next one (distribution spec 1.1, "Listing Tags")."""
    query = request.query_params
    count = default
    if "n" in query:
        if not re.fullmatch(r"[0-9]{1,9}", query["n"]):
            raise _Refused(400, "PAGINATION_NUMBER_INVALID", "n is not a number", {"n": query["n"]})
        count = int(query["n"])
    if last := query.get("last"):
        entries = [entry for entry in entries if entry > last]
    if count is None or len(entries) <= count:
        return entries, {}
    page = entries[:count]
    link = f'<{_prefix(request)}{path}?n={count}&last={quote(page[-1], safe="")}>; rel="next"' if page else ""
    return page, {"Link": link} if link else {}


def _content_range(request: Request, size: int, disorder: Response) -> int | None:
    """Return how many bytes the chunk's Content-Range promises, or None without one."""
    text = request.headers.get("content-range")
    if text is None:
        return None
    given = re.fullmatch(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?", text.strip())
    if given is None or int(given[1]) != size or int(given[2]) < size:
        headers = {key: disorder.headers[key] for key in ("location", "range", "docker-upload-uuid")}
        raise _Refused(
            416, "BLOB_UPLOAD_INVALID", f"the next byte of this upload is byte {size}", {"given": text}, **headers
        )
    expected = int(given[2]) - size + 1
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) != expected:
        raise _Refused(400, "SIZE_INVALID", "Content-Range and Content-Length disagree")
    return expected


def _hashed(path: Path, algorithm: str) -> Digest:
    with path.open("rb") as file:
        return Digest(f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}")


async def _read(path: Path, first: int, end: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(first)
        while first < end:
            chunk = await file.read(min(CHUNK, end - first))
            if not chunk:
                return
            first += len(chunk)
            yield chunk


# Serving


class Server:
    """The registry on a port, in a thread of this process.

    Args:
        root, delete, read_only, limit, like_2_8: As for :func:`create_app`.
        host: Where to listen.
        port: 0 for a free one.
        names: Host names that are answered to, as for :class:`regnb.wire.hosts.Hosts`.

    Raises:
        StorageError: The folder holds something else, or cannot be read or written.
        InvalidArgument: The port is in use, or there is no such address here.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, Server(folder) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        root: Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Iterable[str] = (),
        delete: bool = True,
        read_only: bool = False,
        limit: int = LIMIT,
        like_2_8: bool = False,
    ) -> None:
        app = create_app(root, delete=delete, read_only=read_only, limit=limit, like_2_8=like_2_8)
        self._root, self._read_only = Path(root), read_only
        gate = Gate(app, Hosts(host, names))
        self._socket = _listen(host, port)
        self.host = f"[{host}]" if ":" in host else host
        self.port = int(self._socket.getsockname()[1])
        # The program's logging is its own affair, so no log_config. Connections idle in a client's pool stay open: a
        # push that reuses one that was just closed would fail, and pushes are not retried.
        config = uvicorn.Config(
            gate,
            http=Protocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.run, name="regnb-registry", daemon=True)
        self._ended = threading.Event()

    @property
    def url(self) -> str:
        """``http://host:port``."""
        return f"http://{self.host}:{self.port}"

    def run(self) -> None:
        """Answer in this thread until the process is interrupted."""
        if not self._read_only:
            threading.Thread(target=self._sweep, name="regnb-uploads", daemon=True).start()
        self._server.run([self._socket])
        self._ended.set()

    def _sweep(self) -> None:
        while True:
            sweep(self._root)
            if self._ended.wait(OFTEN):
                return

    def start(self) -> None:
        """Begin to serve. The socket listens already, so the first request waits rather than fails."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being answered, for a few seconds at most, and close the port.

        An answer that waits for a disk that hangs cannot be cancelled: its thread is left to end with the process.
        """
        self._server.should_exit = True
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)
        self._socket.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def running(
    root: Path | str, port: int = 0, *, delete: bool = True, read_only: bool = False, like_2_8: bool = False
) -> Iterator[Server]:
    """Serve a folder on loopback for as long as the ``with`` block lasts.

    Raises:
        StorageError: The folder holds something else, or cannot be read or written.
        InvalidArgument: The port is in use.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, running(folder) as server:
        ...     server.port > 0
        True
    """
    with Server(root, port=port, delete=delete, read_only=read_only, like_2_8=like_2_8) as server:
        yield server


def serve(
    root: Path | str,
    host: str = "127.0.0.1",
    port: int = 5000,
    *,
    names: Iterable[str] = (),
    delete: bool = True,
    read_only: bool = False,
    limit: int = LIMIT,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve a folder until the process is interrupted.

    Args:
        root: As for :func:`create_app`.
        host: Where to listen. There is no authentication.
        port: 0 for a free one.
        names: As for :class:`Server`.
        delete: As for :func:`create_app`.
        read_only: As for :func:`create_app`.
        limit: As for :func:`create_app`.
        ready: Called with the URL once the port listens.

    Raises:
        StorageError: The folder holds something else, or cannot be read or written.
        InvalidArgument: The port is in use, or there is no such address here.
    """
    server = Server(root, host=host, port=port, names=names, delete=delete, read_only=read_only, limit=limit)
    try:
        if ready is not None:
            ready(server.url)
        server.run()
    finally:
        server.stop()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise InvalidArgument(
            f"cannot listen on {host}:{port}: {error}", hint="name an address of this machine"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise InvalidArgument(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="pass another port, or 0 for a free one"
        ) from None
    return listener

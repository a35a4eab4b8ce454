"""What a registry allows, found out without touching anything that is there."""

from __future__ import annotations

import contextlib
import secrets
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import anyio
import msgspec

from regnb.errors import NotFound, ReadOnly, RegistryError, Unproven, Unsupported
from regnb.oci.reference import Digest
from regnb.wire.client import Client
from regnb.wire.uploads import Upload


def absent() -> Digest:
    """Return a digest that no manifest has.

    Example:
        >>> len(absent().hex)
        64
    """
    return Digest.of(secrets.token_bytes(32))


class _Nested(msgspec.Struct):
    """An error of a registry; a pull-through cache hands on its upstream's errors as the detail of one of its own."""

    detail: object = None


class _Errors(msgspec.Struct):
    errors: list[_Nested] = []


async def is_mirror(client: Client, repository: str) -> bool:
    """Return whether a registry is a pull-through cache, by a GET of a manifest that is not there.

    A pull-through cache asks its upstream, and answers 500 with the upstream's error inside its own. It stores nothing.
    False where the upstream cannot be reached, or another error hides it.

    Example:
        ``await is_mirror(client, "library/debian")``
    """
    try:
        answer = await client.ask("GET", f"/v2/{repository}/manifests/{absent()}")
        found = msgspec.json.decode(answer.body, type=_Errors)
    except (RegistryError, msgspec.DecodeError):
        return False
    upstream = (one.detail.get("errors") for one in found.errors if isinstance(one.detail, dict))
    return answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR and any(upstream)


async def by_digest(client: Client, repository: str, digest: Digest) -> None:
    """Ask whether manifests can be deleted, by deleting one that is not there (DELETE manifests/<digest>).

    Args:
        client: Of the registry.
        repository: Where it is asked; it need not be there.
        digest: Of :func:`absent`.

    Raises:
        Unsupported: Deletion is switched off, or the registry is read-only: the hint says which.
        Unproven: The answer is not a registry's, so it is not known whether it deletes.
        Unauthorized, Denied, ConnectionFailed, RegistryError: No permission to delete, or no answer.

    Example:
        ``await by_digest(client, "vm/centos8", absent())``
    """
    try:
        with contextlib.suppress(NotFound):
            await client.delete_manifest(repository, digest)
        client.capabilities.note("deletion", "yes", "DELETE of an absent digest: 404")
    except ReadOnly:  # as during a garbage collection: says nothing of what it does afterwards
        raise
    except Unsupported as error:
        client.capabilities.note("deletion", "no", f"DELETE of an absent digest: {error.status}")
        raise
    except Unproven as error:
        client.capabilities.note(
            "deletion", "unknown", "DELETE of an absent digest: an answer that is not a registry's"
        )
        text = f"it is not known whether {client.host} deletes manifests: {error.message}"
        hint = "a registry answers with an error code of its own; check whether it has a DELETE endpoint at all"
        raise error.saying(text, hint=hint) from None


async def by_tag(client: Client, repository: str, digest: Digest) -> bool:
    """Return whether a tag can be deleted alone, by deleting one that is not there (DELETE manifests/<tag>).

    Only a registry's own "not found" proves it: a registry without such a route may answer 404, too.

    Raises:
        ReadOnly: It takes no writes now.
        Unauthorized, Denied, ConnectionFailed, RegistryError: No permission to delete, or no answer.

    Example:
        ``await by_tag(client, "vm/centos8", absent())``
    """
    try:
        await client.delete_tag(repository, f"regnb-{digest.hex[:32]}")
    except NotFound as error:
        how = f"DELETE of an absent tag: {error.status}"
    except ReadOnly:
        raise
    except RegistryError as error:
        # What a token server answers says nothing about the registry.
        if error.method != "DELETE" or error.status not in (400, 404, 405, 501):
            raise
        client.capabilities.note("tag deletion", "no", f"DELETE of an absent tag: {error.status}")
        return False
    else:
        how = "DELETE of an absent tag was accepted"
    client.capabilities.note("tag deletion", "yes", how)
    return True


class Deletion(NamedTuple):
    """Whether a registry deletes.

    Attributes:
        manifests: By digest, with every tag on it; None if it is not known.
        tags: A tag alone.
        reason: Why not, or "".
        hint: What would change that, or "".
        read_only: Whether it takes no writes at all.
    """

    manifests: bool | None
    tags: bool
    reason: str = ""
    hint: str = ""
    read_only: bool = False


async def deletion(client: Client, repository: str) -> Deletion:
    """Find out whether a registry deletes manifests and tags.

    Raises:
        Unauthorized, Denied, ConnectionFailed, RegistryError: No permission to delete, or no answer.

    Example:
        ``(await deletion(client, "vm/centos8")).manifests``
    """
    digest = absent()
    try:
        await by_digest(client, repository, digest)
    except Unproven as error:
        return Deletion(manifests=None, tags=False, reason=error.message, hint=error.hint)
    except RegistryError as error:
        if error.status != 405:
            raise
        read_only = isinstance(error, ReadOnly)
        return Deletion(manifests=False, tags=False, reason=error.message, hint=error.hint, read_only=read_only)
    return Deletion(manifests=True, tags=await by_tag(client, repository, digest))


class Pushed(NamedTuple):
    """What became of an upload that was begun, sent bytes, and given up.

    Attributes:
        origin: ``scheme://host[:port]`` that the registry wants the bytes at.
        own: Whether that is where it was asked: if not, pushes go astray.
        refused: What the bytes met, or None if they were taken.
    """

    origin: str
    own: bool
    refused: RegistryError | None


async def upload(client: Client, repository: str, size: int) -> Pushed:
    """Find out whether a blob gets through: begin an upload, send zeros in one request, and give it up (DELETE).

    Nothing is stored. If the connection is lost on the way, a registry may keep what it has until it purges uploads, as
    distribution does after a week.

    Args:
        client: Of the registry.
        repository: Where it is begun; it need not be there.
        size: How many bytes to send.

    Raises:
        Unauthorized, Denied, Unsupported, ConnectionFailed, RegistryError: It cannot be begun.

    Example:
        ``(await upload(client, "vm/centos8", 20_000_000)).refused``
    """
    begun = await client.uploads.start_upload(repository)
    refused = None
    # What a proxy gets wrong about the address must not hide what else it does: the bytes go where the registry is.
    going = _home(client, begun)
    try:
        going = _home(client, await client.uploads.upload_chunk(going, bytes(size)))
    except RegistryError as error:
        refused = error
    finally:
        with anyio.move_on_after(10, shield=True), contextlib.suppress(RegistryError):
            await client.uploads.cancel_upload(going)
    parts = urlsplit(begun.location)
    return Pushed(f"{parts.scheme}://{parts.netloc}", client.transport.owns(begun.location), refused)


def _home(client: Client, given: Upload) -> Upload:
    parts = urlsplit(given.location)
    path = parts._replace(scheme="", netloc="").geturl()
    return msgspec.structs.replace(given, location=f"{client.transport.url}{path}")

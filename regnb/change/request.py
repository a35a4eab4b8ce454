"""Plan a request that would write: what changes manifests and tags becomes a plan, and nothing else is sent."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from msgspec import structs

from regnb.analysis.inventory import Inventory
from regnb.change.copy import plan_copy
from regnb.change.delete import plan_delete
from regnb.change.plan import Blob, Plan, Step, check_allow
from regnb.change.retag import overwritten
from regnb.crawl.crawl import collect
from regnb.crawl.reader import Reader, each, parts
from regnb.errors import InvalidArgument, MalformedManifest, NotFound, Refused
from regnb.oci.manifest import Descriptor, Schema1, contradiction, decode, verify
from regnb.oci.reference import Digest, check_repository, is_digest
from regnb.text import names
from regnb.wire.exchange import READS, Target, asked, check_headers

_COPIED: Final = 10
"""Tags that a mount is planned for: where a blob is behind more of them, one is to be named."""


async def plan_request(
    reader: Reader,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    allow: Iterable[str] = (),
) -> Plan:
    """Plan what a request would write: PUT of a manifest, DELETE of one by its digest, or of a tag.

    A POST that mounts a blob becomes a copy of the images that need it: a blob alone is of no use.

    Args:
        reader: The registry.
        method: PUT or DELETE; POST with ``?mount=DIGEST&from=REPOSITORY``.
        path: From ``/v2/`` on, or a URL at this registry.
        headers: Content-Type, for PUT; by default the manifest's own ``mediaType``.
        body: The manifest's bytes.
        allow: ``overwrite`` for PUT and POST; for DELETE by digest as for a deletion, by tag ``dummy``.

    Raises:
        InvalidArgument, InvalidReference, MalformedManifest, DigestMismatch: What was asked for is not lawful.
        NotFound: What goes is not there, or what the manifest needs.
        Refused: It could not be undone, or could do harm; the hint has the curl command, or what would allow it.

    Example:
        ``plan = await plan_request(reader, "DELETE", "/v2/vm/centos8/manifests/old")``
    """
    allowed = check_allow(allow)
    where = reader.client.target(path)
    known = check_headers(headers)
    if method in READS:
        raise InvalidArgument(f"{method} changes nothing, so there is nothing to plan", hint="send it with request")
    if where.kind == "manifests" and method == "PUT":
        return await _put(reader, where, {name.lower(): value for name, value in known.items()}, body, allowed)
    if where.kind == "manifests" and method == "DELETE" and not body:
        return await (_delete if is_digest(where.reference) else _untag)(reader, where, allowed)
    if where.kind == "blobs/uploads" and method == "POST" and not body:
        query = parse_qs(urlsplit(where.path).query)
        if "mount" in query:
            return await _mount(reader, where.repository, query["mount"][0], query.get("from", [""])[0], allowed)
    raise _refused(reader, method, where, known, body)


def _plan(reader: Reader, step: Step, allow: tuple[str, ...], *notes: str) -> Plan:
    return Plan(
        operation="request", url=reader.url, steps=(step,), notes=notes, allow=allow, authorized=reader.authorized
    )


async def _put(reader: Reader, where: Target, headers: Mapping[str, str], body: bytes, allow: tuple[str, ...]) -> Plan:
    here, target = where.repository, where.reference
    manifest = decode(body, headers.get("content-type", ""))
    if other := contradiction(headers.get("content-type", ""), manifest.media_type):
        raise MalformedManifest(
            f"the manifest is {manifest.media_type}, and the Content-Type given is {other}", hint="leave the header out"
        )
    if isinstance(manifest, Schema1):
        raise Refused("an image of the withdrawn schema 1 cannot be pushed", hint="push it again with a current client")
    by_digest = is_digest(target)
    verify(body, target if by_digest else None)
    digest = target if by_digest else str(manifest.digest)
    children, blobs = parts(manifest)

    async def is_missing(part: Descriptor) -> bool:
        if part in children:
            return not await reader.digest(here, part.digest)
        return not await reader.client.blob_present(here, part.digest)

    listed = (*children, *blobs)
    lacking = [part.digest for part, gone in zip(listed, await each(is_missing, listed), strict=True) if gone]
    if lacking:
        raise NotFound(
            f"{here} lacks what this manifest needs: {names(lacking)}",
            hint="a copy mounts it from the repository that has it, and then puts the manifest: plan_copy, regnb copy",
        )
    there = await reader.look(here, target)
    before = str(there.digest) if there else ""
    step = Step(
        action="keep" if before == digest else "put" if by_digest else "tag",
        repository=here,
        tag="" if by_digest else target,
        before=before,
        after=digest,
        source=here,
        media_type=manifest.media_type,
        blobs=tuple(Blob(blob.digest, blob.size) for blob in blobs),
        size=len(body) + sum(blob.size for blob in blobs),
        reason="kept: this tag already points to the digest" if before == digest else f"PUT {where.path}",
        new=not await reader.digest(here, digest),
    )
    moves = step.action == "tag" and before
    effects = await overwritten(reader, [step], {here: await reader.tags(here) if moves else []}, allow)
    plan = _plan(reader, step, allow, "The manifest is put byte for byte; no blob moves.")
    return structs.replace(plan, effects=effects, made={digest: base64.b64encode(body).decode()}, moved=len(body))


async def _delete(reader: Reader, where: Target, allow: tuple[str, ...]) -> Plan:
    inventory = Inventory.of(await collect(reader.client, reader.cache, [where.repository]))
    what = f"{where.repository}@{where.reference}"
    plan = plan_delete(inventory, what, url=reader.url, authorized=reader.authorized, allow=allow)
    return structs.replace(plan, operation="request")


async def _untag(reader: Reader, where: Target, allow: tuple[str, ...]) -> Plan:
    here, tag = where.repository, where.reference
    found = await reader.client.manifest(here, tag)
    step = Step(
        action="untag",
        repository=here,
        tag=tag,
        before=str(Digest(found.digest)),
        media_type=found.media_type,
        reason=f"DELETE {where.path}",
    )
    return _plan(reader, step, allow, "The manifest and the other tags on it stay, and nothing is freed.")


async def _mount(reader: Reader, here: str, digest: str, source: str, allow: tuple[str, ...]) -> Plan:
    """Plan the copy of what a mounted blob is for: the tags of the other repository that it is behind."""
    Digest(digest)
    if not source:
        raise Refused(
            "from= is missing, so the registry would mount nothing and begin an upload",
            hint="write ?mount=DIGEST&from=REPOSITORY, and put the whole URL in quotes: a shell ends a command at &",
        )
    inventory = Inventory.of(await collect(reader.client, reader.cache, [check_repository(source)]))
    rows = inventory.find(f"{source}@{digest}")
    tags = rows["tag"].dropna().to_list()
    if not tags:
        raise NotFound(f"no tag of {source} needs {digest}", hint=f"list what needs it: regnb find {digest}")
    how = f"regnb copy {source}:TAG --to {here}:TAG"
    if len(tags) > _COPIED:
        raise Refused(
            f"{len(tags):,} tags of {source} need {digest}: {names(tags)}", hint=f"copy the one you need: {how}"
        )
    plan = await plan_copy(reader, [f"{source}:{tag}" for tag in tags], f"{here}:{{tag}}", allow=allow)
    need = "1 tag needs" if len(tags) == 1 else f"{len(tags):,} tags need"
    note = f"In {source}, {need} the mounted blob: the plan copies "
    note += f"{'these images' if len(tags) > 1 else 'this image'} with all blobs and the manifest. For one tag: {how}"
    return structs.replace(plan, notes=(note, *plan.notes))


def _refused(reader: Reader, method: str, where: Target, headers: dict[str, str], body: bytes) -> Refused:
    """Say why a request is not sent, and how one who wants it all the same sends it."""
    transport = reader.client.transport
    about = {"request_headers": headers, "sent": len(body), "authorized": reader.authorized}
    curl = asked(method, f"{transport.url}{where.path}", options=transport.options, **about).curl
    if where.kind == "blobs" and method == "DELETE":
        why = "a blob that is deleted could not be put back, and every manifest that needs it would break"
        hint = "delete manifests, and the registry's garbage collection frees their blobs"
    elif where.kind == "blobs/uploads":
        why = f"{method} {where.path} begins, fills or ends an upload, which is of no use alone"
        hint = "a copy mounts or sends every blob and puts the manifest, and can be undone: plan_copy, regnb copy"
    else:
        why, hint = f"{method} {where.path} is not a request that regnb can plan", "PUT and DELETE manifests can be"
    return Refused(why, hint=f"{hint}. With curl: {curl}")

"""A request as somebody typed it, and its answer as it came."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from itertools import islice
from typing import Final

from msgspec import structs

from regnb.errors import ContentError, Denied, Refused, RegistryError, Unauthorized
from regnb.oci.manifest import ACCEPT
from regnb.text import redact
from regnb.wire.addresses import below, join
from regnb.wire.channel import Channel
from regnb.wire.exchange import READS, Answer, Target, check_headers
from regnb.wire.failures import raise_for
from regnb.wire.messages import BODY_LIMIT, Response, Streamed
from regnb.wire.pages import next_page

_HINTS: Final = {
    "NAME_UNKNOWN": "GET /v2/_catalog lists the repositories",
    "MANIFEST_UNKNOWN": "GET tags/list has the repository's tags; what is deleted, or not accepted, is not found",
    "BLOB_UNKNOWN": "the manifest names the digests of its config and layers",
    "PAGINATION_NUMBER_INVALID": "ask for fewer at once, or leave n out",
}
"""What to do about an error code, to whom asked by hand."""


async def exchanged(transport: Channel, method: str, where: Target, headers: Mapping[str, str] | None = None) -> Answer:
    """Send a GET, HEAD or OPTIONS; whatever comes is the answer, and no status is an error.

    Args:
        transport: How it gets there.
        method: One that only reads.
        where: A path of the API.
        headers: Such as Accept; by default a manifest is asked for in every type.

    Raises:
        Refused: The method could write.
        InvalidArgument: A header that is not sent.
        ConnectionFailed: There was no answer.
    """
    if method not in READS:
        raise Refused(f"{method} could write, and is not sent as it is", hint="plan_request makes a plan of it")
    scope = ("registry:catalog:*",) if where.kind else ()
    if where.repository:
        scope = (f"repository:{where.repository}:pull",)
    known = {name.title(): value for name, value in check_headers(headers).items()}
    sent = {**({"Accept": ", ".join(ACCEPT)} if where.kind == "manifests" else {}), **known}
    before = transport.sent
    try:
        async with transport.stream(method, where.path, headers=sent, scope=scope) as answer:
            body = bytearray()
            async for piece in answer.chunks:
                body += piece
                if len(body) > BODY_LIMIT:
                    break
    except (Unauthorized, Denied) as error:
        # Credentials did not settle it. What the registry said first is worth seeing, too.
        new = islice(reversed(transport.exchanges), transport.sent - before)
        if challenge := next((each for each in new if each.status == 401), None):
            return Answer(challenge, whole=False, problem=error.message, hint=error.hint)
        raise
    data = bytes(body[:BODY_LIMIT])
    return _answered(answer, transport.url, where.path, sent, data, whole=len(body) <= BODY_LIMIT)


def _answered(
    answer: Streamed, registry: str, path: str, headers: dict[str, str], body: bytes, *, whole: bool
) -> Answer:
    """Return an answer with the request that was asked for, wherever the registry redirected it to."""
    url = f"{registry}{path}"
    problem = hint = following = ""
    try:
        raise_for(Response(answer.method, url, answer.status, answer.headers, body))
    except RegistryError as error:
        problem, hint = error.message, error.hint or next(filter(None, map(_HINTS.get, error.codes)), "")
    if link := next_page(answer.headers.get("link", "")):
        with contextlib.suppress(ContentError):
            following = below(join(url, link), registry)
    exchange = structs.replace(answer.exchange, url=redact(url), request_headers=headers)
    if answer.url != url:
        exchange = structs.replace(exchange, options=(*exchange.options, "--location"))
    following = following.removeprefix(registry) if following.startswith(f"{registry}/v2/") else ""
    return Answer(exchange, body, whole, problem, hint, following)

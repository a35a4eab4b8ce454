"""What an answer is to be: refused with the error that fits where it is another."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import urlsplit

from regnb.errors import ContentError, InvalidReference, NotARegistry, RegistryError
from regnb.oci.reference import Digest
from regnb.wire.addresses import FRONT
from regnb.wire.failures import failure, raise_for
from regnb.wire.messages import Response


def expect(response: Response, registry: str, *statuses: int) -> None:
    """Refuse an answer that has none of some statuses.

    Args:
        response: The answer.
        registry: The origin that was asked.
        statuses: Those that are expected.

    Raises:
        RegistryError: Of the kind that fits.

    Example:
        >>> expect(Response("GET", "http://localhost:5000/v2/", 200, {}, b"{}"), "http://localhost:5000", 200)
    """
    if response.status not in statuses:
        refuse(response, registry)


def refuse(response: Response, registry: str) -> NoReturn:
    """Raise the error that fits an answer which was not expected.

    Raises:
        RegistryError: Of the kind that fits.
    """
    raise_for(response, registry)
    if response.html:
        raise not_a_registry(response)
    text = f"{response.method} {response.url}: the registry answered {response.status}, which makes no sense here"
    raise failure(RegistryError, response, text)


def not_a_registry(response: Response) -> NotARegistry:
    """Return the error of an answer that is a web page."""
    text = f"{response.url}: something answers, but it is not a registry"
    hint = "give the address of the registry itself, not of its web page"
    parts = urlsplit(response.url)
    if (path := parts.path.partition("/v2/")[0].strip("/")) and parts.path.endswith("/v2/"):
        hint = f"if {path} is a repository, write {parts.scheme}://{parts.netloc}, and name the repository apart"
    return failure(NotARegistry, response, text, hint=hint)


def digest_of(response: Response) -> Digest | None:
    """Return the digest that an answer announces, if it does.

    Raises:
        ContentError: It announces something else under that name.
    """
    header = response.headers.get("docker-content-digest")
    if not header:
        return None
    try:
        return Digest(header)
    except InvalidReference:
        text = f"{response.url}: the registry announced {header[:100]!r}, which is not a digest"
        raise ContentError(text, hint=FRONT) from None

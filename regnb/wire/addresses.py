"""Addresses of registries: origins, and what an answer leads to."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from regnb.errors import ContentError, InvalidArgument
from regnb.oci.reference import HUB
from regnb.oci.transports import is_place, parse
from regnb.text import redact
from regnb.wire.credentials import Credentials

FRONT: Final = "check the proxy or load balancer in front of the registry, then try again"
"""What to do about an answer that no registry gives."""
_API: Final = re.compile(r"/v[12]/?$")
_BASE: Final = re.compile(r"(?:/(?!v[12](?:/|$))[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
"""A registry's path: no part of it is empty, or a dot segment, or where the API begins."""
_HUB: Final = "https://registry-1.docker.io"


def same(one: str, other: str) -> bool:
    """Whether two URLs are of one registry, or two names of one layout.

    Raises:
        InvalidArgument: One of them is not a registry's URL.

    Example:
        >>> same("localhost:5000", "http://localhost:5000/v2/")
        True
    """
    places = [parse(name) for name in (one, other)]
    return places[0] == places[1] if any(places) else parse_registry(one)[0] == parse_registry(other)[0]


def join(base: str, given: str) -> str:
    """Return as an absolute URL what an answer from ``base`` gave as a Location or Link, without a user in it.

    Raises:
        ContentError: It is none.

    Example:
        >>> join("http://localhost:5000/v2/_catalog", "/v2/_catalog?last=b")
        'http://localhost:5000/v2/_catalog?last=b'
    """
    try:
        url = urljoin(base, given)
        parts = urlsplit(url)
        _ = parts.port  # which is where a bad port shows
    except ValueError:
        raise ContentError(f"{redact(base)}: the answer leads to a malformed URL", hint=FRONT) from None
    # Whose credentials are sent where is not for an answer to say; and aiohttp takes only one login for a request.
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def origin(url: str) -> str:
    """Return ``scheme://host[:port]`` in lower case, without the scheme's own port; of a layout its name."""
    if is_place(url):
        return url.partition("/v2/")[0]
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2].lower()
    default = ":443" if parts.scheme == "https" else ":80"
    return f"{parts.scheme}://{netloc.removesuffix(default)}"


def within(url: str, registry: str) -> bool:
    """Whether a URL is at a registry: of its origin, and below its path if it has one.

    What else lies on the same host is somebody else's: a proxy may lead each path to another server.

    Example:
        >>> within("http://h/a/v2/", "http://h/a"), within("http://h/b/v2/", "http://h/a")
        (True, False)
    """
    if is_place(registry):
        return url.startswith(f"{registry}/")
    scheme, _, rest = registry.partition("://")
    own, _, base = rest.partition("/")
    if not base and url.startswith(f"{registry}/"):
        return True  # most URLs are seen to be there at a glance
    if origin(url) != f"{scheme}://{own}":
        return False
    path = urlsplit(url).path
    steps = {unquote(step) for step in re.split(r"[/\\]", unquote(path))}
    return not base or ((path == f"/{base}" or path.startswith(f"/{base}/")) and not {".", ".."} & steps)


def below(url: str, registry: str) -> str:
    """Return an address that a registry below a path gave without its path, with the path; any other as it is.

    distribution 2.8 leaves ``http.prefix`` out of its relative addresses, and a registry cannot know of a path that the
    proxy in front of it takes away.

    Example:
        >>> below("http://h/v2/a/blobs/uploads/1?_state=x", "http://h/team")
        'http://h/team/v2/a/blobs/uploads/1?_state=x'
    """
    if is_place(registry) or within(url, registry) or origin(url) != origin(registry):
        return url
    parts, path = urlsplit(url), urlsplit(registry).path
    return parts._replace(path=f"{path}{parts.path}").geturl() if parts.path.startswith("/v2/") else url


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def parse_registry(url: str) -> tuple[str, str, Credentials | None]:
    """Return a registry's address, the same without its scheme, and the credentials that stood in the URL.

    The address is ``scheme://host[:port]``, and a path where the registry lies below one (``http.prefix`` in its
    config, or a repository manager's path for each of its registries). Docker Hub's names are one address.

    Example:
        >>> parse_registry("https://h/artifactory/api/docker/team/v2/")[:2]
        ('https://h/artifactory/api/docker/team', 'h/artifactory/api/docker/team')
    """
    text = url.strip()
    shown = repr(text.rpartition("@")[2][:200])
    hint = "write https://host, http://host:port or host:port"
    guessed = "://" not in text
    try:
        parts = urlsplit(f"//{text}" if guessed else text)
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidArgument(f"not a valid registry URL: {shown}", hint=hint) from None
    scheme = parts.scheme.lower() or ("http" if is_loopback(name) else "https")
    if scheme not in ("http", "https") or not name or any(each.isspace() for each in name):
        raise InvalidArgument(f"not a valid registry URL: {shown}", hint=hint)
    own = origin(f"{scheme}://{parts.netloc}")
    base = _API.sub("", parts.path).rstrip("/")
    if not _BASE.fullmatch(base) or parts.query or parts.fragment:
        raise InvalidArgument(
            f"the registry's URL goes on after its host: {shown}", hint=f"write {own} and name repositories apart"
        )
    if own.partition("://")[2] in HUB and not base:
        own = _HUB
    credentials = None
    if parts.username:
        credentials = Credentials(unquote(parts.username), unquote(parts.password or ""))
    return f"{own}{base}", f"{own}{base}".partition("://")[2], credentials

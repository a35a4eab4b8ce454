"""Ask a registry, without a write, whether anybody can push to it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from regnb.change.plan import once
from regnb.errors import NotFound, Refused, RegistryError
from regnb.text import names

if TYPE_CHECKING:
    from regnb.wire.client import Client

Pushes = Literal["read-only", "stopped", "writable", "not known", "elsewhere"]
_SAFE: Final = frozenset({"read-only", "stopped"})
_UPLOADS: Final = "/v2/regnb/absent/blobs/uploads/"
_READ_ONLY: Final = "REGISTRY_STORAGE_MAINTENANCE_READONLY='{\"enabled\":true}'"
_WAIT: Final = 5
"""Seconds for a connection."""
_FOREIGN: Final = (
    ("harbor", "Harbor keeps what there is in its own database: use its garbage collection"),
    ("gitlab", "GitLab keeps what there is in its own database: its registry collects garbage by itself"),
)


class Writer(NamedTuple):
    """What one endpoint says.

    Attributes:
        endpoint: Its URL.
        pushes: Whether anybody can push there; ``elsewhere`` if it is not a registry over this storage.
        how: What it answered.
    """

    endpoint: str
    pushes: Pushes
    how: str

    @property
    def sentence(self) -> str:
        """What is said of it to people.

        Example:
            >>> Writer("http://127.0.0.1:5000", "stopped", "it refuses connections").sentence
            'http://127.0.0.1:5000 refuses connections, so it counts as stopped. Check that this is its address.'
        """
        return {
            "read-only": f"{self.endpoint} is read-only.",
            "stopped": f"{self.endpoint} refuses connections, so it counts as stopped. Check that this is its address.",
            "writable": f"Somebody can push to {self.endpoint}.",
            "not known": f"It is not known whether anybody can push to {self.endpoint}: {self.how}.",
            "elsewhere": f"{self.endpoint} is not a registry over this storage: {self.how}.",
        }[self.pushes]


def is_stopped(url: str) -> bool:
    """Whether every address of an endpoint refuses connections. No proxy is asked, as it could refuse by itself.

    Example:
        >>> is_stopped("http://127.0.0.1:1")
        True
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as one:
            one.settimeout(_WAIT)
            try:
                one.connect(address)
            except ConnectionRefusedError:
                continue
            except OSError:
                return False
            return False
    return bool(addresses)


async def ask(client: Client, witness: tuple[str, str] = ("", "")) -> Writer:
    """Ask an endpoint by OPTIONS of uploads: distribution says there what it allows, and stores nothing.

    Args:
        client: Of the endpoint.
        witness: A repository of the storage and a manifest in it: what does not have it proves nothing about it.

    Raises:
        Refused: It belongs to a registry whose files do not say what there is.

    Example:
        ``(await ask(client)).pushes``
    """
    url = client.transport.url
    try:
        answer = await client.ask("OPTIONS", _UPLOADS)
    except RegistryError as error:
        return Writer(url, "not known", error.message)
    seen = [answer.headers, *(each.response_headers for each in client.transport.exchanges)]
    text = " ".join(f"{name} {value}" for headers in seen for name, value in headers.items()).lower()
    for product, hint in _FOREIGN:
        if product in text:
            raise Refused(f"{url} is not plain distribution", hint=hint)
    allowed = {word.strip().upper() for word in answer.headers.get("allow", "").split(",")} - {""}
    how = f"OPTIONS of uploads: {answer.status}, Allow: {', '.join(sorted(allowed)) or 'nothing'}"
    if answer.status != HTTPStatus.OK or "docker-distribution-api-version" not in answer.headers or not allowed:
        return Writer(url, "not known", how)
    if allowed <= {"GET", "HEAD", "OPTIONS"}:
        return await _serves(client, witness) or Writer(url, "read-only", how)
    return Writer(url, "writable", how)


async def _serves(client: Client, witness: tuple[str, str]) -> Writer | None:
    """Return None if an endpoint has what is in the storage, else what it said."""
    repository, digest = witness
    if not digest:
        return None
    try:
        await client.head_manifest(repository, digest)
    except NotFound:
        return Writer(client.transport.url, "elsewhere", f"it does not have {repository}@{digest}")
    except RegistryError as error:
        how = f"it is read-only, but did not answer for {repository}@{digest}: {error.message}"
        return Writer(client.transport.url, "not known", how)
    return None


def check(writers: Sequence[Writer]) -> None:
    """Refuse to go on unless every endpoint says that nobody can push.

    Raises:
        Refused: One does not, or none was named.

    Example:
        >>> check([Writer("http://127.0.0.1:5000", "stopped", "it refuses connections")])
    """
    open_ = [writer for writer in writers if writer.pushes not in _SAFE]
    if writers and not open_:
        return
    if not writers:
        text = "it is not known whether anybody can push: no endpoint of the registry is named"
        hint = "name the URL of every registry process (--endpoint on the command line)"
    elif other := next((writer for writer in open_ if writer.pushes == "elsewhere"), None):
        text = f"{other.endpoint} is not a registry over this storage: {other.how}"
        hint = "name the URL of every registry process over this storage; make the plan again"
    elif any(writer.pushes == "writable" for writer in open_):
        text = f"somebody can push to {names([writer.endpoint for writer in open_])}: {open_[0].how}"
        hint = f"stop the registry, or restart it with {_READ_ONLY}"
    else:
        text = f"it is not known whether anybody can push to {open_[0].endpoint}: {open_[0].how}"
        hint = "name the registry's own address, past every proxy; give credentials with docker login"
    raise Refused(text, hint=f"{hint}; {once(['writer'])}", allow=("writer",))

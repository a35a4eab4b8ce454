"""What a registry is like: its API, who may come in, what it lists, and, if that is asked for, whether it deletes."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Literal, NamedTuple, TypeAlias

from regnb.errors import InvalidReference, RegistryError, Unsupported
from regnb.oci.reference import check_repository
from regnb.wire import probe
from regnb.wire.client import Client

_NOWHERE: Final = "regnb/absent"
"""A repository to ask about where none is known; it need not be there."""


State: TypeAlias = Literal["ok", "warn", "fail", "skipped"]


class Check(NamedTuple):
    """One row: what was looked at, how it is (``ok``, ``warn``, ``fail`` or ``skipped``), in words, and what to do."""

    check: str
    state: State
    found: str
    hint: str = ""


async def health(client: Client, *, probes: bool = False) -> list[Check]:
    """Look at a registry.

    Args:
        client: Of the registry.
        probes: Whether to find out by a harmless DELETE if it deletes: of a digest and a tag that are not there.

    Raises:
        ConnectionFailed, TLSFailed, NotARegistry, Unauthorized, Denied: It cannot be talked to at all.

    Example:
        ``await health(client)``
    """
    ping = await client.ping()
    version = ping.api_version or "it answers as the OCI spec has it, without a version"
    secure = client.transport.url.startswith("https:") or client.transport.local
    if ping.reserved:
        hint = "name a repository: what it needs is asked for by itself"
        who = Check("authentication", "warn", f"nobody is let in without naming a repository: {ping.reserved}", hint)
    else:
        who = _authentication(authenticated=ping.authenticated, secure=secure)
    found = [Check("API", "ok", version), who]
    repositories: list[str] = []
    found.append(await _catalog(client, repositories))
    somewhere = next(filter(_lawful, repositories), _NOWHERE)
    found.append(await _referrers(client, somewhere))
    mirror = await probe.is_mirror(client, somewhere)
    found.append(_kind(mirror=mirror))
    found.append(await _deletion(client, somewhere, probes=probes and not mirror))
    return found


def _kind(*, mirror: bool) -> Check:
    if not mirror:
        return Check("pull-through cache", "ok", "no: it answers from its own content")
    hint = "read its storage instead of its API: each read over HTTP fills the cache"
    return Check("pull-through cache", "warn", "yes: it fetches missing images from another registry", hint)


def _lawful(repository: str) -> bool:
    """Whether a name that a registry lists is one that it may be asked about."""
    with suppress(InvalidReference):
        return bool(check_repository(repository))
    return False


def _authentication(*, authenticated: bool, secure: bool) -> Check:
    who = "the login is accepted" if authenticated else "no login is needed"
    text = f"{who}, {'with TLS or on this machine' if secure else 'without TLS'}"
    if authenticated and not secure:
        return Check("authentication", "warn", text, "passwords are sent unencrypted: put it behind https")
    if not authenticated and not secure:
        return Check("authentication", "warn", text, "everyone who can reach it can read, and may write: restrict it")
    return Check("authentication", "ok", text)


async def _catalog(client: Client, repositories: list[str]) -> Check:
    try:
        async for page in client.catalog():
            repositories += page
    except RegistryError as error:
        return Check("catalog", "warn", f"it is not listed: {error.message}", error.hint)
    repositories[:] = sorted({*repositories})
    return Check("catalog", "ok", f"{len(repositories):,} listed on all its pages")


async def _referrers(client: Client, repository: str) -> Check:
    try:
        await client.referrers(repository, probe.absent(), fallback=False)
    except Unsupported:
        return Check("referrers", "ok", "no such endpoint: signatures and SBOMs are found by their tags")
    except RegistryError as error:
        return Check("referrers", "warn", error.message, error.hint)
    return Check("referrers", "ok", "the endpoint lists signatures and SBOMs")


async def _deletion(client: Client, repository: str, *, probes: bool) -> Check:
    if not probes:
        return Check("deletion", "skipped", "not checked: that takes a DELETE for an image that does not exist")
    try:
        found = await probe.deletion(client, repository)
    except RegistryError as error:
        return Check("deletion", "fail", error.message, error.hint or "ask for the permission to delete")
    if found.tags:
        return Check("deletion", "ok", "manifests by their digest, and tags alone")
    if found.manifests:
        hint = "with --allow dummy (allow=['dummy'] in Python) a tag goes alone: the other tags and the image stay"
        return Check("deletion", "ok", "manifests by their digest, with every tag on them; no tag alone", hint)
    if found.manifests is None:
        return Check("deletion", "warn", found.reason, found.hint)
    text = "the registry is read-only" if found.read_only else "it is switched off"
    return Check("deletion", "warn", text, found.hint)

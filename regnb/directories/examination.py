"""What a registry's own API gives to a login: rows of a health check."""

from __future__ import annotations

from regnb.directories.detection import find
from regnb.directories.directory import Directory
from regnb.errors import RegnbError, Unsupported
from regnb.text import human
from regnb.wire import health as wire
from regnb.wire.client import Client
from regnb.wire.health import Check


async def health(client: Client, *, own: bool = True, probes: bool = False) -> list[Check]:
    """Look at a registry, and at its own API if it has one.

    Args:
        client: Of the registry.
        own: Whether its own API may be asked.
        probes: As for :func:`regnb.wire.health.health`.

    Raises:
        ConnectionFailed, TLSFailed, NotARegistry, Unauthorized, Denied: It cannot be talked to at all.

    Example:
        ``await health(client)``
    """
    found = await wire.health(client, probes=probes)
    directory = await find(client) if own else None
    if directory is None:
        return found
    # Nobody can set an option of distribution there.
    deletes = " and ".join(directory.deletes)
    ways = f"over the registry API; {directory.name}'s own API is for deleting {deletes}" if deletes else ""
    found = [
        row._replace(found=f"{row.found} {ways}".strip(), hint=directory.deletion)
        if row.check == "deletion" and row.state in ("warn", "fail")
        else row
        for row in found
    ]
    return [*found, *await examine(directory)]


async def examine(directory: Directory) -> list[Check]:
    """Look at a registry's own API: what it gives to this login, which rights it needs, and the quotas.

    Example:
        ``await examine(directory)``
    """
    gives = ", ".join(directory.gives)
    page: list[str] = []
    if "repositories" not in directory.gives:
        return [Check("own API", "ok", f"{directory.name}'s API gives {gives}")]
    try:
        page = await anext(directory.repositories(), page)
    except Unsupported as error:
        # It lists none to this login, and tells of those that are named.
        found = Check("own API", "ok", f"{directory.name}'s API gives {gives}; {error.message}", error.hint)
        return [found, *await _quotas(directory)]
    except RegnbError as error:
        text = f"{directory.name}'s API is not of use: {error.message}"
        return [Check("own API", "warn", text, f"{directory.rights}; until then the registry API is read")]
    if not page:
        text = f"{directory.name}'s API shows this login no repository; to others it gives {gives}"
        return [Check("own API", "warn", text, directory.rights)]
    return [Check("own API", "ok", f"{directory.name}'s API gives {gives}"), *await _quotas(directory)]


async def _quotas(directory: Directory) -> list[Check]:
    try:
        quotas = await directory.quota()
    except RegnbError as error:
        return [Check("quota", "skipped", error.message)]
    found: list[Check] = []
    for one in quotas:
        used, limit = (
            "unknown" if some is None else human(some) if one.unit == "bytes" else f"{some:,}"
            for some in (one.used, one.limit)
        )
        full = one.used is not None and one.limit is not None and one.used >= 0.9 * one.limit
        text = f"{one.what}: {used} used" + (f" of {limit}" if one.limit is not None else ", without a limit")
        hint = "free space or raise the quota" if one.unit == "bytes" else "wait, or log in with a higher limit"
        found.append(Check("quota", "warn" if full else "ok", text, hint if full else ""))
    return found

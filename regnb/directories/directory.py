"""What an adapter to a registry's own API is, and what it gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, Protocol, Self, TypeAlias

from msgspec import Struct

from regnb.directories.api import Sight
from regnb.errors import Unsupported
from regnb.oci.age import known

GROUP: Final = "regnb.directories"
"""The entry points of other packages' adapters."""

Gift: TypeAlias = Literal["repositories", "digests", "sizes", "push dates", "pull dates", "locks", "referrers", "quota"]
"""What a directory can tell."""
Removal: TypeAlias = Literal["tags", "manifests"]
"""What a directory deletes."""


class Listed(Struct, frozen=True):
    """A tag as a directory lists it.

    Attributes:
        digest: Of the manifest; "" where the directory does not say.
        size: Bytes behind it, as the vendor counts them.
        pushed: When the tag was last pushed.
        pulled: When it, or its manifest, was last pulled; None: never, or not known.
        locked: Why the registry refuses to delete or move it; "" where nothing is known of that.
        referrers: Digests of what refers to its manifest; None where the directory does not say.
    """

    tag: str
    digest: str = ""
    size: int | None = None
    pushed: datetime | None = None
    pulled: datetime | None = None
    locked: str = ""
    referrers: tuple[str, ...] | None = None


class Quota(Struct, frozen=True):
    """A limit that the registry sets.

    Attributes:
        what: What is limited: ``storage of project team``, ``pulls in 6 hours``.
        used: So much is used; None where the vendor does not say.
        limit: So much may be used; None for no limit.
        unit: ``bytes``, or what is counted.
    """

    what: str
    used: int | None
    limit: int | None
    unit: str = "bytes"


class Directory(Protocol):
    """An adapter to the API that a vendor offers beside the registry API. A method that fails raises a `RegnbError`.

    Attributes:
        name: The vendor's, as people know it.
        gives: What it can tell.
        rights: What the login must be allowed, in a sentence for people.
        deletion: What decides whether a tag can be deleted there, in a sentence for people.
        deletes: What is deleted by its own API; the rest goes over the registry API.
        final: How far a deletion can be undone, a sentence that plans show; "" where the registry's next garbage
            collection decides it.
        spare: Whether the registry counts each GET of a manifest against a limit, and no HEAD.
        whole: Whether it lists every tag that the registry has; if not, the registry is asked for their names.
    """

    name: str
    whole: bool
    gives: Sequence[Gift]
    rights: str
    deletion: str
    deletes: Sequence[Removal] = ()
    final: str = ""
    spare: bool = False

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter to a registry, or None where the ping's answer is not this vendor's."""

    def repositories(self) -> AsyncIterator[list[str]]:
        """List the repositories that the login may see, page by page, by the names that the registry API has."""

    async def tags(self, repository: str) -> list[Listed]:
        """List all tags of a repository.

        Raises:
            NotFound: There is no such repository.
        """

    async def quota(self) -> list[Quota]:
        """Return the limits that the login may see; none where there are none."""
        return []

    async def locks(self, repository: str) -> dict[str, str]:
        """Return the tags that cannot be deleted, with the reason, where :meth:`tags` does not tell."""
        _ = repository
        return {}

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag, and leave its manifest as far as the vendor does.

        Raises:
            NotFound: There is no such tag.
        """

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest with every tag on it, where ``deletes`` has ``manifests``.

        Raises:
            NotFound: There is no such manifest.
            Unsupported: The registry API does it.
        """
        raise Unsupported(f"{self.name}'s API deletes no manifests: {repository}@{digest}", hint="delete its tags")


def instant(text: object) -> datetime | None:
    """Return a date that a vendor's API gave, as text or seconds; None for null, a placeholder or a date to come.

    Harbor writes 0001-01-01 for never.

    Example:
        >>> instant("0001-01-01T00:00:00.000Z") is None, instant("2026-01-02T03:04:05Z").year
        (True, 2026)
    """
    now = datetime.now(UTC)
    if isinstance(text, datetime):
        text = text.isoformat()
    elif isinstance(text, int | float) and not isinstance(text, bool) and 0 < text < now.timestamp() * 2:
        text = datetime.fromtimestamp(text, UTC).isoformat()
    return known(text, now) if isinstance(text, str) else None

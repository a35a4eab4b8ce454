"""Harbor's API 2.0: artifacts with their tags, dates, locks and accessories, a hundred a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Self
from urllib.parse import quote

from msgspec import Struct

from regnb.directories.api import AGAIN, Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, Quota, Removal, instant
from regnb.errors import ContentError
from regnb.oci.reference import is_digest

_PAGE: Final = 100
"""The largest page_size that Harbor takes."""
_SERVICE: Final = "harbor-registry"
"""What Harbor's token server is called in each challenge."""


class _Repository(Struct):
    name: str | None = None


class _Tag(Struct):
    name: str | None = None
    push_time: str | None = None
    pull_time: str | None = None
    immutable: bool | None = None


class _Accessory(Struct):
    digest: str | None = None


class _Artifact(Struct):
    digest: str | None = None
    size: int | None = None
    tags: list[_Tag] | None = None
    accessories: list[_Accessory] | None = None
    pull_time: str | None = None


class _Reference(Struct):
    name: str | None = None


class _Quota(Struct):
    ref: _Reference | None = None
    hard: dict[str, int] | None = None
    used: dict[str, int] | None = None


class Harbor(Directory):
    """A registry that is Harbor, 2.0 or later.

    Example:
        ``listed = await Harbor(sight, api).tags("library/debian")``
    """

    name = "Harbor"
    whole = True
    gives: tuple[Gift, ...] = (
        *("repositories", "digests", "sizes", "push dates", "pull dates", "locks", "referrers", "quota"),
    )
    deletes: tuple[Removal, ...] = ("tags",)
    rights = "log in as a user or robot with the permissions to list repositories, artifacts and tags of the project"
    deletion = "give the user or robot the permission to delete tags and artifacts; immutable tags of the project stay"

    def __init__(self, api: Api) -> None:
        self._api = api

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the challenge of the ping is Harbor's."""
        if sight.service != _SERVICE:
            return None
        login = await sight.login()
        headers = {"Authorization": login.basic} if login is not None and login.username else {}
        return cls(Api(sight, cls.name, f"{sight.url}/api/v2.0", rights=cls.rights, headers=headers))

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the repositories of all projects that the login may see."""
        async for page, _ in self._api.pages("/repositories", list[_Repository], {"page_size": str(_PAGE)}):
            yield [each.name for each in page if each.name]

    async def tags(self, repository: str) -> list[Listed]:
        """List a repository's tags with the artifacts that they are on."""
        wanted = {
            "page_size": str(_PAGE),
            "with_tag": "true",
            "with_immutable_status": "true",
            "with_accessory": "true",
        }
        found: dict[str, Listed] = {}
        artifacts = total = 0
        async for page, headers in self._api.pages(_artifacts(repository), list[_Artifact], wanted):
            artifacts += len(page)
            total = int(count) if (count := headers.get("x-total-count", "")).isdecimal() else 0
            for artifact in page:
                found |= {each.tag: each for each in _listed(artifact)}
        if artifacts < total:
            raise ContentError(f"Harbor's API listed {artifacts:,} of {total:,} artifacts of {repository}", hint=AGAIN)
        return list(found.values())

    async def quota(self) -> list[Quota]:
        """Return how much storage each project may take; only administrators of the system see it."""
        found = []
        async for page, _ in self._api.pages("/quotas", list[_Quota], {"page_size": str(_PAGE)}):
            for each in page:
                limit, used = ((some or {}).get("storage") for some in (each.hard, each.used))
                name = each.ref.name if each.ref else None
                # Harbor writes -1 for no limit.
                found.append(Quota(f"storage of project {name or '?'}", used, None if limit == -1 else limit))
        return found

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag alone: its artifact stays, without a tag."""
        await self._api.delete(f"{_artifacts(repository)}/{quote(tag)}/tags/{quote(tag)}")


def _artifacts(repository: str) -> str:
    """Return the path of a repository's artifacts: slashes in its name are encoded twice, as Harbor has it."""
    project, _, name = repository.partition("/")
    return f"/projects/{quote(project)}/repositories/{quote(quote(name, safe=''), safe='')}/artifacts"


def _listed(artifact: _Artifact) -> list[Listed]:
    if not artifact.digest or not is_digest(artifact.digest):
        return []
    referrers = tuple(one.digest for one in artifact.accessories or () if one.digest and is_digest(one.digest))
    return [
        Listed(
            each.name,
            artifact.digest,
            artifact.size,
            instant(each.push_time),
            # A pull by digest counts for the artifact alone.
            max(filter(None, map(instant, (each.pull_time, artifact.pull_time))), default=None),
            "a rule of its project makes it immutable" if each.immutable else "",
            referrers,
        )
        for each in artifact.tags or ()
        if each.name
    ]

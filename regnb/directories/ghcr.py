"""GitHub's container registry: versions of packages with their tags, a hundred a request of GitHub's REST API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Self
from urllib.parse import quote

from msgspec import Struct

from regnb.directories.api import Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, Removal, instant
from regnb.errors import NotFound, Unsupported
from regnb.oci.reference import is_digest

HOST: Final = "ghcr.io"
ADDRESS: Final = "https://api.github.com"
_PAGE: Final = "100"
"""The largest per_page that GitHub takes."""
_CONTAINERS: Final = {"package_type": "container", "per_page": _PAGE}
_VERSION: Final = {"X-GitHub-Api-Version": "2022-11-28", "Accept": "application/vnd.github+json"}


class _Owner(Struct):
    login: str | None = None


class _Package(Struct):
    name: str | None = None
    owner: _Owner | None = None


class _Container(Struct):
    tags: list[str] | None = None


class _Metadata(Struct):
    container: _Container | None = None


class _Version(Struct):
    id: int | None = None
    name: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    metadata: _Metadata | None = None


class GitHub(Directory):
    """The container registry of GitHub.com. A version of a package is a manifest, and its name is the digest.

    Example:
        ``listed = await GitHub(api).tags("octocat/hello")``
    """

    name = "GitHub"
    whole = True
    gives: tuple[Gift, ...] = ("repositories", "digests", "push dates")
    deletes: tuple[Removal, ...] = ("manifests",)
    rights = (
        "log in with a personal access token (classic) with the scopes read:packages and read:org; "
        "GitHub Packages takes no other tokens"
    )
    deletion = (
        "log in with a personal access token (classic) with the scope delete:packages, as an administrator of the "
        "package; GitHub keeps public versions with more than 5,000 downloads, and a package's last version"
    )
    final = (
        "GitHub keeps a deleted version for 30 days, and its own page restores it; undo pushes the manifest again, and "
        "may find layers gone."
    )

    def __init__(self, api: Api) -> None:
        self._api = api
        self._owners: dict[str, str] = {}

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the host is GitHub's and somebody is logged in: its API tells others nothing."""
        if sight.hostname != HOST:
            return None
        login = await sight.login()
        if login is None or not login.password:
            return None
        headers = {"Authorization": f"Bearer {login.password}", **_VERSION}
        return cls(Api(sight, cls.name, ADDRESS, rights=cls.rights, headers=headers))

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the packages of the login and of its organizations."""
        async for own, _ in self._api.pages("/user/packages", list[_Package], _CONTAINERS):
            yield _names(own)
        async for organizations, _ in self._api.pages("/user/orgs", list[_Owner], {"per_page": _PAGE}):
            for each in organizations:
                path = f"/orgs/{quote(each.login or '', safe='')}/packages"
                async for packages, _ in self._api.pages(path, list[_Package], _CONTAINERS):
                    yield _names(packages)

    async def tags(self, repository: str) -> list[Listed]:
        """List the tags of a package's versions, each dated by when its version was made, or got other tags."""
        return [
            Listed(
                tag,
                each.name or "",
                pushed=max(filter(None, map(instant, (each.created_at, each.updated_at))), default=None),
            )
            for each in await self._versions(repository)
            if each.name and is_digest(each.name)
            for tag in ((each.metadata or _Metadata()).container or _Container()).tags or ()
        ]

    async def _versions(self, repository: str) -> list[_Version]:
        """Return the versions of a package, of an organization or of a user.

        Raises:
            NotFound: There is no such package, or the login does not see it.
        """
        owner = repository.partition("/")[0]
        kinds = (self._owners[owner],) if owner in self._owners else ("orgs", "users")
        for kind in kinds:
            found: list[_Version] = []
            try:
                async for page, _ in self._api.pages(
                    f"{_path(kind, repository)}/versions", list[_Version], {"per_page": _PAGE, "state": "active"}
                ):
                    found += page
            except NotFound:
                continue
            self._owners[owner] = kind
            return found
        raise NotFound(f"{self.name}'s API shows this login no package {repository}", hint=self.rights)

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Refuse: GitHub deletes versions, with all their tags.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(
            f"{self.name} deletes no single tag: {repository}:{tag}", hint="delete the digest, with all its tags"
        )

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete the version that a manifest is, with its tags."""
        number = next((each.id for each in await self._versions(repository) if each.name == digest), None)
        if number is None:
            raise NotFound(f"{self.name}'s API lists no version {digest} of {repository}", hint="make the plan again")
        path = _path(self._owners[repository.partition("/")[0]], repository)
        await self._api.delete(f"{path}/versions/{number}")


def _path(kind: str, repository: str) -> str:
    owner, _, name = repository.partition("/")
    return f"/{kind}/{quote(owner, safe='')}/packages/container/{quote(name, safe='')}"


def _names(packages: list[_Package]) -> list[str]:
    """Return packages as the registry has them: its names are in lower case."""
    return [
        f"{each.owner.login}/{each.name}".lower() for each in packages if each.name and each.owner and each.owner.login
    ]

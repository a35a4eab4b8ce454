"""Azure Container Registry's own API: tags with their digests, dates and locks, a hundred a request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final, Self
from urllib.parse import quote

from msgspec import Struct

from regnb.directories.api import Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, Removal, instant
from regnb.oci.reference import is_digest

_HOST: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.azurecr\.(io|cn|us)")
_PAGE: Final = "100"
_CATALOG: Final = ("registry:catalog:*",)
_LOCKED: Final = "az acr repository show says how"


class _Catalog(Struct):
    repositories: list[str] | None = None


class _Attributes(Struct, rename="camel"):
    delete_enabled: bool | None = None
    write_enabled: bool | None = None

    @property
    def locked(self) -> bool:
        """Whether it cannot be deleted: what cannot be written cannot be, either."""
        return self.delete_enabled is False or self.write_enabled is False


class _Tag(Struct, rename="camel"):
    name: str | None = None
    digest: str | None = None
    last_update_time: str | None = None
    changeable_attributes: _Attributes | None = None


class _Tags(Struct):
    tags: list[_Tag] | None = None


class _Manifest(Struct, rename="camel"):
    tags: list[str] | None = None
    changeable_attributes: _Attributes | None = None


class _Manifests(Struct):
    manifests: list[_Manifest] | None = None


class _Repository(Struct, rename="camel"):
    changeable_attributes: _Attributes | None = None


class AzureRegistry(Directory):
    """A registry of Azure. Its API takes the registry's own login.

    Example:
        ``listed = await AzureRegistry(api).tags("team/app")``
    """

    name = "Azure Container Registry"
    whole = True
    gives: tuple[Gift, ...] = ("repositories", "digests", "push dates", "locks")
    deletes: tuple[Removal, ...] = ("tags",)
    rights = "log in with the role AcrPull, or with a token whose scope map has metadata/read"
    deletion = (
        "log in with the role AcrDelete, or with a token whose scope map has content/delete; what is locked stays"
    )
    final = (
        "Azure removes the layers of a deleted manifest by itself, unless soft delete is on: undo may find them gone, "
        "so take the deletion of a manifest as final."
    )

    def __init__(self, api: Api) -> None:
        self._api = api

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the host, or the service of the ping's challenge, is Azure's."""
        if not any(_HOST.fullmatch(name) for name in (sight.hostname, sight.service)):
            return None
        return cls(Api(sight, cls.name, f"{sight.url}/acr/v1", rights=cls.rights))

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the registry's repositories."""
        async for page, _ in self._api.pages("/_catalog", _Catalog, {"n": _PAGE}, _CATALOG):
            yield page.repositories or []

    async def tags(self, repository: str) -> list[Listed]:
        """List a repository's tags; each is dated by when it was last set."""
        return [
            Listed(
                each.name,
                each.digest if each.digest and is_digest(each.digest) else "",
                pushed=instant(each.last_update_time),
                locked=f"it is locked: {_LOCKED}"
                if each.changeable_attributes and each.changeable_attributes.locked
                else "",
            )
            async for page, _ in self._api.pages(f"/{repository}/_tags", _Tags, {"n": _PAGE}, _reading(repository))
            for each in page.tags or ()
            if each.name
        ]

    async def locks(self, repository: str) -> dict[str, str]:
        """Return the tags whose manifest, or whose repository, is locked: they do not tell of that themselves."""
        scope = _reading(repository)
        about = (await self._api.get(f"/{repository}", _Repository, scope=scope)).changeable_attributes
        everything = about is not None and about.locked
        return {
            tag: f"its repository is locked: {_LOCKED}" if everything else f"its manifest is locked: {_LOCKED}"
            async for page, _ in self._api.pages(f"/{repository}/_manifests", _Manifests, {"n": _PAGE}, scope)
            for each in page.manifests or ()
            if everything or (each.changeable_attributes is not None and each.changeable_attributes.locked)
            for tag in each.tags or ()
        }

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag; its manifest stays."""
        path = f"/{repository}/_tags/{quote(tag, safe='')}"
        await self._api.delete(path, scope=(f"repository:{repository}:delete",))


def _reading(repository: str) -> tuple[str, ...]:
    return (f"repository:{repository}:metadata_read",)

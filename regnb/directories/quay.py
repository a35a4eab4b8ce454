"""Quay's API: tags with their digests and dates, a hundred a request; of Quay.io, or one's own Quay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Self

from msgspec import Struct

from regnb.directories.api import AGAIN, Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, Removal, instant
from regnb.errors import ContentError
from regnb.oci.reference import is_digest
from regnb.wire.pages import PAGE_LIMIT

_TOKENS: Final = "/v2/auth"
"""Where Quay's token server lies, at the registry itself."""
_OAUTH: Final = "$oauthtoken"
"""The user name with which an OAuth access token is logged in, which opens the API, too."""
_LIMIT: Final = "100"


class _Organization(Struct):
    name: str | None = None


class _User(Struct):
    username: str | None = None
    organizations: list[_Organization] | None = None


class _Repository(Struct):
    namespace: str | None = None
    name: str | None = None
    kind: str | None = None


class _Repositories(Struct):
    repositories: list[_Repository] | None = None
    next_page: str | None = None


class _Tag(Struct):
    name: str | None = None
    manifest_digest: str | None = None
    size: int | None = None
    start_ts: int | None = None
    immutable: bool | None = None


class _Tags(Struct):
    tags: list[_Tag] | None = None
    has_additional: bool | None = None


class Quay(Directory):
    """A Quay. A login with an OAuth access token opens the whole API, and any other one what is public.

    Example:
        ``listed = await Quay(api).tags("team/app")``
    """

    name = "Quay"
    whole = True
    gives: tuple[Gift, ...] = ("repositories", "digests", "sizes", "push dates", "locks")
    deletes: tuple[Removal, ...] = ("tags",)
    rights = (
        f"log in as the user {_OAUTH} with an OAuth access token of an application that may repo:read and user:read as "
        "password; robots and passwords open the API for public repositories alone"
    )
    deletion = f"log in as the user {_OAUTH} with an OAuth access token that may repo:write; immutable tags stay"
    final = (
        "Quay keeps a deleted tag for the time machine's period (two weeks, unless it was changed), and its own page "
        "restores it; so does undo."
    )

    def __init__(self, api: Api) -> None:
        self._api = api

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the ping's challenge is Quay's."""
        if not sight.realm.endswith(_TOKENS) or not sight.transport.owns(sight.realm):
            return None
        login = await sight.login()
        token = login.password if login is not None and login.username == _OAUTH else ""
        # An empty one keeps the registry's own token away, with which the API can do nothing.
        headers = {"Authorization": f"Bearer {token}" if token else ""}
        return cls(Api(sight, cls.name, f"{sight.url}/api/v1", rights=cls.rights, headers=headers))

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the repositories of the login and of its organizations."""
        user = await self._api.get("/user/", _User)
        for namespace in filter(None, (user.username, *(each.name for each in user.organizations or ()))):
            wanted = {"namespace": namespace}
            for _ in range(PAGE_LIMIT):
                page = await self._api.get("/repository", _Repositories, wanted)
                yield [
                    f"{each.namespace or namespace}/{each.name}"
                    for each in page.repositories or ()
                    if each.name and each.kind in (None, "image")
                ]
                if not page.next_page or page.next_page == wanted.get("next_page"):
                    break
                wanted["next_page"] = page.next_page

    async def tags(self, repository: str) -> list[Listed]:
        """List a repository's tags; each is dated by when it was set."""
        found: list[Listed] = []
        for number in range(1, PAGE_LIMIT):
            wanted = {"limit": _LIMIT, "page": str(number), "onlyActiveTags": "true"}
            page = await self._api.get(f"/repository/{repository}/tag/", _Tags, wanted)
            found += [
                Listed(
                    each.name,
                    each.manifest_digest if each.manifest_digest and is_digest(each.manifest_digest) else "",
                    each.size,
                    instant(each.start_ts),
                    locked="it is immutable" if each.immutable else "",
                )
                for each in page.tags or ()
                if each.name
            ]
            if not page.has_additional:
                return found
        raise ContentError(f"the pages of {self.name}'s API do not end: the tags of {repository}", hint=AGAIN)

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag; with its last tag a manifest can be pulled no more."""
        await self._api.delete(f"/repository/{repository}/tag/{tag}")

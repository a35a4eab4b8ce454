"""Docker Hub's API: tags with their digests and the dates of pushes and pulls, a hundred a request."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Final, Self, TypeVar
from urllib.parse import quote

import anyio
from msgspec import Struct

from regnb.directories.api import AGAIN, Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, Quota, Removal, instant
from regnb.errors import ContentError, Unsupported
from regnb.oci.reference import HUB, is_digest
from regnb.wire.client import CATALOG_HINT
from regnb.wire.pages import PAGE_LIMIT

HOSTS = HUB
ADDRESS: Final = "https://hub.docker.com"
_PAGE: Final = 100
"""The largest page_size that Docker Hub takes."""
_LASTING: Final = 300.0
"""Seconds for which a token of the API is used: Docker calls it short-lived, and does not say more."""
_PREVIEW: Final = "ratelimitpreview/test"
"""The repository that Docker offers for looking at the limit of pulls; a HEAD there counts as no pull."""
_LIMIT: Final = re.compile(r"\s*(\d+)\s*(?:;\s*w\s*=\s*(\d+))?")
_T = TypeVar("_T")


class _Token(Struct):
    access_token: str | None = None


class _Repository(Struct):
    name: str | None = None
    namespace: str | None = None


class _Repositories(Struct):
    results: list[_Repository] | None = None
    next: str | None = None


class _Tag(Struct):
    name: str | None = None
    digest: str | None = None
    full_size: int | None = None
    tag_last_pushed: str | None = None
    tag_last_pulled: str | None = None


class _Tags(Struct):
    count: int | None = None
    next: str | None = None
    results: list[_Tag] | None = None


class _Immutable(Struct):
    enabled: bool | None = None
    rules: list[str] | None = None


class _Settings(Struct):
    immutable_tags_settings: _Immutable | None = None


class Hub(Directory):
    """Docker Hub. Its API is at another host than the registry, and takes the same login.

    Args:
        sight: Of the registry.

    Example:
        ``listed = await Hub(sight).tags("library/debian")``
    """

    name = "Docker Hub"
    whole = True
    gives: tuple[Gift, ...] = ("repositories", "digests", "sizes", "push dates", "pull dates", "locks", "quota")
    deletes: tuple[Removal, ...] = ("tags",)
    spare = True
    rights = "log in (docker login) with a personal or organization access token that may read the repositories"
    deletion = "log in with an access token with the scope Read, Write, Delete; immutable tags stay"
    final = (
        "Docker Hub does not say how long it keeps the layers of a deleted image: undo pushes the manifest again, and "
        "may find them gone."
    )

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._api: Api | None = None
        self._until = 0.0
        self._turn = anyio.Lock()

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the host is one of Docker Hub's."""
        return cls(sight) if sight.hostname in HOSTS else None

    async def _opened(self) -> Api:
        """Return the API with a token for the login, if there is one: what is public needs none."""
        async with self._turn:
            if self._api is None or time.monotonic() >= self._until:
                self._api, self._until = await self._open(), time.monotonic() + _LASTING
            return self._api

    async def _open(self) -> Api:
        api = Api(self._sight, self.name, ADDRESS, rights=self.rights)
        login = await self._sight.login()
        # To log in is a POST, which is not sent where nothing may be written.
        if login is None or not login.username or not login.password or self._sight.transport.read_only:
            return api
        wanted = {"identifier": login.username, "secret": login.password}
        token = (await api.post("/v2/auth/token", wanted, _Token)).access_token
        if not token or not (token.isascii() and token.isprintable()):
            raise ContentError(f"{self.name}'s API gave no token", hint=AGAIN)
        headers = {"Authorization": f"Bearer {token}"}
        return Api(self._sight, self.name, ADDRESS, rights=self.rights, headers=headers)

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the repositories of the login's own namespace: Docker Hub lists no others.

        Raises:
            Unsupported: Nobody is logged in.
        """
        login = await self._sight.login()
        if login is None or not login.username:
            raise Unsupported(f"{self.name} lists repositories only after a login", hint=CATALOG_HINT)
        path = f"/v2/namespaces/{quote(login.username, safe='')}/repositories"
        async for page in self._pages(path, _Repositories):
            yield [f"{each.namespace or login.username}/{each.name}" for each in page.results or () if each.name]

    async def tags(self, repository: str) -> list[Listed]:
        """List a repository's tags."""
        found: dict[str, Listed] = {}
        count = 0
        async for page in self._pages(f"{_path(repository)}/tags", _Tags):
            count = max(count, page.count or 0)
            found |= {
                each.name: Listed(
                    each.name,
                    each.digest if each.digest and is_digest(each.digest) else "",
                    each.full_size,
                    instant(each.tag_last_pushed),
                    instant(each.tag_last_pulled),
                )
                for each in page.results or ()
                if each.name
            }
        if len(found) < count:
            raise ContentError(f"{self.name}'s API listed {len(found):,} of {count:,} tags of {repository}", hint=AGAIN)
        return list(found.values())

    async def _pages(self, path: str, type_: type[_T]) -> AsyncIterator[_T]:
        for number in range(1, PAGE_LIMIT):
            api = await self._opened()
            page = await api.get(path, type_, {"page_size": str(_PAGE), "page": str(number)})
            yield page
            if not getattr(page, "next", None):
                return
        raise ContentError(f"{self.name}'s API does not end its pages: {path}", hint=AGAIN)

    async def locks(self, repository: str) -> dict[str, str]:
        """Return the tags that the repository's rules make immutable."""
        api = await self._opened()
        settings = (await api.get(_path(repository), _Settings)).immutable_tags_settings
        if settings is None or not settings.enabled:
            return {}
        names = [each.tag for each in await self.tags(repository)]
        fitting = {tag for rule in settings.rules or () for tag in _fitting(rule, names)}
        return dict.fromkeys(sorted(fitting), "its repository's settings make it immutable")

    async def quota(self) -> list[Quota]:
        """Return how many pulls are left, by a HEAD that counts as none; none for a login without a limit."""
        answer = await self._sight.transport.request(
            "HEAD", f"/v2/{_PREVIEW}/manifests/latest", scope=(f"repository:{_PREVIEW}:pull",)
        )
        limit, left = (_LIMIT.match(answer.headers.get(f"ratelimit-{name}", "")) for name in ("limit", "remaining"))
        if limit is None or left is None:
            return []
        hours = int(limit[2] or 0) / 3600
        most = int(limit[1])
        what = f"pulls in {hours:g} hours" if hours else "pulls"
        return [Quota(what, max(0, most - int(left[1])), most, "pulls")]

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag; its manifest stays until it is deleted over the registry API, which takes untagged ones."""
        await (await self._opened()).delete(f"/v2/repositories/{_plain(repository)}/tags/{quote(tag, safe='')}/")


def _plain(repository: str) -> str:
    return repository if "/" in repository else f"library/{repository}"


def _path(repository: str) -> str:
    namespace, _, name = _plain(repository).partition("/")
    return f"/v2/namespaces/{quote(namespace, safe='')}/repositories/{quote(name, safe='')}"


def _fitting(rule: str, tags: list[str]) -> list[str]:
    """Return the tags that a rule fits as a whole; none where it is not valid.

    Docker writes rules in the syntax of RE2, which answers in linear time whatever the rule is.
    """
    import pyarrow as pa  # an adapter that is looked for loads no arrays
    from pyarrow import compute

    try:
        fits = compute.match_substring_regex(pa.array(tags, pa.string()), f"^(?:{rule})$").to_pylist()
    except pa.ArrowInvalid:
        return []
    return [tag for tag, fit in zip(tags, fits, strict=True) if fit]

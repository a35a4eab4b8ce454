"""GitLab's GraphQL API: container repositories of the projects, and their tags, a hundred a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Self
from urllib.parse import quote

from msgspec import Struct

from regnb.directories.api import AGAIN, Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, Removal, instant
from regnb.errors import ContentError, NotFound, Unsupported
from regnb.oci.reference import is_digest
from regnb.wire.pages import PAGE_LIMIT

_TOKENS: Final = "/jwt/auth"
"""Where GitLab's token server lies, below the address of GitLab itself."""
_GRAPH: Final = "/api/graphql"
_OPTIONAL: Final = ("publishedAt", "protection { immutable }")
"""Fields of a tag that not every version knows."""
_PROJECTS: Final = """query($after: String) { projects(membership: true, first: 50, after: $after) {
nodes { fullPath containerRepositories(first: 100) { nodes { id path } pageInfo { hasNextPage endCursor } } }
pageInfo { hasNextPage endCursor } } }"""
_PROJECT: Final = """query($path: ID!, $after: String) { project(fullPath: $path) {
containerRepositories(first: 100, after: $after) { nodes { id path } pageInfo { hasNextPage endCursor } } } }"""
_TAGS: Final = """query($id: ContainerRepositoryID!, $after: String) { containerRepository(id: $id) {
tags(first: 100, after: $after) { nodes { name digest totalSize %s } pageInfo { hasNextPage endCursor } } } }"""


class _Page(Struct, rename="camel"):
    has_next_page: bool | None = None
    end_cursor: str | None = None


class _Repository(Struct):
    id: str | None = None
    path: str | None = None


class _Repositories(Struct, rename="camel"):
    nodes: list[_Repository | None] | None = None
    page_info: _Page | None = None


class _Project(Struct, rename="camel"):
    full_path: str | None = None
    container_repositories: _Repositories | None = None


class _Projects(Struct, rename="camel"):
    nodes: list[_Project | None] | None = None
    page_info: _Page | None = None


class _OfProjects(Struct):
    projects: _Projects | None = None


class _OfProject(Struct):
    project: _Project | None = None


class _Protection(Struct):
    immutable: bool | None = None


class _Tag(Struct, rename="camel"):
    name: str | None = None
    digest: str | None = None
    total_size: int | None = None
    published_at: str | None = None
    protection: _Protection | None = None


class _Tags(Struct, rename="camel"):
    nodes: list[_Tag | None] | None = None
    page_info: _Page | None = None


class _Details(Struct):
    tags: _Tags | None = None


class _OfRepository(Struct, rename="camel"):
    container_repository: _Details | None = None


class GitLab(Directory):
    """The container registry of a GitLab: GitLab.com, or one's own.

    Example:
        ``listed = await GitLab(sight, api).tags("group/project/image")``
    """

    name = "GitLab"
    whole = True
    gives: tuple[Gift, ...] = ("repositories", "digests", "sizes", "push dates", "locks")
    deletes: tuple[Removal, ...] = ("tags",)
    rights = (
        "log in with a personal, group or project access token that has the scope read_api (api to delete tags); "
        "deploy tokens and job tokens do not open this API"
    )
    deletion = "log in with a token that has the scope api, of a Developer or higher; protected tags stay"
    final = (
        "Where GitLab's registry has a database, as on GitLab.com, it collects garbage by itself, about a day after an "
        "image lost its last tag: undo works until then."
    )

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, tuple[str, str]] = {}
        self._fields: tuple[str, ...] = _OPTIONAL

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the ping's challenge is that of GitLab's registry."""
        if sight.service != "container_registry" or not sight.realm.endswith(_TOKENS):
            return None
        login = await sight.login()
        headers = {"Authorization": f"Bearer {login.password}"} if login is not None and login.password else {}
        return cls(Api(sight, cls.name, sight.realm.removesuffix(_TOKENS), rights=cls.rights, headers=headers))

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the repositories of the projects that the login is a member of."""
        after: str | None = None
        for _ in range(PAGE_LIMIT):
            found = (await self._api.ask(_GRAPH, _PROJECTS, _OfProjects, {"after": after})).projects or _Projects()
            for project in filter(None, found.nodes or ()):
                listed = project.container_repositories or _Repositories()
                names = self._keep(project.full_path or "", listed)
                if _next(listed.page_info):
                    names += await self._of_project(project.full_path or "", _next(listed.page_info))
                yield names
            following = _next(found.page_info)
            if not following or following == after:
                return
            after = following

    def _keep(self, project: str, listed: _Repositories) -> list[str]:
        some = {each.path: (project, each.id) for each in filter(None, listed.nodes or ()) if each.path and each.id}
        self._known |= some
        return list(some)

    async def _of_project(self, path: str, after: str | None = None) -> list[str]:
        names: list[str] = []
        for _ in range(PAGE_LIMIT):
            found = (await self._api.ask(_GRAPH, _PROJECT, _OfProject, {"path": path, "after": after})).project
            listed = (found.container_repositories if found else None) or _Repositories()
            names += self._keep(path, listed)
            following = _next(listed.page_info)
            if not following or following == after:
                break
            after = following
        return names

    async def _id(self, repository: str) -> tuple[str, str]:
        """Return the project of a repository, and the repository's own number there."""
        parts = repository.split("/")
        # A project's path has two parts or more, and the image's name may have none.
        for length in range(len(parts), 1, -1):
            if repository in self._known:
                break
            await self._of_project("/".join(parts[:length]))
        if repository not in self._known:
            raise NotFound(f"GitLab's API has no repository {repository}", hint=self.rights)
        return self._known[repository]

    async def tags(self, repository: str) -> list[Listed]:
        """List a repository's tags with their digests, and when they were published where GitLab's database knows."""
        _, number = await self._id(repository)
        found: list[Listed] = []
        after: str | None = None
        for _ in range(PAGE_LIMIT):
            page = await self._page(number, after)
            found += [each for tag in filter(None, page.nodes or ()) if (each := _listed(tag)) is not None]
            following = _next(page.page_info)
            if not following:
                return found
            if following == after:
                break
            after = following
        raise ContentError(f"the pages of GitLab's API do not end: the tags of {repository}", hint=AGAIN)

    async def _page(self, number: str, after: str | None) -> _Tags:
        while True:
            try:
                text = _TAGS % " ".join(self._fields)
                found = await self._api.ask(_GRAPH, text, _OfRepository, {"id": number, "after": after})
            except Unsupported as error:
                # An older GitLab names the field that it does not know.
                known = tuple(each for each in self._fields if each.split()[0] not in error.message)
                if known == self._fields:
                    raise
                self._fields = known
            else:
                if found.container_repository is None:
                    raise NotFound(f"GitLab's API shows no repository {number} to this login", hint=self.rights)
                return found.container_repository.tags or _Tags()

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag; its manifest stays until the registry's own garbage collection."""
        project, number = await self._id(repository)
        where = f"/api/v4/projects/{quote(project, safe='')}/registry/repositories/{number.rpartition('/')[2]}"
        await self._api.delete(f"{where}/tags/{quote(tag, safe='')}")


def _next(page: _Page | None) -> str | None:
    return page.end_cursor if page is not None and page.has_next_page else None


def _listed(tag: _Tag) -> Listed | None:
    if not tag.name:
        return None
    digest = tag.digest if tag.digest and is_digest(tag.digest) else ""
    locked = (
        "a protection rule of its project makes it immutable" if tag.protection and tag.protection.immutable else ""
    )
    return Listed(tag.name, digest, tag.total_size, instant(tag.published_at), locked=locked)

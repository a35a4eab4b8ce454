"""zot's search extension: the images of a repository with digests, and when they were pushed and pulled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Self

from msgspec import Struct, field

from regnb.directories.api import AGAIN, Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, instant
from regnb.errors import ContentError
from regnb.oci.reference import is_digest

_DISCOVER: Final = "/v2/_oci/ext/discover"
_SEARCH: Final = "/v2/_zot/ext/search"
_LIMIT: Final = 500
"""Images, or repositories, on a page."""
_OPTIONAL: Final = ("PushTimestamp", "TaggedTimestamp", "LastPullTimestamp")
"""Fields of an image that not every version has."""
_FIELDS: Final = '{ __type(name: "ImageSummary") { fields { name } } }'
_REPOSITORIES: Final = """query($limit: Int, $offset: Int) {
RepoListWithNewestImage(requestedPage: {limit: $limit, offset: $offset}) { Page { TotalCount } Results { Name } } }"""
_IMAGES: Final = """query($repo: String!, $limit: Int, $offset: Int) {
ImageList(repo: $repo, requestedPage: {limit: $limit, offset: $offset}) {
Page { TotalCount } Results { Tag Digest Size %s } } }"""


class _Extension(Struct):
    name: str | None = None
    endpoints: list[str] | None = None


class _Extensions(Struct):
    extensions: list[_Extension] | None = None


class _Field(Struct):
    name: str | None = None


class _Type(Struct):
    fields: list[_Field] | None = None


class _OfType(Struct):
    type: _Type | None = field(default=None, name="__type")


class _Page(Struct, rename="pascal"):
    total_count: int = 0


class _Repository(Struct, rename="pascal"):
    name: str | None = None


class _Repositories(Struct, rename="pascal"):
    page: _Page | None = None
    results: list[_Repository] | None = None


class _OfRepositories(Struct, rename="pascal"):
    repo_list_with_newest_image: _Repositories | None = None


class _Image(Struct, rename="pascal"):
    tag: str | None = None
    digest: str | None = None
    size: int | None = None
    push_timestamp: str | None = None
    tagged_timestamp: str | None = None
    last_pull_timestamp: str | None = None


class _Images(Struct, rename="pascal"):
    page: _Page | None = None
    results: list[_Image] | None = None


class _OfImages(Struct, rename="pascal"):
    image_list: _Images | None = None


class Zot(Directory):
    """A zot with the search extension. Signatures' tags are not among its images, so the registry lists the names.

    Example:
        ``listed = await Zot(api).tags("team/app")``
    """

    name = "zot"
    whole = False
    gives: tuple[Gift, ...] = ("repositories", "digests", "sizes", "push dates", "pull dates")
    rights = "log in as a user whom accessControl allows to read the repository"
    deletion = "allow the action delete to the user in accessControl"
    final = "zot collects garbage by itself (storage.gcDelay, one hour unless it is set): undo works until then."

    def __init__(self, api: Api) -> None:
        self._api = api
        self._fields: tuple[str, ...] | None = None

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the ping was answered with an empty body, as zot does, and it has the extension."""
        if sight.size != 0 or not sight.headers.get("docker-distribution-api-version"):
            return None
        api = Api(sight, cls.name, sight.url, rights=cls.rights)
        found = await api.get(_DISCOVER, _Extensions)
        offered = {point for each in found.extensions or () for point in each.endpoints or ()}
        return cls(api) if _SEARCH in offered else None

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the repositories that have an image."""
        offset = 0
        while True:
            found = await self._api.ask(_SEARCH, _REPOSITORIES, _OfRepositories, {"limit": _LIMIT, "offset": offset})
            page = found.repo_list_with_newest_image or _Repositories()
            rows = page.results or []
            yield [each.name for each in rows if each.name]
            offset += len(rows)
            if not rows or offset >= (page.page or _Page()).total_count:
                return

    async def tags(self, repository: str) -> list[Listed]:
        """List the images of a repository by their tags."""
        if self._fields is None:
            found = (await self._api.ask(_SEARCH, _FIELDS, _OfType)).type or _Type()
            known = {each.name for each in found.fields or ()}
            self._fields = tuple(each for each in _OPTIONAL if each in known)
        text = _IMAGES % " ".join(self._fields)
        images: list[_Image] = []
        while True:
            wanted = {"repo": repository, "limit": _LIMIT, "offset": len(images)}
            page = (await self._api.ask(_SEARCH, text, _OfImages, wanted)).image_list or _Images()
            rows = page.results or []
            images += rows
            total = (page.page or _Page()).total_count
            if len(images) >= total:
                break
            if not rows:
                raise ContentError(f"zot's API listed {len(images):,} of {total:,} images of {repository}", hint=AGAIN)
        return [
            Listed(
                each.tag,
                each.digest if each.digest and is_digest(each.digest) else "",
                each.size,
                instant(each.tagged_timestamp) or instant(each.push_timestamp),
                instant(each.last_pull_timestamp),
            )
            for each in images
            if each.tag
        ]

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag, as the registry API of zot does."""
        await self._api.delete(f"/v2/{repository}/manifests/{tag}", scope=(f"repository:{repository}:delete",))

"""Google's Artifact Registry and Container Registry: their list of tags has the digests, sizes and dates in it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final, Self

from msgspec import Struct

from regnb.directories.api import AGAIN, Api, Sight
from regnb.directories.directory import Directory, Gift, Listed, instant
from regnb.errors import ContentError, Unsupported
from regnb.oci.reference import is_digest
from regnb.wire.client import CATALOG_HINT

_HOSTS: Final = re.compile(r"(.+\.)?gcr\.io|.+\.pkg\.dev")


class _Manifest(Struct, rename="camel"):
    image_size_bytes: int | None = None
    tag: list[str] | None = None
    time_uploaded_ms: float | None = None


class _List(Struct):
    tags: list[str] | None = None
    manifest: dict[str, _Manifest] | None = None


class ArtifactRegistry(Directory):
    """A registry of Google Cloud. That it dates is the upload of a manifest, not of each tag on it.

    Example:
        ``listed = await ArtifactRegistry(api).tags("project/repository/image")``
    """

    name = "Artifact Registry"
    whole = True
    gives: tuple[Gift, ...] = ("digests", "sizes", "push dates")
    rights = "log in with the role Artifact Registry Reader (roles/artifactregistry.reader)"
    deletion = "log in with the role Artifact Registry Repository Administrator; immutable tags of the repository stay"
    final = (
        "Google removes the layers of a deleted image by itself and does not say when: undo may find them gone, so "
        "take the deletion of an image as final."
    )

    def __init__(self, api: Api) -> None:
        self._api = api

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the registry, or the service of its challenge, is Google's."""
        if not any(_HOSTS.fullmatch(name) for name in (sight.hostname, sight.service)):
            return None
        return cls(Api(sight, cls.name, sight.url, rights=cls.rights))

    async def repositories(self) -> AsyncIterator[list[str]]:
        """Refuse: a registry of Google's lists what is below a project alone.

        Raises:
            Unsupported: Always.
        """
        raise Unsupported(f"{self.name} does not list its repositories", hint=CATALOG_HINT)
        yield []

    async def tags(self, repository: str) -> list[Listed]:
        """List a repository's tags; each manifest names its own."""
        named: dict[str, None] = {}
        found: dict[str, Listed] = {}
        scope = (f"repository:{repository}:pull",)
        async for page, _ in self._api.pages(f"/v2/{repository}/tags/list", _List, scope=scope):
            if page.manifest is None and page.tags:
                raise ContentError(f"{self.name} lists the tags of {repository} without their manifests", hint=AGAIN)
            named |= dict.fromkeys(page.tags or ())
            for digest, about in (page.manifest or {}).items():
                pushed = instant(about.time_uploaded_ms / 1000) if about.time_uploaded_ms else None
                for tag in about.tag or () if is_digest(digest) else ():
                    found[tag] = Listed(tag, digest, about.image_size_bytes, pushed)
        return [found.get(tag) or Listed(tag) for tag in {**named, **found}]

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag, as this registry's own API does it."""
        await self._api.delete(f"/v2/{repository}/manifests/{tag}", scope=(f"repository:{repository}:delete",))

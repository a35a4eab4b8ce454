"""Amazon ECR: its images with their tags and the dates of pushes and pulls, a thousand a request, by botocore."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from functools import cached_property
from typing import Any, Final, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

from anyio.to_thread import run_sync

from regnb.directories.api import AGAIN, Sight
from regnb.directories.directory import Directory, Gift, Listed, Removal, instant
from regnb.errors import ConnectionFailed, Denied, MissingExtra, NotFound, RateLimited, RegistryError, Unauthorized
from regnb.oci.reference import is_digest

_HOST: Final = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_PAGE: Final = 1000
_KINDS: Final[dict[str, type[RegistryError]]] = {
    "ImageNotFoundException": NotFound,
    "AccessDeniedException": Denied,
    "RepositoryNotFoundException": NotFound,
    "ThrottlingException": RateLimited,
    "TooManyRequestsException": RateLimited,
    "UnrecognizedClientException": Unauthorized,
    "ExpiredTokenException": Unauthorized,
}
_T = TypeVar("_T")
Row: TypeAlias = dict[str, Any]
"""What botocore makes of an answer."""


class ECR(Directory):
    """The private registry of an AWS account in one region.

    AWS's own credentials are used, as its command line finds them: the registry's login does not open this API.

    Args:
        account: The registry's.
        region: Such as ``eu-central-1``.
    """

    name = "Amazon ECR"
    whole = True
    gives: tuple[Gift, ...] = ("repositories", "digests", "sizes", "push dates", "pull dates")
    deletes: tuple[Removal, ...] = ("tags", "manifests")
    rights = "AWS credentials that allow ecr:DescribeRepositories, ecr:DescribeImages (ecr:BatchDeleteImage to delete)"
    deletion = "allow ecr:BatchDeleteImage to the AWS credentials; with its last tag an image goes, too"
    final = (
        "Amazon ECR removes the layers of a deleted image by itself and does not say when: undo may find them gone, so "
        "take the deletion of an image as final."
    )

    def __init__(self, account: str, region: str) -> None:
        self._account, self._region = account, region

    @classmethod
    async def of(cls, sight: Sight) -> Self | None:
        """Return the adapter if the host, or the realm of the ping's challenge, is that of an ECR."""
        realm = sight.challenge.parameters.get("realm", "") if sight.challenge else ""
        named = (
            (sight.hostname, urlsplit(realm).hostname or "")
            if sight.service == "ecr.amazonaws.com"
            else (sight.hostname,)
        )
        found = next(filter(None, map(_HOST.fullmatch, named)), None)
        return cls(found[1], found[2]) if found else None

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 -- botocore makes its classes as it runs
        try:
            from botocore.session import get_session
        except ImportError as error:
            raise MissingExtra(error.name or "botocore", "ecr") from error
        return get_session().create_client("ecr", region_name=self._region)

    async def _run(self, work: Callable[[], _T]) -> _T:
        """Call botocore in a thread; its errors become regnb's."""
        return await run_sync(self._called, work, abandon_on_cancel=True)

    def _called(self, work: Callable[[], _T]) -> _T:
        client = self._client
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        _ = client
        try:
            return work()
        except ClientError as error:
            about = error.response.get("Error", {})
            kind = _KINDS.get(code := str(about.get("Code", "")), RegistryError)
            hint = self.rights if kind in (Denied, Unauthorized) else ""
            raise kind(f"{self.name}'s API answers {code}: {about.get('Message', '')}", hint=hint) from None
        except NoCredentialsError:
            raise Unauthorized(f"there are no AWS credentials for {self.name}'s API", hint=self.rights) from None
        except BotoCoreError as error:
            raise ConnectionFailed(f"{self.name}'s API does not answer: {error}", hint=AGAIN) from None

    def _pages(self, operation: str, **wanted: object) -> list[Row]:
        pages: Iterable[Row] = self._client.get_paginator(operation).paginate(
            registryId=self._account, PaginationConfig={"PageSize": _PAGE}, **wanted
        )
        return list(pages)

    async def repositories(self) -> AsyncIterator[list[str]]:
        """List the registry's repositories."""
        for page in await self._run(lambda: self._pages("describe_repositories")):
            yield [str(each["repositoryName"]) for each in page.get("repositories", ())]

    async def tags(self, repository: str) -> list[Listed]:
        """List the tags of a repository's images. That is dated is the image, not each of its tags."""
        tagged = {"tagStatus": "TAGGED"}
        pages = await self._run(lambda: self._pages("describe_images", repositoryName=repository, filter=tagged))
        return [
            Listed(
                str(tag),
                digest if is_digest(digest := str(image.get("imageDigest", ""))) and _active(image) else "",
                image.get("imageSizeInBytes"),
                instant(image.get("imagePushedAt")),
                instant(image.get("lastRecordedPullTime")),
            )
            for page in pages
            for image in page.get("imageDetails", ())
            for tag in image.get("imageTags") or ()
        ]

    async def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag, but not an image's last one: with that the image goes, too.

        Raises:
            NotFound: There is no such tag.
            RegistryError: It is the last tag of its image by now; nothing was deleted.
        """

        def look() -> Row:  # no pages: AWS takes no size of them with named images
            found: Row = self._client.describe_images(
                registryId=self._account, repositoryName=repository, imageIds=[{"imageTag": tag}]
            )
            return found

        images = (await self._run(look)).get("imageDetails", ())
        if any(len(image.get("imageTags") or ()) < 2 for image in images):
            raise RegistryError(
                f"{repository}:{tag} is the last tag of its image by now, and {self.name} deletes the image with it",
                hint="plan the deletion again: it then names the image",
            )
        await self._delete(repository, {"imageTag": tag}, f"{repository}:{tag}")

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete an image with all its tags; one that an index lists is refused."""
        await self._delete(repository, {"imageDigest": digest}, f"{repository}@{digest}")

    async def _delete(self, repository: str, image: dict[str, str], what: str) -> None:
        def work() -> Row:
            found: Row = self._client.batch_delete_image(
                registryId=self._account, repositoryName=repository, imageIds=[image]
            )
            return found

        for failed in (await self._run(work)).get("failures", ()):
            kind = NotFound if failed.get("failureCode") == "ImageNotFound" else RegistryError
            raise kind(f"{self.name} did not delete {what}: {failed.get('failureReason', '')}")


def _active(image: Row) -> bool:
    """Whether an image can be pulled: one that is archived is asked for at the registry."""
    return image.get("imageStatus") in (None, "ACTIVE")

"""What refers to a manifest, where a registry lists it: signatures, SBOMs, attestations."""

from __future__ import annotations

import contextlib

from regnb.crawl.directory import Told
from regnb.crawl.jobs import Jobs
from regnb.crawl.recording import Recording
from regnb.errors import RegnbError, Unproven, Unsupported
from regnb.oci.reference import Digest, is_digest
from regnb.wire.cache import Cache
from regnb.wire.client import Client


class Referrers:
    """The referrers API of one registry during one crawl (distribution spec 1.1, "Listing Referrers").

    Args:
        client: The registry.
        cache: Knows for a day of a registry that has no such API.
        recording: Where it is counted, and noted what fails.
        jobs: The crawl's.
        told: What the registry's own API tells, where it has one.
    """

    def __init__(self, client: Client, cache: Cache, recording: Recording, jobs: Jobs, told: Told) -> None:
        self._client, self._cache, self._jobs, self._told = client, cache, jobs, told
        self._problem, self._records = recording.problem, recording.records
        self._listed: bool | None = False if cache.is_lacking(self._records.registry, "referrers") else None

    @property
    def listed(self) -> bool:
        """Whether the registry lists referrers, as far as is known: it may turn out not to."""
        return self._listed is not False

    async def of(self, repository: str, digest: str) -> list[str]:
        """Return the digests of a manifest's referrers, where the registry can list them."""
        if not self.listed:
            return []
        # Until it is known whether it can, one worker asks and the others wait.
        async with self._jobs.alone("referrers") if self._listed is None else contextlib.nullcontext():
            if not self.listed:
                return []
            counts = self._records.coverage.referrers
            if self._listed and (told := self._told.referrers(repository, digest)) is not None:
                counts.listed += 1
                counts.told += 1
                return list(told)
            try:
                found = await self._client.referrers(repository, Digest(digest), fallback=False)
            except Unsupported as error:
                # The tag schema's referrers are tags, and so they are in the listing already.
                if not self._listed:
                    self._listed = False
                    self._cache.found_lacking(self._records.registry, "referrers")
                    return []
                if not isinstance(error.__cause__, Unproven):
                    return []  # some registries, such as those that mirror others, list for some repositories only
                counts.listed += 1
                self._problem(repository, digest, counts.fail(error.__cause__), error.__cause__)
                return []
            except RegnbError as error:
                counts.listed += 1
                self._problem(repository, digest, counts.fail(error), error)
                return []
            self._listed = True
            counts.listed += 1
            counts.read += 1
            return [descriptor.digest for descriptor in found if is_digest(descriptor.digest)]

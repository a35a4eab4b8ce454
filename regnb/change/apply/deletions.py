"""How a registry deletes: over the registry API, or by its vendor's own where that is its way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from regnb.change.plan import Step
from regnb.crawl.reader import each
from regnb.directories.directory import Directory
from regnb.errors import Denied, NotFound, ReadOnly, RegistryError, Unauthorized, Unproven, Unsupported
from regnb.oci.reference import Digest
from regnb.wire import probe
from regnb.wire.client import Client


class Deletions:
    """Sends each deletion to where the registry takes it.

    Args:
        client: Of the registry.
        directory: The registry's own API, or None.

    Attributes:
        by_tag: Whether a tag can be deleted alone, once :meth:`find_out` has found out.
        whole: Whether the registry's own API deletes manifests, with every tag on them in one request.

    Example:
        ``await Deletions(client, directory).tag("vm/centos8", "old")``
    """

    def __init__(self, client: Client, directory: Directory | None = None) -> None:
        self._client = client
        self._directory = directory
        deletes = () if directory is None else tuple(directory.deletes)
        self.by_tag = False
        self.whole = "manifests" in deletes
        self._own = "tags" in deletes

    async def find_out(self, steps: Sequence[Step], absent: Digest) -> None:
        """Find out, with names that are not there, whether the registry deletes what some steps remove.

        Raises:
            Unsupported: It does not delete, or is read-only.
            Unproven: It is not known whether it deletes.
            Unauthorized, Denied, ConnectionFailed, RegistryError: No permission to delete, or no answer.
        """
        untagged = [step.repository for step in steps if step.action == "untag"]
        tagless = {step.repository for step in steps if step.action == "delete" and not step.tags}

        async def by_digest(repository: str) -> None:
            try:
                await probe.by_digest(self._client, repository, absent)
            except (Unsupported, Unproven) as error:
                # Where tags go by another API, a manifest without one is collected by itself.
                if isinstance(error, ReadOnly) or not self._own or repository in tagless:
                    raise self._fitting(error) from None

        if not self.whole:
            await each(by_digest, dict.fromkeys(step.repository for step in steps))
        first = (untagged or [steps[0].repository])[0]
        if self._directory is not None and self._own:
            with contextlib.suppress(NotFound), self._hinted():
                await self._directory.delete_tag(first, f"regnb-{absent.hex[:32]}")
            self.by_tag = True
        else:
            self.by_tag = await probe.by_tag(self._client, first, absent)

    async def tag(self, repository: str, tag: str) -> None:
        """Delete a tag alone."""
        with self._hinted():
            if self._directory is not None and self._own:
                await self._directory.delete_tag(repository, tag)
            else:
                await self._client.delete_tag(repository, tag)

    async def manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest, with every tag on it that is still there."""
        with self._hinted():
            if self._directory is not None and self.whole:
                await self._directory.delete_manifest(repository, digest)
            else:
                await self._client.delete_manifest(repository, digest)

    def kept(self, failure: Exception | None) -> str:
        """Return the remark on a manifest whose tags are gone and which is still there; "" where that is a failure.

        Where tags are deleted by the registry's own API, the registry itself decides what becomes of their manifest.
        """
        if self._directory is None or not self._own or self.whole:
            return ""
        why = f": {failure.message}" if isinstance(failure, RegistryError) else ""
        return f"its tags are gone, and {self._directory.name} keeps the manifest until it collects it by itself{why}"

    @contextlib.contextmanager
    def _hinted(self) -> Iterator[None]:
        try:
            yield
        except (Denied, Unauthorized, Unsupported) as error:
            raise self._fitting(error) from None

    def _fitting(self, error: RegistryError) -> RegistryError:
        """Return an error whose hint is one for this registry: nobody can set an option of distribution there."""
        return error if self._directory is None else error.saying(error.message, hint=self._directory.deletion)

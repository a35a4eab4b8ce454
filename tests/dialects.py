"""Registries that differ from docker-registry, made of one by switches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from faulty import Answer, Request, errors


class Dialect:
    """Deletes a tag alone where it is asked to.

    Args:
        root: The registry's storage.
        keeps: Whether the tags of a deleted manifest stay, and are still answered, as go-containerregistry's registry
            does it (pkg/registry/manifest.go: DELETE of a digest removes that entry of the map alone).
        lists: Whether there is a catalog; olareg and zuul-registry 1.3.0 have none.
        deletes: Whether there is a route for DELETE; without one a framework answers with a page of its own, as
            zuul-registry 1.3.0 does.
        digests: Whether the digests of manifests stand among the tags, as zuul-registry 1.3.0 lists them.
    """

    def __init__(
        self, root: Path, *, keeps: bool = False, lists: bool = True, deletes: bool = True, digests: bool = False
    ) -> None:
        self._top = root / "docker/registry/v2"
        self.keeps, self.lists, self.deletes, self.digests = keeps, lists, deletes, digests

    def __str__(self) -> str:
        return f"tags are deleted alone{', and stay when their manifest goes' if self.keeps else ''}"

    def __call__(self, request: Request) -> Answer | None:
        if (request.kind == "catalog" and not self.lists) or (request.method == "DELETE" and not self.deletes):
            page = b"<html><head><title>404 Not Found</title></head><body>The path was not found.</body></html>"
            return Answer(404, "Not Found", [("Content-Type", "text/html;charset=utf-8")], page)
        if request.kind == "tags" and self.digests:
            return self._listed(request.repository)
        if request.kind != "manifest":
            return None
        target = request.path.partition("?")[0].rpartition("/")[2]
        folder = self._top / "repositories" / request.repository / "_manifests"
        by_digest = ":" in target
        link = folder / (f"revisions/sha256/{target[7:]}" if by_digest else f"tags/{target}/current") / "link"
        if request.method == "DELETE" and (self.keeps or not by_digest):
            if not link.is_file():
                return Answer(404, "Not Found", [("Content-Type", "application/json")], errors("MANIFEST_UNKNOWN"))
            shutil.rmtree(link.parent if by_digest else link.parent.parent)
            return Answer(202, "Accepted", [])
        if self.keeps and request.method in ("GET", "HEAD") and not by_digest and link.is_file():
            return self._kept(folder, link.read_text(encoding="ascii"))
        return None

    def _listed(self, repository: str) -> Answer:
        """The tags of a repository, and the digests of its manifests."""
        folder = self._top / "repositories" / repository / "_manifests"
        tags = [link.parts[-3] for link in folder.glob("tags/*/current/link")]
        digests = [f"sha256:{link.parts[-2]}" for link in folder.glob("revisions/sha256/*/link")]
        body = json.dumps({"name": repository, "tags": sorted([*tags, *digests])}).encode()
        return Answer(200, "OK", [("Content-Type", "application/json")], body)

    def _kept(self, folder: Path, digest: str) -> Answer | None:
        """The manifest of a tag that has outlived it."""
        data = self._top / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
        if (folder / "revisions/sha256" / digest[7:] / "link").is_file() or not data.is_file():
            return None
        body = data.read_bytes()
        return Answer(
            200, "OK", [("Content-Type", json.loads(body)["mediaType"]), ("Docker-Content-Digest", digest)], body
        )

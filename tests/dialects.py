"""Registries that delete otherwise than docker-registry, made of one by what is done on its disk."""

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
            does it.
    """

    def __init__(self, root: Path, *, keeps: bool) -> None:
        self._top = root / "docker/registry/v2"
        self.keeps = keeps

    def __str__(self) -> str:
        return f"tags are deleted alone{', and stay when their manifest goes' if self.keeps else ''}"

    def __call__(self, request: Request) -> Answer | None:
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

    def _kept(self, folder: Path, digest: str) -> Answer | None:
        """The manifest of a tag that has outlived it."""
        data = self._top / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
        if (folder / "revisions/sha256" / digest[7:] / "link").is_file() or not data.is_file():
            return None
        body = data.read_bytes()
        return Answer(
            200, "OK", [("Content-Type", json.loads(body)["mediaType"]), ("Docker-Content-Digest", digest)], body
        )

"""Requests of a warm audit with a vendor's own API, against one HEAD for each tag.

Registry and vendor's API are those of the tests, over content in memory that the cache has. Requests are counted, and
nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]

from measure import Row
from scripted import Reply, Request, serve
from vendors import PASSWORD, USER, AzureRegistry, Content, Harbor, Quay, Vendor, answer

import regnb
from regnb.oci.manifest import OCI_MANIFEST
from regnb.oci.reference import Digest
from regnb.wire.cache import Cache

REPOSITORIES, TAGS = 1000, 20
PLAIN = 2 + REPOSITORIES + REPOSITORIES * TAGS
"""Requests of a warm audit over the registry API: two pages of the catalog, a list and a HEAD for each tag."""


class Made(Content):
    """Repositories of tags that each have a manifest of their own."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.data: dict[str, bytes] = {}
        self.listed: dict[str, dict[str, str]] = {}
        for number in range(REPOSITORIES):
            tags = self.listed.setdefault(f"team-{number % 20}/app-{number}", {})
            for tag in range(TAGS):
                config = {"mediaType": "application/vnd.example", "digest": Digest.of(b"{}"), "size": 2}
                document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []}
                data = json.dumps({**document, "annotations": {"n": f"{number}.{tag}"}}).encode()
                tags[f"v{tag}"] = digest = str(Digest.of(data))
                self.data[digest] = data

    def repositories(self) -> list[str]:
        return list(self.listed)

    def tags(self, repository: str) -> dict[str, str]:
        return self.listed.get(repository, {})

    def revisions(self, repository: str) -> list[str]:
        return list(self.listed[repository].values())

    def pushed(self, repository: str, tag: str) -> datetime:  # noqa: ARG002 -- as there
        return datetime(2026, 1, 1, tzinfo=UTC)

    def manifest(self, digest: str) -> dict[str, Any]:
        return dict(json.loads(self.data[digest]))


class Standing:
    """A vendor, and the registry behind it."""

    def __init__(self, vendor: Vendor, made: Made) -> None:
        self.vendor, self.made = vendor, made
        vendor.content = made

    def reply(self, request: Request, _: int) -> Reply:
        """Answer any request."""
        if found := self.vendor(request):
            return found
        _, _, *parts = request.path.partition("?")[0].split("/")
        if parts == [""]:
            return answer({})
        if parts == ["_catalog"]:
            last = dict(pair.split("=") for pair in request.path.partition("?")[2].split("&")).get("last", "")
            return answer({"repositories": [] if last else self.made.repositories()})
        name = "/".join(parts[:2])
        if parts[-2:] == ["tags", "list"]:
            return answer({"name": name, "tags": list(self.made.tags(name))})
        digest = self.made.tags(name).get(parts[-1], "")
        if parts[2:3] == ["manifests"] and digest:
            size = str(len(self.made.data[digest]))
            return Reply(
                200, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": digest, "Content-Length": size},
                self.made.data[digest] if request.method == "GET" else b"",
            )  # fmt: skip
        return answer({"errors": [{"code": "UNSUPPORTED"}]}, status=404)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:  # noqa: ARG001 -- as every part
    """Count them."""
    made = Made()
    cache = Cache(folder / "own")
    for digest, data in made.data.items():
        cache.put(Digest(digest), OCI_MANIFEST, data)
    cache.close()
    for kind in (Harbor, Quay, AzureRegistry):
        standing = Standing(kind(Path()), made)
        with (
            serve(standing.reply) as server,
            regnb.connect(server.url, username=USER, password=PASSWORD, cache=folder / "own") as registry,
        ):
            before = len(server.requests)
            inventory = registry.inventory(progress=False)
            # A token for each repository is asked for either way, and is in no row.
            sent = sum(not each.path.startswith(kind.tokens) for each in server.requests[before:])
        if not inventory.complete or len(inventory.tags) != REPOSITORIES * TAGS or len(inventory.problems):
            raise SystemExit(f"the audit was not whole: {inventory}\n{inventory.problems.head()}")
        what = f"warm audit of {REPOSITORIES * TAGS:,} tags with the API of {kind.name}, requests / {PLAIN:,}"
        yield Row(what, f"{sent:,}", f"{PLAIN:,}", sent / PLAIN, most=1 / 15)

"""Registries with a vendor's API beside the registry API: a proxy before one that is real, answering from its disk.

Every field of an answer is one that the vendor documents; the class says where, and of which date that page is. Each
answer also has a field that no adapter knows, and nulls where the vendor may send them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import scripted
from proxied import proxy
from scripted import Reply, Request

USER, PASSWORD = "robot", "s3cret-passw0rd"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
TOKEN = "canary-token"


@dataclass
class Content:
    """What lies on a registry's disk.

    Attributes:
        pulled: When a tag was last pulled, by repository and tag.
        locked: The tags that cannot be deleted.
        hidden: The tags that the vendor's API leaves out.
        wrong: Another digest that the vendor's API gives for a tag.
    """

    root: Path
    pulled: dict[tuple[str, str], datetime] = field(default_factory=dict)
    locked: set[tuple[str, str]] = field(default_factory=set)
    hidden: set[tuple[str, str]] = field(default_factory=set)
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def _folder(self) -> Path:
        return self.root / "docker/registry/v2"

    def repositories(self) -> list[str]:
        top = self._folder / "repositories"
        return sorted(str(path.parent.relative_to(top)) for path in top.rglob("_manifests"))

    def tags(self, repository: str) -> dict[str, str]:
        """The tags of a repository with their digests, as the vendor tells them."""
        links = (self._folder / "repositories" / repository / "_manifests/tags").glob("*/current/link")
        found = {link.parts[-3]: link.read_text("ascii") for link in sorted(links)}
        return {
            tag: self.wrong.get((repository, tag), digest)
            for tag, digest in found.items()
            if (repository, tag) not in self.hidden
        }

    def revisions(self, repository: str) -> list[str]:
        links = (self._folder / "repositories" / repository / "_manifests/revisions/sha256").glob("*/link")
        return sorted(f"sha256:{link.parts[-2]}" for link in links)

    def pushed(self, repository: str, tag: str) -> datetime:
        link = self._folder / "repositories" / repository / "_manifests/tags" / tag / "current/link"
        return datetime.fromtimestamp(int(link.stat().st_mtime), UTC)

    def manifest(self, digest: str) -> dict[str, Any]:
        """A manifest; {} where its bytes are gone."""
        path = self._folder / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
        try:
            return dict(json.loads(path.read_bytes()))
        except (OSError, ValueError):
            return {}

    def size(self, digest: str) -> int:
        found = self.manifest(digest)
        return sum(one["size"] for one in [found.get("config", {"size": 0}), *found.get("layers", ())])

    def subject(self, digest: str) -> str:
        return str((self.manifest(digest).get("subject") or {}).get("digest", ""))


def stamp(when: datetime | None, never: str | None = None) -> str | None:
    return when.strftime("%Y-%m-%dT%H:%M:%S.000Z") if when else never


def answer(document: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Reply:
    body = json.dumps(document).encode()
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, body)


class Vendor:
    """One vendor.

    Attributes:
        content: What it answers from.
        fault: What its API answers instead, if anything.
        page: Entries on a page at most.
        asked: Requests to its API.
    """

    name: ClassVar[str]
    challenge: ClassVar[str]
    """Of a 401, with the place of the registry's own address."""
    api: ClassVar[str]
    """Where its API begins."""

    def __init__(self, root: Path) -> None:
        self.content = Content(root)
        self.fault: Callable[[Request], Reply | None] = lambda _: None
        self.page = 1000
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Reply | None:
        parts = urlsplit(request.path)
        own = f"http://{request.headers['host']}"
        if parts.path == "/token":
            return answer({"token": TOKEN, "expires_in": 3600})
        if self.api and parts.path.startswith(self.api):
            self.asked.append(request)
            path = parts.path.removeprefix(self.api)
            return self.fault(request) or self.answer(request, path, dict(parse_qsl(parts.query)), own)
        if parts.path.startswith("/v2/") and "authorization" not in request.headers and self.challenge:
            return answer({"errors": [{"code": "UNAUTHORIZED"}]}, {"WWW-Authenticate": self.challenge.format(own)}, 401)
        return None

    def answer(self, request: Request, path: str, query: Mapping[str, str], own: str) -> Reply:
        raise NotImplementedError

    @contextmanager
    def serve(self, host: str) -> Iterator[scripted.Server]:
        """Stand before the registry at a host."""
        with proxy(host, self) as server:
            yield server


class Harbor(Vendor):
    """Harbor 2.x: api/v2.0/swagger.yaml in goharbor/harbor, read on 2026-11-29.

    ``/repositories`` (Repository), ``/projects/{project_name}/repositories/{repository_name}/artifacts`` (Artifact, Tag,
    Accessory; parameters page, page_size up to 100, with_tag, with_immutable_status, with_accessory; headers
    X-Total-Count and Link), ``…/artifacts/{reference}/tags/{tag_name}``, ``/quotas`` (Quota, administrators alone). A
    slash in a repository's name is encoded twice. What an index lists, and what refers to an artifact, is no artifact
    of its own in the list (the accessories stand with their subject). Never pulled is 0001-01-01T00:00:00.000Z.
    """

    name = "Harbor"
    challenge = 'Bearer realm="{}/token",service="harbor-registry"'
    api = "/api/v2.0"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.administrator = True

    def answer(self, request: Request, path: str, query: Mapping[str, str], own: str) -> Reply:
        if request.headers.get("authorization") != BASIC:
            return answer({"errors": [{"code": "UNAUTHORIZED", "message": "unauthorized"}]}, status=401)
        if path == "/repositories":
            rows = [
                {"id": number, "name": name, "artifact_count": len(self.content.tags(name)), "description": None}
                for number, name in enumerate(self.content.repositories())
            ]
            return self._paged(rows, path, query)
        if path == "/quotas":
            if not self.administrator:
                return answer({"errors": [{"code": "FORBIDDEN", "message": "forbidden"}]}, status=403)
            projects = sorted({name.partition("/")[0] for name in self.content.repositories()})
            rows = [
                {"id": 1, "ref": {"id": 1, "name": name}, "hard": {"storage": -1}, "used": {"storage": 1000}}
                for name in projects
            ]
            return self._paged(rows, path, query)
        _, _, project, _, name, _, *rest = path.split("/")
        repository = f"{project}/{unquote(unquote(name))}".strip("/")
        if repository not in self.content.repositories():
            return answer({"errors": [{"code": "NOT_FOUND", "message": "not found"}]}, status=404)
        if request.method == "DELETE":
            return self._delete(repository, unquote(rest[-1]))
        return self._paged(self._artifacts(repository), path, query)

    def _delete(self, repository: str, tag: str) -> Reply:
        if (repository, tag) in self.content.locked:
            # src/lib/errors: PRECONDITION, "configured as immutable".
            return answer({"errors": [{"code": "PRECONDITION", "message": "it is configured as immutable"}]}, status=412)
        return answer({}) if untag(self.content.root, repository, tag) else answer({}, status=404)

    def _artifacts(self, repository: str) -> list[dict[str, object]]:
        content = self.content
        on: dict[str, list[str]] = {digest: [] for digest in content.revisions(repository)}
        for tag, digest in content.tags(repository).items():
            on.setdefault(digest, []).append(tag)
        inner = {each["digest"] for digest in on for each in content.manifest(digest).get("manifests", ())}
        rows: list[dict[str, object]] = []
        for digest, tags in on.items():
            if not tags and (digest in inner or content.subject(digest)):
                continue
            about = [one for one in content.revisions(repository) if content.subject(one) == digest]
            when = [content.pulled.get((repository, tag)) for tag in tags]
            last = max((one for one in when if one), default=None)
            rows.append({
                "id": len(rows), "type": "IMAGE", "digest": digest, "size": content.size(digest), "icon": None,
                "push_time": stamp(max((content.pushed(repository, tag) for tag in tags), default=None)),
                "pull_time": stamp(last, "0001-01-01T00:00:00.000Z"), "labels": None, "references": None,
                "accessories": [
                    {"id": 1, "digest": one, "size": content.size(one), "type": "subject.accessory",
                     "subject_artifact_digest": digest}
                    for one in about
                ] or None,
                "tags": [
                    {"id": 1, "name": tag, "push_time": stamp(content.pushed(repository, tag)),
                     "pull_time": stamp(content.pulled.get((repository, tag)), "0001-01-01T00:00:00.000Z"),
                     "immutable": (repository, tag) in content.locked}
                    for tag in tags
                ] or None,
                "unknown_to_everybody": {"nested": [None]},
            })  # fmt: skip
        return rows

    def _paged(self, rows: Sequence[object], path: str, query: Mapping[str, str]) -> Reply:
        size = min(int(query.get("page_size", 10)), 100, self.page)
        number = int(query.get("page", 1))
        headers = {"X-Total-Count": str(len(rows))}
        if number * size < len(rows):
            following = urlencode({**query, "page": number + 1})
            headers["Link"] = f'<{self.api}{path}?{following}>; rel="next"'
        return answer(rows[(number - 1) * size : number * size], headers)


def untag(root: Path, repository: str, tag: str) -> bool:
    """Remove a tag from a registry's disk, as a vendor's own API does."""
    folder = root / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag
    if not folder.is_dir():
        return False
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return True

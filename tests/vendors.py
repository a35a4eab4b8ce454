"""Registries with a vendor's API beside the registry API: a proxy before one that is real, answering from its disk.

Every field of an answer is one that the vendor documents; the class says where, and of which date that page is. Each
answer also has a field that no adapter knows, and nulls where the vendor may send them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from unittest import mock
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import scripted
from images import attestation, descriptor, fill, image, index, layer
from proxied import forward, proxy
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
        frozen: Whether no repository comes or goes, so that they need be looked for once.
    """

    root: Path
    pulled: dict[tuple[str, str], datetime] = field(default_factory=dict)
    locked: set[tuple[str, str]] = field(default_factory=set)
    hidden: set[tuple[str, str]] = field(default_factory=set)
    wrong: dict[tuple[str, str], str] = field(default_factory=dict)
    frozen: bool = False
    names: list[str] = field(default_factory=list)

    @property
    def _folder(self) -> Path:
        return self.root / "docker/registry/v2"

    def repositories(self) -> list[str]:
        if not (self.frozen and self.names):
            top = self._folder / "repositories"
            self.names = sorted(str(path.parent.relative_to(top)) for path in top.rglob("_manifests"))
        return self.names

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


class Stocked(NamedTuple):
    """A registry with what :func:`stock` pushes."""

    url: str
    root: Path

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]


def stock(url: str, root: Path) -> None:
    """Push what differs in kind: an index with an attestation, signatures of both sorts, aliases, a dangling tag."""
    base = layer("base", 500)
    images = [image([base, layer(number, 300)]) for number in range(8)]
    proof = attestation(images[0])
    both = index([(images[0], "linux/amd64"), (images[1], "linux/arm64"), (proof, "unknown/unknown")])
    about = descriptor(images[2].media_type, images[2].data)
    signature = image([layer("signature", 50)], subject=about, artifactType="application/vnd.example.signature")
    fill(
        url,
        ("team/app", "1.0", images[0]), ("team/app", "1.1", images[3]), ("team/app", "latest", images[3]),
        ("team/app/web", "multi", both), ("team/app/web", "2.0", images[2]), ("team/app/web", "2", images[2]),
        ("team/app/web", signature.digest, signature),
        ("team/app/web", f"sha256-{images[2].digest.hex}.sig", image([layer("cosign", 60)])),
        *(("team/base", f"v{number}", what) for number, what in enumerate(images[4:7])),
        ("other/dangling", "gone", images[7]), ("other/tool", "1", image([base])),
    )  # fmt: skip
    hexadecimal = images[7].digest.hex
    (root / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data").unlink()


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
        catalog: Whether the registry lists its repositories.
    """

    name: ClassVar[str]
    challenge: ClassVar[str] = ""
    """Of a 401, with the place of the registry's own address."""
    tokens: ClassVar[str] = "/token"
    """Where its token server is."""

    def __init__(self, root: Path) -> None:
        self.content = Content(root)
        self.fault: Callable[[Request], Reply | None] = lambda _: None
        self.page = 1000
        self.asked: list[Request] = []
        self.catalog = True

    def __call__(self, request: Request) -> Reply | None:
        parts = urlsplit(request.path)
        own = f"http://{request.headers['host']}"
        if parts.path == self.tokens:
            return answer({"token": TOKEN, "expires_in": 3600})
        if parts.path.startswith("/v2/") and "authorization" not in request.headers and self.challenge:
            return answer({"errors": [{"code": "UNAUTHORIZED"}]}, {"WWW-Authenticate": self.challenge.format(own)}, 401)
        if parts.path == "/v2/_catalog" and not self.catalog:
            return answer({"errors": [{"code": "DENIED", "message": "not allowed"}]}, status=403)
        if self.mine(parts.path):
            self.asked.append(request)
            return self.fault(request) or self.answer(request, parts.path, dict(parse_qsl(parts.query)))
        return None

    def mine(self, path: str) -> bool:
        """Whether a path is one of its API."""
        raise NotImplementedError

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        """Answer a request to its API."""
        raise NotImplementedError

    @contextmanager
    def serve(self, host: str) -> Iterator[scripted.Server]:
        """Stand before the registry at a host."""
        with proxy(host, self) as server:
            yield server


class Harbor(Vendor):
    """Harbor 2.x: api/v2.0/swagger.yaml in goharbor/harbor, read on 2026-11-29.

    ``/repositories`` (Repository), ``/projects/{project_name}/repositories/{repository_name}/artifacts`` (Artifact,
    Tag, Accessory; parameters page, page_size up to 100, with_tag, with_immutable_status, with_accessory; headers
    X-Total-Count and Link), ``…/artifacts/{reference}/tags/{tag_name}``, ``/quotas`` (Quota, administrators alone). A
    slash in a repository's name is encoded twice. What an index lists, and what refers to an artifact, is no artifact
    of its own in the list (the accessories stand with their subject). Never pulled is 0001-01-01T00:00:00.000Z.
    """

    name = "Harbor"
    challenge = 'Bearer realm="{}/token",service="harbor-registry"'
    api = "/api/v2.0"

    def mine(self, path: str) -> bool:
        return path.startswith(self.api)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.administrator = True

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        path = path.removeprefix(self.api)
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
            return answer(
                {"errors": [{"code": "PRECONDITION", "message": "it is configured as immutable"}]}, status=412
            )
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


class GitLab(Vendor):
    """GitLab 18: docs.gitlab.com/api/graphql/reference and docs.gitlab.com/api/container_registry, of 2026.

    GraphQL with GET, as config/routes/api.rb of gitlab-org/gitlab has it: ``projects`` (membership),
    ``project.containerRepositories`` (ContainerRepository: id, path), ``containerRepository.tags``
    (ContainerRepositoryTag: name, digest, totalSize as text, publishedAt, protection), each a connection with nodes and
    pageInfo (endCursor, hasNextPage), of 100 nodes at most. A field that is not known is an error of the whole query.
    DELETE ``/projects/:id/registry/repositories/:repository_id/tags/:tag_name``. Nothing tells when a tag was pulled.
    """

    name = "GitLab"
    challenge = 'Bearer realm="{}/jwt/auth",service="container_registry",scope="repository:x:pull"'
    tokens = "/jwt/auth"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.unknown: tuple[str, ...] = ()

    def mine(self, path: str) -> bool:
        return path.startswith("/api/")

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        if request.headers.get("authorization") != f"Bearer {PASSWORD}":
            return answer({"message": "401 Unauthorized"}, status=401)
        names = self.content.repositories()
        if request.method == "DELETE":
            _, _, _, _, _, _, _, number, _, tag = path.split("/")
            gone = untag(self.content.root, names[int(number)], unquote(tag))
            return answer(200 if gone else {"message": "404 Tag Not Found"}, status=200 if gone else 404)
        text, given = query["query"], json.loads(query.get("variables", "{}"))
        if wrong := [field for field in self.unknown if field in text]:
            message = f"Field '{wrong[0]}' doesn't exist on type 'ContainerRepositoryTag'"
            return answer({"errors": [{"message": message, "locations": [], "path": ["query"]}]})
        projects = sorted({project(name) for name in names})
        data: dict[str, Any]
        if "projects(" in text:
            rows = [
                {"fullPath": one, "containerRepositories": self._repositories(one, None), "unknownField": None}
                for one in projects
            ]
            data = {"projects": connection(rows, given.get("after"), self.page)}
        elif "project(" in text:
            there = given["path"] in projects
            listed = self._repositories(given["path"], given.get("after"))
            data = {"project": {"containerRepositories": listed} if there else None}
        else:
            number = int(given["id"].rpartition("/")[2])
            tags = [
                {
                    "name": tag, "digest": digest, "totalSize": str(self.content.size(digest)) if number % 2 else None,
                    "publishedAt": stamp(self.content.pushed(names[number], tag)),
                    "protection": {"immutable": True} if (names[number], tag) in self.content.locked else None,
                }
                for tag, digest in self.content.tags(names[number]).items()
            ]  # fmt: skip
            data = {"containerRepository": {"tags": connection(tags, given.get("after"), self.page)}}
        return answer({"data": data})

    def _repositories(self, path: str, after: str | None) -> dict[str, object]:
        rows = [
            {"id": f"gid://gitlab/ContainerRepository/{number}", "path": name}
            for number, name in enumerate(self.content.repositories())
            if project(name) == path
        ]
        return connection(rows, after, self.page)


def project(repository: str) -> str:
    """The project of a repository, which here is named as its first two parts are."""
    return "/".join(repository.split("/")[:2])


def connection(rows: Sequence[object], after: str | None, page: int) -> dict[str, object]:
    first = int(after or 0)
    last = first + min(page, 100)
    more = last < len(rows)
    return {"nodes": rows[first:last], "pageInfo": {"hasNextPage": more, "endCursor": str(last) if more else None}}


class Zot(Vendor):
    """zot 2.1: pkg/extensions/search/schema.graphql and pkg/extensions/search/search.md in project-zot/zot, of 2026.

    ``/v2/_oci/ext/discover`` lists the extension (distribution spec, extensions/_oci.md); GET ``/v2/_zot/ext/search``
    answers ``RepoListWithNewestImage`` (RepoSummary: Name), ``ImageList`` (ImageSummary: Tag, Digest, Size as text,
    PushTimestamp, TaggedTimestamp, LastPullTimestamp), with Page.TotalCount, and ``__type``. Signatures' tags are no
    images. ``/v2/`` is answered with an empty body (CheckVersionSupport in pkg/api/routes.go).
    """

    name = "zot"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fields = ["Tag", "Digest", "Size", "PushTimestamp", "LastPullTimestamp", "IsSigned"]

    def mine(self, path: str) -> bool:
        return path in ("/v2/", "/v2/_oci/ext/discover", "/v2/_zot/ext/search")

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:  # noqa: ARG002 -- as each
        if path == "/v2/":
            self.asked.pop()
            headers = {"Docker-Distribution-Api-Version": "registry/2.0", "Content-Type": "application/json"}
            return Reply(200, headers, b"")
        if path.endswith("discover"):
            found = {"name": "_zot", "url": "https://zot", "description": "", "endpoints": ["/v2/_zot/ext/search"]}
            return answer({"extensions": [found]})
        text, given = query["query"], json.loads(query.get("variables", "{}"))
        if "__type" in text:
            return answer({"data": {"__type": {"fields": [{"name": name} for name in self.fields]}}})
        if wrong := [
            name for name in ("TaggedTimestamp", "LastPullTimestamp") if name in text and name not in self.fields
        ]:
            return answer({"errors": [{"message": f'Cannot query field "{wrong[0]}"'}], "data": None}, status=422)
        first, last = given["offset"], given["offset"] + min(given["limit"], self.page)
        rows: list[object]
        if "RepoListWithNewestImage" in text:
            rows = [{"Name": name} for name in self.content.repositories()]
            page = {"TotalCount": len(rows), "ItemCount": self.page}
            return answer({"data": {"RepoListWithNewestImage": {"Page": page, "Results": rows[first:last]}}})
        name = given["repo"]
        rows = [
            {
                "Tag": tag, "Digest": digest, "Size": str(self.content.size(digest)),
                "PushTimestamp": stamp(self.content.pushed(name, tag)),
                "LastPullTimestamp": stamp(self.content.pulled.get((name, tag)), "0001-01-01T00:00:00Z"),
            }
            for tag, digest in self.content.tags(name).items()
            if not tag.endswith((".sig", ".att", ".sbom"))
        ]  # fmt: skip
        page = {"TotalCount": len(rows), "ItemCount": self.page}
        return answer({"data": {"ImageList": {"Page": page, "Results": rows[first:last]}}})


class ArtifactRegistry(Vendor):
    """Google's registries: pkg/v1/google/list.go in google/go-containerregistry, of 2026.

    ``tags/list`` has ``child``, ``manifest`` (digest to imageSizeBytes, mediaType, tag, timeCreatedMs and
    timeUploadedMs, numbers as text), ``name`` and ``tags``.
    """

    name = "Artifact Registry"
    challenge = 'Bearer realm="{}/token",service="europe-docker.pkg.dev"'

    def mine(self, path: str) -> bool:
        return path.endswith("/tags/list")

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:  # noqa: ARG002 -- as each
        repository = path.removeprefix("/v2/").removesuffix("/tags/list")
        if repository not in self.content.repositories():
            return answer({"errors": [{"code": "NAME_UNKNOWN", "message": "unknown"}]}, status=404)
        tags = self.content.tags(repository)
        manifests = {
            digest: {
                "imageSizeBytes": str(self.content.size(digest)), "layerId": "", "mediaType": "application/json",
                "tag": [tag for tag, other in tags.items() if other == digest] or None,
                "timeCreatedMs": "-62135596800000",
                "timeUploadedMs": str(max(
                    (int(self.content.pushed(repository, tag).timestamp()) for tag, other in tags.items()
                     if other == digest), default=0) * 1000),
            }
            for digest in {*self.content.revisions(repository), *tags.values()}
        }  # fmt: skip
        return answer({"child": [], "manifest": manifests, "name": repository, "tags": list(tags) or None})


class ECR(Vendor):
    """Amazon ECR: moto 5 answers its API, with what moto lacks added to DescribeImages.

    ImageDetail of the API reference (docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html, of 2026):
    imageDigest, imageTags, imageSizeInBytes, imagePushedAt, lastRecordedPullTime (absent for never), imageStatus.
    nextToken and maxResults as in API_DescribeImages.html.
    """

    name = "Amazon ECR"
    challenge = 'Basic realm="https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/",service="ecr.amazonaws.com"'

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._moto = ""

    def mine(self, path: str) -> bool:  # noqa: ARG002 -- as each; its API is at another address
        return False

    @contextmanager
    def serve(self, host: str) -> Iterator[scripted.Server]:
        import boto3  # noqa: PLC0415 -- a second, for one vendor
        from moto.server import ThreadedMotoServer  # noqa: PLC0415

        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        moto.start()
        try:
            _, port = moto.get_host_and_port()
            self._moto = f"127.0.0.1:{port}"
            forward(self._moto, Request("POST", "/moto-api/reset", {}))  # one process has one state
            secrets = {"aws_access_key_id": "canary-id", "aws_secret_access_key": PASSWORD}
            client = boto3.client("ecr", endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-central-1", **secrets)
            for name in self.content.repositories():
                client.create_repository(repositoryName=name)
                for tag, digest in self.content.tags(name).items():
                    manifest = {"mediaType": "application/json", **self.content.manifest(digest)}
                    client.put_image(
                        repositoryName=name, imageManifest=json.dumps(manifest), imageTag=tag, imageDigest=digest
                    )
            with proxy(f"127.0.0.1:{port}", self._front) as api, proxy(host, self) as server:
                set_ = {
                    "AWS_ENDPOINT_URL_ECR": api.url, "AWS_ACCESS_KEY_ID": "canary-id",
                    "AWS_SECRET_ACCESS_KEY": PASSWORD, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
                }  # fmt: skip
                with mock.patch.dict(os.environ, set_):
                    yield server
        finally:
            moto.stop()

    def _front(self, request: Request) -> Reply | None:
        target = request.headers.get("x-amz-target", "").rpartition(".")[2]
        wanted = json.loads(request.body or b"{}")
        self.asked.append(request)
        if fault := self.fault(request):
            return fault
        reply = forward(self._moto, request)
        if target not in ("DescribeImages", "DescribeRepositories") or reply.status != 200:
            return reply
        key = "imageDetails" if target == "DescribeImages" else "repositories"
        rows = json.loads(reply.body)[key]
        for row in rows if target == "DescribeImages" else ():
            when = [self.content.pulled.get((row["repositoryName"], tag)) for tag in row.get("imageTags", ())]
            if last := max((one for one in when if one), default=None):
                row["lastRecordedPullTime"] = last.timestamp()
            row["imageStatus"] = "ACTIVE"
        first = int(wanted.get("nextToken", 0))
        last_row = first + min(wanted.get("maxResults", 100), self.page)
        token = {"nextToken": str(last_row)} if last_row < len(rows) else {}
        return answer({key: rows[first:last_row], **token}, {"Content-Type": "application/x-amz-json-1.1"})


def untag(root: Path, repository: str, tag: str) -> bool:
    """Remove a tag from a registry's disk, as a vendor's own API does."""
    folder = root / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag
    if not folder.is_dir():
        return False
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return True

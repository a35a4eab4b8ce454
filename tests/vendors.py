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

USER, PASSWORD = "$oauthtoken", "s3cret-passw0rd"
"""The user is the one that Quay wants, and the others take any."""
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
    deletes: ClassVar[tuple[str, ...]] = ("manifests",)
    """What the registry itself deletes: tags, manifests."""

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
        if request.method == "DELETE" and parts.path.startswith("/v2/"):
            what = "manifests" if ":" in parts.path.rpartition("/")[2] else "tags"
            if what not in self.deletes:
                return answer({"errors": [{"code": "UNSUPPORTED", "message": "unsupported"}]}, status=405)
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
    deletes = ("tags", "manifests")

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
    deletes = ("tags", "manifests")
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
    nextToken and maxResults as in API_DescribeImages.html; API_BatchDeleteImage.html: with its last tag an image goes,
    and by its digest with every tag. The registry itself takes no DELETE.
    """

    name = "Amazon ECR"
    deletes = ()
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
        if target == "BatchDeleteImage" and not json.loads(reply.body)["failures"]:
            # The registry's disk follows: an image goes with its last tag.
            repository = wanted["repositoryName"]
            for one in wanted["imageIds"]:
                digest = one.get("imageDigest") or self.content.tags(repository)[one["imageTag"]]
                if "imageTag" in one:
                    untag(self.content.root, repository, one["imageTag"])
                if "imageDigest" in one or digest not in self.content.tags(repository).values():
                    remove(self.content.root, repository, digest)
        if target not in ("DescribeImages", "DescribeRepositories") or reply.status != 200:
            return reply
        key = "imageDetails" if target == "DescribeImages" else "repositories"
        rows = json.loads(reply.body)[key]
        for row in rows if target == "DescribeImages" else ():
            # What was pushed since counts as well: both APIs tell of one content.
            tags = self.content.tags(row["repositoryName"])
            row["imageTags"] = [tag for tag, digest in tags.items() if digest == row["imageDigest"]]
            when = [self.content.pulled.get((row["repositoryName"], tag)) for tag in row.get("imageTags", ())]
            if last := max((one for one in when if one), default=None):
                row["lastRecordedPullTime"] = last.timestamp()
            row["imageStatus"] = "ACTIVE"
        first = int(wanted.get("nextToken", 0))
        last_row = first + min(wanted.get("maxResults", 100), self.page)
        token = {"nextToken": str(last_row)} if last_row < len(rows) else {}
        return answer({key: rows[first:last_row], **token}, {"Content-Type": "application/x-amz-json-1.1"})


class Elsewhere(Vendor):
    """A vendor whose API is at another host than its registry.

    Attributes:
        api: Where the API is.
    """

    module: ClassVar[str]
    host: ClassVar[dict[str, object]]
    """What stands in for the names of the vendor's hosts."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.api = ""

    def mine(self, path: str) -> bool:  # noqa: ARG002 -- as each; its API is at another address
        return False

    @contextmanager
    def serve(self, host: str) -> Iterator[scripted.Server]:
        def either(request: Request, _: int) -> Reply:
            self.asked.append(request)
            parts = urlsplit(request.path)
            return self.fault(request) or self.answer(request, parts.path, dict(parse_qsl(parts.query)))

        with scripted.serve(either) as api, proxy(host, self) as server:
            self.api = api.url
            with mock.patch.multiple(f"regnb.directories.{self.module}", ADDRESS=api.url, **self.host):
                yield server

    def links(self, rows: Sequence[object], path: str, query: Mapping[str, str]) -> Reply:
        """A page of rows with a header Link, as GitHub has it."""
        size = min(int(query.get("per_page", 30)), 100, self.page)
        number = int(query.get("page", 1))
        following = urlencode({**query, "page": number + 1})
        link = {"Link": f'<{self.api}{path}?{following}>; rel="next"'} if number * size < len(rows) else {}
        return answer(rows[(number - 1) * size : number * size], link)


class Hub(Elsewhere):
    """Docker Hub: docs.docker.com/reference/api/hub/latest (2-beta), its changelog of 2025-11-21, read on 2026-11-29.

    AuthCreateAccessToken (identifier, secret; access_token), listNamespaceRepositories, GetRepository
    (immutable_tags_settings: enabled, rules), ListRepositoryTags (schemas paginated_tags and tag: count, next, results
    with name, full_size, tag_last_pushed, tag_last_pulled; page_size up to 100). That a tag has ``digest`` is said by
    docker/hub-mcp, of Docker as well, of 2025. ``DELETE /v2/repositories/{namespace}/{repository}/tags/{tag}/`` is that
    of docker/hub-tool (pkg/hub/tags.go). 429 with Retry-After: "Rate limiting" of the same reference. The limit of
    pulls: docs.docker.com/docker-hub/usage/pulls (ratelimit-limit, ratelimit-remaining), of 2026. A manifest with a tag
    is not deleted over the registry API (403): docs.docker.com/reference/api/registry/latest, DeleteImageManifest.
    """

    name = "Docker Hub"
    challenge = 'Bearer realm="{}/token",service="registry.docker.io"'
    module = "hub"
    host: ClassVar = {"HOSTS": frozenset({"127.0.0.1"})}

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.rules: list[str] = []
        self.left = 37
        self.heads: list[Request] = []

    def __call__(self, request: Request) -> Reply | None:
        if request.path == "/v2/ratelimitpreview/test/manifests/latest" and "authorization" in request.headers:
            self.heads.append(request)
            limits = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": f"{self.left};w=21600"}
            return Reply(200, {**limits, "docker-ratelimit-source": "192.0.2.7"})
        found = super().__call__(request)
        digest = request.path.rpartition("/")[2]
        if found is None and request.method == "DELETE" and digest.startswith("sha256:"):
            repository = request.path.removeprefix("/v2/").partition("/manifests/")[0]
            if digest in self.content.tags(repository).values():
                return answer({"errors": [{"code": "DENIED", "message": "manifest is referenced"}]}, status=403)
        return found

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        if path == "/v2/auth/token":
            given = json.loads(request.body)
            right = given == {"identifier": USER, "secret": PASSWORD}
            return answer({"access_token": TOKEN}) if right else answer({"detail": "Incorrect"}, status=401)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return answer({"message": "unauthorized", "errinfo": {}}, status=401)
        if path.startswith("/v2/repositories/"):
            name, _, tag = unquote(path).removeprefix("/v2/repositories/").rstrip("/").partition("/tags/")
            gone = untag(self.content.root, name, tag)
            return Reply(204) if gone else answer({"message": "tag not found"}, status=404)
        _, _, _, namespace, _, *rest = unquote(path).split("/")
        if not rest:
            names = [name for name in self.content.repositories() if namespace in (USER, name.partition("/")[0])]
            rows: list[object] = [
                {"name": name.partition("/")[2], "namespace": name.partition("/")[0], "repository_type": "image",
                 "status": 1, "last_updated": None}
                for name in names
            ]  # fmt: skip
            return self._paged(rows, path, query)
        repository = "/".join([namespace, *rest]).removesuffix("/tags")
        if repository not in self.content.repositories():
            return answer({"message": "object not found", "errinfo": {}}, status=404)
        if not path.endswith("/tags"):
            return answer(
                {"name": rest[0], "immutable_tags_settings": {"enabled": bool(self.rules), "rules": self.rules}}
            )
        rows = [
            {"creator": 7, "id": 9, "images": None, "last_updated": None, "name": tag, "repository": 3, "v2": True,
             "full_size": self.content.size(digest), "digest": digest, "tag_status": "active",
             "tag_last_pushed": stamp(self.content.pushed(repository, tag)),
             "tag_last_pulled": stamp(self.content.pulled.get((repository, tag))), "unknown": {"nested": [None]}}
            for tag, digest in self.content.tags(repository).items()
        ]  # fmt: skip
        return self._paged(rows, path, query)

    def _paged(self, rows: Sequence[object], path: str, query: Mapping[str, str]) -> Reply:
        size, number = min(int(query.get("page_size", 10)), 100, self.page), int(query.get("page", 1))
        following = f"{self.api}{path}?page={number + 1}" if number * size < len(rows) else None
        page = rows[(number - 1) * size : number * size]
        return answer({"count": len(rows), "next": following, "previous": None, "results": page})


class GitHub(Elsewhere):
    """GitHub.com: docs.github.com/rest/packages (version 2022-11-28), read on 2026-11-29.

    "List packages for the authenticated user's namespace" and "… for an organization" (name, owner.login), "List
    package versions for a package owned by an organization" and "… by a user" (id, name, created_at, updated_at,
    metadata.container.tags; per_page up to 100, state; header Link), "Delete package version …" (204; 403 for a public
    one with more than 5,000 downloads). A 403 with x-ratelimit-remaining 0 is a limit
    (docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api). Nothing tells of sizes or pulls. The
    registry itself answers DELETE with 405.
    """

    name = "GitHub"
    challenge = 'Bearer realm="{}/token",service="ghcr.io",scope="repository:user/image:pull"'
    module = "ghcr"
    host: ClassVar = {"HOST": "127.0.0.1"}
    deletes = ()

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        if request.headers.get("authorization") != f"Bearer {PASSWORD}":
            return answer({"message": "Bad credentials", "documentation_url": "", "status": "401"}, status=401)
        names = self.content.repositories()
        owners = sorted({name.partition("/")[0] for name in names})
        if path == "/user/orgs":
            return self.links([{"login": owner, "id": 1, "description": None} for owner in owners[1:]], path, query)
        _, kind, owner, *rest = path.split("/")
        if path == "/user/packages" or rest == ["packages"]:
            owner = owners[0] if kind == "user" else owner
            rows = [
                {"id": 1, "name": name.partition("/")[2], "package_type": "container",
                 "owner": {"login": owner.title()}, "version_count": 1, "visibility": "private", "repository": None}
                for name in names
                if name.partition("/")[0] == owner
            ]  # fmt: skip
            return self.links(rows, path, query)
        repository = f"{owner}/{unquote(rest[2])}"
        # The first owner is a user, and the others are organizations.
        if repository not in names or (kind == "orgs") == (owner == owners[0]):
            return answer({"message": "Package not found.", "status": "404"}, status=404)
        digests = sorted({*self.content.revisions(repository), *self.content.tags(repository).values()})
        if request.method == "DELETE":
            number = int(rest[4])
            if number >= len(digests):
                return answer({"message": "Not Found"}, status=404)
            remove(self.content.root, repository, digests[number])
            return Reply(204)
        tags = self.content.tags(repository)
        return self.links([self._version(repository, each, at, tags) for at, each in enumerate(digests)], path, query)

    def _version(self, repository: str, digest: str, number: int, tags: Mapping[str, str]) -> dict[str, object]:
        on = [tag for tag, other in tags.items() if other == digest]
        pushed = stamp(max((self.content.pushed(repository, tag) for tag in on), default=None))
        return {
            "id": number, "name": digest, "url": "", "license": None, "created_at": pushed, "updated_at": None,
            "metadata": {"package_type": "container", "container": {"tags": on}}, "unknown": [None],
        }  # fmt: skip


class Quay(Vendor):
    """Quay 3.17: docs.redhat.com/en/documentation/red_hat_quay/3.17, "API reference", read on 2026-11-29.

    ``/api/v1/user/`` (username, organizations), listRepos (namespace, next_page; repositories with namespace, name and
    kind), listRepoTags (limit up to 100, page, onlyActiveTags; tags, page, has_additional; a tag has name, reversion,
    start_ts, manifest_digest, is_manifest_list, size, last_modified, and since 3.17 immutable), deleteFullTag (204).
    The fields of a tag: endpoints/api/tag.py in quay/quay. An OAuth access token is a Bearer, and logs in at the
    registry as ``$oauthtoken``. Nothing tells when a tag was pulled.
    """

    name = "Quay"
    challenge = 'Bearer realm="{}/v2/auth",service="quay.example"'
    tokens = "/v2/auth"

    def mine(self, path: str) -> bool:
        return path.startswith("/api/v1/")

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        if request.headers.get("authorization") != f"Bearer {PASSWORD}":
            return answer({"status": 401, "error_type": "invalid_token", "detail": "Session required"}, status=401)
        names = self.content.repositories()
        if path == "/api/v1/user/":
            owners = sorted({name.partition("/")[0] for name in names})
            return answer(
                {"username": owners[0], "organizations": [{"name": each, "avatar": None} for each in owners[1:]]}
            )
        if path == "/api/v1/repository":
            own = [name for name in names if name.partition("/")[0] == query["namespace"]]
            first = int(query.get("next_page", 0))
            last = first + self.page
            rows = [
                {"namespace": query["namespace"], "name": name.partition("/")[2], "kind": "image", "state": "NORMAL",
                 "description": None, "is_public": False}
                for name in own[first:last]
            ]  # fmt: skip
            return answer({"repositories": rows, **({"next_page": str(last)} if last < len(own) else {})})
        repository, _, tag = path.removeprefix("/api/v1/repository/").partition("/tag/")
        if repository not in names:
            return answer({"status": 404, "error_type": "not_found", "detail": "Not Found"}, status=404)
        if request.method == "DELETE":
            if (repository, tag) in self.content.locked:
                return answer({"status": 409, "detail": "immutable"}, status=409)
            return Reply(204) if untag(self.content.root, repository, tag) else answer({"status": 404}, status=404)
        size, number = min(int(query.get("limit", 50)), 100, self.page), int(query.get("page", 1))
        tags = list(self.content.tags(repository).items())
        found = [
            {
                "name": tag, "reversion": False, "start_ts": int(self.content.pushed(repository, tag).timestamp()),
                "manifest_digest": digest, "is_manifest_list": "manifests" in self.content.manifest(digest),
                "size": self.content.size(digest) or None, "last_modified": "Tue, 14 May 2024 14:48:51 -0000",
                "immutable": (repository, tag) in self.content.locked, "unknown": None,
            }
            for tag, digest in tags[(number - 1) * size : number * size]
        ]  # fmt: skip
        return answer({"tags": found, "page": number, "has_additional": number * size < len(tags)})


class AzureRegistry(Vendor):
    """Azure: containerregistry.json, stable/2021-07-01, in Azure/azure-rest-api-specs, read on 2026-11-29.

    ``/acr/v1/_catalog`` (Repositories), ``/acr/v1/{name}`` (RepositoryAttributes), ``/acr/v1/{name}/_tags`` (TagList,
    TagAttributesBase: name, digest, createdTime, lastUpdateTime, signed, changeableAttributes), ``…/_manifests``
    (AcrManifests: digest, imageSize, tags, changeableAttributes), DELETE ``…/_tags/{reference}`` (202); parameters n
    and last; header Link. What locks mean: learn.microsoft.com/azure/container-registry/container-registry-image-lock.
    """

    name = "Azure Container Registry"
    challenge = 'Bearer realm="{}/oauth2/token",service="example.azurecr.io"'
    tokens = "/oauth2/token"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.manifests: set[str] = set()
        """Those that are locked."""

    def mine(self, path: str) -> bool:
        return path.startswith("/acr/v1/")

    def answer(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        if "authorization" not in request.headers:
            challenge = {"WWW-Authenticate": self.challenge.format(f"http://{request.headers['host']}")}
            return answer({"errors": [{"code": "UNAUTHORIZED", "message": "required"}]}, challenge, 401)
        names = self.content.repositories()
        if path == "/acr/v1/_catalog":
            return self._paged("repositories", list(names), path, query)
        repository, _, what = path.removeprefix("/acr/v1/").partition("/_")
        if repository not in names:
            return answer({"errors": [{"code": "NAME_UNKNOWN", "message": "not known", "detail": None}]}, status=404)
        if request.method == "DELETE":
            tag = unquote(what.removeprefix("tags/"))
            if untag(self.content.root, repository, tag):
                return Reply(202)
            return answer({"errors": [{"code": "TAG_UNKNOWN", "message": "not known"}]}, status=404)
        tags = self.content.tags(repository)
        if what == "tags":
            return self._paged("tags", [
                {"name": tag, "digest": digest, "createdTime": "2018-09-06T06:17:21.0856539Z", "signed": False,
                 "lastUpdateTime": stamp(self.content.pushed(repository, tag)),
                 "changeableAttributes": self._attributes((repository, tag) in self.content.locked)}
                for tag, digest in tags.items()
            ], path, query)  # fmt: skip
        if what == "manifests":
            return self._paged("manifests", [
                {"digest": digest, "imageSize": self.content.size(digest), "architecture": None, "os": None,
                 "tags": [tag for tag, other in tags.items() if other == digest] or None,
                 "changeableAttributes": self._attributes(digest in self.manifests)}
                for digest in self.content.revisions(repository)
            ], path, query)  # fmt: skip
        return answer({"imageName": repository, "changeableAttributes": self._attributes(locked=False)})

    def _attributes(self, locked: bool) -> dict[str, bool | None]:  # noqa: FBT001 -- said of each
        return {"deleteEnabled": not locked, "writeEnabled": True, "readEnabled": True, "listEnabled": None}

    def _paged(self, key: str, rows: Sequence[Any], path: str, query: Mapping[str, str]) -> Reply:
        size, first = min(int(query.get("n", 100)), self.page), int(query.get("last", 0))
        last = first + size
        link = {"Link": f'<{path}?{urlencode({"n": size, "last": last})}>; rel="next"'} if last < len(rows) else {}
        return answer({"registry": "example.azurecr.io", key: rows[first:last] or None}, link)


def remove(root: Path, repository: str, digest: str) -> None:
    """Remove a manifest with every tag on it from a registry's disk, as GitHub does with a version."""
    content = Content(root)
    for tag in [tag for tag, other in content.tags(repository).items() if other == digest]:
        untag(root, repository, tag)
    hexadecimal = digest.partition(":")[2]
    folder = root / "docker/registry/v2/repositories" / repository / "_manifests/revisions/sha256" / hexadecimal
    (folder / "link").unlink(missing_ok=True)


def untag(root: Path, repository: str, tag: str) -> bool:
    """Remove a tag from a registry's disk, as a vendor's own API does."""
    folder = root / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag
    if not folder.is_dir():
        return False
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return True

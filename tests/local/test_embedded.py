"""The embedded registry: the spec's conformance tests by hand, then what goes wrong, then the real registry."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import distribution
import httpx
import pytest
from conftest import need
from images import ask

from regnb.change.collect import pushers
from regnb.errors import InvalidArgument, StorageError
from regnb.local.embedded import Server, create_app, running
from regnb.oci.disk import Layout
from regnb.oci.manifest import ACCEPT, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from regnb.oci.reference import Digest

Json = dict[str, Any]
NAME = "vm/centos8"
BLOB = b"a layer" * 1000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "storage") as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


def codes(answer: httpx.Response) -> list[str]:
    return [error["code"] for error in answer.json()["errors"]]


def push_blob(http: httpx.Client, name: str, data: bytes, algorithm: str = "sha256") -> Digest:
    digest = Digest.of(data, algorithm)
    location = http.post(f"/v2/{name}/blobs/uploads/").headers["Location"]
    answer = http.put(httpx.URL(location).copy_merge_params({"digest": digest}), content=data)
    assert answer.status_code == 201, answer.text
    return digest


def descriptor(data: bytes, media_type: str, **more: object) -> Json:
    return {"mediaType": media_type, "digest": Digest.of(data), "size": len(data), **more}


def manifest(*layers: bytes, config: bytes = b"{}", **more: object) -> bytes:
    layer = "application/vnd.oci.image.layer.v1.tar"
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(config, OCI_CONFIG)}
    return json.dumps({**body, "layers": [descriptor(data, layer) for data in layers], **more}, indent=1).encode()


def index(*children: bytes, **more: object) -> bytes:
    body = {"schemaVersion": 2, "mediaType": OCI_INDEX}
    return json.dumps({**body, "manifests": [descriptor(raw, OCI_MANIFEST) for raw in children], **more}).encode()


def put(http: httpx.Client, name: str, reference: str, raw: bytes, media_type: str = OCI_MANIFEST) -> httpx.Response:
    return http.put(f"/v2/{name}/manifests/{reference}", content=raw, headers={"Content-Type": media_type})


def push_image(http: httpx.Client, name: str, tag: str, *layers: bytes) -> bytes:
    for data in (b"{}", *layers):
        push_blob(http, name, data)
    raw = manifest(*layers)
    assert put(http, name, tag, raw).status_code == 201
    return raw


# Pull


def test_base(http: httpx.Client) -> None:
    """/v2/ says that this is a registry, and anything beside the API is a 404."""
    answer = http.get("/v2/")
    assert answer.status_code == 200
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    for path in ("/v2/nothing", "/", "/v1/", "/v2x/"):
        assert http.get(path).status_code == 404


def test_pull_by_tag_and_digest(http: httpx.Client) -> None:
    """A manifest comes back byte for byte, by tag and digest, by GET and HEAD, with its type, length and digest."""
    raw = push_image(http, NAME, "latest", BLOB)
    for reference in ("latest", Digest.of(raw)):
        head = http.head(f"/v2/{NAME}/manifests/{reference}")
        answer = http.get(f"/v2/{NAME}/manifests/{reference}")
        assert answer.content == raw
        for headers in (head.headers, answer.headers):
            assert headers["Content-Type"] == OCI_MANIFEST
            assert headers["Content-Length"] == str(len(raw))
            assert headers["Docker-Content-Digest"] == Digest.of(raw)
        assert head.content == b""


def test_what_is_not_there_is_404(http: httpx.Client) -> None:
    """Absent manifests, blobs, uploads and repositories each have their own code."""
    push_image(http, NAME, "latest")
    absent = Digest.of(b"absent")
    cases = {
        f"/v2/{NAME}/manifests/absent": "MANIFEST_UNKNOWN",
        f"/v2/{NAME}/manifests/.INVALID_MANIFEST_NAME": "MANIFEST_UNKNOWN",
        f"/v2/{NAME}/manifests/{absent}": "MANIFEST_UNKNOWN",
        f"/v2/{NAME}/blobs/{absent}": "BLOB_UNKNOWN",
        f"/v2/{NAME}/blobs/uploads/6fa459ea-ee8a-3ca4-894e-db77e160355e": "BLOB_UPLOAD_UNKNOWN",
        "/v2/absent/tags/list": "NAME_UNKNOWN",
    }
    for path, code in cases.items():
        answer = http.get(path)
        assert (answer.status_code, codes(answer)) == (404, [code]), path
        assert http.head(path).status_code == 404
    assert codes(http.get(f"/v2/{NAME}/blobs/sha256:short")) == ["DIGEST_INVALID"]


@pytest.mark.parametrize(
    ("asked", "status", "first", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=6990-", 206, 6990, 7000),
        ("bytes=-5", 206, 6995, 7000),
        ("bytes=6990-99999", 206, 6990, 7000),
        ("bytes=-99999", 206, 0, 7000),
        ("bytes=9-3", 416, 0, 0),
        ("bytes=7000-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,5-6", 200, 0, 7000),
        ("lines=1-2", 200, 0, 7000),
        (f"bytes={'9' * 5000}-", 200, 0, 7000),
    ],
)
def test_blob_ranges(http: httpx.Client, asked: str, status: int, first: int, end: int) -> None:
    """A range gives exactly its bytes; one outside is 416; what is not a single range is ignored."""
    digest = push_blob(http, NAME, BLOB)
    answer = http.get(f"/v2/{NAME}/blobs/{digest}", headers={"Range": asked})
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */7000"
    else:
        assert answer.content == BLOB[first:end]
        assert answer.headers.get("Content-Range") == (f"bytes {first}-{end - 1}/7000" if status == 206 else None)


def test_a_304_proves_existence(http: httpx.Client) -> None:
    """If-None-Match is answered only after looking: what is deleted is 404, unlike in distribution."""
    raw = push_image(http, NAME, "latest", BLOB)
    for path, digest in (
        (f"/v2/{NAME}/manifests/{Digest.of(raw)}", Digest.of(raw)),
        (f"/v2/{NAME}/blobs/{Digest.of(BLOB)}", Digest.of(BLOB)),
    ):
        headers = {"If-None-Match": f'"{digest}"'}
        assert http.get(path, headers=headers).status_code == 304
        http.delete(path)
        assert http.get(path, headers=headers).status_code == 404


# Push


def test_monolithic_uploads(http: httpx.Client) -> None:
    """POST with the digest, and POST then PUT, both end in 201 with a Location that gives the bytes back."""
    digest = Digest.of(BLOB)
    single = http.post(f"/v2/one/blobs/uploads/?digest={digest}", content=BLOB)
    session = http.post("/v2/two/blobs/uploads/")
    assert session.status_code == 202
    assert session.headers["Docker-Upload-UUID"] in session.headers["Location"]
    double = http.put(session.headers["Location"], params={"digest": digest}, content=BLOB)
    for answer in (single, double):
        assert answer.status_code == 201
        assert http.get(answer.headers["Location"]).content == BLOB
    assert http.put(session.headers["Location"], params={"digest": digest}).status_code == 404


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("last_in_put", [True, False])
def test_chunked_upload(http: httpx.Client, algorithm: str, last_in_put: bool) -> None:  # noqa: FBT001 - a parameter
    """Chunks in order are one blob; one out of order is 416 and changes nothing; the status says where it stands."""
    digest = Digest.of(BLOB, algorithm)
    location = http.post(f"/v2/{NAME}/blobs/uploads/", headers={"Content-Length": "0"}).headers["Location"]

    def patch(first: int, end: int) -> httpx.Response:
        return http.patch(location, content=BLOB[first:end], headers={"Content-Range": f"{first}-{end - 1}"})

    assert patch(1000, 2000).status_code == 416
    answer = patch(0, 1000)
    assert (answer.status_code, answer.headers["Range"]) == (202, "0-999")
    again = patch(0, 1000)
    assert (again.status_code, again.headers["Range"]) == (416, "0-999")
    status = http.get(location)
    assert (status.status_code, status.headers["Range"]) == (204, "0-999")
    assert status.headers["Location"]
    if last_in_put:
        headers = {"Content-Range": "1000-6999"}
        done = http.put(location, params={"digest": digest}, content=BLOB[1000:], headers=headers)
    else:
        assert patch(1000, 7000).headers["Range"] == "0-6999"
        done = http.put(location, params={"digest": digest})
    assert done.status_code == 201
    assert done.headers["Docker-Content-Digest"] == digest
    assert http.get(done.headers["Location"]).content == BLOB


WAYS = ("post", "post and put", "stream", "chunks", "last chunk in put")


def upload(http: httpx.Client, way: str, data: bytes, digest: str) -> httpx.Response:
    """Push a blob in one of the spec's ways and return the last answer."""
    if way == "post":
        return http.post(f"/v2/{NAME}/blobs/uploads/", params={"digest": digest}, content=data)
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    if way == "post and put":
        return http.put(location, params={"digest": digest}, content=data)
    if way == "stream":
        location = http.patch(location, content=iter([data])).headers["Location"]
        return http.put(location, params={"digest": digest})
    first, rest = 0, data
    while rest:
        chunk, rest = rest[:1024], rest[1024:]
        headers = {"Content-Range": f"{first}-{first + len(chunk) - 1}", "Content-Type": "application/octet-stream"}
        first += len(chunk)
        if way == "last chunk in put" and not rest:
            return http.put(location, params={"digest": digest}, content=chunk, headers=headers)
        location = http.patch(location, content=chunk, headers=headers).headers["Location"]
    return http.put(location, params={"digest": digest})


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_push_a_blob(http: httpx.Client, way: str, algorithm: str) -> None:
    """In whichever way a blob is pushed, the empty one too, HEAD and GET give it back; a wrong digest never sticks."""
    for data in (b"", b"{}", BLOB):
        digest = Digest.of(data, algorithm)
        answer = upload(http, way, data, digest)
        assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, digest)
        assert http.get(answer.headers["Location"]).content == data
        head = http.head(f"/v2/{NAME}/blobs/{digest}")
        assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(data)))
        assert head.headers["Docker-Content-Digest"] == digest
    wrong = Digest.of(b"other", algorithm)
    answer = upload(http, way, BLOB, wrong)
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])
    assert http.head(f"/v2/{NAME}/blobs/{wrong}").status_code == 404


def test_a_last_chunk_out_of_order(http: httpx.Client) -> None:
    """A PUT whose chunk is out of order is 416 like a PATCH, and the upload it was for goes on."""
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    http.patch(location, content=BLOB[:1000], headers={"Content-Range": "0-999"})
    query = {"digest": Digest.of(BLOB)}
    answer = http.put(location, params=query, content=BLOB[2000:], headers={"Content-Range": "2000-6999"})
    assert (answer.status_code, answer.headers["Range"]) == (416, "0-999")
    status = http.get(answer.headers["Location"], params=query)
    assert (status.status_code, status.headers["Range"]) == (204, "0-999")
    answer = http.put(location, params=query, content=BLOB[1000:], headers={"Content-Range": "1000-6999"})
    assert answer.status_code == 201


@pytest.mark.parametrize("form", ["{}-{}", "bytes {}-{}", "bytes={}-{}", "bytes {}-{}/*", "bytes {}-{}/7000"])
def test_forms_of_content_range(http: httpx.Client, form: str) -> None:
    """A chunk's range is the spec's bare one or HTTP's own, whichever the client writes."""
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    for first, end in ((0, 1000), (1000, 7000)):
        headers = {"Content-Range": form.format(first, end - 1)}
        answer = http.patch(location, content=BLOB[first:end], headers=headers)
        assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{end - 1}")
    assert http.put(location, params={"digest": Digest.of(BLOB)}).status_code == 201


def test_a_chunk_of_another_length_than_announced_is_taken_back(http: httpx.Client) -> None:
    """A chunk that does not fill its Content-Range is refused, and a resumed upload still has the right digest."""
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    http.patch(location, content=BLOB[:1000])
    for body in (BLOB[1000:1500], iter([BLOB[1000:1500]])):
        assert http.patch(location, content=body, headers={"Content-Range": "1000-1999"}).status_code == 400
        assert http.get(location).headers["Range"] == "0-999"
    http.patch(location, content=iter([BLOB[1000:4000], BLOB[4000:]]))
    assert http.put(location, params={"digest": Digest.of(BLOB)}).status_code == 201


def test_an_upload_survives_a_restart(tmp_path: Path) -> None:
    """A session begun before a restart goes on after it, although the running hash is gone."""
    with running(tmp_path) as server, httpx.Client(base_url=server.url) as http:
        location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
        http.patch(location, content=BLOB[:1000])
    with running(tmp_path) as server, httpx.Client(base_url=server.url) as http:
        http.patch(location, content=BLOB[1000:2000])
        assert http.put(location, params={"digest": Digest.of(BLOB)}, content=BLOB[2000:]).status_code == 201


def test_a_wrong_digest_is_refused(http: httpx.Client) -> None:
    """Bytes with another digest than announced are DIGEST_INVALID, and nothing of them stays."""
    wrong = Digest.of(b"other")
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    answer = http.put(location, params={"digest": wrong}, content=BLOB)
    assert (answer.status_code, codes(answer)) == (400, ["DIGEST_INVALID"])
    assert http.get(location).status_code == 404
    assert http.get(f"/v2/{NAME}/blobs/{wrong}").status_code == 404
    assert codes(http.post(f"/v2/{NAME}/blobs/uploads/?digest=md5:abc", content=BLOB)) == ["DIGEST_INVALID"]
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    assert codes(http.put(location, content=BLOB)) == ["DIGEST_INVALID"]


@pytest.mark.parametrize("digest", ["", "sha256:short", "SHA256:" + "a" * 64, "sha256:" + "A" * 64, "md5:" + "a" * 32])
def test_malformed_digests(http: httpx.Client, digest: str) -> None:
    """What is not a digest in the spec's spelling is DIGEST_INVALID, and an upload survives it."""
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    answers = [http.post(f"/v2/{NAME}/blobs/uploads/", params={"digest": digest}, content=BLOB)]
    answers.append(http.put(location, params={"digest": digest}, content=BLOB))
    if digest:
        answers.append(put(http, NAME, digest, manifest()))
        answers.append(http.get(f"/v2/{NAME}/blobs/{digest}"))
        answers.append(http.delete(f"/v2/{NAME}/manifests/{digest}"))
        assert codes(http.get(f"/v2/{NAME}/manifests/{digest}")) == ["MANIFEST_UNKNOWN"]
    assert [(answer.status_code, codes(answer)) for answer in answers] == [(400, ["DIGEST_INVALID"])] * len(answers)
    assert http.get(location).status_code == 204


def test_a_client_that_waits_for_100_continue(http: httpx.Client, server: Server) -> None:
    """Expect: 100-continue is granted to an upload that exists and spares the body where it does not."""
    known = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    unknown = f"/v2/{NAME}/blobs/uploads/6fa459ea-ee8a-3ca4-894e-db77e160355e"
    for location, expected in ((known, [b"100", b"201"]), (unknown, [b"404"])):
        request = f"PUT {location}?digest={Digest.of(BLOB)} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        found = []
        with socket.create_connection((server.host, server.port), 10) as raw, raw.makefile("rb") as answer:
            raw.sendall(f"{request}Content-Length: {len(BLOB)}\r\n\r\n".encode())
            found.append(answer.readline().split()[1])
            if found == [b"100"]:
                answer.readline()
                raw.sendall(BLOB)
                found.append(answer.readline().split()[1])
        assert found == expected


def test_a_refusal_in_the_middle_of_a_body(server: Server) -> None:
    """A client that is refused early can finish its body, read the answer and use the connection again."""
    body = b"x" * 20_000_000
    request = f"PATCH /v2/{NAME}/blobs/uploads/6fa459ea-ee8a-3ca4-894e-db77e160355e HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection((server.host, server.port), 30) as raw, raw.makefile("rb") as answer:
        for _ in range(2):
            raw.sendall(f"{request}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert answer.readline().split()[1] == b"404"
            headers = dict(line.lower().split(b": ") for line in iter(answer.readline, b"\r\n"))
            assert json.loads(answer.read(int(headers[b"content-length"])))["errors"]


def test_cancelling_an_upload(http: httpx.Client, server: Server, tmp_path: Path) -> None:
    """DELETE of an upload is 204 and leaves no file of it."""
    location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
    http.patch(location, content=BLOB)
    assert http.delete(location).status_code == 204
    assert http.get(location).status_code == 404
    assert list(tmp_path.rglob("_uploads/*")) == []


def test_mount(http: httpx.Client) -> None:
    """A blob that the source has is mounted without its bytes; else the answer is an upload session."""
    digest = push_blob(http, "source", BLOB)
    for target in ("target", "source"):
        mounted = http.post(f"/v2/{target}/blobs/uploads/?mount={digest}&from=source")
        assert (mounted.status_code, mounted.headers["Docker-Content-Digest"]) == (201, digest)
        assert mounted.headers["Location"] == f"/v2/{target}/blobs/{digest}"
        assert http.get(mounted.headers["Location"]).content == BLOB
    for query in (f"mount={Digest.of(b'x')}&from=source", f"mount={digest}&from=../etc", f"mount={digest}", "mount=x"):
        answer = http.post(f"/v2/target/blobs/uploads/?{query}")
        assert answer.status_code == 202, query
        assert http.delete(answer.headers["Location"]).status_code == 204


def test_missing_parts_are_all_named(http: httpx.Client) -> None:
    """A manifest whose blobs, or an index whose children, are missing is refused with one error for each."""
    push_blob(http, NAME, b"{}")
    answer = put(http, NAME, "t", manifest(b"1", b"2", b"2"))
    assert (answer.status_code, codes(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"] * 2)
    assert {error["detail"]["digest"] for error in answer.json()["errors"]} == {Digest.of(b"1"), Digest.of(b"2")}
    push_blob(http, NAME, b"1")
    assert codes(put(http, NAME, "t", index(b"1"), OCI_INDEX)) == ["MANIFEST_BLOB_UNKNOWN"]
    assert http.get(f"/v2/{NAME}/manifests/t").status_code == 404


def test_foreign_layers_need_not_be_there(http: httpx.Client) -> None:
    """A layer that lives elsewhere and says where is not asked for."""
    push_blob(http, NAME, b"{}")
    layer = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    raw = manifest(layers=[descriptor(b"x", layer, urls=["https://example.org/x"])])
    assert put(http, NAME, "t", raw).status_code == 201


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_MANIFEST, "application/json", "text/html"])
def test_another_content_type_than_the_manifest_is_refused(http: httpx.Client, media_type: str) -> None:
    """The Content-Type must be what the bytes say, for the layout keeps only the bytes."""
    push_blob(http, NAME, b"{}")
    assert codes(put(http, NAME, "t", manifest(), media_type)) == ["MANIFEST_INVALID"]


def test_manifests_by_digest(http: httpx.Client) -> None:
    """A manifest can be pushed under its sha256 or sha512, untagged; under another's it cannot."""
    push_blob(http, NAME, b"{}")
    raw = manifest()
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(raw, algorithm)
        answer = put(http, NAME, digest, raw)
        assert (answer.status_code, answer.headers["Docker-Content-Digest"]) == (201, digest)
        assert http.get(answer.headers["Location"]).content == raw
    assert codes(put(http, NAME, Digest.of(b"x"), raw)) == ["DIGEST_INVALID"]
    assert http.get(f"/v2/{NAME}/tags/list").json() == {"name": NAME, "tags": []}


UNUSUAL: dict[str, bytes] = {
    "no layers": manifest(),
    "no mediaType": manifest().replace(b'"mediaType"', b'"unused"', 1),
    "unknown fields": manifest(layers=[descriptor(b"{}", "a/b", other="eA==")], **{"org.example.x": {"y": [1]}}),
    "data in a descriptor": manifest(layers=[{**descriptor(b"{}", "a/b"), "data": "e30="}]),
    "3.9 MB of annotations": manifest(annotations={f"large-{number}": "A" * 10_000 for number in range(390)}),
    "empty index": index(),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_manifests(http: httpx.Client, case: str) -> None:
    """What the image spec allows is kept byte for byte, sent without a length as Go clients do."""
    push_blob(http, NAME, b"{}")
    raw = UNUSUAL[case]
    media_type = OCI_INDEX if case == "empty index" else OCI_MANIFEST
    answer = http.put(f"/v2/{NAME}/manifests/t", content=iter([raw]), headers={"Content-Type": media_type})
    assert answer.status_code == 201, answer.text
    pulled = http.get(answer.headers["Location"], headers={"Accept": media_type})
    assert (pulled.content, pulled.headers["Content-Type"]) == (raw, media_type)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_nested_indexes(http: httpx.Client, algorithm: str) -> None:
    """An index may hold indexes, may be a subject, and may name its children by either algorithm."""
    push_blob(http, NAME, b"{}")
    raw = manifest()
    for _ in range(3):
        digest = Digest.of(raw, algorithm)
        kind = json.loads(raw)["mediaType"]
        assert put(http, NAME, digest, raw, kind).status_code == 201
        raw = json.dumps({**json.loads(index()), "manifests": [{**descriptor(raw, kind), "digest": digest}]}).encode()
    referrer = manifest(subject={**descriptor(raw, OCI_INDEX), "digest": digest})
    assert put(http, NAME, "referrer", referrer).headers["OCI-Subject"] == digest
    listed = http.get(f"/v2/{NAME}/referrers/{digest}").json()["manifests"]
    assert [entry["digest"] for entry in listed] == [Digest.of(referrer)]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_tags_beside_the_digest(http: httpx.Client, algorithm: str) -> None:
    """A push by digest can name tags: each is confirmed, points to that very digest and goes with it."""
    push_blob(http, NAME, b"{}")
    raw = manifest()
    digest = Digest.of(raw, algorithm)
    answer = put(http, NAME, f"{digest}?tag=one&tag=two&tag=one", raw)
    assert (answer.status_code, answer.headers.get_list("OCI-Tag")) == (201, ["one", "two"])
    for tag in ("one", "two"):
        assert http.head(f"/v2/{NAME}/manifests/{tag}").headers["Docker-Content-Digest"] == digest
    assert codes(put(http, NAME, f"{digest}?tag=fine&tag=.bad", raw)) == ["TAG_INVALID"]
    assert "OCI-Tag" not in put(http, NAME, "three?tag=four", raw).headers
    assert http.get(f"/v2/{NAME}/tags/list").json()["tags"] == ["one", "three", "two"]
    assert http.delete(f"/v2/{NAME}/manifests/{digest}").status_code == 202
    left = ["three"] if algorithm == "sha512" else []
    assert http.get(f"/v2/{NAME}/tags/list").json()["tags"] == left


def test_manifests_are_bounded(http: httpx.Client) -> None:
    """4 MiB of manifest are accepted, one byte more is 413."""
    push_blob(http, NAME, b"{}")
    raw = manifest()
    raw += b" " * (4 * 1024 * 1024 - len(raw))
    assert put(http, NAME, "t", raw).status_code == 201
    assert put(http, NAME, "t", raw + b" ").status_code == 413


# Discovery


def test_tags_come_in_pages(http: httpx.Client) -> None:
    """Following Link gives every tag once, in order; n=0 is an empty page; n that is not a number is refused."""
    raw = push_image(http, NAME, "t0")
    for number in range(1, 7):
        put(http, NAME, f"t{number}", raw)
    put(http, NAME, "Upper", raw)
    expected = ["Upper", *(f"t{number}" for number in range(7))]
    assert http.get(f"/v2/{NAME}/tags/list").json()["tags"] == expected
    found: list[str] = []
    answer = http.get(f"/v2/{NAME}/tags/list", params={"n": 3})
    while True:
        found += answer.json()["tags"]
        if "next" not in answer.links:
            break
        answer = http.get(answer.links["next"]["url"])
    assert found == expected
    assert http.get(f"/v2/{NAME}/tags/list?n=0").json()["tags"] == []
    assert http.get(f"/v2/{NAME}/tags/list?last=t4").json()["tags"] == ["t5", "t6"]
    assert "Link" not in http.get(f"/v2/{NAME}/tags/list?n=8").headers
    for wrong in ("-1", "x", "٣", "9" * 5000):
        assert http.get(f"/v2/{NAME}/tags/list", params={"n": wrong}).status_code == 400


def test_the_catalog_comes_in_pages(http: httpx.Client) -> None:
    """The catalog is sorted by whole names, paged by 100 unless asked otherwise, and keeps emptied repositories."""
    names = sorted({f"{prefix}/r{number}" for prefix in ("a", "a-b", "a/c") for number in range(40)})
    for name in names:
        http.post(f"/v2/{name}/blobs/uploads/?digest={Digest.of(b'{}')}", content=b"{}")
    answer = http.get("/v2/_catalog")
    assert answer.json()["repositories"] == names[:100]
    assert http.get(answer.links["next"]["url"]).json()["repositories"] == names[100:]
    assert http.get("/v2/_catalog?n=1000").json()["repositories"] == names


def test_referrers(http: httpx.Client) -> None:
    """What has a subject is listed with type, annotations and size, filtered if asked, gone if deleted."""
    raw = push_image(http, NAME, "latest", BLOB)
    subject = descriptor(raw, OCI_MANIFEST)
    sbom = manifest(subject=subject, artifactType="application/spdx+json", annotations={"a": "b"})
    signature = manifest(subject=subject, config=b"{}", artifactType="application/x-signature")
    plain = manifest(subject=subject, annotations={"c": "d"})
    grouped = index(raw, subject=subject, artifactType="application/spdx+json")
    for pushed in (sbom, signature, plain, grouped):
        media_type = OCI_INDEX if pushed is grouped else OCI_MANIFEST
        answer = put(http, NAME, Digest.of(pushed), pushed, media_type)
        assert answer.headers["OCI-Subject"] == subject["digest"]
    url = f"/v2/{NAME}/referrers/{subject['digest']}"
    answer = http.get(url)
    assert answer.headers["Content-Type"] == OCI_INDEX
    found = {entry["digest"]: entry for entry in answer.json()["manifests"]}
    assert set(found) == {Digest.of(pushed) for pushed in (sbom, signature, plain, grouped)}
    expected = descriptor(sbom, OCI_MANIFEST, artifactType="application/spdx+json", annotations={"a": "b"})
    assert found[Digest.of(sbom)] == expected
    assert found[Digest.of(plain)]["artifactType"] == OCI_CONFIG
    filtered = http.get(url, params={"artifactType": "application/spdx+json"})
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert {entry["digest"] for entry in filtered.json()["manifests"]} == {Digest.of(sbom), Digest.of(grouped)}
    assert http.delete(f"/v2/{NAME}/manifests/{Digest.of(sbom)}").status_code == 202
    assert Digest.of(sbom) not in {entry["digest"] for entry in http.get(url).json()["manifests"]}


def test_referrers_of_what_is_not_there(http: httpx.Client) -> None:
    """A subject may come after its referrers: they are accepted and listed; without any it is empty, never 404."""
    push_blob(http, NAME, b"{}")
    raw = manifest(subject=descriptor(b"later", OCI_MANIFEST))
    assert put(http, NAME, "early", raw).status_code == 201
    listed = http.get(f"/v2/{NAME}/referrers/{Digest.of(b'later')}").json()["manifests"]
    assert [entry["digest"] for entry in listed] == [Digest.of(raw)]
    for name in (NAME, "no/such/repository"):
        answer = http.get(f"/v2/{name}/referrers/{Digest.of(b'nothing')}")
        assert (answer.status_code, answer.json()["manifests"]) == (200, [])
    assert http.get(f"/v2/{NAME}/referrers/x").status_code == 400


# Deletion


def test_deleting_a_tag_keeps_its_siblings(http: httpx.Client) -> None:
    """By tag only the tag goes; by digest the manifest and every tag on it, and no other."""
    raw = push_image(http, NAME, "one")
    put(http, NAME, "two", raw)
    push_image(http, NAME, "other", BLOB)
    assert http.delete(f"/v2/{NAME}/manifests/one").status_code == 202
    assert http.delete(f"/v2/{NAME}/manifests/one").status_code == 404
    assert http.get(f"/v2/{NAME}/manifests/two").content == raw
    assert http.delete(f"/v2/{NAME}/manifests/{Digest.of(raw)}").status_code == 202
    assert http.delete(f"/v2/{NAME}/manifests/{Digest.of(raw)}").status_code == 404
    assert http.get(f"/v2/{NAME}/manifests/two").status_code == 404
    assert http.get(f"/v2/{NAME}/tags/list").json()["tags"] == ["other"]
    assert put(http, NAME, "one", raw).status_code == 201


def test_deleting_a_blob_is_per_repository(http: httpx.Client) -> None:
    """A blob deleted from one repository stays in the other."""
    digest = push_blob(http, "one", BLOB)
    push_blob(http, "two", BLOB)
    assert http.delete(f"/v2/one/blobs/{digest}").status_code == 202
    assert http.delete(f"/v2/one/blobs/{digest}").status_code == 404
    assert http.get(f"/v2/one/blobs/{digest}").status_code == 404
    assert http.get(f"/v2/two/blobs/{digest}").content == BLOB


def test_deletion_can_be_off(tmp_path: Path) -> None:
    """With deletion off it is 405 UNSUPPORTED, even for what is absent; cancelling an upload is not a deletion."""
    with running(tmp_path, delete=False) as server, httpx.Client(base_url=server.url) as http:
        push_image(http, NAME, "latest")
        for path in ("manifests/latest", f"manifests/{Digest.of(b'x')}", f"blobs/{Digest.of(b'{}')}"):
            answer = http.delete(f"/v2/{NAME}/{path}")
            assert (answer.status_code, codes(answer)) == (405, ["UNSUPPORTED"])
        assert http.delete(http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]).status_code == 204


def test_read_only(tmp_path: Path) -> None:
    """A read-only registry serves, refuses every write, and says so to OPTIONS; its folder does not change."""
    with running(tmp_path) as server, httpx.Client(base_url=server.url) as http:
        raw = push_image(http, NAME, "latest")
        assert ask(server.url, pushers.ask).pushes == "writable"
    before = sorted(tmp_path.rglob("*"))
    with running(tmp_path, read_only=True) as server, httpx.Client(base_url=server.url) as http:
        assert ask(server.url, partial(pushers.ask, witness=(NAME, str(Digest.of(raw))))).pushes == "read-only"
        assert http.get(f"/v2/{NAME}/manifests/latest").content == raw
        for method, path in (("PUT", "manifests/t"), ("POST", "blobs/uploads/"), ("DELETE", "manifests/latest")):
            answer = http.request(method, f"/v2/{NAME}/{path}")
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert sorted(tmp_path.rglob("*")) == before


# Names


@pytest.mark.parametrize("name", ["a/blobs/b", "a/tags/b", "blobs/uploads", "manifests", "a/manifests/x", "tags/list"])
def test_names_that_look_like_endpoints(http: httpx.Client, name: str) -> None:
    """A lawful name is served even where its parts are the API's own words."""
    raw = push_image(http, name, "latest", BLOB)
    assert http.get(f"/v2/{name}/manifests/latest").content == raw
    assert http.get(f"/v2/{name}/tags/list").json() == {"name": name, "tags": ["latest"]}
    assert http.get(f"/v2/{name}/blobs/{Digest.of(BLOB)}").content == BLOB
    assert http.get(f"/v2/{name}/referrers/{Digest.of(raw)}").json()["manifests"] == []
    assert http.get("/v2/_catalog").json()["repositories"] == [name]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../../../etc/manifests/passwd",
        "/v2/a/../b/manifests/t",
        "/v2/..%2f..%2fetc/manifests/t",
        "/v2/a%00b/manifests/t",
        "/v2/a//b/manifests/t",
        "/v2/A/manifests/t",
        "/v2/a/_uploads/manifests/t",
        f"/v2/{'a' * 256}/manifests/t",
        "/v2/a/blobs/uploads/..",
        "/v2/a/blobs/uploads/%2e%2e%2f%2e%2e",
        "/v2/a/blobs/sha256:..%2f..",
        "/v2/a/manifests/..",
        "/v2/a/manifests/%2e%2e",
        "/v2/a/manifests/t%0a",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_hostile_paths(server: Server, tmp_path: Path, method: str, path: str) -> None:
    """Whatever a raw request line holds is refused with a 4xx, and nothing is created anywhere."""
    before = sorted(tmp_path.rglob("*"))
    headers = "Host: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    request = f"{method} {path}?digest={Digest.of(b'')} HTTP/1.1\r\n{headers}"
    with socket.create_connection((server.host, server.port), 10) as raw:
        raw.sendall(request.encode())
        status = int(raw.makefile("rb").readline().split()[1])
    assert 400 <= status < 500
    assert sorted(tmp_path.rglob("*")) == before


def test_an_upload_belongs_to_its_repository(http: httpx.Client) -> None:
    """Another repository cannot see, take or cancel an upload, even knowing its UUID."""
    session = http.post("/v2/mine/blobs/uploads/").headers["Docker-Upload-UUID"]
    theirs = f"/v2/yours/blobs/uploads/{session}"
    assert {http.request(method, theirs).status_code for method in ("GET", "PATCH", "DELETE")} == {404}
    assert http.get(f"/v2/mine/blobs/uploads/{session}").status_code == 204


def _deep(depth: int) -> bytes:
    return b'{"schemaVersion":2,"manifests":' + b"[" * depth + b"]" * depth + b"}"


HOSTILE: dict[str, bytes] = {
    "negative size": manifest(config=b"{}").replace(b'"size": 2', b'"size": -1'),
    "huge size": manifest(config=b"{}").replace(b'"size": 2', b'"size": 9223372036854775807'),
    "5,000 equal layers": manifest(*[b"{}"] * 5000),
    "layers null": manifest(layers=None),
    "nested 9,000 deep": _deep(9000),
    "deep annotations": manifest(annotations={"a": "b"}).replace(b'"b"', b"[" * 900 + b"]" * 900),
    "invalid UTF-8": manifest(annotations={"a": "b"}).replace(b'"b"', b'"\xff\xfe"'),
    "lone surrogate": manifest(annotations={"a": "b"}).replace(b'"b"', b'"\\ud800"'),
    "infinite": manifest(annotations={"a": "b"}).replace(b'"b"', b"1e999"),
    "markup": manifest(annotations={"a": "<script>\x1b[31m=cmd|' /C calc'!A0"}),
    "empty": b"",
    "null": b"null",
    "number": b"1",
    "NUL": b"\0" * 100,
    "schema 1": b'{"schemaVersion":1,"fsLayers":[],"signatures":[]}',
    "digest outside": manifest(config=b"{}").replace(b"sha256:", b"sha256:../../"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_manifests(http: httpx.Client, case: str) -> None:
    """A hostile manifest is accepted or refused, never a 500, and the repository goes on serving."""
    subject = descriptor(b"s", OCI_MANIFEST)
    push_blob(http, NAME, b"{}")
    raw = HOSTILE[case].replace(b'"layers"', b'"subject":%s,"layers"' % json.dumps(subject).encode(), 1)
    answer = put(http, NAME, "hostile", raw, OCI_INDEX if case.startswith("nested") else OCI_MANIFEST)
    assert answer.status_code in {201, 400}
    if answer.status_code == 201:
        assert http.get(f"/v2/{NAME}/manifests/hostile").content == raw
    assert http.get(f"/v2/{NAME}/referrers/{subject['digest']}").status_code == 200
    assert http.get(f"/v2/{NAME}/tags/list").status_code == 200


def test_a_damaged_folder(http: httpx.Client, tmp_path: Path) -> None:
    """A dangling tag is listed and 404; a corrupt one is a 500 in JSON that tells no path; the rest is served."""
    raw = push_image(http, NAME, "good", BLOB)
    gone = manifest(annotations={"a": "b"})
    put(http, NAME, "dangling", gone)
    put(http, NAME, "bad", raw)
    next(tmp_path.rglob(f"blobs/sha256/*/{Digest.of(gone).hex}/data")).unlink()
    next(tmp_path.rglob("tags/bad/current/link")).write_bytes(b"sha256:")
    assert http.get(f"/v2/{NAME}/tags/list").json()["tags"] == ["bad", "dangling", "good"]
    assert http.get(f"/v2/{NAME}/manifests/dangling").status_code == 404
    answer = http.get(f"/v2/{NAME}/manifests/bad")
    assert (answer.status_code, codes(answer)) == (500, ["UNKNOWN"])
    assert str(tmp_path) not in answer.text
    assert http.get(f"/v2/{NAME}/manifests/good").content == raw


# Several at once, and the end of the process


def test_many_uploads_of_one_blob(server: Server) -> None:
    """Eight clients that push one blob in small pieces at once all succeed, and it is whole at every moment."""
    data = os.urandom(2_000_000)
    digest = Digest.of(data)

    def push(number: int) -> bytes:
        with httpx.Client(base_url=server.url) as http:
            location = http.post("/v2/shared/blobs/uploads/").headers["Location"]
            for first in range(0, len(data), 300_000 + number):
                http.patch(location, content=data[first : first + 300_000 + number])
            assert http.put(location, params={"digest": digest}).status_code == 201
            return http.get(f"/v2/shared/blobs/{digest}").content

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, range(8))) == {data}


def test_chunks_sent_to_one_session_at_once(server: Server) -> None:
    """Of several equal chunks sent to one session at once, one is taken and the others are 416."""
    with httpx.Client(base_url=server.url) as http:
        location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]

    def patch(_number: int) -> int:
        with httpx.Client(base_url=server.url) as http:
            return http.patch(location, content=BLOB, headers={"Content-Range": "0-6999"}).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(patch, range(6))) == [202, 416, 416, 416, 416, 416]
    with httpx.Client(base_url=server.url) as http:
        assert http.put(location, params={"digest": Digest.of(BLOB)}).status_code == 201


def test_tagging_against_deleting(server: Server) -> None:
    """However pushes of a tag and deletions of its digest interleave, no tag is left that dangles."""
    with httpx.Client(base_url=server.url) as http:
        raw = push_image(http, NAME, "t")

    def delete() -> None:
        with httpx.Client(base_url=server.url) as http:
            for _ in range(60):
                http.delete(f"/v2/{NAME}/manifests/{Digest.of(raw)}")

    rival = threading.Thread(target=delete)
    rival.start()
    with httpx.Client(base_url=server.url) as http:
        for _ in range(60):
            assert put(http, NAME, "t", raw).status_code == 201
        rival.join()
        tags = http.get(f"/v2/{NAME}/tags/list").json()["tags"]
        assert [tag for tag in tags if http.get(f"/v2/{NAME}/manifests/{tag}").status_code != 200] == []


SERVE = """
import sys
from regnb.local.embedded import serve
serve(sys.argv[1], port=0, ready=lambda url: print(url, flush=True))
"""


def start(root: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.wait(60)
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("seed", range(3))
def test_kill_in_the_middle_of_pushes(tmp_path: Path, seed: int) -> None:
    """After SIGKILL during pushes, a new process serves every acknowledged byte, and shows no half of anything."""
    process, url = start(tmp_path)
    blobs: dict[Digest, bytes] = {}
    tags: dict[str, bytes] = {}
    sent: list[Digest] = []

    def push() -> None:
        source = random.Random(seed)  # noqa: S311 - repeatable is the point
        with httpx.Client(base_url=url) as http:
            push_blob(http, NAME, b"{}")
            for number in range(100_000):
                data = source.randbytes(source.choice((10, 100_000, 3_000_000)))
                sent.append(Digest.of(data))
                blobs[push_blob(http, NAME, data)] = data
                raw = manifest(data)
                if put(http, NAME, f"t{number % 5}", raw).status_code == 201:
                    tags[f"t{number % 5}"] = raw

    def pushing() -> None:
        with pytest.raises(httpx.TransportError):
            push()

    pusher = threading.Thread(target=pushing)
    pusher.start()
    deadline = time.monotonic() + 60
    while len(tags) < 3 + seed and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05 * seed)
    end(process, signal.SIGKILL)
    pusher.join(60)
    assert tags
    process, url = start(tmp_path)
    with httpx.Client(base_url=url) as http:
        for digest, data in blobs.items():
            assert http.get(f"/v2/{NAME}/blobs/{digest}").content == data
        for digest in sent:
            answer = http.get(f"/v2/{NAME}/blobs/{digest}")
            assert answer.status_code == 404 or Digest.of(answer.content) == digest
        listed = http.get(f"/v2/{NAME}/tags/list").json()["tags"]
        assert set(tags) <= set(listed)
        for tag in listed:
            answer = http.get(f"/v2/{NAME}/manifests/{tag}")
            assert answer.status_code == 200
            assert Digest.of(answer.content) == answer.headers["Docker-Content-Digest"]
        assert push_image(http, NAME, "after", b"works")
    end(process, signal.SIGINT)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_large_uploads_are_not_held_in_memory(tmp_path: Path) -> None:
    """200 MB pushed and pulled in streams cost the server less than 40 MB of memory."""
    process, url = start(tmp_path)

    def peak() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    block = os.urandom(1_000_000)
    with httpx.Client(base_url=url, timeout=600) as http:
        push_blob(http, NAME, b"warm")
        before = peak()
        digest = Digest.of(block * 200)
        location = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
        assert http.patch(location, content=(block for _ in range(200))).status_code == 202
        assert http.put(location, params={"digest": digest}).status_code == 201
        with http.stream("GET", f"/v2/{NAME}/blobs/{digest}") as answer:
            assert sum(len(chunk) for chunk in answer.iter_bytes()) == 200_000_000
        grown = peak() - before
    end(process, signal.SIGINT)
    assert grown < 40


def test_in_process(tmp_path: Path) -> None:
    """The app needs no socket: httpx talks to it in the same loop, a push and a pull alike."""

    async def scenario() -> None:
        transport = httpx.ASGITransport(create_app(tmp_path))
        async with httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
            digest = Digest.of(BLOB)
            answer = await http.post(f"/v2/{NAME}/blobs/uploads/?digest={digest}", content=BLOB)
            assert (await http.get(answer.headers["Location"])).content == BLOB

    asyncio.run(scenario())


def test_behind_a_prefix(tmp_path: Path) -> None:
    """Behind a proxy that puts a path in front, Location and Link carry it."""

    async def scenario() -> None:
        transport = httpx.ASGITransport(create_app(tmp_path), root_path="/proxy/5000")
        async with httpx.AsyncClient(transport=transport, base_url="http://registry/proxy/5000") as http:
            answer = await http.post(f"/v2/{NAME}/blobs/uploads/")
            assert answer.headers["Location"].startswith("/proxy/5000/v2/")

    asyncio.run(scenario())


def test_it_can_be_stopped_while_the_disk_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that waits for the disk does not keep the program from going on."""
    monkeypatch.setattr("regnb.local.embedded._PATIENCE", 0.1)
    asked, awake = threading.Event(), threading.Event()

    def hang(_: Layout) -> list[str]:
        asked.set()
        awake.wait()
        return []

    monkeypatch.setattr(Layout, "repositories", hang)
    server = Server(tmp_path / "storage")
    server.start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.get, f"{server.url}/v2/_catalog", timeout=600)
        assert asked.wait(60)
        server.stop()
        awake.set()
        answer.exception()


def test_a_port_in_use(server: Server, tmp_path: Path) -> None:
    """A port that is taken is one clear error with a hint, and so is an address that is not here."""
    with pytest.raises(InvalidArgument, match="another port"):
        Server(tmp_path / "second", port=server.port)
    with pytest.raises(InvalidArgument):
        Server(tmp_path / "second", host="no.such.host.invalid")
    with pytest.raises(StorageError):
        Server(Path(__file__).parent)


def test_without_the_extra() -> None:
    """Without starlette the import says which extra to install."""
    code = """
import sys
sys.modules["starlette.applications"] = None
from regnb.errors import MissingExtra
try:
    import regnb.local.embedded
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'regnb[embedded]'" in done.stdout


# The real registry and the real tools


def fill(http: httpx.Client) -> None:
    """Push a bit of everything that docker-registry takes too, and delete some of it."""
    one = push_image(http, NAME, "latest", BLOB, b"second")
    put(http, NAME, "same", one)
    docker = manifest(BLOB, mediaType=DOCKER_MANIFEST).replace(OCI_CONFIG.encode(), b"application/octet-stream")
    put(http, NAME, "docker", docker, DOCKER_MANIFEST)
    assert put(http, NAME, "multi", index(one), OCI_INDEX).status_code == 201
    push_image(http, "a/blobs/b", "x", b"other")
    http.post(f"/v2/mounted/blobs/uploads/?mount={Digest.of(BLOB)}&from={NAME}")
    push_image(http, "mounted", "m", BLOB)
    dropped = push_image(http, "emptied", "gone", b"to be deleted")
    assert http.delete(f"/v2/emptied/manifests/{Digest.of(dropped)}").status_code == 202
    assert http.delete(f"/v2/emptied/blobs/{Digest.of(b'to be deleted')}").status_code == 202


def everything(http: httpx.Client) -> Json:
    """Return all that a registry answers for: manifests, blobs, what is absent."""
    found: Json = {}
    for name in ("a/blobs/b", "emptied", "mounted", NAME):
        tags = http.get(f"/v2/{name}/tags/list").json()["tags"]
        found[name] = sorted(tags or [])
        for tag in found[name]:
            answer = http.get(f"/v2/{name}/manifests/{tag}", headers={"Accept": ", ".join(ACCEPT)})
            digest = answer.headers["Docker-Content-Digest"]
            found[f"{name}:{tag}"] = (answer.headers["Content-Type"], digest, answer.content)
        for data in (b"{}", BLOB, b"second", b"other", b"to be deleted"):
            answer = http.get(f"/v2/{name}/blobs/{Digest.of(data)}")
            found[f"{name}@{Digest.of(data)}"] = answer.content if answer.status_code == 200 else answer.status_code
    assert sorted(http.get("/v2/_catalog").json()["repositories"]) == ["a/blobs/b", "emptied", "mounted", NAME]
    return found


def test_docker_registry_serves_what_was_pushed_here(real: distribution.Distribution) -> None:
    """Debian's docker-registry answers alike over our folder, deletions included, and can go on writing in it."""
    with running(real.root) as server, httpx.Client(base_url=server.url) as http:
        fill(http)
        here = everything(http)
    with httpx.Client(base_url=real.url) as http:
        assert everything(http) == here
        assert len(here[NAME]) == 4
        raw = here[f"{NAME}:docker"][2]
        assert http.delete(f"/v2/{NAME}/manifests/{Digest.of(raw)}").status_code == 202
        push_image(http, NAME, "theirs", b"second")
    with running(real.root) as server, httpx.Client(base_url=server.url) as http:
        assert http.get(f"/v2/{NAME}/tags/list").json()["tags"] == ["latest", "multi", "same", "theirs"]


def test_docker_registry_pushes_and_we_serve(real: distribution.Distribution) -> None:
    """What Debian's docker-registry wrote and deleted is answered alike here, referrers included."""
    with httpx.Client(base_url=real.url) as http:
        fill(http)
        there = everything(http)
        subject = there[f"{NAME}:latest"][1]
        signature = manifest(subject={"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}, artifactType="a/b")
        put(http, NAME, "signature", signature)
    with running(real.root) as server, httpx.Client(base_url=server.url) as http:
        listed = http.get(f"/v2/{NAME}/referrers/{subject}").json()["manifests"]
        assert [entry["artifactType"] for entry in listed] == ["a/b"]
        assert http.delete(f"/v2/{NAME}/manifests/{Digest.of(signature)}").status_code == 202
        assert everything(http) == there
        assert http.delete(f"/v2/{NAME}/manifests/same").status_code == 202
    real.restart()
    with httpx.Client(base_url=real.url) as http:
        assert sorted(http.get(f"/v2/{NAME}/tags/list").json()["tags"]) == ["docker", "latest", "multi"]


def test_the_real_garbage_collection_over_our_folder(real: distribution.Distribution) -> None:
    """docker-registry garbage-collect removes exactly the deleted image's own bytes from a folder written here."""
    with running(real.root) as server, httpx.Client(base_url=server.url) as http:
        fill(http)
        litter = http.post(f"/v2/{NAME}/blobs/uploads/").headers["Location"]
        http.patch(litter, content=b"never finished")
        before = real.stored()
        here = everything(http)
    real.garbage_collect()
    with running(real.root) as server, httpx.Client(base_url=server.url) as http:
        assert everything(http) == here
    assert before - real.stored() == len(b"to be deleted") + len(manifest(b"to be deleted"))


@pytest.fixture
def skopeo() -> Callable[..., bytes]:
    from shutil import which  # noqa: PLC0415 - only here

    need("registry", which("skopeo"), "skopeo is not installed (apt-get install skopeo)")

    def run(*arguments: str) -> bytes:
        done = subprocess.run(["skopeo", *arguments], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


def test_skopeo(http: httpx.Client, server: Server, skopeo: Callable[..., bytes], tmp_path: Path) -> None:
    """Skopeo pulls, pushes, copies within and deletes from the registry, and every byte is kept."""
    raw = push_image(http, NAME, "latest", BLOB)
    host = f"docker://{server.host}:{server.port}"
    assert skopeo("inspect", "--raw", "--tls-verify=false", f"{host}/{NAME}:latest") == raw
    skopeo("copy", "--src-tls-verify=false", f"{host}/{NAME}:latest", f"dir:{tmp_path / 'dir'}")
    assert (tmp_path / "dir" / Digest.of(BLOB).hex).read_bytes() == BLOB
    skopeo("copy", "--dest-tls-verify=false", f"dir:{tmp_path / 'dir'}", f"{host}/copied/there:1")
    both = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", *both, f"{host}/copied/there:1", f"{host}/copied/again:2")
    assert http.get("/v2/copied/again/manifests/2").content == raw
    skopeo("delete", "--tls-verify=false", f"{host}/copied/again:2")
    assert http.get("/v2/copied/again/manifests/2").status_code == 404
    assert Layout(tmp_path / "storage").repositories() == ["copied/again", "copied/there", NAME]


@pytest.mark.parametrize("name", ["oci:layout", "oci-archive:app.tar", "https://registry.example"])
def test_only_a_folder_is_served(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout or a URL is refused, and no folder is made that is called so."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="is not a folder"):
        Server(name)
    assert not [*tmp_path.iterdir()]

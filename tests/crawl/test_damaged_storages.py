"""Damaged and unusual storages: what regnb says of each, and what the real garbage collection does with it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collected import FLAGS, agrees, collect, same_verdict
from images import LAYER, Image, descriptor, image, index, layer, pack

from regnb.analysis.reclaim import Reclaim
from regnb.analysis.storage import open_storage
from regnb.oci.reference import Digest

ABSENT = "sha256:" + "0" * 64
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def one(name: str, **more: object) -> Image:
    """An image of a common layer and one of its own."""
    return image([layer("common", 700), layer(name, 300)], about=pack({"name": name}), **more)


A, U, C, D = map(one, ("tagged", "untagged", "child", "other child"))
INDEX = index([(C, "linux/amd64"), (D, "linux/arm64")])
ARTIFACT = Image(pack({"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}), "")


class Disk:
    """A storage written by hand, as distribution lays it out, so that it can be damaged in any place.

    The repository ``app`` has the tagged image A, the image U without a tag, and an index with two children.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "storage"
        self.v2 = self.root / "docker/registry/v2"
        (self.v2 / "blobs").mkdir(parents=True)
        self.app = self.repository("app")
        self.push("app", A, "1.0")
        self.push("app", U)
        self.push("app", INDEX, "multi")

    def repository(self, name: str) -> Path:
        folder = self.v2 / "repositories" / name
        (folder / "_layers").mkdir(parents=True, exist_ok=True)
        return folder

    def write(self, path: Path, data: bytes | str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def blob(self, data: bytes, digest: str = "") -> Path:
        algorithm, _, name = (digest or Digest.of(data)).partition(":")
        return self.write(self.v2 / "blobs" / algorithm / name[:2] / name / "data", data)

    def revision(self, digest: str, repository: str = "app") -> Path:
        algorithm, _, name = digest.partition(":")
        return self.v2 / "repositories" / repository / "_manifests/revisions" / algorithm / name / "link"

    def tag(self, name: str, digest: str, repository: str = "app") -> Path:
        folder = self.v2 / "repositories" / repository / "_manifests/tags" / name
        self.write(folder / "index" / digest.replace(":", "/") / "link", digest)
        return self.write(folder / "current/link", digest)

    def push(self, repository: str, what: Image, tag: str = "") -> None:
        for data in (what.data, *what.blobs):
            self.blob(data)
        for child in what.children:
            self.push(repository, child)
        self.write(self.revision(what.digest, repository), what.digest)
        if tag:
            self.tag(tag, what.digest, repository)

    def rewrite(self, what: Image, data: bytes | None = None, **changes: Any) -> None:
        """Put other bytes where a manifest's are: these, or its own with some keys changed."""
        self.blob(pack({**json.loads(what.data), **changes}) if data is None else data, what.digest)

    def data(self, what: bytes | Image) -> Path:
        """The file of a blob."""
        digest = Digest.of(what) if isinstance(what, bytes) else what.digest
        return self.v2 / "blobs" / digest.replace("sha256:", f"sha256/{digest[7:9]}/") / "data"


def _sha512(disk: Disk, *, tagged: bool) -> None:
    digest = "sha512:" + hashlib.sha512(A.data).hexdigest()
    disk.blob(A.data, digest)
    if tagged:
        disk.write(disk.revision(digest), digest)
        disk.tag("by-sha512", digest)


def _foreign(disk: Disk) -> None:
    """A foreign layer that is on disk all the same."""
    data = layer("foreign", 900)
    what = Image(pack({**json.loads(A.data), "layers": [descriptor(FOREIGN, data, urls=["https://e.example"])]}), "")
    disk.push("app", what)
    disk.blob(data)


def _untaggable(disk: Disk) -> None:
    shutil.rmtree(disk.app / "_manifests/tags")


def _named(repository: str) -> Callable[[Disk], object]:
    return lambda disk: (disk.repository(repository), disk.push(repository, one("lost"), "1.0"))


def _without_layers(disk: Disk) -> None:
    disk.push("bare", one("lost"), "1.0")


def _layer_links(disk: Disk, *links: str | None) -> None:
    """Folders of layers, each with what is in its link; None where that is deleted, as DELETE of a blob leaves it."""
    for number, link in enumerate(links):
        folder = disk.app / f"_layers/sha256/{number:064}"
        folder.mkdir(parents=True)
        if link is not None:
            disk.write(folder / "link", link)


def _elsewhere(disk: Disk) -> None:
    """The index in a second repository, which has not its children."""
    disk.repository("second")
    disk.write(disk.revision(INDEX.digest, "second"), INDEX.digest)
    disk.tag("multi", INDEX.digest, "second")


def _blob(path: str) -> Callable[[Disk], object]:
    return lambda disk: disk.write(disk.v2 / "blobs" / path, b"data of a blob")


def _link(what: Image, text: str) -> Callable[[Disk], object]:
    return lambda disk: disk.write(disk.revision(what.digest), text)


def _current(text: str) -> Callable[[Disk], object]:
    return lambda disk: disk.write(disk.app / "_manifests/tags/1.0/current/link", text)


def _in_app(path: str, text: str) -> Callable[[Disk], object]:
    return lambda disk: disk.write(disk.app / path, text)


def _bytes(what: Image, data: bytes) -> Callable[[Disk], object]:
    return lambda disk: disk.rewrite(what, data)


def _pushed(key: bytes, other: Any) -> Callable[[Disk], object]:
    """Another image, whose manifest has other bytes for some, and the digest of these."""
    what = one("spelled")
    data = re.sub(key, other, what.data)
    return lambda disk: disk.push("app", Image(data, what.media_type, what.blobs), "spelled")


def _with(what: Image, **changes: Any) -> Callable[[Disk], object]:
    return lambda disk: disk.rewrite(what, **changes)


def _layered(**more: Any) -> Callable[[Disk], object]:
    return _with(A, layers=[{**descriptor(LAYER, A.blobs[1]), **more}])


def _listed(**more: Any) -> Callable[[Disk], object]:
    first, *others = json.loads(INDEX.data)["manifests"]
    return _with(INDEX, manifests=[{**first, **more}, *others])


HEX = A.digest[7:]
CASES: dict[str, Callable[[Disk], object]] = {
    "nothing": lambda _: None,
    "an orphan": lambda disk: disk.blob(b"orphan"),
    # Revisions
    "revision link truncated": _link(A, A.digest[:20]),
    "revision link empty": _link(U, ""),
    "revision link with a newline": _link(A, A.digest + "\n"),
    "revision link in upper case": _link(U, "sha256:" + U.digest[7:].upper()),
    "revision link of an unknown algorithm": _link(U, "md5:" + "0" * 32),
    "revision link names what is not there": _link(A, ABSENT),
    "revision without a link": lambda disk: disk.revision(U.digest).unlink(),
    "child without a revision": lambda disk: disk.revision(C.digest).unlink(),
    "corrupt link in a strange folder": _in_app("_manifests/revisions/md5/strange/link", "junk"),
    "link in a strange folder among the revisions": _in_app("_manifests/revisions/sha256/strange/link", A.digest),
    "link of another manifest in a strange folder": _in_app("_manifests/revisions/sha256/strange/link", ABSENT),
    "link in a folder of an unknown algorithm": _in_app(f"_manifests/revisions/md5/{HEX}/link", A.digest),
    "stray file among the revisions": _in_app("_manifests/revisions/sha256/.DS_Store", "junk"),
    "old signature of a schema": _in_app(f"_manifests/revisions/sha256/{HEX}/signatures/sha256/x/link", ABSENT),
    # Tags
    "tag link truncated": _current(A.digest[:20]),
    "tag link empty": _current(""),
    "tag link with a newline": _current(A.digest + "\n"),
    "tag link names the other image": _current(U.digest),
    "tag link names what is not there": _current(ABSENT),
    "tag without its current link": lambda disk: (disk.app / "_manifests/tags/1.0/current/link").unlink(),
    "tag is an empty folder": lambda disk: (disk.app / "_manifests/tags/empty").mkdir(),
    "corrupt tag where no manifest is": lambda disk: disk.write(
        disk.repository("b") / "_manifests/tags/x/current/link", "junk"
    ),
    "stray file among the tags": _in_app("_manifests/tags/.DS_Store", "junk"),
    "file server's folder among the tags": lambda disk: (disk.app / "_manifests/tags/@eaDir").mkdir(),
    "folder among the tags that no path may have": lambda disk: (disk.app / "_manifests/tags/1.0 (copy)").mkdir(),
    "file in place of the tags": lambda disk: (_untaggable(disk), disk.write(disk.app / "_manifests/tags", "")),
    "history link empty": _in_app(f"_manifests/tags/1.0/index/sha256/{HEX}/link", ""),
    "no folder for tags": _untaggable,
    "empty folder for tags": lambda disk: (_untaggable(disk), (disk.app / "_manifests/tags").mkdir()),
    # Repositories
    "repository without layers folder": _without_layers,
    "repository with uploads only": lambda disk: disk.write(disk.v2 / "repositories/b/_uploads/u/data", b"xxx"),
    "repository with layers only": lambda disk: disk.write(
        disk.repository("b") / f"_layers/sha256/{Digest.of(b'loose')[7:]}/link", Digest.of(b"loose")
    ) and disk.blob(b"loose"),
    "repository in upper case": _named("Upper"),
    "repository with two dots": _named("a..b"),
    "uploads in upper case": lambda disk: disk.write(disk.v2 / "repositories/Upper/_uploads/u/data", b"xxx"),
    "repository below a strange folder": _named("app/_strange/b"),
    "layer link corrupt": _in_app(f"_layers/sha256/{HEX}/link", "junk"),
    "layer link deleted": lambda disk: _layer_links(disk, None, Digest.of(b"loose")),
    "layer link deleted beside a corrupt one": lambda disk: _layer_links(disk, None, "junk"),
    "strange folder with layers and manifests": _named("_strange"),
    "upload with hash states": _in_app("_uploads/u/hashstates/sha256/0", "state"),
    "stray files": lambda disk: [disk.write(disk.v2 / name, "x") for name in ("stray", "repositories/stray")],
    # Manifests
    "tagged manifest missing": lambda disk: disk.data(A).unlink(),
    "untagged manifest missing": lambda disk: shutil.rmtree(disk.data(U).parent),
    "layer missing": lambda disk: disk.data(A.blobs[1]).unlink(),
    "config missing": lambda disk: disk.data(U.blobs[0]).unlink(),
    "tagged manifest is not JSON": _bytes(A, b"hello"),
    "untagged manifest is not JSON": _bytes(U, b"hello"),
    "manifest is empty": _bytes(A, b""),
    "manifest truncated": _bytes(A, A.data[:50]),
    "manifest is a list": _bytes(A, b"[]"),
    "manifest is nothing": _bytes(A, b"{}"),
    "manifest with a byte order mark": _bytes(A, b"\xef\xbb\xbf" + A.data),
    "manifest with more behind it": _bytes(A, A.data + b" x"),
    "manifest with white space": _bytes(A, b"\n " + A.data + b"\n"),
    "manifest is another one": _bytes(A, U.data),
    "manifest of an unknown type": _with(A, mediaType="application/x-strange"),
    "untagged manifest of an unknown type": _with(U, mediaType="application/x-strange"),
    "manifest of schema 3": _with(A, schemaVersion=3),
    "manifest of a schema in words": _with(A, schemaVersion="2"),
    "manifest without a media type": _with(A, mediaType=""),
    "manifest that says it is an index": _with(A, mediaType=INDEX.media_type),
    "index without a media type": _with(INDEX, mediaType=""),
    "manifest without layers": _with(A, layers=None),
    "manifest without a config": _with(A, config=None),
    "manifest with a size in words": _with(A, layers=[{"mediaType": LAYER, "digest": ABSENT, "size": "1"}]),
    "manifest with a size of null": _with(A, layers=[{**descriptor(LAYER, A.blobs[1]), "size": None}]),
    "manifest with a digest that is a number": _with(A, layers=[{"mediaType": LAYER, "digest": 1, "size": 1}]),
    "manifest with a text for a config": _with(A, config="x"),
    "manifest with a text for layers": _with(A, layers="x"),
    "manifest with an object for layers": _with(A, layers={}),
    "manifest with a negative size": _with(A, layers=[{**descriptor(LAYER, A.blobs[1]), "size": -1}]),
    "manifest with a strange digest": _with(A, layers=[{"mediaType": LAYER, "digest": "strange", "size": 1}]),
    "manifest with its layers twice": _with(A, layers=json.loads(A.data)["layers"] * 2),
    "manifest with a key twice": _bytes(A, A.data[:-1] + b', "layers": []}'),
    "manifest with text that is none": _bytes(A, A.data[:-1] + b', "annotations": {"a": "\xff\xfe"}}'),
    "manifest with an annotation that is a number": _with(A, annotations={"a": 1}),
    "manifest with an annotation of null": _with(A, annotations={"a": None}),
    "manifest with annotations in a list": _with(A, annotations=["a"]),
    "manifest with an artifact type that is a number": _with(A, artifactType=1),
    "manifest with a subject in words": _with(A, subject="x"),
    "Docker's manifest with an annotation that is a number": _with(A, mediaType=DOCKER_MANIFEST, annotations={"a": 1}),
    "manifest of schema 2.0": _bytes(A, A.data.replace(b'"schemaVersion":2', b'"schemaVersion":2.0')),
    "layer with an annotation that is a number": _layered(annotations={"a": 1}),
    "layer with one text for its addresses": _layered(urls="https://e.example"),
    "layer with a platform in words": _layered(platform="linux/amd64"),
    "layer with an artifact type that is a number": _layered(artifactType=1),
    "layer with data that are a number": _layered(data=1),
    "layer with a size beyond 64 bits": _layered(size=2**63),
    "layer with the largest size": _layered(size=2**63 - 1),
    "config with an annotation that is a number": _with(
        A, config={**json.loads(A.data)["config"], "annotations": {"a": 1}}
    ),
    "index with an annotation that is a number": _with(INDEX, annotations={"a": 1}),
    "child with a platform in words": _listed(platform="linux/amd64"),
    "child with an architecture that is a number": _listed(platform={"architecture": 64, "os": "linux"}),
    "child with features in words": _listed(platform={"architecture": "amd64", "os": "linux", "os.features": "x"}),
    "child with a feature of null": _listed(platform={"architecture": "amd64", "os": "linux", "features": [None]}),
    "child with a platform of null": _listed(platform=None),
    "child with an annotation that is a number": _listed(annotations={"a": 1}),
    "manifest without a media type, with layers and children": _with(
        A, mediaType="", manifests=json.loads(INDEX.data)["manifests"]
    ),
    "index without a media type, with layers": _with(INDEX, mediaType="", layers=json.loads(A.data)["layers"]),
    "manifest without a media type, with a list of no children": _with(A, mediaType="", manifests=[]),
    "manifest without a media type, with null for children": _with(A, mediaType="", manifests=None),
    "manifest with a key in capitals": _pushed(b'"layers"', b'"Layers"'),
    "manifest with all keys in capitals": _pushed(
        b'"(digest|size|config|layers|mediaType|schemaVersion)"', lambda key: key[0].upper()
    ),
    "manifest with a letter of a key escaped": _pushed(b'"layers"', rb'"\\u004cayers"'),
    "manifest with a letter of a key that only looks like it": _pushed(b'"layers"', '"layer\u017f"'.encode()),
    "manifest with a key in two spellings": _pushed(b'"layers"', b'"layers": [], "LAYERS"'),
    "manifest with a key in two spellings, the empty one last": _pushed(b"}$", b', "LAYERS": []}'),
    "index with a key in capitals": _bytes(INDEX, INDEX.data.replace(b'"manifests"', b'"Manifests"')),
    "schema 1": _bytes(A, pack({
        "schemaVersion": 1, "name": "app", "tag": "1.0", "history": [{"v1Compatibility": "{}"}],
        "fsLayers": [{"blobSum": Digest.of(A.blobs[2])}],
    })),
    "artifact manifest with a tag": lambda disk: disk.push("app", ARTIFACT, "artifact"),
    "artifact manifest without a tag": lambda disk: disk.push("app", ARTIFACT),
    "signature without a tag": lambda disk: disk.push("app", one("sig", subject=descriptor(A.media_type, A.data))),
    "tagged signature of what has no tag": lambda disk: disk.push(
        "app", one("sig", subject=descriptor(U.media_type, U.data)), "sig"
    ),
    "index in an index": lambda disk: disk.push("app", index([(index([(one("deep"), "")]), "")]), "deep"),
    "index elsewhere without its children": _elsewhere,
    "index of what is not there": lambda disk: disk.rewrite(INDEX, manifests=[
        *json.loads(INDEX.data)["manifests"], {"mediaType": A.media_type, "digest": ABSENT, "size": 1},
    ]),
    "index of what is no manifest": lambda disk: disk.blob(b"cache") and disk.rewrite(INDEX, manifests=[
        *json.loads(INDEX.data)["manifests"], descriptor(A.media_type, b"cache"),
    ]),
    "foreign layer that is there": _foreign,
    "foreign layer that is not there": _with(
        A, layers=[{"mediaType": FOREIGN, "digest": ABSENT, "size": 9, "urls": ["https://e.example"]}]
    ),
    "layer that is a manifest": _with(A, layers=[descriptor(LAYER, U.data)]),
    # Blobs
    "no folder for blobs": lambda disk: shutil.rmtree(disk.v2 / "blobs"),
    "no folder for the blobs of sha256": lambda disk: shutil.rmtree(disk.v2 / "blobs/sha256"),
    "folder without a blob": lambda disk: (disk.v2 / f"blobs/sha256/00/{'0' * 64}").mkdir(parents=True),
    "stray files among the blobs": lambda disk: [_blob(name)(disk) for name in ("x", "sha256/x", "sha256/00/x")],
    "stray file beside a blob": lambda disk: disk.write(disk.data(A).with_name("data~"), "x"),
    "blob of a strange name": _blob("sha256/00/strange/data"),
    "blob of a short name": _blob(f"sha256/00/{'0' * 63}/data"),
    "blob in upper case": _blob(f"sha256/AA/{'A' * 64}/data"),
    "blob in another's folder": _blob(f"sha256/01/{'0' * 64}/data"),
    "blob of an unknown algorithm": _blob(f"md5/00/{'0' * 32}/data"),
    "orphan by sha512": lambda disk: _sha512(disk, tagged=False),
    "tag by sha512": lambda disk: _sha512(disk, tagged=True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_storage_is_judged_as_the_real_collection_judges_it(
    case: str, distribution_program: None, tmp_path: Path
) -> None:
    """The same blobs to the byte, plain and with --delete-untagged; and where the real one fails, that and why."""
    disk = Disk(tmp_path)
    CASES[case](disk)
    inventory = open_storage(disk.root).inventory()
    found = inventory.reclaim()
    same_verdict(found, open_storage(disk.root).stock())
    for how, flags in FLAGS.items():
        agrees(found, how, collect(disk.root, "--dry-run", *flags))
    files = [path.stat().st_size for path in disk.v2.rglob("*") if path.is_file()]
    disk = inventory.disk[inventory.disk["what"] != "folders"]
    assert (disk["files"].sum(), disk["size"].sum()) == (len(files), sum(files))
    if (found.table["bound"] == "fails").any():
        assert len(inventory.problems)
        assert found.table.loc[found.table["bound"] == "fails", "message"].str.len().min()


def test_a_storage_without_repositories_is_told_apart_from_an_empty_one(
    distribution_program: None, tmp_path: Path
) -> None:
    """Without the folder every collection fails, and it is said why; with an empty one every blob goes."""
    root = tmp_path / "storage"
    blob = root / "docker/registry/v2/blobs/sha256/00" / ("0" * 64) / "data"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"orphan")
    assert collect(root, "--dry-run").failed
    for verdict in (open_storage(root).inventory().reclaim(), open_storage(root).stock()):
        bounds = verdict.table["bound"] if isinstance(verdict, Reclaim) else [one.bound for one in verdict.collections]
        assert set(bounds) == {"fails"}
    (root / "docker/registry/v2/repositories").mkdir()
    verdict = open_storage(root).inventory().reclaim()
    agrees(verdict, "plain_2", collect(root, "--dry-run"))

"""Manifests and configs: every kind, and everything that is none."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from images import LAYER, attestation, cache_index, descriptor, image, index, nested, pack

from regnb.errors import ContentError, DigestMismatch, InvalidReference, MalformedManifest, TooLarge
from regnb.oci import manifest as model
from regnb.oci.manifest import Index, Manifest, Schema1, decode, decode_config, verify
from regnb.oci.reference import Digest

EMPTY = {"mediaType": model.OCI_EMPTY, "digest": Digest.of(b"{}"), "size": 2}
BASE = {"mediaType": LAYER, "digest": Digest.of(b"base"), "size": 4}


def wire(**more: object) -> bytes:
    return pack({"schemaVersion": 2, "mediaType": model.OCI_MANIFEST, "config": EMPTY, "layers": [BASE], **more})


@pytest.mark.parametrize("docker", [False, True])
def test_an_image(docker: bool) -> None:  # noqa: FBT001 -- pytest hands it over
    """Docker's and OCI's manifests give config and layers in order, and keep the bytes and their digest."""
    what = image([b"one", b"two", b"one"], docker=docker, annotations={"a": "b"})
    found = decode(what.data, what.media_type)
    assert isinstance(found, Manifest)
    assert (found.raw, found.digest, found.media_type) == (what.data, what.digest, what.media_type)
    assert [layer.digest for layer in found.layers] == [Digest.of(each) for each in (b"one", b"two", b"one")]
    assert found.config is not None
    assert found.blobs == (found.config, *found.layers)
    assert found.kind == "image"
    assert found.annotations == {"a": "b"}


@pytest.mark.parametrize("docker", [False, True])
def test_an_index(docker: bool) -> None:  # noqa: FBT001 -- pytest hands it over
    """A list or index gives its children with their platforms."""
    child = image([b"x"])
    what = index([(child, "linux/arm64"), (attestation(child), "unknown/unknown")], docker=docker)
    found = decode(what.data, what.media_type)
    assert isinstance(found, Index)
    assert found.kind == "index"
    assert [str(entry.platform) for entry in found.manifests] == ["linux/arm64", "unknown/unknown"]
    assert found.manifests[0].digest == child.digest


@pytest.mark.parametrize(
    ("artifact_type", "layer_type", "kind"),
    [
        ("", "application/vnd.dev.cosign.simplesigning.v1+json", "signature"),
        ("application/vnd.cncf.notary.signature", "application/jose+json", "signature"),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/json", "signature"),
        ("application/spdx+json", "application/json", "sbom"),
        ("", "application/vnd.cyclonedx+json", "sbom"),
        ("", "application/vnd.in-toto+json", "attestation"),
        ("", "application/vnd.dsse.envelope.v1+json", "attestation"),
        ("application/vnd.cncf.helm.config.v1+json", "application/octet-stream", "artifact"),
    ],
)
def test_what_an_artifact_is(artifact_type: str, layer_type: str, kind: str) -> None:
    """Signatures, SBOMs and attestations are told from other artifacts by their media types."""
    more = {"artifactType": artifact_type} if artifact_type else {}
    data = wire(layers=[descriptor(layer_type, b"x")], subject=BASE, **more)
    found = decode(data, model.OCI_MANIFEST)
    assert found.kind == kind
    assert isinstance(found, Manifest)
    assert found.subject is not None
    assert found.subject.digest == BASE["digest"]


def test_the_withdrawn_artifact_manifest() -> None:
    """An OCI artifact manifest has blobs and no config."""
    found = decode(pack({"mediaType": model.OCI_ARTIFACT, "blobs": [BASE], "artifactType": "x/y"}), model.OCI_ARTIFACT)
    assert isinstance(found, Manifest)
    assert (found.config, len(found.layers), found.kind) == (None, 1, "artifact")


def test_schema_1_is_recognised() -> None:
    """Schema 1 keeps the registry's digest, and its layers stand with the base first."""
    data = pack({"schemaVersion": 1, "fsLayers": [{"blobSum": Digest.of(b"top")}, {"blobSum": Digest.of(b"base")}]})
    name = Digest.of(b"what the registry calls it")
    for media_type in (model.SCHEMA1_SIGNED, model.SCHEMA1, "application/json", ""):
        found = decode(data, media_type, digest=name)
        assert isinstance(found, Schema1)
        assert found.digest == name
        assert found.layers == (Digest.of(b"base"), Digest.of(b"top"))


@pytest.mark.parametrize("media_type", ["", "application/json", "text/plain; charset=utf-8"])
def test_without_a_known_content_type_the_manifest_speaks_for_itself(media_type: str) -> None:
    """A registry that sends no manifest type does not keep an index from being one."""
    what = index([])
    assert decode(what.data, media_type).kind == "index"
    assert decode(pack({"manifests": []}), media_type).kind == "index"
    assert decode(wire(), media_type).media_type == model.OCI_MANIFEST


def test_sha512() -> None:
    """Descriptors may name sha512, and a manifest may be known by it."""
    layer = {"mediaType": LAYER, "digest": Digest.of(b"x", "sha512"), "size": 1}
    data = wire(layers=[layer])
    found = decode(data, model.OCI_MANIFEST, digest=Digest.of(data, "sha512"))
    assert found.digest.algorithm == "sha512"
    assert isinstance(found, Manifest)
    assert found.layers[0].digest == layer["digest"]


def test_foreign_layers() -> None:
    """Layers that are meant to live elsewhere are told by their media type."""
    types = (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        LAYER,
    )
    found = decode(wire(layers=[descriptor(each, b"x", urls=["http://elsewhere/x"]) for each in types]))
    assert isinstance(found, Manifest)
    assert [layer.foreign for layer in found.layers] == [True, True, False]


def index_of(**more: object) -> bytes:
    return pack({"schemaVersion": 2, "manifests": [{**BASE, **more}]})


HOSTILE = {
    "negative size": wire(layers=[{**BASE, "size": -1}]),
    "negative size in an index": index_of(size=-1),
    "size of 2^63-1": wire(layers=[{**BASE, "size": 2**63 - 1}]),
    "size of 2^64": wire(layers=[{**BASE, "size": 2**64}]),
    "size with 5000 digits": wire(layers=[BASE]).replace(b'"size": 4', b'"size": ' + b"9" * 5000),
    "size as text": wire(layers=[{**BASE, "size": "4"}]),
    "size as a fraction": wire(layers=[{**BASE, "size": 4.5}]),
    "size infinite": wire(layers=[BASE]).replace(b'"size": 4', b'"size": 1e999'),
    "size missing": wire(layers=[{"mediaType": LAYER, "digest": BASE["digest"]}]),
    "no digest": wire(layers=[{"mediaType": LAYER, "size": 1}]),
    "digest that leaves the folder": wire(layers=[{**BASE, "digest": "sha256:../../../etc/passwd"}]),
    "digest with a line end": wire(layers=[{**BASE, "digest": BASE["digest"] + "\n"}]),
    "digest in upper case": wire(layers=[{**BASE, "digest": "sha256:" + "A" * 64}]),
    "layer null": wire(layers=[None]),
    "config null and no layers": wire(config=None, layers=None),
    "config a list": wire(config=[]),
    "annotations a list": wire(annotations=[]),
    "nested 9000 deep": wire(annotations=0).replace(b'"annotations": 0', b'"annotations": {"a": %s}' % nested(9000)),
    "nested 9000 deep where nobody looks": b'{"x": %s, %s' % (nested(9000), wire()[1:]),
    "nested a million deep": nested(1_000_000),
    "invalid UTF-8": wire(annotations={"a": "?"}).replace(b"?", b"\xff\xfe"),
    "image and index at once": wire(manifests=[]),
    "another type than announced": wire(mediaType=model.OCI_INDEX),
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nothing": b"",
    "HTML": b"<html></html>",
    "cut off": wire()[:-1],
    "something behind": wire() + b"x",
    "NUL": b"\x00" * 100,
    "UTF-16": wire().decode().encode("utf-16"),
    "too large": wire() + b" " * model.MANIFEST_LIMIT,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_refused(name: str) -> None:
    """Each manifest made to do harm is MalformedManifest or TooLarge, whose text is short enough to show."""
    data = HOSTILE[name]
    with pytest.raises(TooLarge if name == "too large" else MalformedManifest) as caught:
        decode(data, model.OCI_INDEX if name.endswith("an index") else model.OCI_MANIFEST)
    assert len(str(caught.value)) < 500


def test_no_manifest_overflows_a_sum() -> None:
    """As many layers as fit a manifest, each as large as one may claim to be, still add up in 64 bits."""
    shortest = len(pack({"digest": BASE["digest"], "size": model.SIZE_LIMIT}))
    assert model.MANIFEST_LIMIT // shortest * model.SIZE_LIMIT < 2**63


def test_harmless_oddities_are_accepted() -> None:
    """``layers: null`` and no layers are an image without layers; unknown fields and 5,000 equal layers do no harm."""
    for layers in (None, []):
        found = decode(wire(layers=layers), model.OCI_MANIFEST)
        assert isinstance(found, Manifest)
        assert found.layers == ()
    found = decode(wire(layers=[BASE] * 5000, unknown={"x": 1}), model.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert len(found.layers) == 5000


def test_null_is_absent_where_go_says_so() -> None:
    """Null in a platform or a history is as if it were not there; null for a list alone makes an empty index."""
    child = {**BASE, "mediaType": model.OCI_MANIFEST, "platform": {"os": "linux", "architecture": "amd64"}}
    child["platform"] |= {"variant": None, "os.version": None}  # type: ignore[operator]
    found = decode(pack({"schemaVersion": 2, "manifests": [child]}))
    assert isinstance(found, Index)
    assert str(found.manifests[0].platform) == "linux/amd64"
    history = [{"created_by": "ADD rootfs", "empty_layer": None}]
    assert decode_config(pack({"history": history})).commands(1) == ["ADD rootfs"]
    empty = decode(pack({"schemaVersion": 2, "manifests": None}))
    assert (empty.kind, empty.media_type) == ("index", model.OCI_INDEX)
    assert decode(wire(manifests=None), model.OCI_MANIFEST).kind != "index"


def test_a_manifest_without_a_config_has_its_layers() -> None:
    """Nothing but the config is missing: the layers that are there count."""
    found = decode(pack({"schemaVersion": 2, "mediaType": model.OCI_MANIFEST, "layers": [BASE]}), model.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert (found.config, found.kind, [blob.digest for blob in found.blobs]) == (None, "artifact", [BASE["digest"]])


def test_what_an_index_lists_is_a_blob_unless_its_type_is_a_manifest_s() -> None:
    """BuildKit's cache index lists layers: they are its blobs; a child without a media type is a manifest."""
    what = cache_index([b"one", b"two"])
    found = decode(what.data, what.media_type)
    assert isinstance(found, Index)
    assert [blob.digest for blob in found.blobs] == [Digest.of(each) for each in what.blobs]
    assert found.children == ()
    types = ["", *sorted(model.INDEXES | model.MANIFESTS | model.SCHEMA1_TYPES), LAYER]
    listed = decode(pack({"schemaVersion": 2, "manifests": [{**BASE, "mediaType": each} for each in types]}))
    assert isinstance(listed, Index)
    assert ([each.media_type for each in listed.children], len(listed.blobs)) == (types[:-1], 1)


def test_an_artifact_manifest_is_known_by_its_blobs() -> None:
    """Of an unknown type, as ORAS once had its own, what has ``blobs`` is an artifact with these."""
    found = decode(pack({"mediaType": "application/vnd.cncf.oras.artifact.manifest.v1+json", "blobs": [BASE]}))
    assert isinstance(found, Manifest)
    assert [blob.digest for blob in found.blobs] == [BASE["digest"]]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([BASE, EMPTY]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "blobs", "subject", "annotations"]
)
types = st.sampled_from(["", "text/html", *model.ACCEPT, model.OCI_ARTIFACT, model.SCHEMA1, model.SCHEMA1_SIGNED])


@given(st.binary() | st.dictionaries(fields, values).map(pack) | values.map(pack), types | st.text(max_size=40))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes, media_type: str) -> None:
    """Whatever the bytes are, decode gives a manifest that knows its bytes, or a ContentError."""
    with contextlib.suppress(ContentError):
        found = decode(data, media_type)
        assert found.raw == data
        assert found.digest == Digest.of(data)
        assert found.kind
    with contextlib.suppress(ContentError):
        about = decode_config(data)
        assert isinstance(about.platform, str)
        assert isinstance(about.labels, dict)
        assert len(about.commands(3)) == 3


@given(st.data())
def test_a_real_manifest_with_some_bytes_changed(data: Any) -> None:
    """A manifest damaged in any place is still a manifest or a ContentError."""
    whole = bytearray(index([(image([b"x"]), "linux/amd64")]).data + image([b"y"]).data)
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    for part in (bytes(whole), bytes(whole[: len(whole) // 2])):
        with contextlib.suppress(ContentError):
            decode(part)


def test_verify() -> None:
    """Bytes are checked against every digest that is known, sha256 and sha512, and None is passed over."""
    data = b"some bytes"
    verify(data, Digest.of(data), None, Digest.of(data, "sha512"))
    for wrong in (Digest.of(b"others"), Digest.of(b"others", "sha512")):
        with pytest.raises(DigestMismatch, match="not sha"):
            verify(data, Digest.of(data), wrong)
    with pytest.raises(InvalidReference):
        verify(data, "md5:d41d8cd98f00b204e9800998ecf8427e")


def test_the_commands_of_an_image() -> None:
    """The history gives one command a layer, empty layers left out, and none at all if the counts do not fit."""
    history = [
        {"created_by": "ADD rootfs"},
        {"created_by": "ENV a=b", "empty_layer": True},
        {"comment": "buildkit"},
    ]
    found = decode_config(pack({"history": history, "config": {"Labels": {"a": "b"}}}))
    assert found.commands(2) == ["ADD rootfs", "buildkit"]
    assert found.commands(3) == ["", "", ""]
    assert found.labels == {"a": "b"}
    assert decode_config(b'{"config":{"Labels":[1]}}').labels == {}
    assert decode_config(b'{"config":null,"history":null}').commands(1) == [""]


@pytest.mark.parametrize("data", [b"", b"[]", b'{"history":[1]}', b'{"created":1}', nested(100_000), b'{"os":"\xff"}'])
def test_hostile_configs_are_refused(data: bytes) -> None:
    """A config that is none is MalformedManifest."""
    with pytest.raises(MalformedManifest):
        decode_config(data)


def test_a_config_may_not_be_endless() -> None:
    """More than 16 MiB of config are refused before they are decoded."""
    with pytest.raises(TooLarge):
        decode_config(b" " * (model.CONFIG_LIMIT + 1))


def test_platforms_are_written_as_docker_writes_them() -> None:
    """os/architecture/variant, without what is missing."""
    assert decode_config(pack({"os": "linux", "architecture": "arm64", "variant": "v8"})).platform == "linux/arm64/v8"
    assert decode_config(b"{}").platform == ""
    assert json.loads(index([(image([]), "linux/amd64")]).data)["manifests"][0]["platform"]["os"] == "linux"


def test_sizes_that_would_overflow_together_are_refused() -> None:
    """Many believable sizes in one manifest do not add up to a number that 64 bits cannot hold."""
    layers = [{"mediaType": "a/b", "digest": Digest.of(bytes([n])), "size": model.SIZE_LIMIT} for n in range(2)]
    config = {"mediaType": "a/b", "digest": Digest.of(b"{}"), "size": 2}
    data = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
    with pytest.raises(MalformedManifest, match="more bytes than any image"):
        decode(data, model.OCI_MANIFEST)

"""Bills of materials that hang on images are read, whatever they are wrapped in."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from distribution import Distribution
from images import Image, config, descriptor, fill, image, index, pack

from regnb.errors import ContentError, TooLarge
from regnb.layers import sboms
from regnb.layers.lifetime import end_of_life
from regnb.layers.sboms import components
from regnb.oci.manifest import OCI_MANIFEST
from regnb.registry import connect

EMPTY = "application/vnd.oci.empty.v1+json"
SPDX = {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "packages": [
    {"name": "libc6", "versionInfo": "2.36-9", "externalRefs": [
        {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a:x"},
        {"referenceType": "purl", "referenceLocator": "pkg:deb/debian/libc6@2.36-9"},
    ]},
    {"name": "base"},
]}  # fmt: skip
CYCLONE = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
    {"type": "library", "group": "@babel", "name": "core", "version": "7.1", "purl": "pkg:npm/%40babel/core@7.1",
     "components": [{"type": "library", "name": "inner", "version": None}]},
]}  # fmt: skip
SPDX3 = {"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": [
    {"type": "CreationInfo", "specVersion": "3.0.1"},
    {"type": "software_Package", "name": "requests", "software_packageVersion": "2",
     "software_packageUrl": "pkg:pypi/requests@2"},
]}  # fmt: skip


def statement(predicate: object, kind: str = "https://spdx.dev/Document") -> dict[str, Any]:
    return {"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": kind, "predicate": predicate}


def envelope(document: object) -> dict[str, Any]:
    payload = base64.b64encode(json.dumps(document).encode()).decode()
    return {"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": []}


def carrier(media_type: str, document: object, subject: Image | None = None, **notes: str) -> Image:
    """An artifact with one document."""
    data = pack(document)
    about = {"subject": descriptor(subject.media_type, subject.data)} if subject else {}
    layers = [descriptor(media_type, data, **({"annotations": notes} if notes else {}))]
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": media_type,
                "config": descriptor(EMPTY, b"{}"), "layers": layers, **about}  # fmt: skip
    return Image(pack(manifest), OCI_MANIFEST, (b"{}", data))


@pytest.mark.parametrize(("document", "expected"), [
    (SPDX, [("spdx", "deb", "libc6", "2.36-9"), ("spdx", "", "base", "")]),
    (CYCLONE, [("cyclonedx", "npm", "@babel/core", "7.1"), ("cyclonedx", "", "inner", "")]),
    (SPDX3, [("spdx", "pypi", "requests", "2")]),
])  # fmt: skip
def test_documents_are_read_whatever_they_are_wrapped_in(document: object, expected: list[Any]) -> None:
    """Alone, in a statement, in cosign's early statement that holds a text, in an envelope, and in a bundle."""
    early = statement({"Data": json.dumps(document), "Timestamp": ""})
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "dsseEnvelope": envelope(statement(document)),
    }
    for wrapped in (document, statement(document), early, envelope(statement(document)), bundle):
        assert [tuple(one[:4]) for one in components(json.dumps(wrapped).encode())] == expected


@pytest.mark.parametrize("data", [
    b"", b"{}", b"[]", b'{"payload":"%%%"}', b'{"bomFormat":"CycloneDX","components":{}}', b"[" * 9999,
    json.dumps(statement({"buildDefinition": {}}, "https://slsa.dev/provenance/v1")).encode(),
])  # fmt: skip
def test_what_is_no_bill_of_materials_is_told(data: bytes) -> None:
    """Other documents, malformed ones, and what is wrapped without an end."""
    with pytest.raises(ContentError):
        components(data)


def test_documents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More components than an image has."""
    monkeypatch.setattr(sboms, "COMPONENTS_LIMIT", 1)
    with pytest.raises(TooLarge, match="more than 1 components"):
        components(json.dumps(SPDX).encode())


def test_what_hangs_on_an_image_is_found(real: Distribution) -> None:
    """By the tag that lists referrers, by cosign's tag, and beside images of an index; a provenance is not an SBOM."""
    amd, arm = image([b"a"], about=config()), image([b"b"], about=config("arm64"))
    beside = carrier(
        "application/vnd.in-toto+json", statement(SPDX), **{"in-toto.io/predicate-type": "https://spdx.dev/Document"}
    )
    other = carrier(
        "application/vnd.in-toto+json",
        {"_type": "x"},
        **{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
    )
    many = index([(amd, "linux/amd64"), (arm, "linux/arm64"), (beside, "unknown/unknown"), (other, "unknown/unknown")])
    document = json.loads(many.data)
    for entry in document["manifests"][2:]:
        entry["annotations"] = {"vnd.docker.reference.digest": str(amd.digest)}
    many = Image(pack(document), many.media_type, children=many.children)
    referrer = carrier("application/vnd.cyclonedx+json", CYCLONE, amd)
    broken = carrier("application/spdx+json", {"spdxVersion": 7}, amd)
    listed = index([(referrer, ""), (broken, "")])
    tag = str(amd.digest).replace(":", "-")
    cosign = carrier("application/vnd.dsse.envelope.v1+json", envelope(statement(SPDX3)))
    fill(real.url, ("a", "1", many), ("a", tag, listed), ("a", f"{tag}.att", cosign))
    with connect(real.url) as registry:
        found = registry.sboms("a:1")
        assert registry.sboms("a:1", platform="linux/arm64").empty
    rows = found[["platform", "form", "name"]].to_numpy().tolist()
    assert sorted(rows) == sorted([
        ["linux/amd64", "cyclonedx", "@babel/core"], ["linux/amd64", "cyclonedx", "inner"], ["linux/amd64", "", ""],
        ["linux/amd64", "spdx", "libc6"], ["linux/amd64", "spdx", "base"], ["linux/amd64", "spdx", "requests"],
    ])  # fmt: skip
    assert found.set_index("form").loc["", "message"].startswith("not read: the document is malformed")


def test_the_end_of_life_is_that_of_installed_data(tmp_path: Path) -> None:
    """With the date of the data; another version, another distribution and a broken file are not known."""
    path = tmp_path / "debian.csv"
    path.write_text("version,codename,series,created,release,eol\n12,B,b,2021-08-14,2023-06-10,2026-06-10\n13,T,t,,\n")
    (tmp_path / "ubuntu.csv").write_text("version,codename,series,created,release,eol\n24.04 LTS,N,n,,,2029-05-31\n")
    os.utime(path, (1_800_000_000, 1_800_000_000))
    assert end_of_life("debian", "12", tmp_path) == "2026-06-10, as known on 2027-01-15"
    assert end_of_life("ubuntu", "24.04", tmp_path).startswith("2029-05-31")
    unknown = [("debian", "13"), ("debian", "1"), ("debian", ""), ("alpine", "3.20"), ("../debian", "12")]
    assert {end_of_life(*one, tmp_path) for one in unknown} == {"not known"}

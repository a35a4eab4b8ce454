"""Reports of trivy and grype are joined with images, and with what runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from images import Image, config, image, index
from stored import Stored

from regnb.errors import InvalidArgument, StorageError
from regnb.oci.reference import Digest


def trivy(found: list[tuple[str, str, str]], *, end: bool | None = None, **metadata: Any) -> dict[str, Any]:
    """A report as trivy's schema 2 has it: vulnerability, severity and fixed version."""
    rows = [{"VulnerabilityID": one, "PkgName": "p", "Severity": severity, "FixedVersion": fixed}
            for one, severity, fixed in found]  # fmt: skip
    system = {} if end is None else {"OS": {"Family": "debian", "Name": "9", "EOSL": end}}
    return {
        "SchemaVersion": 2, "CreatedAt": "2026-11-01T02:03:04.123456789Z", "ArtifactName": "a",
        "Metadata": metadata | system,
        "Results": [
            {"Target": "a", "Vulnerabilities": rows}, {"Target": "b", "Vulnerabilities": None}, {"Target": "c"},
        ],
    }  # fmt: skip


def grype(found: list[tuple[str, str, list[str]]], **target: Any) -> dict[str, Any]:
    rows = [{"vulnerability": {"id": one, "severity": severity, "fix": {"state": "", "versions": fixed}}}
            for one, severity, fixed in found]  # fmt: skip
    return {"matches": rows, "source": {"type": "image", "target": {"userInput": "a", **target}},
            "descriptor": {"name": "grype", "timestamp": "2026-11-02T00:00:00Z"}}  # fmt: skip


def about(one: Image) -> str:
    return str(Digest.of(one.blobs[0]))


def test_reports_find_their_images(tmp_path: Path) -> None:
    """By config, by manifest, by index and platform; the rest is unscanned; what runs is told from what may go."""
    by_config, by_manifest, other, fine = (image([name.encode()], about=config(name)) for name in ("a", "b", "c", "d"))
    worst = [
        ("CVE-1", "CRITICAL", "1.2"),
        ("CVE-1", "CRITICAL", "1.2"),
        ("CVE-2", "CRITICAL", ""),
        ("CVE-3", "HIGH", "2"),
    ]
    amd, arm = image([b"amd"], about=config("amd64")), image([b"arm"], about=config("arm64", variant="v8"))
    many = index([(amd, "linux/amd64"), (arm, "linux/arm64")])
    inventory = Stored(
        ("app", "1", by_config), ("app", "2", by_manifest), ("app", "3", other), ("app", "4", fine), ("many", "1", many)
    ).inventory()
    reports: list[dict[str, Any]] = [
        grype([("CVE-7", "High", [])], imageID="sha256:else", manifestDigest=str(by_config.digest)),
        trivy(worst, end=True, ImageID=about(by_config), RepoDigests=[f"h/app@{by_manifest.digest}"]),
        grype([("CVE-9", "Critical", [])], imageID="sha256:other", manifestDigest=str(by_manifest.digest)),
        trivy(worst[2:], RepoDigests=[f"h/many@{many.digest}"], ImageConfig={"architecture": "arm64", "os": "linux"}),
        grype([("CVE-5", "Low", [])], imageID=about(fine), architecture="d", os="linux"),
    ]
    for number, report in enumerate(reports):
        (tmp_path / f"{number}.json").write_text(json.dumps(report), encoding="utf-8")
    pods = {
        "kind": "PodList",
        "items": [{"spec": {"containers": [{"image": "h:5000/app:1"}]}, "metadata": {"name": "p"}}],
    }
    found = inventory.join(tmp_path, in_use=pods)
    columns = ["image", "state", "critical", "high", "fixable", "running", "scanner", "matched", "end_of_life"]
    rows = {row[0]: row[1:] for row in found[columns].astype(object).to_numpy().tolist() if row[0] != "1"}
    first = found[(found["repository"] == "app") & (found["image"] == "1")].iloc[0]
    assert first[columns[1:]].tolist() == [
        "vulnerable and running", 2, 1, 2, "default/p", "grype, trivy", "config digest", "yes",
    ]  # fmt: skip
    assert rows["2"] == ["vulnerable and unused", 2, 1, 2, "", "grype, trivy", "manifest digest", "yes"]
    assert rows["3"][0] == "unscanned"
    assert rows["4"][:2] == ["clean", 0]
    listed = found[found["repository"] == "many"].set_index("digest")
    assert listed.loc[str(arm.digest), "matched"] == "index and platform"
    assert listed.loc[str(amd.digest), "state"] == "unscanned"
    assert found["state"].iloc[0] == "vulnerable and running"
    assert found["when"].max().isoformat() == "2026-11-02T00:00:00+00:00"
    alone = inventory.join(reports[1])
    assert alone["running"].isna().all()
    assert set(alone["state"]) == {"vulnerable", "unscanned"}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"matches":7}', b'{"Results":[{"Vulnerabilities":{}}]}', b"[" * 9999]
)
def test_what_is_no_report_is_told(tmp_path: Path, data: bytes) -> None:
    """Other documents, and a file that is not there: an error that names it."""
    path = tmp_path / "r.json"
    path.write_bytes(data)
    inventory = Stored(("a", "1", image([b"a"]))).inventory()
    with pytest.raises(InvalidArgument, match=r"r\.json is not"):
        inventory.join(path)
    with pytest.raises(StorageError):
        inventory.join(tmp_path / "none.json")

"""Commands about what is inside images say it on a terminal, as JSON, and by their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from archives import archive, packed
from distribution import Distribution
from images import config, fill, image, regnb

from regnb.oci.reference import Digest


def test_bases_waste_sboms_and_scans(real: Distribution, tmp_path: Path) -> None:
    """One registry: an image behind its base, hidden bytes, a report, and no SBOM."""
    base, newer = (packed(archive([("a", "file", name * 500)])) for name in (b"1", b"2"))
    hides = packed(archive([("a", "file", b"new")]))
    app = image([base, hides], about=config(commands=["base", "app"]))
    fill(real.url, ("base", "1.0", image([base])), ("base", "1.1", image([newer])), ("app", "1", app))
    done = regnb(tmp_path, "bases", real.url)
    assert done.returncode == 2, done.stderr
    assert "1 image stands on a base that is 1 release behind" in done.stdout + done.stderr
    rows = [json.loads(line) for line in regnb(tmp_path, "bases", real.url, "--json").stdout.splitlines()]
    assert [row["base"] for row in rows if row["repository"] == "app"] == ["base:1.0"]
    done = regnb(tmp_path, "waste", real.url, "app:*")
    assert done.returncode == 0, done.stderr
    assert "Later layers hide 500 B" in done.stdout + done.stderr
    done = regnb(tmp_path, "sboms", real.url, "app:1")
    assert (done.returncode, "No SBOM hangs" in done.stdout + done.stderr) == (0, True)
    report = {
        "ArtifactName": "a", "Metadata": {"ImageID": str(Digest.of(app.blobs[0]))},
        "Results": [{"Vulnerabilities": [{"VulnerabilityID": "CVE-1", "Severity": "CRITICAL"}]}],
    }  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(report), encoding="utf-8")
    (tmp_path / "running").write_text("app:1\n", encoding="utf-8")
    done = regnb(tmp_path, "scans", real.url, str(tmp_path / "r.json"), "--in-use", str(tmp_path / "running"))
    assert done.returncode == 2, done.stderr
    assert "vulnerable and running: 1" in done.stdout + done.stderr
    real.stop()
    done = regnb(tmp_path, "files", str(real.root), "app:1", "--top", "1")
    assert (done.returncode, "hide 500 B" in done.stdout + done.stderr) == (0, True), done.stderr

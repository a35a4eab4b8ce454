"""Metrics of an audit: Prometheus reads them, they fit the audit, and rules and dashboard name no others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Seeded, need
from images import ROOT, regnb

from regnb.analysis import metrics
from regnb.errors import InvalidArgument
from regnb.pages.metrics import METRICS as OF_UI

RULES = ROOT / "docs/prometheus/alerts.yaml"
DASHBOARD = ROOT / "docs/prometheus/dashboard.json"
KNOWN = {*metrics.METRICS, *OF_UI}
NAME = re.compile(r"\bregnb_[a-z_]+")


def values(path: Path) -> dict[str, float]:
    """Name and labels of each sample, but those that every sample has."""
    found = {}
    for family in metrics.read(path):
        for sample in family.samples:
            own = [f"{key}={value}" for key, value in sample.labels.items() if key not in ("registry", "source")]
            found[" ".join([sample.name, *own])] = sample.value
    return found


def test_an_audit_writes_what_it_prints(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Over HTTP and of the storage, with what the thresholds found; the file is another user's to read."""
    path = tmp_path / "regnb.prom"
    done = regnb(tmp_path, "audit", seeded_embedded.url, "--json", "--prometheus", str(path), "--fail-over", "1")
    assert done.returncode == 2, done.stderr
    printed, found = json.loads(done.stdout), values(path)
    assert found["regnb_repositories"] == len(printed["repositories"])
    for name in ("tags", "manifests", "blobs"):
        assert found[f"regnb_{name}"] == printed[name]
    assert found["regnb_stored_bytes"] == printed["stored"]
    assert found["regnb_audit_findings kind=threshold"] == 1
    assert found["regnb_audit_complete"] == 1
    assert "regnb_disk_bytes" not in found
    assert path.stat().st_mode & 0o444 == 0o444
    assert [each.name for each in tmp_path.glob("regnb.prom*")] == ["regnb.prom"]

    done = regnb(tmp_path, "audit", str(seeded_embedded.root), "--json", "--prometheus", str(path))
    printed, found = json.loads(done.stdout), values(path)
    assert found["regnb_disk_bytes"] == next(row["size"] for row in printed["breakdown"] if row["what"] == "disk")
    assert any(name.startswith("regnb_reclaimable_bytes collection=") for name in found)
    largest = max(printed["repositories"], key=lambda row: row["size"])
    assert found[f"regnb_repository_bytes repository={largest['repository']}"] == largest["size"]


def test_what_is_no_file_of_metrics_is_an_error(tmp_path: Path) -> None:
    """It says which command writes one; metrics of others in the file are not handed on."""
    path = tmp_path / "x.prom"
    path.write_text("# TYPE a gauge\na{b=\n")
    with pytest.raises(InvalidArgument) as told:
        metrics.read(path)
    assert "regnb audit --prometheus" in told.value.hint
    path.write_text("up 1\nregnb_tags 3\n")
    assert [each.name for each in metrics.read(path)] == ["regnb_tags"]


def expressions(document: Any) -> list[str]:
    """Every expression, however deep it stands."""
    if isinstance(document, dict):
        own = [value for key, value in document.items() if key in ("expr", "query") and isinstance(value, str)]
        return own + [each for value in document.values() for each in expressions(value)]
    return [each for value in document for each in expressions(value)] if isinstance(document, list) else []


def test_rules_and_dashboard_know_the_metrics() -> None:
    """Each name in them is a metric, each label in braces is one of its labels, and each metric is used."""
    found = expressions(yaml.safe_load(RULES.read_text())) + expressions(json.loads(DASHBOARD.read_text()))
    named = {name for text in found for name in NAME.findall(text)}
    assert named <= KNOWN
    assert named >= {*metrics.METRICS, "regnb_ui_pages"}
    for name, labels in re.findall(r"(regnb_[a-z_]+)\{([^}]*)\}", " ".join(found)):
        used = set(re.findall(r"(\w+)\s*=", labels))
        assert used <= {"registry", "source", *metrics.METRICS[name][1]}


def test_the_documentation_lists_the_metrics() -> None:
    """Each with its labels and its help, as they are in the code."""
    text = (ROOT / "docs/how-to/alerts.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.+) \|$", text, re.MULTILINE)
    rows = {name: (labels, help_) for name, labels, help_ in found}
    own = {
        name: (", ".join(f"`{each}`" for each in labels), help_) for name, (help_, labels) in metrics.METRICS.items()
    }
    assert rows == own | {name: ("", help_) for name, help_ in OF_UI.items()}


def test_promtool_takes_rules_and_metrics(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Prometheus' own tool: the rules parse, they fire when they should, and the metrics keep its conventions."""
    promtool = shutil.which("promtool")
    need("prometheus", promtool, "promtool is not installed: apt-get install prometheus")
    assert promtool is not None
    path = tmp_path / "regnb.prom"
    regnb(tmp_path, "audit", seeded_embedded.url, "--prometheus", str(path))
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=path.read_text(), capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

    series = {
        "regnb_audit_timestamp_seconds": "0x1700",
        "regnb_audit_complete": "0x1700",
        'regnb_audit_findings{kind="drift"}': "2x1700",
        'regnb_audit_findings{kind="threshold"}': "0x1700",
        "regnb_tags_not_pullable": "3x1700",
    }
    alerts = {
        "RegnbAuditMissing": 1, "RegnbAuditIncomplete": 1, "RegnbDrift": 1, "RegnbThreshold": 0,
        "RegnbTagsNotPullable": 1, "RegnbGrowsFast": 0,
    }  # fmt: skip
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(RULES)],
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": [{"series": name, "values": text} for name, text in series.items()],
                        "promql_expr_test": [
                            {
                                "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                                "eval_time": "27h",
                                "exp_samples": [{"labels": "{}", "value": number}],
                            }
                            for name, number in alerts.items()
                        ],
                    }
                ],
            }
        )
    )
    tested = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert {*alerts} <= {rule["alert"] for rule in rules}

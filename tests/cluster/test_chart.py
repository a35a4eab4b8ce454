"""The chart: installed, it is what ``kube expose`` prints for the same settings, whatever its values."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import need
from images import regnb
from msgspec import structs
from test_resources import EVERY, SECRETS, check_valid, settings

from regnb.cluster.chart import VALUES, chart
from regnb.cluster.resources import Settings, manifests, notes

ACTION = re.compile(r"\{\{ \.(Values\.(\w+)|Release\.Namespace) \}\}")
OTHERS = {
    "host": "other.example.com", "name": "images", "ingress_class": "special", "tls_secret": "other-tls",
    "api_port": 30001, "ui_port": 30002, "registry_image": "r.example.com/registry:3",

    "ui_image": "r.example.com/regnb:2",
    "storage": "1Ti", "snapshots": "2Gi", "storage_class": "slow", "htpasswd_secret": "u", "docker_secret": "d",
    "token_secret": "t", "webhook_secret": "w", "trusted_proxy": "10.1.0.0/16", "schedule": "*/30 * * * *",
    "fail_over": "1TB", "fail_on_growth": "5%", "keep_daily": 7,
}  # fmt: skip
RENDERER = """\
package main
import ("encoding/json"; "os"; "text/template")
func main() {
    var given struct { Files map[string]string; Values map[string]interface{}; Namespace string }
    if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil { panic(err) }
    data := map[string]interface{}{"Values": given.Values, "Release": map[string]string{"Namespace": given.Namespace}}
    for _, text := range given.Files {
        made := template.Must(template.New("").Option("missingkey=error").Parse(text))
        os.Stdout.WriteString("---\\n")
        if err := made.Execute(os.Stdout, data); err != nil { panic(err) }
    }
}
"""
"""Helm's engine is Go's text/template."""


def render(files: dict[str, str], values: dict[str, Any], namespace: str) -> dict[str, str]:
    """The templates with their values, as Go's text/template has it for the only two kinds of action that are used."""

    def value(match: re.Match[str]) -> str:
        return str(values[match[2]]) if match[2] else namespace

    made = {name: ACTION.sub(value, text) for name, text in files.items() if name.startswith("templates/")}
    assert not [text for text in made.values() if "{{" in text or "}}" in text]
    return made


def installed(files: dict[str, str], namespace: str, **values: Any) -> list[dict[str, Any]]:
    """What a cluster gets."""
    made = render(files, yaml.safe_load(files["values.yaml"]) | values, namespace)
    return [yaml.safe_load(text) for name, text in made.items() if name.endswith(".yaml")]


@pytest.mark.parametrize("chosen", EVERY, ids=lambda chosen: " ".join(str(value) for value in chosen.values()))
def test_the_chart_is_what_expose_prints(chosen: dict[str, Any]) -> None:
    """Of the same settings, and of settings that differ in the values; and what comes of it is valid."""
    mine = settings(**chosen, trusted_proxy="10.42.0.0/16", fail_over="40GB")
    files = chart(mine, "1.2.3")
    assert installed(files, mine.namespace) == manifests(mine)
    known = yaml.safe_load(files["values.yaml"])
    others = {name: value for name, value in OTHERS.items() if name in known}
    made = installed(files, "apps", **others)
    assert made == manifests(structs.replace(mine, namespace="apps", **others))
    check_valid(made)


def test_the_notes_name_the_release() -> None:
    """What helm prints after an installation has its namespace and its names, for there the Secrets are looked for."""
    mine = settings(tls_secret="r-tls", https_only=True)
    files = chart(mine, "1.2.3")
    known = yaml.safe_load(files["values.yaml"])
    others = {name: value for name, value in OTHERS.items() if name in known}
    printed = render(files, others, "apps")["templates/NOTES.txt"]
    kept = {name: value for name, value in others.items() if name != "ui_image"}
    assert printed == "".join(f"- {note}\n" for note in notes(structs.replace(mine, namespace="apps", **kept)))
    assert "-n apps create secret tls other-tls" in printed


def test_every_value_is_described_and_used() -> None:
    """Each setting is a value, or chooses which manifests there are; what stands for a value is found nowhere else."""
    mine = settings(tls_secret="r-tls", ingress_class="x", trusted_proxy="10.42.0.0/16", fail_over="1GB",
                    fail_on_growth="1%", **SECRETS)  # fmt: skip
    text = "".join(text for name, text in chart(mine, "1.2.3").items() if name.startswith("templates/"))
    ports = {"api_port", "ui_port"}
    assert {match[2] or "namespace" for match in ACTION.finditer(text)} == {*VALUES} - ports
    decided = {"way", "controller", "https_only", "parts", "collect", "trash"}
    assert {field.name for field in structs.fields(Settings)} - {*VALUES} == decided
    assert {*OTHERS} == {*VALUES} - {"namespace"}
    assert not [value for value in VALUES.values() if str(value) in "".join(map(json.dumps, manifests(mine)))]


def test_go_renders_the_same(tmp_path: Path) -> None:
    """Go's own text/template, which Helm is built on."""
    go = shutil.which("go")
    need("go", go, "go is not installed: apt-get install golang-go")
    assert go is not None
    mine = settings(tls_secret="r-tls", https_only=True, **SECRETS)
    files = chart(mine, "1.2.3")
    (tmp_path / "render.go").write_text(RENDERER)
    templates = {name: text for name, text in files.items() if name.startswith("templates/") and name.endswith(".yaml")}
    given = {"Files": templates, "Values": yaml.safe_load(files["values.yaml"]), "Namespace": mine.namespace}
    done = subprocess.run(
        [go, "run", "render.go"], cwd=tmp_path, input=json.dumps(given), capture_output=True, text=True, check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GOFLAGS": "-mod=mod", "GO111MODULE": "off"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = {json.dumps(each, sort_keys=True) for each in yaml.safe_load_all(done.stdout) if each}
    assert made == {json.dumps(each, sort_keys=True) for each in manifests(mine)}


def test_the_command_writes_a_chart(tmp_path: Path) -> None:
    """It can be written anew, and never into a folder with other things."""
    folder = tmp_path / "chart"
    options = ("kube", "chart", "--host", "r.example.com", "-o", str(folder))
    done = regnb(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "helm install" in done.stderr
    about = yaml.safe_load((folder / "Chart.yaml").read_text())
    assert (about["apiVersion"], about["name"], about["kubeVersion"]) == ("v2", "regnb", ">=1.25.0-0")
    assert regnb(tmp_path, *options, "--part", "ui").returncode == 0
    assert {path.name for path in folder.glob("templates/*.yaml")} == {"deployment-ui.yaml"}
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("")
    assert regnb(tmp_path, *options[:-1], str(other)).returncode == 1
    assert [path.name for path in other.iterdir()] == ["mine.txt"]

"""``regnb kube``: manifests on standard output, notes beside them, and honest exit codes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import reverse
import scripted
import yaml
from distribution import Distribution, free_port
from images import regnb
from test_reach import HERE, page
from test_resources import INGRESS, check_valid

from regnb.cluster.ingress import convert
from regnb.cluster.resources import Settings, manifests


def test_expose_prints_what_kubectl_takes(tmp_path: Path) -> None:
    """YAML alone on standard output, valid, with every setting as an option; what else is to do beside it."""
    options = ["--host", "r.example.com", "--controller", "nginx", "--tls-secret", "r-tls", "--https-only"]
    done = regnb(tmp_path, "kube", "expose", *options, "--namespace", "registry", "--storage", "1Ti")
    assert done.returncode == 0, done.stderr
    made = [*yaml.safe_load_all(done.stdout)]
    check_valid(made)
    chosen = Settings(
        host="r.example.com",
        controller="nginx",
        tls_secret="r-tls",
        https_only=True,
        namespace="registry",
        storage="1Ti",
    )
    assert made == manifests(chosen)
    assert "kubectl -n registry create secret tls r-tls" in done.stderr
    assert "kubectl -n registry create secret tls r-tls" in done.stdout, "as a comment"


def test_expose_writes_a_file(tmp_path: Path) -> None:
    """With chosen parts; a folder that is not there is an error."""
    options = ["--way", "nodeport", "--part", "access", "--part", "service", "--api-port", "31500"]
    done = regnb(tmp_path, "kube", "expose", *options, "-o", str(tmp_path / "kube.yaml"))
    assert (done.returncode, done.stdout) == (0, "")
    made = [*yaml.safe_load_all((tmp_path / "kube.yaml").read_text(encoding="utf-8"))]
    assert made == manifests(Settings(way="nodeport", api_port=31500, parts=("access", "service")))
    done = regnb(tmp_path, "kube", "expose", *options, "-o", str(tmp_path / "none" / "kube.yaml"))
    assert done.returncode == 1
    assert "cannot write" in done.stderr


def test_expose_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    """A message and a hint, and nothing that kubectl would apply."""
    done = regnb(tmp_path, "kube", "expose", "--host", "http://r.example.com")
    assert (done.returncode, done.stdout) == (1, "")
    assert "host cannot be" in done.stderr
    assert "Hint:" in done.stderr


def test_convert_reads_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old becomes the new on standard output, and what was changed is said beside it."""
    old = tmp_path / "old.yaml"
    old.write_text(INGRESS, encoding="utf-8")
    done = regnb(tmp_path, "kube", "convert", str(old))
    assert done.returncode == 0
    assert [*yaml.safe_load_all(done.stdout)] == convert(INGRESS).documents
    assert "ingressClassName" in done.stderr
    monkeypatch.setattr(sys, "stdin", io.StringIO(INGRESS))
    assert regnb(tmp_path, "kube", "convert", "-").stdout == done.stdout


def test_convert_of_what_is_none(tmp_path: Path) -> None:
    """No file, no text and no YAML are errors without a traceback."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "words").write_text("a: [", encoding="utf-8")
    for name, text in (("none", "cannot read"), ("bytes", "is not text"), ("words", "not YAML")):
        done = regnb(tmp_path, "kube", "convert", str(tmp_path / name))
        assert (done.returncode, done.stdout) == (1, "")
        assert text in done.stderr


def test_check_exits_with_what_it_found(proxy_program: None, real: Distribution, tmp_path: Path) -> None:
    """0: all is well, 1: something fails, 4: something could not be tested; hints stand below the table."""
    with (
        scripted.serve(page) as ui,
        reverse.nginx(tmp_path / "nginx", {"/v2": real.host, "/ui": ui.host}) as proxy,
    ):
        common = ["kube", "check", HERE, "--http-port", str(proxy.http_port), "--https-port", str(free_port())]
        done = regnb(tmp_path, *common, "--repository", "team/new")
        assert done.returncode == 0, done.stdout
        assert "upload of 20.0 MB" in done.stdout
        assert "- registry over https: " in done.stdout
        assert regnb(tmp_path, *common).returncode == 4, "no repository is listed"
        assert regnb(tmp_path, *common, "--no-upload").returncode == 0
        done = regnb(tmp_path, *common, "--https-only", "--no-upload", "--json")
        assert done.returncode == 1
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert {"check": "registry over http", "state": "fail"}.items() <= found[0].items()


def test_check_of_node_ports(real: Distribution, tmp_path: Path) -> None:
    """The API alone, where no port of the UI is named."""
    done = regnb(tmp_path, "kube", "check", HERE, "--api-port", str(real.port), "--no-upload", "--json")
    assert (done.returncode, [json.loads(line)["check"] for line in done.stdout.splitlines()]) == (0, ["registry"])


def test_the_help_says_what_is_sent(tmp_path: Path) -> None:
    """That an upload is cancelled, and what the exit codes mean."""
    text = " ".join(regnb(tmp_path, "kube", "check", "--help").stdout.split())
    for word in ("sends zeros and is cancelled", "nothing is stored", "4: something could not be tested"):
        assert word in text

"""A Dask cluster for the operator: what it says of pods and of a Service is valid for Kubernetes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from images import regnb
from test_resources import VERSIONS

from regnb.cluster.dask import cluster, notes
from regnb.cluster.resources import Settings
from regnb.errors import InvalidArgument

SETTINGS = Settings(parts=("audit",), ui_image="r.example.com/regnb:1", docker_secret="login")


def named(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "any"}, "spec": spec}


@pytest.mark.parametrize("claim", ["", "cache"])
def test_what_the_operator_makes_of_it_is_valid(claim: str) -> None:
    """Pods of the scheduler and the workers, and the Service; each volume is mounted, and the login only by workers."""
    made = cluster(SETTINGS, workers=3, memory="1Gi", claim=claim)
    spec = made["spec"]
    worker, scheduler = (spec[name]["spec"] for name in ("worker", "scheduler"))
    assert (made["apiVersion"], made["kind"], spec["worker"]["replicas"]) == (
        "kubernetes.dask.org/v1",
        "DaskCluster",
        3,
    )
    for version in VERSIONS:
        for kind, part in (("Pod", worker), ("Pod", scheduler), ("Service", spec["scheduler"]["service"])):
            kubernetes_validate.validate(json.loads(json.dumps(named(kind, part))), version, strict=True)
    for pod in (worker, scheduler):
        (container,) = pod["containers"]
        assert {each["name"] for each in pod["volumes"]} == {each["name"] for each in container["volumeMounts"]}
        assert not pod["automountServiceAccountToken"]
    assert "login" in json.dumps(worker)
    assert "login" not in json.dumps(scheduler)
    assert ({"name": "REGNB_SHARED_CACHE", "value": "/shared/cache"} in worker["containers"][0]["env"]) == bool(claim)
    ports = {port["name"] for port in scheduler["containers"][0]["ports"]}
    assert {port["targetPort"] for port in spec["scheduler"]["service"]["ports"]} == ports


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"memory": "much"}, {"claim": "a/b"}])
def test_what_kubernetes_would_not_take(wrong: dict[str, Any]) -> None:
    """It is refused, with what to write."""
    with pytest.raises(InvalidArgument, match=f"{next(iter(wrong))} cannot be") as caught:
        cluster(SETTINGS, **wrong)
    assert caught.value.hint


def test_the_command_prints_it(tmp_path: Path) -> None:
    """With the other steps as comments, and on standard error."""
    done = regnb(tmp_path, "kube", "dask", "--workers", "2", "--claim", "cache")
    assert done.returncode == 0, done.stderr
    chosen = Settings(parts=("audit",))
    assert yaml.safe_load(done.stdout) == cluster(chosen, workers=2, claim="cache")
    for note in notes(chosen, "cache"):
        assert note in done.stderr

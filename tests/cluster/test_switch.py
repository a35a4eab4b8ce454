"""The job that collects on Kubernetes: it switches the registry to read-only and back, whatever happens to it.

The API server is a fake; the registry that it starts, and the storage, are real.
"""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import swept
import typer
from clusters import Cluster
from distribution import Distribution
from images import ask
from test_resources import check_valid, of, settings

import regnb
from regnb.change.collect import pushers
from regnb.change.sweep import TRASH
from regnb.cli import unattended
from regnb.cluster.resources import manifests
from regnb.cluster.switch import Switch
from regnb.errors import InvalidArgument, StorageError
from regnb.storage import Storage

STEPS = 12
"""Requests to the API server in one job: before any of them it may be killed."""


@pytest.fixture
def old(real: Distribution) -> Distribution:
    """A stopped registry, three days old, with one image that was deleted."""
    return swept.old(real)


def start(cluster: Cluster, command: str, *words: str, receipts: Path) -> subprocess.Popen[str]:
    more = [str(cluster.registry.root)] if command == "collect" else []
    line = [sys.executable, "-m", "regnb", "kube", command, *more, "--server", cluster.url, *words]
    env = {**os.environ, "REGNB_POD": "job", "REGNB_NODE": "node-1", "REGNB_RECEIPTS": str(receipts)}
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def collect(cluster: Cluster, receipts: Path) -> subprocess.Popen[str]:
    port = str(cluster.registry.port)
    return start(cluster, "collect", "--port", port, "--apply", "--empty-older-than", "1d", receipts=receipts)


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate()[0]


def writes(cluster: Cluster) -> str:
    return ask(cluster.registry.url, pushers.ask).pushes


def test_it_switches_collects_and_switches_back(old: Distribution, tmp_path: Path) -> None:
    """The Deployment is as before, the registry serves its tag, and what was garbage lies in the trash."""
    whole = swept.whole(old.root)
    with Cluster(old) as cluster:
        before = copy.deepcopy(cluster.deployment)
        seen: list[Any] = []
        cluster.before = lambda _: seen.append(copy.deepcopy(cluster.deployment))
        process = collect(cluster, tmp_path)
        text = said(process)
        assert process.returncode == 0, text
        assert "writable again" in text
        assert "removed for good 0 B; the volume has" in text
        assert len(cluster.requests) == STEPS, cluster.requests
        assert any("affinity" in one["spec"]["template"]["spec"] for one in seen), "the pod stays on the job's node"
        cluster.deployment["metadata"]["generation"] = 1
        cluster.deployment["metadata"].pop("annotations")
        assert cluster.deployment == before
        assert writes(cluster) == "writable"
        for name in whole:
            swept.pull(old.url, name)
    assert swept.whole(old.root) == whole
    assert (old.root / "docker/registry/v2" / TRASH).exists()
    assert not regnb.open_storage(old.root).plan_collect().steps


def test_the_storage_is_read_once_for_each_plan(
    old: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is read-only meanwhile: a collection reads its storage twice, and emptying the trash once.

    Both ask the pods of now: those of an earlier job, which a list names, are gone.
    """
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    found, real_state = [], Storage._state

    def state(self: Storage, *given: Any, **more: Any) -> Any:
        found.append(given)
        return real_state(self, *given, **more)

    asked, real_plan = [], Storage.plan_empty

    def plan_empty(self: Storage, **given: Any) -> Any:
        asked.append(given["endpoints"])
        return real_plan(self, **given)

    monkeypatch.setattr(Storage, "_state", state)
    monkeypatch.setattr(Storage, "plan_empty", plan_empty)
    with Cluster(old) as cluster:
        port = cluster.registry.port
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(typer.Exit) as ended:
                unattended.collect(str(old.root), server=cluster.url, port=port, empty_older_than="0", apply=True)
        finally:
            signal.signal(signal.SIGTERM, handler)
    assert ended.value.exit_code == 0
    assert len(found) == 3
    assert asked == [[old.url]]
    assert not (old.root / "docker/registry/v2" / TRASH).exists()


@pytest.mark.parametrize("step", range(STEPS))
def test_killed_before_any_step(old: Distribution, tmp_path: Path, step: int) -> None:
    """Nothing that the job still had to do is needed: the second CronJob switches back, and every tag is whole."""
    whole = swept.whole(old.root)
    with Cluster(old) as cluster:
        process = collect(cluster, tmp_path)
        count = iter(range(1000))

        def kill(_: str) -> None:
            if next(count) == step:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(60)

        cluster.before = kill
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
        cluster.settle()
        cluster.before = lambda _: None
        if cluster.readonly:
            cluster.jobs["job"] = "Running"
            assert "nothing to switch back" in said(start(cluster, "release", receipts=tmp_path))
            assert cluster.readonly, "while the pod runs it is at work"
            cluster.jobs["job"] = "Failed"
        said(start(cluster, "release", receipts=tmp_path))
        assert cluster.readonly is None
        assert writes(cluster) == "writable"
        for name in whole:
            swept.pull(old.url, name)
    assert swept.whole(old.root) == whole


def test_a_node_that_is_drained(old: Distribution, tmp_path: Path) -> None:
    """SIGTERM in the middle: the job itself switches back before it ends."""
    with Cluster(old) as cluster:
        process = collect(cluster, tmp_path)
        count = iter(range(1000))

        def stop(_: str) -> None:
            if next(count) == 3:
                process.send_signal(signal.SIGTERM)

        cluster.before = stop
        text = said(process)
        assert process.returncode not in (0, -signal.SIGTERM), text
        assert cluster.readonly is None, text


def test_what_was_set_before_is_set_again(old: Distribution, tmp_path: Path) -> None:
    """A registry that somebody made read-only stays so, and its own affinity is kept."""
    with Cluster(old) as cluster:
        spec = cluster.deployment["spec"]["template"]["spec"]
        spec["affinity"] = {"podAffinity": {"x": 1}}
        spec["containers"][0]["env"].append(
            {"name": "REGISTRY_STORAGE_MAINTENANCE_READONLY", "value": '{"enabled": true}'}
        )
        before = copy.deepcopy(spec)
        process = collect(cluster, tmp_path)
        text = said(process)
        assert process.returncode == 0, text
        assert cluster.deployment["spec"]["template"]["spec"] == before


def test_outside_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pod's account it says so."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StorageError, match="not a pod") as error:
        Switch("a", "b")
    assert "expose --collect" in error.value.hint


def test_the_manifests_are_valid_and_fit() -> None:
    """Both CronJobs have an account that may patch one Deployment; the job runs beside the registry, as its user."""
    for more in ({}, {"htpasswd_secret": "users", "docker_secret": "docker"}):
        made = manifests(settings(collect="weekly", **more))
        check_valid(made)
        (registry,) = (one for one in of(made, "Deployment") if one["metadata"]["name"] == "kube-registry")
        jobs = {one["metadata"]["name"]: one["spec"] for one in of(made, "CronJob")}
        job, back = jobs["kube-registry-collect"], jobs["kube-registry-release"]
        assert job["schedule"] == "30 2 * * 0"
        assert {job["concurrencyPolicy"], back["concurrencyPolicy"]} == {"Forbid"}
        pod, theirs = job["jobTemplate"]["spec"]["template"]["spec"], registry["spec"]["template"]
        assert pod["securityContext"] == theirs["spec"]["securityContext"]
        (near,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert near["labelSelector"]["matchLabels"].items() <= theirs["metadata"]["labels"].items()
        claims = {
            each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each
        }
        assert claims == {"kube-registry-storage"}
        (role,), (bound,), (account,) = (of(made, kind) for kind in ("Role", "RoleBinding", "ServiceAccount"))
        assert [rule.get("resourceNames") for rule in role["rules"]] == [["kube-registry"], None]
        assert bound["roleRef"]["name"] == role["metadata"]["name"]
        assert pod["serviceAccountName"] == account["metadata"]["name"] == bound["subjects"][0]["name"]
    assert not of(manifests(settings()), "Role")


@pytest.mark.parametrize(
    "given",
    [{"collect": "hourly-ish"}, {"collect": "weekly", "name": "n" * 45}, {"collect": "weekly", "parts": ("ui",)},
     {"collect": "weekly", "trash": -1}, {"collect": "weekly", "htpasswd_secret": "users"}],
)  # fmt: skip
def test_what_cannot_be_exposed(given: dict[str, Any]) -> None:
    """A schedule that cron has not, a name that is too long for a CronJob, no volume, users without credentials."""
    with pytest.raises(InvalidArgument):
        settings(**given)

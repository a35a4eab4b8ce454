"""What a cluster runs, from kubectl's output and from an API server on loopback."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from distribution import free_port
from images import Fake, pack

from regnb.cluster.running import Used, running
from regnb.cluster.running import listed as listed_
from regnb.errors import InvalidArgument, MissingExtra, RegnbError, StorageError
from regnb.oci.reference import Digest

ONE, TWO = str(Digest.of(b"one")), str(Digest.of(b"two"))


def pod(image: str, image_id: str = "", *, name: str = "a", kind: str = "Pod") -> dict[str, Any]:
    """A pod as the API writes it, as far as it matters."""
    statuses = [{"name": "main", "image": image, "imageID": image_id, "ready": True}] if image_id else None
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "web", "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": image}]},
        "status": {"phase": "Running", "containerStatuses": statuses},
    }


def listed(*pods: Mapping[str, Any], kind: str = "List") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "items": list(pods), "metadata": {"resourceVersion": ""}}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("app", ("app", "latest", "")),
        ("app:1", ("app", "1", "")),
        ("registry:5000/team/app:1", ("team/app", "1", "")),
        ("registry.example/team/app", ("team/app", "latest", "")),
        ("localhost/app:1", ("app", "1", "")),
        ("team/app:1", ("team/app", "1", "")),
        ("[::1]:5000/app:1", ("app", "1", "")),
        (f"registry:5000/app@{ONE}", ("app", "", ONE)),
        (f"registry:5000/app:1@{ONE}", ("app", "1", ONE)),
    ],
)
def test_an_image_as_a_pod_asks_for_it(image: str, expected: tuple[str, str, str]) -> None:
    """Whatever the host, the path counts; and no tag means latest, as it does for the node."""
    assert running(listed(pod(image))) == (Used(*expected, "web/a"),)


@pytest.mark.parametrize(
    ("image_id", "expected"),
    [
        (f"docker-pullable://registry:5000/team/app@{ONE}", ("team/app", "", ONE)),
        (f"registry:5000/team/app@{ONE}", ("team/app", "", ONE)),
        (f"docker://{ONE}", ("", "", ONE)),
        (ONE, ("", "", ONE)),
    ],
)
def test_an_image_as_a_node_found_it(image_id: str, expected: tuple[str, str, str]) -> None:
    """The digest that runs is known in every form in which container runtimes write it."""
    assert running(listed(pod("app:1", image_id))) == (
        Used("app", "1", "", "web/a"),
        Used(*expected, "web/a"),
    )


def test_every_kind_of_container_counts() -> None:
    """Init and ephemeral containers need their images, too; each image is named once, with the first pod."""
    one = pod("app:1", name="first")
    one["spec"] |= {"initContainers": [{"image": "init:1"}], "ephemeralContainers": [{"image": "debug:1"}]}
    one["status"] |= {
        "initContainerStatuses": [{"imageID": f"init@{ONE}"}],
        "ephemeralContainerStatuses": [{"imageID": f"debug@{TWO}"}],
    }
    found = running(listed(one, pod("app:1", name="second")))
    assert [(used.repository, used.tag, used.digest) for used in found] == [
        ("app", "1", ""), ("init", "1", ""), ("debug", "1", ""), ("init", "", ONE), ("debug", "", TWO),
    ]  # fmt: skip
    assert {used.where for used in found} == {"web/first"}


def test_a_pod_that_waits_for_its_node_has_no_digest() -> None:
    """Before an image is pulled its ID is empty, and then the tag protects it."""
    one = pod("app:1")
    one["status"]["containerStatuses"] = [{"image": "app:1", "imageID": ""}]
    assert running(listed(one)) == (Used("app", "1", "", "web/a"),)
    assert running(None) == ()
    assert running(listed()) == ()


def test_a_file_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kubectl printed is read from where it was written to."""
    path = tmp_path / "pods.json"
    path.write_bytes(pack(listed(pod("app:1"))))
    expected = (Used("app", "1", "", "web/a"),)
    assert running(path) == running(str(path)) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert running("-") == expected


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b"", "is empty"),
        (b'{"kind": "List", "items": [', "not a list of pods"),
        ("{}".encode("utf-16"), "not a list of pods"),
        (b"[" * 100_000, "not a list of pods"),
        (b"[]", "not a list of pods"),
        (b" \n", "is empty"),
        (b'{"items": []}', "not a list of pods"),
        (b'{"kind": "List"}', "not a list of pods"),
        (pack(pod("app:1")), "not a list of pods"),
        (pack({"kind": "Deployment", "items": []}), "a Deployment and not a list of pods"),
        (pack(listed(pod("a"), pod("b", kind="Service"))), "the list has a Service"),
        (pack(listed({"kind": "Pod"})), "not a list of pods"),
        (pack(listed({"kind": "Pod", "spec": {"containers": "many"}})), "not a list of pods"),
        (pack(listed(pod("a")) | {"metadata": {"continue": "more"}}), "one page"),
    ],
)
def test_what_is_no_list_of_pods(tmp_path: Path, document: bytes, text: str) -> None:
    """Anything else would protect nothing, so it is an error that names the command to run."""
    path = tmp_path / "pods.json"
    path.write_bytes(document)
    with pytest.raises(InvalidArgument, match=text) as raised:
        running(path)
    assert "kubectl get pods -A -o json" in raised.value.hint


def test_what_is_no_document(tmp_path: Path) -> None:
    """A mapping that is not JSON, a file that is not there and a name that cannot be one are errors of their own."""
    with pytest.raises(InvalidArgument, match="not a JSON document"):
        running({"items": {object()}})
    with pytest.raises(StorageError, match="No such file"):
        running(tmp_path / "none.json")
    with pytest.raises(StorageError, match="null"):
        running("\0")


def configure(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a kubeconfig, and set it. JSON is YAML."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "planted-token"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    # The library reads the variable when it is first imported.
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


def test_a_live_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server's pages are read to the last, with nothing but GETs."""

    def page(path: str) -> tuple[int, dict[str, str], bytes]:
        asked = parse_qs(urlsplit(path).query)
        number = int(asked.get("continue", ["0"])[0])
        document = listed(pod(f"app:{number}", name=str(number)), kind="PodList")
        # Items of a PodList do not say what they are.
        del document["items"][0]["kind"]
        document["metadata"] = {"continue": str(number + 1)} if number < 2 else {}
        return 200, {"Content-Type": "application/json"}, pack(document)

    def workloads(kind: str, image: str) -> tuple[int, dict[str, str], bytes]:
        spec = {"template": {"spec": {"containers": [{"image": image}]}}}
        item = {
            "metadata": {"name": kind.lower(), "namespace": "web"},
            "spec": {"jobTemplate": {"spec": spec}} if kind == "CronJob" else {"replicas": 0, **spec},
        }
        document = {"kind": f"{kind}List", "items": [item], "metadata": {}}
        return 200, {"Content-Type": "application/json"}, pack(document)

    paths = {
        "/apis/apps/v1/deployments": "Deployment", "/apis/apps/v1/statefulsets": "StatefulSet",
        "/apis/apps/v1/daemonsets": "DaemonSet", "/apis/apps/v1/replicasets": "ReplicaSet",
        "/api/v1/replicationcontrollers": "ReplicationController", "/apis/batch/v1/jobs": "Job",
        "/apis/batch/v1/cronjobs": "CronJob",
    }  # fmt: skip
    answers = {path: workloads(kind, f"{kind.lower()}:1") for path, kind in paths.items()}
    with Fake({"/api/v1/pods": page, **answers}) as server:
        configure(tmp_path, server.url, monkeypatch)
        found = listed_("cluster")
    images = [used for _, used in found.images]
    assert [(used.tag, used.where) for used in images[:3]] == [("0", "web/0"), ("1", "web/1"), ("2", "web/2")]
    assert {(used.repository, used.where) for used in images[3:]} == {
        (kind.lower(), f"web/{kind.lower()}") for kind in paths.values()
    }
    assert found.kinds == {"Pod", *paths.values()}
    assert sorted(server.asked) == sorted([("GET", "/api/v1/pods")] * 3 + [("GET", path) for path in paths])


TEMPLATE = {"template": {"spec": {
    "containers": [{"image": "r.example/app:1"}], "initContainers": [{"image": "r.example/init:1"}],
    "volumes": [{"name": "a", "image": {"reference": "r.example/model:1"}}, {"name": "b", "emptyDir": {}}],
}}}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        *(
            (kind, {"replicas": 0, **TEMPLATE})
            for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
        ),
        ("CronJob", {"suspend": True, "jobTemplate": {"spec": TEMPLATE}}),
        ("ReplicationController", TEMPLATE),
    ],
)
def test_workloads_without_pods(kind: str, spec: Mapping[str, Any]) -> None:
    """What is scaled to 0, waits for its schedule, or is an old revision is to run again: its images are in use."""
    item = {"kind": kind, "metadata": {"name": "n", "namespace": "b"}, "spec": spec}
    for document in (listed(pod("x:1"), item), {"kind": f"{kind}List", "items": [{**item, "kind": kind}]}):
        found = listed_(document).images
        named = {(host, used.repository, used.tag, used.where) for host, used in found if used.repository != "x"}
        assert named == {("r.example", name, "1", "b/n") for name in ("app", "init", "model")}


def test_a_file_of_references(tmp_path: Path) -> None:
    """One image on each line, with comments; a line that is none is an error that names it."""
    path = tmp_path / "images.txt"
    path.write_text(f"# ours\nr.example:5000/team/app:1\n\nteam/app@{ONE}  # pinned\n{TWO}\nplain\n", encoding="utf-8")
    assert listed_(path).images == (
        ("r.example:5000", Used("team/app", "1", "", "line 2 of images.txt")),
        ("", Used("team/app", "", ONE, "line 4 of images.txt")),
        ("", Used("", "", TWO, "line 5 of images.txt")),
        ("", Used("plain", "latest", "", "line 6 of images.txt")),
    )
    assert listed_(path).kinds == frozenset()
    path.write_text("app:1\napiVersion: v1\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match="line 2"):
        listed_(path)


@pytest.mark.parametrize(
    ("status", "text", "hint"), [(403, "403", "permission"), (401, "401", "permission"), (410, "410", "try again")]
)
def test_a_cluster_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, text: str, hint: str
) -> None:
    """No list is not a protection: the error says why, what to do, and no secret."""
    body = {"kind": "Status", "status": "Failure", "reason": "x", "code": status}
    with Fake({"/api/v1/pods": (status, {"Content-Type": "application/json"}, pack(body))}) as server:
        configure(tmp_path, server.url, monkeypatch)
        with pytest.raises(RegnbError, match=text) as raised:
            running("cluster")
    assert hint in raised.value.hint
    assert "planted-token" not in str(raised.value)


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers, or there is no kubeconfig: an error with what to do, at once."""
    configure(tmp_path, f"http://127.0.0.1:{free_port()}", monkeypatch)
    with pytest.raises(RegnbError, match="does not answer"):
        running("cluster")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(RegnbError, match="no cluster to ask") as raised:
        running("cluster")
    assert "KUBECONFIG" in raised.value.hint


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a live cluster needs it, and the error names the extra."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert running(listed(pod("app:1")))
    with pytest.raises(MissingExtra, match=r"regnb\[kubernetes\]"):
        running("cluster")

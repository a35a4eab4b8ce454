"""Workers for a large registry: a Dask cluster on Kubernetes, as a resource of the dask-kubernetes operator."""

from __future__ import annotations

import re
from typing import Final

from regnb.cluster.resources import UNBUILT, Document, Settings, pod_of
from regnb.errors import InvalidArgument

_COMMUNICATION, _DASHBOARD = 8786, 8787
_MEMORY: Final = re.compile(r"[1-9]\d*[MG]i")
_CLAIM: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?")
_SHARED: Final = "/shared"
_ENVIRONMENT: Final = {"HOME": "/tmp", "USER": "regnb"}  # noqa: S108 -- the container's own


def cluster(settings: Settings, *, workers: int = 4, memory: str = "2Gi", claim: str = "") -> Document:
    """Return a DaskCluster whose workers read a registry: ``registry.inventory(executor=…)``.

    Args:
        settings: Of these count name, namespace, ui_image (it needs distributed beside regnb), and docker_secret, with
            which the workers log in.
        workers: How many.
        memory: What one may take, such as ``2Gi``.
        claim: A PersistentVolumeClaim that many nodes can write to: there the workers keep what they have read, and
            are told to stop. It is mounted at ``/shared``.

    Raises:
        InvalidArgument: A number, size or name that Kubernetes would not take.

    Example:
        >>> cluster(Settings(host="r.example.com"))["metadata"]["name"]
        'kube-registry-dask'
    """
    for field, value, fits, hint in (
        ("workers", workers, workers > 0, "write a number of workers"),
        ("memory", memory, _MEMORY.fullmatch(memory), "write such as 2Gi"),
        ("claim", claim, not claim or _CLAIM.fullmatch(claim), "use a to z, 0 to 9 and -"),
    ):
        if not fits:
            raise InvalidArgument(f"{field} cannot be {str(value)[:100]!r}", hint=hint)
    name = f"{settings.name}-dask"
    ports = {"tcp-comm": _COMMUNICATION, "http-dashboard": _DASHBOARD}
    scheduler = _container("scheduler", settings, memory, ["dask", "scheduler"], ports)
    for probe in ("readinessProbe", "livenessProbe"):
        scheduler[probe] = {"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 15}
    # The operator tells each worker its name, and where the scheduler is.
    words = ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--local-directory", "/tmp"]  # noqa: S108 -- as above
    words += ["--dashboard-address", str(_DASHBOARD)]
    worker = _container("worker", settings, memory, words, {"http-dashboard": _DASHBOARD})
    mounts: dict[str, tuple[str, Document]] = {}
    if settings.docker_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        mounts["docker"] = ("/docker", {"secret": {"secretName": settings.docker_secret, "items": items}})
        worker["env"].append({"name": "DOCKER_CONFIG", "value": "/docker"})
    if claim:
        mounts["shared"] = (_SHARED, {"persistentVolumeClaim": {"claimName": claim}})
        worker["env"].append({"name": "REGNB_SHARED_CACHE", "value": f"{_SHARED}/cache"})
    selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    service = {
        "type": "ClusterIP",
        "selector": selector,
        "ports": [
            {"name": port, "protocol": "TCP", "port": number, "targetPort": port} for port, number in ports.items()
        ],
    }
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name, "namespace": settings.namespace, "labels": {"app": settings.name}},
        "spec": {
            "worker": {"replicas": workers, "spec": pod_of(settings.name, worker, mounts)["spec"]},
            "scheduler": {"spec": pod_of(settings.name, scheduler, {})["spec"], "service": service},
        },
    }


def notes(settings: Settings, claim: str = "") -> list[str]:
    """Return what is left to do beside applying the manifest.

    Example:
        >>> len(notes(Settings(host="r.example.com", ui_image="r.example.com/regnb:1", docker_secret="login")))
        3
    """
    address = f"tcp://{settings.name}-dask-scheduler.{settings.namespace}:{_COMMUNICATION}"
    shared = f', folder=Path("{_SHARED}")' if claim else ""
    install = "helm install --repo https://helm.dask.org --create-namespace -n dask-operator --generate-name"
    call = f'registry.inventory(executor=regnb.Workers(Client("{address}"), shards=32{shared}))'
    found = [
        f"the operator: {install} dask-kubernetes-operator",
        f"in a pod of the cluster: {call}; it needs the workers' versions of Python, regnb and distributed",
    ]
    if settings.ui_image == UNBUILT:
        found.append("there is no published image: build one with regnb and distributed, and name it: --ui-image")
    if not settings.docker_secret:
        found.append("without docker_secret the workers read the registry without a login")
    if not claim:
        found.append("without claim an interrupt reaches workers only between two calls, and each has its own cache")
    return found


def _container(name: str, settings: Settings, memory: str, words: list[str], ports: dict[str, int]) -> Document:
    return {
        "name": name,
        "image": settings.ui_image,
        "command": words,
        "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
        "env": [{"name": each, "value": value} for each, value in _ENVIRONMENT.items()],
        "resources": {"requests": {"cpu": "500m", "memory": memory}, "limits": {"memory": memory}},
    }

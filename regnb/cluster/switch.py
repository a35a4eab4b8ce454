"""A registry's Deployment on Kubernetes, switched to read-only for a while and back: asked of the API server itself."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import httpx
import msgspec
from msgspec import Struct

from regnb.crawl.files import file_errors
from regnb.errors import Busy, RegnbError, StorageError

VARIABLE: Final = "REGISTRY_STORAGE_MAINTENANCE_READONLY"
"""With it distribution refuses every write. Its value is JSON with ``enabled``."""
NOTE: Final = "regnb.io/read-only"
"""The annotation that says who switched, until when, and what was there before."""
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONTAINER: Final = "registry"
_EVERY: Final = 1.0
"""Seconds between two looks at what the cluster has done."""
_ENDED: Final = frozenset({"Succeeded", "Failed"})
_Document: TypeAlias = dict[str, Any]


class _Held(Struct, frozen=True):
    """What the annotation says.

    Attributes:
        by: The pod that switched.
        until: When nobody waits for it any more (RFC 3339).
        variable: The variable's value before; None if it was not set.
        pinned: Whether the pod was bound to a node meanwhile.
        affinity: The pod's affinity before; None if there was none.
    """

    by: str
    until: str
    variable: str | None = None
    pinned: bool = False
    affinity: _Document | None = None


class Switch:
    """The Deployment of a registry.

    Args:
        namespace: Of the Deployment.
        deployment: Its name.
        server: The API server; by default the one that a pod's environment names.
        pause: Waits for so many seconds.

    Raises:
        StorageError: This is not a pod with an account at an API server.

    Example:
        >>> with Switch("registry", "kube-registry") as switch:  # doctest: +SKIP
        ...     switch.release()
    """

    def __init__(
        self, namespace: str, deployment: str, *, server: str = "", pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._namespace, self._deployment, self._pause = namespace, deployment, pause
        headers = {}
        verify: ssl.SSLContext | bool = True
        if not server:
            host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            if not host:
                hint = "the CronJob of regnb kube expose --collect runs it; its pod has an account"
                raise StorageError("this is not a pod of a cluster: KUBERNETES_SERVICE_HOST is not set", hint=hint)
            server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
            with file_errors("read the pod's account", "set automountServiceAccountToken, and a serviceAccountName"):
                headers = {"Authorization": f"Bearer {(_ACCOUNT / 'token').read_text().strip()}"}
                verify = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        self._client = httpx.Client(base_url=server, headers=headers, verify=verify, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _ask(self, method: str, path: str, **given: Any) -> _Document:  # noqa: ANN401 -- httpx's
        """Ask the API server; what it does not answer is asked again for a minute, as a node may just be drained."""
        for wait in (1, 2, 4, 8, 16, 30, 0):
            try:
                answer = self._client.request(method, path, **given)
            except httpx.TransportError as error:
                why, retry = f"{type(error).__name__}: {error}"[:200], True
            else:
                if answer.is_success:
                    return dict(answer.json())
                why = f"{answer.status_code} {answer.text[:200]}"
                retry = answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error
                if answer.status_code == httpx.codes.NOT_FOUND:
                    raise _Absent(f"there is no {path}", hint="check the namespace and the name")
            if not retry or not wait:
                break
            self._pause(wait)
        raise StorageError(
            f"the API server did not do {method} {path}: {why}", hint="check the Role of the pod's account"
        )

    @property
    def _path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{self._deployment}"

    def _patch(self, note: str | None, variable: str | None, **pod: object) -> None:
        one = {"name": VARIABLE, "value": variable} if variable is not None else {"name": VARIABLE, "$patch": "delete"}
        body = {
            "metadata": {"annotations": {NOTE: note}},
            "spec": {"template": {"spec": {"containers": [{"name": _CONTAINER, "env": [one]}], **pod}}},
        }
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        self._ask("PATCH", self._path, content=msgspec.json.encode(body), headers=headers)

    def hold(self, by: str, node: str, within: timedelta) -> None:
        """Switch to read-only: first it is written down, in the same request, so that it can always be taken back.

        Args:
            by: The pod that asks.
            node: Where it runs; the registry stays there meanwhile, as its volume may belong to one node at a time.
            within: After so long :meth:`release` switches back although that pod still runs.

        Raises:
            Busy: It is held by another pod.
            StorageError: The API server did not do it.

        Example:
            ``switch.hold("kube-registry-collect-x", "node-1", timedelta(hours=4))``
        """
        deployment = self._ask("GET", self._path)
        held = _held(deployment)
        if held is not None and held.by != by:
            hint = "wait until it has ended; regnb kube release switches back what a dead one left"
            raise Busy(f"{self._deployment} is held read-only by the pod {held.by}", hint=hint)
        if held is not None:
            return
        spec = deployment["spec"]["template"]["spec"]
        before = next(
            (
                variable.get("value")
                for container in spec["containers"]
                if container["name"] == _CONTAINER
                for variable in container.get("env", ())
                if variable["name"] == VARIABLE
            ),
            None,
        )
        affinity = spec.get("affinity")
        pinned = bool(node) and not (affinity or {}).get("nodeAffinity")
        until = (datetime.now(UTC) + within).isoformat(timespec="seconds")
        note = msgspec.json.encode(_Held(by, until, before, pinned, affinity)).decode()
        more: _Document = {}
        if pinned:
            fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
            terms = {"nodeSelectorTerms": [{"matchFields": fields}]}
            more = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
        self._patch(note, '{"enabled":true}', **more)

    def release(self, *, by: str = "") -> bool:
        """Switch back, if what switched is not at work any more; return whether there was something to switch back.

        Args:
            by: The pod that switched, if it says so itself.

        Raises:
            StorageError: The API server did not do it.

        Example:
            >>> switch.release()  # doctest: +SKIP
            True
        """
        held = _held(self._ask("GET", self._path))
        if held is None or (held.by != by and self._is_at_work(held)):
            return False
        more: _Document = {}
        if held.pinned:
            more = {"affinity": None if held.affinity is None else {"nodeAffinity": None}}
        self._patch(None, held.variable, **more)
        return True

    def _is_at_work(self, held: _Held) -> bool:
        if datetime.now(UTC) >= datetime.fromisoformat(held.until):
            return False
        try:
            pod = self._ask("GET", f"/api/v1/namespaces/{self._namespace}/pods/{held.by}")
        except _Absent:
            return False
        return pod.get("status", {}).get("phase") not in _ENDED

    def settled(self, within: timedelta, port: int) -> list[str]:
        """Wait until every pod is new and no old one is left, and return the URL of each.

        Args:
            within: How long.
            port: Of the registry in its pods.

        Raises:
            StorageError: It takes longer.

        Example:
            >>> switch.settled(timedelta(minutes=10), 5000)  # doctest: +SKIP
            ['http://10.42.0.7:5000']
        """
        end = time.monotonic() + within.total_seconds()
        while True:
            deployment = self._ask("GET", self._path)
            spec, status = deployment["spec"], deployment.get("status", {})
            wanted = spec.get("replicas", 1)
            seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
            counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
            if seen and counts == {wanted}:
                chosen = ",".join(f"{name}={value}" for name, value in spec["selector"]["matchLabels"].items())
                path = f"/api/v1/namespaces/{self._namespace}/pods"
                pods = self._ask("GET", path, params={"labelSelector": chosen})["items"]
                # A pod that is about to end still answers those that it has, and takes what they push.
                pods = [pod for pod in pods if pod["status"].get("phase") not in _ENDED]
                if len(pods) == wanted and not any(pod["metadata"].get("deletionTimestamp") for pod in pods):
                    return [_url(pod["status"]["podIP"], port) for pod in pods]
            if time.monotonic() >= end:
                raise StorageError(
                    f"the pods of {self._deployment} are not all new after {int(within.total_seconds())} s",
                    hint=f"kubectl -n {self._namespace} rollout status deployment/{self._deployment}",
                )
            self._pause(_EVERY)


class _Absent(RegnbError):
    """There is no such object."""


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _held(deployment: _Document) -> _Held | None:
    text = deployment["metadata"].get("annotations", {}).get(NOTE)
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=_Held)
    except (msgspec.MsgspecError, ValueError):
        hint = f"remove the annotation, and the variable {VARIABLE}, if no collection runs"
        raise StorageError(f"the annotation {NOTE} is not one of regnb's: {text[:100]}", hint=hint) from None

"""What a Kubernetes cluster runs: the images of its pods, so that nothing of theirs is deleted."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from regnb.errors import InvalidArgument, MissingExtra, RegnbError, StorageError

InUse: TypeAlias = "str | Path | Mapping[str, Any] | None"
"""Where the pods are listed: a path, ``-`` for standard input, the document itself, or ``cluster`` to ask for it."""

_COMMAND: Final = "kubectl get pods -A -o json"
_HINT: Final = f"give it what {_COMMAND} prints"
_PAGE: Final = 500
_TIMEOUT: Final = (10, 60)
"""Seconds to connect, and to wait for an answer."""
_DIGEST: Final = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")


_T = TypeVar("_T")


class Used(Struct, frozen=True):
    """An image that a container runs, or is to run.

    Attributes:
        repository: Its path, without a host: a registry has one name inside a cluster and another one outside, so
            that names cannot tell whether it is this registry. "" if only a digest is known.
        tag: Or "".
        digest: Of the manifest or, as Docker has it, of the config; or "".
        where: ``namespace/pod``.
    """

    repository: str
    tag: str
    digest: str
    where: str


class _Named(Struct, rename="camel"):
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")


class _Meta(Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class _Spec(Struct, rename="camel"):
    containers: list[_Named] = []
    init_containers: list[_Named] = []
    ephemeral_containers: list[_Named] = []


class _Status(Struct, rename="camel", frozen=True):
    # The API writes null where there are none.
    container_statuses: list[_Named] | None = None
    init_container_statuses: list[_Named] | None = None
    ephemeral_container_statuses: list[_Named] | None = None


class _Pod(Struct):
    spec: _Spec
    metadata: _Meta = _Meta()
    status: _Status = _Status()
    kind: str = "Pod"


class _Kind(Struct):
    kind: str = "Pod"


class _Pages(Struct, frozen=True):
    next: str | None = msgspec.field(default=None, name="continue")


class _List(Struct):
    kind: str
    items: list[msgspec.Raw]
    metadata: _Pages = _Pages()


def running(in_use: InUse) -> tuple[Used, ...]:
    """Return the images that pods use, each with the pod that it was met in first.

    Deployments that are scaled to 0 and CronJobs that wait have no pods, so that they protect nothing.

    Args:
        in_use: What ``kubectl get pods -A -o json`` prints, as a path, as ``-`` for standard input, or parsed; or
            ``cluster``, to ask the cluster that kubectl is set to. None: nothing is protected.

    Raises:
        InvalidArgument: It is not such a document.
        StorageError: There is no such file.
        MissingExtra: ``cluster`` without the kubernetes library.
        RegnbError: The cluster does not answer, or refuses.

    Example:
        >>> pod = {"metadata": {"namespace": "web", "name": "a"}, "spec": {"containers": [{"image": "h:5000/app:1"}]}}
        >>> running({"kind": "PodList", "items": [pod]})
        (Used(repository='app', tag='1', digest='', where='web/a'),)
    """
    if in_use is None:
        return ()
    pods = _cluster() if in_use == "cluster" else _list(_document(in_use), whole=True).items
    found: dict[tuple[str, str, str], Used] = {}
    for raw in pods:
        pod = _pod(raw)
        where = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
        for image in _images(pod):
            found.setdefault(image, Used(*image, where))
    return tuple(found.values())


def _document(in_use: str | Path | Mapping[str, Any]) -> bytes:
    if isinstance(in_use, Mapping):
        try:
            return msgspec.json.encode(in_use)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"in_use is no JSON document: {error}", hint=f"give it {_COMMAND}") from None
    try:
        return sys.stdin.buffer.read() if str(in_use) == "-" else Path(in_use).read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise StorageError(f"cannot read {in_use}: {reason}", hint=f"write it with {_COMMAND} > pods.json") from None


def _decoded(data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"this is no list of pods: {error}", hint=_HINT) from None


def _list(data: bytes, *, whole: bool) -> _List:
    found = _decoded(data, _List)
    if found.kind not in ("List", "PodList"):
        raise InvalidArgument(f"this is a {found.kind[:80]} and no list of pods", hint=_HINT)
    if whole and found.metadata.next:
        raise InvalidArgument("this is one page of a longer list of pods", hint=_HINT)
    return found


def _pod(raw: msgspec.Raw) -> _Pod:
    kind = _decoded(raw, _Kind).kind
    if kind != "Pod":
        raise InvalidArgument(f"there is a {kind[:80]} in the list, and not only pods", hint=_HINT)
    return _decoded(raw, _Pod)


def _images(pod: _Pod) -> Iterator[tuple[str, str, str]]:
    """Yield repository, tag and digest of what a pod asks for, and of what its node found."""
    spec, status = pod.spec, pod.status
    for container in (*spec.containers, *spec.init_containers, *spec.ephemeral_containers):
        if container.image:
            repository, tag, digest = _parse(container.image)
            yield repository, tag if tag or digest else "latest", digest
    for statuses in (status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses):
        for container in statuses or ():
            if container.image_id:
                yield _parse(container.image_id)


def _parse(text: str) -> tuple[str, str, str]:
    """Return repository, tag and digest; the host is left out."""
    # Docker writes docker-pullable://host/repository@sha256:… or docker://sha256:…
    name, at, digest = text.rpartition("://")[2].partition("@")
    if not at and _DIGEST.fullmatch(name):
        return "", "", name
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        name = rest
    repository, _, tag = name.partition(":")
    return repository, tag, digest


def _cluster() -> Iterator[msgspec.Raw]:
    """Ask the cluster that kubectl is set to for all its pods, page by page."""
    try:
        import urllib3  # noqa: PLC0415 -- comes with kubernetes
        from kubernetes import client, config  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("kubernetes", "kubernetes") from None
    try:
        with config.new_client_from_config() as connection:
            # As it is sent: the library's own objects take ten times as long to make.
            ask: Any = client.CoreV1Api(connection).list_pod_for_all_namespaces
            following: str | None = None
            while following != "":
                answer = ask(limit=_PAGE, _continue=following, _preload_content=False, _request_timeout=_TIMEOUT)
                page = _list(answer.data, whole=False)
                yield from page.items
                following = page.metadata.next or ""
    except config.ConfigException as error:
        raise RegnbError(
            f"no cluster to ask: {error}", hint=f"set KUBECONFIG, or write {_COMMAND} into a file and name that"
        ) from None
    except client.ApiException as error:
        raise RegnbError(
            f"the cluster does not list its pods: {error.status} {error.reason}",
            hint="ask for permission to list pods in every namespace: kubectl auth can-i list pods -A"
            if error.status in (401, 403)
            else f"try again, or write {_COMMAND} into a file and name that",
        ) from None
    except urllib3.exceptions.HTTPError as error:
        raise RegnbError(
            f"the cluster does not answer: {type(error).__name__}",
            hint="check with kubectl get pods that the cluster can be reached",
        ) from None

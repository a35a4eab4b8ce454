"""What a Kubernetes cluster runs, or is to run: the images of its pods and workloads, so that none is deleted."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from regnb.errors import InvalidArgument, InvalidReference, MissingExtra, RegnbError, StorageError
from regnb.oci.reference import Digest, check_repository, check_tag

InUse: TypeAlias = "str | Path | Mapping[str, Any] | None"
"""Where pods and workloads are listed: a path, ``-`` for standard input, the document itself, or ``cluster`` to ask for
it. A file may also hold a plain image reference on each line."""

COMMAND: Final = "kubectl get pods,deploy,sts,ds,rs,rc,jobs,cj -A -o json"
"""What lists everything that has images in a cluster; in kubectl's short names, to fit into one line of a terminal."""
_HINT: Final = (
    f"give it what {COMMAND} prints (kubectl get pods -A -o json lists only what runs now), or a file with an image "
    "reference on each line"
)
_PAGE: Final = 500
_TIMEOUT: Final = (10, 60)
"""Seconds to connect, and to wait for an answer."""
_DIGEST: Final = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")


_T = TypeVar("_T")

WORKLOADS: Final[Mapping[str, tuple[str, str]]] = {
    "Pod": ("CoreV1Api", "pod"),
    "Deployment": ("AppsV1Api", "deployment"),
    "StatefulSet": ("AppsV1Api", "stateful_set"),
    "DaemonSet": ("AppsV1Api", "daemon_set"),
    "ReplicaSet": ("AppsV1Api", "replica_set"),
    "ReplicationController": ("CoreV1Api", "replication_controller"),
    "Job": ("BatchV1Api", "job"),
    "CronJob": ("BatchV1Api", "cron_job"),
}
"""Kinds that have containers, each with what asks an API server for all of them."""
_LISTS: Final = {"List", *(f"{kind}List" for kind in WORKLOADS)}


class Used(Struct, frozen=True):
    """An image that a container runs, or is to run.

    Attributes:
        repository: Its path, without a host: a registry has one name inside a cluster and another one outside, so
            that names cannot tell whether it is this registry. "" if only a digest is known.
        tag: Or "".
        digest: Of the manifest or, as Docker has it, of the config; or "".
        where: ``namespace/pod``, ``namespace/name`` of a workload, or a line of a file.
    """

    repository: str
    tag: str
    digest: str
    where: str


class Running(NamedTuple):
    """What is in use, as far as somebody listed it.

    Attributes:
        images: Each with the host that it was named with; "" where none was.
        kinds: The kinds of what was listed; empty for a list of plain references.
    """

    images: tuple[tuple[str, Used], ...] = ()
    kinds: frozenset[str] = frozenset()


class _Named(Struct, rename="camel"):
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")


class _Meta(Struct, frozen=True):
    name: str = ""
    namespace: str = ""


class _Mounted(Struct, frozen=True):
    reference: str = ""


class _Volume(Struct, frozen=True):
    image: _Mounted | None = None


class _Spec(Struct, rename="camel", frozen=True):
    containers: list[_Named] = []
    init_containers: list[_Named] | None = None
    ephemeral_containers: list[_Named] | None = None
    volumes: list[_Volume] | None = None


class _Template(Struct):
    spec: _Spec = _Spec()


class _Templated(Struct):
    template: _Template | None = None


class _JobTemplate(Struct):
    spec: _Templated


class _Scheduled(Struct, rename="camel"):
    job_template: _JobTemplate


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


class _Workload(Struct):
    spec: _Templated
    metadata: _Meta = _Meta()


class _CronJob(Struct):
    spec: _Scheduled
    metadata: _Meta = _Meta()


class _Kind(Struct):
    kind: str = ""


class _Pages(Struct, frozen=True):
    next: str | None = msgspec.field(default=None, name="continue")


class _List(Struct):
    kind: str
    items: list[msgspec.Raw]
    metadata: _Pages = _Pages()


def running(in_use: InUse) -> tuple[Used, ...]:
    """Return the images that are in use, each with where it was met first.

    Args:
        in_use: As for :func:`listed`.

    Raises:
        As for :func:`listed`.

    Example:
        >>> pod = {"metadata": {"namespace": "web", "name": "a"}, "spec": {"containers": [{"image": "h:5000/app:1"}]}}
        >>> running({"kind": "PodList", "items": [pod]})
        (Used(repository='app', tag='1', digest='', where='web/a'),)
    """
    return tuple(dict.fromkeys(used for _, used in listed(in_use).images))


def listed(in_use: InUse) -> Running:
    """Return what is in use: the images of pods, and of workloads whatever their number of pods.

    Workloads are Deployments, StatefulSets, DaemonSets, ReplicaSets (old ones, too, for a rollback), Jobs and CronJobs;
    init and ephemeral containers and image volumes count as well.

    Args:
        in_use: What :data:`COMMAND` prints, as a path, as ``-`` for standard input, or parsed; or a path to a file with
            an image reference on each line; or ``cluster``, to ask the cluster that kubectl is set to. None: nothing.

    Raises:
        InvalidArgument: It is not such a document.
        StorageError: There is no such file.
        MissingExtra: ``cluster`` without the kubernetes library.
        RegnbError: The cluster does not answer, or refuses.

    Example:
        >>> listed("pods.json").kinds
        frozenset({'Pod'})
    """
    if in_use is None:
        return Running()
    if in_use == "cluster":
        objects = _cluster()
    else:
        data = _document(in_use)
        if not data.strip():
            raise InvalidArgument(f"{in_use} is empty: it does not tell which images are in use", hint=_HINT)
        if not data.lstrip().startswith((b"{", b"[")):
            return Running(tuple(_lines(data, "standard input" if str(in_use) == "-" else Path(str(in_use)).name)))
        objects = _objects(_list(data, whole=True))
    found: dict[tuple[str, str, str, str], Used] = {}
    kinds = set()
    for kind, raw in objects:
        kinds.add(kind)
        where, images = _read(kind, raw)
        for image in images:
            found.setdefault(image, Used(*image[1:], where))
    return Running(tuple((image[0], used) for image, used in found.items()), frozenset(kinds))


def _lines(data: bytes, name: str) -> Iterator[tuple[str, Used]]:
    """Yield the references of a file with one on each line; empty lines and comments are left out."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"this is not a list of pods or workloads: {error}", hint=_HINT) from None
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            host, repository, tag, digest = _asked(text)
            try:
                if repository or not digest:
                    check_repository(repository)
                check_tag(tag or "latest")
                Digest(digest or Digest.of(b""))
            except InvalidReference as error:
                raise InvalidArgument(
                    f"{name} is not a list of pods, and line {number} is not an image reference: {error.message}",
                    hint=_HINT,
                ) from None
            yield host, Used(repository, tag, digest, f"line {number} of {name}")


def _document(in_use: str | Path | Mapping[str, object]) -> bytes:
    if isinstance(in_use, Mapping):
        try:
            return msgspec.json.encode(in_use)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"in_use is not a JSON document: {error}", hint=f"give it {COMMAND}") from None
    try:
        data = sys.stdin.buffer.read() if str(in_use) == "-" else Path(in_use).read_bytes()
        return data.removeprefix(codecs.BOM_UTF8)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise StorageError(
            f"cannot read {in_use}: {reason}", hint=f"write it with {COMMAND} > workloads.json"
        ) from None


def _decoded(data: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"this is not a list of pods or workloads: {error}", hint=_HINT) from None


def _list(data: bytes, *, whole: bool) -> _List:
    found = _decoded(data, _List)
    if found.kind not in _LISTS:
        raise InvalidArgument(f"this is a {found.kind[:80]} and not a list of pods or workloads", hint=_HINT)
    if whole and found.metadata.next:
        raise InvalidArgument("this is one page of a longer list of pods or workloads", hint=_HINT)
    return found


def _objects(some: _List) -> Iterator[tuple[str, msgspec.Raw]]:
    """Yield the objects of a list, each with its kind: items of a PodList do not say what they are."""
    kind = "Pod" if some.kind == "List" else some.kind.removesuffix("List")
    for raw in some.items:
        yield _decoded(raw, _Kind).kind or kind, raw


def _read(kind: str, raw: msgspec.Raw) -> tuple[str, Iterable[tuple[str, str, str, str]]]:
    """Return where an object is, and host, repository, tag and digest of its images."""
    if kind not in WORKLOADS:
        raise InvalidArgument(f"the list has a {kind[:80]}, which is neither a pod nor a workload", hint=_HINT)
    if kind == "Pod":
        pod = _decoded(raw, _Pod)
        return _where(pod.metadata), _images(pod.spec, pod.status)
    if kind == "CronJob":
        job = _decoded(raw, _CronJob)
        return _where(job.metadata), _templated(job.spec.job_template.spec)
    workload = _decoded(raw, _Workload)
    return _where(workload.metadata), _templated(workload.spec)


def _where(about: _Meta) -> str:
    return f"{about.namespace or 'default'}/{about.name}"


def _templated(spec: _Templated) -> Iterator[tuple[str, str, str, str]]:
    return _images(spec.template.spec if spec.template else _Spec(), _Status())


def _images(spec: _Spec, status: _Status) -> Iterator[tuple[str, str, str, str]]:
    """Yield host, repository, tag and digest of what containers ask for, and of what a node found."""
    containers = (*spec.containers, *(spec.init_containers or ()), *(spec.ephemeral_containers or ()))
    volumes = (volume.image.reference for volume in spec.volumes or () if volume.image)
    for image in (*(container.image for container in containers), *volumes):
        if image:
            yield _asked(image)
    for statuses in (status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses):
        for each in statuses or ():
            if each.image_id:
                yield _parse(each.image_id)


def _asked(image: str) -> tuple[str, str, str, str]:
    host, repository, tag, digest = _parse(image)
    return host, repository, tag if tag or digest else "latest", digest


def _parse(text: str) -> tuple[str, str, str, str]:
    """Return host ("" if none is named), repository, tag and digest."""
    # Docker writes docker-pullable://host/repository@sha256:… or docker://sha256:…
    name, at, digest = text.rpartition("://")[2].partition("@")
    if not at and _DIGEST.fullmatch(name):
        return "", "", "", name
    host, slash, rest = name.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        name = rest
    else:
        host = ""
    repository, _, tag = name.partition(":")
    return host, repository, tag, digest


def _cluster() -> Iterator[tuple[str, msgspec.Raw]]:
    """Ask the cluster that kubectl is set to for all its pods and workloads, page by page."""
    try:
        import urllib3  # comes with kubernetes
        from kubernetes import client, config
    except ImportError:
        raise MissingExtra("kubernetes", "kubernetes") from None
    asked = "pods"
    try:
        with config.new_client_from_config() as connection:
            for kind, (group, name) in WORKLOADS.items():
                asked = f"{kind.lower()}s"
                # As it is sent: the library's own objects take ten times as long to make.
                ask: Any = getattr(getattr(client, group)(connection), f"list_{name}_for_all_namespaces")
                following: str | None = None
                while following != "":
                    answer = ask(limit=_PAGE, _continue=following, _preload_content=False, _request_timeout=_TIMEOUT)
                    page = _list(answer.data, whole=False)
                    yield from ((kind, raw) for raw in page.items)
                    following = page.metadata.next or ""
    except config.ConfigException as error:
        raise RegnbError(
            f"no cluster to ask: {error}", hint=f"set KUBECONFIG, or write {COMMAND} into a file and name that"
        ) from None
    except client.ApiException as error:
        raise RegnbError(
            f"the cluster does not list its {asked}: {error.status} {error.reason}",
            hint=f"ask for permission to list {asked} in every namespace: kubectl auth can-i list {asked} -A"
            if error.status in (401, 403)
            else f"try again, or write {COMMAND} into a file and name that",
        ) from None
    except urllib3.exceptions.HTTPError as error:
        raise RegnbError(
            f"the cluster does not answer: {type(error).__name__}",
            hint="check with kubectl get pods that the cluster can be reached",
        ) from None

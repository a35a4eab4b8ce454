"""A registry and its web UI on Kubernetes: manifests that run them and make them reachable, and old ones converted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, TypeAlias

from msgspec import Struct

from regnb.errors import InvalidArgument, InvalidReference, MissingExtra
from regnb.oci.reference import Reference

Document: TypeAlias = dict[str, Any]
"""A manifest, as YAML or JSON has it."""
PARTS: Final = ("registry", "ui", "audit", "service", "access", "policy")
"""What can be chosen: the registry, regnb's UI, the audit by night, the Service, the way in from outside, and the
NetworkPolicy."""
WAYS: Final = ("ingress", "nodeport")
CONTROLLERS: Final = ("traefik", "nginx")
# A name that no registry can have: there is no published image, and nobody else's must ever be pulled in its place.
UNBUILT: Final = "to-be-built.invalid/regnb:unbuilt"
"""The UI's image, until one is built of the Containerfile."""
FIELDS: Final[Mapping[str, str]] = {
    "host": "Host name at which the Ingress answers, such as r.example.com.",
    "name": "Name of the Service; the other names begin with it.",
    "namespace": "Namespace of everything; it must exist.",
    "way": "Access from outside: ingress, or nodeport.",
    "controller": "Ingress controller: traefik (2 or 3) or nginx (ingress-nginx).",
    "ingress_class": "IngressClass; by default the controller's name.",
    "tls_secret": "Secret with the certificate; without one there is no https, or the controller's own certificate.",
    "https_only": "Redirect http to https.",
    "api_port": "Node port of the API.",
    "ui_port": "Node port of the UI.",
    "registry_image": "Image of the registry.",
    "ui_image": "Image of regnb; none is published: build it (make image), and push it where the cluster pulls from.",
    "storage": "Size of the registry's volume.",
    "snapshots": "Size of the volume for the audit's snapshots, and of that for the UI's receipts.",
    "storage_class": "StorageClass of the volumes; by default the cluster's own.",
    "htpasswd_secret": "Secret with an htpasswd file: its users may pull, push and delete. Without one, everybody may.",
    "docker_secret": "Secret with the Docker credentials that the UI and the audit use.",
    "token_secret": "Secret with the token that lets the UI write; without one it is read-only.",
    "trusted_proxy": "Network of the Ingress controller, such as 10.42.0.0/16: receipts then have visitors' addresses.",
    "schedule": "Cron schedule of the audit.",
    "collect": "Collect garbage daily, weekly, monthly or on a cron schedule; the registry is read-only meanwhile.",
    "trash": "Days that collected data stays in the trash before a later collection removes it permanently.",
    "fail_over": "The audit's Job fails if more than this is stored, such as 40GB.",
    "fail_on_growth": "The audit's Job fails if it grew by more than this since the last snapshot, such as 10% or 5GB.",
    "keep_daily": "Days for which the snapshot of each audit is kept; older ones are thinned out to one a month.",
    "webhook_secret": "Secret with the URL of a webhook, which gets a message of what the audit finds.",
    "parts": f"Make only these parts: {', '.join(PARTS)}.",
}
"""The settings, with what each means."""
_API, _UI = 5000, 8000
_METRICS, _REPORT = "regnb.prom", "report.html"
"""What the audit writes beside its snapshots, and the UI serves."""
_OPERATORS: Final = "operators"
"""The name of the UI's token."""
_SHORTENED: Final = 46
"""Letters that a name may have: a CronJob's ends with -audit and has 52 at most."""
_SHORTER: Final = 44
"""The same, with the CronJobs that end with -collect and -release."""
_WORD: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_PART: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_LABEL: Final = re.compile(_PART)
_SERVICE: Final = re.compile(rf"(?=.{{1,{_SHORTENED}}}$)(?=[a-z]){_WORD}")
_OBJECT: Final = re.compile(rf"(?=.{{1,253}}$){_WORD}(\.{_WORD})*")
# An Ingress takes no addresses.
_HOST: Final = re.compile(rf"(\*\.)?(?=.{{1,253}}$)(?!.*\.\d+$){_PART}(\.{_PART})*")
_NAMES: Final = (
    *("tls_secret", "htpasswd_secret", "docker_secret", "token_secret", "webhook_secret"),
    *("ingress_class", "storage_class"),
)
_SIZE: Final = re.compile(r"\d+(\.\d+)? ?([KMGTPkmgtp]i?B?)?|\d+(\.\d+)? ?%")
_QUANTITY: Final = re.compile(r"[1-9]\d*(\.\d+)?([kMGTPE]|[KMGTPE]i)?")
_CRON_PART: Final = re.compile(r"(?:[*?]|(\w+)(?:-(\w+))?)(?:/[1-9]\d*)?")
_CRON: Final = (
    (0, 59, ()), (0, 23, ()), (1, 31, ()),
    (1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    (0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)  # fmt: skip
_DAILY: Final = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
ROUTER: Final = "traefik.ingress.kubernetes.io/router"
_NGINX: Final = "nginx.ingress.kubernetes.io"
ENTRY_POINTS: Final = {"http": "web", "https": "websecure"}
"""Traefik 1's usual names, and those of its successors."""


class Settings(Struct, frozen=True, kw_only=True):
    """What the manifests are made of, checked; :data:`FIELDS` says what each attribute means.

    Raises:
        InvalidArgument: A name, port, size, schedule or image that Kubernetes would not take, or a missing host.

    Example:
        >>> Settings(host="r.example.com", tls_secret="r-tls").controller
        'traefik'
    """

    host: str = ""
    name: str = "kube-registry"
    namespace: str = "kube-system"
    way: str = "ingress"
    controller: str = "traefik"
    ingress_class: str = ""
    tls_secret: str = ""
    https_only: bool = False
    api_port: int = 30500
    ui_port: int = 30800
    registry_image: str = "registry:3.0.0"
    ui_image: str = UNBUILT
    storage: str = "50Gi"
    snapshots: str = "1Gi"
    storage_class: str = ""
    htpasswd_secret: str = ""
    docker_secret: str = ""
    token_secret: str = ""
    trusted_proxy: str = ""
    schedule: str = "15 3 * * *"
    collect: str = ""
    trash: int = 14
    fail_over: str = ""
    fail_on_growth: str = ""
    keep_daily: int = 60
    webhook_secret: str = ""
    parts: tuple[str, ...] = PARTS

    def __post_init__(self) -> None:
        pinned = "write repository:tag or repository@digest; latest moves"
        rules: list[tuple[str, Callable[[Any], object], str]] = [
            ("way", WAYS.__contains__, f"choose {' or '.join(WAYS)}"),
            ("controller", CONTROLLERS.__contains__, f"choose {' or '.join(CONTROLLERS)}"),
            ("parts", lambda parts: parts and {*parts} <= {*PARTS}, f"choose of {', '.join(PARTS)}"),
            ("name", _SERVICE.fullmatch, f"use a to z, 0 to 9 and -, {_SHORTENED} at most; a letter first"),
            ("namespace", _LABEL.fullmatch, "use a to z, 0 to 9 and -, 63 at most"),
            *(
                (name, lambda text: not text or _OBJECT.fullmatch(text), "use a to z, 0 to 9, - and .")
                for name in _NAMES
            ),
            *(("registry_image", _pinned, pinned), ("ui_image", _pinned, pinned)),
            *((name, _QUANTITY.fullmatch, "write such as 50Gi") for name in ("storage", "snapshots")),
            ("trusted_proxy", lambda text: not text or _network(text), "write an address or a network: 10.42.0.0/16"),
            ("schedule", _cron, "write five fields, such as '15 3 * * *', or @daily"),
            ("collect", lambda text: not text or _cron(_when(text)), "write weekly, or five fields: '30 2 * * sun'"),
            ("trash", range(1000).__contains__, "write a number of days"),
            ("fail_over", lambda text: not text or (_SIZE.fullmatch(text) and "%" not in text), "write such as 40GB"),
            ("fail_on_growth", lambda text: not text or _SIZE.fullmatch(text), "write such as 10% or 5GB"),
            ("keep_daily", range(1, 10_000).__contains__, "write a number of days"),
        ]
        if self.collect:
            rules += [
                ("name", lambda text: len(text) <= _SHORTER, f"use {_SHORTER} letters at most, with collect"),
                ("collect", lambda _: "registry" in self.parts, "collect needs the part registry: whose volume it is"),
                (
                    "docker_secret",
                    lambda text: text or not self.htpasswd_secret,
                    "with users, collect needs credentials to ask whether anybody can push",
                ),
            ]
        if self.reachable("ingress"):
            rules.append(("host", _HOST.fullmatch, "write a host name, such as r.example.com: no http:// and no port"))
        if self.reachable("nodeport"):
            rules += [(name, range(1, 65536).__contains__, "give 30000 to 32767") for name in ("api_port", "ui_port")]
            rules.append(("ui_port", lambda port: port != self.api_port, "the API has that port already"))
        for field, fits, hint in rules:
            if not fits(value := getattr(self, field)):
                raise InvalidArgument(f"{field} cannot be {str(value)[:100]!r}", hint=hint)

    def reachable(self, way: str) -> bool:
        """Whether this way in from outside is to be made."""
        return self.way == way and "access" in self.parts


def _pinned(text: str) -> bool:
    try:
        found = Reference.parse(text)
    except InvalidReference:
        return False
    return bool(found.digest) or found.tag not in (None, "latest")


def _network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _when(text: str) -> str:
    """Return a schedule that may be a word as cron has it: at night, where the week ends."""
    return {"daily": "30 2 * * *", "weekly": "30 2 * * 0", "monthly": "30 2 1 * *"}.get(text, text)


def _cron(text: str) -> bool:
    """Whether a CronJob understands this schedule (robfig/cron, the standard parser)."""
    fields = text.split()
    return text in _DAILY or (len(fields) == len(_CRON) and all(map(_cron_field, fields, *zip(*_CRON, strict=True))))


def _cron_field(field: str, low: int, high: int, names: Sequence[str]) -> bool:
    def number(text: str) -> int:
        return names.index(text) + low if text in names else int(text) if text.isdecimal() else -1

    for part in field.lower().split(","):
        found = _CRON_PART.fullmatch(part)
        if found is None:
            return False
        if found[1] and not low <= number(found[1]) <= number(found[2] or found[1]) <= high:
            return False
    return True


def manifests(settings: Settings) -> list[Document]:
    """Return the manifests of the parts that were chosen.

    Example:
        >>> [each["kind"] for each in manifests(Settings(host="r.example.com", parts=("service", "access")))]
        ['Service', 'Ingress']
    """
    make: dict[str, Callable[[Settings], list[Document]]] = {
        "registry": _registry,
        "ui": _ui,
        "audit": _audit,
        "service": lambda it: [_service(it, "")],
        "access": lambda it: _ingresses(it) if it.way == "ingress" else [_service(it, "-nodeport")],
        "policy": _policies,
    }
    found = [document for part in PARTS if part in settings.parts for document in make[part](settings)]
    return found + (_collection(settings) if settings.collect else [])


def notes(settings: Settings) -> list[str]:
    """Return what is left to do beside applying the manifests: Secrets to make, with the command, and what to know.

    No command has a secret among its words: they are read from files or standard input.

    Example:
        >>> notes(Settings(host="r.example.com", controller="nginx", tls_secret="r-tls", parts=("access",)))
        ['the certificate: kubectl -n kube-system create secret tls r-tls --cert=tls.crt --key=tls.key']
    """
    it = settings
    secret = f"kubectl -n {it.namespace} create secret"
    generic = f"{secret} generic"
    random = "openssl rand -hex 32 | tr -d '\\n' |"
    found = []
    if "registry" in it.parts:
        key = f"{random} {generic} {it.name}-http --from-file=secret=/dev/stdin"
        found.append(f"the registry's key for uploads: {key}")
        if it.htpasswd_secret:
            users = f"htpasswd -Bc users NAME && {generic} {it.htpasswd_secret} --from-file=htpasswd=users"
            found.append(f"the registry's users: {users}")
        else:
            found.append("without htpasswd_secret, everyone who can reach the registry may push and delete")
    if it.docker_secret and ({"ui", "audit"} & {*it.parts} or it.collect):
        options = "--type=kubernetes.io/dockerconfigjson --from-file=.dockerconfigjson=config.json"
        entry = f"a Docker config.json with an entry for {it.name}:{_API}"
        found.append(f"credentials, {entry}: {generic} {it.docker_secret} {options}")
    if "audit" in it.parts and it.webhook_secret:
        found.append(f"the webhook's URL: {generic} {it.webhook_secret} --from-file=url=/dev/stdin < FILE")
    if "ui" in it.parts and it.token_secret:
        found.append(f"the UI's token: {random} {generic} {it.token_secret} --from-file=token=/dev/stdin")
    if it.ui_image == UNBUILT and ({"ui", "audit"} & {*it.parts} or it.collect):
        found.append(
            "there is no published image of regnb; in a clone of it: make image IMAGE=HOST/regnb:TAG, push that, and "
            "name it: --ui-image HOST/regnb:TAG"
        )
    if it.collect:
        found.append(
            f"a collection makes the registry read-only meanwhile: pushes are refused; {it.name}-release switches back "
            "within ten minutes if the job is killed. To see what it would take: kubectl -n "
            f"{it.namespace} exec deploy/{it.name}-ui -- regnb gc http://{it.name}:{_API}"
        )
    if it.reachable("ingress"):
        if it.tls_secret:
            found.append(f"the certificate: {secret} tls {it.tls_secret} --cert=tls.crt --key=tls.key")
        elif it.https_only:
            found.append("without tls_secret, https has the controller's own certificate, which clients may not trust")
        else:
            found.append("plain http: Docker pulls and pushes only if the host is among its insecure-registries")
        if it.controller == "traefik" and _encrypted(it):
            found.append(
                "Traefik ends uploads that take longer than 60 s; its own setting, for large layers: "
                "--entryPoints.websecure.transport.respondingTimeouts.readTimeout=0"
            )
    elif it.reachable("nodeport"):
        found.append("plain http at every node: Docker needs NODE:PORT among its insecure-registries")
    return found


def to_yaml(documents: Iterable[Mapping[str, object]], remarks: Iterable[str] = ()) -> str:
    """Return manifests as YAML for ``kubectl apply -f -``.

    Args:
        documents: Of :func:`manifests` or :func:`convert`.
        remarks: What else to know, as comments at the top.

    Raises:
        MissingExtra: PyYAML is not installed.

    Example:
        >>> print(to_yaml([{"kind": "Service"}], ["made by hand"]))
        # kubectl apply -f THIS_FILE
        # - made by hand
        kind: Service
        <BLANKLINE>
    """
    head = ["kubectl apply -f THIS_FILE", *(f"- {' '.join(remark.split())}" for remark in remarks)]
    body: str = yaml_library().safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in head) + body


def yaml_library() -> Any:  # noqa: ANN401 -- a module
    """Return PyYAML, set up to write manifests.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import yaml  # an extra
    except ImportError:
        raise MissingExtra("pyyaml", "cli") from None
    return yaml


def _made(it: Settings, kind: str, version: str, suffix: str, spec: Document, **annotations: str) -> Document:
    meta: Document = {"name": it.name + suffix, "namespace": it.namespace, "labels": {"app": it.name}}
    if annotations:
        meta["annotations"] = annotations
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


def _service(it: Settings, suffix: str) -> Document:
    # By their names: one Service for two kinds of pods, each of which has one of the ports only.
    ports: list[Document] = [
        {"name": "api", "port": _API, "targetPort": "api", "protocol": "TCP"},
        {"name": "ui", "port": _UI, "targetPort": "ui", "protocol": "TCP"},
    ]
    if suffix:
        for port, number in zip(ports, (it.api_port, it.ui_port), strict=True):
            port["nodePort"] = number
    spec = {"type": "NodePort" if suffix else "ClusterIP", "selector": {"app": it.name}, "ports": ports}
    return _made(it, "Service", "v1", suffix, spec)


def _encrypted(it: Settings) -> bool:
    return bool(it.tls_secret) or it.https_only


def _ingresses(it: Settings) -> list[Document]:
    def ingress(suffix: str, *, tls: bool, **annotations: str) -> Document:
        paths = [
            {"path": path, "pathType": "Prefix", "backend": {"service": {"name": it.name, "port": {"number": port}}}}
            for path, port in (("/v2", _API), ("/ui", _UI))
        ]
        spec: Document = {"ingressClassName": it.ingress_class or it.controller}
        if tls:
            spec["tls"] = [{"hosts": [it.host]} | ({"secretName": it.tls_secret} if it.tls_secret else {})]
        spec["rules"] = [{"host": it.host, "http": {"paths": paths}}]
        return _made(it, "Ingress", "networking.k8s.io/v1", suffix, spec, **annotations)

    if it.controller == "nginx":
        # A layer is one request of any length, and a page of the UI a connection that stays open.
        own = {"proxy-body-size": "0", "proxy-request-buffering": "off"}
        own |= {"proxy-read-timeout": "3600", "proxy-send-timeout": "3600"}
        own["ssl-redirect"] = str(it.https_only).lower()
        if it.https_only:
            own["force-ssl-redirect"] = "true"
        return [ingress("", tls=_encrypted(it), **{f"{_NGINX}/{name}": value for name, value in own.items()})]
    if not _encrypted(it):
        return [ingress("", tls=False, **{f"{ROUTER}.entrypoints": "web"})]
    # With TLS a router answers https only, so that http needs one of its own.
    plain = {f"{ROUTER}.entrypoints": "web"}
    found = []
    if it.https_only:
        found.append(https_redirect(it.namespace, f"{it.name}-https", {"app": it.name}))
        plain[f"{ROUTER}.middlewares"] = f"{it.namespace}-{it.name}-https@kubernetescrd"
    secure = {f"{ROUTER}.entrypoints": "websecure", f"{ROUTER}.tls": "true"}
    return [*found, ingress("", tls=True, **secure), ingress("-http", tls=False, **plain)]


def https_redirect(namespace: str, name: str, labels: Document) -> Document:
    """Return Traefik's middleware that sends http to https."""
    meta: Document = {"name": name, "namespace": namespace} | ({"labels": labels} if labels else {})
    spec = {"redirectScheme": {"scheme": "https", "permanent": True}}
    return {"apiVersion": "traefik.io/v1alpha1", "kind": "Middleware", "metadata": meta, "spec": spec}


def _volume(it: Settings, suffix: str, size: str) -> Document:
    spec: Document = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if it.storage_class:
        spec["storageClassName"] = it.storage_class
    return _made(it, "PersistentVolumeClaim", "v1", suffix, spec)


def pod_of(app: str, container: Document, mounts: Mapping[str, tuple[str, Document]], **more: object) -> Document:
    """Return a pod's template: no account, no root, nothing to write but its volumes, given as name: (path, what)."""
    mounts = {**mounts, "scratch": ("/tmp", {"emptyDir": {}})}  # noqa: S108 -- the container's own
    container |= {
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in mounts.items()],
    }  # fmt: skip
    user = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    spec = {
        "automountServiceAccountToken": False,
        # Else the cluster's variables for a Service called registry would be taken for the registry's settings.
        "enableServiceLinks": False,
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        **more,
        "containers": [container],
        "volumes": [{"name": name, **what} for name, (_, what) in mounts.items()],
    }
    return {"metadata": {"labels": {"app": app, "component": container["name"]}}, "spec": spec}


def _deployment(it: Settings, suffix: str, template: Document) -> Document:
    # A volume belongs to one pod at a time: the old one ends before the new one begins.
    labels = dict(template["metadata"]["labels"])
    spec = {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template}
    return _made(it, "Deployment", "apps/v1", suffix, spec)


def _kept(it: Settings, suffix: str, *, read_only: bool = False) -> Document:
    return {"persistentVolumeClaim": {"claimName": it.name + suffix} | ({"readOnly": True} if read_only else {})}


def _beside(it: Settings, component: str) -> Document:
    """Return what keeps a pod on the node of another one: a volume may belong to one node at a time."""
    term = {
        "labelSelector": {"matchLabels": {"app": it.name, "component": component}},
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def _policies(it: Settings) -> list[Document]:
    """Return what keeps out all but the two ports, and lets the UI reach the registry and names alone."""
    ports = [{"port": "api", "protocol": "TCP"}, {"port": "ui", "protocol": "TCP"}]
    inward = {
        "podSelector": {"matchLabels": {"app": it.name}},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": ports}],
    }
    names = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    registry = {"podSelector": {"matchLabels": {"app": it.name, "component": "registry"}}}
    outward = {
        "podSelector": {"matchLabels": {"app": it.name, "component": "ui"}},
        "policyTypes": ["Egress"],
        "egress": [{"ports": names}, {"to": [registry], "ports": [{"port": _API, "protocol": "TCP"}]}],
    }
    kind = ("NetworkPolicy", "networking.k8s.io/v1")
    return [_made(it, *kind, "-inward", inward), _made(it, *kind, "-ui-outward", outward)]


def _variables(values: Mapping[str, str], secrets: Mapping[str, tuple[str, str]] | None = None) -> list[Document]:
    """Return environment variables, those that are secrets as name: (Secret, key)."""
    plain: list[Document] = [{"name": name, "value": value} for name, value in values.items()]
    of = {name: {"name": secret, "key": key} for name, (secret, key) in (secrets or {}).items()}
    return plain + [{"name": name, "valueFrom": {"secretKeyRef": reference}} for name, reference in of.items()]


def _needs(memory: str, most: str) -> Document:
    return {"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": most}}


def _probes(path: str, port: str) -> Document:
    def probe(**more: int) -> Document:
        return {"httpGet": {"path": path, "port": port}, "timeoutSeconds": 5, **more}

    return {"readinessProbe": probe(periodSeconds=10), "livenessProbe": probe(periodSeconds=30, failureThreshold=5)}


def _registry(it: Settings) -> list[Document]:
    mounts = {"storage": ("/var/lib/registry", _kept(it, "-storage"))}
    settings = {"REGISTRY_STORAGE_DELETE_ENABLED": "true", "OTEL_TRACES_EXPORTER": "none"}
    if it.htpasswd_secret:
        settings |= {"REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM": it.name}
        settings["REGISTRY_AUTH_HTPASSWD_PATH"] = "/auth/htpasswd"
        mounts["auth"] = ("/auth", {"secret": {"secretName": it.htpasswd_secret}})
    container = {
        "name": "registry",
        "image": it.registry_image,
        "ports": [{"name": "api", "containerPort": _API}],
        "env": _variables(settings, {"REGISTRY_HTTP_SECRET": (f"{it.name}-http", "secret")}),
        # With users /v2/ answers 401, which a probe takes for a failure; / answers whoever asks.
        **_probes("/" if it.htpasswd_secret else "/v2/", "api"),
        "resources": _needs("128Mi", "1Gi"),
    }
    return [_volume(it, "-storage", it.storage), _deployment(it, "", pod_of(it.name, container, mounts))]


def _regnb(it: Settings) -> tuple[Document, dict[str, tuple[str, Document]]]:
    """Return the environment and volumes of whatever runs regnb."""
    home = {"HOME": "/tmp", "USER": "regnb"}  # noqa: S108 -- the container's own
    if not it.docker_secret:
        return home, {}
    items = [{"key": ".dockerconfigjson", "path": "config.json"}]
    docker = ("/docker", {"secret": {"secretName": it.docker_secret, "items": items}})
    return home | {"DOCKER_CONFIG": "/docker"}, {"docker": docker}


def _ui(it: Settings) -> list[Document]:
    environment, mounts = _regnb(it)
    found = []
    command = ["regnb", "ui", "--registry", f"http://{it.name}:{_API}", "--base-url", "/ui/"]
    command += ["--host", "0.0.0.0", "--port", str(_UI)]  # noqa: S104 -- in a pod
    command += ["--host-name", it.name, *(["--host-name", it.host] if _HOST.fullmatch(it.host) else [])]
    command += ["--trusted-proxy", it.trusted_proxy] if it.trusted_proxy else []
    if it.token_secret:
        # Receipts hold what an undo puts back, and must outlive the pod. They name the token by its file.
        command += ["--write-token-file", f"/token/{_OPERATORS}"]
        items = [{"key": "token", "path": _OPERATORS}]
        mounts["token"] = ("/token", {"secret": {"secretName": it.token_secret, "items": items}})
        environment["REGNB_RECEIPTS"] = "/receipts"
        mounts["receipts"] = ("/receipts", _kept(it, "-receipts"))
        found.append(_volume(it, "-receipts", it.snapshots))
    if "registry" in it.parts:
        environment["REGNB_STORAGE"] = "/var/lib/registry"
        mounts["storage"] = ("/var/lib/registry", _kept(it, "-storage", read_only=True))
    if "audit" in it.parts:
        environment["REGNB_SNAPSHOTS"] = "/snapshots"
        mounts["snapshots"] = ("/snapshots", _kept(it, "-snapshots", read_only=True))
        command += ["--prometheus", f"/snapshots/{_METRICS}", "--report", f"/snapshots/{_REPORT}"]
    near = _beside(it, "registry") if "registry" in it.parts else {}
    container = {
        "name": "ui",
        "image": it.ui_image,
        "command": command,
        "ports": [{"name": "ui", "containerPort": _UI}],
        "env": _variables(environment),
        **_probes("/ui/healthz", "ui"),
        "resources": _needs("512Mi", "2Gi"),
    }
    return [*found, _deployment(it, "-ui", pod_of(it.name, container, mounts, **near))]


def _audit(it: Settings) -> list[Document]:
    environment, mounts = _regnb(it)
    url = f"http://{it.name}:{_API}"
    command = ["regnb", "audit", url, "--snapshot", "/snapshots", "--prometheus", f"/snapshots/{_METRICS}"]
    command += ["--fail-on-drift", "--fail-on-problems"]
    command += ["--fail-over", it.fail_over] if it.fail_over else []
    command += ["--fail-on-growth", it.fail_on_growth] if it.fail_on_growth else []
    secrets = {"REGNB_WEBHOOK": (it.webhook_secret, "url")} if it.webhook_secret else {}
    container = {
        "name": "audit",
        "image": it.ui_image,
        "command": command,
        "env": _variables(environment, secrets),
        "resources": _needs("256Mi", "2Gi"),
    }
    near = _beside(it, "registry" if "registry" in it.parts else "ui") if {"registry", "ui"} & {*it.parts} else {}
    mounts["snapshots"] = ("/snapshots", _kept(it, "-snapshots"))
    pod = pod_of(f"{it.name}-audit", container, mounts, **near)
    # First the page and the pruning: an audit that finds something ends its pod.
    report = ["regnb", "report", url, "--snapshots", "/snapshots", "-o", f"/snapshots/{_REPORT}"]
    thin = ["regnb", "snapshots", "/snapshots", "--thin", str(it.keep_daily)]
    before = [
        {**deepcopy(container), "name": name, "command": words, "env": _variables(environment)}
        for name, words in (("report", report), ("thin", thin))
    ]
    pod["spec"] = {"restartPolicy": "Never", **pod["spec"], "initContainers": before}
    spec = {
        "schedule": it.schedule,
        "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        # An audit that found something exits with another code than 0: running it again would find the same.
        "jobTemplate": {"spec": {"backoffLimit": 0, "template": pod}},
    }
    return [_volume(it, "-snapshots", it.snapshots), _made(it, "CronJob", "batch/v1", "-audit", spec)]


def _collection(it: Settings) -> list[Document]:
    """Return what collects the garbage of the registry's volume, and what switches back if that is killed."""
    account = f"{it.name}-collect"
    role = _made(it, "Role", "rbac.authorization.k8s.io/v1", "-collect", {})
    del role["spec"]
    role["rules"] = [
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": [it.name], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ]
    bound = _made(it, "RoleBinding", "rbac.authorization.k8s.io/v1", "-collect", {})
    del bound["spec"]
    bound["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account}
    bound["subjects"] = [{"kind": "ServiceAccount", "name": account, "namespace": it.namespace}]
    user = _made(it, "ServiceAccount", "v1", "-collect", {})
    del user["spec"]
    where = ["--namespace", it.namespace, "--deployment", it.name]
    mounts = {"storage": ("/var/lib/registry", _kept(it, "-storage"))}
    command = ["regnb", "kube", "collect", "/var/lib/registry", *where, "--apply", "--empty-older-than", f"{it.trash}d"]
    if it.htpasswd_secret:
        command += ["--endpoint", f"http://{it.name}:{_API}"]
    # A volume may belong to one node at a time: the job runs where the registry does.
    beside = {
        "labelSelector": {"matchLabels": {"app": it.name, "component": "registry"}},
        "topologyKey": "kubernetes.io/hostname",
    }
    near = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}}
    return [
        user,
        role,
        bound,
        _watch(it, "collect", _when(it.collect), command, mounts, affinity=near, terminationGracePeriodSeconds=300),
        _watch(it, "release", "*/10 * * * *", ["regnb", "kube", "release", *where], {}),
    ]


def _watch(
    it: Settings,
    name: str,
    schedule: str,
    command: Sequence[str],
    mounts: Mapping[str, tuple[str, Document]],
    **more: object,
) -> Document:
    """Return a CronJob whose pod has an account at the API server."""
    environment, more_mounts = _regnb(it)
    fields = {"REGNB_POD": "metadata.name", "REGNB_NODE": "spec.nodeName"}
    told = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()]
    # What was done lies on the registry's volume: a receipt must outlive the pod, to be resumed and taken back.
    kept = {"REGNB_RECEIPTS": "/var/lib/registry/regnb-receipts"} if mounts else {}
    container = {
        "name": name,
        "image": it.ui_image,
        "command": [*command],
        "env": [*_variables(environment | kept), *told],
        "resources": _needs("256Mi", "2Gi"),
    }
    account = {"automountServiceAccountToken": True, "serviceAccountName": f"{it.name}-collect"}
    pod = pod_of(f"{it.name}-{name}", container, {**mounts, **more_mounts}, **account, **more)
    pod["spec"] = {"restartPolicy": "Never", **pod["spec"]}
    spec = {
        "schedule": schedule,
        "concurrencyPolicy": "Forbid",
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"spec": {"backoffLimit": 0, "activeDeadlineSeconds": 6 * 3600, "template": pod}},
    }
    return _made(it, "CronJob", "batch/v1", f"-{name}", spec)

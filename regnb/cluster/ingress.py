"""Old Ingress manifests, converted for the clusters of today."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, Required, TypedDict

import msgspec

from regnb.cluster.resources import ENTRY_POINTS, ROUTER, Document, https_redirect, yaml_library
from regnb.errors import InvalidArgument


class Converted(NamedTuple):
    """Manifests, and what was changed in them or could not be kept."""

    documents: list[Document]
    notes: list[str]


# What an old Ingress must be, for the rest to be converted without surprises.
class _Backend(TypedDict, total=False):
    serviceName: str
    servicePort: int | str


class _Path(TypedDict, total=False):
    backend: Required[_Backend]
    path: str
    pathType: str


class _Http(TypedDict):
    paths: list[_Path]


class _Rule(TypedDict, total=False):
    http: _Http | None


class _Tls(TypedDict, total=False):
    secretName: str


class _Spec(TypedDict, total=False):
    rules: list[_Rule]
    tls: list[_Tls]
    backend: _Backend


class _Meta(TypedDict, total=False):
    name: Required[str]
    namespace: str
    annotations: dict[str, object] | None


class _Ingress(TypedDict):
    metadata: _Meta
    spec: _Spec


_OLD: Final = ("extensions/v1beta1", "networking.k8s.io/v1beta1")
_BY_SERVER: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "managedFields")
_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_CLASS: Final = "kubernetes.io/ingress.class"
_FIRST: Final = "traefik.ingress.kubernetes.io/"
"""What Traefik 1 read; its successors read router.* and service.* below it only."""


def convert(text: str) -> Converted:
    """Bring old Ingresses (``extensions/v1beta1``, ``networking.k8s.io/v1beta1``) to ``networking.k8s.io/v1``.

    Every other document stays as it is.

    Args:
        text: YAML or JSON, with one document or several, or a list of them as ``kubectl get -o yaml`` prints it.

    Raises:
        InvalidArgument: It is not YAML, a document is not a manifest, or an Ingress is malformed.
        MissingExtra: PyYAML is not installed.

    Example:
        >>> convert("{apiVersion: v1, kind: Service, metadata: {name: a}}").notes
        []
    """
    documents: list[Document] = []
    notes: list[str] = []
    for document in _documents(text):
        if document["kind"] == "Ingress" and document["apiVersion"] in _OLD:
            documents += _converted(document, notes)
        else:
            documents.append(document)
            if document["apiVersion"] == _OLD[0]:
                notes.append(f"{document['kind']}: clusters no longer take {_OLD[0]}; it was left as it is")
    return Converted(documents, notes)


def _documents(text: str) -> list[Document]:
    yaml = yaml_library()
    try:
        try:
            found = [*yaml.safe_load_all(text)]
        except yaml.scanner.ScannerError:
            # A tab before a comment is lawful, but not to PyYAML.
            found = [*yaml.safe_load_all(re.sub(r"\t[ \t]*(?=#|$)", " ", text, flags=re.MULTILINE))]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        at = f" in line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or type(error).__name__
        raise InvalidArgument(f"this is not YAML: {reason}{at}", hint="give a manifest, as kubectl takes it") from None
    listed: list[Any] = []
    for each in filter(lambda document: document is not None, found):
        items = each.get("items") if isinstance(each, dict) and str(each.get("kind")).endswith("List") else None
        listed += items if isinstance(items, list) else [each]
    for each in listed:
        if not isinstance(each, dict) or not all(isinstance(each.get(key), str) for key in ("apiVersion", "kind")):
            raise InvalidArgument(
                "a document here is not a Kubernetes manifest", hint="each has an apiVersion and a kind"
            )
    if not listed:
        raise InvalidArgument("there is no manifest here", hint="give the YAML of an Ingress")
    return listed


def _converted(old: Document, notes: list[str]) -> list[Document]:
    try:
        known = msgspec.convert(old, _Ingress)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"an Ingress here is malformed: {error}", hint="kubectl explain ingress.spec") from None
    name = known["metadata"]["name"]
    found: list[str] = []
    spec: Document = {}
    meta = {key: value for key, value in old["metadata"].items() if key not in _BY_SERVER}
    annotations = {key: value for key, value in (meta.pop("annotations", None) or {}).items() if key != _APPLIED}
    if (named := annotations.pop(_CLASS, None)) is not None:
        spec["ingressClassName"] = str(named)
        found.append(f"the class is spec.ingressClassName now; kubectl get ingressclass must list {named}")
    middlewares = _second(annotations, known, found)
    if annotations:
        meta["annotations"] = annotations
    if "status" in old:
        found.append("status is the cluster's to write, and was left out")
    for key, value in old["spec"].items():
        if key == "backend":
            spec["defaultBackend"] = _backend(value)
        elif key == "rules":
            spec["rules"] = [_rule(rule, found) for rule in value or ()]
        else:
            spec[key] = value
    if any(not each.get("secretName") for each in known["spec"].get("tls", ())):
        found.append("tls names no Secret, so that https has the controller's own certificate")
    found.insert(0, f"{old['apiVersion']} became networking.k8s.io/v1, and serviceName and servicePort a service")
    notes += (f"Ingress {name}: {note}" for note in found)
    return [*middlewares, {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}]


def _second(annotations: Document, known: _Ingress, found: list[str]) -> list[Document]:
    """Turn what Traefik 1 read into what its successors read, and return the Middleware that this takes, if any."""
    forced = False
    for key in [*annotations]:
        rest, value = key.removeprefix(_FIRST), str(annotations[key])
        if key == f"{_FIRST}frontend-entry-points":
            points = [ENTRY_POINTS.get(point.strip(), point.strip()) for point in value.split(",")]
            annotations[f"{ROUTER}.entrypoints"] = ",".join(points)
            found.append(f"the entry points are called {' and '.join(points)} now, as in Traefik's chart")
            if points == ["websecure"]:
                annotations[f"{ROUTER}.tls"] = "true"
            elif "websecure" in points:
                found.append("Traefik 2 and later speak https here only if websecure has TLS by itself, as in k3s")
        elif rest == "priority":
            annotations[f"{ROUTER}.priority"] = value
        elif rest == "redirect-entry-point" or key == "ingress.kubernetes.io/ssl-redirect":
            forced = forced or value in ("https", "true", "True")
        elif rest == "rule-type" and value == "PathPrefix":
            pass
        elif not key.startswith((_FIRST, "ingress.kubernetes.io/")) or rest.startswith(("router.", "service.")):
            continue
        else:
            found.append(f"{key} has no effect any more, and was left out: look for a Middleware that does the same")
        del annotations[key]
    if not forced:
        return []
    name, namespace = f"{known['metadata']['name']}-https", known["metadata"].get("namespace", "default")
    annotations[f"{ROUTER}.middlewares"] = f"{namespace}-{name}@kubernetescrd"
    found.append(f"https is forced by a Middleware, {name}")
    return [https_redirect(namespace, name, {})]


def _rule(rule: Document, found: list[str]) -> Document:
    if not rule.get("http"):
        return rule
    paths = []
    for old in rule["http"]["paths"]:
        kind, path = old.get("pathType"), old.get("path") or "/"
        if kind is None:
            kind = "Prefix" if re.fullmatch(r"/[\w./~-]*", path) else "ImplementationSpecific"
            found.append(f"{path} is matched as {kind}")
        paths.append({**old, "path": path, "pathType": kind, "backend": _backend(old["backend"])})
    return {**rule, "http": {**rule["http"], "paths": paths}}


def _backend(old: Document) -> Document:
    if "serviceName" not in old:
        return old
    text = str(old.get("servicePort"))
    port: Document = {"number": int(text)} if text.isdecimal() else {"name": text}
    rest = {key: value for key, value in old.items() if key not in ("serviceName", "servicePort")}
    return {**rest, "service": {"name": old["serviceName"], "port": port}}

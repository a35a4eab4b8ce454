"""Manifests: each is valid for Kubernetes, they fit each other, and old ones are brought to where these are."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions
from msgspec import structs

from regnb.cluster.ingress import convert
from regnb.cluster.resources import FIELDS, PARTS, UNBUILT, Settings, manifests, notes, to_yaml
from regnb.errors import InvalidArgument

EVER = sorted(set(all_versions()), key=lambda version: [int(number) for number in version.split(".")])
SINCE = EVER[EVER.index("1.25.0") :]
"""Every version that is supported and that kubernetes-validate knows."""
VERSIONS = [SINCE[0], *SINCE[-2:]]
SECRETS = {
    "htpasswd_secret": "users",
    "docker_secret": "docker",
    "token_secret": "token",
    "webhook_secret": "hook",
    "storage_class": "fast",
}
EVERY = [
    {"way": way, "controller": controller, "tls_secret": tls, "https_only": only, **more}
    for way, controller, tls, only, more in product(
        ("ingress", "nodeport"), ("traefik", "nginx"), ("", "r-tls"), (False, True), ({}, SECRETS)
    )
]
"""Every combination of what decides which manifests there are."""


def settings(**more: Any) -> Settings:
    return Settings(**{"host": "r.example.com", **more})


@functools.cache
def _valid(text: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(text), version, strict=True)


def check_valid(documents: list[dict[str, Any]]) -> None:
    """Validate strictly, for the oldest version and the two newest; only Traefik's own kind is none of Kubernetes'."""
    for document in documents:
        if document["apiVersion"] == "traefik.io/v1alpha1":
            assert document["kind"] == "Middleware"
            continue
        for version in VERSIONS:
            _valid(json.dumps(document), version)


def of(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def values(document: Any, key: str) -> Iterator[Any]:
    """Everything that stands under a key, however deep."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from values(value, key)


def pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        template
        for document in of(documents, "Deployment") + of(documents, "CronJob")
        for template in values(document, "template")
    ]


@pytest.mark.parametrize("chosen", EVERY, ids=lambda chosen: " ".join(str(value) for value in chosen.values()))
def test_every_combination_is_valid_and_fits(chosen: dict[str, Any]) -> None:
    """Strictly valid, and whatever one manifest names of another is there: ports, claims, labels, Middlewares."""
    made = manifests(settings(**chosen))
    check_valid(made)
    names = {(document["kind"], document["metadata"]["name"]) for document in made}
    assert len(names) == len(made)
    assert {document["metadata"]["namespace"] for document in made} == {"kube-system"}
    claims = {name for kind, name in names if kind == "PersistentVolumeClaim"}
    assert {*values(made, "claimName")} == claims
    for document in of(made, "Deployment"):
        assert document["spec"]["selector"]["matchLabels"] == document["spec"]["template"]["metadata"]["labels"]
    services = of(made, "Service")
    for service in services:
        selected = [
            pod for pod in pods(made) if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        listening = {port["name"]: port["containerPort"] for port in [*values(selected, "ports")] for port in port}
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["api", "ui"]
        assert listening == {"api": 5000, "ui": 8000}
    if chosen["way"] == "ingress":
        check_ingresses(made, chosen)
    else:
        numbers = [port.get("nodePort") for service in services for port in service["spec"]["ports"]]
        assert numbers == [None, None, 30500, 30800]


def check_ingresses(made: list[dict[str, Any]], chosen: dict[str, Any]) -> None:
    for ingress in of(made, "Ingress"):
        assert ingress["spec"]["ingressClassName"] == chosen["controller"]
        (rule,) = ingress["spec"]["rules"]
        assert rule["host"] == "r.example.com"
        routes = {path["path"]: path["backend"]["service"]["port"]["number"] for path in rule["http"]["paths"]}
        assert routes == {"/v2": 5000, "/ui": 8000}
        assert {*values(rule, "pathType")} == {"Prefix"}
        assert {service["name"] for service in values(rule, "service")} == {"kube-registry"}
    encrypted = bool(chosen["tls_secret"]) or chosen["https_only"]
    secret = {"secretName": chosen["tls_secret"]} if chosen["tls_secret"] else {}
    assert [*values(made, "tls")] == ([[{"hosts": ["r.example.com"], **secret}]] if encrypted else [])


def test_traefik_has_a_router_for_each_scheme() -> None:
    """With TLS a router of Traefik's speaks https alone; the one for http leads there, by a Middleware of its own."""
    made = manifests(settings(tls_secret="r-tls", https_only=True))
    prefix = "traefik.ingress.kubernetes.io/router."
    assert [ingress["metadata"]["annotations"] for ingress in of(made, "Ingress")] == [
        {f"{prefix}entrypoints": "websecure", f"{prefix}tls": "true"},
        {f"{prefix}entrypoints": "web", f"{prefix}middlewares": "kube-system-kube-registry-https@kubernetescrd"},
    ]
    (middleware,) = of(made, "Middleware")
    assert middleware["spec"] == {"redirectScheme": {"scheme": "https", "permanent": True}}
    assert f"kube-system-{middleware['metadata']['name']}@kubernetescrd" in {*values(made, f"{prefix}middlewares")}


def test_nginx_takes_layers_of_any_size() -> None:
    """Left alone, nginx refuses more than 1 MB, keeps each layer on its disk first, and ends the UI's connections."""
    (ingress,) = of(manifests(settings(controller="nginx", tls_secret="r-tls")), "Ingress")
    found = {name.partition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    assert (found["proxy-body-size"], found["proxy-request-buffering"], found["ssl-redirect"]) == ("0", "off", "false")
    assert int(found["proxy-read-timeout"]) >= 600
    (ingress,) = of(manifests(settings(controller="nginx", https_only=True)), "Ingress")
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/force-ssl-redirect"] == "true"


def test_what_runs_may_do_no_more_than_it_must() -> None:
    """No pod is root, has an account at the API server, or writes beside its volumes."""
    made = pods(manifests(settings(**SECRETS)))
    assert len(made) == 3
    for pod in made:
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert not pod["spec"]["automountServiceAccountToken"]
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} == set(container["resources"])


def test_the_registry_deletes_and_the_ui_reads() -> None:
    """Deletion is enabled; the UI writes only with a token, and then keeps its receipts; the audit never runs twice."""
    made = manifests(settings())
    (registry, ui, audit) = (pod["spec"]["containers"][0] for pod in pods(made))
    environment = {each["name"]: each.get("value") for each in registry["env"]}
    assert environment["REGISTRY_STORAGE_DELETE_ENABLED"] == "true"
    assert registry["readinessProbe"]["httpGet"]["path"] == "/v2/"
    assert ui["command"] == [
        "regnb", "ui", "--registry", "http://kube-registry:5000", "--base-url", "/ui/",
        "--host", "0.0.0.0", "--port", "8000",  # noqa: S104 -- in a pod
        "--host-name", "kube-registry", "--host-name", "r.example.com",
        "--prometheus", "/snapshots/regnb.prom", "--report", "/snapshots/report.html",
    ]  # fmt: skip
    assert ui["livenessProbe"]["httpGet"] == {"path": "/ui/healthz", "port": "ui"}
    assert audit["command"] == [
        "regnb", "audit", "http://kube-registry:5000", "--snapshot", "/snapshots", "--prometheus",
        "/snapshots/regnb.prom", "--fail-on-drift", "--fail-on-problems",
    ]  # fmt: skip
    assert [*values(made, "concurrencyPolicy")] == ["Forbid"]
    made = manifests(settings(**SECRETS))
    (registry, ui, _) = (pod["spec"]["containers"][0] for pod in pods(made))
    assert registry["readinessProbe"]["httpGet"]["path"] == "/", "with users /v2/ answers 401"
    assert ui["command"][-6:-4] == ["--write-token-file", "/token/operators"]
    assert ui["command"][ui["command"].index("--host-name") :][:4] == [
        "--host-name",
        "kube-registry",
        "--host-name",
        "r.example.com",
    ]
    (token,) = (one["secret"] for each in values(made, "volumes") for one in each if one["name"] == "token")
    assert token == {"secretName": "token", "items": [{"key": "token", "path": "operators"}]}, "not by the environment"
    assert {"name": "REGNB_RECEIPTS", "value": "/receipts"} in ui["env"]
    assert "/receipts" in {*values(ui, "mountPath")}


def test_every_secret_is_named_with_the_command_that_makes_it() -> None:
    """No value of a secret is in the manifests, and none has to be typed into a command line."""
    chosen = settings(tls_secret="r-tls", **SECRETS)
    made = manifests(chosen)
    assert not of(made, "Secret")
    named = {*values(made, "secretName"), *(reference["name"] for reference in values(made, "secretKeyRef"))}
    assert named == {"r-tls", "users", "docker", "token", "hook", "kube-registry-http"}
    text = "\n".join(notes(chosen))
    for name in named:
        assert any(f"create secret {kind} {name} " in text for kind in ("generic", "tls")), name
    assert "literal" not in text
    assert "password" not in text


def test_there_is_no_published_image() -> None:
    """The UI's image cannot be pulled by accident until one is named, and the notes say how to build it."""
    assert UNBUILT.partition("/")[0].endswith(".invalid")
    assert any("make image" in note for note in notes(settings()))
    assert not any("make image" in note for note in notes(settings(ui_image="r.example.com/regnb:1")))


@pytest.mark.parametrize("version", SINCE)
def test_every_version_takes_it(version: str) -> None:
    """With everything that can be chosen, from 1.25 on."""
    for document in manifests(settings(tls_secret="r-tls", https_only=True, controller="nginx", **SECRETS)):
        _valid(json.dumps(document), version)


def test_the_ui_sees_what_the_audit_and_the_registry_keep_and_changes_none_of_it() -> None:
    """Their volumes are mounted read-only there, on the node of the registry; the audit prunes, reports and judges."""
    made = manifests(settings(fail_over="40GB", fail_on_growth="10%", **SECRETS))
    (_, ui, audit) = pods(made)
    claims = {claim["claimName"]: claim for claim in values(ui["spec"]["volumes"], "persistentVolumeClaim")}
    assert claims["kube-registry-storage"]["readOnly"]
    assert claims["kube-registry-snapshots"]["readOnly"]
    environment = {each["name"]: each.get("value") for each in ui["spec"]["containers"][0]["env"]}
    paths = {each["mountPath"] for each in ui["spec"]["containers"][0]["volumeMounts"]}
    assert {environment["REGNB_STORAGE"], environment["REGNB_SNAPSHOTS"]} <= paths
    for pod in (ui, audit):
        assert [*values(pod["spec"]["affinity"], "component")] == ["registry"]
    report, thin = (each["command"] for each in audit["spec"]["initContainers"])
    assert report[-1] in ui["spec"]["containers"][0]["command"]
    assert thin == ["regnb", "snapshots", "/snapshots", "--thin", "60"]
    (judge,) = audit["spec"]["containers"]
    assert judge["command"][-4:] == ["--fail-over", "40GB", "--fail-on-growth", "10%"]
    assert {"name": "REGNB_WEBHOOK", "valueFrom": {"secretKeyRef": {"name": "hook", "key": "url"}}} in judge["env"]


def test_the_policy_lets_in_two_ports_and_the_ui_out_to_the_registry() -> None:
    """Its selectors fit the pods' labels."""
    made = manifests(settings())
    inward, outward = (each["spec"] for each in of(made, "NetworkPolicy"))
    labels = [pod["metadata"]["labels"] for pod in pods(made)]
    assert [port["port"] for port in inward["ingress"][0]["ports"]] == ["api", "ui"]
    for selector, components in (
        (inward["podSelector"], ["registry", "ui"]),
        (outward["podSelector"], ["ui"]),
        (outward["egress"][1]["to"][0]["podSelector"], ["registry"]),
    ):
        assert [each["component"] for each in labels if selector["matchLabels"].items() <= each.items()] == components


@pytest.mark.parametrize("part", PARTS)
def test_parts_can_be_chosen(part: str) -> None:
    """Each part alone is valid, needs no volume of another part, and all of them together are the whole."""
    made = manifests(settings(parts=(part,)))
    assert made
    check_valid(made)
    whole = {(document["kind"], document["metadata"]["name"]) for document in manifests(settings())}
    assert {(document["kind"], document["metadata"]["name"]) for document in made} <= whole
    assert {*values(made, "claimName")} == {each["metadata"]["name"] for each in of(made, "PersistentVolumeClaim")}


def test_the_yaml_is_plain() -> None:
    """What is written is what was made; it begins with how to apply it, in readable order and without anchors."""
    chosen = settings(tls_secret="r-tls", https_only=True, **SECRETS)
    text = to_yaml(manifests(chosen), notes(chosen))
    assert [*yaml.safe_load_all(text)] == manifests(chosen)
    assert text.startswith("# kubectl apply -f ")
    assert "&id" not in text
    assert [line for line in text.splitlines() if line == "---"] == ["---"] * (len(manifests(chosen)) - 1)
    assert "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n" in text
    remark = to_yaml([{"kind": "a"}], ["one\nkind: b"])
    assert [*yaml.safe_load_all(remark)] == [{"kind": "a"}], "a remark stays one"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("host", ["", "http://r.example.com", "r.example.com:5000", "10.0.0.1", "R.example.com", "a..b", "a" * 64]),
        ("name", ["", "Registry", "1a", "-a", "a-", "a.b", "a" * 47, "a\n"]),
        ("namespace", ["", "a.b", "kube_system", "a" * 64]),
        ("way", ["", "gateway"]),
        ("controller", ["haproxy"]),
        ("tls_secret", ["a_b", "A", "a/b"]),
        ("registry_image", ["", "registry", "registry:latest", "registry:", "re gistry:2"]),
        ("ui_image", ["r.example.com/regnb", "http://r.example.com/regnb:1"]),
        ("storage", ["", "0Gi", "50GB", "50 Gi", "-1Gi"]),
        ("schedule", ["", "daily", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7",
                      "*/0 * * * *", "5-1 * * * *", "a * * * *", "* * * * * *", "@reboot"]),
        ("parts", [(), ("gateway",)]),
    ],
)  # fmt: skip
def test_what_kubernetes_would_not_take(field: str, wrong: list[Any]) -> None:
    """Each is refused before a cluster is asked, and the error names the setting and what would do."""
    for value in wrong:
        with pytest.raises(InvalidArgument, match=f"^{field} cannot be") as raised:
            settings(**{field: value})
        assert raised.value.hint


def test_node_ports_are_ports_and_two() -> None:
    """They matter only where they are used."""
    for wrong in ({"api_port": 0}, {"ui_port": 70_000}, {"api_port": 30800}):
        with pytest.raises(InvalidArgument, match="_port cannot be"):
            Settings(way="nodeport", **wrong)
    assert Settings(host="r.example.com", api_port=0)
    assert Settings(way="nodeport").host == ""
    assert Settings(parts=("ui",)).host == ""


@pytest.mark.parametrize(
    "schedule", ["0 3 * * *", "*/15 0-6 1,15 * mon-fri", "0 0 1 JAN ?", "@daily", "59 23 31 12 6", "0-30/5 * * * *"]
)
def test_a_schedule_as_cron_has_it(schedule: str) -> None:
    """Steps, ranges, lists, names and shorthands are understood."""
    assert settings(schedule=schedule).schedule == schedule


def test_every_setting_is_described() -> None:
    """The command line and the form show these texts."""
    assert [field.name for field in structs.fields(Settings)] == [*FIELDS]


INGRESS = """\
apiVersion: extensions/v1beta1
kind: Ingress
metadata:
  annotations:
    kubernetes.io/ingress.class: traefik
    traefik.ingress.kubernetes.io/frontend-entry-points: http,https
    # traefik.ingress.kubernetes.io/redirect-entry-point: https\t\t\t\t强制https
  name: registry
  namespace: kube-system
spec:
  rules:
  - host: r.example.com
    http:
      paths:
      - backend:
          serviceName: kube-registry
          servicePort: 5000
        path: /v2
      - backend:
          serviceName: kube-registry
          servicePort: 8000
        path: /ui
  tls:
  - hosts:
    - r.example.com
    # secretName: repo-tls\thttps可以启用
status:
  loadBalancer:
    ingress:
    - ip: 192.0.2.151\t\t\t# 需要修改为节点ip
"""
"""As it is found in the wild: for Traefik 1, with tabs before comments, and copied from a cluster with its status."""
SHORT = """\
apiVersion: networking.k8s.io/v1beta1
kind: Ingress
metadata:
  name: registry
spec:
  rules:
  - host: r.example.com
    http:
      paths:
      - path: /ui
        backend:
          serviceName: kube-registry
          servicePort: 8000
      - path: /v2
        backend:
          serviceName: kube-registry
          servicePort: 5000
"""
NODE_PORTS = """\
apiVersion: v1
kind: Service
metadata:
  name: kube-registry-nodeport
  namespace: kube-system
  labels:
    app: kube-registry
spec:
  type: NodePort     
  ports:
  - port: 5000          
    targetPort: 5000
    protocol: TCP
    nodePort: 30500
  selector:
    app: kube-registry
---
apiVersion: v1
kind: Service
metadata:
  name: kube-registry8000-nodeport
  namespace: kube-system
spec:
  type: NodePort      
  ports:
  - port: 8000          
    targetPort: 8000
    protocol: TCP
    nodePort: 30800
  selector:
    app: kube-registry
"""  # noqa: W291 -- as it was written


def path_to(path: str, port: dict[str, Any]) -> dict[str, Any]:
    return {"path": path, "pathType": "Prefix", "backend": {"service": {"name": "kube-registry", "port": port}}}


def test_an_old_ingress_is_converted() -> None:
    """What a cluster no longer takes becomes what it takes, strictly valid, and each change is said."""
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check_valid([*yaml.safe_load_all(INGRESS.replace("\t", " "))])
    found = convert(INGRESS)
    check_valid(found.documents)
    assert found.documents == [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": "registry",
                "namespace": "kube-system",
                "annotations": {"traefik.ingress.kubernetes.io/router.entrypoints": "web,websecure"},
            },
            "spec": {
                "ingressClassName": "traefik",
                "rules": [
                    {
                        "host": "r.example.com",
                        "http": {"paths": [path_to("/v2", {"number": 5000}), path_to("/ui", {"number": 8000})]},
                    }
                ],
                "tls": [{"hosts": ["r.example.com"]}],
            },
        }
    ]
    text = "\n".join(found.notes)
    for word in ("extensions/v1beta1", "ingressClassName", "web and websecure", "status", "/v2", "no Secret"):
        assert word in text, word


def test_a_short_one_is_converted() -> None:
    """Without annotations, and of the group in between."""
    found = convert(SHORT)
    check_valid(found.documents)
    (ingress,) = found.documents
    assert ingress["spec"]["rules"][0]["http"]["paths"] == [
        path_to("/ui", {"number": 8000}),
        path_to("/v2", {"number": 5000}),
    ]
    assert "ingressClassName" not in ingress["spec"]


def test_other_documents_pass_unchanged() -> None:
    """Services, and what is new already, with or without documents that are converted, and lists of kubectl's."""
    services = [*yaml.safe_load_all(NODE_PORTS)]
    assert convert(NODE_PORTS) == (services, [])
    check_valid(services)
    new = convert(SHORT).documents
    assert convert(to_yaml(new)) == (new, [])
    both = convert(f"{NODE_PORTS}---\n{SHORT}---\n")
    assert both.documents == [*services, *new]
    listed = {"apiVersion": "v1", "kind": "List", "items": [*services, yaml.safe_load(SHORT)]}
    assert convert(json.dumps(listed)).documents == [*services, *new]


def old(annotations: dict[str, str] | None = None, meta: dict[str, Any] | None = None, **spec: Any) -> str:
    """An old Ingress; JSON is YAML."""
    more = {"annotations": annotations} if annotations else {}
    document = {
        "apiVersion": "extensions/v1beta1",
        "kind": "Ingress",
        "metadata": {"name": "a", **more, **(meta or {})},
    }
    return json.dumps(document | {"spec": spec or {"backend": {"serviceName": "b", "servicePort": "http"}}})


def test_what_the_cluster_wrote_is_left_out() -> None:
    """It would be refused, or overwritten; what people wrote beside it stays."""
    meta = {
        "uid": "u",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": None,
        "selfLink": "/",
        "labels": {"a": "b"},
    }
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "yes"}
    (found,) = convert(old(annotations, meta)).documents
    assert found["metadata"] == {"name": "a", "labels": {"a": "b"}, "annotations": {"mine": "yes"}}
    assert found["spec"] == {"defaultBackend": {"service": {"name": "b", "port": {"name": "http"}}}}


FIRST = "traefik.ingress.kubernetes.io/"


@pytest.mark.parametrize(
    ("annotation", "value"), [(f"{FIRST}redirect-entry-point", "https"), ("ingress.kubernetes.io/ssl-redirect", "true")]
)
def test_forced_https_becomes_a_middleware(annotation: str, value: str) -> None:
    """Traefik 2 and later do by a Middleware what was an annotation."""
    middleware, ingress = convert(old({annotation: value}, {"namespace": "kube-system"})).documents
    assert middleware["metadata"] == {"name": "a-https", "namespace": "kube-system"}
    assert ingress["metadata"]["annotations"] == {f"{FIRST}router.middlewares": "kube-system-a-https@kubernetescrd"}


def test_what_has_no_successor_is_said() -> None:
    """An annotation that Traefik no longer reads is left out and named; what it still reads, or others do, stays."""
    given = {
        f"{FIRST}rule-type": "PathPrefixStrip",
        f"{FIRST}priority": "7",
        f"{FIRST}router.tls": "true",
        f"{FIRST}frontend-entry-points": "https",
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",
    }
    found = convert(old(given))
    assert found.documents[0]["metadata"]["annotations"] == {
        f"{FIRST}router.priority": "7",
        f"{FIRST}router.tls": "true",
        f"{FIRST}router.entrypoints": "websecure",
        "nginx.ingress.kubernetes.io/proxy-body-size": "0",
    }
    assert any(f"{FIRST}rule-type has no effect" in note for note in found.notes)


def test_a_path_that_is_no_prefix() -> None:
    """A regular expression stays the controller's business; a path that is missing is all of them; a type stays."""
    backend = {"serviceName": "b", "servicePort": "8080"}
    paths = [
        {"path": "/a(/|$)(.*)", "backend": backend},
        {"backend": backend},
        {"pathType": "Exact", "path": "/x", "backend": backend},
    ]
    found = convert(old(rules=[{"host": "h", "http": {"paths": paths}}, {"host": "i"}]))
    check_valid(found.documents)
    made = found.documents[0]["spec"]["rules"]
    assert [(path["path"], path["pathType"]) for path in made[0]["http"]["paths"]] == [
        ("/a(/|$)(.*)", "ImplementationSpecific"), ("/", "Prefix"), ("/x", "Exact"),
    ]  # fmt: skip
    assert {port["number"] for port in values(made, "port")} == {8080}
    assert made[1] == {"host": "i"}


def test_another_old_kind_is_said() -> None:
    """Only Ingresses are converted; of others one learns that a cluster will refuse them."""
    found = convert("{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: a}}")
    assert "Deployment: clusters no longer take extensions/v1beta1" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no manifest here"),
        ("# nothing", "no manifest here"),
        ("just words", "is not a Kubernetes manifest"),
        ("- 1", "is not a Kubernetes manifest"),
        ("{kind: Ingress}", "is not a Kubernetes manifest"),
        ("{apiVersion: v1, kind: List, items: [1]}", "is not a Kubernetes manifest"),
        ("a: [1", "not YAML"),
        ("a: b: c", "not YAML: .* in line 1"),
        ("\x00", "not YAML"),
        ("a: 2026-99-99", "not YAML"),
        ("!!python/object/apply:os.system [true]", "not YAML"),
        ("[" * 5_000, "not YAML"),
        (old(rules="many"), "malformed"),
        (old(rules=[{"http": {"paths": [{"path": "/"}]}}]), "malformed"),
        (old(rules=[{"http": {"paths": [{"backend": {"serviceName": "b", "servicePort": []}}]}}]), "malformed"),
        (old(meta={"name": 7}), "malformed"),
        ("{apiVersion: extensions/v1beta1, kind: Ingress}", "malformed"),
    ],
)
def test_what_cannot_be_converted(text: str, message: str) -> None:
    """Never a traceback: an error that says what it is, and nothing is executed."""
    with pytest.raises(InvalidArgument, match=message) as raised:
        convert(text)
    assert raised.value.hint

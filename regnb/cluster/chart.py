"""A Helm chart of the same manifests: what settings decide is made here, what only names something becomes a value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from msgspec import structs

from regnb.cluster.resources import FIELDS, Settings, manifests, notes, yaml_library

VALUES: Final[Mapping[str, object]] = {
    "host": "host-value.invalid",
    "name": "name-value",
    "namespace": "namespace-value",
    "ingress_class": "ingress-class-value",
    "tls_secret": "tls-secret-value",
    "api_port": 31_111,
    "ui_port": 31_112,
    "registry_image": "registry-image.invalid/value:1",
    "ui_image": "ui-image.invalid/value:1",
    "storage": "11111Gi",
    "snapshots": "11112Gi",
    "storage_class": "storage-class-value",
    "htpasswd_secret": "htpasswd-secret-value",
    "docker_secret": "docker-secret-value",
    "token_secret": "token-secret-value",
    "webhook_secret": "webhook-secret-value",
    "trusted_proxy": "10.111.0.0/16",
    "schedule": "11 1 11 11 1",
    "fail_over": "11113GB",
    "fail_on_growth": "11114GB",
    "keep_daily": 1_111,
}
"""Of each setting that becomes a value of the chart, a text that stands for it in the manifests, and nowhere else."""
_NEEDED: Final = frozenset({"name", "namespace", "registry_image", "ui_image", "storage", "snapshots", "schedule"})
"""Values that are always there; of the others those that were given, for without them there are other manifests."""

_NAMES: Final = {str(value): name for name, value in VALUES.items()}
_FOUND: Final = re.compile("|".join(re.escape(each) for each in sorted(_NAMES, key=len, reverse=True)))


def chart(settings: Settings, version: str) -> dict[str, str]:
    """Return the files of a chart whose templates are the manifests of these settings.

    The way in, the controller, https, the parts, and whether there is a secret at all are decided now: they choose
    which manifests there are. Names, images, sizes and schedules are values, which can be set at each installation. The
    namespace is that of the release.

    Args:
        settings: What the manifests are made of.
        version: Of the chart.

    Raises:
        MissingExtra: PyYAML is not installed.

    Example:
        >>> sorted(chart(Settings(host="r.example.com"), "1.0.0"))[:2]
        ['Chart.yaml', 'templates/NOTES.txt']
    """
    chosen = {name: getattr(settings, name) for name in VALUES if name in _NEEDED or getattr(settings, name)}
    made = manifests(structs.replace(settings, **{name: VALUES[name] for name in chosen}))
    # The namespace and the names of the release: a Secret elsewhere would not be found. An image is said to be missing.
    said = notes(structs.replace(settings, **{name: VALUES[name] for name in chosen if name != "ui_image"}))
    values = {name: value for name, value in chosen.items() if name != "namespace"}
    library = yaml_library()
    files = {
        "Chart.yaml": library.safe_dump(
            {
                "apiVersion": "v2",
                "name": "regnb",
                "description": "A container registry with regnb's web UI and nightly audit",
                "version": version,
                "appVersion": version,
                "kubeVersion": ">=1.25.0-0",
            },
            sort_keys=False,
        ),
        "values.yaml": "\n".join(_line(name, value) for name, value in values.items()),
        "templates/NOTES.txt": "".join(f"- {_FOUND.sub(_action, note)}\n" for note in said),
    }
    for document in made:
        text: str = library.safe_dump(document, sort_keys=False, allow_unicode=True, width=1_000_000)
        name = document["metadata"]["name"].removeprefix(VALUES["name"]).strip("-")
        files[f"templates/{'-'.join(filter(None, (document['kind'].lower(), name)))}.yaml"] = _templated(text)
    return files


def _line(name: str, value: object) -> str:
    return f"# {FIELDS[name]}\n{name}: {json.dumps(value)}\n"


def _action(match: re.Match[str]) -> str:
    """Return the template's action for a text that stands for a value."""
    name = _NAMES[match[0]]
    return "{{ .Release.Namespace }}" if name == "namespace" else f"{{{{ .Values.{name} }}}}"


def _templated(text: str) -> str:
    """Return YAML with a template's action for each text that stands for a value."""
    lines = []
    for line in text.splitlines():
        # What a value may be decides how YAML reads it: a text that stands alone is quoted.
        start = max(line.find(": ") + 2 if ": " in line else 0, len(line) - len(line.lstrip(" -")))
        head, scalar = line[:start], line[start:]
        used = [_NAMES[text] for text in _FOUND.findall(scalar)]
        templated = _FOUND.sub(_action, scalar)
        if used and not isinstance(VALUES[used[0]], int):
            templated = f'"{templated.strip(chr(39))}"'
        lines.append(_FOUND.sub(_action, head) + templated)
    return "\n".join(lines) + "\n"

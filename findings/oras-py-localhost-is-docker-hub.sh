#!/usr/bin/env bash
# oras 0.2.43 (Python) takes localhost/app for a repository of Docker Hub.
#
# A reference whose first part is "localhost" names a registry on this machine, at the standard port; so do the grammar of references
# (distribution/reference, "domain"), the Docker SDK (docker 7.2.0) and docker-image-py 0.2.0. oras only looks for a dot or a colon in the first
# part: localhost/app:1 becomes docker.io/localhost/app:1. With a port, as in localhost:5000/app:1, all agree.
# Why it surprises: a registry behind an Ingress or a port forward answers at port 80 or 443, and works by this name with docker, podman
# and skopeo. A push by oras then leaves the machine, with whatever credentials there are for Docker Hub.
# What it means: write the port, localhost:80/app or localhost:443/app, or 127.0.0.1/app.
#
# Needs python3; the packages come from PyPI. Nothing is sent.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check oras==0.2.43 docker==7.2.0 docker-image-py==0.2.0
"$work/venv/bin/python" - <<'PYTHON'
from docker.auth import resolve_repository_name
from docker.utils import parse_repository_tag
from docker_image.reference import Reference
from oras.container import Container

for text, expected in {
    "localhost/app:1": ("docker.io", "localhost", "localhost"),
    "localhost:80/app:1": ("localhost:80", "localhost:80", "localhost:80"),
    "127.0.0.1/app:1": ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
}.items():
    found = (
        Container(text).registry,
        resolve_repository_name(parse_repository_tag(text)[0])[0],
        Reference.parse_normalized_named(text).split_hostname()[0],
    )
    print(f"{text}: oras asks {found[0]}, docker {found[1]}, docker-image-py {found[2]}")
    assert found == expected, (text, found)
assert Container("localhost/app:1").uri == "docker.io/localhost/app:1"
PYTHON

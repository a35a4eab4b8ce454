#!/usr/bin/env bash
# umoci 0.4.7: `umoci gc` deletes the configuration and the layers of a tagged image whose manifest has Docker's media type.
#
# The layout holds two images: one manifest of the OCI type, one of Docker's type (schema 2). Both are in index.json, each under
# its own name. The collection keeps the first whole. Of the second it keeps the manifest and deletes what it needs.
# Why it surprises: umoci-gc(1) keeps "blobs which can be reached by a descriptor path from the root set of tags", and this path
# exists. The OCI image specification lets index.json list manifests of any media type (image-index.md, manifests: only for
# portability it asks for its own), and names Docker's schema 2 as compatible (media-types.md, Compatibility Matrix). `umoci ls`
# prints the name before and after, and the exit code is 0.
# What it means: a layout is where registries are backed up and carried over an air gap, and a backup that keeps digests keeps
# Docker's types. Do not run `umoci gc` on such a layout; test a backup by reading every blob, not by listing names.
#
# Needs Debian's umoci 0.4.7 and python3.
set -euo pipefail
umoci --version 2>/dev/null | grep -F '0.4.7' || { echo "install Debian's umoci 0.4.7 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/layout.py" <<'PYTHON'
import gzip, hashlib, io, json, pathlib, sys, tarfile

layout = pathlib.Path(sys.argv[1])
blobs = layout / "blobs/sha256"
OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
TYPES = {
    "oci": (OCI + "manifest.v1+json", OCI + "config.v1+json", OCI + "layer.v1.tar+gzip"),
    "docker": (DOCKER + "distribution.manifest.v2+json", DOCKER + "container.image.v1+json", DOCKER + "image.rootfs.diff.tar.gzip"),
}

def keep(data, media_type):
    hexadecimal = hashlib.sha256(data).hexdigest()
    (blobs / hexadecimal).write_bytes(data)
    return {"mediaType": media_type, "digest": "sha256:" + hexadecimal, "size": len(data)}

blobs.mkdir(parents=True)
entries = []
for name, (manifest_type, config_type, layer_type) in TYPES.items():
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as layer:
        layer.addfile(tarfile.TarInfo(name))
    diff_id = "sha256:" + hashlib.sha256(archive.getvalue()).hexdigest()
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {"schemaVersion": 2, "mediaType": manifest_type, "config": keep(json.dumps(config).encode(), config_type)}
    manifest["layers"] = [keep(gzip.compress(archive.getvalue(), mtime=0), layer_type)]
    entries.append(keep(json.dumps(manifest).encode(), manifest_type) | {"annotations": {"org.opencontainers.image.ref.name": name}})
(layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
(layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
PYTHON
look() { # the names, and which blobs of each image are there
    python3 - "$work/image" <<'PYTHON'
import json, pathlib, sys
layout = pathlib.Path(sys.argv[1])
path = lambda descriptor: layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")
for entry in json.loads((layout / "index.json").read_text())["manifests"]:
    manifest = json.loads(path(entry).read_text())
    name = entry["annotations"]["org.opencontainers.image.ref.name"]
    print(name, "config", path(manifest["config"]).exists(), "layer", path(manifest["layers"][0]).exists())
PYTHON
}
python3 "$work/layout.py" "$work/image"
before=$(umoci ls --layout "$work/image"; look)
umoci gc --layout "$work/image"
after=$(umoci ls --layout "$work/image"; look)
printf 'before:\n%s\nafter:\n%s\n' "$before" "$after"
[[ $before == $'oci\ndocker\noci config True layer True\ndocker config True layer True' ]]
[[ $after == $'oci\ndocker\noci config True layer True\ndocker config False layer False' ]]

#!/usr/bin/env bash
# python-dxf 12.1.1 shows one child of an index where there are two for one platform, and its deletion leaves the other behind.
#
# An index holds two Windows images that differ in `os.version`, as the images for two releases of Windows Server do. get_alias and
# del_alias answer with a dict whose key is os/architecture(/variant): both children have the key windows/amd64, and the second
# replaces the first.
# Why it surprises: platform.os.version is a property of the OCI image index, which takes the first match where several fit
# (image-index.md, manifests); dxf shows only the last. And del_alias documents how to delete an index whole: it returns "a dict
# with the alias hash per platform", and "You'll need to call del_alias for each of those".
# What it means: sizes and lists from dxf leave images out, and a deletion done as documented leaves a manifest without a tag,
# whose layers no plain garbage collection removes. The same holds for BuildKit's attestations, which are all unknown/unknown.
#
# Needs Debian's docker-registry 2.8.2 and python3; python-dxf comes from PyPI.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check python-dxf==12.1.1
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: "127.0.0.1:0"}\n' \
    "$work/data" >"$work/config.yml"
: >"$work/log"
docker-registry serve "$work/config.yml" >>"$work/log" 2>&1 & registry=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
    [[ $port ]] && break
    sleep 0.1
done
"$work/venv/bin/python" - "127.0.0.1:$port" <<'PYTHON'
import hashlib, json, sys
from importlib.metadata import version
import requests
from dxf import DXF

print("python-dxf", version("python-dxf"))
dxf = DXF(sys.argv[1], "team/app", insecure=True)
url = f"http://{sys.argv[1]}/v2/team/app/manifests/"
OCI = "application/vnd.oci.image."
IMAGE, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"

def put(reference, document):
    data = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    requests.put(url + (reference or digest), data, headers={"Content-Type": document["mediaType"]}).raise_for_status()
    return {"mediaType": document["mediaType"], "digest": digest, "size": len(data)}

children = []
for release in "10.0.17763.6054", "10.0.20348.2582":
    platform = {"os": "windows", "architecture": "amd64", "os.version": release}
    config = json.dumps(platform | {"rootfs": {"type": "layers", "diff_ids": []}}).encode()
    digest = dxf.push_blob(data=iter([config]), digest="sha256:" + hashlib.sha256(config).hexdigest())
    described = {"mediaType": OCI + "config.v1+json", "digest": digest, "size": len(config)}
    children.append(put(None, {"schemaVersion": 2, "mediaType": IMAGE, "config": described, "layers": []}) | {"platform": platform})
index = put("1.0", {"schemaVersion": 2, "mediaType": INDEX, "manifests": children})

print("children in the index:", len(children))
print("get_digest:", dxf.get_digest("1.0"))
deleted = dxf.del_alias("1.0")
for digest in deleted.values():
    dxf.del_alias(digest)
left = [requests.head(url + child["digest"], headers={"Accept": IMAGE}).status_code for child in children]
print("del_alias, and del_alias for each that it named:", deleted, "\nstatus of the children afterwards:", left)
assert list(deleted) == ["windows/amd64"] and left == [200, 404]
PYTHON

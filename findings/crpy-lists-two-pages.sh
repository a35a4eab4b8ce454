#!/usr/bin/env bash
# crpy 0.4.0: list_repositories returns the first two pages of a catalog of three, without an error.
#
# The registry holds 250 repositories. docker-registry answers 100 a page and names the next page in a Link header. crpy follows the
# header as often as it is there, but hands back only the first page of each answer that it collects on the way: 200 names.
# Why it surprises: the docstring says "It will retrieve all pages", and the requests go out: the third page is fetched, and dropped.
# python-dxf, on the same registry, gets all 250. The distribution documentation ("Listing Repositories", Pagination) calls a
# listing complete when no Link is left.
# What it means: whatever is computed as "in the registry, but not in the list" is wrong from the 201st repository on: a mirror
# stops short, an audit reports less, a clean-up of "unknown" storage hits repositories in use. list_tags shares the code.
# Compare the count with a second client before you trust a list of 100, 200 or 1,000.
#
# Needs Debian's docker-registry 2.8.2 and python3; crpy and python-dxf come from PyPI.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check crpy==0.4.0 python-dxf==12.1.1
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0"}\n' "$work/data" >"$work/config.yml"
: >"$work/log"
docker-registry serve "$work/config.yml" >>"$work/log" 2>&1 & registry=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
    [[ $port ]] && break
    sleep 0.1
done
"$work/venv/bin/python" - "127.0.0.1:$port" "$work/data/docker/registry/v2/repositories" <<'PYTHON'
import asyncio, hashlib, json, pathlib, shutil, sys
from importlib.metadata import version
import requests
from crpy.registry import RegistryInfo
from dxf import DXFBase

print("crpy", version("crpy"), "python-dxf", version("python-dxf"))
host, repositories = sys.argv[1], pathlib.Path(sys.argv[2])
IMAGE = "application/vnd.oci.image.manifest.v1+json"
digest = "sha256:" + hashlib.sha256(b"{}").hexdigest()
config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2}
manifest = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": []})
names = [f"team{number:03}" for number in range(250)]
url = f"http://{host}/v2/{names[0]}"
upload = requests.post(url + "/blobs/uploads/").headers["Location"]
requests.put(upload, b"{}", params={"digest": digest}).raise_for_status()
requests.put(url + "/manifests/1", manifest, headers={"Content-Type": IMAGE}).raise_for_status()
for name in names[1:]:  # the same image in each repository, copied in the storage because 750 requests take a minute
    shutil.copytree(repositories / names[0], repositories / name)

dxf = list(DXFBase(host, insecure=True).list_repos())
crpy = asyncio.run(RegistryInfo.from_url(f"http://{host}/team000:1").list_repositories())
print("python-dxf:", len(dxf), "repositories, the last is", dxf[-1])
print("crpy:      ", len(crpy), "repositories, the last is", crpy[-1])
assert dxf == names and crpy == names[:200]
PYTHON

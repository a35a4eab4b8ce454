#!/usr/bin/env bash
# oras 0.2.43 (oras-py): delete_tag cannot find the tag of an index, and deletes the siblings of the tag of an image.
#
# A repository holds one artifact under the tags 1.0 and stable, and an index under the tag multi. get_tags lists all three, and
# get_manifest reads all three. delete_tag("multi") returns False and logs "Cannot find tag". delete_tag("1.0") returns True, and
# stable is gone as well.
# Why it surprises: the docstrings say "Delete a tag for a container" and, for delete_tags, "Returns those successfully deleted".
# In the source, get_manifest accepts four manifest types and delete_tag only one, so that the registry answers 404 for an index;
# what is then deleted is the manifest's digest, and with it every tag that points there (in the distribution
# specification "Deleting tags" and "Deleting Manifests" are two operations).
# What it means: a clean-up job with oras-py reports multi-platform images as absent and keeps them for ever, and one old tag takes
# "stable" along although only the old tag is in its report. List the tags of a digest before you delete one of them.
#
# Needs Debian's docker-registry 2.8.2 and python3; oras comes from PyPI.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check oras==0.2.43
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: "127.0.0.1:0"}\n' \
    "$work/data" >"$work/config.yml"
: >"$work/log"
docker-registry serve "$work/config.yml" >>"$work/log" 2>&1 & registry=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
    [[ $port ]] && break
    sleep 0.1
done
cd "$work"
echo hello >file.txt
"$work/venv/bin/python" - "127.0.0.1:$port" <<'PYTHON'
import hashlib, json, sys
import oras, oras.client, requests

host, repository = sys.argv[1], sys.argv[1] + "/team/app"
client = oras.client.OrasClient(hostname=host, insecure=True)
print("oras", oras.__version__)
IMAGE, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"

def put(tag, data, media_type):
    requests.put(f"http://{host}/v2/team/app/manifests/{tag}", data, headers={"Content-Type": media_type}).raise_for_status()

client.push(f"{repository}:1.0", files=["file.txt"], quiet=True)
image = requests.get(f"http://{host}/v2/team/app/manifests/1.0", headers={"Accept": IMAGE}).content
put("stable", image, IMAGE)
child = {"mediaType": IMAGE, "digest": "sha256:" + hashlib.sha256(image).hexdigest(), "size": len(image)}
put("multi", json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}), INDEX)

tags = lambda: sorted(client.get_tags(repository))
seen = [tags(), client.get_manifest(f"{repository}:multi")["mediaType"]]
for tag in "multi", "1.0":
    seen += [f"delete_tag({tag}) = {client.delete_tag(repository, tag)}", tags()]
print(*seen, sep="\n")
assert seen == [
    ["1.0", "multi", "stable"], INDEX, "delete_tag(multi) = False", ["1.0", "multi", "stable"], "delete_tag(1.0) = True", ["multi"],
]
PYTHON

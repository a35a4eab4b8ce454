#!/usr/bin/env bash
# docker-registry 2.8.2 serves a blob as a manifest, though no manifest with that digest is in the repository.
#
# Why it surprises: a manifest and a blob are two kinds of things with two endpoints (distribution specification, "Pulling
# manifests" and "Pulling blobs"), and the registry keeps their links apart: `_manifests/revisions` and `_layers`. A GET of
# `/manifests/<digest>` looks for either link. The other way round it is strict: a manifest is no blob (404).
# What it means: whoever deletes a manifest that was also uploaded as a blob goes on seeing it, and can pull it by its digest,
# while `registry garbage-collect` finds no manifest there and removes the layers that it names. Over HTTP the two cannot be told
# apart, so a tool that predicts from manifests what a collection removes is wrong by these layers.
#
# Needs Debian's docker-registry 2.8.2 and curl.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0"}\n' "$work/data" >"$work/config.yml"
: >"$work/log"
docker-registry serve "$work/config.yml" >>"$work/log" 2>&1 & registry=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
    [[ $port ]] && break
    sleep 0.1
done
url=http://127.0.0.1:$port/v2/team/app

upload() { # a file as a blob: prints its digest
    local digest place
    digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
    place=$(curl -sS -X POST -D - -o /dev/null "$url/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
    curl -sSf -o /dev/null -X PUT --data-binary "@$1" -H 'Content-Type: application/octet-stream' "$place&digest=$digest"
    echo "$digest"
}
type=application/vnd.oci.image.manifest.v1+json
printf '{}' >"$work/config.json"
config=$(upload "$work/config.json")
for name in pushed uploaded; do
    printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},"layers":[],"annotations":{"name":"%s"}}' \
        "$type" "$config" "$name" >"$work/$name.json"
done
digest=$(upload "$work/uploaded.json")
pushed=sha256:$(sha256sum "$work/pushed.json" | cut -d' ' -f1)
curl -sSf -o /dev/null -X PUT --data-binary "@$work/pushed.json" -H "Content-Type: $type" "$url/manifests/1.0"

status() { curl -sS -o "$work/body" -w '%{http_code}\n' -H "Accept: $type" "$url/$1"; }
echo "tags: $(curl -sS "$url/tags/list")"
echo "links of manifests: $(find "$work/data" -path '*_manifests/revisions*' -name link | grep -c .)"
echo "the blob asked for as a manifest: $(status "manifests/$digest")"
cmp "$work/body" "$work/uploaded.json"
echo "the manifest asked for as a blob: $(status "blobs/$pushed")"
[[ $(status "manifests/$digest") == 200 && $(status "blobs/$pushed") == 404 ]]
[[ $(find "$work/data" -path '*_manifests/revisions*' -name link | grep -c .) == 1 ]]

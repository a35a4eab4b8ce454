#!/usr/bin/env bash
# docker-registry 2.8.2 answers "404 MANIFEST_UNKNOWN" for an OCI manifest that it holds, unless Accept names its exact type.
#
# Why it surprises: no Accept header, or `*/*`, means that any type will do (RFC 9110, 12.5.1), and a type that does not fit would
# be a 406 (15.5.7). The distribution specification ("Pulling manifests") keeps 404 for a manifest that is not found, and asks for
# Accept only with SHOULD. A digest leaves nothing to negotiate at all, and is answered 404 as well.
# What it means: a clean-up script that asks with plain curl, or with only Docker's types, takes every OCI image for absent: it
# deletes "dangling" tags that work, or says that a copy is missing. Send all four manifest types before you believe a 404.
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

manifest_type=application/vnd.oci.image.manifest.v1+json
printf '{}' >"$work/config.json"
config=sha256:$(sha256sum "$work/config.json" | cut -d' ' -f1)
upload=$(curl -sS -X POST -D - -o /dev/null "$url/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
curl -sSf -o /dev/null -X PUT --data-binary "@$work/config.json" -H 'Content-Type: application/octet-stream' "$upload&digest=$config"
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},"layers":[]}' \
    "$manifest_type" "$config" >"$work/manifest.json"
digest=sha256:$(sha256sum "$work/manifest.json" | cut -d' ' -f1)
curl -sSf -o /dev/null -X PUT --data-binary "@$work/manifest.json" -H "Content-Type: $manifest_type" "$url/manifests/1.0"
curl -sS "$url/tags/list"

ask() { # reference, curl's options: prints the status, keeps the body
    printf '%-8.8s %-62s ' "$1" "${*:2}"
    curl -sS -o "$work/body" -w '%{http_code}\n' "${@:2}" "$url/manifests/$1"
}
seen=$(
    for reference in 1.0 "$digest"; do
        ask "$reference" -H 'Accept:'
        ask "$reference" -H 'Accept: */*'
        ask "$reference" -H 'Accept: application/vnd.docker.distribution.manifest.v2+json'
        ask "$reference" -H "Accept: $manifest_type"
    done
)
ask 1.0 -H 'Accept: */*' >/dev/null
echo "$seen"
cat "$work/body"
[[ $(awk '{print $NF}' <<<"$seen" | tr '\n' ' ') == '404 404 404 200 404 404 404 200 ' ]]
grep -qF '"MANIFEST_UNKNOWN","message":"OCI manifest found, but accept header does not support OCI manifests"' "$work/body"

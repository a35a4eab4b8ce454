#!/usr/bin/env bash
# skopeo 1.9.3: the digest of a copy depends on what this machine copied before.
#
# An image with an uncompressed layer (`application/vnd.oci.image.layer.v1.tar`, a layer type of the OCI image specification) is
# copied to three repositories of one registry, with one command. The first copy gets a compressed layer, and so a new manifest
# and a new digest. The second and third keep the digest: skopeo's local cache of blobs now knows where the registry has the
# uncompressed layer, and mounts it.
# Why it surprises: skopeo-copy(1) copies "an image (manifest, filesystem layers, signatures)", names no cache, and one command on
# one input gives two results without a word.
# What it means: deployments that pin a digest, signatures and SBOMs (all tied to a digest) fit the copy made from one machine and
# not the copy made from another. Compare digests after a copy, or demand them with --preserve-digests.
#
# Needs Debian's docker-registry 2.8.2 and skopeo 1.9.3. skopeo keeps its cache below XDG_DATA_HOME, or in
# /var/lib/containers/cache for root; the layer is random, so that no earlier run is remembered there.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
skopeo --version 2>/dev/null | grep -F '1.9.3' || { echo "install Debian's skopeo 1.9.3 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
export XDG_DATA_HOME=$work/home
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0"}\n' "$work/data" >"$work/config.yml"
: >"$work/log"
docker-registry serve "$work/config.yml" >>"$work/log" 2>&1 & registry=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
    [[ $port ]] && break
    sleep 0.1
done

blobs=$work/image/blobs/sha256
mkdir -p "$blobs" "$work/files"
keep() { # a file becomes a blob; prints its descriptor without the media type
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    cp "$1" "$blobs/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$(stat -c %s "$1")"
}
oci=application/vnd.oci.image
head -c 20000 /dev/urandom | base64 >"$work/files/data"
tar -cf "$work/layer" -C "$work/files" data
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(sha256sum "$work/layer" | cut -d' ' -f1)" >"$work/config"
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' "$oci.manifest.v1+json" \
    "$oci.config.v1+json" "$(keep "$work/config")" "$oci.layer.v1.tar" "$(keep "$work/layer")" >"$work/manifest"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s}]}' "$oci.manifest.v1+json" "$(keep "$work/manifest")" >"$work/image/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"

copy() { skopeo --insecure-policy copy -q --src-tls-verify=false --dest-tls-verify=false "$@"; }
digest() { skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://127.0.0.1:$port/$1"; }
# The cache goes by host name: pushed as localhost, the image is as new to 127.0.0.1 as one that another machine pushed.
copy --preserve-digests "oci:$work/image" "docker://localhost:$port/source:1"
for repository in first second third; do copy "docker://127.0.0.1:$port/source:1" "docker://127.0.0.1:$port/$repository:1"; done
for repository in source first second third; do printf '%-7s %s\n' "$repository" "$(digest "$repository:1")"; done
[[ $(digest first:1) != "$(digest source:1)" && $(digest second:1) == "$(digest source:1)" && $(digest third:1) == "$(digest source:1)" ]]

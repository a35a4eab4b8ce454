#!/usr/bin/env bash
# skopeo 1.9.3: a layer converted to zstd:chunked no longer hashes to the diff_id in the image's configuration.
#
# GNU tar fills an archive with zero bytes up to a multiple of 10,240. Converted to zstd:chunked, the layer unpacks to an archive
# without this padding: the files are the same, the bytes are not. skopeo keeps the configuration, with the old diff_id, and exits
# with 0. An archive that ends with just two zero blocks (tar -b 1) comes out unchanged, and so does either with plain zstd.
# Why it surprises: the OCI image specification (config.md, rootfs.diff_ids) makes a diff_id the digest of the uncompressed archive,
# and the option is --dest-compress-format: compression gives back what was put in. (skopeo-copy(1) lists gzip and zstd; this
# version takes zstd:chunked without a word.)
# What it means: a runtime that verifies diff_ids refuses the image, and a tool that finds equal layers by the digest of their
# content counts them as different. Compare digests of unpacked layers with the diff_ids after such a conversion, before you delete
# the source.
#
# Needs Debian's skopeo 1.9.3, zstd and GNU tar.
set -euo pipefail
skopeo --version 2>/dev/null | grep -F '1.9.3' || { echo "install Debian's skopeo 1.9.3 first" >&2; exit 77; }
command -v zstd >/dev/null || { echo "install Debian's zstd first" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_DATA_HOME=$work/home

keep() { # a file becomes a blob of the layout; prints its descriptor without the media type
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    cp "$1" "$work/image/blobs/sha256/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$(stat -c %s "$1")"
}
convert() { # tar's blocking factor, skopeo's compression: says whether the layer still has its diff_id
    local oci=application/vnd.oci.image diff_id blob digest
    rm -rf "$work/image" "$work/copy"
    mkdir -p "$work/image/blobs/sha256"
    tar -b "$1" -cf "$work/layer" -C "$work/files" one two three
    diff_id=$(sha256sum "$work/layer" | cut -d' ' -f1)
    printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$diff_id" >"$work/config"
    printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' "$oci.manifest.v1+json" \
        "$oci.config.v1+json" "$(keep "$work/config")" "$oci.layer.v1.tar" "$(keep "$work/layer")" >"$work/manifest"
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s}]}' "$oci.manifest.v1+json" "$(keep "$work/manifest")" >"$work/image/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
    skopeo --insecure-policy copy -q --dest-compress --dest-compress-format "$2" "oci:$work/image" "dir:$work/copy"
    grep -q "$diff_id" "$work"/copy/* # the configuration came along
    blob=$(grep -o '"layers":.*' "$work/copy/manifest.json" | grep -o 'sha256:[0-9a-f]*' | head -1)
    zstd -dcq "$work/copy/${blob#sha256:}" >"$work/unpacked"
    digest=$(sha256sum "$work/unpacked" | cut -d' ' -f1)
    printf 'tar -b %-2s %-12s %s -> %s bytes, members %s, diff_id ' "$1" "$2" "$(stat -c %s "$work/layer")" "$(stat -c %s "$work/unpacked")" \
        "$(tar -tf "$work/unpacked" | tr '\n' ' ')"
    [[ $digest == "$diff_id" ]] && echo kept || echo lost
}
mkdir "$work/files"
for name in one two three; do seq -f "$name %g" 2000 >"$work/files/$name"; done
seen=$(for blocking in 20 1; do for compression in zstd zstd:chunked; do convert "$blocking" "$compression"; done; done)
echo "$seen"
[[ $(awk '{print $NF}' <<<"$seen" | tr '\n' ' ') == 'kept lost kept kept ' ]]

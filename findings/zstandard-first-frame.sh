#!/usr/bin/env bash
# zstandard 0.25.0 returns the first 512 bytes of a zstd:chunked layer from half of its functions, and all of it from the others.
#
# skopeo 1.9.3 writes a layer as zstd:chunked: one zstd frame a piece of the archive, one after the other. Of zstandard's ways to
# decompress, decompress(), decompressobj() and read_to_iter() stop at the end of the first frame (one tar header) and raise
# nothing; stream_reader() and copy_stream() return the whole archive. backports.zstd, the copy of Python 3.14's own module, reads
# all frames in its decompress().
# Why it surprises: RFC 8878, 3.1 ("Frames"): the decompressed data of several concatenated frames is the concatenation of their
# data, and the OCI layer type +zstd means RFC 8878 (media-types.md). The functions of one class disagree on the same bytes.
# What it means: a scanner or an audit that unpacks layers sees an archive with the name of one file and no content, calls it
# empty and clean, and gives no error. Only layers that were compressed for lazy pulling are hit, so tests with ordinary layers pass.
# Use stream_reader(), or decompressobj(read_across_frames=True); decompress() raises "not yet implemented" for that option.
#
# Needs Debian's skopeo 1.9.3 and python3; zstandard and backports.zstd come from PyPI.
set -euo pipefail
skopeo --version 2>/dev/null | grep -F '1.9.3' || { echo "install Debian's skopeo 1.9.3 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check zstandard==0.25.0 backports.zstd==1.8.0
export XDG_DATA_HOME=$work/home

blobs=$work/image/blobs/sha256
mkdir -p "$blobs" "$work/files"
keep() { # a file becomes a blob; prints its descriptor without the media type
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    cp "$1" "$blobs/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$(stat -c %s "$1")"
}
oci=application/vnd.oci.image
for name in one two three; do seq -f "$name %g" 2000 >"$work/files/$name"; done
tar -cf "$work/layer" -C "$work/files" one two three
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(sha256sum "$work/layer" | cut -d' ' -f1)" >"$work/config"
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s",%s},"layers":[{"mediaType":"%s",%s}]}' "$oci.manifest.v1+json" \
    "$oci.config.v1+json" "$(keep "$work/config")" "$oci.layer.v1.tar" "$(keep "$work/layer")" >"$work/manifest"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s}]}' "$oci.manifest.v1+json" "$(keep "$work/manifest")" >"$work/image/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
skopeo --insecure-policy copy -q --dest-compress --dest-compress-format zstd:chunked "oci:$work/image" "dir:$work/copy"

"$work/venv/bin/python" - "$work" <<'PYTHON'
import io, json, pathlib, sys, tarfile
import zstandard
from backports import zstd

work = pathlib.Path(sys.argv[1])
layer = json.loads((work / "copy/manifest.json").read_text())["layers"][0]
data = (work / "copy" / layer["digest"].removeprefix("sha256:")).read_bytes()
print("zstandard", zstandard.__version__, layer["mediaType"], *(name for name in layer["annotations"] if "position" in name))
new, copied = zstandard.ZstdDecompressor, io.BytesIO()
new().copy_stream(io.BytesIO(data), copied)
got = {
    "decompress": new().decompress(data), "decompressobj": new().decompressobj().decompress(data),
    "read_to_iter": b"".join(new().read_to_iter(io.BytesIO(data))), "stream_reader": new().stream_reader(io.BytesIO(data)).read(),
    "copy_stream": copied.getvalue(), "backports.zstd": zstd.decompress(data),
}
for name, archive in got.items():
    print(f"{name:15}{len(archive):6} bytes")
whole = got["backports.zstd"]
assert tarfile.open(fileobj=io.BytesIO(whole)).getnames() == ["one", "two", "three"]
assert {name for name, archive in got.items() if archive == whole} == {"stream_reader", "copy_stream", "backports.zstd"}
assert {name for name, archive in got.items() if archive == whole[:512]} == {"decompress", "decompressobj", "read_to_iter"}
PYTHON

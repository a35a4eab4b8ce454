#!/usr/bin/env bash
# s3fs 2026.9.0 sends a HEAD before the GET of every small object that cat() reads whole; s3fs 2026.2.0 sends the GET alone.
#
# A bucket holds 20 objects of 71 bytes. cat() of their names is 20 GetObject with 2026.2.0, and 20 HeadObject and 20 GetObject with
# 2026.9.0, unless the names were listed just before, or max_concurrency=1 is passed: then it is 20 GetObject again.
# Why it surprises: nobody asked for parts of a file, and the call, its options and its result are the same; only the count of requests doubled.
# What it means: whoever reads many small files, as a registry's links and manifests are, pays twice for requests and for latency.
#
# Needs python3; s3fs, and moto as the server, come from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >count.py <<'PYTHON'
import collections
import sys

import s3fs
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
filesystem = s3fs.S3FileSystem(key="a", secret="b", endpoint_url=f"http://{host}:{port}", client_kwargs={"region_name": "us-east-1"})
filesystem.call_s3("create_bucket", Bucket="bucket")
names = [f"bucket/links/{number:02}/link" for number in range(20)]
for name in names:
    filesystem.pipe_file(name, b"sha256:" + b"0" * 64)


def counted(listed: bool, **options: int) -> str:
    sent = collections.Counter()
    filesystem.invalidate_cache()
    if listed:
        filesystem.find("bucket/links")
    filesystem.s3.meta.events.register_first("before-call.s3", lambda model, **_: sent.update([model.name]), unique_id="count")
    read = filesystem.cat(names, **options)
    filesystem.s3.meta.events.unregister("before-call.s3", unique_id="count")
    assert len(read) == 20 and all(len(data) == 71 for data in read.values())
    return ", ".join(f"{number} {name}" for name, number in sorted(sent.items()))


print(s3fs.__version__)
print("cat:", counted(False))
print("cat of what was listed:", counted(True))
if sys.argv[1:]:
    print("cat(max_concurrency=1):", counted(False, max_concurrency=1))
server.stop()
PYTHON
for version in 2026.2.0 2026.9.0; do
    python3 -m venv "$version"
    "$version/bin/pip" install -qq --disable-pip-version-check "s3fs==$version" "moto[server,s3]==5.2.5"
    more=()
    [[ $version == 2026.2.0 ]] || more=(one)
    "$version/bin/python" -W ignore count.py "${more[@]}" 2>err || { cat err >&2; exit 1; }
done | tee seen
diff seen - <<'EXPECTED'
2026.2.0
cat: 20 GetObject
cat of what was listed: 20 GetObject
2026.9.0
cat: 20 GetObject, 20 HeadObject
cat of what was listed: 20 GetObject
cat(max_concurrency=1): 20 GetObject
EXPECTED

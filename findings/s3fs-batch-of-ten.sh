#!/usr/bin/env bash
# s3fs 2026.9.0 with fsspec 2026.9.0, aiobotocore 3.10.0 and botocore 1.43.117: cat(paths, batch_size=64) has ten requests under way.
#
# fsspec documents batch_size as the number of coroutines to submit at a time, and takes 128 where none is given. All of them are submitted,
# and all but ten wait for a connection: botocore's max_pool_connections is 10, and nothing is said. A larger batch_size changes nothing;
# config_kwargs={"max_pool_connections": 64} does.
# Why it surprises: the option that is documented for it is accepted, and has no effect; neither library warns.
# What it means: whoever reads many small objects, as the links and manifests of a registry's bucket, waits for ten at a time. At 100 ms an
# answer that is 100 objects a second whatever is asked for, and a registry of 20,000 links takes 200 seconds instead of 31.
#
# Needs python3; the packages come from PyPI. The server is one of Python's own, on 127.0.0.1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check s3fs==2026.9.0 fsspec==2026.9.0 aiobotocore==3.10.0 botocore==1.43.117
AWS_EC2_METADATA_DISABLED=true "$work/venv/bin/python" - <<'PYTHON'
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import fsspec

lock, under_way, most = Lock(), 0, 0


class Objects(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.1)
        with lock:
            under_way -= 1
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 200


server = Server(("127.0.0.1", 0), Objects)
Thread(target=server.serve_forever, daemon=True).start()
where = {"endpoint_url": f"http://127.0.0.1:{server.server_port}"}
paths = [f"bucket/{number}" for number in range(192)]
found = {}
for batch, pool in ((None, None), (64, None), (128, None), (64, 64)):
    more = {"config_kwargs": {"max_pool_connections": pool}} if pool else {}
    files = fsspec.filesystem("s3", anon=True, client_kwargs=where, skip_instance_cache=True, **more)
    most, began = 0, time.monotonic()
    data = files.cat(paths, batch_size=batch, max_concurrency=1)
    assert set(data.values()) == {b"ok"} and len(data) == len(paths)
    found[batch, pool] = most
    print(f"batch_size {batch}, max_pool_connections {pool}: {most} at once, {time.monotonic() - began:.1f} s")
assert found[None, None] == found[64, None] == found[128, None] == 10, found
assert found[64, 64] > 32, found
PYTHON

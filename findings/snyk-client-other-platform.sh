#!/usr/bin/env bash
# @snyk/docker-registry-v2-client 4.0.5: asked for linux/amd64, getManifest returns the arm64 image if the index has no other.
#
# An index holds one image, linux/arm64. getManifest with the platform linux/amd64 resolves to that image without an error.
# With a second image in the index (linux/s390x), the same question fails as it should.
# Why it surprises: the documentation of getManifest says that it throws "when the specified platform cannot be found in a
# multi-architecture manifest"; whether it does depends on how many other platforms there are. In the OCI image index, platform
# says what the image requires (image-index.md).
# What it means: a scanner or a size report that asks for linux/amd64 shows another platform's packages and bytes under that name.
# Compare `architecture` in the image's configuration with what you asked for.
#
# Needs node, npm and python3 (which plays the registry: two indexes, and the manifests that they name).
set -euo pipefail
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
command -v npm >/dev/null || { echo "install Debian's npm first" >&2; exit 77; }
npm install --loglevel=error --no-audit --no-fund --prefix "$work" @snyk/docker-registry-v2-client@4.0.5 >/dev/null
cat >"$work/registry.py" <<'PYTHON'
import hashlib, http.server, json

OCI = "application/vnd.oci.image."
IMAGE, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"
held = {}

def keep(reference, media_type, document):
    data = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    held[reference or digest] = media_type, data
    return {"mediaType": media_type, "digest": digest, "size": len(data)}

def image(architecture):
    config = keep(None, OCI + "config.v1+json", {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
    manifest = keep(None, IMAGE, {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": []})
    return manifest | {"platform": {"os": "linux", "architecture": architecture}}

keep("one", INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [image("arm64")]})
keep("two", INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [image("arm64"), image("s390x")]})

class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        media_type, data = held[self.path.rsplit("/", 1)[1]]
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
python3 "$work/registry.py" >"$work/port" 2>/dev/null & registry=$!
for _ in {1..100}; do [[ -s $work/port ]] && break; sleep 0.1; done
cat >"$work/ask.mjs" <<'NODE'
import assert from 'node:assert'
import client from '@snyk/docker-registry-v2-client'
const host = `127.0.0.1:${process.argv[2]}`, options = { protocol: 'http:' }
const accept = { ...options, acceptManifest: 'application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json' }
const ask = async (tag) => {
  const manifest = await client.getManifest(host, 'app', tag, undefined, undefined, accept, { os: 'linux', architecture: 'amd64' })
  return (await client.getImageConfig(host, 'app', manifest.config.digest, undefined, undefined, options)).architecture
}
const answers = {}
for (const tag of ['one', 'two']) answers[tag] = await ask(tag).catch((error) => `error: ${error.message}`)
console.log('asked for linux/amd64:', answers)
assert.equal(answers.one, 'arm64')
assert.match(answers.two, /^error: /)
NODE
node "$work/ask.mjs" "$(cat "$work/port")"

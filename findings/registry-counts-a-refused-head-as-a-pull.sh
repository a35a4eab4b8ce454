#!/usr/bin/env bash
# docker-registry 2.8.2 notifies of a "pull" for a request that it answered with 404, and gave no byte for.
#
# A HEAD of an OCI manifest without an Accept header is answered 404, as clients of before OCI would not understand it. The event of
# that request says action "pull", with the digest and the tag, as for a GET that was answered 200.
# Why it surprises: by the documentation a pull event says that content was pulled; what is sent here is an event of a question that
# was refused.
# What it means: a dashboard or a cleanup by last pull counts every monitoring probe and every tool that asks by HEAD with an older
# list of types as a pull. Images that nobody can pull that way stay "in use". Nothing in the event tells the two apart: method is HEAD
# for both, and the answer's status is not in it.
#
# Needs Debian's docker-registry 2.8.2, curl and python3.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} ${listener:-} 2>/dev/null || true; rm -rf "$work"' EXIT
cat >"$work/listener.py" <<'PY'
import http.server, json, sys

class Events(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        for event in json.loads(self.rfile.read(int(self.headers["Content-Length"])))["events"]:
            target = event["target"]
            if "manifest" in target.get("mediaType", ""):
                print(event["action"], event["request"]["method"], target.get("tag", "-"), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Events)
print(server.server_port, file=open(sys.argv[1], "w"), flush=True)
server.serve_forever()
PY
python3 "$work/listener.py" "$work/port" >"$work/events" & listener=$!
for _ in {1..100}; do [[ -s $work/port ]] && break; sleep 0.1; done
cat >"$work/config.yml" <<YAML
version: 0.1
storage: {filesystem: {rootdirectory: $work/data}}
http: {addr: "127.0.0.1:0"}
notifications:
  endpoints: [{name: here, url: "http://127.0.0.1:$(cat "$work/port")/", timeout: 5s, threshold: 3, backoff: 1s}]
YAML
docker-registry serve "$work/config.yml" >"$work/log" 2>&1 & registry=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
    [[ $port ]] && break
    sleep 0.1
done
url=http://127.0.0.1:$port/v2/team/app
printf '{}' >"$work/config.json"
config=sha256:$(sha256sum "$work/config.json" | cut -d' ' -f1)
place=$(curl -sS -X POST -D - -o /dev/null "$url/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
curl -sSf -o /dev/null -X PUT --data-binary "@$work/config.json" -H 'Content-Type: application/octet-stream' "$place&digest=$config"
type=application/vnd.oci.image.manifest.v1+json
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},"layers":[]}' \
    "$type" "$config" >"$work/manifest.json"
curl -sSf -o /dev/null -X PUT --data-binary "@$work/manifest.json" -H "Content-Type: $type" "$url/manifests/1.0"
sleep 1
: >"$work/events.before"; cp "$work/events" "$work/events.before"
echo "events of the push: $(tr '\n' ';' <"$work/events.before")"
status=$(curl -sS -I -o /dev/null -w '%{http_code}' "$url/manifests/1.0")
sleep 1
after=$(tail -n "+$(($(wc -l <"$work/events.before") + 1))" "$work/events")
echo "HEAD without Accept: answered $status, events: $after"
[[ $status == 404 && $after == "pull HEAD 1.0" ]]
curl -sS -I -o /dev/null -H "Accept: $type" "$url/manifests/1.0"
sleep 1
echo "the event of a HEAD that was answered 200: $(tail -n 1 "$work/events")"
[[ $(tail -n 1 "$work/events") == "$after" ]]

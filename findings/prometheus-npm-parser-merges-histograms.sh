#!/usr/bin/env bash
# parse-prometheus-text-format 1.1.1 (npm) makes one histogram out of all of a registry's, without labels, sum and count.
#
# docker-registry's /metrics has a histogram of request durations a handler and method. The npm parser returns a single histogram
# for the whole family: no labels, each bucket overwritten by the series that came last, no sum, no count. Python's
# prometheus-client 0.26.0 returns every series of the same text. Families that are counters come through whole in both.
# Why it surprises: the exposition format (Histograms and summaries) allows any labels beside `le`, and the README promises
# output compatible with prom2json, which keeps one entry per set of labels. No warning, and plausible figures.
# What it means: a dashboard or an alert on "slow manifest requests" that is fed by this parser shows whichever handler is printed
# last, and a latency average cannot be computed at all. Let Prometheus read the endpoint, or sum the text by yourself.
#
# Needs Debian's docker-registry 2.8.2, curl, node, npm and python3; the parsers come from npm and PyPI.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
command -v npm >/dev/null || { echo "install Debian's npm first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check prometheus-client==0.26.0
npm install --loglevel=error --no-audit --no-fund --prefix "$work" parse-prometheus-text-format@1.1.1 >/dev/null
# The debug server does not log the port that it got for 0, so a free one is asked for first.
debug=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0", debug: {addr: "127.0.0.1:%s", prometheus: {enabled: true}}}\n' \
    "$work/data" "$debug" >"$work/config.yml"
: >"$work/log"
docker-registry serve "$work/config.yml" >>"$work/log" 2>&1 & registry=$!
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
    [[ $port ]] && break
    sleep 0.1
done
for path in / /_catalog /_catalog /team/app/tags/list; do curl -sS -o /dev/null "http://127.0.0.1:$port/v2$path"; done
curl -sSf "http://127.0.0.1:$debug/metrics" | grep -E '^(# TYPE )?registry_http_request(s_total|_duration_seconds)' >"$work/metrics.txt"

cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
from prometheus_client.parser import text_string_to_metric_families
print("prometheus-client:")
for family in text_string_to_metric_families(open("metrics.txt").read()):
    if family.type == "histogram":
        counts = {sample.labels["handler"]: sample.value for sample in family.samples if sample.name.endswith("_count")}
        print(" ", family.name, counts)
        assert counts == {"base": 1, "catalog": 2, "tags": 1}
PYTHON
node - <<'NODE'
const assert = require('node:assert')
const families = require('parse-prometheus-text-format')(require('node:fs').readFileSync('metrics.txt', 'utf8'))
const [histogram] = families.filter((family) => family.type === 'HISTOGRAM')
console.log(`parse-prometheus-text-format:\n  ${histogram.name}`, JSON.stringify(histogram.metrics))
assert.equal(histogram.metrics.length, 1)
assert.deepEqual(Object.keys(histogram.metrics[0]), ['buckets'])
assert.equal(histogram.metrics[0].buckets['+Inf'], '1')
assert.equal(families.find((family) => family.type === 'COUNTER').metrics.length, 3)
NODE

#!/usr/bin/env bash
# distribution 2.8.2 (Debian's docker-registry): with AWS_CA_BUNDLE in its environment its driver for S3 panics at the start.
#
# The variable is the one by which every AWS SDK and tool is told of a private certificate authority. docker-registry serve and
# docker-registry garbage-collect both end with a Go panic, "unable to load custom CA bundle, HTTPClient's transport unsupported
# type", before a connection is tried: also where the endpoint is plain http and where the bundle is a valid one. Without the
# variable the same configuration starts.
# Why it surprises: the AWS SDK for Go documents AWS_CA_BUNDLE; the driver hands the SDK a transport of its own type.
# What it means: beside a storage with a private certificate authority, put the certificate into the system's store, and take the
# variable out of the registry's environment, also in a cluster where it is injected into every pod.
#
# Needs docker-registry (apt-get install docker-registry) and python3 with certificates in /etc/ssl.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
docker-registry --version
cat > "$work/config.yml" <<'YAML'
version: 0.1
storage:
  s3: {accesskey: a, secretkey: b, region: us-east-1, bucket: registry, regionendpoint: "http://127.0.0.1:1", secure: false, v4auth: true}
http: {addr: "127.0.0.1:0"}
YAML
bundle=/etc/ssl/certs/ca-certificates.crt
echo "with AWS_CA_BUNDLE=$bundle:"
! AWS_CA_BUNDLE=$bundle timeout 20 docker-registry serve "$work/config.yml" > "$work/with" 2>&1
grep -m 1 -o "panic: .*" "$work/with"
grep -q "LoadCustomCABundleError" "$work/with"
echo "without it:"
env -u AWS_CA_BUNDLE timeout 3 docker-registry serve "$work/config.yml" > "$work/without" 2>&1 || [ $? = 124 ]
! grep -q panic "$work/without"
grep -m 1 -o 'listening on [^"]*' "$work/without"

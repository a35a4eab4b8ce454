#!/usr/bin/env bash
# docker-registry 2.8.2 with http.prefix and http.relativeurls answers uploads with a Location that lacks the prefix.
#
# POST /team/registry/v2/app/blobs/uploads/ is answered 202 with "Location: /v2/app/blobs/uploads/UUID?_state=…", where the registry
# itself answers 404. Without relativeurls the Location is absolute and has the prefix, and the Link header of the catalog has it in
# both cases.
# Why it surprises: both options are documented, relativeurls for registries behind a proxy, which is where a prefix is used, too.
# What it means: reads work and every push fails. A client can put a relative address below the path that it was given.
#
# Needs Debian's docker-registry 2.8.2 and curl.
set -euo pipefail
docker-registry --version 2>/dev/null | grep -F '2.8.2' || { echo "install Debian's docker-registry 2.8.2 first" >&2; exit 77; }
work=$(mktemp -d)
trap 'kill ${registry:-} 2>/dev/null || true; rm -rf "$work"' EXIT
for relative in false true; do
    printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0", prefix: /team/registry/, relativeurls: %s}\n' \
        "$work/data" "$relative" >"$work/config.yml"
    : >"$work/log"
    docker-registry serve "$work/config.yml" >>"$work/log" 2>&1 & registry=$!
    for _ in {1..100}; do
        port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$work/log")
        [[ $port ]] && break
        sleep 0.1
    done
    url=http://127.0.0.1:$port
    location=$(curl -sS -X POST -D - -o /dev/null "$url/team/registry/v2/app/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
    [[ $location == /* ]] && location=$url$location
    status=$(curl -sS -o /dev/null -w '%{http_code}' "$location")
    below=${location#"$url"}
    echo "relativeurls $relative: ${below%%uploads/*}uploads/… is asked for, and answered $status"
    if [[ $relative == false ]]; then
        [[ $below == /team/registry/v2/app/blobs/uploads/* && $status == 204 ]]
    else
        [[ $below == /v2/app/blobs/uploads/* && $status == 404 ]]
    fi
    kill "$registry"
    wait "$registry" || true
done

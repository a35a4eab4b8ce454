#!/usr/bin/env bash
# dockerfile-parse 2.0.1 names base images that a valid Dockerfile does not use, and misses the one that it does.
#
# The Dockerfile builds on registry.example/base:1.27, with a default inside the reference (`${VERSION:-latest}`), and writes a file
# from a here-document with a line "FROM registry.example/old:1.0" in it. parent_images lists "registry.example/base:1.27:-latest}",
# and the image out of the text. The npm package dockerfile-ast 0.7.1 finds one FROM, and its reference as it was written.
# Why it surprises: the Dockerfile reference documents both (Environment replacement: "${variable:-word}"; Here-Documents), and the
# docstring promises a "list of parent images -- one image per each stage's FROM instruction". Nothing raises or warns.
# What it means: who computes "images that some Dockerfile still needs" with it protects names that do not exist, and leaves
# registry.example/base:1.27 to be deleted. Treat a name that is not a valid reference as "not known", never as "not needed".
#
# Needs python3, node and npm; dockerfile-parse comes from PyPI, dockerfile-ast from npm.
set -euo pipefail
command -v npm >/dev/null || { echo "install Debian's npm first" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check dockerfile-parse==2.0.1
npm install --loglevel=error --no-audit --no-fund --prefix "$work" dockerfile-ast@0.7.1 >/dev/null

cat >"$work/Dockerfile" <<'DOCKERFILE'
# syntax=docker/dockerfile:1
ARG VERSION=1.27
FROM registry.example/base:${VERSION:-latest} AS build
COPY <<TEMPLATE /template
FROM registry.example/old:1.0
TEMPLATE
DOCKERFILE

"$work/venv/bin/python" - "$work/Dockerfile" <<'PYTHON'
import sys
from importlib.metadata import version
from dockerfile_parse import DockerfileParser

with open(sys.argv[1], "rb") as file:
    names = DockerfileParser(fileobj=file).parent_images
print("dockerfile-parse", version("dockerfile-parse"), names)
assert names == ["registry.example/base:1.27:-latest}", "registry.example/old:1.0"]
PYTHON
cd "$work"
node - <<'NODE'
const assert = require('node:assert')
const { DockerfileParser } = require('dockerfile-ast')
const dockerfile = DockerfileParser.parse(require('node:fs').readFileSync('Dockerfile', 'utf8'))
const names = dockerfile.getFROMs().map((from) => from.getImage())
console.log('dockerfile-ast', require('dockerfile-ast/package.json').version, names)
assert.deepEqual(names, ['registry.example/base:${VERSION:-latest}'])
NODE

#!/usr/bin/env bash
# packageurl-python 0.17.6 and packageurl-js 2.0.1 write two different purls for one container image.
#
# Both read pkg:oci/app@sha256:...?repository_url=localhost:5000/team/app, find the same parts in it, and write it back in what each
# calls the canonical form. Python leaves "localhost:5000/team/app" as it is; JavaScript writes "localhost%3A5000%2Fteam%2Fapp".
# Each reads the other's form and writes its own.
# Why it surprises: a purl is made to be compared as a string, both packages come from the specification's own organisation, and the
# specification (ECMA-427, 5.4 "Character encoding") says that the colon is never percent-encoded, as a separator or otherwise. pkg:oci is
# hit more than other types, because repository_url holds a slash for every image, and a colon wherever a port is named.
# What it means: joining an inventory from one ecosystem to SBOMs or a vulnerability feed from the other finds nothing, and says
# "no findings". Parse both sides with one library, and compare what it writes.
#
# Needs python3, node and npm; the packages come from PyPI and npm.
set -euo pipefail
command -v npm >/dev/null || { echo "install Debian's npm first" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check packageurl-python==0.17.6
npm install --loglevel=error --no-audit --no-fund --prefix "$work" packageurl-js@2.0.1 >/dev/null
cd "$work"
cat >canonical.py <<'PYTHON'
import sys
from packageurl import PackageURL
purl = PackageURL.from_string(sys.argv[1])
print(purl.to_string())
print(purl.type, purl.name, purl.version, *(f"{key}={value}" for key, value in sorted(purl.qualifiers.items())), file=sys.stderr)
PYTHON
cat >canonical.js <<'NODE'
const { PackageURL } = require('packageurl-js')
const purl = PackageURL.fromString(process.argv[2])
console.log(purl.toString())
console.error(purl.type, purl.name, purl.version, ...Object.entries(purl.qualifiers).sort().map(([key, value]) => `${key}=${value}`))
NODE
purl="pkg:oci/app@sha256:$(printf 'a%.0s' {1..64})?arch=amd64&repository_url=localhost:5000/team/app"
python=$(venv/bin/python canonical.py "$purl" 2>python.parts)
javascript=$(node canonical.js "$purl" 2>javascript.parts)
printf 'packageurl-python 0.17.6: %s\npackageurl-js 2.0.1:      %s\nparts in both: %s\n' "$python" "$javascript" "$(cat python.parts)"
cmp python.parts javascript.parts
[[ $python == "$purl" && $javascript == "${purl/localhost:5000\/team\/app/localhost%3A5000%2Fteam%2Fapp}" ]]
[[ $(venv/bin/python canonical.py "$javascript" 2>/dev/null) == "$python" && $(node canonical.js "$python" 2>/dev/null) == "$javascript" ]]

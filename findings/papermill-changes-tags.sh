#!/usr/bin/env bash
# papermill 2.7.0: `-p tag VALUE` changes image tags that look like numbers, even where the notebook declares a string.
#
# A notebook has the parameter `tag: str = "latest"`, and `papermill --help-notebook` prints it as "tag: str". Five valid tags are
# passed with -p. What the notebook gets: 1.10 becomes 1.1, the date tag 2024_01 becomes 202401, 0815 becomes 815, and the short
# commit hashes 12345e6 and 7e10331 become 12345000000.0 and infinity.
# Why it surprises: papermill reads the declared type and shows it, and -p ignores it. Tags are text: the distribution specification
# ("Pulling manifests") allows digits, underscores and dots anywhere. An underscore between digits goes because Python's
# int() accepts it. -r passes the text unchanged.
# What it means: a runbook that retags or deletes "1.10" acts on "1.1", which may well exist. Pass tags with -r, or with -y in quotes.
#
# Needs python3; papermill, with a Jupyter kernel, comes from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check papermill==2.7.0 ipykernel==7.1.0
cd "$work"
cat >runbook.ipynb <<'JSON'
{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
 "language_info": {"name": "python"}}, "cells": [
 {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "execution_count": null, "outputs": [], "source": "tag: str = \"latest\""},
 {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": null, "outputs": [], "source": "tag"}]}
JSON
venv/bin/papermill --version
declared=$(venv/bin/papermill --help-notebook runbook.ipynb 2>/dev/null | grep 'tag:')
passed() { # option, tag: what the notebook gets
    venv/bin/papermill --prepare-only runbook.ipynb out.ipynb "$1" tag "$2" >/dev/null 2>&1
    venv/bin/python -c 'import json; print(json.load(open("out.ipynb"))["cells"][1]["source"][1].strip())'
}
seen=$(for tag in 1.10 2024_01 0815 12345e6 7e10331; do printf '%-8s -p: %-24s -r: %s\n' "$tag" "$(passed -p "$tag")" "$(passed -r "$tag")"; done)
printf '%s\n%s\n' "$declared" "$seen"
[[ $declared == *'tag: str (default "latest")'* ]]
diff - <(echo "$seen") <<'EXPECTED'
1.10     -p: tag = 1.1                -r: tag = "1.10"
2024_01  -p: tag = 202401             -r: tag = "2024_01"
0815     -p: tag = 815                -r: tag = "0815"
12345e6  -p: tag = 12345000000.0      -r: tag = "12345e6"
7e10331  -p: tag = float('inf')       -r: tag = "7e10331"
EXPECTED

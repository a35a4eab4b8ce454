#!/usr/bin/env bash
# plotly 7.1.0 loads nbformat, jsonschema and all of its format checkers when a notebook shows its first chart, to compare one version number.
#
# A figure is built and turned into the JSON that a notebook draws; then a cell shows it with the renderer plotly_mimetype, which needs no more
# than that JSON. Showing it imports nbformat, and that jsonschema, and where jupyter-events is installed (as with every JupyterLab) also
# arrow, fqdn, webcolors and others: far more modules than building the chart took, and no notebook is read, written or validated.
# Why it surprises: the JSON is complete before; nbformat's only use there is the test that it is 4.2.0 or newer.
# What it means: each kernel that shows a chart holds some 20 MB that no chart needs, unless it is forked from a process that has them.
#
# Needs python3; plotly, ipython, nbformat and jupyter-events come from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >show.py <<'PYTHON'
import os
import sys

os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
import plotly
import plotly.graph_objects as go
from IPython.core.interactiveshell import InteractiveShell

WATCHED = ("nbformat", "jsonschema", "arrow", "fqdn", "webcolors")
shell = InteractiveShell.instance()
shell.display_formatter.active_types = ["application/vnd.plotly.v1+json", "text/plain"]
figure = go.Figure(go.Bar(y=[1, 2, 3]))
figure.to_json()
print("plotly", plotly.__version__)
before = set(sys.modules)
print("loaded when the JSON is there:", sorted(before & {*WATCHED}))
figure._ipython_display_()
more = set(sys.modules) - before
print("loaded to show it:", sorted(more & {*WATCHED}))
print("more than a hundred modules of neither plotly nor IPython:",
      len([name for name in more if not name.lstrip("_").startswith(("plotly", "IPython"))]) > 100)
PYTHON
python3 -m venv here
here/bin/pip install -qq --disable-pip-version-check plotly==7.1.0 ipython==9.18.1 nbformat==5.11.1 jupyter-events==0.12.1 jsonschema==4.26.0
here/bin/python -W ignore show.py 2>err | grep -v -e '^Figure' -e '^{' | tee seen
diff seen - <<'EXPECTED'
plotly 7.1.0
loaded when the JSON is there: []
loaded to show it: ['arrow', 'fqdn', 'jsonschema', 'nbformat', 'webcolors']
more than a hundred modules of neither plotly nor IPython: True
EXPECTED

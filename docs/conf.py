"""Sphinx: the documentation site, from these pages, the docstrings, the command line and the columns of every frame."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import site_pages  # noqa: E402 -- it lies beside this file

import regnb  # noqa: E402

project = "regnb"
author = "The regnb authors"
copyright = author  # noqa: A001 -- Sphinx's name for it
release = version = regnb.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "README.md"]
nb_execution_mode = "off"  # `make docs` executes the notebooks on the sample registry before
nb_ipywidgets_js: dict[str, object] = {}  # a form is a sentence here, and nothing comes from the network
nb_mime_priority_overrides = [("html", "text/html", 0)]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures stand in the docstrings' words
autodoc_inherit_docstrings = False
highlight_language = "none"  # a block without a language is typed into a shell, or is a drawing
smartquotes_action = "q"  # --probe stays what one types, and does not get a dash
napoleon_use_ivar = True  # an attribute is described once
suppress_warnings = ["mystnb.unknown_mime_type"]

html_theme = "furo"
html_title = f"regnb {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def setup(app: Any) -> None:
    """Write the pages that the code says better before Sphinx looks for pages."""
    site_pages.write(HERE / "generated")
    charts = json.loads((HERE / "generated" / "charts.json").read_text(encoding="utf-8"))
    if charts:
        app.add_js_file("plotly.min.js", loading_method="defer")
        site_pages.script(HERE / "generated" / "static")
        html_static_path.append("generated/static")

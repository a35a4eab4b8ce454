"""The pages of the site that are made from the code: commands, classes, columns, and the notebooks as tutorials."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly
import plotly.io
import typer
from msgspec import Struct

import regnb
from regnb.cli import app
from regnb.tables.columns import COLUMNS

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "build" / "tutorials"
"""Executed notebooks, as `make docs` leaves them."""
PLOTLY = "application/vnd.plotly.v1+json"
FIRST = ("connect", "Registry", "open_storage", "Storage", "read", "Inventory", "Reclaim", "Sharing", "Plan", "Receipt")
"""The order in which a newcomer meets them; the rest follow by name."""


def write(folder: Path) -> None:
    """Write every page into a folder, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tutorials").mkdir(parents=True)
    (folder / "static").mkdir()
    pages = {"commands.md": commands(), "python.md": python(), "columns.md": columns()}
    for name, lines in pages.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    charts = 0
    names = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found = sorted(RECORDS.glob(f"{path.stem}-*.ipynb"))[-1:] or [path]
        notebook = json.loads(found[0].read_text(encoding="utf-8"))
        charts += drawn(notebook)
        (folder / "tutorials" / path.name).write_text(json.dumps(notebook), encoding="utf-8")
        names.append(path.stem)
    (folder / "charts.json").write_text(json.dumps(charts), encoding="utf-8")
    index = ["# Tutorials", "", "Each notebook of regnb, as it ran on the sample registry of `make demo`."]
    index += ["Buttons and forms work in JupyterLab (`regnb lab`) and on the web pages (`regnb ui`).", ""]
    index += ["```{toctree}", ":maxdepth: 1", "", *names, "```", ""]
    (folder / "tutorials" / "index.md").write_text("\n".join(index), encoding="utf-8")


def drawn(notebook: dict[str, Any]) -> int:
    """Turn each chart of a notebook into HTML, and each widget into a sentence; return how many charts there were."""
    charts = 0
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        outputs = cell["outputs"]
        for output in outputs:
            data = output.get("data")
            if data is None:
                continue
            if PLOTLY in data:
                charts += 1
                figure = plotly.io.from_json(json.dumps(data[PLOTLY]), skip_invalid=True)
                html = plotly.io.to_html(figure, include_plotlyjs=False, full_html=False)
                output["data"] = {
                    "text/html": html.replace('<script type="text/javascript">', '<script type="module">')
                }
            elif any("widget-view" in kind for kind in data):
                output["data"] = {"text/markdown": "*A form, in JupyterLab and on the web pages.*"}
            else:
                output["data"] = {kind: text for kind, text in data.items() if kind in ("text/html", "text/plain")}
        cell["outputs"] = [each for each in outputs if each["output_type"] != "stream" or each["name"] == "stdout"]
    return charts


def script(folder: Path) -> None:
    """Lay plotly's own script into a folder: the site needs no network."""
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder)


def tree(group: Any, path: tuple[str, ...] = ("regnb",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command with its words, in the order in which the help lists them."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from tree(command, (*path, name))
        else:
            yield (*path, name), command


def commands() -> list[str]:
    """Return the page of every command: how it is called, what it does, each argument and option."""
    lines = ["# Commands", "", "Every command, as `regnb COMMAND --help` describes it.", ""]
    for path, command in tree(typer.main.get_command(app)):
        context = command.make_context(" ".join(path), [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        lines += [f"## {' '.join(path)}", "", "```text", f"{' '.join(path)} {usage}", "```", "", command.help or "", ""]
        rows = []
        for one in command.params:
            if one.name == "help" or getattr(one, "hidden", False):
                continue
            shown = (one.metavar or one.name.upper()) if one.param_type_name == "argument" else ", ".join(one.opts)
            rows.append(f"| `{cell(shown)}` | {cell(getattr(one, 'help', '') or '')} |")
        if rows:
            lines += ["| argument or option | what it does |", "|---|---|", *rows, ""]
    return lines


def python() -> list[str]:
    """Return the page of every public name, from the docstrings."""
    lines = ["# Python", "", "Everything that `import regnb` offers, in the order in which one meets it.", ""]
    for name in (*FIRST, *sorted(set(regnb.__all__) - set(FIRST))):
        value = getattr(regnb, name)
        kind = "autoclass" if isinstance(value, type) else "autofunction"
        options = ["   :members:"] if kind == "autoclass" else []
        if isinstance(value, type) and issubclass(value, Struct):
            options.append("   :inherited-members: Struct")  # what every plan has
        target = f"{value.__module__}.{value.__qualname__}"
        lines += [f"## {name}", "", "```{eval-rst}", f".. {kind}:: {target}", *options, "```", ""]
    return lines


def columns() -> list[str]:
    """Return the page of every column of every DataFrame."""
    lines = ["# Columns", "", "Every DataFrame that regnb makes, with each column's type and meaning.", ""]
    for frame, described in COLUMNS.items():
        lines += [f"## {frame}", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | {kind} | {cell(meaning)} |" for name, (kind, meaning) in described.items()]
        lines.append("")
    return lines


def cell(text: str) -> str:
    """Return a text as it may stand in a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())

"""The command that reads many registries at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from typer import Argument, Option

from regnb.cli.command import command_of
from regnb.cli.terminal import DRIFT, INCOMPLETE, OVER, Form, leave, out, section, show
from regnb.crawl.files import file_errors
from regnb.crawl.records import NOTES
from regnb.fleets import Fleet
from regnb.fleets import fleet as read
from regnb.text import count, human

app = typer.Typer()
command = command_of(app)


@command
def fleet(
    file: Annotated[
        Path,
        Argument(
            metavar="FILE",
            help="A TOML file with one table named registry for each registry: name and url.",
            envvar="REGNB_FLEET",
        ),
    ],
    fail_on_drift: Annotated[
        bool, Option("--fail-on-drift", help="Exit with 3 if a mirror lacks a tag, or its tag points elsewhere.")
    ] = False,
    fail_on_problems: Annotated[bool, Option("--fail-on-problems", help="Exit with 2 if there are problems.")] = False,
    report: Annotated[
        str, Option("--report", metavar="FILE", help="Also write a report: one HTML file that needs no network.")
    ] = "",
    no_cache: Annotated[bool, Option("--no-cache", help="Read everything from the registries.")] = False,
    json_: Annotated[Form, Option("--json", help="Print one JSON document; errors are JSON too.")] = "",
) -> None:
    """Read many registries at once: contents, blobs that are stored twice, and tags that a mirror lacks.

    A registry that is down becomes a row. Exit code 0: all is well, 1: error, 2: there are problems, 3: a mirror
    differs, 4: a registry is down, or something in one could not be read.
    """
    found = read(file, cached=not no_cache)
    twice, mirrors = found.twice, found.mirrors
    if report:
        _report(found, Path(report), file)
    if json_ == "csv":
        show(found.registries, json_)
    elif json_:
        frames = {"registries": found.registries, "twice": twice, "mirrors": mirrors, "problems": found.problems}
        document = {
            name: json.loads(rows.to_json(orient="records", date_format="iso")) for name, rows in frames.items()
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        again = sum(twice["again"].tolist())
        out.print(f"[bold]{escape(repr(found)[1:-1])}[/]", soft_wrap=True)
        down = found.registries["state"] == "down"
        section(found.registries.drop(columns=["url", "message", "hint", "pulled"]), "Registries")
        section(found.registries[down][["registry", "url", "message"]], "Down")
        section(mirrors.drop(columns=["first", "second"]), "What mirrors lack, or have otherwise", 50)
        section(twice.drop(columns="digest"), f"Stored in several registries: {human(again)} more than once", 10)
        section(found.problems.drop(columns="incomplete"), "Problems", 50)
    reasons = [(INCOMPLETE, f"Down: {name}: {error.message}") for name, error in found.errors.items()]
    problems = found.problems[~found.problems["problem"].isin(NOTES)]
    if fail_on_problems and len(problems):
        where = ", ".join(dict.fromkeys(problems["registry"]))
        reasons.append((OVER, f"{count(len(problems), 'problem')} in {where}."))
    differing = mirrors[mirrors["state"].isin(["missing", "drifted"])]
    if fail_on_drift and len(differing):
        rows = ", ".join(
            f"{row.mirror} {row.repository}:{row.tag} {row.state}" for row in differing.head(5).itertuples()
        )
        reasons.append((DRIFT, f"{count(len(differing), 'tag')} of mirrors differ: {rows}"))
    leave(reasons, *found.inventories.values())


def _report(found: Fleet, path: Path, file: Path) -> None:
    """Write the report."""
    from regnb.pages.report import fleet_report  # an extra

    page = fleet_report(found, command=f"regnb fleet {file} --report {path}")
    with file_errors(f"write the report {path}"):
        path.write_text(page, encoding="utf-8")

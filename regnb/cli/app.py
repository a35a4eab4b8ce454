"""The command line as a whole: its commands, loaded when they are called, and its errors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, MutableMapping
from types import MappingProxyType
from typing import Annotated, Any, Final, NamedTuple

from regnb import log
from regnb.environment import variable
from regnb.errors import EmptyCatalog, InvalidArgument, LimitExceeded, MissingExtra, RegnbError

try:
    import typer
    from typer import Option
    from typer.core import TyperCommand
    from typer.exceptions import TyperException
except ImportError as error:
    raise MissingExtra(error.name or "typer", "cli") from None

from regnb.cli.completion import words_with_colons
from regnb.cli.help import Group
from regnb.cli.terminal import (
    ERROR,
    EXCESSIVE,
    INCOMPLETE,
    OK,
    Concurrency,
    NoProgress,
    Quiet,
    Timeout,
    as_json,
    err,
    heed,
    report_error,
)


class Entry(NamedTuple):
    """Where a command is, and how the list of commands shows it."""

    module: str
    panel: str
    help: str


COMMANDS: Final = MappingProxyType(
    {
        "health": Entry(
            "audits",
            "Read",
            "Check a registry: API version, authentication, catalog, referrers and (with --probe) deletion.",
        ),
        "audit": Entry("audit", "Read", "Read a registry or its storage and print what it holds."),
        "catalog": Entry("images", "Read", "List the repositories."),
        "tags": Entry("images", "Read", "List the tags of a repository."),
        "digest": Entry("images", "Read", "Print the digest that a tag points to."),
        "manifest": Entry("images", "Read", "Print a manifest, byte for byte."),
        "image": Entry(
            "images",
            "Read",
            "Print one image: names, size, layers and the steps that made them, config, referrers, who shares it.",
        ),
        "layers": Entry("images", "Read", "List the layers of an image, their sizes and the commands that made them."),
        "files": Entry(
            "contents",
            "Read",
            "List the files of an image over its layers, their sizes, and the bytes that later layers hide.",
        ),
        "cat": Entry(
            "contents",
            "Read",
            "Print the file that an image shows at a path, byte for byte; symbolic links are followed.",
        ),
        "packages": Entry("contents", "Read", "List the packages that an image holds."),
        "sboms": Entry("contents", "Read", "List the packages in the SBOMs attached to an image (SPDX or CycloneDX)."),
        "bases": Entry(
            "contents", "Read", "Show which base each image is built on, and how many releases that base is behind."
        ),
        "scans": Entry(
            "contents",
            "Read",
            "Join reports of trivy and grype with the images, and with the images that a cluster runs.",
        ),
        "hygiene": Entry(
            "contents",
            "Read",
            "Find what an image should not contain (secrets, root, caches, build tools), with a remedy for each.",
        ),
        "find": Entry(
            "audits",
            "Read",
            "Find tags by name, reference, digest (of an image or a layer) or label, and print how to pull each.",
        ),
        "request": Entry(
            "images", "Read", "Send a request as curl does and print the answer; a request that writes becomes a plan."
        ),
        "gc": Entry("verdict", "Space", "Show what registry garbage-collect would remove now, without running it."),
        "reclaim": Entry(
            "audits",
            "Space",
            "Show what deleting tags would free with each kind of garbage collection, and which images keep the rest.",
        ),
        "free": Entry(
            "audits",
            "Space",
            "Propose tags to delete so that a garbage collection frees SIZE; with --plan-out, plan their deletion.",
        ),
        "waste": Entry(
            "contents",
            "Space",
            "Show the bytes that later layers hide and the bytes that several layers repeat, over many images.",
        ),
        "collect": Entry(
            "collecting",
            "Space",
            "Plan to move the unused data of a storage into its trash, and apply the plan once its code is typed.",
        ),
        "trash": Entry(
            "collecting",
            "Space",
            "List, restore or permanently remove what collections moved into the trash of a storage.",
        ),
        "pulls": Entry(
            "pulls",
            "Space",
            "Read access logs of nginx or docker-registry, and record when each image was last pulled.",
        ),
        "listen": Entry(
            "pulls",
            "Space",
            "Receive the notifications that docker-registry sends, and record each pull, until Ctrl-C.",
        ),
        "reconcile": Entry("audits", "Space", "Explain why a registry's disk holds more than its API shows."),
        "snapshots": Entry(
            "audits", "Over time, and side by side", "List the snapshots that regnb audit --snapshot saved."
        ),
        "growth": Entry(
            "audits",
            "Over time, and side by side",
            "Show how a registry grew from snapshot to snapshot, and when its disk will be full.",
        ),
        "diff": Entry(
            "audits",
            "Over time, and side by side",
            "Show what changed between two snapshots: tags, and bytes added and removed.",
        ),
        "compare": Entry(
            "audits",
            "Over time, and side by side",
            "Show which tags of A are missing in B, which point elsewhere in B, and which are only in B.",
        ),
        "fleet": Entry(
            "fleets",
            "Over time, and side by side",
            "Read many registries at once: contents, blobs that are stored twice, and tags that a mirror lacks.",
        ),
        "retag": Entry("changes", "Change", "Give an image a second tag, in the same repository."),
        "copy": Entry(
            "changes",
            "Change",
            "Copy tags into the registry or layout at URL, within it or from another; a repository means all its tags.",
        ),
        "rename": Entry(
            "changes", "Change", "Rename a repository or a tag: copy, verify, then remove only what was renamed."
        ),
        "delete": Entry(
            "changes",
            "Change",
            "Delete tags, or digests with all their tags; the plan first shows what else is deleted or breaks.",
        ),
        "retention": Entry(
            "changes",
            "Change",
            "Delete the tags that a policy does not keep; each row says why its tag is kept or removed.",
        ),
        "apply": Entry(
            "changes",
            "Change",
            "Apply a plan, and print the receipt.",
        ),
        "undo": Entry(
            "changes",
            "Change",
            "Undo the changes in a receipt; in a registry this works until its next garbage collection.",
        ),
        "receipt": Entry("receipts", "Change", "List, print and verify receipts: what was changed, when, and by whom."),
        "run": Entry(
            "runbooks",
            "Notebooks and pages",
            "Run a runbook (a packaged notebook) without JupyterLab, keep the executed notebook, and print its path.",
        ),
        "report": Entry(
            "runbooks",
            "Notebooks and pages",
            "Write a report on a registry or its storage as one HTML file that needs no network, and print its path.",
        ),
        "lab": Entry(
            "serving",
            "Notebooks and pages",
            "Copy the notebooks into a folder of yours, unless they are there, and open JupyterLab on the first one.",
        ),
        "ui": Entry(
            "serving",
            "Notebooks and pages",
            "Serve the notebooks as web pages: read-only, except for visitors with a write token.",
        ),
        "serve": Entry(
            "serving",
            "Local",
            "Run the embedded registry over a folder, in the layout that CNCF distribution uses.",
        ),
        "demo": Entry(
            "serving",
            "Local",
            "Start the embedded registry with sample images, audit it, and open JupyterLab on it.",
        ),
        "cache": Entry("caches", "Local", "Show or clear the cache of manifests, configs and layer listings."),
        "kube": Entry(
            "kubernetes",
            "Local",
            "Write and check the Kubernetes manifests of a registry and its UI; collect garbage there.",
        ),
    }
)
"""Every command. Only the one that is called is imported: help and completion stay quick."""


class _Loaded(MutableMapping[str, Any]):
    """Commands by name, each imported when it is asked for."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> object:
        if name not in self._found:
            group = typer.main.get_group(importlib.import_module(f"regnb.cli.{COMMANDS[name].module}").app)
            self._found[name] = group.commands.get(name, group)
            self._found[name].name = name
        return self._found[name]

    def __setitem__(self, name: str, command: object) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS


class Commands(Group):
    """The group of all commands; its help is written from the table, without loading them."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 -- typer's
        super().__init__(**settings)
        self.commands = _Loaded()

    def _listed(self) -> Group:
        stubs = [TyperCommand(name, help=entry.help, rich_help_panel=entry.panel) for name, entry in COMMANDS.items()]
        return Group(name=self.name, help=self.help, params=self.params, commands=stubs)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 -- typer's own click
        """Write the list of commands."""
        self._listed().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:  # noqa: ANN401 -- typer's own click
        """Return the names that a shell offers."""
        listed = self._listed()
        # Typer asks the context's command, which would load them all.
        return listed.shell_complete(type(ctx)(listed, parent=ctx.parent, info_name=ctx.info_name), incomplete)


app = typer.Typer(
    cls=Commands,
    help="Container registries as DataFrames: audit, inspect, change safely, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from regnb import __version__  # pulls in the package

        typer.echo(f"regnb {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[  # noqa: ARG001 -- eager: its callback has printed it
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        int,
        Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Write the log to standard error; -vv adds every request.",
        ),
    ] = 0,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    timeout: Timeout = None,
    concurrency: Concurrency = None,
) -> None:
    heed(quiet=quiet, no_progress=no_progress, timeout=timeout, concurrency=concurrency)
    if level := log.LEVELS[min(verbose, 2) - 1] if verbose else variable("REGNB_LOG"):
        log.start(level)


def main() -> None:
    """Run the command line: every error is one message and a hint, never a traceback."""
    try:
        # Typer's own code for a mistyped word is that of an exceeded threshold here: so the codes are set here.
        with words_with_colons(sys.stdout.write):
            sys.exit(app(standalone_mode=False) or OK)
    except TyperException as error:
        if as_json():
            report_error(InvalidArgument(error.format_message(), hint="regnb COMMAND --help lists its options"), ERROR)
            sys.exit(ERROR)
        from typer.rich_utils import rich_format_error

        rich_format_error(error)  # type: ignore[arg-type]
        sys.exit(ERROR)
    except typer.Abort:
        err.print("Aborted.")
        sys.exit(ERROR)
    except RegnbError as error:
        codes: dict[type[RegnbError], int] = {LimitExceeded: EXCESSIVE, EmptyCatalog: INCOMPLETE}
        code = codes.get(type(error), ERROR)
        report_error(error, code)
        sys.exit(code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(OK)

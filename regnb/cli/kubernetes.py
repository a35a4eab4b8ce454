"""The commands about Kubernetes: ``regnb kube``."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from msgspec import structs
from typer import Argument, Option

from regnb import __version__
from regnb.cli import unattended
from regnb.cli.command import command_of
from regnb.cli.help import Group
from regnb.cli.terminal import ERROR, INCOMPLETE, OK, CaBundle, Insecure, Json, User, login, out, say, show
from regnb.cluster import chart as chart_
from regnb.cluster import dask as dask_
from regnb.cluster import ingress, reach
from regnb.cluster import resources as expose_
from regnb.cluster.resources import FIELDS, Settings
from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument
from regnb.wire.credentials import Credentials

app = typer.Typer(
    cls=Group,
    help="Write and check the Kubernetes manifests of a registry and its UI; collect garbage there.",
    no_args_is_help=True,
)

command_of(app)(unattended.collect)
command_of(app)(unattended.release)

Output = Annotated[Path | None, Option("--output", "-o", help="Write into this file.", dir_okay=False)]

Folder = Annotated[Path | None, Option("--output", "-o", help="Folder to write into.", file_okay=False)]

_PLACEHOLDERS: Final = {
    "fail_over": "SIZE",
    "fail_on_growth": "SIZE",
    "storage": "SIZE",
    "snapshots": "SIZE",
    "schedule": "CRON",
    "collect": "CRON",
    "controller": "NAME",
    "namespace": "NAME",
    "keep_daily": "DAYS",
    "trash": "DAYS",
}
"""What the value of a setting is, where the option's own name does not say it."""


def _with_settings(work: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each of the settings, and hand it these as a value."""

    @functools.wraps(work)
    def run(*, output: Path | None, parts: list[str] | None, **given: Any) -> None:  # noqa: ANN401
        work(Settings(parts=tuple(parts or expose_.PARTS), **given), output)

    options: dict[str, tuple[object, object]] = {
        field.name: (
            Annotated[field.type, Option(help=FIELDS[field.name], metavar=_PLACEHOLDERS.get(field.name))],
            field.default,
        )
        for field in structs.fields(Settings)
    }
    options["parts"] = (Annotated[list[str] | None, Option("--part", help=f"{FIELDS['parts']} (repeatable)")], None)
    options["output"] = (Folder if work.__name__ == "chart" else Output, None)
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind, default=of, annotation=as_) for name, (as_, of) in options.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return command_of(app)(run)


def _give(text: str, notes: list[str], output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
    else:
        with file_errors(f"write {output}"):
            output.write_text(text, encoding="utf-8")
    for note in notes:
        say(f"- {note}")


@_with_settings
def expose(settings: Settings, output: Path | None) -> None:
    """Print the manifests that run a registry and its UI and make them reachable, for kubectl apply -f -.

    Standard error and comments name the other steps, such as Secrets to create.
    """
    notes = expose_.notes(settings)
    _give(expose_.to_yaml(expose_.manifests(settings), notes), notes, output)


@_with_settings
def chart(settings: Settings, output: Path | None) -> None:
    """Write a Helm chart of what regnb kube expose prints with the same options, into the folder --output.

    Names, images, sizes and schedules become values of the chart; other options are fixed in its templates.
    """
    folder = output or Path("regnb-chart")
    files = chart_.chart(settings, __version__)
    with file_errors(f"write {folder}"):
        if folder.exists() and not (folder / "Chart.yaml").is_file() and any(folder.iterdir()):
            raise InvalidArgument(f"{folder} has other files", hint="name a new folder: --output FOLDER")
        for old in folder.glob("templates/*"):
            old.unlink()
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    say(f"Wrote {folder}. To install it: helm install {settings.name} {folder} --namespace {settings.namespace}")
    for note in expose_.notes(settings):
        say(f"- {note}")


@command_of(app)
def dask(
    name: Annotated[str, Option(help=FIELDS["name"])] = "kube-registry",
    namespace: Annotated[str, Option(metavar="NAME", help=FIELDS["namespace"])] = "kube-system",
    ui_image: Annotated[
        str, Option(help="Image with regnb and distributed; none is published: build it, and push it.")
    ] = expose_.UNBUILT,
    docker_secret: Annotated[str, Option(help="Secret with the Docker credentials that the workers use.")] = "",
    workers: Annotated[int, Option(metavar="N", help="Number of workers.")] = 4,
    memory: Annotated[str, Option(metavar="SIZE", help="Memory of each worker, such as 2Gi.")] = "2Gi",
    claim: Annotated[
        str, Option(metavar="NAME", help="PersistentVolumeClaim that all workers can write to, for cache and progress.")
    ] = "",
    output: Output = None,
) -> None:
    """Print a Dask cluster whose workers read a large registry, for kubectl apply -f -.

    It is a resource of the dask-kubernetes operator. Standard error and comments name the other steps.
    """
    parts = ("audit",)
    chosen = Settings(name=name, namespace=namespace, ui_image=ui_image, docker_secret=docker_secret, parts=parts)
    found = dask_.cluster(chosen, workers=workers, memory=memory, claim=claim)
    notes = dask_.notes(chosen, claim)
    _give(expose_.to_yaml([found], notes), notes, output)


@command_of(app)
def convert(
    file: Annotated[str, Argument(metavar="FILE", help="YAML of old manifests; - for standard input.")],
    output: Output = None,
) -> None:
    """Bring Ingresses of extensions/v1beta1 or networking.k8s.io/v1beta1 to networking.k8s.io/v1.

    Other manifests stay as they are, without their comments. What was changed, or could not be kept, is said on
    standard error and in comments.
    """
    try:
        with file_errors(f"read {file}"):
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidArgument(f"{file} is not text", hint="give YAML in UTF-8") from None
    found = ingress.convert(text)
    _give(expose_.to_yaml(found.documents, found.notes), found.notes, output)


@command_of(app)
def check(
    host: Annotated[str, Argument(metavar="HOST", help="Name or address, without a port.")],
    http_port: Annotated[int, Option(metavar="PORT", help="Port of the Ingress controller for http.")] = 80,
    https_port: Annotated[int, Option(metavar="PORT", help="Port of the Ingress controller for https.")] = 443,
    api_port: Annotated[
        int | None, Option(metavar="PORT", help="Also test the API at this node port, over http.")
    ] = None,
    ui_port: Annotated[int | None, Option(metavar="PORT", help="Node port of the UI, such as 30800.")] = None,
    https_only: Annotated[bool, Option("--https-only", help="Require that http redirects to https.")] = False,
    upload: Annotated[bool, Option(help="Test an upload.")] = True,
    size: Annotated[str, Option(metavar="SIZE", help="Size of the upload.")] = "20MB",
    repository: Annotated[
        str, Option(metavar="REPOSITORY", help="Upload to this repository. Default: the first that is listed.")
    ] = "",
    user: User = "",
    ca_bundle: CaBundle = None,
    insecure: Insecure = False,
    json_: Json = "",
) -> None:
    """Test what is reachable at a host: /v2/, /ui/, the redirect to https, the certificate, and a large upload.

    The upload sends zeros and is cancelled: nothing is stored. Exit code 0: all is well, 1: something fails,
    4: something could not be tested.
    """
    known = login(user, "REGNB_PASSWORD", "Password")
    rows = reach.check(
        host,
        http_port=http_port,
        https_port=https_port,
        api_port=api_port,
        ui_port=ui_port,
        https_only=https_only,
        upload=upload,
        size=size,
        repository=repository,
        credentials=Credentials(**known) if known else None,
        ca_bundle=ca_bundle,
        insecure=insecure,
    )
    show(rows if json_ else rows.drop(columns="hint"), json_)
    for row in () if json_ else rows[rows["hint"] != ""].itertuples():
        out.print(f"- {row.check}: {row.hint}", markup=False, soft_wrap=True)
    _end(set(rows["state"]))


def _end(states: set[str]) -> NoReturn:
    raise typer.Exit(ERROR if "fail" in states else INCOMPLETE if "skipped" in states else OK)

"""JupyterLab on the packaged notebooks, and the registry that the demo opens it on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import anyio

from regnb import demo, embedded
from regnb.cache import Cache
from regnb.client import Client
from regnb.collect import Records, collect
from regnb.errors import MissingExtra
from regnb.inventory import Inventory
from regnb.runbook import notebooks
from regnb.transport import Transport

START: Final = "00-start.ipynb"
SNAPSHOTS: Final = 9
"""Sample snapshots of the demo, four weeks apart."""
_PATIENCE: Final = 15
"""Seconds that JupyterLab has to end its kernels."""


def copy_notebooks(folder: Path) -> list[Path]:
    """Copy the packaged notebooks that ``folder`` does not have; what is there, and may be edited, stays.

    Returns:
        The files that were written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     copy_notebooks(Path(folder))[0].name
        '00-start.ipynb'
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [path for path in sorted(notebooks().glob("*.ipynb")) if not (folder / path.name).exists()]
    return [Path(shutil.copyfile(path, folder / path.name)) for path in missing]


class Demo(NamedTuple):
    """A registry that runs, and what belongs to it.

    Attributes:
        url: The registry.
        storage: The folder that it serves.
        snapshots: A folder of sample snapshots: the demo as it would have been before.
    """

    url: str
    storage: Path
    snapshots: Path


@contextmanager
def demo_registry() -> Iterator[Demo]:
    """Run the embedded registry with the demo content, in a temporary folder and on a free port.

    Example:
        >>> with demo_registry() as found:  # doctest: +SKIP
        ...     registry = regnb.connect(found.url)
    """

    async def fill(url: str) -> Records:
        async with Client(Transport(url)) as client:
            await demo.seed(client)
            return await collect(client, Cache())

    with tempfile.TemporaryDirectory(prefix="regnb-demo-") as folder:
        storage, snapshots = Path(folder) / "storage", Path(folder) / "sample-snapshots"
        with embedded.running(storage) as server:
            records = anyio.run(fill, server.url)
            demo.damage(storage)
            last = datetime.fromisoformat(demo.NOW)
            for age in reversed(range(SNAPSHOTS)):
                Inventory.of(_as_of(records, last - timedelta(weeks=4 * age))).save(snapshots)
            yield Demo(server.url, storage, snapshots)


def _as_of(records: Records, day: datetime) -> Records:
    """Return what would have been read on a day, had each image been pushed on the day that it was made."""
    known = records.manifests

    def behind(digest: str) -> set[str]:
        return {digest}.union(*(behind(child) for child in known[digest].children))

    trees = [(tag, behind(tag.digest)) for tag in records.tags]
    trees = [(tag, tree) for tag, tree in trees if max(known[one].created for one in tree) < day.isoformat()]
    there = {(tag.repository, digest) for tag, tree in trees for digest in tree}
    links = {key: asked for key, asked in records.links.items() if {key, (key[0], known[key[1]].subject)} & there}
    needed = {blob for _, digest in links for blob in (digest, known[digest].config, *known[digest].layers)}
    return replace(
        records,
        started=day,
        finished=day,
        repositories=dict.fromkeys((tag.repository for tag, _ in trees), "read"),
        tags=[tag for tag, _ in trees],
        links=links,
        manifests={digest: known[digest] for _, digest in links},
        blobs={digest: blob for digest, blob in records.blobs.items() if digest in needed},
    )


def open_lab(url: str, folder: Path | None = None, *, storage: Path | str = "", snapshots: Path | str = "") -> None:
    """Open JupyterLab on ``00-start``, connected to a registry; return when it ends, by its menu or by Ctrl-C.

    Args:
        url: The registry; the notebooks read it from ``REGNB_URL``.
        storage: Its storage, if that is known: ``REGNB_STORAGE``.
        snapshots: Where its snapshots are, if there are any: ``REGNB_SNAPSHOTS``.
        folder: Where the notebooks are copied to and kept; by default a temporary folder.

    Raises:
        MissingExtra: JupyterLab is not installed.

    Example:
        >>> open_lab("http://localhost:5000", Path("notebooks"))  # doctest: +SKIP
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingExtra("jupyterlab", "lab")
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regnb-notebooks-")))
        copy_notebooks(folder)
        stack.enter_context(_terminated_as_interrupted())
        # Its own input would be asked whether to shut down; the demo has said so by then.
        process = subprocess.Popen(  # noqa: S603 -- our own interpreter, arguments made here
            [sys.executable, "-m", "jupyterlab", *_options(folder.resolve())],
            env=os.environ | {"REGNB_URL": url, "REGNB_STORAGE": str(storage), "REGNB_SNAPSHOTS": str(snapshots)},
            stdin=subprocess.DEVNULL,
        )
        try:
            process.wait()
        except KeyboardInterrupt:
            _end(process)


def _options(folder: Path) -> list[str]:
    options = [
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{START}",
        "--ServerApp.answer_yes=True",
        "--ServerApp.log_level=WARN",  # the address is printed all the same
        "--LabApp.log_level=WARN",
    ]
    if not _has_display():
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    return options


def _has_display() -> bool:
    """Whether a browser could show a window: a text browser would take the terminal over."""
    return sys.platform in {"darwin", "win32"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let a termination end JupyterLab and the registry as Ctrl-C does: nothing may be left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End JupyterLab, which ends its kernels; a second Ctrl-C ends it at once."""
    try:
        process.terminate()
        process.wait(_PATIENCE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()

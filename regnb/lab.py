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
from pathlib import Path
from typing import Final

import anyio

from regnb import demo, embedded
from regnb.client import Client
from regnb.errors import MissingExtra
from regnb.transport import Transport

START: Final = "00-start.ipynb"
_PATIENCE: Final = 15
"""Seconds that JupyterLab has to end its kernels."""


def notebooks() -> Path:
    """Return the folder of the packaged notebooks.

    Example:
        >>> (notebooks() / "00-start.ipynb").is_file()
        True
    """
    package = Path(__file__).parent
    packaged = package / "notebooks"
    # An editable install has no copy: there the notebooks are the clone's own.
    return packaged if packaged.is_dir() else package.parent / "notebooks"


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


@contextmanager
def demo_registry() -> Iterator[str]:
    """Run the embedded registry with the demo content, in a temporary folder and on a free port; give its URL.

    Example:
        >>> with demo_registry() as url:  # doctest: +SKIP
        ...     registry = regnb.connect(url)
    """

    async def fill(url: str) -> None:
        async with Client(Transport(url)) as client:
            await demo.seed(client)

    with tempfile.TemporaryDirectory(prefix="regnb-demo-") as folder, embedded.running(Path(folder)) as server:
        anyio.run(fill, server.url)
        demo.damage(Path(folder))
        yield server.url


def open_lab(url: str, folder: Path | None = None) -> None:
    """Open JupyterLab on ``00-start``, connected to a registry; return when it ends, by its menu or by Ctrl-C.

    Args:
        url: The registry; the notebooks read it from ``REGNB_URL``.
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
            env=os.environ | {"REGNB_URL": url},
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

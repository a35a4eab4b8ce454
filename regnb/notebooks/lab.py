"""JupyterLab on the packaged notebooks, in a folder where they may be edited."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from regnb.crawl.files import file_errors
from regnb.errors import MissingExtra
from regnb.notebooks.runbook import notebooks
from regnb.session import ended_as_interrupted
from regnb.tables.write import make_folder
from regnb.wire.addresses import is_loopback

START: Final = "00-start.ipynb"
_COPIED: Final = ".regnb-notebooks.json"
"""In a folder of notebooks: the fingerprint of each as it was copied. One that differs from it was edited."""
_SETTINGS: Final = Path(__file__).with_name("settings")
"""JupyterLab's settings for these notebooks: those of other JupyterLabs stay as they are."""
_PATIENCE: Final = 15
"""Seconds that JupyterLab has to end its kernels."""


def copy_notebooks(folder: Path, *, update: bool = False) -> dict[str, str]:
    """Copy the packaged notebooks into a folder; what was edited there stays as it is.

    Args:
        folder: Made if need be.
        update: Whether those that nobody edited are replaced by newer ones.

    Returns:
        What was done, by file name: ``new``, ``updated``, ``older`` (a newer one is packaged), or ``edited`` (and so is
        the packaged one). Those that are as they should be are left out.

    Raises:
        StorageError: The folder cannot be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     copy_notebooks(Path(folder))["00-start.ipynb"]
        'new'
    """
    make_folder(folder)
    record = folder / _COPIED
    copied: dict[str, str] = {}
    with suppress(OSError, ValueError):  # without it every notebook that differs counts as edited, and stays
        copied |= json.loads(record.read_bytes())
    done: dict[str, str] = {}
    with file_errors(f"write to {folder}", "name another folder"):
        for packaged in sorted(notebooks().glob("*.ipynb")):
            mine, now = folder / packaged.name, fingerprint(packaged)
            there = fingerprint(mine) if mine.exists() else ""
            if there == now:
                copied[packaged.name] = now
                continue
            state = "new" if not there else "older" if there == copied.get(packaged.name) else "edited"
            if state == "edited" and copied.get(packaged.name) == now:
                continue  # an edited one whose original is the newest there is
            if state == "new" or (state == "older" and update):
                shutil.copyfile(packaged, mine)
                copied[packaged.name] = now
                state = "updated" if there else "new"
            done[packaged.name] = state
        record.write_text(json.dumps(copied, indent=1), encoding="utf-8")
    return done


def fingerprint(path: Path) -> str:
    """Return a hash of a notebook's cells: outputs and counts do not count.

    Example:
        >>> len(fingerprint(notebooks() / "00-start.ipynb"))
        64
    """
    return hashlib.sha256("\0".join(_cells(path)).encode()).hexdigest()


def difference(folder: Path, name: str) -> str:
    """Return how a notebook in a folder differs from the packaged one, as a unified diff of their cells.

    Example:
        >>> difference(notebooks(), "00-start.ipynb")
        ''
    """
    mine, packaged = _cells(folder / name), _cells(notebooks() / name)
    before, after = ("\n".join(cells).splitlines() for cells in (mine, packaged))
    lines = difflib.unified_diff(before, after, str(folder / name), f"{name} of this regnb", lineterm="")
    return "\n".join(lines)


def _cells(path: Path) -> list[str]:
    """Return the cells as texts; a file that is not a notebook is one."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return [f"# {cell['cell_type']}\n{''.join(cell['source'])}\n" for cell in json.loads(text)["cells"]]
    except (ValueError, KeyError, TypeError):
        return [text]


def open_lab(
    folder: Path | None = None,
    *,
    surroundings: Mapping[str, str],
    browser: bool = True,
    host: str = "127.0.0.1",
    port: int | None = None,
    allow_open: bool = False,
) -> None:
    """Open JupyterLab on ``00-start``; return when it ends, by its menu or by Ctrl-C.

    It listens where it is told to, and asks for a new token, whatever the user's Jupyter configuration says; both are
    printed.

    Args:
        folder: Where the notebooks are, and are copied to if they are not; by default a temporary folder.
        surroundings: The kernels' environment, as :func:`regnb.environment.environment` returns it.
        browser: Whether to open a browser, if there is a display.
        host: Address to listen on.
        port: To listen on, or None for a free one.
        allow_open: Whether everybody is let in who reaches the address, without a token.

    Raises:
        MissingExtra: JupyterLab is not installed.
        StorageError: The folder cannot be written.

    Example:
        >>> open_lab(Path("notebooks"), surroundings=environment("http://localhost:5000"))  # doctest: +SKIP
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingExtra("jupyterlab", "lab")
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regnb-notebooks-")))
        copy_notebooks(folder)
        stack.enter_context(ended_as_interrupted())
        options = _options(folder.resolve(), browser=browser, host=host, port=port)
        process = subprocess.Popen(  # noqa: S603 -- our own interpreter, arguments made here
            [sys.executable, "-m", "regnb.notebooks.server", *options],
            env=dict(surroundings),
            stdin=subprocess.PIPE,
        )
        try:
            # Its input ends there: it asks nobody whether to shut down, for whoever pressed Ctrl-C has said so by then.
            process.communicate(b"\n" if allow_open else f"{secrets.token_hex(24)}\n".encode())
        except KeyboardInterrupt:
            _end(process)


def _options(folder: Path, *, browser: bool, host: str, port: int | None) -> list[str]:
    options = [
        f"--ServerApp.ip={host}",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{START}",
        f"--LabApp.app_settings_dir={_SETTINGS}",
        "--ServerApp.answer_yes=True",
        "--ServerApp.log_level=WARN",  # the address is printed all the same
        "--LabApp.log_level=WARN",
    ]
    if is_loopback(host):  # no other name is answered: it may have been rebound
        options += ["--ServerApp.allow_remote_access=False", "--ServerApp.local_hostnames=['localhost']"]
    if port is not None:
        options += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if not (browser and _has_display()):
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    return options


def _has_display() -> bool:
    """Whether a browser could show a window: a text browser would take the terminal over."""
    return sys.platform in {"darwin", "win32"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End JupyterLab, which ends its kernels; a second Ctrl-C ends it at once."""
    try:
        process.terminate()
        process.wait(_PATIENCE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()

"""Kernels that are forked: each has its own environment and widgets, ends with its server, and starts in any case."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from regnb.pages.nursery import NAME, Child, Forked, Nursery

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system cannot fork so")

ABOUT = """
import os, sys, threading
from ipywidgets.comm import get_comm_manager
print(os.getppid(), os.getcwd(), os.environ.get("WHICH"), os.environ.get("OPENBLAS_NUM_THREADS"),
      "pandas" in sys.modules, sorted(get_comm_manager().targets), sep="|")
"""


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", NAME)
    monkeypatch.setattr(Forked, "_nursery", None)
    yield
    if Forked._nursery:
        Forked._nursery.close()


def refuse(*_: object) -> Child:
    raise OSError("no process")


CHART = """
import sys
before = set(sys.modules)
import plotly.graph_objects as go
display(go.Figure(go.Bar(y=[1])))
print(*(name for name in sorted(set(sys.modules) - before) if name.startswith(("plotly.io", "nbformat", "jsonschema"))))
"""


async def started(folder: Path, asked: str = ABOUT, /, **environment: str) -> tuple[AsyncKernelManager, list[str]]:
    """Start a kernel, and return it with what it says about itself, or to what it is asked."""
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(
        env={**os.environ, **environment}, cwd=str(folder), extra_arguments=["--log-level=ERROR"]
    )
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    said: list[str] = []
    await client.execute_interactive(
        asked, timeout=60, output_hook=lambda message: said.append(message["content"].get("text", ""))
    )
    client.stop_channels()
    return manager, "".join(said).strip().split("|")


def test_kernels_are_forked_with_an_environment_of_their_own(forking: None, tmp_path: Path) -> None:
    """Two kernels have one parent, which is not the server, and each what it was given; one that is ended is gone."""

    async def work() -> None:
        one, first = await started(tmp_path, WHICH="one")
        two, second = await started(tmp_path / "..", WHICH="two")
        assert Forked._nursery is not None
        parent = str(Forked._nursery._process.pid)
        targets = str(["jupyter.widget", "jupyter.widget.control"])
        assert first == [parent, str(tmp_path), "one", "None", "True", targets]
        assert second == [parent, str(tmp_path.parent), "two", "None", "True", targets]
        assert await one.is_alive()
        await one.shutdown_kernel(now=True)
        assert not await one.is_alive()
        assert await two.is_alive()
        await two.shutdown_kernel()

    asyncio.run(work())


def test_the_first_chart_of_a_page_loads_what_all_pages_share(forking: None, tmp_path: Path) -> None:
    """Plotly looks at nbformat's version before it shows a chart: that, and all behind it, is loaded once."""

    async def work() -> None:
        manager, loaded = await started(tmp_path, CHART, PLOTLY_RENDERER="plotly_mimetype")
        await manager.shutdown_kernel(now=True)
        assert loaded == [""]

    asyncio.run(work())


def test_a_kernel_starts_though_the_process_that_forks_has_ended(forking: None, tmp_path: Path) -> None:
    """Its kernels end with it; the next one is forked from a new process, or starts as any other where that fails."""

    async def work() -> None:
        one, _ = await started(tmp_path)
        assert Forked._nursery is not None
        os.kill(Forked._nursery._process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while await one.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 -- nothing says so
            await asyncio.sleep(0.1)
        assert not await one.is_alive()
        await one.shutdown_kernel(now=True)
        two, about = await started(tmp_path)
        assert about[0] == str(Forked._nursery._process.pid)
        await two.shutdown_kernel(now=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Forked, "_fork", refuse)
            three, about = await started(tmp_path)
        assert about[0] == str(os.getpid())
        await three.shutdown_kernel(now=True)

    asyncio.run(work())


def test_signals_reach_the_kernel_alone() -> None:
    """What has ended gets none, whoever has its number by then."""
    nursery = Nursery(os.environ)
    try:
        child = nursery.fork(["--log-level=ERROR"], os.environ, None)
        assert isinstance(child, Child)
        assert child.poll() is None
        child.kill()
        assert child.wait() == 0
        child.send_signal(signal.SIGTERM)
        assert child.poll() == 0
    finally:
        nursery.close()


def test_a_kernel_whose_port_was_taken_says_so_in_a_line(tmp_path: Path) -> None:
    """Between the choice of a port and its use any connection can take it: the log of the web UI gets no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = dict.fromkeys(("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"), 0)
        about = {"ip": "127.0.0.1", "transport": "tcp", "key": "", **ports, "stdin_port": taken.getsockname()[1]}
        (tmp_path / "kernel.json").write_text(json.dumps(about), encoding="utf-8")
        source = (
            "import os, sys; from regnb.pages.nursery import _become; _become(sys.argv[1:], dict(os.environ), None)"
        )
        ended = subprocess.run(
            [sys.executable, "-c", source, "-f", str(tmp_path / "kernel.json")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert "a kernel ended before it began: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr

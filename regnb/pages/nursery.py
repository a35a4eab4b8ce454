"""Kernels that are forked from a process which has imported everything: they start at once and share its memory.

A process of its own, with one thread and no kernel, waits in the web UI's stead: neither Voilà's loop nor its
connections are ever copied. Where the system cannot fork so (no ``pidfd``, as on macOS), kernels start as usual.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, Final, cast

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

NAME: Final = "regnb-nursery"
"""Of the provisioner, in the configuration of `KernelProvisionerFactory`."""
_LAUNCHER: Final = ["-m", "ipykernel_launcher"]
_HEAD: Final = struct.Struct("!I")
_START: Final = 120.0
"""Seconds to wait for the process to import everything, and for a kernel."""
_ALONE: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""What keeps libraries from starting threads, which no fork takes along."""
_THREADED: Final = ("polars",)
"""Libraries that start threads when something imports them because they happen to be installed."""

KernelProvisionerFactory.provisioners[NAME] = EntryPoint(
    NAME, f"{__name__}:Forked", KernelProvisionerFactory.GROUP_NAME
)


class Child:
    """A forked kernel, as `subprocess.Popen` shows one. Its parent is the nursery: it is watched by its ``pidfd``."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, handle: int) -> None:
        self.pid = pid
        self._handle: int | None = handle

    def poll(self) -> int | None:
        """Return None while it runs; then 0, as only its parent is told its exit code."""
        if self._handle is None:
            return 0
        if not select.select([self._handle], [], [], 0)[0]:
            return None
        os.close(self._handle)
        self._handle = None
        return 0

    def wait(self) -> int:
        """Return once it has ended."""
        if self._handle is not None:
            select.select([self._handle], [], [])
        return self.poll() or 0

    def send_signal(self, number: int) -> None:
        """Send a signal to it, and to no process that has its number later."""
        if self._handle is not None:
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that kernels are forked from. It ends with whoever made it, and its kernels with it.

    Args:
        environment: Of the first kernel; each kernel gets its own.

    Example:
        ``child = Nursery(os.environ).fork(["-f", "connection.json"], os.environ, "/tmp")``
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_START)
        source = f"from {__name__} import main; main({theirs.fileno()})"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- this program
                # Nothing in the folder that somebody stands in is imported.
                [sys.executable, "-P", "-c", source],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**environment, **_ALONE},
                start_new_session=True,
            )
        # It would end by itself, but after whoever made it.
        atexit.register(self.close)

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str | None) -> Child:
        """Start a kernel.

        Args:
            arguments: Of ``ipykernel``.
            environment: Its environment, whole.
            folder: Where it stands.

        Raises:
            OSError: The process is not there any more, or could not fork.
        """
        request = {"arguments": list(arguments), "environment": dict(environment), "folder": folder}
        data = json.dumps(request).encode()
        self._control.sendall(_HEAD.pack(len(data)) + data)
        number, handles, _, _ = socket.recv_fds(self._control, _HEAD.size, 1)
        if len(number) < _HEAD.size or not handles:
            raise ConnectionResetError("no kernel was forked")
        return Child(_HEAD.unpack(number)[0], handles[0])

    def close(self) -> None:
        """End it; its kernels end by themselves."""
        atexit.unregister(self.close)
        self._control.close()
        self._process.kill()
        self._process.wait()


class Forked(LocalProvisioner):
    """Starts kernels in the nursery, and where that fails as everybody does."""

    _nursery: ClassVar[Nursery | None] = None
    _turn: ClassVar[asyncio.Lock] = asyncio.Lock()

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:  # noqa: ANN401 -- as there
        """Start a kernel by its command."""
        if cmd[1:3] == _LAUNCHER and hasattr(os, "pidfd_open"):
            environment = kwargs.get("env") or os.environ
            async with self._turn:
                for _ in range(1 if self._nursery is None else 2):  # the one that was there may have ended
                    try:
                        child = await asyncio.to_thread(self._fork, cmd[3:], environment, kwargs.get("cwd"))
                    except OSError as error:
                        self.log.warning("a kernel could not be forked: %s", error)
                    else:
                        self.process = cast("Any", child)
                        self.pid = self.pgid = child.pid
                        self.cwd = kwargs.get("cwd") or os.getcwd()  # noqa: PTH109 -- as there
                        return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)

    @classmethod
    def _fork(cls, arguments: Sequence[str], environment: Mapping[str, str], folder: str | None) -> Child:
        if cls._nursery is None:
            cls._nursery = Nursery(environment)
        try:
            return cls._nursery.fork(arguments, environment, folder)
        except OSError:
            cls._nursery.close()
            cls._nursery = None
            raise


def main(handle: int) -> None:
    """Import everything, then fork a kernel for each request, until whoever asks has ended."""
    # A kernel ends when its parent does: its class reads which one that is when it is imported.
    os.environ["JPY_PARENT_PID"] = str(os.getpid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _import()
    with socket.socket(fileno=handle) as control:
        while request := _received(control):
            pid = os.fork()
            if not pid:
                break
            child = os.pidfd_open(pid)
            socket.send_fds(control, [_HEAD.pack(pid)], [child])
            os.close(child)
        else:
            return
    _become(**request)


def _import() -> None:
    """Import what pages need, and let no search for circles write to what all kernels share."""
    sys.modules.update(cast("Any", dict.fromkeys(_THREADED)))  # importing them fails
    import encodings.idna

    import pyarrow.compute
    import tqdm.auto
    from ipykernel import kernelapp

    from regnb import registry, source
    from regnb.analysis import hygiene, proposal, pulls, reclaim, snapshot, storage, usage
    from regnb.pages import charts
    from regnb.tables import mapped
    from regnb.widgets import forms, page, start

    del charts, encodings, forms, hygiene, kernelapp, mapped, page, proposal, pulls, pyarrow, reclaim, registry
    del snapshot, source, start, storage, tqdm, usage
    _rehearse()
    for name in _THREADED:
        del sys.modules[name]
    gc.collect()
    gc.freeze()


def _rehearse() -> None:
    """Do once what makes libraries load more, and keep it: they draw, read records and show frames."""
    import anyio.from_thread
    import nbformat
    import plotly.graph_objects as go
    import plotly.io

    from regnb.analysis.inventory import Inventory
    from regnb.crawl.records import Records

    # Both are loaded when the first chart is shown.
    _ = nbformat, plotly.io.renderers
    for kind in (go.Bar, go.Heatmap, go.Scatter, go.Treemap, go.Waterfall):
        plotly.io.to_json(go.Figure(kind(), {"template": "plotly"}), validate=True)
    found = Inventory.of(Records("localhost:5000", datetime.now(UTC)))
    found._repr_html_()
    found.coverage.to_html()  # as itables does, with more modules
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(anyio.sleep, 0)


def _received(control: socket.socket) -> dict[str, Any] | None:
    """Return a request; None if nobody asks any more."""

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size and (part := control.recv(size - len(data))):
            data += part
        return data

    head = exactly(_HEAD.size)
    return dict(json.loads(exactly(_HEAD.unpack(head)[0]))) if len(head) == _HEAD.size else None


def _become(arguments: Sequence[str], environment: Mapping[str, str], folder: str | None) -> None:
    """Be a kernel, as ``python -m ipykernel_launcher`` is one."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update({**environment, "JPY_PARENT_PID": str(os.getppid())})
    if folder:
        os.chdir(folder)
    sys.argv = ["ipykernel_launcher", *arguments]
    import ipywidgets
    import zmq
    from ipykernel.kernelapp import IPKernelApp

    app = cast("Any", IPKernelApp.instance())
    try:
        app.initialize(list(arguments))
    except zmq.ZMQError as error:
        # Its ports were free when they were chosen. Whoever waits for it gets another kernel.
        sys.exit(f"a kernel ended before it began: {error}")
    # It does so itself when it is imported, if there is a kernel by then.
    ipywidgets.register_comm_target()
    app.start()

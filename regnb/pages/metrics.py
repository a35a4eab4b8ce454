"""What Prometheus scrapes of the web UI: its own state, and what the last audit wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import JupyterHandler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Metric, ProcessCollector, generate_latest

from regnb.analysis import metrics
from regnb.errors import RegnbError
from regnb.pages.guard import Upstream
from regnb.pages.visit import Guarded, Plain, Visits

FILE: Final = "prometheus"
"""The application's setting: the file that ``regnb audit --prometheus`` writes, or None."""
METRICS: Final[Mapping[str, str]] = {
    "regnb_ui_pages": "Pages that are open.",
    "regnb_ui_pages_limit": "Pages that may be open at once.",
    "regnb_ui_audit_readable": "1 if the metrics of the last audit could be read; only if --prometheus names them.",
}
"""The web UI's own metrics; those named ``process_`` are prometheus-client's."""


class _Read:
    """Gives metrics as they were read."""

    def __init__(self, found: Sequence[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


class Metrics(Guarded, Plain, JupyterHandler):
    """The metrics, for whom a page would be served, and for a program that sends a token as ``Bearer``."""

    @allow_unauthenticated
    async def get(self) -> None:
        """Send them."""
        self.set_header("Cache-Control", "no-store")
        visits: Visits = self.settings["visits"]
        if visits.tokens and not (visits.admits(visits.of(self)) or visits.carried(self)):
            self.set_status(401)
            self.set_header("WWW-Authenticate", "Bearer")
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish("Send a token: Authorization: Bearer TOKEN\n")
            return
        kernels: Upstream = self.kernel_manager
        values = {"regnb_ui_pages": kernels.pages, "regnb_ui_pages_limit": kernels.most}
        made = CollectorRegistry()
        ProcessCollector(registry=made)
        path: Path | None = self.settings[FILE]
        if path is not None:
            try:
                made.register(_Read(await asyncio.to_thread(metrics.read, path)))
                values["regnb_ui_audit_readable"] = 1
            except RegnbError:
                values["regnb_ui_audit_readable"] = 0
        for name, value in values.items():
            Gauge(name, METRICS[name], registry=made).set(value)
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(made))

    head = get

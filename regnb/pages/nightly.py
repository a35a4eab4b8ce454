"""The report that the last audit wrote, for whoever may see the pages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import tornado.web
from jupyter_server.base.handlers import JupyterHandler

from regnb.pages.guard import Upstream
from regnb.pages.visit import Guarded, Plain, arrive, say
from regnb.widgets.page import box

FILE: Final = "report"
"""The application's setting: the file that ``regnb report`` writes, or None."""


class Nightly(Guarded, Plain, JupyterHandler):
    """The file, as one to keep: it has scripts of its own, which this server's pages do not allow."""

    async def prepare(self, **given: Upstream) -> None:
        """Send the light page, unless this is a visit."""
        if arrive(self):
            await super().prepare(**given)

    @tornado.web.authenticated
    async def get(self) -> None:
        """Send it."""
        path: Path | None = self.settings[FILE]
        try:
            if path is None:
                raise FileNotFoundError
            page = await asyncio.to_thread(path.read_bytes)
        except OSError:
            say(
                self, box("bad", "There is no report yet.", "regnb ui --report names the file of regnb report -o."), 404
            )
            return
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{path.stem}.html"')
        self.set_header("Cache-Control", "no-store")
        self.finish(page)

    head = get

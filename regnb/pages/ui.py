"""The web UI: the packaged notebooks as pages, served by Voilà behind whatever prefix an Ingress gives them."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import re
import secrets
import socket
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from regnb.errors import InvalidArgument, MissingExtra
from regnb.notebooks.lab import copy_notebooks
from regnb.notebooks.runbook import Runbook, filled, find, runbooks, values
from regnb.pages import nursery
from regnb.text import redact
from regnb.widgets.page import box
from regnb.widgets.table import DRAWN
from regnb.wire.addresses import same
from regnb.wire.hosts import Hosts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # they warn about each other
    try:
        import tornado.httpserver
        import tornado.ioloop
        import tornado.web
        import tornado.websocket
        from jupyter_server.auth.decorator import allow_unauthenticated
        from jupyter_server.base.handlers import JupyterHandler
        from jupyter_server.services.kernels.handlers import KernelHandler
        from nbformat.v4 import new_code_cell
        from traitlets.config import Config
        from voila.app import Voila
        from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
        from voila.tornado.contentshandler import VoilaContentsHandler
        from voila.tornado.handler import TornadoVoilaHandler
        from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler
        from voila.tornado.treehandler import TornadoVoilaTreeHandler

        from regnb.pages import making
        from regnb.pages import token as token_
        from regnb.pages.channel import LIMIT, Channel, Kernel, Shutdown
        from regnb.pages.door import Door, listen
        from regnb.pages.guard import Guard, Upstream, scripted
        from regnb.pages.kernels import EACH, PAGES, Kernels, Visitor
        from regnb.pages.metrics import FILE as PROMETHEUS
        from regnb.pages.metrics import Metrics
        from regnb.pages.nightly import FILE as REPORT
        from regnb.pages.nightly import Nightly
        from regnb.pages.visit import Guarded, Identity, Login, Logout, Plain, Visits, arrive, cookie_of, say
    except ImportError as missing:
        raise MissingExtra(missing.name or "voila", "lab") from None

TOKEN: Final = "REGNB_UI_TOKEN"  # noqa: S105 -- the variable's name
"""Held a token once: every process of the same user can read a variable."""
IDLE: Final = 600
"""Seconds after which a page that nobody looks at loses its kernel."""
FRESH: Final = 60
"""Seconds for which a page shows at once what another one has read."""

_KERNEL: Final = {
    "REGNB_SERVED": "1",
    "PLOTLY_RENDERER": "plotly_mimetype",
    # What is freed goes back to the system; the pool of Arrow would keep as much again as the frames take.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "262144",
}
_BODY: Final = 64 * 1024
"""Bytes of a request's body: a token, and what a page says when it is left."""
_LINE: Final = 2_000
"""Characters of a message in the log."""
_UNSAID: Final = (
    "websocket_ping_timeout",
    "WebSocket ping timeout",
    "restart failed",
    "restarted failed",
    "Culling ",
    "Error at server while executing cell",
    "authenticate",
    "wrote error",
    "Got events for closed stream",
    "Could not destroy zmq context",
)
"""In messages of others' for the log that say nothing to do: what they are about stands on the page."""
_START: Final = "00-start"
_ASKED: Final = frozenset(
    {
        "repository",
        "reference",
        "references",
        "other",
        "created_before",
        "size",
        "protect",
        "keep",
        "capacity",
        "tag",
        "to",
    }
)
"""Parameters that a visitor may set, by the query of the page's URL. Not those that name registries and files."""
_TITLES: Final = {"00-start": "Overview", "30-api-console": "API", "31-expose-on-kubernetes": "Kubernetes"}
_EXTENSIONS: Final = (
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
    "jupyterlab-plotly",
)
"""What pages need of all that JupyterLab may have installed."""
_FILES: Final = ("/voila/templates/(.*)", r"/voila/templates/([\w-]+/static(?:/[\w-][\w.-]*)+)")
"""A route of Voilà's, and what of it names files."""
_ONLY_IN_LAB: Final = "lab"
"""Tag of cells that make sense only where code can be seen."""


def serve(
    surroundings: Mapping[str, str],
    *,
    base_url: str = "/ui/",
    host: str = "127.0.0.1",
    port: int = 8000,
    names: Sequence[str] = (),
    proxies: Sequence[str] = (),
    hsts: bool = False,
    allow_writes: bool = False,
    tokens: Sequence[token_.Token] = (),
    idle: int = IDLE,
    pages: int = PAGES,
    each: int = EACH,
    fresh: int = FRESH,
    prometheus: Path | None = None,
    report: Path | None = None,
    ready: Callable[[str], object] = lambda _: None,
) -> None:
    """Serve the packaged notebooks as web pages until the process is interrupted or terminated.

    ``<base_url>`` is the overview, ``<base_url>02-storage`` a page, and its query sets parameters:
    ``?repository=vm/centos8``. ``<base_url>healthz`` answers 200 without a token.

    Args:
        surroundings: The kernels' environment, as :func:`regnb.environment.environment` returns it: which registry, and
            with which credentials.
        base_url: The prefix, as a proxy or an Ingress passes it on.
        host: Address to listen on.
        port: Port to listen on.
        names: Host names that people use, beside the address: as for :class:`regnb.wire.hosts.Hosts`.
        proxies: Addresses or networks of proxies that say truly who sent a request, and by https or not.
        hsts: Whether browsers are told to come by https alone.
        allow_writes: Whether the forms may apply their plans; it takes a token that writes.
        tokens: A visitor must know one of them: it is asked for, and a cookie stands for it for 12 hours. Without any,
            everybody may look.
        idle: Seconds after which a page that nobody looks at loses its kernel.
        pages: How many may be open at once.
        each: How many of one visitor.
        fresh: Seconds for which a page shows at once what another one has read, and when it was read; 0 for never.
        prometheus: The file that ``regnb audit --prometheus`` writes: ``<base_url>metrics`` then has its metrics, too.
        report: The file that ``regnb report`` writes: ``<base_url>report`` sends it.
        ready: Called with the URL once the port listens.

    Raises:
        InvalidArgument: No registry, writing without a token, no such prefix, name or proxy, or a port that is in use.
        MissingExtra: Voilà is not installed.

    Example:
        >>> serve(environment("http://localhost:5000"))  # doctest: +SKIP
    """
    registry = surroundings.get("REGNB_URL", "")
    if not registry:
        raise InvalidArgument("no registry was named", hint="regnb ui --registry https://host, or set REGNB_URL")
    same(registry, registry)
    writing = any(token.writes for token in tokens)
    if allow_writes and not writing:
        raise InvalidArgument(
            "everyone who opens the page could write to the registry",
            hint="write a secret into a file, and pass it: (umask 077; openssl rand -hex 16 >FILE); "
            "regnb ui --write-token-file FILE",
        )
    if surroundings.get(TOKEN):
        raise InvalidArgument(
            f"{TOKEN} is not used: every process of this user can read it",
            hint="write the token into a file, and pass it: --write-token-file FILE, or --token-file FILE to look only",
        )
    prefix = f"/{base_url.strip('/')}/".replace("//", "/")
    hosts = Hosts(host, names)
    listener, cookie = listen(host, port), cookie_of(port, prefix, registry)
    kernels = dict(surroundings) | _KERNEL | {"REGNB_FRESH": str(fresh)}
    with (
        tempfile.TemporaryDirectory(prefix="regnb-ui-") as folder,
        tempfile.TemporaryDirectory(prefix="regnb-readings-") as kernels["REGNB_READINGS"],
    ):
        copy_notebooks(Path(folder))
        settings = {
            "Voila": {
                "root_dir": folder,
                "base_url": prefix,
                "ip": host,
                "port": port,
                "open_browser": False,
                "log_level": "WARN",
                "config_file_paths": [],
                "identity_provider_class": Identity,
                "tornado_settings": {
                    "visits": Visits(tokens, cookie),
                    PROMETHEUS: prometheus,
                    REPORT: report,
                    "websocket_max_message_size": LIMIT,
                },
            },
            "VoilaConfiguration": {
                "template": "regnb",
                "allow_template_override": "NO",
                "file_allowlist": [],
                "multi_kernel_manager_class": Kernels,
                "extension_allowlist": list(_EXTENSIONS),
            },
            "VoilaExecutor": {"cell_error_instruction": "The message above says why. The rest of the page needs this."},
            "MappingKernelManager": {"cull_idle_timeout": idle, "cull_interval": max(1, min(60, idle // 2))},
            "KernelProvisionerFactory": {"default_provisioner_name": nursery.NAME},
            # A new process would know nothing of the page: the page is told instead.
            "AsyncIOLoopKernelRestarter": {"restart_limit": 0},
            "Kernels": {"surroundings": kernels, "most": pages, "each": each},
        }
        app = UI(config=Config(settings))
        app.ready, app.listener, app.writing = ready, listener, writing
        app.guard = lambda application: Guard(application, hosts, proxies, cookie=cookie, hsts=hsts)
        app.initialize([])
        app.start()


def page(runbook: Runbook, query: Mapping[str, str], theme: str, registry: str, note: str) -> Upstream:
    """Return a notebook with the parameters of a URL's query, and what its page's heading shows.

    Args:
        runbook: The page.
        query: Names and values; others than those that a visitor may set are refused.
        theme: ``light`` or ``dark``; "" follows the visitor's system.
        registry: What the heading says it is about.
        note: What else it says.

    Raises:
        InvalidArgument: There is no such theme or parameter, or none that a visitor may set.

    Example:
        >>> found = page(find("01-inventory"), {"repository": "vm/centos8"}, "light", "localhost:5000", "")
        >>> found.metadata.regnb["given"]
        True
    """
    if theme not in ("", "light", "dark"):
        raise InvalidArgument(f"there is no theme {theme[:100]!r}", hint="theme=light or theme=dark")
    known = [name for name in runbook.parameters if name in _ASKED]
    for name in query:
        if name not in known:
            can = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InvalidArgument(f"this page has no parameter {name[:100]!r}", hint=can)
    given = values(runbook, query)
    notebook = filled(runbook, given)
    notebook.cells = [cell for cell in notebook.cells if _ONLY_IN_LAB not in cell.metadata.get("tags", [])]
    notebook.metadata["title"] = f"{runbook.question} regnb"
    shown = {name: given.get(name, runbook.parameters[name]) for name in known}
    others = [each for each in ("light", "dark") if each != theme]
    notebook.metadata["regnb"] = {
        "name": runbook.name,
        "pages": [(each.name, title_of(each)) for each in runbooks()],
        "registry": registry,
        "note": note,
        "asked": [(name, ", ".join(value) if isinstance(value, list) else str(value)) for name, value in shown.items()],
        "given": bool(query),
        "theme": theme,
        "others": [(each.capitalize(), f"?{urlencode({**query, 'theme': each})}") for each in others],
    }
    return notebook


def title_of(runbook: Runbook) -> str:
    """Return what a page is called in the heading.

    Example:
        >>> title_of(find("02-storage"))
        'Storage'
    """
    return _TITLES.get(runbook.name) or runbook.name.partition("-")[2].replace("-", " ").capitalize()


class Page(Plain, TornadoVoilaHandler):  # type: ignore[misc]
    """A notebook, by its name alone."""

    async def prepare(self) -> None:
        """Send the light page, unless this is a visit."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if arrive(self):
            await super().prepare()

    @tornado.web.authenticated
    async def get(self, name: str | None = None) -> None:
        """Execute it, and send it as it comes."""
        with tempfile.NamedTemporaryFile(prefix="regnb-page-") as progress:
            self.progress = Path(progress.name)
            await self._make(name)

    @tornado.web.authenticated
    def head(self, _: str | None = None) -> None:
        """Answer without a page: none is made for a program that only asks whether it is there."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")

    def on_connection_close(self) -> None:
        """Stop making the page: it was left or reloaded before it was there."""
        if not self.gone.done():
            self.gone.set_result(None)

    async def _make(self, name: str | None) -> None:
        theme = self.get_query_argument("theme", "")
        names = [key for key in self.request.query_arguments if key != "theme"]
        visits, kernels = self.settings["visits"], self.kernel_manager
        token = visits.token(self.current_user.username)
        visitor = Visitor(self.current_user.username, self.request.remote_ip, token is not None and token.writes)
        note = "" if visitor.writes else "read-only: forms make plans, and cannot apply them"
        status = 400
        try:
            query = {key: self.get_query_argument(key) for key in names}
            runbook = find(name or _START)
            self.filled = page(runbook, query, theme, redact(kernels.surroundings["REGNB_URL"]), note)
            self.filled.metadata["regnb"]["login"] = token.name if token else ""
            by = f"token {token.name}, {visitor.address}" if token else visitor.address
            cell: Upstream = new_code_cell
            given = {"REGNB_VISITOR": by, "REGNB_PROGRESS": str(self.progress)}
            self.filled.cells.insert(0, cell(f"import os; os.environ.update({given!r})"))
            nonce = self.filled.metadata.regnb["nonce"] = secrets.token_urlsafe(16)
            self.filled.metadata.regnb["drawn"] = DRAWN
            self.set_header("Content-Security-Policy", scripted(nonce))
            self.set_header("X-Accel-Buffering", "no")  # else nginx keeps what says how far the page is
            status = 503
            kernels.take_room(self, visitor)
        except InvalidArgument as error:
            say(self, box("bad", error.message, error.hint), status)
            return
        try:
            await making.send(self, runbook.path.name)
        finally:
            (kernels.give_up if self.gone.done() else kernels.leave_room)(self)

    def told(self, text: str = "") -> str:
        """Return a script that says how far the page is: by default, what the kernel last wrote of its progress."""
        text = text or self.progress.read_text(encoding="utf-8", errors="replace")[:_LINE]
        if not text:
            return "\n"  # a proxy waits only so long for the next byte
        quoted = json.dumps(text).replace("<", "\\u003c")
        return f'<script nonce="{self.filled.metadata.regnb["nonce"]}">regnb_told({quoted})</script>\n'


class Healthy(Plain, tornado.web.RequestHandler):
    """What a probe asks: no token, and no kernel is started."""

    def get(self) -> None:
        """Answer."""
        self.finish("ok")

    head = get


class Socket(Plain, tornado.websocket.WebSocketHandler):
    """What ``regnb kube check`` asks for, to see whether WebSockets come through."""

    def check_origin(self, _: str) -> bool:
        """Say yes: the guard has compared it."""
        return True

    def open(self) -> None:
        """Say goodbye."""
        self.close()


class Nowhere(Guarded, Plain, JupyterHandler):
    """Every other path."""

    @allow_unauthenticated
    def get(self) -> None:
        """Say that there is nothing, and where there is something."""
        say(self, f"<p>There is no such page. <a href='{html.escape(self.base_url)}'>Go to the overview.</a></p>", 404)

    head = post = get


class Away(Plain, JupyterHandler):
    """What is at the root, before the prefix."""

    @allow_unauthenticated
    def get(self) -> None:
        """Lead to the prefix."""
        self.redirect(self.base_url)

    head = get


def _short(record: logging.LogRecord) -> bool:
    """Let a message of use through without queries, and cut to a length: it may hold what a visitor sent."""
    if any(each in str(record.msg) for each in _UNSAID):
        return False
    text = re.sub(r"\?[^\s'\"]*", "?…", record.getMessage())
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)[-_LINE:]
        record.exc_info = None
    if not text.strip():
        return False
    record.msg, record.args = text if len(text) <= 2 * _LINE else f"{text[:_LINE]}…", ()
    return True


class UI(Voila):  # type: ignore[misc]
    """Voilà, with the notebooks as its only pages, behind a guard and a door."""

    ready: Callable[[str], object]
    listener: socket.socket
    writing: bool
    guard: Callable[[Upstream], Guard]

    def init_handlers(self) -> list[Upstream]:
        """Return the routes: a page for each notebook instead of a browser of files."""
        unwanted = (TornadoVoilaTreeHandler, TornadoVoilaHandler, VoilaContentsHandler)
        own = {
            KernelHandler: Kernel,
            VoilaKernelWebsocketHandler: Channel,
            VoilaShutdownKernelHandler: Shutdown,
        }
        routes = [
            (path.replace(*_FILES), type(handler.__name__, (Plain, own.get(handler, handler)), {}), *rest)
            for path, handler, *rest in super().init_handlers()
            if handler not in unwanted
        ]
        given = {"template_paths": self.template_paths, "config": self.config}
        given["voila_configuration"] = self.voila_configuration
        names = "|".join(each.name for each in runbooks())
        routes += [
            (f"{self.base_url}()", Page, given),
            (rf"{self.base_url}({names})(?:\.ipynb)?", Page, given),
            (f"{self.base_url}healthz", Healthy),
            (f"{self.base_url}metrics", Metrics),
            (f"{self.base_url}report", Nightly),
            (f"{self.base_url}socket", Socket),
            (f"{self.base_url}login", Login),
            (f"{self.base_url}logout", Logout),
            *([("/", Away), (self.base_url.rstrip("/"), Away)] if self.base_url != "/" else []),
            (".*", Nowhere),
        ]
        self.app.settings["log_function"] = lambda _: None
        for name in ("tornado.application", "tornado.general", "tornado.access", self.log.name):
            logging.getLogger(name).addFilter(_short)
        tornado.ioloop.IOLoop.current().add_callback(self._begin)
        return routes

    def listen(self) -> None:
        """Open the door, and go round until the process is told to end."""
        self.ioloop = tornado.ioloop.IOLoop.current()
        guard = self.guard(self.app)
        server = tornado.httpserver.HTTPServer(guard, idle_connection_timeout=60, body_timeout=20, max_body_size=_BODY)
        door = Door(self.listener, server, f"{self.base_url}healthz", guard)
        door.open()
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            door.close()
            self.stop()

    def _begin(self) -> None:
        self.kernel_manager.refill(writes=self.writing)
        self.ready(self.connection_url)

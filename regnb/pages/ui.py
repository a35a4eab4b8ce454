"""The web UI: the packaged notebooks as pages, served by Voilà behind whatever prefix an Ingress gives them."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from regnb.errors import InvalidArgument, MissingExtra
from regnb.notebooks.lab import copy_notebooks
from regnb.notebooks.runbook import Runbook, filled, find, runbooks, values
from regnb.pages import nursery
from regnb.widgets.page import box
from regnb.wire.addresses import same

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # they warn about each other
    try:
        import tornado.ioloop
        import tornado.web
        from jupyter_server.auth.login import LoginFormHandler
        from jupyter_server.auth.logout import LogoutHandler
        from jupyter_server.base.handlers import JupyterHandler
        from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
        from traitlets import Dict, Integer
        from traitlets.config import Config
        from voila.app import Voila
        from voila.tornado.contentshandler import VoilaContentsHandler
        from voila.tornado.handler import TornadoVoilaHandler
        from voila.tornado.treehandler import TornadoVoilaTreeHandler
        from voila.voila_identity_provider import VoilaLoginHandler
    except ImportError as missing:
        raise MissingExtra(missing.name or "voila", "lab") from None

TOKEN: Final = "REGNB_UI_TOKEN"  # noqa: S105 -- the variable's name
"""The environment's variable with what a visitor must know."""
IDLE: Final = 600
"""Seconds after which a page that nobody looks at loses its kernel."""
PAGES: Final = 20
"""Pages that may be open at once: each takes a kernel, of 60 to 100 MB where it can be forked, else about 250 MB."""

_LEAST: Final = 16
"""Characters of a token: nothing slows down whoever tries them all."""
_START: Final = "00-start"
_ASKED: Final = frozenset(
    {"repository", "reference", "references", "created_before", "size", "protect", "keep", "capacity", "tag", "to"}
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
_ONLY_IN_LAB: Final = "lab"
"""Tag of cells that make sense only where code can be seen."""
_WARM: Final = "from regnb.pages import charts; from regnb.widgets import forms, page, start; page.quiet(get_ipython())"
"""What a kernel does before a visitor comes."""
_LATER: Final = 3.0
"""Seconds until another kernel is started in reserve: the page that took the last one comes first."""


def serve(
    surroundings: Mapping[str, str],
    *,
    base_url: str = "/ui/",
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_writes: bool = False,
    token: str = "",
    idle: int = IDLE,
    pages: int = PAGES,
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
        allow_writes: Whether the forms may apply their plans.
        token: What a visitor must know: it is asked for once and kept in a cookie. "" lets everybody in.
        idle: Seconds after which a page that nobody looks at loses its kernel.
        pages: How many may be open at once.
        ready: Called with the URL once the port listens.

    Raises:
        InvalidArgument: No registry, writing without a token, no such prefix, or a port that is in use.
        MissingExtra: Voilà is not installed.

    Example:
        >>> serve(environment("http://localhost:5000"))  # doctest: +SKIP
    """
    registry = surroundings.get("REGNB_URL", "")
    if not registry:
        raise InvalidArgument("no registry was named", hint="regnb ui --registry https://host, or set REGNB_URL")
    same(registry, registry)
    if allow_writes and not token:
        raise InvalidArgument(
            "whoever opens the page could write to the registry",
            hint=f"set {TOKEN} to a secret that visitors are to know: export {TOKEN}=$(openssl rand -hex 16)",
        )
    if token and len(token) < _LEAST:
        raise InvalidArgument(f"the token in {TOKEN} has fewer than {_LEAST} characters", hint="openssl rand -hex 16")
    prefix = f"/{base_url.strip('/')}/".replace("//", "/")
    _check_free(host, port)
    kernels = {name: value for name, value in surroundings.items() if name != TOKEN}
    kernels |= {"REGNB_SERVED": "1", "PLOTLY_RENDERER": "plotly_mimetype"}
    if not allow_writes:
        kernels["REGNB_READ_ONLY"] = "1"
    # No kernel, and nothing that a kernel starts, is to see it.
    os.environ.pop(TOKEN, None)
    with tempfile.TemporaryDirectory(prefix="regnb-ui-") as folder:
        copy_notebooks(Path(folder))
        settings = {
            "Voila": {
                "root_dir": folder,
                "base_url": prefix,
                "ip": host,
                "port": port,
                "port_retries": 0,
                "open_browser": False,
                "token": token,
                "log_level": "WARN",
                "config_file_paths": [],
            },
            "VoilaConfiguration": {
                "template": "regnb",
                "allow_template_override": "NO",
                "prelaunch_hook": _chosen,
                "file_allowlist": [],
                "multi_kernel_manager_class": Kernels,
                "extension_allowlist": list(_EXTENSIONS),
            },
            "VoilaExecutor": {"cell_error_instruction": "What stands above says why. The rest of the page needs it."},
            "IdentityProvider": {"cookie_options": {"samesite": "Lax"}},
            "PasswordIdentityProvider": {"allow_password_change": False},
            "MappingKernelManager": {"cull_idle_timeout": idle, "cull_interval": max(1, min(60, idle // 2))},
            "KernelProvisionerFactory": {"default_provisioner_name": nursery.NAME},
            "Kernels": {"surroundings": kernels, "most": pages},
        }
        app = UI(config=Config(settings))
        app.ready = ready
        app.initialize([])
        app.start()


def _check_free(host: str, port: int) -> None:
    """Voilà would end the process."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", "") or error
        raise InvalidArgument(f"cannot listen on {host}:{port}: {reason}", hint="pass another --port") from None


def page(runbook: Runbook, query: Mapping[str, str], theme: str, registry: str, note: str) -> Any:  # noqa: ANN401 -- nbformat's
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


def _shell(body: str) -> str:
    """Return a page without a notebook."""
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        "<title>regnb</title><style>:root { color-scheme: light dark; } body { max-width: 640px; margin: 15vh auto;"
        " padding: 0 16px; font: 15px/1.6 system-ui, sans-serif; } input, button { font: inherit; padding: 4px 8px; }"
        f"</style></head><body><main><h1>regnb</h1>{body}</main></body></html>"
    )


class Page(TornadoVoilaHandler):  # type: ignore[misc]
    """A notebook, by its name alone."""

    @tornado.web.authenticated
    async def get(self, name: str | None = None) -> None:
        """Execute it, and send it as it comes."""
        _ = self.xsrf_token  # sets the cookie with which the page, when it is left, asks to end its kernel
        theme = self.get_query_argument("theme", "")
        names = [key for key in self.request.query_arguments if key not in ("theme", "token")]
        kernels = self.kernel_manager.surroundings
        note = "read-only: forms make plans, and apply none" if "REGNB_READ_ONLY" in kernels else ""
        try:
            query = {key: self.get_query_argument(key) for key in names}
            runbook = find(name or _START)
            self.filled = page(runbook, query, theme, kernels["REGNB_URL"].rpartition("@")[2], note)
            self.kernel_manager.take_room(self)
        except InvalidArgument as error:
            self.set_status(400)
            self.finish(_shell(box("bad", error.message, error.hint)))
            return
        try:
            await super().get(runbook.path.name)
        finally:
            self.kernel_manager.leave_room(self)


def _chosen(handler: Page, **_: object) -> Any:  # noqa: ANN401 -- nbformat's
    """Return what is shown: the notebook with what its visitor asked for."""
    return handler.filled


class Login(LoginFormHandler):
    """Asks a visitor for the token; a cookie then remembers that it was right."""

    def _render(self, message: Mapping[str, str] | None = None) -> None:
        following = self.get_argument("next", default=self.base_url)
        self.finish(
            _shell(
                f"<form method='post' action='?{urlencode({'next': following})}'>{self.xsrf_form_html()}"
                "<p>Whoever opens these pages must know their token.</p><label>Token "
                "<input type='password' name='password' autocomplete='current-password' autofocus></label> "
                f"<button>Open</button></form>{box('bad', 'That is not the token.') if message else ''}"
            )
        )


class Healthy(tornado.web.RequestHandler):
    """What a probe asks: no token, and no kernel is started."""

    def get(self) -> None:
        """Answer."""
        self.finish("ok")


class Away(JupyterHandler):
    """What is at the root, before the prefix."""

    def get(self) -> None:
        """Lead to the prefix."""
        self.redirect(self.base_url)


class Kernels(AsyncMappingKernelManager):
    """The pages' kernels: one is in reserve that has imported everything, and there are only so many."""

    surroundings = Dict(config=True)
    most = Integer(PAGES, config=True)

    def __init__(self, **given: Any) -> None:  # noqa: ANN401
        super().__init__(**given)  # type: ignore[no-untyped-call]
        self._reserve: list[str] = []
        self._refill: asyncio.Task[None] | None = None
        self._given: set[str] = set()
        self._opening: set[object] = set()

    def take_room(self, page: object) -> None:
        """Count a page that is about to open, until it has its kernel or gives up; raise if it is one too many."""
        self._given = {each for each in self._given if each in self}
        if len(self._given) + len(self._opening) >= self.most:
            raise InvalidArgument(
                f"{self.most} pages are open, and no more are served at once",
                hint="close one; a page that nobody looks at ends by itself",
            )
        self._opening.add(page)

    def leave_room(self, page: object) -> None:
        """Count a page no longer that did not get as far as a kernel."""
        self._opening.discard(page)

    async def start_kernel(self, **_: object) -> str:  # type: ignore[override]
        """Return the kernel in reserve, or a new one."""
        alive = [each for each in self._reserve if each in self]
        self._reserve = alive[1:]
        kernel_id = alive[0] if alive else await self._start()
        self._given.add(kernel_id)
        if self._opening:
            self._opening.pop()  # whichever: each page starts one
        self.refill(_LATER)
        return kernel_id

    def refill(self, after: float = 0) -> None:
        """See to it that there will be a kernel in reserve."""

        async def work() -> None:
            await asyncio.sleep(after)
            if not self._reserve:
                self._reserve.append(await self._start())

        if self._refill is None or self._refill.done():
            self._refill = asyncio.get_running_loop().create_task(work())

    async def _start(self) -> str:
        arguments = [f"--IPKernelApp.exec_lines={_WARM}", "--log-level=ERROR"]
        return str(
            await super().start_kernel(kernel_name="python3", env=dict(self.surroundings), extra_arguments=arguments)
        )

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel that nobody looks at, but the one in reserve."""
        if kernel_id not in self._reserve:
            await super().cull_kernel_if_idle(kernel_id)  # type: ignore[no-untyped-call]


def _without_query(record: logging.LogRecord) -> bool:
    """Let a message through without the query of the request that it is about."""
    record.msg, record.args = re.sub(r"\?[^\s'\"]*", "?…", record.getMessage()), ()
    return True


class UI(Voila):  # type: ignore[misc]
    """Voilà, with the notebooks as its only pages."""

    ready: Callable[[str], object]

    def init_handlers(self) -> list[Any]:
        """Return the routes: a page for each notebook instead of a browser of files."""
        unwanted = (
            TornadoVoilaTreeHandler,
            TornadoVoilaHandler,
            VoilaContentsHandler,
            VoilaLoginHandler,
            LogoutHandler,
        )
        routes = [route for route in super().init_handlers() if route[1] not in unwanted]
        given = {"template_paths": self.template_paths, "config": self.config}
        given["voila_configuration"] = self.voila_configuration
        names = "|".join(each.name for each in runbooks())
        routes += [
            (f"{self.base_url}()", Page, given),
            (rf"{self.base_url}({names})(?:\.ipynb)?", Page, given),
            (f"{self.base_url}healthz", Healthy),
            (f"{self.base_url}login", Login),
            *([("/", Away), (self.base_url.rstrip("/"), Away)] if self.base_url != "/" else []),
        ]
        # A URL may hold a token: requests are not logged, and what is logged of a failed one does not show it.
        self.app.settings["log_function"] = lambda _: None
        logging.getLogger("tornado.application").addFilter(_without_query)
        tornado.ioloop.IOLoop.current().add_callback(self._begin)
        return routes

    def _begin(self) -> None:
        self.kernel_manager.refill()
        self.ready(self.connection_url)

"""What is reachable of a registry and its UI: through an Ingress, with its certificate and limits, or at node ports."""

# ruff: noqa: PLR2004 - an HTTP status is known by its number

from __future__ import annotations

import contextlib
import ssl
import time
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from anyio.from_thread import start_blocking_portal

from regnb.environment import variable
from regnb.errors import (
    ConnectionFailed,
    Denied,
    InvalidArgument,
    Refused,
    RegistryError,
    RegnbError,
    Unauthorized,
    Unsupported,
)
from regnb.oci.reference import check_repository
from regnb.tables.frame import Frame, of_rows
from regnb.text import human, parse_size
from regnb.wire import probe
from regnb.wire.channel import Channel
from regnb.wire.client import Client
from regnb.wire.credentials import Credentials
from regnb.wire.health import Check
from regnb.wire.transport import Transport

_SOON: Final = 14
"""Days before a certificate's end that are worth a word."""
_HINTS: Final = {
    404: "no rule for this host and path: kubectl get ingress -A; or another controller has the class",
    413: 'for ingress-nginx set the annotation nginx.ingress.kubernetes.io/proxy-body-size: "0"; '
    "for Traefik raise maxRequestBodyBytes of its buffering Middleware",
    502: "the proxy reaches nobody behind it: do the pods run, and does the Service find them? kubectl get endpoints",
}
_HINTS.update(dict.fromkeys((503, 504), _HINTS[502]))
_SLOW: Final = (
    "for ingress-nginx set the annotations proxy-read-timeout and proxy-send-timeout; for Traefik "
    "--entryPoints.websecure.transport.respondingTimeouts.readTimeout=0, as uploads end after 60 s else"
)
_FORCE: Final = (
    "for ingress-nginx set the annotation nginx.ingress.kubernetes.io/force-ssl-redirect; for Traefik use a "
    "redirectScheme Middleware: regnb kube expose --https-only writes either"
)
_FORWARDED: Final = (
    "the proxy must hand on Host and X-Forwarded-Proto; or set REGISTRY_HTTP_RELATIVEURLS=true at the registry"
)
_PLAIN: Final = "Docker pulls and pushes over plain http only if the host is among its insecure-registries"
_UNPASSED: Final = (
    "for nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; "
    "proxy_set_header Host $http_host; for Traefik take away what changes the headers Connection and Upgrade; 403 and "
    "421: regnb ui --host-name HOST"
)
_LOGIN: Final = "docker login, as somebody who may push"


def check(
    host: str,
    *,
    http_port: int = 80,
    https_port: int = 443,
    api_port: int | None = None,
    ui_port: int | None = None,
    https_only: bool = False,
    upload: bool = True,
    size: float | str = "20MB",
    repository: str = "",
    credentials: Credentials | None = None,
    ca_bundle: str | Path | None = None,
    insecure: bool = False,
    timeout: float = 30.0,
) -> Frame:
    """Test what is reachable at a host, as an Ingress or a NodePort Service should serve it.

    Everything is read, but for the upload: it is begun, sent zeros, and given up, so that nothing is stored. With
    ``REGNB_READ_ONLY`` in the environment it is not sent.

    Args:
        host: A name or an address, without a port.
        http_port: Of the Ingress controller.
        https_port: The same.
        api_port: Node port of the API: then this, over http, is what is tested.
        ui_port: Node port of the UI; by default the UI is not tested there.
        https_only: Whether http must lead to https.
        upload: Whether to test an upload.
        size: Bytes to upload; nginx lets 1 MB through unless it is told otherwise.
        repository: Where to begin it; by default in the first one that the registry lists.
        credentials: By default those that docker login stored.
        ca_bundle: Certificates to trust, beside the system's.
        insecure: Whether to accept any certificate.
        timeout: Seconds to wait for each piece of an answer.

    Returns:
        Columns: check, state (ok, warn, fail, skipped), found, hint.

    Raises:
        InvalidArgument: No host, port or size.

    Example:
        >>> check("r.example.com")  # doctest: +SKIP
    """
    if not host or any(sign in host for sign in "/@ ") or ":" in host.rpartition("]")[2]:
        raise InvalidArgument(
            f"not a host name: {host.rpartition('@')[2][:100]!r}", hint="write it alone; ports are options"
        )
    if repository:
        check_repository(repository)
    refuse = bool(variable("REGNB_READ_ONLY"))
    ask = partial(Transport, ca_bundle=ca_bundle, insecure=insecure, timeout=timeout, retries=0, read_only=refuse)
    reach = _Reach(
        partial(ask, credentials=credentials, stored=True), ask, parse_size(size) if upload else 0, repository
    )
    work = (
        partial(reach.ingress, f"http://{host}:{http_port}", f"https://{host}:{https_port}", https_only=https_only)
        if api_port is None
        else partial(reach.ports, f"http://{host}:{api_port}", f"http://{host}:{ui_port}" if ui_port else "")
    )
    # A loop of its own: a notebook's thread has one that runs already.
    with start_blocking_portal() as portal:
        return of_rows("checks", portal.call(work))


class _Reach:
    """One look at a host: how to get there with credentials and without, and what to send."""

    def __init__(self, known: Any, stranger: Any, size: int, repository: str) -> None:  # noqa: ANN401
        self._known, self._stranger, self._size, self._repository = known, stranger, size, repository

    async def ports(self, api: str, ui: str) -> list[Check]:
        async with Client(self._known(api)) as client:
            answers = await _registry(client, "registry")
            pushed = await self._pushed(client, answers.state)
            return [answers, *(await self._ui(ui) if ui else []), *pushed]

    async def ingress(self, http: str, https: str, *, https_only: bool) -> list[Check]:
        # Without TLS whoever listens reads a password: none goes there unless it is the only way in.
        known = self._known(https)
        async with (
            Client(self._stranger(http)) as plain,
            Client(known) as secure,
            Client(self._known(http)) as clear,
        ):
            over_http = await _registry(plain, "registry over http")
            over_https = await _registry(secure, "registry over https")
            moved = _moved(plain.transport)
            works = over_https.state != "fail"
            if over_http.state == "warn" and not (works or moved or https_only):
                over_http = await _registry(clear, "registry over http")
            if moved:
                over_http = over_http._replace(state="ok", found=f"leads to {moved}", hint="")
            elif over_http.state == "fail":
                over_http = over_http._replace(state="warn" if works else "fail")
            elif https_only:
                over_http = over_http._replace(state="fail", found=f"not led to https: {over_http.found}", hint=_FORCE)
            elif not works:
                over_https = over_https._replace(state="warn", hint=_PLAIN)
            rows = [over_http, over_https]
            if any(exchange.status for exchange in known.exchanges):
                rows.append(await _certificate(known))
            client, answers = (secure, over_https) if works or moved else (clear, over_http)
            rows += await self._ui(client.transport.url)
            return rows + await self._pushed(client, answers.state)

    async def _ui(self, url: str) -> list[Check]:
        """Ask for the UI's page, without credentials: those are the registry's."""
        async with self._stranger(url) as transport:
            page = await _asked(transport, "UI", "/ui/")
            if page.state == "fail":
                return [page, Check("UI's health", "skipped", "the UI was not reached")]
            health = await _asked(transport, "UI's health", "/ui/healthz")
            if health.state == "fail":
                hint = "the probes that regnb kube expose writes ask for it: is this regnb's UI?"
                return [page, health._replace(hint=hint)]
            return [page, health, await _passed(transport)]

    async def _pushed(self, client: Client, state: str) -> list[Check]:
        name, repository = f"upload of {human(self._size)}", self._repository
        if not self._size:
            return []
        if state == "fail":
            return [Check(name, "skipped", "the registry was not reached")]
        repository = repository or await _first(client)
        if not repository:
            return [Check(name, "skipped", "no repository is listed", "name one to begin it in; it need not be there")]
        try:
            found = await probe.upload(client, repository, self._size)
        except (Unauthorized, Denied):
            return [Check(name, "skipped", "nobody may push without other credentials", _LOGIN)]
        except Refused as error:
            return [Check(name, "skipped", error.message)]
        except Unsupported as error:
            return [Check(name, "skipped", "the registry takes no uploads", error.hint)]
        except RegnbError as error:
            return [_failed(name, error)]
        where = Check("uploads' address", "ok" if found.own else "fail", found.origin, "" if found.own else _FORWARDED)
        if found.refused is None:
            return [where, Check(name, "ok", f"taken in {repository}, and given up")]
        refused = _failed(name, found.refused)
        slow = isinstance(found.refused, ConnectionFailed) or found.refused.status in (408, 504)
        return [where, refused._replace(hint=_SLOW) if slow else refused]


async def _registry(client: Client, name: str) -> Check:
    try:
        ping = await client.ping()
    except (Unauthorized, Denied):
        return Check(name, "warn", "it asks for credentials, and these are not enough", _LOGIN)
    except RegnbError as error:
        return _failed(name, error)
    who = "credentials accepted" if ping.authenticated else "no login is needed"
    return Check(name, "ok", f"{ping.api_version or 'without a version'}, {who}")


def _failed(name: str, error: RegnbError) -> Check:
    """Return the row of what went wrong; a status says more than a server's page about it."""
    status = (error.status or 0) if isinstance(error, RegistryError) else 0
    if not isinstance(error, RegistryError) or status < 400:
        return Check(name, "fail", error.message, error.hint)
    path = urlsplit(error.url).path.partition("/uploads/")[0]
    return Check(name, "fail", f"{status} to {error.method} {path}", _HINTS.get(status) or error.hint)


def _moved(transport: Channel) -> str:
    """Return the https URL that the first answer led to, or ""."""
    first = next(iter(transport.exchanges), None)
    location = first.response_headers.get("location", "") if first and first.status in (301, 302, 307, 308) else ""
    return location if location.startswith("https://") else ""


async def _certificate(transport: Transport) -> Check:
    try:
        found = await transport.certificate()
    except RegnbError as error:
        return Check("certificate", "skipped", error.message)
    if not found:
        return Check("certificate", "warn", "accepted without looking at it", "leave insecure out")
    days = (ssl.cert_time_to_seconds(found["notAfter"]) - time.time()) / 86_400
    names = ", ".join(name for _, name in found.get("subjectAltName", ()))
    text = f"trusted, {days:,.0f} days left, for {names}"
    return Check("certificate", "ok", text) if days >= _SOON else Check("certificate", "warn", text, "renew it")


async def _asked(transport: Transport, name: str, path: str) -> Check:
    try:
        answer = await transport.request("GET", path)
    except Unauthorized:
        return Check(name, "ok", "it asks for a login")
    except RegnbError as error:
        return _failed(name, error)
    if answer.status >= 400:
        return Check(name, "fail", f"{answer.status} to GET {path}", _HINTS.get(answer.status, ""))
    return Check(name, "ok", f"{answer.status} to GET {path}, with {'a page' if answer.html else 'no page'}")


async def _passed(transport: Transport) -> Check:
    """Tell whether WebSockets come through to the UI."""
    name = "UI's WebSocket"
    try:
        status = await transport.handshake("/ui/socket")
    except RegnbError as error:
        return _failed(name, error)
    if status == 101:
        return Check(name, "ok", "101 to a WebSocket's handshake")
    return Check(name, "fail", f"{status or 'no WebSocket'} to a WebSocket's handshake", _UNPASSED)


async def _first(client: Client) -> str:
    with contextlib.suppress(RegnbError):
        async for page in client.catalog(page_size=1):
            if page:
                return page[0]
    return ""

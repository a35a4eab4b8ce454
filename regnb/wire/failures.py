"""What an answer, or the lack of one, means as an error."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from regnb.errors import (
    ConnectionFailed,
    Denied,
    NotFound,
    RateLimited,
    ReadOnly,
    RegistryError,
    ServerFailed,
    TLSFailed,
    Unauthorized,
    Unproven,
    Unsupported,
)
from regnb.text import printable, redact
from regnb.wire import existence
from regnb.wire.addresses import FRONT, origin
from regnb.wire.exchange import reason
from regnb.wire.messages import Response, Streamed

ERRORS_SHOWN: Final = 100
_NO_SPACE: Final = '"Err":28}'
"""How distribution tells that its disk is full: an error of its file system, with its number."""
BY_STATUS: Final[dict[int, tuple[type[RegistryError], str]]] = {
    401: (Unauthorized, ""),
    403: (Denied, "ask the registry's owner for the permission"),
    404: (NotFound, ""),
    405: (Unsupported, ""),
    429: (RateLimited, "try again later, or with credentials that have a higher limit"),
}
# What stands in the names or texts of a failure and its causes, what it means, and a hint; the first that fits counts.
_TLS_FAILURES: Final = (
    (
        ("self-signed", "self signed", "unable to get local issuer"),
        "its certificate is signed by an unknown authority",
        "pass its ca_bundle",
    ),
    (("CERTIFICATE_VERIFY_FAILED", "Certificate"), "its certificate is not valid: {reason}", "check name and date"),
    (
        ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"),
        "it does not answer with TLS",
        "write http://{host} if it is a plain-http registry",
    ),
    (
        ("CERTIFICATE_REQUIRED", "certificate required", "HANDSHAKE_FAILURE"),
        "it asks for a client certificate",
        "pass client_cert",
    ),
)
_FAILURES: Final = (
    (
        ("UnreachedProxy",),
        "cannot reach {host}: {error}",
        "check the proxy in http_proxy, https_proxy or all_proxy; no_proxy={host} goes without it",
    ),
    (("TimeoutError",), "{host} did not answer in {seconds:g} s", ""),
    (("gaierror", "UnicodeError"), "host {host} not found", "check the spelling, and the DNS server"),
    # Where a name has several addresses, asyncio tells of them in one text.
    (
        ("ConnectionRefusedError", f"Multiple exceptions: [Errno {errno.ECONNREFUSED}]"),
        "{host} refuses connections",
        "check the port, and that the registry runs",
    ),
)
_HOSTED: Final = {
    "docker.io": "Docker",
    "ghcr.io": "GitHub",
    "quay.io": "Red Hat",
    "gcr.io": "Google",
    "pkg.dev": "Google",
    "amazonaws.com": "Amazon",
    "amazonaws.com.cn": "Amazon",
    "public.ecr.aws": "Amazon",
    "azurecr.io": "Microsoft",
    "azurecr.cn": "Microsoft",
    "azurecr.us": "Microsoft",
    "mcr.microsoft.com": "Microsoft",
    "registry.gitlab.com": "GitLab",
    "registry.k8s.io": "Kubernetes",
}
"""Hosts whose registries have options that their vendors alone can set."""
_Kind = TypeVar("_Kind", bound=RegistryError)


def failure(
    kind: type[_Kind], answer: Response | Streamed, message: str, *, hint: str = "", codes: Sequence[str] = ()
) -> _Kind:
    """Return the error that an answer means, with its status and the request.

    Example:
        >>> failure(NotFound, Response("GET", "http://h/v2/", 404, {}, b""), "there is no h").status
        404
    """
    url = redact(answer.url)
    return kind(message, hint=hint, status=answer.status, codes=codes, method=answer.method, url=url)


def unproven(response: Response, doubt: str, registry: str = "") -> Unproven:
    """Return the error of an answer that proves nothing about whether something exists.

    Args:
        response: The answer.
        doubt: Why, in the words of :func:`regnb.wire.existence.doubt`.
        registry: The registry that was asked; by default the origin that answered.
    """
    text = f"{response.method} {redact(response.url)}: {response.status}: {doubt}, so it is not known what exists there"
    hint = FRONT
    if registry and origin(response.url) != origin(registry):
        hint = f"connect to {redact(origin(response.url))} itself"
    return failure(Unproven, response, text, hint=hint)


def hosted(url: str) -> str:
    """Return what to do where a registry does not delete and nobody but its vendor can set its options; else "".

    Example:
        >>> hosted("https://ghcr.io"), hosted("http://localhost:5000")
        ('delete it by the API, or on the pages, of GitHub, which runs this registry', '')
    """
    host = urlsplit(url).hostname or ""
    name = next((name for end, name in _HOSTED.items() if host == end or host.endswith(f".{end}")), "")
    return f"delete it by the API, or on the pages, of {name}, which runs this registry" if name else ""


def raise_for(response: Response, registry: str = "") -> None:
    """Raise the error that an answer with a status of 400 or more stands for; return if it is none.

    Every error in the body is shown (distribution spec 1.1, "Error Codes"), with its detail.

    Args:
        response: The answer.
        registry: The registry that was asked; by default the origin that answered.

    Raises:
        Unauthorized, Denied, NotFound, Unsupported, RateLimited, ServerFailed: For 401, 403, 404, 405, 429 and 5xx.
        Unproven: For a 404 that is not the registry's own.
        RegistryError: For any other status from 400.

    Example:
        >>> raise_for(Response("GET", "http://localhost:5000/v2/", 200, {}, b"{}"))
    """
    status = response.status
    if status < 400:
        return
    codes, lines = _errors(response)
    if status == 404 and (doubt := existence.doubt(response, registry or origin(response.url), codes)):
        if lines:
            doubt = f"{doubt} ({'; '.join(lines)[:400]})"
        raise unproven(response, doubt, registry)
    other = (ServerFailed, "the registry's log says why") if status >= 500 else (RegistryError, "")
    kind, hint = BY_STATUS.get(status, other)
    vendor = hosted(registry or response.url) if status == 405 else ""
    if status == 405 and response.method != "GET" and response.media_type == "text/plain":
        kind = ReadOnly
        hint = vendor or "the registry is read-only (storage.maintenance.readonly in its config)"
    elif status == 405 and response.method == "DELETE":
        hint = vendor or "set storage.delete.enabled: true in its config, if it is CNCF distribution (docker-registry)"
    elif status >= 500 and any(_NO_SPACE in line for line in lines):
        hint = "the registry's disk is full: make room there"
    what = "; ".join(lines) or reason(status) or "no reason given"
    text = f"{response.method} {redact(response.url)}: {status}: {what}"
    raise failure(kind, response, text, hint=hint, codes=codes)


def unreached(method: str, url: str, error: OSError, seconds: float) -> ConnectionFailed:
    """Return the error of a request without an answer, told apart by the names and texts of the error and its causes.

    Args:
        method: Of the request.
        url: Of the request.
        error: What was raised.
        seconds: How long the first byte was waited for.

    Example:
        >>> str(unreached("GET", "http://localhost:5000/v2/", ConnectionRefusedError(), 30))
        'localhost:5000 refuses connections; check the port, and that the registry runs'
    """
    shown = redact(url)
    host, scheme = urlsplit(shown).netloc, urlsplit(shown).scheme
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    kinds = " ".join(type(each).__name__ for each in causes)
    if "SSL" in kinds:
        text = " ".join([kinds, *map(str, causes)])
        message, hint = next(
            (found for marks, *found in _TLS_FAILURES if any(mark in text for mark in marks)),
            ("the TLS handshake failed", ""),
        )
        reason = next(filter(None, (getattr(each, "verify_message", "") for each in causes)), "verification failed")
        return TLSFailed(
            f"{host}: {message.format(reason=reason)}", hint=hint.format(host=host), method=method, url=shown
        )
    told = f"{kinds} {error}"
    for marks, message, hint in _FAILURES:
        if any(mark in told for mark in marks):
            text = message.format(host=host, seconds=seconds, error=printable(str(error)))
            return ConnectionFailed(text, hint=hint.format(host=host), method=method, url=shown)
    # What writes was preceded by what read, so the scheme is right.
    hint = f"write https://{host} if it speaks TLS" if scheme == "http" and method in ("GET", "HEAD") else ""
    if isinstance(error, ConnectionError):
        return ConnectionFailed(f"{host} closed the connection without an answer", hint=hint, method=method, url=shown)
    return ConnectionFailed(
        f"cannot reach {host}: {printable(str(causes[-1]) or str(error))}", hint=hint, method=method, url=shown
    )


class _Error(Struct):
    code: object = ""
    message: object = ""
    detail: object = None


class _Errors(Struct):
    errors: list[_Error] | None = None


def _errors(response: Response) -> tuple[list[str], list[str]]:
    """Return the codes of an answer's errors, and a line for each."""
    try:
        errors = msgspec.json.decode(response.data, type=_Errors).errors or []
    except (msgspec.MsgspecError, ValueError, RecursionError):
        text = response.data[:200].decode("utf-8", "replace").strip()
        return [], [printable(text)] if text and not response.html else []
    lines: list[str] = []
    for error in errors[:ERRORS_SHOWN]:
        detail = msgspec.json.encode(error.detail).decode() if error.detail not in (None, {}, "") else ""
        parts = (str(error.code or ""), str(error.message or ""), detail)
        line = printable(": ".join(part for part in parts if part)[:400])
        if line not in lines:
            lines.append(line)
    if len(errors) > ERRORS_SHOWN:
        lines.append(f"and {len(errors) - ERRORS_SHOWN} more")
    return list(dict.fromkeys(printable(str(error.code)) for error in errors if error.code)), lines

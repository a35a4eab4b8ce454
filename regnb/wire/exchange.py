"""A request as someone typed it, and the answer as it came, to be read: with the curl command that does the same."""

from __future__ import annotations

import codecs
import html
import re
import shlex
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import accumulate
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Struct

from regnb.errors import InvalidArgument
from regnb.oci.reference import Digest, check_repository, check_tag, is_digest
from regnb.text import redact_headers

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that change nothing."""
GET_OR_HEAD: Final = frozenset({"GET", "HEAD"})
"""The methods that are sent again when no answer comes, and whose redirects are followed."""
SHOWN: Final = 4 * 1024 * 1024
"""Bytes of a body that are shown as text."""
_IN_NOTEBOOK: Final = 20_000
"""Characters of it that a notebook's cell shows."""
_WIDE: Final = 8 * SHOWN
"""Characters of indentation: a small document can be nested so that it would fill the memory."""
_HEADERS: Final = frozenset({
    "accept", "accept-encoding", "cache-control", "content-type", "if-match", "if-modified-since", "if-none-match",
    "range", "user-agent",
})  # fmt: skip
"""What may be sent along. Others hold secrets, break the connection, or turn a GET into something that writes."""
Endpoint: TypeAlias = Literal["", "manifests", "blobs", "blobs/uploads", "tags", "referrers", "_catalog"]
"""What a path is about; "" for anything else."""
_NAMED: Final = re.compile(r"/v2/(.+)/(manifests|blobs/uploads|blobs|tags|referrers)/([^/]*)")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


class Exchange(Struct, frozen=True):
    """One request and its answer, without secrets: bearer tokens, cookies and signed URLs are redacted.

    Attributes:
        status: The HTTP status, or None where no answer came.
        received: The answer's headers as they are, secrets and all: show ``response_headers``.
        seconds: Until the answer's headers came.
        size: Bytes of the answer's body, as it announces them.
        sent: Bytes of the request's body, or None for a stream.
        authorized: Whether an Authorization was sent.
        options: curl's options for the TLS settings.
    """

    method: str
    url: str
    status: int | None
    request_headers: dict[str, str]
    received: Mapping[str, str]
    seconds: float
    size: int
    sent: int | None = 0
    authorized: bool = False
    options: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Exchange {self.method} {self.url} {self.status}>"

    @property
    def response_headers(self) -> dict[str, str]:
        """The answer's headers, redacted."""
        return redact_headers(self.received.items())

    @property
    def curl(self) -> str:
        """The same request for a shell. Its Authorization is left to ``$AUTHORIZATION``, its body to ``$BODY``.

        Example:
            >>> Exchange("HEAD", "http://localhost:5000/v2/", 200, {}, {}, 0.0, 0).curl
            'curl -sS --head http://localhost:5000/v2/'
        """
        words = ["curl", "-sS", *(["--head"] if self.method == "HEAD" else [])]
        words += ["-X", self.method] if self.method not in GET_OR_HEAD else []
        words += self.options
        for name, value in self.request_headers.items():
            words += ["-H", f"{name}: {value}"]
        line = shlex.join(words)
        if self.authorized:
            line += ' -H "Authorization: $AUTHORIZATION"'
        if self.sent != 0:
            line += ' --data-binary @"$BODY"'
        return f"{line} {shlex.quote(self.url)}"


def reason(status: int) -> str:
    """Return what a status is called, or "".

    Example:
        >>> reason(404)
        'Not Found'
    """
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class Target(NamedTuple):
    """What a path names.

    Attributes:
        path: With its query, as it is sent.
        repository: Or "".
        reference: The tag or digest, or "".
    """

    path: str
    kind: Endpoint = ""
    repository: str = ""
    reference: str = ""


def target(path: str) -> Target:
    """Read a path of the registry API, and check the names in it.

    Raises:
        InvalidArgument: It is none.
        InvalidReference: A repository, tag or digest that the grammar forbids.

    Example:
        >>> target("/v2/vm/centos8/manifests/latest")[1:]
        ('manifests', 'vm/centos8', 'latest')
    """
    plain = unquote(path.partition("?")[0])
    found = _NAMED.fullmatch(plain)
    kind: Endpoint = "_catalog" if plain == "/v2/_catalog" else ""
    repository = reference = ""
    if found:
        repository, kind, reference = check_repository(found[1]), cast("Endpoint", found[2]), found[3]
    if kind in ("blobs", "referrers") or (kind == "manifests" and ":" in reference):
        Digest(reference)
    elif kind == "manifests":
        check_tag(reference)
    lawful = path.isascii() and (path + plain).isprintable() and not set(path) & set(' #\\"<>')
    if not lawful or not (plain == "/v2" or plain.startswith("/v2/")) or {".", ".."} & {*plain.split("/")}:
        raise InvalidArgument(
            f"not a path of the registry API: {path[:200]!r}", hint="it begins with /v2/, such as /v2/_catalog"
        )
    return Target(path, kind, repository, reference)


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers to send along.

    Raises:
        InvalidArgument: One that regnb does not send: credentials, say, which :func:`regnb.connect` is given.

    Example:
        >>> check_headers({"Accept": "application/json"})
        {'Accept': 'application/json'}
    """
    for name, value in (headers or {}).items():
        if name.lower() not in _HEADERS or not (value.isascii() and value.isprintable()):
            raise InvalidArgument(
                f"the header {name[:60]!r} is not sent from here",
                hint=f"these are: {', '.join(sorted(_HEADERS))}; credentials are those of the connection",
            )
    return dict(headers or {})


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """Read headers as they are written for curl; blank lines count for nothing.

    Raises:
        InvalidArgument: A line without a colon.

    Example:
        >>> headers_of(["Accept: application/json"])
        {'Accept': 'application/json'}
    """
    pairs = [line.partition(":") for line in lines if line.strip()]
    if not all(colon for _, colon, _ in pairs):
        raise InvalidArgument("a header has no colon", hint="write it as 'Accept: application/json'")
    return {name.strip(): value.strip() for name, _, value in pairs}


class Answer(Struct, frozen=True):
    """A registry's answer to a request that reads, whatever its status; secrets are left out of all but ``body``.

    Attributes:
        exchange: The request, and the headers of the answer.
        body: Its bytes as they came, at most 16 MiB.
        whole: Whether these are all.
        problem: What a status of 400 or more means, in a sentence; else "".
        hint: What to do about it, or "".
        following: The path of the next page that a Link header names, or "".

    Example:
        >>> answer = registry.request("GET", "/v2/_catalog")
        >>> print(answer.curl)
        curl -sS http://localhost:5000/v2/_catalog
    """

    exchange: Exchange
    body: bytes = b""
    whole: bool = True
    problem: str = ""
    hint: str = ""
    following: str = ""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.exchange.status or 0

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, without cookies and tokens; their names in lower case."""
        return self.exchange.response_headers

    @property
    def seconds(self) -> float:
        """Until the answer's headers came."""
        return self.exchange.seconds

    @property
    def curl(self) -> str:
        """The same request for a shell; where the registry wants credentials, ``$AUTHORIZATION`` holds the header."""
        return self.exchange.curl

    @property
    def digest(self) -> str:
        """Docker-Content-Digest, or ""."""
        found = self.headers.get("docker-content-digest", "")
        return found if is_digest(found) else ""

    @property
    def request(self) -> str:
        """The request's line and headers."""
        url = urlsplit(self.exchange.url)
        path = url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        lines = [f"{self.exchange.method} {path} HTTP/1.1", f"Host: {url.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.exchange.request_headers.items()]
        return visible("\n".join([*lines, *(["Authorization: ***"] if self.exchange.authorized else [])]))

    @property
    def line(self) -> str:
        """The status line."""
        return f"HTTP/1.1 {self.status} {reason(self.status)}".rstrip()

    @property
    def head(self) -> str:
        """The status line and the headers, as ``curl -I`` shows them; with the body they are its ``-i``."""
        return visible("\n".join([self.line, *(f"{name}: {value}" for name, value in self.headers.items())]))

    @property
    def text(self) -> str:
        """The body for people: JSON on lines of its own, its names and numbers as they came; bytes as their digest."""
        if len(self.body) <= SHOWN and (document := formatted(self.body)) is not None:
            return document
        try:
            found = codecs.getincrementaldecoder("utf-8")().decode(self.body[:SHOWN])
        except UnicodeDecodeError:
            found = "\0"
        if "\0" not in found:
            return visible(found) + (f"\n… {self.summary}" if not self.whole or len(self.body) > SHOWN else "")
        return f"{self.summary}, {Digest.of(self.body)}" if self.whole else self.summary

    @property
    def summary(self) -> str:
        """Size and type of the body, and how much of it was read if that is not all."""
        size = len(self.body) if self.whole and self.body else self.exchange.size
        cut = "" if self.whole else f"; only the first {len(self.body):,} were read"
        return visible(f"{size:,} bytes of {self.headers.get('content-type') or 'an unnamed type'}{cut}")

    def to_json(self) -> bytes:
        """Return the exchange as one line of JSON."""
        asked = {"method": self.exchange.method, "url": self.exchange.url, "headers": self.exchange.request_headers}
        more = {"seconds": self.seconds, "text": self.text, "whole": self.whole, "problem": self.problem}
        return msgspec.json.encode(
            {"request": asked, "status": self.status, "headers": self.headers, **more, "curl": self.curl}
        )

    def __repr__(self) -> str:
        method, path = self.request.split(" ", 2)[:2]
        return f"<Answer {self.line[9:]} to {method} {path}: {self.summary}, {self.seconds * 1000:.0f} ms>"

    def _repr_html_(self) -> str:
        parts = [f"$ {self.curl}", self.head, self.text[:_IN_NOTEBOOK], f"# {self.problem}: {self.hint}"]
        shown = [part for part, wanted in zip(parts, (True, True, self.body, self.problem), strict=True) if wanted]
        text = html.escape("\n\n".join(shown))
        cut = "<p>The rest is in its .text and .body.</p>" if len(self.text) > _IN_NOTEBOOK else ""
        return f"<pre style='white-space:pre-wrap;overflow-wrap:anywhere'>{text}</pre>{cut}"


def formatted(data: bytes) -> str | None:
    """Return JSON on lines of its own: only the space between the words changes, so numbers and doubles stay.

    Returns:
        None for what is no JSON, or is nested so deeply that indentation would be most of it.

    Example:
        >>> print(formatted(b'{"a":1.10,"a":[]}'))
        {
          "a": 1.10,
          "a": []
        }
    """
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
        plain = _STRING.sub(b"", data)
        brackets = plain.translate(None, _NOT_BRACKETS)
        depth = max(accumulate(1 if sign in b"[{" else -1 for sign in brackets), default=0)
        if 2 * depth * (plain.count(b",") + len(brackets)) > _WIDE:
            return None
        return visible(msgspec.json.format(data, indent=2).decode("utf-8", "backslashreplace"))
    except (msgspec.MsgspecError, RecursionError):
        return None


def visible(text: str) -> str:
    r"""Return a text whose control characters are written out, as JSON does it: none steers a terminal.

    Example:
        >>> visible("a\x1b[2J")
        'a\\u001b[2J'
    """
    hidden = [sign for sign in set(text) if not (sign.isprintable() or sign in "\n\t")]
    written = {ord(sign): re.sub("....", r"\\u\g<0>", sign.encode("utf-16-be").hex()) for sign in hidden}
    return text.translate(written) if written else text


def view(answer: Answer, *, include: bool) -> bytes:
    """Return an answer byte for byte as curl prints it.

    Args:
        answer: What came.
        include: With status line and headers, as ``-i`` does it; after a HEAD there is nothing else.

    Example:
        >>> answer = registry.request("GET", "/v2/vm/centos8/tags/list")
        >>> view(answer, include=False) == answer.body
        True
    """
    head = f"{answer.head}\n\n".encode() if include or answer.exchange.method == "HEAD" else b""
    return head + answer.body


def asked(method: str, url: str, **about: object) -> Exchange:
    """Return a request that was not sent, for its curl command.

    Example:
        >>> asked("DELETE", "http://localhost:5000/v2/a/blobs/b").curl
        'curl -sS -X DELETE http://localhost:5000/v2/a/blobs/b'
    """
    fields: dict[str, Any] = {
        "status": None,
        "request_headers": {},
        "received": {},
        "seconds": 0.0,
        "size": 0,
    }
    return Exchange(method, url, **{**fields, **about})

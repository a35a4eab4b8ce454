"""Access logs and notifications tell what was pulled: each line, or event, about a manifest that was served."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from regnb.crawl.files import file_errors
from regnb.errors import ContentError, InvalidReference, StorageError
from regnb.oci.reference import check_repository, is_digest, is_tag

_NOTIFIED: Final = "point notifications.endpoints of the registry here, and nothing else"
OWN: Final = "regnb"
"""The user agent of regnb itself: an audit is not a pull."""
_LINE: Final = 64 * 1024
"""Bytes of a line that are looked at."""
_DISORDER: Final = timedelta(minutes=1)
"""By how much lines may be out of order: a request is written when it ends, and some lines have whole seconds alone."""
_SERVED: Final = frozenset({"200", "206", "304", "307"})
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WHEN: Final = re.compile(r'\[(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})\](?= ")')
"""The time of a line in the common log format, which nginx and docker-registry write.

It stands before the quoted request: the name of a user, which may hold anything, is never followed by a quote."""
_REQUEST: Final = re.compile(
    r'"(GET|HEAD) (?:[^\s"]*?)/v2/([^\s"?]+)/manifests/([^\s"?/]+)(?:\?[^\s"]*)? HTTP/[\d.]+" (\d{3}) '
    r'(?:\d+|-)(?: "[^"]*" "([^"]*)")?'
)
_FIELD: Final = re.compile(r'([a-z.]+)=("(?:[^"\\]|\\.)*"|\S+)')
"""A field of the lines that docker-registry's own log has as text."""
_URI: Final = re.compile(r"/v2/([^\s?]+)/manifests/([^\s?/]+)(?:\?.*)?$")


class _Json(Struct):
    """A line of docker-registry's log as JSON."""

    time: str = ""
    msg: str = ""
    method: str = msgspec.field(default="", name="http.request.method")
    uri: str = msgspec.field(default="", name="http.request.uri")
    agent: str = msgspec.field(default="", name="http.request.useragent")
    status: int = msgspec.field(default=0, name="http.response.status")


@dataclass
class Pulls:
    """What was pulled, and in which time.

    Attributes:
        last: Repository and tag or digest, to when it was last pulled.
        since: When the first line was written, as the file has them; None where no line has a time.
        until: When the last line was.
        lines: Lines that were read.
        known: Those of them whose format is known.
    """

    last: dict[tuple[str, str], datetime] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    lines: int = 0
    known: int = 0

    def add(self, repository: str, reference: str, when: datetime) -> None:
        """Note a pull."""
        key = (repository, reference)
        self.last[key] = max(when, self.last.get(key, when))

    def at(self, when: datetime) -> None:
        """Note that something was recorded at a time, after what was noted before."""
        self.since = self.since or when
        self.until = when

    @property
    def period(self) -> tuple[datetime, datetime] | None:
        """From the first to the last time; None where there is none, or they are not in order."""
        if self.since is None or self.until is None or self.until < self.since - _DISORDER:
            return None
        return self.since, max(self.since, self.until)


def read_log(lines: Iterable[str]) -> Pulls:
    """Read an access log: what nginx writes by default (``combined``), and docker-registry, as text and as JSON.

    Each GET or HEAD of a manifest that was served is a pull, but not those of regnb itself: whoever looks at an image
    counts as a user of it, so that nothing seems unused that is not.

    Example:
        >>> line = '1.2.3.4 - - [29/Nov/2026:10:21:55 +0000] "GET /v2/app/manifests/1.0 HTTP/1.1" 200 418 "-" "docker"'
        >>> list(read_log([line]).last)
        [('app', '1.0')]
    """
    found = Pulls()
    for line in lines:
        if not line.strip():
            continue
        found.lines += 1
        read = _structured(line) if line.startswith(("{", "time=")) else _common(line)
        if read is None:
            continue
        when, repository, reference = read
        found.known += 1
        found.at(when)
        if repository:
            found.add(repository, reference, when)
    return found


def _common(line: str) -> tuple[datetime, str, str] | None:
    at = _WHEN.search(line)
    if at is None or at[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second = int(at[1]), _MONTHS.index(at[2]) + 1, *map(int, at.group(3, 4, 5, 6))
    zone = timedelta(hours=int(at[8]), minutes=int(at[9])) * (-1 if at[7] == "-" else 1)
    try:
        when = datetime(year, month, day, hour, minute, second, tzinfo=timezone(zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    asked = _REQUEST.search(line, at.end())
    if asked is None:
        return when, "", ""
    return (when, *_pulled(asked[2], asked[3], asked[4], asked[5] or ""))


def _structured(line: str) -> tuple[datetime, str, str] | None:
    if line.startswith("{"):
        try:
            row = msgspec.json.decode(line, type=_Json)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
    else:
        fields = {name: value.strip('"') for name, value in _FIELD.findall(line)}
        status = fields.get("http.response.status", "")
        row = _Json(
            fields.get("time", ""), fields.get("msg", ""), fields.get("http.request.method", ""),
            fields.get("http.request.uri", ""), fields.get("http.request.useragent", ""),
            int(status) if status.isdecimal() else 0,
        )  # fmt: skip
    try:
        when = datetime.fromisoformat(row.time)
    except ValueError:
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    asked = _URI.search(row.uri) if row.method in ("GET", "HEAD") else None
    if asked is None:
        return when, "", ""
    return (when, *_pulled(asked[1], asked[2], str(row.status), row.agent))


def _pulled(repository: str, reference: str, status: str, agent: str) -> tuple[str, str]:
    """Return what was pulled, or two empty texts: anybody can write anything into a log."""
    reference = unquote(reference)
    if status not in _SERVED or _own(agent) or not (is_digest(reference) or is_tag(reference)):
        return "", ""
    try:
        return check_repository(unquote(repository)), reference
    except InvalidReference:
        return "", ""


def _own(agent: str) -> bool:
    return agent.partition("/")[0] == OWN


def log_lines(path: str) -> Iterator[str]:
    """Yield the lines of a log: a file, one that is compressed by gzip (``.gz``), or ``-`` for standard input.

    Raises:
        StorageError: It cannot be read.
    """
    if path == "-":
        yield from _lines(sys.stdin.buffer)
        return
    with file_errors(f"read {path}", "name an access log"), ExitStack() as stack:
        raw = stack.enter_context(Path(path).open("rb"))
        file: Source = stack.enter_context(gzip.GzipFile(fileobj=raw)) if path.endswith(".gz") else raw
        try:
            yield from _lines(file)
        except (EOFError, zlib.error) as error:
            raise StorageError(f"{path} is cut short or damaged: {error}", hint="name a whole file") from None


class Source(Protocol):
    """A file, as far as it is read here."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or so many bytes of it."""


def _lines(file: Source) -> Iterator[str]:
    whole = True
    while line := file.readline(_LINE):
        if whole:  # of a longer line the beginning alone
            yield line.decode("utf-8", "replace")
        whole = line.endswith(b"\n")


# Notifications


class _Target(Struct):
    repository: str = ""
    digest: str = ""
    tag: str = ""
    mediaType: str = ""  # noqa: N815 -- as distribution writes it


class _Asked(Struct):
    useragent: str = ""
    method: str = ""


class _Event(Struct):
    timestamp: str = ""
    action: str = ""
    target: _Target | None = None
    request: _Asked | None = None


class _Events(Struct):
    events: list[_Event] | None = None


def read_events(data: bytes) -> Pulls:
    """Read the notifications that distribution sends ("Notifications", version 2.8): pulls of manifests count.

    Raises:
        ContentError: They are none.

    Example:
        >>> read_events(b'{"events": []}').last
        {}
    """
    found = Pulls()
    try:
        events = msgspec.json.decode(data, type=_Events).events
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ContentError(f"these are not notifications of a registry: {str(error)[:200]}", hint=_NOTIFIED) from None
    if events is None:
        raise ContentError("these are not notifications of a registry: there is no list of events", hint=_NOTIFIED)
    for event in events:
        found.lines += 1
        target, agent = event.target or _Target(), event.request.useragent if event.request else ""
        try:
            when = datetime.fromisoformat(event.timestamp)
        except ValueError:
            continue
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        found.known += 1
        found.at(when)
        if event.action != "pull" or ("manifest" not in target.mediaType and "index" not in target.mediaType):
            continue
        for reference in filter(None, (target.tag, target.digest)):
            repository, reference = _pulled(target.repository, reference, "200", agent)  # noqa: PLW2901 -- or nothing
            if repository:
                found.add(repository, reference, when)
    return found

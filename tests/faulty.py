"""A proxy in front of a registry that shows the faults of networks, other proxies and registries.

A *weather* decides which request gets which fault: one that is drawn by a seed, or one fault at one chosen request.
Every request is logged as it was on the wire, so that a test can count how often a write was sent. Faults that take
long take no time: they move a :class:`clock.Clock` on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import socket
import struct
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic
from typing import Final, Protocol, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from clock import Clock

READS: Final = ("GET", "HEAD", "OPTIONS")
_MANIFEST_TYPES: Final = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
_OTHER_TYPES: Final = ("application/json", "application/octet-stream", "text/plain; charset=utf-8", "text/html")
_HTML: Final = b"<html>\r\n<head><title>%s</title></head>\r\n<body><center><h1>%s</h1></center></body>\r\n</html>\r\n"
_PIECES: Final = 8
"""A slow body comes in this many."""
_PAUSE: Final = 0.005
"""Seconds between two of them."""
_WHILE: Final = 5.0
"""Seconds that pass at once, on the clock, while a body or an answer is awaited."""
LONGEST: Final = 1200.0
"""Seconds, on the clock, after which the proxy gives up what never ends."""
_TLS: Final = b"\x16"
"""What a client that tries TLS first begins with."""


class Fault(StrEnum):
    """What can go wrong with one request."""

    # The registry gets nothing.
    BUSY = "429"
    BUSY_AFTER = "429 with Retry-After"
    ERROR_JSON = "500 with errors as JSON"
    ERROR_HTML = "502 as HTML"
    ERROR_EMPTY = "503 without a body"
    ERROR_LATE = "504 as text"
    RESET = "reset before the answer"
    CLOSED = "closed without an answer"
    ABSENT_TEXT = "404 as text, of a proxy without this route"
    ABSENT_HTML = "404 as HTML"
    ABSENT_EMPTY = "404 without a body"
    ABSENT_JSON = "404 as JSON of a web framework"
    EMPTY_OBJECT = "200 with {}"
    ELSEWHERE = "redirect to another origin, which answers 404 as a registry does"
    UNAUTHORIZED = "401 without a challenge"
    CHALLENGED = "401 with a challenge, whatever was sent"
    DENIED = "403 with errors as JSON"
    FORBIDDEN = "403 as HTML, of a firewall"
    SILENT = "no answer, ever"
    # The registry gets the request, and its answer is lost or replaced.
    LOST = "answer lost by a reset"
    LOST_CLOSED = "answer lost by a close"
    CUT_HEAD = "reset in the middle of the answer's headers"
    ERROR_DONE = "500 although the registry did it"
    ABSENT_DONE = "404 of a proxy although the registry did it"
    BUSY_DONE = "429 although the registry did it"
    LOST_SILENT = "no answer, ever, although the registry did it"
    # The registry's answer comes with a change.
    TRUNCATED = "body cut off"
    SLOW = "body in slow pieces"
    STALLED = "body that stops half way"
    TRICKLE = "body of one byte now and then"
    WRONG_DIGEST = "another Docker-Content-Digest"
    NO_DIGEST = "no Docker-Content-Digest"
    WRONG_BYTES = "other bytes in the body"
    OTHER_TYPE = "a Content-Type that is not a manifest's"
    WRONG_TYPE = "the Content-Type of another kind of manifest"
    LOOP = "a Link to the same page"
    AGAIN = "a Link to the same page once more"
    REDIRECT = "redirect to another origin, which has it"


INSTEAD: Final = frozenset(list(Fault)[: list(Fault).index(Fault.LOST)])
"""Faults where the registry gets nothing."""
REPLACED: Final = frozenset(list(Fault)[list(Fault).index(Fault.LOST) : list(Fault).index(Fault.TRUNCATED)])
"""Faults where the registry gets the request, and the client learns nothing of what it answered."""
LONG: Final = frozenset({Fault.SILENT, Fault.LOST_SILENT, Fault.STALLED, Fault.TRICKLE})
"""Faults that take long, on the clock."""


@dataclass(frozen=True)
class Request:
    """What was asked; the names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def writes(self) -> bool:
        return self.method not in READS

    @property
    def kind(self) -> str:
        """``api``, ``catalog``, ``tags``, ``manifest``, ``blob``, ``upload``, ``referrers``, ``token`` or ``other``."""
        path = self.path.partition("?")[0]
        if path == "/token":
            return "token"
        if path.rstrip("/") == "/v2":
            return "api"
        if path == "/v2/_catalog":
            return "catalog"
        if path.endswith("/tags/list"):
            return "tags"
        for mark, kind in (("/blobs/uploads/", "upload"), ("/manifests/", "manifest"), ("/blobs/", "blob")):
            if mark in path:
                return kind
        return "referrers" if "/referrers/" in path else "other"

    @property
    def repository(self) -> str:
        """The repository that it is about, or ""."""
        found = re.match(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/", self.path.partition("?")[0])
        return found[1].removesuffix("/blobs") if found else ""


@dataclass(frozen=True)
class Asked:
    """A request, and what came before it since the weather changed.

    Attributes:
        number: Requests before this one.
        writes: Writes before this one.
        nth: Requests of the same method and path before this one.
    """

    request: Request
    number: int
    writes: int
    nth: int


class Weather(Protocol):
    """Decides what goes wrong."""

    def __call__(self, asked: Asked, /) -> Fault | None: ...


@dataclass
class Seen:
    """A request as it was on the wire.

    Attributes:
        sent: The digest of its body.
        fault: What went wrong with it, if anything.
        forwarded: Whether the registry got it.
        status: What the registry answered; 0 if it got nothing.
        began: When it got it, in seconds of the real clock; 0 if it did not.
        ended: When it had answered.
        held: How long the client waited for the end of an answer that does not end, in seconds on the test's clock.
    """

    method: str
    path: str
    sent: str
    authorized: bool
    fault: Fault | None = None
    forwarded: bool = False
    status: int = 0
    began: float = 0.0
    ended: float = 0.0
    held: float = 0.0

    @property
    def writes(self) -> bool:
        return self.method not in READS


def applies(fault: Fault, request: Request) -> bool:
    """Whether a fault makes a difference to such a request."""
    gets = request.method == "GET"
    match fault:
        case Fault.ERROR_DONE | Fault.ABSENT_DONE | Fault.BUSY_DONE:
            return request.writes
        case Fault.TRUNCATED | Fault.SLOW | Fault.STALLED | Fault.TRICKLE:
            return gets
        case Fault.CHALLENGED:
            return request.kind != "token"
        case Fault.WRONG_BYTES:
            return gets and request.kind in ("manifest", "blob")
        case Fault.WRONG_DIGEST | Fault.NO_DIGEST:
            return request.kind == "manifest" and request.method != "DELETE"
        case Fault.OTHER_TYPE | Fault.WRONG_TYPE:
            return not request.writes and request.kind == "manifest"
        case Fault.LOOP | Fault.AGAIN:
            return gets and request.kind in ("tags", "catalog")
        case Fault.REDIRECT:
            return gets and request.kind == "blob"
    return True


def calm(_: Asked) -> Fault | None:
    """Nothing goes wrong."""
    return None


@dataclass(frozen=True)
class At:
    """One fault at the requests that a function chooses, ``times`` of them after the first ``skip``."""

    fault: Fault
    chosen: Callable[[Request], bool]
    skip: int = 0
    times: int = 1
    met: list[Request] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Fault | None:
        if not self.chosen(asked.request):
            return None
        self.met.append(asked.request)
        return self.fault if self.skip < len(self.met) <= self.skip + self.times else None


@dataclass(frozen=True)
class Drizzle:
    """Each request fails at this rate, on its own.

    What is drawn depends on the seed and on how often the same was asked, not on the order of requests.
    """

    seed: str
    rate: float
    faults: Sequence[Fault]

    def __str__(self) -> str:
        return f"{self.rate:.0%} of the requests: {_listed(self.faults)}"

    def __call__(self, asked: Asked) -> Fault | None:
        chance = _chance(self.seed, asked.request.method, asked.request.path, asked.nth)
        if chance.random() >= self.rate:
            return None
        return _pick(chance, self.faults, asked.request)


@dataclass(frozen=True)
class Outage:
    """From one request on everything fails, for ``length`` requests.

    Attributes:
        start: The number of the request, or of the write if ``write``, that it begins with.
        first: The fault of that first request, if it is another one.
        faults: Those of the rest.
        only: The kinds of requests that fail; empty for all.
    """

    seed: str
    start: int
    length: int
    faults: Sequence[Fault]
    write: bool = False
    first: Fault | None = None
    only: frozenset[str] = frozenset()
    begun: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        first = f" {self.first}, then" if self.first else ""
        only = f" of {', '.join(sorted(self.only))}" if self.only else ""
        what = "write" if self.write else "request"
        return f"{self.length} requests{only} from {what} {self.start} on:{first} {_listed(self.faults)}"

    def __call__(self, asked: Asked) -> Fault | None:
        request = asked.request
        if not self.begun:
            if (request.writes and asked.writes >= self.start) if self.write else asked.number >= self.start:
                self.begun.append(asked.number)
                if self.first is not None:
                    return self.first if applies(self.first, request) else None
            else:
                return None
        if asked.number - self.begun[0] >= self.length or (self.only and request.kind not in self.only):
            return None
        return _pick(_chance(self.seed, request.method, request.path, asked.nth), self.faults, request)


@dataclass(frozen=True)
class Stuck:
    """Some paths fail always in one way, as where one replica or one route is broken."""

    seed: str
    share: float
    faults: Sequence[Fault]
    writes: bool = False

    def __str__(self) -> str:
        return f"{self.share:.0%} of the paths{', writes too' if self.writes else ''}: {_listed(self.faults)}"

    def __call__(self, asked: Asked) -> Fault | None:
        chance = _chance(self.seed, asked.request.method, asked.request.path.partition("?")[0])
        if (asked.request.writes and not self.writes) or chance.random() >= self.share:
            return None
        return _pick(chance, self.faults, asked.request)


def _listed(faults: Sequence[Fault]) -> str:
    return "any fault" if len(faults) > len(Fault) / 2 else "; ".join(faults)


def _chance(*seed: object) -> random.Random:
    return random.Random("/".join(map(str, seed)))  # noqa: S311 -- not secret, but the same each time


def _pick(chance: random.Random, faults: Sequence[Fault], request: Request) -> Fault | None:
    fitting = [fault for fault in faults if applies(fault, request)]
    return chance.choice(fitting) if fitting else None


def drawn(chance: random.Random, *, calm_share: float = 0.15, without: Collection[Fault] = frozenset()) -> Weather:
    """Draw a weather."""
    every = [fault for fault in Fault if fault not in without]
    seed = f"{chance.getrandbits(48):012x}"
    kind = chance.random()
    if kind < calm_share:
        return calm
    if chance.random() < 0.5:
        faults: Sequence[Fault] = tuple(every)
    else:
        faults = tuple(chance.sample(every, chance.randint(1, 4)))
    if kind < calm_share + 0.3:
        return Drizzle(seed, chance.choice((0.01, 0.03, 0.1, 0.2)), faults)
    if kind < calm_share + 0.45:
        return Stuck(seed, chance.choice((0.05, 0.2, 0.5)), faults, writes=chance.random() < 0.3)
    write = chance.random() < 0.75
    hurtful = REPLACED | {Fault.RESET, Fault.CLOSED, Fault.EMPTY_OBJECT, Fault.ABSENT_TEXT}
    hurt = [fault for fault in every if fault in hurtful]
    return Outage(
        seed,
        start=chance.randint(0, 6 if write else 30),
        length=chance.choice((1, 2, 3, 5, 10, 30, 10**6)),
        faults=faults,
        write=write,
        first=chance.choice(hurt) if write and chance.random() < 0.6 else None,
        only=frozenset({"manifest", "tags"}) if chance.random() < 0.3 else frozenset(),
    )


@dataclass
class Answer:
    """What is answered to a request."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def set(self, name: str, value: str | None) -> None:
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))


class Front(Protocol):
    """Answers some requests in the registry's place."""

    def __call__(self, request: Request, /) -> Answer | None: ...


class Faulty:
    """The proxy, on a loopback port and in a thread of its own.

    Attributes:
        weather: What goes wrong from now on.
        clock: What is moved on by what takes long.
        fronts: What may answer in the registry's place, in order.
        challenge: What a 401 asks for.
        others: Digests that a wrong header may name.
        answered: What the registry's headers have named for each path.
        page: How many tags or repositories a list has at most; 0 leaves lists as they are.
        log: Every request that came, in order.
        elsewhere: What was asked of the other origin that redirects lead to.
        watch: Called with each request that goes to the registry and 0, and again with the status of its answer.
    """

    def __init__(self, host: str, *, weather: Weather = calm, page: int = 0, clock: Clock | None = None) -> None:
        self._target = host.rpartition(":")
        self.page = page
        self.clock = clock or Clock()
        self.fronts: Sequence[Front] = ()
        self.challenge: Callable[[Request], str] = basic
        self.others: Sequence[str] = ()
        self.answered: defaultdict[str, set[str]] = defaultdict(set)
        self.log: list[Seen] = []
        self.elsewhere: list[Seen] = []
        self.watch: Callable[[Request, int], None] | None = None
        self._under_way = 0
        self._quiet = threading.Condition()
        self._answering = self._held = 0
        self.change(weather)

    def change(self, weather: Weather) -> None:
        """Let another weather begin, and the counting of requests with it."""
        self.weather = weather
        self._asked: Counter[tuple[str, str]] = Counter()
        self._number = self._writes = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until the registry has answered everything that it got."""
        with self._quiet:
            assert self._quiet.wait_for(lambda: not self._under_way, 30)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen(ready))
        self._loop.close()

    async def _listen(self, ready: threading.Event) -> None:
        self._ended = asyncio.Event()
        here = await asyncio.start_server(self._tracked(self._serve), "127.0.0.1", 0)
        there = await asyncio.start_server(self._tracked(self._serve_elsewhere), "127.0.0.1", 0)
        self._port = here.sockets[0].getsockname()[1]
        self._other_port = there.sockets[0].getsockname()[1]
        ready.set()
        await self._ended.wait()
        here.close()
        there.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tracked(
        self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serve(reader, writer)  # type: ignore[misc]
            writer.close()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(run(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return begin

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = _Upstream(self._target[0], int(self._target[2]))
        try:
            while not writer.is_closing() and (request := await _read_request(reader)) is not None:
                self._answering += 1
                try:
                    await self._answer(request, upstream, reader, writer)
                finally:
                    self._answering -= 1
        finally:
            upstream.close()

    def _seen(self, request: Request) -> Seen:
        return Seen(
            request.method, request.path, hashlib.sha256(request.body).hexdigest(), "authorization" in request.headers
        )

    def drawn(self, request: Request) -> Fault | None:
        """Count a request, and return what goes wrong with it."""
        key = (request.method, request.path)
        asked = Asked(request, self._number, self._writes, self._asked[key])
        self._asked[key] += 1
        self._number += 1
        self._writes += request.writes
        fault = self.weather(asked)
        return fault if fault is not None and applies(fault, request) else None

    async def _answer(
        self, request: Request, upstream: _Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        seen = self._seen(request)
        self.log.append(seen)
        seen.fault = fault = self.drawn(request)
        if fault is Fault.SILENT:
            await self._hold(seen, reader, writer)
            return
        if fault in INSTEAD or fault is Fault.REDIRECT:
            await self._instead(fault, request, writer)
            return
        answer = await self._forward(request, seen, upstream)
        if fault is Fault.LOST_SILENT:
            await self._hold(seen, reader, writer)
            return
        if fault in REPLACED:
            await self._replaced(fault, request, answer, writer)
            return
        if fault in (Fault.STALLED, Fault.TRICKLE) and len(answer.body) > 1:
            _write(writer, request, answer)
            half = len(answer.body) // 2
            writer.write(answer.body[:half] if fault is Fault.STALLED else answer.body[:1])
            await self._hold(seen, reader, writer, answer.body[1:] if fault is Fault.TRICKLE else b"")
            return
        if digest := answer.get("docker-content-digest"):
            self.answered[request.path].add(digest)
        if fault is not None and answer.status == 200 + (request.method == "PUT"):
            self._changed(fault, request, answer)
        await _send(writer, request, answer, fault)

    async def _hold(
        self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rest: bytes = b""
    ) -> None:
        """Say nothing, or a byte now and then, until the client goes away or nobody would wait any more."""
        began = self.clock()
        self._held += 1
        try:
            for number in range(int(LONGEST / _WHILE)):
                # Time passes when nothing else happens: else it would pass for those, too, that are answered at once.
                while self._answering > self._held:  # noqa: ASYNC110 -- a while, and only in this fault
                    await asyncio.sleep(_PAUSE)
                if writer.is_closing() or reader.at_eof():
                    break
                await self.clock.leap(_WHILE)
                seen.held = self.clock() - began
                if number < len(rest):
                    writer.write(rest[number : number + 1])
                    await writer.drain()
                if number + 1 == len(rest):
                    return
            writer.close()
        finally:
            self._held -= 1

    async def _forward(self, request: Request, seen: Seen, upstream: _Upstream) -> Answer:
        with self._quiet:
            self._under_way += 1
        try:
            if self.watch is not None:
                self.watch(request, 0)
            seen.forwarded, seen.began = True, monotonic()
            answer = next(filter(None, (front(request) for front in self.fronts)), None)
            if answer is None:
                # What is under way is finished even when the client goes away: else a test would look too early.
                answer = await asyncio.shield(asyncio.ensure_future(upstream.ask(self._paged(request))))
            elif answer.status == 401 and seen.authorized and seen.fault is None:
                seen.fault = Fault.CHALLENGED  # a token that was good
            seen.status, seen.ended = answer.status, monotonic()
            if self.page and request.kind == "tags" and answer.status == 200:
                self._cut_list(request, answer)
            if self.watch is not None:
                self.watch(request, answer.status)
            return answer
        finally:
            with self._quiet:
                self._under_way -= 1
                self._quiet.notify_all()

    def _paged(self, request: Request) -> Request:
        """Ask for smaller pages of the catalog than the client did."""
        path, _, query = request.path.partition("?")
        if not self.page or request.kind != "catalog":
            return request
        wanted = {key: values[0] for key, values in parse_qs(query).items() if key != "again"}
        return replace(request, path=f"{path}?{urlencode({**wanted, 'n': self.page})}")

    def _cut_list(self, request: Request, answer: Answer) -> None:
        """Give one page of a list of tags, as newer registries do."""
        document = json.loads(answer.body)
        tags = sorted(document["tags"] or ())
        path, _, query = request.path.partition("?")
        last = parse_qs(query).get("last", [""])[0]
        rest = [tag for tag in tags if tag > last]
        answer.body = json.dumps({**document, "tags": rest[: self.page]}).encode()
        if len(rest) > self.page:
            following = urlencode({"last": rest[self.page - 1], "n": self.page})
            answer.set("Link", f'<{path}?{following}>; rel="next"')

    async def _instead(self, fault: Fault, request: Request, writer: asyncio.StreamWriter) -> None:
        other = f"http://127.0.0.1:{self._other_port}"
        text, html, plain = "application/json; charset=utf-8", "text/html", "text/plain; charset=utf-8"
        match fault:
            case Fault.RESET:
                _reset(writer)
                return
            case Fault.CLOSED:
                writer.close()
                return
            case Fault.BUSY | Fault.BUSY_AFTER:
                answer = Answer(429, "Too Many Requests", [("Content-Type", text)], errors("TOOMANYREQUESTS"))
                if fault is Fault.BUSY_AFTER:
                    answer.set("Retry-After", "0")
            case Fault.ERROR_JSON:
                answer = Answer(500, "Internal Server Error", [("Content-Type", text)], errors("UNKNOWN"))
            case Fault.ERROR_HTML:
                answer = Answer(502, "Bad Gateway", [("Content-Type", html)], _HTML % (b"502", b"502 Bad Gateway"))
            case Fault.ERROR_EMPTY:
                answer = Answer(503, "Service Unavailable", [])
            case Fault.ERROR_LATE:
                answer = Answer(504, "Gateway Timeout", [("Content-Type", plain)], b"upstream request timeout")
            case Fault.ABSENT_HTML:
                answer = Answer(404, "Not Found", [("Content-Type", html)], _HTML % (b"404", b"404 Not Found"))
            case Fault.ABSENT_EMPTY:
                answer = Answer(404, "Not Found", [])
            case Fault.ABSENT_JSON:
                answer = Answer(404, "Not Found", [("Content-Type", text)], b'{"detail":"Not Found"}')
            case Fault.EMPTY_OBJECT:
                answer = Answer(200, "OK", [("Content-Type", text)], b"{}")
            case Fault.UNAUTHORIZED:
                answer = Answer(401, "Unauthorized", [("Content-Type", text)], errors("UNAUTHORIZED"))
            case Fault.CHALLENGED:
                answer = Answer(401, "Unauthorized", [("Content-Type", text)], errors("UNAUTHORIZED"))
                answer.set("WWW-Authenticate", self.challenge(request))
            case Fault.DENIED:
                answer = Answer(403, "Forbidden", [("Content-Type", text)], errors("DENIED"))
            case Fault.FORBIDDEN:
                answer = Answer(403, "Forbidden", [("Content-Type", html)], _HTML % (b"403", b"403 Forbidden"))
            case Fault.ELSEWHERE:
                answer = Answer(307, "Temporary Redirect", [("Location", f"{other}{request.path}")])
            case Fault.REDIRECT:
                answer = Answer(307, "Temporary Redirect", [("Location", f"{other}/has{request.path}")])
            case _:
                answer = Answer(404, "Not Found", [("Content-Type", plain)], b"404 page not found\n")
        await _send(writer, request, answer, None)

    async def _replaced(self, fault: Fault, request: Request, answer: Answer, writer: asyncio.StreamWriter) -> None:
        if fault is Fault.LOST:
            _reset(writer)
        elif fault is Fault.LOST_CLOSED:
            writer.close()
        elif fault is Fault.CUT_HEAD:
            writer.write(b"HTTP/1.1 %d %s\r\nContent-Ty" % (answer.status, answer.reason.encode()))
            await writer.drain()
            _reset(writer)
        else:
            same = {
                Fault.ERROR_DONE: Fault.ERROR_JSON, Fault.ABSENT_DONE: Fault.ABSENT_TEXT, Fault.BUSY_DONE: Fault.BUSY,
            }  # fmt: skip
            await self._instead(same[fault], request, writer)

    def _changed(self, fault: Fault, request: Request, answer: Answer) -> None:
        chance = random.Random(zlib.crc32(request.path.encode()))  # noqa: S311 -- the same each time
        match fault:
            case Fault.WRONG_DIGEST:
                # Not one that was named before: a HEAD that tells of a tag as it was is a cache's, and a client that
                # saw the tag then cannot tell this from a tag that has not moved.
                others = [each for each in self.others if each not in self.answered[request.path]]
                wrong = f"sha256:{chance.getrandbits(256):064x}"
                answer.set("Docker-Content-Digest", chance.choice([wrong, chance.choice(others or [wrong])]))
            case Fault.NO_DIGEST:
                answer.set("Docker-Content-Digest", None)
            case Fault.WRONG_BYTES if answer.body:
                place = chance.randrange(len(answer.body))
                answer.body = answer.body[:place] + bytes([answer.body[place] ^ 1]) + answer.body[place + 1 :]
            case Fault.OTHER_TYPE:
                answer.set("Content-Type", chance.choice(_OTHER_TYPES))
            case Fault.WRONG_TYPE:
                others = [each for each in _MANIFEST_TYPES if each != answer.get("content-type")]
                answer.set("Content-Type", chance.choice(others))
            case Fault.LOOP:
                answer.set("Link", f'<{request.path}>; rel="next"')
            case Fault.AGAIN if "again=" not in request.path:
                mark = "&" if "?" in request.path else "?"
                answer.set("Link", f'<{request.path}{mark}again=1>; rel="next"')

    async def _serve_elsewhere(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be another origin: a storage that has blobs, and a registry that has nothing."""
        upstream = _Upstream(self._target[0], int(self._target[2]))
        try:
            while not writer.is_closing() and (request := await _read_request(reader)) is not None:
                self.elsewhere.append(self._seen(request))
                if request.path.startswith("/has/") and not request.writes:
                    answer = await upstream.ask(replace(request, path=request.path.removeprefix("/has")))
                else:
                    code = {"manifest": "MANIFEST_UNKNOWN", "blob": "BLOB_UNKNOWN"}.get(request.kind, "NAME_UNKNOWN")
                    answer = Answer(404, "Not Found", [("Content-Type", "application/json")], errors(code))
                await _send(writer, request, answer, None)
        finally:
            upstream.close()


class _Upstream:
    """A connection to the registry, made when it is needed."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request) -> Answer:
        if self._streams is None or self._streams[0].at_eof() or self._streams[1].is_closing():
            self.close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = [f"{request.method} {request.path} HTTP/1.1"]
        for name, value in request.headers.items():
            if name not in ("connection", "transfer-encoding", "content-length"):
                head.append(f"{name}: {value}")
        if request.body or request.method in ("PUT", "POST", "PATCH"):
            head.append(f"content-length: {len(request.body)}")
        writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + request.body)
        await writer.drain()
        line, headers = await _read_head(reader)
        _, status, *reason = line.split(" ", 2)
        answer = Answer(int(status), reason[0] if reason else "", headers)
        if request.method != "HEAD" and answer.status not in (204, 304):
            answer.body = await _read_body(reader, {name.lower(): value for name, value in headers})
        if (answer.get("connection") or "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in head[1:] if line]
    return head[0], [(name, value.strip()) for name, _, value in pairs]


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await reader.readexactly(int(headers.get("content-length") or 0))
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request on a connection, or None where the client has closed it."""
    try:
        if (first := await reader.readexactly(1)) == _TLS:
            return None
        line, pairs = await _read_head(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line = first.decode("latin-1") + line
    method, path, _ = line.split(" ")
    headers: dict[str, str] = {}
    for name, value in pairs:
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    return Request(method, path if path.startswith("/") else _path(path), headers, await _read_body(reader, headers))


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _write(writer: asyncio.StreamWriter, request: Request, answer: Answer) -> None:
    """Send an answer's head."""
    length = answer.get("content-length") if request.method == "HEAD" else None
    for name in ("Content-Length", "Transfer-Encoding", "Connection"):
        answer.set(name, None)
    answer.set("Content-Length", length or str(len(answer.body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    writer.write(f"HTTP/1.1 {answer.status} {answer.reason}\r\n{head}\r\n".encode("latin-1"))


async def _send(writer: asyncio.StreamWriter, request: Request, answer: Answer, fault: Fault | None) -> None:
    _write(writer, request, answer)
    body = b"" if request.method == "HEAD" else answer.body
    if fault is Fault.TRUNCATED and body:
        writer.write(body[: len(body) // 2])
        await writer.drain()
        writer.close()
        return
    if fault is Fault.SLOW:
        step = max(1, len(body) // _PIECES)
        for start in range(0, len(body), step):
            writer.write(body[start : start + step])
            await writer.drain()
            await asyncio.sleep(_PAUSE)
        return
    writer.write(body)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, as where a process dies or a load balancer forgets a connection."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def basic(_: Request) -> str:
    """What a 401 asks for where there is no door."""
    return 'Basic realm="registry"'


def errors(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}).encode()

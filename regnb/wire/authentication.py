"""Challenges answered: Basic, and Bearer tokens by scope."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlencode, urlsplit

import anyio
import msgspec

from regnb.errors import Denied, NotARegistry, RegistryError, Unauthorized
from regnb.log import logger
from regnb.wire.credentials import Credentials, find_credentials

_LOG: Final = logger("wire")
_LOGIN: Final = "give credentials to regnb.connect, or run: docker login {host}"


class Challenge(msgspec.Struct, frozen=True):
    """One challenge of a WWW-Authenticate header: the scheme in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str]


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's token, not a secret
_PART = re.compile(
    rf"""\s*,?\s*(?:(?P<key>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_TOKEN}))(?=\s*(?:,|$))
    |(?P<scheme>{_TOKEN})(?:\s+(?P<blob>[A-Za-z0-9._~+/-]+=*)(?=\s*(?:,|$)))?)""",
    re.VERBOSE,
)


def parse_challenges(header: str) -> list[Challenge]:
    """Read a WWW-Authenticate header (RFC 9110, 11.6.1), whose quoted values may hold commas and spaces.

    Example:
        >>> parse_challenges('Bearer realm="https://a/t",scope="repository:x:pull,push"')[0].parameters["scope"]
        'repository:x:pull,push'
    """
    challenges: list[Challenge] = []
    position = 0
    header = header.strip()
    while position < len(header) and (part := _PART.match(header, position)):
        position = part.end()
        if part["scheme"] is not None:
            challenges.append(Challenge(part["scheme"].lower(), {}))
        elif challenges:
            value = part["plain"] if part["quoted"] is None else re.sub(r"\\(.)", r"\1", part["quoted"])
            challenges[-1].parameters.setdefault(part["key"].lower(), value)
    return challenges


class Answer(Protocol):
    """What `Authenticator` needs to see of an HTTP answer."""

    @property
    def status(self) -> int: ...  # noqa: D102
    @property
    def data(self) -> bytes: ...  # noqa: D102


Send = Callable[[str, str, dict[str, str], bytes | None], Awaitable[Answer]]


class _Token(msgspec.Struct):
    """What a token server answers (distribution's token authentication specification)."""

    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None
    refresh_token: str | None = None


@dataclass(slots=True)
class _Realm:
    """The registry's token server, and the tokens from it: one for each set of scopes."""

    url: str
    service: str
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)
    asked: dict[tuple[str, ...], str] = field(default_factory=dict)
    """The scope that a challenge asked for, where it is not the one that regnb expected."""


def _canonical(scopes: Iterable[str]) -> str:
    """Return scopes as one text in one order: distribution names the same actions in another one each time.

    Example:
        >>> _canonical(["repository:b:push,pull", "repository:a:pull"])
        'repository:a:pull repository:b:pull,push'
    """
    split = (scope.rpartition(":") for scope in scopes)
    return " ".join(sorted(f"{name}:{','.join(sorted(actions.split(',')))}" for name, _, actions in split))


class Authenticator:
    """Answers one registry's challenges, and from then on authorises requests before they are challenged.

    Credentials go to the registry's own origin and to the token server that it names, and nowhere else; never to a
    token server over plain http if the registry itself is reached over https.

    Args:
        origin: ``scheme://host:port`` of the registry.
        credentials: Or None for anonymous.
        send: Sends a request to the token server, without following redirects.
        stored: Whether the first challenge, if there are no credentials, is answered with those that `find_credentials`
            finds: no helper is run for a registry that asks for none.

    Example:
        ``Authenticator("https://registry.example.org", None, send)``
    """

    def __init__(self, origin: str, credentials: Credentials | None, send: Send, *, stored: bool = False) -> None:
        self._origin = origin
        self._host = urlsplit(origin).netloc
        self._credentials = credentials
        self._send = send
        self._look = stored and credentials is None
        self._basic: str | None = None
        self._realm: _Realm | None = None
        self._refresh = credentials.identity_token if credentials else ""
        self._lock = anyio.Lock()

    def __repr__(self) -> str:
        return f"Authenticator({self._origin!r}, {self._credentials!r})"

    async def header(self, scope: tuple[str, ...]) -> str | None:
        """Return the Authorization of a request, as far as earlier challenges tell; None before the first."""
        if self._realm is None:
            return self._basic
        return await self._token(self._realm, self._realm.asked.get(scope) or _canonical(scope), "")

    async def answer(self, headers: Mapping[str, str], scope: tuple[str, ...], sent: str | None) -> str:
        """Return the Authorization that answers a 401.

        Args:
            headers: The 401's.
            scope: What the request needs, where the challenge does not say.
            sent: The Authorization that was refused, or None.

        Raises:
            Unauthorized: There are no credentials, or they are wrong.
            Denied: The token server refuses this scope.
            RegistryError: The challenge cannot, or must not, be answered.
            RegnbError: The stored credentials cannot be read.
        """
        await self._look_once()
        challenges = {each.scheme: each for each in parse_challenges(headers.get("www-authenticate", ""))}
        if bearer := challenges.get("bearer"):
            realm = self._accept(bearer.parameters)
            wanted = realm.asked[scope] = _canonical(bearer.parameters.get("scope", "").split() or scope)
            return await self._token(realm, wanted, (sent or "").removeprefix("Bearer "))
        if "basic" in challenges and self._credentials is not None and self._credentials.username:
            if sent is not None:
                raise self._unauthorized("does not accept these credentials")
            self._basic = self._credentials.basic
            return self._basic
        if challenges and not challenges.keys() & {"basic", "bearer"}:
            raise self._unauthorized(f"asks for {', '.join(challenges)}, which regnb does not speak", hint="")
        raise self._unauthorized("asks for credentials and there are none")

    def refused(self, headers: Mapping[str, str]) -> RegistryError:
        """Return the error for a 401 that came back to an Authorization which answered the challenge."""
        if self._realm is None:
            return self._unauthorized("does not accept these credentials")
        if self._credentials is None:
            return self._unauthorized("does not allow this anonymously")
        if "invalid_token" in headers.get("www-authenticate", ""):
            hint = "compare their clocks, and the registry's rootcertbundle with the token server's key"
            return self._unauthorized("does not accept the token that its own token server gave", hint=hint)
        identity = self._credentials.username or "this identity"
        return Denied(f"{self._host} does not allow this to {identity}", status=401)

    def _unauthorized(self, what: str, *, hint: str | None = None) -> Unauthorized:
        return Unauthorized(f"{self._host} {what}", hint=self._login if hint is None else hint, status=401)

    async def _look_once(self) -> None:
        async with self._lock:
            if self._look:
                # In a thread, and given up on an interrupt: a helper may wait for its user.
                found = await anyio.to_thread.run_sync(find_credentials, self._host, abandon_on_cancel=True)
                self._look, self._credentials = False, found
                self._refresh = found.identity_token if found else ""

    @property
    def _login(self) -> str:
        return _LOGIN.format(host=self._host)

    def _accept(self, parameters: Mapping[str, str]) -> _Realm:
        url, service = parameters.get("realm", ""), parameters.get("service", "")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        except ValueError:
            usable = False
        if not usable:
            raise NotARegistry(f"{self._host} names no usable token server", status=401)
        if parts.scheme == "http" and self._origin.startswith("https:"):
            hint = "the token server's address (auth.token.realm) must be https"
            what = f"asks for credentials to be sent over plain http to {parts.netloc}: refused"
            raise self._unauthorized(what, hint=hint)
        if self._realm is None or (self._realm.url, self._realm.service) != (url, service):
            self._realm = _Realm(url, service)
        return self._realm

    async def _token(self, realm: _Realm, scope: str, refused: str) -> str:
        """Return a token from memory, or a new one; never the one that was refused."""
        async with self._lock:  # a hundred requests that need one token ask for it once
            token, until = realm.tokens.get(scope, ("", 0.0))
            if not token or token == refused or time.monotonic() >= until:
                token, seconds = await self._fetch(realm, scope)
                # A token that lasts until the answer comes may be refused on its way: leave a tenth.
                realm.tokens[scope] = (token, time.monotonic() + 0.9 * seconds)
        return f"Bearer {token}"

    async def _fetch(self, realm: _Realm, scope: str) -> tuple[str, float]:
        if self._refresh:
            form = {"grant_type": "refresh_token", "service": realm.service, "client_id": "regnb", "scope": scope}
            body = urlencode({**form, "refresh_token": self._refresh}).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = await self._send("POST", realm.url, headers, body)
        else:
            pairs = [("service", realm.service), *(("scope", each) for each in scope.split())]
            joint = "&" if urlsplit(realm.url).query else "?"
            known = self._credentials is not None and self._credentials.username
            headers = {"Authorization": self._credentials.basic} if self._credentials and known else {}
            response = await self._send("GET", f"{realm.url}{joint}{urlencode(pairs)}", headers, None)
        server = urlsplit(realm.url).netloc
        _LOG.info("token server %s: %d for %s", server, response.status, scope or "no scope")
        if response.status in (400, 401):
            what = "does not accept these credentials" if self._credentials else "gives nothing anonymously"
            raise Unauthorized(f"the token server {server} {what}", hint=self._login, status=response.status)
        if response.status == 403:
            raise Denied(f"the token server {server} refuses {scope or 'this'}", status=403)
        answer = _Token()
        if response.status == 200:
            with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
                # Not strict: some servers write the seconds as text.
                answer = msgspec.json.decode(response.data, type=_Token, strict=False)
        token = answer.token or answer.access_token
        # A line break in a token would be a header of the server's making.
        if not token or not token.isascii() or not token.isprintable():
            raise RegistryError(f"the token server {server} gave no token", status=response.status)
        if self._refresh and answer.refresh_token:
            self._refresh = answer.refresh_token
        # 60 s is what the specification says where the answer does not.
        return token, max(answer.expires_in or 60.0, 1.0)

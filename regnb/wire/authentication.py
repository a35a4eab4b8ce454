"""Challenges answered: Basic, and Bearer tokens by scope."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self
from urllib.parse import urlencode, urlsplit

import anyio
import msgspec

from regnb.errors import Denied, NotARegistry, RateLimited, RegistryError, ServerFailed, Unauthorized
from regnb.log import logger
from regnb.wire.credentials import Credentials, Logins

_LOG: Final = logger("wire")
_LOGIN: Final = "give credentials to regnb.connect, or run: docker login {host}"
_LONGEST: Final = 86400.0
"""Seconds for which a token is used at most."""


class Unscoped(Denied):
    """Nobody is let in who names no repository: it says nothing about what a repository's readers may do."""


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
    """What a token server answers (distribution's token authentication specification). Any of it may be null."""

    token: Any = None
    access_token: Any = None
    expires_in: Any = None
    refresh_token: Any = None

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read an answer; one that is malformed holds nothing."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return cls()

    @property
    def text(self) -> str:
        """The token, or "". A line break in it would be a header of the server's making."""
        found = next((each for each in (self.token, self.access_token) if each and isinstance(each, str)), "")
        return found if found.isascii() and found.isprintable() else ""

    @property
    def seconds(self) -> float:
        """How long it is valid: the specification says 60 s where the answer does not. Some write it as text."""
        try:
            found = float(self.expires_in or 60.0)
        except (TypeError, ValueError):
            found = 60.0
        return min(max(found, 1.0), _LONGEST) if found == found else 60.0  # noqa: PLR0124 -- NaN is not itself


@dataclass(slots=True)
class _Realm:
    """The registry's token server, and the tokens from it: one for each set of scopes."""

    url: str
    service: str
    tokens: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict, repr=False)
    """Of a login and a scope."""
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
        url: The registry's, with its path if it has one.
        credentials: Or None for anonymous.
        send: Sends a request to the token server, without following redirects.
        stored: Whether challenges, if there are no credentials, are answered with what docker and podman stored: for
            the repository that is asked for, else for the host. No helper is run for a registry that asks for none.

    Example:
        ``Authenticator("https://registry.example.org", None, send)``
    """

    def __init__(self, url: str, credentials: Credentials | None, send: Send, *, stored: bool = False) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.netloc
        self._base = parts.path.strip("/")
        self._given = credentials
        self._send = send
        self._stored = stored and credentials is None
        self._logins: Logins | None = None
        self._basic: dict[str, str] = {}
        self._realm: _Realm | None = None
        self._refresh: dict[str, str] = {}
        self._lock = anyio.Lock()

    def __repr__(self) -> str:
        return f"Authenticator({self._host!r}, {self._given!r})"

    async def header(self, scope: tuple[str, ...]) -> str | None:
        """Return the Authorization of a request, as far as earlier challenges tell; None before the first."""
        if self._realm is None and not self._basic:
            return None
        path = self._path(scope)
        if self._realm is None:
            return self._basic.get(self._login(path))
        if self._logins is not None and not self._logins.known(path):
            return None
        return await self._token(self._realm, self._realm.asked.get(scope) or _canonical(scope), scope, "")

    async def answer(self, headers: Mapping[str, str], scope: tuple[str, ...], sent: str | None) -> str:
        """Return the Authorization that answers a 401.

        Args:
            headers: The 401's.
            scope: What the request needs, where the challenge does not say; () for one that names no repository.
            sent: The Authorization that was refused, or None.

        Raises:
            Unauthorized: There are no credentials, or they are wrong.
            Denied: The token server refuses this scope.
            Unscoped: It refuses to give a token for no repository, or there are only logins for repositories.
            RegistryError: The challenge cannot, or must not, be answered.
            RegnbError: The stored credentials cannot be read.
        """
        credentials = await self._look(scope)
        challenges = {each.scheme: each for each in parse_challenges(headers.get("www-authenticate", ""))}
        if bearer := challenges.get("bearer"):
            realm = self._accept(bearer.parameters)
            realm.asked[scope] = _canonical(bearer.parameters.get("scope", "").split() or scope)
            try:
                return await self._token(realm, realm.asked[scope], scope, (sent or "").removeprefix("Bearer "))
            except (Denied, Unauthorized) as error:
                if scope or (isinstance(error, Unauthorized) and not self._others(credentials)):
                    raise
                raise Unscoped(error.message, hint=error.hint, status=error.status) from None
        if "basic" in challenges and credentials is not None and credentials.username:
            if sent is not None:
                raise self.refused(headers, scope)
            return self._basic.setdefault(self._login(self._path(scope)), credentials.basic)
        if challenges and not challenges.keys() & {"basic", "bearer"}:
            raise self._unauthorized(f"asks for {', '.join(challenges)}, which regnb does not support", hint="")
        if not scope and self._others(credentials):
            raise Unscoped(
                f"{self._host} asks for credentials, and they are stored for {self._parts} alone", status=401
            )
        raise self._unauthorized("asks for credentials and there are none")

    async def anonymous(self, scope: tuple[str, ...]) -> str | None:
        """Return the Authorization of a request without the login that was refused, if the login was a stored one.

        Raises:
            RegistryError: The token server gives none.
        """
        if self._realm is None or not self._credentials(scope) or self._given is not None:
            return None
        wanted = self._realm.asked.get(scope) or _canonical(scope)
        return f"Bearer {(await self._fetch(self._realm, wanted, None, '')).text}"

    def useless(self, error: RegistryError, scope: tuple[str, ...]) -> Unauthorized:
        """Return the error of a stored login that is refused, where anyone without one is let in."""
        credentials = self._credentials(scope)
        what = f"{self._host} refuses {_these(credentials)}; without it this can be read"
        hint = f"run docker logout {self._host}, or log in again: docker login {self._host}"
        return Unauthorized(what, hint=hint, status=error.status)

    def refused(self, headers: Mapping[str, str], scope: tuple[str, ...]) -> RegistryError:
        """Return the error for a 401 that came back to an Authorization which answered the challenge."""
        credentials = self._credentials(scope)
        if self._realm is None:
            return self._unauthorized(f"does not accept {_these(credentials)}")
        if credentials is None:
            return self._unauthorized("does not allow this anonymously")
        if "invalid_token" in headers.get("www-authenticate", ""):
            hint = "compare their clocks, and the registry's rootcertbundle with the token server's key"
            return self._unauthorized("does not accept the token that its own token server gave", hint=hint)
        identity = credentials.username or "this identity"
        hint = "ask for the permission there, or log in as another user"
        return Denied(f"{self._host} does not allow this to {identity}", hint=hint, status=401)

    def _unauthorized(self, what: str, *, hint: str | None = None) -> Unauthorized:
        return Unauthorized(f"{self._host} {what}", hint=self._hint if hint is None else hint, status=401)

    # Whose credentials

    async def credentials(self, repository: str = "") -> Credentials | None:
        """Return the login of a repository, or of the registry alone, for the registry's own API beside ``/v2/``.

        Raises:
            RegnbError: The stored credentials cannot be read.
        """
        return await self._look((f"repository:{repository}:pull",) if repository else ())

    @property
    def realm(self) -> str:
        """The address of the token server that a challenge named, or ""."""
        return self._realm.url if self._realm else ""

    def _path(self, scope: tuple[str, ...]) -> str:
        """Return what the logins of a host are stored for: the first repository of a scope, below the registry."""
        kind, _, rest = scope[0].partition(":") if scope else ("", "", "")
        return "/".join(filter(None, (self._base, rest.rpartition(":")[0] if kind == "repository" else "")))

    def _login(self, path: str) -> str:
        return self._logins.login(path) if self._logins is not None else ""

    def _credentials(self, scope: tuple[str, ...]) -> Credentials | None:
        """Return the credentials for a scope, once they were looked up."""
        path = self._path(scope)
        if self._logins is not None and self._logins.known(path):
            return self._logins.find(path)
        return self._given

    async def _look(self, scope: tuple[str, ...]) -> Credentials | None:
        if not self._stored:
            return self._given
        path = self._path(scope)
        async with self._lock:
            if self._logins is None:
                self._logins = await anyio.to_thread.run_sync(Logins, self._host)
            if not self._logins.known(path):
                # In a thread, and given up on an interrupt: a helper may wait for its user.
                await anyio.to_thread.run_sync(self._logins.find, path, abandon_on_cancel=True)
            return self._logins.find(path)

    def _others(self, credentials: Credentials | None) -> bool:
        """Whether a repository may have a reader although nobody is let in without one."""
        return bool((credentials and credentials.stored) or (self._logins and self._logins.paths))

    @property
    def _parts(self) -> str:
        paths = sorted(self._logins.paths if self._logins else ())
        return ", ".join(f"{self._host}/{path}" for path in paths[:3]) + ("…" if len(paths) > 3 else "")

    @property
    def _hint(self) -> str:
        missing = self._logins.missing if self._logins else ()
        return "; ".join([*missing, _LOGIN.format(host=self._host)])

    def _accept(self, parameters: Mapping[str, str]) -> _Realm:
        url, service = parameters.get("realm", ""), parameters.get("service", "")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        except ValueError:
            usable = False
        if not usable:
            raise NotARegistry(
                f"{self._host} names no usable token server", hint="check auth.token.realm there", status=401
            )
        if parts.scheme == "http" and self._secure:
            hint = "the token server's address (auth.token.realm) must be https"
            what = f"asks for credentials to be sent over plain http to {parts.netloc}: refused"
            raise self._unauthorized(what, hint=hint)
        if self._realm is None or (self._realm.url, self._realm.service) != (url, service):
            self._realm = _Realm(url, service)
        return self._realm

    async def _token(self, realm: _Realm, wanted: str, scope: tuple[str, ...], refused: str) -> str:
        """Return a token from memory, or a new one; never the one that was refused."""
        login = self._login(self._path(scope))
        async with self._lock:  # a hundred requests that need one token ask for it once
            token, until = realm.tokens.get((login, wanted), ("", 0.0))
            if not token or token == refused or time.monotonic() >= until:
                credentials = self._credentials(scope)
                refresh = self._refresh.get(login) or (credentials.identity_token if credentials else "")
                answer = await self._fetch(realm, wanted, credentials, refresh)
                if refresh and answer.refresh_token and isinstance(answer.refresh_token, str):
                    self._refresh[login] = answer.refresh_token
                token = answer.text
                # A token that lasts until the answer comes may be refused on its way: leave a tenth.
                realm.tokens[login, wanted] = (token, time.monotonic() + 0.9 * answer.seconds)
        return f"Bearer {token}"

    async def _fetch(self, realm: _Realm, scope: str, credentials: Credentials | None, refresh: str) -> _Token:
        service = {"service": realm.service} if realm.service else {}
        if refresh:
            form = {"grant_type": "refresh_token", **service, "client_id": "regnb", "scope": scope}
            body = urlencode({**form, "refresh_token": refresh}).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = await self._send("POST", realm.url, headers, body)
        else:
            query = urlencode([*service.items(), *(("scope", each) for each in scope.split())])
            joint = "&" if urlsplit(realm.url).query else "?"
            headers = {"Authorization": credentials.basic} if credentials and credentials.username else {}
            response = await self._send("GET", f"{realm.url}{joint}{query}" if query else realm.url, headers, None)
        server = f"the token server {urlsplit(realm.url).netloc}"
        _LOG.info("%s: %d for %s", server, response.status, scope or "no scope")
        status = response.status
        if status in (400, 401):
            what = f"does not accept {_these(credentials)}" if credentials else "gives nothing anonymously"
            raise Unauthorized(f"{server} {what}", hint=self._hint, status=status)
        if status == 403:
            with_login = f" with {_these(credentials)}" if credentials else ""
            raise Denied(f"{server} refuses {scope or 'this'}{with_login}", hint=self._hint, status=status)
        if status == 429:
            raise RateLimited(f"{server} answers 429, although it was asked again", hint="try again later", status=429)
        if status >= 500:
            raise ServerFailed(f"{server} answers {status}", hint="its log says why", status=status)
        answer = _Token.read(response.data) if status == 200 else _Token()
        if not answer.text:
            raise RegistryError(f"{server} gave no token", hint="its log says why", status=status)
        return answer


def _these(credentials: Credentials | None) -> str:
    return f"the login stored in {credentials.stored}" if credentials and credentials.stored else "these credentials"

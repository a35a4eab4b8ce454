"""The door of a registry that asks for a password or for tokens, in front of one that asks for nothing.

Passwords and tokens begin with ``canary-``, so that they are found wherever they must not stand.
"""

from __future__ import annotations

import base64
import json
import random
from typing import Final
from urllib.parse import parse_qs, urlsplit

from faulty import Answer, Request, errors

USER: Final = "user"
PASSWORD: Final = "canary-password"
SECRET: Final = "canary-"
"""What no receipt, message or other server may hold."""
_BASIC: Final = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
_ACTIONS: Final = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}
_SHAPES: Final = (
    {"expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"},
    {"expires_in": 0},
    {"expires_in": 59.5},
    {"expires_in": "300"},
    {},
)
"""What token servers answer beside the token."""


class Guard:
    """Answers 401 to what has no right to pass, and gives tokens.

    Args:
        chance: Draws what sort of door it is.
    """

    def __init__(self, chance: random.Random) -> None:
        self.basic = chance.random() < 0.3
        self.lasts = chance.choice((20, 60, 10**9, 10**9))
        """Requests after which a token is refused: more than are under way at once, or a new one would be, too."""
        self._shape = chance.choice(_SHAPES)
        self._name = chance.choice(("token", "access_token"))
        self._service = chance.choice(('service="registry",', ""))
        self._tokens: dict[str, set[str]] = {}
        self._used: dict[str, int] = {}

    def __str__(self) -> str:
        if self.basic:
            return "a password"
        return f"tokens for {self.lasts} requests, {self._name}, {self._shape}, {self._service or 'no service'}"

    def __call__(self, request: Request) -> Answer | None:
        if request.kind == "token":
            return self._give(request)
        given = request.headers.get("authorization", "")
        if given == _BASIC if self.basic else self._fits(given.removeprefix("Bearer "), request):
            return None
        challenge = ("WWW-Authenticate", self.challenge(request))
        return Answer(401, "Unauthorized", [("Content-Type", "application/json"), challenge], errors("UNAUTHORIZED"))

    def challenge(self, request: Request) -> str:
        """What a 401 asks for."""
        if self.basic:
            return 'Basic realm="registry"'
        scope = " ".join(sorted(_needed(request)))
        where = f'realm="http://{request.headers.get("host", "")}/token"'
        return f'Bearer {where},{self._service}scope="{scope}"'.rstrip(",")

    def _fits(self, token: str, request: Request) -> bool:
        if token not in self._tokens or not _single(_needed(request)) <= self._tokens[token]:
            return False
        self._used[token] += 1
        return self._used[token] <= self.lasts

    def _give(self, request: Request) -> Answer:
        kind = [("Content-Type", "application/json")]
        if request.headers.get("authorization") != _BASIC:
            return Answer(401, "Unauthorized", kind, errors("UNAUTHORIZED"))
        scopes = parse_qs(urlsplit(request.path).query).get("scope", [])
        token = f"{SECRET}token-{len(self._tokens)}"
        self._tokens[token] = _single({each for scope in scopes for each in scope.split()})
        self._used[token] = 0
        return Answer(200, "OK", kind, json.dumps({self._name: token, **self._shape}).encode())


def _needed(request: Request) -> set[str]:
    """The scopes that distribution asks for."""
    if request.kind == "api":
        return set()
    if request.kind == "catalog":
        return {"registry:catalog:*"}
    action = _ACTIONS.get(request.method, "pull,push")
    scopes = {f"repository:{request.repository}:{action}"}
    if source := parse_qs(urlsplit(request.path).query).get("from"):
        scopes.add(f"repository:{source[0]}:pull")
    return scopes


def _single(scopes: set[str]) -> set[str]:
    """Each action of some scopes for itself."""
    split = (scope.rpartition(":") for scope in scopes)
    return {f"{name}:{action}" for name, _, actions in split for action in actions.split(",")}

"""A visit: the cookie that makes a browser known, the light page that sets it, and who has given which token."""

from __future__ import annotations

import html
import secrets
import time
from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus
from http.client import responses
from typing import Final, NamedTuple
from urllib.parse import urlencode

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.handlers import JupyterHandler
from tornado.web import HTTPError

from regnb.pages.guard import BARE, STYLE, Upstream
from regnb.pages.rate_limit import RateLimit
from regnb.pages.token import Token
from regnb.widgets.page import box

LASTS: Final = 12 * 3600
"""Seconds after which a token has to be given again."""
_MARK: Final = "visit"
_ASKED, _GIVEN = "1", "2"
"""In the query: the light page has asked for this; the cookie was set, and must be there."""
_GUESSES: Final = RateLimit(8, 1 / 15)
"""Wrong tokens of one address."""
_ALL_GUESSES: Final = RateLimit(100, 1)
"""Wrong tokens of all addresses together."""
_LOCKED: Final = "Too many wrong tokens: wait a minute"
_MOST: Final = 10_000


class _Login(NamedTuple):
    token: Token
    until: float


class Visits:
    """Who is here: each browser has a cookie of its own, and some have given a token.

    Args:
        tokens: One of them must be known; without any, everybody may look.
        cookie: Its name; its path is the pages' prefix, so that it leaves other servers' cookies alone.
    """

    def __init__(self, tokens: Sequence[Token], cookie: str) -> None:
        self.tokens, self.cookie = tokens, cookie
        self._logins: dict[str, _Login] = {}

    def of(self, handler: JupyterHandler) -> str:
        """Return the visitor of a request, or "" if its cookie is missing or not ours."""
        found = handler.get_signed_cookie(self.cookie, max_age_days=1)
        return found.decode() if found else ""

    def begin(self, handler: JupyterHandler) -> str:
        """Give a browser a new cookie, and return the visitor that it is."""
        visitor = secrets.token_hex(16)
        # Strict: what another site links to comes without it, and so gets the light page.
        given: dict[str, Upstream] = {"path": handler.base_url, "httponly": True, "samesite": "Strict"}
        if handler.request.protocol == "https":
            given["secure"] = True
        handler.set_signed_cookie(self.cookie, visitor, expires_days=None, **given)
        return visitor

    def token(self, visitor: str) -> Token | None:
        """Return the token that a visitor has given, if it still counts."""
        login = self._logins.get(visitor)
        if login is not None and time.monotonic() < login.until:
            return login.token
        self._logins.pop(visitor, None)
        return None

    def admits(self, visitor: str) -> bool:
        """Whether a visitor may see pages."""
        return bool(visitor) and (not self.tokens or self.token(visitor) is not None)

    def enter(self, handler: JupyterHandler, text: str) -> Token | None:
        """Take a token; the browser is another visitor from then on."""
        found = [token for token in self.tokens if token.fits(text)]
        if not found:
            return None
        self._logins.pop(self.of(handler), None)
        self.know(self.begin(handler), found[0])
        return found[0]

    def know(self, visitor: str, token: Token) -> None:
        """Remember that a visitor has given a token."""
        now = time.monotonic()
        self._logins = {each: login for each, login in self._logins.items() if now < login.until}
        if len(self._logins) >= _MOST:
            self._logins.pop(next(iter(self._logins)))
        self._logins[visitor] = _Login(token, now + LASTS)

    def carried(self, handler: JupyterHandler) -> Token | None:
        """Return the token that a request has as ``Bearer``: a program's, or that of a proxy that knows its users.

        Raises:
            HTTPError: 429: too many wrong ones came from its address, or from all.
        """
        kind, _, text = handler.request.headers.get("Authorization", "").partition(" ")
        sender = str(handler.request.remote_ip)
        if kind.lower() != "bearer":
            return None
        if not (_GUESSES.take(sender) and _ALL_GUESSES.take("")):
            raise HTTPError(429, reason=_LOCKED)
        found = next((token for token in self.tokens if token.fits(text.strip())), None)
        if found is not None:
            _GUESSES.forget(sender)
        return found

    def leave(self, handler: JupyterHandler) -> str:
        """Forget a visitor's token and cookie; return who it was."""
        visitor = self.of(handler)
        self._logins.pop(visitor, None)
        handler.clear_cookie(self.cookie, path=handler.base_url)
        return visitor


def cookie_of(port: int, prefix: str, registry: str) -> str:
    """Return the name of a web UI's cookie.

    In containers all listen on the same port, and a browser sends the cookies of a shorter path, and of the host's
    other ports, along: each registry's UI has a name of its own.

    Args:
        port: That the UI listens on.
        prefix: Of its pages.
        registry: Its URL.

    Example:
        >>> cookie_of(8000, "/ui/", "https://r.example.com")
        'regnb-8000-7a42b1cf'
    """
    return f"regnb-{port}-{sha256(f'{prefix} {registry}'.encode()).hexdigest()[:8]}"


class Identity(IdentityProvider):
    """Tells jupyter_server's handlers who is there: by the cookie or a header, never by a token in a URL."""

    def get_user(self, handler: Upstream) -> User | None:
        """Return the visitor of a request, or None if it must not see pages."""
        visits: Visits = handler.settings["visits"]
        visitor = visits.of(handler)
        if visitor and not visits.admits(visitor) and (token := visits.carried(handler)):
            visits.know(visitor, token)
        return User(visitor) if visits.admits(visitor) else None

    def get_handlers(self) -> list[tuple[str, object]]:
        """Return none: the pages have their own."""
        return []

    def is_token_authenticated(self, handler: Upstream) -> bool:  # noqa: ARG002 -- a handler
        """Whether the request itself had a token: never."""
        return False


class Guarded:
    """A handler behind the guard, which has looked at Origin and at what the browser says of the request.

    jupyter_server compares Origin with Host alone, and asks for a second cookie, which other servers on the same host
    take for theirs.
    """

    def check_xsrf_cookie(self) -> None:
        """Ask for no cookie beside the visit's, which no other site can make a browser send."""

    def check_origin(self, *_: str) -> bool:
        """Say yes: the guard has compared it."""
        return True


class Plain:
    """A handler whose errors are pages without scripts; jupyter_server's need files that are not served here."""

    def write_error(self, status_code: int, **given: Upstream) -> None:
        """Say what is wrong, as far as the status does."""
        handler: Upstream = self
        reason = getattr(given.get("exc_info", (None, None))[1], "reason", None) or responses.get(status_code, "")
        text = html.escape(f"{status_code} {reason}")
        if status_code == HTTPStatus.TOO_MANY_REQUESTS:
            handler.set_header("Retry-After", "60")
        say(
            handler,
            f"<p>{text}. <a href='{html.escape(handler.settings['base_url'])}'>Go to the overview.</a></p>",
            status_code,
        )


def shell(body: str, head: str = "") -> str:
    """Return a page without a notebook, as HTML.

    Example:
        >>> "<h1>regnb</h1>" in shell("<p>Closed.</p>")
        True
    """
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>regnb</title>{head}<style>{STYLE}</style></head><body><main><h1>regnb</h1>{body}</main></body></html>"
    )


def say(handler: JupyterHandler, body: str, status: int = 200, head: str = "") -> None:
    """Answer with a page without a notebook and without scripts."""
    handler.set_status(status)
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.set_header("Content-Security-Policy", BARE)
    handler.set_header("Cache-Control", "no-store")
    handler.finish(shell(body, head))


def arrive(handler: JupyterHandler) -> bool:
    """Whether this is a visit already; else a light page or a redirect is sent that makes it one.

    What another site links to comes without the cookie, whether or not there is one. The light page costs nothing; it
    asks for the page again from this site: then a cookie that is there comes along, and one that is not is set.
    """
    visits: Visits = handler.settings["visits"]
    rest = [each for each in handler.request.query.split("&") if each and not each.startswith(f"{_MARK}=")]
    mark = handler.get_query_argument(_MARK, "")

    def where(mark: str = "") -> str:
        query = "&".join([f"{_MARK}={mark}", *rest] if mark else rest)
        return f"{handler.request.path}{'?' if query else ''}{query}"

    abroad = handler.request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if abroad or not (mark or visits.of(handler)):
        again = html.escape(where(_ASKED))
        head = f"<meta http-equiv='refresh' content='0; url={again}'>"
        say(handler, f"<p role='status'>Opening… <a href='{again}'>Open it now</a></p>", head=head)
    elif visits.of(handler):
        if not mark:
            return True
        handler.redirect(where(), status=303)
    elif mark == _ASKED:
        visits.begin(handler)
        handler.redirect(where(_GIVEN), status=303)
    else:
        say(handler, box("bad", "The browser sent no cookie back.", "Allow cookies for this address, and reload."), 400)
    return False


class Login(Guarded, Plain, LoginFormHandler):
    """Asks a visitor for a token; the visit's cookie then stands for it."""

    def _render(self, message: str = "", status: int = 200) -> None:
        following = self.get_argument("next", default=self.base_url)
        said = box("bad", message) if message else ""
        say(
            self,
            f"<form method='post' action='?{html.escape(urlencode({'next': following}))}'>"
            "<p>These pages ask for a token.</p><label>Token "
            "<input type='password' name='password' autocomplete='current-password' autofocus></label> "
            f"<button>Open</button></form>{said}",
            status,
        )

    def _lead_on(self) -> None:
        safe: Upstream = self._redirect_safe
        safe(self.get_argument("next", default=self.base_url))

    @allow_unauthenticated
    def get(self) -> None:
        """Show the form, where there is a token to give."""
        if self.current_user or not self.settings["visits"].tokens:
            self._lead_on()
        else:
            self._render()

    head = get

    @allow_unauthenticated
    def post(self) -> None:
        """Take a token."""
        visits: Visits = self.settings["visits"]
        sender = str(self.request.remote_ip)
        if not visits.tokens:
            say(self, box("bad", "These pages ask for no token.", "Open them as they are."), 404)
            return
        if not (_GUESSES.take(sender) and _ALL_GUESSES.take("")):
            self._render(f"{_LOCKED}.", 429)
            return
        token = visits.enter(self, self.get_body_argument("password", default=""))
        if token is None:
            self.log.warning("a wrong token from %s", sender)
            self._render("That is not the token.", 401)
            return
        _GUESSES.forget(sender)
        self.log.warning("%s logged in (token: %s)", sender, token.name)
        self._lead_on()


class Logout(Guarded, Plain, JupyterHandler):
    """Ends a login, and the pages that it opened."""

    @allow_unauthenticated
    async def post(self) -> None:
        """Forget it."""
        visits: Visits = self.settings["visits"]
        kernels: Upstream = self.kernel_manager
        await kernels.end(visits.leave(self))
        said, following = (
            ("You are logged out", "Log in") if visits.tokens else ("Your pages are closed", "Start again")
        )
        say(self, f"<p role='status'>{said}. <a href='{html.escape(self.base_url)}'>{following}</a></p>")

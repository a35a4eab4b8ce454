"""Messages to people who do not watch a terminal: Slack, Teams, Mattermost, what else apprise knows, or plain JSON."""

from __future__ import annotations

import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from typer import Option

from regnb.cli.terminal import ERROR, Reason, report_reason
from regnb.errors import InvalidArgument, MissingExtra, RegnbError
from regnb.text import printable

_MESSAGES: Final = "Messages"
Webhook = Annotated[
    str,
    Option(
        metavar="URL",
        envvar="REGNB_WEBHOOK",
        help="Send a message to this webhook if there is something to report: Slack, Teams, Mattermost, any URL of "
        "apprise, or an address that accepts JSON. Prefer the variable: other users of this machine can read a command "
        "line.",
        rich_help_panel=_MESSAGES,
    ),
]
Link = Annotated[
    str, Option(metavar="URL", help="Page that the message links to, such as the web UI.", rich_help_panel=_MESSAGES)
]
_MATTERMOST: Final = re.compile(r"(?P<host>.+)/hooks/(?P<key>[a-z0-9]{26})/?")
"""An incoming webhook, as Mattermost shows it."""
_WAITS: Final = (1.0, 4.0, None)
"""Seconds after each attempt."""
_TIMEOUT: Final = 20.0


class Alarm:
    """Where messages go; nowhere without a webhook.

    Args:
        webhook: Its URL, which is a secret: it is never shown.
        link: What each message ends with.

    Raises:
        InvalidArgument: The URL is of no kind that is known.
        MissingExtra: It takes apprise, which is not installed.
    """

    def __init__(self, webhook: str = "", link: str = "") -> None:
        self._link = link
        self._host = _host(webhook)
        self._deliver = _service(webhook) if webhook else None

    def __repr__(self) -> str:
        return f"<Alarm to {self._host}>"

    def send(self, title: str, lines: Sequence[str]) -> list[Reason]:
        """Send a message, several times if need be; return a reason if nobody took it."""
        if self._deliver is None:
            return []
        text = [printable(line) for line in lines]
        why = ""
        for wait in _WAITS:
            why = self._deliver(printable(title), [*text, *([self._link] if self._link else [])])
            if not why:
                return []
            if wait is not None:
                time.sleep(wait)
        return [(ERROR, f"The message could not be sent to {self._host}: {why}. Check REGNB_WEBHOOK or --webhook.")]

    @contextmanager
    def failing(self, title: str) -> Iterator[None]:
        """Send a message of an error within, too."""
        try:
            yield
        except RegnbError as error:
            for code, reason in self.send(title, [error.message, *([error.hint] if error.hint else [])]):
                report_reason(reason, code)
            raise


def alarm(*, webhook: Webhook = "", link: Link = "") -> Alarm:
    """Return where messages go, as the options say."""
    return Alarm(webhook, link)


Alarms: TypeAlias = Callable[[], Alarm]
_Deliver: TypeAlias = Callable[[str, Sequence[str]], str]
"""Sends a title and lines; returns why it could not, without the URL."""


def _host(url: str) -> str:
    with suppress(ValueError):
        return urlsplit(url).hostname or "the webhook"
    return "the webhook"


def _service(url: str) -> _Deliver:
    """Return what sends to a webhook."""
    scheme = url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        known = _apprise(url) if scheme == "https" else None
        mattermost = _MATTERMOST.fullmatch(url.partition("://")[2])
        if known is None and mattermost:
            known = _apprise(f"mmost{'s' * (scheme == 'https')}://{mattermost['host']}/{mattermost['key']}")
        return known or _json(url)
    found = _apprise(url)
    if found is None:
        raise InvalidArgument("the webhook's URL is not of a known kind", hint="see `regnb audit --help`")
    return found


def _apprise(url: str) -> _Deliver | None:
    """Return what sends by way of apprise, or None if it does not know such a URL."""
    try:
        import apprise
    except ImportError:
        raise MissingExtra("apprise", "alerts") from None
    # Its log has URLs, and so has that of what it stands on.
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(app_id="regnb", app_desc="regnb", app_url="", http_redirects=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it loads every service that it knows
        service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if service is None:
        return None

    def deliver(title: str, lines: Sequence[str]) -> str:
        sent = service.notify(body="\n".join(lines), title=title, notify_type="warning", body_format="text")
        return "" if sent else "it did not take it"

    return deliver


def _json(url: str) -> _Deliver:
    import urllib.request  # with TLS, which a command without a webhook does not load
    from http.client import HTTPException
    from urllib.error import HTTPError

    class Still(urllib.request.HTTPRedirectHandler):
        """Follows no redirect: a message is for the address that was named."""

        def redirect_request(self, *_: object) -> None:
            """Make no other request."""

    opener = urllib.request.build_opener(Still)

    def deliver(title: str, lines: Sequence[str]) -> str:
        body = json.dumps({"title": title, "text": "\n".join((title, *lines)), "lines": list(lines), "by": "regnb"})
        try:
            request = urllib.request.Request(  # noqa: S310 -- http and https alone come here
                url, body.encode(), {"Content-Type": "application/json", "User-Agent": "regnb"}
            )
            with opener.open(request, timeout=_TIMEOUT):
                return ""
        except HTTPError as error:
            error.close()
            return f"it answered {error.code}"
        except (OSError, HTTPException, ValueError) as error:
            return getattr(error, "strerror", None) or type(getattr(error, "reason", error)).__name__

    return deliver

"""The environment: every variable that regnb reads, and the environment of a notebook's kernel."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from regnb.errors import InvalidArgument

if TYPE_CHECKING:
    from regnb.session import Bar, Counted, Show

VARIABLES: Final = MappingProxyType(
    {
        "REGNB_URL": "The registry, if none is named.",
        "REGNB_USER": "User name for the registry at REGNB_URL; no other registry is shown it.",
        "REGNB_PASSWORD": "Password of that user, and of the user that --user names.",
        "REGNB_SOURCE_PASSWORD": "Password of the user that --from-user names.",
        "REGNB_CA_BUNDLE": "A file of certificates to trust, for the registry at REGNB_URL.",
        "REGNB_CLIENT_CERT": "A file with client certificate and key, for the registry at REGNB_URL.",
        "REGNB_INSECURE": "If set, any certificate of the registry at REGNB_URL is accepted.",
        "REGNB_READ_ONLY": "If set, nothing is written to any registry from this process.",
        "REGNB_PLAIN": "If set, only the registry API is asked, and not what Harbor, GitLab or ECR offers beside it.",
        "REGNB_TIMEOUT": "Seconds to wait for a registry: 30 by default. A catalog may take longer.",
        "REGNB_CONCURRENCY": "Requests to send at once, at most: 128 by default.",
        "REGNB_NO_PROGRESS": "If set, no progress is shown.",
        "REGNB_QUIET": "If set, regnb prints results and errors only, no remarks.",
        "REGNB_RETRIES": "How often a read is sent again after an error: 2 to 6 times by default, 0 for never.",
        "REGNB_RECEIPTS": "The folder of receipts and locks, instead of the one in the user's state folder.",
        "REGNB_RECEIPTS_KEY": "The key that receipts are signed with, or the path of its file.",
        "REGNB_STORAGE": "The storage of the registry at REGNB_URL: a folder or a URL such as s3://bucket.",
        "REGNB_SNAPSHOTS": "The folder or URL where snapshots of that registry are kept.",
        "REGNB_FLEET": "The TOML file that names several registries, if none is named.",
        "REGNB_SHARED_CACHE": "A folder or URL such as s3://bucket/cache where machines share what they have read.",
        "REGNB_PULLS": "The file into which regnb pulls and regnb listen write when images were last pulled.",
        "REGNB_LISTEN_TOKEN": "The token that a registry must send to regnb listen.",
        "REGNB_UI_TOKEN": "Refused by regnb ui, which reads tokens from files: any process of a user sees a variable.",
        "REGNB_WEBHOOK": "Where messages are sent; a secret, as the URLs of most webhooks are.",
        "REGNB_LOG": "Writes the log to standard error: info, or debug with every request.",
        "REGNB_DEMO": "Set by regnb demo: the URL of the sample registry, which its notebooks may reset.",
        "REGNB_SERVED": "Set by regnb ui in the kernels of its pages.",
        "REGNB_VISITOR": "Set by regnb ui in the kernels of its pages: the visitor's token and address, for receipts.",
        "REGNB_PROGRESS": "Likewise: the file in which a page that is being made says how far its reading is.",
        "REGNB_READINGS": "Likewise: the folder through which pages share what they have read.",
        "REGNB_FRESH": "Likewise: for how many seconds a page shows what another one has read.",
        "REGNB_POD": "Set by the CronJobs of regnb kube expose --collect: the pod that makes a registry read-only.",
        "REGNB_NODE": "Likewise: the node that it runs on.",
    }
)
"""Every variable that regnb reads, and what it is for."""

_RETRIES: Final = 100
LOGIN: Final = "use docker login, or set REGNB_USER and REGNB_PASSWORD; the executed notebook keeps its parameters"
OF_A_REGISTRY: Final = (
    *("URL", "USER", "PASSWORD", "CA_BUNDLE", "CLIENT_CERT", "INSECURE"),
    *("STORAGE", "SNAPSHOTS", "DEMO"),
)
"""What the environment says of one registry, and must not say of another."""
KERNEL: Final = {"PLOTLY_RENDERER": "plotly_mimetype", "REGNB_READ_ONLY": "1"}
"""Its environment: charts as JupyterLab draws them without the network, and nothing is written to a registry."""


def variable(name: str) -> str:
    """Return the value of one of :data:`VARIABLES`, or "".

    Raises:
        KeyError: It is none of them: the table comes first.

    Example:
        >>> variable("REGNB_URL") == os.environ.get("REGNB_URL", "")
        True
    """
    _ = VARIABLES[name]
    return os.environ.get(name, "")


def progress_bar(work: Counted, show: Show) -> Bar:
    """Return the bar that shows how far some work is; a page tells it where its visitor waits.

    Args:
        work: What is counted.
        show: Whether to draw it, or what to call; by default as the environment says.

    Example:
        >>> from regnb.crawl.portions import Progress
        >>> progress_bar(Progress(), False).close()
    """
    from regnb.session import Bar  # `import regnb` stays light

    hidden = show is None and (variable("REGNB_SERVED") or variable("REGNB_NO_PROGRESS"))
    return Bar(work, show=False if hidden else show, to=variable("REGNB_PROGRESS"))


def seconds(timeout: float | None) -> float:
    """Return how long to wait for a registry: what was asked for, or ``REGNB_TIMEOUT``, or 30 s.

    Raises:
        InvalidArgument: It is not a positive number.

    Example:
        >>> seconds(5)
        5.0
    """
    text = variable("REGNB_TIMEOUT") or "30" if timeout is None else str(timeout)
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < inf:
        raise InvalidArgument(f"{text[:40]!r} is not a valid timeout", hint="give a number of seconds, such as 60")
    return found


def concurrency(most: int | None) -> int | None:
    """Return how many requests may be under way at once: this many, or ``REGNB_CONCURRENCY``, or None for no own limit.

    Raises:
        InvalidArgument: It is not a positive whole number.

    Example:
        >>> concurrency(4)
        4
    """
    text = variable("REGNB_CONCURRENCY") if most is None else str(most)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise InvalidArgument(f"{text[:40]!r} is not a valid concurrency", hint="give a number of requests, such as 8")
    return int(text)


def retries(given: int | None) -> int | None:
    """Return how often a read is sent again: what was asked for, or ``REGNB_RETRIES``; None for as often as is usual.

    Raises:
        InvalidArgument: It is not a number from 0 to 100.

    Example:
        >>> retries(5)
        5
    """
    text = variable("REGNB_RETRIES") if given is None else str(given)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) <= _RETRIES):
        raise InvalidArgument(
            f"{text[:40]!r} is not a valid number of retries", hint=f"give a number from 0 to {_RETRIES}"
        )
    return int(text)


def environment(
    url: str = "",
    *,
    username: str = "",
    password: str = "",
    ca_bundle: str | Path | None = None,
    client_cert: str | Path | None = None,
    insecure: bool = False,
) -> dict[str, str]:
    """Return the environment of a process that is to reach a registry: its notebooks find all of it there.

    What this process has of it goes on, but not the credentials of another registry. Credentials in the URL are put
    beside it, as a notebook may well show the URL.

    Args:
        url: The registry; by default the environment's ``REGNB_URL``.
        username: By default those that this process was given.
        password: Of this user.
        ca_bundle: As for :func:`regnb.connect`.
        client_cert: As for :func:`regnb.connect`.
        insecure: As for :func:`regnb.connect`.

    Example:
        >>> environment("http://localhost:5000", username="me", password="secret")["REGNB_USER"]
        'me'
    """
    from regnb.wire.addresses import same  # `import regnb` stays cheap

    found = dict(os.environ)
    known = found.get("REGNB_URL", "")
    if url and known and not same(url, known):
        for name in OF_A_REGISTRY:
            found.pop(f"REGNB_{name}", None)
        known = ""
    found |= _apart(known) | _apart(url)
    given = {
        "USER": username,
        # A notebook may well run in another folder.
        "CA_BUNDLE": str(Path(ca_bundle).resolve()) if ca_bundle else "",
        "CLIENT_CERT": str(Path(client_cert).resolve()) if client_cert else "",
        "INSECURE": "1" if insecure else "",
    }
    if username:
        found["REGNB_PASSWORD"] = password
    return found | {f"REGNB_{name}": value for name, value in given.items() if value}


def _apart(url: str) -> dict[str, str]:
    """Return a URL as variables of the environment, with its credentials apart from it."""
    if not url:
        return {}
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
    except ValueError:
        return {"REGNB_URL": url}
    where = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().removeprefix("//")
    if not parts.username:
        return {"REGNB_URL": where}
    return {
        "REGNB_URL": where,
        "REGNB_USER": unquote(parts.username),
        "REGNB_PASSWORD": unquote(parts.password or ""),
    }

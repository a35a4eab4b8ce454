"""The environment of a notebook's kernel: which registry it reads, and how."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from regnb.wire.addresses import same

LOGIN: Final = "use docker login, or set REGNB_USER and REGNB_PASSWORD; the executed notebook keeps its parameters"
OF_A_REGISTRY: Final = (
    *("URL", "USER", "PASSWORD", "CA_BUNDLE", "CLIENT_CERT", "INSECURE"),
    *("STORAGE", "SNAPSHOTS", "DEMO"),
)
"""What the environment says of one registry, and must not say of another."""
KERNEL: Final = {"PLOTLY_RENDERER": "plotly_mimetype", "REGNB_READ_ONLY": "1"}
"""Its environment: charts as JupyterLab draws them without the network, and nothing is written to a registry."""


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

"""The web UI as a card in JupyterLab's launcher: an entry for jupyter-server-proxy, which starts and proxies it."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from regnb.environment import variable

_HUB: Final = ("JUPYTERHUB_PUBLIC_URL", "JUPYTERHUB_HOST")
"""What JupyterHub says of the address that people use."""
_NAME: Final = "regnb"
"""Of the entry in the package's metadata, and so the path that jupyter-server-proxy gives it."""
_PATIENCE: Final = 90


def server() -> dict[str, object]:
    """Return the entry: called once, when the Jupyter server starts.

    The UI asks for a token that only this server knows and sends with each request: other users of the machine reach
    the same port, and do not know it. There is no card unless ``REGNB_URL`` names a registry.

    Example:
        ``server()["launcher_entry"]["title"]`` is ``"regnb"``.
    """
    token = secrets.token_hex(16)
    folder = tempfile.TemporaryDirectory(prefix="regnb-jupyter-")  # it lasts as long as this server

    def command(port: int, base_url: str) -> list[str]:
        path = Path(folder.name) / _NAME
        path.write_text(f"{token}\n", encoding="utf-8")
        names = [urlsplit(os.environ.get(each, "")).hostname or "" for each in _HUB]
        named = [word for each in names if each for word in ("--host-name", each)]
        options = ["--port", str(port), "--base-url", f"{base_url}{_NAME}/", "--token-file", str(path)]
        return [sys.executable, "-m", "regnb", "ui", *options, *named]

    return {
        "command": command,
        "timeout": _PATIENCE,
        "absolute_url": True,
        "request_headers_override": {"Authorization": f"Bearer {token}"},
        "new_browser_tab": True,
        "launcher_entry": {
            "enabled": bool(variable("REGNB_URL")),
            "title": "regnb",
            "icon_path": str(Path(__file__).with_name("launcher.svg")),
            "category": "Other",
        },
    }

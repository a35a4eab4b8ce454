"""What ``regnb lab`` runs: JupyterLab on the address and with the token that it was given, whatever is configured.

Its token comes as a line of standard input: the arguments and the environment of a process can be read by others.
"""

from __future__ import annotations

import sys
from typing import Final
from urllib.parse import urlencode

from regnb.errors import MissingExtra

try:
    from jupyterlab.labapp import LabApp
    from notebook_shim.shim import NotebookConfigShimMixin
except ImportError as missing:
    raise MissingExtra(missing.name or "jupyterlab", "lab") from None

CLOSED: Final = (
    "--ServerApp.identity_provider_class=jupyter_server.auth.identity.PasswordIdentityProvider",
    "--ServerApp.allow_origin=",
    "--ServerApp.allow_origin_pat=",
    "--ServerApp.allow_credentials=False",
    "--ServerApp.trust_xheaders=False",
    "--ServerApp.tornado_settings={}",
    "--ServerApp.sock=",
    "--ServerApp.custom_display_url=",
    "--ServerApp.disable_check_xsrf=False",
)
"""Closes what a configuration of the user's might have opened: arguments come before it."""


def main(arguments: list[str], token: str) -> None:
    """Run JupyterLab until it is ended.

    Args:
        arguments: JupyterLab's own.
        token: What a browser must know, or "" to let everybody in.

    Example:
        >>> main(["--no-browser"], "a-secret-of-some-length")  # doctest: +SKIP
    """
    # It moves what a configuration says of LabApp and NotebookApp to the server, after the arguments: the address, too.
    NotebookConfigShimMixin.shim_config_from_notebook_to_jupyter_server = lambda _, config: config
    server = LabApp.initialize_server([*CLOSED, *arguments])
    provider = server.identity_provider
    provider.token, provider.hashed_password, provider.token_generated = token, "", bool(token)
    where = f"{server.connection_url}{server.default_url.removeprefix(server.base_url)}"
    shown = f"{where}?{urlencode({'token': token})}" if token else where
    open_ = "" if token else " It is open: everyone who can reach this address can run programs as you."
    print(f"JupyterLab listens on {server.ip}, port {server.port}: {shown}{open_}", file=sys.stderr, flush=True)  # noqa: T201 -- what the command says
    server.start()


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin.readline().strip())

"""User names and passwords: given, or stored by docker and podman."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from regnb.errors import RegnbError

HELPER_TIMEOUT: Final = 30.0
"""Seconds that a credential helper may take: some unlock a key ring, none should hang a notebook."""
TOKEN_USER: Final = "<token>"  # noqa: S105 - what a helper answers in place of a user's name, not a secret
HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
HUB_KEY: Final = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and password, or an identity token. Their repr shows no secret.

    Example:
        >>> Credentials("admin", "planted")
        Credentials('admin', ***)
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ***)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


def find_credentials(host: str) -> Credentials | None:
    """Find what ``docker login`` or ``podman login`` stored for a registry.

    The first of these files that knows the host: ``$REGISTRY_AUTH_FILE``, ``$DOCKER_CONFIG/config.json``,
    ``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``, ``~/.docker/config.json``. In each,
    ``credHelpers`` beats ``credsStore`` beats ``auths``.

    Args:
        host: ``host[:port]``.

    Raises:
        RegnbError: A file is malformed, or the helper that it names fails.

    Example:
        ``find_credentials("registry.example.org:5000")``
    """
    for path in _files():
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise RegnbError(f"cannot read {path}: {error.strerror}") from None
        found = _in_file(path, text, host)
        if found is not None:
            return found
    return None


def _files() -> Iterator[Path]:
    places = {"REGISTRY_AUTH_FILE": "", "DOCKER_CONFIG": "config.json", "XDG_RUNTIME_DIR": "containers/auth.json"}
    for variable, name in places.items():
        if place := os.environ.get(variable):
            yield Path(place) / name
    yield Path("~/.config/containers/auth.json").expanduser()
    if not os.environ.get("DOCKER_CONFIG"):
        yield Path("~/.docker/config.json").expanduser()


class _Entry(msgspec.Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None


class _Config(msgspec.Struct):
    auths: dict[str, _Entry | None] | None = None
    helpers: dict[str, str] | None = msgspec.field(default=None, name="credHelpers")
    store: str | None = msgspec.field(default=None, name="credsStore")


def _in_file(path: Path, text: bytes, host: str) -> Credentials | None:
    try:
        config = msgspec.json.decode(text, type=_Config) if text.strip() else _Config()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # What it says names a place and a type, and repeats nothing of what stands there.
        hint = "repair it, or move it away and log in again"
        raise RegnbError(f"{path} is no configuration of docker: {error}", hint=hint) from None
    keys = {key: entry for key, entry in (config.auths or {}).items() if _same_host(key, host)}
    asked = next(iter(keys), HUB_KEY if host in HUB else host)
    for key, helper in (config.helpers or {}).items():
        if _same_host(key, host):
            return _ask(helper, key, required=True)
    if config.store and (found := _ask(config.store, asked, required=False)) is not None:
        return found
    for key, entry in keys.items():
        if entry is not None and (found := _entry(path, key, entry)) is not None:
            return found
    return None


def _same_host(key: str, host: str) -> bool:
    """Whether a key (``host:port``, ``http://host``, ``https://host/v1/``) means this host."""
    name, _, path = key.partition("://")[2 if "://" in key else 0].partition("/")
    if path.strip("/") not in ("", "v1", "v2"):
        return False
    return name.lower() == host.lower() or (name in HUB and host in HUB)


def _entry(path: Path, key: str, entry: _Entry) -> Credentials | None:
    username, password, token = entry.username or "", entry.password or "", entry.identitytoken or ""
    if entry.auth:
        try:
            username, colon, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            # The text itself may be a password: it is not repeated.
            raise RegnbError(f"{path}: the 'auth' of {key!r} is not base64 of user:password", hint="log in again")
    # docker pads the password with NUL.
    return Credentials(username, password.strip("\0"), token) if username or token else None


class _Answered(msgspec.Struct, rename="pascal"):
    username: str
    secret: str


def _ask(helper: str, key: str, *, required: bool) -> Credentials | None:
    """Ask a credential helper (docker-credential-helpers' protocol: ``get``, the server's name on stdin)."""
    name = f"docker-credential-{helper}"
    program = shutil.which(name) if "/" not in helper else None
    if program is None:
        if required:
            raise RegnbError(f"the credential helper {name} is not on the PATH", hint="install it, or log in again")
        return None
    try:
        done = subprocess.run(  # noqa: S603 - an argument list, no shell
            [program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise RegnbError(f"the credential helper {name} did not answer in {HELPER_TIMEOUT:g} s") from None
    except OSError as error:
        raise RegnbError(f"the credential helper {name} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise RegnbError(f"the credential helper {name} failed with exit code {done.returncode}", hint="log in again")
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answered)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise RegnbError(f"the credential helper {name} did not answer as a credential helper does") from None
    if answer.username == TOKEN_USER:
        return Credentials(identity_token=answer.secret)
    return Credentials(answer.username, answer.secret) if answer.username else None

"""User names and passwords: given, or stored by docker and podman."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from regnb.errors import RegnbError
from regnb.log import logger
from regnb.oci.reference import HUB

HELPER_TIMEOUT: Final = 30.0
"""Seconds that a credential helper may take: some unlock a key ring, none should hang a notebook."""
TOKEN_USER: Final = "<token>"  # noqa: S105 - what a helper answers in place of a user's name, not a secret
HUB_KEY: Final = "https://index.docker.io/v1/"
RUNTIME: Final = Path("/run/containers")
_BY_HAND: Final = "run it by hand (echo HOST | docker-credential-NAME get), or give REGNB_USER and REGNB_PASSWORD"
"""Where podman stores the logins of each user without a ``$XDG_RUNTIME_DIR``."""
CLOUDS: Final = (
    (re.compile(r"public\.ecr\.aws|.+\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?"), ("ecr-login",)),
    (re.compile(r"(.+\.)?gcr\.io|.+\.pkg\.dev"), ("gcloud", "gcr")),
    (re.compile(r".+\.azurecr\.(io|cn|us)"), ("acr-env", "acr-login")),
)
"""The hosts of clouds, and their credential helpers: the first one on the PATH is asked where no login is stored."""
_LOG: Final = logger("wire")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and password, or an identity token. Their repr shows no secret.

    Attributes:
        stored: The file or the credential helper that they come from, or "" where they were given.

    Example:
        >>> Credentials("admin", "planted")
        Credentials('admin', ***)
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    stored: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ***)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


def find_credentials(host: str, path: str = "") -> Credentials | None:
    """Find what ``docker login`` or ``podman login`` stored for a registry, or for a part of it.

    The first of these files that knows the host: ``$REGISTRY_AUTH_FILE``, ``$DOCKER_CONFIG/config.json``,
    ``$XDG_RUNTIME_DIR/containers/auth.json`` (without that variable ``/run/containers/UID/auth.json``),
    ``~/.config/containers/auth.json``, ``~/.docker/config.json``. In each, ``host/namespace`` beats ``host``, and
    ``credHelpers`` beats ``credsStore`` beats ``auths``. Where none knows it, the credential helper of the host's cloud
    is asked, if it is installed.

    Args:
        host: ``host[:port]``.
        path: The repository that is asked for, or "".

    Raises:
        RegnbError: A file is malformed, or the helper that it names fails.

    Example:
        ``find_credentials("registry.example.org:5000", "team/app")``
    """
    return Logins(host).find(path)


class Logins:
    """What is stored for one host: files are read once, and a helper is asked once for each login.

    Args:
        host: ``host[:port]``.

    Attributes:
        paths: The namespaces and repositories that have a login of their own.
        missing: A sentence for each helper that could not be asked, although that is not an error yet.

    Example:
        ``Logins("registry.example.org:5000").find("team/app")``
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.missing: list[str] = []
        self._files: list[tuple[Path, _Config | RegnbError]] = []
        keys: list[str] = []
        for file in _files():
            try:
                config = _read(file)
            except RegnbError as error:
                self._files.append((file, error))  # it counts where no file before it knows the host
            else:
                if config is not None:
                    self._files.append((file, config))
                    keys += [*(config.auths or ()), *(config.helpers or ())]
        self.paths = frozenset(filter(None, (_path(key, host) for key in keys)))
        self._found: dict[str, Credentials | None] = {}

    def login(self, path: str) -> str:
        """Return the namespace or repository whose login is that of a path: the most specific one, or ""."""
        return next((each for each in _upwards(path) if each in self.paths), "")

    def known(self, path: str) -> bool:
        """Whether :meth:`find` has the answer at hand."""
        return self.login(path) in self._found

    def find(self, path: str = "") -> Credentials | None:
        """Return the login of a repository, or of the host alone.

        Raises:
            RegnbError: A file is malformed, or the helper that it names fails.
        """
        login = self.login(path)
        if login not in self._found:
            in_files = (self._in_file(file, config, login) for file, config in self._files)
            self._found[login] = next((each for each in in_files if each is not None), None) or self._of_cloud()
        return self._found[login]

    def _in_file(self, file: Path, config: _Config | RegnbError, path: str) -> Credentials | None:
        if isinstance(config, RegnbError):
            raise config
        for place in (*_upwards(path), ""):
            keys = {key: entry for key, entry in (config.auths or {}).items() if _path(key, self.host) == place}
            for key, helper in (config.helpers or {}).items():
                if _path(key, self.host) == place:
                    if (program := _program(helper)) is None:
                        raise RegnbError(_not_installed(helper, file), hint="install it, or log in again")
                    return _ask(program, key)
            if config.store and (keys or not place):
                if (program := _program(config.store)) is None:
                    self.missing.append(_not_installed(config.store, file))
                else:
                    asked = next(iter(keys), HUB_KEY if self.host in HUB else self.host)
                    if (found := _ask(program, asked)) is not None:
                        return found
            for key, entry in keys.items():
                if entry is not None and (found := _entry(file, key, entry)) is not None:
                    return found
        return None

    def _of_cloud(self) -> Credentials | None:
        name = self.host.partition(":")[0].lower()
        helpers = next((helpers for pattern, helpers in CLOUDS if pattern.fullmatch(name)), ())
        program = next(filter(None, map(_program, helpers)), None)
        if program is None:
            return None
        try:
            return _ask(program, self.host)
        except RegnbError as error:
            # Nobody named it: what is public can be read without it.
            _LOG.info("%s", error.message)
            self.missing.append(error.message)
            return None


def _upwards(path: str) -> Iterator[str]:
    """Give a path and the namespaces that it is in, from the innermost one."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _files() -> Iterator[Path]:
    places = {"REGISTRY_AUTH_FILE": "", "DOCKER_CONFIG": "config.json", "XDG_RUNTIME_DIR": "containers/auth.json"}
    for variable, name in places.items():
        if place := os.environ.get(variable):
            yield Path(place) / name
    if not os.environ.get("XDG_RUNTIME_DIR") and sys.platform == "linux":
        yield RUNTIME / str(os.getuid()) / "auth.json"  # where podman and skopeo store it then, as for root
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


def _read(file: Path) -> _Config | None:
    """Read a configuration of docker or podman, if it is there."""
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RegnbError(f"cannot read {file}: {error.strerror}", hint="check its rights") from None
    try:
        return msgspec.json.decode(text, type=_Config) if text.strip() else _Config()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        # What it says names a place and a type, and repeats nothing of what stands there.
        hint = "repair it, or move it away and log in again"
        raise RegnbError(f"{file} is not a docker configuration: {error}", hint=hint) from None


def _path(key: str, host: str) -> str | None:
    """Return what a key means on this host: "" the host, else a namespace or repository; None if another host.

    Example:
        >>> _path("https://h:5000/v1/", "h:5000"), _path("h:5000/team/app", "h:5000"), _path("h", "h:5000")
        ('', 'team/app', None)
    """
    name, _, path = key.partition("://")[2 if "://" in key else 0].partition("/")
    if name.lower() != host.lower() and not (name in HUB and host in HUB):
        return None
    parts = path.strip("/").split("/")
    return "/".join(parts[:-1] if parts[-1] in ("v1", "v2") else parts)


def _entry(path: Path, key: str, entry: _Entry) -> Credentials | None:
    username, password, token = entry.username or "", entry.password or "", entry.identitytoken or ""
    if entry.auth:
        try:
            # Whoever wrote it with base64(1) has folded it.
            auth = "".join(entry.auth.split())
            username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            # The text itself may be a password: it is not repeated.
            raise RegnbError(f"{path}: the 'auth' of {key!r} is not base64 of user:password", hint="log in again")
    # docker pads the password with NUL.
    return Credentials(username, password.strip("\0"), token, str(path)) if username or token else None


class _Answered(msgspec.Struct, rename="pascal"):
    username: str
    secret: str


def _program(helper: str) -> str | None:
    """Return the path of a credential helper, or None if it is not installed."""
    return shutil.which(f"docker-credential-{helper}") if "/" not in helper else None


def _not_installed(helper: str, file: Path) -> str:
    return f"the credential helper docker-credential-{helper}, which {file} names, is not on the PATH"


def _ask(program: str, key: str) -> Credentials | None:
    """Ask a credential helper (docker-credential-helpers' protocol: ``get``, the server's name on stdin)."""
    name = Path(program).name
    try:
        done = subprocess.run(  # noqa: S603 - an argument list, no shell
            [program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise RegnbError(
            f"the credential helper {name} did not answer in {HELPER_TIMEOUT:g} s", hint=_BY_HAND
        ) from None
    except OSError as error:
        raise RegnbError(f"the credential helper {name} cannot be run: {error.strerror}", hint=_BY_HAND) from None
    if done.returncode != 0:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise RegnbError(f"the credential helper {name} failed with exit code {done.returncode}", hint="log in again")
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answered)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise RegnbError(
            f"the credential helper {name} did not answer as a credential helper does", hint=_BY_HAND
        ) from None
    if answer.username == TOKEN_USER:
        return Credentials(identity_token=answer.secret, stored=name)
    return Credentials(answer.username, answer.secret, stored=name) if answer.username else None

"""What an image's config shows that should not be in it: secrets in history and environment, root, missing labels.

A secret is told by its name and its kind. Its value is looked at, and neither returned nor kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from regnb.oci.manifest import ImageConfig

_SHAPES: Final = {
    "an AWS access key": (("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_\w{22,})",
    ),
    "a GitLab token": (("glpat-",), r"\bglpat-[\w-]{20,}"),
    "a Slack token": (("xox",), r"\bxox[abeoprs]-[\w-]{10,}"),
    "a Google API key": (("AIza",), r"\bAIza[\w-]{35}"),
    "an npm token": (("npm_",), r"\bnpm_[0-9A-Za-z]{36}"),
    "a PyPI token": (("pypi-AgE",), r"\bpypi-AgE[\w-]{20,}"),
    "a Stripe key": (("_live_",), r"\b[rs]k_live_[0-9A-Za-z]{16,}"),
    "a JSON web token": ((".eyJ",), r"\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,2000}\.[\w-]{8,}"),
    "a private key": (("PRIVATE KEY-----",), r"-----BEGIN (?:\w{1,20} ){0,5}PRIVATE KEY-----"),
    "a URL with a password": (
        ("@",),
        r"\b[A-Za-z][\w+.-]{1,20}://[^\s/:@'\"$]+:(?![$<{*x]+@?)[^\s/@'\"$]{3,}@",
    ),
    "a password of a user": (
        (" -u", " --user"),
        r"\bcurl\b[^|;&]{0,500}\s(?:-u|--user)[ =]?['\"]?[\w.-]+:(?![$<{])[^\s'\"$]{3,}",
    ),
    "an Authorization header": (
        ("uthorization", "UTHORIZATION"),
        r"(?i:authorization:\s*(?:bearer|basic|token)\s+)(?![$<{])[\w.=/+-]{8,}",
    ),
}
_SHAPE: Final = [(kind, parts, re.compile(pattern)) for kind, (parts, pattern) in _SHAPES.items()]
"""Kinds of secrets, each with texts of which one is in every such secret: most lines have none, and are passed over."""
_SECRET: Final = re.compile(
    r"(?i)(?:^|_|-|(?<=[a-z]))(?:password|passwd|passphrase|pwd|secret|token|api_?key|access_?key|private_?key"
    r"|secret_?key|auth_?key|credentials?)(?:_?(?:base|value|\d+))?$"
)
"""The end of a name whose value is a secret; PASSWORD_FILE and TOKEN_TTL are none."""
_ASSIGNED: Final = re.compile(r"(?<![\w$.-])(?:--)?([A-Za-z_][\w.-]{2,60})=(\"[^\"]*\"|'[^']*'|[^\s;&|]*)")
_HARMLESS: Final = re.compile(
    r"(?i)|[$<{%*].*|.*\$[\w{(].*|(?:true|false|yes|no|none|null|changeme|example|placeholder|x+|\d{1,5})|/[\w./-]+"
    r"|(?:file|env|vault|arn|sops):.*|type=.*"
)
"""Values that are none: empty, a variable, a path, a switch, a place where the secret is."""
_PUBLIC: Final = re.compile(r"(?i)(?:gpg|public|pub|allow_empty|empty|random)_?\w*$")

_LABELS: Final = (
    "org.opencontainers.image.source",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.version",
)

_WORDS: Final = ("pass", "pwd", "secret", "token", "key", "credential")
"""One of these is in every name that :data:`_SECRET` fits."""
_LINE: Final = 64 * 1024
"""Letters of a line that are looked at."""
_REVOKE: Final = "revoke it; give it to the build with RUN --mount=type=secret, and to the container at run time"
MENDS: Final = {
    "secret in environment": _REVOKE,
    "secret in history": _REVOKE,
    "root user": "add USER with a number other than 0",
    "missing labels": "set them in the build (docker build --label, or LABEL)",
    "secret file": "revoke it, and build without it",
    "package cache": "remove it in the RUN that made it, or use RUN --mount=type=cache",
    "build tools": "build in a stage of its own, and copy the result",
}
"""Each rule, and how to mend what it finds."""


class Finding(NamedTuple):
    """What a rule found in one image.

    Attributes:
        rule: Of :data:`MENDS`, or ``unread``.
        where: The part of the config, the step of the history, the layer, or the path.
        position: Of the layer that is concerned; -1 for none.
        found: What was found, without the value of a secret.
        size: Bytes that are concerned.
    """

    rule: str
    where: str
    position: int
    found: str
    size: int = 0

    @property
    def mend(self) -> str:
        """How to mend it."""
        return MENDS.get(self.rule, "")


def secrets(line: str) -> Iterator[str]:
    """Yield what in a line is a secret: its kind or its name, and never its value.

    Example:
        >>> list(secrets("ENV DB_PASSWORD=hunter2-hunter2 DB_PASSWORD_FILE=/run/secrets/db"))
        ['the value of DB_PASSWORD']
    """
    line, seen = line[:_LINE], False
    for kind, parts, pattern in _SHAPE:
        if any(part in line for part in parts) and pattern.search(line):
            seen = True
            yield kind
    if seen or "=" not in line or not any(word in line.lower() for word in _WORDS):
        return
    for name, value in _ASSIGNED.findall(line):
        unquoted = value.strip("\"'")
        if _SECRET.search(name) and not _PUBLIC.match(name) and not _HARMLESS.fullmatch(unquoted):
            yield f"the value of {name}"


@lru_cache(maxsize=16_384)
def _found(line: str) -> tuple[str, ...]:
    """Return what :func:`secrets` yields, each once: images on one base have most of their lines in common."""
    return tuple(dict.fromkeys(secrets(line)))


def of_config(config: ImageConfig) -> Iterator[Finding]:
    """Yield what an image's config shows.

    Example:
        >>> [one.rule for one in of_config(ImageConfig(config={"Env": ["API_TOKEN=Qx7kP2vR9"], "User": "0"}))]
        ['secret in environment', 'root user', 'missing labels']
    """
    settings = config.config or {}
    env = settings.get("Env")
    for line in env if isinstance(env, list) else ():
        name = str(line).partition("=")[0][:60]
        for what in _found(str(line)):
            yield Finding("secret in environment", f"environment: {name}", -1, what)
    position = -1
    for number, step in enumerate(config.history or []):
        position += not step.empty_layer
        for what in _found(step.created_by or ""):
            yield Finding("secret in history", f"history: step {number}", -1 if step.empty_layer else position, what)
    user = str(settings.get("User") or "").partition(":")[0]
    if user in ("", "0", "root"):
        found = f"the user is {user}" if user else "no user is set, so containers run as root"
        yield Finding("root user", "config: User", -1, found)
    if missing := [label for label in _LABELS if label not in config.labels]:
        yield Finding("missing labels", "config: Labels", -1, f"without {', '.join(missing)}")

"""Secrets in the lines of an image's history and environment: which are there, and the line without their values.

A secret is told by its name and its kind. Its value is looked at, and neither returned nor kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

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
    "a private key": (("PRIVATE KEY-----",), r"-----BEGIN (?:\w{1,20} ){0,5}PRIVATE KEY-----(?P<value>.*)"),
    "a URL with a password": (
        ("@",),
        r"\b[A-Za-z][\w+.-]{1,20}://[^\s/:@'\"$]+:(?P<value>(?![$<{*x]+@?)[^\s/@'\"$]{3,})@",
    ),
    "a password of a user": (
        (" -u", " --user"),
        r"\bcurl\b[^|;&]{0,500}\s(?:-u|--user)[ =]?['\"]?[\w.-]+:(?P<value>(?![$<{])[^\s'\"$]{3,})",
    ),
    "an Authorization header": (
        ("uthorization", "UTHORIZATION"),
        r"(?i:authorization:\s*(?:bearer|basic|token)\s+)(?P<value>(?![$<{])[\w.=/+-]{8,})",
    ),
}
_SHAPE: Final = [(kind, parts, re.compile(pattern, re.DOTALL)) for kind, (parts, pattern) in _SHAPES.items()]
"""Kinds of secrets, each with texts of which one is in every such secret: most lines have none, and are passed over.

Where only a part of what fits is secret, that is the group ``value``.
"""
_ANY: Final = re.compile("|".join(re.escape(part) for parts, _ in _SHAPES.values() for part in parts))
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
_WORDS: Final = ("pass", "pwd", "secret", "token", "key", "credential")
"""One of these is in every name that :data:`_SECRET` fits."""
_LINE: Final = 64 * 1024
"""Letters of a line that are looked at."""
_SETTING: Final = re.compile(r"(?:/bin/sh -c #\(nop\)\s+)?(?:ENV|ARG|LABEL)\s")
_NEXT: Final = re.compile(r"\s+[A-Za-z_][\w.-]*=|$")
"""Where a value without quotes ends in a history's ENV: it may hold spaces."""
MASK: Final = "***"
"""What is shown in place of a secret."""


def _spans(line: str) -> Iterator[tuple[str, int, int]]:
    """Yield what in a line is a secret, and where its value begins and ends."""
    for kind, parts, pattern in _SHAPE:
        if any(part in line for part in parts):
            group = "value" if "value" in pattern.groupindex else 0
            yield from ((kind, *match.span(group)) for match in pattern.finditer(line))
    if not _names(line):
        return
    for match in _ASSIGNED.finditer(line):
        name, value = match.groups()
        if _SECRET.search(name) and not _PUBLIC.match(name) and not _HARMLESS.fullmatch(value.strip("\"'")):
            begin, end = match.span(2)
            if _SETTING.match(line) and value[:1] not in ("'", '"') and (after := _NEXT.search(line, end)):
                end = after.start()
            yield f"the value of {name}", begin, end


def _names(line: str) -> bool:
    """Whether a line may give something a name that tells of a secret."""
    return "=" in line and any(map(line.lower().__contains__, _WORDS))


@lru_cache(maxsize=16_384)  # images on one base have most of their lines in common
def leaks(line: str) -> tuple[str, ...]:
    """Return what in a line is a secret, each once: its kind, or else its name, and never its value.

    Example:
        >>> leaks("ENV DB_PASSWORD=hunter2-hunter2 DB_PASSWORD_FILE=/run/secrets/db")
        ('the value of DB_PASSWORD',)
    """
    line = line[:_LINE]
    if not (_ANY.search(line) or _names(line)):
        return ()
    found = dict.fromkeys(what for what, _, _ in _spans(line))
    # A token that is given a name is one secret.
    return tuple(what for what in found if what in _SHAPES) or tuple(found)


def masked(line: str) -> str:
    """Return a line without the values of its secrets; a line that is too long to be looked at is cut.

    Example:
        >>> masked("RUN curl https://bot:hunter2@example.org/x"), masked("ENV DB_PASSWORD='a b' A=1")
        ('RUN curl https://bot:***@example.org/x', 'ENV DB_PASSWORD=*** A=1')
    """
    if len(line) > _LINE:
        line = f"{line[: _LINE - 1]}…"
    if not leaks(line):
        return line
    parts, at = [], 0
    for begin, end in sorted((begin, end) for _, begin, end in _spans(line)):
        if begin >= at:
            parts += [line[at:begin], MASK]
        at = max(at, end)
    return "".join([*parts, line[at:]])


def shown(name: str, value: str) -> str:
    """Return what a variable or a label is set to, without the value of a secret.

    Example:
        >>> shown("DB_PASSWORD", "correct horse"), shown("DB_URL", "pg://a:hunter2@db/x"), shown("A", "b")
        ('***', 'pg://a:***@db/x', 'b')
    """
    text = masked(f"{name}={value}").removeprefix(f"{name}=")
    return MASK if text.startswith(MASK) else text

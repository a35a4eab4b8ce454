"""What should not be in an image: secrets, root, caches and build tools, each with how to mend it.

A secret is told by its name and its kind. Its value is looked at, and neither returned nor kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from regnb.layers.archive import FILE, HARDLINK, SYMLINK
from regnb.layers.files import merge
from regnb.layers.images import Part
from regnb.layers.listing import Layer
from regnb.oci.manifest import ImageConfig

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

_SHAPES: Final = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[0-9A-Za-z]{36,}|github_pat_\w{22,})",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Slack token": r"\bxox[abeoprs]-[\w-]{10,}",
    "a Google API key": r"\bAIza[\w-]{35}",
    "an npm token": r"\bnpm_[0-9A-Za-z]{36}",
    "a PyPI token": r"\bpypi-AgE[\w-]{20,}",
    "a Stripe key": r"\b[rs]k_live_[0-9A-Za-z]{16,}",
    "a JSON web token": r"\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,2000}\.[\w-]{8,}",
    "a private key": r"-----BEGIN (?:\w{1,20} ){0,5}PRIVATE KEY-----",
    "a URL with a password": r"\b[A-Za-z][\w+.-]{1,20}://[^\s/:@'\"$]+:(?![$<{*x]+@?)[^\s/@'\"$]{3,}@",
    "a password of a user": r"\bcurl\b[^|;&]{0,500}\s(?:-u|--user)[ =]?['\"]?[\w.-]+:(?![$<{])[^\s'\"$]{3,}",
    "an Authorization header": r"(?i:authorization:\s*(?:bearer|basic|token)\s+)(?![$<{])[\w.=/+-]{8,}",
}
_SHAPE: Final = [(kind, re.compile(pattern)) for kind, pattern in _SHAPES.items()]
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
_CACHES: Final = re.compile(
    rb"var/cache/apt/archives/.+\.deb|var/cache/apt/\w+\.bin|var/lib/apt/lists/.+_.+|var/cache/apk/.+|lib/apk/db/.*\.gz"
    rb"|var/cache/(?:dnf|yum|zypp)/.+|(?:root|home/[^/]+)/(?:\.cache/pip|\.npm/_cacache|\.cache/go-build|\.m2/repository"
    rb"|\.gradle/caches|\.cargo/registry)/.+|usr/local/share/\.cache/.+"
)
_TOOLS: Final = re.compile(
    rb"usr/(?:local/)?bin/(?:gcc|g\+\+|clang|make|cmake|cargo|rustc|ld|gdb|javac|mvn|go)(?:-[\d.]+)?"
    rb"|usr/lib(?:exec)?/gcc/.+/cc1(?:plus)?|usr/local/go/bin/go"
)
_KEYS: Final = re.compile(
    rb"(?:.*/)?(?:id_(?:rsa|dsa|ecdsa|ed25519)|\.git-credentials|\.pypirc|\.netrc|\.aws/credentials|\.docker/config\.json"
    rb"|\.kube/config)"
)


class Finding(NamedTuple):
    """What a rule found in one image; the fields are the columns of ``hygiene`` but for the platform."""

    rule: str
    where: str
    position: int
    size: int
    found: str
    mend: str


_LINE: Final = 64 * 1024
"""Letters of a line that are looked at."""
_REVOKE: Final = "revoke it; give it to the build with RUN --mount=type=secret, and to the container at run time"


def secrets(line: str) -> Iterator[str]:
    """Yield what in a line is a secret: its kind or its name, and never its value.

    Example:
        >>> list(secrets("ENV DB_PASSWORD=hunter2-hunter2 DB_PASSWORD_FILE=/run/secrets/db"))
        ['the value of DB_PASSWORD']
    """
    line, seen = line[:_LINE], False
    for kind, pattern in _SHAPE:
        if pattern.search(line):
            seen = True
            yield kind
    for name, value in _ASSIGNED.findall(line):
        bare = value.strip("\"'")
        if _SECRET.search(name) and not _PUBLIC.match(name) and not _HARMLESS.fullmatch(bare) and not seen:
            yield f"the value of {name}"


def of_config(config: ImageConfig) -> Iterator[Finding]:
    """Yield what an image's config shows: secrets in history and environment, root, missing labels."""
    settings = config.config or {}
    env = settings.get("Env")
    for line in env if isinstance(env, list) else ():
        name = str(line).partition("=")[0][:60]
        for what in dict.fromkeys(secrets(str(line))):
            yield Finding("secret in environment", f"environment: {name}", -1, 0, what, _REVOKE)
    position = -1
    for number, step in enumerate(config.history or []):
        position += not step.empty_layer
        for what in dict.fromkeys(secrets(step.created_by or "")):
            at = -1 if step.empty_layer else position
            yield Finding("secret in history", f"history: step {number}", at, 0, what, _REVOKE)
    user = str(settings.get("User") or "").partition(":")[0]
    if user in ("", "0", "root"):
        found = f"the user is {user}" if user else "no user is set, so containers run as root"
        yield Finding("root user", "config: User", -1, 0, found, "add USER with a number other than 0")
    missing = [label for label in _LABELS if label not in config.labels]
    if missing:
        mend = "set them in the build (docker build --label, or LABEL)"
        yield Finding("missing labels", "config: Labels", -1, 0, f"without {', '.join(missing)}", mend)


_RULES: Final = (
    (_CACHES, "package cache", "remove it in the RUN that made it, or use RUN --mount=type=cache"),
    (_TOOLS, "build tools", "build in a stage of its own, and copy the result"),
)


def of_layers(image: Part, layers: Mapping[str, Layer]) -> Iterator[Finding]:
    """Yield what the layers of an image show: caches and build tools, summed up by layer, and files with secrets."""
    merged = merge(image, layers).done()
    begin = 0
    for position, layer in enumerate(image.layers):
        known = layers[layer.digest].listing
        if known is None:
            yield Finding("unread", f"layer {position}", position, 0, layers[layer.digest].problem, "")
            continue
        sums: dict[str, list[int]] = {}
        table = known.table
        for at, (kind, size) in enumerate(zip(table["kind"].to_pylist(), table["stored"].to_pylist(), strict=True)):
            path = merged.paths[begin + at]
            if kind not in (FILE, HARDLINK, SYMLINK):
                continue
            if size and _KEYS.fullmatch(path):
                gone = "" if merged.alive[begin + at] else ", which a later layer hides: it can still be read"
                text, mend = f"a file that usually is a secret{gone}", "revoke it, and build without it"
                yield Finding("secret file", path.decode("utf-8", "backslashreplace"), position, size, text, mend)
            for pattern, rule, _ in _RULES:
                if pattern.fullmatch(path):
                    sums.setdefault(rule, []).append(size)
        for _, rule, mend in _RULES:
            if sizes := sums.get(rule):
                yield Finding(rule, f"layer {position}", position, sum(sizes), f"{len(sizes):,} files", mend)
        begin += known.entries


def hygiene(images: Sequence[Part], layers: Mapping[str, Layer]) -> Frame:
    """Return what should not be in some images (:data:`regnb.tables.columns.COLUMNS`, ``hygiene``)."""
    from regnb.tables.frame import of_rows

    rows = [(image.platform, *one) for image in images for one in (*of_config(image.config), *of_layers(image, layers))]
    return of_rows("hygiene", rows)

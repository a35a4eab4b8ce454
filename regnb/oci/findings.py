"""What an image's config shows that should not be in it: secrets in history and environment, root, missing labels.

A secret is told by its name and its kind. Its value is looked at, and neither returned nor kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from regnb.oci.leaks import leaks
from regnb.oci.manifest import ImageConfig

_LABELS: Final = (
    "org.opencontainers.image.source",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.version",
)

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
        for what in leaks(str(line)):
            yield Finding("secret in environment", f"environment: {name}", -1, what)
    position = -1
    for number, step in enumerate(config.history or []):
        position += not step.empty_layer
        for what in leaks(step.created_by or ""):
            yield Finding("secret in history", f"history: step {number}", -1 if step.empty_layer else position, what)
    user = str(settings.get("User") or "").partition(":")[0]
    if user in ("", "0", "root"):
        yield _root(user)
    labels = config.labels
    if missing := tuple(label for label in _LABELS if label not in labels):
        yield _unlabelled(missing)


# Most images have one of these, and of each sort there are a few.
@cache
def _root(user: str) -> Finding:
    found = f"the user is {user}" if user else "no user is set, so containers run as root"
    return Finding("root user", "config: User", -1, found)


@cache
def _unlabelled(missing: tuple[str, ...]) -> Finding:
    return Finding("missing labels", "config: Labels", -1, f"without {', '.join(missing)}")

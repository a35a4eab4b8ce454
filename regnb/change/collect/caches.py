"""Ask each registry process whether it remembers blobs that a collection took away: by the bytes that it sends."""

from __future__ import annotations

import random
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from regnb.change.sweep import Row
from regnb.errors import RegistryError
from regnb.text import count

if TYPE_CHECKING:
    from regnb.wire.client import Client

_ASKED: Final = 50
"""Blobs that each process is asked for: one that remembers any has to be cured."""
CURE: Final = (
    "restart this process; if it remembers them then, too, redis does: delete its keys blobs::* and repository::*"
)


class Remembered(NamedTuple):
    """What one process says of blobs that are gone.

    Attributes:
        endpoint: Its URL.
        asked: How many it was asked for.
        remembered: How many it says to have, and sends no byte of.
        message: What to do, or why it is not known.
    """

    endpoint: str
    asked: int
    remembered: int
    message: str

    @property
    def sentence(self) -> str:
        """What is said of it to people.

        Example:
            >>> Remembered("http://a:5000", 3, 0, "").sentence
            'http://a:5000 was asked for 3 blobs that are gone, and remembers none.'
        """
        asked = f"was asked for {count(self.asked, 'blob')} that {'is' if self.asked == 1 else 'are'} gone"
        if self.remembered:
            return f"{self.endpoint} {asked}, and remembers {self.remembered:,}: {self.message}."
        if self.message:
            return f"{self.endpoint}: {self.message}."
        return f"{self.endpoint} {asked}, and remembers none."


def gone(steps: Sequence[object]) -> list[tuple[str, str]]:
    """Return the links of layers whose blobs went, too: of what was done, a repository and a digest each.

    Example:
        >>> digest = "sha256:" + "0" * 64
        >>> link = Row(kind="layer link", repository="app", reference=digest)
        >>> gone([link]), len(gone([link, Row(kind="blob", reference=digest)]))
        ([], 1)
    """
    rows = [step for step in steps if isinstance(step, Row)]
    blobs = {row.reference for row in rows if row.kind in ("blob", "manifest")}
    return [(row.repository, row.reference) for row in rows if row.kind == "layer link" and row.reference in blobs]


async def ask(client: Client, links: Sequence[tuple[str, str]]) -> Remembered:
    """Ask a process for some of the blobs that are gone.

    HEAD is answered from what it remembers, and so are mounts and pushes of manifests; only a GET opens the bytes.

    Args:
        client: Of that process.
        links: Of :func:`gone`.

    Example:
        ``(await ask(client, links)).remembered``
    """
    url = client.transport.url
    some = random.Random(url).sample(links, min(len(links), _ASKED))  # noqa: S311 -- any of them will do
    found = 0
    try:
        for repository, digest in some:
            head = await client.ask("HEAD", f"/v2/{repository}/blobs/{digest}")
            if head.status == HTTPStatus.OK:
                found += not await client.blob_present(repository, digest)
    except RegistryError as error:
        return Remembered(url, len(some), found, f"not known: {error.message}")
    return Remembered(url, len(some), found, CURE if found else "")

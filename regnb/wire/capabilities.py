"""What was found out about a registry on the way: what it offers, how that was seen, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

Supported: TypeAlias = Literal["yes", "no", "unknown"]

Name: TypeAlias = Literal[
    "API version", "catalog", "catalog in pages", "tags in pages", "referrers", "deletion", "tag deletion"
]
NAMES: Final[tuple[Name, ...]] = get_args(Name)
"""Everything that is looked for, in the order in which it is shown."""
KEPT: Final[tuple[Name, ...]] = ("deletion", "tag deletion")
"""What only a request that could write shows, and what is therefore kept for a day."""


class Capability(NamedTuple):
    """One row.

    Attributes:
        supported: Whether the registry has it.
        value: A version or a limit, where there is one.
        how: The answer that showed it; "" if nothing did.
        when: When that was.
    """

    capability: Name
    supported: Supported = "unknown"
    value: str = ""
    how: str = ""
    when: datetime | None = None

    @property
    def seen(self) -> str:
        """The answer, and when it was: what is kept may have changed since.

        Example:
            >>> Capability("deletion", "no", how="DELETE of an absent digest: 405", when=datetime(2026, 11, 30)).seen
            'DELETE of an absent digest: 405, on 2026-11-30 00:00 UTC'
        """
        return f"{self.how}, on {self.when:%Y-%m-%d %H:%M} UTC" if self.when else self.how


class Capabilities:
    """What is known of one registry by now. Looking at it asks the registry nothing.

    Example:
        >>> known = Capabilities()
        >>> known.note("deletion", "no", "DELETE of an absent digest: 405")
        >>> known["deletion"].supported
        'no'
    """

    def __init__(self) -> None:
        self._known = {name: Capability(name) for name in NAMES}
        self._keep: Callable[[Capability], object] = lambda _: None

    def remember(self, known: Iterable[Capability], keep: Callable[[Capability], object]) -> None:
        """Begin with what was known earlier, and hand on what is found out about deletion, to be kept."""
        self._known |= {one.capability: one for one in known if one.capability in KEPT}
        self._keep = keep

    def note(self, name: Name, supported: Supported, how: str, value: str = "") -> None:
        """Keep what an answer showed; the newest counts."""
        self._known[name] = found = Capability(self._known[name].capability, supported, value, how, datetime.now(UTC))
        if name in KEPT:
            self._keep(found)

    def __getitem__(self, name: Name) -> Capability:
        return self._known[name]

    def __iter__(self) -> Iterator[Capability]:
        return iter(self._known.values())

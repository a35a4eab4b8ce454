"""When an image was made, and which dates say nothing about that."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

CREATED: Final = "org.opencontainers.image.created"
"""The annotation that says when an image or an artifact was made (OCI image spec, "Annotations")."""
FIRST: Final = datetime(2013, 1, 1, tzinfo=UTC)
"""No image is older than Docker. Builders write earlier dates (year 1, 1970, 1980) so that equal content gives equal
bytes."""
SKEW: Final = timedelta(days=1)
"""How far a builder's clock may be ahead of the reader's: wrong time zones included."""


def known(text: str | None, now: datetime) -> datetime | None:
    """Return a date in UTC, or None if it cannot be when something was made: its age is unknown.

    Args:
        text: RFC 3339, with any number of digits after the second; without a zone it is taken for UTC.
        now: When it was read; a later date is not believed.

    Example:
        >>> now = datetime(2026, 11, 1, tzinfo=UTC)
        >>> known("2026-01-02T03:04:05.123456789+01:00", now).isoformat()
        '2026-01-02T02:04:05.123456+00:00'
        >>> [known(text, now) for text in ("1980-01-01T00:00:01Z", "0001-01-01T00:00:00Z", "2031-01-01", "soon", "")]
        [None, None, None, None, None]
    """
    try:
        found = datetime.fromisoformat(text or "")
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if plausible(found, now) else None


def plausible(when: datetime, now: datetime) -> bool:
    """Whether an image can have been made, or pushed, then.

    Example:
        >>> plausible(datetime(1970, 1, 1, tzinfo=UTC), datetime.now(UTC))
        False
    """
    return FIRST <= when <= now + SKEW


def made(created: str | None, history: Iterable[str | None], now: datetime) -> datetime | None:
    """Return when an image was made, by its config: the youngest of ``created`` and the dates of its history.

    Some tools append layers and leave the base's ``created``; only the history tells. Where the newest entry of the
    history has a placeholder, ``created`` is believed only if it is younger than every date of the history: else it
    may be the base's.

    Args:
        created: Of the config.
        history: ``created`` of each entry, the oldest first; an entry without one says nothing.
        now: When the config was read.

    Returns:
        None if the age is unknown.

    Example:
        >>> now, base = datetime(2026, 11, 1, tzinfo=UTC), "2024-02-01T00:00:00Z"
        >>> made(base, [base, "2026-10-31T00:00:00Z"], now).date().isoformat()
        '2026-10-31'
        >>> made(base, [base, "0001-01-01T00:00:00Z"], now) is None
        True
    """
    own = known(created, now)
    steps = [known(text, now) for text in history if text]
    dated = [step for step in steps if step is not None]
    if own is None or (steps and steps[-1] is None and not (dated and own > max(dated))):
        return None
    return max(own, *dated) if dated else own

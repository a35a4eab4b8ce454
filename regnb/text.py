"""Texts for people: sizes and counts in words, foreign text made safe, and secrets hidden."""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote_plus

from regnb.errors import InvalidArgument

FORMULA: Final = r"^([=+\-@\t\r])"
"""What a text begins with that a spreadsheet would run."""
_SHOWN: Final = 3
"""Names in a sentence, before the rest is only counted."""
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_SECRET_PARAMETERS: Final = ("token", "secret", "signature", "sig", "credential", "password", "key", "_state")
_ADDRESSES: Final = {"location": re.compile(r".+"), "link": re.compile(r"(?<=<)[^<>]+(?=>)")}
"""Headers with addresses, and what of them is one."""
_PARAMETER: Final = re.compile(r"([^&;=]+)=([^&]*)")
_HIDDEN: Final = "***"
_LOGIN: Final = re.compile(r"(?:(?<=://)|(?<=\A//))[^/\s]*@")
_PART_OF_A_LOGIN: Final = re.compile(r"(?<![^\s/:@\"'])[^\s/:@\"']+:[^\s/:@\"']*@")
"""s3fs, for one, repeats what it takes for a bucket's name."""


def human(size: float) -> str:
    """Return bytes as people read them, in powers of 1000.

    Example:
        >>> human(2_097_498_376)
        '2.1 GB'
    """
    size = float(size)
    if not math.isfinite(size):
        return ""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.5 or unit == "TB":  # noqa: PLR2004 -- what would round up to 1000
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 99.5 else f"{size:.1f} {unit}"  # noqa: PLR2004


def parse_size(size: float | str) -> int:
    """Return a number of bytes that a person wrote: ``500GB``, ``1.5 TB`` or ``2GiB``.

    Raises:
        InvalidArgument: It is none.

    Example:
        >>> parse_size("1.5 GB"), parse_size("2KiB")
        (1500000000, 2048)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", str(size).strip(), re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise InvalidArgument(
            f"{str(size)[:100]!r} is not a valid size", hint="write bytes with a unit, such as 500GB or 2GiB"
        )
    return int(Decimal(match[1]) * (1024 if match[3] else 1000) ** ("", *"kmgtp").index(match[2].lower()))


def parse_age(age: str) -> timedelta:
    """Return a time that a person wrote: a number and h, d or w.

    Raises:
        InvalidArgument: It is none.

    Example:
        >>> parse_age("180d").days
        180
    """
    match = re.fullmatch(r"([1-9]\d{0,3})([hdw])", age.strip())
    if match is None:
        raise InvalidArgument(f"{age[:100]!r} is not a valid age", hint="write a number and h, d or w, such as 180d")
    return int(match[1]) * {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}[match[2]]


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural.

    Example:
        >>> count(1, "tag"), count(2, "repository")
        ('1 tag', '2 repositories')
    """
    if number == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {many}"


def printable(text: str) -> str:
    r"""Make foreign text safe for a terminal and a table: what could steer either becomes a space.

    Example:
        >>> printable("a\x1b[2Jb\u202ec")
        'a [2Jb c'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else " " for sign in text)


def middle(text: str, most: int) -> str:
    """Return a name of at most so many letters: what is too long loses its middle, as its end tells it apart.

    Example:
        >>> middle("release-2026-11-29-nightly", 16)
        'release-…nightly'
    """
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - half]}…{text[-half:]}"


def escaped(text: str) -> str:
    """Make foreign text safe within HTML, in an element or a quoted attribute.

    Example:
        >>> escaped("<b>")
        '&lt;b&gt;'
    """
    return html.escape(printable(text))


def names(some: Sequence[str]) -> str:
    """Return a few names as people list them.

    Example:
        >>> names(["8", "8.4", "8.5", "9", "latest"])
        '8, 8.4, 8.5 and 2 more'
    """
    if len(some) > _SHOWN:
        return f"{', '.join(some[:_SHOWN])} and {len(some) - _SHOWN:,} more"
    return " and ".join(filter(None, (", ".join(some[:-1]), *some[-1:])))


def redact(url: str | os.PathLike[str]) -> str:
    """Hide a URL's login and its signed or token-like parameters; the rest stays as it is, byte for byte.

    Example:
        >>> redact("https://me:secret@host/v2/_catalog?n=5&token=abc")
        'https://host/v2/_catalog?n=5&token=***'
    """
    text = str(url)
    if "@" in text:
        text = _LOGIN.sub("", text)
    if "?" in text:
        base, _, rest = text.partition("?")
        query, mark, fragment = rest.partition("#")
        text = f"{base}?{_PARAMETER.sub(_hidden, query)}{mark}{fragment}"
    return text


def without_logins(message: str) -> str:
    """Return a library's message without the logins of the URLs that it repeats, in whole or in part.

    Example:
        >>> without_logins("no such bucket: me:secret@host of s3://me:secret@host/registry")
        'no such bucket: host of s3://host/registry'
    """
    return _PART_OF_A_LOGIN.sub("", _LOGIN.sub("", message))


def _hidden(parameter: re.Match[str]) -> str:
    key = unquote_plus(parameter[1]).lower()
    return f"{parameter[1]}={_HIDDEN}" if any(word in key for word in _SECRET_PARAMETERS) else parameter[0]


def redact_headers(headers: Any) -> dict[str, str]:  # noqa: ANN401 - the items of any mapping of headers
    """Return headers with secrets, and secrets within addresses, hidden."""
    found: dict[str, str] = {}
    for key, value in headers:
        name = key.lower()
        if name in _SECRET_HEADERS or "token" in name or "secret" in name:
            found[key] = _HIDDEN
        else:
            address = _ADDRESSES.get(name)
            found[key] = address.sub(lambda url: redact(url[0]), value) if address else value
    return found

"""Tokens: what a visitor must know, read from files, and what each allows."""

from __future__ import annotations

import hmac
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument

_LEAST: Final = 16
"""Characters of a token."""
_INPUT: Final = "-"
_MAKE: Final = "make one with: openssl rand -hex 16"


class Token(Struct, frozen=True):
    """A secret that lets a visitor in.

    Attributes:
        name: Of its file, or what it is for if it comes from a pipe; receipts and pages show it.
        writes: Whether who knows it may apply plans.

    Example:
        >>> Token("operators", "not-shown-in-a-repr", writes=True)
        <Token operators, writes>
    """

    name: str
    secret: str
    writes: bool

    def __repr__(self) -> str:
        return f"<Token {self.name}, {'writes' if self.writes else 'reads'}>"

    def fits(self, text: str) -> bool:
        """Whether this is the secret; how long the answer takes does not say how much of it is right."""
        return hmac.compare_digest(self.secret.encode(), text.encode())


def read(reading: Iterable[str], writing: Iterable[str]) -> list[Token]:
    """Return the tokens in these files; ``-`` is a line of standard input.

    Args:
        reading: Files with a token that lets a visitor look.
        writing: Files with a token that lets a visitor apply plans, too.

    Raises:
        InvalidArgument: A token that is short, or the same one twice.
        StorageError: A file cannot be read.

    Example:
        >>> read([], ["operators.token"])
        [<Token operators, writes>]
    """
    found = [_read(name, writes=writes) for writes, names in ((False, reading), (True, writing)) for name in names]
    if len({token.secret for token in found}) < len(found):
        raise InvalidArgument("two files have the same token", hint=_MAKE)
    if len({token.name for token in found}) < len(found):
        raise InvalidArgument(
            "two files of tokens have the same name", hint="receipts name them: rename one, or use a file for it"
        )
    return found


def _read(name: str, *, writes: bool) -> Token:
    if name == _INPUT:
        shown, secret = "standard input", sys.stdin.readline()
    else:
        # The name of a pipe, such as /dev/fd/63 of <(...), says nothing.
        shown = Path(name).stem if Path(name).is_file() else f"{'write' if writes else 'read'} token"
        with file_errors(f"read {name}", "name a file with a token in its first line"):
            try:
                secret = Path(name).read_text(encoding="utf-8").partition("\n")[0]
            except UnicodeDecodeError:
                raise InvalidArgument(f"{name} is not text", hint=_MAKE) from None
    if len(secret.strip()) < _LEAST:
        raise InvalidArgument(f"the token in {shown} has fewer than {_LEAST} characters", hint=_MAKE)
    return Token(shown, secret.strip(), writes)

"""The key that receipts are signed with, for those who must prove that nobody rewrote them."""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path
from typing import Final, Self

from regnb.crawl.files import file_errors
from regnb.environment import variable
from regnb.errors import InvalidArgument

VARIABLE: Final = "REGNB_RECEIPTS_KEY"
_LEAST: Final = 16
"""Bytes: a shorter key can be found by trying, from any signature."""
_MOST: Final = 64 * 1024
_MAKE: Final = "make one: (umask 077; openssl rand -hex 32 > receipts.key)"


class Key:
    """A secret key. Neither its repr nor any error shows it, or what the environment holds.

    Attributes:
        name: Eight digits that tell this key from another, and nothing about either.

    Example:
        >>> Key(b"a planted key, 24 bytes.")
        Key('c1798676')
    """

    __slots__ = ("_secret", "name")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.name = self._hash(b"regnb name of a key")[:8]

    def __repr__(self) -> str:
        return f"Key({self.name!r})"

    def _hash(self, data: bytes) -> str:
        return hmac.digest(self._secret, data, "sha256").hex()

    def sign(self, chain: str) -> str:
        """Return the signature of a receipt up to the line with this hash: the key's name, and an HMAC-SHA-256."""
        return f"{self.name}:{self._hash(b'regnb receipt ' + chain.encode())}"

    def signed(self, signature: str, chain: str) -> bool:
        """Whether this key made a signature."""
        return hmac.compare_digest(signature.encode(), self.sign(chain).encode())

    @classmethod
    def find(cls) -> Self | None:
        """Return the key that ``REGNB_RECEIPTS_KEY`` holds, or is the path of; None without that variable.

        A value with a ``/`` is a path, every other one a key.

        Raises:
            InvalidArgument: Other users may read the file, or the key is too short to prove anything.
            StorageError: The file cannot be read.
        """
        given = variable(VARIABLE).strip()
        if not given:
            return None
        if "/" in given or os.sep in given:
            secret = _read(Path(os.path.expanduser(given)))  # noqa: PTH111 -- Path's own raises where there is no home
        elif Path(given).is_file():
            raise InvalidArgument(f"{VARIABLE} is a file's name without a folder", hint="write ./ before it")
        else:
            secret = given.encode(errors="surrogateescape")
        if len(secret) < _LEAST:
            raise InvalidArgument(f"the key of {VARIABLE} has fewer than {_LEAST} bytes", hint=_MAKE)
        return cls(secret)


def _read(path: Path) -> bytes:
    # The path is not repeated: it may well be a key that happens to have a slash.
    hint = f"a value with a / is the path of a key's file; {_MAKE}"
    with file_errors(f"read the file that {VARIABLE} names", hint), path.open("rb") as file:
        found = os.fstat(file.fileno())
        if os.name == "posix" and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidArgument(
                f"other users may use the file that {VARIABLE} names: its mode is {stat.S_IMODE(found.st_mode):04o}",
                hint="run chmod 600 on it, and make a new key if anyone else can have read it",
            )
        secret = file.read(_MOST + 1).strip()
    if len(secret) > _MOST:
        raise InvalidArgument(
            f"the file that {VARIABLE} names is not a key: it has more than {_MOST} bytes", hint=_MAKE
        )
    return secret

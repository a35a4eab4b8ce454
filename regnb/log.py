"""The log: one logger a wing below ``regnb``, silent until it is asked for, and never with a secret.

``INFO`` has what a person waits for or changes: retries, pauses after a 429, tokens that are fetched, steps of an
application. ``DEBUG`` adds every request and every answer from the cache. Turned on by ``REGNB_LOG`` (``info`` or
``debug``), by ``-v`` and ``-vv`` on the command line, by :func:`start`, or by the standard library's own means.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

from regnb.errors import InvalidArgument

LEVELS: Final = ("info", "debug")
_ROOT: Final = logging.getLogger("regnb")
_ROOT.addHandler(logging.NullHandler())


class _Handler(logging.Handler):
    """Writes to whatever standard error is by then: a notebook has one of its own for each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("{asctime}.{msecs:03.0f} {name}: {message}", "%H:%M:%S", style="{"))

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def start(level: str = "info") -> None:
    """Write the log to standard error: in a terminal, in a notebook below the cell that runs.

    Args:
        level: ``info`` or ``debug``.

    Raises:
        InvalidArgument: Another level.

    Example:
        >>> start("info")
    """
    if level.lower() not in LEVELS:
        raise InvalidArgument(f"{level!r} is not a level of the log", hint=f"choose from {', '.join(LEVELS)}")
    if not any(isinstance(handler, _Handler) for handler in _ROOT.handlers):
        _ROOT.addHandler(_Handler())
    _ROOT.setLevel(level.upper())


def logger(wing: str) -> logging.Logger:
    """Return a wing's logger.

    Example:
        >>> logger("wire").name
        'regnb.wire'
    """
    return logging.getLogger(f"regnb.{wing}")

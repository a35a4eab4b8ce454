"""Pulls that a listener was told of and that are not in its history yet: on disk before they are answered."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final

import msgspec
from filelock import FileLock, Timeout

from regnb.crawl.access import Pulls
from regnb.crawl.files import file_errors
from regnb.errors import Busy

_FOLDER: Final = "name a file in a folder that can be written"
_LINES: Final = msgspec.json.Decoder(tuple[str, str, datetime])


class Events:
    """Files beside a history, with a line for each pull; one listener has them at a time.

    A process that is killed loses none of them: the next one finds the files. A machine that loses its power loses what
    its kernel had not written to the disk.

    Args:
        history: The file of the history.

    Raises:
        Busy: Another listener records into this history.
        StorageError: No file can be written beside it.
    """

    def __init__(self, history: str | Path) -> None:
        path = Path(history)
        self._folder, self._name = path.parent, f"{path.name}.events-"
        self._file: IO[bytes] | None = None
        self._lock = FileLock(f"{path}.listener.lock", timeout=0)
        with file_errors(f"write {path}", _FOLDER):
            try:
                self._lock.acquire()
            except Timeout:
                hint = "let each registry have a history of its own: --history FILE"
                raise Busy(f"another regnb listen records into {path}", hint=hint) from None

    def close(self) -> None:
        """Let another listener have them."""
        self._end()
        self._lock.release()

    def add(self, pulls: Pulls) -> None:
        """Keep some pulls.

        Raises:
            StorageError: They cannot be written.
        """
        if not pulls.last:
            return
        data = b"".join(msgspec.json.encode((*key, when)) + b"\n" for key, when in pulls.last.items())
        with file_errors(f"write {self._folder}", _FOLDER):
            if self._file is None:
                name = f"{self._name}{time.time_ns()}-{secrets.token_hex(4)}"
                self._file = (self._folder / name).open("xb", buffering=0)
            try:
                written = self._file.write(data)
            except OSError:
                self._end()  # a line that was cut off is the last of its file
                raise
        if written != len(data):
            self._end()
            self.add(pulls)

    def turn(self) -> list[Path]:
        """Return the files that are there; what is added from now on goes into another one."""
        self._end()
        return sorted(self._folder.glob(f"{self._name}*"))

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read(files: list[Path]) -> Pulls:
    """Return the pulls in some files; a line that was cut off was not answered.

    Raises:
        StorageError: One of them cannot be read.
    """
    found = Pulls()
    for path in files:
        with file_errors(f"read {path}"):
            for line in path.read_bytes().splitlines():
                for one in _decoded(line):
                    found.add(*one)
    return found


def _decoded(line: bytes) -> Iterator[tuple[str, str, datetime]]:
    try:
        yield _LINES.decode(line)
    except (msgspec.MsgspecError, ValueError):
        return

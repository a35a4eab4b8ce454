"""A SQLite file that may be damaged, locked by another process, or missing; whoever uses it never waits for long."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock, RLock
from typing import Any, Final, TypeAlias

FAILURES: Final = (sqlite3.Error, UnicodeDecodeError)
"""Of SQLite in Python: it even decodes the message about a damaged name."""
Work: TypeAlias = Callable[[sqlite3.Connection], object]
_PAGE: Final = 16 * 1024
"""Bytes of a page: with SQLite's own 4,096, one would hold two manifests, and writing them take half as long again."""
_PATIENCE: Final = 10.0
"""Seconds to wait for another process that writes, in a thread of its own."""
_GLANCE: Final = 200
"""Milliseconds to wait where an event loop waits, too. Readers wait for nobody but who makes the file or ends it."""


class Database:
    """Reads at once, and writes in a thread, one piece of work after the other.

    A file that is damaged is made anew, and a folder that cannot be written gives a database in memory.

    Args:
        path: The file, whose folder is made with mode 0700; None for a database in memory.
        schema: Statements that make what is not there.
        version: Of the schema; a file of another one is made anew.

    Attributes:
        path: None in memory.

    Example:
        >>> database = Database(None, "CREATE TABLE IF NOT EXISTS a (b)", 1)
        >>> database.write(lambda connection: connection.execute("INSERT INTO a VALUES (1)"))
        >>> database.rows("SELECT b FROM a")
        [(1,)]
    """

    def __init__(self, path: Path | None, schema: str, version: int) -> None:
        self._schema, self._version = schema, version
        self._lock, self._writing = RLock(), Lock()
        self._writer: sqlite3.Connection | None = None
        self._made = self._of = 0
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None
        self.path = path
        if path is not None:
            with contextlib.suppress(OSError, *FAILURES):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.parent.chmod(0o700)
                self._reader = self._open(path)
                return
        self.path = None
        self._reader = self._connect(":memory:")

    @staticmethod
    def _raw(where: str | Path) -> sqlite3.Connection:
        # One thread at a time uses a connection: the lock of those who read, and the pool of one thread, see to it.
        return sqlite3.connect(where, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)

    def _connect(self, where: str | Path) -> sqlite3.Connection:
        database = self._raw(where)
        try:
            if database.execute("PRAGMA user_version").fetchone()[0] not in (0, self._version):
                raise sqlite3.DatabaseError("another version's file")
            database.execute(f"PRAGMA page_size={_PAGE}")  # of a file that is made
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.executescript(self._schema)
            database.execute(f"PRAGMA user_version={self._version}")
            database.execute(f"PRAGMA busy_timeout={_GLANCE}")
        except FAILURES:
            database.close()
            raise
        return database

    def _open(self, path: Path) -> sqlite3.Connection:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._connect(path)
            except sqlite3.OperationalError as error:
                # Another process makes the file at this moment: SQLite's own time-out does not cover the change to WAL.
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.02)
            except FAILURES:
                self._remove(path)
                return self._connect(path)

    @staticmethod
    def _remove(path: Path) -> None:
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _repaired(self) -> Iterator[None]:
        """Go on with an empty file if this one turns out to be damaged, and without one if that fails too."""
        try:
            yield
        except sqlite3.OperationalError:
            return  # locked for long, or the disk is full: do without
        except FAILURES:
            with self._lock:
                self._reader.close()
                self._made += 1
                try:
                    if self.path is not None:
                        self._remove(self.path)
                        self._reader = self._connect(self.path)
                        return
                except (OSError, *FAILURES):
                    self.path = None
                self._reader = self._connect(":memory:")

    def rows(self, query: str, *values: str | float) -> list[tuple[Any, ...]]:
        """Return what a query finds; nothing where the file is damaged, or locked."""
        with self._lock, self._repaired():
            return self._reader.execute(query, values).fetchall()
        return []

    def write(self, work: Work, done: Callable[[], object] = lambda: None) -> None:
        """Do some work with a connection, in a thread: it is done after the next :meth:`wait`, or not at all.

        Args:
            work: What is to be done.
            done: Called in the thread afterwards, also where the work failed.
        """
        if self.path is not None:
            self._pool = self._pool or ThreadPoolExecutor(1, "regnb-cache")
            with contextlib.suppress(RuntimeError):  # the program ends, and there are no new threads
                self._last = self._pool.submit(self._write, work, done)
                return
        self._write(work, done)

    def _write(self, work: Work, done: Callable[[], object]) -> None:
        try:
            with self._writing, self._repaired():
                self._work(work)
        finally:
            done()

    def _work(self, work: Work) -> None:
        if self.path is None:
            with self._lock:
                work(self._reader)
            return
        if self._writer is not None and self._of < self._made:
            # Only this thread closes it: the one that found the damage must not, in the middle of some work.
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._of, self._writer = self._made, self._raw(self.path)
            self._writer.execute("PRAGMA synchronous=NORMAL")
        work(self._writer)

    def wait(self) -> None:
        """Wait until everything is written."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Wait until everything is written, and close the file."""
        if self._pool is not None:
            self._pool.shutdown()
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Write everything, or nothing if something fails."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except FAILURES:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise

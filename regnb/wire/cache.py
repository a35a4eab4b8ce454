"""A cache of manifests and image configs, which never change under their digest, kept in one SQLite file."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import platformdirs

from regnb.errors import DigestMismatch
from regnb.oci.manifest import verify
from regnb.oci.reference import Digest, is_digest
from regnb.wire.capabilities import Capability
from regnb.wire.database import FAILURES, Database, transaction

CACHE_LIMIT: Final = 512 * 1024 * 1024
"""Bytes of content that the cache keeps; the least recently used goes first."""

_VERSION: Final = 1
_DAY: Final = 86_400
_AT_ONCE: Final = 500
"""Digests in one query, and contents in one transaction."""
_ROWS: Final = 100
"""Rows that one statement inserts: SQLite takes 999 values at least."""
# `derived` is what earlier versions kept of each manifest: a third of the file.
_SCHEMA: Final = """
DROP TABLE IF EXISTS derived;
CREATE TABLE IF NOT EXISTS content (digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, used INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen (registry TEXT, repository TEXT, tag TEXT, digest TEXT NOT NULL,
    PRIMARY KEY (registry, repository, tag)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lacks (registry TEXT, feature TEXT, until INTEGER NOT NULL,
    PRIMARY KEY (registry, feature)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (registry TEXT, repository TEXT, used INTEGER NOT NULL, checksum BLOB NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (registry, repository));
CREATE TABLE IF NOT EXISTS pace (registry TEXT PRIMARY KEY, most INTEGER NOT NULL, rate REAL NOT NULL,
    until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS capabilities (registry TEXT, capability TEXT, supported TEXT NOT NULL, value TEXT NOT NULL,
    how TEXT NOT NULL, found INTEGER NOT NULL, PRIMARY KEY (registry, capability)) WITHOUT ROWID;
"""
_SIZE: Final = "SELECT sum(length(data)) FROM content"


class Cached(NamedTuple):
    """Content from the cache: verified again when it was read."""

    data: bytes
    media_type: str


class Cache:
    """Content by digest, and what a tag pointed at when it was last seen.

    That a tag was seen only chooses the cheaper request (HEAD before GET); whether it exists is asked every time.
    Two processes may use one folder. A file that is damaged is made anew, and a folder that cannot be written gives a
    cache in memory: a cache never fails an audit.

    Args:
        folder: Where the file lives, made with mode 0700; None for a cache in memory.
        limit: Bytes of content to keep.

    Attributes:
        share: Is given, in the thread that writes, contents and remembered tags when they were written.

    Example:
        >>> cache = Cache()
        >>> cache.put(Digest.of(b"{}"), "application/json", b"{}")
        >>> cache.get(Digest.of(b"{}")).data
        b'{}'
    """

    def __init__(self, folder: Path | None = None, *, limit: int = CACHE_LIMIT) -> None:
        self._limit = limit
        self.share: Callable[[Mapping[Digest, Cached], Mapping[tuple[str, str, str], str]], object] = lambda *_: None
        self._content: dict[Digest, Cached] = {}
        self._handed: dict[Digest, Cached] = {}
        self._tags: dict[tuple[str, str, str], str] = {}
        self._kept: dict[tuple[str, str], bytes] = {}
        self._touched: set[str] = set()
        self._used: set[tuple[str, str]] = set()
        self._lacking: dict[tuple[str, str], int] = {}
        self._at_most: int | None = None
        self._database = Database(folder and folder / "content.sqlite", _SCHEMA, _VERSION)
        self._rows = self._database.rows
        # Of a file that was empty it is known what is in it: the first crawl need not look for each digest.
        self._put: set[Digest] | None = None if self._rows("SELECT 1 FROM content LIMIT 1") else set()

    @property
    def path(self) -> Path | None:
        """The file; None in memory."""
        return self._database.path

    @staticmethod
    def folder() -> Path:
        """Return the user's own cache folder for regnb."""
        return platformdirs.user_cache_path("regnb")

    @classmethod
    def known(cls, registry: str, prefix: str = "", most: int = 10_000) -> list[tuple[str, str]]:
        """Return repositories and tags of a registry as they were last seen: a quick look that makes no file.

        Args:
            registry: ``host:port``.
            prefix: Of the repository's name.
            most: Rows to return.
        """
        where = (cls.folder() / "content.sqlite").as_uri() + "?mode=ro"
        query = (
            "SELECT repository, tag FROM seen WHERE registry = ? AND repository >= ? AND repository < ? "
            "ORDER BY repository, tag LIMIT ?"
        )
        with contextlib.suppress(*FAILURES), contextlib.closing(sqlite3.connect(where, uri=True)) as database:
            rows = database.execute(query, (registry, prefix, prefix + chr(0x10FFFF), most)).fetchall()
            return [
                (repository, tag) for repository, tag in rows if isinstance(repository, str) and isinstance(tag, str)
            ]
        return []

    def _write(self, statement: str, *values: str | float) -> None:
        self._database.write(lambda database: database.execute(statement, values))

    def get(self, digest: Digest) -> Cached | None:
        """Return the content with this digest, or None."""
        if found := self._content.get(digest) or self._handed.get(digest):
            return found
        if self._put is not None and digest not in self._put:
            return None
        # A damaged file gives values of any type.
        query = (
            "SELECT data, media_type FROM content "
            "WHERE digest = ? AND typeof(data) = 'blob' AND typeof(media_type) = 'text'"
        )
        for row in self._rows(query, digest):
            try:
                verify(row[0], digest)
            except DigestMismatch:
                self._write("DELETE FROM content WHERE digest = ?", digest)
            else:
                self._touched.add(digest)
                return Cached(*row)
        return None

    def put(self, digest: Digest, media_type: str, data: bytes) -> None:
        """Keep verified content; it is on disk after the next :meth:`flush`."""
        self._content[digest] = Cached(data, media_type)
        if self._put is not None:
            self._put.add(digest)
        if len(self._content) >= _AT_ONCE:
            self._hand_over()

    def kept(self, registry: str, repository: str) -> tuple[bytes, bool]:
        """Return what is kept of a repository, b"" where nothing is, and whether that was last used days ago."""
        if (registry, repository) in self._kept:
            return self._kept[registry, repository], False
        query = "SELECT used, checksum, data FROM kept WHERE registry = ? AND repository = ?"
        for used, checksum, data in self._rows(query, registry, repository):
            # A damaged file gives values of any type.
            if isinstance(data, bytes) and checksum == _checksum(registry, repository, data):
                return data, not isinstance(used, int) or used < time.time() - _DAY
        return b"", False

    def keep(self, registry: str, repository: str, data: bytes) -> None:
        """Keep what is known of a repository, in place of what was."""
        self._kept[registry, repository] = data

    def touch(self, registry: str, repository: str, digests: Iterable[str]) -> None:
        """Note that what is kept of a repository was used, and stands for the use of the content with these digests."""
        self._touched.update(digests)
        self._used.add((registry, repository))

    def remembered(self, registry: str, repository: str) -> dict[str, str]:
        """Return the digest that each tag of a repository had when it was last seen."""
        rows = self._rows("SELECT tag, digest FROM seen WHERE registry = ? AND repository = ?", registry, repository)
        return {tag: digest for tag, digest in rows if isinstance(digest, str) and is_digest(digest)}

    def remember(self, registry: str, repository: str, tags: Mapping[str, str]) -> None:
        """Remember what the tags of a repository point at."""
        self._tags.update({(registry, repository, tag): digest for tag, digest in tags.items()})

    def fresh(self, names: Iterable[str]) -> list[str]:
        """Return those files of a shared cache that were not taken over yet."""
        taken = {row[0] for row in self._rows("SELECT name FROM taken")}
        return sorted(set(names) - taken)

    def took(self, name: str) -> None:
        """Remember that what a file of a shared cache holds is here."""
        self._write("INSERT OR REPLACE INTO taken VALUES (?)", name)

    def is_lacking(self, registry: str, feature: str) -> bool:
        """Whether the registry was found to lack a feature within the last day."""
        query = "SELECT 1 FROM lacks WHERE registry = ? AND feature = ? AND until > ?"
        now = int(time.time())
        return self._lacking.get((registry, feature), 0) > now or bool(self._rows(query, registry, feature, now))

    def found_lacking(self, registry: str, feature: str) -> None:
        """Remember for a day that the registry lacks a feature."""
        self._lacking[registry, feature] = until = int(time.time()) + _DAY
        self._write("INSERT OR REPLACE INTO lacks VALUES (?, ?, ?)", registry, feature, until)

    def pace(self, registry: str) -> tuple[int, float] | None:
        """Return how many requests at once, and in a second, a registry took that refused more within the last day."""
        rows = self._rows("SELECT most, rate FROM pace WHERE registry = ? AND until > ?", registry, int(time.time()))
        return next(((most, rate) for most, rate in rows if isinstance(most, int) and isinstance(rate, float)), None)

    def paced(self, registry: str, most: int, rate: float) -> None:
        """Remember for a day what a registry takes."""
        self._write("INSERT OR REPLACE INTO pace VALUES (?, ?, ?, ?)", registry, most, rate, int(time.time()) + _DAY)

    def capabilities(self, registry: str) -> list[Capability]:
        """Return what was found out within the last day about what a registry allows."""
        query = "SELECT capability, supported, value, how, found FROM capabilities WHERE registry = ? AND found > ?"
        rows = self._rows(query, registry, int(time.time()) - _DAY)
        return [
            Capability(name, supported, value, how, datetime.fromtimestamp(found, UTC))
            for name, supported, value, how, found in rows
            # A damaged file gives values of any type.
            if supported in ("yes", "no", "unknown") and isinstance(found, int) and isinstance(how, str)
        ]

    def found(self, registry: str, one: Capability) -> None:
        """Remember for a day what was found out."""
        row = (registry, one.capability, one.supported, one.value, one.how, int(time.time()))
        self._write("INSERT OR REPLACE INTO capabilities VALUES (?, ?, ?, ?, ?, ?)", *row)

    def flush(self) -> None:
        """Write what was put. It waits for the disk, and for other processes: a coroutine calls it in a thread."""
        self._hand_over()
        self._database.wait()

    def _hand_over(self) -> None:
        """Let what was put be written, in one transaction."""
        if not (self._content or self._tags or self._touched or self._kept):
            return
        content, remembered, kept = self._content, self._tags, self._kept
        touched, used = self._touched, self._used
        self._content, self._tags, self._kept, self._touched, self._used = {}, {}, {}, set(), set()
        # Until it is in the file, it is found here.
        self._handed.update(content)

        def write(database: sqlite3.Connection) -> None:
            with transaction(database):
                self._fill(database, content, remembered, kept)
                now = int(time.time())
                database.executemany(
                    "UPDATE content SET used = ? WHERE digest = ? AND used < ?",
                    [(now, digest, now - _DAY) for digest in touched],
                )
                database.executemany(
                    "UPDATE kept SET used = ? WHERE registry = ? AND repository = ?", [(now, *where) for where in used]
                )
                self._evict(database, sum(len(one.data) for one in content.values()))

        def written() -> None:
            for digest in content:
                self._handed.pop(digest, None)
            self.share(content, remembered)

        self._database.write(write, written)

    def _fill(
        self,
        database: sqlite3.Connection,
        content: Mapping[Digest, Cached],
        remembered: Mapping[tuple[str, str, str], str],
        kept: Mapping[tuple[str, str], bytes],
    ) -> None:
        now = int(time.time())
        _insert(database, "content", [(digest, one.media_type, now, one.data) for digest, one in content.items()])
        _insert(database, "seen", [(*where, digest) for where, digest in remembered.items()])
        _insert(database, "kept", [(*where, now, _checksum(*where, data), data) for where, data in kept.items()])

    def _evict(self, database: sqlite3.Connection, added: int) -> None:
        # Counting reads every row, so it is done once, and again when what was added since might be too much.
        if self._at_most is not None:
            self._at_most += added
        if self._at_most is None or self._at_most > self._limit:
            self._at_most = sum(int(row[0] or 0) for row in database.execute(_SIZE))
        if self._at_most <= self._limit:
            return
        rows = database.execute("SELECT digest, length(data), used FROM content ORDER BY used").fetchall()
        latest = 0
        for digest, size, used in rows:
            database.execute("DELETE FROM content WHERE digest = ?", (digest,))
            self._at_most -= size or 0
            latest = used
            # Some room, so that the next flush need not evict again.
            if self._at_most <= self._limit * 0.8:
                break
        database.execute("DELETE FROM kept WHERE used < ?", (latest,))

    @property
    def size(self) -> int:
        """Bytes of content in the file."""
        return sum(int(row[0] or 0) for row in self._rows(_SIZE))

    def clear(self) -> int:
        """Forget everything, and return how many bytes of content that was."""
        self.flush()
        size = self.size
        self._lacking.clear()
        for statement in (
            "DELETE FROM content",
            "DELETE FROM kept",
            "DELETE FROM seen",
            "DELETE FROM lacks",
            "DELETE FROM pace",
            "DELETE FROM taken",
            "DELETE FROM capabilities",
            "VACUUM",
        ):
            self._write(statement)
        self._database.wait()
        return size

    def close(self) -> None:
        """Write what was put and close the file."""
        self.flush()
        self._database.close()


def _insert(database: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert many rows with a statement: with each one Python lets another thread run, and has to wait for its turn."""
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        marks = ", ".join([f"({', '.join('?' * len(part[0]))})"] * len(part))
        database.execute(f"INSERT OR REPLACE INTO {table} VALUES {marks}", [*chain.from_iterable(part)])  # noqa: S608


def _checksum(registry: str, repository: str, data: bytes) -> bytes:
    """Return what shows that a row is as it was written: a damaged file must not become a wrong figure."""
    return hashlib.sha256(f"{registry}/{repository}\0".encode() + data).digest()

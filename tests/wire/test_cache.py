"""The cache: it may lose anything and must break nothing."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import surroundings

from regnb.oci.reference import Digest
from regnb.wire import database
from regnb.wire.cache import Cache

TYPE = "application/json"


def put(cache: Cache, *contents: bytes) -> list[Digest]:
    digests = [Digest.of(data) for data in contents]
    for digest, data in zip(digests, contents, strict=True):
        cache.put(digest, TYPE, data)
    cache.flush()
    return digests


def test_what_was_put_is_there_in_the_next_run(tmp_path: Path) -> None:
    """Content, tags and missing features outlive the process that saw them."""
    cache = Cache(tmp_path / "cache")
    (digest,) = put(cache, b"manifest")
    cache.remember("host", "vm/centos8", {"latest": digest})
    cache.found_lacking("host", "referrers")
    cache.close()
    again = Cache(tmp_path / "cache")
    assert again.get(digest) == (b"manifest", TYPE)
    assert again.remembered("host", "vm/centos8") == {"latest": digest}
    assert again.remembered("other", "vm/centos8") == {}
    assert again.is_lacking("host", "referrers")
    assert not again.is_lacking("other", "referrers")
    assert again.get(Digest.of(b"never put")) is None
    again.close()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """The folder has mode 0700, even if it was there with another."""
    folder = tmp_path / "deep" / "cache"
    Cache(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    Cache(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_content_is_verified_when_it_is_read(tmp_path: Path) -> None:
    """Bytes that were changed on disk are forgotten and never given out."""
    cache = Cache(tmp_path)
    good, bad, text, nothing = put(cache, b"good", b"bad", b"text", b"nothing")
    assert cache.path
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE content SET data = ? WHERE digest = ?", (b"evil", bad))
        database.execute("UPDATE content SET data = 'text' WHERE digest = ?", (text,))
        database.execute("UPDATE content SET data = 7 WHERE digest = ?", (nothing,))
    database.close()
    assert [cache.get(digest) for digest in (bad, text, nothing)] == [None, None, None]
    assert cache.get(good) == (b"good", TYPE)
    assert cache.size < 20, "and the changed bytes are gone"
    cache.close()


def test_tags_that_were_seen_at_no_digest_are_passed_over(tmp_path: Path) -> None:
    """A damaged digest in the file does not reach the crawl."""
    cache = Cache(tmp_path)
    digest = Digest.of(b"x")
    cache.remember("host", "app", {"good": digest, "bad": "sha256:nonsense"})
    cache.flush()
    assert cache.remembered("host", "app") == {"good": digest}
    cache.close()


def test_it_keeps_within_its_limit(tmp_path: Path) -> None:
    """The least recently used content goes first, and what is left fits."""
    cache = Cache(tmp_path, limit=10_000)
    (oldest,) = put(cache, b"o" * 1000)
    (used,) = put(cache, b"u" * 1000)
    others = put(cache, *(b"%04d" % number * 250 for number in range(7)))
    assert cache.path
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE content SET used = 3")
        database.execute("UPDATE content SET used = 2 WHERE digest = ?", (used,))
        database.execute("UPDATE content SET used = 1 WHERE digest = ?", (oldest,))
    database.close()
    assert cache.get(used)
    assert cache.size == 9000
    (new,) = put(cache, b"n" * 2000)
    assert cache.size <= 10_000
    assert cache.get(oldest) is None
    assert cache.get(used), "it was used, so it is not the first to go"
    assert cache.get(new)
    assert 4 <= sum(cache.get(digest) is not None for digest in others) <= 6
    for number in range(30):
        put(cache, b"%04d" % number * 225)
        assert cache.size <= 10_000
    cache.close()


def test_clear_forgets_everything(tmp_path: Path) -> None:
    """After clear, nothing is left in the file, and the number of bytes is told."""
    cache = Cache(tmp_path)
    digests = put(cache, b"x" * 400_000, b"y" * 400_000)
    cache.remember("host", "app", {"1": digests[0]})
    cache.found_lacking("host", "referrers")
    assert cache.clear() == 800_000
    assert cache.size == 0
    assert [cache.get(digest) for digest in digests] == [None, None]
    assert cache.remembered("host", "app") == {}
    assert not cache.is_lacking("host", "referrers")
    cache.close()
    assert (tmp_path / "content.sqlite").stat().st_size < 200_000


def make(folder: Path, count: int = 200) -> Path:
    cache = Cache(folder)
    put(cache, *(b"%06d" % number * 100 for number in range(count)))
    cache.remember("host", "app", {str(number): Digest.of(b"%d" % number) for number in range(count)})
    cache.close()
    assert cache.path
    return cache.path


def use(folder: Path) -> Cache:
    """Everything that a crawl does with a cache."""
    cache = Cache(folder)
    cache.remembered("host", "app")
    cache.is_lacking("host", "referrers")
    for number in range(200):
        data = b"%06d" % number * 100
        found = cache.get(Digest.of(data))
        assert found is None or found.data == data
    cache.remember("host", "app", {"new": Digest.of(b"new")})
    cache.found_lacking("host", "referrers")
    (digest,) = put(cache, b"new")
    assert cache.size >= 0
    cache.get(digest)
    return cache


@pytest.mark.parametrize("garbage", [b"garbage" * 1000, b"\x00" * 5000, b"SQLite format 3\x00" + b"\xff" * 5000, b""])
def test_a_file_of_garbage_is_made_anew(tmp_path: Path, garbage: bytes) -> None:
    """A file that is not a database is replaced by one that works."""
    (tmp_path / "content.sqlite").write_bytes(garbage)
    cache = use(tmp_path)
    assert cache.path
    assert cache.get(Digest.of(b"new"))
    cache.close()
    again = Cache(tmp_path)
    assert again.get(Digest.of(b"new")), "and it is kept"
    again.close()


def test_damage_anywhere_is_never_fatal(tmp_path: Path) -> None:
    """A file cut off or overwritten at any place costs content and nothing else."""
    whole = make(tmp_path / "good").read_bytes()
    luck = random.Random(8)  # noqa: S311 -- the same damage each time
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        damaged = bytearray(whole)
        if number % 2:
            del damaged[luck.randrange(len(damaged)) :]
        else:
            for _ in range(luck.choice([1, 20, 500])):
                damaged[luck.randrange(len(damaged))] = luck.randrange(256)
        (folder / "content.sqlite").write_bytes(damaged)
        use(folder).close()
        use(folder).close()


def test_another_versions_file_is_made_anew(tmp_path: Path) -> None:
    """A file that a later regnb wrote is replaced and not misread."""
    path = make(tmp_path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.execute("DROP TABLE content")
    database.close()
    cache = use(tmp_path)
    assert cache.path
    assert cache.get(Digest.of(b"new"))
    cache.close()


def test_other_tables_in_its_place(tmp_path: Path) -> None:
    """A database of somebody else's with the same table names costs the cache and no more."""
    database = sqlite3.connect(tmp_path / "content.sqlite")
    database.execute("CREATE TABLE content (something TEXT)")
    database.commit()
    database.close()
    use(tmp_path).close()


@pytest.mark.parametrize("where", ["a folder in the file's place", "a file in the folder's place", "a dead link"])
def test_without_a_place_on_disk_it_works_in_memory(tmp_path: Path, where: str) -> None:
    """Where no file can be made, the cache lives in memory and the audit goes on."""
    folder = tmp_path / "cache"
    if where == "a folder in the file's place":
        (folder / "content.sqlite").mkdir(parents=True)
    elif where == "a dead link":
        folder.symlink_to(tmp_path / "nowhere" / "at" / "all")
        (tmp_path / "nowhere").write_text("")
    else:
        folder.write_text("")
    cache = use(folder)
    assert cache.path is None
    assert cache.get(Digest.of(b"new"))
    cache.close()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write")
def test_a_folder_that_nobody_can_write(tmp_path: Path) -> None:
    """A read-only place gives a cache in memory, also to root."""
    cache = use(Path("/proc/self/regnb"))
    assert cache.path is None
    cache.close()
    assert not list(tmp_path.iterdir())


def test_a_file_that_vanishes_while_it_is_open(tmp_path: Path) -> None:
    """Somebody who empties the cache folder during a crawl does not end the crawl."""
    cache = Cache(tmp_path)
    put(cache, b"x")
    for path in list(tmp_path.iterdir()):
        path.unlink()
    put(cache, b"y")
    cache.get(Digest.of(b"x"))
    cache.close()
    use(tmp_path).close()


@contextlib.contextmanager
def locked(cache: Cache) -> Iterator[None]:
    """Hold the file as another process that writes does."""
    assert cache.path
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("COMMIT")
    other.close()


def test_a_locked_file_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the file for long, nothing is kept and nothing fails."""
    monkeypatch.setattr(database, "_PATIENCE", 0.05)
    cache = Cache(tmp_path)
    with locked(cache):
        (digest,) = put(cache, b"x")
    assert cache.get(digest) is None
    put(cache, b"x")
    assert cache.get(digest)
    cache.close()


def test_nobody_waits_for_a_locked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes, what is put is found at once and kept later; only what waits for the disk waits."""
    monkeypatch.setattr(database, "_PATIENCE", 60)
    cache = Cache(tmp_path)
    contents = [str(number).encode() for number in range(1200)]
    digests = [Digest.of(data) for data in contents]
    with locked(cache):
        for digest, data in zip(digests, contents, strict=True):
            cache.put(digest, "text/plain", data)
        cache.remember("host", "app", {"1": digests[0]})
        cache.found_lacking("host", "referrers")
        cache.paced("host", 3, 2.0)
        assert [cache.get(digest) for digest in digests] == [(data, "text/plain") for data in contents]
        assert cache.is_lacking("host", "referrers")
        assert cache.remembered("host", "app") == {}
    cache.close()
    again = Cache(tmp_path)
    assert [again.get(digest) for digest in digests] == [(data, "text/plain") for data in contents]
    assert (again.is_lacking("host", "referrers"), again.pace("host")) == (True, (3, 2.0))
    assert again.remembered("host", "app") == {"1": digests[0]}
    again.close()


WRITER = """
import sys
from collections.abc import Iterator
from pathlib import Path
from regnb.wire import database
from regnb.wire.cache import Cache
from regnb.oci.reference import Digest
name = sys.argv[2].encode()
for round in range(10):
    cache = Cache(Path(sys.argv[1]))
    for number in range(100):
        data = b"%s %d %d" % (name, round, number) * 20
        cache.put(Digest.of(data), "text/plain", data)
        shared = b"shared %d" % number
        cache.put(Digest.of(shared), "text/plain", shared)
        cache.remember("host", "app", {str(number): Digest.of(data)})
        if number % 10 == 0:
            cache.flush()
            print(round, number, flush=True)
    cache.close()
"""


def write(folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER, str(folder), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings(folder),
    )


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    """Two real processes that write one file at the same time lose nothing."""
    writers = [write(tmp_path, name) for name in ("a", "b")]
    for writer in writers:
        _, errors = writer.communicate()
        assert (writer.returncode, errors) == (0, "")
    cache = Cache(tmp_path)
    for name in (b"a", b"b"):
        for each in range(10):
            for number in range(100):
                assert cache.get(Digest.of(b"%s %d %d" % (name, each, number) * 20))
    assert cache.get(Digest.of(b"shared 99"))
    cache.close()


def test_two_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    """Processes that start at the same moment on a new folder share its file; none falls back to memory."""
    code = (
        "import sys, time; from pathlib import Path; from regnb.wire.cache import Cache\n"
        "for number in range(20):\n"
        "    while time.time() < float(sys.argv[2]) + number * 0.05: pass\n"
        "    cache = Cache(Path(sys.argv[1]) / str(number)); assert cache.path; cache.close()\n"
    )
    start = str(time.time() + 3)
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), start]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]


def test_it_survives_being_killed(tmp_path: Path) -> None:
    """After kill -9 in the middle of writing, what was flushed before is there and the file works."""
    for pause in (0.0, 0.02, 0.05):
        writer = write(tmp_path, f"k{pause}")
        assert writer.stdout
        assert writer.stdout.readline()
        time.sleep(pause)
        writer.kill()
        writer.communicate()
        cache = Cache(tmp_path)
        assert cache.path
        assert cache.get(Digest.of(f"k{pause} 0 0".encode() * 20))
        assert use(tmp_path).get(Digest.of(b"new"))
        cache.close()


def test_a_cache_in_memory_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Cache()`` writes no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Cache()
    put(cache, b"x")
    assert cache.get(Digest.of(b"x"))
    cache.close()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- names are enough

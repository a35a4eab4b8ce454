"""What package managers left in a layer: read from the stream, a few known files, each with a cap."""

from __future__ import annotations

import io
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from regnb.errors import ContentError
from regnb.layers.archive import Sink
from regnb.text import human, printable

PACKAGES_LIMIT: Final = 200_000
"""Packages that one layer may have."""
_LONGEST: Final = 200
"""Letters of a name or a version."""
_MB: Final = 2**20


class Package(Struct, frozen=True, array_like=True):
    """One package, as a file in a layer says.

    Attributes:
        kind: deb, apk, rpm, pypi, npm, maven, or os: the distribution itself.
        name: Of the package.
        version: As it is written.
        architecture: Or "".
        row: Number of the entry in the layer that says so.
        problem: Why the file was not read; then there is no name.
    """

    kind: str
    name: str
    version: str
    architecture: str
    row: int
    problem: str = ""


class _Found(NamedTuple):
    name: str
    version: str
    architecture: str = ""


def _fields(lines: Iterator[str]) -> dict[str, str]:
    """Read ``Key: value`` lines up to the first empty one; what goes on in further lines is left out."""
    found: dict[str, str] = {}
    for line in lines:
        if not line:
            break
        key, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            found.setdefault(key, value.strip())
    return found


def _dpkg(data: bytes) -> Iterator[_Found]:
    for stanza in data.decode("utf-8", "replace").split("\n\n"):
        fields = _fields(iter(stanza.strip("\n").split("\n")))
        # Without a status it is a file of a distroless image, which has only what is installed.
        if fields.get("Package") and fields.get("Status", "install ok installed").endswith(" installed"):
            yield _Found(fields["Package"], fields.get("Version", ""), fields.get("Architecture", ""))


def _apk(data: bytes) -> Iterator[_Found]:
    for stanza in data.decode("utf-8", "replace").split("\n\n"):
        fields = dict(line.split(":", 1) for line in stanza.split("\n") if line[1:2] == ":")
        if fields.get("P"):
            yield _Found(fields["P"], fields.get("V", ""), fields.get("A", ""))


def _python(data: bytes) -> Iterator[_Found]:
    fields = _fields(iter(data.decode("utf-8", "replace").splitlines()))
    if fields.get("Name"):
        yield _Found(fields["Name"], fields.get("Version", ""))


def _release(data: bytes) -> Iterator[_Found]:
    fields = dict(line.split("=", 1) for line in data.decode("utf-8", "replace").splitlines() if "=" in line)
    if fields.get("ID"):
        yield _Found(fields["ID"].strip("\"'"), fields.get("VERSION_ID", "").strip("\"'"))


class _Npm(Struct):
    name: str = ""
    version: str = ""


def _npm(data: bytes) -> Iterator[_Found]:
    try:
        found = msgspec.json.decode(data, type=_Npm)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return  # a fixture of somebody's tests, or a package without a name
    if found.name and found.version:
        yield _Found(found.name, found.version)


_JAR_ENTRIES: Final = 65_535
_JARS: Final = 512 * _MB
"""Bytes of the libraries that an application's archive holds."""
_JAR_TEXT: Final = 64 * 1024
_PROPERTIES: Final = re.compile(r"META-INF/maven/[^/]+/[^/]+/pom\.properties")
_MANIFEST: Final = "META-INF/MANIFEST.MF"


def _maven(data: bytes) -> Iterator[_Found]:
    """Read a library, and those that an application's archive holds, as Spring Boot's and web applications do."""
    try:
        with _jar(data) as archive:
            yield from _library(archive)
            left = _JARS
            for info in archive.infolist():
                if info.filename.endswith(".jar"):
                    left -= info.file_size
                    if left < 0:
                        raise ContentError(f"its libraries have more than {human(_JARS)}")
                    with _jar(archive.read(info)) as inner:
                        yield from _library(inner)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, zlib.error):
        raise ContentError("the archive is malformed") from None


def _jar(data: bytes) -> zipfile.ZipFile:
    if data.count(b"PK\x01\x02") > _JAR_ENTRIES:
        raise ContentError("the archive has more files than any library")
    return zipfile.ZipFile(io.BytesIO(data))


def _library(archive: zipfile.ZipFile) -> Iterator[_Found]:
    """Read what Maven left in a library; without that, what its manifest says."""
    infos = [info for info in archive.infolist() if info.file_size < _JAR_TEXT]
    known = False
    for info in infos:
        if _PROPERTIES.fullmatch(info.filename):
            text = archive.read(info).decode("utf-8", "replace")
            fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
            if fields.get("artifactId"):
                known = True
                group = fields.get("groupId", "").strip()
                yield _Found(f"{group}:{fields['artifactId'].strip()}".strip(":"), fields.get("version", ""))
    for info in infos if not known else ():
        if info.filename == _MANIFEST:
            fields = _fields(iter(archive.read(info).decode("utf-8", "replace").splitlines()))
            name = fields.get("Bundle-SymbolicName", "").partition(";")[0] or fields.get("Implementation-Title", "")
            version = fields.get("Bundle-Version") or fields.get("Implementation-Version")
            if name and version:
                yield _Found(name, version)
            return


_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
"""Tags of rpm's headers."""
_STEPS: Final = 50_000_000
"""Of SQLite's machine, for one database: a schema may be made so that a query never ends."""


def _rpm(data: bytes) -> Iterator[_Found]:
    if data[:16] != b"SQLite format 3\0":
        raise ContentError("of rpm's databases only that in SQLite is read")
    # In WAL mode SQLite refuses to open a database in memory.
    data = data[:18] + b"\1\1" + data[20:]
    steps = iter(range(_STEPS // 10_000))
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data)
            database.execute("PRAGMA trusted_schema=OFF")
            database.set_progress_handler(lambda: next(steps, None) is None, 10_000)
            if database.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchall() != [("table",)]:
                raise ContentError("the database holds no packages")
            for (blob,) in database.execute("SELECT blob FROM Packages"):
                if isinstance(blob, bytes):
                    yield _header(blob)
    except (sqlite3.Error, OverflowError, UnicodeDecodeError):
        raise ContentError("the database is malformed") from None


def _header(blob: bytes) -> _Found:
    """Read the few tags of a package's header that say what it is."""
    count = int.from_bytes(blob[:4], "big")
    store = 8 + 16 * count
    found: dict[int, str] = {}
    for at in range(8, min(store, len(blob) - 15), 16):
        tag, kind, offset = (int.from_bytes(blob[at + part : at + part + 4], "big") for part in (0, 4, 8))
        if tag == _EPOCH:
            found[tag] = str(int.from_bytes(blob[store + offset : store + offset + 4], "big"))
        elif tag in (_NAME, _VERSION, _RELEASE, _ARCH) and kind == 6:  # noqa: PLR2004 -- a string
            text = blob[store + offset : store + offset + _LONGEST]
            found[tag] = text.partition(b"\0")[0].decode("utf-8", "replace")
    epoch = f"{found[_EPOCH]}:" if found.get(_EPOCH, "0") != "0" else ""
    version = f"{epoch}{found.get(_VERSION, '')}-{found.get(_RELEASE, '')}"
    return _Found(found.get(_NAME, ""), version, found.get(_ARCH, ""))


class _Sort(NamedTuple):
    """A kind of file that tells of packages: which names it has, how many bytes of it are kept, and what reads them."""

    kind: str
    pattern: str
    cap: int
    read: Callable[[bytes], Iterator[_Found]]
    whole: bool = True
    """Whether the file is of no use unless all of it was kept."""


_SORTS: Final = (
    _Sort("deb", r"var/lib/dpkg/status", 64 * _MB, _dpkg),
    _Sort("deb", r"var/lib/dpkg/status\.d/[^/]+(?<!\.md5sums)", _MB, _dpkg, whole=False),
    _Sort("apk", r"(?:usr/)?lib/apk/db/installed", 64 * _MB, _apk),
    _Sort("rpm", r"(?:var/lib|usr/lib/sysimage|usr/share)/rpm/rpmdb\.sqlite", 128 * _MB, _rpm),
    _Sort("rpm", r"(?:var/lib|usr/lib/sysimage|usr/share)/rpm/Packages(?:\.db)?", 16, _rpm, whole=False),
    _Sort(
        "pypi",
        r".*(?:\.dist-info/METADATA|\.egg-info(?:/PKG-INFO)?|/EGG-INFO/PKG-INFO)",
        64 * 1024,
        _python,
        whole=False,
    ),
    _Sort("npm", r"(?:.*/)?node_modules/(?:@[^/]+/)?[^/@]+/package\.json", 256 * 1024, _npm),
    _Sort("maven", r".*\.(?:jar|war|ear)", 64 * _MB, _maven),
    _Sort("os", r"(?:etc|usr/lib)/os-release", 64 * 1024, _release, whole=False),
)
_ANY: Final = re.compile("|".join(f"({sort.pattern})" for sort in _SORTS).encode())
_QUICK: Final = (
    b"status", b"installed", b"rpmdb.sqlite", b"Packages", b"Packages.db", b"METADATA", b"PKG-INFO", b".egg-info",
    b"package.json", b".jar", b".war", b".ear", b"os-release",
)  # fmt: skip


class Collector:
    r"""Takes the content of the files of one layer that tell of packages, and reads it.

    Attributes:
        found: The packages.

    Example:
        >>> collector = Collector()
        >>> sink = collector.watch(b"./usr/lib/os-release", 20)
        >>> sink(b"ID=debian\nVERSION_ID=12\n")
        >>> collector.end(0)
        >>> collector.found[0].name
        'debian'
    """

    def __init__(self) -> None:
        self.found: list[Package] = []
        self._sort: _Sort | None = None
        self._size = 0
        self._held = bytearray()

    def watch(self, name: bytes, size: int) -> Sink | None:
        """Return what takes the content of a file; None if it tells of no packages."""
        if not name.endswith(_QUICK) and b"/status.d/" not in name:
            return None
        match = _ANY.fullmatch(name.removeprefix(b"./").lstrip(b"/"))
        if match is None:
            return None
        self._sort, self._size = _SORTS[(match.lastindex or 1) - 1], size
        return self._take

    def _take(self, piece: bytes | memoryview) -> None:
        if self._sort is not None and len(self._held) < self._sort.cap:
            self._held += piece[: self._sort.cap - len(self._held)]

    def end(self, row: int) -> None:
        """Note the end of an entry, by its number: what was taken of it is read."""
        if self._sort is None:
            return
        sort, data = self._sort, bytes(self._held)
        self._sort, self._held = None, bytearray()
        try:
            if sort.whole and len(data) < self._size:
                raise ContentError(f"it has {human(self._size)}; at most {human(sort.cap)} are read")
            for one in sort.read(data):
                name, version, architecture = (printable(text.strip())[:_LONGEST] for text in one)
                self.found.append(Package(sort.kind, name, version, architecture, row))
                if len(self.found) >= PACKAGES_LIMIT:
                    raise ContentError(f"the layer has more than {PACKAGES_LIMIT:,} packages")
        except ContentError as error:
            self.found.append(Package(sort.kind, "", "", "", row, f"not read: {error.message}"))

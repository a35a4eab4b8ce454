"""Packages are read from what package managers leave; what lies or is too large is one row with the reason."""

from __future__ import annotations

import io
import sqlite3
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
from archives import archive, packed
from distribution import Distribution
from images import fill, image

from regnb.layers import packages
from regnb.layers.listing import listing
from regnb.layers.packages import Package
from regnb.registry import connect

DPKG = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
Description: first line
 Package: not this one

Package: removed
Status: deinstall ok config-files
Version: 1

Package: never
Status: purge ok not-installed
"""
APK = b"C:Q1xx=\nP:musl\nV:1.2.4-r1\nA:x86_64\n\nP:zlib\nV:1.3-r0\nA:x86_64\n"
MANIFEST = "META-INF/MANIFEST.MF"
METADATA = b"Metadata-Version: 2.1\nName: requests\nVersion: 2.31.0\n\nName: not-this\n"


def jar(**files: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return held.getvalue()


def header(name: str, version: str, release: str, arch: str, epoch: int = 0) -> bytes:
    """A package's header as rpm stores it."""
    tags, store = [], b""
    for tag, text in ((1000, name), (1001, version), (1002, release), (1022, arch)):
        tags.append(struct.pack(">IIII", tag, 6, len(store), 1))
        store += text.encode() + b"\0"
    if epoch:
        store += bytes(-len(store) % 4)
        tags.append(struct.pack(">IIII", 1003, 4, len(store), 1))
        store += struct.pack(">I", epoch)
    return struct.pack(">II", len(tags), len(store)) + b"".join(tags) + store


def rpmdb(folder: Path, *headers: bytes, wal: bool = False, schema: str = "") -> bytes:
    """A database as rpm's SQLite backend makes it, in WAL mode as it leaves it."""
    path = folder / "rpmdb.sqlite"
    with sqlite3.connect(path) as database:
        if wal:
            database.execute("PRAGMA journal_mode=WAL")
        database.execute(schema or "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
        for each in headers:
            database.execute("INSERT INTO Packages (blob) VALUES (?)", (each,))
    database.close()
    return path.read_bytes()


def found(*files: tuple[str, bytes]) -> list[Package]:
    return listing([archive([(name, "file", data) for name, data in files])]).packages


def told(*files: tuple[str, bytes]) -> list[tuple[str, str, str, str]]:
    return [(one.kind, one.name, one.version, one.architecture) for one in found(*files)]


def test_each_package_manager_is_read(tmp_path: Path) -> None:
    """Of dpkg what is installed, distroless, apk, rpm with epochs and WAL, Python, npm, Maven, the distribution."""
    database = rpmdb(
        tmp_path, header("bash", "5.1", "9.el9", "x86_64"), header("perl", "5", "1", "noarch", 4), wal=True
    )
    assert database[18:20] == b"\2\2", "WAL mode, which SQLite does not open in memory"
    pom = b"#comment\ngroupId=org.apache\nartifactId=log4j-core\nversion=2.14.1\n"
    log4j = jar(**{"META-INF/maven/org.apache/log4j-core/pom.properties": pom, "A.class": b"x"})
    bundle = jar(**{MANIFEST: b"Bundle-SymbolicName: org.osgi.a;singleton:=true\nBundle-Version: 1.0\n"})
    inner = {"BOOT-INF/lib/log4j.jar": log4j, "BOOT-INF/lib/a.jar": bundle}
    assert told(
        ("./var/lib/dpkg/status", DPKG),
        ("var/lib/dpkg/status.d/base", b"Package: base-files\nVersion: 12\nArchitecture: all\n"),
        ("var/lib/dpkg/status.d/base.md5sums", b"Package: none\n"),
        ("lib/apk/db/installed", APK),
        ("var/lib/rpm/rpmdb.sqlite", database),
        ("usr/lib/python3/dist-packages/requests-2.31.0.dist-info/METADATA", METADATA),
        ("app/node_modules/@scope/left-pad/package.json", b'{"name":"@scope/left-pad","version":"1.3.0","x":[1]}'),
        ("node_modules/x/test/package.json", b'{"name":"fixture","version":"1"}'),
        ("opt/app.jar", log4j),
        ("opt/boot.jar", jar(**{MANIFEST: b"Implementation-Title: shop\r\nImplementation-Version: 2.0\r\n"}, **inner)),
        ("usr/lib/python3/dist-packages/old-1.2.egg-info", METADATA.replace(b"requests", b"old")),
        ("usr/lib/os-release", b'NAME="Debian"\nID=debian\nVERSION_ID="12"\n'),
    ) == [
        ("deb", "libc6", "2.36-9", "amd64"),
        ("deb", "base-files", "12", "all"),
        ("apk", "musl", "1.2.4-r1", "x86_64"),
        ("apk", "zlib", "1.3-r0", "x86_64"),
        ("rpm", "bash", "5.1-9.el9", "x86_64"),
        ("rpm", "perl", "4:5-1", "noarch"),
        ("pypi", "requests", "2.31.0", ""),
        ("npm", "@scope/left-pad", "1.3.0", ""),
        ("maven", "org.apache:log4j-core", "2.14.1", ""),
        ("maven", "shop", "2.0", ""),
        ("maven", "org.apache:log4j-core", "2.14.1", ""),
        ("maven", "org.osgi.a", "1.0", ""),
        ("pypi", "old", "2.31.0", ""),
        ("os", "debian", "12", ""),
    ]


def test_this_machine_has_what_dpkg_says() -> None:
    """The real status file of a Debian machine gives what ``dpkg-query`` lists."""
    path = Path("/var/lib/dpkg/status")
    if not path.is_file():
        pytest.skip("dpkg is not installed")
    form = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
    lines = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    installed = [line.split()[1:] for line in lines.splitlines() if line.startswith("installed ")]
    mine = [[name, version, arch] for _, name, version, arch in told(("var/lib/dpkg/status", path.read_bytes()))]
    assert sorted(mine) == sorted(installed)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("var/lib/rpm/Packages", b"\0" * 4096, "of rpm's databases only that in SQLite is read"),
        ("usr/lib/sysimage/rpm/Packages.db", b"RpmP", "of rpm's databases only that in SQLite is read"),
        ("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0" + b"\xff" * 2000, "the database is malformed"),
        ("a.jar", b"PK\3\4 this is none", "the archive is malformed"),
        ("a.jar", b"PK\1\2" * 70_000, "the archive has more files than any library"),
    ],
)
def test_what_cannot_be_read_is_one_row(name: str, data: bytes, problem: str) -> None:
    """Other databases, damage, and archives made to fill the memory; what follows is read."""
    one, after = found((name, data), ("etc/os-release", b"ID=x\n"))
    assert (one.name, one.problem) == ("", f"not read: {problem}")
    assert after.name == "x"


@pytest.mark.parametrize("name", ["node_modules/x/package.json", "x.dist-info/METADATA", "var/lib/dpkg/status"])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe\0", b"[" * 5000, b'{"name":7}'])
def test_what_tells_of_no_package_is_passed_over(name: str, data: bytes) -> None:
    """Empty and foreign files under the names that are looked for."""
    assert found((name, data)) == []


def test_a_database_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view called Packages is not read, and a table only for so many steps of SQLite's machine."""
    (one,) = found(("var/lib/rpm/rpmdb.sqlite", rpmdb(tmp_path, schema="CREATE VIEW Packages AS SELECT 1 AS blob")))
    assert one.problem == "not read: the database holds no packages"
    (tmp_path / "rpmdb.sqlite").unlink()
    many = rpmdb(tmp_path, *[header("a", "1", "1", "x")] * 9000)
    assert len(found(("var/lib/rpm/rpmdb.sqlite", many))) == 9000
    monkeypatch.setattr(packages, "_STEPS", 0)
    assert found(("var/lib/rpm/rpmdb.sqlite", many))[-1].problem == "not read: the database is malformed"


def test_caps_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond its cap is not read where a part of it is of no use; packages beyond their number neither."""
    monkeypatch.setattr(packages, "_JARS", 99)
    *_, one = found(("app.jar", jar(**{"lib/a.jar": jar(A=bytes(100))})))
    assert one.problem == "not read: its libraries have more than 99 B"
    monkeypatch.setattr(packages, "PACKAGES_LIMIT", 2)
    *_, last = found(("lib/apk/db/installed", APK * 3))
    assert last.problem == "not read: the layer has more than 2 packages"
    (one,) = found(("node_modules/x/package.json", b'{"name":"x","version":"1"}'.ljust(300_000)))
    assert one.problem == "not read: it has 300 kB; at most 262 kB are read"


@pytest.mark.parametrize("log", [b"", b"newer rows"])
def test_a_log_beside_the_database_of_rpm_is_told(real: Distribution, tmp_path: Path, log: bytes) -> None:
    """Its write-ahead log may hold newer packages; an empty one, which rpm leaves behind, holds none."""
    name = "var/lib/rpm/rpmdb.sqlite"
    database = rpmdb(tmp_path, header("bash", "5.1", "9.el9", "x86_64"), wal=True)
    base = [("etc/a", "file", b"a"), (name, "file", database)]
    fill(real.url, ("a", "1", image([packed(archive(base)), packed(archive([(f"{name}-wal", "file", log)]))])))
    with connect(real.url) as registry:
        (row,) = registry.packages("a:1").to_dict("records")
    assert (row["name"], "may hold newer packages" in row["message"]) == ("bash", bool(log))


def test_only_what_an_image_shows_counts(real: Distribution) -> None:
    """The base's status file is replaced by the next layer's; a database that was replaced counts no more."""
    base = [("var/lib/dpkg/status", "file", DPKG), ("var/lib/rpm/Packages", "file", b"")]
    upper = [("var/lib/dpkg/status", "file", DPKG.replace(b"2.36-9", b"2.36-10"))]
    fill(real.url, ("a", "1", image([packed(archive(base)), packed(archive(upper)), b"none" * 200])))
    with connect(real.url) as registry:
        told = registry.packages("a:1")
    rows = [(row.kind, row.name, row.version, row.position) for row in told.rename(columns=str).itertuples(index=False)]
    assert rows == [("deb", "libc6", "2.36-10", 1), ("rpm", "", "", 0), ("unread", "", "", 2)]
    assert told["path"].tolist() == ["var/lib/dpkg/status", "var/lib/rpm/Packages", ""]

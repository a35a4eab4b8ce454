"""Members of tar archives are found by their names, as tarfile finds them, and nothing is unpacked."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from images import layer
from layouts import tar

from regnb.errors import ContentError, TooLarge
from regnb.layouts import tar as tar_
from regnb.layouts.tar import Tar

LONG = "/".join(["a" * 60] * 5)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, target
    return about


def folder(name: str) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type = tarfile.DIRTYPE
    return about


MEMBERS = {
    "index.json": b"{}",
    "./blobs/a": layer("a", 3000),
    "blobs": folder("blobs"),
    f"{LONG}/file": b"long",
    "empty": b"",
    "näme": b"unicode",
    "exact": layer("b", 512),
    "soft": link("soft", "index.json"),
    "deep/soft": link("deep/soft", "../soft"),
    "hard": link("hard", "exact", tarfile.LNKTYPE),
    f"{LONG}/soft": link(f"{LONG}/soft", "file"),
}


@pytest.fixture(params=[tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    members = dict(MEMBERS)
    if request.param == tarfile.USTAR_FORMAT:
        members = {name: data for name, data in members.items() if LONG not in name}
    return tar(tmp_path / "some.tar", members, format=request.param)


def test_the_same_files_as_tarfile(archive: Path) -> None:
    """Each format's names, links and bytes are those that tarfile reads; a compressed archive has the same."""
    archive.with_suffix(".tgz").write_bytes(
        gzip.compress(archive.read_bytes()[:700]) + gzip.compress(archive.read_bytes()[700:])
    )
    for path in (archive, archive.with_suffix(".tgz")):
        found = Tar(str(path), "it")
        with tarfile.open(archive) as oracle:
            for member in oracle:
                if member.isdir():
                    continue
                file = oracle.extractfile(member)
                assert file is not None
                assert found.read(member.name, 5000) == file.read(), member.name
        assert found.find("blobs") is None
        found.close()


def test_the_last_of_one_name_counts(tmp_path: Path) -> None:
    """As whoever unpacks it would see it."""
    path = tar(tmp_path / "some.tar", {"a": b"first"})
    with tarfile.open(path, "a") as more:
        about = tarfile.TarInfo("./a")
        more.addfile(about)
    found = Tar(str(path), "it")
    assert found.read("a", 10) == b""
    found.close()


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    """A link out of the archive, a circle and a name with .. are names like others, and no file is opened for them."""
    (tmp_path / "secret").write_bytes(b"secret")
    members = {
        "out": link("out", "../secret"), "there": link("there", str(tmp_path / "secret")), "one": link("one", "two"),
        "two": link("two", "one"), "../up": b"up", "/root": b"root",
    }  # fmt: skip
    found = Tar(str(tar(tmp_path / "some.tar", members)), "it")
    assert {name: found.find(name) for name in ("out", "there", "one", "secret", "up", "root")} == dict.fromkeys(
        ("out", "there", "one", "secret", "up", "root")
    )
    found.close()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["secret", "some.tar"]


@pytest.mark.parametrize("size", [1, 300, 511, 513, 1000, 2000, 4500])
def test_what_is_cut_off(archive: Path, size: int) -> None:
    """An archive that ends in the middle is an error, wherever it ends."""
    archive.write_bytes(archive.read_bytes()[:size])
    with pytest.raises(ContentError, match=r"is cut off|is not a tar"):
        Tar(str(archive), "it")


def test_headers_that_claim_too_much(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long names, members without end and a size that is not a number are refused before memory is taken for them."""
    data = bytearray(archive.read_bytes())
    data[124:136] = b"zzzzzzzzzzzz"
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 256 + sum(data[156:512]))
    (archive.parent / "size.tar").write_bytes(data)
    with pytest.raises(ContentError, match="not a number"):
        Tar(str(archive.parent / "size.tar"), "it")
    monkeypatch.setattr(tar_, "_MEMBERS", 3)
    with pytest.raises(TooLarge, match="more than 3 members"):
        Tar(str(archive), "it")
    monkeypatch.setattr(tar_, "_MEMBERS", 100)
    monkeypatch.setattr(tar_, "_EXTENDED", 10)
    with tarfile.open(archive) as oracle:
        longest = max(len(name) for name in oracle.getnames())
    if longest > 100:
        with pytest.raises(TooLarge, match="a header of the archive"):
            Tar(str(archive), "it")


def test_what_would_fill_the_disk(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed archive that does not fit beside what is on the disk is refused, and nothing of it is left."""
    archive.with_suffix(".tgz").write_bytes(gzip.compress(archive.read_bytes()))
    monkeypatch.setattr(tar_, "_ROOM", 2**60)
    with pytest.raises(TooLarge, match="does not fit"):
        Tar(str(archive.with_suffix(".tgz")), "it")

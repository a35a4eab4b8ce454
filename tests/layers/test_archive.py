"""An archive is listed as tar lists it, and what is not an archive is told in one sentence."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from archives import Tree, archive

from regnb.errors import ContentError, TooLarge
from regnb.layers import archive as archives
from regnb.layers.archive import CHARACTER, DEVICE, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Bytes, Entry, walk

LETTERS = {FILE: "-", HARDLINK: "h", SYMLINK: "l", CHARACTER: "c", DEVICE: "b", DIRECTORY: "d", FIFO: "p"}
LINE = re.compile(rb"(.)([rwxsStT-]{9}) (\d+)/(\d+) +(\S+) \S+ \S+ (.*)")


def entries(data: bytes, step: int = 1000) -> list[Entry]:
    return list(walk(Bytes([data[at : at + step] for at in range(0, len(data), step)])))


def listed(data: bytes) -> list[tuple[object, ...]]:
    """What ``tar tvf`` prints of an archive: kind, owner, size (of no device) and name, with a link's target."""
    done = subprocess.run(
        ["tar", "--numeric-owner", "--quoting-style=literal", "-tvf", "-"],
        input=data,
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8"},
    )
    found = []
    for line in done.stdout.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        kind, _, uid, gid, size, name = match.groups()
        found.append((kind.decode(), int(uid), int(gid), int(size) if size.isdigit() else None, name))
    return found


def mine(data: bytes) -> list[tuple[object, ...]]:
    found = []
    for each in entries(data):
        arrow = {SYMLINK: b" -> ", HARDLINK: b" link to "}.get(each.kind)
        name = each.name + (arrow + each.target if arrow else b"")
        size = None if each.kind in (CHARACTER, DEVICE) else each.size
        found.append((LETTERS[each.kind], each.uid, each.gid, size, name))
    return found


def info(name: str, kind: bytes = tarfile.REGTYPE, **values: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in values.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_entry_is_listed_as_tar_lists_it(form: int) -> None:
    """Links, devices, large owners, long and foreign names, and payloads around the size of a block, in each format."""
    deep = "/".join(["folder" * 3] * (9 if form == tarfile.USTAR_FORMAT else 20))
    large = 0 if form == tarfile.USTAR_FORMAT else 2**31
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=form) as tar:
        tar.addfile(info("./", tarfile.DIRTYPE, mode=0o755))
        tar.addfile(info(f"{deep}/name"))
        tar.addfile(info("umlaut-ä", uid=1000 + large, gid=5))
        tar.addfile(info("link", tarfile.SYMTYPE, linkname=f"{deep}"[:90] if form == tarfile.USTAR_FORMAT else deep))
        tar.addfile(info("hard", tarfile.LNKTYPE, linkname="umlaut-ä"))
        tar.addfile(info("null", tarfile.CHRTYPE, devmajor=1, devminor=3))
        tar.addfile(info("disk", tarfile.BLKTYPE, devmajor=8, devminor=0))
        tar.addfile(info("pipe", tarfile.FIFOTYPE))
        for size in (0, 1, 511, 512, 513, 70_000):
            tar.addfile(info(f"of-{size}", size=size, mode=0o4755), io.BytesIO(b"x" * size))
    data = held.getvalue()
    assert mine(data) == listed(data)
    assert {each.mode for each in entries(data) if each.name == b"of-1"} == {0o4755}
    digests = {each.name: each.digest for each in entries(data)}
    assert digests[b"of-70000"] == hashlib.sha256(b"x" * 70_000).digest()
    assert digests[b"of-0"] == hashlib.sha256().digest()


@pytest.mark.parametrize("form", ["gnu", "posix", "oldgnu"])
def test_sparse_files_have_the_size_that_tar_shows(tmp_path: Path, form: str) -> None:
    """GNU tar's own sparse files, with more holes than a header has room for: the size is tar's, the stored is less."""
    with (tmp_path / "sparse").open("wb") as file:
        for number in range(40):
            file.seek(number * 1_000_000)
            file.write(b"x" * 4096)
    (tmp_path / "after").write_bytes(b"after")
    command = ["tar", "-C", tmp_path, f"--format={form}", "--sparse", "--numeric-owner", "-cf", "-", "sparse", "after"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert mine(data) == listed(data)
    sparse, after = entries(data)
    assert (sparse.size, sparse.digest) == ((tmp_path / "sparse").stat().st_size, b"")
    assert 0 < sparse.stored < sparse.size / 10
    assert after.digest == hashlib.sha256(b"after").digest()


def test_odd_headers_are_listed_as_tar_lists_them() -> None:
    """A hard link with a size and no payload, a Latin-1 name, base 256, and a second archive after the end."""
    hard = bytearray(info("hard", tarfile.LNKTYPE, linkname="a").tobuf())
    hard[124:136] = b"00000001000\0"
    latin = bytearray(info("x").tobuf())
    latin[:1] = b"\xe9"
    large = bytearray(info("large").tobuf())
    large[108:116] = b"\x80" + (3_000_000).to_bytes(7, "big")
    for header in (hard, latin, large):
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    data = archive([("a", "file", b"aa")])[:1024] + bytes(hard + latin + large) + bytes(1024)
    data += archive([("second", "file", b"")])
    assert mine(data) == listed(data)
    assert [each.name for each in entries(data)] == [b"a", b"hard", b"\xe9", b"large"]


@pytest.mark.parametrize("seed", range(3))
def test_random_archives_are_listed_as_tar_lists_them(seed: int) -> None:
    """Each of the layers that the other tests use, whatever the pieces are that it comes in."""
    tree = Tree(seed)
    data = b"".join(tree.layer(number) for number in range(2))[:-512]
    for step in (1, 511, 512, 10_000):
        assert entries(data, step) == entries(data)
    data = tree.layer(3)
    assert mine(data) == listed(data)


@pytest.mark.parametrize("keep", [100, 700, 1024 + 600])
def test_an_archive_that_ends_early_is_told(keep: int) -> None:
    """Within a header, within a payload, and within the header after it."""
    data = archive([("a", "file", b"x" * 300), ("b", "file", b"")])
    with pytest.raises(ContentError, match="ends early"):
        entries(data[:keep])


def test_what_is_no_archive_is_told() -> None:
    """Text, and a header of which one byte was flipped, are not listed."""
    with pytest.raises(ContentError, match="not a header of tar"):
        entries(b"{}" * 600)
    data = bytearray(archive([("a", "file", b"")]))
    data[3] ^= 1
    with pytest.raises(ContentError, match="byte 0 of the archive is not a header of tar"):
        entries(bytes(data))


def test_headers_that_claim_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pax header or a name beyond its limit, a number that is none, and a pax record that goes nowhere."""
    monkeypatch.setattr(archives, "HEADER_LIMIT", 4000)
    monkeypatch.setattr(archives, "NAME_LIMIT", 1000)
    with pytest.raises(TooLarge, match="a name in the archive"):
        entries(archive([("n" * 2000, "file", b"")]))
    with pytest.raises(TooLarge, match="header has"):
        entries(archive([("n" * 5000, "file", b"")]))
    for payload in (b"0 path=x\n", b"9999 path=x\n", b"x", b"10 uid=-1\n"):
        head = info("p", b"x", size=len(payload)).tobuf()
        data = head + payload.ljust(512, b"\0") + archive([("a", "file", b"")])
        with pytest.raises(ContentError, match="pax header"):
            entries(data)
    head = bytearray(info("a").tobuf())
    head[124:136] = struct.pack("12s", b"abc")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(ContentError, match="where a number should be"):
        entries(bytes(head))


def test_the_content_of_one_file_can_be_taken() -> None:
    """Who asks for a file's content gets its bytes, and nobody else's."""
    taken = bytearray()
    data = archive([("a", "file", b"aaa"), ("b", "file", b"b" * 700), ("c", "file", b"ccc")])
    found = walk(Bytes([data]), lambda name, size: taken.extend if (name, size) == (b"b", 700) else None)
    assert [each.name for each in found] == [b"a", b"b", b"c"]
    assert bytes(taken) == b"b" * 700


def test_tar_is_there() -> None:
    """The tests above compare with the system's tar."""
    assert shutil.which("tar")

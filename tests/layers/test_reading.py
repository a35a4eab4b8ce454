"""The files of an image are read from a registry: once, verified, and each layer that cannot be read is one row."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import images
import pandas as pd
import pytest
from archives import GZIP, TAR, Tree, archive, estargz, layout, packed
from conftest import need
from distribution import Distribution
from images import Fake, config, descriptor, fill, image, index, pack
from test_archive import entries, listed

from regnb.errors import ContentError, InvalidArgument, NotFound, RegnbError, TooLarge
from regnb.layers import inside, merging
from regnb.layers.comparing import compare_files
from regnb.layers.compression import Caps
from regnb.layers.kept import Kept
from regnb.layers.listing import listing
from regnb.oci.manifest import OCI_CONFIG, OCI_MANIFEST
from regnb.oci.reference import Digest
from regnb.registry import Registry, connect

ESTARGZ = "containerd.io/snapshot/stargz/toc.digest"
SHOWN = ["path", "kind", "size", "digest", "mode", "owner", "target", "whiteout", "shown", "hidden"]


def blobs_read(registry: Registry) -> int:
    """How many requests asked for the bytes of a blob."""
    return sum("/blobs/" in each.url and each.method == "GET" for each in registry._client.transport.exchanges)


def described(blobs: list[bytes], layers: list[dict[str, Any]]) -> images.Image:
    """An image whose manifest describes its layers so."""
    about = config()
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, about),
        "layers": layers,
    }
    return images.Image(pack(document), OCI_MANIFEST, (about, *blobs))


def letters(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    """The rows as ``tar tvf`` would print them."""
    kinds = {"file": "-", "directory": "d", "symlink": "l", "hardlink": "h", "fifo": "p"}
    arrows = {"symlink": " -> ", "hardlink": " link to "}
    return [
        (kinds[row.kind], *map(int, row.owner.split(":")), row.size,
         (row.name_ + (arrows[row.kind] + row.target if row.kind in arrows else "")).encode())
        for row in frame.rename(columns={"name": "name_"}).itertuples(index=False)
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["gzip", "zstd", "zstd:chunked"])
def test_what_skopeo_pushes_is_listed_as_tar_lists_it(real: Distribution, tmp_path: Path, form: str) -> None:
    """Each way in which skopeo compresses layers; a table of contents lists the same as the stream, for few bytes."""
    need("skopeo", shutil.which("skopeo"), "skopeo is not installed (apt-get install skopeo)")
    tree = Tree(len(form))
    layers = [tree.layer(number) for number in range(3)]
    layers.append(archive([("big", "file", form.encode() * 300_000), ("d/", "directory", b"")]))
    layout(tmp_path / "layout", {"t": layers}, TAR)
    command = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-compress-format", form]
    subprocess.run([*command, f"oci:{tmp_path}/layout:t", f"docker://{real.host}/a:t"], check=True, capture_output=True)
    with connect(real.url) as registry:
        found = registry.files("a:t")
        assert set(found["way"]) == {"toc" if form == "zstd:chunked" else "stream"}
        for position, data in enumerate(layers):
            part = found[found["position"] == position]
            assert letters(part) == listed(data)
            digests = [f"sha256:{each.digest.hex()}" if each.digest else None for each in entries(data)]
            assert part["digest"].astype(object).where(part["digest"].notna(), None).tolist() == digests
        stored = sum(each.size for each in registry.manifest("a:t").layers)  # type: ignore[union-attr,misc]
        assert 0 < found["compressed"].sum() <= stored
        assert registry.open("a:t", "/big").read() == form.encode() * 300_000
        read = [
            int(each.received["content-length"])
            for each in registry._client.transport.exchanges
            if "/blobs/" in each.url
        ]
        if form == "zstd:chunked":
            assert sum(read) < stored + 20_000


def test_a_layer_is_read_once(real: Distribution) -> None:
    """An image on nine of ten layers costs the bytes of one; the same image again, in another session, of none."""
    layers = [packed(archive([(f"f{number}", "file", bytes([number]) * 99)])) for number in range(11)]
    fill(real.url, ("a", "1", image(layers[:10])), ("b", "2", image([*layers[:9], layers[10]])))
    with connect(real.url) as registry:
        first = registry.files("a:1")
        before = blobs_read(registry)
        assert len(registry.files("b:2")) == 10
        assert blobs_read(registry) == before + 1
    with connect(real.url) as registry:
        pd.testing.assert_frame_equal(pd.DataFrame(registry.files("a:1")), pd.DataFrame(first))
        assert blobs_read(registry) == 0


def test_a_walk_beside_the_decoder_gives_the_same() -> None:
    """One layer alone takes two threads: the same listing, the same errors, and no thread that stays."""
    files = archive([(f"f{number}", "file", bytes([number % 256]) * 9999) for number in range(500)])
    layer = packed(files)
    chunks = [layer[at : at + 5000] for at in range(0, len(layer), 5000)]
    assert listing(chunks, beside=True) == listing(chunks)
    threads = threading.active_count()
    for broken in (chunks[:-1], [*chunks[:2], b"\0" * 5000, *chunks[3:]], [packed(b"no archive" * 99999)]):
        for beside in (False, True):
            with pytest.raises(ContentError):
                listing(broken, beside=beside)
    with pytest.raises(TooLarge):
        listing(chunks, caps=Caps(entries=3), beside=True)
    assert threading.active_count() == threads


def test_layers_that_cannot_be_read_are_one_row_each() -> None:
    """Encrypted, foreign, missing, changed, cut short, no archive, another compression: the rest is listed."""
    good = packed(archive([("etc/", "directory", b""), ("etc/passwd", "file", b"root")]))
    cut, text = packed(archive([("a", "file", b"x" * 9999)]))[:-9], b'{"not": "an archive"}' * 50
    bad = [cut, text, b"BZh9....", b"changed", b"missing", b"encrypted", b"foreign"]
    layers = [descriptor(GZIP, each) for each in (good, *bad, good)]
    layers[6]["mediaType"] += "+encrypted"
    layers[7]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    what = described([good, *bad, good], layers)
    with Fake() as fake:
        fake.repository("a", {"1": what})
        fake.routes[f"/v2/a/blobs/{Digest.of(b'changed')}"] = (200, {}, good)
        del fake.routes[f"/v2/a/blobs/{Digest.of(b'missing')}"]
        with connect(fake.url) as registry:
            found = registry.files("a:1")
            unread = found[found["kind"] == "unread"]
            expected = ["ends early", "not a header of tar", "bzip2", "digest", "", "encrypted", "foreign"]
            assert unread["position"].tolist() == [1, 2, 3, 4, 5, 6, 7]
            for message, part in zip(unread["message"], expected, strict=True):
                assert message.startswith("not read: ")
                assert part in message
            assert found[found["kind"] != "unread"]["path"].tolist() == ["etc", "etc/passwd"] * 2
            assert found["hidden"].tolist()[:2] == [0, 4]
            with pytest.raises(ContentError, match=r"ends early.*not known which file wins"):
                registry.open("a:1", "etc/passwd")
            before = Counter(fake.asked)
            registry.files("a:1")
            again = {path for (_, path), times in (Counter(fake.asked) - before).items() if "/blobs/" in path and times}
            assert f"/v2/a/blobs/{Digest.of(good)}" not in again, "a good layer is kept"
            assert f"/v2/a/blobs/{Digest.of(b'changed')}" in again, "what failed is not"


def test_a_layer_whose_paths_claim_too_much_is_one_row(real: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the reason, whatever is asked of the image; the other layers are listed."""
    good = packed(archive([("etc/a", "file", b"1")]))
    deep = packed(archive([("a/" * 2000 + "f", "file", b"2")]))
    fill(real.url, ("a", "1", image([good, deep, good])), ("a", "2", image([good, deep])))
    with connect(real.url) as registry:
        whole = registry.files("a:2")
        assert whole["path"].tolist() == ["etc/a", "a/" * 2000 + "f"]
        assert registry.open("a:2", "a/" * 2000 + "f").read() == b"2"
        monkeypatch.setattr(merging, "TREE_LIMIT", 2**20)
        found = registry.files("a:1")
        assert found["kind"].tolist() == ["file", "unread", "file"]
        assert "lead through more folders" in found["message"][1]
        assert registry.hygiene("a:1")["rule"].tolist().count("unread") == 1
        assert registry.packages("a:1")["kind"].tolist() == ["unread"]
        assert (registry.inventory().waste(registry, "a:1")["message"] != "").tolist() == [True]
        with pytest.raises(ContentError, match="lead through more folders"):
            registry.open("a:1", "etc/a")


@pytest.mark.parametrize("lie", ["", "digest", "table"])
def test_estargz_is_listed_by_its_table_unless_that_does_not_hold(lie: str) -> None:
    """The registry ignores Range: no byte too many is used. A table that is another's is not believed."""
    content = bytes(range(250)) * 50
    blob, digest = estargz([("d/", "directory", b""), ("d/f", "file", content), ("d/l", "symlink", "f")])
    layer = descriptor(GZIP, blob, annotations={ESTARGZ: Digest.of(b"") if lie == "digest" else digest})
    if lie == "table":
        blob = blob[:-51] + b"x" * 51
        layer = descriptor(GZIP, blob, annotations={ESTARGZ: digest})
    with Fake() as fake:
        fake.repository("a", {"1": described([blob], [layer])})
        with connect(fake.url) as registry:
            found = registry.files("a:1")
            if lie == "table":
                assert found["message"].str.contains("corrupt").tolist() == [True]
                return
            assert set(found["way"]) == {"stream" if lie else "toc"}
            assert found["path"].tolist()[:3] == ["d", "d/f", "d/l"]
            assert registry.open("a:1", "d/l").read() == content


def test_a_file_is_opened_as_the_image_shows_it(real: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last layer wins, links are followed, and what is not a file, or too large for memory, is told."""
    base = [("usr/lib/os-release", "file", b"old"), ("etc/os-release", "symlink", "../usr/lib/os-release")]
    upper = [("usr/lib/os-release", "file", b"new"), ("etc/hard", "hardlink", "usr/lib/os-release")]
    amd = image([packed(archive(base)), packed(archive(upper))])
    arm = image([packed(archive(base))], about=config("arm64"))
    fill(real.url, ("a", "1", index([(amd, "linux/amd64"), (arm, "linux/arm64")])))
    with connect(real.url) as registry:
        assert registry.open("a:1", "/etc/os-release").read() == b"new"
        assert registry.open("a:1", "etc/hard").read() == b"new"
        assert registry.open("a:1", "etc/os-release", platform="linux/arm64").read() == b"old"
        assert registry.open("a:1", "etc/os-release", into=(into := io.BytesIO())) is into
        assert into.getvalue() == b"new"
        with pytest.raises(NotFound, match="has no file 'etc/none'"):
            registry.open("a:1", "etc/none")
        with pytest.raises(ContentError, match="is a directory"):
            registry.open("a:1", "usr/lib")
        with pytest.raises(InvalidArgument, match="has 2 images: linux/amd64, linux/arm64"):
            registry.open("a:1", "etc/os-release", platform="all")
        monkeypatch.setattr(inside, "OPEN_LIMIT", 2)
        with pytest.raises(TooLarge, match="at most 2 B are held in memory"):
            registry.open("a:1", "etc/os-release")
        assert registry.files("a:1")["platform"].unique().tolist() == ["linux/amd64"]
        both = registry.files("a:1", platform="all")
        with pytest.raises(InvalidArgument, match="is for 2 platforms"):
            compare_files(both, both)
        assert both["platform"].value_counts().to_dict() == {"linux/amd64": 4, "linux/arm64": 2}
        with pytest.raises(InvalidArgument, match="no image for linux/s390x; it has linux/amd64, linux/arm64"):
            registry.files("a:1", platform="linux/s390x")


def test_an_image_without_layers_has_no_files(real: Distribution) -> None:
    """No layer, and a layer without entries: an empty frame with every column."""
    fill(real.url, ("a", "1", image([])), ("a", "2", image([packed(bytes(1024))])))
    with connect(real.url) as registry:
        for tag in "12":
            assert registry.files(f"a:{tag}").empty
            assert "hidden" in registry.files(f"a:{tag}")


def test_how_much_is_to_be_read_is_told_first(real: Distribution) -> None:
    """Progress begins with the sum of what must be read, and ends with all of it; what is kept costs nothing."""
    layers = [packed(archive([("f", "file", images.layer(each, 3_000_000))])) for each in range(2)]
    fill(real.url, ("a", "1", image(layers)))
    told: list[tuple[int, int, str]] = []
    with connect(real.url) as registry:
        registry.files("a:1", progress=lambda *state: told.append(state))
        assert told[-1] == (7, 6, "6.0 MB in 2 layers")
        told.clear()
        registry.files("a:1", progress=lambda *state: told.append(state))
        assert told[-1] == (0, 0, "0 B in 0 layers")


def test_the_command_line_lists_and_prints(real: Distribution, tmp_path: Path) -> None:
    """``regnb files`` prints the largest first, or JSON lines; ``regnb cat`` a file's bytes; exit code 4 for a gap."""
    good = packed(
        archive([("etc/small", "file", b"1"), ("usr/large", "file", b"x" * 5000), ("usr/gone", "file", b"22")])
    )
    white = packed(archive([("usr/.wh.gone", "file", b"")]))
    fill(real.url, ("a", "1", image([good, white])), ("a", "2", image([good, b"no archive" * 99])))
    done = images.regnb(tmp_path, "files", real.url, "a:1", "--top", "2")
    assert done.returncode == 0
    assert "4 files in 2 layers: 5.0 kB, of which later layers hide 2 B." in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["path", "usr/large", "usr/gone"]
    done = images.regnb(tmp_path, "files", real.url, "a:1", "--path", "/etc/*", "--json")
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == ["etc/small"]
    done = images.regnb(tmp_path, "cat", real.url, "a:1", "/usr/large")
    assert (done.returncode, done.stdout) == (0, "x" * 5000)
    done = images.regnb(tmp_path, "files", real.url, "a:2")
    assert done.returncode == 4
    assert "A part of the image was not read: byte 0 of the archive is not a header of tar" in done.stderr
    done = images.regnb(tmp_path, "packages", real.url, "a:2")
    assert (done.returncode, "not a header of tar" in done.stdout) == (4, True)
    done = images.regnb(tmp_path, "hygiene", real.url, "a:1", "--json")
    assert (done.returncode, json.loads(done.stderr)["reason"]) == (2, "2 findings.")
    assert [json.loads(line)["rule"] for line in done.stdout.splitlines()] == ["root user", "missing labels"]
    done = images.regnb(tmp_path, "cat", real.url, "a:1", "usr/gone")
    assert (done.returncode, done.stdout) == (1, "")
    assert "a:1 has no file 'usr/gone'" in done.stderr


def test_two_images_are_compared_file_by_file(real: Distribution, tmp_path: Path) -> None:
    """What only one shows, other content, another target and another kind; what is hidden or equal is not a row."""
    same = [("same", "file", b"same"), ("hidden", "file", b"hidden"), (".wh.hidden", "file", b"")]
    first = [
        *same,
        ("gone", "file", b"1"),
        ("text", "file", b"11"),
        ("link", "symlink", "a"),
        ("kind", "directory", b""),
    ]
    second = [
        *same[:1],
        ("new", "file", b"4" * 9),
        ("text", "file", b"22"),
        ("link", "symlink", "b"),
        ("kind", "file", b""),
    ]
    fill(real.url, ("a", "1", image([packed(archive(first))])), ("a", "2", image([packed(archive(second))])))
    with connect(real.url) as registry:
        found = compare_files(registry.files("a:1"), registry.files("a:2"))
        assert compare_files(registry.files("a:1"), registry.files("a:1")).empty
    assert found[["path", "state", "first_size", "second_size"]].to_numpy().tolist() == [
        ["new", "only in the second", 0, 9],
        ["hidden", "only in the first", 6, 0],
        ["text", "content differs", 2, 2],
        ["gone", "only in the first", 1, 0],
        ["kind", "kind differs", 0, 0],
        ["link", "target differs", 0, 0],
    ]
    done = images.regnb(tmp_path, "files", real.url, "a:1", "a:2", "--path", "t*")
    assert (done.returncode, done.stderr) == (3, "The images differ in 1 path.\n")
    assert "content differs" in done.stdout


def test_what_is_kept_is_bounded_and_whole(tmp_path: Path) -> None:
    """A damaged file is not used, one of another version neither, and the least used go first."""
    one = listing([packed(archive([("a", "file", b"1")]))])
    kept = Kept(tmp_path, limit=3 * len(one.encode()))
    digests = [Digest.of(bytes([number])) for number in range(4)]
    for number, digest in enumerate(digests):
        kept.put(digest, one)
        path = next((tmp_path / "layers").glob(f"*{digest.hex}*"))
        os.utime(path, (number, number))
    assert [kept.get(digest, "stream") is not None for digest in digests] == [False, False, True, True]
    assert kept.get(digests[3], "toc") is None
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.get(digests[3], "stream") is None
    assert kept.clear() > 0
    assert kept.size == 0


def test_a_layout_is_looked_into_as_a_registry_is(tmp_path: Path) -> None:
    """A folder that skopeo or umoci wrote: the same files, without a registry."""
    layers = [packed(archive([("etc/a", "file", b"1")])), packed(archive([("etc/.wh.a", "file", b"")]))]
    layout(tmp_path / "layout", {"t": layers})
    with connect(f"oci:{tmp_path / 'layout'}") as registry:
        (repository,) = registry.repository_names()
        found = registry.files(f"{repository}:t")
        assert registry.packages(f"{repository}:t").empty
    assert found[["path", "command", "hidden", "shown"]].to_numpy().tolist() == [
        ["etc/a", "step 0", 1, False],
        ["etc/a", "step 1", 0, False],
    ]


def test_a_storage_is_looked_into_without_its_registry(real: Distribution) -> None:
    """Files, one file, packages and the image's page of a stopped registry's folder; nothing is written there."""
    layers = [
        packed(archive([("etc/a", "file", b"one"), ("etc/b", "file", b"b")])),
        packed(archive([("etc/a", "file", b"2")])),
    ]
    what = image(layers, about=config(commands=["first", "second"]))
    many = index([(what, "linux/amd64"), (image([b"x"], about=config("arm64")), "linux/arm64")])
    fill(real.url, ("vm/a", "1", many), ("vm/a/b", "x", what))
    with connect(real.url) as registry:
        expected = registry.files("vm/a:1")
    real.stop()
    with connect(str(real.root)) as stored:
        pd.testing.assert_frame_equal(pd.DataFrame(stored.files("vm/a:1")), pd.DataFrame(expected))
        assert stored.open(f"vm/a/b@{what.digest}", "etc/a").read() == b"2"
        assert stored.repository_names() == ["vm/a", "vm/a/b"]
        assert "vm/a" in stored.image("vm/a/b:x").shared_with["repository"].tolist()
        assert stored.inventory().source == "storage"
        with pytest.raises(NotFound):
            stored.files("vm/c:1")
        with pytest.raises(NotFound):
            stored.files("vm/a:2")
        with pytest.raises(RegnbError, match="is only read: it is the storage of a registry"):
            stored.plan_retag("vm/a:1", "2")

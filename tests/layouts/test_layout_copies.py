"""Copies into a layout and out of it: byte for byte, valid at every moment, and taken back by undo."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distribution import Distribution
from images import Image, ask, config, fill, image, index, layer
from images import regnb as command
from layouts import check, files, layout, names, put, raw, skopeo, tool

import regnb
from regnb.errors import Busy, InvalidArgument, NotFound, Refused, RegnbError, StorageError, Unsupported
from regnb.layouts import folder as folder_
from regnb.layouts.folder import Folder
from regnb.local import embedded
from regnb.oci.reference import Digest

PACKED = [gzip.compress(layer(seed, 2000), mtime=0) for seed in range(4)]
ONE = image(PACKED[:2], about=config())
ARM = image(PACKED[1:3], about=config("arm64"))
LIST = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")], docker=True)
OCI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")])
TWO = image(PACKED[3:], docker=True)
SIG = image(PACKED[2:])


def refers(subject: Image, kind: str) -> Image:
    about = {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.data)}
    return image([kind.encode()], about=b"{}", layer_type=kind, artifactType=kind, subject=about)


SBOM = refers(ONE, "application/spdx+json")
SIGNED = refers(SBOM, "application/vnd.dev.cosign.simplesigning.v1+json")
SIGNATURE = f"{ONE.digest.replace(':', '-')}.sig"


@pytest.fixture(autouse=True)
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    """A registry with a list for two platforms, an image, referrers, and a signature by its tag."""
    with embedded.running(tmp_path / "source") as server:
        fill(
            server.url, ("vm/multi", "1", LIST), ("vm/multi", "2", OCI), ("apps/two", "2", TWO),
            ("vm/multi", SBOM.digest, SBOM), ("vm/multi", SIGNED.digest, SIGNED), ("vm/multi", SIGNATURE, SIG),
        )  # fmt: skip
        yield server.url


def copied(target: str, source: str, what: Any = "*", to: str = "", **more: Any) -> regnb.Receipt:
    with regnb.connect(target, cache=False) as there, regnb.connect(source, cache=False) as here:
        plan = there.plan_copy(what, to, source=here, **more)
        return there.apply(plan, confirm=plan.code, source=here, progress=False)


def undone(receipt: regnb.Receipt) -> regnb.Receipt:
    with regnb.connect(receipt.plan.url, cache=False) as there:
        plan = there.plan_undo(receipt)
        return there.apply(plan, confirm=plan.code, progress=False)


def referrers(url: str, subject: str) -> list[str]:
    with regnb.connect(url, cache=False) as handle:
        listed = json.loads(handle.request("GET", f"/v2/vm/multi/referrers/{subject}").body)
    return [each["digest"] for each in listed["manifests"]]


def test_into_a_folder_and_back(source: str, real: Distribution, tmp_path: Path) -> None:
    """A registry goes into a layout and from there into others, with its referrers, and every digest is the same.

    Docker's registry, which lists no referrers, gets the tags that do so.
    """
    gap = tmp_path / "gap"
    receipt = copied(f"oci:{gap}", source)
    assert receipt.status == "done"
    check(gap)
    assert sorted(path.name for path in gap.iterdir()) == ["blobs", "index.json", "oci-layout"]
    assert {name: each for name, each in names(gap).items() if name} == {
        "vm/multi:1": LIST.digest, "vm/multi:2": OCI.digest, "apps/two:2": TWO.digest,
        f"vm/multi:{SIGNATURE}": SIG.digest,
    }  # fmt: skip
    assert referrers(f"oci:{gap}", ONE.digest) == [SBOM.digest]
    assert referrers(f"oci:{gap}", SBOM.digest) == [SIGNED.digest]
    with embedded.running(tmp_path / "other") as other:
        assert copied(other.url, f"oci:{gap}").status == "done"
        for url in (f"oci:{gap}", other.url):
            found = regnb.compare(regnb.read(source), regnb.read(url))
            assert set(found["state"]) == {"same"}
        assert referrers(other.url, ONE.digest) == [SBOM.digest]
        assert raw(f"docker://{other.url.partition('://')[2]}/vm/multi:1") == LIST.data
    assert copied(real.url, f"oci:{gap}").status == "done"
    assert raw(f"docker://{real.host}/vm/multi:1") == LIST.data
    found = ask(real.url, lambda client: client.referrers("vm/multi", ONE.digest))
    assert [each.digest for each in found] == [SBOM.digest]
    before = files(gap)
    again = copied(f"oci:{gap}", source)
    assert (again.plan.changes, files(gap)) == (0, before)


def test_others_read_what_was_written(source: str, real: Distribution, tmp_path: Path) -> None:
    """Skopeo copies an index with all its images out of the layout; umoci lists them, and collects nothing."""
    gap = tmp_path / "gap"
    receipt = copied(f"oci:{gap}", source, "vm/multi:2")
    assert "Docker" not in "".join(receipt.plan.notes)
    assert raw(f"oci:{gap}:vm/multi:2") == OCI.data
    skopeo(f"oci:{gap}:vm/multi:2", f"docker://{real.host}/two:2", "--preserve-digests", "--all")
    assert raw(f"docker://{real.host}/two:2") == OCI.data
    assert set(tool("umoci", "ls", "--layout", str(gap)).split()) == {name for name in names(gap) if name}
    before = files(gap)
    tool("umoci", "gc", "--layout", str(gap))
    assert {name: data for name, data in files(gap).items() if name != "index.json"} == {
        name: data for name, data in before.items() if name != "index.json"
    }
    tool("umoci", "tag", "--image", f"{gap}:vm/multi:{SIGNATURE}", "apps/two:latest")
    with regnb.connect(f"oci:{gap}") as handle:
        assert handle.tag_names("apps/two") == ["latest"]
    receipt = copied(f"oci:{gap}", source, "apps/two:2")
    assert receipt.status == "done"
    assert "1 manifest. skopeo and umoci do not read these" in "".join(receipt.plan.notes)
    assert names(gap)["apps/two:latest"] == SIG.digest
    assert [*regnb.read(gap).problems["problem"]] == ["docker type"]
    check(gap)


def test_what_others_wrote_is_read(real: Distribution, tmp_path: Path) -> None:
    """A layout of skopeo's, and one of umoci's, arrive in a registry byte for byte."""
    made = layout(tmp_path / "made", ("1", ONE))
    skopeo(f"oci:{made}:1", f"oci:{tmp_path}/app:1", "--preserve-digests")
    tool("umoci", "init", "--layout", f"{tmp_path}/umoci")
    tool("umoci", "new", "--image", f"{tmp_path}/umoci:1")
    for name in ("app", "umoci"):
        assert copied(real.url, f"oci:{tmp_path}/{name}:1", name).status == "done"
        assert raw(f"docker://{real.host}/{name}:1") == raw(f"oci:{tmp_path}/{name}:1")


@pytest.mark.parametrize(
    ("place", "to", "name"),
    [
        ("app", "", "vm/multi:1"),
        ("app", "app:9", "9"),
        ("app:9", "", "9"),
        ("app:other/name:9", "", "other/name:9"),
    ],
)
def test_names_in_the_layout(place: str, to: str, name: str, source: str, tmp_path: Path) -> None:
    """Copies keep their names; in the repository of the folder's name a tag stands alone, as skopeo writes it."""
    copied(f"oci:{tmp_path}/{place}", source, "vm/multi:1", to, referrers=False)
    assert names(tmp_path / "app") == {name: LIST.digest}


def test_what_cannot_be_written(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layout cannot hold, and where nothing is written, is refused while planning; nothing is made."""

    def plan(place: str, to: str) -> None:
        with regnb.connect(place) as there, regnb.connect(source, cache=False) as here:
            there.plan_copy("apps/two:2", to, source=here)

    with pytest.raises(InvalidArgument, match="cannot hold the name a__b:1"):
        plan(f"oci:{tmp_path}/app", "a__b:1")
    with pytest.raises(InvalidArgument, match="stands for one tag alone"):
        plan(f"oci:{tmp_path}/app:9", "app:8")
    assert not (tmp_path / "app").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(RegnbError, match=r"does not hold an OCI layout, but notes\.txt"):
        plan(f"oci:{tmp_path}/full", "")
    monkeypatch.setenv("REGNB_READ_ONLY", "1")
    with pytest.raises(Refused, match="read-only"):
        copied(f"oci:{tmp_path}/app", source)
    assert not (tmp_path / "app").exists()


def test_undo_takes_a_copy_back(source: str, tmp_path: Path) -> None:
    """What was there before is left as it was; what came is gone from index.json, and umoci gc removes its blobs."""
    gap = layout(tmp_path / "gap", ("vm/multi:0", ARM), ("vm/multi:1", ONE))
    tool("umoci", "gc", "--layout", str(gap))
    before = files(gap)
    with pytest.raises(Refused, match="overwrite"):
        copied(f"oci:{gap}", source)
    receipt = copied(f"oci:{gap}", source, allow=["overwrite"])
    assert receipt.status == "done"
    assert names(gap)["vm/multi:1"] == LIST.digest
    back = undone(receipt)
    assert back.status == "done", back.to_frame()
    check(gap)
    assert {name: each for name, each in names(gap).items() if name} == {
        "vm/multi:0": ARM.digest,
        "vm/multi:1": ONE.digest,
    }
    tool("umoci", "gc", "--layout", str(gap))
    assert files(gap / "blobs") == {
        name.removeprefix("blobs/"): data for name, data in before.items() if "blobs/" in name
    }


def test_one_repository_is_taken_back_and_the_other_stays(source: str, tmp_path: Path) -> None:
    """Two repositories of a layout that hold the same images do not take each other's along."""
    gap = tmp_path / "gap"
    copied(f"oci:{gap}", source, "vm/multi:1", "b/multi:1")
    before = names(gap)
    receipt = copied(f"oci:{gap}", source, "vm/multi:1", "a/multi:1")
    assert undone(receipt).status == "done"
    assert names(gap) == before
    check(gap)


class Full:
    """A disk that is full from some replacement of index.json on, or some blob."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        for name in ("_replace", "keep"):
            monkeypatch.setattr(Folder, name, self.failing(getattr(Folder, name)))

    def failing(self, work: Callable[..., None]) -> Callable[..., None]:
        def instead(*given: Any) -> None:
            self.left -= 1
            if self.left < 0:
                raise StorageError("No space left on device")
            work(*given)

        return instead


def test_a_copy_that_is_cut_short(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ends, the layout is valid, and holds no part of a blob; resuming completes it."""
    whole = tmp_path / "whole"
    copied(f"oci:{whole}", source)
    for after in range(2, 14, 3):
        gap = tmp_path / f"gap{after}"
        with monkeypatch.context() as patch:
            full = Full(patch, after)
            with regnb.connect(f"oci:{gap}") as there, regnb.connect(source, cache=False) as here:
                plan = there.plan_copy("*", source=here)
                with contextlib.suppress(RegnbError):
                    there.apply(plan, confirm=plan.code, source=here, progress=False)
        assert full.left < 0
        check(gap)
        assert [path for path in gap.iterdir() if path.name.startswith(".")] == []
        newest = max((tmp_path / "receipts").glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        with regnb.connect(f"oci:{gap}") as there, regnb.connect(source, cache=False) as here:
            assert there.resume(newest, source=here, progress=False).status == "done"
        check(gap)
        assert files(gap / "blobs") == files(whole / "blobs")
        assert names(gap) == names(whole)


def test_a_layer_with_other_bytes_is_not_kept(tmp_path: Path) -> None:
    """What does not have its digest on the way is an error of that row, and leaves nothing in the layout."""
    bad = layout(tmp_path / "bad", ("1", ONE), ("2", TWO))
    path = bad / "blobs" / "sha256" / Digest.of(PACKED[0]).hex
    path.write_bytes(bytes(len(PACKED[0])))
    receipt = copied(f"oci:{tmp_path}/gap", f"oci:{bad}")
    rows = receipt.to_frame()
    assert [*rows["status"]] == ["failed", "done"]
    assert "the digest" in rows["message"][0]
    check(tmp_path / "gap")
    assert names(tmp_path / "gap") == {"bad:2": TWO.digest}


def test_a_blob_that_was_cut_off_before(source: str, tmp_path: Path) -> None:
    """A blob of the destination with another size than the manifest states fails that row, with what to do."""
    gap = layout(tmp_path / "gap")
    put(gap, PACKED[3])
    os.truncate(gap / "blobs" / "sha256" / Digest.of(PACKED[3]).hex, 7)
    receipt = copied(f"oci:{gap}", source, "apps/two:2")
    assert "remove the file, and copy again" in receipt.to_frame()["message"][0]
    assert names(gap) == {}


def test_two_writers_at_once(source: str, tmp_path: Path) -> None:
    """Each tag that one of them wrote is there in the end."""
    gap = tmp_path / "gap"
    copied(f"oci:{gap}", source, "apps/two:2", "start:0")
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(4):
                copied(f"oci:{gap}", source, "apps/two:2", f"w{number}/app:{turn}")
        except BaseException as error:  # noqa: BLE001 -- it is raised below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    check(gap)
    assert names(gap).keys() == {"start:0", *(f"w{number}/app:{turn}" for number in range(3) for turn in range(4))}


def test_a_layout_that_another_process_holds(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot get the lock says so, and writes nothing."""
    gap = layout(tmp_path / "gap")
    monkeypatch.setattr(folder_, "_PATIENCE", 0.0)
    at = os.open(gap, os.O_RDONLY)
    try:
        fcntl.flock(at, fcntl.LOCK_EX)
        receipt = copied(f"oci:{gap}", source, "apps/two:2")
        assert "another process is writing" in receipt.to_frame()["message"][0]
        with pytest.raises(Busy):
            Folder(str(gap)).change(lambda data: data)
    finally:
        os.close(at)
    assert names(gap) == {}


def test_the_command_line(source: str, real: Distribution, tmp_path: Path) -> None:
    """Out of a registry, through a folder, into another one; undo by the receipt; no curl command pretends to do it."""
    plan = tmp_path / "plan.json"

    def applied(*words: str) -> str:
        done = command(tmp_path, *words, "--plan-out", str(plan))
        assert done.returncode == 0, done.stderr
        code = regnb.Plan.load(plan).code
        done = command(tmp_path, "apply", str(plan), "--confirm", code)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "garbage collection" not in done.stdout or words[1] == real.url  # none runs on a layout
        return done.stdout.split()[1].rstrip(":")

    receipt = applied("copy", f"oci:{tmp_path}/gap", "*", "--from", source)
    applied("copy", real.url, "vm/*", "--from", f"oci:{tmp_path}/gap", "--to", "mirror/{repository}")
    assert raw(f"docker://{real.host}/mirror/vm/multi:1") == LIST.data
    shown = command(tmp_path, "copy", f"oci:{tmp_path}/gap", "apps/two:2", "--to", "new:1", "--curl")
    assert (shown.returncode, "no curl command" in shown.stderr) == (1, True)
    done = command(tmp_path, "undo", receipt)
    undo = done.stdout + done.stderr
    assert "Blobs stay where they are" in undo
    assert not [words for words in ("garbage collection", "not known", "--probe") if words in undo]
    applied("undo", receipt)
    assert names(tmp_path / "gap") == {}
    shutil.rmtree(tmp_path / "gap")
    with regnb.connect(f"oci:{tmp_path}/gap") as handle, pytest.raises(NotFound, match="no repository apps/two"):
        handle.tag_names("apps/two")


def test_into_a_new_archive_and_back(source: str, real: Distribution, tmp_path: Path) -> None:
    """A registry goes into one file; skopeo and regnb copy it out with the same digests.

    The same images give the same bytes, whatever their order. A file that is there is only read, and an undo says so.
    """
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    receipt = copied(f"oci-archive:{one}", source)
    assert receipt.status == "done"
    assert "it cannot be undone: remove the file instead" in receipt.plan.summary()
    assert "nothing undoes that" in receipt.plan.notes[-1]
    with pytest.raises(Unsupported, match="nothing is written into an archive that is there"):
        undone(receipt)
    backwards = [f"vm/multi:{SIGNATURE}", "vm/multi:2", "vm/multi:1", "apps/two:2"]
    assert copied(f"oci-archive:{two}", source, backwards).status == "done"
    assert one.read_bytes() == two.read_bytes()
    assert not [path.name for path in tmp_path.iterdir() if "regnb" in path.name]
    with embedded.running(tmp_path / "other") as other:
        assert copied(other.url, f"oci-archive:{one}").status == "done"
        assert set(regnb.compare(regnb.read(source), regnb.read(other.url))["state"]) == {"same"}
        assert referrers(other.url, ONE.digest) == [SBOM.digest]
    skopeo(f"oci-archive:{one}:vm/multi:2", f"docker://{real.host}/vm/multi:2", "--all")
    assert raw(f"docker://{real.host}/vm/multi:2") == OCI.data
    with pytest.raises(Unsupported, match="nothing is written into an archive that is there"):
        copied(f"oci-archive:{one}", source, "apps/two:2", "apps/two:3")
    assert one.read_bytes() == two.read_bytes()


def test_an_archive_that_is_cut_short(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until everything was copied there is no file; resuming goes on to the same bytes, and replaces no other file."""
    path = tmp_path / "gap.tar"
    with monkeypatch.context() as patch:
        full = Full(patch, 8)
        with contextlib.suppress(RegnbError):
            copied(f"oci-archive:{path}", source)
    assert full.left < 0
    assert not path.exists()
    (receipt,) = (tmp_path / "receipts").glob("*.jsonl")
    with pytest.raises(StorageError, match=r"no such file.*holds what a copy that was cut short left"):
        regnb.read(f"oci-archive:{path}")
    with pytest.raises(Refused, match=r"an earlier copy into .* was cut short"):
        copied(f"oci-archive:{path}", source)
    link = os.link

    def late(*names: Any, **more: Any) -> None:
        path.write_bytes(b"someone else's")
        link(*names, **more)

    def resumed() -> regnb.Receipt:
        with regnb.connect(f"oci-archive:{path}") as there, regnb.connect(source, cache=False) as here:
            return there.resume(receipt, source=here, progress=False)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", late)
        with pytest.raises(StorageError, match="exists already, and regnb does not replace it"):
            resumed()
    assert path.read_bytes() == b"someone else's"
    path.unlink()
    assert resumed().status == "done"
    assert set(regnb.compare(regnb.read(source), regnb.read(f"oci-archive:{path}"))["state"]) == {"same"}
    copied(f"oci-archive:{tmp_path / 'at-once.tar'}", source)
    assert path.read_bytes() == (tmp_path / "at-once.tar").read_bytes()
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]

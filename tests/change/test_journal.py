"""Receipts: on disk before what they announce, chained so that a change shows, and readable after a process died."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import pytest
from images import ROOT, surroundings

from regnb.change import journal
from regnb.change.journal import Journal, Outcome, Receipt, hold, receipts
from regnb.change.plan import Plan, Step
from regnb.errors import BrokenReceipt, Busy, Interrupted, PlanMismatch, Refused, StorageError
from regnb.oci.manifest import OCI_INDEX, RawManifest
from regnb.oci.reference import Digest

DATA = b'{"schemaVersion":2,"manifests":[]}'
DIGEST = Digest.of(DATA)
RAW = RawManifest(DATA, OCI_INDEX, DIGEST)


def plan(count: int = 2) -> Plan:
    steps = [Step(action="untag", repository="vm/centos8", tag=f"8.{number}", before=DIGEST) for number in range(count)]
    return Plan(operation="delete", url="http://localhost:5000", steps=(*steps, Step(action="keep", repository="a")))


def written(where: Path, *, end: bool = True, statuses: tuple[journal.Status, ...] = ("done", "stale")) -> Path:
    kept = Journal.begin(plan(len(statuses)), where)
    kept.keep(RAW, "vm/centos8")
    kept.intend(range(len(statuses)))
    for number, status in enumerate(statuses):
        kept.start(number)
        kept.record(Outcome(number, status, before=DIGEST))
    kept.__exit__(None if end else KeyboardInterrupt, None if end else KeyboardInterrupt(), None)
    return kept.path


def test_it_reads_back(tmp_path: Path) -> None:
    """A receipt gives the plan, who, when, the bytes, and a row for each step that changes something."""
    receipt = Receipt.load(written(tmp_path))
    assert receipt.plan.operation == "delete"
    assert "@" in receipt.who
    assert receipt.content(DIGEST) == RAW
    assert receipt.status == "partial"
    rows = receipt.to_frame()
    assert list(rows["status"]) == ["done", "stale"]
    assert list(rows["tag"]) == ["8.0", "8.1"]
    assert rows["before"].tolist() == [DIGEST, DIGEST]
    assert receipt.name in repr(receipt)


@pytest.mark.parametrize(
    ("statuses", "end", "expected"),
    [
        (("done", "done"), True, "done"),
        (("done", "failed"), True, "partial"),
        (("done", "done"), False, "unfinished"),
        ((), True, "done"),
    ],
)
def test_the_status_is_honest(
    tmp_path: Path, statuses: tuple[journal.Status, ...], *, end: bool, expected: str
) -> None:
    """Only a receipt with its last line and every row done is done."""
    assert Receipt.load(written(tmp_path, statuses=statuses, end=end)).status == expected


def test_a_receipt_that_was_written_earlier_loads() -> None:
    """A receipt of the first version is what it was, with every status that a row had."""
    receipt = Receipt.load(ROOT / "tests/data/saved/receipt.jsonl")
    assert (receipt.status, receipt.plan.operation) == ("partial", "rename")
    assert receipt.to_frame()["status"].tolist() == ["done", "stale", "failed", "skipped"]


def test_what_was_begun_is_told_apart(tmp_path: Path) -> None:
    """After a death in the middle, a step under way is unknown and one that was not begun is skipped."""
    kept = Journal.begin(plan(3), tmp_path)
    kept.intend([0, 1, 2])
    kept.start(0)
    kept.record(Outcome(0, "done"))
    kept.start(1)
    receipt = Receipt.load(kept.path)
    assert list(receipt.to_frame()["status"]) == ["done", "unknown", "skipped"]
    kept.__exit__(None, None, None)


def test_every_change_of_a_byte_shows(tmp_path: Path) -> None:
    """Whichever byte of a finished receipt is changed, it does not load as it is."""
    path = written(tmp_path)
    data = path.read_bytes()
    for position in range(0, len(data) - 1, 7):
        if data[position : position + 1] == b"\n":
            continue
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(BrokenReceipt):
            Receipt.load(path)


def test_every_missing_line_shows(tmp_path: Path) -> None:
    """A line taken out of the middle, doubled, or moved breaks the chain."""
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    for number in range(len(lines) - 1):
        for changed in (
            lines[:number] + lines[number + 1 :],
            [*lines[: number + 1], *lines[number:]],
            [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]],
        ):
            path.write_bytes(b"".join(changed))
            with pytest.raises(BrokenReceipt):
                Receipt.load(path)


def test_a_cut_at_any_byte_is_unfinished_or_nothing(tmp_path: Path) -> None:
    """However much of the end is lost, what is left tells what it can, and never that it is done."""
    path = written(tmp_path, statuses=("done", "done"))
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for length in range(0, len(data), 5):
        path.write_bytes(data[:length])
        if length < first:
            with pytest.raises(BrokenReceipt, match="no whole line"):
                Receipt.load(path)
        else:
            assert Receipt.load(path).status == "unfinished"


def test_going_on_continues_the_chain(tmp_path: Path) -> None:
    """A receipt that was cut in the middle of a line goes on after its last whole one."""
    path = written(tmp_path, end=False, statuses=("done", "failed"))
    path.write_bytes(path.read_bytes() + b'{"chain":"12')
    with Journal.reopen(Receipt.load(path)) as kept:
        assert kept.resumed
        assert kept.outcomes[1].status == "failed"
        assert kept.content(DIGEST) == RAW
        kept.intend([1])
        kept.start(1)
        kept.record(Outcome(1, "done"))
    assert Receipt.load(path).status == "done"
    with pytest.raises(PlanMismatch, match="everything"):
        Journal.reopen(Receipt.load(path))


def test_what_is_announced_is_on_disk(tmp_path: Path) -> None:
    """intend() returns only after the file was synced with everything that was kept before."""
    synced: list[bytes] = []
    kept = Journal.begin(plan(), tmp_path)

    def sync(_: int) -> None:
        synced.append(kept.path.read_bytes())

    with mock.patch.object(os, "fsync", sync):
        kept.keep(RAW, "vm/centos8")
        assert not synced
        kept.intend([0, 1])
    assert len(synced) == 1
    assert str(DIGEST).encode() in synced[0]
    assert b'"kind":"intent"' in synced[0]
    kept.__exit__(None, None, None)


def test_it_outlives_the_process(tmp_path: Path) -> None:
    """What was recorded is there after SIGKILL, without any farewell."""
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from regnb.change.journal import Journal, Outcome
        from regnb.change.plan import Plan
        journal = Journal.begin(Plan.load(sys.argv[1]), Path(sys.argv[2]))
        journal.intend([0, 1])
        journal.start(0)
        journal.record(Outcome(0, "done"))
        journal.start(1)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    plan().save(tmp_path / "plan.json")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "plan.json"), str(tmp_path / "receipts")],
        check=False, env=surroundings(tmp_path) | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    (path,) = (tmp_path / "receipts").iterdir()
    receipt = Receipt.load(path)
    assert receipt.status == "unfinished"
    assert list(receipt.to_frame()["status"]) == ["done", "unknown"]


def test_what_was_refused_leaves_nothing(tmp_path: Path) -> None:
    """An error before anything was announced leaves no receipt; one after that does."""
    with pytest.raises(Refused), Journal.begin(plan(), tmp_path):
        raise Refused("no")
    assert not list(tmp_path.iterdir())
    kept = Journal.begin(plan(), tmp_path)
    kept.intend([0])
    with pytest.raises(Refused), kept:
        raise Refused("no")
    assert Receipt.load(next(tmp_path.iterdir())).status == "unfinished"


def test_receipts_are_private_and_apart(tmp_path: Path) -> None:
    """The folder and the files are the user's alone, and two receipts of one second have two names."""
    where = tmp_path / "kept"
    same = plan()
    paths = []
    for _ in range(3):
        with Journal.begin(same, where) as kept:
            paths.append(kept.path)
    assert len(set(paths)) == 3
    assert where.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}


def test_the_list_has_every_receipt(tmp_path: Path) -> None:
    """The newest comes first, and a broken one is listed as such."""
    path = written(tmp_path)
    (tmp_path / "20200101T000000-00000000.jsonl").write_bytes(b"{}\n")
    listed = receipts(tmp_path)
    assert listed["receipt"].tolist() == [path.stem, "20200101T000000-00000000"]
    assert listed["status"].tolist() == ["partial", "broken"]
    assert listed["steps"].tolist() == [2, 0]
    assert listed["done"].tolist() == [1, 0]


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "begin", "version": 1, "who": "", "when": "", "digest": "", "plan": {"operation": 3}},
        {"kind": "begin", "version": 1, "who": "", "when": "", "digest": "", "plan": None},
        {"kind": "begin", "version": 1, "who": "", "when": "no date", "digest": "other", "plan": None},
        {"kind": "content", "digest": "sha256:00", "media_type": "", "repository": "", "data": ""},
        {"kind": "content", "digest": str(DIGEST), "media_type": "", "repository": "", "data": "\u00e9"},
        {"kind": "surprise"},
        [],
    ],
    ids=str,
)
def test_one_that_is_broken_hides_no_other(tmp_path: Path, entry: object) -> None:
    """Whatever a line holds, even one that follows from the one before, its receipt is a row that says broken."""
    path = written(tmp_path)
    if isinstance(entry, dict) and entry.get("kind") == "begin":
        first = b""
        good = {"operation": "delete", "url": "http://h", "steps": [], "created": "", "nonce": ""}
        entry = entry | {"plan": entry["plan"] or good}
    else:
        first = path.read_bytes().partition(b"\n")[0] + b"\n"
    data = json.dumps(entry).encode()
    before = json.loads(first)["chain"] if first else ""
    chain = hashlib.sha256(before.encode() + data).hexdigest()
    odd = tmp_path / "20200101T000000-00000000.jsonl"
    odd.write_bytes(first + b'{"chain":"%s","entry":%s}\n' % (chain.encode(), data))
    with pytest.raises(BrokenReceipt, match=f"line {2 if first else 1} of receipt {odd.stem} is malformed"):
        Receipt.load(odd)
    listed = receipts(tmp_path)
    assert listed["receipt"].tolist() == [path.stem, odd.stem]
    assert listed["status"].tolist() == ["partial", "broken"]


@pytest.mark.parametrize("kind", ["folder", "dangling", "empty", "binary", "deep"])
def test_what_is_no_receipt_hides_no_other(tmp_path: Path, kind: str) -> None:
    """A folder, a link to nothing, or foreign bytes under a receipt's name are a row that says broken."""
    path = written(tmp_path)
    odd = tmp_path / "20200101T000000-00000000.jsonl"
    if kind == "folder":
        odd.mkdir()
    elif kind == "dangling":
        odd.symlink_to(tmp_path / "nothing")
    else:
        odd.write_bytes({"empty": b"", "binary": b"\xff\n" * 9, "deep": b"[" * 99_999 + b"\n"}[kind])
    assert receipts(tmp_path)["receipt"].tolist() == [path.stem, odd.stem]
    assert receipts(tmp_path)["status"].tolist() == ["partial", "broken"]


def test_the_locks_are_where_the_receipts_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With REGNB_RECEIPTS nothing is written to the user's own folder, which a container may not have."""
    home = tmp_path / "home"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "kept"))
    with hold("a:1", ["vm/x"]), pytest.raises(Busy):
        hold("a:1", ["vm/x"]).__enter__()
    assert not home.exists()
    assert (tmp_path / "kept/locks").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="REGNB_RECEIPTS"):
        hold("a:1", ["vm/x"]).__enter__()


@pytest.mark.parametrize(
    "raised", [Refused("no"), KeyboardInterrupt(), Interrupted("Interrupted."), TypeError("a bug")]
)
def test_an_error_names_the_receipt(tmp_path: Path, raised: BaseException) -> None:
    """Whatever ends an application that had begun carries the receipt's name; before that there is none."""
    kept = Journal.begin(plan(), tmp_path)
    kept.intend([0])
    with pytest.raises(type(raised)) as caught, kept:
        raise raised
    assert vars(caught.value)["receipt"] == kept.name
    early = Refused("no")
    with pytest.raises(Refused), Journal.begin(plan(), tmp_path):
        raise early
    assert not early.receipt


def test_by_name_it_is_found_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path))
    path = written(journal.folder())
    assert Receipt.load(path.stem).path == path
    with pytest.raises(StorageError, match="no receipt nothing"):
        Receipt.load("nothing")


def test_a_folder_that_cannot_be_written_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="REGNB_RECEIPTS"):
        Journal.begin(plan(), tmp_path / "file")


def test_a_visitor_of_the_web_ui_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the user that the server runs as: the token's name and the visitor's address."""
    monkeypatch.setenv("REGNB_VISITOR", "token operators, 192.0.2.7")
    assert Receipt.load(written(tmp_path)).who.endswith(" for token operators, 192.0.2.7")


def test_two_processes_do_not_write_to_one_repository(tmp_path: Path) -> None:
    """While one holds a repository another is told so; other repositories and registries are free."""
    script = textwrap.dedent("""
        import sys
        from regnb.errors import Busy
        from regnb.change.journal import hold
        for host, name in (("a:1", "vm/x"), ("a:1", "vm/y"), ("b:1", "vm/x")):
            try:
                with hold(host, [name]):
                    print("free")
            except Busy as error:
                print("busy", error.message)
    """)
    with hold("a:1", ["vm/x", "vm/x"]):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        with pytest.raises(Busy):
            hold("a:1", ["vm/x"]).__enter__()
    busy, *free = done.stdout.splitlines()
    assert busy.startswith("busy another regnb process is writing to vm/x on a:1")
    assert free == ["free", "free"]
    with hold("a:1", ["vm/x"]):
        pass

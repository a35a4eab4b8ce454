"""Signed receipts: what a key proves, what is said without it, and that nothing ever shows it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import scripted
from images import regnb
from test_journal import DIGEST, RAW, plan, written

from regnb.change.journal import Journal, Outcome, Receipt, receipts
from regnb.change.signing_key import VARIABLE, Key
from regnb.change.undo import plan_undo
from regnb.crawl.reader import Reader
from regnb.errors import BrokenReceipt, InvalidArgument, RegnbError, StorageError, UnprovenReceipt
from regnb.wire.cache import Cache
from regnb.wire.client import Client
from regnb.wire.transport import Transport

OURS, THEIRS = "planted-key-of-ours-0123456789", "planted-key-of-theirs-9876543210"


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A key in the environment."""
    monkeypatch.setenv(VARIABLE, OURS)
    return


def undone(receipt: Receipt) -> None:
    """Plan the way back from a receipt of a registry where nothing is left."""

    async def undo(url: str) -> None:
        async with Client(Transport(url)) as client:
            await plan_undo(Reader(client, Cache()), receipt)

    gone = b'{"errors":[{"code":"NAME_UNKNOWN"}]}'
    headers = {"Content-Type": "application/json"}
    with scripted.serve(lambda *_: scripted.Reply(404, headers, gone)) as server:
        receipt.applied = type(receipt.plan)(operation="delete", url=server.url, steps=())
        anyio.run(undo, server.url)


def stripped(path: Path) -> None:
    """Take the signatures out of a receipt, as whoever may write the file can."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    raw = path.read_bytes()
    for line in lines:
        raw = raw.replace(b'"signature":"%s",' % line["signature"].encode(), b"")
    path.write_bytes(raw)


def test_every_line_is_signed(tmp_path: Path, ours: None) -> None:
    """With a key each line has a signature, the receipt is proven, and it can be gone on with and taken back."""
    path = written(tmp_path, end=False, statuses=("done", "failed"))
    assert all(json.loads(line)["signature"] for line in path.read_bytes().splitlines())
    with Journal.reopen(Receipt.load(path)) as kept:
        kept.intend([1])
        kept.record(Outcome(1, "done"))
    receipt = Receipt.load(path)
    assert (receipt.proof, receipt.status) == ("proven", "done")
    receipt.prove()
    undone(receipt)


def test_a_forged_line_shows(tmp_path: Path, ours: None) -> None:
    """Who rewrites a line and every hash after it, without the key, is found out; without any key it goes unnoticed."""
    path = written(tmp_path)
    chain, forged = "", []
    for line in path.read_bytes().splitlines():
        found = json.loads(line)
        entry = line.partition(b'"entry":')[2][:-1].replace(b'"status":"stale"', b'"status":"done"')
        chain = hashlib.sha256(chain.encode() + entry).hexdigest()
        forged.append(
            b'{"chain":"%s","signature":"%s","entry":%s}' % (chain.encode(), found["signature"].encode(), entry)
        )
    path.write_bytes(b"\n".join(forged) + b"\n")
    with pytest.raises(BrokenReceipt, match="not as it was signed with key"):
        Receipt.load(path)
    os.environ.pop(VARIABLE)
    assert Receipt.load(path).status == "done"


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        ("no key", "no key is set here"),
        ("other key", "the key that is set here is"),
        ("mixed", "signed with different keys: none and"),
        ("unsigned", "is not signed, and a key is set here"),
    ],
)
def test_what_proves_nothing_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: None, proof: str, words: str
) -> None:
    """No key, another key, lines with and without signatures, and none at all: each is read, but never acted on."""
    path = written(tmp_path, end=False)
    if proof == "no key":
        monkeypatch.delenv(VARIABLE)
    elif proof == "other key":
        monkeypatch.setenv(VARIABLE, THEIRS)
    elif proof == "unsigned":
        stripped(path)
    else:
        stripped(path)
        monkeypatch.delenv(VARIABLE)
        receipt = Receipt.load(path)
        receipt.key = Key(OURS.encode())
        receipt.prove = lambda: None  # type: ignore[method-assign] # a version that did not look
        Journal.reopen(receipt).__exit__(None, None, None)
        monkeypatch.setenv(VARIABLE, OURS)
    receipt = Receipt.load(path)
    assert receipt.proof == proof
    assert len(receipt.to_frame()) == 2
    before = path.read_bytes()
    for act in (lambda: Journal.reopen(receipt), lambda: undone(receipt)):
        with pytest.raises(UnprovenReceipt, match=words) as caught:
            act()
        assert caught.value.hint
    assert path.read_bytes() == before


def test_one_line_signed_with_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: None) -> None:
    """Two keys in one receipt are mixed, whichever of them is set."""
    path = written(tmp_path, end=False)
    receipt = Receipt.load(path)
    receipt.key = Key(THEIRS.encode())
    receipt.prove = lambda: None  # type: ignore[method-assign]
    Journal.reopen(receipt).__exit__(None, None, None)
    for key in (OURS, THEIRS):
        monkeypatch.setenv(VARIABLE, key)
        assert Receipt.load(path).proof == "mixed"


def test_verify_has_a_code_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``regnb receipt verify`` says which it is in words and by its exit code; of several the lowest counts."""
    where = tmp_path / "receipts"
    env = {"REGNB_RECEIPTS": str(where)}

    def verify(*names: str, **key: str) -> tuple[int, str]:
        done = regnb(tmp_path, "receipt", "verify", *names, **env, **key)
        assert "Traceback" not in done.stderr
        assert OURS not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    plain = written(where)
    assert verify() == (0, f"{plain.stem}: partial, {Receipt.load(plain).chain}, unsigned\n")
    monkeypatch.setenv(VARIABLE, OURS)
    signed = written(where)
    monkeypatch.delenv(VARIABLE)
    for code, words, key in ((11, "no key is set", {}), (12, "the key that is set here", {VARIABLE: THEIRS})):
        found, said = verify(signed.stem, **key)
        assert found == code
        assert words in said
    assert verify(signed.stem, **{VARIABLE: OURS})[0] == 0
    assert verify(plain.stem, **{VARIABLE: OURS})[0] == 14
    assert verify(**{VARIABLE: OURS})[0] == 14
    lines = signed.read_bytes().splitlines(keepends=True)
    signature = json.loads(lines[2])["signature"].encode()
    signed.write_bytes(b"".join(lines).replace(b'"signature":"%s",' % signature, b""))
    assert verify(signed.stem, **{VARIABLE: OURS})[0] == 13
    (where / "20200101T000000-00000000.jsonl").write_bytes(b"{}\n")
    assert verify(**{VARIABLE: OURS})[0] == 1


# Where the key is


def test_a_key_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value with a slash is a path; the file is the user's alone, and its line break is no part of the key."""
    path = tmp_path / "key"
    path.write_text(f"{OURS}\n")
    path.chmod(0o600)
    monkeypatch.setenv(VARIABLE, str(path))
    found = Key.find()
    assert found is not None
    assert found.name == Key(OURS.encode()).name
    for mode in (0o640, 0o604, 0o660, 0o622):
        path.chmod(mode)
        with pytest.raises(InvalidArgument, match=f"{mode:04o}"):
            Key.find()
    monkeypatch.delenv(VARIABLE)
    assert Key.find() is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("short", "fewer than 16"),
        ("./none/of/this", "cannot read the file"),
        ("/" + OURS, "cannot read the file"),
    ],
)
def test_a_key_that_is_none(value: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is too short or not there is an error with a way out, before anything is written; it repeats no value."""
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises((InvalidArgument, StorageError), match=words) as caught:
        Journal.begin(plan(), tmp_path)
    assert "openssl rand" in caught.value.hint
    assert value not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_beside_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name that is a file's is not taken for a key that everybody can guess."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "the-key-of-our-receipts").write_text(OURS)
    monkeypatch.setenv(VARIABLE, "the-key-of-our-receipts")
    with pytest.raises(InvalidArgument, match="without a folder"):
        Key.find()


def test_nothing_shows_the_key(tmp_path: Path, ours: None) -> None:
    """Neither a receipt, its file, its frames and HTML, an error nor a repr holds it."""
    path = written(tmp_path)
    receipt = Receipt.load(path)
    journal = Journal.begin(plan(), tmp_path)
    journal.keep(RAW, "a")
    shown = [path.read_text(), repr(receipt), repr(vars(receipt)), receipt._repr_html_(), repr(receipts(tmp_path))]
    shown += [repr(vars(journal)), receipt.to_frame().to_csv(), repr(Key.find()), str(Key.find())]
    journal.__exit__(None, None, None)
    path.write_bytes(path.read_bytes().replace(DIGEST.encode(), DIGEST.encode().upper(), 1))
    with pytest.raises(RegnbError) as caught:
        Receipt.load(path)
    shown += [str(caught.value), repr(caught.value), *caught.value._render_traceback_()]
    assert not [text for text in shown if OURS in text or OURS.encode().hex() in text]

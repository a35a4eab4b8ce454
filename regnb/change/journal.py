"""The record of what was written: on disk before it happens, chained by hash, and enough to take it back."""

from __future__ import annotations

import base64
import contextlib
import errno
import getpass
import hashlib
import itertools
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self, TypeAlias

import msgspec
import platformdirs
from msgspec import Struct

from regnb.change.plan import Plan, Step
from regnb.change.signing_key import VARIABLE, Key
from regnb.change.sweep import Row, Sweep
from regnb.crawl.files import reason
from regnb.environment import variable
from regnb.errors import BrokenReceipt, Busy, PlanMismatch, Proof, RegnbError, StorageError, UnprovenReceipt
from regnb.oci.manifest import RawManifest
from regnb.oci.reference import Digest
from regnb.text import escaped

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

Status: TypeAlias = Literal["done", "stale", "failed", "skipped", "unknown"]
State: TypeAlias = Literal["done", "partial", "unfinished"]
"""How far an application came: every row, not every row, or the process ended before its last row."""

_VERSION: Final = 1
_ENDING: Final = ".jsonl"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CHANGED: Final = "it was changed after it was written: do not rely on it"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    visitor = variable("REGNB_VISITOR")
    return f"{user}@{socket.gethostname()}{f' for {visitor}' if visitor else ''}"


class _Begin(Struct, frozen=True, tag="begin", tag_field="kind"):
    version: int
    who: str
    when: str
    digest: str
    plan: msgspec.Raw


class _Content(Struct, frozen=True, tag="content", tag_field="kind"):
    digest: str
    media_type: str
    repository: str
    data: str


class _Intent(Struct, frozen=True, tag="intent", tag_field="kind"):
    steps: tuple[int, ...]
    when: str


class _Start(Struct, frozen=True, tag="start", tag_field="kind"):
    step: int


class _Resumed(Struct, frozen=True, tag="resumed", tag_field="kind"):
    who: str
    when: str


class _End(Struct, frozen=True, tag="end", tag_field="kind"):
    when: str


class Outcome(Struct, frozen=True, tag="outcome", tag_field="kind"):
    """What became of one step.

    Attributes:
        step: Its number in the plan.
        before: The digest that was there just before the write; "" if nothing was.
        after: The digest that was there when it was read again; "" if nothing was.
        message: What happened, where it is not plain.
        when: RFC 3339.

    Example:
        >>> Outcome(0, "done", after="sha256:…").status
        'done'
    """

    step: int
    status: Status
    before: str = ""
    after: str = ""
    message: str = ""
    when: str = msgspec.field(default_factory=_now)


class _Batch(Struct, frozen=True, tag="batch", tag_field="kind"):
    """Rows of a storage that were all done, from the first number to the last."""

    first: int
    last: int
    when: str


class Figures(Struct, frozen=True, tag="figures", tag_field="kind"):
    """What an application over a storage came to, in bytes: each of the three is another question.

    Attributes:
        moved: From one place to another.
        emptied: Removed for good.
        free: How many more are free on the volume, whoever made them so.
    """

    moved: int
    emptied: int
    free: int


_Entry = _Begin | _Batch | Figures | _Content | _Intent | _Start | _Resumed | _End | Outcome


class _Line(Struct, frozen=True):
    chain: str
    entry: msgspec.Raw
    signature: str = ""


_lines = msgspec.json.Decoder(_Line)
_entries: msgspec.json.Decoder[_Entry] = msgspec.json.Decoder(_Entry)


class _Over(Struct):
    """What tells a plan for a registry from one over a storage."""

    operation: str = ""


_STORAGE: Final = frozenset({"collect", "restore", "empty"})


def _link(chain: str, entry: bytes) -> str:
    return hashlib.sha256(chain.encode() + entry).hexdigest()


def folder() -> Path:
    """Return where receipts are kept: ``REGNB_RECEIPTS``, or a folder of the user's own.

    Example:
        >>> folder().name
        'receipts'
    """
    named = variable("REGNB_RECEIPTS")
    return Path(named) if named else platformdirs.user_state_path("regnb") / "receipts"


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Say of a disk that fails what it could not keep, and what to do."""
    try:
        yield
    except OSError as error:
        hint = "set REGNB_RECEIPTS to a folder that you may write to"
        if error.errno in _FULL:
            hint = "make room on its disk, or set REGNB_RECEIPTS to a folder on another one"
        raise StorageError(f"cannot keep receipts in {path}: {reason(error)}", hint=hint) from None


@contextlib.contextmanager
def hold(host: str, repositories: Iterable[str]) -> Iterator[None]:
    """Keep every other process of this user from writing to these repositories meanwhile.

    Raises:
        Busy: One of them is being written to.

    Example:
        >>> with hold("localhost:5000", ["vm/centos8"]):
        ...     pass
    """
    import filelock  # a collection has a lock of its own

    locks = folder() / "locks"
    with _kept(locks):
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for repository in sorted(set(repositories)):
            name = hashlib.sha256(f"{host}/{repository}".encode()).hexdigest()[:32]
            with _kept(locks):
                try:
                    stack.enter_context(filelock.FileLock(locks / f"{name}.lock", timeout=0))
                except filelock.Timeout:
                    raise Busy(
                        f"another regnb process is writing to {repository} on {host}",
                        hint="wait until it has ended, then make the plan again",
                    ) from None
        yield


class Journal:
    """A receipt while it is written. Each entry is on disk before the write that it announces.

    Made by :meth:`begin` or :meth:`reopen`, and used as a context manager: what ends without an error is closed with a
    last line; without that line the receipt is unfinished. An error that ends it gets the receipt's name, as
    ``error.receipt``, unless nothing was begun.

    Attributes:
        path: The file.
        outcomes: What an earlier application of the same plan recorded, by step.
        begun: The steps whose first write that one may have sent.
        resumed: Whether there was an earlier one.

    Example:
        >>> with Journal.begin(plan) as journal:
        ...     journal.intend([0])
    """

    def __init__(self, path: Path, chain: str, key: Key | None, *, earlier: Receipt | None = None) -> None:
        self.path = path
        self.outcomes: dict[int, Outcome] = dict(earlier.outcomes) if earlier else {}
        self.begun: frozenset[int] = frozenset(earlier.begun) if earlier else frozenset()
        self.resumed = earlier is not None
        self._contents: dict[str, RawManifest] = dict(earlier.contents) if earlier else {}
        self._chain = chain
        self._key = key
        self._intended = earlier is not None
        self._failure: StorageError | None = None
        self._lock = threading.Lock()
        with _kept(path):
            # Without a buffer: what a full disk did not take must not be tried again when the file is closed.
            self._file = path.open("ab", buffering=0)
            self._size = os.fstat(self._file.fileno()).st_size

    @classmethod
    def begin(cls, plan: Plan | Sweep, where: Path | None = None) -> Self:
        """Make a new receipt for a plan.

        Raises:
            StorageError: The folder cannot be written; no receipt is left.
            InvalidArgument: The key that is to sign it cannot be used.
        """
        key = Key.find()
        where = where or folder()
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{plan.code}"
        with _kept(where):
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in itertools.count():
                path = where / f"{stamp}{f'-{number}' if number else ''}{_ENDING}"
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                    break
        journal = cls(path, "", key)
        raw = msgspec.Raw(msgspec.json.encode(plan, enc_hook=str))
        try:
            journal._append(_Begin(_VERSION, _who(), _now(), plan.digest, raw))
        except StorageError:
            journal._drop()
            raise
        return journal

    @classmethod
    def reopen(cls, receipt: Receipt) -> Self:
        """Go on with a receipt whose application was cut short.

        Raises:
            UnprovenReceipt: See :meth:`Receipt.prove`.
            PlanMismatch: It is finished: there is nothing to go on with. Or it holds a plan that regnb does not make.
            StorageError: The file cannot be written.
        """
        receipt.prove()
        receipt.applied.check()
        if receipt.finished and receipt.status == "done":
            raise PlanMismatch(f"everything in receipt {receipt.name} was done", hint="undo takes it back")
        # A line that a dying process could not end is cut off: what follows must follow from the last whole one.
        with _kept(receipt.path):
            os.truncate(receipt.path, receipt.size)
        journal = cls(receipt.path, receipt.chain, receipt.key, earlier=receipt)
        try:
            journal._append(_Resumed(_who(), _now()))
        except StorageError as full:
            full.receipt = journal.name
            journal._file.close()
            raise
        return journal

    @property
    def name(self) -> str:
        """The receipt's name."""
        return self.path.name.removesuffix(_ENDING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if error is None:
                self._append(_End(_now()))
            self._sync()
        except StorageError as full:
            if error is None:  # else the disk is not the first thing that went wrong
                full.receipt = self.name
                raise
        finally:
            self._file.close()
        if isinstance(error, RegnbError) and not self._intended:
            # It was refused before anything was begun: there is nothing to tell and nothing to take back.
            self._drop()
        elif error is not None:
            vars(error)["receipt"] = self.name  # whatever it is, its user must find what was done

    def _drop(self) -> None:
        self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def content(self, digest: str) -> RawManifest | None:
        """Return a manifest that was kept, or None."""
        return self._contents.get(digest)

    def keep(self, raw: RawManifest, repository: str) -> None:
        """Keep the bytes of a manifest that a step will replace or remove; the next :meth:`intend` syncs them."""
        if raw.digest not in self._contents:
            self._contents[raw.digest] = raw
            data = base64.b64encode(raw.data).decode()
            self._append(_Content(raw.digest, raw.media_type, repository, data))

    def intend(self, steps: Sequence[int]) -> None:
        """Announce the steps that come next: when this returns, that and everything before it is on disk.

        It waits for the disk: a coroutine calls it in a thread.
        """
        self._append(_Intent(tuple(steps), _now()))
        self._sync()
        self._intended = True

    def start(self, step: int) -> None:
        """Say that the first write of a step comes now, so that a dead process leaves no doubt which it was."""
        self._append(_Start(step))

    def record(self, outcome: Outcome) -> None:
        """Say what became of a step."""
        self.outcomes[outcome.step] = outcome
        self._append(outcome)

    def note(self, figures: Figures) -> None:
        """Say what everything came to."""
        self._append(figures)

    def record_batch(self, first: int, last: int) -> None:
        """Say that rows of a storage were all done, from the first number to the last."""
        entry = _Batch(first, last, _now())
        self.outcomes |= _outcomes(entry)
        self._append(entry)

    def _append(self, entry: _Entry) -> None:
        # Steps of several repositories announce theirs from threads.
        with self._lock:
            if self._failure is not None:
                raise self._failure
            data = msgspec.json.encode(entry, enc_hook=str)  # a Digest is a string of its own
            chain = _link(self._chain, data)
            signature = b'"signature":"%s",' % self._key.sign(chain).encode() if self._key else b""
            line = b'{"chain":"%s",%s"entry":%s}\n' % (chain.encode(), signature, data)
            try:
                with _kept(self.path):
                    rest = memoryview(line)
                    while rest:
                        rest = rest[self._file.write(rest) :]
            except StorageError as full:
                # A part of a line would break the chain for whoever goes on.
                with contextlib.suppress(OSError):
                    self._file.truncate(self._size)
                self._failure = full
                raise
            self._chain = chain
            self._size += len(line)

    def _sync(self) -> None:
        with _kept(self.path):
            os.fsync(self._file.fileno())


def _outcomes(batch: _Batch) -> dict[int, Outcome]:
    return {step: Outcome(step, "done", when=batch.when) for step in range(batch.first, batch.last + 1)}


class Receipt:
    """What was done, when, by whom, and what was there before.

    Made by :meth:`load`. A receipt is a file of JSON lines; each holds the hash of itself and of the line before it.

    Attributes:
        path: The file.
        applied: What was applied: a plan for a registry, or one over a storage.
        who: User and machine.
        started: When (RFC 3339).
        finished: When, or "" if the process ended before its last row.
        outcomes: By step.
        begun: The steps whose first write may have been sent.
        contents: The manifests that were replaced or removed, by digest.
        figures: What an application over a storage came to.
        chain: The hash of the last whole line, which stands for the whole receipt.
        size: Bytes up to the end of that line.
        key: The key that was set when it was read, or None.
        signers: The names of the keys that signed its lines; "" for a line without a signature.

    Example:
        >>> receipt = registry.apply(plan, confirm=plan.code)
        >>> Receipt.load(receipt.name).status
        'done'
    """

    applied: Plan | Sweep
    who: str = ""
    started: str = ""
    finished: str = ""
    figures: Figures | None = None

    _WORDS: ClassVar[dict[State, str]] = {
        "done": "everything was done",
        "partial": "not everything was done: see the rows",
        "unfinished": "the process ended before its last row: resume it, or undo it",
    }

    def __init__(self, path: Path, key: Key | None = None) -> None:
        self.path = path
        self.key = key
        self.signers: set[str] = set()
        self.outcomes: dict[int, Outcome] = {}
        self.begun: set[int] = set()
        self.contents: dict[str, RawManifest] = {}
        self.chain = ""
        self.size = 0

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Read a receipt by its name or path, and check that each line follows from the one before.

        Raises:
            StorageError: There is none.
            BrokenReceipt: It was changed, or is signed with the key that is set here, and not as that key signs.
            InvalidArgument: The key cannot be used.
        """
        known = isinstance(name, Path) or "/" in name or name.endswith(_ENDING)
        receipt = cls(Path(name) if known else folder() / f"{name}{_ENDING}", Key.find())
        try:
            data = receipt.path.read_bytes()
        except OSError as error:
            hint = "regnb receipt list names them"
            raise StorageError(f"there is no receipt {name}: {reason(error)}", hint=hint) from None
        whole, _, torn = data.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            receipt._take(line, number)
        if not receipt.started:
            hint = "nothing was written to the registry" if torn or not data else ""
            raise BrokenReceipt(f"the receipt {receipt.name} has no whole line", hint=hint)
        return receipt

    def _take(self, line: bytes, number: int) -> None:
        try:
            found = _lines.decode(line)
            entry = _entries.decode(found.entry)
            self._enter(entry)
        except (msgspec.MsgspecError, ValueError, RecursionError, PlanMismatch) as error:
            text = error.message if isinstance(error, RegnbError) else str(error)
            raise BrokenReceipt(
                f"line {number} of receipt {self.name} is malformed: {text[:200]}", hint=_CHANGED
            ) from None
        self.chain = _link(self.chain, bytes(found.entry))
        if self.chain != found.chain or (number == 1) != isinstance(entry, _Begin):
            raise BrokenReceipt(
                f"line {number} of receipt {self.name} does not follow from the one before", hint=_CHANGED
            )
        signer = found.signature.partition(":")[0]
        self.signers.add(signer)
        if self.key is not None and signer == self.key.name and not self.key.signed(found.signature, self.chain):
            raise BrokenReceipt(
                f"line {number} of receipt {self.name} is not as it was signed with key {signer}", hint=_CHANGED
            )
        self.size += len(line) + 1

    def _enter(self, entry: _Entry) -> None:
        if isinstance(entry, _Begin):
            document = bytes(entry.plan)
            over = msgspec.json.decode(document, type=_Over).operation in _STORAGE
            self.applied = Sweep.decode(document) if over else Plan.decode(document)
            self.who, self.started = entry.who, entry.when
            if self.applied.digest != entry.digest:
                raise PlanMismatch("the plan is not the one that was confirmed", hint=_CHANGED)
        elif isinstance(entry, _Content):
            data = base64.b64decode(entry.data, validate=True)
            raw = RawManifest.of(data, entry.media_type, Digest(entry.digest))
            self.contents[entry.digest] = raw
        elif isinstance(entry, _Start):
            self.begun.add(entry.step)
        elif isinstance(entry, Outcome):
            self.outcomes[entry.step] = entry
        elif isinstance(entry, Figures):
            self.figures = entry
        elif isinstance(entry, _Batch):
            if not 0 <= entry.first <= entry.last < len(self.applied.steps):
                raise PlanMismatch("it names rows that the plan does not have", hint=_CHANGED)
            self.outcomes |= _outcomes(entry)
        elif isinstance(entry, _End):
            self.finished = entry.when
        elif isinstance(entry, _Resumed):
            self.finished = ""

    @property
    def sweep(self) -> Sweep | None:
        """What was applied to a storage; None where it was a registry."""
        return self.applied if isinstance(self.applied, Sweep) else None

    @property
    def plan(self) -> Plan:
        """What was applied to a registry.

        Raises:
            PlanMismatch: It was a storage.
        """
        if isinstance(self.applied, Sweep):
            raise PlanMismatch(
                f"receipt {self.name} is about the storage {self.applied.url}",
                hint=f"to put back what it moved: regnb trash restore {self.applied.url} {self.name}",
            )
        return self.applied

    @property
    def proof(self) -> Proof:
        """What its signatures say: ``unsigned``, ``proven``, ``no key``, ``other key`` or ``mixed``."""
        if len(self.signers) > 1:
            return "mixed"
        if self.signers == {""}:
            return "unsigned"
        if self.key is None:
            return "no key"
        return "proven" if self.signers == {self.key.name} else "other key"

    def prove(self) -> None:
        """Check that the key that is set here signed every line; where none is set, that nobody expects one.

        Raises:
            UnprovenReceipt: There is no key, or another one, or not every line is signed.
        """
        signers = " and ".join(signer or "none" for signer in sorted(self.signers))
        found = {
            "no key": (f"is signed with key {signers}, and no key is set here", f"set {VARIABLE} to that key"),
            "other key": (
                f"is signed with key {signers}, and the key that is set here is {self.key.name if self.key else ''}",
                f"set {VARIABLE} to the key that it was signed with",
            ),
            "mixed": (f"has lines that are signed with different keys: {signers}", _CHANGED),
            "unsigned": (
                "is not signed, and a key is set here",
                f"it was written without the key, or its signatures were taken away; without {VARIABLE} it is accepted",
            ),
        }
        if self.proof == "proven" or (self.proof == "unsigned" and self.key is None):
            return
        text, hint = found[self.proof]
        raise UnprovenReceipt(f"receipt {self.name} {text}", proof=self.proof, hint=hint)

    @property
    def name(self) -> str:
        """The receipt's name."""
        return self.path.name.removesuffix(_ENDING)

    def content(self, digest: str) -> RawManifest | None:
        """Return a manifest that was replaced or removed, or None."""
        return self.contents.get(digest)

    def outcome(self, step: int) -> Outcome:
        """Return what became of a step; ``unknown`` if its write was under way when the process ended."""
        if found := self.outcomes.get(step):
            return found
        if step in self.begun:
            text = "its write was under way when the process ended: resume and undo read what is there"
            return Outcome(step, "unknown", message=text, when=self.started)
        return Outcome(step, "skipped", message="it was not begun", when=self.started)

    @property
    def _steps(self) -> Sequence[Step | Row]:
        return self.applied.steps

    @property
    def status(self) -> State:
        """How far the application came."""
        if not self.finished:
            return "unfinished"
        whole = all(self.outcome(number).status == "done" for number, step in enumerate(self._steps) if step.writes)
        return "done" if whole else "partial"

    def to_frame(self) -> Frame:
        """Return a row for each step that changes something (:data:`regnb.tables.columns.COLUMNS`, ``receipt``)."""
        rows = []
        for number, step in enumerate(self._steps):
            if step.writes:
                found = self.outcome(number)
                became = (found.before or None, found.after or None, found.status, found.message, found.when)
                rows.append((found.step, step.action, step.repository, self.applied.name(number), *became))
        from regnb.tables.frame import of_rows  # pandas waits for a frame

        return of_rows("receipt", rows)

    def summary(self) -> str:
        """Return the receipt in a sentence."""
        when = f"{self.started[:10]} {self.started[11:16]} UTC"
        return f"{self.applied.operation} on {self.applied.host}, {when}: {self._WORDS[self.status]}"

    def __repr__(self) -> str:
        return f"<Receipt {self.name}: {self.summary()}>"

    def _repr_html_(self) -> str:
        return (
            f"<p><b>{escaped(self.summary())}</b></p><p>Receipt <code>{escaped(self.name)}</code>, by "
            f"{escaped(self.who)}.</p>{self.to_frame()._repr_html_()}"
        )


def receipts(where: Path | None = None) -> Frame:
    """Return a row for each receipt, the newest first (:data:`regnb.tables.columns.COLUMNS`, ``receipts``).

    Example:
        >>> receipts(Path("/nonexistent")).empty
        True
    """
    rows: list[tuple[object, ...]] = []
    for path in sorted((where or folder()).glob(f"*{_ENDING}"), reverse=True):
        try:
            receipt = Receipt.load(path)
        except (BrokenReceipt, StorageError):
            rows.append((path.name.removesuffix(_ENDING), None, "", "", "", 0, 0, "broken"))
        else:
            done = sum(outcome.status == "done" for outcome in receipt.outcomes.values())
            plan = receipt.applied
            about = (receipt.name, receipt.started, receipt.who, plan.operation, plan.host)
            rows.append((*about, plan.changes, done, receipt.status))
    from regnb.tables.frame import of_rows  # pandas waits for a frame

    return of_rows("receipts", rows)

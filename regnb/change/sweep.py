"""A plan over a registry's storage: which of its files a collection moves, a restoration puts back, or an emptied trash
loses.
"""

from __future__ import annotations

import html
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Struct

from regnb.change.document import AGAIN, Document
from regnb.change.plan import Effect, Plan
from regnb.crawl.files import file_errors, local_path
from regnb.errors import InvalidArgument, InvalidReference, PlanMismatch
from regnb.oci.reference import Digest, check_repository, check_tag, is_digest
from regnb.text import count, human

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

Kind = Literal["upload", "tag history", "revision", "layer link", "manifest", "blob", "run"]
PHASES: Final[tuple[Kind, ...]] = ("upload", "tag history", "revision", "layer link", "manifest", "blob")
"""What is moved, in this order: whoever reads meanwhile finds a link before what it leads to is gone, or no link."""
ALLOWANCES: Final = ("writer", "undo")
"""What may be allowed: that somebody pushes meanwhile; that manifests go which undo of a receipt at hand needs."""
TRASH: Final = "_regnb-trash"
"""The folder beside ``blobs`` and ``repositories``: no version of distribution looks into it."""
_LEAVES: Final = {"blob": "data", "manifest": "data", "upload": "", "run": ""}
_UPLOAD: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,127}")
_RUN: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}(-[0-9]{1,4})?")
_Sum = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One thing of a storage.

    Attributes:
        kind: ``blob``; ``manifest`` (the bytes of one that no tag leads to); ``revision`` (the link that makes a
            manifest part of a repository); ``layer link``; ``tag history`` (a digest that a tag pointed at);
            ``upload``; or, where a trash is emptied, ``run`` (everything that one collection moved there).
        repository: "" for a blob, a manifest's bytes and a run.
        reference: The digest, the upload, or the run.
        tag: Of a tag history.
        size: Bytes.
        youngest: The youngest date of the thing and of every link to it (RFC 3339).
    """

    kind: Kind
    reference: str
    repository: str = ""
    tag: str = ""
    size: _Sum = 0
    youngest: str = ""
    reason: str = ""

    writes = True
    """Whether it changes something: every row does."""

    @property
    def action(self) -> str:
        """What stands in the column ``action`` of a receipt."""
        return self.kind

    @property
    def path(self) -> str:
        """The folder that is moved, below ``docker/registry/v2``.

        Example:
            >>> Row(kind="upload", repository="vm/centos8", reference="0a-1b").path
            'repositories/vm/centos8/_uploads/0a-1b'
        """
        algorithm, _, text = self.reference.partition(":")
        if self.kind in ("blob", "manifest"):
            return f"blobs/{algorithm}/{text[:2]}/{text}"
        if self.kind == "run":
            return f"{TRASH}/{self.reference}"
        if self.kind == "layer link":
            below = f"_layers/{algorithm}/{text}"
        elif self.kind == "revision":
            below = f"_manifests/revisions/{algorithm}/{text}"
        elif self.kind == "upload":
            below = f"_uploads/{self.reference}"
        else:
            below = f"_manifests/tags/{self.tag}/index/{algorithm}/{text}"
        return f"repositories/{self.repository}/{below}"

    @property
    def leaf(self) -> str:
        """The file in that folder without which it is nothing; "" for an upload and a run."""
        return _LEAVES.get(self.kind, "link")

    def check(self) -> None:
        """Check that no name leads anywhere but to where a registry keeps such a thing.

        Raises:
            InvalidReference, InvalidArgument: One does.
        """
        if self.kind == "run":
            if not _RUN.fullmatch(self.reference):
                raise InvalidArgument(f"not the name of a run: {self.reference[:80]!r}")
        elif self.kind == "upload":
            if not _UPLOAD.fullmatch(self.reference):
                raise InvalidArgument(f"not the name of an upload: {self.reference[:80]!r}")
        elif not is_digest(self.reference):
            Digest(self.reference)  # it says what is wrong
        if self.kind in ("blob", "manifest", "run"):
            if self.repository:
                raise InvalidArgument(f"a {self.kind} belongs to no repository")
        else:
            check_repository(self.repository)
        if self.kind == "tag history":
            check_tag(self.tag)
        elif self.tag:
            raise InvalidArgument(f"a {self.kind} has no tag")


class Options(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a collection was asked for.

    Attributes:
        untagged: Whether manifests go that no tag leads to.
        uploads_older_than: Age of the youngest file of an upload that was given up, in seconds.
        grace: Age of the youngest date of everything else, in seconds.
        repositories: Names and globs; () means all.
        tag_history: How many entries each tag keeps beside the current one; None: all.
        trash: Whether what is moved stays in the trash, or is removed at the end.
        endpoints: The URLs of every registry process over this storage.
        place: How what goes is kept until the trash is emptied: in a ``folder`` beside the files; in a bucket by its
            ``versions``; by a ``list``, so that nothing is removed before a later run finds it to be garbage still; or
            as ``copies``.
    """

    untagged: bool = False
    uploads_older_than: _Sum = 7 * 86_400
    grace: _Sum = 86_400
    repositories: tuple[str, ...] = ()
    tag_history: _Sum | None = None
    trash: bool = True
    endpoints: tuple[str, ...] = ()
    place: Literal["folder", "versions", "list", "copies"] = "folder"


class Sweep(Document, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, dict=True):
    """What would change among the files of a storage. Making one never writes.

    Attributes:
        operation: ``collect``, ``restore`` or ``empty``.
        url: The storage.
        steps: A row a thing, in the order in which they are moved.
        options: What was asked for.
        run: The run that is put back, for ``restore``.
        witness: A repository and the digest of a manifest in it: whoever does not know it is not over this storage.
        basis: Digest of what it was made on, where that is kept for its application.
        effects: What is spared and why, and what is only named: dangling tags, empty repositories.
        notes: What the reader should know, a sentence each.
        allow: Of :data:`ALLOWANCES`.
        created: When it was made (RFC 3339).
        nonce: Makes it unlike any other.

    Example:
        >>> sweep = Sweep(operation="collect", url="/srv/registry", steps=(), created="", nonce="00")
        >>> Sweep.of_json(sweep.to_json()) == sweep
        True
    """

    kind: ClassVar[str] = "sweep"
    other: ClassVar[str] = "not a plan over a storage"
    operation: Literal["collect", "restore", "empty"]
    url: str
    steps: tuple[Row, ...]
    options: Options = msgspec.field(default_factory=Options)
    run: str = ""
    witness: tuple[str, str] = ("", "")
    basis: str = ""
    effects: tuple[Effect, ...] = ()
    notes: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    created: str = msgspec.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    nonce: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))

    @property
    def host(self) -> str:
        """The storage, as a list of receipts names it."""
        return self.url

    @property
    def changes(self) -> int:
        """How many rows change something: all."""
        return len(self.steps)

    def name(self, number: int) -> str:
        """Return what stands in the column ``tag`` of a receipt: a tag, or the digest, the upload or the run."""
        return self.steps[number].tag or self.steps[number].reference

    @property
    def takes(self) -> bool:
        """Whether it takes away what a registry may know: then nobody may push, and its caches may be wrong afterwards.

        Example:
            >>> listed = Options(place="list")
            >>> [Sweep(operation=one, url="s3://r", steps=(), options=listed).takes for one in ("collect", "empty")]
            [False, True]
        """
        listed = self.options.place == "list"
        if self.operation == "collect":
            return not (listed and self.options.trash)
        return listed and self.operation == "empty"

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return sum(row.size for row in self.steps)

    def phases(self) -> Iterator[tuple[Kind, range]]:
        """Yield each kind of rows with their numbers, in the order in which they are moved."""
        start = 0
        for at, row in enumerate(self.steps):
            if at + 1 == len(self.steps) or self.steps[at + 1].kind != row.kind:
                yield row.kind, range(start, at + 1)
                start = at + 1

    def check(self) -> None:
        """Check that every name is one that a storage can have, and that rows stand in the order of moving.

        Raises:
            PlanMismatch: One is not; the message says where.
        """
        # It never changes: what was found right once is so for ever.
        self._right  # noqa: B018

    @cached_property
    def _right(self) -> bool:
        kinds = PHASES if self.operation != "empty" else ("run",)
        if self.operation == "restore":
            kinds = kinds[::-1]
        last = 0
        for number, row in enumerate(self.steps):
            try:
                row.check()
                place = kinds.index(row.kind)
            except (InvalidArgument, InvalidReference) as error:
                text = f"not a plan of regnb: plan.steps[{number}]: {error.message[:300]}"
                raise PlanMismatch(text, hint=AGAIN) from None
            except ValueError:
                place = -1
            if place < last:
                raise PlanMismatch(f"not a plan of regnb: plan.steps[{number}]: out of order", hint=AGAIN)
            last = place
        if self.run and not _RUN.fullmatch(self.run):
            raise PlanMismatch("not a plan of regnb: plan.run", hint=AGAIN)
        if any(self.witness):
            try:
                check_repository(self.witness[0])
                Digest(self.witness[1])
            except InvalidReference:
                raise PlanMismatch("not a plan of regnb: plan.witness", hint=AGAIN) from None
        check_allow(self.allow)
        return True

    def to_frame(self) -> Frame:
        """Return a row a thing (:data:`regnb.tables.columns.COLUMNS`, ``sweep``)."""
        from regnb.tables.frame import of_rows

        rows = (
            (row.kind, row.repository, row.tag, row.reference, row.size, row.youngest or None, row.reason)
            for row in self.steps
        )
        return of_rows("sweep", rows)

    @property
    def blast(self) -> Frame:
        """What is spared or only named: a row for each (:data:`regnb.tables.columns.COLUMNS`, ``effects``)."""
        from regnb.tables.frame import of_rows

        return of_rows("effects", (one.row for one in self.effects))

    def summary(self) -> str:
        """Return the plan in a sentence."""
        counts = Counter(row.kind for row in self.steps)
        plural = {"tag history": "tag history entries", "upload": "abandoned uploads"}
        some = [
            f"{number:,} {plural[kind]}" if kind in plural and number > 1 else count(number, kind)
            for kind, number in counts.items()
        ]
        verb = {"collect": "move to the trash", "restore": "put back", "empty": "remove for good"}[self.operation]
        if self.operation == "collect" and not self.options.trash:
            verb = "remove for good"
        elif self.options.place == "list" and self.operation != "empty":
            verb = "list for a later removal" if self.operation == "collect" else "forget the list of"
        what = f"{verb} {', '.join(some)} ({human(self.size)})" if some else "nothing to do"
        return f"{self.operation} in {self.url}: {what}"

    def result(self, moved: int, emptied: int, free: int) -> str:
        """Return what an application came to, in a sentence.

        Args:
            moved: Bytes from one place to another.
            emptied: Bytes removed for good.
            free: How many more bytes are free on the volume, whoever made them so.

        Example:
            >>> Sweep(operation="collect", url="/srv/registry", steps=()).result(1000, 0, -5)
            'Moved 1.0 kB, removed for good 0 B; the volume has 5 B less free than before.'
        """
        if self.options.place == "list" and self.operation != "empty" and self.options.trash:
            return "Nothing was moved or removed: this bucket keeps no versions, so rows are only listed."
        if self.operation == "restore":
            text = f"Put back {human(moved)}"
        else:
            text = f"Moved {human(moved)}, removed for good {human(emptied)}"
        if not local_path(self.url):  # a bucket is never full
            return f"{text}."
        return f"{text}; the volume has {human(abs(free))} {'more' if free >= 0 else 'less'} free than before."

    def __repr__(self) -> str:
        return f"<Sweep {self.code}: {self.summary()}>"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        blast = (
            f"<h4 aria-level='3'>What is spared or only named</h4>{self.blast._repr_html_()}" if self.effects else ""
        )
        return (
            f"<p><b>{html.escape(self.summary())}</b></p>"
            f"<p>Nothing has been written. Confirm with <code>{self.code}</code>.</p><ul>{notes}</ul>"
            f"{blast}<h4 aria-level='3'>Rows</h4>{self.to_frame()._repr_html_()}"
        )


def check_allow(allow: Iterable[str]) -> tuple[str, ...]:
    """Return what is allowed, sorted, each once.

    Raises:
        InvalidArgument: Something that cannot be allowed.

    Example:
        >>> check_allow(["writer"])
        ('writer',)
    """
    given = set((allow,) if isinstance(allow, str) else allow)
    for one in sorted(given - set(ALLOWANCES)):
        raise InvalidArgument(f"cannot allow {one!r}", hint=f"choose from {', '.join(ALLOWANCES)}")
    return tuple(sorted(given))


def load(path: str | Path) -> Plan | Sweep:
    """Read a plan for a registry, or one over a storage, from a file.

    Raises:
        StorageError: There is no such file.
        PlanMismatch: It is neither, or it was changed.

    Example:
        >>> load("plan.json").operation
        'delete'
    """
    with file_errors(f"read {path}"):
        data = Path(path).read_bytes()
    try:
        sort = msgspec.json.decode(data, type=_Sort).regnb
    except (msgspec.MsgspecError, ValueError, RecursionError):
        sort = ""  # the plan's own reader says what is wrong
    return Sweep.of_json(data) if sort == "sweep" else Plan.of_json(data)


class _Sort(Struct):
    """What tells the two kinds of documents apart."""

    regnb: str = ""

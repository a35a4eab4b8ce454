"""A plan: what an operation would change, row by row, to be read, confirmed by its digest, and only then applied."""

from __future__ import annotations

import base64
import secrets
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Struct

from regnb.change.document import AGAIN, Document
from regnb.environment import variable
from regnb.errors import InvalidArgument, InvalidReference, PlanMismatch
from regnb.oci import transports
from regnb.oci.manifest import ACCEPT, OCI_INDEX, SIZE_LIMIT
from regnb.oci.reference import Digest, check_repository, check_tag
from regnb.wire.addresses import parse_registry

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

Operation = Literal["retag", "copy", "rename", "delete", "retention", "request", "undo"]
Action = Literal["put", "tag", "untag", "delete", "keep"]
EffectKind = Literal[
    "tag",
    "child",
    "referrer",
    "parent",
    "orphan",
    "shared",
    "running",
    "trash",
    "undo",
    "corrupt tag",
    "dangling tag",
    "empty repository",
    "uploads",
    "receipt",
    "needed",
]
ALLOWANCES: Final = ("incomplete", "parents", "running", "dummy", "overwrite")
"""What may be allowed for a whole plan: planning from an incomplete inventory, breaking an index that lists a manifest,
touching what a cluster runs, removing a tag by way of a placeholder manifest, moving a tag that points elsewhere."""
SCOPED: Final = ("incomplete", "emptying", "share")
"""What may be allowed for one repository, as ``kind:REPOSITORY``: gaps of the inventory that concern it, a policy that
leaves no image in it, a policy that removes more than its share of the tags."""
CHOICES: Final = (*ALLOWANCES, *(f"{kind}:REPOSITORY" for kind in SCOPED))
"""Every form that an allowance may have."""
_NAMED: Final = 10
"""Allowances that a hint spells out."""
"""Hexadecimal digits that a person types to confirm: enough that no two plans of a day share them."""
_NEEDS: Final = {"put": ("after",), "tag": ("tag", "after"), "untag": ("tag", "before"), "delete": ("before",)}
"""Fields that must not be empty: a request that lacked one would be about something else."""
_GRAMMAR: Final = {"source": check_repository, "tag": check_tag, "before": Digest, "after": Digest}
_MANIFEST: Final = "manifest.json"
_BLOB: Final = "blob"


_Size = Annotated[int, Meta(ge=0, le=SIZE_LIMIT)]
_Sum = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Blob(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A blob that a manifest needs."""

    digest: str
    size: _Size


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One row of a plan: one tag, or one manifest by its digest, that changes or is kept.

    Attributes:
        action: ``put`` a manifest under its digest, ``tag``: put it under a tag, ``untag``: remove a tag and nothing
            else, ``delete`` a manifest by its digest with every tag on it, or ``keep``.
        tag: "" for ``put`` and ``delete``.
        before: The digest that is there; "" if nothing is.
        after: The digest that will be there; "" if nothing will be.
        tags: Every tag of the repository that points at the manifest that is deleted.
        source: The repository that the manifest is read from, in the plan's source registry.
        media_type: Of the manifest that is put or removed.
        blobs: What the manifest that is put consists of beside its bytes, as far as it may be missing there.
        size: Bytes of every blob behind the manifest, counted once.
        new: Whether the repository did not have the manifest when the plan was made: an undo then deletes it again,
            and else only the tag.
        needs: The steps, by number, that must be done first: where one is not, this one is skipped.
    """

    action: Action
    repository: str
    tag: str = ""
    before: str = ""
    after: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    media_type: str = ""
    blobs: tuple[Blob, ...] = ()
    size: _Sum = 0
    reason: str = ""
    new: bool = False
    needs: tuple[int, ...] = ()

    @property
    def target(self) -> str:
        """What a request names: the tag, or the digest of the manifest that is put or deleted."""
        return self.tag or self.after or self.before

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.action != "keep"


class Effect(Struct, frozen=True, forbid_unknown_fields=True):
    """Something beside the rows themselves that a plan touches, or takes care not to touch (``effects``)."""

    effect: EffectKind
    repository: str
    reference: str = ""
    size: _Sum = 0
    message: str = ""

    @property
    def row(self) -> tuple[str, str, str, int | None, str]:
        """Its columns. Where no size was given it is missing: 0 bytes would be a statement."""
        return self.effect, self.repository, self.reference, self.size or None, self.message


class Refusal(Struct, frozen=True, forbid_unknown_fields=True):
    """What the registry will refuse of a plan, as far as that is known before anything is written.

    Attributes:
        message: What it will refuse, or what is not known about it.
        hint: What to do next, or "".
        allow: The allowance that lifts it (:data:`ALLOWANCES`), or "".
        known: Whether an answer of the registry showed it; if not, it may also go through.
        actions: The rows that it concerns.
    """

    message: str
    hint: str = ""
    allow: str = ""
    known: bool = True
    actions: tuple[Action, ...] = ()


class Plan(Document, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, dict=True):
    """What would change in one registry. It holds no credentials, and making one never writes.

    Attributes:
        operation: What made it.
        url: The registry that is written to.
        source: The URL of the registry that content is read from, if it is another one.
        steps: In the order in which they are applied: what is put comes before what points at it.
        effects: The blast radius: what else would go, break, be orphaned, or keeps sharing layers.
        freed: Bytes that a plain garbage collection could free afterwards: an upper bound, for manifests without a tag
            cannot be seen over HTTP and may hold on to blobs.
        moved: Bytes that are sent to the registry, at most.
        refusals: What the registry will refuse, or what is not known about that.
        notes: What the reader should know, a sentence each.
        collector: The vendor, where it removes by itself what a deletion leaves behind; "" where somebody has to run a
            garbage collection.
        allow: What the user allowed explicitly (:data:`CHOICES`).
        made: Digest to bytes (base64) of manifests that this plan makes itself.
        receipt: The receipt that an ``undo`` takes back.
        authorized: Whether the registry asked for credentials, which a shell then needs in ``$AUTHORIZATION``.
        created: When the plan was made (RFC 3339).
        nonce: Makes the plan, and the dummy manifests that it may need, unlike any other.

    Example:
        >>> plan = Plan(operation="delete", url="http://localhost:5000", steps=(), created="", nonce="00")
        >>> Plan.of_json(plan.to_json()) == plan
        True
    """

    kind: ClassVar[str] = "plan"
    other: ClassVar[str] = "this is not a plan"
    operation: Operation
    url: str
    steps: tuple[Step, ...]
    source: str = ""
    effects: tuple[Effect, ...] = ()
    freed: _Sum = 0
    moved: _Sum = 0
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    collector: str = ""
    allow: tuple[str, ...] = ()
    made: dict[str, str] = msgspec.field(default_factory=dict)
    receipt: str = ""
    authorized: bool = False
    created: str = msgspec.field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    nonce: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))

    @property
    def host(self) -> str:
        """``host[:port]`` of the registry that is written to; of a layout its whole name."""
        return self.url.partition("://")[2] or self.url

    @property
    def changes(self) -> int:
        """How many rows change something."""
        return sum(step.writes for step in self.steps)

    @property
    def removes(self) -> bool:
        """Whether it deletes a tag or a manifest."""
        return any(step.action in ("untag", "delete") for step in self.steps)

    @property
    def overwrites(self) -> bool:
        """Whether it moves a tag away from a manifest, which may then have no tag left."""
        return any(step.action == "tag" and step.before for step in self.steps)

    @property
    def final(self) -> bool:
        """Whether nothing undoes it: an archive is written once, and only read then."""
        return self.url.startswith("oci-archive:")

    @property
    def collected(self) -> bool:
        """Whether a garbage collection may remove what undo needs: none of a registry runs on a layout."""
        return not transports.is_place(self.url)

    @property
    def ready(self) -> bool:
        """Whether it changes something, and nothing is known that the registry will refuse."""
        return self.changes > 0 and not any(one.known for one in self.refusals)

    def dummy(self, number: int) -> bytes:
        """Return the manifest that takes a tag over for a moment, so that deleting it removes that tag alone.

        It is an empty index with a number that no other has: 153 bytes, and no blob is needed.
        """
        note = Digest.of(f"{self.nonce}/{number}".encode()).hex[:32]
        return msgspec.json.encode(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"regnb.dummy": note}}
        )

    def content(self, digest: str) -> bytes | None:
        """Return the bytes of a manifest that the plan made itself, or None."""
        return base64.b64decode(self.made[digest]) if digest in self.made else None

    def check(self) -> None:
        """Check that every name is one that a registry can have, and every row one that can be applied.

        Raises:
            PlanMismatch: One is not; the message says where.
        """
        for where, check, value in self._values():
            try:
                check(value)
            except ValueError as error:
                text = error.message if isinstance(error, InvalidArgument | InvalidReference) else str(error)
                raise PlanMismatch(f"not a plan of regnb: {where}: {text[:300]}", hint=AGAIN) from None

    def _values(self) -> Iterator[tuple[str, Callable[[Any], object], object]]:
        """Yield each value that becomes a part of a request: where it stands, what checks it, and the value."""
        yield "plan.url", _check_origin, self.url
        if self.source:
            yield "plan.source", _check_origin, self.source
        yield "plan.allow", check_allow, self.allow
        for digest, text in self.made.items():
            yield f"plan.made[{digest[:80]!r}]", _check_made, (digest, text)
        for number, step in enumerate(self.steps):
            here = f"plan.steps[{number}]"
            for need in step.needs:
                yield f"{here}.needs", partial(_check_row, len(self.steps)), need
            if not step.writes:
                continue  # its names are shown and never sent, so that it may name what the grammar forbids
            yield f"{here}.repository", check_repository, step.repository
            for name in _NEEDS[step.action]:
                yield f"{here}.{name}", _check_given, getattr(step, name)
            for name, check in (
                ("source", check_repository),
                ("tag", check_tag),
                ("before", Digest),
                ("after", Digest),
            ):
                if value := getattr(step, name):
                    yield f"{here}.{name}", check, value
            for at, tag in enumerate(step.tags):
                yield f"{here}.tags[{at}]", check_tag, tag
            for at, blob in enumerate(step.blobs):
                yield f"{here}.blobs[{at}]", Digest, blob.digest

    def name(self, number: int) -> str:
        """Return the tags that one step is about; for a manifest without one, what it belongs to.

        Example:
            >>> step = Step(action="delete", repository="a", before="sha256:00", tags=("8", "8.4"))
            >>> Plan(operation="delete", url="http://localhost:5000", steps=(step,)).name(0)
            '8, 8.4'
        """
        step = self.steps[number]
        named = step.tag or ", ".join(step.tags)
        if named or step.action != "delete":
            return named
        above = (self.name(need) for need in step.needs if self.steps[need].repository == step.repository)
        for name in filter(None, above):
            return name if name.startswith("(") else f"(part of {name})"
        return "(no tag)"

    def to_frame(self) -> Frame:
        """Return a row for each step, what changes first (:data:`regnb.tables.columns.COLUMNS`, ``plan``).

        The index is the step's number, as :meth:`curl` takes it.
        """
        from regnb.change.preview import frame  # pandas waits for a frame

        return frame(self)

    @property
    def blast(self) -> Frame:
        """The blast radius: a row for each effect (:data:`regnb.tables.columns.COLUMNS`, ``effects``)."""
        from regnb.change.preview import blast  # pandas waits for a frame

        return blast(self)

    def curl(self, number: int) -> str:
        """Return what one step does as shell commands, without credentials; "" for a row that changes nothing.

        There is no such command for a layout, either: "".

        Where the registry wants credentials, ``$AUTHORIZATION`` holds the header's value; ``$SOURCE_AUTHORIZATION``
        holds that of the registry that is copied from. Files are written into the current folder.
        """
        if transports.parse(self.url) or transports.parse(self.source):
            return ""
        step = self.steps[number]
        here = f"{self.url}/v2/{step.repository}"
        if step.action in ("put", "tag"):
            # Each line rests on the one before: a manifest that could not be read must not leave another one to be put.
            return " &&\n".join(self._curl_put(step, here))
        if step.action == "delete":
            return self._curl("-X", "DELETE", f"{here}/manifests/{step.before}")
        if step.action == "untag":
            return self._curl_untag(step, here, self.dummy(number))
        return ""

    def _curl(self, *words: str) -> str:
        return f"curl -sSf{_secret('AUTHORIZATION') if self.authorized else ''} {shlex.join(words)}"

    def _curl_read(self, *words: str) -> str:
        # What the one registry is told is no other's business.
        return f"curl -sSf{_secret('SOURCE_AUTHORIZATION')} {shlex.join(words)}" if self.source else self._curl(*words)

    def _curl_put(self, step: Step, here: str) -> Iterable[str]:
        source = f"{self.source or self.url}/v2/{step.source or step.repository}"
        if (made := self.content(step.after)) is not None:
            yield f"{_printed(made)} > {_MANIFEST}"
        else:
            accept = f"Accept: {step.media_type or ', '.join(ACCEPT)}"
            yield self._curl_read("-H", accept, "-o", _MANIFEST, f"{source}/manifests/{step.after}")
        for blob in step.blobs:
            start = ("-X", "POST", "-d", "")
            if not self.source:
                # A blob that cannot be mounted is answered with 202; then the manifest is refused below.
                yield self._curl(*start, f"{here}/blobs/uploads/?mount={blob.digest}&from={step.source}")
                continue
            yield self._curl_read("-L", "-o", _BLOB, f"{source}/blobs/{blob.digest}")
            begun = self._curl(*start, "-D", "-", "-o", "/dev/null", f"{here}/blobs/uploads/")
            yield f"UPLOAD=$({begun} | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')"
            yield f"case $UPLOAD in /*) UPLOAD={shlex.quote(self.url)}$UPLOAD;; esac"
            yield "case $UPLOAD in *\\?*) UPLOAD=$UPLOAD'&';; *) UPLOAD=$UPLOAD'?';; esac"
            octets = self._curl("-H", "Content-Type: application/octet-stream", "-T", _BLOB)
            yield f'{octets} "${{UPLOAD}}digest={blob.digest}"'
            yield f"rm {_BLOB}"
        put = ("-X", "PUT", "-H", f"Content-Type: {step.media_type}", "--data-binary", f"@{_MANIFEST}")
        yield self._curl(*put, f"{here}/manifests/{step.target}")

    def _curl_untag(self, step: Step, here: str, dummy: bytes) -> str:
        by_tag = self._curl("-X", "DELETE", f"{here}/manifests/{step.tag}")
        if "dummy" not in self.allow:
            return by_tag
        # Where deletion is switched off, the dummy would take the tag's place for good: hence the harmless probe.
        absent = Digest.of(f"{self.nonce}/absent".encode())
        status = self._curl("-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE", f"{here}/manifests/{absent}")
        put = self._curl(
            "-X", "PUT", "-H", f"Content-Type: {OCI_INDEX}", "--data-binary", "@-", f"{here}/manifests/{step.tag}"
        )
        lines = [
            f"{by_tag} || {{",
            f'  [ "$({status.replace("-sSf", "-s", 1)})" = 404 ] &&',
            f"  {_printed(dummy)} | {put} &&",
            f"  {self._curl('-X', 'DELETE', f'{here}/manifests/{Digest.of(dummy)}')}; }}",
        ]
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the plan in one sentence: what will be gone, what stays, and until when it can be undone."""
        from regnb.change.preview import summary  # only where a person reads it

        return summary(self)

    def __repr__(self) -> str:
        return f"<Plan {self.code}: {self.summary()}>"

    def _repr_html_(self) -> str:
        from regnb.change.preview import html  # only where a notebook shows a plan

        offer = f"Nothing has been written. Confirm with <code>{self.code}</code>."
        return html(self, f"<p>{offer if self.ready else 'Nothing has been written.'}</p>")


def _check_origin(url: str) -> None:
    if str(transports.parse(url) or parse_registry(url)[0]) != url:
        raise InvalidArgument("not a registry's URL as a plan has it: scheme, host and port")


def _check_made(made: tuple[str, str]) -> None:
    digest, text = made
    if Digest.of(base64.b64decode(text, validate=True), Digest(digest).algorithm) != digest:
        raise InvalidArgument("the bytes have another digest")


def _check_row(rows: int, row: int) -> None:
    if not 0 <= row < rows:
        raise InvalidArgument(f"the row needs row {row}, which is not there")


def _check_given(text: str) -> None:
    if not text:
        raise InvalidArgument("it is empty")


def _secret(variable: str) -> str:
    return f' ${{{variable}:+-H "Authorization: ${variable}"}}'


def _printed(data: bytes) -> str:
    """Return the command that prints these bytes; what could steer the terminal that shows it is encoded."""
    if data.isascii() and (text := data.decode()).replace("\n", "").isprintable():
        return f"printf %s {shlex.quote(text)}"
    return f"printf %s {base64.b64encode(data).decode()} | base64 -d"


def check_allow(allow: Iterable[str]) -> tuple[str, ...]:
    """Return what is allowed, sorted, each once.

    Args:
        allow: Of :data:`ALLOWANCES`, or of :data:`SCOPED` with the name of a repository.

    Raises:
        InvalidArgument: Something that cannot be allowed, or not without a repository.
        InvalidReference: The scope is not a repository's name.

    Example:
        >>> check_allow(["share:vm/centos8", "dummy"])
        ('dummy', 'share:vm/centos8')
    """
    given = set((allow,) if isinstance(allow, str) else allow)
    for one in sorted(given):
        kind, scoped, repository = one.partition(":")
        if kind in SCOPED and scoped:
            check_repository(repository)
        elif scoped or kind not in ALLOWANCES:
            hint = f"write {kind}:REPOSITORY" if kind in SCOPED else f"choose from {', '.join(CHOICES)}"
            raise InvalidArgument(f"cannot allow {one!r}", hint=hint)
    return tuple(sorted(given))


def allows(allow: Collection[str], kind: str, repository: str) -> bool:
    """Whether something is allowed in a repository: for that one, or for the whole plan.

    Example:
        >>> allows(["incomplete:vm/centos8"], "incomplete", "vm/centos8")
        True
        >>> allows(["incomplete:vm/centos8"], "incomplete", "vm/centos9")
        False
    """
    return kind in allow or f"{kind}:{repository}" in allow


def once(allowances: Sequence[str]) -> str:
    """Return what to do to allow something in one plan, for a hint; on a web page that is a box of the form.

    Example:
        >>> once(["share:vm/centos8"])
        "to allow it in this plan alone: --allow share:vm/centos8, in Python allow=['share:vm/centos8']"
    """
    some, more = list(allowances[:_NAMED]), len(allowances) - _NAMED
    if variable("REGNB_SERVED"):
        return f"to allow it in this plan alone, tick the box {some[0].partition(':')[0]} and preview again"
    rest = f", and so on for {more:,} more" if more > 0 else ""
    options = " ".join(f"--allow {one}" for one in some)
    return f"to allow it in this plan alone: {options}, in Python allow={some}{rest}"

"""What every plan is, whatever it changes: a document that is confirmed by its digest, and read as it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final, Self

import msgspec
from msgspec import Struct

from regnb.crawl.files import file_errors
from regnb.errors import PlanMismatch
from regnb.oci.reference import Digest

AGAIN: Final = "make the plan again; a plan is applied as it was made, or not at all"
_CODE_DIGITS: Final = 8
_VERSION: Final = 1


class Document(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, dict=True):
    """A plan as a document. It names no operation: each kind of plan has its own fields and its own :meth:`check`.

    Attributes:
        kind: What the document calls itself in its field ``regnb``.
        other: How an error begins that says that something else was given.
    """

    kind: ClassVar[str]
    other: ClassVar[str]

    @cached_property
    def digest(self) -> Digest:
        """The digest of every field: whoever confirms it confirms this plan and no other."""
        return Digest.of(msgspec.json.encode(self, enc_hook=str, order="deterministic"))

    @property
    def code(self) -> str:
        """The first digits of the digest, for a person to type."""
        return self.digest.hex[:_CODE_DIGITS]

    def confirm(self, text: str) -> None:
        """Check a confirmation: the plan's digest, or its code.

        Raises:
            PlanMismatch: It is another plan's, or none.
        """
        if text not in (self.digest, self.code):
            raise PlanMismatch(
                "the confirmation does not fit this plan" if text else "the plan is not confirmed",
                hint=f"read the plan, then confirm it with {self.code}",
            )

    def check(self) -> None:
        """Check that the plan names only what can be there, and that it can be applied.

        Raises:
            PlanMismatch: It does not; the message says where.
        """
        raise NotImplementedError

    def to_json(self) -> bytes:
        """Return the plan as a document that :meth:`of_json` reads; its digest stands in it."""
        document = {"regnb": self.kind, "version": _VERSION, "digest": str(self.digest), "plan": self}
        return msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=1)

    @classmethod
    def of_json(cls, data: bytes) -> Self:
        """Return the plan in a document.

        Raises:
            PlanMismatch: It is not such a plan, it was changed, or a field is not as regnb writes it; the message says
                where.
        """
        try:
            envelope = msgspec.json.decode(data, type=_Envelope)
            if envelope.regnb != cls.kind:
                raise ValueError(f"Invalid enum value {envelope.regnb!r} - at `$.regnb`")
            _check_fields(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise PlanMismatch(f"{cls.other}: {str(error)[:200]}", hint=AGAIN) from None
        if envelope.version != _VERSION:
            raise PlanMismatch(
                f"the plan has version {envelope.version}; this regnb reads version {_VERSION}", hint=AGAIN
            )
        plan = cls.decode(bytes(envelope.plan))
        plan.check()
        if plan.digest != envelope.digest:
            raise PlanMismatch("the plan was changed after it was made: its digest is another", hint=AGAIN)
        return plan

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the plan in the field ``plan`` of a document or a receipt.

        Raises:
            PlanMismatch: A field is unknown, missing, or of another type or size; the message says where.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            text = str(error)[:200].replace("`$", "`plan")
            raise PlanMismatch(f"{cls.other}: {text}", hint=AGAIN) from None

    def save(self, path: str | Path) -> None:
        """Write the plan into a file; an empty path writes nothing, as a runbook's parameter may say.

        Raises:
            StorageError: The file cannot be written.
        """
        if path:
            with file_errors(f"write {path}"):
                Path(path).write_bytes(self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a plan from a file.

        Raises:
            StorageError: There is no such file.
            PlanMismatch: It is not such a plan, or it was changed.
        """
        with file_errors(f"read {path}"):
            return cls.of_json(Path(path).read_bytes())


class _Envelope(Struct, forbid_unknown_fields=True):
    regnb: str
    version: int
    digest: str
    plan: msgspec.Raw


class _Fields(dict[str, object]):
    """An object of a document, with a name that stands in it twice."""

    twice = ""


def _check_fields(data: bytes) -> None:
    """Refuse an object with two fields of one name: of those one reader takes the first, and another the last."""
    found: list[_Fields] = []

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        if len(fields) == len(pairs):
            return fields
        names = [name for name, _ in pairs]
        odd = _Fields(fields)
        odd.twice = next(name for name in names if names.count(name) > 1)
        found.append(odd)
        return odd

    document = json.loads(data, object_pairs_hook=collect)
    if found:
        where = next((path for path, value in _walk(document, "$") if value is found[0]), "$")
        raise ValueError(f"Object contains field `{found[0].twice[:80]}` twice - at `{where}`")


def _walk(value: object, path: str) -> Iterator[tuple[str, object]]:
    yield path, value
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _walk(each, f"{path}.{name[:80]}")
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _walk(each, f"{path}[{at}]")

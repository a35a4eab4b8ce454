"""A retention policy: rules in TOML, and how versions compare."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from regnb.errors import InvalidArgument, StorageError

NO_YEAR: Final = 1970
UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}
_VERSION: Final = re.compile(
    r"[vV]?(\d{1,18})(?:\.(\d{1,18}))?(?:\.(\d{1,18}))?(?:-([0-9A-Za-z.-]+))?(?:_[0-9A-Za-z._-]+)?"
)
"""SemVer 2.0 with an optional v and parts that may be left out; _ stands for +, which no tag may have."""
_HEADER: Final = re.compile(r"\s*\[\[\s*([\"']?)rule\1\s*\]\]")
AGE: Final = r"^[1-9][0-9]{0,3}[hdw]$"
Name = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of the repositories that match; the rest goes.

    Attributes:
        repositories: Names and globs.
        keep_newest: So many images (distinct digests), by creation. An image without a date is kept.
        keep_newest_versions: So many images, by the semantic version of their tags.
        keep_younger_than: A number and h, d or w: images that were created since.
        keep_matching: Names and globs of tags.
        never_touch: Everything is kept; stands alone.
    """

    repositories: Annotated[tuple[Name, ...], Meta(min_length=1)]
    keep_newest: Count | None = None
    keep_newest_versions: Count | None = None
    keep_younger_than: Annotated[str, Meta(pattern=AGE)] | None = None
    keep_matching: tuple[Name, ...] = ()
    never_touch: bool = False

    @property
    def keeps(self) -> bool:
        """Whether it says what is kept, beside ``never_touch``."""
        return bool(self.keep_newest or self.keep_newest_versions or self.keep_younger_than or self.keep_matching)

    @property
    def age(self) -> timedelta | None:
        """``keep_younger_than`` as a duration."""
        text = self.keep_younger_than
        return timedelta(**{UNITS[text[-1]]: int(text[:-1])}) if text else None


class Policy(Struct, frozen=True):
    """A retention policy: for each repository the first rule that matches decides; where none does, all is kept.

    Example:
        >>> Policy.parse('''
        ... [[rule]]
        ... repositories = ["vm/*"]
        ... keep_newest = 10
        ... ''').rules[0].keep_newest
        10
    """

    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, text: str, name: str = "policy") -> Policy:
        """Read a policy from TOML.

        Args:
            text: The document.
            name: What errors call it.

        Raises:
            InvalidArgument: It is malformed; the message names line and column.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _malformed(name, *_place(str(error), text)) from None
        except RecursionError:
            raise _malformed(name, "it is nested too deeply", 1, 1) from None
        for key in document:
            if key != "rule":
                raise _malformed(name, f"unknown key {key!r}", *_find(text, 0, key))
        rules = document.get("rule")
        if not isinstance(rules, list) or not rules:
            raise _malformed(name, "there is no [[rule]]", 1, 1)
        return cls(tuple(_rule(name, text, number, table) for number, table in enumerate(rules, 1)))

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a policy from a file.

        Raises:
            StorageError: There is no such file.
            InvalidArgument: It is malformed; the message names line and column.
        """
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or error
            raise StorageError(f"cannot read {path}: {reason}", hint="name a TOML file with [[rule]] in it") from None
        try:
            return cls.parse(data.decode(), str(path))
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
            raise _malformed(str(path), "this is not UTF-8", line, column) from None


def _malformed(name: str, message: str, line: int, column: int) -> InvalidArgument:
    return InvalidArgument(
        f"{name}, line {line}, column {column}: {message}", hint=f"a rule has {', '.join(Rule.__struct_fields__)}"
    )


def _place(message: str, text: str) -> tuple[str, int, int]:
    """Return tomllib's message, and the line and column that it names."""
    what, _, where = message.rpartition(" (at ")
    if numbers := re.fullmatch(r"line (\d+), column (\d+)\)", where):
        return what, int(numbers[1]), int(numbers[2])
    return what, text.count("\n") + 1, len(text) - text.rfind("\n")


def _find(text: str, rule: int, key: str) -> tuple[int, int]:
    """Return line and column of a key in the so-manieth rule, else of that rule; 0 is what stands before the first."""
    wanted = re.compile(rf"(.*?[\s,{{\[]|)([\"']?){re.escape(key)}\2\s*[=.\]]") if key else None
    at, place = 0, (1, 1)
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("#"):
            continue
        if header := _HEADER.match(line):
            at += 1
            if at == rule:
                place = (number, header.end() - len(header[0].lstrip()) + 1)
        if wanted and rule in (at, 0) and (found := wanted.match(line)):
            return number, found.start(2) + 1
    return place


def _rule(name: str, text: str, number: int, table: Any) -> Rule:  # noqa: ANN401 -- whatever TOML holds
    try:
        rule = msgspec.convert(table, Rule)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        unknown = re.search(r"unknown field `(.*)`", what)
        at = re.match(r"\.?(\w*)", path)
        key = unknown[1] if unknown else at[1] if at else ""
        if key == "keep_younger_than":
            what = "keep_younger_than is a number and h, d or w, such as 30d"
        elif key and not unknown:
            what = f"{key}: {what}"
        raise _malformed(name, what, *_find(text, number, key)) from None
    if rule.never_touch and rule.keeps:
        raise _malformed(name, "never_touch stands alone: it keeps everything", *_find(text, number, "never_touch"))
    if not rule.never_touch and not rule.keeps:
        raise _malformed(name, "this rule keeps nothing: it would delete every image", *_find(text, number, ""))
    return rule


def version_key(tag: str) -> tuple[Any, ...] | None:
    """Return what sorts a tag as SemVer 2.0 orders versions, or None for a tag that is no version.

    Example:
        >>> version_key("v1.10") > version_key("1.9.3") > version_key("1.9.3-rc.1")
        True
    """
    found = _VERSION.fullmatch(tag)
    if not found:
        return None
    numbers = tuple(int(part or 0) for part in found.groups()[:3])
    if found[4] is None:
        return (*numbers, 1, ())
    # Numbers sort before words, and 2 before 10.
    before = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in found[4].split("."))
    return (*numbers, 0, before)

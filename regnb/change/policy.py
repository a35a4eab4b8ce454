"""A retention policy: rules in TOML."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from regnb.errors import InvalidArgument, StorageError
from regnb.text import parse_age

AGE: Final = r"^[1-9][0-9]{0,3}[hdw]$"
SHARE: Final = r"^([1-9][0-9]?|100)%$"
Kind: TypeAlias = Literal["image", "chart", "artifact", "orphan"]
"""What a tag points at, as a policy tells tags apart."""
Name = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of the repositories that match; the rest is deleted.

    A line that cannot be applied to a tag keeps it: an image of unknown age where a line is about age, and a tag that
    is not a version where no line is about age.

    Attributes:
        repositories: Names and globs.
        kinds: What the rule decides on: ``image``, ``chart`` (Helm), ``artifact`` (any other), ``orphan`` (a signature,
            SBOM or attestation whose subject is gone). By default everything but orphans. A rule for orphans alone may
            keep nothing.
        keep_newest: So many images (distinct digests), by creation; of the same age all are kept.
        keep_newest_versions: So many images, by the version of their tags.
        keep_younger_than: A number and h, d or w: images that were created since.
        keep_pulled_within: A number and h, d or w: images that were pulled since, and all of which that is not known.
        keep_matching: Names and globs of tags.
        remove_at_most: The largest share of a repository's tags that may be deleted at once. More is refused.
        never_touch: Everything is kept; no line about keeping may stand beside it.
    """

    repositories: Annotated[tuple[Name, ...], Meta(min_length=1)]
    kinds: tuple[Kind, ...] = ()
    keep_newest: Count | None = None
    keep_newest_versions: Count | None = None
    keep_younger_than: Annotated[str, Meta(pattern=AGE)] | None = None
    keep_pulled_within: Annotated[str, Meta(pattern=AGE)] | None = None
    keep_matching: tuple[Name, ...] = ()
    remove_at_most: Annotated[str, Meta(pattern=SHARE)] = "50%"
    never_touch: bool = False

    @property
    def keeps(self) -> bool:
        """Whether it says what is kept, beside ``never_touch``."""
        return bool(
            self.keep_newest
            or self.keep_newest_versions
            or self.keep_younger_than
            or self.keep_pulled_within
            or self.keep_matching
        )

    @property
    def age(self) -> timedelta | None:
        """``keep_younger_than`` as a duration."""
        return parse_age(self.keep_younger_than) if self.keep_younger_than else None

    @property
    def unused(self) -> timedelta | None:
        """``keep_pulled_within`` as a duration."""
        return parse_age(self.keep_pulled_within) if self.keep_pulled_within else None

    @property
    def dates(self) -> bool:
        """Whether a line is about age."""
        return bool(self.keep_newest or self.keep_younger_than)

    @property
    def share(self) -> float:
        """``remove_at_most`` as a number from 0 to 1."""
        return int(self.remove_at_most[:-1]) / 100

    def decides_on(self, kind: Kind) -> bool:
        """Whether the rule is about this kind."""
        return kind in self.kinds if self.kinds else kind != "orphan"


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
            return cls.parse(data.decode("utf-8-sig"), str(path))
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
    """Return line and column of the statement that gives a key to the rule of this number, or that begins the rule.

    It follows the longest beginning of the document that is valid and lacks it. Number 0 stands for the document.
    """
    lines = text.split("\n")
    start = 0
    for end in range(1, len(lines) + 1):
        try:
            document = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:  # within a statement
            continue
        rules = document.get("rule")
        table = document if not rule else rules[rule - 1] if isinstance(rules, list) and len(rules) >= rule else None
        if table is not None and (not key or key in table):
            break
        start = end
    while start + 1 < len(lines) and lines[start].strip().startswith("#") | (not lines[start].strip()):
        start += 1
    line = lines[start]
    column = line.find(key) if key in line else 0
    return start + 1, max(column, len(line) - len(line.lstrip())) + 1


def _rule(name: str, text: str, number: int, table: Any) -> Rule:  # noqa: ANN401 -- whatever TOML holds
    try:
        rule = msgspec.convert(table, Rule)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        unknown = re.search(r"unknown field `(.*)`", what)
        at = re.match(r"\.?(\w*)", path)
        key = unknown[1] if unknown else at[1] if at else ""
        if key in ("keep_younger_than", "keep_pulled_within"):
            what = f"{key} is a number and h, d or w, such as 30d"
        elif key == "remove_at_most":
            what = "remove_at_most is a share from 1% to 100%, such as 50%"
        elif key == "kinds":
            what = f"kinds is a list of {', '.join(get_args(Kind))}"
        elif key and not unknown:
            what = f"{key}: {what}"
        raise _malformed(name, what, *_find(text, number, key)) from None
    if rule.never_touch and rule.keeps:
        raise _malformed(
            name,
            "never_touch keeps everything: leave out the other keys that keep",
            *_find(text, number, "never_touch"),
        )
    if not rule.never_touch and not rule.keeps and rule.kinds != ("orphan",):
        raise _malformed(name, "this rule keeps nothing: it would delete every image", *_find(text, number, ""))
    return rule

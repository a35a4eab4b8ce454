"""What a user means by a reference, a glob, a DataFrame or a list of these: tags and digests of one registry."""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from msgspec import Struct

from regnb.crawl import naming
from regnb.errors import InvalidArgument, InvalidReference, NotFound, Refused
from regnb.oci.reference import Digest, Reference, check_repository, check_tag, select

if TYPE_CHECKING:
    import pandas as pd

    from regnb.crawl.reader import Reader

What: TypeAlias = "str | Reference | pd.DataFrame | Sequence[str | Reference]"
"""A reference, a glob such as ``vm/*:8.*``, a list of these, or a DataFrame with repository and tag (or digest)."""

_GLOB = re.compile(r"[*?\[]")


class Selector(Struct, frozen=True):
    """One thing that was named.

    Attributes:
        repository: A name or a glob.
        tag: A name or a glob; "" for the whole repository, or where a digest is named.
        digest: Or "".
        seen: What the tag pointed at where it was chosen, if that is known.
    """

    repository: str
    tag: str = ""
    digest: str = ""
    seen: str = ""

    @property
    def exact(self) -> bool:
        """Whether it names one tag or one digest, without a glob."""
        return bool(self.tag or self.digest) and not _GLOB.search(self.repository + self.tag)

    @property
    def within(self) -> str:
        """The repository, if it is named; "" if a glob stands for it."""
        return "" if _GLOB.search(self.repository) else self.repository

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


class Picked(Struct, frozen=True, order=True):
    """A tag, with what it pointed at where it was chosen if that is known, or a manifest by its digest."""

    repository: str
    tag: str = ""
    digest: str = ""
    seen: str = ""

    @property
    def target(self) -> str:
        """What a request names."""
        return self.digest or self.tag


def selectors(what: What, *, host: str, whole: bool = False) -> list[Selector]:
    """Return what was named, checked against the grammar.

    Args:
        what: What the user gave.
        host: The registry's ``host[:port]``: a reference to another one is an error.
        whole: Whether a repository's name alone means all its tags; if not, it is an error.

    Raises:
        InvalidReference: A name that the grammar forbids.
        InvalidArgument: A reference to another registry, a frame without the columns, or a bare repository.

    Example:
        >>> selectors("vm/centos8:8.*", host="localhost:5000")
        [Selector(repository='vm/centos8', tag='8.*', digest='', seen='')]
    """
    if _is_frame(what):
        return _rows(what)
    named = [what] if isinstance(what, str | Reference) else list(what) if isinstance(what, Iterable) else [what]
    found = [_selector(each_, host) for each_ in named]
    for selector in found:
        if not whole and not selector.tag and not selector.digest:
            raise InvalidArgument(
                f"{selector.repository} names a repository and no tag",
                hint=f"write {selector.repository}:TAG, or {selector.repository}:* for every tag",
            )
    return list(dict.fromkeys(found))


def _is_frame(what: object) -> TypeGuard[pd.DataFrame]:
    """Whether it is a DataFrame: where there is one, pandas is loaded, and names need not wait for it."""
    return isinstance(what, getattr(sys.modules.get("pandas"), "DataFrame", ()))


def _rows(frame: pd.DataFrame) -> list[Selector]:
    column = "tag" if "tag" in frame.columns else "digest"
    if not {"repository", column} <= set(frame.columns):
        raise InvalidArgument(
            "the DataFrame has no columns repository and tag, or repository and digest",
            hint="take rows of inventory.tags or inventory.manifests",
        )
    seen = frame["digest"] if column == "tag" and "digest" in frame.columns else [""] * len(frame)
    found = []
    for repository, target, digest in zip(frame["repository"], frame[column], seen, strict=True):
        if not isinstance(target, str):
            raise InvalidArgument(
                f"a row of {repository} has no {column}", hint=f"leave out the rows whose {column} is missing"
            )
        check_repository(repository)
        if column == "tag":
            # A tag that could not be read has no digest.
            found.append(Selector(repository, check_tag(target), seen=digest if isinstance(digest, str) else ""))
        else:
            found.append(Selector(repository, digest=Digest(target)))
    return list(dict.fromkeys(found))


def _selector(what: object, host: str) -> Selector:
    if not isinstance(what, str | Reference):
        raise InvalidArgument(
            f"{type(what).__name__} cannot name an image",
            hint="write repository:tag, a glob, a list of these, or give rows of inventory.tags",
        )
    if isinstance(what, str) and _GLOB.search(what):
        repository, colon, tag = what.removeprefix(f"{host}/").partition(":")
        if colon and not tag:
            raise InvalidReference(f"no tag after the colon: {what!r}", hint="write repository:tag")
        if "@" in what:
            raise InvalidReference(f"a digest cannot be a glob: {what!r}", hint="write repository@sha256:…")
        # What the globs stand for is any letter: the rest must be lawful.
        check_repository(re.sub(r"\[[^\]]*\]|[*?\[]", "x", repository.replace("**", "*")))
        if tag:
            check_tag(re.sub(r"\[[^\]]*\]|[*?\[]", "x", tag))
        return Selector(repository, tag)
    reference = Reference.parse(what, registry=host) if isinstance(what, str) else what
    if reference.registry not in (None, host):
        raise InvalidArgument(
            f"{reference} is on {reference.registry}, but this is {host}", hint="connect to that registry"
        )
    return Selector(reference.repository, "" if reference.digest else reference.tag or "", str(reference.digest or ""))


def repositories(named: Iterable[Selector], listed: Iterable[str]) -> list[str]:
    """Return the repositories that are meant: the names, and of ``listed`` what the globs match.

    Raises:
        NotFound: A glob matches nothing.
    """
    listed = list(listed)
    found: dict[str, None] = {}
    for selector in named:
        matching = select(listed, [selector.repository]) if _GLOB.search(selector.repository) else [selector.repository]
        if not matching:
            raise NotFound(f"no repository matches {selector.repository}", hint="the catalog lists the repositories")
        found.update(dict.fromkeys(matching))
    return list(found)


def pick(named: Iterable[Selector], tags: Iterable[tuple[str, str]]) -> list[Picked]:
    """Return the tags and digests that are meant, in order, each once.

    Args:
        named: What was named.
        tags: Repository and tag of every tag that there is in the repositories concerned.

    Raises:
        NotFound: Something that was named is not there. (Whether a digest is there is left to the caller.)
    """
    listed = list(tags)
    known = set(listed)
    found: dict[Picked, None] = {}
    for selector in named:
        if selector.digest:
            found[Picked(selector.repository, digest=selector.digest)] = None
            continue
        if selector.exact:
            if (selector.repository, selector.tag) not in known:
                raise NotFound(
                    f"there is no {selector}", hint="the catalog lists the repositories, tags lists what is in one"
                )
            found[Picked(selector.repository, selector.tag, seen=selector.seen)] = None
            continue
        repository = re.compile(fnmatch.translate(selector.repository))
        tag = re.compile(fnmatch.translate(selector.tag or "*"))
        matching = [Picked(*row) for row in listed if repository.match(row[0]) and tag.match(row[1])]
        if not matching:
            raise NotFound(f"nothing matches {selector}", hint="tags lists what is in a repository")
        found.update(dict.fromkeys(matching))
    return list(found)


def check_seen(one: Picked, now: str) -> None:
    """Check that a tag still points at what it did where it was chosen.

    Raises:
        Refused: It was moved.

    Example:
        >>> check_seen(Picked("vm/centos8", "8"), "sha256:…")
    """
    if one.seen and now and one.seen != now:
        was, is_ = Digest(one.seen).short, Digest(now).short
        raise Refused(
            f"{one.repository}:{one.tag} pointed to {was} when it was chosen, and points to {is_} now",
            hint="read the inventory again, and choose anew",
        )


async def find(
    reader: Reader, what: What, *, whole: bool = False, among: str | Sequence[str] | None = None
) -> tuple[list[Picked], dict[str, list[str]]]:
    """Ask the registry for what was named; return it, and the tags of every repository concerned.

    Args:
        reader: Of the registry.
        what: What was named.
        whole: As in :func:`selectors`.
        among: Match globs with these, instead of the catalog (:func:`regnb.crawl.naming.named`).

    Raises:
        NotFound: Something that was named is not there.
        InvalidReference, InvalidArgument: As :func:`selectors` says.
    """
    from regnb.crawl.reader import each  # what reads files loads no HTTP

    named = selectors(what, host=reader.client.host, whole=whole)
    listed = await _listed(reader, among) if any(_GLOB.search(one.repository) for one in named) else []
    try:
        names = repositories(named, listed)
        tags = dict(zip(names, await each(reader.tags, names), strict=True))
        return pick(named, ((name, tag) for name in names for tag in tags[name])), tags
    except NotFound as error:  # a copy has two places where something may be missing
        where = reader.client.host
        message = error.message if where in error.message else f"{where}: {error.message}"
        raise error.saying(message, hint=error.hint) from error.__cause__


async def _listed(reader: Reader, among: str | Sequence[str] | None) -> list[str]:
    """Return the repositories that globs are matched with; names alone need no catalog."""
    patterns = None if among is None else naming.named(among)
    if patterns is not None and naming.exact(patterns) == list(dict.fromkeys(patterns)):
        return patterns
    listed = [name async for page in reader.client.catalog() for name in page]
    return listed if patterns is None else select(listed, patterns)

"""Say what of a storage nothing needs, how old it is, and what is spared although nothing needs it."""

from __future__ import annotations

import fnmatch
import math
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from regnb.change.collect.place import Look
from regnb.change.collect.state import State
from regnb.change.journal import Receipt, folder
from regnb.change.plan import Effect, EffectKind
from regnb.change.sweep import PHASES, Kind, Options, Row, Sweep, check_allow
from regnb.crawl.listing import blob_file, is_tag
from regnb.crawl.records import describe
from regnb.errors import BrokenReceipt, InvalidArgument, InvalidReference, Refused, StorageError
from regnb.oci.reference import is_digest
from regnb.text import count, human, names

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_NAMES: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"))
_UNSEEN: Final = (
    "One thing cannot be seen: a client that was told that a blob exists, and has not pushed its manifest yet. Its "
    "push may fail; pushed again, it is whole."
)
_UNTAGGED: Final = (
    "Untagged means that no tag on disk leads to it. Harbor has tags that only its database knows: do not apply this "
    "plan to a storage of Harbor's."
)
_CACHES: Final = (
    "A registry that runs meanwhile may still remember blobs that are gone: restart every replica afterwards; with "
    "redis, delete its keys that begin with blobs:: and repository::."
)


class LocalLook:
    """Looks at single files of a local storage. It follows no symbolic link."""

    def __init__(self, base: str) -> None:
        self._base = base

    def age(self, path: str) -> tuple[float, int] | None:
        """See `Look.age`."""
        about = self._age(f"{self._base}/{path}")
        return about if about and about[0] < math.inf else None

    def ages(self, folder: str, paths: Iterable[str]) -> Iterator[tuple[float, int] | None]:
        """See `Look.ages`. The system walks the way to the folder once."""
        try:
            at = os.open(f"{self._base}/{folder}", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except (FileNotFoundError, NotADirectoryError):
            yield from (None for _ in paths)
            return
        try:
            for path in paths:
                yield self._age(path, at)
        finally:
            os.close(at)

    @staticmethod
    def _age(path: str, folder: int | None = None) -> tuple[float, int] | None:
        try:
            about = os.stat(path, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return (about.st_mtime, about.st_size) if stat.S_ISREG(about.st_mode) else (math.inf, 0)

    def names(self, path: str) -> Sequence[str]:
        """See `Look.names`."""
        try:
            return sorted(entry.name for entry in os.scandir(f"{self._base}/{path}"))
        except (FileNotFoundError, NotADirectoryError):
            return ()


def seconds(age: str) -> int:
    """Return an age that a person wrote: a number and m, h, d or w; 0 is allowed.

    Raises:
        InvalidArgument: It is none.

    Example:
        >>> seconds("24h"), seconds("7d"), seconds("0")
        (86400, 604800, 0)
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])|0", age.strip())
    if match is None:
        raise InvalidArgument(
            f"{age[:80]!r} is not a valid age", hint="write a number and m, h, d or w, such as 24h or 7d"
        )
    return int(match[1]) * _UNITS[match[2]] if match[1] else 0


def _time(seconds: int) -> str:
    unit, name = next((unit, name) for unit, name in _NAMES if seconds % unit == 0)
    return count(seconds // unit, name)


@dataclass
class Spared:
    """What undo of the receipts at hand needs.

    Attributes:
        manifests: Repository to digests.
        receipts: Digest to the receipts that need it.
        broken: Receipts that cannot be read.
    """

    manifests: dict[str, set[str]] = field(default_factory=dict)
    receipts: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def check_globs(state: State, globs: Iterable[str]) -> None:
    """Check that each name or glob of a repository matches one.

    Raises:
        InvalidArgument: One matches none.

    Example:
        ``check_globs(state, ["vm/*"])``
    """
    known = state.repositories.keys() | state.uploading
    for glob in globs:
        if not fnmatch.filter(known, glob):
            raise InvalidArgument(f"no repository matches {glob!r}", hint="regnb audit lists the repositories")


def undoable(where: Path | None = None) -> Spared:
    """Return the manifests that undo of the receipts at hand needs on disk: what it puts back lists them.

    Args:
        where: The folder of receipts.

    Example:
        >>> undoable(Path("/nonexistent")).manifests
        {}
    """
    spared = Spared()
    for receipt in deletions(where, broken=spared.broken):
        for step in receipt.plan.steps:
            if step.writes and step.before:
                for digest in _listed(receipt, step.before):
                    spared.manifests.setdefault(step.repository, set()).add(digest)
                    spared.receipts.setdefault((step.repository, digest), set()).add(receipt.name)
    return spared


def deletions(where: Path | None = None, *, broken: list[str] | None = None) -> list[Receipt]:
    """Return the receipts at hand of changes in a registry that were not taken back.

    Args:
        where: The folder of receipts.
        broken: Filled with the names of those that cannot be read.

    Example:
        >>> deletions(Path("/nonexistent"))
        []
    """
    taken_back, found = set[str](), list[Receipt]()
    for path in sorted((where or folder()).glob("*.jsonl")):
        try:
            receipt = Receipt.load(path)
        except (BrokenReceipt, StorageError):
            if broken is not None:
                broken.append(path.stem)
            continue
        if receipt.sweep is not None:
            continue
        if receipt.plan.operation == "undo" and receipt.status == "done":
            taken_back.add(receipt.plan.receipt)
        found.append(receipt)
    return [receipt for receipt in found if receipt.name not in taken_back]


def _listed(receipt: Receipt, root: str) -> set[str]:
    """Return a manifest of a receipt with those that it lists, as far as the receipt has their bytes."""
    found: set[str] = set()
    todo = [root]
    while todo:
        digest = todo.pop()
        if digest in found:
            continue
        found.add(digest)
        if raw := receipt.content(digest):
            todo += describe(digest, raw.media_type, raw.data)[0].children
    return found


def plan_collect(
    state: State,
    look: Look,
    url: str,
    *,
    options: Options,
    allow: Iterable[str] = (),
    spared: Spared | None = None,
    now: datetime | None = None,
) -> Sweep:
    """Plan a collection: a row for each thing that nothing needs and that is old enough.

    Args:
        state: What the storage holds.
        look: Looks at single files of it.
        url: The storage.
        options: What is asked for.
        allow: Of :data:`regnb.change.sweep.ALLOWANCES`.
        spared: What undo of receipts needs.
        now: When ages are counted from.

    Raises:
        Refused: Something cannot be read, so that it is not known what it needs.
        InvalidArgument: Something that cannot be allowed.

    Example:
        ``sweep = plan_collect(state, LocalLook(base), "/srv/registry", options=Options())``
    """
    allowed = check_allow(allow)
    if state.gaps:
        more = f" (and {len(state.gaps) - 1:,} more)" if len(state.gaps) > 1 else ""
        raise Refused(
            f"{url} could not be read completely, and the unread part may need any of its blobs: {state.gaps[0]}{more}",
            hint="read the storage as the registry's own user; regnb audit names every problem",
        )
    planning = _Planning(state, look, options, (now or datetime.now(UTC)).timestamp())
    undo = None if "undo" in allowed else spared
    planning.revisions(undo)
    planning.blobs()
    if "writer" in allowed:
        planning.effect("uploads", "", "", "uploads are left alone while somebody may push")
    else:
        planning.uploads()
    if state.parts is None:
        planning.effect("uploads", "", "", "multipart uploads cannot be listed with these credentials: they stay")
    planning.history()
    planning.named()
    for name in (spared or Spared()).broken:
        planning.effect("receipt", "", name, "this receipt cannot be read: what its undo needs is not spared")
    steps = planning.sorted()
    return Sweep(
        operation="collect",
        url=url,
        steps=steps,
        options=options,
        effects=tuple(planning.effects),
        notes=(*planning.young(), *(_notes(options) if steps else ())),
        witness=state.witness(),
        allow=allowed,
    )


def _notes(options: Options) -> Iterator[str]:
    if not options.trash:
        yield "Without a trash nothing can be put back, and undo of earlier deletions fails where it needs this."
    elif options.place == "list":
        yield (
            "This bucket keeps no versions: everything is only listed now. regnb trash empty removes later what is "
            "still garbage, and asks then whether anybody can push."
        )
    elif options.place == "versions":
        yield "Everything is hidden behind its versions; nothing is free until the trash is emptied."
    else:
        yield "Everything is moved into a trash beside the storage; nothing is free until the trash is emptied."
    if not options.endpoints:
        yield "No endpoint is named, so regnb cannot check that the registry is read-only or stopped."
    if options.untagged:
        yield _UNTAGGED
    yield _UNSEEN
    yield _CACHES


class _Planning:
    """Rows and effects while they are found."""

    def __init__(self, state: State, look: Look, options: Options, now: float) -> None:
        self.effects: list[Effect] = []
        self._rows: dict[Kind, list[Row]] = {kind: [] for kind in PHASES}
        self._state, self._look, self._options, self._now = state, look, options, now
        self._chosen = {name for name, one in state.repositories.items() if one.named and self._matches(name)}
        self._kept = {name: state.served(name) for name in state.repositories}
        self._going: dict[str, float] = {}
        self._young: dict[int, tuple[int, int]] = {}

    def _matches(self, name: str) -> bool:
        globs = self._options.repositories
        return not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)

    def effect(self, effect: EffectKind, repository: str, reference: str, message: str, size: int = 0) -> None:
        """Name something that is spared, or that is not a row."""
        self.effects.append(Effect(effect, repository, reference, size, message))

    def sorted(self) -> tuple[Row, ...]:
        """Return the rows in the order in which they are moved."""
        key = lambda row: (row.repository, row.tag, row.reference)  # noqa: E731 -- as short as its use
        return tuple(row for kind in PHASES for row in sorted(self._rows[kind], key=key))

    def _is_old(self, when: float, size: int, least: int | None = None) -> bool:
        """Whether something has the least age, by default the grace; what has not is counted."""
        least = self._options.grace if least is None else least
        if self._now - when >= least:
            return True
        number, total = self._young.get(least, (0, 0))
        self._young[least] = number + 1, total + size
        return False

    def young(self) -> Iterator[str]:
        """Yield a sentence about what nothing needs and is not old enough."""
        for least, (number, size) in self._young.items():
            limit = "grace" if least == self._options.grace else "upload age"
            age = f"written less than {_time(least)} ago (the plan's {limit})" if least else "dated in the future"
            # The blobs of an untagged manifest that stays are not counted.
            total = f"{'at least ' * self._options.untagged}{human(size)}"
            yield f"Left alone: {count(number, 'thing')} ({total}) that nothing needs, {age}."

    def _row(self, kind: Kind, reference: str, when: float, size: int, reason: str, **more: str) -> None:
        # What isoformat gives in three times as long: all of one length, so that texts compare as dates do.
        date = datetime.fromtimestamp(when, UTC)
        youngest = f"{msgspec.to_builtins(date)[:19]}.{date.microsecond:06}+00:00"
        row = Row(kind=kind, reference=reference, size=size, youngest=youngest, reason=reason, **more)
        try:
            row.check()
        except (InvalidArgument, InvalidReference):
            return  # no registry makes such a name
        self._rows[kind].append(row)

    def revisions(self, spared: Spared | None) -> None:
        """Find the manifests that no tag leads to, if they are to go, and what keeps the others."""
        if not self._options.untagged:
            return
        for name in sorted(self._chosen):
            holding = self._state.repositories[name]
            if holding.unread:
                text = "its manifests stay: what its corrupt tag means is not known"
                self.effect("corrupt tag", name, holding.unread[0], text)
                continue
            served = self._kept[name]
            roots = {digest for digest in holding.tags.values() if digest}
            wanted = (spared.manifests.get(name, set()) if spared else set()) & served
            reached = self._with_referrers(roots, served)
            for digest in sorted(wanted - reached):
                who = names(sorted(spared.receipts[name, digest])) if spared else ""
                self.effect("undo", name, digest, f"spared: undo of receipt {who} needs it", self._size(digest))
            dated = {
                digest: self._look.age(f"repositories/{name}/_manifests/revisions/{digest.replace(':', '/')}/link")
                for digest in holding.revisions.keys() - reached
            }
            young = {digest for digest, about in dated.items() if about is None or not self._is_old(*about)}
            kept = self._with_referrers(roots | wanted | young, served)
            # A link that says another digest than its path is served under either name.
            twins = [pair for pair in holding.revisions.items() if pair[0] != pair[1]]
            while some := [pair for pair in twins if len(kept.intersection(pair)) == 1]:
                kept = self._with_referrers(kept.union(*some), served)
            gone = holding.revisions.keys() - kept
            for digest in gone:
                if about := dated[digest]:
                    self._going[digest] = max(self._going.get(digest, 0), about[0])
                    self._row("revision", digest, *about, "no tag leads to this manifest", repository=name)
            self._kept[name] = served - gone

    def _with_referrers(self, roots: Iterable[str], served: Collection[str]) -> set[str]:
        """Return what some manifests lead to, with everything that speaks about any of it."""
        manifests = self._state.manifests
        about: dict[str, list[str]] = {}
        for digest in served:
            if (needing := manifests.get(digest)) and needing.subject:
                about.setdefault(needing.subject, []).append(digest)
        found: set[str] = set()
        todo = set(roots)
        while todo:
            new = self._state.below(todo) - found
            found |= new
            todo = {referrer for digest in new for referrer in about.get(digest, ())} - found
        return found

    def _size(self, digest: str) -> int:
        return self._state.blobs.get(digest, 0)

    def blobs(self) -> None:
        """Find the links and blobs that no manifest which stays needs."""
        state = self._state
        here = {name: state.needed(kept) for name, kept in self._kept.items()}
        needed: set[str] = set().union(*here.values())
        garbage = state.blobs.keys() - needed
        youngest: dict[str, float] = {}
        foreign: set[str] = set()
        links: list[tuple[str, str, tuple[float, int]]] = []
        for name, holding in state.repositories.items():
            # Another name of what is needed stays, too.
            idle = [one for one in holding.layers - here[name] if state.aliases.get(one, one) not in here[name]]
            paths = [f"{digest.replace(':', '/')}/link" for digest in idle]
            for digest, about in zip(idle, self._look.ages(f"repositories/{name}/_layers", paths), strict=True):
                if about is None:
                    continue  # it was deleted, and only its folder is left
                target = state.aliases.get(digest, digest)
                youngest[target] = max(youngest.get(target, 0), about[0])
                if name in self._chosen:
                    links.append((name, digest, about))
                else:
                    foreign.add(target)
        last = self._last(links) if state.files else set()
        for name, digest, about in links:
            if self._is_old(*about) and (name, digest) not in last:
                reason = "no manifest of this repository needs this layer"
                self._row("layer link", digest, *about, reason, repository=name)
        linked = youngest.keys() | self._going.keys()
        some = [
            digest
            for digest in garbage
            if not self._options.repositories or (digest in linked and digest not in foreign)
        ]
        for digest, about in zip(some, self._look.ages("", map(blob_file, some)), strict=True):
            if about is None:
                continue
            when = max(about[0], youngest.get(digest, 0), self._going.get(digest, 0))
            if self._is_old(when, about[1]):
                kind: Kind = "manifest" if digest in self._going else "blob"
                self._row(kind, digest, when, about[1], "no manifest that stays needs it")

    def _last(self, links: Sequence[tuple[str, str, tuple[float, int]]]) -> set[tuple[str, str]]:
        """Return a link of each repository of a bucket that would lose all.

        A bucket's folders vanish with their last key. Without ``_layers`` a collection of version 2.8 does not see the
        repository, and removes what its tags need; one of version 3 ends.
        """
        going: dict[str, list[tuple[float, str]]] = {}
        for name, digest, about in links:
            going.setdefault(name, []).append((about[0], digest))
        repositories = self._state.repositories
        return {(name, max(some)[1]) for name, some in going.items() if len(some) == len(repositories[name].layers)}

    def uploads(self) -> None:
        """Find the uploads that were given up."""
        for name in filter(self._matches, self._state.uploading):
            for upload in self._look.names(f"repositories/{name}/_uploads"):
                found = list(self._below(f"repositories/{name}/_uploads/{upload}"))
                if not found:
                    continue
                size, when = sum(size for _, size in found), max(when for when, _ in found)
                if self._is_old(when, size, self._options.uploads_older_than):
                    self._row("upload", upload, when, size, "this upload was not finished", repository=name)

    def _below(self, path: str) -> Iterator[tuple[float, int]]:
        """Yield the date and the bytes of every file below a folder."""
        if about := self._look.age(path):
            yield about
        else:
            for name in self._look.names(path):
                yield from self._below(f"{path}/{name}")

    def history(self) -> None:
        """Find the entries of tag histories beyond those that each tag keeps."""
        keeps = self._options.tag_history
        if keeps is None:
            return
        for name in self._chosen:
            for tag, current in self._state.repositories[name].tags.items():
                if not is_tag(tag):
                    continue
                found: list[tuple[float, str, int]] = []
                index = f"repositories/{name}/_manifests/tags/{tag}/index/sha256"
                for hexadecimal in self._look.names(index):
                    digest = f"sha256:{hexadecimal}"
                    if digest != current and is_digest(digest):
                        about = self._look.age(f"{index}/{hexadecimal}/link")
                        found += [(about[0], digest, about[1])] if about else []
                for when, digest, size in sorted(found, reverse=True)[keeps:]:
                    if current and self._is_old(when, size):
                        reason = f"not among the {keeps:,} newest in this tag's history"
                        reason = reason if keeps else "this tag pointed to it before"
                        self._row("tag history", digest, when, size, reason, repository=name, tag=tag)

    def named(self) -> None:
        """Name what only a person may decide about: dangling tags and empty repositories."""
        for name in sorted(self._chosen):
            holding = self._state.repositories[name]
            served = self._state.served(name)
            for tag, digest in sorted(holding.tags.items()):
                if tag not in holding.unread and (not digest or digest not in served):
                    self.effect("dangling tag", name, tag, "it leads to no manifest; it stays, and can be deleted")
            if not holding.tags and not served:
                self.effect("empty repository", name, "", "it has no tag and no manifest; its folders stay")


def stale(confirmed: Sequence[Row], now: Sequence[Row], *, resumed: bool = False) -> list[Row]:
    """Return the rows of a confirmed plan that a plan of now does not have just so.

    Args:
        confirmed: The rows that are to be moved.
        now: The rows of a plan that was made now.
        resumed: Whether some links were moved already: without them a manifest's bytes are a blob, and look older.

    Example:
        >>> row = Row(kind="upload", repository="app", reference="1")
        >>> stale([row], [row]), len(stale([row], []))
        ([], 1)
    """
    if confirmed == now:
        return []

    def key(row: Row) -> tuple[object, ...]:
        if resumed and row.kind == "upload":
            return (row.path,)  # in a bucket some of its keys may be gone
        return (row.path, row.size) if resumed else (row.path, row.size, row.kind, row.youngest)

    there = {key(row) for row in now}
    return [row for row in confirmed if key(row) not in there]

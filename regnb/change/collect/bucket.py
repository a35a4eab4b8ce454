"""The trash of a bucket that speaks S3: keys hidden behind their versions, listed for a later removal, or copied.

What a run is about is written down before anything is changed, in ``_regnb-trash/<run>/index.json``: a bucket's keys do
not say it themselves. Where a collection has no trash, its receipt alone does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

import msgspec
from msgspec import Struct

from regnb.change.collect.keys import BATCH, Keys, raise_first
from regnb.change.collect.place import Look, Moved, Run, moved_at
from regnb.change.collect.state import State
from regnb.change.sweep import TRASH, Options, Row, Sweep
from regnb.crawl.files import reason
from regnb.crawl.listing import blob_file
from regnb.errors import StorageError
from regnb.oci.manifest import MANIFEST_LIMIT

if TYPE_CHECKING:
    import fsspec

_AT_ONCE: Final = 16
"""Copies at the same time."""
_LARGE: Final = 5 << 30
"""Bytes beyond which a copy needs several requests."""
_INDEX: Final = "index.json"
_LINKS: Final = "repositories"
"""The folder of all links."""


class _Index(Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is about.

    Attributes:
        rows: In the order of the plan.
        keys: When each key was written, and its bytes.
        options: What the collection was asked for.
        allow: What it was allowed.
    """

    rows: tuple[Row, ...]
    keys: dict[str, tuple[float, int]]
    options: Options
    allow: tuple[str, ...] = ()


class ListedLook:
    """Looks at single keys of a bucket, as one listing told them: it sends no request."""

    def __init__(self, files: Mapping[str, tuple[float, int]]) -> None:
        self._files = files

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._files)

    def age(self, path: str) -> tuple[float, int] | None:
        """See `Look.age`."""
        return self._files.get(path)

    def ages(self, folder: str, paths: Iterable[str]) -> Iterator[tuple[float, int] | None]:
        """See `Look.ages`."""
        return (self._files.get(f"{folder}/{path}" if folder else path) for path in paths)

    def below(self, folder: str) -> Iterator[str]:
        """Yield the keys below a folder.

        Example:
            >>> list(ListedLook({"a/b": (0, 0), "ab": (0, 0)}).below("a"))
            ['a/b']
        """
        for at in range(bisect_left(self._sorted, f"{folder}/"), len(self._sorted)):
            if not self._sorted[at].startswith(f"{folder}/"):
                return
            yield self._sorted[at]

    def names(self, path: str) -> Sequence[str]:
        """See `Look.names`."""
        return list(dict.fromkeys(key[len(path) + 1 :].partition("/")[0] for key in self.below(path)))


class Bucket(Keys):
    """The keys of a bucket while they are moved.

    Args:
        filesystem: Of s3fs.
        base: The bucket, and the folder ``docker/registry/v2`` in it.
        plan: What is to be done, if anything.

    Raises:
        Busy: Another collection is at work.

    Example:
        ``with Bucket(filesystem, "bucket/docker/registry/v2", plan) as bucket: ...``
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, base: str, plan: Sweep | None = None) -> None:
        super().__init__(filesystem, base)
        self._plan = plan
        self._freed = 0
        self._files: Mapping[str, tuple[float, int]] = {}
        self._parts: Mapping[str, Sequence[str]] = {}
        self._planned: frozenset[str] = frozenset()
        self._chosen: Mapping[str, Sequence[Row]] = {}
        self._before: State | None = None
        self._removed: set[str] = set()
        self._returned: set[str] = set()
        self._indexes: dict[str, _Index] = {}

    def __enter__(self) -> Self:
        if self._plan and not (self._plan.operation == "collect" and self._only_lists):
            self._lock(self._plan.nonce)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._unlock()

    @property
    def returns(self) -> bool:
        """Whether what was moved can be put back."""
        return self._place != "none"

    @property
    def _place(self) -> Literal["versions", "list", "copies", "none", "folder"]:
        options = self._plan.options if self._plan else Options()
        return options.place if options.trash or options.place == "versions" else "none"

    @property
    def _only_lists(self) -> bool:
        return self._place == "list"

    def take(self, plan: Sweep) -> None:
        """See `Place.take`."""
        self._plan = plan

    def look(self, state: State) -> Look:
        """See `Place.look`."""
        self._files, self._parts, self._before = state.files, state.parts or {}, state
        return ListedLook(state.files)

    def runs(self, state: State | None = None) -> list[Run]:
        """See `Place.runs`."""
        if state is None:
            return self._runs(self._folders(TRASH))
        keys = (key for key in state.files if key.startswith(f"{TRASH}/"))
        return self._runs(key.split("/")[1] for key in keys if key.endswith(f"/{_INDEX}"))

    def listed(self, state: State) -> set[str]:
        """See `Place.listed`."""
        return {row.path for run in self.runs(state) if run.listed for row in run.rows}

    def _runs(self, names: Iterable[str]) -> list[Run]:
        found = []
        for name in sorted(names):
            if (moved := moved_at(name)) is not None:
                try:
                    index = self._index(name)
                except FileNotFoundError:
                    continue  # removed meanwhile
                found.append(Run(name, moved, index.rows, index.options, index.allow))
        return found

    def _index(self, run: str) -> _Index:
        if run not in self._indexes:
            data = self._read(f"{TRASH}/{run}/{_INDEX}")
            try:
                index = msgspec.json.decode(data, type=_Index)
                for row in index.rows:
                    row.check()
            except (msgspec.MsgspecError, ValueError) as error:
                text = f"the list of the run {run} in {self.base} is not one of regnb's: {str(error)[:200]}"
                raise StorageError(text, hint=f"look at the key {self._key(TRASH)}/{run}/{_INDEX}") from None
            self._indexes[run] = index
        return self._indexes[run]

    def content(self, digest: str, runs: Sequence[Run]) -> bytes | None:
        """See `Place.content`."""
        path = blob_file(digest)
        for run in runs:
            if not any(row.reference == digest and row.kind in ("blob", "manifest") for row in run.rows):
                continue
            if run.options.place == "copies":
                return self._read(f"{TRASH}/{run.run}/{path}")[:MANIFEST_LIMIT]
            for version, is_marker, _ in self._versions().get(path, ()):
                if not is_marker:
                    return self._read(path, version=version)[:MANIFEST_LIMIT]
        return None

    def _keys(self, row: Row, files: Mapping[str, object]) -> list[str]:
        """Return the keys of a row: one, or all that an upload has."""
        if row.leaf:
            return [f"{row.path}/{row.leaf}"]
        return [path for path in files if path.startswith(f"{row.path}/")]

    def probe(self) -> None:
        """See `Place.probe`: only the removal itself can show whether it is allowed, and it ends at the first key."""

    def begin(self, run: str, sweep: Sweep, state: State) -> None:
        """See `Place.begin`."""
        self.look(state)
        self._planned = frozenset(row.path for row in sweep.steps)
        if self._place == "none":
            return
        if f"{TRASH}/{run}/{_INDEX}" in self._files:
            self._index(run)  # of the application that is resumed
        else:
            keys = {key: self._files[key] for row in sweep.steps for key in self._keys(row, self._files)}
            self._write(run, _Index(sweep.steps, keys, sweep.options, sweep.allow))

    def _write(self, run: str, index: _Index) -> None:
        self._indexes[run] = index
        self._call("put_object", Key=self._key(f"{TRASH}/{run}/{_INDEX}"), Body=msgspec.json.encode(index))

    def moves(self, rows: Iterable[Row], run: str) -> Iterator[Moved]:
        """See `Place.moves`."""
        rows = list(rows)
        if self._only_lists:
            yield from _nothing(rows)
            return
        for some, keys in self._batches(rows, self._files):
            there = [key for row in some for key in keys[row.path] if key in self._files]
            failed = self._copied([(key, f"{TRASH}/{run}/{key}") for key in there]) if self._place == "copies" else {}
            failed |= self._remove((key, "") for key in there if key not in failed)
            self._removed.update(key for key in there if key not in failed)
            if self._place == "none":
                self._abort(there)
                self._freed += sum(self._files[key][1] for key in there if key not in failed)
            for row in some:
                _check(keys[row.path], failed)
                yield "moved" if any(key in self._files for key in keys[row.path]) else "gone"

    def _batches(
        self, rows: Sequence[Row], files: Mapping[str, object]
    ) -> Iterator[tuple[list[Row], dict[str, list[str]]]]:
        """Yield rows with their keys, as many as one request removes."""
        some, keys, total = list[Row](), dict[str, list[str]](), 0
        for row in rows:
            found = self._keys(row, files)
            if some and total + len(found) > BATCH:
                yield some, keys
                some, keys, total = [], {}, 0
            some.append(row)
            keys[row.path] = found
            total += len(found)
        if some:
            yield some, keys

    def _copied(self, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Copy keys, and return why some of them could not be."""

        def copy(pair: tuple[str, str]) -> str:
            source, target = pair
            try:
                if (self._files.get(source) or (0.0, 0))[1] > _LARGE:
                    self._filesystem.copy(f"{self.base}/{source}", f"{self.base}/{target}")
                else:
                    where = {"Bucket": self._bucket, "Key": self._key(source)}
                    self._call("copy_object", Key=self._key(target), CopySource=where)
            except OSError as error:
                return reason(error)
            return ""

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return {pair[0]: why for pair, why in zip(pairs, pool.map(copy, pairs), strict=True) if why}

    def _abort(self, keys: Iterable[str]) -> None:
        """End multipart uploads: what they hold cannot be put back."""
        for key in keys:
            for upload in self._parts.get(key, ()):
                self._call("abort_multipart_upload", Key=self._key(key), UploadId=upload)

    def backs(self, rows: Iterable[Row], run: str) -> Iterator[Moved]:
        """See `Place.backs`."""
        rows = list(rows)
        index = self._index(run)
        if index.options.place == "list":
            hows = _nothing(rows)
        elif index.options.place == "copies":
            hows = self._copies_back(rows, index, run)
        else:
            hows = self._versions_back(rows, index)
        for row, how in zip(rows, hows, strict=True):
            self._returned.add(row.path)
            yield how

    def _versions_back(self, rows: Sequence[Row], index: _Index) -> Iterator[Moved]:
        versions = self._versions()
        for some, keys in self._batches(rows, index.keys):
            hows, markers = dict[str, Moved](), list[tuple[str, str]]()
            for row in some:
                hows[row.path] = "gone"
                for key in keys[row.path]:
                    found = versions.get(key, [])
                    above = [name for name, is_marker, _ in found if is_marker]
                    if found and not found[0][1]:
                        # What is served now was put back before, or pushed again.
                        hows[row.path] = "back" if found[0][2] == index.keys[key][0] else "there"
                    elif len(above) < len(found):
                        first = next(at for at, one in enumerate(found) if not one[1])
                        markers += [(key, name) for name, _, _ in found[:first]]
                        hows[row.path] = "moved"
            failed = self._remove(markers)
            for row in some:
                _check(keys[row.path], failed)
                yield hows[row.path]

    def _copies_back(self, rows: Sequence[Row], index: _Index, run: str) -> Iterator[Moved]:
        self._filesystem.invalidate_cache()
        found = self._filesystem.find(self.base, detail=True)
        there = {name.removeprefix(f"{self.base}/"): (0.0, int(about["size"] or 0)) for name, about in found.items()}
        self._files = there
        for some, keys in self._batches(rows, index.keys):
            todo, hows = list[str](), dict[str, Moved]()
            for row in some:
                copies = [key for key in keys[row.path] if f"{TRASH}/{run}/{key}" in there]
                taken = there.keys() & keys[row.path]
                hows[row.path] = ("there" if taken else "moved") if copies else "back" if taken else "gone"
                todo += copies if hows[row.path] == "moved" else []
            failed = self._copied([(f"{TRASH}/{run}/{key}", key) for key in todo])
            failed = {path.removeprefix(f"{TRASH}/{run}/"): why for path, why in failed.items()}
            failed |= self._remove((f"{TRASH}/{run}/{key}", "") for key in todo if key not in failed)
            for row in some:
                _check(keys[row.path], failed)
                yield hows[row.path]

    def holds(self, row: Row, run: str) -> bool:
        """See `Place.holds`: what an earlier application wrote down, and is not there any more, was moved by it."""
        if row.path not in self._planned:
            return False
        known = self._indexes[run].keys if run in self._indexes else {}
        return not any(key in self._files for key in self._keys(row, known))

    def barrier(self) -> None:
        """See `Place.barrier`: what a bucket confirmed is kept."""

    def unchanged(self) -> State | None:
        """See `Place.unchanged`: the listing of all links shows it, as every push writes some."""
        before, self._before = self._before, None
        if before is None:
            return None
        below = f"{_LINKS}/"
        left = {key: about for key, about in self._files.items() if key.startswith(below) and key not in self._removed}
        return before if self._below(below) == left else None

    def tidy(self, run: str = "") -> None:
        """See `Place.tidy`."""
        if not run or (index := self._indexes.get(run)) is None:
            return
        rest = tuple(row for row in index.rows if row.path not in self._returned)
        if not rest:
            self._forget_run(run, self._versions() if index.options.place == "versions" else {})
        elif len(rest) < len(index.rows):
            self._write(run, msgspec.structs.replace(index, rows=rest))

    def choose(self, wanted: Mapping[str, Sequence[Row]]) -> None:
        """See `Place.choose`."""
        self._chosen = wanted

    def empty(self, run: str) -> Sequence[Row]:
        """See `Place.empty`: in the order of a plan, so that no reader finds a link that leads nowhere.

        Raises:
            OSError: Something cannot be removed.
        """
        if self._place == "none":
            return ()
        try:
            index = self._index(run)
        except FileNotFoundError:
            return ()
        listed = index.options.place == "list"
        rows = self._chosen.get(run, ()) if listed else index.rows
        versions = self._versions() if index.options.place == "versions" else {}
        if index.options.place == "versions":
            gone = [
                (key, name)
                for key in index.keys
                for at, (name, is_marker, _) in enumerate(versions.get(key, ()))
                if at or is_marker  # what is served now stays
            ]
            raise_first(self._remove(gone))
        else:
            above = "" if listed else f"{TRASH}/{run}/"
            for kind in dict.fromkeys(row.kind for row in rows):
                some = [f"{above}{key}" for row in rows if row.kind == kind for key in self._keys(row, index.keys)]
                raise_first(self._remove((key, "") for key in some))
                self._removed.update(some)
        self._abort(key for row in rows if row.kind == "upload" for key in self._keys(row, index.keys))
        self._forget_run(run, versions)
        self._freed += sum(row.size for row in rows)
        return rows if listed else ()

    def _forget_run(self, run: str, versions: Mapping[str, Sequence[tuple[str, bool, float]]]) -> None:
        """Remove what a run wrote down, in every version."""
        key = f"{TRASH}/{run}/{_INDEX}"
        self._forget(key, (name for name, _, _ in versions.get(key, ())))

    def space(self) -> int:
        """See `Place.space`: a bucket is never full; what was removed for good counts."""
        return self._freed


def _nothing(rows: Sequence[Row]) -> Iterator[Moved]:
    """Yield of rows that were only listed that nothing more is to be done."""
    for _ in rows:
        yield "moved"


def _check(keys: Iterable[str], failed: Mapping[str, str]) -> None:
    raise_first({key: failed[key] for key in keys if key in failed})

"""Many registries as one: an inventory each, what is stored twice, and what a mirror lacks."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import anyio
import msgspec

from regnb import registry as registries
from regnb.analysis.difference import compare
from regnb.analysis.inventory import Inventory
from regnb.crawl.crawl import Progress
from regnb.crawl.naming import named
from regnb.environment import progress_bar
from regnb.errors import InvalidArgument, NotFound, RegnbError, StorageError
from regnb.layouts.shelf import find
from regnb.session import Show, run
from regnb.source import is_file, read
from regnb.tables.frame import Frame, make, of_rows, stacked
from regnb.text import count, human

if TYPE_CHECKING:
    from regnb.crawl.records import Records

AT_ONCE: Final = 8
"""Registries that are read at the same time."""


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One registry of a fleet, as ``[[registry]]`` of its file says it. It holds no password.

    Attributes:
        name: What it is called in every table.
        url: As for :func:`regnb.read`: a registry, a storage, a layout or a snapshot.
        repositories: Names and globs; by default all of them.
        mirror_of: The name of another one, each of whose tags it is to have.
        prefix: What this mirror puts before that one's repository names.
        ca_bundle: A file of certificates to trust.
        client_cert: A file with certificate and key.
        insecure: Whether any certificate is accepted.
        fill_cache: Whether a pull-through cache may be read, which fills it.
    """

    name: str
    url: str
    repositories: tuple[str, ...] = ()
    mirror_of: str = ""
    prefix: str = ""
    ca_bundle: str = ""
    client_cert: str = ""
    insecure: bool = False
    fill_cache: bool = False


Members: TypeAlias = "str | Path | Mapping[str, str | Path] | Sequence[str | Path | Member]"
"""A fleet's file; names with URLs; or URLs, which are then their names."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    registry: list[Member]


@dataclass(slots=True)
class _Reading:
    """What is counted while a fleet is read."""

    title: ClassVar[str] = "Reading"
    unit: ClassVar[str] = "tags"
    progress: dict[str, Progress] = field(default_factory=dict)
    done: int = 0

    def state(self) -> tuple[int, int, str]:
        """Return how many tags there may be, how many are done, and how many registries."""
        states = [each.state()[:2] for each in self.progress.values()]
        total, done = (sum(numbers) for numbers in zip(*states, strict=True))
        return total, done, f"{self.done:,}/{_registries(len(self.progress))}"


def _registries(number: int) -> str:
    return f"{number:,} registr{'y' if number == 1 else 'ies'}"


class Fleet:
    """Several registries that were read. Made by :func:`fleet`.

    Attributes:
        members: By name.
        inventories: By name, of those that could be read.
        errors: By name, why the others could not.
    """

    def __init__(
        self, members: Sequence[Member], inventories: Mapping[str, Inventory], errors: Mapping[str, RegnbError]
    ) -> None:
        self.members = {one.name: one for one in members}
        self.inventories = {name: inventories[name] for name in self.members if name in inventories}
        self.errors = {name: errors[name] for name in self.members if name in errors}

    @property
    def complete(self) -> bool:
        """Whether every registry was read, and everything in each."""
        return not self.errors and all(one.complete for one in self.inventories.values())

    def __getitem__(self, name: str) -> Inventory:
        if error := self.errors.get(name):
            raise error
        if name not in self.inventories:
            known = ", ".join(self.members)
            raise NotFound(f"the fleet has no registry {name!r}", hint=f"it has {known}")
        return self.inventories[name]

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    @cached_property
    def registries(self) -> Frame:
        """One row a registry (:data:`regnb.tables.columns.COLUMNS`, ``fleet``); one that is down is a row, too."""
        rows: list[tuple[object, ...]] = []
        for name, member in self.members.items():
            if error := self.errors.get(name):
                rows.append((name, member.url, "down", *[None] * 5, error.message, error.hint))
                continue
            found = self.inventories[name].summary
            state = "complete" if found.complete else "incomplete"
            figures = (found.repositories, found.tags, found.stored, found.pulled, found.problems)
            rows.append((name, member.url, state, *figures, "", ""))
        return of_rows("fleet", rows)

    def frame(self, name: str) -> Frame:
        """Return one frame of every inventory, one below the other, after a column ``registry``.

        Args:
            name: Such as ``tags``, ``repositories``, ``manifests``, ``layers``, ``blobs`` or ``problems``.

        Raises:
            InvalidArgument: There is no such frame.

        Example:
            >>> largest = fleet.frame("tags").groupby("registry")["size"].max()
        """
        for one in self.inventories.values():
            if name not in one.frames:
                known = ", ".join(sorted(one.frames))
                raise InvalidArgument(f"an inventory has no frame {name!r}", hint=f"it has {known}")
        return stacked("registry", name, {key: one.frames[name] for key, one in self.inventories.items()})

    @property
    def problems(self) -> Frame:
        """The problems of all of them (``problems``, after ``registry``)."""
        return self.frame("problems")

    @cached_property
    def twice(self) -> Frame:
        """Blobs that several registries hold, those that take most of the others' space first (``fleet_blobs``)."""
        blobs = self.frame("blobs")
        held = blobs[~blobs["kind"].isin(["missing", "foreign layer"])]
        each = held.groupby("digest", sort=False, observed=True).agg(
            kind=("kind", "first"), size=("size", "max"), registries=("registry", "nunique"), names=("registry", list)
        )
        each = each[each["registries"] > 1].reset_index()
        each["names"] = [", ".join(some) for some in each["names"]]
        each["again"] = each["size"] * (each["registries"] - 1)
        each = each.sort_values(["again", "digest"], ascending=[False, True], ignore_index=True)
        return make("fleet_blobs", {str(name): each[name] for name in each.columns})

    def compare(self, first: str, second: str, *, prefix: str = "") -> Frame:
        """Compare the tags of two of them (:func:`regnb.compare`).

        Raises:
            NotFound: There is no such registry.
            RegnbError: One of them could not be read.

        Example:
            >>> differing = fleet.compare("prod", "mirror").query("state != 'same'")
        """
        return compare(self[first], self[second], prefix=prefix)

    @cached_property
    def mirrors(self) -> Frame:
        """What each mirror lacks, has besides, or has otherwise (``comparison``, after ``mirror``).

        Of a pair of which one is down there is nothing.
        """
        found = {}
        for name, member in self.members.items():
            if member.mirror_of and not {name, member.mirror_of} & self.errors.keys():
                rows = self.compare(member.mirror_of, name, prefix=member.prefix)
                found[name] = rows[rows["state"] != "same"]
        return stacked("mirror", "comparison", found)

    def __repr__(self) -> str:
        read = self.inventories.values()
        stored = sum(one.summary.stored for one in read)
        again = sum(self.twice["again"].tolist())
        words = f"{_registries(len(self))}: {count(sum(one.summary.tags for one in read), 'tag')}, "
        words += f"{human(stored)}, of which {human(again)} more than once"
        down = f"; down: {', '.join(self.errors)}" if self.errors else ""
        gaps = [name for name, one in self.inventories.items() if not one.complete]
        return f"<Fleet of {words}{down}{'; incomplete: ' + ', '.join(gaps) if gaps else ''}>"

    def _repr_html_(self) -> str:
        return self.registries._repr_html_()


def members(what: Members) -> list[Member]:
    """Return the registries that are meant.

    Raises:
        InvalidArgument: There is none, two have one name, or the file is malformed.
        StorageError: The file cannot be read.

    Example:
        >>> [one.name for one in members(["http://localhost:5000"])]
        ['http://localhost:5000']
    """
    if isinstance(what, str | Path):
        found = _load(Path(what))
    elif isinstance(what, Mapping):
        found = [Member(name, str(url)) for name, url in what.items()]
    else:
        found = [one if isinstance(one, Member) else Member(str(one), str(one)) for one in what]
    if not found:
        raise InvalidArgument("the fleet has no registry", hint='write fleet(["http://one:5000", "http://two:5000"])')
    names = [one.name for one in found]
    for one in found:
        if names.count(one.name) > 1:
            raise InvalidArgument(
                f"two registries of the fleet have the name {one.name!r}", hint="give each its own name"
            )
        if one.mirror_of and (one.mirror_of not in names or one.mirror_of == one.name):
            raise InvalidArgument(
                f"{one.name} is to mirror {one.mirror_of!r}, which is not in the fleet",
                hint=f"mirror_of takes another one's name: {', '.join(names)}",
            )
    return found


def _load(path: Path) -> list[Member]:
    hint = 'write a [[registry]] with name = "…" and url = "…" for each'
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8-sig")), _File).registry
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}", hint=f"name a TOML file: {hint}") from None
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"{path}: {error}", hint=hint) from None
    except (ValueError, RecursionError) as error:  # no TOML, or no UTF-8
        raise InvalidArgument(f"{path} is not TOML: {error}", hint=hint) from None


def fleet(what: Members, *, cached: bool = True, progress: Show = None) -> Fleet:
    """Read many registries, several at once; one that is down is a row, and never the end.

    Args:
        what: The path of a TOML file with a ``[[registry]]`` for each (:class:`Member`), names with URLs, or URLs.
        cached: As for :meth:`Registry.inventory`.
        progress: As there: one bar for all of them.

    Raises:
        InvalidArgument: No registry, or a file that makes no sense.
        StorageError: The file cannot be read.
        Interrupted: The user interrupted; what was read is in the cache.

    Example:
        >>> fleet = regnb.fleet({"prod": "http://prod:5000", "mirror": "http://mirror:5000"})
    """
    chosen = members(what)
    online = [one for one in chosen if not is_file(one.url) and not find(one.url)]
    inventories: dict[str, Inventory] = {}
    errors: dict[str, RegnbError] = {}
    reading = _Reading({one.name: Progress() for one in online})
    records: dict[str, Records] = {}

    async def one_of(member: Member, limit: anyio.CapacityLimiter) -> None:
        try:
            async with limit:
                records[member.name] = await _crawl(member, reading.progress[member.name], cached=cached)
        except RegnbError as error:
            errors[member.name] = error
        reading.done += 1

    async def all_of_them() -> None:
        limit = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for member in online:
                tasks.start_soon(one_of, member, limit)

    if online:
        run(all_of_them, progress_bar(reading, progress))
    for member in chosen:
        try:
            if member.name in records:
                inventories[member.name] = Inventory.of(records.pop(member.name))
            elif member not in online:
                inventories[member.name] = _read(member)
        except RegnbError as error:
            errors[member.name] = error
    return Fleet(chosen, inventories, errors)


async def _crawl(member: Member, progress: Progress, *, cached: bool) -> Records:
    """Connect to a registry on a thread, as a connection blocks, and read it on the loop."""
    connect = partial(
        registries.connect,
        member.url,
        ca_bundle=member.ca_bundle or None,
        client_cert=member.client_cert or None,
        insecure=member.insecure,
    )
    handle = await anyio.to_thread.run_sync(connect, abandon_on_cancel=True)
    try:
        patterns = named(member.repositories) if member.repositories else None
        return await handle.crawl(patterns, progress, None, cached=cached, fill=member.fill_cache, thorough=False)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(handle.close)


def _read(member: Member) -> Inventory:
    """Read what is not a registry: a storage, a snapshot, a layout or an archive."""
    if member.repositories:
        raise InvalidArgument(f"{member.url} is read as a whole", hint="leave out the repositories")
    return read(member.url)

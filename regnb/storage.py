"""A registry's storage as a handle: read it, plan what is taken back of its space, apply that, and take it back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from msgspec import structs

from regnb.analysis.recent import changing
from regnb.analysis.storage import Storage as _Storage
from regnb.analysis.storage import unsearched
from regnb.crawl.files import file_errors, local_path
from regnb.crawl.walk import Files, LocalFiles, RemoteFiles
from regnb.environment import progress_bar
from regnb.errors import Interrupted, InvalidArgument, PlanMismatch, Refused, RegistryError, StorageError
from regnb.oci.disk import BASE
from regnb.session import Show, run
from regnb.text import count, human, parse_size

if TYPE_CHECKING:
    from regnb.change.collect.caches import Remembered
    from regnb.change.collect.place import Place
    from regnb.change.collect.pushers import Writer
    from regnb.change.collect.state import State
    from regnb.change.journal import Journal, Receipt
    from regnb.change.plan import Plan
    from regnb.change.sweep import Options, Sweep
    from regnb.crawl.keys import Keys
    from regnb.crawl.survey import Before
    from regnb.registry import Registry
    from regnb.tables.frame import Frame

_FRESH = 60
"""Seconds for which what was read under a lock need not be read again."""
_AFTER = "the receipt says what was done; regnb apply --resume RECEIPT goes on"


def _ignore(*_: object) -> None:
    """Take no note of what cannot be listed: whoever reads it does."""


@dataclass(slots=True)
class _Hold:
    """A storage that stays locked from the look that a plan is made on until that plan is applied.

    Attributes:
        lock: Is let go at the end.
        place: What is locked.
        plan: What was planned since.
        seen: What that was made on, until it is applied.
        when: When it was made, by a clock that only goes forward.
    """

    lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    place: Place | None = None
    plan: Sweep | None = None
    seen: list[State] = field(default_factory=list)
    when: float = 0

    def begin(self, place: Place, draft: Sweep) -> None:
        """Lock a place for a plan that will have this one's nonce; what was locked before is let go."""
        self.lock.close()
        place.take(draft)
        self.lock.enter_context(place)
        self.place, self.plan = place, None
        self.seen.clear()

    def keep(self, plan: Sweep, state: State) -> Sweep:
        """Keep what was planned on what was seen."""
        self.plan, self.when = plan, time.monotonic()
        self.seen.append(state)
        return plan

    def take(self, plan: Sweep) -> tuple[contextlib.ExitStack, Place, list[State]] | None:
        """Return the lock, what is locked, and what a plan was made on; None if that was too long ago, or never."""
        if self.plan is plan and self.place is not None and self.seen and time.monotonic() - self.when < _FRESH:
            _writers(plan)  # once more: the plan names what a registry over this storage must have
            return self.lock.pop_all(), self.place, self.seen
        self.lock.close()
        return None


class Storage(_Storage):
    """A registry's storage, with what plans and applies a collection of its garbage.

    Made by :func:`open_storage`.

    Example:
        >>> storage = open_storage("/var/lib/registry")
        >>> plan = storage.plan_collect(grace="0h", endpoints=["http://stopped:5000"])  # nobody can push
        >>> print(plan.summary())
        collect in /var/lib/registry: move to the trash 2 layer links, 2 blobs (1.4 kB)
        >>> receipt = storage.apply(plan, confirm=plan.code)
    """

    _last: State | None = None
    """What was read last: applying a plan reads only what can have changed since the plan was made."""

    _found_base: str = ""
    """The folder of a bucket that was found when the storage was opened."""

    _hold: _Hold | None = None
    """What is locked while plans are made and applied at once."""

    @contextlib.contextmanager
    def held(self) -> Iterator[Self]:
        """Lock the storage before a plan is made, so that applying the plan need not read it a second time.

        :meth:`plan_collect` and :meth:`plan_empty` then lock it, and ask every endpoint whether anybody can push,
        before they read it. Nobody else can collect meanwhile. A plan that is a minute old is checked again as without
        this; so is one that removes what was listed where ``writer`` is allowed.

        Example:
            >>> with storage.held():
            ...     plan = storage.plan_collect(grace="0h", endpoints=["http://stopped:5000"])
            ...     receipt = storage.apply(plan, confirm=plan.code)
        """
        self._hold = hold = _Hold()
        try:
            with hold.lock:
                yield self
        finally:
            self._hold = None

    def _place(self, plan: Sweep | None = None) -> Place:
        """Return what moves the files of this storage.

        Raises:
            StorageError: The storage is neither a local folder nor a bucket that speaks S3.
        """
        with self._again("", _ignore) if self._unseen else self._files(_ignore) as files:
            if isinstance(files, LocalFiles):
                from regnb.change.collect.trash import Trash

                return Trash(files.base)
            if isinstance(files, RemoteFiles) and files.in_bucket:
                from regnb.change.collect.bucket import Bucket

                return Bucket(files.filesystem, files.base, plan)
        raise StorageError(
            f"only a local storage or an S3 bucket can be collected, and {self.url} is neither",
            hint="run the registry's own garbage-collect there; regnb gc predicts what it removes",
        )

    @contextlib.contextmanager
    def _files(self, failed: Callable[[str, Exception], None]) -> Iterator[Files]:
        """Open the files; where a bucket's folder is was found when it was opened, and is not looked for again."""
        self._found_base = self._found_base or self._base
        opening = self._again(self._found_base, failed) if self._found_base and not local_path(self._url) else None
        with opening or self.files(failed) as files:
            yield files

    def _state(self, before: Before | None = None, *, parts: bool = True, tags: bool = True) -> State:
        from regnb.change.collect.state import read

        self._last = None  # two states at once take much memory
        with unsearched():
            self._last = read(self._files, self.url, before, parts=parts, tags=tags)
        return self._last

    def keep(self, plan: Sweep) -> Sweep:
        """Keep what a plan was made on for a process that applies it within an hour, and return the plan that names it.

        Of a bucket nothing is kept: its listing tells what changed, and manifests are in the cache.

        Args:
            plan: The one that this handle made last.

        Example:
            >>> plan = storage.plan_collect(grace="0h", endpoints=["http://stopped:5000"])
            >>> storage.keep(plan).save("plan.json")
        """
        from regnb.change.collect import basis

        if self._last is None or not local_path(self._url):
            return plan
        return structs.replace(plan, basis=basis.keep(self.url, self._last.known()))

    def plan_collect(
        self,
        *,
        untagged: bool = False,
        uploads_older_than: str = "7d",
        grace: str = "24h",
        repositories: Sequence[str] = (),
        tag_history: int | None = None,
        trash: bool = True,
        copies: bool = False,
        free: str = "",
        endpoints: Sequence[str] = (),
        allow: Iterable[str] = (),
    ) -> Sweep:
        """Plan what no manifest needs to be moved into a trash beside the registry's files. Nothing is written.

        In a bucket with versions what goes is hidden behind them. In another bucket it is only listed:
        :meth:`plan_empty` removes later what is still garbage.

        Args:
            untagged: Whether manifests go that no tag leads to. What an index lists that stays, what refers to
                something that stays, and what undo of a receipt at hand needs is spared.
            uploads_older_than: Age of an upload that was given up, such as ``7d``.
            grace: Age of everything else: the youngest date of the thing and of every link to it counts.
            repositories: Names and globs; by default all. A blob goes only if no other repository links it.
            tag_history: How many entries of its history each tag keeps beside the current one; by default all.
            trash: Whether what is moved stays in the trash, and can be put back.
            copies: In a bucket without versions: copy everything into a trash first, one request for each thing.
            free: Refuse the plan unless it takes away so much, such as ``50GB``.
            endpoints: The URL of every registry process over this storage: each is asked whether anybody can push.
            allow: ``writer`` (somebody may push meanwhile), ``undo`` (also what undo of receipts needs).

        Returns:
            The plan: ``to_frame()`` has a row a thing, ``blast`` what is spared or only named.

        Raises:
            Refused: It is a pull-through cache's, something in it cannot be read, or less would be free.
            InvalidArgument: An age, a size or an allowance that makes no sense; or a glob that matches no repository.
            StorageError: It cannot be read, or is neither a local folder nor a bucket.

        Example:
            >>> print(storage.plan_collect(untagged=True, grace="0h").summary())
            collect in /var/lib/registry: move to the trash 2 layer links, 2 blobs (1.4 kB)
        """
        from regnb.change.collect.planning import check_globs, seconds
        from regnb.change.collect.returning import needed
        from regnb.change.sweep import Options, Sweep, check_allow

        if tag_history is not None and tag_history < 0:
            raise InvalidArgument(f"a tag cannot keep {tag_history} entries", hint="write 0 or more")
        place, hold = self._place(), self._hold
        draft = Sweep(operation="collect", url=self.url, steps=(), allow=check_allow(allow))
        if hold is not None:
            hold.begin(place, draft)
        options = Options(
            untagged=untagged,
            uploads_older_than=seconds(uploads_older_than),
            grace=seconds(grace),
            repositories=tuple((repositories,) if isinstance(repositories, str) else repositories),
            tag_history=tag_history,
            trash=trash,
            endpoints=_endpoints(endpoints),
            place=_kind(place, copies=copies),
        )
        if hold is not None:
            _check_alone(place, draft := structs.replace(draft, options=options), self._keys)
        state = self._state()
        check_globs(state, options.repositories)
        # What an earlier run listed is removed by emptying that one.
        known = place.listed(state) if options.place == "list" and trash else frozenset()

        def collect(options: Options) -> Sweep:
            plan = self._collect(place, state, options, allow)
            steps = tuple(row for row in plan.steps if row.path not in known) if known else plan.steps
            if there := len(plan.steps) - len(steps):
                note = f"Listed by an earlier run: {count(there, 'thing')}. regnb trash empty removes them."
                plan = structs.replace(plan, steps=steps, notes=(note, *(plan.notes if steps else ())))
            return plan

        plan = collect(options)
        if free and plan.size < (wanted := parse_size(free)):
            young = collect(structs.replace(options, grace=0)).size - plan.size
            lacking = wanted - plan.size - young
            hints = [
                *([f"{human(young)} more is younger than {grace}: wait, or shorten --grace"] if young > 0 else []),
                *([f"regnb free {self.url} {-(-lacking // 1000**2)}MB proposes tags to delete first"] * (lacking > 0)),
            ]
            raise Refused(
                f"this collection frees {human(plan.size)}, less than the {human(wanted)} asked for",
                hint="; ".join(hints),
            )
        plan = structs.replace(plan, effects=(*needed(place.runs(state), self.url, state), *plan.effects))
        if hold is not None:
            plan = hold.keep(structs.replace(plan, nonce=draft.nonce), state)
        return plan

    def plan_free(
        self,
        registry: Registry,
        size: str,
        *,
        protect: Sequence[str] = (),
        keep: int = 0,
        endpoints: Sequence[str] = (),
        grace: str = "24h",
        allow: Iterable[str] = (),
    ) -> tuple[Plan | None, Sweep]:
        """Plan to free at least so much: a collection, and before it the deletion of tags where it is not enough.

        Apply the deletion first. Then plan the collection again with ``free=size``: it takes what both of these free.

        Args:
            registry: The handle on the registry over this storage, with which the tags are deleted.
            size: Such as ``50GB``.
            protect: As for :meth:`regnb.Inventory.free`.
            keep: Likewise.
            endpoints: As for :meth:`plan_collect`.
            grace: Likewise.
            allow: Likewise.

        Returns:
            The plan of the deletion, or None if the collection alone frees enough; and that of the collection as it is
            now.

        Raises:
            InvalidArgument: Not a size.
            Refused: As for :meth:`plan_collect`; or all tags that may be deleted free less.

        Example:
            >>> deletion, now = storage.plan_free(registry, "1MB", keep=3)
        """
        wanted = parse_size(size)
        now = self.plan_collect(grace=grace, endpoints=endpoints, allow=allow)
        if now.size >= wanted:
            return None, now
        found = self.inventory().free(wanted - now.size, protect=protect, keep=keep)
        freed = int(found["freed"].sum())
        if freed < wanted - now.size:
            raise Refused(
                f"{human(now.size + freed)} of {human(wanted)} can be freed: {human(now.size)} by a collection now, "
                f"and {human(freed)} by deleting {count(len(found), 'tag')} first",
                hint="protect fewer tags, or keep fewer of each repository",
            )
        return registry.plan_delete(found), now

    def _collect(self, place: Place, state: State, options: Options, allow: Iterable[str]) -> Sweep:
        from regnb.change.collect.planning import plan_collect, undoable

        if self.is_mirror:
            raise Refused(
                f"{self.url} belongs to a pull-through cache", hint="let it expire by itself: it fetches what it needs"
            )
        spared = undoable() if options.untagged else None
        with unsearched():
            return plan_collect(state, place.look(state), self.url, options=options, allow=allow, spared=spared)

    def trash(self) -> Frame:
        """Return what the trash holds (:data:`regnb.tables.columns.COLUMNS`, ``trash``).

        Example:
            >>> len(storage.trash())
            0
        """
        from regnb.tables.frame import of_rows

        found = [(one.run, one.moved, len(one.rows), one.size) for one in self._place().runs()]
        return of_rows("trash", found)

    def plan_restore(self, run: str | Receipt) -> Sweep:
        """Plan to put back what a collection moved into the trash, with the owner and mode that it had.

        Args:
            run: The receipt of the collection, or its name: ``trash()`` lists them.

        Raises:
            PlanMismatch: The trash does not have it, or the receipt is not of a collection.

        Example:
            >>> receipt = storage.apply(plan, confirm=plan.code)
            >>> print(storage.plan_restore(receipt).summary())
            restore in /var/lib/registry: put back 2 blobs, 2 layer links (1.4 kB)
        """
        from regnb.change.collect.returning import plan_restore

        if not isinstance(run, str):
            if run.sweep is None or run.sweep.operation != "collect":
                text = f"receipt {run.name} is not from a collection: what it did moved nothing into a trash"
                raise PlanMismatch(text, hint="name the receipt of regnb collect: regnb receipt list")
            run = run.name
        return plan_restore(self._place().runs(), self.url, run)

    def plan_return(self, receipt: Receipt | str | Path) -> list[Sweep]:
        """Plan to put back what undo of an earlier deletion needs and collections have moved away since.

        Args:
            receipt: Of the deletion, its name or its path.

        Returns:
            A plan for each run of the trash that has something of it.

        Raises:
            StorageError, BrokenReceipt: No such receipt, or one that was changed.
            PlanMismatch: It is about a storage.

        Example:
            >>> receipt = registry.apply(plan, confirm=plan.code)
            >>> storage.plan_return(receipt)  # no collection moved anything of it
            []
        """
        from regnb.change.collect.returning import plan_return
        from regnb.change.journal import Receipt

        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        return plan_return(self._place(), self.url, found)

    def plan_empty(self, *, older_than: str = "7d", endpoints: Sequence[str] = (), allow: Iterable[str] = ()) -> Sweep:
        """Plan to remove for good what lies in the trash, or was listed and is still garbage.

        Args:
            older_than: Age since it was moved there, such as ``7d``.
            endpoints: As for :meth:`plan_collect`, for what was only listed; by default those that were named then.
            allow: As for :meth:`plan_collect`, likewise.

        Example:
            >>> print(storage.plan_empty(older_than="30d").summary())
            empty in /var/lib/registry: nothing to do
        """
        from regnb.change.collect.planning import seconds
        from regnb.change.collect.returning import asking, due, plan_empty, undone
        from regnb.change.sweep import Sweep

        age, named = seconds(older_than), _endpoints(endpoints)
        place, hold = self._place(), self._hold
        draft = Sweep(operation="empty", url=self.url, steps=())
        if hold is not None:
            hold.begin(place, draft)
        # What was listed names whom to ask, and what is seen before they have answered does not count.
        known = place.runs()
        old = due(known, age)
        draft = asking(draft, old, named, allow)
        if hold is not None:
            _check_alone(place, draft, self._keys)
        state = self._state(parts=any(run.uploads for run in old))
        undo = undone(place, old)
        plan = plan_empty(draft, place, known, old=old, state=state, collect=self._collect, undo=undo)
        if hold is None or (plan.takes and "writer" in plan.allow):
            return plan  # for where somebody may push, it is looked again just before the removal
        return hold.keep(plan, state)

    def check(self, plan: Sweep) -> list[Writer]:
        """Ask whether a plan can be applied now: whether anybody can push, and whether folders can be moved.

        Returns:
            What each endpoint answered.

        Raises:
            Refused: It cannot; the hint says what to do.
            Busy: Another collection is at work.

        Example:
            >>> plan = storage.plan_collect(grace="0h", endpoints=["http://stopped:5000"])
            >>> [one.pushes for one in storage.check(plan)]
            ['stopped']
        """
        found = _writers(plan)
        if plan.operation == "collect":
            with self._place(plan) as place:
                place.probe()
        return found

    def caches(self, receipt: Receipt | str | Path, endpoints: Sequence[str] = ()) -> Frame:
        """Ask registry processes whether they remember blobs that a collection took away.

        A process that runs meanwhile keeps what it knows of blobs. It then answers that one exists, and takes a
        manifest that needs it, although the bytes are gone. Each is asked for some of these blobs: a HEAD that finds
        one and a GET that sends no byte of it prove it.

        Args:
            receipt: Of the collection, its name or its path.
            endpoints: The URL of every process; by default those that the plan named.

        Returns:
            Columns endpoint, asked, remembered, message (:data:`regnb.tables.columns.COLUMNS`, ``caches``).

        Raises:
            StorageError, BrokenReceipt: No such receipt, or one that was changed.

        Example:
            >>> receipt = storage.apply(plan, confirm=plan.code)
            >>> storage.caches(receipt, ["http://localhost:5000"])[["asked", "remembered"]]
              asked remembered
            0     1          0
        """
        from regnb.change.journal import Receipt
        from regnb.tables.frame import of_rows

        done = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        return of_rows("caches", self.remembered(done, endpoints))

    @staticmethod
    def remembered(receipt: Receipt, endpoints: Sequence[str] = ()) -> list[Remembered]:
        """Return the rows of :meth:`caches` without a frame.

        Example:
            >>> receipt = storage.apply(plan, confirm=plan.code)
            >>> [found.remembered for found in storage.remembered(receipt, ["http://localhost:5000"])]
            [0]
        """
        return _remembered(receipt, endpoints)

    def apply(self, plan: Sweep, *, confirm: str, progress: Show = None) -> Receipt:
        """Do what a plan says, and return the receipt.

        Every endpoint is asked whether anybody can push; the storage is read again, and a plan that does not fit any
        more is refused; after the moves it is read once more, and what is needed again is put back.

        Args:
            plan: Of :meth:`plan_collect`, :meth:`plan_restore` or :meth:`plan_empty`.
            confirm: The plan's digest, or its code.
            progress: Whether to draw a bar (by default in a notebook and on a terminal), or what to call with how
                much there is to do, how much is done, and a word about it.

        Raises:
            PlanMismatch: The confirmation or the storage is another, or the storage changed; nothing was moved.
            Refused: Somebody can push, or that is not known; or nothing can be moved.
            Busy: Another collection is at work.
            StorageError: The receipt's disk failed, or a tag was broken and everything was put back.
            Interrupted: The user interrupted; the receipt says what was done, and :meth:`resume` goes on.

        Example:
            >>> receipt = storage.apply(plan, confirm=plan.code)
            >>> receipt.status
            'done'
        """
        from regnb.change.journal import Journal

        plan.confirm(confirm)
        return self._apply(plan, lambda: Journal.begin(plan), progress)

    def resume(self, receipt: Receipt | str | Path, *, progress: Show = None) -> Receipt:
        """Go on with a plan whose application was cut short, and return the same receipt, continued.

        Raises:
            BrokenReceipt, UnprovenReceipt: It was changed, or is not proven.
            PlanMismatch, Refused, Busy, StorageError, Interrupted: As for :meth:`apply`.

        Example:
            >>> storage.resume("20261129T120000-4f2a91cc").status
            'done'
        """
        from regnb.change.journal import Journal, Receipt

        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        if found.sweep is None:
            raise PlanMismatch(f"receipt {found.name} is about a registry", hint=f"regnb apply --resume {found.name}")
        return self._apply(found.sweep, lambda: Journal.reopen(Receipt.load(found.path)), progress)

    def _locked_for(self, plan: Sweep) -> tuple[contextlib.AbstractContextManager[object], Place, list[State]]:
        """Return what locks the storage, what moves its files, and what the plan was made on if that was locked before.

        Raises:
            PlanMismatch, Refused: As for :meth:`apply`.
        """
        if self._hold is not None and (taken := self._hold.take(plan)):
            self._last = None  # two states at once take much memory
            return taken
        place = self._place(plan)
        _check_alone(place, plan, self._keys)
        return place, place, []

    def _apply(self, plan: Sweep, open_journal: Callable[[], Journal], show: Show) -> Receipt:
        from regnb.change.collect import Progress, apply, basis, plan_empty
        from regnb.change.journal import Receipt

        if plan.url != self.url:
            raise PlanMismatch(f"the plan is for {plan.url}, and this is {self.url}", hint=f"open {plan.url}")
        lock, place, seen = self._locked_for(plan)
        fresh = bool(seen)
        known = None if seen else self._last.known() if self._last else basis.load(self.url, plan.basis)

        def read(before: Before | None) -> State:
            if seen:
                return seen.pop()
            return self._state(before or known, parts=parts and before is None, tags=tags)

        def again(state: State) -> Sweep:
            if fresh:
                return plan
            if plan.operation == "collect":
                return self._collect(place, state, plan.options, plan.allow)
            names = {row.reference for row in plan.steps}
            runs = [run for run in place.runs(state) if run.run in names]
            if state.files and any(run.uploads for run in runs):
                state = self._state()  # with what is being written in parts
            return plan_empty(plan, place, runs, old=runs, state=state, collect=self._collect)

        parts = any(row.kind == "upload" for row in plan.steps)
        # Every manifest of a repository needs what it needs, and a tag leads to none but these.
        tags = plan.operation != "collect" or plan.options.untagged or plan.options.tag_history is not None
        progress = Progress()
        bar = progress_bar(progress, show)
        progress.changed = bar.update
        try:
            doing = f"change the files of {self.url}"
            with lock, changing(), open_journal() as journal, file_errors(doing, _AFTER):
                apply(plan, journal, place, read=read, again=again, progress=progress)
        except KeyboardInterrupt as error:
            stopped = Interrupted("Interrupted.")
            stopped.receipt = vars(error).get("receipt", "")
            raise stopped from None
        finally:
            bar.close()
            known = self._last = None
        return Receipt.load(journal.path)


def _endpoints(asked: str | Sequence[str]) -> tuple[str, ...]:
    """Return the addresses of endpoints, each once; a plan keeps no credentials."""
    from regnb.wire.addresses import parse_registry

    found: dict[str, None] = {}
    for one in (asked,) if isinstance(asked, str) else asked:
        url, host, credentials = parse_registry(one)
        if credentials is not None:
            hint = f"name {url}, and give the credentials with docker login {host}"
            raise InvalidArgument(f"the URL of the endpoint {url} has credentials, and a plan keeps none", hint=hint)
        found[url] = None
    return tuple(found)


def _check_alone(place: Place, plan: Sweep, keys: Keys | None) -> None:
    """Check that nobody can push to what is locked for a plan, and forget what was seen before."""
    place.take(plan)
    plan.check()
    _writers(plan)
    if keys is not None:
        keys.forget()  # what was listed before the lock may have changed


def _writers(plan: Sweep) -> list[Writer]:
    """Ask every endpoint of a plan, and return what each answered, unless somebody can push or may be able to."""
    from regnb.change.collect import pushers

    if not plan.takes:
        return []
    found: list[Writer] = []
    for url in plan.options.endpoints:
        if pushers.is_stopped(url):
            found.append(pushers.Writer(url, "stopped", "it refuses connections"))
            continue
        from regnb import registry

        try:
            with registry.connect(url, cache=False) as endpoint:
                client = endpoint._client  # noqa: SLF001 -- our own kind
                found.append(run(partial(pushers.ask, client, plan.witness)))
        except Refused:
            raise
        except RegistryError as error:
            found.append(pushers.Writer(url, "not known", error.message))
    if "writer" not in plan.allow:
        pushers.check(found)
    return found


def _remembered(receipt: Receipt, endpoints: Sequence[str]) -> list[Remembered]:
    """Ask registry processes what they remember of what a collection took away."""
    from regnb.change.collect import caches, pushers

    steps = enumerate(receipt.applied.steps)
    links = caches.gone([step for number, step in steps if receipt.outcome(number).status == "done"])
    found = []
    for url in endpoints or (receipt.sweep.options.endpoints if receipt.sweep else ()):
        if pushers.is_stopped(url):
            found.append(caches.Remembered(url, 0, 0, "it is stopped: it remembers nothing but what redis keeps"))
            continue
        from regnb import registry

        with registry.connect(url, cache=False) as endpoint:
            found.append(run(partial(caches.ask, endpoint._client, links)))  # noqa: SLF001 -- our own kind
    return found


def _kind(place: Place, *, copies: bool) -> Literal["folder", "versions", "list", "copies"]:
    """Return how this storage keeps what goes."""
    from regnb.change.collect.bucket import Bucket

    if not isinstance(place, Bucket):
        if copies:
            raise InvalidArgument("a local storage needs no copies", hint="leave it out: folders are moved")
        return "folder"
    if place.is_versioned():
        return "versions"
    return "copies" if copies else "list"


def storage_of(plan: Sweep) -> Storage:
    """Return the storage of a plan.

    Raises:
        StorageError: As for :func:`unlisted`.

    Example:
        >>> collection = storage.plan_collect(grace="0h")
        >>> storage_of(collection)
        <Storage /var/lib/registry>
    """
    return unlisted(plan.url)


def unlisted(url: str) -> Storage:
    """Open a storage of which a bucket is first listed once it is locked: whatever is seen before may change.

    Raises:
        StorageError: A folder is not a registry's storage, or cannot be read.

    Example:
        >>> unlisted("/var/lib/registry")
        <Storage /var/lib/registry>
    """
    # Of a URL that ends as the files' own folder does it has to be looked where that folder is.
    unseen = not (local_path(url) or url.endswith(f"/{BASE}"))
    return Storage(url, {}, unseen=unseen)


def open_storage(url: str | Path, *, listing: str | Path | None = None, **options: object) -> Storage:
    """Open a registry's storage: the folder or bucket that holds ``docker/registry/v2``.

    Args:
        url: A local path, or a URL that fsspec knows, such as ``s3://bucket/prefix`` (extra ``s3``; credentials and
            endpoint come from the environment, as for any S3 client).
        listing: The ``manifest.json`` of an S3 Inventory of the bucket (Parquet, ORC or CSV), whose keys are taken
            instead of listing them. The inventory is then of that time, and a problem says so. What changes the
            storage always lists it anew.
        options: For the file system, as fsspec takes them (``endpoint_url=…``).

    Raises:
        StorageError: Not a registry's storage, or it cannot be read; or the listing is of another bucket or not whole.
        InvalidArgument: A listing for what is not a bucket.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> storage = open_storage("/var/lib/registry")
    """
    return Storage(url, options, listing)

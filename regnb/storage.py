"""A registry's storage as a handle: read it, plan what is taken back of its space, apply that, and take it back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regnb.analysis.storage import Storage as _Storage
from regnb.crawl.files import file_errors
from regnb.crawl.walk import LocalFiles
from regnb.errors import Interrupted, InvalidArgument, PlanMismatch, Refused, RegistryError, StorageError
from regnb.session import Bar, Show, run

if TYPE_CHECKING:
    from regnb.change.collect.state import State
    from regnb.change.journal import Journal, Receipt
    from regnb.change.sweep import Options, Sweep
    from regnb.tables.frame import Frame

_AFTER = "the receipt says what was done; regnb apply --resume RECEIPT goes on"


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

    def _below(self) -> str:
        """Return the folder ``docker/registry/v2``.

        Raises:
            StorageError: The storage is no local folder.
        """
        with self.files(lambda *_: None) as files:
            if isinstance(files, LocalFiles):
                return files.base
        raise StorageError(
            f"only a local storage can be collected, and {self.url} is a bucket or another machine",
            hint="run the registry's own garbage-collect there; regnb gc predicts what it removes",
        )

    def _state(self, before: State | None = None) -> State:
        from regnb.change.collect.state import read

        self._last = read(self.files, self.url, before)
        return self._last

    def plan_collect(
        self,
        *,
        untagged: bool = False,
        uploads_older_than: str = "7d",
        grace: str = "24h",
        repositories: Sequence[str] = (),
        tag_history: int | None = None,
        trash: bool = True,
        endpoints: Sequence[str] = (),
        allow: Iterable[str] = (),
    ) -> Sweep:
        """Plan what no manifest needs to be moved into a trash beside the registry's files. Nothing is written.

        Args:
            untagged: Whether manifests go that no tag leads to. What an index lists that stays, what refers to
                something that stays, and what undo of a receipt at hand needs is spared.
            uploads_older_than: Age of an upload that was given up, such as ``7d``.
            grace: Age of everything else: the youngest date of the thing and of every link to it counts.
            repositories: Names and globs; by default all. A blob goes only if no other repository links it.
            tag_history: How many entries of its history each tag keeps beside the current one; by default all.
            trash: Whether what is moved stays in the trash, and can be put back.
            endpoints: The URL of every registry process over this storage: each is asked whether anybody can push.
            allow: ``writer`` (somebody may push meanwhile), ``undo`` (also what undo of receipts needs).

        Returns:
            The plan: ``to_frame()`` has a row a thing, ``blast`` what is spared or only named.

        Raises:
            Refused: It is a pull-through cache's, or something in it cannot be read.
            InvalidArgument: An age or an allowance that makes no sense.
            StorageError: It cannot be read, or is no local folder.

        Example:
            >>> print(storage.plan_collect(untagged=True, grace="0h").summary())
            collect in /var/lib/registry: move to the trash 2 layer links, 2 blobs (1.4 kB)
        """
        from regnb.change.collect.planning import seconds
        from regnb.change.sweep import Options
        from regnb.wire.addresses import parse_registry

        self._below()
        if tag_history is not None and tag_history < 0:
            raise InvalidArgument(f"a tag cannot keep {tag_history} entries", hint="write 0 or more")
        asked = (endpoints,) if isinstance(endpoints, str) else endpoints
        options = Options(
            untagged=untagged,
            uploads_older_than=seconds(uploads_older_than),
            grace=seconds(grace),
            repositories=tuple((repositories,) if isinstance(repositories, str) else repositories),
            tag_history=tag_history,
            trash=trash,
            endpoints=tuple(dict.fromkeys(parse_registry(one)[0] for one in asked)),
        )
        return self._collect(self._state(), options, allow)

    def _collect(self, state: State, options: Options, allow: Iterable[str]) -> Sweep:
        from regnb.change.collect.planning import LocalLook, plan_collect, undoable

        if self.is_mirror:
            raise Refused(
                f"{self.url} belongs to a pull-through cache", hint="let it expire by itself: it fetches what it needs"
            )
        spared = undoable() if options.untagged else None
        return plan_collect(state, LocalLook(self._below()), self.url, options=options, allow=allow, spared=spared)

    def trash(self) -> Frame:
        """Return what the trash holds (:data:`regnb.tables.columns.COLUMNS`, ``trash``).

        Example:
            >>> len(storage.trash())
            0
        """
        from regnb.change.collect.trash import runs
        from regnb.tables.frame import of_rows

        found = [(one.run, one.moved, len(one.rows), one.size) for one in runs(self._below())]
        return of_rows("trash", found)

    def plan_restore(self, run: str | Receipt) -> Sweep:
        """Plan to put back what a collection moved into the trash, with the owner and mode that it had.

        Args:
            run: The receipt of the collection, or its name: ``trash()`` lists them.

        Raises:
            PlanMismatch: The trash does not have it.

        Example:
            >>> receipt = storage.apply(plan, confirm=plan.code)
            >>> print(storage.plan_restore(receipt).summary())
            restore in /var/lib/registry: put back 2 blobs, 2 layer links (1.4 kB)
        """
        from regnb.change.collect.trash import plan_restore

        return plan_restore(self._below(), self.url, run if isinstance(run, str) else run.name)

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
        from regnb.change.collect.trash import plan_return
        from regnb.change.journal import Receipt

        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        return plan_return(self._below(), self.url, found)

    def plan_empty(self, *, older_than: str = "7d") -> Sweep:
        """Plan to remove for good what lies in the trash.

        Args:
            older_than: Age since it was moved there, such as ``7d``.

        Example:
            >>> print(storage.plan_empty(older_than="30d").summary())
            empty in /var/lib/registry: remove for good nothing
        """
        from regnb.change.collect.planning import seconds
        from regnb.change.collect.trash import plan_empty

        return plan_empty(self._below(), self.url, older_than=seconds(older_than), state=self._state())

    def check(self, plan: Sweep) -> None:
        """Ask whether a plan can be applied now: whether anybody can push, and whether folders can be moved.

        Raises:
            Refused: It cannot; the hint says what to do.
            Busy: Another collection is at work.

        Example:
            >>> storage.check(plan)
        """
        from regnb.change.collect.trash import Trash

        self._check_writers(plan)
        if plan.operation == "collect":
            with Trash(self._below()) as trash:
                trash.probe()

    @staticmethod
    def _check_writers(plan: Sweep) -> None:
        from regnb.change.collect import writers

        if plan.operation != "collect":
            return
        found = []
        for url in plan.options.endpoints:
            if writers.is_stopped(url):
                found.append(writers.Writer(url, "stopped", "it refuses connections"))
                continue
            from regnb import registry

            try:
                with registry.connect(url, cache=False) as endpoint:
                    client = endpoint._client  # noqa: SLF001 -- our own kind
                    found.append(run(partial(writers.ask, client)))
            except Refused:
                raise
            except RegistryError as error:
                found.append(writers.Writer(url, "not known", error.message))
        if "writer" not in plan.allow:
            writers.check(found)

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
            >>> receipt = storage.resume("20261129T120000-4f2a91cc")  # doctest: +SKIP
        """
        from regnb.change.journal import Journal, Receipt

        found = receipt if isinstance(receipt, Receipt) else Receipt.load(receipt)
        if found.sweep is None:
            raise PlanMismatch(f"receipt {found.name} is about a registry", hint=f"regnb apply --resume {found.name}")
        return self._apply(found.sweep, lambda: Journal.reopen(Receipt.load(found.path)), progress)

    def _apply(self, plan: Sweep, open_journal: Callable[[], Journal], show: Show) -> Receipt:
        from regnb.change.collect import Progress, apply
        from regnb.change.collect.trash import Trash, plan_empty
        from regnb.change.journal import Receipt

        if plan.url != self.url:
            raise PlanMismatch(f"the plan is for {plan.url}, and this is {self.url}", hint=f"open {plan.url}")
        base = self._below()
        plan.check()
        self._check_writers(plan)

        def again(state: State) -> Sweep:
            if plan.operation == "collect":
                return self._collect(state, plan.options, plan.allow)
            return plan_empty(base, self.url, older_than=0, state=state)

        def read(before: State | None) -> State:
            return self._state(before or self._last)

        progress = Progress()
        bar = Bar(progress, show=show)
        progress.changed = bar.update
        try:
            doing = f"change the files of {self.url}"
            with Trash(base) as trash, open_journal() as journal, file_errors(doing, _AFTER):
                apply(
                    plan,
                    journal,
                    trash,
                    read=lambda before: self._state(before or self._last),
                    again=again,
                    progress=progress,
                )
        except KeyboardInterrupt as error:
            stopped = Interrupted("Interrupted.")
            stopped.receipt = vars(error).get("receipt", "")
            raise stopped from None
        finally:
            bar.close()
        return Receipt.load(journal.path)


def open_storage(url: str | Path, **options: object) -> Storage:
    """Open a registry's storage: the folder or bucket that holds ``docker/registry/v2``.

    Args:
        url: A local path, or a URL that fsspec knows, such as ``s3://bucket/prefix`` (extra ``s3``; credentials and
            endpoint come from the environment, as for any S3 client).
        options: For the file system, as fsspec takes them (``endpoint_url=…``).

    Raises:
        StorageError: It is no registry's storage, or cannot be read.
        MissingExtra: The library for such URLs is not installed.

    Example:
        >>> storage = open_storage("/var/lib/registry")
    """
    return Storage(url, options)

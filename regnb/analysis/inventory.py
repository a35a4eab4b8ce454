"""An inventory: what a registry holds, as DataFrames that say what they cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from regnb.crawl.records import Records, Source
from regnb.errors import NotFound
from regnb.tables.columns import INVENTORY
from regnb.tables.markup import Cell, table
from regnb.text import count, escaped, human, parse_age

# pandas, and what computes with it, wait for a frame: most of a small audit's time and memory would be theirs.
if TYPE_CHECKING:
    import pandas as pd

    from regnb.analysis.looks import Looks
    from regnb.analysis.proposal import Order
    from regnb.analysis.reclaim import Reclaim, Tags
    from regnb.analysis.scans import Report
    from regnb.cluster.running import InUse
    from regnb.session import Show
    from regnb.tables.edges import Mask
    from regnb.tables.figures import Figures
    from regnb.tables.frame import Frame
    from regnb.tables.graph import Graph
    from regnb.tables.write import Format


class Sharing(NamedTuple):
    """Who shares what.

    Attributes:
        tags: One row for each digest that several tags carry (:data:`regnb.tables.columns.COLUMNS`, ``shared_tags``).
        layers: One row for each layer that several manifests have (``shared_layers``).
    """

    tags: Frame
    layers: Frame

    def _repr_html_(self) -> str:
        return (
            f"<h4 aria-level='2'>Tags on one digest</h4>{self.tags._repr_html_()}"
            f"<h4 aria-level='2'>Layers in several manifests</h4>"
            f"{self.layers._repr_html_()}"
        )


class Summary(NamedTuple):
    """An inventory in one row. Sizes are bytes.

    Attributes:
        stored: Every blob once: over HTTP those that tags lead to, of a storage all that are on disk.
        pulled: The sum over all tags, each counted as if it were alone.
        disk: Of a storage or a layout, every file; None where only the API was read.
        problems: Rows of ``problems``.
        complete: Whether everything that was listed was read. If not, the sizes are lower bounds.
    """

    registry: str
    repositories: int
    tags: int
    manifests: int
    blobs: int
    stored: int
    pulled: int
    disk: int | None
    problems: int
    complete: bool


MIME: Final = "application/vnd.regnb.inventory+json"
"""What an inventory that is shown carries for programs: registry, source, complete, and the number of problems."""
UNSEEN: Final = (
    "Over HTTP regnb sees no untagged manifests, and does not check that the bytes of layers are there: an audit of "
    "the storage does both."
)


class Brief(NamedTuple):
    """The head of an inventory, where its tables would be in the way: what there is, and whether all of it was read.

    Attributes:
        registry: ``host:port``, or the storage's URL.
        source: ``api``, ``storage`` or ``layout``.
        complete: Whether everything that was listed was read.
        problems: Their number.
        headline: What there is, in a sentence.
        verdict: Whether all of it was read, in a sentence.
        finished: When the reading ended.
    """

    registry: str
    source: Source
    complete: bool
    problems: int
    headline: str
    verdict: str
    finished: datetime | None = None

    def __repr__(self) -> str:
        return f"<Inventory of {self.headline}. {self.verdict}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        # Beside what people see, for whoever runs a notebook and must say whether all was read.
        names = ("registry", "source", "complete", "problems")
        return {MIME: {name: getattr(self, name) for name in names}}

    def _repr_html_(self) -> str:
        colour = "#1a7f37" if self.complete else "#b35900"
        when = f"Read at {self.finished.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. " if self.finished else ""
        return (
            f"<p><b>{escaped(self.headline)}</b></p>"
            f"<p style='border-left:4px solid {colour};padding-left:8px'>{escaped(self.verdict)} {when}"
            f"{UNSEEN if self.source == 'api' else ''}</p>"
        )


class Highlights(tuple[str, ...]):
    """A few sentences; a notebook shows them as a list.

    Example:
        >>> print(Highlights(["One layer has 2.1 GB."]))
        One layer has 2.1 GB.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return f"<ul>{''.join(f'<li>{escaped(text)}</li>' for text in self)}</ul>"


_MAKING: Final = Lock()
"""Held while frames are made: threads of a page may ask for them at once."""


class _Table:
    """A frame of an inventory, which is made with the others when the first of them is asked for."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, inventory: _Frames | None, owner: type) -> Frame:
        if inventory is None:
            raise AttributeError(self._name)
        return inventory.frames[self._name]


class _Frames:
    """The frames of an inventory, which are made together when the first of them is asked for."""

    repositories = _Table()
    tags = _Table()
    manifests = _Table()
    children = _Table()
    layers = _Table()
    blobs = _Table()
    problems = _Table()
    coverage = _Table()
    history = _Table()
    uploads = _Table()
    disk = _Table()
    findings = _Table()
    labels = _Table()

    def __init__(
        self,
        registry: str,
        started: datetime,
        finished: datetime | None,
        tables: Mapping[str, Frame],
        source: Source = "api",
        *,
        asked: tuple[str, ...] | None = None,
    ) -> None:
        self.registry = registry
        self.started = started
        self.finished = finished
        self.source = source
        self.asked = asked
        self._records: Records | None = None
        self._figures: Figures | None = None
        if tables:
            self._keep(tables)

    @classmethod
    def of(cls, records: Records) -> Self:
        """Return the inventory of what a crawl found; its frames are made when the first of them is asked for."""
        found = cls(records.registry, records.started, records.finished, {}, records.source, asked=records.asked)
        found._records = records
        return found

    @cached_property
    def frames(self) -> dict[str, Frame]:
        """Its DataFrames by their names."""
        with _MAKING:
            if (records := self._records) is not None:
                from regnb.tables.build import tabulate

                self._keep(tabulate(records, self._figures))
                self._records = self._figures = None
            return {name: self.__dict__[name] for name in INVENTORY}

    @property
    def figures(self) -> Figures | None:
        """What is computed of its records; None once frames were made of them.

        Example:
            >>> inventory.figures is None or len(inventory.figures.tag_sizes)
            True
        """
        with _MAKING:
            if self._records is not None and self._figures is None:
                from regnb.tables.figures import Figures

                self._figures = Figures(self._records)
            return self._figures

    def _keep(self, tables: Mapping[str, Frame]) -> None:
        self.__dict__.update(tables, frames=dict(tables))

    @property
    def complete(self) -> bool:
        """Whether everything that was listed was read. Untagged manifests are invisible over HTTP and never listed."""
        if (records := self._records) is not None:
            return records.complete
        return bool(self.coverage["complete"].all() and not self.problems["incomplete"].any())

    @property
    def _gaps(self) -> int:
        """How many problems leave something unknown."""
        if (records := self._records) is not None:
            return sum(problem.incomplete for problem in records.problems)
        return int(self.problems["incomplete"].sum())


class Inventory(_Frames):
    """What a registry holds.

    Attributes:
        registry: ``host:port``.
        started: When the crawl began.
        finished: When it ended; None if it was interrupted.
        source: ``api``; ``storage`` where the registry's files were read; ``layout`` for OCI layouts and archives.
        asked: The names and globs of repositories that alone were read; None for all of them, or of a snapshot.
        repositories, tags, manifests, children, layers, blobs, problems, coverage: DataFrames, whose columns
            :data:`regnb.tables.columns.COLUMNS` describes.
        history, uploads, disk: DataFrames of what only a storage tells; empty otherwise.
        findings: DataFrame of what the images' configs show that should not be there: see :attr:`hygiene`.
        labels: DataFrame of the labels in the images' configs; empty for a snapshot of an earlier regnb.

    Example:
        >>> inventory = registry.inventory()
        >>> inventory.tags.nlargest(3, "size")[["repository", "tag", "layers"]]
            repository     tag layers
        50  vm/centos8       8      4
        52  vm/centos8     8.4      4
        53  vm/centos8  latest      4
    """

    @property
    def whole(self) -> bool:
        """Whether every repository was to be read, and not only some by their names or by globs."""
        if self.source == "storage":
            return True
        if (records := self._records) is not None:
            return records.coverage.asked
        return bool(self.coverage["listed"].to_numpy()[self.coverage["what"].to_numpy() == "catalog"].any())

    @property
    def empty_catalog(self) -> bool:
        """Whether the registry was asked for its catalog, and lists no repository; or whether a storage has none."""
        return self.source in ("api", "storage") and self.whole and not self.summary.repositories

    @property
    def brief(self) -> Brief:
        """The inventory without its tables, to show in a notebook."""
        found = self.summary
        bound = "" if found.complete else "at least "
        headline = (
            f"{found.registry}: {count(found.repositories, 'repository')}, {count(found.tags, 'tag')}, "
            f"{count(found.blobs, 'blob')}, "
            f"{bound}{human(found.stored)} {'behind tags' if self.source == 'api' else 'stored'} "
            f"({human(found.pulled)} if nothing were shared)"
        )
        verdict = "Complete: everything that was listed was read."
        if not self.whole:
            verdict = "Complete: the chosen repositories were read. Others may share layers with these."
        if self.empty_catalog:
            verdict = "Complete: the catalog is empty, so there is nothing to read."
            if self.source == "storage":
                verdict = "Complete: the storage has no repositories."
        if not found.complete:
            verdict = f"Incomplete: not everything could be read ({self._gaps:,} in problems)."
        return Brief(found.registry, self.source, found.complete, found.problems, headline, verdict, self.finished)

    @property
    def highlights(self) -> Highlights:
        """What takes the space, in up to three sentences: the largest namespace, the largest layer, what could go.

        Example:
            >>> print(inventory.highlights)
            68% of the space (28.0 MB) is used by vm/*.
            The largest layer has 25.2 MB. It is needed by 4 tags of vm/centos8, vm/test/centos8.
            At most 3.5 MB would be free after a garbage collection if the tags older than a year were deleted (18);
            the newest of each repository stays.
        """
        from regnb.tables.age import ages

        found = []
        stored = max(1, self.summary.stored)
        for row in self.namespaces.sort_values("share").tail(1).to_dict("records"):
            name = f"{row['namespace']}/*" if row["repositories"] > 1 else row["namespace"]
            found.append(f"{row['share'] / stored:.0%} of the space ({human(row['share'])}) is used by {name}.")
        for row in self.largest.sort_values("size").tail(1).to_dict("records"):
            users = f"{count(row['tags'], 'tag')} of {row['used_by']}"
            found.append(f"The largest layer has {human(row['size'])}. It is needed by {users}.")
        created = ages(self.tags)["age"]
        newest = created.groupby(self.tags["repository"]).transform("max")
        old = (created < self.started - timedelta(days=365)) & (created < newest)
        for row in self.reclaim(old).table.head(1).to_dict("records") if old.any() else ():
            if row["bound"] != "fails":
                bound = {"exact": "", "estimate": "about "}.get(row["bound"], f"{row['bound']} ")
                found.append(
                    f"{bound}{human(row['size'])} would be free after a garbage collection if the tags older than a "
                    f"year were deleted ({int(old.sum()):,}); the newest of each repository stays."
                )
        return Highlights(text[:1].upper() + text[1:] for text in found)

    @cached_property
    def graph(self) -> Graph:
        """Who holds what, as integers: what a deletion would free is computed with it."""
        from regnb.tables.graph import Graph

        graph = Graph.of_frames(self.tags, self.manifests, self.layers, self.children, self.blobs)
        lacking = self.problems["repository"][self.problems["problem"] == "no layers"]
        graph.unseen = graph.of_repositories(set(lacking))
        return graph

    @cached_property
    def sharing(self) -> Sharing:
        """Which tags carry the same digest, and which layers are shared by what."""
        from regnb.tables.build import shared_layers, shared_tags

        return Sharing(
            shared_tags(self.tags),
            shared_layers(self.graph, self.layers, self.blobs),
        )

    @property
    def _rows_known(self) -> Mask | None:
        """The rows that a deletion knows of: the API does not tell of manifests that no tag leads to."""
        return ~self.graph.untagged if self.source == "storage" else None

    @cached_property
    def namespaces(self) -> Frame:
        """The repositories by the first part of their names (:data:`regnb.tables.columns.COLUMNS`, ``namespaces``)."""
        from regnb.analysis.usage import namespaces

        return namespaces(self.repositories, self.graph)

    @cached_property
    def bases(self) -> Frame:
        """What each image is built on: the tagged image here whose layers it begins with (``bases``).

        Example:
            >>> inventory.bases.groupby("base")["digest"].count().head(2)
        """
        from regnb.analysis.bases import bases

        return bases(self.frames)

    def find_bases(self, known: Frame | None = None, earlier: Iterable[Inventory] = ()) -> Frame:
        """Return what each image is built on, with images elsewhere and those of the past as possible bases.

        Args:
            known: Images of other registries, as :func:`regnb.known_bases` reads them.
            earlier: Earlier inventories of this registry: they know bases whose tags have moved on since.

        Returns:
            One row for each image (:data:`regnb.tables.columns.COLUMNS`, ``bases``).

        Example:
            >>> known = regnb.known_bases(["localhost:5000/vm/centos8:8.4"])
            >>> saved = inventory.save("earlier")
            >>> inventory.find_bases(known, [regnb.read(saved)])["told_by"].value_counts().to_dict()
            {'version tags': 18, 'not known': 11, 'tag': 9}
        """
        from regnb.analysis.bases import bases

        return bases(self.frames, known, [one.frames for one in sorted(earlier, key=lambda one: one.started)])

    @property
    def stale_bases(self) -> Highlights:
        """How many images stand on a base that is some releases behind, in a sentence for each number of releases.

        Example:
            >>> sentences = inventory.stale_bases
        """
        from regnb.analysis.bases import stale

        return Highlights(stale(self.bases))

    @cached_property
    def hygiene(self) -> Frame:
        """What the images' configs show that should not be there, each with how to mend it (``inventory_hygiene``).

        What lies in layers, as package caches do, is told by :meth:`find_hygiene`, which reads them.

        Example:
            >>> images = inventory.hygiene.groupby("rule")["digest"].nunique()
        """
        from regnb.analysis.hygiene import hygiene

        return hygiene(self.tags, self.manifests, self.children, self.findings)

    def find_hygiene(self, registry: Looks, what: Tags = None, *, progress: Show = None) -> Frame:
        """Return what should not be in images, in their layers, too: package caches, build tools, files with secrets.

        Each layer is read once, as :meth:`Registry.hygiene` does.

        Args:
            registry: Where the images are.
            what: As for :meth:`reclaim`; by default all tags.
            progress: As for :meth:`Registry.files`.

        Raises:
            InvalidArgument, InvalidReference, NotFound: As for :meth:`reclaim`.

        Example:
            >>> caches = inventory.find_hygiene(registry, "vm/*:*").query("rule == 'package cache'")
        """
        from regnb.analysis.hygiene import inside

        return inside(self._images(what), lambda where: registry.hygiene(where, progress=progress))

    def _images(self, what: Tags) -> pd.DataFrame:
        """Return the images behind some tags, each once: repository, tag, digest."""
        from regnb.analysis.naming import names_of
        from regnb.analysis.reclaim import mask_of
        from regnb.tables.frame import Frame

        tags = self.tags if what is None else self.tags[mask_of(self.tags, what, self.registry)]
        named = names_of(Frame(tags), self.children).drop_duplicates(["repository", "digest"])
        return named.merge(self.manifests.loc[self.manifests["kind"] == "image", ["repository", "digest"]])

    def waste(
        self, registry: Looks, what: Tags = None, *, depth: int = 2, at_most: float | str = "", progress: Show = None
    ) -> Frame:
        """Return what is hidden or repeated in the layers of images: what a clean-up, and one common base, would save.

        Each layer is read once, as :meth:`Registry.files` does, and its listing is kept in the cache.

        Args:
            registry: Where the images are.
            what: As for :meth:`reclaim`; by default all tags.
            depth: Parts of a path that name a directory.
            at_most: Bytes to stream of each image, such as ``2GB``.
            progress: As for :meth:`Registry.files`.

        Returns:
            One row for each repository and directory (:data:`regnb.tables.columns.COLUMNS`, ``waste``); layers that
            were not read are rows that say so.

        Raises:
            InvalidArgument, InvalidReference, NotFound: As for :meth:`reclaim`.

        Example:
            >>> found = inventory.waste(registry, "vm/*:*")
            >>> sums = found.groupby("repository")[["hidden", "repeated", "saved"]].sum()
        """
        from regnb.analysis.waste import Waste

        waste = Waste(depth)
        for repository, digest in self._images(what)[["repository", "digest"]].to_numpy().tolist():
            waste.add(repository, registry.look(f"{repository}@{digest}", at_most=at_most, progress=progress))
        return waste.frame()

    def join(self, reports: Report | Iterable[Report], *, in_use: InUse = None) -> Frame:
        """Join reports of trivy and grype with the images: by config digest, manifest digest, or index and platform.

        Args:
            reports: What ``trivy image --format json`` or ``grype -o json`` printed: files, folders of them, documents.
            in_use: What a cluster runs, as for :meth:`Registry.plan_delete`; None: not asked.

        Returns:
            One row for each image (:data:`regnb.tables.columns.COLUMNS`, ``scanned``), the worst that run first.

        Raises:
            InvalidArgument: A file is not a report, or ``in_use`` is not a list of pods.
            StorageError: A file cannot be read.

        Example:
            >>> found = inventory.join("reports", in_use="pods.json")
            >>> found.query("state == 'vulnerable and unused'")["image"].to_list()
            ['8.3']
        """
        from regnb.analysis.scans import join

        return join(self, reports, in_use)

    @property
    def example(self) -> str:
        """The largest tag, as ``repository:tag``: something to look at where nothing was named.

        Raises:
            NotFound: There are no tags.
        """
        if self.tags.empty:
            raise NotFound(f"{self.registry} has no tags, so there is nothing to look at", hint="push an image")
        largest = self.tags.sort_values("size", ascending=False).iloc[0]
        return f"{largest['repository']}:{largest['tag']}"

    def reference(self, text: str = "") -> str:
        """Return the first tag that :meth:`find` finds, as ``repository:tag``; without a text the largest one.

        Raises:
            NotFound: Nothing fits.

        Example:
            >>> inventory.reference("be464415e92a")
            'vm/centos8:8'
        """
        if not text:
            return self.example
        found = self.find(text)
        if found.empty:
            raise NotFound(f"nothing in {self.registry} fits {text}", hint="write repository:tag, or a digest")
        row = found.iloc[0]
        tag = row["tag"]
        return f"{row['repository']}:{tag}" if isinstance(tag, str) else f"{row['repository']}@{row['digest']}"

    @cached_property
    def usage(self) -> Frame:
        """Which bytes are whose: rows for tags, and for what is shared, that add up to the total (``usage``)."""
        from regnb.analysis.usage import usage

        return usage(self.repositories, self.tags)

    @cached_property
    def largest(self) -> Frame:
        """The hundred largest layers, shared or not, and who uses them (columns as ``shared_layers``)."""
        from regnb.tables.build import shared_layers

        return shared_layers(self.graph, self.layers, self.blobs, largest=100)

    @cached_property
    def between(self) -> Frame:
        """The bytes that each two repositories share (``between``)."""
        from regnb.analysis.usage import between

        return between(self.graph)

    @cached_property
    def breakdown(self) -> Frame:
        """Where the bytes are: pulled, behind tags, on disk, and what could be reclaimed (``breakdown``)."""
        from regnb.analysis.usage import breakdown

        return breakdown(self.summary.pulled, self.graph, self.disk, self.reclaim())

    def find(self, text: str) -> Frame:
        """Find tags by what is at hand: a name, a reference as a pod or a shell has it, a digest or the start of one.

        Args:
            text: ``repository:tag``, ``host:port/repository:tag`` whatever the host is called, a part of a name; the
                digest of a manifest, a config or a layer, or at least six digits of it; a label as ``name=value`` or
                ``label:name``, with which its image was built.

        Returns:
            Columns: repository, tag, digest, size (bytes), match, pull. A plan takes it as it is.

        Raises:
            InvalidArgument: The text is empty.

        Example:
            >>> inventory.find("registry.k3s:5000/vm/centos8:8.4")[["repository", "tag", "match"]]
               repository  tag match
            0  vm/centos8  8.4  name
            >>> inventory.find("be464415e92a")[["repository", "tag", "match"]]
                    repository         tag   match
            0       vm/centos8           8  digest
            1       vm/centos8         8.4  digest
            2       vm/centos8      latest  digest
            3  vm/test/centos8  newtagtest  digest
        """
        from regnb.analysis.find import find

        return find(self.frames, text, self.registry if self.source == "api" else "")

    def reclaim(self, what: Tags = None, *, children: bool = True, referrers: bool = True) -> Reclaim:
        """Compute what garbage collections remove once some tags are deleted: of any set; exactly, of a storage.

        The deletion is that of :meth:`Registry.plan_delete`: a manifest goes with its last tag, unless an index lists
        it; with it go the children that nothing else needs, and what refers to it.

        Args:
            what: A boolean for each row of ``tags``, some of its rows, references or globs (``vm/centos8:8.*``); by
                default nothing is deleted, and the answer is what a garbage collection would remove now.
            children: As for the deletion.
            referrers: As for the deletion.

        Raises:
            InvalidArgument, InvalidReference, NotFound: Nothing that names tags, or tags that are not there.

        Example:
            >>> inventory.reclaim(inventory.tags["created"] < "2025").table[["collection", "bound", "size"]]
                                      collection     bound     size
            0                    garbage-collect   at most  31.9 MB
            1                    garbage-collect   at most  31.9 MB
            2  garbage-collect --delete-untagged  estimate  31.9 MB
            3  garbage-collect --delete-untagged  at least  34.0 MB
        """
        return self._collected if what is None else self._reclaimed(what, children=children, referrers=referrers)

    @cached_property
    def _collected(self) -> Reclaim:
        return self._reclaimed(None)

    def _reclaimed(self, what: Tags, *, children: bool = True, referrers: bool = True) -> Reclaim:
        from regnb.analysis.collectors import bounds
        from regnb.analysis.marking import mattering
        from regnb.analysis.reclaim import Reclaim, mask_of
        from regnb.tables.removal import removal

        try:
            going = mask_of(self.tags, what, self.registry)
        except NotFound as error:
            if self.whole:
                raise
            hint = "read its repository, too: repositories= in Python, --repository on the command line"
            raise error.saying(f"{error.message} in the repositories that were read", hint=hint) from None
        removed = removal(self.graph, going, children=children, referrers=referrers, known=self._rows_known)
        problems = mattering(self.problems)
        meant = bounds(
            self.source,
            problems,
            complete=self.complete and self.finished is not None,
            checked=bool(self.manifests["checked"].all()),
            whole=self.whole,
            hollow=bool(self.graph.hollow[removed.gone].any()),
            torn=bool((self.problems["problem"] == "missing").any()),
        )
        return Reclaim(self.graph, problems, (self.blobs, self.tags), self.registry, removed.gone, removed.going, meant)

    def with_pulls(self, history: str | Path) -> Inventory:
        """Return this inventory with what a history of pulls knows: ``pulled`` and ``pulls_since`` of ``tags``.

        Args:
            history: The file that ``regnb pulls`` or ``regnb listen`` wrote for this registry.

        Raises:
            StorageError: It cannot be read, or there is no such file.

        Example:
            >>> tags = inventory.with_pulls("pulls.parquet").tags
            >>> tags.loc[tags["pulled"].notna(), ["repository", "tag"]]
                repository  tag
            52  vm/centos8  8.4
        """
        from regnb.analysis.pulls import History, with_pulls

        tags = with_pulls(self, History.load(history, must_exist=True))
        frames = {**self.frames, "tags": tags}
        return Inventory(self.registry, self.started, self.finished, frames, self.source, asked=self.asked)

    def free(
        self,
        size: float | str,
        *,
        protect: Tags = None,
        keep: int = 1,
        order: Order = "oldest",
        unused_for: str = "",
    ) -> Frame:
        """Propose what to delete so that a plain garbage collection frees this much.

        Images that others are built on, and tags that free next to nothing, are proposed only if the rest does not
        suffice. What has no date, was not wholly read, or refers to something else is never proposed on its own.

        Args:
            size: Bytes, or a text such as ``50GB``.
            protect: What must stay, as for :meth:`reclaim`.
            keep: How many of the newest tags of each repository stay as well.
            order: What goes first: ``oldest`` (of one day what shares least), ``largest-gain``, ``fewest-tags`` (most
                bytes for each tag), or ``unused`` (repositories without a new image for longest).
            unused_for: Only what was not pulled for so long, such as ``180d``; where that is not known, a tag stays.

        Returns:
            Columns: repository, tag, digest, created, size, freed, total, reason. It may be given to
            :meth:`Registry.plan_delete`. Where the last ``total`` is below ``size``, no more is safe.

        Raises:
            InvalidArgument, InvalidReference, NotFound: No size, or as for :meth:`reclaim`.

        Example:
            >>> proposed = inventory.free("2MB", protect="*:latest")
            >>> proposed[["repository", "tag", "freed", "total"]].head(2)
                   repository    tag    freed   total
            0  team-a/reports    0.1   311 kB  311 kB
            1        apps/web  1.0.0  50.6 kB  361 kB
            >>> plan = registry.plan_delete(proposed, inventory=inventory)
        """
        from regnb.analysis.proposal import free
        from regnb.analysis.reclaim import mask_of
        from regnb.tables.age import in_use
        from regnb.tables.frame import make

        protected = mask_of(self.tags, protect, self.registry)
        if unused_for:
            protected |= (in_use(self.tags, self.started - parse_age(unused_for)) != "").to_numpy()
        found = free(self.tags, self.graph, size, protected, keep, self._rows_known, order)
        tags = self.tags[["repository", "tag", "digest"]].iloc[found.pop("place")]
        return make("free", {str(name): column for name, column in (*tags.items(), *found.items())})

    @cached_property
    def summary(self) -> Summary:
        """The whole in one row."""
        if figures := self.figures:
            return Summary(self.registry, **figures.totals._asdict(), complete=self.complete)
        from regnb.tables.graph import ABSENT, total

        stored = self.blobs["size"].to_numpy()[~self.blobs["kind"].isin(ABSENT).to_numpy()]
        return Summary(
            registry=self.registry,
            repositories=len(self.repositories),
            tags=len(self.tags),
            manifests=self.manifests["digest"].nunique(),
            blobs=len(self.blobs),
            stored=total(stored),
            pulled=total(self.tags["size"].to_numpy()),
            disk=total(self.disk["size"].to_numpy()) if len(self.disk) else None,
            problems=len(self.problems),
            complete=self.complete,
        )

    def save(self, url: str | Path) -> str:
        """Save this inventory as a snapshot: Parquet files in a folder of their own, which is never overwritten.

        Args:
            url: A local folder, made if need be, or any URL that fsspec knows, such as ``s3://bucket/snapshots``.

        Returns:
            The snapshot's URL, for :meth:`load`.

        Raises:
            StorageError: There is no such bucket, no permission, no space, or no answer.
            MissingExtra: The library for such URLs is not installed.

        Example:
            >>> registry.inventory().save("snapshots")
            'snapshots/registry=.../date=.../snapshot=...'
        """
        from regnb.analysis import snapshot

        return snapshot.save(
            url, self.registry, self.started, self.finished, self.source, self.summary._asdict(), self.frames
        )

    @classmethod
    def load(cls, url: str | Path) -> Inventory:
        """Load a snapshot.

        Raises:
            StorageError: There is no such snapshot, it was cut short, it is damaged, or a newer regnb wrote it.
            MissingExtra: The library for such URLs is not installed.

        Example:
            >>> len(Inventory.load(inventory.save("snapshots")).tags)
            55
        """
        from regnb.analysis import snapshot

        found = snapshot.load(url)
        return cls(found.registry, found.started, found.finished, found.tables, found.source)

    def write(self, folder: str | Path, form: Format = "parquet") -> list[Path]:
        """Write every frame into a folder, as Parquet, CSV or JSON lines, and return the paths.

        An empty name writes nothing, as a runbook's parameter may say.

        Raises:
            InvalidArgument: Another format.
            StorageError: The folder cannot be written.
        """
        from regnb.tables.write import write

        if not str(folder):
            return []
        return write(
            {**self.frames, "shared_tags": self.sharing.tags, "shared_layers": self.sharing.layers}, Path(folder), form
        )

    def __repr__(self) -> str:
        return repr(self.brief)

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        return self.brief._repr_mimebundle_()

    def _repr_html_(self) -> str:
        names = [[Cell(f"inventory.{name}"), Cell(f"{len(rows):,}")] for name, rows in self.frames.items()]
        every = table([Cell("frame", scope="col"), Cell("rows", scope="col")], names)
        largest = self.repositories.sort_values("size", ascending=False, ignore_index=True).head(10)
        problems = (
            f"<h4 aria-level='2'>Problems</h4>{self.problems.head(10)._repr_html_()}" if len(self.problems) else ""
        )
        return (
            f"{self.brief._repr_html_()}"
            f"<h4 aria-level='2'>Largest repositories</h4>{largest._repr_html_()}{problems}"
            f"<details><summary>All frames</summary>{every}</details>"
        )

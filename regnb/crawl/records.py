"""What a reading of a registry or of a storage found, and what it covered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from regnb.errors import ContentError, Denied, DigestMismatch, NotFound, RegnbError, Unauthorized
from regnb.oci.age import CREATED
from regnb.oci.findings import Finding, of_config
from regnb.oci.leaks import shown
from regnb.oci.manifest import Descriptor, ImageConfig, Index, ManifestKind, Schema1, decode
from regnb.oci.reference import Digest

_Text = TypeVar("_Text")
Source: TypeAlias = Literal["api", "storage", "layout"]
"""What was read: the registry's API, its files, or OCI layouts and archives."""
ProblemKind: TypeAlias = Literal[
    "failed", "denied", "dangling", "vanished", "missing", "damaged", "mismatch", "malformed", "schema1", "too deep",
    "size conflict", "media type", "not a tag", "ambiguous", "docker type", "layout", "catalog", "directory", "ignored",
    "mirror", "listing",
    "bad repository", "bad layers", "bad manifests", "bad blob", "corrupt tag", "corrupt revision", "corrupt manifest",
    "corrupt layer link", "no layers", "no tags", "sha512", "linked twice",
]  # fmt: skip
"""Sorts of problems. From ``bad repository`` on: what matters to a collection, and only a storage shows."""
BlobKind: TypeAlias = Literal["layer", "config", "manifest", "orphan", "foreign layer", "missing"]
"""``orphan``: on disk, and no manifest needs it. ``foreign layer`` (stored elsewhere) and ``missing`` (a manifest needs
it, and it is not on disk) take no space."""
RepositoryStatus: TypeAlias = Literal["read", "empty", "missing", "failed", "denied"]
Unread: TypeAlias = Literal["failed", "denied"]
"""What a repository, or a sort of problem, is that could not be read wholly."""
CatalogCoverage: TypeAlias = Literal["complete", "incomplete", "in part", "not asked"]
"""``in part``: what globs match."""
_BASE_NAME: Final = "org.opencontainers.image.base.name"
_BASE_DIGEST: Final = "org.opencontainers.image.base.digest"
_LONGEST: Final = 512
"""Letters of an annotation."""
LABELS: Final = 32
"""Labels of an image that are kept, in the order of their names."""
LABEL_LENGTH: Final = 256
"""Letters of ``name=value`` that are kept of a label."""
DEPTH_LIMIT: Final = 8
"""Indexes within indexes that are followed: real ones have two levels, hostile ones any number."""
NODE_LIMIT: Final = 10_000
"""Manifests that are followed from one tag."""
NOTES: Final[frozenset[ProblemKind]] = frozenset({"docker type", "ignored", "listing", "mirror"})
"""Sorts of problems that only tell what else is there: nothing has to be mended."""
_SORTS: Final[tuple[tuple[type[RegnbError], ProblemKind], ...]] = (
    (NotFound, "missing"), (DigestMismatch, "mismatch"), (ContentError, "malformed"),
)  # fmt: skip
PRECEDENCE: Final[tuple[BlobKind, ...]] = ("config", "layer", "foreign layer")
"""What a blob is that manifests use in several ways: what some manifest stores here is not stored elsewhere."""


class Problem(msgspec.Struct, frozen=True):
    """Something that could not be read, or that is not as it should be.

    Attributes:
        problem: What sort (:data:`ProblemKind`).
        incomplete: Whether something is unknown because of it, so that figures are lower bounds.
    """

    repository: str
    reference: str
    problem: ProblemKind
    message: str
    hint: str = ""
    incomplete: bool = True


class ManifestRecord(msgspec.Struct, array_like=True, gc=False):
    """What the frames need of one manifest. Digests are shared strings, so that a million tags fit in memory.

    Attributes:
        kind: "" where nobody asks for it: a verdict on a storage.
        children: The manifests that an index lists.
        layers: The layers of an image, or the blobs that an index lists.
        layer_types: Their media types.
        created: When its config says that it was made; "" if that is unknown.
        annotated: What its annotation says about that, as written.
        base_name, base_digest: What its annotations say that it is built on.
        diff_ids: Of its layers, as its config has them; taken into :attr:`Records.diff_ids`, and empty then.
        findings: What its config shows that should not be there.
        listed_bases: What an index says in its list that its children are built on: digest, base's name and digest.
        labels: ``name=value`` of its config's labels, the first :data:`LABELS` of them, cut to :data:`LABEL_LENGTH`.
    """

    digest: str
    media_type: str
    kind: ManifestKind | Literal[""]
    artifact_type: str
    manifest_size: int
    config: str
    layers: tuple[str, ...]
    children: tuple[str, ...]
    subject: str
    platform: str = ""
    created: str = ""
    commands: tuple[str, ...] = ()
    annotated: str = ""
    config_type: str = ""
    layer_types: tuple[str, ...] = ()
    base_name: str = ""
    base_digest: str = ""
    diff_ids: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    labels: tuple[str, ...] = ()
    listed_bases: tuple[tuple[str, str, str], ...] = ()


class BlobRecord(msgspec.Struct, gc=False):
    """A blob as some manifest describes it, or as it lies on disk. ``size`` is bytes as stored.

    Attributes:
        kind: What it is to the manifests that need it.
    """

    size: int
    media_type: str
    kind: BlobKind


class TagRecord(msgspec.Struct, gc=False):
    """A tag and the digest it points at; "" where that could not be read.

    Attributes:
        pushed: When the tag was last pointed there, as the storage or the registry's own API has it; None where that
            is not known.
        pulled: When it was last pulled, as the registry's own API has it; None: never, or not known.
        pulls_since: Since when pulls of it are recorded; None where they are not.
        locked: Why the registry would not delete it; "" where nothing is known of that.
    """

    repository: str
    tag: str
    digest: str
    pushed: datetime | None = None
    pulled: datetime | None = None
    pulls_since: datetime | None = None
    locked: str = ""


class HistoryRecord(msgspec.Struct, gc=False):
    """A digest that a tag points at or has pointed at, and when it was last pointed there."""

    repository: str
    tag: str
    digest: str
    when: datetime | None
    current: bool
    present: bool


class UploadRecord(msgspec.Struct, gc=False):
    """An upload that was begun and not finished; ``size`` is bytes on disk."""

    repository: str
    upload: str
    started: datetime | None
    size: int


@dataclass(slots=True)
class Usage:
    """What some files take up.

    Attributes:
        files: Their number.
        size: Bytes in them.
        used: Bytes of their blocks on disk, where these are known.
    """

    files: int = 0
    size: int = 0
    used: int = 0

    def add(self, size: int, used: int) -> None:
        """Count one more file."""
        self.files += 1
        self.size += size
        self.used += used


@dataclass(slots=True)
class Counts:
    """How many of one sort were listed, read from the registry, taken from the cache, failed, or were not allowed.

    Attributes:
        told: How many the registry's own API told of, so that the registry was not asked for each.
    """

    listed: int = 0
    read: int = 0
    cached: int = 0
    failed: int = 0
    denied: int = 0
    told: int = 0

    def add(self, other: Counts) -> None:
        """Count what another reading counted."""
        for name in ("listed", "read", "cached", "failed", "denied", "told"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def fail(self, error: RegnbError) -> ProblemKind:
        """Count an error, and return what sort of problem it is."""
        if isinstance(error, Denied | Unauthorized):
            self.denied += 1
            return "denied"
        self.failed += 1
        for kind, sort in _SORTS:
            if isinstance(error, kind):
                return sort
        return "failed"


@dataclass(slots=True)
class Coverage:
    """What a crawl covered.

    Attributes:
        catalog: How much of it was listed.
        sources: ``catalog``, ``tags`` or ``referrers`` to what told of them, where that is not the registry API.
    """

    repositories: Counts = field(default_factory=Counts)
    tags: Counts = field(default_factory=Counts)
    manifests: Counts = field(default_factory=Counts)
    configs: Counts = field(default_factory=Counts)
    referrers: Counts = field(default_factory=Counts)
    catalog: CatalogCoverage = "complete"
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> bool:
        """Whether the whole catalog was asked for, and not only some repositories by their names or by globs."""
        return self.catalog in ("complete", "incomplete")


@dataclass(slots=True)
class Records:
    """What a crawl found, or the reading of a storage.

    Attributes:
        registry: ``host:port``, or the storage's URL.
        source: ``api``, ``storage`` or ``layout``.
        asked: The names and globs of repositories that alone were read; None for all of them.
        repositories: Name to status.
        links: (repository, digest) to whether this registry was asked for that manifest during the crawl.
        manifests, blobs: By digest.
        history, uploads: What only a storage tells.
        disk: What is on disk (``blobs``, ``links``, ``uploads``, ``other``, ``folders``) to its size.
        aliases: Digest by which a repository links a blob, to the digest under which its bytes are stored.
        diff_ids: Digest of a layer to that of its archive, not compressed; "" where configs contradict each other.
        requests: How many requests a bucket was sent, by their kind.
        layer_links: Repository to the number of links below its ``_layers``, and of those that no manifest needs.
        damaged: (repository, digest or tag) of what is known to be missing there, or to have other bytes than its
            manifests say: no pull that needs it succeeds.
        doubtful: Likewise, of what could not be read and only a pull needs: configs.
        read: Digests of manifests and configs that the registry was asked for; of a crawl that goes on.
        configured: Digests of the manifests whose config is known; likewise.
    """

    registry: str
    started: datetime
    finished: datetime | None = None
    source: Source = "api"
    asked: tuple[str, ...] | None = None
    repositories: dict[str, RepositoryStatus] = field(default_factory=dict)
    tags: list[TagRecord] = field(default_factory=list)
    links: dict[tuple[str, str], bool] = field(default_factory=dict)
    manifests: dict[str, ManifestRecord] = field(default_factory=dict)
    blobs: dict[str, BlobRecord] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    history: list[HistoryRecord] = field(default_factory=list)
    uploads: list[UploadRecord] = field(default_factory=list)
    disk: dict[str, Usage] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    diff_ids: dict[str, str] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    layer_links: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: set[tuple[str, str]] = field(default_factory=set)
    doubtful: set[tuple[str, str]] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    configured: set[str] = field(default_factory=set)

    def add(self, other: Records) -> None:
        """Add what another reading of the same registry has of other repositories; manifests and blobs are there."""
        self.repositories |= other.repositories
        self.tags += other.tags
        self.links |= other.links
        self.problems += other.problems
        self.damaged |= other.damaged
        self.doubtful |= other.doubtful
        self.state(other.diff_ids.items())
        self.read |= other.read
        self.configured |= other.configured
        for name in ("repositories", "tags", "manifests", "configs", "referrers"):
            getattr(self.coverage, name).add(getattr(other.coverage, name))
        self.coverage.sources |= other.coverage.sources

    @property
    def complete(self) -> bool:
        """Whether everything that was listed was read, so that nothing is unknown."""
        of = self.coverage
        failed = any(one.failed or one.denied for one in (of.repositories, of.tags, of.manifests, of.referrers))
        return of.catalog != "incomplete" and not failed and not any(problem.incomplete for problem in self.problems)

    def even(self) -> None:
        """Take a manifest that several repositories have as asked for only where a tag leads straight to it.

        As a child it was asked for in the one that was read first, and which that is depends on the timing.

        Example:
            >>> records = Records("localhost:5000", datetime(2026, 1, 1))
            >>> records.links = {("dev", "sha256:a"): True, ("prod", "sha256:a"): False, ("dev", "sha256:b"): True}
            >>> records.even()
            >>> [digest for (_, digest), asked in records.links.items() if asked]
            ['sha256:b']
        """
        first: dict[str, str] = {}
        shared = {digest for repository, digest in self.links if first.setdefault(digest, repository) != repository}
        tagged = {(row.repository, row.digest) for row in self.tags if row.digest in shared}
        for link in self.links:
            if link[1] in shared and link not in tagged:
                self.links[link] = False

    def ended(self) -> Records:
        """Return what was read, counted and in an order that does not depend on which answer came first."""
        coverage = self.coverage
        configs = [self.manifests[digest].config for digest in self.configured]
        for counts, known in ((coverage.manifests, list(self.manifests)), (coverage.configs, configs)):
            counts.listed = len(known) + counts.failed + counts.denied
            counts.read = len(self.read.intersection(known))
            counts.cached = len(known) - counts.read
        del configs, known
        # Counted: they would take up a tenth of what the rest does for as long as the records are kept.
        self.read, self.configured = set(), set()
        # Texts alone are compared several times as fast as tuples of them.
        self.tags.sort(key=attrgetter("tag"))
        self.tags.sort(key=attrgetter("repository"))
        self.problems.sort(key=lambda row: (row.repository, row.reference, row.problem, row.message))
        self.repositories = _ordered(self.repositories)
        links = sorted(sorted(self.links, key=itemgetter(1)), key=itemgetter(0))
        self.links = {link: self.links[link] for link in links}
        self.manifests = _ordered(self.manifests)
        self.blobs = _ordered(self.blobs)
        self.finished = datetime.now(UTC)
        return self

    def differ(self, record: ManifestRecord) -> None:
        """Take over what a config says of the archives of its layers, which are the same for all images with them.

        Example:
            >>> records = Records("localhost:5000", datetime(2026, 1, 1))
            >>> records.differ(ManifestRecord("", "", "image", "", 0, "", ("a",), (), "", diff_ids=("b",)))
            >>> records.diff_ids
            {'a': 'b'}
        """
        self.state(zip(record.layers, record.diff_ids, strict=bool(record.diff_ids)))
        record.diff_ids = ()

    def state(self, stated: Iterable[tuple[str, str]]) -> None:
        """Note of layers what archive each holds; of those that contradict each other nothing is known."""
        for layer, diff_id in stated:
            if self.diff_ids.setdefault(layer, diff_id) != diff_id:
                self.diff_ids[layer] = ""

    def damage(self, repository: str, reference: str, problem: ProblemKind, message: str, hint: str = "") -> None:
        """Note that something is known to be missing or damaged: a row of ``problems``, which is not a gap.

        Example:
            >>> records = Records("localhost:5000", datetime(2026, 1, 1))
            >>> records.damage("app", "1.0", "dangling", "the tag points to a manifest that does not exist")
            >>> records.problems[0].incomplete
            False
        """
        self.damaged.add((repository, reference))
        self.problems.append(Problem(repository, reference, problem, message, hint, incomplete=False))


def _ordered(found: Mapping[str, _Text]) -> dict[str, _Text]:
    """Return the same in the order of the keys: compared alone they take half as long as with what they stand for."""
    keys = sorted(found)
    return dict(zip(keys, map(found.__getitem__, keys), strict=True))


def describe(
    digest: str, media_type: str, data: bytes
) -> tuple[ManifestRecord, Sequence[Descriptor], ContentError | None]:
    """Return what verified bytes say of a manifest, the blobs that it lists, and why they are not a manifest, if so.

    Example:
        >>> describe(Digest.of(b"{"), "", b"{")[0].kind
        'malformed'
    """
    record = ManifestRecord(digest, media_type, "malformed", "", len(data), "", (), (), "")
    try:
        manifest = decode(data, media_type, digest=Digest(digest))
    except ContentError as error:
        return record, (), error
    record.kind, record.media_type = manifest.kind, manifest.media_type
    if isinstance(manifest, Schema1):
        record.layers = manifest.layers
        return record, (), None
    record.artifact_type = manifest.artifact_type
    record.subject = str(manifest.subject.digest) if manifest.subject else ""
    record.annotated = str(manifest.annotations.get(CREATED) or "")[:_LONGEST]
    record.base_name, record.base_digest = _base(manifest.annotations)
    layers = manifest.blobs
    if isinstance(manifest, Index):
        record.children = tuple(child.digest for child in manifest.children)
        told = ((child.digest, *_base(child.annotations or {})) for child in manifest.children)
        record.listed_bases = tuple((child, name, base) for child, name, base in told if name or base)
    else:
        layers = manifest.layers
        if manifest.config is not None:
            record.config, record.config_type = manifest.config.digest, manifest.config.media_type
    record.layers = tuple(layer.digest for layer in layers)
    record.layer_types = tuple(layer.media_type for layer in layers)
    return record, manifest.blobs, None


def _base(annotations: Mapping[str, object]) -> tuple[str, str]:
    """Return what annotations name as the base, and its digest; each "" where they do not."""
    if not annotations:
        return "", ""
    name, digest = (str(annotations.get(each) or "")[:_LONGEST] for each in (_BASE_NAME, _BASE_DIGEST))
    return name, digest


class Share(Protocol):
    """Keeps one object for equal ones."""

    def __call__(self, value: _Text, /) -> _Text:
        """Return the one that stands for a text, or for a tuple."""


def configure(record: ManifestRecord, config: ImageConfig, now: datetime, share: Share) -> None:
    """Enter what an image's config says into its record.

    Args:
        record: The image's.
        config: Its config.
        now: When it was read.
        share: What keeps one object for equal texts.

    Example:
        ``configure(record, decode_config(data), datetime.now(UTC), recording.text)``
    """
    record.platform = share(config.platform)
    record.created = config.made(now)
    record.commands = tuple(map(share, config.commands(len(record.layers))))
    diff_ids = config.diff_ids
    record.diff_ids = tuple(map(share, diff_ids)) if len(diff_ids) == len(record.layers) else ()
    record.findings = share(tuple(of_config(config))) if record.kind == "image" else ()
    labels = sorted(f"{name}={shown(name, value)}"[:LABEL_LENGTH] for name, value in config.labels.items())
    record.labels = share(tuple(map(share, labels[:LABELS])))

"""Reports of vulnerability scanners, joined with what a registry holds and with what is in use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct, field

from regnb.analysis.naming import names_of
from regnb.analysis.running import Running
from regnb.cluster import running
from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument
from regnb.oci.platforms import fits, parse_platform
from regnb.oci.reference import is_digest
from regnb.tables.frame import Frame, of_rows
from regnb.text import human

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory
    from regnb.cluster.running import InUse

Report: TypeAlias = "str | Path | Mapping[str, object]"
"""What ``trivy image --format json`` or ``grype -o json`` printed: a file, a folder of such files, or the document."""
REPORT_LIMIT: Final = 256 * 2**20
"""Bytes of one report."""
_HINT: Final = "make it with trivy image --format json, or grype -o json"
_NOT_KNOWN: Final = "not known"
_NONE: Final = msgspec.Raw(b"")


class Scan(NamedTuple):
    """One report.

    Attributes:
        config: The digest of the image's config.
        manifests: Digests of its manifest, or of the index that was asked for.
        platform: ``os/architecture[/variant]``, or "".
        severities: Vulnerability to its severity, in lower case.
        fixable: Vulnerabilities with a fixed version.
        end_of_life: ``yes``, ``no`` or ``not known``.
    """

    scanner: str
    when: datetime | None
    config: str
    manifests: frozenset[str]
    platform: str
    severities: Mapping[str, str]
    fixable: frozenset[str]
    end_of_life: str = _NOT_KNOWN


class _Platform(Struct):
    architecture: str | None = ""
    os: str | None = ""
    variant: str | None = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant))) if self.architecture else ""


class _System(Struct, rename="upper"):
    eosl: bool | None = None


class _Metadata(Struct):
    image_id: str = field(default="", name="ImageID")
    digests: list[str] | None = field(default=None, name="RepoDigests")
    config: _Platform | None = field(default=None, name="ImageConfig")
    system: _System | None = field(default=None, name="OS")


class _Vulnerability(Struct):
    id: str = field(default="", name="VulnerabilityID")
    severity: str = field(default="UNKNOWN", name="Severity")
    fixed: str | None = field(default="", name="FixedVersion")


class _Result(Struct):
    found: list[_Vulnerability] | None = field(default=None, name="Vulnerabilities")


class _Trivy(Struct):
    created: str = field(default="", name="CreatedAt")
    metadata: _Metadata = field(default_factory=_Metadata, name="Metadata")
    results: list[_Result] | None = field(default=None, name="Results")

    def scan(self) -> Scan:
        found = [one for result in self.results or () for one in result.found or ()]
        about = self.metadata
        supported = about.system.eosl if about.system else None
        return Scan(
            "trivy",
            _date(self.created),
            about.image_id,
            _digests([about.image_id, *(about.digests or ())]),
            str(about.config or ""),
            {one.id: one.severity.lower() for one in found},
            frozenset(one.id for one in found if one.fixed),
            _NOT_KNOWN if about.system is None else "yes" if supported else _NOT_KNOWN,
        )


class _Target(_Platform, rename="camel"):
    image_id: str = field(default="", name="imageID")
    manifest_digest: str = ""
    repo_digests: list[str] | None = None


class _Fix(Struct):
    versions: list[str] | None = None


class _Grype(Struct):
    id: str = ""
    severity: str = "Unknown"
    fix: _Fix | None = None


class _Match(Struct):
    vulnerability: _Grype


class _Source(Struct):
    type: str = ""
    target: msgspec.Raw = msgspec.Raw(b"{}")


class _Descriptor(Struct):
    timestamp: str | None = ""


class _Matches(Struct):
    matches: list[_Match] | None = None
    source: _Source = field(default_factory=_Source)
    descriptor: _Descriptor = field(default_factory=_Descriptor)

    def scan(self) -> Scan:
        target = msgspec.json.decode(self.source.target, type=_Target) if self.source.type == "image" else _Target()
        found = [match.vulnerability for match in self.matches or ()]
        return Scan(
            "grype",
            _date(self.descriptor.timestamp or ""),
            target.image_id,
            _digests([target.image_id, target.manifest_digest, *(target.repo_digests or ())]),
            str(target),
            {one.id: one.severity.lower() for one in found},
            frozenset(one.id for one in found if one.fix and one.fix.versions),
        )


class _Any(Struct):
    results: msgspec.Raw = field(default=_NONE, name="Results")
    name: str | None = field(default=None, name="ArtifactName")
    matches: msgspec.Raw = _NONE


def _date(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _digests(texts: Iterable[str]) -> frozenset[str]:
    """Return the digests of references such as ``host/repository@sha256:…``, and those that stand alone."""
    found = (text.rpartition("@")[2] for text in texts)
    return frozenset(text for text in found if is_digest(text))


def read_report(data: bytes, name: str) -> Scan:
    """Read a scanner's report.

    Raises:
        InvalidArgument: It is not a report of an image by trivy or grype.

    Example:
        >>> read_report(b'{"matches":[{"vulnerability":{"id":"CVE-1","severity":"Critical"}}]}', "a").severities
        {'CVE-1': 'critical'}
    """
    try:
        kind = msgspec.json.decode(data, type=_Any)
        if bytes(kind.matches):
            return msgspec.json.decode(data, type=_Matches).scan()
        if bytes(kind.results) or kind.name is not None:
            return msgspec.json.decode(data, type=_Trivy).scan()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"{name} is not a scanner's report: {str(error)[:200]}", hint=_HINT) from None
    raise InvalidArgument(f"{name} is not a report of trivy or grype", hint=_HINT)


def read_reports(reports: Report | Iterable[Report]) -> Iterator[Scan]:
    """Read reports, one after the other.

    Raises:
        InvalidArgument: One is not a report.
        StorageError: A file cannot be read.

    Example:
        >>> [scan.scanner for scan in read_reports("reports")]
        ['grype', 'trivy']
    """
    for one in [reports] if isinstance(reports, str | Path | Mapping) else reports:
        if isinstance(one, Mapping):
            yield read_report(msgspec.json.encode(one), "the document")
            continue
        path = Path(one)
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            with file_errors(f"read {file}", _HINT):
                if file.stat().st_size > REPORT_LIMIT:
                    raise InvalidArgument(f"{file} has more than {human(REPORT_LIMIT)}", hint=_HINT)
                data = file.read_bytes()
            yield read_report(data, str(file))


class _Scans:
    """Reports, by what they may be found by."""

    def __init__(self, scans: Iterable[Scan]) -> None:
        self._configs: dict[str, list[Scan]] = defaultdict(list)
        self._manifests: dict[str, list[Scan]] = defaultdict(list)
        for scan in scans:
            if scan.config:
                self._configs[scan.config].append(scan)
            for digest in scan.manifests:
                self._manifests[digest].append(scan)

    def find(self, config: str, manifest: str, indexes: Iterable[str], platform: str) -> tuple[list[Scan], str]:
        """Return the reports of an image, and how they were found."""
        found = [*self._configs.get(config, ())]
        how = "config digest" if found else "manifest digest"
        # Of two scanners only one may name the config.
        found += [scan for scan in self._manifests.get(manifest, ()) if scan not in found]
        if found:
            return found, how
        listed = [scan for index in indexes for scan in self._manifests.get(index, ())]
        if found := [scan for scan in listed if _same(scan.platform, platform)]:
            return found, "index and platform"
        return [], ""


def _same(first: str, second: str) -> bool:
    """Whether two platforms are one; scanners leave out variants that go without saying."""
    try:
        return bool(first and second) and fits(parse_platform(first), parse_platform(second))
    except InvalidArgument:
        return False


def join(inventory: Inventory, reports: Report | Iterable[Report], in_use: InUse = None) -> Frame:
    """Return the images of an inventory with what scanners found in them (``scanned``)."""
    scans = _Scans(read_reports(reports))
    used = None if in_use is None else Running(inventory, running.running(in_use))
    images = inventory.manifests[inventory.manifests["kind"] == "image"]
    indexes: dict[str, list[str]] = defaultdict(list)
    children = inventory.children
    for index, child in zip(children["manifest"].astype("str"), children["child"].astype("str"), strict=True):
        indexes[child].append(index)
    named = names_of(inventory.tags, inventory.children).drop_duplicates(["repository", "digest"])
    names = {(row[0], row[2]): row[1] for row in named.itertuples(index=False, name=None)}
    columns = (images[name].fillna("").tolist() for name in ("repository", "digest", "platform", "config"))
    rows = []
    for repository, digest, platform, config in zip(*columns, strict=True):
        found, matched = scans.find(config, digest, indexes.get(digest, ()), platform)
        tag = names.get((repository, digest), "")
        where = used.where(repository, tag, digest) if used else None
        rows.append((repository, tag or digest, digest, platform, *_row(found, where), matched, _end(found)))
    order = {"vulnerable and running": 0, "vulnerable": 1, "vulnerable and unused": 2, "unscanned": 3}
    rows.sort(key=lambda row: (order.get(row[4], 9), -(row[5] or 0), row[0], row[1]))
    return of_rows("scanned", rows)


def _row(found: Sequence[Scan], where: str | None) -> tuple[object, ...]:
    """Return state, counts, where it runs, scanner and date."""
    if not found:
        return "unscanned", None, None, None, where, "", None
    critical, high = (max(sum(one == name for one in scan.severities.values()) for scan in found)
                      for name in ("critical", "high"))  # fmt: skip
    fixable = max(sum(scan.severities[one] in ("critical", "high") for one in scan.fixable) for scan in found)
    state = "vulnerable" if critical else "clean"
    if critical and where is not None:
        state = "vulnerable and running" if where else "vulnerable and unused"
    dates = [scan.when for scan in found if scan.when]
    scanners = ", ".join(sorted({scan.scanner for scan in found}))
    return state, critical, high, fixable, where, scanners, max(dates, default=None)


def _end(found: Sequence[Scan]) -> str:
    """Return whether a report says that the distribution has reached its end of life."""
    return "yes" if any(scan.end_of_life == "yes" for scan in found) else _NOT_KNOWN

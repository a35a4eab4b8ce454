"""An inventory as metrics for Prometheus, in a file for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from regnb.crawl.files import file_errors
from regnb.errors import InvalidArgument, MissingExtra

try:
    from prometheus_client import CollectorRegistry, Gauge, Metric, write_to_textfile
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    raise MissingExtra("prometheus-client", "cli") from None

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory  # the web UI reads a file, and loads no frames for it

METRICS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "regnb_audit_timestamp_seconds": ("When the audit began to read.", ()),
    "regnb_audit_complete": ("1 if everything that was listed could be read; else sizes are lower bounds.", ()),
    "regnb_audit_findings": ("What the audit's own thresholds found: see kind.", ("kind",)),
    "regnb_repositories": ("Repositories.", ()),
    "regnb_tags": ("Tags.", ()),
    "regnb_tags_not_pullable": ("Tags that cannot be pulled.", ()),
    "regnb_manifests": ("Manifests: over HTTP those that tags lead to.", ()),
    "regnb_blobs": ("Blobs, each counted once.", ()),
    "regnb_stored_bytes": ("Bytes of all blobs, each counted once: over HTTP those that tags lead to.", ()),
    "regnb_unshared_bytes": ("Bytes of all tags, if nothing were shared.", ()),
    "regnb_disk_bytes": ("Bytes of every file of the storage; only if the storage was read.", ()),
    "regnb_reclaimable_bytes": (
        "Bytes that a garbage collection would remove now; only if the storage was read.",
        ("collection", "version"),
    ),
    "regnb_problems": ("What could not be read, or is damaged.", ("problem",)),
    "regnb_repository_bytes": ("Bytes of each of the 50 largest repositories.", ("repository",)),
}
"""Every metric: what it tells, and its labels beside ``registry`` and ``source`` (api or storage). All are gauges."""
FINDINGS: Final = ("threshold", "drift")
"""Kinds of ``regnb_audit_findings``: --fail-over, --fail-on-growth and --fail-on-problems; --fail-on-drift."""
_REPOSITORIES: Final = 50
_COMMON: Final = ("registry", "source")


def _values(inventory: Inventory, findings: Mapping[str, int]) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """Yield each metric's name, labels and value."""
    found = inventory.summary
    yield "regnb_audit_timestamp_seconds", (), inventory.started.timestamp()
    yield "regnb_audit_complete", (), found.complete
    for kind in FINDINGS:
        yield "regnb_audit_findings", (kind,), findings.get(kind, 0)
    yield "regnb_repositories", (), found.repositories
    yield "regnb_tags", (), found.tags
    yield "regnb_tags_not_pullable", (), int((~inventory.tags["pullable"].fillna(value=True)).sum())
    yield "regnb_manifests", (), found.manifests
    yield "regnb_blobs", (), found.blobs
    yield "regnb_stored_bytes", (), found.stored
    yield "regnb_unshared_bytes", (), found.pulled
    if inventory.source == "storage":
        yield "regnb_disk_bytes", (), found.disk or 0
        for row in inventory.reclaim().table.to_dict("records"):
            if row["bound"] != "fails":
                yield "regnb_reclaimable_bytes", (str(row["collection"]), str(row["version"])), row["size"]
    for problem, rows in inventory.problems["problem"].value_counts().items():
        yield "regnb_problems", (str(problem),), rows
    for row in inventory.repositories.nlargest(_REPOSITORIES, "size").to_dict("records"):
        yield "regnb_repository_bytes", (str(row["repository"]),), row["size"]


def metrics(inventory: Inventory, findings: Mapping[str, int] | None = None) -> CollectorRegistry:
    """Return an inventory as prometheus-client's gauges.

    Args:
        inventory: What was read.
        findings: How much the audit's thresholds found, by the kinds of :data:`FINDINGS`.

    Example:
        >>> metrics(inventory).get_sample_value("regnb_tags", {"registry": inventory.registry, "source": "api"})
        55.0
    """
    made = CollectorRegistry()
    gauges = {name: Gauge(name, help_, (*_COMMON, *labels), registry=made) for name, (help_, labels) in METRICS.items()}
    for name, labels, value in _values(inventory, findings or {}):
        gauges[name].labels(inventory.registry, inventory.source, *labels).set(value)
    return made


def write(path: Path, inventory: Inventory, findings: Mapping[str, int] | None = None) -> None:
    """Write an inventory's metrics into a file, whole or not at all: what reads it never sees half of it.

    Raises:
        StorageError: The file cannot be written.

    Example:
        >>> write(Path("regnb.prom"), inventory)
    """
    made = metrics(inventory, findings)
    with file_errors(f"write {path}"):
        write_to_textfile(str(path), made)


def read(path: Path) -> Sequence[Metric]:
    """Return the metrics in a file that :func:`write` wrote.

    Raises:
        InvalidArgument: The file has something else.
        StorageError: The file cannot be read.

    Example:
        >>> write(Path("regnb.prom"), inventory)
        >>> [each.name for each in read(Path("regnb.prom"))]
        ['regnb_audit_timestamp_seconds', ...]
    """
    with file_errors(f"read {path}"):
        try:
            found = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
        except ValueError:
            raise InvalidArgument(f"{path} has no metrics", hint="name what regnb audit --prometheus wrote") from None
    return [each for each in found if each.name in METRICS]

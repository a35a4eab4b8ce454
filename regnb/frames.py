"""Records become DataFrames. This is the only place where a column is named, and every column is described here."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import pandas as pd
from msgspec.structs import astuple

from regnb.collect import Coverage, Records, subject_of_tag
from regnb.errors import InvalidArgument
from regnb.filesystem import file_errors
from regnb.graph import Edges, Graph, Numbered, strings
from regnb.model import Manifest
from regnb.reference import Digest, is_digest

Format = Literal["parquet", "csv", "jsonl"]

COLUMNS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "repositories": {
        "repository": ("str", "name"),
        "status": ("str", "read, empty (listed, but without tags), failed or denied"),
        "tags": ("int64", "tags listed"),
        "manifests": ("int64", "distinct manifests, those that no tag leads to included"),
        "untagged": ("int64", "manifests that no tag leads to; over HTTP they cannot be seen"),
        "size": ("int64", "bytes: every blob that its manifests need, counted once"),
        "exclusive": ("int64", "bytes of these that no other repository needs: they would go if it alone went"),
        "share": (
            "int64",
            "bytes: its part of each blob, divided by the repositories that need it; adds up to the total",
        ),
        "pull_size": ("int64", "bytes: the sum over its tags, each counted as if it were alone"),
        "newest": ("datetime64[us, UTC]", "creation of the newest image"),
        "complete": ("bool", "whether everything behind its tags was read; if not, sizes are lower bounds"),
    },
    "tags": {
        "repository": ("str", "name"),
        "tag": ("str", "name"),
        "digest": ("str", "of the manifest that the tag points at; missing if it could not be read"),
        "kind": ("str", "image, index, attestation, signature, sbom, artifact, schema1 or malformed"),
        "platforms": ("str", "os/architecture of each image behind the tag, without attestations"),
        "created": ("datetime64[us, UTC]", "creation of the newest image behind the tag"),
        "layers": ("int64", "distinct layers behind the tag"),
        "size": ("int64", "bytes: every blob behind the tag, counted once, manifests and configs included"),
        "exclusive": ("int64", "bytes of these that nothing else needs: they would go if this tag alone went"),
        "share": ("int64", "bytes: its part of each blob, divided by the tags that lead to it; adds up to the total"),
        "siblings": ("int64", "other tags of this repository with its digest: deleting by digest takes them along"),
        "elsewhere": ("int64", "tags of other repositories with the same digest"),
        "subject": ("str", "digest that this referrer's tag or manifest speaks about; else missing"),
        "complete": ("bool", "whether everything behind the tag was read; if not, the size is a lower bound"),
    },
    "manifests": {
        "repository": ("str", "name"),
        "digest": ("str", "of the manifest"),
        "kind": ("str", "as in tags"),
        "media_type": ("str", "of the manifest"),
        "artifact_type": ("str", "what an artifact is; for an image its config's media type"),
        "config": ("str", "digest of the config; missing for an index"),
        "platform": ("str", "os/architecture/variant, from the config"),
        "created": ("datetime64[us, UTC]", "from the config"),
        "layers": ("int64", "layers, equal ones counted as often as they stand there"),
        "manifest_size": ("int64", "bytes of the manifest itself"),
        "size": ("int64", "bytes: every blob behind the manifest, counted once, itself included"),
        "tags": ("int64", "tags of this repository that point straight at it"),
        "parents": ("int64", "indexes of this repository that list it"),
        "subject": ("str", "digest of the manifest that it refers to; else missing"),
        "checked": ("bool", "whether the registry was asked for it in this crawl; if not, it came from the cache"),
        "complete": ("bool", "whether everything behind it was read"),
    },
    "children": {
        "manifest": ("category", "digest of an index"),
        "position": ("int32", "0 is the first"),
        "child": ("category", "digest of a manifest that it lists, whether it was found or not"),
    },
    "layers": {
        "manifest": ("category", "digest of the manifest"),
        "position": ("int32", "0 is the base"),
        "digest": ("category", "of the layer"),
        "media_type": ("category", "of the layer"),
        "size": ("int64", "bytes, compressed"),
        "command": ("category", "the history entry that made it, where the config says"),
    },
    "blobs": {
        "digest": ("str", "of the blob"),
        "kind": (
            "str",
            "layer, config, manifest or orphan (nothing needs it); in no total: foreign layer, missing (not on disk)",
        ),
        "media_type": ("str", "of the blob"),
        "size": ("int64", "bytes as stored"),
        "exclusive": ("int64", "bytes that would go with one tag alone: size, or 0 if anything else needs it, too"),
        "pull_size": ("int64", "bytes: size times the tags that lead to it"),
        "manifests": ("int64", "manifests that it belongs to"),
        "tags": ("int64", "tags that lead to it"),
        "repositories": ("int64", "repositories with a manifest that needs it"),
    },
    "problems": {
        "repository": ("str", "name, or empty"),
        "reference": ("str", "tag, digest or endpoint"),
        "problem": (
            "str",
            "failed, denied, dangling, vanished, missing, mismatch, malformed, schema1, too deep, catalog, corrupt, …",
        ),
        "message": ("str", "what happened"),
        "hint": ("str", "what to do next"),
        "incomplete": ("bool", "whether figures are lower bounds because of it"),
    },
    "coverage": {
        "what": ("str", "catalog, repositories, tags, manifests, configs, referrers"),
        "listed": ("int64", "how many there are, as far as is known"),
        "read": ("int64", "asked of the registry in this crawl"),
        "cached": ("int64", "taken from the cache by digest, without asking whether they still exist"),
        "failed": ("int64", "could not be read"),
        "denied": ("int64", "not allowed"),
        "complete": ("bool", "nothing failed and nothing was denied"),
    },
    "history": {
        "repository": ("str", "name"),
        "tag": ("str", "name"),
        "digest": ("str", "that the tag points at, or has pointed at"),
        "when": ("datetime64[us, UTC]", "when the tag was last pointed there, as the storage has it"),
        "current": ("bool", "whether the tag points there now"),
        "present": ("bool", "whether the manifest is still in the repository"),
    },
    "uploads": {
        "repository": ("str", "name"),
        "upload": ("str", "UUID of an upload that was begun and not finished"),
        "started": ("datetime64[us, UTC]", "when"),
        "size": ("int64", "bytes on disk"),
    },
    "disk": {
        "what": ("str", "blobs, links, uploads or other"),
        "files": ("int64", "files"),
        "size": ("int64", "bytes in them"),
    },
    "namespaces": {
        "namespace": ("str", "the repositories' first part"),
        "repositories": ("int64", "repositories"),
        "tags": ("int64", "tags"),
        "size": ("int64", "bytes: every blob that its repositories need, counted once"),
        "exclusive": ("int64", "bytes of these that no other namespace needs"),
        "share": (
            "int64",
            "bytes: its part of each blob, divided by the namespaces that need it; adds up to the total",
        ),
        "pull_size": ("int64", "bytes: the sum over its tags, each counted as if it were alone"),
        "newest": ("datetime64[us, UTC]", "creation of the newest image"),
        "complete": ("bool", "whether everything was read; if not, sizes are lower bounds"),
    },
    "usage": {
        "namespace": ("str", "the repository's first part"),
        "repository": ("str", "name"),
        "tag": ("str", "name; empty for what several share"),
        "kind": ("str", "exclusive (to this tag), tags (of this repository share it) or repositories (share it)"),
        "size": ("int64", "bytes; of what repositories share this one's part. All rows add up to the total"),
    },
    "between": {
        "repository": ("str", "name"),
        "other": ("str", "name of another repository, later in the alphabet"),
        "size": ("int64", "bytes of the blobs that both need"),
    },
    "breakdown": {
        "what": ("str", "pulled, sharing, tags, untagged, orphans, uploads, links, other, disk, or reclaimable"),
        "size": ("int64", "bytes; below zero where something is saved"),
        "total": ("bool", "whether this is a sum of the rows before it"),
        "message": ("str", "what it means"),
    },
    "reclaim": {
        "collection": ("str", "garbage-collect, or garbage-collect --delete-untagged"),
        "version": ("str", "of distribution"),
        "size": ("int64", "bytes of the blobs that it removes"),
        "before": ("int64", "bytes of these that it would remove without the deletion, too"),
        "blobs": ("int64", "blobs that it removes"),
        "manifests": ("int64", "manifests that it takes out of their repositories"),
        "bound": ("str", "how size is meant: exact, at most, at least, or estimate; fails if it cannot run"),
        "message": ("str", "why, or what to beware of"),
    },
    "reclaim_blobs": {
        "digest": ("str", "of a blob that a collection removes"),
        "kind": ("str", "as in blobs"),
        "size": ("int64", "bytes"),
        "plain": ("bool", "whether garbage-collect removes it"),
        "untagged": ("bool", "whether garbage-collect --delete-untagged does, in distribution 3"),
        "untagged_2": ("bool", "whether garbage-collect --delete-untagged does, in distribution 2.8"),
        "before": ("bool", "whether garbage-collect would remove it without the deletion, too"),
    },
    "reclaim_stays": {
        "digest": ("str", "of a blob that the deletion leaves"),
        "kind": ("str", "as in blobs"),
        "size": ("int64", "bytes"),
        "repository": ("str", "that still needs it"),
        "because": ("str", "its tags that lead to it, or the digest of a manifest without a tag"),
    },
    "free": {
        "repository": ("str", "name"),
        "tag": ("str", "name"),
        "digest": ("str", "of the manifest that the tag points at"),
        "created": ("datetime64[us, UTC]", "creation of the newest image behind the tag"),
        "size": ("int64", "bytes behind the tag"),
        "freed": ("int64", "bytes that go with this row, after the rows before it"),
        "total": ("int64", "bytes that go with the rows up to this one"),
        "reason": ("str", "why it was chosen"),
    },
    "snapshots": {
        "snapshot": ("str", "its name"),
        "registry": ("str", "host:port, or the storage's URL"),
        "started": ("datetime64[us, UTC]", "when the reading began"),
        "source": ("str", "api or storage"),
        "repositories": ("int64", "repositories"),
        "tags": ("int64", "tags"),
        "stored": ("int64", "bytes: every blob once"),
        "pulled": ("int64", "bytes: the sum over all tags"),
        "disk": ("int64", "bytes on disk; 0 where only the API was read"),
        "complete": ("bool", "whether everything was read"),
        "schema": ("int64", "version of the snapshot's layout"),
        "status": ("str", "ok, or why it cannot be read"),
        "url": ("str", "where it is"),
    },
    "changed_tags": {
        "change": ("str", "new, moved or vanished"),
        "repository": ("str", "name"),
        "tag": ("str", "name"),
        "before": ("str", "digest; missing if it was not there, or could not be read"),
        "after": ("str", "digest; missing if it is not there, or could not be read"),
        "gained": ("int64", "bytes of the blobs behind it that were nowhere before"),
        "freed": ("int64", "bytes of the blobs behind it that are nowhere now"),
    },
    "changed_repositories": {
        "repository": ("str", "name"),
        "new": ("int64", "tags"),
        "moved": ("int64", "tags"),
        "vanished": ("int64", "tags"),
        "gained": ("int64", "bytes: its part of the blobs that were nowhere before; adds up to the total"),
        "freed": ("int64", "bytes: its part of the blobs that are nowhere now; adds up to the total"),
        "cause": ("str", "in words"),
    },
    "comparison": {
        "state": ("str", "same, missing (in the second), extra (in the second), drifted (another digest) or unread"),
        "repository": ("str", "name in the first; in the second where it is extra"),
        "tag": ("str", "name"),
        "first": ("str", "digest in the first; missing if there is none"),
        "second": ("str", "digest in the second; missing if there is none"),
        "size": ("int64", "bytes behind the tag, in the first; in the second where it is extra"),
    },
    "growth": {
        "when": ("datetime64[us, UTC]", "when the snapshot was read"),
        "stored": ("int64", "bytes: every blob once"),
        "pulled": ("int64", "bytes: the sum over all tags"),
        "disk": ("int64", "bytes on disk; 0 where only the API was read"),
        "tags": ("int64", "tags"),
        "new": ("int64", "tags that were not there in the snapshot before"),
        "moved": ("int64", "tags that pointed elsewhere"),
        "vanished": ("int64", "tags that were there"),
        "complete": ("bool", "whether everything was read; if not, bytes are lower bounds"),
    },
    "reconciled": {
        "cause": ("str", "why the registry's API and its disk differ"),
        "blobs": ("int64", "blobs concerned"),
        "size": ("int64", "bytes: the first row and all differences add up to the last row"),
        "total": ("bool", "whether this is one of the two sums, and not a difference"),
        "message": ("str", "what it means, with an example"),
    },
    "shared_tags": {
        "digest": ("str", "that several tags carry"),
        "kind": ("str", "as in tags"),
        "size": ("int64", "bytes behind it"),
        "tags": ("int64", "tags with this digest"),
        "repositories": ("int64", "repositories with such a tag"),
        "references": ("str", "repository:tag of each"),
    },
    "shared_layers": {
        "digest": ("str", "of a layer, in several manifests or repositories unless the largest were asked for"),
        "size": ("int64", "bytes"),
        "command": ("str", "what made it, where a config says"),
        "manifests": ("int64", "manifests that have it"),
        "tags": ("int64", "tags that lead to it"),
        "repositories": ("int64", "repositories with such a tag"),
        "saved": ("int64", "bytes that sharing saves, against a copy for each manifest of each repository"),
        "used_by": ("str", "names of these repositories"),
    },
    "image_layers": {
        "platform": ("str", "of the image; empty if its config does not say"),
        "position": ("int64", "0 is the base"),
        "digest": ("str", "of the layer"),
        "media_type": ("str", "of the layer"),
        "size": ("int64", "bytes, compressed"),
        "command": ("str", "the history entry that made it, where the config says"),
    },
    "plan": {
        "action": ("str", "put (a manifest by digest), tag, untag, delete or keep"),
        "repository": ("str", "name"),
        "tag": ("str", "name; empty where a manifest is meant by its digest"),
        "before": ("str", "digest that is there when the plan is made; missing if there is none"),
        "after": ("str", "digest that will be there; missing if there will be none"),
        "tags": ("int64", "tags that a deletion by digest takes along"),
        "size": ("int64", "bytes of every blob behind the manifest, counted once"),
        "reason": ("str", "why this row is here"),
        "curl": ("str", "the same for a shell, without credentials"),
    },
    "effects": {
        "effect": ("str", "tag or child or referrer (goes too), parent (breaks), orphan or shared (stays), running"),
        "repository": ("str", "name"),
        "reference": ("str", "tag or digest; empty for a whole repository"),
        "size": ("int64", "bytes that are concerned"),
        "message": ("str", "what it means"),
    },
    "receipt": {
        "step": ("int64", "row of the plan"),
        "action": ("str", "as in the plan"),
        "repository": ("str", "name"),
        "tag": ("str", "name, or empty"),
        "before": ("str", "digest that was there just before; missing if there was none"),
        "after": ("str", "digest that was there just after, as it was read again; missing if there was none"),
        "status": ("str", "done, stale (moved since the plan, not touched), failed, skipped, or unknown"),
        "message": ("str", "what happened, where it is not plain"),
        "when": ("datetime64[us, UTC]", "when it was known"),
    },
    "receipts": {
        "receipt": ("str", "its name"),
        "started": ("datetime64[us, UTC]", "when"),
        "who": ("str", "user and machine"),
        "operation": ("str", "what the plan was for"),
        "registry": ("str", "host:port"),
        "steps": ("int64", "rows of the plan that change something"),
        "done": ("int64", "rows that were done"),
        "status": ("str", "done, partial, unfinished (the process ended before its last row) or broken"),
    },
    "checks": {
        "check": ("str", "what was looked at"),
        "state": ("str", "ok, warn, fail, or skipped: it was not asked"),
        "found": ("str", "how it is"),
        "hint": ("str", "what to do about it; empty if nothing is to be done"),
    },
    "catalog": {"repository": ("str", "name")},
    "tag_list": {"repository": ("str", "name"), "tag": ("str", "name")},
}
"""Frame to column to (dtype, meaning). ``size`` is bytes as stored and transferred, everywhere."""

SIZES = frozenset({
    "size", "exclusive", "share", "pull_size", "manifest_size", "saved", "freed", "total", "gained", "before", "stored",
    "pulled", "disk",
})  # fmt: skip
_DIGESTS = frozenset({"digest", "manifest", "subject", "config", "child", "before", "after", "first", "second"})
_SHOWN = 60


def human(size: float) -> str:
    """Return bytes as people read them, in powers of 1000.

    Example:
        >>> human(2_097_498_376)
        '2.1 GB'
    """
    size = float(size)
    if not np.isfinite(size):
        return ""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size) < 999.5 or unit == "TB":  # noqa: PLR2004 -- what would round up to 1000
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 99.5 else f"{size:.1f} {unit}"  # noqa: PLR2004


def parse_size(size: float | str) -> int:
    """Return a number of bytes that a person wrote: ``500GB``, ``1.5 TB`` or ``2GiB``.

    Raises:
        InvalidArgument: It is none.

    Example:
        >>> parse_size("1.5 GB"), parse_size("2KiB")
        (1500000000, 2048)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", str(size).strip(), re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise InvalidArgument(f"not a size: {str(size)[:100]!r}", hint="write bytes with a unit, such as 500GB or 2GiB")
    return int(Decimal(match[1]) * (1024 if match[3] else 1000) ** ("", *"kmgtp").index(match[2].lower()))


def _harmless(text: str) -> str:
    """Return a text without what would steer a terminal or turn the direction of writing."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _cell(column: str) -> Callable[[Any], str]:
    def show(value: Any) -> str:  # noqa: ANN401 -- a cell holds anything
        if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
            return ""
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if column in SIZES and isinstance(value, int | float | np.number):
            return human(float(value))
        if column in _DIGESTS and isinstance(value, str) and is_digest(value):
            return Digest(value).short
        if isinstance(value, pd.Timestamp):
            return value.strftime("%Y-%m-%d %H:%M")
        text = _harmless(str(value))
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"

    return show


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural.

    Example:
        >>> count(1, "tag")
        '1 tag'
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _td(text: str, value: object, align: str) -> str:
    # What was shortened is whole in the tooltip, to be read or copied.
    title = f' title="{html.escape(_harmless(value[:1000]))}"' if isinstance(value, str) and value != text else ""
    return f'<td style="text-align:{align};white-space:nowrap"{title}>{html.escape(text)}</td>'


class Frame(pd.DataFrame):
    """A DataFrame that a person can read in a notebook: sizes with units, short digests, everything escaped.

    The values are the plain ones: bytes as integers, digests whole. Every pandas operation gives a Frame again.

    Example:
        >>> Frame({"size": [2_097_498_376]})._repr_html_().count("2.1 GB")
        1
    """

    @property
    def _constructor(self) -> Callable[..., Frame]:
        return Frame

    def readable(self) -> tuple[pd.DataFrame, bool]:
        """Return the rows that fit a screen, as text for people, and whether some were cut."""
        rows = int(cast("int", pd.get_option("display.max_rows") or len(self)))
        cut = len(self) > rows
        shown = pd.DataFrame(self.head(rows) if cut else self)
        # By position: a selection may well hold a column twice.
        columns = [[_cell(str(name))(value) for value in shown.iloc[:, at]] for at, name in enumerate(shown.columns)]
        text = pd.DataFrame(dict(enumerate(columns)), index=shown.index, dtype="str")
        text.columns = shown.columns
        return text, cut

    def _repr_html_(self) -> str:
        text, cut = self.readable()
        align = [
            "right" if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) else "left"
            for dtype in self.dtypes
        ]
        head = "".join(
            f'<th style="text-align:{side}">{html.escape(_harmless(str(name)))}</th>'
            for name, side in zip(text.columns, align, strict=True)
        )
        whole = self.head(len(text)).itertuples(index=False, name=None)
        body = "".join(
            f"<tr><th>{html.escape(_harmless(str(label)))}</th>{''.join(map(_td, row, values, align))}</tr>"
            for label, row, values in zip(text.index, text.itertuples(index=False, name=None), whole, strict=True)
        )
        more = f"{len(self) - len(text):,} more rows. " if cut else ""
        return (
            '<div style="max-width:100%;overflow-x:auto" tabindex="0">'
            '<table class="dataframe" style="white-space:nowrap">'
            f"<thead><tr><th></th>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>"
            f"<p>{more}{count(len(self), 'row')}, {count(len(self.columns), 'column')}</p>"
        )

    def __repr__(self) -> str:
        text, _ = self.readable()
        with pd.option_context("display.max_colwidth", _SHOWN):
            return repr(text) if len(text) else f"no rows ({', '.join(map(str, self.columns))})"


def make(name: str, columns: Mapping[str, Any]) -> Frame:
    """Return the frame ``name`` of :data:`COLUMNS` from its columns, each given the dtype that stands there."""
    schema = COLUMNS[name]
    if set(columns) != set(schema):
        raise AssertionError(f"{name}: {sorted(set(columns) ^ set(schema))}")
    series = {}
    for column, (name_of_type, _) in schema.items():
        dtype = cast("Any", name_of_type)
        values = columns[column]
        if dtype.startswith("datetime64"):
            dates = pd.Series(pd.to_datetime(values, utc=True, format="ISO8601", errors="coerce"))
            series[column] = dates.reset_index(drop=True).astype(dtype)
        elif isinstance(values, pd.Series | pd.Categorical):
            series[column] = pd.Series(values).reset_index(drop=True).astype(dtype)
        else:
            series[column] = pd.Series(values, dtype=dtype)
    return Frame(series)


def of_rows(name: str, rows: Iterable[Sequence[object]]) -> Frame:
    """Make a frame of COLUMNS of rows, whose cells stand in the order of the columns.

    Example:
        >>> of_rows("breakdown", [("tags", 12_000, True, "what tags lead to")])["what"][0]
        'tags'
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS[name])
    return make(name, dict(zip(COLUMNS[name], columns, strict=True)))


def _dates(texts: Iterable[str]) -> pd.Series[pd.Timestamp]:
    found = pd.Series(pd.to_datetime(list(texts), utc=True, format="ISO8601", errors="coerce"))
    found = found.astype("datetime64[us, UTC]")
    # Go's zero time says "not known".
    return found.where(found.dt.year > 1)


def tabulate(records: Records) -> dict[str, Frame]:
    """Return the frames that an inventory has: those of :data:`COLUMNS` up to ``disk``.

    Example:
        >>> from datetime import UTC, datetime
        >>> tabulate(Records("localhost:5000", datetime.now(UTC)))["tags"].empty
        True
    """
    records.tags.sort(key=lambda row: (row.repository, row.tag))
    records.repositories = dict(sorted(records.repositories.items()))
    numbers = Numbered(records)
    graph = numbers.graph()
    behind = _Behind(records, numbers, graph)
    manifests = _manifests(records, numbers, graph, behind)
    tags = _tags(records, graph, behind, manifests)
    return {
        "repositories": _repositories(records, graph, tags),
        "tags": tags,
        "manifests": manifests,
        "children": _children(records),
        "layers": _layers(records, numbers),
        "blobs": _blobs(records, graph),
        "problems": _problems(records),
        "coverage": _coverage(records.coverage),
        "history": of_rows("history", map(astuple, records.history)),
        "uploads": of_rows("uploads", map(astuple, records.uploads)),
        "disk": of_rows("disk", ((what, files, size) for what, (files, size) in records.disk.items())),
    }


class _Behind:
    """What is behind each row of ``manifests``."""

    def __init__(self, records: Records, numbers: Numbered, graph: Graph) -> None:
        manifests = list(records.manifests.values())
        self.kind = numbers.each(row.kind for row in manifests)
        broken = np.fromiter((row.kind in ("schema1", "malformed") for row in manifests), np.int64, len(manifests))
        place = np.zeros(len(graph.digests) + 1, dtype=bool)
        place[numbers.blob] = True
        lister = np.repeat(np.arange(len(manifests)), numbers.children[0])
        broken[lister[~place[numbers.children[1]]]] = 1
        is_layer = np.fromiter(("layer" in blob.kind for blob in records.blobs.values()), np.int64, len(records.blobs))
        self.size = graph.total(graph.behind)
        self.layers = graph.total(graph.behind, is_layer)
        self.complete = graph.total(graph.reach, broken[numbers.manifest]) == 0
        self.own = _dates(row.created for row in manifests).take(numbers.manifest).reset_index(drop=True)
        # The missing date is the smallest number.
        inner = self.own.to_numpy(dtype="datetime64[us]").view(np.int64)[graph.reach.target]
        newest = np.maximum.reduceat(inner, graph.reach.start[:-1]) if len(inner) else inner
        self.created = pd.Series(newest.view("datetime64[us]")).dt.tz_localize("UTC")
        self.platforms = numbers.each(row.platform for row in manifests).where(self.kind == "image", "")
        image = self.platforms.to_list()
        for row in np.flatnonzero(graph.below.counts).tolist():
            named = {image[one] for one in graph.reach.of(np.array([row]))[1].tolist()}
            self.platforms[row] = ", ".join(sorted(named - {""}))


def _manifests(records: Records, numbers: Numbered, graph: Graph, behind: _Behind) -> Frame:
    rows = list(records.manifests.values())
    texts = {
        name: numbers.each(getattr(row, name) for row in rows)
        for name in ("config", "subject", "media_type", "artifact_type", "platform")
    }
    return make(
        "manifests",
        {
            "repository": [repository for repository, _ in numbers.links],
            "digest": [digest for _, digest in numbers.links],
            "kind": behind.kind,
            **texts,
            "config": texts["config"].where(texts["config"] != ""),
            "created": behind.own,
            "layers": numbers.layers[0][numbers.manifest],
            "manifest_size": np.fromiter((row.manifest_size for row in rows), np.int64, len(rows))[numbers.manifest],
            "size": behind.size,
            "tags": graph.tagged,
            "parents": graph.above,
            "subject": texts["subject"].where(texts["subject"] != ""),
            "checked": list(map(records.links.__getitem__, numbers.links)),
            "complete": behind.complete,
        },
    )


def _tags(records: Records, graph: Graph, behind: _Behind, manifests: Frame) -> Frame:
    rows = records.tags
    at = graph.tags
    read = at >= 0
    exclusive, share = graph.of_tags()
    everywhere = np.bincount(graph.manifest[at[read]], minlength=len(graph.digests))
    siblings, elsewhere = (np.zeros(len(rows), dtype=np.int64) for _ in range(2))
    siblings[read] = graph.tagged[at[read]] - 1
    elsewhere[read] = everywhere[graph.manifest[at[read]]] - graph.tagged[at[read]]
    # A manifest that could not be read has no row, and its tags are siblings all the same.
    unread = [number for number in np.flatnonzero(~read).tolist() if rows[number].digest]
    here = Counter((rows[number].repository, rows[number].digest) for number in unread)
    there = Counter(rows[number].digest for number in unread)
    for number in unread:
        siblings[number] = here[rows[number].repository, rows[number].digest] - 1
        elsewhere[number] = there[rows[number].digest] - siblings[number] - 1

    def of(values: Any) -> Any:  # noqa: ANN401 -- a column
        return pd.Series(values).reindex(at)

    subject = of(manifests["subject"]).to_numpy(dtype=object, na_value=None)
    for number in np.flatnonzero(pd.isna(subject)).tolist():
        subject[number] = subject_of_tag(rows[number].tag) or None
    digest = pd.Series([row.digest for row in rows], dtype="str")
    return make(
        "tags",
        {
            "repository": [row.repository for row in rows],
            "tag": [row.tag for row in rows],
            "digest": digest.where(digest != ""),
            "kind": of(behind.kind),
            "platforms": of(behind.platforms).fillna(""),
            "created": of(behind.created),
            "layers": of(behind.layers).fillna(0),
            "size": np.where(read, np.append(behind.size, 0)[at], 0),
            "exclusive": exclusive,
            "share": share,
            "siblings": siblings,
            "elsewhere": elsewhere,
            "subject": subject,
            "complete": np.append(behind.complete, False)[at] & read,
        },
    )


def _repositories(records: Records, graph: Graph, tags: Frame) -> Frame:
    names = list(records.repositories)
    owned = graph.owned(graph.held)
    groups = tags.groupby("repository")
    troubled = {problem.repository for problem in records.problems if problem.incomplete}
    return make(
        "repositories",
        {
            "repository": names,
            "status": list(records.repositories.values()),
            "tags": groups.size().reindex(names, fill_value=0),
            "manifests": np.bincount(graph.repository, minlength=len(names)),
            "untagged": np.bincount(graph.repository[graph.bare], minlength=len(names)),
            **owned._asdict(),
            "pull_size": groups["size"].sum().reindex(names, fill_value=0),
            "newest": groups["created"].max().reindex(names).to_list(),
            "complete": [name not in troubled for name in names],
        },
    )


def _children(records: Records) -> Frame:
    rows = [row for row in records.manifests.values() if row.children]
    return make(
        "children",
        {
            "manifest": pd.Categorical([row.digest for row in rows for _ in row.children]),
            "position": [position for row in rows for position in range(len(row.children))],
            "child": pd.Categorical([child for row in rows for child in row.children]),
        },
    )


def _layers(records: Records, numbers: Numbered) -> Frame:
    counts, blob = numbers.layers
    rows = list(records.manifests.values())
    texts: dict[str, int] = {}
    commands = (row.commands or ("",) * len(row.layers) for row in rows)
    command = np.fromiter((texts.setdefault(text, len(texts)) for text in chain.from_iterable(commands)), np.int32)
    digests, digest = np.unique(blob, return_inverse=True)
    blobs = list(records.blobs.values())
    known = pd.Series(list(records.blobs), dtype="str")
    media_type = pd.Categorical([blobs[number].media_type for number in digests.tolist()])
    size = np.fromiter((blob.size for blob in blobs), np.int64, len(blobs))[blob]
    # Only what has layers is a category.
    owner = np.flatnonzero(counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    manifest = np.repeat(np.arange(len(owner)), counts[owner])
    return make(
        "layers",
        {
            "manifest": pd.Categorical.from_codes(manifest, pd.Index(known.take(numbers.blob[owner]))),
            "position": np.arange(len(blob)) - first,
            "digest": pd.Categorical.from_codes(digest, pd.Index(known.take(digests))),
            "media_type": media_type.take(digest),
            "size": size,
            "command": pd.Categorical.from_codes(command, pd.Index(list(texts), dtype="str")),
        },
    )


def _blobs(records: Records, graph: Graph) -> Frame:
    blobs = list(records.blobs.values())
    is_manifest = np.bincount(graph.manifest, minlength=len(blobs)) > 0
    size = np.fromiter((blob.size for blob in blobs), np.int64, len(blobs))
    return make(
        "blobs",
        {
            "digest": list(records.blobs),
            "kind": [blob.kind for blob in blobs],
            "media_type": [blob.media_type for blob in blobs],
            "size": size,
            "exclusive": np.where(graph.alone, graph.sizes, 0),
            "pull_size": size * graph.leading,
            "manifests": np.bincount(graph.own.target, minlength=len(blobs)) - is_manifest,
            "tags": graph.leading,
            "repositories": np.bincount(graph.held.target, minlength=len(blobs)),
        },
    )


def _problems(records: Records) -> Frame:
    rows = sorted(records.problems, key=lambda row: (row.repository, row.reference))
    return of_rows("problems", map(astuple, rows))


def _coverage(coverage: Coverage) -> Frame:
    whole = coverage.catalog != "incomplete"
    asked = int(coverage.catalog in ("complete", "incomplete"))
    rows: list[tuple[str, int, int, int, int, int, bool]] = [
        ("catalog", asked, asked * whole, 0, int(not whole), 0, whole)
    ]
    for what in ("repositories", "tags", "manifests", "configs", "referrers"):
        n = getattr(coverage, what)
        rows.append((what, n.listed, n.read, n.cached, n.failed, n.denied, not (n.failed or n.denied)))
    return of_rows("coverage", rows)


def joined(names: Any, groups: Any, limit: int = 20) -> pd.Series[str]:  # noqa: ANN401 -- what pandas and numpy take
    """Return the names of each group as one text; beyond ``limit`` they are only counted.

    Args:
        names: Those of the first group, then those of the second, and so on.
        groups: How many names each group has.
        limit: How many are named.

    Example:
        >>> joined(["8", "8.4", "9"], [2, 1]).to_list()
        ['8, 8.4', '9']
    """
    import pyarrow as pa  # noqa: PLC0415 -- `import regnb` stays light
    import pyarrow.compute as pc  # noqa: PLC0415 -- a million lists take a Python loop some seconds

    groups = np.asarray(groups, dtype=np.int64)
    rank = np.arange(len(names)) - np.repeat(np.cumsum(groups) - groups, groups)
    named = pd.Series(names, dtype="str").reset_index(drop=True)[rank < limit]
    ends = np.append(0, np.cumsum(np.minimum(groups, limit)))
    lists = pa.LargeListArray.from_arrays(ends, strings(named))
    found: pd.Series[str] = pc.binary_join(lists, pa.scalar(", ", pa.large_string())).to_pandas().astype("str")
    for number in np.flatnonzero(groups > limit).tolist():
        found[number] += f", … ({groups[number] - limit:,} more)"
    return found


def shared_tags(tags: Frame) -> Frame:
    """Return the digests that several tags carry, within a repository or across repositories."""
    digest, repository = (pd.factorize(tags[name])[0] for name in ("digest", "repository"))
    carried = np.bincount(digest[digest >= 0])
    several = np.flatnonzero((digest >= 0) & (np.append(carried, 0)[digest] > 1))
    several = several[np.argsort(digest[several], kind="stable")]
    places = Edges(digest[several], repository[several], len(carried))
    found = tags.iloc[several]
    first = np.flatnonzero(np.diff(digest[several], prepend=-1))
    counts = carried[digest[several[first]]]
    columns = {
        **{column: found[column].iloc[first] for column in ("digest", "kind", "size")},
        "tags": counts,
        "repositories": places.counts[digest[several[first]]],
        "references": joined(found["repository"] + ":" + found["tag"], counts),
    }
    return _sorted(make("shared_tags", columns), "tags")


def shared_layers(graph: Graph, layers: Frame, blobs: Frame, *, largest: int = 0) -> Frame:
    """Return the layers that stand in several manifests or repositories, or the largest ones, and who uses them."""
    at, blob = graph.own.of(graph.manifest)
    uses = np.bincount(blob, minlength=len(blobs))
    shared = blobs["kind"].isin(["layer", "foreign layer"]).to_numpy() & (uses > (0 if largest else 1))
    chosen = np.flatnonzero(shared)
    if largest:
        chosen = chosen[np.argsort(-blobs["size"].to_numpy()[chosen], kind="stable")][:largest]
        shared[:] = False
        shared[chosen] = True
    within = shared[blob]
    used = Edges(blob[within], graph.repository[at[within]], len(blobs))
    # The first command that is known of each layer: of equal places the last that is written counts.
    known = np.flatnonzero(
        layers["command"].cat.categories.get_indexer(pd.Index([""]))[0] != layers["command"].cat.codes
    )[::-1]
    first = np.full(len(layers["digest"].cat.categories), -1)
    first[layers["digest"].cat.codes.iloc[known]] = known
    commands = pd.Series(first, index=layers["digest"].cat.categories)
    rows = pd.DataFrame(blobs).iloc[chosen]
    where = commands.reindex(rows["digest"]).fillna(-1).to_numpy(np.int64)
    columns = {
        **{column: rows[column] for column in ("digest", "size", "manifests", "tags", "repositories")},
        "command": layers["command"].astype("str").reindex(where).fillna(""),
        "saved": rows["size"].to_numpy() * (uses[chosen] - 1),
        "used_by": joined(pd.Series(graph.repositories, dtype="str").take(used.of(chosen)[1]), used.counts[chosen]),
    }
    return _sorted(make("shared_layers", columns), "size" if largest else "saved")


def _sorted(frame: Frame, by: str) -> Frame:
    return frame.sort_values([by, "digest"], ascending=[False, True], ignore_index=True)


def image_layers(images: Sequence[tuple[str, Manifest, Sequence[str]]]) -> Frame:
    """Return the layers of one or several images, each given as platform, manifest and one command a layer."""
    rows = [
        (platform, position, layer.digest, layer.media_type, layer.size, command)
        for platform, manifest, commands in images
        for position, (layer, command) in enumerate(zip(manifest.layers, commands, strict=True))
    ]
    return of_rows("image_layers", rows)


def check_format(form: str) -> Format:
    """Return the name of a file format.

    Raises:
        InvalidArgument: It is not one.

    Example:
        >>> check_format("csv")
        'csv'
    """
    if form not in ("parquet", "csv", "jsonl"):
        raise InvalidArgument(f"unknown format: {form!r}", hint="choose parquet, csv or jsonl")
    return cast("Format", form)


def json_lines(frame: pd.DataFrame) -> str:
    r"""Return a frame as JSON lines, one for each row.

    Example:
        >>> json_lines(Frame({"tag": ["8"]}))
        '{"tag":"8"}\n'
    """
    return frame.to_json(orient="records", lines=True, date_format="iso") if len(frame) else ""


def make_folder(folder: Path) -> None:
    """Make a folder to write into, unless it is there.

    Raises:
        StorageError: It cannot be made.
    """
    with file_errors(f"write to {folder}", "name a folder that you may write to"):
        folder.mkdir(parents=True, exist_ok=True)


def write(frames: Mapping[str, Frame], folder: Path, form: Format = "parquet") -> list[Path]:
    """Write each frame into ``folder`` as Parquet, CSV or JSON lines, and return the paths.

    A text that a spreadsheet would run as a formula is written into CSV with an apostrophe before it.

    Raises:
        InvalidArgument: Another format.
        StorageError: The folder cannot be written.

    Example:
        >>> write(inventory.frames, Path("out"), "csv")  # doctest: +SKIP
    """
    check_format(form)
    make_folder(folder)
    paths = []
    with file_errors(f"write to {folder}"):
        for name, frame in frames.items():
            path = folder / f"{name}.{form}"
            plain = pd.DataFrame(frame)
            if form == "parquet":
                plain.to_parquet(path, index=False)
            elif form == "csv":
                _defused(plain).to_csv(path, index=False)
            else:
                path.write_text(json_lines(plain), encoding="utf-8")
            paths.append(path)
    return paths


def _defused(frame: pd.DataFrame) -> pd.DataFrame:
    texts = [name for name, dtype in frame.dtypes.items() if dtype in ("str", "category")]
    return frame.assign(
        **{str(name): frame[name].astype("str").str.replace(r"^([=+\-@\t\r])", r"'\1", regex=True) for name in texts}
    )

"""Records become DataFrames."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from msgspec.structs import astuple, replace

from regnb.crawl.records import Coverage, Records, Source
from regnb.oci.age import known
from regnb.oci.findings import Finding
from regnb.oci.manifest import Manifest
from regnb.oci.referrers import subject_of_tag
from regnb.tables import sharing
from regnb.tables.edges import Edges
from regnb.tables.frame import Frame, joined, make, of_rows, told
from regnb.tables.graph import Graph, Numbered
from regnb.text import count, names

if TYPE_CHECKING:
    from regnb.tables.edges import Mask


def _dates(texts: Iterable[str], now: datetime) -> pd.Series[pd.Timestamp]:
    rows = list(texts)
    found = {text: known(text, now) for text in set(rows)}
    return pd.Series([found[text] for text in rows], dtype="datetime64[us, UTC]")


def tabulate(records: Records) -> dict[str, Frame]:
    """Return the frames that an inventory has: those of :data:`regnb.tables.columns.INVENTORY`.

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
    frames = {
        "repositories": _repositories(records, graph, tags),
        "tags": tags,
        "manifests": manifests,
        "children": _children(records),
        "layers": _layers(records, numbers),
        "blobs": _blobs(records, graph),
        "problems": _problems(records, numbers, graph, behind),
        "coverage": _coverage(records.coverage, records.source),
        "history": of_rows("history", map(astuple, records.history)),
        "uploads": of_rows("uploads", map(astuple, records.uploads)),
        "disk": _disk(records),
        "findings": _findings(records),
        "labels": _labels(records),
    }
    return {name: told(name, frame, records.source) for name, frame in frames.items()}


def _findings(records: Records) -> Frame:
    """Return what configs show that should not be there: most images share what was found with others."""
    rows = [row for row in records.manifests.values() if row.findings]
    kinds: dict[tuple[Finding, ...], int] = {}
    kind = np.fromiter((kinds.setdefault(row.findings, len(kinds)) for row in rows), np.int64, len(rows))
    counts = np.fromiter(map(len, kinds), np.int64, len(kinds))
    starts = np.cumsum(counts) - counts
    each = counts[kind]
    texts = [
        ("", one.rule, one.where, str(one.position) if one.position >= 0 else "", one.found)
        for some in kinds
        for one in some
    ]
    found = of_rows("findings", texts)
    # The rows of each kind of findings lie one after the other.
    at = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each) + np.repeat(starts[kind], each)
    manifest = np.repeat(np.arange(len(rows)), each)
    digests = pd.Index([row.digest for row in rows], dtype="str")
    columns = {str(name): column for name, column in found.take(at).reset_index(drop=True).items()}
    return make("findings", columns | {"manifest": pd.Categorical.from_codes(manifest, digests)})


def _labels(records: Records) -> Frame:
    """Return the labels that configs have."""
    rows = [row for row in records.manifests.values() if row.labels]
    texts: dict[str, int] = {}
    label = np.fromiter((texts.setdefault(text, len(texts)) for row in rows for text in row.labels), np.int32)
    manifest = np.repeat(np.arange(len(rows)), [len(row.labels) for row in rows])
    digests = pd.Index([row.digest for row in rows], dtype="str")
    return make(
        "labels",
        {
            "manifest": pd.Categorical.from_codes(manifest, digests),
            "label": pd.Categorical.from_codes(label, pd.Index(list(texts), dtype="str")),
        },
    )


def _disk(records: Records) -> Frame:
    rows = [(what, one.files, one.size, one.used) for what, one in records.disk.items()]
    return of_rows("disk", [*rows, *((f"{kind} requests", sent, 0, 0) for kind, sent in records.requests.items())])


class _Behind:
    """What is behind each row of ``manifests``."""

    def __init__(self, records: Records, numbers: Numbered, graph: Graph) -> None:
        manifests = list(records.manifests.values())
        self.kind = numbers.each(row.kind for row in manifests)
        opaque = np.fromiter((row.kind in ("schema1", "malformed") for row in manifests), bool, len(manifests))
        unknown = opaque[numbers.manifest] | _unread_children(records, numbers)
        is_layer = np.fromiter(("layer" in blob.kind for blob in records.blobs.values()), np.int64, len(records.blobs))
        self.size = graph.total(graph.behind)
        self.layers = graph.total(graph.behind, is_layer)
        self.complete = graph.total(graph.reach, unknown.astype(np.int64)) == 0
        checked = np.fromiter(map(records.links.__getitem__, numbers.links), bool, len(numbers.links))
        self.damaged, doubtful = _damaged(records, numbers)
        self.broken = graph.total(graph.reach, self.damaged.astype(np.int64)) > 0
        doubt = graph.total(graph.reach, (unknown | doubtful | ~checked).astype(np.int64)) > 0
        self.pullable = pd.Series(~self.broken, dtype="boolean").mask(doubt & ~self.broken)
        read = max(records.started, records.finished or records.started)
        self.own, note = (
            _dates((getattr(row, name) for row in manifests), read).take(numbers.manifest).reset_index(drop=True)
            for name in ("created", "annotated")
        )
        self.created, self.dated = self._created(graph, note)
        self.platforms = numbers.each(row.platform for row in manifests).where(self.kind == "image", "")
        image = self.platforms.to_list()
        for row in np.flatnonzero(graph.below.counts).tolist():
            named = {image[one] for one in graph.reach.of(np.array([row]))[1].tolist()}
            self.platforms[row] = ", ".join(sorted(named - {""}))

    def _created(self, graph: Graph, note: pd.Series[pd.Timestamp]) -> tuple[pd.Series[pd.Timestamp], pd.Series[str]]:
        """Return when the newest image behind each row was made, and where that is from; unknown if one image's is."""
        made = self.own.fillna(note)
        by_note = (self.own.isna() & made.notna()).to_numpy()
        lists = (self.kind == "index").to_numpy()
        content = ~lists & (self.kind != "attestation").to_numpy()
        # The missing date is the smallest number.
        dates = np.where(content, made.to_numpy(dtype="datetime64[us]").view(np.int64), np.iinfo(np.int64).min)
        inner = dates[graph.reach.target]
        newest = np.maximum.reduceat(inner, graph.reach.start[:-1]) if len(inner) else inner
        images, undated, noted = (
            graph.total(graph.reach, rows.astype(np.int64))
            for rows in (content, content & made.isna().to_numpy(), content & by_note)
        )
        whole = lists & (images > 0) & (undated == 0)
        listed = pd.Series(newest.view("datetime64[us]"), dtype="datetime64[us]").dt.tz_localize("UTC")
        created = made.where(~lists, listed.where(whole, note))
        noted = np.where(lists, ~whole | (noted > 0), by_note).astype(bool)
        dated = pd.Series(np.where(noted, "annotation", "config"), dtype="str").where(created.notna(), "")
        return created, dated


def _unread_children(records: Records, numbers: Numbered) -> Mask:
    """Say of each row whether it lists a manifest of which nothing is known, not even that it is missing."""
    some = {
        digest: unread
        for digest, row in records.manifests.items()
        if row.children and (unread := [child for child in row.children if child not in records.manifests])
    }
    if not some:
        return np.zeros(len(numbers.links), dtype=bool)
    rows = (
        any((repository, child) not in records.damaged for child in some.get(digest, ()))
        for repository, digest in numbers.links
    )
    return np.fromiter(rows, bool, len(numbers.links))


def _damaged(records: Records, numbers: Numbered) -> tuple[Mask, Mask]:
    """Say of each row whether it, or what it consists of, is known to be damaged, and whether that is in doubt."""
    found = []
    for some in (records.damaged, records.doubtful):
        concerned = {repository for repository, _ in some}
        rows = (
            repository in concerned and not {(repository, part) for part in _parts(records, digest)}.isdisjoint(some)
            for repository, digest in numbers.links
        )
        found.append(np.fromiter(rows, bool, len(numbers.links)))
    return found[0], found[1]


def _parts(records: Records, digest: str) -> set[str]:
    """Return a manifest with its config, its layers and its children."""
    row = records.manifests[digest]
    return {digest, row.config, *row.layers, *row.children}


def _manifests(records: Records, numbers: Numbered, graph: Graph, behind: _Behind) -> Frame:
    rows = list(records.manifests.values())
    texts = {
        name: numbers.each(getattr(row, name) for row in rows)
        for name in ("config", "subject", "media_type", "artifact_type", "platform")
    }
    told = {child: base for row in rows for child, *base in row.listed_bases}
    own = ((row.base_name, row.base_digest) for row in rows)
    named = [base if any(base) else told.get(row.digest, base) for row, base in zip(rows, own, strict=True)]
    texts |= {name: numbers.each(base[at] for base in named) for at, name in enumerate(("base_name", "base_digest"))}
    optional = {
        name: texts[name].where(texts[name] != "") for name in ("config", "subject", "base_name", "base_digest")
    }
    return make(
        "manifests",
        {
            "repository": [repository for repository, _ in numbers.links],
            "digest": [digest for _, digest in numbers.links],
            "kind": behind.kind,
            **texts,
            **optional,
            "created": behind.own,
            "layers": numbers.layers[0][numbers.manifest],
            "manifest_size": np.fromiter((row.manifest_size for row in rows), np.int64, len(rows))[numbers.manifest],
            "size": behind.size,
            "tags": graph.tagged,
            "parents": graph.above,
            "checked": list(map(records.links.__getitem__, numbers.links)),
            "complete": behind.complete,
        },
    )


def _tags(records: Records, graph: Graph, behind: _Behind, manifests: Frame) -> Frame:
    rows = records.tags
    at = graph.tags
    read = at >= 0
    exclusive, share = sharing.of_tags(graph)
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

    def of(values: object) -> Any:  # noqa: ANN401 -- a column
        return pd.Series(values).reindex(at)

    subject = of(manifests["subject"]).to_numpy(dtype=object, na_value=None)
    for number in np.flatnonzero(pd.isna(subject)).tolist():
        subject[number] = subject_of_tag(rows[number].tag) or None
    digest = pd.Series([row.digest for row in rows], dtype="str")
    # A tag whose manifest is known to be gone has nothing behind it that could be unread.
    gone = np.fromiter(((row.repository, row.tag) in records.damaged for row in rows), bool, len(rows))
    pullable = of(behind.pullable).reset_index(drop=True).astype("boolean").mask(gone, other=False)
    return make(
        "tags",
        {
            "repository": [row.repository for row in rows],
            "tag": [row.tag for row in rows],
            "digest": digest.where(digest != ""),
            "kind": of(behind.kind),
            "platforms": of(behind.platforms).fillna(""),
            "created": of(behind.created),
            "dated": of(behind.dated).fillna(""),
            **{
                name: pd.Series([getattr(row, name) for row in rows], dtype="datetime64[us, UTC]")
                for name in ("pushed", "pulled", "pulls_since")
            },
            "locked": [row.locked for row in rows],
            "layers": of(behind.layers).fillna(0),
            "size": np.where(read, np.append(behind.size, 0)[at], 0),
            "exclusive": exclusive,
            "share": share,
            "siblings": siblings,
            "elsewhere": elsewhere,
            "subject": subject,
            "complete": np.append(behind.complete, False)[at] & read | gone,
            "pullable": pullable,
        },
    )


def _repositories(records: Records, graph: Graph, tags: Frame) -> Frame:
    names = list(records.repositories)
    owned = sharing.owned(graph, graph.held)
    groups = tags.groupby("repository")
    troubled = {problem.repository for problem in records.problems if problem.incomplete}
    return make(
        "repositories",
        {
            "repository": names,
            "status": list(records.repositories.values()),
            "tags": groups.size().reindex(names, fill_value=0),
            "manifests": np.bincount(graph.repository, minlength=len(names)),
            "untagged": np.bincount(graph.repository[graph.untagged], minlength=len(names)),
            **owned._asdict(),
            "pull_size": groups["size"].sum().reindex(names, fill_value=0),
            "newest": groups["created"].max().reindex(names).to_list(),
            "layer_links": [records.layer_links.get(name, (None, None))[0] for name in names],
            "stale_links": [records.layer_links.get(name, (None, None))[1] for name in names],
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
    types: dict[str, int] = {}
    stated = (row.layer_types or ("",) * len(row.layers) for row in rows)
    media_type = np.fromiter((types.setdefault(text, len(types)) for text in chain.from_iterable(stated)), np.int32)
    digests, digest = np.unique(blob, return_inverse=True)
    blobs = list(records.blobs.values())
    known = pd.Series(list(records.blobs), dtype="str")
    size = np.fromiter((blob.size for blob in blobs), np.int64, len(blobs))[blob]
    named = pd.Categorical.from_codes(digest, pd.Index(known.take(digests)))
    if records.aliases:
        named = pd.Categorical(list(chain.from_iterable(row.layers for row in rows)))
    # Only what has layers is a category.
    owner = np.flatnonzero(counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    manifest = np.repeat(np.arange(len(owner)), counts[owner])
    return make(
        "layers",
        {
            "manifest": pd.Categorical.from_codes(manifest, pd.Index(known.take(numbers.blob[owner]))),
            "position": np.arange(len(blob)) - first,
            "digest": named,
            "media_type": pd.Categorical.from_codes(media_type, pd.Index(list(types), dtype="str")),
            "size": size,
            "command": pd.Categorical.from_codes(command, pd.Index(list(texts), dtype="str")),
        },
    )


def _blobs(records: Records, graph: Graph) -> Frame:
    blobs = list(records.blobs.values())
    is_manifest = np.bincount(graph.manifest, minlength=len(blobs)) > 0
    size = np.fromiter((blob.size for blob in blobs), np.int64, len(blobs))
    aliases = {stored: alias for alias, stored in records.aliases.items()}
    diff_ids = records.diff_ids
    return make(
        "blobs",
        {
            "digest": list(records.blobs),
            "kind": [blob.kind for blob in blobs],
            "media_type": [blob.media_type for blob in blobs],
            "size": size,
            "exclusive": np.where(graph.alone, graph.sizes, 0),
            "pull_size": size * graph.leading,
            "alias": [aliases.get(digest) for digest in records.blobs],
            "manifests": np.bincount(graph.own.target, minlength=len(blobs)) - is_manifest,
            "tags": graph.leading,
            "repositories": np.bincount(graph.held.target, minlength=len(blobs)),
            "diff_id": [diff_ids.get(digest) or None for digest in records.blobs],
        },
    )


def _problems(records: Records, numbers: Numbered, graph: Graph, behind: _Behind) -> Frame:
    """Return the problems; what is damaged with the tags that break."""
    broken = _broken(records, numbers, graph, behind)
    rows = sorted(records.problems, key=lambda row: (row.repository, row.reference))
    return of_rows(
        "problems",
        (
            astuple(replace(row, message=f"{row.message}; breaks {count(len(tags), 'tag')}: {names(tags)}"))
            if (row.repository, row.reference) in records.damaged
            and (tags := broken.get((row.repository, row.reference)))
            else astuple(row)
            for row in rows
        ),
    )


def _broken(records: Records, numbers: Numbered, graph: Graph, behind: _Behind) -> Mapping[tuple[str, str], list[str]]:
    """Return the tags that lead to what is damaged, by its repository and digest."""
    damaged = {
        row: [key for part in _parts(records, digest) if (key := (repository, part)) in records.damaged]
        for row, (repository, digest) in enumerate(numbers.links)
        if behind.damaged[row]
    }
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    known = np.flatnonzero(graph.tags >= 0)
    at, row = graph.reach.of(graph.tags[known]) if damaged else (known[:0], known[:0])
    broken = behind.damaged[row]
    for number, one in zip(known[at[broken]].tolist(), row[broken].tolist(), strict=True):
        for key in damaged[one]:
            if records.tags[number].tag not in found[key][-1:]:
                found[key].append(records.tags[number].tag)
    return found


def _coverage(coverage: Coverage, source: Source) -> Frame:
    whole = coverage.catalog != "incomplete"
    asked = int(coverage.catalog in ("complete", "incomplete"))
    own = "registry API" if source == "api" else "storage"
    from_where = coverage.sources
    rows: list[tuple[str, int, int, int, int, int, int, str, bool]] = [
        ("catalog", asked, asked * whole, 0, 0, int(not whole), 0, from_where.get("catalog", own), whole)
    ]
    for what in ("repositories", "tags", "manifests", "configs", "referrers"):
        of = getattr(coverage, what)
        whole = what == "configs" or not (of.failed or of.denied)
        numbers = (of.listed, of.read, of.cached, of.told, of.failed, of.denied)
        rows.append((what, *numbers, from_where.get(what, own), whole))
    return of_rows("coverage", rows)


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

"""Records become DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple

from regnb.crawl.records import Records
from regnb.oci.findings import Finding
from regnb.oci.manifest import Manifest
from regnb.oci.referrers import subject_of_tag
from regnb.tables import sharing
from regnb.tables.behind import UNDATED
from regnb.tables.figures import Figures, coverage
from regnb.tables.frame import Frame, joined, make, of_rows, told
from regnb.tables.graph import Graph, Numbered, strings


def tabulate(records: Records, figures: Figures | None = None) -> dict[str, Frame]:
    """Return the frames that an inventory has: those of :data:`regnb.tables.columns.INVENTORY`.

    Args:
        records: What was read.
        figures: Of these records, where they were computed before.

    Example:
        >>> from datetime import UTC, datetime
        >>> tabulate(Records("localhost:5000", datetime.now(UTC)))["tags"].empty
        True
    """
    figures = figures or Figures(records)
    frames = {
        "repositories": make("repositories", figures.repositories()),
        "tags": _tags(figures),
        "manifests": _manifests(figures),
        "children": _children(records),
        "layers": _layers(records, figures.numbers),
        "blobs": _blobs(figures),
        "problems": of_rows("problems", figures.problems()),
        "coverage": of_rows("coverage", coverage(records.coverage, records.source)),
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


def _manifests(figures: Figures) -> Frame:
    records, numbers, graph, behind = figures.records, figures.numbers, figures.graph, figures.behind
    rows = list(records.manifests.values())

    def each(texts: Iterable[str]) -> pd.Series[str]:
        return pd.Series(list(texts), dtype="str").take(numbers.manifest).reset_index(drop=True)

    texts = {
        name: each(getattr(row, name) for row in rows)
        for name in ("config", "subject", "media_type", "artifact_type", "platform")
    }
    told = {child: base for row in rows for child, *base in row.listed_bases}
    own = ((row.base_name, row.base_digest) for row in rows)
    named = [base if any(base) else told.get(row.digest, base) for row, base in zip(rows, own, strict=True)]
    texts |= {name: each(base[at] for base in named) for at, name in enumerate(("base_name", "base_digest"))}
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


def _tags(figures: Figures) -> Frame:
    records, behind = figures.records, figures.behind
    rows = records.tags
    exclusive, share = sharing.of_tags(figures.graph)
    siblings, elsewhere = figures.siblings()
    subjects = figures.of_tags(figures.numbers.each(row.subject for row in records.manifests.values()), "")
    digest = pd.Series([row.digest for row in rows], dtype="str")
    return make(
        "tags",
        {
            "repository": [row.repository for row in rows],
            "tag": [row.tag for row in rows],
            "digest": digest.where(digest != ""),
            "kind": figures.of_tags(behind.kind, None),
            "platforms": figures.of_tags(behind.platforms, ""),
            "created": figures.of_tags(behind.created, UNDATED),
            "dated": figures.of_tags(behind.dated, ""),
            **{
                name: pd.Series([getattr(row, name) for row in rows], dtype="datetime64[us, UTC]")
                for name in ("pushed", "pulled", "pulls_since")
            },
            "locked": [row.locked for row in rows],
            "layers": figures.of_tags(behind.layers, 0),
            "size": figures.tag_sizes,
            "exclusive": exclusive,
            "share": share,
            "siblings": siblings,
            "elsewhere": elsewhere,
            "subject": [one or subject_of_tag(row.tag) or None for one, row in zip(subjects, rows, strict=True)],
            "complete": figures.of_tags(behind.complete, missing=False) | figures.gone,
            "pullable": pd.Series(~figures.broken, dtype="boolean").mask(figures.doubtful),
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


def _blobs(figures: Figures) -> Frame:
    records, graph, size = figures.records, figures.graph, figures.blob_sizes
    blobs = list(records.blobs.values())
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
            "manifests": figures.needing,
            "tags": graph.leading,
            "repositories": figures.holding,
            "diff_id": [diff_ids.get(digest) or None for digest in records.blobs],
        },
    )


def shared_tags(tags: Frame) -> Frame:
    """Return the digests that several tags carry, within a repository or across repositories."""
    rows, first, counts, repositories = sharing.alike(
        *(pd.factorize(tags[name])[0] for name in ("digest", "repository"))
    )
    found = tags.iloc[rows]
    columns = {
        **{column: found[column].iloc[first] for column in ("digest", "kind", "size")},
        "tags": counts,
        "repositories": repositories,
        "references": joined(found["repository"] + ":" + found["tag"], counts),
    }
    return _sorted(make("shared_tags", columns), "tags")


def shared_layers(graph: Graph, layers: Frame, blobs: Frame, *, largest: int = 0) -> Frame:
    """Return the layers that stand in several manifests or repositories, or the largest ones, and who uses them."""
    is_layer = blobs["kind"].isin(sharing.LAYERS).to_numpy()
    found = sharing.common(graph, blobs["size"].to_numpy(), is_layer, largest=largest)
    command, layer = layers["command"].cat, layers["digest"].cat
    # The first command that is known of each layer: of equal places the last that is written counts.
    known = np.flatnonzero(command.categories.get_indexer(pd.Index([""]))[0] != command.codes)[::-1]
    first = np.full(len(layer.categories) + 1, -1)
    first[layer.codes.iloc[known]] = command.codes.iloc[known]
    rows = pd.DataFrame(blobs).iloc[found.blobs]
    where = pc.index_in(strings(rows["digest"]), strings(layer.categories)).fill_null(-1).to_numpy()
    columns = {
        **{column: rows[column] for column in ("digest", "size", "manifests", "tags", "repositories")},
        "command": pd.Series(command.categories.append(pd.Index([""])), dtype="str").take(first[where]),
        "saved": found.saved,
        "used_by": joined(pd.Series(graph.repositories, dtype="str").take(found.repositories), found.users),
    }
    return _sorted(make("shared_layers", columns), "size" if largest else "saved")


def _sorted(frame: Frame, by: str) -> Frame:
    """Return rows in order: by a number, the largest first, and by digest."""
    keys = pa.table({"by": frame[by].to_numpy(), "digest": strings(frame["digest"])})
    order = pc.sort_indices(keys, sort_keys=[("by", "descending"), ("digest", "ascending")]).to_numpy()
    return frame.take(order).reset_index(drop=True)


def image_layers(images: Sequence[tuple[str, Manifest, Sequence[str]]]) -> Frame:
    """Return the layers of one or several images, each given as platform, manifest and one command a layer."""
    rows = [
        (platform, position, layer.digest, layer.media_type, layer.size, command)
        for platform, manifest, commands in images
        for position, (layer, command) in enumerate(zip(manifest.layers, commands, strict=True))
    ]
    return of_rows("image_layers", rows)

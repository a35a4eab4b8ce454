"""Who uses which bytes: by namespace, by repository and tag, by pairs of repositories, and as a sum that adds up."""

from __future__ import annotations

import numpy as np
import pandas as pd

from regnb.analysis.reclaim import Reclaim
from regnb.tables import sharing
from regnb.tables.edges import Edges
from regnb.tables.frame import Frame, make, of_rows
from regnb.tables.graph import Graph

_PAIRED = 200
"""Repositories whose sharing is counted pair by pair: those that share most."""


def namespace(repositories: pd.Series[str]) -> pd.Series[str]:
    """Return the first part of each repository's name.

    Example:
        >>> namespace(pd.Series(["vm/centos8", "busybox"])).to_list()
        ['vm', 'busybox']
    """
    return repositories.str.replace(r"/.*", "", regex=True)


def namespaces(repositories: Frame, graph: Graph) -> Frame:
    """Return one row for each namespace (``namespaces``)."""
    of = namespace(repositories["repository"])
    names = sorted(of.unique())
    place = {name: number for number, name in enumerate(names)}
    number = np.array([place[name.partition("/")[0]] for name in graph.repositories], dtype=np.int64)
    repository = np.repeat(np.arange(len(graph.repositories)), graph.held.counts)
    owned = sharing.owned(graph, Edges(number[repository], graph.held.target, len(names)))
    groups = repositories.groupby(of)
    return make(
        "namespaces",
        {
            "namespace": names,
            "repositories": groups.size().to_numpy(),
            **owned._asdict(),
            **{name: groups[name].sum().to_numpy() for name in ("tags", "pull_size")},
            "newest": groups["newest"].max().to_list(),
            "complete": groups["complete"].all().to_numpy(),
        },
    )


def usage(repositories: Frame, tags: Frame) -> Frame:
    """Return the bytes of each tag, of what a repository's tags share, and of what repositories share (``usage``)."""
    alone = tags.groupby("repository")["exclusive"].sum().reindex(repositories["repository"], fill_value=0).to_numpy()
    exclusive, share = (repositories[name].to_numpy() for name in ("exclusive", "share"))
    rows = [
        pd.DataFrame(
            {"repository": tags["repository"], "tag": tags["tag"], "kind": "exclusive", "size": tags["exclusive"]}
        ),
        *(
            pd.DataFrame({"repository": repositories["repository"], "tag": "", "kind": kind, "size": size})
            for kind, size in (("tags", exclusive - alone), ("repositories", share - exclusive))
        ),
    ]
    found = pd.concat(rows)
    found = found[found["size"] > 0].sort_values(["repository", "tag", "kind"])
    return make("usage", {"namespace": namespace(found["repository"]), **{name: found[name] for name in found.columns}})


def between(graph: Graph) -> Frame:
    """Return the bytes that each two repositories share, the most first (``between``).

    Only of the 200 repositories that share most: with n of them there are n² pairs.
    """
    held = graph.held
    owners = np.bincount(held.target, minlength=len(graph.digests))
    several = np.where(owners > 1, graph.sizes, 0)
    total = graph.total(held, several)
    chosen = np.argsort(-total, kind="stable")[:_PAIRED]
    chosen = np.sort(chosen[total[chosen] > 0])
    at, blob = held.of(chosen)
    wanted = several[blob] > 0
    at, blob = at[wanted], blob[wanted]
    order = np.argsort(blob, kind="stable")
    at, blob = at[order], blob[order]
    shared = np.zeros((len(chosen), len(chosen)), dtype=np.int64)
    start = np.flatnonzero(np.diff(blob, prepend=-1))
    for first, last in zip(start.tolist(), np.append(start, len(blob))[1:].tolist(), strict=True):
        shared[np.ix_(at[first:last], at[first:last])] += graph.sizes[blob[first]]
    one, other = np.nonzero(np.triu(shared, 1))
    size = shared[one, other]
    order = np.argsort(-size, kind="stable")
    names = np.array(graph.repositories, dtype=object)[chosen]
    names_of = (names[one[order]], names[other[order]])
    return make(
        "between",
        {
            "repository": [min(pair) for pair in zip(*names_of, strict=True)],
            "other": [max(pair) for pair in zip(*names_of, strict=True)],
            "size": size[order],
        },
    )


def breakdown(pulled: int, graph: Graph, disk: Frame, reclaim: Reclaim) -> Frame:
    """Return where the bytes are, from every tag pulled alone down to the disk, and what could go (``breakdown``)."""
    reached, needed = (graph.bytes(blobs) for blobs in (graph.leading > 0, np.unique(graph.own.target)))
    rows: list[tuple[str, int, bool, str]] = [
        ("pulled", pulled, True, "every tag pulled as if it were alone"),
        ("sharing", reached - pulled, False, "saved: shared blobs are stored once"),
        ("tags", reached, True, "bytes behind tags"),
    ]
    sizes = dict(zip(disk["what"], disk["size"].tolist(), strict=True))
    if needed > reached or sizes:
        rows.append(("untagged", needed - reached, False, "needed only by untagged manifests"))
    if sizes:
        known = reclaim.table["bound"].iloc[0] == "exact"
        orphans = "the next garbage collection removes them" if known else "some of them may only seem so: see problems"
        rows += [
            ("orphans", sizes["blobs"] - needed, False, f"blobs that no manifest needs: {orphans}"),
            ("uploads", sizes["uploads"], False, "unfinished uploads: no garbage collection removes them"),
            ("links", sizes["links"], False, "link files, which say what each repository and tag holds"),
            ("other", sizes["other"], False, "other files"),
            ("disk", sum(sizes.values()), True, "on disk"),
        ]
    table = reclaim.table[: len(reclaim.table) if sizes else 0]
    for collection, version, size, message in zip(
        *(table[name].to_list() for name in ("collection", "version", "size", "message")), strict=True
    ):
        text = f"{collection} ({version}) would remove this now"
        rows.append(("reclaimable", size, False, f"{text}; {message}" if message else text))
    return of_rows("breakdown", rows)

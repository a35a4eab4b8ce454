"""Find tags by what people have in hand: a name, a reference from a pod or a shell, a digest or the start of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from regnb.errors import InvalidArgument
from regnb.oci.reference import names_host
from regnb.tables.frame import Frame, make

_HEX: Final = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{6,128})")
"""A digest, or at least six digits of one: fewer are as likely a word."""


def find(frames: Mapping[str, Frame], text: str, host: str) -> Frame:
    """Return the tags that a text leads to; a manifest that no tag leads to is a row without a tag.

    Args:
        frames: Of an inventory.
        text: ``repository:tag``, ``host:port/repository:tag`` as Docker reads it, whatever the host is called; a digest
            of a manifest, config or layer, or at least six digits of one; a part of a name.
        host: ``host[:port]`` for the pull command, or "" where there is none.

    Returns:
        Columns: as ``found`` in :data:`regnb.tables.columns.COLUMNS`.

    Raises:
        InvalidArgument: The text is empty.
    """
    wanted = sought(text)
    if not wanted:
        raise InvalidArgument("nothing to look for", hint="write repository:tag, a digest, or a part of a name")
    name, at, digest = wanted.partition("@")
    match = _HEX.fullmatch(digest if at else wanted)
    reasons = _by_digest(frames, match[0], match[2]) if match else {}
    tags = frames["tags"]
    full = tags["repository"] + ":" + tags["tag"]
    why = pd.Series([reasons.get(str(digest), "") for digest in tags["digest"]], index=tags.index, dtype="str")
    if at:
        repository = name.partition(":")[0]
        why = why.where((tags["repository"] == repository).to_numpy(), "")
    else:
        # A repository may well have a name whose first part looks like a host.
        names = {wanted, text.strip()}
        exact = (full.isin(names) | tags["repository"].isin(names)).to_numpy()
        part = full.str.contains(wanted, regex=False).to_numpy() & ~exact.any()
        named = pd.Series(np.select([exact, part], ["name", "part of the name"], ""), index=tags.index)
        why = why.where(why != "", named)
    rows = tags[(why != "").to_numpy()]
    loose = _loose(frames, reasons, set(rows["digest"].dropna()), name if at else "")
    every = [*zip(rows["repository"], rows["tag"], rows["digest"], rows["size"], why[why != ""], strict=True), *loose]
    columns = dict(zip(("repository", "tag", "digest", "size", "match"), zip(*every, strict=True), strict=False))
    found = {column: list(columns.get(column, ())) for column in ("repository", "tag", "digest", "size", "match")}
    found["pull"] = [
        f"docker pull {host}/{repository}@{digest}" if host and isinstance(digest, str) and digest else ""
        for repository, digest in zip(found["repository"], found["digest"], strict=True)
    ]
    return make("found", found)


def sought(text: str) -> str:
    """Return what somebody looks for without what stands around it: a command, a scheme, a registry's host.

    The first part is a host where Docker takes it for one: it holds a dot or a colon, or is ``localhost``.

    Example:
        >>> sought("docker pull https://r.example:5000/vm/centos8:8.4")
        'vm/centos8:8.4'
        >>> sought("vm/centos8")
        'vm/centos8'
    """
    words = text.split()
    wanted = words[-1].partition("://")[2] or words[-1] if words else ""
    first, slash, rest = wanted.partition("/")
    return rest if slash and rest and names_host(first) else wanted


def _by_digest(frames: Mapping[str, Frame], text: str, digits: str) -> dict[str, str]:
    """Return each manifest that leads to a digest, with how: itself, its config, a layer, or a child."""
    start = text if ":" in text else f"sha256:{digits}"
    manifests, layers, children = frames["manifests"], frames["layers"], frames["children"]
    found: dict[str, str] = {}
    of = manifests.loc[manifests["config"].fillna("").str.startswith(start), ["digest", "config"]]
    found |= dict.fromkeys(of["digest"], "config")
    names = layers["digest"].cat.categories.astype("str")
    hit = set(names[names.str.startswith(start)])
    for manifest, position in zip(
        *(layers.loc[layers["digest"].isin(hit), c] for c in ("manifest", "position")), strict=True
    ):
        found.setdefault(str(manifest), f"layer {position}")
    found |= dict.fromkeys(manifests.loc[manifests["digest"].str.startswith(start), "digest"], "digest")
    todo = set(found)
    while todo:
        above = children.loc[children["child"].isin(todo), ["manifest", "child"]].astype("str")
        todo = set()
        for index, child in above.itertuples(index=False):
            if index not in found:
                found[index] = f"{found[child]} of {child[:19]}" if " of " not in found[child] else found[child]
                todo.add(index)
    return found


def _loose(
    frames: Mapping[str, Frame], reasons: Mapping[str, str], tagged: set[str], name: str
) -> list[tuple[object, ...]]:
    """Return the manifests that match by themselves and that none of the tags found leads to."""
    manifests, children = frames["manifests"], frames["children"]
    behind = set(tagged)
    while more := set(children.loc[children["manifest"].isin(behind), "child"].astype("str")) - behind:
        behind |= more
    which = manifests["digest"].isin(set(reasons)) & ~manifests["digest"].isin(behind)
    some = manifests[which & (manifests["repository"] == (name.partition(":")[0] or manifests["repository"]))]
    return [
        (repository, None, digest, size, reasons[digest])
        for repository, digest, size in zip(some["repository"], some["digest"], some["size"], strict=True)
    ]

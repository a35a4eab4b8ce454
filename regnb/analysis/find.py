"""Find tags by what people have in hand: a name, a reference from a pod or a shell, a digest or its start, a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from regnb.crawl.records import LABEL_LENGTH
from regnb.errors import InvalidArgument
from regnb.oci.reference import names_host
from regnb.oci.transports import is_place
from regnb.tables.frame import Frame, make

_HEX: Final = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{6,128})")
"""A digest, or at least six digits of one: fewer are as likely a word."""
_LABEL: Final = re.compile(r"(?:label:([^=]+?)|([\w][\w./-]*)(?==))(?:=(.*))?", re.DOTALL)
"""``label:name``, ``label:name=value`` or ``name=value``: no tag and no digest holds an equals sign."""
_ROW_LETTERS: Final = 2_000
"""Letters of the labels that a row of a table is found by in a browser."""


def find(frames: Mapping[str, Frame], text: str, host: str) -> Frame:
    """Return the tags that a text leads to; a manifest that no tag leads to is a row without a tag.

    Args:
        frames: Of an inventory.
        text: ``repository:tag``, ``host:port/repository:tag`` as Docker reads it, whatever the host is called; a digest
            of a manifest, config or layer, or at least six digits of one; a part of a name; a label as ``name=value``
            (the whole value, or else a part of it), ``label:name=value`` or ``label:name``.
        host: ``host[:port]`` for the pull command, or "" where there is none.

    Returns:
        Columns: as ``found`` in :data:`regnb.tables.columns.COLUMNS`.

    Raises:
        InvalidArgument: The text is empty.
    """
    label = label_of(text)
    wanted = "" if label else sought(text)
    if not (wanted or label):
        raise InvalidArgument(
            "nothing to look for", hint="write repository:tag, a digest, a part of a name, or name=value of a label"
        )
    name, at, digest = wanted.partition("@")
    reasons = by_label(frames, *label) if label else by_digest(frames, digest if at else wanted)
    tags = frames["tags"]
    full = tags["repository"] + ":" + tags["tag"]
    why = pd.Series([reasons.get(str(digest), "") for digest in tags["digest"]], index=tags.index, dtype="str")
    if at:
        repository = name.partition(":")[0]
        why = why.where((tags["repository"] == repository).to_numpy(), "")
    elif not label:
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
    found["pull"] = [pull(host, *image) for image in zip(found["repository"], found["digest"], strict=True)]
    return make("found", found)


def pull(host: str, repository: str, digest: object) -> str:
    """Return the line that pulls an image with Docker; "" where Docker cannot: of layouts, archives and storages.

    Example:
        >>> pull("r.example:5000", "app", "sha256:0b8"), pull("oci:backup", "app", "sha256:0b8")
        ('docker pull r.example:5000/app@sha256:0b8', '')
    """
    if not host or "/" in host or is_place(host) or not isinstance(digest, str) or not digest:
        return ""
    return f"docker pull {host}/{repository}@{digest}"


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


def by_digest(frames: Mapping[str, Frame], text: str) -> dict[str, str]:
    """Return each manifest that leads to a digest, with how: itself, its config, a layer, or a child.

    Args:
        frames: Of an inventory.
        text: A digest, or at least six digits of one; anything else leads nowhere.

    Example:
        >>> by_digest(inventory.frames, "vm/centos8")
        {}
    """
    if not (match := _HEX.fullmatch(text)):
        return {}
    start = text if match[1] else f"sha256:{match[2]}"
    manifests, layers, children = frames["manifests"], frames["layers"], frames["children"]
    found: dict[str, str] = {}
    of = manifests.loc[manifests["config"].fillna("").str.startswith(start), ["digest", "config"]]
    found |= dict.fromkeys(of["digest"], "config")
    names = layers["digest"].cat.categories.astype("str")
    hit = set(names[names.str.startswith(start)])
    for manifest, position in zip(
        *(layers.loc[layers["digest"].isin(hit), column] for column in ("manifest", "position")), strict=True
    ):
        found.setdefault(str(manifest), f"layer {position}")
    found |= dict.fromkeys(manifests.loc[manifests["digest"].str.startswith(start), "digest"], "digest")
    return _climb(children, found)


def label_of(text: str) -> tuple[str, str | None] | None:
    """Return the name and the value of the label that is looked for, or None where something else is.

    Example:
        >>> label_of("org.opencontainers.image.source=https://git.example/app")
        ('org.opencontainers.image.source', 'https://git.example/app')
        >>> label_of("label:maintainer")
        ('maintainer', None)
        >>> label_of("vm/centos8:8.4") is None
        True
    """
    match = _LABEL.fullmatch(text.strip())
    return (match[1] or match[2], match[3]) if match else None


def by_label(frames: Mapping[str, Frame], name: str, value: str | None) -> dict[str, str]:
    """Return each manifest that leads to an image with this label, with how; None as value stands for every one.

    Example:
        ``by_label(inventory.frames, "maintainer", None)``
    """
    labels = frames["labels"]
    known = labels["label"].cat.categories.astype("str")
    start = f"{name}="[:LABEL_LENGTH]
    named = known[known.str.startswith(start)]
    hits = named if value is None else named[named == f"{start}{value}"[:LABEL_LENGTH]]
    if value and hits.empty:
        hits = named[named.str.slice(len(start)).str.contains(value, case=False, regex=False)]
    rows = labels.loc[labels["label"].isin(set(hits)), "manifest"].astype("str")
    return _climb(frames["children"], dict.fromkeys(rows, f"label {name}"))


def _climb(children: Frame, found: dict[str, str]) -> dict[str, str]:
    """Add the indexes that lead to the manifests that were found."""
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

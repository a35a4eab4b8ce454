"""One image as people ask about it: what it is called, what is in it, what made its layers, and who shares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from regnb.analysis.bases import of_image
from regnb.analysis.find import pull
from regnb.layers.images import Part
from regnb.oci.leaks import masked, shown
from regnb.oci.manifest import AnyManifest
from regnb.oci.reference import Reference
from regnb.tables.frame import Frame, of_rows
from regnb.tables.removal import removal
from regnb.text import count, escaped, human, names

if TYPE_CHECKING:
    from regnb.analysis.inventory import Inventory

_SETTINGS: Final = (
    ("Entrypoint", "entrypoint"), ("Cmd", "command"), ("WorkingDir", "working directory"), ("User", "user"),
    ("ExposedPorts", "ports"), ("Volumes", "volumes"), ("StopSignal", "stop signal"), ("Env", "environment"),
    ("Labels", "label"),
)  # fmt: skip
"""Fields of a config that say how the image runs, and what people call them."""


class Image:
    """A tag or a digest, with everything behind it.

    Made by :meth:`Registry.image`.

    Attributes:
        repository, tag, digest: What it is; the tag is "" where a digest was named.
        host: ``host[:port]`` of the registry.
        top: Its own manifest.
        parts: Its platforms, without attestations.
        inventory: What sharing, exclusive bytes and referrers are computed from.

    Example:
        >>> image = registry.image("vm/centos8:8.4")
        >>> image.layers[["position", "size", "command"]]
          position     size                       command
        0        0   2.8 MB  ADD centos-8-rootfs.tar.xz /
        1        1    110 B   RUN echo vm > /etc/hostname
        2        2  25.2 MB        COPY disk.qcow2 /disk/
        3        3    167 B          COPY entrypoint.sh /
    """

    def __init__(
        self, host: str, where: Reference, top: AnyManifest, parts: Sequence[Part], inventory: Inventory
    ) -> None:
        self.host = host
        self.repository = where.repository
        self.tag = "" if where.digest else where.target
        self.digest = str(top.digest)
        self.top = top
        self.parts = tuple(parts)
        self.inventory = inventory

    @property
    def name(self) -> str:
        """``repository:tag``, or ``repository@digest``."""
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.digest}"

    @property
    def tags(self) -> list[str]:
        """Every tag of the repository with this digest."""
        return [str(tag) for tag in self._own["tag"]]

    @property
    def _own(self) -> pd.DataFrame:
        rows = self.inventory.tags
        return pd.DataFrame(rows[(rows["repository"] == self.repository) & (rows["digest"] == self.digest)])

    @cached_property
    def size(self) -> int:
        """Bytes of every blob behind it, each counted once."""
        blobs = {blob.digest: blob.size for part in self.parts for blob in part.manifest.blobs}
        manifests = {str(one.digest): len(one.raw) for one in (self.top, *(part.manifest for part in self.parts))}
        return sum((blobs | manifests).values())

    @cached_property
    def exclusive(self) -> int | None:
        """Bytes that nothing else in the inventory needs; None where no tag leads to it."""
        own = self._own
        if own.empty:
            return None
        graph = self.inventory.graph
        going = np.zeros(len(self.inventory.tags), dtype=bool)
        going[self.inventory.tags.index.get_indexer(own.index)] = True
        gone = removal(graph, going).gone
        its, others = (graph.own.of(some)[1] for some in (graph.manifest[gone], graph.manifest[~gone]))
        return graph.bytes(np.setdiff1d(its, others))

    @cached_property
    def about(self) -> Frame:
        """What it is, a row each (columns: what, value)."""
        return of_rows("about", self._about())

    def _about(self) -> Iterator[tuple[str, str]]:
        yield "registry", self.host
        yield "repository", self.repository
        yield "tags", ", ".join(self.tags) or "none"
        yield "digest", self.digest
        if line := pull(self.host, self.repository, self.digest):
            yield "to pull it", line
        yield "kind", self.top.kind
        yield "platforms", ", ".join(part.platform or "not known" for part in self.parts) or "none"
        yield "size", human(self.size)
        if self.exclusive is not None:
            yield "exclusive", f"{human(self.exclusive)} (needed by nothing else){self._scope}"
        for part in self.parts:
            yield f"created{self._of(part)}", part.config.created or "not known"
        for part in self.parts:
            yield (
                f"built on{self._of(part)}",
                of_image(self.inventory.bases, self.repository, str(part.manifest.digest)),
            )
        kinds = set(self.referrers["kind"])
        yield "signed", "yes" if "signature" in kinds else "no signature was found"
        yield "SBOM", "yes" if "sbom" in kinds else "no SBOM was found"
        for key, value in (getattr(self.top, "annotations", None) or {}).items():
            yield f"annotation {key}", str(value)

    @property
    def _scope(self) -> str:
        whole = self.inventory.coverage.set_index("what").loc["catalog", "listed"]
        return "" if whole or self.inventory.source == "storage" else ", of the repositories that were read"

    def _of(self, part: Part) -> str:
        return f" ({part.platform})" if len(self.parts) > 1 else ""

    @cached_property
    def layers(self) -> Frame:
        """A row for each layer with the steps that made it (:data:`regnb.tables.columns.COLUMNS`, ``image_layers``)."""
        return layers_of(self.parts)

    @cached_property
    def notes(self) -> list[str]:
        """What is to be known about the steps, a sentence each."""
        found = ((part, part.config.steps(len(part.manifest.layers))[1]) for part in self.parts)
        return [f"{note[0].upper()}{note[1:]}{self._of(part)}." for part, note in found if note]

    @cached_property
    def config(self) -> Frame:
        """How it runs: a row for each setting, variable and label (columns: platform, setting, value)."""
        rows = [(part.platform, *row) for part in self.parts for row in _settings(part.config.config or {})]
        return of_rows("image_config", rows)

    @cached_property
    def referrers(self) -> Frame:
        """Signatures, SBOMs and others that refer to it or to a part of it (columns: kind, tag, digest, about)."""
        ours = {self.digest, *(str(part.manifest.digest) for part in self.parts)}
        tags, manifests = self.inventory.tags, self.inventory.manifests
        found: dict[str, tuple[str, str, str, str]] = {}
        some = manifests[(manifests["repository"] == self.repository) & manifests["subject"].isin(ours)]
        for digest, kind, subject in zip(some["digest"], some["kind"], some["subject"], strict=True):
            found[digest] = (kind, "", digest, subject)
        named = tags[(tags["repository"] == self.repository) & tags["subject"].isin(ours)]
        for tag, digest, kind, subject in zip(
            *(named[column] for column in ("tag", "digest", "kind", "subject")), strict=True
        ):
            if kind != "index":  # the list of referrers of a registry without such an endpoint
                found[digest] = (kind, tag, digest, subject)
        listed = self.inventory.children
        behind = set(listed.loc[listed["manifest"] == self.digest, "child"].astype("str"))
        loose = manifests[(manifests["repository"] == self.repository) & manifests["digest"].isin(behind)]
        for digest in loose.loc[loose["kind"] == "attestation", "digest"]:
            found.setdefault(digest, ("attestation", "", digest, self.digest))
        return of_rows("image_referrers", found.values())

    @cached_property
    def shared_with(self) -> Frame:
        """Who else needs its layers: a row for each repository (columns: repository, tags, layers, size)."""
        ours = {layer.digest for part in self.parts for layer in part.manifest.layers}
        rows = self.inventory.layers
        some = pd.DataFrame(rows.loc[rows["digest"].isin(ours), ["manifest", "digest", "size"]])
        some = some.astype({"manifest": "str", "digest": "str"})
        some = some.merge(self.inventory.manifests[["repository", "digest"]], left_on="manifest", right_on="digest")
        own = {self.digest, *(str(part.manifest.digest) for part in self.parts)}
        children, tags = self.inventory.children.astype({"manifest": "str", "child": "str"}), self.inventory.tags
        found: list[tuple[int, str, str, int]] = []
        for repository, group in some.groupby("repository", observed=True):
            if repository == self.repository:
                above = set(children.loc[children["child"].isin(own), "manifest"]) - own
                # Without an index of others above it, the image itself is not who shares.
                group = group if above else group[~group["manifest"].isin(own)]  # noqa: PLW2901 -- the rows that count
            holders = set(group["manifest"])
            holders |= set(children.loc[children["child"].isin(holders), "manifest"])
            holders -= {self.digest} if repository == self.repository else set()
            named = tags.loc[(tags["repository"] == repository) & tags["digest"].isin(holders), "tag"]
            if repository == self.repository and named.empty and holders <= own:
                continue  # nothing but the image itself
            once = group.drop_duplicates("digest_x")
            found.append((-int(once["size"].sum()), str(repository), names(sorted(named)), len(once)))
        return of_rows("image_shared", [(where, tags, layers, -size) for size, where, tags, layers in sorted(found)])

    @cached_property
    def largest(self) -> Frame:
        """Its layers among the hundred largest of the inventory, for a chart (``shared_layers``)."""
        return Frame(self.inventory.largest[self.inventory.largest["digest"].isin(self.layers["digest"])])

    @property
    def history(self) -> Frame:
        """What the tag pointed at over time, where the inventory is of a storage (``history``)."""
        rows = self.inventory.history
        return Frame(rows[(rows["repository"] == self.repository) & (rows["tag"] == self.tag)])

    def compare(self, other: Image) -> Frame:
        """Return what differs from another image: layers, settings and sizes (columns: platform, what, first, second).

        Example:
            >>> registry.image("vm/centos8:8.3").compare(registry.image("vm/centos8:8.4"))[["what", "second"]]
                                                 what                           second
            0                                    size                          28.0 MB
            1  label org.opencontainers.image.version                           latest
            2               layer sha256:b1e690c62c96  25.2 MB: COPY disk.qcow2 /disk/
        """
        rows: list[tuple[str, str, str, str]] = []
        if self.size != other.size:
            rows.append(("", "size", human(self.size), human(other.size)))
        mine, theirs = ({part.platform: part for part in one.parts} for one in (self, other))
        if len(mine) == len(theirs) == 1:
            (platform,) = mine
            theirs = {platform: next(iter(theirs.values()))}
        for platform in dict.fromkeys((*mine, *theirs)):
            first, second = mine.get(platform), theirs.get(platform)
            if first is None or second is None:
                rows.append((platform, "platform", "yes" if first else "", "yes" if second else ""))
                continue
            rows += [(platform, *row) for row in _different(_contents(first), _contents(second))]
        return of_rows("image_difference", rows)

    def __repr__(self) -> str:
        return f"<Image {self.host}/{self.name}: {human(self.size)}, {count(len(self.layers), 'layer')}>"

    def _repr_html_(self) -> str:
        # Whole, to be copied: a table would cut a digest.
        # JupyterLab floats what a list describes: a grid keeps each beside its name, however long it is.
        about = "".join(
            f"<dt style='float:none;width:auto'><b>{escaped(what)}</b></dt>"
            f"<dd style='float:none;width:auto;margin:0'>{escaped(value)}</dd>"
            for what, value in self._about()
        )
        grid = "display:grid;grid-template-columns:max-content 1fr;gap:0 1.5em;overflow-wrap:anywhere"
        parts = [f"<h3 aria-level='2'>{escaped(self.name)}</h3><dl style='{grid}'>{about}</dl>"]
        parts += [
            "<h4 aria-level='3'>Layers</h4>",
            *(f"<p>{escaped(note)}</p>" for note in self.notes),
            # Sizes and steps fit a narrow page beside the digest; the type is in the frame.
            self.layers.drop(columns="media_type")._repr_html_(),
        ]
        for title, rows in (
            ("How it runs", self.config), ("What refers to it", self.referrers),
            ("Who shares its layers", self.shared_with), ("What the tag pointed at", self.history),
        ):  # fmt: skip
            parts += [f"<h4 aria-level='3'>{title}</h4>", rows._repr_html_()] if len(rows) else []
        return "".join(parts)


def _settings(config: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for field, name in _SETTINGS:
        value = config.get(field)
        if isinstance(value, dict) and field == "Labels":
            yield from ((f"{name} {key}", shown(key, str(text))) for key, text in value.items())
        elif isinstance(value, dict):
            yield name, ", ".join(map(str, value))
        elif isinstance(value, list) and field == "Env":
            for one in map(str, value):
                key, _, text = one.partition("=")
                yield f"{name} {key}", shown(key, text)
        elif value:
            yield name, masked(" ".join(map(str, value)) if isinstance(value, list) else str(value))


def _contents(part: Part) -> dict[str, str]:
    """Return what two images of one platform are compared by."""
    layers = part.manifest.layers
    steps, _ = part.config.steps(len(layers))
    found = {
        f"layer {layer.digest[:19]}": human(layer.size) + (f": {step}" if step else "")
        for layer, step in zip(layers, steps, strict=True)
    }
    return found | dict(_settings(part.config.config or {}))


def _different(first: dict[str, str], second: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for what in dict.fromkeys((*first, *second)):
        if first.get(what) != second.get(what):
            yield what, first.get(what, ""), second.get(what, "")


def layers_of(parts: Sequence[Part]) -> Frame:
    """Return the layers of some platforms with the steps that made them (``image_layers``).

    Example:
        >>> len(layers_of([]))
        0
    """
    rows = []
    for part in parts:
        steps, _ = part.config.steps(len(part.manifest.layers))
        for position, (layer, step) in enumerate(zip(part.manifest.layers, steps, strict=True)):
            rows.append((part.platform, position, layer.digest, layer.media_type, layer.size, step))
    return of_rows("image_layers", rows)

"""Layouts become records: crawled as a registry is, and then held against the files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio

from regnb.crawl import crawl
from regnb.crawl.records import BlobRecord, Problem, Records, Usage
from regnb.errors import RegnbError
from regnb.layouts.docker import DockerArchive
from regnb.layouts.layout import Layout
from regnb.layouts.shelf import Shelf
from regnb.oci.manifest import DOCKER_LIST, DOCKER_MANIFEST
from regnb.text import count
from regnb.wire.cache import Cache
from regnb.wire.client import Client

_AGAIN = "copy the image into the layout again"


async def collect(
    shelf: Shelf,
    client: Client,
    _cache: Cache,
    repositories: Sequence[str] | None = None,
    /,
    *,
    progress: crawl.Progress | None = None,
    **_: bool,
) -> Records:
    """Read the layouts of a shelf.

    Args:
        shelf: The layouts.
        client: Whose requests they answer.
        _cache: Not used: a layout is read as it is, and what another place had says nothing of it.
        repositories: As for :func:`regnb.crawl.crawl.collect`.
        progress: As there.
        _: What else a registry is asked for; of a layout everything is read.

    Returns:
        The same records as of a registry; beside them what has no tag, what index.json says that makes no sense, blobs
        that are missing or have another size, and blobs that nothing needs.

    Raises:
        StorageError, ContentError: There is one layout alone, and it cannot be read.
    """
    untagged = await anyio.to_thread.run_sync(_untagged, shelf)
    read = partial(crawl.collect, client, Cache(), repositories, progress=progress, untagged=untagged)
    records = await read()
    records.source = "layout"
    await anyio.to_thread.run_sync(_look, shelf, records, repositories)
    return records


def _untagged(shelf: Shelf) -> dict[str, list[str]]:
    """Return the manifests without a tag of each repository; what cannot be read is told when it is crawled."""
    found: dict[str, list[str]] = {}
    for layout in shelf.layouts:
        try:
            if digests := [] if shelf.new else layout.untagged():
                found[layout.repository] = digests
        except RegnbError:
            continue
    return found


def _look(shelf: Shelf, records: Records, repositories: Sequence[str] | None) -> None:
    """Hold records against the files: sizes of blobs, and what index.json and the folder are like.

    Args:
        shelf: The layouts.
        records: What was crawled.
        repositories: Those that were read; None for all, so that a blob that nothing needs is known as such.
    """
    of: dict[int, list[str]] = {}
    for name, status in records.repositories.items():
        layout = shelf.of(name)
        if layout is not None and status in ("read", "empty"):
            of.setdefault(id(layout), []).append(name)
    there: dict[str, int] = {}
    for text in shelf.failed:
        records.problems.append(Problem("", "", "failed", f"cannot be looked at: {text}"))
    for layout in shelf.layouts:
        if names := of.get(id(layout)):
            try:
                _oddities(layout, records)
                _sizes(layout, records, names)
                there |= dict(layout.files.blobs())
            except (OSError, RegnbError) as error:
                text = error.message if isinstance(error, RegnbError) else str(error)
                records.problems.append(Problem(layout.repository, "", "failed", text))
    for digest, blob in records.blobs.items():
        if digest not in there and blob.kind not in ("foreign layer", "manifest"):
            blob.kind = "missing"
    complete = repositories is None and not any(problem.incomplete for problem in records.problems)
    records.disk |= {what: Usage() for what in ("blobs", "links", "uploads", "other", "folders")}
    for digest, size in there.items():
        records.disk["blobs"].add(size, size)
        if complete and digest not in records.blobs and not shelf.place.reference:
            records.blobs[digest] = BlobRecord(size, "", "orphan")


def _oddities(layout: Layout, records: Records) -> None:
    for text in layout.files.oddities():
        records.problems.append(
            Problem(layout.repository, "", "layout", text, "make the layout again", incomplete=False)
        )
    docker = [
        entry.digest
        for entry in layout.listing.entries
        if entry.descriptor.media_type in (DOCKER_LIST, DOCKER_MANIFEST) and not isinstance(layout.files, DockerArchive)
    ]
    if docker:
        text = f"{count(len(docker), 'image')} of Docker's media types: skopeo and umoci do not read these in a layout"
        hint = "do not run umoci gc there: it removes their layers; regnb copy brings them into a registry as they are"
        records.problems.append(Problem(layout.repository, docker[0], "docker type", text, hint, incomplete=False))
    for odd in layout.listing.oddities:
        row = (odd.reference, odd.problem, odd.message, odd.hint, odd.incomplete)
        records.problems.append(Problem(layout.repository, *row))


def _sizes(layout: Layout, records: Records, names: Sequence[str]) -> None:
    """Name the blobs that manifests of some repositories need and that are missing, or have another size."""
    seen: set[tuple[str, str]] = set()
    here = set(names)
    for name, digest in list(records.links):
        record = records.manifests.get(digest)
        if record is None or name not in here:
            continue
        for blob in (record.config, *record.layers):
            known = records.blobs.get(blob)
            if known is None or known.kind == "foreign layer" or (name, blob) in seen:
                continue
            seen.add((name, blob))
            size = layout.files.size(blob)
            if size is None:
                records.damage(name, blob, "missing", "a manifest needs it, and it is not in the layout", _AGAIN)
            elif size != known.size:
                text = f"{count(size, 'byte')} in the layout, and a manifest states {known.size:,}"
                records.damage(name, blob, "damaged", text, _AGAIN)

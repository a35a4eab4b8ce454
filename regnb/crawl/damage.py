"""What is missing or damaged in a storage, and what a garbage collection would take away from a tag."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from regnb.crawl.contents import Needs
from regnb.crawl.listing import Repository, blob_file
from regnb.crawl.notes import Notes
from regnb.crawl.records import ProblemKind, Records
from regnb.text import count, names

ALIASED: Final[tuple[ProblemKind, ProblemKind]] = ("sha512", "linked twice")
"""Problems of blobs that were pushed by another digest: linked by it alone, or by both."""
_AGAIN: Final = "delete the blob's file, then push the image again: clients skip a blob that the registry seems to have"


def find_damage(notes: Notes, needs: Needs, sizes: dict[str, int], repositories: dict[str, Repository]) -> None:
    """Name what manifests need and a repository does not have whole, one row for each repository.

    Example:
        ``find_damage(notes, contents.manifests(), listing.sizes, listing.repositories)``
    """
    records = notes.records
    lost = {blob for blob, (kind, _, _) in needs.kinds.items() if kind != "foreign layer"} - sizes.keys()
    lost -= {alias for alias, stored in records.aliases.items() if stored in sizes}
    wrong: dict[str, list[tuple[str, int]]] = {}
    for (manifest, blob), size in needs.sizes.items():
        wrong.setdefault(manifest, []).append((blob, size))
    seen: set[tuple[str, str]] = set()
    for name, digest in records.links:
        record = records.manifests[digest]
        here = repositories[name].walked
        for blob in (record.config, *record.layers):
            if blob in lost and (name, blob) not in seen and not notes.is_hidden(blob_file(blob)):
                seen.add((name, blob))
                hint = "push the image again"
                notes.damage(name, blob, "missing", "a manifest needs it, and it is not on disk", hint)
        for child in record.children:
            if child not in here and (name, child) not in seen and (name, child) not in records.damaged:
                seen.add((name, child))
                if not notes.is_hidden(blob_file(child)) and name not in notes.statuses:
                    text = "the repository does not have this manifest, which an index names"
                    hint = "push it again, or ignore this if the platform was left out on purpose"
                    notes.damage(name, child, "missing", text, hint)
        for blob, size in wrong.get(digest, ()):
            if (name, blob) not in seen:
                seen.add((name, blob))
                found = sizes[records.aliases.get(blob, blob)]
                text = f"{count(found, 'byte')} on disk, and a manifest states {size:,}"
                notes.damage(name, blob, "damaged", text, _AGAIN)


def find_fatal(notes: Notes, needs: Needs, first: dict[str, str]) -> None:
    """Name the manifests that end a garbage collection which reads them."""
    records = notes.records
    for digest, (message, opaque) in needs.fatal.items():
        notes.problem(first[digest], digest, "corrupt manifest", message, incomplete=opaque)
        if opaque:
            records.damaged.update(link for link in records.links if link[1] == digest)
    for digest in needs.schema1:
        text = "an image of the withdrawn schema 1: a collection of version 3 that reads it removes nothing"
        notes.problem(first[digest], digest, "schema1", text, hint="delete it before you move to version 3")


def find_aliased(
    notes: Notes, needs: Needs, twice: set[tuple[str, str]], repositories: Mapping[str, Repository]
) -> None:
    """Name the blobs that were pushed by another digest than that of their files: no collection knows them by it."""
    records = notes.records
    named = {
        (name, blob)
        for name, digest in (records.links if records.aliases else ())
        for blob in (records.manifests[digest].config, *records.manifests[digest].layers)
        if blob in records.aliases
    }
    for name, alias in sorted(named | {one for one in twice if repositories[one[0]].has_manifests}):
        stored = records.aliases[alias]
        tags = _needing(records, name, alias)
        text = f"pushed by this digest, and stored as {stored}"
        if stored not in needs.kinds and (name, alias) in named:
            whom = f"{count(len(tags), 'tag')}: {names(tags)}" if tags else "a manifest without a tag"
            text += f": a collection would remove a layer that is needed by {whom}"
        if (name, alias) in twice:
            text += "; a collection of version 3 that removes it ends with exit code 1"
        notes.problem(
            name, alias, ALIASED[(name, alias) in twice], text, hint="push the image again with sha256 digests"
        )


def _needing(records: Records, repository: str, layer: str) -> list[str]:
    """Return the tags of a repository that need a layer, which their manifests name by this digest."""
    return [
        tag.tag
        for tag in records.tags
        if tag.repository == repository
        and any(layer in records.manifests[digest].layers for _, digest in _behind(records, [(repository, tag.digest)]))
    ]


def _behind(records: Records, some: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return some manifests in their repositories, and those that they lead to there."""
    found: set[tuple[str, str]] = set()
    todo = list(some)
    while todo:
        row = todo.pop()
        if row in records.links and row not in found:
            found.add(row)
            record = records.manifests[row[1]]
            todo += [(row[0], child) for child in (*record.children, *record.layers)]
    return found

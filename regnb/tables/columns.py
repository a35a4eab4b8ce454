"""Every column of every DataFrame: its type and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from regnb.tables.answers import ANSWERS

INVENTORY: Final = (
    *("repositories", "tags", "manifests", "children", "layers", "blobs", "problems", "coverage"),
    *("history", "uploads", "disk", "findings", "labels"),
)
"""The frames that an inventory is made of, and that a snapshot stores."""

COLUMNS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "repositories": {
        "repository": ("str", "name"),
        "status": ("str", "read, empty (listed, but without tags), missing (named, but not there), failed or denied"),
        "tags": ("int64", "tags listed"),
        "manifests": ("int64", "distinct manifests, with the untagged ones where these are known"),
        "untagged": ("Int64", "untagged manifests; missing over HTTP, where nobody can see them"),
        "size": ("int64", "bytes: every blob that its manifests need, counted once"),
        "exclusive": ("int64", "bytes of these that no other repository needs: free if it alone is deleted"),
        "share": (
            "int64",
            "bytes: its part of each blob, divided by the repositories that need it; adds up to the total",
        ),
        "pull_size": ("int64", "bytes: the sum over its tags, each counted as if it were alone"),
        "newest": ("datetime64[us, UTC]", "creation of the newest image"),
        "layer_links": (
            "Int64",
            "links to layers and configs on disk: a small file and a folder each; missing unless a storage was read",
        ),
        "stale_links": (
            "Int64",
            (
                "of these the links that no manifest of the repository needs, which version 2.8 never removes; missing "
                "unless a storage was read"
            ),
        ),
        "complete": ("bool", "whether everything behind its tags was read; if not, sizes are lower bounds"),
    },
    "tags": {
        "repository": ("str", "name"),
        "tag": ("str", "name"),
        "digest": ("str", "of the manifest that the tag points to; missing if it could not be read"),
        "kind": ("str", "image, index, attestation, signature, sbom, artifact, schema1 or malformed"),
        "platforms": ("str", "os/architecture of each image behind the tag, without attestations"),
        "created": (
            "datetime64[us, UTC]",
            "when the newest image behind the tag was made; missing: its age is unknown",
        ),
        "dated": (
            "str",
            "where created is from: config, annotation (org.opencontainers.image.created), or empty: unknown",
        ),
        "pushed": (
            "datetime64[us, UTC]",
            "when the tag was last pushed, as a storage or the registry's own API has it; missing: not known",
        ),
        "pulled": (
            "datetime64[us, UTC]",
            "when the tag or its manifest was last pulled, as far as that is recorded; missing: never, or not known",
        ),
        "pulls_since": (
            "datetime64[us, UTC]",
            "since when every pull of the tag is recorded, up to this reading; missing: pulls are not recorded",
        ),
        "locked": ("str", "why the registry refuses to delete the tag, as its own API has it; empty: nothing is known"),
        "layers": ("int64", "distinct layers behind the tag"),
        "size": ("int64", "bytes: every blob behind the tag, counted once, manifests and configs included"),
        "exclusive": ("int64", "bytes of these that nothing else needs: free if this tag alone is deleted"),
        "share": ("int64", "bytes: its part of each blob, divided by the tags that lead to it; adds up to the total"),
        "siblings": ("int64", "other tags of this repository with its digest: a deletion by digest deletes them too"),
        "elsewhere": ("int64", "tags of other repositories with the same digest"),
        "subject": ("str", "digest that this referrer's tag or manifest speaks about; else missing"),
        "complete": ("bool", "whether everything behind the tag was read; if not, the size is a lower bound"),
        "pullable": (
            "boolean",
            (
                "whether every platform can be pulled: no if a part is missing or damaged; missing if a part was not "
                "read; over HTTP layers are not asked for, and taken to be there"
            ),
        ),
    },
    "manifests": {
        "repository": ("str", "name"),
        "digest": ("str", "of the manifest"),
        "kind": ("str", "as in tags"),
        "media_type": ("str", "of the manifest"),
        "artifact_type": ("str", "what an artifact is; for an image its config's media type"),
        "config": ("str", "digest of the config; missing for an index"),
        "platform": ("str", "os/architecture/variant, from the config"),
        "created": ("datetime64[us, UTC]", "the youngest date of its config and history; missing: unknown"),
        "layers": ("int64", "layers, equal ones counted as often as they stand there"),
        "manifest_size": ("int64", "bytes of the manifest itself"),
        "size": ("int64", "bytes: every blob behind the manifest, counted once, itself included"),
        "tags": ("int64", "tags of this repository that point straight at it"),
        "parents": ("int64", "indexes of this repository that list it"),
        "subject": ("str", "digest of the manifest that it refers to; else missing"),
        "base_name": (
            "str",
            "annotation org.opencontainers.image.base.name, its own or in the list of an index; else missing",
        ),
        "base_digest": (
            "str",
            "annotation org.opencontainers.image.base.digest, from where base_name is; else missing",
        ),
        "checked": (
            "bool",
            (
                "whether the registry was asked for it, in this repository and in this crawl; if not, it came from the "
                "cache, or several repositories have it and no tag of this one points straight at it"
            ),
        ),
        "complete": ("bool", "whether everything behind it was read"),
    },
    "children": {
        "manifest": ("category", "digest of an index"),
        "position": ("int32", "0 is the first"),
        "child": ("category", "digest of a manifest that it lists, whether it was found or not"),
    },
    "layers": {
        "manifest": ("category", "digest of the manifest, or of an index that lists blobs, such as a build cache"),
        "position": ("int32", "0 is the base"),
        "digest": ("category", "of the layer"),
        "media_type": ("category", "of the layer, as this manifest has it"),
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
        "exclusive": (
            "int64",
            "bytes that are free if one tag alone is deleted: size, or 0 if anything else needs it, too",
        ),
        "pull_size": ("int64", "bytes: size times the tags that lead to it"),
        "alias": (
            "str",
            "another digest, such as a sha512, by which a repository links it and manifests name it; else missing",
        ),
        "manifests": ("int64", "manifests that it belongs to"),
        "tags": ("int64", "tags that lead to it"),
        "repositories": ("int64", "repositories with a manifest that needs it"),
        "diff_id": ("str", "of a layer: the digest of its archive, not compressed, as configs have it; else missing"),
    },
    "problems": {
        "repository": ("str", "name, or empty"),
        "reference": ("str", "tag, digest or endpoint"),
        "problem": (
            "str",
            "failed, denied, dangling, vanished, missing, damaged, mismatch, malformed, schema1, media type, …",
        ),
        "message": ("str", "what happened"),
        "hint": ("str", "what to do next"),
        "incomplete": ("bool", "whether something is unknown because of it, so that figures are lower bounds"),
    },
    "coverage": {
        "what": ("str", "catalog, repositories, tags, manifests, configs, referrers"),
        "listed": ("int64", "how many there are, as far as is known"),
        "read": ("int64", "asked of the registry in this crawl"),
        "cached": ("int64", "taken from the cache by digest, without asking whether they still exist"),
        "told": ("int64", "told by the registry's own API, without asking for each"),
        "failed": ("int64", "could not be read"),
        "denied": ("int64", "not allowed"),
        "source": (
            "str",
            "what this is from: the registry API, a storage, or the vendor's own API, and how that was checked",
        ),
        "complete": ("bool", "nothing failed and nothing was denied; configs never count: no size depends on them"),
    },
    "history": {
        "repository": ("str", "name"),
        "tag": ("str", "name"),
        "digest": ("str", "that the tag points to, or has pointed to"),
        "when": ("datetime64[us, UTC]", "when the tag was last pointed there, as the storage has it"),
        "current": ("bool", "whether the tag points there now"),
        "present": ("bool", "whether the manifest is still in the repository"),
    },
    "uploads": {
        "repository": ("str", "name"),
        "upload": ("str", "UUID of an unfinished upload"),
        "started": ("datetime64[us, UTC]", "when"),
        "size": ("int64", "bytes on disk"),
    },
    "disk": {
        "what": ("str", "blobs, links, uploads, other or folders; of a bucket also LIST requests and GET requests"),
        "files": ("int64", "files, folders, or requests that this reading sent"),
        "size": ("int64", "bytes in them"),
        "used": ("Int64", "bytes of their blocks on disk, as du counts them; missing where they are not known"),
    },
    "findings": {
        "manifest": ("category", "digest of an image"),
        "rule": ("category", "secret in environment, secret in history, root user or missing labels"),
        "where": ("category", "the part of its config, or the step of its history"),
        "position": ("category", "of the layer that is concerned, as a text: 0 is the base; empty for none"),
        "found": ("category", "what was found; never the value of a secret"),
    },
    "labels": {
        "manifest": ("category", "digest of an image"),
        "label": ("category", "name=value of a label of its config; at most 32 of an image, 256 letters of each"),
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
        "plain_2": ("bool", "whether garbage-collect removes it, in distribution 2.8"),
        "plain": ("bool", "whether garbage-collect removes it, in distribution 3"),
        "untagged": ("bool", "whether garbage-collect --delete-untagged does, in distribution 3"),
        "untagged_2": ("bool", "whether garbage-collect --delete-untagged does, in distribution 2.8"),
        "before": ("bool", "whether garbage-collect would remove it without the deletion, too"),
    },
    "reclaim_stays": {
        "digest": ("str", "of a blob that the deletion leaves"),
        "kind": ("str", "as in blobs"),
        "size": ("int64", "bytes"),
        "repository": ("str", "that still needs it"),
        "because": ("str", "its tags that lead to it, or the digest of an untagged manifest"),
    },
    "found": {
        "repository": ("str", "name"),
        "tag": ("str", "name; missing for an untagged manifest"),
        "digest": ("str", "of the manifest that the tag points to"),
        "size": ("int64", "bytes: every blob behind it, counted once"),
        "match": (
            "str",
            "what fits: name, part of the name, digest, config, a layer by its position, a label; or of which child",
        ),
        "pull": ("str", "the command that pulls exactly this; empty where the registry's host is not known"),
    },
    "free": {
        "repository": ("str", "name"),
        "tag": ("str", "name"),
        "digest": ("str", "of the manifest that the tag points to"),
        "created": (
            "datetime64[us, UTC]",
            "when the newest image behind the tag was made; where that is unknown, when it was pushed",
        ),
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
        "disk": ("Int64", "bytes on disk; missing where only the API was read"),
        "complete": ("bool", "whether everything was read"),
        "schema": ("int64", "version of the snapshot's layout"),
        "status": ("str", "ok, or why it cannot be read"),
        "url": ("str", "where it is"),
    },
    "changed_tags": {
        "change": ("str", "new, moved, vanished, or broken (it can no longer be pulled)"),
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
        "broken": ("int64", "tags that can no longer be pulled"),
        "gained": ("int64", "bytes: its part of the blobs that were nowhere before; adds up to the total"),
        "freed": ("int64", "bytes: its part of the blobs that are nowhere now; adds up to the total"),
        "cause": ("str", "in words"),
    },
    "fleet": {
        "registry": ("str", "its name in the fleet"),
        "url": ("str", "where it is"),
        "state": ("str", "complete, incomplete (not everything could be read) or down (nothing could)"),
        "repositories": ("Int64", "repositories; blank where it is down"),
        "tags": ("Int64", "tags"),
        "stored": ("Int64", "bytes: every blob once"),
        "pulled": ("Int64", "bytes: the sum over all tags"),
        "problems": ("Int64", "rows of its problems"),
        "message": ("str", "why it could not be read"),
        "hint": ("str", "what to do about it"),
    },
    "fleet_blobs": {
        "digest": ("str", "of the blob"),
        "kind": ("str", "what it is"),
        "size": ("int64", "bytes"),
        "registries": ("int64", "how many registries hold it"),
        "names": ("str", "which ones"),
        "again": ("int64", "bytes that it takes beyond one copy"),
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
        "disk": ("Int64", "bytes on disk; missing where only the API was read"),
        "tags": ("int64", "tags"),
        "new": ("Int64", "tags that were not there in the snapshot before; missing in the first one"),
        "moved": ("Int64", "tags that pointed elsewhere; missing in the first one"),
        "vanished": ("Int64", "tags that were there; missing in the first one"),
        "collected": (
            "Int64",
            "bytes of the blobs that the last complete snapshot before had and this one lacks; missing without two",
        ),
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
    **ANSWERS,
}
"""Frame to column to (dtype, meaning). ``size`` is bytes as stored and transferred, everywhere."""
TOLD_BY: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "repositories": {
        "untagged": frozenset({"storage", "layout"}),
        "layer_links": frozenset({"storage"}),
        "stale_links": frozenset({"storage"}),
    },
    "disk": {"used": frozenset({"storage"})},
}
"""Frame to column to the sources that alone can fill it; of any other source it is missing."""
SENTENCES = frozenset({"message", "reason", "refused", "hint", "mend", "found", "cause"})
"""Columns that are read as sentences, and so are never cut short."""
SIZES = frozenset({
    "size", "exclusive", "share", "pull_size", "manifest_size", "saved", "freed", "total", "gained", "before", "stored",
    "pulled", "disk", "used", "compressed", "hidden", "first_size", "second_size", "base_size", "again", "repeated",
})  # fmt: skip


def meanings(names: Sequence[str]) -> dict[str, str]:
    """Return what the columns of a frame mean: as in the frame of :data:`COLUMNS` that has most of them.

    Example:
        >>> meanings(["repository", "tag", "size"])["tag"]
        'name'
    """
    nearest = max(COLUMNS.values(), key=lambda columns: sum(name in columns for name in names))
    return {name: nearest[name][1] for name in names if name in nearest}

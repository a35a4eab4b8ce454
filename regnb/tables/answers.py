"""The columns of what is told of one image, of a plan, and of a registry: beside those of an inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_FOUND: Final = {
    "rule": (
        "str",
        "secret (in environment, in history, file), root user, missing labels, package cache, build tools, unread",
    ),
    "where": ("str", "the part of the config, the step of the history, the layer, or the path"),
    "position": ("int64", "of the layer that is concerned; -1 for none"),
    "size": ("int64", "bytes that are concerned"),
    "found": ("str", "what was found; never the value of a secret"),
    "mend": ("str", "how to mend it"),
}
"""Columns of what should not be in an image."""
ANSWERS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "image_layers": {
        "platform": ("str", "of the image; empty if its config does not say"),
        "position": ("int64", "0 is the base"),
        "digest": ("str", "of the layer"),
        "media_type": ("str", "of the layer"),
        "size": ("int64", "bytes, compressed"),
        "command": ("str", "the history entry that made it, where the config says"),
    },
    "files": {
        "platform": ("category", "of the image; empty if its config does not say"),
        "path": ("str", "in the image, without a leading slash; of a whiteout the path that it removes"),
        "name": ("str", "as the layer's archive has it, such as ./usr/.wh.lib"),
        "layer": ("category", "digest of the layer"),
        "position": ("int32", "of the layer: 0 is the base"),
        "command": ("category", "the history entry that made the layer, where the config says"),
        "kind": (
            "category",
            "file, directory, symlink, hardlink, character device, block device, fifo, or unread (a whole layer)",
        ),
        "size": ("int64", "bytes, as tar and ls show it"),
        "stored": ("int64", "bytes in the layer's archive: fewer for a sparse file, 0 for a hard link"),
        "compressed": (
            "int64",
            "bytes: its part of the compressed layer, header included; an estimate where the layer was streamed",
        ),
        "digest": ("str", "sha256 of the file's content; missing for what has none, and for sparse files"),
        "mode": ("category", "permissions, octal, such as 0755"),
        "owner": ("category", "user:group, as numbers"),
        "target": ("str", "of a link"),
        "whiteout": ("category", "deleted (removes a path of a lower layer), opaque (all of a folder), or empty"),
        "shown": ("bool", "whether the image shows this entry at its path"),
        "hidden": ("int64", "bytes of its content that a later entry overwrites or deletes: pulled, and never seen"),
        "way": (
            "category",
            "stream (every byte was read and verified) or toc (the layer's table of contents, as its maker wrote it)",
        ),
        "message": ("str", "why a layer was not read; else empty"),
    },
    "compared_files": {
        "path": ("str", "in the images, without a leading slash"),
        "state": (
            "str",
            "only in the first, only in the second, or what differs: kind, content, target, mode or owner",
        ),
        "first_size": ("int64", "bytes in the first image; 0 if it is not there"),
        "second_size": ("int64", "bytes in the second image; 0 if it is not there"),
        "first_digest": ("str", "sha256 of the content in the first image"),
        "second_digest": ("str", "sha256 of the content in the second image"),
    },
    "bases": {
        "repository": ("str", "name"),
        "digest": ("str", "of the image's manifest"),
        "platform": ("str", "of the image"),
        "layers": ("int64", "of the image"),
        "base": (
            "str",
            "repository:tag of the tagged image whose layers this one begins with, the most of them; or none",
        ),
        "base_digest": ("str", "of that image's manifest"),
        "base_layers": ("Int64", "layers that both begin with; missing: no base is known"),
        "base_size": ("Int64", "bytes of these layers; missing: no base is known"),
        "siblings": ("int64", "other images with the very same layers"),
        "how": (
            "str",
            "what was compared: diff_ids (the layers' archives), layers, or unknown: squashed, or on what is not known",
        ),
        "annotated_name": ("str", "what an annotation of the image, or of its index, names as the base; or missing"),
        "annotated_digest": ("str", "the digest that such an annotation names; or missing"),
        "moved": ("boolean", "whether the base has a newer version; missing: not known"),
        "behind": ("Int64", "how many newer versions there are; missing: not known"),
        "told_by": (
            "str",
            (
                "what says so: tag (it still points at the base), tag history (of a storage), earlier snapshots "
                "(at least so many), version tags, annotation, or not known"
            ),
        ),
    },
    "known_bases": {
        "name": ("str", "host/repository:tag of an image"),
        "index": ("str", "digest that the tag points at"),
        "digest": ("str", "of the image's manifest"),
        "platform": ("str", "of the image"),
        "position": ("int64", "of the layer: 0 is the base"),
        "layer": ("str", "digest of the layer"),
        "diff_id": ("str", "digest of its archive, not compressed; missing where the config does not say"),
        "size": ("int64", "bytes of the layer"),
    },
    "packages": {
        "platform": ("str", "of the image; empty if its config does not say"),
        "kind": (
            "str",
            "deb, apk, rpm, pypi, npm, maven, os (the distribution itself), or unread (a layer that was not read)",
        ),
        "name": ("str", "of the package; empty where the file was not read"),
        "version": ("str", "as it is written there"),
        "architecture": ("str", "of the package, where it is told"),
        "path": ("str", "of the file that says so"),
        "layer": ("str", "digest of the layer that the file is in"),
        "position": ("int64", "of the layer: 0 is the base"),
        "end_of_life": (
            "str",
            "of the distribution (os): until when it is supported, and how old the installed data is; or not known",
        ),
        "message": ("str", "why a file or a layer was not read; else empty"),
    },
    "sboms": {
        "platform": ("str", "of the image that the document hangs on; empty for an index"),
        "referrer": ("str", "digest of the manifest that has the document"),
        "form": ("str", "spdx or cyclonedx; empty where it was not read"),
        "kind": ("str", "of the package: deb, apk, rpm, pypi, npm, maven, golang, …; empty where it is not told"),
        "name": ("str", "of the package"),
        "version": ("str", "of the package"),
        "purl": ("str", "its package URL"),
        "message": ("str", "why a document was not read; else empty"),
    },
    "waste": {
        "repository": ("str", "name; a layer of several repositories counts in the first of them"),
        "directory": ("str", "the first parts of the files' paths; empty for the root"),
        "files": ("int64", "files that are hidden or repeated"),
        "hidden": ("int64", "bytes that a later layer overwrites or deletes, in every image with the layer"),
        "repeated": (
            "int64",
            "bytes of files whose content another layer carries, too: one common base saves them",
        ),
        "saved": ("int64", "bytes: the part of the compressed layers that both take; an estimate"),
        "message": ("str", "which layer was not read, and why; else empty"),
    },
    "hygiene": {
        "platform": ("str", "of the image; empty if its config does not say"),
        **_FOUND,
    },
    "inventory_hygiene": {
        "repository": ("str", "name"),
        "image": ("str", "a tag that leads to it, or of an index that lists it; its digest where no tag does"),
        "digest": ("str", "of the image's manifest"),
        "platform": ("str", "of the image"),
        **_FOUND,
    },
    "scanned": {
        "repository": ("str", "name"),
        "image": ("str", "a tag that leads to it, or to an index that lists it; its digest where no tag does"),
        "digest": ("str", "of the image's manifest"),
        "platform": ("str", "of the image"),
        "state": (
            "str",
            "unscanned, clean (nothing critical), vulnerable, vulnerable and running, vulnerable and unused",
        ),
        "critical": ("Int64", "critical vulnerabilities, each once, the most that one report has; missing: unscanned"),
        "high": ("Int64", "likewise those that are high"),
        "fixable": ("Int64", "of the critical and high ones those for which there is a fixed version"),
        "running": ("str", "a pod or workload that uses it; empty: none; missing: not checked"),
        "scanner": ("str", "what made the reports"),
        "when": ("datetime64[us, UTC]", "when the youngest report was made, where it says so"),
        "matched": (
            "str",
            "how the report was found: config digest, manifest digest, or index and platform; else empty",
        ),
        "end_of_life": ("str", "whether the distribution is supported no longer, as the report has it; or not known"),
    },
    "about": {
        "what": ("str", "what is told"),
        "value": ("str", "how it is"),
    },
    "image_config": {
        "platform": ("str", "of the image; empty if its config does not say"),
        "setting": ("str", "entrypoint, command, user, ports, …; or the name of a variable or a label"),
        "value": ("str", "its value"),
    },
    "image_referrers": {
        "kind": ("str", "signature, sbom, attestation or artifact"),
        "tag": ("str", "that names it; empty where the registry lists it"),
        "digest": ("str", "of the referrer"),
        "subject": ("str", "digest of the manifest that it refers to: the image, or one of its platforms"),
    },
    "image_shared": {
        "repository": ("str", "that needs some of its layers, too"),
        "tags": ("str", "that lead to them there"),
        "layers": ("int64", "how many"),
        "size": ("int64", "bytes of these layers, each counted once"),
    },
    "image_difference": {
        "platform": ("str", "that it concerns; empty for all of them"),
        "what": ("str", "size, platform, a layer by its digest, or a setting"),
        "first": ("str", "how it is in the first image; empty: not there"),
        "second": ("str", "how it is in the second one; empty: not there"),
    },
    "plan": {
        "action": ("str", "put (a manifest by digest), tag, untag, delete or keep"),
        "repository": ("str", "name"),
        "tag": (
            "str",
            "name; for a manifest that is deleted, every tag on it, or in brackets what it belongs to; empty for put",
        ),
        "before": ("str", "digest that is there when the plan is made; missing if there is none, or it stays"),
        "after": ("str", "digest that will be there; missing if there will be none, or it stays"),
        "tags": ("int64", "tags that a deletion by digest deletes too"),
        "size": ("Int64", "bytes of every blob behind the manifest, counted once; missing: its children were not read"),
        "reason": ("str", "why this row is here"),
        "refused": ("str", "what the registry will refuse, or that this is not known; else empty"),
        "curl": ("str", "the same for a shell, without credentials"),
    },
    "sweep": {
        "kind": ("str", "upload, tag history, revision, layer link, manifest, blob, or run (of the trash)"),
        "repository": ("str", "name; empty for the bytes of a blob or a manifest, and for a run"),
        "tag": ("str", "name, of an entry of a tag's history"),
        "reference": ("str", "digest, upload, or run"),
        "size": ("int64", "bytes"),
        "youngest": ("datetime64[us, UTC]", "youngest date of the thing and of every link to it"),
        "reason": ("str", "why this row is here"),
    },
    "effects": {
        "effect": (
            "str",
            (
                "tag or child or referrer (goes too), parent (breaks), orphan or shared (stays), running, "
                "trash (put back first); over a storage, what stays: undo, corrupt tag, dangling tag, "
                "empty repository, uploads, receipt, needed"
            ),
        ),
        "repository": ("str", "name"),
        "reference": ("str", "tag or digest; empty for a whole repository"),
        "size": ("Int64", "bytes that are concerned; missing: none, or not known"),
        "message": ("str", "what it means"),
    },
    "receipt": {
        "step": ("int64", "row of the plan"),
        "action": ("str", "as in the plan"),
        "repository": ("str", "name"),
        "tag": ("str", "as in the plan"),
        "before": ("str", "digest that was there just before; missing if there was none"),
        "after": ("str", "digest that was there just after, as it was read again; missing if there was none"),
        "status": (
            "str",
            "done, stale (moved since the plan, not touched), failed, skipped, or unknown (unreadable after it)",
        ),
        "message": ("str", "what happened, where it is not plain"),
        "when": ("datetime64[us, UTC]", "when it was known"),
    },
    "caches": {
        "endpoint": ("str", "a registry process"),
        "asked": ("int64", "how many blobs that are gone it was asked for"),
        "remembered": ("int64", "how many it says to have, and sends no byte of"),
        "message": ("str", "what to do, or why it is not known"),
    },
    "trash": {
        "run": ("str", "its name, which is that of the receipt"),
        "moved": ("datetime64[us, UTC]", "when the collection began"),
        "things": ("int64", "blobs, links and uploads"),
        "size": ("int64", "bytes"),
    },
    "receipts": {
        "receipt": ("str", "its name"),
        "started": ("datetime64[us, UTC]", "when"),
        "who": ("str", "user and machine"),
        "operation": ("str", "what the plan was for"),
        "registry": ("str", "host:port, or the storage"),
        "steps": ("int64", "rows of the plan that change something"),
        "done": ("int64", "rows that were done"),
        "status": ("str", "done, partial, unfinished (the process ended before its last row) or broken"),
    },
    "checks": {
        "check": ("str", "name of the check"),
        "state": ("str", "ok, warn, fail, or skipped (not checked)"),
        "found": ("str", "how it is"),
        "hint": ("str", "what to do about it; empty if nothing is to be done"),
    },
    "capabilities": {
        "capability": ("str", "what a registry may offer"),
        "supported": ("str", "yes, no, or unknown: nothing has shown it yet"),
        "value": ("str", "a version or a limit, where there is one"),
        "how": ("str", "the answer that showed it"),
        "when": ("datetime64[us, UTC]", "when that was"),
    },
    "catalog": {"repository": ("str", "name")},
    "tag_list": {"repository": ("str", "name"), "tag": ("str", "name")},
}

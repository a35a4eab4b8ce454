"""What should not be in an image's layers: files with secrets, caches and build tools; and in its config.

The content of such a file is neither shown nor kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from regnb.layers.archive import FILE, HARDLINK, SYMLINK
from regnb.layers.files import merge
from regnb.layers.images import Part
from regnb.layers.listing import Layer
from regnb.oci.findings import Finding, of_config
from regnb.text import count

if TYPE_CHECKING:
    from regnb.tables.frame import Frame

_CACHES: Final = re.compile(
    rb"var/cache/apt/archives/.+\.deb|var/cache/apt/\w+\.bin|var/lib/apt/lists/.+_.+|var/cache/apk/.+|lib/apk/db/.*\.gz"
    rb"|var/cache/(?:dnf|yum|zypp)/.+|(?:root|home/[^/]+)/(?:\.cache/pip|\.npm/_cacache|\.cache/go-build|\.m2/repository"
    rb"|\.gradle/caches|\.cargo/registry)/.+|usr/local/share/\.cache/.+"
)
_TOOLS: Final = re.compile(
    rb"usr/(?:local/)?bin/(?:gcc|g\+\+|clang|make|cmake|cargo|rustc|ld|gdb|javac|mvn|go)(?:-[\d.]+)?"
    rb"|usr/lib(?:exec)?/gcc/.+/cc1(?:plus)?|usr/local/go/bin/go"
)
_KEYS: Final = re.compile(
    rb"(?:.*/)?(?:id_(?:rsa|dsa|ecdsa|ed25519)|\.git-credentials|\.pypirc|\.netrc|\.aws/credentials|\.docker/config\.json"
    rb"|\.kube/config|\.pgpass|\.my\.cnf|\.s3cfg|\.vault-token)"
    rb"|etc/ssh/ssh_host_[a-z0-9]+_key|etc/ssl/private/.+\.(?:key|pem)"
)
_RULES: Final = ((_CACHES, "package cache"), (_TOOLS, "build tools"))


def of_layers(image: Part, layers: dict[str, Layer]) -> Iterator[Finding]:
    """Yield what the layers of an image show: caches and build tools, summed up by layer, and files with secrets."""
    merged = merge(image, layers).done()
    begin = 0
    for position, layer in enumerate(image.layers):
        known = layers[layer.digest].listing
        if known is None:
            yield Finding("unread", f"layer {position}", position, layers[layer.digest].problem)
            continue
        sums: dict[str, list[int]] = {}
        table = known.table
        for at, (kind, size) in enumerate(zip(table["kind"].to_pylist(), table["stored"].to_pylist(), strict=True)):
            path = merged.paths[begin + at]
            if kind not in (FILE, HARDLINK, SYMLINK):
                continue
            if size and _KEYS.fullmatch(path):
                gone = "" if merged.alive[begin + at] else ", which a later layer hides: it can still be read"
                text = f"a file that usually is a secret{gone}"
                yield Finding("secret file", path.decode("utf-8", "backslashreplace"), position, text, size)
            for pattern, rule in _RULES:
                if pattern.fullmatch(path):
                    sums.setdefault(rule, []).append(size)
        for _, rule in _RULES:
            if sizes := sums.get(rule):
                yield Finding(rule, f"layer {position}", position, count(len(sizes), "file"), sum(sizes))
        begin += known.entries


def hygiene(images: Sequence[Part], layers: dict[str, Layer]) -> Frame:
    """Return what should not be in some images (:data:`regnb.tables.columns.COLUMNS`, ``hygiene``)."""
    from regnb.tables.frame import of_rows

    rows = [
        (image.platform, one.rule, one.where, one.position, one.size, one.found, one.mend)
        for image in images
        for one in (*of_config(image.config), *of_layers(image, layers))
    ]
    return of_rows("hygiene", rows)

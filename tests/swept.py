"""What a collection of a storage must leave, read with nothing of regnb; and storages whose content is old enough."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import disk
from collected import Grown
from distribution import Distribution
from images import Image, ask, config, image, layer, push

import regnb
from regnb.change.journal import Receipt
from regnb.change.sweep import Sweep
from regnb.oci.manifest import ACCEPT
from regnb.oci.reference import Digest
from regnb.storage import Storage
from regnb.wire.client import Client

DAY = 86_400


class Entry(NamedTuple):
    """A file or a folder: whose it is, who may use it, and the digest of its bytes ("" for a folder)."""

    owner: int
    group: int
    mode: int
    content: str


def tree(root: Path) -> dict[str, Entry]:
    """Everything below a folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(root))] = Entry(about.st_uid, about.st_gid, about.st_mode, content)
    return found


def age(root: Path, days: float) -> None:
    """Make everything below a folder so many days old."""
    when = time.time() - days * DAY
    for path in (root, *root.rglob("*")):
        os.utime(path, (when, when), follow_symlinks=False)


def storage(registry: Distribution) -> Storage:
    """A registry's storage."""
    return regnb.open_storage(registry.root)


def collect(registry: Distribution, plan: Sweep | None = None) -> Receipt:
    """Apply a plan, by default one for all that is garbage."""
    here = storage(registry)
    plan = plan or here.plan_collect(endpoints=[registry.url])
    return here.apply(plan, confirm=plan.code, progress=False)


def whole(root: Path) -> dict[disk.Name, str]:
    """The tags that can be pulled whole, and where they point."""
    state = disk.read(root)
    names = ((name, digest) for name, digest in state.tags.items() if digest)
    return {name: digest for name, digest in names if state.whole(disk.Name(name.repository, digest))}


def pull(url: str, name: disk.Name) -> None:
    """Pull everything that a tag leads to, and hold each byte against its digest."""
    accept = {"Accept": ", ".join(ACCEPT)}
    request = Request(f"{url}/v2/{name.repository}/manifests/{name.target}", headers=accept)  # noqa: S310 -- loopback
    with urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
        data, digest = answer.read(), answer.headers["Docker-Content-Digest"]
    assert Digest.of(data) == digest
    content = disk.content(digest, data)
    for child in content.children:
        pull(url, disk.Name(name.repository, child))
    for blob, size in content.blobs:
        with urlopen(f"{url}/v2/{name.repository}/blobs/{blob}", timeout=30) as answer:  # noqa: S310 -- loopback
            data = answer.read()
        algorithm, _, hexes = blob.partition(":")
        assert (len(data), hashlib.new(algorithm, data).hexdigest()) == (size, hexes), blob


def uncopied(url: str, names: Iterable[disk.Name], folder: Path) -> set[disk.Name]:
    """Copy tags with skopeo, all platforms of each, and return those that it cannot copy."""
    found = set()
    for name in names:
        where = f"docker://{urlsplit(url).netloc}/{name.repository}:{name.target}"
        command = ("skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", where, f"dir:{folder}")
        if subprocess.run(command, capture_output=True, check=False).returncode:
            found.add(name)
        shutil.rmtree(folder, ignore_errors=True)
    return found


def eligible(registry: Distribution, *flags: str) -> set[str] | None:
    """The digests that docker-registry's own dry run would remove; None where it fails."""
    try:
        printed = registry.garbage_collect("--dry-run", *flags)
    except subprocess.CalledProcessError:
        return None
    return {line.rpartition(" ")[2] for line in printed.splitlines() if line.startswith("blob eligible")}


def digests(plan: Sweep) -> set[str]:
    """The digests of the bytes that a plan moves."""
    return {row.reference for row in plan.steps if row.kind in ("blob", "manifest")}


def grown(folder: Path, seed: object, steps: int) -> Grown:
    """A registry with random content, three days old, and stopped."""
    with Grown(folder, seed) as registry:
        registry.grow(steps)
    age(registry.root, 3)
    return registry


def some(number: int) -> Image:
    """An image of one layer, another for each number."""
    return image([layer(number, 1000 + number)], about=config(n=number))


def old(registry: Distribution) -> Distribution:
    """Push two images, delete one of them, stop the registry, and make its files three days old."""

    async def fill(client: Client) -> None:
        await push(client, "app", "1.0", some(1))
        await push(client, "app", "gone", some(2))
        await client.delete_manifest("app", Digest.of(some(2).data))

    ask(registry.url, fill)
    registry.stop()
    age(registry.root, 3)
    return registry

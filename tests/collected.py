"""Registries that grow at random through the real API, and the real garbage collection over copies of their storage."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from distribution import Distribution
from images import Image, ask, attestation, cache_index, config, descriptor, image, index, layer, pack, push

from regnb.analysis.reclaim import Reclaim
from regnb.analysis.stock import Stock
from regnb.errors import RegistryError
from regnb.oci.manifest import DOCKER_MANIFEST, OCI_EMPTY
from regnb.oci.reference import Digest
from regnb.wire.client import Client

REPOSITORIES: Final = ("app", "app/web", "base", "team/tool")
FOREIGN_LAYER: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
TAGS: Final = ("latest", "1.0", "1.1", "2.0", "dev", "rc")

PLACE: Final = {
    "plain_2": ("garbage-collect", "2.8"),
    "plain": ("garbage-collect", "3"),
    "untagged": ("garbage-collect --delete-untagged", "3"),
    "untagged_2": ("garbage-collect --delete-untagged", "2.8"),
}
"""Where each collection stands in ``Reclaim.table``, by its column in ``Reclaim.blobs``."""
FLAGS: Final = {"plain_2": (), "untagged_2": ("--delete-untagged",)}
"""What docker-registry, which is distribution 2.8, is told for it."""

Step = Callable[[Client, str], Awaitable[None]]


class Outcome(NamedTuple):
    """What a garbage collection removes: blobs, and manifests from their repositories; or why it failed."""

    blobs: frozenset[str]
    manifests: int
    failed: str = ""


def collect(root: Path, *flags: str) -> Outcome:
    """Run the real garbage collection over a storage's folder, which no registry may be writing to."""
    try:
        printed = Distribution(root.parent).garbage_collect(*flags)
    except subprocess.CalledProcessError as error:
        return Outcome(frozenset(), 0, str(error.stderr).strip())
    ends = [line.rpartition(" ")[2] for line in printed.splitlines() if line.startswith("blob eligible")]
    manifests = sum(line.startswith("manifest eligible") for line in printed.splitlines())
    return Outcome(frozenset(ends), manifests)


def agrees(found: Reclaim, how: str, real: Outcome) -> None:
    """The blobs that one collection removes, to the byte, and the manifests that it takes out of repositories."""
    row = found.table.set_index(["collection", "version"]).loc[PLACE[how]]
    assert (row["bound"] == "fails") == bool(real.failed), (how, row["bound"], row["message"], real.failed)
    blobs = found.blobs[found.blobs[how]]
    assert set(blobs["digest"]) == real.blobs, how
    assert blobs["size"].sum() == row["size"]
    assert row["manifests"] == real.manifests, how


def same_verdict(found: Reclaim, stock: Stock) -> None:
    """What was read for the verdict alone decides as the whole inventory does: each figure, each word, each blob."""
    told = [
        (
            *(one.collection.command, one.collection.version, stock.size(one.goes), stock.size(one.before)),
            *(len(one.goes), one.manifests, one.bound, one.message),
        )
        for one in stock.collections
    ]
    assert told == list(found.table.itertuples(index=False, name=None))
    columns = [one.collection.column for one in stock.collections]
    removed = [
        (each.digest, each.kind, each.size, *(column in each.by for column in columns)) for each in stock.removed()
    ]
    assert removed == list(found.blobs.drop(columns="before").itertuples(index=False, name=None))


def stored(root: Path) -> dict[str, int]:
    """The bytes of every blob on disk, by digest."""
    files = (root / "docker/registry/v2/blobs").glob("*/*/*/data")
    return {f"{file.parts[-4]}:{file.parts[-2]}": file.stat().st_size for file in files}


def copied(root: Path, folder: Path) -> Path:
    """A copy of a storage. Its files are links: a collection removes files and never writes into one."""
    shutil.copytree(root, folder / "storage", copy_function=os.link)
    return folder / "storage"


class Grown(Distribution):
    """A registry whose content is the same for the same seed, whatever that was.

    Attributes:
        made: Every manifest that was ever pushed, by digest.
    """

    def __init__(self, folder: Path, seed: object) -> None:
        super().__init__(folder, config={"validation": {"manifests": {"urls": {"allow": ["^https?://"]}}}})
        self.random = random.Random(repr(seed))  # noqa: S311 -- not secret, but the same each time
        self.made: dict[str, Image] = {}
        self._seed = seed
        self._names = list(REPOSITORIES[: self.random.randint(2, 4)])
        self._pool = [b"", *(layer((seed, number), self.random.randint(1, 3000)) for number in range(8))]
        self._configs = [b"{}", config(), config("arm64")]

    def grow(self, steps: int) -> None:
        """Push, move, copy, delete and abandon things."""
        kinds: list[tuple[Step, float]] = [
            (self._image, 5), (self._index, 4), (self._retag, 3), (self._copy, 3), (self._referrer, 3),
            (self._delete, 2), (self._nested, 1), (self._abandon, 1), (self._loose, 1), (self._odd, 0.4),
            (self._cache, 1), (self._sparse, 1), (self._artifact, 1), (self._empty, 0.4),
        ]  # fmt: skip

        async def work(client: Client) -> None:
            for step in self.random.choices([one for one, _ in kinds], [weight for _, weight in kinds], k=steps):
                await step(client, self.random.choice(self._names))

        ask(self.url, work)

    def held(self, repository: str) -> list[Image]:
        """The manifests that a repository has now, by what lies on disk."""
        links = self.root.glob(f"docker/registry/v2/repositories/{repository}/_manifests/revisions/sha256/*/link")
        here = sorted(link.read_text(encoding="utf-8") for link in links)
        return [self.made[digest] for digest in here if digest in self.made and self.blob(digest).exists()]

    def _pick(self, repository: str) -> Image | None:
        held = self.held(repository)
        return self.random.choice(held) if held else None

    def _often(self, chance: float) -> bool:
        return self.random.random() < chance

    def _new(self, **more: object) -> Image:
        number = len(self.made)
        layers = self.random.choices(self._pool, k=self.random.randint(0, 4))
        layers += [
            layer((self._seed, number, n), self.random.randint(1, 2000)) for n in range(self.random.randint(0, 2))
        ]
        about = self.random.choice([*self._configs, config(n=number), config("arm64", n=number)])
        if self.made and self._often(0.05):
            layers.append(self.random.choice(list(self.made.values())).data)
        found = image(layers, about=about, docker=self._often(0.5), annotations={"n": str(number)}, **more)
        if found.media_type == DOCKER_MANIFEST and self._often(0.2):
            # Foreign layers need not be there, but one of these may be, as another image's layer.
            foreign = self.random.choice([layer((self._seed, "foreign", number), 500), *self._pool])
            document = json.loads(found.data)
            document["layers"].append(descriptor(FOREIGN_LAYER, foreign, urls=["https://elsewhere.example/layer"]))
            return replace(found, data=pack(document))
        return found

    async def _put(self, client: Client, repository: str, what: Image, tags: Iterable[str]) -> None:
        """Push a manifest with everything behind it, under tags or its digest alone."""
        await push(client, repository, what.digest, what)
        self._known(what)
        for tag in tags:
            await client.put_manifest(repository, tag, what.data, what.media_type)

    def _known(self, what: Image) -> None:
        self.made[what.digest] = what
        for child in what.children:
            self._known(child)

    def _tags(self) -> list[str]:
        return self.random.sample(TAGS, self.random.choice((0, 1, 1, 1, 1, 2)))

    async def _image(self, client: Client, repository: str) -> None:
        await self._put(client, repository, self._new(), self._tags())

    async def _index(self, client: Client, repository: str) -> None:
        held = [one for one in self.held(repository) if not one.children]
        children = self.random.sample(held, min(len(held), self.random.randint(0, 2)))
        children += [self._new() for _ in range(self.random.randint(0 if children else 1, 2))]
        named = [(child, f"linux/{number}") for number, child in enumerate(children)]
        if self._often(0.3):
            named.append((attestation(children[0]), "unknown/unknown"))
        what = index(named, docker=self._often(0.3), annotations={"n": str(len(self.made))})
        await self._put(client, repository, what, self._tags())

    async def _nested(self, client: Client, repository: str) -> None:
        inner = [one for one in self.held(repository) if one.children]
        below = [*self.random.sample(inner, min(len(inner), 2)), index([(self._new(), "linux/amd64")]), self._new()]
        await self._put(client, repository, index([(one, "") for one in below]), self._tags())

    async def _retag(self, client: Client, repository: str) -> None:
        """Point a tag elsewhere, which leaves what it pointed at without one."""
        if what := self._pick(repository):
            await self._or_not(client.put_manifest(repository, self.random.choice(TAGS), what.data, what.media_type))

    async def _copy(self, client: Client, repository: str) -> None:
        source = self.random.choice(self._names)
        if (what := self._pick(source)) and source != repository:
            tag = self.random.choice([*TAGS, str(what.digest)])
            await self._or_not(self._mounted(client, source, repository, what, tag))

    async def _mounted(self, client: Client, source: str, repository: str, what: Image, target: str) -> None:
        for data in what.blobs:
            await client.mount(repository, Digest.of(data), source)
        for child in what.children:
            await self._mounted(client, source, repository, child, child.digest)
        await client.put_manifest(repository, target, what.data, what.media_type)

    async def _referrer(self, client: Client, repository: str) -> None:
        """Something about a manifest: found by its subject alone, by the fallback tag, or by cosign's tag."""
        if not (subject := self._pick(repository)):
            return
        name = subject.digest.replace(":", "-")
        what = self._new(subject=descriptor(subject.media_type, subject.data))
        match self.random.choice(["subject", "fallback", "cosign"]):
            case "subject":
                await self._put(client, repository, what, self.random.choice([[], [], ["about"]]))
            case "fallback":
                await self._put(client, repository, index([(what, "")]), [name])
            case _:
                await self._put(client, repository, self._new(), [name + self.random.choice([".sig", ".att", ".sbom"])])

    async def _delete(self, client: Client, repository: str) -> None:
        """Delete a manifest whatever it is: the child of an index that stays, or an index whose children stay."""
        if what := self._pick(repository):
            await client.delete_manifest(repository, what.digest)

    async def _abandon(self, client: Client, repository: str) -> None:
        upload = await client.uploads.start_upload(repository)
        if self._often(0.7):
            await client.uploads.upload_chunk(upload, self.random.randbytes(self.random.randint(1, 900)))

    async def _loose(self, client: Client, repository: str) -> None:
        """A blob that no manifest needs, or that is a manifest's own bytes."""
        what = self._pick(repository) if self._often(0.3) else None
        data = what.data if what else self.random.randbytes(self.random.randint(0, 900))
        await client.upload_blob(repository, data, Digest.of(data))

    async def _cache(self, client: Client, repository: str) -> None:
        """A build cache, whose index lists layers."""
        layers = [*self.random.sample(self._pool, 2), layer((self._seed, len(self.made), "cache"), 700)]
        await self._put(client, repository, cache_index(layers, annotations={"n": str(len(self.made))}), self._tags())

    async def _sparse(self, client: Client, repository: str) -> None:
        """An index of which one platform is left out, as by a mirror."""
        children = [(self._new(), "linux/amd64"), (self._new(), "linux/arm64")]
        await self._put(client, repository, index(children), self._tags())
        await client.delete_manifest(repository, children[self.random.randrange(2)][0].digest)

    async def _artifact(self, client: Client, repository: str) -> None:
        """An artifact without layers, or with the empty blob as its config and its only layer."""
        number = {"artifactType": "application/vnd.example", "annotations": {"n": str(len(self.made))}}
        layers = [b"{}"] if self._often(0.5) else []
        await self._put(client, repository, image(layers, about=b"{}", layer_type=OCI_EMPTY, **number), self._tags())

    async def _empty(self, client: Client, repository: str) -> None:  # noqa: ARG002 -- as every step
        """A layer that lost its bytes, as on a disk that was full."""
        layers = [data for what in self.held(repository) for data in what.blobs if data in self._pool]
        if layers:
            path = self.blob(Digest.of(self.random.choice(layers)))
            path.unlink(missing_ok=True)
            path.touch()

    async def _odd(self, client: Client, repository: str) -> None:  # noqa: ARG002 -- as every step
        """A repository without layers, which no collection walks, or one that never had a tag, where one may fail."""
        if self._often(0.5):
            what = index([], annotations={"n": str(len(self.made))})
            if self._often(0.5):
                what = index([(what, ""), (index([]), "")])
            await self._put(client, "without/layers", what, self._tags())
        else:
            await self._put(client, "without/tags", self._new(), [])
        self._names = list(dict.fromkeys([*self._names, "without/layers", "without/tags"]))

    @staticmethod
    async def _or_not(work: Awaitable[object]) -> None:
        """Try what the registry refuses if something that it needs is no longer in the repository."""
        try:
            await work
        except RegistryError as error:
            assert error.status == 400, error  # noqa: PT017 -- no other refusal may pass unseen

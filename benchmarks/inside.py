"""What is inside a layer, beside skopeo and tar; tables of contents beside the stream; memory; two layers at once.

Needs Debian's docker-registry, skopeo and tar.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).parent),
    *(str(Path(__file__).parent.parent / each) for each in ("tests", "tests/layers")),
]

from archives import GZIP, TAR, estargz, layout
from distribution import Distribution
from images import ask, config, descriptor, pack
from measure import Row, compared, in_turn, python, run, shown

from regnb.oci.manifest import OCI_CONFIG, OCI_MANIFEST
from regnb.oci.reference import Digest
from regnb.wire.client import Client

LOOK = """
import json, resource, sys, time
url, image, at_once = sys.argv[1:]
from regnb.layers import reading
from regnb.registry import connect
import regnb.layers.inside, numpy, pandas, pyarrow.ipc
reading.AT_ONCE = int(at_once)
def used():
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime
def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) / 1000
with connect(url, cache=False) as registry:
    registry.manifest(image)
    wall, cpu, idle = time.perf_counter(), used(), peak()
    images, layers = registry.look(image, progress=False)
    found = {"wall": time.perf_counter() - wall, "cpu": used() - cpu, "grown": peak() - idle}
    asked = [each for each in registry._client.transport.exchanges if "/blobs/" in each.url]
    wire = sum(int(each.received.get("content-length", 0)) for each in asked)
    assert not any(layer.problem for layer in layers.values()), layers
    print(json.dumps(found | {"wire": wire, "entries": sum(layer.listing.entries for layer in layers.values())}))
"""


BASES = """
import json, time
import numpy as np, pandas as pd
from datetime import UTC, datetime
from regnb.analysis.bases import bases
from regnb.crawl.records import Records
from regnb.tables.build import tabulate
from regnb.tables.frame import Frame
def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) / 1000
count = 100_000
number = np.arange(count)
digests = pd.Index([f"sha256:{each:064x}" for each in range(count)], dtype="str")
# 200 bases of 4 layers, 2,000 images of 8 on them, and the rest of 12 on these.
chains = np.stack([
    *(number % 200 * 4 + at for at in range(4)),
    *(1000 + number % 2000 * 4 + at for at in range(4)),
    *(10_000 + number * 4 + at for at in range(4)),
], axis=1)
lengths = np.full(count, 12)
lengths[:2200] = 8
lengths[:200] = 4
there = np.arange(12) < lengths[:, None]
codes, layers = pd.factorize(chains[there])
names = pd.Index([f"sha256:{each:064x}" for each in layers], dtype="str")
layers = Frame({
    "manifest": pd.Categorical.from_codes(np.repeat(number, lengths), categories=digests),
    "position": np.tile(np.arange(12), (count, 1))[there],
    "digest": pd.Categorical.from_codes(codes, categories=names),
    "size": np.full(len(codes), 1000),
})
manifests = Frame({"repository": "r", "digest": digests, "kind": "image", "platform": "", "layers": lengths})
manifests[["base_name", "base_digest"]] = None
tags = Frame({"repository": "r", "tag": [f"t{each}" for each in number], "digest": digests, "subject": None})
blobs = Frame({"digest": names, "diff_id": names})
frames = tabulate(Records("r", datetime.now(UTC)))
frames |= {"tags": tags, "manifests": manifests, "layers": layers, "blobs": blobs}
idle, start = peak(), time.process_time()
found = bases(frames)
print(json.dumps({"cpu": time.process_time() - start, "grown": peak() - idle}))
assert (found["base_layers"] == 8).sum() == count - 2200
"""


def archive(files: int, size: int, kinds: random.Random) -> Iterator[bytes]:
    """An archive of files whose sizes add up, half of them incompressible."""
    noise = kinds.randbytes(1_000_000)
    text = (b"the quick brown fox jumps over the lazy dog, again and again\n" * 20_000)[:1_000_000]
    for number in range(files):
        source = noise if number % 2 else text
        start, length = kinds.randrange(500_000), size // files if size else 0
        info = tarfile.TarInfo(f"usr/share/package-{number // 100}/file-{number}")
        info.size = length
        content = b"".join(source[start : start + min(500_000, length - at)] for at in range(0, length, 500_000))
        yield info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-length % 512)
    yield bytes(1024)


def packed(pieces: Iterable[bytes], path: Path) -> Path:
    """Write a gzip stream of pieces."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for piece in pieces:
            file.write(packer.compress(piece))
        file.write(packer.flush())
    return path


def push(url: str, name: str, *layers: Path, annotations: dict[str, str] | None = None) -> None:
    """Push an image of layers that lie in files."""
    described = []
    for path in layers:
        with path.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        described.append({"mediaType": GZIP, "digest": digest, "size": path.stat().st_size})
        if annotations:
            described[-1]["annotations"] = annotations
    about = config(commands=["step"] * len(layers))
    document = pack(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, about), "layers": described}
    )

    async def work(client: Client) -> None:
        await client.upload_blob("bench", about, Digest.of(about))
        for path, layer in zip(layers, described, strict=True):

            async def chunks(path: Path = path) -> AsyncIterator[bytes]:
                with path.open("rb") as file:
                    while chunk := file.read(2**20):
                        yield chunk

            await client.upload_blob("bench", chunks(), str(layer["digest"]), path.stat().st_size)
        await client.put_manifest("bench", name, document, OCI_MANIFEST)

    ask(url, work)


def chunked(registry: Distribution, folder: Path, layer: bytes) -> None:
    """Push a layer as skopeo makes zstd:chunked of it, and again without the annotations that name its table."""
    layout(folder, {"t": [layer]}, TAR)
    command = ("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-compress-format")
    run(*command, "zstd:chunked", f"oci:{folder}:t", f"docker://{registry.host}/bench:chunked")

    async def work(client: Client) -> None:
        found = json.loads((await client.manifest("bench", "chunked")).data)
        found["layers"] = [{**each, "annotations": {}} for each in found["layers"]]
        await client.put_manifest("bench", "zstd", pack(found), OCI_MANIFEST)

    ask(registry.url, work)


def skopeo(registry: Distribution, name: str) -> float:
    """Wall seconds of what people do today: copy the image into a folder, and list its layers with tar."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        source = f"docker://{registry.host}/bench:{name}"
        wall = run("skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", source, f"dir:{folder}").wall
        manifest = json.loads(Path(folder, "manifest.json").read_text(encoding="utf-8"))
        for layer in manifest["layers"]:
            wall += run("tar", "tzf", Path(folder, layer["digest"].removeprefix("sha256:"))).wall
    return wall


def zeros(size: int) -> Iterator[bytes]:
    """An archive of one file of zeros."""
    info = tarfile.TarInfo("zeros")
    info.size = size
    yield info.tobuf()
    for _ in range(size >> 20):
        yield bytes(2**20)
    yield bytes(1024)


def rows(folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield what is measured."""
    files, size = options.files, options.layer * 1_000_000
    kinds = random.Random(1)  # noqa: S311 -- the same each time

    with Distribution(folder / "inside") as registry:

        def look(name: str, at_once: int = 2) -> dict[str, float]:
            return python(LOOK, registry.url, f"bench:{name}", at_once)

        push(registry.url, "large", packed(archive(files, size, kinds), folder / "large"))
        grown = 0.0

        def large() -> float:
            nonlocal grown
            found = look("large")
            grown = max(grown, found["grown"])
            return found["wall"]

        pairs = in_turn(options.rounds, large, lambda: skopeo(registry, "large"))
        yield compared(
            f"list a layer of {files:,} files, {size / 1e6:,.0f} MB: wall, beside skopeo and tar", pairs, "s", most=0.5
        )
        yield Row("  memory above the idle process", shown(grown, "MB"), "", grown, most=100)
        many = 10 * files
        push(registry.url, "many", packed(archive(many, 0, kinds), folder / "many"))
        grown = look("many")["grown"]
        yield Row(f"memory for {many:,} entries", shown(grown, "MB"), "", grown, most=100)
        push(registry.url, "zeros", packed(zeros(2 * 2**30), folder / "zeros"))
        grown = look("zeros")["grown"]
        yield Row("memory for 2 GiB of zeros", shown(grown, "MB"), "", grown, most=100)

        # As large as those of the layer above, on average.
        each = size // files
        entries = [(f"usr/share/file-{number}", "file", kinds.randbytes(each)) for number in range(files // 5)]
        blob, digest = estargz(entries, chunk=4 * 2**20)
        (folder / "stargz").write_bytes(blob)
        push(registry.url, "plain", folder / "stargz")
        push(registry.url, "toc", folder / "stargz", annotations={"containerd.io/snapshot/stargz/toc.digest": digest})
        wire = (look("toc")["wire"] - 10_000) / len(entries)
        yield Row("eStargz: bytes on the wire for each file, but for 10 kB", shown(wire, "B"), "", wire, most=90)
        pairs = in_turn(options.rounds, lambda: look("toc")["cpu"], lambda: look("plain")["cpu"])
        yield compared("eStargz: CPU by its table of contents, beside the stream", pairs, "s", most=0.1)

        chunked(registry, folder / "layout", b"".join(archive(files // 5, size // 5, kinds)))
        wire = (look("chunked")["wire"] - 10_000) / (files // 5)
        yield Row("zstd:chunked: bytes on the wire for each file, but for 10 kB", shown(wire, "B"), "", wire, most=90)
        pairs = in_turn(options.rounds, lambda: look("chunked")["cpu"], lambda: look("zstd")["cpu"])
        yield compared("zstd:chunked: CPU by its table of contents, beside the stream", pairs, "s", most=0.1)

        parts = [packed(archive(files // 8, size // 8, kinds), folder / f"part-{number}") for number in range(4)]
        push(registry.url, "four", *parts)
        pairs = in_turn(options.rounds, lambda: look("four", 1)["wall"], lambda: look("four", 2)["wall"])
        yield compared("four layers: wall, one at a time beside two", pairs, "s", least=1.3)
        found = python(BASES)
        yield Row("bases of 100,000 images: CPU", shown(found["cpu"], "s"), "", found["cpu"], most=2)
        yield Row("  memory above the frame", shown(found["grown"], "MB"), "", found["grown"], most=300)

"""Layers for tests: archives of random trees, and image layouts that umoci, skopeo and tar read."""

from __future__ import annotations

import gzip
import io
import json
import random
import stat
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from regnb.oci.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from regnb.oci.reference import Digest

TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{TAR}+gzip"
KINDS = {
    "file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
}  # fmt: skip


def archive(entries: Sequence[tuple[str, str, bytes | str]], form: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive of entries: name, kind, and content or target."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=form) as tar:
        for name, kind, rest in entries:
            info = tarfile.TarInfo(name)
            info.type = KINDS[kind]
            info.mode = 0o755 if kind == "directory" else 0o644
            content = rest if isinstance(rest, bytes) else b""
            info.size = len(content)
            info.linkname = rest if isinstance(rest, str) else ""
            tar.addfile(info, io.BytesIO(content))
    return held.getvalue()


def packed(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


class Tree:
    """Random layers on a tree: links to folders as parents, types that change, whiteouts, equal names, hard links."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 -- the same each time
        self.folders = [""]
        self.files: list[str] = []

    def path(self, names: str) -> str:
        # Mostly the name tells the kind: what lies below a file, and links to nowhere, umoci refuses.
        letter = self.random.choice(names if self.random.random() < 0.9 else "dlf")
        return f"{self.random.choice(self.folders)}/{letter}{self.random.randrange(3)}".strip("/")

    def gone(self, path: str) -> None:
        self.folders = [each for each in self.folders if not each or not f"{each}/".startswith(f"{path}/")]
        self.files = [each for each in self.files if not f"{each}/".startswith(f"{path}/")]

    def entry(self, *, first: bool) -> tuple[str, str, bytes | str]:
        pick = self.random.random()
        if pick < 0.3:
            path = self.path("d")
            self.files = [each for each in self.files if each != path]
            self.folders.append(path)
            return path, "directory", b""
        if pick < 0.4:
            target, path = self.random.choice(self.folders), self.path("l")
            self.gone(path)
            if self.random.random() < 0.7:
                self.folders.append(path)
            return path, "symlink", f"/{target}" if pick < 0.35 else "../" * path.count("/") + (target or ".")
        if pick < 0.5 and self.files:
            target, path = self.random.choice(self.files), self.path("f")
            if not f"{target}/".startswith(f"{path}/"):
                self.gone(path)
                return path, "hardlink", target
        if pick < 0.7 and not first:
            path = self.path("dlf")
            self.gone(path)
            parent, _, name = path.rpartition("/")
            white = ".wh..wh..opq" if self.random.random() < 0.3 else f".wh.{name}"
            if white == ".wh..wh..opq":
                self.gone(parent)
            return f"{parent}/{white}".strip("/"), "file", b""
        path = self.path("f")
        self.gone(path)
        self.files.append(path)
        return path, "file", self.random.randbytes(self.random.randrange(40))

    def layer(self, number: int) -> bytes:
        return archive([self.entry(first=number == 0) for _ in range(self.random.randrange(3, 25))])


def layout(folder: Path, images: dict[str, Sequence[bytes]], media_type: str = GZIP) -> None:
    """Write an image layout: tags, each with its layers' blobs."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, media: str) -> dict[str, object]:
        digest = Digest.of(data)
        (blobs / digest.hex).write_bytes(data)
        return {"mediaType": media, "digest": digest, "size": len(data)}

    manifests = []
    for tag, layers in images.items():
        decoded = [gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer for layer in layers]
        diffs = [Digest.of(layer) for layer in decoded]
        history = [{"created_by": f"step {number}"} for number in range(len(layers))]
        config = {
            "architecture": "amd64", "os": "linux", "history": history, "rootfs": {"type": "layers", "diff_ids": diffs},
        }  # fmt: skip
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [blob(layer, media_type) for layer in layers],
        }
        about = blob(json.dumps(manifest).encode(), OCI_MANIFEST)
        manifests.append({**about, "annotations": {"org.opencontainers.image.ref.name": tag}})
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}', encoding="utf-8")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def unpacked(folder: Path, tag: str, rootfs: Path) -> dict[str, tuple[str, int]] | None:
    """What umoci unpacks of an image: each path with its kind and size; None if umoci refuses it."""
    done = subprocess.run(
        ["umoci", "raw", "unpack", "--rootless", "--image", f"{folder}:{tag}", str(rootfs)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        return None
    found = {}
    for path in rootfs.rglob("*"):
        about = path.lstat()
        kind = stat.S_IFMT(about.st_mode)
        size = about.st_size if kind == stat.S_IFREG else 0
        names = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
        found[str(path.relative_to(rootfs))] = names[kind], size
    return found


def estargz(entries: Sequence[tuple[str, str, bytes | str]], chunk: int = 1000) -> tuple[bytes, str]:
    """A layer as the eStargz specification describes it, and its annotation: the digest of its table of contents.

    Each payload, and each part of a large one, begins a gzip member; the table is the last file but for the footer.
    """
    blob, items = bytearray(), []
    members: list[bytes] = []

    def flush() -> None:
        if members:
            blob.extend(gzip.compress(b"".join(members), mtime=0))
            members.clear()

    for name, kind, rest in entries:
        data = archive([(name, kind, rest)])[:-1024].rstrip(b"")
        end = 512 + (-(-len(rest) // 512) * 512 if kind == "file" else 0)
        head, payload = data[:512], data[512:end]
        members.append(head)
        item: dict[str, object] = {"name": name, "type": {"directory": "dir", "file": "reg"}.get(kind, kind)}
        item |= {"mode": 0o755 if kind == "directory" else 0o644}
        if isinstance(rest, str):
            item["linkName"] = rest
        elif kind == "file":
            item |= {"size": len(rest), "digest": Digest.of(rest)}
        items.append(item)
        for at in range(0, len(rest) if kind == "file" else 0, chunk):
            flush()
            place = {"offset": len(blob), "chunkOffset": at, "chunkSize": min(chunk, len(rest) - at)}
            if at:
                items.append({"name": name, "type": "chunk", **place})
            else:
                item |= place
            last = at + chunk >= len(rest)
            members.append(payload[at:] if last else payload[at : at + chunk])
            if not last:
                flush()
    flush()
    table = json.dumps({"version": 1, "entries": items}).encode()
    begin = len(blob)
    blob += gzip.compress(archive([("stargz.index.json", "file", table)]), mtime=0)
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016xSTARGZ" % begin
    head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\0\xff" + len(extra).to_bytes(2, "little") + extra
    blob += head + b"\x01\0\0\xff\xff" + bytes(8)
    return bytes(blob), Digest.of(table)

"""Layouts and archives as other tools write them, and what makes a layout valid."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from conftest import need
from images import Image, descriptor, pack

from regnb.oci.manifest import MANIFEST_TYPES
from regnb.oci.reference import Digest
from regnb.oci.transports import REF_NAME

Rows = Iterable[tuple[str, Image]]


def put(folder: Path, data: bytes) -> None:
    path = folder / "blobs" / "sha256" / Digest.of(data).hex
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def row(name: str, what: Image, **more: object) -> dict[str, Any]:
    """An entry of index.json; "" for one without a name."""
    about = {"annotations": {REF_NAME: name}} if name else {}
    return descriptor(what.media_type, what.data, **about, **more)


def layout(folder: Path, *rows: tuple[str, Image], index: object = None) -> Path:
    """Write a layout with these images, by their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for _, what in rows:
        for data in what.everything():
            put(folder, data)
    (folder / "oci-layout").write_bytes(pack({"imageLayoutVersion": "1.0.0"}))
    written = {"schemaVersion": 2, "manifests": [row(*each) for each in rows]} if index is None else index
    (folder / "index.json").write_bytes(pack(written))
    return folder


def names(folder: Path) -> dict[str, str]:
    """What each name of a layout stands for, as it is written in index.json."""
    written = json.loads((folder / "index.json").read_bytes())
    return {each.get("annotations", {}).get(REF_NAME, ""): each["digest"] for each in written["manifests"]}


def check(folder: Path) -> None:
    """A layout is valid: it says what it is, and all that index.json leads to is there, with its digest and size."""
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    todo = [*json.loads((folder / "index.json").read_bytes())["manifests"]]
    while todo:
        each = todo.pop()
        data = (folder / "blobs" / each["digest"].replace(":", "/")).read_bytes()
        assert (Digest.of(data), len(data)) == (each["digest"], each["size"])
        if each["mediaType"] in MANIFEST_TYPES:
            about = json.loads(data)
            todo += [*about.get("manifests", ()), *about.get("layers", ())]
            todo += [about["config"]] if "config" in about else []


def tar(path: Path, members: Mapping[str, bytes | tarfile.TarInfo], mode: Any = "w", **how: Any) -> Path:
    """Write an archive of files, and of links."""
    with tarfile.open(path, mode, **how) as archive:
        for name, data in members.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def files(folder: Path, prefix: str = "") -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{prefix}{path.relative_to(folder)}": path.read_bytes() for path in found}


def tool(*words: str) -> str:
    """Run skopeo or umoci."""
    need(words[0], shutil.which(words[0]), f"{words[0]} is not installed (apt-get install {words[0]})")
    done = subprocess.run([*words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def skopeo(source: str, target: str, *options: str) -> None:
    """Copy with skopeo; registries here speak plain HTTP."""
    tool("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *options, source, target)


def raw(place: str) -> bytes:
    """The bytes of a manifest, as skopeo reads them."""
    return tool("skopeo", "inspect", "--raw", "--tls-verify=false", place).encode()

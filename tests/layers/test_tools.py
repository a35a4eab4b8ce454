"""Layers that other tools make are listed as tar lists them: umoci, buildah, and containerd's own eStargz library."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from archives import Tree, archive
from conftest import need
from distribution import Distribution
from images import Fake, descriptor
from test_archive import listed
from test_reading import ESTARGZ, GZIP, described, letters

from regnb.registry import Registry, connect

LIBRARY = Path("/usr/share/gocode/src/github.com/containerd/stargz-snapshotter/estargz")
SHOWN = ["path", "kind", "size", "digest", "mode", "owner", "target", "shown", "hidden"]


def ran(*command: object, **surroundings: str) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, env={**os.environ, **surroundings}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def filled(folder: Path) -> Path:
    """A folder with a file, a link, a hard link, an empty folder, and names that are not ASCII."""
    (folder / "usr/lib").mkdir(parents=True)
    (folder / "usr/lib/a").write_bytes(b"a" * 3000)
    (folder / "usr/lib/ü").write_bytes(b"")
    (folder / "lib").symlink_to("usr/lib")
    (folder / "usr/b").hardlink_to(folder / "usr/lib/a")
    (folder / "empty").mkdir(mode=0o1777)
    (folder / ("n" * 120)).write_bytes(b"long")
    return folder


def check(registry: Registry, name: str) -> None:
    """Each layer is listed as tar lists its bytes."""
    found = registry.files(name)
    layers = registry.layers(name)["digest"].tolist()
    assert found["message"].eq("").all()
    for digest in layers:
        data = b"".join(blob(registry, name.partition(":")[0], digest))
        decoded = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        assert letters(found[found["layer"] == digest]) == listed(decoded)


def blob(registry: Registry, repository: str, digest: str) -> list[bytes]:
    async def work() -> list[bytes]:
        async with registry._client.blob_stream(repository, digest) as chunks:
            return [chunk async for chunk in chunks]

    return registry._run(work)


def test_what_umoci_makes(tmp_path: Path) -> None:
    """An image that umoci unpacks, changes and packs again, with whiteouts; read from its layout."""
    need("umoci", shutil.which("umoci"), "umoci is not installed (apt-get install umoci)")
    image = f"{tmp_path}/layout:t"
    ran("umoci", "init", "--layout", tmp_path / "layout")
    ran("umoci", "new", "--image", image)
    rootless = ["--rootless"] if os.getuid() else []
    for change in ("first", "second"):
        bundle = tmp_path / change
        ran("umoci", "unpack", *rootless, "--image", image, bundle)
        root = bundle / "rootfs"
        if change == "first":
            filled(root)
        else:
            (root / "usr/lib/a").unlink()
            shutil.rmtree(root / "empty")
        ran("umoci", "repack", "--image", image, bundle)
    with connect(f"oci:{tmp_path}/layout") as registry:
        check(registry, "layout:t")
        found = registry.files("layout:t").set_index("name")
        assert found.loc[".wh.empty", "whiteout"] == "deleted"
        assert registry.open("layout:t", "usr/b").read() == b"a" * 3000


@pytest.mark.parametrize("squashed", [False, True])
def test_what_buildah_makes(
    real: Distribution,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    squashed: bool,  # noqa: FBT001 -- a case
) -> None:
    """Two commits, and both as one layer, pushed to a registry."""
    need("buildah", shutil.which("buildah") and not os.getuid(), "buildah is not installed, or this is not root")
    store = ["buildah", "--storage-driver", "vfs", "--root", tmp_path / "root", "--runroot", tmp_path / "run"]
    (tmp_path / "auth.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    source, container = filled(tmp_path / "source"), ran(*store, "from", "scratch").strip()
    try:
        ran(*store, "copy", container, source, "/")
        ran(*store, "commit", "--rm", container, "first")
        container = ran(*store, "from", "--pull-never", "localhost/first").strip()
        ran(*store, "copy", container, source / "usr/b", "/usr/lib/a")
        flags = ["--squash"] if squashed else []
        ran(*store, "commit", "--tls-verify=false", *flags, container, f"docker://{real.host}/a:t")
    finally:
        ran(*store, "rm", "--all")
    with connect(real.url) as registry:
        check(registry, "a:t")
        assert registry.layers("a:t")["position"].max() == (0 if squashed else 1)
        assert registry.open("a:t", "lib/a").read() == b"a" * 3000


@pytest.fixture(scope="module")
def stargz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that makes eStargz layers with the library of containerd."""
    there = shutil.which("go") and LIBRARY.is_dir()
    need("estargz", there, "apt-get install golang-go golang-github-containerd-stargz-snapshotter-dev")
    folder = tmp_path_factory.mktemp("go")
    surroundings = {
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    ran("go", "build", "-o", folder / "stargz", Path(__file__).with_name("stargz.go"), **surroundings)
    return folder / "stargz"


def rows(found: object) -> Mapping[str, list[object]]:
    """The rows of a listing by path, but for what the format adds."""
    return {
        row[0]: list(row)
        for row in found[SHOWN].astype(object).itertuples(index=False, name=None)  # type: ignore[index]
        if row[0] not in (".no.prefetch.landmark", ".prefetch.landmark", "stargz.index.json")
    }


def content(source: tarfile.TarFile, each: tarfile.TarInfo) -> bytes:
    file = source.extractfile(each) if each.isreg() else None
    return file.read() if file else b""


def once(data: bytes) -> bytes:
    """An archive with each name once, as it is in eStargz, and without hard links, whose target may be gone then."""
    with tarfile.open(fileobj=io.BytesIO(data)) as source:
        kept = {each.name: (each, content(source, each)) for each in source}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for each, held in kept.values():
            if not each.islnk():
                tar.addfile(each, io.BytesIO(held))
    return made.getvalue()


@pytest.mark.parametrize("seed", range(3))
def test_what_the_estargz_library_makes(stargz: Path, tmp_path: Path, seed: int) -> None:
    """The table of contents lists what the stream of the same bytes does, but for landmarks and the table itself."""
    data = archive([("big", "file", bytes(range(256)) * 20), ("etc/", "directory", b""), ("etc/a", "file", b"a")])
    if seed:
        data = once(Tree(seed).layer(0))
    done = subprocess.run([stargz, tmp_path / "layer"], input=data, capture_output=True, check=True)
    digest, layer = done.stdout.decode().strip(), (tmp_path / "layer").read_bytes()
    plain = descriptor(GZIP, layer)
    with Fake() as fake:
        fake.repository("a", {"toc": described([layer], [{**plain, "annotations": {ESTARGZ: digest}}])})
        fake.repository("b", {"plain": described([layer], [plain])})
        with connect(fake.url, cache=False) as registry:
            by_table = registry.files("a:toc")
            assert set(by_table["way"]) == {"toc"}
        with connect(fake.url, cache=False) as registry:
            by_stream = registry.files("b:plain")
            assert set(by_stream["way"]) == {"stream"}
            if not seed:
                assert registry.open("b:plain", "big").read() == bytes(range(256)) * 20
        with connect(fake.url, cache=False) as registry:
            if not seed:
                registry.files("a:toc")
                assert registry.open("a:toc", "big").read() == bytes(range(256)) * 20
    assert rows(by_table) == rows(by_stream)

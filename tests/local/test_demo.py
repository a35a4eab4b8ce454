"""The demo content: the same on every run, small, quick, and accepted by real registries and another client."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import distribution
import pytest
from conftest import Seeded, need, push_demo
from pytest_socket import SocketConnectBlockedError

from regnb.errors import NotFound, StorageError
from regnb.local import demo, embedded
from regnb.oci.manifest import IMAGE_CONFIGS, INDEXES, Index, Manifest, decode, decode_config
from regnb.oci.reference import Digest
from regnb.wire.client import Client
from regnb.wire.transport import Transport


def skopeo(*arguments: str) -> str:
    need("skopeo", shutil.which("skopeo"), "skopeo is not installed (apt-get install skopeo)")
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tags() -> Iterator[tuple[str, str, demo.Item]]:
    for item in demo.items():
        for tag in item.tags:
            if item.repository != demo.RETIRED:
                yield item.repository, tag, item


@pytest.mark.filterwarnings("ignore:A test tried to use")
def test_the_network_is_blocked_but_for_loopback() -> None:
    with pytest.raises(SocketConnectBlockedError):
        socket.create_connection(("192.0.2.1", 80), 1)


def test_digests_are_the_same_in_another_process() -> None:
    script = "from regnb.local import demo; print(*(item.digest for item in demo.items(referrers=False)))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert other.split() == [item.digest for item in demo.items(referrers=False)]


def test_it_is_small() -> None:
    assert sum(demo.stored().values()) < 50 * 1000 * 1000


def test_every_manifest_and_config_is_well_formed() -> None:
    for item in demo.items():
        manifest = decode(item.raw, item.media_type)
        assert manifest.digest == item.digest
        if isinstance(manifest, Manifest):
            assert [Digest(blob.digest) for blob in manifest.blobs] == [Digest.of(blob) for blob in item.blobs]
            assert [blob.size for blob in manifest.blobs] == [len(blob) for blob in item.blobs]
            if manifest.kind == "image" and manifest.config and manifest.config.media_type in IMAGE_CONFIGS:
                config = decode_config(item.blobs[0])
                assert config.created
                assert config.platform
                assert all(config.commands(len(manifest.layers)))
                diff_ids = json.loads(item.blobs[0])["rootfs"]["diff_ids"]
                assert diff_ids == [Digest.of(gzip.decompress(layer)) for layer in item.blobs[1:]]
        else:
            assert isinstance(manifest, Index)
            assert [Digest(child.digest) for child in manifest.manifests] == [child.digest for child in item.children]


def test_it_tells_the_story_that_the_notebooks_tell() -> None:
    kinds = {decode(item.raw, item.media_type).kind for item in demo.items()}
    assert kinds == {"image", "index", "attestation", "signature", "sbom", "artifact"}
    newest = next(item for item in demo.items() if item.repository == "vm/centos8" and "latest" in item.tags)
    assert newest.tags == ("latest", "8", "8.4")
    sizes = sorted(len(layer) for layer in newest.blobs[1:])
    assert sizes[0] < sizes[1] < 200
    assert sizes[-1] > 24 * 1024 * 1024
    base = next(item for item in demo.items() if item.repository == "library/base" and "latest" in item.tags).blobs[1]
    assert len({item.repository for item in demo.items() if base in item.blobs}) >= 5


def test_the_registry_holds_what_is_stated_and_no_more(seeded: Seeded) -> None:
    expected = demo.stored(referrers=seeded.seeded.referrers)
    lost = next(item for item in demo.items() if (item.repository, *item.tags) == demo.DANGLING)
    del expected[lost.digest]
    blobs = seeded.root / "docker/registry/v2/blobs"
    found = {Digest(f"{path.parts[-4]}:{path.parts[-2]}"): path.stat().st_size for path in blobs.glob("*/*/*/data")}
    assert found == expected
    assert seeded.seeded == demo.Seeded(referrers=seeded.kind == "embedded", emptied=True)


def test_seeding_twice_changes_nothing(real: distribution.Distribution) -> None:
    """What is there already is not stored again, and no upload is left behind."""
    first = push_demo(real.url)
    stored = real.stored()
    assert push_demo(real.url) == first
    assert real.stored() == stored == sum(demo.stored(referrers=False).values())
    assert not list(real.root.glob("docker/registry/v2/repositories/**/_uploads/*"))


def test_seeding_works_without_deletion(distribution_program: None, tmp_path: Path) -> None:
    with distribution.Distribution(tmp_path, delete=False) as registry:
        assert push_demo(registry.url) == demo.Seeded(referrers=False, emptied=False)
    with embedded.running(tmp_path / "embedded", delete=False) as server:
        assert push_demo(server.url) == demo.Seeded(referrers=True, emptied=False)


def test_the_catalog_and_the_tags_are_those_stated(seeded: Seeded) -> None:
    async def read() -> tuple[list[str], set[tuple[str, str]]]:
        async with Client(Transport(seeded.url)) as client:
            repositories = [name async for page in client.catalog() for name in page]
            named = set()
            for repository in repositories:
                if repository != demo.RETIRED:
                    named |= {(repository, tag) async for page in client.tags(repository) for tag in page}
            return repositories, named

    repositories, named = anyio.run(read)
    assert set(repositories) == {item.repository for item in demo.items()}
    expected = {(repository, tag) for repository, tag, _ in tags()}
    if not seeded.seeded.referrers:
        expected |= {
            (item.repository, tag) for item in demo.items(referrers=False) if item.fallback for tag in item.tags
        }
    assert named == expected


def test_signature_and_sbom_are_found_as_referrers(seeded: Seeded) -> None:
    subject = next(item for item in demo.items() if item.repository == "apps/payments" and "latest" in item.tags)

    async def read() -> set[str | None]:
        async with Client(Transport(seeded.url)) as client:
            return {found.artifact_type for found in await client.referrers("apps/payments", subject.digest)}

    assert anyio.run(read) == {"application/vnd.dev.sigstore.bundle.v0.3+json", "application/spdx+json"}


def test_skopeo_reads_every_tag(seeded: Seeded) -> None:
    for repository, tag, item in tags():
        if (repository, tag) != demo.DANGLING:
            raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{seeded.host}/{repository}:{tag}")
            assert raw.encode() == item.raw, f"{repository}:{tag}"


@pytest.mark.parametrize(
    ("image", "arguments"),
    [
        ("vm/centos8:8.3", ()),
        ("apps/web:1.4.2", ()),
        ("tools/cli:latest", ("--all",)),
        ("library/proxy:1.25", ("--all",)),
    ],
)
def test_skopeo_copies_the_images(seeded: Seeded, tmp_path: Path, image: str, arguments: tuple[str, ...]) -> None:
    source = f"docker://{seeded.host}/{image}"
    skopeo("copy", "--insecure-policy", "--src-tls-verify=false", *arguments, source, f"dir:{tmp_path / 'copy'}")
    repository, _, tag = image.partition(":")
    item = next(item for name, each, item in tags() if (name, each) == (repository, tag))
    assert (tmp_path / "copy/manifest.json").read_bytes() == item.raw
    if item.media_type not in INDEXES:
        about = json.loads(skopeo("inspect", "--tls-verify=false", source))
        assert about["Digest"] == item.digest
        # skopeo unpacks nothing here; that the layers are archives, a layout on disk shows.
        skopeo("copy", "--insecure-policy", f"dir:{tmp_path / 'copy'}", f"docker-archive:{tmp_path / 'archive.tar'}")
        assert (tmp_path / "archive.tar").stat().st_size > 0


def test_damage_makes_one_tag_dangle(seeded: Seeded) -> None:
    repository, tag = demo.DANGLING

    async def read() -> list[str]:
        async with Client(Transport(seeded.url)) as client:
            with pytest.raises(NotFound):
                await client.manifest(repository, tag)
            await client.manifest(repository, "1.1")
            return [tag async for page in client.tags(repository) for tag in page]

    assert sorted(anyio.run(read)) == [tag, "1.1"]


def test_damage_refuses_a_folder_without_the_demo(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not hold the demo"):
        demo.damage(tmp_path)

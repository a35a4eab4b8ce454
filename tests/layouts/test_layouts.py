"""Layouts and archives are read as registries are: what other tools wrote, and what is broken."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from distribution import Distribution
from images import ask, config, fill, image, index, layer, pack
from images import regnb as command
from layouts import files, layout, put, row, skopeo, tar, tool

import regnb
from regnb.errors import InvalidArgument, NotFound, RegnbError
from regnb.layouts import index as index_
from regnb.oci.disk import blob_path
from regnb.oci.reference import Digest
from regnb.oci.transports import IMAGE_NAME


def tar_of(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        about = tarfile.TarInfo("file")
        about.size = len(data)
        archive.addfile(about, io.BytesIO(data))
    return file.getvalue()


BASE = layer("base", 500)
ONE = image([BASE, layer(1, 100)], about=config())
ARM = image([BASE, layer(2, 100)], about=config("arm64"))
TWO = image([layer("two", 50)])
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")])
SBOM = image(
    [b"{}"], about=b"{}", layer_type="application/spdx+json", artifactType="application/spdx+json",
    subject={"mediaType": ONE.media_type, "digest": ONE.digest, "size": len(ONE.data)},
)  # fmt: skip
PACKED = [gzip.compress(tar_of(data), mtime=0) for data in (b"a", b"b", b"c")]
REAL = index(
    [(image(PACKED[:2], about=config()), "linux/amd64"), (image(PACKED[::2], about=config("arm64")), "linux/arm64")]
)
"""Layers of which skopeo believes that they are compressed."""
COLUMNS = ["repository", "tag", "digest", "kind", "size", "exclusive"]


def tags(inventory: regnb.Inventory) -> list[tuple[str, str, str]]:
    return [*inventory.tags[["repository", "tag", "digest"]].itertuples(index=False, name=None)]


def problems(inventory: regnb.Inventory) -> dict[str, str]:
    """What each problem is about, and its sort."""
    return dict(zip(inventory.problems["reference"], inventory.problems["problem"], strict=True))


def test_the_same_inventory_as_of_the_registry(real: Distribution, tmp_path: Path) -> None:
    """What skopeo copied out of a registry, as a layout, an archive and a compressed one, has the registry's rows."""
    fill(real.url, ("vm/multi", "1", REAL), ("vm/multi", "one", REAL.children[0]))
    for tag in ("1", "one"):
        skopeo(f"docker://{real.host}/vm/multi:{tag}", f"oci:{tmp_path}/out:vm/multi:{tag}", "--all")
    tar(tmp_path / "out.tar", files(tmp_path / "out", "./"))
    (tmp_path / "out.tgz").write_bytes(gzip.compress((tmp_path / "out.tar").read_bytes()))
    api = regnb.read(real.url)
    for name in ("oci:{}", "{}", "oci-archive:{}.tar", "oci-archive:{}.tgz"):
        found = regnb.read(name.format(tmp_path / "out"))
        assert (found.source, found.complete, len(found.problems)) == ("layout", True, 0)
        assert found.tags[COLUMNS].equals(api.tags[COLUMNS])
        assert {*found.layers["digest"]} == {*api.layers["digest"]}
        assert set(found.blobs["digest"]) == set(api.blobs["digest"])
    one = regnb.read(f"oci:{tmp_path}/out:vm/multi:one")
    assert tags(one) == [("vm/multi", "one", REAL.children[0].digest)]
    assert len(regnb.compare(api, found).query("state != 'same'")) == 0


def test_names_that_other_tools_write(tmp_path: Path) -> None:
    """A tag alone is in the repository of the folder's name; full names keep theirs; no name is a manifest untagged."""
    tool("umoci", "init", "--layout", f"{tmp_path}/app")
    for name in ("1.0", "docker.io/library/app:2", "localhost:5000/team/app:3", "team/app"):
        tool("umoci", "new", "--image", f"{tmp_path}/app:{name}")
    skopeo(f"oci:{tmp_path}/app:1.0", f"oci:{tmp_path}/app")
    found = regnb.read(tmp_path / "app")
    expected = [("app", "1.0"), ("docker.io/library/app", "2"), ("team/app", "3"), ("team/app", "latest")]
    assert sorted(row[:2] for row in tags(found)) == expected
    skopeo(f"oci:{tmp_path}/app:1.0", f"oci:{tmp_path}/bare")
    bare = regnb.read(tmp_path / "bare")
    assert (len(bare.tags), [*bare.manifests["repository"]], bare.complete) == (0, ["bare"], True)
    with regnb.connect(f"oci:{tmp_path}/bare") as handle:
        assert handle.tag_names("bare") == []
        assert handle.manifest(f"bare@{bare.manifests['digest'][0]}").kind == "image"


def test_what_docker_save_writes(real: Distribution, tmp_path: Path) -> None:
    """Since Docker 25 an archive holds a layout; before that configs and layers, of which a manifest is made.

    The image then goes into a registry, from which skopeo reads the same config and layers.
    """
    about = descriptor_of_docker()
    old = tar(tmp_path / "old.tar", about)
    skopeo(f"docker-archive:{old}", f"oci:{tmp_path}/skopeo:1")
    new = tmp_path / "new"
    layout(new, index={"manifests": [row("2", ONE)]})
    for data in ONE.everything():
        put(new, data)
    written = row("2", ONE)
    written["annotations"][IMAGE_NAME] = "docker.io/library/app:2"
    (new / "index.json").write_bytes(pack({"schemaVersion": 2, "manifests": [written]}))
    (new / "manifest.json").write_bytes(b"[]")
    tar(tmp_path / "new.tar", files(new))
    assert tags(regnb.read(f"docker-archive:{tmp_path}/new.tar")) == [("docker.io/library/app", "2", ONE.digest)]
    with regnb.connect(f"docker-archive:{tmp_path}/new.tar") as saved:  # by the name that docker shows, too
        assert (saved.tag_names("app"), saved.digest("library/app:2")) == (["2"], ONE.digest)
        assert "to pull it" not in saved.image("app:2").about.iloc[:, 0].tolist()  # Docker pulls from registries
    found = regnb.read(f"docker-archive:{old}")
    assert [row[:2] for row in tags(found)] == [("team/app", "1"), ("team/app", "latest")]
    assert found.complete
    with regnb.connect(real.url, cache=False) as target, regnb.connect(f"docker-archive:{old}") as source:
        plan = target.plan_copy("team/app:1", "app", source=source)
        assert target.apply(plan, confirm=plan.code, source=source, progress=False).status == "done"
    told = json.loads(tool("skopeo", "inspect", "--config", "--tls-verify=false", f"docker://{real.host}/app:1"))
    assert told["rootfs"]["diff_ids"] == json.loads(about["config.json"])["rootfs"]["diff_ids"]


def descriptor_of_docker() -> dict[str, bytes]:
    """What an older docker save writes for one image with two names, one layer of it by way of a link."""
    plain, zipped = tar_of(b"one"), gzip.compress(tar_of(b"two"), mtime=0)
    diff_ids = [Digest.of(plain), Digest.of(tar_of(b"two"))]
    about = config(rootfs={"type": "layers", "diff_ids": diff_ids})
    link = tarfile.TarInfo("b/layer.tar")
    link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
    listed = {
        "Config": "config.json",
        "RepoTags": ["team/app:1", "localhost:5000/team/app:latest"],
        "Layers": ["b/layer.tar", "c/layer.tar"],
    }
    members = {"config.json": about, "a/layer.tar": plain, "b/layer.tar": link, "c/layer.tar": zipped}
    return {**members, "manifest.json": pack([listed])}  # type: ignore[dict-item]


@pytest.fixture(params=["before Docker 25", "since Docker 25"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What docker save writes for three images, the last of them without a name."""
    members, listed, rows = dict[str, bytes](), [], []
    names = (["docker.io/library/alpine:3"], ["team/app:1", "localhost:5000/team/app:latest"], [])
    for number, some in enumerate(names):
        plain = tar_of(b"%d" % number)
        about = config(rootfs={"type": "layers", "diff_ids": [Digest.of(plain)]})
        members |= {f"{number}.json": about, f"{number}/layer.tar": plain}
        listed.append({"Config": f"{number}.json", "RepoTags": some, "Layers": [f"{number}/layer.tar"]})
        one = image([plain], about=about)
        rows += [row("", one) | {"annotations": {IMAGE_NAME: name}} for name in some] or [row("", one)]
        if request.param == "since Docker 25":
            members |= {f"blobs/sha256/{Digest.of(data).hex}": data for data in one.everything()}
    if request.param == "since Docker 25":
        members |= {"oci-layout": b"{}", "index.json": pack({"schemaVersion": 2, "manifests": rows})}
    path = tar(tmp_path / "saved.tar", {**members, "manifest.json": pack(listed)})
    return f"docker-archive:{path}"


@pytest.mark.parametrize(
    ("name", "found", "untagged"),
    [
        ("alpine:3", ["docker.io/library/alpine:3"], 0),
        ("docker.io/library/alpine:3", ["docker.io/library/alpine:3"], 0),
        ("docker.io/team/app:1", ["team/app:1"], 0),
        ("localhost:5000/team/app", ["team/app:latest"], 0),
        ("@1", ["team/app:1", "team/app:latest"], 0),
        ("@2", [], 1),
    ],
)
def test_one_image_of_what_docker_save_wrote(saved: str, name: str, found: list[str], untagged: int) -> None:
    """An image is named as Docker shows it, with its host or by its place, as containers-transports(5) says."""
    inventory = regnb.read(f"{saved}:{name}")
    assert [*(inventory.tags["repository"] + ":" + inventory.tags["tag"])] == found
    assert inventory.repositories["untagged"].sum() == untagged
    assert inventory.complete


@pytest.mark.parametrize("name", ["alpine", "app:1", "@3", "UPPER:"])
def test_an_image_that_docker_save_did_not_write(saved: str, name: str) -> None:
    """The error names what is there, in a form that can be used."""
    with pytest.raises(NotFound, match=f"has no {name}") as caught:
        regnb.read(f"{saved}:{name}")
    assert caught.value.hint == "it has alpine:3, localhost:5000/team/app:latest, team/app:1, @0, @1, @2"


def test_a_tree_of_layouts(tmp_path: Path) -> None:
    """Each layout is a repository by its path, as olareg and zot keep them; a broken one is a row, the rest is read."""
    layout(tmp_path / "vm" / "app", ("1", ONE), ("docker.io/other:2", TWO), ("", SBOM))
    layout(tmp_path / "vm" / "app" / "nested", ("1", TWO))
    layout(tmp_path / "broken", ("1", TWO))
    (tmp_path / "broken" / "index.json").write_text("{")
    layout(tmp_path / "_blobstore", ("hidden", TWO))
    found = regnb.read(tmp_path)
    assert tags(found) == [
        ("vm/app", "1", ONE.digest), ("vm/app/docker.io/other", "2", TWO.digest), ("vm/app/nested", "1", TWO.digest),
    ]  # fmt: skip
    assert not found.complete
    assert [*found.problems["repository"]] == ["broken"]
    assert SBOM.digest in set(found.manifests["digest"])
    with regnb.connect(str(tmp_path)) as handle, pytest.raises(RegnbError, match="tree of layouts"):
        handle.plan_retag("vm/app:1", "2")
    with pytest.raises(RegnbError, match="names a tag"):
        regnb.read(f"oci:{tmp_path}:1")


def lose(what: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "blobs" / "sha256" / Digest.of(what).hex).unlink()


def spoil(what: bytes, by: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "blobs" / "sha256" / Digest.of(what).hex).write_bytes(by)


def rewrite(*rows: object) -> Callable[[Path], None]:
    return lambda folder: (folder / "index.json").write_bytes(pack({"manifests": rows})) and None


def instead(what: bytes, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        lose(what)(folder)
        make(folder / "blobs" / "sha256" / Digest.of(what).hex)

    return replace


def nothing(folder: Path) -> None:
    """Leave it as it is."""


TEXT = {**row("x", TWO), "mediaType": "text/plain"}
BIG = {**row("big", ONE), "size": -1}
DAMAGE: dict[str, tuple[Callable[[Path], None], str, str, bool]] = {
    "a layer is missing": (lose(BASE), Digest.of(BASE), "missing", True),
    "a layer is cut off": (spoil(BASE, b"x"), Digest.of(BASE), "damaged", True),
    "a manifest is missing": (lose(ONE.data), "1", "dangling", True),
    "a manifest has other bytes": (spoil(ONE.data, b"{}" + ONE.data[2:]), "1", "mismatch", False),
    "a manifest is none": (spoil(ONE.data, b"[]"), "1", "mismatch", False),
    "a manifest is a folder": (instead(ONE.data, Path.mkdir), "1", "dangling", True),
    "a manifest is a pipe": (instead(ONE.data, os.mkfifo), "1", "dangling", True),
    "oci-layout is missing": (lambda folder: (folder / "oci-layout").unlink(), "", "layout", True),
    "an entry is malformed": (rewrite(row("1", ONE), row("2", TWO), BIG), "index.json", "malformed", False),
    "a name is none": (rewrite(row("1", ONE), row("Not A Name!", TWO)), TWO.digest, "not a tag", True),
    "a name stands for two": (rewrite(row("1", ONE), row("1", TWO)), TWO.digest, "ambiguous", True),
    "an entry is no manifest": (rewrite(row("1", ONE), TEXT), TWO.digest, "ignored", True),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_row(damage: str, tmp_path: Path) -> None:
    """What is broken within a layout is a row that names it, and the other image is read."""
    spoiled, reference, sort, complete = DAMAGE[damage]
    folder = layout(tmp_path / "app", ("1", ONE), ("2", TWO))
    spoiled(folder)
    found = regnb.read(folder)
    assert problems(found) == {reference: sort}
    assert found.complete is complete
    assert set(found.manifests["digest"]) >= ({TWO.digest} if damage != "an entry is no manifest" else {ONE.digest})


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("oci:{}/nothing", nothing, "there is nothing in"),
        ("oci:{}/empty", lambda folder: (folder / "empty").mkdir(), "there is nothing in"),
        ("oci:{}/other", lambda folder: put(folder / "other", b""), "does not hold an OCI layout, but blobs"),
        ("oci:{}/app", lambda folder: (folder / "app" / "index.json").unlink(), "it has no index.json"),
        ("oci:{}/app", lambda folder: (folder / "app" / "index.json").write_text("[" * 9000), "index.json is"),
        ("oci:{}/app", lambda folder: os.truncate(folder / "app" / "index.json", 65 * 2**20), "more than 67,108,864"),
        ("oci:{}/app:9", nothing, "has no 9"),
        ("oci:{}/app.tar", nothing, "is a file"),
        ("oci:", nothing, "does not name a path"),
        ("oci://host/app", nothing, "does not name a folder"),
        ("oci-archive:{}/none.tar", nothing, "no such file"),
        ("oci-archive:{}/none/app.tar", nothing, "no such folder"),
        ("oci-archive:{}/app/index.json", nothing, "is not a tar archive"),
        ("oci-archive:{}/app.tar", lambda folder: cut(folder / "app.tar", 700), "is cut off"),
        ("oci-archive:{}/app.tar", lambda folder: tar(folder / "app.tar", {"../index.json": b""}), "has no index.json"),
        ("oci-archive:{}/app.tar", lambda folder: tar(folder / "app.tar", {"/index.json": b""}), "has no index.json"),
        ("oci-archive:{}/app.tgz", lambda folder: cut(folder / "app.tgz", 400), "does not end"),
        ("oci-archive:{}/app.tgz", lambda folder: spoil_at(folder / "app.tgz", 60), "is cut off, or damaged"),
        ("oci-archive:{}/app.tar", lambda folder: tar(folder / "app.tar", {"manifest.json": b""}), "docker save wrote"),
        ("oci-archive:{}/app.zst", lambda folder: (folder / "app.zst").write_bytes(b"\x28\xb5\x2f\xfd"), "with zstd"),
        ("docker-archive:{}/app.tar", lambda folder: tar(folder / "app.tar", {"a": b""}), "has no manifest.json"),
        ("docker-archive:{}/app.tar", lambda folder: tar(folder / "app.tar", {"manifest.json": b"{"}), "is malformed"),
        (
            "docker-archive:{}/app.tar",
            lambda folder: tar(folder / "app.tar", {"manifest.json": pack([{"Config": "../../etc/passwd"}])}),
            "which is not in it",
        ),
    ],
)  # fmt: skip
def test_what_is_no_layout_is_one_error(name: str, make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    """What is not a layout or archive, or a broken one, is one error with a hint, and nothing is written."""
    layout(tmp_path / "app", ("1", ONE))
    tar(tmp_path / "app.tar", files(tmp_path / "app"))
    (tmp_path / "app.tgz").write_bytes(gzip.compress((tmp_path / "app.tar").read_bytes(), mtime=0))
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RegnbError, match=words) as caught:
        regnb.read(name.format(tmp_path))
    assert caught.value.hint
    assert sorted(tmp_path.rglob("*")) == before


def test_where_a_copy_cannot_make_an_archive_for_docker(tmp_path: Path) -> None:
    """A docker-archive that does not exist is not made by a copy: the hint names what regnb writes."""
    with pytest.raises(RegnbError, match="no such file") as caught:
        regnb.connect(f"docker-archive:{tmp_path}/new.tar")
    assert "writes oci-archive:FILE and oci:DIR" in caught.value.hint


def spoil_at(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def test_what_nothing_leads_to(tmp_path: Path) -> None:
    """A blob that no manifest needs is an orphan, as umoci gc would remove it; what has no name is untagged."""
    folder = layout(tmp_path / "app", ("1", MULTI), ("", TWO), ("", SBOM))
    put(folder, b"left behind")
    found = regnb.read(folder)
    assert [*found.blobs.loc[found.blobs["kind"] == "orphan", "digest"]] == [Digest.of(b"left behind")]
    assert found.summary.disk == sum(len(data) for data in files(folder / "blobs").values())
    with regnb.connect(str(folder)) as handle:
        listed = handle.request("GET", f"/v2/app/referrers/{ONE.digest}")
        assert [each["digest"] for each in json.loads(listed.body)["manifests"]] == [SBOM.digest]
    tool("umoci", "gc", "--layout", str(folder))
    again = regnb.read(folder)
    assert "orphan" not in set(again.blobs["kind"])
    assert len(again.manifests) == len(found.manifests)


def test_entries_of_one_name() -> None:
    """An entry that is there twice is there once; what is not understood stays when the index is written again."""
    odd = {"mediaType": "text/plain", "digest": Digest.of(b""), "size": 0}
    data = pack({"schemaVersion": 2, "annotations": {"a": "b"}, "manifests": [row("1", ONE), odd, row("1", ONE)]})
    listing = index_.read(data, "app")
    assert [*listing.tags["app"]] == ["1"]
    written = json.loads(listing.to_json(listing.entries))
    assert written["annotations"] == {"a": "b"}
    assert odd in written["manifests"]


COMMANDS = {
    "audit {}": 0, "audit {} --json": 0, "audit {} -r app": 0, "catalog {}": 0, "tags {} app": 0, "digest {} app:1": 0,
    "manifest {} app:1": 0, "layers {} app:1": 0, "compare {} {}": 0, "report {} -o {}/../report.html": 0,
    "reclaim {} app:1": 0, "free {} 1B --keep 0": 0, "audit {} --snapshot {}/../snapshots": 0, "health {}": 0,
    "request GET /v2/app/tags/list --url oci:{}": 0,
}  # fmt: skip
REFUSED = {
    "gc {}": "that nothing needs, as orphan", "delete {} app:1": "umoci rm", "rename {} app:1 2": "umoci rm",
    "retention {} {}/../keep.toml": "umoci rm", "copy oci-archive:{}.tar app:1 --to app:2": "tar -C DIR",
    "retag oci-archive:{}.tar app:1 -t 2": "tar -C DIR", "copy {} app:1 --to a__b:1": "choose another name",
}  # fmt: skip


def test_every_command_takes_a_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that reads takes one; each that makes no sense there says so, and what to do."""
    folder = layout(tmp_path / "app", ("1", MULTI), ("2", TWO))
    tar(tmp_path / "app.tar", files(folder))
    (tmp_path / "keep.toml").write_text('[[rule]]\nrepositories = ["*"]\nkeep_newest = 1\n')
    before = files(folder)
    for line, code in COMMANDS.items():
        done = command(tmp_path, *line.replace("{}", str(folder)).split())
        assert done.returncode == code, (line, done.stdout, done.stderr)
    for line, words in REFUSED.items():
        done = command(tmp_path, *line.replace("{}", str(folder)).split())
        assert done.returncode == 1, (line, done.stdout)
        assert words in done.stderr.replace("\n", " "), (line, done.stderr)
        assert "Traceback" not in done.stderr
    assert files(folder) == before


def test_names_that_are_not_layouts() -> None:
    """A registry by that name is reached by its URL; a missing tag is an error that lists those there are."""
    with pytest.raises(InvalidArgument, match="does not name a folder"):
        regnb.connect("oci://localhost:5000")
    with pytest.raises(RegnbError):
        regnb.connect("docker-archive:/dev/null")


def test_an_archive_without_its_transport(tmp_path: Path) -> None:
    """The error says how to name it; so it does for a compressed one, in every command that reads."""
    path = tar(tmp_path / "app.tar", files(layout(tmp_path / "app", ("1", ONE))))
    zipped = tmp_path / "app.tgz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    for archive in (path, zipped):
        for verb in ("audit", "gc", "catalog"):
            done = command(tmp_path, verb, str(archive))
            assert done.returncode == 1
            assert f"Hint: write oci-archive:{archive} if" in done.stderr
            assert f"docker-archive:{archive} if" in done.stderr


@pytest.mark.parametrize("name", ["{}", "oci:{}", "oci:{}:1", "oci-archive:{}/app.tar"])
def test_a_path_with_a_colon_is_refused(name: str, tmp_path: Path) -> None:
    """A colon ends the path in such a name: nothing else is read in its place, and nothing is written elsewhere."""
    layout(tmp_path / "10:30", ("1", ONE))
    (tmp_path / "10:30" / "app.tar").touch()
    with pytest.raises(InvalidArgument, match="has a colon") as caught:
        regnb.connect(name.format(tmp_path / "10:30"))
    assert "rename the folder" in caught.value.hint
    assert not (tmp_path / "10").exists()


def test_a_damaged_layout_is_judged_as_a_damaged_registry(real: Distribution, tmp_path: Path) -> None:
    """With a manifest gone, both audits have the exit codes 0 and, with --fail-on-problems, 2, and name the tag."""
    fill(real.url, ("app", "1", ONE))
    gone = layout(tmp_path / "app", ("1", ONE)) / "blobs" / "sha256" / ONE.digest.hex
    gone.unlink()
    (real.root / blob_path(ONE.digest)).unlink()
    for where in (f"oci:{tmp_path}/app", real.url):
        done = command(tmp_path, "audit", where)
        assert (done.returncode, "1 tag cannot be pulled: app:1" in done.stdout) == (0, True)
        done = command(tmp_path, "audit", where, "--fail-on-problems")
        assert (done.returncode, "1 tag cannot be pulled: app:1" in done.stderr) == (2, True)


def test_a_tag_that_is_not_there(tmp_path: Path) -> None:
    """The error names the layout and what it lacks."""
    layout(tmp_path / "app", ("1", ONE))
    with regnb.connect(f"oci:{tmp_path}/app") as handle, pytest.raises(NotFound, match="has no app:2"):
        handle.digest("app:2")
    assert ask  # the wire is not needed

"""The inventory of a real registry, against numbers that were computed by hand."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from distribution import Distribution
from images import (
    DOCKER_LAYER,
    Fake,
    Image,
    ask,
    attestation,
    cache_index,
    config,
    descriptor,
    fill,
    image,
    index,
    layer,
    pack,
)
from scripted import Reply, Request, serve
from stored import Stored

import regnb
from regnb import Inventory
from regnb.crawl.records import Problem, Records
from regnb.errors import InvalidArgument, NotFound, StorageError
from regnb.oci.manifest import SCHEMA1_SIGNED
from regnb.oci.reference import Digest
from regnb.tables.columns import INVENTORY

BASE = layer("base", 50_000)
OWN = [layer(number, 1000 + number) for number in range(4)]
ONE = image([BASE, OWN[0]], about=config(created="2026-03-01T00:00:00Z", commands=["ADD rootfs", "RUN one"]))
TWO = image(
    [BASE, OWN[1]], about=config(created="2026-02-01T00:00:00Z", commands=["ADD rootfs", "RUN two"]), docker=True
)
AMD = image([BASE, OWN[2]], about=config(created="2026-01-05T00:00:00Z", commands=["ADD rootfs", "RUN three"]))
OTHER = config("arm64", created="2026-01-04T00:00:00Z", commands=["ADD rootfs", "RUN three on arm"])
ARM = image([BASE, OWN[3]], about=OTHER)
ATTESTATION = attestation(AMD)
MULTI = index([(AMD, "linux/amd64"), (ARM, "linux/arm64"), (ATTESTATION, "unknown/unknown")])
PUSHES = [
    ("vm/centos8", "8", ONE),
    ("vm/centos8", "8.4", ONE),
    ("vm/centos8", "latest", ONE),
    ("vm/centos8", "7", TWO),
    ("team/deep/nested/app", "copy", ONE),
    ("team/deep/nested/app", "multi", MULTI),
    ("lib/docker", "list", index([(TWO, "linux/amd64")], docker=True)),
]


def take(url: str, repositories: Sequence[str] | None = None) -> Inventory:
    with regnb.connect(url, cache=False) as registry:
        return registry.inventory(repositories, progress=False)


def union(*images: Image) -> int:
    return sum(map(len, set().union(*(each.everything() for each in images))))


def at(frame: pd.DataFrame, *key: str) -> dict[str, object]:
    """The one row whose first columns are ``key``."""
    for column, value in zip(frame.columns, key, strict=False):
        frame = frame[frame[column] == value]
    (row,) = frame.to_dict("records")
    return row


def test_the_sizes_reconcile_with_the_disk_to_the_byte(real: Distribution) -> None:
    """The blobs of the inventory are the blobs on the registry's disk, and their sizes add up to the same."""
    fill(real.url, *PUSHES)
    inventory = take(real.url)
    assert inventory.blobs["size"].sum() == real.stored()
    assert inventory.summary.stored == real.stored()
    assert inventory.complete
    assert inventory.finished is not None
    assert inventory.finished > inventory.started
    on_disk = {f"sha256:{path.parent.name}" for path in real.root.glob("docker/registry/v2/blobs/sha256/*/*/data")}
    assert set(inventory.blobs["digest"]) == on_disk
    assert all(
        real.blob(row.digest).stat().st_size == row.size for row in inventory.blobs[["digest", "size"]].itertuples()
    )


def test_the_frames_of_known_content(real: Distribution) -> None:
    """Every figure of tags, repositories and manifests is what the pushed bytes say."""
    fill(real.url, *PUSHES)
    inventory = take(real.url)

    tag = at(inventory.tags, "vm/centos8", "8")
    assert (tag["digest"], tag["kind"], tag["platforms"]) == (ONE.digest, "image", "linux/amd64")
    assert (tag["size"], tag["layers"]) == (ONE.size, 2)
    assert (tag["siblings"], tag["elsewhere"]) == (2, 1)
    assert tag["created"] == pd.Timestamp("2026-03-01", tz="UTC")
    assert at(inventory.tags, "team/deep/nested/app", "copy")["siblings"] == 0
    assert at(inventory.tags, "team/deep/nested/app", "copy")["elsewhere"] == 3
    assert at(inventory.tags, "vm/centos8", "7")["elsewhere"] == 0

    multi = at(inventory.tags, "team/deep/nested/app", "multi")
    assert (multi["kind"], multi["platforms"]) == ("index", "linux/amd64, linux/arm64")
    assert multi["size"] == MULTI.size
    assert multi["layers"] == 4
    assert multi["created"] == pd.Timestamp("2026-01-05", tz="UTC")

    repository = at(inventory.repositories, "vm/centos8")
    assert (repository["status"], repository["tags"], repository["manifests"]) == ("read", 4, 2)
    assert repository["size"] == union(ONE, TWO)
    assert repository["pull_size"] == 3 * ONE.size + TWO.size
    assert repository["exclusive"] == 0
    assert repository["newest"] == pd.Timestamp("2026-03-01", tz="UTC")
    deep = at(inventory.repositories, "team/deep/nested/app")
    assert deep["size"] == union(ONE, MULTI)
    assert deep["exclusive"] == union(ONE, TWO, MULTI) - union(ONE, TWO)
    assert at(inventory.repositories, "lib/docker")["exclusive"] == len(PUSHES[-1][2].data)
    assert inventory.repositories["complete"].all()

    manifests = inventory.manifests
    assert at(manifests, "team/deep/nested/app", AMD.digest)["parents"] == 1
    assert at(manifests, "team/deep/nested/app", AMD.digest)["tags"] == 0
    assert at(manifests, "team/deep/nested/app", ATTESTATION.digest)["kind"] == "attestation"
    assert at(manifests, "team/deep/nested/app", MULTI.digest)["manifest_size"] == len(MULTI.data)
    assert at(manifests, "vm/centos8", ONE.digest)["tags"] == 3
    assert at(manifests, "vm/centos8", ONE.digest)["platform"] == "linux/amd64"
    assert manifests.loc[manifests["tags"] > 0, "checked"].all()
    assert len(manifests) == 2 + 1 + 4 + 2

    total = inventory.summary
    assert (total.repositories, total.tags, total.manifests) == (3, 7, 7)
    assert total.pulled == 4 * ONE.size + TWO.size + MULTI.size + PUSHES[-1][2].size
    assert total.registry == real.host


def test_who_shares_what(real: Distribution) -> None:
    """Tags on one digest and layers of several manifests are listed with all who use them, and what it saves."""
    fill(real.url, *PUSHES)
    sharing = take(real.url).sharing
    (row,) = sharing.tags.to_dict("records")
    assert (row["digest"], row["tags"], row["repositories"], row["size"]) == (ONE.digest, 4, 2, ONE.size)
    assert row["references"] == ("team/deep/nested/app:copy, vm/centos8:8, vm/centos8:8.4, vm/centos8:latest")
    row = at(sharing.layers, Digest.of(BASE))
    assert (row["manifests"], row["tags"], row["repositories"]) == (4, 7, 3)
    assert (row["size"], row["saved"]) == (len(BASE), 5 * len(BASE))
    assert row["command"] == "ADD rootfs"
    assert row["used_by"] == "lib/docker, team/deep/nested/app, vm/centos8"
    assert "Tags on one digest" in sharing._repr_html_()


def test_layers_and_blobs(real: Distribution) -> None:
    """Layers stand in order with their commands; blobs tell who leads to them."""
    fill(real.url, *PUSHES)
    inventory = take(real.url)
    rows = inventory.layers[inventory.layers["manifest"] == ONE.digest]
    assert rows["digest"].tolist() == [Digest.of(BASE), Digest.of(OWN[0])]
    assert rows["command"].tolist() == ["ADD rootfs", "RUN one"]
    assert rows["position"].tolist() == [0, 1]
    assert rows["size"].tolist() == [len(BASE), len(OWN[0])]
    base = at(inventory.blobs, Digest.of(BASE))
    assert (base["kind"], base["manifests"], base["tags"], base["repositories"]) == ("layer", 4, 7, 3)
    about = at(inventory.blobs, Digest.of(ARM.blobs[0]))
    assert (about["kind"], about["tags"]) == ("config", 1)


def test_equal_layers_are_counted_once(real: Distribution) -> None:
    """An image that has a layer 5,000 times is as large as with one, and its layers are still all listed."""
    what = image([BASE] * 5000)
    fill(real.url, ("app", "1", what))
    inventory = take(real.url)
    tag = at(inventory.tags, "app", "1")
    assert (tag["size"], tag["layers"]) == (what.size, 1)
    assert tag["size"] == real.stored()
    assert at(inventory.manifests, "app")["layers"] == 5000
    assert inventory.sharing.layers.empty
    assert len(inventory.layers) == 5000


def test_what_could_not_be_read_makes_figures_lower_bounds(real: Distribution) -> None:
    """A child that cannot be read marks its index, its tag and its repository, and no other, as incomplete."""
    fill(real.url, *PUSHES)
    real.blob(ARM.digest).write_bytes(b"{")
    real.restart()
    inventory = take(real.url)
    assert not inventory.complete
    assert not at(inventory.tags, "team/deep/nested/app", "multi")["complete"]
    assert at(inventory.tags, "team/deep/nested/app", "copy")["complete"]
    assert not at(inventory.repositories, "team/deep/nested/app")["complete"]
    assert at(inventory.repositories, "vm/centos8")["complete"]
    assert not at(inventory.coverage, "manifests")["complete"]
    assert at(inventory.tags, "team/deep/nested/app", "multi")["size"] == union(MULTI) - union(ARM) + len(BASE)
    assert "at least" in repr(inventory)
    assert "Incomplete" in inventory._repr_html_()


def test_a_dangling_tag_is_listed_without_a_digest(real: Distribution) -> None:
    """The tag is there, with no digest and no size, and the row in problems says why."""
    fill(real.url, *PUSHES)
    real.blob(TWO.digest).unlink()
    real.restart()
    inventory = take(real.url, ["vm/*"])
    tag = at(inventory.tags, "vm/centos8", "7")
    assert pd.isna(tag["digest"])
    assert (tag["size"], tag["complete"], tag["pullable"], tag["siblings"]) == (0, True, False, 0)
    assert at(inventory.problems, "vm/centos8", "7")["problem"] == "dangling"
    assert at(inventory.tags, "vm/centos8", "8")["size"] == ONE.size
    assert inventory.complete


def test_what_cannot_be_pulled_is_said_with_its_tags(real: Distribution) -> None:
    """A child, a config or a size that is not as its manifest says breaks the tags that lead to it, and no figure."""
    wrong = json.loads(ONE.data)
    wrong["layers"][1]["size"] += 1
    lying = Image(pack(wrong), ONE.media_type, ONE.blobs)
    fill(real.url, *PUSHES, ("app", "1", lying), ("app", "2", AMD), ("app", "cache", cache_index([BASE])))
    ask(real.url, lambda client: client.delete_manifest("team/deep/nested/app", ARM.digest))
    real.blob(Digest.of(TWO.blobs[0])).unlink()
    real.restart()
    inventory = take(real.url)
    broken = inventory.tags[~inventory.tags["pullable"].fillna(value=True)]
    assert set(zip(broken["repository"], broken["tag"], strict=True)) == {
        ("app", "1"), ("lib/docker", "list"), ("team/deep/nested/app", "multi"), ("vm/centos8", "7"),
    }  # fmt: skip
    assert inventory.tags["pullable"].notna().all()
    assert inventory.complete
    assert inventory.tags["complete"].all()
    assert "breaks 1 tag: multi" in str(at(inventory.problems, "team/deep/nested/app", ARM.digest)["message"])
    assert "breaks 1 tag: 7" in str(at(inventory.problems, "vm/centos8", Digest.of(TWO.blobs[0]))["message"])
    assert "breaks 1 tag: 1" in str(at(inventory.problems, "app", lying.digest)["message"])
    assert set(inventory.problems["problem"]) == {"missing", "damaged"}


def test_what_came_from_the_cache_may_be_gone(real: Distribution, tmp_path: Path) -> None:
    """Whether an index can be pulled is not known while its children were not asked for; an image was asked for."""
    fill(real.url, *PUSHES)
    with regnb.connect(real.url, cache=tmp_path) as registry:
        registry.inventory(progress=False)
        again = registry.inventory(progress=False)
        fresh = registry.inventory(cached=False, progress=False)
    assert fresh.tags["pullable"].eq(other=True).all()
    assert again.tags.loc[again.tags["pullable"].isna(), "kind"].unique().tolist() == ["index"]
    assert again.tags.loc[again.tags["kind"] == "image", "pullable"].all()


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
def test_a_layer_has_its_own_manifest_s_media_type(real: Distribution, order: tuple[str, str]) -> None:
    """One blob under two media types is each manifest's own, whichever of them is read first."""
    foreign = "application/vnd.docker.image.rootfs.diff.tar.zstd"
    images = image([BASE], docker=True), image([BASE], layer_type=foreign)
    fill(real.url, *(("app", tag, what) for tag, what in zip(order, images, strict=True)))
    inventory = take(real.url)
    types = dict(zip(inventory.layers["manifest"], inventory.layers["media_type"], strict=True))
    assert types == {images[0].digest: DOCKER_LAYER, images[1].digest: foreign}
    assert at(inventory.blobs, Digest.of(BASE))["media_type"] == min(DOCKER_LAYER, foreign)


def test_each_date_stands_for_itself() -> None:
    """Nine digits of a fraction, the year 1 and a year beyond counting take no date away; those are unknown ages."""
    dates = [
        "2026-01-02T03:04:05.123456789Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "12026-01-01T00:00:00Z",
        "1969-07-20T20:17:40+02:00", "", "yesterday",
    ]  # fmt: skip
    images = [image([BASE], about=config(created=date, n=number)) for number, date in enumerate(dates)]
    inventory = Stored(*(("app", str(number), what) for number, what in enumerate(images))).inventory()
    shown = inventory.tags["created"].astype("str").fillna("").tolist()
    assert shown[0].startswith("2026-01-02 03:04:05.123456")
    assert {shown[number] for number in (1, 2, 3, 4, 5, 6)} <= {"NaT", ""}


def test_an_empty_catalog_for_credentials_may_be_in_part() -> None:
    """A registry may list what the credentials may see and nothing else: an empty list is then a gap."""

    def answer(request: Request, _: int) -> Reply:
        if "authorization" not in request.headers:
            return Reply(401, {"WWW-Authenticate": 'Basic realm="r"'})
        return Reply(headers={"Content-Type": "application/json"}, body=b'{"repositories": []}')

    with serve(answer) as server, regnb.connect(server.url, username="me", password="word", cache=False) as registry:
        inventory = registry.inventory(progress=False)
    assert not inventory.complete
    assert at(inventory.problems, "", "_catalog")["problem"] == "catalog"


def test_two_dangling_tags_are_no_siblings(real: Distribution) -> None:
    """Tags whose digest is unknown do not count as carrying the same one."""
    fill(real.url, ("app", "a", ONE), ("app", "b", ONE))
    real.blob(ONE.digest).unlink()
    real.restart()
    inventory = take(real.url)
    assert inventory.tags["siblings"].tolist() == [0, 0]
    assert inventory.sharing.tags.empty


def test_an_emptied_repository_is_a_row(real: Distribution) -> None:
    """It has the status empty, zeros, and is complete."""
    fill(real.url, ("app", "1", ONE), ("kept", "1", TWO))
    ask(real.url, lambda client: client.delete_manifest("app", ONE.digest))
    inventory = take(real.url)
    row = at(inventory.repositories, "app")
    assert (row["status"], row["tags"], row["size"], row["pull_size"], row["complete"]) == ("empty", 0, 0, 0, True)
    assert pd.isna(row["newest"])
    assert inventory.complete


def test_an_empty_registry_has_empty_frames(real: Distribution) -> None:
    """No repository at all is complete, and every frame has its columns and dtypes."""
    inventory = take(real.url)
    assert inventory.complete
    assert inventory.summary.stored == 0
    for name, frame in inventory.frames.items():
        schema = regnb.tables.columns.COLUMNS[name]
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == {
            column: dtype for column, (dtype, _) in schema.items()
        }
    assert inventory.sharing.tags.empty
    assert "0 repositories" in inventory._repr_html_()
    assert repr(inventory.tags).startswith("no rows")


def test_the_dtypes_are_those_that_are_described(real: Distribution) -> None:
    """Full frames have exactly the columns and dtypes of the description."""
    fill(real.url, *PUSHES)
    inventory = take(real.url)
    tables = {**inventory.frames, "shared_tags": inventory.sharing.tags, "shared_layers": inventory.sharing.layers}
    for name, frame in tables.items():
        assert {column: str(dtype) for column, dtype in frame.dtypes.items()} == {
            column: dtype for column, (dtype, _) in regnb.tables.columns.COLUMNS[name].items()
        }, name


SCRIPT = "<script>alert('x')</script>"


def test_hostile_texts_are_escaped_everywhere(real: Distribution, tmp_path: Path) -> None:
    """HTML, terminal escapes and formulas from a registry are shown as text and defused in CSV."""
    about = config(f"{SCRIPT}", commands=[f"RUN {SCRIPT}", "=cmd|' /C calc'!A0", "\x1b[31mred\x1b[0m\u202e"])
    what = image(
        [BASE, OWN[0], OWN[1]],
        about=about,
        layer_type=f"text/{SCRIPT}",
        artifactType=SCRIPT,
        annotations={SCRIPT: SCRIPT},
    )
    fill(real.url, ("app", "1", what), ("app", "2", image([BASE, OWN[2]], about=about)))
    inventory = take(real.url)
    shown = inventory._repr_html_() + inventory.sharing._repr_html_()
    shown += "".join(frame._repr_html_() for frame in inventory.frames.values())
    assert "<script" not in shown
    assert "&lt;script" in shown
    text = "".join(repr(frame) for frame in inventory.frames.values())
    for page in (shown, text):
        assert "\x1b" not in page
        assert "\u202e" not in page
    inventory.write(tmp_path, "csv")
    read = pd.read_csv(tmp_path / "layers.csv")
    assert "'=cmd|' /C calc'!A0" in set(read["command"])
    plain = inventory.layers["command"].astype("str").tolist()
    assert "=cmd|' /C calc'!A0" in plain, "the frame itself holds the plain value"


def test_a_formula_as_a_tag_or_message_is_defused(tmp_path: Path) -> None:
    """No cell of any CSV begins as a formula does, whatever column it stands in."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["=cmd()", "+1", "app"]})
        fake.repository("app", {"1": ONE})
        fake.json("/v2/app/tags/list", {"tags": ["=2+5", "-1", "@x", "\t=1", "1"]})
        inventory = take(fake.url)
    for path in inventory.write(tmp_path, "csv"):
        frame = pd.read_csv(path, dtype="str", keep_default_na=False)
        cells = frame.to_numpy().ravel().tolist()
        assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")], path


def test_schema_1_is_incomplete() -> None:
    """An image of schema 1 is listed as such, with a size that is a lower bound."""
    with Fake() as fake:
        data = pack({"schemaVersion": 1, "fsLayers": [{"blobSum": Digest.of(BASE)}]})
        fake.json("/v2/_catalog", {"repositories": ["old"]})
        fake.json("/v2/old/tags/list", {"tags": ["1"]})
        fake.routes["/v2/old/manifests/1"] = (
            200, {"Content-Type": SCHEMA1_SIGNED, "Docker-Content-Digest": Digest.of(b"x")}, data,
        )  # fmt: skip
        inventory = take(fake.url)
    tag = at(inventory.tags, "old", "1")
    assert (tag["kind"], tag["complete"], tag["size"]) == ("schema1", False, len(data))
    assert not inventory.complete
    assert at(inventory.problems, "old")["problem"] == "schema1"


def test_foreign_layers_are_in_no_total() -> None:
    """A layer that is stored elsewhere is a row of its own kind and counts in no sum."""
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    what = image([BASE], layer_type=foreign)
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["windows"]})
        fake.repository("windows", {"1": what})
        inventory = take(fake.url)
    assert at(inventory.blobs, Digest.of(BASE))["kind"] == "foreign layer"
    stored = what.size - len(BASE)
    assert inventory.summary.stored == stored
    assert at(inventory.tags, "windows", "1")["size"] == stored
    assert at(inventory.repositories, "windows")["size"] == stored


def test_a_signature_by_tag_names_its_subject(real: Distribution) -> None:
    """Cosign's tags and the fallback tags are tied to the image they speak about."""
    signature = image([b"signed"], layer_type="application/vnd.dev.cosign.simplesigning.v1+json")
    listing = json.loads(index([(signature, "")]).data)
    listing["manifests"][0]["artifactType"] = "application/vnd.dev.cosign.simplesigning.v1+json"
    fallback = Image(pack(listing), MULTI.media_type, children=(signature,))
    fill(
        real.url,
        ("app", "1", ONE),
        ("app", f"sha256-{ONE.digest.hex}.sig", signature),
        ("app", f"sha256-{ONE.digest.hex}", fallback),
    )
    tags = take(real.url).tags.set_index("tag")
    assert tags.loc[f"sha256-{ONE.digest.hex}.sig", "kind"] == "signature"
    assert tags.loc[f"sha256-{ONE.digest.hex}.sig", "subject"] == ONE.digest
    assert tags.loc[f"sha256-{ONE.digest.hex}", "subject"] == ONE.digest
    assert pd.isna(tags.loc["1", "subject"])


def test_frames_can_be_written_and_read_back(real: Distribution, tmp_path: Path) -> None:
    """Parquet gives back every value of every frame; CSV and JSON lines have every row."""
    fill(real.url, *PUSHES)
    inventory = take(real.url)
    tables = {**inventory.frames, "shared_tags": inventory.sharing.tags, "shared_layers": inventory.sharing.layers}
    for form in ("parquet", "csv", "jsonl"):
        paths = inventory.write(tmp_path / form, form)
        assert {path.stem for path in paths} == set(tables)
    for name, frame in tables.items():
        read = pd.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
        # A file has one schema whatever is in it: texts are texts, and no column is told to be nullable.
        read = read.astype(
            {column: dtype for column, dtype in frame.dtypes.items() if str(dtype) in ("boolean", "category", "Int64")}
        )
        pd.testing.assert_frame_equal(read, pd.DataFrame(frame), check_categorical=False)
        assert len(pd.read_csv(tmp_path / "csv" / f"{name}.csv")) == len(frame)
        lines = (tmp_path / "jsonl" / f"{name}.jsonl").read_text().splitlines()
        assert [list(json.loads(line)) for line in lines] == [list(frame.columns)] * len(frame)


def test_writing_where_nothing_can_be_written(real: Distribution, tmp_path: Path) -> None:
    """A file in the folder's place and an unknown format are one clear error each."""
    inventory = take(real.url)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        inventory.write(tmp_path / "file")
    with pytest.raises(InvalidArgument, match="xlsx"):
        inventory.write(tmp_path, "xlsx")  # type: ignore[arg-type]


def test_descriptor_sizes_are_bytes() -> None:
    """The test's own arithmetic: an image's size is the sum of its distinct parts."""
    assert ONE.size == len(ONE.data) + len(ONE.blobs[0]) + len(BASE) + len(OWN[0])
    assert descriptor("x", BASE)["size"] == len(BASE)


def test_a_condition_on_sorted_rows_is_about_these_rows() -> None:
    """A Series goes by its labels: what is reclaimed or protected are the rows it names, in whatever order."""
    old, new = (
        image([layer(number, number)], about=config(created=f"2026-01-0{number}T00:00:00Z")) for number in (1, 2)
    )
    inventory = Stored(("a", "1", old), ("a", "2", new)).inventory()
    rows = inventory.tags.sort_values("tag", ascending=False)
    assert inventory.reclaim(rows["tag"] == "1").size == inventory.reclaim("a:1").size
    assert inventory.free("1kB", protect=rows["tag"] == "1", keep=0)["tag"].to_list() == ["2"]
    with pytest.raises(InvalidArgument, match="not a mask"):
        inventory.reclaim((rows["tag"] == "1").set_axis([7, 8]))


def test_a_digest_without_a_tag_is_not_passed_over() -> None:
    """What no tag points at cannot be deleted by its tags: an error, and not 0 bytes."""
    child = image([layer(1, 1)])
    inventory = Stored(("a", "1", index([(child, "linux/amd64")]))).inventory()
    with pytest.raises(NotFound, match="no tag points at a@sha256:"):
        inventory.reclaim(f"a@{child.digest}")
    with pytest.raises(NotFound):
        inventory.free("1kB", protect=f"a@{child.digest}")


def test_fewer_than_no_tags_cannot_be_kept() -> None:
    """A negative number of tags to keep is refused."""
    with pytest.raises(InvalidArgument, match="cannot keep -1 tags"):
        Stored().inventory().free("1kB", keep=-1)


SMALL = """
import sys, regnb
with regnb.connect(sys.argv[1], cache=False) as registry:
    inventory = registry.inventory(progress=False)
loaded = [inventory.complete, "pandas" in sys.modules]
print(*loaded, len(inventory.tags), "pandas" in sys.modules)
"""


def test_pandas_waits_for_a_frame(real: Distribution) -> None:
    """Who only asks whether all was read pays for no frame, and whoever asks for one gets it."""
    fill(real.url, *PUSHES)
    words = [sys.executable, "-c", SMALL, real.url]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.split() == ["True", "False", str(len(PUSHES)), "True"]


@pytest.mark.parametrize("gap", ["", "repositories", "tags", "manifests", "referrers", "configs", "catalog", "problem"])
@pytest.mark.parametrize("how", ["failed", "denied"])
def test_it_is_complete_or_not_whether_or_not_its_frames_are_made(gap: str, how: str) -> None:
    """What is not known makes it incomplete before any frame is made, as it does afterwards."""
    records = Records("localhost:5000", datetime.now(UTC))
    if gap == "catalog":
        records.coverage.catalog = "incomplete"
    elif gap == "problem":
        records.problems.append(Problem("a", "1", "mismatch", "it is another one"))
    elif gap:
        setattr(getattr(records.coverage, gap), how, 1)
    inventory = Inventory.of(records)
    before = inventory.complete
    assert len(inventory.frames) == len(INVENTORY)
    assert before == inventory.complete == (gap in ("", "configs"))


def test_an_inventory_is_one_whoever_asks_first() -> None:
    """Threads that ask at once get the same frames, and a pickled inventory has them, too."""
    inventory = Inventory.of(Records("localhost:5000", datetime.now(UTC), repositories={"a": "empty"}))
    copied = pickle.loads(pickle.dumps(inventory))  # noqa: S301 -- its own
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: getattr(inventory, name), ["repositories", "tags"] * 4))
    assert all(one is inventory.frames[name] for one, name in zip(found, ["repositories", "tags"] * 4, strict=True))
    pd.testing.assert_frame_equal(copied.repositories, inventory.repositories)
    assert {*INVENTORY} <= {*dir(copied)}
